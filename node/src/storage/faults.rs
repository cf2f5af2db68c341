//! The store on disks that lose, tear and refuse writes.
//!
//! A [`Disk`] holds what a crash leaves, what reads see, and the writes between. A crash keeps everything up to the last
//! flush and any of the later writes, whole, torn or not at all: that is what a disk without power may do, and what
//! killing a process never shows. Such a disk is also the only one that turns read-only under a test: a file system on
//! which a file is open for writing is not remounted so (`EBUSY`, mount(2)), unless it does that by itself, for an error.

use super::model::Model;
use super::tests::real_chain;
use super::*;
use proptest::prelude::*;
use starling_crypto::SecretKey;
use starling_protocol::block::Block;
use starling_protocol::transaction::Transaction;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

#[derive(Debug)]
struct State {
    flushed: Vec<u8>,
    seen: Vec<u8>,
    /// Writes since the last flush: place and bytes; none is a change of length.
    later: Vec<(u64, Option<Vec<u8>>)>,
    /// Calls until power fails.
    calls_left: u64,
    /// How many of a thousand writes and flushes are refused.
    refused: u64,
    /// Whether the next write or flush is refused.
    refuses_next: bool,
    /// Bytes that there is room for.
    len_max: u64,
    /// Whether a flush does nothing, as a store that forgets it.
    lies: bool,
    random: u64,
}

