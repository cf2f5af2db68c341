//! Who attacks: the section `[[attack]]` of a manifest, checked, and the factory of adversaries.
//!
//! ```toml
//! [[attack]]
//! kind = "sybil"        # one of KINDS
//! count = 4000          # attackers at a time
//! at_s = 60             # when they come
//! connections = 100     # of each
//! targets = "all"       # or "publishers", or the numbers of nodes
//! per_ip = 1            # attackers that share an address
//! [attack.params]       # what KINDS lists for the kind
//! drop = 0.5
//! ```

use super::double::{Equivocator, Second};
use super::flood::{Flood, Flooder};
use super::forge::Forger;
use super::links::Links;
use super::mislead::{Lead, Misleader};
use super::spam::{Spam, Spammer};
use super::sybil::{Conduct, Conspiracy, Sybil};
use super::{Adversary, Recruit, Setting};
use crate::sim::{Scenario, shared_address};
use crate::wan::Stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_crypto::SecretKey;
use starling_protocol::id::{PeerId, Topic};
use starling_protocol::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

/// A kind of attacker.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// As manifests name it.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// What can be set, with what it is by default.
    pub params: &'static [(&'static str, f64)],
}

/// Links of a node in the usual network: 20 that it dials, and as many that dial it.
const USUAL_LINKS: u64 = 40;
const REGRAFT: (&str, f64) = ("regraft_s", 60.0);
const REGRAFT_SPREAD: (&str, f64) = ("regraft_spread_s", 15.0);
/// How long a place stays empty that could not be filled or that somebody has thrown it out of. A guess: an attacker that is in no hurry gives itself
/// away less.
const REDIAL: (&str, f64) = ("redial_s", 10.0);

/// Every kind of attacker.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "sybil",
        about: "joins meshes, forwards all until it turns, and then drops a share of the messages",
        params: &[("drop", 1.0), ("turn_s", 0.0), REGRAFT, REGRAFT_SPREAD],
    },
    Kind {
        name: "censor",
        about: "forwards all but what one node has published",
        params: &[("victim", 0.0), REGRAFT, REGRAFT_SPREAD],
    },
    Kind {
        name: "withhold",
        about: "forwards all of one topic and nothing of the other: transactions (0) or blocks (1)",
        params: &[("topic", 1.0), ("turn_s", 0.0), REGRAFT, REGRAFT_SPREAD],
    },
    Kind {
        name: "mirror",
        about: "sends every message back to whom it came from, and to nobody else",
        params: &[REGRAFT, REGRAFT_SPREAD],
    },
    Kind {
        name: "outrun",
        about: "learns of messages from its kin at once, forwards them before anybody else until it turns, then drops all",
        params: &[("turn_s", 60.0), REGRAFT, REGRAFT_SPREAD],
    },
    Kind {
        name: "collude",
        about: "sends each peer what that peer has sent to its kin and not to it, which is what it is tried by, and nothing else",
        params: &[REGRAFT, REGRAFT_SPREAD],
    },
    Kind {
        name: "slip",
        about: "drops all, and leaves each mesh and asks for its place again in one RPC before it can be found out",
        params: &[("every_s", 0.3), REGRAFT, REGRAFT_SPREAD],
    },
    Kind {
        name: "whitewash",
        about: "drops all, and comes again under a new id",
        params: &[("life_s", 20.0), ("lives", 6.0), REGRAFT, REGRAFT_SPREAD],
    },
    Kind {
        name: "announce",
        about: "announces every message at once to everybody and delivers none",
        params: &[REGRAFT, REGRAFT_SPREAD],
    },
    Kind {
        name: "invalid",
        about: "forwards all until it turns, and then sends messages whose signature is wrong",
        params: &[("per_s", 1_000.0), ("turn_s", 0.0), REDIAL],
    },
    Kind {
        name: "conflict",
        about: "sends transactions that cannot stand beside others that were sent",
        params: &[("per_s", 100.0), REDIAL],
    },
    Kind { name: "garbage", about: "sends messages that cannot be decoded", params: &[("per_s", 1_000.0), REDIAL] },
    Kind {
        name: "forge",
        about: "sends blocks of the present slot, under the name of whose turn it is, whose signature is wrong",
        params: &[("per_s", 1_000.0), REDIAL],
    },
    Kind { name: "replay", about: "sends old messages again", params: &[("per_s", 100.0), ("age_s", 60.0)] },
    Kind { name: "expired", about: "sends transactions of its own that have expired", params: &[("per_s", 100.0)] },
    Kind {
        name: "rivals",
        about: "sends pairs of valid transactions of its own that cannot stand beside each other, one to half of its peers, one to the others",
        params: &[("per_s", 100.0)],
    },
    Kind {
        name: "ground",
        about: "sends valid transactions of its own, for which it has found all stamps beforehand",
        params: &[("per_s", 10.0)],
    },
    Kind { name: "equivocate", about: "makes two blocks for each slot of a producer whose key it has", params: &[] },
    Kind {
        name: "misplace",
        about: "makes two blocks for each slot of a producer whose key it has, of which the second follows the first and cannot, one for half of its peers, one for the others",
        params: &[],
    },
    Kind { name: "ihave", about: "announces messages that do not exist", params: &[("times_cap", 10.0)] },
    Kind { name: "iwant", about: "asks for everything again and again", params: &[("times_cap", 10.0)] },
    Kind { name: "idontwant", about: "refuses messages that do not exist", params: &[("times_cap", 10.0)] },
    Kind { name: "graft", about: "grafts again and again, whatever the answer", params: &[("times_cap", 10.0)] },
    Kind {
        name: "subscribe",
        about: "subscribes, unsubscribes, and subscribes to topics that nobody knows",
        params: &[("times_cap", 10.0)],
    },
    Kind { name: "exchange", about: "prunes, and offers peers that do not exist", params: &[("times_cap", 10.0)] },
    Kind {
        name: "stall",
        about: "does its part, claims a long chain, and says that it is busy when it is asked for it, as late as it dares",
        params: &[],
    },
    Kind {
        name: "sip",
        about: "does its part, claims a long chain, and gives one header at a time, as late as it dares",
        params: &[],
    },
    Kind {
        name: "mute",
        about: "does its part, gives headers of the chain, and never answers when it is asked for blocks",
        params: &[],
    },
];

