//! `report.html`: the run as a page, one file that needs no network and, but for sorting the table of nodes, no script.
//!
//! For each class: the figures, the empirical distribution of latency against that of its lower bound, how a message spreads
//! over time, how latency went over the run, and how often each number of copies and of hops occurred. Then one row for each
//! node. The page follows the reader's preference for light or dark.

use std::fmt::Write;

use super::charts;
use super::format::{bytes, float, grouped, load, milliseconds, multiple, percent, rate};
use super::plot::escape;
use super::{Run, Simulation, Summary, terminal};
use crate::measure::{Class, ClassStatistics, Outcome, Quantiles, statistics::nearest_rank};

/// The page.
#[must_use]
pub fn page(run: &Run) -> String {
    let classes = run.classes();
    let mut page = String::with_capacity(256 * 1_024);
    let title = format!("Starling testnet: {} nodes, {}", run.manifest.network.nodes, run.manifest.network.profile);
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>\n{}</style>\n\
         </head>\n<body>\n<main>\n<h1>{}</h1>\n",
        escape(&title),
        include_str!("page.css"),
        escape(&title),
    )
    .expect("writing to a string");
    page.push_str(&facts(run));
    page.push_str(&verdict(run));
    page.push_str(&pair(&Class::ALL.into_iter().zip(&classes).map(figures).collect::<String>()));
    page.push_str(&sections(run, &classes));
    page.push_str(&nodes(run));
    page.push_str(&footer(run));
    write!(page, "</main>\n<script>\n{}</script>\n</body>\n</html>\n", include_str!("page.js"))
        .expect("writing to a string");
    page
}

/// Cards or sections, side by side where there is room.
fn pair(content: &str) -> String {
    format!("<div class=\"pair\">\n{content}</div>\n")
}

fn figures((class, statistics): (Class, &Option<ClassStatistics>)) -> String {
    match statistics {
        Some(statistics) => card(class, &tiles(statistics)),
        None => card(class, &format!("<p>No {class} was published while the load ran.</p>")),
    }
}

/// The charts of each class that was published: both classes side by side, or the sections if there is but one.
fn sections(run: &Run, classes: &[Option<ClassStatistics>; 2]) -> String {
    let published: Vec<(Class, &ClassStatistics)> = Class::ALL
        .into_iter()
        .zip(classes)
        .filter_map(|(class, statistics)| Some((class, statistics.as_ref()?)))
        .collect();
    let sections = charts::SECTIONS.iter().map(|section| {
        let chart = |(class, statistics): &(Class, &ClassStatistics)| {
            card(*class, &format!("{}{}", (section.chart)(run, *class, statistics), (section.legend)()))
        };
        let cards: String = published.iter().map(chart).collect();
        let head = format!("<h2>{}</h2>\n<p>{}</p>\n", section.title, section.explanation);
        match &*published {
            [_] => format!("<section>\n{head}{cards}</section>\n"),
            _ => format!("{head}{}", pair(&cards)),
        }
    });
    match &*published {
        [] => String::new(),
        [_] => pair(&sections.collect::<String>()),
        _ => sections.collect(),
    }
}

fn card(class: Class, content: &str) -> String {
    let title = match class {
        Class::Transaction => "Transactions",
        Class::Block => "Blocks",
    };
    format!("<figure class=\"card {class}\"><h3>{title}</h3>\n{content}</figure>\n")
}

fn facts(run: &Run) -> String {
    let manifest = &run.manifest;
    format!(
        "<p class=\"facts\">{}{} {} · {} connections sought by each · {} profile · seed {} · {} transactions of {} \
         payload a second for {} s · slots of {} s · ready {} · {}</p>\n",
        run.simulation.as_ref().map(simulation).unwrap_or_default(),
        manifest.network.nodes,
        if run.simulation.is_some() { "simulated nodes" } else { "nodes as processes" },
        manifest.network.target_peers,
        escape(&manifest.network.profile),
        manifest.seed,
        rate(manifest.load.tx_rate),
        bytes(float(manifest.load.tx_bytes as u64)),
        manifest.load.duration_s,
        manifest.network.slot_s,
        run.ready(),
        escape(&manifest.started),
    )
}

fn simulation(simulation: &Simulation) -> String {
    format!(
        "trace {} · {} engine events in {} · ",
        escape(&simulation.trace_hash),
        grouped(simulation.events),
        terminal::computed(simulation.computed_s)
    )
}

