//! The walk over a frame that both scanning and decoding are made of.

use super::error::{Counted, WireError};
use super::limits::WireLimits;
use super::reader::Reader;

/// What a frame holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanStats {
    /// Changes of subscription.
    pub subscriptions: u32,
    /// Messages, signed ones included.
    pub publish: u32,
    /// Messages that carry a field which StrictNoSign forbids.
    pub publish_signed: u32,
    /// IHAVE entries.
    pub ihave: u32,
    /// Ids in IHAVEs.
    pub ihave_ids: u32,
    /// Ids in IWANTs.
    pub iwant_ids: u32,
    /// GRAFTs.
    pub graft: u32,
    /// PRUNEs.
    pub prune: u32,
    /// Peers in PRUNEs.
    pub exchanged_peers: u32,
    /// Ids in IDONTWANTs.
    pub idontwant_ids: u32,
}

/// Reads a frame without allocating: what it holds, or why it is refused. `frame` comes without its length prefix.
///
/// # Errors
/// [`WireError`] when the frame is malformed or exceeds a limit; [`super::decode`] then fails in the same way.
pub fn scan(frame: &[u8], limits: &WireLimits) -> Result<ScanStats, WireError> {
    walk(frame, limits, &mut |_item| {})
}

/// One thing in a frame, borrowed from it.
#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
    Subscription { subscribe: bool, topic: &'a str },
    Publish { topic: &'a str, data: &'a [u8] },
    SignedPublish,
    IHave { topic: &'a str, ids: Values<'a> },
    IWant { ids: Values<'a> },
    Graft { topic: &'a str },
    Prune { topic: &'a str, backoff_seconds: Option<u64>, peers: Values<'a> },
    IDontWant { ids: Values<'a> },
}

/// The values of one repeated length-delimited field of a message that was walked before.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    reader: Reader<'a>,
    number: u32,
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        // The message was walked to its end before this iterator was handed out, so no error is left to be met here.
        while let Ok(Some(field)) = self.reader.next() {
            if field.number == self.number {
                return field.bytes("walked").ok();
            }
        }
        None
    }
}

/// Walks the frame, checking everything and telling `visit` each item in the order of the bytes.
pub(super) fn walk<'a>(
    frame: &'a [u8],
    limits: &WireLimits,
    visit: &mut impl FnMut(Item<'a>),
) -> Result<ScanStats, WireError> {
    if frame.len() > limits.frame_bytes_max {
        return Err(WireError::FrameTooLong { len: frame.len(), max: limits.frame_bytes_max });
    }
    let mut walk = Walk { limits, stats: ScanStats::default(), visit };
    let mut fields = Reader::new(frame);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => walk.subscription(field.message("RPC.subscriptions")?)?,
            2 => walk.publish(field.message("RPC.publish")?)?,
            3 => walk.control(field.message("RPC.control")?)?,
            _ => {}
        }
    }
    Ok(walk.stats)
}

struct Walk<'w, F> {
    limits: &'w WireLimits,
    stats: ScanStats,
    visit: &'w mut F,
}

