//! What a manifest must not say.

use super::FORMAT;
use super::conflicts::{self, distinct};
use super::error::Problem;
use super::error::Step::{self, Index, Key};
use super::faults::{count_of, duration, permille, ppm};
use super::keys::{Fault, Manifest, Publishers, Topology, Who, Workload};
use crate::attack::{Attackers, Targets};
use starling_protocol::genesis::{PRODUCERS_MAX, SLOT_MS_RANGE};
use starling_protocol::time::Duration;

/// More nodes than this are surely a mistake.
pub const NODES_MAX: u32 = 200_000;
/// The largest payload, which is what the genesis of simulated networks takes.
pub(super) const PAYLOAD_BYTES_MAX: u32 = 1 << 20;
/// Longer names do not fit into tables.
const NAME_CHARS_MAX: usize = 100;
/// Longer names do not fit into names of folders, which file systems limit to 255 bytes, with what stands beside them there.
const NAME_BYTES_MAX: usize = 200;
/// More actions than this are surely a mistake.
const ACTIONS_MAX: u64 = 10_000_000;
/// No process ends and begins again in less.
const DOWN_S_MIN: f64 = 0.001;
/// A byte that takes longer than a second is surely a mistake.
const BYTE_NS_MAX: u64 = 1_000_000_000;
/// A run longer than this in simulated time is surely a mistake.
const SECONDS_MAX: f64 = 1e7;
/// Nothing shorter than a millisecond makes a difference.
const SECONDS_MIN: f64 = 1e-3;
/// Sooner than this an answer from the other side of the world may still come.
const DEAD_AFTER_S_MIN: f64 = 0.1;
/// The most that a degradation adds to a latency: what takes longer fails every dial.
const LATENCY_MS_MAX: f64 = 10_000.0;

/// What is wrong with a partition of all nodes.
pub(super) const NOBODY_ELSE: &str = "nobody would be on the other side; name some of the nodes, and not all of them";

pub(super) type Checked = Result<(), Problem>;

/// Checks everything that does not depend on other files.
pub(super) fn check(manifest: &Manifest) -> Checked {
    if manifest.format != FORMAT {
        let format = manifest.format;
        return Err(Problem::new(&[Key("format")], format!("format {format} is unknown; this version reads {FORMAT}")));
    }
    if !(2..=NODES_MAX).contains(&manifest.nodes) {
        return Err(Problem::new(&[Key("nodes")], format!("there must be from 2 to {NODES_MAX} nodes")));
    }
    if !is_name(&manifest.name) {
        let message = format!(
            "a name must have 1 to {NAME_CHARS_MAX} characters, in at most {NAME_BYTES_MAX} bytes, no slash, and not be `.` or `..`: \
             folders are called by it"
        );
        return Err(Problem::new(&[Key("name")], message));
    }
    if manifest.seed > i64::MAX.unsigned_abs() {
        return Err(Problem::new(&[Key("seed")], format!("a seed must be at most {}", i64::MAX)));
    }
    times(manifest)?;
    limits(manifest)?;
    topology(manifest)?;
    links(manifest)?;
    blocks(manifest)?;
    for (number, workload) in manifest.workload.iter().enumerate() {
        check_workload(manifest, workload, &[Key("workload"), Index(number)])?;
    }
    for (number, fault) in manifest.fault.iter().enumerate() {
        check_fault(manifest, fault, &[Key("fault"), Index(number)])?;
    }
    let actions = manifest.actions();
    if actions > ACTIONS_MAX {
        let message = format!(
            "these faults take up to {actions} actions, and {ACTIONS_MAX} are the most; let them concern fewer nodes, take a shorter time, or \
             give churn a lower percent_per_min"
        );
        return Err(Problem::new(&[Key("fault")], message));
    }
    conflicts::check(manifest)?;
    for (number, attack) in manifest.attack.iter().enumerate() {
        check_attack(manifest, attack, &[Key("attack"), Index(number)])?;
    }
    Ok(())
}

