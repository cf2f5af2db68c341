//! A typed client of the RPC, for the command line, the testnet tool, and other programs.
//!
//! It speaks HTTP on kept connections, over TCP or over the node's admin socket, so many calls under way at once take as
//! many connections. Every call ends within [`CALL_DEADLINE`]. Errors say whether nothing listens, something else than a
//! node answers, or the node refused, and pass on the node's own words. Nothing is tried again: only the caller knows
//! whether a call may happen twice.
//!
//! [`Subscription`]s have a WebSocket each.
//!
//! ```no_run
//! # async fn example() -> Result<(), starling_node::rpc::client::ClientError> {
//! use starling_node::rpc::client::RpcClient;
//! let node = RpcClient::new("127.0.0.1:26501")?;
//! let mut heads = node.chain_subscribe().await?;
//! println!("at height {}", node.chain_head().await?.height);
//! loop {
//!     println!("at height {}", heads.next().await?.height);
//! }
//! # }
//! ```

mod subscription;
mod transport;

pub use subscription::Subscription;

use super::codes::ErrorData;
use crate::api::feed::TransactionFilter;
use crate::api::{
    AccountReply, BanReply, BlockReply, BlockSelector, ChainEvent, HeadReply, LogFilterReply, MempoolPage,
    MempoolReply, NetReply, NodeReply, PeerEvent, PeerReply, ReadyReply, ShutdownReply, Submitted, TransactionEvent,
    TransactionReply, UnbanReply,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use starling_crypto::PublicKeyBytes;
use starling_protocol::id::TransactionId;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use transport::{Connector, Endpoint};

/// How long a call may take.
pub const CALL_DEADLINE: Duration = Duration::from_secs(15);

/// The largest answer that is read.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The text is no address.
    #[error("{0:?} is no RPC address; give HOST:PORT, such as 127.0.0.1:26501, or unix:PATH for a socket")]
    Address(String),
    /// No connection came about.
    #[error("cannot reach a node's RPC at {address}: {cause}; is the node running, and is this its address?")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system says.
        cause: String,
    },
    /// Another node than the one that is meant answers.
    #[error(
        "the node that answers at {address} is not that of {owner} but {found}; start the node of {owner}, \
         or name the one that is meant with --rpc HOST:PORT or --datadir DIR"
    )]
    OtherNode {
        /// Where.
        address: String,
        /// Whose address this was.
        owner: String,
        /// Peer id of the node that answers.
        found: String,
    },
    /// The node took too long.
    #[error("the node at {0} did not answer within {s} s; it is overloaded or stuck", s = CALL_DEADLINE.as_secs())]
    Timeout(String),
    /// What answers is no node, or one of another version.
    #[error("what answers at {address} does not speak starling's RPC ({problem}); check the address and the version")]
    NotANode {
        /// Where.
        address: String,
        /// What is odd.
        problem: String,
    },
    /// The node turned the request away before it looked at it: it was too large, or the node has too much to do.
    #[error("the node at {address} turned the request away (HTTP {status}): {cause}")]
    TurnedAway {
        /// Where.
        address: String,
        /// The HTTP status.
        status: u16,
        /// The node's words.
        cause: String,
    },
    /// The connection of a subscription broke.
    #[error("the connection with the node at {address} is lost: {cause}; subscribe again when the node is back")]
    Lost {
        /// Where.
        address: String,
        /// How it ended.
        cause: String,
    },
    /// The node understood and refused.
    #[error("{message}")]
    Refused {
        /// JSON-RPC error code; see [`super::codes`].
        code: i32,
        /// Cause and remedy in words.
        message: String,
        /// The same for programs, when the node gave it.
        data: Option<ErrorData>,
    },
}

impl ClientError {
    /// The node's reason for refusing, as [`super::codes`] lists them.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused { data: Some(data), .. } => Some(&data.reason),
            _ => None,
        }
    }
}

/// Calls one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RpcClient {
    client: Client<Connector, Full<Bytes>>,
    endpoint: Endpoint,
    next_id: Arc<AtomicU64>,
    expected: Option<Arc<Expected>>,
}

