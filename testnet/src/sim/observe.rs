//! What is measured: when each message reached each node.
//!
//! t0 is when the origin's machine publishes the message, *arrival* when a node takes in the first copy. Times are exact, because
//! there is one clock. Distributions are kept raw.

use super::ids::DigestMap;
use starling_protocol::id::MessageId;
use starling_protocol::mesh;
use starling_protocol::node::Event;
use starling_protocol::time::{Time, micros};

/// Deliveries of all messages.
#[derive(Debug, Default)]
pub struct Observer {
    index: DigestMap<u32>,
    messages: Vec<Message>,
    /// Copies of messages that came after the first one.
    pub duplicates: u64,
    /// Messages that were not accepted.
    pub refused: u64,
}

/// One message and its deliveries.
#[derive(Debug)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// Who published it.
    pub origin: u32,
    /// When.
    pub published: Time,
    /// Microseconds from publication to each arrival, in the order of arrival.
    pub arrivals_us: Vec<u32>,
    /// How many nodes accepted it, its origin not counted.
    pub accepted: u32,
}

impl Observer {
    /// Takes in what a machine says.
    pub(super) fn event(&mut self, now: Time, node: u32, event: &Event) {
        let Event::Mesh(event) = event else { return };
        match event {
            mesh::Event::Published { payload } => {
                let index = u32::try_from(self.messages.len()).expect("fewer than 2^32 messages");
                self.index.insert(payload.id().as_bytes(), index);
                self.messages.push(Message {
                    id: payload.id(),
                    origin: node,
                    published: now,
                    arrivals_us: Vec::new(),
                    accepted: 0,
                });
            }
            mesh::Event::Arrived { payload, received, .. } => {
                if let Some(message) = self.message(&payload.id()) {
                    let latency = received.since(message.published);
                    message.arrivals_us.push(u32::try_from(micros(latency)).unwrap_or(u32::MAX));
                }
            }
            mesh::Event::Duplicate { .. } => self.duplicates += 1,
            mesh::Event::Validated { payload, verdict, .. } => {
                if *verdict != mesh::Verdict::Accept {
                    self.refused += 1;
                } else if let Some(message) = self.message(&payload.id()) {
                    message.accepted += 1;
                }
            }
            mesh::Event::Grafted { .. } | mesh::Event::Pruned { .. } | mesh::Event::MeshDegree { .. } => {}
        }
    }

    /// All messages, in the order of their publication.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    fn message(&mut self, id: &MessageId) -> Option<&mut Message> {
        let index = *self.index.get(id.as_bytes())?;
        self.messages.get_mut(index as usize)
    }
}
