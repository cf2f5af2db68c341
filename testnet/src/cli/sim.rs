//! `starling-testnet sim`: simulating a manifest.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::folder::{self, FolderError, make_empty, out_folder};
use super::scaling::{Scaling, scaling};
use super::{BAD, GOOD, USAGE, compare, failed};
use crate::host;
use crate::manifest::{Manifest, PRESETS, RANDOM, schema};
use crate::report::format::grouped;
use crate::report::terminal;
use crate::sim::memory::fits;
use crate::sim::run::{Progress, Simulated, lasting_partition, simulate};
use crate::unwind::caught;

pub(super) const EXAMPLES: &str = "Examples:
  starling-testnet sim quick
  starling-testnet sim scale --nodes 10000
  starling-testnet sim my.toml --seeds 1..8 --set links.loss_percent=2 --out results
  starling-testnet sim partition --set fault.0.for_s=10
  starling-testnet sim scaling --nodes-max 5000

Exit codes: 0 every node that runs at the end got every transaction, over the mesh or in a block (also in one that it \
fetched later), and all of them agree about the chain; 1 not so, or the results cannot be written; 2 usage.";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Sim {
    #[command(subcommand)]
    special: Option<Special>,
    /// The path of a manifest, or the name of a preset
    scenario: Option<String>,
    /// Name the presets
    #[arg(long)]
    list: bool,
    /// Print the JSON schema of manifests
    #[arg(long)]
    schema: bool,
    /// How many nodes, in place of what the manifest or --set says
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    nodes: Option<u32>,
    /// The seed, in place of the manifest's
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with = "seeds", value_parser = seed)]
    seed: Option<u64>,
    /// Several seeds, from A to B, both included; each gets a folder of its own
    #[arg(long, value_name = "A..B", value_parser = range)]
    seeds: Option<Seeds>,
    /// Set a value of the manifest by its dotted path; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder for the results, new or empty [default: a new one under testnet-runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Watch all the time that nothing happens that never must: takes several times as long
    #[arg(long)]
    check: bool,
    /// How many seeds run at the same time [default: as many as there are processors]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum Special {
    /// Simulate networks of growing size: hops and times to half, nearly all and all nodes
    #[command(after_long_help = super::scaling::EXAMPLES)]
    Scaling(Scaling),
}

/// Seeds from the first to the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeds(u64, u64);

/// More seeds than this at once are surely a mistake.
const SEEDS_MAX: u64 = 10_000;

fn count(text: &str) -> Result<u32, String> {
    let most = crate::manifest::NODES_MAX;
    text.parse()
        .ok()
        .filter(|nodes| (2..=most).contains(nodes))
        .ok_or_else(|| format!("write a whole number from 2 to {most}"))
}

fn seed(text: &str) -> Result<u64, String> {
    let seed = text.parse::<u64>().ok().filter(|seed| *seed <= i64::MAX.unsigned_abs());
    seed.ok_or_else(|| format!("write a whole number from 0 to {}", i64::MAX))
}

fn range(text: &str) -> Result<Seeds, String> {
    let ends = text.split_once("..").and_then(|(first, last)| Some((seed(first).ok()?, seed(last).ok()?)));
    let (first, last) = ends.ok_or("write the first and the last seed, such as 1..8")?;
    match last.checked_sub(first) {
        Some(more) if more < SEEDS_MAX => Ok(Seeds(first, last)),
        Some(_) => Err(format!("at most {SEEDS_MAX} seeds can be run at once")),
        None => Err("the first seed must not be above the last".into()),
    }
}

impl Sim {
    /// The seeds to be run.
    pub(super) fn seeds(&self, usual: u64) -> Vec<u64> {
        match (self.seed, self.seeds) {
            (_, Some(Seeds(first, last))) => (first..=last).collect(),
            (Some(seed), None) => vec![seed],
            (None, None) => vec![usual],
        }
    }

