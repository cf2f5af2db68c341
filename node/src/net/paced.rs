//! A bound on the streams that a remote opens, whatever multiplexes them.
//!
//! A remote may open a stream and reset it at once, as often as its line allows: none of them counts as open, and each one costs us a
//! negotiation and a timer (the "rapid reset" of HTTP/2, CVE-2023-44487). libp2p takes streams from a connection as long as
//! there are any, and meanwhile nothing else runs.
//!
//! # Rules
//! 1. A connection hands out at most [`TURN_MAX`] streams before others get their turn.
//! 2. On average it hands out at most [`STREAMS_PER_S`] streams a second, and at most [`STREAMS_BURST`] at once. The connection of a remote
//!    that opens more is closed. *Rationale:* the most that an honest peer opens is one for each request when it catches up, some
//!    hundred a second; whoever is closed may dial again, within the limits on connections.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

/// Streams that a remote may open at once.
pub const STREAMS_BURST: u32 = 1_024;

/// Streams that a remote may open in a second, on average. A guess: several times what catching up over a fast line takes.
pub const STREAMS_PER_S: u32 = 512;

/// Streams that are handed out before others get their turn.
pub const TURN_MAX: u32 = 16;

/// A connection whose remote opens streams at a bounded rate.
#[derive(Debug)]
pub struct Paced<M> {
    connection: M,
    bucket: Bucket,
    /// Streams handed out in this turn.
    turn: u32,
}

impl<M> Paced<M> {
    /// Bounds this connection.
    pub fn new(connection: M) -> Self {
        Self { connection, bucket: Bucket::new(Instant::now()), turn: 0 }
    }
}

impl<M> StreamMuxer for Paced<M>
where
    M: StreamMuxer + Unpin,
    M::Error: Send + Sync + 'static,
{
    type Substream = M::Substream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<M::Substream>> {
        if self.turn == TURN_MAX {
            self.turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Poll::Ready(stream) = Pin::new(&mut self.connection).poll_inbound(context) else {
            self.turn = 0;
            return Poll::Pending;
        };
        let stream = stream.map_err(io::Error::other)?;
        self.turn += 1;
        if !self.bucket.take(Instant::now()) {
            let error = format!("the remote opened more than {STREAMS_PER_S} streams a second");
            return Poll::Ready(Err(io::Error::other(error)));
        }
        Poll::Ready(Ok(stream))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<M::Substream>> {
        Pin::new(&mut self.connection).poll_outbound(context).map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_close(context).map_err(io::Error::other)
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let event = ready!(Pin::new(&mut self.connection).poll(context));
        Poll::Ready(event.map_err(io::Error::other))
    }
}

/// A token bucket of [`STREAMS_BURST`] tokens that gets [`STREAMS_PER_S`] a second.
#[derive(Debug)]
struct Bucket {
    /// Tokens, in microseconds of filling.
    credit_us: u64,
    filled: Instant,
}

const TOKEN_US: u64 = 1_000_000 / STREAMS_PER_S as u64;
const FULL_US: u64 = TOKEN_US * STREAMS_BURST as u64;

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { credit_us: FULL_US, filled: now }
    }

    /// Takes a token if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let gained = u64::try_from(now.saturating_duration_since(self.filled).as_micros()).unwrap_or(u64::MAX);
        self.filled = now;
        self.credit_us = self.credit_us.saturating_add(gained).min(FULL_US);
        let Some(left) = self.credit_us.checked_sub(TOKEN_US) else { return false };
        self.credit_us = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::Cursor;
    use futures::task::noop_waker;
    use std::time::Duration;

    /// A remote that opens streams as fast as it is asked.
    struct Endless;

    impl StreamMuxer for Endless {
        type Substream = Cursor<Vec<u8>>;
        type Error = io::Error;

        fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
            Poll::Ready(Ok(Cursor::default()))
        }

        fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }
    }

    #[test]
    fn a_remote_that_opens_streams_without_end_gives_way_and_is_closed() {
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        let mut paced = Paced::new(Endless);
        let (mut handed_out, mut in_a_row) = (0, 0);
        let error = loop {
            match Pin::new(&mut paced).poll_inbound(&mut context) {
                Poll::Ready(Ok(_)) => {
                    handed_out += 1;
                    in_a_row += 1;
                    assert!(in_a_row <= TURN_MAX, "others have to wait");
                }
                Poll::Pending => in_a_row = 0,
                Poll::Ready(Err(error)) => break error,
            }
            // Some are added while this runs, however slow the host is.
            assert!(handed_out < 1_000_000, "it is never closed");
        };
        assert!(handed_out >= STREAMS_BURST, "{handed_out}");
        assert!(error.to_string().contains("512 streams a second"), "{error}");
    }

    #[test]
    fn an_average_rate_is_kept_and_a_burst_allowed() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(begin);
        let taken = (0..10_000).take_while(|_| bucket.take(begin)).count();
        assert_eq!(taken, STREAMS_BURST as usize);
        let taken = (0..10_000).take_while(|_| bucket.take(begin + Duration::from_secs(1))).count();
        assert!((STREAMS_PER_S as usize..=STREAMS_PER_S as usize + 1).contains(&taken), "{taken}");
        let taken = (0..10_000).take_while(|_| bucket.take(begin + Duration::from_secs(3_600))).count();
        assert_eq!(taken, STREAMS_BURST as usize, "no more than a burst is saved up");
    }
}