/// Whether a manifest can have this name, by which folders within others are called.
pub(super) fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.chars().count())
        && name.len() <= NAME_BYTES_MAX
        && !name.contains(|character: char| matches!(character, '/' | '\\') || character.is_control())
        && !matches!(name, "." | "..")
}

fn times(manifest: &Manifest) -> Checked {
    let time = &manifest.time;
    for (key, seconds) in [
        ("warm_up_s", time.warm_up_s),
        ("load_s", time.load_s),
        ("drain_s", time.drain_s),
        ("connect_from_s", time.connect_from_s),
        ("connect_within_s", time.connect_within_s),
    ] {
        span(seconds, &[Key("time"), Key(key)])?;
    }
    if time.connect_from_s > total_s(manifest) {
        let at = [Key("time"), Key("connect_from_s")];
        return Err(Problem::new(&at, format!("no node ever dials: the run ends after {} s", total_s(manifest))));
    }
    let left_s = total_s(manifest) - time.connect_from_s;
    if time.connect_within_s > left_s {
        let message = format!(
            "some nodes would never dial: it must be at most {left_s}, for the run ends after {} s",
            total_s(manifest)
        );
        return Err(Problem::new(&[Key("time"), Key("connect_within_s")], message));
    }
    Ok(())
}

fn limits(manifest: &Manifest) -> Checked {
    let limits = &manifest.limits;
    for (key, most) in [
        ("connections_max", limits.connections_max),
        ("inbound_max", limits.inbound_max),
        ("per_ip_max", limits.per_ip_max),
        ("per_subnet_max", limits.per_subnet_max),
    ] {
        if most == 0 {
            return Err(Problem::new(
                &[Key("limits"), Key(key)],
                "no node could connect with another; it must be at least 1",
            ));
        }
    }
    Ok(())
}

fn topology(manifest: &Manifest) -> Checked {
    let at = |key| [Key("topology"), Key(key)];
    let degree = |degree: u32| {
        let (nodes, limits) = (manifest.nodes, &manifest.limits);
        let most = (nodes - 1).min(limits.connections_max).min(limits.inbound_max.saturating_mul(2));
        if (1..=most).contains(&degree) {
            return Ok(());
        }
        let message = format!(
            "a degree of {degree} is impossible: with {nodes} nodes, limits.connections_max = {} and limits.inbound_max = {}, it must be \
             from 1 to {most}, as with --set topology.degree={most}",
            limits.connections_max, limits.inbound_max
        );
        // Whoever gives no topology has given a limit that the usual one does not fit into.
        if manifest.usual_topology {
            return Err(Problem::new(&[Key("limits")], message));
        }
        Err(Problem::new(&at("degree"), message))
    };
    match &manifest.topology {
        Topology::Random { degree: links } => degree(*links),
        Topology::Regional { degree: links, near_percent } => {
            percent(f64::from(*near_percent), &at("near_percent"))?;
            degree(*links)
        }
        Topology::SmallWorld { degree: links, moved_percent } => {
            percent(*moved_percent, &at("moved_percent"))?;
            degree(*links)
        }
        Topology::File { path } if path.is_empty() => Err(Problem::new(&at("path"), "a path is missing")),
        Topology::File { .. } => Ok(()),
        Topology::Discovered { bootnodes, target_peers } => {
            if !(1..=manifest.nodes).contains(bootnodes) {
                let most = manifest.nodes;
                return Err(Problem::new(&at("bootnodes"), format!("there must be from 1 to {most} bootnodes")));
            }
            if !(1..=manifest.limits.connections_max).contains(target_peers) {
                let message = format!(
                    "the target must be from 1 to limits.connections_max = {}",
                    manifest.limits.connections_max
                );
                return Err(Problem::new(&at("target_peers"), message));
            }
            Ok(())
        }
    }
}

