//! What is written from the table: the commented template, the effective configuration, and the documentation's table.

use super::setting::{DefaultValue, Setting, Value};
use super::values::{Effective, Layers, Origin, Values};
use std::fmt::Write as _;
use std::path::Path;

/// Width of the template's comments.
const COMMENT_COLUMNS: usize = 100;

/// The file that `starling init` writes: every setting with what it does and its default, commented out. What was given as a
/// flag stands there as a value, and so does an instance other than 0, so that the directory's ports are right however it
/// is named.
#[must_use]
pub fn template(given: &Values) -> String {
    let mut text = String::from(
        "# Configuration of a Starling node. Every setting stands here with its default, commented out. Flags of\n\
         # `starling run` go before environment variables, and those before this file. Relative paths are taken from\n\
         # this directory. `starling config check` finds mistakes, `starling config show --origin` says what holds.\n",
    );
    let instance = given.count("instance");
    let defaults = defaults(u16::try_from(instance).unwrap_or(u16::MAX));
    for entry in defaults.all().iter().filter(|entry| entry.setting.in_file) {
        let setting = entry.setting;
        start_section(&mut text, setting);
        text.push('\n');
        for line in wrap(setting.help, COMMENT_COLUMNS - 2) {
            let _infallible = writeln!(text, "# {line}");
        }
        let value = match (&setting.default, &entry.value) {
            (DefaultValue::Is(written), Some(Value::Path(_))) => Value::Path(written.into()).to_toml(),
            (_, Some(value)) => value.to_toml(),
            (DefaultValue::Unset { example, .. }, None) => {
                setting.kind.parse_text(example).map_or_else(|_| String::new(), |value| value.to_toml())
            }
            (_, None) => String::new(),
        };
        match setting.default {
            DefaultValue::Unset { means, .. } => {
                let _infallible = writeln!(text, "# Unset by default: {means}. For example:");
            }
            DefaultValue::Derived(how, _) => {
                let _infallible = writeln!(text, "# By default {how}.");
            }
            _ => {}
        }
        let kept = given.get(setting.key);
        let is_kept = match setting.key {
            // The data directory has its own copy.
            "genesis" => false,
            "instance" => instance != 0,
            _ => kept.origin == Origin::Flag,
        };
        let _infallible = match &kept.value {
            Some(value) if is_kept => writeln!(text, "{} = {}", setting.name(), value.to_toml()),
            _ => writeln!(text, "#{} = {value}", setting.name()),
        };
    }
    text
}

/// The effective configuration as a file that has the same effect; with `origin`, each value says where it came from.
/// What cannot stand in a file, or would say nothing there, is a comment.
#[must_use]
pub fn show(entries: &[&Effective], origin: bool) -> String {
    let mut text = String::new();
    for entry in entries {
        let setting = entry.setting;
        start_section(&mut text, setting);
        let says_nothing = setting
            .needs
            .is_some_and(|needed| entries.iter().any(|other| other.setting.key == needed && other.value.is_none()));
        let line = match &entry.value {
            Some(value) if setting.in_file && !says_nothing => format!("{} = {}", setting.name(), value.to_toml()),
            Some(value) => format!("# {} = {}", setting.name(), value.to_toml()),
            None => match setting.default {
                DefaultValue::Unset { means, .. } => format!("# {} is unset: {means}", setting.name()),
                _ => format!("# {} is unset", setting.name()),
            },
        };
        let _infallible = match origin {
            true => writeln!(text, "{line}  # {}", entry.origin_text()),
            false => writeln!(text, "{line}"),
        };
    }
    text
}

/// The help text of a setting's flag.
#[must_use]
pub fn help(setting: &Setting) -> String {
    let written = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let default = match setting.default {
        DefaultValue::Unset { means, .. } => means.to_owned(),
        DefaultValue::Derived(how, _) => how.to_owned(),
        DefaultValue::Is(text) => written(text.to_owned()),
        DefaultValue::PerInstance(text) => written(text(0)),
    };
    format!("{} [default: {default}]", setting.help)
}

/// The documentation's table: key, flag, variable, default and meaning of every setting.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| key | flag | variable | default | meaning |\n|---|---|---|---|---|\n");
    let defaults = defaults(0);
    for entry in defaults.all() {
        let setting = entry.setting;
        let key = if setting.in_file { format!("`{}`", setting.key) } else { String::new() };
        let default = match (&setting.default, &entry.value) {
            (DefaultValue::Unset { means, .. }, _) => (*means).to_owned(),
            (DefaultValue::Derived(how, _), _) => (*how).to_owned(),
            (DefaultValue::Is(written), Some(Value::Path(_))) => format!("`{written}`"),
            (_, Some(Value::List(texts))) if texts.is_empty() => "none".to_owned(),
            (_, Some(Value::List(texts))) => format!("`{}`", texts.join(",")),
            (_, Some(Value::Text(text))) => format!("`{text}`"),
            (_, value) => value.as_ref().map_or_else(String::new, |value| value.to_toml().replace('"', "")),
        };
        let help = setting.help.replace('|', "\\|");
        let _infallible =
            writeln!(text, "| {key} | `--{}` | `{}` | {default} | {help} |", setting.flag, setting.variable());
    }
    text
}

/// What holds when nobody says anything, with paths as they are written.
fn defaults(instance: u16) -> Values {
    let flags = vec![(super::table::setting("instance"), instance.to_string())];
    Layers { flags, variables: Vec::new() }.resolve_over(&super::file::FileLayer::default(), Path::new("/")).0
}

fn start_section(text: &mut String, setting: &Setting) {
    let section = setting.section();
    let heading = format!("[{section}]");
    if !section.is_empty() && !text.lines().any(|line| line == heading) {
        let blank = if text.is_empty() { "" } else { "\n" };
        let _infallible = writeln!(text, "{blank}{heading}");
    }
}

/// Lines of whole words, none wider than `columns` unless one word is.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always a line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= columns {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Whether a value is not the default: somebody gave it, and it says something else.
#[must_use]
pub fn differs(entry: &Effective, defaults: &Values) -> bool {
    entry.origin != Origin::Default && defaults.get(entry.setting.key).value != entry.value
}
