//! Real sockets on loopback addresses; every wait has a deadline.

use std::time::Instant;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;

use super::*;
use crate::net::emulation::schedule::UplinkSchedule;
use crate::net::emulation::{IN_FLIGHT_BYTES_MAX, LinkEmulation, PeerPath};

const DEADLINE: Duration = Duration::from_secs(20);

const DIAL: DialOpts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };

/// A transport listening on `ip`, and the address it listens on.
async fn listening(ip: &str, link: Option<&LinkEmulation>) -> (TcpTransport, Multiaddr) {
    listening_behind(ip, link.map(Emulation::new)).await
}

/// The same behind these links.
async fn listening_behind(ip: &str, links: Option<Arc<Emulation>>) -> (TcpTransport, Multiaddr) {
    let mut transport = TcpTransport::new(Arc::default(), links);
    let address = format!("/ip4/{ip}/tcp/0").parse().unwrap();
    transport.listen_on(ListenerId::next(), address).unwrap();
    let event = next_event(&mut transport).await;
    let TransportEvent::NewAddress { listen_addr, .. } = event else {
        panic!("expected an address, got {event:?}");
    };
    (transport, listen_addr)
}

async fn next_event(transport: &mut TcpTransport) -> Event {
    let event = futures::future::poll_fn(|context| Pin::new(&mut *transport).poll(context));
    tokio::time::timeout(DEADLINE, event).await.unwrap()
}

/// Dials `to` from `from`: the dialler's end, the listener's end, the address the listener sees.
async fn connect(
    from: &mut TcpTransport,
    to: &mut TcpTransport,
    address: &Multiaddr,
) -> (Connection, Connection, Multiaddr) {
    let dial = from.dial(address.clone(), DIAL).unwrap();
    let (dialled, event) = tokio::join!(dial, next_event(to));
    let TransportEvent::Incoming { upgrade, send_back_addr, .. } = event else {
        panic!("expected a connection, got {event:?}");
    };
    (dialled.unwrap(), upgrade.await.unwrap(), send_back_addr)
}

fn ip_of(address: &Multiaddr) -> IpAddr {
    to_socket_addr(address).unwrap().ip()
}

fn link(uplink_bits_per_s: u64, default_delay_us: u32, jitter_us_max: u32) -> LinkEmulation {
    LinkEmulation { seed: 1, uplink_bits_per_s, default_delay_us, jitter_us_max, ..LinkEmulation::default() }
}

#[tokio::test]
async fn remote_sees_the_address_that_the_dialler_listens_on() {
    let (mut a, address_a) = listening("127.0.0.3", None).await;
    let (mut b, address_b) = listening("127.0.0.4", None).await;
    let (_, _, seen_by_b) = connect(&mut a, &mut b, &address_b).await;
    assert_eq!(ip_of(&seen_by_b), ip_of(&address_a));
    let (_, _, seen_by_a) = connect(&mut b, &mut a, &address_a).await;
    assert_eq!(ip_of(&seen_by_a), ip_of(&address_b));
}

#[tokio::test]
async fn unspecified_listen_address_binds_nothing_and_reports_interfaces() {
    let (mut anywhere, reported) = listening("0.0.0.0", None).await;
    assert!(!ip_of(&reported).is_unspecified());
    assert_eq!(anywhere.own_address_for("127.0.0.9".parse().unwrap()), None);
    let (mut b, address_b) = listening("127.0.0.4", None).await;
    let (_, _, seen) = connect(&mut anywhere, &mut b, &address_b).await;
    assert_eq!(ip_of(&seen), "127.0.0.1".parse::<IpAddr>().unwrap());
}

#[tokio::test]
async fn own_address_is_of_the_family_and_kind_of_the_destination() {
    let (transport, own) = listening("127.0.0.3", None).await;
    let own_for = |remote: &str| transport.own_address_for(remote.parse().unwrap());
    assert_eq!(own_for("127.0.0.4"), Some(ip_of(&own)));
    assert_eq!(own_for("::1"), None);
    assert_eq!(own_for("192.0.2.1"), None);
}