    /// What is set in the manifest. An option of its own wins over `--set`, as with the seed.
    fn assignments(&self) -> Vec<String> {
        let is_nodes = |assignment: &str| assignment.split_once('=').is_some_and(|(key, _)| key.trim() == "nodes");
        let set = self.set.iter().filter(|assignment| self.nodes.is_none() || !is_nodes(assignment));
        self.nodes.map(|nodes| format!("nodes={nodes}")).into_iter().chain(set.cloned()).collect()
    }
}

pub(super) fn execute(sim: &Sim) -> u8 {
    if let Some(Special::Scaling(arguments)) = &sim.special {
        return scaling(arguments);
    }
    if sim.list {
        let width = PRESETS.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
        for preset in PRESETS {
            let about = Manifest::parse(preset.text, preset.name).map(|manifest| manifest.about).unwrap_or_default();
            say!("{:width$}  {about}", preset.name);
        }
        say!(
            "{RANDOM:width$}  a small network, faults and attackers drawn from the seed, and time to recover; to be run with --check"
        );
        return GOOD;
    }
    if sim.schema {
        crate::output::write(format_args!("{}", schema()));
        return GOOD;
    }
    let Some(scenario) = &sim.scenario else {
        return failed(
            &"no scenario is given: name a manifest or a preset, which `starling-testnet sim --list` lists",
            USAGE,
        );
    };
    match run(sim, scenario) {
        Ok(code) => code,
        Err(error @ FolderError::Io { .. }) => failed(&error, BAD),
        Err(error) => failed(&error, USAGE),
    }
}

fn run(sim: &Sim, scenario: &str) -> Result<u8, FolderError> {
    let set = sim.assignments();
    let as_it_is = set.is_empty() && sim.seed.is_none() && sim.seeds.is_none();
    let (manifest, base) = if as_it_is { Manifest::named(scenario) } else { Manifest::named_to_be_set(scenario) }?;
    let random = scenario == RANDOM;
    // What else can be set is decided by what each seed draws.
    let at_once = set.iter().filter(|assignment| !random || assignment.trim_start().starts_with("seed="));
    let manifest = manifest.with(&at_once.cloned().collect::<Vec<_>>())?;
    let seeds = sim.seeds(manifest.seed);
    let out = out_folder(sim.out.as_deref(), &format!("sim-{}-seed-{}", manifest.name, seeds[0]));
    let several = seeds.len() > 1;
    let jobs = sim.jobs.map_or_else(host::cores, usize::from).min(seeds.len()).max(1);
    // Whatever is wrong with the manifest is said before anything is written, and whatever is wrong with the folder before anything is
    // computed.
    let work = Work { manifest: &manifest, random, set: &set, base: &base, jobs, check: sim.check };
    let mut lasting = Vec::new();
    for seed in &seeds {
        let fitting = work.manifest(*seed).and_then(|manifest| {
            fits(&manifest, &base, jobs)?;
            Ok(lasting_partition(&manifest))
        });
        if several && fitting.is_err() {
            note!("with seed {seed}:");
        }
        lasting.extend(fitting?);
    }
    make_empty(&out)?;
    lasting.dedup();
    for words in lasting {
        note!("{words}");
    }
    let folder = |seed: u64| if several { out.join(format!("seed-{seed}")) } else { out.clone() };
    let bar = Bar::for_runs(seeds.len());
    let begin = |seed: u64, manifest: &Manifest| {
        make_empty(&folder(seed))?;
        folder::keep_scenario(&folder(seed), manifest, &base)
    };
    let results = work.each_seed(&seeds, &bar, begin, |seed, simulated| folder::write(&folder(seed), simulated));
    bar.finish();
    let results = results?;
    if manifest.workload.is_empty() && manifest.blocks.producers == 0 && scenario != RANDOM {
        note!("nothing was published: the manifest has neither a [[workload]] nor producers in [blocks]");
    }
    let mut failed = None;
    for (seed, ran) in &results {
        if let (Ok(simulated), false) = (ran, several) {
            say!("{}", terminal::figures(&simulated.run));
        }
        for finding in findings(ran) {
            note!("seed {seed}: {finding}");
            failed.get_or_insert(*seed);
        }
    }
    // Of a run that panicked there is no report.
    if results.iter().any(|(_, ran)| ran.is_ok()) {
        if several {
            say!("{}", compare::spread(&out)?);
            say!("results          {}", out.display());
        } else {
            say!("report           {}", out.join("report.html").display());
        }
    }
    let Some(seed) = failed else { return Ok(GOOD) };
    let again = set_words(&set);
    let check = if sim.check { " --check" } else { "" };
    let scenario = quoted(scenario);
    note!("again: starling-testnet sim {scenario} --seed {seed}{again}{check}");
    Ok(BAD)
}

