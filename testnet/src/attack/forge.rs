//! Blocks that nobody signed.
//!
//! A forged block looks like the one that is due: it is of the present slot, names the producer whose turn it is, and follows the last block that was
//! heard of an earlier slot. So nothing about it is wrong but the signature, which is looked at last. Each differs from the others
//! in its signature only, as it would cost its maker least.

use starling_crypto::{SecretKey, Signature, merkle};
use starling_protocol::block::{Block, HEADER_BYTES, Header, SignedHeader};
use starling_protocol::genesis::Genesis;
use starling_protocol::id::BlockId;
use starling_protocol::message::Payload;
use starling_protocol::time::{Time, micros};
use std::sync::Arc;

/// Makes blocks under the names of producers.
#[derive(Clone, Debug)]
pub(super) struct Forger {
    genesis: Genesis,
    /// Signs what it should not.
    key: Box<SecretKey>,
    /// What time it is by the wall clock at time zero; none until it was told.
    unix_us_at_zero: Option<u64>,
    /// Slot, height and name of the last blocks that were heard, the latest slot first.
    heard: [(u64, u64, BlockId); 2],
    /// The last forgery, encoded, and its slot.
    model: Option<(u64, Vec<u8>)>,
}

impl Forger {
    pub(super) fn new(genesis: &Genesis, key: SecretKey) -> Self {
        let first = (0, 0, genesis.block_id());
        Self { genesis: genesis.clone(), key: Box::new(key), unix_us_at_zero: None, heard: [first; 2], model: None }
    }

    /// Takes in what time it is.
    pub(super) fn tell_time(&mut self, unix_us_at_zero: u64) {
        self.unix_us_at_zero = Some(unix_us_at_zero);
    }

    /// Takes in what came on the topic of blocks.
    pub(super) fn hear(&mut self, payload: &Payload) {
        let Ok(SignedHeader { header, .. }) = SignedHeader::of_block(payload.data(), &self.genesis) else { return };
        if header.slot > self.heard[0].0 {
            self.heard = [(header.slot, header.height, header.id()), self.heard[0]];
            self.model = None;
        }
    }

    /// The next forgery; none before the first slot.
    pub(super) fn next(&mut self, now: Time, fresh: impl FnOnce(&mut [u8])) -> Option<Arc<Payload>> {
        let slot = self.genesis.slot_at(self.unix_us_at_zero? + micros(now.since(Time::ZERO)))?;
        if self.model.as_ref().is_none_or(|(of, _)| *of != slot) {
            let (_, height, parent) = *self.heard.iter().find(|(heard, ..)| *heard < slot)?;
            self.model = Some((slot, self.forge(slot, height + 1, parent)));
        }
        let (_, model) = self.model.as_mut()?;
        // The signature stands behind the header. Its second half says what the first has to be, so that all of it is computed.
        fresh(&mut model[HEADER_BYTES..HEADER_BYTES + Signature::LENGTH / 2]);
        Some(Payload::new(self.genesis.block_topic(), model))
    }

    fn forge(&self, slot: u64, height: u64, parent: BlockId) -> Vec<u8> {
        let header = Header {
            network: self.genesis.network_id(),
            slot,
            height,
            parent,
            transaction_root: merkle::root([]),
            transaction_count: 0,
            producer: self.genesis.producer_of(slot).to_bytes(),
        };
        Block::from_parts(header.sign(&self.key), Vec::new()).bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_protocol::block::BlockError;
    use starling_protocol::genesis::{GenesisParameters, Limits};

    #[test]
    fn nothing_is_wrong_with_a_forged_block_but_its_signature() {
        let producers = [1, 2].map(|number| SecretKey::from_seed(&[number; 32]));
        let genesis = Genesis::new(GenesisParameters {
            name: "forged".into(),
            start_time_ms: 50,
            slot_ms: 1_000,
            producers: producers.iter().map(|key| key.public_key().to_bytes()).collect(),
            limits: Limits::default(),
            stamp_bits: 0,
        })
        .expect("a valid genesis");
        let mut forger = Forger::new(&genesis, SecretKey::from_seed(&[9; 32]));
        let mut number = 0;
        let mut next = |forger: &mut Forger, at_ms| {
            number += 1;
            let payload = forger.next(Time::from_millis(at_ms), |bytes| bytes[0] = number)?;
            let block = Block::decode(payload.data().to_vec(), &genesis).expect("well formed");
            let error = block.verify_header_signature(&genesis).expect_err("forged");
            assert!(matches!(error, BlockError::Signature(_)), "{error}");
            Some((payload.id(), block))
        };
        assert_eq!(next(&mut forger, 3_100), None, "it does not know what time it is");
        forger.tell_time(0);
        assert_eq!(next(&mut forger, 20), None, "no slot has begun");
        let (name, first) = next(&mut forger, 3_100).expect("a block");
        assert_eq!((first.header().slot, first.header().height, first.header().parent), (3, 1, genesis.block_id()));
        let (other, again) = next(&mut forger, 3_200).expect("a block");
        assert!(name != other && first.id() == again.id(), "another message each time");
        // It goes on with what it hears, as whoever makes a block has to.
        for (slot, height) in [(3_u64, 1), (4, 2)] {
            let producer =
                &producers[usize::from(genesis.producer_of(slot).to_bytes() != producers[0].public_key().to_bytes())];
            let block = Block::produce(&genesis, producer, (slot, height, genesis.block_id()), Vec::new());
            let block = block.expect("a valid block");
            forger.hear(&Payload::new(genesis.block_topic(), block.bytes()));
            let (_, forged) = next(&mut forger, 4_100).expect("a block");
            assert_eq!((forged.header().slot, forged.header().height), (4, 2), "after {slot}");
            let (_, forged) = next(&mut forger, 5_100).expect("a block");
            assert_eq!((forged.header().height, forged.header().parent), (height + 1, block.id()));
        }
    }
}
