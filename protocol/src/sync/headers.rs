//! The headers of the chain that is followed: asking for them, and what is checked before one is believed.

use super::Sync;
use super::io::{Effect, HEADERS_AHEAD_MAX, HEADERS_PER_JOB, Local};
use super::requests::{Purpose, Requests, Timer};
use super::session::Session;
use crate::block::SignedHeader;
use crate::chain::{Event, Moment, PeerFault, Position, RequestId, Verified, VerifyTicket};
use crate::id::{BlockId, PeerHandle};
use crate::mesh::Sink;
use crate::request::{HEADERS_MAX, LOCATOR_IDS_MAX, Request, Status};
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// How far the headers have come.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// More are to be asked for when there is room.
    Wanted,
    /// They are asked for.
    Requested { request: RequestId, locator: Vec<BlockId> },
    /// They have come, and their signatures are being verified.
    Verifying(Batch),
    /// There are no more, or the peer gives no more.
    Done,
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
    /// Headers of blocks that we have, up to this one.
    Known(Position),
    /// Nothing that we could use.
    Nothing,
    /// It belongs to a fork that began below our root.
    TooDeep(Position),
    Fault(PeerFault),
}

impl Session {
    pub(super) fn awaits(&self, awaited: RequestId) -> bool {
        matches!(self.stage, Stage::Requested { request, .. } if request == awaited)
    }

    pub(super) fn verifying(&self) -> usize {
        let headers = if let Stage::Verifying(batch) = &self.stage { batch.jobs.len() } else { 0 };
        headers + self.window.verifying()
    }

    pub(super) fn check_stage(&self, requests: &Requests) {
        match &self.stage {
            Stage::Requested { request, .. } => assert!(requests.get(*request).is_some(), "headers that nobody sends"),
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
        let body = Request::Headers { locator: locator.clone(), headers_max: HEADERS_MAX };
        let request = self.ask(now, (leader, Purpose::Headers), body, local, out);
        if let Some(session) = &mut self.session {
            session.stage = Stage::Requested { request, locator };
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
        let locator = match &mut session.stage {
            Stage::Requested { request: awaited, locator } if *awaited == request => core::mem::take(locator),
            _ => return,
        };
        session.stage = Stage::Done;
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
                if session.claimed > status.head.height.max(height) {
                    self.strike(at.now, peer, local, out);
                }
            }
            Reading::Fault(fault) => self.bar(peer, fault, out),
            Reading::TooDeep(Position { id: block, height, .. }) => {
                let root_height = local.root().height;
                out.emit(Effect::Event(Event::DeepFork { block, height, root_height, from: Some(peer) }));
                self.rest(at.now, peer, local);
            }
            Reading::Known(last) if known.is_none_or(|known| last.height > known.height) => {
                if status.head.height > last.height {
                    session.window.begin_after(last);
                    session.stage = Stage::Wanted;
                }
            }
            Reading::Known(_) => self.strike(at.now, peer, local, out),
            Reading::Headers(headers, cut) => {
                let goes_on =
                    |last: &SignedHeader| status.head.height > last.header.height && last.header.slot < at.slot_ahead;
                // What comes after is from the future, by our clock: nobody is blamed for that.
                let more = !cut && headers.last().is_some_and(goes_on);
                if few && more {
                    // An honest peer stops only where its chain ends.
                    self.strike(at.now, peer, local, out);
                }
                self.take_headers(headers, more && !few, local, out);
            }
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
        return Reading::Known(last);
    }
    headers.drain(..have);
    // Those that wait to be placed end elsewhere: the peer follows another fork by now. It is asked anew afterwards.
    let elsewhere = known.is_some_and(|known| known.id != headers[0].header.parent);
    if elsewhere && (have == 0 || waiting) { Reading::Nothing } else { Reading::Headers(headers, cut) }
}
