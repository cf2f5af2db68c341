//! Layers of values, the effective value of every setting, and where it came from.

use super::file::FileLayer;
use super::setting::{DefaultValue, Setting, VARIABLE_PREFIX, Value};
use super::suggest::nearest;
use super::table::{RULES, SETTINGS, setting};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Variables with this prefix belong to the tests of this repository and to the test network tool, and are left alone.
const FOREIGN_PREFIX: &str = "STARLING_TEST";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command.
    Flag,
    /// An environment variable.
    Variable,
    /// The configuration file.
    File {
        /// Which.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// Nobody said anything.
    Default,
}

/// Something wrong with a layer: where, what, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The flag, the variable, or the file with the line; with the value.
    pub place: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// A setting with its effective value.
#[derive(Clone, Debug)]
pub struct Effective {
    /// Which setting.
    pub setting: &'static Setting,
    /// Its value; none if it is unset.
    pub value: Option<Value>,
    /// Where the value came from.
    pub origin: Origin,
    /// Whether a layer gave it a value that cannot be, so that a lower one stands in.
    faulty: bool,
}

impl Effective {
    /// Where the value came from: `--flag`, the variable, `file:line` or `default`.
    #[must_use]
    pub fn origin_text(&self) -> String {
        match &self.origin {
            Origin::Flag => format!("--{}", self.setting.flag),
            Origin::Variable => self.setting.variable(),
            Origin::File { path, line } => format!("{}:{line}", path.display()),
            Origin::Default => "default".into(),
        }
    }

    /// The value and where it was given, for errors: `--target-peers 9`, `STARLING_TARGET_PEERS=9`,
    /// `config.toml:3: network.target_peers = 9`.
    #[must_use]
    pub fn place(&self) -> String {
        let shown = self.value.as_ref().map_or_else(|| "unset".into(), Value::to_toml);
        place(self.setting, &self.origin, &shown)
    }
}

fn place(setting: &Setting, origin: &Origin, shown: &str) -> String {
    match origin {
        Origin::Flag => format!("--{} {shown}", setting.flag),
        Origin::Variable => format!("{}={shown}", setting.variable()),
        Origin::File { path, line } => format!("{}:{line}: {} = {shown}", path.display(), setting.key),
        Origin::Default => format!("{} (--{}), by default {shown}", setting.key, setting.flag),
    }
}

/// Every setting's effective value.
///
/// The getters panic on a key that the table does not have or that is of another kind: both are mistakes in the program,
/// which the first test that loads settings finds.
#[derive(Clone, Debug)]
pub struct Values {
    entries: Vec<Effective>,
}

impl Values {
    /// All settings in the order of the table.
    #[must_use]
    pub fn all(&self) -> &[Effective] {
        &self.entries
    }

    /// One setting.
    ///
    /// # Panics
    /// If the table has no such key.
    #[must_use]
    pub fn get(&self, key: &str) -> &Effective {
        let found = self.entries.iter().find(|entry| entry.setting.key == key);
        found.unwrap_or_else(|| panic!("no setting {key}"))
    }

    /// The problem that a setting has by what it refers to or stands beside, at the place where it was given.
    #[must_use]
    pub fn problem(&self, key: &str, problem: impl Into<String>) -> Problem {
        Problem { place: self.get(key).place(), problem: problem.into() }
    }

    /// Whether somebody gave the setting a value.
    #[must_use]
    pub fn is_given(&self, key: &str) -> bool {
        self.get(key).origin != Origin::Default
    }

    /// A setting of [`super::setting::Kind::Bool`].
    #[must_use]
    pub fn bool(&self, key: &str) -> bool {
        self.want(key, |value| if let Value::Bool(value) = value { Some(*value) } else { None })
    }

    /// A setting of [`super::setting::Kind::Count`].
    #[must_use]
    pub fn count(&self, key: &str) -> usize {
        usize::try_from(self.count_u64(key)).unwrap_or(usize::MAX)
    }

    /// A setting of [`super::setting::Kind::Count`] that may be larger than memory.
    #[must_use]
    pub fn count_u64(&self, key: &str) -> u64 {
        self.want(key, |value| if let Value::Count(count) = value { Some(*count) } else { None })
    }

    /// A setting of [`super::setting::Kind::Bytes`].
    #[must_use]
    pub fn bytes(&self, key: &str) -> u64 {
        self.want(key, |value| if let Value::Bytes(bytes) = value { Some(*bytes) } else { None })
    }

    /// A setting of [`super::setting::Kind::Duration`].
    #[must_use]
    pub fn duration(&self, key: &str) -> std::time::Duration {
        self.want(key, |value| if let Value::Duration(length) = value { Some(*length) } else { None })
    }

