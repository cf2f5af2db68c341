//! Canonical chains in files: export and import.
//!
//! # Format, version 1
//! All numbers are little-endian. Each check is the first eight bytes of the digest, in the domain
//! `starling/export-record/1`, of the check before it (zeros before the first) and the bytes of the record; so a record that is missing, repeated, moved or changed is noticed where it is.
//!
//! ```text
//! header   "starling-export\n" (16 bytes) · version u32 = 1 · network id (32) · first height u64 · check (8)
//! block    0x01 · length u32 · the block's encoding · check (8)                 in ascending height, without gaps
//! end      0x00 · number of blocks u64 · check (8)                              nothing follows
//! ```
//!
//! # Rules of importing
//! 1. Nothing is trusted: encodings, turns, signatures, transaction roots, transactions and nonces are verified as if a
//!    peer had sent the blocks; the checks only find damage.
//! 2. What is there already is passed over, so an import that was interrupted is begun again from the file's start, and
//!    importing twice changes nothing. So is what was pruned: it is verified, and not stored again. Blocks are stored in
//!    batches of [`BATCH_BLOCKS`] or [`BATCH_BYTES`], whichever is reached first.
//! 3. A damaged file is refused with the offset; the blocks before it are stored, they are good.
//!
//! # Limits
//! A file that does not begin at height 1 needs a store that has the block before its first one. Memory: one batch.

use super::error::StoreError;
use super::{Store, StoredBlock};
use starling_crypto::{Domain, Hasher};
use starling_protocol::block::Block;
use starling_protocol::chain::{self, Chain, Effect, Moment, Verified};
use starling_protocol::genesis::{BLOCK_BYTES_MAX, Genesis};
use starling_protocol::id::NetworkId;
use starling_protocol::node::NodeParts;
use starling_protocol::store::Batch;
use starling_protocol::time::Time;
use std::io::{self, Read, Write};

const MAGIC: &[u8; 16] = b"starling-export\n";

/// The version of the format.
pub const VERSION: u32 = 1;

/// Blocks that are stored in one go. A guess.
const BATCH_BLOCKS: usize = 64;

/// Bytes of blocks after which they are stored even if there are fewer. A guess: what one flush takes well.
const BATCH_BYTES: usize = 8 << 20;

const BLOCK: u8 = 1;
const END: u8 = 0;

/// Why an export or import ended early.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be read or written.
    #[error("cannot {doing} the file: {source}; {}", if *.doing == "write" {
        "make room on its disk, or name a file on another one"
    } else {
        "look at the disk that it is on, or get the file again"
    })]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// It is something else.
    #[error("this is no export of starling; give a file that `starling db export` wrote")]
    Foreign,
    /// It was written by a newer version.
    #[error(
        "the file has version {0} of the format, and this version of starling reads {VERSION}; use a newer starling"
    )]
    Version(u32),
    /// It holds another network's chain.
    #[error(
        "the file holds the chain of network {found}, and the genesis is that of {expected}; give the genesis that it belongs to"
    )]
    OtherNetwork {
        /// The network in the file.
        found: NetworkId,
        /// The network of the genesis.
        expected: NetworkId,
    },
    /// It ends too early.
    #[error(
        "the file ends at byte {offset} in the middle: it was cut off. The {imported} blocks before are imported; get the \
         whole file and import it again"
    )]
    Truncated {
        /// Where.
        offset: u64,
        /// Blocks that were read before.
        imported: u64,
    },
    /// Its bytes were changed.
    #[error(
        "the file is damaged at byte {offset}: {problem}. The {imported} blocks before are imported; get the file again and \
         import it"
    )]
    Damaged {
        /// Where the record begins.
        offset: u64,
        /// What is wrong.
        problem: String,
        /// Blocks that were read before.
        imported: u64,
    },
    /// The blocks before it are missing.
    #[error(
        "the file begins at height {first}, and the store ends at {height}; import an export of the blocks before first"
    )]
    Gap {
        /// The file's first height.
        first: u64,
        /// The store's head.
        height: u64,
    },
    /// The chain in the store is another one.
    #[error(
        "block {height} of the file does not fit onto the chain in the store, which has taken another branch; import into \
         an empty data directory"
    )]
    Fork {
        /// The block's height.
        height: u64,
    },
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Transferred {
    /// Blocks in the file.
    pub blocks: u64,
    /// Blocks that were new to the store.
    pub new: u64,
    /// The first height in the file; 0 without blocks.
    pub first: u64,
    /// The last height in the file.
    pub last: u64,
}

/// Writes and reads with a running check.
struct Checked<S> {
    inner: S,
    check: [u8; 8],
    offset: u64,
}

impl<S> Checked<S> {
    fn new(inner: S) -> Self {
        Self { inner, check: [0; 8], offset: 0 }
    }

    fn advance(&mut self, parts: &[&[u8]]) {
        let mut hasher = Hasher::new(Domain::ExportRecord);
        hasher.update(&self.check);
        for part in parts {
            hasher.update(part);
        }
        self.check.copy_from_slice(&hasher.finish().0[..8]);
    }
}

