//! Whom the operator keeps out, and until when.
//!
//! # Rules
//! 1. A ban is about a peer id or about the addresses of a subnet (a single address is a subnet of itself). It ends at a moment of wall
//!    time, because it outlives the process.
//! 2. A ban of the same target replaces the former one, also by an earlier end.
//! 3. A ban is in force while the wall clock has not reached its end. Without a wall clock all are in force: keeping somebody out for too
//!    long does less harm.
//! 4. Nothing that a remote does adds a ban. What a peer's behaviour costs it is the business of its score.
//!
//! # Bounds
//! At most [`BANS_MAX`]; expired ones are dropped first, and one too many is refused. Whether an address is banned costs one look at
//! each ban, at most that many; it is asked once per connection.
//!
//! The file is laid out in `docs/PROTOCOL.md`.

use super::address::Subnet;
use super::sealed::{FileError, Kind};
use crate::codec;
use crate::id::PeerId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Bans kept at most. A guess: whoever needs more should ask a firewall.
pub const BANS_MAX: usize = 4_096;

/// Longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 256;

/// Longest file that is looked at.
pub const FILE_BYTES_MAX: usize = 4 << 20;

const FILE: Kind = Kind { what: "list of bans", magic: *b"starbans", version: 1 };

/// Who is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BanTarget {
    /// A peer, wherever it is.
    Peer(PeerId),
    /// Everybody at these addresses.
    Addresses(Subnet),
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Who.
    pub target: BanTarget,
    /// When it ends, in seconds of Unix time.
    pub until_unix_s: u64,
    /// Why, in the operator's words; at most [`REASON_BYTES_MAX`] bytes.
    pub reason: String,
}

/// Why a ban is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BanError {
    /// There are too many.
    #[error("there are {BANS_MAX} bans already; remove some, or ban a whole subnet")]
    Full,
    /// The reason is too long.
    #[error("the reason has {0} bytes; use at most {REASON_BYTES_MAX}")]
    Reason(usize),
}

/// The bans in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BanList {
    bans: BTreeMap<BanTarget, (u64, String)>,
}

impl BanList {
    /// Adds or replaces a ban.
    ///
    /// # Errors
    /// When there are too many, or the reason is too long.
    pub fn ban(&mut self, ban: Ban, unix_s: Option<u64>) -> Result<(), BanError> {
        if ban.reason.len() > REASON_BYTES_MAX {
            return Err(BanError::Reason(ban.reason.len()));
        }
        self.expire(unix_s);
        if self.bans.len() >= BANS_MAX && !self.bans.contains_key(&ban.target) {
            return Err(BanError::Full);
        }
        self.bans.insert(ban.target, (ban.until_unix_s, ban.reason));
        Ok(())
    }

    /// Ends a ban; false when there was none.
    pub fn unban(&mut self, target: BanTarget) -> bool {
        self.bans.remove(&target).is_some()
    }

    /// Drops what has ended; true if anything had.
    pub fn expire(&mut self, unix_s: Option<u64>) -> bool {
        let before = self.bans.len();
        self.bans.retain(|_, (until, _)| in_force(*until, unix_s));
        self.bans.len() < before
    }

    /// Whether this peer or this address is banned.
    #[must_use]
    pub fn is_banned(&self, id: Option<PeerId>, ip: Option<IpAddr>, unix_s: Option<u64>) -> bool {
        let by_id = id.and_then(|id| self.bans.get(&BanTarget::Peer(id)));
        let by_id = by_id.is_some_and(|(until, _)| in_force(*until, unix_s));
        by_id
            || ip.is_some_and(|ip| {
                self.bans.iter().any(|(target, (until, _))| {
                    matches!(target, BanTarget::Addresses(subnet) if subnet.contains(ip)) && in_force(*until, unix_s)
                })
            })
    }

