//! A network in virtual time.

mod effects;
mod link;
mod machine;
pub mod observe;
pub mod queue;
pub mod scenario;
pub mod topology;
pub mod trace;
mod verify;
mod world;

pub use scenario::Scenario;
pub use world::{EventCounts, World};
