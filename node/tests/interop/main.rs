//! Our engine and the stock rust implementation of gossipsub, on one wire.
//!
//! The stock peer runs with its default configuration, but for anonymous messages and the message-id function of a
//! Starling network. Whatever it sends is written down as our decoder reads it, and whatever we send as our engine
//! emitted it; that the stock peer understood shows in what it delivers and whom it has in its mesh.

mod ours;
mod stock;

use ours::Ours;
use starling_protocol::id::Version;
use starling_protocol::message::message_id;
use starling_protocol::rpc::{Frame, Rpc};
use std::time::Duration;
use stock::Stock;

/// For anything that takes a few heartbeats: the stock one beats once a second, for the first time after five.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

const TOPIC: &str = "interop/t";

/// Above the stock threshold of 1,000 bytes for IDONTWANT.
const LARGE: usize = 4_000;

/// Waits for a condition, or fails with `what`.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "in vain: {what}");
}

fn received(ours: &Ours, is: impl Fn(&Rpc) -> bool) -> bool {
    ours.log().received.iter().any(is)
}

fn sent(ours: &Ours, is: impl Fn(&Frame) -> bool) -> bool {
    ours.log().sent.iter().any(is)
}

async fn meshed(ours: &Ours, stock: &Stock) {
    until("both are in each other's mesh", || ours.log().mesh_degree >= 1 && stock.log().mesh_degree >= 1).await;
}

/// Messages of all sizes cross in both directions over an eager link, whoever dialled.
async fn exchange(highest: Version, we_dial: bool, network: u8) {
    let ours = Ours::start(&format!("127.0.{network}.1"), TOPIC, highest).await;
    let stock = Stock::start(&format!("127.0.{network}.2"), TOPIC).await;
    if we_dial {
        ours.tell(ours::Command::Dial(stock.address.clone())).await;
    } else {
        stock.tell(stock::Command::Dial(ours.address.clone())).await;
    }
    meshed(&ours, &stock).await;
    assert_eq!(ours.log().versions, [highest]);
    assert!(
        sent(&ours, |frame| matches!(frame, Frame::Graft(_))) || received(&ours, |rpc| !rpc.graft.is_empty()),
        "a mesh without a GRAFT"
    );

    let messages: Vec<Vec<u8>> = [1, 100, 900, LARGE, 60_000].iter().map(|size| vec![network; *size]).collect();
    for message in &messages {
        ours.tell(ours::Command::Publish(message.clone())).await;
    }
    until("the stock peer delivers all that we publish", || stock.log().delivered.len() == messages.len()).await;
    assert_eq!(sorted(&stock.log().delivered), messages);

    let messages: Vec<Vec<u8>> = [2, 101, 901, LARGE + 1, 60_001].iter().map(|size| vec![network; *size]).collect();
    for message in &messages {
        stock.tell(stock::Command::Publish(message.clone())).await;
    }
    until("we deliver all that the stock peer publishes", || ours.log().delivered.len() == messages.len()).await;
    assert_eq!(sorted(&ours.log().delivered), messages);
}

