//! Outcome: what came of a request, in the form that GraphQL gives it.
//!
//! For: `{data, errors}`, over HTTP and over WebSocket. May touch: `errors.rs`.
//! Promises: without execution there is no `data` (GraphQL §7.1.1); a field that failed stands in `data` as null, as its
//! type allows; every error has a code and the request's id.
//! Read next: `respond.rs` for HTTP, `socket.rs` for WebSocket.

use async_graphql::{Name, PathSegment, Response, ServerError, Value};
use serde::Serialize;

use super::errors;

/// The most faults that are told of a document: who wrote it mends the first ones first.
const FAULTS_MAX: usize = 20;

/// What came of one request, or of one step of a subscription.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// `None` when nothing was executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ServerError>,
}

impl Outcome {
    /// What the library answered. `executed` says whether it got as far as asking a field.
    pub(super) fn of(response: Response, executed: bool, request_id: &str) -> Self {
        let mut errors = response.errors;
        let data = executed.then(|| {
            let mut data = response.data;
            for error in &errors {
                put_null(&mut data, &error.path);
            }
            data
        });
        if !executed {
            errors.truncate(FAULTS_MAX);
        }
        errors::finish(&mut errors, executed, request_id);
        Self { data, errors }
    }

    /// A request that was refused before the library saw it.
    pub(super) fn refused(error: ServerError, request_id: &str) -> Self {
        let mut errors = vec![error];
        errors::finish(&mut errors, false, request_id);
        Self { data: None, errors }
    }

    /// Whether nothing was executed.
    pub(super) fn is_refusal(&self) -> bool {
        self.data.is_none()
    }

    /// The errors, in the order in which they came up.
    pub(super) fn errors(&self) -> &[ServerError] {
        &self.errors
    }
}

/// The library leaves a field that failed out; the specification has it stand as null (§6.4.4). Every field of our
/// schema that can fail may be null.
fn put_null(value: &mut Value, path: &[PathSegment]) {
    match (path, value) {
        ([PathSegment::Field(name), rest @ ..], Value::Object(members)) => match members.get_mut(name.as_str()) {
            Some(member) => put_null(member, rest),
            None => {
                members.insert(Name::new(name), Value::Null);
            }
        },
        ([PathSegment::Index(index), rest @ ..], Value::List(items)) => {
            if let Some(item) = items.get_mut(*index) {
                put_null(item, rest);
            }
        }
        // An object of which every field failed.
        ([PathSegment::Field(name), ..], value @ Value::Null) => {
            *value = Value::Object([(Name::new(name), Value::Null)].into_iter().collect());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::{Pos, value};

    use super::*;

    fn failed(path: &[PathSegment]) -> ServerError {
        let mut error = ServerError::new("it failed", Some(Pos::default()));
        error.path = path.to_vec();
        error
    }

    fn field(name: &str) -> PathSegment {
        PathSegment::Field(name.to_owned())
    }

    fn json(outcome: &Outcome) -> serde_json::Value {
        serde_json::to_value(outcome).expect("JSON")
    }

    #[test]
    fn a_field_that_failed_is_null() {
        let cases = [
            (value!({ "a": 1 }), vec![field("b")], serde_json::json!({ "a": 1, "b": null })),
            (Value::Null, vec![field("b")], serde_json::json!({ "b": null })),
            (
                value!({ "list": [{ "a": 1 }, null] }),
                vec![field("list"), PathSegment::Index(1), field("b")],
                serde_json::json!({ "list": [{ "a": 1 }, { "b": null }] }),
            ),
            (value!({ "a": null }), vec![field("a")], serde_json::json!({ "a": null })),
        ];
        for (data, path, expected) in cases {
            let mut response = Response::new(data);
            response.errors.push(failed(&path));
            assert_eq!(json(&Outcome::of(response, true, "r"))["data"], expected, "{path:?}");
        }
    }

    #[test]
    fn a_refusal_has_no_data() {
        let refusals = [
            Outcome::refused(ServerError::new("no", None), "r"),
            Outcome::of(Response::from_errors(vec![ServerError::new("no", None)]), false, "r"),
        ];
        for refusal in refusals {
            assert!(refusal.is_refusal());
            assert_eq!(
                json(&refusal),
                serde_json::json!({
                    "errors": [{ "message": "no", "extensions": { "code": "graphql_invalid", "request_id": "r" } }]
                })
            );
        }
    }
}
