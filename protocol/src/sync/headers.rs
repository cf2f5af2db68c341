//! The headers of the chain that is followed: asking for them, and what is checked before one is believed.

use super::Sync;
use super::io::{Effect, HEADERS_AHEAD_MAX, HEADERS_ASKED_MAX, HEADERS_PER_JOB, Local};
use super::requests::{Purpose, Requests, Timer};
use super::session::Session;
use crate::block::SignedHeader;
use crate::chain::{Event, Moment, PeerFault, Position, RequestId, Verified, VerifyTicket};
use crate::id::{BlockId, PeerHandle};
use crate::mesh::Sink;
use crate::request::{HEADERS_MAX, LOCATOR_IDS_MAX, Request, Status};
use crate::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};

/// How far the headers have come.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// More are to be asked for when there is room.
    Wanted,
    /// They are asked for, last of the leader; at the beginning of several peers, of which the first that gives any becomes the leader.
    Requested(Vec<Asked>),
    /// They have come, and their signatures are being verified.
    Verifying(Batch),
    /// There are no more, or the peer gives no more.
    Done,
}

/// A request for headers.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    request: RequestId,
    peer: PeerHandle,
    locator: Vec<BlockId>,
    /// As [`Session::claimed`].
    claimed: Option<u64>,
    /// As [`Session::turn`].
    turn: Option<Time>,
}

/// The headers of one answer. They are verified in parts of [`HEADERS_PER_JOB`], each of which is a job of its own: when
/// the workers refuse one, only this one is offered again.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    headers: Vec<SignedHeader>,
    /// The jobs that the workers have, with the part that each is for.
    jobs: BTreeMap<VerifyTicket, usize>,
    /// Parts that are to be offered to the workers.
    waiting: BTreeSet<usize>,
    /// Whether the peer has more.
    more: bool,
}

impl Batch {
    fn new(headers: Vec<SignedHeader>, more: bool) -> Self {
        let parts = headers.len().div_ceil(HEADERS_PER_JOB);
        Self { headers, jobs: BTreeMap::new(), waiting: (0..parts).collect(), more }
    }

    fn part(&self, number: usize) -> Vec<SignedHeader> {
        self.headers.chunks(HEADERS_PER_JOB).nth(number).unwrap_or_default().to_vec()
    }

    fn is_verified(&self) -> bool {
        self.jobs.is_empty() && self.waiting.is_empty()
    }
}

/// What an answer means.
enum Reading {
    /// New headers that follow on what we have, and whether there were more, whose time has not come.
    Headers(Vec<SignedHeader>, bool),
    /// Headers of blocks that we have, up to this one, and whether there were more, whose time has not come.
    Known(Position, bool),
    /// Nothing that we could use.
    Nothing,
    /// It belongs to a fork that began below our root.
    TooDeep(Position),
    Fault(PeerFault),
}

impl Session {
    fn asked(&self) -> &[Asked] {
        if let Stage::Requested(asked) = &self.stage { asked } else { &[] }
    }

    /// Whether headers are asked for and none of earlier ones wait for their blocks: then it does not matter whose come.
    fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Requested(_)) && !self.is_bringing()
    }

    /// Whether headers have come whose blocks are not placed.
    pub(super) fn is_bringing(&self) -> bool {
        matches!(self.stage, Stage::Verifying(_)) || !self.window.is_empty() || self.placing > 0
    }

    /// A request for headers is over. If others are not, whoever was asked last of them leads; if none is, the peer that it was sent to, and
    /// there are no more headers.
    fn take_asked(&mut self, request: RequestId) -> Option<Asked> {
        let Stage::Requested(asked) = &mut self.stage else { return None };
        let found = asked.remove(asked.iter().position(|asked| asked.request == request)?);
        let next = asked.last();
        let last = next.unwrap_or(&found);
        (self.leader, self.claimed, self.turn) = (last.peer, last.claimed, last.turn);
        if next.is_none() {
            self.stage = Stage::Done;
        }
        Some(found)
    }

    pub(super) fn verifying(&self) -> usize {
        let headers = if let Stage::Verifying(batch) = &self.stage { batch.jobs.len() } else { 0 };
        headers + self.window.verifying()
    }

    pub(super) fn check_stage(&self, requests: &Requests) {
        match &self.stage {
            Stage::Requested(asked) => {
                let open = |asked: &Asked| requests.get(asked.request).is_some_and(|open| open.peer == asked.peer);
                assert!(asked.iter().all(open), "headers that nobody sends");
                assert!((1..=HEADERS_ASKED_MAX).contains(&asked.len()), "{} requests for headers", asked.len());
                assert!(asked.last().is_some_and(|last| last.peer == self.leader), "the leader is asked last");
                assert!(asked.len() == 1 || self.is_open(), "several peers are asked for one's headers");
                let peers: BTreeSet<PeerHandle> = asked.iter().map(|asked| asked.peer).collect();
                assert_eq!(peers.len(), asked.len(), "a peer is asked twice");
            }
            Stage::Verifying(batch) => {
                assert!(!batch.is_verified(), "a batch that waits for nothing");
                let parts: BTreeSet<usize> = batch.jobs.values().chain(&batch.waiting).copied().collect();
                assert_eq!(parts.len(), batch.jobs.len() + batch.waiting.len(), "a part is verified twice");
                assert!(parts.iter().all(|part| part * HEADERS_PER_JOB < batch.headers.len()), "a part of nothing");
                let woken = batch.waiting.is_empty() || requests.is_armed(self.paused_until, Timer::Rested);
                assert!(woken, "headers that nobody offers to the workers again");
                assert!(self.window.len() + batch.headers.len() <= HEADERS_AHEAD_MAX, "too many headers ahead");
            }
            Stage::Wanted | Stage::Done => {}
        }
    }
}

