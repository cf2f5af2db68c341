//! What subscribers are told of: differences between what they heard last and what is.
//!
//! The head of the chain is compared after each step of the machine, so that one notification tells of a whole
//! reorganisation; scores are compared once a second. While nobody listens, nothing is compared, and nothing is kept.

use super::Driver;
use super::commands::plain;
use crate::api::feed::{Feed, Feeds, Topic};
use crate::api::{
    BlockName, ChainEvent, PeerDirection, PeerEvent, Refusal, RefusalReason, Reply, ScoreLevel, TransactionChange,
    TransactionEvent, TransactionName, target_text,
};
use crate::net::network::peer_id_text;
use starling_protocol::block::Block;
use starling_protocol::chain::{Chain, Position};
use starling_protocol::id::{Direction, PeerHandle, TransactionId};
use starling_protocol::mempool::Status;
use starling_protocol::mesh::{self, DisconnectReason};
use starling_protocol::node::{Event, Output};
use starling_protocol::peers::bans::{Ban, BanTarget};
use starling_protocol::transaction::Transaction;
use std::collections::{BTreeMap, BTreeSet};

/// Most adopted blocks that one notification names. More are adopted at once only while catching up.
const ADOPTED_MAX: u64 = 256;

/// The subscriptions and what their subscribers know.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    feeds: Feeds,
    /// The head that was told last; none while nobody listens.
    head: Option<Position>,
    /// The levels of scores that were seen last; only of connected peers, and only while somebody listens.
    levels: BTreeMap<PeerHandle, ScoreLevel>,
    /// Whether the mempool records its changes.
    records: bool,
}

/// The way from one head to another.
struct Move {
    undone: Vec<Block>,
    adopted: Vec<BlockName>,
}

impl Driver {
    pub(super) fn subscribe(&mut self, topic: Topic, reply: Reply<Result<Feed, Refusal>>) {
        let feed = self.subscriptions.feeds.subscribe(topic).ok_or_else(|| {
            Refusal::new(
                RefusalReason::TooManySubscriptions,
                format!(
                    "the node has {} subscriptions, which is the most it takes",
                    crate::api::feed::SUBSCRIPTIONS_MAX
                ),
                "end some, or try again later",
            )
        });
        self.note_interest();
        // The head is known before the subscription is confirmed, so the first event tells of the first change after it.
        let _asker_gone = reply.send(feed);
    }

    /// Begins or ends what is only done while somebody listens.
    pub(super) fn note_interest(&mut self) {
        let Self { subscriptions, node, observer, .. } = self;
        subscriptions.feeds.forget_gone();
        let open = i64::try_from(subscriptions.feeds.len()).unwrap_or(i64::MAX);
        observer.metrics.rpc.subscriptions.set(open);
        observer.metrics.rpc.subscribers_dropped.inc_by(subscriptions.feeds.take_dropped());
        let transactions = subscriptions.feeds.transactions_wanted();
        if transactions != subscriptions.records {
            node.record_mempool_changes(transactions);
            subscriptions.records = transactions;
        }
        if !transactions && !subscriptions.feeds.chain_wanted() {
            subscriptions.head = None;
        } else if subscriptions.head.is_none() {
            subscriptions.head = Some(node.chain().head());
        }
        if !subscriptions.feeds.net_wanted() {
            subscriptions.levels.clear();
        }
    }

    /// Tells what the machine's last step changed about transactions and the chain.
    pub(super) fn tell_changes(&mut self) {
        let Some(before) = self.subscriptions.head else { return };
        let chain = self.node.chain();
        let head = chain.head();
        let path = (head != before).then(|| Move::between(chain, before, head));
        if self.subscriptions.feeds.transactions_wanted() {
            self.tell_transactions(path.as_ref());
        }
        let Some(Move { undone, adopted }) = path else { return };
        self.subscriptions.head = Some(head);
        if self.subscriptions.feeds.chain_wanted() {
            let chain = self.node.chain();
            let transactions = chain.block(&head.id).map(|block| super::commands::count(block.transactions().len()));
            self.subscriptions.feeds.tell_chain(&ChainEvent {
                height: head.height,
                block_id: head.id,
                slot: head.slot,
                transactions,
                final_height: chain.root().height,
                undone: undone.iter().map(block_name).collect(),
                adopted,
            });
        }
    }

