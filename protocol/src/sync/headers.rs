//! The headers of the chain that is followed: asking for them, and what is checked before one is believed.

use super::Sync;
use super::io::{Effect, HEADERS_AHEAD_MAX, HEADERS_PER_JOB, Local};
use super::requests::{Purpose, Requests};
use super::session::Session;
use crate::block::SignedHeader;
use crate::chain::{Event, Moment, PeerFault, Position, RequestId, Verified, VerifyTicket};
use crate::id::{BlockId, PeerHandle};
use crate::mesh::Sink;
use crate::request::{HEADERS_MAX, LOCATOR_IDS_MAX, Request, Status};
use crate::time::Time;
use std::collections::BTreeSet;

/// How far the headers have come.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// More are to be asked for when there is room.
    Wanted,
    /// They are asked for.
    Requested { request: RequestId, locator: Vec<BlockId> },
    /// Their signatures are being verified.
    Verifying(Batch),
    /// There are no more, or the peer gives no more.
    Done,
}

#[derive(Clone, Debug)]
pub(super) struct Batch {
    headers: Vec<SignedHeader>,
    tickets: BTreeSet<VerifyTicket>,
    /// Whether the peer has more.
    more: bool,
}

/// What an answer means.
enum Reading {
    /// New headers that follow on what we have.
    Headers(Vec<SignedHeader>),
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
        let headers = if let Stage::Verifying(batch) = &self.stage { batch.tickets.len() } else { 0 };
        headers + self.window.verifying()
    }

    pub(super) fn check_stage(&self, requests: &Requests) {
        match &self.stage {
            Stage::Requested { request, .. } => assert!(requests.get(*request).is_some(), "headers that nobody sends"),
            Stage::Verifying(batch) => {
                assert!(!batch.tickets.is_empty(), "a batch that waits for nothing");
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
        let Some(session) = &mut self.session else { return };
        let locator = match &mut session.stage {
            Stage::Requested { request: awaited, locator } if *awaited == request => core::mem::take(locator),
            _ => return,
        };
        session.stage = Stage::Done;
        let (before, known) = (session.last(local), session.window.last());
        let few = headers.len() < usize::from(HEADERS_MAX);
        let empty = headers.is_empty();
        let height = before.map_or(0, |before| before.height);
        match read(at, &locator, known, headers, local) {
            Reading::Nothing if empty && status.head.height > height && status.earliest <= height + 1 => {
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
            Reading::Headers(headers) => {
                let more = headers
                    .last()
                    .is_some_and(|last| status.head.height > last.header.height && last.header.slot < at.slot_ahead);
                if few && more {
                    // An honest peer stops only where its chain ends.
                    self.strike(at.now, peer, local, out);
                }
                self.verify_headers(headers, more && !few, local, out);
            }
        }
    }

    fn verify_headers(
        &mut self,
        headers: Vec<SignedHeader>,
        more: bool,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) {
        if self.session.is_none() {
            return;
        }
        let mut tickets = BTreeSet::new();
        for headers in headers.chunks(HEADERS_PER_JOB) {
            let ticket = VerifyTicket(self.ticket());
            tickets.insert(ticket);
            out.emit(Effect::VerifyHeaders { ticket, headers: headers.to_vec() });
        }
        let Some(session) = &mut self.session else { return };
        if !core::mem::replace(&mut session.started, true) {
            let height = local.head().height;
            out.emit(Effect::Event(Event::SyncStarted { peer: session.leader, height }));
        }
        session.stage = Stage::Verifying(Batch { headers, tickets, more });
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
        if !batch.tickets.remove(&ticket) {
            return;
        }
        match verified {
            Verified::Valid if batch.tickets.is_empty() => {
                session.window.extend(&batch.headers);
                session.stage = if batch.more { Stage::Wanted } else { Stage::Done };
            }
            Verified::Valid => return,
            Verified::HeaderInvalid => self.bar(leader, PeerFault::BadSignature, out),
            Verified::Shed | Verified::BodyInvalid(_) => {
                session.stage = Stage::Wanted;
                self.pause_workers(at.now, local);
            }
        }
        self.go_on(at, local, out);
    }
}

/// Checks everything about headers but their signatures. `known` is where those before end, if there are any.
fn read(
    at: Moment,
    locator: &[BlockId],
    known: Option<Position>,
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
    if elsewhere && have == 0 { Reading::Nothing } else { Reading::Headers(headers) }
}