impl<'a, F: FnMut(Item<'a>)> Walk<'_, F> {
    fn subscription(&mut self, mut fields: Reader<'a>) -> Result<(), WireError> {
        count(&mut self.stats.subscriptions, self.limits.subscriptions_max, Counted::Subscriptions)?;
        let (mut subscribe, mut topic) = (false, "");
        while let Some(field) = fields.next()? {
            match field.number {
                1 => subscribe = field.varint("SubOpts.subscribe")? != 0,
                2 => topic = field.topic("SubOpts.topicid", self.limits)?,
                _ => {}
            }
        }
        (self.visit)(Item::Subscription { subscribe, topic });
        Ok(())
    }

    fn publish(&mut self, mut fields: Reader<'a>) -> Result<(), WireError> {
        count(&mut self.stats.publish, self.limits.publish_max, Counted::Publish)?;
        let (mut topic, mut data, mut signed) = ("", &[][..], false);
        while let Some(field) = fields.next()? {
            match field.number {
                2 => data = field.bytes("Message.data")?,
                4 => topic = field.topic("Message.topic", self.limits)?,
                1 | 3 | 5 | 6 => {
                    field.bytes("Message.{from,seqno,signature,key}")?;
                    signed = true;
                }
                _ => {}
            }
        }
        if signed {
            self.stats.publish_signed += 1;
            (self.visit)(Item::SignedPublish);
        } else {
            (self.visit)(Item::Publish { topic, data });
        }
        Ok(())
    }

    fn control(&mut self, mut fields: Reader<'a>) -> Result<(), WireError> {
        while let Some(field) = fields.next()? {
            match field.number {
                1 => self.ihave(field.message("ControlMessage.ihave")?)?,
                2 => {
                    let total = &mut self.stats.iwant_ids;
                    let limit = (self.limits.iwant_ids_max, Counted::IWantIds);
                    let ids = ids(field.message("ControlMessage.iwant")?, total, limit)?;
                    (self.visit)(Item::IWant { ids });
                }
                3 => self.graft(field.message("ControlMessage.graft")?)?,
                4 => self.prune(field.message("ControlMessage.prune")?)?,
                5 => {
                    let total = &mut self.stats.idontwant_ids;
                    let limit = (self.limits.idontwant_ids_max, Counted::IDontWantIds);
                    let ids = ids(field.message("ControlMessage.idontwant")?, total, limit)?;
                    (self.visit)(Item::IDontWant { ids });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn ihave(&mut self, message: Reader<'a>) -> Result<(), WireError> {
        count(&mut self.stats.ihave, self.limits.ihave_max, Counted::IHave)?;
        let mut topic = "";
        let mut fields = message;
        while let Some(field) = fields.next()? {
            match field.number {
                1 => topic = field.topic("ControlIHave.topicID", self.limits)?,
                2 => {
                    field.bytes("ControlIHave.messageIDs")?;
                    count(&mut self.stats.ihave_ids, self.limits.ihave_ids_max, Counted::IHaveIds)?;
                }
                _ => {}
            }
        }
        (self.visit)(Item::IHave { topic, ids: Values { reader: message, number: 2 } });
        Ok(())
    }

    fn graft(&mut self, mut fields: Reader<'a>) -> Result<(), WireError> {
        count(&mut self.stats.graft, self.limits.graft_max, Counted::Graft)?;
        let mut topic = "";
        while let Some(field) = fields.next()? {
            if field.number == 1 {
                topic = field.topic("ControlGraft.topicID", self.limits)?;
            }
        }
        (self.visit)(Item::Graft { topic });
        Ok(())
    }

    fn prune(&mut self, message: Reader<'a>) -> Result<(), WireError> {
        count(&mut self.stats.prune, self.limits.prune_max, Counted::Prune)?;
        let (mut topic, mut backoff_seconds) = ("", None);
        let mut fields = message;
        while let Some(field) = fields.next()? {
            match field.number {
                1 => topic = field.topic("ControlPrune.topicID", self.limits)?,
                2 => {
                    exchanged_peer(field.message("ControlPrune.peers")?)?;
                    count(&mut self.stats.exchanged_peers, self.limits.exchanged_peers_max, Counted::ExchangedPeers)?;
                }
                3 => backoff_seconds = Some(field.varint("ControlPrune.backoff")?),
                _ => {}
            }
        }
        (self.visit)(Item::Prune { topic, backoff_seconds, peers: Values { reader: message, number: 2 } });
        Ok(())
    }
}

/// Reads a `PeerInfo`: the peer's id and its signed record, if there is one.
pub(super) fn exchanged_peer(mut fields: Reader<'_>) -> Result<(&[u8], Option<&[u8]>), WireError> {
    let (mut id, mut signed_record) = (&[][..], None);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => id = field.bytes("PeerInfo.peerID")?,
            2 => signed_record = Some(field.bytes("PeerInfo.signedPeerRecord")?),
            _ => {}
        }
    }
    Ok((id, signed_record))
}

/// Counts the ids of an IWANT or IDONTWANT, whose only field they are.
fn ids<'a>(message: Reader<'a>, total: &mut u32, limit: (u32, Counted)) -> Result<Values<'a>, WireError> {
    let mut fields = message;
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            field.bytes("messageIDs")?;
            count(total, limit.0, limit.1)?;
        }
    }
    Ok(Values { reader: message, number: 1 })
}

fn count(total: &mut u32, max: u32, what: Counted) -> Result<(), WireError> {
    if *total >= max {
        return Err(WireError::TooMany { what, max });
    }
    *total += 1;
    Ok(())
}
