//! The Starling node: all the input and output around [`starling_protocol`]'s machines.
//!
//! The library is what the binary `starling` and the testnet tool share. It translates and does not decide: libp2p events,
//! RPC requests and disk results become inputs of the protocol's machine, its outputs become IO.

pub mod api;
mod bounded;
pub mod cli;
pub mod clock;
pub mod config;
pub mod driver;
mod files;
pub mod keyfile;
pub mod metrics;
pub mod net;
pub mod notify;
mod remedy;
pub mod rpc;
pub mod service;
pub mod storage;
pub mod telemetry;
pub mod trace;
pub mod workers;
