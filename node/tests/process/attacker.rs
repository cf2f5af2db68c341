//! A peer that keeps no rule: it completes the handshakes of libp2p and then writes whatever bytes it likes.

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::core::Transport as _;
use libp2p::core::upgrade::Version as Negotiation;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, noise, yamux};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Mesh,
    Blocks,
}

/// The attacker, in a task that ends with it.
#[derive(Debug)]
pub(crate) struct Attacker {
    pub(crate) peer_id: PeerId,
    orders: mpsc::Sender<(Stream, Vec<u8>)>,
    closed: Arc<AtomicBool>,
    read_bytes: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Attacker {
    /// Connects to a node of the network with this short id, at an address that ends in its peer id.
    pub(crate) async fn connect(address: &str, network: &str) -> Self {
        let address: Multiaddr = address.parse().expect("an address");
        let Some(Protocol::P2p(victim)) = address.iter().last() else { panic!("no peer id in {address}") };
        let keypair = Keypair::generate_ed25519();
        let peer_id = keypair.public().to_peer_id();
        let read_bytes = Arc::new(AtomicU64::new(0));
        let transport = libp2p::tcp::tokio::Transport::new(libp2p::tcp::Config::new().nodelay(true))
            .upgrade(Negotiation::V1)
            .authenticate(noise::Config::new(&keypair).expect("an ed25519 key"))
            .multiplex(yamux::Config::default())
            .boxed();
        let streams = |protocol: String| {
            let protocol = StreamProtocol::try_from_owned(protocol).expect("begins with a slash");
            let config = request_response::Config::default().with_request_timeout(Duration::from_secs(3_600));
            let raw = Raw { read_bytes: Arc::clone(&read_bytes) };
            request_response::Behaviour::with_codec(raw, [(protocol, ProtocolSupport::Full)], config)
        };
        let behaviour = Behaviour {
            mesh: streams("/meshsub/1.2.0".to_owned()),
            blocks: streams(format!("/starling/{network}/sync/1")),
        };
        let mut swarm = Swarm::new(transport, behaviour, peer_id, libp2p::swarm::Config::with_tokio_executor());
        swarm.dial(DialOpts::peer_id(victim).addresses(vec![address]).allocate_new_port().build()).expect("dials");
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => break,
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
        let closed = Arc::new(AtomicBool::new(false));
        let (orders, receiver) = mpsc::channel(64);
        let task = tokio::spawn(run(swarm, victim, receiver, Arc::clone(&closed)));
        Self { peer_id, orders, closed, read_bytes, task }
    }

    /// Opens a stream and writes these bytes to it, as fast as the victim takes them.
    pub(crate) async fn write(&self, stream: Stream, bytes: Vec<u8>) {
        self.orders.send((stream, bytes)).await.expect("the attacker runs");
    }

    /// Whether the victim has closed the connection.
    pub(crate) fn is_out(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// What the victim has sent on all streams.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }
}

async fn run(
    mut swarm: Swarm<Behaviour>,
    victim: PeerId,
    mut orders: mpsc::Receiver<(Stream, Vec<u8>)>,
    closed: Arc<AtomicBool>,
) {
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some((Stream::Mesh, bytes)) => {
                    let _request = swarm.behaviour_mut().mesh.send_request(&victim, bytes);
                }
                Some((Stream::Blocks, bytes)) => {
                    let _request = swarm.behaviour_mut().blocks.send_request(&victim, bytes);
                }
                None => return,
            },
            event = swarm.select_next_some() => {
                if let SwarmEvent::ConnectionClosed { .. } = event {
                    closed.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    mesh: request_response::Behaviour<Raw>,
    blocks: request_response::Behaviour<Raw>,
}

/// Writes the bytes of each request as they are to a stream of its own, and throws away what comes back.
#[derive(Clone)]
struct Raw {
    read_bytes: Arc<AtomicU64>,
}

impl Raw {
    async fn drain<T: AsyncRead + Unpin + Send>(&self, stream: &mut T) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1_024];
        loop {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                read => self.read_bytes.fetch_add(read as u64, Ordering::Relaxed),
            };
        }
    }
}

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = ();

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Vec<u8>> {
        self.drain(stream).await?;
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<()> {
        self.drain(stream).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        stream.write_all(&bytes).await?;
        stream.flush().await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        (): (),
    ) -> io::Result<()> {
        Ok(())
    }
}
