//! That nothing which fails is hidden, and that results are kept of what they are of.

use super::*;

fn plan(only: &str) -> Plan {
    let only = vec![only.to_owned()];
    Plan { scale: Scale::FULL, only, seeds: 1..=2, controls: true, out: PathBuf::new(), threads: 1 }
}

fn finding(seed: u64, holds: bool, strain: f64) -> (u64, Finding) {
    (seed, Finding { demanded: String::new(), measured: String::new(), holds, strain })
}

#[test]
fn a_seed_that_fails_is_not_hidden_by_one_with_more_strain() {
    let worst = |findings: [(u64, Finding); 2]| worst_of(findings.into_iter()).expect("there are two");
    assert_eq!(worst([finding(1, false, 0.6), finding(2, true, 0.8)]), finding(1, false, 0.6));
    assert_eq!(worst([finding(1, true, 0.6), finding(2, true, 0.8)]), finding(2, true, 0.8));
    assert_eq!(worst([finding(1, false, 1.0), finding(2, true, 1.0)]), finding(1, false, 1.0));
    assert_eq!(worst([finding(1, true, 0.5), finding(2, true, 0.5)]), finding(1, true, 0.5));
}

/// Of many seeds those are run again that show what is wrong.
#[test]
fn seeds_that_fail_are_known() {
    let fine = || (2, Ran::Ok(Outcome::default()));
    let case = |runs, findings, controls| CaseResult { label: "", runs, findings, controls };
    let good = case(vec![fine()], vec![finding(2, true, 0.9)], Vec::new());
    assert!(good.holds());
    let short = case(
        vec![fine(), (3, Ok(Outcome::default()))],
        vec![finding(3, false, 1.1), finding(2, true, 0.9)],
        Vec::new(),
    );
    assert_eq!((short.holds(), short.failing_seeds()), (false, BTreeSet::from([3])));
    let panicked = case(vec![fine(), (4, Err("why".to_owned()))], Vec::new(), Vec::new());
    assert_eq!((panicked.holds(), panicked.failing_seeds()), (false, BTreeSet::from([4])));
    // The weaker engine delivered what it had to lose.
    let all = Outcome { expected: 10, delivered: 10, copies: 40.0, ..Outcome::default() };
    let unharmed = case(vec![fine()], Vec::new(), vec![("weaker", Fate::Loses, Ok(all))]);
    assert_eq!((unharmed.holds(), unharmed.failing_seeds()), (false, BTreeSet::from([2])));
}

#[test]
fn without_its_baseline_nothing_holds() {
    let outcome = || Ran::Ok(Outcome::default());
    assert_eq!(judgeable(outcome(), &outcome()), outcome());
    assert!(judgeable(outcome(), &Err("a node panicked".to_owned())).is_err());
    assert_eq!(judgeable(Err("why".to_owned()), &Err("else".to_owned())), Err("why".to_owned()));
}

fn found(false_prunes: u64, node_days: f64) -> Option<Ran> {
    Some(Ok(Outcome { false_prunes, node_days, ..Outcome::default() }))
}

/// A row that takes hours can be stopped at any time, and takes all processors that there are.
#[test]
fn every_repeat_is_a_run_of_its_own() {
    let plan = plan("false-prunes");
    let jobs = jobs(&chosen(&plan).expect("there is such a row"), &plan);
    let repeats: Vec<&Job> = jobs.iter().filter(|job| job.row.name == "false-prunes").collect();
    assert_eq!(repeats.len(), 2 * 201);
    let seed = |job: &&Job| match &job.trial {
        Trial::Network(experiment) => experiment.scenario.seed,
        Trial::Decoders { seed, .. } => *seed,
    };
    assert_eq!(repeats.iter().map(seed).collect::<BTreeSet<_>>().len(), 2 * 201, "each has a seed of its own");
    assert_eq!(repeats.iter().map(|job| job.name()).collect::<BTreeSet<_>>().len(), 2 * 201, "and a file");
    assert_eq!(seed(&repeats[0]), 1);
}

/// A row that is not run has neither held nor failed.
#[test]
fn a_row_of_the_full_table_only_cannot_be_asked_of_the_quick_one() {
    let full = plan("ten-thousand");
    assert_eq!(chosen(&full).expect("it is there").len(), 2);
    let quick = Plan { scale: Scale::QUICK, ..full };
    let error = chosen(&quick).expect_err("it is not there").to_string();
    assert!(error.contains("`ten-thousand` is not in the quick table") && error.contains("--quick"), "{error}");
    let all = chosen(&Plan { only: Vec::new(), ..quick }).expect("nothing wrong is asked for");
    assert_eq!(all.len(), rows().count() - 1);
    assert!(all.iter().all(|row| !row.cases(&Scale::QUICK, 1).is_empty()));
}

/// The two tables can be given the same numbers of nodes and messages, and differ all the same.
#[test]
fn results_of_another_scale_are_not_taken_for_these() {
    let full = Scale::FULL;
    let quick = Scale { nodes: full.nodes, messages_per_ks: full.messages_per_ks, ..Scale::QUICK };
    assert_ne!(digest(&full), digest(&quick));
    assert_eq!(digest(&full), digest(&Scale::FULL));
}

