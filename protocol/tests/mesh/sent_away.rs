//! What becomes of the messages of a peer that is sent away, and of those of one that brings much that is ignored.

use crate::bench::*;
use starling_protocol::id::PeerHandle;
use starling_protocol::mesh::{Event, Input, Output, ValidationTicket, Verdict};
use starling_protocol::rpc::Rpc;
use starling_protocol::time::Duration;

fn abandoned(outputs: &[Output]) -> Vec<ValidationTicket> {
    let tickets = outputs.iter().filter_map(|output| match output {
        Output::Abandon { tickets } => Some(tickets.clone()),
        _ => None,
    });
    tickets.flatten().collect()
}

fn is_sent_away(outputs: &[Output], who: PeerHandle) -> bool {
    outputs.iter().any(|output| matches!(output, Output::Disconnect { peer, .. } if *peer == who))
}

/// Has the peer send these messages in one RPC.
fn send(bench: &mut Bench, peer: PeerHandle, numbers: core::ops::Range<u64>) -> Vec<ValidationTicket> {
    let publish = numbers.map(message).collect();
    bench.take();
    bench.rpc(peer, &Rpc { publish, ..Rpc::default() });
    bench.tickets()
}

#[test]
fn three_rejects_end_it_whatever_was_banked_and_what_waits_is_not_judged() {
    let mut bench = Bench::joined(config());
    let peer = bench.subscribers(9)[0];
    bench.graft_from(peer);
    // As much credit as there is.
    for round in 0..40 {
        send(&mut bench, peer, 1_000 + round * 100..1_100 + round * 100);
        bench.judge(Verdict::Accept);
        bench.heartbeat();
    }
    let tickets = send(&mut bench, peer, 0..20);
    assert_eq!(tickets.len(), 20);
    bench.take();
    let mut rejects = 0;
    let outputs = loop {
        bench.input(Input::Verdict { ticket: tickets[rejects], verdict: Verdict::Reject });
        rejects += 1;
        let outputs = bench.take();
        if is_sent_away(&outputs, peer) {
            break outputs;
        }
        assert!(rejects < 3, "banked credit does not buy more");
        assert_eq!(abandoned(&outputs), []);
    };
    assert_eq!(abandoned(&outputs), tickets[rejects..]);
    assert!(rejects > 1, "one may be a mistake");
    assert!(tickets[3..].iter().all(|ticket| !bench.mesh.is_validating(*ticket)));
    // A worker that had begun already changes nothing.
    bench.input(Input::Verdict { ticket: tickets[3], verdict: Verdict::Accept });
    assert!(bench.take().is_empty());
}

#[test]
fn what_was_abandoned_is_taken_from_the_next_who_sends_it() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(3);
    let tickets = send(&mut bench, peers[0], 0..5);
    for ticket in &tickets[..4] {
        bench.input(Input::Verdict { ticket: *ticket, verdict: Verdict::Reject });
    }
    assert!(!bench.mesh.is_validating(tickets[4]));
    bench.take();
    bench.publish_from(peers[1], &message(4));
    assert_eq!(bench.tickets().len(), 1, "nothing is held against the message");
    bench.judge(Verdict::Accept);
    assert_eq!(bench.copies_to(peers[2], &message(4)), 1);
}

#[test]
fn what_somebody_else_has_sent_too_is_judged_in_that_ones_name() {
    let mut bench = Bench::joined(config());
    let peers = bench.subscribers(4);
    let (spammer, honest) = (peers[0], peers[1]);
    let tickets = send(&mut bench, spammer, 0..6);
    bench.publish_from(honest, &message(5));
    for ticket in &tickets[..3] {
        bench.input(Input::Verdict { ticket: *ticket, verdict: Verdict::Reject });
    }
    assert!(abandoned(&bench.take()).ends_with(&tickets[3..5]));
    assert!(bench.mesh.is_validating(tickets[5]));
    bench.disconnect(spammer);
    let before = bench.mesh.score(honest);
    bench.input(Input::Verdict { ticket: tickets[5], verdict: Verdict::Accept });
    assert_eq!(bench.copies_to(peers[2], &message(5)), 1, "it is passed on");
    assert!(bench.mesh.score(honest) > before, "the other sender has brought it");
}

#[test]
fn who_brings_nothing_but_what_is_ignored_is_looked_at_now_and_then_only() {
    let mut config = config();
    (config.gater.allowance, config.gater.allowance_refill) = (100, 5);
    let mut bench = Bench::joined(config);
    let peers = bench.subscribers(4);
    let (spammer, honest) = (peers[0], peers[1]);
    let tickets = send(&mut bench, spammer, 0..200);
    assert_eq!(tickets.len(), 100);
    let shed = |output: &&Output| matches!(output, Output::Event(Event::Validated { verdict: Verdict::Shed, peer, .. }) if *peer == spammer);
    bench.judge(Verdict::Ignore);
    assert_eq!(bench.take().iter().filter(shed).count(), 100);
    assert_eq!(bench.mesh.score(spammer).min(0.0), 0.0, "it is not punished");
    let mut looked_at = 0;
    for round in 1..=20 {
        bench.pass(Duration::from_secs(1));
        looked_at += send(&mut bench, spammer, round * 1_000..round * 1_000 + 200).len();
        bench.judge(Verdict::Ignore);
    }
    assert!((90..=105).contains(&looked_at), "five a second, but {looked_at} in twenty");
    // Blocks are not paid for with transactions.
    bench.input(Input::Subscribe { topic: other_topic() });
    bench.take();
    bench.publish_from(spammer, &starling_protocol::message::Payload::new(&other_topic(), b"block"));
    assert_eq!(bench.tickets().len(), 1);
    bench.judge(Verdict::Accept);
    // What it was turned away for can come from others, and who brings what is accepted may bring much that is not.
    for round in 100..110 {
        send(&mut bench, honest, round * 1_000..round * 1_000 + 40);
        bench.judge(Verdict::Accept);
        let conflicting = send(&mut bench, honest, round * 1_000 + 40..round * 1_000 + 80);
        assert_eq!(conflicting.len(), 40);
        bench.judge(Verdict::Ignore);
    }
}
