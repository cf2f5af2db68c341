//! What a node machine is made of.

use crate::block::Block;
use crate::chain::{self, Chain, RestoreError};
use crate::genesis::Genesis;
use crate::id::PeerId;
use crate::mempool;
use crate::mesh::{MeshConfig, MeshConfigError, TopicConfig, ValidMeshConfig};
use crate::peers::{PeerConfig, PeerParts};
use crate::time::{Duration, micros};
use starling_crypto::SecretKey;

/// Bounds of the composition itself.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Bounds of the mempool.
    pub mempool: mempool::Config,
    /// Verifications under way at once. A guess: a tenth of a second's work for two cores.
    pub verifications_max: usize,
    /// Bytes of messages and submissions under verification at once, though there may always be one. A guess: some
    /// fifteen of the largest blocks that any genesis allows.
    pub verification_bytes_max: usize,
    /// After so many slots without anything new of the network the node suspects that it is cut off. A guess: with several
    /// producers of which some are down, this many empty slots in a row are rare.
    pub suspect_after_slots: u64,
    /// How long a producer listens in its first turn for another node with its key, before it makes a block. Zero for not at
    /// all; it should be longer than a block takes through the network, and leave time to spread one within the slot.
    pub listen_first: Duration,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            mempool: mempool::Config::default(),
            verifications_max: 4_096,
            verification_bytes_max: 64 << 20,
            suspect_after_slots: 16,
            listen_first: Duration::ZERO,
        }
    }
}

/// How far two honest clocks are apart at most, before one is blamed for what it takes for the present. Whoever's clock
/// is further off than this must expect to be cut off. A guess, on the generous side: blaming too few costs next to
/// nothing.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(60);

/// Everything that a node machine is made of.
#[derive(Debug)]
pub struct NodeParts {
    /// The network.
    pub genesis: Genesis,
    /// Our own peer id.
    pub own_id: PeerId,
    /// Bounds.
    pub config: NodeConfig,
    /// The chain as far as it is stored.
    pub chain: Chain,
    /// The mesh's configuration; its topics are those of the genesis.
    pub mesh: ValidMeshConfig,
    /// Whom to dial, and whom not.
    pub peers: PeerParts,
    /// The key that makes blocks, if this node is a producer.
    pub producer: Option<SecretKey>,
    /// The account that [`super::Input::SubmitPayload`] signs for.
    pub account: Option<SecretKey>,
    /// The slot up to which an earlier life may have signed blocks, as it was stored.
    pub signed_slot: Option<u64>,
}

/// The mesh's topics for this network: blocks go first in every queue, because everybody waits for them.
#[must_use]
pub fn topics(genesis: &Genesis) -> Vec<TopicConfig> {
    vec![
        TopicConfig { topic: genesis.transaction_topic().clone(), priority: false },
        TopicConfig { topic: genesis.block_topic().clone(), priority: true },
    ]
}

/// Why parts do not make a node.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeConfigError {
    /// The mesh's configuration contradicts itself.
    #[error("mesh configuration: {0}")]
    Mesh(#[from] MeshConfigError),
    /// The producer key is not in the genesis.
    #[error(
        "the producer key {key} is not among the producers of network `{network}`; \
         use a key that the genesis file lists, or start without --producer-key"
    )]
    NotAProducer {
        /// The public key that was given.
        key: String,
        /// The network's name.
        network: String,
    },
    /// The stored blocks are no chain.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

impl NodeParts {
    /// A node of this network with default settings and the given target of peers.
    ///
    /// # Errors
    /// When the producer key is not one that the genesis names.
    pub fn new(genesis: Genesis, own_id: PeerId, target_peers: usize) -> Result<Self, NodeConfigError> {
        let mesh = MeshConfig::with_topics(topics(&genesis)).validate()?;
        let mut config = NodeConfig::default();
        // In slots of a tenth of a second, a fixed number of slots is within what clocks differ by.
        let grace_slots = micros(CLOCK_DIFFERENCE_MAX).div_ceil(genesis.slot_us());
        config.mempool.expiry_grace_slots = config.mempool.expiry_grace_slots.max(grace_slots);
        Ok(Self {
            chain: Chain::new(genesis.clone(), chain::Config::default()),
            genesis,
            own_id,
            config,
            mesh,
            peers: PeerConfig::for_target(target_peers).into(),
            producer: None,
            account: None,
            signed_slot: None,
        })
    }

    /// The same node with a chain that ends with these stored canonical blocks: at least the last
    /// [`Self::restore_depth`], or all.
    ///
    /// # Errors
    /// When the blocks do not follow on each other.
    pub fn with_stored_blocks(mut self, blocks: impl IntoIterator<Item = Block>) -> Result<Self, NodeConfigError> {
        self.chain = Chain::restore(self.genesis.clone(), chain::Config::default(), blocks)?;
        Ok(self)
    }

    /// How many of the last canonical blocks a node needs to go on where it stopped.
    #[must_use]
    pub fn restore_depth(genesis: &Genesis) -> u64 {
        Chain::restore_depth(genesis, &chain::Config::default())
    }

    /// The same node as a producer of blocks.
    ///
    /// # Errors
    /// When the genesis does not name the key.
    pub fn with_producer(mut self, key: SecretKey) -> Result<Self, NodeConfigError> {
        let public = key.public_key();
        if !self.genesis.producers().contains(&public) {
            let (key, network) = (public.to_string(), self.genesis.name().to_owned());
            return Err(NodeConfigError::NotAProducer { key, network });
        }
        self.producer = Some(key);
        Ok(self)
    }
}
