//! Charts as inline SVG: two linear axes from zero, and marks between them.
//!
//! A chart is drawn in a fixed coordinate system and scales with the page. It names no colours: every mark carries a CSS
//! class, and the page's style sheet gives it a colour that suits a light or a dark page.
//!
//! Words are put where no line runs that is drawn already ([`room`]), so lines come first.

mod room;

use std::fmt::Write;

use room::{Area, Room};

/// The size of a chart in its own units, which at full size are CSS pixels.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
/// The plot area's edges; the left one is further to the right where labels are long.
const LEFT: f64 = 56.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = HEIGHT - 46.0;
/// A character of a label, which is bold, and of a remark, in the widest font that the page may be shown in: the mean over words and numbers.
const LABEL_CHAR: f64 = 8.0;
const REMARK_CHAR: f64 = 7.0;
const REMARK_LINE: f64 = 16.0;

/// One axis, from zero to `end`.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    title: String,
    end: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that reaches at least to `value`, with five or so ticks at round numbers.
    pub(super) fn up_to(title: impl Into<String>, value: f64) -> Self {
        let step = round_step(value / 5.0);
        let steps = (value / step).ceil().max(1.0);
        let digits = decimals(step);
        let mut ticks = Vec::new();
        let mut at = 0.0;
        while at <= steps {
            ticks.push((at * step, format!("{:.digits$}", at * step)));
            at += 1.0;
        }
        Self { title: title.into(), end: steps * step, ticks }
    }

    /// An axis that ends where the data does, at `value`, with ticks at round numbers as far as it goes.
    pub(super) fn ending_at(title: impl Into<String>, value: f64) -> Self {
        let mut axis = Self::up_to(title, value);
        axis.ticks.retain(|(at, _)| *at <= value);
        Self { end: value, ..axis }
    }

    /// An axis of shares from 0 to 1, labelled in percent.
    pub(super) fn shares(title: impl Into<String>) -> Self {
        let ticks = [0, 25, 50, 75, 100].map(|percent| (f64::from(percent) / 100.0, percent.to_string()));
        Self { title: title.into(), end: 1.0, ticks: ticks.to_vec() }
    }

    /// An axis of bars, one for each label; the first bar is centred at 0.5.
    pub(super) fn bars(title: impl Into<String>, labels: impl IntoIterator<Item = String>) -> Self {
        let mut ticks = Vec::new();
        let mut end = 0.0;
        for label in labels {
            ticks.push((end + 0.5, label));
            end += 1.0;
        }
        Self { title: title.into(), end, ticks }
    }

    /// An axis that ends at `end`, with ticks at places of its own.
    pub(super) fn places(title: impl Into<String>, end: f64, ticks: Vec<(f64, String)>) -> Self {
        Self { title: title.into(), end, ticks }
    }

    /// Where the axis ends.
    pub(super) fn end(&self) -> f64 {
        self.end
    }

    /// Where the plot area begins that has this axis at its left: beside the title, which is upright there, and the longest label.
    fn left(&self) -> f64 {
        /// A digit of the widest font that the page may be shown in.
        const DIGIT: f64 = 8.0;
        const TITLE_AND_GAPS: f64 = 32.0;
        let widths = self.ticks.iter().map(|(_, label)| label.chars().map(|_| DIGIT).sum::<f64>());
        widths.map(|width| width + TITLE_AND_GAPS).fold(LEFT, f64::max)
    }
}

/// A chart under construction.
#[derive(Debug)]
pub(super) struct Plot {
    x: Axis,
    y: Axis,
    left: f64,
    marks: String,
    room: Room,
}

impl Plot {
    pub(super) fn new(x: Axis, y: Axis) -> Self {
        let left = y.left();
        let plot_area = Area { left, right: RIGHT, top: TOP, bottom: BOTTOM };
        Self { left, x, y, marks: String::new(), room: Room::new(plot_area) }
    }

