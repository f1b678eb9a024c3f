//! Basic: user name and password with every request (RFC 7617), against hashes in a file.
//!
//! Hashing is slow by intent: it is done away from the threads that carry traffic, for few at a time, and a password that was
//! right is remembered for a while by a keyed hash that means nothing outside this process. An unknown user costs as much time
//! as a wrong password.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use argon2::{Argon2, PasswordHash, PasswordVerifier as _};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::code::Code;
use common::secret::Secret;
use common::section;
use common::settings::{self, At, Decoder, Report};
use tokio::sync::Semaphore;

use super::identity::{Identity, Method, Proof};
use crate::base::refusal::{Advice, Challenge, Refusal};
use crate::config::checked::Basic;

/// The longest credential that is looked at, in bytes.
const CREDENTIAL_BYTES_MAX: usize = 1024;

/// Passwords remembered at a time.
const REMEMBERED_MAX: u64 = 10_000;

/// Those that may wait for one place to hash.
const WAITING_PER_PLACE: usize = 10;

section! {
    /// A file of users.
    pub(crate) struct UserFile {
        /// The users.
        pub users: Vec<UserEntry> => "list the users",
    }
}

section! {
    /// A user, as kept.
    pub(crate) struct UserEntry {
        /// The name.
        pub name: At<String> => "say the user's name",
        /// The password's hash, by argon2id in PHC form or by bcrypt.
        pub password_hash: At<String> => "say the password's hash",
        /// What the user may do.
        pub permissions: Vec<String> = "[]",
        /// What the user is.
        pub roles: Vec<String> = "[]",
    }
}

/// A user that can be checked.
#[derive(Clone)]
struct User {
    identity: Arc<Identity>,
    hash: Hash,
}

/// How a password is kept.
#[derive(Clone)]
enum Hash {
    Argon2(Arc<str>),
    Bcrypt(Arc<str>),
}

/// The users of one file.
pub(crate) struct Users {
    by_name: HashMap<String, User>,
    /// What is hashed for a name that nobody has.
    nobody: Option<Hash>,
}

/// Checks names and passwords.
pub(crate) struct BasicVerifier {
    users: Users,
    realm: Arc<str>,
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    key: hmac::Key,
    known: moka::sync::Cache<[u8; 32], Arc<Identity>>,
}

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    /// Every mistake, with its place.
    pub(crate) fn read(path: &Path) -> Result<Self, Report> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Report::unreadable(&name, &error))?;
        settings::load_literal(&name, &text, |file: UserFile, decoder| Some(check(file, decoder)))
    }
}

fn check(file: UserFile, decoder: &mut Decoder) -> Users {
    let mut by_name = HashMap::new();
    for entry in file.users {
        let name = entry.name.clone();
        if name.value.contains(':') {
            decoder.mistake_at(&name, "a user's name has no \":\" (RFC 7617 §2)");
        }
        if let Some(user) = check_user(&entry, decoder)
            && by_name.insert(name.value.clone(), user).is_some()
        {
            decoder.mistake_at(&name, format!("user {:?} is listed twice", name.value));
        }
    }
    let nobody = by_name.values().next().map(|user: &User| user.hash.clone());
    Users { by_name, nobody }
}

fn check_user(entry: &UserEntry, decoder: &mut Decoder) -> Option<User> {
    let text = &entry.password_hash.value;
    let hash = if PasswordHash::new(text).is_ok_and(|hash| hash.algorithm.as_str() == "argon2id") {
        Hash::Argon2(text.as_str().into())
    } else if text.parse::<bcrypt::HashParts>().is_ok() {
        Hash::Bcrypt(text.as_str().into())
    } else {
        // The text is not repeated: it may be the password itself.
        decoder.mistake_at(&entry.password_hash, "is no hash by argon2id ($argon2id$…) or bcrypt ($2b$…)");
        return None;
    };
    let permissions: Vec<&str> = entry.permissions.iter().map(String::as_str).collect();
    let roles: Vec<&str> = entry.roles.iter().map(String::as_str).collect();
    let proof = Proof { subject: &entry.name.value, permissions: &permissions, roles: &roles, ..Proof::default() };
    match Identity::new(Method::Basic, proof) {
        Some(identity) => Some(User { identity: Arc::new(identity), hash }),
        None => {
            let message = "the name is empty, or a permission or role holds what separates it from the next";
            decoder.mistake_at(&entry.name, message);
            None
        }
    }
}

impl Hash {
    fn fits(&self, password: &str) -> bool {
        match self {
            Self::Argon2(text) => PasswordHash::new(text)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
            // One that is longer than bcrypt looks at would pass with any end.
            Self::Bcrypt(text) => bcrypt::non_truncating_verify(password, text).unwrap_or(false),
        }
    }
}

impl BasicVerifier {
    pub(super) fn new(settings: &Basic, users: Users) -> Self {
        let random: [u8; 32] = rand::random();
        Self {
            users,
            realm: settings.realm.as_str().into(),
            places: Arc::new(Semaphore::new(settings.hashing_max)),
            waiting: Arc::new(Semaphore::new(settings.hashing_max * WAITING_PER_PLACE)),
            key: hmac::Key::new(hmac::HMAC_SHA256, &random),
            known: moka::sync::Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(settings.cache).build(),
        }
    }

    /// What would help whoever sent nothing.
    pub(super) fn challenge(&self) -> Challenge {
        Challenge::Basic { realm: Arc::clone(&self.realm) }
    }

    /// Checks what stands behind `Basic`.
    ///
    /// # Errors
    /// 401 when it is not good, 503 when too many are being checked.
    pub(super) async fn verify(&self, credential: &str) -> Result<Arc<Identity>, Refusal> {
        if credential.len() > CREDENTIAL_BYTES_MAX {
            return Err(self.invalid());
        }
        let mut tag = [0; 32];
        // HMAC-SHA-256 has 32 bytes by definition.
        tag.copy_from_slice(hmac::sign(&self.key, credential.as_bytes()).as_ref());
        if let Some(identity) = self.known.get(&tag) {
            return Ok(identity);
        }
        let decoded = STANDARD.decode(credential).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(decoded) = decoded.map(Secret::new) else { return Err(self.invalid()) };
        let Some((name, password)) = decoded.expose().split_once(':') else { return Err(self.invalid()) };
        let user = self.users.by_name.get(name);
        let hash = user.map(|user| user.hash.clone()).or_else(|| self.users.nobody.clone());
        let fits = self.hash(hash, Secret::new(password.to_owned())).await?;
        match user.filter(|_| fits) {
            Some(user) => {
                self.known.insert(tag, Arc::clone(&user.identity));
                Ok(Arc::clone(&user.identity))
            }
            None => Err(self.invalid()),
        }
    }

    async fn hash(&self, hash: Option<Hash>, password: Secret) -> Result<bool, Refusal> {
        let Some(hash) = hash else { return Ok(false) };
        let Ok(_waiting) = self.waiting.try_acquire() else { return Err(Refusal::new(Code::Overloaded)) };
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| Refusal::new(Code::Overloaded))?;
        let hashed = tokio::task::spawn_blocking(move || {
            let fits = hash.fits(password.expose());
            // Held until the work is done, also when the client has left meanwhile.
            drop(place);
            fits
        });
        hashed.await.map_err(|_| Refusal::new(Code::InternalError))
    }

    fn invalid(&self) -> Refusal {
        Refusal::new(Code::LoginFailed).advice(Advice::Authenticate(vec![self.challenge()]))
    }
}

impl std::fmt::Debug for BasicVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BasicVerifier").field("users", &self.users.by_name.len()).finish_non_exhaustive()
    }
}
