//! Who waits for the answer to a request: what a real node's connections know of their own streams, for all machines together.
//!
//! Who is asked answers by a ticket, so that is the order. When a connection ends, everything that was asked there is looked for by machine and
//! connection. Attackers answer nothing and end connections all the time, so this is not to look at everybody's requests.

use starling_protocol::id::PeerHandle;
use starling_protocol::node::Ticket;
use std::collections::{BTreeMap, BTreeSet};

/// Who waits for the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) node: u32,
    /// Its own ticket.
    pub(super) ticket: Ticket,
    /// The connection, as the asker calls it.
    pub(super) peer: PeerHandle,
    /// The same, as the one calls it who is asked.
    pub(super) far_handle: PeerHandle,
}

/// Requests that were not answered yet, by the tickets that those who answer are given.
#[derive(Debug, Default)]
pub(super) struct Askers {
    all: BTreeMap<Ticket, Asker>,
    of_machines: BTreeSet<(u32, PeerHandle, Ticket)>,
}

impl Askers {
    /// A request, by the ticket of who is asked; no ticket is given twice.
    pub(super) fn insert(&mut self, ticket: Ticket, asker: Asker) {
        self.all.insert(ticket, asker);
        self.of_machines.insert((asker.node, asker.peer, ticket));
    }

    pub(super) fn get(&self, ticket: Ticket) -> Option<&Asker> {
        self.all.get(&ticket)
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Asker> {
        let asker = self.all.remove(&ticket)?;
        self.of_machines.remove(&(asker.node, asker.peer, ticket));
        Some(asker)
    }

    /// Takes out what a machine has asked on a connection that is over, in the order of the tickets.
    pub(super) fn take_of(&mut self, node: u32, peer: PeerHandle) -> Vec<Asker> {
        self.take((node, peer), |(of, at, _)| (*of, *at) == (node, peer))
    }

    /// Forgets what a machine has asked.
    pub(super) fn forget(&mut self, node: u32) {
        self.take((node, PeerHandle { slot: 0, generation: 0 }), |(of, ..)| *of == node);
    }

    fn take(
        &mut self,
        (node, peer): (u32, PeerHandle),
        is_of: impl Fn(&(u32, PeerHandle, Ticket)) -> bool,
    ) -> Vec<Asker> {
        let from = self.of_machines.range((node, peer, Ticket(0))..).take_while(|it| is_of(it));
        let tickets: Vec<Ticket> = from.map(|(_, _, ticket)| *ticket).collect();
        tickets.into_iter().filter_map(|ticket| self.remove(ticket)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against one list of all requests.
        #[test]
        fn what_is_taken_is_what_was_asked(steps in prop::collection::vec((0..5_u8, 0..4_u32, 0..3_u32, 0..40_u64), 0..200)) {
            let mut askers = Askers::default();
            let mut naive: BTreeMap<Ticket, Asker> = BTreeMap::new();
            let mut next = 0;
            for (kind, node, slot, number) in steps {
                let peer = PeerHandle { slot, generation: slot % 2 };
                let ticket = Ticket(number);
                match kind {
                    0 | 1 => {
                        next += 1;
                        let asker = Asker { node, ticket: Ticket(next), peer, far_handle: peer };
                        askers.insert(Ticket(next), asker);
                        naive.insert(Ticket(next), asker);
                    }
                    2 => prop_assert_eq!(askers.remove(ticket), naive.remove(&ticket)),
                    3 => {
                        let of_it = naive.extract_if(.., |_, it| it.node == node && it.peer == peer);
                        let expected: Vec<Asker> = of_it.map(|(_, it)| it).collect();
                        prop_assert_eq!(askers.take_of(node, peer), expected);
                    }
                    _ => {
                        askers.forget(node);
                        naive.retain(|_, it| it.node != node);
                    }
                }
                prop_assert_eq!(askers.get(ticket), naive.get(&ticket));
                prop_assert_eq!(&askers.all, &naive);
                prop_assert_eq!(askers.of_machines.len(), naive.len());
            }
        }
    }
}