    fn tell_transactions(&mut self, path: Option<&Move>) {
        let changes = self.node.take_mempool_changes();
        let undone: BTreeSet<TransactionId> =
            path.iter().flat_map(|path| &path.undone).flat_map(Block::transactions).map(Transaction::id).collect();
        let mut groups: BTreeMap<TransactionChange, Vec<TransactionName>> = BTreeMap::new();
        for change in changes {
            let what = match change.status {
                // Told with the block that they were in.
                Status::Pending { .. } if undone.contains(&change.id) => continue,
                Status::Pending { .. } => TransactionChange::Accepted,
                Status::Expired => TransactionChange::Expired,
                Status::Superseded => TransactionChange::Superseded,
                Status::Evicted => TransactionChange::Evicted,
            };
            let name = TransactionName { id: change.id, sender: change.sender, nonce: change.nonce };
            groups.entry(what).or_default().push(name);
        }
        let (chain, mempool) = (self.node.chain(), self.node.mempool());
        let mut events = Vec::new();
        if let Some(transactions) = groups.remove(&TransactionChange::Accepted) {
            events.push(TransactionEvent { event: TransactionChange::Accepted, block: None, transactions });
        }
        for block in path.iter().flat_map(|path| &path.undone) {
            let pending = block.transactions().iter().filter(|transaction| mempool.get(&transaction.id()).is_some());
            events.push(of_block(TransactionChange::Returned, block_name(block), pending));
        }
        for name in path.iter().flat_map(|path| &path.adopted) {
            // A block that has left the memory already is of long ago; `tx_get` finds its transactions.
            if let Some(block) = chain.block(&name.block_id) {
                events.push(of_block(TransactionChange::Included, *name, block.transactions().iter()));
            }
        }
        events.extend(groups.into_iter().map(|(event, transactions)| TransactionEvent {
            event,
            block: None,
            transactions,
        }));
        for event in &events {
            self.subscriptions.feeds.tell_transactions(event);
        }
    }

    /// Tells who has come, when somebody listens.
    pub(super) fn tell_connected(&mut self, peer: PeerHandle, direction: Direction) {
        if !self.subscriptions.feeds.net_wanted() {
            return;
        }
        let address = self.port.network.remote_address(peer).map(|address| address.to_string()).unwrap_or_default();
        let direction = match direction {
            Direction::Inbound => PeerDirection::Inbound,
            Direction::Outbound => PeerDirection::Outbound,
        };
        let peer_id = self.peer_name(peer);
        self.subscriptions.feeds.tell_net(&PeerEvent::Connected { peer_id, address, direction });
    }

    /// Tells who is about to be forgotten, when somebody listens.
    pub(super) fn tell_disconnected(&mut self, peer: PeerHandle) {
        self.subscriptions.levels.remove(&peer);
        if self.subscriptions.feeds.net_wanted() {
            let peer_id = self.peer_name(peer);
            self.subscriptions.feeds.tell_net(&PeerEvent::Disconnected { peer_id });
        }
    }

    /// Tells what an output says about a peer, when somebody listens.
    pub(super) fn tell_output(&mut self, output: &Output) {
        if !self.subscriptions.feeds.net_wanted() {
            return;
        }
        let event = match output {
            Output::Disconnect { peer, reason: DisconnectReason::Graylisted } => {
                PeerEvent::Graylisted { peer_id: self.peer_name(*peer) }
            }
            Output::Event(Event::Mesh(mesh::Event::Grafted { peer, topic })) => {
                PeerEvent::Grafted { peer_id: self.peer_name(*peer), class: self.observer.class(topic) }
            }
            Output::Event(Event::Mesh(mesh::Event::Pruned { peer, topic, reason })) => {
                let (peer_id, class) = (self.peer_name(*peer), self.observer.class(topic));
                PeerEvent::Pruned { peer_id, class, reason: (*reason).into() }
            }
            _ => return,
        };
        self.subscriptions.feeds.tell_net(&event);
    }

