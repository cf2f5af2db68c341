//! The writing half of the mesh on one connection: RPCs from the peer's outbox onto a stream.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::AsyncWrite;
use tokio::time::Sleep;

use super::MeshCounters;
use super::outbox::Outbox;

/// Writes RPCs to a stream, one at a time: the next is taken from the outbox only when the stream has accepted the whole
/// of the last one, so that priorities and cancelling apply up to that moment.
#[derive(Debug)]
pub(super) struct Writer<S> {
    stream: S,
    /// What is left of the RPC being written.
    chunks: VecDeque<Bytes>,
    flushed: bool,
    stall_max: Duration,
    /// Runs while the stream refuses bytes.
    stall: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncWrite + Unpin> Writer<S> {
    pub(super) fn new(stream: S, stall_max: Duration) -> Self {
        Self { stream, chunks: VecDeque::new(), flushed: true, stall_max, stall: None }
    }

    /// Writes until there is nothing to write or the stream refuses; ready only with an error, which ends the stream. A
    /// stream that makes no progress for `stall_max` is an error.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        outbox: &Outbox,
        counters: &MeshCounters,
    ) -> Poll<io::Error> {
        loop {
            if self.chunks.is_empty() {
                match outbox.poll_pop(context) {
                    Poll::Ready(rpc) => {
                        counters.add_written(rpc.len);
                        self.chunks = rpc.chunks.into();
                    }
                    Poll::Pending => return self.poll_flush(context),
                }
            }
            match self.poll_chunks(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => return self.poll_stall(context),
            }
        }
    }

    /// Writes the rest of the RPC in progress, then closes the stream.
    pub(super) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_chunks(context) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.stream).poll_close(context),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_stall(context).map(Err),
        }
    }

    fn poll_chunks(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(chunk) = self.chunks.front_mut() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, chunk))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.stall = None;
            self.flushed = false;
            chunk.advance(written);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.flushed {
            return Poll::Pending;
        }
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(Ok(())) => {
                self.flushed = true;
                self.stall = None;
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(error),
            Poll::Pending => self.poll_stall(context),
        }
    }

    fn poll_stall(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.stall_max)));
        ready!(stall.as_mut().poll(context));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the peer has not read for too long"))
    }
}

#[cfg(test)]
mod tests {
    use starling_protocol::id::Topic;
    use starling_protocol::message::Payload;
    use starling_protocol::rpc::{Class, Frame};
    use starling_protocol::send_queue::SendQueueConfig;

    use super::*;

    const STALL_MAX: Duration = Duration::from_secs(10);

    /// A stream that accepts `room` bytes in all.
    struct Narrow {
        room: usize,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let accepted = bytes.len().min(self.room).min(100);
            if accepted == 0 {
                return Poll::Pending;
            }
            self.room -= accepted;
            self.taken.extend_from_slice(&bytes[..accepted]);
            Poll::Ready(Ok(accepted))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn message(byte: u8, class: Class) -> Frame {
        Frame::Publish { payload: Payload::new(&Topic::new("t"), &[byte; 1_000]), class }
    }

    async fn write_once(writer: &mut Writer<Narrow>, outbox: &Outbox) -> Poll<io::Error> {
        let counters = MeshCounters::default();
        std::future::poll_fn(|context| Poll::Ready(writer.poll_write(context, outbox, &counters))).await
    }

    #[tokio::test]
    async fn what_has_not_begun_can_still_be_overtaken_and_cancelled() {
        let outbox = Outbox::new(SendQueueConfig::default());
        let mut writer = Writer::new(Narrow { room: 500, taken: Vec::new() }, STALL_MAX);
        assert_eq!(outbox.push(message(1, Class::Forward)), 0);
        assert!(write_once(&mut writer, &outbox).await.is_pending());

        let cancelled = Payload::new(&Topic::new("t"), &[2; 1_000]);
        outbox.push(message(2, Class::Forward));
        outbox.push(message(3, Class::Forward));
        outbox.push(message(4, Class::Priority));
        assert_eq!(outbox.cancel(&[cancelled.id()]), 1);

        writer.stream.room = usize::MAX;
        assert!(write_once(&mut writer, &outbox).await.is_pending());
        let mut order: Vec<u8> = writer.stream.taken.iter().copied().filter(|byte| (1..=4).contains(byte)).collect();
        order.dedup();
        let bodies = |byte| writer.stream.taken.windows(1_000).filter(|window| **window == [byte; 1_000]).count();
        assert_eq!([1, 2, 3, 4].map(bodies), [1, 0, 1, 1]);
        let position = |byte| writer.stream.taken.windows(1_000).position(|window| *window == [byte; 1_000]);
        assert!(position(4) < position(3), "the more urgent one goes first: {order:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_accepts_nothing_ends_after_the_deadline() {
        let outbox = Outbox::new(SendQueueConfig::default());
        let mut writer = Writer::new(Narrow { room: 0, taken: Vec::new() }, STALL_MAX);
        outbox.push(message(1, Class::Forward));
        let started = tokio::time::Instant::now();
        let counters = MeshCounters::default();
        let error = std::future::poll_fn(|context| writer.poll_write(context, &outbox, &counters)).await;
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= STALL_MAX);
    }
}
