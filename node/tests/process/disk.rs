//! What the disk can do to a node.

use crate::lab::{DEADLINE, Lab, Running, eventually, wait_for};
use crate::monitored::page_at;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use starling_node::api::{StorageState, TransactionStatus};
use starling_node::rpc::client::{ClientError, RpcClient};
use starling_node::rpc::codes::ErrorData;
use starling_protocol::id::TransactionId;
use std::process::Command;
use std::time::{Duration, Instant};

/// Bytes that a file may have: the store as it is made has 1,056,768.
const FILE_BYTES_MAX: u64 = 1_200_000;

impl Lab {
    /// Runs `name` with a limit on the size of files, which fails as a full disk does until it is lifted.
    fn start_on_a_small_disk(&self, name: &str, host: u8, flags: &[&str]) -> Running {
        let node = self.command(name, host, flags);
        let mut limited = Command::new("sh");
        // The signal that comes with the error would end a process that does not expect it. Blocks have 512 bytes.
        let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$@\"", FILE_BYTES_MAX / 512);
        limited.args(["-c", &script, "sh"]).arg(node.get_program()).args(node.get_args());
        self.start_command(limited, name)
    }
}

impl Running {
    /// Lifts the limit on the size of files.
    fn free_the_disk(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process");
        let unlimited = Rlimit { current: None, maximum: None };
        prlimit(Some(pid), Resource::Fsize, unlimited).expect("the limit was a soft one");
    }
}

/// Publishes until the disk is full; what was accepted, and the refusal.
async fn fill(rpc: &RpcClient) -> (Vec<TransactionId>, ErrorData) {
    let mut accepted = Vec::new();
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        match rpc.tx_publish(&[7; 1_000]).await {
            Ok(submitted) => accepted.push(submitted.id),
            Err(ClientError::Refused { data: Some(data), .. }) if data.reason == "storage" => return (accepted, data),
            // Refused for another reason, as when too many wait.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    panic!("the disk did not fill up");
}

#[tokio::test]
async fn a_full_disk_refuses_what_it_cannot_keep_and_recovers_when_there_is_room() {
    let lab = Lab::new("full", 0);
    let producer = lab.start_producer(&[]);
    let bootnode = producer.addresses().listen[0].clone();
    let small = lab.start_on_a_small_disk("small", 2, &["--bootnodes", &bootnode]);
    let rpc = small.rpc();
    crate::ready(&rpc).await;

    let (accepted, refusal) = fill(&rpc).await;
    assert!(refusal.cause.contains("was not accepted") && refusal.cause.contains("File too large"), "{refusal:?}");
    assert!(refusal.remedy.contains("free space"), "{refusal:?}");
    let ready = rpc.ready().await.expect("an answer");
    let StorageState::Failing { cause } = ready.storage else { panic!("it does not say that it fails") };
    assert!(cause.contains("File too large") && cause.contains("free space"), "{cause}");
    assert!(ready.disk.failing_since_unix_s.is_some());
    let (status, health) = page_at(small.addresses().rpc, "/health");
    assert!(status.contains("200"), "it lives: {status}");
    assert!(health.contains("File too large") && health.contains("free space"), "{health}");

    // It goes on following the chain and relaying: what another node publishes reaches it.
    let height = rpc.chain_head().await.expect("it still answers").height;
    let elsewhere = producer.rpc().tx_publish(b"elsewhere").await.expect("accepted there");
    eventually("blocks and transactions all the same", || async {
        let head = rpc.chain_head().await.expect("an answer").height;
        let found = rpc.tx_get(&elsewhere.id).await.expect("an answer").status;
        (head > height + 3 && matches!(found, TransactionStatus::Included { .. })).then_some(())
    })
    .await;
    assert!(rpc.ready().await.expect("an answer").disk.unsaved_blocks > 3);
    let log = std::fs::read_to_string(lab.log("small")).expect("a log");
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("File too large") && errors[0].contains("free space"), "{}", errors[0]);

    small.free_the_disk();
    eventually("the disk has what the memory has", || async {
        let ready = rpc.ready().await.expect("an answer");
        (ready.storage == StorageState::Ok && ready.disk.height > height + 3).then_some(())
    })
    .await;
    let again = rpc.tx_publish(b"again").await.expect("accepted again").id;
    let all: Vec<TransactionId> = accepted.into_iter().chain([again]).collect();
    included(&rpc, &all).await;
    let before = rpc.chain_head().await.expect("an answer").height;
    small.stop();
    let small = lab.start("small", 2, &["--bootnodes", &bootnode]);
    let rpc = small.rpc();
    assert!(rpc.chain_head().await.expect("an answer").height >= before, "blocks were lost");
    included(&rpc, &all).await;
    small.stop();
    producer.stop();
}

/// Waits until a node has all of these in its chain.
pub(crate) async fn included(rpc: &RpcClient, ids: &[TransactionId]) {
    for id in ids {
        eventually("what was accepted in a block", || async {
            let status = rpc.tx_get(id).await.expect("an answer").status;
            matches!(status, TransactionStatus::Included { .. }).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_store_that_is_removed_is_missed_at_once() {
    let lab = Lab::new("vanished", 0);
    let node = lab.start("node", 1, &[]);
    let rpc = node.rpc();
    rpc.tx_publish(b"kept").await.expect("accepted");
    let (store, aside) = (lab.path("node/chain.redb"), lab.path("node/aside"));
    std::fs::rename(&store, &aside).expect("moved");
    let refused = rpc.tx_publish(b"not kept").await.expect_err("refused");
    assert!(refused.to_string().contains("no longer there"), "{refused}");
    std::fs::rename(&aside, &store).expect("moved back");
    eventually("it is stored again", || async { rpc.tx_publish(b"kept").await.ok() }).await;
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
