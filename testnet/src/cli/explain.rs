//! `starling-testnet explain`: the way of one message through a simulated network.
//!
//! The simulation is run once more, with every copy of the message written down: nothing had to be kept of it.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::folder::{FolderError, manifest, runs};
use super::sim::Bar;
use super::{BAD, GOOD, USAGE, failed};
use crate::report::format::milliseconds;
use crate::sim::World;
use crate::sim::observe::{Copy, Message, Reception};
use crate::sim::run::{advance, world};
use crate::wan::Bounds;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A folder that `sim` has written
    dir: PathBuf,
    /// The message's id, or what it begins with; they are in deliveries.csv
    #[arg(long, value_name = "ID", value_parser = hexadecimal)]
    message: String,
    /// Also tell the way to this node [default: only to the slowest one]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    node: Option<u32>,
}

fn hexadecimal(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    if !text.is_empty() && text.len() <= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text);
    }
    Err("an id has up to 40 hexadecimal digits".into())
}

pub(super) fn execute(arguments: &Explain) -> u8 {
    match explain(arguments) {
        Ok(Some(text)) => {
            crate::output::write(format_args!("{text}"));
            GOOD
        }
        Ok(None) => {
            note!(
                "no message whose id begins with {} was published; deliveries.csv has the ids, and `starling-testnet sim` tells the seed",
                arguments.message
            );
            BAD
        }
        Err(error) => failed(&error, USAGE),
    }
}

