//! Runs the table: every case of every row, for every seed, and the controls.
//!
//! Runs are independent of each other, so as many go on at a time as there are processors. What a run has found is written to a file of its own
//! at once, named by a digest of the program and of the scale, by the row, the case, the engine, the seed and which of the case's repeats it is; a run whose file exists is not done again. So a table
//! that was stopped goes on where it stopped, and a table of a changed engine begins anew.
//!
//! A run that panics is a finding like others: no attack may bring a node down.

use super::demand::{Demand, Finding};
use super::experiment::Outcome;
use super::room::Room;
use super::table::{BASELINE, Case, Fate, Row, Scale, Trial, rows};
use crate::host;
use crate::sim::Engine;
use crate::sim::trace::TraceHash;
use crate::unwind::caught;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, io, thread};

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How large.
    pub scale: Scale,
    /// The rows; all if empty.
    pub only: Vec<String>,
    /// The seeds.
    pub seeds: RangeInclusive<u64>,
    /// Whether weaker engines are run too.
    pub controls: bool,
    /// The folder of results.
    pub out: PathBuf,
    /// How many runs go on at a time.
    pub threads: usize,
}

/// Why the table cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// There is no such row.
    #[error("the table has no row `{found}`; its rows are {known}")]
    Row {
        /// What was given.
        found: String,
        /// What there is.
        known: String,
    },
    /// The row is none of this scale.
    #[error("the row `{found}` is not in the quick table but in the full one only; leave out --quick")]
    NotQuick {
        /// What was given.
        found: &'static str,
    },
    /// A run would not fit.
    #[error(
        "a run of {row} needs some {needed_mib} MiB of memory and {available_mib} MiB are free; give fewer --nodes or --messages, or name \
         other rows with --only"
    )]
    Memory {
        /// Of which row.
        row: &'static str,
        /// What it is estimated to need.
        needed_mib: u64,
        /// What there is.
        available_mib: u64,
    },
    /// The folder for the results cannot be.
    #[error("cannot write to {path}: {source}; give a folder with --out")]
    Out {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder for the results has something else in it, whose report would be overwritten.
    #[error(
        "{path} holds {found}, which `attacks` has not written; give a new or empty folder with --out, or one of `attacks`"
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// A file cannot be written or read.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// One run.
#[derive(Clone, Debug)]
struct Job {
    row: &'static Row,
    label: &'static str,
    trial: Trial,
    engine: Engine,
    seed: u64,
    /// Which of the case's repeats, from 0 on.
    repeat: u64,
}

/// What a run came to: what was measured, or what a panic said.
pub type Ran = Result<Outcome, String>;

/// A row with all that was found.
#[derive(Clone, Debug)]
pub struct RowResult {
    /// The row.
    pub row: &'static Row,
    /// By case: its label, and what was found.
    pub cases: Vec<CaseResult>,
}

/// A case with all that was found.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// What sets it apart from the row's others.
    pub label: &'static str,
    /// By seed.
    pub runs: Vec<(u64, Ran)>,
    /// For each demand the worst seed, and its finding.
    pub findings: Vec<(u64, Finding)>,
    /// Controls: the engine, what has to become of it, what became of it with the first seed.
    pub controls: Vec<(&'static str, Fate, Ran)>,
}

impl CaseResult {
    /// Whether all that is demanded holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.failing_seeds().is_empty()
    }

    /// The seeds of runs that failed, and those that are the worst of what does not hold; controls are run with the first.
    #[must_use]
    pub fn failing_seeds(&self) -> BTreeSet<u64> {
        let failed = self.runs.iter().filter(|(_, ran)| ran.is_err()).map(|(seed, _)| *seed);
        let short = self.findings.iter().filter(|(_, finding)| !finding.holds).map(|(seed, _)| *seed);
        let is_harmless = self.controls.iter().any(|control| !control_holds(control));
        let first = self.runs.first().filter(|_| is_harmless).map(|(seed, _)| *seed);
        failed.chain(short).chain(first).collect()
    }
}

/// Whether that became of a control which has to.
pub(crate) fn control_holds((_, fate, ran): &(&'static str, Fate, Ran)) -> bool {
    ran.as_ref().is_ok_and(|outcome| fate.holds(outcome))
}

impl RowResult {
    /// Whether all that is demanded holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.cases.iter().all(CaseResult::holds)
    }
}

