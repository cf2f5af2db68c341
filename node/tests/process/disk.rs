//! What the disk can do to a node.

use crate::lab::{Lab, Running, eventually, wait_for};
use std::process::Command;
use std::time::Duration;

/// Bytes that a file may have: the store as it is made has 1,056,768.
const FILE_BYTES_MAX: u64 = 1_200_000;

impl Lab {
    /// Runs `name` with a limit on the size of files, which fails as a full disk does.
    fn start_on_a_small_disk(&self, name: &str, host: u8, flags: &[&str]) -> Running {
        let node = self.command(name, host, flags);
        let mut limited = Command::new("sh");
        // The signal that comes with the error would end a process that does not expect it. Blocks have 512 bytes.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", FILE_BYTES_MAX / 512);
        limited.args(["-c", &script, "sh"]).arg(node.get_program()).args(node.get_args());
        self.start_command(limited, name)
    }
}

#[tokio::test]
async fn a_full_disk_is_named_once_and_costs_only_what_was_not_stored() {
    let lab = Lab::new("full", 0);
    let producer = ["--producer-key", "producer.pem"];
    let node = lab.start_on_a_small_disk("producer", 1, &producer);
    let rpc = node.rpc();
    let log = || std::fs::read_to_string(lab.log("producer")).expect("a log");
    eventually("the disk is full", || async {
        for _ in 0..20 {
            // Refused when too many wait.
            let _refused = rpc.tx_publish(&[7; 1_000]).await;
        }
        log().contains("ERROR").then_some(())
    })
    .await;
    let at_failure = rpc.chain_head().await.expect("it still answers").height;
    eventually("blocks all the same", || async {
        (rpc.chain_head().await.expect("an answer").height > at_failure + 3).then_some(())
    })
    .await;
    let errors: Vec<String> = log().lines().filter(|line| line.contains("ERROR")).map(str::to_owned).collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("File too large") && errors[0].contains("free space"), "{}", errors[0]);
    node.stop();

    // With room again, the node goes on from what was stored.
    let node = lab.start("producer", 1, &producer);
    let rpc = node.rpc();
    let height = rpc.chain_head().await.expect("an answer").height;
    assert!(height > 0 && height <= at_failure + 1, "{height} blocks are left of {at_failure}");
    eventually("more blocks", || async { (rpc.chain_head().await.expect("an answer").height > height).then_some(()) })
        .await;
    node.stop();
}

#[test]
fn a_kill_at_any_moment_of_the_start_leaves_a_directory_that_starts() {
    let lab = Lab::new("killed", 0);
    for attempt in 0..12 {
        let mut child = lab.command("node", 1, &[]).spawn().expect("the program starts");
        // Spread over the time that a start takes; each kill is at another step of it.
        std::thread::sleep(Duration::from_millis(8 * attempt));
        child.kill().expect("it runs");
        let _killed = child.wait().expect("it ends");
    }
    let node = lab.start("node", 1, &[]);
    wait_for("an answer", || std::net::TcpStream::connect(node.addresses().rpc).ok());
    node.stop();
}
