//! `starling run`: a node in the foreground, until something asks it to stop.
//!
//! SIGINT, SIGTERM, the end of standard input (with `--exit-on-stdin-close`) and the node itself can end it, cleanly and with
//! exit code 0; see [`super::stop`].

use super::settings::SettingFlags;
use super::{Failure, output, stop};
use crate::config::{Files, Settings};
use crate::notify::{Notifier, WATCHDOG_MIN};
use crate::service::{Service, StartError};
use crate::storage::{Addresses, DataDir, StoreError};
use crate::telemetry;
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
Ctrl-C stops the node cleanly; a second one at once. Flags go before environment variables, those before
DATADIR/config.toml. Every flag has a variable: STARLING_TARGET_PEERS for --target-peers.
`starling config show --origin` says what holds and why.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    settings: SettingFlags,
}

impl RunArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let values = self.settings.resolve()?;
        // What is wrong with files is said before anything is made; `from_values` makes keys.
        Files::read(&values).map_err(Failure::usage)?;
        let datadir = values.path("datadir").to_owned();
        // Made here so that keys have a place; the service locks it again, for as long as the node runs.
        drop(DataDir::create(&datadir).map_err(Failure::runtime)?);
        let settings = Settings::from_values(&values).map_err(Failure::usage)?;
        telemetry::init(&settings.log).map_err(Failure::usage)?;

        let watched = stop::watch(values.bool("exit_on_stdin_close"))?;
        let runtime = runtime(settings.runtime_threads).map_err(Failure::runtime)?;
        let outcome = runtime.block_on(run_node(settings, &datadir, watched));
        // Everything of ours has ended; a name lookup of libp2p may still hang in a thread.
        runtime.shutdown_timeout(Duration::from_millis(200));
        telemetry::flush(stop::FLUSH_DEADLINE);
        outcome
    }
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
    let service = tokio::select! {
        started = Box::pin(Service::start(settings)) => started.map_err(start_failure)?,
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
    let service = service.with_notifier(notifier).with_stop_watched(asked);
    Box::pin(service.run(stopped)).await;
    Addresses::remove(datadir);
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn announce(network: &str, addresses: &Addresses) -> Result<(), Failure> {
    let mut rows = vec![("network", network.to_owned()), ("peer id", addresses.peer_id.clone())];
    rows.extend(addresses.listen.iter().map(|address| ("listening", address.clone())));
    rows.push(("rpc", addresses.rpc.to_string()));
    output::print(&output::fields(&rows)).map(|_printed| ())
}

/// A wrong setting has code 2, trouble with the machine code 1.
fn start_failure(error: StartError) -> Failure {
    match error {
        StartError::Node(_) | StartError::Store(StoreError::OtherNetwork { .. } | StoreError::OtherSchema { .. }) => {
            Failure::usage(error)
        }
        other => Failure::runtime(other),
    }
}
