//! Reading a manifest, changing it from the command line, and making a scenario of it.

use super::check::{check, is_name};
use super::error::{Problem, has, in_words};
use super::faults::{duration, timeline, whole};
use super::keys::{Manifest, Publishers, Topology, Workload};
use super::{ManifestError, presets, processes, shape};
use crate::input::{TEXT_BYTES_MAX, text};
use crate::sim::scenario::{ConnectionLimits, CpuModel, DiskModel};
use crate::sim::{self, Pace, Scenario, WindowModel};
use crate::wan;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

impl Manifest {
    /// Reads and checks a manifest. `origin` is what errors call it.
    ///
    /// # Errors
    /// What is wrong, where, and what would be right.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ManifestError> {
        if let Ok(document) = DeTable::parse(text) {
            shape::check(document.get_ref()).map_err(|problem| problem.in_text(origin, Some(text)))?;
        }
        let mut manifest: Self = toml::from_str(text).map_err(|error| {
            let problem = match too_deep(text) {
                Some(line) if error.span().is_none() => format!("line {line}: no key of a manifest has so many parts"),
                _ => in_words(&error.to_string()),
            };
            ManifestError::Toml { origin: origin.to_owned(), problem }
        })?;
        if !has(text, "topology") {
            manifest.topology = Topology::usual(manifest.nodes);
            manifest.usual_topology = true;
        }
        check(&manifest).map_err(|problem| problem.in_text(origin, Some(text)))?;
        Ok(manifest)
    }

    /// The preset of this name, or the manifest in this file; and the folder from which its paths count.
    ///
    /// # Errors
    /// When there is no such preset or file, or it is no manifest.
    pub fn named(argument: &str) -> Result<(Self, PathBuf), ManifestError> {
        Self::named_and(argument, false, |_| Ok(()))
    }

    /// The same of which some values are going to be set, its seed perhaps. What its files and the places of its nodes come to is looked at when that is done, by
    /// [`Self::scenario`].
    ///
    /// # Errors
    /// As of [`Self::named`], but for what depends on other values.
    pub fn named_to_be_set(argument: &str) -> Result<(Self, PathBuf), ManifestError> {
        Self::named_and(argument, true, |_| Ok(()))
    }

    /// The same for real processes, `to_be_set` or as it is. What they cannot do is an error.
    ///
    /// # Errors
    /// As of [`Self::named`], and when it asks for what processes cannot do.
    pub fn named_for_processes(argument: &str, to_be_set: bool) -> Result<(Self, PathBuf), ManifestError> {
        Self::named_and(argument, to_be_set, processes::check)
    }

    /// Checks that real processes can do what it asks for after values of it were set.
    ///
    /// # Errors
    /// When they cannot.
    pub fn for_processes(&self) -> Result<(), ManifestError> {
        processes::check(self).map_err(|problem| problem.in_text(&self.title(), None))
    }

    /// What is named, if it also passes another check, whose problems are said with their lines.
    fn named_and(
        argument: &str,
        to_be_set: bool,
        check: impl Fn(&Self) -> Result<(), Problem>,
    ) -> Result<(Self, PathBuf), ManifestError> {
        let checked = |manifest: Self, text: Option<&str>| {
            check(&manifest).map_err(|problem| problem.in_text(argument, text))?;
            Ok(manifest)
        };
        if let Some(preset) = presets::PRESETS.iter().find(|preset| preset.name == argument) {
            return Ok((checked(Self::parse(preset.text, argument)?, Some(preset.text))?, PathBuf::new()));
        }
        if argument == presets::RANDOM {
            return Ok((checked(Self::random(1), None)?, PathBuf::new()));
        }
        let text = read(argument)?;
        let path = Path::new(argument);
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut manifest = Self::parse(&text, argument)?;
        if !has(&text, "name")
            && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
            && is_name(stem)
        {
            manifest.name = stem.to_owned();
        }
        // Files are looked at here too, because only here the text is at hand to say in which line they are named.
        if !to_be_set {
            manifest.files_fit(&folder).map_err(|problem| problem.in_text(argument, Some(&text)))?;
        }
        Ok((checked(manifest, Some(&text))?, folder))
    }

    /// The same with values set by `key=value`, where a key is a dotted path such as `links.loss_percent` or `fault.0.at_s`, and a
    /// value is as in TOML, or a word.
    ///
    /// # Errors
    /// When a key is unknown, or a value cannot be.
    pub fn with(&self, assignments: &[String]) -> Result<Self, ManifestError> {
        let mut manifest = self.clone();
        for assignment in assignments {
            let wrong = |problem: String| ManifestError::Set {
                assignment: shape::short(assignment),
                problem: in_words(&problem),
            };
            let (path, value) = assignment
                .split_once('=')
                .map(|(path, value)| (path.trim(), value))
                .filter(|(path, _)| !path.is_empty())
                .ok_or_else(|| wrong("write key=value, for example links.loss_percent=1".into()))?;
            let mut document = toml::Value::try_from(&manifest).map_err(|error| wrong(error.to_string()))?;
            let value = value_of(value.trim()).map_err(wrong)?;
            set(&mut document, path, value).map_err(wrong)?;
            let text = toml::to_string(&document).map_err(|error| wrong(error.to_string()))?;
            if let Ok(document) = DeTable::parse(&text) {
                let of_kind = path.strip_suffix(".kind").map_or_else(String::new, |table| {
                    format!("; another kind has other keys, so set all of them at once: --set '{table}={{ kind = \"…\", … }}'")
                });
                shape::check(document.get_ref()).map_err(|problem| wrong(problem.with_key() + &of_kind))?;
            }
            let usual_topology = manifest.usual_topology && path.split('.').next() != Some("topology");
            manifest = document.try_into().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
            manifest.usual_topology = usual_topology;
        }
        if manifest.usual_topology {
            manifest.topology = Topology::usual(manifest.nodes);
        }
        check(&manifest).map_err(|problem| problem.in_text("with what the command line sets", None))?;
        Ok(manifest)
    }

    /// The text of the manifest with all its keys.
    ///
    /// # Panics
    /// Never: plain values are always TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain values are always TOML")
    }

    /// What the simulator is to run. Paths count from `folder`.
    ///
    /// # Errors
    /// When a file that it names cannot be used, or does not go with the rest.
    pub fn scenario(&self, folder: &Path) -> Result<Scenario, ManifestError> {
        let said = |problem: Problem| problem.in_text(&self.title(), None);
        let (profile, wiring) = self.files(folder).map_err(said)?;
        let profile = match self.links.uplink_mbit_per_s {
            None => profile,
            Some(rate) => profile.with_uplink(whole(rate * 1e6)),
        };
        let network = wan::Topology::new(profile.clone(), self.nodes as usize, self.seed);
        self.regions_fit(&network).map_err(said)?;
        self.hangs_together(&wiring, &network).map_err(said)?;
        Ok(Scenario {
            seed: self.seed,
            nodes: self.nodes as usize,
            wiring,
            connect_from: duration(self.time.connect_from_s),
            connect_within: duration(self.time.connect_within_s),
            downlink_bits_per_s: self.links.downlink_mbit_per_s.map(|rate| whole(rate * 1e6)),
            loss_ppm: u32::try_from(whole(self.links.loss_percent * 1e4)).unwrap_or(u32::MAX),
            window: self.links.window.as_ref().map(|window| WindowModel {
                initial_bytes: u64::from(window.initial_segments) * 1_460,
                bytes_max: window.bytes_max,
                idle_us: whole(window.idle_ms * 1e3),
            }),
            dead_after: duration(self.links.dead_after_s),
            limits: ConnectionLimits {
                connections_max: self.limits.connections_max as usize,
                inbound_max: self.limits.inbound_max as usize,
                per_ip_max: self.limits.per_ip_max as usize,
                per_subnet_max: self.limits.per_subnet_max as usize,
            },
            cpu: CpuModel {
                rpc_ns: whole(self.cpu.rpc_us * 1e3),
                byte_ns: self.cpu.byte_ns,
                input_ns: whole(self.cpu.input_us * 1e3),
                signature_ns: whole(self.cpu.signature_us * 1e3),
            },
            disk: DiskModel {
                latency: duration(self.disk.latency_ms / 1e3),
                bytes_per_s: whole(self.disk.mbyte_per_s * 1e6),
            },
            workloads: self.workload.iter().map(Workload::to_sim).collect(),
            warm_up: duration(self.time.warm_up_s),
            duration: duration(self.time.load_s),
            drain: duration(self.time.drain_s),
            producers: self.blocks.producers as usize,
            absent_producers: self
                .attack
                .iter()
                .filter(|some| some.has_producers())
                .map(|some| some.count as usize)
                .sum(),
            slot: duration(self.blocks.slot_s),
            faults: timeline(self, &network),
            engine: sim::Engine::default(),
            encode: self.encode,
            profile,
        })
    }
}

