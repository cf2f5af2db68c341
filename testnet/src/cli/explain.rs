//! `starling-testnet explain`: the way of one message through a simulated network.
//!
//! The simulation is run once more, with every copy of the message written down: nothing had to be kept of it. Where no message is named it is
//! run twice, the first time to find the slowest one.

mod kept;
mod way;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::folder::{FolderError, is_simulation, runs, simulation};
use super::sim::Bar;
use super::{BAD, GOOD, USAGE, failed};
use crate::manifest::{Manifest, ManifestError};
use crate::measure::{Class, Window};
use crate::sim::World;
use crate::sim::memory::fits;
use crate::sim::observe::Message;
use crate::sim::run::{advance, world};
use starling_protocol::time::Time;
use way::Way;

pub(super) const EXAMPLES: &str = "Examples:
  starling-testnet explain testnet-runs/before                   the slowest message
  starling-testnet explain testnet-runs/before --message 203cbf8c --node n05

Ids are the first column of deliveries.csv in the folder.
Exit codes: 0 explained; 1 no such message was published; 2 usage, which includes a folder of processes or of several seeds, and the \
beginning of several ids.";

/// How many messages are listed of those that may be meant.
const LISTED_MAX: usize = 10;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A folder that `sim` has written; of several seeds, the folder of one
    dir: PathBuf,
    /// The message's id, or what it begins with [default: the message that took longest to reach a node]
    #[arg(long, value_name = "ID", value_parser = hexadecimal)]
    message: Option<String>,
    /// Also tell the way to this node, such as 5 or n05 [default: only to the slowest one]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = node)]
    node: Option<u32>,
}

fn hexadecimal(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    if !text.is_empty() && text.len() <= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text);
    }
    Err("an id has up to 40 hexadecimal digits; leave --message out for the slowest message".into())
}

/// A node's number, or its name as it stands in reports.
fn node(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix('n').unwrap_or(text);
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok());
    number.flatten().ok_or_else(|| "write a node's number, such as 5, or its name, such as n05".to_owned())
}

/// Why nothing is explained.
#[derive(Debug, thiserror::Error)]
enum Unexplained {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("{0}")]
    Unknown(String),
    #[error("{0}")]
    Several(String),
}

impl From<ManifestError> for Unexplained {
    fn from(error: ManifestError) -> Self {
        Self::Folder(error.into())
    }
}

pub(super) fn execute(arguments: &Explain) -> u8 {
    match explain(arguments) {
        Ok(text) => {
            crate::output::write(format_args!("{text}"));
            GOOD
        }
        Err(error @ Unexplained::Unknown(_)) => failed(&error, BAD),
        Err(error) => failed(&error, USAGE),
    }
}

fn explain(arguments: &Explain) -> Result<String, Unexplained> {
    let dir = one_run(&arguments.dir)?;
    let (manifest, summary) = simulation(&dir)?;
    if let Some(node) = arguments.node.filter(|node| *node >= manifest.nodes) {
        let problem = format!("there is no node {node} in it: its {} nodes are numbered from 0", manifest.nodes);
        return Err(FolderError::Refused { path: dir, problem }.into());
    }
    fits(&manifest, &dir, 1)?;
    let prefix = match &arguments.message {
        Some(prefix) => prefix.clone(),
        None => slowest(&manifest, &dir)?,
    };
    let mut world = world(&manifest, &dir)?;
    world.observer_mut().follow(&prefix);
    run(&mut world);
    let trace = world.trace().to_string();
    if let Some(before) = summary.get("trace_hash").and_then(|hash| hash.as_str()).filter(|before| *before != trace) {
        note!(
            "this is another run than the one in {}: its trace is {trace}, the folder's is {before}; scenario.toml was changed, or the program was",
            dir.display()
        );
    }
    let messages = world.observer().messages().iter();
    let meant: Vec<&Message> = messages.filter(|message| message.id.to_string().starts_with(&prefix)).collect();
    match &*meant {
        [] => Err(Unexplained::Unknown(unknown(&dir, &prefix))),
        [message] => Ok(Way::of(&world, message).tell(arguments.node)),
        several => Err(Unexplained::Several(list(&world, several, &prefix))),
    }
}

/// The folder of the only run in a folder: messages of several seeds have nothing to do with each other.
fn one_run(dir: &Path) -> Result<PathBuf, FolderError> {
    let mut runs = runs(dir)?;
    if runs.len() == 1 {
        return Ok(runs.remove(0));
    }
    let example = runs.iter().find(|run| is_simulation(run)).unwrap_or(&runs[0]);
    let problem = format!("there are {} runs in it; name the folder of one, such as {}", runs.len(), example.display());
    Err(FolderError::Refused { path: dir.to_owned(), problem })
}

fn run(world: &mut World) {
    let bar = Bar::new();
    advance(world, |_, _| {}, |progress| bar.show(progress));
    bar.finish();
}

/// The id of the message that took longest to reach a node, of those that count in the report.
fn slowest(manifest: &Manifest, dir: &Path) -> Result<String, Unexplained> {
    let mut world = world(manifest, dir)?;
    run(&mut world);
    let scenario = world.scenario();
    let load_start = Time::ZERO + scenario.warm_up;
    let window = Window {
        load_start_us: load_start.as_micros(),
        load_end_us: (load_start + scenario.duration).as_micros(),
        drain_end_us: scenario.end().as_micros(),
    };
    let class = |message: &Message| if message.is_block { Class::Block } else { Class::Transaction };
    let counted = world.observer().messages().iter();
    let counted = counted.filter(|message| window.counts(class(message), message.published.as_micros()));
    let latest = counted.filter_map(|message| Some((way::slowest(message)?, message.id))).max();
    let (_, id) = latest.ok_or_else(|| {
        Unexplained::Unknown(format!("no message reached another node over the mesh in {}", dir.display()))
    })?;
    Ok(id.to_string())
}

fn unknown(dir: &Path, prefix: &str) -> String {
    let table = dir.join("deliveries.csv");
    let ids = if table.is_file() {
        format!("ids are the first column of {}", table.display())
    } else {
        "deliveries.csv, which lists the ids, is not there, as it is left out beyond two million deliveries".to_owned()
    };
    let dir = dir.display();
    format!(
        "no message whose id begins with {prefix} was published in {dir}; {ids}; without --message the slowest message is explained"
    )
}

fn list(world: &World, messages: &[&Message], prefix: &str) -> String {
    let mut text =
        format!("the ids of {} messages begin with {prefix}; give more of the one that is meant:", messages.len());
    for message in messages.iter().take(LISTED_MAX) {
        write!(text, "\n  {}", way::heading(world, message)).expect("writing to a string");
    }
    if messages.len() > LISTED_MAX {
        write!(text, "\n  and {} more", messages.len() - LISTED_MAX).expect("writing to a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_number_or_a_name() {
        assert_eq!((node("5"), node("n05"), node("0012")), (Ok(5), Ok(5), Ok(12)));
        for wrong in ["", "n", "-5", "+5", "nn5", "node5", "99999999999"] {
            assert!(node(wrong).is_err_and(|error| error.contains("n05")), "{wrong}");
        }
    }
}