/// The node that is meant.
#[derive(Debug)]
struct Expected {
    peer_id: String,
    /// Whose node it is, for messages.
    owner: String,
    /// Whether it has answered since it last could not be reached: only a node that ends lets another one have its address.
    recognised: AtomicBool,
}

impl RpcClient {
    /// A client of the node whose RPC listens at this address: `HOST:PORT`, also as a URL with `http://` or `ws://`, or
    /// `unix:PATH`.
    ///
    /// # Errors
    /// If the text is no such address. Nothing is connected yet.
    pub fn new(address: &str) -> Result<Self, ClientError> {
        Ok(Self::at(Endpoint::parse(address)?))
    }

    /// A client of the node whose admin socket this is. Everything can be called over it.
    #[must_use]
    pub fn over_unix_socket(path: &Path) -> Self {
        Self::at(Endpoint::unix(path))
    }

    fn at(endpoint: Endpoint) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Shorter than the server's patience, so a kept connection is never closed under a request.
            .pool_idle_timeout(Duration::from_secs(10))
            .build(Connector(endpoint.clone()));
        Self { client, endpoint, next_id: Arc::default(), expected: None }
    }

    /// Has the client ask who answers before it asks for anything else, at first and whenever the node could not be
    /// reached, and give [`ClientError::OtherNode`] unless it is the node with this peer id. `owner` says whose it is.
    /// *Rationale:* an address that was written down outlives the node that had it, and the next node that has it must not
    /// sign what was meant for the former.
    #[must_use]
    pub fn expecting(mut self, peer_id: &str, owner: &str) -> Self {
        let (peer_id, owner) = (peer_id.to_owned(), owner.to_owned());
        self.expected = Some(Arc::new(Expected { peer_id, owner, recognised: AtomicBool::new(false) }));
        self
    }

    /// Where the node is, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        self.endpoint.to_string()
    }

    /// `node_info`.
    pub async fn node_info(&self) -> Result<NodeReply, ClientError> {
        self.call("node_info", json!([])).await
    }

    /// `net_info`.
    pub async fn net_info(&self) -> Result<NetReply, ClientError> {
        self.call("net_info", json!([])).await
    }

    /// `net_peers`.
    pub async fn net_peers(&self) -> Result<Vec<PeerReply>, ClientError> {
        self.call("net_peers", json!([])).await
    }

    /// `tx_submit`, of the transaction's bytes.
    pub async fn tx_submit(&self, transaction: &[u8]) -> Result<Submitted, ClientError> {
        self.call("tx_submit", json!({ "transaction": hex::encode(transaction) })).await
    }

    /// `tx_publish`.
    pub async fn tx_publish(&self, payload: &[u8]) -> Result<Submitted, ClientError> {
        self.call("tx_publish", json!({ "payload": hex::encode(payload) })).await
    }

    /// `tx_get`.
    pub async fn tx_get(&self, id: &TransactionId) -> Result<TransactionReply, ClientError> {
        self.call("tx_get", json!({ "id": id })).await
    }

    /// `account_get`.
    pub async fn account_get(&self, public_key: &PublicKeyBytes) -> Result<AccountReply, ClientError> {
        self.call("account_get", json!({ "public_key": public_key })).await
    }

    /// `admin_ban`.
    pub async fn admin_ban(&self, target: &str, duration: Duration, reason: &str) -> Result<BanReply, ClientError> {
        let params = json!({ "target": target, "duration_s": duration.as_secs(), "reason": reason });
        self.call("admin_ban", params).await
    }

    /// `admin_unban`.
    pub async fn admin_unban(&self, target: &str) -> Result<UnbanReply, ClientError> {
        self.call("admin_unban", json!({ "target": target })).await
    }

    /// `admin_bans`.
    pub async fn admin_bans(&self) -> Result<Vec<BanReply>, ClientError> {
        self.call("admin_bans", json!([])).await
    }

    /// `mempool_info`.
    pub async fn mempool_info(&self) -> Result<MempoolReply, ClientError> {
        self.call("mempool_info", json!([])).await
    }

    /// `mempool_list`: a page of the mempool, from the beginning or after a page's `next`.
    pub async fn mempool_list(&self, after: Option<&TransactionId>, limit: u32) -> Result<MempoolPage, ClientError> {
        self.call("mempool_list", json!({ "after": after, "limit": limit })).await
    }

    /// `chain_head`.
    pub async fn chain_head(&self) -> Result<HeadReply, ClientError> {
        self.call("chain_head", json!([])).await
    }

    /// `chain_block`; `None` when the node does not have the block.
    pub async fn chain_block(&self, block: BlockSelector) -> Result<Option<BlockReply>, ClientError> {
        let params = match block {
            BlockSelector::Height(height) => json!({ "height": height }),
            BlockSelector::Id(id) => json!({ "id": id }),
        };
        self.call("chain_block", params).await
    }

    /// `GET /health`: what the node says of itself while its event loop answers.
    pub async fn health(&self) -> Result<Value, ClientError> {
        self.recognise().await?;
        let (status, body) = self.request(Method::GET, "/health", Bytes::new()).await?;
        let health: Value = serde_json::from_slice(&body).map_err(|error| self.not_a_node(error.to_string()))?;
        if status == StatusCode::OK {
            return Ok(health);
        }
        let cause = health["cause"].as_str().unwrap_or("it answers, but not as a healthy node");
        Err(ClientError::Refused {
            code: jsonrpsee::types::error::SERVER_IS_BUSY_CODE,
            message: cause.to_owned(),
            data: None,
        })
    }

    /// `tx_subscribe`: what happens to transactions from now on.
    pub async fn tx_subscribe(
        &self,
        filter: &TransactionFilter,
    ) -> Result<Subscription<TransactionEvent>, ClientError> {
        self.subscribe("tx_subscribe", json!({ "ids": filter.ids, "senders": filter.senders })).await
    }

    /// `chain_subscribe`: each new head from now on.
    pub async fn chain_subscribe(&self) -> Result<Subscription<ChainEvent>, ClientError> {
        self.subscribe("chain_subscribe", json!([])).await
    }

    /// `net_subscribe`: what happens to peers from now on.
    pub async fn net_subscribe(&self) -> Result<Subscription<PeerEvent>, ClientError> {
        self.subscribe("net_subscribe", json!([])).await
    }

    /// Any subscription.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn subscribe<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<Subscription<T>, ClientError> {
        self.recognise().await?;
        Subscription::begin(self.endpoint.clone(), method, params).await
    }

    /// `admin_log_filter`: the log's filter, after setting it when one is given. Over the admin socket only.
    pub async fn admin_log_filter(&self, filter: Option<&str>) -> Result<LogFilterReply, ClientError> {
        self.call("admin_log_filter", json!({ "filter": filter })).await
    }

    /// `admin_shutdown`: begins a clean stop. Over the admin socket only.
    pub async fn admin_shutdown(&self) -> Result<ShutdownReply, ClientError> {
        self.call("admin_shutdown", json!([])).await
    }

    /// `rpc.discover`: the OpenRPC document of what this node serves here.
    pub async fn discover(&self) -> Result<Value, ClientError> {
        self.call("rpc.discover", json!([])).await
    }

    /// `GET /ready`: what the node says, ready or not.
    pub async fn ready(&self) -> Result<ReadyReply, ClientError> {
        self.recognise().await?;
        let (_, body) = self.request(Method::GET, "/ready", Bytes::new()).await?;
        serde_json::from_slice(&body).map_err(|error| self.not_a_node(error.to_string()))
    }

    /// Any method.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, ClientError> {
        self.recognise().await?;
        self.call_anyone(method, params).await
    }

    /// Makes sure that the node is the one that is meant.
    async fn recognise(&self) -> Result<(), ClientError> {
        let Some(expected) = self.expected.as_ref().filter(|expected| !expected.recognised.load(Ordering::Relaxed))
        else {
            return Ok(());
        };
        let node: WhoAnswers = self.call_anyone("node_info", json!([])).await?;
        if node.peer_id != expected.peer_id {
            let (address, owner) = (self.endpoint.to_string(), expected.owner.clone());
            return Err(ClientError::OtherNode { address, owner, found: node.peer_id });
        }
        expected.recognised.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn call_anyone<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, ClientError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        let (status, body) = self.request(Method::POST, "/", Bytes::from(body)).await?;
        let answer: RawAnswer = serde_json::from_slice(&body).map_err(|error| match status {
            StatusCode::OK => self.not_a_node(error.to_string()),
            // The server turns requests away before they become JSON-RPC, too.
            status => self.turned_away(status, &body),
        })?;
        serde_json::from_value(answer.into_result()?).map_err(|error| self.not_a_node(error.to_string()))
    }

    /// What answered is a node that turned the request away, if it did so in a node's way.
    fn turned_away(&self, status: StatusCode, body: &[u8]) -> ClientError {
        #[derive(Deserialize)]
        struct Page {
            error: String,
        }
        match serde_json::from_slice(body) {
            Ok(Page { error: cause }) => {
                ClientError::TurnedAway { address: self.endpoint.to_string(), status: status.as_u16(), cause }
            }
            Err(_no_page_of_ours) => {
                let text = String::from_utf8_lossy(&body[..body.len().min(300)]).trim().to_owned();
                self.not_a_node(format!("{status}: {text}"))
            }
        }
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), ClientError> {
        let exchange = async {
            let mut request = Request::new(Full::new(body));
            *request.method_mut() = method;
            *request.uri_mut() = format!("http://{}{path}", self.endpoint.host())
                .parse()
                .map_err(|_no_uri| ClientError::Address(self.endpoint.to_string()))?;
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let response = self.client.request(request).await.map_err(|error| ClientError::Unreachable {
                address: self.endpoint.to_string(),
                cause: root_cause(&error),
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), RESPONSE_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| self.not_a_node(error.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        let result = match tokio::time::timeout(CALL_DEADLINE, exchange).await {
            Ok(result) => result,
            Err(_elapsed) => Err(ClientError::Timeout(self.endpoint.to_string())),
        };
        if let (Err(_), Some(expected)) = (&result, &self.expected) {
            expected.recognised.store(false, Ordering::Relaxed);
        }
        result
    }

    fn not_a_node(&self, problem: String) -> ClientError {
        ClientError::NotANode { address: self.endpoint.to_string(), problem }
    }
}

/// What of `node_info` tells who answers. The rest may differ in another version.
#[derive(Deserialize)]
struct WhoAnswers {
    peer_id: String,
}

/// The answer to a call.
#[derive(Debug, Deserialize)]
struct RawAnswer {
    #[serde(rename = "jsonrpc")]
    _version: String,
    #[serde(default)]
    result: Value,
    error: Option<RawError>,
}

#[derive(Debug, Deserialize)]
struct RawError {
    code: i32,
    message: String,
    #[serde(default)]
    data: Value,
}

impl RawAnswer {
    fn into_result(self) -> Result<Value, ClientError> {
        self.error.map_or(Ok(self.result), |error| Err(error.into()))
    }
}

impl From<RawError> for ClientError {
    fn from(RawError { code, message, data }: RawError) -> Self {
        Self::Refused { code, message, data: serde_json::from_value(data).ok() }
    }
}

/// The innermost error: "connection refused" says more than "client error (Connect)".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_connected() {
        for good in ["127.0.0.1:80", "localhost:1", "http://127.0.0.1:80/", "[::1]:80", "ws://[::1]:80", "unix:a.sock"]
        {
            RpcClient::new(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in ["", "127.0.0.1", "unix:", "https://127.0.0.1:80", "a b:1", "127.0.0.1:80/path", ":80"] {
            assert!(matches!(RpcClient::new(bad), Err(ClientError::Address(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn nothing_listening_is_said_so() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let error = RpcClient::new(&free.to_string()).expect("an address").chain_head().await.expect_err("nobody");
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("is the node running"), "{error}");
    }
}
