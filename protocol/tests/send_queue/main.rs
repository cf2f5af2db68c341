//! The send queue against a naive model, and its rules one by one.

mod model;

use model::{Model, frame_len};
use proptest::prelude::*;
use starling_protocol::id::{MessageId, PeerId, Topic};
use starling_protocol::message::Payload;
use starling_protocol::rpc::{Class, ExchangedPeer, Frame, IHave, Prune, Rpc, Subscription};
use starling_protocol::send_queue::{LAPSED_IDS_MAX, PIECE_OVERHEAD_BYTES, PushResult, SendQueue, SendQueueConfig};
use starling_protocol::time::{Duration, Time};
use starling_protocol::wire::{self, EncodedRpc, TopicInterner, WireLimits};

const CLASSES: [Class; 5] = [Class::Control, Class::Priority, Class::Forward, Class::Reply, Class::Gossip];

/// What the receiver makes of an RPC.
fn received(encoded: &EncodedRpc) -> Rpc {
    let bytes = encoded.to_vec();
    let limits = WireLimits::default();
    let prefix = wire::read_prefix(&bytes, &limits).expect("in the limits").expect("complete");
    wire::decode(&bytes[prefix.prefix_bytes..], &limits, &TopicInterner::default()).expect("ours are well-formed")
}

fn frame_bytes(encoded: &EncodedRpc) -> usize {
    let prefix = wire::read_prefix(&encoded.to_vec(), &WireLimits::default()).expect("in the limits");
    prefix.expect("complete").frame_bytes
}

/// What the receiver must make of these frames in one RPC.
fn expected(frames: &[Frame]) -> Rpc {
    let mut rpc = Rpc::default();
    for frame in frames.iter().cloned() {
        match frame {
            Frame::Publish { payload, .. } => rpc.publish.push(payload),
            Frame::Subscription(subscription) => rpc.subscriptions.push(subscription),
            Frame::Graft(topic) => rpc.graft.push(topic),
            Frame::Prune(prune) => rpc.prune.push(prune),
            Frame::IHave { topic, ids } => rpc.ihave.push(IHave { topic, ids: ids.to_vec() }),
            Frame::IWant(ids) => rpc.iwant.extend_from_slice(&ids),
            Frame::IDontWant(ids) => rpc.idontwant.extend_from_slice(&ids),
        }
    }
    rpc
}

fn topic(number: u8) -> Topic {
    Topic::new(&format!("topic-{number}"))
}

fn publish(number: u8, len: usize, class: Class) -> Frame {
    Frame::Publish { payload: Payload::new(&topic(0), &vec![number; len]), class }
}

fn id_of(frame: &Frame) -> MessageId {
    let Frame::Publish { payload, .. } = frame else { panic!("not a message: {frame:?}") };
    payload.id()
}

fn ids(count: u8) -> Vec<MessageId> {
    (0..count).map(|number| MessageId([number; 20])).collect()
}

fn prune(number: u8, peers: u8, record_bytes: usize) -> Frame {
    let peer =
        |peer| ExchangedPeer { id: PeerId::from_number(peer), signed_record: Some(vec![1; record_bytes].into()) };
    let peers = (0..u64::from(peers)).map(peer).collect();
    Frame::Prune(Prune { topic: topic(number), backoff_seconds: Some(60), peers })
}

/// Everything that waits, in as few RPCs as possible.
fn drain(queue: &mut SendQueue, now: Time) -> Vec<Rpc> {
    std::iter::from_fn(|| queue.pop(now, usize::MAX)).map(|encoded| received(&encoded)).collect()
}

// ---- against the model ----

#[derive(Clone, Debug)]
enum Operation {
    Push(Frame),
    Cancel(Vec<MessageId>),
    Pop(usize),
    Wait(u64),
}

/// A message of a small pool, so that copies meet; its size follows from its number.
fn pool(number: u8, class: Class) -> Frame {
    publish(number, usize::from(number) * 37, class)
}

