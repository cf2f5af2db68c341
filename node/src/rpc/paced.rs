//! The stream of a connection: read no faster than its messages are answered and paid for, and never after it was closed.
//!
//! Whoever serves the WebSocket above (`jsonrpsee`) takes messages as fast as they can be read, with a task for each, and
//! answers by itself what is no call; so only here every message can be held back. A WebSocket is therefore read in pieces
//! that end where a frame's header and payload end ([`Frames`]), and nothing is read ahead: as long as the next frame is not
//! asked for, its bytes wait in the client's socket. What is written is followed as well, to know when a message is answered:
//! with the last byte of an answer that the system takes. A large answer gives its room back then ([`super::answers`]), of
//! which a connection has one at a time: over a WebSocket it is the large frame that is a batch or has a result, which what
//! `jsonrpsee` says by itself has not; over HTTP everything is written when the writer flushes.
//!
//! # Where the frames begin
//! A reader of HTTP may take more than the head of a request, and what it has taken too much does not pass here again. So a
//! WebSocket must be the first request of its connection, and nothing may follow its head before it is answered, which a
//! client must wait for anyway (RFC 6455, section 4.1).

use super::answers::SMALL_BYTES_MAX;
use super::codes::ID_BYTES_MAX;
use super::connections::{Connection, Connections};
use super::frames::{Frame, Frames, Head};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// So many bytes of a request cost as much as the cheapest call.
pub(super) const BYTES_PER_UNIT: usize = 16 << 10;

/// How the messages begin that are no answers, but events of subscriptions.
const EVENT: &[u8] = b"{\"jsonrpc\":\"2.0\",\"method\":";

/// What stands in a large answer to a call behind its id, and nowhere in a text, where quotes are escaped.
const RESULT: &[u8] = b",\"result\":";

/// How far into an answer its result begins at most: the id may be escaped, with six bytes for each.
const RESULT_WITHIN_BYTES: usize = 64 + 6 * ID_BYTES_MAX;

/// The stream of a connection, which has its place until the stream goes.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    connection: Arc<Connection>,
    all: Arc<Connections>,
    /// Of the first request.
    request_head: Head,
    /// From the client.
    frames: Frames,
    /// Of the message whose frames come.
    message_bytes: u64,
    units_owed: u32,
    until_paid: Option<Pin<Box<Sleep>>>,
    answers: Answers,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, connection: Arc<Connection>, all: Arc<Connections>) -> Self {
        Self {
            stream,
            connection,
            all,
            request_head: Head::default(),
            frames: Frames::default(),
            message_bytes: 0,
            units_owed: 0,
            until_paid: None,
            answers: Answers::default(),
        }
    }
}

impl<S> Drop for Paced<S> {
    fn drop(&mut self) {
        self.all.forget(&self.connection);
    }
}

fn was_closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "closed to make room, because nothing was read, or as malformed")
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Before anything is looked at, so that whatever changes it from now on is noticed.
        self.connection.register_reader(context);
        if self.connection.is_closed() {
            return Poll::Ready(Err(was_closed()));
        }
        if self.connection.is_refusing() {
            return Poll::Pending;
        }
        if self.connection.is_websocket() {
            return self.read_frame(context, buffer);
        }
        let filled = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let new = &buffer.filled()[filled..];
        if self.request_head.take(new) < new.len() {
            self.connection.set_spoke_early();
        }
        read
    }
}

impl<S: AsyncRead + Unpin> Paced<S> {
    /// Reads as far as the end of a header, or as far as that of a payload.
    fn read_frame(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pay(context));
        if self.frames.is_between() && self.connection.has_too_much() {
            return Poll::Pending;
        }
        let mut read_any = false;
        loop {
            let wanted = self.frames.wanted().min(buffer.remaining());
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(wanted));
            match Pin::new(&mut self.stream).poll_read(context, &mut part) {
                Poll::Pending if read_any => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(read) => read?,
            }
            let read = part.filled().len();
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            read_any = true;
            let step = self.frames.take(part.filled());
            buffer.advance(read);
            if let Some(frame) = step.began {
                self.begin(frame)?;
            }
            if step.ended.is_some_and(|frame| frame.is_final && (frame.is_data() || frame.is_continuation())) {
                self.connection.message_taken(self.message_bytes);
            }
            if step.began.is_some() || step.ended.is_some() || self.frames.is_in_payload() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn begin(&mut self, frame: Frame) -> io::Result<()> {
        self.units_owed = price(frame.payload_bytes, self.all.message_bytes_max());
        if frame.is_data() {
            self.message_bytes = frame.payload_bytes;
        } else if frame.is_continuation() {
            self.message_bytes = self.message_bytes.saturating_add(frame.payload_bytes);
            // A frame that is too large by itself is answered. Of a message that is so in parts, more is skipped than
            // belongs to it, so what follows would not be what it seems here.
            if self.message_bytes > self.all.message_bytes_max() {
                self.connection.close();
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too large in its parts"));
            }
        }
        Ok(())
    }

