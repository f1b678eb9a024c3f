//! Hashed: the same endpoint for the same key, as long as it is there (rendezvous hashing, Thaler and Ravishankar 1998).
//!
//! Each endpoint draws a number for the key, and the highest wins: when one goes, only its own keys move. One that has more than
//! its share in flight is passed over (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads").

use std::sync::Arc;

use super::Choice;
use crate::upstream::endpoint::Endpoint;

/// More than its share: a quarter above the average.
const LOAD_MAX: f64 = 1.25;

/// The endpoint for a key.
pub(in crate::upstream) fn hashed<'m>(choice: &Choice<'m>, key: u64) -> Option<&'m Arc<Endpoint>> {
    let endpoints = choice.members.endpoints.iter().filter(|endpoint| choice.may_ask(endpoint));
    let (in_flight, weight) = endpoints.clone().fold((1.0, 0.0), |(in_flight, weight), endpoint| {
        (in_flight + f64::from(endpoint.in_flight()), weight + f64::from(endpoint.weight))
    });
    let most = |endpoint: &Endpoint| (LOAD_MAX * in_flight * f64::from(endpoint.weight) / weight).ceil();
    let has_room = |endpoint: &&Arc<Endpoint>| f64::from(endpoint.in_flight() + 1) <= most(endpoint);
    let score = |endpoint: &Endpoint| draw(key, endpoint.hash, endpoint.weight);
    let best = |a: &&Arc<Endpoint>, b: &&Arc<Endpoint>| score(a).total_cmp(&score(b));
    endpoints.clone().filter(has_room).max_by(best).or_else(|| endpoints.max_by(best))
}

/// The number that whoever has this hash draws for a key: higher for a higher weight, in proportion.
pub(crate) fn draw(key: u64, hash: u64, weight: u16) -> f64 {
    let mixed = mix(key ^ hash);
    #[expect(clippy::cast_precision_loss, reason = "53 bits are as many as a fraction has")]
    let fraction = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight) / fraction.ln()
}

/// Spreads every bit over all (the finaliser of splitmix64).
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
