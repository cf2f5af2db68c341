//! Transactions: opaque payloads, numbered and signed by their sender.
//!
//! # Digests
//! With `encode` as in [`crate::codec`] and `H` a digest in the named domain (see [`starling_crypto::hash`]):
//!
//! ```text
//! content = H_TransactionContent(encode(body) without its last field, the stamp)
//! work    = H_TransactionStamp  (content ‖ stamp)          leading zero bits >= genesis stamp_bits
//! id      = H_TransactionId     (content ‖ stamp)
//! signed  = H_TransactionSigning(id)                       the sender's signature is over this
//! leaf    = H_MerkleLeaf        (id ‖ signature)           what a block's transaction root commits to
//! ```
//!
//! - The payload is hashed once; everything else is one or two compressions. That makes searching for a stamp
//!   independent of the payload's size.
//! - The id covers the body and not the signature. Whoever relays a transaction can put another signature on it, but
//!   not another valid one (verification is strict), and only the sender could make two valid ones. Under one id there
//!   is therefore one body, and possibly many invalid signatures. **A verdict on a signature must never be remembered
//!   by transaction id**, but by the whole encoding (the mesh's message id, or [`Transaction::leaf`]): otherwise a
//!   spoilt copy that comes first would discredit the good one.
//! - The leaf covers the signature, so that nobody can spoil a signature inside a block and leave the header, and the
//!   blame, to its producer.
//!
//! # Order of checks
//! 1. [`Transaction::decode`]: size, canonical encoding, network, payload size, stamp. Cheap, and needs nothing but the
//!    genesis.
//! 2. [`Transaction::check_expiry`] against the current slot, and the sender's nonce (the mempool's business).
//! 3. [`Transaction::verify_signature`]: expensive, once for each unique message.
//!
//! A transaction that fails 1 or 3 was never valid, whoever sends it is to blame; failing 2 may be a matter of time.

use crate::codec::{self, CodecError};
use crate::genesis::Genesis;
use crate::id::{NetworkId, TransactionId};
use crate::message::Payload;
use bytes::Bytes;
use core::fmt;
use core::ops::Range;
use serde::{Deserialize, Serialize};
use starling_crypto::{Digest, Domain, KeyError, PublicKeyBytes, SecretKey, Signature, SignatureError};
use std::sync::Arc;

/// Bytes of an encoded transaction besides its payload.
pub const TRANSACTION_OVERHEAD_BYTES: usize = PAYLOAD_OFFSET + STAMP_BYTES + Signature::LENGTH;

/// Where the payload begins: network, sender, nonce, expiry slot and the payload's length come first.
const PAYLOAD_OFFSET: usize = 32 + 32 + 8 + 8 + 8;
const STAMP_BYTES: usize = 8;

/// Why a transaction is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The bytes are no transaction.
    #[error("not a transaction: {0}")]
    Encoding(#[from] CodecError),
    /// Made for another network.
    #[error(
        "the transaction is for network {found}, but this is network {expected}; sign it with this network's genesis"
    )]
    Network {
        /// The network that the transaction names.
        found: NetworkId,
        /// The network that it was given to.
        expected: NetworkId,
    },
    /// The payload is larger than the genesis allows.
    #[error("the payload has {found} bytes, but the genesis allows {max}; split it")]
    PayloadTooLong {
        /// Bytes of payload.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The stamp does not show enough work.
    #[error(
        "the stamp shows {found} bits of work, but the genesis asks for {needed}; search for a stamp before signing"
    )]
    Stamp {
        /// Leading zero bits of the work digest.
        found: u32,
        /// Leading zero bits needed.
        needed: u32,
    },
    /// The slot is past the transaction's last.
    #[error(
        "the transaction expired at the end of slot {expiry_slot}, and it is slot {slot}; sign it again with a later one"
    )]
    Expired {
        /// The transaction's last slot.
        expiry_slot: u64,
        /// The current slot, or that of the block.
        slot: u64,
    },
    /// The transaction would live longer than the genesis allows.
    #[error(
        "expiry slot {expiry_slot} is too far ahead: the latest allowed now is {latest}; sign it again with an earlier one"
    )]
    ExpiryTooFar {
        /// The transaction's last slot.
        expiry_slot: u64,
        /// The latest one that would do.
        latest: u64,
    },
    /// The sender is no public key that could have signed.
    #[error("the sender is not acceptable: {0}")]
    Sender(#[from] KeyError),
    /// The signature is not the sender's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// No stamp was found within the number of tries.
    #[error("no stamp of {needed} bits found in {tries} tries; allow more")]
    StampNotFound {
        /// Leading zero bits needed.
        needed: u32,
        /// How many stamps were tried.
        tries: u64,
    },
}