fn sorted(messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut messages = messages.to_vec();
    messages.sort_by_key(Vec::len);
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_cross_at_1_2_when_we_dial() {
    exchange(Version::V1_2, true, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_cross_at_1_2_when_they_dial() {
    exchange(Version::V1_2, false, 61).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_cross_at_1_1_when_we_dial() {
    exchange(Version::V1_1, true, 62).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_cross_at_1_1_when_they_dial() {
    exchange(Version::V1_1, false, 63).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_cross_at_1_0() {
    exchange(Version::V1_0, true, 64).await;
}

/// After one side left and came back, a back-off keeps the two out of each other's mesh; messages then cross by IHAVE and
/// IWANT alone.
async fn lazy(highest: Version, network: u8) {
    let ours = Ours::start(&format!("127.0.{network}.1"), TOPIC, highest).await;
    let stock = Stock::start(&format!("127.0.{network}.2"), TOPIC).await;
    let source = Stock::start(&format!("127.0.{network}.3"), TOPIC).await;
    let feeder = Ours::start(&format!("127.0.{network}.4"), TOPIC, highest).await;
    ours.tell(ours::Command::Dial(stock.address.clone())).await;
    source.tell(stock::Command::Dial(stock.address.clone())).await;
    until("the stock peer has both in its mesh", || stock.log().mesh_degree == 2).await;
    until("the stock peer is in our mesh, too", || ours.log().mesh_degree == 1).await;

    ours.tell(ours::Command::Unsubscribe).await;
    until("our PRUNE is understood", || stock.log().mesh_degree == 1).await;
    assert!(sent(&ours, |frame| matches!(frame, Frame::Prune(_))));
    ours.tell(ours::Command::Subscribe).await;
    until("we are subscribed again", || stock.log().subscribers == 2).await;

    // Through us, who do not have the stock peer in our mesh, to the stock peer.
    feeder.tell(ours::Command::Dial(ours.address.clone())).await;
    until("the feeder is in our mesh", || ours.log().mesh_degree == 1 && feeder.log().mesh_degree == 1).await;
    feeder.tell(ours::Command::Publish(b"lazily ours".to_vec())).await;
    until("the stock peer pulls", || received(&ours, |rpc| !rpc.iwant.is_empty())).await;
    until("the stock peer delivers", || stock.log().delivered.contains(&b"lazily ours".to_vec())).await;
    assert!(sent(&ours, |frame| matches!(frame, Frame::IHave { .. })));

    // From a stock peer that we are not connected with, through the one that does not have us in its mesh.
    source.tell(stock::Command::Publish(b"lazily theirs".to_vec())).await;
    until("we pull and deliver", || ours.log().delivered.contains(&b"lazily theirs".to_vec())).await;
    let id = message_id(TOPIC, b"lazily theirs");
    assert!(received(&ours, |rpc| rpc.ihave.iter().any(|ihave| ihave.ids.contains(&id))));
    assert!(sent(&ours, |frame| matches!(frame, Frame::IWant(ids) if ids.contains(&id))));
    assert_eq!(ours.log().mesh_degree, 1, "the back-off still holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_are_pulled_in_both_directions_at_1_2() {
    lazy(Version::V1_2, 65).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_are_pulled_in_both_directions_at_1_1() {
    lazy(Version::V1_1, 66).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_peer_that_leaves_prunes_us() {
    let ours = Ours::start("127.0.67.1", TOPIC, Version::V1_2).await;
    let stock = Stock::start("127.0.67.2", TOPIC).await;
    stock.tell(stock::Command::Dial(ours.address.clone())).await;
    meshed(&ours, &stock).await;
    stock.tell(stock::Command::Unsubscribe).await;
    until("its PRUNE arrives", || received(&ours, |rpc| !rpc.prune.is_empty())).await;
    until("it is out of our mesh", || ours.log().mesh_degree == 0 && ours.log().subscribers == 0).await;
    let backoff = ours.log().received.iter().flat_map(|rpc| rpc.prune.clone()).find_map(|prune| prune.backoff_seconds);
    assert_eq!(backoff, Some(10), "the stock back-off after leaving");
}

/// Three peers in a triangle: whoever gets a large message tells the third that it need not send it.
#[tokio::test(flavor = "multi_thread")]
async fn large_messages_are_declined_in_both_directions() {
    let ours = Ours::start("127.0.68.1", TOPIC, Version::V1_2).await;
    let first = Stock::start("127.0.68.2", TOPIC).await;
    let second = Stock::start("127.0.68.3", TOPIC).await;
    ours.tell(ours::Command::Dial(first.address.clone())).await;
    ours.tell(ours::Command::Dial(second.address.clone())).await;
    first.tell(stock::Command::Dial(second.address.clone())).await;
    until("all three are in each other's mesh", || {
        ours.log().mesh_degree == 2 && first.log().mesh_degree == 2 && second.log().mesh_degree == 2
    })
    .await;

    // Who declines depends on who gets a message from its source and who from the other, so there are several.
    let mut published = 0;
    let (mut we_declined, mut they_declined) = (false, false);
    while !(we_declined && they_declined) && published < 50 {
        let (data, id) = (vec![published; LARGE], message_id(TOPIC, &[published; LARGE]));
        first.tell(stock::Command::Publish(data)).await;
        published += 1;
        let count = usize::from(published);
        until("both deliver", || ours.log().delivered.len() == count && second.log().delivered.len() == count).await;
        we_declined |= sent(&ours, |frame| matches!(frame, Frame::IDontWant(ids) if ids.contains(&id)));
        they_declined |= received(&ours, |rpc| rpc.idontwant.contains(&id));
    }
    assert!(we_declined, "we never sent IDONTWANT");
    assert!(they_declined, "no stock peer ever sent IDONTWANT");

    // Small ones are not worth declining.
    first.tell(stock::Command::Publish(vec![2; 100])).await;
    let count = usize::from(published) + 1;
    until("both deliver", || ours.log().delivered.len() == count && second.log().delivered.len() == count).await;
    let small = message_id(TOPIC, &[2; 100]);
    assert!(!sent(&ours, |frame| matches!(frame, Frame::IDontWant(ids) if ids.contains(&small))));
}
