//! One rule at a time.

use crate::support::*;
use bytes::Bytes;
use starling_crypto::Signature;
use starling_protocol::block::{Block, SignedHeader};
use starling_protocol::chain::{
    Chain, Config, Effect, Event, IgnoreReason, Invalid, Misplaced, NonceError, PeerFault, Position, Relay,
    ResponseTicket, Verified,
};
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{BlockId, PeerHandle};
use starling_protocol::mempool::{self, Mempool, Source};
use starling_protocol::random::Stream;
use starling_protocol::request::{Answer, Head, Request, Response, Status};

struct Rig {
    genesis: Genesis,
    chain: Chain,
    store: Store,
    now: u64,
}

impl Rig {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let genesis = genesis();
        Self { chain: Chain::new(genesis.clone(), config), genesis, store: Store::default(), now: 1_000 }
    }

    fn block(
        &self,
        parent: &Position,
        slot: u64,
        transactions: Vec<starling_protocol::transaction::Transaction>,
    ) -> Block {
        block(&self.genesis, parent, slot, transactions)
    }

    fn origin(&self) -> Position {
        origin(&self.genesis)
    }

    fn insert(&mut self, block: &Block) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.chain.insert_block(at(self.now), block.clone(), None, Verified::Valid, &mut effects);
        for effect in &effects {
            if let Effect::Persist(batch) = effect {
                self.store.apply(batch);
            }
        }
        self.chain.check();
        effects
    }
}

fn head_changes(effects: &[Effect]) -> Vec<(Vec<u64>, Vec<u64>)> {
    let slots = |blocks: &[Block]| blocks.iter().map(|block| block.header().slot).collect::<Vec<_>>();
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::HeadChanged { undone, adopted } => Some((slots(undone), slots(adopted))),
            _ => None,
        })
        .collect()
}

#[test]
fn the_highest_then_the_earliest_then_the_lowest_id_wins() {
    let mut rig = Rig::new();
    let origin = rig.origin();
    let late = rig.block(&origin, 5, vec![]);
    let early = rig.block(&origin, 4, vec![]);
    assert_eq!(head_changes(&rig.insert(&late)), [(vec![], vec![5])]);
    assert_eq!(head_changes(&rig.insert(&early)), [(vec![5], vec![4])]);
    let on_late = rig.block(&Position::of(&late), 6, vec![]);
    assert_eq!(head_changes(&rig.insert(&on_late)), [(vec![4], vec![5, 6])]);

    // Two of one producer in one slot: the lower id.
    let one = rig.block(&Position::of(&on_late), 7, vec![transaction(1, 0, 8)]);
    let other = rig.block(&Position::of(&on_late), 7, vec![transaction(2, 0, 8)]);
    let (lower, higher) = if one.id() < other.id() { (one, other) } else { (other, one) };
    rig.insert(&higher);
    rig.insert(&lower);
    assert_eq!(rig.chain.head().id, lower.id());
    rig.insert(&higher);
    assert_eq!(rig.chain.head().id, lower.id());
}

#[test]
fn a_reorganisation_returns_transactions_to_the_mempool_and_moves_the_index() {
    let mut rig = Rig::new();
    let mut pool = Mempool::new(mempool::Config::default(), &rig.genesis, Stream::from_seed([9; 32]));
    let [a0, a1, b0] = [transaction(1, 0, 20), transaction(1, 1, 20), transaction(2, 0, 20)];
    let origin = rig.origin();
    let first = rig.block(&origin, 1, vec![a0.clone(), a1.clone()]);
    rig.insert(&first);
    assert_eq!(rig.chain.next_nonce(&account(1), 2), Some(2));
    assert_eq!(rig.chain.transaction_location(&a1.id()).expect("is indexed").position, 1);

    let side = rig.block(&origin, 2, vec![b0, a0.clone()]);
    rig.insert(&side);
    let tip = rig.block(&Position::of(&side), 3, vec![]);
    let effects = rig.insert(&tip);
    assert_eq!(head_changes(&effects), [(vec![1], vec![2, 3])]);
    let Some(Effect::HeadChanged { undone, adopted }) =
        effects.iter().find(|effect| matches!(effect, Effect::HeadChanged { .. }))
    else {
        panic!("the head has changed");
    };
    let settled = pool.on_head_changed(undone, adopted, 3, |account| rig.chain.next_nonce(account, 3));
    assert_eq!(settled.returned, 1);
    assert_eq!(pool.iter().map(|transaction| transaction.id()).collect::<Vec<_>>(), [a1.id()]);
    assert_eq!(rig.chain.next_nonce(&account(1), 4), Some(1));
    assert_eq!(rig.chain.transaction_location(&a1.id()), None);
    assert_eq!(rig.store.transactions.len(), 2);
    assert_eq!(rig.store.transactions[&a0.id()], (side.id(), 1, 1));
}

