//! `starling status`: how a running node is doing, on one screen.
//!
//! Everything comes from the node's own answers. What an operator should look at is worked out here, from those answers
//! alone, by [`warnings`]; each warning says what to do. An answer that an older node does not give leaves its lines out.

mod warnings;

pub(super) use self::warnings::Severity;
use self::warnings::{Warning, warnings};
use super::ask::failed;
use super::genesis::unix_ms;
use super::output::{self, Audience, Screen, Style, format};
use super::watch::{End, watch};
use super::{Failure, NodeArgs, block_on};
use crate::api::{
    ClockState, HeadReply, MempoolReply, NetReply, NodeReply, ReadyReply, StorageState, SyncReply, SyncState,
};
use crate::rpc::client::RpcClient;
use clap::Args;
use serde::Serialize;
use starling_protocol::genesis::date::to_rfc3339;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

/// With less free space than this the node may soon have to stop storing blocks; with less than the second it is about to.
pub(super) const FREE_BYTES_LITTLE: u64 = 2 << 30;
pub(super) const FREE_BYTES_MIN: u64 = 64 << 20;

/// Columns of the names on the left.
const NAME_COLUMNS: usize = 11;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  starling status
  starling status --watch              # again every 2 seconds, in place; Ctrl-C ends it
  starling status --watch 10 --json    # a line of JSON every 10 seconds
  starling status --datadir /srv/starling
  starling status --rpc 127.0.0.1:26501 --json

`starling doctor` looks further, also when the node does not run.")]
pub(super) struct StatusArgs {
    /// Show it again every so many seconds, in place.
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    watch: Option<u64>,
    #[command(flatten)]
    node: NodeArgs,
}

impl StatusArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let Some(seconds) = self.watch else {
            let client = self.node.client()?;
            let status = block_on(Status::ask(&client))?;
            return output::print_as(self.node.json, &status, || status.text(&Screen::stdout()));
        };
        watch(repeat(&self.node, Duration::from_secs(seconds))).map(|_ended: End<()>| ExitCode::SUCCESS)
    }
}

/// Shows the status again and again. A node that cannot be asked is not the end: it may be restarting.
async fn repeat(node: &NodeArgs, interval: Duration) -> Result<End<()>, Failure> {
    let in_place = !node.json && std::io::stdout().is_terminal();
    // A wrong flag is an error at once.
    node.client_if_named()?;
    loop {
        let asked = match node.client() {
            Ok(client) => Status::ask(&client).await,
            Err(failure) => Err(failure),
        };
        let screen = Screen::stdout();
        let text = match (&asked, node.json) {
            (Ok(status), true) => serde_json::to_string(status).map_err(Failure::runtime)?,
            (Ok(status), false) => status.text(&screen),
            (Err(failure), false) if in_place => {
                screen.paint(Style::Bad, &screen.wrap(0, &format!("no answer: {}", failure.message())))
            }
            (Err(failure), _) => {
                let time = to_rfc3339(unix_ms());
                output::note(&format!("{time} no answer: {}", failure.message()));
                String::new()
            }
        };
        let shown = match (in_place, node.json) {
            (true, _) => refresh(&text, &screen),
            (false, true) => text,
            (false, false) if text.is_empty() => text,
            (false, false) => text + "\n",
        };
        if output::write(&shown)? == Audience::Gone {
            return Ok(End::Unread);
        }
        tokio::time::sleep(interval).await;
    }
}

/// The text with the terminal's control sequences (ECMA-48) that put it over what was shown before, without flicker: to the top, each
/// line cleared to its end, then everything below. No more lines than there is room for, or the top would scroll away.
fn refresh(text: &str, screen: &Screen) -> String {
    let rows = screen.rows.map_or(usize::MAX, |rows| rows.saturating_sub(1).max(1));
    let lines: String = text.lines().take(rows).map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}

/// What `starling status --json` prints: the answers of several methods together, and what they mean.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) node: NodeReply,
    pub(super) net: NetReply,
    pub(super) ready: ReadyReply,
    pub(super) head: HeadReply,
    pub(super) mempool: MempoolReply,
    pub(super) warnings: Vec<Warning>,
}

