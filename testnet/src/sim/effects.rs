//! Carrying out what a machine wants.

use super::askers::{Asker, Askers};
use super::counts::WireCounts;
use super::disk::Disk;
use super::event::{ANY_LIFE, Event, Rare};
use super::faults::{Parted, gets_through, partitions};
use super::gaps::Gaps;
use super::link::{Busy, Line, NOTHING, RETRIES_MAX, SEGMENT_BYTES, Uplink, Window, chunk_loss_ppm, retransmission_us};
use super::observe::{Loss, Observer};
use super::parcel::{Carrier, Parcel, Parcels, same};
use super::queue::EventQueue;
use super::safety::Safety;
use super::scenario::Scenario;
use super::trace::TraceHash;
use super::verify::{Verifier, signatures};
use crate::wan::{Stream, Topology};
use bytes::Bytes;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{MessageId, PeerHandle};
use starling_protocol::mesh::{Copied, Sink};
use starling_protocol::message::message_id;
use starling_protocol::node::{Output, SubmitError, Ticket};
use starling_protocol::rpc::Frame;
use starling_protocol::send_queue::{PushResult, SendQueue, SendQueueConfig};
use starling_protocol::store::batch_bytes;
use starling_protocol::time::{Duration, Time, micros};
use starling_protocol::verify::{Job, Outcome};
use starling_protocol::wire::{TopicInterner, WireLimits};
use std::collections::VecDeque;
use std::rc::Rc;

/// How long a request may take in all, as in real nodes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What all nodes share: the world outside of the machines.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) scenario: Scenario,
    pub(super) genesis: Genesis,
    pub(super) network: Topology,
    pub(super) queue: EventQueue<Event>,
    pub(super) observer: Observer,
    pub(super) trace: TraceHash,
    pub(super) wire: WireCounts,
    /// Who watches the rules, if anybody does.
    pub(super) safety: Option<Box<Safety>>,
    /// Who takes note of silences, if anybody does.
    pub(super) gaps: Option<Box<Gaps>>,
    parcels: Parcels,
    verifier: Verifier,
    jitter: Stream,
    jitter_us_max: u64,
    loss: Stream,
    /// Those of the timeline.
    partitions: Vec<Parted>,
    tickets: u64,
    /// How many of the nodes are honest: the first ones.
    pub(super) honest: u32,
    /// Messages that their own nodes did not take, and why the first one.
    pub(super) refused_submissions: u64,
    pub(super) first_refusal: Option<SubmitError>,
    pub(super) askers: Askers,
    /// Whether the machine wants its file of peers written, in the present input.
    pub(super) save_peers: bool,
    /// What the machine says in the present input, and to whom.
    said: Vec<Said>,
    /// The frames of that which are not the same as those before them, and the RPCs that each of them alone makes. The next frame is often the
    /// same as the last one, for somebody else.
    frames: Vec<(Frame, Rc<Parcel>)>,
}

