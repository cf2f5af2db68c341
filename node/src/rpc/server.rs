//! The HTTP servers around the methods and pages: accepting, limits, dispatch by path.

use super::admin::AdminSocket;
use super::answers::RESPONSE_BYTES_MAX;
use super::body::{self, Unread};
use super::calls::{Gate, Gated, OverWebSocket};
use super::connections::{Connection, Connections, Door};
use super::guard::{Denied, Guard};
use super::limits::Limits;
use super::methods::{Context, module, table};
use super::paced::{BYTES_PER_UNIT, Paced};
use super::{codes, guard, pages, shape};
use crate::api::NodeHandle;
use crate::metrics::Metrics;
use crate::rate_limited;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonrpsee::core::middleware::RpcServiceBuilder;
use jsonrpsee::server::{
    BatchRequestConfig, HttpBody, Methods, PingConfig, ServerConfig, ServerHandle, StopHandle, TowerService,
    TowerServiceBuilder, stop_channel,
};
use jsonrpsee::types::Id;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinHandle;
use tower::Service as _;
use tower::layer::util::{Identity, Stack};

/// How long the node may take for an answer.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// How long open connections are given when the server stops.
const STOP_DEADLINE: Duration = Duration::from_secs(1);
/// How often connections that take nothing are looked for.
const STUCK_INTERVAL: Duration = Duration::from_millis(500);
/// Answers that wait for a WebSocket's other end.
const ANSWERS_WAITING_MAX: u32 = 16;
/// Connections over the admin socket, which only the node's own user can open.
const ADMIN_CONNECTIONS_MAX: u32 = 32;
/// What a page costs of a client's allowance.
const PAGE_UNITS: u32 = 5;

type Service = TowerService<Stack<Gated, Identity>, Identity>;

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
    /// Most connections at once; half of them may be WebSockets.
    pub connections_max: u32,
    /// Most calls in a batch.
    pub batch_calls_max: u32,
    /// How much each client may ask, in units of which the cheapest calls cost one; 0 for no limit.
    pub units_per_second: u32,
    /// How long a client may take to send a request's head, or its body, or to read anything of what waits for it.
    pub patience: Duration,
    /// Most bytes of large answers at once, in the making and waiting to be read; at least 16 MiB make sense.
    pub answer_bytes_max: u32,
    /// The admin socket's file; none for no admin socket.
    pub admin_socket: Option<PathBuf>,
}

