//! Claims: what a token or an introspection answer says, and what is read from it.

use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::identity::{Identity, Method, Proof};
use crate::config::checked::ClaimNames;

/// The members of a JSON object. Which of two members of one name counts would be a guess, so there are none (RFC 7519 §4).
#[derive(Debug, Default)]
pub(crate) struct Claims(Map<String, Value>);

/// What is read from claims, as the configuration says.
#[derive(Debug)]
pub(crate) struct Reader {
    subject: String,
    permissions: Box<[String]>,
    roles: Box<[String]>,
    required: Box<[(String, Option<String>)]>,
    /// Names of claims that limits and rules ask for later.
    kept: Arc<[Arc<str>]>,
}

/// A claim is missing, or is not of the kind that it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClaimWrong;

impl Claims {
    /// A claim by its name, or by the path to it.
    fn find(&self, name: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(name) {
            return Some(value);
        }
        let mut parts = name.split('.');
        let first = self.0.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }

    /// A text that may not be there.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, ClaimWrong> {
        match self.find(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or(ClaimWrong),
        }
    }

    /// A time in whole seconds that may not be there.
    pub(super) fn seconds(&self, name: &str) -> Result<Option<u64>, ClaimWrong> {
        match self.find(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or(ClaimWrong),
        }
    }

    /// Whether it is there, and true.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.find(name) == Some(&Value::Bool(true))
    }

    /// Whether a claim is, or holds, this text.
    pub(super) fn names(&self, name: &str, wanted: &str) -> bool {
        self.find(name).is_some_and(|value| says(value, wanted))
    }

    /// Every text of a claim: one with spaces between, or a list.
    fn words<'c>(&'c self, name: &str, split: bool, words: &mut Vec<&'c str>) -> Result<(), ClaimWrong> {
        match self.find(name) {
            None => {}
            Some(Value::String(text)) if split => words.extend(text.split(' ').filter(|word| !word.is_empty())),
            Some(Value::Array(items)) => {
                for item in items {
                    words.push(item.as_str().ok_or(ClaimWrong)?);
                }
            }
            Some(_) => return Err(ClaimWrong),
        }
        Ok(())
    }
}

/// Whether a value is this text, number or truth, or a list that holds it.
fn says(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Bool(truth) => truth.to_string() == wanted,
        Value::Array(items) => items.iter().any(|item| !item.is_array() && says(item, wanted)),
        Value::Null | Value::Object(_) => false,
    }
}

impl Reader {
    pub(crate) fn new(names: &ClaimNames, kept: &Arc<[Arc<str>]>) -> Self {
        Self {
            subject: names.subject.clone(),
            permissions: names.permissions.clone().into(),
            roles: names.roles.clone().into(),
            required: names.required.iter().map(|claim| (claim.claim.clone(), claim.value.clone())).collect(),
            kept: Arc::clone(kept),
        }
    }

