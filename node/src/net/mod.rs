//! Everything that touches the network.
//!
//! [`network::Network`] is what the driver uses, through a [`port::Port`]; the rest is behind it: `swarm` puts together the transports
//! ([`transport`], [`names`], [`confined`], [`emulation`], [`muxer`], [`paced`]) and the behaviours ([`limits`], [`mesh`], [`discovery`], [`blocks`], [`external`] and `introduction`).

pub mod blocks;
pub mod confined;
pub mod discovery;
pub mod emulation;
pub mod external;
pub(crate) mod introduction;
pub mod limits;
pub mod mesh;
pub mod muxer;
pub mod names;
pub mod network;
pub mod paced;
pub mod peer_record;
pub mod port;
pub(crate) mod swarm;
mod telemetry;
pub mod transport;
