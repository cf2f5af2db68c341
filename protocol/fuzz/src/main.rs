//! Runs fuzz targets on the stable toolchain. See the library for what they check.

use starling_protocol_fuzz::{Mutator, TARGETS, Target, seeds, target};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage:
  starling-protocol-fuzz TARGET ROUNDS SEED   run mutations of the corpus
  starling-protocol-fuzz TARGET FILE          run one input
  starling-protocol-fuzz seeds                write the seeds of all targets into the corpus";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["seeds"] => write_seeds(),
        [name, file] => named(name).and_then(|target| run_file(target, Path::new(file))),
        [name, rounds, seed] => named(name).and_then(|target| run_rounds(target, number(rounds)?, number(seed)?)),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn named(name: &str) -> Result<Target, String> {
    let names = TARGETS.map(|target| target.name).join(", ");
    target(name).ok_or_else(|| format!("no target is called {name}; there are {names}"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("{text} is not a number: {error}\n{USAGE}"))
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn write_seeds() -> Result<(), String> {
    for target in TARGETS {
        let folder = corpus(target.name);
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for (name, bytes) in seeds(target.name) {
            let file = folder.join(name);
            std::fs::write(&file, bytes).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    Ok(())
}

fn run_file(target: Target, file: &Path) -> Result<(), String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    (target.run)(&bytes);
    Ok(())
}

fn run_rounds(target: Target, rounds: u64, seed: u64) -> Result<(), String> {
    let inputs: Vec<Vec<u8>> = seeds(target.name).into_iter().map(|(_name, bytes)| bytes).collect();
    let mut mutator = Mutator::new(&inputs, seed);
    for round in 0..rounds {
        let input = mutator.next_input();
        if std::panic::catch_unwind(|| (target.run)(&input)).is_err() {
            let file = format!("failing-{}-{seed}-{round}", target.name);
            std::fs::write(&file, &input).map_err(|error| format!("{file}: {error}"))?;
            return Err(format!("round {round} of seed {seed} failed; its input is in {file}"));
        }
    }
    println!("{}: {rounds} rounds of seed {seed}", target.name);
    Ok(())
}
