//! What became of attackers, from their diaries and what nodes said of them.

use std::collections::BTreeMap;

use super::Entry;
use super::watch::{INTERVAL, Seen, Span};
use crate::attack::Attackers;
use crate::measure::{Deliveries, Recorder};
use crate::report::attackers::{AttackerGroup, Demand};
use crate::report::format::{bytes, float};

/// Complaints of one sort that are told; the others are counted.
const COMPLAINTS_MAX: usize = 4;

/// A connection may last so long with whoever sends what no honest peer sends: three such messages are enough, and the rest is the host's slowness.
const DISCONNECTED_WITHIN_S: f64 = 5.0;

/// A place in a mesh may last so long for whoever is of no use there: what is demanded in simulations, too (docs/ATTACKS.md).
const OUT_WITHIN_S: f64 = 60.0;

/// How often a message may be sent to an attacker: pushed once, and served as often as a node serves the same message to the same peer.
const COPIES_MAX: u64 = 4;
/// Bytes that a copy takes besides its payload, and bytes of control on a link; more than they are.
const COPY_OVERHEAD_BYTES: u64 = 64;
const CONTROL_BYTES: u64 = 1 << 20;

/// What is demanded of nodes against attackers of a kind.
pub(in crate::cluster) fn demand(attackers: &Attackers) -> Demand {
    let out = |meshes| Demand { disconnected: false, meshes, within_s: OUT_WITHIN_S };
    match attackers.kind.as_str() {
        "invalid" | "garbage" => Demand { disconnected: true, meshes: [true; 2], within_s: DISCONNECTED_WITHIN_S },
        // What it sends is valid and new, so it is of use; that it harms nobody else is what has to be shown.
        "ground" | "rivals" => out([false; 2]),
        "withhold" if attackers.param("topic") < 0.5 => out([true, false]),
        "withhold" => out([false, true]),
        // Others are of no use for transactions, which are many; blocks may be too few in a short run to find that out.
        _ => out([true, false]),
    }
}

/// Judges what only the nodes' traces tell: what attackers were sent, and how many of their messages nodes passed on, which is returned.
pub(in crate::cluster) fn judge_in_figures(
    groups: &mut [AttackerGroup],
    deliveries: &Deliveries,
    recorder: &Recorder,
) -> usize {
    for group in groups.iter_mut() {
        judge_traffic(group, deliveries.messages().iter().map(|message| message.payload_bytes));
    }
    if groups.is_empty() || groups.iter().any(|group| sends_what_is_valid(&group.kind)) {
        0
    } else {
        recorder.passed_on()
    }
}

/// Whether messages of attackers of a kind are valid, so that nodes pass them on.
fn sends_what_is_valid(kind: &str) -> bool {
    matches!(kind, "ground" | "rivals")
}

/// Holds what attackers were sent against what there was to be had: messages of these payloads, each a few times over each link.
fn judge_traffic(group: &mut AttackerGroup, payload_bytes: impl Iterator<Item = u64>) {
    let copy_bytes: u64 = payload_bytes.map(|bytes| bytes + COPY_OVERHEAD_BYTES).sum();
    group.served_bytes_max = group.links as u64 * (COPIES_MAX * copy_bytes + CONTROL_BYTES);
    if group.received_bytes > group.served_bytes_max {
        let (found, most) = (bytes(float(group.received_bytes)), bytes(float(group.served_bytes_max)));
        group
            .complaints
            .push(format!("nodes sent {found} to attackers of kind {}, and at most {most} are in order", group.kind));
    }
}

/// What there is to judge by.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub(super) attackers: &'a Attackers,
    /// The attackers' diary.
    pub(super) diary: &'a [Entry],
    /// What nodes said of their peers.
    pub(super) seen: &'a Seen,
    /// The names of the nodes.
    pub(super) names: &'a [String],
    /// When the attackers' time began, and when the attack ended, in microseconds of the host's monotonic clock.
    pub(super) zero_us: u64,
    pub(super) end_us: u64,
}

