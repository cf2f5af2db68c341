//! `starling peers`: whom a running node is connected with.
//!
//! On a narrow screen identifiers lose their middle; a file or a pipe gets them whole. `peers show` takes any part of an
//! identifier that only one peer has, so what a narrow table shows can be typed back.

use super::ask::failed;
use super::output::{self, Cell, Column, Screen, Style, Table, format};
use super::{Failure, NodeArgs, block_on};
use crate::api::{MessageClass, PeerDirection, PeerReply, ScoreReply};
use clap::{Args, Subcommand, ValueEnum};
use std::cmp::Ordering;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  starling peers
  starling peers --sort rtt
  starling peers --rpc 127.0.0.1:26501 --json    # with the scores broken down
  starling peers show tne15YwV                   # one peer; any part of its id will do
  starling peers bans                            # who is kept out"
)]
pub(super) struct PeersArgs {
    #[command(subcommand)]
    command: Option<PeersCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum PeersCommand {
    /// Show one peer, with its score broken down.
    #[command(after_help = "\
Examples:
  starling peers show 12D3KooWHyku2BBBqEaCYPbayhhTne15vYwV3P7YFTLrwVb2dmo4
  starling peers show wVb2dmo4 --json    # any part of the id that only one peer has")]
    Show {
        /// The peer's id, or a part of it.
        peer: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    #[command(flatten)]
    Bans(super::bans::BansCommand),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// What to sort by: the best score, shortest round trip, longest connection, most bytes, or the peer id first.
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Sort {
    #[default]
    Score,
    Rtt,
    Age,
    Bytes,
    Id,
}

impl PeersArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            None => self.list.run(),
            Some(PeersCommand::Show { peer, node }) => show(&peer, &node),
            Some(PeersCommand::Bans(command)) => command.run(),
        }
    }
}

impl ListArgs {
    fn run(self) -> Result<ExitCode, Failure> {
        let client = self.node.client()?;
        let mut peers = block_on(async { client.net_peers().await.map_err(failed) })?;
        peers.sort_by(|a, b| self.sort.compare(a, b));
        output::print_as(self.node.json, &peers, || list_text(&peers, &Screen::stdout()))
    }
}

impl Sort {
    /// Ties are broken by the peer id, so that the order is the same each time.
    fn compare(self, a: &PeerReply, b: &PeerReply) -> Ordering {
        let order = match self {
            Self::Score => b.score.total.total_cmp(&a.score.total),
            Self::Rtt => a.rtt_ms.unwrap_or(f64::INFINITY).total_cmp(&b.rtt_ms.unwrap_or(f64::INFINITY)),
            Self::Age => b.connected_s.cmp(&a.connected_s),
            Self::Bytes => traffic_bytes(b).cmp(&traffic_bytes(a)),
            Self::Id => Ordering::Equal,
        };
        order.then_with(|| a.peer_id.cmp(&b.peer_id))
    }
}

fn traffic_bytes(peer: &PeerReply) -> u64 {
    peer.frame_in_bytes.saturating_add(peer.frame_out_bytes)
}

fn list_text(peers: &[PeerReply], screen: &Screen) -> String {
    if peers.is_empty() {
        return "no peers; is the node given --bootnodes, and can it reach them?\n".into();
    }
    let mut table = Table::new([
        Column::left("peer").cut_middle_to(9),
        Column::left("dir"),
        Column::left("address").cut_to(18),
        Column::right("rtt ms"),
        Column::right("age"),
        Column::right("bytes"),
        Column::left("mesh"),
        Column::right("score"),
        Column::left("agent").cut_to(8),
    ]);
    for peer in peers {
        table.row([
            peer.peer_id.as_str().into(),
            direction(peer.direction).into(),
            short_address(&peer.address).into(),
            peer.rtt_ms.map_or_else(|| "-".into(), |rtt| format!("{rtt:.1}")).into(),
            format::age(peer.connected_s).into(),
            format::bytes(traffic_bytes(peer)).into(),
            mesh_mark(&peer.mesh).into(),
            Cell::styled(format!("{:.2}", peer.score.total), score_style(&peer.score)),
            peer.agent.as_deref().unwrap_or("-").into(),
        ]);
    }
    let mut text = table.text(screen);
    for peer in peers {
        if let Some(reasons) = reasons(&peer.score) {
            let end = peer.peer_id.len().saturating_sub(8);
            let note = format!("…{} scores below zero: {reasons}", peer.peer_id.get(end..).unwrap_or(&peer.peer_id));
            text.push_str(&screen.paint(Style::Warn, &screen.wrap(0, &note)));
            text.push('\n');
        }
    }
    text
}

fn direction(direction: PeerDirection) -> &'static str {
    match direction {
        PeerDirection::Inbound => "in",
        PeerDirection::Outbound => "out",
    }
}

/// In whose meshes a peer is: `t` for transactions, `b` for blocks.
fn mesh_mark(mesh: &[MessageClass]) -> String {
    let mark = |class: &MessageClass| class.name().chars().next();
    if mesh.is_empty() { "-".into() } else { mesh.iter().filter_map(mark).collect() }
}

