//! Peers that join meshes and then do not do their part.
//!
//! The published attacker subscribes, grafts every topic on contact, forwards messages but for those that it drops, answers no
//! request, and after a PRUNE grafts again 60 s and up to 15 s more later, when the usual backoff is over. What it drops, from when on and
//! towards whom is its [`Conduct`]; the relatives of the published attack are other conducts of the same peer.
//!
//! It forwards without looking: it verifies nothing, keeps no queue and respects no IDONTWANT, so it is as fast as a peer can be, and
//! whatever it forwards counts for it.

use super::links::Links;
use crate::attack::Adversary;
use crate::wan::Stream;
use starling_crypto::PublicKeyBytes;
use starling_protocol::id::{MessageId, PeerHandle, PeerId, Topic};
use starling_protocol::mesh::Sink;
use starling_protocol::message::Payload;
use starling_protocol::node::{Input, Output};
use starling_protocol::rpc::{Class, Frame, Rpc, Subscription};
use starling_protocol::time::{Duration, Time, micros};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// For how long a message is known. Late copies are not forwarded again within it.
const REMEMBERED: Duration = Duration::from_secs(15);

/// A peer that sends a message to one of us has sent it to the others after so long, if it ever does.
const SENT_TO_ALL: Duration = Duration::from_millis(60);
/// Within so long what was held back has to be there: the shortest trial.
const TRIED_FOR: Duration = Duration::from_millis(150);

/// What a sybil does and leaves undone.
#[derive(Clone, Debug)]
pub(super) struct Conduct {
    /// Of a thousand messages, how many it drops.
    pub(super) drop_permille: u64,
    /// Until when it drops nothing and serves what it is asked for.
    pub(super) turns: Time,
    /// Drops the transactions of these senders, and no others.
    pub(super) victims: Rc<BTreeSet<PublicKeyBytes>>,
    /// Drops messages of these topics only, by their places in [`Sybil::topics`]; both if it is what `drop_permille` speaks of.
    pub(super) withholds: [bool; 2],
    /// Sends every message back to whom it came from.
    pub(super) mirrors: bool,
    /// Announces each message to everybody that it is connected with, at once, and delivers none.
    pub(super) announces: bool,
    /// Conspirators tell each other of messages at once, without a network.
    pub(super) wormhole: bool,
    /// Sends a peer what that peer has sent to a conspirator and not to it, and nothing else: what it is tried by.
    pub(super) colludes: bool,
    /// Grafts again so long after a PRUNE.
    pub(super) regraft: Duration,
    /// And up to so much longer.
    pub(super) regraft_spread: Duration,
    /// Ends its connections then, for another one to come in its place.
    pub(super) leaves: Option<Time>,
    /// So often, leaves each mesh and asks for its place again at once.
    pub(super) slips: Option<Duration>,
}

/// What conspirators share.
#[derive(Clone, Debug, Default)]
pub struct Conspiracy(Rc<RefCell<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    /// Messages of late, to serve what is asked for and to tell each other.
    library: BTreeMap<MessageId, Arc<Payload>>,
    order: VecDeque<(Time, MessageId)>,
    /// All messages in the order in which one of them learned of them, from the number `told_from` on.
    told: VecDeque<Arc<Payload>>,
    told_from: u64,
    /// What each peer has sent to one of them of late, the oldest first.
    had: BTreeMap<PeerId, VecDeque<(Time, Arc<Payload>)>>,
}

impl Conspiracy {
    fn put(&self, now: Time, payload: &Arc<Payload>) {
        let mut shared = self.0.borrow_mut();
        if shared.library.insert(payload.id(), payload.clone()).is_some() {
            return;
        }
        shared.order.push_back((now, payload.id()));
        shared.told.push_back(payload.clone());
        while shared.order.front().is_some_and(|(since, _)| now.since(*since) > REMEMBERED) {
            if let Some((_, id)) = shared.order.pop_front() {
                shared.library.remove(&id);
                shared.told.pop_front();
                shared.told_from += 1;
            }
        }
    }

