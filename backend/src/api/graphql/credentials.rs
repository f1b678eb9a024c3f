//! Credentials: what a client shows on a WebSocket.
//!
//! For: the payload of `connection_init`, and the header fields of the upgrade. May touch: the extractors of `api`.
//! Promises: the same credentials as over HTTP, under the same names; two that differ are refused rather than guessed at;
//! what is kept for looking again does not print.
//! Read next: `socket.rs`.

use common::code::Code;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::extract::{API_KEY, Needs as _, UsingGraphql, identify};
use crate::auth::Caller;

/// A credential that can be verified again and again.
pub(super) struct Shown {
    /// Only the fields that hold credentials.
    fields: HeaderMap,
}

impl Shown {
    /// The credential of the payload, or else that of the upgrade.
    ///
    /// # Errors
    /// `credential_ambiguous` when both have one and they differ, or when the payload has a field twice.
    pub(super) fn read(payload: Option<&Value>, upgrade: &HeaderMap) -> Result<Self, ApiError> {
        let from_payload = of_payload(payload)?;
        let from_upgrade = of_headers(upgrade);
        if from_payload.is_empty() {
            return Ok(Self { fields: from_upgrade });
        }
        // Clients often send the same token by both ways.
        if !from_upgrade.is_empty() && from_upgrade != from_payload {
            return Err(ApiError::new(Code::CredentialAmbiguous, ""));
        }
        Ok(Self { fields: from_payload })
    }

    /// Who shows it, as of now.
    pub(super) async fn verify(&self, services: &Services) -> Result<Caller, ApiError> {
        let caller = identify(&self.fields, services).await?;
        caller.require(UsingGraphql::PERMISSIONS)?;
        Ok(caller)
    }
}

fn of_headers(headers: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for name in [&AUTHORIZATION, &API_KEY] {
        for value in headers.get_all(name) {
            fields.append(name.clone(), sensitive(value.clone()));
        }
    }
    fields
}

fn of_payload(payload: Option<&Value>) -> Result<HeaderMap, ApiError> {
    let mut fields = HeaderMap::new();
    let Some(Value::Object(members)) = payload else { return Ok(fields) };
    for (name, value) in members {
        let Some(name) = field_name(name) else { continue };
        let wrong = || ApiError::new(Code::TokenMalformed, "");
        let value = value.as_str().and_then(|text| HeaderValue::from_str(text).ok()).ok_or_else(wrong)?;
        fields.append(name, sensitive(value));
    }
    Ok(fields)
}

/// The field of that name, if it holds credentials.
fn field_name(member: &str) -> Option<HeaderName> {
    [&AUTHORIZATION, &API_KEY].into_iter().find(|name| name.as_str().eq_ignore_ascii_case(member)).cloned()
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn shown(payload: &Value, upgrade: &[(&'static str, &'static str)]) -> Option<Vec<(String, String)>> {
        let shown = Shown::read(Some(payload), &headers(upgrade)).ok()?;
        let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
        Some(shown.fields.iter().map(|(name, value)| (name.to_string(), text(value))).collect())
    }

    #[test]
    fn the_payload_comes_before_the_upgrade_and_must_not_differ() {
        let token = || vec![("authorization".to_owned(), "Bearer a".to_owned())];
        let upgrade = &[("authorization", "Bearer a"), ("cookie", "x")];
        assert_eq!(shown(&json!({}), upgrade), Some(token()));
        assert_eq!(shown(&json!({ "Authorization": "Bearer a", "locale": "es" }), &[]), Some(token()));
        assert_eq!(shown(&json!({ "authorization": "Bearer a" }), upgrade), Some(token()));
        assert_eq!(shown(&json!({ "authorization": "Bearer b" }), upgrade), None);
        assert_eq!(shown(&json!({ "x-api-key": "k" }), upgrade), None);
        assert_eq!(shown(&json!({ "X-API-Key": "k" }), &[]), Some(vec![("x-api-key".into(), "k".into())]));
        assert_eq!(shown(&json!({ "authorization": 7 }), &[]), None);
        assert_eq!(shown(&json!({ "authorization": "a\nb" }), &[]), None);
        // Two of one name are found when they are verified, as over HTTP.
        assert_eq!(shown(&json!({ "authorization": "a", "Authorization": "b" }), &[]).map(|all| all.len()), Some(2));
    }
}
