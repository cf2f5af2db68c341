//! Retention in lockstep with a naive model, and what it does to the file.

use super::super::model::Model;
use super::super::size;
use super::super::tests::adopt;
use super::*;
use crate::storage::{Keep, StorageThread, ThreadOptions};
use proptest::prelude::*;
use starling_crypto::SecretKey;
use starling_protocol::genesis::{GenesisParameters, Limits};
use starling_protocol::store::StoreOp;
use starling_protocol::transaction::TransactionBuilder;
use std::sync::LazyLock;

/// A chain of blocks of most sizes, each with another block at its height.
struct Forked {
    genesis: Genesis,
    blocks: Vec<[Block; 2]>,
}

static FORKED: LazyLock<Forked> = LazyLock::new(|| {
    let (producer, sender) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
    let genesis = Genesis::new(GenesisParameters {
        name: "kept".into(),
        start_time_ms: 1_000_000,
        slot_ms: 1_000,
        producers: vec![producer.public_key().to_bytes()],
        limits: Limits { expiry_slots_max: 5, ..Limits::default() },
        stamp_bits: 0,
    })
    .expect("acceptable");
    let mut parent = genesis.block_id();
    let mut nonce = 0;
    let mut block = |height: u64, parent, payloads: &[usize]| {
        let transactions = payloads.iter().map(|bytes| {
            nonce += 1;
            let builder = TransactionBuilder::new(&genesis, height + 5).nonce(nonce).payload(vec![7; *bytes]);
            builder.build(&sender).expect("valid")
        });
        Block::produce(&genesis, &producer, (height, height, parent), transactions.collect()).expect("valid")
    };
    let payloads: [&[usize]; 8] = [&[], &[10], &[1_000, 10], &[16_000], &[], &[3_500], &[5_000, 5_000], &[15_000; 4]];
    let blocks = (1..=100_u64).map(|height| {
        let place = usize::try_from(height).expect("small") % 8;
        let pair = [block(height, parent, payloads[place]), block(height, parent, payloads[7 - place])];
        parent = pair[0].id();
        pair
    });
    let blocks = blocks.collect();
    Forked { genesis, blocks }
});

#[derive(Clone, Debug)]
struct Step {
    /// How many blocks come in one commit, each with its rival if so.
    blocks: usize,
    rivals: bool,
    /// What is kept from then on; nothing is pruned in a commit without.
    keep: Option<(u64, Option<u64>)>,
}

fn step() -> impl Strategy<Value = Step> {
    let blocks = prop_oneof![0..4_usize, 0..30_usize];
    let bytes = prop::option::of(prop_oneof![0..200_000_u64, 0..2_000_000_u64]);
    let keep = prop::option::weighted(0.8, (prop_oneof![Just(0), 4..60_u64], bytes));
    (blocks, any::<bool>(), keep).prop_map(|(blocks, rivals, keep)| Step { blocks, rivals, keep })
}

/// The fewest blocks that are kept.
const BLOCKS_MIN: u64 = 4;

fn taken(model: &Model) -> u64 {
    let blocks = model.blocks.values().map(|block| size::of_block(&block.bytes)).sum();
    let lens = [model.blocks.len(), model.canonical.len(), model.transactions.len()];
    size::of_all(blocks, lens[0] as u64, lens[1] as u64, lens[2] as u64)
}

/// What the chain emits when it adopts a block and then another one instead.
fn give_way(block: &Block) -> Vec<StoreOp> {
    let mut batch = adopt(block);
    batch.push(StoreOp::UnsetCanonicalFrom { height: block.header().height });
    let transactions = block.transactions().iter();
    batch.extend(transactions.map(|one| StoreOp::UnindexTransaction { transaction: one.id() }));
    batch
}

/// Removes one block, the oldest, with what belongs to it; says whether one had to go.
fn prune_one(model: &mut Model, keep: Keep) -> bool {
    let Some(block) = model.blocks.values().min_by_key(|block| (block.height, block.id)).cloned() else { return false };
    let head = model.head.map_or(0, |head| head.height);
    let too_many = keep.blocks > 0 && head - block.height >= keep.blocks;
    let too_much = keep.bytes.is_some_and(|bytes| taken(model) > bytes);
    if !(too_many || too_much) || head - block.height < BLOCKS_MIN {
        return false;
    }
    model.blocks.remove(block.id.as_bytes());
    if model.canonical.get(&block.height) == Some(&block.id) {
        model.canonical.remove(&block.height);
    }
    model.transactions.retain(|_, at| at.block != block.id);
    true
}

