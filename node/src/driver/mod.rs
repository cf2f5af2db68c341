//! The event loop around the node machine: it translates and does not decide.
//!
//! Everything that happens (network, commands, verified signatures, the disk, time) becomes an [`Input`] of
//! [`Node`]; every [`Output`] is carried out at once. The loop never waits for anything but the next event:
//! signatures are verified by [`Workers`], the disk belongs to [`StorageThread`], and connections write from queues of their
//! own. An output that cannot be carried out (workers or disk overloaded) is answered as such, never dropped silently.
//!
//! Two kinds of tickets meet here: those that the machine gives out and gets back, and those that the driver gives out for
//! submissions, and its [`Port`] for peers' requests. They never mix, because each kind only ever comes back in its own outputs.

mod commands;
mod early;
mod events;
mod exchange;
mod feeds;
mod keeping;
mod lag;
mod observe;
mod readiness;
mod report;
mod stored;
mod wall_clock;

use crate::api::{Command, Refusal, Reply, Submitted};
use crate::clock;
use crate::metrics::Metrics;
use crate::net::network::Network;
use crate::net::port::Port;
use crate::notify::Notifier;
use crate::rate_limited;
use crate::storage::{Answer as StorageAnswer, Keep, StorageThread};
use crate::trace::Trace;
use crate::workers::Workers;
use bytes::Bytes;
use feeds::Subscriptions;
pub use keeping::Keeping;
use lag::Lag;
use observe::Observer;
use starling_protocol::id::{PeerHandle, PeerId};
use starling_protocol::node::{Input, Node, Output, Ticket};
use starling_protocol::peers::eviction::EVICTION_INTERVAL;
use starling_protocol::peers::{Address, Source, Standing};
use starling_protocol::time::{Duration, Time};
use starling_protocol::verify::Outcome;
use std::collections::{BTreeMap, BTreeSet};
use stored::StorageLog;
use tokio::sync::{mpsc, oneshot};
use wall_clock::WallClock;

pub use stored::Restored;

/// How often counters are written to the trace and gauges refreshed.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How often the wall clock is compared with the monotonic one; a step of it is noticed within this time.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);

/// Loads from disk that may be under way; the chain asks for fewer.
const LOADS_MAX: usize = 256;

/// What a driver is made of.
pub struct DriverParts {
    /// The machine.
    pub node: Node,
    /// The network, listening.
    pub network: Network,
    /// The verifying threads and their answers.
    pub workers: (Workers, mpsc::Receiver<(Ticket, Outcome)>),
    /// The disk and its answers.
    pub storage: (StorageThread, mpsc::Receiver<StorageAnswer>),
    /// What an earlier life left on the disk.
    pub restored: Restored,
    /// What is asked of the node.
    pub commands: mpsc::Receiver<Command>,
    /// Where measurements go.
    pub trace: Trace,
    /// The node's metrics.
    pub metrics: Metrics,
    /// Where files about peers are kept.
    pub keeping: Keeping,
    /// Peers to begin with.
    pub known_peers: Vec<KnownPeer>,
    /// Whether to look for others.
    pub discovery: bool,
    /// How many peers are aimed at and allowed, for reports.
    pub peers_target: usize,
    /// See `peers_target`.
    pub peers_max: usize,
    /// How much of the chain the disk keeps, for reports.
    pub keep: Keep,
}

/// A peer that the operator named.
#[derive(Clone, Debug)]
pub struct KnownPeer {
    /// Who.
    pub id: PeerId,
    /// Where, as a binary multiaddr.
    pub address: Address,
    /// How it is to be treated.
    pub standing: Standing,
    /// As it was written, for messages.
    pub text: String,
}

