//! The table: built once at load, read without locks.
//!
//! The most specific path decides: first by host (a name, then the longest wildcard, then none), then by path (exact, then
//! the longest prefix). If that path is not for the method, the answer is 405: falling through to a broader route would
//! turn a guarded path into whatever guards less. An exact path also serves the same path with a slash at its end, unless
//! that has a route of its own: many servers take both for one.

use std::collections::HashMap;

use ahash::RandomState;
use http::Method;

use crate::config::checked::{HostPattern, PathPattern};

/// Routes by host, path and method; `T` is what a route leads to.
#[derive(Debug)]
pub(crate) struct Table<T> {
    exact_hosts: HashMap<Box<str>, Paths<T>, RandomState>,
    /// By the name behind `*.`.
    wildcard_hosts: HashMap<Box<str>, Paths<T>, RandomState>,
    any_host: Paths<T>,
}

/// Which requests a route is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selector<'a> {
    pub host: Option<&'a HostPattern>,
    pub path: &'a PathPattern,
    /// Empty for every method.
    pub methods: &'a [Method],
}

/// The outcome of a lookup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a, T> {
    Route(&'a T),
    /// The path exists, but not for this method; these it does exist for.
    OtherMethods(Vec<Method>),
    Nothing,
}

#[derive(Debug)]
struct Paths<T> {
    exact: HashMap<Box<[u8]>, Methods<T>, RandomState>,
    /// By the path before `/*`.
    prefixes: HashMap<Box<[u8]>, Methods<T>, RandomState>,
    /// Length of the longest prefix: longer parts of a path need not be looked up.
    longest_prefix: usize,
}

#[derive(Debug)]
struct Methods<T> {
    named: Vec<(Method, T)>,
    any: Option<T>,
}

impl<T: Clone> Table<T> {
    /// Builds the table. Two routes with the same selector were refused when the configuration was checked.
    pub(crate) fn build<'a>(routes: impl IntoIterator<Item = (Selector<'a>, T)>) -> Self {
        let mut table =
            Self { exact_hosts: HashMap::default(), wildcard_hosts: HashMap::default(), any_host: Paths::default() };
        for (selector, target) in routes {
            let paths = match selector.host {
                None => &mut table.any_host,
                Some(HostPattern::Exact(host)) => table.exact_hosts.entry(host.as_str().into()).or_default(),
                Some(HostPattern::Wildcard(host)) => table.wildcard_hosts.entry(host.as_str().into()).or_default(),
            };
            paths.methods_of(selector.path).insert(selector.methods, target);
        }
        table
    }

    /// Finds the route of a request. `host` and `path` are in normal form.
    pub(crate) fn find<'t>(&'t self, host: &str, path: &[u8], method: &Method) -> Found<'t, T> {
        let Some(methods) = self.candidates(host).find_map(|paths| paths.find(path)) else { return Found::Nothing };
        methods.get(method).map_or_else(|| Found::OtherMethods(methods.named()), Found::Route)
    }

    /// The hosts' tables that fit, the most specific first.
    fn candidates<'t, 'h>(&'t self, host: &'h str) -> impl Iterator<Item = &'t Paths<T>> + use<'t, 'h, T> {
        let exact = if self.exact_hosts.is_empty() { None } else { self.exact_hosts.get(host) };
        let suffixes = if self.wildcard_hosts.is_empty() { "" } else { host };
        let wildcards = std::iter::successors(suffixes.split_once('.').map(|(_, rest)| rest), |name| {
            name.split_once('.').map(|(_, rest)| rest)
        });
        let wildcards = wildcards.filter_map(|name| self.wildcard_hosts.get(name));
        exact.into_iter().chain(wildcards).chain(std::iter::once(&self.any_host))
    }
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { exact: HashMap::default(), prefixes: HashMap::default(), longest_prefix: 0 }
    }
}

impl<T: Clone> Paths<T> {
    fn methods_of(&mut self, path: &PathPattern) -> &mut Methods<T> {
        match path {
            PathPattern::Exact(path) => self.exact.entry(path.as_bytes().into()).or_default(),
            PathPattern::Prefix(path) => {
                self.longest_prefix = self.longest_prefix.max(path.len());
                self.prefixes.entry(path.as_bytes().into()).or_default()
            }
        }
    }

    /// The entry that fits the path best. Prefixes end at segments, so only the parts of the path before a slash (and the
    /// whole of it) are looked up, and none that is longer than the longest prefix.
    fn find(&self, path: &[u8]) -> Option<&Methods<T>> {
        let without_slash = || path.strip_suffix(b"/").and_then(|path| self.exact.get(path));
        let ends = || (0..=path.len().min(self.longest_prefix)).rev();
        let prefix = || {
            let mut ends = ends().filter(|end| *end == path.len() || path[*end] == b'/');
            ends.find_map(|end| self.prefixes.get(&path[..end]))
        };
        self.exact.get(path).or_else(without_slash).or_else(prefix)
    }
}

impl<T> Default for Methods<T> {
    fn default() -> Self {
        Self { named: Vec::new(), any: None }
    }
}

impl<T: Clone> Methods<T> {
    fn insert(&mut self, methods: &[Method], target: T) {
        if methods.is_empty() {
            self.any = Some(target);
            return;
        }
        self.named.extend(methods.iter().map(|method| (method.clone(), target.clone())));
    }

    /// The methods there is a route for, sorted.
    fn named(&self) -> Vec<Method> {
        let mut methods: Vec<Method> = self.named.iter().map(|(method, _)| method.clone()).collect();
        methods.sort_by(|left, right| left.as_str().cmp(right.as_str()));
        methods
    }

    /// A route for GET also serves HEAD, unless HEAD has its own (RFC 9110 §9.3.2).
    fn get(&self, method: &Method) -> Option<&T> {
        let named =
            |method: &Method| self.named.iter().find(|(candidate, _)| candidate == method).map(|(_, target)| target);
        let by_name = named(method).or_else(|| if method == Method::HEAD { named(&Method::GET) } else { None });
        by_name.or(self.any.as_ref())
    }
}
