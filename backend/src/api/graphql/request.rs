//! Request: what a client sends, read into what can be asked.
//!
//! For: a body of one request or of several, a query string, and the payload of a WebSocket's `subscribe`.
//! May touch: nothing. Promises: members that are of the wrong kind are refused by their names; what is not known is
//! passed over, as GraphQL over HTTP asks (§5.1); a batch has as many requests as the configuration allows.
//! Read next: `persisted.rs` for requests that hold only a hash.

use async_graphql::{ServerError, Variables};
use serde_json::{Map, Value};

use super::errors::{input, too_costly};
use crate::base::digest::DIGEST_BYTES;

/// The only version of automatic persisted queries.
const PERSISTED_VERSION: u64 = 1;

/// The SHA-256 of a document.
pub(super) type Hash = [u8; DIGEST_BYTES];

/// One request.
#[derive(Debug)]
pub(super) struct Asked {
    /// The document; may be left out when the hash is there.
    pub(super) document: Option<String>,
    pub(super) operation_name: Option<String>,
    pub(super) variables: Variables,
    /// The hash under which the document is kept, or shall be.
    pub(super) hash: Option<Hash>,
}

/// A body.
#[derive(Debug)]
pub(super) enum Body {
    One(Asked),
    Many(Vec<Asked>),
}

/// Reads a body: an object, or a list of `batch_max` at most.
pub(super) fn from_body(bytes: &[u8], batch_max: usize) -> Result<Body, ServerError> {
    let value = serde_json::from_slice(bytes).map_err(|error| input("the body", &format!("is not JSON: {error}")))?;
    match value {
        Value::Array(items) if items.is_empty() => Err(input("the body", "is an empty list")),
        Value::Array(items) if items.len() > batch_max => {
            Err(too_costly(format!("the batch has {} requests; {batch_max} are allowed", items.len()), None))
        }
        Value::Array(items) => items.into_iter().map(from_value).collect::<Result<_, _>>().map(Body::Many),
        value => from_value(value).map(Body::One),
    }
}

/// Reads one request.
pub(super) fn from_value(value: Value) -> Result<Asked, ServerError> {
    let Value::Object(mut members) = value else { return Err(input("the request", "must be an object")) };
    let document = text(&mut members, "query")?;
    let operation_name = text(&mut members, "operationName")?;
    let variables = object(&mut members, "variables")?;
    let hash = hash(object(&mut members, "extensions")?)?;
    finish(document, operation_name, variables, hash)
}

/// Reads a query string, in which `variables` and `extensions` are JSON.
pub(super) fn from_query(query: &str) -> Result<Asked, ServerError> {
    let mut members = Map::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let value = match &*name {
            "query" | "operationName" => Value::String(value.into_owned()),
            // An empty one is as good as none.
            "variables" | "extensions" if value.is_empty() => Value::Null,
            "variables" | "extensions" => {
                serde_json::from_str(&value).map_err(|error| input(&name, &format!("is not JSON: {error}")))?
            }
            _ => continue,
        };
        if members.insert(name.to_string(), value).is_some() {
            return Err(input(&name, "was sent more than once"));
        }
    }
    from_value(Value::Object(members))
}

fn finish(
    document: Option<String>,
    operation_name: Option<String>,
    variables: Map<String, Value>,
    hash: Option<Hash>,
) -> Result<Asked, ServerError> {
    if document.is_none() && hash.is_none() {
        return Err(input("query", "is missing"));
    }
    // GraphiQL and others send an empty name for a document with one operation.
    let operation_name = operation_name.filter(|name| !name.is_empty());
    Ok(Asked { document, operation_name, variables: Variables::from_json(Value::Object(variables)), hash })
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, ServerError> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(input(name, "must be text")),
    }
}

fn object(members: &mut Map<String, Value>, name: &str) -> Result<Map<String, Value>, ServerError> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(input(name, "must be an object")),
    }
}

