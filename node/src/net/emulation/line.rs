//! Sockets behind an emulated link: the shared uplink and one delay line for each connection.
//!
//! Nothing here runs as a task. Both `Uplink` and `Line` are wakers: the timer thread (or the
//! IO driver, when a socket becomes writable again) wakes them, and they do their little work at
//! once, on that thread. That saves a task switch for each chunk, which matters when many
//! emulated nodes share a processor.
//!
//! Lock order: a `Line` and the `Uplink` are never locked together, and wakers are woken after
//! unlocking.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;

use super::schedule::{DueTimes, Grant, SplitMix64, UplinkQueue};
use super::timer::{Sleep, Timer};
use super::{Conditions, IN_FLIGHT_BYTES_MAX, LinkEmulation, RELOAD_INTERVAL};
use crate::net::transport::SocketCounters;

/// How long after its last due time a dropped connection may go on trying to deliver what it had
/// accepted. Five seconds; a guess, long enough for any reader that is alive.
const LINGER: Duration = Duration::from_secs(5);

/// One node's emulated links: the configuration, the shared uplink and the clock.
pub struct Emulation {
    uplink: Arc<Uplink>,
    paths: Mutex<Paths>,
    /// Counts the changes of `paths`.
    changes: watch::Sender<u64>,
    jitter_us_max: u32,
    seed: u64,
    next_line: AtomicU64,
}

/// How the paths are at present, and the connections that follow them.
struct Paths {
    by_address: BTreeMap<IpAddr, Conditions>,
    default_delay_us: u32,
    dead_after: Option<Duration>,
    lines: Vec<(IpAddr, Weak<Line>)>,
}

impl Paths {
    fn to(&self, remote: IpAddr) -> Conditions {
        let usual = Conditions { delay_us: self.default_delay_us, ..Conditions::default() };
        self.by_address.get(&remote.to_canonical()).copied().unwrap_or(usual)
    }

    fn follow(&mut self, config: &LinkEmulation) {
        self.by_address = config.paths();
        self.default_delay_us = config.default_delay_us;
        self.dead_after = (config.dead_after_us > 0).then(|| Duration::from_micros(config.dead_after_us));
        self.lines.retain(|(_, line)| line.strong_count() > 0);
    }
}

impl Emulation {
    /// Starts emulating; the first call in a process starts the timer thread. The file that the configuration was read from is
    /// followed as long as the emulation exists, by a task of the present async runtime.
    ///
    /// # Panics
    /// When there is a file, outside of an async runtime.
    #[must_use]
    pub fn new(config: &LinkEmulation) -> Arc<Self> {
        let mut paths = Paths { by_address: BTreeMap::new(), default_delay_us: 0, dead_after: None, lines: Vec::new() };
        paths.follow(config);
        let emulation = Arc::new(Self {
            uplink: Arc::new(Uplink {
                clock: Clock { epoch: Instant::now(), timer: Timer::global() },
                state: Mutex::new(UplinkState { queue: UplinkQueue::new(config.uplink_bits_per_s), armed: false }),
            }),
            paths: Mutex::new(paths),
            changes: watch::Sender::new(0),
            jitter_us_max: config.jitter_us_max,
            seed: config.seed,
            next_line: AtomicU64::new(0),
        });
        if let Some(file) = &config.file {
            tokio::spawn(follow(Arc::downgrade(&emulation), file.clone()));
        }
        emulation
    }

    /// Has the paths be as this says, also for connections that exist.
    pub fn change(&self, config: &LinkEmulation) {
        let mut paths = self.lock();
        paths.follow(config);
        let dead_after = paths.dead_after;
        let lines: Vec<_> =
            paths.lines.iter().filter_map(|(ip, line)| Some((paths.to(*ip), line.upgrade()?))).collect();
        drop(paths);
        for (conditions, line) in lines {
            line.change(conditions, dead_after);
        }
        self.changes.send_modify(|number| *number += 1);
    }

    /// The one-way delay towards an address, in microseconds.
    #[must_use]
    pub fn delay_us(&self, remote: IpAddr) -> u32 {
        self.lock().to(remote).delay_us
    }

    /// Waits until the path to an address is not cut.
    pub async fn reachable(&self, remote: IpAddr) {
        let mut changes = self.changes.subscribe();
        while self.lock().to(remote).cut && changes.changed().await.is_ok() {}
    }

    /// Nothing panics while the lock is held, so what a panic elsewhere has poisoned is still whole.
    fn lock(&self) -> MutexGuard<'_, Paths> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits one round trip to `remote`, taking the way back to be as long as the way there.
    pub fn round_trip(&self, remote: IpAddr) -> Sleep {
        let round_trip = Duration::from_micros(2 * u64::from(self.delay_us(remote)));
        self.uplink.clock.timer.sleep_until(Instant::now() + round_trip)
    }

