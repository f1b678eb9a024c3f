//! Paths: every route of the public API, and what it takes, gives and refuses.
//!
//! For: the document. May touch: what `../extract.rs` demands. Promises: one function a tag; a route that the router has
//! and this page has not fails a test; the permissions told are those that are enforced. Read next: `../mod.rs`, the router.

use common::access::Permission;
use common::code::Code;
use serde_json::{Map, Value, json};

use super::metrics;
use super::operation::Operation;
use super::schemas::reference;
use crate::api::extract::{Administering, Executing, Needs, Reading, Writing};
use crate::auth::event_kinds;

/// The permissions of most routes that look.
const READING: &[Permission] = Reading::PERMISSIONS;
/// And of those that change.
const WRITING: &[Permission] = Writing::PERMISSIONS;
/// Of those that ask models.
const EXECUTING: &[Permission] = Executing::PERMISSIONS;
/// Of those for administrators.
pub(super) const ADMINISTERING: &[Permission] = Administering::PERMISSIONS;

/// What can go wrong with a question.
const QUESTION: [Code; 5] =
    [Code::InputInvalid, Code::ModelFailed, Code::ModelUnavailable, Code::Overloaded, Code::ModelTimeout];

/// The parameter of the paths of one job.
const JOB_ID: &str = "The job's id.";

/// What becomes of the secrets before a new one.
const ROTATION: &str = "The secret before holds on for `old_secret_hours`; with 0 every one before ends at once. Where two \
    hold already, the older one does so for as long as it was told to, and the newer one ends: who did not get the answer \
    asks again.";

/// A path, a method, and what both do together.
pub(super) type Route = (&'static str, &'static str, Operation);

/// Every path with its methods.
pub(super) fn all() -> Value {
    let mut paths = Map::new();
    let groups = [auth(), queries(), jobs(), openai(), accounts(), metrics::routes(), operations()];
    for (path, method, operation) in groups.into_iter().flatten() {
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[method] = operation.finish();
    }
    Value::Object(paths)
}

fn auth() -> Vec<Route> {
    let tag = "auth";
    let login = Operation::open(tag, "login", "Log in with a name and a password.")
        .takes("LoginRequest")
        .gives(200, "The tokens.", "Tokens")
        .refuses(&[Code::LoginFailed, Code::LoginThrottled, Code::Overloaded]);
    let refresh = Operation::open(tag, "refresh", "Exchange a refresh token for new tokens.")
        .describe("A refresh token is good for one refresh: sent again, it ends its whole session.")
        .takes("RefreshRequest")
        .gives(200, "The tokens.", "Tokens")
        .refuses(&[Code::RefreshInvalid]);
    let logout = Operation::open(tag, "logout", "End the session of a refresh token.")
        .describe("An access token that is sent with it, as a bearer token, is refused everywhere within a second.")
        .takes("RefreshRequest")
        .gives_nothing(204, "The session has ended.")
        .refuses(&[Code::CredentialAmbiguous]);
    let me = Operation::guarded(tag, "me", "Tell who the caller is.", &[])
        .gives(200, "The caller.", "Me")
        .refuses(&[Code::NotFound]);
    let keys = Operation::open(tag, "jwks", "The keys that verify access tokens (RFC 7517).").tagged().gives_as(
        200,
        "The key set.",
        "application/jwk-set+json",
        &reference("JwkSet"),
    );
    vec![
        ("/auth/login", "post", login),
        ("/auth/refresh", "post", refresh),
        ("/auth/logout", "post", logout),
        ("/auth/me", "get", me),
        ("/.well-known/jwks.json", "get", keys),
    ]
}

