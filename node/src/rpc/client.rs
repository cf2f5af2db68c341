//! A typed client of the RPC, for the command line and the testnet tool.
//!
//! It speaks HTTP on kept connections, so many calls under way at once take as many connections. Every call ends within
//! [`CALL_DEADLINE`]. Errors say whether nothing listens, something else than a node answers, or the node refused, and pass on the
//! node's own words.

use super::codes::ErrorData;
use crate::api::{
    AccountReply, BanReply, BlockReply, BlockSelector, HeadReply, MempoolReply, NetReply, NodeReply, PeerReply,
    ReadyReply, Submitted, TransactionReply, UnbanReply,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use starling_crypto::PublicKeyBytes;
use starling_protocol::id::TransactionId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a call may take.
pub const CALL_DEADLINE: Duration = Duration::from_secs(15);

/// The largest answer that is read.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The text is no address.
    #[error("{0:?} is no RPC address; give HOST:PORT, such as 127.0.0.1:26501")]
    Address(String),
    /// No connection came about.
    #[error("cannot reach a node's RPC at {address}: {cause}; is the node running, and is this its address?")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system says.
        cause: String,
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

/// Calls one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RpcClient {
    client: Client<HttpConnector, Full<Bytes>>,
    address: Arc<str>,
    next_id: Arc<AtomicU64>,
}

impl RpcClient {
    /// A client of the node whose RPC listens at this address (`HOST:PORT`, also as a URL with `http://`).
    ///
    /// # Errors
    /// If the text is no such address. Nothing is connected yet.
    pub fn new(address: &str) -> Result<Self, ClientError> {
        let bare = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        let uri: Uri = format!("http://{bare}/").parse().map_err(|_no_uri| ClientError::Address(address.to_owned()))?;
        if uri.host().is_none_or(str::is_empty) || uri.port().is_none() || uri.path() != "/" {
            return Err(ClientError::Address(address.to_owned()));
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Shorter than the server's patience, so a kept connection is never closed under a request.
            .pool_idle_timeout(Duration::from_secs(10))
            .build(connector);
        Ok(Self { client, address: bare.into(), next_id: Arc::default() })
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

    /// `GET /ready`: what the node says, ready or not.
    pub async fn ready(&self) -> Result<ReadyReply, ClientError> {
        let (_, body) = self.request(Method::GET, "/ready", Bytes::new()).await?;
        serde_json::from_slice(&body).map_err(|error| self.not_a_node(error.to_string()))
    }

    /// Any method.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            result: Value,
            error: Option<AnswerError>,
        }
        #[derive(Deserialize)]
        struct AnswerError {
            code: i32,
            message: String,
            #[serde(default)]
            data: Value,
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        let (status, body) = self.request(Method::POST, "/", Bytes::from(body)).await?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
            // The server turns requests away before they become JSON-RPC, too: for their size, or its own load.
            let text = String::from_utf8_lossy(&body[..body.len().min(300)]).trim().to_owned();
            match status {
                StatusCode::OK => self.not_a_node(error.to_string()),
                status => self.not_a_node(format!("{status}: {text}")),
            }
        })?;
        if let Some(AnswerError { code, message, data }) = answer.error {
            return Err(ClientError::Refused { code, message, data: serde_json::from_value(data).ok() });
        }
        serde_json::from_value(answer.result).map_err(|error| self.not_a_node(error.to_string()))
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), ClientError> {
        let exchange = async {
            let mut request = Request::new(Full::new(body));
            *request.method_mut() = method;
            *request.uri_mut() = format!("http://{}{path}", self.address)
                .parse()
                .map_err(|_no_uri| ClientError::Address(self.address.to_string()))?;
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let response = self.client.request(request).await.map_err(|error| ClientError::Unreachable {
                address: self.address.to_string(),
                cause: root_cause(&error),
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), RESPONSE_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| self.not_a_node(error.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        match tokio::time::timeout(CALL_DEADLINE, exchange).await {
            Ok(result) => result,
            Err(_elapsed) => Err(ClientError::Timeout(self.address.to_string())),
        }
    }

    fn not_a_node(&self, problem: String) -> ClientError {
        ClientError::NotANode { address: self.address.to_string(), problem }
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
        for good in ["127.0.0.1:80", "localhost:1", "http://127.0.0.1:80/", "[::1]:80"] {
            RpcClient::new(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in ["", "127.0.0.1", "https://127.0.0.1:80", "a b:1", "127.0.0.1:80/path", ":80"] {
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
