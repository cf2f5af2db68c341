//! Running the tool as a process, with deadlines.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// The tool under test.
pub(crate) struct Tool {
    child: Child,
    out: PathBuf,
}

/// What the tool said and how it ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Tool {
    /// Starts the tool with arguments, and `--out` in front of them unless it is among them.
    pub(crate) fn start(out: &Path, arguments: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_starling-testnet"))
            .args(arguments)
            .arg("--out")
            .arg(out)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        Self { child, out: out.to_owned() }
    }

    /// Sends the tool a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).expect("the tool is running");
    }

    /// Waits for the tool's end; panics past the deadline.
    pub(crate) fn end(mut self, deadline: Duration) -> Ended {
        let mut stdout = self.child.stdout.take().expect("piped");
        let mut stderr = self.child.stderr.take().expect("piped");
        // Both pipes are emptied while waiting, or a talkative tool would block.
        let stdout = thread::spawn(move || read_all(&mut stdout));
        let stderr = thread::spawn(move || read_all(&mut stderr));
        let status = self.wait(deadline);
        Ended { code: status.code(), stdout: stdout.join().expect("read"), stderr: stderr.join().expect("read") }
    }

    /// Kills the tool without giving it a chance to clean up.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the tool is running");
        self.child.wait().expect("the tool has ended");
    }

    fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let until = Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            if Instant::now() > until {
                let _ = self.child.kill();
                panic!("the tool did not end in {deadline:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `nodes` nodes say where they listen, and returns their process ids.
    pub(crate) fn wait_for_nodes(&self, nodes: usize, deadline: Duration) -> Vec<u32> {
        let mut pids = Vec::new();
        wait_until(deadline, &format!("{nodes} nodes are up"), || {
            pids = node_pids(&self.out);
            pids.len() == nodes
        });
        pids
    }
}

/// The process ids that the nodes have written beside their addresses.
fn node_pids(out: &Path) -> Vec<u32> {
    let Ok(dirs) = fs::read_dir(out.join("nodes")) else { return Vec::new() };
    dirs.filter_map(|dir| {
        let text = fs::read_to_string(dir.ok()?.path().join("addresses.json")).ok()?;
        let json: serde_json::Value = serde_json::from_str(&text).ok()?;
        json["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
    })
    .collect()
}

/// Whether a process with this id exists and is no zombie.
pub(crate) fn is_alive(id: u32) -> bool {
    let zombie = || {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
    };
    test_kill_process(pid(id)).is_ok() && !zombie()
}

/// Waits for a condition; panics past the deadline.
pub(crate) fn wait_until(deadline: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + deadline;
    while !holds() {
        assert!(Instant::now() < until, "it did not come true in {deadline:?} that {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Asserts that none of these processes is left, allowing for the moment that a process takes to go.
pub(crate) fn assert_gone(pids: &[u32], within: Duration) {
    wait_until(within, &format!("none of the nodes {pids:?} is left"), || pids.iter().all(|&pid| !is_alive(pid)));
}

/// A process id as the system calls take it.
pub(crate) fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("a process id")).expect("not zero")
}

fn read_all(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("readable");
    String::from_utf8_lossy(&bytes).into_owned()
}