fn queries() -> Vec<Route> {
    let tag = "queries";
    let events = json!({
        "type": "string",
        "description": "With `stream: true`. Events with JSON for their data: `routing` (a Routing; once, first), \
            `delta` (`{\"text\": …}`, a piece of the answer), `done` (a QueryDone; once, last), or `error` (a Problem, \
            after which nothing comes). A comment is sent whenever there is nothing else to tell.",
    });
    let ask = Operation::guarded(tag, "ask", "Ask a question.", EXECUTING)
        .takes("QueryRequest")
        .gives(200, "The answer, whole or in events. `X-Cache` says whether it was kept.", "QueryAnswer")
        .gives_as(200, "", "text/event-stream", &events)
        .refuses(&QUESTION);
    let models = Operation::guarded(tag, "listModels", "The models that answer here.", READING).tagged().gives(
        200,
        "The models.",
        "Models",
    );
    vec![("/api/v1/query", "post", ask), ("/api/v1/models", "get", models)]
}

fn jobs() -> Vec<Route> {
    let tag = "jobs";
    let create = Operation::guarded(tag, "createJob", "Hand in many questions, to be answered later.", EXECUTING)
        .keyed("The same request with the same key makes one job, however often it is sent.")
        .takes("BatchRequest")
        .gives(202, "The new job. `Location` says where it is.", "Job")
        .gives(200, "The job that this request made before.", "Job")
        .refuses(&[Code::Overloaded]);
    let list = Operation::guarded(tag, "listJobs", "The caller's jobs, or an administrator's view of all.", READING)
        .paged()
        .gives(200, "A page of jobs.", "JobPage");
    let get = Operation::guarded(tag, "getJob", "A job, with a page of its results in the batch's order.", READING)
        .at("id", JOB_ID)
        .paged()
        .gives(200, "The job.", "JobDetails")
        .refuses(&[Code::NotFound]);
    let cancel = Operation::guarded(tag, "cancelJob", "Answer nothing more of a job.", EXECUTING)
        .at("id", JOB_ID)
        .gives(200, "The job.", "Job")
        .refuses(&[Code::NotFound]);
    let requeue = Operation::guarded(tag, "requeueJob", "Try again what was given up.", ADMINISTERING)
        .at("id", JOB_ID)
        .gives(200, "The job.", "Job")
        .refuses(&[Code::NotFound, Code::Conflict]);
    vec![
        ("/api/v1/batch", "post", create),
        ("/api/v1/jobs", "get", list),
        ("/api/v1/jobs/{id}", "get", get),
        ("/api/v1/jobs/{id}", "delete", cancel),
        ("/api/v1/jobs/{id}/requeue", "post", requeue),
    ]
}

fn openai() -> Vec<Route> {
    let tag = "openai";
    let events = json!({
        "type": "string",
        "description": "With `stream: true`. Events with a `chat.completion.chunk` each, then `[DONE]`; or an error \
            object, after which nothing comes.",
    });
    let complete = Operation::guarded(tag, "complete", "Ask in the form of OpenAI's API.", EXECUTING)
        .speaking_openai()
        .takes("ChatRequest")
        .gives(200, "The answer, whole or in events. `X-Cache` says whether it was kept.", "ChatCompletion")
        .gives_as(200, "", "text/event-stream", &events)
        .refuses(&QUESTION)
        .refuses(&[Code::NotFound]);
    let models = Operation::guarded(tag, "listOpenAiModels", "The models, and `auto`.", READING)
        .speaking_openai()
        .gives(200, "The models.", "OpenAiModels");
    let model = Operation::guarded(tag, "getOpenAiModel", "One model.", READING)
        .speaking_openai()
        .at("id", "The model's id, slashes included.")
        .gives(200, "The model.", "OpenAiModel")
        .refuses(&[Code::NotFound]);
    vec![("/v1/chat/completions", "post", complete), ("/v1/models", "get", models), ("/v1/models/{id}", "get", model)]
}

