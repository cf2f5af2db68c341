//! Measuring how messages spread: from what each node wrote down to deliveries and statistics.
//!
//! - [`trace`] reads the event lines of one node (`docs/TRACE.md` has the format).
//! - [`Recorder`] joins the events of all nodes by message.
//! - [`Deliveries`] is the outcome: for every message and every node, when and how it came.
//! - [`statistics`] condenses them: exact quantiles, copies, bytes, hops, each beside its lower bound.
//!
//! # Definitions
//! - `t0` is when the origin's engine handles the publish. **Arrival** is when a node has decoded the first copy, and
//!   **acceptance** when that node's validation has said yes. Latency is arrival minus `t0`.
//! - All times are microseconds of one monotonic clock, which all processes of a host share, so differences
//!   between nodes are exact. A simulator feeds its virtual time.
//! - A **delivery** is the arrival of one message at one node other than its origin through the mesh, pushed to it or pulled
//!   by it, before the drain ends. What a node saw only inside a block is counted apart. **Expected** is the number of
//!   messages times the number of other nodes, and coverage is deliveries over expected.
//! - A block counts when its `t0` is inside the load window, a transaction when it was submitted inside it: what was published
//!   while the network was still starting, or during the drain, does not.
//! - **Copies** are all receptions of a message's payload, first ones and duplicates, those that reach its origin
//!   included: they cost as much. At best there is one copy for each delivery.
//! - Quantiles are exact, by nearest rank on all deliveries: no buckets, no sampling.

mod deliveries;
mod ready;
mod recorder;
pub mod statistics;
pub mod trace;

pub use deliveries::{ABSENCE_US, Arrival, Deliveries, Message, Outcome, Reception};
pub use ready::Readiness;
pub use recorder::{Activity, Recorder, Window};
pub use statistics::{ClassStatistics, Quantiles};
pub use trace::{Class, Counters, Event, How};