    fn get(&self, id: &MessageId) -> Option<Arc<Payload>> {
        self.0.borrow().library.get(id).cloned()
    }

    /// A peer has this message: it has sent it.
    fn note_holder(&self, now: Time, holder: PeerId, payload: &Arc<Payload>) {
        let mut shared = self.0.borrow_mut();
        let had = shared.had.entry(holder).or_default();
        while had.front().is_some_and(|(since, _)| now.since(*since) > TRIED_FOR) {
            had.pop_front();
        }
        if had.iter().all(|(_, known)| known.id() != payload.id()) {
            had.push_back((now, payload.clone()));
        }
    }

    /// What this peer has had for so long that it would have sent it to all whom it wants to send it to.
    fn held(&self, now: Time, holder: &PeerId) -> Vec<Arc<Payload>> {
        let shared = self.0.borrow();
        let had = shared.had.get(holder).into_iter().flatten();
        let due = had.filter(|(since, _)| (SENT_TO_ALL..=TRIED_FOR).contains(&now.since(*since)));
        due.map(|(_, payload)| payload.clone()).collect()
    }

    /// What was learned since the message with this number, and the number to go on with.
    fn since(&self, number: u64) -> (Vec<Arc<Payload>>, u64) {
        let shared = self.0.borrow();
        let skip = usize::try_from(number.saturating_sub(shared.told_from)).unwrap_or(usize::MAX);
        let fresh = shared.told.iter().skip(skip).cloned().collect();
        (fresh, shared.told_from + shared.told.len() as u64)
    }
}

/// A peer of bad conduct.
#[derive(Debug)]
pub(super) struct Sybil {
    conduct: Conduct,
    topics: [Topic; 2],
    links: Links,
    conspiracy: Conspiracy,
    random: Stream,
    /// Who is in our mesh, by topic.
    mesh: [BTreeSet<PeerHandle>; 2],
    /// Whom to graft again when.
    regrafts: BTreeSet<(Time, PeerHandle, usize)>,
    /// Messages that were seen, in two generations.
    seen: [BTreeSet<MessageId>; 2],
    generation_ends: Time,
    /// What went over which connection, either way, in the same generations.
    exchanged: [BTreeSet<(PeerHandle, MessageId)>; 2],
    /// What others have told up to here.
    told: u64,
    listens_at: Option<Time>,
    slips_at: Option<Time>,
    left: bool,
}

/// How often conspirators listen to each other.
const LISTEN: Duration = Duration::from_millis(5);
/// And how often those look who send nothing but what they are tried by.
const COLLUDE: Duration = Duration::from_millis(40);

impl Sybil {
    pub(super) fn new(
        conduct: Conduct,
        topics: [Topic; 2],
        links: Links,
        conspiracy: Conspiracy,
        random: Stream,
    ) -> Self {
        Self {
            conduct,
            topics,
            links,
            conspiracy,
            random,
            mesh: Default::default(),
            regrafts: BTreeSet::new(),
            seen: Default::default(),
            generation_ends: Time::ZERO,
            exchanged: Default::default(),
            told: 0,
            listens_at: None,
            slips_at: None,
            left: false,
        }
    }

    /// Subscribes to everything and grafts.
    fn greet(&mut self, peer: PeerHandle, out: &mut dyn Sink<Output>) {
        for topic in &self.topics {
            let subscription = Subscription { subscribe: true, topic: topic.clone() };
            out.emit(Output::Send { peer, frame: Frame::Subscription(subscription) });
        }
        for place in 0..self.topics.len() {
            self.graft(peer, place, out);
        }
    }

    fn graft(&mut self, peer: PeerHandle, place: usize, out: &mut dyn Sink<Output>) {
        self.mesh[place].insert(peer);
        out.emit(Output::Send { peer, frame: Frame::Graft(self.topics[place].clone()) });
    }

