//! `starling db`: a stopped node's database.

use super::{Failure, output, settings};
use crate::config::{self, parse_bytes};
use crate::files;
use crate::storage::{DataDir, DataDirError, Keep, Retention, Store, StoreError, TransferError, Transferred};
use clap::{Args, Subcommand};
use serde::Serialize;
use starling_protocol::genesis::Genesis;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum DbCommand {
    /// Verify a stopped node's database.
    #[command(after_help = "\
Examples:
  starling db check
  starling db check --full --datadir /srv/starling
  starling db check --json | jq .problems

Exit code 1 if something is wrong; what, and what to do, is printed.")]
    Check {
        #[command(flatten)]
        place: Place,
        /// Verify signatures and nonces too; takes some 50 µs for each transaction.
        #[arg(long)]
        full: bool,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Write the chain to a file.
    #[command(after_help = "\
Examples:
  starling db export chain.starling
  starling db export - | zstd > chain.starling.zst")]
    Export {
        /// Where to; `-` is standard output. An existing file is not overwritten.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Read a chain from a file; every block is verified.
    #[command(after_help = "\
Examples:
  starling db import chain.starling
  zstd -dc chain.starling.zst | starling db import -

What is there already is passed over: an import that was interrupted is simply begun again.")]
    Import {
        /// Where from; `-` is standard input.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Forget the oldest blocks.
    #[command(after_help = "\
Examples:
  starling db prune --keep-blocks 100000
  starling db prune --keep-bytes 20GiB --compact

What is bounded in bytes is what the blocks take in the database. The file keeps the free pages for \
later blocks, unless --compact returns them, which takes about as long as copying it.
To have a node prune while it runs, set storage.keep_blocks (--keep-blocks) or storage.keep_bytes \
(--keep-bytes) for it.")]
    #[command(group = clap::ArgGroup::new("keep").required(true).multiple(true))]
    Prune {
        /// How many of the last blocks to keep.
        #[arg(long, value_name = "N", group = "keep")]
        keep_blocks: Option<u64>,
        /// How much the blocks may take on the disk.
        #[arg(long, value_name = "SIZE", group = "keep", value_parser = parse_bytes)]
        keep_bytes: Option<u64>,
        /// Return what is unused to the file system afterwards.
        #[arg(long)]
        compact: bool,
        #[command(flatten)]
        place: Place,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
}

/// Whose database.
#[derive(Debug, Args)]
pub(super) struct Place {
    #[command(flatten)]
    place: settings::PlaceFlags,
    /// The network's genesis. Default: genesis.toml in the data directory.
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
}

#[derive(Serialize)]
struct PruneReport {
    blocks_removed: usize,
    earliest: u64,
    height: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_bytes: Option<u64>,
    file_bytes_before: u64,
    file_bytes: u64,
}

impl DbCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Check { place, full, json } => check(&place, full, json),
            Self::Export { file, place } => export(&place, &file),
            Self::Import { file, place, json } => import(&place, &file, json),
            Self::Prune { keep_blocks, keep_bytes, compact, place, json } => {
                prune(&place, (keep_blocks, keep_bytes), compact, json)
            }
        }
    }
}

/// A database that nobody else uses for as long as this lives.
struct Opened {
    store: Store,
    genesis: Genesis,
    _datadir: DataDir,
}

impl Place {
    fn open(&self, make: bool) -> Result<Opened, Failure> {
        let path = self.place.datadir()?;
        let datadir = DataDir::open(&path).map_err(|error| match error {
            DataDirError::Missing(_) => Failure::usage(error),
            other => Failure::runtime(other),
        })?;
        let genesis = self.genesis.clone().unwrap_or_else(|| DataDir::genesis_file(&path));
        let genesis = read_genesis(&genesis)?;
        let file = DataDir::store_file(&path);
        if !make && !file.exists() {
            return Err(Failure::Usage(format!(
                "there is no database {}; a node makes it when it is first run",
                file.display()
            )));
        }
        let store = Store::open(&file, genesis.network_id()).map_err(|error| match error {
            StoreError::OtherNetwork { .. } | StoreError::OtherSchema { .. } => Failure::usage(error),
            other => Failure::runtime(other),
        })?;
        Ok(Opened { store, genesis, _datadir: datadir })
    }
}

fn read_genesis(path: &Path) -> Result<Genesis, Failure> {
    config::read_genesis(path).map_err(Failure::usage)
}

fn check(place: &Place, full: bool, json: bool) -> Result<ExitCode, Failure> {
    let Opened { mut store, genesis, .. } = place.open(false)?;
    let report = store.check(&genesis, full).map_err(Failure::runtime)?;
    output::print_as(json, &report, || {
        let head = report.head.map_or_else(|| "none".to_owned(), |head| head.to_string());
        let signed = report.signed_slot.map_or_else(|| "none".to_owned(), |slot| slot.to_string());
        output::fields(&[
            ("height", report.height.to_string()),
            ("head", head),
            ("blocks", format!("{} from height {}", report.canonical_blocks, report.earliest)),
            ("side branches", format!("{} blocks", report.side_blocks)),
            ("transactions", report.transactions.to_string()),
            ("pending", report.pending.to_string()),
            ("pool", report.pool.to_string()),
            ("signed up to slot", signed),
            ("file", format!("{} bytes", report.file_bytes)),
            ("verified", if full { "everything" } else { "all but signatures and nonces (--full)" }.to_owned()),
            ("result", if report.problems.is_empty() { "good" } else { "damaged" }.to_owned()),
        ])
    })?;
    if report.problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let path = store.path().display();
    Err(Failure::Runtime(format!(
        "{path} is damaged:\n  {}\nMove the file away: the node makes a new one and fetches the chain again. Transactions \
         that were submitted here and are not included are in it; submit them again",
        report.problems.join("\n  ")
    )))
}

fn export(place: &Place, file: &Path) -> Result<ExitCode, Failure> {
    let Opened { store, .. } = place.open(false)?;
    let done = if file == Path::new("-") {
        store.export(std::io::stdout().lock()).map_err(|error| about("standard output", &error))?
    } else {
        let unfinished = Unfinished::create(file)?;
        let done = store.export(BufWriter::with_capacity(1 << 20, &unfinished.file));
        let done = done.map_err(|error| about(file.display(), &error))?;
        unfinished.finish()?;
        done
    };
    // Standard output may carry the export itself.
    eprintln!("exported {} blocks, heights {} to {}", done.blocks, done.first, done.last);
    Ok(ExitCode::SUCCESS)
}

/// A file that gets its name when it is complete and on the disk; whatever ends the process before leaves nothing that could
/// be taken for an export. Dropped before that, it is removed.
struct Unfinished<'p> {
    file: File,
    path: PathBuf,
    name: &'p Path,
}

