//! Tokens: `/.well-known/jwks.json`, and every way in which an access token can be wrong.
//!
//! Read next: `refusals.rs`.

use common::claims::AccessClaims;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use testkit::token::now;

use crate::harness::backend::{ADMIN, Backend, Folder, folder};
use crate::harness::client::{Answer, send};
use crate::harness::settings::{AUDIENCE, ISSUER, Settings};
use crate::harness::token::{SigningKey, kid, token_of};

/// A backend that signs with these keys, the first of which is used for new tokens.
async fn signing_with(folder: &Folder, keys: &[&SigningKey]) -> Backend {
    let entries: Vec<String> = keys.iter().map(|key| key.setting(folder.path())).collect();
    let settings = Settings::development().auth(format!("signing_keys: [{}]", entries.join(", ")));
    Backend::start_in(folder, &settings).await
}

async fn key_set(backend: &Backend) -> Answer {
    let answer = send(backend.get("/.well-known/jwks.json")).await;
    answer.expect_status(200);
    answer
}

/// Verifies a token as any other service would, with nothing but the key set.
fn verify(key_set: &Answer, token: &str) -> AccessClaims {
    let keys: JwkSet = serde_json::from_str(&key_set.body).expect("a key set (RFC 7517 §5)");
    let header = jsonwebtoken::decode_header(token).expect("a JWT");
    assert_eq!(header.alg, Algorithm::ES256);
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    let key = keys.find(header.kid.as_deref().expect("the token names its key")).expect("the key is published");
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    let key = DecodingKey::from_jwk(key).expect("a public key");
    jsonwebtoken::decode::<AccessClaims>(token, &key, &validation).expect("the token is sound").claims
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_can_be_verified_with_the_published_keys() {
    let backend = Backend::development().await;
    let published = key_set(&backend).await;
    assert!(published.header("cache-control").contains("max-age="), "{published:?}");
    assert_eq!(published.header("content-type"), "application/jwk-set+json", "RFC 7517 §8.5.2: {published:?}");
    let keys = published.json();
    for key in keys["keys"].as_array().expect("a list of keys") {
        let members = json!([key["kty"], key["crv"], key["alg"], key["use"]]);
        assert_eq!(members, json!(["EC", "P-256", "ES256", "sig"]), "{key}");
        assert!(key["kid"].is_string() && key["x"].is_string() && key["y"].is_string(), "{key}");
        assert_eq!(key.get("d"), None, "the private half is published");
    }

    let session = backend.login(ADMIN).await;
    let claims = verify(&published, &session.access);
    assert_eq!(claims.client_id, "capibara6");
    assert_eq!(claims.roles, ["admin"]);
    assert_eq!(claims.scope, "read write execute admin api_access graphql_access");
    assert_eq!(claims.exp - claims.iat, 1800);
    assert!(now().abs_diff(claims.iat) < 60, "{claims:?}");
    assert!(!claims.jti.is_empty() && !claims.sub.is_empty(), "{claims:?}");
    // The subject is the stable id, not the name, which another may have one day.
    assert_ne!(claims.sub, "admin");
    let again = verify(&published, &backend.login(ADMIN).await.access);
    assert_eq!(again.sub, claims.sub);
    assert_ne!(again.jti, claims.jti);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_without_ending_tokens() {
    let (folder, old, new) = (folder(), SigningKey::generate("k1"), SigningKey::generate("k2"));
    // First the new key is only published.
    let backend = signing_with(&folder, &[&old, &new]).await;
    let published = key_set(&backend).await;
    let keys = published.json();
    let ids: Vec<&Value> = keys["keys"].as_array().expect("a list of keys").iter().map(|key| &key["kid"]).collect();
    assert_eq!(ids, [&json!("k1"), &json!("k2")]);
    let session = backend.login(ADMIN).await;
    assert_eq!(kid(&session.access), "k1");
    verify(&published, &session.access);
    backend.stop().await;

    // Then it signs, while tokens of the old one still hold.
    let backend = signing_with(&folder, &[&new, &old]).await;
    backend.me(&session.access).await.expect_status(200);
    let renewed = send(backend.try_refresh(&session.refresh)).await.text("access_token");
    assert_eq!(kid(&renewed), "k2");
    backend.stop().await;

    // At last the old one is gone.
    let backend = signing_with(&folder, &[&new]).await;
    backend.me(&renewed).await.expect_status(200);
    backend.me(&session.access).await.expect_problem(401, "token_key_unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_token_is_refused_with_its_own_code() {
    let (folder, key) = (folder(), SigningKey::generate("k1"));
    let backend = signing_with(&folder, &[&key]).await;
    let subject = verify(&key_set(&backend).await, &backend.login(ADMIN).await.access).sub;
    let token = || token_of(&subject, "read api_access");
    backend.me(&token().signed_by(&key)).await.expect_status(200);
    let long_type = token().header("typ", "application/at+jwt").signed_by(&key);
    backend.me(&long_type).await.expect_status(200);

    let impostor = SigningKey::generate("k1");
    let [head, claims, signature] = parts(&token().signed_by(&key));
    let [_, other_claims, _] = parts(&token_of(&subject, "read admin").signed_by(&key));
    let long_token = token().claim("padding", "x".repeat(10_000)).signed_by(&key);
    let cases: Vec<(&str, String, &str)> = vec![
        ("expired", token().claim("exp", now() - 1).signed_by(&key), "token_expired"),
        ("issued in the future", token().claim("iat", now() + 3600).signed_by(&key), "token_not_yet_valid"),
        ("another issuer", token().claim("iss", "https://evil.test/").signed_by(&key), "token_issuer_invalid"),
        ("another audience", token().claim("aud", "elsewhere").signed_by(&key), "token_audience_invalid"),
        ("alg none", token().unsigned("k1"), "token_algorithm_invalid"),
        ("HS256 with the PEM", token().signed_with_secret(key.pem.as_bytes(), "k1"), "token_algorithm_invalid"),
        ("another algorithm", token().header("alg", "RS256").signed_by(&key), "token_algorithm_invalid"),
        ("an unknown key", token().header("kid", "k9").signed_by(&key), "token_key_unknown"),
        ("an empty key id", token().header("kid", "").signed_by(&key), "token_key_unknown"),
        ("somebody else's key", token().signed_by(&impostor), "token_signature_invalid"),
        ("other claims", format!("{head}.{other_claims}.{signature}"), "token_signature_invalid"),
        ("no signature", format!("{head}.{claims}."), "token_signature_invalid"),
        ("not a token", "garbage".to_owned(), "token_malformed"),
        ("two parts", format!("{head}.{claims}"), "token_malformed"),
        ("four parts", format!("{head}.{claims}.{signature}.x"), "token_malformed"),
        ("a header that is not JSON", format!("Z2FyYmFnZQ.{claims}.{signature}"), "token_malformed"),
        ("far too long", long_token, "token_malformed"),
        ("an extension nobody knows", token().header("crit", json!(["exp2"])).signed_by(&key), "token_malformed"),
        ("an ID token", token().header("typ", "JWT").signed_by(&key), "token_type_invalid"),
        ("no type", token().header("typ", Value::Null).signed_by(&key), "token_type_invalid"),
        ("no subject", token().claim("sub", Value::Null).signed_by(&key), "token_claim_invalid"),
        ("no end", token().claim("exp", Value::Null).signed_by(&key), "token_claim_invalid"),
        ("a subject that is a number", token().claim("sub", 7).signed_by(&key), "token_claim_invalid"),
    ];
    for (what, token, code) in cases {
        println!("{what}");
        let answer = backend.me(&token).await;
        answer.expect_problem(401, code);
        let challenge = answer.header("www-authenticate");
        assert!(challenge.contains("error=\"invalid_token\""), "{what}: {challenge:?}");
        assert!(!answer.body.contains(&token), "{what}: the answer repeats the token");
    }
    assert!(!backend.said().contains(&signature), "credentials stay out of the log");
}

/// The three parts of a token.
fn parts(token: &str) -> [String; 3] {
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().expect("a token has three parts")
}