impl Shared {
    pub(super) fn new(scenario: Scenario, genesis: Genesis, network: Topology) -> Self {
        let observer = Observer::new(scenario.nodes, genesis.block_topic().clone());
        let honest = u32::try_from(scenario.nodes).expect("fewer than 2^32 nodes");
        let topics = [genesis.transaction_topic().clone(), genesis.block_topic().clone()];
        let carrier = if scenario.encode {
            Carrier::Encoded { limits: WireLimits::default(), topics: TopicInterner::new(topics) }
        } else {
            Carrier::Shared
        };
        Self {
            jitter: Stream::new(scenario.seed, "jitter"),
            jitter_us_max: scenario.profile.jitter_us_max(),
            loss: Stream::new(scenario.seed, "loss"),
            partitions: partitions(&scenario.faults),
            scenario,
            genesis,
            network,
            parcels: Parcels::new(carrier),
            queue: EventQueue::default(),
            observer,
            trace: TraceHash::default(),
            wire: WireCounts::default(),
            safety: None,
            gaps: None,
            verifier: Verifier::default(),
            tickets: 0,
            honest,
            refused_submissions: 0,
            first_refusal: None,
            askers: Askers::default(),
            save_peers: false,
            said: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// Has something happen to whoever acts in this place then.
    pub(super) fn rare(&mut self, at: Time, node: u32, what: Rare) {
        self.rare_in(at, node, ANY_LIFE, what);
    }

    /// Has something happen to this process, if it still runs then.
    pub(super) fn rare_in(&mut self, at: Time, node: u32, life: u32, what: Rare) {
        self.queue.push(at, Event::Rare { node, life, what: Box::new(what) });
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// When the last bit of a chunk that leaves at `departure_ns` from one node to another arrives, on a path of this latency.
    fn arrival_us(
        &mut self,
        departure_ns: u64,
        ends: (u32, u32),
        (latency_us, loss_ppm): (u64, u32),
        bytes: u64,
    ) -> u64 {
        let jitter_us = match self.jitter_us_max {
            0 => 0,
            most => self.jitter.below(most + 1),
        };
        let due_us = departure_ns.div_ceil(1_000) + latency_us + jitter_us;
        let late_us = if loss_ppm == 0 { 0 } else { self.lost_us((latency_us, loss_ppm), bytes) };
        if late_us == 0 {
            return due_us;
        }
        let ((from, to), by_fault) = (ends, loss_ppm > self.scenario.loss_ppm);
        self.observer.lost(Loss { from, to, due: Time::from_micros(due_us), late_us, by_fault });
        self.sent_again_us(ends, due_us + late_us, latency_us)
    }

    /// When something arrives that was lost and sent again, and would have come at `arrival_us`: what is sent again does not cross a path that is cut
    /// meanwhile, and crosses it when that is mended.
    #[cold]
    fn sent_again_us(&self, ends: (u32, u32), arrival_us: u64, latency_us: u64) -> u64 {
        let leaves = Time::from_micros(arrival_us - latency_us);
        match gets_through(&self.partitions, ends, leaves) {
            Some(through) if through == leaves => arrival_us,
            Some(through) => through.as_micros() + latency_us,
            // Beyond the end, where nothing happens any more.
            None => arrival_us.max(self.scenario.end().as_micros()) + 1,
        }
    }

    /// What comes too late over a path that loses some is a silence: both ends take the connection for broken when it has lasted so long.
    fn note_silence(&mut self, (node, peer): (u32, PeerHandle), line: &Line, arrival_us: u64) {
        let usual_us = line.arrival_us.max(self.queue.now().as_micros() + u64::from(line.latency_us));
        if arrival_us.saturating_sub(usual_us) > micros(self.scenario.dead_after) {
            let at = Time::from_micros(usual_us) + self.scenario.dead_after;
            self.rare(at, node, Rare::Closed { peer });
            self.rare(at, line.far, Rare::Closed { peer: line.far_handle });
        }
    }

    /// How much later a chunk arrives on a path that loses some, because a segment of it may have been lost.
    #[cold]
    fn lost_us(&mut self, (latency_us, loss_ppm): (u64, u32), bytes: u64) -> u64 {
        let segments = bytes.div_ceil(SEGMENT_BYTES);
        if self.loss.below(1_000_000) >= chunk_loss_ppm(loss_ppm, segments) {
            return 0;
        }
        self.wire.chunks_lost += 1;
        let again = (0..RETRIES_MAX).take_while(|_| self.loss.below(1_000_000) < u64::from(loss_ppm)).count();
        retransmission_us(latency_us, segments, u32::try_from(again).unwrap_or(RETRIES_MAX))
    }
}

/// What a machine says on a line in one input.
#[derive(Clone, Copy, Debug)]
struct Said {
    slot: u32,
    /// Where the frame stands, while it is the only thing that was said, and [`NOTHING`] afterwards: with the second one both go into what
    /// waits at the line.
    only: u32,
}

impl Said {
    /// Takes the frame out, if it is the only thing that was said.
    fn take(&mut self, frames: &[(Frame, Rc<Parcel>)]) -> Option<Frame> {
        let place = core::mem::replace(&mut self.only, NOTHING);
        frames.get(place as usize).map(|(frame, _)| frame.clone())
    }
}

/// Where a machine puts its effects while it handles one input.
pub(super) struct Effects<'a> {
    pub(super) now: Time,
    pub(super) index: u32,
    pub(super) life: u32,
    pub(super) cpu_permille: u64,
    pub(super) disk_permille: u64,
    pub(super) lines: &'a mut Vec<Line>,
    pub(super) uplink: &'a mut Uplink,
    pub(super) verifier_free_ns: &'a mut u64,
    pub(super) disk: &'a mut Disk,
    pub(super) shared: &'a mut Shared,
}

impl Sink<Output> for Effects<'_> {
    fn emit(&mut self, output: Output) {
        match output {
            Output::Send { peer, frame } => self.say(peer, &frame),
            Output::Event(event) => {
                if self.index < self.shared.honest {
                    if let Some(safety) = &mut self.shared.safety {
                        safety.event(self.now, (self.index, self.life), &event);
                    }
                    let Self { now, index, lines, shared, .. } = self;
                    let line = |peer: PeerHandle| lines.get(peer.index()).filter(|line| line.is_for(peer));
                    shared.observer.event(*now, *index, &event, |peer| line(peer).map(|line| line.far));
                }
            }
            Output::Verify { ticket, job } => self.verify(ticket, &job),
            Output::Cancel { peer, ids } => self.cancel(peer, &ids),
            other => self.others(other),
        }
    }

    fn send(&mut self, peer: PeerHandle, frame: &Frame) {
        self.say(peer, frame);
    }

    fn cancel(&mut self, peer: PeerHandle, ids: &[MessageId]) {
        let line = self.lines.get_mut(peer.index()).filter(|line| line.is_for(peer));
        if let Some(busy) = line.and_then(|line| line.busy.as_mut()) {
            self.shared.wire.cancelled += u64::from(busy.queue.cancel(ids));
        }
    }

    fn copied(&mut self, copy: &Copied<'_>) {
        if self.index >= self.shared.honest {
            return;
        }
        if self.shared.safety.is_some() {
            return self.emit(copy.into());
        }
        let Self { index, lines, shared, .. } = self;
        let line = |peer: PeerHandle| lines.get(peer.index()).filter(|line| line.is_for(peer));
        shared.observer.copied(*index, copy, |peer| line(peer).map(|line| line.far));
    }
}

impl Effects<'_> {
    /// Takes in a frame for a peer. It leaves with [`Self::flush`].
    fn say(&mut self, peer: PeerHandle, frame: &Frame) {
        if self.index >= self.shared.honest {
            self.shared.wire.of_attackers += u64::from(matches!(frame, Frame::Publish { .. }));
        }
        if let Some(safety) = &mut self.shared.safety
            && self.index < self.shared.honest
        {
            safety.said(self.now, (self.index, self.life), frame);
        }
        let Some(line) = self.lines.get_mut(peer.index()).filter(|line| line.is_for(peer)) else { return };
        let Shared { said, frames, parcels, .. } = &mut *self.shared;
        if line.busy.is_none() && line.open == NOTHING {
            if !frames.last().is_some_and(|(last, _)| same(last, frame)) {
                frames.push((frame.clone(), parcels.single(frame)));
            }
            let few = |length: usize| u32::try_from(length).expect("an input has few effects");
            line.open = few(said.len());
            said.push(Said { slot: peer.slot, only: few(frames.len() - 1) });
            return;
        }
        let busy = line.busy.get_or_insert_with(|| Box::new(Busy::default()));
        let first = said.get_mut(line.open as usize).and_then(|said| said.take(frames));
        let frames = first.into_iter().chain([frame.clone()]);
        let mut dropped = 0;
        for frame in frames {
            if let PushResult::Dropped { frames } = busy.queue.push(self.now, frame) {
                dropped += frames.total();
            }
        }
        if dropped > 0 {
            let dropped = u32::try_from(dropped).unwrap_or(u32::MAX);
            self.shared.wire.dropped += u64::from(dropped);
            self.shared.rare_in(self.now, self.index, self.life, Rare::QueueFull { peer, dropped });
        }
    }

