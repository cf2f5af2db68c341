//! By which messages peers of the mesh are tried, and by which not, because honest ones may not bring them either.

use crate::bench::Bench;
use crate::support::*;
use starling_crypto::{Digest, Signature};
use starling_protocol::block::Block;
use starling_protocol::chain::Position;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{BlockId, PeerHandle, Topic};
use starling_protocol::mesh::Verdict;
use starling_protocol::node::Input;
use starling_protocol::time::Duration;
use starling_protocol::transaction::{SignedTransaction, Transaction, TransactionBuilder};
use starling_protocol::verify::{Job, Outcome};

/// A node with a peer that brings everything and one that brings nothing.
struct Tried {
    bench: Bench,
    brings: PeerHandle,
    silent: PeerHandle,
}

/// A suspect is tried by the fifth message at the latest, after eight that it did not bring.
const SOON: u64 = 16;

impl Tried {
    fn new(genesis: &Genesis) -> Self {
        let mut bench = Bench::new(genesis);
        let [brings, silent] = [(); 2].map(|()| bench.connect());
        bench.run_to_slot(3);
        Self { bench, brings, silent }
    }

    fn blocks(&self) -> Topic {
        self.bench.genesis.block_topic().clone()
    }

    /// Whether a message of the one was passed on to the other at once; if not it is tried by that.
    fn brings(&mut self, topic: &Topic, data: &[u8]) -> bool {
        self.bench.send(self.brings, topic, data);
        self.bench.work();
        assert_eq!(self.bench.verdict(topic, data), Some(Verdict::Accept));
        self.is_sent(data)
    }

    fn is_sent(&self, data: &[u8]) -> bool {
        self.bench.sent_to(data).contains(&self.silent)
    }

    /// Brings a block in each of the next slots; says by which the other one is tried.
    fn until_tried(&mut self, from: u64, mut next: impl FnMut(u64) -> Block) -> Option<Block> {
        (from..from + SOON).find_map(|slot| {
            self.bench.run_to_slot(slot);
            let block = next(slot);
            (!self.brings(&self.blocks(), block.bytes())).then_some(block)
        })
    }
}

/// A chain that grows with each call.
fn chain(genesis: &Genesis, mut parent: Position) -> impl FnMut(u64) -> Block {
    let genesis = genesis.clone();
    move |slot| {
        let next = block(&genesis, &parent, slot, Vec::new());
        parent = Position::of(&next);
        next
    }
}

/// Who has seen two others of the slot does not pass this one on: a producer could have honest nodes take each other out of their meshes.
#[test]
fn a_second_block_for_the_slot_ends_trials_by_the_first_one() {
    let genesis = genesis(1);
    for same_slot in [true, false] {
        let mut tried = Tried::new(&genesis);
        let mut made = Vec::new();
        let mut next = chain(&genesis, origin(&genesis));
        let by = tried.until_tried(4, |slot| {
            made.push(next(slot));
            made.last().expect("just made").clone()
        });
        let by = by.expect("nobody is tried by usual blocks");
        let [.., before_last, last, _] = &made[..] else { panic!("it takes eight blocks to be suspect") };
        let (parent, slot) = if same_slot { (last, by.header().slot) } else { (before_last, last.header().slot) };
        let second = block(&genesis, &Position::of(parent), slot, vec![transaction(&genesis, 1, 0, slot + 10)]);
        assert!(tried.brings(&tried.blocks(), second.bytes()), "nobody is tried by the second one");
        assert_eq!(tried.is_sent(by.bytes()), same_slot);
        let failed = tried.bench.node.mesh().counters().trials_failed;
        tried.bench.send_block(tried.silent, &chain(&genesis, Position::of(&by))(slot));
        tried.bench.run(Duration::from_millis(700));
        assert_eq!(tried.bench.node.mesh().counters().trials_failed - failed, u64::from(!same_slot));
    }
}

