//! Requests without an answer, and the machine's timers.

use super::io::BLOCK_REQUESTS_MAX;
use crate::chain::RequestId;
use crate::id::{BlockId, PeerHandle};
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    open: BTreeMap<RequestId, Open>,
    timers: BTreeSet<(Time, Timer)>,
    /// How many of the open ones are for blocks.
    blocks: usize,
    /// How many of these bring nothing that others are not asked for.
    given_up: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) peer: PeerHandle,
    pub(super) purpose: Purpose,
    pub(super) sent: Time,
    deadline: Time,
    /// When others may be asked for what it is to bring.
    slow_at: Option<Time>,
    /// Whether they are.
    given_up: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Status,
    Headers,
    /// These blocks, with their heights.
    Blocks(Vec<(u64, BlockId)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A request's time is up.
    Deadline(RequestId),
    /// A request takes long.
    Slow(RequestId),
    /// No block has come for a while.
    Stall,
    /// Somebody has rested, or a pause is over.
    Rested,
}

impl Requests {
    pub(super) fn open(
        &mut self,
        request: RequestId,
        (peer, purpose): (PeerHandle, Purpose),
        sent: Time,
        (deadline, slow_at): (Time, Option<Time>),
    ) {
        self.timers.insert((deadline, Timer::Deadline(request)));
        self.timers.extend(slow_at.map(|at| (at, Timer::Slow(request))));
        self.blocks += usize::from(matches!(purpose, Purpose::Blocks(_)));
        self.open.insert(request, Open { peer, purpose, sent, deadline, slow_at, given_up: false });
    }

    pub(super) fn close(&mut self, request: RequestId) -> Option<Open> {
        let open = self.open.remove(&request)?;
        self.timers.remove(&(open.deadline, Timer::Deadline(request)));
        if let Some(at) = open.slow_at {
            self.timers.remove(&(at, Timer::Slow(request)));
        }
        self.blocks -= usize::from(matches!(open.purpose, Purpose::Blocks(_)));
        self.given_up -= usize::from(open.given_up);
        Some(open)
    }

    pub(super) fn get(&self, request: RequestId) -> Option<&Open> {
        self.open.get(&request)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (RequestId, &Open)> {
        self.open.iter().map(|(request, open)| (*request, open))
    }

    pub(super) fn of(&self, peer: PeerHandle) -> Vec<RequestId> {
        self.iter().filter(|(_, open)| open.peer == peer).map(|(request, _)| request).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many are for blocks.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// How many are for blocks that nobody else is asked for.
    pub(super) fn awaited(&self) -> usize {
        self.blocks - self.given_up
    }

    /// What this one is to bring is asked of others: it keeps nobody from being asked, unless there are many such.
    pub(super) fn give_up(&mut self, request: RequestId) {
        if self.given_up < BLOCK_REQUESTS_MAX
            && let Some(open) = self.open.get_mut(&request).filter(|open| !open.given_up)
        {
            open.given_up = true;
            self.given_up += 1;
        }
    }

    /// Has a request noticed as slow at this time again.
    pub(super) fn slow_again(&mut self, request: RequestId, at: Time) {
        if let Some(open) = self.open.get_mut(&request)
            && at < open.deadline
        {
            open.slow_at = Some(at);
            self.timers.insert((at, Timer::Slow(request)));
        }
    }

    pub(super) fn arm(&mut self, at: Time, timer: Timer) {
        self.timers.insert((at, timer));
    }

    pub(super) fn disarm(&mut self, at: Time, timer: Timer) {
        self.timers.remove(&(at, timer));
    }

    pub(super) fn is_armed(&self, at: Time, timer: Timer) -> bool {
        self.timers.contains(&(at, timer))
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        // An ordered set that was emptied keeps a node, which need not be looked at.
        if self.timers.is_empty() { None } else { self.timers.first().map(|(at, _)| *at) }
    }

    /// Removes the first timer that is due.
    pub(super) fn take_due(&mut self, now: Time) -> Option<Timer> {
        let (at, timer) = *self.timers.first()?;
        if at > now {
            return None;
        }
        self.timers.pop_first();
        if let Timer::Slow(request) = timer
            && let Some(open) = self.open.get_mut(&request)
        {
            open.slow_at = None;
        }
        Some(timer)
    }

    pub(super) fn check(&self) {
        let blocks = self.open.values().filter(|open| matches!(open.purpose, Purpose::Blocks(_))).count();
        let given_up = self.open.values().filter(|open| open.given_up).count();
        assert_eq!((blocks, given_up), (self.blocks, self.given_up), "requests for blocks");
        assert!(self.awaited() <= BLOCK_REQUESTS_MAX && given_up <= BLOCK_REQUESTS_MAX, "{blocks} requests for blocks");
        for (request, open) in &self.open {
            assert!(self.timers.contains(&(open.deadline, Timer::Deadline(*request))), "a request without deadline");
        }
        for (_, timer) in &self.timers {
            if let Timer::Deadline(request) | Timer::Slow(request) = timer {
                assert!(self.open.contains_key(request), "a timer of no request");
            }
        }
    }
}
