//! Auth errors: why somebody was not let in, or could not be checked.
//!
//! For: `api/error.rs`, the one place that makes HTTP of them. May touch: the errors of this room and of `storage`.
//! Promises: a variant names the step that failed; what a client must not learn is in the cause only.
//! Read next: `api/error.rs`.

use common::access::Permission;

use super::password::PasswordError;
use super::tokens::TokenError;
use crate::storage::StorageError;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The user name or the password is wrong.
    #[error("the user name or the password is wrong")]
    LoginFailed,
    /// Too many failures of this account or from this address.
    #[error("too many failed logins; try again in {retry_after_seconds} s")]
    LoginThrottled {
        /// When failures stop counting.
        retry_after_seconds: u64,
    },
    /// The refresh token is unknown, used up, expired or revoked.
    #[error("the refresh token is not valid")]
    RefreshInvalid,
    /// The access token does not hold.
    #[error("the access token does not hold")]
    Token(#[source] TokenError),
    /// The API key is malformed, unknown, expired or revoked.
    #[error("the API key is not valid")]
    KeyInvalid,
    /// The caller lacks a permission.
    #[error("the permission {missing} is missing")]
    PermissionMissing {
        /// The first one that is.
        missing: Permission,
    },
    /// More would be given than the giver has.
    #[error("{permission} is more than the caller may give")]
    GrantExceeded {
        /// The first one that is too much.
        permission: Permission,
    },
    /// Somebody shows a key, or a secret that was replaced, that ends before the key whose secret they want.
    #[error("a key gives no new secret to one that lasts longer")]
    OutlivesCaller,
    /// A field does not hold what it must.
    #[error("{field} {why}")]
    Input {
        /// Which.
        field: &'static str,
        /// What it must hold.
        why: String,
    },
    /// The user name is taken.
    #[error("the user name is taken")]
    NameTaken,
    /// The owner has as many usable keys as one may have, or has made as many within a day as one may make.
    #[error("the owner has as many API keys as one may have, or has made as many within a day as one may make")]
    KeysFull,
    /// Nobody disables themselves or changes their own role: the last administrator would be locked out.
    #[error("nobody disables their own account or changes its role")]
    OwnAccount,
    /// Somebody else has changed the role in the meantime.
    #[error("the user was changed at the same moment; look again")]
    ChangedMeanwhile,
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request")]
    RequestKeyReused,
    /// The request was done before, and its answer held a secret that is not kept.
    #[error("this request was done before, and the secret in its answer was shown once")]
    SecretShown,
    /// What is kept cannot be read, which is a programming error.
    #[error("what is kept of a request cannot be read")]
    Unsound(#[source] serde_json::Error),
    /// There is no such thing, or it is somebody else's.
    #[error("there is no such thing")]
    NotFound,
    /// All hashing slots and the queue before them are full.
    #[error("too many passwords are being checked")]
    Overloaded,
    /// A password could not be hashed or checked.
    #[error("a password could not be hashed or checked")]
    Hashing(#[source] PasswordError),
    /// A token could not be signed.
    #[error("a token could not be signed")]
    Signing(#[source] jsonwebtoken::errors::Error),
    /// The database failed.
    #[error("the database failed")]
    Storage(#[from] StorageError),
}

impl AuthError {
    /// Whether a part that is needed is away, so that trying later may help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_passing())
    }
}

impl From<PasswordError> for AuthError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Overloaded => Self::Overloaded,
            error => Self::Hashing(error),
        }
    }
}
