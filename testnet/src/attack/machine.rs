//! A node machine in the place of an attacker, which keeps up connections of its own choice.
//!
//! An attacker that is honest but for one thing wraps one, and changes what it says on the way out.

use super::links::Links;
use starling_protocol::mesh::Sink;
use starling_protocol::node::{Input, Node, NodeParts, Output};
use starling_protocol::time::Time;

/// A node machine and the connections that are sought for it.
#[derive(Debug)]
pub(super) struct Machine {
    node: Node,
    links: Links,
}

impl Machine {
    pub(super) fn new(parts: NodeParts, links: Links, seed: u64) -> Self {
        let mut stream = [0; 32];
        stream[..8].copy_from_slice(&seed.to_le_bytes());
        Self { node: Node::new(parts, stream, Time::ZERO), links }
    }

    pub(super) fn handle(&mut self, now: Time, input: Input<'_>, out: &mut impl Sink<Output>) {
        if matches!(input, Input::WallClock { .. }) {
            self.links.begin(out);
        }
        self.links.handle(now, &input);
        self.node.handle(now, input, out);
    }

    pub(super) fn on_wake(&mut self, now: Time, out: &mut impl Sink<Output>) {
        self.links.on_wake(now, out);
        self.node.on_wake(now, out);
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        self.node.next_wake().map(|(at, _)| at).into_iter().chain(self.links.next_wake()).min()
    }
}
