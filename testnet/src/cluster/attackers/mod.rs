//! Attackers as processes, against the nodes of a run.
//!
//! # What runs
//! The attackers are those of [`crate::attack`], unchanged: each [`Adversary`](crate::attack::Adversary) that the simulator hosts is hosted here by
//! a process of its own kind ([`process`]), which gives it what the node's driver gives a machine: the same transports, handshakes, streams, queues
//! and limits on frames. Attackers of one kind share a process, because they may conspire; each has an identity and a loopback address of its own.
//!
//! Time zero of attackers is the start of the load, so `at_s = 5` comes 5 s into it; of a manifest's attackers it is the start of the run, as in
//! the simulator. They are not slowed by the emulated
//! links of the profile: what they send arrives at once.
//!
//! # What is measured
//! Attackers write down when they were connected with whom. Nodes are asked for their peers several times a second ([`watch`]). The nodes' traces tell
//! of honest messages, as in any run. [`judge`] puts that together.
//!
//! # Bounds
//! An attacking process speaks to this host only: it refuses to be told of a node elsewhere, and its network dials and listens to
//! loopback addresses alone, whoever names another ([`starling_node::net::confined`]). So this is no tool against anybody's network.
//! It ends when its standard input closes, as nodes do.

pub(super) mod judge;
pub(super) mod process;
mod siege;
mod watch;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::attack::Attackers;
use crate::attack::processes::COUNT_MAX;

pub(super) use siege::{LEAD, Siege};

/// What an attacking process is told: the file that it is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Orders {
    /// The network's genesis.
    pub(super) genesis: PathBuf,
    /// Decides keys and everything that is drawn.
    pub(super) seed: u64,
    /// Who attacks.
    pub(super) attackers: Attackers,
    /// Where the honest nodes listen, by their numbers: multiaddresses that end in their peer ids.
    pub(super) nodes: Vec<String>,
    /// Where each attacker is at home.
    pub(super) homes: Vec<Ipv4Addr>,
    /// When the attackers' time begins, in microseconds of the host's monotonic clock.
    pub(super) zero_us: u64,
    /// Where to write [`Entry`]s.
    pub(super) diary: PathBuf,
}

/// A line of an attacking process's diary, as JSON. Times are microseconds of the host's monotonic clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Entry {
    /// An attacker has begun.
    Up { attacker: usize, peer_id: String },
    /// It is connected with a node.
    Connected { attacker: usize, node: usize, t_us: u64 },
    /// It is not any more.
    Disconnected { attacker: usize, node: usize, t_us: u64 },
    /// Bytes of mesh frames since its beginning; written once a second and after each connection.
    Traffic { attacker: usize, sent_bytes: u64, received_bytes: u64 },
}

/// Reads `KIND:COUNT[,KEY=VALUE]…`.
///
/// # Errors
/// Says what is wrong and what would be right.
pub(super) fn order(text: &str) -> Result<Attackers, String> {
    const EXPECTED: &str = "write KIND:COUNT, and settings behind it, as in withhold:2,topic=1,at_s=5";
    let mut parts = text.split(',');
    let (kind, count) = parts.next().and_then(|first| first.split_once(':')).ok_or(EXPECTED)?;
    let count: u32 =
        count.parse().ok().filter(|count| (1..=COUNT_MAX).contains(count)).ok_or_else(|| {
            format!("there can be 1 to {COUNT_MAX} attackers of a kind, and not {count:?}; {EXPECTED}")
        })?;
    let mut attackers = Attackers::new(kind, count as usize, 1_000);
    for part in parts {
        let (key, value) = part.split_once('=').ok_or(EXPECTED)?;
        let number: f64 =
            value.parse().map_err(|_not_a_number| format!("{key} must be a number, and not {value:?}; {EXPECTED}"))?;
        let whole =
            value.parse::<u32>().map_err(|_not_whole| format!("{key} must be a whole number, and not {value:?}"));
        match key {
            "at_s" => attackers.at_s = number,
            "connections" => attackers.connections = whole? as usize,
            "per_ip" => attackers.per_ip = whole?,
            _ => {
                attackers.params.insert(key.to_owned(), number);
            }
        }
    }
    Ok(attackers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_a_kind_a_number_and_settings() {
        let attackers = order("withhold:2,topic=0,at_s=1.5,connections=3,per_ip=2").expect("well formed");
        assert_eq!((&*attackers.kind, attackers.count, attackers.at_s), ("withhold", 2, 1.5));
        assert_eq!((attackers.connections, attackers.per_ip, attackers.params["topic"]), (3, 2, 0.0));
        assert_eq!(attackers.check_as_processes(4, 2.0), Ok(()));
        for (wrong, part) in [
            ("invalid", "KIND:COUNT"),
            ("invalid:0", "1 to 100"),
            ("invalid:x", "1 to 100"),
            ("invalid:1,topic", "KIND:COUNT"),
            ("invalid:1,per_s=fast", "per_s must be a number"),
            ("invalid:1,connections=1.5", "whole number"),
        ] {
            assert!(order(wrong).is_err_and(|error| error.contains(part)), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_run_is_refused_before_anything_starts() {
        let refused = |text: &str| {
            let checked = order(text).expect("well formed").check_as_processes(4, 20.0);
            checked.expect_err(text).to_string()
        };
        assert!(refused("invalid-spam:1").contains("there is no attacker of kind `invalid-spam`; the kinds are"));
        assert!(refused("invalid:1,per_a=3").contains("have no parameter `per_a`; they have per_s"));
        assert!(refused("censor:1").contains("simulator only") && refused("censor:1").contains("invalid"));
        assert!(refused("outrun:1").contains("turn after 60 s"));
        assert!(refused("iwant:1,at_s=20").contains("give a smaller at_s"));
    }
}
