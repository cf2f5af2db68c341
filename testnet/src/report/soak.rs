//! Telling what a soak measured: a network that ran for long while its nodes were killed and restarted in turn.
//!
//! # What flat means
//! A node's memory (or its open files) is **flat** if over the time that counts, which begins after the warm-up,
//! - the line fitted to it by least squares rises by no more than the allowance from its beginning to its end, and
//! - its mean over the last third exceeds its mean over the first third by no more than the allowance.
//!
//! The allowance is [`GROWTH_SHARE_MAX`] of the mean over the first third, and at least a fixed amount ([`RSS_KIB_SPARE`],
//! [`FDS_SPARE`]) that covers what an allocator keeps or a peer that comes and goes opens. The fit sees a slow climb through
//! the noise; the thirds see a step that a fit over all would tilt only a little.
//!
//! A node that is killed begins anew each time, so its samples are not one series. Instead each of its lives
//! gives one point, the median of what it used at the ages of [`AGES_S`], and those points must be flat: otherwise a restart costs
//! more the longer the network has run. Nodes that are never killed are judged sample by sample, which shows what grows
//! within one life. With fewer than [`POINTS_MIN`] points, or less than [`SPAN_S_MIN`] from first to last, a node is not judged,
//! and the report says so.

use std::fmt::Write;
use std::ops::Range;

use serde::Serialize;

use super::format::{float, grouped};
use super::plot::{Axis, Plot, escape};

/// Growth that is allowed, as a share of the mean over the first third.
pub const GROWTH_SHARE_MAX: f64 = 0.10;
/// Growth of memory that is always allowed, in KiB.
pub const RSS_KIB_SPARE: f64 = 8.0 * 1_024.0;
/// Growth of the number of open files that is always allowed.
pub const FDS_SPARE: f64 = 8.0;
/// The ages at which the lives of a node that is killed are compared, in seconds since its start.
pub const AGES_S: Range<f64> = 20.0..100.0;
/// Fewer points than this say nothing about growth.
pub const POINTS_MIN: usize = 4;
/// Less time than this from the first point to the last says nothing about growth, in seconds.
pub const SPAN_S_MIN: f64 = 60.0;
/// Samples that the median of a life needs.
const LIFE_SAMPLES_MIN: usize = 5;
/// Lines that the charts can tell apart.
const HUES: usize = 8;

/// What one node used at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Since the beginning of the soak, in seconds.
    pub t_s: f64,
    /// The node, counted from 0.
    pub node: usize,
    /// How often the node had been started, counted from 0.
    pub life: u32,
    /// Since the node's start, in seconds.
    pub age_s: f64,
    /// Resident memory in KiB.
    pub rss_kib: u64,
    /// Open file descriptors.
    pub fds: u64,
    /// The height of the node's head, if it answered.
    pub height: Option<u64>,
}

/// A kill and the restart after it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Kill {
    /// When the node was killed, in seconds since the beginning of the soak.
    pub t_s: f64,
    /// Which node.
    pub node: usize,
    /// For how long it was left dead, in seconds.
    pub down_s: f64,
    /// From its restart until it was within two blocks of the node that is never killed; `None` if it was not before the end.
    pub caught_up_s: Option<f64>,
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub struct Soak {
    /// Names of the nodes.
    pub names: Vec<String>,
    /// The seed, and the other things that were asked for, for the page's head.
    pub seed: u64,
    /// How long the load ran, in seconds.
    pub duration_s: f64,
    /// What does not count for growth, in seconds from the beginning.
    pub warm_up_s: f64,
    /// Once a second and node.
    pub samples: Vec<Sample>,
    /// In order of time.
    pub kills: Vec<Kill>,
    /// Further figures for the page, as label and value.
    pub facts: Vec<(String, String)>,
    /// What is wrong, in words.
    pub findings: Vec<String>,
}

