//! Genesis: what all nodes of a network agree on before the first message.
//!
//! # Promises
//! - A [`Genesis`] cannot be wrong: it is made by [`Genesis::new`] (or [`Genesis::from_toml`]), which checks every
//!   field against the constants below. With these, every transaction fits in a block and every block in a mesh frame.
//! - The [network id](Genesis::network_id) is a digest of the *values*. Comments, spacing and the order of fields in
//!   the file do not matter; any other change makes another network.
//! - Networks cannot mix. The id is part of every transaction and block, so a signature made for one network is worth
//!   nothing in another; and it names the topics and the Kademlia protocol, so nodes of different networks do not even
//!   talk.
//!
//! # Slots
//! Slot `s` lasts from `start_time + s * slot_ms` for `slot_ms` milliseconds. Slot 0 belongs to the block that every
//! chain starts from. In every later one a single producer may make a block: producers take turns in the order of the
//! file, producer `s mod n` in slot `s`.
//!
//! # File
//! TOML; unknown fields are refused, so that a misspelt one cannot silently take its default (there are no defaults).
//! [`Genesis::to_toml`] writes one with comments.

pub mod date;

use crate::block::BLOCK_OVERHEAD_BYTES;
use crate::codec;
use crate::id::{BlockId, NetworkId, Topic};
use crate::transaction::TRANSACTION_OVERHEAD_BYTES;
use core::fmt::Write as _;
use core::ops::RangeInclusive;
use serde::{Deserialize, Serialize};
use starling_crypto::{Domain, PublicKey, PublicKeyBytes};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most bytes that any genesis can allow a block, and so the largest payload of any mesh message. A frame of the
/// mesh is allowed 4 MiB and some, which leaves room for what goes with a block in one frame.
pub const BLOCK_BYTES_MAX: u32 = 4 << 20;

/// The most transactions that any genesis can allow a block.
pub const TRANSACTIONS_PER_BLOCK_MAX: u32 = 16_384;

/// The most bits of work that any genesis can ask of a stamp: some minutes on one core.
pub const STAMP_BITS_MAX: u8 = 32;

/// The furthest that any genesis can allow expiry slots to lie ahead. It bounds how long nodes remember senders.
pub const EXPIRY_SLOTS_MAX: u64 = 1_000_000;

/// The widest nonce window that any genesis can allow.
pub const NONCE_WINDOW_MAX: u64 = 4_096;

/// The most producers.
pub const PRODUCERS_MAX: usize = 1_024;

/// The longest name in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Slot lengths that make sense: a block must cross the network within one, and somebody must live to see it.
pub const SLOT_MS_RANGE: RangeInclusive<u64> = 100..=3_600_000;

/// The largest genesis file that is looked at: all producers, each with a comment, and more.
pub const GENESIS_FILE_BYTES_MAX: usize = 1 << 20;

/// The last start time: the end of the year 9999, which is as far as the text form goes.
const START_TIME_MS_MAX: u64 = 253_402_300_799_999;

/// Why a genesis is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// The text is no TOML, or a field is missing, unknown or of the wrong type.
    #[error("the genesis file cannot be read: {0}; correct it there, or get the network's file again")]
    Toml(String),
    /// A field has a value that cannot be.
    #[error("genesis field `{field}`: {problem}")]
    Field {
        /// The field's name, with its table (`limits.payload_bytes_max`).
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

/// Upper bounds, which every node of the network enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Largest payload of a transaction, in bytes.
    pub payload_bytes_max: u32,
    /// Most transactions in a block.
    pub transactions_per_block_max: u32,
    /// Largest block, in bytes of its encoding.
    pub block_bytes_max: u32,
    /// How many slots ahead of the current one a transaction's expiry slot may lie.
    pub expiry_slots_max: u64,
    /// How many transactions of one sender may wait at once: nonces from the sender's next one to this many later are
    /// taken.
    pub nonce_window: u64,
}

impl Default for Limits {
    /// Values for a small network with payloads of some hundred bytes. All are guesses.
    fn default() -> Self {
        Self {
            payload_bytes_max: 16 << 10,
            transactions_per_block_max: 2_048,
            block_bytes_max: 1 << 20,
            expiry_slots_max: 256,
            nonce_window: 64,
        }
    }
}

