//! Dispatch (E): send it on.
//!
//! For: which upstream, which server, until when, with which headers, and whether a failed attempt may be made again. May touch: the route's pool;
//! headers through `HeaderSink`, so that no Pingora type is needed. Promises: an identity header that reaches an upstream
//! was set here; a retry goes to another server, within the budget, and never repeats what must not be repeated.
//! Read next: `pick.rs`, `split.rs`, `deadline.rs`, `forward.rs`, `retry.rs`.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod deadline;
pub(crate) mod forward;
pub(crate) mod mirror;
pub(crate) mod outcome;
pub(crate) mod pick;
pub(crate) mod retry;
pub(crate) mod rewrite;
pub(crate) mod split;

use self::forward::HeaderSink;
use super::context::Context;
use crate::base::head::Head;

/// Makes a request's headers what its upstream is told.
pub(crate) fn tell(head: &Head<'_>, context: &Context, sink: &mut impl HeaderSink) {
    forward::rewrite(head, context, sink);
    if let Some(route) = &context.route {
        rewrite::headers(route, sink);
    }
}
