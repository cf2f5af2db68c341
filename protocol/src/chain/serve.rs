//! Answering peers' requests for blocks: from memory if the blocks are above the root, else through the store.

use super::Chain;
use super::io::{Effect, LoadTicket, ResponseTicket};
use crate::block::Block;
use crate::id::PeerHandle;
use crate::mesh::Sink;
use crate::request::{BLOCKS_MAX, BlockRequest, BlockResponse, EncodedBlock, RESPONSE_BLOCK_BYTES_MAX};
use crate::store::LoadRequest;
use bytes::Bytes;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub(super) struct Serve {
    loads: BTreeMap<LoadTicket, Load>,
    tickets: u64,
}

#[derive(Clone, Debug)]
struct Load {
    peer: PeerHandle,
    ticket: ResponseTicket,
    /// Whether the canonical blocks after a common one were asked for: there are some.
    after: bool,
}

impl Serve {
    pub(super) fn under_way(&self) -> usize {
        self.loads.len()
    }
}

impl Chain {
    /// Answers a peer's request, now or after a load from disk. It is refused if the peer, or all peers together, have
    /// too many answers on their way from disk.
    pub fn on_request(
        &mut self,
        peer: PeerHandle,
        ticket: ResponseTicket,
        request: BlockRequest,
        out: &mut impl Sink<Effect>,
    ) {
        match request {
            BlockRequest::ByHash(id) => match self.tree.get(&id).or_else(|| Some(&self.orphans.get(&id)?.block)) {
                Some(block) => {
                    let blocks = vec![EncodedBlock(block.bytes().to_vec())];
                    self.respond(ticket, blocks, out);
                }
                None => self.load(peer, ticket, LoadRequest::Block(id), out),
            },
            BlockRequest::After { locator, blocks_max, bytes_max } => {
                let blocks_max = blocks_max.min(BLOCKS_MAX);
                let bytes_max = bytes_max.min(RESPONSE_BLOCK_BYTES_MAX);
                let common = locator.iter().find(|id| self.is_canonical(id));
                let common = common.and_then(|id| self.tree.position(id)).map(|position| position.height);
                let whole = self.tree.root().height == 0;
                match common.or(whole.then_some(0)) {
                    Some(height) => {
                        let blocks = self.blocks_after(height, blocks_max, bytes_max);
                        self.respond(ticket, blocks, out);
                    }
                    None => self.load(peer, ticket, LoadRequest::After { locator, blocks_max, bytes_max }, out),
                }
            }
        }
    }

    /// The answer to [`Effect::Load`]: encoded blocks, or none if there are none or the disk failed.
    pub fn on_loaded(&mut self, ticket: LoadTicket, blocks: Vec<Bytes>, out: &mut impl Sink<Effect>) {
        let Some(Load { ticket, after, .. }) = self.serve.loads.remove(&ticket) else { return };
        if after && blocks.is_empty() {
            // The disk failed or lags behind. To say how long our chain is and send nothing would look like a lie.
            out.emit(Effect::Respond { ticket, response: None });
            return;
        }
        let blocks = blocks.into_iter().map(|bytes| EncodedBlock(bytes.to_vec())).collect();
        self.respond(ticket, blocks, out);
    }

    fn blocks_after(&self, height: u64, blocks_max: u16, bytes_max: u32) -> Vec<EncodedBlock> {
        let (mut bytes, mut blocks) = (0, Vec::new());
        let heights = height.saturating_add(1)..=self.head.height;
        for block in heights.map_while(|height| self.block_at(height)).take(usize::from(blocks_max)) {
            bytes += block.encoded_len();
            if bytes > bytes_max as usize && !blocks.is_empty() {
                break;
            }
            blocks.push(EncodedBlock(Block::bytes(block).to_vec()));
        }
        blocks
    }

    fn respond(&self, ticket: ResponseTicket, blocks: Vec<EncodedBlock>, out: &mut dyn Sink<Effect>) {
        out.emit(Effect::Respond { ticket, response: Some(BlockResponse { head: self.head.head(), blocks }) });
    }

    fn load(&mut self, peer: PeerHandle, ticket: ResponseTicket, what: LoadRequest, out: &mut dyn Sink<Effect>) {
        let own = self.serve.loads.values().filter(|load| load.peer == peer).count();
        if self.serve.loads.len() >= self.config.loads_max || own >= self.config.loads_per_peer_max {
            out.emit(Effect::Respond { ticket, response: None });
            return;
        }
        self.serve.tickets += 1;
        let load = LoadTicket(self.serve.tickets);
        let after = matches!(what, LoadRequest::After { .. });
        self.serve.loads.insert(load, Load { peer, ticket, after });
        out.emit(Effect::Load { ticket: load, what });
    }
}