impl Workload {
    fn to_sim(&self) -> sim::Workload {
        let (pace, bytes, publishers, from_s, until_s) = match self {
            Self::Constant { per_s, bytes, publishers, from_s, until_s } => {
                (Pace::Constant { messages_per_ks: whole(per_s * 1e3) }, bytes, publishers, from_s, until_s)
            }
            Self::Poisson { per_s, bytes, publishers, from_s, until_s } => {
                (Pace::Poisson { messages_per_ks: whole(per_s * 1e3) }, bytes, publishers, from_s, until_s)
            }
            Self::Bursts { every_s, messages, bytes, publishers, from_s, until_s } => {
                (Pace::Bursts { every: duration(*every_s), messages: *messages }, bytes, publishers, from_s, until_s)
            }
        };
        sim::Workload {
            pace,
            payload_bytes: *bytes,
            publishers: match publishers {
                Publishers::Count(count) => sim::Publishers::Spread(*count as usize),
                Publishers::Nodes(nodes) => sim::Publishers::Nodes(nodes.clone()),
            },
            from: duration(*from_s),
            until: until_s.map(duration),
        }
    }
}

/// The text of a manifest's file.
fn read(argument: &str) -> Result<String, ManifestError> {
    let names = presets::PRESETS.iter().map(|preset| preset.name);
    let presets = names.chain([presets::RANDOM]).collect::<Vec<_>>().join(", ");
    let name = argument.to_owned();
    text(Path::new(argument), TEXT_BYTES_MAX).map_err(|error| match error.kind() {
        ErrorKind::NotFound => ManifestError::Unknown { name, presets },
        _ => ManifestError::Unreadable { name, problem: error.to_string(), presets },
    })
}

