//! What is wrong with a manifest, and where.

use std::fmt;
use toml::de::{DeTable, DeValue};

/// Why a manifest cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// There is neither a preset nor a file of this name.
    #[error("there is no file {name:?}, and no preset of that name; the presets are {presets}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The presets that there are.
        presets: String,
    },
    /// What was named is there and cannot be read as a manifest.
    #[error("cannot read {name} as a manifest: {problem}; give a file of TOML, or one of the presets {presets}")]
    Unreadable {
        /// What was asked for.
        name: String,
        /// Why it cannot be read.
        problem: String,
        /// The presets that there are.
        presets: String,
    },
    /// It is no manifest.
    #[error("{origin}: {problem}")]
    Toml {
        /// The manifest.
        origin: String,
        /// What the reader says, with line and column.
        problem: String,
    },
    /// A value cannot be.
    #[error("{origin}, {place}: {message}")]
    Value {
        /// The manifest.
        origin: String,
        /// Line and key, or only the key if the value comes from a default or from the command line.
        place: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// A value was set on the command line that is none.
    #[error("--set {assignment}: {problem}")]
    Set {
        /// What was asked for.
        assignment: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The run would not fit.
    #[error(
        "this needs {} and {available_mib} MiB are free; use fewer nodes, links, messages or attackers{}",
        in_mib(*needed_mib),
        if *jobs > 1 { format!(", or simulate fewer than {jobs} seeds at a time with --jobs") } else { String::new() }
    )]
    Memory {
        /// What it is estimated to need.
        needed_mib: u64,
        /// What there is.
        available_mib: u64,
        /// How many runs at the same time need it.
        jobs: usize,
    },
}

/// So much memory, if there could be so much anywhere.
fn in_mib(mib: u64) -> String {
    /// A million terabytes.
    const CONCEIVABLE_MIB: u64 = 1 << 40;
    if mib < CONCEIVABLE_MIB { format!("some {mib} MiB of memory") } else { "more memory than any computer has".into() }
}

/// What the reader of TOML says, in words for whoever writes a manifest and not for whoever reads this program, and no longer than a
/// screen takes.
pub(super) fn in_words(problem: &str) -> String {
    const LINE_CHARS_MAX: usize = 400;
    const WORDS: [(&str, &str); 8] = [
        ("u64 value was too large", "a whole number can be at most 9223372036854775807"),
        ("number too large to fit in target type", "a whole number can be at most 9223372036854775807"),
        ("expected u32", "expected a whole number"),
        ("expected u64", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected a map", "expected a table"),
        ("expected a sequence", "expected a list"),
        ("expected internally tagged enum", "expected a table with a key `kind`: a"),
    ];
    let line = |line: &str| {
        let line = WORDS.iter().fold(line.to_owned(), |line, (theirs, ours)| line.replace(theirs, ours));
        let line = match line.split_once("expected struct ") {
            Some((before, _)) => format!("{before}expected a table"),
            None => line,
        };
        if line.chars().count() <= LINE_CHARS_MAX {
            return line;
        }
        line.chars().take(LINE_CHARS_MAX).chain(['…']).collect()
    };
    problem.trim_end().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Whether a manifest has a key at its top.
pub(super) fn has(text: &str, key: &'static str) -> bool {
    line_of(text, &[Step::Key(key)]).is_some()
}

/// A step of the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A key that this program knows.
    Key(&'static str),
    /// A key as the manifest has it.
    Word(String),
    Index(usize),
}

impl Step {
    fn key(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(key),
            Self::Word(key) => Some(key),
            Self::Index(_) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHARS_MAX: usize = 60;
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Key(key) => write!(f, "{key}"),
            Self::Word(key) => {
                key.chars().take(CHARS_MAX).try_for_each(|character| write!(f, "{}", character.escape_debug()))
            }
        }
    }
}

/// A value that cannot be, by its place in the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) path: Vec<Step>,
    pub(super) message: String,
    /// With what it does not go together, if that is elsewhere in the manifest.
    beside: Option<Vec<Step>>,
}

impl Problem {
    pub(super) fn new(path: &[Step], message: impl Into<String>) -> Self {
        Self { path: path.to_vec(), message: message.into(), beside: None }
    }

    /// The same, naming something else that it does not go together with.
    pub(super) fn beside(self, other: &[Step]) -> Self {
        Self { beside: Some(other.to_vec()), ..self }
    }

    /// The same with where it is in the text, as far as the text has it.
    pub(super) fn in_text(self, origin: &str, text: Option<&str>) -> ManifestError {
        let key = Dotted(&self.path).to_string();
        let line = text.and_then(|text| line_of(text, &self.path));
        let place = match line {
            Some(line) if !key.is_empty() => format!("line {line} ({key})"),
            _ if key.is_empty() => "at its top".into(),
            _ => key,
        };
        let message = match self.beside {
            None => self.message,
            Some(other) => {
                let key = Dotted(&other).to_string();
                let line = text.and_then(|text| line_of(text, &other));
                let other = line.map_or_else(|| key.clone(), |line| format!("{key} in line {line}"));
                format!("{} (the other one is {other})", self.message)
            }
        };
        ManifestError::Value { origin: origin.to_owned(), place, message }
    }

    /// What is wrong, with its key and without its line.
    pub(super) fn with_key(&self) -> String {
        format!("{}: {}", Dotted(&self.path), self.message)
    }
}

struct Dotted<'a>(&'a [Step]);

impl fmt::Display for Dotted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            write!(f, "{}{step}", if at == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

/// The line of a value, or of the closest thing around it that the text has; none if it has nothing of it.
fn line_of(text: &str, path: &[Step]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let (first, rest) = path.split_first()?;
    let first = first.key()?;
    let (key, mut value) = document.get_ref().iter().find(|(key, _)| key.get_ref() == first)?;
    let mut start = key.span().start;
    for step in rest {
        match (value.get_ref(), step) {
            (DeValue::Table(table), Step::Key(_) | Step::Word(_)) => {
                let name = step.key().unwrap_or_default();
                let Some((key, inner)) = table.iter().find(|(key, _)| key.get_ref() == name) else { break };
                (start, value) = (key.span().start, inner);
            }
            (DeValue::Array(array), Step::Index(index)) => {
                let Some(inner) = array.get(*index) else { break };
                (start, value) = (inner.span().start, inner);
            }
            _ => break,
        }
    }
    Some(text[..start].matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_keys() {
        let text =
            "format = 1\n\n[links]\nprofile = \"wan\"\n\n[[fault]]\nat_s = 1\n[[fault]]\nkind = \"heal\"\nat_s = 2\n";
        let line = |path: &[Step]| line_of(text, path);
        assert_eq!(line(&[Step::Key("links"), Step::Key("profile")]), Some(4));
        assert_eq!(line(&[Step::Key("fault"), Step::Index(1), Step::Key("at_s")]), Some(10));
        assert_eq!(line(&[Step::Key("links"), Step::Key("loss")]), Some(3), "the table, if the key is not there");
        assert_eq!(line(&[Step::Key("nodes")]), None);
        assert_eq!(Dotted(&[Step::Key("fault"), Step::Index(1), Step::Key("at_s")]).to_string(), "fault.1.at_s");
    }
}
