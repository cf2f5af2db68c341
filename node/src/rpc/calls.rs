//! What happens to every call before its method: it is counted, paid for, and refused with a reason where it cannot be
//! served; and it waits for room for its answer, if that may be large ([`super::answers`]).
//!
//! The same for HTTP and WebSocket, single calls and those in a batch. `jsonrpsee` answers on a WebSocket by itself what
//! never becomes a call: text that is no JSON (-32700), a message or a batch that is too large (-32007, -32010); these
//! have a code and a message but no `data`. They are counted and paid for like all messages ([`super::connections`]).

use super::answers::{BATCH_BYTES_MAX, Room, SMALL_BYTES_MAX};
use super::codes;
use super::connections::{Connection, Connections, Door};
use super::limits::Limits;
use super::methods::{Method, MethodKind, count};
use super::paced::BYTES_PER_UNIT;
use crate::metrics::Metrics;
use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, RpcServiceT};
use jsonrpsee::core::server::BatchResponseBuilder;
use jsonrpsee::server::MethodResponse;
use jsonrpsee::types::{ErrorObjectOwned, Id, Request};
use std::collections::BTreeMap;
use std::sync::Arc;
use tower::Layer;

/// The gate that all calls pass.
#[derive(Debug)]
pub(super) struct Gate {
    methods: BTreeMap<&'static str, Entry>,
    pub(super) limits: Arc<Limits>,
    metrics: Metrics,
    /// Whether there is an admin socket.
    has_admin_socket: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: &'static str,
    cost: u32,
    admin: bool,
    small: bool,
    subscribes: bool,
}

/// Marks requests that came over a WebSocket.
#[derive(Clone, Copy, Debug)]
pub(super) struct OverWebSocket;

impl Gate {
    pub(super) fn new(table: &[Method], limits: Arc<Limits>, metrics: Metrics, has_admin_socket: bool) -> Self {
        let mut methods = BTreeMap::new();
        for method in table {
            let Method { name, cost, admin, small, .. } = *method;
            let subscribes = matches!(method.kind, MethodKind::Subscription { .. });
            methods.insert(name, Entry { name, cost, admin, small, subscribes });
            if let MethodKind::Subscription { unsubscribe, .. } = method.kind {
                let ends = Entry { name: unsubscribe, cost: 1, admin, small: true, subscribes: false };
                methods.insert(unsubscribe, ends);
            }
        }
        Self { methods, limits, metrics, has_admin_socket }
    }

    /// The method of this call, if the call may go there.
    fn admit(&self, request: &Request<'_>, door: Door, batched: bool) -> Result<Entry, ErrorObjectOwned> {
        let name = request.method_name();
        let over_websocket = request.extensions().get::<OverWebSocket>().is_some();
        // The message itself has been paid for when it was read; a batch has cost that beyond its calls.
        let paid = u32::from(over_websocket && !batched);
        let Some(entry) = self.methods.get(name).copied() else {
            let error =
                self.pay(door, 1 - paid).err().unwrap_or_else(|| codes::unknown_method(name, self.nearest(name, door)));
            count(&self.metrics, "other", Some(&error));
            return Err(error);
        };
        let admitted = self.pay(door, entry.cost.saturating_sub(paid)).and_then(|()| {
            if entry.admin && door != Door::Admin {
                return Err(codes::admin_only(name, self.has_admin_socket));
            }
            match (entry.subscribes, over_websocket, batched) {
                (true, false, _) => Err(codes::websocket_needed()),
                (true, true, true) => Err(codes::invalid_request("a batch cannot hold subscriptions")),
                _ => Ok(()),
            }
        });
        if let Err(error) = &admitted {
            count(&self.metrics, entry.name, Some(error));
        }
        admitted.map(|()| entry)
    }

    fn pay(&self, door: Door, units: u32) -> Result<(), ErrorObjectOwned> {
        self.limits.spend(door.client(), units).map_err(|wait| {
            self.metrics.rpc.rate_limited.inc();
            codes::rate_limited(wait)
        })
    }

    fn nearest(&self, name: &str, door: Door) -> Option<&'static str> {
        let served = self.methods.values().filter(|entry| !entry.admin || door == Door::Admin);
        // A client chooses how long the name is, and comparing takes the product of both lengths.
        (name.len() <= 64).then(|| crate::config::nearest(name, served.map(|entry| entry.name))).flatten()
    }
}

/// Puts the gate before the calls of one connection.
#[derive(Clone, Debug)]
pub(super) struct Gated {
    pub(super) gate: Arc<Gate>,
    pub(super) connection: Arc<Connection>,
    pub(super) connections: Arc<Connections>,
}

