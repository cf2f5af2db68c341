//! What a node that is not ready waits for, in words and as codes.
//!
//! [`waiting`] is a function of [`Facts`] alone, so that each wording has a test.
//!
//! # Order
//! What is named first is to be mended first, because what follows may follow from it: a disk that stores nothing, a clock that
//! is wrong (every block is refused then), peers, the mesh among them, and last the chain, which comes by itself once the rest is
//! well. Only what keeps the node from doing its work is named. A network that has not begun yet is none of that: its nodes
//! are to be ready before.

use crate::api::{ClockState, StorageState, SyncReply, TopicReply, WaitReason, Waiting};

/// What the answer is made of.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) storage: StorageState,
    pub(super) clock: ClockState,
    pub(super) peers: Peers,
    pub(super) topics: Vec<TopicReply>,
    /// None when the chain is complete as far as is known.
    pub(super) sync: Option<SyncReply>,
    /// Whether that is not known, because no peer has told yet how it stands.
    pub(super) unheard: bool,
    /// Slots for which nothing has been seen of the network, if that is reason to suspect that we are cut off.
    pub(super) silent_slots: Option<u64>,
}

/// Numbers of peers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peers {
    pub(super) connected: usize,
    pub(super) dialling: usize,
    /// That could be dialled.
    pub(super) known: usize,
    /// Of those that the operator named, how many could not be reached when they were tried last.
    pub(super) unreachable: usize,
    /// Whether the operator named this node itself.
    pub(super) itself: bool,
}

/// What the node waits for, what is to be mended first in front; nothing when it is ready.
pub(super) fn waiting(facts: &Facts) -> Vec<Waiting> {
    let mut waiting: Vec<Waiting> = [storage(&facts.storage), clock(&facts.clock)].into_iter().flatten().collect();
    let peers = facts.peers;
    if peers.connected == 0 {
        waiting.push(Waiting { reason: WaitReason::NoPeers, text: no_peers(peers) });
    } else if let Some(slots) = facts.silent_slots {
        let text = format!(
            "news of the network: no block for {slots} slots from {} connected peer{}; they may be cut off together with us, \
             and others are being sought",
            peers.connected,
            if peers.connected == 1 { "" } else { "s" }
        );
        waiting.push(Waiting { reason: WaitReason::Isolated, text });
    }
    // Without peers there is no mesh, and saying so would add nothing.
    if peers.connected > 0 {
        waiting.extend(facts.topics.iter().filter_map(mesh));
    }
    match &facts.sync {
        Some(sync) => waiting.push(chain(sync)),
        None if facts.unheard => {
            let text = "the chain: no connected peer has told yet how high it is".to_owned();
            waiting.push(Waiting { reason: WaitReason::Chain, text });
        }
        None => {}
    }
    waiting
}

fn storage(state: &StorageState) -> Option<Waiting> {
    let StorageState::Failing { cause } = state else { return None };
    let text = format!("the disk: {cause}");
    Some(Waiting { reason: WaitReason::Storage, text })
}

fn clock(state: &ClockState) -> Option<Waiting> {
    let text = match state {
        ClockState::Ok | ClockState::BeforeStart { .. } | ClockState::Stepped { .. } => return None,
        ClockState::Unset => "the clock: it was never set; set it, for example with NTP".to_owned(),
        ClockState::Behind { seconds } => format!(
            "the clock: blocks arrive {seconds} s before their time, so this host's clock is slow; set it, for example with NTP"
        ),
    };
    Some(Waiting { reason: WaitReason::Clock, text })
}

fn no_peers(Peers { dialling, known, unreachable, itself, .. }: Peers) -> String {
    match (known, dialling, unreachable) {
        (0, 0, 0) if itself => {
            "the first peer: the one that was named is this node itself; name another with --bootnodes, \
             or, if another node has a copy of this one's key, give it one of its own"
                .to_owned()
        }
        (0, 0, 0) => "the first peer: none is known; name one with --bootnodes, or wait until somebody dials this node"
            .to_owned(),
        (_, _, 0) => format!("the first peer: none of {known} known ones is connected, {dialling} are being dialled"),
        _ => format!(
            "the first peer: {unreachable} of those that were named could not be reached; check their addresses and this host's \
             network (they are tried again: {known} known, {dialling} being dialled)"
        ),
    }
}