impl Evidence<'_> {
    /// Judges.
    pub(super) fn judge(&self) -> AttackerGroup {
        let Diary { ids, links, traffic } = self.read_diary();
        let mut group = AttackerGroup {
            kind: self.attackers.kind.clone(),
            attackers: ids.len(),
            demand: demand(self.attackers),
            links: links.len(),
            dropped: 0,
            dropped_after_s: Vec::new(),
            dropped_after_s_max: None,
            connections: links.values().map(Vec::len).sum(),
            connected_s_max: 0.0,
            mesh_s_max: [0.0; 2],
            score_min: None,
            sent_bytes: traffic.values().map(|(sent, _)| sent).sum(),
            received_bytes: traffic.values().map(|(_, received)| received).sum(),
            served_bytes_max: 0,
            complaints: Vec::new(),
        };
        let mut complaints: [Vec<String>; 2] = Default::default();
        for (&(attacker, node), connections) in &links {
            let link = self.link(node, connections, ids.get(&attacker).map_or("", String::as_str));
            group.connected_s_max = group.connected_s_max.max(longest_s(&link.connections));
            for (most_s, places) in group.mesh_s_max.iter_mut().zip(&link.places) {
                *most_s = most_s.max(longest_s(places));
            }
            group.score_min = [group.score_min, link.score_min].into_iter().flatten().reduce(f64::min);
            let name = self.names.get(node).map_or("?", String::as_str);
            let who = format!("attacker {attacker}");
            group.dropped_after_s.extend(link.dropped_after_s(&group.demand, (&who, name), &mut complaints));
        }
        group.dropped = group.dropped_after_s.len();
        group.dropped_after_s.sort_unstable_by(f64::total_cmp);
        group.dropped_after_s_max = group.dropped_after_s.last().copied();
        // What is younger at the end than is allowed breaks no demand; but meshes lose some of their peers for other reasons, so if that is a
        // good part of it, nothing has been shown.
        if 4 * group.dropped < 3 * group.links && complaints[0].is_empty() {
            complaints[0].push(format!(
                "attackers were dropped on {} of {} links only, so nodes do not drop them or the run was too short to tell; give a \
                 longer --duration",
                group.dropped, group.links
            ));
        }
        if group.links == 0 {
            let kind = &group.kind;
            group
                .complaints
                .push(format!("no attacker of kind {kind} was ever connected with a node, so nothing is shown"));
        }
        for complaints in complaints {
            let more = complaints.len().saturating_sub(COMPLAINTS_MAX);
            group.complaints.extend(complaints.into_iter().take(COMPLAINTS_MAX));
            if more > 0 {
                group.complaints.push(format!("and {more} more of these"));
            }
        }
        group
    }

    /// What there was between an attacker and a node since the attacker turned.
    fn link(&self, node: usize, connections: &[Stay], id: &str) -> Link {
        let turn_s = self.attackers.param("turn_s").max(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be at most a million seconds"
        )]
        let turn_us = self.zero_us + (turn_s * 1e6) as u64;
        let since = |stays: &[Stay]| stays.iter().filter_map(|stay| stay.since(turn_us)).collect();
        let track = self.seen.get(&(node, id.to_owned()));
        let places = [0, 1].map(|class| track.map_or_else(Vec::new, |track| since(&self.cut(&track.places[class]))));
        Link { connections: since(connections), places, score_min: track.and_then(|track| track.score_min) }
    }

    fn read_diary(&self) -> Diary {
        let Diary { mut ids, mut links, mut traffic } = Diary::default();
        for entry in self.diary {
            match *entry {
                Entry::Up { attacker, ref peer_id } => {
                    ids.insert(attacker, peer_id.clone());
                }
                Entry::Connected { attacker, node, t_us } if t_us < self.end_us => {
                    let stay = Stay { from_us: t_us, to_us: self.end_us, ended: false };
                    links.entry((attacker, node)).or_default().push(stay);
                }
                Entry::Disconnected { attacker, node, t_us } => {
                    if let Some(stay) = links.get_mut(&(attacker, node)).and_then(|stays| stays.last_mut()) {
                        stay.ended = t_us < self.end_us;
                        stay.to_us = t_us.min(self.end_us);
                    }
                }
                Entry::Connected { .. } => {}
                Entry::Traffic { attacker, sent_bytes, received_bytes } => {
                    traffic.insert(attacker, (sent_bytes, received_bytes));
                }
            }
        }
        Diary { ids, links, traffic }
    }

    /// Places in a mesh, as far as they lie before the end. One that was still told of shortly before has not ended.
    fn cut(&self, spans: &[Span]) -> Vec<Stay> {
        // Two intervals and the time that an answer takes on a busy host.
        let recent_us = 6 * u64::try_from(INTERVAL.as_micros()).expect("below a second");
        let stays = spans.iter().map(|span| Stay {
            from_us: span.from_us,
            to_us: span.to_us.min(self.end_us),
            ended: span.to_us + recent_us < self.end_us,
        });
        stays.collect()
    }
}

