//! A node whose peers are of no use looks for others: rule 12 of [`super`].
//!
//! Whoever has taken nearly all connections of a node, after a start among its addresses for example, keeps them by doing nothing: targets are reached, so
//! nobody is dialled, and the mesh finds out one silent peer after the other and draws the next from the same ones.
//!
//! # Rules
//! 1. A node is *ill served* in a turn (some seconds) in which its meshes have replaced links that brought nothing (`mesh::trial`), or when it suspects that it is
//!    cut off ([`PeerBook::look_now`]). *Rationale:* without attackers hardly a link is ever replaced, and in a network where nobody says anything none is.
//! 2. Then its **acquaintances** that are not connected are sought as after a start (`proven.rs`), until half of all are connected or a turn has passed in
//!    which it was not ill served.
//! 3. And **links of its own choosing make room**: [`RENEWED`] for each that was replaced, [`RENEWED_IN_SILENCE`] when it suspects that it is cut off; of
//!    those that have been *idle* for [`IDLE_TURNS`] turns in a row, those first that have been so for longest, and of these the youngest. As many others are dialled, and if there are not
//!    so many, fewer make room. Trusted peers and bootnodes stay. An idle peer has in that turn neither brought a copy of a recently accepted message
//!    that it did not have from us, nor announced such a message, whether or not we had it by then; turns in a mesh do not count, where it is tried. *Rationale:* an honest peer that is not
//!    in our mesh announces as long as there is anything to say, while each of others may be honest. Stock implementations announce to a quarter of their peers at a time, so where
//!    there is a message in ten seconds and less, one of them may be idle for that long now and then.
//! 4. Who made room is put off like somebody who was sent away. *Rationale:* it would be idle again. It is forgotten no more than others: it may have stood still.
//!
//! What this leaves an attacker: with announcements that cost it little it keeps its connections. It is asked for what it announces first, and pays for what it does not
//! deliver (`mesh::promises`); but announcing what we know already is free.

use super::candidate::State;
use super::{PeerBook, Standing};
use crate::id::{Direction, PeerId};
use crate::time::Time;
use std::cmp::Reverse;

/// Outbound peers that make room for each link of a mesh that was replaced, at most. A guess: as many as it takes for an honest one to be among those that
/// come, where half of all are.
pub const RENEWED: usize = 3;
/// Turns in a row in which a peer that makes room was idle. A guess: half a minute, in which an honest peer has announced something ten times.
pub const IDLE_TURNS: u8 = 5;

/// How many make room when the node suspects that it is cut off. Few, because everybody is idle in a network that stands still.
pub const RENEWED_IN_SILENCE: usize = 2;

/// How the node is served.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    /// How many links meshes had replaced by the last turn.
    replaced: u64,
    /// How many peers may have to make room at the next turn, because the node suspects that it is cut off.
    owed: usize,
    /// Dials for those that made room, beside those that the target asks for.
    pub(super) vacant: usize,
}

impl PeerBook {
    /// A turn is over: meshes have `replaced` links that brought nothing since the start, and `was_of_use` says which connected peers were not idle in
    /// it, and nothing of those that it is not for us to judge. Returns who is to be disconnected.
    pub fn renew(&mut self, now: Time, replaced: u64, was_of_use: impl Fn(&PeerId) -> Option<bool>) -> Vec<PeerId> {
        let news = replaced.saturating_sub(core::mem::replace(&mut self.renewal.replaced, replaced));
        let owed = core::mem::take(&mut self.renewal.owed);
        let most = owed.saturating_add(usize::try_from(news).unwrap_or(usize::MAX).saturating_mul(RENEWED));
        let mut idle: Vec<(Reverse<u8>, Reverse<Time>, PeerId)> = Vec::new();
        self.candidates.change_engaged(|id, candidate| {
            let State::Connected { since, direction, .. } = candidate.state else { return };
            let Some(was_of_use) = was_of_use(id) else { return };
            candidate.idle_turns = if was_of_use { 0 } else { candidate.idle_turns.saturating_add(1) };
            let is_ours = direction == Direction::Outbound && candidate.standing < Standing::Bootnode;
            if is_ours && candidate.idle_turns >= IDLE_TURNS && !candidate.makes_room {
                idle.push((Reverse(candidate.idle_turns), Reverse(since), *id));
            }
        });
        self.renewal.vacant = 0;
        if most == 0 {
            self.is_well_served();
            self.plan();
            return Vec::new();
        }
        self.seek_acquaintances(now, true);
        idle.sort_unstable();
        idle.truncate(most.min(self.others_to_dial(now)));
        let gone: Vec<PeerId> = idle.into_iter().map(|(.., id)| id).collect();
        for id in &gone {
            self.candidates.change(*id, |candidate| candidate.makes_room = true);
        }
        self.renewal.vacant = gone.len().saturating_sub(self.wanted_for(gone.len()));
        self.plan();
        gone
    }

    /// The node suspects that it is cut off. The caller plans.
    pub(super) fn is_ill_served(&mut self, now: Time) {
        self.renewal.owed = RENEWED_IN_SILENCE;
        self.seek_acquaintances(now, true);
    }

    /// Somebody is dialled: in the stead of one that made room if rule 2 does not ask for it.
    pub(super) fn fill_vacancy(&mut self) {
        if self.wanted_for(0) == 0 {
            self.renewal.vacant = self.renewal.vacant.saturating_sub(1);
        }
    }

    /// How many could be dialled now that are not dealt with: those in the book that never were, and those whose back-off is over.
    fn others_to_dial(&mut self, now: Time) -> usize {
        self.note_who_is_in_the_book();
        let (new, tried) = self.book.sizes();
        let never = (new + tried).saturating_sub(self.candidates.counts().in_book);
        never + self.candidates.resting_somewhere().take_while(|(_, it)| it.retry_at <= now).count()
    }
}
