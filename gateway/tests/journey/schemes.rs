//! Schemes: every way to prove who one is, on the real program with real sources.
//!
//! Read next: `auth.rs` for tokens and key sets, `revocations.rs` for what was withdrawn.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use testkit::redis::Redis;
use testkit::token::now;
use testkit::wait::{PATIENCE, until};

use crate::harness::client::{self, Answer};
use crate::harness::gateway::{Gateway, new_key};
use crate::harness::issuer::{AUDIENCE, ISSUER, KEYS, KeySource, scheme, token_of};
use crate::harness::server::{self, Server};
use crate::harness::settings::{HEAD, HTTP, Pool, upstream};
use crate::harness::upstream::Echo;

/// A gateway before an echo, with these schemes, other settings and routes.
async fn gateway(echo: &Echo, schemes: &str, others: &str, routes: &str) -> Gateway {
    let upstream = upstream(&Pool::of(&[echo.address()]));
    Gateway::plain(&format!("{HEAD}{HTTP}{upstream}{others}auth:\n{schemes}routes:\n{routes}")).await
}

async fn ask(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> Answer {
    let request = client::plain().get(gateway.url(path));
    client::send(fields.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, text).expect("a temporary folder can be written");
    file.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_a_file_are_made_changed_and_ended() {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (first, entry) =
        new_key(&["--subject", "svc", "--permission", "read", "--role", "robot", "--name", "a \"b\""]);
    assert!(!entry.contains(&first[17..]), "the file holds no secret: {entry}");
    let file = write(folder.path(), "keys.yaml", &format!("keys:\n{entry}"));
    let schemes = format!("  keys: {{ api_key: {{ file: \"{file}\" }} }}\n");
    let routes = "  - { id: a, path: /*, auth: [keys], require: [read], to: api }\n";
    let gateway = gateway(&echo, &schemes, "", routes).await;
    let answer = ask(&gateway, "/x", &[("X-API-Key", &first)]).await;
    answer.expect_status(200);
    let seen = echo.last();
    assert_eq!((seen.values("x-auth-subject"), seen.values("x-auth-roles")), (vec!["svc"], vec!["robot"]));
    assert_eq!(seen.values("x-auth-key-id"), [&first[5..17]]);
    let other = new_key(&["--subject", "svc"]).0;
    ask(&gateway, "/x", &[("X-API-Key", &other)]).await.expect_problem(401, "key_invalid");
    let forged = format!("{}{}", &first[..18], "A".repeat(43));
    ask(&gateway, "/x", &[("X-API-Key", &forged)]).await.expect_problem(401, "key_invalid");
    ask(&gateway, "/x", &[]).await.expect_problem(401, "key_missing");

    // A second secret for the same id, while whoever uses it changes over; then the first is gone.
    let second = format!("{}{}", &first[..18], &other[18..]);
    let hash = |key: &str| common::api_key::ApiKey::parse(key).expect("a key").secret_hash().to_hex();
    let both =
        entry.replace(&format!("\"{}\"", hash(&first)), &format!("\"{}\", \"{}\"", hash(&first), hash(&second)));
    write(folder.path(), "keys.yaml", &format!("keys:\n{both}"));
    gateway.reload().await.expect_status(200);
    for key in [&first, &second] {
        ask(&gateway, "/x", &[("X-API-Key", key)]).await.expect_status(200);
    }
    let ended = entry.replace(&hash(&first), &hash(&second)) + "    expires: \"2026-01-01T00:00:00Z\"\n";
    write(folder.path(), "keys.yaml", &format!("keys:\n{ended}"));
    gateway.reload().await.expect_status(200);
    for key in [&first, &second] {
        ask(&gateway, "/x", &[("X-API-Key", key)]).await.expect_problem(401, "key_invalid");
    }
    write(
        folder.path(),
        "keys.yaml",
        "keys:\n  - { id: short, subject: \"\", secrets: [hunter2], expires: never }\n",
    );
    let refused = gateway.reload().await;
    refused.expect_status(422);
    let mistakes = refused.json()["mistakes"].to_string();
    for mistake in ["an id has 12 characters", "64 hexadecimal digits", "is not a time", "the subject is empty"] {
        assert!(mistakes.contains(mistake), "{mistake} is not in {mistakes}");
    }
    assert!(!mistakes.contains("hunter2"), "{mistakes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_the_store_work_while_it_does_and_their_use_is_noted() {
    let echo = Echo::start().await;
    let mut redis = Redis::start().await;
    let key = common::api_key::ApiKey::generate();
    let kept =
        json!({ "subject": "svc", "secrets": [key.secret_hash().to_hex()], "permissions": ["read"] }).to_string();
    redis.command(&["SET", &format!("capibara6:key:{}", key.id()), &kept]);
    let others = format!("stores:\n  redis: {{ url: \"{}\" }}\n", redis.url());
    let schemes = "  keys: { api_key: { redis: { cache: 300ms, negative_cache: 100ms }, bearer: true } }\n";
    let routes = "  - { id: a, path: /*, auth: [keys], require: [read], to: api }\n";
    let gateway = gateway(&echo, schemes, &others, routes).await;
    let sent = key.reveal();
    until("the store is reached", PATIENCE, async || {
        (ask(&gateway, "/x", &[("X-API-Key", &sent)]).await.status == 200).then_some(())
    })
    .await;
    ask(&gateway, "/x", &[("Authorization", &format!("Bearer {sent}"))]).await.expect_status(200);
    until("the use is noted", PATIENCE, async || {
        redis.command(&["HGET", "capibara6:key-uses", key.id()]).contains("\r\n17").then_some(())
    })
    .await;
    let other = common::api_key::ApiKey::generate().reveal();
    ask(&gateway, "/x", &[("X-API-Key", &other)]).await.expect_problem(401, "key_invalid");
    redis.command(&["DEL", &format!("capibara6:key:{}", key.id())]);
    until("a key that was taken away is refused", Duration::from_secs(1), async || {
        (ask(&gateway, "/x", &[("X-API-Key", &sent)]).await.status == 401).then_some(())
    })
    .await;
    redis.kill();
    until("nobody can say", PATIENCE, async || {
        (ask(&gateway, "/x", &[("X-API-Key", &sent)]).await.status == 503).then_some(())
    })
    .await;
}

/// A source of opaque tokens: answers `active` for those that begin with `good`, and counts questions.
async fn token_source(questions: &Arc<AtomicUsize>, asked_by: &Arc<Mutex<HeaderMap>>, exp: u64) -> Server {
    let (questions, asked_by) = (Arc::clone(questions), Arc::clone(asked_by));
    Server::start(move |asked| {
        questions.fetch_add(1, Ordering::SeqCst);
        *asked_by.lock().expect("no handler panicked") = asked.headers;
        let body = String::from_utf8_lossy(&asked.body).into_owned();
        let active = body.contains("token=good");
        let aud = if body.contains("elsewhere") { "other" } else { AUDIENCE };
        let answer =
            json!({ "active": active, "sub": "alice", "scope": "read", "aud": [aud], "exp": exp, "jti": "j1" });
        async move { server::json(StatusCode::OK, &answer) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_say_nothing_are_asked_about_and_remembered() {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (questions, asked_by) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<HeaderMap>>::default());
    let source = token_source(&questions, &asked_by, now() + 3).await;
    let secret = write(folder.path(), "secret", "s3cret");
    let schemes = format!(
        "  signed: {}\n  opaque: {{ introspection: {{ ask: {{ urls: [\"http://{}/\"], client_id: edge, secret: \"file:{secret}\", \
         cache: 60s, negative_cache: 60s }}, audience: {AUDIENCE} }} }}\n",
        scheme("ES256", &KEYS.jwks_file(folder.path())),
        source.address
    );
    let routes = "  - { id: a, path: /*, auth: [signed, opaque], require: [read], to: api }\n";
    let gateway = gateway(&echo, &schemes, "", routes).await;
    let bearer = async |token: &str| ask(&gateway, "/x", &[("Authorization", &format!("Bearer {token}"))]).await;
    for _ in 0..3 {
        bearer("good").await.expect_status(200);
        bearer("bad").await.expect_problem(401, "token_inactive");
    }
    assert_eq!(questions.load(Ordering::SeqCst), 2, "one question each");
    assert_eq!(echo.last().values("x-auth-method"), ["introspection"]);
    let basic = asked_by.lock().expect("no handler panicked")["authorization"].clone();
    assert_eq!(basic, "Basic ZWRnZTpzM2NyZXQ=", "edge:s3cret");
    bearer("good-elsewhere").await.expect_problem(401, "token_inactive");
    bearer(&token_of("bob", "read").signed_by(&KEYS.es256)).await.expect_status(200);
    bearer("a.b.c").await.expect_problem(401, "token_malformed");
    assert_eq!(questions.load(Ordering::SeqCst), 3, "signed tokens are no question");
    until("a token ends with its exp, whatever is remembered", PATIENCE, async || {
        (bearer("good").await.status == 401).then_some(())
    })
    .await;
    source.stop().await;
    bearer("good-new").await.expect_problem(503, "key_source_unavailable");
    bearer("bad").await.expect_problem(401, "token_inactive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_issuers_share_a_route_and_each_token_goes_to_its_own() {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let jwks = KEYS.jwks_file(folder.path());
    let second = format!(
        "{{ jwt: {{ issuer: \"https://second.test/\", audience: {AUDIENCE}, algorithms: [ES256], jwks: {jwks} }} }}"
    );
    let schemes = format!("  first: {}\n  second: {second}\n", scheme("ES256", &jwks));
    let routes = "  - { id: a, path: /*, auth: [first, second], require: [], to: api }\n";
    let gateway = gateway(&echo, &schemes, "", routes).await;
    let bearer = async |issuer: &str| {
        let token = testkit::token::Token::new(issuer, AUDIENCE, "alice", "read").signed_by(&KEYS.es256);
        ask(&gateway, "/x", &[("Authorization", &format!("Bearer {token}"))]).await
    };
    bearer(ISSUER).await.expect_status(200);
    bearer("https://second.test/").await.expect_status(200);
    let refused = bearer("https://third.test/").await;
    assert_eq!(refused.expect_problem(401, "token_issuer_invalid")["policy"], "first");
    let line = gateway.access_log("the refusal", |line| line["code"] == "token_issuer_invalid").await;
    assert_eq!(line["auth_tried"], json!(["first", "second"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_may_come_by_cookie_query_or_websocket_where_it_says_so() {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let jwks = KEYS.jwks_file(folder.path());
    let everywhere = format!(
        "{{ jwt: {{ issuer: \"{ISSUER}\", audience: {AUDIENCE}, algorithms: [ES256], jwks: {jwks}, cookie: session, query: token, \
         websocket_protocol: true }} }}"
    );
    let schemes = format!("  everywhere: {everywhere}\n  header: {}\n", scheme("ES256", &jwks));
    let routes = "  - { id: a, path: /a/*, auth: [everywhere], require: [], to: api, websocket: true }\n  \
                  - { id: b, path: /b/*, auth: [header], require: [], to: api }\n";
    let gateway = gateway(&echo, &schemes, "", routes).await;
    let token = token_of("alice", "read").signed_by(&KEYS.es256);
    let cookie = format!("a=1; session={token}");
    ask(&gateway, "/a/x", &[("Cookie", &cookie)]).await.expect_status(200);
    ask(&gateway, "/b/x", &[("Cookie", &cookie)]).await.expect_problem(401, "token_missing");
    ask(&gateway, &format!("/b/x?token={token}"), &[]).await.expect_problem(401, "token_missing");
    for (query, arrives) in [
        (format!("token={token}"), "/a/x"),
        (format!("q=1&token={token}"), "/a/x?q=1"),
        (format!("token={token}&q=%20&z"), "/a/x?q=%20&z"),
    ] {
        ask(&gateway, &format!("/a/x?{query}"), &[]).await.expect_status(200);
        assert_eq!(echo.last().target, arrives, "the credential goes no further");
    }
    ask(&gateway, &format!("/a/x?token={token}"), &[("Cookie", &cookie)])
        .await
        .expect_problem(401, "credential_ambiguous");
    let protocols = format!("bearer, {token}, chat");
    ask(&gateway, "/a/x", &[("Sec-WebSocket-Protocol", &protocols)]).await.expect_status(200);
    assert_eq!(echo.last().values("sec-websocket-protocol"), ["chat"]);
    assert!(!format!("{:?}", gateway.access_log_so_far()).contains(&token), "nor to the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_checked_against_both_kinds_of_hashes() {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bcrypt = bcrypt::hash("open sesame", 4).expect("a hash");
    // argon2id of "correct horse", 8 KiB, one pass: as small as it goes, for a test.
    let argon2 = argon2_of("correct horse");
    let file = write(
        folder.path(),
        "users.yaml",
        &format!(
            "users:\n  - {{ name: ali, password_hash: \"{bcrypt}\", permissions: [read] }}\n  \
             - {{ name: bob, password_hash: \"{argon2}\", permissions: [write], roles: [admin] }}\n"
        ),
    );
    let schemes = format!("  people: {{ basic: {{ file: \"{file}\", realm: Edge }} }}\n");
    let routes = "  - { id: a, path: /*, auth: [people], require: { any: [read, write] }, to: api }\n";
    let gateway = gateway(&echo, &schemes, "", routes).await;
    let login = async |name: &str, password: &str| {
        client::send(client::plain().get(gateway.url("/x")).basic_auth(name, Some(password))).await
    };
    login("ali", "open sesame").await.expect_status(200);
    for _ in 0..2 {
        login("bob", "correct horse").await.expect_status(200);
    }
    let seen = echo.last();
    assert_eq!((seen.values("x-auth-subject"), seen.values("x-auth-method")), (vec!["bob"], vec!["basic"]));
    for (name, password) in [("ali", "wrong"), ("bob", "open sesame"), ("eve", "open sesame"), ("ali", ""), ("", "")]
    {
        let refused = login(name, password).await;
        refused.expect_problem(401, "login_failed");
        assert_eq!(refused.header("www-authenticate"), "Basic realm=\"Edge\", charset=\"UTF-8\"");
    }
    ask(&gateway, "/x", &[("Authorization", "Basic !!!")]).await.expect_problem(401, "login_failed");
    ask(&gateway, "/x", &[]).await.expect_problem(401, "credential_missing");
    write(folder.path(), "users.yaml", "users: [{ name: \"a:b\", password_hash: hunter2 }]\n");
    let mistakes = gateway.reload().await.json()["mistakes"].to_string();
    assert!(mistakes.contains("has no \\\":\\\"") && mistakes.contains("is no hash by argon2id"), "{mistakes}");
    assert!(!mistakes.contains("hunter2"), "{mistakes}");
    login("ali", "open sesame").await.expect_status(200);
}

fn argon2_of(password: &str) -> String {
    use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};
    let params = Params::new(8, 1, 1, None).expect("sound parameters");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password(password.as_bytes()).expect("a hash").to_string()
}

/// An auth service that answers as the request's `X-Ask` says, and remembers what it saw.
async fn auth_service(seen: &Arc<Mutex<Vec<(String, HeaderMap)>>>) -> Server {
    let seen = Arc::clone(seen);
    Server::start(move |asked| {
        seen.lock().expect("no handler panicked").push((asked.method.to_string(), asked.headers.clone()));
        let wanted = asked.headers.get("x-ask").and_then(|ask| ask.to_str().ok()).unwrap_or("200").to_owned();
        async move {
            let mut reply = server::json(wanted.parse().unwrap_or(StatusCode::OK), &json!({}));
            let headers = reply.headers_mut();
            for (name, value) in [
                ("x-auth-subject", "carol"),
                ("x-auth-permissions", "read write"),
                ("x-auth-roles", "user, admin"),
                ("x-tenant", "acme"),
                ("x-secret", "not for the upstream"),
                ("www-authenticate", "Custom realm=\"there\""),
            ] {
                headers.insert(name, HeaderValue::from_static(value));
            }
            reply
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_ones_own_decides_and_sees_only_what_it_may() {
    let echo = Echo::start().await;
    let seen = Arc::<Mutex<Vec<(String, HeaderMap)>>>::default();
    let service = auth_service(&seen).await;
    let schemes = format!(
        "  own: {{ forward: {{ url: \"http://{}/check\", send_headers: [X-Ask, Cookie], copy_headers: [X-Tenant], timeout: 2s }} }}\n",
        service.address
    );
    let routes = "  - { id: a, path: /*, auth: [own], require: { roles: [admin] }, to: api }\n";
    let gateway = gateway(&echo, &schemes, "", routes).await;
    let request = client::plain().post(gateway.url("/x/y?z=1")).body("secret body");
    let request = request.header("Cookie", "c=1").header("Authorization", "Bearer mine").header("X-Tenant", "forged");
    client::send(request).await.expect_status(200);
    let (method, headers) = seen.lock().expect("no handler panicked").last().cloned().expect("it was asked");
    let told = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    assert_eq!((method.as_str(), told("x-forwarded-method").as_str()), ("GET", "POST"));
    assert_eq!(told("x-forwarded-uri"), "/x/y?z=1");
    assert_eq!((told("x-forwarded-for").as_str(), told("x-forwarded-proto").as_str()), ("127.0.0.1", "http"));
    assert_eq!((told("cookie").as_str(), told("authorization").as_str()), ("c=1", "-"), "only what it may see");
    assert!(!headers.contains_key("content-length") || told("content-length") == "0", "never the body");
    let upstream = echo.last();
    assert_eq!(upstream.values("x-tenant"), ["acme"], "the client's own is gone");
    assert_eq!((upstream.values("x-auth-subject"), upstream.values("x-secret")), (vec!["carol"], vec![]));
    let refused = ask(&gateway, "/x", &[("X-Ask", "401")]).await;
    refused.expect_problem(401, "auth_service_refused");
    assert_eq!(refused.header("www-authenticate"), "Custom realm=\"there\"");
    ask(&gateway, "/x", &[("X-Ask", "403")]).await.expect_problem(403, "auth_service_forbade");
    for status in ["302", "404", "500"] {
        ask(&gateway, "/x", &[("X-Ask", status)]).await.expect_problem(503, "auth_service_unavailable");
    }
    service.stop().await;
    ask(&gateway, "/x", &[]).await.expect_problem(503, "auth_service_unavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_are_read_where_the_configuration_says() {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let jwks = KEYS.jwks_file(folder.path());
    let schemes = format!(
        "  tokens: {{ jwt: {{ issuer: \"{ISSUER}\", audience: {AUDIENCE}, algorithms: [ES256], jwks: {jwks}, claims: {{ \
         permissions: [scope, \"realm_access.roles\"], required: [{{ claim: azp, value: web }}] }} }} }}\n"
    );
    let limits = "limits:\n  tenant: { by: identity.claim.tenant, rate: 1/h }\n";
    let routes = "  - { id: a, path: /a, auth: [tokens], require: [deploy], to: api }\n  \
                  - { id: b, path: /b, auth: [tokens], require: [], limits: [tenant], to: api }\n";
    let gateway = gateway(&echo, &schemes, limits, routes).await;
    let bearer = async |path: &str, claims: &[(&str, Value)]| {
        let token =
            claims.iter().fold(token_of("alice", "read"), |token, (name, value)| token.claim(name, value.clone()));
        let token = token.signed_by(&KEYS.es256);
        ask(&gateway, path, &[("Authorization", &format!("Bearer {token}"))]).await
    };
    let web = ("azp", json!("web"));
    bearer("/a", &[]).await.expect_problem(401, "token_claim_invalid");
    bearer("/a", std::slice::from_ref(&web)).await.expect_problem(403, "permission_missing");
    bearer("/a", &[web.clone(), ("realm_access", json!({ "roles": ["deploy"] }))]).await.expect_status(200);
    assert_eq!(echo.last().values("x-auth-permissions"), ["read deploy"]);
    for (tenant, status) in [("acme", 200), ("acme", 429), ("other", 200)] {
        bearer("/b", &[web.clone(), ("tenant", json!(tenant))]).await.expect_status(status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_needed_may_differ_by_method_and_owner() {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let schemes = format!("  tokens: {}\n", scheme("ES256", &KEYS.jwks_file(folder.path())));
    let routes = "  - { id: a, path: /docs/*, auth: [tokens], require: { all: [read], methods: { POST: [write], DELETE: { roles: [admin] } } }, to: api }\n  \
                  - { id: u, path: /users/*, auth: [tokens], require: [], owner: { segment: 2, unless: [admin] }, to: api }\n";
    let gateway = gateway(&echo, &schemes, "", routes).await;
    let bearer = async |method: Method, path: &str, scope: &str, roles: &[&str]| {
        let token = token_of("alice", scope).claim("roles", json!(roles)).signed_by(&KEYS.es256);
        client::send(client::plain().request(method, gateway.url(path)).bearer_auth(token)).await
    };
    for (method, scope, roles, status) in [
        (Method::GET, "read", &[][..], 200),
        (Method::GET, "write", &[], 403),
        (Method::POST, "read", &[], 403),
        (Method::POST, "read write", &[], 200),
        (Method::DELETE, "read write", &["user"], 403),
        (Method::DELETE, "read", &["user", "admin"], 200),
        (Method::PUT, "read", &[], 200),
    ] {
        let answer = bearer(method.clone(), "/docs/x", scope, roles).await;
        assert_eq!(answer.status, status, "{method} {scope} {roles:?}");
    }
    for (path, scope, code) in [
        ("/users/alice", "read", 200),
        ("/users/alice/keys", "read", 200),
        ("/users/bob", "read", 403),
        ("/users/ali%63e", "read", 200),
        ("/users/alice%2Fx", "read", 400),
        ("/users", "read", 403),
        ("/users/bob", "admin", 200),
    ] {
        let answer = bearer(Method::GET, path, scope, &[]).await;
        assert_eq!(answer.status, code, "{path} {scope}: {answer:?}");
        if code == 403 {
            answer.expect_problem(403, "not_owner");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_watched_passes_and_is_noted() {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let schemes = format!("  tokens: {}\n", scheme("ES256", &KEYS.jwks_file(folder.path())));
    let routes = "  - { id: a, path: /a, auth: [tokens], require: [write], shadow: [auth], to: api }\n  \
                  - { id: r, path: /r, auth: [tokens], require: [write], shadow: [require], to: api }\n";
    let gateway = gateway(&echo, &schemes, "", routes).await;
    let token = token_of("alice", "read").signed_by(&KEYS.es256);
    let bearer = format!("Bearer {token}");
    ask(&gateway, "/a", &[("Authorization", "Bearer nonsense")]).await.expect_status(200);
    assert!(echo.last().values("x-auth-subject").is_empty(), "nobody was proven");
    ask(&gateway, "/a", &[("Authorization", &bearer)]).await.expect_problem(403, "permission_missing");
    ask(&gateway, "/r", &[("Authorization", &bearer)]).await.expect_status(200);
    assert_eq!(echo.last().values("x-auth-subject"), ["alice"]);
    ask(&gateway, "/r", &[]).await.expect_problem(401, "token_missing");
    gateway.access_log("the first", |line| line["shadow"] == json!(["tokens:token_malformed"])).await;
    gateway.access_log("the second", |line| line["shadow"] == json!(["-:permission_missing"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_shared_secret_is_refused_at_load() {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = KeySource::start().await;
    let short = write(folder.path(), "short", "only-thirty-one-bytes-in-length");
    let long = write(folder.path(), "long", "this-one-has-thirty-two-bytes-ok");
    let settings = |file: &str| {
        format!(
            "{HEAD}{HTTP}{}auth:\n  keys: {}\n  tokens: {{ jwt: {{ issuer: i, audience: a, algorithms: [HS256], secret: \"file:{file}\" }} }}\n\
             routes:\n  - {{ id: a, path: /*, auth: [tokens, keys], require: [], to: api }}\n",
            upstream(&Pool::of(&[echo.address()])),
            crate::harness::issuer::key_scheme(&[source.address()]),
        )
    };
    let gateway = Gateway::plain(&settings(&long)).await;
    gateway.rewrite(&settings(&short));
    let mistakes = gateway.reload().await.json()["mistakes"].to_string();
    assert!(mistakes.contains("32 bytes at least"), "{mistakes}");
}
