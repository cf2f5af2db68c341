//! How latency and hops grow with the network: the same load on networks of different sizes.
//!
//! Epidemic spreading on a random graph of fixed degree takes a number of hops that grows with the logarithm of the number of
//! nodes, so the horizontal axis is one of logarithms, and a straight line is what to expect.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::Run;
use super::format::{float, grouped, milliseconds, percent};
use super::plot::{Axis, Plot, escape};
use crate::measure::{Class, ClassStatistics, statistics::nearest_rank};

/// What a network of one size has shown of transactions.
#[derive(Debug, Clone)]
pub struct Size {
    /// How many nodes.
    pub nodes: usize,
    /// Share of the expected deliveries that happened.
    pub coverage: f64,
    /// Hops of deliveries, on average.
    pub hops_mean: f64,
    /// The most hops.
    pub hops_max: u32,
    /// Until half of the nodes, 99 % and all of them had a message: the median message, in microseconds.
    pub spread_us: [u64; 3],
    /// Copies for each delivery.
    pub copies: f64,
    /// Shares of nodes in percent, and when the median message had reached them.
    pub infection: Vec<(u64, u64)>,
}

impl Size {
    /// The figures of a run.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        let statistics = ClassStatistics::of(Class::Transaction, &run.deliveries, &run.bounds);
        let hops = statistics.as_ref().map(|it| it.hops.clone()).unwrap_or_default();
        let mut times: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for message in run.deliveries.of_class(Class::Transaction) {
            let mut arrivals_us: Vec<u64> = run
                .deliveries
                .arrivals(message)
                .map(|(_, arrival)| arrival.t_us.saturating_sub(message.t0_us))
                .collect();
            arrivals_us.sort_unstable();
            let others = run.deliveries.nodes() - 1;
            for share in SHARES {
                // A message that never reaches so many nodes counts as never reaching them.
                let rank = (others * usize::try_from(share).unwrap_or(100)).div_ceil(100).max(1);
                times.entry(share).or_default().push(arrivals_us.get(rank - 1).copied().unwrap_or(u64::MAX));
            }
        }
        let median = |times_us: &mut Vec<u64>| {
            times_us.sort_unstable();
            nearest_rank(times_us, 50).unwrap_or(0)
        };
        let infection: Vec<(u64, u64)> = times.iter_mut().map(|(share, times_us)| (*share, median(times_us))).collect();
        let at = |share: u64| infection.iter().find(|(other, _)| *other == share).map_or(0, |(_, time_us)| *time_us);
        let deliveries: usize = hops.values().sum();
        let all_hops: u64 = hops.iter().map(|(hops, count)| u64::from(*hops) * *count as u64).sum();
        Self {
            nodes: run.deliveries.nodes(),
            coverage: statistics.as_ref().map_or(0.0, ClassStatistics::coverage),
            hops_mean: float(all_hops) / float(deliveries.max(1) as u64),
            hops_max: hops.keys().next_back().copied().unwrap_or(0),
            spread_us: [50, 99, 100].map(at),
            copies: statistics.as_ref().and_then(ClassStatistics::copies_per_delivery).unwrap_or(0.0),
            infection,
        }
    }

    fn log_nodes(&self) -> f64 {
        float(self.nodes as u64).log10()
    }
}

const HEADINGS: [&str; 8] = ["nodes", "coverage", "hops", "most hops", "to 50 %", "to 99 %", "to all", "copies"];

/// A row of the table.
fn cells(size: &Size) -> [String; 8] {
    let [half, nearly, all] = size.spread_us.map(time);
    let (hops, copies) = (format!("{:.2}", size.hops_mean), format!("{:.2}", size.copies));
    let (nodes, most) = (size.nodes.to_string(), size.hops_max.to_string());
    [nodes, percent(size.coverage), hops, most, half, nearly, all, copies]
}

/// Shares of nodes at which the infection curve is looked at.
const SHARES: [u64; 13] = [1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99, 100];

