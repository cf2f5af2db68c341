//! Reading a WAN profile: regions and the round-trip times between them, where nodes live, last miles,
//! jitter and uplinks.
//!
//! The file is TOML, written in milliseconds and megabits because people write it; a [`Profile`] holds whole
//! microseconds and bits, checked once, so that nothing behind it has to check again. `profiles/wan.toml` is the
//! commented example and is compiled in.
//!
//! An unknown key is an error rather than ignored: a misspelt `jitter_ms_max` would otherwise silently measure
//! a different network.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::input::{TEXT_BYTES_MAX, text};

/// The text of the built-in `wan` profile, to copy and change.
pub const WAN_TOML: &str = include_str!("../../profiles/wan.toml");
/// The text of the built-in `loopback` profile.
pub const LOOPBACK_TOML: &str = include_str!("../../profiles/loopback.toml");

/// The text of the built-in `flat` profile.
pub const FLAT_TOML: &str = include_str!("../../profiles/flat.toml");

/// The only profile format that this version reads.
const FORMAT: u32 = 1;
/// More regions than this are surely a mistake; it bounds the matrix.
const REGIONS_MAX: usize = 1_000;
/// A delay above this is surely in the wrong unit: light goes round the Earth in 134 ms. Half a round trip and two last
/// miles also stay below the 10 s that a node's link emulation takes.
const DELAY_MS_MAX: f64 = 3_000.0;
/// The slowest uplink that can be asked for, in Mbit/s; below it a single block would take minutes.
const UPLINK_MBIT_MIN: f64 = 0.01;
/// The fastest uplink that can be asked for, in Mbit/s; above it an uplink is no limit and should be left out.
const UPLINK_MBIT_MAX: f64 = 1_000_000.0;

/// A wide-area network without nodes. All fields are checked: see [`Profile::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    name: String,
    regions: Vec<Region>,
    /// Round-trip times, row by row, `regions.len()` squared of them, symmetric.
    rtt_us: Vec<u64>,
    /// Equally spaced quantiles of the last mile, from the least to the most, at least one.
    last_mile_quantiles_us: Vec<u64>,
    jitter_us_max: u64,
    uplinks: Vec<Uplink>,
}

/// A region: a name, and its share of the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// As written in the profile, for example `eu-central-1`.
    pub name: String,
    /// Share of the nodes, in the unit of the other regions' weights; zero for a region without nodes.
    pub weight: u32,
}

/// A kind of uplink, and its share of the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uplink {
    /// Share of the nodes, in the unit of the other uplinks' weights.
    pub weight: u32,
    /// What a node with this uplink sends at most, to all its peers together.
    pub bits_per_s: u64,
}

impl Profile {
    /// Regions of a public cloud with measured round-trip times, nodes where public testnets have them.
    #[must_use]
    pub fn wan() -> Self {
        Self::parse(WAN_TOML).expect("the built-in wan profile is checked by a test")
    }

    /// One region, no delay, no limit: the bare loopback interface.
    #[must_use]
    pub fn loopback() -> Self {
        Self::parse(LOOPBACK_TOML).expect("the built-in loopback profile is checked by a test")
    }

    /// The profile that a `--profile` argument names: `wan`, `loopback`, or else the path of a file.
    ///
    /// # Errors
    /// If the file cannot be read or is no profile; the error names the file.
    pub fn named(argument: &str) -> Result<Self, ProfileError> {
        match argument {
            "wan" => Ok(Self::wan()),
            "loopback" => Ok(Self::loopback()),
            "flat" => Self::parse(FLAT_TOML),
            path => Self::read(Path::new(path)),
        }
    }

    fn read(path: &Path) -> Result<Self, ProfileError> {
        let shown = path.display().to_string();
        let text =
            text(path, TEXT_BYTES_MAX).map_err(|source| ProfileError::Unreadable { path: shown.clone(), source })?;
        Self::parse(&text).map_err(|error| ProfileError::InFile { path: shown, error: Box::new(error) })
    }

