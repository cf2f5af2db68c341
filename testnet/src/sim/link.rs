//! Connections: what a node's machine says to a peer, on its way.
//!
//! # The way of an RPC
//! 1. **Queue.** A frame goes into the peer's send queue, which is the real one ([`SendQueue`]), and is taken out as soon as the
//!    connection can write. While nothing waits and a machine says no more than one frame to a peer at a time, there is
//!    no queue at all: what an empty queue gives back for one frame is that frame, so it goes straight to the line (a test
//!    holds the two ways against each other).
//! 2. **Window** ([`Window`], optional). What is on its way and not acknowledged is at most the congestion window.
//! 3. **Uplink** ([`Uplink`]). All connections of a node share one rate. It is committed at most [`BACKLOG_NS`] ahead; connections that
//!    wait are served one chunk each, in the order in which they began to wait. This is what the link emulation of real
//!    nodes does.
//! 4. **Path.** The last bit takes the latency of the pair of nodes and a jitter; a chunk of which a segment is lost takes a
//!    retransmission longer, and longer still when that is lost, too. Connections keep their order: nothing arrives before what was sent before it.
//! 5. **Downlink** (optional). All connections of the receiver share one rate; who comes first is served first.

use super::event::Rare;
use super::parcel::Parcel;
use starling_protocol::id::{Direction, PeerHandle};
use starling_protocol::send_queue::SendQueue;
use std::collections::VecDeque;
use std::rc::Rc;

/// How far ahead of the present an uplink may be committed.
pub(super) const BACKLOG_NS: u64 = 2_000_000;
/// The most bytes that a connection writes before another one has its turn.
const CHUNK_BYTES_MAX: u64 = 16 << 10;
/// The least, at low rates: a segment.
const CHUNK_BYTES_MIN: u64 = SEGMENT_BYTES;
/// What one segment of TCP carries.
pub(super) const SEGMENT_BYTES: u64 = 1_460;

/// See [`Line::open`].
pub(super) const NOTHING: u32 = u32::MAX;

/// One direction of a connection, at its sender: one line of the processor's cache.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Line {
    /// Of our handle of the peer; the slot is where the line stands.
    pub(super) generation: u32,
    /// The node at the other end.
    pub(super) far: u32,
    /// What the other end calls us.
    pub(super) far_handle: PeerHandle,
    pub(super) latency_us: u32,
    /// Of a million segments, how many are lost and sent again.
    pub(super) loss_ppm: u32,
    /// Whether nothing gets through at present.
    pub(super) cut: bool,
    /// Who dialled.
    pub(super) direction: Direction,
    /// When the last bytes that were sent arrive.
    pub(super) arrival_us: u64,
    /// Where in the list of what the machine says in the present input its frame for this line stands; [`NOTHING`] if it has said none.
    pub(super) open: u32,
    /// Present while something waits.
    pub(super) busy: Option<Box<Busy>>,
    /// Present once something was sent, where windows are modelled.
    pub(super) window: Option<Box<Window>>,
}

/// In place of the far node in a line that stands for no connection.
const NOBODY: u32 = u32::MAX;

