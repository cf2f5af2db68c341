//! What sits in a node's place: an honest machine, or whatever an attack puts there.
//!
//! Both see the same [`Input`]s and say the same [`Output`]s, at the boundary that the real node's driver serves. So an attack knows and
//! can do what a peer on the network knows and can do, no more; it pays for links, computing and verification like anybody
//! else; and what is written for the simulator can stand in a process, in place of the machine.

use super::effects::Effects;
use super::world::key;
use starling_crypto::{PublicKeyBytes, SecretKey};
use starling_protocol::id::PeerId;
use starling_protocol::mesh::Sink;
use starling_protocol::node::{Input, Node, Output};
use starling_protocol::time::Time;
use std::fmt;
use std::net::IpAddr;

/// Somebody who plays by other rules, in the place of a node machine.
///
/// # What comes in
/// First [`Input::WallClock`], when it starts. Then what a machine is told: `Connected` once a dial of either side has succeeded,
/// `Disconnected` once that is over, `Rpc` for what peers say, and one answer for each output that asks for one.
///
/// # What goes out
/// Whatever a machine may say. `Dial` goes to anybody whose id is known, addresses need not be given; the same peer can be dialled
/// again after `Disconnected` or `DialFailed`. RPCs leave by the send queue of the connection and take the time that their bytes take.
/// `Event`s are not looked at: what attackers see counts for nothing.
pub trait Adversary: fmt::Debug {
    /// Takes in what happened. `now` never runs backwards.
    fn handle(&mut self, now: Time, input: Input<'_>, out: &mut dyn Sink<Output>);

    /// Does what is due at `now`. It may be called when nothing is.
    fn on_wake(&mut self, now: Time, out: &mut dyn Sink<Output>);

    /// When it wants to be woken next; looked at after every call of the other two.
    fn next_wake(&self) -> Option<Time>;

    /// Whether anybody is there to be dialled: its process may have ended.
    fn is_there(&self) -> bool {
        true
    }
}

/// Somebody who takes part from outside of the honest network: see [`super::World::with_adversaries`].
#[derive(Debug)]
pub struct Recruit {
    /// What it does.
    pub adversary: Box<dyn Adversary>,
    /// When it starts.
    pub starts: Time,
    /// Where it seems to be; its own address if none is given. Several may share one.
    pub ip: Option<IpAddr>,
}

/// What is known to whoever makes adversaries.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The seed of the run.
    pub seed: u64,
    /// The network.
    pub genesis: &'a starling_protocol::genesis::Genesis,
    /// The honest nodes, by their numbers.
    pub honest: &'a [PeerId],
    /// The nodes that publish, by their numbers.
    pub publishers: &'a [u32],
    /// Keys of producers that no honest node has.
    pub absent: &'a [SecretKey],
    /// The slot in which time zero lies.
    pub first_slot: u64,
    /// The number of the first recruit; the others follow. [`super::peer_id`] gives their ids.
    pub first: u32,
}

impl Setting<'_> {
    /// The account for which a node signs what it publishes.
    #[must_use]
    pub fn account(&self, node: u32) -> PublicKeyBytes {
        key(self.seed, "account", node as usize).public_key().to_bytes()
    }

    /// A key that no node has, by its number.
    #[must_use]
    pub fn stranger(&self, number: u32) -> SecretKey {
        key(self.seed, "stranger", number as usize)
    }
}

/// Who acts in a node's place.
///
/// The tag comes first, so that reading it reads what stands before the machine, too.
#[derive(Debug)]
#[repr(u32)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are nodes, and one more pointer on each event would cost more"
)]
pub(super) enum Actor {
    /// Nobody: the process does not run.
    Nobody,
    /// The machine that real nodes run.
    Node(Node),
    /// An attacker.
    Adversary(Box<dyn Adversary>),
}

impl Actor {
    pub(super) fn node(&self) -> Option<&Node> {
        match self {
            Self::Node(node) => Some(node),
            Self::Nobody | Self::Adversary(_) => None,
        }
    }

    pub(super) fn node_mut(&mut self) -> Option<&mut Node> {
        match self {
            Self::Node(node) => Some(node),
            Self::Nobody | Self::Adversary(_) => None,
        }
    }

    pub(super) fn handle(&mut self, now: Time, input: Input<'_>, out: &mut Effects<'_>) {
        match self {
            Self::Node(node) => node.handle(now, input, out),
            Self::Adversary(adversary) => adversary.handle(now, input, out),
            Self::Nobody => {}
        }
    }

    pub(super) fn on_wake(&mut self, now: Time, out: &mut Effects<'_>) {
        match self {
            Self::Node(node) => node.on_wake(now, out),
            Self::Adversary(adversary) => adversary.on_wake(now, out),
            Self::Nobody => {}
        }
    }

    /// Whether whoever dials it finds somebody.
    pub(super) fn is_there(&self) -> bool {
        match self {
            Self::Node(_) => true,
            Self::Adversary(adversary) => adversary.is_there(),
            Self::Nobody => false,
        }
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        match self {
            Self::Node(node) => node.next_wake().map(|(at, _)| at),
            Self::Adversary(adversary) => adversary.next_wake(),
            Self::Nobody => None,
        }
    }
}
