//! Signatures, each verified once however many nodes verify it.

use starling_protocol::genesis::Genesis;
use starling_protocol::transaction::Transaction;
use starling_protocol::verify::{Job, Outcome};
use starling_crypto::Digest;
use std::collections::BTreeMap;

/// Outcomes of verifications.
#[derive(Debug, Default)]
pub(super) struct Verifier {
    /// By what the transaction's id and signature hash to.
    transactions: BTreeMap<[u8; 32], bool>,
}

impl Verifier {
    /// What comes of a job.
    pub(super) fn run(&mut self, job: &Job, genesis: &Genesis) -> Outcome {
        match job {
            Job::Transaction(transaction) => match self.is_valid(transaction) {
                true => Outcome::Valid,
                false => Outcome::Invalid { index: 0 },
            },
            Job::Body(transactions) => {
                let invalid = transactions.iter().find(|(_, transaction)| !self.is_valid(transaction));
                invalid.map_or(Outcome::Valid, |(index, _)| Outcome::Invalid { index: *index })
            }
            _ => job.run(genesis),
        }
    }

    fn is_valid(&mut self, transaction: &Transaction) -> bool {
        let leaf: Digest = transaction.leaf();
        *self.transactions.entry(*leaf.as_bytes()).or_insert_with(|| transaction.verify_signature().is_ok())
    }
}

/// How many signatures a job verifies.
pub(super) fn signatures(job: &Job) -> u64 {
    match job {
        Job::Transaction(_) | Job::Header(_) => 1,
        Job::Headers(headers) => headers.len() as u64,
        Job::Body(transactions) => transactions.len() as u64,
        Job::Block(_) | Job::Stamp { .. } => 1,
    }
}
