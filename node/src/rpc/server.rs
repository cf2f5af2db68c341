//! The HTTP server around the methods and pages: accepting, limits, dispatch by path.

use super::guard::{Denied, Guard};
use super::methods::{Context, module};
use super::pace::{CountCalls, Load, Paced};
use super::{codes, pages};
use crate::api::NodeHandle;
use crate::metrics::Metrics;
use crate::rate_limited;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{self, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonrpsee::core::middleware::RpcServiceBuilder;
use jsonrpsee::server::{
    BatchRequestConfig, HttpBody, Methods, PingConfig, ServerConfig, ServerHandle, StopHandle, TowerService,
    TowerServiceBuilder, stop_channel,
};
use jsonrpsee::types::{ErrorObjectOwned, Id};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tower::Service as _;
use tower::layer::util::{Identity, Stack};

/// How long a client may take to send a request's head, also on a connection that is kept alive.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// How long a request may take altogether: its body, the driver's answer.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// How long open connections are given when the server stops.
const STOP_DEADLINE: Duration = Duration::from_secs(1);
/// Largest answer: a block of the most transactions that any genesis allows has some 1.1 MB of ids.
const RESPONSE_BYTES_MAX: u32 = 16 << 20;

/// Answers that wait for a WebSocket's other end.
const ANSWERS_WAITING_MAX: u32 = 16;

type Service = TowerService<Stack<CountCalls, Identity>, Identity>;

/// Where the RPC listens and what it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcConfig {
    /// The address; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Host names by which it may be called, besides this machine's addresses.
    pub allow_hosts: Vec<String>,
    /// Web pages that may call it.
    pub allow_origins: Vec<String>,
    /// Largest request body, over HTTP and WebSocket.
    pub request_bytes_max: u32,
    /// Most connections at once.
    pub connections_max: u32,
    /// Most calls in a batch.
    pub batch_calls_max: u32,
}

impl Default for RpcConfig {
    /// Any free port of the loopback interface. The limits are guesses: enough for a wallet or a test tool, too little to
    /// drown the node.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            request_bytes_max: 1 << 20,
            connections_max: 256,
            batch_calls_max: 64,
        }
    }
}

/// Why the RPC cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The address is taken.
    #[error(
        "cannot listen for RPC on {address}: the port is in use; give another with --rpc {ip}:PORT \
         (port 0 takes any free one)",
        ip = .address.ip()
    )]
    InUse {
        /// Where.
        address: SocketAddr,
    },
    /// The system refused for another reason.
    #[error("cannot listen for RPC on {address}: {source}; give an address of this machine with --rpc ADDRESS:PORT")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Two methods have one name.
    #[error("the RPC methods cannot be registered: {0}")]
    Methods(#[from] jsonrpsee::core::RegisterMethodError),
}

/// A running server.
#[derive(Debug)]
pub struct RpcServer {
    local_address: SocketAddr,
    stop: ServerHandle,
    accepting: JoinHandle<()>,
}

