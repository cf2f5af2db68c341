//! The network of a manifest while it runs: who is up, what is wrong with paths, and what has been published.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use starling_node::keyfile;
use starling_node::rpc::client::RpcClient;
use starling_protocol::id::TransactionId;
use starling_protocol::mesh::config::{DegreeConfig, HeartbeatConfig};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Cue, HEADS_INTERVAL, POLL, merged, verdict};
use crate::cluster::fleet::{Fleet, Place, STOP_DEADLINE};
use crate::cluster::plan::{Design, Plan, jitter_seed};
use crate::cluster::{ClusterError, Options, file_error, host};
use crate::measure::{Readiness, Recorder};
use crate::report::Partition;
use crate::report::format::float;
use crate::sim::faults::{Action, Faults};
use crate::sim::run::unpublished;
use crate::sim::workload::Submission;
use crate::sim::{Scenario, Wiring, topology};
use crate::wan::Stream;
use crate::wan::emulation::{LinkEmulation, Trouble};

/// From the plan until slot 0, and how much more for each node: about what it takes until all of them are up.
const LEAD_MS: u64 = 2_000;
const LEAD_MS_PER_NODE: u64 = 100;
/// The longest delay that a node's emulation takes.
const DELAY_US_MAX: u64 = 10_000_000;

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It runs.
    Up,
    /// It stands still.
    Paused,
    /// It was asked to end.
    Ending(Instant),
    /// It has ended.
    Down,
    /// Its process was started again and does not listen yet.
    Starting,
    /// It ended although nobody ended it.
    Lost,
}

impl Phase {
    /// Whether there is a process that should answer.
    pub(super) fn is_there(self) -> bool {
        matches!(self, Self::Up | Self::Paused)
    }
}

/// Who answered a submission, and with what: the message's id and the transaction's, or why not.
type Answer = (usize, Result<(String, TransactionId), String>);

/// The network of a manifest.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) scenario: Scenario,
    pub(super) options: Options,
    pub(super) plan: Plan,
    pub(super) fleet: Fleet,
    pub(super) recorder: Recorder,
    pub(super) phases: Vec<Phase>,
    /// From when until when each node did not run, in microseconds of the nodes' clock.
    pub(super) absences: Vec<(usize, u64, u64)>,
    pub(super) refused: Vec<String>,
    /// Transactions by the ids of the messages that carried them.
    pub(super) published: BTreeMap<String, TransactionId>,
    places: Vec<Place>,
    pub(super) rpcs: Vec<RpcClient>,
    cues: VecDeque<(Duration, Cue)>,
    /// Whether paths were opened.
    open: bool,
    faults: Faults,
    to_start: BTreeSet<usize>,
    gone_us: Vec<Option<u64>>,
    lives: Vec<u32>,
    payloads: Stream,
    under_way: JoinSet<Answer>,
    unpublished: usize,
    zero_us: u64,
    /// The last partition, once it has begun.
    pub(super) partition: Option<Partition>,
    heads_asked: Instant,
}

