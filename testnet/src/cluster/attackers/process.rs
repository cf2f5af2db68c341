//! The attacking process: it hosts adversaries over the node's own network code.
//!
//! Each adversary has a [`Port`] of its own: an identity, a listening loopback address, transports and streams as a node has them. What happens there
//! becomes its inputs, and its outputs are carried out, as the node's driver does for a machine. Of what a driver does besides, it has nothing:
//! no disk, no workers, no chain. An output that asks for those is answered as one that failed, so that no ticket stays open.
//!
//! Adversaries may share memory that belongs to one thread ([`crate::attack::Conspiracy`]), so all of them run on this one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use starling_crypto::SecretKey;
use starling_node::clock;
use starling_node::net::confined;
use starling_node::net::network::{NetEvent, peer_id_text};
use starling_node::net::port::Port;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{PeerHandle, PeerId};
use starling_protocol::node::{Input, Output};
use starling_protocol::peers::Address;
use starling_protocol::time::Time;
use starling_protocol::verify::Outcome;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::{Entry, Orders};
use crate::attack::{Adversary, Recruit, Setting, recruits};
use crate::wan::Stream;

/// The hidden subcommand under which this program's executable attacks. Its only argument is the path of [`Orders`].
pub(in crate::cluster) const SUBCOMMAND: &str = "attack-process";

/// How often traffic is written down.
const TRAFFIC_INTERVAL: Duration = Duration::from_secs(1);