    /// Waits until the client has the units that it owes.
    fn poll_pay(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.units_owed > 0 {
            match self.all.limits().spend(self.connection.door().client(), self.units_owed) {
                Ok(()) => self.units_owed = 0,
                Err(wait) => {
                    let at = Instant::now() + wait;
                    let until_paid = self.until_paid.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                    until_paid.as_mut().reset(at);
                    ready!(until_paid.as_mut().poll(context));
                }
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncWrite + Unpin> Paced<S> {
    fn write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.connection.register_writer(context);
        if self.connection.is_closed() {
            return Poll::Ready(Err(was_closed()));
        }
        let written = write(Pin::new(&mut self.stream), context);
        self.connection.set_refuses(written.is_pending());
        if let Poll::Ready(Ok(bytes)) = written {
            self.connection.took(bytes);
            if self.connection.is_websocket() {
                self.follow(slices, bytes);
            }
        }
        written
    }

    /// Follows the answers of a WebSocket in the bytes that were just written.
    fn follow(&mut self, slices: &[io::IoSlice<'_>], mut left: usize) {
        let mut ended = Ended::default();
        for slice in slices {
            let (now, _unwritten) = slice.split_at(left.min(slice.len()));
            self.answers.take(now, &mut ended);
            left -= now.len();
        }
        if ended.large {
            self.connection.large_ended();
        }
        if ended.answers > 0 {
            self.connection.messages_answered(ended.answers);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let slices = [io::IoSlice::new(bytes)];
        self.write(context, &slices, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, slices, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever writes HTTP flushes when it has written all that it had, and takes an answer in the step in which it is made.
        if !self.connection.is_websocket() {
            self.connection.large_ended();
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Follows what is written to a WebSocket, from the head of the handshake's answer on.
#[derive(Debug, Default)]
struct Answers {
    head: Head,
    frames: Frames,
    /// How much of the present payload there was.
    payload_bytes: usize,
    /// Whether it has begun like an event so far.
    is_event: bool,
    /// The beginning of the payload, if it is large.
    start: Vec<u8>,
}

/// What some written bytes have brought to their end.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    answers: u64,
    /// Whether one of them was large.
    large: bool,
}

impl Answers {
    /// Takes bytes, and adds the answers that are complete with them.
    fn take(&mut self, bytes: &[u8], ended: &mut Ended) {
        let mut rest = &bytes[self.head.take(bytes)..];
        while !rest.is_empty() {
            let (taken, left) = rest.split_at(self.frames.wanted().min(rest.len()));
            rest = left;
            if self.frames.is_in_payload() {
                let expected = EVENT.get(self.payload_bytes..).unwrap_or_default();
                self.is_event &= expected.iter().zip(taken).all(|(expected, byte)| expected == byte);
                if self.frames.wanted().saturating_add(self.payload_bytes) > SMALL_BYTES_MAX {
                    let missing = RESULT_WITHIN_BYTES.saturating_sub(self.start.len());
                    self.start.extend(&taken[..missing.min(taken.len())]);
                }
                self.payload_bytes = self.payload_bytes.saturating_add(taken.len());
            } else {
                (self.payload_bytes, self.is_event) = (0, true);
                self.start.clear();
            }
            if let Some(frame) = self.frames.take(taken).ended {
                let is_event = self.is_event && self.payload_bytes >= EVENT.len();
                if frame.is_data() && !is_event {
                    ended.answers += 1;
                    ended.large |= self.is_large();
                }
            }
        }
    }

    /// Whether what has ended is a large answer that somebody was called for.
    fn is_large(&self) -> bool {
        self.start.first() == Some(&b'[') || self.start.windows(RESULT.len()).any(|part| part == RESULT)
    }
}

/// What a frame costs in units: one, and further ones for its bytes. What is announced beyond the limit is not read, and not paid for: otherwise
/// whoever announces much locks out everybody with the same address.
fn price(payload_bytes: u64, message_bytes_max: u64) -> u32 {
    let units = payload_bytes.min(message_bytes_max) / BYTES_PER_UNIT as u64;
    u32::try_from(units).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::super::connections::{Door, MALFORMED_MAX, MESSAGES_MAX, UNANSWERED_BYTES_MAX};
    use super::super::limits::Limits;
    use super::*;
    use std::net::IpAddr;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    const ANSWER: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":7}";

    fn admit(units_per_second: u32) -> (Arc<Connections>, Arc<Connection>) {
        let all = Connections::new(4, 1_000, 64 << 20, Arc::new(Limits::new(units_per_second)));
        let address = IpAddr::from([127, 0, 0, 1]);
        let connection = all.admit(Door::Tcp { local: address, remote: address }).expect("room");
        (all, connection)
    }

    /// A connection that has become a WebSocket, and its client.
    async fn websocket(units_per_second: u32) -> (DuplexStream, Paced<DuplexStream>, Arc<Connection>) {
        let (all, connection) = admit(units_per_second);
        let (client, server) = tokio::io::duplex(1 << 20);
        let mut server = Paced::new(server, Arc::clone(&connection), Arc::clone(&all));
        assert!(connection.may_upgrade() && all.upgrade(&connection));
        server.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.expect("room");
        (client, server, connection)
    }

    /// Final, masked with zeros.
    fn from_client(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("short");
        [&[0x80 | opcode, 0x80 | length, 0, 0, 0, 0], payload].concat()
    }

    fn from_server(payload: &[u8]) -> Vec<u8> {
        [&[0x81, u8::try_from(payload.len()).expect("short")], payload].concat()
    }

    /// Reads what can be read at once, in pieces as the pieces come.
    async fn pieces(server: &mut Paced<DuplexStream>) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut buffer = [0; 8_192];
        while let Poll::Ready(read) = futures::poll!(Box::pin(tokio::task::unconstrained(server.read(&mut buffer)))) {
            match read {
                Ok(0) | Err(_) => break,
                Ok(bytes) => pieces.push(buffer[..bytes].to_vec()),
            }
        }
        pieces
    }

    #[tokio::test]
    async fn whatever_is_in_them_messages_are_read_no_faster_than_they_are_answered() {
        let (mut client, mut server, connection) = websocket(0).await;
        client.write_all(&from_client(1, b"x").repeat(1_000)).await.expect("room");
        let read = pieces(&mut server).await;
        assert_eq!(read.len() as u64, 2 * MESSAGES_MAX, "headers and payloads");
        assert!(read.iter().all(|piece| piece.len() == 6 || piece == b"x"), "a read ends where a header does");
        assert!(pieces(&mut server).await.is_empty());

        // Neither events nor pings are answers, however they are cut.
        let event = from_server(b"{\"jsonrpc\":\"2.0\",\"method\":\"chain_subscription\",\"params\":7}");
        for byte in event.iter().chain(&[0x89, 0]) {
            server.write_all(&[*byte]).await.expect("room");
        }
        assert!(pieces(&mut server).await.is_empty());
        let answer = from_server(ANSWER);
        let (last, others) = answer.split_last().expect("bytes");
        server.write_all(others).await.expect("room");
        assert!(pieces(&mut server).await.is_empty(), "it is not complete");
        connection.message_called();
        server.write_all(&[*last]).await.expect("room");
        assert_eq!(pieces(&mut server).await.len(), 2, "one was answered, one more is read");
        connection.message_called();
        connection.message_silent();
        assert_eq!(pieces(&mut server).await.len(), 2, "one was a notification");
    }

    #[tokio::test]
    async fn who_waits_for_an_answer_is_woken_by_it() {
        let (mut client, server, connection) = websocket(0).await;
        client.write_all(&from_client(2, b"").repeat(100)).await.expect("room");
        let (mut read, mut write) = tokio::io::split(server);
        let reading = tokio::spawn(async move {
            let mut frames = vec![0; 6 * 100];
            read.read_exact(&mut frames).await.map(|_| ())
        });
        for _ in 0..100 - MESSAGES_MAX {
            tokio::task::yield_now().await;
            assert!(!reading.is_finished());
            connection.message_called();
            write.write_all(&from_server(ANSWER)).await.expect("room");
        }
        reading.await.expect("no panic").expect("all of them");
    }

    #[tokio::test]
    async fn a_message_in_parts_counts_once_and_is_no_larger_than_others() {
        let (mut client, mut server, connection) = websocket(0).await;
        for _ in 0..MESSAGES_MAX {
            let mut start = from_client(1, b"a");
            start[0] = 1;
            client.write_all(&start).await.expect("room");
            client.write_all(&from_client(9, b"ping")).await.expect("room");
            client.write_all(&from_client(0, b"b")).await.expect("room");
        }
        assert!(!connection.has_too_much());
        assert_eq!(pieces(&mut server).await.len() as u64, 6 * MESSAGES_MAX);
        assert!(connection.has_too_much());

        let (mut client, mut server, _) = websocket(0).await;
        let mut part = from_client(1, &[0; 100]);
        part[0] = 1;
        client.write_all(&part).await.expect("room");
        part[0] = 0;
        client.write_all(&part.repeat(20)).await.expect("room");
        assert_eq!(pieces(&mut server).await.len(), 2 * 10);
        assert!(server.read_u8().await.is_err(), "more than 1000 bytes");
    }

    /// A server's text frame of more than 126 bytes.
    fn long_from_server(payload: &[u8]) -> Vec<u8> {
        [&[0x81, 127], &(payload.len() as u64).to_be_bytes()[..], payload].concat()
    }

    #[tokio::test]
    async fn a_large_answer_has_its_room_until_its_last_byte_is_written() {
        let (_client, mut server, connection) = websocket(0).await;
        let all = Arc::clone(&server.all);
        let padding = "7".repeat(SMALL_BYTES_MAX);
        let id = "\\u0007".repeat(ID_BYTES_MAX);
        let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":\"{id}\",\"result\":{padding}}}");
        let event = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":{{\"a\":1,\"result\":{padding}}}}}");
        let id = format!("\\\",\\\"result\\\":{padding}");
        let refused =
            format!("{{\"jsonrpc\":\"2.0\",\"id\":\"{id}\",\"error\":{{\"code\":-32600,\"message\":\"a\"}}}}");
        for large in [answer, format!("[{padding}]")] {
            let room = all.room(&connection).await.expect("room");
            connection.large_begins(room, large.len());
            for other in [&event, &refused] {
                server.write_all(&long_from_server(other.as_bytes())).await.expect("room");
            }
            server.write_all(&from_server(ANSWER)).await.expect("room");
            server.flush().await.expect("flushed");
            let frame = long_from_server(large.as_bytes());
            let (last, others) = frame.split_last().expect("bytes");
            for part in others.chunks(1_000) {
                server.write_all(part).await.expect("room");
            }
            assert_eq!(all.answer_bytes(), large.len(), "{}", &large[..40]);
            server.write_all(&[*last]).await.expect("room");
            assert_eq!(all.answer_bytes(), 0);
        }
    }

    #[tokio::test]
    async fn over_http_a_large_answer_has_its_room_until_all_is_written() {
        let (all, connection) = admit(0);
        let (mut client, server) = tokio::io::duplex(1_000);
        let mut server = Paced::new(server, Arc::clone(&connection), Arc::clone(&all));
        let room = all.room(&connection).await.expect("room");
        connection.large_begins(room, 1_500);
        let mut writing = Box::pin(server.write_all(&[7; 1_500]));
        assert!(futures::poll!(writing.as_mut()).is_pending());
        assert_eq!(all.answer_bytes(), 1_500);
        client.read_exact(&mut [0; 500]).await.expect("read");
        writing.await.expect("written");
        server.flush().await.expect("flushed");
        assert_eq!(all.answer_bytes(), 0);
        let room = all.room(&connection).await.expect("room");
        connection.large_begins(room, 1_500);
        drop(server);
        drop(connection);
        assert_eq!(all.answer_bytes(), 0, "it goes with the connection");
    }

    #[tokio::test]
    async fn large_messages_are_read_one_after_the_other() {
        let (mut client, mut server, connection) = websocket(0).await;
        let bytes = u16::try_from(UNANSWERED_BYTES_MAX / 8).expect("short");
        let part = [&[0x81, 0x80 | 126], &bytes.to_be_bytes()[..], &[0; 4], &vec![b'x'; bytes.into()]].concat();
        client.write_all(&part.repeat(20)).await.expect("room");
        let read = |pieces: Vec<Vec<u8>>| pieces.iter().map(Vec::len).sum::<usize>() / part.len();
        assert_eq!(read(pieces(&mut server).await), 8, "as many as have so many bytes");
        for _ in 0..7 {
            connection.message_called();
            server.write_all(&from_server(ANSWER)).await.expect("room");
        }
        assert_eq!(read(pieces(&mut server).await), 0, "one is unanswered");
        connection.message_called();
        connection.message_silent();
        assert_eq!(read(pieces(&mut server).await), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn every_frame_is_paid_for() {
        let (mut client, mut server, connection) = websocket(10).await;
        client.write_all(&[from_client(1, b"x"), from_client(9, b"x")].concat().repeat(50)).await.expect("room");
        let answer_all = || connection.messages_answered(0);
        for _ in 0..20 {
            connection.message_called();
            connection.message_silent();
        }
        answer_all();
        // Two seconds' worth of frames, and the header of one more, which is owed for.
        assert_eq!(pieces(&mut server).await.len(), 2 * 20 + 1);
        tokio::time::advance(Duration::from_millis(1_000)).await;
        assert_eq!(pieces(&mut server).await.len(), 2 * 10);
        let waiting = Instant::now();
        server.read_u8().await.expect("it is woken when it can pay");
        assert!(waiting.elapsed() >= Duration::from_millis(90), "{:?}", waiting.elapsed());
    }

    #[tokio::test]
    async fn who_sends_rubbish_is_closed() {
        let (mut client, mut server, connection) = websocket(0).await;
        client.write_all(&from_client(1, b"x").repeat(100)).await.expect("room");
        for number in 0..=MALFORMED_MAX {
            assert!(!connection.is_closed(), "{number}");
            pieces(&mut server).await;
            server.write_all(&from_server(ANSWER)).await.expect("room");
        }
        assert!(connection.is_closed());
        assert!(server.read_u8().await.is_err());
        assert!(server.write_all(b"more").await.is_err());
    }

    #[tokio::test]
    async fn what_follows_a_head_at_once_could_not_be_counted() {
        let head = "GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\n";
        for (sent, may) in [(head.to_owned(), true), (format!("{head}x"), false), (format!("{head}{head}"), false)] {
            let (all, connection) = admit(0);
            let (mut client, server) = tokio::io::duplex(1_000);
            let mut server = Paced::new(server, Arc::clone(&connection), all);
            client.write_all(sent.as_bytes()).await.expect("room");
            pieces(&mut server).await;
            assert_eq!(connection.may_upgrade(), may, "{sent}");
        }
    }

    #[tokio::test]
    async fn who_takes_nothing_is_not_read() {
        let (all, connection) = admit(0);
        let (mut client, server) = tokio::io::duplex(1_000);
        let mut server = Paced::new(server, Arc::clone(&connection), all);
        client.write_all(b"c").await.expect("room");
        let mut writing = Box::pin(server.write_all(&[7; 2_000]));
        assert!(futures::poll!(writing.as_mut()).is_pending());
        drop(writing);
        assert!(pieces(&mut server).await.is_empty());
        client.read_exact(&mut [0; 1_000]).await.expect("an answer");
        let (mut read, mut write) = tokio::io::split(server);
        assert!(connection.is_refusing());
        write.write_all(b"more").await.expect("room again");
        assert_eq!(read.read_u8().await.expect("a byte"), b'c');
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_closed_and_gives_its_place_back() {
        let (all, connection) = admit(0);
        let answered = connection.answering();
        let (client, server) = tokio::io::duplex(10);
        let mut server = Paced::new(server, Arc::clone(&connection), Arc::clone(&all));
        let writing = tokio::spawn(async move { server.write_all(&[7; 20]).await.map_err(|error| error.kind()) });
        tokio::task::yield_now().await;
        let patience = Duration::from_secs(10);
        tokio::time::advance(patience).await;
        all.close_stuck(patience);
        assert!(!connection.is_closed());
        tokio::time::advance(Duration::from_millis(1)).await;
        all.close_stuck(patience);
        assert_eq!(writing.await.expect("no panic"), Err(io::ErrorKind::ConnectionAborted));
        drop((client, answered));
    }

    #[test]
    fn a_frame_costs_what_is_read_of_it() {
        let mib = 1 << 20;
        assert_eq!([0, 16_383, 16_384, 100_000].map(|bytes| price(bytes, mib)), [1, 1, 2, 7]);
        assert_eq!([mib, mib + 1, 256 * mib, u64::MAX].map(|bytes| price(bytes, mib)), [65; 4]);
    }
}
