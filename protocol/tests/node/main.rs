//! The whole node machine, through its inputs and outputs alone.
//!
//! [`bench`] drives one machine by hand, to see how it judges what a peer sends. [`world`] drives many against each
//! other in virtual time, over links, disks and clocks that misbehave.

mod bench;
mod chaos;
mod clock;
mod disputes;
mod durability;
mod elsewhere;
mod memory;
mod offers;
mod overload;
mod payloads;
mod renewal;
mod rules;
mod spread;
mod submissions;
mod support;
mod world;
