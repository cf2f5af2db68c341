//! The store against a plain model, and what it refuses.

use super::*;
use std::collections::BTreeMap;

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
    assert_eq!(store.recent_canonical(5, 100).expect("read"), [block(3, 3), block(4, 4), block(5, 5)]);
    assert_eq!(store.recent_canonical(0, 2).expect("read"), [block(4, 4), block(5, 5)]);
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
    let (thread, mut persisted) = StorageThread::start(store).expect("a thread");
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
        thread.persist(ticket, batch).expect("room");
    }
    let (sender, found) = tokio::sync::oneshot::channel();
    let query = move |store: &Store| drop(sender.send(store.recent_canonical(0, 1_000)));
    thread.query(query).expect("room");
    let found: Vec<_> =
        found.await.expect("answered").expect("read").iter().map(|block| (block.height, block.id)).collect();
    let expected: Vec<_> = model.iter().map(|(height, number)| (*height, block_id(id(*number)))).collect();
    assert_eq!(found, expected);
    for ticket in 0..200 {
        let answer = persisted.recv().await.expect("an answer");
        assert_eq!(answer.ticket, ticket);
        answer.result.expect("persisted");
    }
    thread.close();
}

/// A store that does not get every batch gets none of the later ones: what it has is a chain that ends early.
#[tokio::test]
async fn after_a_batch_that_was_refused_none_is_stored() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("chain.redb");
    let store = Store::open(&path, network(1)).expect("a store");
    let (thread, mut persisted) = StorageThread::start(store).expect("a thread");
    let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
    // The thread waits; the queue fills up. The sender's end is awaited, so nothing depends on timing.
    thread.query(move |_| held.recv().expect("is released")).expect("room");
    let batch = |height: u64| extend(&block(height, 1_000 + height));
    let taken = (1..).take_while(|height| thread.persist(*height, batch(*height)).is_ok()).count() as u64;
    release.send(()).expect("the thread waits");
    for ticket in 1..=taken {
        let answer = persisted.recv().await.expect("an answer");
        assert_eq!(answer.ticket, ticket);
        answer.result.expect("persisted");
    }
    // There is room again, but not for a chain with a gap.
    assert_eq!(thread.persist(taken + 2, batch(taken + 2)), Err(NotTaken::Stopped));
    thread.close();
    let store = Store::open(&path, network(1)).expect("a store");
    assert_eq!(store.head().expect("read").map(|head| head.height), Some(taken));
}
