//! The charts of the report: what each one shows of a class, and the sentences that explain it.

use std::collections::BTreeMap;

use super::Run;
use super::format::{float, milliseconds, multiple, percent};
use super::plot::{Axis, Plot};
use crate::measure::{Class, ClassStatistics, Message, statistics::nearest_rank};

/// Dots that one chart holds at most; of more messages, an even sample is drawn.
const DOTS_MAX: usize = 1_500;

/// A kind of chart, drawn once for each class.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) explanation: &'static str,
    pub(super) chart: fn(&Run, Class, &ClassStatistics) -> String,
    pub(super) legend: fn() -> &'static str,
}

pub(super) const SECTIONS: &[Section] = &[
    Section {
        title: "Latency against its lower bound",
        explanation: "For every delivery, the time from the origin's publish to the first copy at the receiver, as an empirical \
                      distribution. The dashed curve is the least that any scheme could reach for the same deliveries.",
        chart: distribution,
        legend: || {
            "<ul class=\"legend\"><li><i></i>arrival</li><li><i class=\"accepted\"></i>acceptance, after validation</li>\
             <li><i class=\"bound\"></i>lower bound of the same deliveries</li><li>x: multiple of the bound</li></ul>\n"
        },
    },
    Section {
        title: "How a message spreads",
        explanation: "The share of the other nodes that have a message, over the time since its publish. The line is the median of all \
                      messages at each share; half of the messages are within the dark band, eight in ten within the light one. A message \
                      that never reached so many counts as later than all others: a band then goes on to the right edge, and a line \
                      runs level.",
        chart: spread,
        legend: || {
            "<ul class=\"legend\"><li><i></i>median message</li><li><i class=\"area\"></i>middle 50 % and 80 % of messages</li>\
             <li><i class=\"worst\"></i>slowest message</li><li><i class=\"bound\"></i>lower bound of the median message</li></ul>\n"
        },
    },
    Section {
        title: "Over the run",
        explanation: "Every message at the time of its publish: how long until half of the other nodes had it, and until all of them had.",
        chart: timeline,
        legend: || {
            "<ul class=\"legend\"><li><i class=\"half\"></i>half of the nodes</li><li><i class=\"full\"></i>all of the nodes</li>\
             <li><i class=\"unreached\"></i>the last one that it reached, where it did not reach all</li></ul>\n"
        },
    },
    Section {
        title: "Copies of a message that a node received",
        explanation: "The first copy is the delivery; every further one spends bandwidth to insure against loss and to find the fastest path.",
        chart: copies,
        legend: || "",
    },
    Section {
        title: "Hops from the origin",
        explanation: "How many links the first copy passed until it came to a node.",
        chart: hops,
        legend: || "",
    },
];

/// Milliseconds of times in microseconds.
fn in_ms(times_us: &[u64]) -> Vec<f64> {
    times_us.iter().map(|&time_us| float(time_us) / 1e3).collect()
}

/// How far a time axis must reach to show nearly all of the distribution without a few stragglers flattening it.
fn time_end_ms(sorted_us: &[u64]) -> f64 {
    let (p99, max) = (nearest_rank(sorted_us, 99).unwrap_or(0), sorted_us.last().copied().unwrap_or(0));
    float(max.min(p99 + p99 / 2)) / 1e3
}

fn distribution(_: &Run, class: Class, statistics: &ClassStatistics) -> String {
    distribution_of(class, statistics)
}