/// The values of a genesis, not yet checked. What the network id is computed from is the encoding of this structure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenesisParameters {
    /// What people call the network: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// When slot 0 begins, in milliseconds since 1970 (UTC, leap seconds not counted).
    pub start_time_ms: u64,
    /// Length of a slot in milliseconds.
    pub slot_ms: u64,
    /// The public keys of those who make blocks, in the order of their turns.
    pub producers: Vec<PublicKeyBytes>,
    /// Upper bounds.
    pub limits: Limits,
    /// Bits of work that a transaction's stamp must show; 0 asks for none.
    pub stamp_bits: u8,
}

/// A checked genesis and what follows from it. Cloning copies a pointer.
#[derive(Clone, Debug)]
pub struct Genesis(Arc<Checked>);

#[derive(Debug)]
struct Checked {
    parameters: GenesisParameters,
    producers: Vec<PublicKey>,
    network_id: NetworkId,
    block_id: BlockId,
    transaction_topic: Topic,
    block_topic: Topic,
}

impl Genesis {
    /// Checks the parameters.
    ///
    /// # Errors
    /// If a field has a value that cannot be.
    pub fn new(parameters: GenesisParameters) -> Result<Self, GenesisError> {
        check_scalars(&parameters)?;
        check_limits(&parameters.limits)?;
        let producers = check_producers(&parameters.producers)?;
        let network_id = NetworkId(Domain::Network.digest(&codec::encode(&parameters)));
        let short_id = short_id(&network_id);
        Ok(Self(Arc::new(Checked {
            producers,
            network_id,
            block_id: BlockId(Domain::GenesisBlock.digest(network_id.as_bytes())),
            transaction_topic: Topic::new(&format!("{short_id}/t")),
            block_topic: Topic::new(&format!("{short_id}/b")),
            parameters,
        })))
    }

    /// Reads a genesis file.
    ///
    /// # Errors
    /// If it is too large, not TOML, lacks a field, has one too many, or a field has a value that cannot be.
    pub fn from_toml(text: &str) -> Result<Self, GenesisError> {
        if text.len() > GENESIS_FILE_BYTES_MAX {
            let found = text.len();
            return Err(GenesisError::Toml(format!(
                "it has {found} bytes, and no genesis has more than {GENESIS_FILE_BYTES_MAX}; is it the right file?"
            )));
        }
        let file: File =
            toml::from_str(text).map_err(|error| GenesisError::Toml(error.to_string().trim_end().to_owned()))?;
        let start_time_ms = start_time_ms(&file.start_time)?;
        let mut producers = Vec::with_capacity(file.producers.len());
        for (index, key) in file.producers.iter().enumerate() {
            let key = key.parse().map_err(|error| field("producers", format!("entry {}: {error}", index + 1)))?;
            producers.push(key);
        }
        Self::new(GenesisParameters {
            name: file.name,
            start_time_ms,
            slot_ms: file.slot_ms,
            producers,
            limits: file.limits,
            stamp_bits: file.stamp_bits,
        })
    }