    /// Reads a profile from its TOML text and checks it.
    ///
    /// # Errors
    /// Names the key that is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let file: File = toml::from_str(text).map_err(ProfileError::Syntax)?;
        if file.format != FORMAT {
            return Err(ProfileError::Format { found: file.format });
        }
        if file.name.is_empty() || file.name.len() > 64 || file.name.chars().any(char::is_control) {
            return Err(ProfileError::Name);
        }
        let rtt_us = matrix(&file.rtt_ms)?;
        let last_mile_quantiles_us = quantiles(&file.last_mile.quantiles_ms)?;
        Ok(Self {
            name: file.name,
            regions: regions(file.rtt_ms.regions, file.weights)?,
            rtt_us,
            last_mile_quantiles_us,
            jitter_us_max: micros("jitter_ms_max", file.jitter_ms_max)?,
            uplinks: file.uplink.iter().map(uplink).collect::<Result<_, _>>()?,
        })
    }

    /// The name that reports show.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All regions of the matrix, those without nodes too.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The round-trip time between two regions, by their places in [`Profile::regions`], in microseconds.
    #[must_use]
    pub fn rtt_us(&self, a: usize, b: usize) -> u64 {
        self.rtt_us[a * self.regions.len() + b]
    }

    /// Equally spaced quantiles of the last mile's one-way delay, from the least to the most, in microseconds.
    #[must_use]
    pub fn last_mile_quantiles_us(&self) -> &[u64] {
        &self.last_mile_quantiles_us
    }

    /// The most by which a frame is held back beyond its path's delay, in microseconds.
    #[must_use]
    pub fn jitter_us_max(&self) -> u64 {
        self.jitter_us_max
    }

    /// The kinds of uplink; empty when sending is not limited.
    #[must_use]
    pub fn uplinks(&self) -> &[Uplink] {
        &self.uplinks
    }

    /// The same with one uplink for all nodes.
    #[must_use]
    pub fn with_uplink(mut self, bits_per_s: u64) -> Self {
        self.uplinks = vec![Uplink { weight: 1, bits_per_s }];
        self
    }

    /// Whether anything is delayed or limited at all; if not, nodes run on the bare interface.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        self.jitter_us_max > 0
            || !self.uplinks.is_empty()
            || self.last_mile_quantiles_us.iter().any(|&delay_us| delay_us > 0)
            || self.rtt_us.iter().any(|&rtt_us| rtt_us > 0)
    }
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The file cannot be read.
    #[error(
        "cannot read the profile {path}: {source}; name a readable file, or one of the built-in profiles wan, flat and loopback"
    )]
    Unreadable {
        /// The path as given.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file was read but is no profile.
    #[error("the profile {path} cannot be used: {error}")]
    InFile {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        #[source]
        error: Box<ProfileError>,
    },
    /// Not TOML, or not the keys of a profile.
    #[error("it is not a WAN profile: {0}")]
    Syntax(#[source] toml::de::Error),
    /// A format of another version.
    #[error("format = {found} is not known; this version reads format = {FORMAT}")]
    Format {
        /// The format that the file states.
        found: u32,
    },
    /// The name is unusable.
    #[error("name must have 1 to 64 characters, none of them control characters")]
    Name,
    /// A delay is negative, not a number, or absurd.
    #[error("{key} = {found} is no delay; give milliseconds from 0 to {DELAY_MS_MAX}")]
    Delay {
        /// Which key.
        key: String,
        /// What it holds.
        found: f64,
    },
    /// The list of regions is unusable.
    #[error("rtt_ms.regions must name 1 to {REGIONS_MAX} regions, each once{}", .repeated.as_ref().map(|name| format!("; {name} is named twice")).unwrap_or_default())]
    Regions {
        /// A region that is named twice, if that is the trouble.
        repeated: Option<String>,
    },
    /// The matrix is not square.
    #[error("rtt_ms.matrix must have one row of {regions} figures for each of the {regions} regions; {what}")]
    MatrixShape {
        /// How many regions there are.
        regions: usize,
        /// What is there instead.
        what: String,
    },
    /// The two directions of a pair differ.
    #[error(
        "rtt_ms.matrix must be the same in both directions, but from {a} to {b} it says {there} and back {back}; average the two"
    )]
    Asymmetric {
        /// One region.
        a: String,
        /// The other region.
        b: String,
        /// Milliseconds from `a` to `b`.
        there: f64,
        /// Milliseconds from `b` to `a`.
        back: f64,
    },
    /// A weight names a region that the matrix does not have.
    #[error(
        "weights.{name} names a region that rtt_ms.regions does not have; add the region to the matrix or remove the weight"
    )]
    UnknownRegion {
        /// The name in question.
        name: String,
    },
    /// No region has a weight.
    #[error("weights must give at least one region a weight above 0; no node could be placed")]
    NoWeight,
    /// The list of quantiles is empty or falls.
    #[error(
        "last_mile.quantiles_ms must hold at least one figure and never fall from one to the next; write [0.0] for no last mile"
    )]
    Quantiles,
    /// An uplink is absurd.
    #[error(
        "an uplink has weight = {weight} and mbit_per_s = {mbit_per_s}; the weight must be at least 1 and the rate from {UPLINK_MBIT_MIN} to {UPLINK_MBIT_MAX}, or leave [[uplink]] out for no limit"
    )]
    Uplink {
        /// The weight as written.
        weight: u32,
        /// The rate as written.
        mbit_per_s: f64,
    },
}

