//! Explain: what is said of a request that nobody sends is what happens to one that is sent.
//!
//! Read next: `config.rs` for mistakes of a file, `route.rs` and `auth.rs` for what is told here.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use http::HeaderValue;
use serde_json::Value;
use testkit::process::{Ended, Program};
use testkit::token::now;
use testkit::wait::PATIENCE;

use crate::harness::client;
use crate::harness::gateway::{Gateway, command, new_key, write_settings};
use crate::harness::issuer::{KEYS, scheme, token_of};
use crate::harness::settings::{HEAD, HTTP};
use crate::harness::upstream::Echo;

/// Routes with every way in which a request may end before, or at, its upstream.
const ROUTES: &str = "\
limits:
  ip: { by: client.ip, rate: 1000/s }
  who: { by: identity.key_or_subject, rate: 1000/s }
cors:
  web: { origins: [\"https://app.test\"] }
security_headers: { frame_options: DENY }
routes:
  - { id: open, path: /open/*, auth: none, limits: [ip], to: api }
  - { id: other, host: other.test, path: /open/*, auth: none, to: next }
  - { id: get, path: /get, methods: [GET], auth: none, to: api }
  - { id: known, path: /known/*, auth: [tokens, keys], require: [read], limits: [ip, who], to: api }
  - { id: strict, path: /known/strict, auth: [tokens, keys], require: { any: [admin, write] }, to: next }
  - { id: mine, path: /users/*, auth: [tokens], require: [], owner: { segment: 2, unless: [admin] }, to: api }
  - { id: watched, path: /watched, auth: [tokens], require: [read], shadow: [auth, require], to: api }
  - { id: near, path: /near, auth: none, allow_from: [127.0.0.2], to: api }
  - { id: web, path: /web, methods: [GET], auth: none, cors: web, to: api }
  - { id: small, path: /small, auth: none, body_max: 16, to: api }
  - { id: gone, path: /gone, auth: none, respond: { status: 410, headers: { X-Why: moved }, body: moved } }
  - { id: old, path: /old/*, auth: none, redirect: { to: \"https://new.test\" } }
  - id: changed
    path: /changed/*
    auth: none
    rewrite: { strip_prefix: /changed, add_prefix: /v2, host: inner.test }
    request_headers: { set: { X-From: edge }, remove: [X-Gone] }
    to: next
";

/// A request, sent from 127.0.0.`from`.
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    fields: Vec<(&'a str, &'a str)>,
    from: u8,
}

fn request<'a>(method: &'a str, path: &'a str, fields: &[(&'a str, &'a str)]) -> Request<'a> {
    Request { method, path, fields: fields.to_vec(), from: 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_explained_is_what_happens() {
    let (api, next) = (Echo::start().await, Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (key, entry) = new_key(&["--subject", "svc", "--permission", "read", "--role", "robot"]);
    let keys = folder.path().join("keys.yaml");
    std::fs::write(&keys, format!("keys:\n{entry}")).expect("a temporary folder can be written");
    let settings = format!(
        "{HEAD}{HTTP}upstreams:\n  api: {{ targets: [\"{}\"] }}\n  next: {{ targets: [\"{}\"] }}\n\
         auth:\n  tokens: {}\n  keys: {{ api_key: {{ file: \"{}\" }} }}\n{ROUTES}",
        api.address(),
        next.address(),
        scheme("ES256", &KEYS.jwks_file(folder.path())),
        keys.display()
    );
    let gateway = Gateway::plain(&settings).await;
    let file = write_settings(folder.path(), &settings);
    let bearer = |scope: &str| format!("Bearer {}", token_of("ann", scope).signed_by(&KEYS.es256));
    let (read, admin, nothing) = (bearer("read"), bearer("admin"), bearer(""));
    let late = format!("Bearer {}", token_of("ann", "read").claim("exp", now() - 3600).signed_by(&KEYS.es256));
    let from = |from: u8, request| Request { from, ..request };
    let asks = [("Origin", "https://app.test"), ("Access-Control-Request-Method", "GET")];
    let asks_badly = [("Origin", "https://evil.test"), ("Access-Control-Request-Method", "GET")];
    let requests = [
        request("GET", "/open/x?a=b", &[("X-Auth-Subject", "root"), ("X_Odd", "1"), ("X-Real-Ip", "6.6.6.6")]),
        request("GET", "/open//x/%61", &[]),
        request("GET", "/open/a%2Fb", &[]),
        request("GET", "/open/x", &[("Host", "other.test")]),
        request("GET", "/nowhere", &[]),
        request("POST", "/get", &[]),
        request("HEAD", "/get", &[]),
        request("GET", "/known/x", &[]),
        request("GET", "/known/x", &[("Authorization", &read)]),
        request("GET", "/known/x", &[("Authorization", &nothing)]),
        request("GET", "/known/x", &[("Authorization", &late)]),
        request("GET", "/known/x", &[("Authorization", "Bearer nonsense")]),
        request("GET", "/known/x", &[("X-API-Key", &key)]),
        request("GET", "/known/x", &[("X-API-Key", "cap6_nonsense")]),
        request("GET", "/known/strict", &[("Authorization", &read)]),
        request("GET", "/known/strict", &[("Authorization", &admin)]),
        request("GET", "/users/ann", &[("Authorization", &read)]),
        request("GET", "/users/bob", &[("Authorization", &read)]),
        request("GET", "/users/bob", &[("Authorization", &admin)]),
        request("GET", "/watched", &[]),
        request("GET", "/watched", &[("Authorization", &nothing)]),
        request("GET", "/near", &[]),
        from(2, request("GET", "/near", &[])),
        from(9, request("GET", "/near", &[("X-Forwarded-For", "127.0.0.2")])),
        request("OPTIONS", "/web", &asks),
        request("OPTIONS", "/web", &asks_badly),
        request("GET", "/web", &[("Origin", "https://app.test")]),
        request("POST", "/small", &[("Content-Length", "17")]),
        request("GET", "/gone", &[("Content-Type", "application/grpc")]),
        request("GET", "/nowhere", &[("Content-Type", "application/grpc")]),
        request("GET", "/old/a%20b?c=d", &[]),
        request("GET", "/changed/x", &[("X-Gone", "1")]),
    ];
    for request in &requests {
        let sent = request.send(&gateway).await;
        let told = request.explain(&file, &gateway).await;
        let what = format!("{} {} {:?}", request.method, request.path, request.fields);
        let line = gateway.access_log(&what, |line| line["request_id"] == sent.header("x-request-id")).await;
        for part in ["outcome", "code", "route", "policy", "auth_tried", "shadow", "client", "subject", "host"] {
            assert_eq!(plain(&told[part]), plain(&line[part]), "{part} of {what}: {told:#}\n{line:#}");
        }
        if line["outcome"] == "proxied" {
            assert_eq!((&told["status"], sent.status), (&Value::Null, 200), "{what}");
            assert_eq!(told["to"], serde_json::json!([line["to"]]), "{what}");
            let seen = if line["to"] == "api" { api.last() } else { next.last() };
            assert_eq!(told["target"], seen.target, "{what}");
            for (name, value) in told_fields(&told) {
                assert_eq!(seen.values(&name), [value.as_str()], "{name} of {what}");
            }
            assert!(seen.values("x-gone").is_empty() && seen.values("x_odd").is_empty(), "{what}: {seen:?}");
        } else {
            assert_eq!(told["status"], sent.status, "{what}: {sent:?}");
            for (name, value) in told_fields(&told) {
                let values: Vec<_> = sent.headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
                assert!(values.contains(&value.as_bytes()), "{name}: {value} of {what}: {sent:?}");
            }
        }
    }
}

impl Request<'_> {
    async fn send(&self, gateway: &Gateway) -> client::Answer {
        let method = self.method.parse::<http::Method>().expect("a method");
        let request = client::plain_from(self.from).request(method, gateway.url(self.path));
        let announced = self.fields.iter().find(|(name, _)| *name == "Content-Length");
        let fields = self.fields.iter().filter(|(name, _)| *name != "Content-Length");
        let request = fields.fold(request, |request, (name, value)| request.header(*name, *value));
        let bytes = announced.map_or(0, |(_, value)| value.parse::<usize>().expect("a length"));
        client::send(if bytes == 0 { request } else { request.body("x".repeat(bytes)) }).await
    }

    async fn explain(&self, file: &Path, gateway: &Gateway) -> Value {
        let mut explain = command("explain", file);
        explain.args(["--json", "--from", &format!("127.0.0.{}", self.from)]);
        for (name, value) in &self.fields {
            explain.args(["-H", &format!("{name}: {value}")]);
        }
        explain.arg(format!("{} {}", self.method, gateway.url(self.path)));
        let ended = Program::start("gateway explain", explain, "").ended(PATIENCE).await;
        let told: Value = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", ended.stdout, ended.stderr));
        let well = told["outcome"] != "refused" && told["outcome"] != "undecided";
        assert_eq!(ended.status.code(), Some(i32::from(!well)), "{told:#}");
        told
    }
}

/// Nothing is written as nothing, or not at all.
fn plain(value: &Value) -> Option<&Value> {
    Some(value).filter(|value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()))
}

/// Fields that are told with their values, but for the request's own name, which is another each time.
fn told_fields(told: &Value) -> Vec<(String, String)> {
    let fields = told["headers"].as_array().expect("a list").iter();
    let fields = fields.filter(|field| field["name"] != "x-request-id" && field["value"].is_string());
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    fields.map(|field| (text(&field["name"]), text(&field["value"]))).collect()
}

/// One upstream that is nowhere: nobody asks it.
const NOBODY: &str = "upstreams:\n  api: { targets: [\"127.0.0.1:1\"] }\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_tell_a_refusal_from_a_mistake() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let routes = "routes:\n  - { id: open, path: /open, auth: none, to: api }\n";
    let sound = write_settings(folder.path(), &format!("{HEAD}{HTTP}{NOBODY}{routes}"));
    let cases: [(&[&str], i32, &str); 10] = [
        (&["GET /open"], 0, "=>         proxied /open to api"),
        (&["GET /shut"], 1, "=>         refused: 404 route_not_found"),
        (&["GET /open", "--subject", "ann", "--permissions", "read,write"], 0, "no credential is looked at"),
        (&["GET /open", "--permissions", "read, write"], 0, "no credential is looked at"),
        (&["GET /open", "--permissions", "read write"], 2, "a permission holds no space"),
        (&["GET /open", "--subject", ""], 2, "a subject is plain text"),
        (&["GET open"], 2, "is not a method with a URL or path"),
        (&["GET /open", "-H", "no colon"], 2, "a header is written"),
        (&["GET /open", "--as-token-claims", "{"], 2, "not a JSON object"),
        (&["GET /open", "--as-token-claims", "{}", "--subject", "ann"], 2, "cannot be used with"),
    ];
    for (arguments, code, words) in cases {
        let ended = run("explain", &sound, arguments).await;
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {ended:?}");
        assert!(format!("{}{}", ended.stdout, ended.stderr).contains(words), "{arguments:?}: {ended:?}");
    }
    let broken = write_settings(folder.path(), &format!("{HEAD}{HTTP}{NOBODY}routes: [{{ id: a }}]\n"));
    for name in ["explain", "test", "routes"] {
        let arguments: &[&str] = if name == "explain" { &["GET /open"] } else { &[] };
        let ended = run(name, &broken, arguments).await;
        assert_eq!(ended.status.code(), Some(64), "{name}: {ended:?}");
    }
}

#[test]
fn a_reader_who_has_gone_is_no_failure_and_a_full_disk_is_one() {
    let schema = |to: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.arg("schema").stdin(Stdio::null()).stdout(to).stderr(Stdio::piped());
        command.spawn().expect("the gateway starts")
    };
    let mut gone = schema(Stdio::piped());
    // It says more than a pipe holds, so that it meets the end of it.
    drop(gone.stdout.take());
    let gone = gone.wait_with_output().expect("it ends");
    assert_eq!((gone.status.code(), &*String::from_utf8_lossy(&gone.stderr)), (Some(0), ""));
    let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
    let full = schema(full.into()).wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(1), "{said}");
    assert!(said.starts_with("gateway: standard output: "), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_of_a_file_pass_or_fail_with_their_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a folder of the workspace");
    let ended = run("test", &root.join("conf/gateway.yaml"), &[]).await;
    assert_eq!(ended.status.code(), Some(0), "the shipped ones: {}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.lines().count() > 5, "{}", ended.stdout);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = format!(
        "{HEAD}{HTTP}{NOBODY}routes:\n  - {{ id: open, path: /open, auth: none, to: api }}\ntests:\n\
         \x20 - {{ send: GET /open, expect: {{ route: open }} }}\n\
         \x20 - {{ send: GET /open, expect: {{ status: 404 }} }}\n"
    );
    let file = write_settings(folder.path(), &text);
    let ended = run("test", &file, &[]).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let place = format!("FAILED  {}:{}:13: GET /open: expected status 404", file.display(), text.lines().count());
    assert!(ended.stdout.contains(&place), "{place}: {}", ended.stdout);
    assert!(ended.stdout.ends_with("1 of 2 passed"), "{}", ended.stdout);
    // A gateway serves with tests that fail: they are for whoever changes the file.
    let checked = run("check", &file, &[]).await;
    assert!(checked.status.success(), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_are_listed_the_most_specific_first() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let routes = "routes:\n  - { id: rest, path: /*, auth: none, to: api }\n  - { id: open, path: /open, auth: none, to: api }\n";
    let file = write_settings(folder.path(), &format!("{HEAD}{HTTP}{NOBODY}{routes}"));
    let ended = run("routes", &file, &[]).await;
    let ids: Vec<_> = ended.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ids, ["ID", "open", "rest"], "{ended:?}");
    let ended = run("routes", &file, &["--json"]).await;
    let json: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((json[0]["id"].as_str(), json[1]["path"].as_str()), (Some("open"), Some("/*")), "{json}");
}

async fn run(name: &str, file: &Path, arguments: &[&str]) -> Ended {
    let mut command = command(name, file);
    command.args(arguments);
    Program::start("gateway", command, "").ended(PATIENCE).await
}
