//! Check, upstreams: what must hold between the keys of an upstream.
//!
//! For: raw → checked. May touch: raw sections. Promises: as `check.rs`. Read next: `checked.rs`.

use common::settings::{At, Decoder};

use super::check_kubernetes::check_kubernetes;
use super::checked::{Check, Health, Source, Upstream};
use super::raw::upstreams::{self, Balance, Discovery};
use super::targets::{DnsName, Target};

/// Servers of one upstream, at most.
pub(crate) const TARGETS_MAX: usize = 256;

/// What is said of `discovery.kubernetes` by a program that was built without it.
pub(crate) const WITHOUT_KUBERNETES: &str = "this program was built without Kubernetes (cargo feature `kubernetes`)";

/// Attempts at one request, at most.
pub(crate) const ATTEMPTS_MAX: u8 = 10;

pub(super) fn check_upstream(
    (name, upstream): (At<String>, upstreams::Upstream),
    decoder: &mut Decoder,
) -> Option<Upstream> {
    let source = check_source(&name, &upstream, decoder)?;
    if let Some(tls) = &upstream.tls
        && rustls_pki_types::DnsName::try_from(tls.name.value.as_str()).is_err()
    {
        decoder.mistake_at(&tls.name, format!("{:?} is not a DNS name", tls.name.value));
    }
    let health = upstream.health.as_ref().and_then(|health| check_health(&name, health, decoder));
    if upstream.panic_below.percent() > 0 && health.is_none() && upstream.eject.is_none() {
        decoder.mistake_at(&name, "panic_below is of no use without health or eject");
    }
    match (upstream.balance, &upstream.hash_by) {
        (Balance::Hash, None) => decoder.mistake_at(&name, "balance: hash needs hash_by, such as hash_by: client.ip"),
        (Balance::Hash, Some(_)) | (_, None) => {}
        (_, Some(by)) => decoder.mistake_at(by, "is for balance: hash"),
    }
    check_waits(&name, &upstream, decoder);
    if let Some(sticky) = &upstream.sticky {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if sticky.cookie.value.is_empty() || !sticky.cookie.value.bytes().all(plain) {
            decoder.mistake_at(&sticky.cookie, "a cookie's name is of letters, digits, - _ and .");
        }
    }
    Some(Upstream {
        name: name.value.into(),
        source,
        protocol: upstream.protocol,
        tls: upstream.tls,
        balance: upstream.balance,
        hash_by: upstream.hash_by.map(|by| by.value),
        sticky: upstream.sticky,
        health,
        panic_below: upstream.panic_below.percent(),
        eject: upstream.eject,
        slow_start: upstream.slow_start.map(common::settings::Millis::duration),
        breaker: upstream.breaker,
        timeouts: upstream.timeouts,
        retry: upstream.retry,
    })
}

fn check_source(name: &At<String>, upstream: &upstreams::Upstream, decoder: &mut Decoder) -> Option<Source> {
    match (&upstream.targets[..], &upstream.discovery) {
        ([], None) => {
            decoder.mistake_at(name, "targets is empty; list at least one IP:port, or say discovery");
            None
        }
        (_, None) => Some(Source::Fixed(check_targets(name, &upstream.targets, decoder))),
        ([], Some(discovery)) => check_discovery(name, discovery, decoder),
        _ => {
            decoder.mistake_at(name, "has targets and discovery; drop one");
            None
        }
    }
}

/// Targets without doubles.
pub(crate) fn check_targets(name: &At<String>, targets: &[At<Target>], decoder: &mut Decoder) -> Vec<Target> {
    if targets.len() > TARGETS_MAX {
        decoder.mistake_at(name, format!("more than {TARGETS_MAX} targets"));
    }
    for (index, target) in targets.iter().enumerate() {
        if targets[..index].iter().any(|earlier| earlier.value.at == target.value.at) {
            decoder.mistake_at(target, format!("{} is listed twice", target.value.at));
        }
    }
    targets.iter().map(|target| target.value.clone()).collect()
}

fn check_discovery(name: &At<String>, discovery: &Discovery, decoder: &mut Decoder) -> Option<Source> {
    if discovery.every.duration().is_zero() {
        decoder.mistake_at(name, "discovery.every must be longer than nothing");
    }
    match (&discovery.dns, &discovery.file, &discovery.kubernetes) {
        (Some(dns), None, None) => {
            let labels = match &dns.value {
                DnsName::Host { name, .. } | DnsName::Service(name) => name,
            };
            if labels.len() > 253 || labels.split('.').any(|label| label.len() > 63) {
                decoder.mistake_at(dns, format!("{labels:?} is not a DNS name"));
            }
            Some(Source::Dns {
                name: dns.value.clone(),
                servers: discovery.servers.iter().map(|server| server.0).collect(),
                every: discovery.every.duration(),
            })
        }
        (None, Some(file), None) => Some(Source::File { file: file.clone(), every: discovery.every.duration() }),
        (None, None, Some(kubernetes)) => check_kubernetes(kubernetes, decoder).map(Source::Kubernetes),
        _ => {
            decoder.mistake_at(name, "discovery has exactly one source: dns, file or kubernetes");
            None
        }
    }
}

fn check_health(name: &At<String>, health: &upstreams::Health, decoder: &mut Decoder) -> Option<Health> {
    let check = match (&health.http, health.tcp, &health.grpc) {
        (Some(path), false, None) => {
            if !path.value.starts_with('/') {
                decoder.mistake_at(path, "a path begins with \"/\"");
            }
            Check::Http(path.value.clone())
        }
        (None, true, None) => Check::Tcp,
        (None, false, Some(grpc)) => Check::Grpc(grpc.service.clone()),
        _ => {
            decoder.mistake_at(name, "health has exactly one check: http, tcp or grpc");
            return None;
        }
    };
    if health.up_after == 0 || health.down_after == 0 {
        decoder.mistake_at(name, "up_after and down_after are at least 1");
    }
    if health.every.duration().is_zero() || health.timeout.duration().is_zero() {
        decoder.mistake_at(name, "every and timeout of health must be longer than nothing");
    }
    Some(Health {
        check,
        every: health.every.duration(),
        timeout: health.timeout.duration(),
        up_after: health.up_after.into(),
        down_after: health.down_after.into(),
    })
}

fn check_waits(name: &At<String>, upstream: &upstreams::Upstream, decoder: &mut Decoder) {
    let timeouts = [upstream.timeouts.connect, upstream.timeouts.first_byte, upstream.timeouts.idle];
    if timeouts.iter().any(|wait| wait.duration().is_zero()) {
        decoder.mistake_at(name, "timeouts.connect, .first_byte and .idle must be longer than nothing");
    }
    if upstream.retry.attempts == 0 || upstream.retry.attempts > ATTEMPTS_MAX {
        decoder.mistake_at(name, format!("retry.attempts counts the first attempt: 1 to {ATTEMPTS_MAX}"));
    }
    if upstream.retry.per_try.is_some_and(|wait| wait.duration().is_zero()) {
        decoder.mistake_at(name, "retry.per_try must be longer than nothing");
    }
    if upstream.eject.as_ref().is_some_and(|eject| eject.after == 0 || eject.r#for.duration().is_zero()) {
        decoder.mistake_at(name, "eject.after is at least 1, and eject.for longer than nothing");
    }
    if upstream.breaker.max_requests == 0 {
        decoder.mistake_at(name, "breaker.max_requests is at least 1");
    }
}