impl Sync {
    /// Asks for the next headers if there is room for them.
    pub(super) fn ask_for_headers(&mut self, now: Time, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        let Some(session) = &mut self.session else { return };
        let room = session.window.len() + usize::from(HEADERS_MAX) <= HEADERS_AHEAD_MAX;
        if !matches!(session.stage, Stage::Wanted) || !room || session.paused_until > now {
            return;
        }
        let leader = session.leader;
        match self.peers.get(&leader) {
            Some(peer) if peer.is_rested(now) => {}
            // It will be rested in a moment.
            Some(peer) if !peer.barred && peer.rests_until <= now + local.config().busy_pause => return,
            _ => {
                session.stage = Stage::Done;
                return;
            }
        }
        let mut locator = local.locator();
        if let Some(last) = session.window.last().filter(|last| locator.first() != Some(&last.id)) {
            locator.insert(0, last.id);
        }
        if locator.len() > LOCATOR_IDS_MAX {
            // The first block of all stays: everybody has it.
            locator.drain(LOCATOR_IDS_MAX - 1..locator.len() - 1);
        }
        let (claimed, turn) = (session.claimed, session.turn);
        self.ask_one_for_headers(now, (leader, claimed, turn), locator, local, out);
    }

    fn ask_one_for_headers(
        &mut self,
        now: Time,
        (peer, claimed, turn): (PeerHandle, Option<u64>, Option<Time>),
        locator: Vec<BlockId>,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) {
        let body = Request::Headers { locator: locator.clone(), headers_max: HEADERS_MAX };
        let config = local.config();
        let slow_after = if turn.is_some() { config.slow_after } else { config.headers_slow_after };
        let request = self.ask(now, (peer, Purpose::Headers), Some(slow_after), body, local, out);
        let Some(session) = &mut self.session else { return };
        let asked = Asked { request, peer, locator, claimed, turn };
        match &mut session.stage {
            Stage::Requested(others) => {
                others.push(asked);
                (session.leader, session.claimed, session.turn) = (peer, claimed, turn);
            }
            stage => *stage = Stage::Requested(vec![asked]),
        }
    }

    /// While nothing has come of what was asked for: asks others, as many as time allows by now.
    pub(super) fn ask_others_for_headers(&mut self, at: Moment, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        while let Some(session) = self.session.as_ref().filter(|session| session.is_open()) {
            let Some(locator) = session.asked().last().map(|last| last.locator.clone()) else { return };
            let asked: Vec<PeerHandle> = session.asked().iter().map(|asked| asked.peer).collect();
            let another = if asked.len() < session.asked_max { self.candidate(at, &asked, local) } else { None };
            let Some(another) = another else { return };
            let turn = self.note_chosen(at.now, another);
            let claimed = self.peers.get(&another).and_then(|peer| peer.claimed(at, local));
            self.ask_one_for_headers(at.now, (another, claimed, turn), locator, local, out);
        }
    }

    /// A request for headers takes long: if it is the last one, one peer more may be asked.
    pub(super) fn headers_are_slow(&mut self, request: RequestId) {
        if let Some(session) = &mut self.session
            && session.asked().last().is_some_and(|last| last.request == request)
        {
            session.asked_max = HEADERS_ASKED_MAX.min(session.asked().len() + 1);
        }
    }

