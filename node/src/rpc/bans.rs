//! The methods that keep peers out.

use super::codes;
use crate::api::{BAN_DEFAULT, BAN_MAX, parse_target};
use serde::Deserialize;
use serde_json::Value;
use starling_protocol::peers::bans::BanTarget;
use std::time::Duration;

type Answer<T> = Result<T, jsonrpsee::types::ErrorObjectOwned>;

/// Parameters of `admin_ban`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BanParams {
    target: String,
    #[serde(default)]
    duration_s: Option<u64>,
    #[serde(default)]
    reason: String,
}

/// Parameters of `admin_unban`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnbanParams {
    target: String,
}

pub(super) fn ban_params(params: Value) -> Answer<(BanTarget, Duration, String)> {
    let remedy = "send {\"target\": …, \"duration_s\": …, \"reason\": …}; only the target is needed";
    let BanParams { target, duration_s, reason } = serde_json::from_value(params)
        .map_err(|error| codes::invalid_params(format!("the parameters are wrong: {error}"), remedy))?;
    let duration = duration_s.map_or(BAN_DEFAULT, Duration::from_secs);
    if duration.is_zero() || duration > BAN_MAX {
        let cause = format!("a ban of {} s is not possible", duration.as_secs());
        return Err(codes::invalid_params(cause, format!("give between 1 and {} seconds", BAN_MAX.as_secs())));
    }
    Ok((read_target(&target)?, duration, reason))
}

pub(super) fn unban_params(params: Value) -> Answer<BanTarget> {
    let UnbanParams { target } = serde_json::from_value(params)
        .map_err(|error| codes::invalid_params(format!("the parameters are wrong: {error}"), "send {\"target\": …}"))?;
    read_target(&target)
}

fn read_target(text: &str) -> Answer<BanTarget> {
    parse_target(text).map_err(|error| {
        let text = error.to_string();
        let (cause, remedy) = text.split_once("; ").unwrap_or((&text, "give a peer id, an IP address or a subnet"));
        codes::invalid_params(cause, remedy)
    })
}
