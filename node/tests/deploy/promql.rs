//! Just enough of PromQL to find the metrics and labels that an expression names, and whether a node serves them.
//!
//! It is no parser: it reads names one after the other and knows from the character that follows, and from the word before, what each
//! is. Whatever it does not know is an error, so that a misspelt name cannot pass for something else.

use std::collections::{BTreeMap, BTreeSet};

/// Functions and aggregations of PromQL, and Grafana's functions for variables, that the files use.
const FUNCTIONS: [&str; 14] = [
    "avg",
    "changes",
    "clamp_min",
    "count",
    "delta",
    "deriv",
    "histogram_quantile",
    "increase",
    "label_values",
    "max",
    "min",
    "rate",
    "sum",
    "time",
];

/// Words before a list of labels.
const LABEL_LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

const OPERATORS: [&str; 4] = ["and", "or", "unless", "bool"];

/// Labels that Prometheus adds.
const ADDED: [&str; 2] = ["instance", "job"];

/// Metrics by the name of their series, with the values of each label.
#[derive(Debug, Default)]
pub(crate) struct Served {
    series: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    families: BTreeSet<String>,
}

/// What an expression names.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) metrics: Vec<String>,
    /// All labels of these metrics.
    pub(crate) labels: BTreeSet<String>,
}

impl Served {
    /// Reads the text that `/metrics` answers.
    pub(crate) fn from_text(text: &str) -> Self {
        let mut served = Self::default();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# TYPE ") {
                served.families.extend(comment.split(' ').next().map(str::to_owned));
                continue;
            }
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            let name: String = line.chars().take_while(|c| is_name(*c)).collect();
            let labels = served.series.entry(name.clone()).or_default();
            if let Some((labels_text, _)) = line[name.len()..].strip_prefix('{').and_then(|rest| rest.rsplit_once('}'))
            {
                for (label, value) in labels_text.split("\",").filter_map(|pair| pair.split_once("=\"")) {
                    labels.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
                }
            }
        }
        // Added by Prometheus itself, about each target.
        served.series.insert("up".into(), BTreeMap::new());
        served
    }

    /// The names of the node's metrics, without the suffixes of their series.
    pub(crate) fn families(&self) -> impl Iterator<Item = &str> {
        self.families.iter().map(String::as_str)
    }

    /// Checks that everything that the expression names is served.
    pub(crate) fn check(&self, expression: &str) -> Result<Used, String> {
        let mut reader = Reader { served: self, text: expression, at: 0, used: Used::default(), lists: Vec::new() };
        reader.read().map_err(|problem| format!("{problem} in `{expression}`"))?;
        let Reader { mut used, lists, .. } = reader;
        used.labels.extend(ADDED.map(str::to_owned));
        match lists.iter().find(|label| !used.labels.contains(*label)) {
            Some(label) => Err(format!("no metric has the label {label} in `{expression}`")),
            None if used.metrics.is_empty() => Err(format!("no metric in `{expression}`")),
            None => Ok(used),
        }
    }
}

