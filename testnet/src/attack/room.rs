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
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn what_does_not_fit_waits_until_it_does() {
        let room = Room::new(Some(10));
        let (first, second) = (room.take(6), room.take(4));
        let (entered, enters) = mpsc::sync_channel(1);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _all = room.take(7);
                entered.send(()).expect("somebody listens");
            });
            drop(second);
            // There are 6 taken and 7 wanted; whoever waits cannot have come in.
            assert!(enters.try_recv().is_err());
            drop(first);
            enters.recv().expect("it comes in");
        });
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
