//! `starling-testnet compare`: how two runs differ, or two tables of attacks.

mod attacks;

use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::folder::{FolderError, kind, manifests, runs, summary, unlike};
use super::{BAD, GOOD, USAGE, failed};
use crate::manifest::{Manifest, RANDOM};
use attacks::Attacks;

pub(super) const EXAMPLES: &str = "Examples:
  starling-testnet compare testnet-runs/before testnet-runs/after
  starling-testnet compare before after --fail-above 10%
  starling-testnet compare attacks-before attacks-after

Folders may be of processes or of simulations, with one seed or with many, but all runs in one folder have to be of one kind. The \
figures are means over all seeds that have them; the spread is from the least to the most. What only one side has is shown beside a dash. \
With --fail-above, whatever percentage it is, it is worse, too, if fewer seeds of B have a figure, or fewer end well: compared are the verdicts \
of manifests, which processes without a manifest do not have.

Two folders of `attacks` are compared case by case: what differs is shown, and what only one of them has is named. What is demanded beside \
deliveries, latencies and copies is that of the worst seed; it is told in words, so no percentage is taken of it. With --fail-above a demand \
or a case that does not hold any more is worse, too, and so is a case that B does not have.

Exit codes: 0 compared; 1 something became worse by more than --fail-above; 2 usage, which includes runs of several kinds in one folder, \
a table of attacks and a run, tables of networks of another size or with other loads, or without a common case, and folders of `crash` and \
`soak`, which have none of the figures.";

#[derive(Debug, Args)]
pub(super) struct Compare {
    /// The folder of a run, of one for each of several seeds, or of a table of attacks
    a: PathBuf,
    /// The other one
    b: PathBuf,
    /// Exit with code 1 if any figure of B is worse than that of A by more than this
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true, value_parser = percent)]
    fail_above: Option<f64>,
}

/// A figure of a summary: its label, its path, how it is shown, and whether more of it is better.
struct Figure {
    label: &'static str,
    path: &'static [&'static str],
    digits: usize,
    more_is_better: bool,
}

const fn figure(label: &'static str, path: &'static [&'static str], digits: usize, more_is_better: bool) -> Figure {
    Figure { label, path, digits, more_is_better }
}

const FIGURES: &[Figure] = &[
    figure("transactions: coverage", &["classes", "transaction", "coverage"], 6, true),
    figure("transactions: p50 (ms)", &["classes", "transaction", "latency_ms", "p50"], 1, false),
    figure("transactions: p90 (ms)", &["classes", "transaction", "latency_ms", "p90"], 1, false),
    figure("transactions: p99 (ms)", &["classes", "transaction", "latency_ms", "p99"], 1, false),
    figure("transactions: max (ms)", &["classes", "transaction", "latency_ms", "max"], 1, false),
    figure("transactions: copies", &["classes", "transaction", "copies_per_delivery"], 3, false),
    figure("transactions: frame bytes", &["classes", "transaction", "frame_bytes_per_delivery"], 0, false),
    figure("blocks: coverage", &["classes", "block", "coverage"], 6, true),
    figure("blocks: p50 (ms)", &["classes", "block", "latency_ms", "p50"], 1, false),
    figure("blocks: p90 (ms)", &["classes", "block", "latency_ms", "p90"], 1, false),
    figure("blocks: p99 (ms)", &["classes", "block", "latency_ms", "p99"], 1, false),
    figure("blocks: max (ms)", &["classes", "block", "latency_ms", "max"], 1, false),
    figure("blocks: copies", &["classes", "block", "copies_per_delivery"], 3, false),
    figure("blocks: frame bytes", &["classes", "block", "frame_bytes_per_delivery"], 0, false),
    figure("bytes sent", &["socket_bytes"], 0, false),
    figure("ready after (s)", &["ready_s"], 1, false),
    figure("one head after healing (s)", &["partition", "one_head_after_s"], 2, false),
];

/// A share such as `10%` or `10`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
    number.filter(|share| (0.0..=1e6).contains(share)).ok_or_else(|| "write a share such as 10%".to_owned())
}

pub(super) fn execute(arguments: &Compare) -> u8 {
    match compare(arguments) {
        Ok(code) => code,
        Err(error) => failed(&error, USAGE),
    }
}