impl Status {
    /// Asks a node.
    pub(super) async fn ask(client: &RpcClient) -> Result<Self, Failure> {
        let node = client.node_info().await.map_err(failed)?;
        let net = client.net_info().await.map_err(failed)?;
        let ready = client.ready().await.map_err(failed)?;
        let head = client.chain_head().await.map_err(failed)?;
        let mempool = client.mempool_info().await.map_err(failed)?;
        Ok(Self::new(node, net, ready, head, mempool))
    }

    fn new(node: NodeReply, net: NetReply, ready: ReadyReply, head: HeadReply, mempool: MempoolReply) -> Self {
        let mut status = Self { node, net, ready, head, mempool, warnings: Vec::new() };
        status.warnings = warnings(&status);
        status
    }

    fn text(&self, screen: &Screen) -> String {
        let mut text = String::new();
        for (name, value) in self.rows(screen) {
            text.push_str(&screen.paint(Style::Title, &format!("{name:<NAME_COLUMNS$}")));
            text.push_str(&value);
            text.push('\n');
        }
        let room = screen.rows.map(|rows| rows.saturating_sub(1 + text.lines().count()));
        text + &self.warnings_text(screen, room)
    }

    /// The warnings, in so many lines at most; but the first is always shown.
    fn warnings_text(&self, screen: &Screen, room: Option<usize>) -> String {
        let mut text = String::new();
        for (number, warning) in self.warnings.iter().enumerate() {
            let (label, style) = match warning.severity {
                Severity::Warn => ("warning", Style::Warn),
                Severity::Bad => ("problem", Style::Bad),
            };
            let shown = screen.wrap(NAME_COLUMNS, &format!("{}: {}", warning.what, warning.remedy));
            let left = self.warnings.len() - number;
            // One line is kept for saying that there are more.
            let lines = text.lines().count() + shown.lines().count() + usize::from(left > 1);
            if number > 0 && room.is_some_and(|room| lines > room) {
                text.push_str(&format!("{:<NAME_COLUMNS$}and {left} more; --json has them\n", ""));
                break;
            }
            text.push_str(&screen.paint(style, &format!("{label:<NAME_COLUMNS$}")));
            text.push_str(&shown);
            text.push('\n');
        }
        text
    }

    fn rows(&self, screen: &Screen) -> Vec<(&'static str, String)> {
        let Self { node, net, ready, .. } = self;
        let state = if ready.ready {
            let role = if node.producer.is_some() { ", makes blocks in its turns" } else { "" };
            screen.paint(Style::Good, "ready") + role
        } else {
            let waits = format!("not ready; waits for {}", ready.waiting_for.join("; "));
            screen.paint(Style::Warn, &screen.wrap(NAME_COLUMNS, &waits))
        };
        let software =
            format!("starling {}, up {}, process {}", node.version, format::duration(node.uptime_s), node.pid);
        let mut rows = vec![
            ("state", state),
            ("software", software),
            ("network", format!("{} ({})", node.network_name, short(&node.network_id.to_string()))),
            ("peer id", node.peer_id.clone()),
            ("account", node.account.map_or_else(|| "none".into(), |key| key.to_string())),
            ("peers", self.peers()),
            ("mesh", self.mesh()),
            ("head", self.head()),
            ("mempool", self.mempool()),
            ("disk", self.disk(screen)),
            ("clock", self.clock()),
            (
                "traffic",
                format!("{} in, {} out", format::bytes(net.socket_in_bytes), format::bytes(net.socket_out_bytes)),
            ),
        ];
        if let Some(sync) = &ready.sync {
            let after_head = rows.iter().position(|(name, _)| *name == "head").map_or(rows.len(), |head| head + 1);
            rows.insert(after_head, ("sync", screen.paint(Style::Warn, &sync_text(sync))));
        }
        if let Some(first) = net.listen_addresses.first() {
            // The peer id stands above already.
            let bare = output::printable(first.split("/p2p/").next().unwrap_or(first));
            let more = match net.listen_addresses.len() {
                1 => String::new(),
                all => format!(" and {} more", all - 1),
            };
            rows.push(("listening", bare + &more));
        }
        rows
    }

    fn peers(&self) -> String {
        let net = &self.net;
        let (inbound, outbound) = (u64::from(net.peers_inbound), u64::from(net.peers_outbound));
        format!(
            "{} of {} aimed at ({} at most): {inbound} in, {outbound} out ({}); {} known",
            inbound + outbound,
            net.peers_target,
            net.peers_max,
            format::percent(outbound, inbound + outbound),
            net.peers_known,
        )
    }

