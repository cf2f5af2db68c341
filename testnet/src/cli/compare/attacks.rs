//! Two tables of attacks, case by case.

use std::path::Path;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};
use serde_json::{Value, json};

use super::{Figure, Spread, aligned, figure, side_by_side, table, too_much_worse};
use crate::cli::folder::FolderError;
use crate::report::format::counted;

/// What `attacks` writes of its rows.
const ATTACKS: &str = "attacks.json";

/// What every run has.
const FIGURES: &[Figure] = &[
    figure("delivered (%)", &["delivered"], 3, true),
    figure("p99 (ms)", &["p99"], 1, false),
    figure("max (ms)", &["max"], 1, false),
    figure("copies", &["copies"], 3, false),
];

/// A table of attacks.
pub(super) struct Attacks {
    cases: Vec<Case>,
    /// Honest nodes, and messages a second, as the table says or as a run of it tells.
    nodes: Option<u64>,
    messages_per_s: Option<f64>,
    quick: Option<bool>,
}

/// A case of a row.
struct Case {
    row: String,
    /// What sets it apart from the row's others; empty if it has none.
    label: String,
    holds: bool,
    /// The figures of each seed; null for a run that panicked.
    runs: Vec<Value>,
    /// The trace of each seed's run; none if they do not all have one.
    traces: Option<Vec<String>>,
    /// What else is demanded, and what the worst seed came to.
    findings: Vec<Found>,
    nodes: Option<u64>,
}

/// A demand in words, what the worst seed came to, and whether that is enough.
struct Found {
    demanded: String,
    measured: String,
    holds: bool,
}

impl Attacks {
    /// The table in a folder; none if the folder has none.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, FolderError> {
        let path = dir.join(ATTACKS);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(|source| FolderError::Io { path: path.clone(), source })?;
        let table: Option<Value> = serde_json::from_str(&text).ok();
        let cases = table.as_ref().and_then(cases).ok_or_else(|| {
            let problem = "it is not what `starling-testnet attacks` writes; run that again with this folder as --out";
            FolderError::Refused { path, problem: problem.to_owned() }
        })?;
        let scale = table.as_ref().and_then(|table| table.get("scale"));
        let of = |key: &str| scale.and_then(|scale| scale.get(key));
        Ok(Some(Self {
            // What an earlier version has written says it of each run only; the first one is of the baseline.
            nodes: of("nodes").and_then(Value::as_u64).or_else(|| cases.iter().find_map(|case| case.nodes)),
            messages_per_s: of("messages_per_s").and_then(Value::as_f64),
            quick: of("quick").and_then(Value::as_bool),
            cases,
        }))
    }

    /// Whether both tried the same networks, and have anything in common.
    pub(super) fn comparable_with(&self, other: &Self, (a, b): (&Path, &Path)) -> Result<(), FolderError> {
        let refused = |problem: String| Err(FolderError::Refused { path: b.to_owned(), problem });
        let differ = self.nodes.zip(other.nodes).is_some_and(|(a, b)| a != b)
            || self.messages_per_s.zip(other.messages_per_s).is_some_and(|(a, b)| (a - b).abs() > 1e-9)
            || self.quick.zip(other.quick).is_some_and(|(a, b)| a != b);
        if differ {
            return refused(format!(
                "its table is of {}, and that of {} of {}; figures of other networks say nothing of each other, so compare tables of the \
                 same size",
                other.size(),
                a.display(),
                self.size()
            ));
        }
        if !self.cases.iter().any(|case| other.case(&case.row, &case.label).is_some()) {
            return refused(format!("it has nothing in common with {}: no case is in both", a.display()));
        }
        Ok(())
    }

    /// The networks of the table, in words.
    fn size(&self) -> String {
        let nodes = self.nodes.map_or_else(|| "an unknown number of nodes".to_owned(), |nodes| counted(nodes, "node"));
        let messages = self.messages_per_s.map(|per_s| format!(" and {per_s} messages a second")).unwrap_or_default();
        let quick = if self.quick == Some(true) { " (--quick)" } else { "" };
        format!("{nodes}{messages}{quick}")
    }

    /// What there is of it, in words.
    pub(super) fn words(&self) -> String {
        let seeds = self.cases.iter().map(|case| case.runs.len()).max().unwrap_or(0);
        let [cases, seeds] = [(self.cases.len(), "case"), (seeds, "seed")].map(|(many, of)| counted(many as u64, of));
        format!("{cases} of attacks on {}, {seeds}", self.size())
    }

    fn case(&self, row: &str, label: &str) -> Option<&Case> {
        self.cases.iter().find(|case| case.row == row && case.label == label)
    }

    /// The rows that the other one does not have, and the cases of those that it has.
    fn not_in(&self, other: &Self) -> Vec<String> {
        let has_row = |row: &str| other.cases.iter().any(|case| case.row == row);
        let alone = self.cases.iter().filter(|case| other.case(&case.row, &case.label).is_none());
        let mut names: Vec<String> =
            alone.map(|case| if has_row(&case.row) { case.name() } else { case.row.clone() }).collect();
        names.dedup();
        names
    }
}

