//! `starling-testnet attacks`: the table of attacks.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{BAD, GOOD, USAGE, failed};
use crate::attack::suite::{self, CaseResult, Plan, RowResult, SuiteError};
use crate::attack::table::Scale;
use crate::host;
use crate::report::attacks;

pub(super) const EXAMPLES: &str = "Examples:
  starling-testnet attacks --quick
  starling-testnet attacks --only cold-boot --only covert-flash --seeds 5
  starling-testnet attacks --list

What each run has found is kept in the folder, so a table that was stopped goes on where it stopped when it is \
given the same --out. A folder with anything else in it is refused. A changed program begins anew. The report shows every row of which the folder has all results; what is printed, and \
the exit code, are of the rows that were asked for.
Exit codes: 0 all that is demanded holds; 1 it does not, or the results cannot be written; 2 usage.";

/// More seeds than this at once are surely a mistake.
const SEEDS_MAX: u64 = 1_000;

fn how_many_seeds(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| (1..=SEEDS_MAX).contains(count));
    count.ok_or_else(|| format!("write how many, 1 to {SEEDS_MAX}: with 5, the seeds 1 to 5 are run"))
}

#[derive(Debug, Args)]
pub(super) struct Attacks {
    /// Fewer nodes and messages, demands in milliseconds scaled by the shortest paths of that network: for continuous integration
    #[arg(long)]
    quick: bool,
    /// This row only, and the baseline; can be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How many seeds, from 1 on
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 1, value_parser = how_many_seeds)]
    seeds: u64,
    /// This seed only
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with = "seeds", value_parser = clap::value_parser!(u64).range(1..=SEEDS_MAX))]
    seed: Option<u64>,
    /// Honest nodes, in place of the table's own number
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(42..=20_000))]
    nodes: Option<u32>,
    /// Messages a second of all publishers together, in place of the table's own number
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    messages: Option<u32>,
    /// Leave out the weaker engines that are run for comparison
    #[arg(long)]
    no_controls: bool,
    /// Folder for the results, new, empty or of `attacks` [default: testnet-runs/attacks or testnet-runs/attacks-quick]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How many runs go on at the same time, as far as there is memory for them [default: as many as there are processors]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Name the rows, with --quick those of the quick table
    #[arg(long)]
    list: bool,
}

pub(super) fn execute(arguments: &Attacks) -> u8 {
    let plan = arguments.plan();
    let (listed, elsewhere) = suite::rows_at(&plan.scale);
    if arguments.list {
        let width = listed.iter().map(|row| row.name.len()).max().unwrap_or(0);
        listed.iter().for_each(|row| say!("{:width$}  {}", row.name, row.about));
        return GOOD;
    }
    if plan.only.is_empty() && !elsewhere.is_empty() {
        let names: Vec<&str> = elsewhere.iter().map(|row| row.name).collect();
        note!("not in the quick table: {}", names.join(", "));
    }
    match run(&plan) {
        Ok(rows) => tell(rows, &plan),
        Err(error @ SuiteError::File { .. }) => failed(&error, BAD),
        Err(error) => failed(&error, USAGE),
    }
}

impl Attacks {
    fn plan(&self) -> Plan {
        let scale = if self.quick { Scale::QUICK } else { Scale::FULL };
        let usual = if self.quick { "testnet-runs/attacks-quick" } else { "testnet-runs/attacks" };
        let nodes = self.nodes.map_or(scale.nodes, |nodes| nodes as usize);
        let messages_per_ks = self.messages.map_or(scale.messages_per_ks, |per_s| u64::from(per_s) * 1_000);
        Plan {
            scale: Scale { nodes, messages_per_ks, ..scale },
            controls: !self.no_controls,
            only: self.only.clone(),
            seeds: self.seed.map_or(1..=self.seeds, |seed| seed..=seed),
            out: self.out.clone().unwrap_or_else(|| PathBuf::from(usual)),
            threads: self.jobs.map_or_else(host::cores, usize::from),
        }
    }
}

fn run(plan: &Plan) -> Result<Vec<RowResult>, SuiteError> {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:32} {pos} of {len} runs, {elapsed}, {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_secs(1));
    let plain = !std::io::stderr().is_terminal();
    let rows = suite::run(plan, &|done, of, name| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
        bar.set_message(name.to_owned());
        if plain {
            note!("{done} of {of}: {name}");
        }
    });
    bar.finish_and_clear();
    rows
}

fn tell(rows: Vec<RowResult>, plan: &Plan) -> u8 {
    say!("{}", attacks::table(&rows));
    let failing: Vec<&RowResult> = rows.iter().filter(|row| !row.holds()).collect();
    let failures: Vec<&str> = failing.iter().map(|row| row.row.name).collect();
    let seeds: BTreeSet<u64> = failing.iter().flat_map(|row| &row.cases).flat_map(CaseResult::failing_seeds).collect();
    let again = again(plan, &failures, &seeds);
    let ran = rows.len();
    let rows = suite::with_kept(plan, rows);
    let seeds = match (*plan.seeds.start(), *plan.seeds.end()) {
        (first, last) if first == last => format!("seed {first}"),
        (first, last) => format!("seeds {first} to {last}"),
    };
    let title = format!("Attacks on {} nodes, {seeds}", plan.scale.nodes);
    if let Err(error) = attacks::write(&rows, &plan.scale, &title, &plan.out) {
        return failed(&error, BAD);
    }
    let of = suite::rows_at(&plan.scale).0.len();
    let kept = match rows.len() - ran {
        0 => String::new(),
        kept => format!(", {kept} of them from before"),
    };
    say!("report           {}", plan.out.join("report.html").display());
    say!("                 {} of {of} rows{kept}", rows.len());
    if failures.is_empty() {
        return GOOD;
    }
    note!("these do not hold: {}", failures.join(", "));
    note!("again: {again}");
    BAD
}

/// The command that runs these rows anew with the seeds that failed, wherever their results are kept now.
fn again(plan: &Plan, rows: &[&str], failing: &BTreeSet<u64>) -> String {
    let usual = if plan.scale.relative { Scale::QUICK } else { Scale::FULL };
    let mut command = "starling-testnet attacks".to_owned();
    let mut add = |words: String| command.extend([" ", &words]);
    if plan.scale.relative {
        add("--quick".into());
    }
    rows.iter().for_each(|row| add(format!("--only {row}")));
    match failing.last() {
        Some(only) if failing.len() == 1 && *only > 1 => add(format!("--seed {only}")),
        Some(last) if *last > 1 => add(format!("--seeds {last}")),
        _ => {}
    }
    if plan.scale.nodes != usual.nodes {
        add(format!("--nodes {}", plan.scale.nodes));
    }
    if plan.scale.messages_per_ks != usual.messages_per_ks {
        add(format!("--messages {}", plan.scale.messages_per_ks / 1_000));
    }
    if !plan.controls {
        add("--no-controls".into());
    }
    add("--out testnet-runs/again".into());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_can_be_run_again() {
        let plan = Plan {
            scale: Scale { nodes: 60, ..Scale::QUICK },
            only: Vec::new(),
            seeds: 1..=5,
            controls: false,
            out: PathBuf::new(),
            threads: 1,
        };
        for (failing, seeds) in [(&[1][..], ""), (&[4], " --seed 4"), (&[1, 3], " --seeds 3")] {
            let command = format!(
                "starling-testnet attacks --quick --only dawn --only churn{seeds} --nodes 60 --no-controls --out testnet-runs/again"
            );
            assert_eq!(again(&plan, &["dawn", "churn"], &failing.iter().copied().collect()), command);
        }
    }
}
