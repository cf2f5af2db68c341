//! A precise timer: one thread, one heap of wake-ups.
//!
//! The timers of the async runtime have a granularity of one millisecond and round up, which is as
//! much as a short link delays. This one sleeps on a condition variable with a nanosecond timeout
//! and (on Linux) a timer slack of one microsecond instead of the default fifty.
//!
//! Rules: a waker is woken at or after its time, never before, and exactly once for each
//! registration. Registrations are not cancelled; a wake-up that is no longer wanted must be
//! harmless to its receiver. Registering costs O(log n). Wakers run on the timer thread, so they
//! have to be short.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::pin::Pin;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// The timer; one for the process, started at first use.
pub struct Timer {
    heap: Mutex<BinaryHeap<Entry>>,
    earlier: Condvar,
}

struct Entry {
    due: Instant,
    waker: Waker,
}

impl Timer {
    /// The process's timer. The first call starts its thread.
    ///
    /// # Panics
    /// When the operating system refuses to start a thread.
    pub fn global() -> &'static Timer {
        static TIMER: OnceLock<Timer> = OnceLock::new();
        static THREAD: OnceLock<()> = OnceLock::new();
        let timer = TIMER.get_or_init(|| Timer { heap: Mutex::new(BinaryHeap::new()), earlier: Condvar::new() });
        THREAD.get_or_init(|| {
            std::thread::Builder::new()
                .name("link-emulation".to_owned())
                .spawn(|| timer.run())
                .expect("the operating system can start one more thread");
        });
        timer
    }

    /// Wakes `waker` at `due`, or at once when that has passed.
    pub fn wake_at(&self, due: Instant, waker: Waker) {
        let mut heap = self.lock();
        let is_earliest = heap.peek().is_none_or(|first| due < first.due);
        heap.push(Entry { due, waker });
        drop(heap);
        if is_earliest {
            self.earlier.notify_one();
        }
    }

    /// A future that completes at `due`.
    pub fn sleep_until(&'static self, due: Instant) -> Sleep {
        Sleep { timer: self, due }
    }

    fn run(&self) {
        use_small_timer_slack();
        let mut due_now = Vec::new();
        let mut heap = self.lock();
        loop {
            let now = Instant::now();
            while heap.peek().is_some_and(|first| first.due <= now) {
                due_now.extend(heap.pop().map(|entry| entry.waker));
            }
            if !due_now.is_empty() {
                drop(heap);
                due_now.drain(..).for_each(Waker::wake);
                heap = self.lock();
                continue;
            }
            heap = match heap.peek().map(|first| first.due) {
                None => self.earlier.wait(heap).unwrap_or_else(PoisonError::into_inner),
                Some(due) => self.earlier.wait_timeout(heap, due - now).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Nothing panics while the lock is held, so a poisoned heap is still whole.
    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Entry>> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a point in time with the precision of [`Timer`].
pub struct Sleep {
    timer: &'static Timer,
    due: Instant,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.due {
            return Poll::Ready(());
        }
        self.timer.wake_at(self.due, context.waker().clone());
        Poll::Pending
    }
}

#[cfg(target_os = "linux")]
fn use_small_timer_slack() {
    // Failing leaves the default slack of 50 microseconds, which only costs precision.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1_000));
}

#[cfg(not(target_os = "linux"))]
fn use_small_timer_slack() {}

impl Ord for Entry {
    /// The heap is a maximum heap; reversing puts the earliest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.due.cmp(&self.due)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Writes down when it is woken.
    struct Recorder {
        due: Instant,
        woken: std::sync::mpsc::SyncSender<(Instant, Instant)>,
    }

    impl std::task::Wake for Recorder {
        fn wake(self: std::sync::Arc<Self>) {
            self.woken.send((self.due, Instant::now())).expect("the test is waiting");
        }
    }

    #[test]
    fn wakers_registered_in_any_order_are_woken_in_order_and_never_early() {
        let (woken, record) = std::sync::mpsc::sync_channel(8);
        let start = Instant::now();
        for delay_ms in [30, 5, 20, 10, 5] {
            let due = start + Duration::from_millis(delay_ms);
            Timer::global().wake_at(due, Waker::from(std::sync::Arc::new(Recorder { due, woken: woken.clone() })));
        }
        let next = || record.recv_timeout(Duration::from_secs(10)).expect("woken in time");
        let order: Vec<(Instant, Instant)> = std::iter::repeat_with(next).take(5).collect();
        assert!(order.iter().all(|(due, at)| at >= due), "{order:?}");
        assert!(order.is_sorted_by_key(|(due, _)| *due), "{order:?}");
    }

    #[tokio::test]
    async fn a_sleep_ends_no_earlier_than_asked_for() {
        let due = Instant::now() + Duration::from_millis(3);
        Timer::global().sleep_until(due).await;
        assert!(Instant::now() >= due);
        Timer::global().sleep_until(due).await;
    }
}