fn compare(arguments: &Compare) -> Result<u8, FolderError> {
    let Compare { a, b, fail_above } = arguments;
    let (text, worse) = match (Attacks::read(a)?, Attacks::read(b)?) {
        (None, None) => compare_runs(arguments)?,
        (Some(before), Some(after)) => {
            before.comparable_with(&after, (a, b))?;
            say!("A: {}, {}\nB: {}, {}", a.display(), before.words(), b.display(), after.words());
            attacks::compare(&before, &after, *fail_above)
        }
        (table, _) => {
            let (path, other) = if table.is_some() { (a, b) } else { (b, a) };
            let problem = format!(
                "a table of attacks is there, and none in {}; compare two tables, or two runs",
                other.display()
            );
            return Err(FolderError::Refused { path: path.clone(), problem });
        }
    };
    say!("{text}");
    for line in &worse {
        note!("{line}");
    }
    Ok(if worse.is_empty() { GOOD } else { BAD })
}

/// The figures of two runs side by side, and what is worse by more than is allowed.
fn compare_runs(arguments: &Compare) -> Result<(String, Vec<String>), FolderError> {
    // Drawn manifests differ from seed to seed, which says nothing against holding two engines on the same ones against each other.
    let [a, b] = [manifests(&arguments.a)?, manifests(&arguments.b)?];
    if a != b || !a.iter().flatten().all(|manifest| manifest.name == RANDOM) {
        seeds_of_one(&arguments.a)?;
        seeds_of_one(&arguments.b)?;
    }
    let [of_a, of_b] = [&a, &b].map(|all| all.iter().flatten().next());
    let words = |manifest: Option<&Manifest>| manifest.map_or_else(String::new, |it| format!(", {} nodes", it.nodes));
    let words = [words(of_a), words(of_b)];
    let unseeded = |manifest: Option<&Manifest>| manifest.map(|it| Manifest { seed: 0, ..it.clone() });
    let alike = unseeded(of_a) == unseeded(of_b);
    let (a, b) = (summaries(&arguments.a)?, summaries(&arguments.b)?);
    let mut table = table(["", "A", "B", "B to A"]);
    let mut worse = Vec::new();
    for verdict in VERDICTS {
        let [before, after] = [&a, &b].map(|runs| Share::of(verdict, runs));
        if before.is_none() && after.is_none() {
            continue;
        }
        let shown = |share: Option<&Share>| share.map_or_else(|| "-".to_owned(), Share::show);
        table.add_row([verdict.label, &shown(before.as_ref()), &shown(after.as_ref()), ""]);
        if let (Some(before), Some(after), Some(_)) = (before, after, arguments.fail_above)
            && after.is_less_than(&before)
        {
            worse.push(format!("{}: {} in B, and {} in A", verdict.label, after.show(), before.show()));
        }
    }
    for figure in FIGURES {
        let both = [&a, &b].map(|runs| Spread::of(figure, runs));
        if both.iter().all(Option::is_none) {
            continue;
        }
        table.add_row([vec![figure.label.to_owned()], side_by_side(figure, &both).into()].concat());
        worse.extend(too_much_worse(figure, &both, arguments.fail_above));
    }
    for ((side, dir), (runs, words)) in
        [("A", &arguments.a), ("B", &arguments.b)].into_iter().zip([&a, &b].into_iter().zip(&words))
    {
        say!("{side}: {}, {}{words}", dir.display(), count(runs));
    }
    if !alike {
        say!("The two are of different manifests, so not all that differs need come from the program.");
    }
    Ok((aligned(table).to_string(), worse))
}

/// A figure of both sides, and how much the second is more; dashes for what is not there.
fn side_by_side(figure: &Figure, both: &[Option<Spread>; 2]) -> [String; 3] {
    let shown = |spread: &Option<Spread>| spread.as_ref().map_or_else(|| "-".to_owned(), |it| it.show(figure.digits));
    let change = change(both).map_or_else(|| "-".to_owned(), |change| format!("{change:+.1} %"));
    [shown(&both[0]), shown(&both[1]), change]
}

/// How much the second is more, in percent, if that can be said.
fn change([a, b]: &[Option<Spread>; 2]) -> Option<f64> {
    a.as_ref()?.change_to(b.as_ref()?)
}