/// Runs what is planned, calling `progress` with the number of runs that are done, that of all, and what was done last.
///
/// # Errors
/// If a row does not exist, or a file cannot be written.
pub fn run(plan: &Plan, progress: &(dyn Fn(usize, usize, &str) + Sync)) -> Result<Vec<RowResult>, SuiteError> {
    let rows = chosen(plan)?;
    let jobs = jobs(&rows, plan);
    let room = room(&jobs)?;
    own_or_empty(&plan.out)?;
    let folder = plan.out.join("runs");
    fs::create_dir_all(&folder).map_err(|source| SuiteError::Out { path: folder.clone(), source })?;
    let digest = digest(&plan.scale);
    let results: Mutex<Vec<Option<Ran>>> = Mutex::new(vec![None; jobs.len()]);
    let failure: Mutex<Option<SuiteError>> = Mutex::new(None);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let number = number_of(&jobs, job);
                    match job.run_or_read(&folder, &digest, &plan.scale, &room) {
                        Ok(ran) => {
                            if let Ok(mut results) = results.lock() {
                                results[number] = Some(ran);
                            }
                        }
                        Err(error) => {
                            if let Ok(mut failure) = failure.lock() {
                                *failure = Some(error);
                            }
                            return;
                        }
                    }
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len(), &job.name());
                }
            });
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or(None) {
        return Err(error);
    }
    let results = results.into_inner().unwrap_or_default();
    Ok(collect(&rows, &jobs, &results, plan))
}

/// The memory that there is, if the largest run fits into it.
fn room(jobs: &[Job]) -> Result<Room, SuiteError> {
    let available = host::available_mib();
    let largest = jobs.iter().map(|job| (job.trial.memory_mib(), job.row.name)).max();
    match (largest, available) {
        (Some((needed_mib, row)), Some(available_mib)) if available_mib < needed_mib => {
            Err(SuiteError::Memory { row, needed_mib, available_mib })
        }
        _ => Ok(Room::new(available)),
    }
}

/// Whether a folder is new, empty or one of these tables. One that was stopped has its runs and nothing else.
fn own_or_empty(folder: &Path) -> Result<(), SuiteError> {
    const NAMED_MAX: usize = 3;
    // What cannot be listed is new, or cannot be made either, which is said then.
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    if folder.join("attacks.json").is_file() {
        return Ok(());
    }
    let mut foreign: Vec<String> = names(folder).into_iter().filter(|name| name != "runs").collect();
    foreign.sort_unstable();
    if foreign.is_empty() && names(&folder.join("runs")).iter().all(|name| name.ends_with(".json")) {
        return Ok(());
    }
    if foreign.is_empty() {
        foreign.push("a folder `runs` of its own".to_owned());
    }
    let more = foreign.len().saturating_sub(NAMED_MAX);
    foreign.truncate(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(SuiteError::Foreign { path: folder.to_owned(), found: format!("{}{more}", foreign.join(", ")) })
}

fn number_of(jobs: &[Job], job: &Job) -> usize {
    jobs.iter().position(|other| core::ptr::eq(other, job)).expect("it is one of them")
}

/// The rows of the table at this scale, and those that it has at others only.
#[must_use]
pub fn rows_at(scale: &Scale) -> (Vec<&'static Row>, Vec<&'static Row>) {
    rows().partition(|row| !row.cases(scale, 1).is_empty())
}

/// The rows that are asked for, the baseline always among them.
fn chosen(plan: &Plan) -> Result<Vec<&'static Row>, SuiteError> {
    let (here, elsewhere) = rows_at(&plan.scale);
    for name in &plan.only {
        if let Some(row) = elsewhere.iter().find(|row| row.name == name) {
            return Err(SuiteError::NotQuick { found: row.name });
        }
        if !here.iter().any(|row| row.name == name) {
            let known: Vec<&str> = here.iter().map(|row| row.name).collect();
            return Err(SuiteError::Row { found: name.clone(), known: known.join(", ") });
        }
    }
    let wanted =
        |row: &&Row| plan.only.is_empty() || row.name == BASELINE || plan.only.iter().any(|name| name == row.name);
    Ok(here.into_iter().filter(wanted).collect())
}