fn play(steps: &[Step]) -> Result<(), TestCaseError> {
    let Forked { genesis, blocks } = &*FORKED;
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("chain.redb"), genesis.network_id()).expect("a new store");
    let (mut model, mut next) = (Model::default(), 0);
    for Step { blocks: count, rivals, keep } in steps {
        let mut batch: Vec<StoreOp> = Vec::new();
        for [block, rival] in blocks.iter().skip(next).take(*count) {
            next += 1;
            if *rivals {
                batch.extend(give_way(rival));
            }
            batch.extend(adopt(block));
            // A block may be stored again.
            batch.push(adopt(block).swap_remove(0));
        }
        let keep = keep.map(|(blocks, bytes)| Keep { blocks, bytes });
        let retention = keep.map(|keep| Retention::keeping(genesis, keep, BLOCKS_MIN));
        let pruned = store.apply_and_prune([&batch[..]], retention.as_ref()).expect("stored");
        batch.iter().for_each(|operation| model.apply(operation));
        let keep = keep.unwrap_or_default();
        let gone = (0..PRUNED_AT_ONCE).take_while(|_| prune_one(&mut model, keep)).count();
        let more = prune_one(&mut model.clone(), keep);
        let kept_bytes = keep.bytes.map(|_| taken(&model));
        prop_assert_eq!(pruned, Pruned { blocks: gone, more, kept_bytes });
        prop_assert_eq!(&Model::of(&store).expect("readable"), &model);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    /// Whatever is stored, whichever bounds come and go: what is kept, and what it takes, is what a model says that counts
    /// everything each time.
    #[test]
    fn what_is_kept_is_what_the_bounds_say(steps in prop::collection::vec(step(), 1..16)) {
        play(&steps)?;
    }
}

/// What the blocks take is what the file takes, or more, whatever sizes they have; so the bound bounds the disk.
#[test]
fn a_bound_in_bytes_bounds_the_file() {
    const KEEP_BYTES: u64 = 1 << 20;
    /// What an empty database and two commits take.
    const BASE_BYTES: u64 = 768 << 10;
    let Forked { genesis, .. } = &*FORKED;
    let (producer, sender) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
    for payloads in [&[] as &[usize], &[100; 20], &[2_500], &[10_000, 16_000], &[16_384; 2]] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("chain.redb"), genesis.network_id()).expect("a new store");
        let retention = Retention::keeping(genesis, Keep { blocks: 0, bytes: Some(KEEP_BYTES) }, BLOCKS_MIN);
        let (mut parent, mut nonce, mut height, mut stored) = (genesis.block_id(), 0, 0, 0);
        let mut batches = Vec::new();
        while stored < 4 * KEEP_BYTES {
            height += 1;
            let transactions = payloads.iter().map(|bytes| {
                nonce += 1;
                let builder = TransactionBuilder::new(genesis, height + 5).nonce(nonce).payload(vec![7; *bytes]);
                builder.build(&sender).expect("valid")
            });
            let content = (height, height, parent);
            let block = Block::produce(genesis, &producer, content, transactions.collect()).expect("valid");
            parent = block.id();
            stored += size::of_all(size::of_block(block.bytes()), 1, 1, payloads.len() as u64);
            batches.push(adopt(&block));
        }
        let mut kept = None;
        // What a commit frees is used by the one after the next: a commit is small beside the bound, as in a node.
        let each = stored / batches.len() as u64;
        for group in batches.chunks(usize::try_from(64_000 / each).expect("small").clamp(1, 24)) {
            kept = store.apply_and_prune(group.iter().map(Vec::as_slice), Some(&retention)).expect("stored").kept_bytes;
        }
        let (kept, file) = (kept.expect("counted"), store.file_bytes());
        assert!(kept <= KEEP_BYTES && kept > KEEP_BYTES / 2, "{payloads:?}: {kept} bytes are kept");
        assert!(file <= KEEP_BYTES + BASE_BYTES, "{payloads:?}: the file takes {file} bytes");
    }
}

