//! The node processes: starting them, watching them, following their traces and stopping them.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use starling_node::rpc::client::RpcClient;
use starling_node::storage::DataDir;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep};

use super::plan::{Plan, PlannedNode};
use super::{ClusterError, Options, file_error, host};
use crate::measure::Recorder;
use crate::measure::trace::{TraceError, TraceReader};

/// The hidden subcommand under which this program's own executable is a node.
pub(super) const NODE_SUBCOMMAND: &str = "node-process";
/// How long nodes may take to end by themselves before they are killed.
pub(super) const STOP_DEADLINE: Duration = Duration::from_secs(6);
/// How long a single node may take from its spawn until it says where it listens, on a busy host.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How often files and processes are looked at while waiting.
const POLL: Duration = Duration::from_millis(20);
/// Nodes that start at the same time, for each processor.
const STARTING_PER_CORE: usize = 4;
/// Nodes that the others are told of.
const BOOTNODES: usize = 2;
/// The most peers that a node can be told to allow.
const PEERS_MAX: usize = 1_000;
/// How much of a log is shown when its node died.
const LOG_END_LINES: usize = 8;

/// All node processes of a network.
#[derive(Debug)]
pub(super) struct Fleet {
    program: PathBuf,
    /// Whether the program is this one and must be told to be a node.
    own: bool,
    logs: PathBuf,
    nodes: Vec<NodeProcess>,
}

/// One node process.
#[derive(Debug)]
pub(super) struct NodeProcess {
    pub(super) name: String,
    pub(super) pid: u32,
    log: PathBuf,
    child: Child,
    /// Held open as long as this process lives: when it closes, the node ends.
    _stdin: Option<ChildStdin>,
    address_file: PathBuf,
    pub(super) addresses: Option<Addresses>,
    trace: TraceReader,
    started: Instant,
    ended: Option<ExitStatus>,
}

/// Where a node can be reached, as it says itself once it is up.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Addresses {
    pub(super) peer_id: String,
    /// Multiaddresses that end in the peer id.
    pub(super) listen: Vec<String>,
    pub(super) rpc: SocketAddr,
}

impl Fleet {
    /// A fleet without nodes.
    pub(super) fn new(options: &Options) -> Result<Self, ClusterError> {
        let own_program = || std::env::current_exe().map_err(file_error("find", "this program's own executable"));
        let program = options.node_bin.clone().map_or_else(own_program, Ok)?;
        let logs = options.out.join("logs");
        Ok(Self { program, own: options.node_bin.is_none(), logs, nodes: Vec::new() })
    }

    /// Starts every node of the plan and waits until each says where it listens. `progress` is told how many do.
    pub(super) async fn start(
        &mut self,
        plan: &Plan,
        options: &Options,
        mut progress: impl FnMut(usize),
    ) -> Result<(), ClusterError> {
        let at_once = STARTING_PER_CORE * host::cores();
        let (first, others) = plan.nodes.split_at(BOOTNODES.min(plan.nodes.len()));
        let mut waiting: VecDeque<&PlannedNode> = first.iter().collect();
        let mut bootnodes: Vec<String> = Vec::new();
        loop {
            let up = self.look_for_addresses()?;
            progress(up);
            if up == first.len() && bootnodes.is_empty() {
                let addresses = self.nodes.iter().filter_map(|node| node.addresses.as_ref());
                bootnodes = addresses.filter_map(|addresses| addresses.listen.first().cloned()).collect();
                waiting = others.iter().collect();
            }
            if up == plan.nodes.len() {
                return Ok(());
            }
            while self.nodes.len() - up < at_once {
                let Some(planned) = waiting.pop_front() else { break };
                // The second of the first two knows the first only if that is up already; the others join them.
                let known: Vec<String> = if bootnodes.is_empty() { self.listening() } else { bootnodes.clone() };
                self.spawn(planned, options, &known)?;
                if bootnodes.is_empty() {
                    break;
                }
            }
            sleep(POLL).await;
        }
    }

    /// The first address of every node that is up.
    fn listening(&self) -> Vec<String> {
        self.nodes.iter().filter_map(|node| node.addresses.as_ref()?.listen.first().cloned()).collect()
    }

    fn spawn(&mut self, planned: &PlannedNode, options: &Options, bootnodes: &[String]) -> Result<(), ClusterError> {
        let log = File::create(&planned.log).map_err(file_error("make", &planned.log))?;
        let second = log.try_clone().map_err(file_error("write", &planned.log))?;
        let mut command = Command::new(&self.program);
        if self.own {
            command.arg(NODE_SUBCOMMAND);
        }
        command.arg("run").arg("--datadir").arg(&planned.dir);
        command.arg("--listen").arg(format!("/ip4/{}/tcp/0", planned.ip));
        command.arg("--rpc").arg(format!("{}:0", planned.ip));
        command.arg("--target-peers").arg(options.target_peers.to_string());
        command.arg("--trace").arg(planned.trace()).arg("--exit-on-stdin-close");
        if !bootnodes.is_empty() {
            command.arg("--bootnodes").arg(bootnodes.join(","));
        }
        if self.nodes.len() < BOOTNODES {
            // Everybody asks these first; one that is full would leave newcomers without anyone to ask.
            let peers = options.nodes.max(options.target_peers) * 2;
            command.arg("--max-peers").arg(peers.min(PEERS_MAX).to_string());
        }
        if planned.producer_key.is_some() {
            command.arg("--producer-key").arg(planned.producer_key_file());
        }
        if options.profile.is_emulated() {
            command.arg("--link-emulation").arg(planned.links());
        }
        command.args(&options.node_args);
        command.stdin(Stdio::piped()).stdout(log).stderr(second).process_group(0).kill_on_drop(true);
        let mut child =
            command.spawn().map_err(|source| ClusterError::Spawn { program: self.program.clone(), source })?;
        self.nodes.push(NodeProcess {
            name: planned.name.clone(),
            pid: child.id().expect("a process that has not been waited for has an id"),
            log: planned.log.clone(),
            _stdin: child.stdin.take(),
            child,
            address_file: DataDir::addresses_file(&planned.dir),
            addresses: None,
            trace: TraceReader::new(&planned.trace()),
            started: Instant::now(),
            ended: None,
        });
        Ok(())
    }

