//! What a body must look like before it is taken apart.
//!
//! `jsonrpsee` says "Parse error" and no more; and what it hands to a method is parsed once again. So bodies over HTTP are
//! looked at first: whether they are JSON at all, nested no deeper than [`DEPTH_MAX`], and a call or a batch of a length
//! that is taken. What is an object but no call is answered with its id, if that can be read (JSON-RPC 2.0, section 5).
//! The cost is some passes over the body.

use super::codes;
use jsonrpsee::types::{ErrorObjectOwned, Id};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Deepest nesting of lists and objects in a request. Ours need 4: a batch, a call, its parameters, a list in them.
pub(super) const DEPTH_MAX: usize = 32;

/// A body that is neither a call nor a batch.
#[derive(Debug)]
pub(super) struct Malformed {
    /// Null where it cannot be read, or is too long to be repeated.
    pub(super) id: Id<'static>,
    /// What is wrong.
    pub(super) error: ErrorObjectOwned,
}

impl From<ErrorObjectOwned> for Malformed {
    fn from(error: ErrorObjectOwned) -> Self {
        Self { id: Id::Null, error }
    }
}

/// Whether a body can be a JSON-RPC call or a batch of at most so many.
///
/// # Errors
/// `parse_error` or `invalid_request`, with what is wrong.
pub(super) fn check(body: &[u8], batch_calls_max: u32) -> Result<(), Malformed> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_none() {
        return Err(codes::parse_error("the request's body is empty").into());
    }
    check_depth(body)?;
    let no_json = |error| codes::parse_error(format!("the request's body is not JSON: {error}"));
    match first {
        // The members of a batch get their own answers.
        Some(b'[') => {
            let calls = serde_json::from_slice::<Vec<IgnoredAny>>(body).map_err(no_json)?.len();
            if calls == 0 {
                return Err(codes::invalid_request("the batch is empty").into());
            }
            if calls > batch_calls_max as usize {
                return Err(codes::batch_too_large(calls, batch_calls_max).into());
            }
            Ok(())
        }
        Some(b'{') => {
            serde_json::from_slice::<IgnoredAny>(body).map_err(no_json)?;
            check_call(body).map_err(|error| Malformed { id: id_of(body), error })
        }
        _ => {
            serde_json::from_slice::<IgnoredAny>(body).map_err(no_json)?;
            Err(codes::invalid_request("the request's body is neither an object nor an array").into())
        }
    }
}

fn check_call(body: &[u8]) -> Result<(), ErrorObjectOwned> {
    #[derive(Deserialize)]
    struct Call<'a> {
        #[serde(rename = "jsonrpc")]
        version: String,
        #[serde(rename = "method")]
        _method: String,
        /// A string, a number or null.
        #[serde(rename = "id", default, borrow)]
        _id: Option<Id<'a>>,
    }
    let call = serde_json::from_slice::<Call<'_>>(body)
        .map_err(|error| codes::invalid_request(format!("the request is not a JSON-RPC call: {error}")))?;
    match call.version.as_str() {
        "2.0" => Ok(()),
        other => Err(codes::invalid_request(format!(
            "the request is of version {:?} of JSON-RPC, not 2.0",
            codes::clip(other)
        ))),
    }
}

/// The id of an object that is no call.
fn id_of(body: &[u8]) -> Id<'static> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        id: Id<'a>,
    }
    match serde_json::from_slice::<Named<'_>>(body) {
        Ok(named) if !codes::is_id_too_long(&named.id) => named.id.into_owned(),
        _ => Id::Null,
    }
}

/// Whether JSON text is nested no deeper than [`DEPTH_MAX`].
///
/// # Errors
/// `invalid_request`.
pub(super) fn check_depth(text: &[u8]) -> Result<(), ErrorObjectOwned> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in text {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(codes::invalid_request(format!("the request is nested more than {DEPTH_MAX} deep")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_call_is_answered_with_its_id_if_that_can_be_read() {
        let long = format!("{{\"id\":\"{}\"}}", "a".repeat(codes::ID_BYTES_MAX + 1));
        let id_of = |body: &str| check(body.as_bytes(), 2).map_err(|malformed| malformed.id);
        for (body, id) in [
            (r#"{"jsonrpc":"1.0","id":7,"method":"chain_head"}"#, Id::Number(7)),
            (r#"{"method":"chain_head","id":"a"}"#, Id::Str("a".into())),
            (r#"{"jsonrpc":"2.0","id":null}"#, Id::Null),
            (r#"{"jsonrpc":"2.0","method":7}"#, Id::Null),
            (r#"{"jsonrpc":"2.0","id":[1],"method":"chain_head"}"#, Id::Null),
            (r#"{"id":7,"id":8}"#, Id::Null),
            (r#"{"id":7"#, Id::Null),
            (r#"[{"id":7},{"id":7},{"id":7}]"#, Id::Null),
            (long.as_str(), Id::Null),
        ] {
            assert_eq!(id_of(body), Err(id), "{body}");
        }
        assert_eq!(id_of(r#"{"jsonrpc":"2.0","id":7,"method":"chain_head"}"#), Ok(()));
    }

    #[test]
    fn depth_is_counted_outside_of_texts() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check_depth(nested(DEPTH_MAX).as_bytes()).expect("as deep as may be");
        check_depth(nested(DEPTH_MAX + 1).as_bytes()).expect_err("too deep");
        check_depth(nested(DEPTH_MAX).repeat(3).as_bytes()).expect("side by side");
        check_depth(format!("\"{}\"", "[".repeat(100)).as_bytes()).expect("a text");
        check_depth(format!("\"\\\"{}\"", "[".repeat(100)).as_bytes()).expect("a text with a quote in it");
        check_depth(format!("\"\\\\\"{}", "[".repeat(100)).as_bytes()).expect_err("the text has ended");
    }
}
