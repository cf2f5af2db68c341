//! The running node: what it says of itself, and whether others can reach it.

use super::{Finding, Patient};
use crate::api::{ExternalAddress, NetReply, NodeReply, ReachVerdict};
use crate::cli::status::{Severity, Status};
use crate::cli::{Failure, NodeArgs};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use std::net::IpAddr;

/// After this time a node that can be reached has been dialled by somebody.
const INBOUND_EXPECTED_S: u64 = 600;

pub(super) async fn check(args: &NodeArgs, patient: Option<&Patient>) -> Result<Vec<Finding>, Failure> {
    let client = args.client()?;
    let status = match Status::ask(&client).await {
        Ok(status) => status,
        Err(failure) => return Ok(vec![Finding::failed("node", failure.message())]),
    };
    let mut findings = vec![identity(&status, patient)];
    if status.ready.ready {
        findings.push(Finding::ok("node", "ready: it takes part in the mesh of every topic"));
    }
    for waiting in &status.ready.waiting_for {
        findings.push(Finding::warn(
            "node",
            format!("not ready; waits for {waiting}"),
            "`starling status` shows how it goes on",
        ));
    }
    for warning in &status.warnings {
        let make = if warning.severity == Severity::Bad { Finding::fail } else { Finding::warn };
        findings.push(make("node", warning.what.as_str(), warning.remedy.as_str()));
    }
    findings.push(reach(&status.node, &status.net));
    Ok(findings)
}

/// Whether the node is the one of the data directory.
fn identity(status: &Status, patient: Option<&Patient>) -> Finding {
    let node = &status.node;
    let own = env!("CARGO_PKG_VERSION");
    let genesis = patient.and_then(|patient| patient.genesis.as_ref());
    if let Some(genesis) = genesis.filter(|genesis| genesis.network_id() != node.network_id) {
        return Finding::fail(
            "node",
            format!("it runs on network {}, and the genesis file is that of {}", node.network_id, genesis.network_id()),
            "restart it with the genesis that it is meant to have, or give the other one's --datadir",
        );
    }
    let what = format!("process {} runs version {} on network {}", node.pid, node.version, node.network_name);
    if node.version == own {
        return Finding::ok("node", what);
    }
    Finding::warn("node", format!("{what}; this program has version {own}"), "restart the node to run the same version")
}

/// Whether others can dial the node, as far as it shows.
fn reach(node: &NodeReply, net: &NetReply) -> Finding {
    let external = |verdict| net.external_addresses.iter().find(|external| external.verdict == verdict);
    if let Some(ExternalAddress { address, .. }) = external(ReachVerdict::Confirmed) {
        return Finding::ok("reach", format!("another node tried {address} and reached this one"));
    }
    if net.peers_inbound > 0 {
        return Finding::ok("reach", format!("{} of the peers dialled this node", net.peers_inbound));
    }
    if let Some(ExternalAddress { address, .. }) = external(ReachVerdict::Failed) {
        return Finding::warn(
            "reach",
            format!("peers see this node at {address}, where another node tried to reach it in vain"),
            "let the router forward the ports for peers to this host, TCP and UDP, and the firewall pass them; give \
             --nat extip:IP if that is another address; it works without, but helps others less",
        );
    }
    let ips: Vec<IpAddr> = net.listen_addresses.iter().filter_map(|text| ip(text)).collect();
    if !ips.is_empty() && ips.iter().all(IpAddr::is_loopback) {
        return Finding::warn(
            "reach",
            "it listens on the loopback interface alone, so no other machine reaches it",
            "listen on an address of the network with --listen, unless that is meant",
        );
    }
    let place = match external(ReachVerdict::Given) {
        Some(ExternalAddress { address, .. }) => format!("tells others {address}, as --nat says"),
        None if ips.iter().any(is_public) => "listens on a public address".to_owned(),
        None => "listens on private addresses alone".to_owned(),
    };
    if node.uptime_s < INBOUND_EXPECTED_S {
        return Finding::ok("reach", format!("nobody has dialled this node yet; it {place}"));
    }
    Finding::warn(
        "reach",
        format!("nobody has dialled this node; it {place}"),
        "let firewall and router pass its ports for peers, TCP and UDP; it works without, but helps others less",
    )
}

fn ip(multiaddr: &str) -> Option<IpAddr> {
    match multiaddr.parse::<Multiaddr>().ok()?.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Whether an address can be reached from the whole internet, by the registries of special-purpose addresses (RFC 6890).
fn is_public(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn public_addresses_are_told_from_private_ones() {
        for public in ["8.8.8.8", "2001:4860:4860::8888", "100.128.0.1"] {
            assert!(is_public(&public.parse().expect("an address")), "{public}");
        }
        for private in
            ["10.0.0.1", "192.168.1.1", "127.0.0.1", "100.64.0.1", "169.254.1.1", "0.0.0.0", "::1", "fd00::1"]
        {
            assert!(!is_public(&private.parse().expect("an address")), "{private}");
        }
    }

    #[test]
    fn reach_is_what_others_have_shown() {
        let status = crate::cli::status::healthy();
        assert_eq!(reach(&status.node, &status.net).verdict, Verdict::Ok);
        let net = NetReply { peers_inbound: 0, ..status.net.clone() };
        assert_eq!(reach(&status.node, &net).verdict, Verdict::Warn, "up for hours, and nobody came");
        let external = |verdict| {
            let address = "/ip4/192.0.2.7/tcp/26500".into();
            let net = NetReply { external_addresses: vec![ExternalAddress { address, verdict }], ..net.clone() };
            reach(&status.node, &net)
        };
        assert_eq!(external(ReachVerdict::Confirmed).verdict, Verdict::Ok);
        let failed = external(ReachVerdict::Failed);
        assert!(failed.what.contains("192.0.2.7") && failed.remedy.is_some_and(|remedy| remedy.contains("router")));
        assert!(external(ReachVerdict::Given).what.contains("as --nat says"));
        let young = NodeReply { uptime_s: 5, ..status.node.clone() };
        assert_eq!(reach(&young, &net).verdict, Verdict::Ok);
        let local = NetReply { listen_addresses: vec!["/ip4/127.0.0.1/tcp/1".into()], ..net };
        assert!(reach(&young, &local).what.contains("loopback"));
    }
}
