//! Refusals: every route without a credential, with a wrong one, and with one that is not enough; and what is not a
//! request for anything that is there.
//!
//! Read next: `users.rs`.

use serde_json::{Value, json};
use testkit::token::now;

use crate::harness::backend::{ADMIN, Backend, folder};
use crate::harness::client::{Answer, send};
use crate::harness::settings::Settings;
use crate::harness::token::{SigningKey, token_of};

/// A route that asks who is there.
struct Guarded {
    method: &'static str,
    path: &'static str,
    /// The permissions it needs, all of them.
    needs: &'static [&'static str],
}

/// Every guarded route of the API.
const GUARDED: [Guarded; 20] = [
    Guarded { method: "GET", path: "/auth/me", needs: &[] },
    Guarded { method: "GET", path: "/api/v1/models", needs: &["read", "api_access"] },
    Guarded { method: "POST", path: "/api/v1/query", needs: &["execute"] },
    Guarded { method: "POST", path: "/api/v1/batch", needs: &["execute"] },
    Guarded { method: "GET", path: "/api/v1/jobs", needs: &["read", "api_access"] },
    Guarded { method: "GET", path: "/api/v1/jobs/none", needs: &["read", "api_access"] },
    Guarded { method: "DELETE", path: "/api/v1/jobs/none", needs: &["execute"] },
    Guarded { method: "POST", path: "/api/v1/jobs/none/requeue", needs: &["admin"] },
    Guarded { method: "GET", path: "/api/v1/cache", needs: &["read", "api_access"] },
    Guarded { method: "DELETE", path: "/api/v1/cache", needs: &["admin"] },
    Guarded { method: "GET", path: "/api/v1/users", needs: &["admin"] },
    Guarded { method: "GET", path: "/api/v1/audit-events", needs: &["admin"] },
    Guarded { method: "GET", path: "/api/v1/metrics", needs: &["admin"] },
    Guarded { method: "GET", path: "/api/v1/metrics/history", needs: &["admin"] },
    Guarded { method: "POST", path: "/api/v1/users", needs: &["admin"] },
    Guarded { method: "PATCH", path: "/api/v1/users/none", needs: &["admin"] },
    Guarded { method: "GET", path: "/api/v1/api-keys", needs: &["read", "api_access"] },
    Guarded { method: "POST", path: "/api/v1/api-keys", needs: &["write", "api_access"] },
    Guarded { method: "DELETE", path: "/api/v1/api-keys/abcdefghijkm", needs: &["write", "api_access"] },
    Guarded { method: "POST", path: "/api/v1/api-keys/abcdefghijkm/rotate", needs: &["write", "api_access"] },
];

/// Every permission there is.
const PERMISSIONS: [&str; 6] = ["read", "write", "execute", "admin", "api_access", "graphql_access"];

