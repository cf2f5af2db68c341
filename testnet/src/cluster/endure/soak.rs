//! The soak: a steady load for a long time, while every so often a node is killed and restarted.
//!
//! # Rules
//! - Every [`SoakOptions::kill_every`] one node gets SIGKILL and is started again after a time drawn from [`DOWN_MS`]. Victims go
//!   round: the second node, the third, and so on to the last, and again. The first node is **never killed**, so that there is
//!   one whose memory is that of a long life.
//! - The load goes on without regard to that: a transaction for a node that is down goes to another one.
//! - Once a second resident memory and open files of every process are read from `/proc`, and its head is asked for. That call is
//!   not waited for longer than a second.
//! - When the time is over the load ends; then all nodes must agree on one chain that holds everything acknowledged, within
//!   [`DRAIN_PATIENCE`]. They stop in order, and the disks are examined as after a crash test.
//! - The first five minutes do not count for growth: a node keeps the blocks of some 256 slots in memory, and caches fill. A soak
//!   shorter than six minutes judges none. [`crate::report::soak`] says what flat means.
//! - A signal ends the load at once; the rest is as it would be at the end. A second signal ends the tool.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::network::Network;
use super::verdict::Follower;
use super::wallet::{Ledger, Wallet};
use super::{LoadSummary, SoakOptions, check_disks, clean_up, json, write};
use crate::cluster::phases::interruption;
use crate::cluster::{ClusterError, host};
use crate::report::format::{bytes, float, grouped};
use crate::report::soak::{Flatness, Kill, Sample, Soak};
use crate::wan::Stream;

/// For how long a killed node stays down, in milliseconds: from a supervisor that restarts at once to one that waits some
/// seconds.
const DOWN_MS: std::ops::Range<u64> = 200..5_000;
/// The first part of a soak that does not count for growth.
const WARM_UP: Duration = Duration::from_secs(5 * 60);
/// How long submissions may take to be answered when the load ends.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take after the load until everything is in one chain.
const DRAIN_PATIENCE: Duration = Duration::from_secs(120);
/// From one sample to the next.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// A restarted node that is this close to the first one has caught up.
const CAUGHT_UP_BLOCKS: u64 = 2;
/// Every how many samples a line is printed.
const SAMPLES_PER_LINE: u64 = 30;

/// Runs a soak and writes its report. Returns what is wrong, in words: nothing, if all is well.
///
/// # Errors
/// If the network cannot be run, a node does not start again, a file cannot be written, or a signal came (after the report of
/// what was measured until then). No node is left running in any case.
pub async fn soak(options: &SoakOptions) -> Result<Vec<String>, ClusterError> {
    let mut network = Network::prepare(options.network.clone())?;
    let started = tokio::select! {
        started = network.start() => started,
        interrupted = interruption() => Err(interrupted),
    };
    if let Err(error) = started {
        network.fleet.stop().await;
        return Err(error);
    }
    let mut trial = Trial::new(&mut network, options);
    let begun = Instant::now();
    let ended = tokio::select! {
        ended = trial.run(options.network.duration) => ended,
        interrupted = interruption() => Err(interrupted),
    };
    trial.soak.duration_s = begun.elapsed().as_secs_f64();
    let ended = match ended {
        Err(ClusterError::Interrupted(signal)) => {
            note!("the load ends early; a second signal ends the tool at once");
            Some(ClusterError::CutShort(signal))
        }
        Err(error) => {
            trial.soak.findings.push(error.to_string());
            None
        }
        Ok(()) => None,
    };
    trial.drain().await;
    let (mut soak, ledger, follower) = trial.into_parts();
    network.fleet.stop().await;
    let height = follower.chain.height();
    if soak.findings.is_empty() {
        soak.findings = check_disks(&network, &ledger.accepted, height).await;
    }
    report(&network, &mut soak, &ledger, &follower, options)?;
    clean_up(&network.options, soak.findings.is_empty())?;
    match ended {
        Some(cut_short) if soak.findings.is_empty() => Err(cut_short),
        _ => Ok(soak.findings),
    }
}