impl<W: Write> Checked<W> {
    fn write(&mut self, parts: &[&[u8]]) -> Result<(), TransferError> {
        self.advance(parts);
        let check = self.check;
        for part in parts.iter().copied().chain([&check[..]]) {
            self.inner.write_all(part).map_err(|source| TransferError::Io { doing: "write", source })?;
        }
        Ok(())
    }
}

impl<R: Read> Checked<R> {
    /// Reads exactly so many bytes.
    fn read(&mut self, count: usize, imported: u64) -> Result<Vec<u8>, TransferError> {
        let mut bytes = vec![0; count];
        self.inner.read_exact(&mut bytes).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => TransferError::Truncated { offset: self.offset, imported },
            _ => TransferError::Io { doing: "read", source },
        })?;
        self.offset += count as u64;
        Ok(bytes)
    }

    /// Reads the check of what was read.
    fn verify(&mut self, start: u64, parts: &[&[u8]], imported: u64) -> Result<(), TransferError> {
        self.advance(parts);
        if self.read(8, imported)? == self.check {
            return Ok(());
        }
        Err(TransferError::Damaged { offset: start, problem: "its check does not match".into(), imported })
    }
}

/// The moment of a block's slot: for a chain that is told of blocks without waiting for anything.
pub(super) fn moment_of(block: &Block) -> Moment {
    let slot = block.header().slot;
    Moment { now: Time::ZERO, slot, slot_ahead: slot }
}

impl Store {
    /// Writes the canonical chain, from the lowest height that is kept.
    ///
    /// # Errors
    /// If the store or the file fails.
    pub fn export(&self, file: impl Write) -> Result<Transferred, TransferError> {
        let (head, earliest) = (self.head()?.map_or(0, |head| head.height), self.earliest()?.unwrap_or(1));
        let mut file = Checked::new(file);
        let version = VERSION.to_le_bytes();
        file.write(&[MAGIC, &version, self.network.as_bytes(), &earliest.to_le_bytes()])?;
        let mut done = Transferred::default();
        for height in earliest..=head {
            let Some(StoredBlock { bytes, .. }) =
                self.canonical(height)?.map(|id| self.block(id)).transpose()?.flatten()
            else {
                let problem = format!("canonical block {height} is missing");
                return Err(StoreError::Damaged { path: self.path.clone(), problem }.into());
            };
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
            file.write(&[&[BLOCK], &length, &bytes])?;
            done.blocks += 1;
            done.first = if done.first == 0 { height } else { done.first };
            done.last = height;
        }
        file.write(&[&[END], &done.blocks.to_le_bytes()])?;
        file.inner.flush().map_err(|source| TransferError::Io { doing: "write", source })?;
        Ok(done)
    }

    /// Reads an export and stores what is new in it.
    ///
    /// # Errors
    /// What is wrong with the file or the store; what was read before it is stored.
    pub fn import(&self, genesis: &Genesis, file: impl Read) -> Result<Transferred, TransferError> {
        let mut file = Checked::new(file);
        let first = read_header(&mut file, genesis)?;
        let mut import = Import::begin(self, genesis, first)?;
        match import.take_all(&mut file, genesis) {
            Ok(()) => {
                import.store()?;
                Ok(import.done)
            }
            // What is good is kept, and its blocks need not be read again.
            Err(error @ TransferError::Store(_)) => Err(error),
            Err(error) => {
                import.store()?;
                Err(error)
            }
        }
    }
}

/// A record after the header.
enum Record {
    Block(Block),
    End { blocks: u64 },
}

/// Reads a record, of which `imported` blocks come before, and verifies what it says by itself.
fn read_record(file: &mut Checked<impl Read>, genesis: &Genesis, imported: u64) -> Result<Record, TransferError> {
    let start = file.offset;
    let damaged = |problem: String| TransferError::Damaged { offset: start, problem, imported };
    let tag = file.read(1, imported)?;
    match tag[0] {
        BLOCK => {
            let length = file.read(4, imported)?;
            let count = u32::from_le_bytes(length[..].try_into().unwrap_or_default());
            if count > BLOCK_BYTES_MAX {
                return Err(damaged(format!("a block of {count} bytes is longer than any")));
            }
            let bytes = file.read(count as usize, imported)?;
            file.verify(start, &[&tag, &length, &bytes], imported)?;
            let block = Block::decode(bytes, genesis).map_err(|error| damaged(error.to_string()))?;
            block.verify_header_signature(genesis).map_err(|error| damaged(error.to_string()))?;
            block.verify_bodies(genesis).map_err(|error| damaged(error.to_string()))?;
            Ok(Record::Block(block))
        }
        END => {
            let count = file.read(8, imported)?;
            file.verify(start, &[&tag, &count], imported)?;
            Ok(Record::End { blocks: u64::from_le_bytes(count[..].try_into().unwrap_or_default()) })
        }
        other => Err(damaged(format!("no record begins with {other:#04x}"))),
    }
}

