//! Lookups where a part of the network lies: the real Kademlia in the node's configuration, over memory channels.
//!
//! Honest nodes know peers drawn from the whole network, liars among them in proportion. Liars know each other and nobody else, so they
//! answer with the liars that are next to what is looked for, and never with who is honest. A lookup of an honest node's id succeeds when
//! that node is among those it finds. Unlike in the node, where a lookup asks connected peers only, it may dial whom it is told of: a liar
//! is worth more here.
//!
//! The handshake is a claim of an identity without proof: nobody here takes another's, and thousands of proofs would take minutes.

use std::future::Future;
use std::io;
use std::iter;
use std::pin::Pin;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::core::Transport;
use libp2p::core::UpgradeInfo;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::MemoryTransport;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, Version};
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{self, GetClosestPeersError, Mode, QueryResult};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use starling_node::net::{discovery, muxer};
use starling_protocol::random::Stream;
use tokio::sync::{mpsc, oneshot};

/// Honest nodes, and how many peers each of them knows.
const HONEST: usize = 40;
const KNOWN: usize = 20;
/// Lookups of each network, and how many of them go on at a time.
const LOOKUPS: usize = 80;
const AT_A_TIME: usize = 8;
/// More than the node has: what is late on a busy host is not lost.
const TIMEOUT: Duration = Duration::from_secs(60);
const NETWORK: &str = "0123abcd";

/// Exchanges identities.
#[derive(Clone)]
struct Claim(PeerId);

type Claimed<C> = Pin<Box<dyn Future<Output = io::Result<(PeerId, C)>> + Send>>;

impl Claim {
    async fn exchange<C: AsyncRead + AsyncWrite + Unpin>(self, mut channel: C) -> io::Result<(PeerId, C)> {
        let own = self.0.to_bytes();
        channel.write_all(&own).await?;
        channel.flush().await?;
        let mut theirs = vec![0; own.len()];
        channel.read_exact(&mut theirs).await?;
        let id = PeerId::from_bytes(&theirs).map_err(io::Error::other)?;
        Ok((id, channel))
    }
}

impl UpgradeInfo for Claim {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/claim")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> InboundConnectionUpgrade<C> for Claim {
    type Output = (PeerId, C);
    type Error = io::Error;
    type Future = Claimed<C>;

    fn upgrade_inbound(self, channel: C, _: Self::Info) -> Self::Future {
        Box::pin(self.exchange(channel))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> OutboundConnectionUpgrade<C> for Claim {
    type Output = (PeerId, C);
    type Error = io::Error;
    type Future = Claimed<C>;

    fn upgrade_outbound(self, channel: C, _: Self::Info) -> Self::Future {
        Box::pin(self.exchange(channel))
    }
}

/// Somebody to be looked up, and where to say whether that was found.
type Order = (PeerId, oneshot::Sender<bool>);

struct Place {
    id: PeerId,
    address: Multiaddr,
    swarm: Swarm<kad::Behaviour<MemoryStore>>,
}

async fn place() -> Place {
    let id = PeerId::random();
    let transport = MemoryTransport::default()
        .upgrade(Version::V1Lazy)
        .authenticate(Claim(id))
        .multiplex(muxer::Config)
        .map(|(id, muxer), _| (id, StreamMuxerBox::new(muxer)))
        .boxed();
    let mut config = discovery::kademlia(NETWORK);
    config.set_query_timeout(TIMEOUT);
    let mut kad = kad::Behaviour::with_config(id, MemoryStore::new(id), config);
    kad.set_mode(Some(Mode::Server));
    let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
    let mut swarm = Swarm::new(transport, kad, id, config);
    swarm.listen_on(Protocol::Memory(0).into()).expect("it listens");
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return Place { id, address, swarm };
        }
    }
}

/// Looks up what is ordered, and answers others meanwhile.
async fn serve(mut swarm: Swarm<kad::Behaviour<MemoryStore>>, mut orders: mpsc::Receiver<Order>) {
    let mut under_way = Vec::new();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some((target, answer)) => {
                    under_way.push((swarm.behaviour_mut().get_closest_peers(target), target, Some(answer), false));
                }
                None => return,
            },
            event = swarm.select_next_some() => {
                let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed {
                    id, result: QueryResult::GetClosestPeers(result), step, ..
                }) = event else { continue };
                let peers = match result {
                    Ok(found) => found.peers,
                    Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                let Some((_, target, answer, found)) = under_way.iter_mut().find(|(query, ..)| *query == id) else {
                    continue;
                };
                *found |= peers.iter().any(|peer| peer.peer_id == *target);
                if step.last && let Some(answer) = answer.take() {
                    let _: Result<(), bool> = answer.send(*found);
                }
            }
        }
    }
}

/// How many lookups succeed, and of how many, where so many liars are among the honest.
async fn succeed(liars: usize, lookups: usize) -> (u32, u32) {
    let mut random = Stream::from_seed([7; 32]);
    let mut places = Vec::new();
    for _ in 0..HONEST + liars {
        places.push(place().await);
    }
    let directory: Vec<(PeerId, Multiaddr)> = places.iter().map(|place| (place.id, place.address.clone())).collect();
    for (number, place) in places.iter_mut().enumerate() {
        let kad = place.swarm.behaviour_mut();
        if number < HONEST {
            for _ in 0..KNOWN {
                let (id, address) = &directory[random.index(directory.len())];
                kad.add_address(id, address.clone());
            }
        } else {
            for (id, address) in &directory[HONEST..] {
                kad.add_address(id, address.clone());
            }
        }
    }
    let mut desks = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for place in places {
        let (desk, orders) = mpsc::channel(AT_A_TIME);
        desks.push(desk);
        tasks.spawn(serve(place.swarm, orders));
    }
    let (mut found, mut asked) = (0_u32, 0_u32);
    let mut answers = Vec::new();
    for turn in 0..lookups {
        let (asker, target) = (turn % HONEST, random.index(HONEST));
        if asker == target {
            continue;
        }
        let (answer, answered) = oneshot::channel();
        desks[asker].send((directory[target].0, answer)).await.expect("it is there");
        answers.push(answered);
        // A few at a time, so that nothing is late because the host is busy.
        if answers.len() == AT_A_TIME || turn + 1 == lookups {
            for answered in answers.drain(..) {
                asked += 1;
                found += u32::from(answered.await.expect("it is answered"));
            }
        }
    }
    (found, asked)
}

/// A fifth and a third of all, and as a control three of four.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lookups_succeed_where_a_fifth_and_a_third_of_the_network_lie() {
    for (liars, least) in [(HONEST / 4, 0.995), (HONEST / 2, 0.98)] {
        let (found, asked) = succeed(liars, LOOKUPS).await;
        println!("{liars} liars beside {HONEST} honest nodes: {found} of {asked} lookups succeed");
        assert!(f64::from(found) >= f64::from(asked) * least, "{found} of {asked}");
    }
    let (found, asked) = succeed(3 * HONEST, LOOKUPS / 4).await;
    println!("{} liars: {found} of {asked}", 3 * HONEST);
    assert!(found < asked, "liars who do no harm whatever their number are no attack");
}
