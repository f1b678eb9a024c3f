//! CORS: a browser asks beforehand whether a page of another origin may send its request, and is answered here.
//!
//! For: preflights (<https://fetch.spec.whatwg.org/#cors-preflight-request>), and which origin an answer may be read by. What is
//! said on other answers is `egress::cors`. Promises: the answer depends on nothing but the configuration; no upstream is
//! asked, no limit is spent, and nobody is asked for a credential, since browsers send none.

use std::sync::Arc;

use bytes::Bytes;
use common::code::Code;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderName, HeaderValue, Method};

use crate::base::head::{Head, Occurrence};
use crate::base::refusal::Refusal;
use crate::base::reply::Reply;
use crate::config::checked::{self, Origin};

const ANY: HeaderValue = HeaderValue::from_static("*");
pub(crate) const TRUE: HeaderValue = HeaderValue::from_static("true");
/// What the answer to a preflight depends on.
const VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// Whose pages may read the answers of a route, ready to be said.
#[derive(Debug)]
pub(crate) struct Cors {
    name: Arc<str>,
    origins: Box<[Origin]>,
    pub credentials: bool,
    /// `None` for the method that is asked about.
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    pub expose: Option<HeaderValue>,
    max_age_seconds: HeaderValue,
}

/// The question whether a request may be sent.
#[derive(Debug)]
pub(crate) struct Preflight<'a> {
    origin: &'a HeaderValue,
    /// The method that the request would have.
    pub method: Method,
    asked: &'a HeaderValue,
}

/// Reads a preflight. `None` for every other request, also for an `OPTIONS` that is none.
pub(crate) fn preflight<'a>(head: &Head<'a>) -> Option<Preflight<'a>> {
    if head.method != Method::OPTIONS {
        return None;
    }
    match (head.single(&ORIGIN), head.single(&ACCESS_CONTROL_REQUEST_METHOD)) {
        (Occurrence::Once(origin), Occurrence::Once(asked)) => {
            Some(Preflight { origin, method: Method::from_bytes(asked.as_bytes()).ok()?, asked })
        }
        _ => None,
    }
}

impl Cors {
    /// Puts what is to be said into header values.
    pub(crate) fn new(cors: &checked::Cors) -> Self {
        Self {
            name: Arc::clone(&cors.name),
            origins: cors.origins.clone().into(),
            credentials: cors.credentials,
            methods: list(cors.methods.iter().map(Method::as_str)),
            headers: list(cors.headers.iter().map(HeaderName::as_str)),
            expose: list(cors.expose.iter().map(HeaderName::as_str)),
            max_age_seconds: HeaderValue::from(cors.max_age.as_secs()),
        }
    }

    /// What `Access-Control-Allow-Origin` says to this origin; `None` when it may not read.
    pub(crate) fn allow(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        // The configuration refuses * together with credentials, and with other origins.
        if matches!(&*self.origins, [Origin::Any]) {
            return Some(ANY);
        }
        self.origins.iter().any(|known| known.fits(origin.as_bytes())).then(|| origin.clone())
    }

    /// Answers a preflight. Whether the method and the headers that were asked about are among those named, the browser
    /// decides.
    ///
    /// # Errors
    /// 403 for an origin that may not.
    pub(crate) fn answer(&self, preflight: &Preflight<'_>) -> Result<Reply, Refusal> {
        let Some(origin) = self.allow(preflight.origin) else {
            return Err(Refusal::new(Code::OriginForbidden).policy(&self.name));
        };
        let mut headers = Vec::with_capacity(6);
        headers.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin));
        let methods = self.methods.as_ref().unwrap_or(preflight.asked);
        headers.push((ACCESS_CONTROL_ALLOW_METHODS, methods.clone()));
        if let Some(names) = &self.headers {
            headers.push((ACCESS_CONTROL_ALLOW_HEADERS, names.clone()));
        }
        if self.credentials {
            headers.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE));
        }
        headers.push((ACCESS_CONTROL_MAX_AGE, self.max_age_seconds.clone()));
        headers.push((VARY, VARY_PREFLIGHT));
        Ok(Reply { status: 204, headers, body: Bytes::new() })
    }
}

/// Names in one field; `None` when there are none.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let list = names.collect::<Vec<_>>().join(", ");
    // Names of methods and headers are tokens, and so is a list of them a value.
    if list.is_empty() { None } else { HeaderValue::from_str(&list).ok() }
}
