//! Subscriptions: each has a WebSocket of its own.
//!
//! # When a connection breaks
//! [`Subscription::next`] says so and gives nothing more; nothing is tried again behind the caller's back, because events
//! were missed and only the caller knows what that means. [`Subscription::reconnect`] tries to subscribe again, after
//! 100 ms and then after twice as long each time up to 5 s, until it succeeds or its time is up. The caller then asks for
//! the present state (`chain_head`, `tx_get`): what happened in between is not told again.

use super::transport::{Endpoint, Stream};
use super::{ClientError, RawAnswer, root_cause};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use soketto::data::ByteSlice125;
use soketto::handshake::{Client as Handshake, ServerResponse};
use soketto::{Incoming, Receiver, Sender};
use std::marker::PhantomData;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

/// How long the node may take to confirm a subscription.
const SUBSCRIBE_DEADLINE: Duration = super::CALL_DEADLINE;
/// How often a quiet connection is tried with a ping; it is given up when the next is due and nothing has come.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Events that wait here for the caller. More wait with the node, which ends the subscription when they are too many.
const EVENTS_WAITING_MAX: usize = 64;
/// The first and the longest pause between attempts to reconnect.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The largest notification that is read. The node's have some kilobytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A subscription to events of type `T`. It ends when it is dropped.
#[derive(Debug)]
pub struct Subscription<T> {
    endpoint: Endpoint,
    method: &'static str,
    params: Value,
    messages: mpsc::Receiver<Result<Value, ClientError>>,
    reading: JoinHandle<()>,
    events: PhantomData<fn() -> T>,
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl<T: DeserializeOwned> Subscription<T> {
    pub(super) async fn begin(endpoint: Endpoint, method: &'static str, params: Value) -> Result<Self, ClientError> {
        let (messages, reading) = open(&endpoint, method, &params).await?;
        Ok(Self { endpoint, method, params, messages, reading, events: PhantomData })
    }

    /// The next event, for which it may wait for ever. May be dropped while it waits; nothing is lost then.
    ///
    /// # Errors
    /// When the subscription is over: [`ClientError::Refused`] with the node's reason when the node ended it (the
    /// subscriber was too slow, the node stops), [`ClientError::Lost`] when the connection broke.
    pub async fn next(&mut self) -> Result<T, ClientError> {
        let event = self.messages.recv().await.unwrap_or_else(|| Err(lost(&self.endpoint, "it was closed")))?;
        serde_json::from_value(event).map_err(|error| ClientError::NotANode {
            address: self.endpoint.to_string(),
            problem: format!("an event of {} is not what it should be: {error}", self.method),
        })
    }

    /// Subscribes again after [`Subscription::next`] has failed; see the head of this module.
    ///
    /// # Errors
    /// The last attempt's, when none has succeeded within this time.
    pub async fn reconnect(&mut self, within: Duration) -> Result<(), ClientError> {
        let deadline = tokio::time::Instant::now() + within;
        let mut pause = PAUSE_MIN;
        loop {
            tokio::time::sleep(pause).await;
            match open(&self.endpoint, self.method, &self.params).await {
                Ok((messages, reading)) => {
                    self.reading.abort();
                    (self.messages, self.reading) = (messages, reading);
                    return Ok(());
                }
                Err(error) if tokio::time::Instant::now() + pause >= deadline => return Err(error),
                Err(_not_yet) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }
}

type Messages = mpsc::Receiver<Result<Value, ClientError>>;

async fn open(
    endpoint: &Endpoint,
    method: &'static str,
    params: &Value,
) -> Result<(Messages, JoinHandle<()>), ClientError> {
    let confirmed = async {
        let mut socket = Socket::open(endpoint).await?;
        socket.subscribe(method, params).await?;
        Ok(socket)
    };
    let socket = tokio::time::timeout(SUBSCRIBE_DEADLINE, confirmed)
        .await
        .unwrap_or_else(|_elapsed| Err(ClientError::Timeout(endpoint.to_string())))?;
    let (sender, messages) = mpsc::channel(EVENTS_WAITING_MAX);
    // A task of its own, because a message that has been read in half must not be given up when the caller stops waiting.
    Ok((messages, tokio::spawn(socket.read(sender))))
}

/// An open WebSocket.
struct Socket {
    endpoint: Endpoint,
    sender: Sender<Compat<Stream>>,
    receiver: Receiver<Compat<Stream>>,
}

/// What the node sends.
#[derive(Deserialize)]
#[serde(untagged)]
enum Message {
    Event { params: EventParams },
    Answer(RawAnswer),
}

#[derive(Deserialize)]
struct EventParams {
    #[serde(default)]
    result: Value,
    error: Option<super::RawError>,
}

impl Socket {
    async fn open(endpoint: &Endpoint) -> Result<Self, ClientError> {
        let unreachable = |error: &dyn std::error::Error| ClientError::Unreachable {
            address: endpoint.to_string(),
            cause: root_cause(error),
        };
        let stream = endpoint.connect().await.map_err(|error| unreachable(&error))?;
        let mut handshake = Handshake::new(stream.compat(), endpoint.host(), "/");
        match handshake.handshake().await.map_err(|error| unreachable(&error))? {
            ServerResponse::Accepted { .. } => {}
            // What a node answers when it has too many, is asked too much, or does not like the name it is called by.
            ServerResponse::Rejected { status_code: status @ (403 | 429 | 503) } => {
                let cause = "it opens no WebSocket now: it may have too many, or not allow this host name";
                return Err(ClientError::TurnedAway { address: endpoint.to_string(), status, cause: cause.into() });
            }
            ServerResponse::Redirect { status_code, .. } | ServerResponse::Rejected { status_code } => {
                let problem = format!("it answered HTTP {status_code} when a WebSocket was to be opened");
                return Err(ClientError::NotANode { address: endpoint.to_string(), problem });
            }
        }
        let mut builder = handshake.into_builder();
        builder.set_max_message_size(MESSAGE_BYTES_MAX);
        let (sender, receiver) = builder.finish();
        Ok(Self { endpoint: endpoint.clone(), sender, receiver })
    }

    async fn subscribe(&mut self, method: &str, params: &Value) -> Result<(), ClientError> {
        let call = json!({ "jsonrpc": "2.0", "id": 0, "method": method, "params": params }).to_string();
        let sent = async {
            self.sender.send_text_owned(call).await?;
            self.sender.flush().await
        };
        sent.await.map_err(|error| lost(&self.endpoint, &root_cause(&error)))?;
        let mut message = Vec::new();
        loop {
            message.clear();
            match self.receiver.receive(&mut message).await {
                Ok(Incoming::Data(_)) => {}
                Ok(Incoming::Pong(_)) => continue,
                Ok(Incoming::Closed(_)) => return Err(lost(&self.endpoint, "the node closed it")),
                Err(error) => return Err(lost(&self.endpoint, &root_cause(&error))),
            }
            if let Message::Answer(answer) = self.decode(&message)? {
                return answer.into_result().map(|_subscription_id| ());
            }
        }
    }

    /// Passes events on until the subscription ends or nobody wants them.
    async fn read(mut self, events: mpsc::Sender<Result<Value, ClientError>>) {
        loop {
            let event = match self.receive().await {
                Ok(Message::Event { params: EventParams { result, error: None } }) => Ok(result),
                Ok(Message::Event { params: EventParams { error: Some(error), .. } }) => Err(error.into()),
                Ok(Message::Answer(_)) => continue,
                Err(error) => Err(error),
            };
            let over = event.is_err();
            if events.send(event).await.is_err() || over {
                return;
            }
        }
    }

    /// The next message. Tries a quiet connection with pings.
    async fn receive(&mut self) -> Result<Message, ClientError> {
        let Self { endpoint, sender, receiver } = self;
        let mut message = Vec::new();
        loop {
            let mut pinged = false;
            message.clear();
            // Kept until it is done: what has been read of a message would be lost with it.
            let receiving = receiver.receive(&mut message);
            tokio::pin!(receiving);
            let received = loop {
                match tokio::time::timeout(PING_INTERVAL, receiving.as_mut()).await {
                    Ok(received) => break received,
                    Err(_quiet) if pinged => return Err(lost(endpoint, "the node is silent")),
                    Err(_quiet) => {
                        pinged = true;
                        ping(sender).await.map_err(|error| lost(endpoint, &root_cause(&error)))?;
                    }
                }
            };
            match received {
                Ok(Incoming::Data(_)) => break,
                Ok(Incoming::Pong(_)) => {}
                Ok(Incoming::Closed(_)) => return Err(lost(endpoint, "the node closed it")),
                Err(error) => return Err(lost(endpoint, &root_cause(&error))),
            }
        }
        self.decode(&message)
    }

    fn decode(&self, message: &[u8]) -> Result<Message, ClientError> {
        serde_json::from_slice(message).map_err(|error| ClientError::NotANode {
            address: self.endpoint.to_string(),
            problem: format!("a message is neither an answer nor an event: {error}"),
        })
    }
}

async fn ping(sender: &mut Sender<Compat<Stream>>) -> Result<(), soketto::connection::Error> {
    let nothing: &[u8] = &[];
    sender.send_ping(ByteSlice125::try_from(nothing).expect("nothing is shorter than 125 bytes")).await?;
    sender.flush().await
}

fn lost(endpoint: &Endpoint, cause: &str) -> ClientError {
    ClientError::Lost { address: endpoint.to_string(), cause: cause.to_owned() }
}