impl Line {
    /// A place for a connection of this generation.
    pub(super) fn free(generation: u32) -> Self {
        Self {
            generation,
            far: NOBODY,
            far_handle: PeerHandle { slot: 0, generation: 0 },
            latency_us: 0,
            loss_ppm: 0,
            cut: false,
            direction: Direction::Inbound,
            arrival_us: 0,
            open: NOTHING,
            busy: None,
            window: None,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.far == NOBODY
    }

    /// Whether it is the connection that the handle stands for.
    pub(super) fn is_for(&self, peer: PeerHandle) -> bool {
        self.generation == peer.generation && !self.is_free()
    }
}

const _: () = assert!(size_of::<Line>() == 64);

/// What waits at a connection.
#[derive(Debug)]
pub(super) struct Busy {
    pub(super) queue: SendQueue,
    /// The RPC that is being written, and how many of its bytes are left.
    pub(super) writing: Option<(Rc<Parcel>, u64)>,
    /// Requests and responses, the first of which is being written, and how many of its bytes are left. They have streams of
    /// their own, which take turns with the RPCs.
    pub(super) bodies: VecDeque<(u64, Rare)>,
    /// Whether the last chunk was of an RPC.
    pub(super) body_next: bool,
    /// Whether it waits for the uplink, for the window or for the path.
    pub(super) waits: bool,
    /// Whether it is one of those that the uplink serves by turns.
    pub(super) queued: bool,
}

/// The sending side of a node.
#[derive(Debug)]
pub(super) struct Uplink {
    /// What a byte takes, in picoseconds; zero when sending is not limited.
    byte_ps: u64,
    chunk_bytes: u64,
    /// Until when it is committed.
    pub(super) free_ns: u64,
    /// Bytes that were sent.
    pub(super) sent_bytes: u64,
    /// Lines that wait, by slot and generation, in the order of their coming: none twice.
    pub(super) waiting: VecDeque<(u32, u32)>,
    /// Whether the event is in the queue with which it goes on.
    pub(super) armed: bool,
}

impl Uplink {
    pub(super) fn new(bits_per_s: Option<u64>) -> Self {
        let in_backlog = bits_per_s.map_or(u64::MAX, |rate| {
            u64::try_from(u128::from(rate) * u128::from(BACKLOG_NS) / 8_000_000_000).unwrap_or(u64::MAX)
        });
        Self {
            byte_ps: byte_ps(bits_per_s),
            chunk_bytes: in_backlog.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX),
            free_ns: 0,
            sent_bytes: 0,
            waiting: VecDeque::new(),
            armed: false,
        }
    }

    /// Whether a chunk may be written now.
    pub(super) fn admits(&self, now_ns: u64) -> bool {
        self.byte_ps == 0 || self.free_ns < now_ns + BACKLOG_NS
    }

    /// The most bytes of a chunk.
    pub(super) fn chunk_bytes(&self) -> u64 {
        if self.byte_ps == 0 { u64::MAX } else { self.chunk_bytes }
    }

    /// When a chunk may be written again.
    pub(super) fn admits_at_ns(&self) -> u64 {
        (self.free_ns + 1).saturating_sub(BACKLOG_NS)
    }

    /// What so many bytes take.
    pub(super) fn time_ns(&self, bytes: u64) -> u64 {
        u64::try_from(u128::from(bytes) * u128::from(self.byte_ps) / 1_000).unwrap_or(u64::MAX)
    }

    /// Commits itself for a chunk; says when the last bit leaves.
    pub(super) fn send(&mut self, now_ns: u64, bytes: u64) -> u64 {
        self.sent_bytes += bytes;
        self.free_ns = self.free_ns.max(now_ns) + bytes * self.byte_ps / 1_000;
        self.free_ns
    }
}

/// What a byte takes at this rate, in picoseconds; zero when there is no limit.
pub(super) fn byte_ps(bits_per_s: Option<u64>) -> u64 {
    bits_per_s.map_or(0, |rate| 8_000_000_000_000 / rate.max(1))
}

/// How a congestion window behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowModel {
    /// Bytes on their way at first, and again after a pause. Ten segments (RFC 6928).
    pub initial_bytes: u64,
    /// Bytes on their way at most: what the receiver's buffer admits.
    pub bytes_max: u64,
    /// A connection that has sent nothing for so long begins anew (RFC 5681, section 4.1; Linux does it after a retransmission
    /// timeout).
    pub idle_us: u64,
}

impl Default for WindowModel {
    fn default() -> Self {
        Self { initial_bytes: 10 * SEGMENT_BYTES, bytes_max: 4 << 20, idle_us: 300_000 }
    }
}

