//! What `--trace FILE` writes: one event a line, for the measuring tool.
//!
//! # Format, version 1
//! Text. The first line is `starling-trace,1`; then one event a line, fields separated by commas, in the order in which the
//! node saw them:
//!
//! ```text
//! publish,<class>,<message id>,<t>,<payload bytes>
//! arrive,<class>,<message id>,<t>,<from>,<pushed|pulled>,<frame bytes>
//! copy,<class>,<message id>,<t>,<from>,<frame bytes>
//! accept,<class>,<message id>,<t>
//! inblock,transaction,<message id>,<t>,<from>
//! mesh,<t>,<class>,<degree>
//! lag,<t>,<p50>,<p99>,<max>
//! bytes,<t>,<socket in>,<socket out>,<frame in>,<frame out>
//! dropped,<lines>
//! ```
//! Times and lags are microseconds, times of `CLOCK_MONOTONIC` (see [`crate::clock`]); a message id is 40 hex digits; `from`
//! is a peer id in base58; a class is `transaction` or `block`.
//!
//! # Promises
//! - **The event loop never waits for the disk**: lines go into a buffer of [`LINES_MAX`], which a thread of its own takes
//!   as a whole. While the buffer is full, lines are counted instead, and the count is written as `dropped,<lines>` where
//!   they are missing, so that nobody takes a gap for silence.
//! - **What was traced reaches the file within [`FLUSH_INTERVAL`]**, but for the time that writing takes, and all of it when
//!   the [`Trace`] is closed or dropped.
//! - **Tracing costs little of what it measures.** The thread is woken by the first line of a batch and then sleeps for the
//!   interval: two wake-ups for each interval, however many lines there are, and none while nothing happens.

use crate::api::MessageClass;
use starling_protocol::id::{MessageId, PeerId};
use starling_protocol::time::Time;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The first line.
pub const HEADER: &str = "starling-trace,1";

/// Lines that may wait for the writing thread: several seconds of a busy node, some 10 MiB.
pub const LINES_MAX: usize = 65_536;

/// Lines at which the thread is woken before the interval is over.
const LINES_PRESSING: usize = LINES_MAX / 4;

/// How long a line may wait in the buffer.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Peer ids whose text the writing thread remembers; beyond that it starts afresh.
const PEER_NAMES_MAX: usize = 4_096;

/// One event; see the format above for what the fields mean.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the module's documentation describes every line and field")]
pub enum TraceLine {
    Publish { class: MessageClass, id: MessageId, at: Time, payload_bytes: u64 },
    Arrive { class: MessageClass, id: MessageId, at: Time, from: PeerId, pulled: bool, frame_bytes: u64 },
    Copy { class: MessageClass, id: MessageId, at: Time, from: PeerId, frame_bytes: u64 },
    Accept { class: MessageClass, id: MessageId, at: Time },
    InBlock { id: MessageId, at: Time, from: PeerId },
    Mesh { at: Time, class: MessageClass, degree: u32 },
    Lag { at: Time, p50_us: u64, p99_us: u64, max_us: u64 },
    Bytes { at: Time, socket_in: u64, socket_out: u64, frame_in: u64, frame_out: u64 },
}

/// Takes events and has them written. Without a file every call does nothing.
#[derive(Debug, Default)]
pub struct Trace(Option<Writer>);

#[derive(Debug)]
struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    batch: Mutex<Batch>,
    /// Notified when the batch gets its first line, presses or is the last.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Batch {
    lines: Vec<TraceLine>,
    /// Lines that came after these and did not fit.
    dropped: u64,
    /// Nothing more is taken: the trace was closed, or the disk failed.
    is_last: bool,
}

impl Trace {
    /// A trace that goes nowhere.
    #[must_use]
    pub fn disabled() -> Self {
        Self(None)
    }

    /// A trace that is written to a new or emptied file.
    ///
    /// # Errors
    /// If the file cannot be made, its header not written, or the thread not started.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(64 * 1_024, File::create(path)?);
        writeln!(file, "{HEADER}")?;
        file.flush()?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let write = move || {
            let result = write_batches(&theirs, &mut file);
            theirs.lock().is_last = true;
            result
        };
        let thread = std::thread::Builder::new().name("trace".into()).spawn(write)?;
        Ok(Self(Some(Writer { shared, thread: Some(thread) })))
    }

    /// Whether lines go anywhere; lets a caller skip the work of making them.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Has a line written. Never waits for the disk.
    pub fn write(&self, line: TraceLine) {
        if let Some(writer) = &self.0 {
            writer.shared.push(line);
        }
    }

    /// Writes what is left and closes the file.
    ///
    /// # Errors
    /// The first error that writing met, now or earlier.
    pub fn close(mut self) -> io::Result<()> {
        self.0.take().map_or(Ok(()), |mut writer| writer.close())
    }
}

