//! The gossipsub mesh engine.

pub mod backoff;
pub mod cache;
mod io;
pub mod promises;
pub mod score;
pub mod seen;
mod topic;

pub use io::{Arrival, DisconnectReason, Event, Input, Output, PruneReason, Sink, ValidationTicket, Verdict};
pub use topic::{TOPICS_MAX, TopicIndex, TopicSet, TopicTable};
