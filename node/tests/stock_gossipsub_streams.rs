//! The mesh's streams against the stock Rust implementation of gossipsub over its own TCP transport: every kind of control and messages in
//! both directions, whoever dials, at 1.1 and 1.2. The engine does not take part: frames are sent and RPCs looked at by hand, so that a
//! fault here is one of the wire.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::metrics::Registry;
use libp2p::swarm::{Swarm, SwarmEvent};
use libp2p::{Multiaddr, SwarmBuilder, noise, tcp, yamux};
use starling_node::net::network::{NetEvent, Network, NetworkConfig, to_protocol_id};
use starling_protocol::id::{PeerHandle, Topic, Version};
use starling_protocol::message::{Payload, message_id};
use starling_protocol::rpc::{Class, Frame, Rpc, Subscription};
use tokio::sync::mpsc;

const TOPIC: &str = "interop";
const DEADLINE: Duration = Duration::from_secs(20);

/// Stock gossipsub: the default configuration but for anonymous messages, the id function and, for 1.1, the protocol.
fn stock(version: Version) -> Swarm<gossipsub::Behaviour> {
    let mut config = gossipsub::ConfigBuilder::default();
    config
        .validation_mode(ValidationMode::Anonymous)
        .message_id_fn(|message| message_id(message.topic.as_str(), &message.data).as_bytes().to_vec().into());
    if version == Version::V1_1 {
        config.protocol_id("/meshsub/1.1.0", gossipsub::Version::V1_1);
    }
    let config = config.build().expect("a valid configuration");
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("a transport")
        .with_behaviour(|_| gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).expect("a behaviour"))
        .expect("a behaviour")
        .build()
}

/// Both sides and what they have seen.
struct Pair {
    ours: Network,
    theirs: Swarm<gossipsub::Behaviour>,
    peer: Option<(PeerHandle, Version)>,
    rpcs: Vec<Rpc>,
    messages: Vec<Vec<u8>>,
    subscribed: bool,
}

impl Pair {
    async fn connect(version: Version, we_dial: bool) -> Self {
        let mut config = NetworkConfig::new("0123abcd");
        config.listen = vec!["/ip4/127.0.0.7/tcp/0".parse().expect("an address")];
        let ours = Network::start(&config, &Keypair::generate_ed25519(), &mut Registry::default()).await;
        let mut pair = Self {
            ours: ours.expect("a network"),
            theirs: stock(version),
            peer: None,
            rpcs: Vec::new(),
            messages: Vec::new(),
            subscribed: false,
        };
        if we_dial {
            pair.theirs.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("a port");
            let address = loop {
                if let SwarmEvent::NewListenAddr { address, .. } = pair.theirs.select_next_some().await {
                    break address;
                }
            };
            let id = to_protocol_id(pair.theirs.local_peer_id()).expect("an id");
            pair.ours.dial(id, &[address.to_vec().into()]);
        } else {
            let address: Multiaddr = pair.ours.listening()[0].clone();
            pair.theirs.dial(address).expect("a dial");
        }
        pair.run(|pair| pair.peer.is_some()).await;
        pair
    }

    async fn run(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !done(self) {
            tokio::select! {
                event = self.ours.next_event() => match event {
                    NetEvent::Connected { peer, version, .. } => self.peer = Some((peer, version)),
                    NetEvent::Rpc { rpc, .. } => self.rpcs.push(*rpc),
                    NetEvent::BadFrame { error, .. } => panic!("a stock frame was refused: {error}"),
                    NetEvent::Disconnected { .. } => panic!("the peers parted"),
                    _ => {}
                },
                event = self.theirs.select_next_some() => match event {
                    SwarmEvent::Behaviour(gossipsub::Event::Message { message, .. }) => self.messages.push(message.data),
                    SwarmEvent::Behaviour(gossipsub::Event::Subscribed { .. }) => self.subscribed = true,
                    _ => {}
                },
                () = tokio::time::sleep_until(deadline) => panic!("no progress; RPCs: {:#?}", self.rpcs),
            }
        }
    }

    fn send(&mut self, frame: Frame) {
        self.ours.send(self.peer.expect("connected").0, frame);
    }

    fn saw(&self, what: impl Fn(&Rpc) -> bool) -> bool {
        self.rpcs.iter().any(what)
    }
}