/// The program does not fit into one piece, and differs at its end.
#[test]
fn results_of_another_program_are_not_taken_for_these() {
    let of = |program: &[u8]| digest_of(program, &Scale::FULL);
    let mut program = vec![7; 200_003];
    let before = of(&program);
    assert_eq!(of(&program), before);
    *program.last_mut().expect("it is long") += 1;
    assert_ne!(of(&program), before);
    assert_ne!(of(&[]), before);
    assert_eq!(
        digest(&Scale::FULL),
        digest_of(&*fs::read(std::env::current_exe().expect("a test")).expect("read"), &Scale::FULL)
    );
}

/// The rows of which a folder has every result that the plan asks for, if it has the baseline's.
#[test]
fn rows_are_kept_whole_and_with_their_baseline_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let scale = Scale::QUICK;
    let plan = Plan { scale, only: Vec::new(), seeds: 1..=1, out: folder.path().to_owned(), ..plan("") };
    let runs = folder.path().join("runs");
    fs::create_dir(&runs).expect("a folder");
    let digest = digest(&scale);
    let files = |name: &str| {
        let row = rows().find(|row| row.name == name).expect("it is in the table");
        let path = |job: Job| job.path(&runs, &digest, &scale);
        jobs(&[row], &plan).into_iter().map(path).collect::<Vec<_>>()
    };
    let text = serde_json::to_string(&Outcome::default()).expect("JSON");
    for name in [BASELINE, "cold-boot", "degrade"] {
        files(name).iter().for_each(|file| fs::write(file, &text).expect("written"));
    }
    let kept_of = |plan: &Plan, ran| with_kept(plan, ran).iter().map(|row| row.row.name).collect::<Vec<_>>();
    let kept = || kept_of(&plan, Vec::new());
    assert_eq!(kept(), [BASELINE, "degrade", "cold-boot"]);
    assert_eq!(kept_of(&Plan { seeds: 1..=2, ..plan.clone() }, Vec::new()), [""; 0], "there is one seed of each");
    let (first, three) = (with_kept(&plan, Vec::new()).swap_remove(1), files("degrade"));
    assert_eq!((three.len(), files("cold-boot").len()), (3, 4), "cases, an engine and its controls");
    fs::remove_file(&three[1]).expect("removed");
    assert_eq!(kept(), [BASELINE, "cold-boot"], "a case is missing");
    assert_eq!(kept_of(&plan, vec![first]), [BASELINE, "degrade", "cold-boot"], "but it has just been run");
    fs::write(&files("cold-boot")[2], "{}").expect("written");
    assert_eq!(kept(), [BASELINE], "a control cannot be read");
    let without = Plan { controls: false, ..plan.clone() };
    assert_eq!(kept_of(&without, Vec::new()), [BASELINE, "cold-boot"], "nor need it be");
    fs::remove_file(&files(BASELINE)[0]).expect("removed");
    assert_eq!(kept_of(&without, Vec::new()), [""; 0], "nothing can be judged without it");
}

/// A report of something else is not overwritten, and a table that was stopped goes on.
#[test]
fn only_folders_of_tables_are_written_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let fine = || own_or_empty(&out).map_err(|error| error.to_string());
    let put = |name: &str| fs::write(out.join(name), "").expect("written");
    assert_eq!(fine(), Ok(()), "new");
    fs::create_dir_all(out.join("runs")).expect("made");
    assert_eq!(fine(), Ok(()), "stopped before its first run");
    put("runs/0-42-20000-baseline-starling-1.json");
    assert_eq!(fine(), Ok(()), "stopped");
    fs::create_dir(out.join("runs/seed-1")).expect("made");
    assert!(fine().expect_err("others").contains("holds a folder `runs` of its own"));
    fs::remove_dir(out.join("runs/seed-1")).expect("removed");
    ["summary.json", "scenario.toml", "report.html", "nodes.csv"].iter().for_each(|name| put(name));
    let said = fine().expect_err("a simulation");
    assert!(said.contains("out holds nodes.csv, report.html, scenario.toml and 1 more, which"), "{said}");
    put("attacks.json");
    assert_eq!(fine(), Ok(()), "it has been this before");
}

#[test]
fn repeats_are_summed_up_and_none_may_be_missing() {
    let all = all_together([found(1, 15.0), found(0, 15.0), found(2, 15.0)].into_iter()).expect("all were run");
    assert_eq!((all.false_prunes, all.node_days), (3, 45.0));
    let traced = |traces: [&str; 2]| {
        let found = |trace: &str| Some(Ok(Outcome { trace: trace.to_owned(), ..Outcome::default() }));
        all_together(traces.map(found).into_iter()).expect("all were run").trace
    };
    assert_eq!(traced(["0123456789abcdef", "a"]), traced(["0123456789abcdef", "a"]));
    assert_ne!(traced(["0123456789abcdef", "a"]), traced(["0123456789abcdef", "b"]));
    assert!(all_together([found(1, 15.0), None].into_iter()).is_err());
    assert_eq!(all_together([found(1, 15.0), Some(Err("why".to_owned()))].into_iter()), Err("why".to_owned()));
    assert!(all_together([].into_iter()).is_err());
}