/// Whether one node's use of one resource is flat.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flatness {
    /// The node's name.
    pub node: String,
    /// `rss_kib` or `fds`.
    pub resource: &'static str,
    /// Whether the points are lives (their medians) instead of samples.
    pub across_lives: bool,
    /// How many points there are.
    pub points: usize,
    /// Mean over the first third.
    pub first_third: f64,
    /// Mean over the last third.
    pub last_third: f64,
    /// Slope of the fitted line, a minute.
    pub slope_per_minute: f64,
    /// What the fitted line rises by over the time that counts.
    pub growth: f64,
    /// The most that is allowed.
    pub allowance: f64,
    /// The verdict; `None` when there is too little to judge by.
    pub flat: Option<bool>,
}

impl Soak {
    /// The verdict on every node's memory and open files.
    #[must_use]
    pub fn flatness(&self) -> Vec<Flatness> {
        let mut verdicts = Vec::with_capacity(self.names.len() * 2);
        for node in 0..self.names.len() {
            for (resource, spare) in [("rss_kib", RSS_KIB_SPARE), ("fds", FDS_SPARE)] {
                verdicts.push(self.flatness_of(node, resource, spare));
            }
        }
        verdicts
    }

    fn flatness_of(&self, node: usize, resource: &'static str, spare: f64) -> Flatness {
        let value = |sample: &Sample| float(if resource == "fds" { sample.fds } else { sample.rss_kib });
        let across_lives = self.kills.iter().any(|kill| kill.node == node);
        let samples = self.samples.iter().filter(|sample| sample.node == node && sample.t_s >= self.warm_up_s);
        let points: Vec<(f64, f64)> = if across_lives {
            let samples: Vec<&Sample> = samples.filter(|sample| AGES_S.contains(&sample.age_s)).collect();
            samples
                .chunk_by(|a, b| a.life == b.life)
                .filter(|life| life.len() >= LIFE_SAMPLES_MIN)
                .map(|life| {
                    let mut values: Vec<f64> = life.iter().map(|sample| value(sample)).collect();
                    values.sort_by(f64::total_cmp);
                    (life[life.len() / 2].t_s, values[values.len() / 2])
                })
                .collect()
        } else {
            samples.map(|sample| (sample.t_s, value(sample))).collect()
        };
        let third = points.len().div_ceil(3);
        let mean = |points: &[(f64, f64)]| {
            if points.is_empty() {
                0.0
            } else {
                points.iter().map(|point| point.1).sum::<f64>() / float(points.len() as u64)
            }
        };
        let (first_third, last_third) = (mean(&points[..third]), mean(&points[points.len() - third..]));
        let span_s = points.last().map_or(0.0, |last| last.0 - points[0].0);
        let slope_per_s = slope(&points);
        let (growth, allowance) = (slope_per_s * span_s, (first_third * GROWTH_SHARE_MAX).max(spare));
        let judged = points.len() >= POINTS_MIN && span_s >= SPAN_S_MIN;
        let flat = growth <= allowance && last_third - first_third <= allowance;
        Flatness {
            node: self.names[node].clone(),
            resource,
            across_lives,
            points: points.len(),
            first_third,
            last_third,
            slope_per_minute: slope_per_s * 60.0,
            growth,
            allowance,
            flat: judged.then_some(flat),
        }
    }

    /// The samples as CSV. Columns: `t_s`, `node`, `life` (counted from 0), `age_s`, `rss_kib`, `fds`, `height` (empty if the node
    /// did not answer in time). A node that is down has no row.
    #[must_use]
    pub fn samples_csv(&self) -> String {
        let mut csv = String::from("t_s,node,life,age_s,rss_kib,fds,height\n");
        for sample in &self.samples {
            let Sample { t_s, node, life, age_s, rss_kib, fds, height } = sample;
            let height = height.map_or_else(String::new, |height| height.to_string());
            writeln!(csv, "{t_s:.2},{},{life},{age_s:.2},{rss_kib},{fds},{height}", self.names[*node])
                .expect("writing to a string");
        }
        csv
    }

    /// The kills as CSV. Columns: `t_s`, `node`, `down_s`, `caught_up_s` (empty if it did not before the end).
    #[must_use]
    pub fn kills_csv(&self) -> String {
        let mut csv = String::from("t_s,node,down_s,caught_up_s\n");
        for Kill { t_s, node, down_s, caught_up_s } in &self.kills {
            let caught_up = caught_up_s.map_or_else(String::new, |s| format!("{s:.2}"));
            writeln!(csv, "{t_s:.2},{},{down_s:.2},{caught_up}", self.names[*node]).expect("writing to a string");
        }
        csv
    }