/// The congestion window of one direction of a connection: it begins with ten segments, grows by what is acknowledged (which doubles it
/// each round trip) while it is what limits the sender, and begins anew after a pause. A loss costs time but does not shrink it.
#[derive(Debug)]
pub(super) struct Window {
    bytes: u64,
    /// When each chunk is acknowledged, and its bytes; ascending.
    on_the_way: VecDeque<(u64, u64)>,
    on_the_way_bytes: u64,
    /// The most that was on the way since the last acknowledgement.
    peak_bytes: u64,
    sent_us: u64,
}

impl Window {
    pub(super) fn new(model: &WindowModel) -> Self {
        Self { bytes: model.initial_bytes, on_the_way: VecDeque::new(), on_the_way_bytes: 0, peak_bytes: 0, sent_us: 0 }
    }

    /// How many bytes may be sent now.
    pub(super) fn room(&mut self, now_us: u64, model: &WindowModel) -> u64 {
        let peak_bytes = self.peak_bytes;
        while self.next_us().is_some_and(|at_us| at_us <= now_us)
            && let Some((_, bytes)) = self.on_the_way.pop_front()
        {
            // As Linux does: a window of which not even half was in use was no limit.
            if peak_bytes * 2 > self.bytes {
                self.bytes = (self.bytes + bytes).min(model.bytes_max);
            }
            self.on_the_way_bytes -= bytes;
            self.peak_bytes = self.on_the_way_bytes;
        }
        if self.on_the_way.is_empty() && now_us.saturating_sub(self.sent_us) > model.idle_us {
            self.bytes = self.bytes.min(model.initial_bytes);
        }
        self.bytes.saturating_sub(self.on_the_way_bytes)
    }

    /// A chunk was sent that is acknowledged at that time.
    pub(super) fn sent(&mut self, now_us: u64, bytes: u64, acknowledged_us: u64) {
        self.sent_us = now_us;
        self.on_the_way_bytes += bytes;
        self.peak_bytes = self.peak_bytes.max(self.on_the_way_bytes);
        let at_us = self.on_the_way.back().map_or(acknowledged_us, |(last_us, _)| acknowledged_us.max(*last_us));
        self.on_the_way.push_back((at_us, bytes));
    }

    /// When the next acknowledgement comes.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.on_the_way.front().map(|(at_us, _)| *at_us)
    }
}

/// Of a million chunks of so many segments, how many lose at least one, when `loss_ppm` of a million segments are lost.
pub(super) fn chunk_loss_ppm(loss_ppm: u32, segments: u64) -> u64 {
    const ALL: u64 = 1_000_000;
    // By squaring: a chunk has as many segments as a message, where the uplink is not limited.
    let (mut kept_ppm, mut factor_ppm, mut left) = (ALL, ALL.saturating_sub(u64::from(loss_ppm)), segments);
    while left > 0 {
        if left & 1 == 1 {
            kept_ppm = kept_ppm * factor_ppm / ALL;
        }
        factor_ppm = factor_ppm * factor_ppm / ALL;
        left >>= 1;
    }
    ALL - kept_ppm
}

/// A segment is sent again so many times after the first at most; Linux gives a connection up after that (`tcp_retries2`).
pub(super) const RETRIES_MAX: u32 = 15;

