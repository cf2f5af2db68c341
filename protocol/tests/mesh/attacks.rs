//! The spam attacks of go-libp2p-pubsub's test suite, and others. Every bench step checks all invariants, bounds included.

use crate::bench::{Bench, config, large_message, message, topic};
use starling_protocol::id::{MessageId, PeerHandle, Topic};
use starling_protocol::mesh::{DisconnectReason, Input, Output, Verdict};
use starling_protocol::rpc::{Frame, IHave, Rpc, Subscription};
use starling_protocol::time::Duration;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn invented(number: u64) -> MessageId {
    let mut id = [0xee; 20];
    id[..8].copy_from_slice(&number.to_be_bytes());
    MessageId(id)
}

fn asked_of(bench: &Bench, peer: PeerHandle) -> usize {
    let frames = bench.frames_to(peer).into_iter();
    frames.map(|frame| if let Frame::IWant(ids) = frame { ids.len() } else { 0 }).sum()
}

#[test]
fn gossipsub_attack_spam_iwant() {
    let mut bench = Bench::joined(config());
    let attacker = bench.subscriber();
    bench.publish(&message(1));
    bench.take();
    for _ in 0..1_000 {
        bench.iwant_from(attacker, &message(1));
    }
    assert_eq!(bench.copies_to(attacker, &message(1)), 3, "retransmissions are limited");
    // Naming the id many times in one request does not help either.
    bench.publish(&message(2));
    bench.take();
    let iwant = vec![message(2).id(); 1_000];
    bench.rpc(attacker, &Rpc { iwant, ..Rpc::default() });
    assert_eq!(bench.copies_to(attacker, &message(2)), 1);
}

/// Whether a peer is sent away that asks for so many ids in each of 45 heartbeats, which come late if we are starved of the processor.
fn is_sent_away_for_asking(ids: u32, starved: bool) -> bool {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    for _ in 0..45 {
        let asked: Vec<MessageId> = (0..u64::from(ids)).map(invented).collect();
        for iwant in asked.chunks(500) {
            bench.input(Input::Rpc {
                peer,
                rpc: &Rpc { iwant: iwant.to_vec(), ..Rpc::default() },
                received: bench.now,
            });
        }
        if starved { bench.starve(S * 3) } else { bench.heartbeat() }
    }
    let sent_away = |output: &Output| matches!(output, Output::Disconnect { reason: DisconnectReason::Graylisted, .. });
    bench.take().iter().any(sent_away)
}

#[test]
fn who_asks_for_far_more_than_was_announced_is_sent_away() {
    let most = config().gossip.iwant_ids_max;
    assert!(!is_sent_away_for_asking(most, false));
    // What we announce at two heartbeats, all of it asked for in one.
    assert!(!is_sent_away_for_asking(2 * most - 1, false));
    assert!(is_sent_away_for_asking(2 * most, false));
    // A late heartbeat of ours is several of the peer's.
    assert!(!is_sent_away_for_asking(2 * most, true));
    // But not without end: whoever floods us may be the reason for which we are late.
    assert!(is_sent_away_for_asking(20 * most, true));
}

/// Late by 22 intervals at one heartbeat, and by one at the next or after some that were in time. What the peer asked for while we were away
/// first may be read only then.
#[test]
fn a_little_lateness_soon_after_a_great_one_leaves_the_peer_what_the_great_one_allows() {
    for (in_time, forgiven) in [(0, true), (3, false)] {
        let mut config = config();
        config.gossip.iwant_ids_max = 50;
        let mut bench = Bench::joined(config);
        let peer = bench.subscriber();
        bench.heartbeat();
        bench.heartbeat();
        bench.starve(S * 15);
        (0..in_time).for_each(|_| bench.heartbeat());
        let iwant = (0..50 * 15).map(invented).collect();
        bench.rpc(peer, &Rpc { iwant, ..Rpc::default() });
        bench.starve(MS * 1_200);
        assert_eq!(bench.mesh.counters().heartbeats_late, 2);
        assert_eq!(bench.mesh.score(peer) >= 0.0, forgiven, "{in_time} heartbeats were in time");
    }
}

