//! Every setting, declared once; see [`crate::config`] for how to add one.

use super::setting::{DefaultValue, Kind, Setting, Value};
use super::values::{Problem, Values};
use super::{BASE_PORT, INSTANCE_MAX, INSTANCE_PORTS};
use crate::net::names::{NameServer, check_name};
use crate::telemetry::{DEFAULT_FILTER, parse_filter};
use hyper::Uri;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Peers that are looked for unless told otherwise; see [`starling_protocol::peers::PeerConfig`].
const TARGET_PEERS: &str = "24";

/// The most peers that can be asked for; beyond this a host runs out of sockets before it gains anything.
const PEERS_MAX: u64 = 1_000;

/// Slots without news after which a node suspects itself, unless told otherwise; see
/// [`starling_protocol::node::NodeConfig::suspect_after_slots`].
const SUSPECT_AFTER_SLOTS: &str = "16";

/// The most slots without news that can be asked for: with a slot a second a day, after which nobody believes in chance.
const SUSPECT_AFTER_SLOTS_MAX: u64 = 86_400;

/// Threads of the async runtime unless told otherwise.
///
/// *Rationale:* a message is a few microseconds of work spread over a connection's task, the swarm and the event loop. On
/// one thread they follow each other without a wake-up; on several, waking the next thread costs more than the work.
const RUNTIME_THREADS: &str = "1";

/// The most threads that can be asked for: beyond this, something else is the bottleneck.
const RUNTIME_THREADS_MAX: u64 = 64;

