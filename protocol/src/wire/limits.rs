//! Limits on what a peer may put into one RPC.

/// A PRUNE back-off is clamped to this many seconds at decode (CVE-2026-33040, CVE-2026-34219).
pub const PRUNE_BACKOFF_SECONDS_MAX: u64 = 3_600;
