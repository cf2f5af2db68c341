//! Flags of the command line that are made from the table of settings, and the environment under them.

use super::Failure;
use crate::config::table::SETTINGS;
use crate::config::{ConfigError, Kind, Layers, Setting, Values};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, ValueHint};
use std::marker::PhantomData;
use std::path::PathBuf;

/// A flag for every setting.
pub(super) type SettingFlags = Flags<All>;

/// A flag for every setting that can stand in the file, and for the data directory.
pub(super) type FileFlags = Flags<Kept>;

/// `--datadir` and `--instance` alone: which node's data directory is meant.
pub(super) type PlaceFlags = Flags<Place>;

/// Which settings have flags.
pub(super) trait Selection {
    /// Whether this one has.
    fn has(setting: &Setting) -> bool;
}

/// See [`SettingFlags`].
#[derive(Clone, Debug)]
pub(super) enum All {}

impl Selection for All {
    fn has(_setting: &Setting) -> bool {
        true
    }
}

/// See [`FileFlags`].
#[derive(Clone, Debug)]
pub(super) enum Kept {}

impl Selection for Kept {
    fn has(setting: &Setting) -> bool {
        setting.in_file || setting.key == "datadir"
    }
}

/// See [`PlaceFlags`].
#[derive(Clone, Debug)]
pub(super) enum Place {}

impl Selection for Place {
    fn has(setting: &Setting) -> bool {
        ["datadir", "instance"].contains(&setting.key)
    }
}

/// The flags that were given, of those that a command has.
#[derive(Clone, Debug)]
pub(super) struct Flags<S> {
    given: Vec<(&'static Setting, String)>,
    selection: PhantomData<S>,
}

impl<S: Selection> Flags<S> {
    fn settings() -> impl Iterator<Item = &'static Setting> {
        SETTINGS.iter().filter(|setting| S::has(setting))
    }

    /// These flags over the environment.
    pub(super) fn layers(&self) -> Layers {
        Layers::with_environment(self.given.clone())
    }

    /// The effective values, with the file of the data directory.
    pub(super) fn resolve(&self) -> Result<Values, Failure> {
        let (values, problems) = self.layers().resolve(crate::storage::default_path()).map_err(Failure::usage)?;
        if problems.is_empty() { Ok(values) } else { Err(Failure::usage(ConfigError::Settings(problems))) }
    }
}

impl PlaceFlags {
    /// The data directory of the one node that is meant: the one that is named, whatever the instance. No file is read, so that it can be asked for before there is one.
    pub(super) fn datadir(&self) -> Result<PathBuf, Failure> {
        let layers = self.layers();
        let keys: Vec<&str> = Self::settings().map(|setting| setting.key).collect();
        let problems = layers.check(&keys);
        if !problems.is_empty() {
            return Err(Failure::usage(ConfigError::Settings(problems)));
        }
        layers.datadir(crate::storage::default_path()).map_err(Failure::usage)
    }
}

impl<S: Selection> clap::Args for Flags<S> {
    fn augment_args(command: Command) -> Command {
        Self::settings().fold(command, |command, setting| command.arg(argument(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Selection> FromArgMatches for Flags<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = Self::settings().filter_map(|setting| given(setting, matches)).collect();
        Ok(Self { given, selection: PhantomData })
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
    // The genesis is the file by which a network is handed on.
    let argument = if setting.key == "genesis" { argument.visible_alias("network") } else { argument };
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
        "storage" => Some("Storage"),
        section => Some(section),
    }
}
