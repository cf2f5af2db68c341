//! The CSV files of a run: everything raw, one row a fact, for spreadsheets and scripts.
//!
//! Fields are separated by commas and never quoted: identifiers are hexadecimal or base 58, and names of regions have
//! their commas replaced. Times are microseconds of the nodes' monotonic clock, as in the traces.

use std::fmt::Write;

use super::Run;
use crate::measure::{Class, How, Message, Outcome};

/// `deliveries.csv`: one row for every delivery, over the mesh or only inside a block.
///
/// Columns: `message` (id), `class`, `origin` and `node` (names as in the manifest), `t0`, `arrival` and `accepted` (in
/// microseconds; `accepted` is empty if the node did not accept the message in time), `from` (a name, empty if unknown),
/// `hops` (empty if unknown), `how` (`pushed`, `pulled` or `in_block`), `copies`.
#[must_use]
pub fn deliveries(run: &Run) -> String {
    let mut csv = String::from("message,class,origin,node,t0,arrival,accepted,from,hops,how,copies\n");
    for message in run.deliveries.messages() {
        let hops = message.hops();
        for (node, reception) in message.receptions.iter().enumerate() {
            let (arrival_us, from, how) = match run.deliveries.outcome(message, node) {
                Outcome::Delivered(arrival) => (arrival.t_us, arrival.from, how(arrival.how)),
                Outcome::InBlock(t_us) => (t_us, None, "in_block"),
                Outcome::Origin | Outcome::Missing | Outcome::Absent => continue,
            };
            let from = from.map_or("", |from| name(run, from));
            let accepted = reception.accepted_us.map_or_else(String::new, |t_us| t_us.to_string());
            let hops = hops[node].map_or_else(String::new, |hops| hops.to_string());
            writeln!(
                csv,
                "{},{arrival_us},{accepted},{from},{hops},{how},{}",
                subject(run, message, node),
                reception.copies
            )
            .expect("writing to a string");
        }
    }
    csv
}

/// `missing.csv`: one row for every expected delivery that did not happen over the mesh.
///
/// Columns: `message`, `class`, `origin`, `node`, `t0` as in `deliveries.csv`, and `in_block`: `yes` if the node saw the
/// message inside a block that was sent to it, `later` if it has it in the end from blocks that it fetched (only simulations know
/// that), `no` otherwise.
#[must_use]
pub fn missing(run: &Run) -> String {
    let mut csv = String::from("message,class,origin,node,t0,in_block\n");
    for (message, node, in_block) in run.deliveries.missing() {
        let in_block = match in_block {
            true => "yes",
            false if run.deliveries.came_with_the_chain(message, node) => "later",
            false => "no",
        };
        writeln!(csv, "{},{in_block}", subject(run, message, node)).expect("writing to a string");
    }
    csv
}

/// `nodes.csv`: one row for every node, what it is and what it used from the start of the load to the end of the drain.
#[must_use]
pub fn nodes(run: &Run) -> String {
    let mut csv = String::from(
        "node,region,ip,peer_id,producer,last_mile_us,uplink_bits_per_s,published,mesh_degree_transaction,\
         mesh_degree_block,frame_bytes_in,frame_bytes_out,socket_bytes_in,socket_bytes_out,cpu_us,rss_kib_max,\
         lag_p99_us,lost\n",
    );
    for (node, (facts, usage)) in run.manifest.node.iter().zip(&run.nodes).enumerate() {
        let published = run.deliveries.messages().iter().filter(|message| message.origin == node).count();
        let bytes = usage.activity.bytes;
        writeln!(
            csv,
            "{},{},{},{},{},{},{},{published},{},{},{},{},{},{},{},{},{},{}",
            facts.name,
            facts.region.replace(',', ";"),
            facts.ip,
            facts.peer_id,
            facts.producer,
            facts.last_mile_us,
            facts.uplink_bits_per_s.map_or_else(String::new, |rate| rate.to_string()),
            usage.activity.degrees[Class::Transaction.index()],
            usage.activity.degrees[Class::Block.index()],
            bytes.frame_in,
            bytes.frame_out,
            bytes.socket_in,
            bytes.socket_out,
            usage.cpu_us,
            usage.rss_kib_max,
            usage.activity.lag_p99_us.map_or_else(String::new, |lag_us| lag_us.to_string()),
            usage.lost,
        )
        .expect("writing to a string");
    }
    csv
}

/// The columns that say which delivery a row is about.
fn subject(run: &Run, message: &Message, node: usize) -> String {
    let (origin, receiver) = (name(run, message.origin), name(run, node));
    format!("{},{},{origin},{receiver},{}", message.id, message.class, message.t0_us)
}

fn name(run: &Run, node: usize) -> &str {
    &run.manifest.node[node].name
}

fn how(how: How) -> &'static str {
    match how {
        How::Pushed => "pushed",
        How::Pulled => "pulled",
    }
}
