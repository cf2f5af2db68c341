//! Peers that send too much of what is allowed, or what makes no sense, without end.
//!
//! A flooder joins the meshes of those it connects with, forwards nothing, and then sends its kind of control in small portions, as fast
//! as it takes to send a multiple of what an engine heeds in a heartbeat. Names of messages are random: they cost whoever keeps them.

use super::Adversary;
use super::links::Links;
use crate::wan::Stream;
use bytes::Bytes;
use starling_protocol::id::{MESSAGE_ID_BYTES, MessageId, PeerHandle, PeerId, Topic};
use starling_protocol::mesh::{MeshConfig, Sink};
use starling_protocol::node::{Input, Output};
use starling_protocol::rpc::{ExchangedPeer, Frame, Prune, Subscription};
use starling_protocol::time::{Duration, Time, micros};
use std::collections::VecDeque;
use std::sync::Arc;

/// Between two portions.
const PORTION: Duration = Duration::from_millis(50);
/// Ids in one frame, as the wire limits allow.
const IDS_PER_FRAME: usize = 500;
/// Control frames of other kinds that count as the cap of a heartbeat: engines have none, since each costs them nothing to keep.
const FRAMES_PER_HEARTBEAT: f64 = 10.0;
/// Messages that are asked for again and again.
const ASKED_MAX: usize = 2_000;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    IHave,
    IWant,
    IDontWant,
    Graft,
    Subscribe,
    Exchange,
}

impl Flood {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "ihave" => Some(Self::IHave),
            "iwant" => Some(Self::IWant),
            "idontwant" => Some(Self::IDontWant),
            "graft" => Some(Self::Graft),
            "subscribe" => Some(Self::Subscribe),
            "exchange" => Some(Self::Exchange),
            _ => None,
        }
    }

    /// Ids, or frames for what has no ids, of one heartbeat at the cap.
    fn cap(self) -> f64 {
        let config = MeshConfig::with_topics(Vec::new());
        match self {
            Self::IHave => f64::from(config.gossip.ihave_ids_max),
            Self::IWant => f64::from(config.gossip.iwant_ids_max),
            Self::IDontWant => f64::from(config.relay.idontwant_ids_max),
            Self::Graft | Self::Subscribe | Self::Exchange => FRAMES_PER_HEARTBEAT,
        }
    }
}

/// A peer that floods.
#[derive(Debug)]
pub(super) struct Flooder {
    flood: Flood,
    /// Ids or frames in a portion.
    portion: usize,
    topics: [Topic; 2],
    links: Links,
    random: Stream,
    /// Messages that exist, to be asked for.
    known: VecDeque<MessageId>,
    portion_at: Option<Time>,
    portions: u64,
}

impl Flooder {
    pub(super) fn new(flood: Flood, times_cap: f64, topics: [Topic; 2], links: Links, random: Stream) -> Self {
        let heartbeat_us = micros(MeshConfig::with_topics(Vec::new()).heartbeat.interval);
        let portions_per_heartbeat = heartbeat_us as f64 / micros(PORTION) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and at most millions")]
        let portion = (flood.cap() * times_cap / portions_per_heartbeat).ceil() as usize;
        Self {
            flood,
            portion: portion.max(1),
            topics,
            links,
            random,
            known: VecDeque::new(),
            portion_at: None,
            portions: 0,
        }
    }

    fn frames(&mut self) -> Vec<Frame> {
        self.portions += 1;
        match self.flood {
            Flood::IHave => {
                let ids = self.random_ids();
                let chunks = ids.chunks(IDS_PER_FRAME);
                chunks.map(|ids| Frame::IHave { topic: self.topics[0].clone(), ids: Arc::from(ids) }).collect()
            }
            Flood::IDontWant => {
                self.random_ids().chunks(IDS_PER_FRAME).map(|ids| Frame::IDontWant(ids.into())).collect()
            }
            Flood::IWant => {
                let ids: Vec<MessageId> = self.known.iter().copied().cycle().take(self.portion).collect();
                ids.chunks(IDS_PER_FRAME).map(|ids| Frame::IWant(ids.into())).collect()
            }
            Flood::Graft => (0..self.portion).map(|turn| Frame::Graft(self.topics[turn % 2].clone())).collect(),
            Flood::Subscribe => (0..self.portion).map(|turn| Frame::Subscription(self.subscription(turn))).collect(),
            Flood::Exchange => (0..self.portion).map(|turn| Frame::Prune(self.prune(turn))).collect(),
        }
    }

    fn random_ids(&mut self) -> Vec<MessageId> {
        let mut ids = vec![MessageId([0; MESSAGE_ID_BYTES]); self.portion];
        ids.iter_mut().for_each(|id| self.random.fill(&mut id.0));
        ids
    }

    fn subscription(&mut self, turn: usize) -> Subscription {
        let subscribe = self.portions.is_multiple_of(2);
        let topic = match turn % 3 {
            0 => self.topics[0].clone(),
            1 => self.topics[1].clone(),
            _ => Topic::new(&format!("unknown-{}", self.random.next_u64())),
        };
        Subscription { subscribe, topic }
    }

    fn prune(&mut self, turn: usize) -> Prune {
        let mut record = [0; 300];
        self.random.fill(&mut record);
        let record = Bytes::copy_from_slice(&record);
        let peer = |random: &mut Stream| ExchangedPeer {
            id: PeerId::from_number(random.next_u64()),
            signed_record: Some(record.clone()),
        };
        let peers = (0..16).map(|_| peer(&mut self.random)).collect();
        Prune { topic: self.topics[turn % 2].clone(), backoff_seconds: Some(u64::MAX), peers }
    }
}

impl Adversary for Flooder {
    fn handle(&mut self, now: Time, input: Input<'_>, out: &mut dyn Sink<Output>) {
        match &input {
            Input::WallClock { .. } => {
                self.links.begin(out);
                self.portion_at = Some(now + PORTION);
            }
            Input::Rpc { rpc, .. } if self.flood == Flood::IWant => {
                self.known.extend(rpc.publish.iter().map(|payload| payload.id()));
                self.known.drain(..self.known.len().saturating_sub(ASKED_MAX));
            }
            _ => {}
        }
        if let Some(peer) = self.links.handle(now, &input) {
            greet(&self.topics, peer, out);
        }
    }

    fn on_wake(&mut self, now: Time, out: &mut dyn Sink<Output>) {
        self.links.on_wake(now, out);
        if self.portion_at.is_some_and(|at| at <= now) {
            self.portion_at = Some(now + PORTION);
            let frames = self.frames();
            for peer in self.links.connected() {
                for frame in &frames {
                    out.emit(Output::Send { peer, frame: frame.clone() });
                }
            }
        }
    }

    fn next_wake(&self) -> Option<Time> {
        self.portion_at.into_iter().chain(self.links.next_wake()).min()
    }
}

/// Subscribes to everything and grafts.
pub(super) fn greet(topics: &[Topic; 2], peer: PeerHandle, out: &mut dyn Sink<Output>) {
    for topic in topics {
        let subscription = Subscription { subscribe: true, topic: topic.clone() };
        out.emit(Output::Send { peer, frame: Frame::Subscription(subscription) });
        out.emit(Output::Send { peer, frame: Frame::Graft(topic.clone()) });
    }
}
