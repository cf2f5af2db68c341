//! Bytes that mean nothing, into every decoder and state machine.
//!
//! The fuzz targets of the protocol (`starling-protocol-fuzz`) are run on their seeds and on mutations of them, as that crate's tests do, in
//! release and with more of them. A target panics when a decoder or a machine does, or when a property of it does not hold; a run that
//! panics is a row that fails. What they try with the guidance of coverage is in that crate's `libfuzzer` folder.

use super::experiment::Outcome;
use crate::sim::trace::TraceHash;
use starling_protocol_fuzz::{Mutator, TARGETS, Target, seeds};

/// Machines cost as much for one input as decoders for so many.
const MACHINE_COST: u64 = 25;

/// Gives so many inputs to each decoder, and a part of that to each machine.
pub(super) fn run(engine: &str, inputs: u64, seed: u64) -> Outcome {
    let mut outcome = Outcome { engine: engine.to_owned(), ..Outcome::default() };
    let mut trace = TraceHash::default();
    for target in TARGETS {
        let corpus: Vec<Vec<u8>> = seeds(target.name).into_iter().map(|(_, bytes)| bytes).collect();
        let mut mutator = Mutator::new(&corpus, seed);
        corpus.iter().for_each(|input| (target.run)(input));
        for _ in 0..inputs / cost(target) {
            let input = mutator.next_input();
            trace.mix_prefix(&input);
            (target.run)(&input);
            outcome.inputs += 1;
        }
    }
    outcome.trace = trace.to_string();
    outcome
}

fn cost(target: Target) -> u64 {
    if matches!(target.name, "node" | "mesh") { MACHINE_COST } else { 1 }
}