fn operation() -> impl Strategy<Value = Operation> {
    let class = prop::sample::select(vec![Class::Priority, Class::Forward, Class::Reply]);
    let frame = prop_oneof![
        8 => (0..24u8, class).prop_map(|(number, class)| pool(number, class)),
        1 => (0..4u8, any::<bool>())
            .prop_map(|(number, subscribe)| Frame::Subscription(Subscription { subscribe, topic: topic(number) })),
        1 => (0..4u8).prop_map(|number| Frame::Graft(topic(number))),
        1 => (0..4u8, 0..4u8, 0..120usize).prop_map(|(number, peers, record)| prune(number, peers, record)),
        2 => (0..3u8, 0..30u8).prop_map(|(number, count)| Frame::IHave { topic: topic(number), ids: ids(count).into() }),
        2 => (0..30u8).prop_map(|count| Frame::IWant(ids(count).into())),
        2 => (0..8u8).prop_map(|count| Frame::IDontWant(ids(count).into())),
    ];
    let cancelled = prop::collection::vec((0..24u8).prop_map(|number| id_of(&pool(number, Class::Forward))), 0..4);
    prop_oneof![
        8 => frame.prop_map(Operation::Push),
        1 => cancelled.prop_map(Operation::Cancel),
        2 => (0..1_200usize).prop_map(Operation::Pop),
        1 => (0..900u64).prop_map(Operation::Wait),
    ]
}

