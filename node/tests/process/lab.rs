//! A network of processes in a directory of its own.

use starling_crypto::SecretKey;
use starling_node::keyfile;
use starling_node::rpc::client::RpcClient;
use starling_node::storage::{Addresses, DataDir, Store};
use starling_protocol::block::Block;
use starling_protocol::genesis::{Genesis, GenesisParameters, Limits};
use starling_protocol::store::StoreOp;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A deadline for anything that a healthy node does within a second or two.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A network of its own in a directory of its own: genesis, producer key, data directories.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) genesis: Genesis,
}

impl Lab {
    pub(crate) fn new(name: &str, stamp_bits: u8) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let producer = keyfile::generate().expect("entropy");
        keyfile::create(&dir.path().join("producer.pem"), &producer).expect("made");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let genesis = Genesis::new(GenesisParameters {
            name: name.into(),
            start_time_ms: u64::try_from(now.as_millis()).expect("fits"),
            slot_ms: 300,
            producers: vec![producer.public_key().to_bytes()],
            limits: Limits { payload_bytes_max: 1_000, expiry_slots_max: 2_000, ..Limits::default() },
            stamp_bits,
        })
        .expect("acceptable");
        std::fs::write(dir.path().join("genesis.toml"), genesis.to_toml()).expect("written");
        Self { dir, genesis }
    }

    /// A network of these producers whose slot `slots_ago` is over. Nobody has its blocks.
    pub(crate) fn begun(name: &str, producers: &[&SecretKey], slot_ms: u64, slots_ago: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let genesis = Genesis::new(GenesisParameters {
            name: name.into(),
            start_time_ms: u64::try_from(now.as_millis()).expect("fits") - (slots_ago + 1) * slot_ms,
            slot_ms,
            producers: producers.iter().map(|key| key.public_key().to_bytes()).collect(),
            limits: Limits { payload_bytes_max: 1_000, expiry_slots_max: 100, ..Limits::default() },
            stamp_bits: 0,
        })
        .expect("acceptable");
        std::fs::write(dir.path().join("genesis.toml"), genesis.to_toml()).expect("written");
        Self { dir, genesis }
    }

    /// A network that has been running for so many slots, of which the producer's store has an empty block each.
    pub(crate) fn old(name: &str, height: u64, slot_ms: u64) -> Self {
        Self::old_with_blocks(name, height, slot_ms).0
    }

    /// The same, and its blocks.
    pub(crate) fn old_with_blocks(name: &str, height: u64, slot_ms: u64) -> (Self, Vec<Block>) {
        let producer = keyfile::generate().expect("entropy");
        let lab = Self::begun(name, &[&producer], slot_ms, height);
        keyfile::create(&lab.path("producer.pem"), &producer).expect("made");
        let mut parent = lab.genesis.block_id();
        let next = |height| {
            let block = Block::produce(&lab.genesis, &producer, (height, height, parent), Vec::new()).expect("in turn");
            parent = block.id();
            block
        };
        let blocks: Vec<Block> = (1..=height).map(next).collect();
        lab.seed("producer", &blocks);
        (lab, blocks)
    }

    /// Makes the data directory of a node that has this chain.
    pub(crate) fn seed(&self, name: &str, blocks: &[Block]) {
        std::fs::create_dir(self.path(name)).expect("a directory");
        let file = DataDir::store_file(&self.path(name));
        let store = Store::open(&file, self.genesis.network_id()).expect("a store");
        let mut batch = Vec::new();
        for block in blocks {
            let (id, bytes) = (block.id(), block.bytes().clone());
            let (height, slot) = (block.header().height, block.header().slot);
            batch.push(StoreOp::PutBlock { id, height, slot, bytes });
            batch.push(StoreOp::SetCanonical { height, id });
            batch.push(StoreOp::SetHead { height, id, slot });
        }
        store.apply([&batch[..]]).expect("stored");
    }

    /// Runs `starling` with these arguments in the lab's directory.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        Done::of(&mut command)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command that runs node `name`, on the loopback address 127.77.0.`host`.
    pub(crate) fn command(&self, name: &str, host: u8, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
        command.args(["run", "--exit-on-stdin-close", "--datadir", name]);
        for (flag, value) in [
            ("--genesis", "genesis.toml".to_owned()),
            ("--listen", format!("/ip4/127.77.0.{host}/tcp/0")),
            ("--rpc", format!("127.77.0.{host}:0")),
        ] {
            if !flags.contains(&flag) {
                command.args([flag, &value]);
            }
        }
        command.args(flags).current_dir(self.dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.stderr(std::fs::File::options().create(true).append(true).open(self.log(name)).expect("a log file"));
        command
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }

    pub(crate) fn start(&self, name: &str, host: u8, flags: &[&str]) -> Running {
        self.start_command(self.command(name, host, flags), name)
    }

    /// Starts a command that becomes node `name`.
    pub(crate) fn start_command(&self, mut command: Command, name: &str) -> Running {
        command.current_dir(self.dir.path()).stdin(Stdio::piped()).stdout(Stdio::null());
        command.stderr(std::fs::File::options().create(true).append(true).open(self.log(name)).expect("a log file"));
        let child = command.spawn().expect("the program starts");
        let mut running = Running { child, addresses: None };
        let path = self.path(name).join("addresses.json");
        let log = self.log(name);
        running.addresses = Some(wait_for("the node's addresses", || {
            let ended = running.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the node ended: {}", std::fs::read_to_string(&log).unwrap_or_default());
            let addresses: Addresses = serde_json::from_str(&std::fs::read_to_string(&path).ok()?).ok()?;
            (addresses.pid == running.child.id()).then_some(addresses)
        }));
        running
    }

    pub(crate) fn start_producer(&self, flags: &[&str]) -> Running {
        self.start("producer", 1, &[&["--producer-key", "producer.pem"], flags].concat())
    }

    /// Runs a node that must refuse to start; its exit code and what it says.
    pub(crate) fn refuse(&self, name: &str, host: u8, flags: &[&str]) -> (Option<i32>, String) {
        let mut child = self.command(name, host, flags).stderr(Stdio::piped()).spawn().expect("the program starts");
        // Held open, or the node would end for that.
        let _stdin = child.stdin.take();
        let output = child.wait_with_output().expect("it ends");
        let error = String::from_utf8(output.stderr).expect("text");
        assert!(!error.contains("panicked"), "{error}");
        (output.status.code(), error)
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Done {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the program runs");
        let error = String::from_utf8(output.stderr).expect("text");
        assert!(!error.contains("panicked"), "{error}");
        Self { code: output.status.code(), out: String::from_utf8_lossy(&output.stdout).into(), error }
    }

    /// What it printed, which must have gone well.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.error);
        self.out
    }

    /// Asserts that it was refused with this code, in words that have all of these parts.
    pub(crate) fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.error.contains(part), "{part:?} is missing: {}", self.error);
        }
    }
}