#[test]
fn an_included_transaction_is_known_as_such_for_as_long_as_it_may_still_be_travelling() {
    let mut rig = Rig::new();
    let included = transaction(1, 0, 20);
    let block = rig.block(&rig.origin(), 1, vec![included.clone()]);
    assert!(rig.chain.includes(at(1), &included).is_none());
    rig.insert(&block);
    let relay_slots_max = Config::default().relay_slots_max;
    for slot in [1, 1 + relay_slots_max] {
        assert_eq!(rig.chain.includes(at(slot), &included), Some(1));
    }
    assert_eq!(
        rig.chain.includes(at(2 + relay_slots_max), &included),
        None,
        "or it could be made to travel again and again"
    );
    assert!(rig.chain.includes(at(1), &transaction_saying(1, 0, 20, b"other")).is_none());
    // The id does not cover the signature: with a spoilt one it is another message, and not valid.
    let mut parts = included.to_parts();
    parts.signature.0[0] ^= 1;
    let spoilt = starling_protocol::transaction::Transaction::from_parts(parts);
    assert_eq!(spoilt.id(), included.id());
    assert!(rig.chain.includes(at(1), &spoilt).is_none());
}

#[test]
fn a_bad_nonce_makes_the_branch_invalid_and_the_next_best_is_taken() {
    let mut rig = Rig::new();
    let origin = rig.origin();
    let good = rig.block(&origin, 1, vec![transaction(1, 0, 20)]);
    rig.insert(&good);
    // Height 1 of the other branch is fine, height 2 replays nonce 0, height 3 stands on it.
    let side = rig.block(&origin, 2, vec![transaction(1, 0, 20)]);
    let bad = rig.block(&Position::of(&side), 3, vec![transaction_saying(1, 0, 20, b"again")]);
    let on_bad = rig.block(&Position::of(&bad), 4, vec![]);
    rig.insert(&side);
    let effects = rig.insert(&bad);
    let error = NonceError::Unexpected { index: 0, found: 0, expected: 1 };
    let reason = Invalid::Nonce(error);
    assert_eq!(events(&effects), [&Event::Invalid { block: bad.id(), height: 2, reason }]);
    assert!(effects.contains(&Effect::Disputed { slot: 3 }), "others may not have found out");
    assert_eq!(head_changes(&effects), [], "the head is what it was, so nobody hears of the attempt");
    assert_eq!(rig.chain.head(), Position::of(&good));
    assert_eq!(error.to_string(), "transaction 0 of the block has nonce 0, but its sender's next one is 1");

    let effects = rig.insert(&on_bad);
    let reason = Invalid::Ancestor(bad.id());
    assert_eq!(events(&effects), [&Event::Invalid { block: on_bad.id(), height: 3, reason }]);
    assert!(effects.contains(&Effect::Disputed { slot: 4 }));
    assert_eq!(rig.chain.head(), Position::of(&good));
    let relay = rig.chain.precheck_relay(at(4), on_bad.header());
    assert_eq!(relay, Relay::Ignore(IgnoreReason::Invalid), "its relays are not to blame");
    // The valid part of the branch can still be built on.
    let better = rig.block(&Position::of(&side), 5, vec![transaction(1, 1, 20)]);
    assert_eq!(head_changes(&rig.insert(&better)), [(vec![1], vec![2, 5])]);
}