    /// Each topic with its degree, of how many that could be in the mesh.
    fn mesh(&self) -> String {
        let topic = |topic: &crate::api::TopicReply| {
            format!("{}s {} of {}", topic.class.name(), topic.mesh_degree, topic.peers_subscribed)
        };
        let topics: Vec<_> = self.net.topics.iter().map(topic).collect();
        format!("{} subscribed peers", topics.join(", "))
    }

    fn head(&self) -> String {
        let head = &self.head;
        let id = short(&head.block_id.to_string());
        if head.height == 0 {
            return format!("height 0: no block yet ({id})");
        }
        let age_s = head.slot_now.saturating_sub(head.slot).saturating_mul(self.node.slot_ms) / 1_000;
        format!("height {} ({id}), slot {}, {} old", head.height, head.slot, format::duration(age_s))
    }

    fn mempool(&self) -> String {
        let pool = &self.mempool;
        let future = match pool.transactions_future {
            0 => String::new(),
            future => format!(" ({future} ahead of turn)"),
        };
        format!(
            "{} of {} transactions{future}, {} of {}",
            pool.transactions,
            pool.transactions_max,
            format::bytes(pool.held_bytes),
            format::bytes(pool.held_bytes_max),
        )
    }

    /// What is on the disk and what room there is; before that why nothing is stored, if so.
    fn disk(&self, screen: &Screen) -> String {
        let disk = &self.ready.disk;
        let free = disk.free_bytes.map_or_else(String::new, |free| format!(", {} free", format::bytes(free)));
        let keeps = match (disk.keep_blocks, disk.keep_bytes.map(format::bytes)) {
            (0, None) => "all".to_owned(),
            (0, Some(bytes)) => format!("{bytes} of them"),
            (last, None) => format!("the last {last}"),
            (last, Some(bytes)) => format!("the last {last}, {bytes} at most"),
        };
        let blocks = match disk.earliest {
            0 => "no block yet".to_owned(),
            earliest => format!("blocks {earliest} to {}, keeps {keeps}", disk.height),
        };
        let figures = format!("{}{free}; {blocks}", format::bytes(disk.file_bytes));
        let StorageState::Failing { cause } = &self.ready.storage else {
            return screen.wrap(NAME_COLUMNS, &format!("ok, {figures}"));
        };
        let unsaved = match disk.unsaved_blocks {
            0 => String::new(),
            blocks => format!("{} to be stored; ", format::counted(blocks, "block")),
        };
        let failing = screen.paint(Style::Bad, &screen.wrap(NAME_COLUMNS, &format!("failing: {cause}")));
        format!("{failing}\n{:NAME_COLUMNS$}{}", "", screen.wrap(NAME_COLUMNS, &(unsaved + &figures)))
    }

    fn clock(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "a slot lasts seconds")]
        let slot_s = self.node.slot_ms as f64 / 1e3;
        let doubt = match self.ready.clock {
            ClockState::Ok | ClockState::Stepped { .. } => String::new(),
            ClockState::Unset => ", never set".into(),
            ClockState::BeforeStart { seconds } => format!(", the network begins in {}", format::duration(seconds)),
            ClockState::Behind { seconds } => format!(", {} behind the blocks", format::duration(seconds)),
        };
        format!("slot {} of {slot_s} s each{doubt}", self.head.slot_now)
    }
}

/// How far a node that catches up has come, how fast, and how long it will take.
fn sync_text(sync: &SyncReply) -> String {
    let mut text = format!("at {} of {} ({})", sync.height, sync.target, format::percent(sync.height, sync.target));
    match sync.state {
        SyncState::Idle => text.push_str(", nobody to ask at the moment"),
        SyncState::Headers => text.push_str(&format!(", headers from {}", format::counted(sync.peers.into(), "peer"))),
        SyncState::Blocks => text.push_str(&format!(", from {}", format::counted(sync.peers.into(), "peer"))),
    }
    if let Some(rate) = sync.blocks_per_s.filter(|rate| *rate > 0.0) {
        text.push_str(&format!(", {rate:.0} blocks/s"));
    }
    if let Some(left_s) = sync.remaining_s {
        text.push_str(&format!(", {} left", format::duration(left_s)));
    }
    text
}

/// The first digits of an identifier.
fn short(id: &str) -> String {
    match id.get(..16) {
        Some(first) if id.len() > 16 => format!("{first}…"),
        _ => id.to_owned(),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::healthy;
