//! Our engine on a real network, with everything that crosses the wire written down.

use crate::DEADLINE;
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use libp2p::metrics::Registry;
use starling_node::clock;
use starling_node::net::network::{NetEvent, Network, NetworkConfig, to_protocol_id};
use starling_protocol::id::{Topic, Version};
use starling_protocol::mesh::{Event, Input, Mesh, MeshConfig, Output, TopicConfig, Verdict};
use starling_protocol::message::Payload;
use starling_protocol::peers::Address;
use starling_protocol::rpc::{Frame, Rpc};
use starling_protocol::time::Time;
use starling_protocol::wire::TopicInterner;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::mpsc;

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// What the peers sent.
    pub(crate) received: Vec<Rpc>,
    /// What we sent.
    pub(crate) sent: Vec<Frame>,
    /// Payloads delivered to the application, in order.
    pub(crate) delivered: Vec<Vec<u8>>,
    /// Versions agreed with peers, in the order of their coming.
    pub(crate) versions: Vec<Version>,
    /// Peers in our mesh.
    pub(crate) mesh_degree: usize,
    /// Connected peers that are subscribed.
    pub(crate) subscribers: usize,
}

/// What our peer can be told to do.
#[derive(Debug)]
pub(crate) enum Command {
    Dial(Multiaddr),
    Publish(Vec<u8>),
    Subscribe,
    Unsubscribe,
}

/// A peer that runs our engine in a task of its own, which ends with it.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) address: Multiaddr,
    log: Arc<Mutex<Log>>,
    commands: mpsc::Sender<Command>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ours {
    /// Starts a peer on this loopback address that speaks gossipsub up to `highest` and joins `topic`.
    pub(crate) async fn start(ip: &str, topic: &str, highest: Version) -> Self {
        let topic = Topic::new(topic);
        let mut config = NetworkConfig::new("interop0");
        config.listen = vec![format!("/ip4/{ip}/tcp/0").parse().expect("a multiaddr")];
        config.mesh.highest_version = highest;
        config.mesh.topics = TopicInterner::new([topic.clone()]);
        let keypair = Keypair::generate_ed25519();
        let mut registry = Registry::default();
        let starting = Network::start(&config, &keypair, &mut registry);
        let network = tokio::time::timeout(DEADLINE, starting).await.expect("in time").expect("listens");
        let peer_id = keypair.public().to_peer_id();
        let address = network.listening()[0].clone().with_p2p(peer_id).expect("no other id in it");

        let config = MeshConfig::with_topics(vec![TopicConfig { topic: topic.clone(), priority: false }]);
        let mesh = Mesh::new(config.validate().expect("valid defaults"), [7; 32], clock::now());
        let log = Arc::new(Mutex::new(Log::default()));
        let (commands, receiver) = mpsc::channel(64);
        let mut driver = Driver { network, mesh, topic, log: Arc::clone(&log) };
        driver.feed(Input::Subscribe { topic: driver.topic.clone() });
        Self { address, log, commands, task: tokio::spawn(driver.run(receiver)) }
    }

    pub(crate) async fn tell(&self, command: Command) {
        self.commands.send(command).await.expect("the peer runs");
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no panic while locked")
    }
}

struct Driver {
    network: Network,
    mesh: Mesh,
    topic: Topic,
    log: Arc<Mutex<Log>>,
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let due = self.mesh.next_wake().map_or(Time::MAX, |(at, _)| at);
            tokio::select! {
                event = self.network.next_event() => self.event(event),
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                () = tokio::time::sleep_until(clock::tokio_instant(due)) => {
                    let mut outputs = Vec::new();
                    self.mesh.on_wake(clock::now(), &mut outputs);
                    self.carry_out(outputs);
                }
            }
            let mut log = self.log.lock().expect("no panic while locked");
            log.mesh_degree = self.mesh.mesh_degree(&self.topic);
            log.subscribers = self.mesh.topic_peers(&self.topic);
        }
    }

    fn event(&mut self, event: NetEvent) {
        match event {
            NetEvent::Connected { peer, id, ip, direction, version } => {
                self.log.lock().expect("no panic while locked").versions.push(version);
                self.feed(Input::Connected { peer, id, ip, direction, version });
            }
            NetEvent::Disconnected { peer, .. } => self.feed(Input::Disconnected { peer }),
            NetEvent::Rpc { peer, rpc, received, .. } => {
                self.feed(Input::Rpc { peer, rpc: &rpc, received });
                self.log.lock().expect("no panic while locked").received.push(*rpc);
            }
            NetEvent::BadFrame { error, .. } => panic!("a frame of a stock peer cannot be read: {error}"),
            _ => {}
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Dial(address) => {
                let id = address.iter().find_map(|part| match part {
                    libp2p::multiaddr::Protocol::P2p(id) => to_protocol_id(&id),
                    _ => None,
                });
                self.network.dial(id.expect("an address with a peer id"), &[Address::from(address.to_vec())]);
            }
            Command::Publish(data) => self.feed(Input::Publish { payload: Payload::new(&self.topic, &data) }),
            Command::Subscribe => self.feed(Input::Subscribe { topic: self.topic.clone() }),
            Command::Unsubscribe => self.feed(Input::Unsubscribe { topic: self.topic.clone() }),
        }
    }

    fn feed(&mut self, input: Input<'_>) {
        let mut outputs = Vec::new();
        self.mesh.handle(clock::now(), input, &mut outputs);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { peer, frame } => {
                    self.log.lock().expect("no panic while locked").sent.push(frame.clone());
                    self.network.send(peer, frame);
                }
                Output::Cancel { peer, ids } => self.network.cancel(peer, &ids),
                Output::Validate { ticket, .. } => self.feed(Input::Verdict { ticket, verdict: Verdict::Accept }),
                Output::Deliver { payload, .. } => {
                    self.log.lock().expect("no panic while locked").delivered.push(payload.data().to_vec());
                }
                Output::Abandon { .. } => {}
                Output::Disconnect { reason, .. } => panic!("a stock peer is disconnected: {reason:?}"),
                Output::Event(Event::Pruned { .. } | _) | Output::PeerExchangeCandidates { .. } => {}
            }
        }
    }
}
