//! What must never happen, whatever goes wrong in the network.
//!
//! Each rule is a [`Checker`] of its own that sees what machines say and do (1, 2 and the bound of 3), and looks at the world now and then: between how many events, whoever runs it decides.
//! They are no part of the machines; beside rules of their own they ask for the machines' own invariants (`check`). A run that is watched is slower and has the same trace.
//!
//! 1. [`OnceOnly`]: no message is delivered twice to the application of one process, for as long as the seen-cache keeps names: two minutes, and
//!    131,072 of them.
//!    *Rationale:* no cache keeps them for ever. What comes again later changes nothing, since its transaction is in the chain or in the pool,
//!    but may be passed on to those who lack it: after a division of ten minutes, for example.
//! 2. [`ValidOnly`]: a node sends no message that it has not accepted, in this life or an earlier one, and that no honest node has published: what
//!    is pending is offered to new peers, and it may have come in a block or from its own disk. So what is invalid goes no further than to those whom an
//!    attacker tells. Of accepted transactions the signature is verified here, too.
//! 3. [`MeshBounds`]: after a heartbeat no mesh is larger than D_high, the D_out links that are grafted for being outbound, and those of one opportunistic
//!    graft, and all that are in it are connected.
//! 4. [`QueueBounds`]: no send queue holds more than its bound, and every queue's own invariants hold.
//! 5. [`NothingLeft`]: a machine knows exactly the peers that it is connected with, each by the handle of its connection; each connection has two ends, which name each other; whoever wants to be woken will be; and the machine's own
//!    invariants hold.

use super::directory::peer_id;
use super::link::Line;
use super::machine::Phase;
use super::world::World;
use starling_protocol::id::{MessageId, PeerHandle};
use starling_protocol::mesh::seen::SeenConfig;
use starling_protocol::mesh::{self, MeshConfig};
use starling_protocol::node::Event;
use starling_protocol::rpc::Frame;
use starling_protocol::send_queue::SendQueueConfig;
use starling_protocol::time::{Duration, Time};
use starling_protocol::transaction::Transaction;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// Violations kept; one is enough to fail, and the first ones tell most.
const VIOLATIONS_MAX: usize = 20;

/// A process: the node's number, and how often it has been started.
pub type Process = (u32, u32);

/// A rule that is watched. What it returns is how the rule was broken.
pub trait Checker: fmt::Debug {
    /// An honest machine said that something happened.
    fn event(&mut self, _now: Time, _process: Process, _event: &Event) -> Option<String> {
        None
    }

    /// An honest machine says something to a peer.
    fn said(&mut self, _process: Process, _frame: &Frame) -> Option<String> {
        None
    }

    /// A process begins with this message on its disk.
    fn restored(&mut self, _node: u32, _id: MessageId) {}

    /// Between two events.
    fn look(&mut self, _world: &World) -> Option<String> {
        None
    }
}

/// All rules, and how they were broken.
#[derive(Debug)]
pub struct Safety {
    checkers: Vec<Box<dyn Checker>>,
    violations: Vec<String>,
}

impl Default for Safety {
    fn default() -> Self {
        let checkers: Vec<Box<dyn Checker>> = vec![
            Box::new(OnceOnly::default()),
            Box::new(ValidOnly::default()),
            Box::new(MeshBounds::default()),
            Box::new(QueueBounds),
            Box::new(NothingLeft::default()),
        ];
        Self { checkers, violations: Vec::new() }
    }
}

impl Safety {
    pub(super) fn event(&mut self, now: Time, process: Process, event: &Event) {
        self.each(now, |checker| checker.event(now, process, event));
    }

    pub(super) fn said(&mut self, now: Time, process: Process, frame: &Frame) {
        self.each(now, |checker| checker.said(process, frame));
    }

    pub(super) fn restored(&mut self, node: u32, id: MessageId) {
        self.checkers.iter_mut().for_each(|checker| checker.restored(node, id));
    }

    pub(super) fn look(&mut self, world: &World) {
        self.each(world.now(), |checker| checker.look(world));
    }