fn distribution_of(class: Class, statistics: &ClassStatistics) -> String {
    let shown_us = if statistics.accepted_us.is_empty() { &statistics.latency_us } else { &statistics.accepted_us };
    let end_ms = time_end_ms(shown_us).max(time_end_ms(&statistics.latency_us));
    let mut plot =
        Plot::new(Axis::up_to("Time since the publish (ms)", end_ms), Axis::shares("Share of deliveries (%)"));
    let end_us = Axis::up_to("", end_ms).end() * 1e3;
    // Of what was delivered, like all quantiles: what never came has no latency, and no bound either.
    let total = float(statistics.latency_us.len() as u64);
    plot.steps("bound", &in_ms(&statistics.bound_us), total);
    plot.steps("accepted", &in_ms(&statistics.accepted_us), total);
    plot.steps("arrival", &in_ms(&statistics.latency_us), total);
    let mut labels = Vec::new();
    for percent in [50, 90, 99] {
        let (Some(latency_us), Some(bound_us)) =
            (nearest_rank(&statistics.latency_us, percent), nearest_rank(&statistics.bound_us, percent))
        else {
            continue;
        };
        let share = float(percent as u64) / 100.0;
        let over =
            if bound_us == 0 { String::new() } else { format!(", {}", multiple(float(latency_us), float(bound_us))) };
        let text = format!("p{percent} {}{over}", milliseconds(latency_us));
        let (at, bound_at) = ((float(latency_us) / 1e3, share), (float(bound_us) / 1e3, share));
        plot.dot("bound", bound_at, 3.5, &format!("bound p{percent} {}", milliseconds(bound_us)));
        plot.dot("arrival", at, 4.0, &text);
        labels.push((at, text));
    }
    // When all is drawn that they must not hide; the last one first, which has the least room.
    labels.iter().rev().for_each(|(at, text)| plot.label_near(*at, text));
    let beyond = shown_us.iter().filter(|&&time_us| float(time_us) > end_us).count();
    let mut remarks = Vec::new();
    if beyond > 0 {
        let max_us = shown_us.last().copied().unwrap_or(0);
        let share = float(beyond as u64) / float(shown_us.len() as u64);
        remarks.push(format!("{} are beyond, up to {}", percent_small(share), milliseconds(max_us)));
    }
    if statistics.deliveries < statistics.expected {
        let missing = float((statistics.expected - statistics.deliveries) as u64) / float(statistics.expected as u64);
        remarks.push(format!("{} of those expected did not come over the mesh", percent_small(missing)));
    }
    plot.remarks(&remarks);
    plot.finish(&format!("Distribution of {class} latency beside its lower bound"))
}

fn percent_small(share: f64) -> String {
    if share < 0.001 { "less than 0.1 %".to_owned() } else { percent(share) }
}

/// When a message reached its first, second, ... node after its publish, and the least times possible for the same
/// nodes, in rising order.
struct Spread {
    times_us: Vec<u64>,
    least_us: Vec<u64>,
}

impl Spread {
    fn of(run: &Run, message: &Message) -> Self {
        let arrivals = run.deliveries.arrivals(message);
        let (mut times_us, mut least_us): (Vec<_>, Vec<_>) = arrivals
            .map(|(node, arrival)| {
                (arrival.t_us.saturating_sub(message.t0_us), run.bounds.least_us(message.origin, node))
            })
            .unzip();
        times_us.sort_unstable();
        least_us.sort_unstable();
        Self { times_us, least_us }
    }
}

/// For the first, second, ... of `others` nodes: the quantile over all messages of the time at which it was reached, as
/// points of milliseconds and the share of nodes. A message that reached fewer nodes counts as never reaching more.
fn spread_quantile(spreads: &[&[u64]], others: usize, percent: usize) -> Vec<(f64, f64)> {
    let mut points = vec![(0.0, 0.0)];
    for reached in 0..others {
        let mut times_us: Vec<u64> =
            spreads.iter().map(|times_us| times_us.get(reached).copied().unwrap_or(u64::MAX)).collect();
        times_us.sort_unstable();
        match nearest_rank(&times_us, percent) {
            Some(u64::MAX) | None => break,
            Some(time_us) => points.push((float(time_us) / 1e3, float(reached as u64 + 1) / float(others as u64))),
        }
    }
    points
}

/// What of a curve a chart shows that ends at `end_ms`. If the curve goes on beyond, or never comes to all nodes, its share stays what
/// it is there up to the edge.
fn up_to_the_edge(mut curve: Vec<(f64, f64)>, end_ms: f64) -> Vec<(f64, f64)> {
    curve.retain(|(time_ms, _)| *time_ms <= end_ms);
    if let Some(&(_, share)) = curve.last()
        && share < 1.0
    {
        curve.push((end_ms, share));
    }
    curve
}