    /// Compares every peer's score with what it was, when somebody listens.
    pub(super) fn tell_scores(&mut self) {
        if !self.subscriptions.feeds.net_wanted() {
            return;
        }
        let mesh = self.node.mesh();
        let thresholds = mesh.thresholds();
        let mut passed = Vec::new();
        for peer in self.agents.iter().flatten().map(|agent| agent.peer) {
            let score = mesh.score(peer);
            let level = ScoreLevel::of(score, thresholds);
            let before = self.subscriptions.levels.insert(peer, level).unwrap_or(ScoreLevel::Good);
            if level != before {
                passed.push((peer, plain(score), before, level));
            }
        }
        for (peer, score, before, level) in passed {
            let peer_id = self.peer_name(peer);
            self.subscriptions.feeds.tell_net(&PeerEvent::Score { peer_id, score, before, level });
        }
    }

    /// The bans, when somebody listens, to be compared with what becomes of them.
    pub(super) fn bans_before(&self) -> Option<Vec<Ban>> {
        self.subscriptions.feeds.net_wanted().then(|| self.node.bans().iter().collect())
    }

    /// Tells which bans were made and which have ended since.
    pub(super) fn tell_bans(&mut self, before: Option<Vec<Ban>>) {
        let Some(before) = before else { return };
        let now: Vec<Ban> = self.node.bans().iter().collect();
        let held: BTreeSet<BanTarget> = now.iter().map(|ban| ban.target).collect();
        for Ban { target, .. } in before.iter().filter(|ban| !held.contains(&ban.target)) {
            self.subscriptions.feeds.tell_net(&PeerEvent::Unbanned { target: target_text(target) });
        }
        let before: BTreeMap<BanTarget, &Ban> = before.iter().map(|ban| (ban.target, ban)).collect();
        for ban in now.into_iter().filter(|ban| before.get(&ban.target).is_none_or(|old| **old != *ban)) {
            let Ban { target, until_unix_s, reason } = ban;
            let target = target_text(&target);
            self.subscriptions.feeds.tell_net(&PeerEvent::Banned { target, until_unix_s, reason });
        }
    }

    fn peer_name(&self, peer: PeerHandle) -> String {
        self.node.peer_id(peer).map(|id| peer_id_text(&id)).unwrap_or_default()
    }
}

impl Move {
    fn between(chain: &Chain, from: Position, to: Position) -> Self {
        let mut undone = Vec::new();
        let mut at = from.id;
        // A head below the root was not undone: the chain has grown far beyond it.
        while !chain.is_canonical(&at)
            && let Some(block) = chain.block(&at)
        {
            at = block.header().parent;
            undone.push(block.clone());
        }
        let ancestor = undone.last().map_or(from.height, |block| block.header().height - 1);
        let first = ancestor.saturating_add(1).max(to.height.saturating_sub(ADOPTED_MAX - 1));
        let named = |height| Some(block_name(chain.block_at(height)?));
        Self { undone, adopted: (first..=to.height).filter_map(named).collect() }
    }
}

fn block_name(block: &Block) -> BlockName {
    BlockName { height: block.header().height, block_id: block.id() }
}

