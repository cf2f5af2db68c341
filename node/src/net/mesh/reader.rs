//! The reading half of the mesh on one connection: frames off a stream, decoded.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::AsyncRead;
use starling_protocol::rpc::Rpc;
use starling_protocol::time::Time;
use starling_protocol::wire::{self, TopicInterner, WireError, WireLimits};

use crate::clock;

/// Bytes asked of the stream at a time, at least.
const READ_BYTES: usize = 16 * 1_024;

/// A buffer that grew beyond this for a large frame is given back when it is empty.
const BUFFER_BYTES_KEPT: usize = 64 * 1_024;

/// Reads length-prefixed RPCs from a stream.
///
/// The announced length is checked before a byte of the frame is buffered, the limits are scanned before anything is
/// decoded, and memory grows with the bytes that arrived, not with those announced.
#[derive(Debug)]
pub(super) struct Reader<S> {
    stream: S,
    /// Initialised once and then used again: clearing it for each read would cost more than most reads do.
    buffer: Vec<u8>,
    /// Where what was read and not yet decoded begins and ends in the buffer.
    unread: Range<usize>,
}

/// What came off the stream.
#[derive(Debug)]
pub(super) enum Read {
    /// An RPC, decoded at this time from a frame of so many bytes (without the length prefix).
    Rpc { rpc: Box<Rpc>, received: Time, frame_bytes: usize },
    /// A frame that could not be decoded; the next one can be read.
    BadFrame(WireError),
    /// The stream cannot be read on, because its framing is broken.
    BadFraming(WireError),
    /// The stream ended, in good order or not.
    End(io::Result<()>),
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), unread: 0..0 }
    }

    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        limits: &WireLimits,
        topics: &TopicInterner,
    ) -> Poll<Read> {
        loop {
            match self.take_buffered(limits, topics) {
                Ok(None) => {}
                Ok(Some(read)) => return Poll::Ready(read),
                Err(error) => return Poll::Ready(Read::BadFraming(error)),
            }
            match ready!(self.poll_fill(context)) {
                Ok(0) if self.unread.is_empty() => return Poll::Ready(Read::End(Ok(()))),
                Ok(0) => return Poll::Ready(Read::End(Err(io::ErrorKind::UnexpectedEof.into()))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Read::End(Err(error))),
            }
        }
    }

    /// The next frame, if it is in the buffer as a whole.
    fn take_buffered(&mut self, limits: &WireLimits, topics: &TopicInterner) -> Result<Option<Read>, WireError> {
        let unread = &self.buffer[self.unread.clone()];
        let Some(prefix) = wire::read_prefix(unread, limits)? else { return Ok(None) };
        let frame_end = prefix.prefix_bytes + prefix.frame_bytes;
        let Some(frame) = unread.get(prefix.prefix_bytes..frame_end) else { return Ok(None) };
        let decoded = wire::decode(frame, limits, topics);
        self.unread.start += frame_end;
        if self.unread.is_empty() {
            self.unread = 0..0;
            if self.buffer.len() > BUFFER_BYTES_KEPT {
                self.buffer = Vec::new();
            }
        }
        Ok(Some(match decoded {
            Ok(rpc) => Read::Rpc { rpc: Box::new(rpc), received: clock::now(), frame_bytes: prefix.frame_bytes },
            Err(error) => Read::BadFrame(error),
        }))
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.len() - self.unread.end < READ_BYTES {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            let needed = self.unread.end + READ_BYTES;
            if self.buffer.len() < needed {
                self.buffer.resize(needed, 0);
            }
        }
        let read = Pin::new(&mut self.stream).poll_read(context, &mut self.buffer[self.unread.end..]);
        if let Poll::Ready(Ok(bytes)) = &read {
            self.unread.end += bytes;
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::io::Cursor;
    use starling_protocol::id::Topic;
    use starling_protocol::message::Payload;
    use starling_protocol::rpc::{Class, Frame};

    use super::*;

    fn encoded(data: &[u8]) -> Vec<u8> {
        let payload = Payload::new(&Topic::new("t"), data);
        wire::encode(&[Frame::Publish { payload, class: Class::Forward }]).to_vec()
    }

    async fn read_all(bytes: Vec<u8>, limits: &WireLimits) -> Vec<Read> {
        let mut reader = Reader::new(Cursor::new(bytes));
        let mut all = Vec::new();
        loop {
            let topics = TopicInterner::default();
            let next = std::future::poll_fn(|context| reader.poll_next(context, limits, &topics)).await;
            let last = matches!(next, Read::End(_) | Read::BadFraming(_));
            all.push(next);
            if last {
                return all;
            }
        }
    }

    fn data(read: &Read) -> Option<Arc<Payload>> {
        if let Read::Rpc { rpc, .. } = read { rpc.publish.first().cloned() } else { None }
    }

    #[tokio::test]
    async fn frames_of_all_sizes_come_out_whole_and_in_order() {
        let sizes = [0usize, 1, 100, READ_BYTES - 7, READ_BYTES, 3 * READ_BYTES, 5];
        let bytes = sizes.iter().flat_map(|size| encoded(&vec![7; *size])).collect();
        let read = read_all(bytes, &WireLimits::default()).await;
        let seen: Vec<usize> = read.iter().filter_map(data).map(|payload| payload.data().len()).collect();
        assert_eq!(seen, sizes);
        assert!(matches!(read.last(), Some(Read::End(Ok(())))));
    }

    #[tokio::test]
    async fn a_bad_frame_is_skipped_and_the_next_one_read() {
        let mut bytes = vec![3, 0xff, 0xff, 0xff];
        bytes.extend(encoded(b"good"));
        let read = read_all(bytes, &WireLimits::default()).await;
        assert!(matches!(read[0], Read::BadFrame(_)), "{read:?}");
        assert_eq!(data(&read[1]).expect("an RPC").data(), b"good");
    }

    #[tokio::test]
    async fn an_oversized_frame_ends_the_stream_before_it_is_buffered() {
        let limits = WireLimits { frame_bytes_max: 1_000, ..WireLimits::default() };
        let read = read_all(encoded(&[0; 1_000]), &limits).await;
        assert!(matches!(read[..], [Read::BadFraming(WireError::FrameTooLong { max: 1_000, .. })]), "{read:?}");
    }

    #[tokio::test]
    async fn a_stream_cut_within_a_frame_ends_with_an_error() {
        let mut bytes = encoded(b"whole");
        bytes.pop();
        let read = read_all(bytes, &WireLimits::default()).await;
        assert!(matches!(read[..], [Read::End(Err(_))]), "{read:?}");
    }
}
