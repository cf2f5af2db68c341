//! Signatures, each verified once however many nodes verify it, and blocks, each decoded once.

use super::ids::DigestMap;
use bytes::Bytes;
use starling_crypto::Signature;
use starling_protocol::block::SignedHeader;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::BlockId;
use starling_protocol::transaction::Transaction;
use starling_protocol::verify::{Job, Outcome};
use std::collections::{HashMap, VecDeque};

/// How many blocks are kept that were decoded: more than a network passes on at a time.
const BLOCKS: usize = 16;

/// Outcomes of verifications.
#[derive(Debug, Default)]
pub(super) struct Verifier {
    /// By what the transaction's id and signature hash to.
    transactions: DigestMap<bool>,
    /// By the header's name and its signature. Looked up and never iterated.
    headers: HashMap<(BlockId, Signature), bool>,
    /// Blocks that were decoded last.
    blocks: VecDeque<Decoded>,
}

/// What came of decoding a block.
#[derive(Debug)]
struct Decoded {
    /// Whether the signature of its header was verified first.
    relayed: bool,
    /// The very bytes, which stay where they are as long as this is kept.
    encoded: Bytes,
    outcome: Outcome,
}

impl Verifier {
    /// What comes of a job.
    pub(super) fn run(&mut self, job: &Job, genesis: &Genesis) -> Outcome {
        let invalid = match job {
            Job::Transaction(transaction) => (!self.is_valid(transaction)).then_some(0),
            Job::Body(transactions) => {
                let invalid = transactions.iter().find(|(_, transaction)| !self.is_valid(transaction));
                invalid.map(|(index, _)| *index)
            }
            Job::Header(block) => (!self.is_signed(block.signed_header(), genesis)).then_some(0),
            Job::Headers(headers) => headers.iter().any(|header| !self.is_signed(header, genesis)).then_some(0),
            Job::Relayed(encoded) => return self.decoded(true, encoded, job, genesis),
            Job::Block(encoded) => return self.decoded(false, encoded, job, genesis),
            Job::Stamp { .. } => return job.run(genesis),
        };
        invalid.map_or(Outcome::Valid, |index| Outcome::Invalid { index })
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

    fn is_signed(&mut self, header: &SignedHeader, genesis: &Genesis) -> bool {
        let key = (header.header.id(), header.signature);
        *self.headers.entry(key).or_insert_with(|| header.verify(genesis).is_ok())
    }

    /// Nodes that are sent a message share its bytes, so a block that was decoded is known by where they are.
    fn decoded(&mut self, relayed: bool, encoded: &Bytes, job: &Job, genesis: &Genesis) -> Outcome {
        let is_it = |known: &&Decoded| {
            known.relayed == relayed && core::ptr::eq::<[u8]>(known.encoded.as_ref(), encoded.as_ref())
        };
        if let Some(known) = self.blocks.iter().find(is_it) {
            return known.outcome.clone();
        }
        // Forgeries come in great numbers, and each to many: they are known by their signatures, and take nobody's place here.
        if relayed && !SignedHeader::of_block(encoded, genesis).is_ok_and(|header| self.is_signed(&header, genesis)) {
            return Outcome::Invalid { index: 0 };
        }
        let outcome = job.run(genesis);
        if self.blocks.len() == BLOCKS {
            self.blocks.pop_front();
        }
        self.blocks.push_back(Decoded { relayed, encoded: encoded.clone(), outcome: outcome.clone() });
        outcome
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

#[cfg(test)]
mod tests {
    use super::*;
    use starling_crypto::SecretKey;
    use starling_protocol::block::Block;
    use starling_protocol::genesis::{GenesisParameters, Limits};
    use starling_protocol::transaction::TransactionBuilder;

    fn key(number: u8) -> SecretKey {
        SecretKey::from_seed(&[number; 32])
    }

    fn genesis() -> Genesis {
        Genesis::new(GenesisParameters {
            name: "verify".into(),
            start_time_ms: 0,
            slot_ms: 1_000,
            producers: vec![key(1).public_key().to_bytes()],
            limits: Limits::default(),
            stamp_bits: 0,
        })
        .expect("a valid genesis")
    }

    fn block(genesis: &Genesis, slot: u64) -> Block {
        let transaction = TransactionBuilder::new(genesis, slot + 5).build(&key(2)).expect("a valid transaction");
        Block::produce(genesis, &key(1), (slot, 1, genesis.block_id()), vec![transaction]).expect("a valid block")
    }

    /// What is answered from memory is what the job would have said, also where blocks of the same name differ in a signature or the same bytes
    /// are judged by other rules.
    #[test]
    fn what_is_remembered_is_what_the_job_says() {
        let genesis = genesis();
        let mut verifier = Verifier::default();
        let good: Vec<Block> = (1..30).map(|slot| block(&genesis, slot)).collect();
        let mut forged = *good[0].signed_header();
        forged.signature.0[5] ^= 1;
        let forged = Block::from_parts(forged, good[0].transactions().to_vec());
        assert_eq!(forged.id(), good[0].id());
        for round in 0..2 {
            for block in good.iter().chain([&forged]) {
                let (encoded, elsewhere) = (block.bytes().clone(), Bytes::copy_from_slice(block.bytes()));
                let header = *block.signed_header();
                let transaction = block.transactions()[0].clone();
                let jobs = [
                    Job::Relayed(encoded.clone()),
                    Job::Block(encoded),
                    Job::Relayed(elsewhere),
                    Job::Header(block.clone()),
                    Job::Headers(vec![*good[1].signed_header(), header]),
                    Job::Transaction(transaction.clone()),
                    Job::Body(vec![(3, transaction)]),
                ];
                for job in jobs {
                    assert_eq!(verifier.run(&job, &genesis), job.run(&genesis), "round {round}: {job:?}");
                }
            }
        }
        assert_eq!(verifier.blocks.len(), BLOCKS);
        assert!(
            verifier.headers.len() == good.len() + 1 && verifier.headers.values().filter(|valid| !**valid).count() == 1
        );
    }
}
