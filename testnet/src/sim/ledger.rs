//! What a run keeps in memory, by component.

use super::link::Line;
use super::machine::Machine;
use super::observe::Message;
use super::world::World;
use starling_protocol::memory::MemoryLedger;

impl World {
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
        sums.push(("places", self.machines.capacity() * size_of::<Machine>()));
        let lines = self.machines.iter().map(|machine| machine.lines.capacity() * size_of::<Line>());
        sums.push(("lines", lines.sum()));
        let busy = self.machines.iter().flat_map(|machine| &machine.lines).filter_map(|line| line.busy.as_ref());
        sums.push(("send queues", busy.map(|busy| size_of_val(&**busy) + busy.queue.bytes()).sum()));
        sums.push(("events", self.shared.queue.allocated_bytes()));
        sums.push(("measured", self.observer().messages().iter().map(Message::memory_bytes).sum()));
        sums
    }
}