fn links(manifest: &Manifest) -> Checked {
    let links = &manifest.links;
    let at = |key| [Key("links"), Key(key)];
    if !(0.0..=50.0).contains(&links.loss_percent) {
        return Err(Problem::new(&at("loss_percent"), "a loss must be from 0 to 50 percent"));
    }
    for (key, rate) in
        [("uplink_mbit_per_s", links.uplink_mbit_per_s), ("downlink_mbit_per_s", links.downlink_mbit_per_s)]
    {
        if rate.is_some_and(|rate| !(0.01..=1e6).contains(&rate)) {
            let message = "a rate must be from 0.01 to 1000000 Mbit/s; leave the key out if nothing is to be limited";
            return Err(Problem::new(&at(key), message));
        }
    }
    if !(DEAD_AFTER_S_MIN..=SECONDS_MAX).contains(&links.dead_after_s) {
        let message = format!(
            "it must be from {DEAD_AFTER_S_MIN} to {SECONDS_MAX} s: sooner, working connections count as broken"
        );
        return Err(Problem::new(&at("dead_after_s"), message));
    }
    if let Some(window) = &links.window {
        let at = |key| [Key("links"), Key("window"), Key(key)];
        span(window.idle_ms / 1e3, &at("idle_ms"))?;
        if !(1..=1_000).contains(&window.initial_segments) {
            return Err(Problem::new(&at("initial_segments"), "a window must begin with 1 to 1000 segments"));
        }
        if window.bytes_max < u64::from(window.initial_segments) * 1_460 {
            return Err(Problem::new(&at("bytes_max"), "a window must not be smaller than what it begins with"));
        }
    }
    for (key, microseconds) in [
        ("rpc_us", manifest.cpu.rpc_us),
        ("input_us", manifest.cpu.input_us),
        ("signature_us", manifest.cpu.signature_us),
    ] {
        span(microseconds / 1e6, &[Key("cpu"), Key(key)])?;
    }
    if manifest.cpu.rpc_us == 0.0 && manifest.cpu.byte_ns == 0 {
        return Err(Problem::new(
            &[Key("cpu"), Key("rpc_us")],
            "a node is never infinitely fast; give rpc_us or byte_ns",
        ));
    }
    if manifest.cpu.byte_ns > BYTE_NS_MAX {
        let message = format!("a byte must take from 0 to {BYTE_NS_MAX} ns");
        return Err(Problem::new(&[Key("cpu"), Key("byte_ns")], message));
    }
    span(manifest.disk.latency_ms / 1e3, &[Key("disk"), Key("latency_ms")])?;
    positive(manifest.disk.mbyte_per_s, &[Key("disk"), Key("mbyte_per_s")])
}

fn blocks(manifest: &Manifest) -> Checked {
    let blocks = &manifest.blocks;
    if blocks.producers > manifest.nodes {
        let message = format!("there are only {} nodes to be producers", manifest.nodes);
        return Err(Problem::new(&[Key("blocks"), Key("producers")], message));
    }
    let attackers = manifest.attack.iter().filter(|some| some.has_producers());
    let keys = attackers.fold(blocks.producers as usize, |sum, some| sum.saturating_add(some.count as usize));
    if keys > PRODUCERS_MAX {
        let message =
            format!("{keys} producers, those of attackers included, and a network has {PRODUCERS_MAX} at most");
        return Err(Problem::new(&[Key("blocks"), Key("producers")], message));
    }
    let (first, last) = (SLOT_MS_RANGE.start(), SLOT_MS_RANGE.end());
    #[expect(clippy::cast_precision_loss, reason = "slots are far below 2^53 ms")]
    let range = *first as f64 / 1e3..=*last as f64 / 1e3;
    if !range.contains(&blocks.slot_s) {
        let message = format!("a slot must last from {} to {} s", range.start(), range.end());
        return Err(Problem::new(&[Key("blocks"), Key("slot_s")], message));
    }
    Ok(())
}

