//! Parameters of methods: described once, for the parser and for the OpenRPC document.
//!
//! Parameters go by name in an object or by position in an array; absent ones are an empty array. What is wrong with them
//! is an `invalid_params` error that names the parameter, what is wrong, and what would be right.

use super::codes;
use jsonrpsee::types::{ErrorObjectOwned, Params};
use serde_json::{Value, json};
use starling_crypto::Digest;
use std::collections::BTreeMap;

/// Most entries of a list.
pub(super) const LIST_MAX: usize = crate::api::feed::FILTER_MAX;

/// One parameter of a method.
#[derive(Clone, Copy, Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    /// What to give, as it stands after "give".
    pub(super) what: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
}

/// What a parameter may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes in hex.
    Bytes,
    /// 32 bytes in hex: an id or a key.
    Digest,
    /// A list of at most [`LIST_MAX`] of these.
    Digests,
    /// A number of at most 2^53, the largest that every JSON reader keeps exact.
    Integer,
    /// A block height, or for calls by position also a block id.
    Block,
    /// Any text.
    Text,
}

/// A parameter's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arg {
    Bytes(Vec<u8>),
    Digest([u8; 32]),
    Digests(Vec<[u8; 32]>),
    Integer(u64),
    Text(String),
}

/// The parameters of a call, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Args(BTreeMap<&'static str, Arg>);

type Answer<T> = Result<T, ErrorObjectOwned>;

/// A parameter that must be given.
pub(super) const fn required(name: &'static str, kind: Kind, what: &'static str) -> Param {
    Param { name, what, kind, required: true }
}

/// A parameter that may be left out.
pub(super) const fn optional(name: &'static str, kind: Kind, what: &'static str) -> Param {
    Param { name, what, kind, required: false }
}

impl Args {
    /// Reads the parameters of a call.
    ///
    /// # Errors
    /// `invalid_params`.
    pub(super) fn read(described: &'static [Param], params: &Params<'_>) -> Answer<Self> {
        let given: Value = match params.as_str() {
            None => return Self::check(described, Vec::new()),
            Some(text) => serde_json::from_str(text).map_err(|error| {
                codes::invalid_params(format!("the parameters are not JSON: {error}"), remedy(described))
            })?,
        };
        let given: Vec<(&Param, &Value)> = match &given {
            Value::Array(values) if values.len() > described.len() => return Err(too_many(described, values.len())),
            Value::Array(values) if values.is_empty() && described.len() == 1 && described[0].required => {
                return Err(too_many(described, 0));
            }
            Value::Array(values) => described.iter().zip(values).collect(),
            Value::Object(values) => {
                let find = |name: &String| {
                    described.iter().find(|param| param.name == name).ok_or_else(|| {
                        if described.is_empty() {
                            return too_many(described, values.len());
                        }
                        codes::invalid_params(
                            format!("there is no parameter {:?}", codes::clip(name)),
                            remedy(described),
                        )
                    })
                };
                values.iter().map(|(name, value)| Ok((find(name)?, value))).collect::<Answer<_>>()?
            }
            _ => {
                let cause = "the parameters are neither an object nor an array";
                return Err(codes::invalid_params(cause, remedy(described)));
            }
        };
        Self::check(described, given)
    }

    fn check(described: &'static [Param], given: Vec<(&Param, &Value)>) -> Answer<Self> {
        let mut args = BTreeMap::new();
        for (param, value) in given {
            // Null stands for a parameter that is left out, as callers by position need it.
            if !value.is_null() || param.required {
                args.insert(param.name, param.parse(value)?);
            }
        }
        if let Some(missing) = described.iter().find(|param| param.required && !args.contains_key(param.name)) {
            let cause = format!("the parameter {:?} is missing", missing.name);
            return Err(codes::invalid_params(cause, remedy(described)));
        }
        Ok(Self(args))
    }

