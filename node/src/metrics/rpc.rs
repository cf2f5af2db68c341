//! The RPC: subscriptions and what was refused for being too much.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The RPC, besides its calls.
#[derive(Debug)]
pub struct RpcMetrics {
    /// Subscriptions over WebSockets.
    pub subscriptions: Gauge,
    /// Subscriptions that were ended because the subscriber did not keep up.
    pub subscribers_dropped: Counter,
    /// Calls and pages refused because the client asked too much.
    pub rate_limited: Counter,
    /// Bytes of large answers that are being made or wait to be read.
    pub answer_bytes: Gauge,
    /// Connections that were closed because they did not read what they had asked for.
    pub slow_readers_closed: Counter,
}

impl RpcMetrics {
    pub(super) fn register(own: &mut Registry) -> Self {
        let metrics = Self {
            subscriptions: Gauge::default(),
            subscribers_dropped: Counter::default(),
            rate_limited: Counter::default(),
            answer_bytes: Gauge::default(),
            slow_readers_closed: Counter::default(),
        };
        own.register("rpc_subscriptions", "Subscriptions over WebSockets", metrics.subscriptions.clone());
        own.register(
            "rpc_subscribers_dropped",
            "Subscriptions ended because the subscriber did not keep up",
            metrics.subscribers_dropped.clone(),
        );
        let help = "RPC calls and pages refused because the client asked too much";
        own.register("rpc_rate_limited", help, metrics.rate_limited.clone());
        let help = "Bytes of large RPC answers that are being made or wait to be read";
        own.register("rpc_answer_bytes", help, metrics.answer_bytes.clone());
        let help = "RPC connections closed because they did not read what they had asked for";
        own.register("rpc_slow_readers_closed", help, metrics.slow_readers_closed.clone());
        metrics
    }
}
