//! JSON schemas of what the protocol's types look like in JSON. Those types know nothing of JSON Schema; fields of such a
//! type name one of these with `#[schemars(with = "…")]`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// 32 bytes in hex: an id, a digest, a public key.
pub(crate) struct Hex32;

/// 64 bytes in hex: a signature.
pub(crate) struct Hex64;

/// [`super::MessageClass`].
pub(crate) struct Class;

impl JsonSchema for Hex32 {
    fn schema_name() -> Cow<'static, str> {
        "Hex32".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "32 bytes in lowercase hex.", "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

impl JsonSchema for Hex64 {
    fn schema_name() -> Cow<'static, str> {
        "Hex64".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "64 bytes in lowercase hex.", "type": "string", "pattern": "^[0-9a-f]{128}$" })
    }
}

impl JsonSchema for Class {
    fn schema_name() -> Cow<'static, str> {
        "MessageClass".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = super::MessageClass::ALL.map(super::MessageClass::name);
        json_schema!({ "description": "A traffic class, one topic each.", "type": "string", "enum": names })
    }
}