    /// The genesis as a file, with comments; reading it gives the same network.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let GenesisParameters { name, start_time_ms, slot_ms, producers, limits, stamp_bits } = self.parameters();
        let mut text = format!(
            "# Genesis of a Starling network. Its values, not its comments, make the network id:\n\
             # {id}\n\
             # Any change to a value makes another network.\n\n\
             # What people call the network.\n\
             name = \"{name}\"\n\n\
             # When slot 0 begins (RFC 3339).\n\
             start_time = {start}\n\n\
             # Length of a slot in milliseconds.\n\
             slot_ms = {slot_ms}\n\n\
             # Bits of work that a transaction's stamp must show; 0 asks for none.\n\
             stamp_bits = {stamp_bits}\n\n\
             # Public keys of those who make blocks, in the order of their turns: slot s belongs to number s mod {n}.\n\
             producers = [\n",
            id = self.network_id(),
            start = date::to_rfc3339(*start_time_ms),
            n = producers.len(),
        );
        for producer in producers {
            let _infallible = writeln!(text, "    \"{producer}\",");
        }
        let Limits { payload_bytes_max, transactions_per_block_max, block_bytes_max, expiry_slots_max, nonce_window } =
            limits;
        let _infallible = write!(
            text,
            "]\n\n\
             [limits]\n\
             # Largest payload of a transaction, in bytes.\n\
             payload_bytes_max = {payload_bytes_max}\n\
             # Most transactions in a block.\n\
             transactions_per_block_max = {transactions_per_block_max}\n\
             # Largest block, in bytes.\n\
             block_bytes_max = {block_bytes_max}\n\
             # How many slots ahead a transaction's expiry slot may lie.\n\
             expiry_slots_max = {expiry_slots_max}\n\
             # How many transactions of one sender may wait at once.\n\
             nonce_window = {nonce_window}\n",
        );
        text
    }

    /// The values it was made from.
    #[must_use]
    pub fn parameters(&self) -> &GenesisParameters {
        &self.0.parameters
    }

    /// What people call the network.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.parameters.name
    }

    /// Upper bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.parameters.limits
    }

    /// Bits of work that a transaction's stamp must show.
    #[must_use]
    pub fn stamp_bits(&self) -> u32 {
        u32::from(self.0.parameters.stamp_bits)
    }

    /// The network's name among machines: a digest of the parameters' encoding.
    #[must_use]
    pub fn network_id(&self) -> NetworkId {
        self.0.network_id
    }

    /// The first eight hex digits of the network id: what stands in topics, on which every message spends bytes.
    /// It keeps networks apart that do not mean harm; the full id in every transaction and block does the rest.
    #[must_use]
    pub fn short_id(&self) -> String {
        short_id(&self.0.network_id)
    }

    /// The id of the block that every chain of this network starts from.
    #[must_use]
    pub fn block_id(&self) -> BlockId {
        self.0.block_id
    }

    /// The topic on which transactions spread.
    #[must_use]
    pub fn transaction_topic(&self) -> &Topic {
        &self.0.transaction_topic
    }

    /// The topic on which blocks spread.
    #[must_use]
    pub fn block_topic(&self) -> &Topic {
        &self.0.block_topic
    }

    /// The name of the network's Kademlia protocol.
    #[must_use]
    pub fn kademlia_protocol(&self) -> String {
        format!("/starling/{}/kad/1", self.short_id())
    }

    /// The slot in which a moment falls, or `None` if it is before slot 0. The moment is in microseconds since 1970.
    #[must_use]
    pub fn slot_at(&self, unix_us: u64) -> Option<u64> {
        let since_start_us = unix_us.checked_sub(self.slot_start(0))?;
        Some(since_start_us / self.slot_us())
    }

    /// When a slot begins, in microseconds since 1970, saturating.
    #[must_use]
    pub fn slot_start(&self, slot: u64) -> u64 {
        // The start time is before the year 10000, far from where this would overflow.
        (self.0.parameters.start_time_ms * 1_000).saturating_add(slot.saturating_mul(self.slot_us()))
    }

    /// Length of a slot in microseconds.
    #[must_use]
    pub fn slot_us(&self) -> u64 {
        self.0.parameters.slot_ms * 1_000
    }

    /// The producer whose turn it is in a slot.
    #[must_use]
    pub fn producer_of(&self, slot: u64) -> &PublicKey {
        let count = self.0.producers.len() as u64;
        let place = usize::try_from(slot % count).expect("a remainder of a length fits");
        &self.0.producers[place]
    }

    /// The producers, in the order of their turns.
    #[must_use]
    pub fn producers(&self) -> &[PublicKey] {
        &self.0.producers
    }
}

impl PartialEq for Genesis {
    fn eq(&self, other: &Self) -> bool {
        self.0.network_id == other.0.network_id
    }
}

impl Eq for Genesis {}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    start_time: toml::Value,
    slot_ms: u64,
    stamp_bits: u8,
    producers: Vec<String>,
    limits: Limits,
}

fn field(field: &'static str, problem: impl Into<String>) -> GenesisError {
    GenesisError::Field { field, problem: problem.into() }
}

