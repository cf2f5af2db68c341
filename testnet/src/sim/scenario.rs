//! What is to be simulated.

use super::link::WindowModel;
use crate::wan::Profile;
use starling_protocol::time::Duration;

/// A run, wholly described: the same scenario gives the same trace.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// From which everything is drawn.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// Links of each node.
    pub links: usize,
    /// Regions, delays, uplinks.
    pub profile: Profile,
    /// What a node receives in all, in bits a second; none when receiving is not limited.
    pub downlink_bits_per_s: Option<u64>,
    /// Of a million segments, how many are lost and sent again.
    pub loss_ppm: u32,
    /// How the congestion window of a connection behaves; none when it is no limit.
    pub window: Option<WindowModel>,
    /// How long computations take.
    pub cpu: CpuModel,
    /// Messages.
    pub load: Load,
    /// How long the network runs before messages are published.
    pub warm_up: Duration,
    /// How long messages are published.
    pub duration: Duration,
    /// How long the last messages have to arrive.
    pub drain: Duration,
    /// How many producers make blocks; none when zero.
    pub producers: usize,
    /// Length of a slot.
    pub slot: Duration,
    /// Whether every RPC is encoded and decoded rather than shared, which is slow and changes nothing.
    pub encode: bool,
}

/// What is published.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Messages a second, of all publishers together, at regular intervals.
    pub messages_per_s: u32,
    /// Bytes of each message's payload.
    pub payload_bytes: usize,
    /// How many nodes publish, by turns.
    pub publishers: usize,
}

/// How long a node computes. All work of a kind is done one piece after the other.
#[derive(Clone, Copy, Debug)]
pub struct CpuModel {
    /// Taking in an RPC: system calls, decryption, demultiplexing, and the machine itself.
    pub rpc_ns: u64,
    /// Decrypting, copying and hashing, for each byte of an RPC.
    pub byte_ns: u64,
    /// Any other input: a timer, a verdict, a submission.
    pub input_ns: u64,
    /// Verifying a signature, on the verifier's own queue.
    pub signature_ns: u64,
    /// Until a batch is on the disk.
    pub disk: Duration,
}

impl Default for CpuModel {
    /// Guesses for one core of a small server, to be replaced by what a comparison with processes shows.
    fn default() -> Self {
        Self { rpc_ns: 15_000, byte_ns: 3, input_ns: 5_000, signature_ns: 60_000, disk: Duration::from_millis(2) }
    }
}

impl Scenario {
    /// The preset that speed and memory are measured with: 10 messages a second of 2 KiB for 30 s after 15 s of warm-up,
    /// 40 links each.
    #[must_use]
    pub fn scale(nodes: usize, seed: u64) -> Self {
        Self {
            seed,
            nodes,
            links: 40,
            profile: Profile::wan(),
            downlink_bits_per_s: None,
            loss_ppm: 0,
            window: None,
            cpu: CpuModel::default(),
            load: Load { messages_per_s: 10, payload_bytes: 2 << 10, publishers: 64 },
            warm_up: Duration::from_secs(15),
            duration: Duration::from_secs(30),
            drain: Duration::from_secs(5),
            producers: 0,
            slot: Duration::from_secs(2),
            encode: false,
        }
    }
}
