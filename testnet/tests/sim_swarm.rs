//! Scenarios that nobody has thought of: drawn from seeds, with faults first and then time to recover.

use starling_protocol::genesis::{Genesis, GenesisParameters};
use starling_protocol::transaction::{SignedTransaction, Transaction, TransactionBuilder};
use std::path::Path;

use starling_testnet::manifest::Manifest;
use starling_testnet::sim::run::simulate;

/// Few enough for every build. `starling-testnet sim random --seeds 1..1000 --check` tries more.
const SEEDS: std::ops::RangeInclusive<u64> = 3..=6;

#[test]
fn after_whatever_faults_everything_is_well_again() {
    let failures: Vec<String> = std::thread::scope(|scope| {
        let seeds: Vec<_> = SEEDS
            .map(|seed| {
                scope.spawn(move || {
                    let manifest = Manifest::random(seed);
                    let simulated = simulate(&manifest, Path::new(""), true, |_| {});
                    let simulated = simulated.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                    assert!(!simulated.run.deliveries.messages().is_empty(), "seed {seed}: nothing was published");
                    let again = format!("again: starling-testnet sim random --seed {seed} --check");
                    simulated.findings.into_iter().map(move |finding| format!("seed {seed}: {finding}; {again}"))
                })
            })
            .collect();
        seeds.into_iter().flat_map(|seed| seed.join().expect("a run that panics has said why")).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn transaction() -> Transaction {
    let key = starling_crypto::SecretKey::from_seed(&[1; 32]);
    let genesis = GenesisParameters {
        name: "checkers".into(),
        start_time_ms: 1_000,
        slot_ms: 1_000,
        producers: vec![key.public_key().to_bytes()],
        limits: starling_protocol::genesis::Limits::default(),
        stamp_bits: 0,
    };
    let genesis = Genesis::new(genesis).expect("a good genesis");
    TransactionBuilder::new(&genesis, 9).payload(b"anything").build(&key).expect("a good transaction")
}

/// The checkers see what is there to be seen: with a bound that is too low, they say so.
#[test]
fn a_rule_that_is_broken_is_found() {
    use starling_protocol::mesh::Event;
    use starling_protocol::node;
    use starling_protocol::time::Time;
    use starling_testnet::sim::safety::{Checker, MeshBounds, OnceOnly, ValidOnly};

    let topic = starling_protocol::id::Topic::new("topic");
    let payload = starling_protocol::message::Payload::new(&topic, b"something");
    let peer = starling_protocol::id::PeerHandle { slot: 0, generation: 0 };
    let verdict = starling_protocol::mesh::Verdict::Accept;
    let accepted = node::Event::Mesh(Event::Validated { payload: payload.clone(), peer, verdict });
    let (mut once, at) = (OnceOnly::default(), Time::from_secs);
    assert_eq!(once.event(at(1), (1, 1), &accepted), None);
    assert_eq!(once.event(at(2), (2, 1), &accepted), None, "another node");
    assert_eq!(once.event(at(3), (1, 2), &accepted), None, "another life");
    assert!(once.event(at(60), (1, 1), &accepted).is_some_and(|violation| violation.contains("twice")));
    assert_eq!(once.event(at(180), (1, 1), &accepted), None, "the name may be forgotten");
    let own = node::Event::Mesh(Event::Published { payload: payload.clone() });
    assert_eq!(once.event(at(200), (3, 1), &own), None);
    assert!(once.event(at(201), (3, 1), &accepted).is_some(), "its own message came back");
    let mut valid = ValidOnly::default();
    let accepts = |transaction: &Transaction| {
        let payload = starling_protocol::message::Payload::new(&topic, transaction.bytes());
        node::Event::Mesh(Event::Validated { payload, peer, verdict })
    };
    let transaction = transaction();
    let spoilt = SignedTransaction { signature: starling_crypto::Signature([7; 64]), ..transaction.to_parts() };
    assert_eq!(valid.event(at(1), (1, 1), &accepts(&transaction)), None);
    let violation = valid.event(at(1), (1, 1), &accepts(&Transaction::from_parts(spoilt)));
    assert!(violation.is_some_and(|violation| violation.contains("accepted message")), "its signature is wrong");
    let frame = starling_protocol::rpc::Frame::Publish { payload, class: starling_protocol::rpc::Class::Forward };
    assert!(valid.said((1, 1), &frame).is_some());
    assert_eq!(valid.event(at(1), (1, 1), &accepted), None);
    assert_eq!(valid.said((1, 1), &frame), None);
    let mut bounds = MeshBounds::default();
    let mut degree = |degree| {
        let event = node::Event::Mesh(Event::MeshDegree { topic: topic.clone(), degree });
        bounds.event(at(1), (1, 1), &event)
    };
    assert!(degree(12).is_none() && degree(13).is_some());
}