/// What a run has shown, or the words of the panic that ended it.
type Ran = Result<Simulated, String>;

/// What is wrong with a run.
fn findings(ran: &Ran) -> &[String] {
    match ran {
        Ok(simulated) => &simulated.findings,
        Err(panic) => std::slice::from_ref(panic),
    }
}

/// The `--set` of a command that is to be repeated.
pub(super) fn set_words(set: &[String]) -> String {
    set.iter().map(|assignment| format!(" --set {}", quoted(assignment))).collect()
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-./=,:+@%".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What is run with each seed.
struct Work<'a> {
    manifest: &'a Manifest,
    /// Whether the seed decides about the manifest.
    random: bool,
    set: &'a [String],
    base: &'a Path,
    /// How many run at the same time.
    jobs: usize,
    check: bool,
}

impl Work<'_> {
    fn manifest(&self, seed: u64) -> Result<Manifest, FolderError> {
        if self.random {
            return Ok(Manifest { seed, ..Manifest::random(seed).with(self.set)? });
        }
        Ok(Manifest { seed, ..self.manifest.clone() })
    }

    /// Runs each of these seeds, with something to do before each run and something with each result; in the order of seeds. A run that
    /// panics ends itself only.
    fn each_seed(
        &self,
        seeds: &[u64],
        bar: &Bar,
        begin: impl Fn(u64, &Manifest) -> Result<(), FolderError> + Sync,
        done: impl Fn(u64, &Simulated) -> Result<(), FolderError> + Sync,
    ) -> Result<Vec<(u64, Ran)>, FolderError> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        let one = |seed: u64| -> Result<Simulated, FolderError> {
            let manifest = self.manifest(seed)?;
            begin(seed, &manifest)?;
            let mut simulated = simulate(&manifest, self.base, self.check, |progress| bar.show_of(seed, progress))?;
            done(seed, &simulated)?;
            if seeds.len() > 1 {
                // Of many runs only what was found is needed any more.
                simulated.run.forget_messages();
            }
            Ok(simulated)
        };
        let work = || {
            while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                let ran = caught(|| one(*seed));
                if let Ok(Err(_)) = ran {
                    next.store(seeds.len(), Ordering::Relaxed);
                }
                results.lock().expect("no worker panics while it holds the lock").push((*seed, ran));
                bar.one_done(*seed);
            }
        };
        std::thread::scope(|scope| (0..self.jobs).for_each(|_| drop(scope.spawn(work))));
        let mut results = results.into_inner().expect("no worker panics while it holds the lock");
        results.sort_by_key(|(seed, _)| *seed);
        let told = |ran: Result<Result<Simulated, FolderError>, String>| match ran {
            Ok(result) => result.map(Ok),
            Err(panic) => Ok(Err(panic)),
        };
        results.into_iter().map(|(seed, ran)| Ok((seed, told(ran)?))).collect()
    }
}

/// The progress of simulations, in simulated time: a bar on a terminal, a line now and then elsewhere.
#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    runs: usize,
    /// How far each is of the runs that go on together, by seed.
    together: Mutex<BTreeMap<u64, Progress>>,
    /// How many have ended.
    done: AtomicUsize,
    plain: bool,
}

/// What a bar of several runs counts of each of them.
const PERMILLE: u64 = 1_000;

impl Bar {
    pub(super) fn new() -> Self {
        Self::for_runs(1)
    }