fn check_range<T>(name: &'static str, value: T, range: &RangeInclusive<T>) -> Result<(), GenesisError>
where
    T: Copy + PartialOrd + core::fmt::Display,
{
    if range.contains(&value) {
        return Ok(());
    }
    Err(field(name, format!("{value} is not between {} and {}", range.start(), range.end())))
}

fn check_scalars(parameters: &GenesisParameters) -> Result<(), GenesisError> {
    let name = &parameters.name;
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(field("name", format!("{} bytes is not between 1 and {NAME_BYTES_MAX}", name.len())));
    }
    if let Some(odd) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c)) {
        return Err(field("name", format!("{odd:?} is not allowed; use letters, digits, `-`, `_` and `.`")));
    }
    check_range("start_time", parameters.start_time_ms, &(0..=START_TIME_MS_MAX))?;
    check_range("slot_ms", parameters.slot_ms, &SLOT_MS_RANGE)?;
    check_range("stamp_bits", parameters.stamp_bits, &(0..=STAMP_BITS_MAX))
}

fn check_limits(limits: &Limits) -> Result<(), GenesisError> {
    let transactions = limits.transactions_per_block_max;
    check_range("limits.transactions_per_block_max", transactions, &(1..=TRANSACTIONS_PER_BLOCK_MAX))?;
    check_range("limits.expiry_slots_max", limits.expiry_slots_max, &(1..=EXPIRY_SLOTS_MAX))?;
    check_range("limits.nonce_window", limits.nonce_window, &(1..=NONCE_WINDOW_MAX))?;
    check_range("limits.block_bytes_max", limits.block_bytes_max, &(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX))?;
    // The largest transaction must fit in a block, or nobody could ever include it.
    let payload_max = limits.block_bytes_max - BLOCK_BYTES_MIN;
    let payload = limits.payload_bytes_max;
    if payload > payload_max {
        let block = limits.block_bytes_max;
        return Err(field(
            "limits.payload_bytes_max",
            format!("a payload of {payload} bytes does not fit in a block of {block}; at most {payload_max} do"),
        ));
    }
    Ok(())
}

/// The smallest useful block: one transaction without payload.
#[expect(clippy::cast_possible_truncation, reason = "a few hundred")]
const BLOCK_BYTES_MIN: u32 = (BLOCK_OVERHEAD_BYTES + TRANSACTION_OVERHEAD_BYTES) as u32;

fn check_producers(producers: &[PublicKeyBytes]) -> Result<Vec<PublicKey>, GenesisError> {
    if producers.is_empty() || producers.len() > PRODUCERS_MAX {
        let count = producers.len();
        return Err(field("producers", format!("{count} keys, but between 1 and {PRODUCERS_MAX} are needed")));
    }
    let mut places = BTreeMap::new();
    let mut keys = Vec::with_capacity(producers.len());
    for (place, producer) in (1..).zip(producers) {
        if let Some(first) = places.insert(producer, place) {
            return Err(field(
                "producers",
                format!("entries {first} and {place} are the same key {producer}; name each producer once"),
            ));
        }
        keys.push(producer.decompress().map_err(|error| field("producers", format!("entry {place}: {error}")))?);
    }
    Ok(keys)
}

/// Reads a start time as the genesis file has it, an RFC 3339 time with its zone: milliseconds since 1970.
///
/// # Errors
/// If it is none, or not between 1970 and 9999.
pub fn parse_start_time(text: &str) -> Result<u64, GenesisError> {
    start_time_ms(&toml::Value::String(text.to_owned()))
}

/// Reads the start time: an RFC 3339 date and time, quoted or not, or milliseconds since 1970.
fn start_time_ms(value: &toml::Value) -> Result<u64, GenesisError> {
    let problem = || {
        let form = "write an RFC 3339 time with its zone, such as 2027-01-31T12:00:00Z, or milliseconds since 1970";
        field("start_time", format!("{value} is not a moment between 1970 and 9999; {form}"))
    };
    match value {
        toml::Value::Integer(ms) => u64::try_from(*ms).map_err(|_negative| problem()),
        toml::Value::Datetime(moment) => date::from_datetime(moment).ok_or_else(problem),
        toml::Value::String(text) => {
            let moment = text.parse().ok().as_ref().and_then(date::from_datetime);
            moment.ok_or_else(problem)
        }
        _ => Err(problem()),
    }
}

fn short_id(network_id: &NetworkId) -> String {
    let mut text = network_id.to_string();
    text.truncate(8);
    text
}
