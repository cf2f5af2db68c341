//! Carrying out what machines ask for, and asserting what must hold of it.

use super::machine::{Far, Machine};
use super::{Asker, BYTES_PER_MS, DIALLING, DISK, Happening, VERIFYING, World};
use starling_protocol::block::Block;
use starling_protocol::chain;
use starling_protocol::id::PeerHandle;
use starling_protocol::mesh::{self, Verdict};
use starling_protocol::message::Payload;
use starling_protocol::node::{Event, Input, Output, Ticket};
use starling_protocol::rpc::Frame;
use starling_protocol::send_queue::PushResult;
use starling_protocol::time::{Duration, micros};
use starling_protocol::transaction::Transaction;
use starling_protocol::wire::{WireLimits, read_prefix};

/// How long a request that is lost is waited for; sometimes longer than its asker waits.
const LOST_REQUEST_MAX: Duration = Duration::from_secs(8);

/// The largest frame that is put on a line at once.
const FRAME_BYTES: usize = 16 << 10;

impl World {
    pub(super) fn carry_out(&mut self, index: usize, out: Vec<Output>) {
        self.check(index);
        let mut full = Vec::new();
        for output in out {
            if let Some(trace) = &mut self.trace {
                *trace = fold(*trace, &format!("{} {index} {output:?}", self.now));
            }
            match output {
                Output::Send { peer, frame } => full.extend(self.send(index, peer, frame)),
                Output::Cancel { peer, ids } => {
                    if let Some(link) = self.machines[index].links.get_mut(&peer) {
                        link.queue.cancel(&ids);
                    }
                }
                Output::Verify { ticket, job } => {
                    self.machines[index].tickets.verify.give(ticket);
                    self.schedule(index, self.now + VERIFYING, Happening::Verify { ticket, job });
                }
                Output::Dial { id, .. } => {
                    let target = (0..self.machines.len()).find(|target| Machine::peer_id(*target) == id);
                    let target = target.expect("only nodes of this world are introduced");
                    self.schedule(index, self.now + DIALLING, Happening::Dialled { target });
                }
                Output::Discover => self.schedule(index, self.now + DIALLING, Happening::Discovered),
                Output::Disconnect { peer, reason } => {
                    self.odd.disconnects.push((index, peer, reason));
                    self.schedule(index, self.now, Happening::Closed { peer });
                }
                // What has been abandoned is verified all the same, and nobody looks at it.
                Output::PeerExchangeCandidates { .. } | Output::SavePeers | Output::Abandon { .. } => {}
                Output::Persist { ticket, batch } => {
                    self.machines[index].tickets.persist.give(ticket);
                    self.machines[index].batches.push_back((ticket, batch));
                    self.schedule(index, self.now + DISK, Happening::Persisted);
                }
                Output::Load { ticket, what } => {
                    self.machines[index].tickets.load.give(ticket);
                    self.schedule(index, self.now + DISK, Happening::Load { ticket, what });
                }
                Output::Request { ticket, peer, body } => {
                    self.machines[index].tickets.request.give(ticket);
                    self.request(index, peer, ticket, body);
                }
                Output::Respond { ticket, body } => {
                    let asker = self.machines[index].askers.remove(&ticket).expect("each request is answered once");
                    let sent = self.now + asker.latency;
                    self.schedule(index, sent, Happening::Responded { ticket });
                    self.respond(asker, body);
                }
                Output::SubmitResult { ticket, result } => {
                    let answer = self.machines[index].submissions.get_mut(&ticket).expect("was submitted in this life");
                    assert!(answer.replace(result).is_none(), "{ticket:?} is answered twice");
                }
                Output::Event(event) => self.observe(index, event),
            }
        }
        for peer in full {
            self.input(index, Input::SendQueueFull { peer, dropped: 1 });
        }
        self.plan_wake(index);
    }

    fn check(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        machine.steps += 1;
        if machine.steps.is_multiple_of(self.check_every) {
            machine.node().check();
        }
    }

    fn plan_wake(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let Some((due, _)) = machine.node().next_wake() else { return };
        let due = due.max(self.now);
        if machine.wake.is_none_or(|wake| due < wake) {
            machine.wake = Some(due);
            self.schedule(index, due, Happening::Wake);
        }
    }

    /// Queues a frame; returns the peer if its queue was full.
    fn send(&mut self, index: usize, peer: PeerHandle, frame: Frame) -> Option<PeerHandle> {
        if let Frame::Publish { payload, .. } = &frame {
            assert!(self.is_valid(index, payload), "node {index} passes on an invalid message");
        }
        let link = self.machines[index].links.get_mut(&peer)?;
        let full = link.queue.push(self.now, frame) != PushResult::Ok;
        link.queue.check();
        if !std::mem::replace(&mut link.busy, true) {
            self.schedule(index, self.now, Happening::Transmit { peer });
        }
        full.then_some(peer)
    }