/// Some attackers of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attackers {
    /// What they do: see docs/ATTACKS.md.
    #[schemars(extend("enum" = kinds()))]
    pub kind: String,
    /// How many there are at a time.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub count: u32,
    /// When they come, in seconds from the start of the run.
    #[serde(default)]
    pub at_s: f64,
    /// Connections that each seeks.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1))]
    pub connections: usize,
    /// With whom: `all` nodes, `publishers`, or a list of numbers of nodes.
    #[serde(default)]
    pub targets: Targets,
    /// How many share an address.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_ip: u32,
    /// What the kind can be told, by name: see docs/ATTACKS.md.
    #[serde(default)]
    pub params: BTreeMap<String, f64>,
}

/// Whom attackers connect with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Targets {
    /// `all` honest nodes, or the `publishers` among them.
    Named(#[schemars(extend("enum" = ["all", "publishers"]))] String),
    /// These nodes.
    Nodes(Vec<u32>),
}

impl Default for Targets {
    fn default() -> Self {
        Self::Named("all".into())
    }
}

fn twenty() -> usize {
    20
}

fn one() -> u32 {
    1
}

/// Why attackers are refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AttackersError {
    /// There is no such kind.
    #[error("there is no attacker of kind `{found}`; the kinds are {}", names())]
    Kind {
        /// What was given.
        found: String,
    },
    /// The kind has no such parameter.
    #[error("attackers of kind `{kind}` have no parameter `{found}`; they have {}", or_none(known))]
    Parameter {
        /// Whose.
        kind: String,
        /// What was given.
        found: String,
        /// What would be right.
        known: String,
    },
    /// A number is out of range.
    #[error("{what} of attackers is {found}, but it must be {range}")]
    Range {
        /// Which.
        what: String,
        /// What was given.
        found: f64,
        /// What would be right.
        range: &'static str,
    },
    /// There is no such group of nodes.
    #[error("attackers cannot aim at `{found}`; give \"all\", \"publishers\", or a list of nodes' numbers")]
    Targets {
        /// What was given.
        found: String,
    },
    /// They aim at nobody.
    #[error("attackers aim at nobody; give \"all\", \"publishers\", or a list of nodes' numbers")]
    Nobody,
    /// There is no such victim.
    #[error("victim of attackers is node {victim}, but the nodes are numbered from 0 to {}", nodes - 1)]
    Victim {
        /// What was given.
        victim: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// There is no such node.
    #[error("attackers aim at node {node}, but the nodes are numbered from 0 to {}", nodes - 1)]
    Node {
        /// What was given.
        node: u32,
        /// How many nodes there are.
        nodes: usize,
    },
}

