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
/// How long nodes may take to end by themselves before they are killed: a little longer than they give themselves.
pub(super) const STOP_DEADLINE: Duration = Duration::from_secs(10);
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

/// Peers that a node with links that are given allows.
const LINKED_PEERS_MAX: usize = 192;
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
    /// The process that wrote it. A node that is killed leaves the file behind, and then it is not the present one's.
    pub(super) pid: u32,
}

/// Where a node is to listen, and whom it is told of.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// The port for peers; 0 takes any that is free.
    pub(super) port: u16,
    /// The port of the RPC; 0 takes any that is free.
    pub(super) rpc_port: u16,
    /// Multiaddresses of the nodes that it is told of.
    pub(super) bootnodes: Vec<String>,
    /// How many links it is to have, all of them with nodes that it is told of or that are told of it; if absent, it finds others by
    /// itself.
    pub(super) links: Option<usize>,
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
    pub(super) fn listening(&self) -> Vec<String> {
        self.nodes.iter().filter_map(|node| node.addresses.as_ref()?.listen.first().cloned()).collect()
    }

    fn spawn(&mut self, planned: &PlannedNode, options: &Options, bootnodes: &[String]) -> Result<(), ClusterError> {
        let place = Place { bootnodes: bootnodes.to_vec(), ..Place::default() };
        let node = self.launch(self.nodes.len(), planned, options, &place)?;
        self.nodes.push(node);
        Ok(())
    }

    /// Starts every node of the plan in its place, as many at a time as the host bears, and waits until each says where it listens.
    /// `progress` is told how many do.
    pub(super) async fn start_at(
        &mut self,
        plan: &Plan,
        options: &Options,
        places: &[Place],
        mut progress: impl FnMut(usize),
    ) -> Result<(), ClusterError> {
        let at_once = STARTING_PER_CORE * host::cores();
        loop {
            let up = self.look_for_addresses()?;
            progress(up);
            if up == plan.nodes.len() {
                return Ok(());
            }
            while self.nodes.len() < plan.nodes.len() && self.nodes.len() - up < at_once {
                let number = self.nodes.len();
                self.nodes.push(self.launch(number, &plan.nodes[number], options, &places[number])?);
            }
            sleep(POLL).await;
        }
    }

    /// Starts a node again that has ended, and does not wait until it is up.
    pub(super) fn revive(
        &mut self,
        number: usize,
        plan: &Plan,
        options: &Options,
        place: &Place,
    ) -> Result<(), ClusterError> {
        self.nodes[number] = self.launch(number, &plan.nodes[number], options, place)?;
        Ok(())
    }

    fn launch(
        &self,
        number: usize,
        planned: &PlannedNode,
        options: &Options,
        place: &Place,
    ) -> Result<NodeProcess, ClusterError> {
        // A node that is started again goes on in the log of its earlier lives.
        let log = File::options().create(true).append(true).open(&planned.log);
        let log = log.map_err(file_error("make", &planned.log))?;
        let second = log.try_clone().map_err(file_error("write", &planned.log))?;
        let mut command = self.command();
        command.arg("run").arg("--datadir").arg(&planned.dir);
        command.arg("--listen").arg(format!("/ip4/{}/tcp/{}", planned.ip, place.port));
        command.arg("--rpc").arg(format!("{}:{}", planned.ip, place.rpc_port));
        command.arg("--target-peers").arg(place.links.unwrap_or(options.target_peers).max(1).to_string());
        if place.links.is_some() {
            command.arg("--discovery=false");
            // As many as a node that is told nothing, and as a simulated one, however few links are given.
            command.arg("--max-peers").arg(LINKED_PEERS_MAX.to_string());
        }
        command.arg("--exit-on-stdin-close");
        if options.trace {
            command.arg("--trace").arg(planned.trace());
        }
        if !place.bootnodes.is_empty() {
            command.arg("--bootnodes").arg(place.bootnodes.join(","));
        }
        if number < BOOTNODES && place.links.is_none() {
            // Everybody asks these first; one that is full would leave newcomers without anyone to ask.
            let peers = options.nodes.max(options.target_peers) * 2;
            command.arg("--max-peers").arg(peers.min(PEERS_MAX).to_string());
        }
        if planned.producer_key.is_some() {
            command.arg("--producer-key").arg(planned.producer_key_file());
        }
        if planned.emulated {
            command.arg("--link-emulation").arg(planned.links());
        }
        command.args(&options.node_args);
        command.stdin(Stdio::piped()).stdout(log).stderr(second).process_group(0).kill_on_drop(true);
        let mut child =
            command.spawn().map_err(|source| ClusterError::Spawn { program: self.program.clone(), source })?;
        Ok(NodeProcess {
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
        })
    }

    /// The node's executable, without arguments.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if self.own {
            command.arg(NODE_SUBCOMMAND);
        }
        command
    }

    /// Sends a node SIGKILL.
    pub(super) fn signal_kill(&self, number: usize) {
        self.nodes[number].signal(Signal::KILL);
    }

    /// Sends a node a signal, unless it has ended.
    pub(super) fn signal(&mut self, number: usize, signal: Signal) {
        if self.nodes[number].ended().is_none() {
            self.nodes[number].signal(signal);
        }
    }

    /// How a node ended, if it has.
    pub(super) fn ended(&mut self, number: usize) -> Option<ExitStatus> {
        self.nodes[number].ended()
    }

    /// Whether a node says where it listens. Having ended instead, or taking too long, is an error.
    pub(super) fn listens(&mut self, number: usize) -> Result<bool, ClusterError> {
        Ok(self.nodes[number].look_for_addresses(&self.logs)?.is_some())
    }

    /// Ends a node with SIGKILL, and waits until it is gone. Nothing happens to one that has ended.
    pub(super) async fn kill(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if node.ended().is_none() {
            node.signal(Signal::KILL);
        }
        if let Ok(status) = node.child.wait().await {
            node.ended = Some(status);
        }
    }

    /// Waits until every node says where it listens.
    pub(super) async fn all_up(&mut self) -> Result<(), ClusterError> {
        while self.look_for_addresses()? < self.nodes.len() {
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until one node says where it listens.
    pub(super) async fn is_up(&mut self, number: usize) -> Result<Addresses, ClusterError> {
        loop {
            let logs = self.logs.clone();
            let node = &mut self.nodes[number];
            if let Some(addresses) = node.look_for_addresses(&logs)? {
                return Ok(addresses.clone());
            }
            sleep(POLL).await;
        }
    }

    /// How many nodes say where they listen. A node that has ended instead, or takes too long, is an error.
    fn look_for_addresses(&mut self) -> Result<usize, ClusterError> {
        let mut up = 0;
        for node in &mut self.nodes {
            up += usize::from(node.look_for_addresses(&self.logs)?.is_some());
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

    /// The same of one node.
    pub(super) fn read_trace(&mut self, number: usize, recorder: &mut Recorder) -> Result<(), TraceError> {
        self.nodes[number].trace.poll(|event| recorder.record(number, event))
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
                // One that stands still would not hear of it.
                node.signal(Signal::CONT);
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
    /// Where the node listens, once it says so. Having ended instead, or taking too long, is an error.
    fn look_for_addresses(&mut self, logs: &Path) -> Result<Option<&Addresses>, ClusterError> {
        if self.addresses.is_none() {
            self.addresses = read_addresses(&self.address_file)?.filter(|addresses| addresses.pid == self.pid);
        }
        if let Some(status) = self.ended() {
            let (name, log) = (self.name.clone(), self.log.clone());
            return Err(ClusterError::Died { name, status, log_end: log_end(&self.log), log });
        }
        if self.addresses.is_none() && self.started.elapsed() > START_DEADLINE {
            return Err(ClusterError::Deadline {
                waited_s: START_DEADLINE.as_secs(),
                missing: format!("node {} does not say where it listens", self.name),
                logs: logs.to_owned(),
            });
        }
        Ok(self.addresses.as_ref())
    }

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
