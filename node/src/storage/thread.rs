//! The thread that waits for the disk.
//!
//! Jobs are done one after the other, in order. Batches that wait together are committed together: one flush of the
//! disk serves them all, so a slow disk makes commits larger instead of the queue longer. The queue is bounded; whoever
//! submits to a full one gets the job back as [`Full`] and decides what that means.
//!
//! After a batch that could not be stored, none is stored any more until the node is restarted: a store that lags
//! behind is harmless, one with a gap is no chain.

use super::{Store, StoreError};
use starling_protocol::store::Batch;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Jobs that may wait. A batch is a block or two, so this is minutes of chain; the machine asks for no more than it has
/// requests for. A guess.
pub const QUEUE_MAX: usize = 1_024;

/// Batches that are committed in one go.
const GROUP_MAX: usize = 64;

/// The answer to a batch, with the number that was given with it.
#[derive(Debug)]
pub struct Persisted {
    /// Which batch.
    pub ticket: u64,
    /// Whether it is on the disk.
    pub result: Result<(), StoreError>,
}

/// The queue is full, or the thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the disk does not keep up, and blocks are stored no more; check its speed and health, then restart the node")]
pub struct Full;

/// Why a batch was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The disk does not keep up.
    #[error(transparent)]
    Full(#[from] Full),
    /// A batch before it could not be stored, which was reported then.
    #[error("blocks are stored no more; check the disk, then restart the node")]
    Stopped,
}

type Query = Box<dyn FnOnce(&Store) + Send>;

enum Job {
    Persist { ticket: u64, batch: Batch },
    Query(Query),
}

/// Owns the store. Dropping it finishes what is queued.
#[derive(Debug)]
pub struct StorageThread {
    /// `None` only while closing.
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Whether some batch was not stored.
    gap: Arc<AtomicBool>,
}

impl StorageThread {
    /// Starts the thread; the receiver yields the answers to batches, in order.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(store: Store) -> io::Result<(Self, mpsc::Receiver<Persisted>)> {
        let (jobs, receiver) = sync_channel(QUEUE_MAX);
        // Room for every batch that can be under way, so the thread never waits for the event loop.
        let (answers, persisted) = mpsc::channel(QUEUE_MAX + GROUP_MAX);
        let gap = Arc::new(AtomicBool::new(false));
        let noticed = gap.clone();
        let thread = std::thread::Builder::new()
            .name("storage".into())
            .spawn(move || work(&store, &receiver, &answers, &noticed))?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread), gap }, persisted))
    }

    /// Has a batch applied; its answer comes from the channel of [`Self::start`]. Never waits.
    ///
    /// # Errors
    /// If the queue is full, or a batch before this one could not be stored; then no answer comes.
    pub fn persist(&self, ticket: u64, batch: Batch) -> Result<(), NotTaken> {
        if self.gap.load(Ordering::Relaxed) {
            return Err(NotTaken::Stopped);
        }
        self.submit(Job::Persist { ticket, batch }).inspect_err(|Full| self.gap.store(true, Ordering::Relaxed))?;
        Ok(())
    }

    /// Has the store asked something; `query` runs on the thread, after all batches submitted before, and sends its
    /// findings wherever it likes. Never waits.
    ///
    /// # Errors
    /// If the queue is full; then `query` is dropped without having run.
    pub fn query(&self, query: impl FnOnce(&Store) + Send + 'static) -> Result<(), Full> {
        self.submit(Job::Query(Box::new(query)))
    }

    /// Finishes what is queued and closes the store. Waits for the disk.
    pub fn close(mut self) {
        self.finish();
    }

    fn submit(&self, job: Job) -> Result<(), Full> {
        let jobs = self.jobs.as_ref().ok_or(Full)?;
        jobs.try_send(job).map_err(|_full_or_ended| Full)
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

fn work(store: &Store, jobs: &Receiver<Job>, answers: &mpsc::Sender<Persisted>, gap: &AtomicBool) {
    let mut failed = false;
    let mut next = jobs.recv().ok();
    while let Some(job) = next.take() {
        match job {
            Job::Query(query) => query(store),
            Job::Persist { ticket, batch } => {
                let mut group = vec![(ticket, batch)];
                while group.len() < GROUP_MAX {
                    match jobs.try_recv() {
                        Ok(Job::Persist { ticket, batch }) => group.push((ticket, batch)),
                        Ok(query) => {
                            next = Some(query);
                            break;
                        }
                        Err(_empty_or_closed) => break,
                    }
                }
                persist(store, &group, answers, &mut failed);
                if failed {
                    gap.store(true, Ordering::Relaxed);
                }
            }
        }
        if next.is_none() {
            next = jobs.recv().ok();
        }
    }
}

/// Stores batches up to the first one that fails; `failed` says whether one has, now or before.
fn persist(store: &Store, group: &[(u64, Batch)], answers: &mpsc::Sender<Persisted>, failed: &mut bool) {
    let together = if *failed { Err(StoreError::Gap) } else { store.apply(group.iter().map(|(_, batch)| &batch[..])) };
    let (together, mut cause) = (together.is_ok(), together.err());
    for (ticket, batch) in group {
        // When the group fails, each is tried by itself: those before the one at fault are good. The error of the one at
        // fault is that of the group, because a store that failed once says no more than that it did.
        let result = match (together, *failed) {
            (true, _) => Ok(()),
            (false, true) => Err(StoreError::Gap),
            (false, false) => store.apply([&batch[..]]).map_err(|again| cause.take().unwrap_or(again)),
        };
        *failed |= result.is_err();
        // Fails only when the driver has gone, and then nobody needs the answer.
        let _gone = answers.blocking_send(Persisted { ticket: *ticket, result });
    }
}
