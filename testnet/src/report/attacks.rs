//! The table of attacks as it came out: for the terminal, as JSON, as a page, and a page for each row.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde_json::{Value, json};

use super::format::{float, grouped, milliseconds};
use super::plot::{Axis, Plot, escape};
use crate::attack::demand::{Demand, Finding};
use crate::attack::experiment::Outcome;
use crate::attack::suite::{self, CaseResult, Ran, RowResult};
use crate::attack::table::{self, Fate, Scale};

/// Scenario, what is demanded, what was measured, what became of the controls, and the verdict.
#[must_use]
pub fn table(rows: &[RowResult]) -> String {
    let mut table = Table::new();
    fill(&mut table, rows);
    table.to_string()
}

fn fill(table: &mut Table, rows: &[RowResult]) {
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    let controlled = has_controls(rows);
    let row = |[name, demanded, measured, controls, verdict]: [String; 5]| {
        let kept = [Some(name), Some(demanded), Some(measured), controlled.then_some(controls), Some(verdict)];
        kept.into_iter().flatten().collect::<Vec<_>>()
    };
    table.set_header(row(HEADINGS.map(str::to_owned)));
    for result in rows {
        for case in &result.cases {
            let name = format!("{}\n{}", result.row.name, case.label).trim().to_owned();
            let verdict = if case.holds() { "pass" } else { "FAIL" };
            table.add_row(row([name, demanded(case), measured(case), controls(case), verdict.to_owned()]));
        }
    }
    // A name is what --only takes: it stays in one piece however narrow the terminal is.
    let longest = rows.iter().map(|result| result.row.name.len()).max().unwrap_or(0);
    let width = u16::try_from(longest).unwrap_or(u16::MAX);
    if let Some(column) = table.column_mut(0) {
        let (left, right) = (column.padding_width() / 2, column.padding_width().div_ceil(2));
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width + left + right)));
    }
}

const HEADINGS: [&str; 5] = ["scenario", "demanded", "measured (worst seed)", "controls", "verdict"];

/// Whether weaker engines were run at all.
fn has_controls(rows: &[RowResult]) -> bool {
    rows.iter().flat_map(|row| &row.cases).any(|case| !case.controls.is_empty())
}

fn demanded(case: &CaseResult) -> String {
    case.findings.iter().map(|(_, finding)| finding.demanded.clone()).collect::<Vec<_>>().join("\n")
}

fn measured(case: &CaseResult) -> String {
    let mark = |holds: bool| if holds { "" } else { " !" };
    let words = |(seed, found): &(u64, Finding)| {
        let seed = seed_of(case, *seed, found.holds);
        format!("{}{}{seed}", found.measured, mark(found.holds))
    };
    let mut lines: Vec<String> = case.findings.iter().map(words).collect();
    let panicked =
        |(seed, ran): &(u64, Ran)| ran.as_ref().err().map(|why| format!("{why}{}", seed_of(case, *seed, false)));
    lines.extend(case.runs.iter().filter_map(panicked));
    lines.join("\n")
}

/// Which seed it was, where that is needed to see it again: where something does not hold, and there are several.
fn seed_of(case: &CaseResult, seed: u64, holds: bool) -> String {
    if holds || case.runs.len() < 2 { String::new() } else { format!(" (seed {seed})") }
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

/// Writes `attacks.json`, `report.html` and a page for each of these rows of the table at this scale into the folder; pages of other rows
/// go, because they are of another program, scale or number of seeds.
///
/// # Errors
/// If a file cannot be written; the error names it.
pub fn write(rows: &[RowResult], scale: &Scale, title: &str, dir: &Path) -> io::Result<()> {
    let put = |name: &str, content: String| {
        let path = dir.join(name);
        let written = fs::write(&path, content);
        written.map_err(|error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display())))
    };
    let extent = Extent::of(rows, scale);
    put(
        "attacks.json",
        serde_json::to_string_pretty(&json(rows, &extent, scale)).expect("numbers and names can be written"),
    )?;
    put("report.html", index(rows, &extent, title))?;
    rows.iter().try_for_each(|row| put(&page_name(row.row.name), page(row, title)))?;
    for row in table::rows().filter(|row| !rows.iter().any(|shown| shown.row.name == row.name)) {
        let path = dir.join(page_name(row.name));
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(io::Error::new(error.kind(), format!("cannot remove {}: {error}", path.display())));
        }
    }
    Ok(())
}

