//! TCP for libp2p that binds the node's own address, counts socket bytes and can emulate links.
//!
//! It is the lowest layer: noise and yamux run on top of it. What it promises:
//!
//! 1. **A dial leaves from the address on which the node listens.** The stock transport binds
//!    outgoing sockets to the unspecified address (rust-libp2p issue 3888), so a node that listens
//!    on 127.0.0.3 would be seen as 127.0.0.1 by everyone it dials, and all nodes of a local
//!    network would count as one address in scoring and limits. A listener on an unspecified
//!    address (`0.0.0.0`, `::`) binds nothing: there the operating system knows best. An address
//!    is used only for destinations of the same family and of the same kind (loopback or not).
//! 2. **Ports are not reused.** Dialling from the listening port helps hole punching, which this
//!    node does not do, and makes simultaneous dials between two nodes collide in the kernel.
//! 3. **Bytes are counted** where they enter and leave the socket, encryption and multiplexing
//!    included, see [`SocketCounters`].
//! 4. `TCP_NODELAY` is set on every connection.
//! 5. With a [`LinkEmulation`](super::emulation::LinkEmulation) in force, outgoing bytes go
//!    through the emulated link, and dialling waits one emulated round trip. See
//!    [`super::emulation`].

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Ready};
use futures::stream::{SelectAll, Stream, StreamExt};
use futures::{AsyncRead, AsyncWrite};
use if_watch::IfEvent;
use libp2p::core::multiaddr::{Multiaddr, Protocol};
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::emulation::line::{Emulation, Writer};

/// Connections that the kernel may hold for us before we accept them.
const BACKLOG: u32 = 1_024;