fn check_workload(manifest: &Manifest, workload: &Workload, path: &[Step]) -> Checked {
    let at = |key| [path, &[Key(key)]].concat();
    let (bytes, publishers, from_s, until_s) = match workload {
        Workload::Constant { per_s, bytes, publishers, from_s, until_s }
        | Workload::Poisson { per_s, bytes, publishers, from_s, until_s } => {
            if !(0.001..=1e6).contains(per_s) {
                return Err(Problem::new(&at("per_s"), "a rate must be from 0.001 to 1000000 messages a second"));
            }
            (bytes, publishers, from_s, until_s)
        }
        Workload::Bursts { every_s, messages, bytes, publishers, from_s, until_s } => {
            positive(*every_s, &at("every_s"))?;
            if *messages == 0 {
                return Err(Problem::new(&at("messages"), "a burst must have a message"));
            }
            (bytes, publishers, from_s, until_s)
        }
    };
    if *bytes > PAYLOAD_BYTES_MAX {
        return Err(Problem::new(&at("bytes"), format!("a payload must have at most {PAYLOAD_BYTES_MAX} bytes")));
    }
    match publishers {
        Publishers::Count(0) => return Err(Problem::new(&at("publishers"), "there must be a publisher")),
        Publishers::Count(_) => {}
        Publishers::Nodes(nodes) => exist(manifest, nodes, &at("publishers"))?,
    }
    span(*from_s, &at("from_s"))?;
    let load_s = manifest.time.load_s;
    match until_s {
        Some(until_s) if !(SECONDS_MIN..=load_s).contains(until_s) => {
            let message = format!("it must be after 0 and at most {load_s} s, when the load ends");
            Err(Problem::new(&at("until_s"), message))
        }
        Some(until_s) if *from_s >= *until_s => {
            let message = format!("nothing would be published: from_s = {from_s} must be before until_s = {until_s}");
            Err(Problem::new(&at("from_s"), message))
        }
        None if *from_s >= load_s => {
            let message = format!("nothing would be published: it must be before {load_s} s, when the load ends");
            Err(Problem::new(&at("from_s"), message))
        }
        _ => Ok(()),
    }
}

