//! Forward: a service of the operator's own says who it is.
//!
//! It sees the request's method, target, host, client and the headers it is to see; never the body. Only the headers that the
//! configuration names come back to the request.

use std::sync::Arc;
use std::time::Duration;

use common::code::Code;
use common::telemetry::with_causes;
use http::header::{HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::Semaphore;

use super::identity::{Identity, Method, Proof};
use crate::base::head::Head;
use crate::base::refusal::{Advice, Challenge, Refusal};
use crate::config::checked::Forward;
use crate::stages::admission::address::Client;

const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Asks the service.
#[derive(Debug)]
pub(crate) struct ForwardVerifier {
    scheme: Arc<str>,
    url: url::Url,
    send: Vec<HeaderName>,
    subject: HeaderName,
    permissions: HeaderName,
    roles: HeaderName,
    copy: Vec<HeaderName>,
    timeout: Duration,
    client: reqwest::Client,
    places: Semaphore,
}

impl ForwardVerifier {
    pub(super) fn new(scheme: Arc<str>, settings: &Forward, client: reqwest::Client) -> Self {
        Self {
            scheme,
            url: settings.url.clone(),
            send: settings.send.clone(),
            subject: settings.subject.clone(),
            permissions: settings.permissions.clone(),
            roles: settings.roles.clone(),
            copy: settings.copy.clone(),
            timeout: settings.timeout,
            client,
            places: Semaphore::new(settings.questions_max),
        }
    }

    /// The headers that only the service's answer may set.
    pub(crate) fn copied(&self) -> &[HeaderName] {
        &self.copy
    }

    /// Asks about a request.
    ///
    /// # Errors
    /// 401 and 403 as the service says, 503 when it says neither yes nor no.
    pub(super) async fn verify(&self, head: &Head<'_>, client: Client) -> Result<Arc<Identity>, Refusal> {
        let Ok(_place) = self.places.try_acquire() else { return Err(Refusal::new(Code::Overloaded)) };
        let question = self.client.get(self.url.clone()).timeout(self.timeout).headers(self.question(head, client));
        let answer = question.send().await.map_err(|error| {
            tracing::warn!(scheme = %self.scheme, error = with_causes(&error), "auth service not reached");
            Refusal::new(Code::AuthServiceUnavailable)
        })?;
        match answer.status() {
            status if status.is_success() => self.identity(answer.headers()).ok_or_else(|| {
                tracing::warn!(scheme = %self.scheme, "auth service said yes and not in usable words to whom");
                Refusal::new(Code::AuthServiceUnavailable)
            }),
            StatusCode::UNAUTHORIZED => {
                let challenge = answer.headers().get(WWW_AUTHENTICATE).cloned();
                let challenge = challenge.map_or(Challenge::Bearer, Challenge::Other);
                Err(Refusal::new(Code::AuthServiceRefused).advice(Advice::Authenticate(vec![challenge])))
            }
            StatusCode::FORBIDDEN => Err(Refusal::new(Code::AuthServiceForbade)),
            status => {
                tracing::warn!(scheme = %self.scheme, status = status.as_u16(), "auth service said neither yes nor no");
                Err(Refusal::new(Code::AuthServiceUnavailable))
            }
        }
    }

    fn question(&self, head: &Head<'_>, client: Client) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in &self.send {
            for value in head.headers.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        let mut target = head.path.to_vec();
        if let Some(query) = head.query {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        let proto = if head.encrypted { "https" } else { "http" };
        let told = [
            (X_FORWARDED_METHOD, HeaderValue::from_str(head.method.as_str())),
            (X_FORWARDED_URI, HeaderValue::from_bytes(&target)),
            (X_FORWARDED_HOST, HeaderValue::from_str(head.host().unwrap_or(""))),
            (X_FORWARDED_FOR, HeaderValue::from_str(&client.ip.to_string())),
            (X_FORWARDED_PROTO, HeaderValue::from_str(proto)),
        ];
        for (name, value) in told {
            // What is not a header value did not get past the sanity check.
            if let Ok(value) = value {
                headers.insert(name, value);
            }
        }
        headers.remove(HOST);
        headers
    }

    fn identity(&self, answer: &HeaderMap) -> Option<Arc<Identity>> {
        let text = |name: &HeaderName| answer.get(name).map_or(Some(""), |value| value.to_str().ok());
        let permissions: Vec<&str> = text(&self.permissions)?.split_ascii_whitespace().collect();
        let roles = text(&self.roles)?.split(',').map(str::trim);
        let roles: Vec<&str> = roles.filter(|role| !role.is_empty()).collect();
        let subject = text(&self.subject)?;
        let proof = Proof { subject, permissions: &permissions, roles: &roles, ..Proof::default() };
        let copied = self.copy.iter().filter_map(|name| Some((name.clone(), answer.get(name)?.clone()))).collect();
        Identity::new(Method::Forward, proof).map(|identity| Arc::new(identity.with_copied(copied)))
    }
}