/// Late by 22 intervals once, and by less than one at each heartbeat from then on: the little lateness does not keep the great one's allowance.
#[test]
fn one_great_lateness_is_not_borne_with_for_ever() {
    let mut config = config();
    config.gossip.iwant_ids_max = 50;
    let mut bench = Bench::joined(config);
    let peer = bench.subscriber();
    bench.heartbeat();
    bench.starve(S * 15);
    bench.starve(MS * 1_200);
    for _ in 0..20 {
        let iwant = (0..50 * 5).map(invented).collect();
        bench.rpc(peer, &Rpc { iwant, ..Rpc::default() });
        bench.starve(MS * 1_200);
    }
    assert_eq!(bench.mesh.counters().heartbeats_late, 22);
    let sent_away = |output: &Output| matches!(output, Output::Disconnect { reason: DisconnectReason::Graylisted, .. });
    assert!(bench.take().iter().any(sent_away));
}

#[test]
fn gossipsub_attack_spam_ihave() {
    let mut bench = Bench::joined(config());
    let attacker = bench.subscriber();
    bench.heartbeat();
    bench.take();
    let mut next = 0;
    let mut spam = |bench: &mut Bench, announcements: u64, ids: u64| {
        for _ in 0..announcements {
            let ids = (0..ids).map(|id| invented(next + id)).collect();
            next += 1_000_000;
            bench.rpc(attacker, &Rpc { ihave: vec![IHave { topic: topic(), ids }], ..Rpc::default() });
        }
    };
    // Small announcements: ten are looked at in a heartbeat.
    spam(&mut bench, 100, 1);
    bench.pass(MS * 200);
    assert_eq!(asked_of(&bench, attacker), 10);
    bench.heartbeat();
    bench.take();
    // Large ones: what is on file of one peer is limited.
    spam(&mut bench, 20, 10_000);
    bench.pass(MS * 200);
    assert!(asked_of(&bench, attacker) <= 5_000);
    assert!(bench.mesh.wanted_len() <= 5_000);
    // None of it is delivered: promises are broken until the score is negative and nothing more is asked.
    for _ in 0..20 {
        spam(&mut bench, 10, 10);
        bench.pass(S);
    }
    assert!(bench.mesh.score(attacker) < 0.0, "score {}", bench.mesh.score(attacker));
    assert!(bench.mesh.counters().promises_broken > 0);
}

#[test]
fn gossipsub_attack_graft_non_existent_topic() {
    let mut bench = Bench::joined(config());
    let attacker = bench.subscriber();
    bench.take();
    for number in 0..10_000_u32 {
        let unknown = Topic::new(&format!("unknown {number}"));
        let subscriptions = vec![Subscription { subscribe: true, topic: unknown.clone() }];
        let prune = vec![starling_protocol::rpc::Prune {
            topic: unknown.clone(),
            backoff_seconds: Some(u64::MAX),
            peers: Vec::new(),
        }];
        let rpc = Rpc { subscriptions, graft: vec![unknown], prune, ..Rpc::default() };
        bench.mesh.handle(bench.now, Input::Rpc { peer: attacker, rpc: &rpc, received: bench.now }, &mut Vec::new());
    }
    bench.mesh.check();
    let view = bench.mesh.peer_view(attacker).expect("connected");
    assert_eq!(view.subscribed, [topic()]);
    assert_eq!(bench.mesh.counters().grafts_ignored, 10_000);
    assert_eq!(bench.mesh.counters().prunes_ignored, 10_000);
    assert!(bench.frames_to(attacker).is_empty(), "no PRUNE for what we do not know");
}

