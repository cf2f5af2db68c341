//! `starling doctor`: what is wrong with a node's surroundings, its files or the node itself, and how to mend it.
//!
//! # Promises
//! - It works whether the node runs or not: what the running node holds (ports, database) is not touched then, and what only
//!   a running node can tell is left out otherwise.
//! - It sends nothing anywhere but to the node's own RPC. In particular it asks no time server.
//! - It changes nothing: it writes one file into the data directory, to see how long that takes, and removes it.
//! - Every line that is not `ok` says what is wrong and what to do. Exit code 0 unless something failed; warnings do not count.
//!
//! `starling config check` says more about the configuration, `starling db check` reads the whole database.

mod files;
mod host;
mod node;

use super::output::{self, Screen, Style, format};
use super::{Failure, NodeArgs, block_on};
use crate::config::Values;
use crate::storage::{Addresses, DataDir};
use clap::Args;
use serde::Serialize;
use starling_protocol::genesis::Genesis;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  starling doctor
  starling doctor --datadir /srv/starling --json
  starling doctor --rpc 127.0.0.1:26501    # the node alone, not the files and the host

Exit code 0 if nothing failed, 1 otherwise; warnings do not count.")]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    node: NodeArgs,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    /// What was found.
    what: String,
    /// What to do; nothing when it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but not for ever or not well.
    Warn,
    /// It does not work.
    Fail,
}

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, what: what.into(), remedy: None }
    }

    fn warn(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, what: what.into(), remedy: Some(remedy.into()) }
    }

    fn fail(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, what: what.into(), remedy: Some(remedy.into()) }
    }

    /// A failure whose message says what to do after a semicolon, as the messages of this program do.
    fn failed(check: &'static str, error: impl std::fmt::Display) -> Self {
        let text = error.to_string();
        match text.rsplit_once("; ") {
            Some((what, remedy)) => Self::fail(check, what, remedy),
            None => Self::fail(check, text, "correct it, and run `starling doctor` again"),
        }
    }
}

/// What the checks know of the node that is meant.
#[derive(Debug)]
struct Patient {
    datadir: PathBuf,
    values: Values,
    genesis: Option<Genesis>,
    /// Whether a process holds the data directory.
    locked: bool,
    /// Where the node that holds it says that it can be reached.
    addresses: Option<Addresses>,
}

impl DoctorArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let findings = match &self.node.rpc {
            Some(_) => block_on(node::check(&self.node, None))?,
            None => self.check_all()?,
        };
        output::print_as(self.node.json, &findings, || text(&findings, &Screen::stdout()))?;
        let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn check_all(&self) -> Result<Vec<Finding>, Failure> {
        let datadir = self.node.place.datadir()?;
        let mut findings = Vec::new();
        let (values, problems) = match self.node.place.layers().resolve(crate::storage::default_path()) {
            Ok(resolved) => resolved,
            Err(error) => {
                findings.push(Finding::failed("config", error));
                return Ok(findings);
            }
        };
        let (locked, addresses) = files::holder(&datadir);
        let genesis = crate::config::read_genesis(values.path("genesis")).ok();
        let patient = Patient { datadir, values, genesis, locked, addresses };
        findings.extend(files::config(&patient, &problems));
        findings.extend(files::genesis(&patient));
        findings.extend(files::keys(&patient));
        findings.extend(files::database(&patient));
        findings.extend(host::disk(&patient));
        findings.extend(host::file_limit(&patient));
        findings.extend(host::ports(&patient));
        findings.extend(host::clock(&patient));
        match (&patient.addresses, patient.locked) {
            (Some(_), true) => findings.extend(block_on(node::check(&self.node, Some(&patient)))?),
            (None, true) => findings.push(Finding::warn(
                "node",
                format!("a process uses {}, but has not said where it can be reached", patient.datadir.display()),
                "it may be starting or stopping; look at its log if this stays",
            )),
            (_, false) => findings.push(Finding::ok("node", "not running; `starling run` starts it")),
        }
        Ok(findings)
    }
}

impl Patient {
    fn store_file(&self) -> PathBuf {
        DataDir::store_file(&self.datadir)
    }
}

/// A line for each finding, with what to do below it.
fn text(findings: &[Finding], screen: &Screen) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let indent = 4 + 2 + width + 2;
    let mut text = String::new();
    for finding in findings {
        let (label, style) = match finding.verdict {
            Verdict::Ok => ("ok", Style::Good),
            Verdict::Warn => ("warn", Style::Warn),
            Verdict::Fail => ("FAIL", Style::Bad),
        };
        text.push_str(&screen.paint(style, &format!("{label:<4}")));
        text.push_str(&format!("  {:<width$}  {}\n", finding.check, screen.wrap(indent, &finding.what)));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("{:indent$}{}\n", "", screen.wrap(indent, &format!("-> {remedy}"))));
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count() as u64;
    match (count(Verdict::Fail), count(Verdict::Warn)) {
        (0, 0) => text.push_str("nothing is wrong\n"),
        (fails, warns) => {
            let (fails, warns) = (format::counted(fails, "failure"), format::counted(warns, "warning"));
            text.push_str(&format!("{fails}, {warns}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests;
