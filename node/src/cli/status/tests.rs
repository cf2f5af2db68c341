use super::*;
use crate::api::{ClockState, DiskReply, MessageClass, StorageState, SyncReply, SyncState, TopicReply, WaitReason};
use starling_crypto::{Digest, SecretKey};
use starling_protocol::id::{BlockId, NetworkId};

fn topic(class: MessageClass, mesh_degree: u32) -> TopicReply {
    let topic = format!("/starling/{}", class.name());
    TopicReply { class, topic, mesh_degree, mesh_degree_low: 5, peers_subscribed: 22 }
}

/// A node that does well on a network that has run for a while.
pub(in crate::cli) fn healthy() -> Status {
    let topics = vec![topic(MessageClass::Transaction, 8), topic(MessageClass::Block, 9)];
    let account = SecretKey::from_seed(&[1; 32]).public_key().to_bytes();
    let disk = DiskReply {
        file_bytes: 123_456_789,
        free_bytes: Some(43_200_000_000),
        keep_blocks: 256,
        height: 5_123,
        earliest: 4_868,
        ..DiskReply::default()
    };
    Status::new(
        NodeReply {
            version: "0.1.0".into(),
            network_name: "local".into(),
            network_id: NetworkId(Digest::ZERO),
            peer_id: "12D3KooWHyku2BBBqEaCYPbayhhTne15vYwV3P7YFTLrwVb2dmo4".into(),
            account: Some(account),
            producer: None,
            producer_elsewhere_slot: None,
            pid: 4_711,
            uptime_s: 11_520,
            slot_now: 6_003,
            slot_ms: 2_000,
            payload_bytes_max: 65_536,
            stamp_bits: 0,
            expiry_slots_max: 64,
        },
        NetReply {
            peer_id: "12D3KooWHyku2BBBqEaCYPbayhhTne15vYwV3P7YFTLrwVb2dmo4".into(),
            listen_addresses: vec![
                "/ip4/192.0.2.7/tcp/26500/p2p/12D3KooWHyku2BBBqEaCYPbayhhTne15vYwV3P7YFTLrwVb2dmo4".into(),
                "/ip4/192.0.2.7/udp/26500/quic-v1/p2p/12D3KooWHyku2BBBqEaCYPbayhhTne15vYwV3P7YFTLrwVb2dmo4".into(),
            ],
            external_addresses: Vec::new(),
            peers_inbound: 10,
            peers_outbound: 14,
            peers_target: 24,
            peers_max: 96,
            peers_known: 210,
            topics: topics.clone(),
            socket_in_bytes: 123_456_789,
            socket_out_bytes: 987_654,
            frame_in_bytes: 0,
            frame_out_bytes: 0,
        },
        ReadyReply { ready: true, peers: 24, topics, height: 5_123, disk, ..ReadyReply::default() },
        HeadReply { height: 5_123, block_id: BlockId(Digest::ZERO), slot: 6_002, slot_now: 6_003 },
        MempoolReply {
            transactions: 12,
            transactions_future: 3,
            transactions_max: 16_384,
            held_bytes: 3_300,
            held_bytes_max: 64 << 20,
        },
    )
}

fn changed(change: impl FnOnce(&mut Status)) -> Status {
    let mut status = healthy();
    change(&mut status);
    Status::new(status.node, status.net, status.ready, status.head, status.mempool)
}

#[test]
fn a_healthy_node_on_one_screen() {
    let text = healthy().text(&Screen::of(80));
    assert_eq!(
        text,
        "\
state      ready
software   starling 0.1.0, up 3 h 12 min, process 4711
network    local (0000000000000000…)
peer id    12D3KooWHyku2BBBqEaCYPbayhhTne15vYwV3P7YFTLrwVb2dmo4
account    8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c
peers      24 of 24 aimed at (96 at most): 10 in, 14 out (58 %); 210 known
mesh       transactions 8 of 22, blocks 9 of 22 subscribed peers
head       height 5123 (0000000000000000…), slot 6002, 2 s old
mempool    12 of 16384 transactions (3 ahead of turn), 3.2 KiB of 64.0 MiB
disk       ok, 118 MiB, 40.2 GiB free; blocks 4868 to 5123, keeps the last 256
clock      slot 6003 of 2 s each
traffic    118 MiB in, 965 KiB out
listening  /ip4/192.0.2.7/tcp/26500 and 1 more
"
    );
    assert_eq!(healthy().warnings, [], "a healthy node needs nobody");
}

