//! `starling peers ban`, `unban`, `bans`: keeping peers out of a running node.

use super::ask::failed;
use super::output::{self, Column, Screen, Table, format};
use super::{Failure, NodeArgs, block_on};
use crate::api::{BAN_MAX, BanReply, parse_target};
use clap::Subcommand;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(super) enum BansCommand {
    /// Keep a peer, an address or a subnet out: disconnect it now, and neither let it in nor dial it.
    #[command(after_help = "\
Examples:
  starling peers ban 192.0.2.7
  starling peers ban 192.0.2.0/24 --for 7d --reason \"floods handshakes\"
  starling peers ban 12D3KooWHyku2BBBqEaCYPbayhhTne15vYwV3P7YFTLrwVb2dmo4 --for 1h")]
    Ban {
        /// A peer id, an IP address, or a subnet such as 192.0.2.0/24.
        target: String,
        /// For how long, such as 30m, 24h or 7d.
        #[arg(long = "for", value_name = "TIME", default_value = "24h", value_parser = parse_length)]
        length: Duration,
        /// Why, for whoever reads the list.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Let a banned peer, address or subnet in again.
    #[command(after_help = "\
Examples:
  starling peers unban 192.0.2.0/24")]
    Unban {
        /// The target, exactly as it was banned.
        target: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List the bans (`starling peers` alone lists the connected peers).
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  starling peers bans
  starling peers bans --json"
    )]
    Bans {
        #[command(flatten)]
        node: NodeArgs,
    },
}

impl BansCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Ban { target, length, reason, node } => {
                parse_target(&target).map_err(Failure::usage)?;
                let client = node.admin_client()?;
                let ban = block_on(async { client.admin_ban(&target, length, &reason).await.map_err(failed) })?;
                output::print_as(node.json, &ban, || {
                    format!("banned {} for {}\n", ban.target, format::duration(ban.remaining_s))
                })
            }
            Self::Unban { target, node } => {
                parse_target(&target).map_err(Failure::usage)?;
                let client = node.admin_client()?;
                let answer = block_on(async { client.admin_unban(&target).await.map_err(failed) })?;
                if !answer.was_banned {
                    return Err(Failure::Runtime(format!(
                        "{} was not banned; `starling peers bans` shows them, which are lifted exactly as they were made",
                        answer.target
                    )));
                }
                output::print_as(node.json, &answer, || format!("unbanned {}\n", answer.target))
            }
            Self::Bans { node } => {
                let client = node.admin_client()?;
                let bans = block_on(async { client.admin_bans().await.map_err(failed) })?;
                output::print_as(node.json, &bans, || list_text(&bans, &Screen::stdout()))
            }
        }
    }
}

fn list_text(bans: &[BanReply], screen: &Screen) -> String {
    if bans.is_empty() {
        return "nobody is banned; `starling peers` lists the connected peers\n".into();
    }
    let mut table =
        Table::new([Column::left("target").cut_middle_to(9), Column::right("ends in"), Column::left("reason")]);
    for ban in bans {
        table.row([ban.target.clone().into(), format::duration(ban.remaining_s).into(), ban.reason.clone().into()]);
    }
    table.text(screen)
}

fn parse_length(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let length = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(Duration::from_secs(number.checked_mul(*seconds)?))
    });
    let fitting = length.filter(|length| !length.is_zero() && *length <= BAN_MAX);
    fitting
        .ok_or_else(|| format!("{text:?} is no length of time between 1s and 36500d; give one such as 30m, 24h or 7d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_a_unit_and_a_bound() {
        assert_eq!(parse_length("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_length("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_length("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for wrong in ["", "5", "0s", "-1h", "1w", "36501d", "99999999999999999999d"] {
            assert!(parse_length(wrong).expect_err(wrong).contains("such as 30m"), "{wrong}");
        }
    }
}
