//! `starling completions` and `starling man`: from the same definitions as the command line itself, so that they cannot
//! differ from it.

use super::{Cli, Failure, output};
use crate::remedy;
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
                let mut command = Cli::command().disable_help_subcommand(true);
                command.build();
                output::print(&page(&clap_mangen::Man::new(command)).map_err(Failure::runtime)?.1)
            }
            Some(file) if file.exists() && !file.is_dir() => Err(Failure::Usage(format!(
                "cannot write the manual to {}: it is a file; name a directory with --out",
                file.display()
            ))),
            Some(directory) => {
                write_pages(directory).map_err(|error| {
                    Failure::Runtime(format!(
                        "cannot write the manual to {}: {error}; {}",
                        directory.display(),
                        remedy::of_io(&error)
                    ))
                })?;
                output::print(&format!("wrote the manual to {}", directory.display()))
            }
        }
    }
}

fn write_pages(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut left = vec![command];
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().cloned());
        let (name, text) = page(&clap_mangen::Man::new(command))?;
        std::fs::write(directory.join(name), text)?;
    }
    Ok(())
}

/// The file name and the text of a page. What stands below a command's help are its examples, to be shown line by line, and then paragraphs of a
/// line each, to be filled.
fn page(man: &clap_mangen::Man) -> std::io::Result<(String, String)> {
    let mut text = Vec::new();
    man.render(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let text = match text.split_once(".SH EXTRA\n") {
        None => text,
        Some((before, after)) => {
            let (examples, rest) = after.find(".SH ").map_or((after, ""), |next| after.split_at(next));
            let examples = examples.replacen("Examples:\n", "", 1);
            let (shown, prose) = examples.split_once("\n\n").unwrap_or((examples.trim_end(), ""));
            let paragraphs: String =
                prose.lines().filter(|line| !line.is_empty()).map(|line| format!(".PP\n{line}\n")).collect();
            format!("{before}.SH EXAMPLES\n.nf\n{shown}\n.fi\n{paragraphs}{rest}")
        }
    };
    Ok((man.get_filename(), text))
}
