//! Joining what all nodes wrote down into one record for each message.
//!
//! Events of one node come in the order of its trace; between nodes the order does not matter, so traces may be read one
//! after the other or followed side by side.

use std::collections::HashMap;

use starling_protocol::id::MessageId;

use super::deliveries::{Arrival, Deliveries, Message, Reception};
use super::ready::Readiness;
use super::statistics::nearest_rank;
use super::trace::{Class, Counters, Event};

/// The part of a run that counts, in microseconds of the nodes' clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Messages published from here on count.
    pub load_start_us: u64,
    /// From here on no transaction is submitted, and blocks that are published no longer count. A transaction that is still
    /// on its way into the network does.
    pub load_end_us: u64,
    /// What arrives after this has not arrived.
    pub drain_end_us: u64,
}

impl Window {
    /// Whether a message counts that was published at `t0_us`.
    pub(crate) fn counts(&self, class: Class, t0_us: u64) -> bool {
        let end_us = match class {
            Class::Transaction => self.drain_end_us,
            Class::Block => self.load_end_us,
        };
        (self.load_start_us..end_us).contains(&t0_us)
    }
}

/// Collects the events of all nodes of a network.
#[derive(Debug)]
pub struct Recorder {
    nodes_by_peer: HashMap<String, usize>,
    nodes: Vec<NodeLog>,
    messages: HashMap<MessageId, Log>,
    readiness: Readiness,
}

/// What one node wrote about itself.
#[derive(Debug, Clone, Default)]
struct NodeLog {
    counters: Vec<(u64, Counters)>,
    lag_p99_us: Vec<(u64, u64)>,
    lines_dropped: u64,
    /// What the processes had counted that ran there before the present one.
    former: Counters,
}

impl NodeLog {
    /// Takes in what the process has counted since its start. One that has counted less than before has begun anew.
    fn count(&mut self, t_us: u64, counters: Counters) {
        let last = self.counters.last().map_or_else(Counters::default, |(_, last)| *last);
        let all = self.former.plus(&counters);
        if all.socket_out < last.socket_out {
            self.former = last;
        }
        self.counters.push((t_us, self.former.plus(&counters)));
    }
}

/// What all nodes wrote about one message.
#[derive(Debug)]
struct Log {
    class: Class,
    /// Origin, `t0` and payload bytes; the earliest if several nodes published the same message.
    publish: Option<(usize, u64, u64)>,
    receptions: Vec<Reception>,
}

/// What one node did during a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// Bytes moved between the start of the load and the end of the drain.
    pub bytes: Counters,
    /// Event-loop lag: the median of the p99s that the node wrote once a second. `None` without any.
    pub lag_p99_us: Option<u64>,
    /// The latest number of mesh links, for transactions and blocks.
    pub degrees: [u32; 2],
    /// Lines that the node left out of its trace: receptions that may be counted as missing although they happened.
    pub lines_dropped: u64,
}

impl Recorder {
    /// A recorder for nodes with these peer ids, numbered from zero in this order.
    #[must_use]
    pub fn new(peers: impl IntoIterator<Item = String>, readiness: Readiness) -> Self {
        let nodes_by_peer: HashMap<_, _> = peers.into_iter().enumerate().map(|(node, peer)| (peer, node)).collect();
        let nodes = vec![NodeLog::default(); nodes_by_peer.len()];
        Self { nodes_by_peer, nodes, messages: HashMap::new(), readiness }
    }

    /// Takes in one event of a node's trace.
    pub fn record(&mut self, node: usize, event: &Event<'_>) {
        match *event {
            Event::Publish { class, id, t_us, payload_bytes } => {
                let publish = &mut self.log(class, id).publish;
                if publish.is_none_or(|(_, earlier_us, _)| t_us < earlier_us) {
                    *publish = Some((node, t_us, payload_bytes));
                }
            }
            Event::Arrive { class, id, t_us, from, how, frame_bytes } => {
                let from = self.nodes_by_peer.get(from).copied();
                let reception = &mut self.log(class, id).receptions[node];
                reception.add_copy(frame_bytes);
                reception.arrival.get_or_insert(Arrival { t_us, from, how });
            }
            Event::Copy { class, id, frame_bytes, .. } => {
                self.log(class, id).receptions[node].add_copy(frame_bytes);
            }
            Event::Accept { class, id, t_us } => {
                self.log(class, id).receptions[node].accepted_us.get_or_insert(t_us);
            }
            Event::InBlock { id, t_us, .. } => {
                self.log(Class::Transaction, id).receptions[node].in_block_us.get_or_insert(t_us);
            }
            Event::Mesh { t_us, class, degree } => self.readiness.record(node, t_us, class, degree),
            Event::Lag { t_us, p99_us, .. } => self.nodes[node].lag_p99_us.push((t_us, p99_us)),
            Event::Bytes { t_us, counters } => self.nodes[node].count(t_us, counters),
            Event::Dropped { lines } => self.nodes[node].lines_dropped += lines,
        }
    }

    /// Who is ready so far.
    pub fn readiness(&mut self) -> &mut Readiness {
        &mut self.readiness
    }

