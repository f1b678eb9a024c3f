//! Users: accounts and their roles.
//!
//! For: making, finding and listing accounts. May touch: `storage`, hashing, audit.
//! Promises: names are compared in lower case; whoever makes or changes a user gives no more than they have, at that very
//! moment, and cannot shut themselves out, nor two each other; a change ends the user's access tokens everywhere within a
//! second, those that were on their way while it was made included.
//! Read next: `storage/users.rs`.

use std::sync::Arc;

use common::access::{Permission, Role};
use common::clock::Clock;
use common::secret::Secret;
use serde::{Deserialize, Serialize};

use super::idempotency::{check_key, check_same};
use super::{Audit, AuthError, Caller, Client, Hasher, Withdrawals, password};
use crate::base::digest::sha256_of_parts;
use crate::base::ids;
use crate::base::time::now_seconds;
use crate::storage::{
    AuditKind, NewRequest, NewUser, RequestKey, RequestRow, StorageError, Store, UserChange, UserChanged, UserMade,
    UserRow,
};

/// The longest user name, in characters.
pub(super) const NAME_CHARS_MAX: usize = 64;

/// By what requests for new users are known, beside their keys.
const CREATE: &str = "user_create";

/// A user, without what is secret of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The stable id.
    pub id: String,
    /// In lower case.
    pub name: String,
    /// What the user is.
    pub role: Role,
    /// In seconds of the Unix epoch.
    pub created_at: i64,
    /// In seconds of the Unix epoch; not disabled, if `None`.
    pub disabled_at: Option<i64>,
}

/// What to change of a user. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct UserEdit {
    /// What the user is.
    pub role: Option<Role>,
    /// What the user logs in with.
    pub password: Option<Secret>,
    /// Whether the user is kept out.
    pub disabled: Option<bool>,
}

/// Everything accounts need.
pub struct Users {
    /// Where they are kept.
    pub store: Store,
    /// Hashes passwords.
    pub hasher: Arc<Hasher>,
    /// Writes events down.
    pub audit: Audit,
    /// Takes access tokens back.
    pub withdrawals: Arc<Withdrawals>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self { id: row.id, name: row.name, role: row.role, created_at: row.created_at, disabled_at: row.disabled_at }
    }
}

impl Users {
    /// Makes a user on behalf of a caller.
    ///
    /// # Errors
    /// `GrantExceeded` when the role grants more than the caller has, `PermissionMissing` when somebody has changed the
    /// caller's; `Input`, `NameTaken`, `Overloaded`, or that the database failed.
    pub async fn create_for(
        &self,
        caller: &Caller,
        name: &str,
        password: Secret,
        role: Role,
        client: &Client<'_>,
    ) -> Result<User, AuthError> {
        caller.may_grant(role.permissions())?;
        let user = self.create(name, password, role, Some(&caller.subject)).await?;
        self.audit.note(AuditKind::UserCreated, &caller.subject, Some(client), Some(&user.id)).await;
        Ok(user)
    }

    /// Makes a user on behalf of a caller, once: the same request under the same key within a day gives the user as it was
    /// made.
    ///
    /// # Errors
    /// `RequestKeyReused` for another request under the same key; else as `create_for`.
    pub async fn create_once_for(
        &self,
        caller: &Caller,
        key: &str,
        (name, password, role): (&str, Secret, Role),
        client: &Client<'_>,
    ) -> Result<User, AuthError> {
        check_key(key)?;
        caller.may_grant(role.permissions())?;
        let name = normal_name(name);
        check_name(&name)?;
        password::check_new(&password).map_err(|why| AuthError::Input { field: "password", why })?;
        let key = RequestKey { subject: &caller.subject, route: CREATE, key };
        let body_hash = sha256_of_parts(&[name.as_bytes(), role.as_str().as_bytes()]);
        let created_at = now_seconds(&*self.clock);
        if let Some(done) = self.store.request_by_key(key, created_at).await? {
            return self.made_before(done, &body_hash, password).await;
        }
        let hash = self.hasher.hash(password.clone()).await?;
        let user = User { id: ids::new_id(), name, role, created_at, disabled_at: None };
        let answer = serde_json::to_string(&user).map_err(AuthError::Unsound)?;
        let row = NewUser { id: &user.id, name: &user.name, password_hash: &hash, role, created_at };
        let (secret_hash, answer) = (Some(hash.as_str()), answer.as_str());
        let request = NewRequest { key, body_hash: &body_hash, secret_hash, answer, at: created_at };
        match self.store.user_create_for(row, &caller.subject, Some(request)).await {
            Ok(UserMade::NotAllowed) => Err(not_any_more()),
            Ok(UserMade::Made) => {
                self.audit.note(AuditKind::UserCreated, &caller.subject, Some(client), Some(&user.id)).await;
                Ok(user)
            }
            // Somebody has sent the same at the same moment.
            Ok(UserMade::Known) => match self.store.request_by_key(key, created_at).await? {
                Some(done) => self.made_before(done, &body_hash, password).await,
                None => Err(AuthError::RequestKeyReused),
            },
            Err(StorageError::Taken { .. }) => Err(AuthError::NameTaken),
            Err(error) => Err(error.into()),
        }
    }

