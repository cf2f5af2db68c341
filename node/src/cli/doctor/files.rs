//! The data directory and what belongs to it.

use super::{Finding, Patient};
use crate::config::{ConfigError, Files, Problem};
use crate::keyfile::{self, KeyFileError};
use crate::storage::{Addresses, DataDir, DataDirError, Store};
use std::path::Path;

/// Whether a process holds the data directory, and where it can be reached.
pub(super) fn holder(datadir: &Path) -> (bool, Option<Addresses>) {
    // Asking for the lock of a directory that is there changes nothing in it but the number in the lock file.
    let locked = matches!(DataDir::open(datadir), Err(DataDirError::InUse { .. }));
    let text = std::fs::read_to_string(DataDir::addresses_file(datadir)).ok();
    let addresses = text.and_then(|text| serde_json::from_str(&text).ok());
    (locked, addresses)
}

pub(super) fn config(patient: &Patient, problems: &[Problem]) -> Vec<Finding> {
    let path = DataDir::config_file(&patient.datadir);
    if problems.is_empty() {
        let source = if path.exists() { path.display().to_string() } else { "defaults alone".into() };
        return vec![Finding::ok("config", source)];
    }
    problems.iter().map(|problem| Finding::failed("config", problem)).collect()
}

pub(super) fn genesis(patient: &Patient) -> Vec<Finding> {
    let Patient { genesis, values, .. } = patient;
    if let Err(error) = Files::read(values) {
        return vec![match error {
            ConfigError::NoGenesis(path) => Finding::fail(
                "genesis",
                format!("there is no genesis file {}", path.display()),
                "get the network's file and run `starling init --genesis FILE`, or make a network: `starling genesis new`",
            ),
            other => Finding::failed("genesis", other),
        }];
    }
    let Some(genesis) = genesis else { return Vec::new() };
    let network = format!("network {} ({})", genesis.name(), genesis.network_id());
    vec![Finding::ok("genesis", network)]
}

pub(super) fn keys(patient: &Patient) -> Vec<Finding> {
    let values = &patient.values;
    let mut findings = Vec::new();
    for (what, key) in [("node key", "keys.node"), ("account key", "keys.account")] {
        let path = values.path(key);
        match keyfile::read(path) {
            Ok(_) => findings.push(Finding::ok("keys", format!("{what} {}", path.display()))),
            Err(KeyFileError::Missing(_)) => {
                findings.push(Finding::ok("keys", format!("no {what} yet; `starling run` makes {}", path.display())));
            }
            Err(error) => findings.push(Finding::failed("keys", error)),
        }
    }
    // A producer key that does not fit is a finding about the genesis already.
    if let (Some(path), Some(genesis)) = (values.optional_path("keys.producer"), &patient.genesis)
        && let Ok(key) = keyfile::read(path)
        && genesis.producers().contains(&key.public_key())
    {
        findings.push(Finding::ok("keys", format!("producer key {}, named in the genesis", path.display())));
    }
    findings
}

/// Whether the database opens, and no more: reading all of it takes minutes when the chain is long, and is what `starling db
/// check` does. A running node has opened it, and tells itself when it fails.
pub(super) fn database(patient: &Patient) -> Vec<Finding> {
    let path = patient.store_file();
    if patient.locked || !patient.datadir.is_dir() {
        return Vec::new();
    }
    if !path.exists() {
        return vec![Finding::ok("database", "none yet; the first run makes it")];
    }
    let Some(genesis) = &patient.genesis else { return Vec::new() };
    let opened = DataDir::open(&patient.datadir)
        .map_err(|error| Finding::failed("database", error))
        .and_then(|_lock| Store::open(&path, genesis.network_id()).map_err(|error| Finding::failed("database", error)));
    vec![match opened {
        Ok(_store) => Finding::ok("database", format!("{} opens; `starling db check` reads all of it", path.display())),
        Err(finding) => finding,
    }]
}
