//! How much each client may ask.
//!
//! Every call has a price in *units*, roughly what it costs the node compared with `chain_head`, and every client, that is
//! an address of IP version 4 or a /64 of version 6, may spend [`super::RpcConfig::units_per_second`], and
//! [`BURST_S`] seconds' worth at once. This is the generic cell rate algorithm (ITU-T I.371), a token bucket that needs one
//! instant for each client: the time when its bucket will be full again.
//!
//! The table is bounded. A client whose bucket is full is as good as one never seen, and is forgotten when there is no
//! room; if there is still none, newcomers share one bucket. The admin socket has no limit.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Seconds' worth of units that may be spent at once.
pub(super) const BURST_S: u32 = 2;

/// Clients that are remembered. A guess: more than call one node in seconds.
const CLIENTS_MAX: usize = 1_024;

/// The bucket of clients for which there is no room; no client has this address.
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The allowances of all clients.
#[derive(Debug)]
pub(super) struct Limits {
    /// How long it takes to earn a unit; none without a limit.
    unit: Option<Duration>,
    /// When each client's bucket will be full.
    full_at: Mutex<BTreeMap<IpAddr, Instant>>,
}

impl Limits {
    /// With so many units a second for each client; 0 means without limit.
    pub(super) fn new(units_per_second: u32) -> Self {
        let unit = (units_per_second > 0).then(|| Duration::from_secs(1) / units_per_second);
        Self { unit, full_at: Mutex::default() }
    }

    /// Spends units.
    ///
    /// # Errors
    /// After how long there will be enough of them; none has been spent then.
    pub(super) fn spend(&self, client: Option<IpAddr>, units: u32) -> Result<(), Duration> {
        let burst = Duration::from_secs(u64::from(BURST_S));
        self.take(client, units, |cost, until_full| match until_full.checked_sub(burst) {
            // A call that costs more than a full bucket is possible with a full one.
            Some(missing) if missing > Duration::ZERO && until_full > cost => Err(missing),
            _ => Ok(()),
        })
    }

    /// Spends units that may not be there, for what has been done already: what the client asks next has to wait for them.
    pub(super) fn owe(&self, client: Option<IpAddr>, units: u32) {
        let _never_refused = self.take(client, units, |_, _| Ok(()));
    }

    /// Spends units unless `refuse` says otherwise, which is given what they cost and how long it will take until the bucket
    /// is full again.
    fn take(
        &self,
        client: Option<IpAddr>,
        units: u32,
        refuse: impl FnOnce(Duration, Duration) -> Result<(), Duration>,
    ) -> Result<(), Duration> {
        let (Some(unit), Some(client)) = (self.unit, client) else { return Ok(()) };
        let now = Instant::now();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let client = if full_at.len() < CLIENTS_MAX || full_at.contains_key(&client) {
            client
        } else {
            full_at.retain(|_, at| *at > now);
            if full_at.len() < CLIENTS_MAX { client } else { OTHERS }
        };
        let at = full_at.get(&client).copied().unwrap_or(now).max(now) + unit * units;
        refuse(unit * units, at - now)?;
        full_at.insert(client, at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from((0x0a00_0000 + number).to_be_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_let_through_and_then_the_rate() {
        let limits = Limits::new(10);
        for _ in 0..20 {
            limits.spend(client(1), 1).expect("two seconds' worth at once");
        }
        assert_eq!(limits.spend(client(1), 1), Err(Duration::from_millis(100)));
        assert_eq!(limits.spend(client(1), 5), Err(Duration::from_millis(500)));
        limits.spend(client(2), 5).expect("another client");
        tokio::time::advance(Duration::from_millis(500)).await;
        limits.spend(client(1), 5).expect("what it was told to wait for");
        assert!(limits.spend(client(1), 1).is_err());
        tokio::time::advance(Duration::from_secs(100)).await;
        for _ in 0..20 {
            limits.spend(client(1), 1).expect("no more than two seconds' worth is saved");
        }
        assert!(limits.spend(client(1), 1).is_err());
        limits.spend(None, 1_000_000).expect("the admin socket has no limit");
        Limits::new(0).spend(client(1), u32::MAX).expect("no limit was set");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dear_call_is_possible_with_a_full_bucket_and_paid_off_afterwards() {
        let limits = Limits::new(1);
        limits.spend(client(1), 10).expect("a full bucket");
        assert_eq!(limits.spend(client(1), 1), Err(Duration::from_secs(9)));
        limits.owe(client(1), 20);
        assert_eq!(limits.spend(client(1), 1), Err(Duration::from_secs(29)), "what was done already is owed");
        limits.owe(None, u32::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_strangers_share_what_is_left() {
        let limits = Limits::new(1);
        for number in 0..5_000 {
            let _others_are_empty = limits.spend(client(number), 1);
        }
        assert!(limits.full_at.lock().expect("unpoisoned").len() <= CLIENTS_MAX + 1);
        assert!(limits.spend(client(6_000), 1).is_err(), "the shared bucket is empty");
        tokio::time::advance(Duration::from_secs(10_000)).await;
        limits.spend(client(6_000), 2).expect("the others are forgotten");
    }
}