/// The cases of what `attacks` writes, if that is what it is.
fn cases(table: &Value) -> Option<Vec<Case>> {
    let mut all = Vec::new();
    for row in table.get("rows")?.as_array()? {
        for case in row.get("cases")?.as_array()? {
            let runs = case.get("runs")?.as_array()?;
            let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
            let findings = case.get("findings")?.as_array()?.iter();
            let findings = findings.map(|finding| {
                let holds = finding.get("holds")?.as_bool()?;
                Some(Found { demanded: text(finding, "demanded")?, measured: text(finding, "measured")?, holds })
            });
            all.push(Case {
                row: text(row, "scenario")?,
                label: text(case, "case")?,
                holds: case.get("holds")?.as_bool()?,
                runs: runs.iter().map(figures).collect(),
                traces: runs.iter().map(|run| text(run, "trace")).collect(),
                findings: findings.collect::<Option<_>>()?,
                nodes: runs.iter().find_map(|run| run.get("nodes")?.as_u64()),
            });
        }
    }
    Some(all)
}

/// The figures of a run, in the units in which they are shown.
fn figures(run: &Value) -> Value {
    let number = |key: &str| run.get(key).and_then(Value::as_f64);
    let share = || Some(number("delivered")? / number("expected").filter(|expected| *expected > 0.0)? * 100.0);
    let ms = |key: &str| number(key).map(|us| us / 1e3);
    json!({ "delivered": share(), "p99": ms("p99_us"), "max": ms("max_us"), "copies": number("copies") })
}

impl Case {
    fn name(&self) -> String {
        if self.label.is_empty() { self.row.clone() } else { format!("{}, {}", self.row, self.label) }
    }

    /// What differs, a row each: what it is, both values and the change. And what is worse by more than `most` percent.
    fn differences(&self, after: &Self, most: Option<f64>) -> (Vec<[String; 4]>, Vec<String>) {
        let (mut rows, mut worse) = (Vec::new(), Vec::new());
        let name = self.name();
        if self.holds != after.holds {
            let verdict = |holds: bool| if holds { "holds" } else { "FAILS" }.to_owned();
            rows.push(["verdict".to_owned(), verdict(self.holds), verdict(after.holds), String::new()]);
            if self.holds && most.is_some() {
                worse.push(format!("{name} does not hold any more"));
            }
        }
        for figure in FIGURES {
            let both = [self, after].map(|case| Spread::of(figure, &case.runs));
            worse.extend(too_much_worse(figure, &both, most).map(|words| format!("{name}: {words}")));
            let [a, b, change] = side_by_side(figure, &both);
            if a != b {
                rows.push([figure.label.to_owned(), a, b, change]);
            }
        }
        for found in &after.findings {
            let same = |other: &&Found| subject(&other.demanded) == subject(&found.demanded);
            let Some(before) = self.findings.iter().find(same) else { continue };
            if before.measured != found.measured && !is_figure(&found.demanded) {
                rows.push([found.demanded.clone(), before.measured.clone(), found.measured.clone(), String::new()]);
            }
            // Of a case that fails in both.
            if before.holds && !found.holds && !self.holds && most.is_some() {
                worse.push(format!("{name}: {} does not hold any more", found.demanded));
            }
        }
        (rows, worse)
    }
}

/// What a demand is about, without the limit, which is another one at another scale.
fn subject(demanded: &str) -> &str {
    demanded.split(['<', '>']).find(|part| !part.is_empty()).unwrap_or(demanded)
}

/// Whether a demand is about one of the [`FIGURES`], which are shown for all seeds.
fn is_figure(demanded: &str) -> bool {
    demanded.starts_with("latency") || demanded.starts_with("copies per") || demanded.ends_with("messages delivered")
}

/// The cases of two tables that differ, what is not in both, and what is worse by more than `most` percent.
pub(super) fn compare(a: &Attacks, b: &Attacks, most: Option<f64>) -> (String, Vec<String>) {
    let mut table = table(["scenario", "", "A", "B", "B to A"]);
    let (mut worse, mut both, mut same, mut replayed) = (Vec::new(), 0_u64, 0_u64, 0_u64);
    for (before, after) in a.cases.iter().filter_map(|before| Some((before, b.case(&before.row, &before.label)?))) {
        let (rows, case_worse) = before.differences(after, most);
        both += 1;
        same += u64::from(rows.is_empty());
        let ran = before.traces.as_ref().is_some_and(|traces| !traces.is_empty());
        replayed += u64::from(ran && before.traces == after.traces);
        worse.extend(case_worse);
        for (number, [what, a, b, change]) in rows.into_iter().enumerate() {
            let name = if number == 0 { format!("{}\n{}", before.row, before.label) } else { String::new() };
            table.add_row([name.trim().to_owned(), what, a, b, change]);
        }
    }
    let differ = same < both;
    let mut text = if differ { format!("{}\n", in_one_piece(table, a)) } else { String::new() };
    let both = counted(both, "case");
    text.push_str(&format!(
        "{both} in both, {same} of them with the same figures, {replayed} the very same runs by their traces"
    ));
    for (only, names) in [("A", a.not_in(b)), ("B", b.not_in(a))] {
        if !names.is_empty() {
            text.push_str(&format!("\nonly in {only}: {}", names.join("; ")));
        }
    }
    if most.is_some() {
        worse.extend(a.not_in(b).into_iter().map(|name| format!("{name}: B does not have it")));
    }
    (text, worse)
}

/// A table in which the names of rows, which `--only` takes, are not broken.
fn in_one_piece(mut table: Table, of: &Attacks) -> Table {
    table.set_content_arrangement(ContentArrangement::Dynamic);
    let longest = of.cases.iter().map(|case| case.row.len()).max().unwrap_or(0);
    if let Some(column) = table.column_mut(0) {
        let width = u16::try_from(longest).unwrap_or(u16::MAX).saturating_add(column.padding_width());
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width)));
    }
    let mut table = aligned(table);
    // What a row is about are words.
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    table
}
