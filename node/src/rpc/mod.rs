//! The node's local interface: JSON-RPC 2.0 over HTTP and WebSocket, and three plain HTTP pages, on one port.
//!
//! # Promises
//! - **No web page can use it.** A page in the user's browser can reach `localhost`, and through DNS rebinding it can do so
//!   under its own name. So every request, WebSocket upgrades and the plain pages included, must carry a `Host` that names
//!   this machine by address (or a configured name or address), and an `Origin`, which browsers add to what pages send across sites and
//!   to every WebSocket, is refused unless it was allowed by configuration. So is what browsers mark as loaded by another site
//!   (`guard`). Bodies must be declared `application/json`, which a page cannot send to another site without asking first.
//! - **What only the operator may do is not there.** `admin_*` is served over a Unix socket that only the node's user can open
//!   (`admin`).
//! - **Bounded, and fair.** Connections, WebSockets, request bytes, nesting, batch length, time to send and to read, calls a
//!   second, subscriptions and what waits for them, answers that nobody reads: each has a limit ([`RpcConfig`], `connections`,
//!   `limits`, `answers`, [`crate::api::feed`]). Whoever dawdles makes room for others. What waits for the driver is bounded by [`crate::api`].
//! - **Errors say what to do.** Every error carries a code, a message with the cause, and `data` with `reason`, `cause` and
//!   `remedy` ([`codes`]), and little of what was sent.
//! - **What is documented is what is served.** Methods stand in one table, from which they are registered, and the document of
//!   `rpc.discover` is made (`openrpc`).
//!
//! # Pages
//! `GET /health` says that the process lives and its event loop answers; `GET /ready` whether it takes part in the mesh
//! (200 or 503, with what it waits for); `GET /metrics` is for Prometheus.
//!
//! A new method is an entry in the table of `methods`, with the type of its answer deriving `JsonSchema`, a row in
//! docs/CLI.md and a function of [`client::RpcClient`].

mod admin;
mod answers;
mod bans;
mod body;
mod calls;
pub mod client;
pub mod codes;
mod connections;
mod frames;
mod guard;
mod limits;
mod methods;
mod openrpc;
mod paced;
mod pages;
mod params;
mod server;
mod shape;
mod subscriptions;

pub use server::{RpcConfig, RpcError, RpcServer};

#[cfg(test)]
mod tests;