impl Stage {
    /// Decides everything and writes the folder.
    pub(super) fn prepare(scenario: Scenario, options: Options) -> Result<Self, ClusterError> {
        let shaped = |action: &Action| matches!(action, Action::Partition(_) | Action::Degrade(_));
        let troubled = scenario.loss_ppm > 0 || scenario.faults.iter().any(|(_, action)| shaped(action));
        let lead_ms = LEAD_MS + LEAD_MS_PER_NODE * scenario.nodes as u64;
        let plan = Plan::of(
            &options,
            &Design {
                producers: scenario.producers,
                limits: Scenario::genesis_limits(),
                start_time_ms: host::unix_us() / 1_000 + lead_ms,
                emulated: scenario.profile.is_emulated() || troubled,
            },
        )?;
        plan.write(&options)?;
        let peer_ids: Vec<String> = plan
            .nodes
            .iter()
            .map(|node| keyfile::libp2p_keypair(&node.key).public().to_peer_id().to_base58())
            .collect();
        let degree_min = DegreeConfig::default().low.min(scenario.wiring.target_peers()).min(scenario.nodes - 1);
        let heartbeat_us = u64::try_from(HeartbeatConfig::default().interval.as_micros()).unwrap_or(u64::MAX);
        let readiness = Readiness::new(scenario.nodes, u32::try_from(degree_min).unwrap_or(u32::MAX), heartbeat_us);
        let places = places(&scenario, &plan, &peer_ids)?;
        let client = |(place, node): (&Place, &crate::cluster::plan::PlannedNode)| {
            RpcClient::new(&format!("{}:{}", node.ip, place.rpc_port)).expect("an address and a port")
        };
        let stage = Self {
            recorder: Recorder::new(peer_ids, readiness),
            fleet: Fleet::new(&options)?,
            phases: vec![Phase::Up; scenario.nodes],
            absences: Vec::new(),
            refused: Vec::new(),
            published: BTreeMap::new(),
            rpcs: places.iter().zip(&plan.nodes).map(client).collect(),
            places,
            cues: merged(&scenario).into(),
            open: false,
            faults: Faults::default(),
            to_start: BTreeSet::new(),
            gone_us: vec![None; scenario.nodes],
            lives: vec![1; scenario.nodes],
            payloads: Stream::new(scenario.seed, "payloads"),
            under_way: JoinSet::new(),
            unpublished: 0,
            zero_us: 0,
            partition: None,
            heads_asked: Instant::now(),
            scenario,
            options,
            plan,
        };
        stage.write_paths()?;
        Ok(stage)
    }

    /// Starts all nodes, and waits until they are up and slot 0 begins.
    pub(super) async fn start(&mut self, progress: impl FnMut(usize)) -> Result<(), ClusterError> {
        self.fleet.start_at(&self.plan, &self.options, &self.places, progress).await?;
        let genesis_us = self.plan.genesis.slot_start(0);
        while let Some(left_us) = genesis_us.checked_sub(host::unix_us()).filter(|left_us| *left_us > 0) {
            sleep(Duration::from_micros(left_us)).await;
        }
        Ok(())
    }

    /// The timeline begins.
    pub(super) fn begin(&mut self, zero_us: u64) {
        self.zero_us = zero_us;
    }