fn page_name(row: &str) -> String {
    format!("{row}.html")
}

/// How much of the table there is.
struct Extent {
    /// Rows that it has at this scale.
    of: usize,
    /// Those of them that are missing.
    missing: Vec<&'static str>,
    /// Rows that it has at another scale only.
    elsewhere: Vec<&'static str>,
}

impl Extent {
    fn of(rows: &[RowResult], scale: &Scale) -> Self {
        let (here, elsewhere) = suite::rows_at(scale);
        let shown = |name: &str| rows.iter().any(|row| row.row.name == name);
        let missing = here.iter().map(|row| row.name).filter(|name| !shown(name)).collect();
        Self { of: here.len(), missing, elsewhere: elsewhere.iter().map(|row| row.name).collect() }
    }

    /// What is not shown, in sentences.
    fn words(&self) -> String {
        let mut words = String::new();
        if !self.missing.is_empty() {
            writeln!(
                words,
                "<p>Not run, or not all of it by this program at this scale with these seeds: {}.</p>",
                self.missing.join(", ")
            )
            .expect("writing to a string");
        }
        if !self.elsewhere.is_empty() {
            writeln!(words, "<p>Not in the quick table: {}.</p>", self.elsewhere.join(", "))
                .expect("writing to a string");
        }
        words
    }
}