/// All settings, in the order in which they are shown. Those without a section come first; the settings of a section stand
/// together.
pub static SETTINGS: &[Setting] = &[
    Setting {
        key: "datadir",
        flag: "datadir",
        value_name: "DIR",
        kind: Kind::Path,
        default: DefaultValue::Unset {
            means: "$XDG_DATA_HOME/starling, with -N for instance N",
            example: "/srv/starling",
        },
        help: "The node's data directory; `starling init` makes it, and `starling run` if it does not exist.",
        in_file: false,
        ..Setting::BASE
    },
    Setting {
        key: "instance",
        flag: "instance",
        value_name: "N",
        kind: Kind::Count { min: 0, max: INSTANCE_MAX as u64 },
        default: DefaultValue::Is("0"),
        help: "Number of the node on this host: adds 10 N to every default port, and as a flag or variable -N to the \
               default data directory.",
        ..Setting::BASE
    },
    Setting {
        key: "genesis",
        flag: "genesis",
        value_name: "FILE",
        kind: Kind::Path,
        default: DefaultValue::Is("genesis.toml"),
        help: "The network's genesis.",
        ..Setting::BASE
    },
    Setting {
        key: "trace",
        flag: "trace",
        value_name: "FILE",
        kind: Kind::Path,
        default: DefaultValue::Unset { means: "no trace", example: "trace.jsonl" },
        help: "Write when each message arrived to this file, for measuring.",
        in_file: false,
        ..Setting::BASE
    },
    Setting {
        key: "link_emulation",
        flag: "link-emulation",
        value_name: "FILE",
        kind: Kind::Path,
        default: DefaultValue::Unset { means: "no emulation", example: "links.toml" },
        help: "Delay and throttle TCP connections as this file says, for testing.",
        in_file: false,
        ..Setting::BASE
    },
    Setting {
        key: "exit_on_stdin_close",
        flag: "exit-on-stdin-close",
        value_name: "BOOL",
        kind: Kind::Bool,
        default: DefaultValue::Is("false"),
        help: "Stop when standard input ends: whoever started the node has gone.",
        in_file: false,
        ..Setting::BASE
    },
    Setting {
        key: "network.listen",
        flag: "listen",
        value_name: "MULTIADDR",
        kind: Kind::List(check_listen),
        default: DefaultValue::PerInstance(default_listen),
        help: "Where to listen for peers; port 0 takes any free one.",
        ..Setting::BASE
    },
    Setting {
        key: "network.bootnodes",
        flag: "bootnodes",
        value_name: "MULTIADDR",
        kind: Kind::List(check_peer),
        default: DefaultValue::Is(""),
        help: "Peers to find others by: multiaddresses that end in /p2p/PEER_ID. /dnsaddr/HOST/p2p/PEER_ID is looked up in the \
               TXT records of _dnsaddr.HOST.",
        ..Setting::BASE
    },
    Setting {
        key: "network.bootnodes_file",
        flag: "bootnodes-file",
        value_name: "FILE",
        kind: Kind::Path,
        default: DefaultValue::Unset { means: "no file", example: "bootnodes.txt" },
        help: "A file with more bootnodes: one multiaddress a line, written like --bootnodes; # begins a comment.",
        ..Setting::BASE
    },
    Setting {
        key: "network.nat",
        flag: "nat",
        value_name: "NAT",
        kind: Kind::Text(check_nat),
        default: DefaultValue::Is("any"),
        help: "Address translation between the node and its peers: `any` finds out, by what peers say and AutoNAT confirms; `none` \
               tells others where the node listens and no more; `extip:IP` tells them this address, with the ports listened on.",
        ..Setting::BASE
    },
    Setting {
        key: "network.dns_servers",
        flag: "dns-servers",
        value_name: "IP[:PORT]",
        kind: Kind::List(check_name_server),
        default: DefaultValue::Is(""),
        help: "Name servers to look up /dnsaddr, /dns, /dns4 and /dns6 addresses at; without any, those of this host.",
        ..Setting::BASE
    },
    Setting {
        key: "network.trusted_peers",
        flag: "trusted-peers",
        value_name: "MULTIADDR",
        kind: Kind::List(check_peer),
        default: DefaultValue::Is(""),
        help: "Peers to stay connected with, whatever their score; written like --bootnodes.",
        ..Setting::BASE
    },
    Setting {
        key: "network.discovery",
        flag: "discovery",
        value_name: "BOOL",
        kind: Kind::Bool,
        default: DefaultValue::Is("true"),
        help: "Look for peers that nobody has named. Without it the node dials its bootnodes and trusted peers alone, for networks \
               whose links are laid out by hand.",
        ..Setting::BASE
    },
    Setting {
        key: "network.target_peers",
        flag: "target-peers",
        value_name: "N",
        kind: Kind::Count { min: 1, max: PEERS_MAX },
        default: DefaultValue::Is(TARGET_PEERS),
        help: "How many peers to look for.",
        ..Setting::BASE
    },
    Setting {
        key: "network.max_peers",
        flag: "max-peers",
        value_name: "N",
        kind: Kind::Count { min: 1, max: PEERS_MAX },
        default: DefaultValue::Derived("eight times target_peers", |above| {
            Value::Count((above.count_u64("network.target_peers") * 8).min(PEERS_MAX))
        }),
        help: "How many peers to allow.",
        ..Setting::BASE
    },
    Setting {
        key: "network.flood_publish",
        flag: "flood-publish",
        value_name: "BOOL",
        kind: Kind::Bool,
        default: DefaultValue::Is("true"),
        help: "Send own messages of up to 8 KiB to 16 peers outside of the mesh, too: faster, for more bytes.",
        ..Setting::BASE
    },
    Setting {
        key: "network.suspect_after_slots",
        flag: "suspect-after-slots",
        value_name: "N",
        kind: Kind::Count { min: 1, max: SUSPECT_AFTER_SLOTS_MAX },
        default: DefaultValue::Is(SUSPECT_AFTER_SLOTS),
        help: "After so many slots, but at least 10 s, without a block of others (or, while the chain has no block, a transaction) the \
               node suspects that it is cut off: it says so, asks its peers and looks for new ones. Raise it where many slots stay empty.",
        ..Setting::BASE
    },
    Setting {
        key: "keys.node",
        flag: "node-key",
        value_name: "FILE",
        kind: Kind::Path,
        default: DefaultValue::Is("node.pem"),
        help: "The secret key of the libp2p identity, PKCS#8 PEM with mode 0600; made if it is missing.",
        ..Setting::BASE
    },
    Setting {
        key: "keys.account",
        flag: "account-key",
        value_name: "FILE",
        kind: Kind::Path,
        default: DefaultValue::Is("account.pem"),
        help: "The secret key to sign `tx_publish` with; made if it is missing.",
        ..Setting::BASE
    },
    Setting {
        key: "keys.producer",
        flag: "producer-key",
        value_name: "FILE",
        kind: Kind::Path,
        default: DefaultValue::Unset { means: "the node makes no blocks", example: "producer.pem" },
        help: "The secret key to make blocks with; the genesis must name its public half.",
        ..Setting::BASE
    },
    Setting {
        key: "rpc.listen",
        flag: "rpc",
        value_name: "IP:PORT",
        kind: Kind::Text(check_socket),
        default: DefaultValue::PerInstance(|instance| format!("127.0.0.1:{}", port(instance, 1))),
        help: "Where to serve JSON-RPC; port 0 takes any free one. Whoever reaches it can use the account key: keep it \
               local.",
        ..Setting::BASE
    },
    Setting {
        key: "rpc.allow_hosts",
        flag: "rpc-allow-host",
        value_name: "NAME",
        kind: Kind::List(check_host),
        default: DefaultValue::Is(""),
        help: "Host names and addresses by which the RPC may be called, besides this machine's own addresses.",
        ..Setting::BASE
    },
    Setting {
        key: "rpc.allow_origins",
        flag: "rpc-allow-origin",
        value_name: "ORIGIN",
        kind: Kind::List(check_origin),
        default: DefaultValue::Is(""),
        help: "Web pages that may call the RPC, such as https://wallet.example.",
        ..Setting::BASE
    },
    Setting {
        key: "rpc.admin_socket",
        flag: "admin-socket",
        value_name: "FILE",
        kind: Kind::Path,
        default: DefaultValue::Is("admin.sock"),
        help: "The Unix socket over which the user who runs the node can ban peers, set the log filter and stop the node; \
               `none` for no such socket.",
        ..Setting::BASE
    },
    Setting {
        key: "rpc.connections_max",
        flag: "rpc-max-connections",
        value_name: "N",
        kind: Kind::Count { min: 4, max: 65_536 },
        default: DefaultValue::Is("256"),
        help: "Most RPC connections at once; half of them may be WebSockets. Idle ones make room for new ones.",
        ..Setting::BASE
    },
    Setting {
        key: "rpc.units_per_second",
        flag: "rpc-rate",
        value_name: "N",
        kind: Kind::Count { min: 0, max: 1_000_000 },
        default: DefaultValue::Is("5000"),
        help: "How much one address may ask of the RPC a second, in units of which the cheapest calls cost one; 0 for no \
               limit.",
        ..Setting::BASE
    },
    Setting {
        key: "storage.keep_blocks",
        flag: "keep-blocks",
        value_name: "N",
        kind: Kind::Count { min: 0, max: u32::MAX as u64 },
        default: DefaultValue::Is("0"),
        help: "How many of the last blocks to keep on the disk; 0 keeps all. A node needs the last `expiry_slots_max` (see \
               the genesis) and some 257 more to start again; fewer are refused. Peers that are further behind fetch \
               older blocks elsewhere.",
        ..Setting::BASE
    },
    Setting {
        key: "storage.keep_bytes",
        flag: "keep-bytes",
        value_name: "SIZE",
        kind: Kind::Bytes { min: 1 << 20, max: 1 << 50 },
        default: DefaultValue::Unset { means: "no bound", example: "20GiB" },
        help: "How much of the disk the blocks may take; beyond it the oldest go, as beyond `storage.keep_blocks`. The \
               blocks that a node needs to start again stay, whatever they take.",
        ..Setting::BASE
    },
    Setting {
        key: "runtime.threads",
        flag: "threads",
        value_name: "N",
        kind: Kind::Count { min: 1, max: RUNTIME_THREADS_MAX },
        default: DefaultValue::Is(RUNTIME_THREADS),
        help: "Threads for connections, the event loop and the RPC, besides those for signatures and the disk. One takes \
               the least processor time for each message; more carry more traffic than one core can.",
        ..Setting::BASE
    },
    Setting {
        key: "log.format",
        flag: "log-format",
        value_name: "FORMAT",
        kind: Kind::Choice(&["text", "json"]),
        default: DefaultValue::Is("text"),
        help: "How log lines are written.",
        ..Setting::BASE
    },
    Setting {
        key: "log.filter",
        flag: "log-filter",
        value_name: "FILTER",
        kind: Kind::Text(check_filter),
        default: DefaultValue::Is(DEFAULT_FILTER),
        help: "Which log lines are written: levels and targets, such as \"info\" or \"warn,starling_node=debug\".",
        ..Setting::BASE
    },
    Setting {
        key: "log.file",
        flag: "log-file",
        value_name: "FILE",
        kind: Kind::Path,
        default: DefaultValue::Unset { means: "standard error alone", example: "node.log" },
        help: "A file to write the log to, besides standard error.",
        ..Setting::BASE
    },
    Setting {
        key: "log.file_bytes_max",
        flag: "log-file-bytes-max",
        value_name: "SIZE",
        kind: Kind::Bytes { min: 64 << 10, max: 1 << 40 },
        default: DefaultValue::Is("64MiB"),
        help: "How large a log file may become before the next one is begun.",
        needs: Some("log.file"),
        ..Setting::BASE
    },
    Setting {
        key: "log.file_age_max",
        flag: "log-file-age-max",
        value_name: "TIME",
        kind: Kind::Duration { min: Duration::from_secs(60), max: Duration::from_secs(3_650 * 86_400) },
        default: DefaultValue::Is("7d"),
        help: "How old a log file may become before the next one is begun.",
        needs: Some("log.file"),
        ..Setting::BASE
    },
    Setting {
        key: "log.files_max",
        flag: "log-files-max",
        value_name: "N",
        kind: Kind::Count { min: 1, max: 1_000 },
        default: DefaultValue::Is("5"),
        help: "How many log files to keep, the current one included: FILE, FILE.1 and so on, the oldest last.",
        needs: Some("log.file"),
        ..Setting::BASE
    },
];

