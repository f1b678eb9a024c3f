//! Walk: every path that the document of the REST API has and every field that GraphQL's schema has, without a
//! credential, with one that has ended, and with one that is not enough. Both are read from the program, so that what is
//! added later is walked as well.
//!
//! Read next: `refusals.rs`, which has a table of its own.

use std::collections::BTreeMap;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{BaseType, FieldDefinition, Type, TypeKind, TypeSystemDefinition};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use testkit::token::now;

use crate::graphql::{expect_error, post};
use crate::harness::backend::{ADMIN, Backend, Folder, folder};
use crate::harness::client::{Answer, send};
use crate::harness::settings::Settings;
use crate::harness::token::{SigningKey, token_of};

/// Every permission there is.
const PERMISSIONS: [&str; 6] = ["read", "write", "execute", "admin", "api_access", "graphql_access"];

/// The fields of GraphQL's roots that ask for nothing but `graphql_access`.
const FREE_FIELDS: [&str; 1] = ["me"];

/// Levels of a made-up input: no input of ours holds itself.
const INPUT_LEVELS_MAX: usize = 8;

/// A backend whose tokens the test makes itself.
async fn start() -> (Folder, SigningKey, Backend) {
    let (folder, key) = (folder(), SigningKey::generate("k1"));
    let settings = Settings::development().auth(format!("signing_keys: [{}]", key.setting(folder.path())));
    let backend = Backend::start_in(&folder, &settings).await;
    (folder, key, backend)
}

/// An operation of the document.
struct Described {
    method: String,
    path: String,
    /// The permissions that it says it needs; `None` for one that is open.
    needs: Option<Vec<String>>,
}

impl Described {
    fn request(&self, backend: &Backend) -> RequestBuilder {
        let path = self.path.replace("{id}", "none");
        backend.request(&self.method, &path).header("Content-Type", "application/json").body("not JSON")
    }

    /// Fails unless the answer is this refusal, in the form of its API.
    fn expect_refusal(&self, answer: &Answer, status: u16, code: &str) {
        println!("{} {}: {code}", self.method, self.path);
        if self.path.starts_with("/v1/") {
            answer.expect_status(status);
            assert_eq!(answer.json()["error"]["code"], code, "{answer:?}");
        } else {
            answer.expect_problem(status, code);
        }
    }
}

async fn described(backend: &Backend) -> Vec<Described> {
    let document = send(backend.get("/api/v1/openapi.json")).await.expect_status(200).json();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
            let text = operation["description"].as_str().unwrap_or_default();
            let named = text.split_once("Needs the permissions: ").and_then(|(_, rest)| rest.split_once('.'));
            let needs: Vec<String> =
                named.map(|(names, _)| names.split(", ").map(str::to_owned).collect()).unwrap_or_default();
            assert!(needs.iter().all(|name| PERMISSIONS.contains(&name.as_str())), "{method} {path}: {needs:?}");
            operations.push(Described {
                method: method.to_uppercase(),
                path: path.clone(),
                needs: (!is_open).then_some(needs),
            });
        }
    }
    operations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_path_lets_in_who_is_not_known_or_lacks_a_permission() {
    let (_folder, key, backend) = start().await;
    let subject = send(backend.get("/auth/me").bearer_auth(backend.login(ADMIN).await.access)).await.text("id");
    let ended = token_of(&subject, &PERMISSIONS.join(" ")).claim("exp", now() - 1).signed_by(&key);
    let mut guarded = 0;
    for operation in described(&backend).await {
        let Some(needs) = &operation.needs else { continue };
        guarded += 1;
        operation.expect_refusal(&send(operation.request(&backend)).await, 401, "token_missing");
        let answer = send(operation.request(&backend).bearer_auth(&ended)).await;
        operation.expect_refusal(&answer, 401, "token_expired");
        for missing in needs {
            let rest: Vec<&str> = PERMISSIONS.into_iter().filter(|permission| permission != missing).collect();
            let token = token_of(&subject, &rest.join(" ")).signed_by(&key);
            let answer = send(operation.request(&backend).bearer_auth(token)).await;
            operation.expect_refusal(&answer, 403, "permission_missing");
            assert!(answer.body.contains(missing.as_str()), "it does not say which: {answer:?}");
        }
    }
    assert!(guarded >= 20, "the document has only {guarded} guarded operations");
}

