//! The store against a plain model, and what it refuses.

use super::schema::META;
use super::*;
use redb::TableDefinition;
use starling_crypto::SecretKey;
use starling_protocol::block::Block;
use starling_protocol::genesis::{Genesis, GenesisParameters, Limits};
use starling_protocol::transaction::TransactionBuilder;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A network and a chain of it, with transactions: made once, because signatures take their time.
pub(super) fn real_chain() -> &'static (Genesis, Vec<Block>) {
    static CHAIN: OnceLock<(Genesis, Vec<Block>)> = OnceLock::new();
    CHAIN.get_or_init(|| {
        let producer = SecretKey::from_seed(&[1; 32]);
        let genesis = Genesis::new(GenesisParameters {
            name: "stored".into(),
            start_time_ms: 1_000_000,
            slot_ms: 1_000,
            producers: vec![producer.public_key().to_bytes()],
            limits: Limits { expiry_slots_max: 5, ..Limits::default() },
            stamp_bits: 0,
        })
        .expect("acceptable");
        let mut parent = genesis.block_id();
        let blocks = (1..=20_u64).map(|height| {
            let transaction = TransactionBuilder::new(&genesis, height + 5).nonce(height).payload([7; 100]);
            let transactions = vec![transaction.build(&SecretKey::from_seed(&[2; 32])).expect("valid")];
            let block = Block::produce(&genesis, &producer, (height, height, parent), transactions).expect("valid");
            parent = block.id();
            block
        });
        let blocks = blocks.collect();
        (genesis.clone(), blocks)
    })
}

/// What the chain emits when it adopts a block.
pub(super) fn adopt(block: &Block) -> Vec<StoreOp> {
    let (id, height, slot) = (block.id(), block.header().height, block.header().slot);
    let mut batch = vec![
        StoreOp::PutBlock { id, height, slot, bytes: block.bytes().clone() },
        StoreOp::SetCanonical { height, id },
    ];
    for (position, transaction) in (0..).zip(block.transactions()) {
        batch.push(StoreOp::IndexTransaction { transaction: transaction.id(), block: id, height, position });
    }
    batch.push(StoreOp::SetHead { height, id, slot });
    batch
}

fn id(number: u64) -> Id {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn network(number: u64) -> NetworkId {
    NetworkId(Digest(id(number)))
}

fn transaction_id(number: u64) -> TransactionId {
    TransactionId(Digest(id(number)))
}

fn block(height: u64, number: u64) -> StoredBlock {
    let bytes = Bytes::from(vec![u8::try_from(number % 256).expect("small"); 300]);
    StoredBlock { id: block_id(id(number)), height, slot: height * 2, bytes }
}

/// What the chain emits when `block` extends the head and carries one transaction.
fn extend(block: &StoredBlock) -> Vec<StoreOp> {
    let StoredBlock { id, height, slot, bytes } = block.clone();
    vec![
        StoreOp::PutBlock { id, height, slot, bytes },
        StoreOp::SetCanonical { height, id },
        StoreOp::IndexTransaction { transaction: transaction_id(height), block: id, height, position: 0 },
        StoreOp::SetHead { height, id, slot },
    ]
}

fn store_with(path: &Path, blocks: u64) -> Store {
    let store = Store::open(path, network(1)).expect("a store");
    for height in 1..=blocks {
        store.apply([&extend(&block(height, height))[..]]).expect("applied");
    }
    store
}

#[test]
fn what_was_applied_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("chain.redb");
    let store = store_with(&path, 5);
    drop(store);
    let store = Store::open(&path, network(1)).expect("the same network");
    assert_eq!(store.head().expect("read"), Some(Head { height: 5, id: block_id(id(5)), slot: 10 }));
    assert_eq!(store.block(block_id(id(3))).expect("read"), Some(block(3, 3)));
    assert_eq!(store.block(block_id(id(9))).expect("read"), None);
    assert_eq!(store.canonical(4).expect("read"), Some(block_id(id(4))));
    assert_eq!(store.canonical(6).expect("read"), None);
    let location = Location { block: block_id(id(2)), height: 2, position: 0 };
    assert_eq!(store.transaction(transaction_id(2)).expect("read"), Some(location));
    let recent =
        |count| -> Vec<_> { store.recent_canonical(count).expect("read").map(|block| block.expect("read")).collect() };
    assert_eq!(recent(100), [1, 2, 3, 4, 5].map(|height| block(height, height)));
    assert_eq!(recent(2), [block(4, 4), block(5, 5)]);
    assert_eq!(recent(0), []);
}

