//! `starling run`: a node in the foreground, until something asks it to stop.
//!
//! SIGINT, SIGTERM, the end of standard input (with `--exit-on-stdin-close`) and the node itself can end it. The first
//! request stops it cleanly, with exit code 0; a second signal ends the process at once; and so does the clock
//! [`STOP_DEADLINE`] after the first request, because whoever asked is waiting.

use super::{Failure, output};
use crate::config::{
    ConfigFile, KeysSection, LogSection, NetworkSection, RpcSection, RunFlags, RuntimeSection, Settings,
};
use crate::service::{Service, StartError};
use crate::storage::{Addresses, DataDir, StoreError};
use crate::telemetry::{self, LogFormat};
use clap::Args;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How long a clean stop may take. What is left then (a disk that hangs) is not waited for.
const STOP_DEADLINE: Duration = Duration::from_millis(4_500);

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
Ctrl-C stops the node cleanly; a second one at once. Flags go before DATADIR/config.toml.")]
pub(super) struct RunArgs {
    /// The data directory; it is made if it does not exist. Default: $XDG_DATA_HOME/starling.
    #[arg(long, value_name = "DIR")]
    datadir: Option<PathBuf>,
    /// Number of the node on this host: moves the default ports by 10 and names another default data directory.
    #[arg(long, value_name = "N", default_value_t = 0)]
    instance: u16,
    /// The network's genesis. Default: genesis.toml in the data directory.
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Where to listen for peers, separated by commas; port 0 takes any free one. Default: port 26500, TCP and QUIC.
    #[arg(long, value_name = "MULTIADDR", value_delimiter = ',')]
    listen: Option<Vec<String>>,
    /// Where to serve JSON-RPC; port 0 takes any free one. Default: 127.0.0.1:26501.
    #[arg(long, value_name = "IP:PORT")]
    rpc: Option<SocketAddr>,
    /// A host name by which the RPC may be called, besides this machine's addresses.
    #[arg(long = "rpc-allow-host", value_name = "NAME", value_delimiter = ',')]
    rpc_allow_hosts: Option<Vec<String>>,
    /// A web page that may call the RPC, such as https://wallet.example.
    #[arg(long = "rpc-allow-origin", value_name = "ORIGIN", value_delimiter = ',')]
    rpc_allow_origins: Option<Vec<String>>,
    /// Peers to find others by, separated by commas; each ends in /p2p/PEER_ID.
    #[arg(long, value_name = "MULTIADDR", value_delimiter = ',')]
    bootnodes: Option<Vec<String>>,
    /// Peers to stay connected with, whatever their score; written like --bootnodes.
    #[arg(long, value_name = "MULTIADDR", value_delimiter = ',')]
    trusted_peers: Option<Vec<String>>,
    /// How many peers to look for. Default: 24.
    #[arg(long, value_name = "N")]
    target_peers: Option<usize>,
    /// How many peers to allow. Default: 96.
    #[arg(long, value_name = "N")]
    max_peers: Option<usize>,
    /// Send own messages to all peers instead of the mesh alone: faster, for more bytes.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    flood_publish: Option<bool>,
    /// Threads for connections, the event loop and the RPC; more than one carries more than one core can. [default: 1]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// The secret key to make blocks with; the genesis must name its public half.
    #[arg(long, value_name = "FILE")]
    producer_key: Option<PathBuf>,
    /// The secret key to sign `tx_publish` with. Default: account.pem in the data directory.
    #[arg(long, value_name = "FILE")]
    account_key: Option<PathBuf>,
    /// Write when each message arrived to this file, for measuring.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Delay and throttle TCP connections as this file says, for testing.
    #[arg(long, value_name = "FILE")]
    link_emulation: Option<PathBuf>,
    /// Stop when standard input ends: whoever started the node has gone.
    #[arg(long)]
    exit_on_stdin_close: bool,
    /// How log lines are written. Default: text.
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Which log lines are written, such as "info" or "warn,starling_node=debug".
    #[arg(long, value_name = "FILTER")]
    log_filter: Option<String>,
}

impl RunArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let datadir = super::datadir(self.datadir.clone(), self.instance)?;
        let exit_on_stdin_close = self.exit_on_stdin_close;
        let (flags, run) = self.settings();
        // Made here so that keys have a place; the service locks it again, for as long as the node runs.
        drop(DataDir::create(&datadir).map_err(Failure::runtime)?);
        let settings = Settings::load(&datadir, flags, &run).map_err(Failure::usage)?;
        telemetry::init(settings.log_format, &settings.log_filter).map_err(Failure::usage)?;

        let runtime = runtime(settings.runtime_threads).map_err(Failure::runtime)?;
        let outcome = runtime.block_on(run_node(settings, &datadir, exit_on_stdin_close));
        // Everything of ours has ended; a name lookup of libp2p may still hang in a thread.
        runtime.shutdown_timeout(Duration::from_millis(200));
        outcome
    }

    fn settings(self) -> (ConfigFile, RunFlags) {
        let flags = ConfigFile {
            genesis: self.genesis,
            network: NetworkSection {
                listen: self.listen,
                bootnodes: self.bootnodes,
                trusted_peers: self.trusted_peers,
                target_peers: self.target_peers,
                max_peers: self.max_peers,
                flood_publish: self.flood_publish,
            },
            keys: KeysSection { node: None, account: self.account_key, producer: self.producer_key },
            rpc: RpcSection {
                listen: self.rpc,
                allow_hosts: self.rpc_allow_hosts,
                allow_origins: self.rpc_allow_origins,
            },
            runtime: RuntimeSection { threads: self.threads },
            log: LogSection { format: self.log_format, filter: self.log_filter },
        };
        (flags, RunFlags { instance: self.instance, trace: self.trace, link_emulation: self.link_emulation })
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

    let (stop, stopped) = oneshot::channel();
    let watching = tokio::spawn(async move {
        let reason = requests.next().await;
        tracing::info!(reason, "stopping");
        end_after_deadline();
        let _ended_already = stop.send(());
        let reason = requests.next_signal().await;
        tracing::warn!(reason, "stopping at once");
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