    /// How many nodes say where they listen. A node that has ended instead, or takes too long, is an error.
    fn look_for_addresses(&mut self) -> Result<usize, ClusterError> {
        let mut up = 0;
        for node in &mut self.nodes {
            if node.addresses.is_none() {
                node.addresses = read_addresses(&node.address_file)?;
            }
            up += usize::from(node.addresses.is_some());
            if let Some(status) = node.ended() {
                let (name, log) = (node.name.clone(), node.log.clone());
                return Err(ClusterError::Died { name, status, log_end: log_end(&node.log), log });
            }
            if node.addresses.is_none() && node.started.elapsed() > START_DEADLINE {
                return Err(ClusterError::Deadline {
                    waited_s: START_DEADLINE.as_secs(),
                    missing: format!("node {} does not say where it listens", node.name),
                    logs: self.logs.clone(),
                });
            }
        }
        Ok(up)
    }

    /// The nodes, in the order of the plan.
    pub(super) fn nodes(&self) -> &[NodeProcess] {
        &self.nodes
    }

    /// A client for the RPC of each node that is up.
    pub(super) fn rpc_clients(&self) -> Vec<RpcClient> {
        let addresses = self.nodes.iter().filter_map(|node| node.addresses.as_ref());
        addresses.map(|at| RpcClient::new(&at.rpc.to_string()).expect("an address and a port")).collect()
    }

    /// The peer ids of all nodes; those of nodes that are not up are empty.
    pub(super) fn peer_ids(&self) -> impl Iterator<Item = String> {
        self.nodes.iter().map(|node| node.addresses.as_ref().map_or_else(String::new, |at| at.peer_id.clone()))
    }

    /// Takes in what the nodes have traced since the last call.
    pub(super) fn read_traces(&mut self, recorder: &mut Recorder) -> Result<(), TraceError> {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            node.trace.poll(|event| recorder.record(number, event))?;
        }
        Ok(())
    }

    /// The nodes that have ended, and how.
    pub(super) fn lost(&mut self) -> Vec<(usize, String)> {
        let ended = |(number, node): (usize, &mut NodeProcess)| {
            let status = node.ended()?;
            Some((number, format!("node {} ended during the run ({status}); see {}", node.name, node.log.display())))
        };
        self.nodes.iter_mut().enumerate().filter_map(ended).collect()
    }

    /// Ends all nodes, in order first and by force at last, and waits until they are gone. Returns the names of those that
    /// had to be killed.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        // Standard input stays open: a node takes its closing for a second request, which ends it at once.
        for node in &mut self.nodes {
            if node.ended().is_none() {
                node.signal(Signal::TERM);
            }
        }
        let deadline = Instant::now() + STOP_DEADLINE;
        while self.nodes.iter_mut().any(|node| node.ended().is_none()) && Instant::now() < deadline {
            sleep(POLL).await;
        }
        let mut killed = Vec::new();
        for node in &mut self.nodes {
            if node.ended().is_none() {
                killed.push(node.name.clone());
                // Only fails for a process that has just ended.
                let _already_gone = node.child.kill().await;
            }
        }
        killed
    }

    /// Whether some node's trace ends in the middle of a line.
    pub(super) fn cut_off_traces(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|node| node.trace.is_cut_off()).map(|node| &*node.name)
    }
}

impl NodeProcess {
    /// How the process ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap_or(None);
        }
        self.ended
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        // The process has not been waited for, so the id is still its own; it may have ended, and then nothing is to do.
        let _already_gone = pid.map(|pid| kill_process(pid, signal));
    }
}

fn read_addresses(path: &Path) -> Result<Option<Addresses>, ClusterError> {
    match fs::read_to_string(path) {
        Ok(text) => match serde_json::from_str(&text) {
            Ok(addresses) => Ok(Some(addresses)),
            Err(error) => Err(file_error("understand", path)(io::Error::new(io::ErrorKind::InvalidData, error))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error("read", path)(error)),
    }
}

/// The last lines of a log, indented.
fn log_end(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let end = &lines[lines.len().saturating_sub(LOG_END_LINES)..];
    if end.is_empty() {
        "  (it is empty)".to_owned()
    } else {
        end.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }
}
