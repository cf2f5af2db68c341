//! Signatures, each verified once however many nodes verify it.

use super::ids::DigestMap;
use starling_protocol::genesis::Genesis;
use starling_protocol::transaction::Transaction;
use starling_protocol::verify::{Job, Outcome};

/// Outcomes of verifications.
#[derive(Debug, Default)]
pub(super) struct Verifier {
    /// By what the transaction's id and signature hash to.
    transactions: DigestMap<bool>,
}

impl Verifier {
    /// What comes of a job.
    pub(super) fn run(&mut self, job: &Job, genesis: &Genesis) -> Outcome {
        match job {
            Job::Transaction(transaction) if self.is_valid(transaction) => Outcome::Valid,
            Job::Transaction(_) => Outcome::Invalid { index: 0 },
            Job::Body(transactions) => {
                let invalid = transactions.iter().find(|(_, transaction)| !self.is_valid(transaction));
                invalid.map_or(Outcome::Valid, |(index, _)| Outcome::Invalid { index: *index })
            }
            _ => job.run(genesis),
        }
    }

    fn is_valid(&mut self, transaction: &Transaction) -> bool {
        let leaf = transaction.leaf();
        if let Some(valid) = self.transactions.get(leaf.as_bytes()) {
            return *valid;
        }
        let valid = transaction.verify_signature().is_ok();
        self.transactions.insert(leaf.as_bytes(), valid);
        valid
    }
}

/// How many signatures a job verifies.
pub(super) fn signatures(job: &Job) -> u64 {
    match job {
        Job::Transaction(_) | Job::Header(_) | Job::Relayed(_) => 1,
        Job::Headers(headers) => headers.len() as u64,
        Job::Body(transactions) => transactions.len() as u64,
        Job::Block(_) | Job::Stamp { .. } => 1,
    }
}