/// A running node, killed when the test is done with it.
pub(crate) struct Running {
    pub(crate) child: Child,
    addresses: Option<Addresses>,
}

impl Running {
    pub(crate) fn addresses(&self) -> &Addresses {
        self.addresses.as_ref().expect("it is running")
    }

    /// The admin socket, as `--rpc` takes it.
    pub(crate) fn admin_address(&self) -> String {
        format!("unix:{}", self.addresses().admin_socket.as_deref().expect("an admin socket").display())
    }

    /// A client that may call `admin_*`.
    pub(crate) fn admin(&self) -> RpcClient {
        RpcClient::new(&self.admin_address()).expect("an address")
    }

    pub(crate) fn rpc(&self) -> RpcClient {
        RpcClient::new(&self.addresses().rpc.to_string()).expect("an address")
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Waits for the end, and says how long that took.
    pub(crate) fn wait(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        let status = wait_for("the node's end", || self.child.try_wait().expect("a child"));
        (status, begun.elapsed())
    }

    /// Has it stop cleanly. How long it may take for that it knows itself: it ends with another code when that is over.
    pub(crate) fn stop(mut self) {
        self.signal(rustix::process::Signal::INT);
        let (status, took) = self.wait();
        assert_eq!(status.code(), Some(0), "after {took:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended already, which is fine.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
