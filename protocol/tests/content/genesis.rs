use super::{key, network, parameters};
use proptest::prelude::*;
use starling_protocol::block::Block;
use starling_protocol::genesis::{
    BLOCK_BYTES_MAX, GENESIS_FILE_BYTES_MAX, Genesis, GenesisError, GenesisParameters, Limits,
};
use starling_protocol::transaction::TransactionBuilder;
use std::collections::BTreeSet;

type Change = fn(&mut GenesisParameters);

/// The file of the test network with one piece of text replaced.
fn edited(from: &str, to: &str) -> Result<Genesis, GenesisError> {
    let text = network().to_toml();
    assert!(text.contains(from), "{from:?} is in the file");
    Genesis::from_toml(&text.replacen(from, to, 1))
}

/// The parameters with one change, which must be refused; gives the name of the field and the whole message.
fn refused(change: impl FnOnce(&mut GenesisParameters)) -> (&'static str, String) {
    let mut parameters = parameters();
    change(&mut parameters);
    let error = Genesis::new(parameters).unwrap_err();
    let GenesisError::Field { field, .. } = error else { panic!("not about a field: {error}") };
    (field, error.to_string())
}

#[test]
fn a_file_read_back_is_the_same_network() {
    let genesis = network();
    let again = Genesis::from_toml(&genesis.to_toml()).unwrap();
    assert_eq!(again.parameters(), genesis.parameters());
    assert_eq!(again, genesis);
    assert!(genesis.to_toml().contains(&genesis.network_id().to_string()));
}

#[test]
fn only_values_make_the_network() {
    let genesis = network();
    let bare: String =
        genesis.to_toml().lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    assert_eq!(Genesis::from_toml(&bare).unwrap().network_id(), genesis.network_id());
    // Each way of writing the start time: with and without fraction, zone and quotes, and as a number.
    let start = "start_time = 2027-01-15T08:00:00.000Z";
    for same in ["2027-01-15T08:00:00Z", "2027-01-15 10:00:00+02:00", "\"2027-01-15T08:00:00Z\"", "1800000000000"] {
        assert_eq!(edited(start, &format!("start_time = {same}")), Ok(genesis.clone()), "{same}");
    }
}

#[test]
fn every_value_makes_the_network() {
    let changes: [Change; 12] = [
        |_| {},
        |genesis| genesis.name.push('x'),
        |genesis| genesis.start_time_ms += 1,
        |genesis| genesis.slot_ms += 1,
        |genesis| genesis.producers.reverse(),
        |genesis| genesis.producers.truncate(1),
        |genesis| genesis.limits.payload_bytes_max += 1,
        |genesis| genesis.limits.transactions_per_block_max += 1,
        |genesis| genesis.limits.block_bytes_max += 1,
        |genesis| genesis.limits.expiry_slots_max += 1,
        |genesis| genesis.limits.nonce_window += 1,
        |genesis| genesis.stamp_bits += 1,
    ];
    let networks: Vec<_> = changes
        .iter()
        .map(|change| {
            let mut parameters = parameters();
            change(&mut parameters);
            Genesis::new(parameters).unwrap()
        })
        .collect();
    let distinct = |name: fn(&Genesis) -> String| networks.iter().map(name).collect::<BTreeSet<_>>().len();
    assert_eq!(distinct(|genesis| genesis.network_id().to_string()), changes.len());
    assert_eq!(distinct(|genesis| genesis.block_id().to_string()), changes.len());
    assert_eq!(distinct(|genesis| genesis.transaction_topic().to_string()), changes.len());
    assert_eq!(distinct(|genesis| genesis.block_topic().to_string()), changes.len());
    assert_eq!(distinct(Genesis::kademlia_protocol), changes.len());
}

#[test]
fn values_out_of_bounds_are_refused_by_name() {
    let small_order = "01".to_owned() + &"00".repeat(31);
    let cases: [(&str, Change); 16] = [
        ("name", |genesis| genesis.name.clear()),
        ("name", |genesis| genesis.name = "x".repeat(65)),
        ("name", |genesis| genesis.name = "a \"b\"".into()),
        ("start_time", |genesis| genesis.start_time_ms = u64::MAX),
        ("slot_ms", |genesis| genesis.slot_ms = 99),
        ("slot_ms", |genesis| genesis.slot_ms = u64::MAX),
        ("stamp_bits", |genesis| genesis.stamp_bits = 33),
        ("producers", |genesis| genesis.producers.clear()),
        ("producers", |genesis| genesis.producers = vec![genesis.producers[0]; 2]),
        ("limits.block_bytes_max", |genesis| genesis.limits.block_bytes_max = BLOCK_BYTES_MAX + 1),
        ("limits.block_bytes_max", |genesis| genesis.limits.block_bytes_max = 379),
        ("limits.payload_bytes_max", |genesis| genesis.limits.payload_bytes_max = 621),
        ("limits.transactions_per_block_max", |genesis| genesis.limits.transactions_per_block_max = 0),
        ("limits.expiry_slots_max", |genesis| genesis.limits.expiry_slots_max = u64::MAX),
        ("limits.nonce_window", |genesis| genesis.limits.nonce_window = 0),
        ("limits.nonce_window", |genesis| genesis.limits.nonce_window = 4_097),
    ];
    for (expected, change) in cases {
        let (field, message) = refused(change);
        assert_eq!(field, expected, "{message}");
    }
    let (field, message) = refused(|genesis| genesis.producers[1] = small_order.parse().unwrap());
    assert_eq!(field, "producers");
    assert!(message.starts_with("genesis field `producers`: entry 2: public key 0100"), "{message}");
}

