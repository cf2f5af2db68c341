//! What a setting is: its names, the values it takes, and how a value is read and written.
//!
//! A value comes as text (a flag or an environment variable) or as TOML (the file). Both ways lead through the same
//! [`Kind`], so that what is right in one place is right in the other, and both are told in the same words what is wrong.

use super::units::{format_bytes, format_duration, parse_bytes, parse_duration};
use super::values::Values;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// One setting: everything there is to say about it. [`super::table::SETTINGS`] has them all.
#[derive(Debug)]
pub struct Setting {
    /// Name in the file, `section.name`; a name without a point stands above the first section.
    pub key: &'static str,
    /// Name on the command line, without the dashes. The environment variable follows from it; see [`Setting::variable`].
    pub flag: &'static str,
    /// What stands for the value in help texts, such as `N` or `FILE`.
    pub value_name: &'static str,
    /// Which values it takes.
    pub kind: Kind,
    /// What holds when nobody says anything.
    pub default: DefaultValue,
    /// What it does, in sentences; help text, comment in the template and entry in the documentation.
    pub help: &'static str,
    /// Whether it may stand in the file. What says where the file is, or belongs to one run only, may not.
    pub in_file: bool,
    /// Another setting without which this one says nothing: giving this one alone is an error.
    pub needs: Option<&'static str>,
}

impl Setting {
    /// What most settings have; an entry states the rest.
    pub const BASE: Self = Self {
        key: "",
        flag: "",
        value_name: "VALUE",
        kind: Kind::Bool,
        default: DefaultValue::Unset { means: "nothing", example: "" },
        help: "",
        in_file: true,
        needs: None,
    };

    /// The environment variable: `STARLING_` and the flag's name in capitals, `--target-peers` as `STARLING_TARGET_PEERS`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.flag.to_ascii_uppercase().replace('-', "_"))
    }

    /// The part of the key before the point; empty above the first section.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    /// The part of the key after the point.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }
}

/// What the names of all environment variables begin with.
pub const VARIABLE_PREFIX: &str = "STARLING_";

/// Says what is wrong with a text and what would be right, if anything is.
pub type Check = fn(&str) -> Result<(), String>;

