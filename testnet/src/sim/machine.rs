//! One place in the network: who acts in it, and what surrounds it.

use super::actor::Actor;
use super::disk::Disk;
use super::event::{ANY_LIFE, Event};
use super::link::{Line, Uplink};
use starling_protocol::id::PeerHandle;
use starling_protocol::time::Time;
use std::collections::VecDeque;

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It runs.
    Up,
    /// It is stopped: whatever comes waits until it goes on.
    Paused,
    /// There is none.
    Down,
}

/// A node, its connections, its processor and its disk.
///
/// The fields stand in memory as they do here: what every event looks at fills the first lines of the processor's cache, and the machine
/// follows.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Machine {
    pub(super) phase: Phase,
    /// Counts the processes that ran here. What belongs to a former one is dropped.
    pub(super) life: u32,
    /// Until when the event loop is busy, in nanoseconds.
    pub(super) loop_free_ns: u64,
    /// The earliest wake in the queue; [`Time::MAX`] when there is none.
    pub(super) wake_at: Time,
    /// How long computations take here, in thousandths of what they take elsewhere.
    pub(super) cpu_permille: u64,
    /// Bytes of RPCs that were taken in.
    pub(super) received_bytes: u64,
    /// What came while the event loop was busy, in order.
    pub(super) inbox: VecDeque<Event>,
    /// By the slots of peer handles.
    pub(super) lines: Vec<Line>,
    pub(super) uplink: Uplink,
    /// Until when the verifier is busy, in nanoseconds.
    pub(super) verifier_free_ns: u64,
    pub(super) actor: Actor,
    /// Slots that are free again; the last one is taken first.
    pub(super) free: Vec<u32>,
    /// Until when the downlink is busy, in nanoseconds.
    pub(super) downlink_free_ns: u64,
    /// The same for the disk.
    pub(super) disk_permille: u64,
    /// When it may have a peer make room for another one again.
    pub(super) evicts_at: [Time; 2],
    /// How far its wall clock is off.
    pub(super) clock_off_us: i64,
    pub(super) disk: Disk,
    /// What came while it was paused, in order.
    pub(super) held: Vec<Event>,
}

impl Machine {
    /// A place in which nothing runs yet.
    pub(super) fn new(uplink: Uplink) -> Self {
        Self {
            actor: Actor::Nobody,
            phase: Phase::Down,
            life: 0,
            lines: Vec::new(),
            free: Vec::new(),
            loop_free_ns: 0,
            verifier_free_ns: 0,
            uplink,
            downlink_free_ns: 0,
            wake_at: Time::MAX,
            cpu_permille: 1_000,
            disk_permille: 1_000,
            evicts_at: [Time::ZERO; 2],
            clock_off_us: 0,
            received_bytes: 0,
            inbox: VecDeque::new(),
            disk: Disk::default(),
            held: Vec::new(),
        }
    }

    /// Whether the process with this number runs and goes on.
    pub(super) fn lives(&self, life: u32) -> bool {
        self.phase == Phase::Up && (life == self.life || life == ANY_LIFE)
    }

    /// Whether what comes now has to wait: the event loop is busy, or something waits already.
    pub(super) fn is_busy(&self, at: Time) -> bool {
        !self.inbox.is_empty() || self.is_working(at)
    }

    /// Whether the event loop is busy.
    pub(super) fn is_working(&self, at: Time) -> bool {
        self.loop_free_ns > at.as_micros().saturating_mul(1_000)
    }

    /// When the event loop is free.
    pub(super) fn free_at(&self) -> Time {
        Time::from_micros(self.loop_free_ns.div_ceil(1_000))
    }

    /// When all has come whose last bit comes to the downlink now, for which a byte takes so long; the sender's uplink took `sent_in_ns` for it.
    pub(super) fn receive(&mut self, at: Time, (bytes, byte_ps): (u64, u64), sent_in_ns: u64) -> Time {
        let at_ns = at.as_micros().saturating_mul(1_000);
        let time_ns = u64::try_from(u128::from(bytes) * u128::from(byte_ps) / 1_000).unwrap_or(u64::MAX);
        // Its first bit came so long ago as the uplink took for the rest, and it can be through no sooner than its last bit is here.
        let begun_ns = self.downlink_free_ns.max(at_ns.saturating_sub(sent_in_ns));
        self.downlink_free_ns = begun_ns.saturating_add(time_ns).max(at_ns);
        Time::from_micros(self.downlink_free_ns.div_ceil(1_000))
    }

