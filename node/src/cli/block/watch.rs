//! `starling block watch`: a line for each block of the canonical chain, as it grows and as it is reorganised.
//!
//! The watch keeps the names of the last [`KNOWN_MAX`] canonical blocks. Whenever the head is another, it walks back from the
//! new head until it meets one that it knows: what it knew above that was undone, what it met on the way is new. So nothing is
//! missed when the node is restarted or reorganises its chain while it cannot be asked, as long as no more than
//! [`WALK_MAX`] blocks came meanwhile; then the watch says that it left some out.

use crate::api::{BlockReply, BlockSelector};
use crate::cli::output::{self, Audience, Screen, format};
use crate::cli::watch::{End, Steady, watch};
use crate::cli::{Failure, NodeArgs};
use clap::Args;
use serde::Serialize;
use starling_protocol::id::BlockId;
use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

/// How often the node is asked for its head. A slot lasts seconds.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Canonical blocks whose names are kept.
const KNOWN_MAX: usize = 1_024;

/// A line with a whole block id needs about so many columns.
const WIDE_COLUMNS: usize = 125;

/// Blocks that are fetched on the way back from a new head.
const WALK_MAX: usize = 256;

#[derive(Debug, Args)]
pub(in crate::cli) struct WatchArgs {
    /// Begin with the block at this height instead of the next one.
    #[arg(long, value_name = "HEIGHT", value_parser = clap::value_parser!(u64).range(1..))]
    from: Option<u64>,
    #[command(flatten)]
    node: NodeArgs,
}

/// A line of the watch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    /// The block is canonical now.
    Adopted(BlockReply),
    /// The block is canonical no more.
    Undone {
        /// Its height.
        height: u64,
        /// Its id.
        block_id: BlockId,
    },
    /// Blocks came that are not shown.
    Skipped {
        /// The first height that is not shown.
        from_height: u64,
        /// The last one.
        to_height: u64,
    },
}

