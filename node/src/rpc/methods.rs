//! The methods: one table that describes, registers and prices them, so that what is documented is what is served.

use super::params::{Args, Kind, Param, optional, required};
use super::subscriptions;
use super::{bans, codes, openrpc};
use crate::api::feed::{Topic, TransactionFilter};
use crate::api::{BlockSelector, ChainEvent, LogFilterReply, NodeHandle, PeerEvent, ShutdownReply, TransactionEvent};
use crate::metrics::{Metrics, RpcLabel};
use crate::telemetry;
use futures::future::BoxFuture;
use jsonrpsee::RpcModule;
use jsonrpsee::core::RegisterMethodError;
use jsonrpsee::types::ErrorObjectOwned;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use starling_crypto::{Digest, PublicKeyBytes};
use starling_protocol::id::{BlockId, TransactionId};
use std::sync::Arc;

pub(super) type Answer<T> = Result<T, ErrorObjectOwned>;

/// What the methods share.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) node: NodeHandle,
    pub(super) metrics: Metrics,
}

/// One method, or a pair that begins and ends subscriptions.
pub(super) struct Method {
    pub(super) name: &'static str,
    /// What it does, as a sentence.
    pub(super) summary: &'static str,
    pub(super) params: &'static [Param],
    /// What a call costs of the client's allowance ([`super::limits`]).
    pub(super) cost: u32,
    /// Whether it is served over the admin socket alone.
    pub(super) admin: bool,
    /// Whether its answers never have more than [`super::answers::SMALL_BYTES_MAX`].
    pub(super) small: bool,
    pub(super) kind: MethodKind,
}

pub(super) enum MethodKind {
    Call {
        run: Run,
        result: SchemaOf,
    },
    Subscription {
        unsubscribe: &'static str,
        /// The `method` of its notifications.
        notification: &'static str,
        topic: fn(&Args) -> Answer<Topic>,
        event: SchemaOf,
    },
}

/// Makes the schema of a result or an event.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

type Run = Arc<dyn Fn(Context, Args) -> BoxFuture<'static, Answer<Box<RawValue>>> + Send + Sync>;

/// All methods, in the order of the documentation.
pub(super) fn table() -> Vec<Method> {
    let mut methods = node_methods();
    methods.extend(chain_methods());
    methods.extend(subscription_methods());
    methods.extend(admin_methods());
    methods.push(openrpc::discover());
    methods
}

/// Most transactions in a page of `mempool_list`, and how many there are when nothing is said.
const PAGE_MAX: u64 = 500;
const PAGE_DEFAULT: u64 = 100;

fn node_methods() -> Vec<Method> {
    const PAGE: &[Param] = &[
        optional("after", Kind::Digest, "the `next` of the page before, to go on from there"),
        optional("limit", Kind::Integer, "how many to return, 1 to 500 (100 when left out)"),
    ];
    vec![
        call("node_info", "Who the node is: version, network, keys, limits of the genesis.", &[], |it, _| async move {
            it.node.node_info().await
        })
        .small(),
        call("net_info", "Addresses, numbers of peers, mesh degree of each topic, bytes.", &[], |it, _| async move {
            it.node.net_info().await
        })
        .cost(5),
        call("net_peers", "Each peer with its address, round trip, topics and score.", &[], |it, _| async move {
            it.node.peers().await
        })
        .cost(20),
        checked(
            "mempool_list",
            "The pending transactions, in pages, in the order of their ids.",
            PAGE,
            page,
            |it, page| async move { it.node.mempool_list(page.0, page.1).await },
        )
        .cost(20),
        call("mempool_info", "How full the mempool is.", &[], |it, _| async move { it.node.mempool_info().await })
            .small(),
    ]
}

fn chain_methods() -> Vec<Method> {
    const TRANSACTION: &[Param] = &[required("transaction", Kind::Bytes, "the signed transaction in hex")];
    const PAYLOAD: &[Param] = &[required("payload", Kind::Bytes, "the payload in hex")];
    const ID: &[Param] = &[required("id", Kind::Digest, "the transaction id in hex")];
    const PUBLIC_KEY: &[Param] = &[required("public_key", Kind::Digest, "the account's public key in hex")];
    const BLOCK: &[Param] = &[
        optional("height", Kind::Block, "the block's height as a number"),
        optional("id", Kind::Digest, "the block's id in hex"),
    ];
    vec![
        call("tx_submit", "Takes in a signed transaction and spreads it.", TRANSACTION, |it, mut args| async move {
            it.node.submit_transaction(args.bytes("transaction").unwrap_or_default()).await
        })
        .cost(2)
        .small(),
        call(
            "tx_publish",
            "Makes a transaction of a payload, signed with the node's own account key, and spreads it.",
            PAYLOAD,
            |it, mut args| async move { it.node.publish_payload(args.bytes("payload").unwrap_or_default()).await },
        )
        .cost(5)
        .small(),
        call("tx_get", "What became of a transaction.", ID, |it, args| async move {
            it.node.transaction_status(TransactionId(Digest(args.digest("id").unwrap_or_default()))).await
        })
        .cost(2),
        call("account_get", "The next nonce of an account, and what it is made of.", PUBLIC_KEY, |it, args| async move {
            it.node.account(PublicKeyBytes(args.digest("public_key").unwrap_or_default())).await
        })
        .cost(2)
        .small(),
        call("chain_head", "Height, id and slot of the last block.", &[], |it, _| async move {
            it.node.chain_head().await
        })
        .small(),
        checked(
            "chain_block",
            "A block, by its height or its id; null when the node does not have it.",
            BLOCK,
            block_selector,
            |it, block| async move { it.node.block(block).await },
        )
        .cost(10),
    ]
}

