//! Against a peer that writes what it likes.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::{StreamProtocol, SwarmBuilder, Transport, noise};
use starling_protocol::wire::WireError;

use super::*;
use crate::net::mesh::BAD_FRAMES_MAX;

/// A peer that opens a stream of this protocol, writes the bytes of each request to it as they are, and never reads.
#[derive(Clone)]
struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = ();

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
    ) -> io::Result<Vec<u8>> {
        std::future::pending().await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()> {
        io.read_exact(&mut [0]).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await?;
        io.flush().await
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

type RawSwarm = Swarm<request_response::Behaviour<Raw>>;

fn raw_peer() -> RawSwarm {
    raw_peer_that(ProtocolSupport::Full)
}

fn raw_peer_that(supports_gossipsub: ProtocolSupport) -> RawSwarm {
    let protocols = [(StreamProtocol::new("/meshsub/1.1.0"), supports_gossipsub)];
    let config = request_response::Config::default().with_request_timeout(Duration::from_secs(3_600));
    let noise = |keypair: &Keypair| noise::Config::new(keypair).unwrap();
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|keypair| {
            crate::net::transport::TcpTransport::new(Arc::default(), None)
                .upgrade(libp2p::core::upgrade::Version::V1Lazy)
                .authenticate(noise(keypair))
                .multiplex(crate::net::muxer::Config)
        })
        .unwrap()
        .with_behaviour(|_| request_response::Behaviour::with_codec(Raw, protocols, config))
        .unwrap()
        .build()
}

/// Runs a host and a raw peer until the condition holds for the host.
async fn run_raw(host: &mut Host, raw: &mut RawSwarm, mut done: impl FnMut(&mut Host) -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !done(host) {
        tokio::select! {
            event = host.network.next_event() => host.events.push(event),
            _ = raw.select_next_some() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {
                assert!(tokio::time::Instant::now() < deadline, "no progress; events: {:#?}", host.events);
            }
        }
    }
}

fn raw_connect(host: &Host, raw: &mut RawSwarm) -> libp2p::PeerId {
    let id = libp2p::PeerId::from_bytes(host.network.own_id().as_bytes()).unwrap();
    raw.add_peer_address(id, host.network.listening()[0].clone());
    id
}

#[tokio::test]
async fn garbage_is_reported_and_harms_nobody() {
    let mut host = Host::start(config("127.0.0.3")).await;
    let mut raw = raw_peer();
    let id = raw_connect(&host, &mut raw);
    let bad = |host: &Host| host.events.iter().filter(|e| matches!(e, NetEvent::BadFrame { .. })).count();
    // Frames of which none can be decoded, more than are tolerated.
    raw.behaviour_mut().send_request(&id, [3, 0xff, 0xff, 0xff].repeat(2 * BAD_FRAMES_MAX as usize));
    run_raw(&mut host, &mut raw, |host| bad(host) == BAD_FRAMES_MAX as usize).await;

    // From another peer a length prefix beyond every limit, then one that never ends.
    for prefix in [vec![0xff, 0xff, 0xff, 0x7f], vec![0xff; 64]] {
        let before = bad(&host);
        let mut raw = raw_peer();
        let id = raw_connect(&host, &mut raw);
        raw.behaviour_mut().send_request(&id, prefix);
        run_raw(&mut host, &mut raw, |host| bad(host) == before + 1).await;
        assert!(matches!(
            host.events.iter().rev().find(|event| matches!(event, NetEvent::BadFrame { .. })),
            Some(NetEvent::BadFrame { error: WireError::FrameTooLong { .. }, .. })
        ));
    }
    // A frame that is announced and never comes costs what has arrived, and honest peers are served meanwhile.
    let mut half = raw_peer();
    let id = raw_connect(&host, &mut half);
    half.behaviour_mut().send_request(&id, vec![0xff, 0xff, 0x3f, 1, 2, 3]);
    let mut honest = Host::start(config("127.0.0.4")).await;
    dial(&mut honest, &host);
    run(&mut [&mut host, &mut honest], |hosts| hosts[1].peers().len() == 1).await;
    let to_host = honest.peers()[0].0;
    honest.network.send(to_host, message(b"good"));
    run(&mut [&mut host, &mut honest], |hosts| hosts[0].received().contains(&&b"good"[..])).await;
}

#[tokio::test]
async fn a_peer_that_never_reads_fills_its_queue_and_loses_its_connection() {
    let mut impatient = config("127.0.0.3");
    impatient.mesh.stall_max = Duration::from_millis(300);
    impatient.mesh.send_queue.bytes_max = 1 << 20;
    let mut host = Host::start(impatient).await;
    let mut raw = raw_peer();
    let id = raw_connect(&host, &mut raw);
    raw.behaviour_mut().send_request(&id, vec![0]);
    run_raw(&mut host, &mut raw, |host| host.peers().len() == 1).await;
    let peer = host.peers()[0].0;
    for number in 0..40u8 {
        host.network.send(peer, message(&[number; 100_000]));
    }
    run_raw(&mut host, &mut raw, |host| host.peers().is_empty()).await;
    let dropped: u64 = host
        .events
        .iter()
        .filter_map(|event| if let NetEvent::SendQueueFull { dropped, .. } = event { Some(*dropped) } else { None })
        .sum();
    assert!((20..40).contains(&dropped), "{dropped} of 40 frames dropped with room for ten");
}

#[tokio::test]
async fn a_peer_without_gossipsub_counts_as_a_failed_dial() {
    let mut host = Host::start(config("127.0.0.3")).await;
    let mut raw = {
        let mut raw = raw_peer();
        // Supports a protocol of its own only.
        let protocols = [(StreamProtocol::new("/other/1"), ProtocolSupport::Full)];
        *raw.behaviour_mut() =
            request_response::Behaviour::with_codec(Raw, protocols, request_response::Config::default());
        raw
    };
    raw.listen_on("/ip4/127.0.0.4/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = raw.select_next_some().await {
            break address;
        }
    };
    let id = to_protocol_id(raw.local_peer_id()).unwrap();
    host.network.dial(id, &[to_address(address)]);
    run_raw(&mut host, &mut raw, |host| host.dial_failures() == 1 && host.network.connections() == (0, 0)).await;
    assert!(host.peers().is_empty());
}

#[tokio::test]
async fn whoever_takes_no_mesh_stream_keeps_no_place_with_one_of_its_own() {
    let mut small = config("127.0.0.3");
    small.limits = ConnectionLimits { established_inbound_max: 1, visitors_max: 0, ..ConnectionLimits::default() };
    let mut host = Host::start(small).await;
    let mut raw = raw_peer_that(ProtocolSupport::Outbound);
    let id = raw_connect(&host, &mut raw);
    raw.behaviour_mut().send_request(&id, vec![0]);
    run_raw(&mut host, &mut raw, |host| host.network.connections() == (1, 0)).await;
    // Its place is taken by a connection of its own, and the dial is answered nevertheless.
    host.network.dial(to_protocol_id(raw.local_peer_id()).unwrap(), &[]);
    run_raw(&mut host, &mut raw, |host| host.network.connections() == (0, 0)).await;
    run_raw(&mut host, &mut raw, |host| host.dial_failures() == 1).await;
    let mut honest = Host::start(config("127.0.0.4")).await;
    dial(&mut honest, &host);
    run(&mut [&mut host, &mut honest], |hosts| hosts[0].peers().len() == 1).await;
}
