//! Own: the gateway's own answers to refusals, and what is said on every answer of its own besides what it is about.

use http::HeaderMap;
use http::header::ORIGIN;

use super::{cors, limits};
use crate::base::head::{Head, Occurrence};
use crate::base::refusal::Refusal;
use crate::base::reply::{self, About, Reply, X_REQUEST_ID};
use crate::stages::context::Context;
use crate::stages::dispatch::deadline::is_grpc;
use crate::stages::dispatch::forward::HeaderSink;
use crate::stages::plan::Plan;

/// The answer to a refusal, in the form that its client reads. `path` is what it asked for.
pub(crate) fn refused(refusal: &Refusal, headers: &HeaderMap, path: &str, context: &Context) -> Reply {
    let about = About {
        request_id: context.request_id.to_str().unwrap_or(""),
        path,
        route: context.route.as_ref().map(|route| &*route.id),
    };
    if is_grpc(headers) { reply::grpc_reply(refusal, about) } else { reply::reply(refusal, about) }
}

/// Says what is on every answer.
pub(crate) fn tell(head: &Head<'_>, plan: &Plan, context: &Context, sink: &mut impl HeaderSink) {
    sink.set(X_REQUEST_ID, context.request_id.clone());
    if let Some(security) = &plan.security {
        security.tell(head.encrypted, sink);
    }
    let origin = match head.single(&ORIGIN) {
        Occurrence::Once(origin) => Some(origin),
        Occurrence::Absent | Occurrence::Repeated => None,
    };
    cors::tell(context.route.as_ref(), origin, sink);
    limits::tell(context.route.as_ref(), &context.spent, sink);
}