/// What a diary says.
#[derive(Debug, Default)]
struct Diary {
    /// The peer id of each attacker.
    ids: BTreeMap<usize, String>,
    /// The connections of each attacker with each node.
    links: BTreeMap<(usize, usize), Vec<Stay>>,
    /// What each attacker has sent and received, in bytes.
    traffic: BTreeMap<usize, (u64, u64)>,
}

/// What there was between an attacker and a node.
#[derive(Debug)]
struct Link {
    connections: Vec<Stay>,
    places: [Vec<Stay>; 2],
    score_min: Option<f64>,
}

impl Link {
    /// After how many seconds the attacker was dropped; none if it was not. Complaints are of those that stayed, and of those that took too long.
    fn dropped_after_s(
        &self,
        demand: &Demand,
        (who, node): (&str, &str),
        complaints: &mut [Vec<String>; 2],
    ) -> Option<f64> {
        let meshes =
            [("in the mesh of transactions of", &self.places[0]), ("in the mesh of blocks of", &self.places[1])];
        let judged: Vec<(&str, &Vec<Stay>)> = if demand.disconnected {
            vec![("connected with", &self.connections)]
        } else {
            meshes.into_iter().zip(demand.meshes).filter(|(_, is_judged)| *is_judged).map(|(mesh, _)| mesh).collect()
        };
        let mut after_s = Some(0.0_f64);
        for (what, stays) in judged {
            let (first_s, longest_s) = (stays.first().map_or(0.0, Stay::length_s), longest_s(stays));
            after_s = after_s.map(|after_s| after_s.max(first_s));
            if stays.first().is_some_and(|stay| !stay.ended) {
                after_s = None;
                if first_s <= demand.within_s {
                    continue;
                }
                complaints[0].push(format!("{who} was still {what} {node} at the end, after {first_s:.1} s"));
            } else if longest_s > demand.within_s {
                complaints[1].push(format!("{who} was {what} {node} for {longest_s:.1} s"));
            }
        }
        after_s
    }
}

fn longest_s(stays: &[Stay]) -> f64 {
    stays.iter().map(Stay::length_s).fold(0.0, f64::max)
}

/// A connection or a place in a mesh.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stay {
    from_us: u64,
    to_us: u64,
    ended: bool,
}

impl Stay {
    /// The part of it from a time on, if there is any.
    fn since(&self, from_us: u64) -> Option<Self> {
        (self.to_us >= from_us).then(|| Self { from_us: self.from_us.max(from_us), ..*self })
    }