    /// How rules were broken, with the times.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    fn each(&mut self, now: Time, mut ask: impl FnMut(&mut dyn Checker) -> Option<String>) {
        for checker in &mut self.checkers {
            if let Some(violation) = ask(&mut **checker)
                && self.violations.len() < VIOLATIONS_MAX
            {
                self.violations.push(format!("at {now}: {violation}"));
            }
        }
    }
}

/// Rule 1.
#[derive(Debug, Default)]
pub struct OnceOnly {
    /// When, and as the how-manyth of the process.
    delivered: HashMap<(Process, MessageId), (Time, usize)>,
    counts: HashMap<Process, usize>,
    seen: SeenConfig,
}

impl Checker for OnceOnly {
    fn event(&mut self, now: Time, process: Process, event: &Event) -> Option<String> {
        let (Event::Mesh(mesh::Event::Validated { payload, verdict: mesh::Verdict::Accept, .. })
        | Event::Mesh(mesh::Event::Published { payload })) = event
        else {
            return None;
        };
        let count = self.counts.entry(process).or_default();
        *count += 1;
        let (before, number) = self.delivered.insert((process, payload.id()), (now, *count))?;
        let SeenConfig { accepted_age_max, accepted_entries_max, .. } = self.seen;
        let again = now.since(before) < accepted_age_max && *count - number < accepted_entries_max;
        again.then(|| format!("node {} delivered message {} twice, at {before} and now", process.0, payload.id()))
    }
}

/// Rule 2. What a former life published or accepted is offered again by the next one.
#[derive(Debug, Default)]
pub struct ValidOnly {
    accepted: HashSet<(u32, MessageId)>,
    published: HashSet<MessageId>,
    /// Accepted transactions whose signatures were verified here.
    verified: HashSet<MessageId>,
}

impl Checker for ValidOnly {
    fn event(&mut self, _now: Time, process: Process, event: &Event) -> Option<String> {
        match event {
            Event::Mesh(mesh::Event::Published { payload }) => {
                self.published.insert(payload.id());
            }
            Event::Mesh(mesh::Event::Validated { payload, verdict: mesh::Verdict::Accept, .. }) => {
                self.accepted.insert((process.0, payload.id()));
                let transaction = payload.transaction().filter(|_| self.verified.insert(payload.id()));
                if let Some(Err(error)) = transaction.map(Transaction::verify_signature) {
                    return Some(format!("node {} accepted message {}: {error}", process.0, payload.id()));
                }
            }
            _ => {}
        }
        None
    }

    fn restored(&mut self, node: u32, id: MessageId) {
        // What it was given by its own user is stored before it is published, and its process may end between the two.
        self.accepted.insert((node, id));
    }

    fn said(&mut self, process: Process, frame: &Frame) -> Option<String> {
        let Frame::Publish { payload, .. } = frame else { return None };
        let id = payload.id();
        let may = self.accepted.contains(&(process.0, id)) || self.published.contains(&id);
        (!may).then(|| format!("node {} sent message {id}, which it has not accepted", process.0))
    }
}

/// Rule 3.
#[derive(Debug)]
pub struct MeshBounds {
    most: usize,
}

impl Default for MeshBounds {
    fn default() -> Self {
        let MeshConfig { degree, heartbeat, .. } = MeshConfig::with_topics(Vec::new());
        Self { most: degree.high + degree.outbound + heartbeat.opportunistic_peers }
    }
}

impl Checker for MeshBounds {
    fn event(&mut self, _now: Time, process: Process, event: &Event) -> Option<String> {
        let Event::Mesh(mesh::Event::MeshDegree { topic, degree }) = event else { return None };
        let most = self.most;
        (*degree as usize > most)
            .then(|| format!("node {} has {degree} mesh links on {topic}, more than {most}", process.0))
    }

    fn look(&mut self, world: &World) -> Option<String> {
        for (number, node) in world.running() {
            for (topic, _) in node.mesh().topics() {
                let stranger = node.mesh().mesh_peers(topic).iter().find(|peer| node.peer_id(**peer).is_none());
                if let Some(peer) = stranger {
                    return Some(format!("node {number} has {peer:?} in its mesh on {topic}, who is not connected"));
                }
            }
        }
        None
    }
}