    /// A setting of [`super::setting::Kind::Text`] or [`super::setting::Kind::Choice`].
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.want(key, |value| if let Value::Text(text) = value { Some(text.as_str()) } else { None })
    }

    /// A setting of [`super::setting::Kind::Text`] or [`super::setting::Kind::Choice`] whose check has parsed it already.
    #[must_use]
    pub fn parsed<T: FromStr>(&self, key: &str) -> T {
        self.text(key).parse().unwrap_or_else(|_| panic!("the check of {key} lets a wrong value through"))
    }

    /// A setting of [`super::setting::Kind::List`].
    #[must_use]
    pub fn list(&self, key: &str) -> &[String] {
        self.want(key, |value| if let Value::List(texts) = value { Some(texts.as_slice()) } else { None })
    }

    /// A setting of [`super::setting::Kind::Path`] that has a default.
    #[must_use]
    pub fn path(&self, key: &str) -> &Path {
        self.optional_path(key).unwrap_or_else(|| panic!("{key} has no value"))
    }

    /// A setting of [`super::setting::Kind::Path`].
    #[must_use]
    pub fn optional_path(&self, key: &str) -> Option<&Path> {
        self.get(key).value.as_ref().map(|value| match value {
            Value::Path(path) => path.as_path(),
            _ => panic!("{key} is no path"),
        })
    }

    /// A setting of [`super::setting::Kind::Count`] that may be unset.
    #[must_use]
    pub fn optional_count(&self, key: &str) -> Option<u64> {
        self.get(key).value.is_some().then(|| self.count_u64(key))
    }

    /// A setting of [`super::setting::Kind::Bytes`] that may be unset.
    #[must_use]
    pub fn optional_bytes(&self, key: &str) -> Option<u64> {
        self.get(key).value.is_some().then(|| self.bytes(key))
    }

    /// A setting of [`super::setting::Kind::Text`] or [`super::setting::Kind::Choice`] that may be unset.
    #[must_use]
    pub fn optional_text(&self, key: &str) -> Option<&str> {
        self.get(key).value.is_some().then(|| self.text(key))
    }

    fn want<'a, T>(&'a self, key: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> T {
        self.get(key).value.as_ref().and_then(read).unwrap_or_else(|| panic!("{key} is unset or of another kind"))
    }
}

/// What the layers say, before it has been checked.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// Flags of the command with their values.
    pub flags: Vec<(&'static Setting, String)>,
    /// Environment variables; only those with our prefix are looked at.
    pub variables: Vec<(OsString, OsString)>,
}