/// The soak under way.
#[derive(Debug)]
struct Trial<'a> {
    network: &'a mut Network,
    wallet: Wallet,
    follower: Follower,
    draws: Stream,
    kill_every: Duration,
    began: Instant,
    lives: Vec<Life>,
    heads: JoinSet<(usize, Option<u64>)>,
    soak: Soak,
}

/// The present life of a node.
#[derive(Debug, Clone, Copy)]
struct Life {
    number: u32,
    since: Instant,
    is_up: bool,
    /// The last height that the node told, and not taken into a sample yet.
    height: Option<u64>,
    /// The kill whose catching up is awaited.
    catching_up: Option<usize>,
}

impl<'a> Trial<'a> {
    fn new(network: &'a mut Network, options: &SoakOptions) -> Self {
        let asked = &options.network;
        let targets = network.rpcs().to_vec();
        let wallet = Wallet::start(&network.plan.genesis, targets, asked.tx_rate, asked.tx_bytes, asked.seed);
        let began = Instant::now();
        let life = Life { number: 0, since: began, is_up: true, height: None, catching_up: None };
        let soak = Soak {
            names: network.names.clone(),
            seed: asked.seed,
            warm_up_s: WARM_UP.as_secs_f64(),
            ..Soak::default()
        };
        Self {
            lives: vec![life; asked.nodes],
            network,
            wallet,
            follower: Follower::default(),
            draws: Stream::new(asked.seed, "kills"),
            kill_every: options.kill_every,
            began,
            heads: JoinSet::new(),
            soak,
        }
    }

    /// Kills, restarts and samples until the time is over.
    async fn run(&mut self, duration: Duration) -> Result<(), ClusterError> {
        let end = self.began + duration;
        let mut samples = interval_at(self.began + SAMPLE_INTERVAL, SAMPLE_INTERVAL);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut kills = interval_at(self.began + self.kill_every, self.kill_every);
        kills.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Nodes that are down, by when they are to be started.
        let mut down: BTreeMap<Instant, usize> = BTreeMap::new();
        let (mut victims, mut ticks) = ((1..self.lives.len()).cycle(), 0);
        loop {
            let restart = down.first_key_value().map(|(at, _)| *at);
            let now = Instant::now();
            tokio::select! {
                () = tokio::time::sleep_until(end) => break,
                () = tokio::time::sleep_until(restart.unwrap_or(end)), if restart.is_some() => {
                    if let Some((_, node)) = down.pop_first() {
                        self.restart(node)?;
                    }
                }
                _ = kills.tick() => {
                    let node = victims.next().expect("an endless round");
                    // So late that the node could not come back before the end, or while it is down already, there is no kill.
                    if now + self.kill_every / 2 < end && self.lives[node].is_up {
                        down.insert(self.kill(node).await, node);
                    }
                }
                _ = samples.tick() => {
                    self.sample();
                    ticks += 1;
                    if ticks % SAMPLES_PER_LINE == 0 {
                        self.tell();
                    }
                }
                Some(Ok((node, height))) = self.heads.join_next() => self.lives[node].height = height,
            }
            self.watch()?;
        }
        for node in down.into_values() {
            self.restart(node)?;
        }
        Ok(())
    }

    async fn kill(&mut self, node: usize) -> Instant {
        self.network.kill(node).await;
        let down = Duration::from_millis(DOWN_MS.start + self.draws.below(DOWN_MS.end - DOWN_MS.start));
        let life = &mut self.lives[node];
        (life.is_up, life.height, life.catching_up) = (false, None, Some(self.soak.kills.len()));
        let t_s = self.began.elapsed().as_secs_f64();
        self.soak.kills.push(Kill { t_s, node, down_s: down.as_secs_f64(), caught_up_s: None });
        Instant::now() + down
    }

    fn restart(&mut self, node: usize) -> Result<(), ClusterError> {
        self.network.revive(node)?;
        let life = &mut self.lives[node];
        *life = Life { number: life.number + 1, since: Instant::now(), is_up: true, ..*life };
        Ok(())
    }

