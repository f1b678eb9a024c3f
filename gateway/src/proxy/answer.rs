//! Answer: what the gateway says by itself, and what it changes in what an upstream says.
//!
//! For: refusals, fixed answers and redirects, written to a client; heads of upstreams, dressed for one. May touch: Pingora's
//! session. Promises: as `proxy.rs`: no rule lives here. Read next: `base/reply.rs`, then `stages/egress/`.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, ORIGIN};
use http::{HeaderValue, Method};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::{Error, Result};
use pingora_proxy::Session;

use super::compression::Compression;
use super::{Fields, head_of};
use crate::base::head::Occurrence;
use crate::base::refusal::Refusal;
use crate::base::reply::Reply;
use crate::stages::context::Context;
use crate::stages::dispatch;
use crate::stages::egress;
use crate::stages::egress::compress::Asked;
use crate::stages::plan::Plan;
use crate::stages::verdict::Verdict;

/// How much to read of what is left of a request's body after it was answered, so that the connection can be used again.
const DRAIN_BYTES_MAX: u64 = 256 * 1024;

/// Writes a refusal.
pub(super) async fn refuse(
    session: &mut Session,
    plan: &Plan,
    context: &mut Context,
    refusal: &Refusal,
) -> Result<()> {
    context.note_refusal(refusal);
    let request = session.req_header();
    let reply = egress::own::refused(refusal, &request.headers, request.uri.path(), context);
    answer(session, plan, context, reply).await
}

/// Writes an answer of our own. The connection can be used again when what is left of the request's body is small enough to
/// be read and thrown away; a client that waits to be asked for its body (`Expect`) is told by the end of the connection.
pub(super) async fn answer(session: &mut Session, plan: &Plan, context: &Context, reply: Reply) -> Result<()> {
    let headers = &session.req_header().headers;
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if headers.contains_key(EXPECT) {
        session.set_keepalive(None);
    } else if announced.is_some_and(|bytes| bytes <= DRAIN_BYTES_MAX)
        && let ServerSession::H1(http1) = session.as_mut()
    {
        http1.set_close_on_response_before_downstream_finish(false);
    }
    let mut header = head_of_reply(&reply)?;
    egress::own::tell(&head_of(session), plan, context, &mut Fields(&mut header));
    write(session, header, reply.body).await.map_err(Error::into_down)
}

/// Changes the head of an upstream's answer as the configuration says. `trailers` is whether fields behind its body were
/// announced.
pub(super) fn dress(
    session: &mut Session,
    plan: &Plan,
    context: &Context,
    trailers: bool,
    answer: &mut ResponseHeader,
) {
    let sink = &mut Fields(answer);
    egress::headers::hide(&plan.hidden, sink);
    if let Some(route) = &context.route {
        dispatch::rewrite::apply(&route.response_headers, sink);
    }
    let route = context.route.as_ref();
    // Most routes have neither, and need not look at the request once more.
    if plan.security.is_some() || route.is_some_and(|route| route.cors.is_some()) {
        let head = head_of(session);
        if let Some(security) = &plan.security {
            security.tell(head.encrypted, sink);
        }
        let origin = match head.single(&ORIGIN) {
            Occurrence::Once(origin) => Some(origin),
            Occurrence::Absent | Occurrence::Repeated => None,
        };
        egress::cors::replace(route, origin, sink);
    }
    if let Some(settings) = context.route.as_ref().and_then(|route| route.compress.as_ref()) {
        let request = session.req_header();
        let asked = Asked::read(&request.method, request.version, &request.headers, trailers);
        let settings = Arc::clone(settings);
        if let Some(compression) = session.downstream_modules_ctx.get_mut::<Compression>() {
            compression.arm(settings, asked);
        }
    }
}

/// Sends a plain client to the same URL with `https`. 308 keeps method and body (RFC 9110 §15.4.9).
pub(super) async fn to_https(session: &mut Session, plan: &Plan, context: &mut Context, port: u16) -> Result<()> {
    let head = head_of(session);
    let target = session.req_header().uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let reply = match dispatch::answer::to_https(head.host(), target, port) {
        Ok(reply) => reply,
        Err(refusal) => return refuse(session, plan, context, &refusal).await,
    };
    context.verdict = Verdict::Redirected;
    write(session, head_of_reply(&reply)?, reply.body).await.map_err(Error::into_down)
}

fn head_of_reply(reply: &Reply) -> Result<ResponseHeader> {
    let mut header = ResponseHeader::build(reply.status, Some(reply.headers.len() + 4))?;
    for (name, value) in &reply.headers {
        // Appended, because there may be more than one challenge.
        header.append_header(name, value)?;
    }
    // An answer that never has a body has no length either (RFC 9110 §8.6).
    if !matches!(reply.status, 204 | 304) {
        header.insert_header(CONTENT_LENGTH, HeaderValue::from(reply.body.len()))?;
    }
    Ok(header)
}

async fn write(session: &mut Session, header: ResponseHeader, body: Bytes) -> Result<()> {
    let bodiless = body.is_empty() || session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(header), bodiless).await?;
    if !bodiless {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}