fn check_fault(manifest: &Manifest, fault: &Fault, path: &[Step]) -> Checked {
    let at = |key| [path, &[Key(key)]].concat();
    let (at_s, for_s) = fault.when();
    if !(0.0..total_s(manifest)).contains(&at_s) {
        let message = format!("a fault must begin from 0 s on and before {} s, when the run ends", total_s(manifest));
        return Err(Problem::new(&at("at_s"), message));
    }
    if let Some(for_s) = for_s {
        positive(for_s, &at("for_s"))?;
    }
    match fault {
        Fault::Partition { who: Who::All(true), .. } => Err(Problem::new(&at("who"), NOBODY_ELSE)),
        Fault::Partition { who: Who::Percent(share), .. } if count_of(*share, manifest.nodes) == manifest.nodes => {
            Err(Problem::new(&at("who"), NOBODY_ELSE))
        }
        Fault::Partition { who: Who::Nodes(named), .. } if distinct(named) == manifest.nodes => {
            exist(manifest, named, &at("who"))?;
            Err(Problem::new(&at("who"), NOBODY_ELSE))
        }
        Fault::Kill { who, .. }
        | Fault::Restart { who, .. }
        | Fault::Pause { who, .. }
        | Fault::Partition { who, .. } => check_who(manifest, who, &at("who")),
        Fault::Heal { .. } => Ok(()),
        Fault::Degrade { from, to, latency_ms, loss_percent, .. } => {
            check_who(manifest, from, &at("from"))?;
            check_who(manifest, to, &at("to"))?;
            if !(0.0..=LATENCY_MS_MAX).contains(latency_ms) {
                let message =
                    format!("what is added to a latency must be from 0 to {LATENCY_MS_MAX} ms; more is a partition");
                return Err(Problem::new(&at("latency_ms"), message));
            }
            if !(0.0..=50.0).contains(loss_percent) {
                return Err(Problem::new(&at("loss_percent"), "a loss must be from 0 to 50 percent"));
            }
            if duration(latency_ms / 1e3) == Duration::ZERO && ppm(*loss_percent) == 0 {
                let message =
                    "nothing becomes worse; give latency_ms, at least 0.001, or loss_percent, at least 0.0001";
                return Err(Problem::new(path, message));
            }
            if let (Who::Nodes(from), Who::Nodes(to)) = (from, to)
                && distinct(from) == 1
                && distinct(to) == 1
                && from[0] == to[0]
            {
                return Err(Problem::new(&at("to"), "no path has one node at both ends; name other nodes"));
            }
            Ok(())
        }
        Fault::Churn { percent_per_min, down_s, .. } => {
            if !(0.001..=6_000.0).contains(percent_per_min) {
                let message = "a rate of churn must be from 0.001 to 6000 percent a minute";
                return Err(Problem::new(&at("percent_per_min"), message));
            }
            if *down_s < DOWN_S_MIN {
                return Err(Problem::new(&at("down_s"), format!("a node must be down for at least {DOWN_S_MIN} s")));
            }
            positive(*down_s, &at("down_s"))
        }
        Fault::Clock { who, skew_s, .. } => {
            if !(-1e6..=1e6).contains(skew_s) {
                return Err(Problem::new(&at("skew_s"), "a clock must be off by at most 1000000 s"));
            }
            check_who(manifest, who, &at("who"))
        }
        Fault::SlowCpu { who, factor, .. } | Fault::SlowDisk { who, factor, .. } => {
            if !(0.001..=1e6).contains(factor) {
                return Err(Problem::new(&at("factor"), "a factor must be from 0.001 to 1000000"));
            }
            if permille(*factor) == 1_000 {
                return Err(Problem::new(&at("factor"), "with a factor of 1 nothing changes"));
            }
            check_who(manifest, who, &at("who"))
        }
    }
}

fn check_who(manifest: &Manifest, who: &Who, path: &[Step]) -> Checked {
    match who {
        Who::Nodes(nodes) => exist(manifest, nodes, path),
        Who::Percent(share) if !(*share > 0.0 && *share <= 100.0) => {
            Err(Problem::new(path, "a share must be above 0 and at most 100 percent"))
        }
        Who::Regions(regions) if regions.is_empty() => Err(Problem::new(path, "a region must be named")),
        Who::All(false) => Err(Problem::new(path, "write all = true, or name some of them")),
        Who::Percent(_) | Who::Regions(_) | Who::All(true) => Ok(()),
    }
}

fn check_attack(manifest: &Manifest, attackers: &Attackers, path: &[Step]) -> Checked {
    attackers.check(manifest.nodes as usize).map_err(|error| of_attackers(path, error.key(), &error))?;
    if !(0.0..total_s(manifest)).contains(&attackers.at_s) {
        let message = format!("attackers must come from 0 s on and before {} s, when the run ends", total_s(manifest));
        return Err(Problem::new(&[path, &[Key("at_s")]].concat(), message));
    }
    let needs_blocks = attackers.follow_the_chain() || attackers.kind == "withhold" && attackers.param("topic") == 1.0;
    if needs_blocks && manifest.blocks.producers == 0 {
        let message = "there are no blocks in this network; give blocks.producers, at least 1";
        return Err(Problem::new(&[path, &[Key("kind")]].concat(), message));
    }
    if matches!(&attackers.targets, Targets::Named(name) if name == "publishers") && manifest.workload.is_empty() {
        let message =
            "nobody publishes in this network, so nobody would be attacked; give a [[workload]], or other targets";
        return Err(Problem::new(&[path, &[Key("targets")]].concat(), message));
    }
    let (turn_s, age_s) = (attackers.param("turn_s"), attackers.param("age_s"));
    let param = |name| [path, &[Key("params"), Key(name)]].concat();
    if turn_s >= total_s(manifest) {
        let ends_s = total_s(manifest);
        let message = format!(
            "attackers turn after {turn_s} s, and the run ends after {ends_s} s: they would do no harm; give a smaller turn_s"
        );
        return Err(Problem::new(&param("turn_s"), message));
    }
    if attackers.kind == "replay" && attackers.at_s + age_s >= total_s(manifest) {
        let ends_s = total_s(manifest);
        let message = format!(
            "no message is {age_s} s old before the run ends, after {ends_s} s: nothing would be sent again; give a smaller age_s"
        );
        return Err(Problem::new(&param("age_s"), message));
    }
    Ok(())
}