    fn length_s(&self) -> f64 {
        float(self.to_us.saturating_sub(self.from_us)) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    fn diary(connections: &[(usize, u64, u64)]) -> Vec<Entry> {
        let mut diary = vec![Entry::Up { attacker: 0, peer_id: "x".into() }];
        for &(node, from_s, to_s) in connections {
            diary.push(Entry::Connected { attacker: 0, node, t_us: from_s * S });
            if to_s > 0 {
                diary.push(Entry::Disconnected { attacker: 0, node, t_us: to_s * S });
            }
        }
        diary.push(Entry::Traffic { attacker: 0, sent_bytes: 7, received_bytes: 8 });
        diary
    }

    fn seen(places: &[(usize, usize, u64, u64)]) -> Seen {
        let mut seen = Seen::new();
        for &(node, class, from_s, to_s) in places {
            let track = seen.entry((node, "x".to_owned())).or_default();
            track.score_min = Some(-1.0);
            track.places[class].push(Span { from_us: from_s * S, to_us: to_s * S, ..Span::default() });
        }
        seen
    }

    fn judge(kind: &str, diary: &[Entry], seen: &Seen) -> AttackerGroup {
        let attackers = Attackers::new(kind, 1, 9);
        let names = ["n0".to_owned(), "n1".to_owned()];
        Evidence { attackers: &attackers, diary, seen, names: &names, zero_us: 10 * S, end_us: 100 * S }.judge()
    }

    #[test]
    fn whoever_sends_what_is_invalid_has_to_be_thrown_out() {
        let good = judge("invalid", &diary(&[(0, 10, 11), (1, 10, 13), (0, 20, 21)]), &Seen::new());
        assert!(good.hold(), "{good:?}");
        assert_eq!((good.links, good.dropped, good.connections), (2, 2, 3));
        assert_eq!((good.dropped_after_s_max, good.connected_s_max), (Some(3.0), 3.0));
        assert_eq!((good.sent_bytes, good.received_bytes), (7, 8));

        let stays = judge("invalid", &diary(&[(0, 10, 11), (1, 10, 0)]), &Seen::new());
        assert_eq!(stays.complaints, ["attacker 0 was still connected with n1 at the end, after 90.0 s"]);
        assert_eq!(stays.dropped, 1);
        let young = diary(&[(0, 10, 11), (1, 10, 11), (2, 10, 11), (3, 97, 0)]);
        let young = judge("invalid", &young, &Seen::new());
        assert!(young.hold() && young.dropped == 3 && young.links == 4, "{young:?}");
        let short = judge("invalid", &diary(&[(1, 97, 0)]), &Seen::new());
        assert!(short.complaints[0].contains("0 of 1 links only"), "{short:?}");
        let slow = judge("invalid", &diary(&[(0, 10, 16)]), &Seen::new());
        assert_eq!(slow.complaints, ["attacker 0 was connected with n0 for 6.0 s"]);
        // The attack itself ends connections, too.
        let ended = judge("invalid", &diary(&[(0, 10, 101)]), &Seen::new());
        assert!(!ended.hold(), "{ended:?}");
        // One that came back and was let in, just before the end, may yet be thrown out.
        assert!(judge("invalid", &diary(&[(0, 10, 11), (0, 98, 0)]), &Seen::new()).hold());
    }

    #[test]
    fn whoever_is_of_no_use_has_to_leave_the_mesh() {
        let connected = diary(&[(0, 10, 0), (1, 10, 0)]);
        let good = judge("withhold", &connected, &seen(&[(0, 1, 11, 40), (0, 0, 11, 100), (1, 1, 90, 98)]));
        assert!(good.hold(), "{good:?}");
        assert_eq!((good.dropped, good.dropped_after_s_max, good.mesh_s_max), (2, Some(29.0), [89.0, 29.0]));
        let stays = judge("withhold", &connected, &seen(&[(0, 1, 11, 100)]));
        let short = judge("withhold", &connected, &seen(&[(0, 1, 11, 40), (1, 1, 50, 100)]));
        assert!(short.complaints[0].contains("1 of 2 links only"), "{short:?}");
        assert_eq!(stays.complaints, ["attacker 0 was still in the mesh of blocks of n0 at the end, after 89.0 s"]);
        let slow = judge("iwant", &connected, &seen(&[(0, 0, 11, 80)]));
        assert_eq!(slow.complaints, ["attacker 0 was in the mesh of transactions of n0 for 69.0 s"]);
    }

    #[test]
    fn whoever_asks_for_everything_again_and_again_is_not_served_again_and_again() {
        let mut group =
            AttackerGroup { received_bytes: 2_000_000, ..judge("iwant", &diary(&[(0, 10, 11)]), &Seen::new()) };
        judge_traffic(&mut group, [300_000].into_iter());
        assert!(group.hold(), "{group:?}");
        judge_traffic(&mut group, [100_000].into_iter());
        assert!(group.complaints[0].contains("at most 1.4 MiB"), "{group:?}");
    }

    #[test]
    fn an_attack_that_never_was_shows_nothing() {
        let nobody = judge("iwant", &diary(&[]), &Seen::new());
        assert!(nobody.complaints[0].contains("nothing is shown"), "{nobody:?}");
    }
}
