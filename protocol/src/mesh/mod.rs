//! The gossipsub mesh engine.

mod io;
mod topic;

pub use io::{Arrival, DisconnectReason, Event, Input, Output, PruneReason, Sink, ValidationTicket, Verdict};
pub use topic::{TOPICS_MAX, TopicIndex, TopicSet, TopicTable};