    /// Puts what was said onto the lines.
    pub(super) fn flush(&mut self) {
        if self.shared.said.is_empty() {
            return;
        }
        // What is written says nothing, so neither list grows meanwhile.
        let (mut said, mut frames) = (core::mem::take(&mut self.shared.said), core::mem::take(&mut self.shared.frames));
        for Said { slot, only } in said.drain(..) {
            self.lines[slot as usize].open = NOTHING;
            match frames.get(only as usize) {
                Some((_, parcel)) if self.passes(slot, parcel) => {}
                Some((_, parcel)) => {
                    let writing = Some((Rc::clone(parcel), u64::from(parcel.wire_bytes)));
                    self.lines[slot as usize].busy = Some(Box::new(Busy { writing, ..Busy::default() }));
                    self.write_on(slot);
                }
                None => self.write_on(slot),
            }
        }
        frames.clear();
        (self.shared.said, self.shared.frames) = (said, frames);
    }

    /// Writes an RPC to a line on which nothing waits, if all of it can go at once, which is the usual case.
    fn passes(&mut self, slot: u32, parcel: &Rc<Parcel>) -> bool {
        let (bytes, now_ns) = (u64::from(parcel.wire_bytes), self.now.as_micros() * 1_000);
        let passes = !self.lines[slot as usize].cut
            && self.shared.scenario.window.is_none()
            && self.uplink.waiting.is_empty()
            && self.uplink.admits(now_ns)
            && bytes <= self.uplink.chunk_bytes();
        if passes {
            self.send_chunk(slot, bytes);
            self.deliver(slot, Rc::clone(parcel));
        }
        passes
    }

