//! Node: a YAML file as a tree that remembers where each value stands.

use std::collections::HashMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, PropertySyntax, Spanned};

use super::decode::Decoder;

/// The largest file of settings, in bytes.
const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A place in the file; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it starts.
    pub position: Position,
}

/// What a YAML value can be.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a point.
    Float(f64),
    /// Text, also where it was quoted.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in file order; duplicates were reported and dropped.
    Map(Vec<Entry>),
}

/// One key of a mapping, and what it holds.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub position: Position,
    /// What it holds.
    pub node: Node,
}

impl Position {
    /// The first character of the file.
    pub const START: Position = Position { line: 1, column: 1 };

    fn from_location(location: Location) -> Self {
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

impl Value {
    /// What to call it in an error.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// The variables of this process's environment whose names `allowed` accepts.
pub fn environment(allowed: impl Fn(&str) -> bool) -> HashMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| allowed(name))
        .collect()
}

/// Reads YAML, with `${NAME:-default}` filled in where there are variables. What is wrong goes to `decoder`; `None` when nothing can be made of it.
pub(super) fn parse(text: &str, variables: Option<HashMap<String, String>>, decoder: &mut Decoder) -> Option<Node> {
    if text.len() > FILE_BYTES_MAX {
        decoder.mistake(Position::START, format!("the file is larger than {FILE_BYTES_MAX} bytes"));
        return None;
    }
    // Duplicates are passed on so that each is reported.
    let options = match variables {
        // Compose's syntax, because quoted values are filled in as well.
        Some(variables) => serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            property_syntax: PropertySyntax::DockerCompose,
        }
        .with_properties(variables),
        // Without variables this syntax fills in nothing, and leaves every `$` where it is.
        None => serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            property_syntax: PropertySyntax::Braced,
        },
    };
    match serde_saphyr::from_str_with_options::<Spanned<RawValue>>(text, options) {
        Ok(raw) => Some(into_node(raw, decoder)),
        Err(error) => {
            let position = error.location().map_or(Position::START, Position::from_location);
            decoder.mistake(position, first_line(&error.to_string()));
            None
        }
    }
}

/// The parser's message ends in a drawing of the source; its first line says it all.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or("not valid YAML");
    line.trim_start_matches("error: ").to_owned()
}

fn into_node(raw: Spanned<RawValue>, decoder: &mut Decoder) -> Node {
    let position = Position::from_location(raw.referenced);
    let value = match raw.value {
        RawValue::Null => Value::Null,
        RawValue::Bool(value) => Value::Bool(value),
        RawValue::Integer(value) => Value::Integer(value),
        RawValue::Float(value) => Value::Float(value),
        RawValue::Text(value) => Value::Text(value),
        RawValue::List(items) => Value::List(items.into_iter().map(|item| into_node(item, decoder)).collect()),
        RawValue::Map(pairs) => Value::Map(into_entries(pairs, decoder)),
    };
    Node { value, position }
}

fn into_entries(pairs: Vec<(Spanned<String>, Spanned<RawValue>)>, decoder: &mut Decoder) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
    for (key, raw) in pairs {
        let position = Position::from_location(key.referenced);
        if let Some(first) = entries.iter().find(|entry| entry.key == key.value) {
            let message = format!("{:?} is set twice; the first is on line {}", key.value, first.position.line);
            decoder.mistake(position, message);
            continue;
        }
        entries.push(Entry { key: key.value, position, node: into_node(raw, decoder) });
    }
    entries
}

/// What serde hands over; it lives only until its places are known.
enum RawValue {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<RawValue>>),
    Map(Vec<(Spanned<String>, Spanned<RawValue>)>),
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawValue, D::Error> {
        RawValue::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<RawValue, E> {
        i64::try_from(value).map(RawValue::Integer).map_err(|_| E::custom("the number is too large"))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<RawValue, E> {
        Ok(RawValue::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(RawValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawValue, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = access.next_entry()? {
            pairs.push(pair);
        }
        Ok(RawValue::Map(pairs))
    }
}