/// Says that a figure has changed for the worse by more than `most` percent, or is not there any more, if so.
fn too_much_worse(figure: &Figure, both: &[Option<Spread>; 2], most: Option<f64>) -> Option<String> {
    let most = most?;
    match both {
        [Some(_), None] => return Some(format!("{} is worse: B has none", figure.label)),
        [Some(a), Some(b)] if b.runs.is_less_than(&a.runs) => {
            let Share { yes, of } = &b.runs;
            return Some(format!("{} is worse: B has it for only {yes} of {of} seeds", figure.label));
        }
        // Of nothing there are no percents.
        [Some(a), Some(b)] if a.mean == 0.0 && !figure.more_is_better && b.mean > 0.0 => {
            let digits = figure.digits;
            return Some(format!("{} is worse: {:.digits$} in B, and nothing in A", figure.label, b.mean));
        }
        _ => {}
    }
    let change = change(both)?;
    let loss = if figure.more_is_better { -change } else { change };
    (loss > most).then(|| format!("{} is worse by {loss:.1} %, more than {most} %", figure.label))
}

/// What a run came to: its label, and its path in a summary.
struct Ending {
    label: &'static str,
    path: [&'static str; 2],
}

/// What is said of a manifest's run, where one was run.
const VERDICTS: &[Ending] = &[
    Ending { label: "ended well", path: ["verdict", "good"] },
    Ending { label: "one chain", path: ["verdict", "one_chain"] },
];

/// Of how many runs something is true.
#[derive(Debug, PartialEq)]
struct Share {
    yes: usize,
    of: usize,
}

impl Share {
    /// None if not all runs say it.
    fn of(ending: &Ending, summaries: &[Value]) -> Option<Self> {
        let value = |summary: &Value| ending.path.iter().try_fold(summary, |value, key| value.get(key))?.as_bool();
        let values: Vec<bool> = summaries.iter().map(value).collect::<Option<_>>()?;
        Some(Self { yes: values.iter().filter(|value| **value).count(), of: values.len() })
    }

    fn is_less_than(&self, other: &Self) -> bool {
        self.yes * other.of < other.yes * self.of
    }

