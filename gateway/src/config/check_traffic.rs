//! Check, traffic: what must hold between the keys of splits, mirrors and deadlines.
//!
//! For: raw → checked. May touch: raw sections. Promises: as `check.rs`. Read next: `traffic.rs`.

use std::collections::HashMap;

use common::settings::Decoder;

use super::check::resolve;
use super::raw::routes;
use super::raw::traffic::DeadlineUntil;
use super::targets::HashBy;
use super::traffic::{DeadlineRule, Mirror, Side, Split};

/// Sides of a split, at most.
const SIDES_MAX: usize = 16;

/// The largest body of a copy, in bytes.
const MIRROR_BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Copies of one route at a time, at most.
const MIRROR_IN_FLIGHT_MAX: u16 = 1024;

/// The sides of a split. What is wrong with one of them is told, and then there is none.
pub(super) fn check_split(
    route: &routes::Route,
    upstreams: &HashMap<String, usize>,
    decoder: &mut Decoder,
) -> Option<Split> {
    let mut sides = Vec::with_capacity(route.split.len());
    for (index, side) in route.split.iter().enumerate() {
        if route.split[..index].iter().any(|earlier| earlier.to.value == side.to.value) {
            decoder.mistake_at(&side.to, format!("{:?} is in the split already", side.to.value));
        }
        let upstream = resolve(&side.to, "upstream", upstreams, decoder);
        sides.extend(upstream.map(|upstream| Side { upstream, weight: side.weight }));
    }
    if route.split.len() > SIDES_MAX {
        decoder.mistake_at(&route.id, format!("a split has at most {SIDES_MAX} sides"));
    }
    if route.split.iter().all(|side| side.weight == 0) {
        decoder.mistake_at(&route.id, "every weight of the split is 0, so nobody would be asked");
    }
    let by = route.split_by.as_ref().and_then(|by| by.value.0.clone());
    (sides.len() == route.split.len()).then_some(Split { sides, by })
}

/// What a split goes by must be known. `public` is whether callers are not.
pub(super) fn check_split_by(route: &routes::Route, public: bool, decoder: &mut Decoder) {
    let Some(by) = &route.split_by else { return };
    if route.split.is_empty() {
        decoder.mistake_at(by, "is for routes with a split");
    } else if public && by.value.0 == Some(HashBy::Subject) {
        decoder.mistake_at(by, "goes by identity, and a public route (auth: none) has none");
    }
}

/// Who gets copies.
pub(super) fn check_mirror(
    route: &routes::Route,
    upstreams: &HashMap<String, usize>,
    decoder: &mut Decoder,
) -> Option<Mirror> {
    let mirror = route.mirror.as_ref()?;
    if route.asked().any(|to| to.value == mirror.to.value) {
        decoder.mistake_at(&mirror.to, "answers on this route itself, and would get the same request twice");
    }
    let body_bytes = mirror.body_max.value.bytes();
    if body_bytes > MIRROR_BODY_BYTES_MAX {
        decoder.mistake_at(&mirror.body_max, format!("a copy has at most {MIRROR_BODY_BYTES_MAX} bytes"));
    }
    if mirror.in_flight_max == 0 || mirror.in_flight_max > MIRROR_IN_FLIGHT_MAX {
        decoder.mistake_at(&mirror.to, format!("in_flight_max is 1 to {MIRROR_IN_FLIGHT_MAX}"));
    }
    if mirror.timeout.duration().is_zero() {
        decoder.mistake_at(&mirror.to, "timeout of a mirror must be longer than nothing");
    }
    let upstream = resolve(&mirror.to, "upstream", upstreams, decoder)?;
    Some(Mirror {
        upstream,
        share_percent: mirror.share.percent(),
        body_bytes_max: usize::try_from(body_bytes).unwrap_or(usize::MAX),
        in_flight_max: mirror.in_flight_max.into(),
        timeout: mirror.timeout.duration(),
    })
}

/// How long a request may take.
pub(super) fn check_deadline(route: &routes::Route, decoder: &mut Decoder) -> Option<DeadlineRule> {
    let after = route.deadline?.duration();
    if after.is_zero() {
        decoder.mistake_at(&route.id, "deadline must be longer than nothing");
    }
    Some(DeadlineRule { after, until_head: route.deadline_until == DeadlineUntil::Head })
}