/// The file as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    name: String,
    jitter_ms_max: f64,
    last_mile: FileLastMile,
    #[serde(default)]
    uplink: Vec<FileUplink>,
    weights: BTreeMap<String, u32>,
    rtt_ms: FileRtt,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLastMile {
    quantiles_ms: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileUplink {
    weight: u32,
    mbit_per_s: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRtt {
    regions: Vec<String>,
    matrix: Vec<Vec<f64>>,
}

fn regions(names: Vec<String>, mut weights: BTreeMap<String, u32>) -> Result<Vec<Region>, ProfileError> {
    if weights.values().all(|&weight| weight == 0) {
        return Err(ProfileError::NoWeight);
    }
    let regions = names.into_iter().map(|name| Region { weight: weights.remove(&name).unwrap_or(0), name }).collect();
    match weights.into_keys().next() {
        Some(name) => Err(ProfileError::UnknownRegion { name }),
        None => Ok(regions),
    }
}

fn matrix(file: &FileRtt) -> Result<Vec<u64>, ProfileError> {
    let names = &file.regions;
    let repeated = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
    if names.is_empty() || names.len() > REGIONS_MAX || repeated.is_some() {
        return Err(ProfileError::Regions { repeated: repeated.map(|(_, name)| name.clone()) });
    }
    let shape = |what| ProfileError::MatrixShape { regions: names.len(), what };
    if file.matrix.len() != names.len() {
        return Err(shape(format!("there are {} rows", file.matrix.len())));
    }
    let mut rtt_us = Vec::with_capacity(names.len() * names.len());
    for (row, name) in file.matrix.iter().zip(names) {
        if row.len() != names.len() {
            return Err(shape(format!("the row of {name} has {} figures", row.len())));
        }
        for (&rtt_ms, other) in row.iter().zip(names) {
            rtt_us.push(micros(&format!("rtt_ms from {name} to {other}"), rtt_ms)?);
        }
    }
    for a in 0..names.len() {
        for b in 0..a {
            if rtt_us[a * names.len() + b] != rtt_us[b * names.len() + a] {
                let (there, back) = (file.matrix[a][b], file.matrix[b][a]);
                return Err(ProfileError::Asymmetric { a: names[a].clone(), b: names[b].clone(), there, back });
            }
        }
    }
    Ok(rtt_us)
}

fn quantiles(quantiles_ms: &[f64]) -> Result<Vec<u64>, ProfileError> {
    let quantiles_us =
        quantiles_ms.iter().map(|&delay| micros("last_mile.quantiles_ms", delay)).collect::<Result<Vec<_>, _>>()?;
    if quantiles_us.is_empty() || !quantiles_us.is_sorted() {
        return Err(ProfileError::Quantiles);
    }
    Ok(quantiles_us)
}

fn uplink(file: &FileUplink) -> Result<Uplink, ProfileError> {
    let &FileUplink { weight, mbit_per_s } = file;
    if weight == 0 || !(UPLINK_MBIT_MIN..=UPLINK_MBIT_MAX).contains(&mbit_per_s) {
        return Err(ProfileError::Uplink { weight, mbit_per_s });
    }
    Ok(Uplink { weight, bits_per_s: rounded(mbit_per_s * 1e6) })
}

/// Milliseconds as written, in whole microseconds.
fn micros(key: &str, delay_ms: f64) -> Result<u64, ProfileError> {
    if (0.0..=DELAY_MS_MAX).contains(&delay_ms) {
        Ok(rounded(delay_ms * 1e3))
    } else {
        Err(ProfileError::Delay { key: key.to_owned(), found: delay_ms })
    }
}

/// The nearest whole number to one that the callers have checked to be between zero and 10^12.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the callers check the range")]
fn rounded(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profiles_are_right() {
        let wan = Profile::wan();
        assert_eq!((wan.name(), wan.regions().len()), ("wan", 18));
        assert_eq!(wan.regions().iter().map(|region| region.weight).sum::<u32>(), 100);
        assert_eq!(wan.rtt_us(0, 9), 92_900, "us-east-1 to eu-central-1");
        assert_eq!(wan.rtt_us(9, 0), 92_900);
        assert_eq!(wan.jitter_us_max(), 2_000);
        assert_eq!(wan.uplinks(), [Uplink { weight: 1, bits_per_s: 50_000_000 }]);
        assert!(wan.is_emulated());
        assert!(!Profile::loopback().is_emulated());
    }

    /// Replaces `from` by `to` in a small good profile and returns what reading it says.
    fn complaint(from: &str, to: &str) -> String {
        const GOOD: &str = r#"
            format = 1
            name = "two"
            jitter_ms_max = 0.5
            [last_mile]
            quantiles_ms = [0.5, 1.5]
            [[uplink]]
            weight = 1
            mbit_per_s = 10.0
            [weights]
            here = 1
            [rtt_ms]
            regions = ["here", "there"]
            matrix = [[1.0, 40.0], [40.0, 1.0]]
        "#;
        Profile::parse(GOOD).expect("the good profile is good");
        assert!(GOOD.contains(from), "the good profile has no {from}");
        Profile::parse(&GOOD.replace(from, to)).expect_err("a bad profile").to_string()
    }

    #[test]
    fn every_mistake_is_named_with_its_remedy() {
        for (from, to, expected) in [
            ("format = 1", "format = 2", "this version reads format = 1"),
            ("\"two\"", "\"\"", "name must have"),
            ("jitter_ms_max", "jitter_max_ms", "unknown field `jitter_max_ms`"),
            ("jitter_ms_max = 0.5", "", "missing field `jitter_ms_max`"),
            ("0.5\n            [last", "-1.0\n            [last", "jitter_ms_max = -1 is no delay"),
            ("[0.5, 1.5]", "[1.5, 0.5]", "never fall"),
            ("[0.5, 1.5]", "[]", "never fall"),
            ("[0.5, 1.5]", "[nan]", "last_mile.quantiles_ms = NaN is no delay"),
            ("mbit_per_s = 10.0", "mbit_per_s = 0.0", "the rate from 0.01"),
            ("weight = 1\n            mbit", "weight = 0\n            mbit", "the weight must be at least 1"),
            ("here = 1", "here = 0", "no node could be placed"),
            ("here = 1", "here = 1\nnowhere = 1", "weights.nowhere names a region"),
            ("\"here\", \"there\"", "\"here\", \"here\"", "here is named twice"),
            ("\"here\", \"there\"", "", "1 to 1000 regions"),
            ("[[1.0, 40.0], [40.0, 1.0]]", "[[1.0, 40.0]]", "there are 1 rows"),
            ("[40.0, 1.0]]", "[40.0]]", "the row of there has 1 figures"),
            ("[40.0, 1.0]]", "[50.0, 1.0]]", "average the two"),
            ("[40.0, 1.0]]", "[1e9, 1.0]]", "rtt_ms from there to here = 1000000000 is no delay"),
            ("[rtt_ms]", "rtt_ms", "not a WAN profile"),
        ] {
            let complaint = complaint(from, to);
            assert!(complaint.contains(expected), "{to:?} gives {complaint:?}, which lacks {expected:?}");
        }
    }

    #[test]
    fn a_missing_file_names_the_built_in_profiles() {
        let error = Profile::named("/nonexistent/profile.toml").expect_err("no such file").to_string();
        assert!(error.contains("/nonexistent/profile.toml") && error.contains("wan, flat and loopback"), "{error}");
    }

    #[test]
    fn a_bad_file_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("mine.toml");
        std::fs::write(&path, "format = 1").expect("written");
        let error = Profile::named(path.to_str().expect("utf-8")).expect_err("incomplete").to_string();
        assert!(error.contains("mine.toml") && error.contains("missing field"), "{error}");
    }
}
