//! The table of attacks as it came out: for the terminal, as JSON, as a page, and a page for each row.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::format::{float, grouped, milliseconds};
use super::plot::{Axis, Plot, escape};
use crate::attack::experiment::Outcome;
use crate::attack::suite::{CaseResult, Ran, RowResult};
use crate::attack::table::Fate;

/// Scenario, what is demanded, what was measured, what became of the controls, and the verdict.
#[must_use]
pub fn table(rows: &[RowResult]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    let controlled = has_controls(rows);
    let row = |[name, demanded, measured, controls, verdict]: [String; 5]| {
        let kept = [Some(name), Some(demanded), Some(measured), controlled.then_some(controls), Some(verdict)];
        kept.into_iter().flatten().collect::<Vec<_>>()
    };
    table.set_header(row(HEADINGS.map(str::to_owned)));
    for result in rows {
        for case in &result.cases {
            let name = format!("{} {}", result.row.name, case.label).trim().to_owned();
            let verdict = if case.holds() { "pass" } else { "FAIL" };
            table.add_row(row([name, demanded(case), measured(case), controls(case), verdict.to_owned()]));
        }
    }
    table.to_string()
}

const HEADINGS: [&str; 5] = ["scenario", "demanded", "measured (worst seed)", "controls", "verdict"];

/// Whether weaker engines were run at all.
fn has_controls(rows: &[RowResult]) -> bool {
    rows.iter().flat_map(|row| &row.cases).any(|case| !case.controls.is_empty())
}

fn demanded(case: &CaseResult) -> String {
    case.findings.iter().map(|finding| finding.demanded.clone()).collect::<Vec<_>>().join("\n")
}

fn measured(case: &CaseResult) -> String {
    let findings = case.findings.iter();
    let mark = |holds: bool| if holds { "" } else { " !" };
    let mut lines: Vec<String> = findings.map(|found| format!("{}{}", found.measured, mark(found.holds))).collect();
    lines.extend(case.runs.iter().filter_map(|run| run.as_ref().err().cloned()));
    lines.join("\n")
}

fn controls(case: &CaseResult) -> String {
    case.controls
        .iter()
        .map(|(engine, fate, ran)| format!("{engine} {}", fate_of(*fate, ran)))
        .collect::<Vec<_>>()
        .join("\n")
}

fn fate_of(fate: Fate, ran: &Ran) -> String {
    let mark = if ran.as_ref().is_ok_and(|outcome| fate.holds(outcome)) { "" } else { " !" };
    match ran {
        Ok(outcome) => {
            let unit = if (outcome.copies - 1.0).abs() < 0.5 { "copy" } else { "copies" };
            format!("{:.2} %, {:.0} {unit}{mark}", outcome.coverage() * 100.0, outcome.copies)
        }
        Err(error) => format!("{error}{mark}"),
    }
}

/// Writes `attacks.json`, `report.html` and a page for each row into the folder.
///
/// # Errors
/// If a file cannot be written; the error names it.
pub fn write(rows: &[RowResult], title: &str, dir: &Path) -> io::Result<()> {
    let put = |name: &str, content: String| {
        let path = dir.join(name);
        let written = fs::write(&path, content);
        written.map_err(|error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display())))
    };
    put("attacks.json", serde_json::to_string_pretty(&json(rows)).expect("numbers and names can be written"))?;
    put("report.html", index(rows, title))?;
    rows.iter().try_for_each(|row| put(&format!("{}.html", row.row.name), page(row, title)))
}

fn json(rows: &[RowResult]) -> Value {
    let case = |case: &CaseResult| {
        let findings: Vec<Value> = case
            .findings
            .iter()
            .map(|it| json!({ "demanded": it.demanded, "measured": it.measured, "holds": it.holds }))
            .collect();
        let controls: Vec<Value> = case
            .controls
            .iter()
            .map(|(engine, fate, ran)| json!({ "engine": engine, "expected": fate.words(), "outcome": ran.as_ref().ok() }))
            .collect();
        let runs: Vec<Value> = case.runs.iter().map(|run| json!(run.as_ref().ok())).collect();
        json!({ "case": case.label, "holds": case.holds(), "findings": findings, "controls": controls, "runs": runs })
    };
    let row = |row: &RowResult| {
        let cases: Vec<Value> = row.cases.iter().map(case).collect();
        json!({ "scenario": row.row.name, "about": row.row.about, "holds": row.holds(), "cases": cases })
    };
    json!({ "kind": "attacks", "holds": rows.iter().all(RowResult::holds), "rows": rows.iter().map(row).collect::<Vec<_>>() })
}

/// What these pages have beside the common style: tables of words, charts no wider than they are drawn for, links in the page's own colours.
const STYLE: &str = "table { margin: 0 0 24px; } .words th, .words td { text-align: left; vertical-align: top; white-space: normal; }\n\
    figure.card { max-width: 600px; margin: 0 0 32px; } a { color: var(--transaction); } b { color: var(--bad); }\n";

fn frame(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n{}{STYLE}</style>\n\
         </head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n",
        include_str!("page.css"),
        title = escape(title),
    )
}