/// Attacks in place of the tool, if that is what this process was started for.
pub(crate) fn attack() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    arguments.get(1).filter(|argument| *argument == SUBCOMMAND)?;
    let Some(path) = arguments.get(2) else {
        note!("error: {SUBCOMMAND} is for the tool itself; use starling-testnet run --attack KIND:COUNT");
        return Some(ExitCode::from(2));
    };
    Some(match run(Path::new(path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note!("error: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Attacks until standard input closes.
fn run(path: &Path) -> Result<(), String> {
    let read =
        |path: &Path| fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    let orders: Orders = serde_json::from_str(&read(path)?)
        .map_err(|error| format!("{} holds no orders for attackers: {error}", path.display()))?;
    let genesis = Genesis::from_toml(&read(&orders.genesis)?).map_err(|error| error.to_string())?;
    let nodes = orders.nodes.iter().map(|text| confined::peer(text).map_err(|error| error.to_string()));
    let nodes: Vec<(PeerId, Address)> = nodes.collect::<Result<_, _>>()?;
    let diary = File::options().create(true).append(true).open(&orders.diary);
    let diary = Diary(diary.map_err(|error| format!("cannot write {}: {error}", orders.diary.display()))?.into());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("an async runtime cannot be made: {error}"))?;
    let closed = watch_stdin().map_err(|error| format!("a thread cannot be started: {error}"))?;
    runtime.block_on(LocalSet::new().run_until(async {
        let hosts = hosts(&orders, &genesis, &nodes, &diary).await?;
        for host in hosts {
            tokio::task::spawn_local(host.run());
        }
        let _closed = closed.await;
        Ok(())
    }))
}

/// Makes the adversaries and opens their networks.
async fn hosts(
    orders: &Orders,
    genesis: &Genesis,
    nodes: &[(PeerId, Address)],
    diary: &Diary,
) -> Result<Vec<Host>, String> {
    let ids: Vec<PeerId> = nodes.iter().map(|(id, _)| *id).collect();
    let publishers: Vec<u32> = (0..).take(nodes.len()).collect();
    let zero = Time::from_micros(orders.zero_us);
    let unix_us_at_zero = orders.zero_us.saturating_add_signed(clock::wall_offset_us());
    let first_slot = genesis.slot_at(unix_us_at_zero).unwrap_or(0);
    let setting = Setting {
        seed: orders.seed,
        genesis,
        honest: &ids,
        publishers: &publishers,
        absent: &[],
        first_slot,
        first: 0,
    };
    let recruits = recruits(std::slice::from_ref(&orders.attackers), &setting).map_err(|error| error.to_string())?;
    if recruits.len() != orders.homes.len() {
        return Err(format!("{} attackers have {} addresses; give each one", recruits.len(), orders.homes.len()));
    }
    let directory: Rc<BTreeMap<PeerId, (usize, Address)>> =
        Rc::new(nodes.iter().enumerate().map(|(node, (id, address))| (*id, (node, address.clone()))).collect());
    let mut keys = Stream::new(orders.seed, "attacker keys");
    let mut hosts = Vec::new();
    for (attacker, (Recruit { adversary, starts, .. }, home)) in recruits.into_iter().zip(&orders.homes).enumerate() {
        let mut seed = [0; 32];
        keys.fill(&mut seed);
        let port = confined::port(genesis, IpAddr::V4(*home), &SecretKey::from_seed(&seed)).await;
        let port = port.map_err(|error| error.to_string())?;
        diary.write(&Entry::Up { attacker, peer_id: peer_id_text(&port.network.own_id()) });
        let (directory, diary) = (Rc::clone(&directory), diary.clone());
        let peers = BTreeMap::new();
        hosts.push(Host { attacker, adversary, port, zero, starts, unix_us_at_zero, directory, peers, diary });
    }
    Ok(hosts)
}

/// One adversary and what serves it.
struct Host {
    attacker: usize,
    adversary: Box<dyn Adversary>,
    port: Port,
    /// When its time begins.
    zero: Time,
    /// When it does, in its own time.
    starts: Time,
    unix_us_at_zero: u64,
    /// Number and address of each honest node.
    directory: Rc<BTreeMap<PeerId, (usize, Address)>>,
    /// Honest nodes that are connected.
    peers: BTreeMap<PeerHandle, usize>,
    diary: Diary,
}

impl Host {
    async fn run(mut self) {
        tokio::time::sleep_until(clock::tokio_instant(self.absolute(self.starts))).await;
        self.feed(Input::WallClock { unix_us_at_zero: self.unix_us_at_zero });
        let mut traffic = tokio::time::interval(TRAFFIC_INTERVAL);
        traffic.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wake = self.adversary.next_wake().map_or(Time::MAX, |at| self.absolute(at));
            tokio::select! {
                event = self.port.network.next_event() => self.event(&event),
                () = tokio::time::sleep_until(clock::tokio_instant(wake)) => self.wake(),
                _ = traffic.tick() => self.traffic(),
            }
        }
    }

    fn event(&mut self, event: &NetEvent) {
        match event {
            NetEvent::Connected { peer, id, .. } => {
                if let Some((node, _)) = self.directory.get(id) {
                    self.peers.insert(*peer, *node);
                    let (attacker, node) = (self.attacker, *node);
                    self.diary.write(&Entry::Connected { attacker, node, t_us: clock::now().as_micros() });
                }
            }
            NetEvent::Disconnected { peer, .. } => {
                if let Some(node) = self.peers.remove(peer) {
                    let attacker = self.attacker;
                    self.diary.write(&Entry::Disconnected { attacker, node, t_us: clock::now().as_micros() });
                    self.traffic();
                }
            }
            _ => {}
        }
        match self.port.input(event) {
            Some(Input::Rpc { peer, rpc, received }) => {
                let received = Time::ZERO + received.since(self.zero);
                self.feed(Input::Rpc { peer, rpc, received });
            }
            Some(input) => self.feed(input),
            None => {}
        }
    }

    fn traffic(&self) {
        let counters = self.port.network.mesh_counters();
        let (sent_bytes, received_bytes) = (counters.written_bytes(), counters.read_bytes());
        self.diary.write(&Entry::Traffic { attacker: self.attacker, sent_bytes, received_bytes });
    }

    fn feed(&mut self, input: Input<'_>) {
        let mut outputs = Vec::new();
        self.adversary.handle(self.now(), input, &mut outputs);
        self.carry_out(outputs);
    }

    fn wake(&mut self) {
        let mut outputs = Vec::new();
        self.adversary.on_wake(self.now(), &mut outputs);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            let output = match output {
                Output::Dial { id, purpose, addresses } if addresses.is_empty() => {
                    let addresses = self.directory.get(&id).map(|(_, address)| address.clone()).into_iter().collect();
                    Output::Dial { id, addresses, purpose }
                }
                output => output,
            };
            match self.port.carry_out(output) {
                Some(Output::Verify { ticket, .. }) => self.feed(Input::Verified { ticket, outcome: Outcome::Shed }),
                Some(Output::Persist { ticket, .. }) => self.feed(Input::Persisted { ticket, durable: false }),
                Some(Output::Load { ticket, .. }) => self.feed(Input::Loaded { ticket, blocks: None }),
                _ => {}
            }
        }
    }

    /// The present in its own time.
    fn now(&self) -> Time {
        Time::ZERO + clock::now().since(self.zero)
    }

    /// A moment of its time on the host's clock.
    fn absolute(&self, at: Time) -> Time {
        self.zero + at.since(Time::ZERO)
    }
}

/// Where entries are written, each at once.
#[derive(Debug, Clone)]
struct Diary(Rc<File>);

impl Diary {
    fn write(&self, entry: &Entry) {
        let line = serde_json::to_string(entry).expect("numbers and text are always JSON") + "\n";
        if let Err(error) = (&*self.0).write_all(line.as_bytes()) {
            note!("error: the diary cannot be written: {error}");
            // Nobody could tell any more what the attackers do.
            std::process::exit(1);
        }
    }
}

/// Fires when standard input ends. A thread, because such a read cannot be cancelled.
fn watch_stdin() -> std::io::Result<oneshot::Receiver<()>> {
    let (closed, receiver) = oneshot::channel();
    let watch = move || {
        let mut buffer = [0; 64];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut buffer).is_ok_and(|read| read > 0) {}
        let _nobody_waits = closed.send(());
    };
    std::thread::Builder::new().name("stdin".into()).spawn(watch)?;
    Ok(receiver)
}
