//! Pick: choose the upstream, and take a place at one of its servers.

use std::net::IpAddr;
use std::sync::Arc;

use common::clock::{Clock as _, SystemClock};
use common::code::Code;
use http::HeaderMap;

use super::deadline::{self, Deadline};
use crate::base::cookies;
use crate::base::refusal::{Advice, Refusal};
use crate::config::checked::HashBy;
use crate::stages::context::Context;
use crate::stages::plan::Route;
use crate::upstream::pool::{Pool, Wish};
use crate::upstream::select::hash;

/// Takes a place at a server for the next attempt. The one of the attempt before is given back.
///
/// # Errors
/// 503 when no server is fit, or all that are fit have been tried, or the upstream has too much to do; 504 when the request's time
/// is over.
pub(crate) async fn pick(route: &Route, headers: &HeaderMap, context: &mut Context) -> Result<(), Refusal> {
    let pool = pool(route, headers, context)?;
    let attempts = context.dispatch.attempts;
    let deadline = context.dispatch.deadline;
    context.dispatch.ticket = None;
    if attempts == 0 {
        pool.count_request();
        let passage = deadline::within(deadline, pool.pass()).await?;
        let passage = passage.map_err(|_| {
            let advice = Advice::RetryAfter(std::time::Duration::from_secs(1));
            Refusal::new(Code::UpstreamOverloaded).policy(&pool.name).advice(advice)
        });
        context.dispatch.passage = Some(passage?);
    } else {
        deadline::within(deadline, tokio::time::sleep(pool.backoff(attempts))).await?;
    }
    if deadline.is_some_and(Deadline::is_over) {
        return Err(deadline::refusal());
    }
    let wish = wish(&pool, headers, context);
    let notes = &mut context.dispatch;
    let Some(ticket) = pool.pick(&mut notes.tried, wish) else {
        let advice = Advice::RetryAfter(pool.retry_after());
        return Err(Refusal::new(Code::UpstreamUnavailable).policy(&pool.name).advice(advice));
    };
    notes.stick_to = pool.sticky().map(|_| ticket.endpoint.hash).filter(|hash| wish.sticky != Some(*hash));
    notes.attempts += 1;
    if let Some(traced) = &mut context.traced {
        traced.attempt_began(&ticket.endpoint.label);
    }
    notes.attempt_began_ns = Some(SystemClock.steady_ns());
    (notes.body_bytes, notes.body_began_ns, notes.answered_ns) = (0, None, None);
    notes.ticket = Some(ticket);
    Ok(())
}

/// The upstream that is asked, chosen with the first attempt; and until when, noted with it.
fn pool(route: &Route, headers: &HeaderMap, context: &mut Context) -> Result<Arc<Pool>, Refusal> {
    if let Some(pool) = context.pool() {
        return Ok(Arc::clone(pool));
    }
    let side = route.split.as_ref().and_then(|split| {
        let key = split.by().and_then(|by| key(by, headers, context));
        split.choose(key)
    });
    // A route without an upstream is answered before.
    let Some(side) = side else { return Err(Refusal::new(Code::InternalError)) };
    side.requests.inc();
    context.dispatch.deadline = deadline::of(headers, context);
    Ok(Arc::clone(context.dispatch.pool.insert(Arc::clone(&side.pool))))
}

/// What the request brings along for the choice: its key, and the server that it had before.
fn wish(pool: &Pool, headers: &HeaderMap, context: &Context) -> Wish {
    let key = pool.hash_by().and_then(|by| key(by, headers, context));
    let sticky =
        pool.sticky().and_then(|sticky| u64::from_str_radix(cookie(headers, &sticky.cookie.value)?, 16).ok());
    Wish { key, sticky }
}

/// The hash of what tells callers apart, where the request has it.
pub(crate) fn key(by: &HashBy, headers: &HeaderMap, context: &Context) -> Option<u64> {
    match by {
        HashBy::ClientIp => match context.client?.network {
            IpAddr::V4(ip) => Some(hash(&ip.octets())),
            IpAddr::V6(ip) => Some(hash(&ip.octets())),
        },
        HashBy::Subject => Some(hash(context.identity.as_ref()?.subject.as_bytes())),
        HashBy::Header(name) => Some(hash(headers.get(name)?.as_bytes())),
        HashBy::Cookie(name) => Some(hash(cookie(headers, name)?.as_bytes())),
    }
}

/// A cookie's value, the first of its name.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    cookies::pairs(headers).find(|(found, _)| *found == name).map(|(_, value)| value)
}