#[test]
fn a_sender_is_forgotten_only_when_its_longest_lived_transaction_has_expired() {
    let mut rig = Rig::new();
    let origin = rig.origin();
    let long_lived = transaction(1, 5, 12);
    let first = rig.block(&origin, 1, vec![long_lived.clone(), transaction(1, 6, 3)]);
    rig.insert(&first);
    assert_eq!(rig.chain.next_nonce(&account(1), 12), Some(7), "nonce 5 could be replayed up to slot 12");
    assert_eq!(rig.chain.next_nonce(&account(1), 13), None);
    let replay = rig.block(&Position::of(&first), 12, vec![long_lived]);
    rig.insert(&replay);
    assert_eq!(rig.chain.head().id, first.id());
    let anew = rig.block(&Position::of(&first), 13, vec![transaction(1, 2, 20)]);
    rig.insert(&anew);
    assert_eq!(rig.chain.head().id, anew.id());
    assert_eq!(rig.chain.next_nonce(&account(1), 13), Some(3));
}

#[test]
fn whom_a_fork_from_the_root_needs_remembered_is_remembered() {
    // Undone down to the root, the chain must still know a sender whose transaction expires right after the root.
    for expiry_slot in 5..=9 {
        let mut rig = Rig::with(Config { undo_depth: 4, ..Config::default() });
        let included = transaction(1, 3, expiry_slot);
        let first = rig.block(&rig.origin(), 1, vec![included.clone()]);
        rig.insert(&first);
        for block in blocks_after(&rig.genesis, &Position::of(&first), 7) {
            rig.insert(&block);
        }
        let root = rig.chain.root();
        assert_eq!((root.slot, rig.chain.head().slot), (4, 8));
        let mut parent = root;
        for slot in expiry_slot..expiry_slot + 5 {
            let transactions = if slot == expiry_slot { vec![included.clone()] } else { vec![] };
            // A payload of its own keeps the branch apart from the other where both have the same slot.
            let other = transaction_saying(2, slot, slot, b"fork");
            let block = rig.block(&parent, slot, [transactions, vec![other]].concat());
            rig.insert(&block);
            parent = Position::of(&block);
        }
        assert_ne!(rig.chain.head(), parent, "the fork replays a transaction of expiry slot {expiry_slot}");
        assert_eq!(rig.chain.head().slot, 8);
    }
}

#[test]
fn relaying_asks_for_no_more_than_a_header_can_tell() {
    let mut rig = Rig::new();
    let origin = rig.origin();
    let parent = rig.block(&origin, 50, vec![]);
    rig.insert(&parent);
    let judge = |rig: &Rig, block: &Block| rig.chain.precheck_relay(at(60), block.header());
    let next = rig.block(&Position::of(&parent), 60, vec![]);
    assert_eq!(judge(&rig, &next), Relay::Accept);
    let early = rig.block(&Position::of(&parent), 61, vec![]);
    assert_eq!(judge(&rig, &early), Relay::Ignore(IgnoreReason::Early { slot: 61 }));
    let late = rig.block(&origin, 60 - Config::default().relay_slots_max - 1, vec![]);
    assert_eq!(judge(&rig, &late), Relay::Ignore(IgnoreReason::Late { slot: 27 }));
    let unknown = misplaced(&rig.genesis, next.id(), 59, 30);
    assert_eq!(judge(&rig, &unknown), Relay::Accept, "without the parent nothing speaks against it");
    // What the parent tells is held against the block once its producer is known to have signed it.
    for (block, reason) in [
        (misplaced(&rig.genesis, parent.id(), 55, 3), Misplaced::Height { height: 3, parent: 1 }),
        (misplaced(&rig.genesis, parent.id(), 50, 2), Misplaced::Slot { slot: 50, parent: 50 }),
    ] {
        assert_eq!(judge(&rig, &block), Relay::Accept, "the signature is to be verified first");
        let mut effects = Vec::new();
        let relay = rig.chain.check_relay(at(60), block.signed_header(), &mut effects);
        assert_eq!(relay, Relay::Ignore(IgnoreReason::Invalid));
        let height = block.header().height;
        let invalid = Event::Invalid { block: block.id(), height, reason: Invalid::Position(reason) };
        assert!(events(&effects).contains(&&invalid), "{effects:?}");
        assert_eq!(judge(&rig, &block), Relay::Ignore(IgnoreReason::Invalid), "known from now on");
    }
}

