//! Subscriptions: from a feed of the node into a WebSocket.
//!
//! A task for each subscription carries events from its queue ([`crate::api::feed`]) to the connection. It waits when the
//! connection does; the queue then fills, and when it is full the subscription ends. The last notification says so, with an
//! `error` in the place of the `result`:
//!
//! ```json
//! {"jsonrpc":"2.0","method":"chain_subscription","params":{"subscription":"…","error":{"code":-32034,"message":"…","data":{…}}}}
//! ```
//!
//! A client that reads again finds it after what was queued. One that does not read for
//! [`super::RpcConfig::patience`] loses the connection.

use super::codes;
use super::connections::Connection;
use super::methods::{Answer, Context, count};
use crate::api::feed::{FeedEnd, Topic};
use jsonrpsee::core::SubscriptionError;
use jsonrpsee::core::server::{PendingSubscriptionSink, SubscriptionCloseResponse, SubscriptionMessage};
use jsonrpsee::server::Extensions;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Most subscriptions of one connection.
pub(super) const PER_CONNECTION_MAX: u32 = 16;

/// Serves one subscription to its end.
pub(super) async fn serve(
    name: &'static str,
    topic: Answer<Topic>,
    pending: PendingSubscriptionSink,
    context: Context,
    extensions: Extensions,
) -> SubscriptionCloseResponse {
    let begun = begin(topic, &context, &extensions).await;
    count(&context.metrics, name, begun.as_ref().err());
    let (mut feed, _held) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            pending.reject(error).await;
            return SubscriptionCloseResponse::None;
        }
    };
    let Ok(sink) = pending.accept().await else { return SubscriptionCloseResponse::None };
    loop {
        let event = tokio::select! {
            () = sink.closed() => return SubscriptionCloseResponse::None,
            event = feed.next() => event,
        };
        let error = match event {
            Ok(event) => {
                let Ok(event) = RawValue::from_string(event.to_string()) else { continue };
                if sink.send(SubscriptionMessage::from(event)).await.is_err() {
                    return SubscriptionCloseResponse::None;
                }
                continue;
            }
            Err(FeedEnd::TooSlow) => codes::too_slow(),
            Err(FeedEnd::Stopped) => codes::from_api(&crate::api::ApiError::Stopped),
        };
        return match serde_json::value::to_raw_value(&error) {
            Ok(error) => SubscriptionCloseResponse::NotifErr(SubscriptionError::from_json(error)),
            Err(_unwritable) => SubscriptionCloseResponse::None,
        };
    }
}

async fn begin(
    topic: Answer<Topic>,
    context: &Context,
    extensions: &Extensions,
) -> Answer<(crate::api::feed::Feed, super::connections::Held)> {
    let topic = topic?;
    let connection = extensions.get::<Arc<Connection>>().ok_or_else(codes::websocket_needed)?;
    let held = connection.hold_subscription(PER_CONNECTION_MAX).ok_or_else(|| {
        let cause = format!("this connection has {PER_CONNECTION_MAX} subscriptions, which is the most it may have");
        codes::refused(&crate::api::Refusal::new(
            crate::api::RefusalReason::TooManySubscriptions,
            cause,
            "end some, or open another connection",
        ))
    })?;
    let feed = context.node.subscribe(topic).await.map_err(|error| codes::from_api(&error))?;
    Ok((feed, held))
}