impl Guarded {
    /// The request, with a body that no route takes: who may not come in is told so before anybody looks at it.
    fn request(&self, backend: &Backend) -> reqwest::RequestBuilder {
        backend.request(self.method, self.path).header("Content-Type", "application/json").body("not JSON")
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_comes_in_without_a_sound_credential() {
    let (folder, signer) = (folder(), SigningKey::generate("k1"));
    let settings = Settings::development().auth(format!("signing_keys: [{}]", signer.setting(folder.path())));
    let backend = Backend::start_in(&folder, &settings).await;
    let session = backend.login(ADMIN).await;
    let bearer = format!("Bearer {}", session.access);
    let bearer = bearer.as_str();
    let expired = token_of("somebody", &PERMISSIONS.join(" ")).claim("exp", now() - 1).signed_by(&signer);
    let expired = format!("Bearer {expired}");
    let expired = expired.as_str();
    let cases: [(&str, &[(&str, &str)], &str); 10] = [
        ("nothing", &[], "token_missing"),
        ("a malformed token", &[("Authorization", "Bearer garbage")], "token_malformed"),
        ("no token", &[("Authorization", "Bearer")], "token_malformed"),
        ("an expired token", &[("Authorization", expired)], "token_expired"),
        ("another scheme", &[("Authorization", "Basic YWRtaW46YWRtaW4xMjM=")], "token_missing"),
        ("a malformed key", &[("X-API-Key", "garbage")], "key_invalid"),
        ("two tokens", &[("Authorization", bearer), ("Authorization", bearer)], "credential_ambiguous"),
        ("a token and a key", &[("Authorization", bearer), ("X-API-Key", "garbage")], "credential_ambiguous"),
        ("two keys", &[("X-API-Key", "garbage"), ("X-API-Key", "garbage")], "credential_ambiguous"),
        // The gateway sets these for services that believe it. Whoever gets past the gateway can write them as well.
        (
            "the gateway's word",
            &[
                ("X-Auth-Subject", "admin"),
                ("X-Auth-Roles", "admin"),
                ("X-Auth-Permissions", "read write execute admin api_access"),
                ("X-Auth-Method", "jwt"),
            ],
            "token_missing",
        ),
    ];
    for route in &GUARDED {
        for (what, headers, code) in cases {
            println!("{} with {what}", route.name());
            let mut request = route.request(&backend);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let problem = send(request).await.expect_problem(401, code);
            assert_eq!(problem["instance"], route.path, "{problem}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_does_what_they_lack_a_permission_for() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    for route in &GUARDED {
        // With everything but one of the permissions it is refused, with just what it needs it is not.
        for missing in route.needs {
            println!("{} without {missing}", route.name());
            let rest: Vec<&str> = PERMISSIONS.into_iter().filter(|permission| permission != missing).collect();
            let key = backend.key(&admin, &json!({ "name": "almost", "permissions": rest })).await;
            let answer = send(route.request(&backend).header("X-API-Key", &key.key)).await;
            let problem = answer.expect_problem(403, "permission_missing");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(*missing)), "{problem}");
            let challenge = answer.header("www-authenticate");
            assert!(challenge.contains("error=\"insufficient_scope\""), "RFC 6750 §3.1: {challenge:?}");
        }
        let enough: &[&str] = if route.needs.is_empty() { &["graphql_access"] } else { route.needs };
        let key = backend.key(&admin, &json!({ "name": "enough", "permissions": enough })).await;
        println!("{} with {enough:?}", route.name());
        let answer = send(route.request(&backend).header("X-API-Key", &key.key)).await;
        // Inside, they find that the body is none, or that there is no such key.
        match route.method {
            _ if route.path.starts_with("/api/v1/jobs/") => answer.expect_problem(404, "not_found"),
            "GET" if route.path == "/api/v1/metrics/history" => answer.expect_problem(400, "input_invalid"),
            "GET" => answer.expect_status(200).json(),
            "DELETE" if route.path == "/api/v1/cache" => answer.expect_status(200).json(),
            "POST" | "PATCH" => answer.expect_problem(400, "input_invalid"),
            _ => answer.expect_problem(404, "not_found"),
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_may_what_its_permissions_say() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let query = json!({ "query": "May I?" });
    let key = json!({ "name": "k", "permissions": ["read"] });
    for (role, may) in [("developer", true), ("user", true), ("readonly", false)] {
        println!("{role}");
        let password = format!("password-of-{role}");
        let session = backend.user(&admin, (role, &password), role).await;
        let ask = |request: reqwest::RequestBuilder| send(request.bearer_auth(&session.access));
        ask(backend.get("/api/v1/models")).await.expect_status(200);
        ask(backend.get("/api/v1/api-keys")).await.expect_status(200);
        ask(backend.get("/api/v1/users")).await.expect_problem(403, "permission_missing");
        let (asked, made) = (ask(backend.query(&query)).await, ask(backend.post("/api/v1/api-keys", &key)).await);
        if may {
            asked.expect_status(200);
            made.expect_status(201);
        } else {
            asked.expect_problem(403, "permission_missing");
            made.expect_problem(403, "permission_missing");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_not_found() {
    let backend = Backend::development().await;
    for path in ["/", "/nowhere", "/api", "/api/v1", "/api/v2/models", "/auth/login/", "//auth/me", "/AUTH/ME"] {
        println!("{path}");
        let problem = send(backend.get(path)).await.expect_problem(404, "route_not_found");
        assert_eq!(problem["instance"], path, "{problem}");
    }
    for (method, path, allowed) in [
        ("GET", "/auth/login", "POST"),
        ("DELETE", "/auth/me", "GET"),
        ("PUT", "/api/v1/users", "POST"),
        ("GET", "/api/v1/api-keys/abcdefghijkm", "DELETE"),
        ("POST", "/health", "GET"),
    ] {
        println!("{method} {path}");
        let answer = send(backend.request(method, path)).await;
        answer.expect_problem(405, "method_not_allowed");
        let allow = answer.header("allow");
        assert!(allow.split(',').any(|method| method.trim() == allowed), "RFC 9110 §15.5.6: {allow:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_not_what_it_should_be_is_refused() {
    let backend = Backend::start(&Settings::development().server("body_max: 1KiB")).await;
    let json = "application/json";
    let login = async |media_type: &str, body: String| send(backend.post_raw("/auth/login", media_type, body)).await;
    let sound = json!({ "username": ADMIN.0, "password": ADMIN.1 }).to_string();
    login(json, sound.clone()).await.expect_status(200);
    login("application/json; charset=utf-8", sound.clone()).await.expect_status(200);
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "nonsense"] {
        login(media_type, sound.clone()).await.expect_problem(415, "media_type_unsupported");
    }
    let untyped = send(backend.request("POST", "/auth/login").body(sound.clone())).await;
    untyped.expect_problem(415, "media_type_unsupported");

    let long = json!({ "username": "x".repeat(1_500), "password": "y" }).to_string();
    login(json, long).await.expect_problem(413, "body_too_large");

    let cases = [
        ("no body", String::new(), "line 1"),
        ("not JSON", "username=admin".to_owned(), "line 1"),
        ("cut short", sound[..sound.len() - 1].to_owned(), "line 1"),
        ("two values", format!("{sound} {sound}"), "trailing"),
        ("a list", "[]".to_owned(), "line 1"),
        ("a text", "\"admin\"".to_owned(), "line 1"),
        ("a member twice", sound.replacen('{', "{\"username\":\"ann\",", 1), "username"),
        ("a member too few", json!({ "username": "admin" }).to_string(), "password"),
        ("a member too many", json!({ "username": "a", "password": "b", "totp": "c" }).to_string(), "totp"),
        ("a number", json!({ "username": "admin", "password": 7 }).to_string(), "password"),
        ("nothing", json!({ "username": Value::Null, "password": "b" }).to_string(), "username"),
        ("deeply nested", format!("{}{}", "[".repeat(400), "]".repeat(400)), "line 1"),
    ];
    for (what, body, word) in cases {
        println!("{what}");
        let answer = login(json, body).await;
        answer.expect_input_invalid(word);
        assert_plain_words(&answer);
    }
    let not_text = send(backend.post_raw("/auth/login", json, vec![b'{', b'"', 0xFF, b'"', b'}'])).await;
    not_text.expect_problem(400, "input_invalid");
}

/// A detail is for clients: names of types and frameworks tell them nothing.
fn assert_plain_words(answer: &Answer) {
    for word in ["deserialize", "struct", "LoginRequest", "serde", "axum"] {
        assert!(!answer.body.contains(word), "{word} is told to a client: {answer:?}");
    }
}
