//! The thread that waits for the disk.
//!
//! Jobs are done one after the other, in order. Batches that wait together are committed together: one flush of the
//! disk serves them all, so a slow disk makes commits larger instead of the queue longer.
//!
//! # After a failure
//! A batch that could not be stored is answered as such, and so are all that come after it: nothing may be stored whose
//! predecessor was not ([`starling_protocol::store`], rule 4). The thread opens the database again, as redb needs after a
//! failed write, and writes something to see whether that works; first at once, then in intervals that double up to
//! [`RETRY_MAX`]. When it works it says so ([`Answer::Back`]), and the owner answers with [`StorageThread::resume`] when
//! it is ready: all batches that were submitted before have been refused by then. [`Answer::Resumed`] follows, and
//! batches are stored again. Questions are answered all the time, as far as the database can be opened.
//!
//! # Bounds
//! The queue has room for [`QUEUE_MAX`] jobs, of which [`QUERIES_MAX`] can be questions; the machine keeps to fewer
//! batches. A batch that finds it full all the same is treated as one that could not be stored. If the owner's answer to
//! [`Answer::Back`] is lost so, or a batch after it, the owner is asked again: no batch is stored whose predecessor was lost.

use super::{Pruned, Retention, Store};
use starling_protocol::store::{Batch, batch_bytes};
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;

/// Jobs that may wait.
pub const QUEUE_MAX: usize = 4_096;

/// Questions among them. A guess.
const QUERIES_MAX: usize = 1_024;

/// Batches that are committed in one go.
const GROUP_MAX: usize = 1_024;

/// How long after a failure the second attempt is made; further ones after twice as long each.
const RETRY_MIN: Duration = Duration::from_millis(250);

/// How long attempts are apart at most. A guess: what an operator who has made room likes to wait.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What is written at least to see whether there is room: some blocks.
const PROBE_BYTES_MIN: usize = 256 << 10;

/// What is written at most for that.
const PROBE_BYTES_MAX: usize = 16 << 20;

/// What the thread has to say, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The answer to a batch.
    Persisted {
        /// Which batch.
        ticket: u64,
        /// Whether it is on the disk.
        durable: bool,
    },
    /// A batch could not be stored for this reason; from now on none is.
    Failed(String),
    /// The store works again; it waits for [`StorageThread::resume`], and says so again until that comes.
    Back,
    /// Batches that are submitted from now on are stored.
    Resumed,
}

/// How the store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageReport {
    /// Since when nothing is stored, and why, in the system's words.
    pub failing: Option<(SystemTime, String)>,
    /// How often it was tried in vain to store again since then.
    pub attempts: u64,
    /// Bytes that the file takes on the disk.
    pub file_bytes: u64,
    /// What the blocks take of them; none unless that is bounded, or before it was counted.
    pub kept_bytes: Option<u64>,
    /// Bytes that were free on its file system when something was last stored, or tried to; none when that cannot be said.
    pub free_bytes: Option<u64>,
    /// The lowest canonical height that is kept; 0 while there is none.
    pub earliest: u64,
    /// The height of the stored head.
    pub height: u64,
}

/// What the thread needs besides the store.
#[derive(Clone, Debug, Default)]
pub struct ThreadOptions {
    /// How much to keep; everything when none.
    pub retention: Option<Retention>,
}

type Query = Box<dyn FnOnce(&Store) + Send>;

enum Job {
    Persist {
        ticket: u64,
        batch: Batch,
    },
    Query(Query),
    /// Sent when so many jobs had been lost.
    Resume {
        lost: u64,
    },
}

/// What the thread and its owner share.
#[derive(Debug, Default)]
struct Shared {
    report: Mutex<StorageReport>,
    /// Questions that are queued.
    queries: AtomicUsize,
    /// How many batches and resumptions found the queue full.
    lost: AtomicU64,
}

