//! Stages: what happens to a request, A to F.
//!
//! For: the run, as straight code. Each step takes what the step before proved, so the order cannot be mixed up: there is
//! no `Permit` without an `Identity`, and no `Identity` without an `Admission`. May touch: plain heads and headers, the
//! routes' plans, the pools; no socket, and none of Pingora's types. Promises: a refusal opens no upstream connection,
//! and names its code and its policy. Read next: `plan.rs` for what a route was compiled to, then the folders A to F.

pub(crate) mod admission;
pub(crate) mod auth;
pub(crate) mod budget;
pub(crate) mod context;
pub(crate) mod dispatch;
pub(crate) mod egress;
pub(crate) mod finish;
pub(crate) mod limit;
pub(crate) mod plan;
pub(crate) mod verdict;

use std::sync::Arc;

use crate::base::head::Head;
use crate::base::refusal::Refusal;
use crate::base::reply::Reply;
use crate::route::table::Found;
use admission::Target;
use admission::address::Client;
use auth::Identity;
use auth::authorize::Permit;
use common::code::Code;
use context::Context;
use limit::Caller;
use plan::{Plan, Route};
use verdict::Verdict;

/// What becomes of a request that was not refused.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// It goes to an upstream, by this path where it was not sent in its normal form.
    Forward(Option<Vec<u8>>),
    /// It is answered here and now.
    Answer(Reply),
}

/// How far a request came before anybody asked who sent it.
#[derive(Debug)]
pub(crate) enum Entered<'a> {
    /// It has found its route.
    Routed { route: Arc<Route>, target: Target<'a>, client: Client },
    /// It was a browser's question, and is answered.
    Answered(Reply),
}

/// May this request go on?
///
/// # Errors
/// The refusal to answer with.
pub(crate) async fn admit(head: Head<'_>, plan: &Plan, context: &mut Context) -> Result<Admitted, Refusal> {
    let (route, target, client) = match enter(&head, plan, context)? {
        Entered::Answered(reply) => return Ok(Admitted::Answer(reply)),
        Entered::Routed { route, target, client } => (route, target, client),
    };
    let caller = Caller { client, headers: head.headers, route: &route.id, identity: None };
    match authenticated(&head, &target, &route, plan, context).await {
        Ok(permit) => budget::spend::spend(&permit, caller, &route, context).await?,
        Err(refusal) => {
            // Trying credentials counts as much as using them; what is our own fault does not.
            if refusal.code.status() < 500 {
                budget::spend::spend_in_vain(caller, &route, context).await?;
            }
            return Err(refusal);
        }
    }
    Ok(conclude(&head, target, &route, context))
}

/// What can be said of a request before anybody asks who sent it.
///
/// # Errors
/// The refusal to answer with.
pub(crate) fn enter<'a>(head: &Head<'a>, plan: &Plan, context: &mut Context) -> Result<Entered<'a>, Refusal> {
    let target = admission::sanity::check(head, &plan.limits)?;
    let client = admission::address::client(head, &plan.addresses);
    context.note_client(client);
    admission::access::check_denied(client, &plan.denied)?;
    if let Some(answer) = preflight(head, &target, client, plan, context) {
        return answer.map(Entered::Answered);
    }
    let route = admission::route(&target, head.method, &plan.routes)?;
    context.note_route(&route);
    admission::access::check(client, &route)?;
    admission::size::check(head, &route)?;
    admission::certificate::check(head, &route)?;
    let caller = Caller { client, headers: head.headers, route: &route.id, identity: None };
    admission::rate_by_ip::check(&caller, &route, context)?;
    Ok(Entered::Routed { route, target, client })
}

/// What becomes of a request that may use its route and has enough left.
pub(crate) fn conclude(head: &Head<'_>, target: Target<'_>, route: &Route, context: &mut Context) -> Admitted {
    match &route.answer {
        None => Admitted::Forward(target.rewritten()),
        Some(answer) => {
            context.verdict = answer.verdict();
            Admitted::Answer(answer.reply(&target.path, head.query, &route.hidden_query))
        }
    }
}

/// The answer to a browser that asks whether a page may send its request. `None` for every other request, and where the
/// request that is asked about would find no route with `cors`: then this one goes its own way.
fn preflight(
    head: &Head<'_>,
    target: &Target<'_>,
    client: Client,
    plan: &Plan,
    context: &mut Context,
) -> Option<Result<Reply, Refusal>> {
    let preflight = admission::cors::preflight(head)?;
    let Found::Route(route) = plan.routes.find(&target.host, &target.path, &preflight.method) else { return None };
    let cors = route.cors.as_ref()?;
    context.note_route(route);
    context.verdict = Verdict::Answered;
    Some(admission::access::check(client, route).and_then(|()| cors.answer(&preflight)))
}

/// Who is it, and may they?
async fn authenticated(
    head: &Head<'_>,
    target: &Target<'_>,
    route: &Route,
    plan: &Plan,
    context: &mut Context,
) -> Result<Permit, Refusal> {
    let Some(client) = context.client else { return Err(Refusal::new(Code::InternalError)) };
    let now = context.now;
    let identified =
        auth::authenticate::identify(head, client, route, &plan.revocations, now, &mut context.auth_tried).await;
    permitted(identified, head, target, route, context)
}

/// May whoever was found use the route? What is only watched is noted, and passes.
///
/// # Errors
/// The refusal to answer with.
pub(crate) fn permitted(
    identified: Result<Option<Arc<Identity>>, Refusal>,
    head: &Head<'_>,
    target: &Target<'_>,
    route: &Route,
    context: &mut Context,
) -> Result<Permit, Refusal> {
    let identity = match identified {
        Err(refusal) if route.shadow_auth => {
            context.note_shadow(refusal.code, refusal.policy);
            return Ok(auth::authorize::watched(None));
        }
        identified => identified?,
    };
    context.note_identity(identity.clone());
    match auth::authorize::permit(identity.clone(), route, head.method, &target.path) {
        Err(refusal) if route.shadow_require => {
            context.note_shadow(refusal.code, refusal.policy);
            Ok(auth::authorize::watched(identity))
        }
        permit => permit,
    }
}