#[test]
fn gossipsub_attack_graft_during_backoff() {
    let mut bench = Bench::joined(config());
    let attacker = bench.subscriber();
    let honest = bench.subscribers(4);
    bench.prune_from(attacker, Some(60));
    bench.take();
    // Within the flood threshold a graft costs two penalties, later one; P7 bears six.
    let breaches = |bench: &Bench| bench.mesh.peer_view(attacker).expect("connected").score.behaviour;
    bench.graft_from(attacker);
    assert!(!bench.in_mesh(attacker));
    assert_eq!(bench.frames_to(attacker).len(), 1, "each is answered by a PRUNE");
    bench.pass(S * 20);
    bench.graft_from(attacker);
    assert!(breaches(&bench) >= 0.0, "three breaches are borne");
    // The refusals began the backoff anew: 60 s after the first PRUNE it is still in force.
    bench.pass(S * 45);
    bench.graft_from(attacker);
    assert!(!bench.in_mesh(attacker), "the backoff starts anew with each offence");
    for _ in 0..5 {
        bench.graft_from(attacker);
    }
    assert!(breaches(&bench) < 0.0);
    for _ in 0..10 {
        bench.graft_from(attacker);
    }
    let graylisted = |output: &Output| matches!(output, Output::Disconnect { peer, reason: DisconnectReason::Graylisted } if *peer == attacker);
    assert!(bench.take().iter().any(graylisted), "in the end it is sent away");
    assert!(honest.iter().all(|peer| bench.in_mesh(*peer)));
}

#[test]
fn gossipsub_attack_invalid_message_spam() {
    let mut bench = Bench::joined(config());
    let attacker = bench.subscriber();
    let honest = bench.subscriber();
    bench.publish_from(honest, &message(0));
    bench.judge(Verdict::Accept);
    bench.take();
    let mut validated = 0;
    for number in 1..1_000 {
        bench.publish_from(attacker, &message(number));
        validated += bench.tickets().len();
        bench.judge(Verdict::Reject);
        bench.take();
    }
    assert!((1..=3).contains(&validated), "{validated} rejections before nothing more is looked at");
    // The accepted message has not been pushed out of the seen-cache.
    bench.publish_from(honest, &message(0));
    assert!(bench.tickets().is_empty());
}

#[test]
fn gossipsub_attack_spam_idontwant() {
    let mut bench = Bench::joined(config());
    let (attacker, honest, source) = (bench.subscriber(), bench.subscriber(), bench.subscriber());
    for start in 0..100 {
        let idontwant = (0..1_000).map(|number| invented(start * 1_000 + number)).collect();
        bench.rpc(attacker, &Rpc { idontwant, ..Rpc::default() });
    }
    assert_eq!(bench.mesh.counters().idontwant_received, 1_000);
    assert_eq!(bench.mesh.counters().idontwant_excess, 99_000);
    // Beyond its budget its wish is not heard, and nobody else suffers.
    bench.idontwant_from(attacker, &large_message(1));
    bench.publish_from(source, &large_message(1));
    bench.judge(Verdict::Accept);
    assert_eq!(bench.copies_to(attacker, &large_message(1)), 1);
    assert_eq!(bench.copies_to(honest, &large_message(1)), 1);
    bench.heartbeat();
    bench.idontwant_from(attacker, &large_message(2));
    bench.publish_from(source, &large_message(2));
    bench.judge(Verdict::Accept);
    assert_eq!(bench.copies_to(attacker, &large_message(2)), 0, "a new heartbeat, a new budget");
}

#[test]
fn validations_under_way_are_bounded_and_the_newest_is_shed() {
    let mut config = config();
    config.relay.pending_max = 30;
    config.relay.pending_per_peer_max = 20;
    let mut bench = Bench::joined(config);
    let (flooder, honest) = (bench.subscriber(), bench.subscriber());
    for number in 0..100 {
        bench.publish_from(flooder, &message(number));
    }
    assert_eq!(bench.tickets().len(), 20, "one peer cannot take all places");
    for number in 100..200 {
        bench.publish_from(honest, &message(number));
    }
    assert_eq!(bench.tickets().len(), 30);
    assert_eq!(bench.mesh.counters().messages_shed, 170);
    assert!(bench.mesh.score(flooder) >= 0.0, "our overload is nobody's fault");
    bench.judge(Verdict::Accept);
    bench.take();
    // What was shed is not remembered: a later copy tries again.
    bench.publish_from(honest, &message(99));
    assert_eq!(bench.tickets().len(), 1);
}