    fn show(&self) -> String {
        match (self.yes, self.of) {
            (1, 1) => "yes".to_owned(),
            (0, 1) => "no".to_owned(),
            (yes, of) => format!("{yes} of {of}"),
        }
    }
}

/// The kinds of runs whose summaries have [`FIGURES`].
const COMPARABLE: [&str; 2] = ["processes", "simulation"];

/// The figures of all runs in a folder, with their spread.
pub(super) fn spread(dir: &Path) -> Result<String, FolderError> {
    let all = summaries(dir)?;
    let mut table = table(["", "mean", "least to most"]);
    for figure in FIGURES {
        let Some(spread) = Spread::of(figure, &all) else { continue };
        let digits = figure.digits;
        let range = format!("{:.digits$} to {:.digits$}{}", spread.least, spread.most, spread.seeds());
        table.add_row([figure.label.to_owned(), format!("{:.digits$}", spread.mean), range]);
    }
    Ok(format!("{}\n{}", count(&all), aligned(table)))
}

fn count(summaries: &[Value]) -> String {
    let seeds = if summaries.len() == 1 { "one seed".to_owned() } else { format!("{} seeds", summaries.len()) };
    format!("{} of {seeds}", summaries.first().map_or("run", kind))
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
    table
}

fn aligned(mut table: Table) -> Table {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Refuses a folder whose runs differ by more than their seeds.
fn seeds_of_one(dir: &Path) -> Result<(), FolderError> {
    let runs = runs(dir)?;
    let Some(other) = unlike(&runs)? else { return Ok(()) };
    let problem = format!(
        "its runs are not seeds of one thing: the scenario.toml of {} and that of {} differ in more than the seed; name one of them",
        runs[0].display(),
        other.display()
    );
    Err(FolderError::Refused { path: dir.to_owned(), problem })
}

/// The summaries of all runs in a folder, which have to be of one kind.
fn summaries(dir: &Path) -> Result<Vec<Value>, FolderError> {
    let runs = runs(dir)?;
    let summaries: Vec<Value> = runs.iter().map(|run| summary(run)).collect::<Result<_, _>>()?;
    if let Some(other) = summaries.iter().position(|summary| !COMPARABLE.contains(&kind(summary))) {
        let problem = format!(
            "its kind is {}, which has no figures to compare; give the folder of a run, or of attacks",
            kind(&summaries[other])
        );
        return Err(FolderError::Refused { path: runs[other].join("summary.json"), problem });
    }
    if let Some(other) = summaries.iter().position(|summary| kind(summary) != kind(&summaries[0])) {
        let problem = format!(
            "its runs are not seeds of one thing: the kind of {} is {}, that of {} is {}; name one of them",
            runs[0].display(),
            kind(&summaries[0]),
            runs[other].display(),
            kind(&summaries[other])
        );
        return Err(FolderError::Refused { path: dir.to_owned(), problem });
    }
    Ok(summaries)
}

/// A figure over several seeds.
struct Spread {
    mean: f64,
    least: f64,
    most: f64,
    /// How many have it.
    runs: Share,
}

impl Spread {
    /// None if no run has it.
    fn of(figure: &Figure, summaries: &[Value]) -> Option<Self> {
        let value = |summary: &Value| figure.path.iter().try_fold(summary, |value, key| value.get(key))?.as_f64();
        let values: Vec<f64> = summaries.iter().filter_map(value).collect();
        Some(Self {
            least: values.iter().copied().reduce(f64::min)?,
            most: values.iter().copied().reduce(f64::max)?,
            mean: values.iter().sum::<f64>() / crate::report::format::float(values.len() as u64),
            runs: Share { yes: values.len(), of: summaries.len() },
        })
    }

    fn show(&self, digits: usize) -> String {
        let [mean, least, most] = [self.mean, self.least, self.most].map(|value| format!("{value:.digits$}"));
        let range = if least == most { String::new() } else { format!(" ({least} to {most})") };
        format!("{mean}{range}{}", self.seeds())
    }

    /// How many seeds have it, if not all.
    fn seeds(&self) -> String {
        let Share { yes, of } = &self.runs;
        if yes == of { String::new() } else { format!(", {yes} of {of} seeds") }
    }

    /// How much the other one is more, in percent; none if there is nothing to compare with.
    fn change_to(&self, other: &Self) -> Option<f64> {
        (self.mean.abs() > 0.0).then(|| (other.mean - self.mean) / self.mean * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_several_seeds_have_a_mean_and_a_spread() {
        let summary = |p50: f64| serde_json::json!({ "classes": { "transaction": { "latency_ms": { "p50": p50 } } } });
        let p50 = &FIGURES[1];
        let before = Spread::of(p50, &[summary(80.0), summary(120.0)]).expect("both have it");
        assert_eq!(before.show(1), "100.0 (80.0 to 120.0)");
        let after = Spread::of(p50, &[summary(110.0)]).expect("it has it");
        assert!(before.change_to(&after).is_some_and(|change| (change - 10.0).abs() < 1e-9));
        assert!(Spread::of(&FIGURES[8], &[summary(1.0)]).is_none(), "no block was published");
        let some = Spread::of(p50, &[summary(80.0), Value::Null, summary(90.0)]);
        assert_eq!(some.as_ref().expect("two have it").show(1), "85.0 (80.0 to 90.0), 2 of 3 seeds");
        let all = || Some(Spread::of(p50, &[summary(100.0)]).expect("it has it"));
        let worse = |both: [Option<Spread>; 2]| too_much_worse(p50, &both, Some(1.0)).unwrap_or_default();
        assert!(worse([all(), None]).contains("B has none"));
        assert!(worse([all(), some]).contains("only 2 of 3 seeds"));
        assert_eq!([worse([None, all()]), worse([all(), all()])], ["", ""]);
        let nothing = || Some(Spread::of(p50, &[summary(0.0)]).expect("it has it"));
        assert_eq!([worse([nothing(), nothing()]), worse([all(), nothing()])], ["", ""]);
        assert!(worse([nothing(), all()]).contains("100.0 in B, and nothing in A"));
        assert_eq!(percent("10%"), Ok(10.0));
        assert!(percent("-3").is_err() && percent("x").is_err());
    }
}