impl WatchArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        watch(self.follow()).map(|_ended: End<()>| ExitCode::SUCCESS)
    }

    async fn follow(&self) -> Result<End<()>, Failure> {
        let mut steady = Steady::new(&self.node)?;
        let head = steady.ask(async |client| client.chain_head().await).await?;
        let mut known = Known::default();
        match self.from {
            None => known.push(head.height, head.block_id),
            Some(from) => {
                if self.past(&mut steady, from, &mut known).await? == Audience::Gone {
                    return Ok(End::Unread);
                }
            }
        }
        loop {
            let head = steady.ask(async |client| client.chain_head().await).await?;
            if known.last() != Some((head.height, head.block_id)) {
                let way = walk(&mut steady, &known, head.block_id).await?;
                for line in known.take(way) {
                    if self.tell(&line)? == Audience::Gone {
                        return Ok(End::Unread);
                    }
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Tells of the canonical blocks that are there already, from a height on.
    async fn past(&self, steady: &mut Steady<'_>, from: u64, known: &mut Known) -> Result<Audience, Failure> {
        for height in from.. {
            let found = steady.ask(async |client| client.chain_block(BlockSelector::Height(height)).await).await?;
            let Some(block) = found else { break };
            known.push(block.height, block.block_id);
            if self.tell(&Line::Adopted(block))? == Audience::Gone {
                return Ok(Audience::Gone);
            }
        }
        Ok(Audience::There)
    }

    fn tell(&self, line: &Line) -> Result<Audience, Failure> {
        let text = if self.node.json {
            serde_json::to_string(line).map_err(Failure::runtime)?
        } else {
            line.text(&Screen::stdout())
        };
        output::write(&text)
    }
}

/// The blocks from a head back to one that is known, the head first. Ends early at [`WALK_MAX`] blocks, and where the node
/// has no more.
async fn walk(steady: &mut Steady<'_>, known: &Known, head: BlockId) -> Result<Vec<BlockReply>, Failure> {
    let (mut way, mut next) = (Vec::new(), head);
    while way.len() < WALK_MAX && !known.contains(next) {
        let found = steady.ask(async |client| client.chain_block(BlockSelector::Id(next)).await).await?;
        let Some(block) = found else { break };
        next = block.parent_id;
        way.push(block);
    }
    Ok(way)
}

/// The names of the last canonical blocks, lowest first.
#[derive(Debug, Default)]
struct Known {
    blocks: VecDeque<(u64, BlockId)>,
}

impl Known {
    fn last(&self) -> Option<(u64, BlockId)> {
        self.blocks.back().copied()
    }

    fn contains(&self, id: BlockId) -> bool {
        self.blocks.iter().rev().any(|(_, known)| *known == id)
    }

    fn push(&mut self, height: u64, id: BlockId) {
        if self.blocks.len() == KNOWN_MAX {
            self.blocks.pop_front();
        }
        self.blocks.push_back((height, id));
    }

    /// Takes in the way back from a new head, and says what there is to tell.
    fn take(&mut self, way: Vec<BlockReply>) -> Vec<Line> {
        let Some(lowest) = way.last() else { return Vec::new() };
        let (meets, first_height) = (lowest.parent_id, lowest.height);
        let mut lines = Vec::new();
        if self.contains(meets) {
            while let Some((height, block_id)) = self.last().filter(|(_, id)| *id != meets) {
                lines.push(Line::Undone { height, block_id });
                self.blocks.pop_back();
            }
        } else if let Some((last_height, _)) = self.last() {
            // What became of the blocks in between cannot be known from here.
            if last_height + 1 < first_height {
                lines.push(Line::Skipped { from_height: last_height + 1, to_height: first_height - 1 });
            }
            self.blocks.clear();
        }
        for block in way.into_iter().rev() {
            self.push(block.height, block.block_id);
            lines.push(Line::Adopted(block));
        }
        lines
    }
}

impl Line {
    /// One line; on a narrow screen the block's id is cut, which `starling block get HEIGHT` has whole.
    fn text(&self, screen: &Screen) -> String {
        let name = |id: &BlockId| {
            let id = id.to_string();
            match (screen.columns, id.get(..16)) {
                (Some(..WIDE_COLUMNS), Some(first)) => format!("{first}…"),
                _ => id,
            }
        };
        match self {
            Self::Adopted(block) => format!(
                "height {}  slot {}  {}  {}  by {}…  {}",
                block.height,
                block.slot,
                format::counted(block.transactions.len() as u64, "transaction"),
                format::bytes(block.encoded_bytes),
                block.producer.to_string().get(..8).unwrap_or_default(),
                name(&block.block_id),
            ),
            Self::Undone { height, block_id } => format!("undone: height {height}  {}", name(block_id)),
            Self::Skipped { from_height, to_height } => {
                format!("heights {from_height} to {to_height} are not shown; `starling block get HEIGHT` shows them")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_crypto::{Digest, SecretKey};

    fn id(name: &str) -> BlockId {
        let mut bytes = [0; 32];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        BlockId(Digest::from(bytes))
    }

    fn block(height: u64, name: &str, parent: &str) -> BlockReply {
        BlockReply {
            block_id: id(name),
            height,
            slot: height * 2,
            parent_id: id(parent),
            transaction_root: Digest::ZERO,
            producer: SecretKey::from_seed(&[1; 32]).public_key().to_bytes(),
            canonical: true,
            encoded_bytes: 1_234,
            transactions: Vec::new(),
        }
    }

    fn known(names: &[&str]) -> Known {
        let mut known = Known::default();
        for (height, name) in (1..).zip(names) {
            known.push(height, id(name));
        }
        known
    }

    #[test]
    fn a_chain_that_grows_has_a_line_a_block_lowest_first() {
        let mut known = known(&["a"]);
        let lines = known.take(vec![block(3, "c", "b"), block(2, "b", "a")]);
        assert_eq!(lines, [Line::Adopted(block(2, "b", "a")), Line::Adopted(block(3, "c", "b"))]);
        assert_eq!(known.last(), Some((3, id("c"))));
        assert_eq!(known.take(Vec::new()), []);
    }

    #[test]
    fn a_reorganisation_undoes_highest_first_before_it_adopts() {
        let mut known = known(&["a", "b", "c"]);
        let lines = known.take(vec![block(3, "y", "x"), block(2, "x", "a")]);
        let undone = |height, name| Line::Undone { height, block_id: id(name) };
        assert_eq!(
            lines,
            [undone(3, "c"), undone(2, "b"), Line::Adopted(block(2, "x", "a")), Line::Adopted(block(3, "y", "x"))]
        );
        assert!(!known.contains(id("b")) && known.contains(id("a")));
    }

    #[test]
    fn a_gap_is_told() {
        let mut known = known(&["a"]);
        let lines = known.take(vec![block(9, "i", "h")]);
        assert_eq!(lines, [Line::Skipped { from_height: 2, to_height: 8 }, Line::Adopted(block(9, "i", "h"))]);
        assert_eq!(known.last(), Some((9, id("i"))));
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut known = Known::default();
        for height in 0..2 * KNOWN_MAX as u64 {
            known.push(height, id("x"));
        }
        assert_eq!(known.blocks.len(), KNOWN_MAX);
    }

    #[test]
    fn lines_say_what_matters() {
        let text = Line::Adopted(block(7, "g", "f")).text(&Screen::default());
        assert!(text.starts_with("height 7  slot 14  0 transactions  1.2 KiB  by 8a88e3dd…  67"), "{text}");
        let narrow = Line::Adopted(block(7, "g", "f")).text(&Screen::of(80));
        assert!(narrow.chars().count() <= 80 && narrow.ends_with('…'), "{narrow}");
        let json = serde_json::to_value(Line::Adopted(block(7, "g", "f"))).expect("JSON");
        assert_eq!((&json["event"], &json["height"]), (&"adopted".into(), &7.into()));
        assert!(Line::Undone { height: 7, block_id: id("g") }.text(&Screen::default()).starts_with("undone: height 7"));
    }
}
