//! Own: what is said on every answer of the gateway's own, besides what it is about.

use http::header::ORIGIN;

use super::{cors, limits};
use crate::base::head::{Head, Occurrence};
use crate::base::reply::X_REQUEST_ID;
use crate::stages::context::Context;
use crate::stages::dispatch::forward::HeaderSink;
use crate::stages::plan::Plan;

/// Says it.
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
