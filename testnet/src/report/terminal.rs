//! What a run says on the terminal when it is done.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::format::{bytes, float, grouped, load, milliseconds, multiple, percent};
use super::{Run, Summary, Verdict};
use crate::measure::{Class, ClassStatistics, Quantiles};

/// Missing deliveries named on the terminal; all of them are in `missing.csv`.
const MISSING_SHOWN: usize = 20;
/// Refused submissions named on the terminal.
const REFUSED_SHOWN: usize = 5;

/// The figures of both classes side by side, then what the run used in all.
#[must_use]
pub fn figures(run: &Run) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["", "transactions", "blocks"]);
    let classes = run.classes();
    for (label, figure) in ROWS {
        let cells = classes.iter().map(|class| class.as_ref().map_or_else(|| "-".to_owned(), figure));
        table.add_row(std::iter::once((*label).to_owned()).chain(cells));
        if *label == IN_BLOCK && run.simulation.is_some() {
            // Of transactions alone it is known.
            let transactions = classes[Class::Transaction.index()].as_ref();
            let later = transactions.map_or_else(|| "-".to_owned(), |class| grouped(class.with_the_chain as u64));
            table.add_row(["later, with the chain".to_owned(), later, "-".to_owned()]);
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n{}", totals(run))
}

/// A row's label, and its figure for one class.
type Row = (&'static str, fn(&ClassStatistics) -> String);

const IN_BLOCK: &str = "only inside a block";

const ROWS: &[Row] = &[
    ("published", |class| grouped(class.published as u64)),
    ("coverage", |class| {
        let counts = format!("{} of {}", grouped(class.deliveries as u64), grouped(class.expected as u64));
        format!("{}  ({counts})", percent(class.coverage()))
    }),
    (IN_BLOCK, |class| grouped(class.in_block_only as u64)),
    ("pulled", |class| match class.deliveries {
        0 => "-".to_owned(),
        deliveries => percent(float(class.pulled as u64) / float(deliveries as u64)),
    }),
    ("latency p50", |class| latency(class, |quantiles| quantiles.p50)),
    ("latency p90", |class| latency(class, |quantiles| quantiles.p90)),
    ("latency p99", |class| latency(class, |quantiles| quantiles.p99)),
    ("latency max", |class| latency(class, |quantiles| quantiles.max)),
    ("lower bound p50", |class| time(&class.bound_us, |quantiles| quantiles.p50)),
    ("lower bound p99", |class| time(&class.bound_us, |quantiles| quantiles.p99)),
    ("p50 over bound", |class| over_bound(class, |quantiles| quantiles.p50)),
    ("p99 over bound", |class| over_bound(class, |quantiles| quantiles.p99)),
    ("copies per delivery", |class| number(class.copies_per_delivery(), |copies| format!("{copies:.2}"))),
    ("frame bytes per delivery", |class| number(class.frame_bytes_per_delivery(), bytes)),
    ("payload", |class| bytes(class.payload_bytes_mean())),
];

fn latency(class: &ClassStatistics, point: fn(&Quantiles) -> u64) -> String {
    time(&class.latency_us, point)
}

fn time(sorted_us: &[u64], point: fn(&Quantiles) -> u64) -> String {
    Quantiles::of_sorted(sorted_us).map_or_else(|| "-".to_owned(), |quantiles| milliseconds(point(&quantiles)))
}

fn over_bound(class: &ClassStatistics, point: fn(&Quantiles) -> u64) -> String {
    match (Quantiles::of_sorted(&class.latency_us), Quantiles::of_sorted(&class.bound_us)) {
        (Some(latency), Some(bound)) => multiple(float(point(&latency)), float(point(&bound))),
        _ => "-".to_owned(),
    }
}

fn number(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

/// One line each for what belongs to no class.
fn totals(run: &Run) -> String {
    let summary = Summary::of(run);
    let mut lines = vec![format!("ready            {}", run.ready())];
    if let Some(simulation) = &run.simulation {
        lines.push(format!("bytes sent       {} in all", bytes(float(summary.socket_bytes()))));
        let speed = simulation.speed().map(|per_s| format!(", {:.2} million a second", per_s / 1e6));
        lines.push(format!(
            "computed         {} engine events in {}{}",
            grouped(simulation.events),
            computed(simulation.computed_s),
            speed.unwrap_or_default()
        ));
        lines.push(format!(
            "memory           {:.0} MiB resident at most, the report not counted",
            simulation.resident_mib_max
        ));
        lines.push(format!("trace            {}", simulation.trace_hash));
        lines.extend(late(run));
        lines.extend(run.notes.iter().cloned());
        return lines.join("\n");
    }
    lines.extend([
        format!("socket bytes     {} in all", bytes(float(summary.socket_bytes()))),
        format!(
            "processor        {} a delivery; host {} busy ({} cores)",
            number(summary.cpu_us_per_delivery(), |cpu_us| format!("{cpu_us:.0} us")),
            load(run.host.cpu_busy_fraction),
            run.host.cores,
        ),
        format!("memory           {:.1} MiB resident at most in one node", summary.rss_mib_max()),
    ]);
    for group in &run.attackers {
        let [verdict, figures] = group.lines();
        lines.push(format!("attackers        {verdict}"));
        lines.push(format!("                 {figures}"));
    }
    lines.extend(run.saturation());
    lines.extend(late(run));
    lines.extend(run.notes.iter().cloned());
    lines.join("\n")
}

/// How long it took to compute a run, in words.
pub(super) fn computed(computed_s: f64) -> String {
    if computed_s < 0.05 { "less than 0.1 s".to_owned() } else { format!("{computed_s:.1} s") }
}

/// What is said where deliveries are missing and all is well by the verdict of a manifest.
pub(super) const ENDED_WELL: &str = "Not every message reached every node over the mesh, but every node that ran has every transaction in the end: what \
     the mesh did not bring came in blocks. All agree about the chain.";

fn late(run: &Run) -> Option<String> {
    let late = run.verdict.as_ref().is_some_and(Verdict::is_good) && run.deliveries.missing().next().is_some();
    late.then(|| ENDED_WELL.to_owned())
}

/// What went wrong, line by line: refused submissions and missing deliveries. Empty if nothing did.
#[must_use]
pub fn complaints(run: &Run) -> Vec<String> {
    let mut lines = Vec::new();
    if !run.refused.is_empty() {
        lines.push(format!("{} submissions were refused:", grouped(run.refused.len() as u64)));
        lines.extend(shortened(
            run.refused.iter().map(|reason| format!("  {reason}")),
            REFUSED_SHOWN,
            "in refused.txt",
        ));
    }
    if run.passed_on > 0 {
        lines.push(format!("{} messages of attackers were passed on by nodes", grouped(run.passed_on as u64)));
    }
    if run.strange() > 0 {
        lines.push(format!(
            "{} messages were received that no node says to have published; was their origin killed?",
            grouped(run.strange() as u64)
        ));
    }
    for class in Class::ALL {
        let missing: Vec<_> = run.deliveries.missing().filter(|(message, ..)| message.class == class).collect();
        if missing.is_empty() {
            continue;
        }
        lines.push(format!("{} {class} deliveries are missing:", grouped(missing.len() as u64)));
        let named = missing.iter().map(|(message, number, in_block)| {
            let (origin, node) = (&run.manifest.node[message.origin].name, &run.manifest.node[*number].name);
            let in_block = match in_block {
                true => " (it came only inside a block)",
                false if run.deliveries.came_with_the_chain(message, *number) => " (it came later, with the chain)",
                false => "",
            };
            format!("  {} from {origin} did not reach {node}{in_block}", message.id)
        });
        lines.extend(shortened(named, MISSING_SHOWN, "in missing.csv"));
    }
    lines
}

/// At most `shown` of the lines, and how many more there are and where.
fn shortened(lines: impl ExactSizeIterator<Item = String>, shown: usize, elsewhere: &str) -> Vec<String> {
    let more = lines.len().saturating_sub(shown);
    let mut lines: Vec<String> = lines.take(shown).collect();
    if more > 0 {
        lines.push(format!("  and {} more, {elsewhere}", grouped(more as u64)));
    }
    lines
}
