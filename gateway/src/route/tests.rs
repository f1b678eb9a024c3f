//! Tests of the route table: cases, and a comparison with a matcher too simple to be wrong.

use http::Method;
use proptest::prelude::*;

use super::table::{Found, Selector, Table};
use crate::config::checked::{HostPattern, PathPattern};

#[derive(Clone, Debug)]
struct Route {
    host: Option<HostPattern>,
    path: PathPattern,
    methods: Vec<Method>,
}

fn exact(path: &str) -> PathPattern {
    PathPattern::Exact(path.into())
}

fn prefix(path: &str) -> PathPattern {
    PathPattern::Prefix(path.into())
}

fn route(host: Option<HostPattern>, path: PathPattern, methods: &[Method]) -> Route {
    Route { host, path, methods: methods.to_vec() }
}

fn table(routes: &[Route]) -> Table<usize> {
    Table::build(routes.iter().enumerate().map(|(index, route)| {
        (Selector { host: route.host.as_ref(), path: &route.path, methods: &route.methods }, index)
    }))
}

#[test]
fn the_most_specific_wins_in_any_order() {
    let api = Some(HostPattern::Exact("api.test".into()));
    let wild = Some(HostPattern::Wildcard("test".into()));
    let deep = Some(HostPattern::Wildcard("eu.test".into()));
    let mut routes = vec![
        route(None, prefix(""), &[]),
        route(None, prefix("/api/v1"), &[]),
        route(None, exact("/api/v1/query"), &[Method::POST]),
        route(api, exact("/api/v1/query"), &[]),
        route(wild, prefix("/only"), &[]),
        route(deep, prefix("/only"), &[Method::GET]),
    ];
    let cases = [
        ("x.org", "/", Method::GET, 0),
        ("x.org", "/api/v1", Method::GET, 1),
        ("x.org", "/api/v1/models", Method::GET, 1),
        ("x.org", "/api/v10", Method::GET, 0),
        ("x.org", "/api/v1/query", Method::POST, 2),
        ("x.org", "/api/v1/query/", Method::POST, 2),
        ("api.test", "/api/v1/query", Method::GET, 3),
        ("api.test", "/api/v1/query/", Method::GET, 3),
        ("api.test", "/api/v1/query/x", Method::GET, 1),
        ("a.eu.test", "/only/x", Method::GET, 5),
        ("a.eu.test", "/only/x", Method::HEAD, 5),
        ("a.test", "/only/x", Method::POST, 4),
        ("test", "/only/x", Method::GET, 0),
    ];
    for _ in 0..2 {
        let built = table(&routes);
        for (host, path, method, expected) in &cases {
            let Found::Route(found) = built.find(host, path.as_bytes(), method) else {
                panic!("{host} {path} {method} finds nothing")
            };
            let expected = if routes[0].path == prefix("") { *expected } else { routes.len() - 1 - expected };
            assert_eq!(*found, expected, "{host} {path} {method}");
        }
        routes.reverse();
    }
}

#[test]
fn a_path_without_the_method_does_not_fall_through() {
    let built = table(&[
        route(None, exact("/q"), &[Method::POST]),
        route(None, exact("/q"), &[Method::DELETE]),
        route(None, prefix(""), &[Method::GET]),
    ]);
    let others = || Found::OtherMethods(vec![Method::DELETE, Method::POST]);
    assert_eq!(built.find("h", b"/q", &Method::GET), others());
    assert_eq!(built.find("h", b"/q/", &Method::GET), others());
    assert_eq!(built.find("h", b"/other", &Method::GET), Found::Route(&2));
    assert_eq!(built.find("h", b"/other", &Method::PUT), Found::OtherMethods(vec![Method::GET]));
    assert_eq!(table(&[route(None, exact("/q"), &[])]).find("h", b"/other", &Method::GET), Found::Nothing);
}

/// Every route whose host and path fit; of those the best host and path; of those the one for the method.
fn naive(routes: &[Route], host: &str, path: &str, method: &Method) -> Option<usize> {
    let rank = |route: &Route| {
        let host_rank = match &route.host {
            None => Some((0, 0)),
            Some(HostPattern::Wildcard(suffix)) => host.ends_with(&format!(".{suffix}")).then_some((1, suffix.len())),
            Some(HostPattern::Exact(name)) => (host == name).then_some((2, 0)),
        }?;
        let path_rank = match &route.path {
            PathPattern::Prefix(prefix) => {
                (path == prefix || path.starts_with(&format!("{prefix}/"))).then_some((0, prefix.len()))
            }
            PathPattern::Exact(exact) if path == exact => Some((2, 0)),
            PathPattern::Exact(exact) => (path == format!("{exact}/")).then_some((1, 0)),
        }?;
        Some((host_rank, path_rank))
    };
    let best = routes.iter().filter_map(rank).max()?;
    let method_rank = |route: &Route| match &route.methods[..] {
        [] => Some(0),
        methods if methods.contains(method) => Some(2),
        methods if method == Method::HEAD && methods.contains(&Method::GET) => Some(1),
        _ => None,
    };
    let owners = routes.iter().enumerate().filter(|(_, route)| rank(route) == Some(best));
    owners
        .filter_map(|(index, route)| Some((method_rank(route)?, index)))
        .max_by_key(|(rank, _)| *rank)
        .map(|(_, i)| i)
}

fn any_host() -> impl Strategy<Value = Option<HostPattern>> {
    prop_oneof![
        Just(None),
        prop::sample::select(vec!["a", "b.a", "c.b.a"]).prop_map(|name| Some(HostPattern::Exact(name.into()))),
        prop::sample::select(vec!["a", "b.a"]).prop_map(|name| Some(HostPattern::Wildcard(name.into()))),
    ]
}

fn any_path() -> impl Strategy<Value = PathPattern> {
    prop_oneof!["(/[xy]){1,3}".prop_map(PathPattern::Exact), "(/[xy]){0,3}".prop_map(PathPattern::Prefix),]
}

fn any_route() -> impl Strategy<Value = Route> {
    let methods = prop_oneof![Just(vec![]), Just(vec![Method::GET]), Just(vec![Method::POST])];
    (any_host(), any_path(), methods).prop_map(|(host, path, methods)| Route { host, path, methods })
}

proptest! {
    #[test]
    fn the_table_agrees_with_the_naive_matcher(
        mut routes in prop::collection::vec(any_route(), 0..12),
        host in prop::sample::select(vec!["a", "b.a", "c.b.a", "d.c.b.a", "z"]),
        path in "(/[xy]){1,4}/?",
        method in prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST, Method::PUT]),
    ) {
        let mut seen = std::collections::HashSet::new();
        routes.retain(|route| seen.insert((route.host.clone(), route.path.clone(), route.methods.clone())));
        let built = table(&routes);
        let found = match built.find(host, path.as_bytes(), &method) {
            Found::Route(index) => Some(*index),
            Found::OtherMethods(_) | Found::Nothing => None,
        };
        prop_assert_eq!(found, naive(&routes, host, &path, &method));
    }
}
