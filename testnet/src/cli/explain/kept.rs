//! What a manifest's faults kept from going on or made slower, and what was lost, so that a wait is not put down to something else.

use std::fmt;

use crate::report::format::{float, milliseconds};
use crate::sim::Scenario;
use crate::sim::faults::{self, Action, Degradation, Parted, Span, absences, spans, standstills};
use crate::sim::observe::Loss;
use starling_protocol::time::{Duration, Time, micros};

/// Something that was prevented or made slower for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    what: What,
    from: Time,
    /// None if it never ended.
    until: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// Nodes on different sides did not reach each other.
    Parted(Parted),
    /// The node's process stood still.
    StoodStill(u32),
    /// It did not run.
    DidNotRun(u32),
    /// Its processor took so many thousandths of the usual time.
    SlowCpu(u32, u32),
    /// What was sent over these paths took longer.
    Slowed(Degradation),
    /// What one node sent to another was lost and sent again, and kept waiting what came after it; and whether a fault was the cause.
    Lost { from: u32, to: u32, by_fault: bool },
}

/// A stretch of a message's way, in microseconds of the run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// From which node to which; of a node's own work both are the same.
    pub(super) nodes: (u32, u32),
    pub(super) begin_us: u64,
    pub(super) end_us: u64,
    /// What the link takes when nothing is wrong.
    pub(super) link_us: u64,
    /// How often the link was crossed one after the other until the message was there.
    pub(super) crossings: u32,
}

/// The share of a wait that something took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share<'a> {
    pub(super) us: u64,
    pub(super) kept: &'a Kept,
}

impl Kept {
    /// All that the faults of a scenario prevented or made slower, and all losses.
    pub(super) fn all(scenario: &Scenario, losses: &[Loss]) -> Vec<Self> {
        let nodes = |what: fn(u32) -> What, spans: Vec<Span>| {
            spans.into_iter().map(move |(node, from, until)| Self { what: what(node), from, until })
        };
        let mut all: Vec<Self> = partitions(&scenario.faults).collect();
        all.extend(degradations(&scenario.faults));
        all.extend(nodes(What::StoodStill, standstills(&scenario.faults)));
        all.extend(nodes(What::DidNotRun, absences(&scenario.faults)));
        all.extend(slow_processors(&scenario.faults));
        all.extend(losses.iter().map(Self::lost));
        all
    }

    fn lost(loss: &Loss) -> Self {
        let Loss { from, to, due, late_us, by_fault } = *loss;
        Self { what: What::Lost { from, to, by_fault }, from: due, until: Some(due + Duration::from_micros(late_us)) }
    }