/// What the sender signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionBody {
    /// The network it is for.
    pub network: NetworkId,
    /// Who signs it: an account is a public key.
    pub sender: PublicKeyBytes,
    /// How many transactions of the sender come before it.
    pub nonce: u64,
    /// The last slot whose block may include it.
    pub expiry_slot: u64,
    /// What it says; its meaning is the application's.
    #[serde(with = "codec::byte_string")]
    pub payload: Vec<u8>,
    /// Proof of work, where the genesis asks for it; else any number.
    pub stamp: u64,
}

impl TransactionBody {
    /// The digest of everything but the stamp.
    #[must_use]
    pub fn content(&self) -> Digest {
        let encoded = codec::encode(self);
        Domain::TransactionContent.digest(&encoded[..encoded.len() - STAMP_BYTES])
    }

    /// The id of the transaction with this body.
    #[must_use]
    pub fn id(&self) -> TransactionId {
        id_of(&self.content(), self.stamp)
    }

    /// Searches for a stamp with `bits` bits of work, trying 0 and upwards, and puts it in. The expected number of
    /// tries is 2^`bits`; a try takes well below a microsecond.
    ///
    /// # Errors
    /// If there is none among the first `tries_max` numbers.
    pub fn grind_stamp(&mut self, bits: u32, tries_max: u64) -> Result<(), TransactionError> {
        self.stamp = find_stamp(&self.content(), bits, 0..tries_max)
            .ok_or(TransactionError::StampNotFound { needed: bits, tries: tries_max })?;
        Ok(())
    }

    /// Signs the body as it stands. The key should be the sender's: otherwise the signature is not valid.
    #[must_use]
    pub fn sign(self, key: &SecretKey) -> Transaction {
        let signature = key.sign(&signing_digest(&self.id()));
        Transaction::from_parts(SignedTransaction { body: self, signature })
    }
}

/// A body and its signature: what stands on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedTransaction {
    /// What was signed.
    pub body: TransactionBody,
    /// The sender's signature over the body.
    pub signature: Signature,
}

/// The wire form, its payload borrowed from the bytes it is read from.
#[derive(Serialize, Deserialize)]
pub(crate) struct SignedTransactionRef<'a> {
    network: NetworkId,
    sender: PublicKeyBytes,
    nonce: u64,
    expiry_slot: u64,
    #[serde(borrow, with = "codec::byte_string")]
    payload: &'a [u8],
    stamp: u64,
    signature: Signature,
}

impl SignedTransactionRef<'_> {
    /// Bytes of the encoding.
    pub(crate) fn encoded_len(&self) -> usize {
        TRANSACTION_OVERHEAD_BYTES + self.payload.len()
    }
}

/// A transaction in memory: its fields beside its encoding and its digests, each computed once. Cloning copies a
/// pointer.
///
/// It is well-formed; whether it is valid is for the checks at the head of this module to say.
#[derive(Clone)]
pub struct Transaction(Arc<Decoded>);

struct Decoded {
    network: NetworkId,
    sender: PublicKeyBytes,
    nonce: u64,
    expiry_slot: u64,
    stamp: u64,
    signature: Signature,
    content: Digest,
    id: TransactionId,
    leaf: Digest,
    encoded: Bytes,
}

impl Transaction {
    /// Decodes a transaction and does every check that needs nothing but the genesis and is cheap.
    /// The signature is not verified.
    ///
    /// # Errors
    /// If the bytes are too many or not a canonical encoding; if the transaction is for another network, its payload
    /// too long or its stamp too weak.
    pub fn decode(bytes: impl Into<Bytes>, genesis: &Genesis) -> Result<Self, TransactionError> {
        let payload_max = genesis.limits().payload_bytes_max as usize;
        let transaction = Self::decode_form(&bytes.into(), TRANSACTION_OVERHEAD_BYTES.saturating_add(payload_max))?;
        transaction.check(genesis)?;
        Ok(transaction)
    }

    /// The transaction in a message, with the checks of [`Transaction::decode`]; none if one of them fails. What does not depend on
    /// the genesis is done once for each message.
    #[must_use]
    pub fn in_message(payload: &Payload, genesis: &Genesis) -> Option<Self> {
        let bytes_max = TRANSACTION_OVERHEAD_BYTES.saturating_add(genesis.limits().payload_bytes_max as usize);
        if payload.data().len() > bytes_max {
            return None;
        }
        payload.transaction().filter(|transaction| transaction.check(genesis).is_ok()).cloned()
    }

    /// Decodes a transaction of at most `bytes_max` bytes, without asking whether it suits any network.
    ///
    /// # Errors
    /// If the bytes are too many or not a canonical encoding.
    pub fn decode_form(bytes: &Bytes, bytes_max: usize) -> Result<Self, CodecError> {
        let decoded: SignedTransactionRef<'_> = codec::decode_canonical(bytes, bytes_max)?;
        Ok(Self::with_encoding(&decoded, bytes.clone()))
    }