    fn for_runs(runs: usize) -> Self {
        // indicatif draws on standard error, and on nothing if that is no terminal.
        let bar = ProgressBar::new(if runs > 1 { runs as u64 * PERMILLE } else { 1 });
        let style = ProgressStyle::with_template("{spinner} {bar:32} {msg}");
        bar.set_style(style.expect("the template is well-formed").progress_chars("=> "));
        Self {
            bar,
            runs,
            together: Mutex::default(),
            done: AtomicUsize::new(0),
            plain: !std::io::stderr().is_terminal(),
        }
    }

    /// Says how far a run is that goes on alone.
    pub(super) fn show(&self, progress: Progress) {
        self.bar.set_length(progress.end.as_micros());
        self.bar.set_position(progress.now.as_micros());
        let words = format!("{}, {} events", simulated(progress), grouped(progress.events));
        if self.plain && progress.now.as_micros().is_multiple_of(10_000_000) {
            note!("{words}");
        }
        self.bar.set_message(words);
    }

    /// Says how far the run of a seed is.
    fn show_of(&self, seed: u64, progress: Progress) {
        if self.runs == 1 {
            return self.show(progress);
        }
        let mut together = self.together.lock().expect("no worker panics while it holds the lock");
        together.insert(seed, progress);
        self.tell(&together);
    }

    fn one_done(&self, seed: u64) {
        if self.runs == 1 {
            return;
        }
        let mut together = self.together.lock().expect("no worker panics while it holds the lock");
        together.remove(&seed);
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.tell(&together);
        if self.plain {
            note!("{done} of {} seeds", self.runs);
        }
    }

    /// Says how many runs have ended, and how far the last is of those that go on.
    fn tell(&self, together: &BTreeMap<u64, Progress>) {
        let done = self.done.load(Ordering::Relaxed);
        let permille = |it: &Progress| it.now.as_micros() * PERMILLE / it.end.as_micros().max(1);
        self.bar.set_position(done as u64 * PERMILLE + together.values().map(permille).sum::<u64>());
        let least = together.iter().min_by_key(|(_, progress)| permille(progress));
        let least = least.map(|(seed, progress)| format!(", seed {seed} at {}", simulated(*progress)));
        self.bar.set_message(format!("{done} of {} seeds{}", self.runs, least.unwrap_or_default()));
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// How far a run is, in words.
fn simulated(Progress { now, end, .. }: Progress) -> String {
    format!("{} of {} s simulated", now.as_micros() / 1_000_000, end.as_micros().div_ceil(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever tries a thousand seeds learns which of them brings a node down, and what becomes of the others.
    #[test]
    fn a_run_that_panics_is_a_finding_of_its_seed() {
        let (manifest, base) = Manifest::named("quick").expect("a preset");
        let manifest = manifest
            .with(&["nodes=8", "topology.degree=4", "time.warm_up_s=1", "time.load_s=1"].map(str::to_owned))
            .expect("it can be");
        let work = Work { manifest: &manifest, random: false, set: &[], base: &base, jobs: 2, check: false };
        let done = |seed, _: &Simulated| {
            assert_ne!(seed, 2, "a wrong turn");
            Ok(())
        };
        let results = work.each_seed(&[1, 2, 3], &Bar::for_runs(3), |_, _| Ok(()), done).expect("nothing is written");
        assert_eq!(
            results.iter().map(|(seed, ran)| (*seed, ran.is_ok())).collect::<Vec<_>>(),
            [(1, true), (2, false), (3, true)]
        );
        let found = findings(&results[1].1);
        assert!(found.len() == 1 && found[0].contains("panicked") && found[0].contains("a wrong turn"), "{found:?}");
    }

    #[test]
    fn words_are_quoted_as_a_shell_needs_it() {
        assert_eq!(quoted("fault.0.at_s=3"), "fault.0.at_s=3");
        assert_eq!(
            quoted("topology={ kind = \"random\", degree = 4 }"),
            "'topology={ kind = \"random\", degree = 4 }'"
        );
        assert_eq!(quoted("about=it's"), r"'about=it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
