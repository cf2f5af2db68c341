//! Logging: to stderr, as text for people or as JSON for machines.
//!
//! Levels: `error`, the node cannot do what it was started for; `warn`, someone should look; `info`, a turn of the node's
//! life (started, ready, stopped); `debug`, single events of a connection or block; `trace`, single messages. Standard output
//! is kept for what a command was asked to print.

use std::io::IsTerminal;
use std::str::FromStr;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The filter when none is given. `jsonrpsee` tells at `info` what only its developers need. `libp2p` and yamux warn of
/// what any peer can do as often as it likes (streams beyond a limit, connections that break), which must not fill a disk.
pub const DEFAULT_FILTER: &str = "info,libp2p=error,yamux=error,jsonrpsee=warn";

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured when stderr is a terminal and `NO_COLOR` is unset.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is neither text nor json")),
        }
    }
}

/// The filter expression is not one.
#[derive(Debug, thiserror::Error)]
#[error(
    "the log filter {filter:?} is not valid: {problem}; it takes levels and targets, \
     such as \"info\" or \"warn,starling_node=debug\""
)]
pub struct FilterError {
    filter: String,
    problem: String,
}

/// Checks a filter expression.
///
/// # Errors
/// If it cannot be parsed.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, FilterError> {
    EnvFilter::from_str(filter).map_err(|error| FilterError { filter: filter.to_owned(), problem: error.to_string() })
}

/// Sends the process's log to stderr. Later calls of the same process change nothing.
///
/// # Errors
/// If the filter cannot be parsed.
pub fn init(format: LogFormat, filter: &str) -> Result<(), FilterError> {
    let filter = parse_filter(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => builder.with_ansi(use_colour(&std::io::stderr())).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    // Only tests start two nodes in one process; the first subscriber serves both.
    drop(installed);
    Ok(())
}

/// Whether to colour what goes to `stream`: only a terminal, and only if the user did not set `NO_COLOR`.
pub fn use_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_filter_is_valid_and_a_wrong_one_is_explained() {
        parse_filter(DEFAULT_FILTER).expect("valid");
        let error = parse_filter("starling=loud").expect_err("no such level").to_string();
        assert!(error.contains("\"starling=loud\"") && error.contains("such as"), "{error}");
    }
}