    /// The user that a request has made before, if this is the same request.
    async fn made_before(&self, done: RequestRow, body_hash: &[u8], password: Secret) -> Result<User, AuthError> {
        check_same(&done, body_hash)?;
        if !self.hasher.verify(password, done.secret_hash).await? {
            return Err(AuthError::RequestKeyReused);
        }
        serde_json::from_str(&done.answer).map_err(AuthError::Unsound)
    }

    /// Makes a user on behalf of whoever runs the program.
    ///
    /// # Errors
    /// `Input`, `NameTaken`, `Overloaded`, or that the database failed.
    pub async fn create_by_operator(&self, name: &str, password: Secret, role: Role) -> Result<User, AuthError> {
        let user = self.create(name, password, role, None).await?;
        self.audit.note(AuditKind::UserCreated, "operator", None, Some(&user.id)).await;
        Ok(user)
    }

    async fn create(&self, name: &str, password: Secret, role: Role, by: Option<&str>) -> Result<User, AuthError> {
        let name = normal_name(name);
        check_name(&name)?;
        password::check_new(&password).map_err(|why| AuthError::Input { field: "password", why })?;
        let hash = self.hasher.hash(password).await?;
        let user = User { id: ids::new_id(), name, role, created_at: now_seconds(&*self.clock), disabled_at: None };
        let row = NewUser { id: &user.id, name: &user.name, password_hash: &hash, role, created_at: user.created_at };
        let made = match by {
            Some(by) => self.store.user_create_for(row, by, None).await,
            None => self.store.user_create(row).await.map(|()| UserMade::Made),
        };
        match made {
            Ok(UserMade::NotAllowed) => Err(not_any_more()),
            Ok(UserMade::Made | UserMade::Known) => Ok(user),
            Err(StorageError::Taken { .. }) => Err(AuthError::NameTaken),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes a user on behalf of a caller. Access tokens that were issued until now do not hold any more; who is
    /// disabled or gets another password must log in again.
    ///
    /// # Errors
    /// `NotFound`; `GrantExceeded` when the user is, or should be, allowed more than the caller; `OwnAccount` when the
    /// caller would shut themselves out; `ChangedMeanwhile` when somebody else has changed the user's role;
    /// `PermissionMissing` when somebody has changed the caller's; `Input`, `Overloaded`, or that the database failed.
    pub async fn change_for(
        &self,
        caller: &Caller,
        id: &str,
        edit: UserEdit,
        client: &Client<'_>,
    ) -> Result<User, AuthError> {
        if edit.role.is_none() && edit.password.is_none() && edit.disabled.is_none() {
            return Err(AuthError::Input { field: "role, password or disabled", why: "must be there".into() });
        }
        let user = self.get(id).await?;
        // Whoever may set the password of an account may log in to it.
        caller.may_grant(user.role.permissions())?;
        caller.may_grant(edit.role.unwrap_or(user.role).permissions())?;
        let loses = edit.disabled == Some(true) || edit.role.is_some_and(|role| role != user.role);
        if caller.subject == user.id && loses {
            return Err(AuthError::OwnAccount);
        }
        let password_hash = match edit.password {
            Some(password) => {
                password::check_new(&password).map_err(|why| AuthError::Input { field: "password", why })?;
                Some(self.hasher.hash(password).await?)
            }
            None => None,
        };
        let change = UserChange { role: edit.role, password_hash: password_hash.as_deref(), disabled: edit.disabled };
        let ended = || self.withdrawals.of_subject(id);
        let changed = match self.store.user_change(id, user.role, &caller.subject, change, ended).await? {
            UserChanged::Changed(changed, ended) => {
                self.withdrawals.note(&ended);
                changed
            }
            UserChanged::Otherwise => return Err(AuthError::ChangedMeanwhile),
            UserChanged::NotAllowed => return Err(not_any_more()),
            UserChanged::NotThere => return Err(AuthError::NotFound),
        };
        self.audit.note(AuditKind::UserChanged, &caller.subject, Some(client), Some(id)).await;
        Ok(changed.into())
    }

    /// The user of this id.
    ///
    /// # Errors
    /// `NotFound`, or that the database failed.
    pub async fn get(&self, id: &str) -> Result<User, AuthError> {
        if !ids::may_be_one(id) {
            return Err(AuthError::NotFound);
        }
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

/// Who asks has been changed since their token was issued.
fn not_any_more() -> AuthError {
    AuthError::PermissionMissing { missing: Permission::Admin }
}

/// Names are compared in lower case, without the spaces around them that forms collect.
pub(super) fn normal_name(name: &str) -> String {
    name.trim().to_ascii_lowercase()
}

/// Refuses a name that nobody can have.
pub(super) fn check_name(name: &str) -> Result<(), AuthError> {
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