    pub(super) fn bytes(&mut self, name: &str) -> Option<Vec<u8>> {
        match self.0.remove(name)? {
            Arg::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn digest(&self, name: &str) -> Option<[u8; 32]> {
        match self.0.get(name)? {
            Arg::Digest(digest) => Some(*digest),
            _ => None,
        }
    }

    pub(super) fn digests(&self, name: &str) -> &[[u8; 32]] {
        match self.0.get(name) {
            Some(Arg::Digests(digests)) => digests,
            _ => &[],
        }
    }

    pub(super) fn integer(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            Arg::Integer(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Arg::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Param {
    fn parse(&self, value: &Value) -> Answer<Arg> {
        let name = self.name;
        let wrong = |cause: String| codes::invalid_params(cause, format!("give {}", self.what));
        let text = || value.as_str().ok_or_else(|| wrong(format!("the parameter {name:?} is not a string")));
        let number = || {
            let no_height =
                || wrong(format!("the parameter {name:?} is {}, which is no {}", shown(value), self.kind.noun()));
            value.as_u64().filter(|number| *number <= 1 << 53).ok_or_else(no_height)
        };
        let digest = |text: &str| {
            let digest = text.parse::<Digest>().map(|digest| digest.0);
            digest.map_err(|error| wrong(format!("the parameter {name:?} is wrong: {error}")))
        };
        Ok(match self.kind {
            Kind::Bytes => Arg::Bytes(hex::decode(text()?).map_err(|error| {
                let remedy = format!("give {}, two digits a byte, without a prefix", self.what);
                codes::invalid_params(hex_problem(name, error), remedy)
            })?),
            Kind::Digest => Arg::Digest(digest(text()?)?),
            Kind::Digests => {
                let list = value.as_array().ok_or_else(|| wrong(format!("the parameter {name:?} is not a list")))?;
                if list.len() > LIST_MAX {
                    return Err(wrong(format!(
                        "the parameter {name:?} has {} entries, and {LIST_MAX} at most are taken",
                        list.len()
                    )));
                }
                let entry = |entry: &Value| match entry.as_str() {
                    Some(text) => digest(text),
                    None => {
                        Err(wrong(format!("the parameter {name:?} has {} in it, which is not a string", shown(entry))))
                    }
                };
                Arg::Digests(list.iter().map(entry).collect::<Answer<_>>()?)
            }
            Kind::Integer => Arg::Integer(number()?),
            Kind::Block => match value {
                Value::String(text) => Arg::Digest(digest(text)?),
                _ => Arg::Integer(number()?),
            },
            Kind::Text => Arg::Text(text()?.to_owned()),
        })
    }
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Block => "block height",
            _ => "whole number",
        }
    }

    /// The JSON Schema of a value.
    pub(super) fn schema(self) -> Value {
        let digest = || json!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" });
        match self {
            Self::Bytes => json!({ "type": "string", "pattern": "^([0-9a-fA-F]{2})*$" }),
            Self::Digest => digest(),
            Self::Digests => json!({ "type": "array", "maxItems": LIST_MAX, "items": digest() }),
            Self::Integer => json!({ "type": "integer", "minimum": 0 }),
            Self::Block => json!({ "oneOf": [{ "type": "integer", "minimum": 0 }, digest()] }),
            Self::Text => json!({ "type": "string" }),
        }
    }
}

/// A value, as far as it is shown to who sent it.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => format!("{:?}", codes::clip(text)),
        other => codes::clip(&other.to_string()).to_owned(),
    }
}

fn hex_problem(name: &str, error: hex::FromHexError) -> String {
    match error {
        hex::FromHexError::OddLength => format!("the parameter {name:?} has an odd number of digits"),
        hex::FromHexError::InvalidHexCharacter { c, index } => {
            format!("the parameter {name:?} has {c:?} as character {}, which is no hex digit", index + 1)
        }
        hex::FromHexError::InvalidStringLength => format!("the parameter {name:?} has a wrong length"),
    }
}

fn too_many(described: &[Param], found: usize) -> ErrorObjectOwned {
    let cause = match described.len() {
        0 => "this method takes no parameters".to_owned(),
        1 if described[0].required => format!("1 parameter is needed, found {found}"),
        most => format!("{most} parameters at most are taken, found {found}"),
    };
    codes::invalid_params(cause, remedy(described))
}

/// How the parameters would be right.
fn remedy(described: &[Param]) -> String {
    if described.is_empty() {
        return "leave `params` out".to_owned();
    }
    let part = |param: &Param| {
        let note = if param.required { "" } else { " (optional)" };
        format!("{{\"{}\": …}} with {}{note}", param.name, param.what)
    };
    format!("send {}", described.iter().map(part).collect::<Vec<_>>().join(", "))
}
