//! The command line of `starling`.
//!
//! # Conventions
//! - Standard output carries what was asked for, and nothing else: with `--json` one JSON document, else text for people.
//!   Logs and errors go to standard error.
//! - Exit codes: 0, done; 1, it failed while running; 2, the command, a file or a setting is wrong, and nothing was done.
//! - An error is one paragraph: what was wrong, and what would be right.
//! - Colours only on a terminal, and not when `NO_COLOR` is set.
//!
//! [`main_with_args`] is the whole program as a function, so that another executable can run it under its own name: the
//! testnet tool starts its nodes by executing itself.

mod ask;
mod bans;
mod block;
mod config;
mod db;
mod doctor;
mod genesis;
mod health;
mod init;
mod key;
mod mempool;
mod output;
mod pages;
mod peers;
mod run;
mod settings;
mod status;
mod stop;
mod tx;
mod watch;

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs `starling` with these arguments; the first is the program's name, as usual.
#[must_use]
pub fn main_with_args(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version are "errors" to clap, with code 0. That nobody reads what is printed is no error.
            let _closed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command.run() {
        Ok(code) => code,
        Err(failure) => {
            output::error(failure.message());
            failure.code()
        }
    }
}

/// A node of a Starling network: spreads signed transactions and blocks.
#[derive(Debug, Parser)]
#[command(
    name = "starling",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "\
Examples:
  starling key new producer.pem
  starling genesis new --name local --producer-key producer.pem --out genesis.toml
  starling init --genesis genesis.toml
  starling run --producer-key producer.pem
  starling tx send hello --wait
  starling status
  starling doctor    # when something seems wrong

Exit codes: 0 done, 1 failed while running, 2 wrong usage or configuration."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make or check the file that defines a network.
    #[command(subcommand)]
    Genesis(genesis::GenesisCommand),
    /// Make a data directory: keys, configuration and the network's genesis.
    Init(init::InitArgs),
    /// Show or check the settings a node would run with.
    #[command(subcommand)]
    Config(Box<config::ConfigCommand>),
    /// Run a node until it is stopped (Ctrl-C).
    Run(Box<run::RunArgs>),
    /// Check, export, import or prune a stopped node's database.
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Make or show a secret key.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Send a transaction, look one up, or follow it.
    #[command(subcommand)]
    Tx(tx::TxCommand),
    /// Look up a block, or follow the chain.
    #[command(subcommand)]
    Block(block::BlockCommand),
    /// List the transactions that wait for a block.
    #[command(subcommand)]
    Mempool(mempool::MempoolCommand),
    /// List the peers of a running node, with their scores.
    Peers(peers::PeersArgs),
    /// Show how a running node is doing.
    Status(status::StatusArgs),
    /// Say by the exit code whether a node lives, or is ready.
    Health(health::HealthArgs),
    /// Find what is wrong with a node, its files or its host, and say how to mend it.
    Doctor(doctor::DoctorArgs),
    /// Print a script with which a shell completes commands and flags.
    Completions(pages::CompletionsArgs),
    /// Print the manual page, or write one for each command.
    Man(pages::ManArgs),
}

impl Command {
    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Genesis(command) => command.run(),
            Self::Init(args) => args.run(),
            Self::Config(command) => command.run(),
            Self::Run(args) => args.run(),
            Self::Db(command) => command.run(),
            Self::Key(command) => command.run(),
            Self::Tx(command) => command.run(),
            Self::Block(command) => command.run(),
            Self::Mempool(command) => command.run(),
            Self::Peers(args) => args.run(),
            Self::Status(args) => args.run(),
            Self::Health(args) => args.run(),
            Self::Doctor(args) => args.run(),
            Self::Completions(args) => args.run(),
            Self::Man(args) => args.run(),
        }
    }
}

/// Which running node to ask, and how to print the answer.
#[derive(Debug, Args)]
struct NodeArgs {
    /// The node's RPC, as HOST:PORT. Default: where the node of the data directory listens.
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["datadir", "instance"])]
    rpc: Option<String>,
    #[command(flatten)]
    place: settings::PlaceFlags,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Why a command did not do what it was told.
#[derive(Debug)]
enum Failure {
    /// The command, a file or a setting is wrong.
    Usage(String),
    /// It went wrong while running.
    Runtime(String),
}

impl Failure {
    fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    /// Everything that is wrong with a configuration, at least one thing.
    fn configuration(problems: &[String]) -> Self {
        Self::Usage(match problems {
            [one] => one.clone(),
            several => format!("{} problems:\n  {}", several.len(), several.join("\n  ")),
        })
    }

    fn runtime(error: impl std::fmt::Display) -> Self {
        Self::Runtime(error.to_string())
    }

    fn message(&self) -> &str {
        match self {
            Self::Usage(message) | Self::Runtime(message) => message,
        }
    }

    fn code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Runtime(_) => ExitCode::FAILURE,
        }
    }
}

/// An async runtime for commands that only call a node.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::runtime)?.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command) {
            let leaves: Vec<_> = command.get_subcommands().filter(|sub| sub.get_name() != "help").collect();
            if leaves.is_empty() || !command.is_subcommand_required_set() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:\n"), "`{}` has no examples", command.get_name());
                let called = help.lines().any(|line| line.contains("starling ") && line.contains(command.get_name()));
                assert!(called, "no example of `{}` calls it", command.get_name());
            }
            leaves.into_iter().for_each(check);
        }
        check(&Cli::command());
    }
}