fn subscription_methods() -> Vec<Method> {
    const FILTER: &[Param] = &[
        optional("ids", Kind::Digests, "a list of transaction ids in hex, to hear of these"),
        optional("senders", Kind::Digests, "a list of public keys in hex, to hear of their transactions"),
    ];
    vec![
        subscription::<TransactionEvent>(
            "tx_subscribe",
            "Tells what happens to transactions: accepted, included, returned, expired, superseded, evicted. With ids or \
             senders only of those.",
            FILTER,
            ("tx_unsubscribe", "tx_subscription"),
            |args| {
                Ok(Topic::Transactions(TransactionFilter {
                    ids: args.digests("ids").iter().map(|id| TransactionId(Digest(*id))).collect(),
                    senders: args.digests("senders").iter().map(|key| PublicKeyBytes(*key)).collect(),
                }))
            },
        ),
        subscription::<ChainEvent>(
            "chain_subscribe",
            "Tells each new head, with the blocks that were undone and adopted on the way.",
            &[],
            ("chain_unsubscribe", "chain_subscription"),
            |_| Ok(Topic::Chain),
        ),
        subscription::<PeerEvent>(
            "net_subscribe",
            "Tells which peers come and go, enter and leave the mesh, pass a threshold with their score, and are banned.",
            &[],
            ("net_unsubscribe", "net_subscription"),
            |_| Ok(Topic::Net),
        ),
    ]
}

fn admin_methods() -> Vec<Method> {
    const FILTER: &[Param] =
        &[optional("filter", Kind::Text, "a log filter to set, such as \"info,starling_node::net=debug\"")];
    const TARGET: Param = required("target", Kind::Text, "a peer id, an IP address, or a subnet such as 192.0.2.0/24");
    const BAN: &[Param] = &[
        TARGET,
        optional("duration_s", Kind::Integer, "for how many seconds (a day when left out)"),
        optional("reason", Kind::Text, "why, for whoever reads the list"),
    ];
    const UNBAN: &[Param] = &[TARGET];
    vec![
        call(
            "admin_log_filter",
            "Shows the log's filter, or sets it until the node stops.",
            FILTER,
            |_, args| async move { log_filter(&args) },
        )
        .admin(),
        checked(
            "admin_ban",
            "Keeps a peer, an address or a subnet out.",
            BAN,
            bans::ban,
            |it, (target, time, reason)| async move { it.node.ban(target, time, reason).await },
        )
        .admin(),
        checked(
            "admin_unban",
            "Lets a banned peer, address or subnet in again.",
            UNBAN,
            bans::unban,
            |it, target| async move { it.node.unban(target).await },
        )
        .admin(),
        call("admin_bans", "Who is kept out, for how long and why.", &[], |it, _| async move { it.node.bans().await })
            .admin(),
        call("admin_shutdown", "Stops the node cleanly, as SIGTERM does.", &[], |it, _| async move {
            it.node.shutdown().await.map(|()| ShutdownReply { stopping: true })
        })
        .admin()
        .small(),
    ]
}

fn log_filter(args: &Args) -> Answer<LogFilterReply> {
    if let Some(filter) = args.text("filter") {
        telemetry::set_filter(filter).map_err(|error| {
            let text = error.to_string();
            let (cause, remedy) = text.split_once("; ").unwrap_or((&text, "give another filter"));
            codes::invalid_params(cause, remedy)
        })?;
        tracing::info!(filter, "the log filter was set over the admin socket");
    }
    Ok(LogFilterReply { filter: telemetry::filter() })
}

fn page(args: &Args) -> Answer<(Option<TransactionId>, usize)> {
    let limit = args.integer("limit").unwrap_or(PAGE_DEFAULT);
    match usize::try_from(limit) {
        Ok(count) if (1..=PAGE_MAX).contains(&limit) => {
            Ok((args.digest("after").map(|after| TransactionId(Digest(after))), count))
        }
        _ => Err(codes::invalid_params(
            format!("the parameter \"limit\" is {limit}"),
            format!("give a number from 1 to {PAGE_MAX}"),
        )),
    }
}

