//! Whether a document has the keys and the types of a manifest, said before it is read as one: only here the place of each value is known.
//!
//! The rules are those of the published schema ([`super::schema`]), so that there is no second list of keys. Beyond the schema, numbers
//! must be finite and whole numbers must fit into what TOML holds.

use super::error::Problem;
use super::error::Step::{self, Index, Word};
use serde_json::Value as Schema;
use toml::de::{DeTable, DeValue};

type Checked = Result<(), Problem>;

/// Checks a document against the schema of manifests.
pub(super) fn check(document: &DeTable<'_>) -> Checked {
    let root = schemars::schema_for!(super::Manifest).to_value();
    Shape { root: &root }.table(&root, document, &[])
}

struct Shape<'a> {
    root: &'a Schema,
}

impl Shape<'_> {
    fn value(&self, schema: &Schema, value: &DeValue<'_>, at: &[Step]) -> Checked {
        let schema = self.resolved(schema);
        if let Some(variants) = schema["oneOf"].as_array() {
            return if variants[0]["properties"]["kind"].is_object() {
                self.tagged(variants, value, at)
            } else {
                self.named(variants, value, at)
            };
        }
        if let Some(variants) = schema["anyOf"].as_array() {
            let fitting = variants.iter().find(|variant| is_like(variant, value));
            // That a value may be absent is no type that it could have.
            let types: Vec<String> = variants.iter().filter(|variant| kind(variant) != "null").map(expected).collect();
            return match fitting {
                Some(variant) => self.value(variant, value, at),
                None => Err(wrong(at, &types.join(" or "), value)),
            };
        }
        match (value, kind(schema)) {
            (DeValue::Table(table), "object") => self.table(schema, table, at),
            (DeValue::Array(entries), "array") => {
                let entries = entries.iter().enumerate();
                entries.map(|(number, entry)| (step(at, Index(number)), entry)).try_for_each(|(at, entry)| {
                    let items = &schema["items"];
                    self.value(items, entry.get_ref(), &at)
                })
            }
            (DeValue::Integer(whole), "integer") => {
                let most = most(schema);
                let number = i128::from_str_radix(whole.as_str(), whole.radix()).ok();
                match number.and_then(|number| u64::try_from(number).ok()).filter(|number| *number <= most) {
                    Some(_) => Ok(()),
                    None => Err(wrong(at, &expected(schema), value)),
                }
            }
            (DeValue::Integer(_), "number") | (DeValue::String(_), "string") | (DeValue::Boolean(_), "boolean") => {
                Ok(())
            }
            (DeValue::Float(number), "number") => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(()),
                _ => Err(wrong(at, "a finite number", value)),
            },
            (DeValue::Table(_), "array") if self.resolved(&schema["items"])["type"] != "integer" => {
                let name = at.last().map(ToString::to_string).unwrap_or_default();
                Err(Problem::new(at, format!("there can be several of them: write [[{name}]] in place of [{name}]")))
            }
            _ => Err(wrong(at, &expected(schema), value)),
        }
    }

    fn table(&self, schema: &Schema, table: &DeTable<'_>, at: &[Step]) -> Checked {
        for (key, value) in table {
            let key = key.get_ref();
            let inner = match (schema["properties"].get(key.as_ref()), &schema["additionalProperties"]) {
                (Some(inner), _) | (None, inner @ Schema::Object(_)) => inner,
                (None, _) => {
                    let known = list(schema["properties"].as_object().into_iter().flat_map(|keys| keys.keys()));
                    let message = format!("there is no key `{}` here, expected one of {known}", short(key));
                    return Err(Problem::new(&step(at, Word(key.to_string())), message));
                }
            };
            self.value(inner, value.get_ref(), &step(at, Word(key.to_string())))?;
        }
        let mut required = schema["required"].as_array().into_iter().flatten().filter_map(Schema::as_str);
        match required.find(|key| !table.contains_key(*key)) {
            Some(missing) => {
                let example = self.example(&schema["properties"][missing]);
                Err(Problem::new(at, format!("the key `{missing}` is missing; it must be {example}")))
            }
            None => Ok(()),
        }
    }

    /// A table whose key `kind` decides about the others.
    fn tagged(&self, variants: &[Schema], value: &DeValue<'_>, at: &[Step]) -> Checked {
        let DeValue::Table(table) = value else { return Err(wrong(at, "a table with a key `kind`", value)) };
        let of = |variant: &Schema| variant["properties"]["kind"]["const"].as_str().unwrap_or("").to_owned();
        let kinds = list(variants.iter().map(of));
        let Some(kind) = table.get("kind") else {
            return Err(Problem::new(at, format!("the key `kind` is missing; it must be one of {kinds}")));
        };
        match variants.iter().find(|variant| kind.get_ref().as_str() == Some(&of(variant))) {
            Some(variant) => self.table(variant, table, at),
            None => Err(wrong(&step(at, Step::Key("kind")), &format!("one of {kinds}"), kind.get_ref())),
        }
    }

    /// A table whose only key says what is in it.
    fn named(&self, variants: &[Schema], value: &DeValue<'_>, at: &[Step]) -> Checked {
        if let DeValue::Table(table) = value
            && let (1, Some((key, inner))) = (table.len(), table.iter().next())
            && let Some(known) = variants.iter().find_map(|variant| variant["properties"].get(key.get_ref().as_ref()))
        {
            return self.value(known, inner.get_ref(), &step(at, Word(key.get_ref().to_string())));
        }
        Err(wrong(at, &forms(variants), value))
    }

    /// What a value of a schema can be.
    fn example(&self, schema: &Schema) -> String {
        let schema = self.resolved(schema);
        match schema["oneOf"].as_array() {
            Some(variants) if !variants[0]["properties"]["kind"].is_object() => forms(variants),
            _ => expected(schema),
        }
    }

    fn resolved<'s>(&'s self, schema: &'s Schema) -> &'s Schema {
        let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
        name.map_or(schema, |name| &self.root["$defs"][name])
    }
}