    /// A node that ended by itself ends the soak.
    fn watch(&mut self) -> Result<(), ClusterError> {
        let lost = self.network.fleet.lost();
        match lost.into_iter().find(|(node, _)| self.lives[*node].is_up) {
            Some((_, reason)) => Err(ClusterError::Lost(reason)),
            None => Ok(()),
        }
    }

    fn sample(&mut self) {
        let t_s = self.began.elapsed().as_secs_f64();
        let first = self.lives[0].height;
        for (node, life) in self.lives.iter_mut().enumerate().filter(|(_, life)| life.is_up) {
            let (pid, age_s) = (self.network.fleet.nodes()[node].pid, life.since.elapsed().as_secs_f64());
            let (rss_kib, fds, height) = (host::rss_kib(pid), host::open_files(pid), life.height.take());
            if let (Some(height), Some(first), Some(kill)) = (height, first, life.catching_up)
                && height + CAUGHT_UP_BLOCKS >= first
            {
                self.soak.kills[kill].caught_up_s = Some(age_s);
                life.catching_up = None;
            }
            self.soak.samples.push(Sample { t_s, node, life: life.number, age_s, rss_kib, fds, height });
            let rpc = self.network.rpcs()[node].clone();
            self.heads.spawn(async move {
                let head = timeout(SAMPLE_INTERVAL, rpc.chain_head()).await;
                (node, head.ok().and_then(Result::ok).map(|head| head.height))
            });
        }
    }

    /// A line on how it goes.
    fn tell(&self) {
        let ledger = self.wallet.ledger();
        let heights: Vec<String> = (0..self.lives.len())
            .map(|node| {
                let last = self.soak.samples.iter().rev().filter(|sample| sample.node == node);
                let height = last.take(2).find_map(|sample| sample.height);
                height.map_or_else(|| "-".to_owned(), |height| height.to_string())
            })
            .collect();
        note!(
            "{:>5.0} s  {} kills  {} acknowledged, {} held back, {} retries  heights {}",
            self.began.elapsed().as_secs_f64(),
            self.soak.kills.len(),
            grouped(ledger.accepted.len() as u64),
            ledger.held_back,
            ledger.retries,
            heights.join(" "),
        );
    }

    /// Ends the load, and waits until everything acknowledged is in one chain.
    async fn drain(&mut self) {
        self.wallet.stop(ANSWER_PATIENCE).await;
        if let Err(error) = self.revive_all().await {
            self.soak.findings.push(error.to_string());
            return;
        }
        let accepted = self.wallet.ledger().accepted.clone();
        let (rpcs, names) = (self.network.rpcs(), &self.network.names);
        if let Err(problem) = self.follower.agree(rpcs, names, 0, &accepted, DRAIN_PATIENCE).await {
            self.soak.findings.push(problem);
        }
        self.soak.findings.extend(self.follower.chain.findings(&accepted, names));
    }

    /// A signal may have come while nodes were down.
    async fn revive_all(&mut self) -> Result<(), ClusterError> {
        for node in 0..self.lives.len() {
            if !self.lives[node].is_up {
                self.restart(node)?;
            }
        }
        self.network.fleet.all_up().await
    }

    fn into_parts(self) -> (Soak, Ledger, Follower) {
        let ledger = self.wallet.ledger().clone();
        (self.soak, ledger, self.follower)
    }
}

#[derive(Debug, Serialize)]
struct SoakSummary<'a> {
    format: u32,
    kind: &'static str,
    seed: u64,
    nodes: usize,
    tx_rate: f64,
    duration_asked_s: f64,
    duration_s: f64,
    warm_up_s: f64,
    kill_every_s: f64,
    kills: usize,
    caught_up_s_max: Option<f64>,
    not_caught_up: usize,
    load: LoadSummary,
    accepted_per_s: f64,
    height: u64,
    transactions_included: u64,
    database_bytes: Vec<u64>,
    flatness: &'a [Flatness],
    findings: &'a [String],
}

