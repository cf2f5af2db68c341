//! `starling-testnet compare`: how two runs differ, or two tables of attacks.

mod attacks;

use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::folder::{FolderError, kind, runs, summary};
use super::{BAD, GOOD, USAGE, failed};
use attacks::Attacks;

pub(super) const EXAMPLES: &str = "Examples:
  starling-testnet compare testnet-runs/before testnet-runs/after
  starling-testnet compare before after --fail-above 10%
  starling-testnet compare attacks-before attacks-after

Folders may be of processes or of simulations, with one seed or with many, but all runs in one folder have to be of one kind. The \
figures are means over all seeds; the spread is from the least to the most.

Two folders of `attacks` are compared case by case: what differs is shown, and what only one of them has is named. What is demanded beside \
deliveries, latencies and copies is that of the worst seed. With --fail-above a case that does not hold any more is worse, too.

Exit codes: 0 compared; 1 something became worse by more than --fail-above; 2 usage, which includes runs of several kinds in one folder, \
a table of attacks and a run, and folders of `crash` and `soak`, which have none of the figures.";

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
    let (a, b) = (summaries(&arguments.a)?, summaries(&arguments.b)?);
    let mut table = table(["", "A", "B", "B to A"]);
    let mut worse = Vec::new();
    for figure in FIGURES {
        let (Some(a), Some(b)) = (Spread::of(figure, &a), Spread::of(figure, &b)) else { continue };
        let change = a.change_to(&b);
        let shown = change.map_or_else(|| "-".to_owned(), |change| format!("{change:+.1} %"));
        table.add_row([figure.label.to_owned(), a.show(figure.digits), b.show(figure.digits), shown]);
        worse.extend(too_much_worse(figure, change, arguments.fail_above));
    }
    say!("A: {}, {}\nB: {}, {}", arguments.a.display(), count(&a), arguments.b.display(), count(&b));
    Ok((aligned(table).to_string(), worse))
}

/// Says that a figure has changed for the worse by more than `most` percent, if so.
fn too_much_worse(figure: &Figure, change: Option<f64>, most: Option<f64>) -> Option<String> {
    let (change, most) = change.zip(most)?;
    let loss = if figure.more_is_better { -change } else { change };
    (loss > most).then(|| format!("{} is worse by {loss:.1} %, more than {most} %", figure.label))
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
        let range = format!("{:.digits$} to {:.digits$}", spread.least, spread.most);
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

/// The summaries of all runs in a folder, which have to be of one kind: only then they differ by nothing but their seeds.
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
}

impl Spread {
    /// None if not all runs have it.
    fn of(figure: &Figure, summaries: &[Value]) -> Option<Self> {
        let value = |summary: &Value| figure.path.iter().try_fold(summary, |value, key| value.get(key))?.as_f64();
        let values: Vec<f64> = summaries.iter().map(value).collect::<Option<_>>()?;
        let count = crate::report::format::float(values.len() as u64);
        Some(Self {
            mean: values.iter().sum::<f64>() / count.max(1.0),
            least: values.iter().copied().reduce(f64::min)?,
            most: values.iter().copied().reduce(f64::max)?,
        })
    }

    fn show(&self, digits: usize) -> String {
        let [mean, least, most] = [self.mean, self.least, self.most].map(|value| format!("{value:.digits$}"));
        if least == most { mean } else { format!("{mean} ({least} to {most})") }
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
        assert_eq!(percent("10%"), Ok(10.0));
        assert!(percent("-3").is_err() && percent("x").is_err());
    }
}
