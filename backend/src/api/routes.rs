//! Routes: a router that remembers its paths.
//!
//! For: the door, whose routes are held against their description. May touch: nothing.
//! Promises: what it remembers is what it serves, in the order in which it was told. Read next: `openapi/mod.rs`.

use std::sync::Arc;

use axum::Router;
use axum::routing::MethodRouter;

use super::Services;

/// A router, and its paths.
#[derive(Default)]
pub(super) struct Routes {
    router: Router<Arc<Services>>,
    paths: Vec<&'static str>,
}

impl Routes {
    /// Serves this path too.
    pub(super) fn route(mut self, path: &'static str, methods: MethodRouter<Arc<Services>>) -> Self {
        self.paths.push(path);
        Self { router: self.router.route(path, methods), paths: self.paths }
    }

    /// What serves them.
    pub(super) fn into_router(self) -> Router<Arc<Services>> {
        tracing::debug!(routes = self.paths.len(), "the public API is put together");
        self.router
    }

    /// Every path, in the router's own notation.
    #[cfg(test)]
    pub(super) fn paths(&self) -> &[&'static str] {
        &self.paths
    }
}