/// Where the second one is refused because it cannot follow the first.
#[test]
fn a_second_block_that_cannot_follow_ends_trials_by_the_first_one() {
    let genesis = genesis(1);
    let mut tried = Tried::new(&genesis);
    let by = tried.until_tried(4, chain(&genesis, origin(&genesis))).expect("nobody is tried by usual blocks");
    let misplaced = block(&genesis, &Position::of(&by), by.header().slot, Vec::new());
    tried.bench.send_block(tried.brings, &misplaced);
    tried.bench.work();
    assert_eq!(tried.bench.verdict(&tried.blocks(), misplaced.bytes()), Some(Verdict::Ignore));
    assert!(tried.is_sent(by.bytes()));
}

#[test]
fn nobody_is_tried_by_a_block_whose_parent_is_not_here() {
    let genesis = genesis(1);
    let orphan =
        |slot| block(&genesis, &Position { id: BlockId(Digest([9; 32])), height: 1, slot: 2 }, slot, Vec::new());
    let mut tried = Tried::new(&genesis);
    assert_eq!(tried.until_tried(4, orphan), None);
    assert_eq!(tried.bench.node.mesh().counters().trials, 0);
}

/// Others had them before: whoever sends a newcomer what it lacks would have it take everybody else for useless.
#[test]
fn nobody_is_tried_by_old_blocks() {
    let genesis = genesis(1);
    for (age, is_tried) in [(2, true), (3, false)] {
        let mut tried = Tried::new(&genesis);
        let mut next = chain(&genesis, origin(&genesis));
        let by = tried.until_tried(4 + age, |slot| next(slot - age));
        assert_eq!(by.is_some(), is_tried, "{age} slots old");
    }
}

/// Its nonces may be found wrong where it was adopted.
#[test]
fn nobody_is_tried_by_blocks_of_a_fork() {
    let genesis = genesis(1);
    let mut tried = Tried::new(&genesis);
    let mut main = chain(&genesis, origin(&genesis));
    for slot in 4..24 {
        tried.bench.run_to_slot(slot);
        tried.bench.send_block(tried.silent, &main(slot));
        tried.bench.work();
    }
    assert_eq!(tried.until_tried(24, chain(&genesis, origin(&genesis))), None);
    assert_eq!(tried.bench.node.chain().head().height, 20);
}

/// A producer could make the next one's block one by which nobody is tried, by a block that takes long to verify.
#[test]
fn a_block_whose_parent_is_being_verified_tries_peers() {
    let genesis = genesis(1);
    let mut tried = Tried::new(&genesis);
    let mut parent = origin(&genesis);
    let by = (4..4 + SOON).find(|slot| {
        tried.bench.run_to_slot(*slot);
        let number = u8::try_from(*slot).expect("small");
        let next = block(&genesis, &parent, *slot, vec![transaction(&genesis, number, 0, 30)]);
        parent = Position::of(&next);
        tried.bench.send_block(tried.brings, &next);
        // Headers are verified, bodies wait.
        for (ticket, job) in std::mem::take(&mut tried.bench.jobs) {
            if matches!(job, Job::Relayed(_)) {
                let outcome = job.run(&genesis);
                tried.bench.input(Input::Verified { ticket, outcome });
            }
        }
        !tried.is_sent(next.bytes())
    });
    assert!(by.is_some() && tried.bench.node.chain().head().height == 0);
}

fn with_payload(genesis: &Genesis, sender: u8, payload: &[u8]) -> Transaction {
    TransactionBuilder::new(genesis, 30).payload(payload).build(&key(sender)).expect("a valid transaction")
}