/// Writes the folder's files and prints the figures. Adds a finding for whatever grows.
fn report(
    network: &Network,
    soak: &mut Soak,
    ledger: &Ledger,
    follower: &Follower,
    options: &SoakOptions,
) -> Result<(), ClusterError> {
    let flatness = soak.flatness();
    soak.findings.extend(flatness.iter().filter(|verdict| verdict.flat == Some(false)).map(grows));
    let refused = ledger.refused > 0;
    if refused {
        soak.findings.push(format!("{} submissions were refused: {}", ledger.refused, ledger.refusals.join("; ")));
    }
    let database_bytes: Vec<u64> = network.plan.nodes.iter().map(|node| folder_bytes(&node.dir)).collect();
    let late = soak.kills.iter().filter(|kill| kill.caught_up_s.is_none()).count();
    let slowest = soak.kills.iter().filter_map(|kill| kill.caught_up_s).reduce(f64::max);
    let accepted = ledger.accepted.len() as u64;
    let rate = float(accepted) / soak.duration_s.max(0.001);
    soak.facts = vec![
        ("Acknowledged".into(), grouped(accepted)),
        ("A second".into(), format!("{rate:.1}")),
        ("Held back".into(), grouped(ledger.held_back)),
        ("In the chain".into(), grouped(follower.chain.transactions() as u64)),
        ("Height".into(), grouped(follower.chain.height())),
        ("Slowest to catch up".into(), slowest.map_or_else(|| "-".into(), |s| format!("{s:.1} s"))),
        ("Not caught up".into(), late.to_string()),
        ("Largest data directory".into(), bytes(float(database_bytes.iter().copied().max().unwrap_or(0)))),
    ];
    let summary = SoakSummary {
        format: 1,
        kind: "soak",
        seed: soak.seed,
        nodes: soak.names.len(),
        tx_rate: options.network.tx_rate,
        duration_asked_s: options.network.duration.as_secs_f64(),
        duration_s: soak.duration_s,
        warm_up_s: soak.warm_up_s,
        kill_every_s: options.kill_every.as_secs_f64(),
        kills: soak.kills.len(),
        caught_up_s_max: slowest,
        not_caught_up: late,
        load: LoadSummary::of(ledger),
        accepted_per_s: rate,
        height: follower.chain.height(),
        transactions_included: follower.chain.transactions() as u64,
        database_bytes,
        flatness: &flatness,
        findings: &soak.findings,
    };
    let out = &network.options.out;
    write(&out.join("summary.json"), &(json(&summary) + "\n"))?;
    write(&out.join("samples.csv"), &soak.samples_csv())?;
    write(&out.join("kills.csv"), &soak.kills_csv())?;
    write(&out.join("accepted.csv"), &super::accepted_csv(&ledger.accepted, &network.names))?;
    for (name, chart) in soak.charts() {
        write(&out.join(name), &chart)?;
    }
    write(&out.join("report.html"), &soak.page())?;
    for (label, figure) in &soak.facts {
        say!("{label:<24}{figure}");
    }
    let unjudged = flatness.iter().filter(|verdict| verdict.flat.is_none()).count();
    if unjudged > 0 {
        say!("{:<24}{unjudged} of {} series are too short to judge", "Growth", flatness.len());
    }
    say!("{:<24}{}", "Report", out.join("report.html").display());
    Ok(())
}

fn grows(verdict: &Flatness) -> String {
    let Flatness { node, resource, across_lives, first_third, last_third, slope_per_minute, growth, allowance, .. } =
        verdict;
    let over = if *across_lives { "from life to life" } else { "within its life" };
    format!(
        "{resource} of {node} grows {over}: {first_third:.0} in the first third, {last_third:.0} in the last, \
         {slope_per_minute:+.1} a minute and {growth:+.0} in all where {allowance:.0} is allowed"
    )
}

/// Bytes of the files in a folder; 0 if it cannot be read.
fn folder_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}