fn json(rows: &[RowResult], extent: &Extent, scale: &Scale) -> Value {
    let case = |case: &CaseResult| {
        let findings: Vec<Value> = case
            .findings
            .iter()
            .map(|(seed, it)| json!({ "demanded": it.demanded, "measured": it.measured, "holds": it.holds, "seed": seed }))
            .collect();
        let controls: Vec<Value> = case
            .controls
            .iter()
            .map(|(engine, fate, ran)| json!({ "engine": engine, "expected": fate.words(), "outcome": ran.as_ref().ok() }))
            .collect();
        let runs: Vec<Value> = case.runs.iter().map(|(_, run)| json!(run.as_ref().ok())).collect();
        let seeds: Vec<u64> = case.runs.iter().map(|(seed, _)| *seed).collect();
        json!({
            "case": case.label, "holds": case.holds(), "findings": findings, "controls": controls, "seeds": seeds, "runs": runs
        })
    };
    let row = |row: &RowResult| {
        let cases: Vec<Value> = row.cases.iter().map(case).collect();
        json!({ "scenario": row.row.name, "about": row.row.about, "holds": row.holds(), "cases": cases })
    };
    json!({
        "kind": "attacks",
        "scale": { "nodes": scale.nodes, "messages_per_s": float(scale.messages_per_ks) / 1e3, "quick": scale.relative },
        "holds": rows.iter().all(RowResult::holds),
        "rows_of_table": extent.of,
        "rows_missing": extent.missing,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    })
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

fn index(rows: &[RowResult], extent: &Extent, title: &str) -> String {
    let of = format!("{} of {} rows: ", rows.len(), extent.of);
    let mut body = verdict(rows.iter().all(RowResult::holds), &of);
    let failing = rows.iter().filter(|row| !row.holds()).map(|row| row.row.name);
    let failing: Vec<String> = failing.map(|name| format!("<a href=\"{name}.html\">{name}</a>")).collect();
    if !failing.is_empty() {
        writeln!(body, "<p>These do not: {}.</p>", failing.join(", ")).expect("writing to a string");
    }
    body.push_str(&extent.words());
    let controlled = has_controls(rows);
    let heading = |heading: &&str| controlled || *heading != "controls";
    let headings: Vec<&str> = HEADINGS.into_iter().filter(heading).collect();
    body.push_str("<p>What does not hold is marked with an exclamation mark.");
    body.push_str(" p99 and max are of the latency of deliveries.");
    if controlled {
        write!(
            body,
            " Controls are weaker engines under the same attack, and what has to become of them is known too: {}. Copies are those of a delivery.",
            fates(rows)
        )
        .expect("writing to a string");
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

/// Which control has to come to what.
fn fates(rows: &[RowResult]) -> String {
    let mut fates: Vec<String> = Vec::new();
    for (engine, fate, _) in rows.iter().flat_map(|row| &row.cases).flat_map(|case| &case.controls) {
        let words = format!("{engine} {}", fate.words());
        if !fates.contains(&words) {
            fates.push(words);
        }
    }
    fates.join(", ")
}

/// Whether all holds, after what that is said of.
fn verdict(holds: bool, of: &str) -> String {
    let (class, not) = if holds { ("verdict", "all") } else { ("verdict bad", "not all") };
    let words = format!("{of}{not} that is demanded holds.");
    let (first, others) = words.split_at(1);
    format!("<div class=\"{class}\">{}{others}</div>\n", first.to_uppercase())
}

fn lines(text: &str) -> String {
    escape(text).replace('\n', "<br>")
}

fn page(row: &RowResult, title: &str) -> String {
    let mut body =
        format!("<p class=\"facts\">{} · <a href=\"report.html\">{}</a></p>\n", escape(row.row.about), escape(title));
    body.push_str(&verdict(row.holds(), ""));
    if row.cases.iter().any(has_figures) {
        body.push_str(LEGEND);
    }
    for case in &row.cases {
        if !case.label.is_empty() {
            writeln!(body, "<h2>{}</h2>", escape(case.label)).expect("writing to a string");
        }
        body.push_str("<table class=\"words\"><tr><th>demanded<th>measured (worst seed)<th>verdict</tr>\n");
        for (seed, finding) in &case.findings {
            let verdict = if finding.holds { "holds" } else { "<b>does not hold</b>" };
            let (demanded, measured) = (escape(&finding.demanded), escape(&finding.measured));
            let seed = if case.runs.len() > 1 { format!(" (seed {seed})") } else { String::new() };
            writeln!(body, "<tr><td>{demanded}<td>{measured}{seed}<td>{verdict}</tr>").expect("writing to a string");
        }
        for control in &case.controls {
            let (engine, fate, ran) = control;
            let verdict = if suite::control_holds(control) { "holds" } else { "<b>does not hold</b>" };
            let became = escape(fate_of(*fate, ran).trim_end_matches(" !"));
            writeln!(body, "<tr><td>control: {engine} {}<td>{became}<td>{verdict}</tr>", fate.words())
                .expect("writing to a string");
        }
        body.push_str("</table>\n");
        if has_figures(case) {
            body.push_str(&network(case));
            body.push_str(&losses(row.row.demands, case));
            body.push_str(&figures(case));
            body.push_str(&chart(case));
        }
    }
    frame(row.row.name, &body)
}

/// Whether a network was tried, of which there is something to count. A run that failed is told of all the same.
fn has_figures(case: &CaseResult) -> bool {
    case.runs.iter().any(|(_, run)| run.as_ref().map_or(true, |outcome| outcome.nodes > 0))
}

/// How large the network and how many the attackers.
fn network(case: &CaseResult) -> String {
    let Some((_, Ok(outcome))) = case.runs.first() else { return String::new() };
    let attackers = match outcome.attackers {
        0 => "no attacker".to_owned(),
        1 => "1 attacker".to_owned(),
        attackers => format!("{} attackers", grouped(attackers as u64)),
    };
    let when = [("come", outcome.attackers_come_s), ("turn", outcome.attackers_turn_s)];
    let when: String =
        when.iter().filter_map(|(verb, at_s)| Some(format!(", who {verb} after {} s", (*at_s)?))).collect();
    let (nodes, published) = (grouped(outcome.nodes as u64), grouped(outcome.published));
    format!("<p>{nodes} honest nodes, {attackers}{when}; {published} messages published with the first seed.</p>\n")
}

/// Why deliveries are missing where nobody demands them all.
fn losses(demands: &[Demand], case: &CaseResult) -> String {
    let mut runs = case.runs.iter().filter_map(|(_, run)| run.as_ref().ok());
    if runs.all(|outcome| outcome.delivered == outcome.expected) {
        return String::new();
    }
    let why = demands.iter().find_map(|demand| demand.losses_allowed());
    why.map_or_else(String::new, |why| format!("<p>{}</p>\n", escape(why)))
}

/// What the columns of [`figures`] count.
const LEGEND: &str = "<p>Delivered are first copies that came over the mesh, of all that there should have been at nodes that were not shut down. Copies are \
     those of a delivery, the mesh degree is the mean over nodes and time. Refused are messages that were not \
     accepted, sent away peers whose score was too low, both of all honest nodes. Rejected and verified are invalid messages of one \
     attacker at one node, at most; node memory is the most that one node had allocated and queued; honest prunes are honest peers \
     that honest nodes took out of their meshes for bringing nothing, for their score, or for being slow. Latencies are of messages that were published after attackers began to do harm.</p>\n";

/// Every run of a case, controls included.
fn figures(case: &CaseResult) -> String {
    let mut html = String::from(
        "<div class=\"scroll\"><table><tr><th>engine<th>seed<th>delivered<th>p50<th>p99<th>max<th>copies<th>mesh degree<th>refused<th>sent away\
         <th>rejected of one<th>verified of one<th>node memory<th>honest prunes</tr>\n",
    );
    let mut add = |seed: u64, ran: &Ran| {
        let line = match ran {
            Ok(outcome) => cells(seed, outcome),
            Err(error) => format!("<tr><td>-<td>{seed}<td colspan=\"12\">{}</tr>", escape(error)),
        };
        html.push_str(&line);
        html.push('\n');
    };
    case.runs.iter().for_each(|(seed, ran)| add(*seed, ran));
    let first = case.runs.first().map_or(1, |(seed, _)| *seed);
    case.controls.iter().for_each(|(_, _, ran)| add(first, ran));
    html + "</table></div>\n"
}

fn cells(seed: u64, outcome: &Outcome) -> String {
    let Outcome { engine, delivered, expected, p50_us, p99_us, max_us, copies, degree, refused, graylisted, .. } =
        outcome;
    let Outcome { rejected_max, verified_max, memory_bytes, false_prunes, .. } = outcome;
    let memory_mib = float(*memory_bytes) / f64::from(1 << 20);
    let time = |time_us: u64| if *delivered == 0 { "-".to_owned() } else { milliseconds(time_us) };
    let [p50, p99, max] = [*p50_us, *p99_us, *max_us].map(time);
    format!(
        "<tr><td>{}<td>{seed}<td>{} of {}<td>{p50}<td>{p99}<td>{max}<td>{copies:.2}<td>{degree:.2}\
         <td>{refused}<td>{graylisted}<td>{rejected_max}<td>{verified_max}<td>{memory_mib:.2} MiB<td>{false_prunes}</tr>",
        escape(engine),
        grouped(*delivered),
        grouped(*expected),
    )
}

/// The share of links in meshes of transactions that lead to honest nodes over the time of the first seed's run; nothing where nobody
/// attacks, because it is all of them then.
fn chart(case: &CaseResult) -> String {
    let Some((_, Ok(outcome))) = case.runs.first() else { return String::new() };
    // Before the first links there are none to honest nodes either.
    let linked = outcome.honest_share.iter().skip_while(|share| **share <= 0.0);
    if outcome.attackers == 0 {
        return String::new();
    }
    if linked.clone().all(|share| *share >= 1.0) {
        let none = linked.count() == 0;
        let seen =
            if none { "No node was seen with a mesh link" } else { "No attacker was seen in a mesh of transactions" };
        return format!("<p>{seen}, which is looked at once a second.</p>\n");
    }
    // The first look is one second after the start.
    let seconds = float(outcome.honest_share.len() as u64);
    let mut plot = Plot::new(
        Axis::ending_at("Seconds since the start of the run, first seed", seconds),
        Axis::shares("Links to honest nodes (%)"),
    );
    let marks =
        [("attackers come", outcome.attackers_come_s, 0.12), ("attackers turn", outcome.attackers_turn_s, 0.04)];
    let marks = marks.into_iter().filter_map(|(label, at_s, height)| Some((label, at_s?, height)));
    let marks: Vec<_> = marks.filter(|(_, at_s, _)| *at_s <= seconds).collect();
    for (_, at_s, _) in &marks {
        plot.line("bound", [(*at_s, 0.0), (*at_s, 1.0)]);
    }
    let points = (1_u64..).zip(&outcome.honest_share);
    plot.line("transaction", points.map(|(second, share)| (float(second), *share)));
    // Over the lines, or they would be struck out.
    for (label, at_s, height) in marks {
        plot.label("bound", (at_s, height), at_s > seconds / 2.0, label);
    }
    let title = "Share of the links in meshes of transactions that lead to honest nodes";
    format!("<figure class=\"card transaction\"><h3>{title}</h3>\n{}</figure>\n", plot.finish(title))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale::QUICK;

    /// A row of the table with a case of this outcome, all demands judged.
    fn row(name: &str, label: &'static str, outcome: &Outcome) -> RowResult {
        let row = table::rows().find(|row| row.name == name).expect("it is in the table");
        let findings = row.demands.iter().map(|demand| (1, demand.judge(outcome, outcome, &SCALE))).collect();
        let controls = row.controls.iter().map(|(engine, fate)| (engine.name, *fate, Ok(outcome.clone()))).collect();
        let case = CaseResult { label, runs: vec![(1, Ok(outcome.clone()))], findings, controls };
        RowResult { row, cases: vec![case] }
    }

    fn attacked() -> Outcome {
        Outcome {
            nodes: 120,
            attackers: 480,
            attackers_come_s: Some(16.0),
            attackers_turn_s: Some(37.0),
            published: 10,
            expected: 1_190,
            delivered: 1_190,
            honest_share: (0..53).map(|second| if second < 16 { 1.0 } else { 0.5 }).collect(),
            ..Outcome::default()
        }
    }

    #[test]
    fn names_of_rows_stay_in_one_piece_in_a_narrow_terminal() {
        let rows = [
            row("poisoned-network", "where nobody was of use before", &attacked()),
            row("eclipse-publishers", "", &attacked()),
            row("cold-boot", "", &attacked()),
        ];
        for width in [60, 80] {
            let mut table = Table::new();
            fill(&mut table, &rows);
            let text = table.set_width(width).to_string();
            assert!(rows.iter().all(|row| text.contains(row.row.name)), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{text}");
        }
    }

    #[test]
    fn the_page_says_how_much_of_the_table_it_shows_and_what_controls_have_to_come_to() {
        let rows = [row("baseline", "", &attacked()), row("cold-boot", "", &attacked())];
        let extent = Extent::of(&rows, &SCALE);
        let page = index(&rows, &extent, "Attacks");
        let of = table::rows().count() - 1;
        assert!(page.contains(&format!(">2 of {of} rows: not all that is demanded holds.")), "{page}");
        let failing =
            "<p>These do not: <a href=\"baseline.html\">baseline</a>, <a href=\"cold-boot.html\">cold-boot</a>.</p>";
        assert!(page.contains(failing), "{page}");
        assert!(page.contains("seeds: eclipse-network, ") && page.contains("quick table: ten-thousand."), "{page}");
        assert!(page.contains("floodsub delivers all at 30 copies and more"), "{page}");
        assert_eq!(json(&rows, &extent, &SCALE)["rows_missing"].as_array().map(Vec::len), Some(of - 2));
    }

    /// Whoever reads that a row fails finds out what of it.
    #[test]
    fn a_control_that_comes_to_no_harm_is_named_on_the_page_of_its_row() {
        let costly = Outcome { copies: 31.0, ..attacked() };
        let shown = page(&row("cold-boot", "", &costly), "Attacks");
        let line =
            |engine: &str| shown.lines().find(|line| line.contains(&format!("control: {engine}"))).expect("a line");
        let (classic, flood) = (line("gossipsub 1.0"), line("floodsub"));
        assert!(classic.contains("loses messages<td>100.00 %, 31 copies<td><b>does not hold</b>"), "{classic}");
        assert!(flood.contains("delivers all at 30 copies and more<td>100.00 %, 31 copies<td>holds"), "{flood}");
    }

    #[test]
    fn charts_end_with_the_data_and_show_when_the_attack_begins() {
        let shown = page(&row("eclipse-network", "", &attacked()), "Attacks");
        assert!(shown.contains("480 attackers, who come after 16 s, who turn after 37 s"), "{shown}");
        assert!(shown.contains("attackers come</text>") && shown.contains("attackers turn</text>"), "{shown}");
        assert!(shown.contains(">50</text>") && !shown.contains(">60</text>"), "{shown}");
        let start = attacked().honest_share.len();
        assert!(shown.matches('L').count() >= start - 1, "a point for each second");
    }

    #[test]
    fn nothing_is_drawn_where_nothing_can_be_seen() {
        let nobody = Outcome { attackers: 0, attackers_come_s: None, attackers_turn_s: None, ..attacked() };
        let harmless = Outcome { honest_share: vec![0.0, 1.0, 1.0], ..attacked() };
        let shown =
            [("partition", &nobody), ("eclipse-network", &harmless)].map(|(name, it)| page(&row(name, "", it), ""));
        assert!(shown.iter().all(|page| !page.contains("<svg") && page.contains("mesh degree")), "{shown:?}");
        assert!(shown[1].contains("No attacker was seen in a mesh"), "{}", shown[1]);
        let bytes = page(&row("malformed", "", &Outcome { inputs: 5, ..Outcome::default() }), "");
        assert!(
            !bytes.contains("<svg") && !bytes.contains("mesh degree") && bytes.contains("none in 5 inputs"),
            "{bytes}"
        );
    }

    /// Of several seeds it is said which of them fails, so that it can be run again.
    #[test]
    fn what_does_not_hold_names_its_seed() {
        let mut lossy = row("cold-boot", "", &Outcome { delivered: 700, ..attacked() });
        assert!(measured(&lossy.cases[0]).contains("missing) !") && !measured(&lossy.cases[0]).contains("seed"));
        lossy.cases[0].runs.push((2, Err("a node panicked: why".to_owned())));
        let shown = measured(&lossy.cases[0]);
        assert!(
            shown.contains("(490 missing) ! (seed 1)") && shown.ends_with("a node panicked: why (seed 2)"),
            "{shown}"
        );
        let of_what_holds = shown.lines().filter(|line| !line.contains(" !") && !line.contains("panicked"));
        assert!(
            of_what_holds.clone().count() > 0 && of_what_holds.clone().all(|line| !line.contains("seed")),
            "{shown}"
        );
        let case = &json(&[lossy.clone()], &Extent::of(&[lossy], &SCALE), &SCALE)["rows"][0]["cases"][0];
        assert_eq!((&case["seeds"], &case["findings"][0]["seed"]), (&json!([1, 2]), &json!(1)));
    }

    #[test]
    fn it_is_said_why_deliveries_may_be_missing() {
        let lossy = Outcome { delivered: 700, ..attacked() };
        for (name, why) in [("partition", "divided"), ("starved", "stopped for ever")] {
            assert!(page(&row(name, "", &lossy), "").contains(why), "{name}");
            assert!(!page(&row(name, "", &attacked()), "").contains("Missing deliveries"), "{name}");
        }
        let row = row("churn", "", &lossy);
        assert_eq!(losses(row.row.demands, &row.cases[0]), "", "nearly all are demanded");
    }
}
