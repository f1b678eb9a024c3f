//! Limit: one limit of the configuration and its state, shared by the routes that name it.
//!
//! For: what a request is counted by, and the meter of one limit. May touch: the limiter; questions to the store are put
//! together here and asked in `budget`. Promises: no key of one kind can pose as one of another; looking a key up allocates
//! nothing. Read next: `budget/spend.rs`, which asks all limits of a request.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, HeaderName};

use super::admission::address::Client;
use super::auth::Identity;
use crate::base::limiter::{CalendarMeter, ConcurrencyMeter, Decision, KeyId, RateMeter, Standing, Stocks};
use crate::base::now::Now;
use crate::config::checked::{LIMIT_PARTS_MAX, LimitKeyPart, StoreDown};
use crate::store::{Meter as StoreMeter, Question, Store};

/// The longest part that stands in a store's key as it is; longer ones, and several, stand there by their hash.
const PLAIN_BYTES_MAX: usize = 64;

/// Units that were taken from the store for later are good for so long.
const STOCK_GOOD_FOR: Duration = Duration::from_secs(1);

/// One limit.
#[derive(Debug)]
pub(crate) struct Limit {
    pub name: Arc<str>,
    pub by: Box<[LimitKeyPart]>,
    pub meter: Meter,
    /// Units that a request costs, or that are reserved for it.
    pub cost: u64,
    /// Header of the answer that tells what it really was.
    pub cost_from: Option<HeaderName>,
    pub shared: Option<Shared>,
    pub shadow: bool,
}

/// What is counted in this process. For a shared limit that is what is known of the store's count.
#[derive(Debug)]
pub(crate) enum Meter {
    Rate(RateMeter),
    Calendar(CalendarMeter),
    Concurrency(Arc<ConcurrencyMeter>),
}

/// How it is shared.
#[derive(Debug)]
pub(crate) struct Shared {
    pub store: Arc<Store>,
    pub down: StoreDown,
    /// Where more than one request's units are taken from the store at a time: how many, and those not used yet.
    pub batch: Option<(u64, Stocks)>,
}

/// What is known of whoever sent a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub client: Client,
    pub headers: &'a HeaderMap,
    pub route: &'a str,
    pub identity: Option<&'a Identity>,
}

/// What a request is counted by: one to four parts, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    parts: [&'a [u8]; LIMIT_PARTS_MAX],
    count: usize,
}

impl<'a> Parts<'a> {
    fn as_slice(&self) -> &[&'a [u8]] {
        &self.parts[..self.count]
    }
}

impl Meter {
    /// The key made of these parts.
    pub(crate) fn id(&self, parts: &Parts<'_>) -> KeyId {
        match self {
            Self::Rate(meter) => meter.id(parts.as_slice()),
            Self::Calendar(meter) => meter.id(parts.as_slice()),
            Self::Concurrency(meter) => meter.id(parts.as_slice()),
        }
    }

    /// Spends units. Places are not spent but taken: see `ConcurrencyMeter::take`.
    pub(crate) fn take(&self, id: KeyId, units: u64, now: Now) -> Option<Decision> {
        match self {
            Self::Rate(meter) => Some(meter.take(id, units, now)),
            Self::Calendar(meter) => Some(meter.take(id, units, now)),
            Self::Concurrency(_) => None,
        }
    }

    /// How long a key has to wait for so many units.
    pub(crate) fn wait(&self, id: KeyId, units: u64, now: Now) -> Duration {
        match self {
            Self::Rate(meter) => meter.wait(id, units, now),
            Self::Calendar(meter) => meter.wait(id, units, now),
            Self::Concurrency(_) => Duration::ZERO,
        }
    }

    /// Gives units back.
    pub(crate) fn refund(&self, id: KeyId, units: u64, now: Now) {
        match self {
            Self::Rate(meter) => meter.refund(id, units, now),
            Self::Calendar(meter) => meter.refund(id, units, now),
            Self::Concurrency(_) => {}
        }
    }

    /// Spends units whether they are there or not.
    pub(crate) fn charge(&self, id: KeyId, units: u64, now: Now) {
        match self {
            Self::Rate(meter) => meter.charge(id, units, now),
            Self::Calendar(meter) => meter.charge(id, units, now),
            Self::Concurrency(_) => {}
        }
    }

    /// Takes over what the store says, and what that leaves.
    pub(crate) fn note(&self, id: KeyId, level: u64, now: Now) -> Option<Standing> {
        match self {
            Self::Rate(meter) => {
                let ahead_ns = level.saturating_mul(1000);
                meter.note(id, ahead_ns, now);
                Some(meter.rate().standing(ahead_ns))
            }
            Self::Calendar(meter) => {
                meter.note(id, level, now);
                Some(meter.standing(level, now))
            }
            Self::Concurrency(_) => None,
        }
    }

    /// What the store has to be told of a key, in its own terms: what was spent while it was away.
    fn untold(&self, id: KeyId, now: Now) -> u64 {
        match self {
            Self::Rate(meter) => meter.untold_ns(id, now).div_ceil(1000),
            Self::Calendar(meter) => meter.untold_units(id, now),
            Self::Concurrency(_) => 0,
        }
    }

    /// What a key has left, as far as is known here.
    pub(crate) fn standing(&self, id: KeyId, now: Now) -> Standing {
        match self {
            Self::Rate(meter) => meter.rate().standing(meter.ahead_ns(id, now)),
            Self::Calendar(meter) => meter.standing(meter.used_units(id, now), now),
            Self::Concurrency(_) => Standing { remaining: 0, reset_after: Duration::ZERO },
        }
    }