struct Reader<'a> {
    served: &'a Served,
    text: &'a str,
    at: usize,
    used: Used,
    /// Labels in lists such as those of `by`.
    lists: Vec<String>,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), String> {
        while let Some(next) = self.peek() {
            match next {
                '[' => drop(self.until(']')?),
                '"' => drop(self.string()?),
                '0'..='9' => drop(self.name()),
                c if is_name(c) => self.word()?,
                _ => self.at += next.len_utf8(),
            }
        }
        Ok(())
    }

    fn word(&mut self) -> Result<(), String> {
        let word = self.name();
        self.skip_space();
        let next = self.peek();
        if LABEL_LISTS.contains(&word.as_str()) {
            if next == Some('(') {
                self.at += 1;
                let list = self.until(')')?;
                self.lists.extend(list.split(',').map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned));
            }
            return Ok(());
        }
        if OPERATORS.contains(&word.as_str()) {
            return Ok(());
        }
        if next == Some('(') || self.text[self.at..].starts_with("by ") {
            if word == "label_values" {
                return self.label_values();
            }
            return if FUNCTIONS.contains(&word.as_str()) { Ok(()) } else { Err(format!("unknown function {word}")) };
        }
        self.metric(word)
    }

    /// Grafana's `label_values(metric, label)`.
    fn label_values(&mut self) -> Result<(), String> {
        self.at += 1;
        let arguments = self.until(')')?;
        let (metric, label) = arguments.split_once(',').ok_or("label_values without a label")?;
        self.lists.push(label.trim().to_owned());
        self.metric(metric.trim().to_owned())
    }

    fn metric(&mut self, name: String) -> Result<(), String> {
        let Some(labels) = self.served.series.get(&name) else { return Err(format!("no metric is called {name}")) };
        self.used.labels.extend(labels.keys().cloned());
        if self.peek() == Some('{') {
            self.at += 1;
            while self.peek() != Some('}') {
                let label = self.name();
                let operator = self.name_of(|c| "=!~".contains(c));
                let value = self.string()?;
                match labels.get(&label) {
                    None if ADDED.contains(&label.as_str()) => {}
                    None => return Err(format!("{name} has no label {label}")),
                    Some(values) if operator == "=" && !value.contains('$') && !values.contains(&value) => {
                        return Err(format!("{label} of {name} is never {value}"));
                    }
                    Some(_) => {}
                }
                if self.peek() == Some(',') {
                    self.at += 1;
                    self.skip_space();
                }
            }
            self.at += 1;
        }
        self.used.metrics.push(name);
        Ok(())
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn skip_space(&mut self) {
        self.name_of(char::is_whitespace);
    }

    fn name(&mut self) -> String {
        self.name_of(is_name)
    }

    fn name_of(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let name: String = self.text[self.at..].chars().take_while(|c| belongs(*c)).collect();
        self.at += name.len();
        name
    }

    fn string(&mut self) -> Result<String, String> {
        if self.peek() != Some('"') {
            return Err(format!("a value is expected at {}", self.at));
        }
        self.at += 1;
        self.until('"')
    }

    fn until(&mut self, end: char) -> Result<String, String> {
        let rest = &self.text[self.at..];
        let length = rest.find(end).ok_or_else(|| format!("{end} is missing"))?;
        self.at += length + end.len_utf8();
        Ok(rest[..length].to_owned())
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

#[test]
fn what_is_misspelt_is_found() {
    let served = Served::from_text(
        "# TYPE a counter\na_total{class=\"block\",cause=\"full\"} 1\na_total{class=\"tx\",cause=\"full\"} 1\n# TYPE b gauge\n\
         b 2\nh_bucket{le=\"1.0\"} 3\n# EOF\n",
    );
    for right in [
        "a_total",
        "rate(a_total{class=\"tx\",instance=~\"$instance\"}[5m]) > 2e9",
        "sum by (class, instance) (increase(a_total[$__rate_interval])) / on (instance) group_left () b",
        "histogram_quantile(0.9, sum by (le) (rate(h_bucket[5m]))) > 1 and on (instance) b == 1",
        "label_values(b, instance)",
    ] {
        served.check(right).unwrap_or_else(|problem| panic!("{problem}"));
    }
    for (wrong, problem) in [
        ("a_totals > 1", "no metric is called a_totals"),
        ("rate(a[5m])", "no metric is called a "),
        ("rat(a_total[5m])", "unknown function rat"),
        ("a_total{clas=\"tx\"}", "a_total has no label clas"),
        ("a_total{class=\"ty\"}", "class of a_total is never ty"),
        ("sum by (clas) (a_total)", "no metric has the label clas"),
        ("b and on (le) b", "no metric has the label le"),
        ("label_values(c, instance)", "no metric is called c"),
        ("1 + 2", "no metric"),
    ] {
        let found = served.check(wrong).expect_err(wrong);
        assert!(found.contains(problem), "{found}");
    }
}
