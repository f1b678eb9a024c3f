//! Key file: API keys that an operator keeps in a file, by the hashes of their secrets.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use chrono::DateTime;
use common::api_key::{ApiKey, ID_CHARS, SecretHash};
use common::section;
use common::settings::{self, At, Decoder, Report};

use super::identity::{Identity, Method, Proof};
use crate::stages::context::Now;

/// Secrets that a key may have at a time: the old one and the new one, while whoever uses it changes over.
const SECRETS_MAX: usize = 2;

section! {
    /// A file of API keys.
    pub(crate) struct KeyFile {
        /// The keys.
        pub keys: Vec<KeyEntry> => "list the keys, as `gateway key new` prints them",
    }
}

section! {
    /// A key, as it is kept.
    pub(crate) struct KeyEntry {
        /// Its public id: the part behind `cap6_`.
        pub id: At<String> => "the part of the key behind cap6_",
        /// What it is for, for people.
        pub name: Option<String> = "null",
        /// Whose it is.
        pub subject: At<String> => "say whose key it is",
        /// SHA-256 of its secret, in hexadecimal digits; two while it is changed for another.
        pub secrets: Vec<At<String>> => "list the SHA-256 of its secret",
        /// What may be done with it.
        pub permissions: Vec<String> = "[]",
        /// Roles of whoever uses it.
        pub roles: Vec<String> = "[]",
        /// When it ends (RFC 3339); without it, never.
        pub expires: Option<At<String>> = "null",
    }
}

/// A key that can be checked.
#[derive(Debug)]
pub(super) struct StoredKey {
    pub identity: Arc<Identity>,
    pub expires_unix_seconds: Option<u64>,
    secrets: Vec<SecretHash>,
}

/// The keys of one file, by their ids.
#[derive(Debug)]
pub(crate) struct FileKeys(HashMap<String, StoredKey>);

impl FileKeys {
    /// Reads a file.
    ///
    /// # Errors
    /// Every mistake, with its place.
    pub(crate) fn read(path: &Path) -> Result<Self, Report> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Report::unreadable(&name, &error))?;
        settings::load_literal(&name, &text, |file: KeyFile, decoder| Some(check(file, decoder)))
    }

    /// No keys at all.
    pub(super) fn none() -> Self {
        Self(HashMap::new())
    }

    pub(super) fn identify(&self, key: &ApiKey, now: Now) -> Option<Arc<Identity>> {
        let stored = self.0.get(key.id())?;
        let expired = stored.expires_unix_seconds.is_some_and(|expires| expires <= now.unix_seconds);
        (stored.fits(key) && !expired).then(|| Arc::clone(&stored.identity))
    }
}

fn check(file: KeyFile, decoder: &mut Decoder) -> FileKeys {
    let mut keys = HashMap::new();
    for entry in file.keys {
        let id = entry.id.clone();
        if let Some(stored) = check_entry(&entry, decoder)
            && keys.insert(id.value.clone(), stored).is_some()
        {
            decoder.mistake_at(&id, format!("key {:?} is listed twice", id.value));
        }
    }
    FileKeys(keys)
}

fn check_entry(entry: &KeyEntry, decoder: &mut Decoder) -> Option<StoredKey> {
    if entry.id.value.len() != ID_CHARS {
        decoder.mistake_at(&entry.id, format!("an id has {ID_CHARS} characters"));
    }
    if entry.secrets.is_empty() || entry.secrets.len() > SECRETS_MAX {
        decoder.mistake_at(&entry.id, format!("a key has one secret, or {SECRETS_MAX} while it is changed"));
    }
    let secrets = entry.secrets.iter().filter_map(|secret| {
        let hash = SecretHash::from_hex(&secret.value);
        // The text is not repeated: it may be the secret itself.
        hash.or_else(|| {
            decoder.mistake_at(secret, "is not the SHA-256 of a secret: 64 hexadecimal digits");
            None
        })
    });
    let secrets: Vec<SecretHash> = secrets.collect();
    let expires_unix_seconds = match &entry.expires {
        None => None,
        Some(text) => match unix_seconds(&text.value) {
            Some(seconds) => Some(seconds),
            None => {
                decoder.mistake_at(text, format!("{:?} is not a time such as 2030-01-31T12:00:00Z", text.value));
                None
            }
        },
    };
    let identity = identity(&entry.id.value, &entry.subject.value, &entry.permissions, &entry.roles);
    if identity.is_none() {
        let message = "the subject is empty, or a permission or role holds what separates it from the next";
        decoder.mistake_at(&entry.subject, message);
    }
    Some(StoredKey { identity: identity?, expires_unix_seconds, secrets })
}

fn identity(id: &str, subject: &str, permissions: &[String], roles: &[String]) -> Option<Arc<Identity>> {
    let permissions: Vec<&str> = permissions.iter().map(String::as_str).collect();
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    let proof = Proof { subject, permissions: &permissions, roles: &roles, key_id: Some(id), ..Proof::default() };
    Identity::new(Method::ApiKey, proof).map(Arc::new)
}

fn unix_seconds(text: &str) -> Option<u64> {
    u64::try_from(DateTime::parse_from_rfc3339(text).ok()?.timestamp()).ok()
}

impl StoredKey {
    /// Whether the key's secret is one of those that are kept. All are compared, and in constant time.
    pub(super) fn fits(&self, key: &ApiKey) -> bool {
        let sent = key.secret_hash();
        self.secrets.iter().fold(false, |fits, kept| fits | kept.matches(&sent))
    }

    /// A key as it is kept in the store; `None` for what is no key.
    pub(super) fn from_json(id: &str, json: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Kept {
            subject: String,
            secrets: Vec<String>,
            #[serde(default)]
            permissions: Vec<String>,
            #[serde(default)]
            roles: Vec<String>,
            #[serde(default)]
            expires: Option<String>,
            #[serde(default, rename = "name")]
            _name: Option<String>,
        }
        let kept: Kept = serde_json::from_slice(json).ok()?;
        let secrets: Option<Vec<_>> = kept.secrets.iter().map(|secret| SecretHash::from_hex(secret)).collect();
        let secrets = secrets.filter(|secrets| (1..=SECRETS_MAX).contains(&secrets.len()))?;
        // An end that cannot be read is no reason to go on for ever.
        let expires_unix_seconds = match kept.expires {
            None => None,
            Some(text) => Some(unix_seconds(&text)?),
        };
        let identity = identity(id, &kept.subject, &kept.permissions, &kept.roles)?;
        Some(Self { identity, expires_unix_seconds, secrets })
    }
}
