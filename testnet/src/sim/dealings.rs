//! What honest nodes had to do with attackers: whose messages they took in, verified, and rejected.
//!
//! A message is taken in when the mesh takes its first copy into validation; whose it is, is who sent that copy. It is followed from
//! there by its id, because the connection may be gone when the verdict falls. What is verified is known by the transaction or the block, which is all
//! that a verifier sees; only what it finds invalid is counted, since of what is valid nobody complains. What a node has abandoned by the time
//! that its verification would have been done does not count: its verifier never comes to it.
//!
//! Nothing is kept of what honest nodes send to each other. The cost is one entry for each message of attackers under way, and one for each
//! pair of a node and an attacker that it heard messages from.

use starling_crypto::Digest;
use starling_protocol::id::MessageId;
use starling_protocol::mesh::Verdict;
use starling_protocol::message::Payload;
use starling_protocol::transaction::Transaction;
use std::collections::{BTreeMap, BTreeSet};

/// What nodes had to do with attackers.
#[derive(Debug, Default)]
pub struct Dealings {
    by_pair: BTreeMap<(u32, u32), Dealing>,
    under_way: BTreeMap<(u32, MessageId), u32>,
    /// Of messages under way, by the transactions that they carry with their signatures: forgeries share the name of what they forge.
    carried: BTreeMap<(u32, Digest), u32>,
    /// Of these, those whose signatures are wrong.
    invalid: BTreeSet<(u32, Digest)>,
    /// Blocks under way whose signatures are wrong. Each is a message of its own.
    forged: BTreeSet<(u32, MessageId)>,
}

/// What one node had to do with one attacker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dealing {
    /// Messages of the attacker that the node took into validation.
    pub taken_in: u64,
    /// Of these, how many it rejected.
    pub rejected: u64,
    /// Transactions and blocks of the attacker that were verified, and found invalid.
    pub verified: u64,
}

impl Dealings {
    /// By node and attacker, of those who had to do with each other.
    pub fn pairs(&self) -> impl Iterator<Item = ((u32, u32), Dealing)> + '_ {
        self.by_pair.iter().map(|(pair, dealing)| (*pair, *dealing))
    }

    pub(super) fn taken_in(&mut self, node: u32, attacker: u32, payload: &Payload) {
        self.by_pair.entry((node, attacker)).or_default().taken_in += 1;
        self.under_way.insert((node, payload.id()), attacker);
        if let Some(transaction) = payload.transaction() {
            self.carried.insert((node, transaction.leaf()), attacker);
        }
    }

    pub(super) fn judged(&mut self, node: u32, payload: &Payload, verdict: Verdict) {
        if self.under_way.is_empty() {
            return;
        }
        let Some(attacker) = self.under_way.remove(&(node, payload.id())) else { return };
        let mut verified = self.forged.remove(&(node, payload.id()));
        if let Some(transaction) = payload.transaction() {
            let key = (node, transaction.leaf());
            self.carried.remove(&key);
            verified = self.invalid.remove(&key);
        }
        verified &= verdict != Verdict::Shed;
        let dealing = self.by_pair.entry((node, attacker)).or_default();
        dealing.verified += u64::from(verified);
        dealing.rejected += u64::from(verdict == Verdict::Reject);
    }

    /// A signature is wrong, which the node is about to find out.
    pub(super) fn found_invalid(&mut self, node: u32, transaction: &Transaction) {
        let key = (node, transaction.leaf());
        if self.carried.contains_key(&key) {
            self.invalid.insert(key);
        }
    }

    /// The same of a block.
    pub(super) fn found_forged(&mut self, node: u32, block: MessageId) {
        if self.under_way.contains_key(&(node, block)) {
            self.forged.insert((node, block));
        }
    }
}