fn of_block<'a>(
    event: TransactionChange,
    block: BlockName,
    transactions: impl Iterator<Item = &'a Transaction>,
) -> TransactionEvent {
    let name = |transaction: &Transaction| TransactionName {
        id: transaction.id(),
        sender: transaction.sender(),
        nonce: transaction.nonce(),
    };
    TransactionEvent { event, block: Some(block), transactions: transactions.map(name).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_crypto::SecretKey;
    use starling_protocol::chain::{Config, Effect, Moment, Verified};
    use starling_protocol::genesis::{Genesis, GenesisParameters, Limits};
    use starling_protocol::time::Time;

    const FAR: u64 = 1_000_000;

    /// A chain whose blocks the test makes, of any shape.
    struct Grown {
        chain: Chain,
        key: SecretKey,
        genesis: Genesis,
    }

    impl Grown {
        /// One that can undo so many blocks.
        fn new(undo_depth: usize) -> Self {
            let key = SecretKey::from_seed(&[1; 32]);
            let genesis = Genesis::new(GenesisParameters {
                name: "forks".into(),
                start_time_ms: 0,
                slot_ms: 1_000,
                producers: vec![key.public_key().to_bytes()],
                limits: Limits::default(),
                stamp_bits: 0,
            })
            .expect("acceptable");
            let config = Config { undo_depth, ..Config::default() };
            Self { chain: Chain::new(genesis.clone(), config), key, genesis }
        }

        fn origin(&self) -> BlockName {
            BlockName { height: 0, block_id: self.genesis.block_id() }
        }

        /// A block of this slot on top of that one.
        fn grow(&mut self, on: BlockName, slot: u64) -> BlockName {
            let made = (slot, on.height + 1, on.block_id);
            let block = Block::produce(&self.genesis, &self.key, made, Vec::new()).expect("in turn");
            let name = block_name(&block);
            let at = Moment { now: Time::ZERO, slot: FAR, slot_ahead: FAR };
            self.chain.insert_block(at, block, None, Verified::Valid, &mut Vec::<Effect>::new());
            name
        }

        fn told(&self, from: Position) -> (Vec<BlockName>, Vec<BlockName>) {
            let Move { undone, adopted } = Move::between(&self.chain, from, self.chain.head());
            (undone.iter().map(block_name).collect(), adopted)
        }
    }

    #[test]
    fn a_reorganisation_names_both_branches_and_nothing_else() {
        let mut grown = Grown::new(16);
        let common = grown.grow(grown.origin(), 1);
        let first = grown.chain.head();
        let old_low = grown.grow(common, 2);
        let old_high = grown.grow(old_low, 4);
        assert_eq!(grown.told(first), (vec![], vec![old_low, old_high]), "the chain only grew");
        let before = grown.chain.head();

        let new_low = grown.grow(common, 3);
        let new_middle = grown.grow(new_low, 5);
        let new_high = grown.grow(new_middle, 6);
        assert_eq!(grown.chain.head().id, new_high.block_id, "the longer branch wins");
        assert_eq!(grown.told(before), (vec![old_high, old_low], vec![new_low, new_middle, new_high]));
        assert_eq!(grown.told(first), (vec![], vec![new_low, new_middle, new_high]), "it never saw the other branch");

        let back = grown.chain.head();
        let mut on = old_high;
        for slot in 7..9 {
            on = grown.grow(on, slot);
        }
        let (undone, adopted) = grown.told(back);
        assert_eq!(undone, [new_high, new_middle, new_low]);
        assert_eq!((&adopted[..2], adopted.last()), (&[old_low, old_high][..], Some(&on)), "and back again");
    }

    #[test]
    fn a_long_way_names_its_last_blocks_and_undoes_nothing() {
        // With the first, all of the way can be named; with the other its beginning has left the memory.
        for (undo_depth, named) in [(1_000, ADOPTED_MAX), (100, 100)] {
            let mut grown = Grown::new(undo_depth);
            let start = grown.chain.head();
            let mut on = grown.origin();
            for slot in 1..=ADOPTED_MAX + 50 {
                on = grown.grow(on, slot);
            }
            let (undone, adopted) = grown.told(start);
            assert_eq!((undone.len(), adopted.len() as u64, adopted.last()), (0, named, Some(&on)));
            assert!(adopted.windows(2).all(|pair| pair[0].height + 1 == pair[1].height));
        }
    }
}
