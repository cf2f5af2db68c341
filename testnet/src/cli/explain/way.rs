//! All that is known of one message of a simulation, in words.

use std::fmt::{self, Write};

use super::kept::{Kept, Stretch};
use crate::report::format::milliseconds;
use crate::sim::World;
use crate::sim::observe::{Copy, Message, Reception};
use crate::wan::Bounds;

/// Nodes that are named of those that a message never came to.
const NAMED_MAX: usize = 8;

/// Further copies that are listed for a node.
const COPIES_LISTED_MAX: usize = 12;

/// All that is known of one message.
pub(super) struct Way<'a> {
    world: &'a World,
    message: &'a Message,
    receptions: Vec<Reception>,
    copies: &'a [Copy],
    bounds: Bounds,
    kept: Vec<Kept>,
}

/// What took the time on a way, in microseconds.
#[derive(Default)]
struct Spent {
    links_us: u64,
    checks_us: u64,
    faults_us: u64,
    /// Until what paths lose without any fault was sent again.
    losses_us: u64,
    /// Until a copy that was pulled had been announced and asked for.
    pulls_us: u64,
    queues_us: u64,
    /// The fault or loss that took most, in words.
    most: Option<(u64, String)>,
}

/// When a message came last, in microseconds since its publication, and to which node.
pub(super) fn slowest(message: &Message) -> Option<(u32, u32)> {
    // An origin that was restarted may get its own message back.
    let others = (0_u32..).zip(message.receptions()).filter(|(node, _)| *node != message.origin);
    others.filter_map(|(node, reception)| Some((reception.arrival_us?, node))).max()
}

/// What a message is, who published it and when.
pub(super) fn heading(world: &World, message: &Message) -> String {
    let class = if message.is_block { "block" } else { "transaction" };
    format!(
        "{class} {}, {} B of payload, published by {} at {} ms",
        message.id,
        message.payload_bytes,
        name(world, message.origin),
        message.published.as_micros() / 1_000
    )
}

impl<'a> Way<'a> {
    pub(super) fn of(world: &'a World, message: &'a Message) -> Self {
        let receptions = message.receptions().collect();
        let (bounds, observer) = (world.network().bounds(), world.observer());
        let kept = Kept::all(world.scenario(), observer.losses());
        Self { world, message, receptions, copies: observer.copies(), bounds, kept }
    }

    /// The message, the way to its slowest node, and the way to another one.
    pub(super) fn tell(&self, node: Option<u32>) -> String {
        let mut text = String::new();
        line(&mut text, format_args!("{}", heading(self.world, self.message)));
        let mut arrivals: Vec<u32> = self.message.arrivals_us().collect();
        arrivals.sort_unstable();
        let pulled = self.receptions.iter().filter(|it| it.arrival_us.is_some() && it.pulled).count();
        let in_block = self.receptions.iter().filter(|it| it.arrival_us.is_none() && it.in_block_us.is_some()).count();
        let others = self.receptions.len() - 1;
        line(
            &mut text,
            format_args!(
                "{} of {others} other nodes: {} pushed eagerly, {pulled} pulled after an announcement; {in_block} more saw it only in a \
                 block; {} further copies",
                arrivals.len(),
                arrivals.len() - pulled,
                self.copies.iter().filter(|copy| copy.pulled.is_none()).count()
            ),
        );
        let at =
            |percent: usize| arrivals.get((arrivals.len() * percent).div_ceil(100).max(1) - 1).copied().unwrap_or(0);
        line(
            &mut text,
            format_args!(
                "half of these had it after {}, 99 % after {}, the last one after {}",
                ms(at(50)),
                ms(at(99)),
                ms(at(100))
            ),
        );
        let without = self.without();
        if let Some(first) = without.first() {
            let names: Vec<String> = without.iter().take(NAMED_MAX).map(|node| self.name(*node)).collect();
            let more = if without.len() > NAMED_MAX { ", …" } else { "" };
            line(&mut text, format_args!("it never came to {} of them: {}{more}", without.len(), names.join(", ")));
            line(&mut text, format_args!("\nThe way to {}:", self.name(*first)));
            self.path(&mut text, *first);
        }
        if let Some((_, slowest)) = slowest(self.message) {
            line(&mut text, format_args!("\nThe way to the slowest node, {}:", self.name(slowest)));
            self.path(&mut text, slowest);
        }
        if let Some(node) = node.filter(|node| without.first() != Some(node)) {
            line(&mut text, format_args!("\nThe way to {}:", self.name(node)));
            self.path(&mut text, node);
        }
        text
    }