#[test]
fn two_blocks_for_a_slot_are_evidence_and_a_third_is_ignored() {
    let mut rig = Rig::new();
    let origin = rig.origin();
    let blocks: Vec<Block> = (1..=3).map(|sender| rig.block(&origin, 9, vec![transaction(sender, 0, 9)])).collect();
    let mut effects = Vec::new();
    let relays: Vec<Relay> =
        blocks.iter().map(|block| rig.chain.check_relay(at(9), block.signed_header(), &mut effects)).collect();
    assert_eq!(relays, [Relay::Accept, Relay::Accept, Relay::Ignore(IgnoreReason::Third { slot: 9 })]);
    let headers = Box::new([*blocks[0].signed_header(), *blocks[1].signed_header()]);
    assert_eq!(events(&effects), [&Event::Equivocation { headers }], "reported once");
    assert!(effects.contains(&Effect::Disputed { slot: 9 }));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::PeerFault { .. })), "relays are not to blame");
    effects.clear();
    assert_eq!(rig.chain.check_relay(at(9), blocks[0].signed_header(), &mut effects), Relay::Accept);
    assert_eq!(effects, [], "a header that is known is no news");

    // All three can become part of the tree, or an equivocator could split the network.
    for block in &blocks {
        rig.insert(block);
    }
    let on_third = rig.block(&Position::of(&blocks[2]), 10, vec![]);
    rig.insert(&on_third);
    assert_eq!(rig.chain.head().id, on_third.id());
}

/// Nodes that have adopted the branch refuse all of it, and others do not know yet.
#[test]
fn what_follows_on_an_invalid_block_is_disputed_with_it() {
    let mut rig = Rig::new();
    let mut main = rig.origin();
    for slot in 1..=3 {
        let next = rig.block(&main, slot, vec![]);
        rig.insert(&next);
        main = Position::of(&next);
    }
    let twice = vec![transaction(1, 0, 20), transaction_saying(1, 0, 20, b"again")];
    let bad = rig.block(&rig.origin(), 4, twice);
    let mut parent = bad.clone();
    rig.insert(&bad);
    for slot in 5..=6 {
        parent = rig.block(&Position::of(&parent), slot, vec![]);
        assert_eq!(rig.insert(&parent), [], "it is not higher");
    }
    let effects = rig.insert(&rig.block(&Position::of(&parent), 7, vec![]));
    for slot in 4..=7 {
        assert!(effects.contains(&Effect::Disputed { slot }), "slot {slot}");
    }
}

/// A producer can sign a block as often as it likes, and each is another message.
#[test]
fn the_same_block_under_another_signature_is_not_passed_on() {
    let mut rig = Rig::new();
    let block = rig.block(&rig.origin(), 9, vec![transaction(1, 0, 9)]);
    let again = SignedHeader { signature: Signature([7; 64]), ..*block.signed_header() };
    let mut effects = Vec::new();
    assert_eq!(rig.chain.check_relay(at(9), block.signed_header(), &mut effects), Relay::Accept);
    assert_eq!(effects, []);
    let relay = rig.chain.check_relay(at(9), &again, &mut effects);
    assert_eq!(relay, Relay::Ignore(IgnoreReason::SignedAgain { slot: 9 }));
    assert_eq!(effects, [Effect::Disputed { slot: 9 }], "and is no evidence of two blocks");
}

/// Whoever was given one of the two when it asked for it has not passed that one on.
#[test]
fn a_block_that_was_fetched_is_passed_on_under_another_signature_once() {
    let mut rig = Rig::new();
    let block = rig.block(&rig.origin(), 9, vec![transaction(1, 0, 9)]);
    let mut effects = Vec::new();
    rig.chain.insert_block(at(9), block.clone(), None, Verified::Valid, &mut effects);
    let signed = |number| SignedHeader { signature: Signature([number; 64]), ..*block.signed_header() };
    let relays = [1, 2, 1].map(|number| rig.chain.check_relay(at(9), &signed(number), &mut effects));
    assert_eq!(relays, [Relay::Accept, Relay::Ignore(IgnoreReason::SignedAgain { slot: 9 }), Relay::Accept]);
}