    /// Puts the next frame on the line.
    pub(super) fn transmit(&mut self, index: usize, peer: PeerHandle) {
        let Some(link) = self.machines[index].links.get(&peer) else { return };
        if let Far::Node { node, .. } = link.far
            && self.machines[node].deaf_until > self.now
        {
            return self.schedule(index, self.machines[node].deaf_until, Happening::Transmit { peer });
        }
        let Some(link) = self.machines[index].links.get_mut(&peer) else { return };
        let Some(rpc) = link.queue.pop(self.now, FRAME_BYTES) else {
            link.busy = false;
            return;
        };
        let (far, latency, bytes) = (link.far, link.latency, rpc.to_vec());
        let prefix = read_prefix(&bytes, &WireLimits::default()).expect("within limits").expect("a whole prefix");
        let frame = &bytes[prefix.prefix_bytes..];
        assert_eq!(frame.len(), prefix.frame_bytes, "the prefix is the frame's length");
        let sending = Duration::from_micros(1_000 * bytes.len() as u64 / BYTES_PER_MS);
        let sent = self.now + sending;
        self.schedule(index, sent, Happening::Transmit { peer });
        let Far::Node { node, theirs } = far else { return };
        if self.chance(self.faults.loss) {
            return;
        }
        for _ in 0..1 + u64::from(self.chance(self.faults.duplication)) {
            let jitter = Duration::from_micros(self.random.below(micros(self.faults.jitter) + 1));
            self.schedule(node, sent + latency + jitter, Happening::Frame { peer: theirs, bytes: frame.to_vec() });
        }
    }

    fn request(&mut self, index: usize, peer: PeerHandle, ticket: Ticket, body: bytes::Bytes) {
        let machine = &self.machines[index];
        let link = machine.links.get(&peer);
        let asker = |latency| Asker { node: index, life: machine.life, ticket, latency };
        let Some((Far::Node { node, theirs }, latency)) = link.map(|link| (link.far, link.latency)) else {
            return self.respond(asker(Duration::ZERO), None);
        };
        let (asker, other) = (asker(latency), &self.machines[node]);
        // The protocol is named after the network, so others do not speak it.
        let speaks = other.node.is_some() && other.genesis == machine.genesis;
        if !speaks {
            return self.respond(asker, None);
        }
        if self.chance(self.faults.request_failure) {
            let wait_us = self.random.below(micros(LOST_REQUEST_MAX));
            let asker = Asker { latency: Duration::from_micros(wait_us), ..asker };
            return self.respond(asker, None);
        }
        self.schedule(node, self.now + latency, Happening::Request { peer: theirs, asker, body });
    }

    /// Brings a response to who waits for it.
    pub(super) fn respond(&mut self, asker: Asker, body: Option<bytes::Bytes>) {
        let Asker { node, life, ticket, latency } = asker;
        if self.machines[node].life == life {
            self.schedule(node, self.now + latency, Happening::Response { ticket, body });
        }
    }

    fn observe(&mut self, index: usize, event: Event) {
        match event {
            Event::Mesh(mesh::Event::Validated { payload, verdict, .. }) => match verdict {
                Verdict::Accept | Verdict::AcceptWithoutTrial => {
                    assert!(self.is_valid(index, &payload), "node {index} accepts an invalid message");
                }
                Verdict::Reject => self.odd.rejected.push((index, payload.id())),
                Verdict::Ignore | Verdict::Shed => {}
            },
            Event::CutOff { slots, .. } => self.odd.cut_off.push((index, slots)),
            Event::PeerFault { fault, .. } => self.odd.peer_faults.push((index, fault.to_string())),
            Event::Chain(chain::Event::Equivocation { headers }) => {
                self.odd.equivocations.push((index, headers[0].header.slot));
            }
            _ => {}
        }
    }

    /// Whether the message is a valid one of the node's network: a transaction with the right signature, or a block
    /// with a header that its producer signed.
    fn is_valid(&mut self, index: usize, payload: &Payload) -> bool {
        let genesis = &self.machines[index].genesis;
        *self.validity.entry(payload.id()).or_insert_with(|| {
            if payload.topic() == genesis.transaction_topic() {
                Transaction::decode(payload.data_bytes(), genesis).is_ok_and(|it| it.verify_signature().is_ok())
            } else if payload.topic() == genesis.block_topic() {
                Block::decode(payload.data_bytes(), genesis).is_ok_and(|it| it.verify_header_signature(genesis).is_ok())
            } else {
                false
            }
        })
    }
}

/// FNV-1a, so that a trace is one number.
fn fold(hash: u64, text: &str) -> u64 {
    text.bytes().fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
