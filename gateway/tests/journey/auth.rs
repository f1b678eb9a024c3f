//! Auth: who is it, and may they? Every way in which a credential can be wrong has its own code.
//!
//! Read next: `budget.rs`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::api_key::ApiKey;
use http::StatusCode;
use serde_json::{Value, json};
use testkit::token::now;
use testkit::wait::{PATIENCE, until};

use crate::harness::client::{self, Answer};
use crate::harness::gateway::Gateway;
use crate::harness::issuer::{KEYS, Key, KeySetServer, KeySource, key_scheme, scheme, token_of};
use crate::harness::server::{self, Server};
use crate::harness::settings::{HEAD, HTTP, Pool, upstream};
use crate::harness::upstream::Echo;

/// `/any` takes every algorithm of the issuer, `/es` only ES256.
const ROUTES: &str = "\
routes:
  - { id: any, path: /any, auth: [tokens], require: [read], to: api }
  - { id: es, path: /es, auth: [es_tokens], require: [], to: api }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_tokens_of_every_allowed_algorithm_are_accepted() {
    let (echo, gateway) = token_gateway().await;
    let token = || token_of("alice", "read");
    let cases = [
        ("ES256", token().signed_by(&KEYS.es256)),
        ("RS256", token().signed_by(&KEYS.rs256)),
        ("EdDSA", token().signed_by(&KEYS.eddsa)),
        ("the long form of typ (RFC 9068 §2.1)", token().header("typ", "application/at+jwt").signed_by(&KEYS.es256)),
        (
            "one audience of several (RFC 7519 §4.1.3)",
            token().claim("aud", json!(["other", "capibara6"])).signed_by(&KEYS.es256),
        ),
        ("no nbf and more claims", token().claim("nbf", Value::Null).claim("tenant", "t1").signed_by(&KEYS.es256)),
    ];
    for (what, token) in cases {
        let answer = ask(&gateway, "/any", &token).await;
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        assert_eq!(echo.last().values("x-auth-subject"), ["alice"], "{what}");
    }
    ask(&gateway, "/es", &token().signed_by(&KEYS.es256)).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_token_is_refused_with_its_own_code() {
    let (echo, gateway) = token_gateway().await;
    let es = &KEYS.es256;
    let token = || token_of("alice", "read");
    let impostor = Key::es256("es-1");
    let [head, claims, signature] = parts(&token().signed_by(es));
    let [_, other_claims, _] = parts(&token_of("root", "read admin").signed_by(es));
    let cases: Vec<(&str, &str, String, &str)> = vec![
        ("expired", "/any", token().claim("exp", now() - 3600).signed_by(es), "token_expired"),
        ("nbf in the future", "/any", token().claim("nbf", now() + 3600).signed_by(es), "token_not_yet_valid"),
        ("another issuer", "/any", token().claim("iss", "https://evil.test/").signed_by(es), "token_issuer_invalid"),
        (
            "the issuer less a slash",
            "/any",
            token().claim("iss", "https://auth.test").signed_by(es),
            "token_issuer_invalid",
        ),
        ("another audience", "/any", token().claim("aud", "elsewhere").signed_by(es), "token_audience_invalid"),
        ("alg none", "/any", token().unsigned("es-1"), "token_algorithm_invalid"),
        ("alg None", "/any", token().header("alg", "None").signed_by(es), "token_algorithm_invalid"),
        (
            "HS256 with the public key's PEM",
            "/any",
            token().signed_with_secret(es.public_pem.as_bytes(), "es-1"),
            "token_algorithm_invalid",
        ),
        (
            "HS256 with the public key's PEM, trimmed",
            "/any",
            token().signed_with_secret(es.public_pem.trim_end().as_bytes(), "es-1"),
            "token_algorithm_invalid",
        ),
        (
            "HS256 with the public key's DER",
            "/any",
            token().signed_with_secret(&es.public_der, "es-1"),
            "token_algorithm_invalid",
        ),
        (
            "HS256 with the RSA key's DER",
            "/any",
            token().signed_with_secret(&KEYS.rs256.public_der, "rs-1"),
            "token_algorithm_invalid",
        ),
        (
            "an algorithm of another key",
            "/any",
            token().header("alg", "RS256").signed_by(es),
            "token_algorithm_invalid",
        ),
        ("an algorithm the route does not allow", "/es", token().signed_by(&KEYS.rs256), "token_algorithm_invalid"),
        ("another one", "/es", token().signed_by(&KEYS.eddsa), "token_algorithm_invalid"),
        ("an unknown key", "/any", token().header("kid", "es-99").signed_by(es), "token_key_unknown"),
        ("a path for a key", "/any", token().header("kid", "../../dev/null").signed_by(es), "token_key_unknown"),
        ("somebody else's key", "/any", token().signed_by(&impostor), "token_signature_invalid"),
        ("other claims", "/any", format!("{head}.{other_claims}.{signature}"), "token_signature_invalid"),
        ("no signature", "/any", format!("{head}.{claims}."), "token_signature_invalid"),
        ("not a token", "/any", "garbage".to_owned(), "token_malformed"),
        ("two parts", "/any", format!("{head}.{claims}"), "token_malformed"),
        ("four parts", "/any", format!("{head}.{claims}.{signature}.x"), "token_malformed"),
        ("not base64url", "/any", format!("{head}.{claims}.!!!"), "token_malformed"),
        ("a header that is not JSON", "/any", format!("Z2FyYmFnZQ.{claims}.{signature}"), "token_malformed"),
        ("an ID token", "/any", token().header("typ", "JWT").signed_by(es), "token_type_invalid"),
        ("no type", "/any", token().header("typ", Value::Null).signed_by(es), "token_type_invalid"),
        ("no subject", "/any", token().claim("sub", Value::Null).signed_by(es), "token_claim_invalid"),
        ("a subject that is a number", "/any", token().claim("sub", 7).signed_by(es), "token_claim_invalid"),
        ("no end", "/any", token().claim("exp", Value::Null).signed_by(es), "token_claim_invalid"),
    ];
    for (what, path, token, code) in cases {
        println!("{what}");
        let answer = ask(&gateway, path, &token).await;
        answer.expect_problem(401, code);
        let challenge = answer.header("www-authenticate");
        assert!(
            challenge.starts_with("Bearer") && challenge.contains("error=\"invalid_token\""),
            "{what}: {challenge:?}"
        );
        assert!(!String::from_utf8_lossy(&answer.body).contains(&token), "{what}: the answer repeats the token");
    }
    // A `crit` that is not understood must not be ignored (RFC 7515 §4.1.11).
    let critical = token().header("crit", json!(["exp2"])).header("exp2", 1).signed_by(es);
    assert_eq!(ask(&gateway, "/any", &critical).await.status, 401, "crit");
    assert_eq!(echo.count(), 0, "no refused request has reached the upstream");
    assert!(!gateway.said().contains(&signature), "credentials stay out of the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_doubled_credential_is_refused() {
    let (echo, gateway) = token_gateway().await;
    let get = || client::plain().get(gateway.url("/any"));
    let missing = client::send(get()).await;
    missing.expect_problem(401, "token_missing");
    // Nothing was sent, so nothing is wrong with it (RFC 6750 §3.1).
    assert!(missing.header("www-authenticate").starts_with("Bearer"), "{missing:?}");
    assert!(!missing.header("www-authenticate").contains("error="), "{missing:?}");
    client::send(get().header("Authorization", "Basic YTpi")).await.expect_problem(401, "token_missing");

    let [alice, root] = ["alice", "root"].map(|subject| token_of(subject, "read").signed_by(&KEYS.es256));
    let doubled = get().header("Authorization", format!("Bearer {alice}"));
    let doubled = client::send(doubled.header("Authorization", format!("Bearer {root}"))).await;
    doubled.expect_problem(401, "credential_ambiguous");
    assert_eq!(echo.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_without_the_permission_is_403() {
    let (echo, gateway) = token_gateway().await;
    let answer = ask(&gateway, "/any", &token_of("alice", "write reader").signed_by(&KEYS.es256)).await;
    let problem = answer.expect_problem(403, "permission_missing");
    assert_eq!(problem["route"], "any");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("read")), "{problem}");
    assert_eq!(echo.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_set_that_was_never_fetched_is_our_fault() {
    let echo = Echo::start().await;
    // Nothing listens on port 1.
    let gateway = gateway(&echo, &scheme("ES256", "{ urls: [\"http://127.0.0.1:1/jwks.json\"] }"), None).await;
    let answer = ask(&gateway, "/x", &token_of("alice", "read").signed_by(&KEYS.es256)).await;
    answer.expect_problem(503, "key_set_unavailable");
    assert_eq!(echo.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_keys_outlive_their_server_and_unknown_ones_cannot_storm_it() {
    const FLOOD: usize = 60;
    let (echo, issuer) = (Echo::start().await, KeySetServer::start().await);
    let gateway = gateway(&echo, &scheme("ES256", &issuer.setting()), None).await;
    let sound = || token_of("alice", "read").signed_by(&KEYS.es256);
    until("the gateway has fetched the key set", PATIENCE, async || {
        let answer = ask(&gateway, "/x", &sound()).await;
        if answer.status == 200 {
            return Some(());
        }
        answer.expect_problem(503, "key_set_unavailable");
        None
    })
    .await;
    for index in 0..FLOOD {
        let unknown = token_of("alice", "read").header("kid", format!("made-up-{index}")).signed_by(&KEYS.es256);
        ask(&gateway, "/x", &unknown).await.expect_problem(401, "token_key_unknown");
    }
    assert!(issuer.fetches() <= 2, "{FLOOD} unknown keys caused {} fetches", issuer.fetches());
    issuer.stop().await;
    let unknown = token_of("alice", "read").header("kid", "made-up").signed_by(&KEYS.es256);
    ask(&gateway, "/x", &unknown).await.expect_problem(401, "token_key_unknown");
    // A token never seen before, so that no remembered verdict answers for it.
    ask(&gateway, "/x", &sound()).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_keys_are_good_while_their_source_says_so() {
    let (echo, source) = (Echo::start().await, KeySource::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = scheme("ES256", &KEYS.jwks_file(folder.path()));
    let gateway = gateway(&echo, &tokens, Some(&key_scheme(&[source.address()]))).await;
    let with_key = |path: &str, key: &str| client::plain().get(gateway.url(path)).header("X-API-Key", key);

    let key = source.issue("carol", "read api_access");
    for path in ["/keys", "/x"] {
        client::send(with_key(path, &key.reveal())).await.expect_status(200);
        let seen = echo.last();
        assert_eq!(seen.values("x-auth-subject"), ["carol"]);
        assert_eq!(seen.values("x-auth-method"), ["api_key"]);
        assert_eq!(seen.values("x-auth-key-id"), [key.id()]);
    }
    client::send(client::plain().get(gateway.url("/keys"))).await.expect_problem(401, "key_missing");
    let asked = source.questions();
    for malformed in ["garbage", "cap6_short_key", ""] {
        let answer = client::send(with_key("/keys", malformed)).await;
        assert_eq!(answer.status, 401, "{malformed:?}: {answer:?}");
    }
    assert_eq!(source.questions(), asked, "nobody is asked about what cannot be a key");
    let stranger = ApiKey::generate();
    client::send(with_key("/keys", &stranger.reveal())).await.expect_problem(401, "key_invalid");
    let doubled = with_key("/keys", &key.reveal()).header("X-API-Key", stranger.reveal());
    client::send(doubled).await.expect_problem(401, "credential_ambiguous");

    source.revoke(&key);
    until("the revoked key is refused within a second", Duration::from_secs(1), async || {
        let answer = client::send(with_key("/keys", &key.reveal())).await;
        if answer.status == 200 { None } else { Some(answer.expect_problem(401, "key_invalid")) }
    })
    .await;
    source.stop().await;
    let unchecked = ApiKey::generate();
    client::send(with_key("/keys", &unchecked.reveal())).await.expect_problem(503, "key_source_unavailable");
    assert!(!gateway.said().contains(&key.reveal()), "credentials stay out of the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remembered_key_outlives_its_source_for_as_long_as_it_is_believed() {
    const BELIEVED: Duration = Duration::from_secs(3);
    let (echo, source) = (Echo::start().await, KeySource::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = scheme("ES256", &KEYS.jwks_file(folder.path()));
    let keys = key_scheme(&[source.address()]).replace("cache: 500ms", &format!("cache: {}s", BELIEVED.as_secs()));
    let gateway = gateway(&echo, &tokens, Some(&keys)).await;
    let key = source.issue("carol", "read api_access").reveal();
    let with_key = async || client::send(client::plain().get(gateway.url("/keys")).header("X-API-Key", &key)).await;
    let began = Instant::now();
    with_key().await.expect_status(200);
    source.stop().await;
    with_key().await.expect_status(200);
    let refused = until("it is believed no longer", PATIENCE, async || {
        let answer = with_key().await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    refused.expect_problem(503, "key_source_unavailable");
    assert!(began.elapsed() >= BELIEVED, "{:?}", began.elapsed());
}

async fn ask(gateway: &Gateway, path: &str, token: &str) -> Answer {
    client::send(client::plain().get(gateway.url(path)).bearer_auth(token)).await
}

/// A gateway with `ROUTES` before an echo; its keys are read from a file.
async fn token_gateway() -> (Echo, Gateway) {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let jwks = KEYS.jwks_file(folder.path());
    let (any, es) = (scheme("ES256, RS256, EdDSA", &jwks), scheme("ES256", &jwks));
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let settings = format!("{HEAD}{HTTP}{upstream}auth:\n  tokens: {any}\n  es_tokens: {es}\n{ROUTES}");
    (echo, Gateway::plain(&settings).await)
}

/// A gateway that takes tokens on `/x`; with a scheme for keys, also keys there, and only keys on `/keys`.
async fn gateway(echo: &Echo, tokens: &str, keys: Option<&str>) -> Gateway {
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let mut settings = format!("{HEAD}{HTTP}{upstream}auth:\n  tokens: {tokens}\n");
    match keys {
        Some(keys) => {
            settings.push_str("  keys: ");
            settings.push_str(keys);
            settings.push_str("\nroutes:\n  - { id: keys, path: /keys, auth: [keys], require: [], to: api }\n");
            settings.push_str("  - { id: x, path: /x, auth: [tokens, keys], require: [], to: api }\n");
        }
        None => settings.push_str("routes:\n  - { id: x, path: /x, auth: [tokens], require: [], to: api }\n"),
    }
    Gateway::plain(&settings).await
}

/// The three parts of a token.
fn parts(token: &str) -> [String; 3] {
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().expect("a token has three parts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_key_is_accepted_from_its_first_token_on() {
    let echo = Echo::start().await;
    let published = Arc::new(Mutex::new(KEYS.jwks()));
    let served = Arc::clone(&published);
    let source = Server::start(move |_| {
        let set = served.lock().expect("no handler panicked").clone();
        async move { server::json(StatusCode::OK, &set) }
    })
    .await;
    let jwks = format!("{{ urls: [\"http://{}/jwks.json\"], refresh: 5m }}", source.address);
    let settings = format!(
        "{HEAD}{HTTP}{}auth:\n  tokens: {}\nroutes:\n  - {{ id: any, path: /any, auth: [tokens], require: [], to: api }}\n",
        upstream(&Pool::of(&[echo.address()])),
        scheme("ES256", &jwks)
    );
    let gateway = Gateway::plain(&settings).await;
    let token = |key: &Key| token_of("alice", "read").signed_by(key);
    until("the first key set is fetched", PATIENCE, async || {
        (ask(&gateway, "/any", &token(&KEYS.es256)).await.status == 200).then_some(())
    })
    .await;
    let mut last = token(&KEYS.es256);
    let mut last_jwk = KEYS.es256.jwk().clone();
    for id in ["es-2", "es-3", "es-4", "es-5"] {
        let key = Key::es256(id);
        *published.lock().expect("no handler panicked") = json!({ "keys": [key.jwk(), last_jwk] });
        let next = token(&key);
        ask(&gateway, "/any", &next).await.expect_status(200);
        // Tokens of the key before are good as long as it is published.
        ask(&gateway, "/any", &last).await.expect_status(200);
        (last, last_jwk) = (next, key.jwk().clone());
    }
    // A key that is published no longer is good no longer, also for tokens that were seen before.
    ask(&gateway, "/any", &token(&KEYS.es256)).await.expect_problem(401, "token_key_unknown");
}

/// How long keys are rotated under load: ten seconds, or a minute with `SOAK` set.
fn soak() -> Duration {
    Duration::from_secs(if std::env::var_os("SOAK").is_some() { 60 } else { 10 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_rotated_under_load_refuse_nobody() {
    const ROTATE_EVERY: Duration = Duration::from_secs(2);
    let echo = Echo::start().await;
    let new_key = |number: usize| Arc::new(Key::es256(Box::leak(format!("rotating-{number}").into_boxed_str())));
    let keys = Arc::new(Mutex::new(vec![new_key(0)]));
    let published = Arc::clone(&keys);
    let server = Server::start(move |_| {
        let keys: Vec<Value> =
            published.lock().expect("no holder panicked").iter().map(|key| key.jwk().clone()).collect();
        async move { server::json(StatusCode::OK, &json!({ "keys": keys })) }
    })
    .await;
    let jwks = format!("{{ urls: [\"http://{}/jwks.json\"], refresh: 1h }}", server.address);
    let gateway = Arc::new(gateway(&echo, &scheme("ES256", &jwks), None).await);
    until("the first key set is fetched", PATIENCE, async || {
        (gateway.admin("/health/ready").await.status == 200).then_some(())
    })
    .await;
    let over = Instant::now() + soak();
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (gateway, keys) = (Arc::clone(&gateway), Arc::clone(&keys));
            tokio::spawn(async move {
                let client = client::plain();
                let (mut asked, mut refused) = (0_usize, Vec::new());
                while Instant::now() < over {
                    // Half of them sign with the newest key, the others with the one before.
                    let key = {
                        let keys = keys.lock().expect("no holder panicked");
                        Arc::clone(&keys[keys.len().saturating_sub(1 + number % 2)])
                    };
                    let token = token_of("alice", "read").signed_by(&*key);
                    let answer = client::send(client.get(gateway.url("/x")).bearer_auth(token)).await;
                    asked += 1;
                    if answer.status != 200 {
                        refused.push(answer);
                    }
                }
                (asked, refused)
            })
        })
        .collect();
    let mut rotations = 1;
    while Instant::now() + ROTATE_EVERY < over {
        // The one sleep of a fixed length here: it is the rotation's own pace.
        tokio::time::sleep(ROTATE_EVERY).await;
        let key = new_key(rotations);
        let mut keys = keys.lock().expect("no holder panicked");
        keys.push(key);
        let surplus = keys.len().saturating_sub(3);
        keys.drain(..surplus);
        rotations += 1;
    }
    let mut asked = 0;
    for client in clients {
        let (count, refused) = client.await.expect("no client panics");
        assert!(refused.is_empty(), "{} of {count} refused, the first: {:?}", refused.len(), refused.first());
        asked += count;
    }
    assert!(rotations >= 4 && asked > 100, "{rotations} rotations, {asked} requests");
}
