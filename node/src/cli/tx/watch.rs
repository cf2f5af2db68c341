//! `starling tx watch`, and the waiting of `starling tx send --wait`.

use super::{status_text, status_words};
use crate::api::{TransactionReply, TransactionStatus};
use crate::cli::output::{self, Audience};
use crate::cli::watch::{End, INTERRUPTED, Steady, watch};
use crate::cli::{Failure, NodeArgs};
use clap::Args;
use starling_protocol::id::TransactionId;
use std::process::ExitCode;
use std::time::Duration;

/// How often the node is asked. A slot lasts seconds.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Exit codes for a transaction that no block has.
const EXPIRED: u8 = 3;
const SUPERSEDED: u8 = 4;
const TIMED_OUT: u8 = 5;

#[derive(Debug, Args)]
pub(in crate::cli) struct WatchArgs {
    /// The transaction id in hex.
    id: TransactionId,
    /// Give up after this time, such as 30s or 5m. Default: when the transaction's fate is decided, which its expiry bounds.
    #[arg(long, value_name = "TIME", value_parser = crate::config::parse_duration_ms)]
    timeout: Option<u64>,
    #[command(flatten)]
    node: NodeArgs,
}

impl WatchArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let (id, json) = (self.id, self.node.json);
        follow(&id, self.timeout.map(Duration::from_millis), &self.node, |reply| match json {
            true => output::write(&serde_json::to_string(reply).map_err(Failure::runtime)?),
            false => output::write(&status_words(&reply.status)),
        })
    }
}

/// Follows a transaction until its fate is decided and prints that, as `starling tx get` does.
pub(super) fn until_decided(
    id: &TransactionId,
    timeout: Option<Duration>,
    node: &NodeArgs,
) -> Result<ExitCode, Failure> {
    follow(id, timeout, node, |reply| {
        if decision(&reply.status).is_none() {
            return Ok(Audience::There);
        }
        output::print_as(node.json, reply, || status_text(reply)).map(|_printed| Audience::There)
    })
}

/// Tells of each change of a transaction's status, until the last.
fn follow(
    id: &TransactionId,
    timeout: Option<Duration>,
    node: &NodeArgs,
    mut tell: impl FnMut(&TransactionReply) -> Result<Audience, Failure>,
) -> Result<ExitCode, Failure> {
    let following = async {
        let mut steady = Steady::new(node)?;
        let mut told = None;
        loop {
            let reply = steady.ask(async |client| client.tx_get(id).await).await?;
            if told.as_ref() != Some(&reply.status) {
                if reply.status == TransactionStatus::Unknown {
                    output::note("the node does not know this transaction (yet); waiting for it");
                }
                if tell(&reply)? == Audience::Gone {
                    return Ok(End::Unread);
                }
            }
            if let Some(code) = decision(&reply.status) {
                return Ok(End::Done(code));
            }
            told = Some(reply.status);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let limited = async {
        match timeout {
            None => following.await,
            Some(timeout) => match tokio::time::timeout(timeout, following).await {
                Ok(ended) => ended,
                Err(_elapsed) => {
                    output::error("the time of --timeout passed before the transaction's fate was decided");
                    Ok(End::Done(ExitCode::from(TIMED_OUT)))
                }
            },
        }
    };
    Ok(match watch(limited)? {
        End::Done(code) => code,
        End::Interrupted => ExitCode::from(INTERRUPTED),
        End::Unread => ExitCode::SUCCESS,
    })
}

/// The exit code that tells a transaction's fate; none while it is open.
fn decision(status: &TransactionStatus) -> Option<ExitCode> {
    match status {
        TransactionStatus::Pending | TransactionStatus::Unknown => None,
        TransactionStatus::Included { .. } => Some(ExitCode::SUCCESS),
        TransactionStatus::Expired => Some(ExitCode::from(EXPIRED)),
        TransactionStatus::Superseded => Some(ExitCode::from(SUPERSEDED)),
    }
}
