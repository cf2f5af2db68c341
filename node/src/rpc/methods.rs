//! The methods: parameters in, a question to the driver, the answer out.

use super::{bans, codes};
use crate::api::{BlockSelector, NodeHandle};
use crate::metrics::{Metrics, RpcLabel};
use jsonrpsee::RpcModule;
use jsonrpsee::core::RegisterMethodError;
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use starling_crypto::PublicKeyBytes;
use starling_protocol::id::{BlockId, TransactionId};
use std::str::FromStr;

type Answer<T> = Result<T, ErrorObjectOwned>;

/// What the methods share.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) node: NodeHandle,
    pub(super) metrics: Metrics,
}

/// All methods, by name.
pub(super) fn module(context: Context) -> Result<RpcModule<Context>, RegisterMethodError> {
    let mut module = RpcModule::new(context);
    register(&mut module, "node_info", |node, params| async move {
        none(&params)?;
        node.node_info().await.map_err(|error| codes::from_api(&error))
    })?;
    register(&mut module, "net_info", |node, params| async move {
        none(&params)?;
        node.net_info().await.map_err(|error| codes::from_api(&error))
    })?;
    register(&mut module, "net_peers", |node, params| async move {
        none(&params)?;
        node.peers().await.map_err(|error| codes::from_api(&error))
    })?;
    register(&mut module, "mempool_info", |node, params| async move {
        none(&params)?;
        node.mempool_info().await.map_err(|error| codes::from_api(&error))
    })?;
    register(&mut module, "chain_head", |node, params| async move {
        none(&params)?;
        node.chain_head().await.map_err(|error| codes::from_api(&error))
    })?;
    register(&mut module, "tx_submit", |node, params| async move {
        let transaction = bytes(&params, "transaction", "the signed transaction in hex")?;
        node.submit_transaction(transaction).await.map_err(|error| codes::from_api(&error))
    })?;
    register(&mut module, "tx_publish", |node, params| async move {
        let payload = bytes(&params, "payload", "the payload in hex")?;
        node.publish_payload(payload).await.map_err(|error| codes::from_api(&error))
    })?;
    register(&mut module, "tx_get", |node, params| async move {
        let id: TransactionId = parsed(&params, "id", "the transaction id in hex")?;
        node.transaction_status(id).await.map_err(|error| codes::from_api(&error))
    })?;
    register(&mut module, "account_get", |node, params| async move {
        let public_key: PublicKeyBytes = parsed(&params, "public_key", "the account's public key in hex")?;
        node.account(public_key).await.map_err(|error| codes::from_api(&error))
    })?;
    register(&mut module, "chain_block", |node, params| async move {
        let block = block_selector(&params)?;
        node.block(block).await.map_err(|error| codes::from_api(&error))
    })?;
    register(&mut module, "admin_ban", |node, params| async move {
        let (target, duration, reason) = bans::ban_params(params)?;
        node.ban(target, duration, reason).await.map_err(|error| codes::from_api(&error))
    })?;
    register(&mut module, "admin_unban", |node, params| async move {
        node.unban(bans::unban_params(params)?).await.map_err(|error| codes::from_api(&error))
    })?;
    register(&mut module, "admin_bans", |node, params| async move {
        none(&params)?;
        node.bans().await.map_err(|error| codes::from_api(&error))
    })?;
    Ok(module)
}

/// Registers a method that counts how its calls end.
fn register<T, F>(
    module: &mut RpcModule<Context>,
    name: &'static str,
    method: impl Fn(NodeHandle, Value) -> F + Clone + Send + Sync + 'static,
) -> Result<(), RegisterMethodError>
where
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
    F: Future<Output = Answer<T>> + Send,
{
    module.register_async_method(name, move |params, context, _| {
        let method = method.clone();
        async move {
            let answer = match values(&params) {
                Ok(params) => method(context.node.clone(), params).await,
                Err(error) => Err(error),
            };
            let outcome = match &answer {
                Ok(_) => "ok",
                Err(error) if codes::is_own_trouble(error.code()) => "failed",
                Err(_) => "refused",
            };
            context.metrics.rpc_requests.get_or_create(&RpcLabel { method: name, outcome }).inc();
            answer
        }
    })?;
    Ok(())
}