/// The running node.
pub struct Driver {
    node: Node,
    port: Port,
    workers: Workers,
    verified: mpsc::Receiver<(Ticket, Outcome)>,
    storage: StorageThread,
    stored: mpsc::Receiver<StorageAnswer>,
    restored: Restored,
    storage_log: StorageLog,
    loads: mpsc::Sender<(Ticket, Option<Vec<Bytes>>)>,
    loaded: mpsc::Receiver<(Ticket, Option<Vec<Bytes>>)>,
    commands: mpsc::Receiver<Command>,
    observer: Observer,
    keeping: Keeping,
    subscriptions: Subscriptions,
    known_peers: Vec<KnownPeer>,
    discovery: bool,
    /// Named peers whose failure was reported and who have not been reached since.
    unreachable: BTreeSet<PeerId>,
    /// Whether the operator named this node as a peer of its own.
    named_itself: bool,
    peers_target: usize,
    peers_max: usize,
    keep: Keep,
    started: Time,
    unix_us_at_zero: u64,
    wall_clock: WallClock,
    /// What the connected peers said of themselves, by slot.
    agents: Vec<Option<PeerAgent>>,
    tickets: u64,
    submissions: BTreeMap<Ticket, Reply<Result<Submitted, Refusal>>>,
    /// When each batch was handed to the disk that it has not answered; the disk's queue bounds them.
    commits: BTreeMap<Ticket, Time>,
    notifier: Notifier,
    lag: Lag,
    /// When the machine was last given something. What it asked for then cannot have been late before.
    handled: Time,
    /// Taken and given back by `feed`, so that outputs need no allocation of their own.
    outputs: Vec<Output>,
    stopping: bool,
    /// Who is to be told that a command asked for the end.
    stop_watched: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct PeerAgent {
    peer: PeerHandle,
    since: Time,
    agent: Option<String>,
}

impl Driver {
    /// Puts the parts together; nothing happens before [`Driver::run`].
    #[must_use]
    pub fn new(parts: DriverParts) -> Self {
        let (loads, loaded) = mpsc::channel(LOADS_MAX);
        let observer = Observer::new(parts.trace, parts.metrics, parts.node.genesis());
        Self {
            observer,
            node: parts.node,
            port: Port::new(parts.network),
            workers: parts.workers.0,
            subscriptions: Subscriptions::default(),
            verified: parts.workers.1,
            storage: parts.storage.0,
            stored: parts.storage.1,
            restored: parts.restored,
            storage_log: StorageLog::default(),
            loads,
            loaded,
            commands: parts.commands,
            keeping: parts.keeping,
            known_peers: parts.known_peers,
            discovery: parts.discovery,
            unreachable: BTreeSet::new(),
            named_itself: false,
            peers_target: parts.peers_target,
            peers_max: parts.peers_max,
            keep: parts.keep,
            started: clock::now(),
            unix_us_at_zero: 0,
            wall_clock: WallClock::default(),
            agents: Vec::new(),
            tickets: 0,
            submissions: BTreeMap::new(),
            commits: BTreeMap::new(),
            notifier: Notifier::default(),
            lag: Lag::default(),
            handled: Time::ZERO,
            outputs: Vec::new(),
            stopping: false,
            stop_watched: None,
        }
    }

    /// Has the service manager told how the node is doing, from [`Driver::run`] on.
    pub fn set_notifier(&mut self, notifier: Notifier) {
        self.notifier = notifier;
    }

    /// Has `asked` told when a command asks for the end.
    pub fn set_stop_watched(&mut self, asked: oneshot::Sender<()>) {
        self.stop_watched = Some(asked);
    }

    /// Runs until `stop` fires or is dropped, or a command asks for the end; then finishes what the disk has to do.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        self.read_wall_clock();
        let Restored { pending, pool } = core::mem::take(&mut self.restored);
        self.tell_earliest();
        self.feed(Input::Restore { pending, pool });
        for known in self.known_peers.clone() {
            let KnownPeer { id, address, standing, text } = known;
            if id == self.port.network.own_id() {
                self.named_itself = true;
                tracing::warn!(
                    "{text} is this node itself, and is left out; name another peer, and if another runs there, it has a \
                     copy of this node's key: give it one of its own"
                );
                continue;
            }
            self.feed(Input::Discovered { id, addresses: &[address], standing, source: Source::Operator });
        }
        self.notifier.ready();
        let mut report = tokio::time::interval(REPORT_INTERVAL);
        report.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut wall_clock = tokio::time::interval(CLOCK_INTERVAL);
        let mut room = tokio::time::interval(EVICTION_INTERVAL);
        room.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // One timer for the whole run, moved only when the machine's next wake has moved: few inputs move it.
        let mut sleep = Box::pin(tokio::time::sleep_until(clock::tokio_instant(Time::ZERO)));
        let mut asleep_until = Time::ZERO;
        while !self.stopping {
            let due = self.node.next_wake().map_or(Time::MAX, |(at, _)| at);
            if due <= clock::now() {
                self.wake(due);
                continue;
            }
            if asleep_until != due {
                sleep.as_mut().reset(clock::tokio_instant(due));
                asleep_until = due;
            }
            // Without an order of preference: peers that send without pause must not keep the RPC or the disk waiting.
            tokio::select! {
                _ = &mut stop => break,
                Some((ticket, outcome)) = self.verified.recv() => self.feed(Input::Verified { ticket, outcome }),
                event = self.port.network.next_event() => self.network_event(&event),
                Some(command) = self.commands.recv() => self.command(command),
                Some(answer) = self.stored.recv() => self.stored(answer),
                Some((ticket, blocks)) = self.loaded.recv() => self.loaded(ticket, blocks),
                () = &mut sleep => asleep_until = Time::ZERO,
                _ = report.tick() => self.report(),
                _ = room.tick() => self.name_evictable(),
                _ = wall_clock.tick() => {
                    self.read_wall_clock();
                    self.expire_bans();
                }
            }
        }
        self.finish();
    }

    /// Hands an input to the machine and carries out what follows.
    fn feed(&mut self, input: Input<'_>) {
        let now = clock::now();
        self.handled = now;
        let mut outputs = core::mem::take(&mut self.outputs);
        self.node.handle(now, input, &mut outputs);
        self.carry_out(now, outputs);
    }

    fn wake(&mut self, due: Time) {
        let now = clock::now();
        // The machine may ask to be woken for something past, such as the slots before it knew the time.
        self.lag.record(now.since(due.max(self.handled)));
        self.handled = now;
        let mut outputs = core::mem::take(&mut self.outputs);
        self.node.on_wake(now, &mut outputs);
        self.carry_out(now, outputs);
    }

