use super::*;
use crate::api::TopicScoreReply;

fn peer(id: &str, rtt_ms: Option<f64>, connected_s: u64, total: f64) -> PeerReply {
    PeerReply {
        peer_id: id.into(),
        address: "/ip4/127.2.0.2/tcp/49935".into(),
        direction: PeerDirection::Outbound,
        protocol: "/meshsub/1.2.0".into(),
        agent: Some("starling/0.1.0".into()),
        connected_s,
        rtt_ms,
        subscribed: vec![MessageClass::Transaction, MessageClass::Block],
        mesh: vec![MessageClass::Transaction, MessageClass::Block],
        queue_bytes: 0,
        frame_in_bytes: 5 << 20,
        frame_out_bytes: 1_000_000,
        score: ScoreReply { total, ..ScoreReply::default() },
    }
}

fn peers() -> Vec<PeerReply> {
    let mut liar = peer("12D3KooWMK1zZRgcahdV5V5waoRVzLR7XotswEixcu6iyUyD6R7Q", None, 3_700, -42.0);
    liar.direction = PeerDirection::Inbound;
    liar.mesh = Vec::new();
    liar.address = "/ip6/2001:db8:85a3:8d3:1319:8a2e:370:7348/udp/26500/quic-v1".into();
    liar.score.behaviour = -2.0;
    liar.score.topics = vec![TopicScoreReply {
        class: MessageClass::Block,
        time_in_mesh: 0.0,
        first_deliveries: 0.0,
        mesh_deficit: 0.0,
        mesh_failures: 0.0,
        invalid_messages: -40.0,
    }];
    let mut dialled = peer("12D3KooWBuctCX9soToZxbRftqq44jLSaTMxGiLucAffkxNvyqUr", Some(29.13), 59, 9.816);
    dialled.address = format!("{}/p2p/{}", dialled.address, dialled.peer_id);
    vec![dialled, liar]
}

#[test]
fn the_list_fits_80_columns() {
    assert_eq!(
        list_text(&peers(), &Screen::of(80)),
        "\
peer       dir  address             rtt ms  age    bytes  mesh   score  agent
…kxNvyqUr  out  127.2.0.2:49935       29.1  59s  6.0 MiB  tb      9.82  starlin…
…yUyD6R7Q  in   [2001:db8:85a3:8d…       -   1h  6.0 MiB  -     -42.00  starlin…
…yUyD6R7Q scores below zero: invalid blocks -40.00, breaches of the protocol
-2.00
"
    );
}

#[test]
fn a_wide_screen_has_more_of_everything() {
    assert_eq!(
        list_text(&peers(), &Screen::of(120)),
        "\
peer                             dir  address                         rtt ms  age    bytes  mesh   score  agent
12D3KooWBuctCX9…iLucAffkxNvyqUr  out  127.2.0.2:49935                   29.1  59s  6.0 MiB  tb      9.82  starling/0.1.0
12D3KooWMK1zZRg…Eixcu6iyUyD6R7Q  in   [2001:db8:85a3:8d3:1319:8a2e:…       -   1h  6.0 MiB  -     -42.00  starling/0.1.0
…yUyD6R7Q scores below zero: invalid blocks -40.00, breaches of the protocol -2.00
"
    );
    let whole = list_text(&peers(), &Screen::default());
    assert!(whole.contains("12D3KooWMK1zZRgcahdV5V5waoRVzLR7XotswEixcu6iyUyD6R7Q"), "a pipe gets all of it");
    assert!(whole.contains("[2001:db8:85a3:8d3:1319:8a2e:370:7348]:26500/quic"));
}

#[test]
fn one_peer_is_shown_with_the_parts_of_its_score() {
    let text = peer_text(&peers()[1], &Screen::of(80));
    for line in ["direction    in: it dialled this node", "round trip   not measured yet", "score        -42.00"] {
        assert!(text.lines().any(|shown| shown == line), "{text}");
    }
    assert!(text.ends_with("      -40.00  invalid blocks\n       -2.00  breaches of the protocol\n"), "{text}");
}

#[test]
fn each_order_puts_its_best_first() {
    let peers = [peer("a", Some(9.0), 5, 1.0), peer("b", None, 7, 3.0), peer("c", Some(2.0), 7, f64::NAN), {
        PeerReply { frame_in_bytes: 9 << 20, ..peer("d", Some(2.0), 1, 3.0) }
    }];
    let order = |sort: Sort| {
        let mut sorted = peers.to_vec();
        sorted.sort_by(|a, b| sort.compare(a, b));
        sorted.iter().map(|peer| peer.peer_id.as_str()).collect::<String>()
    };
    assert_eq!(order(Sort::Score), "cbda", "ties in the order of ids; even a score that is no number has a place");
    assert_eq!(order(Sort::Rtt), "cdab", "unmeasured last");
    assert_eq!(order(Sort::Age), "bcad");
    assert_eq!(order(Sort::Bytes), "dabc");
    assert_eq!(order(Sort::Id), "abcd");
}

#[test]
fn a_part_of_an_id_names_a_peer_if_only_one_has_it() {
    let peers = peers();
    for part in ["12D3KooWB", "AffkxNvyqUr", "12D3KooW…NvyqUr", &peers[0].peer_id] {
        assert_eq!(find(&peers, part).expect(part).peer_id, peers[0].peer_id);
    }
    assert!(find(&peers, "12D3KooW").expect_err("two").message().contains("2 peers"));
    assert!(find(&peers, "nobody").expect_err("none").message().contains("starling peers"));
}

#[test]
fn a_good_score_needs_no_reason() {
    assert_eq!(reasons(&peers()[0].score), None);
    assert_eq!(reasons(&ScoreReply { total: -1.0, ..ScoreReply::default() }).as_deref(), Some(""));
}
