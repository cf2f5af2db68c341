//! `starling run`: a node in the foreground, until something asks it to stop.
//!
//! SIGINT, SIGTERM, SIGHUP, the end of standard input (with `--exit-on-stdin-close`) and the node itself can end it, cleanly and with
//! exit code 0; see [`super::stop`].

use super::settings::SettingFlags;
use super::{Failure, output, stop};
use crate::config::{Origin, Settings, Values, preflight};
use crate::net::network::NetworkError;
use crate::notify::{Notifier, WATCHDOG_MIN};
use crate::rpc::RpcError;
use crate::service::{Service, StartError};
use crate::storage::{Addresses, DataDir, StoreError};
use crate::{bounded, files, telemetry};
use clap::Args;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  starling run
      with the data directory that `starling init` made
  starling run --datadir n1 --genesis genesis.toml --listen /ip4/127.0.0.1/tcp/0 --rpc 127.0.0.1:0
  starling run --bootnodes /ip4/192.0.2.1/tcp/26500/p2p/12D3KooW… --producer-key producer.pem
  starling run --instance 1 --genesis genesis.toml --bootnodes /ip4/127.0.0.1/tcp/26500/p2p/12D3KooW…
      a second node on this host, with ports and a data directory of its own

The addresses that were bound are printed, and written to DATADIR/addresses.json.
Ctrl-C, SIGTERM or SIGHUP stops the node cleanly; a second one at once. Exit codes: 0 stopped cleanly, 1 it failed or what \
it needs is in use, 2 a setting is wrong, 130 or 143 stopped at once. Flags go before environment variables, those before \
DATADIR/config.toml. Every flag has a variable: STARLING_TARGET_PEERS for --target-peers.
`starling config show --origin` says what holds and why.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    settings: SettingFlags,
}

impl RunArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let values = self.settings.resolve()?;
        // What is wrong is said before anything is made; `from_values` makes keys.
        let wrong: Vec<String> = preflight(&values).iter().map(ToString::to_string).collect();
        if !wrong.is_empty() {
            return Err(Failure::configuration(&wrong));
        }
        let datadir = values.path("datadir").to_owned();
        // Made here so that keys have a place; the service locks it again, for as long as the node runs.
        let lock = DataDir::create(&datadir).map_err(Failure::runtime)?;
        let kept = keep_genesis(&values, &datadir);
        drop(lock);
        let settings = Settings::from_values(&values).map_err(Failure::usage)?;
        telemetry::init(&settings.log).map_err(Failure::usage)?;
        let path = DataDir::genesis_file(&datadir);
        match kept {
            Ok(true) => tracing::info!(path = %path.display(), "copied the genesis; later runs need no --genesis"),
            Ok(false) => {}
            Err(error) => tracing::warn!(
                path = %path.display(), %error, "cannot copy the genesis; later runs need --genesis again"
            ),
        }

        let watched = stop::watch(values.bool("exit_on_stdin_close"))?;
        let runtime = runtime(settings.runtime_threads).map_err(Failure::runtime)?;
        let outcome = runtime.block_on(run_node(settings, &datadir, watched));
        // Everything of ours has ended; a name lookup of libp2p may still hang in a thread.
        runtime.shutdown_timeout(Duration::from_millis(200));
        telemetry::flush(stop::FLUSH_DEADLINE);
        outcome
    }
}

/// Copies a genesis that a flag or a variable names into a data directory that has none, as `starling init` does, so that
/// the node runs and is examined without the flag later. Tells whether it did.
fn keep_genesis(values: &Values, datadir: &Path) -> std::io::Result<bool> {
    let (from, own) = (values.path("genesis"), DataDir::genesis_file(datadir));
    if !matches!(values.get("genesis").origin, Origin::Flag | Origin::Variable) || own.exists() {
        return Ok(false);
    }
    files::replace(&own, &bounded::read(from, bounded::TEXT_BYTES_MAX)?, 0o644)?;
    Ok(true)
}

/// With one thread everything runs on the caller's, without any worker.
fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = if threads > 1 {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        // The event loop has the caller's thread.
        builder.worker_threads(threads - 1);
        builder
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder.enable_all().build()
}

