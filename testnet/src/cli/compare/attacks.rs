//! Two tables of attacks, case by case.

use std::path::Path;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};
use serde_json::{Value, json};

use super::{Figure, Spread, aligned, figure, table, too_much_worse};
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
}

/// A case of a row.
struct Case {
    row: String,
    /// What sets it apart from the row's others; empty if it has none.
    label: String,
    holds: bool,
    /// The figures of each seed; null for a run that panicked.
    runs: Vec<Value>,
    /// What else is demanded, and what the worst seed came to.
    findings: Vec<(String, String)>,
    nodes: Option<u64>,
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
        Ok(Some(Self { cases }))
    }

    /// What there is of it, in words.
    pub(super) fn words(&self) -> String {
        let nodes = self.cases.iter().find_map(|case| case.nodes).unwrap_or(0);
        let seeds = self.cases.iter().map(|case| case.runs.len()).max().unwrap_or(0);
        let [cases, seeds] = [(self.cases.len(), "case"), (seeds, "seed")].map(|(many, of)| counted(many as u64, of));
        format!("{cases} of attacks on {nodes} nodes, {seeds}")
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
            let findings = findings.map(|finding| Some((text(finding, "demanded")?, text(finding, "measured")?)));
            all.push(Case {
                row: text(row, "scenario")?,
                label: text(case, "case")?,
                holds: case.get("holds")?.as_bool()?,
                runs: runs.iter().map(figures).collect(),
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
            let [a, b] = [self, after].map(|case| Spread::of(figure, &case.runs));
            let shown = |spread: &Option<Spread>| spread.as_ref().map_or("-".to_owned(), |it| it.show(figure.digits));
            let change = a.as_ref().zip(b.as_ref()).and_then(|(a, b)| a.change_to(b));
            let row = [shown(&a), shown(&b)];
            worse.extend(too_much_worse(figure, change, most).map(|words| format!("{name}: {words}")));
            if row[0] != row[1] {
                let change = change.map_or_else(|| "-".to_owned(), |change| format!("{change:+.1} %"));
                let [a, b] = row;
                rows.push([figure.label.to_owned(), a, b, change]);
            }
        }
        for (demanded, measured) in &after.findings {
            let before = self.findings.iter().find(|(other, _)| subject(other) == subject(demanded));
            if let Some((_, before)) = before.filter(|(_, before)| before != measured && !is_figure(demanded)) {
                rows.push([demanded.clone(), before.clone(), measured.clone(), String::new()]);
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
    let (mut worse, mut both, mut same) = (Vec::new(), 0_u64, 0_u64);
    for (before, after) in a.cases.iter().filter_map(|before| Some((before, b.case(&before.row, &before.label)?))) {
        let (rows, case_worse) = before.differences(after, most);
        both += 1;
        same += u64::from(rows.is_empty());
        worse.extend(case_worse);
        for (number, [what, a, b, change]) in rows.into_iter().enumerate() {
            let name = if number == 0 { format!("{}\n{}", before.row, before.label) } else { String::new() };
            table.add_row([name.trim().to_owned(), what, a, b, change]);
        }
    }
    let mut text = if same < both { format!("{}\n", in_one_piece(table, a)) } else { String::new() };
    text.push_str(&format!("{} in both, {same} of them with the same figures", counted(both, "case")));
    for (only, names) in [("A", a.not_in(b)), ("B", b.not_in(a))] {
        if !names.is_empty() {
            text.push_str(&format!("\nonly in {only}: {}", names.join("; ")));
        }
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