    /// How many messages of a class were published in the window so far, and how many of their deliveries are missing.
    #[must_use]
    pub fn progress(&self, class: Class, window: &Window) -> (usize, usize) {
        let published = self.messages.values().filter(|log| log.class == class);
        published.fold((0, 0), |(messages, missing), log| match log.publish {
            Some((origin, t0_us, _)) if window.counts(class, t0_us) => {
                let arrived = |&(node, reception): &(usize, &Reception)| node != origin && reception.arrival.is_some();
                let arrivals = log.receptions.iter().enumerate().filter(arrived).count();
                (messages + 1, missing + self.nodes.len() - 1 - arrivals)
            }
            _ => (messages, missing),
        })
    }

    /// What became of every message published in the window.
    #[must_use]
    pub fn deliveries(&self, window: &Window) -> Deliveries {
        let mut messages = Vec::new();
        let mut without_origin = 0;
        for (&id, log) in &self.messages {
            match log.publish {
                Some((origin, t0_us, payload_bytes)) => {
                    if window.counts(log.class, t0_us) {
                        let receptions = log.receptions.clone();
                        messages.push(Message { id, class: log.class, origin, t0_us, payload_bytes, receptions });
                    }
                }
                None => without_origin += 1,
            }
        }
        messages.sort_unstable_by_key(|message| (message.t0_us, message.id));
        Deliveries::new(self.nodes.len(), messages, window.drain_end_us, without_origin)
    }

    /// How many messages that no node published were passed on by a node: what attackers made up, and somebody took for good.
    #[must_use]
    pub fn passed_on(&self) -> usize {
        let was = |log: &&Log| {
            let mut arrivals = log.receptions.iter().filter_map(|reception| reception.arrival);
            log.publish.is_none() && arrivals.any(|arrival| arrival.from.is_some())
        };
        self.messages.values().filter(was).count()
    }

    /// What a node did in the window.
    #[must_use]
    pub fn activity(&self, node: usize, window: &Window) -> Activity {
        let log = &self.nodes[node];
        let last_by = |t_us| log.counters.iter().rev().find(|(at_us, _)| *at_us <= t_us).map(|(_, counters)| *counters);
        let (before, after) = (
            last_by(window.load_start_us).unwrap_or_default(),
            last_by(window.drain_end_us).or_else(|| last_by(window.load_start_us)).unwrap_or_default(),
        );
        let mut lags_us: Vec<u64> = log
            .lag_p99_us
            .iter()
            .filter(|(at_us, _)| (window.load_start_us..=window.drain_end_us).contains(at_us))
            .map(|(_, lag_us)| *lag_us)
            .collect();
        lags_us.sort_unstable();
        Activity {
            bytes: Counters {
                socket_in: after.socket_in.saturating_sub(before.socket_in),
                socket_out: after.socket_out.saturating_sub(before.socket_out),
                frame_in: after.frame_in.saturating_sub(before.frame_in),
                frame_out: after.frame_out.saturating_sub(before.frame_out),
            },
            lag_p99_us: nearest_rank(&lags_us, 50),
            degrees: self.readiness.degrees(node),
            lines_dropped: log.lines_dropped,
        }
    }

