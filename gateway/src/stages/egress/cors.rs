//! CORS on answers: whose page may read this one. Refusals are answers too: a browser that may not read one hides its reason.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ORIGIN,
};
use http::{HeaderName, HeaderValue};

use super::headers::vary;
use crate::stages::admission::cors::TRUE;
use crate::stages::dispatch::forward::HeaderSink;
use crate::stages::plan::Route;

/// Says it in place of what an upstream says.
pub(crate) fn replace(route: Option<&Arc<Route>>, origin: Option<&HeaderValue>, sink: &mut impl HeaderSink) {
    if route.is_none_or(|route| route.cors.is_none()) {
        return;
    }
    let of_upstream = |name: &&HeaderName| name.as_str().starts_with("access-control-");
    let of_upstream: Vec<HeaderName> = sink.fields().keys().filter(of_upstream).cloned().collect();
    for name in &of_upstream {
        sink.remove(name);
    }
    tell(route, origin, sink);
}

/// Says it, on a route with `cors`. An origin that may not read is told nothing, which is how it is told.
pub(crate) fn tell(route: Option<&Arc<Route>>, origin: Option<&HeaderValue>, sink: &mut impl HeaderSink) {
    let Some(cors) = route.and_then(|route| route.cors.as_ref()) else { return };
    // Also where there is no origin: a cache must not give that answer to one that has.
    vary(&ORIGIN, sink);
    let Some(allowed) = origin.and_then(|origin| cors.allow(origin)) else { return };
    sink.set(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if cors.credentials {
        sink.set(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
    }
    if let Some(names) = &cors.expose {
        sink.set(ACCESS_CONTROL_EXPOSE_HEADERS, names.clone());
    }
}