    /// Of the faults that prevented something the one that took most of a stretch, of losses, and of what made it slower.
    pub(super) fn most<'a>(all: &'a [Self], stretch: &Stretch) -> impl Iterator<Item = Share<'a>> {
        let most = |stretch: &Stretch, wanted: fn(&What) -> bool| {
            let concerned = all.iter().filter(|kept| wanted(&kept.what) && kept.concerns(stretch));
            let shares = concerned.map(|kept| Share { us: kept.took_us(stretch), kept });
            shares.filter(|share| share.us > 0).max_by_key(|share| share.us)
        };
        let prevented = most(stretch, |what| !matches!(what, What::Lost { .. } | What::Slowed(_)));
        let lost = most(stretch, |what| matches!(what, What::Lost { .. }));
        // But for the loss it would have come by then.
        let end_us = stretch.end_us - lost.map_or(0, |share| share.us);
        let slowed = most(&Stretch { end_us, ..*stretch }, |what| matches!(what, What::Slowed(_)));
        [prevented, lost, slowed].into_iter().flatten()
    }

    /// Whether a fault of the manifest did it.
    pub(super) fn is_fault(&self) -> bool {
        !matches!(self.what, What::Lost { by_fault: false, .. })
    }

    fn concerns(&self, stretch: &Stretch) -> bool {
        let (from, to) = stretch.nodes;
        match &self.what {
            What::Parted(parted) => parted.is_between(from, to),
            What::StoodStill(node) => *node == from || *node == to,
            // A sender that ended has sent before, or not at all.
            What::DidNotRun(node) => *node == to,
            What::SlowCpu(node, _) => (from, to) == (*node, *node),
            What::Slowed(worse) => from != to && worse.is_between(from, to),
            // What was asked for had to get there both ways.
            What::Lost { from: sender, to: receiver, .. } => {
                (from, to) == (*sender, *receiver) || stretch.crossings > 1 && (to, from) == (*sender, *receiver)
            }
        }
    }

    fn took_us(&self, stretch: &Stretch) -> u64 {
        let Stretch { begin_us, end_us, link_us, crossings, .. } = *stretch;
        let (from_us, until_us) = (self.from.as_micros(), self.until.map_or(u64::MAX, Time::as_micros));
        let meanwhile_us = until_us.min(end_us).saturating_sub(from_us.max(begin_us));
        let worse = match &self.what {
            What::Slowed(worse) => worse,
            // What it would have taken otherwise is not the fault's.
            What::SlowCpu(_, permille) => {
                return meanwhile_us - meanwhile_us.saturating_mul(1_000) / u64::from((*permille).max(1_000));
            }
            _ => return meanwhile_us,
        };
        // Back from the arrival: what set out while the path was worse took longer by the latency that was added.
        let (added_us, mut took_us, mut at_us) = (micros(worse.latency), 0, end_us);
        for _ in 0..crossings {
            let set_out_us = at_us.checked_sub(link_us + added_us).filter(|set_out_us| *set_out_us >= begin_us);
            let slowed = set_out_us.filter(|set_out_us| (from_us..until_us).contains(set_out_us));
            took_us += slowed.map_or(0, |_| added_us);
            at_us = slowed.unwrap_or_else(|| at_us.saturating_sub(link_us));
        }
        took_us
    }

    /// Says it of these two nodes, which have names.
    pub(super) fn of(&self, from: &str, to: &str, name: impl Fn(u32) -> String) -> String {
        match &self.what {
            What::Parted(_) => format!("a partition kept {from} and {to} apart {self}"),
            What::StoodStill(node) => format!("{} stood still {self}", name(*node)),
            What::DidNotRun(node) => format!("{} did not run {self}", name(*node)),
            What::SlowCpu(node, permille) => {
                format!(
                    "the processor of {} took {} times as long as usual {self}",
                    name(*node),
                    f64::from(*permille) / 1e3
                )
            }
            What::Slowed(worse) => {
                let added = milliseconds(micros(worse.latency));
                format!("a degradation made the path between {from} and {to} {added} longer {self}")
            }
            What::Lost { by_fault: true, .. } => {
                format!("a degradation lost something between {from} and {to}, which was sent again")
            }
            What::Lost { .. } => format!("something was lost between {from} and {to} and sent again"),
        }
    }
}

/// From when until when, in seconds of the run.
impl fmt::Display for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Time| float(time.as_micros()) / 1e6;
        match self.until {
            Some(until) => write!(formatter, "from {} s to {} s", seconds(self.from), seconds(until)),
            None => write!(formatter, "from {} s on", seconds(self.from)),
        }
    }
}

fn partitions(faults: &[(Time, Action)]) -> impl Iterator<Item = Kept> {
    let all = faults::partitions(faults).into_iter();
    all.map(|parted| Kept { from: parted.from, until: parted.until, what: What::Parted(parted) })
}

fn slow_processors(faults: &[(Time, Action)]) -> impl Iterator<Item = Kept> {
    let spans = spans(faults, |action| match action {
        Action::Cpu(node, permille) => Some((*node, *permille > 1_000)),
        _ => None,
    });
    spans.into_iter().filter_map(|(node, from, until)| {
        let permille = faults.iter().find_map(|(at, action)| match action {
            Action::Cpu(of, permille) if (*at, *of) == (from, node) => Some(*permille),
            _ => None,
        })?;
        Some(Kept { what: What::SlowCpu(node, permille), from, until })
    })
}

