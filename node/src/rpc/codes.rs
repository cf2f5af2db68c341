//! Error codes of the RPC.
//!
//! JSON-RPC 2.0 reserves -32768 to -32000; the part from -32000 to -32099 is for servers. `jsonrpsee` uses -32000 to
//! -32011 of it; ours are one for each kind of refusal from -32040 down, and are never given a new meaning.

use super::answers::BATCH_BYTES_MAX;
use crate::api::{ApiError, Refusal, RefusalReason};
use jsonrpsee::types::error::{
    INTERNAL_ERROR_CODE, INVALID_PARAMS_CODE, INVALID_REQUEST_CODE, METHOD_NOT_FOUND_CODE, OVERSIZED_REQUEST_CODE,
    OVERSIZED_RESPONSE_CODE, PARSE_ERROR_CODE, SERVER_IS_BUSY_CODE, TOO_BIG_BATCH_REQUEST_CODE,
    TOO_BIG_BATCH_RESPONSE_CODE,
};
use jsonrpsee::types::{ErrorObjectOwned, Id};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The node is shutting down.
pub const STOPPED: i32 = -32030;
/// The client has spent its allowance.
pub const RATE_LIMITED: i32 = -32031;
/// The method is served over the admin socket alone.
pub const ADMIN_ONLY: i32 = -32032;
/// Subscriptions need a WebSocket.
pub const WEBSOCKET_NEEDED: i32 = -32033;
/// The subscriber did not keep up, and its subscription is over.
pub const TOO_SLOW: i32 = -32034;

/// Characters that are shown of anything that a client sent: enough of every right value, and to find a wrong one.
const SHOWN_CHARS_MAX: usize = 64;

/// Most characters of a cause, and of a remedy.
const TEXT_CHARS_MAX: usize = 600;

/// Longest id of a call, which its answer repeats. Those in use count or are UUIDs.
pub(super) const ID_BYTES_MAX: usize = 256;

/// Whether an id is too long to be repeated.
pub(super) fn is_id_too_long(id: &Id<'_>) -> bool {
    matches!(id, Id::Str(id) if id.len() > ID_BYTES_MAX)
}

/// What every error carries in `data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorData {
    /// The kind, for programs.
    pub reason: String,
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
    /// With `rate_limited`: after how long the same call would be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// Every code with its reason, those of `jsonrpsee` included.
#[must_use]
pub fn all() -> Vec<(i32, String)> {
    let own = RefusalReason::ALL.map(|reason| (of(reason), name(reason)));
    let others = [
        (PARSE_ERROR_CODE, "parse_error"),
        (INVALID_REQUEST_CODE, "invalid_request"),
        (METHOD_NOT_FOUND_CODE, "unknown_method"),
        (INVALID_PARAMS_CODE, "invalid_params"),
        (INTERNAL_ERROR_CODE, "internal"),
        (OVERSIZED_REQUEST_CODE, "request_too_large"),
        (OVERSIZED_RESPONSE_CODE, "response_too_large"),
        (SERVER_IS_BUSY_CODE, "busy"),
        (TOO_BIG_BATCH_REQUEST_CODE, "batch_too_large"),
        (TOO_BIG_BATCH_RESPONSE_CODE, "batch_response_too_large"),
        (STOPPED, "stopped"),
        (RATE_LIMITED, "rate_limited"),
        (ADMIN_ONLY, "admin_only"),
        (WEBSOCKET_NEEDED, "websocket_needed"),
        (TOO_SLOW, "too_slow"),
    ];
    others.map(|(code, reason)| (code, reason.to_owned())).into_iter().chain(own).collect()
}