impl AttackersError {
    /// The key of a section that is wrong, and the parameter if it is one.
    pub(crate) fn key(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Kind { .. } => ("kind", None),
            Self::Parameter { found, .. } => ("params", Some(found)),
            Self::Range { what, .. } => match KEYS.iter().find(|key| *key == what) {
                Some(key) => (key, None),
                None => ("params", Some(what)),
            },
            Self::Targets { .. } | Self::Node { .. } | Self::Nobody => ("targets", None),
            Self::Victim { .. } => ("params", Some("victim")),
        }
    }
}

/// The keys of numbers beside the parameters.
const KEYS: [&str; 4] = ["count", "at_s", "connections", "per_ip"];

/// Names, or that there are none.
fn or_none(names: &str) -> &str {
    if names.is_empty() { "none" } else { names }
}

fn kinds() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.name).collect()
}

fn names() -> String {
    kinds().join(", ")
}

impl Attackers {
    /// Attackers of this kind, with defaults for the rest.
    #[must_use]
    pub fn new(kind: &str, count: usize, connections: usize) -> Self {
        Self {
            kind: kind.to_owned(),
            count: u32::try_from(count).unwrap_or(u32::MAX),
            at_s: 0.0,
            connections,
            targets: Targets::default(),
            per_ip: 1,
            params: BTreeMap::new(),
        }
    }

    /// The same, coming then.
    #[must_use]
    pub fn at_s(mut self, at_s: f64) -> Self {
        self.at_s = at_s;
        self
    }