#[test]
fn a_reorganisation_moves_the_canonical_chain_and_keeps_the_old_blocks() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store_with(&dir.path().join("chain.redb"), 5);
    let mut batch = vec![
        StoreOp::UnsetCanonicalFrom { height: 4 },
        StoreOp::UnindexTransaction { transaction: transaction_id(4) },
        StoreOp::UnindexTransaction { transaction: transaction_id(5) },
    ];
    batch.extend(extend(&block(4, 104)));
    // The same batch again changes nothing: rule 2 of the protocol's store.
    for _ in 0..2 {
        store.apply([&batch[..]]).expect("applied");
        assert_eq!(store.head().expect("read").map(|head| head.id), Some(block_id(id(104))));
        assert_eq!(store.canonical(5).expect("read"), None);
        assert_eq!(store.transaction(transaction_id(5)).expect("read"), None);
        assert_eq!(store.transaction(transaction_id(4)).expect("read").map(|at| at.block), Some(block_id(id(104))));
        assert_eq!(store.block(block_id(id(5))).expect("read"), Some(block(5, 5)));
    }
}

#[test]
fn headers_after_a_locator_and_blocks_by_id_stop_at_the_limits() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store_with(&dir.path().join("chain.redb"), 6);
    let ids = |numbers: &[u64]| -> Vec<BlockId> { numbers.iter().map(|number| block_id(id(*number))).collect() };
    let headers = |locator: &[u64], headers_max| {
        store.load(&LoadRequest::Headers { locator: ids(locator), headers_max }).expect("read")
    };
    let expected = |numbers: &[u64]| -> Vec<Bytes> {
        numbers.iter().map(|number| block(*number, *number).bytes.slice(..SIGNED_HEADER_BYTES)).collect()
    };
    assert_eq!(headers(&[], 10), expected(&[1, 2, 3, 4, 5, 6]));
    assert_eq!(headers(&[77, 4, 2], 10), expected(&[5, 6]));
    assert_eq!(headers(&[2], 2), expected(&[3, 4]));
    assert_eq!(headers(&[6], 10), expected(&[]));

    let blocks =
        |numbers: &[u64], bytes_max| store.load(&LoadRequest::Blocks { ids: ids(numbers), bytes_max }).expect("read");
    let length = u32::try_from(block(3, 3).bytes.len()).expect("short");
    let [third, fourth] = [3, 4].map(|number| block(number, number).bytes);
    assert_eq!(blocks(&[4, 77, 3], 10_000), [fourth.clone(), Bytes::new(), third.clone()]);
    assert_eq!(blocks(&[3, 4, 5], 2 * length), [third.clone(), fourth]);
    assert_eq!(blocks(&[3, 4], 1), [third], "at least one");
    assert!(blocks(&[], 1).is_empty());
}

#[test]
fn another_network_another_schema_and_other_files_are_refused_unchanged() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("chain.redb");
    drop(store_with(&path, 1));
    let error = Store::open(&path, network(2)).expect_err("another network").to_string();
    assert!(error.contains("genesis does not match the data directory"), "{error}");
    assert!(error.contains(&network(1).to_string()) && error.contains("--datadir"), "{error}");

    let database = Database::open(&path).expect("free");
    let transaction = database.begin_write().expect("a transaction");
    transaction.open_table(META).expect("there").insert("schema", &7_u64.to_le_bytes()[..]).expect("written");
    transaction.commit().expect("committed");
    drop(database);
    let error = Store::open(&path, network(1)).expect_err("another schema");
    assert!(matches!(error, StoreError::OtherSchema { found: 7, .. }), "{error}");

    let text = dir.path().join("text");
    std::fs::write(&text, "not a database, but some text that is long enough to look at").expect("written");
    let error = Store::open(&text, network(1)).expect_err("no store");
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    assert!(std::fs::read_to_string(&text).expect("readable").starts_with("not a database"), "unchanged");

    let foreign = dir.path().join("foreign.redb");
    let database = Database::create(&foreign).expect("made");
    let transaction = database.begin_write().expect("a transaction");
    transaction.open_table(TableDefinition::<u64, u64>::new("other")).expect("a table");
    transaction.commit().expect("committed");
    drop(database);
    let error = Store::open(&foreign, network(1)).expect_err("no stamp").to_string();
    assert!(error.contains("no schema stamp"), "{error}");
}

