//! Following one peer's chain: whom, from the first request for headers to the last block, and what then.

use super::Sync;
use super::blocks::Window;
use super::headers::Stage;
use super::io::{Effect, Local, STRIKES_MAX};
use super::peers::Peer;
use super::rate::Rate;
use crate::chain::{Event, Moment, Position};
use crate::id::{BlockId, PeerHandle};
use crate::mesh::Sink;
use crate::time::Time;
use core::cmp::Reverse;

/// Following one peer's chain.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) leader: PeerHandle,
    pub(super) stage: Stage,
    /// Whether the leader was chosen because it was its turn, and when it had its last one.
    pub(super) turn: Option<Time>,
    /// Of how many peers headers may be asked for by now, while none have come.
    pub(super) asked_max: usize,
    pub(super) window: Window,
    /// Height of our head when it began.
    pub(super) from: u64,
    /// Our head then.
    began: BlockId,
    /// How many blocks were placed.
    pub(super) placed: u64,
    pub(super) rate: Rate,
    /// Nothing is handed to the workers before, because they had too much to do.
    pub(super) paused_until: Time,
    /// Whether [`Event::SyncStarted`] was emitted.
    pub(super) started: bool,
    /// What the leader claimed when it was chosen, if it claimed a chain that we would have in place of ours.
    pub(super) claimed: Option<u64>,
    /// Blocks that are being placed.
    pub(super) placing: u64,
    /// The height of the first block that is not placed, and since when it is the first.
    first: Option<(u64, Time)>,
}

impl Sync {
    /// Begins to follow a peer, this one if it may be asked, unless that is being done; says whether it is now.
    pub fn start(
        &mut self,
        at: Moment,
        preferred: Option<PeerHandle>,
        local: &dyn Local,
        out: &mut dyn Sink<Effect>,
    ) -> bool {
        if self.session.is_none() {
            let askable = |peer: &PeerHandle| self.peers.get(peer).is_some_and(|peer| peer.is_rested(at.now));
            match preferred.filter(askable).or_else(|| self.candidate(at, &[], local)) {
                Some(leader) => self.follow(at, leader, local, out),
                None => self.say_if_nobody_keeps(local.head().height + 1, out),
            }
        }
        self.session.is_some()
    }

    /// The peer gives no more headers; what it has given is still brought to its end.
    pub(super) fn leader_is_gone(&mut self) {
        if let Some(session) = &mut self.session
            && !matches!(session.stage, Stage::Verifying(_))
        {
            session.stage = Stage::Done;
        }
    }

    /// Whom to follow of those that are ahead and keep what comes next, but for some: by turns one that has not led in vain and has not failed lately, and of
    /// these whoever claims most; and whoever was not followed for longest.
    pub(super) fn candidate(&self, at: Moment, but: &[PeerHandle], local: &dyn Local) -> Option<PeerHandle> {
        let next = local.head().height + 1;
        let fits = |peer: &Peer| peer.is_rested(at.now) && peer.is_ahead(at, local) && peer.earliest <= next;
        let fitting = self.peers.iter().filter(|(peer, state)| fits(state) && !but.contains(peer));
        if self.goes_by_turns() {
            return fitting.min_by_key(|(peer, state)| (state.followed_at, **peer)).map(|(peer, _)| *peer);
        }
        fitting
            .max_by_key(|(peer, state)| {
                (Reverse(state.led_in_vain), Reverse(state.rests), state.height, Reverse(**peer))
            })
            .map(|(peer, _)| *peer)
    }

    pub(super) fn follow(&mut self, at: Moment, leader: PeerHandle, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        for peer in self.peers.values_mut() {
            peer.lacks_from = None;
        }
        let turn = self.note_chosen(at.now, leader);
        self.session = Some(Session {
            leader,
            stage: Stage::Wanted,
            turn,
            asked_max: 1,
            window: Window::default(),
            from: local.head().height,
            began: local.head().id,
            placed: 0,
            rate: Rate::start(at.now),
            paused_until: Time::ZERO,
            started: false,
            claimed: self.peers.get(&leader).and_then(|leader| leader.claimed(at, local)),
            placing: 0,
            first: None,
        });
        self.ask_for_headers(at.now, local, out);
    }

    /// Whether the next peer is chosen by whose turn it is, which is every other time.
    fn goes_by_turns(&self) -> bool {
        !self.followed.is_multiple_of(2)
    }