/// A node takes part in a topic when it has the least degree that the mesh is content with, or everybody there is.
fn mesh(topic: &TopicReply) -> Option<Waiting> {
    let wanted = topic.mesh_degree_low.min(topic.peers_subscribed).max(1);
    let (class, degree) = (topic.class.name(), topic.mesh_degree);
    let text = match degree {
        _ if degree >= wanted => return None,
        _ if topic.peers_subscribed == 0 => {
            format!("the first peer in the mesh of {class}s: no connected peer subscribes to {}", topic.topic)
        }
        0 => format!("the first peers in the mesh of {class}s: 0 of at least {wanted}"),
        _ => format!("more peers in the mesh of {class}s: {degree} of at least {wanted}"),
    };
    Some(Waiting { reason: WaitReason::Mesh, text })
}

fn chain(sync: &SyncReply) -> Waiting {
    let (height, target) = (sync.height, sync.target);
    let mut text = format!("the chain: at height {height} of {target}");
    if let Some(rate) = sync.blocks_per_s.filter(|rate| *rate > 0.0) {
        #[expect(clippy::cast_precision_loss, reason = "an estimate in words")]
        let left_s = target.saturating_sub(height) as f64 / rate;
        text.push_str(&format!(", {rate:.0} blocks a second, about {} left", duration_words(left_s)));
    }
    Waiting { reason: WaitReason::Chain, text }
}

