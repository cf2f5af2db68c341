//! `starling init`.

use super::settings::FileFlags;
use super::{Failure, genesis::write_new, output};
use crate::config::{ConfigError, Effective, Origin, Values, read_genesis, template};
use crate::keyfile;
use crate::storage::DataDir;
use clap::Args;
use serde::Serialize;
use starling_protocol::genesis::Genesis;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  starling init --genesis genesis.toml
  starling init --network testnet.toml --bootnodes /ip4/192.0.2.1/tcp/26500/p2p/12D3KooW…
  starling init --genesis genesis.toml --datadir /srv/starling --json

The genesis is copied into the data directory; what other flags say is written into its config.toml. Running it again \
changes nothing that is there already.")]
pub(super) struct InitArgs {
    #[command(flatten)]
    settings: FileFlags,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Made {
    datadir: PathBuf,
    network_name: String,
    network_id: String,
    peer_id: String,
    account: String,
    /// Files that were made; the others were there already.
    made: Vec<PathBuf>,
    kept: Vec<PathBuf>,
}

impl InitArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let values = self.settings.resolve()?;
        let genesis = read_genesis(values.path("genesis")).map_err(Failure::usage)?;
        let path = values.path("datadir").to_owned();
        let config = DataDir::config_file(&path);
        if config.exists() {
            nothing_to_write(&values, &config)?;
        }
        let files = [DataDir::genesis_file(&path), config.clone()].into_iter();
        let files = files.chain(["keys.node", "keys.account"].map(|key| values.path(key).to_owned()));
        let (kept, made): (Vec<PathBuf>, Vec<PathBuf>) = files.partition(|file| file.exists());
        let _lock = DataDir::create(&path).map_err(Failure::runtime)?;
        place_genesis(&path, &genesis)?;
        if !config.exists() {
            write_new(&config, &template(&values))?;
        }
        let (node, _) = keyfile::read_or_create(values.path("keys.node")).map_err(Failure::usage)?;
        let (account, _) = keyfile::read_or_create(values.path("keys.account")).map_err(Failure::usage)?;
        let made = Made {
            datadir: path,
            network_name: genesis.name().to_owned(),
            network_id: genesis.network_id().to_string(),
            peer_id: keyfile::libp2p_keypair(&node).public().to_peer_id().to_base58(),
            account: account.public_key().to_string(),
            made,
            kept,
        };
        output::print_as(self.json, &made, || made.text())
    }
}

impl Made {
    fn text(&self) -> String {
        let names = |files: &[PathBuf]| {
            let name = |file: &PathBuf| file.strip_prefix(&self.datadir).unwrap_or(file).display().to_string();
            files.iter().map(name).collect::<Vec<_>>().join(", ")
        };
        let mut rows = vec![
            ("data directory", self.datadir.display().to_string()),
            ("network", format!("{} ({})", self.network_name, self.network_id)),
            ("peer id", self.peer_id.clone()),
            ("account", self.account.clone()),
        ];
        if !self.made.is_empty() {
            rows.push(("made", names(&self.made)));
        }
        if !self.kept.is_empty() {
            rows.push(("was there", format!("{}; nothing of it was changed", names(&self.kept))));
        }
        rows.push(("next", format!("starling run --datadir {}", self.datadir.display())));
        output::fields(&rows)
    }
}

/// Refuses flags that would have to change a file that is there.
fn nothing_to_write(values: &Values, config: &Path) -> Result<(), Failure> {
    let beside = ["datadir", "instance", "genesis"];
    let given = |entry: &&Effective| entry.origin == Origin::Flag && !beside.contains(&entry.setting.key);
    match values.all().iter().find(given) {
        None => Ok(()),
        Some(entry) => Err(Failure::Usage(format!(
            "{} exists already, and init changes nothing that is there; write `{}` into it, or give --{} to `starling run`",
            config.display(),
            entry.setting.key,
            entry.setting.flag
        ))),
    }
}

fn place_genesis(datadir: &Path, genesis: &Genesis) -> Result<(), Failure> {
    let path = DataDir::genesis_file(datadir);
    match read_genesis(&path) {
        Ok(present) if present == *genesis => Ok(()),
        Ok(present) => Err(Failure::Usage(format!(
            "genesis does not match the data directory: {} is of network {} ({}), not of {} ({}); \
             give another --datadir",
            path.display(),
            present.name(),
            present.network_id(),
            genesis.name(),
            genesis.network_id(),
        ))),
        Err(ConfigError::NoGenesis(_)) => write_new(&path, &genesis.to_toml()),
        Err(error) => Err(Failure::usage(error)),
    }
}