    /// Hop by hop from the origin to a node, and where the time went.
    fn path(&self, text: &mut String, node: u32) {
        if node == self.message.origin {
            return line(text, format_args!("  it published the message"));
        }
        let reception = self.receptions[node as usize];
        let Some(total_us) = reception.arrival_us else {
            return match reception.in_block_us {
                Some(in_block_us) => line(
                    text,
                    format_args!("  it never came over the mesh; a block brought it after {}", ms(in_block_us)),
                ),
                None => line(text, format_args!("  it never came{}", self.prevented(node))),
            };
        };
        let hops = self.hops(text, node);
        let mut spent = Spent::default();
        for hop in hops.windows(2) {
            self.hop(text, (hop[0], hop[1]), &mut spent);
        }
        self.sum(text, (node, hops.len() - 1), (total_us, spent));
        let copies: Vec<&Copy> = self.copies.iter().filter(|copy| copy.node == node).collect();
        for copy in copies.iter().skip(1).take(COPIES_LISTED_MAX) {
            let after_us = copy.at.as_micros().saturating_sub(self.message.published.as_micros());
            let from = copy.from.map_or_else(|| "somebody".to_owned(), |from| self.name(from));
            line(text, format_args!("  +{:>10}  a further copy from {from}", milliseconds(after_us)));
        }
    }

    /// The other nodes that never had it, not in a block either.
    fn without(&self) -> Vec<u32> {
        let all = (0_u32..).zip(&self.receptions);
        let without = all.filter(|(_, it)| it.arrival_us.is_none() && it.in_block_us.is_none());
        without.map(|(node, _)| node).filter(|node| *node != self.message.origin).collect()
    }

    /// What kept the message from a node that never had it.
    fn prevented(&self, node: u32) -> String {
        let origin = self.message.origin;
        let (begin_us, end_us) = (self.message.published.as_micros(), self.world.scenario().end().as_micros());
        let link_us = self.world.network().one_way_us(origin as usize, node as usize);
        let stretch = Stretch { nodes: (origin, node), begin_us, end_us, link_us, crossings: 1 };
        let (from, to) = (self.name(origin), self.name(node));
        let faults = Kept::most(&self.kept, &stretch).filter(|share| share.kept.is_fault());
        let words = faults.map(|share| {
            let words = share.kept.of(&from, &to, |node| self.name(node));
            format!("; {words}, {} of the {} until the end", milliseconds(share.us), milliseconds(end_us - begin_us))
        });
        words.collect()
    }

    /// The nodes on the way to one, as far back as it is known; says so if that is not back to the origin.
    fn hops(&self, text: &mut String, node: u32) -> Vec<u32> {
        let mut hops = vec![node];
        let mut first = node;
        while first != self.message.origin && hops.len() <= self.receptions.len() {
            let Some(from) = self.receptions[first as usize].from else {
                let name = self.name(first);
                match self.receptions[first as usize].in_block_us.filter(|_| hops.len() > 1) {
                    Some(us) => line(text, format_args!("  +{:>10}  a block brought it to {name}", ms(us))),
                    None => line(text, format_args!("  it is not known who sent it to {name}")),
                }
                break;
            };
            if from as usize >= self.receptions.len() {
                line(text, format_args!("  {} sent it to {}", self.name(from), self.name(first)));
                break;
            }
            hops.push(from);
            first = from;
        }
        hops.reverse();
        hops
    }

