//! The command line of `starling-testnet`.
//!
//! Commands that simulate need nothing but this library; those that run real nodes come with the feature `cluster`
//! (`cluster` has them).

mod attacks;
mod compare;
mod explain;
pub(crate) mod folder;
mod scaling;
mod sim;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Exit code when everything is as it should be.
const GOOD: u8 = 0;
/// Exit code when something is missing, differs or has failed.
const BAD: u8 = 1;
/// Exit code when what was asked for cannot be.
const USAGE: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "starling-testnet",
    version,
    about = "Run networks of Starling nodes, real or simulated, and measure them",
    long_about = None,
    after_help = EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    Processes(crate::cluster::cli::Command),
    /// Simulate a network in virtual time, from a manifest or a preset
    #[command(after_long_help = sim::EXAMPLES)]
    Sim(Box<sim::Sim>),
    /// Attack simulated networks, and see that they hold
    #[command(after_long_help = attacks::EXAMPLES)]
    Attacks(attacks::Attacks),
    /// Simulate what is in a folder once more, and see whether the same happens
    #[command(after_long_help = folder::EXAMPLES)]
    Reproduce(folder::Reproduce),
    /// State how two runs differ, or two tables of attacks
    #[command(after_long_help = compare::EXAMPLES)]
    Compare(compare::Compare),
    /// Follow one message of a simulation, hop by hop
    #[command(after_long_help = explain::EXAMPLES)]
    Explain(explain::Explain),
}

#[cfg(feature = "cluster")]
const EXAMPLES: &str = "Examples:
  starling-testnet run                    16 real nodes on this host
  starling-testnet sim quick              64 simulated ones
  starling-testnet sim scale --nodes 10000
  starling-testnet sim --list
  starling-testnet attacks --quick        the table of attacks, scaled down

The help of each command has more.";
#[cfg(not(feature = "cluster"))]
const EXAMPLES: &str = "Examples:
  starling-testnet sim quick              64 simulated nodes
  starling-testnet sim scale --nodes 10000
  starling-testnet sim --list
  starling-testnet attacks --quick        the table of attacks, scaled down

The help of each command has more. This program was built without the commands
that run real nodes, such as `run` and `up`: leave out --no-default-features
for these.";

/// Runs the tool with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    #[cfg(feature = "cluster")]
    if let Some(code) = crate::cluster::cli::node().or_else(crate::cluster::cli::attack) {
        return code;
    }
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => error_of(error).exit(),
    };
    if matches!(command, Command::Sim(_) | Command::Attacks(_) | Command::Reproduce(_)) {
        // Not where nodes run as processes: their memory is measured, and they inherit the environment.
        crate::pages::keep();
    }
    ExitCode::from(match command {
        #[cfg(feature = "cluster")]
        Command::Processes(command) => crate::cluster::cli::execute(command),
        Command::Sim(sim) => sim::execute(&sim),
        Command::Attacks(arguments) => attacks::execute(&arguments),
        Command::Reproduce(reproduce) => folder::reproduce(&reproduce),
        Command::Compare(compare) => compare::execute(&compare),
        Command::Explain(explain) => explain::execute(&explain),
    })
}

/// Commands that come with the feature `cluster`.
const OF_REAL_NODES: [&str; 5] = ["run", "reality", "up", "crash", "soak"];

/// The error of a command line, said of what was meant: a second scenario is no command of `sim`, and this program may lack the commands of real
/// nodes.
fn error_of(error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue, ErrorKind};

    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    let is_of_sim = std::env::args_os().nth(1).is_some_and(|first| first == "sim");
    let message = if is_of_sim {
        format!(
            "`sim` takes one scenario, and `{word}` would be another one; several seeds of one are run with --seeds A..B"
        )
    } else if cfg!(not(feature = "cluster")) && OF_REAL_NODES.contains(&word.as_str()) {
        format!(
            "this program was built without `{word}` and other commands that run real nodes: build it without --no-default-features"
        )
    } else {
        return error;
    };
    Cli::command().error(ErrorKind::InvalidSubcommand, message)
}

/// Says what went wrong.
fn failed(error: &dyn std::fmt::Display, code: u8) -> u8 {
    note!("error: {error}");
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seeds_are_one_or_a_range() {
        let seeds = |arguments: &[&str]| {
            let words = ["starling-testnet", "sim", "quick"].iter().chain(arguments);
            match Cli::try_parse_from(words).map(|cli| cli.command) {
                Ok(Command::Sim(sim)) => sim.seeds(7),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(seeds(&[]), [7]);
        assert_eq!(seeds(&["--seed", "3"]), [3]);
        assert_eq!(seeds(&["--seeds", "2..4"]), [2, 3, 4]);
        for wrong in ["4..2", "3", "a..b", "..", "1..99999"] {
            assert!(Cli::try_parse_from(["starling-testnet", "sim", "quick", "--seeds", wrong]).is_err(), "{wrong}");
        }
    }
}