#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn new(seed: u64) -> Self {
        let (flushed, seen, later) = (Vec::new(), Vec::new(), Vec::new());
        let random = seed.wrapping_mul(2).wrapping_add(1);
        Self(Arc::new(Mutex::new(State {
            flushed,
            seen,
            later,
            calls_left: u64::MAX,
            refused: 0,
            refuses_next: false,
            len_max: u64::MAX,
            lies: false,
            random,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What a crash leaves.
    fn after_crash(&self) -> Self {
        let mut state = self.state();
        let mut left = state.flushed.clone();
        for (offset, bytes) in std::mem::take(&mut state.later) {
            let offset = usize::try_from(offset).expect("small");
            let fate = state.draw(4);
            match bytes {
                None if fate > 0 => left.resize(offset, 0),
                Some(bytes) if fate > 0 => {
                    let torn = usize::try_from(state.draw(bytes.len() as u64 + 1)).expect("small");
                    let kept = if fate == 1 { torn } else { bytes.len() };
                    if left.len() < offset + kept {
                        left.resize(offset + kept, 0);
                    }
                    left[offset..offset + kept].copy_from_slice(&bytes[..kept]);
                }
                _ => {}
            }
        }
        let disk = Self::new(state.random);
        (disk.state().flushed, disk.state().seen) = (left.clone(), left);
        disk
    }

    fn open(&self) -> Result<Store, StoreError> {
        let disk = self.clone();
        let open = move |path: &Path| schema::open_backend(disk.clone(), path);
        Store::open_with(Path::new("disk"), real_chain().0.network_id(), Box::new(open))
    }
}

impl State {
    /// A number below `bound`.
    fn draw(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound.max(1)
    }

    fn call(&mut self) -> io::Result<()> {
        if self.calls_left == 0 {
            return Err(io::Error::other("the power is gone"));
        }
        self.calls_left -= 1;
        if std::mem::take(&mut self.refuses_next) || self.draw(1_000) < self.refused {
            let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::Other];
            return Err(kinds[usize::try_from(self.draw(3)).expect("small")].into());
        }
        Ok(())
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, offset) = (self.state(), usize::try_from(offset).expect("small"));
        let found = state.seen.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        if len > state.len_max {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.seen.resize(usize::try_from(len).expect("small"), 0);
        state.later.push((len, None));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        if !state.lies {
            state.flushed = state.seen.clone();
            state.later.clear();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let at = usize::try_from(offset).expect("small");
        state.seen[at..at + data.len()].copy_from_slice(data);
        state.later.push((offset, Some(data.to_vec())));
        Ok(())
    }
}

/// What is to be stored, in order: the blocks of a chain one by one, some of which give way to others for a while, with rows
/// that come and go.
fn batches() -> &'static [Vec<StoreOp>] {
    static ALL: std::sync::OnceLock<Vec<Vec<StoreOp>>> = std::sync::OnceLock::new();
    ALL.get_or_init(make_batches)
}

fn make_batches() -> Vec<Vec<StoreOp>> {
    let (genesis, blocks) = real_chain();
    let mut batches = Vec::new();
    for block in blocks {
        for transaction in block.transactions() {
            let bytes = Bytes::copy_from_slice(transaction.bytes());
            let (transaction, expiry_slot) = (transaction.id(), transaction.expiry_slot());
            batches.push(vec![StoreOp::PutPending { transaction, expiry_slot, bytes }]);
        }
        batches.push(vec![StoreOp::SetSigned { slot: block.header().slot }]);
        let (height, parent) = (block.header().height, block.header().parent);
        if height.is_multiple_of(4) {
            // A side branch comes first: the same transactions, another slot.
            let transactions = block.transactions().to_vec();
            let place = (block.header().slot + 1, height, parent);
            let side = Block::produce(genesis, &SecretKey::from_seed(&[1; 32]), place, transactions).expect("valid");
            batches.push(super::tests::adopt(&side));
            let undone = side.transactions().iter().map(Transaction::id);
            let mut batch = vec![StoreOp::UnsetCanonicalFrom { height }];
            batch.extend(undone.map(|transaction| StoreOp::UnindexTransaction { transaction }));
            batch.extend(super::tests::adopt(block));
            batches.push(batch);
        } else {
            batches.push(super::tests::adopt(block));
        }
        let included = block.transactions().iter().map(Transaction::id);
        batches.push(included.map(|transaction| StoreOp::RemovePending { transaction }).collect());
        // As after a clock that was set back; and as at a stop.
        batches.push(vec![StoreOp::SetSigned { slot: block.header().slot.saturating_sub(3) }]);
        let pool = (0..height % 3).map(|_| block.transactions()[0].detached().bytes().to_vec().into());
        batches.push(vec![StoreOp::ReplacePool { transactions: pool.collect() }]);
    }
    batches
}

fn content(store: &Store) -> Model {
    Model::of(store).expect("the store can be read")
}

/// What a store has after so many batches.
fn expected(count: usize) -> &'static Model {
    static ALL: std::sync::OnceLock<Vec<Model>> = std::sync::OnceLock::new();
    let all = ALL.get_or_init(|| {
        let mut model = Model::default();
        let rest = batches().iter().map(|batch| {
            batch.iter().for_each(|operation| model.apply(operation));
            model.clone()
        });
        std::iter::once(Model::default()).chain(rest).collect()
    });
    &all[count]
}

/// After each batch, and after each batch carried out again (rule 2), a store has what the model has.
#[test]
fn a_store_does_what_the_model_does() {
    let store = Disk::new(1).open().expect("a new store");
    for (done, batch) in batches().iter().enumerate() {
        for _ in 0..2 {
            store.apply([&batch[..]]).expect("a good disk");
            assert_eq!(&content(&store), expected(done + 1), "after {batch:?}");
        }
    }
}

/// Stores batches until the power fails, and says how many were acknowledged, and what the next start finds.
fn crash(seed: u64, calls: u64, lies: bool) -> Result<(), String> {
    let disk = Disk::new(seed);
    drop(disk.open().expect("a new store"));
    disk.state().lies = lies;
    let store = disk.open().expect("a good disk");
    disk.state().calls_left = calls;
    let batches = batches();
    let mut acknowledged = 0;
    while acknowledged < batches.len() && store.apply([&batches[acknowledged][..]]).is_ok() {
        acknowledged += 1;
    }
    disk.state().calls_left = 0;
    drop(store);
    let mut store = disk.after_crash().open().map_err(|error| format!("it cannot be opened: {error}"))?;
    let found = content(&store);
    let next = (acknowledged + 1).min(batches.len());
    if &found != expected(acknowledged) && &found != expected(next) {
        let found = (found.head, found.signed, found.pending.len(), found.blocks.len());
        return Err(format!("{acknowledged} batches were acknowledged, and this was found: {found:?}"));
    }
    let report = store.check(&real_chain().0, false).map_err(|error| error.to_string())?;
    if report.problems.is_empty() { Ok(()) } else { Err(report.problems.join(", ")) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// After a crash at any moment everything acknowledged is there, and a batch is there whole or not at all.
    #[test]
    fn a_crash_at_any_moment_loses_nothing_that_was_acknowledged(seed in any::<u64>(), calls in 0..900_u64) {
        prop_assert_eq!(crash(seed, calls, false), Ok(()));
    }

    /// Writes and flushes fail at random; a store that is opened again goes on, and ends with everything.
    #[test]
    fn a_disk_that_refuses_writes_leaves_whole_batches(seed in any::<u64>(), refused in 1..60_u64) {
        let disk = Disk::new(seed);
        let mut store = disk.open().expect("a new store");
        let batches = batches();
        disk.state().refused = refused;
        for (done, batch) in batches.iter().enumerate() {
            let mut attempts = 0;
            while store.apply([&batch[..]]).is_err() {
                while store.reopen().is_err() {
                    attempts += 1;
                    if attempts > 20 {
                        disk.state().refused = 0;
                    }
                }
                let found = content(&store);
                prop_assert!(&found == expected(done) || &found == expected(done + 1), "after {done} batches");
            }
        }
        disk.state().refused = 0;
        store.reopen().expect("a good disk");
        prop_assert_eq!(&content(&store), expected(batches.len()));
        prop_assert_eq!(store.check(&real_chain().0, true).expect("can be read").problems, Vec::<String>::new());
    }
}

/// The tests above find a store that acknowledges what it has not flushed.
#[test]
fn a_flush_that_is_left_out_is_found_out() {
    let found = (0..20).filter(|seed| crash(*seed, 60 + seed * 17, true).is_err()).count();
    assert!(found > 0, "a disk that flushes nothing lost nothing");
}

/// The thread does not say that the disk works again before it does, and then goes on where it was.
#[tokio::test]
async fn a_disk_is_called_good_when_it_takes_writes_and_not_before() {
    let disk = Disk::new(3);
    let store = disk.open().expect("a new store");
    let (mut thread, mut answers) = StorageThread::start(store, ThreadOptions::default()).expect("a thread");
    let batches = batches();
    let began = std::time::Instant::now();
    disk.state().refused = 1_000;
    assert!(thread.persist(1, batches[0].clone()), "there is room");
    assert!(matches!(answers.recv().await, Some(Answer::Failed(_))));
    assert_eq!(answers.recv().await, Some(Answer::Persisted { ticket: 1, durable: false }));
    // At once, a quarter of a second later, and half a second after that.
    while thread.report().attempts < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(740), "attempts follow ever more rarely");
    assert!(answers.try_recv().is_err(), "nothing has changed");
    disk.state().refused = 0;
    assert_eq!(answers.recv().await, Some(Answer::Back));
    thread.resume();
    while answers.recv().await != Some(Answer::Resumed) {}
    assert_eq!(thread.report().failing, None);
    assert!(thread.persist(2, batches[0].clone()), "there is room");
    assert_eq!(answers.recv().await, Some(Answer::Persisted { ticket: 2, durable: true }));
    // Another failure is counted from its own beginning.
    disk.state().refuses_next = true;
    assert!(thread.persist(3, batches[1].clone()), "there is room");
    while answers.recv().await != Some(Answer::Back) {}
    assert_eq!(thread.report().attempts, 0, "the first attempt was not in vain");
    thread.close();
    assert_eq!(&content(&disk.after_crash().open().expect("a good disk")), expected(1));
}

/// Room for something small is not room for what could not be stored.
#[tokio::test]
async fn a_disk_is_good_only_when_it_takes_as_much_as_it_refused() {
    let disk = Disk::new(5);
    let store = disk.open().expect("a new store");
    let (mut thread, mut answers) = StorageThread::start(store, ThreadOptions::default()).expect("a thread");
    let length = disk.state().seen.len() as u64;
    disk.state().len_max = length;
    let (transaction, bytes) = (TransactionId(Digest::ZERO), Bytes::from(vec![7; 1 << 20]));
    assert!(thread.persist(1, vec![StoreOp::PutPending { transaction, expiry_slot: 9, bytes }]), "there is room");
    assert!(matches!(answers.recv().await, Some(Answer::Failed(_))));
    assert_eq!(answers.recv().await, Some(Answer::Persisted { ticket: 1, durable: false }));
    while thread.report().attempts < 2 {
        assert!(answers.try_recv().is_err(), "a batch of this size would fail again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    disk.state().len_max = u64::MAX;
    assert_eq!(answers.recv().await, Some(Answer::Back));
    thread.close();
}

/// Whatever is done to the file, opening and verifying it ends with an answer.
#[test]
fn a_damaged_file_leads_to_an_error_and_never_to_a_panic() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("chain.redb");
    let (genesis, blocks) = real_chain();
    let store = Store::open(&path, genesis.network_id()).expect("a new store");
    // One batch, so that little of the file is unused.
    store.apply([&blocks.iter().flat_map(super::tests::adopt).collect::<Vec<_>>()[..]]).expect("a good disk");
    drop(store);
    let good = std::fs::read(&path).expect("readable");
    let used = good.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
    let mut random = Disk::new(7);
    let mut draw = |bound: usize| {
        let state = &mut random;
        usize::try_from(state.state().draw(bound as u64)).expect("small")
    };
    let mut noticed = 0;
    for round in 0..60 {
        let mut bytes = good.clone();
        match round % 4 {
            0 => bytes.truncate(draw(good.len())),
            1 => bytes[..].iter_mut().skip(draw(used)).take(4_096).for_each(|byte| *byte = 0),
            2 => {
                for _ in 0..1 + draw(20) {
                    bytes[draw(used)] ^= 1 << draw(8);
                }
            }
            _ if round == 3 => bytes.fill(0),
            _ => {
                for _ in 0..3 {
                    let (from, to) = (draw(used), draw(used));
                    let length = draw(512).min(good.len() - from.max(to));
                    bytes.copy_within(from..from + length, to);
                }
            }
        }
        std::fs::write(&path, &bytes).expect("written");
        match Store::open(&path, genesis.network_id()) {
            Err(error) => {
                assert!(error.to_string().contains("chain.redb") || error.to_string().contains("disk"), "{error}");
                noticed += 1;
            }
            Ok(mut store) => match store.check(genesis, true) {
                Ok(report) if report.problems.is_empty() => {}
                Ok(_) | Err(_) => noticed += 1,
            },
        }
    }
    assert!(noticed > 15, "only {noticed} damages of 60 were noticed");
}
