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
pub(crate) mod plan;
pub(crate) mod verdict;

use crate::base::head::Head;
use crate::base::refusal::Refusal;
use context::Context;
use plan::Plan;

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
    admission::rate_by_ip::spend(client, &route, context.now, &mut context.spent)?;
    let identity = auth::authenticate::identify(&head, &route, context.now).await?;
    context.note_identity(identity.clone());
    let permit = auth::authorize::permit(identity, &route)?;
    budget::rate_by_key::spend(&permit, &route, context.now, &mut context.spent)?;
    Ok(target.rewritten())
}