/// The parameters as JSON; absent ones are an empty array.
fn values(params: &Params<'_>) -> Answer<Value> {
    match params.as_str() {
        None => Ok(Value::Array(Vec::new())),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| codes::invalid_params(format!("the parameters are not JSON: {error}"), "correct them")),
    }
}

fn none(params: &Value) -> Answer<()> {
    match params {
        Value::Array(values) if values.is_empty() => Ok(()),
        Value::Object(values) if values.is_empty() => Ok(()),
        _ => Err(codes::invalid_params("this method takes no parameters", "leave `params` out")),
    }
}

/// The only parameter, by name or by position.
fn only<'a>(params: &'a Value, name: &str, what: &str) -> Answer<&'a Value> {
    let remedy = || format!("send {{\"{name}\": …}} with {what}");
    match params {
        Value::Array(values) => match &values[..] {
            [value] => Ok(value),
            _ => Err(codes::invalid_params(format!("1 parameter is needed, found {}", values.len()), remedy())),
        },
        Value::Object(values) => {
            if let Some(other) = values.keys().find(|key| *key != name) {
                return Err(codes::invalid_params(format!("there is no parameter {other:?}"), remedy()));
            }
            values
                .get(name)
                .ok_or_else(|| codes::invalid_params(format!("the parameter {name:?} is missing"), remedy()))
        }
        _ => Err(codes::invalid_params("the parameters are neither an object nor an array", remedy())),
    }
}

fn text<'a>(params: &'a Value, name: &str, what: &str) -> Answer<&'a str> {
    only(params, name, what)?.as_str().ok_or_else(|| {
        codes::invalid_params(format!("the parameter {name:?} is not a string"), format!("give {what} as a string"))
    })
}

fn bytes(params: &Value, name: &str, what: &str) -> Answer<Vec<u8>> {
    let text = text(params, name, what)?;
    hex::decode(text).map_err(|error| {
        let cause = match error {
            hex::FromHexError::OddLength => format!("the parameter {name:?} has an odd number of digits"),
            hex::FromHexError::InvalidHexCharacter { c, index } => {
                format!("the parameter {name:?} has {c:?} as character {}, which is no hex digit", index + 1)
            }
            hex::FromHexError::InvalidStringLength => format!("the parameter {name:?} has a wrong length"),
        };
        codes::invalid_params(cause, format!("give {what}, two digits a byte, without a prefix"))
    })
}

fn parsed<T: FromStr<Err = starling_crypto::HexError>>(params: &Value, name: &str, what: &str) -> Answer<T> {
    text(params, name, what)?.parse().map_err(|error| {
        codes::invalid_params(format!("the parameter {name:?} is wrong: {error}"), format!("give {what}"))
    })
}

fn block_selector(params: &Value) -> Answer<BlockSelector> {
    let remedy = "send {\"height\": number} or {\"id\": the block id in hex}";
    let value = match params {
        Value::Object(values) if values.contains_key("height") => only(params, "height", "a number")?,
        Value::Object(_) => only(params, "id", "the block id in hex, or {\"height\": number}")?,
        _ => only(params, "height", "a number, or {\"id\": the block id in hex}")?,
    };
    match value {
        Value::Number(number) => number
            .as_u64()
            .map(BlockSelector::Height)
            .ok_or_else(|| codes::invalid_params(format!("{number} is no block height"), remedy)),
        Value::String(text) => text
            .parse::<BlockId>()
            .map(BlockSelector::Id)
            .map_err(|error| codes::invalid_params(format!("{text:?} names no block: {error}"), remedy)),
        _ => Err(codes::invalid_params("neither a height nor a block id was given", remedy)),
    }
}
