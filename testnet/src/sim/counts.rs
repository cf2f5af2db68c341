//! How much happened in a run.

/// How much happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// RPCs that a machine took in.
    pub deliveries: u64,
    /// Verdicts that a machine took in.
    pub verdicts: u64,
    /// Wakes at which something was due.
    pub timers: u64,
    /// Everything else.
    pub others: u64,
}

impl EventCounts {
    /// Engine events: inputs that consumed a delivery, a verdict or a due timer.
    #[must_use]
    pub fn engine(&self) -> u64 {
        self.deliveries + self.verdicts + self.timers
    }
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireCounts {
    /// RPCs.
    pub rpcs: u64,
    /// Bytes of RPCs, with their length prefixes.
    pub bytes: u64,
    /// Messages in them.
    pub messages: u64,
    /// Messages that were taken out of a queue because the peer had them.
    pub cancelled: u64,
    /// Frames that a queue had no room for.
    pub dropped: u64,
    /// Chunks of which a segment was lost and sent again.
    pub chunks_lost: u64,
    /// Messages that attackers have sent, to each peer that one was sent to.
    pub of_attackers: u64,
}
