//! Reading the machine's state, for its owner, metrics and tests. Nothing here changes what it does.

use super::Sync;
use super::io::{
    BLOCK_REQUESTS_PER_PEER_MAX, HEADERS_AHEAD_MAX, Local, STRIKES_MAX, SyncCounters, SyncProgress, SyncState,
};
use super::requests::Purpose;
use super::session::Session;
use crate::id::PeerHandle;
use crate::time::{Duration, Time};
use core::cmp::Reverse;

impl Sync {
    /// When to call [`Sync::on_wake`], if ever.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        self.requests.next_wake()
    }

    /// Whether somebody's chain is being followed.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.session.is_some()
    }

    /// Whether somebody's chain is being followed and has headers that we lack.
    #[must_use]
    pub fn is_bringing(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_bringing)
    }

    /// Whether the peer is connected and may be asked.
    #[must_use]
    pub fn may_ask(&self, peer: PeerHandle) -> bool {
        self.peers.get(&peer).is_some_and(|peer| !peer.barred)
    }

    /// The peers that may be asked, highest claims first.
    #[must_use]
    pub fn by_height(&self) -> Vec<PeerHandle> {
        let mut peers: Vec<(PeerHandle, u64)> =
            self.askable().map(|peer| (peer, self.peers.get(&peer).map_or(0, |state| state.height))).collect();
        peers.sort_by_key(|(peer, height)| (Reverse(*height), *peer));
        peers.into_iter().map(|(peer, _)| peer).collect()
    }

    /// Requests and verifications that are not answered.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.requests.len() + self.session.as_ref().map_or(0, |session| session.verifying())
    }

    /// Counts since the start.
    #[must_use]
    pub fn counters(&self) -> SyncCounters {
        self.counters
    }

    /// How far catching up has come.
    #[must_use]
    pub fn progress(&self, now: Time, height: u64) -> SyncProgress {
        // Whom all doubt is as good as any other.
        let others = self.peers.values().any(|peer| peer.told && !peer.barred && !peer.is_doubted());
        let believed = || self.peers.values().filter(|peer| !(peer.barred || others && peer.is_doubted()));
        let target = believed().map(|peer| peer.height).max().unwrap_or(0).max(height);
        let requests = self.requests.len();
        let mut usable = self.peers.values().filter(|peer| !peer.barred);
        let may_tell = usable.clone().any(|peer| peer.status_failures < STRIKES_MAX);
        let unheard = may_tell && !usable.any(|peer| peer.told);
        let Some(session) = &self.session else {
            let waiting = believed().any(|peer| peer.height > height && !peer.is_rested(now));
            return SyncProgress {
                from: height,
                height,
                target,
                unheard,
                waiting,
                requests,
                ..SyncProgress::default()
            };
        };
        let mut asked: Vec<PeerHandle> = self.requests.iter().map(|(_, open)| open.peer).collect();
        asked.sort_unstable();
        asked.dedup();
        let blocks_per_second = session.rate.per_second(now);
        #[expect(clippy::cast_precision_loss, reason = "heights are far below 2^52")]
        let seconds = (target - height) as f64 / blocks_per_second;
        // A century is as good as never, and more is no duration at all.
        let known = blocks_per_second > 0.0 && seconds < 3e9;
        SyncProgress {
            state: self.state(),
            peer: Some(session.leader),
            from: session.from,
            height,
            target,
            unheard,
            waiting: false,
            blocks_per_second,
            remaining: known.then(|| Duration::from_secs_f64(seconds)),
            peers: asked.len(),
            requests,
            headers_ahead: session.window.len(),
            held_bytes: session.window.held_bytes(),
        }
    }

    /// Asserts that the bounds hold and the parts agree.
    ///
    /// # Panics
    /// If they do not.
    pub fn check(&self, local: &dyn Local) {
        self.requests.check();
        for (peer, state) in &self.peers {
            let open = self.requests.iter().filter(|(_, open)| open.peer == *peer);
            let blocks = open.filter(|(_, open)| matches!(open.purpose, Purpose::Blocks(_))).count();
            assert_eq!(blocks, state.in_flight, "requests under way to a peer");
            assert!(blocks <= BLOCK_REQUESTS_PER_PEER_MAX, "too much asked of one peer");
            assert!(!state.barred || blocks == 0, "a barred peer is asked");
        }
        assert!(self.requests.iter().all(|(_, open)| self.peers.contains_key(&open.peer)), "a request to nobody");
        let Some(session) = &self.session else { return };
        assert!(self.peers.get(&session.leader).is_none_or(|leader| !leader.barred), "a barred peer leads");
        session.window.check(&self.requests, local);
        assert!(session.window.len() <= HEADERS_AHEAD_MAX, "too many headers ahead");
        session.check_stage(&self.requests);
    }

    fn state(&self) -> SyncState {
        match &self.session {
            None => SyncState::Idle,
            Some(session) if session.window.is_empty() && session.placing == 0 => SyncState::Headers,
            Some(_) => SyncState::Blocks,
        }
    }
}