    /// The transaction with this body and signature, whether it is valid or not.
    #[must_use]
    pub fn from_parts(parts: SignedTransaction) -> Self {
        let encoded = Bytes::from(codec::encode(&parts));
        let SignedTransaction { body, signature } = parts;
        let decoded = SignedTransactionRef {
            network: body.network,
            sender: body.sender,
            nonce: body.nonce,
            expiry_slot: body.expiry_slot,
            payload: &body.payload,
            stamp: body.stamp,
            signature,
        };
        Self::with_encoding(&decoded, encoded)
    }

    /// Takes over a decoded transaction and the bytes that it was decoded from.
    pub(crate) fn with_encoding(decoded: &SignedTransactionRef<'_>, encoded: Bytes) -> Self {
        let unstamped = encoded.len() - Signature::LENGTH - STAMP_BYTES;
        let content = Domain::TransactionContent.digest(&encoded[..unstamped]);
        let id = id_of(&content, decoded.stamp);
        let leaf = Domain::MerkleLeaf.digest_parts(&[id.as_bytes(), decoded.signature.as_ref()]);
        Self(Arc::new(Decoded {
            network: decoded.network,
            sender: decoded.sender,
            nonce: decoded.nonce,
            expiry_slot: decoded.expiry_slot,
            stamp: decoded.stamp,
            signature: decoded.signature,
            content,
            id,
            leaf,
            encoded,
        }))
    }

    /// The checks of [`Transaction::decode`] that come after decoding: network, payload size and stamp.
    ///
    /// # Errors
    /// If one of them fails.
    pub fn check(&self, genesis: &Genesis) -> Result<(), TransactionError> {
        let (found, expected) = (self.0.network, genesis.network_id());
        if found != expected {
            return Err(TransactionError::Network { found, expected });
        }
        let (found, max) = (self.payload().len(), genesis.limits().payload_bytes_max as usize);
        if found > max {
            return Err(TransactionError::PayloadTooLong { found, max });
        }
        let needed = genesis.stamp_bits();
        if needed > 0 && self.stamp_bits() < needed {
            return Err(TransactionError::Stamp { found: self.stamp_bits(), needed });
        }
        Ok(())
    }

    /// Whether a block of `slot` may include it: the slot must be at most the expiry slot, and that at most
    /// `expiry_slots_max` of the genesis later.
    ///
    /// # Errors
    /// If it has expired, or would live too long.
    pub fn check_expiry(&self, slot: u64, genesis: &Genesis) -> Result<(), TransactionError> {
        let expiry_slot = self.0.expiry_slot;
        let latest = slot.saturating_add(genesis.limits().expiry_slots_max);
        if expiry_slot < slot {
            Err(TransactionError::Expired { expiry_slot, slot })
        } else if expiry_slot > latest {
            Err(TransactionError::ExpiryTooFar { expiry_slot, latest })
        } else {
            Ok(())
        }
    }

    /// Verifies that the sender signed it. Takes some tens of microseconds.
    ///
    /// # Errors
    /// If the sender is not a public key to be trusted with signing, or did not sign this.
    pub fn verify_signature(&self) -> Result<(), TransactionError> {
        let sender = self.0.sender.decompress()?;
        Ok(sender.verify(&signing_digest(&self.0.id), &self.0.signature)?)
    }

    /// Its name: a digest of the body, without the signature.
    #[must_use]
    pub fn id(&self) -> TransactionId {
        self.0.id
    }

    /// The bytes of its name, where they stand.
    pub(crate) fn id_bytes(&self) -> &[u8; 32] {
        self.0.id.as_bytes()
    }

    /// What a block's transaction root commits to: a digest of the id and the signature.
    #[must_use]
    pub fn leaf(&self) -> Digest {
        self.0.leaf
    }