/// Everything that can be wrong at once, as far as it can.
fn ailing() -> Status {
    changed(|status| {
        (status.net.peers_inbound, status.net.peers_outbound, status.net.peers_max) = (23, 1, 24);
        status.net.topics[1].mesh_degree = 2;
        status.ready.ready = false;
        status.ready.waiting_for = vec!["more peers in the mesh of blocks: 2 of at least 5".into()];
        status.head.slot_now = 6_042;
        status.mempool.held_bytes = 60 << 20;
        status.net.listen_addresses = vec!["/ip4/192.0.2.7/tcp/26500".into(); 9];
    })
}

#[test]
fn an_ailing_node_says_what_to_do_and_still_fits() {
    let text = ailing().text(&Screen::of(80));
    for line in [
        "state      not ready; waits for more peers in the mesh of blocks: 2 of at least",
        "head       height 5123 (0000000000000000…), slot 6002, 1 min 20 s old",
        "listening  /ip4/192.0.2.7/tcp/26500 and 8 more",
        "problem    no new block for 40 slots: if another node's status shows newer ones,",
        "warning    only 4 % of the links (1 of 24) are of this node's choosing:",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line:?} is missing from\n{text}");
    }
    assert!(text.lines().count() < 24 && text.ends_with("\n           and 2 more; --json has them\n"), "{text}");
    let wide = ailing().text(&Screen::of(120));
    assert!(wide.lines().all(|line| line.chars().count() <= 120), "{wide}");
    assert!(wide.contains("the mempool is nearly full"), "more room, more warnings: {wide}");
}

#[test]
fn a_node_that_catches_up_says_how_fast() {
    let behind = |state: SyncState, blocks_per_s: Option<f64>, remaining_s: Option<u64>| {
        changed(|status| {
            status.ready.ready = false;
            status.ready.waiting_for = vec!["the chain".into()];
            status.ready.reasons = vec![WaitReason::Chain];
            let sync = SyncReply { state, height: 5_123, target: 9_000, peers: 4, ..SyncReply::default() };
            status.ready.sync = Some(SyncReply { blocks_per_s, remaining_s, ..sync });
            (status.head.height, status.head.slot_now) = (5_123, 9_400);
        })
    };
    let line = |status: &Status| {
        let text = status.text(&Screen::of(80));
        text.lines().find_map(|line| line.strip_prefix("sync       ")).expect(&text).to_owned()
    };
    let fast = behind(SyncState::Blocks, Some(211.4), Some(18));
    assert_eq!(line(&fast), "at 5123 of 9000 (56 %), from 4 peers, 211 blocks/s, 18 s left");
    assert_eq!(fast.warnings, [], "old blocks are no silence while newer ones are being fetched");
    assert_eq!(line(&behind(SyncState::Headers, Some(f64::NAN), None)), "at 5123 of 9000 (56 %), headers from 4 peers");
    assert_eq!(line(&behind(SyncState::Idle, None, None)), "at 5123 of 9000 (56 %), nobody to ask at the moment");
}

#[test]
fn a_disk_that_fails_and_a_slow_clock_are_seen_at_a_glance() {
    let text = changed(|status| {
        status.ready.storage = StorageState::Failing { cause: "no space left on device; make room".into() };
        (status.ready.disk.free_bytes, status.ready.disk.unsaved_blocks) = (Some(4_096), 3);
        status.ready.reasons = vec![WaitReason::Storage];
        status.ready.clock = ClockState::Behind { seconds: 3 };
    })
    .text(&Screen::of(80));
    for line in [
        "disk       failing: no space left on device; make room",
        "           3 blocks to be stored; 118 MiB, 4.0 KiB free; blocks 4868 to 5123,",
        "           keeps the last 256",
        "clock      slot 6003 of 2 s each, 3 s behind the blocks",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{text}");
    }
    assert!(!text.contains("are free on the disk"), "said once: {text}");
}

