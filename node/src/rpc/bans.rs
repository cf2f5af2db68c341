//! The parameters of the methods that keep peers out.

use super::codes;
use super::methods::Answer;
use super::params::Args;
use crate::api::{BAN_DEFAULT, BAN_MAX, parse_target};
use starling_protocol::peers::bans::BanTarget;
use std::time::Duration;

/// Of `admin_ban`: whom, for how long, why.
pub(super) fn ban(args: &Args) -> Answer<(BanTarget, Duration, String)> {
    let duration = args.integer("duration_s").map_or(BAN_DEFAULT, Duration::from_secs);
    if duration.is_zero() || duration > BAN_MAX {
        let cause = format!("a ban of {} s is not possible", duration.as_secs());
        return Err(codes::invalid_params(cause, format!("give between 1 and {} seconds", BAN_MAX.as_secs())));
    }
    Ok((unban(args)?, duration, args.text("reason").unwrap_or_default().to_owned()))
}

/// Of `admin_unban`: whom.
pub(super) fn unban(args: &Args) -> Answer<BanTarget> {
    parse_target(args.text("target").unwrap_or_default()).map_err(|error| {
        let text = error.to_string();
        let (cause, remedy) = text.split_once("; ").unwrap_or((&text, "give a peer id, an IP address or a subnet"));
        codes::invalid_params(cause, remedy)
    })
}
