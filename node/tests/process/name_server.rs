//! A name server that knows a few TXT records, as much of RFC 1035 as a resolver asks for.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

/// What it says to a question for the TXT records of a name.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Records(Vec<String>),
    NoSuchName,
    ServerFailure,
    Silence,
}

type Zone = Box<dyn FnMut(&str) -> Answer + Send>;

struct Shared {
    zone: Zone,
    asked: BTreeSet<String>,
}

/// A running name server, in tasks that end with it.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl NameServer {
    pub(crate) async fn start(zone: impl FnMut(&str) -> Answer + Send + 'static) -> Self {
        let shared = Arc::new(Mutex::new(Shared { zone: Box::new(zone), asked: BTreeSet::new() }));
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("bound");
        let udp = UdpSocket::bind(address).await.expect("the same port");
        let tasks =
            [tokio::spawn(serve_udp(udp, Arc::clone(&shared))), tokio::spawn(serve_tcp(tcp, Arc::clone(&shared)))];
        Self { address, shared, tasks }
    }

    /// Says something else from now on.
    pub(crate) fn change(&self, zone: impl FnMut(&str) -> Answer + Send + 'static) {
        self.shared.lock().expect("no panic").zone = Box::new(zone);
    }

    /// The names that were asked for, each once.
    pub(crate) fn asked(&self) -> BTreeSet<String> {
        self.shared.lock().expect("no panic").asked.clone()
    }
}

async fn serve_udp(socket: UdpSocket, shared: Arc<Mutex<Shared>>) {
    let mut buffer = [0; 2_048];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        if let Some(mut reply) = respond(&buffer[..length], &shared) {
            if reply.len() > 512 {
                // Truncated: the header and the question, and the resolver asks again by TCP.
                reply = header(&buffer[..length], 0x8380, 0);
            }
            let _gone = socket.send_to(&reply, from).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        while let Ok(length) = stream.read_u16().await {
            let mut query = vec![0; usize::from(length)];
            if stream.read_exact(&mut query).await.is_err() {
                break;
            }
            let Some(reply) = respond(&query, &shared) else { break };
            let length = u16::try_from(reply.len()).expect("a short answer");
            let _gone = stream.write_all(&[&length.to_be_bytes()[..], &reply].concat()).await;
        }
    }
}

/// The end of the question, which is the first thing behind the header, and its name.
fn question(query: &[u8]) -> (usize, String) {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let label = &query[at + 1..][..usize::from(query[at])];
        labels.push(String::from_utf8(label.to_ascii_lowercase()).expect("ASCII"));
        at += 1 + label.len();
    }
    (at + 5, labels.join("."))
}

fn header(query: &[u8], flags: u16, answers: u16) -> Vec<u8> {
    let (end, _) = question(query);
    let mut reply = query[..2].to_vec();
    for field in [flags, 1, answers, 0, 0] {
        reply.extend(field.to_be_bytes());
    }
    reply.extend(&query[12..end]);
    reply
}

fn respond(query: &[u8], shared: &Mutex<Shared>) -> Option<Vec<u8>> {
    let (end, name) = question(query);
    let asks_for_txt = query[end - 4..end - 2] == 16u16.to_be_bytes();
    let mut shared = shared.lock().expect("no panic");
    shared.asked.insert(name.clone());
    let answer = if asks_for_txt { (shared.zone)(&name) } else { Answer::NoSuchName };
    let records = match answer {
        Answer::Records(records) => records,
        Answer::NoSuchName => return Some(header(query, 0x8183, 0)),
        Answer::ServerFailure => return Some(header(query, 0x8182, 0)),
        Answer::Silence => return None,
    };
    let mut reply = header(query, 0x8180, u16::try_from(records.len()).expect("few"));
    for text in records {
        let length = u8::try_from(text.len()).expect("one string");
        // A pointer to the name in the question, TXT, IN, a second to live.
        reply.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 1]);
        reply.extend((u16::from(length) + 1).to_be_bytes());
        reply.push(length);
        reply.extend(text.bytes());
    }
    Some(reply)
}
