//! The chain, seen from outside: fork choice and nonces against a naive chain, reorganisations, blame, and catching up with
//! simulated peers in virtual time.

mod basics;
mod chaos;
mod leading;
mod lockstep;
mod manners;
mod model;
mod producers;
mod support;
mod syncing;
mod world;