#[test]
fn a_store_in_use_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("chain.redb");
    let _open = store_with(&path, 1);
    assert!(matches!(Store::open(&path, network(1)), Err(StoreError::InUse(_))));
}

/// Random batches, applied through the thread, agree with maps; answers come in order; a query sees what was submitted
/// before it.
#[tokio::test]
async fn the_thread_agrees_with_a_model() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("chain.redb"), network(1)).expect("a store");
    let (mut thread, mut answers) = StorageThread::start(store, ThreadOptions::default()).expect("a thread");
    let mut model: BTreeMap<u64, u64> = BTreeMap::new();
    let mut state = 7_u64;
    for ticket in 0..200 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let depth = (state >> 60) % 3;
        let height = (model.len() as u64).saturating_sub(depth) + 1;
        let number = 1_000 + ticket;
        let mut batch = vec![StoreOp::UnsetCanonicalFrom { height }];
        batch.extend(extend(&block(height, number)));
        model.retain(|at, _| *at < height);
        model.insert(height, number);
        assert!(thread.persist(ticket, batch), "there is room");
    }
    let (sender, found) = tokio::sync::oneshot::channel();
    let query = move |store: &Store| {
        drop(sender.send(store.recent_canonical(1_000).and_then(Iterator::collect::<Result<Vec<_>, _>>)));
    };
    assert!(thread.query(query), "there is room");
    let found: Vec<_> =
        found.await.expect("answered").expect("read").iter().map(|block| (block.height, block.id)).collect();
    let expected: Vec<_> = model.iter().map(|(height, number)| (*height, block_id(id(*number)))).collect();
    assert_eq!(found, expected);
    for ticket in 0..200 {
        assert_eq!(answers.recv().await, Some(Answer::Persisted { ticket, durable: true }));
    }
    thread.close();
}

/// A store that does not get every batch gets none of the later ones before its owner knows: what it has is a chain
/// that ends early.
#[tokio::test]
async fn after_a_batch_that_was_not_taken_none_is_stored_until_the_owner_is_ready() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("chain.redb");
    let store = Store::open(&path, network(1)).expect("a store");
    let (mut thread, mut answers) = StorageThread::start(store, ThreadOptions::default()).expect("a thread");
    let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
    // The thread waits; the queue fills up. The sender's end is awaited, so nothing depends on timing.
    assert!(thread.query(move |_| held.recv().expect("is released")));
    let batch = |height: u64| extend(&block(height, 1_000 + height));
    let taken = (1..).take_while(|height| thread.persist(*height, batch(*height))).count() as u64;
    release.send(()).expect("the thread waits");
    let mut durable = 0;
    loop {
        match answers.recv().await.expect("an answer") {
            Answer::Persisted { durable: true, ticket } => {
                durable += 1;
                assert_eq!(ticket, durable, "in order");
            }
            Answer::Persisted { durable: false, ticket } => assert!(ticket > durable),
            Answer::Failed(cause) => assert!(cause.contains("does not keep up"), "{cause}"),
            Answer::Back => break,
            Answer::Resumed => panic!("nobody has asked for it"),
        }
    }
    // Now the answer that the owner is ready is lost too: it is asked again.
    let release = loop {
        let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
        if thread.query(move |_| held.recv().expect("is released")) {
            break release;
        }
        std::thread::yield_now();
    };
    let more = (1..).take_while(|more| thread.persist(taken + more, batch(taken + more))).count() as u64;
    thread.resume();
    release.send(()).expect("the thread waits");
    // What is stored from then on must be no chain with a gap.
    let next = taken + more + 1;
    loop {
        match answers.recv().await.expect("an answer") {
            Answer::Persisted { ticket, durable } => assert!(!durable, "{ticket}"),
            Answer::Back => thread.resume(),
            Answer::Resumed => break,
            other @ Answer::Failed(_) => panic!("{other:?}"),
        }
    }
    assert!(thread.persist(next, batch(durable + 1)));
    assert_eq!(answers.recv().await, Some(Answer::Persisted { ticket: next, durable: true }));
    thread.close();
    let store = Store::open(&path, network(1)).expect("a store");
    assert_eq!(store.head().expect("read").map(|head| head.height), Some(durable + 1));
    assert_eq!(store.canonical(durable + 2).expect("read"), None, "what was refused is not stored");
}