    /// A request for headers has brought nothing.
    pub(super) fn headers_failed(&mut self, request: RequestId) {
        if let Some(asked) = self.session.as_mut().and_then(|session| session.take_asked(request)) {
            self.asked_in_vain(asked.peer);
        }
    }

    /// A peer gave no headers. If others may still give some, that is all that becomes of its having been followed.
    fn asked_in_vain(&mut self, peer: PeerHandle) {
        let others = self.session.as_ref().is_some_and(|session| !session.asked().is_empty());
        if let Some(peer) = self.peers.get_mut(&peer).filter(|_| others) {
            peer.led_in_vain = peer.led_in_vain.saturating_add(1);
            peer.led_nowhere = peer.led_nowhere.saturating_add(1);
        }
    }

    /// Headers have come: nobody else's are of use. Whoever was asked long ago has led in vain this time.
    fn choose(
        &mut self,
        at: Moment,
        (chosen, claimed, turn): (PeerHandle, Option<u64>, Option<Time>),
        local: &dyn Local,
    ) {
        let Some(session) = &mut self.session else { return };
        // Whoever is to be asked for the next ones has its time as well.
        (session.leader, session.claimed, session.turn, session.asked_max) = (chosen, claimed, turn, 1);
        let Stage::Requested(others) = core::mem::replace(&mut session.stage, Stage::Done) else { return };
        for other in others {
            let waited = self.requests.get(other.request).map_or(Duration::ZERO, |open| at.now.since(open.sent));
            if let Some(before) = other.turn.filter(|_| waited < local.config().slow_after) {
                self.give_turn_back(other.peer, before);
            } else if waited >= local.config().headers_slow_after
                && let Some(peer) = self.peers.get_mut(&other.peer)
            {
                peer.led_in_vain = peer.led_in_vain.saturating_add(1);
            }
        }
    }

    pub(super) fn headers_came(
        &mut self,
        at: Moment,
        request: RequestId,
        (peer, status): (PeerHandle, &Status),
        headers: Vec<SignedHeader>,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) {
        let ahead = self.peers.get(&peer).is_some_and(|peer| peer.is_ahead(at, local));
        let Some(session) = &mut self.session else { return };
        let Some(Asked { locator, claimed, turn, .. }) = session.take_asked(request) else { return };
        let (before, known) = (session.last(local), session.window.last());
        let waiting = !session.window.is_empty();
        let few = headers.len() < usize::from(HEADERS_MAX);
        let empty = headers.is_empty();
        let height = before.map_or(0, |before| before.height);
        match read(at, &locator, (known, waiting), headers, local) {
            Reading::Nothing
                if empty
                    && (status.head.height > height || ahead && session.window.is_empty())
                    && status.earliest <= height + 1 =>
            {
                self.bar(peer, PeerFault::Useless, out);
            }
            Reading::Nothing => {
                // It claimed more than it says now that it is asked for it. That may be an honest race, once.
                if claimed.is_some_and(|claimed| claimed > status.head.height.max(height)) {
                    self.strike(at.now, peer, local, out);
                }
            }
            Reading::Fault(fault) => self.bar(peer, fault, out),
            Reading::TooDeep(Position { id: block, height, .. }) => {
                let root_height = local.root().height;
                out.emit(Effect::Event(Event::DeepFork { block, height, root_height, from: Some(peer) }));
                self.rest(at.now, peer, local);
            }
            // As with headers that are new: an honest peer stops only where its chain ends. One that tells what we have a piece at a time would be
            // followed for as long as that lasts, and nobody else.
            Reading::Known(last, cut) if few => {
                if !cut && status.head.height > last.height && last.slot < at.slot_ahead {
                    self.strike(at.now, peer, local, out);
                }
            }
            Reading::Known(last, _) if known.is_none_or(|known| last.height > known.height) => {
                if status.head.height > last.height {
                    session.window.begin_after(last);
                    self.choose(at, (peer, claimed, turn), local);
                    if let Some(session) = &mut self.session {
                        session.stage = Stage::Wanted;
                    }
                }
            }
            Reading::Known(..) => self.strike(at.now, peer, local, out),
            Reading::Headers(headers, cut) => {
                let goes_on =
                    |last: &SignedHeader| status.head.height > last.header.height && last.header.slot < at.slot_ahead;
                // What comes after is from the future, by our clock: nobody is blamed for that.
                let more = !cut && headers.last().is_some_and(goes_on);
                self.choose(at, (peer, claimed, turn), local);
                if few && more {
                    // An honest peer stops only where its chain ends.
                    self.strike(at.now, peer, local, out);
                }
                self.take_headers(headers, more && !few, local, out);
            }
        }
        // What it claimed may have come another way.
        if claimed.is_some_and(|claimed| local.head().height < claimed) {
            self.asked_in_vain(peer);
        }
    }

