//! The targets.

mod content;
mod mesh;
mod node;
mod peers;
mod queue;
mod rpc;

/// A property of all bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus folder.
    pub name: &'static str,
    /// Panics when the property does not hold of the bytes.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 12] = [
    Target { name: "rpc", run: rpc::rpc },
    Target { name: "transaction", run: content::transaction },
    Target { name: "block", run: content::block },
    Target { name: "genesis", run: content::genesis_toml },
    Target { name: "codec", run: content::codec_types },
    Target { name: "request", run: content::request },
    Target { name: "key", run: content::key_pem },
    Target { name: "send_queue", run: queue::send_queue },
    Target { name: "mesh", run: mesh::mesh },
    Target { name: "node", run: node::node },
    Target { name: "address_book", run: peers::address_book },
    Target { name: "bans", run: peers::bans },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