fn explain(arguments: &Explain) -> Result<Option<String>, FolderError> {
    for run in runs(&arguments.dir)? {
        if let Some(text) = in_run(&run, arguments)? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn in_run(dir: &Path, arguments: &Explain) -> Result<Option<String>, FolderError> {
    let manifest = manifest(dir)?;
    if let Some(node) = arguments.node.filter(|node| *node >= manifest.nodes) {
        let problem = format!("there is no node {node} in it: its {} nodes are numbered from 0", manifest.nodes);
        return Err(FolderError::Node { path: dir.to_owned(), problem });
    }
    let mut world = world(&manifest, dir)?;
    world.observer_mut().follow(&arguments.message);
    let bar = Bar::new();
    advance(&mut world, |_, _| {}, |progress| bar.show(progress));
    bar.finish();
    let id = world.observer().followed();
    let message = id.and_then(|id| world.observer().messages().iter().find(|message| message.id == id));
    Ok(message.map(|message| Way::of(&world, message).tell(arguments.node)))
}

/// All that is known of one message.
struct Way<'a> {
    world: &'a World,
    message: &'a Message,
    receptions: Vec<Reception>,
    copies: &'a [Copy],
    bounds: Bounds,
}

impl<'a> Way<'a> {
    fn of(world: &'a World, message: &'a Message) -> Self {
        let receptions = message.receptions().collect();
        let bounds = world.network().bounds();
        Self { world, message, receptions, copies: world.observer().copies(), bounds }
    }

    fn tell(&self, node: Option<u32>) -> String {
        let mut text = String::new();
        let message = self.message;
        let class = if message.is_block { "block" } else { "transaction" };
        let (origin, at_s) = (self.name(message.origin), message.published.as_micros() / 1_000);
        let id = message.id;
        line(
            &mut text,
            format_args!("{class} {id}, {} B of payload, published by {origin} at {at_s} ms", message.payload_bytes),
        );
        let mut arrivals: Vec<u32> = message.arrivals_us().collect();
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
                "half of them had it after {}, 99 % after {}, all after {}",
                ms(at(50)),
                ms(at(99)),
                ms(at(100))
            ),
        );
        let slowest = (0_u32..).zip(&self.receptions).filter_map(|(node, it)| Some((it.arrival_us?, node))).max();
        if let Some((_, slowest)) = slowest {
            line(&mut text, format_args!("\nThe way to the slowest node, {}:", self.name(slowest)));
            self.path(&mut text, slowest);
        }
        if let Some(node) = node {
            line(&mut text, format_args!("\nThe way to {}:", self.name(node)));
            self.path(&mut text, node);
        }
        text
    }

    /// Hop by hop from the origin to a node, and where the time went.
    fn path(&self, text: &mut String, node: u32) {
        let mut hops = vec![node];
        while let Some(from) = self.receptions[hops[hops.len() - 1] as usize].from
            && hops.len() <= self.receptions.len()
        {
            hops.push(from);
        }
        hops.reverse();
        if hops[0] != self.message.origin {
            line(text, format_args!("  it is not known who sent it to {}", self.name(hops[0])));
        }
        let (mut links_us, mut checks_us, mut waits_us, mut pulls) = (0_u64, 0_u64, 0_u64, 0);
        let mut left_us = 0;
        for hop in hops.windows(2) {
            let (from, to) = (hop[0], hop[1]);
            let reception = self.receptions[to as usize];
            let arrived_us = u64::from(reception.arrival_us.unwrap_or(0));
            let link_us = self.world.network().one_way_us(from as usize, to as usize);
            let sent_us = u64::from(self.receptions[from as usize].accepted_us.unwrap_or(0));
            let wait_us = arrived_us.saturating_sub(sent_us + link_us);
            (links_us, checks_us, waits_us) =
                (links_us + link_us, checks_us + sent_us.saturating_sub(left_us), waits_us + wait_us);
            pulls += usize::from(reception.pulled);
            let how = if reception.pulled { "pulled from" } else { "pushed by" };
            line(
                text,
                format_args!(
                    "  +{:>10}  {}, {how} {}: {} after its check; the link takes {}, queues, jitter and computing {}; copy 1 of {}",
                    milliseconds(arrived_us),
                    self.name(to),
                    self.name(from),
                    milliseconds(arrived_us.saturating_sub(sent_us)),
                    milliseconds(link_us),
                    milliseconds(wait_us),
                    reception.copies
                ),
            );
            left_us = arrived_us;
        }
        let Some(total_us) = self.receptions[node as usize].arrival_us else {
            return line(text, format_args!("  it never came"));
        };
        let bound_us = self.bounds.least_us(self.message.origin as usize, node as usize);
        line(
            text,
            format_args!(
                "  {} hop{} in {}: {} on links, {} in checks, {} in queues, jitter and computing; nothing can be faster than {}",
                hops.len() - 1,
                if hops.len() == 2 { "" } else { "s" },
                ms(total_us),
                milliseconds(links_us),
                milliseconds(checks_us),
                milliseconds(waits_us),
                milliseconds(bound_us)
            ),
        );
        let detour_us = links_us.saturating_sub(bound_us);
        let causes = [
            (detour_us, "the links that it took lead round about"),
            (checks_us, "the nodes on its way took long to check it"),
            (waits_us, if pulls > 0 { "it waited for an announcement and a request" } else { "it waited in queues" }),
        ];
        if let Some((most_us, cause)) = causes.into_iter().max_by_key(|(us, _)| *us) {
            line(text, format_args!("  most of the rest: {cause} ({})", milliseconds(most_us)));
        }
        let copies: Vec<&Copy> = self.copies.iter().filter(|copy| copy.node == node).collect();
        for copy in copies.iter().skip(1).take(12) {
            let after_us = copy.at.as_micros().saturating_sub(self.message.published.as_micros());
            let from = copy.from.map_or_else(|| "somebody".to_owned(), |from| self.name(from));
            line(text, format_args!("  +{:>10}  a further copy from {from}", milliseconds(after_us)));
        }
    }

    fn name(&self, node: u32) -> String {
        let width = (self.receptions.len() - 1).to_string().len().max(2);
        format!("n{node:0width$} ({})", self.world.network().region_name(node as usize))
    }
}

fn ms(time_us: u32) -> String {
    milliseconds(u64::from(time_us))
}

fn line(text: &mut String, line: fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string");
}