#[test]
fn the_largest_payload_just_fits_in_a_block() {
    let mut parameters = parameters();
    parameters.limits.payload_bytes_max = 620;
    let genesis = Genesis::new(parameters).unwrap();
    let builder = TransactionBuilder::new(&genesis, 12).payload([0; 620]);
    let transaction = builder.build(&key(9)).unwrap();
    let position = (3, 1, genesis.block_id());
    let block = Block::produce(&genesis, &key(2), position, vec![transaction]).unwrap();
    assert_eq!(block.encoded_len(), 1_000);
}

#[test]
fn files_that_cannot_be_read_say_where() {
    let message = |result: Result<Genesis, GenesisError>| result.unwrap_err().to_string();
    let misspelt = message(edited("slot_ms", "slot_seconds"));
    assert!(misspelt.contains("unknown field `slot_seconds`") && misspelt.contains("line "), "{misspelt}");
    let misplaced = message(edited("nonce_window", "window"));
    assert!(misplaced.contains("unknown field `window`"), "{misplaced}");
    let missing = message(edited("name = \"test\"\n", ""));
    assert!(missing.contains("missing field `name`"), "{missing}");
    let broken = message(edited("producers = [", "producers = "));
    assert!(broken.contains("TOML parse error at line"), "{broken}");
    let negative = message(edited("slot_ms = 2000", "slot_ms = -1"));
    assert!(negative.contains("slot_ms"), "{negative}");
    let long = message(Genesis::from_toml(&" ".repeat(GENESIS_FILE_BYTES_MAX + 1)));
    assert!(long.contains("is it the right file?"), "{long}");

    let key = network().producers()[1].to_string();
    let cut = message(edited(&key, &key[..60]));
    assert_eq!(cut, "genesis field `producers`: entry 2: expected 64 hex digits for a public key, found 60 characters");
    for unusable in ["2027-01-15", "\"soon\"", "-5", "1969-12-31T23:59:59Z", "2027-01-15T08:00:00", "true"] {
        let unusable = message(edited("2027-01-15T08:00:00.000Z", unusable));
        assert!(unusable.contains("`start_time`") && unusable.contains("2027-01-31T12:00:00Z"), "{unusable}");
    }
}

#[test]
fn slots_follow_the_clock() {
    let genesis = network();
    let start = 1_800_000_000_000_000;
    assert_eq!(genesis.slot_at(0), None);
    assert_eq!(genesis.slot_at(start - 1), None);
    assert_eq!(genesis.slot_at(start), Some(0));
    assert_eq!(genesis.slot_at(start + 1_999_999), Some(0));
    assert_eq!(genesis.slot_at(start + 2_000_000), Some(1));
    assert_eq!(genesis.slot_at(u64::MAX), Some((u64::MAX - start) / 2_000_000));
    assert_eq!(genesis.slot_start(0), start);
    assert_eq!(genesis.slot_start(7), start + 14_000_000);
    assert_eq!(genesis.slot_start(u64::MAX), u64::MAX);
    let producers = genesis.producers();
    assert_eq!((genesis.producer_of(0), genesis.producer_of(1)), (&producers[0], &producers[1]));
    assert_eq!(genesis.producer_of(u64::MAX), &producers[1]);
}

#[test]
fn names_are_short_and_derived_from_the_id() {
    let genesis = network();
    let short = &genesis.network_id().to_string()[..8];
    assert_eq!(genesis.short_id(), short);
    assert_eq!(genesis.transaction_topic().as_str(), format!("{short}/t"));
    assert_eq!(genesis.block_topic().as_str(), format!("{short}/b"));
    assert_eq!(genesis.kademlia_protocol(), format!("/starling/{short}/kad/1"));
}

#[test]
fn the_default_limits_are_allowed() {
    Genesis::new(GenesisParameters { limits: Limits::default(), ..parameters() }).unwrap();
}

proptest! {
    #[test]
    fn any_allowed_network_survives_its_file(
        name in "[a-zA-Z0-9._-]{1,64}",
        start_time_ms in 0_u64..=253_402_300_799_999,
        slot_ms in 100_u64..=3_600_000,
        stamp_bits in 0_u8..=32,
        payload_bytes_max in 0_u32..=1_000,
    ) {
        let limits = Limits { payload_bytes_max, ..Limits::default() };
        let genesis = GenesisParameters { name, start_time_ms, slot_ms, stamp_bits, limits, ..parameters() };
        let genesis = Genesis::new(genesis).unwrap();
        let again = Genesis::from_toml(&genesis.to_toml()).unwrap();
        prop_assert_eq!(again.parameters(), genesis.parameters());
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        prop_assert!(Genesis::from_toml(&text).is_err());
    }
}