    /// Puts the write half of a connection behind the emulated link.
    pub(crate) fn attach(&self, remote: IpAddr, socket: OwnedWriteHalf, counters: Arc<SocketCounters>) -> Writer {
        let id = self.next_line.fetch_add(1, Ordering::Relaxed);
        let mut seeds = SplitMix64(self.seed ^ SplitMix64(id).draw());
        let mut paths = self.lock();
        let conditions = paths.to(remote);
        let due_times = DueTimes::new(conditions.delay_us, self.jitter_us_max, seeds.draw());
        let line = Arc::new(Line {
            clock: self.uplink.clock,
            counters,
            state: Mutex::new(LineState {
                socket: Some(socket),
                due_times,
                chunks: VecDeque::new(),
                in_flight_bytes: 0,
                armed_for_ns: None,
                cut: false,
                dead_at_ns: None,
                closing: false,
                abandon_at_ns: None,
                failure: None,
                writer: None,
                closer: None,
            }),
        });
        line.change(conditions, paths.dead_after);
        paths.lines.retain(|(_, line)| line.strong_count() > 0);
        paths.lines.push((remote, Arc::downgrade(&line)));
        Writer { id, uplink: Arc::clone(&self.uplink), line }
    }
}

/// Looks at the file again and again, and has the emulation follow it.
async fn follow(emulation: Weak<Emulation>, file: PathBuf) {
    let modified = || std::fs::metadata(&file).and_then(|found| found.modified()).ok();
    let mut known = modified();
    while emulation.strong_count() > 0 {
        tokio::time::sleep(RELOAD_INTERVAL).await;
        let now = modified();
        if now == known {
            continue;
        }
        known = now;
        match (LinkEmulation::load(&file), emulation.upgrade()) {
            (Ok(config), Some(emulation)) => emulation.change(&config),
            (Err(error), _) => tracing::warn!(%error, "links stay as they were"),
            (Ok(_), None) => {}
        }
    }
}

/// Nanoseconds since the emulation began, and the timer to wait with.
#[derive(Clone, Copy)]
struct Clock {
    epoch: Instant,
    timer: &'static Timer,
}

impl Clock {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wake_at_ns(&self, at_ns: u64, waker: Waker) {
        self.timer.wake_at(self.epoch + Duration::from_nanos(at_ns), waker);
    }
}

/// The uplink that all connections of a node share: [`UplinkQueue`] with a clock and wakers.
struct Uplink {
    clock: Clock,
    state: Mutex<UplinkState>,
}

struct UplinkState {
    queue: UplinkQueue<Waker>,
    /// Whether a timer is pending.
    armed: bool,
}

impl Uplink {
    fn poll_admit(self: &Arc<Self>, line: u64, wanted_bytes: usize, context: &Context<'_>) -> Poll<Grant> {
        let mut state = self.lock();
        match state.queue.ask(self.clock.now_ns(), line, wanted_bytes, || context.waker().clone()) {
            Some(grant) => Poll::Ready(grant),
            None => {
                self.arm(&mut state);
                Poll::Pending
            }
        }
    }

    fn serve(self: &Arc<Self>) {
        let mut state = self.lock();
        state.armed = false;
        let served = state.queue.serve(self.clock.now_ns());
        self.arm(&mut state);
        drop(state);
        served.into_iter().for_each(Waker::wake);
    }

    fn forget(&self, line: u64) {
        self.lock().queue.forget(line);
    }