impl<'p> Unfinished<'p> {
    fn create(name: &'p Path) -> Result<Self, Failure> {
        let unwritable = |error: &dyn std::fmt::Display| {
            Failure::Usage(format!("cannot make {}: {error}; name another file", name.display()))
        };
        if name.exists() {
            return Err(unwritable(&"it exists, and is not overwritten"));
        }
        let path = files::with_suffix(name, ".unfinished");
        let file = files::begin(&path, 0o666).map_err(|error| unwritable(&error))?;
        Ok(Self { file, path, name })
    }

    fn finish(self) -> Result<(), Failure> {
        let named = self.file.sync_all().and_then(|()| std::fs::rename(&self.path, self.name));
        named.and_then(|()| files::sync_parent(self.name)).map_err(|error| {
            Failure::Runtime(format!(
                "cannot write {}: {error}; make room, or name a file on another disk",
                self.name.display()
            ))
        })
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // Not there any more if it was finished.
        let _renamed = std::fs::remove_file(&self.path);
    }
}

/// What went wrong with a file of an export; a wrong file has code 2, trouble with the disk or damage code 1.
fn about(file: impl std::fmt::Display, error: &TransferError) -> Failure {
    match error {
        TransferError::Store(error) => Failure::runtime(error),
        TransferError::Foreign | TransferError::Version(_) | TransferError::OtherNetwork { .. } => {
            Failure::Usage(format!("{file}: {error}"))
        }
        other => Failure::Runtime(format!("{file}: {other}")),
    }
}

fn import(place: &Place, file: &Path, json: bool) -> Result<ExitCode, Failure> {
    let Opened { store, genesis, .. } = place.open(true)?;
    let imported = if file == Path::new("-") {
        let imported = store.import(&genesis, BufReader::new(std::io::stdin().lock()));
        imported.map_err(|error| about("standard input", &error))
    } else {
        let unreadable = |error| Failure::Usage(format!("cannot read {}: {error}; name an export", file.display()));
        let reader = BufReader::with_capacity(1 << 20, crate::bounded::open(file).map_err(unreadable)?);
        store.import(&genesis, reader).map_err(|error| about(file.display(), &error))
    };
    let Transferred { blocks, new, first, last } = imported?;
    output::print_as(json, &Transferred { blocks, new, first, last }, || {
        format!("read {blocks} blocks, heights {first} to {last}; {new} were new")
    })
}

fn prune(
    place: &Place,
    (blocks, bytes): (Option<u64>, Option<u64>),
    compact: bool,
    json: bool,
) -> Result<ExitCode, Failure> {
    let Opened { mut store, genesis, .. } = place.open(false)?;
    let min = Retention::min(&genesis);
    if blocks == Some(0) {
        return Err(Failure::Usage(format!("--keep-blocks 0 keeps all: nothing to prune; keep {min} or more")));
    }
    let keep = Keep { blocks: blocks.unwrap_or(0), bytes };
    let retention = Retention::new(&genesis, keep).map_err(Failure::usage)?;
    let file_bytes_before = store.file_bytes();
    let mut blocks_removed = 0;
    let kept_bytes = loop {
        let pruned = store.apply_and_prune([], retention.as_ref()).map_err(Failure::runtime)?;
        blocks_removed += pruned.blocks;
        if !pruned.more {
            break pruned.kept_bytes;
        }
    };
    while compact && store.compact().map_err(Failure::runtime)? {}
    let height = store.head().map_err(Failure::runtime)?.map_or(0, |head| head.height);
    let earliest = store.earliest().map_err(Failure::runtime)?.unwrap_or(0);
    let file_bytes = store.file_bytes();
    let report = PruneReport { blocks_removed, earliest, height, kept_bytes, file_bytes_before, file_bytes };
    output::print_as(json, &report, || {
        let taken = kept_bytes.map_or_else(String::new, |bytes| format!(" and take {bytes} bytes"));
        let too_much = bytes.zip(kept_bytes).filter(|(bytes, kept)| kept > bytes);
        let why = too_much.map_or_else(String::new, |_| format!("; a node needs the last {min} blocks to start again"));
        format!(
            "removed {blocks_removed} blocks; heights {earliest} to {height} are kept{taken}{why}; the file has {file_bytes} \
             bytes, and had {file_bytes_before}"
        )
    })
}
