//! Problems: the body of every refusal (RFC 9457).
//!
//! For: `application/problem+json` in one shape from both programs. May touch: `code.rs`, serde.
//! Promises: the texts are for the client; causes, addresses and secrets stay in the log.
//! Read next: `code.rs`.

use serde::Serialize;

use crate::code::Code;

/// The media type of a problem body (RFC 9457 §6.1).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A name, not an address: who runs the gateway decides where `docs/errors.md` is published (RFC 9457 §3.1.1).
const TYPE_BASE: &str = "urn:capibara6:error:";

/// The registered kind for whoever has used up a limit (draft-ietf-httpapi-ratelimit-headers-10 §5).
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// A problem, ready to be written as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Problem<'a> {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    instance: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    /// The limits that are used up, beside the registered kind.
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<[&'a str; 1]>,
}

impl<'a> Problem<'a> {
    /// A problem with only what the code itself says.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self {
            kind: match code {
                Code::RateLimited => QUOTA_EXCEEDED.to_owned(),
                _ => format!("{TYPE_BASE}{}", code.name()),
            },
            title: code.title(),
            status: code.status(),
            detail: "",
            instance: "",
            code: code.name(),
            request_id: "",
            route: None,
            policy: None,
            violated_policies: None,
        }
    }

    /// What is particular to this case, for the client's eyes.
    #[must_use]
    pub fn detail(mut self, detail: &'a str) -> Self {
        self.detail = detail;
        self
    }

    /// The path that was asked for.
    #[must_use]
    pub fn instance(mut self, instance: &'a str) -> Self {
        self.instance = instance;
        self
    }

    /// The id under which the log has the request.
    #[must_use]
    pub fn request_id(mut self, request_id: &'a str) -> Self {
        self.request_id = request_id;
        self
    }

    /// The route that refused.
    #[must_use]
    pub fn route(mut self, route: Option<&'a str>) -> Self {
        self.route = route;
        self
    }

    /// The policy of the route that refused, such as the name of a limit.
    #[must_use]
    pub fn policy(mut self, policy: Option<&'a str>) -> Self {
        self.policy = policy;
        if self.kind == QUOTA_EXCEEDED {
            self.violated_policies = policy.map(|policy| [policy]);
        }
        self
    }

    /// The JSON text.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Strings and numbers only: writing them to memory cannot fail; an empty body is the honest rest.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_members_of_the_rfc_and_ours() {
        let json = Problem::new(Code::RateLimited)
            .detail("100 requests a minute")
            .instance("/api/v1/query")
            .request_id("r-1")
            .route(Some("query"))
            .policy(Some("per_ip"))
            .to_json();
        let value: serde_json::Value = serde_json::from_slice(&json).expect("valid JSON");
        assert_eq!(
            value,
            serde_json::json!({
                "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
                "title": "Too many requests",
                "status": 429,
                "detail": "100 requests a minute",
                "instance": "/api/v1/query",
                "code": "rate_limited",
                "request_id": "r-1",
                "route": "query",
                "policy": "per_ip",
                "violated-policies": ["per_ip"],
            })
        );
    }
}