#[tokio::test]
async fn addresses_other_than_plain_tcp_are_left_to_other_transports() {
    let (mut transport, _) = listening("127.0.0.3", None).await;
    for address in [
        "/ip4/127.0.0.1/udp/1/quic-v1",
        "/ip4/127.0.0.1/tcp/1/ws",
        "/dns4/localhost/tcp/1",
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/0.0.0.0/tcp/1",
    ] {
        let refused = transport.dial(address.parse().unwrap(), DIAL);
        assert!(matches!(refused.err(), Some(TransportError::MultiaddrNotSupported(_))));
    }
    let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let with_peer = format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}").parse().unwrap();
    assert!(to_socket_addr(&with_peer).is_some());
}

#[tokio::test]
async fn removed_listener_says_so_and_refuses_connections() {
    let (mut b, address) = listening("127.0.0.4", None).await;
    let (mut a, _) = listening("127.0.0.3", None).await;
    let id = b.listeners.iter().next().unwrap().id;
    assert!(b.remove_listener(id));
    let event = next_event(&mut b).await;
    assert!(matches!(event, TransportEvent::ListenerClosed { .. }));
    // Polling once more lets the stream of the closed listener end and its socket close.
    let idle = futures::future::poll_fn(|context| Poll::Ready(Pin::new(&mut b).poll(context)));
    assert!(idle.await.is_pending());
    assert!(!b.remove_listener(id));
    let refused = a.dial(address, DIAL).unwrap().await.err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn bytes_are_counted_on_both_ends_plain_and_emulated() {
    for link in [None, Some(link(0, 1_000, 0))] {
        let (mut a, _) = listening("127.0.0.3", link.as_ref()).await;
        let (mut b, address) = listening("127.0.0.4", link.as_ref()).await;
        let (mut sender, mut receiver, _) = connect(&mut a, &mut b, &address).await;
        sender.write_all(&[7; 10_000]).await.unwrap();
        let mut received = vec![0; 10_000];
        receiver.read_exact(&mut received).await.unwrap();
        assert_eq!(b.counters.read_bytes(), 10_000);
        // The timer thread counts after it has written, which may be after the reader has read.
        let deadline = Instant::now() + DEADLINE;
        while a.counters.written_bytes() < 10_000 && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        assert_eq!(a.counters.written_bytes(), 10_000);
        assert_eq!(a.counters.read_bytes() + b.counters.written_bytes(), 0);
    }
}

/// Sends `count` stamped messages, `gap` apart, and returns how late each was against the delay
/// asked for, in microseconds.
async fn lateness_us(delay_us: u32, count: u32, gap: Duration) -> Vec<i64> {
    let link = link(0, delay_us, 0);
    let (mut a, _) = listening("127.0.0.3", Some(&link)).await;
    let (mut b, address) = listening("127.0.0.4", Some(&link)).await;
    let (mut sender, mut receiver, _) = connect(&mut a, &mut b, &address).await;
    let epoch = Instant::now();
    let now_us = move || i64::try_from(epoch.elapsed().as_micros()).unwrap();
    let sending = tokio::spawn(async move {
        for _ in 0..count {
            sender.write_all(&now_us().to_le_bytes()).await.unwrap();
            tokio::time::sleep(gap).await;
        }
    });
    let mut late_us = Vec::new();
    for _ in 0..count {
        let mut stamp = [0; 8];
        let read = receiver.read_exact(&mut stamp);
        tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap();
        late_us.push(now_us() - i64::from_le_bytes(stamp) - i64::from(delay_us));
    }
    sending.await.unwrap();
    late_us.sort_unstable();
    late_us
}

#[tokio::test]
async fn delay_is_never_early_and_seldom_late() {
    println!("| delay asked for | error p50 | error p99 | error max |");
    for delay_us in [500, 5_000, 35_000, 140_000] {
        let late_us = lateness_us(delay_us, 200, Duration::from_millis(2)).await;
        let at = |percent: usize| late_us[(late_us.len() - 1) * percent / 100];
        println!("| {} us | {} us | {} us | {} us |", delay_us, at(50), at(99), at(100));
        assert!(at(0) >= 0, "{} us early", -at(0));
        assert!(at(50) < 5_000, "median error {} us", at(50));
    }
}

#[tokio::test]
async fn jittered_bytes_arrive_complete_and_in_order() {
    let link = link(0, 2_000, 3_000);
    let (mut a, _) = listening("127.0.0.3", Some(&link)).await;
    let (mut b, address) = listening("127.0.0.4", Some(&link)).await;
    let (mut sender, mut receiver, _) = connect(&mut a, &mut b, &address).await;
    let sent: Vec<u8> = (0..400_000u32).flat_map(u32::to_le_bytes).collect();
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        for piece in sent.chunks(3_001) {
            sender.write_all(piece).await.unwrap();
        }
        // Closing delivers what is delayed; the reader sees the end only after the last byte.
        sender.close().await.unwrap();
    });
    let mut received = Vec::new();
    let read = receiver.read_to_end(&mut received);
    tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap();
    sending.await.unwrap();
    assert!(received == expected, "bytes differ");
}

