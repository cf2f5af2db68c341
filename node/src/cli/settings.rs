//! Flags of the command line that are made from the table of settings, and the environment under them.

use super::Failure;
use crate::config::table::SETTINGS;
use crate::config::{ConfigError, Kind, Layers, Setting, Values};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, ValueHint};
use std::path::PathBuf;

/// A flag for every setting.
#[derive(Clone, Debug, Default)]
pub(super) struct SettingFlags {
    given: Vec<(&'static Setting, String)>,
}

impl SettingFlags {
    /// These flags over the environment.
    pub(super) fn layers(self) -> Layers {
        Layers::with_environment(self.given)
    }

    /// The effective values.
    pub(super) fn resolve(self) -> Result<Values, Failure> {
        let (values, problems) = self.layers().resolve(crate::storage::default_path()).map_err(Failure::usage)?;
        if problems.is_empty() { Ok(values) } else { Err(Failure::usage(ConfigError::Settings(problems))) }
    }
}

impl clap::Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().fold(command, |command, setting| command.arg(argument(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { given: SETTINGS.iter().filter_map(|setting| given(setting, matches)).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// `--datadir` and `--instance` alone: which node's data directory is meant.
#[derive(Clone, Debug, Default)]
pub(super) struct PlaceFlags {
    given: Vec<(&'static Setting, String)>,
}

/// The keys of [`PlaceFlags`].
const PLACE: [&str; 2] = ["datadir", "instance"];

impl PlaceFlags {
    /// The data directory. No file is read, so that it can be asked for before there is one.
    pub(super) fn datadir(&self) -> Result<PathBuf, Failure> {
        let layers = self.layers();
        let problems = layers.check(&PLACE);
        if !problems.is_empty() {
            return Err(Failure::usage(ConfigError::Settings(problems)));
        }
        layers.datadir(crate::storage::default_path()).map_err(Failure::usage)
    }

    /// The instance that flags and variables name, 0 unless they do.
    pub(super) fn instance(&self) -> u16 {
        self.layers().instance()
    }

    /// These flags over the environment.
    pub(super) fn layers(&self) -> Layers {
        Layers::with_environment(self.given.clone())
    }
}

impl clap::Args for PlaceFlags {
    fn augment_args(command: Command) -> Command {
        PLACE.iter().fold(command, |command, key| command.arg(argument(crate::config::table::setting(key))))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for PlaceFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let settings = PLACE.iter().map(|key| crate::config::table::setting(key));
        Ok(Self { given: settings.filter_map(|setting| given(setting, matches)).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The text that a flag was given; the values of a list are joined as they would be in one flag.
fn given(setting: &'static Setting, matches: &ArgMatches) -> Option<(&'static Setting, String)> {
    let values = matches.get_many::<String>(setting.flag)?;
    Some((setting, values.map(String::as_str).collect::<Vec<_>>().join(",")))
}

/// A setting as a flag. Values are checked later, with those of the other layers and in the same words, but for words to
/// choose from, which a shell can complete.
fn argument(setting: &'static Setting) -> Arg {
    let argument = Arg::new(setting.flag)
        .long(setting.flag)
        .value_name(setting.value_name)
        .help(crate::config::help(setting))
        .allow_negative_numbers(true)
        .help_heading(heading(setting));
    match setting.kind {
        Kind::Bool => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Kind::Path if setting.value_name == "DIR" => argument.value_hint(ValueHint::DirPath),
        Kind::Path => argument.value_hint(ValueHint::FilePath),
        Kind::Choice(words) => argument.value_parser(PossibleValuesParser::new(words)),
        Kind::List(_) => argument.action(ArgAction::Append),
        _ => argument,
    }
}

/// What stands above the flags of a section; what has none stands with the general options.
fn heading(setting: &Setting) -> Option<&'static str> {
    match setting.section() {
        "" => None,
        "network" => Some("Network"),
        "keys" => Some("Keys"),
        "rpc" => Some("RPC"),
        "runtime" => Some("Threads"),
        "log" => Some("Logs"),
        section => Some(section),
    }
}