    /// When the next thing on the timeline is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.cues.front().map(|(at, _)| *at)
    }

    /// Does all that is due by then.
    pub(super) async fn act_until(&mut self, now: Duration) -> Result<(), ClusterError> {
        while self.next_due().is_some_and(|at| at <= now)
            && let Some((_, cue)) = self.cues.pop_front()
        {
            match cue {
                Cue::Connect => {
                    self.open = true;
                    self.write_paths()?;
                }
                Cue::Publish(submission) => self.publish(&submission),
                Cue::Strike(action) => self.strike(&action).await?,
            }
        }
        Ok(())
    }

    async fn strike(&mut self, action: &Action) -> Result<(), ClusterError> {
        match *action {
            Action::Kill(node) if !matches!(self.phases[node as usize], Phase::Down | Phase::Lost) => {
                self.fleet.kill(node as usize).await;
                self.is_gone(node as usize);
                self.phases[node as usize] = Phase::Down;
            }
            Action::Stop(node) if !matches!(self.phases[node as usize], Phase::Down | Phase::Lost) => {
                self.fleet.signal(node as usize, Signal::TERM);
                self.fleet.signal(node as usize, Signal::CONT);
                self.is_gone(node as usize);
                self.phases[node as usize] = Phase::Ending(Instant::now());
            }
            Action::Start(node) if !self.phases[node as usize].is_there() => {
                self.to_start.insert(node as usize);
            }
            Action::Pause(node) if self.phases[node as usize] == Phase::Up => {
                self.fleet.signal(node as usize, Signal::STOP);
                self.phases[node as usize] = Phase::Paused;
            }
            Action::Resume(node) if self.phases[node as usize] == Phase::Paused => {
                self.fleet.signal(node as usize, Signal::CONT);
                self.phases[node as usize] = Phase::Up;
            }
            _ => {}
        }
        if self.faults.take(action) {
            self.write_paths()?;
        }
        match action {
            Action::Partition(_) => {
                self.partition = Some(Partition { healed_at_s: None, one_head_after_s: None });
            }
            Action::Heal => {
                self.partition = Some(Partition { healed_at_s: Some(self.now_s()), one_head_after_s: None });
            }
            _ => {}
        }
        Ok(())
    }

    fn is_gone(&mut self, node: usize) {
        self.gone_us[node].get_or_insert(host::now_us());
    }

    /// Takes in what happened since the last look, and starts whoever is to start.
    pub(super) async fn look(&mut self) -> Result<(), ClusterError> {
        self.read_traces()?;
        self.collect();
        for node in 0..self.phases.len() {
            match self.phases[node] {
                Phase::Up | Phase::Paused => {
                    if self.fleet.ended(node).is_some() {
                        self.is_gone(node);
                        self.phases[node] = Phase::Lost;
                    }
                }
                Phase::Ending(since) => {
                    if since.elapsed() > STOP_DEADLINE {
                        self.fleet.signal_kill(node);
                    }
                    if self.fleet.ended(node).is_some() {
                        self.phases[node] = Phase::Down;
                    }
                }
                Phase::Starting => {
                    if self.fleet.listens(node)? {
                        self.phases[node] = Phase::Up;
                        let gone_us = self.gone_us[node].take();
                        self.absences.extend(gone_us.map(|gone_us| (node, gone_us, host::now_us())));
                    }
                }
                Phase::Down | Phase::Lost => {}
            }
        }
        let ready: Vec<usize> =
            self.to_start.iter().copied().filter(|node| self.phases[*node] == Phase::Down).collect();
        for node in ready {
            self.to_start.remove(&node);
            self.revive(node)?;
        }
        self.look_for_one_head().await;
        Ok(())
    }

    fn revive(&mut self, node: usize) -> Result<(), ClusterError> {
        self.fleet.read_trace(node, &mut self.recorder)?;
        let trace = self.plan.nodes[node].trace();
        // The next life writes a trace of its own.
        let kept = trace.with_extension(format!("{}.csv", self.lives[node]));
        self.lives[node] += 1;
        if trace.exists() {
            fs::rename(&trace, &kept).map_err(file_error("rename", trace))?;
        }
        self.fleet.revive(node, &self.plan, &self.options, &self.places[node])?;
        self.phases[node] = Phase::Starting;
        Ok(())
    }

    async fn look_for_one_head(&mut self) {
        if let Some(Partition { healed_at_s: Some(healed_at_s), one_head_after_s: None }) = self.partition
            && self.heads_asked.elapsed() >= HEADS_INTERVAL
        {
            self.heads_asked = Instant::now();
            if verdict::disagreement(self).await.is_empty() {
                let one_head_after_s = Some(self.now_s() - healed_at_s);
                self.partition = Some(Partition { healed_at_s: Some(healed_at_s), one_head_after_s });
            }
        }
    }

    /// Seconds of the timeline that have passed.
    fn now_s(&self) -> f64 {
        float(host::now_us().saturating_sub(self.zero_us)) / 1e6
    }

    fn publish(&mut self, submission: &Submission) {
        let mut payload = vec![0; submission.payload_bytes as usize];
        self.payloads.fill(&mut payload);
        let node = submission.node as usize;
        if !self.phases[node].is_there() {
            self.unpublished += 1;
            return;
        }
        let rpc = self.rpcs[node].clone();
        self.under_way.spawn(async move {
            let answer = rpc.tx_publish(&payload).await;
            (node, answer.map(|submitted| (submitted.message_id, submitted.id)).map_err(|error| error.to_string()))
        });
    }

    fn collect(&mut self) {
        while let Some(answered) = self.under_way.try_join_next() {
            match answered {
                Ok((_, Ok((message, id)))) => drop(self.published.insert(message, id)),
                // Whoever was ended meanwhile need not answer.
                Ok((node, Err(_))) if self.gone_us[node].is_some() || self.lives[node] > 1 => self.unpublished += 1,
                Ok((node, Err(reason))) => self.refused.push(format!("{}: {reason}", self.plan.nodes[node].name)),
                Err(panicked) => self.refused.push(format!("a submission failed: {panicked}")),
            }
        }
    }

    /// Waits for the answers to all submissions, for a while.
    pub(super) async fn settle(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        while !self.under_way.is_empty() && Instant::now() < deadline {
            self.collect();
            sleep(POLL / 10).await;
        }
        self.collect();
        let gone: Vec<(usize, u64)> =
            self.gone_us.iter().enumerate().filter_map(|(node, gone_us)| Some((node, (*gone_us)?))).collect();
        self.absences.extend(gone.into_iter().map(|(node, gone_us)| (node, gone_us, u64::MAX)));
    }

    pub(super) fn read_traces(&mut self) -> Result<(), ClusterError> {
        Ok(self.fleet.read_traces(&mut self.recorder)?)
    }

    pub(super) fn cpu_us(&self) -> Vec<u64> {
        self.fleet.nodes().iter().map(|node| host::cpu_us(node.pid)).collect()
    }

    /// What a reader of the figures must know.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.unpublished > 0 {
            notes.push(unpublished(self.unpublished as u64));
        }
        notes.extend(self.partition.map(|partition| partition.words()));
        notes
    }

    /// Writes how every node's paths are at present.
    fn write_paths(&self) -> Result<(), ClusterError> {
        if self.plan.nodes.iter().any(|node| !node.emulated) {
            return Ok(());
        }
        let ips: Vec<Ipv4Addr> = self.plan.nodes.iter().map(|node| node.ip).collect();
        let number = |node: usize| u32::try_from(node).expect("at most a thousand nodes");
        let (topology, usual_ppm) = (&self.plan.topology, self.scenario.loss_ppm);
        for (node, planned) in self.plan.nodes.iter().enumerate() {
            let trouble = |peer: usize| {
                let (from, to) = (number(node), number(peer));
                let latency_us = self.faults.latency(topology, from, to).as_micros();
                let latency_us = u64::try_from(latency_us).unwrap_or(u64::MAX).min(DELAY_US_MAX);
                Trouble {
                    added_us: latency_us.saturating_sub(topology.one_way_us(node, peer)),
                    loss_ppm: self.faults.loss_ppm(usual_ppm, from, to),
                    cut: !self.open || self.faults.is_cut(from, to),
                }
            };
            let links = LinkEmulation::troubled(topology, node, &ips, jitter_seed(&self.options), trouble);
            // Before the start nothing is broken that has begun.
            let dead_after_us = if self.open { self.scenario.dead_after.as_micros() } else { 0 };
            let dead_after_us = u64::try_from(dead_after_us).unwrap_or(u64::MAX) & i64::MAX.unsigned_abs();
            replace(&planned.links(), &LinkEmulation { dead_after_us, ..links }.to_toml())?;
        }
        Ok(())
    }
}

