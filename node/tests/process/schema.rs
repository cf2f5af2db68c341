//! As much of JSON Schema (draft 7) as the node's OpenRPC document uses. Objects may only have members that the schema
//! names, so that an answer with an undocumented member fails.

use serde_json::Value;

/// What is wrong with a value, by the schema and the document that holds what it refers to.
pub(crate) fn problem(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    check(document, schema, value).or_else(|| unnamed_member(document, schema, value))
}

fn check(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    let rules = schema.as_object()?;
    for (rule, wanted) in rules {
        let found = match rule.as_str() {
            "$ref" => match resolve(document, wanted) {
                Some(schema) => problem(document, schema, value),
                None => None,
            },
            "type" => {
                let fits = |name: &Value| match name.as_str().expect("a type") {
                    "null" => value.is_null(),
                    "boolean" => value.is_boolean(),
                    "string" => value.is_string(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    other => panic!("unknown type {other}"),
                };
                let fits = wanted.as_array().map_or_else(|| fits(wanted), |names| names.iter().any(fits));
                (!fits).then(|| format!("{value} is not of type {wanted}"))
            }
            "properties" => wanted.as_object().expect("members").iter().find_map(|(name, schema)| {
                problem(document, schema, value.get(name)?).map(|problem| format!("{name}: {problem}"))
            }),
            "required" => wanted.as_array().expect("names").iter().find_map(|name| {
                let there = value.get(name.as_str().expect("a name")).is_some();
                (!there).then(|| format!("{name} is missing from {value}"))
            }),
            "items" => value.as_array().and_then(|items| items.iter().find_map(|item| problem(document, wanted, item))),
            "oneOf" | "anyOf" => {
                let problems: Vec<_> =
                    wanted.as_array().expect("schemas").iter().map(|one| check(document, one, value)).collect();
                let fit = problems.iter().filter(|problem| problem.is_none()).count();
                (fit == 0).then(|| format!("{value} fits none: {problems:?}"))
            }
            "allOf" => wanted.as_array().expect("schemas").iter().find_map(|one| check(document, one, value)),
            "enum" => {
                (!wanted.as_array().expect("values").contains(value)).then(|| format!("{value} is none of {wanted}"))
            }
            "const" => (wanted != value).then(|| format!("{value} is not {wanted}")),
            // It says something about numbers alone.
            "minimum" => {
                let is_less = value.is_number() && value.as_f64() < wanted.as_f64();
                is_less.then(|| format!("{value} is less than {wanted}"))
            }
            "pattern" => {
                let (text, pattern) = (value.as_str().unwrap_or_default(), wanted.as_str().expect("a pattern"));
                let length = pattern.split(['{', '}']).nth(1).and_then(|length| length.parse::<usize>().ok());
                let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
                (!hex || length.is_some_and(|length| length != text.len()))
                    .then(|| format!("{text:?} is not {pattern}"))
            }
            "description" | "title" | "format" | "default" | "deprecated" | "maximum" | "maxItems" | "minItems"
            | "uniqueItems" => None,
            other => panic!("unknown rule {other} in {schema}"),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// A member that no part of the schema names.
fn unnamed_member(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    let mut named = Vec::new();
    names(document, schema, &mut named);
    let members = value.as_object()?;
    if named.is_empty() {
        return None;
    }
    let unnamed = members.keys().find(|member| !named.contains(&member.as_str()))?;
    Some(format!("{unnamed} is not in the schema"))
}

fn names<'a>(document: &'a Value, schema: &'a Value, named: &mut Vec<&'a str>) {
    if let Some(schema) = schema.get("$ref").and_then(|reference| resolve(document, reference)) {
        names(document, schema, named);
    }
    named.extend(
        schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|all| all.keys().map(String::as_str)),
    );
    for rule in ["oneOf", "anyOf", "allOf"] {
        for one in schema.get(rule).and_then(Value::as_array).into_iter().flatten() {
            names(document, one, named);
        }
    }
}

/// What a reference within the document means; none for one to elsewhere.
fn resolve<'a>(document: &'a Value, reference: &Value) -> Option<&'a Value> {
    let pointer = reference.as_str().expect("a reference").strip_prefix('#')?;
    Some(document.pointer(pointer).unwrap_or_else(|| panic!("{pointer} leads nowhere")))
}
