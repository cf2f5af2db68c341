//! `starling key`.

use super::{Failure, output};
use crate::keyfile::{self, KeyFileError};
use clap::Subcommand;
use serde::Serialize;
use starling_crypto::SecretKey;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a new secret key in a new file.
    #[command(after_help = "\
Examples:
  starling key new account.pem
  starling key new producer.pem --json
  openssl pkey -in account.pem -noout -text    # the file is PKCS#8 PEM")]
    New {
        /// Where to write it; an existing file is not overwritten.
        file: PathBuf,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Show what belongs to a secret key: its public key and peer id.
    #[command(after_help = "\
Examples:
  starling key show account.pem
  starling key show node.pem --json")]
    Show {
        /// The key file.
        file: PathBuf,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Shown {
    file: PathBuf,
    public_key: String,
    peer_id: String,
}

impl KeyCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::New { file, json } => {
                let key = keyfile::generate().map_err(Failure::runtime)?;
                keyfile::create(&file, &key).map_err(|error| match error {
                    KeyFileError::Exists(_) => Failure::usage(error),
                    other => Failure::runtime(other),
                })?;
                show(file, &key, json)
            }
            Self::Show { file, json } => {
                let key = keyfile::read(&file).map_err(Failure::usage)?;
                show(file, &key, json)
            }
        }
    }
}

fn show(file: PathBuf, key: &SecretKey, json: bool) -> Result<ExitCode, Failure> {
    let peer_id = keyfile::libp2p_keypair(key).public().to_peer_id().to_base58();
    let shown = Shown { file, public_key: key.public_key().to_string(), peer_id };
    output::print_as(json, &shown, || {
        output::fields(&[
            ("file", shown.file.display().to_string()),
            ("public key", shown.public_key.clone()),
            ("peer id", shown.peer_id.clone()),
        ])
    })
}