/// Owns the store. Dropping it finishes what is queued.
#[derive(Debug)]
pub struct StorageThread {
    /// `None` only while closing.
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl StorageThread {
    /// Starts the thread; the receiver yields what it has to say.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(store: Store, options: ThreadOptions) -> io::Result<(Self, mpsc::Receiver<Answer>)> {
        let (jobs, receiver) = sync_channel(QUEUE_MAX);
        // Room for every batch that can be under way, so the thread never waits for the event loop.
        let (answers, answered) = mpsc::channel(QUEUE_MAX + GROUP_MAX + 16);
        let shared = Arc::new(Shared::default());
        let mut work = Work::new(store, options, answers, shared.clone());
        let thread = std::thread::Builder::new().name("storage".into()).spawn(move || work.run(&receiver))?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread), shared }, answered))
    }

    /// Has a batch applied; its answer comes from the channel of [`Self::start`]. Never waits. False if the batch was not
    /// taken; then no answer comes, but [`Answer::Back`] will.
    #[must_use]
    pub fn persist(&self, ticket: u64, batch: Batch) -> bool {
        self.submit_or_lose(Job::Persist { ticket, batch })
    }

    /// Has the store asked something; `query` runs on the thread, after all batches submitted before, and sends its
    /// findings wherever it likes. Never waits. False if too much is queued; then `query` is dropped without having run.
    #[must_use]
    pub fn query(&self, query: impl FnOnce(&Store) + Send + 'static) -> bool {
        if self.shared.queries.fetch_add(1, Ordering::AcqRel) < QUERIES_MAX && self.submit(Job::Query(Box::new(query)))
        {
            return true;
        }
        self.shared.queries.fetch_sub(1, Ordering::AcqRel);
        false
    }

    /// The same for somebody who waits for the findings, and whom a question that is not taken gives back.
    ///
    /// # Errors
    /// Who asked, if too much is queued.
    pub fn ask<A: Send + 'static>(&self, asker: A, question: impl FnOnce(&Store, A) + Send + 'static) -> Result<(), A> {
        let waiting = Arc::new(Mutex::new(Some(asker)));
        let take = |waiting: &Mutex<Option<A>>| waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let theirs = Arc::clone(&waiting);
        let taken = self.query(move |store| {
            if let Some(asker) = take(&theirs) {
                question(store, asker);
            }
        });
        if taken { Ok(()) } else { take(&waiting).map_or(Ok(()), Err) }
    }

    /// Answers [`Answer::Back`]: all batches submitted before may be refused, all after shall be stored.
    pub fn resume(&self) {
        // One that is lost is asked for again by another `Answer::Back`.
        let _taken = self.submit_or_lose(Job::Resume { lost: self.shared.lost.load(Ordering::Acquire) });
    }

    /// How the store is.
    #[must_use]
    pub fn report(&self) -> StorageReport {
        self.shared.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lowest canonical height that is kept, as in [`Self::report`]. What the thread said or answered is not older.
    #[must_use]
    pub fn earliest(&self) -> u64 {
        self.shared.report.lock().unwrap_or_else(PoisonError::into_inner).earliest
    }

    /// Finishes what is queued and closes the store. Waits for the disk.
    pub fn close(&mut self) {
        self.finish();
    }

    fn submit_or_lose(&self, job: Job) -> bool {
        let taken = self.submit(job);
        if !taken {
            self.shared.lost.fetch_add(1, Ordering::AcqRel);
        }
        taken
    }

    fn submit(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }

    fn finish(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the storage thread panicked");
        }
    }
}

impl Drop for StorageThread {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Whether batches are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Working,
    /// Not before the next attempt.
    Failing {
        attempt_at: Instant,
        wait: Duration,
    },
    /// Not before the owner is ready.
    Back,
}

struct Work {
    store: Store,
    options: ThreadOptions,
    answers: mpsc::Sender<Answer>,
    shared: Arc<Shared>,
    state: State,
    /// How much could not be stored at once.
    probe_bytes: usize,
    /// Whether there is something left to prune.
    backlog: bool,
    /// How many jobs were lost when it was last looked.
    lost: u64,
}

impl Work {
    fn new(store: Store, options: ThreadOptions, answers: mpsc::Sender<Answer>, shared: Arc<Shared>) -> Self {
        let backlog = options.retention.is_some();
        let probe_bytes = PROBE_BYTES_MIN;
        let mut work = Self { store, options, answers, shared, state: State::Working, probe_bytes, backlog, lost: 0 };
        work.update_report();
        work
    }

    fn run(&mut self, jobs: &Receiver<Job>) {
        let mut left_over = None;
        loop {
            let job = match left_over.take() {
                Some(job) => Some(job),
                None => match self.next_job(jobs) {
                    Ok(job) => job,
                    Err(_closed) => return,
                },
            };
            match job {
                Some(Job::Query(query)) => {
                    self.shared.queries.fetch_sub(1, Ordering::AcqRel);
                    query(&self.store);
                }
                Some(Job::Persist { ticket, batch }) => left_over = self.persist_group((ticket, batch), jobs),
                Some(Job::Resume { lost }) => self.resume(lost),
                None => self.use_idle_time(),
            }
            self.notice_losses();
            self.try_again();
        }
    }

