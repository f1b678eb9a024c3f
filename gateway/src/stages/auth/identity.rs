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
    /// The public id of the API key, where one was used.
    pub key_id: Option<Arc<str>>,
    permissions: Box<[Box<str>]>,
    /// What upstreams are told, made once per credential rather than once per request.
    pub headers: IdentityHeaders,
}

/// The identity in headers. Values that cannot be sent in a header are left out.
#[derive(Debug)]
pub(crate) struct IdentityHeaders {
    pub subject: Option<HeaderValue>,
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
    /// `scope` is a list of permissions separated by spaces.
    pub(crate) fn new(subject: &str, method: Method, scope: &str, roles: &[String], key_id: Option<&str>) -> Self {
        let value = |text: &str| HeaderValue::from_str(text).ok();
        Self {
            subject: subject.into(),
            method,
            key_id: key_id.map(Arc::from),
            permissions: scope.split_ascii_whitespace().map(Box::from).collect(),
            headers: IdentityHeaders {
                subject: value(subject),
                roles: if roles.is_empty() { None } else { value(&roles.join(",")) },
                permissions: if scope.is_empty() { None } else { value(scope) },
                method: HeaderValue::from_static(method.word()),
                key_id: key_id.and_then(value),
            },
        }
    }

    pub(crate) fn has_permission(&self, permission: &str) -> bool {
        self.permissions.iter().any(|held| **held == *permission)
    }
}