/// A band's late side, made as high as its early side: what was never reached is beyond the edge.
fn as_high_as(late: Vec<(f64, f64)>, early: &[(f64, f64)], end_ms: f64) -> Vec<(f64, f64)> {
    let mut late = up_to_the_edge(late, end_ms);
    let reached = late.last().map_or(0.0, |(_, share)| *share);
    late.extend(early.iter().filter(|(_, share)| *share > reached).map(|(_, share)| (end_ms, *share)));
    late
}

fn spread(run: &Run, class: Class, _: &ClassStatistics) -> String {
    let others = run.deliveries.nodes() - 1;
    let spreads: Vec<Spread> = run.deliveries.of_class(class).map(|message| Spread::of(run, message)).collect();
    let times: Vec<&[u64]> = spreads.iter().map(|spread| &*spread.times_us).collect();
    let least: Vec<&[u64]> = spreads.iter().map(|spread| &*spread.least_us).collect();
    let bands = [(10, 90, "outer"), (25, 75, "inner")]
        .map(|(low, high, style)| (spread_quantile(&times, others, low), spread_quantile(&times, others, high), style));
    let median = spread_quantile(&times, others, 50);
    let slowest: &[u64] = times.iter().max_by_key(|times_us| times_us.last()).copied().unwrap_or_default();
    let slowest_us = slowest.last().copied().unwrap_or(0);
    let slowest_ms = float(slowest_us) / 1e3;
    let last_ms = |curve: &[(f64, f64)]| curve.last().map_or(0.0, |(time_ms, _)| *time_ms);
    let shown_ms = last_ms(&bands[0].1).max(last_ms(&median));
    let x = Axis::up_to("Time since the publish (ms)", slowest_ms.min(shown_ms * 1.5));
    let end_ms = x.end();
    let mut plot = Plot::new(x, Axis::shares("Other nodes that have it (%)"));
    for (early, late, style) in bands {
        let late = as_high_as(late, &early, end_ms);
        plot.band(style, &plot.stairs(early), &plot.stairs(late));
    }
    let curves = [
        ("worst", up_to_the_edge(spread_quantile(&[slowest], others, 50), end_ms)),
        ("bound", spread_quantile(&least, others, 50)),
        ("median", up_to_the_edge(median, end_ms)),
    ];
    for (style, curve) in curves {
        plot.line(style, plot.stairs(curve));
    }
    if slowest_ms > end_ms {
        plot.remarks(&[format!("the slowest message came to its last node after {}", milliseconds(slowest_us))]);
    }
    plot.finish(&format!("Share of nodes that have a {class}, over time"))
}

fn timeline(run: &Run, class: Class, statistics: &ClassStatistics) -> String {
    let messages: Vec<&Message> = run.deliveries.of_class(class).collect();
    let load_s = |t_us: u64| float(t_us.saturating_sub(run.window.load_start_us)) / 1e6;
    let spreads: Vec<(&Message, Vec<u64>)> = messages
        .iter()
        .step_by(messages.len().div_ceil(DOTS_MAX).max(1))
        .map(|message| (*message, Spread::of(run, message).times_us))
        .collect();
    let latest_us = spreads.iter().filter_map(|(_, times_us)| times_us.last()).max().copied().unwrap_or(0);
    let end_ms = (float(latest_us) / 1e3).max(time_end_ms(&statistics.latency_us));
    let others = run.deliveries.nodes() - 1;
    let mut plot = Plot::new(
        Axis::up_to("Time since the load began (s)", load_s(run.window.load_end_us)),
        Axis::up_to("Time until it was there (ms)", end_ms),
    );
    for (message, times_us) in &spreads {
        let at_s = load_s(message.t0_us);
        let origin = &run.manifest.node[message.origin].name;
        if let Some(&half_us) = times_us.get(others.div_ceil(2).saturating_sub(1)) {
            plot.dot(
                "half",
                (at_s, float(half_us) / 1e3),
                2.0,
                &format!("{} from {origin}: half in {}", message.id, milliseconds(half_us)),
            );
        }
        if let Some(&last_us) = times_us.last() {
            let (style, word) =
                if times_us.len() == others { ("full", "all") } else { ("unreached", "not all, the last") };
            plot.dot(
                style,
                (at_s, float(last_us) / 1e3),
                2.5,
                &format!("{} from {origin}: {word} in {}", message.id, milliseconds(last_us)),
            );
        }
    }
    plot.finish(&format!("Time until every {class} was at half and at all of the nodes, over the run"))
}