    /// Has the event loop do a piece of work that came in at `at`; says when it is done.
    pub(super) fn work(&mut self, at: Time, cost_ns: u64) -> Time {
        let at_ns = at.as_micros().saturating_mul(1_000);
        let cost_ns = cost_ns.saturating_mul(self.cpu_permille) / 1_000;
        self.loop_free_ns = self.loop_free_ns.max(at_ns).saturating_add(cost_ns);
        self.free_at()
    }

    /// The line that a handle stands for, while the connection lasts.
    pub(super) fn line(&self, peer: PeerHandle) -> Option<&Line> {
        self.lines.get(peer.index()).filter(|line| line.is_for(peer))
    }

    /// The handle of the connection with a node, if there is one.
    pub(super) fn handle_of(&self, far: u32) -> Option<PeerHandle> {
        let slot = self.lines.iter().position(|line| line.far == far)?;
        let generation = self.lines[slot].generation;
        Some(PeerHandle { slot: u32::try_from(slot).expect("fewer than 2^32 connections"), generation })
    }

    /// The handle that the next connection gets.
    pub(super) fn next_handle(&self) -> PeerHandle {
        match self.free.last() {
            Some(slot) => PeerHandle { slot: *slot, generation: self.lines[*slot as usize].generation },
            None => {
                let slot = u32::try_from(self.lines.len()).expect("fewer than 2^32 connections");
                PeerHandle { slot, generation: 0 }
            }
        }
    }

    /// Puts a connection into the place that [`Self::next_handle`] named.
    pub(super) fn connect(&mut self, line: Line) {
        match self.free.pop() {
            Some(slot) => self.lines[slot as usize] = line,
            None => self.lines.push(line),
        }
    }

    /// Ends a connection on this side; gives what it was, if there was one.
    pub(super) fn disconnect(&mut self, peer: PeerHandle) -> Option<Line> {
        let line = self.lines.get_mut(peer.index()).filter(|line| line.is_for(peer))?;
        self.free.push(peer.slot);
        Some(core::mem::replace(line, Line::free(peer.generation + 1)))
    }

    /// Handles of all connections.
    pub(super) fn handles(&self) -> Vec<PeerHandle> {
        let lines = self.lines.iter().zip(0..).filter(|(line, _)| !line.is_free());
        lines.map(|(line, slot)| PeerHandle { slot, generation: line.generation }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8 Mbit/s are a byte a microsecond.
    #[test]
    fn a_downlink_takes_its_time_and_saves_none_up() {
        let byte_ps = 1_000_000;
        let at = Time::from_micros;
        let mut machine = Machine::new(Uplink::new(None));
        // What was sent in no time takes all of its own; what comes meanwhile waits.
        assert_eq!(machine.receive(at(10_000), (900, byte_ps), 0), at(10_900));
        assert_eq!(machine.receive(at(10_100), (100, byte_ps), 0), at(11_000));
        // What took the uplink longer has passed already but for its end.
        assert_eq!(machine.receive(at(50_000), (900, byte_ps), 2_000_000), at(50_000));
        // And half of it what took the uplink half as long.
        assert_eq!(machine.receive(at(90_000), (900, byte_ps), 450_000), at(90_450));
    }

    /// A verdict or a timer of a process that was killed must not reach the one that runs in its place.
    #[test]
    fn what_belongs_to_a_former_life_is_not_for_the_present_one() {
        let mut machine = Machine::new(Uplink::new(None));
        machine.life = 2;
        for (phase, runs) in [(Phase::Down, false), (Phase::Up, true), (Phase::Paused, false)] {
            machine.phase = phase;
            let lives = [1, 2, 3, ANY_LIFE].map(|life| machine.lives(life));
            assert_eq!(lives, [false, runs, false, runs], "{phase:?}");
        }
    }
}
