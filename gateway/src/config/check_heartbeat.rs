//! Check, heartbeat: what must hold between `sse_heartbeat` and the upstreams of its route.
//!
//! For: raw → checked. May touch: raw sections. Promises: as `check.rs`. Read next: `../upstream/heartbeat.rs`.

use std::collections::HashMap;
use std::time::Duration;

use common::settings::{At, Decoder, Millis};

use super::raw::routes;
use super::raw::upstreams::{Protocol, Upstream};

/// More often than that, beats would be a load rather than a sign of life.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

/// How long an upstream may be silent, where beats are possible at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    per_try: Option<Duration>,
    first_byte: Duration,
}

impl Waits {
    /// `None` where something other than HTTP/1.1 is on the socket: TLS, or HTTP/2.
    pub(super) fn of(upstream: &Upstream) -> Option<Self> {
        (upstream.protocol == Protocol::Http1 && upstream.tls.is_none()).then(|| Self {
            per_try: upstream.retry.per_try.map(Millis::duration),
            first_byte: upstream.timeouts.first_byte.duration(),
        })
    }
}

/// How often. `upstreams` has those that are known, by name.
pub(super) fn check_heartbeat(
    route: &routes::Route,
    upstreams: &HashMap<String, Option<Waits>>,
    decoder: &mut Decoder,
) -> Option<Duration> {
    let heartbeat = route.sse_heartbeat.as_ref()?;
    let every = heartbeat.value.duration();
    if every < HEARTBEAT_MIN {
        decoder.mistake_at(heartbeat, "a heartbeat is every 100ms at most");
    }
    for to in route.asked() {
        // A name that is not known has been told.
        if let Some(waits) = upstreams.get(&to.value) {
            check_beside(heartbeat, route.timeout, to, *waits, decoder);
        }
    }
    Some(every)
}

/// What one upstream of the route says to it.
fn check_beside(
    heartbeat: &At<Millis>,
    timeout: Option<Millis>,
    to: &At<String>,
    waits: Option<Waits>,
    decoder: &mut Decoder,
) {
    let Some(waits) = waits else {
        let message = format!("needs an upstream in HTTP/1.1 without tls, and {:?} is none", to.value);
        decoder.mistake_at(heartbeat, message);
        return;
    };
    let wait = waits.per_try.or(timeout.map(Millis::duration)).unwrap_or(waits.first_byte);
    if heartbeat.value.duration() >= wait {
        let message = format!("must be shorter than {:?} may be silent, which is {wait:?} here", to.value);
        decoder.mistake_at(heartbeat, message);
    }
}