    /// The charts, each with a name for its file: memory, open files, height. They stand alone: colours and fonts included.
    #[must_use]
    pub fn charts(&self) -> [(&'static str, String); 3] {
        let chart = |title: &str, value: &dyn Fn(&Sample) -> Option<f64>| {
            let svg = self.chart(title, value);
            let head = "<svg xmlns=\"http://www.w3.org/2000/svg\" ";
            format!("{}\n", svg.replacen("<svg ", head, 1).replacen('>', &format!("><style>{STYLE}</style>"), 1))
        };
        [
            ("memory.svg", chart("Resident memory, MiB", &|sample| Some(float(sample.rss_kib) / 1_024.0))),
            ("files.svg", chart("Open file descriptors", &|sample| Some(float(sample.fds)))),
            ("height.svg", chart("Height of the head", &|sample| sample.height.map(float))),
        ]
    }

    /// A line for each life of each node, so that a restart is a gap and a new beginning.
    fn chart(&self, title: &str, value: &dyn Fn(&Sample) -> Option<f64>) -> String {
        let end = |values: &mut dyn Iterator<Item = f64>| values.fold(1.0, f64::max);
        let minutes = |sample: &Sample| sample.t_s / 60.0;
        let x = Axis::up_to("minutes since the load began", end(&mut self.samples.iter().map(minutes)));
        let y = Axis::up_to(title, end(&mut self.samples.iter().filter_map(value)));
        let (x_end, y_end) = (x.end(), y.end());
        let mut plot = Plot::new(x, y);
        let warm_up = self.warm_up_s / 60.0;
        let warmed_up = warm_up <= x_end;
        if warmed_up {
            plot.line("limit", [(warm_up, 0.0), (warm_up, y_end)]);
        }
        for node in 0..self.names.len() {
            let spared = !self.kills.iter().any(|kill| kill.node == node);
            let style = format!("hue{}{}", node % HUES, if spared { " spared" } else { "" });
            let own: Vec<&Sample> = self.samples.iter().filter(|sample| sample.node == node).collect();
            for life in own.chunk_by(|a, b| a.life == b.life) {
                let points = life.iter().filter_map(|sample| Some((minutes(sample), value(sample)?)));
                plot.line(&style, points);
            }
        }
        let dashed = if warmed_up { "dashed: end of the warm-up; " } else { "" };
        plot.remarks(&[format!("{dashed}thick: never killed; a line begins anew at each restart")]);
        plot.finish(title)
    }

    /// The soak as a page: verdict, figures, charts, flatness.
    #[must_use]
    pub fn page(&self) -> String {
        let title = format!("Starling soak: {} nodes, {:.0} s", self.names.len(), self.duration_s);
        let title = escape(&title);
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>\n{}{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<p class=\"facts\">Seed {}. {} kills.</p>\n",
            include_str!("page.css"),
            self.seed,
            self.kills.len(),
        );
        if self.findings.is_empty() {
            page.push_str(&format!("<div class=\"verdict\">{}</div>\n", self.good_news()));
        } else {
            let findings: String =
                self.findings.iter().map(|finding| format!("<li>{}</li>", escape(finding))).collect();
            page.push_str(&format!("<div class=\"verdict bad\">It failed:<ul>{findings}</ul></div>\n"));
        }
        page.push_str("<div class=\"card neither\"><dl class=\"tiles\">");
        for (label, figure) in &self.facts {
            page.push_str(&format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(label), escape(figure)));
        }
        page.push_str("</dl></div>\n");
        for (_, chart) in self.charts() {
            page.push_str(&format!(
                "<div class=\"card neither\" style=\"margin-top:20px;max-width:720px\">{chart}</div>\n"
            ));
        }
        page.push_str(&self.legend());
        page.push_str(&self.flatness_table());
        page.push_str("</main>\n</body>\n</html>\n");
        page
    }

