//! Secrets: text that never prints, and references to where it is kept.
//!
//! For: passwords, keys and tokens in memory. May touch: the environment and files, only through `SecretRef::resolve`.
//! Promises: `Debug` shows `***`, there is no `Display` and no `Serialize`, and memory is wiped on drop.
//! Read next: `settings/` for how a reference is written in YAML.

use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;

use zeroize::Zeroizing;

/// The largest secret read from a file, in bytes: private keys and certificates' worth of text, not more.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A secret text.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

/// Where a secret is kept: `env:NAME` or `file:PATH`. Safe to print; it names the place, not the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; one trailing line break is dropped.
    File(PathBuf),
}

/// Why a reference could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The text is neither `env:NAME` nor `file:PATH`.
    #[error("a secret is written as env:NAME or file:PATH, never in the open")]
    NotAReference,
    /// The variable is unset, empty or not UTF-8.
    #[error("environment variable {0} is not set")]
    EnvMissing(String),
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is empty or larger than `SECRET_BYTES_MAX`.
    #[error("{0} is empty or larger than {SECRET_BYTES_MAX} bytes")]
    FileSize(PathBuf),
}

impl Secret {
    /// Takes the text in.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Each call is a place to look at in a review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl SecretRef {
    /// Reads the reference from its written form.
    ///
    /// # Errors
    /// `SecretError::NotAReference` for anything but `env:NAME` and `file:PATH`.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            _ => Err(SecretError::NotAReference),
        }
    }

    /// Fetches the secret.
    ///
    /// # Errors
    /// When the variable is unset or the file is unreadable, empty or too large.
    pub fn resolve(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Env(name) => std::env::var(name)
                .ok()
                .filter(|value| !value.is_empty())
                .map(Secret::new)
                .ok_or_else(|| SecretError::EnvMissing(name.clone())),
            Self::File(path) => read_file(path),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

fn read_file(path: &PathBuf) -> Result<Secret, SecretError> {
    let unreadable = |source| SecretError::FileUnreadable { path: path.clone(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = Zeroizing::new(String::new());
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    let trimmed = text.strip_suffix('\n').unwrap_or(&text);
    if trimmed.is_empty() || text.len() as u64 > SECRET_BYTES_MAX {
        return Err(SecretError::FileSize(path.clone()));
    }
    Ok(Secret::new(trimmed.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_open_secrets_refused() {
        assert_eq!(SecretRef::parse("env:TOKEN").ok(), Some(SecretRef::Env("TOKEN".into())));
        assert_eq!(SecretRef::parse("file:/run/key").ok(), Some(SecretRef::File("/run/key".into())));
        for open in ["hunter2", "env:", "file:", "vault:x"] {
            assert!(matches!(SecretRef::parse(open), Err(SecretError::NotAReference)), "{open}");
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "***");
    }
}