/// `192.0.2.1:26500` for `/ip4/192.0.2.1/tcp/26500`; with `/quic` behind it over QUIC; anything else as it is. The peer id at
/// the end of an address that was dialled stands in the row already.
fn short_address(multiaddr: &str) -> String {
    let multiaddr = multiaddr.split("/p2p/").next().unwrap_or(multiaddr);
    let parts: Vec<&str> = multiaddr.split('/').collect();
    let socket = |family: &str, host: &str, port: &str| match family {
        "ip6" => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    };
    match parts[..] {
        ["", family @ ("ip4" | "ip6"), host, "tcp", port] => socket(family, host, port),
        ["", family @ ("ip4" | "ip6"), host, "udp", port, "quic-v1"] => format!("{}/quic", socket(family, host, port)),
        _ => multiaddr.to_owned(),
    }
}

fn score_style(score: &ScoreReply) -> Style {
    if score.total < 0.0 { Style::Bad } else { Style::Plain }
}

/// What lowers a score that is below zero, the worst first.
fn reasons(score: &ScoreReply) -> Option<String> {
    if score.total >= 0.0 {
        return None;
    }
    let mut parts = parts(score);
    parts.retain(|(_, value)| *value < 0.0);
    parts.sort_by(|a, b| a.1.total_cmp(&b.1));
    let texts: Vec<_> = parts.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
    Some(texts.join(", "))
}

/// Every part of a score with its name in words.
fn parts(score: &ScoreReply) -> Vec<(String, f64)> {
    let mut parts = Vec::new();
    for topic in &score.topics {
        let class = topic.class.name();
        parts.extend([
            (format!("time in the {class} mesh"), topic.time_in_mesh),
            (format!("first {class} deliveries"), topic.first_deliveries),
            (format!("too few {class} deliveries"), topic.mesh_deficit),
            (format!("earlier {class} mesh failures"), topic.mesh_failures),
            (format!("invalid {class}s"), topic.invalid_messages),
        ]);
    }
    parts.extend([
        ("set by the application".to_owned(), score.application),
        ("address shared with others".to_owned(), score.ip_colocation),
        ("breaches of the protocol".to_owned(), score.behaviour),
    ]);
    parts
}

fn show(part: &str, node: &NodeArgs) -> Result<ExitCode, Failure> {
    let client = node.client()?;
    let peers = block_on(async { client.net_peers().await.map_err(failed) })?;
    let peer = find(&peers, part)?;
    output::print_as(node.json, peer, || peer_text(peer, &Screen::stdout()))
}

/// The one peer whose id contains this; with `…` in it, begins and ends so.
fn find<'a>(peers: &'a [PeerReply], part: &str) -> Result<&'a PeerReply, Failure> {
    let matches = |peer: &&PeerReply| match part.split_once('…') {
        Some((first, last)) => peer.peer_id.starts_with(first) && peer.peer_id.ends_with(last),
        None => peer.peer_id.contains(part),
    };
    let found: Vec<_> = peers.iter().filter(matches).collect();
    match found[..] {
        [peer] => Ok(peer),
        [] => Err(Failure::Runtime(format!(
            "the node is not connected with a peer {part:?}; `starling peers` lists those it is connected with"
        ))),
        _ => Err(Failure::Usage(format!(
            "{part:?} is part of the ids of {}; give more of the id, of which the end differs most",
            format::counted(found.len() as u64, "peer")
        ))),
    }
}

fn peer_text(peer: &PeerReply, screen: &Screen) -> String {
    let classes = |classes: &[MessageClass]| {
        let names: Vec<_> = classes.iter().map(|class| class.name()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let mut text = output::fields(&[
        ("peer", peer.peer_id.clone()),
        ("address", peer.address.clone()),
        (
            "direction",
            match peer.direction {
                PeerDirection::Inbound => "in: it dialled this node".to_owned(),
                PeerDirection::Outbound => "out: this node dialled it".to_owned(),
            },
        ),
        ("connected", format::duration(peer.connected_s)),
        ("agent", output::printable(peer.agent.as_deref().unwrap_or("-"))),
        ("protocol", peer.protocol.clone()),
        ("round trip", peer.rtt_ms.map_or_else(|| "not measured yet".into(), |rtt| format!("{rtt:.1} ms"))),
        ("subscribed", classes(&peer.subscribed)),
        ("in the mesh", classes(&peer.mesh)),
        ("received", format::bytes(peer.frame_in_bytes)),
        ("sent", format!("{}, {} waiting", format::bytes(peer.frame_out_bytes), format::bytes(peer.queue_bytes))),
        ("score", screen.paint(score_style(&peer.score), &format!("{:.2}", peer.score.total))),
    ]);
    for (name, value) in parts(&peer.score).into_iter().filter(|(_, value)| *value != 0.0) {
        let style = if value < 0.0 { Style::Warn } else { Style::Plain };
        text.push_str(&format!("{}  {name}\n", screen.paint(style, &format!("{value:>12.2}"))));
    }
    text
}

#[cfg(test)]
mod tests;