    /// The network it is for.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.0.network
    }

    /// Who signed it.
    #[must_use]
    pub fn sender(&self) -> PublicKeyBytes {
        self.0.sender
    }

    /// How many transactions of the sender come before it.
    #[must_use]
    pub fn nonce(&self) -> u64 {
        self.0.nonce
    }

    /// The last slot whose block may include it.
    #[must_use]
    pub fn expiry_slot(&self) -> u64 {
        self.0.expiry_slot
    }

    /// What it says.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.0.encoded[PAYLOAD_OFFSET..self.0.encoded.len() - Signature::LENGTH - STAMP_BYTES]
    }

    /// Its stamp.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        self.0.stamp
    }

    /// How many bits of work its stamp shows.
    #[must_use]
    pub fn stamp_bits(&self) -> u32 {
        work_bits(&self.0.content, self.0.stamp)
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> Signature {
        self.0.signature
    }

    /// Its encoding.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0.encoded
    }

    /// Bytes of its encoding.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.0.encoded.len()
    }

    /// The same transaction in an allocation of its own. One that came in a block shares the whole block's bytes and
    /// keeps them alive; whoever is going to keep the transaction and not the block should keep this.
    #[must_use]
    pub fn detached(&self) -> Self {
        let decoded = &*self.0;
        Self(Arc::new(Decoded { encoded: Bytes::copy_from_slice(&decoded.encoded), ..*decoded }))
    }

    /// Its body and signature, copied out.
    #[must_use]
    pub fn to_parts(&self) -> SignedTransaction {
        let body = TransactionBody {
            network: self.network(),
            sender: self.sender(),
            nonce: self.nonce(),
            expiry_slot: self.expiry_slot(),
            payload: self.payload().to_vec(),
            stamp: self.stamp(),
        };
        SignedTransaction { body, signature: self.signature() }
    }
}

impl PartialEq for Transaction {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.encoded == other.0.encoded
    }
}

impl Eq for Transaction {}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, nonce, bytes) = (self.id(), self.nonce(), self.encoded_len());
        write!(f, "transaction {id:?} (nonce {nonce}, {bytes} bytes)")
    }
}

/// Puts a valid transaction together: network and stamp follow from the genesis, the sender from the key.
#[derive(Clone, Debug)]
pub struct TransactionBuilder {
    genesis: Genesis,
    nonce: u64,
    expiry_slot: u64,
    payload: Vec<u8>,
}

impl TransactionBuilder {
    /// A transaction without payload, number 0 of its sender, which expires after `expiry_slot`.
    #[must_use]
    pub fn new(genesis: &Genesis, expiry_slot: u64) -> Self {
        Self { genesis: genesis.clone(), nonce: 0, expiry_slot, payload: Vec::new() }
    }

    /// Sets how many transactions of the sender come before it.
    #[must_use]
    pub fn nonce(mut self, nonce: u64) -> Self {
        self.nonce = nonce;
        self
    }

    /// Sets what it says.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Searches for a stamp, if the genesis asks for one, and signs. With stamp bits in the twenties this takes
    /// seconds: do it off any event loop.
    ///
    /// # Errors
    /// If the payload is too long, or (with a chance of e^-64) no stamp turned up in 64 times the expected number of
    /// tries.
    pub fn build(self, key: &SecretKey) -> Result<Transaction, TransactionError> {
        let bits = self.genesis.stamp_bits();
        let mut body = self.body(key.public_key().to_bytes())?;
        body.grind_stamp(bits, stamp_tries_max(bits))?;
        Ok(body.sign(key))
    }

    /// What is left to be stamped, if the genesis asks for that, and signed by `sender`.
    ///
    /// # Errors
    /// If the payload is too long.
    pub fn body(self, sender: PublicKeyBytes) -> Result<TransactionBody, TransactionError> {
        let (found, max) = (self.payload.len(), self.genesis.limits().payload_bytes_max as usize);
        if found > max {
            return Err(TransactionError::PayloadTooLong { found, max });
        }
        let (network, nonce, expiry_slot) = (self.genesis.network_id(), self.nonce, self.expiry_slot);
        Ok(TransactionBody { network, sender, nonce, expiry_slot, payload: self.payload, stamp: 0 })
    }
}

/// How many numbers to try before a search for a stamp is given up: 64 times as many as are needed on average, so that a
/// search fails in vain with a chance of e^-64.
#[must_use]
pub fn stamp_tries_max(bits: u32) -> u64 {
    64_u64.checked_shl(bits).unwrap_or(u64::MAX)
}

/// The first of the numbers that, as the stamp of a body with this content ([`TransactionBody::content`]), shows `bits` bits
/// of work. A try takes well below a microsecond.
#[must_use]
pub fn find_stamp(content: &Digest, bits: u32, mut stamps: Range<u64>) -> Option<u64> {
    stamps.find(|stamp| work_bits(content, *stamp) >= bits)
}

fn id_of(content: &Digest, stamp: u64) -> TransactionId {
    TransactionId(Domain::TransactionId.digest_parts(&[content.as_ref(), &stamp.to_le_bytes()]))
}

fn work_bits(content: &Digest, stamp: u64) -> u32 {
    Domain::TransactionStamp.digest_parts(&[content.as_ref(), &stamp.to_le_bytes()]).leading_zero_bits()
}

fn signing_digest(id: &TransactionId) -> Digest {
    Domain::TransactionSigning.digest(id.as_bytes())
}
