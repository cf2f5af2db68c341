//! Keeps a connection from asking faster than it is answered.
//!
//! `jsonrpsee` spawns a task for every message of a WebSocket, and its answer waits in that task when the other end does
//! not read: a client that sends without reading, or faster than the node answers, would fill the memory. So the connection
//! is not read while [`CALLS_MAX`] of its calls are under way, or while it does not take what is written to it. The
//! client's bytes then wait in its own socket, which is what TCP's window is for.
//!
//! After each read the reader gives way once, so that the tasks of what it read begin, and are counted, before it reads
//! on. What one read brings may therefore exceed [`CALLS_MAX`]; nothing more may.

use futures::task::AtomicWaker;
use jsonrpsee::core::middleware::{Batch, Notification, RpcServiceT};
use jsonrpsee::types::Request;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::Layer;

/// Calls of one connection that may be under way before it is read on; a batch counts as one. A guess: enough to keep the
/// node busy from one connection.
pub(super) const CALLS_MAX: usize = 16;

/// What a connection has under way.
#[derive(Debug, Default)]
pub(super) struct Load {
    calls: AtomicUsize,
    /// Whether the other end takes no more bytes.
    refuses: AtomicBool,
    reader: AtomicWaker,
}

impl Load {
    fn is_too_much(&self) -> bool {
        self.calls.load(Ordering::Acquire) >= CALLS_MAX || self.refuses.load(Ordering::Acquire)
    }

    fn begin(self: &Arc<Self>) -> Call {
        self.calls.fetch_add(1, Ordering::AcqRel);
        Call(Arc::clone(self))
    }

    fn set_refuses(&self, refuses: bool) {
        if self.refuses.swap(refuses, Ordering::AcqRel) && !refuses {
            self.reader.wake();
        }
    }
}

/// A call that is under way until this is dropped.
struct Call(Arc<Load>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
        self.0.reader.wake();
    }
}

/// A stream that is read only while its load allows.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    load: Arc<Load>,
    gives_way: bool,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, load: Arc<Load>) -> Self {
        Self { stream, load, gives_way: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.gives_way) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.load.is_too_much() {
            self.load.reader.register(context.waker());
            // It may have become less before the waker was there to be woken.
            if self.load.is_too_much() {
                return Poll::Pending;
            }
        }
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.gives_way = true;
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.load.set_refuses(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.load.set_refuses(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Counts the calls of one connection.
#[derive(Clone, Debug)]
pub(super) struct CountCalls(pub(super) Arc<Load>);

impl<S> Layer<S> for CountCalls {
    type Service = Counted<S>;

    fn layer(&self, service: S) -> Counted<S> {
        Counted { service, load: Arc::clone(&self.0) }
    }
}

/// A service whose calls are counted.
#[derive(Clone, Debug)]
pub(super) struct Counted<S> {
    service: S,
    load: Arc<Load>,
}

impl<S: RpcServiceT> RpcServiceT for Counted<S> {
    type MethodResponse = S::MethodResponse;
    type NotificationResponse = S::NotificationResponse;
    type BatchResponse = S::BatchResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = Self::MethodResponse> + Send + 'a {
        counted(self.load.begin(), self.service.call(request))
    }

    fn batch<'a>(&self, requests: Batch<'a>) -> impl Future<Output = Self::BatchResponse> + Send + 'a {
        counted(self.load.begin(), self.service.batch(requests))
    }

    fn notification<'a>(&self, n: Notification<'a>) -> impl Future<Output = Self::NotificationResponse> + Send + 'a {
        counted(self.load.begin(), self.service.notification(n))
    }
}

async fn counted<F: Future>(call: Call, answer: F) -> F::Output {
    let answer = answer.await;
    drop(call);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn nothing_is_read_while_too_much_is_under_way() {
        let load = Arc::new(Load::default());
        let (mut client, server) = tokio::io::duplex(1_000);
        let mut server = Paced::new(server, Arc::clone(&load));
        client.write_all(b"ab").await.expect("room");
        assert_eq!(server.read_u8().await.expect("a byte"), b'a');
        let mut calls: Vec<Call> = (0..CALLS_MAX).map(|_| load.begin()).collect();
        let reading = tokio::spawn(async move {
            let byte = server.read_u8().await.expect("a byte");
            (server, byte)
        });
        tokio::task::yield_now().await;
        assert!(!reading.is_finished(), "it waits for a call to end");
        calls.pop();
        let (mut server, byte) = reading.await.expect("no panic");
        assert_eq!(byte, b'b');
        drop(calls);

        // The client reads nothing: once its buffer is full, it is not read either, until it takes something.
        client.write_all(b"c").await.expect("room");
        let mut writing = Box::pin(server.write_all(&[7; 2_000]));
        assert!(futures::poll!(writing.as_mut()).is_pending());
        drop(writing);
        let reading = tokio::spawn(async move {
            let mut answer = [0; 1_000];
            client.read_exact(&mut answer).await.expect("an answer");
            client
        });
        let _client = reading.await.expect("no panic");
        let (mut read, mut write) = tokio::io::split(server);
        assert!(load.is_too_much());
        write.write_all(b"more").await.expect("room again");
        assert_eq!(read.read_u8().await.expect("a byte"), b'c');
    }
}
