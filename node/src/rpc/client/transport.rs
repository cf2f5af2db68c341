//! How the client reaches a node: over TCP, or over a Unix socket.

use super::ClientError;
use crate::rpc::admin;
use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tower::Service;

/// How long a connection may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Where a node's RPC is. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `HOST:PORT`.
    Tcp(Arc<str>),
    /// A socket's file.
    Unix(Arc<PathBuf>),
}

impl Endpoint {
    /// Reads `HOST:PORT`, also as a URL with `http://` or `ws://`, or `unix:PATH`.
    pub(super) fn parse(text: &str) -> Result<Self, ClientError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(ClientError::Address(text.to_owned())) } else { Ok(Self::unix(path)) };
        }
        let bare = ["http://", "ws://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
        let bare = bare.trim_end_matches('/');
        let uri: Uri = format!("http://{bare}/").parse().map_err(|_no_uri| ClientError::Address(text.to_owned()))?;
        if uri.host().is_none_or(str::is_empty) || uri.port().is_none() || uri.path() != "/" {
            return Err(ClientError::Address(text.to_owned()));
        }
        Ok(Self::Tcp(bare.into()))
    }

    pub(super) fn unix(path: impl Into<PathBuf>) -> Self {
        Self::Unix(Arc::new(path.into()))
    }

    /// The `Host` of requests. Over a Unix socket it means nothing.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Tcp(address) => address,
            Self::Unix(_) => "localhost",
        }
    }

    pub(super) async fn connect(&self) -> io::Result<Stream> {
        let connect = async {
            match self {
                Self::Tcp(address) => {
                    let stream = TcpStream::connect(&**address).await?;
                    stream.set_nodelay(true)?;
                    Ok(Stream::Tcp(stream))
                }
                Self::Unix(path) => Ok(Stream::Unix(admin::connect(path).await?)),
            }
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the connection did not come about in time");
        tokio::time::timeout(CONNECT_DEADLINE, connect).await.unwrap_or_else(|_elapsed| Err(late()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Connects for `hyper`'s pool.
#[derive(Clone, Debug)]
pub(super) struct Connector(pub(super) Endpoint);

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let endpoint = self.0.clone();
        Box::pin(async move { endpoint.connect().await.map(TokioIo::new) })
    }
}

/// A connection of either kind.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