/// Who asks too much is told so, and not left without an answer.
#[test]
fn who_asked_is_given_back_when_there_is_no_place_for_the_question() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut thread, _answers) =
        StorageThread::start(store_with(&dir.path().join("chain.redb"), 1), ThreadOptions::default())
            .expect("a thread");
    let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
    assert!(thread.query(move |_| held.recv().expect("is released")));
    let (found, findings) = std::sync::mpsc::sync_channel(10_000);
    let ask = |asker: u32| {
        let found = found.clone();
        thread.ask(asker, move |_, asker| found.send(asker).expect("somebody listens"))
    };
    let taken = (0..10_000).take_while(|asker| ask(*asker).is_ok()).count();
    assert_eq!(ask(77_777), Err(77_777));
    release.send(()).expect("the thread waits");
    let deadline = std::time::Duration::from_secs(30);
    let answered = (0..taken).map(|_| findings.recv_timeout(deadline).expect("all that were taken are asked"));
    assert!(answered.map(|asker| asker as usize).eq(0..taken));
    thread.close();
    assert!(findings.try_recv().is_err(), "the others are not");
}

/// Questions have places of their own in the queue, which they leave when they are asked or refused.
#[test]
fn refused_questions_take_no_places() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut thread, _answers) =
        StorageThread::start(store_with(&dir.path().join("chain.redb"), 1), ThreadOptions::default())
            .expect("a thread");
    let taken = || {
        let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
        let (begin, begun) = std::sync::mpsc::sync_channel::<()>(1);
        let hold = move |_: &Store| {
            begin.send(()).expect("it is awaited");
            held.recv().expect("is released");
        };
        assert!(thread.query(hold));
        begun.recv().expect("it begins");
        let taken = (0..10_000).take_while(|_| thread.query(|_| ())).count();
        assert!((0..100).all(|_| !thread.query(|_| ())), "there was a place after all");
        release.send(()).expect("the thread waits");
        // All before it are done when this one is.
        let (last, done) = std::sync::mpsc::sync_channel::<()>(1);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !thread.query({
            let last = last.clone();
            move |_| last.send(()).expect("it is awaited")
        }) {
            assert!(std::time::Instant::now() < deadline, "no place becomes free");
            std::thread::yield_now();
        }
        done.recv().expect("it is asked");
        taken
    };
    let first = taken();
    assert!(first > 100, "{first} places");
    assert_eq!(taken(), first);
    thread.close();
}

#[test]
fn reading_the_last_blocks_ends_with_the_first_that_is_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store_with(&dir.path().join("chain.redb"), 30);
    store.apply([&[StoreOp::SetCanonical { height: 12, id: block_id(id(77)) }][..]]).expect("applied");
    let read: Vec<_> = store.recent_canonical(100).expect("read").collect();
    let good = read.iter().filter(|block| block.is_ok()).count();
    assert!(read.last().expect("some").is_err() && good + 1 == read.len() && good < 12, "{good} of {}", read.len());
}

/// A store of the real chain.
fn real_store(path: &Path) -> Store {
    let (genesis, blocks) = real_chain();
    let store = Store::open(path, genesis.network_id()).expect("a new store");
    store.apply(blocks.iter().map(adopt).collect::<Vec<_>>().iter().map(|batch| &batch[..])).expect("applied");
    store
}

