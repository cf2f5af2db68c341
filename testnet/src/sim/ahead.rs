//! Reading ahead.
//!
//! The memory of thousands of nodes does not fit into the processor's caches, and while a machine handles one event nobody fetches what the
//! next one needs. So when the calendar enters a bucket, everything is fetched that its events are going to touch first, step by step: what lies
//! in the machines was fetched one bucket before, then follows what they point at, and then what that says. The processor is told to
//! fetch, and does not wait; each step looks at what the one before had fetched for all events of the bucket. Nothing is changed.

use super::event::Event;
use super::machine::Machine;
use super::world::World;
use prefetch_index::prefetch_index;
use starling_protocol::memory::Fetch;
use starling_protocol::node::FETCH_STEPS;

/// Has the processor fetch.
struct Ahead;

impl Fetch for Ahead {
    #[inline(always)]
    fn item<T>(&mut self, items: &[T], place: usize) {
        prefetch_index(items, place);
    }
}

/// Words in a line of the processor's cache.
const LINE_WORDS: usize = 8;
/// What every event looks at of a place, before the machine: so many lines.
const HEAD_LINES: usize = 4;

/// While so many events are left of those that were looked at, the next ones are.
const AHEAD: usize = 16;

impl Machine {
    fn fetch(&self) {
        for line in 0..HEAD_LINES {
            Ahead.item(core::slice::from_ref(&self.loop_free_ns), line * LINE_WORDS);
        }
        if let Some(node) = self.actor.node() {
            node.fetch(&mut Ahead);
        }
    }

    fn fetch_lines(&self) {
        (0..self.lines.len()).for_each(|slot| Ahead.item(&self.lines, slot));
    }
}

impl World {
    /// Has fetched what the next events of the present bucket are going to touch, of which `first` is not in the queue any more, and the machines
    /// of the next bucket when the present one was just entered.
    #[inline]
    pub(super) fn anticipate(&mut self, first: &Event) {
        if self.shared.queue.has_entered() {
            self.fetch_machines();
            self.unfetched = self.shared.queue.present().len() + 1;
        }
        let left = self.shared.queue.present().len();
        if self.unfetched > 0 && left < self.unfetched + AHEAD {
            self.fetch_more(first, left);
        }
    }

    fn fetch_machines(&self) {
        for event in self.shared.queue.following() {
            if let Some(node) = event.node() {
                self.machines[node as usize].fetch();
            }
            if let Event::Deliver { parcel, .. } = event {
                parcel.fetch(&mut Ahead);
            }
        }
    }

    /// Has fetched what the next ones of the events touch that were not looked at, where so many are left.
    fn fetch_more(&mut self, first: &Event, left: usize) {
        let upto = self.unfetched.min(left);
        let from = left.saturating_sub(2 * AHEAD);
        let begins = self.unfetched > left;
        self.unfetched = from;
        for step in 0..FETCH_STEPS {
            if begins {
                self.fetch(step, first);
            }
            self.shared.queue.present().skip(from).take(upto - from).rev().for_each(|event| self.fetch(step, event));
        }
    }

    fn fetch(&self, step: u8, event: &Event) {
        let machine = event.node().map(|node| &self.machines[node as usize]);
        let Some((machine, node)) = machine.and_then(|machine| Some((machine, machine.actor.node()?))) else { return };
        match event {
            Event::Deliver { node: number, peer, parcel } => {
                node.fetch_rpc(step, *peer, &parcel.rpc, &mut Ahead);
                let message = parcel.rpc.publish.first().map(|message| message.id());
                if step == 0 {
                    Ahead.item(&machine.lines, peer.index());
                    message.iter().for_each(|message| self.shared.observer.fetch(message, *number, &mut Ahead));
                } else if step == 1
                    && message.is_some_and(|message| self.shared.observer.arrival_us(&message, *number).is_none())
                {
                    // A message that is new is announced to all who are in the mesh, and then sent to them.
                    machine.fetch_lines();
                }
            }
            Event::Verified { .. } => {
                node.fetch_verdict(step, &mut Ahead);
                if step == 0 {
                    machine.fetch_lines();
                }
            }
            Event::Wake { .. } => node.fetch_wake(step, self.shared.queue.bucket_end(), &mut Ahead),
            _ => {}
        }
    }
}
