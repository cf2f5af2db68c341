use super::super::answers::RESPONSE_BYTES_MAX;
use super::*;

fn connections(max: u32) -> Arc<Connections> {
    Connections::new(max, 1_000, 64 << 20, Arc::new(Limits::new(0)))
}

fn from(host: u8) -> Door {
    Door::Tcp { local: IpAddr::from([127, 0, 0, 1]), remote: IpAddr::from([192, 0, 2, host]) }
}

#[tokio::test(start_paused = true)]
async fn the_longest_waiting_of_the_largest_crowd_makes_room_and_nobody_who_is_answered() {
    let all = connections(4);
    let lone = all.admit(from(1)).expect("room");
    let mut crowd = Vec::new();
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(1)).await;
        crowd.push(all.admit(from(2)).expect("room"));
    }
    let answered = crowd[0].answering();
    let newcomer = all.admit(from(3)).expect("somebody makes room");
    let closed: Vec<bool> = crowd.iter().map(|connection| connection.is_closed()).collect();
    assert_eq!(closed, [false, true, false], "the first is being answered, the second has waited longest");
    assert!(!lone.is_closed() && !newcomer.is_closed());

    let busy: Vec<_> = [&lone, &crowd[2], &newcomer].map(|connection| connection.answering()).into();
    assert!(all.admit(from(4)).is_none(), "everybody is being answered");
    drop(answered);
    all.admit(from(4)).expect("room again");
    assert!(crowd[0].is_closed());
    drop(busy);
}

#[tokio::test(start_paused = true)]
async fn a_dawdler_closes_its_own_and_never_a_client_that_asks_at_once() {
    let all = connections(8);
    let mut dawdlers: Vec<_> = (0..8).filter_map(|_| all.admit(from(2))).collect();
    for _ in 0..100 {
        let client = all.admit(from(2)).expect("room, although the address is the same");
        dawdlers.extend((0..6).filter_map(|_| all.admit(from(2))));
        assert!(!client.is_closed(), "it has come later than those that make room");
        let answered = client.answering();
        dawdlers.extend((0..20).filter_map(|_| all.admit(from(2))));
        assert!(!client.is_closed(), "it is being answered");
        drop(answered);
        all.forget(&client);
    }
    assert!(lock(&all.open).by_number.len() <= 8);
}

#[tokio::test(start_paused = true)]
async fn websockets_take_half_of_the_places_and_idle_ones_make_room() {
    let all = connections(4);
    let sockets: Vec<_> = (0..4).map(|_| all.admit(from(1)).expect("room")).collect();
    assert!(all.upgrade(&sockets[0]) && all.upgrade(&sockets[1]));
    let held = sockets[0].hold_subscription(1).expect("the first");
    assert!(sockets[0].hold_subscription(1).is_none(), "one is the most");
    assert!(all.upgrade(&sockets[2]), "an idle one makes room");
    assert!(sockets[1].is_closed() && !sockets[0].is_closed());
    sockets[2].message_taken(1);
    assert!(!all.upgrade(&sockets[3]), "none is idle");
    drop(held);
    assert!(all.upgrade(&sockets[3]));
    assert!(sockets[0].is_closed());
}

const LARGEST: usize = RESPONSE_BYTES_MAX as usize;

/// With room for so many answers of the largest kind.
fn with_room_for(answers: u32) -> Arc<Connections> {
    Connections::new(16, 1_000, answers * RESPONSE_BYTES_MAX, Arc::new(Limits::new(0)))
}

/// A connection that holds an answer of so many bytes and takes none of it.
async fn unread(all: &Connections, host: u8, bytes: usize) -> Arc<Connection> {
    let connection = all.admit(from(host)).expect("a place");
    let room = all.room(&connection).await.expect("room");
    connection.large_begins(room, bytes);
    connection.set_refuses(true);
    connection
}

#[tokio::test(start_paused = true)]
async fn the_slowest_of_the_client_that_holds_most_makes_room() {
    let all = with_room_for(3);
    let lone = unread(&all, 1, LARGEST / 8).await;
    let slow = unread(&all, 2, LARGEST / 8).await;
    let slowest = unread(&all, 2, LARGEST).await;
    slow.took(200);
    slowest.took(100);
    let busy = all.admit(from(3)).expect("a place");
    let _in_the_making = all.room(&busy).await.expect("there is room for one more");

    let honest = all.admit(from(4)).expect("a place");
    let before = Instant::now();
    let looking = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            all.close_stuck(Duration::from_secs(15));
        }
    };
    let room = tokio::select! { room = all.room(&honest) => room, () = looking => unreachable!() };
    assert!(room.is_some_and(|room| room.bytes() == LARGEST));
    assert!((2..4).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
    let closed = [&lone, &slow, &slowest, &busy, &honest].map(|connection| connection.is_closed());
    assert_eq!(closed, [false, false, true, false, false]);
    assert_eq!((all.take_slow_closed(), all.take_slow_closed()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_one_large_answer_at_a_time_and_who_reads_is_not_closed() {
    let all = with_room_for(2);
    let connection = unread(&all, 1, 1 << 20).await;
    connection.set_refuses(false);
    let mut next = Box::pin(all.room(&connection));
    assert!(futures::poll!(next.as_mut()).is_pending(), "it has one that is not read");
    connection.large_ended();
    drop(next.await.expect("its turn"));
    assert_eq!(all.answer_bytes(), 0);

    // Whoever does not keep us waiting makes no room: the call is refused.
    let first = all.room(&connection).await.expect("room");
    connection.large_begins(first, LARGEST);
    let other = all.admit(from(1)).expect("a place");
    let _second = all.room(&other).await.expect("room");
    let third = all.admit(from(2)).expect("a place");
    assert!(all.room(&third).await.is_none(), "nobody is slow");
    assert!(!connection.is_closed() && !other.is_closed());
    let mut late = Box::pin(all.room(&connection));
    assert!(futures::poll!(late.as_mut()).is_pending());
    connection.close();
    assert!(late.await.is_none(), "it is closed");
    assert_eq!(all.answer_bytes(), LARGEST, "what it held is given back");
}

#[tokio::test(start_paused = true)]
async fn who_takes_a_byte_now_and_then_is_closed() {
    let all = with_room_for(2);
    let connection = unread(&all, 1, 1 << 20).await;
    let patience = Duration::from_secs(15);
    for second in 0..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        connection.set_refuses(false);
        connection.took(1);
        connection.set_refuses(true);
        all.close_stuck(patience);
        assert_eq!(connection.is_closed(), second >= 29, "after {second} s");
    }
}

#[test]
fn a_host_of_ip_version_6_is_its_subnet() {
    let client = |remote: &str| {
        let remote = remote.parse().expect("an address");
        Door::Tcp { local: remote, remote }.client().map(|client| client.to_string())
    };
    assert_eq!(client("2001:db8::1:2:3:4"), Some("2001:db8::".to_owned()));
    assert_eq!(client("::ffff:192.0.2.1"), Some("192.0.2.1".to_owned()));
    assert_eq!(Door::Admin.client(), None);
}