    fn arm(self: &Arc<Self>, state: &mut UplinkState) {
        if let Some(at_ns) = state.queue.serve_at_ns()
            && !state.armed
        {
            state.armed = true;
            self.clock.wake_at_ns(at_ns, Waker::from(Arc::clone(self)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, UplinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Uplink {
    fn wake(self: Arc<Self>) {
        self.serve();
    }
}

/// The delay line of one connection: accepted bytes wait for their due time, then go to the
/// socket.
struct Line {
    clock: Clock,
    counters: Arc<SocketCounters>,
    state: Mutex<LineState>,
}

struct LineState {
    /// `None` once the write side has been shut down.
    socket: Option<OwnedWriteHalf>,
    due_times: DueTimes,
    chunks: VecDeque<Chunk>,
    in_flight_bytes: usize,
    /// The time for which a timer is pending, so that each chunk costs at most one.
    armed_for_ns: Option<u64>,
    /// Whether nothing is accepted at present.
    cut: bool,
    /// When the connection fails, unless the path is mended before.
    dead_at_ns: Option<u64>,
    closing: bool,
    /// Set when the owner is gone: past this time, undelivered bytes are given up.
    abandon_at_ns: Option<u64>,
    failure: Option<io::ErrorKind>,
    writer: Option<Waker>,
    closer: Option<Waker>,
}

struct Chunk {
    due_ns: u64,
    bytes: Vec<u8>,
    written: usize,
}

impl Line {
    /// The path has become otherwise.
    fn change(self: &Arc<Self>, conditions: Conditions, dead_after: Option<Duration>) {
        let mut state = self.lock();
        state.due_times.change(conditions.delay_us, conditions.loss_ppm);
        if conditions.cut == state.cut {
            return;
        }
        state.cut = conditions.cut;
        state.dead_at_ns = dead_after.filter(|_| conditions.cut).map(|after| {
            let dead_at_ns = self.clock.now_ns().saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
            self.clock.wake_at_ns(dead_at_ns, Waker::from(Arc::clone(self)));
            dead_at_ns
        });
        drop(state);
        self.pump();
    }

    /// Writes what is due, arms the timer for what is not, and wakes whoever waited.
    fn pump(self: &Arc<Self>) {
        let mut state = self.lock();
        if let Err(error) = self.write_due(&mut state) {
            state.fail(error.kind());
        }
        if state.closing && state.chunks.is_empty() {
            // Dropping the write half shuts the write side of the socket down.
            state.socket = None;
        }
        let mut woken = [None, None];
        if state.failure.is_some() || !state.cut && state.in_flight_bytes < IN_FLIGHT_BYTES_MAX {
            woken[0] = state.writer.take();
        }
        if state.socket.is_none() {
            woken[1] = state.closer.take();
        }
        drop(state);
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    fn write_due(self: &Arc<Self>, state: &mut LineState) -> io::Result<()> {
        let now_ns = self.clock.now_ns();
        if state.armed_for_ns.is_some_and(|at_ns| at_ns <= now_ns) {
            state.armed_for_ns = None;
        }
        if [state.abandon_at_ns, state.dead_at_ns].into_iter().flatten().any(|at_ns| at_ns <= now_ns) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        while let (Some(chunk), Some(socket)) = (state.chunks.front_mut(), &state.socket) {
            if chunk.due_ns > now_ns {
                let due_ns = chunk.due_ns;
                self.arm(state, due_ns);
                break;
            }
            match socket.try_write(&chunk.bytes[chunk.written..]) {
                Ok(written) => {
                    self.counters.add_written(written);
                    chunk.written += written;
                    state.in_flight_bytes -= written;
                    if chunk.written == chunk.bytes.len() {
                        state.chunks.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let waker = Waker::from(Arc::clone(self));
                    match socket.as_ref().poll_write_ready(&mut Context::from_waker(&waker)) {
                        Poll::Ready(ready) => ready?,
                        Poll::Pending => break,
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn arm(self: &Arc<Self>, state: &mut LineState, at_ns: u64) {
        if state.armed_for_ns.is_none_or(|armed_ns| at_ns < armed_ns) {
            state.armed_for_ns = Some(at_ns);
            self.clock.wake_at_ns(at_ns, Waker::from(Arc::clone(self)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Line {
    fn wake(self: Arc<Self>) {
        self.pump();
    }
}

impl LineState {
    fn fail(&mut self, kind: io::ErrorKind) {
        self.failure.get_or_insert(kind);
        self.chunks.clear();
        self.in_flight_bytes = 0;
        self.socket = None;
    }
}

/// The writing end of an emulated connection.
pub(crate) struct Writer {
    id: u64,
    uplink: Arc<Uplink>,
    line: Arc<Line>,
}

impl Writer {
    /// Accepts a prefix of `bytes` as soon as the in-flight cap and the uplink admit one.
    pub(crate) fn poll_write(&self, context: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room_bytes = {
            let mut state = self.line.lock();
            if let Some(kind) = state.failure {
                return Poll::Ready(Err(kind.into()));
            }
            if state.closing {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let room_bytes = IN_FLIGHT_BYTES_MAX.saturating_sub(state.in_flight_bytes);
            if room_bytes == 0 || state.cut {
                state.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            room_bytes
        };
        let wanted_bytes = bytes.len().min(room_bytes);
        let grant = std::task::ready!(self.uplink.poll_admit(self.id, wanted_bytes, context));
        let accepted = &bytes[..wanted_bytes.min(grant.bytes)];

        let mut state = self.line.lock();
        let due_ns = state.due_times.stamp(grant.departure_ns, accepted.len());
        state.in_flight_bytes += accepted.len();
        state.chunks.push_back(Chunk { due_ns, bytes: accepted.to_vec(), written: 0 });
        if state.chunks.len() == 1 {
            self.line.arm(&mut state, due_ns);
        }
        Poll::Ready(Ok(accepted.len()))
    }

    /// Delivers what was accepted when it is due, then shuts the write side down.
    pub(crate) fn poll_close(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.line.lock();
        if let Some(kind) = state.failure {
            return Poll::Ready(Err(kind.into()));
        }
        state.closing = true;
        if state.chunks.is_empty() {
            state.socket = None;
        }
        if state.socket.is_none() {
            return Poll::Ready(Ok(()));
        }
        state.closer = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Writer {
    /// What was accepted before is still delivered: the timer (or the IO driver) keeps the line
    /// alive until then, but not for longer than [`LINGER`] after the last due time.
    fn drop(&mut self) {
        self.uplink.forget(self.id);
        let mut state = self.line.lock();
        state.closing = true;
        match state.chunks.back().map(|chunk| chunk.due_ns) {
            None => state.socket = None,
            Some(last_due_ns) => {
                let linger_ns = u64::try_from(LINGER.as_nanos()).unwrap_or(u64::MAX);
                let abandon_at_ns = last_due_ns.saturating_add(linger_ns);
                state.abandon_at_ns = Some(abandon_at_ns);
                self.line.clock.wake_at_ns(abandon_at_ns, Waker::from(Arc::clone(&self.line)));
            }
        }
    }
}