    /// What is said if nothing is wrong: no more than was looked at.
    fn good_news(&self) -> String {
        let flatness = self.flatness();
        match flatness.iter().filter(|verdict| verdict.flat.is_none()).count() {
            0 => "Nothing was lost, and nothing grows.".to_owned(),
            unjudged if unjudged == flatness.len() => {
                "Nothing was lost. The soak was too short to tell whether anything grows.".to_owned()
            }
            unjudged => format!(
                "Nothing was lost, and nothing grows of what could be judged: {unjudged} of {} series are too short.",
                flatness.len()
            ),
        }
    }

    fn legend(&self) -> String {
        let items = self.names.iter().enumerate().map(|(node, name)| {
            let hue = COLOURS[node % HUES];
            format!("<li><i style=\"border-color:{hue}\"></i>{}</li>", escape(name))
        });
        format!("<ul class=\"legend\">{}</ul>\n", items.collect::<String>())
    }

    fn flatness_table(&self) -> String {
        let mut html = String::from(
            "<h2>Growth after the warm-up</h2>\n<p>For a node that was killed the points are its lives, each the median at \
             the same ages; for one that was not, its samples.</p>\n<div class=\"card neither scroll\"><table><thead><tr>\
             <th class=\"text\">Node</th><th class=\"text\">Resource</th><th class=\"text\">Points</th><th>First third</th>\
             <th>Last third</th><th>A minute</th><th>Growth fitted</th><th>Allowed</th><th class=\"text\">Verdict</th></tr></thead>\
             <tbody>\n",
        );
        for verdict in self.flatness() {
            let (what, unit) = if verdict.resource == "fds" { ("files", 1.0) } else { ("memory, MiB", 1_024.0) };
            let points = if verdict.across_lives { "lives" } else { "samples" };
            let (style, word) = match verdict.flat {
                Some(true) => ("", "flat"),
                Some(false) => (" bad", "grows"),
                None => ("", "too short to judge"),
            };
            let number = |value: f64| format!("{:.2}", value / unit);
            writeln!(
                html,
                "<tr><td class=\"text\">{}</td><td class=\"text\">{what}</td><td class=\"text\">{} {points}</td><td>{}</td>\
                 <td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"text{style}\">{word}</td></tr>",
                escape(&verdict.node),
                grouped(verdict.points as u64),
                number(verdict.first_third),
                number(verdict.last_third),
                number(verdict.slope_per_minute),
                number(verdict.growth),
                number(verdict.allowance),
            )
            .expect("writing to a string");
        }
        html.push_str("</tbody></table></div>\n");
        html
    }
}

/// Slope of the line that fits the points best by least squares; 0 without two different times.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = float(points.len() as u64);
    let (x_sum, y_sum) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    let (x_mean, y_mean) = (x_sum / count, y_sum / count);
    let over: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    let under: f64 = points.iter().map(|(x, _)| (x - x_mean) * (x - x_mean)).sum();
    if under > 0.0 { over / under } else { 0.0 }
}

/// Colours that are told apart with the common kinds of colour blindness too (Okabe and Ito 2008, grey for their black).
const COLOURS: [&str; HUES] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#808080", "#b8a900"];

