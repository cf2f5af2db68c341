//! Asking a peer about the chain: one request and one response of opaque bytes on a stream of its own.
//!
//! The protocol is `/starling/<network>/sync/1`, the network being the first eight hex characters of its id. A body
//! travels as a 32-bit little-endian length and so many bytes. The length is checked before anything is allocated, and
//! memory grows with what arrives rather than with what is announced. What the bytes mean is `starling_protocol`'s business.
//!
//! Limits: [`REQUEST_BYTES_MAX`], the configured longest response, [`STREAMS_PER_CONNECTION`] at once, and [`TIMEOUT`] for the whole
//! exchange.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::{self, ProtocolSupport};

/// Longest request; more than the protocol allows, so that what is too long is judged there.
pub const REQUEST_BYTES_MAX: usize = 16 * 1_024;

/// Requests in progress at once on one connection, both directions together. The machine answers fewer for one peer
/// ([`starling_protocol::chain::SERVED_PER_PEER_MAX`]) and refuses the others in words; a stream beyond this number is
/// closed.
pub const STREAMS_PER_CONNECTION: usize = 16;

/// How long a request may take in all, the answer included.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The behaviour for this protocol.
pub type Behaviour = request_response::Behaviour<Codec>;
/// What it reports.
pub type Event = request_response::Event<Vec<u8>, Vec<u8>>;

/// A behaviour for the network whose id begins with these eight hex characters.
///
/// # Panics
/// Never: the name begins with a slash.
#[must_use]
pub fn behaviour(network: &str, response_bytes_max: usize) -> Behaviour {
    let config = request_response::Config::default()
        .with_request_timeout(TIMEOUT)
        .with_max_concurrent_streams(STREAMS_PER_CONNECTION);
    Behaviour::with_codec(Codec { response_bytes_max }, [(protocol(network), ProtocolSupport::Full)], config)
}

/// The protocol's name.
///
/// # Panics
/// Never: the name begins with a slash.
#[must_use]
pub fn protocol(network: &str) -> StreamProtocol {
    StreamProtocol::try_from_owned(format!("/starling/{network}/sync/1")).expect("the name begins with a slash")
}

/// Reads and writes the bodies.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    response_bytes_max: usize,
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Vec<u8>> {
        read(stream, REQUEST_BYTES_MAX).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Vec<u8>> {
        read(stream, self.response_bytes_max).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()> {
        write(stream, &request, REQUEST_BYTES_MAX).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()> {
        write(stream, &response, self.response_bytes_max).await
    }
}

async fn read<T: AsyncRead + Unpin + Send>(stream: &mut T, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length);
    let length_bytes = usize::try_from(length).unwrap_or(usize::MAX);
    check_length(length_bytes, bytes_max)?;
    let mut body = Vec::new();
    let read = stream.take(u64::from(length)).read_to_end(&mut body).await?;
    if read == length_bytes { Ok(body) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn write<T: AsyncWrite + Unpin + Send>(stream: &mut T, body: &[u8], bytes_max: usize) -> io::Result<()> {
    check_length(body.len(), bytes_max)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_le_bytes()).await?;
    stream.write_all(body).await?;
    stream.close().await
}

fn check_length(length_bytes: usize, bytes_max: usize) -> io::Result<()> {
    if length_bytes <= bytes_max {
        return Ok(());
    }
    let message = format!("a body of {length_bytes} bytes exceeds the limit of {bytes_max}");
    Err(io::Error::new(io::ErrorKind::InvalidData, message))
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::*;

    #[test]
    fn bodies_come_back_and_oversized_or_cut_ones_are_refused() {
        let mut wire = Cursor::new(Vec::new());
        block_on(write(&mut wire, b"hello", 5)).unwrap();
        let wire = wire.into_inner();
        assert_eq!(block_on(read(&mut Cursor::new(&wire), 5)).unwrap(), b"hello");

        let too_long = block_on(read(&mut Cursor::new(&wire), 4)).unwrap_err();
        assert!(too_long.to_string().contains("5 bytes exceeds the limit of 4"));
        let announced = block_on(read(&mut Cursor::new(u32::MAX.to_le_bytes()), 1 << 20)).unwrap_err();
        assert_eq!(announced.kind(), io::ErrorKind::InvalidData);
        let cut = block_on(read(&mut Cursor::new(&wire[..7]), 5)).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
        assert!(block_on(write(&mut Cursor::new(Vec::new()), b"hello", 4)).is_err());
    }
}