#[tokio::test]
async fn dropping_a_connection_still_delivers_what_it_had_accepted() {
    let link = link(0, 30_000, 0);
    let (mut a, _) = listening("127.0.0.3", Some(&link)).await;
    let (mut b, address) = listening("127.0.0.4", None).await;
    let (mut sender, mut receiver, _) = connect(&mut a, &mut b, &address).await;
    sender.write_all(b"last words").await.unwrap();
    drop(sender);
    let mut received = Vec::new();
    let read = receiver.read_to_end(&mut received);
    tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap();
    assert_eq!(received, b"last words");
}

#[tokio::test]
async fn dialling_takes_an_emulated_round_trip_to_that_peer() {
    let mut link = link(0, 500_000, 0);
    link.peers.push(path(20_000, false));
    let (mut a, _) = listening("127.0.0.3", Some(&link)).await;
    let (mut b, address) = listening("127.0.0.4", None).await;
    let before = Instant::now();
    let _ends = connect(&mut a, &mut b, &address).await;
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(40), "{took:?}");
    assert!(took < Duration::from_millis(500), "{took:?}");
}

/// The path to 127.0.0.4.
fn path(delay_us: u32, cut: bool) -> PeerPath {
    PeerPath { ip: "127.0.0.4".parse().unwrap(), delay_us, loss_ppm: 0, cut }
}

/// A node with emulated links, what changes them, and a connection through which it sends.
async fn changeable(link: &LinkEmulation) -> (Arc<Emulation>, Connection, Connection) {
    let emulation = Emulation::new(link);
    let (mut a, _) = listening_behind("127.0.0.3", Some(Arc::clone(&emulation))).await;
    let (mut b, address) = listening("127.0.0.4", None).await;
    let (sender, receiver, _) = connect(&mut a, &mut b, &address).await;
    (emulation, sender, receiver)
}

