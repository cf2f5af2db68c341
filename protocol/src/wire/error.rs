//! Why a frame is refused.

use core::fmt;

/// A frame that cannot be read or exceeds a limit. `at` is the byte of the frame where the fault was noticed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The announced or actual frame is too long.
    #[error("the frame has {len} bytes; at most {max} are accepted")]
    FrameTooLong {
        /// Its length; `usize::MAX` when the announced length does not fit a `usize`.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A length prefix that is not the shortest encoding of its number.
    #[error("the frame's length prefix is not a minimal unsigned varint")]
    BadPrefix,
    /// A varint of more than 64 bits.
    #[error("the varint at byte {at} exceeds 64 bits")]
    VarintTooLong {
        /// Where it begins.
        at: usize,
    },
    /// A value reaches beyond the end of what contains it.
    #[error("the field at byte {at} is cut off; its length or value reaches beyond the end")]
    Truncated {
        /// Where the value begins.
        at: usize,
    },
    /// Field number 0, or a key of more than 32 bits.
    #[error("the key at byte {at} has no valid field number; it must be between 1 and 536870911")]
    BadFieldNumber {
        /// Where the key begins.
        at: usize,
    },
    /// A wire type that pubsub does not use.
    #[error("wire type {wire_type} at byte {at} is not accepted; only varint, 64-bit, length-delimited and 32-bit are")]
    BadWireType {
        /// The low three bits of the key: 3 and 4 are groups, 6 and 7 do not exist.
        wire_type: u8,
        /// Where the key begins.
        at: usize,
    },
    /// A known field in another wire type than its own.
    #[error("field {field} at byte {at} has the wrong wire type")]
    WrongWireType {
        /// The field, as in the specification.
        field: &'static str,
        /// Where the value begins.
        at: usize,
    },
    /// A topic that is too long.
    #[error("the topic at byte {at} has {len} bytes; at most {max} are accepted")]
    TopicTooLong {
        /// Where it begins.
        at: usize,
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A topic that is not text.
    #[error("the topic at byte {at} is not UTF-8")]
    TopicNotUtf8 {
        /// Where it begins.
        at: usize,
    },
    /// More of something than one RPC may hold.
    #[error("the RPC holds more than {max} {what}")]
    TooMany {
        /// Of what.
        what: Counted,
        /// The limit.
        max: u32,
    },
}

/// What is counted in an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// Changes of subscription.
    Subscriptions,
    /// Messages.
    Publish,
    /// IHAVE entries.
    IHave,
    /// Ids in IHAVEs.
    IHaveIds,
    /// Ids in IWANTs.
    IWantIds,
    /// GRAFTs.
    Graft,
    /// PRUNEs.
    Prune,
    /// Peers in PRUNEs.
    ExchangedPeers,
    /// Ids in IDONTWANTs.
    IDontWantIds,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subscriptions => "subscriptions",
            Self::Publish => "messages",
            Self::IHave => "IHAVE entries",
            Self::IHaveIds => "ids in IHAVE",
            Self::IWantIds => "ids in IWANT",
            Self::Graft => "GRAFTs",
            Self::Prune => "PRUNEs",
            Self::ExchangedPeers => "exchanged peers",
            Self::IDontWantIds => "ids in IDONTWANT",
        })
    }
}
