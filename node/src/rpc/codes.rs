//! Error codes of the RPC.
//!
//! JSON-RPC 2.0 reserves -32768 to -32000; the part from -32000 to -32099 is for servers. `jsonrpsee` uses -32000 to
//! -32011 of it; ours are one for each kind of refusal from -32040 down, and are never given a new meaning.

use crate::api::{ApiError, Refusal, RefusalReason};
use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::types::error::{
    INTERNAL_ERROR_CODE, INVALID_PARAMS_CODE, INVALID_REQUEST_CODE, PARSE_ERROR_CODE, SERVER_IS_BUSY_CODE,
};
use serde::{Deserialize, Serialize};

/// The node is shutting down.
pub const STOPPED: i32 = -32030;

/// What every error carries in `data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorData {
    /// The kind, for programs.
    pub reason: String,
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
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
        ApiError::Refused(Refusal { reason, cause, remedy }) => {
            object(of(*reason), &name(*reason), cause.clone(), remedy.clone())
        }
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

/// The error object for a result that cannot be written as JSON.
pub(super) fn internal(cause: impl Into<String>) -> ErrorObjectOwned {
    object(INTERNAL_ERROR_CODE, "internal", cause, "this is a fault of starling: please report it")
}

pub(super) fn object(code: i32, reason: &str, cause: impl Into<String>, remedy: impl Into<String>) -> ErrorObjectOwned {
    let (cause, remedy) = (cause.into(), remedy.into());
    let message = format!("{cause}; {remedy}");
    ErrorObjectOwned::owned(code, message, Some(ErrorData { reason: reason.into(), cause, remedy }))
}

fn name(reason: RefusalReason) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "refused".into(),
    }
}
