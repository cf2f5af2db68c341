//! How fast the simulator is and what it keeps in memory, on the preset [`Scenario::scale`].
//!
//! ```text
//! cargo bench -p starling-testnet --no-default-features --bench simulator [-- NODES...] [--encode]
//! ```
//!
//! An event is an input that consumed a link delivery, a verdict or a due timer. Time is processor time of the one thread, so
//! that a busy host counts less; the warm-up, in which the network connects, is reported apart.

use mimalloc::MiMalloc;
use starling_protocol::time::Time;
use starling_testnet::sim::{Scenario, World};

/// The one of the binary.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() {
    starling_testnet::pages::keep();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let encode = arguments.iter().any(|argument| argument == "--encode");
    let sizes: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 10_000] } else { sizes };
    for nodes in sizes {
        measure(Scenario { encode, ..Scenario::scale(nodes, 1) });
    }
}

fn measure(scenario: Scenario) {
    let (nodes, warm_up) = (scenario.nodes, scenario.warm_up);
    println!("{nodes} nodes");
    let empty = resident_bytes();
    let mut world = World::new(scenario);
    let built = resident_bytes();
    let began_s = processor_s();
    world.run_until(Time::ZERO + warm_up);
    let (warm_s, warm) = (processor_s(), resident_bytes());
    let warm_events = world.counts().engine();
    world.run();
    let (counts, spent_s) = (world.counts(), processor_s() - warm_s);
    let events = counts.engine() - warm_events;
    println!("  {counts:?}");
    println!("  {:?}", world.wire());
    println!(
        "  warm-up {:.2} s; run {spent_s:.2} s, {:.3} million events a second",
        warm_s - began_s,
        events as f64 / spent_s / 1e6
    );
    let kib = |from: u64, to: u64| to.saturating_sub(from) as f64 / nodes as f64 / 1_024.0;
    println!(
        "  resident: {:.1} KiB a node when built, {:.1} when connected, {:.1} at the end",
        kib(empty, built),
        kib(empty, warm),
        kib(empty, resident_bytes())
    );
    let resident_kib = kib(empty, resident_bytes());
    let mut rest_kib = resident_kib;
    print!("  ledger, KiB a node:");
    for (component, bytes) in world.memory() {
        let component_kib = bytes as f64 / nodes as f64 / 1_024.0;
        rest_kib -= component_kib;
        print!(" {component} {component_kib:.1},");
    }
    println!(" not accounted for {rest_kib:.1}");
    let messages = world.observer().messages();
    let mut arrivals_us: Vec<u32> = messages.iter().flat_map(|message| message.arrivals_us()).collect();
    arrivals_us.sort_unstable();
    let quantile = |percent: usize| arrivals_us.get(arrivals_us.len() * percent / 100).copied().unwrap_or(0);
    println!(
        "  {} of {} deliveries, p50 {} us, p99 {} us, max {} us, {:.2} copies each",
        arrivals_us.len(),
        messages.len() * (nodes - 1),
        quantile(50),
        quantile(99),
        arrivals_us.last().copied().unwrap_or(0),
        (arrivals_us.len() as f64 + world.observer().duplicates as f64) / arrivals_us.len().max(1) as f64
    );
    println!("  trace {}", world.trace());
}

/// Bytes of memory in use by this process, as Linux counts them; zero elsewhere.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1_024
}

/// Seconds for which this thread has run, as Linux counts them; zero elsewhere.
fn processor_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
