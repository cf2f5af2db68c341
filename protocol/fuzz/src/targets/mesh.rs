//! Sequences of inputs to the mesh engine, the RPCs among them decoded from bytes as a peer would send them.

use crate::input::Input as Choices;
use starling_protocol::id::{Direction, HandleAllocator, PeerHandle, PeerId, Topic, Version};
use starling_protocol::mesh::{Event, Input, Mesh, MeshConfig, Output, TopicConfig, ValidationTicket, Verdict};
use starling_protocol::message::Payload;
use starling_protocol::time::{Duration, Time};
use starling_protocol::wire::{self, TopicInterner, WireLimits};
use std::net::{IpAddr, Ipv4Addr};

/// More peers than this are not connected at a time.
const PEERS_MAX: usize = 24;

struct Driver {
    mesh: Mesh,
    now: Time,
    handles: HandleAllocator,
    connected: Vec<PeerHandle>,
    tickets: Vec<ValidationTicket>,
    interner: TopicInterner,
    topics: Vec<Topic>,
    delivered: u32,
    grafted: u32,
}

/// After every input the engine's invariants hold, it talks only about connected peers, and it never wants to be woken
/// earlier than it has been.
pub(super) fn mesh(bytes: &[u8]) {
    drive(bytes).finish();
}

fn drive(bytes: &[u8]) -> Driver {
    let topics: Vec<Topic> = ["t", "b"].map(Topic::new).to_vec();
    let configs = topics.iter().map(|topic| TopicConfig { topic: topic.clone(), priority: topic.as_str() == "b" });
    let config = MeshConfig::with_topics(configs.collect()).validate().expect("the defaults are valid");
    let mut driver = Driver {
        mesh: Mesh::new(config, [7; 32], Time::ZERO),
        now: Time::ZERO,
        handles: HandleAllocator::default(),
        connected: Vec::new(),
        tickets: Vec::new(),
        interner: TopicInterner::new(topics.clone()),
        topics,
        delivered: 0,
        grafted: 0,
    };
    let mut choices = Choices::new(bytes);
    while !choices.is_empty() {
        driver.step(&mut choices);
        driver.mesh.check();
    }
    driver
}

impl Driver {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(12) {
            0 => self.connect(choices),
            1 => {
                if let Some(peer) = self.peer(choices) {
                    self.connected.retain(|other| *other != peer);
                    self.handle(Input::Disconnected { peer });
                    self.handles.release(peer);
                }
            }
            2..=5 => {
                let frame = {
                    let len = usize::from(choices.byte());
                    choices.bytes(len)
                };
                let rpc = wire::decode(frame, &WireLimits::default(), &self.interner);
                if let (Some(peer), Ok(rpc)) = (self.peer(choices), rpc) {
                    self.handle(Input::Rpc { peer, rpc: &rpc, received: self.now });
                }
            }
            6 => {
                let topic = self.topics[usize::from(choices.below(2))].clone();
                let number = choices.byte();
                if number % 4 == 3 {
                    let id = Payload::new(&topic, &[number - 1]).id();
                    return self.handle(Input::Disputed { id });
                }
                self.handle(Input::Publish { payload: Payload::new(&topic, &[number]) });
            }
            7 => {
                let topic = self.topics[usize::from(choices.below(2))].clone();
                self.handle(if choices.below(3) == 0 {
                    Input::Unsubscribe { topic }
                } else {
                    Input::Subscribe { topic }
                });
            }
            8 | 9 => {
                let (index, verdict) = (usize::from(choices.byte()), usize::from(choices.below(4)));
                if !self.tickets.is_empty() {
                    let ticket = self.tickets.swap_remove(index % self.tickets.len());
                    let verdict = [Verdict::Accept, Verdict::Ignore, Verdict::Reject, Verdict::Shed][verdict];
                    self.handle(Input::Verdict { ticket, verdict });
                }
            }
            10 => {
                if let Some(peer) = self.peer(choices) {
                    let rtt = Duration::from_millis(u64::from(choices.byte()));
                    self.handle(Input::Rtt { peer, rtt });
                }
            }
            _ => {
                // Sometimes the driver is late, and sometimes it wakes for nothing.
                self.now = self.now + Duration::from_millis(u64::from(choices.byte()) * 16);
                let mut out = Vec::new();
                self.mesh.on_wake(self.now, &mut out);
                self.took(out);
                let next = self.mesh.next_wake();
                assert!(next.is_none_or(|(due, _)| due > self.now), "{next:?} is due after waking at {}", self.now);
            }
        }
    }

    fn finish(mut self) {
        while let Some(peer) = self.connected.pop() {
            self.handle(Input::Disconnected { peer });
            self.handles.release(peer);
        }
        self.mesh.check();
    }

    fn connect(&mut self, choices: &mut Choices<'_>) {
        if self.connected.len() == PEERS_MAX {
            return;
        }
        let peer = self.handles.allocate();
        let id = PeerId::from_number(u64::from(peer.slot) << 8 | u64::from(choices.below(4)));
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, choices.below(4)));
        let direction = if choices.below(2) == 0 { Direction::Inbound } else { Direction::Outbound };
        let version = [Version::V1_0, Version::V1_1, Version::V1_2][usize::from(choices.below(3))];
        self.connected.push(peer);
        self.handle(Input::Connected { peer, id, ip, direction, version });
    }

    fn peer(&self, choices: &mut Choices<'_>) -> Option<PeerHandle> {
        let index = usize::from(choices.byte());
        (!self.connected.is_empty()).then(|| self.connected[index % self.connected.len()])
    }

    fn handle(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        self.mesh.handle(self.now, input, &mut out);
        self.took(out);
    }

    fn took(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { peer, .. } | Output::Cancel { peer, .. } | Output::Disconnect { peer, .. } => {
                    assert!(self.connected.contains(&peer), "{peer:?} is connected");
                }
                Output::Validate { ticket, .. } => self.tickets.push(ticket),
                Output::Deliver { .. } => self.delivered += 1,
                Output::Event(Event::Grafted { .. }) => self.grafted += 1,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds::seeds;

    /// Mutations are worth little if what they start from is refused at the door.
    #[test]
    fn the_seeds_reach_the_inside() {
        for (name, bytes) in seeds("mesh") {
            let driver = drive(&bytes);
            assert!(driver.delivered >= 4 && driver.grafted > 0, "{name}: {} {}", driver.delivered, driver.grafted);
        }
    }
}