/// Something that holds between settings.
pub struct Rule {
    /// The keys it looks at; it is left out when one of them is wrong by itself.
    pub looks_at: &'static [&'static str],
    /// What is wrong, if anything.
    pub check: fn(&Values) -> Option<Problem>,
}

/// What holds between settings.
pub static RULES: &[Rule] = &[
    Rule {
        looks_at: &["network.target_peers", "network.max_peers"],
        check: |values| {
            let (target, max) = (values.count("network.target_peers"), values.count("network.max_peers"));
            (max < target).then(|| {
                let target = values.get("network.target_peers").place();
                values.problem("network.max_peers", format!("less than the target ({target}); raise it or lower that"))
            })
        },
    },
    Rule {
        looks_at: &["network.listen"],
        check: |values| {
            let none = values.list("network.listen").is_empty();
            none.then(|| values.problem("network.listen", "at least one address is needed"))
        },
    },
];

/// A setting by its key.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn setting(key: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("no setting {key}"))
}

/// The default port of one of an instance's services; `offset` counts them: 0 for peers, 1 for the RPC.
fn port(instance: u16, offset: u16) -> u16 {
    BASE_PORT.saturating_add(instance.saturating_mul(INSTANCE_PORTS)).saturating_add(offset)
}

fn default_listen(instance: u16) -> String {
    let port = port(instance, 0);
    format!("/ip4/0.0.0.0/tcp/{port},/ip4/0.0.0.0/udp/{port}/quic-v1")
}