/// Beside the rows that have just been run, those for which the folder has all results of this very program, scale and seeds, in the table's order.
#[must_use]
pub fn with_kept(plan: &Plan, ran: Vec<RowResult>) -> Vec<RowResult> {
    let (folder, digest) = (plan.out.join("runs"), digest(&plan.scale));
    let (mut whole, mut all_jobs, mut results) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows_at(&plan.scale).0 {
        let jobs = jobs(&[row], plan);
        let kept: Option<Vec<Outcome>> = jobs.iter().map(|job| job.kept(&folder, &digest, &plan.scale)).collect();
        if let Some(kept) = kept {
            whole.push(row);
            all_jobs.extend(jobs);
            results.extend(kept.into_iter().map(|outcome| Some(Ok(outcome))));
        } else if row.name == BASELINE {
            // Nothing can be judged without it.
            return ran;
        }
    }
    let has_run = |row: &&Row| ran.iter().any(|result| result.row.name == row.name);
    whole.retain(|row| !has_run(row));
    let mut all = collect(&whole, &all_jobs, &results, plan);
    all.extend(ran);
    all.sort_by_key(|result| rows().position(|row| row.name == result.row.name));
    all
}

/// All runs. Controls need one seed only: they show that the attack is one.
fn jobs(rows: &[&'static Row], plan: &Plan) -> Vec<Job> {
    let mut jobs = Vec::new();
    for row in rows {
        for seed in plan.seeds.clone() {
            for Case { label, trial, repeats } in row.cases(&plan.scale, seed) {
                let mut engines = vec![Engine::default()];
                if seed == *plan.seeds.start() && plan.controls {
                    engines.extend(row.controls.iter().map(|(engine, _)| *engine));
                }
                for repeat in 0..repeats {
                    let job = |engine: &Engine| {
                        let trial = trial.clone().repeated(repeat);
                        Job { row, label, trial, engine: *engine, seed, repeat }
                    };
                    jobs.extend(engines.iter().map(job));
                }
            }
        }
    }
    jobs
}

impl Job {
    fn name(&self) -> String {
        let Self { row, label, engine, seed, repeat, .. } = self;
        let parts = [row.name, label, engine.name].map(|part| part.replace([' ', '%', '/'], "-"));
        let [row, case, engine] = parts;
        let case = if case.is_empty() { String::new() } else { format!("-{}", case.trim_matches('-')) };
        let repeat = if *repeat == 0 { String::new() } else { format!("-repeat-{repeat}") };
        format!("{row}{case}-{engine}-{seed}{repeat}")
    }

    fn run_or_read(&self, folder: &Path, digest: &str, scale: &Scale, room: &Room) -> Result<Ran, SuiteError> {
        if let Some(outcome) = self.kept(folder, digest, scale) {
            return Ok(Ok(outcome));
        }
        let _taken = room.take(self.trial.memory_mib());
        let ran = caught(|| self.trial.run(self.engine));
        let ran = ran.and_then(|tried| tried.map_err(|error| error.to_string()));
        if let Ok(outcome) = &ran {
            let text = serde_json::to_string(outcome).expect("numbers and names can be written");
            let path = self.path(folder, digest, scale);
            fs::write(&path, text).map_err(|source| SuiteError::File { path, source })?;
        }
        Ok(ran)
    }

    /// What was found before, if it was.
    fn kept(&self, folder: &Path, digest: &str, scale: &Scale) -> Option<Outcome> {
        let text = fs::read_to_string(self.path(folder, digest, scale)).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn path(&self, folder: &Path, digest: &str, scale: &Scale) -> PathBuf {
        let Scale { nodes, messages_per_ks, .. } = scale;
        folder.join(format!("{digest}-{nodes}-{messages_per_ks}-{}.json", self.name()))
    }
}

/// A run is held against the baseline of its seed, and cannot be judged without it.
fn judgeable(run: Ran, baseline: &Ran) -> Ran {
    match baseline {
        Err(why) if run.is_ok() => Err(format!("the baseline of this seed failed: {why}")),
        _ => run,
    }
}

/// Of several seeds' findings the one that counts: one that does not hold, if there is any, however little strain it shows; the first of those that
/// are alike.
fn worst_of(findings: impl Iterator<Item = (u64, Finding)>) -> Option<(u64, Finding)> {
    let worse = |a: &Finding, b: &Finding| (!a.holds).cmp(&!b.holds).then(a.strain.total_cmp(&b.strain));
    findings.max_by(|(first, a), (second, b)| worse(a, b).then(second.cmp(first)))
}

/// Whether there was an attack at all, where there should be one: a row that attackers have no part in shows nothing.
fn took_part(outcome: &Outcome) -> Option<Finding> {
    (outcome.attackers > 0 && outcome.inputs == 0).then(|| Demand::Attacked.judge(outcome, outcome, &Scale::FULL))
}

/// Rules that hold whatever happens, if one was broken.
fn broke_rules(outcome: &Outcome) -> Option<Finding> {
    (!outcome.violations.is_empty()).then(|| Demand::Rules.judge(outcome, outcome, &Scale::FULL))
}

/// What the repeats of a case have found.
fn all_together(mut repeats: impl Iterator<Item = Option<Ran>>) -> Ran {
    let not_run = || Err("it was not run".to_owned());
    let mut all = repeats.next().flatten().unwrap_or_else(not_run)?;
    for ran in repeats {
        all.add(&ran.unwrap_or_else(not_run)?);
    }
    Ok(all)
}

/// A digest of this very program and of the scale: whatever decides what a run finds is in them.
fn digest(scale: &Scale) -> String {
    match std::env::current_exe().and_then(File::open) {
        Ok(program) => digest_of(program, scale),
        Err(_) => digest_of(io::empty(), scale),
    }
}

/// The program is read piece by piece: whole it would take more memory than many runs.
fn digest_of(mut program: impl Read, scale: &Scale) -> String {
    const PIECE_BYTES: u64 = 64 << 10;
    let mut digest = TraceHash::default();
    let mut piece = Vec::new();
    while program.by_ref().take(PIECE_BYTES).read_to_end(&mut piece).is_ok_and(|bytes| bytes > 0) {
        piece.chunks(8).for_each(|bytes| digest.mix_prefix(bytes));
        piece.clear();
    }
    format!("{scale:?}").as_bytes().chunks(8).for_each(|bytes| digest.mix_prefix(bytes));
    digest.to_string()
}

fn collect(rows: &[&'static Row], jobs: &[Job], results: &[Option<Ran>], plan: &Plan) -> Vec<RowResult> {
    let find = |row: &str, label: &str, engine: &str, seed: u64| -> Ran {
        let same =
            |job: &Job| job.row.name == row && job.label == label && job.engine.name == engine && job.seed == seed;
        let repeats = jobs.iter().zip(results).filter(|(job, _)| same(job)).map(|(_, ran)| ran);
        all_together(repeats.cloned())
    };
    let own = Engine::default().name;
    let seeds = || plan.seeds.clone();
    let baselines: Vec<Ran> = seeds().map(|seed| find(BASELINE, "", own, seed)).collect();
    let case = |row: &'static Row, label: &'static str| {
        let runs = seeds().zip(&baselines);
        let runs: Vec<(u64, Ran)> =
            runs.map(|(seed, base)| (seed, judgeable(find(row.name, label, own, seed), base))).collect();
        let outcomes = || runs.iter().filter_map(|(seed, run)| Some((*seed, run.as_ref().ok()?)));
        let worst = |demand: &Demand| {
            let both = runs.iter().zip(&baselines);
            let both = both.filter_map(|((seed, run), base)| Some((*seed, run.as_ref().ok()?, base.as_ref().ok()?)));
            worst_of(both.map(|(seed, run, base)| (seed, demand.judge(run, base, &plan.scale))))
        };
        let mut findings: Vec<(u64, Finding)> = row.demands.iter().filter_map(worst).collect();
        findings.extend(worst_of(outcomes().filter_map(|(seed, run)| Some((seed, took_part(run)?)))));
        findings.extend(worst_of(outcomes().filter_map(|(seed, run)| Some((seed, broke_rules(run)?)))));
        let controls = row.controls.iter().filter(|_| plan.controls);
        let control = |engine: &str| find(row.name, label, engine, *plan.seeds.start());
        let controls = controls.map(|(engine, fate)| (engine.name, *fate, control(engine.name))).collect();
        CaseResult { label, runs, findings, controls }
    };
    let result = |row: &&'static Row| RowResult {
        row,
        cases: row.cases(&plan.scale, 1).iter().map(|given| case(row, given.label)).collect(),
    };
    rows.iter().map(result).collect()
}

#[cfg(test)]
mod tests;
