//! Refusal: why a request gets an answer from us and not from its upstream.
//!
//! For: one value that a stage returns and that log, header, body and metrics are made from.
//! May touch: `common::code`. Promises: `detail` is for the client's eyes; causes go to the log, where they arise.
//! Read next: `reply.rs`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use common::code::Code;
use http::{HeaderValue, Method};

/// A decision not to pass a request on.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub code: Code,
    /// What is particular to this case; may be empty.
    pub detail: Cow<'static, str>,
    /// The policy that decided, such as a limit or an auth scheme, by its name in the configuration.
    pub policy: Option<Arc<str>>,
    /// What the client needs besides the body.
    pub advice: Advice,
}

/// The headers that make a refusal useful.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Advice {
    #[default]
    None,
    /// `WWW-Authenticate` (RFC 9110 §11.6.1).
    Authenticate(Vec<Challenge>),
    /// `Allow` (RFC 9110 §10.2.1).
    Allow(Vec<Method>),
    /// `Retry-After` (RFC 9110 §10.2.3); rounded up to whole seconds when it is written.
    RetryAfter(Duration),
}

/// What kind of credential would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// `Bearer`, nothing was sent (RFC 6750 §3: no error code then).
    Bearer,
    /// `Bearer` with `error="invalid_token"`.
    BearerInvalid,
    /// `Bearer` with `error="insufficient_scope"`.
    BearerScope,
    /// An API key; the scheme's name is ours, as there is no registered one.
    ApiKey,
    /// A user name and password (RFC 7617).
    Basic { realm: Arc<str> },
    /// Whatever a service of the operator's own asks for.
    Other(HeaderValue),
}

impl Refusal {
    pub(crate) fn new(code: Code) -> Self {
        Self { code, detail: Cow::Borrowed(""), policy: None, advice: Advice::None }
    }

    pub(crate) fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    pub(crate) fn policy(mut self, policy: &Arc<str>) -> Self {
        self.policy = Some(Arc::clone(policy));
        self
    }

    pub(crate) fn advice(mut self, advice: Advice) -> Self {
        self.advice = advice;
        self
    }
}