fn check_socket(text: &str) -> Result<(), String> {
    match text.parse::<SocketAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{text:?} is no address with a port; one looks like 127.0.0.1:26501 or [::1]:26501")),
    }
}

fn check_filter(text: &str) -> Result<(), String> {
    parse_filter(text).map(drop).map_err(|error| error.to_string())
}

/// Browsers write an origin in one way only, so any other would never be equal to one.
fn check_origin(text: &str) -> Result<(), String> {
    let no_origin = || format!("{text:?} is no origin; one looks like https://wallet.example, without a path");
    let uri: Uri = text.parse().map_err(|_no_uri| no_origin())?;
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(no_origin());
    };
    let host = authority.host().to_ascii_lowercase();
    if uri.path_and_query().is_some_and(|path| path != "/") || text.ends_with('/') || authority.as_str().contains('@') {
        return Err(no_origin());
    }
    if host.contains('*') {
        return Err(format!("{text:?} names more than one origin; give each that you trust"));
    }
    let default = if scheme == "http" { 80 } else { 443 };
    let port = authority.port_u16().filter(|port| *port != default);
    let canonical = format!("{scheme}://{host}{}", port.map_or_else(String::new, |port| format!(":{port}")));
    if canonical != text {
        return Err(format!("browsers write the origin {text:?} as {canonical}; give that"));
    }
    Ok(())
}