    fn log(&mut self, class: Class, id: MessageId) -> &mut Log {
        let nodes = self.nodes.len();
        self.messages.entry(id).or_insert_with(|| Log {
            class,
            publish: None,
            receptions: vec![Reception::default(); nodes],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{ClassStatistics, Outcome};
    use crate::wan::{Profile, Topology};

    const TX: &str = "1111111111111111111111111111111111111111";
    const LATE: &str = "2222222222222222222222222222222222222222";
    const BELATED: &str = "5555555555555555555555555555555555555555";
    const EARLY: &str = "3333333333333333333333333333333333333333";
    const ORPHAN: &str = "4444444444444444444444444444444444444444";
    const WINDOW: Window = Window { load_start_us: 1_000, load_end_us: 2_000, drain_end_us: 5_000 };

    /// Four nodes a, b, c and d, and the lines that they wrote.
    fn recorded(lines: &[(usize, String)]) -> Recorder {
        let peers = ["a", "b", "c", "d"].map(str::to_owned);
        let mut recorder = Recorder::new(peers, Readiness::new(4, 1, 1_000));
        for (node, line) in lines {
            recorder.record(*node, &Event::parse(line).expect("a good line"));
        }
        recorder
    }

    fn one_transaction() -> Vec<(usize, String)> {
        vec![
            // A receiver's line may be read before the origin's.
            (1, format!("arrive,transaction,{TX},1500,a,pushed,300")),
            (0, format!("publish,transaction,{TX},1200,256")),
            (1, format!("copy,transaction,{TX},1600,c,310")),
            (1, format!("accept,transaction,{TX},1700")),
            (2, format!("arrive,transaction,{TX},1900,b,pulled,320")),
            (2, format!("accept,transaction,{TX},1950")),
            (0, format!("copy,transaction,{TX},1650,c,330")),
            (3, format!("inblock,transaction,{TX},2500,b")),
        ]
    }

    #[test]
    fn traces_are_joined_by_message() {
        let deliveries = recorded(&one_transaction()).deliveries(&WINDOW);
        let [message] = deliveries.messages() else { panic!("one message") };
        assert_eq!((message.origin, message.t0_us, message.payload_bytes), (0, 1_200, 256));
        let outcomes: Vec<Outcome> = (0..4).map(|node| deliveries.outcome(message, node)).collect();
        assert!(matches!(
            outcomes[..],
            [
                Outcome::Origin,
                Outcome::Delivered(Arrival { t_us: 1_500, from: Some(0), .. }),
                Outcome::Delivered(Arrival { t_us: 1_900, from: Some(1), .. }),
                Outcome::InBlock(2_500),
            ]
        ));
        assert_eq!(message.hops(), [Some(0), Some(1), Some(2), None]);
        assert_eq!(deliveries.missing().map(|(_, node, in_block)| (node, in_block)).collect::<Vec<_>>(), [(3, true)]);
    }

    #[test]
    fn statistics_count_every_copy_and_only_mesh_deliveries() {
        let deliveries = recorded(&one_transaction()).deliveries(&WINDOW);
        let bounds = Topology::new(Profile::wan(), 4, 1).bounds();
        let statistics = ClassStatistics::of(Class::Transaction, &deliveries, &bounds).expect("one message");
        assert_eq!((statistics.published, statistics.expected, statistics.deliveries), (1, 3, 2));
        assert_eq!((statistics.pulled, statistics.in_block_only), (1, 1));
        assert_eq!(statistics.latency_us, [300, 700]);
        assert_eq!(statistics.accepted_us, [500, 750]);
        let mut bound_us = [bounds.least_us(0, 1), bounds.least_us(0, 2)];
        bound_us.sort_unstable();
        assert_eq!(statistics.bound_us, bound_us, "the bound is taken over the same deliveries");
        assert_eq!((statistics.copies, statistics.frame_bytes), (4, 300 + 310 + 320 + 330));
        assert_eq!(statistics.copies_per_delivery(), Some(2.0));
        assert_eq!(statistics.copies_of_delivery.into_iter().collect::<Vec<_>>(), [(1, 1), (2, 1)]);
        assert!(ClassStatistics::of(Class::Block, &deliveries, &bounds).is_none(), "no block, no statistics");
    }

    #[test]
    fn only_the_window_counts() {
        let mut lines = one_transaction();
        lines.push((3, format!("arrive,transaction,{TX},5001,b,pushed,300")));
        lines.push((0, format!("publish,transaction,{EARLY},999,256")));
        lines.push((0, format!("publish,block,{LATE},2000,256")));
        lines.push((0, format!("publish,transaction,{BELATED},2001,256")));
        lines.push((0, format!("arrive,block,{ORPHAN},1500,b,pushed,256")));
        let recorder = recorded(&lines);
        let deliveries = recorder.deliveries(&WINDOW);
        assert_eq!(deliveries.messages().len(), 2, "a transaction was submitted before the load ended");
        assert_eq!(deliveries.without_origin(), 1);
        let in_block = deliveries.outcome(&deliveries.messages()[0], 3);
        assert_eq!(in_block, Outcome::InBlock(2_500), "what came over the mesh after the drain came too late");
        assert_eq!(recorder.progress(Class::Transaction, &WINDOW), (2, 3));
        assert_eq!(recorder.progress(Class::Block, &WINDOW), (0, 0));
    }

    #[test]
    fn what_every_life_of_a_node_has_counted_is_added_up() {
        let lines = ["bytes,900,10,20,30,40", "bytes,1500,11,50,60,70", "bytes,2500,1,2,3,4", "bytes,4900,5,9,7,8"];
        let recorder = recorded(&lines.map(|line| (2, line.to_owned())));
        let bytes = recorder.activity(2, &WINDOW).bytes;
        assert_eq!(bytes, Counters { socket_in: 1 + 5, socket_out: 30 + 9, frame_in: 30 + 7, frame_out: 30 + 8 });
    }

    #[test]
    fn activity_is_what_the_window_saw() {
        let lines = [
            "bytes,500,10,20,30,40",
            "lag,900,0,9000,0",
            "bytes,1500,100,200,300,400",
            "lag,1500,1,70,80",
            "lag,2500,1,50,80",
            "lag,3500,1,60,80",
            "bytes,4900,1000,2000,3000,4000",
            "bytes,6000,9999,9999,9999,9999",
            "mesh,6000,block,3",
            "dropped,7",
            "dropped,2",
        ];
        let recorder = recorded(&lines.map(|line| (2, line.to_owned())));
        let activity = recorder.activity(2, &WINDOW);
        assert_eq!(activity.bytes, Counters { socket_in: 990, socket_out: 1_980, frame_in: 2_970, frame_out: 3_960 });
        assert_eq!((activity.lag_p99_us, activity.degrees), (Some(60), [0, 3]));
        assert_eq!(activity.lines_dropped, 9);
        assert_eq!(recorder.activity(0, &WINDOW), Activity::default());
    }
}