fn small() -> impl Strategy<Value = SendQueueConfig> {
    (600..6_000usize, 200..1_500usize, 300..1_000usize, 1..6usize, 60..500usize, 1..5usize).prop_map(
        |(
            bytes_max,
            control_bytes_max,
            rpc_bytes_max,
            rpc_publish_max,
            rpc_control_bytes_max,
            rpc_idontwant_ids_max,
        )| {
            SendQueueConfig {
                bytes_max,
                control_bytes_max,
                rpc_bytes_max,
                rpc_publish_max,
                rpc_control_bytes_max,
                rpc_idontwant_ids_max,
                ..SendQueueConfig::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_queue_does_what_the_naive_model_does(config in small(), operations in prop::collection::vec(operation(), 1..120)) {
        let mut queue = SendQueue::new(config.clone());
        // Is asked for what the receiver decodes rather than for bytes.
        let mut sharing = SendQueue::new(config.clone());
        let mut model = Model::new(config);
        let mut now = Time::ZERO;
        for operation in operations {
            match operation {
                Operation::Push(frame) => {
                    let dropped = model.push(now, frame.clone());
                    let _the_same = sharing.push(now, frame.clone());
                    let counted = match queue.push(now, frame) {
                        PushResult::Ok => [0; 5],
                        PushResult::Dropped { frames } => CLASSES.map(|class| frames[class]),
                    };
                    prop_assert_eq!(counted, dropped);
                }
                Operation::Cancel(ids) => {
                    prop_assert_eq!(queue.cancel(&ids), model.cancel(&ids));
                    sharing.cancel(&ids);
                }
                Operation::Pop(max_bytes) => {
                    let frames = model.pop(now, max_bytes);
                    let popped = queue.pop(now, max_bytes);
                    prop_assert_eq!(popped.is_some(), !frames.is_empty());
                    let shared = sharing.pop_shared(now, max_bytes).map(|rpc| (rpc.wire_len(), rpc.into_rpc()));
                    prop_assert_eq!(shared, popped.as_ref().map(|encoded| (encoded.len, received(encoded))));
                    if let Some(popped) = popped {
                        prop_assert_eq!(received(&popped), expected(&frames));
                        prop_assert_eq!(frame_bytes(&popped), frame_len(&frames));
                    }
                }
                Operation::Wait(millis) => now = now + Duration::from_millis(millis),
            }
            queue.check();
            prop_assert_eq!((queue.len(), queue.bytes()), (model.len(), model.bytes()));
            prop_assert_eq!((sharing.len(), sharing.bytes()), (model.len(), model.bytes()));
        }
        // Whatever the limits, the queue empties: every pop makes progress.
        for _ in 0..10_000 {
            if queue.pop(now, 1).is_none() {
                break;
            }
        }
        prop_assert!(queue.is_empty());
        prop_assert_eq!(queue.bytes(), 0);
    }

    /// What a simulator relies on where nothing waits.
    #[test]
    fn an_empty_queue_gives_back_a_single_frame_as_it_is(operation in operation()) {
        if let Operation::Push(frame) = operation {
            let mut queue = SendQueue::new(SendQueueConfig::default());
            prop_assert_eq!(queue.push(Time::ZERO, frame.clone()), PushResult::Ok);
            if let Some(rpc) = queue.pop(Time::ZERO, 32 << 10) {
                prop_assert_eq!(rpc, wire::encode([&frame]));
            }
            prop_assert!(queue.is_empty());
        }
    }
}

// ---- the rules, one by one ----

fn dropped(result: PushResult) -> Vec<(Class, u64)> {
    match result {
        PushResult::Ok => Vec::new(),
        PushResult::Dropped { frames } => {
            CLASSES.into_iter().map(|class| (class, frames[class])).filter(|(_, count)| *count > 0).collect()
        }
    }
}

/// A queue with room for so many bytes.
fn queue_of(bytes_max: usize) -> SendQueue {
    SendQueue::new(SendQueueConfig { bytes_max, ..SendQueueConfig::default() })
}

fn push_all(queue: &mut SendQueue, frames: impl IntoIterator<Item = Frame>) {
    for frame in frames {
        assert_eq!(queue.push(Time::ZERO, frame), PushResult::Ok);
        queue.check();
    }
}

fn data(rpc: &Rpc) -> Vec<u8> {
    rpc.publish.iter().map(|payload| payload.data()[0]).collect()
}

#[test]
fn an_empty_queue_has_nothing_to_send() {
    let mut queue = queue_of(1_000);
    assert!(queue.is_empty());
    assert_eq!(queue.pop(Time::ZERO, 1_000), None);
    push_all(
        &mut queue,
        [Frame::IWant([].into()), Frame::IDontWant([].into()), Frame::IHave { topic: topic(0), ids: [].into() }],
    );
    assert!(queue.is_empty(), "empty lists say nothing");
}

#[test]
fn classes_go_in_order_and_each_in_the_order_of_arrival() {
    let mut queue = queue_of(1 << 20);
    push_all(
        &mut queue,
        [
            Frame::IWant(ids(1).into()),
            publish(1, 50, Class::Reply),
            publish(2, 50, Class::Forward),
            publish(3, 50, Class::Priority),
            publish(4, 50, Class::Reply),
            publish(5, 50, Class::Forward),
            publish(6, 50, Class::Priority),
            Frame::Graft(topic(1)),
        ],
    );
    // One piece at a time.
    let rpcs: Vec<Rpc> = std::iter::from_fn(|| queue.pop(Time::ZERO, 1)).map(|rpc| received(&rpc)).collect();
    assert_eq!(rpcs[0].graft, [topic(1)]);
    assert_eq!(rpcs[1..7].iter().flat_map(data).collect::<Vec<_>>(), [3, 6, 2, 5, 1, 4]);
    assert_eq!(rpcs[7].iwant, ids(1));
}

#[test]
fn frames_go_together_when_they_fit() {
    let mut queue = queue_of(1 << 20);
    push_all(&mut queue, (0..20).map(|number| publish(number, 300, Class::Forward)));
    push_all(&mut queue, [Frame::Graft(topic(1)), Frame::IWant(ids(3).into())]);
    let rpcs = drain(&mut queue, Time::ZERO);
    assert_eq!(rpcs.len(), 1);
    assert_eq!((rpcs[0].publish.len(), rpcs[0].graft.len(), rpcs[0].iwant.len()), (20, 1, 3));
}

#[test]
fn an_rpc_keeps_to_the_wanted_size_and_a_larger_message_goes_alone() {
    let mut queue = queue_of(1 << 20);
    push_all(&mut queue, [1, 2, 3, 4].map(|number| publish(number, 400, Class::Forward)));
    push_all(&mut queue, [publish(5, 5_000, Class::Forward), publish(6, 400, Class::Forward)]);
    let rpcs: Vec<_> = std::iter::from_fn(|| queue.pop(Time::ZERO, 1_000)).collect();
    assert_eq!(
        rpcs.iter().map(|rpc| data(&received(rpc))).collect::<Vec<_>>(),
        [vec![1, 2], vec![3, 4], vec![5], vec![6]]
    );
    assert!(rpcs.iter().filter(|rpc| frame_bytes(rpc) > 1_000).count() == 1);
}

#[test]
fn a_message_that_the_peer_cannot_take_is_dropped_at_once() {
    let config = SendQueueConfig { rpc_bytes_max: 1_000, ..SendQueueConfig::default() };
    let mut queue = SendQueue::new(config);
    assert_eq!(dropped(queue.push(Time::ZERO, publish(1, 1_000, Class::Priority))), [(Class::Priority, 1)]);
    push_all(&mut queue, [publish(1, 900, Class::Priority)]);
    assert_eq!(queue.pop(Time::ZERO, usize::MAX).map(|rpc| frame_bytes(&rpc) <= 1_000), Some(true));
}

#[test]
fn under_pressure_gossip_goes_before_replies_before_forwards_and_the_urgent_stays() {
    let each = PIECE_OVERHEAD_BYTES + 1_000;
    let mut queue = queue_of(4 * each);
    push_all(
        &mut queue,
        [
            publish(1, 950, Class::Priority),
            publish(2, 950, Class::Forward),
            publish(3, 950, Class::Reply),
            Frame::IWant(ids(44).into()),
        ],
    );
    assert_eq!(dropped(queue.push(Time::ZERO, publish(4, 950, Class::Forward))), [(Class::Gossip, 1)]);
    assert_eq!(dropped(queue.push(Time::ZERO, publish(5, 950, Class::Forward))), [(Class::Reply, 1)]);
    assert_eq!(dropped(queue.push(Time::ZERO, publish(6, 950, Class::Forward))), [(Class::Forward, 1)]);
    assert_eq!(dropped(queue.push(Time::ZERO, publish(7, 950, Class::Reply))), [(Class::Reply, 1)], "refused");
    assert_eq!(dropped(queue.push(Time::ZERO, Frame::IWant(ids(44).into()))), [(Class::Gossip, 1)], "refused");
    assert_eq!(dropped(queue.push(Time::ZERO, publish(8, 950, Class::Priority))), [(Class::Forward, 1)]);
    assert_eq!(data(&drain(&mut queue, Time::ZERO)[0]), [1, 8, 5, 6]);
    assert_eq!(queue.stats().dropped.total(), 6);
}

#[test]
fn a_frame_that_cannot_fit_touches_nothing() {
    let mut queue = queue_of(2_000);
    push_all(
        &mut queue,
        [publish(1, 500, Class::Priority), publish(2, 500, Class::Forward), Frame::IWant(ids(5).into())],
    );
    let before = queue.len();
    assert_eq!(dropped(queue.push(Time::ZERO, publish(3, 1_500, Class::Forward))), [(Class::Forward, 1)]);
    assert_eq!(queue.len(), before);
}

#[test]
fn many_empty_messages_are_bounded_like_few_large_ones() {
    let mut queue = queue_of(100_000);
    for number in 0..10_000u32 {
        let payload = Payload::new(&topic(0), &number.to_le_bytes());
        let _dropped_or_not = queue.push(Time::ZERO, Frame::Publish { payload, class: Class::Forward });
    }
    queue.check();
    assert!(queue.len() < 100_000 / PIECE_OVERHEAD_BYTES);
}

#[test]
fn of_subscriptions_and_of_mesh_changes_of_a_topic_the_last_stands() {
    let subscribe = |subscribe| Frame::Subscription(Subscription { subscribe, topic: topic(1) });
    let mut queue = queue_of(1 << 20);
    push_all(
        &mut queue,
        [
            subscribe(true),
            subscribe(false),
            subscribe(true),
            Frame::Graft(topic(1)),
            prune(1, 0, 0),
            Frame::Graft(topic(2)),
        ],
    );
    assert_eq!(queue.len(), 3);
    let rpcs = drain(&mut queue, Time::ZERO);
    let [rpc] = &rpcs[..] else { panic!("one RPC expected: {rpcs:?}") };
    assert_eq!(rpc.subscriptions, [Subscription { subscribe: true, topic: topic(1) }]);
    assert_eq!((rpc.prune.len(), &rpc.graft[..]), (1, &[topic(2)][..]));
}

#[test]
fn control_is_bounded_and_old_idontwants_make_room_in_it() {
    let config = SendQueueConfig { control_bytes_max: 4_096, ..SendQueueConfig::default() };
    let mut queue = SendQueue::new(config);
    for number in 0..100 {
        let _dropped_or_not = queue.push(Time::ZERO, Frame::IDontWant([MessageId([number; 20])].into()));
    }
    queue.check();
    assert_eq!(queue.len(), 4_096 / (PIECE_OVERHEAD_BYTES + 22));
    assert_eq!(dropped(queue.push(Time::ZERO, Frame::Graft(topic(1)))), [(Class::Control, 1)]);
    for number in 0..100 {
        let _dropped_or_not = queue.push(Time::ZERO, Frame::Graft(topic(number)));
    }
    queue.check();
    assert_eq!(dropped(queue.push(Time::ZERO, Frame::Graft(topic(101)))), [(Class::Control, 1)]);
    assert_eq!(dropped(queue.push(Time::ZERO, Frame::IDontWant(ids(1).into()))), [(Class::Control, 1)]);
    let rpc = &drain(&mut queue, Time::ZERO)[0];
    assert!(rpc.idontwant.is_empty(), "lasting control took all the room");
}

#[test]
fn cancelling_removes_the_waiting_copy_whatever_its_class() {
    let mut queue = queue_of(1 << 20);
    let frames =
        [(1, Class::Priority), (2, Class::Forward), (3, Class::Reply), (4, Class::Forward), (5, Class::Forward)];
    let frames = frames.map(|(number, class)| publish(number, 10, class));
    push_all(&mut queue, frames.clone());
    let cancelled: Vec<_> = [0, 1, 2, 3].map(|index| id_of(&frames[index])).to_vec();
    assert_eq!(queue.cancel(&cancelled), 4);
    assert_eq!(queue.cancel(&cancelled), 0);
    queue.check();
    assert_eq!(data(&drain(&mut queue, Time::ZERO)[0]), [5]);
    assert_eq!(queue.stats().cancelled, 4);
    // Nothing is remembered: a later copy waits again.
    push_all(&mut queue, [frames[1].clone()]);
    assert_eq!(queue.len(), 1);
}

/// A peer that reads nothing and cancels what waits for it, for ever.
#[test]
fn cancelling_leaves_nothing_behind() {
    let mut queue = queue_of(1 << 20);
    push_all(&mut queue, [publish(1, 10, Class::Forward)]);
    let bytes = queue.bytes();
    for number in 0..100_000u32 {
        let payload = Payload::new(&topic(0), &number.to_le_bytes());
        let id = payload.id();
        assert_eq!(queue.push(Time::ZERO, Frame::Publish { payload, class: Class::Forward }), PushResult::Ok);
        assert_eq!(queue.cancel(&[id]), 1);
    }
    queue.check();
    assert_eq!((queue.len(), queue.bytes()), (1, bytes));
}

#[test]
fn a_message_waits_once_in_the_more_urgent_class() {
    let mut queue = queue_of(1 << 20);
    push_all(
        &mut queue,
        [publish(1, 10, Class::Forward), publish(2, 10, Class::Reply), publish(3, 10, Class::Priority)],
    );
    push_all(
        &mut queue,
        [publish(1, 10, Class::Reply), publish(2, 10, Class::Priority), publish(3, 10, Class::Priority)],
    );
    assert_eq!(queue.len(), 3);
    assert_eq!(data(&drain(&mut queue, Time::ZERO)[0]), [3, 2, 1]);
}

#[test]
fn what_waited_too_long_is_dropped_but_lasting_control_is_not() {
    let mut queue = queue_of(1 << 20);
    push_all(
        &mut queue,
        [
            publish(1, 10, Class::Priority),
            publish(2, 10, Class::Forward),
            publish(3, 10, Class::Reply),
            Frame::IWant(ids(1).into()),
            Frame::IDontWant(ids(1).into()),
            Frame::Graft(topic(1)),
        ],
    );
    let at = |seconds| Time::from_secs(seconds);
    assert_eq!(queue.push(at(4), publish(4, 10, Class::Forward)), PushResult::Ok);
    assert_eq!(queue.oldest_message(), Some(Time::ZERO));
    let rpc = received(&queue.pop(at(5), usize::MAX).expect("something waits"));
    assert_eq!((data(&rpc), rpc.graft.len()), (vec![1, 4], 1));
    assert!(rpc.iwant.is_empty() && rpc.idontwant.is_empty());
    assert!(rpc.ihave.is_empty(), "a message that is out of everybody's cache is not announced");
    let expired = queue.stats().expired;
    assert_eq!(CLASSES.map(|class| expired[class]), [1, 0, 1, 1, 1]);
    push_all(&mut queue, [publish(1, 10, Class::Priority)]);
    assert_eq!(queue.pop(at(5) + Duration::from_micros(1), usize::MAX), None);
}

#[test]
fn a_message_that_waited_too_long_is_announced_in_its_stead() {
    let mut queue = queue_of(1 << 20);
    let frames = [1, 2, 3].map(|number| publish(number, 500, Class::Forward));
    push_all(&mut queue, frames.clone());
    let at = |millis| Time::ZERO + Duration::from_millis(millis);
    // The peer did not read for longer than a forward may wait.
    let rpc = received(&queue.pop(at(1_001), usize::MAX).expect("something waits"));
    assert!(rpc.publish.is_empty());
    assert_eq!(rpc.ihave, [IHave { topic: topic(0), ids: frames.iter().map(id_of).collect() }]);
    assert_eq!(queue.stats().expired[Class::Forward], 3);
    assert!(queue.is_empty());
    // What was asked for is answered, and an answer that ages is nobody's loss: the peer has asked somebody else.
    assert_eq!(queue.push(at(1_010), publish(1, 500, Class::Reply)), PushResult::Ok);
    assert_eq!(queue.pop(at(4_011), usize::MAX), None);
}

#[test]
fn announcements_of_what_aged_are_gathered_while_the_link_is_busy() {
    let mut queue = queue_of(1 << 20);
    let at = |millis| Time::ZERO + Duration::from_millis(millis);
    // Twenty messages a second are due, and the link takes ten.
    let (mut announcements, mut announced, mut sent) = (0, 0, 0);
    for tick in 0..100_u64 {
        let number = |second| u8::try_from(2 * tick + second).expect("two hundred in all");
        for second in 0..2 {
            assert_eq!(queue.push(at(tick * 100), publish(number(second), 3_000, Class::Forward)), PushResult::Ok);
        }
        let rpc = received(&queue.pop(at(tick * 100 + 50), 4_000).expect("something waits"));
        announcements += rpc.ihave.len();
        announced += rpc.ihave.iter().map(|ihave| ihave.ids.len()).sum::<usize>();
        sent += rpc.publish.len();
        queue.check();
    }
    for rpc in drain(&mut queue, at(11_500)) {
        announced += rpc.ihave.iter().map(|ihave| ihave.ids.len()).sum::<usize>();
    }
    assert_eq!(sent + announced, 200, "each is sent or announced");
    assert!((1..=4 * 10).contains(&announcements), "{announcements} in ten seconds");
}

#[test]
fn what_is_kept_of_aged_messages_is_bounded() {
    let mut queue = queue_of(1 << 24);
    for number in 0..2_000u32 {
        let payload = Payload::new(&topic(0), &number.to_le_bytes());
        assert_eq!(queue.push(Time::ZERO, Frame::Publish { payload, class: Class::Forward }), PushResult::Ok);
    }
    let rpcs = drain(&mut queue, Time::from_secs(2));
    let announced: usize = rpcs.iter().flat_map(|rpc| &rpc.ihave).map(|ihave| ihave.ids.len()).sum();
    assert_eq!(announced, LAPSED_IDS_MAX);
}

#[test]
fn rpcs_keep_to_what_stock_implementations_accept() {
    let mut queue = queue_of(1 << 24);
    push_all(
        &mut queue,
        (0..1_200u32).map(|number| Frame::Publish {
            payload: Payload::new(&topic(0), &number.to_le_bytes()),
            class: Class::Forward,
        }),
    );
    push_all(&mut queue, (0..5).map(|number| Frame::IDontWant(ids(5 + number).into())));
    push_all(&mut queue, [Frame::IHave { topic: topic(0), ids: vec![MessageId([9; 20]); 5_000].into() }]);
    push_all(&mut queue, [Frame::IWant([MessageId([8; 20]); 1_000].into())]);
    push_all(&mut queue, (0..3).map(|number| prune(number, 16, 400)));
    let (mut publish, mut idontwant, mut ihave, mut iwant, mut pruned) = (0, 0, 0, 0, 0);
    while let Some(encoded) = queue.pop(Time::ZERO, usize::MAX) {
        let mut rpc = received(&encoded);
        assert!(rpc.publish.len() <= 500 && rpc.idontwant.len() <= 10);
        publish += rpc.publish.len();
        idontwant += rpc.idontwant.len();
        ihave += rpc.ihave.iter().map(|ihave| ihave.ids.len()).sum::<usize>();
        iwant += rpc.iwant.len();
        pruned += rpc.prune.iter().map(|prune| prune.peers.len()).sum::<usize>();
        let messages: usize = rpc.publish.drain(..).map(|payload| payload.encoded().len()).sum();
        assert!(frame_bytes(&encoded) - messages <= 16 * 1024);
        queue.check();
    }
    assert_eq!((publish, idontwant, ihave, iwant, pruned), (1_200, 5 + 6 + 7 + 8 + 9, 5_000, 1_000, 48));
}

#[test]
fn a_prune_loses_the_peers_that_no_rpc_could_carry() {
    let mut queue = queue_of(1 << 20);
    push_all(
        &mut queue,
        [prune(1, 16, 4_000), Frame::Subscription(Subscription { subscribe: false, topic: topic(1) })],
    );
    let rpc = queue.pop(Time::ZERO, usize::MAX).expect("something waits");
    assert!(frame_bytes(&rpc) <= 16 * 1024);
    assert_eq!(received(&rpc).prune[0].peers.len(), 4);
}

#[test]
fn gossip_keeps_an_eighth_of_a_busy_link() {
    let mut queue = queue_of(1 << 20);
    push_all(&mut queue, (0..100).map(|number| publish(number, 300, Class::Forward)));
    push_all(&mut queue, [Frame::IWant(ids(10).into())]);
    let rpc = received(&queue.pop(Time::ZERO, 8_000).expect("something waits"));
    assert_eq!(rpc.iwant, ids(10));
    assert!(rpc.publish.len() > 20);
}