    /// The next job; none when there is something to do without one.
    fn next_job(&self, jobs: &Receiver<Job>) -> Result<Option<Job>, ()> {
        let wait = match self.state {
            State::Failing { attempt_at, .. } => attempt_at.saturating_duration_since(Instant::now()),
            State::Working if self.backlog => Duration::ZERO,
            State::Working | State::Back => return jobs.recv().map(Some).map_err(|_closed| ()),
        };
        match jobs.recv_timeout(wait) {
            Ok(job) => Ok(Some(job)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    /// Stores a batch with those that wait behind it; returns the job after them if it was taken from the queue.
    fn persist_group(&mut self, first: (u64, Batch), jobs: &Receiver<Job>) -> Option<Job> {
        let (mut group, mut left_over) = (vec![first], None);
        while group.len() < GROUP_MAX && left_over.is_none() {
            match jobs.try_recv() {
                Ok(Job::Persist { ticket, batch }) => group.push((ticket, batch)),
                Ok(other) => left_over = Some(other),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        if self.state == State::Working {
            let batches = group.iter().map(|(_, batch)| &batch[..]);
            match self.store.apply_and_prune(batches, self.options.retention.as_ref()) {
                Ok(pruned) => self.stored(pruned),
                Err(error) => {
                    let bytes: usize = group.iter().map(|(_, batch)| batch_bytes(batch)).sum();
                    self.probe_bytes = bytes.saturating_mul(2).clamp(PROBE_BYTES_MIN, PROBE_BYTES_MAX);
                    self.begin_failing(error.to_string());
                }
            }
        }
        let durable = self.state == State::Working;
        for (ticket, _) in group {
            self.answer(Answer::Persisted { ticket, durable });
        }
        left_over
    }

    fn stored(&mut self, pruned: Pruned) {
        self.backlog = pruned.more;
        self.update_report();
        self.shared.report.lock().unwrap_or_else(PoisonError::into_inner).kept_bytes = pruned.kept_bytes;
    }

    /// Does what follows from a lost job: what came after a lost batch must not be stored.
    fn notice_losses(&mut self) {
        let lost = self.shared.lost.load(Ordering::Acquire);
        if lost == std::mem::replace(&mut self.lost, lost) {
            return;
        }
        match self.state {
            State::Working => self.begin_failing("the disk does not keep up with what is to be stored".into()),
            State::Failing { .. } => {}
            // The owner's answer was lost, or a batch after it.
            State::Back => self.answer(Answer::Back),
        }
    }

    fn begin_failing(&mut self, cause: String) {
        self.answer(Answer::Failed(cause.clone()));
        self.state = State::Failing { attempt_at: Instant::now(), wait: RETRY_MIN };
        let mut report = self.shared.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.failing = Some((SystemTime::now(), cause));
        report.attempts = 0;
    }

    /// Looks whether the store works again, if it is time to.
    fn try_again(&mut self) {
        let State::Failing { attempt_at, wait } = self.state else { return };
        if Instant::now() < attempt_at {
            return;
        }
        match self.store.reopen().and_then(|()| self.store.probe(self.probe_bytes)) {
            Ok(()) => {
                self.state = State::Back;
                self.answer(Answer::Back);
            }
            Err(error) => {
                // A failed probe has to be followed by opening again too, or no question can be answered meanwhile.
                let _still_closed = self.store.reopen();
                self.state = State::Failing { attempt_at: Instant::now() + wait, wait: (wait * 2).min(RETRY_MAX) };
                let free_bytes = self.store.free_bytes();
                let mut report = self.shared.report.lock().unwrap_or_else(PoisonError::into_inner);
                report.attempts += 1;
                report.free_bytes = free_bytes;
                if let Some((_, cause)) = &mut report.failing {
                    *cause = error.to_string();
                }
            }
        }
    }

    fn resume(&mut self, lost: u64) {
        // If something was lost since, the owner is asked again.
        if self.state == State::Back && lost == self.shared.lost.load(Ordering::Acquire) {
            self.state = State::Working;
            self.shared.report.lock().unwrap_or_else(PoisonError::into_inner).failing = None;
            self.answer(Answer::Resumed);
        }
    }

    fn use_idle_time(&mut self) {
        if self.state != State::Working || !self.backlog {
            return;
        }
        match self.store.apply_and_prune([], self.options.retention.as_ref()) {
            Ok(pruned) => self.stored(pruned),
            Err(error) => self.begin_failing(error.to_string()),
        }
    }

    fn update_report(&mut self) {
        let height = self.store.head().ok().flatten().map_or(0, |head| head.height);
        let earliest = self.store.earliest().ok().flatten().unwrap_or(0);
        let (file_bytes, free_bytes) = (self.store.file_bytes(), self.store.free_bytes());
        let mut report = self.shared.report.lock().unwrap_or_else(PoisonError::into_inner);
        (report.height, report.earliest, report.file_bytes) = (height, earliest, file_bytes);
        report.free_bytes = free_bytes;
    }

    fn answer(&self, answer: Answer) {
        // Fails only when the driver has gone, and then nobody needs the answer.
        let _gone = self.answers.blocking_send(answer);
    }
}

/// What a store's failure means to an operator, for `/health`.
#[must_use]
pub(crate) fn remedy(cause: &str) -> &'static str {
    if cause.contains("no longer there") {
        "put the file back, or restart the node"
    } else if cause.contains("damaged") {
        "stop the node and run `starling db check`"
    } else {
        "free space on the disk, or make it writable; the node goes on by itself"
    }
}