#[test]
fn an_invalid_body_takes_waiting_descendants_along() {
    let mut rig = Rig::with(Config { ..Config::default() });
    let mut effects = Vec::new();
    rig.chain.peer_connected(at(1), peer(1), &mut effects);
    let origin = rig.origin();
    let parent = rig.block(&origin, 1, vec![]);
    let child = rig.block(&Position::of(&parent), 2, vec![]);
    // The parent's header was accepted, its body is being verified: nobody is asked for it.
    rig.chain.check_relay(at(2), parent.signed_header(), &mut effects);
    effects.clear();
    rig.chain.insert_block(at(2), child.clone(), Some(peer(1)), Verified::Valid, &mut effects);
    assert_eq!(effects, [Effect::Event(Event::Orphaned { block: child.id(), parent: parent.id() })]);
    assert_eq!(rig.chain.orphans().0, 1);
    let error = starling_protocol::block::BodyError::Duplicate { first: 0, second: 1, id: transaction(1, 0, 1).id() };
    rig.chain.insert_block(at(2), parent.clone(), Some(peer(1)), Verified::BodyInvalid(error), &mut effects);
    rig.chain.check();
    assert_eq!(rig.chain.orphans().0, 0);
    let relay = rig.chain.precheck_relay(at(2), child.header());
    assert_eq!(relay, Relay::Ignore(IgnoreReason::Invalid));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::PeerFault { .. })), "the producer is to blame");
}

#[test]
fn blocks_beyond_the_undoable_depth_leave_memory_and_deeper_forks_are_refused() {
    let mut rig = Rig::with(Config { undo_depth: 8, ..Config::default() });
    let origin = rig.origin();
    let chain = blocks_after(&rig.genesis, &origin, 20);
    let fork = rig.block(&Position::of(&chain[4]), 40, vec![]);
    for block in &chain {
        rig.insert(block);
    }
    assert_eq!(rig.chain.root(), Position::of(&chain[11]));
    assert_eq!(rig.chain.blocks_in_memory().0, 8);
    assert_eq!(rig.chain.block_at(12), None);
    assert_eq!(rig.chain.block_at(13), Some(&chain[12]));
    let effects = rig.insert(&fork);
    let deep = Event::DeepFork { block: fork.id(), height: 6, root_height: 12, from: None };
    assert_eq!(events(&effects), [&deep]);
    let deepest = rig.block(&rig.chain.root(), 41, vec![]);
    assert_eq!(events(&rig.insert(&deepest)), [] as [&Event; 0], "on the root itself a fork may still begin");
}

#[test]
fn heavy_blocks_shorten_the_undoable_depth_to_keep_memory_bounded() {
    let config = Config { undo_depth: 50, undo_depth_min: 3, tree_bytes_max: 6_000, ..Config::default() };
    let mut rig = Rig::with(config);
    let mut parent = rig.origin();
    for slot in 1..=30 {
        let payload = [0; 800];
        let next = rig.block(&parent, slot, vec![transaction_saying(1, slot - 1, slot + 20, &payload)]);
        rig.insert(&next);
        parent = Position::of(&next);
        assert!(rig.chain.blocks_in_memory().1 <= 6_000);
    }
    assert_eq!(rig.chain.head(), parent);
    assert!(rig.chain.head().height - rig.chain.root().height >= 3);
    assert_eq!(rig.chain.accounts_len(), 1);
}

#[test]
fn side_branches_cannot_fill_the_memory() {
    let mut rig = Rig::with(Config { tree_blocks_max: 12, ..Config::default() });
    let origin = rig.origin();
    let chain = blocks_after(&rig.genesis, &origin, 6);
    for block in &chain {
        rig.insert(block);
    }
    for slot in 100..130 {
        let side = rig.block(&Position::of(&chain[usize::try_from(slot % 5).expect("small")]), slot, vec![]);
        rig.insert(&side);
        assert!(rig.chain.blocks_in_memory().0 <= 12);
    }
    assert_eq!(rig.chain.head(), Position::of(&chain[5]));
}

