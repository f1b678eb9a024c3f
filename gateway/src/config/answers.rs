//! Answers, checked: what a route does besides passing requests on, in the form the stages work with.
//!
//! For: names and values as types that need no further check. May touch: nothing. Promises: whatever is here can be written
//! into a head as it is. Read next: `check_answers.rs` for what holds, `stages/dispatch/` for who does it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use super::fields::Origin;
use super::traffic::Split;

/// What becomes of a request that was admitted.
#[derive(Debug, PartialEq)]
pub(crate) enum Does {
    /// An upstream is asked, or one of several.
    Forward(Split),
    /// It gets a fixed answer.
    Respond(Respond),
    /// It is sent elsewhere.
    Redirect(Redirect),
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Respond {
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

/// Where clients are sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Redirect {
    pub status: u16,
    /// The URL; without a slash at its end where the path is put behind it.
    pub to: Box<str>,
    pub keep_path: bool,
}

/// Under what name and path an upstream is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rewrite {
    /// Taken off the front of the path, and told to the upstream.
    pub strip: Option<(Box<str>, HeaderValue)>,
    /// Put before it; empty for nothing.
    pub add: Box<str>,
    /// `None` for the client's.
    pub host: Option<HeaderValue>,
}

/// Fields to take away, to set and to add, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HeaderRules {
    pub remove: Vec<HeaderName>,
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// Whose pages may read answers.
#[derive(Debug, PartialEq)]
pub(crate) struct Cors {
    pub name: Arc<str>,
    pub origins: Vec<Origin>,
    /// Empty for every method that has a route.
    pub methods: Vec<Method>,
    pub headers: Vec<HeaderName>,
    pub expose: Vec<HeaderName>,
    pub credentials: bool,
    pub max_age: Duration,
}
