//! Keeping peers out: what the driver is asked, and the JSON of its answers.

use super::{ApiError, Command, NodeHandle, Refusal, Reply};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_protocol::peers::address::{Subnet, SubnetError};
use starling_protocol::peers::bans::{Ban, BanTarget};
use std::time::Duration;

/// How long a ban holds unless told otherwise: a day.
pub const BAN_DEFAULT: Duration = Duration::from_secs(86_400);

/// The longest ban, a hundred years: so that no clock overflows.
pub const BAN_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What the driver can be asked about bans.
#[derive(Debug)]
pub enum BanCommand {
    /// Keep somebody out. Whoever it is about is disconnected at once.
    Ban {
        /// Whom.
        target: BanTarget,
        /// For how long from now.
        duration: Duration,
        /// Why, in the operator's words.
        reason: String,
        /// Answered when the ban is on the disk.
        reply: Reply<Result<BanReply, Refusal>>,
    },
    /// Let somebody in again.
    Unban {
        /// Whom.
        target: BanTarget,
        /// Answered when that is on the disk.
        reply: Reply<Result<UnbanReply, Refusal>>,
    },
    /// All bans.
    List {
        /// In the order of their targets.
        reply: Reply<Vec<BanReply>>,
    },
}

/// One ban, as `admin_ban` and `admin_bans` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BanReply {
    /// A peer id, an IP address or a subnet.
    pub target: String,
    /// When it ends, in seconds of Unix time.
    pub until_unix_s: u64,
    /// How long that is from now.
    pub remaining_s: u64,
    /// Why, in the operator's words.
    pub reason: String,
}

impl BanReply {
    /// The reply about a ban at this moment.
    #[must_use]
    pub fn new(ban: Ban, unix_s: u64) -> Self {
        let Ban { target, until_unix_s, reason } = ban;
        Self { target: target_text(&target), until_unix_s, remaining_s: until_unix_s.saturating_sub(unix_s), reason }
    }
}

/// Answer of `admin_unban`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnbanReply {
    /// Whom it was about.
    pub target: String,
    /// Whether there was such a ban.
    pub was_banned: bool,
}

/// Why text names nobody who could be banned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is no address, and no peer id either.
    #[error(
        "{0:?} is neither a peer id, an IP address nor a subnet; give one such as 12D3KooW…, 192.0.2.7 or 192.0.2.0/24"
    )]
    Form(String),
    /// It is nearly a subnet.
    #[error(transparent)]
    Subnet(SubnetError),
}

/// Reads who is meant: a peer id, an IP address, or a subnet in CIDR notation.
///
/// # Errors
/// If it is none of these.
pub fn parse_target(text: &str) -> Result<BanTarget, TargetError> {
    let peer = text.parse::<libp2p::PeerId>().ok();
    if let Some(id) = peer.and_then(|id| crate::net::network::to_protocol_id(&id)) {
        return Ok(BanTarget::Peer(id));
    }
    text.parse::<Subnet>().map(BanTarget::Addresses).map_err(|error| match error {
        SubnetError::Form(text) => TargetError::Form(text),
        other => TargetError::Subnet(other),
    })
}

/// A target as [`parse_target`] reads it.
#[must_use]
pub fn target_text(target: &BanTarget) -> String {
    match target {
        BanTarget::Addresses(subnet) => subnet.to_string(),
        BanTarget::Peer(id) => {
            libp2p::PeerId::from_bytes(id.as_bytes()).map_or_else(|_| format!("{id:?}"), |id| id.to_string())
        }
    }
}

impl NodeHandle {
    /// Keeps somebody out. Answered when the ban is on the disk and those whom it is about are being disconnected.
    pub async fn ban(&self, target: BanTarget, duration: Duration, reason: String) -> Result<BanReply, ApiError> {
        Ok(self.ask(|reply| Command::Bans(BanCommand::Ban { target, duration, reason, reply })).await??)
    }

    /// Lets somebody in again.
    pub async fn unban(&self, target: BanTarget) -> Result<UnbanReply, ApiError> {
        Ok(self.ask(|reply| Command::Bans(BanCommand::Unban { target, reply })).await??)
    }

    /// All bans.
    pub async fn bans(&self) -> Result<Vec<BanReply>, ApiError> {
        self.ask(|reply| Command::Bans(BanCommand::List { reply })).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_they_are_written() {
        for text in
            ["12D3KooWHyku2BBBqEaCYPbayhhTne15vYwV3P7YFTLrwVb2dmo4", "192.0.2.7", "192.0.2.0/24", "2001:db8::/32"]
        {
            assert_eq!(target_text(&parse_target(text).expect("a target")), text);
        }
        for (text, remedy) in [("example.org", "give one such as"), ("192.0.2.1/24", "the subnet is 192.0.2.0/24")] {
            let error = parse_target(text).expect_err("no target").to_string();
            assert!(error.contains(remedy), "{error}");
        }
    }
}