impl Shared {
    fn push(&self, line: TraceLine) {
        let mut batch = self.lock();
        if batch.is_last || batch.lines.len() >= LINES_MAX || batch.dropped > 0 {
            batch.dropped += 1;
            return;
        }
        batch.lines.push(line);
        let waiting = batch.lines.len();
        drop(batch);
        if waiting == 1 || waiting == LINES_PRESSING {
            self.changed.notify_one();
        }
    }

    /// Waits until there are lines and then for as long as they may wait; gives them and takes an empty vector for them.
    fn take(&self, emptied: Vec<TraceLine>) -> Batch {
        let is_idle = |batch: &mut Batch| batch.lines.is_empty() && !batch.is_last;
        let may_wait = |batch: &mut Batch| batch.lines.len() < LINES_PRESSING && !batch.is_last;
        let batch = self.changed.wait_while(self.lock(), is_idle).unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(batch, FLUSH_INTERVAL, may_wait);
        let (mut batch, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_last = batch.is_last;
        std::mem::replace(&mut *batch, Batch { lines: emptied, dropped: 0, is_last })
    }

    /// Plain data that no panic leaves half-changed, so a poisoned lock is taken over.
    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn close(&mut self) -> io::Result<()> {
        self.shared.lock().is_last = true;
        self.shared.changed.notify_one();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_panic)) => Err(io::Error::other("the thread that writes the trace panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the trace could not be written");
        }
    }
}

fn write_batches(shared: &Shared, file: &mut impl Write) -> io::Result<()> {
    let mut names = PeerNames::default();
    let mut emptied = Vec::new();
    loop {
        let mut batch = shared.take(emptied);
        for line in batch.lines.drain(..) {
            write_line(&line, &mut names, file)?;
        }
        if batch.dropped > 0 {
            writeln!(file, "dropped,{}", batch.dropped)?;
        }
        file.flush()?;
        if batch.is_last {
            return Ok(());
        }
        emptied = batch.lines;
    }
}

fn write_line(line: &TraceLine, names: &mut PeerNames, file: &mut impl Write) -> io::Result<()> {
    match line {
        TraceLine::Publish { class, id, at, payload_bytes } => {
            writeln!(file, "publish,{},{id},{},{payload_bytes}", class.name(), at.as_micros())
        }
        TraceLine::Arrive { class, id, at, from, pulled, frame_bytes } => {
            let how = if *pulled { "pulled" } else { "pushed" };
            let from = names.text(from);
            writeln!(file, "arrive,{},{id},{},{from},{how},{frame_bytes}", class.name(), at.as_micros())
        }
        TraceLine::Copy { class, id, at, from, frame_bytes } => {
            let from = names.text(from);
            writeln!(file, "copy,{},{id},{},{from},{frame_bytes}", class.name(), at.as_micros())
        }
        TraceLine::Accept { class, id, at } => writeln!(file, "accept,{},{id},{}", class.name(), at.as_micros()),
        TraceLine::InBlock { id, at, from } => {
            writeln!(file, "inblock,transaction,{id},{},{}", at.as_micros(), names.text(from))
        }
        TraceLine::Mesh { at, class, degree } => writeln!(file, "mesh,{},{},{degree}", at.as_micros(), class.name()),
        TraceLine::Lag { at, p50_us, p99_us, max_us } => {
            writeln!(file, "lag,{},{p50_us},{p99_us},{max_us}", at.as_micros())
        }
        TraceLine::Bytes { at, socket_in, socket_out, frame_in, frame_out } => {
            writeln!(file, "bytes,{},{socket_in},{socket_out},{frame_in},{frame_out}", at.as_micros())
        }
    }
}

/// The text of peer ids. Base58 takes longer than everything else in a line, and a node has few peers.
#[derive(Default)]
struct PeerNames(BTreeMap<PeerId, String>);