    /// The identity that claims speak of.
    ///
    /// # Errors
    /// `ClaimWrong` when one that must be there is not, or is of another kind, or cannot be told to an upstream as it is.
    pub(crate) fn identity(&self, claims: &Claims, method: Method) -> Result<Identity, ClaimWrong> {
        for (name, value) in &self.required {
            let fits = match value {
                Some(value) => claims.names(name, value),
                None => claims.find(name).is_some_and(|value| !value.is_null()),
            };
            if !fits {
                return Err(ClaimWrong);
            }
        }
        let mut permissions = Vec::new();
        for name in &self.permissions {
            claims.words(name, true, &mut permissions)?;
        }
        let mut roles = Vec::new();
        for name in &self.roles {
            claims.words(name, false, &mut roles)?;
        }
        let kept = self.kept.iter().filter_map(|name| {
            let value = match claims.find(name)? {
                Value::String(text) => text.as_str().into(),
                Value::Number(number) => number.to_string().into(),
                Value::Bool(truth) => truth.to_string().into(),
                Value::Null | Value::Array(_) | Value::Object(_) => return None,
            };
            Some((Arc::clone(name), value))
        });
        let proof = Proof {
            subject: claims.text(&self.subject)?.ok_or(ClaimWrong)?,
            permissions: &permissions,
            roles: &roles,
            key_id: claims.text("key_id")?.filter(|_| method == Method::ApiKey),
            token_id: claims.text("jti")?.filter(|_| method != Method::ApiKey),
            issued_unix_seconds: claims.seconds("iat")?,
            claims: kept.collect(),
        };
        Identity::new(method, proof).ok_or(ClaimWrong)
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Claims;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object without repeated members")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Claims, A::Error> {
                let mut claims = Map::new();
                while let Some(name) = members.next_key::<String>()? {
                    if claims.contains_key(&name) {
                        return Err(de::Error::custom("a member is repeated"));
                    }
                    claims.insert(name, members.next_value()?);
                }
                Ok(Claims(claims))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(names: &ClaimNames, claims: Value) -> Result<Identity, ClaimWrong> {
        let kept: Arc<[Arc<str>]> = ["tenant".into(), "org.unit".into()].into();
        let claims: Claims = serde_json::from_value(claims).expect("an object");
        Reader::new(names, &kept).identity(&claims, Method::Jwt)
    }

    fn names(permissions: &[&str], roles: &[&str], required: &[(&str, Option<&str>)]) -> ClaimNames {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        ClaimNames {
            subject: "sub".into(),
            permissions: texts(permissions),
            roles: texts(roles),
            required: required
                .iter()
                .map(|(claim, value)| crate::config::checked::RequiredClaim {
                    claim: (*claim).into(),
                    value: value.map(Into::into),
                })
                .collect(),
        }
    }

    #[test]
    fn permissions_and_roles_come_from_where_they_are_said_to() {
        let claims = json!({
            "sub": "u", "scope": "read write", "https://x.test/permissions": ["execute"],
            "realm_access": { "roles": ["admin", "two words"] }, "tenant": 42, "org": { "unit": "a" }
        });
        let names = names(&["scope", "https://x.test/permissions", "absent"], &["realm_access.roles"], &[]);
        let identity = read(&names, claims).expect("sound claims");
        for permission in ["read", "write", "execute"] {
            assert!(identity.has_permission(permission), "{permission}");
        }
        assert!(identity.has_role("two words") && !identity.has_role("two"));
        assert_eq!((identity.claim("tenant"), identity.claim("org.unit")), (Some("42"), Some("a")));
        assert_eq!(identity.claim("sub"), Some("u"));
    }

    #[test]
    fn what_is_required_must_be_there_and_fit() {
        let claims = || json!({ "sub": "u", "azp": "web", "groups": ["a", "b"], "level": 3, "ok": true, "no": null });
        for (name, value, fits) in [
            ("azp", Some("web"), true),
            ("azp", Some("we"), false),
            ("groups", Some("b"), true),
            ("groups", Some("c"), false),
            ("level", Some("3"), true),
            ("ok", Some("true"), true),
            ("azp", None, true),
            ("no", None, false),
            ("absent", None, false),
        ] {
            let outcome = read(&names(&["scope"], &["roles"], &[(name, value)]), claims());
            assert_eq!(outcome.is_ok(), fits, "{name} {value:?}");
        }
    }

    #[test]
    fn wrong_kinds_and_repeated_members_are_refused() {
        for wrong in [
            json!({ "sub": 1 }),
            json!({}),
            json!({ "sub": "u", "scope": 1 }),
            json!({ "sub": "u", "scope": [1] }),
            json!({ "sub": "u", "roles": "admin" }),
            json!({ "sub": "u", "iat": "now" }),
            json!({ "sub": "u", "jti": 1 }),
            json!({ "sub": "u\n" }),
        ] {
            assert!(read(&names(&["scope"], &["roles"], &[]), wrong.clone()).is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Claims>("{\"sub\":\"a\",\"sub\":\"b\"}").is_err());
    }
}
