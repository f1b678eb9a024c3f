//! Middleware: what happens around every request.
//!
//! For: the request's id, the client's address, the deadline, panics, problem bodies, metrics and one line of log.
//! May touch: the router's answers. Promises: every answer has `X-Request-Id`; every refusal a problem body, or under
//! `/v1/` the body that `OpenAI`'s clients expect; a handler that panics ends its own request and no other.
//! Read next: `extract.rs`.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use common::code::Code;
use common::problem::{MEDIA_TYPE, Problem};
use common::traces::Tracer;
use futures::FutureExt as _;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use tracing::Instrument as _;

use super::error::{ApiError, Refusal};
use super::rest::openai;
use super::spans::Asked;
use super::{cors, hosts};
use crate::base::ids;
use crate::base::metrics::{Metrics, ROUTE_UNMATCHED};
use crate::base::network::{UNKNOWN_PEER, client_address};
use crate::base::time::milliseconds;
use crate::base::trace;
use crate::config::Cors;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Routes that are asked so often that their lines would drown the others.
const QUIET_ROUTES: [&str; 2] = ["/health", "/metrics"];

/// Balancers ask for it by address, whatever the program's name is.
const HEALTH_ROUTE: &str = "/health";

/// What is the same around every request of a listener.
pub struct Surroundings {
    /// The proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The names that `Host` may have; every name, if there are none.
    pub trusted_hosts: Vec<String>,
    /// Pages of other origins.
    pub cors: Cors,
    /// How long one request may take, body included.
    pub request_timeout: Duration,
    /// The largest request body, in bytes.
    pub body_bytes_max: usize,
    /// Counts requests.
    pub metrics: Metrics,
    /// Tells of requests; nobody does, if `None`.
    pub tracer: Option<Tracer>,
}

/// The address of the connection's other end, put there by `server.rs`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// What is known of every request before its handler runs.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) request_id: String,
    pub(super) address: IpAddr,
}

/// Wraps a request. See the top of this file for the order.
pub(super) async fn around(
    State(surroundings): State<Arc<Surroundings>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let origin = origin_of(&request, &surroundings.trusted_proxies);
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let is_quiet = route.as_deref().is_some_and(|route| QUIET_ROUTES.contains(&route));
    let asked = surroundings.tracer.as_ref().filter(|_| !is_quiet);
    let asked = asked.map(|tracer| Asked::begin(tracer, &request, peer_of(&request), &surroundings.trusted_proxies));
    let line = Line {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        origin: origin.clone(),
        trace_id: asked.as_ref().map(Asked::trace_id),
    };
    request.extensions_mut().insert(origin);

    let trace_id = line.trace_id.as_deref();
    let span = tracing::info_span!("request", request_id = line.origin.request_id, trace_id);
    let visitor = request.headers().get(ORIGIN).cloned();
    let is_ours = route.as_deref() == Some(HEALTH_ROUTE) || hosts::is_trusted(&request, &surroundings.trusted_hosts);
    let preflight = cors::preflight(&surroundings.cors, &request);
    let response = if !is_ours {
        ApiError::new(Code::MisdirectedRequest, "this program has another name").into_response()
    } else if let Some(answer) = preflight {
        answer
    } else {
        let work = run(request, next, surroundings.request_timeout).instrument(span);
        trace::around(asked.as_ref().map(Asked::current), work).await
    };
    let code = response.extensions().get::<Refusal>().map(|refusal| refusal.code);

    let mut response = finish(response, &line);
    cors::allow(&surroundings.cors, visitor.as_ref(), response.headers_mut());
    let route = route.as_deref().unwrap_or(ROUTE_UNMATCHED);
    surroundings.metrics.request(route, response.status().as_u16(), started.elapsed());
    line.write(route, response.status().as_u16(), started.elapsed());
    if let Some(asked) = asked {
        let ended = (response.status().as_u16(), code);
        asked.tell((route, line.path.as_str()), line.origin.address, ended, started.elapsed());
    }
    response
}

/// Runs the handler, until it answers, panics or takes too long.
async fn run(request: Request, next: Next, limit: Duration) -> Response {
    // The handler's own state goes with it; what it shares is behind locks that survive a panic.
    let guarded = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(limit, guarded).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => ApiError::internal("a handler panicked; the panic's own line has the place").into_response(),
        Err(_) => {
            ApiError::new(Code::DependencyUnavailable, format!("the request was not finished within {limit:?}"))
                .into_response()
        }
    }
}

fn peer_of(request: &Request) -> IpAddr {
    request.extensions().get::<Peer>().map_or(UNKNOWN_PEER, |peer| peer.0)
}

fn origin_of(request: &Request, trusted: &[IpNet]) -> Origin {
    let headers = request.headers();
    let peer = peer_of(request);
    let forwarded = headers.get_all(&FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or_default());
    Origin {
        request_id: ids::request_id(headers.get(&REQUEST_ID).map(HeaderValue::as_bytes)),
        address: client_address(peer, forwarded, trusted),
    }
}

/// Writes the problem body of a refusal, and the headers that every answer has.
fn finish(mut response: Response, line: &Line) -> Response {
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        let (media_type, body) = line.body_of(&refusal);
        *response.body_mut() = Body::from(body);
        let headers: &mut HeaderMap = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Ok(id) = HeaderValue::try_from(line.origin.request_id.as_str()) {
        response.headers_mut().insert(REQUEST_ID.clone(), id);
    }
    response
}

/// One line of log.
struct Line {
    method: String,
    path: String,
    origin: Origin,
    /// The trace that it belongs to, where traces are told.
    trace_id: Option<String>,
}

impl Line {
    /// What a refusal says, and its media type: clients of another API's form expect that form of its refusals too.
    fn body_of(&self, refusal: &Refusal) -> (&'static str, Vec<u8>) {
        if openai::answers(&self.path) {
            return (openai::MEDIA_TYPE, openai::refusal_body(refusal));
        }
        let problem = Problem::new(refusal.code)
            .detail(&refusal.detail)
            .instance(&self.path)
            .request_id(&self.origin.request_id)
            .to_json();
        (MEDIA_TYPE, problem)
    }

    fn write(&self, route: &str, status: u16, took: Duration) {
        let Self { method, path, origin: Origin { request_id, address }, trace_id } = self;
        let trace_id = trace_id.as_deref();
        let took_ms = milliseconds(took);
        if QUIET_ROUTES.contains(&route) {
            tracing::debug!(request_id, trace_id, client = %address, method, path, route, status, took_ms, "request");
        } else {
            tracing::info!(request_id, trace_id, client = %address, method, path, route, status, took_ms, "request");
        }
    }
}
