//! Auth: who is calling, and what they may do.
//!
//! For: accounts, passwords, access and refresh tokens, API keys, and the log of security events.
//! May touch: `storage`, `config`, `base`. It knows nothing of HTTP, so that the command line uses it too.
//! Promises: a refusal never tells whether the name or the password was wrong, nor what is wrong with a key; passwords,
//! tokens and key secrets are kept only as hashes and never print; a grant never exceeds whoever gives it.
//! Read next: `caller.rs` for what a verified credential proves, then `sessions.rs` for a login step by step.

mod api_keys;
mod audit;
mod caller;
mod error;
mod idempotency;
mod jwks;
mod keyring;
mod last_used;
mod password;
mod seal;
mod seed;
mod sessions;
mod throttle;
mod tokens;
mod users;
mod withdrawals;

pub use api_keys::{ApiKeyInput, ApiKeys, CreatedKey, KEYS_PER_USER_MAX, ListedKey, OLD_SECRET_HOURS_MAX};
pub use audit::{Audit, Client, EventsWanted, ListedEvent, event_kinds};
pub use caller::{Caller, Method};
pub use error::AuthError;
pub use jwks::{DEVELOPMENT_KEY_ID, SigningKeyError, SigningKeys};
pub use keyring::{KEYS_PERIOD, KeyState, Keyring, KeyringError, ListedSigningKey};
pub use last_used::{FLUSH_PERIOD, LastUsed};
pub use password::{Hasher, PasswordError};
pub use seed::{ADMIN_NAME, SeedError, check_seed};
pub use sessions::{Sessions, TokenPair};
pub use throttle::Throttle;
pub use tokens::{TokenError, Tokens};
pub use users::{User, UserEdit, Users};
pub use withdrawals::{FOLLOW_PERIOD, Told, Withdrawals};