#[test]
fn a_restored_chain_is_the_one_that_was_stored() {
    let config = Config { undo_depth: 4, ..Config::default() };
    let mut rig = Rig::with(config.clone());
    let mut parent = rig.origin();
    for slot in 1..=60 {
        let sender = u8::try_from(slot % 4).expect("small") + 1;
        let next = rig.chain.next_nonce(&account(sender), slot).unwrap_or(slot);
        let block = rig.block(&parent, slot, vec![transaction(sender, next, slot + slot % 20)]);
        rig.insert(&block);
        parent = Position::of(&block);
    }
    let stored = rig.store.canonical_blocks(&rig.genesis);
    let depth = usize::try_from(Chain::restore_depth(&rig.genesis, &config)).expect("small");
    assert!(depth < stored.len());
    for blocks in [&stored[..], &stored[stored.len() - depth..]] {
        let restored = Chain::restore(rig.genesis.clone(), config.clone(), blocks.to_vec()).expect("a chain");
        restored.check();
        assert_eq!(restored.head(), rig.chain.head());
        assert_eq!(restored.root(), rig.chain.root());
        assert_eq!(restored.locator(), rig.chain.locator());
        for sender in 1..=4 {
            for slot in 61..=81 {
                let nonces = [&restored, &rig.chain].map(|chain| chain.next_nonce(&account(sender), slot));
                assert_eq!(nonces[0], nonces[1], "sender {sender} in slot {slot}");
            }
        }
    }
    let mut gap = stored;
    gap.remove(30);
    let error = Chain::restore(rig.genesis.clone(), config, gap).expect_err("a gap").to_string();
    assert!(error.contains("does not follow on block") && error.contains("fetch the chain again"), "{error}");
}

#[test]
fn a_template_extends_the_head_and_no_slot_is_signed_for_twice() {
    let mut rig = Rig::new();
    let mut pool = Mempool::new(mempool::Config::default(), &rig.genesis, Stream::from_seed([9; 32]));
    for (sender, nonce) in [(1, 0), (1, 1), (2, 0)] {
        pool.insert(transaction(sender, nonce, 20), Source::Local, None, 1).expect("room");
    }
    let template = rig.chain.produce_candidate(3, &pool).expect("slot 3 is free");
    assert_eq!((template.slot, template.height, template.parent), (3, 1, rig.genesis.block_id()));
    assert_eq!(template.transactions.len(), 3);
    let block = rig.block(&rig.origin(), 3, template.transactions);
    rig.insert(&block);
    assert_eq!(rig.chain.head().id, block.id());
    assert_eq!(rig.chain.produce_candidate(3, &pool), None, "the slot has a block");
    assert_eq!(rig.chain.produce_candidate(2, &pool), None, "the slot is before the head's");
    // A block of ours that lost the fork choice still counts as signed.
    let lost = rig.block(&rig.origin(), 9, vec![]);
    rig.insert(&lost);
    assert_eq!(rig.chain.produce_candidate(9, &pool), None);
    assert!(rig.chain.produce_candidate(10, &pool).is_some());
}

