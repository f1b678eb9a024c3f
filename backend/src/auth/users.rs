//! Users: accounts and their roles.
//!
//! For: making, finding and listing accounts. May touch: `storage`, hashing, audit.
//! Promises: names are compared in lower case; whoever makes a user gives no more than they have.
//! Read next: `storage/users.rs`.

use std::sync::Arc;

use common::access::Role;
use common::clock::Clock;
use common::secret::Secret;

use super::{Audit, AuthError, Caller, Client, Hasher, password};
use crate::base::ids;
use crate::base::time::now_seconds;
use crate::storage::{AuditKind, NewUser, StorageError, Store, UserRow};

/// The longest user name, in characters.
pub(super) const NAME_CHARS_MAX: usize = 64;

/// A user, without what is secret of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The stable id.
    pub id: String,
    /// In lower case.
    pub name: String,
    /// What the user is.
    pub role: Role,
    /// In seconds of the Unix epoch.
    pub created_at: i64,
}

/// Everything accounts need.
pub struct Users {
    /// Where they are kept.
    pub store: Store,
    /// Hashes passwords.
    pub hasher: Arc<Hasher>,
    /// Writes events down.
    pub audit: Audit,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self { id: row.id, name: row.name, role: row.role, created_at: row.created_at }
    }
}

impl Users {
    /// Makes a user on behalf of a caller.
    ///
    /// # Errors
    /// `GrantExceeded` when the role grants more than the caller has; else as `create`.
    pub async fn create_for(
        &self,
        caller: &Caller,
        name: &str,
        password: Secret,
        role: Role,
        client: &Client<'_>,
    ) -> Result<User, AuthError> {
        caller.may_grant(role.permissions())?;
        let user = self.create(name, password, role).await?;
        self.audit.note(AuditKind::UserCreated, &caller.subject, Some(client), Some(&user.id)).await;
        Ok(user)
    }

    /// Makes a user on behalf of whoever runs the program.
    ///
    /// # Errors
    /// As `create`.
    pub async fn create_by_operator(&self, name: &str, password: Secret, role: Role) -> Result<User, AuthError> {
        let user = self.create(name, password, role).await?;
        self.audit.note(AuditKind::UserCreated, "operator", None, Some(&user.id)).await;
        Ok(user)
    }

    async fn create(&self, name: &str, password: Secret, role: Role) -> Result<User, AuthError> {
        let name = normal_name(name);
        check_name(&name)?;
        password::check_new(&password).map_err(|why| AuthError::Input { field: "password", why })?;
        let hash = self.hasher.hash(password).await?;
        let user = User { id: ids::new_id(), name, role, created_at: now_seconds(&*self.clock) };
        let row = NewUser { id: &user.id, name: &user.name, password_hash: &hash, role, created_at: user.created_at };
        match self.store.user_create(row).await {
            Ok(()) => Ok(user),
            Err(StorageError::Taken { .. }) => Err(AuthError::NameTaken),
            Err(error) => Err(error.into()),
        }
    }

    /// The user of this id.
    ///
    /// # Errors
    /// `NotFound`, or that the database failed.
    pub async fn get(&self, id: &str) -> Result<User, AuthError> {
        self.store.user_by_id(id).await?.map(User::from).ok_or(AuthError::NotFound)
    }

    /// Up to `limit` users that were made after the one with this id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<User>, AuthError> {
        Ok(self.store.user_list(after, limit).await?.into_iter().map(User::from).collect())
    }
}

/// Names are compared in lower case, without the spaces around them that forms collect.
pub(super) fn normal_name(name: &str) -> String {
    name.trim().to_ascii_lowercase()
}

fn check_name(name: &str) -> Result<(), AuthError> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-' | b'@');
    if (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    let why = format!("must have 1 to {NAME_CHARS_MAX} letters, digits, \".\", \"_\", \"-\" or \"@\"");
    Err(AuthError::Input { field: "username", why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_compared_in_lower_case() {
        assert_eq!(normal_name(" Ann "), "ann");
        let longest = "a".repeat(NAME_CHARS_MAX);
        for name in ["ann", "ann.b@example.org", "a-1_2", &longest] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let too_long = "a".repeat(NAME_CHARS_MAX + 1);
        for name in ["", "ann b", "änn", "ann\n", "a/b", &too_long] {
            assert!(matches!(check_name(name), Err(AuthError::Input { field: "username", .. })), "{name:?}");
        }
    }
}
