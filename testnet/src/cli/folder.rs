//! Folders of simulations: what it takes to do one again is in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::sim::Bar;
use super::{BAD, GOOD, USAGE, failed};
use crate::input::{LINKS_BYTES_MAX, TEXT_BYTES_MAX, text};
use crate::manifest::{Manifest, ManifestError, Topology};
use crate::sim::memory::fits;
use crate::sim::run::{Simulated, simulate};
use crate::{host, report};

/// The manifest of a simulation, with all its keys.
const SCENARIO: &str = "scenario.toml";
/// What the summary of a simulation calls it.
const SIMULATION: &str = "simulation";
/// What the summary of a run of processes calls it.
const PROCESSES: &str = "processes";
const PROFILE: &str = "profile.toml";
const LINKS: &str = "links.txt";

pub(super) const EXAMPLES: &str = "Examples:
  starling-testnet reproduce testnet-runs/before

Exit codes: 0 the same happened, with every seed; 1 something else did; 2 usage, which includes a folder of processes \
and a broken summary.";

#[derive(Debug, Args)]
pub(super) struct Reproduce {
    /// A folder that `sim` has written, of one seed or of many
    dir: PathBuf,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("{} is not empty; give a new or empty folder with --out", .0.display())]
    NotEmpty(PathBuf),
    #[error("cannot write to {}: {problem}; give a new or empty folder with --out", path.display())]
    Out { path: PathBuf, problem: String },
    #[error("{} is no folder of a run: {problem}; give one that was written with --out, or one under testnet-runs", path.display())]
    NoRun { path: PathBuf, problem: String },
    #[error("{}: {problem}", path.display())]
    Refused { path: PathBuf, problem: String },
    #[error("cannot use {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not the summary of a simulation: {problem}", path.display())]
    Summary { path: PathBuf, problem: String },
    #[error("{problem}")]
    Kept { problem: String },
    #[error("--set {assignment} would do nothing here; use {option}")]
    Option { assignment: String, option: &'static str },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// The folder for results: the one that is named, or a new one for this time and purpose.
pub(super) fn out_folder(named: Option<&Path>, purpose: &str) -> PathBuf {
    named.map_or_else(
        || {
            let time = host::date_time().replace([':', '-'], "");
            PathBuf::from("testnet-runs").join(format!("{time}-{purpose}"))
        },
        Path::to_owned,
    )
}

/// Makes a folder, or finds it empty.
pub(super) fn make_empty(dir: &Path) -> Result<(), FolderError> {
    let failed = |problem: String| FolderError::Out { path: dir.to_owned(), problem };
    if dir.exists() && !dir.is_dir() {
        return Err(failed("it is a file".to_owned()));
    }
    fs::create_dir_all(dir).map_err(|error| failed(error.to_string()))?;
    match fs::read_dir(dir).map_err(|error| failed(error.to_string()))?.next() {
        None => Ok(()),
        Some(_) => Err(FolderError::NotEmpty(dir.to_owned())),
    }
}

/// Writes the report of a simulation into its folder.
pub(super) fn write(dir: &Path, simulated: &Simulated) -> Result<(), FolderError> {
    report::write(&simulated.run, dir).map_err(|source| FolderError::Io { path: dir.to_owned(), source })
}

/// Writes a manifest, and the files that it names, into a folder.
pub(crate) fn keep_scenario(dir: &Path, manifest: &Manifest, base: &Path) -> Result<(), FolderError> {
    let failed = |path: PathBuf| move |source| FolderError::Io { path, source };
    let mut own = manifest.clone();
    let keep = |name: &str, text: String| fs::write(dir.join(name), text).map_err(failed(dir.join(name)));
    if !matches!(&*own.links.profile, "wan" | "flat" | "loopback") {
        keep(PROFILE, manifest.profile_toml(base)?)?;
        own.links.profile = PROFILE.into();
    }
    if let Topology::File { path } = &mut own.topology {
        let given = base.join(&*path);
        keep(LINKS, text(&given, LINKS_BYTES_MAX).map_err(failed(given))?)?;
        *path = LINKS.into();
    }
    keep(SCENARIO, own.to_toml())
}

/// The manifest that a folder was made of.
fn manifest(dir: &Path) -> Result<Manifest, FolderError> {
    let path = dir.join(SCENARIO);
    let text = text(&path, TEXT_BYTES_MAX).map_err(|error| {
        let problem = format!("the manifest {SCENARIO} cannot be read there ({error}); `sim` writes one");
        FolderError::NoRun { path: dir.to_owned(), problem }
    })?;
    Manifest::parse(&text, &path.display().to_string()).map_err(|error| {
        let problem = format!("{error}\nit was written by another version of this tool, if nobody changed it");
        FolderError::Kept { problem }
    })
}

/// Of these runs one whose manifest differs from the first one's in more than the seed, if there is any. Those without a manifest are alike.
pub(super) fn unlike(runs: &[PathBuf]) -> Result<Option<&PathBuf>, FolderError> {
    let Some((first, others)) = runs.split_first() else { return Ok(None) };
    let unseeded = |run| Ok::<_, FolderError>(kept(run)?.map(|manifest| Manifest { seed: 0, ..manifest }));
    let first = unseeded(first)?;
    for other in others {
        if unseeded(other)? != first {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// The manifests of all runs in a folder, in the order of the runs' names; none for those that have none.
pub(super) fn manifests(dir: &Path) -> Result<Vec<Option<Manifest>>, FolderError> {
    runs(dir)?.iter().map(|run| kept(run)).collect()
}

fn kept(run: &Path) -> Result<Option<Manifest>, FolderError> {
    run.join(SCENARIO).is_file().then(|| manifest(run)).transpose()
}

/// The summary in a folder.
pub(super) fn summary(dir: &Path) -> Result<Value, FolderError> {
    let path = dir.join("summary.json");
    let text = fs::read_to_string(&path).map_err(|source| FolderError::Io { path: path.clone(), source })?;
    serde_json::from_str(&text).map_err(|error| FolderError::Summary { path, problem: error.to_string() })
}

/// The trace that a simulation's summary names.
fn trace_hash(summary: &Value, dir: &Path) -> Result<String, FolderError> {
    let problem = match summary.get("trace_hash") {
        Some(Value::String(trace)) => return Ok(trace.clone()),
        Some(other) => format!("its `trace_hash` must be a text, and not {other}"),
        None => "its `trace_hash` is missing".to_owned(),
    };
    Err(FolderError::Summary { path: dir.join("summary.json"), problem })
}

/// The kind of run that a summary is about: `simulation`, or one of processes.
pub(super) fn kind(summary: &Value) -> &str {
    summary.get("kind").and_then(Value::as_str).unwrap_or("run")
}

/// Whether a folder has the summary of a simulation.
pub(super) fn is_simulation(dir: &Path) -> bool {
    summary(dir).is_ok_and(|summary| kind(&summary) == SIMULATION)
}

/// The manifest and the summary of a simulation. A run of processes has a manifest too, but what happened there cannot be had again from it.
pub(super) fn simulation(dir: &Path) -> Result<(Manifest, Value), FolderError> {
    let summary = summary(dir)?;
    let problem = match summary.get("kind") {
        Some(Value::String(kind)) if kind == SIMULATION => return Ok((manifest(dir)?, summary)),
        Some(Value::String(kind)) if kind == PROCESSES => {
            let instead = if dir.join(SCENARIO).is_file() {
                "simulate its scenario.toml with `starling-testnet sim`"
            } else {
                "`starling-testnet sim quick` makes a run that can be had again"
            };
            format!("real processes ran there, which never do the same twice; {instead}")
        }
        Some(other) => format!(
            "its `kind` must be \"{SIMULATION}\", and not {other}; give a folder that `starling-testnet sim` has written"
        ),
        None => "its `kind` is missing".to_owned(),
    };
    Err(FolderError::Summary { path: dir.join("summary.json"), problem })
}

/// The folders of single runs in a folder: itself, or one for each seed.
pub(super) fn runs(dir: &Path) -> Result<Vec<PathBuf>, FolderError> {
    if dir.join("summary.json").is_file() {
        return Ok(vec![dir.to_owned()]);
    }
    let failed = |problem: String| FolderError::NoRun { path: dir.to_owned(), problem };
    let mut runs = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| failed(error.to_string()))? {
        let path = entry.map_err(|error| failed(error.to_string()))?.path();
        if path.join("summary.json").is_file() {
            runs.push(path);
        }
    }
    runs.sort();
    if runs.is_empty() {
        return Err(failed(what_else(dir).to_owned()));
    }
    Ok(runs)
}

/// What a folder is, if it is not of single runs.
fn what_else(dir: &Path) -> &'static str {
    let has = |name: &str| dir.join(name).is_file();
    if has("attacks.json") {
        "it is one of `attacks`, whose runs begin anew with another --out; `compare` says which of them were the same"
    } else if has("scaling.csv") {
        "it is one of `sim scaling`, of which the figures are kept and not the runs; `sim scale --nodes N` makes one of them again"
    } else if has("reality.json") {
        "it is one of `reality`; name the folder of one of its simulations, `simulated` in that of a manifest"
    } else {
        "there is no summary.json in it, nor in a folder inside"
    }
}

/// Simulates what is in a folder once more.
pub(super) fn reproduce(arguments: &Reproduce) -> u8 {
    match try_reproduce(&arguments.dir) {
        Ok(same) => {
            if same {
                GOOD
            } else {
                BAD
            }
        }
        Err(error) => failed(&error, USAGE),
    }
}

fn try_reproduce(dir: &Path) -> Result<bool, FolderError> {
    let mut same = true;
    let runs = runs(dir)?.into_iter().map(|run| {
        let (manifest, summary) = simulation(&run)?;
        Ok((manifest, trace_hash(&summary, &run)?, run))
    });
    // All are looked at before the first is simulated, which may take long.
    let runs = runs.collect::<Result<Vec<_>, FolderError>>()?;
    for (manifest, _, run) in &runs {
        fits(manifest, run, 1)?;
    }
    for (manifest, then, run) in runs {
        let bar = Bar::new();
        let again = simulate(&manifest, &run, false, |progress| bar.show(progress))?;
        bar.finish();
        let now = again.run.simulation.map_or_else(String::new, |simulation| simulation.trace_hash);
        if now == then {
            say!("{}: the same trace, {now}", run.display());
        } else {
            say!(
                "{}: another trace, {now} instead of {then}; it was made by another version of the tool or of the engine, or the folder \
                 was changed",
                run.display()
            );
            same = false;
        }
    }
    Ok(same)
}
