//! The node's local interface: JSON-RPC 2.0 over HTTP and WebSocket, and three plain HTTP pages, on one port.
//!
//! # Promises
//! - **No web page can use it.** A page in the user's browser can reach `localhost`, and through DNS rebinding it can do so
//!   under its own name. So every request, WebSocket upgrades and the plain pages included, must carry a `Host` that names
//!   this machine by address (or a configured name), and an `Origin`, which browsers add to what pages send across sites and
//!   to every WebSocket, is refused unless it was allowed by configuration. Bodies must be declared
//!   `application/json`, which a page cannot send to another site without asking first.
//! - **Bounded.** Connections, request bytes, batch length, time to send a request: each has a limit ([`RpcConfig`]). What
//!   waits for the driver is bounded by [`crate::api`].
//! - **Errors say what to do.** Every error carries a code, a message with the cause, and `data` with `reason`, `cause` and
//!   `remedy` ([`codes`]).
//!
//! # Methods
//! | method | parameters | result |
//! |---|---|---|
//! | `node_info` | | [`NodeReply`](crate::api::NodeReply) |
//! | `net_info` | | [`NetReply`](crate::api::NetReply) |
//! | `net_peers` | | list of [`PeerReply`](crate::api::PeerReply) |
//! | `tx_submit` | `transaction`: hex of a signed transaction | [`Submitted`](crate::api::Submitted) |
//! | `tx_publish` | `payload`: hex; signed with the node's own account key | [`Submitted`](crate::api::Submitted) |
//! | `tx_get` | `id`: hex | [`TransactionReply`](crate::api::TransactionReply) |
//! | `account_get` | `public_key`: hex | [`AccountReply`](crate::api::AccountReply) |
//! | `mempool_info` | | [`MempoolReply`](crate::api::MempoolReply) |
//! | `chain_head` | | [`HeadReply`](crate::api::HeadReply) |
//! | `chain_block` | `height`: number, or `id`: hex | [`BlockReply`](crate::api::BlockReply) or null |
//! | `admin_ban` | `target`, `duration_s`, `reason` | [`BanReply`](crate::api::BanReply) |
//! | `admin_unban` | `target` | [`UnbanReply`](crate::api::UnbanReply) |
//! | `admin_bans` | | list of [`BanReply`](crate::api::BanReply) |
//!
//! Parameters go by name in an object or by position in an array.
//!
//! # Pages
//! `GET /health` says that the process lives and its event loop answers; `GET /ready` whether it takes part in the mesh
//! (200 or 503, with what it waits for); `GET /metrics` is for Prometheus.

mod bans;
pub mod client;
pub mod codes;
mod guard;
mod methods;
mod pace;
mod pages;
mod server;

pub use server::{RpcConfig, RpcError, RpcServer};

#[cfg(test)]
mod tests;
