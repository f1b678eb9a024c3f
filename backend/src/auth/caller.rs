//! Caller: what a verified credential proves.
//!
//! For: every handler that needs to know who asks. May touch: nothing.
//! Promises: a `Caller` is made only from a verified access token or API key; it holds permissions that the system knows.
//! Read next: `tokens.rs` and `api_keys.rs`, which make one.

use common::access::Permission;

use super::AuthError;

/// How the caller showed who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By an access token.
    Jwt,
    /// By an API key.
    ApiKey,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's stable id.
    pub subject: String,
    /// The user's roles.
    pub roles: Vec<String>,
    /// What may be done: the user's permissions, or fewer when a key was given fewer.
    pub permissions: Vec<Permission>,
    /// How the caller showed it.
    pub method: Method,
    /// The public id of the API key, if it was one.
    pub key_id: Option<String>,
    /// When that key ends, or its secret that was shown, in seconds of the Unix epoch, if one does.
    pub key_ends_at: Option<i64>,
}

impl Method {
    /// The word used in answers and in `X-Auth-Method`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
        }
    }
}

impl Caller {
    /// Whether the caller may do this.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    /// Refuses unless the caller has all of them.
    ///
    /// # Errors
    /// `AuthError::PermissionMissing` with the first that is missing.
    pub fn require(&self, needed: &[Permission]) -> Result<(), AuthError> {
        match needed.iter().find(|permission| !self.may(**permission)) {
            Some(missing) => Err(AuthError::PermissionMissing { missing: *missing }),
            None => Ok(()),
        }
    }

    /// Refuses to give what the caller does not have.
    ///
    /// # Errors
    /// `AuthError::GrantExceeded` with the first that is too much.
    pub fn may_grant(&self, granted: &[Permission]) -> Result<(), AuthError> {
        match granted.iter().find(|permission| !self.may(**permission)) {
            Some(permission) => Err(AuthError::GrantExceeded { permission: *permission }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_missing_permission_is_named() {
        let caller = Caller {
            subject: "u".into(),
            roles: vec!["readonly".into()],
            permissions: vec![Permission::Read, Permission::ApiAccess],
            method: Method::Jwt,
            key_id: None,
            key_ends_at: None,
        };
        assert!(caller.require(&[Permission::Read, Permission::ApiAccess]).is_ok());
        assert!(matches!(
            caller.require(&[Permission::Read, Permission::Execute, Permission::Admin]),
            Err(AuthError::PermissionMissing { missing: Permission::Execute })
        ));
        assert!(matches!(
            caller.may_grant(&[Permission::Admin]),
            Err(AuthError::GrantExceeded { permission: Permission::Admin })
        ));
    }
}
