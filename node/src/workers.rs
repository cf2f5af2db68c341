//! Threads that verify signatures and search for stamps, off the event loop.
//!
//! - **Bounded.** At most [`RELAY_JOBS_MAX`] jobs that a message waits for and [`ADOPTION_JOBS_MAX`] that only the
//!   adoption of a block or the stamp of an own transaction waits for are queued. One more is refused, and the caller
//!   answers the machine with `Shed`.
//! - **Urgent first.** A worker takes a job that delays a message before one that does not, so a full block in the
//!   background never holds up the mesh by more than one job, which takes some milliseconds at most
//!   ([`starling_protocol::verify`]).
//! - **Every job is answered**, unless it is withdrawn before it was begun, or the workers are being stopped.

use starling_protocol::genesis::Genesis;
use starling_protocol::node::Ticket;
use starling_protocol::verify::{Job, Outcome, Urgency};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Queued jobs that a message waits for: some 100 ms of work for two cores.
pub const RELAY_JOBS_MAX: usize = 4_096;
/// Queued jobs that only the adoption of a block waits for: the largest block and another one.
pub const ADOPTION_JOBS_MAX: usize = 1_024;

/// A pool of verifying threads. Dropping it stops them.
#[derive(Debug)]
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    queues: Mutex<Queues>,
    work: Condvar,
    genesis: Genesis,
}

#[derive(Debug, Default)]
struct Queues {
    relay: VecDeque<(Ticket, Job)>,
    adoption: VecDeque<(Ticket, Job)>,
    stopping: bool,
}

impl Workers {
    /// Starts `threads` workers and returns them with the channel that their answers come from.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(threads: usize, genesis: &Genesis) -> io::Result<(Self, mpsc::Receiver<(Ticket, Outcome)>)> {
        // Room for every job that can be under way, so a worker never waits for the event loop.
        let (answers, receiver) = mpsc::channel(RELAY_JOBS_MAX + ADOPTION_JOBS_MAX + threads);
        let shared = Arc::new(Shared { queues: Mutex::default(), work: Condvar::new(), genesis: genesis.clone() });
        let mut workers = Self { shared, threads: Vec::new() };
        for number in 0..threads.max(1) {
            let (shared, answers) = (workers.shared.clone(), answers.clone());
            let thread =
                std::thread::Builder::new().name(format!("verify-{number}")).spawn(move || work(&shared, &answers))?;
            workers.threads.push(thread);
        }
        Ok((workers, receiver))
    }

    /// Queues a job; false when the queue is full and the job was not taken.
    #[must_use]
    pub fn submit(&self, ticket: Ticket, job: Job) -> bool {
        let mut queues = lock(&self.shared.queues);
        let (queue, max) = match job.urgency() {
            Urgency::Relay => (&mut queues.relay, RELAY_JOBS_MAX),
            Urgency::Adoption => (&mut queues.adoption, ADOPTION_JOBS_MAX),
        };
        if queue.len() >= max {
            return false;
        }
        queue.push_back((ticket, job));
        drop(queues);
        self.shared.work.notify_one();
        true
    }

    /// Takes back jobs that a message waits for, as far as they have not begun: they are not answered. Takes time linear in what is queued.
    pub fn withdraw(&self, tickets: &[Ticket]) {
        let tickets: BTreeSet<Ticket> = tickets.iter().copied().collect();
        lock(&self.shared.queues).relay.retain(|(ticket, _)| !tickets.contains(ticket));
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        lock(&self.shared.queues).stopping = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so on stderr; stopping goes on.
            let _panicked = thread.join();
        }
    }
}

fn work(shared: &Shared, answers: &mpsc::Sender<(Ticket, Outcome)>) {
    loop {
        let mut queues = lock(&shared.queues);
        let (ticket, job) = loop {
            if queues.stopping {
                return;
            }
            if let Some(job) = queues.relay.pop_front().or_else(|| queues.adoption.pop_front()) {
                break job;
            }
            queues = shared.work.wait(queues).unwrap_or_else(PoisonError::into_inner);
        };
        drop(queues);
        let outcome = job.run(&shared.genesis);
        if answers.blocking_send((ticket, outcome)).is_err() {
            return;
        }
    }
}

/// The queues hold plain data that no panic leaves half-changed, so a poisoned lock is taken over.
fn lock(queues: &Mutex<Queues>) -> MutexGuard<'_, Queues> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_protocol::genesis::{GenesisParameters, Limits};

    #[test]
    fn what_is_withdrawn_before_it_was_begun_is_not_answered() {
        let genesis = Genesis::new(GenesisParameters {
            name: "workers".into(),
            start_time_ms: 0,
            slot_ms: 1_000,
            producers: vec![starling_crypto::SecretKey::from_seed(&[1; 32]).public_key().to_bytes()],
            limits: Limits::default(),
            stamp_bits: 0,
        });
        let genesis = genesis.expect("a valid genesis");
        let queues = Queues::default();
        let shared = Arc::new(Shared { queues: Mutex::new(queues), work: Condvar::new(), genesis });
        // Without threads nothing begins.
        let workers = Workers { shared: shared.clone(), threads: Vec::new() };
        for ticket in 1..=4 {
            assert!(workers.submit(Ticket(ticket), Job::Relayed(bytes::Bytes::new())));
        }
        workers.withdraw(&[Ticket(2), Ticket(4), Ticket(9)]);
        let left: Vec<Ticket> = lock(&shared.queues).relay.iter().map(|(ticket, _)| *ticket).collect();
        assert_eq!(left, [Ticket(1), Ticket(3)]);
    }
}