impl Layers {
    /// These flags over the process's environment.
    #[must_use]
    pub fn with_environment(flags: Vec<(&'static Setting, String)>) -> Self {
        Self { flags, variables: std::env::vars_os().collect() }
    }

    /// Reads the file in the data directory that flags and variables name, and lays them over it. Gives everything that is
    /// wrong with what was given, too. `home` is where the data directory of instance 0 is unless told otherwise.
    ///
    /// # Errors
    /// If nobody names a data directory and there is no home, or the file is there and cannot be read.
    pub fn resolve(&self, home: Option<PathBuf>) -> Result<(Values, Vec<Problem>), super::ConfigError> {
        let datadir = self.datadir(home)?;
        let file = FileLayer::read(&crate::storage::DataDir::config_file(&datadir))?;
        Ok(self.resolve_over(&file, &datadir))
    }

    /// The data directory: the one that is named, else the default one of the instance.
    ///
    /// # Errors
    /// If nobody names one and there is no home.
    pub fn datadir(&self, home: Option<PathBuf>) -> Result<PathBuf, super::ConfigError> {
        // What is wrong with a value is reported by [`Layers::check`] or when everything is read.
        if let Some((Value::Path(path), _)) = self.above_file(setting("datadir"), &mut Vec::new()) {
            return Ok(path);
        }
        home.map(|first| super::instance_datadir(first, self.instance())).ok_or(super::ConfigError::NoHome)
    }

    /// The instance that flags and variables name; 0 unless they do.
    #[must_use]
    pub fn instance(&self) -> u16 {
        match self.above_file(setting("instance"), &mut Vec::new()) {
            Some((Value::Count(instance), _)) => u16::try_from(instance).unwrap_or(u16::MAX),
            _ => 0,
        }
    }

    /// What is wrong with the flags and variables of these settings, and with the names of all variables.
    #[must_use]
    pub fn check(&self, keys: &[&str]) -> Vec<Problem> {
        let mut problems = self.unknown_variables();
        for key in keys {
            self.above_file(setting(key), &mut problems);
        }
        problems
    }

    /// Lays flags over variables over the file over the defaults.
    #[must_use]
    pub fn resolve_over(&self, file: &FileLayer, datadir: &Path) -> (Values, Vec<Problem>) {
        let mut problems = file.problems.clone();
        problems.extend(self.unknown_variables());
        let mut values = Values { entries: Vec::with_capacity(SETTINGS.len()) };
        for setting in SETTINGS {
            let before = problems.len();
            let given = self.above_file(setting, &mut problems).or_else(|| file.value(setting, &mut problems));
            let faulty = problems.len() > before;
            let (value, origin) = match given {
                Some((value, origin)) => (Some(value), origin),
                None => (default(setting, &values, datadir), Origin::Default),
            };
            values.entries.push(Effective { setting, value, origin, faulty });
        }
        problems.extend(contradictions(&values));
        (values, problems)
    }

    /// What a flag or a variable says.
    fn above_file(&self, setting: &'static Setting, problems: &mut Vec<Problem>) -> Option<(Value, Origin)> {
        let flag = self.flags.iter().find(|(given, _)| given.key == setting.key);
        if let Some((_, text)) = flag {
            match parse_text(setting, text) {
                Ok(value) => return Some((value, Origin::Flag)),
                Err(problem) => problems.push(Problem { place: place(setting, &Origin::Flag, text), problem }),
            }
        }
        let name = setting.variable();
        let (_, text) = self.variables.iter().find(|(variable, _)| *variable == *name)?;
        let parsed = match text.to_str() {
            Some(text) => parse_text(setting, text),
            None => Err("it is not Unicode text".into()),
        };
        match parsed {
            Ok(value) => Some((value, Origin::Variable)),
            Err(problem) => {
                problems.push(Problem { place: place(setting, &Origin::Variable, &text.to_string_lossy()), problem });
                None
            }
        }
    }

    fn unknown_variables(&self) -> Vec<Problem> {
        let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
        let mut unknown: Vec<_> = self
            .variables
            .iter()
            .filter_map(|(name, _)| name.to_str())
            .filter(|name| name.starts_with(VARIABLE_PREFIX) && !name.starts_with(FOREIGN_PREFIX))
            .filter(|name| !known.iter().any(|known| known == name))
            .collect();
        unknown.sort_unstable();
        let problem = |name: &str| {
            Problem {
            place: name.to_owned(),
            problem: match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("there is no such environment variable; did you mean {near}? Else unset it"),
                None => "there is no such environment variable; unset it (each flag that `starling run --help` lists has one, \
                         as STARLING_TARGET_PEERS for --target-peers)"
                    .into(),
            },
        }
        };
        unknown.into_iter().map(problem).collect()
    }
}

/// Reads the value of a flag or a variable; relative paths are taken from the working directory.
fn parse_text(setting: &Setting, text: &str) -> Result<Value, String> {
    match setting.kind.parse_text(text)? {
        Value::Path(path) => std::path::absolute(&path)
            .map(Value::Path)
            .map_err(|error| format!("the working directory cannot be found: {error}; give an absolute path")),
        value => Ok(value),
    }
}

/// The default's value; relative paths are taken from the data directory.
fn default(setting: &Setting, above: &Values, datadir: &Path) -> Option<Value> {
    if setting.key == "datadir" {
        return Some(Value::Path(std::path::absolute(datadir).unwrap_or_else(|_| datadir.to_owned())));
    }
    let text = match setting.default {
        DefaultValue::Unset { .. } => return None,
        DefaultValue::Derived(_, value) => return Some(value(above)),
        DefaultValue::Is(text) => text.to_owned(),
        DefaultValue::PerInstance(text) => text(u16::try_from(above.count("instance")).unwrap_or(u16::MAX)),
    };
    match setting.kind.parse_text(&text) {
        Ok(Value::Path(path)) => Some(Value::Path(above.path("datadir").join(path))),
        Ok(value) => Some(value),
        Err(problem) => panic!("the default of {} is wrong: {problem}", setting.key),
    }
}

/// What each value alone is not to blame for. Rules that look at a value that is already known to be wrong are left out.
fn contradictions(values: &Values) -> Vec<Problem> {
    let mut problems = Vec::new();
    for entry in &values.entries {
        if let Some(needed) = entry.setting.needs.map(|key| values.get(key))
            && entry.origin != Origin::Default
            && needed.value.is_none()
            && !needed.faulty
        {
            let (key, flag) = (needed.setting.key, needed.setting.flag);
            let problem = format!("this says nothing without {key}; give that too (--{flag}), or leave this out");
            problems.push(Problem { place: entry.place(), problem });
        }
    }
    let sound = |rule: &&super::table::Rule| !rule.looks_at.iter().any(|key| values.get(key).faulty);
    problems.extend(RULES.iter().filter(sound).filter_map(|rule| (rule.check)(values)));
    problems
}