impl PeerNames {
    fn text(&mut self, peer: &PeerId) -> &str {
        if self.0.len() >= PEER_NAMES_MAX && !self.0.contains_key(peer) {
            self.0.clear();
        }
        self.0.entry(*peer).or_insert_with(|| match libp2p::PeerId::from_bytes(peer.as_bytes()) {
            Ok(id) => id.to_base58(),
            Err(_no_multihash) => hex::encode(peer.as_bytes()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).expect("readable").lines().map(str::to_owned).collect()
    }

    #[test]
    fn every_line_has_its_form() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("trace.csv");
        let trace = Trace::create(&path).expect("a trace");
        let (class, id, at) = (MessageClass::Transaction, MessageId([0xab; 20]), Time::from_micros(7));
        let key = libp2p::identity::Keypair::generate_ed25519();
        let name = key.public().to_peer_id();
        let from = PeerId::from_bytes(&name.to_bytes()).expect("short");
        trace.write(TraceLine::Publish { class, id, at, payload_bytes: 256 });
        trace.write(TraceLine::Arrive { class, id, at, from, pulled: true, frame_bytes: 300 });
        trace.write(TraceLine::Copy { class: MessageClass::Block, id, at, from, frame_bytes: 300 });
        trace.write(TraceLine::Accept { class, id, at });
        trace.write(TraceLine::InBlock { id, at, from });
        trace.write(TraceLine::Mesh { at, class, degree: 6 });
        trace.write(TraceLine::Lag { at, p50_us: 1, p99_us: 2, max_us: 3 });
        trace.write(TraceLine::Bytes { at, socket_in: 1, socket_out: 2, frame_in: 3, frame_out: 4 });
        trace.close().expect("written");
        let id = "ab".repeat(20);
        let expected = [
            "starling-trace,1".to_owned(),
            format!("publish,transaction,{id},7,256"),
            format!("arrive,transaction,{id},7,{name},pulled,300"),
            format!("copy,block,{id},7,{name},300"),
            format!("accept,transaction,{id},7"),
            format!("inblock,transaction,{id},7,{name}"),
            "mesh,7,transaction,6".to_owned(),
            "lag,7,1,2,3".to_owned(),
            "bytes,7,1,2,3,4".to_owned(),
        ];
        assert_eq!(lines_of(&path), expected);
    }

    #[test]
    fn a_line_reaches_the_file_without_a_close() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("trace.csv");
        let trace = Trace::create(&path).expect("a trace");
        trace.write(TraceLine::Mesh { at: Time::ZERO, class: MessageClass::Block, degree: 1 });
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while lines_of(&path).len() < 2 {
            assert!(std::time::Instant::now() < deadline, "the line was never flushed");
            std::thread::yield_now();
        }
        drop(trace);
    }

    #[test]
    fn what_does_not_fit_is_counted_where_it_is_missing() {
        let shared = Shared::default();
        let line = |degree| TraceLine::Mesh { at: Time::ZERO, class: MessageClass::Block, degree };
        for _ in 0..LINES_MAX + 3 {
            shared.push(line(1));
        }
        let batch = shared.take(Vec::new());
        assert_eq!((batch.lines.len(), batch.dropped, batch.is_last), (LINES_MAX, 3, false));
        shared.push(line(2));
        shared.lock().is_last = true;
        let batch = shared.take(batch.lines);
        assert_eq!((batch.lines.last(), batch.dropped, batch.is_last), (Some(&line(2)), 0, true));
    }

    #[test]
    fn a_closed_trace_writes_the_count_behind_the_lines() {
        let shared = Shared::default();
        shared.push(TraceLine::Mesh { at: Time::ZERO, class: MessageClass::Block, degree: 1 });
        shared.lock().is_last = true;
        shared.push(TraceLine::Mesh { at: Time::ZERO, class: MessageClass::Block, degree: 2 });
        let mut text = Vec::new();
        write_batches(&shared, &mut text).expect("memory takes all");
        assert_eq!(String::from_utf8(text).expect("text"), "mesh,0,block,1\ndropped,1\n");
    }

    #[test]
    fn a_disabled_trace_takes_anything() {
        let trace = Trace::disabled();
        assert!(!trace.is_enabled());
        trace.write(TraceLine::Mesh { at: Time::ZERO, class: MessageClass::Block, degree: 1 });
        trace.close().expect("nothing to do");
    }
}
