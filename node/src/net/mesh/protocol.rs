//! Negotiating which gossipsub is spoken on a stream.

use std::convert::Infallible;

use futures::future::{Ready, ready};
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::{Stream, StreamProtocol};
use starling_protocol::id::Version;

/// The protocols that this node speaks, in order of preference.
pub const PROTOCOLS: [(StreamProtocol, Version); 3] = [
    (StreamProtocol::new("/meshsub/1.2.0"), Version::V1_2),
    (StreamProtocol::new("/meshsub/1.1.0"), Version::V1_1),
    (StreamProtocol::new("/meshsub/1.0.0"), Version::V1_0),
];

/// Offers (outbound) or accepts (inbound) every version up to a highest one; the result is the stream and the version
/// that was agreed on.
#[derive(Clone, Copy, Debug)]
pub struct MeshUpgrade {
    /// The highest version to speak.
    pub highest: Version,
}

/// A protocol name together with the version that it stands for.
#[derive(Clone, Debug)]
pub struct Named(StreamProtocol, Version);

impl AsRef<str> for Named {
    fn as_ref(&self) -> &str {
        self.0.as_ref()
    }
}

impl UpgradeInfo for MeshUpgrade {
    type Info = Named;
    type InfoIter = Vec<Named>;

    fn protocol_info(&self) -> Vec<Named> {
        let offered = PROTOCOLS.into_iter().filter(|(_, version)| *version <= self.highest);
        offered.map(|(name, version)| Named(name, version)).collect()
    }
}

impl InboundUpgrade<Stream> for MeshUpgrade {
    type Output = (Stream, Version);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, agreed: Named) -> Self::Future {
        ready(Ok((stream, agreed.1)))
    }
}

impl OutboundUpgrade<Stream> for MeshUpgrade {
    type Output = (Stream, Version);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, agreed: Named) -> Self::Future {
        ready(Ok((stream, agreed.1)))
    }
}
