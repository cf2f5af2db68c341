//! The RPC of gossipsub as structures derived by `prost`, 1.3 extensions and partial messages included, and what our
//! decoder must understand from them, written down a second time.

use proptest::prelude::*;
use starling_protocol::id::{MessageId, PeerId, Topic};
use starling_protocol::message::Payload;
use starling_protocol::rpc;
use starling_protocol::wire::WireError;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Rpc {
    #[prost(message, repeated, tag = "1")]
    pub subscriptions: Vec<SubOpts>,
    #[prost(message, repeated, tag = "2")]
    pub publish: Vec<Message>,
    #[prost(message, optional, tag = "3")]
    pub control: Option<ControlMessage>,
    #[prost(message, optional, tag = "10")]
    pub partial: Option<Partial>,
    #[prost(bytes = "vec", optional, tag = "6492434")]
    pub test_extension: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SubOpts {
    #[prost(bool, optional, tag = "1")]
    pub subscribe: Option<bool>,
    #[prost(string, optional, tag = "2")]
    pub topic: Option<String>,
    #[prost(bool, optional, tag = "3")]
    pub requests_partial: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub from: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub data: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub seqno: Option<Vec<u8>>,
    #[prost(string, optional, tag = "4")]
    pub topic: Option<String>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub signature: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "6")]
    pub key: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ControlMessage {
    #[prost(message, repeated, tag = "1")]
    pub ihave: Vec<ControlIHave>,
    #[prost(message, repeated, tag = "2")]
    pub iwant: Vec<Ids>,
    #[prost(message, repeated, tag = "3")]
    pub graft: Vec<ControlGraft>,
    #[prost(message, repeated, tag = "4")]
    pub prune: Vec<ControlPrune>,
    #[prost(message, repeated, tag = "5")]
    pub idontwant: Vec<Ids>,
    #[prost(message, optional, tag = "6")]
    pub extensions: Option<ControlExtensions>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ControlIHave {
    #[prost(string, optional, tag = "1")]
    pub topic: Option<String>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub ids: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ids {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub ids: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ControlGraft {
    #[prost(string, optional, tag = "1")]
    pub topic: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ControlPrune {
    #[prost(string, optional, tag = "1")]
    pub topic: Option<String>,
    #[prost(message, repeated, tag = "2")]
    pub peers: Vec<PeerInfo>,
    #[prost(uint64, optional, tag = "3")]
    pub backoff: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ControlExtensions {
    #[prost(bool, optional, tag = "10")]
    pub partial_messages: Option<bool>,
    #[prost(bool, optional, tag = "6492434")]
    pub test_extension: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PeerInfo {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub id: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub signed_record: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Partial {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub topic: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub message: Option<Vec<u8>>,
}

impl Rpc {
    /// What our decoder must make of it. (A result only so that it compares with one.)
    pub(crate) fn understood(&self) -> Result<rpc::Rpc, WireError> {
        let control = self.control.clone().unwrap_or_default();
        let mut foreign_ids = 0;
        let mut ids = |ids: &[Vec<u8>]| -> Vec<MessageId> {
            let known: Vec<_> = ids.iter().filter_map(|id| MessageId::from_bytes(id)).collect();
            foreign_ids += u32::try_from(ids.len() - known.len()).expect("few ids");
            known
        };
        let signed = |m: &Message| m.from.is_some() || m.seqno.is_some() || m.signature.is_some() || m.key.is_some();
        Ok(rpc::Rpc {
            subscriptions: self
                .subscriptions
                .iter()
                .map(|s| rpc::Subscription { subscribe: s.subscribe == Some(true), topic: topic(&s.topic) })
                .collect(),
            publish: self
                .publish
                .iter()
                .filter(|m| !signed(m))
                .map(|m| Payload::new(&topic(&m.topic), m.data.as_deref().unwrap_or_default()))
                .collect(),
            publish_signed: u32::try_from(self.publish.iter().filter(|m| signed(m)).count()).expect("few messages"),
            ihave: control.ihave.iter().map(|i| rpc::IHave { topic: topic(&i.topic), ids: ids(&i.ids) }).collect(),
            iwant: control.iwant.iter().flat_map(|i| ids(&i.ids)).collect(),
            graft: control.graft.iter().map(|g| topic(&g.topic)).collect(),
            prune: control.prune.iter().map(ControlPrune::understood).collect(),
            idontwant: control.idontwant.iter().flat_map(|i| ids(&i.ids)).collect(),
            foreign_ids,
        })
    }
}

impl ControlPrune {
    fn understood(&self) -> rpc::Prune {
        let peer = |info: &PeerInfo| {
            Some(rpc::ExchangedPeer {
                id: PeerId::from_bytes(info.id.as_deref()?)?,
                signed_record: info.signed_record.clone().filter(|record| record.len() <= 4_096).map(Into::into),
            })
        };
        rpc::Prune {
            topic: topic(&self.topic),
            backoff_seconds: self.backoff.map(|seconds| seconds.min(3_600)),
            peers: self.peers.iter().take(16).filter_map(peer).collect(),
        }
    }
}

fn topic(name: &Option<String>) -> Topic {
    Topic::new(name.as_deref().unwrap_or_default())
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

fn topic_name() -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop_oneof![Just("a".to_owned()), Just("tx".to_owned()), "[a-zäö]{0,12}"])
}

fn ids() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop_oneof![4 => prop::collection::vec(any::<u8>(), 20), 1 => bytes(40)], 0..8)
}

fn list<S: Strategy>(element: S) -> impl Strategy<Value = Vec<S::Value>>
where
    S::Value: Clone,
{
    prop::collection::vec(element, 0..4)
}

/// RPCs that use every field.
pub(crate) fn arbitrary_rpc() -> impl Strategy<Value = Rpc> {
    let seldom = || prop::option::weighted(0.1, bytes(20));
    let subscription = (any::<Option<bool>>(), topic_name(), any::<Option<bool>>())
        .prop_map(|(subscribe, topic, requests_partial)| SubOpts { subscribe, topic, requests_partial });
    let message = (seldom(), prop::option::of(bytes(400)), seldom(), topic_name(), seldom(), seldom())
        .prop_map(|(from, data, seqno, topic, signature, key)| Message { from, data, seqno, topic, signature, key });
    let peer = (prop::option::of(bytes(60)), prop::option::of(bytes(100)))
        .prop_map(|(id, signed_record)| PeerInfo { id, signed_record });
    let prune = (topic_name(), prop::collection::vec(peer, 0..20), any::<Option<u64>>())
        .prop_map(|(topic, peers, backoff)| ControlPrune { topic, peers, backoff });
    let extensions = prop::option::of(
        any::<(Option<bool>, Option<bool>)>()
            .prop_map(|(partial_messages, test_extension)| ControlExtensions { partial_messages, test_extension }),
    );
    let control = (
        list((topic_name(), ids()).prop_map(|(topic, ids)| ControlIHave { topic, ids })),
        list(ids().prop_map(|ids| Ids { ids })),
        list(topic_name().prop_map(|topic| ControlGraft { topic })),
        list(prune),
        list(ids().prop_map(|ids| Ids { ids })),
        extensions,
    )
        .prop_map(|(ihave, iwant, graft, prune, idontwant, extensions)| ControlMessage {
            ihave,
            iwant,
            graft,
            prune,
            idontwant,
            extensions,
        });
    let partial = (prop::option::of(bytes(9)), prop::option::of(bytes(40)))
        .prop_map(|(topic, message)| Partial { topic, message });
    (
        list(subscription),
        list(message),
        prop::option::of(control),
        prop::option::of(partial),
        prop::option::of(bytes(9)),
    )
        .prop_map(|(subscriptions, publish, control, partial, test_extension)| Rpc {
            subscriptions,
            publish,
            control,
            partial,
            test_extension,
        })
}