/// Which values a setting takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Count {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A length of time, written `500ms`, `2s`, `5m`, `12h` or `7d`.
    Duration {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// A number of bytes, written `4096`, `512KiB`, `64MiB` or `2GiB`.
    Bytes {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A file or directory. Relative ones are taken from the data directory when they stand in the file or are the
    /// default, and from the working directory when they come from a flag or a variable.
    Path,
    /// Any text that passes the check.
    Text(Check),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any number of texts that each pass the check; separated by commas on the command line.
    List(Check),
}

/// What holds when nobody says anything.
#[derive(Clone, Copy, Debug)]
pub enum DefaultValue {
    /// No value.
    Unset {
        /// What that means, in a few words.
        means: &'static str,
        /// A value that could be given, written as on the command line; the template shows it.
        example: &'static str,
    },
    /// This value, written as on the command line.
    Is(&'static str),
    /// A value that moves with the instance number.
    PerInstance(fn(instance: u16) -> String),
    /// A value that follows from settings above this one; the text says how.
    Derived(&'static str, fn(&Values) -> Value),
}

/// A value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Count`].
    Count(u64),
    /// Of [`Kind::Duration`].
    Duration(Duration),
    /// Of [`Kind::Bytes`].
    Bytes(u64),
    /// Of [`Kind::Path`].
    Path(PathBuf),
    /// Of [`Kind::Text`] and [`Kind::Choice`].
    Text(String),
    /// Of [`Kind::List`].
    List(Vec<String>),
}

impl Kind {
    /// Reads a value as it stands in a flag or a variable.
    ///
    /// # Errors
    /// What is wrong with it and what would be right.
    pub fn parse_text(&self, text: &str) -> Result<Value, String> {
        match *self {
            Self::Bool => match text {
                "true" | "1" => Ok(Value::Bool(true)),
                "false" | "0" => Ok(Value::Bool(false)),
                _ => Err(format!("{text:?} is neither true nor false")),
            },
            Self::Count { .. } => {
                let count = text.parse().map_err(|_no_number| format!("{text:?} is no {}", self.wanted()))?;
                self.count(count)
            }
            Self::Duration { min, max } => {
                let length = parse_duration(text)?;
                if !(min..=max).contains(&length) {
                    let (min, max) = (format_duration(min), format_duration(max));
                    return Err(format!("{text} is not between {min} and {max}"));
                }
                Ok(Value::Duration(length))
            }
            Self::Bytes { .. } => self.bytes(parse_bytes(text)?),
            Self::Path if text.is_empty() => Err("the path is empty; name a file or directory".into()),
            Self::Path => Ok(Value::Path(text.into())),
            Self::Text(check) => check(text).map(|()| Value::Text(text.to_owned())),
            Self::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::Choice(words) => Err(format!("{text:?} is none of {}", words.join(", "))),
            Self::List(check) => {
                let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
                texts.map(|text| check(text).map(|()| text.to_owned())).collect::<Result<_, _>>().map(Value::List)
            }
        }
    }

    /// Reads a value as it stands in the file.
    ///
    /// # Errors
    /// What is wrong with it and what would be right.
    pub fn parse_toml(&self, value: &DeValue<'_>) -> Result<Value, String> {
        let number = |integer: &toml::de::DeInteger<'_>| u64::from_str_radix(integer.as_str(), integer.radix());
        let other = || Err(format!("{} is no {}", described(value), self.wanted()));
        match (*self, value) {
            (Self::Bool, DeValue::Boolean(value)) => Ok(Value::Bool(*value)),
            (Self::Count { .. }, DeValue::Integer(integer)) => {
                number(integer).map_or_else(|_| other(), |n| self.count(n))
            }
            (Self::Bytes { .. }, DeValue::Integer(integer)) => {
                number(integer).map_or_else(|_| other(), |n| self.bytes(n))
            }
            (Self::List(check), DeValue::Array(array)) => {
                let text = |item: &toml::Spanned<DeValue<'_>>| match item.get_ref() {
                    DeValue::String(text) => check(text).map(|()| text.to_string()),
                    item => Err(format!("the list holds {}, where a text in quotes belongs", described(item))),
                };
                array.iter().map(text).collect::<Result<_, _>>().map(Value::List)
            }
            (Self::Bool | Self::Count { .. } | Self::List(_), _) => other(),
            (_, DeValue::String(text)) => self.parse_text(text),
            _ => other(),
        }
    }

    fn count(&self, count: u64) -> Result<Value, String> {
        match *self {
            Self::Count { min, max } if !(min..=max).contains(&count) => {
                Err(format!("{count} is not between {min} and {max}"))
            }
            _ => Ok(Value::Count(count)),
        }
    }

    fn bytes(&self, bytes: u64) -> Result<Value, String> {
        match *self {
            Self::Bytes { min, max } if !(min..=max).contains(&bytes) => {
                let texts = [bytes, min, max].map(format_bytes);
                Err(format!("{} is not between {} and {}", texts[0], texts[1], texts[2]))
            }
            _ => Ok(Value::Bytes(bytes)),
        }
    }

    /// What is wanted, as a noun with an example.
    #[must_use]
    pub fn wanted(&self) -> String {
        match self {
            Self::Bool => "true or false".into(),
            Self::Count { min, max } => format!("whole number between {min} and {max}"),
            Self::Duration { .. } => "length of time in quotes, such as \"500ms\", \"2s\" or \"5m\"".into(),
            Self::Bytes { .. } => "number of bytes, such as 4096 or \"64MiB\"".into(),
            Self::Path => "path in quotes".into(),
            Self::Text(_) => "text in quotes".into(),
            Self::Choice(words) => format!("text in quotes, one of {}", words.join(", ")),
            Self::List(_) => "list of texts, such as [\"a\", \"b\"]".into(),
        }
    }
}

impl Value {
    /// As TOML; what [`Kind::parse_toml`] reads.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Count(count) => count.to_string(),
            Self::Duration(length) => quoted(&format_duration(*length)),
            Self::Bytes(bytes) => quoted(&format_bytes(*bytes)),
            Self::Path(path) => quoted(&path.to_string_lossy()),
            Self::Text(text) => quoted(text),
            Self::List(texts) => {
                format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// As JSON: numbers for counts and bytes, text for what has a unit.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Bool(value) => (*value).into(),
            Self::Count(number) | Self::Bytes(number) => (*number).into(),
            Self::Duration(length) => format_duration(*length).into(),
            Self::Path(path) => path.to_string_lossy().into_owned().into(),
            Self::Text(text) => text.clone().into(),
            Self::List(texts) => texts.clone().into(),
        }
    }
}

/// A value of the file as an error shows it.
fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {text:?}"),
        DeValue::Integer(integer) => format!("the number {integer}"),
        DeValue::Float(float) => format!("the number {float}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a section".into(),
    }
}
