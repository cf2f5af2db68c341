//! The gossipsub mesh engine.

mod io;

pub use io::{Arrival, DisconnectReason, Event, Input, Output, PruneReason, Sink, ValidationTicket, Verdict};