/// The code of a kind of refusal.
#[must_use]
pub const fn of(reason: RefusalReason) -> i32 {
    match reason {
        RefusalReason::Malformed => -32040,
        RefusalReason::WrongNetwork => -32041,
        RefusalReason::BadSignature => -32042,
        RefusalReason::Expired => -32043,
        RefusalReason::ExpiryTooFar => -32044,
        RefusalReason::NonceUsed => -32045,
        RefusalReason::NonceTooFar => -32046,
        RefusalReason::WrongStamp => -32047,
        RefusalReason::PayloadTooLarge => -32048,
        RefusalReason::AlreadyKnown => -32049,
        RefusalReason::MempoolFull => -32050,
        RefusalReason::NoAccountKey => -32051,
        RefusalReason::Overloaded => -32052,
        RefusalReason::Storage => -32053,
        RefusalReason::Ban => -32060,
        RefusalReason::TooManySubscriptions => -32054,
    }
}

/// Whether the code says that the node was in trouble, not the request.
pub(super) const fn is_own_trouble(code: i32) -> bool {
    matches!(code, SERVER_IS_BUSY_CODE | STOPPED | INTERNAL_ERROR_CODE)
        || code == of(RefusalReason::Overloaded)
        || code == of(RefusalReason::Storage)
}

/// The error object for what the driver answered.
pub(super) fn from_api(error: &ApiError) -> ErrorObjectOwned {
    match error {
        ApiError::Busy => object(SERVER_IS_BUSY_CODE, "busy", "the node is busy", "try again in a moment"),
        ApiError::Stopped => {
            object(STOPPED, "stopped", "the node is shutting down", "start it again with `starling run`")
        }
        ApiError::Refused(refusal) => refused(refusal),
    }
}

/// The error object for what was understood and refused.
pub(super) fn refused(Refusal { reason, cause, remedy }: &Refusal) -> ErrorObjectOwned {
    object(of(*reason), &name(*reason), cause.clone(), remedy.clone())
}

/// How a method can fail: as the driver says, or with an error object of its own.
#[derive(Debug)]
pub(super) struct Failure(pub(super) ErrorObjectOwned);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(from_api(&error))
    }
}

impl From<ErrorObjectOwned> for Failure {
    fn from(error: ErrorObjectOwned) -> Self {
        Self(error)
    }
}

/// The error object for parameters that a method cannot use.
pub(super) fn invalid_params(cause: impl Into<String>, remedy: impl Into<String>) -> ErrorObjectOwned {
    object(INVALID_PARAMS_CODE, "invalid_params", cause, remedy)
}

/// What a request looks like.
const EXAMPLE: &str = "send a JSON-RPC 2.0 request such as {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"node_info\"}";

/// The error object for a body that is no JSON.
pub(super) fn parse_error(cause: impl Into<String>) -> ErrorObjectOwned {
    object(PARSE_ERROR_CODE, "parse_error", cause, EXAMPLE)
}

/// The error object for JSON that is no request.
pub(super) fn invalid_request(cause: impl Into<String>) -> ErrorObjectOwned {
    object(INVALID_REQUEST_CODE, "invalid_request", cause, EXAMPLE)
}

/// The error object for a call whose id is too long to be repeated.
pub(super) fn id_too_long() -> ErrorObjectOwned {
    let cause = format!("the call's id has more than {ID_BYTES_MAX} bytes");
    object(INVALID_REQUEST_CODE, "invalid_request", cause, "use a shorter one, such as a number")
}

/// The error object for a body that is too large.
pub(super) fn request_too_large(bytes_max: u32) -> ErrorObjectOwned {
    let cause = format!("the request's body has more than {bytes_max} bytes");
    let remedy = "send less at once; the genesis limits a transaction's payload (`starling genesis check FILE` shows it, and \
                  `payload_bytes_max` of node_info)";
    object(OVERSIZED_REQUEST_CODE, "request_too_large", cause, remedy)
}

/// The error object for a batch that is too long.
pub(super) fn batch_too_large(calls: usize, calls_max: u32) -> ErrorObjectOwned {
    let cause = format!("the batch has {calls} calls, and {calls_max} at most are taken");
    object(TOO_BIG_BATCH_REQUEST_CODE, "batch_too_large", cause, "send it in parts")
}

