//! Authorize: may this caller use this route?

use std::sync::Arc;

use common::code::Code;

use super::identity::{Identity, Method};
use crate::base::refusal::{Advice, Challenge, Refusal};
use crate::stages::plan::Route;

/// The proof that a caller may use the route. Only `permit` makes one.
#[derive(Debug)]
pub(crate) struct Permit {
    identity: Option<Arc<Identity>>,
}

/// Checks the route's permissions. A public route asks for none, and its callers have no identity.
///
/// # Errors
/// 403 naming the first permission that is missing.
pub(crate) fn permit(identity: Option<Arc<Identity>>, route: &Route) -> Result<Permit, Refusal> {
    let missing = match &identity {
        // The configuration refuses `require` on a public route; without an identity nothing can be had anyway.
        None => route.require.first(),
        Some(identity) => route.require.iter().find(|permission| !identity.has_permission(permission)),
    };
    match missing {
        None => Ok(Permit { identity }),
        Some(permission) => {
            let refusal = Refusal::new(Code::PermissionMissing).detail(format!("permission {permission} is needed"));
            let by_token = identity.is_some_and(|identity| identity.method == Method::Jwt);
            Err(if by_token { refusal.advice(Advice::Authenticate(vec![Challenge::BearerScope])) } else { refusal })
        }
    }
}

impl Permit {
    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }
}
