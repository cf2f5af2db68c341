//! Silences: how long a node heard nothing from a peer, as far as it noticed.
//!
//! Only silences of half a second and more are kept, and only when somebody asks for them; a run that is listened to has the same trace.

use super::world::World;
use starling_protocol::id::PeerHandle;
use starling_protocol::time::{Duration, Time};
use std::collections::BTreeMap;

/// Shorter silences are none.
const LEAST: Duration = Duration::from_millis(500);

/// A silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Who listened.
    pub node: u32,
    /// To whom.
    pub peer: PeerHandle,
    /// When something was taken in last.
    pub from: Time,
    /// When something was taken in again.
    pub until: Time,
}

/// All silences so far.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    last: BTreeMap<(u32, PeerHandle), Time>,
    ended: Vec<Gap>,
}

impl Gaps {
    pub(super) fn heard(&mut self, now: Time, node: u32, peer: PeerHandle) {
        if let Some(from) = self.last.insert((node, peer), now)
            && now.since(from) >= LEAST
        {
            self.ended.push(Gap { node, peer, from, until: now });
        }
    }
}

impl World {
    /// Takes note of silences from now on.
    pub fn listen_for_gaps(&mut self) {
        self.shared.gaps = Some(Box::default());
    }

    /// The silences since then, those that still last not among them.
    pub fn gaps(&self) -> impl Iterator<Item = Gap> + '_ {
        self.shared.gaps.iter().flat_map(|gaps| gaps.ended.iter().copied())
    }
}
