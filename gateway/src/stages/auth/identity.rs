//! Identity: what was proven about a caller.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

/// How it was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Jwt,
    ApiKey,
    /// A token that somebody was asked about.
    Introspection,
    Basic,
    /// A service that was asked about the request.
    Forward,
    Certificate,
}

/// A caller, as a scheme has proven it.
#[derive(Debug)]
pub(crate) struct Identity {
    pub subject: Arc<str>,
    pub method: Method,
    /// What limits by key or subject count by. The prefix keeps a subject from posing as somebody's key.
    pub limit_key: Box<str>,
    /// The API key's public id, where one was used.
    pub key_id: Option<Arc<str>>,
    /// The token's own id (`jti`), where it has one.
    pub token_id: Option<Box<str>>,
    /// When the token was issued, where it says so.
    pub issued_unix_seconds: Option<u64>,
    permissions: Box<[Box<str>]>,
    roles: Box<[Box<str>]>,
    /// Claims that limits count by and rules compare.
    claims: Box<[(Arc<str>, Box<str>)]>,
    /// What upstreams are told, made once per credential rather than once per request.
    pub headers: IdentityHeaders,
    /// More that an upstream is told, where a service said so.
    pub copied: Box<[(HeaderName, HeaderValue)]>,
}

/// What a scheme has found out about a caller.
#[derive(Debug, Default)]
pub(super) struct Proof<'a> {
    pub subject: &'a str,
    pub permissions: &'a [&'a str],
    pub roles: &'a [&'a str],
    pub key_id: Option<&'a str>,
    pub token_id: Option<&'a str>,
    pub issued_unix_seconds: Option<u64>,
    pub claims: Box<[(Arc<str>, Box<str>)]>,
}

/// The identity in headers.
#[derive(Debug)]
pub(crate) struct IdentityHeaders {
    pub subject: HeaderValue,
    pub roles: Option<HeaderValue>,
    pub permissions: Option<HeaderValue>,
    pub method: HeaderValue,
    pub key_id: Option<HeaderValue>,
}

impl Method {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
            Self::Introspection => "introspection",
            Self::Basic => "basic",
            Self::Forward => "forward",
            Self::Certificate => "client_certificate",
        }
    }
}

impl Identity {
    /// `None` when a part cannot be told to an upstream as it is: an identity that loses its subject or gains a role on the
    /// way is worse than none.
    pub(super) fn new(method: Method, proof: Proof<'_>) -> Option<Self> {
        let subject = proof.subject;
        let splits = |word: &&str, at: &[char]| word.is_empty() || word.contains(at);
        if subject.is_empty()
            || proof.roles.iter().any(|role| splits(role, &[',']))
            || proof.permissions.iter().any(|permission| splits(permission, &[' ', '\t']))
        {
            return None;
        }
        let some = |text: &str| if text.is_empty() { Ok(None) } else { HeaderValue::from_str(text).map(Some) };
        let owned = |words: &[&str]| words.iter().map(|word| Box::from(*word)).collect();
        Some(Self {
            subject: subject.into(),
            method,
            limit_key: proof.key_id.map_or_else(|| format!("subject:{subject}"), |id| format!("key:{id}")).into(),
            key_id: proof.key_id.map(Arc::from),
            token_id: proof.token_id.map(Box::from),
            issued_unix_seconds: proof.issued_unix_seconds,
            permissions: owned(proof.permissions),
            roles: owned(proof.roles),
            claims: proof.claims,
            headers: IdentityHeaders {
                subject: HeaderValue::from_str(subject).ok()?,
                roles: some(&proof.roles.join(",")).ok()?,
                permissions: some(&proof.permissions.join(" ")).ok()?,
                method: HeaderValue::from_static(method.word()),
                key_id: some(proof.key_id.unwrap_or_default()).ok()?,
            },
            copied: Box::default(),
        })
    }

    /// The same, with more that an upstream is told.
    pub(super) fn with_copied(mut self, copied: Box<[(HeaderName, HeaderValue)]>) -> Self {
        self.copied = copied;
        self
    }

    /// A claim of the token, where a limit or a rule names it; `sub` is the subject.
    pub(crate) fn claim(&self, name: &str) -> Option<&str> {
        let kept = self.claims.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value);
        if name == "sub" { Some(&self.subject) } else { kept }
    }

    pub(crate) fn has_permission(&self, permission: &str) -> bool {
        self.permissions.iter().any(|held| **held == *permission)
    }

    pub(crate) fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| **held == *role)
    }

    /// One for a test.
    #[cfg(test)]
    pub(crate) fn of(subject: &str, method: Method, permissions: &[&str], roles: &[&str]) -> Option<Self> {
        Self::new(method, Proof { subject, permissions, roles, ..Proof::default() })
    }
}
