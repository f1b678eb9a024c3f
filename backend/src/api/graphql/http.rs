//! HTTP: GraphQL over HTTP (the GraphQL foundation's draft), and what belongs to it.
//!
//! For: `POST /graphql`, `GET /graphql`, and the schema's text. May touch: `engine.rs`, the extractors of `api`.
//! Promises: who is not allowed learns so, as a problem, before anything is read: 401 without a sound credential, 403
//! without `graphql_access`; GET only looks; a page of somebody else's cannot make a browser ask, because credentials are
//! taken only from header fields that no form and no link can set, and bodies only as JSON.
//! Read next: `request.rs` for what is read, `respond.rs` for media types and statuses.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::ExtensionRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use common::code::Code;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue};

use super::engine::{Answer, Asker, Engine, Way};
use super::request::{self, Asked, Body};
use super::{respond, socket};
use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::extract::{Allowed, Needs as _, RawBody, UsingGraphql, identify};
use crate::api::middleware::Origin;
use crate::api::server::Connected;

/// `POST /graphql`
pub(in crate::api) async fn post(
    Allowed { caller, .. }: Allowed<UsingGraphql>,
    Extension(engine): Extension<Arc<Engine>>,
    origin: Origin,
    headers: HeaderMap,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let media = respond::acceptable(&headers)?;
    respond::check_content_type(&headers)?;
    let who = Asker { caller, origin };
    match request::from_body(&bytes, engine.settings.batch_max) {
        Err(error) => Ok(respond::malformed(media, &engine.refuse(error, &who.origin.request_id))),
        Ok(Body::One(asked)) => match engine.answer(asked, who, Way::Post).await {
            Answer::Outcome(outcome) => Ok(respond::one(media, &outcome)),
            Answer::WrongMethod => Ok(only_post()),
        },
        Ok(Body::Many(batch)) => {
            let mut outcomes = Vec::with_capacity(batch.len());
            // One after the other: a batch must not take more of the program than a single request.
            for asked in batch {
                if let Answer::Outcome(outcome) = engine.answer(asked, who.clone(), Way::Post).await {
                    outcomes.push(outcome);
                }
            }
            Ok(respond::many(media, &outcomes))
        }
    }
}

/// `GET /graphql`: a query, or the beginning of a WebSocket.
pub(in crate::api) async fn get(
    State(services): State<Arc<Services>>,
    Extension(engine): Extension<Arc<Engine>>,
    origin: Origin,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    connected: Result<Extension<Connected>, ExtensionRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    if headers.contains_key(UPGRADE) {
        return socket::open(&engine, &services, origin, headers, connected, upgrade);
    }
    let caller = identify(&headers, &services).await?;
    caller.require(UsingGraphql::PERMISSIONS)?;
    let media = respond::acceptable(&headers)?;
    let who = Asker { caller, origin };
    let asked: Asked = match request::from_query(query.as_deref().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(error) => return Ok(respond::malformed(media, &engine.refuse(error, &who.origin.request_id))),
    };
    match engine.answer(asked, who, Way::Get).await {
        Answer::Outcome(outcome) => Ok(respond::one(media, &outcome)),
        Answer::WrongMethod => Ok(only_post()),
    }
}

/// `GET /graphql/ws`: a WebSocket, and nothing else.
pub(in crate::api) async fn upgrade(
    State(services): State<Arc<Services>>,
    Extension(engine): Extension<Arc<Engine>>,
    origin: Origin,
    headers: HeaderMap,
    connected: Result<Extension<Connected>, ExtensionRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    socket::open(&engine, &services, origin, headers, connected, upgrade)
}

/// `GET /graphql/schema`: the schema in its own language, where it may be told.
pub(in crate::api) async fn schema(
    _: Allowed<UsingGraphql>,
    Extension(engine): Extension<Arc<Engine>>,
) -> Result<Response, ApiError> {
    if !engine.settings.introspection {
        return Err(ApiError::new(Code::NotFound, "the schema is not told here"));
    }
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    Ok((headers, engine.sdl()).into_response())
}

/// The refusal of a mutation by GET, which anybody can make somebody's browser send.
fn only_post() -> Response {
    let mut response = ApiError::new(Code::MethodNotAllowed, "mutations are sent by POST").into_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}