/// A time to wait, as coarse as it is uncertain.
fn duration_words(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{:.0} s", s.max(1.0)),
        s if s < 5_400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::MessageClass;

    fn topic(class: MessageClass, mesh_degree: u32, peers_subscribed: u32) -> TopicReply {
        let topic = format!("/starling/{}/1", class.name());
        TopicReply { class, topic, mesh_degree, mesh_degree_low: 5, peers_subscribed }
    }

    fn well() -> Facts {
        Facts {
            storage: StorageState::Ok,
            clock: ClockState::Ok,
            peers: Peers { connected: 8, dialling: 0, known: 20, unreachable: 0, itself: false },
            topics: vec![topic(MessageClass::Transaction, 6, 8), topic(MessageClass::Block, 5, 8)],
            sync: None,
            unheard: false,
            silent_slots: None,
        }
    }

    fn texts(facts: &Facts) -> Vec<String> {
        waiting(facts).into_iter().map(|waiting| waiting.text).collect()
    }

    #[test]
    fn a_node_that_is_well_waits_for_nothing() {
        assert_eq!(texts(&well()), Vec::<String>::new());
        // Everybody there is will do, and a network that has not begun is no fault of the node.
        let topics = vec![topic(MessageClass::Transaction, 2, 2)];
        assert_eq!(texts(&Facts { topics, ..well() }), Vec::<String>::new());
        assert_eq!(texts(&Facts { clock: ClockState::Stepped { by_ms: -9_000 }, ..well() }), Vec::<String>::new());
        assert_eq!(texts(&Facts { clock: ClockState::BeforeStart { seconds: 60 }, ..well() }), Vec::<String>::new());
    }

    #[test]
    fn no_peers() {
        let none_of = |dialling, known, unreachable, itself| {
            let peers = Peers { connected: 0, dialling, known, unreachable, itself };
            let topics = vec![topic(MessageClass::Transaction, 0, 0)];
            let waiting = waiting(&Facts { peers, topics, ..well() });
            assert_eq!(waiting[0].reason, WaitReason::NoPeers);
            // The missing mesh follows from the missing peers and is not told.
            assert_eq!(waiting.len(), 1, "{waiting:?}");
            waiting[0].text.clone()
        };
        let none = |dialling, known, unreachable| none_of(dialling, known, unreachable, false);
        assert!(none_of(0, 0, 0, true).contains("is this node itself; name another with --bootnodes"));
        assert_eq!(none_of(2, 7, 0, true), none(2, 7, 0), "the others count");
        assert_eq!(
            none(0, 0, 0),
            "the first peer: none is known; name one with --bootnodes, or wait until somebody dials this node"
        );
        assert_eq!(none(2, 7, 0), "the first peer: none of 7 known ones is connected, 2 are being dialled");
        assert_eq!(
            none(1, 2, 1),
            "the first peer: 1 of those that were named could not be reached; check their addresses and this host's network \
             (they are tried again: 2 known, 1 being dialled)"
        );
    }

    #[test]
    fn a_mesh_below_its_degree() {
        let topics = vec![topic(MessageClass::Transaction, 0, 8), topic(MessageClass::Block, 2, 3)];
        assert_eq!(
            texts(&Facts { topics, ..well() }),
            [
                "the first peers in the mesh of transactions: 0 of at least 5",
                "more peers in the mesh of blocks: 2 of at least 3",
            ]
        );
        let topics = vec![topic(MessageClass::Block, 0, 0)];
        assert_eq!(
            texts(&Facts { topics, ..well() }),
            ["the first peer in the mesh of blocks: no connected peer subscribes to /starling/block/1"]
        );
    }

    #[test]
    fn a_chain_that_is_caught_up_with() {
        let sync = |blocks_per_s| {
            let sync = SyncReply { height: 1_000, target: 5_000, blocks_per_s, ..SyncReply::default() };
            texts(&Facts { sync: Some(sync), ..well() }).remove(0)
        };
        assert_eq!(
            texts(&Facts { unheard: true, ..well() }),
            ["the chain: no connected peer has told yet how high it is"]
        );
        assert_eq!(sync(None), "the chain: at height 1000 of 5000");
        assert_eq!(sync(Some(0.0)), "the chain: at height 1000 of 5000");
        assert_eq!(sync(Some(100.0)), "the chain: at height 1000 of 5000, 100 blocks a second, about 40 s left");
        assert_eq!(sync(Some(2.0)), "the chain: at height 1000 of 5000, 2 blocks a second, about 33 min left");
    }

    #[test]
    fn the_clock() {
        let clock = |clock| texts(&Facts { clock, ..well() }).remove(0);
        assert_eq!(clock(ClockState::Unset), "the clock: it was never set; set it, for example with NTP");
        assert_eq!(
            clock(ClockState::Behind { seconds: 90 }),
            "the clock: blocks arrive 90 s before their time, so this host's clock is slow; set it, for example with NTP"
        );
    }

    #[test]
    fn isolation() {
        assert_eq!(
            texts(&Facts { silent_slots: Some(12), ..well() }),
            [
                "news of the network: no block for 12 slots from 8 connected peers; they may be cut off together with us, and \
              others are being sought"
            ]
        );
    }

    #[test]
    fn what_is_to_be_mended_first_comes_first() {
        let all = Facts {
            storage: StorageState::Failing { cause: "no space left on device".to_owned() },
            clock: ClockState::Unset,
            peers: Peers { connected: 1, ..Peers::default() },
            topics: vec![topic(MessageClass::Transaction, 0, 1)],
            sync: Some(SyncReply { height: 1, target: 2, ..SyncReply::default() }),
            unheard: true,
            silent_slots: Some(9),
        };
        assert_eq!(texts(&all)[0], "the disk: no space left on device");
        let reasons: Vec<_> = waiting(&all).into_iter().map(|waiting| waiting.reason).collect();
        let order = [WaitReason::Storage, WaitReason::Clock, WaitReason::Isolated, WaitReason::Mesh, WaitReason::Chain];
        assert_eq!(reasons, order);
    }
}
