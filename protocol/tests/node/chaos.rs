//! Random trouble: nothing that must not happen happens, and when the trouble is over the network becomes one again.

use crate::support::*;
use crate::world::{Faults, Options, World};
use proptest::prelude::*;
use starling_protocol::id::TransactionId;
use starling_protocol::node::TransactionStatus;
use starling_protocol::time::Duration;
use std::collections::BTreeMap;

/// Transactions live this long, so that a test sees the end of all of them.
const LIFETIME_SLOTS: u64 = 6;

#[derive(Clone, Debug)]
enum Action {
    Wait { ms: u64 },
    Submit { node: usize, sender: u8 },
    Publish { node: usize },
    Kill { node: usize },
    Start { node: usize },
    Partition { sides: u8 },
    Heal,
    SetClock { node: usize, off_ms: i64 },
    Stall { node: usize, ms: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    let node = 0..8_usize;
    prop_oneof![
        6 => (50..1_500_u64).prop_map(|ms| Action::Wait { ms }),
        6 => (node.clone(), 0..4_u8).prop_map(|(node, sender)| Action::Submit { node, sender }),
        3 => node.clone().prop_map(|node| Action::Publish { node }),
        2 => node.clone().prop_map(|node| Action::Kill { node }),
        2 => node.clone().prop_map(|node| Action::Start { node }),
        1 => any::<u8>().prop_map(|sides| Action::Partition { sides }),
        1 => Just(Action::Heal),
        1 => (node.clone(), 100..3_000_u64).prop_map(|(node, ms)| Action::Stall { node, ms }),
        1 => (node, -3_000..3_000_i64).prop_map(|(node, off_ms)| Action::SetClock { node, off_ms }),
    ]
}

fn faults() -> impl Strategy<Value = Faults> {
    (0..150_u64, 0..150_u64, 0..150_u64, 0..300_u64, 0..150_u64, 0..300_u64, 0..100_u64).prop_map(
        |(loss, duplication, jitter_ms, request_failure, shed, dial_failure, disk)| Faults {
            loss,
            duplication,
            jitter: Duration::from_millis(jitter_ms),
            request_failure,
            shed,
            dial_failure,
            disk,
        },
    )
}

/// What a test remembers of what it submitted: the transactions that were taken in, with their last slots.
#[derive(Default)]
struct Submissions {
    taken: BTreeMap<TransactionId, u64>,
    waiting: Vec<(usize, starling_protocol::node::Ticket)>,
    nonces: BTreeMap<u8, u64>,
    expiry: BTreeMap<TransactionId, u64>,
}

impl Submissions {
    fn act(&mut self, world: &mut World, action: &Action) {
        let count = world.machines.len();
        let node = |node: &usize| node % count;
        match action {
            Action::Wait { ms } => world.run(Duration::from_millis(*ms)),
            Action::Submit { node: index, sender } => {
                let index = node(index);
                let Some(machine) = world.machines[index].node.as_ref() else { return };
                let nonce = self.nonces.entry(*sender).or_default();
                let expiry = machine.slot(world.now).unwrap_or(0) + LIFETIME_SLOTS;
                let transaction = transaction(machine.genesis(), *sender, *nonce, expiry);
                *nonce += 1;
                self.expiry.insert(transaction.id(), expiry);
                self.waiting.push((index, world.submit(index, &transaction)));
            }
            Action::Publish { node: index } => {
                let index = node(index);
                if world.machines[index].node.is_some() {
                    let ticket = world.publish(index, b"hello");
                    self.waiting.push((index, ticket));
                }
            }
            Action::Kill { node: index } => world.kill(node(index)),
            Action::Start { node: index } => {
                if world.machines[node(index)].node.is_none() {
                    world.start(node(index));
                }
            }
            Action::Partition { sides } => world.partition(|index| sides >> index & 1),
            Action::Heal => world.heal(),
            Action::Stall { node: index, ms } => world.stall(node(index), Duration::from_millis(*ms)),
            Action::SetClock { node: index, off_ms } => {
                let index = node(index);
                if world.machines[index].node.is_some() {
                    world.set_clock(index, off_ms * 1_000);
                }
            }
        }
    }

    /// Takes note of the answers that have come.
    fn settle(&mut self, world: &World) {
        for (index, ticket) in &self.waiting {
            if let Some(Ok(submitted)) = world.answer(*index, *ticket) {
                let expiry = self.expiry.get(&submitted.id).copied();
                self.taken.insert(submitted.id, expiry.unwrap_or(u64::MAX));
            }
        }
    }
}

fn recover(world: &mut World) {
    world.faults = Faults::default();
    world.heal();
    for index in 0..world.machines.len() {
        if world.machines[index].node.is_none() {
            world.start(index);
        }
        world.set_clock(index, 0);
    }
}

/// Whether all nodes have one head, and nowhere waits a transaction that was submitted.
fn is_one(world: &World, submissions: &Submissions) -> bool {
    world.heads().len() == 1
        && submissions.taken.keys().all(|id| {
            world.running().all(|(_, machine)| machine.node().transaction_status(id) != TransactionStatus::Pending)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_network_survives_trouble_and_becomes_one_again(
        seed in any::<u64>(),
        (nodes, producers) in (3..8_usize, 1..4_usize),
        faults in faults(),
        actions in prop::collection::vec(action(), 10..40),
    ) {
        let genesis = genesis(producers);
        let mut world = World::new(Options { faults, check_every: 4, ..Options::new(&genesis, nodes, seed) });
        let mut submissions = Submissions::default();
        world.run(Duration::from_secs(1));
        for action in &actions {
            submissions.act(&mut world, action);
        }
        world.run(Duration::from_secs(3));
        recover(&mut world);
        let unanswered = |world: &World| world.running().map(|(_, machine)| machine.unanswered()).sum::<usize>();
        world.run(Duration::from_secs(1));
        prop_assert_eq!(unanswered(&world), 0, "a submission has no answer");
        submissions.settle(&world);

        let within = Duration::from_secs(60);
        let one = world.run_while_not(within, |world| is_one(world, &submissions));
        prop_assert!(one, "after {within:?} there are {} heads", world.heads().len());
        (0..nodes).for_each(|index| drop(world.check_chain(index)));
        for id in submissions.taken.keys() {
            let places = world.running().filter(|(_, machine)| matches!(
                machine.node().transaction_status(id), TransactionStatus::Included(_)
            ));
            let included = places.count();
            prop_assert!(included == 0 || included == nodes, "{id} is in {included} of {nodes} chains");
            // Whatever was acknowledged by a node that was killed later is on its disk.
            let kept = world.machines.iter().any(|machine| machine.store.pending.contains_key(id));
            let expired = world.running().any(|(_, machine)| {
                machine.node().slot(world.now).unwrap_or(0) > submissions.taken[id]
            });
            prop_assert!(included == nodes || kept || expired || submissions.taken[id] == u64::MAX, "{id} is lost");
        }
        prop_assert!(world.odd.rejected.is_empty(), "honest nodes are blamed: {:?}", world.odd);
        prop_assert!(world.odd.peer_faults.is_empty(), "honest nodes are blamed: {:?}", world.odd);
        // Neither kills nor clocks that are set back between two lives make a producer sign for a slot again.
        prop_assert!(world.odd.equivocations.is_empty(), "a producer equivocated: {:?}", world.odd);
        prop_assert!(world.odd.bad_frames == 0);
        prop_assert!(world.odd.disconnects.is_empty(), "honest nodes are sent away: {:?}", world.odd);
    }
}
