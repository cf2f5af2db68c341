//! What inputs are going to look at, for drivers of many nodes.
//!
//! The memory of thousands of nodes does not fit into the processor's caches. A driver that has several inputs at hand has fetched, for all of
//! them, what each is going to touch, before it hands in the first. Where that is depends on what is found on the way there, so it takes
//! steps: first the machine itself ([`Node::fetch`]), and later step 0 for all inputs, then step 1, and so on up to [`FETCH_STEPS`]. Each step reads what
//! the one before has had fetched. Nothing is changed, nothing is decided, and what is left out or fetched in vain costs time only.

use super::Node;
use super::verifications::Verification;
use crate::id::PeerHandle;
use crate::memory::Fetch;
use crate::rpc::Rpc;
use crate::time::Time;

/// How many steps there are.
pub const FETCH_STEPS: u8 = 3;

impl Node {
    /// Has fetched what the handling of any input looks at of the machine itself, without looking at it.
    pub fn fetch(&self, fetch: &mut impl Fetch) {
        fetch.value(&self.others_wake);
        fetch.value(&self.silence);
        fetch.value(&self.verifications);
        self.mesh.fetch(fetch);
    }

    /// Has fetched what the handling of this RPC looks at.
    pub fn fetch_rpc(&self, step: u8, peer: PeerHandle, rpc: &Rpc, fetch: &mut impl Fetch) {
        self.mesh.fetch_rpc(step, peer, rpc, fetch);
    }

    /// Has fetched what the next verdict looks at, if it is about a transaction that came over the mesh.
    pub fn fetch_verdict(&self, step: u8, fetch: &mut impl Fetch) {
        let next = self.verifications.first(step, fetch);
        let Some(Verification::Relay { validation, candidate, peer }) = next else {
            if step == 0 {
                self.mesh.fetch_verdict(step, None, fetch);
                self.mempool.fetch(None, fetch);
            }
            return;
        };
        self.mesh.fetch_verdict(step, Some((*validation, *peer)), fetch);
        if step == 1 {
            self.mempool.fetch(Some(&candidate.transaction), fetch);
        }
    }

    /// Has fetched what a wake up to this time looks at.
    pub fn fetch_wake(&self, step: u8, until: Time, fetch: &mut impl Fetch) {
        if step == 0 {
            self.mesh.fetch_wake(until, fetch);
        }
    }
}
