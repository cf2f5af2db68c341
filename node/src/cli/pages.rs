//! `starling completions` and `starling man`: from the same definitions as the command line itself, so that they cannot
//! differ from it.

use super::{Cli, Failure, output};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  starling completions bash > ~/.local/share/bash-completion/completions/starling
  starling completions zsh > ~/.zfunc/_starling                # with fpath+=~/.zfunc before compinit in ~/.zshrc
  starling completions fish > ~/.config/fish/completions/starling.fish")]
pub(super) struct CompletionsArgs {
    /// Which shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  starling man | man -l -
  starling man --out ~/.local/share/man/man1      # then: man starling, man starling-run")]
pub(super) struct ManArgs {
    /// Write a page for each command into this directory, which is made if it does not exist, instead of printing the
    /// page of `starling`.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    out: Option<PathBuf>,
}

impl CompletionsArgs {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "starling", &mut script);
        output::print(&String::from_utf8_lossy(&script))
    }
}

impl ManArgs {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        match &self.out {
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Failure::runtime)?;
                output::print(&String::from_utf8_lossy(&page))
            }
            Some(directory) => {
                write_pages(directory).map_err(|error| {
                    Failure::Runtime(format!("cannot write the manual to {}: {error}", directory.display()))
                })?;
                output::print(&format!("wrote the manual to {}", directory.display()))
            }
        }
    }
}

fn write_pages(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)
}