/// The error object for a batch whose answers are too large together.
pub(super) fn batch_response_too_large() -> ErrorObjectOwned {
    let cause = format!("the answers to the batch have more than {BATCH_BYTES_MAX} bytes together");
    let remedy = "send it in parts; a call alone may have a larger answer";
    object(TOO_BIG_BATCH_RESPONSE_CODE, "batch_response_too_large", cause, remedy)
}

/// The error object for a call whose answer has no place, because others do not read theirs.
pub(super) fn no_room() -> ErrorObjectOwned {
    let cause = "the server is busy: too many large answers wait to be read by those who asked for them";
    object(SERVER_IS_BUSY_CODE, "busy", cause, "try again in a moment")
}

/// The error object for a method that there is not.
pub(super) fn unknown_method(name: &str, nearest: Option<&str>) -> ErrorObjectOwned {
    let shown = clip(name);
    let remedy = match nearest {
        Some(nearest) => format!("did you mean {nearest}? rpc.discover lists all methods"),
        None => "rpc.discover lists all methods".to_owned(),
    };
    object(METHOD_NOT_FOUND_CODE, "unknown_method", format!("there is no method {shown:?}"), remedy)
}

/// The error object for a client that asks too much.
pub(super) fn rate_limited(wait: Duration) -> ErrorObjectOwned {
    let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    let (cause, remedy) = ("this client asks too much", format!("wait {retry_after_ms} ms, or ask less often"));
    let message = format!("{cause}; {remedy}");
    let data =
        ErrorData { reason: "rate_limited".into(), cause: cause.into(), remedy, retry_after_ms: Some(retry_after_ms) };
    ErrorObjectOwned::owned(RATE_LIMITED, message, Some(data))
}

/// The error object for an admin method that was called from elsewhere. It does not say where the socket is: whoever reaches
/// the RPC need not learn of the directories of the host.
pub(super) fn admin_only(method: &str, has_socket: bool) -> ErrorObjectOwned {
    let cause = format!("{method} is served over the admin socket alone");
    let remedy = if has_socket {
        "run the command on the node's host with --datadir DIR instead of --rpc, as the user who runs the node"
    } else {
        "this node has no admin socket; restart it without `--admin-socket none`"
    };
    object(ADMIN_ONLY, "admin_only", cause, remedy)
}

/// The error object for a subscription over plain HTTP.
pub(super) fn websocket_needed() -> ErrorObjectOwned {
    let cause = "subscriptions need a connection that stays open";
    object(WEBSOCKET_NEEDED, "websocket_needed", cause, "connect with a WebSocket (ws:// at the same address)")
}

/// The error object that ends a subscription whose subscriber did not keep up.
pub(super) fn too_slow() -> ErrorObjectOwned {
    let cause = "the subscriber did not keep up, and events were lost; the subscription is over";
    object(TOO_SLOW, "too_slow", cause, "subscribe again, then ask for the present state; read faster, or filter")
}

/// The error object for a result that cannot be written as JSON.
pub(super) fn internal(cause: impl Into<String>) -> ErrorObjectOwned {
    object(INTERNAL_ERROR_CODE, "internal", cause, "this is a fault of starling: please report it")
}

/// As much of a client's text as is shown to it again. Everything that is shown passes here before it is written out,
/// because escapes make it up to 14 times as long, in the message and once more in the data.
pub(super) fn clip(text: &str) -> &str {
    start(text, SHOWN_CHARS_MAX)
}

fn start(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

pub(super) fn object(code: i32, reason: &str, cause: impl Into<String>, remedy: impl Into<String>) -> ErrorObjectOwned {
    let (cause, remedy) = (cause.into(), remedy.into());
    // Nothing of ours is as long; what others write about a request may be.
    let [cause, remedy] = [cause, remedy].map(|text| start(&text, TEXT_CHARS_MAX).to_owned());
    let message = format!("{cause}; {remedy}");
    ErrorObjectOwned::owned(
        code,
        message,
        Some(ErrorData { reason: reason.into(), cause, remedy, retry_after_ms: None }),
    )
}

fn name(reason: RefusalReason) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "refused".into(),
    }
}