/// What is wrong with the key of an attack, and with the parameter if it is one of `params`.
pub(super) fn of_attackers(
    path: &[Step],
    (key, param): (&'static str, Option<&str>),
    error: &impl ToString,
) -> Problem {
    let param = param.map(|param| Step::Word(param.to_owned()));
    Problem::new(&[path, &[Key(key)], param.as_slice()].concat(), error.to_string())
}

fn exist(manifest: &Manifest, nodes: &[u32], path: &[Step]) -> Checked {
    if nodes.is_empty() {
        return Err(Problem::new(path, "a node must be named"));
    }
    match nodes.iter().find(|node| **node >= manifest.nodes) {
        None => Ok(()),
        Some(node) => {
            let message = format!(
                "node {node} does not exist: the {} nodes are numbered from 0 to {}",
                manifest.nodes,
                manifest.nodes - 1
            );
            Err(Problem::new(path, message))
        }
    }
}

/// How long the run is.
pub(super) fn total_s(manifest: &Manifest) -> f64 {
    manifest.time.warm_up_s + manifest.time.load_s + manifest.time.drain_s
}

fn span(seconds: f64, path: &[Step]) -> Checked {
    if (0.0..=SECONDS_MAX).contains(&seconds) {
        return Ok(());
    }
    Err(Problem::new(path, "a time must not be negative, nor be longer than four months"))
}

fn positive(value: f64, path: &[Step]) -> Checked {
    if (SECONDS_MIN..=SECONDS_MAX).contains(&value) {
        return Ok(());
    }
    Err(Problem::new(path, format!("it must be from {SECONDS_MIN} to {SECONDS_MAX}")))
}

fn percent(value: f64, path: &[Step]) -> Checked {
    if (0.0..=100.0).contains(&value) {
        return Ok(());
    }
    Err(Problem::new(path, "a share must be from 0 to 100 percent"))
}

impl Fault {
    /// When it begins, and how long it lasts if that is said.
    pub(super) fn when(&self) -> (f64, Option<f64>) {
        match self {
            Self::Kill { at_s, for_s, .. }
            | Self::Partition { at_s, for_s, .. }
            | Self::Degrade { at_s, for_s, .. }
            | Self::SlowCpu { at_s, for_s, .. }
            | Self::SlowDisk { at_s, for_s, .. } => (*at_s, *for_s),
            Self::Restart { at_s, for_s, .. } | Self::Pause { at_s, for_s, .. } | Self::Churn { at_s, for_s, .. } => {
                (*at_s, Some(*for_s))
            }
            Self::Heal { at_s } | Self::Clock { at_s, .. } => (*at_s, None),
        }
    }
    /// Whom it concerns, if that is said in one key.
    pub(super) fn who(&self) -> Option<&Who> {
        match self {
            Self::Kill { who, .. }
            | Self::Restart { who, .. }
            | Self::Pause { who, .. }
            | Self::Partition { who, .. }
            | Self::Clock { who, .. }
            | Self::SlowCpu { who, .. }
            | Self::SlowDisk { who, .. } => Some(who),
            Self::Heal { .. } | Self::Degrade { .. } | Self::Churn { .. } => None,
        }
    }
}
