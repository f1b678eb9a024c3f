//! GraphQL: the same things as over REST, under the same permissions, in the forms of GraphQL over HTTP.
//!
//! Read next: `graphql_bounds.rs`, then `graphql_socket.rs`.

use std::collections::BTreeSet;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use testkit::process::Program;
use testkit::token::now;

use crate::harness::backend::{ADMIN, Backend, Session, command, folder};
use crate::harness::client::{Answer, plain, send};
use crate::harness::settings::Settings;
use crate::harness::token::{SigningKey, token_of};

/// The media type that GraphQL has of its own.
pub const GRAPHQL_RESPONSE: &str = "application/graphql-response+json";

/// Every permission there is.
const PERMISSIONS: [&str; 6] = ["read", "write", "execute", "admin", "api_access", "graphql_access"];

/// A field of a root, a document that asks for it, and what it needs besides `graphql_access`.
pub type RootField = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// Every field of `Query` and `Mutation`.
const FIELDS: [RootField; 19] = [
    ("Query", "me", "{ me { username } }", &[]),
    ("Query", "models", "{ models { id } }", &["read"]),
    ("Query", "model", "{ model(id: \"x\") { id } }", &["read"]),
    ("Query", "systemMetrics", "{ systemMetrics { version } }", &["admin"]),
    ("Query", "metricsHistory", "{ metricsHistory(metric: \"requests\") { step } }", &["admin"]),
    ("Query", "cacheStats", "{ cacheStats { entries } }", &["read"]),
    ("Query", "users", "{ users { nodes { id } } }", &["admin"]),
    ("Query", "auditEvents", "{ auditEvents { nodes { id } } }", &["admin"]),
    ("Query", "apiKeys", "{ apiKeys { nodes { id } } }", &["read"]),
    ("Mutation", "processQuery", "mutation { processQuery(input: { query: \"May I?\" }) { id } }", &["execute"]),
    ("Query", "jobs", "{ jobs { nodes { id } } }", &["read"]),
    ("Query", "job", "{ job(id: \"x\") { id } }", &["read"]),
    (
        "Mutation",
        "processBatch",
        "mutation { processBatch(input: { queries: [{ query: \"May I?\" }] }) { id } }",
        &["execute"],
    ),
    ("Mutation", "cancelJob", "mutation { cancelJob(id: \"x\") { id } }", &["execute"]),
    ("Mutation", "requeueJob", "mutation { requeueJob(id: \"x\") { id } }", &["admin"]),
    ("Mutation", "clearCache", "mutation { clearCache { entries } }", &["admin"]),
    (
        "Mutation",
        "createApiKey",
        "mutation { createApiKey(input: { name: \"k\", permissions: [GRAPHQL_ACCESS] }) { key } }",
        &["write"],
    ),
    ("Mutation", "rotateApiKey", "mutation { rotateApiKey(id: \"abcdefghijkm\") { key } }", &["write"]),
    ("Mutation", "revokeApiKey", "mutation { revokeApiKey(id: \"abcdefghijkm\") }", &["write"]),
];

/// A request by POST.
pub fn post(backend: &Backend, body: &Value) -> RequestBuilder {
    backend.graphql_request("POST", "/graphql").json(body)
}

