//! `starling tx watch`, and the waiting of `starling tx send --wait`.

use super::{status_text, status_words};
use crate::api::feed::TransactionFilter;
use crate::api::{TransactionChange, TransactionEvent, TransactionName, TransactionReply, TransactionStatus};
use crate::cli::output::{self, Audience};
use crate::cli::watch::{End, INTERRUPTED, Steady, watch};
use crate::cli::{Failure, NodeArgs};
use clap::Args;
use starling_crypto::PublicKey;
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
    #[arg(conflicts_with_all = ["sender", "all"])]
    id: Option<TransactionId>,
    /// Tell of all transactions of the account with this public key instead, until Ctrl-C.
    #[arg(long, value_name = "KEY", conflicts_with = "all")]
    sender: Option<PublicKey>,
    /// Tell of all transactions instead, until Ctrl-C.
    #[arg(long)]
    all: bool,
    /// Give up after this time, such as 30s or 5m. Default: when the transaction's fate is decided, which its expiry bounds.
    #[arg(long, value_name = "TIME", value_parser = crate::config::parse_duration_ms)]
    timeout: Option<u64>,
    #[command(flatten)]
    node: NodeArgs,
}

impl WatchArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let json = self.node.json;
        let Some(id) = self.id else {
            if self.sender.is_none() && !self.all {
                let usage =
                    "nothing says what to watch; give a transaction's ID, --sender KEY for all of an account, or --all";
                return Err(Failure::Usage(usage.into()));
            }
            return self.stream();
        };
        follow(&id, self.timeout.map(Duration::from_millis), &self.node, |reply| match json {
            true => output::write(&serde_json::to_string(reply).map_err(Failure::runtime)?),
            false if reply.status == TransactionStatus::Unknown => {
                output::write("unknown to this node (yet); waiting for it")
            }
            false => output::write(&status_words(&reply.status)),
        })
    }
}

impl WatchArgs {
    /// Tells of what happens to many transactions, until it is interrupted or the time is up.
    fn stream(&self) -> Result<ExitCode, Failure> {
        let senders = self.sender.iter().map(PublicKey::to_bytes).collect();
        let filter = TransactionFilter { senders, ..TransactionFilter::default() };
        let streaming = async {
            let mut steady = Steady::new(&self.node)?;
            loop {
                let mut events = steady.ask(async |client| client.tx_subscribe(&filter).await).await?;
                let ended = loop {
                    match events.next().await {
                        Ok(event) if self.tell(&event)? == Audience::Gone => return Ok(End::Unread),
                        Ok(_told) => {}
                        Err(error) => break error,
                    }
                };
                output::note(&format!("{ended}; what happens until the watch goes on is not shown"));
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let limited = async {
            match self.timeout.map(Duration::from_millis) {
                None => streaming.await,
                Some(timeout) => tokio::time::timeout(timeout, streaming).await.unwrap_or(Ok(End::Done(()))),
            }
        };
        watch(limited).map(|_ended: End<()>| ExitCode::SUCCESS)
    }

    fn tell(&self, event: &TransactionEvent) -> Result<Audience, Failure> {
        if self.node.json {
            return output::write(&serde_json::to_string(event).map_err(Failure::runtime)?);
        }
        output::write(&event_text(event))
    }
}

/// A line for each transaction of an event.
fn event_text(event: &TransactionEvent) -> String {
    let what = match event.event {
        TransactionChange::Accepted => "accepted",
        TransactionChange::Included => "included",
        TransactionChange::Returned => "returned",
        TransactionChange::Expired => "expired",
        TransactionChange::Superseded => "superseded",
        TransactionChange::Evicted => "evicted",
    };
    let block = event.block.as_ref().map(|block| format!("  height {}", block.height)).unwrap_or_default();
    let line = |name: &TransactionName| {
        let sender = name.sender.to_string();
        format!("{what:<10}  {}  by {}…  nonce {}{block}\n", name.id, sender.get(..8).unwrap_or(&sender), name.nonce)
    };
    event.transactions.iter().map(line).collect()
}

/// Follows a transaction until its fate is decided and prints that, as `starling tx get` does.
pub(super) fn until_decided(
    id: &TransactionId,
    timeout: Option<Duration>,
    node: &NodeArgs,
) -> Result<ExitCode, Failure> {
    follow(id, timeout, node, |reply| {
        if decision(&reply.status).is_none() {
            if reply.status == TransactionStatus::Unknown {
                output::note("the node does not know this transaction (yet); waiting for it");
            }
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
            if told.as_ref() != Some(&reply.status) && tell(&reply)? == Audience::Gone {
                return Ok(End::Unread);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::BlockName;
    use starling_crypto::{Digest, SecretKey};
    use starling_protocol::id::BlockId;

    #[test]
    fn an_event_has_a_line_for_each_transaction() {
        let sender = SecretKey::from_seed(&[1; 32]).public_key().to_bytes();
        let name = |nonce| TransactionName { id: TransactionId(Digest::ZERO), sender, nonce };
        let event = TransactionEvent {
            event: TransactionChange::Included,
            block: Some(BlockName { height: 7, block_id: BlockId(Digest::ZERO) }),
            transactions: vec![name(3), name(4)],
        };
        let zeros = "0".repeat(64);
        let text = event_text(&event);
        assert_eq!(text.lines().next(), Some(format!("included    {zeros}  by 8a88e3dd…  nonce 3  height 7").as_str()));
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn every_fate_has_its_own_exit_code() {
        assert_eq!(decision(&TransactionStatus::Pending), None);
        assert_eq!(decision(&TransactionStatus::Unknown), None);
        assert_eq!(decision(&TransactionStatus::Expired), Some(ExitCode::from(3)));
        assert_eq!(decision(&TransactionStatus::Superseded), Some(ExitCode::from(4)));
    }
}
