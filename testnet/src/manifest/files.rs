//! What a manifest takes from other files, and whether it goes with the rest: the profile and the links.

use super::ManifestError;
use super::check::NOBODY_ELSE;
use super::error::Problem;
use super::error::Step::{Index, Key};
use super::faults::whole;
use super::keys::{Fault, Manifest, Topology, Who};
use crate::input::{LINKS_BYTES_MAX, TEXT_BYTES_MAX, text};
use crate::sim::{Wiring, topology};
use crate::wan::profile::{FLAT_TOML, LOOPBACK_TOML, WAN_TOML};
use crate::wan::{self, Profile};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// What some editors begin a text with.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// With so many links of each node it happens in none of 10^20 draws that some nodes dial nobody but each other, and drawing the links of a large network
/// takes time.
const LINKED_FOR_SURE: usize = 16;

impl Manifest {
    /// The text of its profile.
    ///
    /// # Errors
    /// When there is no such profile.
    pub fn profile_toml(&self, folder: &Path) -> Result<String, ManifestError> {
        self.profile_text(folder).map_err(|problem| problem.in_text(&self.title(), None))
    }

    /// What errors call it where its text is not at hand.
    pub(super) fn title(&self) -> String {
        format!("the manifest {:?}", self.name)
    }

    /// Whether its files can be used and go with the rest.
    pub(super) fn files_fit(&self, folder: &Path) -> Result<(), Problem> {
        let (profile, wiring) = self.files(folder)?;
        let network = wan::Topology::new(profile, self.nodes as usize, self.seed);
        self.regions_fit(&network)?;
        self.hangs_together(&wiring, &network)
    }

    /// What is in its files.
    pub(super) fn files(&self, folder: &Path) -> Result<(Profile, Wiring), Problem> {
        Ok((self.profile(folder)?, self.wiring(folder)?))
    }

    fn profile_text(&self, folder: &Path) -> Result<String, Problem> {
        match &*self.links.profile {
            "wan" => Ok(WAN_TOML.to_owned()),
            "loopback" => Ok(LOOPBACK_TOML.to_owned()),
            "flat" => Ok(FLAT_TOML.to_owned()),
            "" => Err(self.profile_problem(folder, "no profile is named")),
            path => match text(&folder.join(path), TEXT_BYTES_MAX) {
                Ok(text) => Ok(text.trim_start_matches(BYTE_ORDER_MARK).to_owned()),
                Err(error) => Err(self.profile_problem(folder, &error.to_string())),
            },
        }
    }

    fn profile(&self, folder: &Path) -> Result<Profile, Problem> {
        let profile = Profile::parse(&self.profile_text(folder)?);
        profile.map_err(|error| self.profile_problem(folder, error.to_string().trim_end()))
    }

    fn profile_problem(&self, folder: &Path, problem: &str) -> Problem {
        let path = folder.join(&self.links.profile);
        let message = format!(
            "cannot use {:?}: {problem}; give the path of a profile, or one of wan, flat and loopback",
            path.display().to_string()
        );
        Problem::new(&[Key("links"), Key("profile")], message)
    }

    fn wiring(&self, folder: &Path) -> Result<Wiring, Problem> {
        Ok(match &self.topology {
            Topology::Random { degree } => Wiring::Random { degree: *degree as usize },
            Topology::Regional { degree, near_percent } => {
                Wiring::Regional { degree: *degree as usize, near_percent: *near_percent }
            }
            Topology::SmallWorld { degree, moved_percent } => Wiring::SmallWorld {
                degree: *degree as usize,
                moved_permille: u32::try_from(whole(moved_percent * 10.0)).unwrap_or(1_000),
            },
            Topology::File { path } => {
                let path = folder.join(path);
                let links = text(&path, LINKS_BYTES_MAX)
                    .map_err(|error| error.to_string())
                    .and_then(|text| self.links_of(&text));
                let links = links.map_err(|problem| {
                    let message = format!(
                        "cannot use {:?}: {problem}; give a text file with a line `A B` for each link, which node A dials",
                        path.display().to_string()
                    );
                    Problem::new(&[Key("topology"), Key("path")], message)
                })?;
                Wiring::Given(Arc::new(links))
            }
            Topology::Discovered { bootnodes, target_peers } => {
                Wiring::Discovered { bootnodes: *bootnodes as usize, target_peers: *target_peers as usize }
            }
        })
    }

    /// The links of a file, of which each node has some and none has too many, and which keep the network together.
    fn links_of(&self, text: &str) -> Result<Vec<(u32, u32)>, String> {
        let links = links(text, self.nodes)?;
        let (mut all, mut inbound) = (vec![0_u32; self.nodes as usize], vec![0_u32; self.nodes as usize]);
        for (from, to) in &links {
            all[*from as usize] += 1;
            all[*to as usize] += 1;
            inbound[*to as usize] += 1;
        }
        if let Some(node) = all.iter().position(|links| *links == 0) {
            return Err(format!("node {node} has no link, and nothing would ever reach it"));
        }
        if let Some(node) = first_out_of_reach(&links, self.nodes) {
            return Err(format!(
                "no way leads from node 0 to node {node}: add a link between what hangs together with the one and with the other; \
                 to divide a network for a time there is the fault `partition`"
            ));
        }
        for (counts, key, most, what) in [
            (&inbound, "inbound_max", self.limits.inbound_max, "dialled by"),
            (&all, "connections_max", self.limits.connections_max, "linked with"),
        ] {
            if let Some((node, count)) = counts.iter().enumerate().find(|(_, count)| **count > most) {
                return Err(format!("node {node} is {what} {count} nodes, but limits.{key} = {most}"));
            }
        }
        Ok(links)
    }

