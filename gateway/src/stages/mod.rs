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

use crate::base::head::Head;
use crate::base::refusal::Refusal;
use admission::Target;
use auth::authorize::Permit;
use common::code::Code;
use context::Context;
use limit::Caller;
use plan::{Plan, Route};

/// May this request go on? `Ok` holds the path to go on with, where it was not sent in its normal form.
///
/// # Errors
/// The refusal to answer with.
pub(crate) async fn admit(head: Head<'_>, plan: &Plan, context: &mut Context) -> Result<Option<Vec<u8>>, Refusal> {
    let target = admission::sanity::check(&head, &plan.limits)?;
    let client = admission::address::client(&head, &plan.addresses);
    context.note_client(client);
    let route = admission::route(&target, head.method, &plan.routes)?;
    context.note_route(&route);
    admission::size::check(&head, &route)?;
    admission::certificate::check(&head, &route)?;
    let caller = Caller { client, headers: head.headers, route: &route.id, identity: None };
    admission::rate_by_ip::check(&caller, &route, context)?;
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
    Ok(target.rewritten())
}

/// Who is it, and may they? What is only watched is noted, and passes.
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
