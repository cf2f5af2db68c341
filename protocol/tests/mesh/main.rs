//! Tests of the mesh engine through its inputs and outputs alone.
//!
//! Most names are those of go-libp2p-pubsub's tests of the same behaviour, so that the two can be compared.

mod advisories;
mod answers;
mod attacks;
mod bench;
mod gossip;
mod idontwant;
mod lifecycle;
mod membership;
mod network;
mod newcomers;
mod proven;
mod scoring;
mod sent_away;
mod spread;
mod standstill;
mod trial_awaited;
mod trial_late;
mod trial_link;
mod trial_outcomes;
mod trials;
mod useful;