    /// Whether few links that are drawn keep the network together; those of a file have been looked at.
    pub(super) fn hangs_together(&self, wiring: &Wiring, network: &wan::Topology) -> Result<(), Problem> {
        let degree = match wiring {
            Wiring::Given(_) | Wiring::Discovered { .. } => return Ok(()),
            Wiring::Random { degree } | Wiring::Regional { degree, .. } | Wiring::SmallWorld { degree, .. } => *degree,
        };
        if degree >= LINKED_FOR_SURE {
            return Ok(());
        }
        let links = topology::links(wiring, network, self.nodes as usize, self.seed);
        let Some(node) = first_out_of_reach(&links, self.nodes) else { return Ok(()) };
        let message = format!(
            "the links that are drawn with seed {} leave no way from node 0 to node {node}: give a higher degree, or another seed",
            self.seed
        );
        Err(Problem::new(&[Key("topology")], message))
    }

    /// Whether regions are known, and nodes are where something is said of them.
    pub(super) fn regions_fit(&self, network: &wan::Topology) -> Result<(), Problem> {
        let mut counts: Vec<(&str, u32)> =
            network.profile().regions().iter().map(|region| (&*region.name, 0)).collect();
        for node in 0..network.nodes() {
            counts[network.site(node).region].1 += 1;
        }
        if let Topology::Regional { degree, near_percent } = self.topology
            && u64::from(degree) * u64::from(near_percent) / 100 == u64::from(degree)
            && counts.iter().filter(|(_, count)| *count > 0).count() > 1
        {
            let message =
                "no link would lead from one region to another; give less, so that each node has links to others";
            return Err(Problem::new(&[Key("topology"), Key("near_percent")], message));
        }
        for (number, fault) in self.fault.iter().enumerate() {
            let groups: Vec<(&'static str, &Who)> = match fault {
                Fault::Degrade { from, to, .. } => vec![("from", from), ("to", to)],
                other => other.who().map(|who| ("who", who)).into_iter().collect(),
            };
            for (key, who) in groups {
                let Who::Regions(named) = who else { continue };
                let problem = |message: String| Problem::new(&[Key("fault"), Index(number), Key(key)], message);
                let mut members = 0;
                for name in BTreeSet::from_iter(named) {
                    let names = |least: u32| {
                        let known = counts.iter().filter(move |(_, count)| *count >= least);
                        known.map(|(region, _)| *region).collect::<Vec<_>>().join(", ")
                    };
                    match counts.iter().find(|(region, _)| region == name) {
                        None => {
                            let profile = network.profile().name();
                            let known = names(0);
                            let message = format!(
                                "there is no region {name:?} in the profile {profile}; its regions are {known}"
                            );
                            return Err(problem(message));
                        }
                        Some((_, 0)) => {
                            let known = names(1);
                            let message = format!(
                                "with seed {} none of the {} nodes is in the region {name:?}; there are some in {known}",
                                self.seed, self.nodes
                            );
                            return Err(problem(message));
                        }
                        Some((_, count)) => members += count,
                    }
                }
                if members >= self.nodes && matches!(fault, Fault::Partition { .. }) {
                    return Err(problem(NOBODY_ELSE.into()));
                }
            }
        }
        Ok(())
    }
}

/// The first node to which no way leads from node 0.
fn first_out_of_reach(links: &[(u32, u32)], nodes: u32) -> Option<u32> {
    let mut neighbours = vec![Vec::new(); nodes as usize];
    for (from, to) in links {
        neighbours[*from as usize].push(*to);
        neighbours[*to as usize].push(*from);
    }
    let mut reached = vec![false; nodes as usize];
    let mut next = vec![0];
    while let Some(node) = next.pop() {
        if !core::mem::replace(&mut reached[node as usize], true) {
            next.append(&mut neighbours[node as usize]);
        }
    }
    (0..nodes).find(|node| !reached[*node as usize])
}

/// The links of a file.
fn links(text: &str, nodes: u32) -> Result<Vec<(u32, u32)>, String> {
    let mut links = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    for (number, line) in (1..).zip(text.trim_start_matches(BYTE_ORDER_MARK).lines()) {
        let content = line.split('#').next().unwrap_or("").trim();
        if content.is_empty() {
            continue;
        }
        let wrong = |problem: &str| format!("line {number}: {problem}");
        let mut words = content.split_whitespace().map(str::parse::<u32>);
        let (Some(Ok(from)), Some(Ok(to)), None) = (words.next(), words.next(), words.next()) else {
            return Err(wrong("write two numbers of nodes, the first of which dials the second"));
        };
        if let Some(node) = [from, to].into_iter().find(|node| *node >= nodes) {
            return Err(wrong(&format!("node {node} does not exist: the {nodes} nodes are numbered from 0")));
        }
        if from == to {
            return Err(wrong("a node cannot dial itself"));
        }
        if !known.insert((from.min(to), from.max(to))) {
            return Err(wrong("this link is there already"));
        }
        links.push((from, to));
    }
    if links.is_empty() { Err("there are no links in it".into()) } else { Ok(links) }
}
