//! Reading ahead.
//!
//! The memory of thousands of nodes does not fit into the processor's caches, and while a machine handles one event nobody fetches what the
//! next one needs. So when the calendar enters a bucket, everything is read that its events are going to touch first: then the waits for
//! all of them overlap. Nothing is changed, and what is read is thrown away. An event that is alone in its bucket has nobody to wait with, so
//! nothing is read for it.

use super::event::Event;
use super::world::World;
use starling_protocol::node::Node;

impl World {
    /// Reads what the events of the present bucket are going to touch, of which `first` is not in the queue any more.
    pub(super) fn anticipate(&self, first: &Event) {
        let events = || core::iter::once(first).chain(self.shared.queue.present());
        let mut read = 0;
        // First what stands in the machines and the RPCs themselves, then what they point at.
        for event in events() {
            if let Some(node) = event.node() {
                let machine = &self.machines[node as usize];
                read ^= u64::from(machine.life) ^ machine.uplink.free_ns;
                read ^= machine.actor.node().map_or(0, Node::anticipate);
            }
            if let Event::Deliver { parcel, .. } = event {
                read ^= parcel.anticipate();
            }
        }
        for event in events() {
            match event {
                Event::Deliver { node, peer, parcel } => {
                    let machine = &self.machines[*node as usize];
                    read ^= machine.actor.node().map_or(0, |node| node.anticipate_rpc(*peer, &parcel.rpc));
                    let first = parcel.rpc.publish.first();
                    let lines = match first.map(|first| self.shared.observer.arrival_us(&first.id(), *node)) {
                        // A message that is new is announced to all who are in the mesh, and then sent to them.
                        Some(None) => &machine.lines[..],
                        Some(Some(_)) => &[],
                        // What the peer does not want is sought among what waits for it.
                        None => machine.lines.get(peer.index()).map_or(&[][..], core::slice::from_ref),
                    };
                    read = lines.iter().fold(read, |read, line| read ^ line.arrival_us);
                }
                Event::Verified { node, .. } => {
                    let lines = &self.machines[*node as usize].lines;
                    read = lines.iter().fold(read, |read, line| read ^ line.arrival_us);
                }
                _ => {}
            }
        }
        core::hint::black_box(read);
    }
}
