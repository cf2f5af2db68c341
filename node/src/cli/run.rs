//! `starling run`: a node in the foreground, until something asks it to stop.
//!
//! SIGINT, SIGTERM, the end of standard input (with `--exit-on-stdin-close`) and the node itself can end it. The first
//! request stops it cleanly, with exit code 0; a second signal ends the process at once; and so does the clock
//! [`STOP_DEADLINE`] after the first request, because whoever asked is waiting.

use super::settings::SettingFlags;
use super::{Failure, output};
use crate::config::{Files, Settings};
use crate::notify::{Notifier, WATCHDOG_MIN};
use crate::service::{Service, StartError};
use crate::storage::{Addresses, DataDir, StoreError};
use crate::telemetry;
use clap::Args;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How long a clean stop may take. What is left then (a disk that hangs) is not waited for.
const STOP_DEADLINE: Duration = Duration::from_millis(4_500);

/// How long the end of the process waits for the last log lines.
const FLUSH_DEADLINE: Duration = Duration::from_millis(300);

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

        let runtime = runtime(settings.runtime_threads).map_err(Failure::runtime)?;
        let outcome = runtime.block_on(run_node(settings, &datadir, values.bool("exit_on_stdin_close")));
        // Everything of ours has ended; a name lookup of libp2p may still hang in a thread.
        runtime.shutdown_timeout(Duration::from_millis(200));
        telemetry::flush(FLUSH_DEADLINE);
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

async fn run_node(settings: Settings, datadir: &Path, exit_on_stdin_close: bool) -> Result<ExitCode, Failure> {
    let mut requests = StopRequests::new(exit_on_stdin_close)?;
    let network = format!("{} ({})", settings.genesis.name(), settings.genesis.network_id());
    let service = tokio::select! {
        started = Box::pin(Service::start(settings)) => started.map_err(start_failure)?,
        reason = requests.next() => {
            tracing::info!(reason, "stopped while starting");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let addresses = Addresses {
        peer_id: service.peer_id().to_base58(),
        listen: service.listening().iter().map(ToString::to_string).collect(),
        rpc: service.rpc_address(),
        pid: std::process::id(),
    };
    addresses.write(datadir).map_err(|error| {
        let path = DataDir::addresses_file(datadir);
        Failure::Runtime(format!("cannot write {}: {error}", path.display()))
    })?;
    announce(&network, &addresses)?;
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
    let service = service.with_notifier(notifier);
    let (stop, stopped) = oneshot::channel();
    let watching = tokio::spawn(async move {
        let reason = requests.next().await;
        tracing::info!(reason, "stopping");
        end_after_deadline();
        let _ended_already = stop.send(());
        let reason = requests.next_signal().await;
        tracing::warn!(reason, "stopping at once");
        telemetry::flush(FLUSH_DEADLINE);
        std::process::exit(130);
    });
    Box::pin(service.run(stopped)).await;
    watching.abort();
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

/// A thread of its own, so that it works also when the async runtime hangs.
fn end_after_deadline() {
    let started = std::thread::Builder::new().name("stop-deadline".into()).spawn(|| {
        std::thread::sleep(STOP_DEADLINE);
        output::error("the node did not stop in time; what it was doing is lost, what it had acknowledged is not");
        telemetry::flush(FLUSH_DEADLINE);
        std::process::exit(1);
    });
    if let Err(error) = started {
        tracing::warn!(%error, "the deadline for stopping is not watched");
    }
}

/// What can ask the node to stop.
struct StopRequests {
    interrupt: Signal,
    terminate: Signal,
    stdin_closed: Option<oneshot::Receiver<()>>,
}

impl StopRequests {
    fn new(exit_on_stdin_close: bool) -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::runtime)?,
            terminate: signal(SignalKind::terminate()).map_err(Failure::runtime)?,
            stdin_closed: exit_on_stdin_close.then(watch_stdin).transpose()?,
        })
    }

    async fn next(&mut self) -> &'static str {
        let Self { interrupt, terminate, stdin_closed } = self;
        let closed = async {
            match stdin_closed {
                Some(closed) => drop(closed.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            () = closed => "standard input was closed",
        }
    }

    async fn next_signal(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Reads standard input until it ends. A thread, because such a read cannot be cancelled, and the end of the process
/// should not wait for it.
fn watch_stdin() -> Result<oneshot::Receiver<()>, Failure> {
    let (closed, receiver) = oneshot::channel();
    let watch = move || {
        let mut buffer = [0; 1_024];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut buffer).is_ok_and(|read| read > 0) {}
        let _nobody_waits = closed.send(());
    };
    std::thread::Builder::new().name("stdin".into()).spawn(watch).map_err(Failure::runtime)?;
    Ok(receiver)
}