/// Pause after a failed accept (usually: too many open files), so that the failure is not repeated
/// in a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that went through this node's TCP sockets, shared by all its connections.
#[derive(Debug, Default)]
pub struct SocketCounters {
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl SocketCounters {
    /// Bytes read from sockets since the start.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Bytes written to sockets since the start.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    fn add_read(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_written(&self, bytes: usize) {
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The TCP transport; see the module documentation.
pub struct TcpTransport {
    counters: Arc<SocketCounters>,
    emulation: Option<Arc<Emulation>>,
    listeners: SelectAll<Listener>,
    events: VecDeque<Event>,
}

type Event = TransportEvent<Ready<io::Result<Connection>>, io::Error>;

impl TcpTransport {
    /// A transport that listens nowhere yet.
    #[must_use]
    pub fn new(counters: Arc<SocketCounters>, emulation: Option<Arc<Emulation>>) -> Self {
        Self { counters, emulation, listeners: SelectAll::new(), events: VecDeque::new() }
    }

    /// The address to bind before connecting to `remote`: the first address that we listen on and
    /// that can reach it.
    fn own_address_for(&self, remote: IpAddr) -> Option<IpAddr> {
        self.listeners.iter().filter(|listener| !listener.is_closed).map(|listener| listener.address.ip()).find(|own| {
            !own.is_unspecified() && own.is_ipv4() == remote.is_ipv4() && own.is_loopback() == remote.is_loopback()
        })
    }

    fn listen(&mut self, id: ListenerId, address: SocketAddr) -> io::Result<()> {
        let socket = new_socket(address.ip())?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let address = socket.local_addr()?;
        let interfaces = if address.ip().is_unspecified() {
            Some(if_watch::tokio::IfWatcher::new()?)
        } else {
            self.events.push_back(TransportEvent::NewAddress { listener_id: id, listen_addr: to_multiaddr(address) });
            None
        };
        self.listeners.push(Listener {
            id,
            address,
            socket,
            interfaces,
            counters: Arc::clone(&self.counters),
            emulation: self.emulation.clone(),
            pause: None,
            is_closed: false,
            reported_closed: false,
            waker: None,
        });
        Ok(())
    }
}

impl Transport for TcpTransport {
    type Output = Connection;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Connection>>;
    type Dial = BoxFuture<'static, io::Result<Connection>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let address = to_socket_addr(&address).ok_or_else(|| TransportError::MultiaddrNotSupported(address.clone()))?;
        self.listen(id, address).map_err(TransportError::Other)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let listener = self.listeners.iter_mut().find(|listener| listener.id == id);
        listener.map(Listener::close).is_some()
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let remote = to_socket_addr(&address)
            .filter(|remote| remote.port() != 0 && !remote.ip().is_unspecified())
            .ok_or(TransportError::MultiaddrNotSupported(address))?;
        let own = self.own_address_for(remote.ip());
        let counters = Arc::clone(&self.counters);
        let emulation = self.emulation.clone();
        Ok(async move {
            let socket = new_socket(remote.ip())?;
            if let Some(own) = own {
                socket.bind(SocketAddr::new(own, 0))?;
            }
            if let Some(emulation) = &emulation {
                emulation.reachable(remote.ip()).await;
            }
            let stream = socket.connect(remote).await?;
            if let Some(emulation) = &emulation {
                emulation.round_trip(remote.ip()).await;
            }
            Ok(Connection::new(stream, remote, counters, emulation.as_ref()))
        }
        .boxed())
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Event> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        match self.listeners.poll_next_unpin(context) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// One listening socket; a stream of what happens on it.
struct Listener {
    id: ListenerId,
    address: SocketAddr,
    socket: TcpListener,
    /// Set for an unspecified address: tells which addresses that means.
    interfaces: Option<if_watch::tokio::IfWatcher>,
    counters: Arc<SocketCounters>,
    emulation: Option<Arc<Emulation>>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    is_closed: bool,
    reported_closed: bool,
    waker: Option<Waker>,
}

impl Listener {
    fn close(&mut self) {
        self.is_closed = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll_interfaces(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let Some(interfaces) = &mut self.interfaces else {
            return Poll::Pending;
        };
        loop {
            let event = match ready!(interfaces.poll_if_event(context)) {
                Err(error) => {
                    return Poll::Ready(TransportEvent::ListenerError { listener_id: self.id, error });
                }
                Ok(event) => event,
            };
            let (IfEvent::Up(net) | IfEvent::Down(net)) = event;
            if net.addr().is_ipv4() != self.address.is_ipv4() {
                continue;
            }
            let listener_id = self.id;
            let listen_addr = to_multiaddr(SocketAddr::new(net.addr(), self.address.port()));
            return Poll::Ready(match event {
                IfEvent::Up(_) => TransportEvent::NewAddress { listener_id, listen_addr },
                IfEvent::Down(_) => TransportEvent::AddressExpired { listener_id, listen_addr },
            });
        }
    }

    fn accepted(&self, stream: TcpStream, remote: SocketAddr) -> io::Result<Event> {
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let emulation = self.emulation.as_ref();
        let connection = Connection::new(stream, remote, Arc::clone(&self.counters), emulation);
        Ok(TransportEvent::Incoming {
            listener_id: self.id,
            upgrade: futures::future::ok(connection),
            local_addr: to_multiaddr(local),
            send_back_addr: to_multiaddr(remote),
        })
    }
}

impl Stream for Listener {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        if this.is_closed {
            if this.reported_closed {
                return Poll::Ready(None);
            }
            this.reported_closed = true;
            return Poll::Ready(Some(TransportEvent::ListenerClosed { listener_id: this.id, reason: Ok(()) }));
        }
        this.waker = Some(context.waker().clone());
        if let Poll::Ready(event) = this.poll_interfaces(context) {
            return Poll::Ready(Some(event));
        }
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        let event = ready!(this.socket.poll_accept(context)).and_then(|(stream, remote)| this.accepted(stream, remote));
        Poll::Ready(Some(event.unwrap_or_else(|error| {
            this.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
            TransportEvent::ListenerError { listener_id: this.id, error }
        })))
    }
}

/// An established TCP connection, plain or behind an emulated link.
pub struct Connection {
    link: Link,
    counters: Arc<SocketCounters>,
}

enum Link {
    Direct(TcpStream),
    Emulated { reader: tokio::net::tcp::OwnedReadHalf, writer: Writer },
}

impl Connection {
    fn new(
        stream: TcpStream,
        remote: SocketAddr,
        counters: Arc<SocketCounters>,
        emulation: Option<&Arc<Emulation>>,
    ) -> Self {
        let link = match emulation {
            None => Link::Direct(stream),
            Some(emulation) => {
                let (reader, socket) = stream.into_split();
                let writer = emulation.attach(remote.ip(), socket, Arc::clone(&counters));
                Link::Emulated { reader, writer }
            }
        };
        Self { link, counters }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = tokio::io::ReadBuf::new(buffer);
        match &mut self.link {
            Link::Direct(stream) => {
                ready!(tokio::io::AsyncRead::poll_read(Pin::new(stream), context, &mut buffer))?;
            }
            Link::Emulated { reader, .. } => {
                ready!(tokio::io::AsyncRead::poll_read(Pin::new(reader), context, &mut buffer))?;
            }
        }
        let read = buffer.filled().len();
        self.counters.add_read(read);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.link {
            Link::Direct(stream) => {
                let written = ready!(tokio::io::AsyncWrite::poll_write(Pin::new(stream), context, bytes))?;
                self.counters.add_written(written);
                Poll::Ready(Ok(written))
            }
            Link::Emulated { writer, .. } => writer.poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.link {
            Link::Direct(stream) => {
                let written = ready!(tokio::io::AsyncWrite::poll_write_vectored(Pin::new(stream), context, slices))?;
                self.counters.add_written(written);
                Poll::Ready(Ok(written))
            }
            Link::Emulated { writer, .. } => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                writer.poll_write(context, first.map_or(&[], |slice| slice))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.link {
            Link::Direct(stream) => tokio::io::AsyncWrite::poll_flush(Pin::new(stream), context),
            // As with the kernel's own send buffer, what was accepted is on its way.
            Link::Emulated { .. } => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.link {
            Link::Direct(stream) => tokio::io::AsyncWrite::poll_shutdown(Pin::new(stream), context),
            Link::Emulated { writer, .. } => writer.poll_close(context),
        }
    }
}

fn new_socket(family_of: IpAddr) -> io::Result<TcpSocket> {
    let socket = match family_of {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn to_multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// The socket address in `/ip4/../tcp/..` or `/ip6/../tcp/..`, with or without `/p2p/..` behind it;
/// `None` for anything else.
fn to_socket_addr(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let Protocol::Tcp(port) = parts.next()? else {
        return None;
    };
    match (parts.next(), parts.next()) {
        (None | Some(Protocol::P2p(_)), None) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
