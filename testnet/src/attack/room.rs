//! Memory for runs that go on at the same time.
//!
//! Each run is let in when what it is estimated to need fits beside those that go on, or when nothing else goes on. So a table is run by as many
//! threads as there are, whatever its largest runs take: two of these wait for each other where there is no room for both.

use std::sync::{Condvar, Mutex, PoisonError};

/// Memory that runs share.
#[derive(Debug)]
pub(super) struct Room {
    /// All of it, in MiB; as much as runs want where the system does not say.
    all_mib: u64,
    taken_mib: Mutex<u64>,
    left: Condvar,
}

/// What a run takes, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    room: &'a Room,
    mib: u64,
}

impl Room {
    pub(super) fn new(all_mib: Option<u64>) -> Self {
        Self { all_mib: all_mib.unwrap_or(u64::MAX), taken_mib: Mutex::new(0), left: Condvar::new() }
    }

    /// Waits until there is room for so much, and takes it.
    pub(super) fn take(&self, mib: u64) -> Taken<'_> {
        let taken = self.taken_mib.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut u64| *taken > 0 && taken.saturating_add(mib) > self.all_mib;
        let mut taken = self.left.wait_while(taken, full).unwrap_or_else(PoisonError::into_inner);
        *taken = taken.saturating_add(mib);
        Taken { room: self, mib }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut taken = self.room.taken_mib.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = taken.saturating_sub(self.mib);
        self.room.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    #[test]
    fn no_more_go_on_than_fit_and_all_do_in_the_end() {
        const RUNS: usize = 8;
        let (room, all_there) = (Room::new(Some(10)), Barrier::new(RUNS));
        let [inside, most, done] = [const { AtomicU64::new(0) }; 3];
        thread::scope(|scope| {
            for _ in 0..RUNS {
                scope.spawn(|| {
                    all_there.wait();
                    let _taken = room.take(4);
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    (0..1_000).for_each(|_| thread::yield_now());
                    inside.fetch_sub(1, Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        let [most, done] = [most, done].map(AtomicU64::into_inner);
        assert_eq!((most, done), (2, RUNS as u64));
        assert_eq!(*room.taken_mib.lock().expect("nobody panicked"), 0);
    }

    #[test]
    fn whoever_needs_more_than_there_is_goes_alone() {
        let room = Room::new(Some(10));
        drop(room.take(11));
        let all = Room::new(None);
        let _several = [all.take(1 << 40), all.take(u64::MAX)];
    }
}