    /// Leaves all meshes and asks for its places again, in one RPC to each peer.
    fn slip(&self, out: &mut dyn Sink<Output>) {
        for (topic, mesh) in self.topics.iter().zip(&self.mesh) {
            for peer in mesh.iter().copied() {
                for subscribe in [false, true] {
                    let subscription = Subscription { subscribe, topic: topic.clone() };
                    out.emit(Output::Send { peer, frame: Frame::Subscription(subscription) });
                }
                out.emit(Output::Send { peer, frame: Frame::Graft(topic.clone()) });
            }
        }
    }

    fn rpc(&mut self, now: Time, peer: PeerHandle, rpc: &Rpc, out: &mut dyn Sink<Output>) {
        for topic in &rpc.graft {
            if let Some(place) = self.place_of(topic) {
                self.mesh[place].insert(peer);
            }
        }
        for prune in &rpc.prune {
            if let Some(place) = self.place_of(&prune.topic) {
                self.mesh[place].remove(&peer);
                let wait_us = micros(self.conduct.regraft) + self.random.below(micros(self.conduct.regraft_spread) + 1);
                self.regrafts.insert((now + Duration::from_micros(wait_us), peer, place));
            }
        }
        for payload in &rpc.publish {
            if self.conduct.colludes {
                self.exchanged[0].insert((peer, payload.id()));
                if let Some(holder) = self.links.id_of(peer) {
                    self.conspiracy.note_holder(now, holder, payload);
                }
            }
            if self.conduct.mirrors {
                self.send(peer, payload, out);
            }
            self.message(now, Some(peer), payload, out);
        }
        if now < self.conduct.turns && !self.conduct.announces {
            for payload in rpc.iwant.iter().filter_map(|id| self.conspiracy.get(id)) {
                out.emit(Output::Send { peer, frame: Frame::Publish { payload, class: Class::Reply } });
            }
        }
    }

    /// Takes in a message and forwards it, unless it drops it.
    fn message(&mut self, now: Time, from: Option<PeerHandle>, payload: &Arc<Payload>, out: &mut dyn Sink<Output>) {
        let turned = now >= self.conduct.turns;
        if turned && self.drops_everything() {
            return;
        }
        let Some(place) = self.place_of(payload.topic()).filter(|_| self.is_new(now, payload.id())) else { return };
        if !turned || self.conduct.wormhole {
            self.conspiracy.put(now, payload);
        }
        if self.conduct.announces {
            let ids: Arc<[MessageId]> = Arc::from([payload.id()]);
            for peer in self.links.connected().filter(|peer| Some(*peer) != from) {
                let frame = Frame::IHave { topic: self.topics[place].clone(), ids: ids.clone() };
                out.emit(Output::Send { peer, frame });
            }
            return;
        }
        if turned && self.drops(place, payload) {
            return;
        }
        for peer in self.mesh[place].iter().copied().filter(|peer| Some(*peer) != from) {
            self.send(peer, payload, out);
        }
    }

    fn send(&self, peer: PeerHandle, payload: &Arc<Payload>, out: &mut dyn Sink<Output>) {
        out.emit(Output::Send { peer, frame: Frame::Publish { payload: payload.clone(), class: Class::Forward } });
    }

    /// Whether it has no use for messages at all any more.
    fn drops_everything(&self) -> bool {
        let Conduct { drop_permille, withholds, announces, wormhole, victims, .. } = &self.conduct;
        *drop_permille >= 1_000 && *withholds == [true; 2] && victims.is_empty() && !announces && !wormhole
    }

    fn drops(&mut self, place: usize, payload: &Payload) -> bool {
        if !self.conduct.victims.is_empty() {
            return payload.transaction().is_some_and(|found| self.conduct.victims.contains(&found.sender()));
        }
        self.conduct.withholds[place] && self.random.below(1_000) < self.conduct.drop_permille
    }

