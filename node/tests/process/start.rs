//! Starting on a data directory that cannot be used as it is.
//!
//! The disks are real ones: file systems of a mount namespace of the test's own, which any user may make where the kernel
//! is set so (user_namespaces(7)). Where it is not, the tests say so and end.

use crate::lab::{Done, Lab, eventually, wait_for};
use crate::monitored::page_at;
use starling_node::rpc::client::RpcClient;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

/// A command that runs `script` where it may mount.
fn mounting(lab: &Lab, script: &str) -> Option<Command> {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--", "sh", "-e", "-c"]);
    let allowed = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "--", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("not tested: this host lets nobody mount");
        return None;
    }
    command.arg(script).arg("sh").current_dir(lab.dir.path());
    Some(command)
}

const STARLING: &str = env!("CARGO_BIN_EXE_starling");

#[test]
fn a_read_only_disk_is_named_at_the_start_with_the_remedy() {
    let lab = Lab::old("read-only", 5, 100);
    lab.db("export", "producer", &["chain"]).good();
    let cases = [
        &["run", "--rpc", "127.77.0.1:0", "--listen", "/ip4/127.77.0.1/tcp/0"][..],
        &["db", "check"],
        &["db", "prune", "--keep-blocks", "400"],
        &["db", "import", "chain"],
    ];
    for args in cases {
        let script = "mount --bind producer producer; mount -o remount,bind,ro producer; exec \"$@\"";
        let Some(mut command) = mounting(&lab, script) else { return };
        command.arg(STARLING).args(args).args(["--genesis", "genesis.toml", "--datadir", "producer"]);
        let done = Done::of(command.stdin(Stdio::null()));
        done.refused(1, &["producer/", "Read-only file system", "mounted to be written", "--datadir"]);
    }
    assert_eq!(lab.checked("producer")["height"], 5);
}

#[test]
fn a_directory_of_somebody_else_is_named_with_the_remedy() {
    let lab = Lab::old("forbidden", 5, 100);
    let run = |args: &[&str]| {
        // Without capabilities root is an owner like any other.
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set=-all", "--inh-caps=-all", "--"]).arg(STARLING);
            command
        } else {
            Command::new(STARLING)
        };
        command.args(args).args(["--genesis", "genesis.toml", "--datadir", "producer"]);
        Done::of(command.current_dir(lab.dir.path()).stdin(Stdio::null()))
    };
    let start = ["run", "--rpc", "127.77.0.1:0", "--listen", "/ip4/127.77.0.1/tcp/0"];
    let forbid = |path: &str, mode| fs::set_permissions(lab.path(path), fs::Permissions::from_mode(mode)).expect("set");
    forbid("producer", 0o500);
    run(&["db", "check"]).refused(1, &["producer/LOCK", "Permission denied", "run this as the user"]);
    run(&start).refused(1, &["producer/", "Permission denied", "run this as the user"]);
    forbid("producer", 0o700);
    forbid("producer/chain.redb", 0o400);
    run(&["db", "check"]).refused(1, &["chain.redb", "Permission denied", "runs as the user that the file belongs to"]);
    run(&start).refused(1, &["chain.redb", "Permission denied", "runs as the user that the file belongs to"]);
    forbid("producer/chain.redb", 0o600);
    run(&["db", "check"]).good();
}

/// A node that is restarted while its disk is full does what it can, and all of it when there is room.
#[tokio::test]
async fn a_node_starts_on_a_full_disk_and_recovers() {
    let lab = Lab::old("full", 5, 300);
    lab.start_producer(&[]).stop();
    let script = "mkdir disk; mount -t tmpfs -o size=3m none disk; cp -r producer disk/node; \
                  dd if=/dev/zero of=disk/filling bs=4096 2>/dev/null || true; exec \"$@\"";
    let Some(mut command) = mounting(&lab, script) else { return };
    command.args([STARLING, "run", "--exit-on-stdin-close", "--datadir", "disk/node", "--genesis", "genesis.toml"]);
    command.args(["--rpc", "127.77.0.1:0", "--listen", "/ip4/127.77.0.1/tcp/0", "--producer-key", "producer.pem"]);
    let log = lab.log("full");
    command.stdin(Stdio::piped()).stdout(fs::File::create(lab.path("out")).expect("a file"));
    command.stderr(fs::File::create(&log).expect("a file"));
    let mut child = command.spawn().expect("it starts");
    let rpc: SocketAddr = wait_for("the address of the RPC", || {
        let ended = child.try_wait().expect("a child");
        assert!(ended.is_none(), "the node ended: {}", fs::read_to_string(&log).expect("a log"));
        let out = fs::read_to_string(lab.path("out")).expect("a file");
        out.lines().find_map(|line| line.strip_prefix("rpc")?.trim().parse().ok())
    });
    let client = RpcClient::new(&rpc.to_string()).expect("an address");
    let said = wait_for("the health to tell", || {
        let (_, health) = page_at(rpc, "/health");
        health.contains("No space left").then_some(health)
    });
    assert!(said.contains("free space on the disk"), "{said}");
    let refused = client.tx_publish(b"refused").await.expect_err("there is no room").to_string();
    assert!(refused.contains("was not accepted") && refused.contains("No space left"), "{refused}");
    let text = fs::read_to_string(&log).expect("a log");
    assert!(text.contains("only with --rpc"), "{text}");

    fs::remove_file(format!("/proc/{}/root{}", child.id(), lab.path("disk/filling").display())).expect("removed");
    eventually("it is accepted", || async { client.tx_publish(b"accepted").await.ok() }).await;
    let height = client.chain_head().await.expect("an answer").height;
    eventually("the chain to go on", || async { (client.chain_head().await.ok()?.height > height).then_some(()) })
        .await;
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());
    assert!(!fs::read_to_string(&log).expect("a log").contains("panicked"));
}