fn accounts() -> Vec<Route> {
    let tag = "accounts";
    let users = Operation::guarded(tag, "listUsers", "All users, in pages.", ADMINISTERING).paged().tagged().gives(
        200,
        "A page of users.",
        "UserPage",
    );
    let user = Operation::guarded(tag, "createUser", "Make a user.", ADMINISTERING)
        .keyed("The same request with the same key, within a day, gives the user that was made.")
        .takes("UserRequest")
        .gives(201, "The user.", "User")
        .refuses(&[Code::Conflict, Code::GrantExceeded, Code::Overloaded]);
    let change =
        Operation::guarded(tag, "changeUser", "Change a user's role or password, or keep a user out.", ADMINISTERING)
            .describe("What is left out stays. The user's access tokens are refused everywhere within a second.")
            .at("id", "The user's id.")
            .takes("UserEditRequest")
            .gives(200, "The user.", "User")
            .refuses(&[Code::NotFound, Code::Conflict, Code::GrantExceeded, Code::Overloaded]);
    let keys = Operation::guarded(tag, "listApiKeys", "API keys of one user, in pages.", READING)
        .asks(
            "owner",
            "Whose, by the user's id: for administrators. Without it the caller's.",
            &json!({ "type": "string" }),
        )
        .paged()
        .tagged()
        .gives(200, "A page of keys, without their secrets.", "ApiKeyPage");
    let key = Operation::guarded(tag, "createApiKey", "Make an API key of the caller's.", WRITING)
        .keyed("The same request with the same key, within a day, is refused: a key is shown once.")
        .takes("ApiKeyRequest")
        .gives(201, "The whole key, this once.", "ApiKeyCreated")
        .refuses(&[Code::Conflict, Code::SecretShown, Code::GrantExceeded]);
    let revoke = Operation::guarded(tag, "revokeApiKey", "Revoke one of the caller's API keys.", WRITING)
        .at("id", "The public part of the key.")
        .gives_nothing(204, "It is revoked.")
        .refuses(&[Code::NotFound]);
    let rotate = Operation::guarded(tag, "rotateApiKey", "Give one of the caller's API keys a new secret.", WRITING)
        .describe(ROTATION)
        .at("id", "The public part of the key.")
        .takes("ApiKeyRotation")
        .gives(200, "The whole key, this once.", "ApiKeyCreated")
        .refuses(&[Code::NotFound, Code::GrantExceeded]);
    let events = Operation::guarded(tag, "listAuditEvents", "Security events, the newest first.", ADMINISTERING)
        .asks("kind", "Only events of this kind.", &json!({ "type": "string", "enum": event_kinds() }))
        .asks("subject", "Only events about this user's id, or name that was tried.", &json!({ "type": "string" }))
        .paged()
        .tagged()
        .gives(200, "A page of events.", "AuditEventPage");
    vec![
        ("/api/v1/audit-events", "get", events),
        ("/api/v1/users", "get", users),
        ("/api/v1/users", "post", user),
        ("/api/v1/users/{id}", "patch", change),
        ("/api/v1/api-keys", "get", keys),
        ("/api/v1/api-keys", "post", key),
        ("/api/v1/api-keys/{id}", "delete", revoke),
        ("/api/v1/api-keys/{id}/rotate", "post", rotate),
    ]
}

fn operations() -> Vec<Route> {
    let tag = "operation";
    let stats = Operation::guarded(tag, "cacheStats", "How the answer cache fares.", READING).gives(
        200,
        "The numbers.",
        "CacheStats",
    );
    let clear = Operation::guarded(tag, "clearCache", "Empty the answer cache.", ADMINISTERING).gives(
        200,
        "It is empty.",
        "CacheCleared",
    );
    let alive = Operation::open(tag, "health", "Whether the program lives.").gives(200, "It does.", "Alive");
    let detailed = Operation::open(tag, "detailedHealth", "Which parts of the program work.")
        .gives(200, "What everything needs works.", "Health")
        .gives(503, "A part that everything needs is away.", "Health");
    let document = Operation::open(tag, "openapi", "This document.").tagged().gives_as(
        200,
        "The document.",
        "application/json",
        &json!({ "type": "object" }),
    );
    vec![
        ("/api/v1/cache", "get", stats),
        ("/api/v1/cache", "delete", clear),
        ("/health", "get", alive),
        ("/health/detailed", "get", detailed),
        ("/api/v1/openapi.json", "get", document),
    ]
}
