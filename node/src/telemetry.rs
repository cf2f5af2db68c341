//! Logging: to standard error and, if asked, to a file that is rotated; as text for people or as JSON for machines.
//!
//! # Promises
//! - **Levels mean something.** `error`, the node cannot do what it was started for; `warn`, someone should look; `info`, a
//!   turn of the node's life (started, ready, stopped); `debug`, single events of a connection or block; `trace`, single
//!   messages. Standard output is kept for what a command was asked to print.
//! - **Logging never stops the node.** Lines go through a queue of bounded length and size for each sink, written by a thread
//!   of its own; see [`sink`]. A reader that is stuck or a full disk costs lines, which are counted and reported, never time.
//! - **A peer cannot fill the log.** What a peer can cause goes through [`rate_limited!`](crate::rate_limited); see [`limit`].
//! - **The filter can be changed at run time**, with [`set_filter`].
//!
//! The subscriber of `tracing` belongs to the process, and so does what stands here.

pub mod limit;
mod rotate;
pub mod sink;

pub use rotate::FileLimits;

use sink::{Sink, SinkWriter};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// The filter when none is given. `jsonrpsee` tells at `info` what only its developers need. `libp2p` warns of
/// what any peer can do as often as it likes (connections that break), which must not fill a disk.
pub const DEFAULT_FILTER: &str = "info,libp2p=error,jsonrpsee=warn";

/// Holds unless a filter names the same target: yamux tells as an error of each stream that a peer opens beyond the limit.
const SILENCED: &str = "yamux=off";

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

/// Checks a filter expression, and adds what is silent unless it is named.
///
/// # Errors
/// If it cannot be parsed.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, FilterError> {
    let wrong = |error: tracing_subscriber::filter::ParseError| FilterError {
        filter: filter.to_owned(),
        problem: error.to_string(),
    };
    // By itself first: an empty expression is valid, and a wrong one is to be quoted as it was given.
    EnvFilter::from_str(filter).map_err(wrong)?;
    EnvFilter::from_str(&format!("{SILENCED},{filter}")).map_err(wrong)
}

/// Where lines go, and which.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// How lines are written, to standard error and to the file.
    pub format: LogFormat,
    /// Which lines are written, to standard error and to the file.
    pub filter: String,
    /// A file to write to besides standard error, and when a new one is begun.
    pub file: Option<(PathBuf, FileLimits)>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::default(), filter: DEFAULT_FILTER.to_owned(), file: None }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is wrong.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The file cannot be written.
    #[error(
        "the log file {} cannot be written: {source}; name one in a directory that exists and can be written \
         with --log-file, or leave it out",
        .path.display()
    )]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system gives no thread.
    #[error("the operating system refused a thread for the log: {0}")]
    Thread(std::io::Error),
    /// The log was never started, so that nothing can be changed.
    #[error("this process writes no log")]
    NoLog,
}

/// What [`init`] made, for as long as the process lives.
struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    sinks: Vec<Sink>,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Starts the process's log. Later calls of the same process change nothing: only tests start two nodes in one process, and
/// the first log serves both.
///
/// # Errors
/// If the filter is wrong or the file cannot be written.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let (filter, handle) = reload::Layer::new(parse_filter(&config.filter)?);
    let stderr = Sink::start("log-stderr", std::io::stderr()).map_err(LogError::Thread)?;
    let mut layers = vec![layer(config.format, use_colour(&std::io::stderr()), stderr.writer())];
    let mut sinks = vec![stderr];
    if let Some((path, limits)) = &config.file {
        let file = rotate::RotatingFile::open(path, *limits, std::time::SystemTime::now())
            .map_err(|source| LogError::File { path: path.clone(), source })?;
        let file = Sink::start("log-file", file).map_err(LogError::Thread)?;
        layers.push(layer(config.format, false, file.writer()));
        sinks.push(file);
    }
    if tracing_subscriber::registry().with(filter).with(layers).try_init().is_ok() {
        let _first = LOG.set(Log { filter: handle, sinks });
    }
    Ok(())
}

fn layer<S>(format: LogFormat, colour: bool, writer: SinkWriter) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => layer.with_ansi(colour).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// Replaces the filter of the running process; it holds until the process ends.
///
/// # Errors
/// If it cannot be parsed, or this process has no log.
pub fn set_filter(filter: &str) -> Result<(), LogError> {
    let parsed = parse_filter(filter)?;
    let log = LOG.get().ok_or(LogError::NoLog)?;
    log.filter.reload(parsed).map_err(|_subscriber_gone| LogError::NoLog)
}

/// The filter that holds now, as it would be given; `None` if this process has no log.
#[must_use]
pub fn filter() -> Option<String> {
    LOG.get()?.filter.with_current(ToString::to_string).ok()
}

/// Lines that were lost because a sink could not take them: too many at once, a reader that is stuck, a full disk.
#[must_use]
pub fn lines_lost() -> u64 {
    LOG.get().map_or(0, |log| log.sinks.iter().map(Sink::lost).sum())
}

/// Waits until what was logged has been written, but no longer than `deadline`. For the end of the process.
pub fn flush(deadline: Duration) {
    for sink in LOG.get().map_or(&[][..], |log| &log.sinks) {
        sink.flush(deadline);
    }
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

    #[test]
    fn what_a_peer_can_repeat_for_ever_is_silent_unless_it_is_named() {
        for (filter, silent) in [(DEFAULT_FILTER, true), ("debug", true), ("", true), ("info,yamux=debug", false)] {
            let parsed = parse_filter(filter).expect("valid").to_string();
            assert_eq!(parsed.contains("yamux=off"), silent, "{filter}: {parsed}");
        }
    }

    #[test]
    fn the_filter_is_replaced_while_the_process_runs() {
        init(&LogConfig { filter: "off".into(), ..LogConfig::default() }).expect("a log");
        let written = || tracing::enabled!(target: "some_target", tracing::Level::INFO);
        for (filter, expected) in [("off", false), ("warn,some_target=info", true), ("warn,some_target=warn", false)] {
            set_filter(filter).expect("valid");
            assert_eq!(written(), expected, "{filter}");
            assert_eq!(
                parse_filter(&super::filter().expect("a log")).expect("valid").to_string(),
                super::filter().expect("a log")
            );
        }
        let error = set_filter("some_target=loud").expect_err("no such level").to_string();
        assert!(error.contains("such as"), "{error}");
        assert!(!written(), "what is wrong changes nothing");
        set_filter("off").expect("valid");
    }
}
