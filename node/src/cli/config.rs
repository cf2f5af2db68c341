//! `starling config`: what a node would run with, and what is wrong with it.

use super::settings::{PlaceFlags, SettingFlags};
use super::{Failure, output};
use crate::config::{ConfigError, Effective, FileLayer, Layers, Values, differs, preflight, show};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Show the effective value of every setting, as a file with the same effect.
    #[command(after_help = "\
Examples:
  starling config show
  starling config show --origin                      # where each value comes from
  starling config show --target-peers 9 --json       # what `starling run --target-peers 9` would use

Keys are shown as the paths of their files, never themselves.")]
    Show {
        #[command(flatten)]
        settings: SettingFlags,
        /// Say where each value comes from: a flag, a variable, the file with its line, or the default.
        #[arg(long)]
        origin: bool,
        /// Print JSON instead of TOML; always with the origins.
        #[arg(long)]
        json: bool,
    },
    /// Find everything that is wrong with a configuration file and what it refers to.
    #[command(after_help = "\
Examples:
  starling config check
  starling config check config.toml

Exit code 0 if `starling run` would accept it, else 2 with all problems.")]
    Check(CheckArgs),
    /// Show what differs from the defaults.
    #[command(after_help = "\
Examples:
  starling config diff
  starling config diff --instance 2 --json")]
    Diff {
        #[command(flatten)]
        settings: SettingFlags,
        /// Print JSON instead of TOML.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The file, taken as the config.toml of its directory. Default: config.toml of the data directory, with the
    /// environment over it.
    #[arg(value_name = "FILE", conflicts_with_all = ["datadir", "instance"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceFlags,
}

impl ConfigCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Show { settings, origin, json } => {
                let values = settings.resolve()?;
                let all: Vec<&Effective> = values.all().iter().collect();
                output::print_as(json, &as_json(&all), || show(&all, origin))
            }
            Self::Check(args) => args.run(),
            Self::Diff { settings, json } => {
                let values = settings.resolve()?;
                let datadir = values.path("datadir");
                let (defaults, _) = Layers::default().resolve_over(&FileLayer::default(), datadir);
                let changed: Vec<&Effective> = values.all().iter().filter(|entry| differs(entry, &defaults)).collect();
                output::print_as(json, &as_json(&changed), || show(&changed, true))
            }
        }
    }
}

impl CheckArgs {
    fn run(self) -> Result<ExitCode, Failure> {
        let (values, problems) = match &self.file {
            None => self.place.layers().resolve(crate::storage::default_path()).map_err(Failure::usage)?,
            Some(path) => check_file(path)?,
        };
        let mut messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
        // A genesis that is only the default may come later, with `starling init`.
        let may_come = self.file.is_some() && !values.is_given("genesis");
        let found = preflight(&values);
        let wrong = found.iter().filter(|error| !(may_come && matches!(error, ConfigError::NoGenesis(_))));
        messages.extend(wrong.map(ToString::to_string));
        match messages.is_empty() {
            true => output::print("nothing is wrong with the configuration"),
            false => Err(Failure::configuration(&messages)),
        }
    }
}

/// The file alone, without flags and variables, as it stands in its directory.
fn check_file(path: &Path) -> Result<(Values, Vec<crate::config::Problem>), Failure> {
    if !path.exists() {
        return Err(Failure::Usage(format!(
            "there is no configuration file {}; `starling init` makes one in the data directory",
            path.display()
        )));
    }
    let file = FileLayer::read(path).map_err(Failure::usage)?;
    Ok(Layers::default().resolve_over(&file, path.parent().unwrap_or(Path::new(""))))
}

fn as_json(entries: &[&Effective]) -> serde_json::Value {
    let one = |entry: &&Effective| {
        json!({
            "key": entry.setting.key,
            "flag": format!("--{}", entry.setting.flag),
            "variable": entry.setting.variable(),
            "value": entry.value.as_ref().map(crate::config::Value::to_json),
            "origin": entry.origin_text(),
        })
    };
    entries.iter().map(one).collect()
}