    /// Sends each peer of a mesh what it has and has not sent.
    fn collude(&mut self, now: Time, out: &mut dyn Sink<Output>) {
        self.forget(now);
        for (place, peer) in (0..2).flat_map(|place| self.mesh[place].iter().map(move |peer| (place, *peer))) {
            let Some(holder) = self.links.id_of(peer) else { continue };
            for payload in self.conspiracy.held(now, &holder) {
                let exchanged = (peer, payload.id());
                let [young, old] = &mut self.exchanged;
                if *payload.topic() == self.topics[place] && !old.contains(&exchanged) && young.insert(exchanged) {
                    out.emit(Output::Send { peer, frame: Frame::Publish { payload, class: Class::Forward } });
                }
            }
        }
    }

    fn forget(&mut self, now: Time) {
        if now >= self.generation_ends {
            self.seen.swap(0, 1);
            self.seen[0].clear();
            self.exchanged.swap(0, 1);
            self.exchanged[0].clear();
            self.generation_ends = now + REMEMBERED;
        }
    }

    /// Remembers a message; false if it was known.
    fn is_new(&mut self, now: Time, id: MessageId) -> bool {
        self.forget(now);
        !self.seen[1].contains(&id) && self.seen[0].insert(id)
    }

    fn place_of(&self, topic: &Topic) -> Option<usize> {
        self.topics.iter().position(|ours| ours == topic)
    }

    /// Takes in what conspirators have learned meanwhile.
    fn listen(&mut self, now: Time, out: &mut dyn Sink<Output>) {
        let (fresh, told) = self.conspiracy.since(self.told);
        self.told = told;
        for payload in fresh {
            self.message(now, None, &payload, out);
        }
    }
}

impl Adversary for Sybil {
    fn handle(&mut self, now: Time, input: Input<'_>, out: &mut dyn Sink<Output>) {
        if self.left {
            return;
        }
        match &input {
            Input::WallClock { .. } => {
                self.links.begin(out);
                let listens = self.conduct.wormhole || self.conduct.colludes;
                self.listens_at = listens.then_some(now + LISTEN);
                self.slips_at = self.conduct.slips.map(|every| now + every);
            }
            Input::Rpc { peer, rpc, .. } => self.rpc(now, *peer, rpc, out),
            Input::Disconnected { peer } => {
                self.mesh.iter_mut().for_each(|mesh| {
                    mesh.remove(peer);
                });
                self.regrafts.retain(|(_, other, _)| other != peer);
            }
            _ => {}
        }
        if let Some(peer) = self.links.handle(now, &input) {
            self.greet(peer, out);
        }
    }

    fn is_there(&self) -> bool {
        !self.left
    }

    fn on_wake(&mut self, now: Time, out: &mut dyn Sink<Output>) {
        if self.left {
            return;
        }
        if self.conduct.leaves.is_some_and(|at| at <= now) {
            self.left = true;
            return self.links.end(out);
        }
        while let Some(due) = self.regrafts.first().copied().filter(|(at, ..)| *at <= now) {
            self.regrafts.remove(&due);
            self.graft(due.1, due.2, out);
        }
        if let Some(every) = self.conduct.slips.filter(|_| self.slips_at.is_some_and(|at| at <= now)) {
            self.slips_at = Some(now + every);
            self.slip(out);
        }
        if self.listens_at.is_some_and(|at| at <= now) {
            if self.conduct.colludes {
                self.listens_at = Some(now + COLLUDE);
                self.collude(now, out);
            } else {
                self.listens_at = Some(now + LISTEN);
                self.listen(now, out);
            }
        }
        self.links.on_wake(now, out);
    }

    fn next_wake(&self) -> Option<Time> {
        if self.left {
            return None;
        }
        let regraft = self.regrafts.first().map(|(at, ..)| *at);
        let others = [self.listens_at, self.slips_at, self.links.next_wake(), self.conduct.leaves];
        others.into_iter().chain([regraft]).flatten().min()
    }
}