/// The hash of `extensions: { persistedQuery: { version: 1, sha256Hash: … } }`.
fn hash(mut extensions: Map<String, Value>) -> Result<Option<Hash>, ServerError> {
    let mut persisted = object(&mut extensions, "persistedQuery")?;
    if persisted.is_empty() {
        return Ok(None);
    }
    if persisted.get("version").and_then(Value::as_u64) != Some(PERSISTED_VERSION) {
        return Err(input("extensions.persistedQuery.version", "must be 1"));
    }
    let wrong = || input("extensions.persistedQuery.sha256Hash", "must have 64 hexadecimal digits");
    let digits = text(&mut persisted, "sha256Hash")?.ok_or_else(wrong)?;
    read_hash(digits.as_bytes()).map(Some).ok_or_else(wrong)
}

fn read_hash(digits: &[u8]) -> Option<Hash> {
    if digits.len() != 2 * DIGEST_BYTES {
        return None;
    }
    let mut hash = [0; DIGEST_BYTES];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    Some(hash)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str) -> Asked {
        match from_body(body.as_bytes(), 3).expect(body) {
            Body::One(asked) => asked,
            Body::Many(_) => panic!("one request: {body}"),
        }
    }

    #[test]
    fn a_body_is_read_and_what_is_not_known_passed_over() {
        let body =
            "{\"query\":\"{ a }\",\"operationName\":\"\",\"variables\":{\"x\":1},\"extensions\":null,\"id\":7}";
        let read = asked(body);
        assert_eq!((read.document.as_deref(), read.operation_name), (Some("{ a }"), None));
        assert_eq!(read.variables.len(), 1);
        let hash = "0a".repeat(32);
        let read =
            asked(&format!("{{\"extensions\":{{\"persistedQuery\":{{\"version\":1,\"sha256Hash\":\"{hash}\"}}}}}}"));
        assert_eq!((read.document, read.hash), (None, Some([10; DIGEST_BYTES])));
        let batch = from_body(b"[{\"query\":\"{ a }\"},{\"query\":\"{ b }\"}]", 3).expect("two requests");
        assert!(matches!(batch, Body::Many(requests) if requests.len() == 2));
    }

    #[test]
    fn what_is_of_the_wrong_kind_is_named() {
        let cases = [
            ("", "not JSON"),
            ("7", "must be an object"),
            ("{}", "query is missing"),
            ("[]", "empty list"),
            ("[7]", "must be an object"),
            ("[{},{},{},{}]", "4 requests; 3"),
            ("{\"query\":7}", "query must be text"),
            ("{\"query\":\"{ a }\",\"operationName\":7}", "operationName must be text"),
            ("{\"query\":\"{ a }\",\"variables\":[]}", "variables must be an object"),
            ("{\"query\":\"{ a }\",\"extensions\":7}", "extensions must be an object"),
            ("{\"extensions\":{\"persistedQuery\":{\"version\":2}}}", "version must be 1"),
            ("{\"extensions\":{\"persistedQuery\":{\"version\":1}}}", "sha256Hash must have"),
            ("{\"extensions\":{\"persistedQuery\":{\"version\":1,\"sha256Hash\":\"+f\"}}}", "sha256Hash must have"),
        ];
        for (body, part) in cases {
            let error = from_body(body.as_bytes(), 3).expect_err(body);
            assert!(error.message.contains(part), "{body}: {error}");
        }
    }

    #[test]
    fn a_query_string_is_read_in_the_same_way() {
        let read = from_query("query=%7B+a+%7D&variables=%7B%22x%22%3A1%7D&extensions=&other=1").expect("a request");
        assert_eq!((read.document.as_deref(), read.variables.len()), (Some("{ a }"), 1));
        for (query, part) in [
            ("", "query is missing"),
            ("query=a&query=b", "more than once"),
            ("query=a&variables=%7B", "variables is not JSON"),
            ("query=a&variables=7", "variables must be an object"),
        ] {
            let error = from_query(query).expect_err(query);
            assert!(error.message.contains(part), "{query}: {error}");
        }
    }
}
