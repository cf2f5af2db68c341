//! Carrying out what a machine wants.

use super::link::Line;
use super::observe::Observer;
use super::queue::EventQueue;
use super::scenario::Scenario;
use super::trace::TraceHash;
use super::verify::{Verifier, signatures};
use super::world::{Event, Rare};
use crate::wan::{Stream, Topology};
use starling_protocol::genesis::Genesis;
use starling_protocol::id::PeerHandle;
use starling_protocol::mesh::Sink;
use starling_protocol::node::{Output, Ticket};
use starling_protocol::rpc::Frame;
use starling_protocol::time::Time;
use starling_protocol::verify::{Job, Outcome};
use starling_protocol::wire::{RpcAssembly, SharedRpc};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// What all nodes share: the world outside of the machines.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) scenario: Scenario,
    pub(super) genesis: Genesis,
    pub(super) network: Topology,
    pub(super) queue: EventQueue<Event>,
    pub(super) observer: Observer,
    pub(super) trace: TraceHash,
    verifier: Verifier,
    jitter: Stream,
    jitter_us_max: u64,
    tickets: u64,
    /// Who waits for the response to a request that a machine was handed.
    askers: BTreeMap<Ticket, (u32, Ticket, u32)>,
    /// Lines to which the present input made the machine say something.
    touched: Vec<u32>,
    /// The last frame that was made into an RPC: the next one is often the same, for somebody else.
    last: Option<(Frame, Rc<SharedRpc>)>,
    pub(super) wire_bytes: u64,
}

impl Shared {
    pub(super) fn new(scenario: Scenario, genesis: Genesis, network: Topology) -> Self {
        Self {
            jitter: Stream::new(scenario.seed, "jitter"),
            jitter_us_max: scenario.profile.jitter_us_max(),
            scenario,
            genesis,
            network,
            queue: EventQueue::default(),
            observer: Observer::default(),
            trace: TraceHash::default(),
            verifier: Verifier::default(),
            tickets: 0,
            askers: BTreeMap::new(),
            touched: Vec::new(),
            last: None,
            wire_bytes: 0,
        }
    }

    pub(super) fn rare(&mut self, at: Time, node: u32, what: Rare) {
        self.queue.push(at, Event::Rare { node, what: Box::new(what) });
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    pub(super) fn now(&self) -> Time {
        self.queue.now()
    }
}

/// Where a machine puts its effects while it handles one input.
pub(super) struct Effects<'a> {
    pub(super) now: Time,
    pub(super) index: u32,
    pub(super) lines: &'a mut Vec<Line>,
    pub(super) verifier_free_ns: &'a mut u64,
    pub(super) uplink_free_ns: &'a mut u64,
    pub(super) uplink_byte_ps: u64,
    pub(super) shared: &'a mut Shared,
}

impl Sink<Output> for Effects<'_> {
    fn emit(&mut self, output: Output) {
        match output {
            Output::Send { peer, frame } => self.send(peer, frame),
            Output::Event(event) => self.shared.observer.event(self.now, self.index, &event),
            Output::Verify { ticket, job } => self.verify(ticket, &job),
            other => self.rare(other),
        }
    }
}

