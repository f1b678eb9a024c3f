//! `OpenAPI`: what the REST API takes and gives, for programs.
//!
//! For: `/api/v1/openapi.json`, `backend openapi`, and with it `docs/openapi.json`. May touch: `common::code`.
//! Promises: every route of the public API is described, which a test holds against the router; every refusal is told
//! with its codes; what is written here is checked against real answers by `tests/api/openapi.rs`.
//! Read next: `paths.rs` for the routes, `schemas.rs` for the bodies, `operation.rs` for what both are made with.

mod metrics;
mod operation;
mod paths;
mod schemas;

use std::sync::LazyLock;

use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Value, json};

/// The paths of the page that shows the document, which are not part of the API.
#[cfg(test)]
const UNDESCRIBED: [&str; 3] = ["/api/v1/docs", "/api/v1/docs/", "/api/v1/docs/{*file}"];

/// How long clients may keep the document: it changes with the program.
const CACHING: &str = "public, max-age=300";

static TEXT: LazyLock<String> = LazyLock::new(openapi);

/// The document, as indented JSON that ends with a line break.
#[must_use]
pub fn openapi() -> String {
    format!("{:#}\n", document())
}

/// `GET /api/v1/openapi.json`
pub(super) async fn serve() -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, CACHING)], TEXT.as_str()).into_response()
}

fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "capibara6",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Questions answered by language models; users, API keys and tokens. Every refusal is a \
                problem (RFC 9457) with a stable `code`, or, below `/v1/`, the error object of OpenAI's API. \
                Every answer carries `X-Request-Id`.",
        },
        "servers": [{ "url": "/" }],
        "tags": tags(),
        "paths": paths::all(),
        "components": {
            "securitySchemes": security_schemes(),
            "schemas": schemas::all(),
        },
        "security": [{ "bearer": [] }, { "apiKey": [] }],
    })
}

fn tags() -> Value {
    json!([
        { "name": "auth", "description": "Logging in, staying in, getting out." },
        { "name": "queries", "description": "Questions, answers, and the models that give them." },
        { "name": "jobs", "description": "Many questions at once, answered later." },
        { "name": "openai", "description": "The same in the form that OpenAI's clients speak." },
        { "name": "accounts", "description": "Users and API keys." },
        { "name": "operation", "description": "Health, the cache, and this document." },
    ])
}

fn security_schemes() -> Value {
    json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An access token of `/auth/login`, or an API key, for clients that can show it in no other way.",
        },
        "apiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
            "description": "An API key of `/api/v1/api-keys`. Send one credential: two are refused.",
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::public_routes;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let routes = public_routes();
        let served: BTreeSet<String> = routes
            .paths()
            .iter()
            .filter(|path| !UNDESCRIBED.contains(path))
            // A parameter that takes the rest of the path has a star in the router's notation alone.
            .map(|path| path.replace("{*", "{"))
            .collect();
        let document = document();
        let described: BTreeSet<String> = document["paths"].as_object().expect("an object").keys().cloned().collect();
        assert_eq!(served, described);
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        let document = document();
        let mut references = Vec::new();
        collect(&document, "$ref", &mut references);
        assert!(!references.is_empty());
        for reference in references {
            let pointer = reference.strip_prefix('#').expect("within the document");
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        let mut names = Vec::new();
        collect(&document["paths"], "operationId", &mut names);
        let distinct: BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }

    /// Every text that stands under this key, however deep.
    fn collect(value: &Value, key: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match member {
                        Value::String(text) if name == key => found.push(text.clone()),
                        _ => collect(member, key, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
            _ => {}
        }
    }
}