    fn take_headers(&mut self, headers: Vec<SignedHeader>, more: bool, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        let Some(session) = &mut self.session else { return };
        if !core::mem::replace(&mut session.started, true) {
            let height = local.head().height;
            out.emit(Effect::Event(Event::SyncStarted { peer: session.leader, height }));
        }
        session.stage = Stage::Verifying(Batch::new(headers, more));
    }

    /// Hands headers that have come to the workers, unless these had too much to do lately.
    pub(super) fn verify_headers(&mut self, at: Moment, out: &mut dyn Sink<Effect>) {
        let Some(session) = self.session.as_mut().filter(|session| session.paused_until <= at.now) else { return };
        let Stage::Verifying(batch) = &mut session.stage else { return };
        for part in core::mem::take(&mut batch.waiting) {
            self.tickets += 1;
            let ticket = VerifyTicket(self.tickets);
            batch.jobs.insert(ticket, part);
            out.emit(Effect::VerifyHeaders { ticket, headers: batch.part(part) });
        }
    }

    /// The answer to [`Effect::VerifyHeaders`].
    pub fn on_headers_verified(
        &mut self,
        at: Moment,
        ticket: VerifyTicket,
        verified: &Verified,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) {
        let Some(session) = &mut self.session else { return };
        let leader = session.leader;
        let Stage::Verifying(batch) = &mut session.stage else { return };
        let Some(part) = batch.jobs.remove(&ticket) else { return };
        match verified {
            Verified::Valid if batch.is_verified() => {
                session.window.extend(&batch.headers);
                session.stage = if batch.more { Stage::Wanted } else { Stage::Done };
            }
            Verified::Valid => return,
            Verified::HeaderInvalid => self.bar(leader, PeerFault::BadSignature, out),
            Verified::Shed | Verified::BodyInvalid(_) => {
                batch.waiting.insert(part);
                self.pause_workers(at.now, local);
            }
        }
        self.go_on(at, local, out);
    }
}

/// Checks everything about headers but their signatures. `known` is where those before end, if there are any, and `waiting` whether some of these wait to
/// be placed.
fn read(
    at: Moment,
    locator: &[BlockId],
    (known, waiting): (Option<Position>, bool),
    mut headers: Vec<SignedHeader>,
    local: &dyn Local,
) -> Reading {
    if headers.len() > usize::from(HEADERS_MAX) {
        return Reading::Fault(PeerFault::TooMany);
    }
    let Some(first) = headers.first().map(|first| first.header) else { return Reading::Nothing };
    if !locator.contains(&first.parent) {
        return Reading::Fault(PeerFault::Unconnected);
    }
    let parent = known.filter(|known| known.id == first.parent).or_else(|| local.position(&first.parent));
    let (mut before, mut in_time) = (parent, 0);
    for header in headers.iter().map(|header| header.header) {
        let position = Position { id: header.id(), height: header.height, slot: header.slot };
        let follows = before.is_none_or(|before| {
            header.parent == before.id
                && before.height.checked_add(1) == Some(header.height)
                && before.slot < header.slot
        });
        if !follows {
            return Reading::Fault(PeerFault::Unconnected);
        }
        if header.check(local.genesis()).is_err() {
            return Reading::Fault(PeerFault::Malformed);
        }
        if local.is_invalid(&position.id) {
            return Reading::Fault(PeerFault::InvalidChain);
        }
        // A peer's clock may be ahead of ours; what is from the future comes again when its time has come.
        if header.slot > at.slot_ahead {
            break;
        }
        (before, in_time) = (Some(position), in_time + 1);
    }
    let cut = in_time < headers.len();
    headers.truncate(in_time);
    if headers.is_empty() {
        return Reading::Nothing;
    }
    let (Some(_), Some(last)) = (parent, before) else {
        return Reading::TooDeep(Position { id: first.id(), height: first.height, slot: first.slot });
    };
    let have = headers.iter().take_while(|header| local.position(&header.header.id()).is_some()).count();
    if have == headers.len() {
        return Reading::Known(last, cut);
    }
    headers.drain(..have);
    // Those that wait to be placed end elsewhere: the peer follows another fork by now. It is asked anew afterwards.
    let elsewhere = known.is_some_and(|known| known.id != headers[0].header.parent);
    if elsewhere && (have == 0 || waiting) { Reading::Nothing } else { Reading::Headers(headers, cut) }
}
