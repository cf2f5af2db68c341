//! The gossipsub wire format: protobuf RPCs and the limits they are held to.

pub mod limits;