fn read_header(file: &mut Checked<impl Read>, genesis: &Genesis) -> Result<u64, TransferError> {
    let header = file.read(60, 0).map_err(|error| match error {
        TransferError::Truncated { .. } => TransferError::Foreign,
        other => other,
    })?;
    if header[..16] != MAGIC[..] {
        return Err(TransferError::Foreign);
    }
    let version = u32::from_le_bytes(header[16..20].try_into().unwrap_or_default());
    if version != VERSION {
        return Err(TransferError::Version(version));
    }
    file.verify(0, &[&header], 0)?;
    if header[20..52] != genesis.network_id().as_bytes()[..] {
        let mut found = genesis.network_id();
        found.0.0.copy_from_slice(&header[20..52]);
        return Err(TransferError::OtherNetwork { found, expected: genesis.network_id() });
    }
    Ok(u64::from_le_bytes(header[52..60].try_into().unwrap_or_default()))
}

/// An import under way.
struct Import<'s> {
    store: &'s Store,
    chain: Chain,
    /// The lowest height that the store keeps.
    earliest: u64,
    batches: Vec<Batch>,
    /// Bytes of blocks in them.
    bytes: usize,
    done: Transferred,
}

impl<'s> Import<'s> {
    fn begin(store: &'s Store, genesis: &Genesis, first: u64) -> Result<Self, TransferError> {
        let (mut stored, mut failure) = (store.recent_canonical(NodeParts::restore_depth(genesis))?, None);
        let blocks = std::iter::from_fn(|| stored.next()?.map_err(|error| failure = Some(error)).ok());
        let blocks = blocks.filter_map(|stored| Block::decode(stored.bytes, genesis).ok());
        let chain = Chain::restore(genesis.clone(), chain::Config::default(), blocks);
        if let Some(error) = failure {
            return Err(error.into());
        }
        let chain =
            chain.map_err(|error| StoreError::Damaged { path: store.path.clone(), problem: error.to_string() })?;
        let height = chain.head().height;
        if first > height + 1 {
            return Err(TransferError::Gap { first, height });
        }
        let earliest = store.earliest()?.unwrap_or(1);
        let done = Transferred { first, ..Transferred::default() };
        Ok(Self { store, chain, earliest, batches: Vec::new(), bytes: 0, done })
    }

    /// Takes the blocks of the file, to its end.
    fn take_all(&mut self, file: &mut Checked<impl Read>, genesis: &Genesis) -> Result<(), TransferError> {
        loop {
            let (start, imported) = (file.offset, self.done.blocks);
            let damaged = |problem: String| TransferError::Damaged { offset: start, problem, imported };
            match read_record(file, genesis, imported)? {
                Record::Block(block) => self.take(block, damaged)?,
                Record::End { blocks } if blocks != imported => {
                    return Err(damaged(format!("it says that there are {blocks} blocks, and there are {imported}")));
                }
                Record::End { .. } => {
                    return match file.read(1, imported) {
                        Err(TransferError::Truncated { .. }) => Ok(()),
                        Err(error) => Err(error),
                        Ok(_) => Err(damaged("something follows after the end".into())),
                    };
                }
            }
        }
    }

    fn take(&mut self, block: Block, damaged: impl FnOnce(String) -> TransferError) -> Result<(), TransferError> {
        let (id, height) = (block.id(), block.header().height);
        let expected = self.done.first + self.done.blocks;
        if height != expected {
            return Err(damaged(format!("block {height} stands where block {expected} should")));
        }
        if !self.is_known(&block)? {
            let bytes = block.bytes().len();
            let mut effects = Vec::new();
            self.chain.insert_block(moment_of(&block), block, None, Verified::Valid, &mut effects);
            if self.chain.head().id != id && self.chain.block(&id).is_none() {
                return Err(TransferError::Fork { height });
            }
            self.batches.extend(effects.into_iter().filter_map(|effect| match effect {
                Effect::Persist(batch) => Some(batch),
                _ => None,
            }));
            self.bytes += bytes;
            self.done.new += 1;
        }
        self.done.blocks += 1;
        self.done.last = height;
        if self.batches.len() >= BATCH_BLOCKS || self.bytes >= BATCH_BYTES { self.store() } else { Ok(()) }
    }

    /// Whether the store has, or had before it was pruned, this block.
    fn is_known(&self, block: &Block) -> Result<bool, StoreError> {
        let height = block.header().height;
        if height > self.chain.head().height {
            return Ok(false);
        }
        if height < self.earliest {
            return Ok(true);
        }
        let in_memory = self.chain.block_at(height).map(Block::id);
        Ok(in_memory.or(self.store.canonical(height)?) == Some(block.id()))
    }

    fn store(&mut self) -> Result<(), TransferError> {
        if !self.batches.is_empty() {
            self.store.apply(self.batches.iter().map(|batch| &batch[..]))?;
            self.batches.clear();
            self.bytes = 0;
        }
        Ok(())
    }
}
