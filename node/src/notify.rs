//! Telling a service manager how the node is doing: the datagrams of `sd_notify`.
//!
//! systemd gives a service of `Type=notify` the address of a datagram socket in `NOTIFY_SOCKET`, and takes lines of
//! `NAME=value` from it ([sd_notify(3)](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html)). The address is
//! a path, or the name of an abstract socket after an `@`.
//!
//! # Rules
//! 1. `READY=1` is sent when every port is bound and the stored chain is loaded, not when `/ready` says yes: the first node of
//!    a network waits for others, and its service has started all the same.
//! 2. `WATCHDOG=1` comes from the event loop and from nowhere else, so that a loop that hangs is restarted. It is sent at every
//!    report, once a second, if `WATCHDOG_USEC` is set and `WATCHDOG_PID` is absent or this process.
//! 3. `STATUS=` is what `systemctl status` shows, sent when it has changed.
//! 4. Before `READY=1`, `EXTEND_TIMEOUT_USEC=` asks for as much more time as the start needs, whenever it is known to need more.
//! 5. Nothing waits for the manager, and a manager that is gone is no reason to stop: what cannot be sent is dropped.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The shortest `WATCHDOG_USEC` that a ping every second keeps content.
pub const WATCHDOG_MIN: Duration = Duration::from_secs(2);

/// Longest status text, in bytes.
const STATUS_BYTES_MAX: usize = 512;

/// Why the service manager cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// An address of another kind.
    #[error(
        "NOTIFY_SOCKET {0:?} is neither a path nor an abstract socket (@NAME); the service manager is told nothing"
    )]
    Address(String),
    /// Nobody listens there.
    #[error("cannot reach the service manager at NOTIFY_SOCKET {address:?}: {source}; it is told nothing")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system says.
        source: io::Error,
    },
}

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    status: String,
}

impl Notifier {
    /// The manager that the environment names; one that is told nothing when it names none.
    ///
    /// # Errors
    /// If it names one that cannot be reached.
    pub fn from_env() -> Result<Self, NotifyError> {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Ok(Self::default());
        };
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|us| ours && *us > 0).map(Duration::from_micros);
        Self::connect(&address, watchdog)
    }

    /// The manager at this address, which wants a sign of life at least every `watchdog`.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub fn connect(address: &OsStr, watchdog: Option<Duration>) -> Result<Self, NotifyError> {
        let unreachable = |source| NotifyError::Unreachable { address: address.to_string_lossy().into_owned(), source };
        let socket_address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(address),
            _ => return Err(NotifyError::Address(address.to_string_lossy().into_owned())),
        };
        let open = || {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.connect_addr(&socket_address?)?;
            Ok(socket)
        };
        let socket = Some(open().map_err(unreachable)?);
        Ok(Self { socket, watchdog, status: String::new() })
    }

    /// The interval within which the manager wants a sign of life.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The node runs.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The node is not ready yet, for this reason, and may not be for so much longer.
    pub fn starting(&self, longer: Duration, status: &str) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}\nSTATUS={status}", longer.as_micros()));
    }

    /// The event loop turns, and this is how the node is doing. To be called every second.
    pub fn beat(&mut self, status: impl FnOnce() -> String) {
        if self.socket.is_none() {
            return;
        }
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
        let mut status = status();
        if let Some(end) = (0..=STATUS_BYTES_MAX.min(status.len())).rev().find(|end| status.is_char_boundary(*end)) {
            status.truncate(end);
        }
        // A line break would begin another assignment.
        let status = status.replace(['\n', '\r'], " ");
        if status != self.status {
            self.send(&format!("STATUS={status}"));
            self.status = status;
        }
    }

    /// The node is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    fn send(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(state.as_bytes())
        {
            tracing::debug!(%error, state, "the service manager could not be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 4_096];
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).expect("text"))
    }

    fn talks(manager: &UnixDatagram, address: &OsStr) {
        let mut notifier = Notifier::connect(address, Some(Duration::from_secs(30))).expect("reached");
        notifier.ready();
        assert_eq!(received(manager).as_deref(), Some("READY=1"));
        notifier.beat(|| "height 1\nREADY=0".to_owned());
        assert_eq!(received(manager).as_deref(), Some("WATCHDOG=1"));
        assert_eq!(received(manager).as_deref(), Some("STATUS=height 1 READY=0"));
        notifier.beat(|| "height 1\nREADY=0".to_owned());
        assert_eq!(received(manager).as_deref(), Some("WATCHDOG=1"));
        assert_eq!(received(manager), None, "the same status twice");
        notifier.stopping();
        assert_eq!(received(manager).as_deref(), Some("STOPPING=1\nSTATUS=stopping"));
    }

    #[test]
    fn a_manager_is_told_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        talks(&UnixDatagram::bind(&path).expect("bound"), path.as_os_str());

        let name = format!("starling-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        talks(&UnixDatagram::bind_addr(&address).expect("bound"), OsStr::new(&format!("@{name}")));
    }

    #[test]
    fn without_a_watchdog_there_are_no_pings_and_without_a_manager_nothing_happens() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("bound");
        let mut notifier = Notifier::connect(path.as_os_str(), None).expect("reached");
        notifier.beat(|| "x".repeat(10_000));
        assert_eq!(received(&manager).map(|text| text.len()), Some("STATUS=".len() + STATUS_BYTES_MAX));
        // A manager that does not read must not hold the node up, nor one that has gone.
        for round in 0..1_000 {
            notifier.beat(|| round.to_string());
        }
        drop(manager);
        notifier.stopping();
        Notifier::default().beat(|| unreachable!("nobody asks for the status"));
    }

    #[test]
    fn an_address_that_leads_nowhere_is_named() {
        let error = |address: &str| Notifier::connect(OsStr::new(address), None).expect_err("unreachable").to_string();
        assert!(error("vsock:2:1234").contains("neither a path nor an abstract socket"), "{}", error("vsock:2:1234"));
        assert!(error("/nonexistent/notify").contains("cannot reach the service manager at NOTIFY_SOCKET \"/none"));
    }
}