fn index(rows: &[RowResult], title: &str) -> String {
    let mut body = verdict(rows.iter().all(RowResult::holds));
    let controlled = has_controls(rows);
    let heading = |heading: &&str| controlled || *heading != "controls";
    let headings: Vec<&str> = HEADINGS.into_iter().filter(heading).collect();
    body.push_str("<p>What does not hold is marked with an exclamation mark.");
    if controlled {
        body.push_str(" Controls are weaker engines under the same attack, which has to do them harm; copies are those of a delivery.");
    }
    writeln!(body, "</p>\n<table class=\"words\"><tr><th>{}</tr>", headings.join("<th>")).expect("writing to a string");
    for row in rows {
        for case in &row.cases {
            let name = format!("<a href=\"{}.html\">{}</a> {}", row.row.name, row.row.name, escape(case.label));
            let cells = [demanded(case), measured(case)].map(|cell| lines(&cell)).join("<td>");
            let controls = if controlled { format!("<td>{}", lines(&controls(case))) } else { String::new() };
            let verdict = if case.holds() { "pass" } else { "<b>fail</b>" };
            writeln!(body, "<tr><td>{name}<td>{cells}{controls}<td>{verdict}</tr>").expect("writing to a string");
        }
    }
    body.push_str("</table>\n");
    frame(title, &body)
}

fn verdict(holds: bool) -> String {
    if holds {
        "<div class=\"verdict\">All that is demanded holds.</div>\n".to_owned()
    } else {
        "<div class=\"verdict bad\">Not all that is demanded holds.</div>\n".to_owned()
    }
}

fn lines(text: &str) -> String {
    escape(text).replace('\n', "<br>")
}

fn page(row: &RowResult, title: &str) -> String {
    let mut body =
        format!("<p class=\"facts\">{} · <a href=\"report.html\">{}</a></p>\n", escape(row.row.about), escape(title));
    body.push_str(&verdict(row.holds()));
    body.push_str(LEGEND);
    for case in &row.cases {
        if !case.label.is_empty() {
            writeln!(body, "<h2>{}</h2>", escape(case.label)).expect("writing to a string");
        }
        body.push_str("<table class=\"words\"><tr><th>demanded<th>measured (worst seed)<th>verdict</tr>\n");
        for finding in &case.findings {
            let verdict = if finding.holds { "holds" } else { "<b>does not hold</b>" };
            let (demanded, measured) = (escape(&finding.demanded), escape(&finding.measured));
            writeln!(body, "<tr><td>{demanded}<td>{measured}<td>{verdict}</tr>").expect("writing to a string");
        }
        body.push_str("</table>\n");
        body.push_str(&figures(case));
        body.push_str(&chart(case));
    }
    frame(row.row.name, &body)
}

/// What the columns of [`figures`] count.
const LEGEND: &str = "<p>Copies are those of a delivery, the mesh degree is the mean over nodes and time. Refused are messages that were not \
     accepted, sent away peers whose score was too low, both of all honest nodes. Rejected and verified are invalid messages of one \
     attacker at one node, at most; node memory is the most that one node had allocated and queued; honest prunes are honest peers \
     that honest nodes took out of their meshes for bringing nothing or for their score.</p>\n";

/// Every run of a case, controls included.
fn figures(case: &CaseResult) -> String {
    let mut html = String::from(
        "<div class=\"scroll\"><table><tr><th>engine<th>seed<th>delivered<th>p50<th>p99<th>max<th>copies<th>mesh degree<th>refused<th>sent away\
         <th>rejected of one<th>verified of one<th>node memory<th>honest prunes<th>trace</tr>\n",
    );
    let mut add = |seed: usize, ran: &Ran| {
        let line = match ran {
            Ok(outcome) => cells(seed, outcome),
            Err(error) => format!("<tr><td>-<td>{seed}<td colspan=\"13\">{}</tr>", escape(error)),
        };
        html.push_str(&line);
        html.push('\n');
    };
    case.runs.iter().zip(1..).for_each(|(ran, seed)| add(seed, ran));
    case.controls.iter().for_each(|(_, _, ran)| add(1, ran));
    html + "</table></div>\n"
}

fn cells(seed: usize, outcome: &Outcome) -> String {
    let Outcome {
        engine, delivered, expected, p50_us, p99_us, max_us, copies, degree, refused, graylisted, trace, ..
    } = outcome;
    let Outcome { rejected_max, verified_max, memory_bytes, false_prunes, .. } = outcome;
    let memory_mib = float(*memory_bytes) / f64::from(1 << 20);
    let time = |time_us: u64| if *delivered == 0 { "-".to_owned() } else { milliseconds(time_us) };
    let [p50, p99, max] = [*p50_us, *p99_us, *max_us].map(time);
    format!(
        "<tr><td>{}<td>{seed}<td>{} of {}<td>{p50}<td>{p99}<td>{max}<td>{copies:.2}<td>{degree:.2}\
         <td>{refused}<td>{graylisted}<td>{rejected_max}<td>{verified_max}<td>{memory_mib:.2} MiB<td>{false_prunes}<td><code>{trace}</code></tr>",
        escape(engine),
        grouped(*delivered),
        grouped(*expected),
    )
}

/// The share of mesh links that lead to honest nodes over the time of the first seed's run.
fn chart(case: &CaseResult) -> String {
    let Some(Ok(outcome)) = case.runs.first() else { return String::new() };
    let seconds = float(outcome.honest_share.len() as u64);
    let mut plot = Plot::new(Axis::up_to("seconds", seconds), Axis::shares("mesh links to honest nodes, %"));
    let points = (0_u64..).zip(&outcome.honest_share);
    plot.line("transaction", points.map(|(second, share)| (float(second), *share)));
    format!("<figure class=\"card transaction\">{}</figure>\n", plot.finish("Mesh links that lead to honest nodes"))
}