/// Whether everything arrived, and whether the figures can be trusted.
fn verdict(run: &Run) -> String {
    let mut html = String::new();
    let findings = run.verdict.iter().flat_map(|verdict| verdict.findings());
    findings.for_each(|finding| html.push_str(&format!("<div class=\"verdict bad\">{}</div>\n", escape(finding))));
    let complaints = terminal::complaints(run);
    if run.deliveries.messages().is_empty() {
        html.push_str("<div class=\"verdict bad\">No message was published while the load ran.</div>\n");
    } else if complaints.is_empty() {
        html.push_str("<div class=\"verdict\">Every message reached every node.</div>\n");
    } else {
        let (class, words) = match &run.verdict {
            Some(verdict) if verdict.is_good() => ("verdict warn", terminal::ENDED_WELL),
            _ => ("verdict bad", "Not every message reached every node over the mesh."),
        };
        html.push_str(&format!("<div class=\"{class}\">{words}<details><summary>Which</summary><ul>"));
        complaints.iter().for_each(|line| html.push_str(&format!("<li>{}</li>", escape(line))));
        html.push_str("</ul></details></div>\n");
    }
    for group in &run.attackers {
        let class = if group.hold() { "verdict" } else { "verdict bad" };
        let [verdict, figures] = group.lines().map(|line| escape(&line));
        let complaints: String = group.complaints.iter().map(|line| format!("<li>{}</li>", escape(line))).collect();
        html.push_str(&format!(
            "<div class=\"{class}\">{verdict}<br><small>{figures}</small><ul>{complaints}</ul></div>\n"
        ));
    }
    for note in run.saturation().iter().chain(&run.notes) {
        html.push_str(&format!("<div class=\"verdict warn\">{}</div>\n", escape(note)));
    }
    html
}

/// The figures of a class, large.
fn tiles(class: &ClassStatistics) -> String {
    let latency = Quantiles::of_sorted(&class.latency_us);
    let bound = Quantiles::of_sorted(&class.bound_us);
    let over = |point: fn(&Quantiles) -> u64| match (&latency, &bound) {
        (Some(latency), Some(bound)) => {
            let (latency_us, bound_us) = (point(latency), point(bound));
            let over = match bound_us {
                // Where no way takes any time, nothing can be said of a multiple.
                0 => String::new(),
                _ => {
                    format!("{} the bound of {}", multiple(float(latency_us), float(bound_us)), milliseconds(bound_us))
                }
            };
            (milliseconds(latency_us), over)
        }
        _ => ("-".to_owned(), "nothing was delivered".to_owned()),
    };
    let payload = class.payload_bytes_mean();
    let (p50, p50_over) = over(|quantiles| quantiles.p50);
    let (p90, p90_over) = over(|quantiles| quantiles.p90);
    let (p99, p99_over) = over(|quantiles| quantiles.p99);
    let (max, max_over) = over(|quantiles| quantiles.max);
    let copies = class.copies_per_delivery().map_or_else(|| "-".to_owned(), |copies| format!("{copies:.2}"));
    let frame_bytes = class.frame_bytes_per_delivery();
    let tiles = [
        ("Published", grouped(class.published as u64), format!("{} payload on average", bytes(payload))),
        (
            "Coverage",
            percent(class.coverage()),
            format!("{} of {} deliveries", grouped(class.deliveries as u64), grouped(class.expected as u64)),
        ),
        ("Latency p50", p50, p50_over),
        ("Latency p90", p90, p90_over),
        ("Latency p99", p99, p99_over),
        ("Latency max", max, max_over),
        ("Copies per delivery", copies, "1 at best".to_owned()),
        (
            "Frame bytes per delivery",
            frame_bytes.map_or_else(|| "-".to_owned(), bytes),
            frame_bytes.map_or_else(String::new, |size| format!("{} the payload", multiple(size, payload))),
        ),
    ];
    let tiles = tiles
        .map(|(name, figure, remark)| format!("<div><dt>{name}</dt><dd>{figure}<small>{remark}</small></dd></div>"));
    format!("<dl class=\"tiles\">{}</dl>\n", tiles.concat())
}

/// The headings of the table of nodes, with the CSS class of their columns.
const NODE_COLUMNS: [(&str, &str); 18] = [
    ("Node", "text"),
    ("Region", "text"),
    ("Last mile, ms", ""),
    ("Published, tx + block", ""),
    ("Received, tx + block", ""),
    ("Missing, tx + block", ""),
    ("Transaction p50, ms", ""),
    ("Transaction p99, ms", ""),
    ("Block p50, ms", ""),
    ("Copies per delivery", ""),
    ("Mesh links, tx / block", ""),
    ("Frames in, KiB", ""),
    ("Frames out, KiB", ""),
    ("Processor, s", ""),
    ("Memory, MiB", ""),
    ("Event-loop lag p99, ms", ""),
    ("Address", "text mono"),
    ("Peer id", "text mono"),
];