/// A store that was changed without being counted is counted anew, whatever is the same about it.
#[test]
fn a_count_that_is_out_of_date_is_not_believed() {
    let Forked { genesis, blocks } = &*FORKED;
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("chain.redb"), genesis.network_id()).expect("a new store");
    let last = |count| Retention::keeping(genesis, Keep { blocks: count, bytes: None }, BLOCKS_MIN);
    let counting = Retention::keeping(genesis, Keep { blocks: 0, bytes: Some(1 << 30) }, BLOCKS_MIN);
    let batches: Vec<_> = blocks.iter().map(|[block, _]| adopt(block)).collect();
    let check = |case: &str| {
        let kept = store.apply_and_prune([], Some(&counting)).expect("stored").kept_bytes;
        assert_eq!(kept, Some(taken(&Model::of(&store).expect("readable"))), "{case}");
    };
    store.apply_and_prune(batches[..50].iter().map(Vec::as_slice), Some(&counting)).expect("stored");
    check("counted as it came");
    store.apply_and_prune([], Some(&last(20))).expect("pruned");
    check("the same head, fewer blocks");
    // The one that comes is larger than the one that goes.
    assert_eq!(store.apply_and_prune([&batches[50][..]], Some(&last(20))).expect("stored").blocks, 1);
    check("as many blocks, another head");
    // What takes exactly as much as it may stays.
    let kept = taken(&Model::of(&store).expect("readable"));
    let bound = |bytes| Retention::keeping(genesis, Keep { blocks: 0, bytes: Some(bytes) }, BLOCKS_MIN);
    assert_eq!(store.apply_and_prune([], Some(&bound(kept))).expect("stored").blocks, 0);
    assert_eq!(store.apply_and_prune([], Some(&bound(kept - 1))).expect("stored").blocks, 1);
}

/// A block of a side branch takes nothing along that belongs to the canonical one of its height, nor the other way round.
#[test]
fn blocks_of_one_height_go_one_by_one() {
    let Forked { genesis, blocks } = &*FORKED;
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("chain.redb"), genesis.network_id()).expect("a new store");
    let pairs = blocks[..16].iter();
    let batch: Vec<StoreOp> = pairs.flat_map(|[block, rival]| [give_way(rival), adopt(block)].concat()).collect();
    store.apply([&batch[..]]).expect("stored");
    let mut model = Model::default();
    batch.iter().for_each(|operation| model.apply(operation));
    let mut gone = 0;
    loop {
        let keep = Keep { blocks: 0, bytes: Some(taken(&model) - 1) };
        let one = prune_one(&mut model, keep);
        let pruned = store.apply_and_prune([], Some(&Retention::keeping(genesis, keep, BLOCKS_MIN))).expect("pruned");
        assert_eq!((pruned.blocks, &Model::of(&store).expect("readable")), (usize::from(one), &model), "after {gone}");
        if !one {
            break;
        }
        gone += 1;
    }
    assert_eq!(gone, 2 * 12);
}

/// A backlog is worked off while nothing is stored.
#[test]
fn what_need_not_be_kept_goes_in_idle_time() {
    let Forked { genesis, blocks } = &*FORKED;
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("chain.redb"), genesis.network_id()).expect("a new store");
    let batches: Vec<_> = blocks.iter().map(|[block, _]| adopt(block)).collect();
    store.apply(batches.iter().map(Vec::as_slice)).expect("stored");
    let retention = Some(Retention::keeping(genesis, Keep { blocks: BLOCKS_MIN, bytes: None }, BLOCKS_MIN));
    let (mut thread, _answers) = StorageThread::start(store, ThreadOptions { retention }).expect("a thread");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while thread.earliest() < 97 {
        assert!(std::time::Instant::now() < deadline, "from {} on is kept", thread.earliest());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    thread.close();
    assert_eq!(thread.earliest(), 97);
}

/// What a node needs to start again stays, whatever it takes.
#[test]
fn the_last_blocks_stay_whatever_they_take() {
    let Forked { genesis, blocks } = &*FORKED;
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("chain.redb"), genesis.network_id()).expect("a new store");
    let retention = Retention::keeping(genesis, Keep { blocks: 0, bytes: Some(1) }, BLOCKS_MIN);
    let batches: Vec<_> = blocks.iter().map(|[block, _]| adopt(block)).collect();
    let first = store.apply_and_prune(batches.iter().map(Vec::as_slice), Some(&retention)).expect("stored");
    assert_eq!((first.blocks, first.more), (PRUNED_AT_ONCE, true));
    let second = store.apply_and_prune([], Some(&retention)).expect("stored");
    assert_eq!((first.blocks + second.blocks, second.more), (96, false));
    assert_eq!(store.earliest().expect("readable"), Some(97));
    assert!(second.kept_bytes > Some(1), "that it is too much is said: {second:?}");
    let real =
        Retention::new(genesis, Keep { blocks: 0, bytes: Some(1) }).expect("no bound on blocks").expect("a bound");
    assert_eq!(real.blocks_min, Retention::min(genesis));
    assert!(Retention::new(genesis, Keep::default()).expect("everything is enough").is_none());
}
