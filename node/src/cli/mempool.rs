//! `starling mempool`: which transactions wait for a block.

use super::ask::failed;
use super::output::{self, Cell, Column, Screen, Style, Table, format};
use super::{Failure, NodeArgs, block_on};
use crate::api::{PendingReply, TransactionSource};
use clap::Subcommand;
use std::process::ExitCode;

/// Transactions that are asked for at a time.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum MempoolCommand {
    /// List the transactions that wait for a block, in the order of their ids.
    #[command(after_help = "\
Examples:
  starling mempool list
  starling mempool list --limit 20
  starling mempool list --json | jq '.[] | select(.executable | not)'")]
    List {
        /// How many at most.
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        limit: u32,
        #[command(flatten)]
        node: NodeArgs,
    },
}

impl MempoolCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let Self::List { limit, node } = self;
        let client = node.client()?;
        let (found, total) = block_on(async {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let wanted = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX)).min(PAGE);
                // One is asked for even when none is wanted, for the total.
                let page = client.mempool_list(after.as_ref(), wanted.max(1)).await.map_err(failed)?;
                found.extend(page.transactions.into_iter().take(wanted as usize));
                after = page.next;
                if after.is_none() || found.len() >= limit as usize {
                    return Ok((found, page.total));
                }
            }
        })?;
        output::print_as(node.json, &found, || text(&found, total, &Screen::stdout()))
    }
}

fn text(found: &[PendingReply], total: u64, screen: &Screen) -> String {
    let mut table = Table::new([
        Column::left("transaction").cut_middle_to(9),
        Column::left("sender").cut_to(9),
        Column::right("nonce"),
        Column::right("size"),
        Column::right("slots here"),
        Column::right("expires at"),
        Column::left("from"),
        Column::left("state"),
    ]);
    for pending in found {
        table.row([
            pending.id.to_string().into(),
            pending.sender.to_string().into(),
            pending.nonce.to_string().into(),
            format::bytes(pending.encoded_bytes).into(),
            pending.age_slots.map_or_else(|| "-".into(), |slots| slots.to_string()).into(),
            pending.expiry_slot.to_string().into(),
            match pending.source {
                TransactionSource::Local => "here",
                TransactionSource::Peer => "a peer",
                TransactionSource::Reorganisation => "a block",
            }
            .into(),
            if pending.executable { "ready".into() } else { Cell::styled("too early", Style::Warn) },
        ]);
    }
    let shown = found.len() as u64;
    let mut text = if found.is_empty() { String::new() } else { table.text(screen) };
    text.push_str(&match (shown, total) {
        (0, 0) => "no transaction waits for a block\n".into(),
        (shown, total) if shown < total => format!("{shown} of {total} shown; --limit {total} shows all\n"),
        (_, total) => format!("{}\n", format::counted(total, "transaction")),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_crypto::{Digest, SecretKey};
    use starling_protocol::id::TransactionId;

    #[test]
    fn the_list_fits_80_columns() {
        let pending = PendingReply {
            id: TransactionId(Digest::ZERO),
            sender: SecretKey::from_seed(&[1; 32]).public_key().to_bytes(),
            nonce: 3,
            expiry_slot: 6_067,
            age_slots: Some(2),
            encoded_bytes: 212,
            executable: true,
            source: TransactionSource::Local,
        };
        let waiting = PendingReply { executable: false, age_slots: None, source: TransactionSource::Peer, ..pending };
        let shown = text(&[pending, waiting], 9, &Screen::of(80));
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert!(shown.lines().nth(1).is_some_and(|line| line.ends_with("here    ready")), "{shown}");
        assert!(shown.ends_with("a peer  too early\n2 of 9 shown; --limit 9 shows all\n"), "{shown}");
        assert_eq!(text(&[], 0, &Screen::of(80)), "no transaction waits for a block\n");
    }
}