#[test]
fn the_disk_is_shown_with_what_it_keeps_and_little_room_is_a_warning() {
    let line = |change: fn(&mut DiskReply)| {
        let status = changed(|status| change(&mut status.ready.disk));
        let text = status.text(&Screen::of(120));
        let line = text.lines().find_map(|line| line.strip_prefix("disk       ")).expect(&text).to_owned();
        let warned = status.warnings.into_iter().map(|warning| (warning.severity, warning.what)).collect::<Vec<_>>();
        (line, warned)
    };
    assert_eq!(
        line(|disk| (disk.earliest, disk.keep_blocks) = (1, 0)),
        ("ok, 118 MiB, 40.2 GiB free; blocks 1 to 5123, keeps all".into(), vec![])
    );
    let keeps = |keep: fn(&mut DiskReply)| {
        let (line, warned) = line(keep);
        (line.split("keeps ").nth(1).expect(&line).to_owned(), warned.into_iter().map(|(_, what)| what).collect())
    };
    let none = Vec::<String>::new();
    assert_eq!(keeps(|_| ()), ("the last 256".into(), none.clone()));
    let both = keeps(|disk| (disk.keep_bytes, disk.kept_bytes) = (Some(1 << 30), Some(1 << 30)));
    assert_eq!(both, ("the last 256, 1.0 GiB at most".into(), none.clone()));
    let bytes = keeps(|disk| (disk.keep_blocks, disk.keep_bytes, disk.kept_bytes) = (0, Some(1 << 30), None));
    assert_eq!(bytes, ("1.0 GiB of them".into(), none));
    let (_, over) = keeps(|disk| (disk.keep_bytes, disk.kept_bytes) = (Some(1 << 30), Some(3 << 30)));
    assert_eq!(over, ["the blocks take 3.0 GiB, and should take 1.0 GiB"]);
    let new = line(|disk| *disk = DiskReply { file_bytes: 4_096, keep_blocks: 9, ..DiskReply::default() });
    assert_eq!(new, ("ok, 4.0 KiB; no block yet".into(), vec![]));
    let (_, little) = line(|disk| disk.free_bytes = Some(FREE_BYTES_LITTLE - 1));
    assert_eq!(little, [(Severity::Warn, "only 2.0 GiB are free on the disk".into())]);
    let (_, none) = line(|disk| disk.free_bytes = Some(0));
    assert_eq!(none, [(Severity::Bad, "only 0 B are free on the disk".into())]);
}

#[test]
fn no_line_is_wider_than_the_screen() {
    for status in [healthy(), ailing()] {
        for (number, line) in status.text(&Screen::of(80)).lines().enumerate() {
            assert!(line.chars().count() <= 80, "line {number} is too long: {line}");
        }
    }
}

#[test]
fn a_node_that_has_just_started_is_given_time() {
    let young = |status: &mut Status| {
        status.node.uptime_s = 5;
        (status.net.peers_inbound, status.net.peers_outbound) = (0, 0);
        status.head.height = 0;
        status.head.slot = 0;
    };
    assert_eq!(changed(young).warnings, []);
    let old = changed(|status| {
        young(status);
        status.node.uptime_s = 60;
    });
    let whats: Vec<_> = old.warnings.iter().map(|warning| warning.what.as_str()).collect();
    assert_eq!(whats, ["no peers", "no new block for 6003 slots"]);
    assert!(old.text(&Screen::of(80)).contains("height 0: no block yet"));
}

#[test]
fn another_node_with_the_producer_key_is_told_of_for_an_hour() {
    let since = |slots: u64| {
        let status = changed(|status| status.node.producer_elsewhere_slot = Some(status.node.slot_now - slots));
        status.warnings.first().map(|warning| (warning.severity, warning.what.clone()))
    };
    let (severity, what) = since(2).expect("a warning");
    assert_eq!((severity, what.contains("producer key, last 2 slots ago")), (Severity::Bad, true), "{what}");
    assert!(since(1_800).is_some() && since(1_801).is_none(), "slots of 2 s");
}

#[test]
fn a_clock_behind_the_chain_is_noticed() {
    let status = changed(|status| status.head.slot_now = 6_000);
    assert_eq!(status.warnings[0].what, "the head's slot lies 2 slots ahead of this machine's clock");
}

#[test]
fn a_clock_that_was_set_is_a_warning_with_the_amount() {
    let status = changed(|status| status.ready.clock = ClockState::Stepped { by_ms: -10_800_000 });
    assert_eq!(
        status.warnings[0].what,
        "this machine's clock was set 10800.0 s back within the last quarter of an hour"
    );
}

#[test]
fn figures_that_make_no_sense_are_shown_all_the_same() {
    let text = changed(|status| {
        (status.net.peers_inbound, status.net.peers_outbound) = (u32::MAX, u32::MAX);
        (status.net.peers_target, status.net.peers_max) = (0, 0);
        (status.head.slot, status.head.slot_now) = (u64::MAX, 0);
        status.node.slot_ms = u64::MAX;
        (status.mempool.held_bytes, status.mempool.held_bytes_max) = (u64::MAX, 0);
        status.node.uptime_s = u64::MAX;
    })
    .text(&Screen::of(20));
    assert!(text.contains("state"), "{text}");
}

#[test]
fn a_refreshed_screen_does_not_scroll() {
    let screen = Screen { rows: Some(3), ..Screen::of(80) };
    assert_eq!(refresh("a\nb\nc\nd\n", &screen), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    assert_eq!(refresh("a\n", &Screen { rows: Some(0), ..screen }), "\x1b[Ha\x1b[K\n\x1b[J");
}
