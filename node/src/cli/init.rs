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

The genesis is copied into the data directory; what other flags say is written into its config.toml. Running it again
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
        };
        output::print_as(self.json, &made, || {
            output::fields(&[
                ("data directory", made.datadir.display().to_string()),
                ("network", format!("{} ({})", made.network_name, made.network_id)),
                ("peer id", made.peer_id.clone()),
                ("account", made.account.clone()),
            ])
        })
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
