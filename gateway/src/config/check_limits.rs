//! Check, limits: what must hold between the keys of limits and of the store that they share.
//!
//! For: raw → checked. May touch: raw sections. Promises: as `check.rs`. Read next: `checked.rs`.

use std::path::PathBuf;

use common::redis::RedisUrl;
use common::secret::SecretRef;
use common::settings::{At, Decoder, Position};
use http::HeaderName;

use super::checked::{Limit, Measure, Redis, RedisPlace, Shared};
use super::raw;
use super::raw::limits::LimitScope;
use super::raw::stores;

/// The most units a second that a limit of scope `cluster` can allow: the store counts in microseconds.
const CLUSTER_UNITS_PER_SECOND_MAX: u64 = 1_000_000;

/// The longest prefix of the store's keys.
const PREFIX_BYTES_MAX: usize = 64;

/// A limit; `store` is whether there is something to share it by.
pub(super) fn check_limit(
    (name, limit): (At<String>, raw::limits::Limit),
    store: bool,
    decoder: &mut Decoder,
) -> Option<Limit> {
    if limit.keys_max == 0 || limit.cost == 0 || limit.batch == 0 {
        decoder.mistake_at(&name, "keys_max, cost and batch are at least 1");
    }
    let measure = measure_of(&name, &limit, decoder)?;
    check_cost(&name, &limit, measure, decoder);
    let cluster = limit.scope == LimitScope::Cluster;
    match measure {
        Measure::Concurrent(_) if cluster => {
            decoder.mistake_at(
                &name,
                "places at a time are counted in each process; a scope cluster is for rate and quota",
            );
        }
        Measure::Rate { rate, .. } if cluster => {
            let per_second = u64::from(rate.count) / rate.period.as_secs().max(1);
            if per_second > CLUSTER_UNITS_PER_SECOND_MAX {
                let most = CLUSTER_UNITS_PER_SECOND_MAX;
                decoder.mistake_at(&name, format!("a scope cluster allows {most} a second at most"));
            }
        }
        _ => {}
    }
    if limit.batch > 1 && !(cluster && matches!(measure, Measure::Rate { .. })) {
        decoder.mistake_at(&name, "batch is for a rate of scope cluster");
    }
    let cost_from = limit.cost_from.as_ref().and_then(|header| {
        let parsed = HeaderName::try_from(&header.value);
        parsed.map_err(|_| decoder.mistake_at(header, format!("{:?} is not a header name", header.value))).ok()
    });
    Some(Limit {
        name: name.value.into(),
        by: limit.by.value.0.into(),
        measure,
        cost: limit.cost,
        cost_from,
        shared: (cluster && store).then_some(Shared { store_down: limit.store_down, batch: limit.batch }),
        keys_max: usize::try_from(limit.keys_max).unwrap_or(usize::MAX),
        shadow: limit.shadow,
    })
}

fn measure_of(name: &At<String>, limit: &raw::limits::Limit, decoder: &mut Decoder) -> Option<Measure> {
    let measure = match (limit.rate, limit.quota, limit.concurrent) {
        (Some(rate), None, None) => Measure::Rate { rate, burst: limit.burst.unwrap_or(rate.count) },
        (None, Some(quota), None) => Measure::Quota(quota),
        (None, None, Some(places)) => Measure::Concurrent(places),
        _ => {
            decoder.mistake_at(name, "a limit has exactly one measure: rate, quota or concurrent");
            return None;
        }
    };
    match measure {
        Measure::Rate { burst: 0, .. } => decoder.mistake_at(name, "burst is at least 1"),
        Measure::Concurrent(0) => decoder.mistake_at(name, "concurrent is at least 1"),
        Measure::Quota(_) | Measure::Concurrent(_) if limit.burst.is_some() => {
            decoder.mistake_at(name, "burst is for a rate");
        }
        _ => {}
    }
    Some(measure)
}

/// What could never be paid would never be admitted.
fn check_cost(name: &At<String>, limit: &raw::limits::Limit, measure: Measure, decoder: &mut Decoder) {
    let (most, word) = match measure {
        Measure::Rate { burst, .. } => (burst, "burst"),
        Measure::Quota(quota) => (quota.count, "quota"),
        Measure::Concurrent(_) => {
            if limit.cost > 1 || limit.cost_from.is_some() {
                decoder.mistake_at(name, "a request takes one place; cost and cost_from are for rate and quota");
            }
            return;
        }
    };
    if limit.cost > most {
        decoder.mistake_at(name, format!("cost is more than the {word}, so no request would ever pass"));
    }
}

/// The store that gateways share, where one is set.
pub(super) fn check_redis(redis: Option<stores::Redis>, decoder: &mut Decoder) -> Option<Redis> {
    let redis = redis?;
    let places = [redis.url.is_some(), redis.sentinel.is_some(), !redis.cluster.is_empty()];
    match places.iter().filter(|place| **place).count() {
        0 => return None,
        1 => {}
        _ => {
            mistake("stores.redis", "has at most one of url, sentinel and cluster", decoder);
            return None;
        }
    }
    check_redis_keys(&redis, decoder);
    let urls = |urls: &[At<RedisUrl>]| urls.iter().map(|url| url.value.clone()).collect::<Vec<_>>();
    let place = match (&redis.url, &redis.sentinel) {
        (Some(url), _) => RedisPlace::Server(url.value.clone()),
        (None, Some(sentinel)) => {
            RedisPlace::Sentinel { urls: urls(&sentinel.urls), service: sentinel.service.clone() }
        }
        (None, None) => RedisPlace::Cluster(urls(&redis.cluster)),
    };
    let (password, ca): (Option<At<SecretRef>>, Option<At<PathBuf>>) = (redis.password, redis.ca);
    Some(Redis {
        place,
        username: redis.username,
        password,
        ca,
        database: redis.database,
        timeout: redis.timeout.duration(),
        connect_timeout: redis.connect_timeout.duration(),
        prefix: redis.prefix.value,
    })
}

fn check_redis_keys(redis: &stores::Redis, decoder: &mut Decoder) {
    if redis.sentinel.as_ref().is_some_and(|sentinel| sentinel.urls.is_empty()) {
        mistake("stores.redis.sentinel.urls", "list at least one sentinel", decoder);
    }
    if !redis.cluster.is_empty() && redis.database != 0 {
        mistake("stores.redis.database", "a cluster has only database 0", decoder);
    }
    if redis.username.is_some() && redis.password.is_none() {
        mistake("stores.redis.username", "is of no use without a password", decoder);
    }
    if redis.timeout.duration().is_zero() || redis.connect_timeout.duration().is_zero() {
        mistake("stores.redis", "timeout and connect_timeout must be longer than nothing", decoder);
    }
    let prefix = &redis.prefix.value;
    // Braces choose the cluster's node, and are ours to set.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX || !prefix.bytes().all(plain) {
        let expected = format!("1 to {PREFIX_BYTES_MAX} letters, digits and the characters - _ . :");
        decoder.mistake_at(&redis.prefix, expected);
    }
}

fn mistake(path: &str, message: &str, decoder: &mut Decoder) {
    decoder.inside(path, |decoder| decoder.mistake(Position::START, message));
}
