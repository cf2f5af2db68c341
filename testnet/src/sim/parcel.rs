//! RPCs on their way.

use starling_protocol::memory::Fetch;
use starling_protocol::rpc::{Frame, Rpc};
use starling_protocol::send_queue::SendQueue;
use starling_protocol::time::Time;
use starling_protocol::wire::{self, EncodedRpc, RpcAssembly, SharedRpc, TopicInterner, WireLimits};
use std::rc::Rc;
use std::sync::Arc;

/// An RPC as its receiver decodes it, charged at its length on the wire. Shared by all who are sent the same.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) rpc: Rpc,
    /// Length prefix included.
    pub(super) wire_bytes: u32,
}

/// How RPCs are made: shared, or encoded and decoded.
#[derive(Debug)]
pub(super) enum Carrier {
    /// What was said is handed over as it is.
    Shared,
    /// What was said is encoded and decoded. Slow, and the same.
    Encoded {
        /// What the receiver accepts.
        limits: WireLimits,
        /// Topics known to everybody.
        topics: TopicInterner,
    },
}

impl Carrier {
    /// The RPC that an empty send queue gives for this one frame.
    pub(super) fn single(&self, frame: &Frame) -> Parcel {
        match self {
            Self::Shared => {
                let mut rpc = SharedRpc::default();
                rpc.frame(frame);
                Parcel::shared(rpc)
            }
            Self::Encoded { limits, topics } => Parcel::decoded(&wire::encode([frame]), limits, topics),
        }
    }

    /// The next RPC of a queue.
    pub(super) fn pop(&self, queue: &mut SendQueue, now: Time) -> Option<Parcel> {
        /// As real nodes ask for.
        const RPC_BYTES_WANTED: usize = 32 << 10;
        match self {
            Self::Shared => queue.pop_shared(now, RPC_BYTES_WANTED).map(Parcel::shared),
            Self::Encoded { limits, topics } => {
                queue.pop(now, RPC_BYTES_WANTED).map(|encoded| Parcel::decoded(&encoded, limits, topics))
            }
        }
    }
}

impl Parcel {
    /// Has all of it fetched but what it points at; see [`super::World`]'s reading ahead.
    pub(super) fn fetch(&self, fetch: &mut impl Fetch) {
        fetch.value(&self.wire_bytes);
        fetch.value(&self.rpc.publish);
        fetch.value(&self.rpc.idontwant);
        fetch.value(&self.rpc.subscriptions);
    }

    fn shared(rpc: SharedRpc) -> Self {
        let wire_bytes = u32::try_from(rpc.wire_len()).unwrap_or(u32::MAX);
        Self { rpc: rpc.into_rpc(), wire_bytes }
    }

    fn decoded(encoded: &EncodedRpc, limits: &WireLimits, topics: &TopicInterner) -> Self {
        let bytes = encoded.to_vec();
        let prefix = bytes.iter().take_while(|byte| **byte >= 0x80).count() + 1;
        let rpc =
            wire::decode(&bytes[prefix..], limits, topics).expect("what a machine says is within everybody's limits");
        Self { rpc, wire_bytes: u32::try_from(encoded.len).unwrap_or(u32::MAX) }
    }
}

/// RPCs of single frames, made once for all nodes where that is cheap to see: nearly all that is sent carries one message or says IDONTWANT
/// of one, and these are the same whoever sends them. What a receiver looks at is then in the processor's caches already.
#[derive(Debug)]
pub(super) struct Parcels {
    pub(super) carrier: Carrier,
    /// The last one for each place; see [`place_of`].
    recent: [Option<(Frame, Rc<Parcel>)>; PLACES],
}

/// Few enough that what they keep alive does not matter, and more than there are messages under way at usual loads.
const PLACES: usize = 128;

impl Parcels {
    pub(super) fn new(carrier: Carrier) -> Self {
        Self { carrier, recent: [const { None }; PLACES] }
    }

    /// The RPC that an empty send queue gives for this one frame.
    pub(super) fn single(&mut self, frame: &Frame) -> Rc<Parcel> {
        let place = place_of(frame).filter(|_| matches!(self.carrier, Carrier::Shared));
        let Some(place) = place else { return Rc::new(self.carrier.single(frame)) };
        let recent = &mut self.recent[place];
        if let Some((known, parcel)) = recent
            && same(known, frame)
        {
            return Rc::clone(parcel);
        }
        let parcel = Rc::new(self.carrier.single(frame));
        *recent = Some((frame.clone(), Rc::clone(&parcel)));
        parcel
    }
}

/// Where the RPC of a frame may be kept: by its kind and what the message's id begins with.
fn place_of(frame: &Frame) -> Option<usize> {
    let (kind, id) = match frame {
        Frame::Publish { payload, .. } => (0, payload.id()),
        Frame::IDontWant(ids) => (1, *ids.first()?),
        _ => return None,
    };
    Some((usize::from(id.as_bytes()[0]) * 2 + kind) % PLACES)
}

/// Whether two frames make the same RPC, as far as that is cheap to say.
pub(super) fn same(a: &Frame, b: &Frame) -> bool {
    match (a, b) {
        (Frame::Publish { payload: a, .. }, Frame::Publish { payload: b, .. }) => Arc::ptr_eq(a, b),
        (Frame::IDontWant(a), Frame::IDontWant(b)) => Arc::ptr_eq(a, b),
        (Frame::IHave { topic: a, ids: b }, Frame::IHave { topic: c, ids: d }) => a == c && Arc::ptr_eq(b, d),
        _ => false,
    }
}
