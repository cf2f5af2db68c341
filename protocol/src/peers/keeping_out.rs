//! The operator's bans and the clock that they end by: rule 9 of [`super`].

use super::PeerBook;
use super::address::ip_of;
use super::bans::{Ban, BanError, BanList, BanTarget};
use crate::id::PeerId;
use crate::time::Time;
use std::net::IpAddr;

impl PeerBook {
    /// Takes in the wall clock, in which bans end.
    pub fn set_wall_clock(&mut self, unix_us_at_zero: u64) {
        self.unix_us_at_zero = Some(unix_us_at_zero);
    }

    /// Bans a peer or a subnet: whoever it is about is forgotten and not dialled. The caller disconnects those that are connected.
    ///
    /// # Errors
    /// When the list of bans does not take it.
    pub fn ban(&mut self, now: Time, ban: Ban) -> Result<(), BanError> {
        let target = ban.target;
        let unix_s = self.unix_s(now);
        self.bans.ban(ban, unix_s)?;
        let matches = |id, ip: Option<IpAddr>| match target {
            BanTarget::Peer(banned) => banned == id,
            BanTarget::Addresses(subnet) => ip.is_some_and(|ip| subnet.contains(ip)),
        };
        self.book.forget_if(matches);
        let anchors = self.book.anchors().iter();
        let kept: Vec<PeerId> = anchors
            .filter(|anchor| !matches(anchor.id, anchor.addresses.first().and_then(ip_of)))
            .map(|anchor| anchor.id)
            .collect();
        self.book.set_anchors(&kept);
        let known = self.book.acquaintances().iter().map(|(id, it)| (*id, it.addresses.first().and_then(ip_of)));
        let gone: Vec<PeerId> = known.filter(|(id, ip)| matches(*id, *ip)).map(|(id, _)| id).collect();
        for id in gone {
            self.book.acquaintances_mut().forget(&id);
        }
        self.unsaved = true;
        self.plan();
        Ok(())
    }

    /// Ends a ban; false when there was none.
    pub fn unban(&mut self, target: BanTarget) -> bool {
        let ended = self.bans.unban(target);
        self.plan();
        ended
    }

    /// The bans.
    #[must_use]
    pub fn bans(&self) -> &BanList {
        &self.bans
    }

    /// Drops bans that have ended; true if there were any.
    pub fn expire_bans(&mut self, now: Time) -> bool {
        let unix_s = self.unix_s(now);
        let ended = self.bans.expire(unix_s);
        self.plan();
        ended
    }

    /// Whether a peer at this address is banned now.
    #[must_use]
    pub fn is_banned(&self, now: Time, id: PeerId, ip: Option<IpAddr>) -> bool {
        self.bans.is_banned(Some(id), ip, self.unix_s(now))
    }

    /// Unix time in seconds, if it is known.
    #[must_use]
    pub fn unix_s(&self, now: Time) -> Option<u64> {
        Some(self.unix_us_at_zero?.saturating_add(now.as_micros()) / 1_000_000)
    }
}
