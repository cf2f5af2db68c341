//! Where log lines end, behind a queue that never makes the writer of a line wait.
//!
//! # Rules
//! - A line is queued if the queue holds fewer than `LINES_MAX` lines and `BYTES_MAX` bytes; otherwise it is lost and
//!   counted. *Rationale:* the event loop logs; a terminal that was stopped with Ctrl-S, a pipe that nobody reads or a disk
//!   that hangs would stop it, and with it the node.
//! - One thread for each sink writes the lines in order. Each line carries how many were lost before it was queued, so
//!   that the thread writes how many are missing in the very place, between what was queued before them and after them.
//! - A sink that fails (a full disk) loses the line, which is counted like the others, and is tried again with the next one.

use crate::rate_limited;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// The most lines that wait.
const LINES_MAX: usize = 8_192;

/// The most bytes that wait.
const BYTES_MAX: usize = 4 << 20;

/// One place where lines end.
#[derive(Debug)]
pub struct Sink {
    writer: SinkWriter,
}

/// Puts lines into the queue of a [`Sink`].
#[derive(Clone, Debug)]
pub struct SinkWriter {
    queue: SyncSender<Waiting>,
    shared: Arc<Shared>,
}

/// A line in the queue.
#[derive(Debug)]
struct Waiting {
    line: Vec<u8>,
    /// Lines that had found no place when this one was queued, ever.
    refused_before: u64,
}

#[derive(Debug, Default)]
struct Shared {
    queued_bytes: AtomicUsize,
    /// Lines that found no place in the queue, ever.
    refused: AtomicU64,
    /// Lines that the output did not take, ever.
    failed: AtomicU64,
    /// How many lines were queued and how many of them have been dealt with.
    queued: AtomicU64,
    done: Mutex<u64>,
    progress: Condvar,
}

