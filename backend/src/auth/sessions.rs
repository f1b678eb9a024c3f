//! Sessions: logging in, staying in, getting out.
//!
//! For: `/auth/login`, `/auth/refresh` and `/auth/logout`. May touch: users, hashing, tokens, throttle, audit.
//! Promises: a wrong password and an unknown user get the same answer after the same time; a refresh token works once,
//! and its second use ends the session for whoever holds a copy; whoever is changed or kept out meanwhile gets no token
//! that outlives that.
//! Read next: `storage/refresh_tokens.rs`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::access::scope_of;
use common::clock::Clock;
use common::secret::Secret;

use super::throttle::Attempt;
use super::users::{check_name, normal_name};
use super::{Audit, AuthError, Client, Hasher, Throttle, Tokens, Withdrawals, password};
use crate::base::digest::sha256;
use crate::base::ids;
use crate::base::metrics::{LoginOutcome, Metrics};
use crate::base::time::{now_seconds, to_signed, to_unsigned};
use crate::storage::{AuditKind, NewRefreshToken, Rotation, Standing, Store, UserRow};

/// Random bytes of a refresh token: 256 bits, so that a plain SHA-256 at rest is enough.
const REFRESH_TOKEN_BYTES: usize = 32;
/// The longest text that is looked up as a refresh token, in bytes.
const REFRESH_TOKEN_CHARS_MAX: usize = 128;

/// What a login gives.
pub struct TokenPair {
    /// For every request.
    pub access_token: Secret,
    /// How long the access token holds, in seconds.
    pub expires_in: u64,
    /// For the next access token, once.
    pub refresh_token: Secret,
    /// What the access token allows, separated by spaces.
    pub scope: String,
}

/// Everything a session needs.
pub struct Sessions {
    /// Users and refresh tokens.
    pub store: Store,
    /// Checks passwords.
    pub hasher: Arc<Hasher>,
    /// Issues access tokens.
    pub tokens: Arc<Tokens>,
    /// Takes access tokens back.
    pub withdrawals: Arc<Withdrawals>,
    /// Counts failures.
    pub throttle: Throttle,
    /// Writes events down.
    pub audit: Audit,
    /// Counts outcomes.
    pub metrics: Metrics,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// How long a refresh token holds.
    pub refresh_ttl: Duration,
}

impl Sessions {
    /// Opens a session.
    ///
    /// # Errors
    /// `LoginFailed`, `LoginThrottled`, `Overloaded`, or that the database or a key failed.
    pub async fn login(&self, name: &str, password: Secret, client: &Client<'_>) -> Result<TokenPair, AuthError> {
        let name = normal_name(name);
        let attempt = self.admit(&name, client).await?;
        let checked = self.check(&name, password).await;
        // Only a wrong name or password uses the attempt up: our own failures are not the client's.
        if !matches!(checked, Ok(None)) {
            self.throttle.give_back(&attempt);
        }
        let opened = match checked? {
            Some(user) => self.open(user).await?,
            None => None,
        };
        let Some((user_id, pair)) = opened else {
            self.metrics.login(LoginOutcome::Failed);
            self.audit.note(AuditKind::LoginFailed, &name, Some(client), None).await;
            return Err(AuthError::LoginFailed);
        };
        self.metrics.login(LoginOutcome::Ok);
        self.audit.note(AuditKind::LoginOk, &user_id, Some(client), None).await;
        Ok(pair)
    }

    /// Trades a refresh token for a new pair.
    ///
    /// # Errors
    /// `RefreshInvalid`, or that the database or a key failed.
    pub async fn refresh(&self, refresh_token: &Secret, client: &Client<'_>) -> Result<TokenPair, AuthError> {
        let hash = self.kept_hash(refresh_token).await?.ok_or(AuthError::RefreshInvalid)?;
        let next = self.new_refresh_token();
        match self.store.refresh_token_rotate(&hash, next.row()).await? {
            // The role may have changed since the login.
            Rotation::Rotated { user_id, standing } => self.pair(&user_id, standing, next),
            Rotation::Reused { user_id } => {
                tracing::warn!(subject = user_id, client = %client.address, "a spent refresh token was sent again");
                self.audit.note(AuditKind::RefreshReused, &user_id, Some(client), None).await;
                Err(AuthError::RefreshInvalid)
            }
            Rotation::Refused => Err(AuthError::RefreshInvalid),
        }
    }

