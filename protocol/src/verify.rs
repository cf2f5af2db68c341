//! Expensive checks, as jobs for a worker.
//!
//! The machine decides *that* something has to be verified and what follows from the answer; a [`Job`] is the computation in
//! between. It is a pure function of its content, so a driver may run it on any thread, and a simulator may run it
//! inline and charge virtual time for it. Each unique message is verified once: duplicates never get this far.

use crate::block::Block;
use crate::genesis::Genesis;
use crate::transaction::Transaction;

/// Signatures in one [`Job::Body`]: some two milliseconds of work, so that no single job keeps a worker from more urgent
/// ones for long.
pub const BODY_SIGNATURES_MAX: usize = 32;

/// Something to verify.
#[derive(Clone, Debug)]
pub enum Job {
    /// The signature of one transaction.
    Transaction(Transaction),
    /// The producer's signature over a block's header.
    Header(Block),
    /// The signatures of at most [`BODY_SIGNATURES_MAX`] transactions of a block, each with its place in the block.
    Body(Vec<(usize, Transaction)>),
}

/// How soon a job should be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// A message waits to be forwarded.
    Relay,
    /// A block waits to be adopted, which delays nobody else.
    Adoption,
}

/// What came of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every signature is valid.
    Valid,
    /// A signature is not valid.
    Invalid {
        /// The first such transaction's place in its block; 0 when the job is not about a block's body.
        index: usize,
    },
    /// The job was dropped unexamined, because the workers are overloaded.
    Shed,
}

impl Job {
    /// Does the work: one strict ed25519 verification (some 30 to 60 microseconds) for each signature.
    #[must_use]
    pub fn run(&self, genesis: &Genesis) -> Outcome {
        let invalid = match self {
            Self::Transaction(transaction) => transaction.verify_signature().err().map(|_| 0),
            Self::Header(block) => block.verify_header_signature(genesis).err().map(|_| 0),
            Self::Body(transactions) => {
                let invalid = transactions.iter().find(|(_, transaction)| transaction.verify_signature().is_err());
                invalid.map(|(index, _)| *index)
            }
        };
        invalid.map_or(Outcome::Valid, |index| Outcome::Invalid { index })
    }

    /// How soon it should be done.
    #[must_use]
    pub fn urgency(&self) -> Urgency {
        match self {
            Self::Transaction(_) | Self::Header(_) => Urgency::Relay,
            Self::Body(_) => Urgency::Adoption,
        }
    }
}