impl Sink {
    /// Starts the thread. It ends when all writers have been dropped.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(name: &'static str, output: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(LINES_MAX);
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        std::thread::Builder::new().name(name.into()).spawn(move || write_lines(&lines, output, &of_thread))?;
        Ok(Self { writer: SinkWriter { queue, shared } })
    }

    /// A writer for `tracing`.
    #[must_use]
    pub fn writer(&self) -> SinkWriter {
        self.writer.clone()
    }

    /// Lines that were lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let shared = &self.writer.shared;
        shared.refused.load(Ordering::Relaxed) + shared.failed.load(Ordering::Relaxed)
    }

    /// Waits until everything that was queued before has been dealt with, or the deadline is over.
    pub fn flush(&self, deadline: Duration) {
        let shared = &self.writer.shared;
        let queued = shared.queued.load(Ordering::SeqCst);
        let done = shared.done.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = shared.progress.wait_timeout_while(done, deadline, |done| *done < queued);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl SinkWriter {
    fn queue(&self, line: &[u8]) {
        let shared = &self.shared;
        // Counted before it is queued, so that the thread cannot count it down first.
        let queued_bytes = shared.queued_bytes.fetch_add(line.len(), Ordering::SeqCst);
        let queued = queued_bytes + line.len() <= BYTES_MAX
            && self
                .queue
                .try_send(Waiting { line: line.to_vec(), refused_before: shared.refused.load(Ordering::SeqCst) })
                .is_ok();
        if queued {
            shared.queued.fetch_add(1, Ordering::SeqCst);
        } else {
            shared.queued_bytes.fetch_sub(line.len(), Ordering::SeqCst);
            shared.refused.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl<'a> MakeWriter<'a> for SinkWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { sink: self }
    }
}

/// One line on its way; `tracing` writes it in one piece.
#[derive(Debug)]
pub struct Line<'a> {
    sink: &'a SinkWriter,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.queue(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(lines: &Receiver<Waiting>, mut output: impl Write, shared: &Shared) {
    let mut told = 0;
    while let Ok(Waiting { line, refused_before }) = lines.recv() {
        shared.queued_bytes.fetch_sub(line.len(), Ordering::SeqCst);
        // Only this thread counts failures, so that all of them are of lines before this one.
        let lost = refused_before + shared.failed.load(Ordering::SeqCst);
        if lost > told {
            let note = format!("{} log lines are missing here: they could not be written in time\n", lost - told);
            if output.write_all(note.as_bytes()).is_ok() {
                told = lost;
            }
        }
        if let Err(error) = output.write_all(&line).and_then(|()| output.flush()) {
            shared.failed.fetch_add(1, Ordering::SeqCst);
            // The other sink may be able to tell; this one tells how many are missing when it works again.
            rate_limited!(warn, %error, "log lines cannot be written");
        }
        *shared.done.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        shared.progress.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Instant;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// An output that waits for a word before each write, or fails while told to.
    struct Scripted {
        gate: mpsc::Receiver<io::Result<()>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // When the test has no more to say, everything goes through.
            self.gate.recv().unwrap_or(Ok(()))?;
            self.written.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn scripted() -> (Sink, SyncSender<io::Result<()>>, impl Fn() -> String) {
        let (gate, gate_end) = mpsc::sync_channel(8);
        let written = Arc::new(Mutex::new(Vec::new()));
        let output = Scripted { gate: gate_end, written: written.clone() };
        let sink = Sink::start("test", output).expect("a thread");
        (sink, gate, move || String::from_utf8(written.lock().expect("no panic").clone()).expect("text"))
    }

    fn log(sink: &Sink, text: &str) {
        sink.writer().make_writer().write_all(text.as_bytes()).expect("never fails");
    }

    /// Logs a line and waits until the thread hangs with it in its hand, the queue being empty.
    fn hang_with(sink: &Sink, text: &str) {
        let begin = Instant::now();
        log(sink, text);
        while sink.writer.shared.queued_bytes.load(Ordering::SeqCst) > 0 {
            assert!(begin.elapsed() < DEADLINE, "the thread takes nothing from the queue");
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_output_that_hangs_costs_lines_and_no_time() {
        let (sink, gate, written) = scripted();
        hang_with(&sink, "first\n");
        let begin = Instant::now();
        for number in 0..LINES_MAX + 1_000 {
            log(&sink, &format!("line {number}\n"));
        }
        assert!(begin.elapsed() < DEADLINE, "logging waited for the output");
        assert_eq!(sink.lost(), 1_000);
        drop(gate);
        sink.flush(DEADLINE);
        log(&sink, "after\n");
        sink.flush(DEADLINE);
        let kept: String = (0..LINES_MAX).map(|number| format!("line {number}\n")).collect();
        let note = "1000 log lines are missing here: they could not be written in time\n";
        assert_eq!(written(), format!("first\n{kept}{note}after\n"));
    }

    #[test]
    fn losses_are_told_where_they_are_missing() {
        let (sink, gate, written) = scripted();
        hang_with(&sink, "first\n");
        let large = "x".repeat(BYTES_MAX - 8) + "\n";
        log(&sink, &large);
        log(&sink, "too much\n");
        log(&sink, "fits\n");
        drop(gate);
        sink.flush(DEADLINE);
        let note = "1 log lines are missing here: they could not be written in time\n";
        assert_eq!(written(), format!("first\n{large}{note}fits\n"));
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_too() {
        let (sink, _gate, _) = scripted();
        hang_with(&sink, "first\n");
        let large = "x".repeat(1 << 20);
        for _ in 0..10 {
            log(&sink, &large);
        }
        assert_eq!(sink.lost(), 6);
        assert_eq!(sink.writer.shared.queued_bytes.load(Ordering::SeqCst), BYTES_MAX);
    }

    #[test]
    fn an_output_that_fails_is_tried_again() {
        let (sink, gate, written) = scripted();
        let full = || Err(io::Error::from(io::ErrorKind::StorageFull));
        gate.send(full()).expect("open");
        log(&sink, "lost\n");
        sink.flush(DEADLINE);
        assert_eq!((sink.lost(), written().as_str()), (1, ""));
        drop(gate);
        log(&sink, "kept\n");
        sink.flush(DEADLINE);
        assert_eq!(written(), "1 log lines are missing here: they could not be written in time\nkept\n");
    }
}