#[test]
fn a_store_of_schema_1_is_brought_up_to_date_in_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("chain.redb");
    let (genesis, blocks) = real_chain();
    drop(real_store(&path));
    let database = Database::open(&path).expect("free");
    let transaction = database.begin_write().expect("a transaction");
    transaction.open_table(META).expect("there").insert("schema", &1_u64.to_le_bytes()[..]).expect("written");
    transaction.delete_table(HEIGHTS).expect("deleted");
    transaction.delete_table(PENDING).expect("deleted");
    transaction.delete_table(SIGNED).expect("deleted");
    transaction.delete_table(POOL).expect("deleted");
    transaction.commit().expect("committed");
    drop(database);
    let mut store = Store::open(&path, genesis.network_id()).expect("migrated");
    let report = store.check(genesis, true).expect("readable");
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!((report.height, report.canonical_blocks), (20, 20));
    assert_eq!(store.block(blocks[4].id()).expect("readable").map(|block| block.height), Some(5));
}

#[test]
fn pruning_leaves_a_store_whose_chain_begins_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let (genesis, blocks) = real_chain();
    let mut store = real_store(&dir.path().join("chain.redb"));
    let few = Keep { blocks: 3, bytes: None };
    assert!(Retention::new(genesis, few).expect_err("too few").to_string().contains("keep at least"));
    let retention = Retention::keeping(genesis, Keep { blocks: 6, bytes: None }, 1);
    while store.apply_and_prune([], Some(&retention)).expect("pruned").more {}
    assert_eq!(store.earliest().expect("readable"), Some(15));
    assert_eq!(store.block(blocks[13].id()).expect("readable"), None);
    assert_eq!(store.transaction(blocks[13].transactions()[0].id()).expect("readable"), None);
    assert!(store.transaction(blocks[14].transactions()[0].id()).expect("readable").is_some());
    let from_genesis = LoadRequest::Headers { locator: vec![], headers_max: 10 };
    assert!(store.load(&from_genesis).expect("readable").is_empty(), "what would come first is gone");
    let report = store.check(genesis, true).expect("readable");
    assert_eq!((report.problems, report.earliest, report.canonical_blocks), (vec![], 15, 6));
    store.compact().expect("compacted");
}

#[test]
fn an_export_is_imported_verified_and_anything_else_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let (genesis, blocks) = real_chain();
    let mut file = Vec::new();
    let store = real_store(&dir.path().join("chain.redb"));
    let done = store.export(&mut file).expect("exported");
    assert_eq!((done.blocks, done.first, done.last), (20, 1, 20));

    let into = |name: &str| Store::open(&dir.path().join(name), genesis.network_id()).expect("a new store");
    let mut other = into("other.redb");
    let cut = other.import(genesis, &file[..file.len() / 2]).expect_err("cut off");
    assert!(matches!(cut, TransferError::Truncated { imported: 5.., .. }), "{cut}");
    let done = other.import(genesis, &file[..]).expect("the rest is imported");
    assert_eq!(done.blocks, 20);
    assert!(done.new > 0 && done.new < 20, "what was there was passed over: {done:?}");
    assert_eq!(other.import(genesis, &file[..]).expect("again").new, 0);
    assert_eq!(other.check(genesis, true).expect("readable").problems, Vec::<String>::new());
    assert_eq!(other.head().expect("readable").map(|head| head.id), Some(blocks[19].id()));

    // Whatever a message counts as imported is there, wherever the file ends.
    let record = |block: &Block| 1 + 4 + block.bytes().len() + 8;
    let mut at = 68;
    for (number, block) in blocks[..5].iter().enumerate() {
        for end in [at, at + 1, at + 5, at + 40] {
            let name = format!("cut-{number}-{end}.redb");
            let error = into(&name).import(genesis, &file[..end]).expect_err("cut off");
            assert!(matches!(error, TransferError::Truncated { imported, .. } if imported == number as u64), "{error}");
            assert_eq!(into(&name).head().expect("readable").map_or(0, |head| head.height), number as u64);
        }
        at += record(block);
    }
    let longer = [&file[..], b"\0"].concat();
    let error = into("longer.redb").import(genesis, &longer[..]).expect_err("too long").to_string();
    assert!(error.contains("something follows after the end") && error.contains("The 20 blocks before"), "{error}");
    assert_eq!(into("longer.redb").head().expect("readable").map(|head| head.height), Some(20));

    for place in (68..file.len()).step_by(97) {
        let mut bytes = file.clone();
        bytes[place] ^= 1;
        let error = into("damaged.redb").import(genesis, &bytes[..]).expect_err("damaged").to_string();
        assert!(error.contains("at byte"), "byte {place}: {error}");
    }
    let refused = |bytes: &[u8]| into("damaged.redb").import(genesis, bytes).expect_err("refused");
    assert!(matches!(refused(b"something else"), TransferError::Foreign));
    let mut newer = file.clone();
    newer[16] = 9;
    assert!(matches!(refused(&newer), TransferError::Version(9)));
    let foreign =
        Genesis::new(GenesisParameters { name: "foreign".into(), ..genesis.parameters().clone() }).expect("valid");
    let stranger = Store::open(&dir.path().join("stranger.redb"), foreign.network_id()).expect("a new store");
    assert!(matches!(stranger.import(&foreign, &file[..]), Err(TransferError::OtherNetwork { .. })));
}