    /// Notes that a peer is asked for headers. If that is because it is its turn, returns when it had its last one.
    pub(super) fn note_chosen(&mut self, now: Time, peer: PeerHandle) -> Option<Time> {
        let is_turn = self.goes_by_turns();
        self.followed += 1;
        let before = self.peers.get_mut(&peer).map(|peer| core::mem::replace(&mut peer.followed_at, now));
        before.filter(|_| is_turn)
    }

    /// A peer whose turn it was has had too little time for it: it is its turn again, the next time.
    pub(super) fn give_turn_back(&mut self, peer: PeerHandle, before: Time) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.followed_at = before;
        }
        self.followed |= 1;
    }

    /// Does everything that can be done now.
    pub(super) fn go_on(&mut self, at: Moment, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        if self.session.is_none() && !self.start(at, None, local, out) {
            return;
        }
        self.place_ready(at, local, out);
        self.verify_headers(at, out);
        self.verify_fetched(at, out);
        self.ask_for_headers(at.now, local, out);
        self.ask_others_for_headers(at, local, out);
        self.ask_for_blocks(at, local, out);
        self.end_if_done(at, local, out);
    }

    pub(super) fn end_if_done(&mut self, at: Moment, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        let Some(session) = self.session.as_mut().filter(|session| session.placing == 0) else { return };
        let since = session.first_since(at.now);
        let late = at.now.since(since) >= local.config().request_timeout * STRIKES_MAX;
        let (leader, claimed) = (session.leader, session.claimed);
        let (began, placed) = (session.began, session.placed);
        let complete = if late && session.window.first_is_awaited() {
            false
        } else if let Some(missing) = session.window.first_is_missing() {
            let hope = self.peers.values().any(|peer| peer.should_have(missing));
            if hope || self.requests.blocks() > 0 {
                // Somebody rests, or is asked already.
                return;
            }
            self.say_if_nobody_keeps(missing, out);
            false
        } else if session.window.is_empty() && matches!(session.stage, Stage::Done) {
            self.peers.get(&leader).is_some_and(|leader| !leader.is_ahead(at, local))
        } else {
            return;
        };
        if let Some((leader, claimed)) = self.peers.get_mut(&leader).zip(claimed) {
            // What the mesh has brought meanwhile has come true as well.
            let (reached, moved) = (local.head().height >= claimed, local.head().id != began);
            leader.led_in_vain = if reached && moved { 0 } else { leader.led_in_vain.saturating_add(1) };
            leader.led_nowhere = if placed > 0 || reached { 0 } else { leader.led_nowhere.saturating_add(1) };
        }
        self.end(out, complete);
        // It would be followed again at once.
        if !complete && self.peers.get(&leader).is_some_and(|leader| leader.is_rested(at.now)) {
            self.rest(at.now, leader, local);
        }
        self.start(at, None, local, out);
    }

    /// If all that claim to have a block of this height have pruned it, says so, once for each height.
    pub(super) fn say_if_nobody_keeps(&mut self, height: u64, out: &mut dyn Sink<Effect>) {
        let ahead = || self.peers.values().filter(|peer| !peer.barred && peer.height >= height);
        let Some(earliest) = ahead().map(|peer| peer.earliest).min().filter(|earliest| *earliest > height) else {
            return;
        };
        if self.told_nobody_keeps != Some(height) {
            let peers = ahead().count();
            self.told_nobody_keeps = Some(height);
            out.emit(Effect::Event(Event::NobodyKeeps { height, earliest, peers }));
        }
    }

    pub(super) fn end(&mut self, out: &mut dyn Sink<Effect>, complete: bool) {
        let Some(session) = self.session.take() else { return };
        out.emit(Effect::Ended { peer: session.leader, started: session.started, complete });
    }
}

impl Session {
    /// Since when the first block that is not placed is the first.
    fn first_since(&mut self, now: Time) -> Time {
        let height = self.window.first_height();
        let since = self.first.filter(|(first, _)| Some(*first) == height).map_or(now, |(_, since)| since);
        self.first = height.map(|height| (height, since));
        since
    }

    pub(super) fn last(&self, local: &dyn Local) -> Option<Position> {
        self.window.last().or_else(|| Some(local.head()))
    }
}
