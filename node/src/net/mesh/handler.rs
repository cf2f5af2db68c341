//! The mesh on one connection.
//!
//! # Rules
//! 1. **Writing** begins when the behaviour hands over the peer's outbox and ends when it takes it back; in between, one
//!    outbound stream is kept open. A stream that breaks is opened anew, [`STREAM_ATTEMPTS_MAX`] times in all; then, or
//!    when the peer has not read for [`MeshConfig::stall_max`](super::MeshConfig::stall_max), the handler gives up and says so.
//! 2. **Reading** begins when the behaviour says so, so that no RPC is reported before the peer itself. Until then the
//!    multiplexer's window holds the remote back.
//! 3. There is one inbound stream; a new one replaces it, [`STREAM_ATTEMPTS_MAX`] times.
//! 4. A frame that cannot be decoded is reported and skipped. After [`BAD_FRAMES_MAX`] of them, or at once when the framing
//!    is broken, the stream is closed, and no other is accepted: this connection has spoken its last.
//!
//! Decoding, with its hash of each message, happens here, in the task of the connection. The channel to the behaviour is
//! bounded, so a node that cannot keep up stops reading.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::Stream;
use libp2p::swarm::handler::{ConnectionEvent, StreamUpgradeError};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};
use starling_protocol::id::Version;
use starling_protocol::rpc::Rpc;
use starling_protocol::time::Time;
use starling_protocol::wire::WireError;

use super::Shared;
use super::outbox::Outbox;
use super::protocol::MeshUpgrade;
use super::reader::{Read, Reader};
use super::writer::Writer;

/// Streams opened or accepted on one connection before the handler gives up. The stock Rust implementation allows five.
pub const STREAM_ATTEMPTS_MAX: u32 = 5;

/// Frames that may fail to decode on one connection.
pub const BAD_FRAMES_MAX: u32 = 3;

/// What the behaviour tells the handler.
#[derive(Debug)]
pub enum ToHandler {
    /// Open an outbound stream and write what the outbox holds.
    Write(Arc<Outbox>),
    /// Finish the RPC in progress and close the outbound stream: another connection writes from now on.
    StopWriting,
    /// The peer has been announced; its RPCs may be reported.
    Read,
}

/// What the handler tells the behaviour.
#[derive(Debug)]
pub enum FromHandler {
    /// Our outbound stream is open.
    Opened(Version),
    /// The peer speaks no version of gossipsub.
    Unsupported,
    /// The handler has given up writing.
    GaveUp(io::Error),
    /// An RPC arrived.
    Rpc {
        /// The content.
        rpc: Box<Rpc>,
        /// When it was decoded.
        received: Time,
        /// Bytes of its frame.
        frame_bytes: usize,
    },
    /// A frame could not be decoded.
    BadFrame(WireError),
}

/// See the module documentation.
pub struct Handler {
    shared: Arc<Shared>,
    outbox: Option<Arc<Outbox>>,
    outbound: Outbound,
    outbound_attempts: u32,
    /// A former outbound stream that is being closed.
    closing: Option<Writer<Stream>>,
    inbound: Option<Reader<Stream>>,
    inbound_attempts: u32,
    reading: bool,
    bad_frames: u32,
    events: VecDeque<FromHandler>,
}

enum Outbound {
    Closed,
    Requested,
    Open(Writer<Stream>),
    GivenUp,
}

type Event = ConnectionHandlerEvent<MeshUpgrade, (), FromHandler>;

