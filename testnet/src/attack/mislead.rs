//! Peers that claim much of their chain and do not give it.
//!
//! A node that is behind follows one peer's chain at a time. Whoever claims most is asked first, needs no key for it, and nothing that these peers do is a
//! fault: an honest peer may be busy, far away, or behind a bad line. Each is a node machine that does its part in everything else, so it has the whole
//! chain, forwards what it hears and stands in the meshes of others; only its answers to requests are changed on their way out.

use super::links::Links;
use super::machine::Machine;
use crate::attack::Adversary;
use bytes::Bytes;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::PeerId;
use starling_protocol::mesh::Sink;
use starling_protocol::node::{Input, NodeParts, Output};
use starling_protocol::request::{Answer, Request, Response, Status};
use starling_protocol::time::{Duration, Time};
use std::collections::VecDeque;

/// As late as one dares: a request may take 5 s, of which a round trip of the slowest links is left.
const LATE: Duration = Duration::from_millis(4_600);

/// A chain that is longer than any. What is claimed beyond the present slot is not believed, so this is as much as can be claimed.
const LONGER_THAN_ANY: u64 = 1 << 40;

/// What is done with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    /// Claims a long chain, and says as late as it dares that it is too busy to give it.
    Stall,
    /// Claims a long chain, and gives one header at a time, as late as it dares, as if there were no more.
    Sip,
    /// Gives headers, and never answers when it is asked for blocks.
    Mute,
}

impl Lead {
    /// The one that manifests call so.
    pub(super) fn named(kind: &str) -> Option<Self> {
        match kind {
            "stall" => Some(Self::Stall),
            "sip" => Some(Self::Sip),
            "mute" => Some(Self::Mute),
            _ => None,
        }
    }

    /// What it says of itself, whatever it is asked.
    fn claim(self, status: &mut Status) {
        if self != Self::Mute {
            status.head.height = LONGER_THAN_ANY;
        }
    }

    /// What it answers in place of this, and after how long; nothing if it never does.
    fn answer(self, mut response: Response) -> Option<(Response, Duration)> {
        self.claim(&mut response.status);
        let wait = match (self, &mut response.answer) {
            (Self::Mute, Answer::Blocks(_)) => return None,
            (Self::Stall, answer @ (Answer::Headers(_) | Answer::Blocks(_) | Answer::Busy)) => {
                *answer = Answer::Busy;
                LATE
            }
            (Self::Sip, Answer::Headers(headers)) => {
                headers.truncate(1);
                response.status.head.height = headers.first().map_or(0, |only| only.header.height);
                LATE
            }
            _ => Duration::ZERO,
        };
        Some((response, wait))
    }
}

/// A peer that leads nowhere.
#[derive(Debug)]
pub(super) struct Misleader {
    machine: Machine,
    lead: Lead,
    genesis: Genesis,
    /// Answers that are held back, in order: all for the same time.
    late: VecDeque<(Time, Output)>,
}

impl Misleader {
    /// One under this id.
    pub(super) fn new(lead: Lead, genesis: &Genesis, id: PeerId, links: Links, seed: u64) -> Self {
        let parts = NodeParts::new(genesis.clone(), id, 1).expect("valid parts");
        let machine = Machine::new(parts, links, seed);
        Self { machine, lead, genesis: genesis.clone(), late: VecDeque::new() }
    }
}

/// Passes on what the machine says, but for what it says of its chain.
struct Twist<'a> {
    now: Time,
    lead: Lead,
    genesis: &'a Genesis,
    late: &'a mut VecDeque<(Time, Output)>,
    out: &'a mut dyn Sink<Output>,
}

impl Twist<'_> {
    fn request(&self, body: Bytes) -> Bytes {
        let Ok(Request::Status(mut status)) = Request::decode(&body) else { return body };
        self.lead.claim(&mut status);
        Request::Status(status).encode().into()
    }
}

impl Sink<Output> for Twist<'_> {
    fn emit(&mut self, output: Output) {
        let output = match output {
            Output::Request { ticket, peer, body } => Output::Request { ticket, peer, body: self.request(body) },
            Output::Respond { ticket, body: Some(body) } => {
                let response = Response::decode(&body, self.genesis).expect("the machine encoded it");
                let Some((response, wait)) = self.lead.answer(response) else { return };
                let output = Output::Respond { ticket, body: Some(response.encode().into()) };
                if wait > Duration::ZERO {
                    return self.late.push_back((self.now + wait, output));
                }
                output
            }
            other => other,
        };
        self.out.emit(output);
    }
}

impl Adversary for Misleader {
    fn handle(&mut self, now: Time, input: Input<'_>, out: &mut dyn Sink<Output>) {
        let Self { machine, lead, genesis, late } = self;
        machine.handle(now, input, &mut Twist { now, lead: *lead, genesis, late, out });
    }

    fn on_wake(&mut self, now: Time, out: &mut dyn Sink<Output>) {
        while self.late.front().is_some_and(|(at, _)| *at <= now) {
            self.late.pop_front().into_iter().for_each(|(_, output)| out.emit(output));
        }
        let Self { machine, lead, genesis, late } = self;
        machine.on_wake(now, &mut Twist { now, lead: *lead, genesis, late, out });
    }

    fn next_wake(&self) -> Option<Time> {
        let late = self.late.front().map(|(at, _)| *at);
        self.machine.next_wake().into_iter().chain(late).min()
    }
}