    /// One hop, and what took the time between the coming of the message to its sender and to its receiver.
    fn hop(&self, text: &mut String, (from, to): (u32, u32), spent: &mut Spent) {
        let (sender, reception) = (self.receptions[from as usize], self.receptions[to as usize]);
        let is_origin = from == self.message.origin;
        let published_us = self.message.published.as_micros();
        let (came_us, sent_us) = if is_origin {
            (0, 0)
        } else {
            let came_us = u64::from(sender.arrival_us.or(sender.in_block_us).unwrap_or(0));
            (came_us, sender.accepted_us.map_or(came_us, u64::from))
        };
        let arrived_us = u64::from(reception.arrival_us.unwrap_or(0));
        let link_us = self.world.network().one_way_us(from as usize, to as usize);
        let wait_us = arrived_us.saturating_sub(sent_us + link_us);
        let check_us = sent_us.saturating_sub(came_us);
        let (begin_us, end_us) = (published_us + sent_us, published_us + arrived_us);
        // A node that pulls was told of the message and asked for it before.
        let crossings = if reception.pulled { 3 } else { 1 };
        let wait = Stretch { nodes: (from, to), begin_us, end_us, link_us, crossings };
        let check = Stretch { nodes: (from, from), begin_us: published_us + came_us, end_us: begin_us, ..wait };

        let (mut faults, mut lefts_us) = (String::new(), [check_us, wait_us]);
        for (stretch, left_us) in [check, wait].iter().zip(&mut lefts_us) {
            for share in Kept::most(&self.kept, stretch) {
                let us = share.us.min(*left_us);
                if us == 0 {
                    continue;
                }
                *left_us -= us;
                let words = share.kept.of(&self.name(from), &self.name(to), |node| self.name(node));
                write!(faults, "; {words}, {} of the time", milliseconds(us)).expect("writing to a string");
                if share.kept.is_fault() {
                    spent.faults_us += us;
                } else {
                    spent.losses_us += us;
                }
                if spent.most.as_ref().is_none_or(|(most_us, _)| *most_us < us) {
                    spent.most = Some((us, words));
                }
            }
        }
        let [checks_us, left_us] = lefts_us;
        spent.links_us += link_us;
        spent.checks_us += checks_us;
        if reception.pulled {
            spent.pulls_us += left_us;
        } else {
            spent.queues_us += left_us;
        }
        let how = if reception.pulled { "pulled from" } else { "pushed by" };
        let (sender, receiver) = (self.name(from), self.name(to));
        let since = if is_origin { "published" } else { "had accepted" };
        let rest =
            if reception.pulled { "until it was announced and asked for" } else { "in queues, jitter and computing" };
        line(
            text,
            format_args!(
                "  +{:>10}  {receiver}, {how} {sender}: {} after that one {since} it; the link takes {}{faults}; {} {rest}; copy 1 of {}",
                milliseconds(arrived_us),
                milliseconds(arrived_us.saturating_sub(sent_us)),
                milliseconds(link_us),
                milliseconds(left_us),
                reception.copies
            ),
        );
    }

    fn sum(&self, text: &mut String, (node, hops): (u32, usize), (total_us, spent): (u32, Spent)) {
        let bound_us = self.bounds.least_us(self.message.origin as usize, node as usize);
        let mut parts = vec![
            format!("{} on links", milliseconds(spent.links_us)),
            format!("{} in checks", milliseconds(spent.checks_us)),
        ];
        if spent.faults_us > 0 {
            parts.push(format!("{} by faults", milliseconds(spent.faults_us)));
        }
        if spent.losses_us > 0 {
            parts.push(format!("{} by losses", milliseconds(spent.losses_us)));
        }
        if spent.pulls_us > 0 {
            parts.push(format!("{} until it was announced and asked for", milliseconds(spent.pulls_us)));
        }
        parts.push(format!("{} in queues, jitter and computing", milliseconds(spent.queues_us)));
        line(
            text,
            format_args!(
                "  {hops} hop{} in {}: {}; nothing can be faster than {}",
                if hops == 1 { "" } else { "s" },
                ms(total_us),
                parts.join(", "),
                milliseconds(bound_us)
            ),
        );
        let (fault_us, fault) = spent.most.unwrap_or_default();
        let causes = [
            (spent.links_us.saturating_sub(bound_us), "the links that it took lead round about"),
            (spent.checks_us, "the nodes on its way took long to check it"),
            (fault_us, &*fault),
            (spent.pulls_us, "it was not pushed, and had to be announced and asked for"),
            (spent.queues_us, "queues, jitter and computing"),
        ];
        if let Some((most_us, cause)) = causes.into_iter().max_by_key(|(us, _)| *us).filter(|(us, _)| *us > 0) {
            line(text, format_args!("  most of the rest: {cause} ({})", milliseconds(most_us)));
        }
    }

    fn name(&self, node: u32) -> String {
        name(self.world, node)
    }
}

/// A node's name and region; attackers, whose numbers come after those of nodes, have no names.
fn name(world: &World, node: u32) -> String {
    let nodes = world.scenario().nodes;
    if node as usize >= nodes {
        return "an attacker".to_owned();
    }
    let width = (nodes - 1).to_string().len().max(2);
    format!("n{node:0width$} ({})", world.network().region_name(node as usize))
}

fn ms(time_us: u32) -> String {
    milliseconds(u64::from(time_us))
}

fn line(text: &mut String, line: fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string");
}
