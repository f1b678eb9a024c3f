//! Words: rules of the configuration, and values, said to people.
//!
//! For: `walk.rs`, `tell.rs`, `send.rs` and `routes.rs`. May touch: nothing. Promises: of a rule no value of a header and no secret is
//! said; whether a value may be shown, whoever hands it in has decided.

use std::sync::Arc;

use http::Method;

use crate::base::limiter::Calendar;
use crate::config::checked::{
    HashBy, HeaderRules, HostPattern, LimitKeyPart, Measure, Needs, PathPattern, Requirements,
};

/// A value for people. What is no text, or would steer a terminal, is shown as U+FFFD.
pub(super) fn text(value: &[u8]) -> String {
    let letters = String::from_utf8_lossy(value);
    letters.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

/// `*.example.org`; `*` for every host.
pub(super) fn host(pattern: Option<&HostPattern>) -> String {
    match pattern {
        None => "*".to_owned(),
        Some(HostPattern::Exact(host)) => host.clone(),
        Some(HostPattern::Wildcard(host)) => format!("*.{host}"),
    }
}

/// `/api/*`.
pub(super) fn path(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => path.clone(),
        PathPattern::Prefix(path) => format!("{path}/*"),
    }
}

/// `GET, POST`; `*` for every method.
pub(super) fn methods(methods: &[Method]) -> String {
    if methods.is_empty() {
        return "*".to_owned();
    }
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

/// What a caller must have; empty where that is nothing.
pub(super) fn requirements(requirements: &Requirements) -> String {
    let mut parts = needs(&requirements.always);
    for (method, of_method) in &requirements.by_method {
        parts.extend(needs(of_method).into_iter().map(|need| format!("{need} for {method}")));
    }
    parts.join("; ")
}

fn needs(needs: &Needs) -> Vec<String> {
    let list = |words: &[Arc<str>], between: &str| words.iter().map(|word| &**word).collect::<Vec<_>>().join(between);
    let mut parts = Vec::new();
    if !needs.all.is_empty() {
        parts.push(list(&needs.all, ", "));
    }
    if !needs.any.is_empty() {
        parts.push(list(&needs.any, " or "));
    }
    if !needs.roles.is_empty() {
        parts.push(format!("role {}", list(&needs.roles, " or ")));
    }
    parts
}

/// What a limit counts by, as it is written.
pub(super) fn counts_by(part: &LimitKeyPart) -> String {
    match part {
        LimitKeyPart::ClientIp => "client.ip".to_owned(),
        LimitKeyPart::Subject => "identity.subject".to_owned(),
        LimitKeyPart::Key => "identity.key".to_owned(),
        LimitKeyPart::KeyOrSubject => "identity.key_or_subject".to_owned(),
        LimitKeyPart::Claim(name) => format!("identity.claim.{name}"),
        LimitKeyPart::Header(name) => format!("header.{name}"),
        LimitKeyPart::Route => "route".to_owned(),
    }
}

/// How much a limit allows.
pub(super) fn measure(measure: Measure) -> String {
    match measure {
        Measure::Rate { rate, burst } => format!("{} in {:?}, {burst} of them at once", rate.count, rate.period),
        Measure::Quota(quota) => {
            let window = match quota.calendar {
                Calendar::Day => "day",
                Calendar::Month => "month",
            };
            format!("{} a {window}", quota.count)
        }
        Measure::Concurrent(places) => format!("{places} at a time"),
    }
}

/// What tells callers apart, as it is written.
pub(super) fn hash_by(by: &HashBy) -> String {
    match by {
        HashBy::ClientIp => "client.ip".to_owned(),
        HashBy::Subject => "identity.subject".to_owned(),
        HashBy::Header(name) => format!("header.{name}"),
        HashBy::Cookie(name) => format!("cookie.{name}"),
    }
}

/// The names of the fields that rules change; empty where there are none.
pub(super) fn rules(rules: &HeaderRules) -> String {
    let removed = rules.remove.iter().map(|name| format!("without {name}"));
    let set = rules.set.iter().map(|(name, _)| format!("{name} set"));
    let added = rules.add.iter().map(|(name, _)| format!("{name} added"));
    removed.chain(set).chain(added).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn values_are_shown_and_steer_nothing() {
        for (value, shown) in [
            (&b"read write"[..], "read write"),
            ("m\u{fc}ller".as_bytes(), "m\u{fc}ller"),
            (&b"a\xffb"[..], "a\u{fffd}b"),
            ("a\u{9b}31mb\t".as_bytes(), "a\u{fffd}31mb\u{fffd}"),
        ] {
            assert_eq!(text(value), shown, "{value:?}");
        }
    }
}
