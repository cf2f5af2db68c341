//! What is known of the peers that may be asked, and what each is worth asking.

use super::Sync;
use super::io::{
    BLOCK_REQUESTS_PER_PEER_MAX, CHUNK_BYTES_FIRST, CHUNK_BYTES_MIN, Config, Effect, LED_NOWHERE_MAX, Local,
    REST_DOUBLINGS_MAX, STRIKES_MAX,
};
use super::requests::Timer;
use crate::chain::{Moment, PeerFault};
use crate::id::PeerHandle;
use crate::mesh::Sink;
use crate::request::{Head, RESPONSE_BLOCK_BYTES_MAX};
use crate::time::{Duration, Time};

#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// The highest block that the peer is known, or says, to have; never more than there are slots. What it has passed on counts, which may
    /// follow on nothing.
    pub(super) height: u64,
    /// Where it said last that its chain ends.
    pub(super) head: Option<Head>,
    /// The lowest height from which on it keeps blocks.
    pub(super) earliest: u64,
    /// It has told how it stands.
    pub(super) told: bool,
    /// It did what no honest peer does.
    pub(super) barred: bool,
    /// It is asked for nothing before.
    pub(super) rests_until: Time,
    /// How often it rested since it delivered last.
    pub(super) rests: u32,
    /// Requests for blocks under way.
    pub(super) in_flight: usize,
    /// Bytes of blocks in the next request.
    pub(super) chunk_bytes: usize,
    pub(super) strikes: u32,
    /// How often it was followed and our chain did not become as long as it had claimed, since that was last otherwise.
    pub(super) led_in_vain: u32,
    /// How often it was followed and nothing at all came of it, since that was last otherwise.
    pub(super) led_nowhere: u32,
    /// When it was followed last, or has come.
    pub(super) followed_at: Time,
    /// How often it was asked in vain how it stands, before it ever told.
    pub(super) status_failures: u32,
    /// When it is asked that again.
    pub(super) ask_at: Option<Time>,
    /// It said that it has not got the block of this height of the chain that is being followed.
    pub(super) lacks_from: Option<u64>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            height: 0,
            head: None,
            earliest: 1,
            told: false,
            barred: false,
            rests_until: Time::ZERO,
            rests: 0,
            in_flight: 0,
            chunk_bytes: CHUNK_BYTES_FIRST,
            strikes: 0,
            led_in_vain: 0,
            led_nowhere: 0,
            followed_at: Time::ZERO,
            status_failures: 0,
            ask_at: None,
            lacks_from: None,
        }
    }
}

impl Peer {
    /// Whether it has led us nowhere so often that its claims are worth less than what others say.
    pub(super) fn is_doubted(&self) -> bool {
        self.led_nowhere >= LED_NOWHERE_MAX
    }

    /// Whether it may be asked for something now.
    pub(super) fn is_rested(&self, now: Time) -> bool {
        !self.barred && self.rests_until <= now
    }

    /// Whether it claims a chain that we would have in place of ours: one that is longer, or one of the same length that the fork choice
    /// prefers and we do not know.
    pub(super) fn is_ahead(&self, at: Moment, local: &dyn Local) -> bool {
        self.is_ahead_with(self.height, at, local)
    }

    fn is_ahead_with(&self, height: u64, at: Moment, local: &dyn Local) -> bool {
        let ours = local.head();
        let preferred = |theirs: &Head| {
            theirs.height == ours.height
                && (theirs.slot, theirs.id) < (ours.slot, ours.id)
                && theirs.slot <= at.slot_ahead
                && local.position(&theirs.id).is_none()
                && !local.is_invalid(&theirs.id)
        };
        height > ours.height || self.head.as_ref().is_some_and(preferred)
    }

    /// The height that it says its chain has, if that or the end of it makes it one that we would have in place of ours. What it has passed on
    /// says nothing of what it claims: whoever has a producer's key makes blocks of any height, which honest peers pass on.
    pub(super) fn claimed(&self, at: Moment, local: &dyn Local) -> Option<u64> {
        let told = self.head.map(|head| head.height.min(at.slot_ahead))?;
        self.is_ahead_with(told, at, local).then_some(told)
    }

