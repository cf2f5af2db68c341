//! How latency and hops grow with the network: the same load on networks of different sizes.
//!
//! Epidemic spreading on a random graph of fixed degree takes a number of hops that grows with the logarithm of the number of
//! nodes, so the horizontal axis is log10 of that number, and a straight line is what to expect.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::Run;
use super::format::{float, milliseconds, percent};
use super::plot::{Axis, Plot};
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

/// Shares of nodes at which the infection curve is looked at.
const SHARES: [u64; 13] = [1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99, 100];

/// The figures as a table for the terminal.
#[must_use]
pub fn table(sizes: &[Size]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["nodes", "coverage", "hops", "most hops", "50 % after", "99 % after", "all after", "copies"]);
    for size in sizes {
        let [half, nearly, all] = size.spread_us.map(time);
        let (hops, copies) = (format!("{:.2}", size.hops_mean), format!("{:.2}", size.copies));
        let (nodes, most) = (size.nodes.to_string(), size.hops_max.to_string());
        table.add_row([nodes, percent(size.coverage), hops, most, half, nearly, all, copies]);
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

/// The figures as a page.
#[must_use]
pub fn page(sizes: &[Size]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>Starling: growing networks</title>\n<style>\n{}</style>\n</head>\n\
         <body>\n<main>\n<h1>Starling: growing networks</h1>\n",
        include_str!("page.css")
    );
    let sections = [
        (
            "Time to half, 99 % and all nodes",
            "Of the median message, over the logarithm of the number of nodes.",
            times(sizes),
        ),
        ("Hops", "On average, and the most, over the logarithm of the number of nodes.", hops(sizes)),
        (
            "Infection curve",
            "When the median message had reached how many of the nodes, one line for each size.",
            infection(sizes),
        ),
    ];
    for (title, explanation, chart) in sections {
        write!(page, "<h2>{title}</h2>\n<p>{explanation}</p>\n<figure class=\"card\">{chart}</figure>\n")
            .expect("writing to a string");
    }
    write!(page, "<pre>{}</pre>\n</main>\n</body>\n</html>\n", table(sizes)).expect("writing to a string");
    page
}

fn in_ms(time_us: u64) -> f64 {
    float(time_us) / 1e3
}

fn log_axis(sizes: &[Size]) -> Axis {
    Axis::up_to("log10 of the number of nodes", sizes.iter().map(Size::log_nodes).fold(1.0, f64::max))
}

fn times(sizes: &[Size]) -> String {
    let known = sizes.iter().flat_map(|size| size.spread_us).filter(|time_us| *time_us != u64::MAX);
    let mut plot = Plot::new(log_axis(sizes), Axis::up_to("Time (ms)", in_ms(known.max().unwrap_or(1))));
    for (place, (style, label)) in [("bound", "half"), ("arrival", "99 %"), ("accepted", "all")].into_iter().enumerate()
    {
        let points: Vec<(f64, f64)> = sizes
            .iter()
            .filter(|size| size.spread_us[place] != u64::MAX)
            .map(|size| (size.log_nodes(), in_ms(size.spread_us[place])))
            .collect();
        plot.line(style, points.iter().copied());
        for (size, point) in sizes.iter().zip(&points) {
            plot.dot(style, *point, 3.0, &format!("{} nodes: {label} after {:.1} ms", size.nodes, point.1));
        }
        if let Some(last) = points.last() {
            plot.label("", *last, true, label);
        }
    }
    plot.finish("Times to half, 99 % and all nodes over the size of the network")
}

fn hops(sizes: &[Size]) -> String {
    let most = sizes.iter().map(|size| f64::from(size.hops_max)).fold(1.0, f64::max);
    let mut plot = Plot::new(log_axis(sizes), Axis::up_to("Hops", most));
    plot.line("arrival", sizes.iter().map(|size| (size.log_nodes(), size.hops_mean)));
    plot.line("bound", sizes.iter().map(|size| (size.log_nodes(), f64::from(size.hops_max))));
    for size in sizes {
        let hint = format!("{} nodes: {:.2} hops on average", size.nodes, size.hops_mean);
        plot.dot("arrival", (size.log_nodes(), size.hops_mean), 3.0, &hint);
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
    for size in sizes {
        let points = known(size);
        plot.line("median", std::iter::once((0.0, 0.0)).chain(points.iter().copied()));
        if let Some((time_ms, share)) = points.get(points.len() / 2) {
            plot.label("", (*time_ms, *share), false, &size.nodes.to_string());
        }
    }
    plot.finish("Infection curves of networks of different sizes")
}
