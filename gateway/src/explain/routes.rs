//! Routes: all of them as a table, and why a request does not take this or that one.
//!
//! For: `gateway routes`, and the route's step of a story. May touch: the configuration. Promises: the order is that in which the
//! most specific decides, as in `route/table.rs`; a test holds the two together. Read next: `../route/table.rs`.

use std::cmp::Reverse;
use std::fmt::Write as _;

use http::Method;
use serde::Serialize;

use super::words;
use crate::config::Config;
use crate::config::checked::{Does, HostPattern, LogWhat, PathPattern, Route};
use crate::stages::admission::Target;

/// Routes of other paths that are named one by one; the rest are counted.
const NAMED_MAX: usize = 8;

/// The heads of the table.
const COLUMNS: [&str; 9] = ["ID", "HOST", "PATH", "METHODS", "AUTH", "REQUIRE", "LIMITS", "TO", "FLAGS"];

/// A route in words.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    host: String,
    path: String,
    /// Empty for every method.
    methods: Vec<String>,
    /// Empty for everybody.
    auth: Vec<String>,
    require: String,
    limits: Vec<String>,
    to: Vec<String>,
    flags: Vec<String>,
}

/// Every route, the most specific first, as a table.
pub(crate) fn table(config: &Config) -> String {
    let rows = rows(config);
    let mut lines = vec![COLUMNS.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS.len()] = std::array::from_fn(width);
    let mut text = String::new();
    for cells in &lines {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The same for programs.
pub(crate) fn json(config: &Config) -> serde_json::Value {
    serde_json::json!(rows(config))
}

fn cells(row: &Row) -> [String; COLUMNS.len()] {
    let list = |words: &[String], nothing: &str| {
        if words.is_empty() { nothing.to_owned() } else { words.join(", ") }
    };
    [
        row.id.clone(),
        row.host.clone(),
        row.path.clone(),
        list(&row.methods, "*"),
        list(&row.auth, "none"),
        if row.require.is_empty() { "-".to_owned() } else { row.require.clone() },
        list(&row.limits, "-"),
        list(&row.to, "-"),
        row.flags.join(", "),
    ]
}

fn rows(config: &Config) -> Vec<Row> {
    specific_first(&config.routes).into_iter().map(|route| row(route, config)).collect()
}

fn row(route: &Route, config: &Config) -> Row {
    // Positions were resolved when the configuration was checked, so each of them is there.
    let schemes = route.schemes.iter().map(|position| config.schemes[*position].name.to_string());
    let limits = route.limits.iter().map(|position| config.limits[*position].name.to_string());
    Row {
        id: route.id.to_string(),
        host: words::host(route.host.as_ref()),
        path: words::path(&route.path),
        methods: route.methods.iter().map(Method::to_string).collect(),
        auth: schemes.collect(),
        require: words::requirements(&route.require),
        limits: limits.collect(),
        to: does(route, config),
        flags: flags(route, config),
    }
}

fn does(route: &Route, config: &Config) -> Vec<String> {
    match &route.does {
        Does::Respond(respond) => vec![format!("respond {}", respond.status)],
        Does::Redirect(redirect) => vec![format!("redirect {} {}", redirect.status, redirect.to)],
        Does::Forward(split) => match &split.sides[..] {
            [only] => vec![config.upstreams[only.upstream].name.to_string()],
            sides => {
                sides.iter().map(|side| format!("{} {}", config.upstreams[side.upstream].name, side.weight)).collect()
            }
        },
    }
}

/// What else is said of it, each in a word or two.
fn flags(route: &Route, config: &Config) -> Vec<String> {
    let named = [
        (route.owner.is_some(), "owner"),
        (!route.allow_from.is_empty(), "allow_from"),
        (route.client_certificate.required, "client_certificate"),
        (route.client_certificate.passed_on, "pass_client_certificate"),
        (route.shadow_auth, "shadow auth"),
        (route.shadow_require, "shadow require"),
        (route.rewrite.is_some(), "rewrite"),
        (route.compress.is_some(), "compress"),
        (route.websocket_idle.is_some(), "websocket"),
        (route.sse_heartbeat.is_some(), "sse_heartbeat"),
        (route.log == LogWhat::Errors, "log errors"),
    ];
    let mut flags: Vec<String> =
        named.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word.to_owned()).collect();
    flags.extend(route.cors.map(|position| format!("cors {}", config.cors[position].name)));
    flags.extend(route.mirror.map(|mirror| format!("mirror {}", config.upstreams[mirror.upstream].name)));
    flags.extend(route.timeout.map(|timeout| format!("timeout {timeout:?}")));
    flags.extend(route.deadline.map(|deadline| format!("deadline {:?}", deadline.after)));
    flags
}

/// The routes in the order in which they are tried: by host (a name, the longest wildcard, any), then by path (exact, the longest
/// prefix), then by method (named, any).
fn specific_first(routes: &[Route]) -> Vec<&Route> {
    let mut sorted: Vec<&Route> = routes.iter().collect();
    sorted.sort_by_key(|&route| {
        let host = match &route.host {
            Some(HostPattern::Exact(host)) => (0, Reverse(0), host.as_str()),
            Some(HostPattern::Wildcard(host)) => (1, Reverse(host.len()), host.as_str()),
            None => (2, Reverse(0), ""),
        };
        let path = match &route.path {
            PathPattern::Exact(path) => (0, Reverse(0), path.as_str()),
            PathPattern::Prefix(path) => (1, Reverse(path.len()), path.as_str()),
        };
        (host, path, route.methods.is_empty())
    });
    sorted
}

/// Why the other routes do not get a request: those of its path one by one, the rest together.
pub(super) fn others(routes: &[Route], chosen: Option<&str>, target: &Target<'_>, method: &Method) -> Vec<String> {
    let mut says = Vec::new();
    let mut elsewhere = Vec::new();
    for route in specific_first(routes).into_iter().filter(|route| Some(&*route.id) != chosen) {
        if !fits_path(&route.path, &target.path) {
            elsewhere.push(format!("{} ({})", route.id, words::path(&route.path)));
            continue;
        }
        let host = (!fits_host(route.host.as_ref(), &target.host))
            .then(|| format!("its host is {}", words::host(route.host.as_ref())));
        let methods = (!fits_method(&route.methods, method))
            .then(|| format!("its methods are {}", words::methods(&route.methods)));
        let misses: Vec<String> = host.into_iter().chain(methods).collect();
        let why = if misses.is_empty() { "a more specific one decides".to_owned() } else { misses.join(", ") };
        says.push(format!("not {}: {why}", route.id));
    }
    if !elsewhere.is_empty() {
        let more = elsewhere.len().saturating_sub(NAMED_MAX);
        elsewhere.truncate(NAMED_MAX);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        says.push(format!("not for another path: {}{more}", elsewhere.join(", ")));
    }
    says
}

fn fits_host(pattern: Option<&HostPattern>, host: &str) -> bool {
    match pattern {
        None => true,
        Some(HostPattern::Exact(known)) => known == host,
        Some(HostPattern::Wildcard(known)) => {
            host.strip_suffix(known.as_str()).is_some_and(|labels| labels.ends_with('.'))
        }
    }
}

fn fits_path(pattern: &PathPattern, path: &[u8]) -> bool {
    let (known, rest_allowed) = match pattern {
        PathPattern::Exact(known) => (known, false),
        PathPattern::Prefix(known) => (known, true),
    };
    match path.strip_prefix(known.as_bytes()) {
        // An exact path takes the same path with a slash at its end as well.
        Some(rest) => rest.is_empty() || rest == b"/" || (rest_allowed && rest.starts_with(b"/")),
        None => false,
    }
}

/// A route for GET also serves HEAD.
fn fits_method(methods: &[Method], method: &Method) -> bool {
    methods.is_empty() || methods.contains(method) || (method == Method::HEAD && methods.contains(&Method::GET))
}