    /// The same with a parameter set.
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.params.insert(name.to_owned(), value);
        self
    }

    /// The same, aiming at these.
    #[must_use]
    pub fn aimed(mut self, targets: Targets) -> Self {
        self.targets = targets;
        self
    }

    /// Whether they can take part in a network of so many honest nodes.
    ///
    /// # Errors
    /// Names what is wrong and what would be right.
    pub fn check(&self, nodes: usize) -> Result<(), AttackersError> {
        let kind = self.known_kind()?;
        for (name, value) in &self.params {
            if !kind.params.iter().any(|(known, _)| known == name) {
                let known: Vec<&str> = kind.params.iter().map(|(known, _)| *known).collect();
                return Err(AttackersError::Parameter {
                    kind: self.kind.clone(),
                    found: name.clone(),
                    known: known.join(", "),
                });
            }
            let (least, most, range) = match name.as_str() {
                "drop" => (0.0, 1.0, "from 0 to 1"),
                "topic" => (0.0, 1.0, "0 for transactions or 1 for blocks"),
                // What a flooder sends at a time is made at once.
                "times_cap" => (0.001, 1e3, "from 0.001 to a thousand"),
                "per_s" | "every_s" | "life_s" | "redial_s" => (0.001, 1e6, "from 0.001 to a million"),
                "lives" => (1.0, 1e6, "from 1 to a million"),
                _ => (0.0, 1e6, "from 0 to a million"),
            };
            in_range(name, *value, least, most, range)?;
            if matches!(name.as_str(), "topic" | "victim" | "lives") && value.fract() != 0.0 {
                return Err(AttackersError::Range { what: name.clone(), found: *value, range: "a whole number" });
            }
        }
        let victim = whole(self.param("victim"));
        if self.kind == "censor" && victim >= nodes {
            return Err(AttackersError::Victim { victim, nodes });
        }
        in_range("count", f64::from(self.count), 1.0, 1e6, "from 1 to a million")?;
        in_range("at_s", self.at_s, 0.0, 1e6, "from 0 to a million seconds")?;
        if self.connections == 0 {
            let range = "at least 1: without connections they do nothing";
            return Err(AttackersError::Range { what: "connections".into(), found: 0.0, range });
        }
        in_range("per_ip", f64::from(self.per_ip), 1.0, 1e6, "from 1 to a million")?;
        match &self.targets {
            Targets::Named(name) if !matches!(name.as_str(), "all" | "publishers") => {
                Err(AttackersError::Targets { found: name.clone() })
            }
            Targets::Nodes(numbers) if numbers.is_empty() => Err(AttackersError::Nobody),
            Targets::Nodes(numbers) => match numbers.iter().find(|node| **node as usize >= nodes) {
                Some(node) => Err(AttackersError::Node { node: *node, nodes }),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn known_kind(&self) -> Result<&'static Kind, AttackersError> {
        let known = KINDS.iter().find(|kind| kind.name == self.kind);
        known.ok_or_else(|| AttackersError::Kind { found: self.kind.clone() })
    }

    /// What a parameter is, given or by default; zero if the kind has none of that name.
    pub(crate) fn param(&self, name: &str) -> f64 {
        let kind = KINDS.iter().find(|kind| kind.name == self.kind);
        let default = kind.and_then(|kind| kind.params.iter().find(|(known, _)| *known == name));
        self.params.get(name).copied().or(default.map(|(_, value)| *value)).unwrap_or(0.0)
    }

    /// Whether each of them has the key of a producer.
    #[must_use]
    pub fn has_producers(&self) -> bool {
        Second::named(&self.kind).is_some()
    }

    /// Whether each of them is a whole machine that follows the chain: without blocks there is nothing for it to do.
    pub(crate) fn follow_the_chain(&self) -> bool {
        self.has_producers() || Lead::named(&self.kind).is_some()
    }

    /// Whether they send more of something than a node takes in.
    pub(crate) fn is_flood(&self) -> bool {
        Flood::named(&self.kind).is_some()
    }

    /// How long a place of theirs stays empty.
    fn redial(&self) -> Duration {
        let given = self.params.get(REDIAL.0).copied();
        length(given.unwrap_or(REDIAL.1))
    }

    /// How many connections they have to have had for their attack to count as one: half of those that they seek, or of as many as a node usually has for each node that they
    /// aim at, if these are fewer.
    pub(crate) fn connections_least(&self, scenario: &Scenario) -> u64 {
        let targets = match &self.targets {
            Targets::Named(name) if name == "publishers" => scenario.publishers().len(),
            Targets::Nodes(numbers) => numbers.len(),
            Targets::Named(_) => scenario.nodes,
        } as u64;
        let sought = u64::from(self.count) * (self.connections as u64).min(targets);
        sought.min(targets.saturating_mul(USUAL_LINKS)).div_ceil(2)
    }

    /// How many identities they use up in all.
    #[must_use]
    pub fn identities(&self) -> usize {
        self.count as usize * self.lives() as usize
    }

    /// How often each of them comes, each time under a new id.
    #[must_use]
    pub(crate) fn lives(&self) -> u32 {
        let lives = if self.kind == "whitewash" { whole(self.param("lives")) } else { 1 };
        u32::try_from(lives).unwrap_or(u32::MAX).max(1)
    }

    fn chosen(&self, setting: &Setting<'_>) -> Rc<[PeerId]> {
        let of =
            |numbers: &[u32]| numbers.iter().filter_map(|node| setting.honest.get(*node as usize)).copied().collect();
        match &self.targets {
            Targets::Named(name) if name == "publishers" => of(setting.publishers),
            Targets::Nodes(numbers) => of(numbers),
            _ => setting.honest.to_vec().into(),
        }
    }
}

fn in_range(what: &str, found: f64, least: f64, most: f64, range: &'static str) -> Result<(), AttackersError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(AttackersError::Range { what: what.to_owned(), found, range })
}

/// The adversaries of a run, with their places in it.
///
/// # Errors
/// If attackers are not possible in this network; the error names what is wrong and what would be right.
pub fn recruits(attackers: &[Attackers], setting: &Setting<'_>) -> Result<Vec<Recruit>, AttackersError> {
    let mut all = Vec::new();
    let mut producers = setting.absent.iter();
    for (group, some) in (0_u64..).zip(attackers) {
        some.check(setting.honest.len())?;
        let mut parts = Parts {
            topics: [setting.genesis.transaction_topic().clone(), setting.genesis.block_topic().clone()],
            targets: some.chosen(setting),
            conspiracy: Conspiracy::default(),
            producer: None,
        };
        for number in 0..u64::from(some.count) {
            let seed = setting.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(group << 40 | number);
            let ip = (some.per_ip > 1).then(|| shared_address(group, number / u64::from(some.per_ip)));
            parts.producer = if some.has_producers() { producers.next().cloned() } else { None };
            some.enlist(seed, &parts, setting, ip, &mut all);
        }
    }
    Ok(all)
}

/// What attackers of a group have in common.
struct Parts {
    topics: [Topic; 2],
    targets: Rc<[PeerId]>,
    conspiracy: Conspiracy,
    /// The key of a producer for the next one, who has it alone.
    producer: Option<SecretKey>,
}

impl Attackers {
    /// Makes one attacker; more than one if it has several lives.
    fn enlist(&self, seed: u64, parts: &Parts, setting: &Setting<'_>, ip: Option<IpAddr>, all: &mut Vec<Recruit>) {
        let at = seconds(self.at_s);
        if self.kind == "whitewash" {
            for life in 0..whole(self.param("lives")).max(1) {
                let begins = at + length(self.param("life_s")) * u32::try_from(life).unwrap_or(u32::MAX);
                let conduct = Conduct { leaves: Some(begins + length(self.param("life_s"))), ..self.conduct(setting) };
                let adversary = self.sybil(self.means(seed ^ (life as u64) << 32, parts), conduct, parts);
                all.push(Recruit { adversary, starts: begins, ip });
            }
            return;
        }
        let (links, random) = self.means(seed, parts);
        let place = u32::try_from(all.len()).expect("fewer than 2^32 attackers");
        let id = crate::sim::peer_id(setting.first + place);
        let doubles = Second::named(&self.kind).zip(parts.producer.clone());
        let adversary: Box<dyn Adversary> = if let Some((second, key)) = doubles {
            Box::new(Equivocator::new(second, (setting.genesis, key), id, links, seed))
        } else if let Some(lead) = Lead::named(&self.kind) {
            Box::new(Misleader::new(lead, setting.genesis, id, links, seed))
        } else if let Some(flood) = Flood::named(&self.kind) {
            Box::new(Flooder::new(flood, self.param("times_cap"), parts.topics.clone(), links, random))
        } else if let Some(spam) = self.spam(setting, place) {
            let links = links.redialling(self.redial());
            let spammer = Spammer::new(spam, self.param("per_s"), setting.genesis.clone(), links, random);
            Box::new(spammer.turning(seconds(self.param("turn_s"))))
        } else {
            self.sybil((links, random), self.conduct(setting), parts)
        };
        all.push(Recruit { adversary, starts: at, ip });
    }

    /// The links that an attacker seeks, and its chance.
    fn means(&self, seed: u64, parts: &Parts) -> (Links, Stream) {
        let mut random = Stream::new(seed, "attacker");
        (Links::new(parts.targets.clone(), self.connections, &mut random), random)
    }

    fn sybil(&self, (links, random): (Links, Stream), conduct: Conduct, parts: &Parts) -> Box<dyn Adversary> {
        Box::new(Sybil::new(conduct, parts.topics.clone(), links, parts.conspiracy.clone(), random))
    }

    fn spam(&self, setting: &Setting<'_>, number: u32) -> Option<Spam> {
        match self.kind.as_str() {
            "invalid" => {
                let turns_s = self.at_s.max(self.param("turn_s"));
                let slot = setting.first_slot + whole(turns_s * 1e6) as u64 / setting.genesis.slot_us();
                Some(Spam::bad_signature(setting.genesis, slot, &setting.stranger(0)))
            }
            "conflict" => Some(Spam::Conflict),
            "garbage" => Some(Spam::Garbage),
            "forge" => Some(Spam::Forged(Box::new(Forger::new(setting.genesis, setting.stranger(0))))),
            "replay" => Some(Spam::Replay { age: length(self.param("age_s")) }),
            "expired" => Some(Spam::Expired { key: Box::new(setting.stranger(0)) }),
            "rivals" => Some(Spam::Rivals { key: Box::new(setting.stranger(number + 1)) }),
            "ground" => Some(Spam::Ground { key: Box::new(setting.stranger(number + 1)) }),
            _ => None,
        }
    }

    fn conduct(&self, setting: &Setting<'_>) -> Conduct {
        let mut victims = BTreeSet::new();
        if self.kind == "censor" {
            victims.insert(setting.account(u32::try_from(whole(self.param("victim"))).unwrap_or(u32::MAX)));
        }
        let withholds = match self.kind.as_str() {
            "withhold" => [self.param("topic") < 0.5, self.param("topic") >= 0.5],
            _ => [true; 2],
        };
        let drop = if self.kind == "sybil" { self.param("drop") } else { 1.0 };
        Conduct {
            drop_permille: whole(drop * 1_000.0) as u64,
            turns: seconds(self.param("turn_s")),
            victims: Rc::new(victims),
            withholds,
            mirrors: self.kind == "mirror",
            announces: self.kind == "announce",
            wormhole: self.kind == "outrun",
            colludes: self.kind == "collude",
            regraft: length(self.param("regraft_s")),
            regraft_spread: length(self.param("regraft_spread_s")),
            leaves: None,
            slips: (self.kind == "slip").then(|| length(self.param("every_s"))),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be from 0 to a million")]
fn whole(value: f64) -> usize {
    value.round() as usize
}

fn length(seconds: f64) -> Duration {
    Duration::from_micros(whole(seconds * 1e6) as u64)
}

fn seconds(seconds: f64) -> Time {
    Time::ZERO + length(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_read_and_checked() {
        let text = "kind = \"sybil\"\ncount = 3\nat_s = 1.5\ntargets = [1, 2]\n[params]\ndrop = 0.5\n";
        let attackers: Attackers = toml::from_str(text).expect("well formed");
        assert_eq!((attackers.connections, attackers.per_ip), (20, 1));
        assert_eq!(attackers.check(3), Ok(()));
        let error = attackers.check(2).expect_err("there is no node 2").to_string();
        assert_eq!(error, "attackers aim at node 2, but the nodes are numbered from 0 to 1");
        assert!(toml::from_str::<Attackers>("kind = \"sybil\"\ncount = 3\nfoo = 1\n").is_err());
    }

    #[test]
    fn the_documentation_has_every_kind_as_it_is() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ATTACKS.md");
        let text = std::fs::read_to_string(path).expect("the documentation");
        for Kind { name, about, params } in KINDS {
            let params: Vec<String> = params.iter().map(|(name, value)| format!("`{name}` = {value}")).collect();
            let line = format!("| `{name}` | {about} | {} |", or_none(&params.join(", ")));
            assert!(text.lines().any(|found| found == line), "docs/ATTACKS.md lacks the line: {line}");
        }
    }

    #[test]
    fn floods_that_would_fill_the_memory_are_refused() {
        for kind in KINDS.iter().filter(|kind| kind.params.iter().any(|(name, _)| *name == "times_cap")) {
            let flood = |times_cap| Attackers::new(kind.name, 1, 1).with("times_cap", times_cap).check(1);
            assert_eq!(flood(1_000.0), Ok(()));
            let error = flood(1_001.0).expect_err("too much").to_string();
            assert_eq!(error, "times_cap of attackers is 1001, but it must be from 0.001 to a thousand");
        }
    }

    #[test]
    fn what_is_unknown_is_refused_with_what_is_known() {
        let error = Attackers::new("sybl", 1, 1).check(1).expect_err("no such kind").to_string();
        assert!(error.contains("`sybl`") && error.contains("sybil, censor, withhold"), "{error}");
        let error =
            Attackers::new("sybil", 1, 1).with("dorp", 0.5).check(1).expect_err("no such parameter").to_string();
        assert!(error.contains("`dorp`") && error.contains("drop, turn_s"), "{error}");
        let error = Attackers::new("sybil", 1, 1).with("drop", 1.5).check(1).expect_err("too much").to_string();
        assert_eq!(error, "drop of attackers is 1.5, but it must be from 0 to 1");
        let aimed = Attackers::new("sybil", 1, 1).aimed(Targets::Named("nobody".into()));
        assert!(aimed.check(1).is_err_and(|error| error.to_string().contains("\"publishers\"")));
    }
}
