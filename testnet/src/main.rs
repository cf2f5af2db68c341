//! `starling-testnet`: see `starling-testnet --help` and `docs/TESTNET.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    starling_testnet::cli::main()
}