impl Handler {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            outbox: None,
            outbound: Outbound::Closed,
            outbound_attempts: 0,
            closing: None,
            inbound: None,
            inbound_attempts: 0,
            reading: false,
            bad_frames: 0,
            events: VecDeque::new(),
        }
    }

    fn upgrade(&self) -> SubstreamProtocol<MeshUpgrade, ()> {
        SubstreamProtocol::new(MeshUpgrade { highest: self.shared.highest_version }, ())
    }

    fn opened(&mut self, stream: Stream, version: Version) {
        if self.outbox.is_none() {
            // The behaviour moved the mesh to another connection meanwhile; dropping the stream resets it.
            self.outbound = Outbound::Closed;
            return;
        }
        self.outbound = Outbound::Open(Writer::new(stream, self.shared.stall_max));
        self.events.push_back(FromHandler::Opened(version));
    }

    fn not_opened(&mut self, error: StreamUpgradeError<std::convert::Infallible>) {
        self.outbound = Outbound::Closed;
        match error {
            StreamUpgradeError::NegotiationFailed => {
                self.outbound = Outbound::GivenUp;
                self.events.push_back(FromHandler::Unsupported);
            }
            StreamUpgradeError::Timeout => self.retry_or_give_up(io::ErrorKind::TimedOut.into()),
            StreamUpgradeError::Io(error) => self.retry_or_give_up(error),
            StreamUpgradeError::Apply(never) => match never {},
        }
    }

    /// After an outbound stream failed: the next poll opens another, if attempts are left.
    fn retry_or_give_up(&mut self, error: io::Error) {
        self.outbound = Outbound::Closed;
        if self.outbound_attempts >= STREAM_ATTEMPTS_MAX || error.kind() == io::ErrorKind::TimedOut {
            self.outbound = Outbound::GivenUp;
            self.events.push_back(FromHandler::GaveUp(error));
        }
    }

    fn accepted(&mut self, stream: Stream) {
        self.inbound_attempts += 1;
        if self.inbound_attempts <= STREAM_ATTEMPTS_MAX && self.bad_frames < BAD_FRAMES_MAX {
            self.inbound = Some(Reader::new(stream));
        }
    }

    fn poll_writing(&mut self, context: &mut Context<'_>) -> Option<Event> {
        if let Some(writer) = &mut self.closing
            && writer.poll_close(context).is_ready()
        {
            self.closing = None;
        }
        let outbox = self.outbox.as_ref()?;
        match &mut self.outbound {
            Outbound::Closed => {
                self.outbound = Outbound::Requested;
                self.outbound_attempts += 1;
                return Some(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol: self.upgrade() });
            }
            Outbound::Open(writer) => {
                if let Poll::Ready(error) = writer.poll_write(context, outbox, &self.shared.counters) {
                    self.retry_or_give_up(error);
                    // Polls again: either an event is waiting or another stream is to be opened.
                    context.waker().wake_by_ref();
                }
            }
            Outbound::Requested | Outbound::GivenUp => {}
        }
        None
    }

    fn poll_reading(&mut self, context: &mut Context<'_>) -> Option<FromHandler> {
        if !self.reading {
            return None;
        }
        let reader = self.inbound.as_mut()?;
        let Poll::Ready(read) = reader.poll_next(context, &self.shared.wire_limits, &self.shared.topics) else {
            return None;
        };
        match read {
            Read::Rpc { rpc, received, frame_bytes } => {
                self.shared.counters.add_read(frame_bytes);
                Some(FromHandler::Rpc { rpc, received, frame_bytes })
            }
            Read::BadFrame(error) => {
                self.bad_frames += 1;
                if self.bad_frames >= BAD_FRAMES_MAX {
                    self.inbound = None;
                }
                Some(FromHandler::BadFrame(error))
            }
            Read::BadFraming(error) => {
                self.bad_frames = BAD_FRAMES_MAX;
                self.inbound = None;
                Some(FromHandler::BadFrame(error))
            }
            Read::End(result) => {
                tracing::trace!(?result, "the peer's mesh stream ended");
                self.inbound = None;
                None
            }
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = ToHandler;
    type ToBehaviour = FromHandler;
    type InboundProtocol = MeshUpgrade;
    type OutboundProtocol = MeshUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<MeshUpgrade, ()> {
        self.upgrade()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Some(event) = self.poll_writing(context) {
            return Poll::Ready(event);
        }
        match self.poll_reading(context) {
            Some(event) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event)),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: ToHandler) {
        match event {
            ToHandler::Write(outbox) => self.outbox = Some(outbox),
            ToHandler::StopWriting => {
                self.outbox = None;
                if let Outbound::Open(writer) = std::mem::replace(&mut self.outbound, Outbound::Closed) {
                    self.closing = Some(writer);
                }
            }
            ToHandler::Read => self.reading = true,
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, MeshUpgrade, MeshUpgrade>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(accepted) => self.accepted(accepted.protocol.0),
            ConnectionEvent::FullyNegotiatedOutbound(opened) => {
                let (stream, version) = opened.protocol;
                self.opened(stream, version);
            }
            ConnectionEvent::DialUpgradeError(failed) => self.not_opened(failed.error),
            _ => {}
        }
    }
}