/// What the charts need of style, alone and on the page.
const STYLE: &str = "svg{font-family:system-ui,sans-serif;font-size:12.5px}svg text{fill:#5b6775}\
    svg .grid{stroke:#8884;fill:none}svg .axis{stroke:#8888;fill:none}\
    svg .line{fill:none;stroke-width:1.2;stroke-linejoin:round}svg .line.spared{stroke-width:2.6}\
    svg .line.limit{stroke:#888;stroke-dasharray:5 4}svg .remark{font-size:11px}\
    svg .hue0{stroke:#0072b2}svg .hue1{stroke:#d55e00}svg .hue2{stroke:#009e73}svg .hue3{stroke:#cc79a7}\
    svg .hue4{stroke:#56b4e9}svg .hue5{stroke:#e69f00}svg .hue6{stroke:#808080}svg .hue7{stroke:#b8a900}";

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: [u64; 5] = [0, 700, 200, 900, 400];

    /// Ten minutes of two nodes: the first is never killed, the second every 100 s. `rss_kib` says what they use.
    fn soak(rss_kib: impl Fn(&Sample) -> u64) -> Soak {
        let mut soak = Soak { names: vec!["n0".into(), "n1".into()], warm_up_s: 60.0, ..Soak::default() };
        for second in 0..600_u32 {
            let t_s = f64::from(second);
            for (node, life, age_s) in [(0, 0, t_s), (1, second / 100, f64::from(second % 100))] {
                let mut sample =
                    Sample { t_s, node, life, age_s, rss_kib: 0, fds: 40, height: Some(u64::from(second)) };
                sample.rss_kib = rss_kib(&sample) + NOISE[second as usize % 5];
                soak.samples.push(sample);
            }
        }
        soak.kills =
            (1..6).map(|kill| Kill { t_s: f64::from(kill) * 100.0, node: 1, down_s: 0.0, caught_up_s: None }).collect();
        soak
    }

    fn verdicts(soak: &Soak) -> Vec<Option<bool>> {
        soak.flatness()
            .into_iter()
            .filter(|verdict| verdict.resource == "rss_kib")
            .map(|verdict| verdict.flat)
            .collect()
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers of a test")]
    fn kib(mib: f64) -> u64 {
        (mib * 1_024.0) as u64
    }

    #[test]
    fn what_a_restart_frees_is_no_shrinking_and_what_it_takes_again_no_growth() {
        let soak = soak(|sample| kib(40.0 + sample.age_s.min(60.0) / 10.0));
        assert_eq!(verdicts(&soak), [Some(true), Some(true)]);
        assert!(soak.flatness().iter().all(|verdict| verdict.flat == Some(true)), "files as well");
    }

    #[test]
    fn a_slow_leak_is_found_in_a_node_that_lives_long() {
        // 2 MiB a minute; a life of a hundred seconds is too short to show it.
        let soak = soak(|sample| kib(40.0 + sample.age_s / 30.0));
        assert_eq!(verdicts(&soak), [Some(false), Some(true)]);
        let worst = &soak.flatness()[0];
        assert!((worst.slope_per_minute / 1_024.0 - 2.0).abs() < 0.05, "{worst:?}");
    }

    #[test]
    fn restarts_that_cost_more_each_time_are_found() {
        let soak = soak(|sample| kib(40.0 + f64::from(sample.life) * 3.0));
        assert_eq!(verdicts(&soak), [Some(true), Some(false)]);
    }

    #[test]
    fn a_step_is_found() {
        let soak = soak(|sample| kib(if sample.node == 0 && sample.t_s > 400.0 { 52.0 } else { 40.0 }));
        assert_eq!(verdicts(&soak), [Some(false), Some(true)]);
    }

    #[test]
    fn too_little_is_not_judged() {
        let mut soak = soak(|_| kib(40.0));
        soak.samples.retain(|sample| sample.t_s < 110.0);
        assert_eq!(verdicts(&soak), [None, None]);
        assert!(soak.page().contains("Nothing was lost. The soak was too short to tell whether anything grows."));
        assert!(soak.page().contains("dashed: end of the warm-up"));
        soak.warm_up_s = 300.0;
        let page = soak.page();
        assert!(
            !page.contains("dashed: end") && !page.contains("class=\"line limit"),
            "it ended before the warm-up did"
        );
    }

    #[test]
    fn tables_and_charts_have_every_life() {
        let soak = soak(|_| kib(40.0));
        let csv = soak.samples_csv();
        assert_eq!(csv.lines().count(), 1_201);
        assert!(csv.contains("\n150.00,n1,1,50.00,40960,40,150\n"), "{}", &csv[..400]);
        assert_eq!(soak.kills_csv().lines().count(), 6);
        for (name, chart) in soak.charts() {
            assert!(chart.starts_with("<svg xmlns") && chart.trim_end().ends_with("</svg>"), "{name}");
            assert_eq!(chart.matches("class=\"line hue").count(), 7, "{name}: one line for each life");
        }
        let page = soak.page();
        assert!(page.contains("Nothing was lost, and nothing grows.") && page.matches("<svg").count() == 3);
    }
}