    /// Writes what waits at a line until nothing waits or it has to wait for the uplink or the window.
    pub(super) fn write_on(&mut self, slot: u32) {
        while self.lines[slot as usize].busy.as_ref().is_some_and(|busy| !busy.waits) {
            if !self.uplink.waiting.is_empty() || !self.uplink.admits(self.now.as_micros() * 1_000) {
                return self.await_uplink(slot);
            }
            self.write_chunk(slot);
        }
    }

    /// Writes one chunk of what waits at a line, if the path and the window admit it; the uplink does.
    fn write_chunk(&mut self, slot: u32) {
        let Self { lines, shared, .. } = self;
        let line = &mut lines[slot as usize];
        let Some(busy) = &mut line.busy else { return };
        if line.cut {
            // It goes on when the path is mended.
            busy.waits = true;
            return;
        }
        // A line is busy for what is being written more often than for what waits behind it.
        if busy.writing.is_none() && !busy.queue.is_empty() {
            busy.writing = shared.parcels.carrier.pop(&mut busy.queue, self.now).map(|parcel| {
                let bytes = u64::from(parcel.wire_bytes);
                (Rc::new(parcel), bytes)
            });
        }
        let body = !busy.bodies.is_empty() && (busy.body_next || busy.writing.is_none());
        let left = match (&mut busy.writing, busy.bodies.front_mut()) {
            (_, Some((left, _))) if body => left,
            (Some((_, left)), _) => left,
            _ => {
                line.busy = None;
                return;
            }
        };
        let mut room = u64::MAX;
        if let Some(model) = &shared.scenario.window {
            let window = line.window.get_or_insert_with(|| Box::new(Window::new(model)));
            room = window.room(self.now.as_micros(), model);
            // Less than a segment is not sent for its own sake.
            if room < SEGMENT_BYTES.min(*left)
                && let Some(at_us) = window.next_us()
            {
                busy.waits = true;
                let (node, generation) = (self.index, line.generation);
                return shared.queue.push(Time::from_micros(at_us), Event::Line { node, slot, generation });
            }
        }
        let bytes = self.uplink.chunk_bytes().min(room).min(*left);
        *left -= bytes;
        let done = *left == 0;
        busy.body_next = !body;
        self.send_chunk(slot, bytes);
        let Some(busy) = self.lines[slot as usize].busy.as_mut().filter(|_| done) else { return };
        if body {
            if let Some((_, what)) = busy.bodies.pop_front() {
                self.deliver_body(slot, what);
            }
        } else if let Some((parcel, _)) = busy.writing.take() {
            self.deliver(slot, parcel);
        }
    }

    #[inline]
    fn send_chunk(&mut self, slot: u32, bytes: u64) {
        let Self { now, index, lines, uplink, shared, .. } = self;
        let line = &mut lines[slot as usize];
        let latency_us = u64::from(line.latency_us);
        let departure_ns = uplink.send(now.as_micros() * 1_000, bytes);
        let arrival_us = shared.arrival_us(departure_ns, (*index, line.far), (latency_us, line.loss_ppm), bytes);
        if line.loss_ppm > 0 {
            shared.note_silence((*index, PeerHandle { slot, generation: line.generation }), line, arrival_us);
        }
        line.arrival_us = line.arrival_us.max(arrival_us);
        if let Some(window) = &mut line.window {
            window.sent(now.as_micros(), bytes, line.arrival_us + latency_us);
        }
        shared.wire.bytes += bytes;
    }

    /// Has an RPC arrive together with its last chunk, which was just sent.
    #[inline]
    fn deliver(&mut self, slot: u32, parcel: Rc<Parcel>) {
        let line = &self.lines[slot as usize];
        self.shared.wire.rpcs += 1;
        self.shared.wire.messages += parcel.rpc.publish.len() as u64;
        let (node, peer) = (line.far, line.far_handle);
        let at = Time::from_micros(line.arrival_us);
        let event = match self.shared.scenario.downlink_bits_per_s {
            None => Event::Deliver { node, peer, parcel },
            Some(_) => Event::Arrive { node, peer, parcel },
        };
        self.shared.queue.push(at, event);
    }