/// Tables of one key each, of which one has to be given.
fn forms(variants: &[Schema]) -> String {
    let keys = variants.iter().filter_map(|variant| variant["properties"].as_object()?.iter().next());
    let example = |schema: &Schema| match kind(schema) {
        "array" if kind(&schema["items"]) == "integer" => "[0, 1]",
        "array" => "[\"us-east-1\"]",
        "boolean" => "true",
        _ => "5",
    };
    let forms: Vec<String> = keys.map(|(key, schema)| format!("{{ {key} = {} }}", example(schema))).collect();
    format!("one of {}", forms.join(", "))
}

/// The type of a schema. Where a value may be absent, "null" is the second of two types; TOML has no such value.
fn kind(schema: &Schema) -> &str {
    schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("object")
}

fn expected(schema: &Schema) -> String {
    if let Some(only) = schema.get("const") {
        return only.to_string();
    }
    if let Some(known) = schema["enum"].as_array() {
        return format!("one of {}", list(known.iter().filter_map(Schema::as_str)));
    }
    let words = match kind(schema) {
        "integer" => {
            return format!("a whole number from {} to {}", schema["minimum"].as_u64().unwrap_or(0), most(schema));
        }
        "number" => "a number",
        "string" => "a text in quotes",
        "boolean" => "true or false",
        "array" => "a list in brackets",
        _ => "a table",
    };
    words.to_owned()
}

/// The greatest whole number that fits.
fn most(schema: &Schema) -> u64 {
    let of_type = if schema["format"] == "uint32" { u64::from(u32::MAX) } else { i64::MAX.unsigned_abs() };
    schema["maximum"].as_u64().unwrap_or(of_type)
}

fn is_like(schema: &Schema, value: &DeValue<'_>) -> bool {
    matches!(
        (kind(schema), value),
        ("string", DeValue::String(_)) | ("array", DeValue::Array(_)) | ("object", DeValue::Table(_))
    )
}

fn wrong(at: &[Step], expected: &str, found: &DeValue<'_>) -> Problem {
    let found = match found {
        DeValue::String(text) => format!("the text \"{}\"", short(text)),
        DeValue::Integer(number) => short(&number.to_string()),
        DeValue::Float(number) => short(&number.to_string()),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(table) => {
            let keys: Vec<String> = table.keys().take(4).map(|key| format!("`{}`", short(key.get_ref()))).collect();
            if keys.is_empty() { "an empty table".into() } else { format!("a table of {}", keys.join(", ")) }
        }
    };
    Problem::new(at, format!("it must be {expected}, and not {found}"))
}

/// As much of a text as is needed to recognise it.
pub(super) fn short(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let cut = text.chars().nth(CHARS_MAX).map(|_| '…');
    text.chars().take(CHARS_MAX).filter(|character| !character.is_control()).chain(cut).collect()
}

fn list(names: impl Iterator<Item = impl std::fmt::Display>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn step(at: &[Step], next: Step) -> Vec<Step> {
    [at, &[next]].concat()
}