    /// Whether it should have the block of this height of the chain that is being followed.
    pub(super) fn should_have(&self, height: u64) -> bool {
        !self.barred
            && self.height >= height
            && self.earliest <= height
            && self.lacks_from.is_none_or(|lacks_from| height < lacks_from)
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight < BLOCK_REQUESTS_PER_PEER_MAX
    }

    /// It gave what it was asked for, after so long.
    pub(super) fn delivered(&mut self, elapsed: Duration, config: &Config) {
        (self.rests, self.strikes) = (0, 0);
        if elapsed >= config.slow_after {
            self.chunk_bytes = (self.chunk_bytes / 2).max(CHUNK_BYTES_MIN);
        } else if elapsed < config.slow_after / 3 {
            self.chunk_bytes = (self.chunk_bytes * 2).min(RESPONSE_BLOCK_BYTES_MAX as usize);
        }
    }

    /// It failed, or was slow; how long it rests doubles each time until it delivers. Returns until when it rests.
    pub(super) fn rest(&mut self, now: Time, at_first: Duration) -> Time {
        self.chunk_bytes = (self.chunk_bytes / 2).max(CHUNK_BYTES_MIN);
        let rest = at_first * (1 << self.rests.min(REST_DOUBLINGS_MAX));
        self.rests += 1;
        self.rests_until = self.rests_until.max(now + rest);
        self.rests_until
    }

    /// It did not give what it says it has. Returns whether that happened too often.
    pub(super) fn strike(&mut self) -> bool {
        self.strikes += 1;
        self.strikes >= STRIKES_MAX
    }
}

impl Sync {
    pub(super) fn rest(&mut self, now: Time, peer: PeerHandle, local: &dyn Local) {
        if let Some(state) = self.peers.get_mut(&peer) {
            let until = state.rest(now, local.config().rest_first);
            self.requests.arm(until, Timer::Rested);
        }
    }

    pub(super) fn pause_peer(&mut self, now: Time, peer: PeerHandle, local: &dyn Local) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.rests_until = state.rests_until.max(now + local.config().busy_pause);
            self.requests.arm(state.rests_until, Timer::Rested);
        }
    }

    pub(super) fn pause_workers(&mut self, now: Time, local: &dyn Local) {
        if let Some(session) = &mut self.session {
            session.paused_until = now + local.config().busy_pause;
            self.requests.arm(session.paused_until, Timer::Rested);
        }
    }

    /// A peer was asked in vain how it stands. If it has never told, it is asked again, a few times: whether we are behind may depend on it.
    pub(super) fn status_failed(&mut self, now: Time, peer: PeerHandle, local: &dyn Local) {
        let Some(state) = self.peers.get_mut(&peer).filter(|state| !state.told && !state.barred) else { return };
        let wait = local.config().rest_first * (1 << state.status_failures.min(REST_DOUBLINGS_MAX));
        state.status_failures += 1;
        if state.status_failures < STRIKES_MAX {
            state.ask_at = Some(now + wait);
            self.requests.arm(now + wait, Timer::Rested);
        }
    }

    /// Asks those again whose time for it has come.
    pub(super) fn ask_again(&mut self, now: Time, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        let is_due = |state: &Peer| state.ask_at.is_some_and(|at| at <= now) && !state.barred;
        let due: Vec<PeerHandle> =
            self.peers.iter().filter(|(_, state)| is_due(state)).map(|(peer, _)| *peer).collect();
        for peer in due {
            if let Some(state) = self.peers.get_mut(&peer) {
                state.ask_at = None;
            }
            self.ask_status(now, peer, local, out);
        }
    }

    /// The peer did not give what it says it has.
    pub(super) fn strike(&mut self, now: Time, peer: PeerHandle, local: &dyn Local, out: &mut dyn Sink<Effect>) {
        if self.peers.get_mut(&peer).is_some_and(Peer::strike) {
            self.bar(peer, PeerFault::Useless, out);
        } else {
            self.rest(now, peer, local);
        }
    }
}