    /// Has a request or a response arrive together with its last chunk, which was just sent.
    fn deliver_body(&mut self, slot: u32, what: Rare) {
        let line = &self.lines[slot as usize];
        let at = Time::from_micros(line.arrival_us);
        self.shared.rare(at, line.far, what);
    }

    fn await_uplink(&mut self, slot: u32) {
        let line = &mut self.lines[slot as usize];
        if let Some(busy) = &mut line.busy {
            busy.waits = true;
            // Whoever waited twice would have two turns.
            if !core::mem::replace(&mut busy.queued, true) {
                self.uplink.waiting.push_back((slot, line.generation));
            }
        }
        self.arm_uplink();
    }

    /// The uplink serves those that wait, one chunk each.
    pub(super) fn serve_uplink(&mut self) {
        self.uplink.armed = false;
        while self.uplink.admits(self.now.as_micros() * 1_000)
            && let Some((slot, generation)) = self.uplink.waiting.pop_front()
        {
            // The connection may be over, and another one have its slot.
            let line = self.lines.get_mut(slot as usize).filter(|line| line.generation == generation);
            let Some(busy) = line.and_then(|line| line.busy.as_mut()) else { continue };
            (busy.waits, busy.queued) = (false, false);
            self.write_chunk(slot);
            if let Some(busy) = &mut self.lines[slot as usize].busy
                && !busy.waits
            {
                (busy.waits, busy.queued) = (true, true);
                self.uplink.waiting.push_back((slot, generation));
            }
        }
        self.arm_uplink();
    }

    fn arm_uplink(&mut self) {
        if !self.uplink.armed && !self.uplink.waiting.is_empty() {
            self.uplink.armed = true;
            let at = Time::from_micros(self.uplink.admits_at_ns().div_ceil(1_000)).max(self.now);
            self.shared.queue.push(at, Event::Uplink { node: self.index });
        }
    }

    /// A line that waited for its window goes on.
    pub(super) fn line_goes_on(&mut self, slot: u32, generation: u32) {
        let line = self.lines.get_mut(slot as usize).filter(|line| line.generation == generation);
        if let Some(busy) = line.and_then(|line| line.busy.as_mut()) {
            busy.waits = false;
            self.write_on(slot);
        }
    }

    fn verify(&mut self, ticket: Ticket, job: &Job) {
        let outcome = self.shared.verifier.run(job, &self.shared.genesis);
        if matches!(outcome, Outcome::Invalid { .. }) {
            self.note_invalid(job);
        }
        let start_ns = (*self.verifier_free_ns).max(self.now.as_micros() * 1_000);
        let cost_ns = signatures(job).saturating_mul(self.shared.scenario.cpu.signature_ns);
        *self.verifier_free_ns = start_ns.saturating_add(cost_ns.saturating_mul(self.cpu_permille) / 1_000);
        let at = Time::from_micros(self.verifier_free_ns.div_ceil(1_000));
        let (node, life) = (self.index, self.life);
        match outcome {
            Outcome::Valid | Outcome::Invalid { index: 0 } => {
                let valid = outcome == Outcome::Valid;
                self.shared.queue.push(at, Event::Verified { node, life, ticket: ticket.0, valid });
            }
            outcome => self.shared.rare_in(at, node, life, Rare::Verified { ticket, outcome }),
        }
    }

    /// What was sent is not what somebody has signed.
    #[cold]
    fn note_invalid(&mut self, job: &Job) {
        let Shared { observer, genesis, .. } = &mut *self.shared;
        match job {
            Job::Transaction(transaction) => observer.dealings.found_invalid(self.index, transaction),
            Job::Relayed(encoded) => {
                observer.dealings.found_forged(self.index, message_id(genesis.block_topic().as_str(), encoded));
            }
            _ => {}
        }
    }

    /// Gives back the time of verifications that are not wanted any more. What was planned behind them keeps its time, and they are done
    /// in vain when theirs comes.
    fn abandon(&mut self, tickets: &[Ticket]) {
        let cost_ns = self.shared.scenario.cpu.signature_ns.saturating_mul(self.cpu_permille) / 1_000;
        let saved_ns = cost_ns.saturating_mul(tickets.len() as u64);
        *self.verifier_free_ns = self.verifier_free_ns.saturating_sub(saved_ns).max(self.now.as_micros() * 1_000);
    }