/// Rule 4.
#[derive(Debug)]
pub struct QueueBounds;

impl Checker for QueueBounds {
    fn look(&mut self, world: &World) -> Option<String> {
        let most = SendQueueConfig::default().bytes_max;
        for (number, machine) in world.machines.iter().enumerate() {
            for busy in machine.lines.iter().filter_map(|line| line.busy.as_deref()) {
                // Before its own check, which would end the run.
                let bytes = busy.queue.bytes();
                if bytes > most {
                    return Some(format!("a queue of node {number} holds {bytes} bytes, more than {most}"));
                }
                busy.queue.check();
            }
        }
        None
    }
}

/// For longer than this and than a cut path is borne, no end of a connection is left alone.
const ALONE_MAX: Duration = Duration::from_secs(30);

/// Rule 5.
#[derive(Debug, Default)]
pub struct NothingLeft {
    /// Since when an end of a connection, by node and handle, has had no other end.
    alone: BTreeMap<(u32, PeerHandle), Time>,
}

impl Checker for NothingLeft {
    fn look(&mut self, world: &World) -> Option<String> {
        let (now, mut alone) = (world.now(), BTreeMap::new());
        for (number, node) in world.running() {
            node.check();
            let machine = &world.machines[number as usize];
            let lines: Vec<(PeerHandle, &Line)> = machine
                .lines
                .iter()
                .zip(0..)
                .filter(|(line, _)| !line.is_free())
                .map(|(line, slot)| (PeerHandle { slot, generation: line.generation }, line))
                .collect();
            if node.mesh().peers_len() != lines.len() {
                let (known, lines) = (node.mesh().peers_len(), lines.len());
                return Some(format!("node {number} knows {known} peers and has {lines} connections"));
            }
            // As many as there are connections, and one for each of them: these and no others.
            let is_known = |peer: PeerHandle, far| node.peer_id(peer) == Some(peer_id(far)) && node.mesh().knows(peer);
            if let Some((peer, line)) = lines.iter().find(|(peer, line)| !is_known(*peer, line.far)) {
                return Some(format!(
                    "node {number} is connected with {}, whom it does not know as {peer:?}",
                    line.far
                ));
            }
            let due = machine.actor.next_wake().filter(|_| machine.phase == Phase::Up && machine.inbox.is_empty());
            if let Some(due) = due
                && (machine.wake_at < now || machine.wake_at > due.max(now))
            {
                return Some(format!("node {number} wants to be woken at {due} and will not be"));
            }
            for (peer, line) in lines {
                let far = world.machines[line.far as usize].line(line.far_handle);
                // One end may have closed what the other one has not heard of yet; but nobody else may sit there.
                if far.is_some_and(|far| (far.far, far.far_handle) != (number, peer)) {
                    return Some(format!("the ends of a connection of node {number} do not belong together"));
                }
                // Whoever stands still or is behind with its work has not heard of it either.
                if far.is_none() && !line.cut && machine.phase == Phase::Up && machine.inbox.is_empty() {
                    let end = (number, peer);
                    alone.insert(end, self.alone.get(&end).copied().unwrap_or(now));
                }
            }
        }
        self.alone = alone;
        let borne = world.scenario().dead_after + ALONE_MAX;
        let long = self.alone.iter().find(|(_, since)| now.since(**since) > borne);
        long.map(|((number, _), since)| format!("node {number} keeps a connection since {since} that has no other end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::link::Busy;
    use crate::sim::{Scenario, Wiring};
    use starling_protocol::id::Direction;
    use starling_protocol::node::{Input, Output};
    use starling_protocol::send_queue::{PushResult, SendQueue};

    /// A network of which every node is connected with all others.
    fn connected() -> World {
        let mut world = World::new(Scenario { wiring: Wiring::Random { degree: 5 }, ..Scenario::scale(6, 1) });
        world.run_until(Time::from_secs(5));
        assert_eq!(NothingLeft::default().look(&world), None);
        assert_eq!(world.machines[0].handles().len(), 5);
        world
    }

    fn violation(world: &World) -> String {
        NothingLeft::default().look(world).expect("a rule is broken")
    }

    /// One peer too few and one too many are as many as there should be.
    #[test]
    fn a_peer_that_was_swapped_for_another_is_seen() {
        let mut world = connected();
        let (now, machine) = (world.now(), &mut world.machines[0]);
        let (peer, ip) = (machine.handles()[2], world.addresses[1]);
        let (far, node) = (machine.lines[peer.index()].far, machine.actor.node_mut().expect("it runs"));
        let mut said: Vec<Output> = Vec::new();
        node.handle(now, Input::Disconnected { peer }, &mut said);
        let stranger = PeerHandle { generation: peer.generation + 1, ..peer };
        let (direction, version) = (Direction::Inbound, starling_protocol::id::Version::V1_2);
        let arrives = Input::Connected { peer: stranger, id: peer_id(far), ip, direction, version };
        node.handle(now, arrives, &mut said);
        assert_eq!(violation(&world), format!("node 0 is connected with {far}, whom it does not know as {peer:?}"));
    }

    #[test]
    fn a_connection_that_was_swapped_for_another_is_seen() {
        let mut world = connected();
        let handles = world.machines[0].handles();
        let (one, other) = (handles[1].index(), handles[3].index());
        world.machines[0].lines.swap(one, other);
        // Both ends of both connections name each other as before.
        for slot in [one, other] {
            let (far, far_handle) = (world.machines[0].lines[slot].far, world.machines[0].lines[slot].far_handle);
            let handle = PeerHandle { slot: u32::try_from(slot).expect("one of five"), generation: 0 };
            world.machines[far as usize].lines[far_handle.index()].far_handle = handle;
        }
        let (peer, far) = (handles[1], world.machines[0].lines[one].far);
        assert_eq!(violation(&world), format!("node 0 is connected with {far}, whom it does not know as {peer:?}"));
    }

    #[test]
    fn a_peer_that_is_gone_and_kept_is_seen() {
        let mut world = connected();
        let (now, peer) = (world.now(), world.machines[0].handles()[2]);
        let mut said: Vec<Output> = Vec::new();
        let node = world.machines[0].actor.node_mut().expect("it runs");
        node.handle(now, Input::Disconnected { peer }, &mut said);
        assert_eq!(violation(&world), "node 0 knows 4 peers and has 5 connections");
    }

    #[test]
    fn a_wake_that_is_lost_is_seen() {
        let mut world = connected();
        world.machines[3].wake_at = Time::MAX;
        let said = violation(&world);
        assert!(said.starts_with("node 3 wants to be woken at ") && said.ends_with(" and will not be"), "{said}");
    }

    #[test]
    fn a_queue_that_holds_too_much_is_seen() {
        let mut world = connected();
        assert_eq!(QueueBounds.look(&world), None);
        let most = SendQueueConfig::default().bytes_max;
        let mut queue = SendQueue::new(SendQueueConfig { bytes_max: most * 4, ..SendQueueConfig::default() });
        let topic = starling_protocol::id::Topic::new("topic");
        for number in 0_u8.. {
            let large = starling_protocol::message::Payload::new(&topic, &[number; 60_000]);
            let frame = Frame::Publish { payload: large, class: starling_protocol::rpc::Class::Forward };
            assert!(matches!(queue.push(world.now(), frame), PushResult::Ok));
            if queue.bytes() > most {
                break;
            }
        }
        let (writing, bodies) = (None, std::collections::VecDeque::new());
        let busy = Busy { queue, writing, bodies, body_next: false, waits: false, queued: false };
        world.machines[2].lines[0].busy = Some(Box::new(busy));
        let said = QueueBounds.look(&world).expect("a rule is broken");
        assert!(said.starts_with("a queue of node 2 holds ") && said.ends_with(&format!("more than {most}")), "{said}");
    }

    #[test]
    fn the_ends_of_a_connection_belong_together() {
        let mut world = connected();
        let (far, far_handle) = (world.machines[0].lines[0].far, world.machines[0].lines[0].far_handle);
        world.machines[far as usize].lines[far_handle.index()].far_handle.generation += 1;
        assert_eq!(violation(&world), "the ends of a connection of node 0 do not belong together");
    }
}
