//! The attack on a fleet: its processes from their start to the verdict.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use super::judge::Evidence;
use super::watch::Watch;
use super::{Entry, Orders, process};
use crate::cluster::fleet::Fleet;
use crate::cluster::plan::{Plan, address};
use crate::cluster::{ClusterError, Options, file_error, host};
use crate::report::attackers::AttackerGroup;

/// How long attacking processes may take to end by themselves before they are killed.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// What attacking processes take to start, on a host that is not too busy.
pub(in crate::cluster) const LEAD: Duration = Duration::from_secs(1);

/// An attack under way.
#[derive(Debug)]
pub(in crate::cluster) struct Siege {
    groups: Vec<Group>,
    watch: Watch,
    names: Vec<String>,
    /// When the attackers' time begins, in microseconds of the host's monotonic clock.
    zero_us: u64,
}

/// The attackers of one kind: a process.
#[derive(Debug)]
struct Group {
    orders: Orders,
    log: PathBuf,
    child: Child,
    /// Held open as long as they are to attack.
    stdin: Option<ChildStdin>,
}

impl Siege {
    /// Starts the attacking processes against nodes that are all up. Their time begins at `zero_us` of the host's monotonic clock; who is to
    /// attack at once, and is given less than `LEAD` to start, comes as soon as it can.
    pub(in crate::cluster) fn begin(
        plan: &Plan,
        options: &Options,
        fleet: &Fleet,
        zero_us: u64,
    ) -> Result<Self, ClusterError> {
        let folder = options.out.join("attackers");
        fs::create_dir_all(&folder).map_err(file_error("make the folder", &folder))?;
        let nodes: Vec<String> = fleet.listening();
        let mut groups = Vec::new();
        let mut taken = plan.nodes.len();
        for (number, attackers) in (0_u64..).zip(&options.attackers) {
            let homes: Vec<Ipv4Addr> = (0..attackers.identities())
                .map(|place| address(options.seed, taken + place / (attackers.per_ip as usize)))
                .collect();
            taken += homes.len();
            let orders = Orders {
                genesis: options.out.join("genesis.toml"),
                // Another one for each group, so that no two have the same keys.
                seed: options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number + 1),
                attackers: attackers.clone(),
                nodes: nodes.clone(),
                homes,
                zero_us,
                diary: folder.join(format!("{number}-{}.jsonl", attackers.kind)),
            };
            let log = options.out.join("logs").join(format!("attackers-{number}-{}.log", attackers.kind));
            groups.push(Group::launch(orders, log, &folder.join(format!("{number}-{}.json", attackers.kind)))?);
        }
        let names = fleet.nodes().iter().map(|node| node.name.clone()).collect();
        Ok(Self { groups, watch: Watch::begin(fleet.rpc_clients()), names, zero_us })
    }

    /// Ends the attack, and says what became of each group.
    pub(in crate::cluster) async fn end(self) -> Result<Vec<AttackerGroup>, ClusterError> {
        let end_us = host::now_us();
        let seen = self.watch.end();
        let mut judged = Vec::new();
        for mut group in self.groups {
            let early = group.stop().await;
            let diary = read_diary(&group.orders.diary)?;
            let attackers = &group.orders.attackers;
            let evidence =
                Evidence { attackers, diary: &diary, seen: &seen, names: &self.names, zero_us: self.zero_us, end_us };
            let mut verdict = evidence.judge();
            if let Some(status) = early {
                let log = group.log.display();
                verdict.complaints.push(format!("the attacking process ended before it was to ({status}); see {log}"));
            }
            judged.push(verdict);
        }
        Ok(judged)
    }
}

impl Group {
    fn launch(orders: Orders, log: PathBuf, path: &Path) -> Result<Self, ClusterError> {
        let text = serde_json::to_string_pretty(&orders).expect("numbers and text are always JSON");
        fs::write(path, text).map_err(file_error("write", path))?;
        let out = File::create(&log).map_err(file_error("make", &log))?;
        // Always this program: a node's executable does not attack.
        let program = std::env::current_exe().map_err(file_error("find", "this program's own executable"))?;
        let mut command = Command::new(&program);
        command.arg(process::SUBCOMMAND).arg(path);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(out).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|source| ClusterError::Spawn { program, source })?;
        let stdin = child.stdin.take();
        Ok(Self { orders, log, child, stdin })
    }

    /// Ends the process. Says how it had ended, if it already had.
    async fn stop(&mut self) -> Option<std::process::ExitStatus> {
        let early = self.child.try_wait().ok().flatten();
        self.stdin.take();
        if timeout(STOP_DEADLINE, self.child.wait()).await.is_err() {
            // Only fails for a process that has just ended.
            let _already_gone = self.child.kill().await;
        }
        early
    }
}

fn read_diary(path: &Path) -> Result<Vec<Entry>, ClusterError> {
    let text = match fs::read_to_string(path) {
        // A process that could not even begin; how it ended is told.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.map_err(file_error("read", path))?,
    };
    let entries = text.lines().map(|line| {
        serde_json::from_str(line).map_err(|error| {
            file_error("understand", path)(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
        })
    });
    entries.collect()
}
