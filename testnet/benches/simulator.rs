//! crude
use starling_testnet::sim::{Scenario, World};
use std::time::Instant;

fn main() {
    let nodes = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1000);
    let began = Instant::now();
    let mut world = World::new(Scenario::scale(nodes, 1));
    println!("built in {:?}, {}", began.elapsed(), rss());
    let cpu0 = cpu_s();
    world.run_until(starling_protocol::time::Time::from_secs(15));
    println!("warm: cpu {:.2} {:?} {}", cpu_s() - cpu0, world.counts(), rss());
    let cpu1 = cpu_s();
    let before = world.counts().engine();
    world.run();
    let spent = cpu_s() - cpu1;
    let counts = world.counts();
    println!("run: cpu {:.2} s, {:?}, {:.3} M events/s, {}", spent, counts, (counts.engine() - before) as f64 / spent / 1e6, rss());
    println!("trace {}", world.trace());
    let mut all: Vec<u32> = world.observer().messages().iter().flat_map(|m| m.arrivals_us.iter().copied()).collect();
    all.sort_unstable();
    let expected = world.observer().messages().len() * (nodes - 1);
    if !all.is_empty() {
    println!("messages {} coverage {}/{} p50 {} p99 {} max {} us, dup {} refused {}", world.observer().messages().len(), all.len(), expected, all[all.len()/2], all[all.len()*99/100], all[all.len()-1], world.observer().duplicates, world.observer().refused);
    }
}

fn rss() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("").to_owned()
}

fn cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
