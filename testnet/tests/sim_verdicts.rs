//! What a simulation says of a run: that nothing is called good that is not, and that no node knows what nobody can have told it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Three nodes in a line, of which the middle one needs a second and more for what others do in a tenth of a millisecond.
const SLOW_MIDDLE: &str = r#"
format = 1
name = "slow-middle"
nodes = 3
[time]
warm_up_s = 5
load_s = 20
drain_s = 60
[topology]
kind = "file"
path = "line.txt"
[links]
profile = "loopback"
uplink_mbit_per_s = 0.5
[[workload]]
kind = "constant"
per_s = 2
bytes = 20000
publishers = { nodes = [0] }
[[fault]]
kind = "slow_cpu"
at_s = 8
factor = 10000
who = { nodes = [1] }
"#;

/// A manifest in a folder of its own, in which it is simulated.
struct Run {
    folder: tempfile::TempDir,
}

impl Run {
    fn new(manifest: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("m.toml"), manifest).expect("it can be written");
        std::fs::write(folder.path().join("line.txt"), "0 1\n1 2\n").expect("it can be written");
        Self { folder }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// The exit code, and what was printed.
    fn simulate(&self) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_starling-testnet"));
        command.arg("sim").arg(self.folder.path().join("m.toml")).arg("--out").arg(self.out()).arg("--check");
        let output = command.output().expect("the tool starts");
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.code(), text.concat())
    }
}

/// Rows of `deliveries.csv`: message, node, arrival, acceptance and sender.
fn deliveries(out: &Path) -> Vec<(String, String, u64, Option<u64>, String)> {
    let text = std::fs::read_to_string(out.join("deliveries.csv")).expect("there are deliveries");
    let rows = text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    rows.map(|row| {
        (row[0].clone(), row[3].clone(), row[5].parse().expect("a time"), row[6].parse().ok(), row[7].clone())
    })
    .collect()
}

#[test]
fn nobody_has_a_message_before_the_one_who_brought_it_has_accepted_it() {
    let run = Run::new(SLOW_MIDDLE);
    run.simulate();
    let rows = deliveries(&run.out());
    let accepted: BTreeMap<_, _> =
        rows.iter().map(|(message, node, _, accepted, _)| ((message.clone(), node.clone()), *accepted)).collect();
    let mut through_the_middle = 0;
    for (message, node, arrival, _, from) in rows.iter().filter(|(.., from)| from == "n01") {
        let before = accepted[&(message.clone(), from.clone())].expect("who passes a message on has accepted it");
        assert!(before <= *arrival, "{node} has {message} {} us before {from}", before - arrival);
        through_the_middle += 1;
    }
    assert!(through_the_middle > 10, "{through_the_middle} came that way");
}

/// The heights differ by one at most moments.
#[test]
fn two_chains_are_no_agreement_however_close_their_heights_are() {
    for drain_s in ["5", "5.5", "6"] {
        let manifest = format!(
            "format = 1\nname = \"split\"\nnodes = 8\n[time]\nwarm_up_s = 5\nload_s = 40\ndrain_s = {drain_s}\n[topology]\nkind = \"random\"\ndegree = 7\n\
             [links]\nprofile = \"flat\"\ndead_after_s = 5\n[blocks]\nproducers = 2\nslot_s = 1\n[[fault]]\nkind = \"partition\"\nat_s = 10\n\
             who = {{ nodes = [1, 3, 5, 7] }}\n"
        );
        let (code, text) = Run::new(&manifest).simulate();
        assert_eq!(code, Some(1), "{drain_s}: {text}");
    }
}

#[test]
fn what_a_node_does_not_take_is_not_passed_over() {
    let manifest = "format = 1\nname = \"flood\"\nnodes = 4\n[time]\nwarm_up_s = 3\nload_s = 2\ndrain_s = 5\n[topology]\nkind = \"random\"\n\
                    degree = 3\n[links]\nprofile = \"loopback\"\n[[workload]]\nkind = \"constant\"\nper_s = 1000\nbytes = 10\n\
                    publishers = { count = 1 }\n";
    let run = Run::new(manifest);
    let (code, text) = run.simulate();
    assert_eq!(code, Some(1), "{text}");
    let refused = "of the transactions that were to be published were refused by their own nodes";
    assert!(text.contains(refused), "{text}");
    let summary = std::fs::read_to_string(run.out().join("summary.json")).expect("there is a summary");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("it is JSON");
    let verdict = &summary["verdict"];
    assert_eq!((&verdict["good"], &verdict["one_chain"]), (&false.into(), &true.into()), "{verdict}");
    assert!(verdict["findings"][0].as_str().is_some_and(|finding| finding.contains(refused)), "{verdict}");
}

