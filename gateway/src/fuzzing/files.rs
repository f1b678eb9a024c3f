//! Files: what an operator writes, and what something else writes for the gateway to read.

use std::fmt::Write as _;

use common::settings::Report;
use http::Method;

use crate::config::checked::{HostPattern, PathPattern};
use crate::config::{self, Config};
use crate::route::host;
use crate::route::path::{Parameters, normalise};
use crate::route::table::{Found, Selector, Table};
use crate::stages::egress::limits;
use crate::upstream::discover;

/// A configuration. One that is accepted is whole; one that is not says why, and where.
pub(super) fn configuration(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let config = match config::parse("fuzzing", text) {
        Ok(config) => config,
        Err(report) => {
            assert_told(&report, text);
            return;
        }
    };
    assert_eq!(config::parse("again", text).as_ref(), Ok(&config), "read twice, read differently");
    // A byte order mark may stand only at the very beginning.
    if !text.starts_with('\u{feff}') {
        let commented = config::parse("commented", &format!("# A comment.\n{text}"));
        assert_eq!(commented.as_ref(), Ok(&config), "a comment changes it");
    }
    assert_whole(&config);
    assert_reachable(&config);
    assert_limits_readable(&config);
}

/// Every mistake says something, and points into the file, in its order.
fn assert_told(report: &Report, text: &str) {
    let lines = text.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 2;
    assert!(!report.mistakes().is_empty(), "refused without a reason");
    assert!(report.mistakes().is_sorted_by_key(|mistake| mistake.position), "{report}");
    for mistake in report.mistakes() {
        let line = usize::try_from(mistake.position.line).unwrap_or(usize::MAX);
        assert!(line >= 1 && line <= lines && mistake.position.column >= 1, "a place that is not there: {report}");
        assert!(!mistake.message.trim().is_empty(), "a mistake without words: {report}");
    }
}

/// Every position points at something.
fn assert_whole(config: &Config) {
    for route in &config.routes {
        assert!(route.schemes.iter().all(|scheme| *scheme < config.schemes.len()), "{}", route.id);
        assert!(route.limits.iter().all(|limit| *limit < config.limits.len()), "{}", route.id);
        assert!(route.cors.is_none_or(|cors| cors < config.cors.len()), "{}", route.id);
        let guarded = !route.schemes.is_empty();
        assert!(guarded || route.limits.iter().all(|limit| !config.limits[*limit].needs_identity()), "{}", route.id);
    }
}

/// There is a request for every route.
fn assert_reachable(config: &Config) {
    let selectors = config.routes.iter().enumerate().map(|(index, route)| {
        (Selector { host: route.host.as_ref(), path: &route.path, methods: &route.methods }, index)
    });
    let table = Table::build(selectors);
    for (index, route) in config.routes.iter().enumerate() {
        let (path, whole) = match &route.path {
            PathPattern::Exact(path) => (path.clone(), true),
            PathPattern::Prefix(prefix) => (format!("{prefix}/x"), false),
        };
        let (name, known) = match &route.host {
            None => ("elsewhere.invalid".to_owned(), false),
            Some(HostPattern::Exact(name)) => (name.clone(), true),
            Some(HostPattern::Wildcard(name)) => (format!("x.{name}"), false),
        };
        assert_eq!(normalise(path.as_bytes(), Parameters::Refuse).as_deref(), Ok(path.as_bytes()), "{}", route.id);
        assert_eq!(host::normalise(&name).as_deref(), Some(&*name), "{}", route.id);
        let method = route.methods.first().unwrap_or(&Method::TRACE);
        // Another route may be more specific, unless this one names host and path.
        let leads = match table.find(&name, path.as_bytes(), method) {
            Found::Nothing => false,
            Found::OtherMethods(_) => !(whole && known),
            Found::Route(other) => {
                !(whole && known) || *other == index || config.routes[*other].methods.contains(method)
            }
        };
        assert!(leads, "nothing leads to {}", route.id);
    }
}

/// What clients are told of limits is a list of structured fields (RFC 9651), one a limit.
fn assert_limits_readable(config: &Config) {
    let told: Vec<_> = config.limits.iter().filter(|limit| !limit.shadow).collect();
    let policy = limits::policy(config.limits.iter());
    assert_eq!(policy.is_some(), !told.is_empty(), "limits that nobody is told of");
    let Some(policy) = policy else { return };
    let list: Result<sfv::List, _> = sfv::Parser::new(policy.as_bytes()).parse();
    let entries = list.unwrap_or_default();
    assert_eq!(entries.len(), told.len(), "{policy:?}");
    for (entry, limit) in entries.iter().zip(told) {
        let sfv::ListEntry::Item(item) = entry else { unreachable!("{policy:?} holds an inner list") };
        let named = item.bare_item.as_string().map(sfv::StringRef::as_str);
        assert_eq!(named, Some(&*limit.name), "{policy:?}");
        assert!(item.params.get("q").and_then(sfv::BareItem::as_integer).is_some(), "{policy:?}");
    }
}

/// A file of servers. What is read of it, written down, is read as the same.
pub(super) fn servers(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let targets = match discover::parse("fuzzing", text) {
        Ok(targets) => targets,
        Err(report) => {
            assert_told(&report, text);
            return;
        }
    };
    assert!(!targets.is_empty() && targets.iter().all(|target| (1..=100).contains(&target.weight)));
    let mut written = String::from("targets:\n");
    for target in &targets {
        let place = target.at.to_string();
        // What YAML has to write by a code is left to the other targets.
        if !place.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\'') {
            return;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(written, "  - {{ at: '{place}', weight: {} }}", target.weight);
    }
    assert_eq!(discover::parse("written", &written).as_ref(), Ok(&targets), "{written}");
}
