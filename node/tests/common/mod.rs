//! Whole nodes inside the test process, on loopback addresses of their own.

use libp2p::Multiaddr;
use starling_crypto::SecretKey;
use starling_node::api::NodeHandle;
use starling_node::config::Settings;
use starling_node::notify::Notifier;
use starling_node::rpc::RpcConfig;
use starling_node::service::Service;
use starling_node::storage::Keep;
use starling_node::telemetry::LogConfig;
use starling_protocol::genesis::{Genesis, GenesisParameters, Limits};
use std::future::Future;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A deadline for anything that a healthy network does within a second or two.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A key from a number.
pub(crate) fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

/// A network whose slot 1 begins about now; key 1 makes the blocks.
pub(crate) fn genesis(name: &str) -> Genesis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    Genesis::new(GenesisParameters {
        name: name.to_owned(),
        start_time_ms: u64::try_from(now).expect("fits") - 500,
        slot_ms: 500,
        producers: vec![key(1).public_key().to_bytes()],
        limits: Limits { expiry_slots_max: 1_000, ..Limits::default() },
        stamp_bits: 0,
    })
    .expect("a valid genesis")
}

/// A running node.
pub(crate) struct TestNode {
    pub(crate) handle: NodeHandle,
    pub(crate) address: Multiaddr,
    pub(crate) peer_id: String,
    pub(crate) datadir: TempDir,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl TestNode {
    /// Starts node `number` of a network in a data directory of its own.
    pub(crate) async fn start(genesis: &Genesis, number: u8, bootnodes: &[Multiaddr]) -> Self {
        let datadir = TempDir::new().expect("a temporary directory");
        Self::start_in(datadir, genesis, number, bootnodes).await
    }

    /// Starts it with what an earlier run left behind.
    pub(crate) async fn start_in(datadir: TempDir, genesis: &Genesis, number: u8, bootnodes: &[Multiaddr]) -> Self {
        let settings = settings(datadir.path(), genesis, number, bootnodes);
        let service = Box::pin(Service::start(settings, Notifier::default())).await.expect("the node starts");
        let handle = service.handle();
        let address = service.listening()[0].clone();
        let peer_id = service.peer_id().to_string();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(service.run(stopped));
        Self { handle, address, peer_id, datadir, stop, task }
    }

    /// Stops it cleanly and gives back its data directory.
    pub(crate) async fn stop(self) -> TempDir {
        let _ended_already = self.stop.send(());
        tokio::time::timeout(DEADLINE, self.task).await.expect("stops in time").expect("does not panic");
        self.datadir
    }
}

fn settings(datadir: &Path, genesis: &Genesis, number: u8, bootnodes: &[Multiaddr]) -> Settings {
    let is_producer = genesis.producers().contains(&key(number).public_key());
    Settings {
        datadir: datadir.to_owned(),
        genesis: genesis.clone(),
        node_key: key(100 + number),
        account_key: key(number),
        producer_key: is_producer.then(|| key(number)),
        listen: vec![format!("/ip4/127.0.42.{number}/tcp/0").parse().expect("a multiaddr")],
        bootnodes: bootnodes.to_vec(),
        trusted_peers: Vec::new(),
        nat: starling_node::net::external::Nat::Any,
        dns_servers: Vec::new(),
        discovery: true,
        target_peers: 8,
        max_peers: 32,
        flood_publish: false,
        suspect_after_slots: 16,
        rpc: RpcConfig::default(),
        runtime_threads: 1,
        keep: Keep::default(),
        log: LogConfig::default(),
        trace: None,
        link_emulation: None,
    }
}

/// Asks again and again until there is an answer, or fails with `what` after [`DEADLINE`].
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let waiting = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}