#[tokio::test]
async fn a_cut_path_carries_nothing_until_it_is_mended() {
    let mut link = link(0, 1_000, 0);
    let (emulation, mut sender, mut receiver) = changeable(&link).await;
    link.peers.push(path(1_000, true));
    emulation.change(&link);
    let quiet = tokio::time::timeout(Duration::from_millis(50), sender.write_all(b"hello")).await;
    assert!(quiet.is_err(), "nothing is accepted");
    assert!(tokio::time::timeout(Duration::from_millis(50), emulation.reachable(link.peers[0].ip)).await.is_err());
    let waiting = tokio::spawn(async move { sender.write_all(b"hello").await.map(|()| sender) });
    link.peers.clear();
    emulation.change(&link);
    let mut received = [0; 5];
    tokio::time::timeout(DEADLINE, receiver.read_exact(&mut received)).await.unwrap().unwrap();
    assert_eq!(&received, b"hello");
    tokio::time::timeout(DEADLINE, emulation.reachable("127.0.0.4".parse().unwrap())).await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_that_is_cut_for_too_long_ends_at_both_ends() {
    let mut link = link(0, 1_000, 0);
    link.dead_after_us = 60_000;
    let (emulation, mut sender, mut receiver) = changeable(&link).await;
    link.peers.push(path(1_000, true));
    emulation.change(&link);
    let cut = Instant::now();
    let write = tokio::time::timeout(DEADLINE, sender.write_all(b"hello")).await.unwrap();
    assert_eq!(write.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    assert!(cut.elapsed() >= Duration::from_millis(60));
    let read = tokio::time::timeout(DEADLINE, receiver.read(&mut [0; 5])).await.unwrap();
    assert_eq!(read.unwrap(), 0, "the other end hears of it");
}

#[tokio::test]
async fn the_file_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("links.toml");
    let write = |delay_us: u32| {
        let text = format!("[[peer]]\nip = \"127.0.0.4\"\ndelay_us = {delay_us}\n");
        std::fs::write(dir.path().join("new"), text).unwrap();
        std::fs::rename(dir.path().join("new"), &file).unwrap();
    };
    write(1_000);
    let link = LinkEmulation::load(&file).unwrap();
    let (emulation, mut sender, mut receiver) = changeable(&link).await;
    // File systems may keep times to some milliseconds only.
    tokio::time::sleep(Duration::from_millis(20)).await;
    write(300_000);
    let followed = async {
        while emulation.delay_us("127.0.0.4".parse().unwrap()) != 300_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, followed).await.unwrap();
    let sent = Instant::now();
    sender.write_all(b"late").await.unwrap();
    tokio::time::timeout(DEADLINE, receiver.read_exact(&mut [0; 4])).await.unwrap().unwrap();
    assert!(sent.elapsed() >= Duration::from_millis(300), "{:?}", sent.elapsed());
}

/// Writes `bytes` to each of `connections` at once while reading them all on the other side.
/// Returns how long each took until its last byte had arrived.
async fn race(connections: Vec<(Connection, Connection)>, bytes: usize) -> Vec<Duration> {
    let start = Instant::now();
    let transfers = connections.into_iter().map(|(mut sender, mut receiver)| {
        tokio::spawn(async move {
            let mut received = vec![0; bytes];
            let payload = vec![1; bytes];
            let (sent, read) = tokio::join!(sender.write_all(&payload), receiver.read_exact(&mut received));
            sent.unwrap();
            read.unwrap();
            start.elapsed()
        })
    });
    let all = futures::future::try_join_all(transfers);
    tokio::time::timeout(DEADLINE, all).await.unwrap().unwrap()
}

#[tokio::test]
async fn connections_share_one_uplink_fairly() {
    let link = link(16_000_000, 0, 0);
    let (mut a, _) = listening("127.0.0.3", Some(&link)).await;
    let (mut b, address) = listening("127.0.0.4", None).await;
    let mut pairs = Vec::new();
    for _ in 0..2 {
        let (sender, receiver, _) = connect(&mut a, &mut b, &address).await;
        pairs.push((sender, receiver));
    }
    // Two times 200 kB at 2 MB/s: 200 ms for both, and neither is done much before the other.
    let took = race(pairs, 200_000).await;
    for took in &took {
        assert!(*took >= Duration::from_millis(190), "too fast: {took:?}");
        assert!(*took < Duration::from_millis(400), "too slow: {took:?}");
    }
}

#[tokio::test]
async fn rate_is_respected_from_slow_to_fast_links() {
    println!("| rate asked for | measured |");
    for bits_per_s in [1_000_000, 10_000_000, 50_000_000, 200_000_000] {
        let link = link(bits_per_s, 0, 0);
        let (mut a, _) = listening("127.0.0.3", Some(&link)).await;
        let (mut b, address) = listening("127.0.0.4", None).await;
        let (sender, receiver, _) = connect(&mut a, &mut b, &address).await;
        // A quarter of a second's worth.
        let bytes = usize::try_from(bits_per_s / 8 / 4).unwrap();
        let took = race(vec![(sender, receiver)], bytes).await[0];
        println!("| {} Mbit/s | {:.2} Mbit/s |", bits_per_s / 1_000_000, bytes as f64 * 8e-6 / took.as_secs_f64());
        assert!(took >= Duration::from_millis(250), "{bits_per_s} bit/s: too fast, {took:?}");
        assert!(took < Duration::from_millis(500), "{bits_per_s} bit/s: too slow, {took:?}");
    }
}

#[tokio::test]
async fn writer_is_refused_while_the_uplink_is_busy() {
    let link = link(80_000, 0, 0);
    let (mut a, _) = listening("127.0.0.3", Some(&link)).await;
    let (mut b, address) = listening("127.0.0.4", None).await;
    let (mut sender, _receiver, _) = connect(&mut a, &mut b, &address).await;
    let chunk_bytes = UplinkSchedule::new(80_000).unwrap().chunk_bytes();
    let payload = vec![0; 10 * chunk_bytes];
    let accepted = poll_write_once(&mut sender, &payload).await;
    assert!(matches!(accepted, Poll::Ready(Ok(n)) if n == chunk_bytes));
    // One chunk at 10 kB/s keeps the link busy for 146 ms.
    assert!(poll_write_once(&mut sender, &payload).await.is_pending());
}

#[tokio::test]
async fn bytes_in_flight_are_capped_on_an_unlimited_link() {
    let link = link(0, 5_000_000, 0);
    let (mut a, _) = listening("127.0.0.3", Some(&link)).await;
    let (mut b, _) = listening("127.0.0.4", None).await;
    // Avoids the emulated round trip of a dial, which is not what is tested here.
    let address_a = to_multiaddr(a.listeners.iter().next().unwrap().address);
    let (_receiver, mut sender, _) = connect(&mut b, &mut a, &address_a).await;
    let payload = vec![0; 64 * 1024];
    let mut accepted = 0;
    while let Poll::Ready(written) = poll_write_once(&mut sender, &payload).await {
        accepted += written.unwrap();
        assert!(accepted <= IN_FLIGHT_BYTES_MAX);
    }
    assert_eq!(accepted, IN_FLIGHT_BYTES_MAX);
}

async fn poll_write_once(sender: &mut Connection, payload: &[u8]) -> Poll<io::Result<usize>> {
    futures::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *sender).poll_write(context, payload))).await
}

#[tokio::test]
async fn a_connection_that_gives_up_its_turn_blocks_nobody() {
    let link = link(400_000, 0, 0);
    let (mut a, _) = listening("127.0.0.3", Some(&link)).await;
    let (mut b, address) = listening("127.0.0.4", None).await;
    let (mut idle, _idle_receiver, _) = connect(&mut a, &mut b, &address).await;
    let (mut gone, _gone_receiver, _) = connect(&mut a, &mut b, &address).await;
    let (sender, receiver, _) = connect(&mut a, &mut b, &address).await;
    let payload = [0; 5_000];
    while poll_write_once(&mut idle, &payload).await.is_ready() {}
    assert!(poll_write_once(&mut gone, &payload).await.is_pending());
    drop(gone);
    // `idle` was refused and never comes back for its turn.
    let took = race(vec![(sender, receiver)], 5_000).await;
    assert!(took[0] < Duration::from_secs(2), "{took:?}");
}
