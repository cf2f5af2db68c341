//! The mempool in lockstep with a naive one that keeps a list and recomputes everything from the definitions.

use proptest::prelude::*;
use starling_crypto::SecretKey;
use starling_protocol::block::Block;
use starling_protocol::genesis::{Genesis, GenesisParameters, Limits};
use starling_protocol::id::TransactionId;
use starling_protocol::mempool::{Account, Config, Mempool, OVERHEAD_BYTES, Source, Status};
use starling_protocol::random::Stream;
use starling_protocol::transaction::{Transaction, TransactionBuilder};
use std::collections::{BTreeMap, BTreeSet};

const WINDOW: u64 = 5;
const EXPIRY_SLOTS_MAX: u64 = 12;

fn config() -> Config {
    Config { transactions_max: 8, bytes_max: 7_000, sender_transactions_max: 4, outcomes_max: 3, expiry_grace_slots: 1 }
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

fn genesis() -> Genesis {
    let limits = Limits { expiry_slots_max: EXPIRY_SLOTS_MAX, nonce_window: WINDOW, ..Limits::default() };
    Genesis::new(GenesisParameters {
        name: "model".into(),
        start_time_ms: 0,
        slot_ms: 1_000,
        producers: vec![key(200).public_key().to_bytes()],
        limits,
        stamp_bits: 0,
    })
    .expect("a valid genesis")
}

/// One entry of the list, in the order of arrival.
#[derive(Clone)]
struct Item {
    transaction: Transaction,
    arrival_slot: u64,
}

#[derive(Default)]
struct Naive {
    items: Vec<Item>,
    /// What was last heard of a sender's next nonce, while it has transactions here.
    heard: BTreeMap<Account, Option<u64>>,
}

impl Naive {
    fn of(&self, account: &Account) -> Vec<&Item> {
        let mut items: Vec<&Item> = self.items.iter().filter(|item| item.transaction.sender() == *account).collect();
        items.sort_by_key(|item| item.transaction.nonce());
        items
    }

    fn executable(&self, transaction: &Transaction) -> bool {
        let own = self.of(&transaction.sender());
        let heard = self.heard.get(&transaction.sender()).copied().flatten();
        let first = heard.unwrap_or_else(|| own[0].transaction.nonce());
        (first..=transaction.nonce()).all(|nonce| own.iter().any(|item| item.transaction.nonce() == nonce))
    }

    fn refuses(&self, transaction: &Transaction, next: Option<u64>, slot: u64) -> bool {
        let own: Vec<u64> = self.of(&transaction.sender()).iter().map(|item| item.transaction.nonce()).collect();
        let nonce = transaction.nonce();
        let mut with: Vec<u64> = own.iter().copied().chain([nonce]).collect();
        with.sort_unstable();
        let outside = match next {
            Some(next) => nonce < next || nonce >= next + WINDOW,
            None => with[with.len() - 1] - with[0] >= WINDOW,
        };
        transaction.expiry_slot() < slot
            || transaction.expiry_slot() > slot + EXPIRY_SLOTS_MAX
            || outside
            || own.contains(&nonce)
            || own.len() >= config().sender_transactions_max
    }

    /// Whether it stays, and what goes for it.
    fn insert(
        &mut self,
        transaction: &Transaction,
        next: Option<u64>,
        slot: u64,
        arrival_slot: u64,
    ) -> Option<Vec<TransactionId>> {
        if self.refuses(transaction, next, slot) {
            return None;
        }
        let account = transaction.sender();
        self.items.retain(|item| item.transaction.sender() != account || item.transaction.nonce() >= next.unwrap_or(0));
        self.items.push(Item { transaction: transaction.clone(), arrival_slot });
        self.heard.insert(account, next);
        let mut evicted = Vec::new();
        while self.over() {
            let victim = self.victim(&account);
            self.items.retain(|item| item.transaction.id() != victim);
            if victim == transaction.id() {
                self.forget_absent();
                return None;
            }
            evicted.push(victim);
        }
        self.forget_absent();
        Some(evicted)
    }

    fn over(&self) -> bool {
        let load: usize = self.items.iter().map(|item| item.transaction.encoded_len() + OVERHEAD_BYTES).sum();
        self.items.len() > config().transactions_max || load > config().bytes_max
    }

    fn victim(&self, newcomer: &Account) -> TransactionId {
        let load = |account: &Account, future_only: bool| -> usize {
            let items = self.of(account).into_iter().map(|item| &item.transaction);
            let counted = items.filter(|transaction| !future_only || !self.executable(transaction));
            counted.map(|transaction| transaction.encoded_len() + config().place_bytes()).sum()
        };
        let future_only = self.items.iter().any(|item| !self.executable(&item.transaction));
        let accounts: BTreeSet<Account> = self.items.iter().map(|item| item.transaction.sender()).collect();
        let heaviest = accounts
            .into_iter()
            .max_by_key(|account| (load(account, future_only), account == newcomer, *account))
            .expect("over a bound, so not empty");
        self.of(&heaviest).last().expect("has a load").transaction.id()
    }

    fn forget_absent(&mut self) {
        let present: BTreeSet<Account> = self.items.iter().map(|item| item.transaction.sender()).collect();
        self.heard.retain(|account, _| present.contains(account));
    }

    fn remove_where(&mut self, gone: impl Fn(&Transaction) -> bool) {
        self.items.retain(|item| !gone(&item.transaction));
        self.forget_absent();
    }

    fn select(&self, count_max: usize, bytes_max: usize, slot: u64, next: &World) -> Vec<TransactionId> {
        let accounts: BTreeSet<Account> = self.items.iter().map(|item| item.transaction.sender()).collect();
        let mut rows: Vec<(usize, usize, &Transaction)> = Vec::new();
        for account in accounts {
            let own = self.of(&account);
            let first = next.next(&account).unwrap_or_else(|| own[0].transaction.nonce());
            for (turn, nonce) in (first..).enumerate() {
                let Some(item) = own.iter().find(|item| item.transaction.nonce() == nonce) else { break };
                let patient = nonce == 0 || item.arrival_slot + 1 < slot;
                if turn == 0 && next.next(&account).is_none() && !patient {
                    break;
                }
                let place = self.items.iter().position(|other| other.transaction.id() == item.transaction.id());
                rows.push((turn, place.expect("is in the list"), &item.transaction));
            }
        }
        rows.sort_by_key(|row| (row.0, row.1));
        let (mut selected, mut bytes, mut ended) = (Vec::new(), 0, BTreeSet::new());
        for (_, _, transaction) in rows {
            let may = (slot..=slot + EXPIRY_SLOTS_MAX).contains(&transaction.expiry_slot());
            if selected.len() == count_max || ended.contains(&transaction.sender()) {
                continue;
            }
            if !may || bytes + transaction.encoded_len() > bytes_max {
                ended.insert(transaction.sender());
                continue;
            }
            bytes += transaction.encoded_len();
            selected.push(transaction.id());
        }
        selected
    }
}

/// What the chain would say.
#[derive(Default)]
struct World {
    next: BTreeMap<Account, u64>,
    blocks: Vec<(Block, BTreeMap<Account, u64>)>,
}

impl World {
    fn next(&self, account: &Account) -> Option<u64> {
        self.next.get(account).copied()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert { sender: u8, nonce: u64, expiry: u64, size: usize },
    Include { count: usize, foreign: bool },
    Undo,
    Tick,
    Forget { sender: u8 },
    Select { count: usize, bytes: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1_u8..5, 0_u64..9, 0_u64..15, prop_oneof![Just(0_usize), Just(400), Just(1_500)])
            .prop_map(|(sender, nonce, expiry, size)| Step::Insert { sender, nonce, expiry, size }),
        3 => (1_usize..5, any::<bool>()).prop_map(|(count, foreign)| Step::Include { count, foreign }),
        1 => Just(Step::Undo),
        2 => Just(Step::Tick),
        1 => (1_u8..5).prop_map(|sender| Step::Forget { sender }),
        2 => (0_usize..6, 0_usize..4_000).prop_map(|(count, bytes)| Step::Select { count, bytes }),
    ]
}

fn sign(sender: u8, nonce: u64, expiry: u64, payload: Vec<u8>) -> Transaction {
    TransactionBuilder::new(&genesis(), expiry).nonce(nonce).payload(payload).build(&key(sender)).expect("valid")
}

fn block_of(transactions: Vec<Transaction>) -> Block {
    Block::produce(&genesis(), &key(200), (1, 1, genesis().block_id()), transactions).expect("a block")
}

fn settle(naive: &mut Naive, world: &World, undone: Option<&Block>, adopted: Option<&Block>, slot: u64) {
    let touched: BTreeSet<Account> =
        undone.into_iter().chain(adopted).flat_map(Block::transactions).map(Transaction::sender).collect();
    let included: BTreeSet<TransactionId> =
        adopted.into_iter().flat_map(Block::transactions).map(Transaction::id).collect();
    naive.remove_where(|transaction| included.contains(&transaction.id()));
    for account in &touched {
        let next = world.next(account);
        naive.remove_where(|other| other.sender() == *account && other.nonce() < next.unwrap_or(0));
        if naive.heard.contains_key(account) {
            naive.heard.insert(*account, next);
        }
    }
    for transaction in undone.into_iter().flat_map(Block::transactions) {
        naive.insert(transaction, world.next(&transaction.sender()), slot, 0);
    }
    naive.remove_where(|transaction| transaction.expiry_slot() < slot);
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let genesis = genesis();
    let mut pool = Mempool::new(config(), &genesis, Stream::from_seed([9; 32]));
    let (mut naive, mut world) = (Naive::default(), World::default());
    let mut slot = 3;
    for step in steps {
        match step {
            Step::Insert { sender, nonce, expiry, size } => {
                let transaction = sign(sender, nonce, slot + expiry - expiry.min(1), vec![7; size]);
                let next = world.next(&transaction.sender());
                let found = pool.insert(transaction.clone(), Source::Local, next, slot);
                let expected = naive.insert(&transaction, next, slot, slot);
                prop_assert_eq!(found.clone().ok().map(|inserted| inserted.evicted), expected, "{:?}", found);
                if let Ok(inserted) = found {
                    prop_assert_eq!(inserted.executable, naive.executable(&transaction));
                }
            }
            Step::Include { count, foreign } => {
                let mut transactions = pool.select(count, usize::MAX, slot, |account| world.next(account));
                if foreign && let Some(last) = transactions.pop() {
                    transactions.push(sign_instead(&last));
                }
                let before = world.next.clone();
                for transaction in &transactions {
                    world.next.insert(transaction.sender(), transaction.nonce() + 1);
                }
                let block = block_of(transactions);
                pool.on_head_changed(&[], std::slice::from_ref(&block), slot, |account| world.next(account));
                settle(&mut naive, &world, None, Some(&block), slot);
                world.blocks.push((block, before));
            }
            Step::Undo => {
                let Some((block, before)) = world.blocks.pop() else { continue };
                world.next = before;
                pool.on_head_changed(std::slice::from_ref(&block), &[], slot, |account| world.next(account));
                settle(&mut naive, &world, Some(&block), None, slot);
            }
            Step::Tick => {
                slot += 1;
                pool.expire(slot);
                naive.remove_where(|transaction| transaction.expiry_slot() < slot);
            }
            Step::Forget { sender } => {
                world.next.remove(&key(sender).public_key().to_bytes());
                world.blocks.clear();
            }
            Step::Select { count, bytes } => {
                let found = pool.select(count, bytes, slot, |account| world.next(account));
                let found: Vec<TransactionId> = found.iter().map(Transaction::id).collect();
                prop_assert_eq!(found, naive.select(count, bytes, slot, &world));
            }
        }
        pool.check();
        let found: Vec<TransactionId> = pool.iter().map(Transaction::id).collect();
        let mut expected: Vec<TransactionId> = naive.items.iter().map(|item| item.transaction.id()).collect();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
        for item in &naive.items {
            let executable = naive.executable(&item.transaction);
            prop_assert_eq!(pool.status(&item.transaction.id()), Some(Status::Pending { executable }));
        }
    }
    Ok(())
}

/// Another transaction of the same sender with the same nonce.
fn sign_instead(transaction: &Transaction) -> Transaction {
    let sender = (1..5).find(|number| key(*number).public_key().to_bytes() == transaction.sender());
    sign(sender.expect("one of ours"), transaction.nonce(), transaction.expiry_slot(), b"instead".to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]
    #[test]
    fn the_pool_does_what_the_naive_one_does(steps in prop::collection::vec(step(), 1..60)) {
        run(steps)?;
    }
}
