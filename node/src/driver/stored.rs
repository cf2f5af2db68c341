//! What the disk answers, and what is said of it.

use super::Driver;
use crate::api::{DiskReply, StorageState};
use crate::clock;
use crate::storage::{Answer, StorageThread, Store, StoreError, remedy};
use bytes::Bytes;
use starling_protocol::id::TransactionId;
use starling_protocol::node::{Input, Ticket};
use starling_protocol::time::{Duration, Time};
use std::time::UNIX_EPOCH;

/// A disk that fails again and again is complained of this often at most.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// What an earlier life left on the disk.
#[derive(Debug, Default)]
pub struct Restored {
    /// Transactions that were submitted to this node, by their ids.
    pub pending: Vec<(TransactionId, Bytes)>,
    /// What waited in the mempool.
    pub pool: Vec<Bytes>,
}

impl Restored {
    /// Reads it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn read(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { pending: store.pending()?, pool: store.pool()? })
    }
}

/// When the disk was last complained of.
#[derive(Debug, Default)]
pub(super) struct StorageLog {
    complained: Option<Time>,
    /// The lowest kept height that the machine was told; 0 before.
    earliest: u64,
}

impl Driver {
    /// Takes what the disk says.
    pub(super) fn stored(&mut self, answer: Answer) {
        self.tell_earliest();
        match answer {
            Answer::Persisted { ticket, durable } => {
                if let Some(asked) = self.commits.remove(&Ticket(ticket))
                    && durable
                {
                    let took = clock::now().since(asked);
                    self.observer.metrics.storage.commit_seconds.observe(took.as_secs_f64());
                }
                self.feed(Input::Persisted { ticket: Ticket(ticket), durable });
            }
            Answer::Failed(cause) => {
                let now = clock::now();
                if self.storage_log.complained.is_none_or(|last| now.since(last) >= COMPLAINT_INTERVAL) {
                    self.storage_log.complained = Some(now);
                    tracing::error!(
                        cause,
                        "nothing can be stored: submissions are refused until it can be again, which is tried by itself"
                    );
                } else {
                    tracing::debug!(cause, "nothing can be stored again");
                }
            }
            Answer::Back => self.storage.resume(),
            Answer::Resumed => {
                tracing::info!("the disk takes writes again; what waited is being stored");
                self.feed(Input::StorageBack);
            }
        }
    }

    /// Hands over blocks that were read for a peer, or that they could not be read. That some are missing because they have just been pruned is known to the
    /// machine before it answers: a peer that is told otherwise takes the answer for a lie.
    pub(super) fn loaded(&mut self, ticket: Ticket, blocks: Option<Vec<Bytes>>) {
        self.tell_earliest();
        self.feed(Input::Loaded { ticket, blocks });
    }

    /// Tells the machine which is the lowest block that it can serve, if that has changed.
    pub(super) fn tell_earliest(&mut self) {
        let height = self.storage.earliest().max(1);
        if height != self.storage_log.earliest {
            self.storage_log.earliest = height;
            self.feed(Input::Earliest { height });
        }
    }

    /// Whether what should be kept is stored, and if not, why and what to do.
    pub(super) fn storage_state(&self) -> StorageState {
        match (self.storage.report().failing, self.node.storage().failing) {
            (Some((_, cause)), _) => StorageState::Failing { cause: format!("{}; {}", bare(&cause), remedy(&cause)) },
            (None, true) => StorageState::Failing { cause: "what waited is being stored; wait a moment".into() },
            (None, false) => StorageState::Ok,
        }
    }

    /// How the disk is, in figures.
    pub(super) fn disk_reply(&self) -> DiskReply {
        let (report, view) = (self.storage.report(), self.node.storage());
        let since = report.failing.and_then(|(since, _)| since.duration_since(UNIX_EPOCH).ok());
        DiskReply {
            failing_since_unix_s: since.map(|since| since.as_secs()),
            attempts: report.attempts,
            unsaved_blocks: view.unsaved_blocks as u64,
            import_paused: view.import_paused,
            pending_transactions: view.pending_rows as u64,
            file_bytes: report.file_bytes,
            free_bytes: report.free_bytes,
            keep_blocks: self.keep.blocks,
            keep_bytes: self.keep.bytes,
            kept_bytes: report.kept_bytes,
            height: report.height,
            earliest: report.earliest,
        }
    }

    /// Brings the metrics of the disk up to date.
    pub(super) fn report_storage(&mut self) {
        self.tell_earliest();
        let (report, view, metrics) = (self.storage.report(), self.node.storage(), &self.observer.metrics.storage);
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        metrics.unsaved_blocks.set(signed(view.unsaved_blocks as u64));
        metrics.pending_transactions.set(signed(view.pending_rows as u64));
        let blocks = if report.earliest == 0 { 0 } else { report.height.saturating_sub(report.earliest) + 1 };
        metrics.blocks.set(signed(blocks));
    }

    /// Has what waits in the mempool written, and waits for the disk. Submissions whose rows were written are accepted:
    /// the next life offers them to the network.
    pub(super) fn leave(&mut self) {
        let ticket = self.ticket();
        // The machine knows nothing of this ticket, and needs no answer.
        let pool = u64::MAX - ticket.0;
        let mut written = self.storage.persist(pool, self.node.pool_batch());
        self.storage.close();
        while let Ok(answer) = self.stored.try_recv() {
            match answer {
                Answer::Persisted { ticket, durable } if ticket == pool => written = durable,
                Answer::Persisted { ticket, durable } => {
                    self.feed(Input::Persisted { ticket: Ticket(ticket), durable });
                }
                Answer::Failed(_) | Answer::Back | Answer::Resumed => {}
            }
        }
        if !written {
            tracing::warn!(
                "what others sent and waits in the mempool could not be written for the next start; what was submitted \
                 here was written before"
            );
        }
    }
}

/// What is told to whose submission could not be stored, if the system gave a reason.
pub(super) fn storage_trouble(storage: &StorageThread) -> Option<(String, &'static str)> {
    let (_, cause) = storage.report().failing?;
    let advice = remedy(&cause);
    Some((format!("the transaction could not be stored, and was not accepted ({})", bare(&cause)), advice))
}

/// The store's error without its own advice, which is for a node that starts; what stands behind it here is for one that runs.
fn bare(cause: &str) -> &str {
    cause.rsplit_once("; ").map_or(cause, |(cause, _advice)| cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StoreError;

    #[test]
    fn a_failure_of_the_disk_comes_with_one_remedy() {
        let vanished = StoreError::Vanished("/d/chain.redb".into()).to_string();
        assert!(bare(&vanished).ends_with("its disk is gone") && remedy(&vanished).starts_with("put the file back"));
        let damaged = StoreError::Damaged { path: "/d/chain.redb".into(), problem: "odd".into() }.to_string();
        assert_eq!(bare(&damaged), "/d/chain.redb is damaged: odd");
        assert_eq!(bare("no space"), "no space");
    }
}
