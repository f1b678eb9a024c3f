//! Kubernetes, in a program that was built without it: the same face as `kubernetes/`, and nothing behind it.
//!
//! For: builds without the feature `kubernetes`, so that no caller has to know. May touch: nothing. Promises: a configuration
//! that asks for it does not get here, because it is refused by `config/check_kubernetes.rs`. Read next: `kubernetes/mod.rs`.

use common::settings::Mistake;

use super::Look;
use crate::config::check_upstreams::WITHOUT_KUBERNETES;
use crate::config::checked::{Kubernetes as Settings, Target};

/// A service that cannot be followed.
pub(super) struct Kubernetes;

impl Kubernetes {
    pub(super) fn new(_: Settings) -> Self {
        Self
    }
}

#[async_trait::async_trait]
impl Look for Kubernetes {
    async fn look(&mut self) -> Result<Vec<Target>, String> {
        Err(WITHOUT_KUBERNETES.to_owned())
    }
}

/// Refuses.
///
/// # Errors
/// Always.
pub(super) fn check(settings: &Settings) -> Result<(), Mistake> {
    let at = &settings.service;
    Err(Mistake { position: at.position, path: at.path.clone(), message: WITHOUT_KUBERNETES.to_owned() })
}