impl<S> Layer<S> for Gated {
    type Service = GatedService<S>;

    fn layer(&self, service: S) -> GatedService<S> {
        GatedService { service, gated: self.clone() }
    }
}

/// A service behind the gate.
#[derive(Clone, Debug)]
pub(super) struct GatedService<S> {
    service: S,
    gated: Gated,
}

impl<S> GatedService<S> {
    /// The method of this call, if it may go there, or else its answer.
    fn admit(&self, request: &Request<'_>, batched: bool) -> Result<Entry, MethodResponse> {
        if codes::is_id_too_long(&request.id) {
            return Err(MethodResponse::error(Id::Null, codes::id_too_long()));
        }
        let admitted = self.gated.gate.admit(request, self.gated.connection.door(), batched);
        admitted.map_err(|error| MethodResponse::error(request.id.clone(), error))
    }

    fn connection(&self) -> &Connection {
        &self.gated.connection
    }

    /// Room for an answer that may be large.
    async fn room(&self) -> Result<Room, ErrorObjectOwned> {
        let Gated { connection, connections, .. } = &self.gated;
        connections.room(connection).await.ok_or_else(codes::no_room)
    }

    /// Keeps the room that an answer needs until it is read, and takes the price of its bytes.
    fn keep(&self, room: Room, answer: &MethodResponse) {
        let bytes = answer.as_ref().len();
        if bytes > SMALL_BYTES_MAX {
            let units = u32::try_from(bytes / BYTES_PER_UNIT).unwrap_or(u32::MAX);
            self.gated.gate.limits.owe(self.connection().door().client(), units);
            self.connection().large_begins(room, bytes);
        }
    }
}

impl<S: RpcServiceT<MethodResponse = MethodResponse>> GatedService<S> {
    /// Calls a method whose answers are small.
    async fn call_small(&self, request: Request<'_>) -> MethodResponse {
        let id = request.id.clone();
        let answer = self.service.call(request).await;
        if answer.as_ref().len() <= SMALL_BYTES_MAX {
            return answer;
        }
        let cause =
            format!("the answer has more than {SMALL_BYTES_MAX} bytes, which no answer of this method should have");
        MethodResponse::error(id, codes::internal(cause))
    }
}

impl<S> RpcServiceT for GatedService<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            NotificationResponse = MethodResponse,
            BatchResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = Self::MethodResponse> + Send + 'a {
        self.connection().message_called();
        let (this, admitted) = (self.clone(), self.admit(&request, false));
        async move {
            match admitted {
                Ok(method) if method.small => this.call_small(request).await,
                Ok(method) => match this.room().await {
                    Ok(room) => {
                        let answer = this.service.call(request).await;
                        this.keep(room, &answer);
                        answer
                    }
                    Err(error) => {
                        count(&this.gated.gate.metrics, method.name, Some(&error));
                        MethodResponse::error(request.id, error)
                    }
                },
                Err(refused) => refused,
            }
        }
    }

    fn batch<'a>(&self, requests: Batch<'a>) -> impl Future<Output = Self::BatchResponse> + Send + 'a {
        self.connection().message_called();
        let this = self.clone();
        async move {
            let room = match this.room().await {
                Ok(room) => room,
                Err(error) => return MethodResponse::error(Id::Null, error),
            };
            let mut answers = BatchResponseBuilder::new_with_limit(BATCH_BYTES_MAX);
            let mut notified = false;
            for entry in requests {
                let answer = match entry {
                    Ok(BatchEntry::Call(request)) => match this.admit(&request, true) {
                        Ok(_method) => this.service.call(request).await,
                        Err(refused) => refused,
                    },
                    Ok(BatchEntry::Notification(_)) => {
                        notified = true;
                        continue;
                    }
                    Err(error) => {
                        let (error, id) = error.into_parts();
                        let id = if codes::is_id_too_long(&id) { Id::Null } else { id };
                        let cause = format!("a call of the batch is no JSON-RPC call: {}", error.message());
                        MethodResponse::error(id, codes::invalid_request(cause))
                    }
                };
                if answers.append(answer).is_err() {
                    return MethodResponse::error(Id::Null, codes::batch_response_too_large());
                }
            }
            if answers.is_empty() && notified {
                this.connection().message_silent();
                return MethodResponse::notification();
            }
            let answer = MethodResponse::from_batch(answers.finish());
            this.keep(room, &answer);
            answer
        }
    }

    /// A call without an id: nobody waits for an answer, and no method here has anything else to give.
    fn notification<'a>(&self, n: Notification<'a>) -> impl Future<Output = Self::NotificationResponse> + Send + 'a {
        self.connection().message_called();
        self.connection().message_silent();
        self.service.notification(n)
    }
}