/// The figures as a table for the terminal.
#[must_use]
pub fn table(sizes: &[Size]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(HEADINGS);
    for size in sizes {
        table.add_row(cells(size));
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn time(time_us: u64) -> String {
    if time_us == u64::MAX { "never".to_owned() } else { milliseconds(time_us) }
}

/// The figures as CSV; a time is empty if it never came.
#[must_use]
pub fn csv(sizes: &[Size]) -> String {
    let mut csv = String::from("nodes,coverage,hops_mean,hops_max,p50_us,p99_us,all_us,copies_per_delivery\n");
    let cell = |time_us: u64| if time_us == u64::MAX { String::new() } else { time_us.to_string() };
    for size in sizes {
        let [half, nearly, all] = size.spread_us.map(cell);
        writeln!(
            csv,
            "{},{:.6},{:.4},{},{half},{nearly},{all},{:.4}",
            size.nodes, size.coverage, size.hops_mean, size.hops_max, size.copies
        )
        .expect("writing to a string");
    }
    csv
}

/// What this page has beside the common style: charts no wider than they are drawn for, and as wide a table.
const STYLE: &str = "figure.card { max-width: 720px; } table { max-width: 720px; margin: 40px 0 0; }\n";

/// The figures as a page, under what they have in common.
#[must_use]
pub fn page(sizes: &[Size], facts: &str) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>Starling: growing networks</title>\n<style>\n{}{STYLE}{}</style>\n\
         </head>\n<body>\n<main>\n<h1>Starling: growing networks</h1>\n<p class=\"facts\">{}</p>\n",
        include_str!("page.css"),
        shades(sizes.len()),
        escape(facts),
    );
    let sections = [
        ("Time to half, 99 % and all nodes", "Of the median message.", times(sizes)),
        ("Hops", "Links that the first copy of a message had passed.", hops(sizes)),
        (
            "Infection curve",
            "When the median message had reached how many of the nodes, one line for each number of nodes.",
            infection(sizes),
        ),
    ];
    for (title, explanation, chart) in sections {
        write!(page, "<h2>{title}</h2>\n<p>{explanation}</p>\n<figure class=\"card transaction\">{chart}</figure>\n")
            .expect("writing to a string");
    }
    let row = |cells: [String; 8]| format!("<tr><td>{}</tr>\n", cells.map(|cell| escape(&cell)).join("<td>"));
    let rows: String = sizes.iter().map(|size| row(cells(size))).collect();
    write!(page, "<table>\n<tr><th>{}</tr>\n{rows}</table>\n</main>\n</body>\n</html>\n", HEADINGS.join("<th>"))
        .expect("writing to a string");
    page
}

/// A shade for each size, from the palest for the smallest.
fn shades(sizes: usize) -> String {
    let opacity = |size: usize| 0.35 + 0.65 * float(size as u64 + 1) / float(sizes.max(1) as u64);
    (0..sizes).map(|size| format!("svg .line.size{size} {{ stroke-opacity: {:.2}; }}\n", opacity(size))).collect()
}

fn in_ms(time_us: u64) -> f64 {
    float(time_us) / 1e3
}

/// The horizontal axis: logarithms, from a bit before the smallest network on, with room for words behind the largest.
struct Sizes {
    /// Logarithm at the left edge.
    from: f64,
    axis: Axis,
}

impl Sizes {
    fn of(sizes: &[Size]) -> Self {
        let least = sizes.iter().map(Size::log_nodes).fold(f64::INFINITY, f64::min);
        let most = sizes.iter().map(Size::log_nodes).fold(0.0, f64::max);
        let from = if least.is_finite() { least - 0.15 } else { 0.0 };
        let ticks = sizes.iter().map(|size| (size.log_nodes() - from, grouped(size.nodes as u64))).collect();
        // A sixth of the width is for the words.
        let end = ((most - from) * 1.2).max(0.3);
        Self { from, axis: Axis::places("Nodes (logarithmic)", end, ticks) }
    }

    fn at(&self, size: &Size) -> f64 {
        size.log_nodes() - self.from
    }
}

/// Writes what lines are behind their ends, those that end at about the same place together.
fn name_lines(plot: &mut Plot, most: f64, ends: &[((f64, f64), &str)]) {
    let mut named: Vec<((f64, f64), String)> = Vec::new();
    for (end, name) in ends {
        match named.iter_mut().find(|(other, _)| (other.1 - end.1).abs() < most * 0.06) {
            Some((_, names)) => {
                names.push_str(", ");
                names.push_str(name);
            }
            None => named.push((*end, (*name).to_owned())),
        }
    }
    for (end, names) in named {
        plot.label("", end, false, &names);
    }
}

fn times(sizes: &[Size]) -> String {
    let known = sizes.iter().flat_map(|size| size.spread_us).filter(|time_us| *time_us != u64::MAX);
    let (across, upright) = (Sizes::of(sizes), Axis::up_to("Time (ms)", in_ms(known.max().unwrap_or(1))));
    let most = upright.end();
    let mut plot = Plot::new(across.axis.clone(), upright);
    let mut ends = Vec::new();
    for (place, (style, name)) in [("bound", "half"), ("arrival", "99 %"), ("accepted", "all")].into_iter().enumerate()
    {
        let reached: Vec<(&Size, (f64, f64))> = sizes
            .iter()
            .filter(|size| size.spread_us[place] != u64::MAX)
            .map(|size| (size, (across.at(size), in_ms(size.spread_us[place]))))
            .collect();
        plot.line(style, reached.iter().map(|(_, point)| *point));
        for (size, point) in &reached {
            plot.dot(style, *point, 3.0, &format!("{} nodes: {name} after {:.1} ms", size.nodes, point.1));
        }
        ends.extend(reached.last().map(|(_, point)| (*point, name)));
    }
    name_lines(&mut plot, most, &ends);
    plot.finish("Times to half, 99 % and all nodes over the size of the network")
}

