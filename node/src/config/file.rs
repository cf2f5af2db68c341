//! The file `config.toml`: TOML with a table for each section, read with the line of every value.

use super::ConfigError;
use super::setting::{Setting, Value};
use super::suggest::nearest;
use super::table::SETTINGS;
use super::values::{Origin, Problem};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What the file says: the known keys with their values and lines, and what is wrong with the rest.
#[derive(Clone, Debug, Default)]
pub struct FileLayer {
    path: PathBuf,
    /// By key, what stands there in the file's words, and its reading.
    given: BTreeMap<&'static str, Given>,
    /// What cannot be read or means nothing.
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug)]
struct Given {
    line: usize,
    written: String,
    value: Result<Value, String>,
}

impl FileLayer {
    /// Reads a file; one that does not exist says nothing.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        match crate::bounded::read_text(path, crate::bounded::TEXT_BYTES_MAX) {
            Ok(text) => Ok(Self::parse(path, &text)),
            // That the directory is none is said by whoever needs one.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Self::default()),
            Err(source) => {
                Err(ConfigError::Unreadable { what: "the configuration file", path: path.to_owned(), source })
            }
        }
    }

    /// Reads the text of a file. Never fails: what is wrong is in [`FileLayer::problems`] or reported with its setting.
    #[must_use]
    pub fn parse(path: &Path, text: &str) -> Self {
        let mut layer = Self { path: path.to_owned(), ..Self::default() };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            layer.problem(line, None, format!("this is not TOML: {}", error.message()));
        }
        for (key, value) in in_line_order(table.get_ref()) {
            let name = key.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Table(section) if is_section(name) => {
                    for (inner, value) in in_line_order(section) {
                        layer.take(text, &format!("{name}.{}", inner.get_ref()), inner, value);
                    }
                }
                _ if is_section(name) => {
                    let problem =
                        format!("`{name}` is a section; write [{name}] on a line of its own and its keys below");
                    layer.problem(line_of(text, key.span().start), None, problem);
                }
                _ => layer.take(text, name, key, value),
            }
        }
        layer
    }

    /// What the file says about a setting.
    pub(super) fn value(&self, setting: &Setting, problems: &mut Vec<Problem>) -> Option<(Value, Origin)> {
        let given = self.given.get(setting.key)?;
        match &given.value {
            Ok(value) => Some((value.clone(), Origin::File { path: self.path.clone(), line: given.line })),
            Err(problem) => {
                let place = format!("{}:{}: {} = {}", self.path.display(), given.line, setting.key, given.written);
                problems.push(Problem { place, problem: problem.clone() });
                None
            }
        }
    }

    fn take(&mut self, text: &str, full: &str, key: &Spanned<toml::de::DeString<'_>>, value: &Spanned<DeValue<'_>>) {
        let line = line_of(text, key.span().start);
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == full) else {
            return self.problem(line, Some(full), unknown(full));
        };
        if !setting.in_file {
            let problem = format!("this cannot stand in a file; give --{} or set {}", setting.flag, setting.variable());
            return self.problem(line, Some(full), problem);
        }
        let directory = self.path.parent().unwrap_or(Path::new(""));
        let parsed = setting.kind.parse_toml(value.get_ref()).map(|value| match value {
            Value::Path(path) => {
                let path = directory.join(path);
                Value::Path(std::path::absolute(&path).unwrap_or(path))
            }
            value => value,
        });
        let written = text.get(value.span()).unwrap_or_default().lines().next().unwrap_or_default().to_owned();
        self.given.insert(setting.key, Given { line, written, value: parsed });
    }

    fn problem(&mut self, line: usize, key: Option<&str>, problem: String) {
        let key = key.map_or_else(String::new, |key| format!(": {key}"));
        self.problems.push(Problem { place: format!("{}:{line}{key}", self.path.display()), problem });
    }
}