    fn others(&mut self, output: Output) {
        let now = self.now;
        match output {
            Output::Persist { ticket, batch } => {
                let at = self.disk_done(batch_bytes(&batch));
                self.disk.write(batch);
                self.later(at, Rare::Persisted { ticket });
            }
            Output::Load { ticket, what } => self.later(now, Rare::Load { ticket, what }),
            Output::Request { ticket, peer, body } => self.ask(ticket, peer, body),
            Output::Respond { ticket, body } => self.respond(ticket, body),
            Output::Dial { id, purpose, .. } => self.later(now, Rare::Dial { id, purpose, since: now }),
            Output::Discover => self.later(now, Rare::Discover),
            Output::Disconnect { peer, .. } => self.later(now, Rare::HangUp { peer }),
            Output::SavePeers => self.shared.save_peers = true,
            Output::SubmitResult { result: Err(reason), .. } => {
                self.shared.refused_submissions += 1;
                self.shared.first_refusal.get_or_insert(reason);
            }
            // No records of peers are made.
            Output::PeerExchangeCandidates { .. } | Output::SubmitResult { .. } => {}
            Output::Abandon { tickets } => self.abandon(&tickets),
            Output::Send { .. } | Output::Cancel { .. } | Output::Verify { .. } | Output::Event(_) => {}
        }
    }

    fn later(&mut self, at: Time, what: Rare) {
        self.shared.rare_in(at, self.index, self.life, what);
    }

    /// When the disk has written or read so many bytes.
    pub(super) fn disk_done(&mut self, bytes: usize) -> Time {
        let model = self.shared.scenario.disk;
        let transfer_us = (bytes as u64).saturating_mul(1_000_000) / model.bytes_per_s.max(1);
        let slowed = |us: u64| us.saturating_mul(self.disk_permille) / 1_000;
        let (latency_us, transfer_us) = (slowed(micros(model.latency)), slowed(transfer_us));
        Time::from_micros(self.disk.work(self.now.as_micros(), latency_us, transfer_us))
    }

    fn ask(&mut self, ticket: Ticket, peer: PeerHandle, body: Bytes) {
        let now = self.now;
        let Some(line) = self.lines.get(peer.index()).filter(|line| line.is_for(peer)) else {
            return self.later(now, Rare::Unanswered { ticket });
        };
        let far_handle = line.far_handle;
        let theirs = self.shared.ticket();
        self.shared.askers.insert(theirs, Asker { node: self.index, ticket, peer, far_handle });
        self.later(now + REQUEST_TIMEOUT, Rare::RequestTimeout { ticket: theirs });
        self.write_body(peer.slot, body.len(), Rare::Request { ticket: theirs, peer: far_handle, body });
    }

    fn respond(&mut self, ticket: Ticket, body: Option<Bytes>) {
        let asker = self.shared.askers.get(ticket).map(|asker| asker.far_handle);
        let line = asker.filter(|peer| self.lines.get(peer.index()).is_some_and(|line| line.is_for(*peer)));
        if let Some(peer) = line {
            let length = body.as_ref().map_or(0, Bytes::len);
            self.write_body(peer.slot, length, Rare::Response { ticket, body });
        }
        self.later(self.now, Rare::Responded { ticket });
    }

    /// Has a request or a response written to a line, among RPCs.
    fn write_body(&mut self, slot: u32, length: usize, what: Rare) {
        /// What opening a stream and naming its protocol takes, and the length of what follows.
        const STREAM_BYTES: u64 = 64;
        let line = &mut self.lines[slot as usize];
        let Shared { said, frames, .. } = &mut *self.shared;
        let said = said.get_mut(line.open as usize).and_then(|said| said.take(frames));
        let busy = line.busy.get_or_insert_with(|| Box::new(Busy::default()));
        if let Some(frame) = said {
            // There is room: nothing was waiting.
            let _: PushResult = busy.queue.push(self.now, frame);
        }
        let bytes = STREAM_BYTES + length as u64;
        let sent_in_ns = self.uplink.time_ns(bytes);
        busy.bodies.push_back((bytes, Rare::Body { bytes, sent_in_ns, what: Box::new(what) }));
        self.shared.said.push(Said { slot, only: NOTHING });
    }
}

impl Default for Busy {
    fn default() -> Self {
        Self {
            queue: SendQueue::new(SendQueueConfig::default()),
            writing: None,
            bodies: VecDeque::new(),
            body_next: false,
            waits: false,
            queued: false,
        }
    }
}