/// The path of a request by GET.
pub fn link(pairs: &[(&str, &str)]) -> String {
    format!("/graphql?{}", url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}

/// What a document brings, asked with an access token.
pub async fn ask(backend: &Backend, token: &str, document: &str) -> Answer {
    send(post(backend, &json!({ "query": document })).bearer_auth(token)).await
}

/// The data of an answer without errors.
#[track_caller]
fn data(answer: &Answer) -> Value {
    answer.expect_status(200);
    let body = answer.json();
    assert_eq!(body.get("errors"), None, "{body}");
    body["data"].clone()
}

/// Fails unless the first error has this code, and the request's id.
#[track_caller]
pub fn expect_error(answer: &Answer, status: u16, code: &str) -> Value {
    answer.expect_status(status);
    let error = answer.json()["errors"][0].clone();
    assert_eq!(error["extensions"]["code"], code, "{answer:?}");
    assert_eq!(error["extensions"]["request_id"], answer.header("x-request-id"), "{answer:?}");
    error
}

/// The fields of the roots, by the schema's own words.
pub async fn root_fields(backend: &Backend, token: &str) -> BTreeSet<(String, String)> {
    let schema = send(backend.graphql_request("GET", "/graphql/schema").bearer_auth(token)).await;
    schema.expect_status(200);
    let mut fields = BTreeSet::new();
    for definition in parse_schema(&schema.body).expect("the schema can be read").definitions {
        let TypeSystemDefinition::Type(definition) = definition else { continue };
        let name = definition.node.name.node.to_string();
        if let (TypeKind::Object(object), "Query" | "Mutation" | "Subscription") =
            (definition.node.kind, name.as_str())
        {
            fields.extend(object.fields.iter().map(|field| (name.clone(), field.node.name.node.to_string())));
        }
    }
    fields
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_brings_what_rest_needs_several_for() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let key = backend.key(&admin, &json!({ "name": "mine", "permissions": ["read"] })).await;
    let document = "{ me { username roles permissions method keyId } models { id size provider status } \
        model(id: \"capibara6-dev\") { maxTokens } none: model(id: \"gpt\") { id } \
        apiKeys { nodes { id name permissions revokedAt owner { username role } } pageInfo { hasNextPage } } \
        cacheStats { entries hits misses hitRate } systemMetrics { version requests startedAt residentBytes } }";
    let data = data(&ask(&backend, &admin.access, document).await);
    assert_eq!(data["me"]["username"], ADMIN.0, "{data}");
    assert_eq!(data["me"]["roles"], json!(["admin"]), "{data}");
    assert!(data["me"]["permissions"].as_array().is_some_and(|all| all.contains(&json!("GRAPHQL_ACCESS"))), "{data}");
    assert_eq!((&data["me"]["method"], &data["me"]["keyId"]), (&json!("jwt"), &Value::Null), "{data}");
    assert_eq!(data["models"][0]["id"], "capibara6-dev", "{data}");
    assert!(data["model"]["maxTokens"].is_u64() && data["none"].is_null(), "{data}");
    let listed = &data["apiKeys"]["nodes"][0];
    assert_eq!((&listed["id"], &listed["permissions"]), (&json!(key.id), &json!(["READ"])), "{data}");
    assert_eq!(listed["owner"], json!({ "username": ADMIN.0, "role": "ADMIN" }), "{data}");
    assert_eq!(data["apiKeys"]["pageInfo"]["hasNextPage"], false, "{data}");
    assert_eq!(data["cacheStats"]["entries"], 0, "{data}");
    assert!(data["systemMetrics"]["requests"].as_f64().is_some_and(|requests| requests >= 2.0), "{data}");
    // The library leaves out what failed; the specification wants it to be there as null.
    let ann = backend.user(&admin, ("ann", "ann-has-a-password"), "user").await;
    let answer = ask(&backend, &ann.access, "{ me { username } users { nodes { id } } }").await;
    expect_error(&answer, 200, "permission_missing");
    assert_eq!(answer.json()["data"], json!({ "me": { "username": "ann" }, "users": null }), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_go_on_where_they_ended() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    for name in ["ann", "bob", "cat", "dan"] {
        let body = json!({ "username": name, "password": format!("{name}-has-a-password"), "role": "readonly" });
        send(backend.post("/api/v1/users", &body).bearer_auth(&admin.access)).await.expect_status(201);
        backend.key(&admin, &json!({ "name": name })).await;
    }
    for (list, inside, count) in [("users", "username", 5), ("apiKeys", "name", 4)] {
        let mut seen = BTreeSet::new();
        let mut after = Value::Null;
        loop {
            let document = format!(
                "query($after: String) {{ {list}(first: 2, after: $after) {{ edges {{ cursor node {{ {inside} }} }} \
                 pageInfo {{ hasNextPage hasPreviousPage endCursor }} }} }}"
            );
            let body = json!({ "query": document, "variables": { "after": after } });
            let page = data(&send(post(&backend, &body).bearer_auth(&admin.access)).await)[list].clone();
            let edges = page["edges"].as_array().expect("a list").clone();
            assert!(edges.len() <= 2, "{page}");
            seen.extend(edges.iter().map(|edge| edge["node"][inside].as_str().expect("text").to_owned()));
            assert_eq!(page["pageInfo"]["hasPreviousPage"], !after.is_null(), "{page}");
            assert_eq!(edges.last().map(|edge| &edge["cursor"]), Some(&page["pageInfo"]["endCursor"]), "{page}");
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
        assert_eq!(seen.len(), count, "{list}: {seen:?}");
        for argument in ["first: 0", "first: 101", "after: \"***\""] {
            let answer =
                ask(&backend, &admin.access, &format!("{{ {list}({argument}) {{ nodes {{ id }} }} }}")).await;
            expect_error(&answer, 200, "input_invalid");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_here_is_changed_everywhere() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let query = "mutation($text: String!) { processQuery(input: { query: $text, maxTokens: 20 }) { id cached durationMs \
        result { text model finishReason promptTokens completionTokens } routing { model complexity reason } \
        ace { playbook } e2b { executed } } }";
    let process = async || {
        let body = json!({ "query": query, "variables": { "text": "Why do rivers flow?" } });
        data(&send(post(&backend, &body).bearer_auth(&admin.access)).await)["processQuery"].clone()
    };
    let (first, second) = (process().await, process().await);
    assert_eq!((&first["cached"], &second["cached"]), (&json!(false), &json!(true)), "{first} {second}");
    assert_eq!(first["result"]["model"], "capibara6-dev", "{first}");
    assert_eq!(first["result"]["text"], second["result"]["text"]);
    assert!(first["routing"]["reason"].as_str().is_some_and(|reason| reason.contains("why")), "{first}");
    assert!(first["e2b"].is_null(), "there is no sandbox: {first}");
    // The same question over REST is the same question.
    let body = json!({ "query": "Why do rivers flow?", "max_tokens": 20 });
    assert_eq!(send(backend.query(&body).bearer_auth(&admin.access)).await.json()["cached"], true);
    let stats = data(&ask(&backend, &admin.access, "{ cacheStats { entries hits } }").await)["cacheStats"].clone();
    assert_eq!(stats["entries"], 1, "{stats}");
    let cleared = data(&ask(&backend, &admin.access, "mutation { clearCache { entries } }").await);
    assert_eq!(cleared["clearCache"]["entries"], 1, "{cleared}");
    assert_eq!(process().await["cached"], false);

    let made = "mutation { createApiKey(input: { name: \"by graphql\", permissions: [READ, API_ACCESS], \
        expiresInDays: 7 }) { key apiKey { id name expiresAt } } }";
    let made = data(&ask(&backend, &admin.access, made).await)["createApiKey"].clone();
    let (key, id) = (made["key"].as_str().expect("a key"), made["apiKey"]["id"].as_str().expect("an id"));
    assert!(made["apiKey"]["expiresAt"].is_u64(), "{made}");
    send(backend.get("/api/v1/models").header("X-API-Key", key)).await.expect_status(200);
    let rotate = format!(
        "mutation {{ rotateApiKey(id: \"{id}\", oldSecretHours: 1) {{ key apiKey {{ id oldSecretUntil }} }} }}"
    );
    let rotated = data(&ask(&backend, &admin.access, &rotate).await)["rotateApiKey"].clone();
    assert_eq!((&rotated["apiKey"]["id"], rotated["key"] == key), (&json!(id), false), "{rotated}");
    assert!(rotated["apiKey"]["oldSecretUntil"].is_u64(), "{rotated}");
    for key in [key, rotated["key"].as_str().expect("a key")] {
        send(backend.get("/api/v1/models").header("X-API-Key", key)).await.expect_status(200);
    }
    let revoke = format!("mutation {{ revokeApiKey(id: \"{id}\") }}");
    assert_eq!(data(&ask(&backend, &admin.access, &revoke).await), json!({ "revokeApiKey": id }));
    send(backend.get("/api/v1/models").header("X-API-Key", key)).await.expect_problem(401, "key_invalid");
    let unknown = revoke.replace(id, "abcdefghijkm");
    expect_error(&ask(&backend, &admin.access, &unknown).await, 200, "not_found");
    let nameless = "mutation { createApiKey(input: { name: \"\" }) { key } }";
    let error = expect_error(&ask(&backend, &admin.access, nameless).await, 200, "input_invalid");
    assert!(error["message"].as_str().is_some_and(|message| message.starts_with("name ")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_is_guarded_as_this_table_says() {
    let folder = folder();
    let signer = SigningKey::generate("k1");
    let settings = Settings::development().auth(format!("signing_keys: [{}]", signer.setting(folder.path())));
    let backend = Backend::start_in(&folder, &settings).await;
    let admin = backend.login(ADMIN).await;
    let mut told = root_fields(&backend, &admin.access).await;
    told.retain(|(root, _)| root != "Subscription");
    let stated: BTreeSet<_> =
        FIELDS.iter().map(|(root, field, ..)| ((*root).to_owned(), (*field).to_owned())).collect();
    assert_eq!(told, stated, "a new field has to say here what it needs");

    let expired = token_of("somebody", "read write execute admin api_access graphql_access");
    let expired = expired.claim("exp", now() - 1).signed_by(&signer);
    for (_, field, document, needs) in FIELDS {
        let request = || post(&backend, &json!({ "query": document }));
        let with = async |permissions: &[&str]| {
            let key = backend.key(&admin, &json!({ "name": "k", "permissions": permissions })).await;
            send(request().header("X-API-Key", &key.key)).await
        };
        println!("{field} without a credential, with one that has expired, and with all but graphql_access");
        send(request()).await.expect_problem(401, "token_missing");
        send(request().bearer_auth(&expired)).await.expect_problem(401, "token_expired");
        let rest = all_but("graphql_access");
        with(&rest).await.expect_problem(403, "permission_missing");
        for missing in needs {
            println!("{field} without {missing}");
            let answer = with(&all_but(missing)).await;
            let error = expect_error(&answer, 200, "permission_missing");
            assert!(error["message"].as_str().is_some_and(|message| message.contains(*missing)), "{error}");
            assert!(answer.json()["data"][field].is_null(), "{answer:?}");
        }
        println!("{field} with just what it needs");
        let answer = with(&[needs, &["graphql_access"]].concat()).await;
        answer.expect_status(200);
        assert!(!answer.body.contains("permission_missing"), "{answer:?}");
    }
}

fn all_but(missing: &str) -> Vec<&'static str> {
    PERMISSIONS.into_iter().filter(|permission| *permission != missing).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_and_statuses_are_those_of_graphql_over_http() {
    let backend = Backend::development().await;
    let Session { access, .. } = backend.login(ADMIN).await;
    let both = format!("application/json;q=0.5, {GRAPHQL_RESPONSE}");
    let new = Some(GRAPHQL_RESPONSE);
    let cases: [(&str, Option<&str>, &str, u16); 14] = [
        ("a query", None, "{\"query\":\"{ me { id } }\"}", 200),
        ("a query", new, "{\"query\":\"{ me { id } }\"}", 200),
        ("a query", Some(&both), "{\"query\":\"{ me { id } }\"}", 200),
        ("a field that fails", new, "{\"query\":\"{ users(first: 0) { nodes { id } } }\"}", 200),
        ("no document", None, "{\"query\":\"{ me {\"}", 200),
        ("no document", new, "{\"query\":\"{ me {\"}", 400),
        ("an unknown field", None, "{\"query\":\"{ you { id } }\"}", 200),
        ("an unknown field", new, "{\"query\":\"{ you { id } }\"}", 400),
        ("an unknown operation", new, "{\"query\":\"query A { me { id } }\",\"operationName\":\"B\"}", 400),
        (
            "a subscription",
            new,
            "{\"query\":\"subscription { answer(input: { query: \\\"a\\\" }) { delta } }\"}",
            400,
        ),
        ("no JSON", None, "{", 400),
        ("no JSON", new, "{", 400),
        ("no query", None, "{\"variables\":{}}", 400),
        ("variables that are a list", new, "{\"query\":\"{ me { id } }\",\"variables\":[]}", 400),
    ];
    for (what, accept, body, status) in cases {
        println!("{what}, {accept:?}");
        let mut request = backend.graphql_request("POST", "/graphql").bearer_auth(&access);
        request = request.header("Content-Type", "application/json").body(body);
        if let Some(accept) = accept {
            request = request.header("Accept", accept);
        }
        let answer = send(request).await;
        answer.expect_status(status);
        let form = if accept.is_some() { GRAPHQL_RESPONSE } else { "application/json" };
        assert_eq!(answer.header("content-type"), format!("{form}; charset=utf-8"), "{answer:?}");
        assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
        let told = answer.json();
        let is_answered = matches!(what, "a query" | "a field that fails");
        assert_eq!(
            (told.get("data").is_some(), told.get("errors").is_some()),
            (is_answered, what != "a query"),
            "{told}"
        );
    }
    let sound = "{\"query\":\"{ me { id } }\"}";
    let raw = |media_type: &str| {
        let request = backend.graphql_request("POST", "/graphql").bearer_auth(&access).body(sound);
        request.header("Content-Type", media_type)
    };
    for media_type in
        ["text/plain", "application/x-www-form-urlencoded", "application/graphql", "multipart/form-data"]
    {
        send(raw(media_type)).await.expect_problem(415, "media_type_unsupported");
    }
    let untyped = backend.graphql_request("POST", "/graphql").bearer_auth(&access).body(sound);
    send(untyped).await.expect_problem(415, "media_type_unsupported");
    send(raw("application/json").header("Accept", "text/html")).await.expect_problem(406, "not_acceptable");
    let put = send(backend.graphql_request("PUT", "/graphql").bearer_auth(&access)).await;
    put.expect_problem(405, "method_not_allowed");
    assert!(put.header("allow").contains("POST") && put.header("allow").contains("GET"), "{put:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_may_only_look() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let get = |query: &[(&str, &str)]| backend.graphql_request("GET", &link(query));
    let known = async |query: &[(&str, &str)]| send(get(query).bearer_auth(&admin.access)).await;
    let variables =
        [("query", "query($id: ID!) { model(id: $id) { id } }"), ("variables", "{\"id\":\"capibara6-dev\"}")];
    assert_eq!(data(&known(&variables).await), json!({ "model": { "id": "capibara6-dev" } }));
    let chosen = [("query", "query A { me { id } } mutation B { clearCache { entries } }"), ("operationName", "A")];
    known(&chosen).await.expect_status(200);
    for query in [[chosen[0], ("operationName", "B")], [("query", "mutation { clearCache { entries } }"), ("a", "b")]]
    {
        let answer = known(&query).await;
        answer.expect_problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), "POST", "{answer:?}");
    }
    expect_error(&known(&[]).await, 400, "input_invalid");
    expect_error(&known(&[("query", "{ me { id } }"), ("variables", "[")]).await, 400, "input_invalid");
    // What a browser sends along by itself is no credential here.
    let cookie = get(&chosen).header("Cookie", format!("token={}", admin.access));
    send(cookie).await.expect_problem(401, "token_missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphql_can_be_served_alone() {
    let folder = folder();
    let file = Settings::development().write(folder.path());
    let mut program = Program::start("backend", command(&["graphql"], &file), "");
    let address = program.listening("graphql").await;
    program.listening("internal").await;
    let answer =
        send(plain().post(format!("http://{address}/graphql")).json(&json!({ "query": "{ me { id } }" }))).await;
    answer.expect_problem(401, "token_missing");
    send(plain().get(format!("http://{address}/health"))).await.expect_status(200);
    send(plain().get(format!("http://{address}/api/v1/models"))).await.expect_problem(404, "route_not_found");
    assert!(!program.said().contains("\"listener\":\"api\""), "{}", program.said());
}