/// Replaces a file as a whole, so that nobody reads half of it.
fn replace(path: &Path, text: &str) -> Result<(), ClusterError> {
    let new = path.with_extension("new");
    fs::write(&new, text).map_err(file_error("write", &new))?;
    fs::rename(&new, path).map_err(file_error("replace", path))
}

/// Where everybody listens, and whom everybody is told of.
fn places(scenario: &Scenario, plan: &Plan, peer_ids: &[String]) -> Result<Vec<Place>, ClusterError> {
    let mut held = Vec::new();
    let mut ports = Vec::new();
    for node in &plan.nodes {
        let mut free_port = || {
            let listener = TcpListener::bind((node.ip, 0)).map_err(file_error("listen on", node.ip.to_string()))?;
            let port = listener.local_addr().map_err(file_error("listen on", node.ip.to_string()))?.port();
            // Held until all have one, so that no two are the same.
            held.push(listener);
            Ok::<u16, ClusterError>(port)
        };
        ports.push((free_port()?, free_port()?));
    }
    let links = topology::links(&scenario.wiring, &plan.topology, scenario.nodes, scenario.seed);
    let mut places: Vec<Place> =
        ports.iter().map(|(port, rpc_port)| Place { port: *port, rpc_port: *rpc_port, ..Place::default() }).collect();
    for (from, to) in links {
        let (from, to) = (from as usize, to as usize);
        let address = format!("/ip4/{}/tcp/{}/p2p/{}", plan.nodes[to].ip, ports[to].0, peer_ids[to]);
        places[from].bootnodes.push(address);
        if !matches!(scenario.wiring, Wiring::Discovered { .. }) {
            *places[from].links.get_or_insert(0) += 1;
            *places[to].links.get_or_insert(0) += 1;
        }
    }
    Ok(places)
}
