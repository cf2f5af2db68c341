//! What a run keeps in memory, by component.

use super::link::Line;
use super::machine::Machine;
use super::observe::Message;
use super::world::World;
use starling_protocol::memory::MemoryLedger;
use starling_protocol::node::Node;

impl World {
    /// What a node has allocated, and what waits in its send queues, messages at their full length although they are shared. Zero if it does
    /// not run. It is what remotes can make grow: see [`starling_protocol::memory`] for what is estimated how.
    #[must_use]
    pub fn memory_of(&self, node: u32) -> usize {
        let Some(machine) = self.machines.get(node as usize) else { return 0 };
        let Some(own) = machine.actor.node() else { return 0 };
        let kept: usize = own.memory().components().iter().map(|(_, bytes)| bytes).sum();
        let busy = machine.lines.iter().filter_map(|line| line.busy.as_ref());
        kept + busy.map(|busy| busy.queue.bytes()).sum::<usize>()
    }

    /// What the run has allocated, by component, summed over all nodes; estimates, as in [`starling_protocol::memory`]. Messages and RPCs on
    /// their way are not in it: they are shared.
    #[must_use]
    pub fn memory(&self) -> Vec<(&'static str, usize)> {
        let mut sums: Vec<(&'static str, usize)> = MemoryLedger::default().components().to_vec();
        for node in self.nodes() {
            for (sum, (_, bytes)) in sums.iter_mut().zip(node.memory().components()) {
                sum.1 += bytes;
            }
        }
        // The machines of nodes lie in their places, and were counted.
        let places = self.machines.capacity() * size_of::<Machine>();
        sums.push(("places", places.saturating_sub(self.nodes().count() * size_of::<Node>())));
        let lines = self.machines.iter().map(|machine| machine.lines.capacity() * size_of::<Line>());
        sums.push(("lines", lines.sum()));
        let busy = self.machines.iter().flat_map(|machine| &machine.lines).filter_map(|line| line.busy.as_ref());
        sums.push(("send queues", busy.map(|busy| size_of_val(&**busy) + busy.queue.bytes()).sum()));
        sums.push(("events", self.shared.queue.allocated_bytes()));
        sums.push(("measured", self.observer().messages().iter().map(Message::memory_bytes).sum()));
        sums
    }
}