/// A value as in TOML, or a word.
fn value_of(text: &str) -> Result<toml::Value, String> {
    let mut table = match toml::from_str::<toml::Table>(&format!("value = {text}")) {
        Ok(table) => table,
        Err(error) if is_meant_as_toml(text) => {
            return Err(format!("the value cannot be read: {}", error.message().trim_end()));
        }
        Err(_) => return Ok(toml::Value::String(text.to_owned())),
    };
    match (table.remove("value"), table.is_empty()) {
        (Some(value), true) => Ok(value),
        _ => Err("there is more than one value in it; write --set once for each".into()),
    }
}

/// Whether a value is a table, a list, a text in quotes or a number, if only it were well formed, and surely no word.
fn is_meant_as_toml(text: &str) -> bool {
    let number = |character: char| character.is_ascii_digit() || "+-_.eE".contains(character);
    text.starts_with(['{', '[', '"', '\''])
        || text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') && text.chars().all(number)
}

/// The first line whose key has more parts than any key of a manifest, for which the reader of TOML names no line.
fn too_deep(text: &str) -> Option<usize> {
    let key = |line: &str| line.split(['=', '#']).next().map_or(0, |key| key.matches('.').count());
    text.lines().position(|line| key(line) >= STEPS_MAX).map(|number| number + 1)
}

/// No key of a manifest is deeper.
const STEPS_MAX: usize = 8;

/// Sets a value by its dotted path.
fn set(document: &mut toml::Value, path: &str, value: toml::Value) -> Result<(), String> {
    if path.split('.').count() > STEPS_MAX {
        return Err("no key has so many parts; write key=value, for example links.loss_percent=1".into());
    }
    let mut place = document;
    let mut steps = path.split('.').peekable();
    while let Some(step) = steps.next() {
        let last = steps.peek().is_none();
        place = match place {
            toml::Value::Table(table) if last => {
                // Whole numbers are welcome where fractions are.
                let value = match (table.get(step), value) {
                    (Some(toml::Value::Float(_)), toml::Value::Integer(whole)) => {
                        whole.to_string().parse().map_or(toml::Value::Integer(whole), toml::Value::Float)
                    }
                    (_, value) => value,
                };
                table.insert(step.to_owned(), value);
                return Ok(());
            }
            toml::Value::Table(table) => table.entry(step).or_insert_with(|| toml::Value::Table(toml::Table::new())),
            toml::Value::Array(array) => {
                let count = array.len();
                let index: usize = step
                    .parse()
                    .map_err(|_not_a_number| format!("{step:?} is no number of an entry; write 0 for the first"))?;
                let entry = array.get_mut(index).ok_or_else(|| match count {
                    0 => "the manifest has no such entry; give the whole list, such as --set 'attack=[{ kind = \"sybil\", count = 1 }]', or write \
                          it into a manifest of your own"
                        .into(),
                    1 => "there is only entry 0".to_owned(),
                    _ => format!("there are only the entries 0 to {}", count - 1),
                })?;
                if last {
                    *entry = value;
                    return Ok(());
                }
                entry
            }
            _ => return Err(format!("{step:?} is inside of something that has no parts")),
        };
    }
    Err("write key=value, for example links.loss_percent=1".into())
}