fn copies(_: &Run, class: Class, statistics: &ClassStatistics) -> String {
    bars("Copies received", &statistics.copies_of_delivery, &format!("How many copies of a {class} a node received"))
}

fn hops(_: &Run, class: Class, statistics: &ClassStatistics) -> String {
    bars("Hops", &statistics.hops, &format!("How many hops a {class} took to a node"))
}

/// A bar for every whole number from the least to the most that occurs, as high as its share of all deliveries.
fn bars(title: &str, counts: &BTreeMap<u32, usize>, description: &str) -> String {
    let total = float(counts.values().map(|&count| count as u64).sum::<u64>().max(1));
    let (first, last) = (counts.keys().next().copied().unwrap_or(1), counts.keys().last().copied().unwrap_or(1));
    let share = |number: u32| float(counts.get(&number).copied().unwrap_or(0) as u64) / total * 100.0;
    let highest = (first..=last).map(share).fold(1.0, f64::max);
    let mut plot = Plot::new(
        Axis::bars(title, (first..=last).map(|number| number.to_string())),
        // Room for the figures on top, but no share is above 100 %.
        Axis::up_to("Share of deliveries (%)", (highest * 1.08).min(100.0)),
    );
    for (number, at) in (first..=last).zip(0_u32..) {
        let share = share(number);
        let figure = if share >= 0.05 { format!("{share:.1}") } else { String::new() };
        let hint = format!("{number}: {} deliveries, {share:.2} %", counts.get(&number).copied().unwrap_or(0));
        plot.bar("", (f64::from(at) + 0.5, share), &figure, &hint);
    }
    plot.finish(description)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Seconds of a delivery, by how many of all are faster.
    type Shape = fn(f64) -> f64;

    /// Of ten messages to ten nodes, some at once, some that stop half way, and one that comes to its last node very late.
    #[test]
    fn bands_hold_the_median_where_messages_did_not_reach_all() {
        let times_us: Vec<Vec<u64>> = (0..10_u64)
            .map(|message| {
                let reached = if message < 6 { 10 } else { 5 };
                (1..=reached).map(|node| node * 10_000 + message * 1_000).collect()
            })
            .collect();
        let times: Vec<&[u64]> = times_us.iter().map(Vec::as_slice).collect();
        let median = spread_quantile(&times, 10, 50);
        assert_eq!(median.len(), 11, "more than half of the messages reached all");
        for (low, high) in [(10, 90), (25, 75)] {
            let early = spread_quantile(&times, 10, low);
            let late = as_high_as(spread_quantile(&times, 10, high), &early, 500.0);
            assert!(late.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1), "{late:?}");
            assert_eq!((early.len(), late.last()), (11, Some(&(500.0, 1.0))));
            for (early, median) in early.iter().zip(&median) {
                let late = late.iter().find(|(_, share)| *share == median.1).expect("as high as the median");
                assert!(
                    early.0 <= median.0 && median.0 <= late.0 && early.1 == median.1,
                    "{early:?} {median:?} {late:?}"
                );
            }
        }
    }

    /// What stands between two marks, for each time that the first one is there.
    fn between<'a>(text: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(before).skip(1).filter_map(move |rest| rest.split(after).next())
    }

    /// Left, top, right and bottom of all words of a style, of which a character takes so much.
    fn boxes(svg: &str, style: &str, character: f64) -> Vec<[f64; 4]> {
        let start = format!("<text class=\"{style}\" ");
        let texts = between(svg, &start, "</text>").map(|text| {
            let number = |key: &str| between(text, &format!("{key}=\""), "\"").next()?.parse::<f64>().ok();
            let (x, y) = (number("x").expect("a number"), number("y").expect("a number"));
            let broad = text.split('>').nth(1).expect("words").chars().map(|_| character).sum::<f64>();
            let left = if text.contains("\"end\"") { x - broad } else { x };
            [left, y - 10.0, left + broad, y + 4.0]
        });
        texts.collect()
    }

    /// With the figures of a network that was parted, of one where most comes late, of a usual one, and of one that has none but one time.
    #[test]
    fn no_curve_runs_through_words() {
        let rising = |shape: Shape| {
            let time_us = |at: f64| Duration::from_secs_f64(shape(at / 300.0)).as_micros();
            let times_us = (0..300_u32).map(|at| u64::try_from(time_us(at.into())).expect("short"));
            let mut times_us: Vec<u64> = times_us.collect();
            times_us.sort_unstable();
            times_us
        };
        let shapes: [(&str, Shape); 6] = [
            ("steps", |at| (at * 15.0).floor() * 2.0),
            ("steps after a third", |at| if at < 0.35 { at } else { 3.0 + (at * 12.0).floor() * 2.0 }),
            ("late", |at| 20.0 + at),
            ("usual", |at| 0.06 + at * at * at * 0.1),
            ("even", |at| at * 50.0),
            ("at once", |_| 0.05),
        ];
        for (name, shape) in shapes {
            let latency_us = rising(shape);
            let accepted_us = latency_us.iter().map(|time_us| time_us + 2_000).collect();
            let bound_us = latency_us.iter().map(|time_us| (time_us / 2).min(150_000)).collect();
            let statistics = ClassStatistics {
                published: 30,
                expected: 310,
                deliveries: 300,
                pulled: 0,
                in_block_only: 0,
                with_the_chain: 0,
                latency_us,
                accepted_us,
                bound_us,
                copies: 300,
                frame_bytes: 300,
                payload_bytes: 300,
                hops: BTreeMap::new(),
                copies_of_delivery: BTreeMap::new(),
            };
            let svg = distribution_of(Class::Block, &statistics);
            let (labels, remarks) = (boxes(&svg, "label", 8.0), boxes(&svg, "remark", 7.0));
            assert!(labels.len() == 3 && !remarks.is_empty(), "{name}: of all three, and of what is missing");
            let words = [labels, remarks].concat();
            for (number, one) in words.iter().enumerate() {
                assert!(one[0] >= 56.0 && one[2] <= 546.0, "{name}: {one:?} is in the plot area");
                let meets =
                    |other: &[f64; 4]| one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];
                assert!(!words[..number].iter().any(meets), "{name}: {words:?}");
                for path in between(&svg, "<path class=\"line ", "\"/>") {
                    let point = |point: &str| -> Option<(f64, f64)> {
                        let (x, y) = point.split_once(' ')?;
                        Some((x.parse().ok()?, y.parse().ok()?))
                    };
                    let path = path.split("d=\"M").nth(1).expect("a path");
                    let points: Vec<_> = path.split('L').map(|text| point(text).expect("a point")).collect();
                    let through = points.windows(2).find(|ends| {
                        let [(a, b), (c, d)] = [ends[0], ends[1]];
                        meets(&[a.min(c), b.min(d), a.max(c), b.max(d)])
                    });
                    assert_eq!(through, None, "{name}: {one:?}");
                }
            }
        }
    }

    #[test]
    fn curves_that_go_on_or_stop_run_level_to_the_edge() {
        let curve = vec![(0.0, 0.0), (10.0, 0.5), (900.0, 1.0)];
        assert_eq!(up_to_the_edge(curve.clone(), 100.0), [(0.0, 0.0), (10.0, 0.5), (100.0, 0.5)]);
        assert_eq!(up_to_the_edge(curve[..2].to_vec(), 100.0), [(0.0, 0.0), (10.0, 0.5), (100.0, 0.5)]);
        assert_eq!(up_to_the_edge(curve.clone(), 1_000.0), curve);
    }
}