/// A degradation lasts until it is mended.
fn degradations(faults: &[(Time, Action)]) -> impl Iterator<Item = Kept> {
    let spans = spans(faults, |action| match action {
        Action::Degrade(worse) => Some((worse.number, true)),
        Action::Mend(number) => Some((*number, false)),
        _ => None,
    });
    spans.into_iter().filter_map(|(number, from, until)| {
        let worse = faults.iter().find_map(|(_, action)| match action {
            Action::Degrade(worse) if worse.number == number => Some(worse.clone()),
            _ => None,
        })?;
        Some(Kept { what: What::Slowed(worse), from, until })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_put_down_to_the_fault_that_took_most_of_it() {
        let at = Time::from_secs;
        let parted = |sides: [u8; 3]| Action::Partition(sides.into());
        let mut all: Vec<Kept> = partitions(&[
            (at(2), parted([0, 1, 1])),
            (at(4), parted([0, 0, 1])),
            (at(5), Action::Heal),
            (at(8), parted([0, 1, 1])),
        ])
        .collect();
        all.push(Kept { what: What::StoodStill(2), from: at(4), until: Some(at(5)) });
        all.push(Kept { what: What::DidNotRun(0), from: at(0), until: None });
        let most = |pair, from_s: u64, to_s: u64| {
            let (begin_us, end_us) = (from_s * 1_000_000, to_s * 1_000_000);
            let stretch = Stretch { nodes: pair, begin_us, end_us, link_us: 0, crossings: 1 };
            let share = Kept::most(&all, &stretch).next()?;
            Some((share.us / 1_000_000, share.kept.of("a", "b", |node| format!("n{node}"))))
        };
        let found = |us: u64, text: &str| Some((us, text.to_owned()));
        assert_eq!(most((0, 1), 3, 9), found(1, "a partition kept a and b apart from 8 s on"));
        assert_eq!(most((0, 1), 0, 7), found(2, "a partition kept a and b apart from 2 s to 4 s"));
        assert_eq!(most((1, 2), 2, 4), None, "they were on one side");
        assert_eq!(most((2, 2), 3, 9), found(1, "n2 stood still from 4 s to 5 s"));
        assert_eq!(most((1, 0), 0, 7), found(7, "n0 did not run from 0 s on"));
    }

    #[test]
    fn work_on_a_slow_processor_took_longer_by_what_was_added() {
        let at = Time::from_secs;
        let all: Vec<Kept> =
            slow_processors(&[(at(2), Action::Cpu(1, 4_000)), (at(6), Action::Cpu(1, 1_000))]).collect();
        let took_ms = |nodes, begin_ms: u64, end_ms: u64| {
            let (begin_us, end_us) = (begin_ms * 1_000, end_ms * 1_000);
            let stretch = Stretch { nodes, begin_us, end_us, link_us: 0, crossings: 0 };
            Kept::most(&all, &stretch).map(|share| share.us / 1_000).sum::<u64>()
        };
        assert_eq!(took_ms((1, 1), 3_000, 3_400), 300, "100 ms of it it would have taken anyhow");
        assert_eq!(took_ms((1, 1), 5_900, 6_100), 75);
        assert_eq!((took_ms((0, 1), 3_000, 3_400), took_ms((1, 1), 7_000, 7_400)), (0, 0));
        let kept = all[0].of("a", "b", |node| format!("n{node}"));
        assert_eq!(kept, "the processor of n1 took 4 times as long as usual from 2 s to 6 s");
    }

    /// A path that takes 300 ms more from 10 s to 20 s.
    fn worse() -> [(Time, Action); 2] {
        let worse = Degradation {
            number: 3,
            from: [true, false, false].into(),
            to: [false, true, false].into(),
            latency: Duration::from_millis(300),
            loss_ppm: 0,
        };
        [(Time::from_secs(10), Action::Degrade(worse)), (Time::from_secs(20), Action::Mend(3))]
    }

    /// Its link usually takes 40 ms.
    #[test]
    fn what_set_out_on_a_worse_path_took_longer_by_what_was_added() {
        let all: Vec<Kept> = degradations(&worse()).collect();
        let took_ms = |nodes, begin_ms: u64, end_ms: u64, crossings| {
            let (begin_us, end_us) = (begin_ms * 1_000, end_ms * 1_000);
            let stretch = Stretch { nodes, begin_us, end_us, link_us: 40_000, crossings };
            Kept::most(&all, &stretch).map(|share| share.us / 1_000).sum::<u64>()
        };
        assert_eq!(took_ms((0, 1), 12_000, 12_345, 1), 300, "5 ms of it are something else");
        assert_eq!((took_ms((1, 0), 12_000, 12_345, 1), took_ms((1, 2), 12_000, 12_345, 1)), (300, 0));
        assert_eq!(took_ms((0, 1), 20_100, 20_160, 1), 0, "it was sent afterwards");
        assert_eq!(took_ms((0, 1), 19_990, 20_330, 1), 300, "it was sent before the end");
        assert_eq!(took_ms((0, 1), 9_990, 10_045, 1), 0, "it was sent before the beginning");
        assert_eq!(took_ms((0, 1), 12_000, 13_040, 3), 900, "announced, asked for, and sent");
        assert_eq!(took_ms((0, 1), 18_000, 20_330, 3), 900);
        assert_eq!(took_ms((0, 1), 19_000, 20_370, 3), 600, "it was asked for in time, and sent after the end");
        assert_eq!(took_ms((0, 0), 12_000, 14_000, 0), 0, "a node's own work crosses no path");
        let kept = all[0].of("a", "b", |_| String::new());
        assert_eq!(kept, "a degradation made the path between a and b 300 ms longer from 10 s to 20 s");
    }

    /// On the same path something is lost that would have come at 12.34 s and comes 880 ms later.
    #[test]
    fn what_was_lost_keeps_waiting_what_came_after_it() {
        let loss = Loss { from: 0, to: 1, due: Time::from_micros(12_340_000), late_us: 880_000, by_fault: true };
        let mut all: Vec<Kept> = degradations(&worse()).collect();
        all.push(Kept::lost(&loss));
        let took_ms = |nodes, begin_ms: u64, end_ms: u64, crossings| {
            let (begin_us, end_us) = (begin_ms * 1_000, end_ms * 1_000);
            let stretch = Stretch { nodes, begin_us, end_us, link_us: 40_000, crossings };
            let shares = Kept::most(&all, &stretch).map(|share| share.us / 1_000);
            shares.collect::<Vec<_>>()
        };
        assert_eq!(took_ms((0, 1), 12_000, 13_220, 1), [880, 300], "it was lost itself");
        assert_eq!(took_ms((0, 1), 12_500, 13_220, 1), [720], "it waited for what was lost, longer than its way took");
        assert_eq!(took_ms((1, 0), 12_000, 12_340, 1), [300], "the other direction does not wait");
        assert_eq!(
            took_ms((1, 0), 11_900, 13_560, 3),
            [880, 600],
            "the request does, and the announcement came before"
        );
        assert!(took_ms((0, 2), 12_000, 13_220, 1).is_empty());
        let words = |kept: &Kept| kept.of("a", "b", |_| String::new());
        assert_eq!(words(&all[1]), "a degradation lost something between a and b, which was sent again");
        let usual = Kept::lost(&Loss { by_fault: false, ..loss });
        assert_eq!(words(&usual), "something was lost between a and b and sent again");
        assert!(all[1].is_fault() && !usual.is_fault());
    }

    /// Standstills end when the process goes on or ends, absences when it begins again.
    #[test]
    fn every_fault_that_keeps_something_is_known() {
        let at = Time::from_secs;
        let mut scenario = Scenario::scale(5, 1);
        scenario.faults = vec![
            (at(1), Action::Pause(1)),
            (at(1), Action::Pause(2)),
            (at(2), Action::Resume(1)),
            (at(3), Action::Kill(2)),
            (at(3), Action::Pause(3)),
            (at(4), Action::Stop(3)),
            (at(5), Action::Clock(1, 3)),
            (at(6), Action::Start(2)),
            (at(7), Action::Partition([0, 1, 0, 0, 0].into())),
            (at(8), Action::Pause(4)),
        ];
        let all = Kept::all(&scenario, &[]);
        let mut said: Vec<String> = all.iter().map(|kept| kept.of("a", "b", |node| format!("n{node}"))).collect();
        said.sort();
        let expected = [
            "a partition kept a and b apart from 7 s on",
            "n1 stood still from 1 s to 2 s",
            "n2 did not run from 3 s to 6 s",
            "n2 stood still from 1 s to 3 s",
            "n3 did not run from 4 s on",
            "n3 stood still from 3 s to 4 s",
            "n4 stood still from 8 s on",
        ];
        assert_eq!(said, expected);
        let most = |pair, from_s: u64, to_s: u64| {
            let (begin_us, end_us) = (from_s * 1_000_000, to_s * 1_000_000);
            let stretch = Stretch { nodes: pair, begin_us, end_us, link_us: 0, crossings: 1 };
            let share = Kept::most(&all, &stretch).next()?;
            Some((share.us / 1_000_000, share.kept.of("a", "b", |node| format!("n{node}"))))
        };
        let found = |us: u64, place: usize| Some((us, expected[place].to_owned()));
        assert_eq!(most((1, 0), 0, 3), found(1, 1), "whoever stands still sends nothing");
        assert_eq!(most((0, 1), 0, 3), found(1, 1), "and takes nothing in");
        assert_eq!(most((0, 2), 0, 9), found(3, 2), "of two the longer one");
        assert_eq!(most((2, 0), 0, 9), found(2, 3), "who does not run sends nothing that would wait");
        assert_eq!(most((0, 3), 4, 9), found(5, 4));
        assert_eq!(most((0, 1), 2, 7), None, "what ends as the wait begins, or begins as it ends, has no share");
    }
}
