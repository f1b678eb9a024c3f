//! Seed: the one account that development starts with, and production refuses.
//!
//! For: the start of the program. May touch: users, hashing.
//! Promises: `admin` with the known password is made only in development and only in an empty database; production does
//! not start while it works, nor with the development signing key. Read next: `app.rs`.

use common::access::Role;
use common::secret::Secret;

use super::{AuthError, Hasher, SigningKeys};
use crate::base::ids;
use crate::config::Environment;
use crate::storage::{NewUser, Store};

/// The seeded account.
pub const ADMIN_NAME: &str = "admin";

/// The password that everybody knows.
const ADMIN_PASSWORD: &str = "admin123";

/// Why the program does not start.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// Production with the key that is in the source code.
    #[error("auth.signing_keys holds the development key, which everybody knows: production needs its own")]
    DevelopmentKey,
    /// Production with the password that is in the documentation.
    #[error("user {ADMIN_NAME:?} still has the development password: change it before running in production")]
    DevelopmentPassword,
    /// The check itself failed.
    #[error("the development account cannot be checked")]
    Check(#[from] AuthError),
}

/// Seeds in development, refuses in production.
///
/// # Errors
/// `SeedError`, which says what to do.
pub async fn check_seed(
    environment: Environment,
    store: &Store,
    hasher: &Hasher,
    keys: &SigningKeys,
    now: i64,
) -> Result<(), SeedError> {
    match environment {
        Environment::Development => seed(store, hasher, keys, now).await.map_err(SeedError::Check),
        Environment::Production => refuse(store, hasher, keys).await,
    }
}

async fn seed(store: &Store, hasher: &Hasher, keys: &SigningKeys, now: i64) -> Result<(), AuthError> {
    if keys.uses_development_key() {
        tracing::warn!("DEVELOPMENT: tokens are signed with a key that everybody knows");
    }
    if store.user_exists_any().await? {
        return Ok(());
    }
    let hash = hasher.hash(Secret::new(ADMIN_PASSWORD.to_owned())).await?;
    let id = ids::new_id();
    let admin = NewUser { id: &id, name: ADMIN_NAME, password_hash: &hash, role: Role::Admin, created_at: now };
    if store.user_create_first(admin).await? {
        tracing::warn!("DEVELOPMENT: made user {ADMIN_NAME:?} with password {ADMIN_PASSWORD:?}");
    }
    Ok(())
}

async fn refuse(store: &Store, hasher: &Hasher, keys: &SigningKeys) -> Result<(), SeedError> {
    if keys.uses_development_key() {
        return Err(SeedError::DevelopmentKey);
    }
    let Some(admin) = store.user_by_name(ADMIN_NAME).await.map_err(AuthError::from)? else { return Ok(()) };
    let password = Secret::new(ADMIN_PASSWORD.to_owned());
    let known = hasher.verify(password, Some(admin.password_hash)).await.map_err(AuthError::from)?;
    if known { Err(SeedError::DevelopmentPassword) } else { Ok(()) }
}