/// Who has seen the other one does not pass this one on.
#[test]
fn a_transaction_that_conflicts_ends_trials_by_the_other_one() {
    let genesis = genesis(1);
    for same_sender in [true, false] {
        let mut tried = Tried::new(&genesis);
        let topic = genesis.transaction_topic().clone();
        let by = (1..20).find(|sender| !tried.brings(&topic, with_payload(&genesis, *sender, b"one").bytes()));
        let by = by.expect("nobody is tried by usual transactions");
        let other = with_payload(&genesis, if same_sender { by } else { by - 1 }, b"another");
        // Whoever makes one up has no signature for it.
        let mut forged = other.bytes().to_vec();
        *forged.last_mut().expect("bytes") ^= 1;
        for (bytes, verdict, ends) in
            [(&forged[..], Verdict::Reject, false), (other.bytes(), Verdict::Ignore, same_sender)]
        {
            tried.bench.send(tried.brings, &topic, bytes);
            tried.bench.work();
            assert_eq!(tried.bench.verdict(&topic, bytes), Some(verdict));
            assert_eq!(tried.is_sent(with_payload(&genesis, by, b"one").bytes()), ends);
        }
    }
}

/// Its sender can sign it as often as it likes, and each is another message.
#[test]
fn a_transaction_that_is_signed_twice_ends_trials_by_the_first_signature() {
    let genesis = genesis(1);
    let mut tried = Tried::new(&genesis);
    let topic = genesis.transaction_topic().clone();
    let by = (1..20).find(|sender| !tried.brings(&topic, with_payload(&genesis, *sender, b"one").bytes()));
    let by = with_payload(&genesis, by.expect("nobody is tried by usual transactions"), b"one");
    let again = SignedTransaction { signature: Signature([7; 64]), ..by.to_parts() };
    for (outcome, ends) in [(Outcome::Invalid { index: 0 }, false), (Outcome::Valid, true)] {
        let other =
            Transaction::from_parts(SignedTransaction { signature: Signature([u8::from(ends); 64]), ..again.clone() });
        tried.bench.send(tried.brings, &topic, other.bytes());
        let [(ticket, _)] = std::mem::take(&mut tried.bench.jobs)[..] else { panic!("it is verified") };
        tried.bench.input(Input::Verified { ticket, outcome });
        assert_eq!(tried.is_sent(by.bytes()), ends);
    }
}

/// Who hears of it a moment later finds that it has expired.
#[test]
fn nobody_is_tried_by_a_transaction_that_is_about_to_expire() {
    let genesis = genesis(1);
    for (slots, is_tried) in [(0, false), (1, false), (2, true)] {
        let mut tried = Tried::new(&genesis);
        let topic = genesis.transaction_topic().clone();
        let by = (1..20).find(|sender| !tried.brings(&topic, transaction(&genesis, *sender, 0, 3 + slots).bytes()));
        assert_eq!(by.is_some(), is_tried, "{slots} slots left");
    }
}

/// By its clock each block comes before its slot has begun.
#[test]
fn a_node_whose_clock_is_slow_tries_peers_by_blocks() {
    let genesis = genesis(1);
    let mut tried = Tried::new(&genesis);
    let mut next = chain(&genesis, origin(&genesis));
    let by = (4..4 + SOON).find(|slot| {
        tried.bench.run_to_slot(*slot);
        tried.bench.run(Duration::from_millis(SLOT_MS / 4));
        !tried.brings(&tried.blocks(), next(slot + 1).bytes())
    });
    assert!(by.is_some());
}

#[test]
fn nobody_is_tried_by_what_was_in_the_chain_for_long() {
    let genesis = genesis(1);
    for is_news in [true, false] {
        let mut tried = Tried::new(&genesis);
        let included: Vec<Transaction> = (1..20).map(|sender| transaction(&genesis, sender, 0, 30)).collect();
        tried.brings(&tried.blocks(), block(&genesis, &origin(&genesis), 3, included.clone()).bytes());
        assert_eq!(tried.bench.node.chain().head().height, 1);
        // Of the block that is news some have heard before its transactions.
        tried.bench.run_to_slot(if is_news { 5 } else { 6 });
        let by = included.iter().find(|it| !tried.brings(&genesis.transaction_topic().clone(), it.bytes()));
        assert_eq!(by.is_some(), is_news);
    }
}
