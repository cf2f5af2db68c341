//! Limits on what a peer may put into one RPC.
//!
//! They bound the memory that one decoded RPC can take; how often a peer may send is the engine's business. None of them is
//! below what a correct implementation with its default configuration sends.

use crate::genesis::BLOCK_BYTES_MAX;

/// A PRUNE back-off is clamped to this many seconds at decode (CVE-2026-33040, CVE-2026-34219).
pub const PRUNE_BACKOFF_SECONDS_MAX: u64 = 3_600;

/// Peers looked at in one PRUNE. go-libp2p-pubsub and rust-libp2p offer 16 (`PrunePeers`), js-libp2p decodes no more.
pub const EXCHANGED_PEERS_PER_PRUNE_MAX: usize = 16;

/// A longer signed peer record counts as absent. An envelope with an ed25519 key and a dozen addresses has about 500 bytes;
/// the number is a guess with ample room.
pub const SIGNED_RECORD_BYTES_MAX: usize = 4_096;

/// The longest frame within a Starling network: the largest block that a genesis can admit, its topic, the control that
/// travels with it, and [`FRAME_HEADROOM_BYTES`], with room to spare. (go-libp2p-pubsub: 1 MiB, rust-libp2p: 64 KiB,
/// Lighthouse: 10 MiB.)
pub const FRAME_BYTES_MAX: usize = BLOCK_BYTES_MAX as usize + 64 * 1024;

/// Towards a stock rust-libp2p peer a frame must stay this far below that peer's maximum: its codec compares the whole
/// read buffer, which may already hold the beginning of the next frame (8 KiB of read-ahead), with the maximum.
pub const FRAME_HEADROOM_BYTES: usize = 8 * 1024;

/// rust-libp2p closes the substream when subscriptions and control of one RPC exceed this (`max_control_message_size`).
pub const CONTROL_BYTES_PER_RPC_MAX: usize = 16 * 1024;

/// rust-libp2p refuses RPCs with more messages than this (`max_publish_messages`).
pub const PUBLISH_PER_RPC_MAX: u32 = 500;

/// go-libp2p-pubsub reads only so many ids of the IDONTWANTs in one RPC (`MaxIDontWantLength`) and silently forgets the
/// others.
pub const IDONTWANT_IDS_PER_RPC_MAX: usize = 10;

/// What one received RPC may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// Bytes of the frame, without its length prefix.
    pub frame_bytes_max: usize,
    /// Bytes of one topic.
    pub topic_bytes_max: usize,
    /// Changes of subscription.
    pub subscriptions_max: u32,
    /// Messages.
    pub publish_max: u32,
    /// Entries of IHAVE, each with its topic.
    pub ihave_max: u32,
    /// Message ids in all IHAVEs together.
    pub ihave_ids_max: u32,
    /// Message ids in all IWANTs together.
    pub iwant_ids_max: u32,
    /// GRAFTs.
    pub graft_max: u32,
    /// PRUNEs.
    pub prune_max: u32,
    /// Peers offered by all PRUNEs together.
    pub exchanged_peers_max: u32,
    /// Message ids in all IDONTWANTs together.
    pub idontwant_ids_max: u32,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self {
            frame_bytes_max: FRAME_BYTES_MAX,
            // A guess: the topics of Ethereum have about 50 bytes, ours fewer than 30.
            topic_bytes_max: 256,
            // A guess: an Ethereum node joins fewer than 200 topics, and all may come in its first RPC.
            subscriptions_max: 512,
            publish_max: PUBLISH_PER_RPC_MAX,
            // A guess, like those for GRAFT and PRUNE: one for each topic that two peers share.
            ihave_max: 128,
            // go-libp2p-pubsub puts at most 5000 ids (`MaxIHaveLength`) into an IHAVE of a topic; two topics.
            ihave_ids_max: 10_000,
            // go-libp2p-pubsub asks a peer for at most `MaxIHaveLength` messages in a heartbeat.
            iwant_ids_max: 5_000,
            graft_max: 128,
            prune_max: 128,
            // 16 for each of 32 topics left at once.
            exchanged_peers_max: 512,
            // js-libp2p decodes 512; go-libp2p-pubsub honours 10 in an RPC.
            idontwant_ids_max: 1_000,
        }
    }
}
