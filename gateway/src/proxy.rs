//! Proxy: the journey on one page. Pingora's callbacks, in the order in which a request meets them.
//!
//! For: handing each moment of a request to its stage. May touch: Pingora's sessions; nothing else does.
//! Promises: no rule lives here. A request holds the snapshot it began with.
//! Read next: `stages/mod.rs`; `proxy/answer.rs` for how an answer is written.

mod answer;
mod challenge;
mod compression;
mod deadline;
mod fields;
mod left_open;
mod mirror;
mod target;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use common::code::Code;
use common::traces::Tracer;
use http::header::{CONNECTION, HOST, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use self::fields::Fields;
use self::mirror::Copying;
use self::target::{is_absolute, set_target};
use crate::base::connection_notes::ConnectionNotes;
use crate::base::failure::Failure;
use crate::base::flood::FloodGuard;
use crate::base::head::Head;
use crate::base::refusal::{Advice, Refusal};
use crate::base::telemetry::access_log::AccessLog;
use crate::snapshot::Snapshot;
use crate::stages::context::Context;
use crate::stages::dispatch::retry::Progress;
use crate::stages::finish::report::Ending;
use crate::stages::plan::Route;
use crate::stages::verdict::Verdict;
use crate::stages::{self, Admitted, budget, dispatch, egress, finish};

/// By this a client says that its server repeats nothing under the same key (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How long to read of what is left of a request's body after it was answered, so that the connection can be used again.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The name of the flood guard where limits are named.
static FLOOD_GUARD: LazyLock<Arc<str>> = LazyLock::new(|| "flood_guard".into());

/// What Pingora calls.
pub(crate) struct Gateway {
    snapshot: Arc<ArcSwap<Snapshot>>,
    log: AccessLog,
    /// `None` where traces are not told.
    tracer: Option<Tracer>,
    flood: Arc<FloodGuard>,
    /// Set on listeners that send everybody to `https` on this port.
    redirect_port: Option<u16>,
}

/// One request under way.
pub(crate) struct Journey {
    snapshot: Arc<Snapshot>,
    context: Context,
    copying: Copying,
    /// Until when it has, in steady nanoseconds, if it is among those that are left open.
    left_open_ns: Option<u64>,
}

impl Gateway {
    pub(crate) fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        log: AccessLog,
        tracer: Option<Tracer>,
        flood: Arc<FloodGuard>,
        redirect_port: Option<u16>,
    ) -> Self {
        Self { snapshot, log, tracer, flood, redirect_port }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Journey;

    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        // In place of Pingora's own compression, which holds streams up and knows no weights.
        modules.add_module(Box::new(compression::Builder));
    }

    fn new_ctx(&self) -> Journey {
        Journey {
            snapshot: self.snapshot.load_full(),
            context: Context::new(),
            copying: Copying::default(),
            left_open_ns: None,
        }
    }

    async fn early_request_filter(&self, session: &mut Session, journey: &mut Journey) -> Result<()> {
        if let Some(notes) = notes(session) {
            notes.clock.head_read();
        }
        let settings = &journey.snapshot.connection;
        if floods(&self.flood, session, &journey.snapshot) {
            let refusal = Refusal::new(Code::RateLimited).policy(&FLOOD_GUARD);
            return Err(stop(&mut journey.context, refusal.advice(Advice::RetryAfter(Duration::from_secs(1)))));
        }
        // Without the question, this would keep a connection alive that was told to close.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(settings.keepalive_seconds));
        }
        session.set_read_timeout(Some(settings.body_timeout));
        session.set_write_timeout(Some(settings.write_timeout));
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        fields::forget_case(session.req_header_mut());
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, journey: &mut Journey) -> Result<bool> {
        let Journey { snapshot, context, .. } = journey;
        let plan = &snapshot.plan;
        if let Some(tracer) = &self.tracer {
            context.traced = Some(stages::admission::trace::begin(tracer, &head_of(session), &plan.addresses));
        }
        let proof = match snapshot.vaults() {
            [] => None,
            vaults => challenge::proof(&head_of(session), vaults).await,
        };
        if let Some(reply) = proof {
            context.verdict = Verdict::Answered;
            answer::answer(session, plan, context, reply).await?;
            return Ok(true);
        }
        if let Some(port) = self.redirect_port {
            answer::to_https(session, plan, context, port).await?;
            return Ok(true);
        }
        let raw = (!session.is_http2()).then(|| session.to_h1_raw());
        let head = Head { raw: raw.as_deref(), ..head_of(session) };
        let admitted = stages::admit(head, plan, context).await;
        match admitted {
            Ok(Admitted::Forward(rewritten)) => {
                let hidden = context.route.as_ref().map_or(&[][..], |route| &route.hidden_query);
                return set_target(session, rewritten, hidden).map(|()| false);
            }
            Ok(Admitted::Answer(reply)) => answer::answer(session, plan, context, reply).await?,
            Err(refusal) => answer::refuse(session, plan, context, &refusal).await?,
        }
        Ok(true)
    }

    async fn upstream_peer(&self, session: &mut Session, journey: &mut Journey) -> Result<Box<HttpPeer>> {
        let Some(route) = journey.context.route.clone() else {
            return Error::e_explain(ErrorType::InternalError, "a request without a route went upstream");
        };
        let headers = &session.req_header().headers;
        if let Err(refusal) = dispatch::pick::pick(&route, headers, &mut journey.context).await {
            return Err(stop(&mut journey.context, refusal));
        }
        let notes = &journey.context.dispatch;
        let (Some(ticket), Some(pool)) = (&notes.ticket, &notes.pool) else {
            return Error::e_explain(ErrorType::InternalError, "a request without a server went upstream");
        };
        let template = &ticket.endpoint.template;
        let read_timeout = pool.per_try().or(route.timeout);
        let websocket_idle = route.websocket_idle.filter(|_| session.is_upgrade_req());
        let mut peer = match (websocket_idle, heartbeat(&route, session)) {
            (Some(idle), _) => {
                session.set_read_timeout(Some(idle));
                template.websocket_peer(idle)
            }
            (_, Some(every)) => template.heartbeat_peer(read_timeout, every),
            (_, None) => template.peer(read_timeout),
        };
        if let Some(ends) = notes.deadline {
            let cut = deadline::bound(session, &mut peer, ends, websocket_idle.is_some());
            journey.context.dispatch.waits_cut = cut;
        }
        Ok(peer)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        journey: &mut Journey,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let again = retry(session, journey, &error, Progress::NotConnected);
        error.set_retry(again);
        error
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::fd::RawFd,
        _digest: Option<&Digest>,
        journey: &mut Journey,
    ) -> Result<()> {
        if let Some(ticket) = &journey.context.dispatch.ticket {
            ticket.endpoint.health.connected();
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        journey: &mut Journey,
    ) -> Result<()> {
        let Journey { context, copying, .. } = journey;
        match fields::take(request) {
            Some(mut parts) => {
                dispatch::tell(&head_of(session), context, &mut parts.headers);
                *request = RequestHeader::from(parts);
            }
            None => dispatch::tell(&head_of(session), context, &mut Fields(request)),
        }
        let Some(route) = &context.route else { return Ok(()) };
        let target =
            route.rewrite.as_ref().and_then(|rewrite| dispatch::rewrite::target(rewrite, request.raw_path()));
        if let Some(target) = target {
            // Of HTTP/2 this takes the authority away, which `Host` has kept.
            request.set_raw_path(&target)?;
        }
        if heartbeat(route, session).is_some() {
            request.insert_header(CONNECTION, "close")?;
        }
        if route.mirror.is_some() && !session.is_upgrade_req() {
            copying.begin(route, request, session.is_body_empty());
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        journey: &mut Journey,
    ) -> Result<()> {
        let Journey { context, snapshot, copying, .. } = journey;
        if deadline::has_passed(context) {
            return Err(stop(context, dispatch::deadline::refusal()));
        }
        // Frames of an upgraded connection are no body.
        if session.was_upgraded() {
            return Ok(());
        }
        if let (Some(body), Some(route)) = (&*body, &context.route) {
            let pace = snapshot.plan.body_pace;
            let counted = dispatch::body::count(route, pace, &mut context.dispatch, body.len());
            counted.map_err(|refusal| stop(context, refusal))?;
        }
        copying.take_in(body.as_ref(), end);
        left_open::came(session, journey, body.as_ref());
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        answer: &mut ResponseHeader,
        journey: &mut Journey,
    ) -> Result<()> {
        dispatch::outcome::answered(answer.status, &mut journey.context);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        journey: &mut Journey,
    ) -> Result<()> {
        // An HTTP/1.0 client knows no chunks (RFC 9112 §6.1): its answer ends with the connection.
        if session.req_header().version < Version::HTTP_11 && answer.headers.contains_key(TRANSFER_ENCODING) {
            answer.remove_header(&TRANSFER_ENCODING);
            session.set_keepalive(None);
        }
        // The version is that of each connection (RFC 9110 §2.5); an HTTP/1.0 server must not talk the client down.
        answer.set_version(Version::HTTP_11);
        let switching = answer.status == StatusCode::SWITCHING_PROTOCOLS;
        let trailers = answer.headers.contains_key(TRAILER);
        let context = &journey.context;
        egress::headers::rewrite(switching, &context.request_id, &mut Fields(answer));
        if !answer.status.is_informational() || switching {
            budget::settle::settle(&answer.headers, context);
            deadline::head_is_there(session, context);
        }
        if !answer.status.is_informational() {
            answer::dress(session, &journey.snapshot.plan, context, trailers, answer);
        }
        egress::limits::tell(context.route.as_ref(), &context.spent, &mut Fields(answer));
        egress::sticky::tell(context, &mut Fields(answer));
        if left_open::ends_with_head(&session.req_header().method, answer) {
            left_open::note(session, journey);
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end: bool,
        journey: &mut Journey,
    ) -> Result<Option<Duration>> {
        if end {
            left_open::note(session, journey);
        }
        deadline::check(&journey.context).map(|()| None)
    }

    async fn response_trailer_filter(
        &self,
        session: &mut Session,
        _trailers: &mut HeaderMap,
        journey: &mut Journey,
    ) -> Result<Option<Bytes>> {
        left_open::note(session, journey);
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        journey: &mut Journey,
        connection_reused: bool,
    ) -> Box<Error> {
        // Pingora panics on an error whose retry was left undecided, so its own opinion is settled first.
        error.retry.decide_reuse(connection_reused);
        let progress = match answered(session) {
            Some(_) => Progress::Answering,
            None => {
                Progress::Sent { body_kept: !session.as_ref().retry_buffer_truncated(), reused: connection_reused }
            }
        };
        let again = retry(session, journey, &error, progress);
        error.set_retry(again);
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, journey: &mut Journey) -> FailToProxy {
        let context = &mut journey.context;
        let failure = deadline::failure(error, context);
        let refusal = context.pending.take().or_else(|| egress::failure::refusal(failure, context));
        if failure != Failure::Client && !matches!(failure, Failure::Refused(_)) {
            let request_id = context.request_id.to_str().unwrap_or("");
            let endpoint = context.dispatch.ticket.as_ref().map_or("-", |ticket| &*ticket.endpoint.label);
            tracing::warn!(request_id, endpoint, %error, "request failed");
        }
        session.set_keepalive(None);
        match refusal {
            Some(refusal) if answered(session).is_none() => {
                let error_code = refusal.code.status();
                if let Err(error) = answer::refuse(session, &journey.snapshot.plan, context, &refusal).await {
                    tracing::debug!(%error, "the client left before it was told");
                }
                FailToProxy { error_code, can_reuse_downstream: false }
            }
            _ => {
                context.note_failure(failure);
                FailToProxy { error_code: 0, can_reuse_downstream: false }
            }
        }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, journey: &mut Journey) {
        journey.copying.end();
        let ending = ending_of(session);
        let Journey { snapshot, context, .. } = journey;
        finish::report::report(&snapshot.plan, &self.log, self.tracer.as_ref(), context, &ending);
        let has_body_left = !session.is_body_done();
        if let Some(notes) = notes(session) {
            if has_body_left {
                notes.clock.body_follows(DRAIN_TIMEOUT);
            }
            notes.clock.request_over();
            left_open::over(notes, session.is_http2(), journey.left_open_ns);
        }
    }

    /// The access log has the request, and `fail_to_proxy` has told of the cause.
    fn suppress_error_log(&self, _session: &Session, _journey: &Journey, _error: &Error) -> bool {
        true
    }
}

/// Whether this request is one too many of its address. Trusted proxies bring those of others, and are not counted.
fn floods(guard: &FloodGuard, session: &Session, snapshot: &Snapshot) -> bool {
    let peer = session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip().to_canonical());
    let addresses = &snapshot.plan.addresses;
    peer.is_some_and(|peer| {
        !addresses.trust(peer) && guard.request(addresses.network(peer), snapshot.connection.flood)
    })
}

/// After how long a silence the answer is kept awake, if it brings events. One to HEAD has no body to put anything into.
fn heartbeat(route: &Route, session: &Session) -> Option<Duration> {
    let is_websocket = route.websocket_idle.is_some() && session.is_upgrade_req();
    let is_head = session.req_header().method == Method::HEAD;
    route.sse_heartbeat.filter(|_| !is_websocket && !is_head)
}

/// What the listener has noted beside the connection.
fn notes(session: &Session) -> Option<&ConnectionNotes> {
    let noted = session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?;
    noted.downcast_ref::<Arc<ConnectionNotes>>().map(Arc::as_ref)
}

/// The final answer, once its head went out. An informational one such as 100 is none (RFC 9110 §15.2).
fn answered(session: &Session) -> Option<&ResponseHeader> {
    let head = session.response_written()?;
    (!head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS).then_some(head)
}

/// Asks `dispatch` whether to try again.
fn retry(session: &Session, journey: &mut Journey, error: &Error, progress: Progress) -> bool {
    let context = &mut journey.context;
    let failure = deadline::failure(error, context);
    context.note_attempt_failed(failure);
    let request = session.req_header();
    let is_keyed = request.headers.contains_key(IDEMPOTENCY_KEY);
    dispatch::retry::decide(&mut context.dispatch, &request.method, is_keyed, failure, progress)
}

/// Leaves a refusal for `fail_to_proxy`, where Pingora takes every error.
#[expect(clippy::unnecessary_box_returns, reason = "Pingora takes errors in a box")]
fn stop(context: &mut Context, refusal: Refusal) -> Box<Error> {
    let status = refusal.code.status();
    context.pending = Some(refusal);
    Error::explain(ErrorType::HTTPStatus(status), "refused")
}

fn head_of(session: &Session) -> Head<'_> {
    let request = session.req_header();
    let raw = request.raw_path();
    // An absolute target carries its path in the URI.
    let raw = if is_absolute(raw) { request.uri.path().as_bytes() } else { raw };
    let mut parts = raw.splitn(2, |byte| *byte == b'?');
    let path = parts.next().unwrap_or(raw);
    // An absolute target is parsed already, and its path alone was taken above.
    let query = parts.next().or_else(|| request.uri.query().map(str::as_bytes));
    let digest = session.digest();
    let notes = notes(session);
    let peer = session.client_addr().and_then(|address| address.as_inet()).map(std::net::SocketAddr::ip);
    Head {
        method: &request.method,
        path,
        query,
        target_bytes: request.raw_path().len(),
        authority: request.uri.authority().map(http::uri::Authority::as_str),
        headers: &request.headers,
        raw: None,
        // Only sockets of other families have no address, and we listen on none.
        peer: peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        encrypted: digest.is_some_and(|digest| digest.ssl_digest.is_some()),
        http2: session.is_http2(),
        client_certificate: notes.and_then(ConnectionNotes::certificate),
        notes,
    }
}

fn ending_of(session: &Session) -> Ending<'_> {
    let request = session.req_header();
    let host = match request.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers.get(HOST).and_then(|host| host.to_str().ok()),
    };
    let server: &ServerSession = session.as_ref();
    Ending {
        method: &request.method,
        path: request.uri.path(),
        host,
        status: answered(session).map_or(0, |answer| answer.status.as_u16()),
        bytes_in: server.body_bytes_read() as u64,
        bytes_out: server.body_bytes_sent() as u64,
        protocol: if server.is_http2() { "h2" } else { "http/1.1" },
    }
}