async fn speak(version: Version, we_dial: bool) {
    let mut pair = Pair::connect(version, we_dial).await;
    let topic = Topic::new(TOPIC);
    assert_eq!(pair.peer.expect("connected").1, version);

    pair.send(Frame::Subscription(Subscription { subscribe: true, topic: topic.clone() }));
    pair.run(|pair| pair.subscribed).await;
    // Joining while we are known to be subscribed makes stock gossipsub graft us at once.
    pair.theirs.behaviour_mut().subscribe(&IdentTopic::new(TOPIC)).expect("subscribed");
    pair.run(|pair| pair.saw(|rpc| rpc.subscriptions.iter().any(|s| s.subscribe && s.topic.as_str() == TOPIC))).await;
    pair.run(|pair| pair.saw(|rpc| rpc.graft.iter().any(|topic| topic.as_str() == TOPIC))).await;

    let small = Payload::new(&topic, b"from us");
    let large = Payload::new(&topic, &[9; 40_000]);
    pair.send(Frame::Publish { payload: Arc::clone(&small), class: Class::Priority });
    pair.send(Frame::Publish { payload: Arc::clone(&large), class: Class::Forward });
    pair.run(|pair| pair.messages.len() == 2).await;
    assert!(pair.messages.iter().any(|data| data == b"from us") && pair.messages.iter().any(|d| d.len() == 40_000));

    pair.theirs.behaviour_mut().publish(IdentTopic::new(TOPIC), b"from them".as_slice()).expect("published");
    pair.run(|pair| pair.saw(|rpc| rpc.publish.iter().any(|payload| payload.data() == b"from them"))).await;

    // Advertised, asked for, served; and the other way round.
    let pulled = Payload::new(&topic, b"pulled by them");
    pair.send(Frame::IHave { topic: topic.clone(), ids: [pulled.id()].into() });
    pair.run(|pair| pair.saw(|rpc| rpc.iwant.contains(&pulled.id()))).await;
    pair.send(Frame::Publish { payload: pulled, class: Class::Reply });
    pair.run(|pair| pair.messages.iter().any(|data| data == b"pulled by them")).await;
    pair.rpcs.clear();
    pair.send(Frame::IWant([message_id(TOPIC, b"from them")].into()));
    pair.run(|pair| pair.saw(|rpc| rpc.publish.iter().any(|payload| payload.data() == b"from them"))).await;

    // Leaving prunes us.
    assert!(pair.theirs.behaviour_mut().unsubscribe(&IdentTopic::new(TOPIC)));
    pair.run(|pair| pair.saw(|rpc| rpc.prune.iter().any(|prune| prune.topic.as_str() == TOPIC))).await;
    assert!(pair.saw(|rpc| rpc.prune.iter().any(|prune| prune.backoff_seconds.is_some())));
}

/// A second node of ours that is connected to the stock one and sends the messages that come through the channel.
async fn second_sender(stock: Multiaddr, id: starling_protocol::id::PeerId) -> mpsc::UnboundedSender<Arc<Payload>> {
    let mut config = NetworkConfig::new("0123abcd");
    config.listen = vec!["/ip4/127.0.0.8/tcp/0".parse().expect("an address")];
    let network = Network::start(&config, &Keypair::generate_ed25519(), &mut Registry::default()).await;
    let mut network = network.expect("a network");
    network.dial(id, &[stock.to_vec().into()]);
    let (sender, mut payloads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut peer = None;
        loop {
            tokio::select! {
                event = network.next_event() => {
                    if let NetEvent::Connected { peer: connected, .. } = event {
                        peer = Some(connected);
                    }
                }
                payload = payloads.recv(), if peer.is_some() => match (payload, peer) {
                    (Some(payload), Some(peer)) => network.send(peer, Frame::Publish { payload, class: Class::Forward }),
                    _ => return,
                },
            }
        }
    });
    sender
}

#[tokio::test]
async fn idontwant_is_sent_and_honoured() {
    let mut pair = Box::pin(Pair::connect(Version::V1_2, true)).await;
    let topic = Topic::new(TOPIC);
    pair.send(Frame::Subscription(Subscription { subscribe: true, topic: topic.clone() }));
    pair.run(|pair| pair.subscribed).await;
    pair.theirs.behaviour_mut().subscribe(&IdentTopic::new(TOPIC)).expect("subscribed");
    pair.run(|pair| pair.saw(|rpc| !rpc.graft.is_empty())).await;

    let address = pair.theirs.listeners().next().expect("it listens").clone();
    let id = to_protocol_id(pair.theirs.local_peer_id()).expect("an id");
    let second = Box::pin(second_sender(address, id)).await;
    let [unwanted, wanted] = [1, 2].map(|byte| Payload::new(&topic, &[byte; 40_000]));
    pair.send(Frame::IDontWant([unwanted.id()].into()));
    // A round trip makes sure that it has been read.
    let pulled = Payload::new(&topic, b"read up to here");
    pair.send(Frame::Publish { payload: pulled, class: Class::Forward });
    pair.run(|pair| pair.messages.len() == 1).await;
    for payload in [&unwanted, &wanted] {
        second.send(Arc::clone(payload)).expect("the second node runs");
    }
    pair.run(|pair| pair.saw(|rpc| rpc.publish.contains(&wanted))).await;
    assert_eq!(pair.messages.len(), 3, "the stock node got both");
    assert!(!pair.saw(|rpc| rpc.publish.contains(&unwanted)), "and did not pass on what we do not want");
    assert!(pair.saw(|rpc| rpc.idontwant.contains(&wanted.id())), "it told us what it need not get from us");
}

#[tokio::test]
async fn everything_at_1_2_when_we_dial() {
    Box::pin(speak(Version::V1_2, true)).await;
}

#[tokio::test]
async fn everything_at_1_2_when_they_dial() {
    Box::pin(speak(Version::V1_2, false)).await;
}

#[tokio::test]
async fn everything_at_1_1_when_we_dial() {
    Box::pin(speak(Version::V1_1, true)).await;
}

#[tokio::test]
async fn everything_at_1_1_when_they_dial() {
    Box::pin(speak(Version::V1_1, false)).await;
}
