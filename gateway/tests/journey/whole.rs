//! Whole: from a login to a model's answer, through the real gateway and two real backends on one database.
//!
//! Read next: nothing; this is the journey's end.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use http::Version;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::process::Program;
use testkit::wait::{PATIENCE, until};

use crate::harness::backend::{self, Backend};
use crate::harness::client::{self, Answer};
use crate::harness::gateway::Gateway;
use crate::harness::issuer::key_scheme;
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, Pool, listeners};

/// The certificate's name.
const NAME: &str = "gateway.test";

/// A revoked key or token must be refused within this time.
const REVOKED_WITHIN: Duration = Duration::from_secs(1);

/// The whole system.
struct System {
    gateway: Gateway,
    authority: Authority,
    _backends: [Backend; 2],
    folder: TempDir,
}

impl System {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = backend::write_settings(folder.path());
        // At the same moment, as an orchestrator does: both find an empty database.
        let (first, second) = tokio::join!(Backend::start(&file), Backend::start(&file));
        let authority = Authority::new();
        let certificates = [authority.issue(folder.path(), NAME), authority.issue(folder.path(), "localhost")];
        let listeners = listeners(&certificates, "1.2");
        let pool = Pool::of(&[first.api, second.api]).probed();
        let keys = key_scheme(&[first.internal, second.internal]);
        let keys = keys.replace("header: X-API-Key,", "header: X-API-Key, bearer: true,");
        let settings = format!(
            "{HEAD}{listeners}upstreams:\n  api: {pool}\n\
             auth:\n  tokens: {{ jwt: {{ issuer: \"https://auth.capibara6.local/\", audience: capibara6, \
             algorithms: [ES256], jwks: {{ urls: [\"http://{}/.well-known/jwks.json\", \
             \"http://{}/.well-known/jwks.json\"], refresh: 5m }} }} }}\n  keys: {keys}\n\
             revocations: {{ urls: [\"http://{}/internal/revocations\", \"http://{}/internal/revocations\"], \
             every: 200ms }}\n\
             limits:\n  per_ip: {{ by: client.ip, rate: 1000/min }}\n  \
             per_key: {{ by: identity.key_or_subject, rate: 600/min }}\n\
             routes:\n  - {{ id: login, path: /auth/*, auth: none, limits: [per_ip], to: api }}\n  \
             - {{ id: query, path: /api/v1/query, methods: [POST], auth: [tokens, keys], require: [execute], \
             limits: [per_ip, per_key], to: api, timeout: 120s }}\n  \
             - {{ id: chat, path: /v1/*, auth: [tokens, keys], require: [execute], limits: [per_ip, per_key], \
             to: api }}\n  \
             - {{ id: api, path: /api/v1/*, auth: [tokens, keys], require: [read, api_access], \
             limits: [per_ip, per_key], to: api }}\n",
            first.api, second.api, first.internal, second.internal
        );
        let gateway = Gateway::start(&settings, &["http", "https"]).await;
        let system = Self { gateway, authority, _backends: [first, second], folder };
        system.ready().await;
        system
    }

    /// Waits until a token can be checked: the key set is fetched in the background.
    async fn ready(&self) {
        let client = self.client(false);
        let token = self.login("admin", "admin123").await;
        until("the gateway serves", PATIENCE, async || {
            let answer = client::send(client.get(self.url("/api/v1/models")).bearer_auth(&token)).await;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    fn client(&self, http1_only: bool) -> reqwest::Client {
        client::secure(&self.authority, NAME, self.gateway.address("https"), http1_only)
    }

    fn url(&self, path: &str) -> String {
        format!("https://{NAME}:{}{path}", self.gateway.address("https").port())
    }

    /// Logs in through the gateway and returns the access token.
    async fn login(&self, name: &str, password: &str) -> String {
        let (client, body) = (self.client(false), json!({ "username": name, "password": password }));
        // The upstreams count as fit only after their first probes.
        until(&format!("{name} can log in"), PATIENCE, async || {
            let answer = client::send(client.post(self.url("/auth/login")).json(&body)).await;
            if answer.status == 503 {
                answer.expect_problem(503, "upstream_unavailable");
                return None;
            }
            answer.expect_status(200);
            assert_eq!(answer.json()["token_type"], "Bearer");
            Some(answer.json()["access_token"].as_str().expect("a token is text").to_owned())
        })
        .await
    }

    fn query(&self, client: &reqwest::Client, text: &str) -> reqwest::RequestBuilder {
        client.post(self.url("/api/v1/query")).json(&json!({ "query": text }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_travels_to_a_model_and_back() {
    let system = System::start().await;
    let token = system.login("admin", "admin123").await;
    for (http1_only, version) in [(true, Version::HTTP_11), (false, Version::HTTP_2)] {
        let client = system.client(http1_only);
        for index in 0..4 {
            let text = format!("What does a gateway do, question {index} over {version:?}?");
            let answer = client::send(system.query(&client, &text).bearer_auth(&token)).await;
            answer.expect_status(200);
            assert_eq!(answer.version, version);
            let body = answer.json();
            assert_eq!(body["model"], "capibara6-dev", "{body}");
            assert!(body["answer"].as_str().is_some_and(|answer| !answer.is_empty()), "{body}");
        }
    }
    let client = system.client(false);
    client::send(system.query(&client, "Who am I?")).await.expect_problem(401, "token_missing");
    let garbage = client::send(system.query(&client, "Who am I?").bearer_auth("garbage")).await;
    garbage.expect_problem(401, "token_malformed");

    system.gateway.access_log("the refused query", |line| line["code"] == "token_malformed").await;
    let lines = system.gateway.access_log_so_far();
    let served = lines.iter().filter(|line| line["route"] == "query" && line["status"] == 200);
    let served: Vec<&Value> = served.collect();
    assert_eq!(served.len(), 8, "each query has its line");
    let upstreams: BTreeSet<String> = served.iter().map(|line| line["upstream"].to_string()).collect();
    assert_eq!(upstreams.len(), 2, "both backends have served some: {upstreams:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_api_key_is_refused_within_a_second() {
    let system = System::start().await;
    let client = system.client(false);
    let token = system.login("admin", "admin123").await;
    let body = json!({ "name": "journey", "permissions": ["read", "execute", "api_access"] });
    let created = client::send(client.post(system.url("/api/v1/api-keys")).bearer_auth(&token).json(&body)).await;
    created.expect_status(201);
    let (id, key) = id_and_key(&created);
    let ask = || system.query(&client, "What is a key?").header("X-API-Key", &key);
    client::send(ask()).await.expect_status(200);

    let revoke = client.delete(system.url(&format!("/api/v1/api-keys/{id}"))).bearer_auth(&token);
    client::send(revoke).await.expect_status(204);
    let revoked = Instant::now();
    until("the revoked key is refused", REVOKED_WITHIN, async || {
        // Until the gateway asks again, the backend refuses; what is waited for is the refusal at the edge.
        let answer = client::send(ask()).await;
        let at_the_edge = !answer.header("proxy-status").is_empty();
        (answer.status != 200 && at_the_edge).then(|| answer.expect_problem(401, "key_invalid"))
    })
    .await;
    assert!(revoked.elapsed() <= REVOKED_WITHIN, "it took {:?}", revoked.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_refused_within_a_second_after_its_logout() {
    let system = System::start().await;
    let client = system.client(false);
    let login = json!({ "username": "admin", "password": "admin123" });
    let session = client::send(client.post(system.url("/auth/login")).json(&login)).await;
    let session = session.expect_status(200).json();
    let token = session["access_token"].as_str().expect("a token is text");
    let ask = || client.get(system.url("/api/v1/models")).bearer_auth(token);
    client::send(ask()).await.expect_status(200);
    let other = system.login("admin", "admin123").await;

    let body = json!({ "refresh_token": session["refresh_token"] });
    let logout = client.post(system.url("/auth/logout")).bearer_auth(token).json(&body);
    client::send(logout).await.expect_status(204);
    until("the token is refused at the edge", REVOKED_WITHIN, async || {
        // Until the gateway has heard of it, the backends refuse.
        let answer = client::send(ask()).await;
        let at_the_edge = !answer.header("proxy-status").is_empty();
        (answer.status != 200 && at_the_edge).then(|| answer.expect_problem(401, "token_revoked"))
    })
    .await;
    client::send(client.get(system.url("/api/v1/models")).bearer_auth(&other)).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_hold_before_during_and_after_a_rotation_of_keys() {
    let system = System::start().await;
    let client = system.client(false);
    let kid = |token: &str| jsonwebtoken::decode_header(token).expect("a JWT").kid.expect("the token names its key");
    let ask = async |token: &str| client::send(client.get(system.url("/api/v1/models")).bearer_auth(token)).await;
    let mut tokens = vec![system.login("admin", "admin123").await];
    let made = backend::rotate_key(&system.folder.path().join("backend.yaml")).await;
    let after = until("the new key signs", PATIENCE, async || {
        let token = system.login("admin", "admin123").await;
        if kid(&token) == made {
            return Some(token);
        }
        // The new key is published, the old one still signs.
        ask(&token).await.expect_status(200);
        tokens.push(token);
        None
    })
    .await;
    tokens.push(after);
    // The gateway asks for the set anew when it meets a key it does not know.
    until("the gateway knows the new key", REVOKED_WITHIN, async || {
        (ask(&tokens[tokens.len() - 1]).await.status == 200).then_some(())
    })
    .await;
    for token in &tokens {
        ask(token).await.expect_status(200);
    }
    assert!(tokens.len() > 2, "one was issued meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_readonly_user_may_look_but_not_ask() {
    let system = System::start().await;
    let settings = system.folder.path().join("backend.yaml");
    backend::add_user(&settings, "reader", "readonly", "a-password-to-read-with").await;
    let token = system.login("reader", "a-password-to-read-with").await;
    let client = system.client(false);
    client::send(client.get(system.url("/api/v1/models")).bearer_auth(&token)).await.expect_status(200);
    let refused = client::send(system.query(&client, "May I?").bearer_auth(&token)).await;
    let problem = refused.expect_problem(403, "permission_missing");
    assert_eq!(problem["route"], "query");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("execute")), "{problem}");
}

/// Not part of `make test`, for the SDK is not Debian's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a package of Python: make conformance"]
async fn openais_sdk_streams_a_chat() {
    let system = System::start().await;
    let token = system.login("admin", "admin123").await;
    let body = json!({ "name": "sdk", "permissions": ["read", "execute", "api_access"] });
    let create = system.client(false).post(system.url("/api/v1/api-keys")).bearer_auth(&token).json(&body);
    let (_, key) = id_and_key(&client::send(create).await);
    let python = std::env::var("CONFORMANCE_PYTHON").expect("`make conformance` names the folder");
    let mut command = Command::new(format!("{python}/bin/python"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../backend/tests/conformance/openai_sdk.py"));
    let port = system.gateway.address("https").port();
    let authority = system.authority.write_certificate(system.folder.path());
    command.args([&format!("https://localhost:{port}/v1"), &key, &authority]);
    let ended = Program::start("openai_sdk.py", command, "").ended(Duration::from_mins(1)).await;
    assert!(ended.status.success(), "the SDK is not content:\n{}\n{}", ended.stdout, ended.stderr);
}

/// The id of a created key, and the key itself, which is shown this once.
fn id_and_key(created: &Answer) -> (String, String) {
    let body = created.json();
    let members = body.as_object().expect("an object");
    let key = members.values().filter_map(Value::as_str).find(|text| common::api_key::ApiKey::parse(text).is_ok());
    let key = key.unwrap_or_else(|| panic!("no key in {body}"));
    (body["id"].as_str().unwrap_or_else(|| panic!("no id in {body}")).to_owned(), key.to_owned())
}
