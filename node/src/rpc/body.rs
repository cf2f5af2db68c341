//! Reading the body of a request.
//!
//! What arrives is copied out of the pieces in which it comes, and each piece is let go before the next is awaited. *Rationale:* a piece keeps
//! the whole buffer alive that it was read into, 8 KiB with `hyper`, however little of it is the piece. Whoever sends one byte after the
//! other would have the node hold a buffer for each.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;

/// Why a body was not read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread<E> {
    /// It has more bytes than are taken.
    TooLarge,
    /// It broke off.
    Broken(E),
}

/// All of the body, of at most so many bytes.
pub(super) async fn read<B>(mut body: B, bytes_max: usize) -> Result<Bytes, Unread<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        // Trailers say nothing about the body.
        let Ok(piece) = frame.map_err(Unread::Broken)?.into_data() else { continue };
        if piece.len() > bytes_max - whole.len() {
            return Err(Unread::TooLarge);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    /// One byte in a buffer of many, which is counted for as long as it is held.
    struct Buffer {
        bytes: [u8; 8],
        held: Arc<AtomicUsize>,
    }

    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    impl Drop for Buffer {
        fn drop(&mut self) {
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A body that comes byte by byte, each in a buffer of its own.
    struct Drops {
        left: u8,
        held: Arc<AtomicUsize>,
        held_max: usize,
    }

    impl Body for Drops {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            let buffer = Buffer { bytes: [self.left; 8], held: Arc::clone(&self.held) };
            self.left -= 1;
            let held = self.held.fetch_add(1, Ordering::Relaxed) + 1;
            self.held_max = self.held_max.max(held);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(buffer).slice(..1)))))
        }
    }

    fn drops(count: u8) -> Drops {
        Drops { left: count, held: Arc::default(), held_max: 0 }
    }

    #[tokio::test]
    async fn no_buffer_is_held_for_the_byte_that_came_in_it() {
        let mut body = drops(200);
        let whole = read(&mut body, 200).await.expect("a whole body");
        let expected: Vec<u8> = (1..=200).rev().collect();
        assert_eq!((&whole[..], body.held_max), (&expected[..], 1));
    }

    #[tokio::test]
    async fn a_body_may_be_as_large_as_the_limit_and_no_larger() {
        assert_eq!(read(drops(0), 0).await, Ok(Bytes::new()));
        assert_eq!(read(drops(10), 10).await.map(|body| body.len()), Ok(10));
        assert_eq!(read(drops(11), 10).await, Err(Unread::TooLarge));
    }
}