fn answered(effects: &[Effect]) -> Answer {
    match effects {
        [Effect::Respond { response: Some(Response { answer, .. }), .. }] => answer.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_from_disk_are_bounded_and_an_empty_one_is_no_lie() {
    let mut rig = Rig::with(Config { undo_depth: 4, served_per_peer_max: 2, served_max: 3, ..Config::default() });
    for block in blocks_after(&rig.genesis, &rig.origin(), 10) {
        rig.insert(&block);
    }
    let locator = vec![rig.genesis.block_id()];
    let status = rig.chain.own_status();
    let mut ask = |from: u32, ticket: u64, request: Request| {
        let mut effects = Vec::new();
        rig.chain.on_request(at(20), peer(from), ResponseTicket(ticket), request, &mut effects);
        effects.pop().expect("answered or loaded")
    };
    let after = || Request::Headers { locator: locator.clone(), headers_max: 9 };
    let respond = |ticket, answer| Effect::Respond {
        ticket: ResponseTicket(ticket),
        response: Some(Response { status, answer }),
    };
    let refused = |ticket| respond(ticket, Answer::Busy);
    let first = ask(1, 1, after());
    let second = ask(1, 2, Request::Blocks(vec![BlockId(starling_crypto::Digest([1; 32]))]));
    let (Effect::Load { ticket: first, .. }, Effect::Load { ticket: second, .. }) = (first, second) else {
        panic!("blocks below the root are on disk");
    };
    assert_eq!(ask(1, 3, after()), refused(3), "two for one peer");
    let Effect::Load { ticket: third, .. } = ask(2, 4, after()) else { panic!("they are on disk") };
    assert_eq!(ask(3, 5, after()), refused(5), "three in all");

    let mut effects = Vec::new();
    rig.chain.on_loaded(at(20).now, first, Some(vec![]), &mut effects);
    assert_eq!(effects, [refused(1)], "there are such blocks, so an empty answer would look like a lie");
    effects.clear();
    rig.chain.on_loaded(at(20).now, second, Some(vec![Bytes::new()]), &mut effects);
    assert_eq!(effects, [respond(2, Answer::Blocks(vec![Bytes::new()]))], "there is no such block");
    effects.clear();
    rig.chain.on_loaded(at(20).now, second, None, &mut effects);
    assert_eq!(effects, [], "each is answered once");

    // Who has pruned may have none, which is no failure.
    rig.chain.set_earliest(5);
    rig.chain.on_loaded(at(20).now, third, None, &mut effects);
    let mut answers = vec![answered(&effects)];
    for loaded in [Some(vec![]), None] {
        effects.clear();
        rig.chain.on_responded(at(20).now, ResponseTicket(4));
        let after = Request::Headers { locator: locator.clone(), headers_max: 9 };
        rig.chain.on_request(at(20), peer(2), ResponseTicket(4), after, &mut effects);
        let Some(Effect::Load { ticket, .. }) = effects.pop() else { panic!("they are on disk") };
        rig.chain.on_loaded(at(20).now, ticket, loaded, &mut effects);
        answers.push(answered(&effects));
    }
    assert_eq!(answers, [Answer::Busy, Answer::Headers(vec![]), Answer::Busy]);
}

#[test]
fn who_is_caught_at_a_parent_is_followed_no_longer_and_somebody_else_is_at_once() {
    let mut rig = Rig::new();
    let blocks = blocks_after(&rig.genesis, &rig.origin(), 3);
    let (liar, other) = (peer(1), peer(2));
    let asked = |effects: &[Effect], whom: PeerHandle, is_meant: fn(&Request) -> bool| {
        effects.iter().find_map(|effect| match effect {
            Effect::Request { request, peer, body } if *peer == whom && is_meant(body) => Some(*request),
            _ => None,
        })
    };
    let (is_status, is_headers) =
        (|body: &Request| matches!(body, Request::Status(_)), |body: &Request| matches!(body, Request::Headers { .. }));
    let claims = |height: u64| Status {
        head: Head { height, ..Position::of(&blocks[2]).head() },
        ..Chain::new(genesis(), Config::default()).own_status()
    };
    let answer = |rig: &mut Rig, request, height, answer| {
        let (mut effects, response) = (Vec::new(), Response { status: claims(height), answer });
        rig.chain.on_response(at(1_000), request, Ok(response), &mut effects);
        rig.chain.check();
        effects
    };
    let mut effects = Vec::new();
    for peer in [liar, other] {
        rig.chain.peer_connected(at(1_000), peer, &mut effects);
    }
    let statuses = [liar, other].map(|peer| asked(&effects, peer, is_status).expect("who connects is asked"));
    effects.clear();
    rig.chain.insert_block(at(1_000), blocks[2].clone(), Some(liar), Verified::Valid, &mut effects);
    let parent =
        asked(&effects, liar, |body| matches!(body, Request::Blocks(_))).expect("whoever sent its child is asked");
    let followed = answer(&mut rig, statuses[0], 100, Answer::Status);
    assert!(asked(&followed, liar, is_headers).is_some(), "{followed:?}");
    assert!(asked(&answer(&mut rig, statuses[1], 90, Answer::Status), other, is_headers).is_none(), "one is followed");
    let after = answer(&mut rig, parent, 100, Answer::Blocks(vec![blocks[0].bytes().clone()]));
    assert!(after.contains(&Effect::PeerFault { peer: liar, fault: PeerFault::WrongBlock }), "{after:?}");
    assert!(asked(&after, other, is_headers).is_some(), "{after:?}");
}
