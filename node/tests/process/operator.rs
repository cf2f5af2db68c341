//! What an operator does to a node and its host: signals, several nodes on one host, directories that cannot be used.

use crate::lab::{Lab, Running, wait_for};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::Signal;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

/// A node that cannot stop cleanly: its trace goes into a pipe that nobody reads, and that is full.
fn stuck(lab: &Lab) -> (Running, File) {
    let pipe = lab.path("trace");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("made");
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).expect("fits");
    let mut held = File::options().read(true).write(true).custom_flags(nonblocking).open(&pipe).expect("opened");
    let node = lab.start("node", 1, &["--trace", "trace"]);
    while held.write(&[b'x'; 4_096]).is_ok() {}
    while held.write(b"x").is_ok() {}
    (node, held)
}

fn logged(lab: &Lab, text: &str) {
    wait_for(text, || std::fs::read_to_string(lab.log("node")).ok()?.contains(text).then_some(()));
}

#[test]
fn a_second_signal_stops_a_node_at_once_that_cannot_stop_cleanly() {
    for (first, second, code) in [(Signal::TERM, Signal::INT, 130), (Signal::HUP, Signal::TERM, 143)] {
        if first == Signal::HUP && hangup_is_ignored() {
            eprintln!("skipped: SIGHUP is ignored here, as under nohup, and a node keeps to that");
            continue;
        }
        let lab = Lab::new("impatient", 0);
        let (mut node, _held) = stuck(&lab);
        node.signal(first);
        logged(&lab, "stopping");
        assert!(node.child.try_wait().expect("a child").is_none(), "it waits for its trace");
        node.signal(second);
        let (status, took) = node.wait();
        assert_eq!(status.code(), Some(code), "{first:?}, then {second:?}");
        // Less than the deadline after the first signal.
        assert!(took < Duration::from_secs(7), "{took:?}");
        logged(&lab, "stopping at once");
    }
}

/// Whether this process, and so the nodes that it starts, were told to ignore SIGHUP.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask").trim();
    u64::from_str_radix(ignored, 16).expect("a mask") & 1 == 1
}

#[test]
fn a_node_that_cannot_stop_cleanly_is_ended_at_the_deadline() {
    let ended = |lab: Lab, stop: fn(&Running)| {
        let (mut node, _held) = stuck(&lab);
        let begun = Instant::now();
        stop(&node);
        let (status, _) = node.wait();
        assert_eq!(status.code(), Some(1));
        assert!(begun.elapsed() > Duration::from_secs(8), "a clean stop has its time: {:?}", begun.elapsed());
        logged(&lab, "did not stop in time");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| ended(Lab::new("hanging", 0), |node| node.signal(Signal::TERM)));
        scope.spawn(|| {
            ended(Lab::new("hanging-too", 0), |node| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                // The thread that would answer waits for the trace.
                let _cut_off = runtime.block_on(node.admin().admin_shutdown());
            });
        });
    });
}

/// Two nodes with the default ports of their instances, found by the same number.
#[test]
fn instances_on_one_host_do_not_meet_and_are_found_by_their_number() {
    let lab = Lab::new("instances", 0);
    let home = lab.dir.path().to_owned();
    let starling = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
        command.args(args).current_dir(&home).env("XDG_DATA_HOME", &home);
        command
    };
    let numbers = ["197", "198"];
    let nodes = numbers.map(|number| {
        // Listening on loopback only is a matter of the tests; the ports are the instance's.
        let port = 26_500 + number.parse::<u16>().expect("a number") * 10;
        let listen = format!("/ip4/127.0.0.1/tcp/{port}");
        let made = starling(&["init", "--genesis", "genesis.toml", "--instance", number]).output().expect("it runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let run = starling(&["run", "--exit-on-stdin-close", "--instance", number, "--listen", &listen]);
        lab.start_command(run, &format!("starling-{number}"))
    });
    for (number, node) in numbers.iter().zip(&nodes) {
        let status = starling(&["status", "--instance", number, "--json"]).output().expect("it runs");
        let text = String::from_utf8_lossy(&status.stdout);
        assert!(text.contains(&node.addresses().peer_id), "{text}");
    }
    assert_eq!(nodes[0].addresses().rpc.port(), 26_500 + 1_970 + 1);
    for node in nodes {
        node.stop();
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_named_with_the_remedy() {
    let lab = Lab::new("directories", 0);
    std::fs::write(lab.path("file"), "").expect("written");
    for (datadir, expected) in [
        ("file", "make the data directory file"),
        ("file/inside", "make the data directory"),
        // Nobody can write here, not even the superuser that tests may run as.
        ("/proc/self", "cannot lock /proc/self/LOCK"),
        ("/proc/starling", "make the data directory /proc/starling"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_starling"))
            .args(["run", "--genesis", "genesis.toml", "--datadir", datadir])
            .current_dir(lab.dir.path())
            .output()
            .expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{datadir}: {error}");
        assert!(error.contains(expected.rsplit(' ').next().expect("a path")), "{datadir}: {error}");
        assert!(error.contains("--datadir"), "{datadir}: {error}");
    }
}

#[tokio::test]
async fn the_log_goes_to_a_file_too_and_begins_a_new_one_when_it_is_large() {
    let lab = Lab::new("logging", 0);
    let flags = ["--log-file", "node/node.log", "--log-file-bytes-max", "64KiB", "--log-files-max", "3"];
    let verbose = ["--log-filter", "trace", "--log-format", "json"];
    std::fs::create_dir(lab.path("node")).expect("made");
    let node = lab.start("node", 1, &[&flags[..], &verbose].concat());
    let rpc = node.rpc();
    crate::lab::eventually("a third file, from what each request logs", || async {
        for _ in 0..50 {
            rpc.node_info().await.expect("an answer");
        }
        lab.path("node/node.log.2").exists().then_some(())
    })
    .await;
    node.stop();
    for file in ["node/node.log", "node/node.log.1", "node/node.log.2"] {
        let text = std::fs::read_to_string(lab.path(file)).expect("there");
        assert!(text.len() <= 64 << 10 && text.ends_with('\n'), "{file}");
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("whole lines of JSON");
        }
    }
    assert!(!lab.path("node/node.log.3").exists());
    let last = std::fs::read_to_string(lab.path("node/node.log")).expect("there");
    assert!(last.contains("stopped"), "nothing is lost at the end");

    let (code, error) = lab.refuse("node", 1, &["--log-file", "nowhere/node.log"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("nowhere/node.log") && error.contains("--log-file") && error.contains("there is no directory"),
        "{error}"
    );
    let (code, error) = lab.refuse("node", 1, &["--log-files-max", "3"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("says nothing without log.file"), "{error}");
}

/// A log on a full disk, which `/dev/full` is, neither stops nor slows the node.
#[tokio::test]
async fn a_log_that_cannot_be_written_costs_lines_and_nothing_else() {
    let lab = Lab::new("full-log", 0);
    let node = lab.start_producer(&["--log-file", "/dev/full", "--log-filter", "debug"]);
    let rpc = node.rpc();
    crate::lab::eventually("blocks", || async {
        (rpc.chain_head().await.expect("an answer").height > 3).then_some(())
    })
    .await;
    let told = std::fs::read_to_string(lab.log("producer")).expect("a log");
    assert!(told.contains("log lines cannot be written") && told.contains("No space left"), "{told}");
    assert!(told.matches("log lines cannot be written").count() <= 10, "{told}");
    assert!(crate::attacks::metric(&node, "starling_log_lines_lost_total") > 0, "they are counted");
    node.stop();
}
