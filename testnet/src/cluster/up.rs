//! A network to play with: it runs until it is interrupted.

use std::fs;

use comfy_table::{ContentArrangement, Table, presets};
use tokio::time::Instant;

use super::fleet::Fleet;
use super::load::Load;
use super::phases::{bring_up, interruption};
use super::plan::Plan;
use super::progress::Progress;
use super::{ClusterError, Options, file_error, host};

/// As good as for ever, and still a time that can be added to the present.
const FOR_EVER: std::time::Duration = std::time::Duration::from_secs(10 * 365 * 86_400);

/// The table needs so many columns with whole peer ids.
const WIDE_COLUMNS: u16 = 104;

/// Starts a network, prints a table of its nodes, and keeps it running until SIGINT or SIGTERM.
///
/// # Errors
/// If the options cannot be met, a node does not start, the mesh does not form, or a file cannot be written. No node is
/// left running in any case.
pub async fn up(options: &Options) -> Result<(), ClusterError> {
    let progress = Progress::new();
    let mut fleet = Fleet::new(options)?;
    let plan = Plan::new(options, host::unix_us() / 1_000)?;
    plan.write(options)?;
    let outcome = tokio::select! {
        failed = keep_up(&plan, options, &mut fleet, &progress) => failed.map(|never| match never {}),
        interrupted = interruption() => Err(interrupted),
    };
    progress.finish();
    note!("stopping {} nodes", options.nodes);
    fleet.stop().await;
    match outcome {
        Ok(()) | Err(ClusterError::Interrupted(_)) => {
            if !options.keep {
                let data = options.out.join("nodes");
                fs::remove_dir_all(&data).map_err(file_error("remove", data))?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Only ever returns an error.
async fn keep_up(
    plan: &Plan,
    options: &Options,
    fleet: &mut Fleet,
    progress: &Progress,
) -> Result<std::convert::Infallible, ClusterError> {
    bring_up(plan, options, fleet, progress).await?;
    progress.finish();
    say!("{}", table(plan, fleet));
    say!("genesis  {}", options.out.join("genesis.toml").display());
    say!("logs     {}", options.out.join("logs").display());
    if let Some(rpc) = fleet.nodes().iter().find_map(|node| Some(node.addresses.as_ref()?.rpc)) {
        say!("try      starling tx send hello --wait --rpc {rpc}");
        say!("         starling status --rpc {rpc}");
        say!("metrics  http://{rpc}/metrics, and so at every node's RPC address");
    }
    say!("Ctrl-C stops the network.");
    let targets = fleet.rpc_clients();
    let (start, mut known_lost) = (Instant::now(), 0);
    let span = (start, start + FOR_EVER);
    let mut load = Load::new(&plan.genesis, targets, options.tx_rate, options.tx_bytes, options.seed, span);
    loop {
        load.run_until(Instant::now() + std::time::Duration::from_secs(1)).await;
        let lost = fleet.lost();
        for (_, reason) in lost.iter().skip(known_lost) {
            note!("{reason}");
        }
        known_lost = known_lost.max(lost.len());
    }
}

/// The nodes, a line each. On a narrow terminal the peer ids lose their middles; `starling status` of each node has its own whole.
fn table(plan: &Plan, fleet: &Fleet) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["node", "region", "RPC", "peer id"]);
    let narrow = table.width().is_some_and(|columns| columns < WIDE_COLUMNS);
    for (number, node) in fleet.nodes().iter().enumerate() {
        let Some(addresses) = &node.addresses else { continue };
        table.add_row([
            node.name.clone(),
            plan.topology.region_name(number).to_owned(),
            addresses.rpc.to_string(),
            if narrow { shortened(&addresses.peer_id) } else { addresses.peer_id.clone() },
        ]);
    }
    table
}

/// A peer id without its middle: all begin alike, so the end tells them apart.
fn shortened(peer_id: &str) -> String {
    let end = peer_id.len().saturating_sub(8);
    match (peer_id.get(..8), peer_id.get(end..)) {
        (Some(first), Some(last)) if peer_id.len() > 17 => format!("{first}…{last}"),
        _ => peer_id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_peer_id_keeps_the_end_that_tells_it_apart() {
        assert_eq!(shortened("12D3KooWHyku2BBBqEaCYPbayhhTne15vYwV3P7YFTLrwVb2dmo4"), "12D3KooW…wVb2dmo4");
        assert_eq!(shortened("short"), "short");
    }
}