/// How much longer a chunk takes of which a segment was lost, and was lost again so many times, in microseconds. The first loss costs one
/// round trip when enough segments follow to show the gap (fast retransmit, RFC 5681), otherwise a retransmission timeout; each loss of
/// what was sent again costs a timeout, which doubles each time (RFC 6298, section 5.5).
pub(super) fn retransmission_us(latency_us: u64, segments: u64, lost_again: u32) -> u64 {
    /// What Linux adds to the round trip at the least; RFC 6298 wants a second in all.
    const TIMEOUT_MIN_US: u64 = 200_000;
    /// The most that Linux waits.
    const TIMEOUT_MAX_US: u64 = 120_000_000;
    let round_trip_us = 2 * latency_us;
    let timeout_us = round_trip_us + TIMEOUT_MIN_US;
    let (first_us, mut next_us) = if segments > 3 { (round_trip_us, timeout_us) } else { (timeout_us, 2 * timeout_us) };
    let mut late_us = first_us;
    for _ in 0..lost_again {
        late_us += next_us.min(TIMEOUT_MAX_US);
        next_us = next_us.saturating_mul(2);
    }
    late_us
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uplink_sends_at_its_rate_and_is_committed_little_ahead() {
        // 8 Mbit/s: a byte a microsecond.
        let mut uplink = Uplink::new(Some(8_000_000));
        assert_eq!(uplink.chunk_bytes(), 2_000, "what the backlog holds");
        assert_eq!(uplink.send(5_000_000, 1_500), 6_500_000);
        assert!(uplink.admits(5_000_000));
        assert_eq!(uplink.send(5_000_000, 1_500), 8_000_000);
        assert!(!uplink.admits(5_000_000) && !uplink.admits(6_000_000));
        assert!(uplink.admits(uplink.admits_at_ns()));
        assert_eq!(uplink.send(20_000_000, 1), 20_001_000, "idle time is not saved up");
        let mut free = Uplink::new(None);
        assert_eq!((free.send(7, 1 << 30), free.admits(7), free.chunk_bytes()), (7, true, u64::MAX));
    }

    /// 100 KiB over a round trip of 100 ms: 14,600 bytes in the first, 29,200 in the second, 58,400 in the third round.
    #[test]
    fn a_window_doubles_each_round_trip_and_begins_anew_after_a_pause() {
        let model = WindowModel::default();
        let mut window = Window::new(&model);
        let (mut now_us, mut left, mut rounds) = (0, 100 << 10, Vec::new());
        while left > 0 {
            let bytes = window.room(now_us, &model).min(left);
            rounds.push(bytes);
            // In segments, as they are acknowledged.
            (0..bytes).step_by(1_460).for_each(|first| window.sent(now_us, 1_460.min(bytes - first), now_us + 100_000));
            left -= bytes;
            now_us += 100_000;
        }
        assert_eq!(rounds, [14_600, 29_200, 58_400, 200]);
        assert!(window.room(now_us, &model) > 100_000, "what has grown stays while there is traffic");
        assert_eq!(window.room(now_us + 400_000, &model), 14_600);
        assert_eq!(window.next_us(), None);
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let model = WindowModel::default();
        let mut window = Window::new(&model);
        for round in 0..100 {
            window.sent(round * 100_000, 1_000, round * 100_000 + 50_000);
            assert_eq!(window.room(round * 100_000 + 60_000, &model), 14_600);
        }
    }

    #[test]
    fn the_end_of_a_message_waits_for_a_timeout_when_it_is_lost() {
        assert_eq!(retransmission_us(50_000, 12, 0), 100_000);
        assert_eq!(retransmission_us(50_000, 2, 0), 300_000);
    }

    #[test]
    fn what_is_lost_again_waits_twice_as_long_each_time() {
        assert_eq!(retransmission_us(50_000, 2, 2), 300_000 + 600_000 + 1_200_000);
        assert_eq!(retransmission_us(50_000, 12, 2), 100_000 + 300_000 + 600_000);
        let (many, more) = (retransmission_us(50_000, 1, 14), retransmission_us(50_000, 1, RETRIES_MAX));
        assert_eq!(more - many, 120_000_000, "no timeout is longer than two minutes");
    }

    #[test]
    fn a_chunk_is_lost_as_often_as_one_of_its_segments_is() {
        assert_eq!(chunk_loss_ppm(20_000, 1), 20_000);
        assert_eq!(chunk_loss_ppm(20_000, 2), 39_600);
        let many = chunk_loss_ppm(20_000, 90);
        assert!((837_600..837_700).contains(&many), "1 - 0.98^90 = 0.83765, not {many}");
        assert_eq!(
            (chunk_loss_ppm(0, 90), chunk_loss_ppm(1_000_000, 1), chunk_loss_ppm(2_000_000, 3)),
            (0, 1_000_000, 1_000_000)
        );
    }
}
