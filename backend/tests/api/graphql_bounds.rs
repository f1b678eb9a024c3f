//! GraphQL's bounds: what a document may ask, what may be sent at once, what is kept, and what is not told.
//!
//! Read next: `graphql_socket.rs`.

use serde_json::{Value, json};

use crate::graphql::{GRAPHQL_RESPONSE, ask, expect_error, link, post};
use crate::harness::backend::{ADMIN, Backend};
use crate::harness::client::{Answer, send};
use crate::harness::settings::Settings;

/// The SHA-256 of a document, in hexadecimal digits.
fn hash_of(document: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, document.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// A document, asked in the form whose status tells.
async fn ask_plainly(backend: &Backend, token: &str, document: &str) -> Answer {
    let request = post(backend, &json!({ "query": document })).header("Accept", GRAPHQL_RESPONSE);
    send(request.bearer_auth(token)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_beyond_a_bound_is_refused_before_anything_is_asked() {
    let settings = "depth_max: 4, complexity_max: 200, aliases_max: 3, directives_max: 3, document_max: 4KiB";
    let backend = Backend::start(&Settings::development().graphql(settings)).await;
    let admin = backend.login(ADMIN).await;
    let bomb: Vec<String> = (0..30).map(|n| format!("fragment f{n} on Query {{ ...f{0} ...f{0} }}", n + 1)).collect();
    let cases = [
        ("deep", "{ apiKeys { nodes { owner { username } } } }".to_owned(), true),
        ("too deep", "{ apiKeys { edges { node { owner { username } } } } }".to_owned(), false),
        ("three aliases", "{ a: me { id } b: me { id } c: me { id } }".to_owned(), true),
        ("four aliases", "{ a: me { id } b: me { id } c: me { id } d: me { id } }".to_owned(), false),
        ("directives", "{ me @include(if: true) { id @skip(if: false) username @skip(if: true) } }".to_owned(), true),
        ("many directives", "{ me { id @skip(if: true) @include(if: true) @a @b } }".to_owned(), false),
        ("a long list", "{ users(first: 60) { nodes { id username } } }".to_owned(), true),
        ("a longer list", "{ users(first: 100) { nodes { id username } } }".to_owned(), false),
        ("the longest list, by default", "{ users { nodes { id username role createdAt } } }".to_owned(), false),
        (
            "one query too many",
            "mutation { a: processQuery(input: { query: \"1\" }) { id } b: processQuery(input: { query: \"2\" }) { id } }"
                .to_owned(),
            false,
        ),
        ("a large document", format!("{{ me {{ id }} }}{}", " ".repeat(4_096)), false),
        ("brackets without end", "{".repeat(4_000), false),
        ("lists without end", format!("{{ model(id: {}", "[".repeat(4_000)), false),
        ("a bomb", format!("{{ ...f0 }} {} fragment f30 on Query {{ me {{ id }} }}", bomb.join(" ")), false),
    ];
    for (what, document, passes) in cases {
        println!("{what}");
        let answer = ask_plainly(&backend, &admin.access, &document).await;
        if passes {
            answer.expect_status(200);
        } else {
            expect_error(&answer, 400, "graphql_too_costly");
        }
    }
    // What the parser or the validator stumbles over is the client's mistake, and never ours.
    for document in [
        "query($x: [Nope] = [1]) { me { id } }",
        "{ ...f } fragment f on Query { ...f }",
        "{ me { id } } fragment unused on Query { me { id } }",
        "{ model(id: 1.5e9999) { id } }",
        "{ model(id: \"\\ud800\") { id } }",
        "\u{0}",
    ] {
        println!("{document:?}");
        expect_error(&ask_plainly(&backend, &admin.access, document).await, 400, "graphql_invalid");
    }
    send(backend.graphql_request("GET", "/health")).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_answered_one_by_one() {
    let backend = Backend::start(&Settings::development().graphql("batch_max: 2")).await;
    let admin = backend.login(ADMIN).await;
    let batch = async |requests: &Value| send(post(&backend, requests).bearer_auth(&admin.access)).await;
    let answer = batch(&json!([{ "query": "{ me { username } }" }, { "query": "{ you }" }])).await;
    answer.expect_status(200);
    let told = answer.json();
    assert_eq!(told[0], json!({ "data": { "me": { "username": ADMIN.0 } } }), "{told}");
    assert_eq!(told[1]["errors"][0]["extensions"]["code"], "graphql_invalid", "{told}");
    let one = json!({ "query": "{ me { id } }" });
    expect_error(&batch(&json!([one, one, one])).await, 400, "graphql_too_costly");
    expect_error(&batch(&json!([])).await, 400, "input_invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_needs_to_be_sent_once() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let document = "query { me { username } }";
    let extensions = json!({ "persistedQuery": { "version": 1, "sha256Hash": hash_of(document) } });
    let asked = async |body: &Value| send(post(&backend, body).bearer_auth(&admin.access)).await;
    let by_hash = json!({ "extensions": extensions });
    let unknown = expect_error(&asked(&by_hash).await, 200, "persisted_query_not_found");
    assert_eq!(unknown["message"], "PersistedQueryNotFound", "what clients look for");
    // Nothing is kept under a hash that is not its own, nor what is no document.
    let wrong = json!({ "query": "{ me { id } }", "extensions": extensions });
    expect_error(&asked(&wrong).await, 200, "input_invalid");
    let broken = json!({ "persistedQuery": { "version": 1, "sha256Hash": hash_of("{ me {") } });
    expect_error(&asked(&json!({ "query": "{ me {", "extensions": broken })).await, 200, "graphql_invalid");
    expect_error(&asked(&json!({ "extensions": broken })).await, 200, "persisted_query_not_found");

    let expected = json!({ "data": { "me": { "username": ADMIN.0 } } });
    assert_eq!(asked(&json!({ "query": document, "extensions": extensions })).await.json(), expected);
    assert_eq!(asked(&by_hash).await.json(), expected);
    let by_link = link(&[("extensions", &extensions.to_string())]);
    let answer = send(backend.graphql_request("GET", &by_link).bearer_auth(&admin.access)).await;
    assert_eq!(answer.json(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_is_told_only_where_it_may_be() {
    let introspection = "{ __schema { queryType { name } types { name } } }";
    let open = Backend::development().await;
    let admin = open.login(ADMIN).await;
    let told = ask(&open, &admin.access, introspection).await;
    assert_eq!(told.json()["data"]["__schema"]["queryType"]["name"], "Query", "{told:?}");
    send(open.graphql_request("GET", "/graphql/schema")).await.expect_problem(401, "token_missing");

    let closed = Backend::start(&Settings::development().graphql("introspection: false")).await;
    let admin = closed.login(ADMIN).await;
    let silent = ask(&closed, &admin.access, introspection).await;
    assert!(!silent.body.contains("UserConnection"), "{silent:?}");
    let hint = ask(&closed, &admin.access, "{ modelz { id } }").await;
    assert!(!hint.body.contains("models"), "a suggestion tells the schema as well: {hint:?}");
    for path in ["/graphql/schema", "/graphql/ide", "/graphql/ide/ide.js"] {
        let request = closed.graphql_request("GET", path).bearer_auth(&admin.access);
        send(request).await.expect_problem(404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphiql_is_served_from_this_machine_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let setting = format!("ide_path: \"{}\"", folder.path().display());
    let backend = Backend::start(&Settings::development().graphql(setting)).await;
    let get = async |path: &str| send(backend.graphql_request("GET", path)).await;
    let missing = get("/graphql/ide").await.expect_problem(404, "not_found");
    assert!(missing["detail"].as_str().is_some_and(|detail| detail.contains("make web")), "{missing}");

    let files = ["react.production.min.js", "react-dom.production.min.js", "graphiql.min.js", "graphiql.min.css"];
    for name in files {
        std::fs::write(folder.path().join(name), format!("/* {name} */")).expect("the folder can be written");
    }
    let page = get("/graphql/ide").await;
    page.expect_status(200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    assert!(!page.body.contains("://"), "the page names another host: {}", page.body);
    let named: Vec<&str> = page.body.split('"').filter(|part| part.starts_with("/graphql/ide/")).collect();
    assert_eq!(named.len(), files.len() + 1, "{named:?}");
    for path in named {
        let file = get(path).await;
        file.expect_status(200);
        let form = if path.contains(".css") { "text/css" } else { "text/javascript" };
        assert_eq!(file.header("content-type"), format!("{form}; charset=utf-8"), "{path}");
        assert_eq!(file.header("x-content-type-options"), "nosniff", "{path}");
    }
    for path in ["/graphql/ide/secret", "/graphql/ide/..%2F..%2Fetc%2Fpasswd", "/graphql/ide/%2Fetc%2Fpasswd"] {
        get(path).await.expect_problem(404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_is_counted_by_the_schemas_names() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    ask(&backend, &admin.access, "query NobodyCountsThis { alias: me { username } models { id } }").await;
    ask(&backend, &admin.access, "{ users(first: 0) { nodes { id } } }").await;
    ask(&backend, &admin.access, "{ nonsense }").await;
    let metrics = backend.metrics().await;
    for line in [
        "backend_graphql_fields_total{field=\"me\",operation=\"query\",outcome=\"ok\"} 1",
        "backend_graphql_fields_total{field=\"models\",operation=\"query\",outcome=\"ok\"} 1",
        "backend_graphql_fields_total{field=\"users\",operation=\"query\",outcome=\"error\"} 1",
        "backend_graphql_refusals_total{code=\"graphql_invalid\"} 1",
        "backend_graphql_field_seconds_count{field=\"me\",operation=\"query\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("NobodyCountsThis") && !metrics.contains("nonsense"), "{metrics}");
}
