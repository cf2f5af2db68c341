//! Fuzz targets: what must hold of every decoder and state machine, whatever the bytes.
//!
//! A target is a plain function of bytes that panics when something does not hold. So it runs everywhere:
//! - `cargo test -p starling-protocol-fuzz` runs the committed corpus and a fixed number of mutations of it, from a fixed
//!   seed, on the stable toolchain. It is part of the workspace's tests.
//! - `cargo run --release -p starling-protocol-fuzz -- TARGET ROUNDS SEED` runs more of them. A failing input is written to a
//!   file; running it again is `-- TARGET FILE`.
//! - `libfuzzer/` makes the same functions targets of libFuzzer, which is guided by coverage. It is a workspace of its own, as
//!   cargo-fuzz wants it and so that libFuzzer does not become a dependency of Starling.
//!
//! The corpus in `corpus/TARGET/` holds at least one valid input of each kind (`-- seeds` writes these anew after a format
//! changed) and, named `regression-…`, whatever once failed.

mod input;
mod mutate;
mod seeds;
mod targets;

pub use mutate::Mutator;
pub use seeds::seeds;
pub use targets::{TARGETS, Target, target};