    /// Ends the session of a refresh token. A token that is none, or none any more, is no error: the session is over
    /// either way (RFC 7009 §2.2). The access token that is shown with it, if any, is withdrawn.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn logout(
        &self,
        refresh_token: &Secret,
        access_token: Option<&str>,
        client: &Client<'_>,
    ) -> Result<(), AuthError> {
        let shown = access_token.and_then(|token| self.tokens.shown(token));
        if let Some(shown) = &shown {
            self.withdrawals.withdraw_token(&shown.id, to_signed(shown.ends)).await?;
        }
        let family_of = match self.kept_hash(refresh_token).await? {
            Some(hash) => self.store.refresh_family_revoke(&hash, now_seconds(&*self.clock)).await?,
            None => None,
        };
        if let Some(user_id) = family_of.or(shown.map(|shown| shown.subject)) {
            self.audit.note(AuditKind::Logout, &user_id, Some(client), None).await;
        }
        Ok(())
    }

    async fn admit(&self, name: &str, client: &Client<'_>) -> Result<Attempt, AuthError> {
        match self.throttle.admit(name, client.address) {
            Ok(attempt) => Ok(attempt),
            Err(throttled) => {
                self.metrics.login(LoginOutcome::Throttled);
                if throttled.first {
                    self.audit.note(AuditKind::LoginThrottled, name, Some(client), None).await;
                }
                Err(throttled.into())
            }
        }
    }

    /// The user, when the password is right.
    async fn check(&self, name: &str, password: Secret) -> Result<Option<UserRow>, AuthError> {
        // Postgres cannot even be asked for some of the names that nobody can have.
        let user = match check_name(name) {
            Ok(()) => self.store.user_by_name(name).await?,
            Err(_) => None,
        };
        // A text that cannot be a password is not hashed at its length, but the time is spent all the same.
        let (password, hash) = if password::fits(&password) {
            (password, user.as_ref().map(|user| user.password_hash.clone()))
        } else {
            (Secret::new(String::new()), None)
        };
        let right = self.hasher.verify(password, hash).await?;
        // Who is kept out learns no more than that name and password do not let anybody in.
        Ok(user.filter(|user| right && user.disabled_at.is_none()))
    }

    /// Opens a session, and says whose; `None` when the user was kept out, or given another password, while this one was
    /// checked.
    async fn open(&self, user: UserRow) -> Result<Option<(String, TokenPair)>, AuthError> {
        let first = self.new_refresh_token();
        let standing = self.store.refresh_family_create(&ids::new_id(), &user, first.row()).await?;
        let Some(standing) = standing else { return Ok(None) };
        let pair = self.pair(&user.id, standing, first)?;
        Ok(Some((user.id, pair)))
    }

    fn pair(&self, user_id: &str, standing: Standing, refresh: FreshToken) -> Result<TokenPair, AuthError> {
        // Who was changed in this very second goes on with a token of the next one.
        let issued_at = to_unsigned(refresh.issued_at.max(standing.issued_from));
        Ok(TokenPair {
            access_token: self.tokens.issue(user_id, standing.role, issued_at)?,
            expires_in: self.tokens.ttl_seconds(),
            refresh_token: refresh.token,
            scope: scope_of(standing.role.permissions()),
        })
    }

    /// What a refresh token is looked up by, if it was ever one.
    async fn kept_hash(&self, token: &Secret) -> Result<Option<[u8; 32]>, AuthError> {
        let Some(hash) = refresh_hash(token) else { return Ok(None) };
        Ok(self.store.refresh_token_is_known(&hash).await?.then_some(hash))
    }

    fn new_refresh_token(&self) -> FreshToken {
        let random: [u8; REFRESH_TOKEN_BYTES] = rand::random();
        let token = Secret::new(URL_SAFE_NO_PAD.encode(random));
        let issued_at = now_seconds(&*self.clock);
        FreshToken {
            hash: sha256(token.expose().as_bytes()),
            token,
            issued_at,
            expires_at: issued_at.saturating_add(to_signed(self.refresh_ttl.as_secs())),
        }
    }
}

/// A refresh token that was just made.
struct FreshToken {
    token: Secret,
    hash: [u8; 32],
    issued_at: i64,
    expires_at: i64,
}

impl FreshToken {
    fn row(&self) -> NewRefreshToken<'_> {
        NewRefreshToken { token_hash: &self.hash, issued_at: self.issued_at, expires_at: self.expires_at }
    }
}

/// What a refresh token is looked up by; `None` for a text that is too long to be one.
fn refresh_hash(token: &Secret) -> Option<[u8; 32]> {
    let text = token.expose();
    (!text.is_empty() && text.len() <= REFRESH_TOKEN_CHARS_MAX).then(|| sha256(text.as_bytes()))
}