/// The schema, as far as documents are made from it.
#[derive(Default)]
struct Schema {
    /// The fields of the roots that have one answer.
    roots: Vec<(&'static str, FieldDefinition)>,
    kinds: BTreeMap<String, TypeKind>,
}

impl Schema {
    async fn of(backend: &Backend, token: &str) -> Self {
        let text = send(backend.graphql_request("GET", "/graphql/schema").bearer_auth(token)).await;
        let mut schema = Self::default();
        for definition in parse_schema(&text.expect_status(200).body).expect("the schema can be read").definitions {
            let TypeSystemDefinition::Type(definition) = definition else { continue };
            let name = definition.node.name.node.to_string();
            let root = match name.as_str() {
                "Query" => Some("query"),
                "Mutation" => Some("mutation"),
                _ => None,
            };
            if let (Some(root), TypeKind::Object(object)) = (root, &definition.node.kind) {
                schema.roots.extend(object.fields.iter().map(|field| (root, field.node.clone())));
            }
            schema.kinds.insert(name, definition.node.kind);
        }
        schema
    }

    /// A document that asks for this field with as little as it takes.
    fn document(&self, root: &str, field: &FieldDefinition) -> String {
        let needed = field.arguments.iter().map(|argument| &argument.node);
        let needed = needed.filter(|argument| !argument.ty.node.nullable && argument.default_value.is_none());
        let arguments: Vec<String> = needed
            .map(|argument| format!("{}: {}", argument.name.node, self.value(&argument.ty.node, INPUT_LEVELS_MAX)))
            .collect();
        let arguments = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
        let inside = match self.kinds.get(innermost(&field.ty.node)) {
            Some(TypeKind::Object(_) | TypeKind::Interface(_) | TypeKind::Union(_)) => " { __typename }",
            _ => "",
        };
        format!("{root} {{ {}{arguments}{inside} }}", field.name.node)
    }

    /// A value of this type.
    fn value(&self, ty: &Type, levels: usize) -> String {
        assert!(levels > 0, "an input holds itself");
        let name = match &ty.base {
            BaseType::List(item) => return format!("[{}]", self.value(item, levels - 1)),
            BaseType::Named(name) => name.as_str(),
        };
        match self.kinds.get(name) {
            Some(TypeKind::Enum(words)) => words.values[0].node.value.node.to_string(),
            Some(TypeKind::InputObject(input)) => {
                let needed = input.fields.iter().map(|field| &field.node);
                let needed = needed.filter(|field| !field.ty.node.nullable && field.default_value.is_none());
                let members: Vec<String> = needed
                    .map(|field| format!("{}: {}", field.name.node, self.value(&field.ty.node, levels - 1)))
                    .collect();
                format!("{{ {} }}", members.join(", "))
            }
            _ => match name {
                "Int" | "Float" | "Timestamp" => "1".to_owned(),
                "Boolean" => "true".to_owned(),
                _ => "\"none\"".to_owned(),
            },
        }
    }
}

/// The name of a type within all lists.
fn innermost(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name.as_str(),
        BaseType::List(item) => innermost(item),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_field_answers_who_is_not_known_or_lacks_a_permission() {
    let (_folder, key, backend) = start().await;
    let admin = backend.login(ADMIN).await;
    let subject = send(backend.get("/auth/me").bearer_auth(&admin.access)).await.text("id");
    let everything = PERMISSIONS.join(" ");
    let ended = token_of(&subject, &everything).claim("exp", now() - 1).signed_by(&key);
    let outside = token_of(&subject, &everything.replace(" graphql_access", "")).signed_by(&key);
    let inside = token_of(&subject, "graphql_access").signed_by(&key);
    let schema = Schema::of(&backend, &admin.access).await;
    assert!(schema.roots.len() >= 14, "the schema has only {} fields", schema.roots.len());
    for (root, field) in &schema.roots {
        let document = schema.document(root, field);
        println!("{document}");
        let request = || post(&backend, &json!({ "query": document }));
        send(request()).await.expect_problem(401, "token_missing");
        send(request().bearer_auth(&ended)).await.expect_problem(401, "token_expired");
        send(request().bearer_auth(&outside)).await.expect_problem(403, "permission_missing");
        let answer = send(request().bearer_auth(&inside)).await;
        if FREE_FIELDS.contains(&field.name.node.as_str()) {
            assert_eq!(answer.expect_status(200).json().get("errors"), None, "{answer:?}");
        } else {
            expect_error(&answer, 200, "permission_missing");
            let nothing = answer.json()["data"].clone();
            let told = nothing.as_object().is_some_and(|fields| fields.values().any(|value| *value != Value::Null));
            assert!(!told, "it is refused and told all the same: {answer:?}");
        }
    }
}
