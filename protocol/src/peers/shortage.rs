//! More peers while those that there are leave the mesh short of links: rule 2 of [`super`].

use super::PeerBook;
use crate::time::Time;

/// How many more peers are sought when a mesh stays short of links.
pub const SHORTAGE_STEP: usize = 2;

/// How the mesh fares with the peers that there are.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    /// Peers sought beyond the target.
    pub(super) extra: usize,
    /// Since when the mesh has been short of links with the target reached, or since the last step.
    pub(super) short_since: Option<Time>,
    /// Since when it has had its links.
    pub(super) content_since: Option<Time>,
}

impl PeerBook {
    /// Learns whether the mesh of some topic is short of links. To be told every heartbeat or so.
    pub fn mesh_is_short(&mut self, now: Time, short: bool) {
        let reached = short && self.candidates.counts().connected >= self.target();
        let shortage = &mut self.shortage;
        if !short {
            shortage.short_since = None;
            let since = *shortage.content_since.get_or_insert(now);
            if shortage.extra > 0 && now.since(since) >= self.config.shortage_relief {
                shortage.extra = 0;
                self.plan();
            }
            return;
        }
        shortage.content_since = None;
        if !reached {
            shortage.short_since = None;
        } else if now.since(*shortage.short_since.get_or_insert(now)) >= self.config.shortage_patience {
            shortage.short_since = Some(now);
            shortage.extra = (shortage.extra + SHORTAGE_STEP).min(self.config.target_peers / 2);
            self.plan();
        }
    }

    /// How many peers are sought at present.
    pub(super) fn target(&self) -> usize {
        self.config.target_peers + self.shortage.extra
    }
}