/// An export that begins below what is kept brings what is new in it.
#[test]
fn an_export_is_imported_into_a_pruned_store_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let (genesis, blocks) = real_chain();
    let mut file = Vec::new();
    real_store(&dir.path().join("chain.redb")).export(&mut file).expect("exported");
    let mut pruned = Store::open(&dir.path().join("pruned.redb"), genesis.network_id()).expect("a new store");
    pruned.apply(blocks[..15].iter().map(adopt).collect::<Vec<_>>().iter().map(|batch| &batch[..])).expect("applied");
    pruned.apply_and_prune([], Some(&Retention::keeping(genesis, Keep { blocks: 6, bytes: None }, 1))).expect("pruned");
    assert_eq!(pruned.earliest().expect("readable"), Some(10));
    assert_eq!(pruned.import(genesis, &file[..]).expect("imported").new, 5);
    let report = pruned.check(genesis, true).expect("readable");
    assert_eq!((report.problems, report.earliest, report.height), (vec![], 10, 20));
}

/// What is pruned makes room for what comes: the file grows with what is kept, not with what was ever stored.
#[test]
fn a_pruned_file_stops_growing() {
    const KEEP: u64 = 20;
    let dir = tempfile::tempdir().expect("a directory");
    let (producer, sender) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
    let genesis = &real_chain().0;
    let payload_bytes = genesis.parameters().limits.payload_bytes_max as usize;
    let retention = Retention::keeping(genesis, Keep { blocks: KEEP, bytes: None }, 1);
    let pruned = Store::open(&dir.path().join("pruned.redb"), genesis.network_id()).expect("a new store");
    let whole = Store::open(&dir.path().join("whole.redb"), genesis.network_id()).expect("a new store");
    let (mut parent, mut nonce, mut largest) = (genesis.block_id(), 0, 0);
    for height in 1..=KEEP * 10 {
        let transactions = (0..2).map(|_| {
            nonce += 1;
            let transaction = TransactionBuilder::new(genesis, height + 5).nonce(nonce).payload(vec![7; payload_bytes]);
            transaction.build(&sender).expect("valid")
        });
        let block =
            Block::produce(genesis, &producer, (height, height, parent), transactions.collect()).expect("valid");
        parent = block.id();
        let batch = adopt(&block);
        pruned.apply_and_prune([&batch[..]], Some(&retention)).expect("stored");
        whole.apply([&batch[..]]).expect("stored");
        if height == KEEP * 3 {
            largest = pruned.file_bytes();
        }
    }
    assert_eq!(pruned.earliest().expect("readable"), Some(KEEP * 9 + 1));
    assert!(pruned.file_bytes() <= largest, "it went on growing, from {largest} to {} bytes", pruned.file_bytes());
    assert!(whole.file_bytes() > 3 * largest, "the test stores too little: {} bytes", whole.file_bytes());
}
