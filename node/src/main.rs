//! The program `starling`: everything is in [`starling_node::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    starling_node::cli::main_with_args(std::env::args_os())
}