/// Its burst waits at its slow uplink, and goes on when it does.
#[test]
fn who_stands_still_writes_nothing() {
    let manifest = SLOW_MIDDLE.split("[[workload]]").next().expect("something is before it").to_owned()
        + "[[workload]]\nkind = \"bursts\"\nevery_s = 100\nmessages = 20\nbytes = 20000\npublishers = { nodes = [0] }\n\
           [[fault]]\nkind = \"pause\"\nat_s = 6\nfor_s = 25\nwho = { nodes = [0] }\n";
    let run = Run::new(&manifest);
    run.simulate();
    let arrivals = deliveries(&run.out()).into_iter().filter(|(_, node, ..)| node == "n01").map(|row| row.2);
    let (before, later): (Vec<u64>, Vec<u64>) = arrivals.partition(|at_us| *at_us < 18_000_000);
    assert!(!before.is_empty() && !later.is_empty(), "{before:?} {later:?}");
    let within_us = |at_us: &&u64| **at_us > 6_500_000;
    assert_eq!(before.iter().filter(within_us).count(), 0, "what was on the wire comes, and no more: {before:?}");
    assert!(later.iter().all(|at_us| *at_us > 30_900_000), "{later:?}");
}

/// Fifteen others talk on while one is parted and then stands still beyond the heal.
#[test]
fn who_stands_still_writes_nothing_when_a_path_is_mended() {
    let manifest = "format = 1\nname = \"still\"\nnodes = 16\n[time]\nwarm_up_s = 5\nload_s = 40\ndrain_s = 20\n[topology]\nkind = \"random\"\ndegree = 6\n\
                    [[workload]]\nkind = \"constant\"\nper_s = 2\nbytes = 200\npublishers = { nodes = [5] }\n\
                    [[fault]]\nkind = \"partition\"\nat_s = 10\nfor_s = 8\nwho = { nodes = [5] }\n\
                    [[fault]]\nkind = \"pause\"\nat_s = 14\nfor_s = 20\nwho = { nodes = [5] }\n";
    let run = Run::new(manifest);
    run.simulate();
    let arrivals = deliveries(&run.out()).into_iter().filter(|(.., from)| from == "n05").map(|row| row.2);
    let (mut before, mut meanwhile, mut later) = (0, Vec::new(), 0);
    for arrival_us in arrivals {
        match arrival_us {
            0..=10_500_000 => before += 1,
            34_000_000.. => later += 1,
            _ => meanwhile.push(arrival_us),
        }
    }
    assert!(before > 0 && later > 0, "{before} and {later}");
    assert_eq!(meanwhile, [0; 0], "it was parted until 18 s, and stood still from 14 s to 34 s");
}

#[test]
fn what_was_lost_is_not_sent_again_across_a_partition() {
    let manifest = "format = 1\nname = \"lossy\"\nnodes = 16\n[time]\nwarm_up_s = 12\nload_s = 40\ndrain_s = 20\n[topology]\nkind = \"random\"\ndegree = 6\n\
                    [[workload]]\nkind = \"constant\"\nper_s = 10\nbytes = 200\n\
                    [[fault]]\nkind = \"partition\"\nat_s = 20\nfor_s = 20\nwho = { nodes = [0, 2, 4, 6, 8, 10, 12, 14] }\n\
                    [[fault]]\nkind = \"degrade\"\nat_s = 3\nfor_s = 30\nloss_percent = 50\nfrom = { all = true }\n";
    let run = Run::new(manifest);
    run.simulate();
    let side = |name: &str| name[1..].parse::<u32>().expect("a number") % 2;
    let across = deliveries(&run.out()).into_iter().filter(|(_, node, .., from)| side(node) != side(from));
    let (meanwhile, others): (Vec<u64>, Vec<u64>) =
        across.map(|row| row.2).partition(|arrival_us| (20_400_000..40_000_000).contains(arrival_us));
    assert!(others.len() > 100, "{}", others.len());
    assert_eq!(meanwhile, [0; 0], "nothing crosses it but what was on its way");
}

#[test]
fn where_nobody_runs_nothing_is_good() {
    let manifest = "format = 1\nname = \"dead\"\nnodes = 4\n[time]\nwarm_up_s = 3\nload_s = 5\ndrain_s = 5\n[topology]\nkind = \"random\"\ndegree = 3\n\
                    [[workload]]\nkind = \"constant\"\nper_s = 5\nbytes = 10\n[[fault]]\nkind = \"kill\"\nat_s = 2\nwho = { all = true }\n";
    let (code, text) = Run::new(manifest).simulate();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no node runs at the end"), "{text}");
}
