//! The stream multiplexer: yamux with limits of our own.
//!
//! The stock wrapper fixes the receive window of a connection at 1 GiB in all. Here a remote may open
//! [`STREAMS_MAX`] streams of [`yamux::DEFAULT_CREDIT`] bytes each and no more, so that one connection cannot make us buffer more
//! than [`CONNECTION_WINDOW_BYTES`]. The protocols of this node need a dozen streams of a connection.
//!
//! Outgoing data is split into frames of [`SPLIT_BYTES`]. yamux queues some ten frames of a stream before it refuses
//! writes, and what has gone into that queue can be neither overtaken nor cancelled: small frames keep it short.

use std::collections::VecDeque;
use std::io;
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use futures::future::{Ready, ready as immediate};
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::UpgradeInfo;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};

/// Streams open at once on one connection, both directions together. The connection of a peer that opens more is closed.
pub const STREAMS_MAX: usize = 64;

/// Most bytes that a remote may send on one connection ahead of our reading.
pub const CONNECTION_WINDOW_BYTES: usize = STREAMS_MAX * yamux::DEFAULT_CREDIT as usize;

/// Payload of one outgoing frame. A guess: half of yamux's default, at 12 bytes of header each.
pub const SPLIT_BYTES: usize = 8 * 1_024;

/// Upgrades an encrypted connection to a multiplexed one.
#[derive(Clone, Debug, Default)]
pub struct Config;

impl Config {
    fn connection<C: AsyncRead + AsyncWrite + Unpin>(socket: C, mode: yamux::Mode) -> Muxer<C> {
        let mut config = yamux::Config::default();
        config
            .set_max_num_streams(STREAMS_MAX)
            .set_max_connection_receive_window(Some(CONNECTION_WINDOW_BYTES))
            .set_split_send_size(SPLIT_BYTES);
        Muxer { connection: yamux::Connection::new(socket, config, mode), inbound: VecDeque::new(), waker: None }
    }
}

impl UpgradeInfo for Config {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Config {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, socket: C, _: Self::Info) -> Self::Future {
        immediate(Ok(Self::connection(socket, yamux::Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Config {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, socket: C, _: Self::Info) -> Self::Future {
        immediate(Ok(Self::connection(socket, yamux::Mode::Client)))
    }
}

/// A multiplexed connection.
pub struct Muxer<C> {
    connection: yamux::Connection<C>,
    /// Streams that the remote opened while the connection was driven for another reason; at most [`STREAMS_MAX`],
    /// because yamux itself closes a connection with more.
    inbound: VecDeque<yamux::Stream>,
    /// Whoever waits for an inbound stream.
    waker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    /// Drives the connection, which for yamux is the same as waiting for an inbound stream.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<yamux::Stream>> {
        let next = ready!(self.connection.poll_next_inbound(context));
        Poll::Ready(next.unwrap_or(Err(yamux::ConnectionError::Closed)).map_err(to_io))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = yamux::Stream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<yamux::Stream>> {
        // Does not drive the connection: whoever polls for streams also calls `poll`, as the contract of `StreamMuxer` has it,
        // and the swarm does so just before. Driving it here too would do all work twice for nothing.
        if let Some(stream) = self.inbound.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_outbound(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<yamux::Stream>> {
        self.connection.poll_new_outbound(context).map_err(to_io)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_close(context).map_err(to_io)
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let stream = ready!(self.poll_next(context))?;
        self.inbound.push_back(stream);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        // There may be more; let others run first.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn to_io(error: yamux::ConnectionError) -> io::Error {
    match error {
        yamux::ConnectionError::Io(error) => error,
        other => io::Error::other(other),
    }
}