fn hops(sizes: &[Size]) -> String {
    let most = sizes.iter().map(|size| f64::from(size.hops_max)).fold(1.0, f64::max);
    let across = Sizes::of(sizes);
    let mut plot = Plot::new(across.axis.clone(), Axis::up_to("Hops", most));
    let mean = |size: &Size| (across.at(size), size.hops_mean);
    let largest = |size: &Size| (across.at(size), f64::from(size.hops_max));
    plot.line("arrival", sizes.iter().map(mean));
    plot.line("bound", sizes.iter().map(largest));
    for size in sizes {
        plot.dot("arrival", mean(size), 3.0, &format!("{} nodes: {:.2} hops on average", size.nodes, size.hops_mean));
        plot.dot("bound", largest(size), 3.0, &format!("{} nodes: {} hops at most", size.nodes, size.hops_max));
    }
    if let Some(last) = sizes.last() {
        name_lines(&mut plot, most, &[(mean(last), "average"), (largest(last), "most")]);
    }
    plot.finish("Hops over the size of the network")
}

fn infection(sizes: &[Size]) -> String {
    let known = |size: &Size| {
        let points = size.infection.iter().filter(|(_, time_us)| *time_us != u64::MAX);
        points.map(|(share, time_us)| (in_ms(*time_us), float(*share) / 100.0)).collect::<Vec<_>>()
    };
    let end_ms = sizes.iter().flat_map(known).map(|(time_ms, _)| time_ms).fold(1.0, f64::max);
    let mut plot =
        Plot::new(Axis::up_to("Time since the publish (ms)", end_ms), Axis::shares("Nodes that have it (%)"));
    let mut names = Vec::new();
    for (number, size) in sizes.iter().enumerate() {
        let points = known(size);
        plot.line(&format!("size{number}"), std::iter::once((0.0, 0.0)).chain(points.iter().copied()));
        // Each is named at a height of its own: the lines run close to each other.
        let height = (number + 1) * points.len() / (sizes.len() + 1);
        names.extend(points.get(height).map(|point| (*point, format!("{} nodes", grouped(size.nodes as u64)))));
    }
    for (point, name) in names {
        plot.dot("", point, 3.0, &name);
        plot.label("", point, false, &name);
    }
    plot.finish("Infection curves of networks of different sizes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(nodes: usize, step_us: u64) -> Size {
        Size {
            nodes,
            coverage: 1.0,
            hops_mean: 2.5,
            hops_max: 6,
            spread_us: [step_us, 2 * step_us, u64::MAX],
            copies: 5.0,
            infection: SHARES.iter().map(|share| (*share, share * step_us)).collect(),
        }
    }

    /// A mark whose class the style sheet gives no colour is not seen: lines take the colour of the card that they are in.
    #[test]
    fn every_line_has_a_colour_and_a_name() {
        let sizes = [size(100, 1_000), size(1_000, 2_000), size(10_000, 3_000)];
        let page = page(&sizes, "seed <1>");
        assert_eq!(page.matches("<figure class=\"card transaction\">").count(), 3);
        assert!(page.contains("seed &lt;1&gt;") && page.contains(">never<"), "{page}");
        for name in
            [">half<", ">99 %<", ">average<", ">most<", ">100 nodes<", ">1\u{202f}000 nodes<", ">10\u{202f}000 nodes<"]
        {
            assert!(page.contains(name), "{name} is missing");
        }
        assert!(
            (0..3).all(
                |size| page.contains(&format!("line size{size}")) && page.contains(&format!(".line.size{size} {{"))
            )
        );
        let widest = table(&sizes).lines().map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|columns| columns <= 80), "{widest:?} columns");
    }

    #[test]
    fn lines_that_end_together_are_named_together() {
        let mut plot = Plot::new(Axis::up_to("x", 1.0), Axis::up_to("y", 100.0));
        name_lines(&mut plot, 100.0, &[((1.0, 50.0), "a"), ((1.0, 90.0), "b"), ((1.0, 93.0), "c")]);
        let svg = plot.finish("names");
        assert!(svg.contains(">a<") && svg.contains(">b, c<"), "{svg}");
        assert!(page(&[], "").contains("</html>"), "no size is no reason to panic");
    }
}
