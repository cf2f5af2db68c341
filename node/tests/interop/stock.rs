//! The stock implementation: `libp2p-gossipsub` with its default configuration, but for anonymous messages and our
//! message ids.

use crate::DEADLINE;
use futures::StreamExt;
use libp2p::core::Transport;
use libp2p::core::upgrade::Version as Negotiation;
use libp2p::gossipsub::{
    Behaviour, Config, ConfigBuilder, Event, IdentTopic, Message, MessageAuthenticity, MessageId, ValidationMode,
};
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{Swarm, SwarmEvent};
use libp2p::{Multiaddr, noise, yamux};
use starling_protocol::message::message_id;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::mpsc;

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Payloads that the application got, in order.
    pub(crate) delivered: Vec<Vec<u8>>,
    /// Peers in its mesh.
    pub(crate) mesh_degree: usize,
    /// Peers that it knows to be subscribed.
    pub(crate) subscribers: usize,
}

/// What a stock peer can be told to do.
#[derive(Debug)]
pub(crate) enum Command {
    Dial(Multiaddr),
    Publish(Vec<u8>),
    Unsubscribe,
}

/// A stock peer in a task of its own, which ends with it.
#[derive(Debug)]
pub(crate) struct Stock {
    pub(crate) address: Multiaddr,
    log: Arc<Mutex<Log>>,
    commands: mpsc::Sender<Command>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The default configuration with the two changes.
fn config() -> Config {
    ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .message_id_fn(|message: &Message| {
            MessageId::from(message_id(message.topic.as_str(), &message.data).as_bytes().to_vec())
        })
        .build()
        .expect("a valid configuration")
}

impl Stock {
    /// Starts a stock peer on this loopback address that is subscribed to `topic`.
    pub(crate) async fn start(ip: &str, topic: &str) -> Self {
        let keypair = Keypair::generate_ed25519();
        let peer_id = keypair.public().to_peer_id();
        let transport = libp2p::tcp::tokio::Transport::new(libp2p::tcp::Config::new().nodelay(true))
            .upgrade(Negotiation::V1)
            .authenticate(noise::Config::new(&keypair).expect("an ed25519 key"))
            .multiplex(yamux::Config::default())
            .boxed();
        let mut behaviour = Behaviour::new(MessageAuthenticity::Anonymous, config()).expect("a valid configuration");
        let topic = IdentTopic::new(topic);
        behaviour.subscribe(&topic).expect("a topic");
        let swarm_config = libp2p::swarm::Config::with_tokio_executor();
        let mut swarm = Swarm::new(transport, behaviour, peer_id, swarm_config);
        swarm.listen_on(format!("/ip4/{ip}/tcp/0").parse().expect("a multiaddr")).expect("listens");
        let address = tokio::time::timeout(DEADLINE, async {
            loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    return address;
                }
            }
        });
        let address = address.await.expect("in time").with_p2p(peer_id).expect("no other id in it");
        let log = Arc::new(Mutex::new(Log::default()));
        let (commands, receiver) = mpsc::channel(64);
        let task = tokio::spawn(run(swarm, topic, Arc::clone(&log), receiver));
        Self { address, log, commands, task }
    }

    pub(crate) async fn tell(&self, command: Command) {
        self.commands.send(command).await.expect("the peer runs");
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no panic while locked")
    }
}

async fn run(
    mut swarm: Swarm<Behaviour>,
    topic: IdentTopic,
    log: Arc<Mutex<Log>>,
    mut commands: mpsc::Receiver<Command>,
) {
    // The mesh changes at heartbeats, which are no events of the swarm.
    let mut look = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            _ = look.tick() => {}
            event = swarm.select_next_some() => {
                if let SwarmEvent::Behaviour(Event::Message { message, .. }) = event {
                    log.lock().expect("no panic while locked").delivered.push(message.data);
                }
            }
            command = commands.recv() => match command {
                None => return,
                Some(Command::Dial(address)) => {
                    // From a port of its own: the stock transport reuses the listening one, which fails now and then on
                    // a host with many sockets, and nobody here would dial again.
                    let opts = DialOpts::unknown_peer_id().address(address).allocate_new_port().build();
                    swarm.dial(opts).expect("dials");
                }
                Some(Command::Publish(data)) => {
                    swarm.behaviour_mut().publish(topic.hash(), data).expect("somebody is subscribed");
                }
                Some(Command::Unsubscribe) => {
                    assert!(swarm.behaviour_mut().unsubscribe(&topic), "was subscribed");
                }
            },
        }
        let mut log = log.lock().expect("no panic while locked");
        log.mesh_degree = swarm.behaviour().mesh_peers(&topic.hash()).count();
        log.subscribers = swarm.behaviour().all_peers().filter(|(_, topics)| topics.contains(&&topic.hash())).count();
    }
}
