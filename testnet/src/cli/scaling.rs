//! `starling-testnet sim scaling`: what becomes of latency and hops as the network grows.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::folder::{FolderError, make_empty, out_folder};
use super::sim::{Bar, set_words};
use super::{BAD, GOOD, USAGE, failed};
use crate::manifest::Manifest;
use crate::report::Manifest as Facts;
use crate::report::format::{bytes, float};
use crate::report::scaling::{Size, csv, page, table};
use crate::sim::memory::fits;
use crate::sim::run::simulate;

pub(super) const EXAMPLES: &str = "Examples:
  starling-testnet sim scaling
  starling-testnet sim scaling --nodes-max 1000 --set links.profile=flat

Sizes are 100, 200, 500, 1000, 2000, 5000 and 10000 nodes, as far as --nodes-max goes.
Exit codes: 0 every transaction came to every node, with every size; 1 not so, or the results cannot be written; 2 usage.";

#[derive(Debug, Args)]
pub(super) struct Scaling {
    /// The largest network; at most 10000
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=10_000))]
    nodes_max: u32,
    /// The seed
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=i64::MAX.unsigned_abs()))]
    seed: u64,
    /// Set a value of the preset `scale` by its dotted path; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder for the results, new or empty [default: a new one under testnet-runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Sizes in steps of 1, 2 and 5.
const SIZES: [u32; 7] = [100, 200, 500, 1_000, 2_000, 5_000, 10_000];

pub(super) fn scaling(arguments: &Scaling) -> u8 {
    match run(arguments) {
        Ok(true) => GOOD,
        Ok(false) => BAD,
        Err(error @ FolderError::Io { .. }) => failed(&error, BAD),
        Err(error) => failed(&error, USAGE),
    }
}

/// An option of the command that says what is set by this, if there is one.
fn option_for(assignment: &str) -> Option<&'static str> {
    match assignment.split_once('=')?.0.trim() {
        "nodes" => Some("--nodes-max"),
        "seed" => Some("--seed"),
        _ => None,
    }
}

/// Whether every transaction came to every node, in networks of every size.
fn run(arguments: &Scaling) -> Result<bool, FolderError> {
    if let Some((assignment, option)) = arguments.set.iter().find_map(|set| Some((set, option_for(set)?))) {
        return Err(FolderError::Option { assignment: assignment.clone(), option });
    }
    let (preset, base) = Manifest::named("scale")?;
    let manifest = Manifest { seed: arguments.seed, ..preset.with(&arguments.set)? };
    let out = out_folder(arguments.out.as_deref(), &format!("scaling-seed-{}", arguments.seed));
    let sized = SIZES.into_iter().filter(|nodes| *nodes <= arguments.nodes_max);
    let sized = sized.map(|nodes| Ok((nodes, manifest.with(&[format!("nodes={nodes}")])?)));
    let sized: Vec<(u32, Manifest)> = sized.collect::<Result<_, FolderError>>()?;
    for (nodes, manifest) in &sized {
        let fitting = fits(manifest, &base, 1);
        if fitting.is_err() {
            note!("with {nodes} nodes; --nodes-max takes less:");
        }
        fitting?;
    }
    make_empty(&out)?;
    let mut sizes = Vec::new();
    let mut good = true;
    let mut facts = String::new();
    for (nodes, manifest) in sized {
        let bar = Bar::new();
        let simulated = simulate(&manifest, &base, false, |progress| bar.show(progress))?;
        bar.finish();
        note!("{nodes} nodes simulated");
        simulated.findings.iter().for_each(|finding| note!("{nodes} nodes: {finding}"));
        if good && !simulated.findings.is_empty() {
            let set = set_words(&arguments.set);
            note!("again: starling-testnet sim scale --nodes {nodes} --seed {}{set}", arguments.seed);
            good = false;
        }
        sizes.push(Size::of(&simulated.run));
        facts = in_common(&simulated.run.manifest);
    }
    say!("{}", table(&sizes));
    for (name, content) in [("scaling.csv", csv(&sizes)), ("report.html", page(&sizes, &facts))] {
        let path = out.join(name);
        fs::write(&path, content).map_err(|source| FolderError::Io { path, source })?;
    }
    say!("report           {}", out.join("report.html").display());
    Ok(good)
}

/// What networks of all sizes have in common.
fn in_common(manifest: &Facts) -> String {
    format!(
        "{} connections sought by each node · {} profile · {} transactions of {} payload a second for {} s · seed {} · {} · {}",
        manifest.network.target_peers,
        manifest.network.profile,
        manifest.load.tx_rate,
        bytes(float(manifest.load.tx_bytes as u64)),
        manifest.load.duration_s,
        manifest.seed,
        manifest.started,
        manifest.command.join(" "),
    )
}
