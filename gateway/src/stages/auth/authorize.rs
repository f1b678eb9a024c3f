//! Authorize: may this caller use this route?

use std::sync::Arc;

use common::code::Code;
use http::Method as HttpMethod;

use super::identity::{Identity, Method};
use crate::base::refusal::{Advice, Challenge, Refusal};
use crate::config::checked::{Needs, Owner};
use crate::stages::plan::Route;

/// The proof that a caller may use the route. Only this file makes one.
#[derive(Debug)]
pub(crate) struct Permit {
    identity: Option<Arc<Identity>>,
}

/// Checks what the route requires. A public route requires nothing, and its callers have no identity.
///
/// # Errors
/// 403 naming what is missing.
pub(crate) fn permit(
    identity: Option<Arc<Identity>>,
    route: &Route,
    method: &HttpMethod,
    path: &[u8],
) -> Result<Permit, Refusal> {
    let Some(known) = &identity else {
        // The configuration refuses to require anything of nobody. Were it otherwise, nobody would have it.
        return if route.schemes.is_empty() {
            Ok(Permit { identity })
        } else {
            Err(Refusal::new(Code::InternalError))
        };
    };
    let refused = check(known, route, method, path);
    match refused {
        Ok(()) => Ok(Permit { identity }),
        Err(refusal) => {
            let by_token = matches!(known.method, Method::Jwt | Method::Introspection);
            let scope = refusal.code == Code::PermissionMissing && by_token;
            Err(if scope { refusal.advice(Advice::Authenticate(vec![Challenge::BearerScope])) } else { refusal })
        }
    }
}

/// The permit of a request that is refused only for the record, because the rule is only watched.
pub(crate) fn watched(identity: Option<Arc<Identity>>) -> Permit {
    Permit { identity }
}

fn check(identity: &Identity, route: &Route, method: &HttpMethod, path: &[u8]) -> Result<(), Refusal> {
    meets(identity, &route.require.always)?;
    for (_, needs) in route.require.by_method.iter().filter(|(named, _)| named == method) {
        meets(identity, needs)?;
    }
    route.owner.as_ref().map_or(Ok(()), |owner| owns(identity, owner, path))
}

fn meets(identity: &Identity, needs: &Needs) -> Result<(), Refusal> {
    if let Some(missing) = needs.all.iter().find(|permission| !identity.has_permission(permission)) {
        return Err(lacks(format!("permission {missing} is needed")));
    }
    if !needs.any.is_empty() && !needs.any.iter().any(|permission| identity.has_permission(permission)) {
        return Err(lacks(format!("one of the permissions {} is needed", needs.any.join(", "))));
    }
    if !needs.roles.is_empty() && !needs.roles.iter().any(|role| identity.has_role(role)) {
        return Err(lacks(format!("one of the roles {} is needed", needs.roles.join(", "))));
    }
    Ok(())
}

fn lacks(what: String) -> Refusal {
    Refusal::new(Code::PermissionMissing).detail(what)
}

/// Whether the part of the path that names an owner names this caller.
fn owns(identity: &Identity, owner: &Owner, path: &[u8]) -> Result<(), Refusal> {
    if owner.unless.iter().any(|permission| identity.has_permission(permission)) {
        return Ok(());
    }
    let segment = path.split(|byte| *byte == b'/').skip(1).nth(owner.segment).unwrap_or(&[]);
    let fits = identity.claim(&owner.claim).is_some_and(|claim| !claim.is_empty() && decodes_to(segment, claim));
    if fits { Ok(()) } else { Err(Refusal::new(Code::NotOwner)) }
}

/// Whether a part of a path in normal form says this, percent codes read (RFC 3986 §2.1).
fn decodes_to(segment: &[u8], text: &str) -> bool {
    let mut wanted = text.bytes();
    let mut sent = segment.iter().copied();
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    loop {
        let byte = match sent.next() {
            None => return wanted.next().is_none(),
            Some(b'%') => match (digit(sent.next()), digit(sent.next())) {
                (Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
                _ => None,
            },
            Some(byte) => Some(byte),
        };
        if byte.is_none() || byte != wanted.next() {
            return false;
        }
    }
}

impl Permit {
    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(all: &[&str], any: &[&str], roles: &[&str]) -> Needs {
        let shared = |texts: &[&str]| texts.iter().map(|text| Arc::from(*text)).collect();
        Needs { all: shared(all), any: shared(any), roles: shared(roles) }
    }

    #[test]
    fn all_any_and_roles_each_count() {
        let identity = Identity::of("u", Method::Jwt, &["read", "write"], &["user"]).expect("an identity");
        for (needs, passes) in [
            (needs(&[], &[], &[]), true),
            (needs(&["read", "write"], &[], &[]), true),
            (needs(&["read", "admin"], &[], &[]), false),
            (needs(&[], &["admin", "write"], &[]), true),
            (needs(&[], &["admin"], &[]), false),
            (needs(&[], &[], &["admin", "user"]), true),
            (needs(&[], &[], &["admin"]), false),
            (needs(&["read"], &["write"], &["user"]), true),
            (needs(&["read"], &["write"], &["admin"]), false),
        ] {
            assert_eq!(meets(&identity, &needs).is_ok(), passes, "{needs:?}");
        }
    }

    #[test]
    fn the_path_names_the_owner() {
        let identity = Identity::of("a/b é", Method::Jwt, &[], &[]).expect("an identity");
        assert!(identity.claim("sub").is_some());
        let owner = Owner { claim: "sub".into(), segment: 1, unless: ["admin".into()].into() };
        let admin = Identity::of("root", Method::Jwt, &["admin"], &[]).expect("an identity");
        let plain = Identity::of("42", Method::Jwt, &[], &[]).expect("an identity");
        for (identity, path, passes) in [
            (&plain, "/users/42", true),
            (&plain, "/users/42/keys", true),
            (&plain, "/users/4", false),
            (&plain, "/users/422", false),
            (&plain, "/users", false),
            (&plain, "/42/users", false),
            (&admin, "/users/42", true),
            (&identity, "/users/a%2Fb%20%C3%A9", true),
            (&identity, "/users/a%2Fb%20%C3", false),
            (&identity, "/users/a%", false),
        ] {
            assert_eq!(owns(identity, &owner, path.as_bytes()).is_ok(), passes, "{path}");
        }
    }
}
