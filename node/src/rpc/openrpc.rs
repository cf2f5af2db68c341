//! `rpc.discover`: the [OpenRPC](https://spec.open-rpc.org) document of this interface, made from the table of methods.
//!
//! The table that registers the methods describes them, the schemas of results and events are derived from the types that
//! are serialised, and those of parameters come from the descriptions that the parser works with. So the document cannot
//! say anything else than what is served; a test compares them all the same, and checks answers against the schemas.
//!
//! OpenRPC knows calls alone. A subscription stands there as the call that begins it, with an extension `x-subscription`
//! that names the notification, gives the schema of its events, and names the method that ends it. Methods of the admin
//! socket have `x-transport` with the value `admin`. Prices are in `x-cost`.

use super::codes;
use super::methods::{Method, MethodKind, call, table};
use super::params::{Kind, Param};
use jsonrpsee::types::ErrorObjectOwned;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::LazyLock;

/// The version of the specification that the document follows.
const OPENRPC: &str = "1.3.2";

/// The schema of OpenRPC documents.
const META_SCHEMA: &str = "https://meta.open-rpc.org/";

/// The method itself.
pub(super) fn discover() -> Method {
    call("rpc.discover", "This document, in the OpenRPC format.", &[], |_, _| async {
        Ok::<_, ErrorObjectOwned>(Document(&DOCUMENT))
    })
    .cost(20)
}

/// Made once: it is the same for as long as the process lives.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| document(&table()));

/// An OpenRPC document.
#[derive(Serialize)]
#[serde(transparent)]
struct Document(&'static Value);

impl JsonSchema for Document {
    fn schema_name() -> Cow<'static, str> {
        "OpenRpcDocument".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "$ref": META_SCHEMA })
    }
}

/// The document of these methods.
pub(super) fn document(table: &[Method]) -> Value {
    let mut settings = SchemaSettings::draft07().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut schemas = settings.into_generator();
    let methods: Vec<Value> = table.iter().flat_map(|method| describe(method, &mut schemas)).collect();
    let errors: Vec<Value> = errors();
    json!({
        "openrpc": OPENRPC,
        "info": {
            "title": "Starling node",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "JSON-RPC 2.0 over HTTP (POST /) and WebSocket. Bytes are hex without a prefix.",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "methods": methods,
        "components": { "schemas": schemas.take_definitions(true), "errors": errors_by_reason(&errors) },
        "x-errors": errors,
    })
}

fn describe(method: &Method, schemas: &mut SchemaGenerator) -> Vec<Value> {
    let mut described = json!({
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "either",
        "params": method.params.iter().map(parameter).collect::<Vec<_>>(),
        "x-cost": method.cost,
    });
    if method.admin {
        described["x-transport"] = json!("admin");
    }
    match &method.kind {
        MethodKind::Call { result, .. } => {
            described["result"] = json!({ "name": "result", "schema": result(schemas) });
            vec![described]
        }
        MethodKind::Subscription { unsubscribe, notification, event, .. } => {
            const SUBSCRIPTION: Param = super::params::required("subscription", Kind::Text, "the subscription's id");
            // As `jsonrpsee` makes them by default: a number below 2^53.
            let id = json!({ "type": ["integer", "string"] });
            described["result"] = json!({ "name": "subscription", "schema": id });
            described["x-subscription"] =
                json!({ "notification": notification, "event": event(schemas), "unsubscribe": unsubscribe });
            let mut subscription = parameter(&SUBSCRIPTION);
            subscription["schema"] = id;
            let ends = json!({
                "name": unsubscribe,
                "summary": format!("Ends a subscription of {}; false when there was none.", method.name),
                "paramStructure": "by-position",
                "params": [subscription],
                "result": { "name": "result", "schema": { "type": "boolean" } },
                "x-cost": 1,
            });
            vec![described, ends]
        }
    }
}

fn parameter(param: &Param) -> Value {
    json!({ "name": param.name, "description": param.what, "required": param.required, "schema": param.kind.schema() })
}

fn errors() -> Vec<Value> {
    codes::all().into_iter().map(|(code, reason)| json!({ "code": code, "message": reason })).collect()
}

fn errors_by_reason(errors: &[Value]) -> Value {
    let named = errors.iter().filter_map(|error| Some((error["message"].as_str()?.to_owned(), error.clone())));
    Value::Object(named.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::NodeHandle;
    use crate::metrics::Metrics;
    use crate::rpc::methods::{Context, module};
    use std::collections::BTreeSet;

    #[test]
    fn what_is_documented_is_what_is_served() {
        let (node, _commands) = NodeHandle::channel();
        let metrics = Metrics::new(prometheus_client::registry::Registry::default(), std::path::Path::new("/"));
        let module = module(&table(), Context { node, metrics }).expect("registered");
        let served: BTreeSet<&str> = module.method_names().collect();
        let document = document(&table());
        let methods = document["methods"].as_array().expect("a list");
        let documented: BTreeSet<&str> = methods.iter().filter_map(|method| method["name"].as_str()).collect();
        assert_eq!(documented, served);
        assert_eq!(documented.len(), methods.len(), "a method is there twice");
        for method in methods {
            assert!(method["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{method}");
            assert!(method["result"]["schema"].is_object(), "{method}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str));
                    members.values().for_each(|member| references(member, found));
                }
                Value::Array(members) => members.iter().for_each(|member| references(member, found)),
                _ => {}
            }
        }
        let document = document(&table());
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#');
            assert!(
                reference == META_SCHEMA || pointer.is_some_and(|pointer| document.pointer(pointer).is_some()),
                "{reference} leads nowhere"
            );
        }
    }
}
