//! How names in addresses become addresses.
//!
//! # Rules
//! 1. `/dns/NAME`, `/dns4/NAME` and `/dns6/NAME` stand for the addresses of a name. `/dnsaddr/NAME/p2p/ID` stands for the TXT records of
//!    `_dnsaddr.NAME` that read `dnsaddr=MULTIADDR` and end in the same `/p2p/ID`; what they name may contain names again
//!    (<https://github.com/multiformats/multiaddr/blob/master/protocols/DNSADDR.md>). So an operator can move bootnodes without touching
//!    anybody's configuration, and whoever controls the DNS can send a node to other addresses but not to another peer.
//! 2. Names are looked up at the servers that the operator names, or, if there are none, as the host does (`/etc/resolv.conf`).
//! 3. **Names are for the operator.** What peers tell has to begin with an IP address, in the address book, in dial-backs and in what they want
//!    tested; and an address that begins with one is not dialled if there is a name behind, as in `/ip4/192.0.2.1/tcp/1/dns4/NAME`, which
//!    libp2p would look up. So nobody outside can make the node look up anything.
//! 4. A lookup is part of a dial: if it fails, the dial has failed, and the peer is dialled again after a back-off like any other.
//!    Nothing else waits for it.
//!
//! # Bounds
//! One dial makes at most [`LOOKUPS_MAX`] lookups, follows [`RECORDS_MAX`] records of each, and connects to [`ADDRESSES_TRIED_MAX`] addresses;
//! they are libp2p's, and a test holds them. The timeout of a dial covers all of it. So records that lead in a circle cost a
//! few packets a dial.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, dns};

/// Lookups of one dial.
pub const LOOKUPS_MAX: usize = 32;

/// Records that are followed of each.
pub const RECORDS_MAX: usize = 16;

/// Addresses that a dial connects to at most.
pub const ADDRESSES_TRIED_MAX: usize = 16;

/// The port of name servers (RFC 1035, section 4.2).
const PORT: u16 = 53;

/// What a name is put behind for its TXT records.
const TXT_PREFIX: &str = "_dnsaddr.";

/// Longest name, in bytes, and longest part of it between two dots (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Puts the lookup of names in front of a transport that knows only addresses.
///
/// # Errors
/// When there are no servers, and the host has none either.
pub(crate) fn with_names<T>(inner: T, servers: &[NameServer]) -> std::io::Result<NamesInFront<dns::tokio::Transport<T>>>
where
    T: Transport + Send + Unpin + 'static,
    T::Error: Send,
    T::Dial: Send,
{
    if servers.is_empty() {
        return dns::tokio::Transport::system(inner).map(NamesInFront);
    }
    let servers = servers.iter().map(|NameServer(address)| {
        let connection = |mut config: ConnectionConfig| {
            config.port = address.port();
            config
        };
        // By UDP, and by TCP if an answer is too long for that, as a good many records are.
        let connections = vec![connection(ConnectionConfig::udp()), connection(ConnectionConfig::tcp())];
        NameServerConfig::new(address.ip(), true, connections)
    });
    let config = ResolverConfig::from_name_servers(servers.collect());
    Ok(NamesInFront(dns::tokio::Transport::custom(inner, config, ResolverOpts::default())))
}

/// The second half of rule 3, in front of whatever looks up names. It stands here because every dial passes, whoever wants it.
#[derive(Debug)]
pub(crate) struct NamesInFront<T>(T);

/// Whether a name stands anywhere but at the beginning.
fn has_name_behind(address: &Multiaddr) -> bool {
    let is_name =
        |part| matches!(part, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_));
    address.iter().skip(1).any(is_name)
}

impl<T: Transport + Unpin> Transport for NamesInFront<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        if has_name_behind(&address) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.0.dial(address, options)
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// A name server: an IP address, and perhaps a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameServer(pub SocketAddr);

impl std::str::FromStr for NameServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
        let address = alone.or_else(|_with_port| text.parse::<SocketAddr>()).ok();
        address.filter(|address| address.port() != 0 && !address.ip().is_unspecified()).map(Self).ok_or_else(|| {
            format!("{text:?} is no name server; give its IP address, as in 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353")
        })
    }
}

/// Whether a name in a multiaddress can be looked up.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn check_name(name: &str, is_dnsaddr: bool) -> Result<(), String> {
    if is_dnsaddr && let Some(rest) = name.strip_prefix(TXT_PREFIX) {
        return Err(format!("{TXT_PREFIX} is put in front of the name by itself; write /dnsaddr/{rest}"));
    }
    let room = NAME_BYTES_MAX - if is_dnsaddr { TXT_PREFIX.len() } else { 0 };
    let bare = name.strip_suffix('.').unwrap_or(name);
    let fits = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if bare.len() <= room && bare.split('.').all(fits) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no host name; one has letters, digits and hyphens in parts of at most {LABEL_BYTES_MAX} between dots, and \
         {room} characters in all"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_an_address_with_or_without_a_port() {
        let read = |text: &str| text.parse::<NameServer>().map(|NameServer(address)| address.to_string());
        assert_eq!(read("192.0.2.53").as_deref(), Ok("192.0.2.53:53"));
        assert_eq!(read("192.0.2.53:5353").as_deref(), Ok("192.0.2.53:5353"));
        assert_eq!(read("2001:db8::53").as_deref(), Ok("[2001:db8::53]:53"));
        assert_eq!(read("[2001:db8::53]:5353").as_deref(), Ok("[2001:db8::53]:5353"));
        for wrong in ["", "dns.example", "192.0.2.53:0", "0.0.0.0", "192.0.2.53:port", "/ip4/192.0.2.53"] {
            assert!(read(wrong).expect_err(wrong).contains("as in 192.0.2.53"), "{wrong}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_looked_up_is_refused_with_the_remedy() {
        let label = "a".repeat(LABEL_BYTES_MAX);
        let long = [&label[..]; 4].join(".");
        for good in ["boot.example", "boot.example.", "localhost", "xn--bcher-kva.example", "a_b.example", &long[..253]]
        {
            assert_eq!(check_name(good, false), Ok(()), "{good}");
        }
        for wrong in [
            "",
            ".",
            "boot..example",
            "boot example",
            "bücher.example",
            "*.example",
            &format!("{label}a.example"),
            &long,
        ] {
            assert!(check_name(wrong, false).expect_err(wrong).contains("letters, digits and hyphens"), "{wrong}");
        }
        assert!(check_name(&long[..250], true).expect_err("no room for the prefix").contains("244 characters"));
        assert!(check_name("_dnsaddr.boot.example", true).expect_err("twice").contains("write /dnsaddr/boot.example"));
    }
}
