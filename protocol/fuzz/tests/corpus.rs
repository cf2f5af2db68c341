//! The committed corpus, and a fixed number of its mutations from a fixed seed.

use starling_protocol_fuzz::{Mutator, TARGETS, Target, seeds, target};
use std::path::Path;

/// Mutations of each target: some seconds in all without optimisation. One input to a whole engine costs as much as many
/// to a decoder.
fn rounds(target: Target) -> u64 {
    match target.name {
        "node" => 60,
        "mesh" => 300,
        _ => 1_500,
    }
}

fn corpus(target: Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a readable file")).collect()
}

fn run(name: &str) {
    let target = target(name).expect("a target");
    let corpus = corpus(target);
    corpus.iter().for_each(|input| (target.run)(input));
    let mut mutator = Mutator::new(&corpus, 1);
    for round in 0..rounds(target) {
        let input = mutator.next_input();
        let run = std::panic::catch_unwind(|| (target.run)(&input));
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(run.is_ok(), "{name} fails in round {round} on {hex}");
    }
}

/// A stale corpus would start all mutations from what is refused at the first byte.
#[test]
fn the_corpus_holds_the_seeds_of_todays_formats() {
    for target in TARGETS {
        let corpus = corpus(target);
        for (name, bytes) in seeds(target.name) {
            assert!(corpus.contains(&bytes), "corpus/{}/{name} is stale: run the command `seeds`", target.name);
        }
    }
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn every_target_is_run() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

targets!(rpc, transaction, block, genesis, codec, request, key, send_queue, mesh, node, address_book, bans);
