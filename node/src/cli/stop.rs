//! What asks a running node to stop, and what happens when it does not.
//!
//! SIGINT, SIGTERM, SIGHUP (the terminal was closed), the end of standard input (with `--exit-on-stdin-close`) and
//! `admin_shutdown` are requests to stop cleanly. A signal after the first request ends the process at once with 128 and its
//! number as code, as shells give it (SIGINT 130, SIGTERM 143), and so does the clock [`STOP_DEADLINE`] after it with code 1:
//! whoever asked is waiting. A SIGHUP that is ignored when the process begins, as under nohup(1), stays so.
//!
//! All this happens in a thread with a runtime of its own. *Rationale:* the end of a node waits for the disk, on the
//! thread on which its runtime runs; a disk that hangs would hold up the second signal, too.

use super::{Failure, output};
use crate::telemetry;
use std::io::Read as _;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How long a clean stop may take. What is left then (a disk that hangs) is not waited for. It takes some 0.1 s on a quiet machine, and
/// 3 s were measured where thirty processes wanted two processors; more than this, and `docker stop`, which waits for 10 s, kills.
const STOP_DEADLINE: Duration = Duration::from_secs(9);

/// How long the end of the process waits for the last log lines.
pub(super) const FLUSH_DEADLINE: Duration = Duration::from_millis(300);

/// The node's ends of what watches it stop.
pub(super) struct Watched {
    /// Gets the first request.
    pub(super) stopped: oneshot::Receiver<()>,
    /// To be used when the node stops without having been told to from here.
    pub(super) asked: oneshot::Sender<()>,
}

/// Watches for requests to stop.
pub(super) fn watch(exit_on_stdin_close: bool) -> Result<Watched, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::runtime)?;
    // Signals are caught from here on, not from when the thread gets to it.
    let (asked, by_rpc) = oneshot::channel();
    let requests = runtime.block_on(async { StopRequests::new(exit_on_stdin_close, by_rpc) })?;
    let (stop, stopped) = oneshot::channel();
    let watch = move || runtime.block_on(end(requests, stop));
    std::thread::Builder::new().name("stop".into()).spawn(watch).map_err(Failure::runtime)?;
    Ok(Watched { stopped, asked })
}

async fn end(mut requests: StopRequests, stop: oneshot::Sender<()>) {
    let reason = requests.next().await;
    tracing::info!(reason, "stopping");
    let _ended_already = stop.send(());
    let code = match tokio::time::timeout(STOP_DEADLINE, requests.next_signal()).await {
        Ok((reason, number)) => {
            tracing::warn!(reason, "stopping at once");
            128 + number
        }
        Err(_elapsed) => {
            output::error("the node did not stop in time; what it was doing is lost, what it had acknowledged is not");
            1
        }
    };
    telemetry::flush(FLUSH_DEADLINE);
    std::process::exit(code);
}

/// What can ask the node to stop.
struct StopRequests {
    interrupt: Signal,
    terminate: Signal,
    /// None when it is ignored.
    hang_up: Option<Signal>,
    stdin_closed: Option<oneshot::Receiver<()>>,
    by_rpc: oneshot::Receiver<()>,
}

impl StopRequests {
    fn new(exit_on_stdin_close: bool, by_rpc: oneshot::Receiver<()>) -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::runtime)?,
            terminate: signal(SignalKind::terminate()).map_err(Failure::runtime)?,
            hang_up: hang_up().map_err(Failure::runtime)?,
            stdin_closed: exit_on_stdin_close.then(watch_stdin).transpose()?,
            by_rpc,
        })
    }

    async fn next(&mut self) -> &'static str {
        let Self { interrupt, terminate, hang_up, stdin_closed, by_rpc } = self;
        let closed = async {
            match stdin_closed {
                Some(closed) => drop(closed.await),
                None => std::future::pending().await,
            }
        };
        let asked = async {
            // A node that ends otherwise asks for nothing, and the end of the process is near.
            if by_rpc.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            (name, _) = signalled(interrupt, terminate, hang_up.as_mut()) => name,
            () = closed => "standard input was closed",
            () = asked => "admin_shutdown",
        }
    }

    async fn next_signal(&mut self) -> (&'static str, i32) {
        signalled(&mut self.interrupt, &mut self.terminate, self.hang_up.as_mut()).await
    }
}

/// The next signal's name and number.
async fn signalled(
    interrupt: &mut Signal,
    terminate: &mut Signal,
    hang_up: Option<&mut Signal>,
) -> (&'static str, i32) {
    let hung_up = async {
        match hang_up {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
        _ = terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
        () = hung_up => ("SIGHUP", SignalKind::hangup().as_raw_value()),
    }
}

/// SIGHUP, unless whoever started the process has it ignored: catching it would undo that.
fn hang_up() -> std::io::Result<Option<Signal>> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if ignores(&status, SignalKind::hangup()) { Ok(None) } else { signal(SignalKind::hangup()).map(Some) }
}

/// Whether a process ignores a signal, from what Linux shows of its status: `proc_pid_status(5)`.
fn ignores(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

/// Reads standard input until it ends. A thread, because such a read cannot be cancelled, and the end of the process
/// should not wait for it.
fn watch_stdin() -> Result<oneshot::Receiver<()>, Failure> {
    let (closed, receiver) = oneshot::channel();
    let watch = move || {
        let mut buffer = [0; 1_024];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut buffer).is_ok_and(|read| read > 0) {}
        let _nobody_waits = closed.send(());
    };
    std::thread::Builder::new().name("stdin".into()).spawn(watch).map_err(Failure::runtime)?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_told_from_the_status_of_the_process() {
        // SIGHUP (1) and SIGPIPE (13), as under nohup.
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        assert!(ignores(status, SignalKind::hangup()) && ignores(status, SignalKind::pipe()));
        assert!(!ignores(status, SignalKind::interrupt()) && !ignores("", SignalKind::hangup()));
    }
}