impl Effects<'_> {
    fn send(&mut self, peer: PeerHandle, frame: Frame) {
        let Some(line) = self.lines.get_mut(peer.index()).filter(|line| line.generation == peer.generation) else {
            return;
        };
        match &mut line.open {
            Some(open) => Rc::make_mut(open).frame(&frame),
            None => {
                line.open = Some(match &self.shared.last {
                    Some((last, rpc)) if same(last, &frame) => Rc::clone(rpc),
                    _ => {
                        let mut rpc = SharedRpc::default();
                        rpc.frame(&frame);
                        let rpc = Rc::new(rpc);
                        self.shared.last = Some((frame, Rc::clone(&rpc)));
                        rpc
                    }
                });
                self.shared.touched.push(peer.slot);
            }
        }
    }

    /// Puts what was said onto the lines.
    pub(super) fn flush(&mut self) {
        self.shared.last = None;
        let touched = core::mem::take(&mut self.shared.touched);
        for slot in &touched {
            let line = &mut self.lines[*slot as usize];
            let Some(rpc) = line.open.take() else { continue };
            let bytes = rpc.wire_len() as u64;
            self.shared.wire_bytes += bytes;
            let start_ns = (*self.uplink_free_ns).max(self.now.as_micros() * 1_000);
            let end_ns = start_ns + bytes * self.uplink_byte_ps / 1_000;
            *self.uplink_free_ns = end_ns;
            let jitter_us = match self.shared.jitter_us_max {
                0 => 0,
                most => self.shared.jitter.below(most + 1),
            };
            let arrival_us = end_ns.div_ceil(1_000) + u64::from(line.latency_us) + jitter_us;
            line.arrival_us = line.arrival_us.max(arrival_us);
            let deliver = Event::Deliver { node: line.far, peer: line.far_handle, rpc };
            self.shared.queue.push(Time::from_micros(line.arrival_us), deliver);
        }
        self.shared.touched = touched;
        self.shared.touched.clear();
    }

    fn verify(&mut self, ticket: Ticket, job: &Job) {
        let outcome = self.shared.verifier.run(job, &self.shared.genesis);
        let start_ns = (*self.verifier_free_ns).max(self.now.as_micros() * 1_000);
        *self.verifier_free_ns = start_ns + signatures(job) * self.shared.scenario.cpu.signature_ns;
        let at = Time::from_micros(self.verifier_free_ns.div_ceil(1_000));
        match outcome {
            Outcome::Valid | Outcome::Invalid { index: 0 } => {
                let valid = outcome == Outcome::Valid;
                self.shared.queue.push(at, Event::Verified { node: self.index, ticket: ticket.0, valid });
            }
            outcome => self.shared.rare(at, self.index, Rare::Verified { ticket, outcome }),
        }
    }

    fn rare(&mut self, output: Output) {
        let (now, index) = (self.now, self.index);
        match output {
            Output::Persist { ticket, batch: _ } => {
                let at = now + self.shared.scenario.cpu.disk;
                self.shared.rare(at, index, Rare::Persisted { ticket });
            }
            Output::Request { ticket, peer, body } => {
                let Some(line) = self.lines.get(peer.index()) else { return };
                let theirs = self.shared.ticket();
                self.shared.askers.insert(theirs, (index, ticket, line.latency_us));
                let at = now + core::time::Duration::from_micros(u64::from(line.latency_us));
                self.shared.rare(at, line.far, Rare::Request { ticket: theirs, peer: line.far_handle, body });
            }
            Output::Respond { ticket, body } => {
                let Some((asker, theirs, latency_us)) = self.shared.askers.remove(&ticket) else { return };
                let at = now + core::time::Duration::from_micros(u64::from(latency_us));
                self.shared.rare(at, asker, Rare::Response { ticket: theirs, body });
                self.shared.rare(at, index, Rare::Responded { ticket });
            }
            Output::Load { ticket, what: _ } => {
                self.shared.rare(now, index, Rare::Loaded { ticket, blocks: Vec::new() });
            }
            _ => {}
        }
    }
}

/// Whether two frames make the same RPC, as far as that is cheap to say.
fn same(a: &Frame, b: &Frame) -> bool {
    match (a, b) {
        (Frame::Publish { payload: a, .. }, Frame::Publish { payload: b, .. }) => Arc::ptr_eq(a, b),
        (Frame::IDontWant(a), Frame::IDontWant(b)) => a == b,
        (Frame::IHave { topic: a, ids: b }, Frame::IHave { topic: c, ids: d }) => a == c && Arc::ptr_eq(b, d),
        _ => false,
    }
}
