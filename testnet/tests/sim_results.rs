//! What simulations leave: folders of other kinds than a single run, and results that cannot be written.

mod tool;

use tool::{MANIFEST, said, summary};

/// Figures for each size, a page, and what failed with the command that shows it again.
#[test]
fn networks_of_growing_size_are_compared() {
    let temporary = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temporary.path().join(name).display().to_string();
    let short = ["--nodes-max", "199", "--set", "time.warm_up_s=3", "--set", "time.load_s=1"];
    let shown = said(&[&["sim", "scaling", "--out", &path("out")][..], &short].concat(), 0);
    assert!(shown.contains("100 nodes simulated") && shown.contains("hops") && !shown.contains("200"), "{shown}");
    let csv = std::fs::read_to_string(temporary.path().join("out/scaling.csv")).expect("figures");
    let sizes: Vec<&str> = csv.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(sizes, ["100"], "{csv}");
    assert!(temporary.path().join("out/report.html").is_file());
    let lossy = ["--set", "time.drain_s=0.05", "--set", "links.loss_percent=50"];
    let shown = said(&[&["sim", "scaling", "--out", &path("lossy")][..], &short, &lossy].concat(), 1);
    let again = "again: starling-testnet sim scale --nodes 100 --seed 1 --set time.warm_up_s=3 --set time.load_s=1 --set time.drain_s=0.05";
    assert!(shown.contains("100 nodes: ") && shown.contains(again), "{shown}");
    let shown = said(&["sim", "scaling", "--out", &path("huge"), "--set", "workload.0.per_s=1000000"], 2);
    assert!(shown.contains("--nodes-max") && shown.contains("MiB of memory"), "{shown}");
    assert!(!temporary.path().join("huge").exists());
}

/// Whoever names a folder of another command is told what it is, and not that there is nothing in it.
#[test]
fn folders_of_other_commands_are_told_apart() {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = |name: &str, file: &str, content: &str| {
        let folder = temporary.path().join(name);
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(folder.join(file), content).expect("written");
        folder.display().to_string()
    };
    for (name, file, content, told) in [
        ("attacks", "attacks.json", "{}", "it is one of `attacks`"),
        ("scaling", "scaling.csv", "", "it is one of `sim scaling`"),
        ("reality", "reality.json", "[]", "it is one of `reality`"),
        ("run", "summary.json", "{\"kind\": \"processes\"}", "real processes ran there"),
        ("else", "else.txt", "", "there is no summary.json"),
    ] {
        let folder = folder(name, file, content);
        for command in ["reproduce", "explain"] {
            let shown = said(&[command, &folder], 2);
            assert!(shown.contains(told) && shown.contains(&folder), "{command} {name}: {shown}");
        }
    }
}

/// A manifest that was kept, with a key that this version does not have.
#[test]
fn a_scenario_of_another_version_is_called_that() {
    let temporary = tempfile::tempdir().expect("a folder");
    let out = temporary.path().join("out");
    std::fs::write(temporary.path().join("tiny.toml"), MANIFEST).expect("written");
    let manifest = temporary.path().join("tiny.toml").display().to_string();
    said(&["sim", &manifest, "--out", &out.display().to_string()], 0);
    assert_eq!(summary(&out)["kind"], "simulation");
    let kept = std::fs::read_to_string(out.join("scenario.toml")).expect("kept");
    std::fs::write(out.join("scenario.toml"), format!("of_old = 1\n{kept}")).expect("written");
    let shown = said(&["reproduce", &out.display().to_string()], 2);
    assert!(shown.contains("of_old") && shown.contains("another version"), "{shown}");
}

/// A disk that is full after an hour is no mistake in what was asked for.
#[cfg(unix)]
#[test]
fn results_that_cannot_be_written_are_a_failure() {
    let temporary = tempfile::tempdir().expect("a folder");
    let out = temporary.path().join("out");
    std::fs::write(temporary.path().join("tiny.toml"), MANIFEST).expect("written");
    // The largest file may have 4 KiB: enough for the manifest, and not for the report.
    let limited = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", limited, env!("CARGO_BIN_EXE_starling-testnet"), "sim"]);
    shell.arg(temporary.path().join("tiny.toml")).arg("--out").arg(&out);
    let ended = shell.output().expect("there is a shell");
    let shown = tool::text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{shown}");
    assert!(shown.contains("cannot use") && shown.contains(&out.display().to_string()), "{shown}");
}
