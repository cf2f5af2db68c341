//! libp2p's errors in words for people.

use libp2p::Multiaddr;
use libp2p::core::transport::TransportError;
use libp2p::swarm::DialError;

use super::NetworkError;

pub(super) fn listen_error(address: &Multiaddr, cause: &(dyn std::error::Error + 'static)) -> NetworkError {
    NetworkError::Listen { address: address.clone(), cause: innermost(cause) }
}

/// Why a dial failed, in words: each cause once. libp2p wraps the system's words into one layer a transport, and says all
/// of them again on every layer.
pub(super) fn dial_words(error: &DialError) -> String {
    let DialError::Transport(attempts) = error else { return error.to_string() };
    let mut causes: Vec<String> = Vec::new();
    for (_, attempt) in attempts {
        let cause = match attempt {
            TransportError::MultiaddrNotSupported(_) => "no transport for the address".to_owned(),
            TransportError::Other(cause) => innermost(cause),
        };
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    causes.join("; ")
}

/// The words of the error at the bottom.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    // An `io::Error` around another error leaves that one out of its sources.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match wrapped.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| error.source()) {
        Some(inner) => innermost(inner),
        None => error.to_string().lines().last().unwrap_or_default().trim_start_matches(" - ").to_owned(),
    }
}
