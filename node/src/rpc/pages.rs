//! The plain HTTP pages: `/health`, `/ready`, `/metrics`.

use super::methods::Context;
use crate::api::{ApiError, StorageState};
use crate::metrics;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use jsonrpsee::server::HttpBody;
use jsonrpsee::types::{ErrorObjectOwned, Id};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;

/// How long a page waits for the event loop. Monitors give up after some seconds; an answer that names the trouble is
/// worth more to them than none.
const PAGE_DEADLINE: Duration = Duration::from_secs(3);

/// Whether the process lives: its event loop answers. What it says about the rest is for people and dashboards; a node that
/// catches up or has a full disk is not helped by a restart.
pub(super) async fn health(context: &Context) -> Response<HttpBody> {
    match ask(context.node.ready()).await {
        Ok(ready) => json_page(
            StatusCode::OK,
            &json!({
                "status": if ready.storage == StorageState::Ok { "ok" } else { "degraded" },
                "ready": ready.ready,
                "waiting_for": ready.waiting_for,
                "height": ready.height,
                "peers": ready.peers,
                "storage": ready.storage,
                "disk": ready.disk,
                "clock": ready.clock,
                "sync": ready.sync,
            }),
        ),
        Err(error) => trouble(&error),
    }
}

/// Whether the node takes part in the mesh, with what it waits for.
pub(super) async fn ready(context: &Context) -> Response<HttpBody> {
    match ask(context.node.ready()).await {
        Ok(ready) if ready.ready => json_page(StatusCode::OK, &ready),
        Ok(ready) => json_page(StatusCode::SERVICE_UNAVAILABLE, &ready),
        Err(error) => trouble(&error),
    }
}

/// All metrics.
pub(super) fn metrics(context: &Context) -> Response<HttpBody> {
    page(StatusCode::OK, metrics::CONTENT_TYPE, context.metrics.encode())
}

/// Any JSON.
pub(super) fn json_page(status: StatusCode, value: &impl Serialize) -> Response<HttpBody> {
    match serde_json::to_string(value) {
        Ok(text) => page(status, "application/json", text + "\n"),
        Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n")),
    }
}

/// A JSON-RPC error about a request that did not become a call; its id is null where it was not read so far.
pub(super) fn json_rpc_error(status: StatusCode, id: &Id<'_>, error: &ErrorObjectOwned) -> Response<HttpBody> {
    json_page(status, &json!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

/// A page for a client that asks too much.
pub(super) fn too_many_requests(wait: Duration) -> Response<HttpBody> {
    let seconds = wait.as_secs().saturating_add(1);
    let remedy = format!("wait {seconds} s, or ask less often");
    let mut page = error_page(StatusCode::TOO_MANY_REQUESTS, "this client asks too much", &remedy);
    page.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    page
}

/// A refusal outside JSON-RPC.
pub(super) fn error_page(status: StatusCode, cause: &str, remedy: &str) -> Response<HttpBody> {
    json_page(status, &json!({ "error": format!("{cause}; {remedy}"), "cause": cause, "remedy": remedy }))
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<HttpBody> {
    let mut response = Response::new(HttpBody::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn ask<T>(question: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    tokio::time::timeout(PAGE_DEADLINE, question).await.unwrap_or(Err(ApiError::Busy))
}

fn trouble(error: &ApiError) -> Response<HttpBody> {
    let status = match error {
        ApiError::Busy => "busy",
        ApiError::Stopped => "stopping",
        ApiError::Refused(_) => "failed",
    };
    json_page(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": status, "cause": error.to_string() }))
}