    /// The same meter as the store keeps it.
    pub(crate) fn in_store(&self) -> Option<StoreMeter> {
        match self {
            Self::Rate(meter) => Some(StoreMeter::Rate(meter.rate())),
            Self::Calendar(meter) => Some(StoreMeter::Calendar { calendar: meter.calendar(), count: meter.count() }),
            Self::Concurrency(_) => None,
        }
    }
}

impl Limit {
    /// Whether it counts by something that is known only once the caller is.
    pub(crate) fn needs_identity(&self) -> bool {
        self.by.iter().any(LimitKeyPart::needs_identity)
    }

    /// Requests that may come at once when nothing was spent.
    pub(crate) fn at_once(&self) -> u64 {
        let units = match &self.meter {
            Meter::Rate(meter) => meter.rate().tolerance_ns() / meter.rate().emission_ns(),
            Meter::Calendar(meter) => meter.count(),
            Meter::Concurrency(meter) => meter.places().into(),
        };
        units / self.cost
    }

    /// What a request is counted by; `None` when this limit is not about it. `address` is room for the client's address.
    pub(crate) fn parts<'a>(&'a self, caller: &Caller<'a>, address: &'a mut [u8; 16]) -> Option<Parts<'a>> {
        let length = match caller.client.network {
            IpAddr::V4(ip) => {
                address[..4].copy_from_slice(&ip.octets());
                4
            }
            IpAddr::V6(ip) => {
                *address = ip.octets();
                16
            }
        };
        let address: &'a [u8] = &address[..length];
        let mut parts = Parts { parts: [&[]; LIMIT_PARTS_MAX], count: self.by.len() };
        for (part, by) in parts.parts.iter_mut().zip(&self.by) {
            *part = match by {
                LimitKeyPart::ClientIp => address,
                LimitKeyPart::Route => caller.route.as_bytes(),
                LimitKeyPart::Header(name) => caller.headers.get(name).map_or(&[], |value| value.as_bytes()),
                LimitKeyPart::Subject => caller.identity?.subject.as_bytes(),
                LimitKeyPart::KeyOrSubject => caller.identity?.limit_key.as_bytes(),
                LimitKeyPart::Key => caller.identity?.key_id.as_ref()?.as_bytes(),
                LimitKeyPart::Claim(name) => caller.identity?.claim(name).unwrap_or("").as_bytes(),
            };
        }
        Some(parts)
    }

    /// The name of a key in the store: `prefix:limit:NAME:part`, where a part that is long, or one of several, is hashed.
    pub(crate) fn store_key(&self, prefix: &str, parts: &Parts<'_>) -> Vec<u8> {
        let mut key = Vec::with_capacity(prefix.len() + self.name.len() + PLAIN_BYTES_MAX + 16);
        // Writing to a Vec cannot fail.
        let _ = write!(key, "{prefix}:limit:{}:", self.name);
        match (parts.as_slice(), &*self.by) {
            ([address], [LimitKeyPart::ClientIp]) => {
                let _ = match <[u8; 4]>::try_from(*address) {
                    Ok(octets) => write!(key, "{}", IpAddr::from(octets)),
                    Err(_) => write!(
                        key,
                        "{}",
                        <[u8; 16]>::try_from(*address)
                            .map(IpAddr::from)
                            .map_or_else(|_| String::new(), |ip| ip.to_string())
                    ),
                };
            }
            // A hash is marked, or a part could be written to look like the hash of others.
            ([part], _) if part.len() <= PLAIN_BYTES_MAX && !part.starts_with(b"#") => key.extend_from_slice(part),
            (parts, _) => {
                let mut text = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
                for part in parts {
                    text.extend_from_slice(&(part.len() as u64).to_be_bytes());
                    text.extend_from_slice(part);
                }
                key.push(b'#');
                for byte in digest(&SHA256, &text).as_ref() {
                    let _ = write!(key, "{byte:02x}");
                }
            }
        }
        key
    }

    /// What to ask the store about a request that is counted by these parts.
    pub(crate) fn question(&self, shared: &Shared, parts: &Parts<'_>, id: KeyId, now: Now) -> Option<Question> {
        Some(Question {
            key: self.store_key(shared.store.prefix(), parts),
            meter: self.meter.in_store()?,
            units: shared.batch.as_ref().map_or(self.cost, |(requests, _)| self.cost.saturating_mul(*requests)),
            least: self.cost,
            known: self.meter.untold(id, now),
            shadow: self.shadow,
        })
    }
}

impl Shared {
    /// Uses units in stock, if so many are there.
    pub(crate) fn take_from_stock(&self, id: KeyId, units: u64, now: Now) -> bool {
        self.batch.as_ref().is_some_and(|(_, stocks)| stocks.take(id, units, now))
    }

    /// Lays units in stock that were granted beyond what the request costs.
    pub(crate) fn lay_in(&self, id: KeyId, units: u64, now: Now) {
        if let Some((_, stocks)) = self.batch.as_ref().filter(|_| units > 0) {
            let good_for_ns = u64::try_from(STOCK_GOOD_FOR.as_nanos()).unwrap_or(u64::MAX);
            stocks.put(id, units, good_for_ns, now);
        }
    }
}