    fn carry_out(&mut self, now: Time, mut outputs: Vec<Output>) {
        // What has an answer at once is answered after the rest has been carried out; that may lead to more outputs.
        let mut answers = Vec::new();
        for output in outputs.drain(..) {
            self.tell_output(&output);
            match output {
                Output::Verify { ticket, job } => {
                    if !self.workers.submit(ticket, job) {
                        answers.push(Answer::NotVerified(ticket));
                    }
                }
                Output::Abandon { tickets } => self.workers.withdraw(&tickets),
                Output::SavePeers => self.save_peers(),
                // Whoever is to know the named peers alone looks for no others.
                Output::Discover if !self.discovery => {}
                Output::PeerExchangeCandidates { peer, candidates } => {
                    let verified = exchange::verified(&candidates);
                    let source = self.node.peer_id(peer).map_or(Source::Lookup, Source::Peer);
                    answers.extend(verified.map(|(id, found)| Answer::Exchanged(id, found, source)));
                }
                Output::Persist { ticket, batch } => {
                    self.commits.insert(ticket, now);
                    if !self.storage.persist(ticket.0, batch) {
                        self.commits.remove(&ticket);
                        answers.push(Answer::NotPersisted(ticket));
                    }
                }
                Output::Load { ticket, what } => {
                    let answer = self.loads.clone();
                    let asked = self.storage.query(move |store| {
                        let loaded = store.load(&what).inspect_err(|error| {
                            rate_limited!(error, %error, "stored blocks could not be read");
                        });
                        let loaded = loaded.ok();
                        // The channel holds more answers than the machine asks for at a time, those for peers that have gone included, and a
                        // stopping driver wants none.
                        let _stopped = answer.try_send((ticket, loaded));
                    });
                    if !asked {
                        answers.push(Answer::NotLoaded(ticket));
                    }
                }
                Output::SubmitResult { ticket, result } => {
                    if let Some(reply) = self.submissions.remove(&ticket) {
                        let _asker_gone = reply.send(commands::submitted(result, &self.storage));
                    }
                }
                Output::Event(event) => self.observer.observe(now, event, &self.node),
                network => {
                    if let Output::Disconnect { peer, reason } = &network {
                        rate_limited!(info, peer = ?self.node.peer_id(*peer), ?reason, "disconnecting a peer");
                    }
                    let left = self.port.carry_out(network);
                    debug_assert!(left.is_none(), "nobody carries out {left:?}");
                }
            }
        }
        self.outputs = outputs;
        self.tell_changes();
        for answer in answers {
            match answer {
                Answer::NotVerified(ticket) => self.feed(Input::Verified { ticket, outcome: Outcome::Shed }),
                Answer::NotPersisted(ticket) => self.feed(Input::Persisted { ticket, durable: false }),
                Answer::NotLoaded(ticket) => self.feed(Input::Loaded { ticket, blocks: None }),
                Answer::Exchanged(id, addresses, source) => self.heard_of(id, &addresses, source),
            }
        }
    }

    /// Tells the machine of a peer that nobody has named, if it is to know of any.
    fn heard_of(&mut self, id: PeerId, addresses: &[Address], source: Source) {
        if self.discovery {
            self.feed(Input::Discovered { id, addresses, standing: Standing::Heard, source });
        }
    }

    fn read_wall_clock(&mut self) {
        let start_us = self.node.genesis().slot_start(0);
        let reading = self.wall_clock.read(clock::now(), clock::wall_offset_us(), start_us);
        if let Some(stepped_us) = reading.stepped_us {
            self.observer.metrics.event_loop.clock_steps.inc();
            rate_limited!(
                warn,
                "the wall clock went {}: it was set, or the machine slept. Slots follow it; check that the clock is \
                 synchronised (timedatectl, chronyc tracking)",
                wall_clock::in_words(stepped_us)
            );
        }
        if let Some(early) = reading.early {
            rate_limited!(
                info,
                "the network begins in {} by this host's clock, which is wrong if the network runs already; until then \
                 the node connects and waits",
                wall_clock::length_in_words(early)
            );
        }
        if let Some(unix_us_at_zero) = reading.tell {
            self.unix_us_at_zero = unix_us_at_zero;
            self.observer.unix_us_at_zero = unix_us_at_zero;
            self.observer.early.reset();
            self.feed(Input::WallClock { unix_us_at_zero });
        }
    }

    /// Ends the node: no new input is taken, what the disk has to do is done, submissions that wait for it are answered,
    /// and the last counters are written.
    fn finish(mut self) {
        self.notifier.stopping();
        self.report();
        self.save_peers();
        self.leave();
        let Self { observer, keeping, .. } = self;
        keeping.keeper.close();
        if let Err(error) = observer.trace.close() {
            tracing::error!(%error, "the trace could not be written to the end");
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }
}

/// What the driver answers at once.
enum Answer {
    NotVerified(Ticket),
    NotPersisted(Ticket),
    NotLoaded(Ticket),
    Exchanged(PeerId, Vec<Address>, Source),
}