fn block_selector(args: &Args) -> Answer<BlockSelector> {
    let by_id = |id| Ok(BlockSelector::Id(BlockId(Digest(id))));
    match (args.integer("height"), args.digest("height"), args.digest("id")) {
        (Some(height), None, None) => Ok(BlockSelector::Height(height)),
        (None, Some(id), None) | (None, None, Some(id)) => by_id(id),
        (None, None, None) => Err(codes::invalid_params(
            "neither a height nor a block id was given",
            "send {\"height\": number} or {\"id\": the block id in hex}",
        )),
        _ => Err(codes::invalid_params("both a height and a block id were given", "send one of them")),
    }
}

/// A method that asks the node something.
pub(super) fn call<T, E, F>(
    name: &'static str,
    summary: &'static str,
    params: &'static [Param],
    run: impl Fn(Context, Args) -> F + Copy + Send + Sync + 'static,
) -> Method
where
    T: Serialize + JsonSchema,
    E: Into<codes::Failure>,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let run = move |context, args| -> BoxFuture<'static, Answer<Box<RawValue>>> {
        let answer = run(context, args);
        Box::pin(async move {
            let answer = answer.await.map_err(|error| error.into().0)?;
            to_raw_value(&answer).map_err(|error| codes::internal(format!("the answer cannot be written: {error}")))
        })
    };
    let result: SchemaOf = |schemas| schemas.subschema_for::<T>();
    let kind = MethodKind::Call { run: Arc::new(run), result };
    Method { name, summary, params, cost: 1, admin: false, small: false, kind }
}

/// A method whose parameters need a look at several of them together.
fn checked<P, T, E, F>(
    name: &'static str,
    summary: &'static str,
    params: &'static [Param],
    check: fn(&Args) -> Answer<P>,
    run: impl Fn(Context, P) -> F + Copy + Send + Sync + 'static,
) -> Method
where
    P: Send + 'static,
    T: Serialize + JsonSchema,
    E: Into<codes::Failure> + Send,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    call(name, summary, params, move |context, args| {
        let checked = check(&args).map(|params| run(context, params));
        async move { checked?.await.map_err(|error| error.into().0) }
    })
}

fn subscription<T: JsonSchema>(
    name: &'static str,
    summary: &'static str,
    params: &'static [Param],
    (unsubscribe, notification): (&'static str, &'static str),
    topic: fn(&Args) -> Answer<Topic>,
) -> Method {
    let event: SchemaOf = |schemas| schemas.subschema_for::<T>();
    let kind = MethodKind::Subscription { unsubscribe, notification, topic, event };
    Method { name, summary, params, cost: 10, admin: false, small: true, kind }
}

impl Method {
    pub(super) fn cost(self, cost: u32) -> Self {
        Self { cost, ..self }
    }

    fn admin(self) -> Self {
        Self { admin: true, ..self }
    }

    fn small(self) -> Self {
        Self { small: true, ..self }
    }
}

/// Registers the methods of the table.
pub(super) fn module(table: &[Method], context: Context) -> Result<RpcModule<Context>, RegisterMethodError> {
    let mut module = RpcModule::new(context);
    for method in table {
        let (name, params) = (method.name, method.params);
        match &method.kind {
            MethodKind::Call { run, .. } => {
                let run = Arc::clone(run);
                module.register_async_method(name, move |given, context, _| {
                    let run = Arc::clone(&run);
                    async move {
                        let context = Context::clone(&context);
                        let metrics = context.metrics.clone();
                        let answer = match Args::read(params, &given) {
                            Ok(args) => run(context, args).await,
                            Err(error) => Err(error),
                        };
                        count(&metrics, name, answer.as_ref().err());
                        answer
                    }
                })?;
            }
            MethodKind::Subscription { unsubscribe, notification, topic, .. } => {
                let topic = *topic;
                module.register_subscription(
                    name,
                    notification,
                    unsubscribe,
                    move |given, pending, context, more| {
                        let args = Args::read(params, &given).and_then(|args| topic(&args));
                        subscriptions::serve(name, args, pending, Context::clone(&context), more)
                    },
                )?;
            }
        }
    }
    Ok(module)
}

/// Counts how a call ended.
pub(super) fn count(metrics: &Metrics, method: &'static str, error: Option<&ErrorObjectOwned>) {
    let outcome = match error {
        None => "ok",
        Some(error) if codes::is_own_trouble(error.code()) => "failed",
        Some(_) => "refused",
    };
    metrics.rpc_requests.get_or_create(&RpcLabel { method, outcome }).inc();
}