    /// Where a point of the data is in the drawing.
    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |value: f64, axis: &Axis| (value / axis.end).clamp(0.0, 1.0);
        (self.left + share(x, &self.x) * (RIGHT - self.left), BOTTOM - share(y, &self.y) * (BOTTOM - TOP))
    }

    /// A line through points.
    pub(super) fn line(&mut self, style: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        let points: Vec<_> = points.into_iter().collect();
        let places: Vec<_> = points.iter().map(|point| self.place(*point)).collect();
        self.room.take_line(places);
        let path = self.path(points);
        self.mark(&format!(r#"<path class="line {style}" d="{path}"/>"#));
    }

    /// The empirical distribution of values in rising order, as the steps that it has: at a value, the share of values that
    /// are at most it, out of `total`.
    pub(super) fn steps(&mut self, style: &str, sorted: &[f64], total: f64) {
        let mut count = 0.0;
        let rises = sorted.iter().take_while(|value| **value <= self.x.end).map(|&value| {
            count += 1.0;
            (value, count / total)
        });
        let mut points = self.stairs(rises);
        // The level stretch behind the last value.
        points.extend(points.last().map(|(_, share)| (self.x.end, *share)));
        self.line(style, points);
    }

    /// A curve from zero that rises at these points and is level between them: each is where it rises and to what.
    pub(super) fn stairs(&self, rises: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
        // A step that moves less than half a pixel from the last one drawn cannot be seen, and is drawn as part of that.
        let visible = self.x.end / (RIGHT - self.left) / 2.0;
        let (mut drawn, mut level) = (0.0, 0.0);
        let mut points = vec![(drawn, level)];
        for (at, height) in rises {
            if at - drawn >= visible {
                // All of the step before, which is upright, and the level stretch behind it.
                points.extend([(drawn, level), (at, level)]);
                drawn = at;
            }
            level = height;
        }
        points.push((drawn, level));
        points
    }

    /// The area between two lines that share their horizontal direction: along the first and back along the second.
    pub(super) fn band(&mut self, style: &str, there: &[(f64, f64)], back: &[(f64, f64)]) {
        let outline = self.path(there.iter().chain(back.iter().rev()).copied());
        self.mark(&format!(r#"<path class="band {style}" d="{outline}Z"/>"#));
    }

    /// A dot that says `hint` when pointed at.
    pub(super) fn dot(&mut self, style: &str, point: (f64, f64), radius: f64, hint: &str) {
        let (x, y) = self.place(point);
        self.room.take(Area { left: x - radius, right: x + radius, top: y - radius, bottom: y + radius });
        let hint = escape(hint);
        self.mark(&format!(
            r#"<circle class="dot {style}" cx="{x:.1}" cy="{y:.1}" r="{radius}"><title>{hint}</title></circle>"#
        ));
    }

    /// Text beside a point: to its right, or to its left if `left`.
    pub(super) fn label(&mut self, style: &str, point: (f64, f64), left: bool, text: &str) {
        let (x, y) = self.place(point);
        let (x, anchor) = if left { (x - 8.0, "end") } else { (x + 8.0, "start") };
        let (y, text) = (y + 4.0, escape(text));
        self.mark(&format!(
            r#"<text class="label {style}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    /// Text as close to a point as there is room between what is drawn already; where that is not beside the point, a thin line leads to it.
    pub(super) fn label_near(&mut self, point: (f64, f64), text: &str) {
        const HEIGHT_ABOVE: f64 = 10.0;
        const HEIGHT_BELOW: f64 = 4.0;
        /// From here on it is not obvious to which point a text belongs.
        const FAR: f64 = 16.0;
        let (x, y) = self.place(point);
        let width = characters(text) * LABEL_CHAR;
        let area = self.room.nearest((x, y), (width, HEIGHT_ABOVE + HEIGHT_BELOW));
        let (edge_x, edge_y) = area.nearest_to((x, y));
        if (edge_x - x).hypot(edge_y - y) > FAR {
            self.mark(&format!(r#"<path class="leader" d="M{x:.1} {y:.1}L{edge_x:.1} {edge_y:.1}"/>"#));
        }
        // Whatever the font, the end that faces the point is where it was meant.
        let (at, anchor) = if x <= area.left { (area.left, "start") } else { (area.right, "end") };
        let (baseline, text) = (area.bottom - HEIGHT_BELOW, escape(text));
        self.mark(&format!(
            r#"<text class="label" x="{at:.1}" y="{baseline:.1}" text-anchor="{anchor}">{text}</text>"#
        ));
        self.room.take(area);
    }

    /// A bar from zero to a point, one unit wide less a gap, with its figure on top.
    pub(super) fn bar(&mut self, style: &str, point: (f64, f64), figure: &str, hint: &str) {
        let (left, top) = self.place((point.0 - 0.4, point.1));
        let (right, _) = self.place((point.0 + 0.4, 0.0));
        let middle = f64::midpoint(left, right);
        let (width, height, above) = (right - left, BOTTOM - top, top - 4.0);
        let (figure, hint) = (escape(figure), escape(hint));
        self.mark(&format!(
            r#"<rect class="bar {style}" x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}"><title>{hint}</title></rect><text class="figure" x="{middle:.1}" y="{above:.1}" text-anchor="middle">{figure}</text>"#
        ));
    }

    /// Remarks at the right of the plot area, one below the other, as low as there is room between what is drawn already. What is too long
    /// goes on in the next line.
    pub(super) fn remarks(&mut self, remarks: &[String]) {
        const MARGIN: f64 = 6.0;
        let corner = (RIGHT - MARGIN, BOTTOM - MARGIN / 2.0);
        let within = |broad: f64| {
            let wrap = |remark: &String| wrapped(remark, broad / REMARK_CHAR);
            let lines: Vec<String> = remarks.iter().flat_map(wrap).collect();
            let longest = lines.iter().map(|line| characters(line) * REMARK_CHAR).fold(0.0, f64::max);
            let size = (longest, lines.iter().map(|_| REMARK_LINE).sum());
            (lines, size)
        };
        let broad = RIGHT - self.left - 2.0 * MARGIN;
        // In the fewest lines for which there is room.
        let mut shapes = [1.0, 0.75, 0.5, 0.35].into_iter().map(|share| within(broad * share));
        let placed = shapes.find_map(|(lines, size)| Some((lines, self.room.lowest(corner, size)?)));
        let (lines, area) = placed.unwrap_or_else(|| {
            let (lines, size) = within(broad);
            (lines, room::in_corner(corner, size))
        });
        let mut baseline = area.top + REMARK_LINE - 4.0;
        for line in &lines {
            let (x, text) = (area.right, escape(line));
            self.mark(&format!(r#"<text class="remark" x="{x:.1}" y="{baseline:.1}" text-anchor="end">{text}</text>"#));
            baseline += REMARK_LINE;
        }
        self.room.take(area);
    }

    /// The finished chart. `description` is read out to those who cannot see it.
    pub(super) fn finish(self, description: &str) -> String {
        let left = self.left;
        let mut svg =
            format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#, escape(description));
        for (value, label) in &self.y.ticks {
            let (_, y) = self.place((0.0, *value));
            let (label_x, label_y) = (left - 8.0, y + 4.0);
            write!(
                svg,
                r#"<path class="grid" d="M{left} {y:.1}H{RIGHT}"/><text class="tick" x="{label_x}" y="{label_y:.1}" text-anchor="end">{label}</text>"#
            )
            .expect("writing to a string");
        }
        for (value, label) in &self.x.ticks {
            let (x, _) = self.place((*value, 0.0));
            let (end, label_y) = (BOTTOM + 4.0, BOTTOM + 18.0);
            write!(
                svg,
                r#"<path class="axis" d="M{x:.1} {BOTTOM}V{end}"/><text class="tick" x="{x:.1}" y="{label_y}" text-anchor="middle">{label}</text>"#
            )
            .expect("writing to a string");
        }
        svg.push_str(&self.marks);
        let (x_title, y_title) = (escape(&self.x.title), escape(&self.y.title));
        let (middle_x, middle_y, below) = (f64::midpoint(left, RIGHT), f64::midpoint(TOP, BOTTOM), HEIGHT - 8.0);
        write!(
            svg,
            r#"<path class="axis" d="M{left} {TOP}V{BOTTOM}H{RIGHT}"/><text class="title" x="{middle_x}" y="{below}" text-anchor="middle">{x_title}</text><text class="title" transform="translate(14 {middle_y}) rotate(-90)" text-anchor="middle">{y_title}</text></svg>"#
        )
        .expect("writing to a string");
        svg
    }

    fn path(&self, points: impl IntoIterator<Item = (f64, f64)>) -> String {
        let mut path = String::new();
        for (at, point) in points.into_iter().enumerate() {
            let (x, y) = self.place(point);
            let command = if at == 0 { 'M' } else { 'L' };
            write!(path, "{command}{x:.1} {y:.1}").expect("writing to a string");
        }
        path
    }

    fn mark(&mut self, svg: &str) {
        self.marks.push_str(svg);
        self.marks.push('\n');
    }
}

fn characters(text: &str) -> f64 {
    text.chars().map(|_| 1.0).sum()
}

/// A text in lines of at most so many characters, unless one word has more.
fn wrapped(text: &str, most: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if characters(line) + 1.0 + characters(word) <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Text with the characters replaced that mean something in HTML, within elements and within double quotes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The least of 1, 2, 5, 10, 20, ... and their tenths that is not below `least`.
fn round_step(least: f64) -> f64 {
    let mut decade = 1e-3;
    loop {
        for step in [1.0, 2.0, 5.0] {
            if step * decade >= least {
                return step * decade;
            }
        }
        decade *= 10.0;
    }
}

/// How many decimals tell multiples of `step` apart.
fn decimals(step: f64) -> usize {
    [1.0, 0.1, 0.01].iter().position(|&unit| step >= unit * 0.999).unwrap_or(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let labels = |value| Axis::up_to("x", value).ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        assert_eq!(labels(230.0), ["0", "50", "100", "150", "200", "250"]);
        assert_eq!(labels(0.9), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(0.0), ["0.000", "0.001"]);
        assert_eq!(Axis::up_to("x", 230.0).end(), 250.0);
        let cut = Axis::ending_at("x", 230.0);
        assert_eq!((cut.end(), cut.ticks.last().map(|(at, _)| *at)), (230.0, Some(200.0)));
    }

    #[test]
    fn long_labels_stay_clear_of_the_title() {
        let left = |end| Plot::new(Axis::up_to("x", 1.0), Axis::up_to("y", end)).left;
        assert_eq!(left(800.0), left(0.9), "short labels keep charts aligned");
        // The title takes the first 20 units, a digit 8, and a label ends 8 before the plot area.
        assert!(left(25_000.0) - 8.0 - 5.0 * 8.0 > 20.0, "{}", left(25_000.0));
    }

    #[test]
    fn text_cannot_break_out() {
        let mut plot = Plot::new(Axis::up_to("<b>", 1.0), Axis::shares("\"y\""));
        plot.dot("a", (0.5, 0.5), 2.0, "a & b");
        let svg = plot.finish("\"><script>");
        assert!(!svg.contains("<b>") && !svg.contains("<script>"), "{svg}");
        assert!(svg.contains("a &amp; b") && svg.contains("&quot;y&quot;"), "{svg}");
    }

    /// However long it is and however narrow the plot area.
    #[test]
    fn remarks_stay_within_the_plot_area() {
        let long = "less than 0.1 % are beyond, up to 57 149 ms; 2.0 % of those expected did not come over the mesh"
            .to_owned();
        for end in [0.9, 25_000_000.0] {
            let mut plot = Plot::new(Axis::up_to("x", 1.0), Axis::up_to("y", end));
            plot.remarks(&[long.clone(), "short".to_owned()]);
            let lines: Vec<&str> = plot.marks.lines().filter_map(|line| line.split(['>', '<']).nth(2)).collect();
            assert_eq!(lines.join(" "), format!("{long} short"), "nothing is lost");
            let most = lines.iter().map(|line| characters(line) * REMARK_CHAR).fold(0.0, f64::max);
            assert!(lines.len() >= 3 && plot.left + most <= RIGHT, "{lines:?}");
        }
        assert_eq!(wrapped("aa bb cc dddddddd", 5.0), ["aa bb", "cc", "dddddddd"]);
    }

    /// The points of the only line of a chart, in its own units.
    fn drawn(plot: &Plot) -> Vec<(f64, f64)> {
        let path = plot.marks.split("d=\"M").nth(1).and_then(|path| path.split('"').next()).expect("a line");
        let point = |text: &str| {
            let (x, y) = text.split_once(' ').expect("two numbers");
            (x.parse().expect("a number"), y.parse().expect("a number"))
        };
        path.split('L').map(point).collect()
    }

    #[test]
    fn equal_values_make_an_upright_step_and_nothing_slants() {
        let values = [10.0, 10.0, 10.0, 10.01, 40.0, 90.0, 90.0, 90.0, 90.0, 90.0];
        let mut plot = Plot::new(Axis::up_to("x", 100.0), Axis::shares("y"));
        plot.steps("a", &values, 10.0);
        let points = drawn(&plot);
        let slanting = points.windows(2).find(|ends| ends[0].0 != ends[1].0 && ends[0].1 != ends[1].1);
        assert_eq!(slanting, None, "{points:?}");
        for (at, before, after) in [(10.0, 0.0, 0.4), (40.0, 0.4, 0.5), (90.0, 0.5, 1.0)] {
            let shown = |share| {
                let (x, y) = plot.place((at, share));
                points.iter().position(|point| (point.0 - x).abs() < 0.1 && (point.1 - y).abs() < 0.1)
            };
            let (foot, top) = (shown(before), shown(after));
            assert!(foot.is_some() && top.is_some() && foot < top, "the step at {at} has a foot and a top: {points:?}");
        }
    }

    #[test]
    fn many_values_make_few_steps_and_end_at_their_share() {
        let values: Vec<f64> = (0..100_000).map(|value| f64::from(value) / 1e3).collect();
        let mut plot = Plot::new(Axis::up_to("x", 100.0), Axis::shares("y"));
        plot.steps("a", &values, 200_000.0);
        assert!(plot.marks.len() < 60_000, "{} bytes", plot.marks.len());
        let (x, y) = plot.place((100.0, 0.5));
        assert!(plot.marks.ends_with(&format!("L{x:.1} {y:.1}\"/>\n")), "the curve ends at one half");
    }
}
