//! Identity: what was proven about a caller.

use std::sync::Arc;

use http::HeaderValue;

/// How it was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Jwt,
    ApiKey,
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
    permissions: Box<[Box<str>]>,
    /// Claims that limits count by.
    claims: Box<[(Arc<str>, Box<str>)]>,
    /// What upstreams are told, made once per credential rather than once per request.
    pub headers: IdentityHeaders,
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
        }
    }
}

impl Identity {
    /// `scope` is a list of permissions separated by spaces. `None` when a part cannot be told to an upstream as it is: an
    /// identity that loses its subject or gains a role on the way is worse than none.
    pub(crate) fn new(
        subject: &str,
        method: Method,
        scope: &str,
        roles: &[String],
        key_id: Option<&str>,
    ) -> Option<Self> {
        if subject.is_empty() || roles.iter().any(|role| role.contains(',')) {
            return None;
        }
        let some = |text: &str| if text.is_empty() { Ok(None) } else { HeaderValue::from_str(text).map(Some) };
        Some(Self {
            subject: subject.into(),
            method,
            key_id: key_id.map(Arc::from),
            claims: Box::default(),
            permissions: scope.split_ascii_whitespace().map(Box::from).collect(),
            headers: IdentityHeaders {
                subject: HeaderValue::from_str(subject).ok()?,
                roles: some(&roles.join(",")).ok()?,
                permissions: some(scope).ok()?,
                method: HeaderValue::from_static(method.word()),
                key_id: some(key_id.unwrap_or_default()).ok()?,
            },
            limit_key: key_id.map_or_else(|| format!("subject:{subject}"), |id| format!("key:{id}")).into(),
        })
    }

    /// A claim of the token, where a limit or a rule names it.
    pub(crate) fn claim(&self, name: &str) -> Option<&str> {
        self.claims.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }

    pub(crate) fn has_permission(&self, permission: &str) -> bool {
        self.permissions.iter().any(|held| **held == *permission)
    }
}