/// The entries of a table as they stand in the file.
fn in_line_order<'t, 'a>(
    table: &'t DeTable<'a>,
) -> Vec<(&'t Spanned<toml::de::DeString<'a>>, &'t Spanned<DeValue<'a>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// Whether settings stand in a section of this name.
fn is_section(name: &str) -> bool {
    !name.is_empty() && SETTINGS.iter().any(|setting| setting.section() == name)
}

fn unknown(given: &str) -> String {
    let keys = || SETTINGS.iter().filter(|setting| setting.in_file);
    let mut sections: Vec<&str> = keys().map(Setting::section).filter(|section| !section.is_empty()).collect();
    sections.dedup();
    let all = keys().map(|setting| setting.key);
    let near =
        if given.contains('.') { nearest(given, all) } else { nearest(given, all.chain(sections.iter().copied())) };
    if let Some(near) = near {
        return format!("there is no such key; did you mean `{near}`?");
    }
    let section = given.split_once('.').map_or("", |(section, _)| section);
    let beside: Vec<&str> = keys().filter(|setting| setting.section() == section).map(Setting::name).collect();
    // A section that is not known is reported by its own name, so that a key always stands in a known one.
    match section {
        "" => format!("there is no such key; known keys here are {}", [beside, sections].concat().join(", ")),
        _ => format!("there is no such key; known keys of [{section}] are {}", beside.join(", ")),
    }
}

/// The line of a byte, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table::setting;

    fn problems(text: &str) -> Vec<String> {
        let layer = FileLayer::parse(Path::new("/d/config.toml"), text);
        let mut problems = layer.problems.clone();
        for setting in SETTINGS {
            layer.value(setting, &mut problems);
        }
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_known_one() {
        for (text, expected) in [
            (
                "[network]\n\ntarget_peer = 3",
                "/d/config.toml:3: network.target_peer: there is no such key; did you mean `network.target_peers`?",
            ),
            ("[network]\nboot_nodes = []", "did you mean `network.bootnodes`?"),
            ("[netwrok]\nlisten = []", "config.toml:1: netwrok: there is no such key; did you mean `network`?"),
            ("genisis = \"x\"", "did you mean `genesis`?"),
            ("[log]\ntarget_peers = 3", "log.target_peers: there is no such key; did you mean `network.target_peers`?"),
            ("[log]\nzzz = 3", "known keys of [log] are format, filter"),
            ("[qqq]\nzzz = 3", "config.toml:1: qqq: there is no such key; known keys here are instance, genesis"),
            ("qqq.zzz = 3", "config.toml:1: qqq: there is no such key"),
            ("datadir = \"x\"", "give --datadir or set STARLING_DATADIR"),
        ] {
            let problems = problems(text);
            assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:?}");
        }
    }

    #[test]
    fn broken_toml_and_wrong_types_name_the_line() {
        for (text, expected) in [
            ("[network", "config.toml:1: this is not TOML"),
            (
                "[network]\ntarget_peers = \"many\"",
                "config.toml:2: network.target_peers = \"many\": the text \"many\" is no whole number between 1 and",
            ),
            ("[network]\ntarget_peers = -1", "the number -1 is no whole number"),
            ("[network]\ntarget_peers = 0", "0 is not between 1 and"),
            ("network = 3", "config.toml:1: `network` is a section"),
            ("\n\n[rpc]\nlisten = \"here\"", "config.toml:4: rpc.listen = \"here\": "),
            ("[network]\nbootnodes = [3]", "the list holds the number 3, where a text in quotes belongs"),
            ("genesis = \"a\"\ngenesis = \"b\"", "config.toml:2: this is not TOML: duplicate key"),
        ] {
            let problems = problems(text);
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
        }
    }

    #[test]
    fn everything_wrong_is_found_at_once() {
        let problems = problems("genisis = 1\n[network]\ntarget_peers = 0\nnonsense = 2\n[log]\nformat = \"xml\"");
        assert_eq!(problems.len(), 4, "{problems:?}");
        let unknown = FileLayer::parse(Path::new("/d/c"), "[rpc]\nzz = 1\naa = 2\n[log]\nxx = 3").problems;
        let lines: Vec<_> = unknown.iter().map(|problem| &problem.place[..6]).collect();
        assert_eq!(lines, ["/d/c:2", "/d/c:3", "/d/c:5"], "in the order of the file");
    }

    #[test]
    fn relative_paths_are_taken_from_the_files_directory() {
        let layer = FileLayer::parse(Path::new("/d/config.toml"), "genesis = \"a\"\n[keys]\nnode = \"/k\"");
        let path = |key| layer.value(setting(key), &mut Vec::new()).expect("given").0;
        assert_eq!(path("genesis"), Value::Path("/d/a".into()));
        assert_eq!(path("keys.node"), Value::Path("/k".into()));
    }
}