impl RpcServer {
    /// Listens, and serves in the background until [`RpcServer::stop`].
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn start(config: &RpcConfig, node: NodeHandle, metrics: Metrics) -> Result<Self, RpcError> {
        let address = config.listen;
        let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => RpcError::InUse { address },
            _ => RpcError::Listen { address, source },
        })?;
        let local_address = listener.local_addr().map_err(|source| RpcError::Listen { address, source })?;
        let (stop_handle, stop) = stop_channel();
        let context = Context { node, metrics };
        let limits = ServerConfig::builder()
            .max_connections(config.connections_max)
            .max_request_body_size(config.request_bytes_max)
            .max_response_body_size(RESPONSE_BYTES_MAX)
            .set_batch_request_config(BatchRequestConfig::Limit(config.batch_calls_max))
            // A WebSocket whose other end has gone silently gives its place back.
            .enable_ws_ping(PingConfig::new())
            // Answers that wait for a WebSocket to take them; those beyond count as calls that are under way.
            .set_message_buffer_capacity(ANSWERS_WAITING_MAX)
            .build();
        let methods = module(context.clone())?;
        let services = jsonrpsee::server::Server::builder().set_config(limits).to_service_builder();
        let shared = Arc::new(Shared {
            context,
            services,
            methods: methods.into(),
            guard: Guard {
                hosts: config.allow_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
                origins: config.allow_origins.clone(),
            },
            request_bytes_max: config.request_bytes_max,
        });
        let connections = Arc::new(Semaphore::new(config.connections_max as usize));
        let accepting = tokio::spawn(accept(listener, shared, connections, stop_handle));
        Ok(Self { local_address, stop, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Stops accepting and gives what is under way a second.
    pub async fn stop(self) {
        let _already_stopped = self.stop.stop();
        // The accepting task ends when the last connection has, or when it is out of patience.
        let _panicked = self.accepting.await;
    }
}

struct Shared {
    context: Context,
    /// Makes a service for each connection, which counts its calls.
    services: TowerServiceBuilder<Identity, Identity>,
    methods: Methods,
    guard: Guard,
    request_bytes_max: u32,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, connections: Arc<Semaphore>, stop: StopHandle) {
    let mut tasks = tokio::task::JoinSet::new();
    let stopped = stop.clone().shutdown();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => break,
            Some(_ended) = tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match Arc::clone(&connections).try_acquire_owned() {
                    Ok(permit) => {
                        let connection = serve(stream, Arc::clone(&shared), stop.clone());
                        tasks.spawn(async move {
                            connection.await;
                            drop(permit);
                        });
                    }
                    Err(_too_many) => refuse(&stream),
                },
                Err(error) => {
                    // Out of file descriptors, most likely. Trying again at once would spin.
                    rate_limited!(warn, %error, "cannot accept RPC connections; check the limit of open files");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    let all_ended = async { while tasks.join_next().await.is_some() {} };
    let _out_of_patience = tokio::time::timeout(STOP_DEADLINE, all_ended).await;
}

/// Turns away a connection beyond the limit, without spending a task on it.
fn refuse(stream: &TcpStream) {
    let body = "{\"error\":\"too many RPC connections; close some, or try again later\"}\n";
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    // A new connection has room for this much; if it has not, the client sees a closed connection.
    let _unsent = stream.try_write(answer.as_bytes());
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, stop: StopHandle) {
    let Ok(local) = stream.local_addr() else { return };
    // Requests and answers are small; waiting to fill a packet would only delay them.
    let _no_delay = stream.set_nodelay(true);
    let load = Arc::new(Load::default());
    let stream = Paced::new(stream, Arc::clone(&load));
    let counting = RpcServiceBuilder::new().layer(CountCalls(load));
    let calls = shared.services.clone().set_rpc_middleware(counting).build(shared.methods.clone(), stop.clone());
    let service = hyper::service::service_fn(move |request| {
        let (shared, calls) = (Arc::clone(&shared), calls.clone());
        async move { Ok::<_, Infallible>(shared.answer(request, local.ip(), calls).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.shutdown() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        rate_limited!(debug, %error, "an RPC connection ended early");
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>, local: IpAddr, calls: Service) -> Response<HttpBody> {
        let origin = match self.guard.check(request.uri(), request.headers(), local) {
            Ok(origin) => origin,
            Err(Denied { status, cause, remedy }) => {
                rate_limited!(debug, %cause, "refused an RPC request");
                return pages::error_page(status, &cause, &remedy);
            }
        };
        let mut response = match tokio::time::timeout(REQUEST_DEADLINE, self.dispatch(request, calls)).await {
            Ok(response) => response,
            Err(_elapsed) => pages::error_page(
                StatusCode::REQUEST_TIMEOUT,
                &format!("the request took longer than {} s", REQUEST_DEADLINE.as_secs()),
                "send it faster, or try again when the node is less busy",
            ),
        };
        if let Some(origin) = origin {
            allow_origin(response.headers_mut(), origin);
        }
        response
    }

    async fn dispatch(&self, request: Request<Incoming>, calls: Service) -> Response<HttpBody> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/health") => pages::health(&self.context).await,
            (&Method::GET, "/ready") => pages::ready(&self.context).await,
            (&Method::GET, "/metrics") => pages::metrics(&self.context),
            // The guard has let only allowed origins come this far.
            (&Method::OPTIONS, _) if request.headers().contains_key(header::ORIGIN) => preflight(),
            (&Method::GET, "/") if request.headers().contains_key(header::UPGRADE) => {
                call(calls, request.map(HttpBody::new)).await
            }
            (&Method::POST, "/") => self.post(request, calls).await,
            (_, "/" | "/health" | "/ready" | "/metrics") => pages::error_page(
                StatusCode::METHOD_NOT_ALLOWED,
                &format!("{} is not answered here", request.method()),
                "POST JSON-RPC to /, or GET /health, /ready or /metrics",
            ),
            (_, path) => pages::error_page(
                StatusCode::NOT_FOUND,
                &format!("there is no page {path:?}"),
                "POST JSON-RPC to /, or GET /health, /ready or /metrics",
            ),
        }
    }

    /// A JSON-RPC request over HTTP. What is no JSON at all is answered here, because `jsonrpsee` does not say what is
    /// wrong with it.
    async fn post(&self, request: Request<Incoming>, calls: Service) -> Response<HttpBody> {
        if !is_json(request.headers()) {
            return pages::error_page(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the request's content type is not application/json",
                "send the header `Content-Type: application/json`",
            );
        }
        let (parts, body) = request.into_parts();
        let body = match Limited::new(body, self.request_bytes_max as usize).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return pages::error_page(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    &format!("the request's body has more than {} bytes", self.request_bytes_max),
                    "send less at once; the genesis limits a transaction's payload (`starling status` shows it)",
                );
            }
            Err(error) => {
                return pages::error_page(
                    StatusCode::BAD_REQUEST,
                    &format!("the request's body broke off: {error}"),
                    "send it again",
                );
            }
        };
        if let Err(error) = check_shape(&body) {
            let answer = serde_json::json!({ "jsonrpc": "2.0", "id": null, "error": error });
            return pages::json_page(StatusCode::BAD_REQUEST, &answer);
        }
        call(calls, Request::from_parts(parts, HttpBody::new(Full::<Bytes>::new(body)))).await
    }
}

async fn call(mut calls: Service, request: Request<HttpBody>) -> Response<HttpBody> {
    match calls.call(request).await {
        Ok(response) => response,
        Err(error) => pages::json_page(
            StatusCode::INTERNAL_SERVER_ERROR,
            &serde_json::json!({ "error": codes::internal(error.to_string()) }),
        ),
    }
}

/// Whether a body can be a JSON-RPC request or a batch of them.
fn check_shape(body: &[u8]) -> Result<(), ErrorObjectOwned> {
    #[derive(Deserialize)]
    struct Call<'a> {
        #[serde(rename = "jsonrpc")]
        _version: String,
        #[serde(rename = "method")]
        _method: String,
        /// A string, a number or null.
        #[serde(rename = "id", default, borrow)]
        _id: Option<Id<'a>>,
    }
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_none() {
        return Err(codes::parse_error("the request's body is empty"));
    }
    serde_json::from_slice::<IgnoredAny>(body)
        .map_err(|error| codes::parse_error(format!("the request's body is not JSON: {error}")))?;
    match first {
        // The members of a batch get their own answers.
        Some(b'[') => Ok(()),
        Some(b'{') => serde_json::from_slice::<Call<'_>>(body)
            .map(|_call| ())
            .map_err(|error| codes::invalid_request(format!("the request is not a JSON-RPC call: {error}"))),
        _ => Err(codes::invalid_request("the request's body is neither an object nor an array")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(CONTENT_TYPE).map(HeaderValue::to_str) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
}

/// What a browser asks before it lets an allowed page send JSON.
fn preflight() -> Response<HttpBody> {
    let mut response = Response::new(HttpBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}