#[test]
fn a_verdict_that_does_not_come_counts_as_ignore() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    bench.publish_from(peer, &message(1));
    let tickets = bench.tickets();
    bench.pass(S * 6);
    assert_eq!(bench.mesh.pending_len(), 0);
    assert_eq!(bench.mesh.counters().validations_late, 1);
    bench.take();
    bench.input(Input::Verdict { ticket: tickets[0], verdict: Verdict::Accept });
    assert!(bench.take().is_empty(), "too late");
    bench.publish_from(peer, &message(1));
    assert!(bench.tickets().is_empty() && bench.mesh.score(peer) >= 0.0);
}

#[test]
fn a_verdict_that_waits_while_we_get_no_processor_is_not_too_late() {
    let mut bench = Bench::joined(config());
    let (peer, neighbour) = (bench.subscriber(), bench.subscriber());
    bench.pass(S * 2);
    bench.publish_from(peer, &message(1));
    let tickets = bench.tickets();
    // The process is stopped for longer than a validation may take. It reads the clock before it reads the verdict.
    bench.starve(S * 20);
    bench.take();
    bench.input(Input::Verdict { ticket: tickets[0], verdict: Verdict::Accept });
    assert_eq!((bench.mesh.counters().validations_late, bench.mesh.counters().messages_accepted), (0, 1));
    assert_eq!(bench.copies_to(neighbour, &message(1)), 1, "it is passed on");
    // One that does not come all the same is given up in the end.
    bench.publish_from(peer, &message(2));
    bench.starve(S * 20);
    bench.pass(S * 6);
    assert_eq!((bench.mesh.counters().validations_late, bench.mesh.pending_len()), (1, 0));
}

#[test]
fn a_message_that_we_shed_by_verdict_may_come_again() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscriber();
    bench.publish_from(peer, &message(1));
    bench.judge(Verdict::Shed);
    bench.take();
    bench.publish_from(peer, &message(1));
    bench.judge(Verdict::Accept);
    let delivered = |output: &Output| matches!(output, Output::Deliver { .. });
    assert_eq!(bench.take().iter().filter(|output| delivered(output)).count(), 1);
}

#[test]
fn under_overload_the_gater_prefers_senders_of_what_we_accept() {
    let mut config = config();
    config.relay.pending_max = 8;
    let mut bench = Bench::joined(config);
    let (flooder, honest) = (bench.subscriber(), bench.subscriber());
    let taken = |bench: &mut Bench, peer, numbers: core::ops::Range<u64>, verdict| {
        let mut taken = 0;
        for number in numbers {
            bench.publish_from(peer, &message(number));
            taken += bench.tickets().len();
            bench.judge(verdict);
            bench.take();
        }
        taken
    };
    // While we keep up, everybody is looked at.
    assert_eq!(taken(&mut bench, flooder, 0..50, Verdict::Ignore), 50);
    assert_eq!(taken(&mut bench, honest, 50..100, Verdict::Accept), 50);
    assert_eq!(taken(&mut bench, honest, 600..610, Verdict::Ignore), 10);
    // Overload: verdicts do not keep pace.
    for number in 100..300 {
        bench.publish_from(flooder, &message(number));
    }
    assert_eq!(bench.tickets().len(), 8);
    bench.judge(Verdict::Ignore);
    bench.take();
    assert!(taken(&mut bench, flooder, 300..400, Verdict::Ignore) < 10, "its share is small");
    assert!(taken(&mut bench, honest, 400..500, Verdict::Accept) > 70, "who delivers is heard");
    // A minute later all is forgiven.
    bench.pass(S * 70);
    bench.take();
    assert_eq!(taken(&mut bench, flooder, 500..550, Verdict::Ignore), 50);
}