async fn run_node(settings: Settings, datadir: &Path, watched: stop::Watched) -> Result<ExitCode, Failure> {
    let stop::Watched { mut stopped, asked } = watched;
    let network = format!("{} ({})", settings.genesis.name(), settings.genesis.network_id());
    let notifier = Notifier::from_env().unwrap_or_else(|error| {
        tracing::warn!("{error}");
        Notifier::default()
    });
    if let Some(interval) = notifier.watchdog().filter(|interval| *interval < WATCHDOG_MIN) {
        tracing::warn!(
            ?interval,
            "the service manager wants signs of life faster than once a second; set WatchdogSec=30"
        );
    }
    let service = tokio::select! {
        started = Box::pin(Service::start(settings, notifier)) => started.map_err(start_failure)?,
        _ = &mut stopped => {
            tracing::info!("stopped while starting");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let addresses = Addresses {
        peer_id: service.peer_id().to_base58(),
        listen: service.listening().iter().map(ToString::to_string).collect(),
        rpc: service.rpc_address(),
        admin_socket: service.admin_socket().map(Path::to_owned),
        pid: std::process::id(),
    };
    announce(&network, &addresses)?;
    if let Err(error) = addresses.write(datadir) {
        // On a full disk, too, a node that relays is of more use than none.
        let path = DataDir::addresses_file(datadir);
        tracing::error!(
            path = %path.display(),
            %error,
            "where the node can be reached could not be written: until it is restarted, commands find it only with --rpc"
        );
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), rpc = %addresses.rpc, peer_id = addresses.peer_id, "the node runs");
    if !addresses.rpc.ip().is_loopback() {
        tracing::warn!(
            rpc = %addresses.rpc,
            "whoever reaches the RPC can sign with the account key; let a firewall say who can, or give a loopback address"
        );
    }

    let service = service.with_stop_watched(asked);
    Box::pin(service.run(stopped)).await;
    addresses.remove(datadir);
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn announce(network: &str, addresses: &Addresses) -> Result<(), Failure> {
    let mut rows = vec![("network", network.to_owned()), ("peer id", addresses.peer_id.clone())];
    rows.extend(addresses.listen.iter().map(|address| ("listening", address.clone())));
    rows.push(("rpc", addresses.rpc.to_string()));
    output::print(&output::fields(&rows)).map(|_printed| ())
}

/// A wrong setting has code 2. What another process has at present, and trouble with the machine, has code 1: it may clear
/// by itself. [`preflight`] finds most of what is wrong before; this is what can be wrong by then.
fn start_failure(error: StartError) -> Failure {
    use std::io::ErrorKind::{AddrNotAvailable, IsADirectory, NotADirectory, NotFound, PermissionDenied};
    let is_wrong = match &error {
        StartError::Node(_) | StartError::Retention(_) => true,
        StartError::Store(error) => {
            matches!(error, StoreError::OtherNetwork { .. } | StoreError::OtherSchema { .. })
        }
        StartError::Network(error) => matches!(error, NetworkError::EmulatedQuic { .. } | NetworkError::Identity(_)),
        StartError::Trace { source, .. } | StartError::Rpc(RpcError::Listen { source, .. }) => {
            matches!(source.kind(), AddrNotAvailable | IsADirectory | NotADirectory | NotFound | PermissionDenied)
        }
        _ => false,
    };
    if is_wrong { Failure::usage(error) } else { Failure::runtime(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FileLayer, Layers, table};

    #[test]
    fn a_genesis_that_a_flag_names_is_kept_where_there_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let (given, own) = (dir.path().join("given.toml"), dir.path().join("genesis.toml"));
        std::fs::write(&given, "first").expect("written");
        let flag = (table::setting("genesis"), given.display().to_string());
        let named = Layers { flags: vec![flag], variables: Vec::new() };
        let (named, _) = named.resolve_over(&FileLayer::default(), dir.path());
        let (unnamed, _) = Layers::default().resolve_over(&FileLayer::default(), dir.path());
        assert!(!keep_genesis(&unnamed, dir.path()).expect("nothing to do"));
        assert!(keep_genesis(&named, dir.path()).expect("copied"));
        std::fs::write(&given, "second").expect("written");
        assert!(!keep_genesis(&named, dir.path()).expect("nothing to do"));
        assert_eq!(std::fs::read_to_string(&own).expect("there"), "first", "what is there is not replaced");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 2, "nothing unfinished is left");
    }
}