    /// All bans, in the order of their targets.
    pub fn iter(&self) -> impl Iterator<Item = Ban> {
        self.bans.iter().map(|(target, (until_unix_s, reason))| Ban {
            target: *target,
            until_unix_s: *until_unix_s,
            reason: reason.clone(),
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bans.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bans.is_empty()
    }

    /// The file that holds this list.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let records: Vec<Record> = self.iter().map(Record::from).collect();
        FILE.seal(&codec::encode(&records))
    }

    /// Reads a file written by [`Self::to_file`].
    ///
    /// # Errors
    /// If it is damaged or of another version.
    pub fn from_file(bytes: &[u8]) -> Result<Self, FileError> {
        let body = FILE.open(bytes)?;
        let wrong = |what: &str| FileError::Content(what.to_owned());
        let records: Vec<Record> =
            codec::decode_canonical(body, FILE_BYTES_MAX).map_err(|error| FileError::Content(error.to_string()))?;
        if records.len() > BANS_MAX {
            return Err(wrong("there are too many bans"));
        }
        let mut bans = BTreeMap::new();
        for record in records {
            let ban = record.into_ban().ok_or_else(|| wrong("a ban has an impossible target or reason"))?;
            if bans.last_key_value().is_some_and(|(last, _)| *last >= ban.target) {
                return Err(wrong("the bans are not in order"));
            }
            bans.insert(ban.target, (ban.until_unix_s, ban.reason));
        }
        Ok(Self { bans })
    }
}

fn in_force(until_unix_s: u64, unix_s: Option<u64>) -> bool {
    unix_s.is_none_or(|now| now < until_unix_s)
}

#[derive(Serialize, Deserialize)]
struct Record {
    target: TargetRecord,
    until_unix_s: u64,
    reason: String,
}

#[derive(Serialize, Deserialize)]
enum TargetRecord {
    Peer(#[serde(with = "codec::byte_string")] Vec<u8>),
    V4([u8; 4], u8),
    V6([u8; 16], u8),
}

impl From<Ban> for Record {
    fn from(ban: Ban) -> Self {
        let target = match ban.target {
            BanTarget::Peer(id) => TargetRecord::Peer(id.as_bytes().to_vec()),
            BanTarget::Addresses(subnet) => match subnet.base() {
                IpAddr::V4(ip) => TargetRecord::V4(ip.octets(), subnet.prefix_bits()),
                IpAddr::V6(ip) => TargetRecord::V6(ip.octets(), subnet.prefix_bits()),
            },
        };
        Self { target, until_unix_s: ban.until_unix_s, reason: ban.reason }
    }
}

impl Record {
    fn into_ban(self) -> Option<Ban> {
        // A subnet with bits behind its prefix would be written otherwise, so it is not canonical.
        let exact = |ip: IpAddr, bits: u8| {
            let subnet = Subnet::new(ip, u32::from(bits)).ok()?;
            (subnet.base() == ip && subnet.prefix_bits() == bits).then_some(BanTarget::Addresses(subnet))
        };
        let target = match self.target {
            TargetRecord::Peer(bytes) => BanTarget::Peer(PeerId::from_bytes(&bytes)?),
            TargetRecord::V4(octets, bits) => exact(octets.into(), bits)?,
            TargetRecord::V6(octets, bits) => exact(octets.into(), bits)?,
        };
        (self.reason.len() <= REASON_BYTES_MAX).then_some(Ban {
            target,
            until_unix_s: self.until_unix_s,
            reason: self.reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> BanTarget {
        BanTarget::Addresses(text.parse().expect("a subnet"))
    }

    fn ban(target: BanTarget, until_unix_s: u64) -> Ban {
        Ban { target, until_unix_s, reason: "because".to_owned() }
    }

    #[test]
    fn a_ban_holds_for_its_target_until_it_ends() {
        let mut bans = BanList::default();
        let peer = PeerId::from_number(1);
        bans.ban(ban(BanTarget::Peer(peer), 100), Some(0)).expect("room");
        bans.ban(ban(net("192.0.2.0/24"), 200), Some(0)).expect("room");
        let inside = "192.0.2.9".parse().ok();
        let outside = "192.0.3.9".parse().ok();
        assert!(bans.is_banned(Some(peer), outside, Some(99)));
        assert!(!bans.is_banned(Some(peer), outside, Some(100)), "it has ended");
        assert!(bans.is_banned(None, inside, Some(199)) && !bans.is_banned(None, inside, Some(200)));
        assert!(!bans.is_banned(Some(PeerId::from_number(2)), outside, Some(0)));
        assert!(bans.is_banned(Some(peer), outside, None), "without a clock all are in force");
        assert!(!bans.expire(Some(99)) && bans.expire(Some(100)));
        assert_eq!(bans.len(), 1);
        assert!(bans.unban(net("192.0.2.0/24")) && !bans.unban(net("192.0.2.0/24")) && bans.is_empty());
    }

    #[test]
    fn a_full_list_refuses_and_an_expired_ban_makes_room() {
        let mut bans = BanList::default();
        for number in 0..BANS_MAX as u64 {
            bans.ban(ban(BanTarget::Peer(PeerId::from_number(number)), 10 + number), Some(0)).expect("room");
        }
        let more = ban(net("192.0.2.1"), 1_000);
        assert_eq!(bans.ban(more.clone(), Some(9)), Err(BanError::Full));
        bans.ban(ban(BanTarget::Peer(PeerId::from_number(0)), 11), Some(9)).expect("replaced");
        bans.ban(more, Some(11)).expect("two have ended");
        let long = Ban { reason: "x".repeat(257), ..ban(net("192.0.2.1"), 1_000) };
        assert_eq!(bans.ban(long, Some(11)), Err(BanError::Reason(257)));
    }

    fn target() -> impl Strategy<Value = BanTarget> {
        prop_oneof![
            any::<u64>().prop_map(|number| BanTarget::Peer(PeerId::from_number(number))),
            (any::<IpAddr>(), 0..=32u32)
                .prop_map(|(ip, bits)| { BanTarget::Addresses(Subnet::new(ip, bits).expect("short enough")) }),
        ]
    }

    proptest! {
        #[test]
        fn a_file_gives_back_the_list(targets in prop::collection::vec((target(), any::<u64>(), ".{0,60}"), 0..20)) {
            let mut bans = BanList::default();
            for (target, until_unix_s, reason) in targets {
                let _too_long = bans.ban(Ban { target, until_unix_s, reason }, None);
            }
            let file = bans.to_file();
            prop_assert_eq!(BanList::from_file(&file), Ok(bans));
        }
    }
}