fn nodes(run: &Run) -> String {
    let mut html = String::from(
        "<h2>Nodes</h2>\n<p>What each node received and used from the start of the load to the end of the drain. Blocks are \
         made by the nodes marked *. Press a heading to sort. Where the table is wider than the page, it scrolls sideways.</p>\n\
         <div class=\"card neither scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Nodes\"><table>\n<thead><tr>",
    );
    for (heading, style) in NODE_COLUMNS.into_iter().filter(|(heading, _)| has_column(run, heading)) {
        html.push_str(&format!("<th class=\"{style}\"><button>{heading}</button></th>"));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for node in 0..run.manifest.node.len() {
        html.push_str("<tr>");
        let cells = NODE_COLUMNS.into_iter().zip(node_cells(run, node));
        for ((heading, style), cell) in cells.filter(|((heading, _), _)| has_column(run, heading)) {
            let (bad, cell) = cell.strip_prefix('!').map_or(("", &*cell), |cell| (" bad", cell));
            let cell = escape(cell);
            // Of identities only the end differs; the whole is shown when pointed at.
            let (hint, end) = match cell.char_indices().rev().nth(9) {
                Some((at, _)) if heading == "Peer id" && at > 0 => {
                    (format!(" title=\"{cell}\""), format!("…{}", &cell[at..]))
                }
                _ => (String::new(), cell),
            };
            html.push_str(&format!("<td class=\"{style}{bad}\"{hint}>{end}</td>"));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div>\n");
    html
}

/// Simulated nodes share a process, so what a process uses is known of real ones alone.
fn has_column(run: &Run, heading: &str) -> bool {
    run.simulation.is_none() || !matches!(heading, "Processor, s" | "Memory, MiB" | "Event-loop lag p99, ms")
}

/// The cells of a node's row; one that starts with an exclamation mark is bad news.
fn node_cells(run: &Run, node: usize) -> [String; 18] {
    let (facts, usage) = (&run.manifest.node[node], &run.nodes[node]);
    let mut latencies_us = [Vec::new(), Vec::new()];
    let (mut published, mut received, mut missing, mut copies) = (0, 0, 0, 0);
    for message in run.deliveries.messages() {
        match run.deliveries.outcome(message, node) {
            Outcome::Origin => published += 1,
            Outcome::Delivered(arrival) => {
                received += 1;
                copies += u64::from(message.receptions[node].copies);
                latencies_us[message.class.index()].push(arrival.t_us.saturating_sub(message.t0_us));
            }
            Outcome::InBlock(_) | Outcome::Missing => missing += 1,
            Outcome::Absent => {}
        }
    }
    latencies_us.iter_mut().for_each(|latencies_us| latencies_us.sort_unstable());
    let [transactions_us, blocks_us] = &latencies_us;
    let milli =
        |time_us: Option<u64>| time_us.map_or_else(|| "-".to_owned(), |time_us| format!("{:.1}", float(time_us) / 1e3));
    let kib = |size: u64| format!("{:.0}", float(size) / 1_024.0);
    let [transaction_links, block_links] = usage.activity.degrees;
    [
        format!("{}{}{}", if usage.lost { "!" } else { "" }, facts.name, if facts.producer { "*" } else { "" }),
        facts.region.clone(),
        milli(Some(facts.last_mile_us)),
        published.to_string(),
        received.to_string(),
        if missing > 0 { format!("!{missing}") } else { "0".to_owned() },
        milli(nearest_rank(transactions_us, 50)),
        milli(nearest_rank(transactions_us, 99)),
        milli(nearest_rank(blocks_us, 50)),
        if received > 0 { format!("{:.2}", float(copies) / float(received)) } else { "-".to_owned() },
        format!("{transaction_links} / {block_links}"),
        kib(usage.activity.bytes.frame_in),
        kib(usage.activity.bytes.frame_out),
        format!("{:.2}", float(usage.cpu_us) / 1e6),
        format!("{:.1}", float(usage.rss_kib_max) / 1_024.0),
        milli(usage.activity.lag_p99_us),
        facts.ip.to_string(),
        facts.peer_id.clone(),
    ]
}

fn footer(run: &Run) -> String {
    let manifest = &run.manifest;
    format!(
        "<footer>\n<p>The lower bound is the shortest one-way path from origin to receiver through any nodes of the network: half the \
         round-trip times between regions and the last miles, without jitter, sending and processing. Latency runs from the \
         origin's publish to the decoding of the first copy at the receiver, on one clock. The bound's quantiles are taken over \
         the same deliveries.</p>\n<p>{}, {} cores, {}, {} MiB, {}</p>\n<p>starling-testnet {}: <code>{}</code></p>\n</footer>\n",
        used(run),
        run.host.cores,
        escape(&manifest.host.processor),
        manifest.host.memory_mib,
        escape(&manifest.host.system),
        escape(&manifest.version),
        escape(&manifest.command.join(" ")),
    )
}

/// What the whole run used, up to the host that it ran on.
fn used(run: &Run) -> String {
    let summary = Summary::of(run);
    let sent = bytes(float(summary.socket_bytes()));
    if let Some(simulation) = &run.simulation {
        let resident = bytes(simulation.resident_mib_max * 1_048_576.0);
        return format!("{sent} sent in all · {resident} resident at most, the report not counted · host");
    }
    format!(
        "{sent} written to sockets in all · {} of processor time a delivery · {} at most resident in one node · host {} busy",
        summary.cpu_us_per_delivery().map_or_else(|| "-".to_owned(), |cpu_us| format!("{cpu_us:.0} µs")),
        bytes(summary.rss_mib_max() * 1_048_576.0),
        load(run.host.cpu_busy_fraction),
    )
}