impl Default for RpcConfig {
    /// Any free port of the loopback interface, and no admin socket. The limits are guesses: enough for a wallet or a test
    /// tool, too little to drown the node.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            request_bytes_max: 1 << 20,
            connections_max: 256,
            batch_calls_max: 64,
            units_per_second: 5_000,
            patience: Duration::from_secs(15),
            answer_bytes_max: 64 << 20,
            admin_socket: None,
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
    /// The admin socket cannot be made.
    #[error("cannot make the admin socket {}: {problem}", .path.display())]
    AdminSocket {
        /// Its file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Two methods have one name.
    #[error("the RPC methods cannot be registered: {0}")]
    Methods(#[from] jsonrpsee::core::RegisterMethodError),
}

/// A running server.
#[derive(Debug)]
pub struct RpcServer {
    local_address: SocketAddr,
    admin_socket: Option<PathBuf>,
    stop: ServerHandle,
    accepting: Vec<JoinHandle<()>>,
}

impl RpcServer {
    /// Listens, and serves in the background until [`RpcServer::stop`].
    ///
    /// # Errors
    /// If the address cannot be listened on, or the admin socket cannot be made.
    pub async fn start(config: &RpcConfig, node: NodeHandle, metrics: Metrics) -> Result<Self, RpcError> {
        let address = config.listen;
        let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => RpcError::InUse { address },
            _ => RpcError::Listen { address, source },
        })?;
        let local_address = listener.local_addr().map_err(|source| RpcError::Listen { address, source })?;
        let admin_socket = config.admin_socket.as_deref().map(AdminSocket::bind).transpose()?;
        let admin_path = admin_socket.as_ref().map(|socket| socket.path().to_owned());
        let (stop_handle, stop) = stop_channel();
        let shared = Arc::new(Shared::new(config, Context { node, metrics }, admin_path.is_some())?);
        let connections = |max| {
            let limits = Arc::clone(&shared.gate.limits);
            Connections::new(max, config.request_bytes_max, config.answer_bytes_max, limits)
        };
        let (of_tcp, of_admin) = (connections(config.connections_max), connections(ADMIN_CONNECTIONS_MAX));
        let tcp = accept(Listener::Tcp(listener), Arc::clone(&shared), of_tcp, stop_handle.clone());
        let mut accepting = vec![tokio::spawn(tcp)];
        if let Some(socket) = admin_socket {
            accepting.push(tokio::spawn(async move {
                let (listener, file) = socket.into_parts();
                accept(Listener::Admin(listener), shared, of_admin, stop_handle).await;
                drop(file);
            }));
        }
        Ok(Self { local_address, admin_socket: admin_path, stop, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// The admin socket's file.
    #[must_use]
    pub fn admin_socket(&self) -> Option<&Path> {
        self.admin_socket.as_deref()
    }

    /// Stops accepting and gives what is under way a second. The admin socket's file is gone then.
    pub async fn stop(self) {
        let _already_stopped = self.stop.stop();
        // The accepting tasks end when the last connection has, or when they are out of patience.
        for accepting in self.accepting {
            let _panicked = accepting.await;
        }
    }
}

struct Shared {
    context: Context,
    /// Makes a service for each connection, behind the gate.
    services: TowerServiceBuilder<Identity, Identity>,
    methods: Methods,
    gate: Arc<Gate>,
    guard: Guard,
    config: RpcConfig,
}

impl Shared {
    fn new(config: &RpcConfig, context: Context, has_admin_socket: bool) -> Result<Self, RpcError> {
        let limits = ServerConfig::builder()
            // Connections are counted and limited before they come this far.
            .max_connections(u32::MAX)
            .max_request_body_size(config.request_bytes_max)
            .max_response_body_size(RESPONSE_BYTES_MAX)
            .max_subscriptions_per_connection(u32::MAX)
            .set_batch_request_config(BatchRequestConfig::Limit(config.batch_calls_max))
            // A WebSocket whose other end has gone silently gives its place back.
            .enable_ws_ping(PingConfig::new())
            // Answers that wait for a WebSocket to take them; those beyond count as calls that are under way.
            .set_message_buffer_capacity(ANSWERS_WAITING_MAX)
            .build();
        let table = table();
        let metrics = context.metrics.clone();
        Ok(Self {
            methods: module(&table, context.clone())?.into(),
            context,
            services: jsonrpsee::server::Server::builder().set_config(limits).to_service_builder(),
            gate: Arc::new(Gate::new(
                &table,
                Arc::new(Limits::new(config.units_per_second)),
                metrics,
                has_admin_socket,
            )),
            guard: Guard {
                hosts: config.allow_hosts.iter().map(|host| guard::canonical_host(host)).collect(),
                origins: config.allow_origins.clone(),
            },
            config: config.clone(),
        })
    }
}

enum Listener {
    Tcp(TcpListener),
    Admin(UnixListener),
}

/// A connection that has just come.
enum Accepted {
    Tcp(TcpStream, Door),
    Admin(tokio::net::UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                // Requests and answers are small; waiting to fill a packet would only delay them.
                let _no_delay = stream.set_nodelay(true);
                let local = stream.local_addr()?.ip();
                Ok(Accepted::Tcp(stream, Door::Tcp { local, remote: remote.ip() }))
            }
            Self::Admin(listener) => Ok(Accepted::Admin(listener.accept().await?.0)),
        }
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>, connections: Arc<Connections>, stop: StopHandle) {
    let mut tasks = tokio::task::JoinSet::new();
    let stopped = stop.clone().shutdown();
    tokio::pin!(stopped);
    let mut look_for_stuck = tokio::time::interval(STUCK_INTERVAL);
    look_for_stuck.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stopped => break,
            Some(_ended) = tasks.join_next() => {}
            _ = look_for_stuck.tick() => {
                connections.close_stuck(shared.config.patience);
                shared.tell(&connections, matches!(listener, Listener::Tcp(_)));
            }
            accepted = listener.accept() => match accepted {
                Ok(Accepted::Tcp(stream, door)) => match connections.admit(door) {
                    Some(connection) => {
                        let stream = Paced::new(stream, Arc::clone(&connection), Arc::clone(&connections));
                        tasks.spawn(serve(stream, connection, Arc::clone(&connections), Arc::clone(&shared), stop.clone()));
                    }
                    None => refuse(&stream),
                },
                Ok(Accepted::Admin(stream)) => if let Some(connection) = connections.admit(Door::Admin) {
                    let stream = Paced::new(stream, Arc::clone(&connection), Arc::clone(&connections));
                    tasks.spawn(serve(stream, connection, Arc::clone(&connections), Arc::clone(&shared), stop.clone()));
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

/// Turns away a connection when all others are being answered, without spending a task on it.
fn refuse(stream: &TcpStream) {
    let body = "{\"error\":\"too many RPC connections; close some, or try again later\"}\n";
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    // A new connection has room for this much; if it has not, the client sees a closed connection.
    let _unsent = stream.try_write(answer.as_bytes());
}

async fn serve<S>(
    stream: Paced<S>,
    connection: Arc<Connection>,
    connections: Arc<Connections>,
    shared: Arc<Shared>,
    stop: StopHandle,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let gated = RpcServiceBuilder::new().layer(Gated {
        gate: Arc::clone(&shared.gate),
        connection: Arc::clone(&connection),
        connections: Arc::clone(&connections),
    });
    let calls = shared.services.clone().set_rpc_middleware(gated).build(shared.methods.clone(), stop.clone());
    let patience = shared.config.patience;
    let service = hyper::service::service_fn(move |request| {
        let asked = Asked { connection: Arc::clone(&connection), connections: Arc::clone(&connections) };
        let (shared, calls) = (Arc::clone(&shared), calls.clone());
        async move { Ok::<_, Infallible>(shared.answer(request, &asked, calls).await) }
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(http);
    let ended = tokio::select! {
        ended = &mut http => ended,
        () = stop.shutdown() => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(error) = ended {
        rate_limited!(debug, %error, "an RPC connection ended early");
    }
}

/// The connection that a request came over.
struct Asked {
    connection: Arc<Connection>,
    connections: Arc<Connections>,
}

impl Shared {
    /// Tells the metrics of the answers that wait.
    fn tell(&self, connections: &Connections, of_tcp: bool) {
        let metrics = &self.context.metrics.rpc;
        metrics.slow_readers_closed.inc_by(connections.take_slow_closed());
        if of_tcp {
            metrics.answer_bytes.set(i64::try_from(connections.answer_bytes()).unwrap_or(i64::MAX));
        }
    }

    async fn answer(&self, request: Request<Incoming>, asked: &Asked, calls: Service) -> Response<HttpBody> {
        let origin = match asked.connection.door() {
            // A web page can reach no Unix socket.
            Door::Admin => None,
            Door::Tcp { local, .. } => match self.guard.check(request.uri(), request.headers(), local) {
                Ok(origin) => origin,
                Err(Denied { status, cause, remedy }) => {
                    rate_limited!(debug, %cause, "refused an RPC request");
                    return pages::error_page(status, &cause, &remedy);
                }
            },
        };
        let mut response = self.dispatch(request, asked, calls).await;
        if let Some(origin) = origin {
            allow_origin(response.headers_mut(), origin);
        }
        response
    }

    async fn dispatch(&self, request: Request<Incoming>, asked: &Asked, calls: Service) -> Response<HttpBody> {
        if *request.method() == Method::POST && request.uri().path() == "/" {
            return self.post(request, asked, calls).await;
        }
        let _answering = asked.connection.answering();
        if let Err(wait) = self.gate.limits.spend(asked.connection.door().client(), PAGE_UNITS) {
            self.context.metrics.rpc.rate_limited.inc();
            return pages::too_many_requests(wait);
        }
        // The server leaves the body of an answer to HEAD out, and keeps its length (RFC 9110, section 9.3.2).
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/health") => pages::health(&self.context).await,
            (&Method::GET | &Method::HEAD, "/ready") => pages::ready(&self.context).await,
            (&Method::GET | &Method::HEAD, "/metrics") => self.metrics(asked).await,
            // The guard has let only allowed origins come this far.
            (&Method::OPTIONS, _) if request.headers().contains_key(header::ORIGIN) => preflight(),
            (&Method::GET, "/") if request.headers().contains_key(header::UPGRADE) => {
                self.upgrade(request, asked, calls).await
            }
            (_, "/" | "/health" | "/ready" | "/metrics") => pages::error_page(
                StatusCode::METHOD_NOT_ALLOWED,
                &format!("{} is not answered here", request.method()),
                "POST JSON-RPC to /, or GET /health, /ready or /metrics",
            ),
            (_, path) => pages::error_page(
                StatusCode::NOT_FOUND,
                &format!("there is no page {:?}", codes::clip(path)),
                "POST JSON-RPC to /, or GET /health, /ready or /metrics",
            ),
        }
    }

    async fn metrics(&self, asked: &Asked) -> Response<HttpBody> {
        let Some(room) = asked.connections.room(&asked.connection).await else {
            let error = codes::no_room();
            return pages::json_page(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({ "error": error.message() }));
        };
        let page = pages::metrics(&self.context);
        let bytes = page.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        let units = bytes.and_then(|bytes| u32::try_from(bytes / BYTES_PER_UNIT).ok());
        self.gate.limits.owe(asked.connection.door().client(), units.unwrap_or(0));
        asked.connection.large_begins(room, bytes.unwrap_or(usize::MAX));
        page
    }

    async fn upgrade(&self, request: Request<Incoming>, asked: &Asked, calls: Service) -> Response<HttpBody> {
        if !asked.connection.may_upgrade() {
            return pages::error_page(
                StatusCode::BAD_REQUEST,
                "a WebSocket begins with the first request of a connection, and nothing may be sent before its answer",
                "open a connection for it, and wait for the handshake's answer",
            );
        }
        if !asked.connections.upgrade(&asked.connection) {
            return pages::error_page(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many WebSockets are open, and all of them are in use",
                "close some, call over plain HTTP, or try again later",
            );
        }
        let mut request = request.map(HttpBody::new);
        request.extensions_mut().insert(OverWebSocket);
        request.extensions_mut().insert(Arc::clone(&asked.connection));
        let mut response = call(calls, request).await;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            asked.connection.is_no_websocket();
            // What has come meanwhile was read as frames.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// A JSON-RPC request over HTTP. What can be no call is answered here, because `jsonrpsee` does not say what is wrong
    /// with it.
    async fn post(&self, request: Request<Incoming>, asked: &Asked, calls: Service) -> Response<HttpBody> {
        // What is no call has no price of its own.
        let owe_message = || self.gate.limits.owe(asked.connection.door().client(), 1);
        if !is_json(request.headers()) {
            owe_message();
            return pages::error_page(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the request's content type is not application/json",
                "send the header `Content-Type: application/json`",
            );
        }
        let (mut parts, body) = request.into_parts();
        // `jsonrpsee` knows few ways of writing it.
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = match self.read(body).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let _answering = asked.connection.answering();
        let units = u32::try_from(body.len() / BYTES_PER_UNIT).unwrap_or(u32::MAX);
        if let Err(wait) = self.gate.limits.spend(asked.connection.door().client(), units) {
            self.context.metrics.rpc.rate_limited.inc();
            return pages::json_rpc_error(StatusCode::TOO_MANY_REQUESTS, &Id::Null, &codes::rate_limited(wait));
        }
        if let Err(shape::Malformed { id, error }) = shape::check(&body, self.config.batch_calls_max) {
            owe_message();
            return pages::json_rpc_error(StatusCode::BAD_REQUEST, &id, &error);
        }
        let answer = call(calls, Request::from_parts(parts, HttpBody::new(Full::<Bytes>::new(body))));
        match tokio::time::timeout(REQUEST_DEADLINE, answer).await {
            Ok(answer) if is_notified(&answer) => {
                owe_message();
                no_content()
            }
            Ok(answer) => answer,
            Err(_elapsed) => pages::error_page(
                StatusCode::GATEWAY_TIMEOUT,
                &format!("the node took longer than {} s", REQUEST_DEADLINE.as_secs()),
                "try again when the node is less busy",
            ),
        }
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, Response<HttpBody>> {
        let bytes_max = self.config.request_bytes_max;
        let body = body::read(body, bytes_max as usize);
        match tokio::time::timeout(self.config.patience, body).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(Unread::TooLarge)) => {
                let error = codes::request_too_large(bytes_max);
                Err(pages::json_rpc_error(StatusCode::PAYLOAD_TOO_LARGE, &Id::Null, &error))
            }
            Ok(Err(Unread::Broken(error))) => Err(pages::error_page(
                StatusCode::BAD_REQUEST,
                &format!("the request's body broke off: {error}"),
                "send it again",
            )),
            Err(_elapsed) => Err(pages::error_page(
                StatusCode::REQUEST_TIMEOUT,
                &format!("the request's body did not come within {} s", self.config.patience.as_secs()),
                "send it faster, or less at once",
            )),
        }
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

/// Whether this is what `jsonrpsee` says to notifications, which are not to be answered (JSON-RPC 2.0, section 4.1): `null`. An
/// answer is an object or a list of them, and never that short.
fn is_notified(answer: &Response<HttpBody>) -> bool {
    answer.body().size_hint().exact().is_some_and(|bytes| bytes <= "null".len() as u64)
}

fn no_content() -> Response<HttpBody> {
    let mut response = Response::new(HttpBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
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
    let mut response = no_content();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}
