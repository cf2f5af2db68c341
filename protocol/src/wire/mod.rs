//! The gossipsub wire format: how RPCs are read and written, and the limits they are held to.
//!
//! An RPC travels as an unsigned-varint length and a protobuf message (libp2p specs, `pubsub/README.md` and
//! `pubsub/gossipsub/gossipsub-v1.{0,1,2}.md`). This module turns such a *frame*, without its length, into an
//! [`Rpc`](crate::rpc::Rpc), and [`Frame`](crate::rpc::Frame)s into the bytes of an RPC.
//!
//! # Promises
//! - **Limits come first.** [`scan`] walks the whole frame without allocating and answers what is in it, or why it is
//!   refused. [`decode`] scans before it allocates anything, so no frame can make it reserve more than [`WireLimits`]
//!   admit.
//! - **One reading.** [`scan`] and [`decode`] are the same walk over the bytes with different listeners: `scan` accepts a
//!   frame if and only if `decode` does.
//! - **No panics**, whatever the bytes. Time is linear in the length of the frame; payloads and unknown fields are skipped
//!   in one step.
//! - **Little copying.** A received message is copied once, into its [`Payload`](crate::message::Payload), and known topics
//!   cost no allocation ([`TopicInterner`]). A large message that is sent is not copied at all: [`EncodedRpc`] is a list of
//!   chunks that share the payload's allocation.
//!
//! # Rules of reading
//! 1. Fields without a meaning here are skipped: gossipsub 1.3 extensions (`ControlMessage.extensions`), partial messages
//!    (`RPC.partial`, `SubOpts.requestsPartial`) and the experimental tags above `0x200000`.
//! 2. As protobuf demands, a scalar that occurs twice has its last value, and a repeated `control` is merged with what came
//!    before it: its lists are concatenated.
//! 3. The whole frame is refused for: a varint of more than 64 bits, field number 0, a length beyond the end, group wire
//!    types (deprecated, unused by pubsub, the only recursion there would be), wire types 6 and 7, a known field in the
//!    wrong wire type, a topic that is not UTF-8, and every limit exceeded.
//!    *Rationale:* nothing of this is sent by a correct implementation, and `prost`, which the stock Rust implementation
//!    reads with, refuses the same but for well-formed groups in unknown fields.
//! 4. **StrictNoSign.** A message in which `from`, `seqno`, `signature` or `key` is present, be it with an empty value, is
//!    counted in [`Rpc::publish_signed`](crate::rpc::Rpc::publish_signed) and not decoded; the rest of the RPC stands.
//!    *Rationale:* the specification wants these fields "absent from the marshalled message, not just empty" and tells the
//!    consumer to reject otherwise. An empty field would also give one message two encodings.
//! 5. An absent topic or absent data is the empty one. *Rationale:* that is protobuf's default; a message on the empty topic
//!    is then a message on a topic nobody joined, which the engine ignores like any other.
//! 6. An absent `subscribe` means false, as in the Go and Rust implementations.
//! 7. Message ids are bytes (some definitions say string). An id of another length than
//!    [`MESSAGE_ID_BYTES`](crate::id::MESSAGE_ID_BYTES) names no message of this network; it is left out and counted.
//! 8. A PRUNE back-off is clamped to [`limits::PRUNE_BACKOFF_SECONDS_MAX`] here, before any arithmetic (CVE-2026-33040,
//!    CVE-2026-34219).
//! 9. Of the peers in one PRUNE the first [`limits::EXCHANGED_PEERS_PER_PRUNE_MAX`] are looked at. A peer whose id is
//!    impossible is skipped; a signed record longer than [`limits::SIGNED_RECORD_BYTES_MAX`] counts as absent.
//!
//! The reading is done by hand rather than by a derived decoder, because a derived decoder allocates every field before
//! anybody can count it. The tests hold it against structures derived by `prost`, in both directions.

mod decode;
mod encode;
mod error;
mod intern;
pub mod limits;
mod reader;
mod scan;
mod shared;

pub use decode::decode;
pub use encode::{
    CONTROL_ID_BYTES, COPY_BYTES_MAX, EncodedRpc, RpcBuilder, encode, graft_len, idontwant_len, ihave_len, iwant_len,
    prune_len, subscription_len,
};
pub use error::{Counted, WireError};
pub use intern::TopicInterner;
pub use limits::WireLimits;
pub use reader::{FramePrefix, read_prefix};
pub use scan::{ScanStats, scan};
pub use shared::{RpcAssembly, SharedRpc};