fn check_host(text: &str) -> Result<(), String> {
    let is_address = text.parse::<IpAddr>().is_ok();
    if !is_address && (text.is_empty() || text.contains(['/', ':', '*', ' ', '[', ']', '@'])) {
        return Err(format!(
            "{text:?} is no host name or address; they look like node.example, 192.0.2.10 or 2001:db8::1, without a scheme or port"
        ));
    }
    Ok(())
}

fn check_listen(text: &str) -> Result<(), String> {
    let address = multiaddr(text, "/ip4/0.0.0.0/tcp/26500")?;
    let parts: Vec<_> = address.iter().collect();
    let usable = matches!(
        parts[..],
        [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(_)]
            | [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(_), Protocol::QuicV1]
    );
    if usable {
        return Ok(());
    }
    Err(format!(
        "cannot listen on {text:?}; addresses look like /ip4/0.0.0.0/tcp/26500 or /ip4/0.0.0.0/udp/26500/quic-v1"
    ))
}

fn check_nat(text: &str) -> Result<(), String> {
    text.parse::<crate::net::external::Nat>().map(drop)
}

fn check_name_server(text: &str) -> Result<(), String> {
    text.parse::<NameServer>().map(drop)
}

/// What a bootnode or a trusted peer must look like.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn check_peer(text: &str) -> Result<(), String> {
    let address = multiaddr(text, "/ip4/192.0.2.1/tcp/26500/p2p/12D3KooW…")?;
    let parts: Vec<_> = address.iter().collect();
    let Some((Protocol::P2p(_), place)) = parts.split_last() else {
        return Err(format!(
            "{text:?} does not say which peer is meant; append /p2p/PEER_ID \
             (the node prints its addresses in this form when it starts)"
        ));
    };
    match place {
        [Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name), ..] => check_name(name, false),
        [Protocol::Dnsaddr(name), ..] => check_name(name, true),
        _ => Ok(()),
    }
    .map_err(|problem| format!("{text:?}: {problem}"))?;
    // What stands behind the name of a dnsaddr is looked for at the end of its records, whatever it is.
    let usable = matches!(
        place,
        [
            Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_),
            Protocol::Tcp(1..)
        ] | [
            Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_),
            Protocol::Udp(1..),
            Protocol::QuicV1
        ] | [Protocol::Dnsaddr(_), ..]
    );
    if usable {
        return Ok(());
    }
    Err(format!(
        "{text:?} cannot be dialled; peers are at /ip4/192.0.2.1/tcp/26500, /dns/HOST/udp/26500/quic-v1 or /dnsaddr/HOST, with \
         /p2p/PEER_ID behind"
    ))
}

fn multiaddr(text: &str, example: &str) -> Result<Multiaddr, String> {
    text.parse().map_err(|error| format!("{text:?} is no multiaddress ({error}); one looks like {example}"))
}
