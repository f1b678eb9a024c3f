//! Tests of access tokens: one table of ways not to hold.

use common::clock::ManualClock;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use super::*;
use crate::auth::jwks::DEVELOPMENT_KEY_ID;

const NOW: u64 = 1_800_000_000;
const TTL_SECONDS: u64 = 1_800;

fn tokens(clock: Arc<ManualClock>) -> Tokens {
    let keys = SigningKeys::new(&[]).expect("the development key is sound");
    Tokens::new(keys, "https://issuer.test/".into(), "capibara6".into(), Duration::from_secs(TTL_SECONDS), clock)
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer.test/", "aud": "capibara6", "sub": "u-1", "client_id": "capibara6", "iat": NOW,
        "exp": NOW + 60, "jti": "t-1", "scope": "read fly api_access", "roles": ["readonly"],
    })
}

/// Signs whatever it is given with our own key.
fn sign(tokens: &Tokens, header: &Header, claims: &Value) -> String {
    jsonwebtoken::encode(header, claims, tokens.keys().signing().1).expect("signed")
}

fn header() -> Header {
    let mut header = Header::new(ALGORITHM);
    header.typ = Some(ACCESS_TOKEN_TYPE.into());
    header.kid = Some(DEVELOPMENT_KEY_ID.into());
    header
}

#[test]
fn an_issued_token_proves_its_caller_until_it_expires() {
    let clock = Arc::new(ManualClock::at(NOW));
    let tokens = tokens(Arc::clone(&clock));
    let token = tokens.issue("u-1", Role::Readonly, NOW).expect("issued");
    let caller = tokens.verify(token.expose()).expect("it holds");
    assert_eq!(caller.subject, "u-1");
    assert_eq!(scope_of(&caller.permissions), "read api_access");
    clock.advance(Duration::from_secs(TTL_SECONDS - 1));
    assert!(tokens.verify(token.expose()).is_ok());
    clock.advance(Duration::from_secs(1));
    assert!(matches!(tokens.verify(token.expose()), Err(TokenError::Expired)));
}

#[test]
fn a_withdrawn_token_does_not_hold() {
    let tokens = tokens(Arc::new(ManualClock::at(NOW)));
    let token = tokens.issue("u-1", Role::User, NOW).expect("issued");
    let shown = tokens.shown(token.expose()).expect("it holds");
    assert_eq!((shown.subject.as_str(), shown.ends), ("u-1", NOW + TTL_SECONDS));
    let ends = i64::try_from(shown.ends).expect("a time");
    tokens.withdrawn.add("token", &shown.id, 0, ends);
    assert!(matches!(tokens.verify(token.expose()), Err(TokenError::Revoked)));
    assert!(tokens.shown("garbage").is_none());
}

#[test]
fn words_of_the_scope_that_nobody_knows_grant_nothing() {
    let tokens = tokens(Arc::new(ManualClock::at(NOW)));
    let caller = tokens.verify(&sign(&tokens, &header(), &claims())).expect("it holds");
    assert_eq!(scope_of(&caller.permissions), "read api_access");
}

#[test]
fn a_wrong_claim_has_its_own_refusal() {
    let tokens = tokens(Arc::new(ManualClock::at(NOW)));
    let cases: [(&str, Value, fn(&TokenError) -> bool); 8] = [
        ("iss", json!("https://evil.test/"), |error| matches!(error, TokenError::IssuerInvalid)),
        ("aud", json!("other"), |error| matches!(error, TokenError::AudienceInvalid)),
        ("exp", json!(NOW), |error| matches!(error, TokenError::Expired)),
        ("exp", json!("tomorrow"), |error| matches!(error, TokenError::ClaimInvalid)),
        ("exp", Value::Null, |error| matches!(error, TokenError::ClaimInvalid)),
        ("iat", json!(NOW + 61), |error| matches!(error, TokenError::NotYetValid)),
        ("sub", Value::Null, |error| matches!(error, TokenError::ClaimInvalid)),
        ("roles", json!("admin"), |error| matches!(error, TokenError::ClaimInvalid)),
    ];
    for (claim, value, expected) in cases {
        let mut claims = claims();
        claims[claim] = value.clone();
        let error = tokens.verify(&sign(&tokens, &header(), &claims)).expect_err("it must not hold");
        assert!(expected(&error), "{claim} = {value}: {error:?}");
    }
}

#[test]
fn a_wrong_header_has_its_own_refusal() {
    let tokens = tokens(Arc::new(ManualClock::at(NOW)));
    let mut other_type = header();
    other_type.typ = Some("JWT".into());
    let mut other_key = header();
    other_key.kid = Some("k9".into());
    let mut no_key = header();
    no_key.kid = None;
    let mut critical = header();
    critical.crit = Some(vec!["b64".into()]);
    assert!(matches!(tokens.verify(&sign(&tokens, &other_type, &claims())), Err(TokenError::TypeInvalid)));
    assert!(matches!(tokens.verify(&sign(&tokens, &other_key, &claims())), Err(TokenError::KeyUnknown)));
    assert!(matches!(tokens.verify(&sign(&tokens, &no_key, &claims())), Err(TokenError::KeyUnknown)));
    assert!(matches!(tokens.verify(&sign(&tokens, &critical, &claims())), Err(TokenError::Malformed)));
}

#[test]
fn forged_tokens_do_not_hold() {
    let tokens = tokens(Arc::new(ManualClock::at(NOW)));
    let good = sign(&tokens, &header(), &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());

    let none = encode(&json!({ "alg": "none", "typ": "at+jwt", "kid": DEVELOPMENT_KEY_ID }));
    assert!(matches!(tokens.verify(&format!("{none}.{}.", parts[1])), Err(TokenError::AlgorithmInvalid)));

    // HMAC with the published key as its secret: the classic confusion of algorithms.
    let mut hmac = Header::new(jsonwebtoken::Algorithm::HS256);
    hmac.typ = Some(ACCESS_TOKEN_TYPE.into());
    hmac.kid = Some(DEVELOPMENT_KEY_ID.into());
    let confused = jsonwebtoken::encode(&hmac, &claims(), &EncodingKey::from_secret(tokens.keys().document()));
    assert!(matches!(tokens.verify(&confused.expect("signed")), Err(TokenError::AlgorithmInvalid)));

    let mut mighty = claims();
    mighty["scope"] = json!("admin");
    let changed = format!("{}.{}.{}", parts[0], encode(&mighty), parts[2]);
    assert!(matches!(tokens.verify(&changed), Err(TokenError::SignatureInvalid)));
}

#[test]
fn what_is_no_token_is_malformed() {
    let tokens = tokens(Arc::new(ManualClock::at(NOW)));
    let long = "a".repeat(TOKEN_BYTES_MAX + 1);
    for text in ["", "a", "a.b", "a.b.c", "a.b.c.d", "....", "e30.e30.e30", &long] {
        assert!(matches!(tokens.verify(text), Err(TokenError::Malformed)), "{text:.20}");
    }
}
