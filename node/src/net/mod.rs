//! Everything that touches the network: transports, the mesh behaviour and discovery.

pub mod emulation;
pub mod transport;
