//! Errors: the one place where errors meet GraphQL.
//!
//! For: `{message, locations, path, extensions: {code, request_id}}`. May touch: `api/error.rs`, which knows every error
//! of the services. Promises: the code is the one that REST answers with; causes go to the log and never to the client;
//! every error has a code and the request's id.
//! Read next: `outcome.rs`, which sends them.

use async_graphql::{Error, Pos, ServerError};
use common::code::Code;

use crate::api::error::{ApiError, Refusal};

/// Under which name an error carries its code.
const CODE: &str = "code";
/// Under which name an error carries the id of its request.
const REQUEST_ID: &str = "request_id";

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let message = if refusal.detail.is_empty() { refusal.code.title().to_owned() } else { refusal.detail };
        let mut error = Self::new(message);
        error.extensions.get_or_insert_default().set(CODE, refusal.code.name().to_owned());
        error
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        error.told().into()
    }
}

/// A refusal of the whole request, and the place in the document that it is about.
pub(super) fn refused(code: Code, message: impl Into<String>, at: Option<Pos>) -> ServerError {
    let mut error = ServerError::new(message, at);
    error.extensions.get_or_insert_default().set(CODE, code.name().to_owned());
    error
}

/// A refusal of a document that cannot be read or does not fit.
pub(super) fn invalid(message: impl Into<String>, at: Option<Pos>) -> ServerError {
    refused(Code::GraphqlInvalid, message, at)
}

/// A refusal of a document that asks for too much.
pub(super) fn too_costly(message: impl Into<String>, at: Option<Pos>) -> ServerError {
    refused(Code::GraphqlTooCostly, message, at)
}

/// A refusal of a request whose member does not hold what it must.
pub(super) fn input(member: &str, why: &str) -> ServerError {
    refused(Code::InputInvalid, format!("{member} {why}"), None)
}

/// Gives every error the request's id, and a code where it has none: those are the library's own, which finds fault only
/// with what the client sent.
pub(super) fn finish(errors: &mut [ServerError], executed: bool, request_id: &str) {
    let fallback = if executed { Code::InputInvalid } else { Code::GraphqlInvalid };
    for error in errors {
        let extensions = error.extensions.get_or_insert_default();
        if extensions.get(CODE).is_none() {
            extensions.set(CODE, fallback.name().to_owned());
        }
        extensions.set(REQUEST_ID, request_id.to_owned());
    }
}

/// The code of an error that `finish` has seen.
pub(super) fn code_of(error: &ServerError) -> Option<&str> {
    match error.extensions.as_ref()?.get(CODE)? {
        async_graphql::Value::String(code) => Some(code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_leaves_with_a_code_and_the_id() {
        let known: Error = ApiError::new(Code::NotFound, "").into();
        assert_eq!(known.message, Code::NotFound.title());
        let mut errors = vec![known.into_server_error(Pos::default()), ServerError::new("Unknown argument", None)];
        finish(&mut errors, false, "r-1");
        assert_eq!(errors.iter().map(code_of).collect::<Vec<_>>(), [Some("not_found"), Some("graphql_invalid")]);
        let mut errors = vec![ServerError::new("Expected a number", None)];
        finish(&mut errors, true, "r-1");
        assert_eq!(code_of(&errors[0]), Some("input_invalid"));
        let text = serde_json::to_string(&errors[0]).expect("JSON");
        assert!(text.contains("\"request_id\":\"r-1\""), "{text}");
    }

    #[test]
    fn a_cause_stays_inside() {
        let error: Error = ApiError::internal("the disk is on fire").into();
        assert_eq!(error.message, Code::InternalError.title());
    }
}
