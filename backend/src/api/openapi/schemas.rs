//! Schemas: the bodies, member by member.
//!
//! For: `paths.rs`, which refers to them by name. May touch: `common::access`.
//! Promises: what a request may not hold is told as strictly as it is checked; times are seconds of the Unix epoch.
//! Read next: `../rest/`, which has the types that these describe.

use common::access::{Permission, Role};
use serde_json::{Map, Value, json};

use super::metrics;
use crate::auth::{OLD_SECRET_HOURS_MAX, event_kinds};
use crate::query::{HISTORY_MESSAGES_MAX, QUESTION_CHARS_MAX};

const PRIORITIES: [&str; 3] = ["low", "normal", "high"];
/// Of jobs, and of the queries in them.
const JOB_STATUSES: [&str; 5] = ["queued", "running", "done", "dead", "cancelled"];

/// A reference to a schema of this page.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Every schema by its name.
pub(super) fn all() -> Value {
    let mut schemas = Map::new();
    for group in [refusals(), auth(), accounts(), queries(), jobs(), openai(), metrics::schemas(), operation()] {
        schemas.extend(group.into_iter().map(|(name, schema)| (name.to_owned(), schema)));
    }
    Value::Object(schemas)
}

/// Schemas by their names.
pub(super) type Group = Vec<(&'static str, Value)>;

fn refusals() -> Group {
    let problem = object(
        &[
            ("type", text("`urn:capibara6:error:` and the code.")),
            ("title", text("The code in words.")),
            ("status", integer("The status of the answer.")),
            ("detail", text("What went wrong, for a person.")),
            ("instance", text("The path that was asked.")),
            ("code", text("What to compare with.")),
            ("request_id", text("The request's id, as it stands in the log.")),
        ],
        &["detail", "instance", "request_id"],
    );
    let error = object(
        &[
            ("message", text("What went wrong, for a person.")),
            ("type", text("The kind of error, in OpenAI's words.")),
            ("param", nullable("string", "The field that is to blame.")),
            ("code", text("What to compare with: the code of a problem.")),
        ],
        &[],
    );
    vec![("Problem", problem), ("OpenAiError", object(&[("error", error)], &[]))]
}

fn auth() -> Group {
    let login = object(&[("username", text("")), ("password", secret())], &[]);
    let tokens = object(
        &[
            ("access_token", text("A JWT, for `Authorization: Bearer`.")),
            ("token_type", json!({ "const": "Bearer" })),
            ("expires_in", integer("How long the access token holds, in seconds.")),
            ("refresh_token", text("Good for one refresh.")),
            ("scope", text("The permissions, separated by spaces.")),
        ],
        &[],
    );
    let me = object(
        &[
            ("id", text("")),
            ("username", text("")),
            ("roles", list(&json!({ "type": "string" }))),
            ("permissions", list(&permissions())),
            ("method", choice(&["jwt", "api_key"])),
            ("key_id", text("The API key that was shown.")),
        ],
        &["key_id"],
    );
    let keys = object(&[("keys", list(&json!({ "type": "object" })))], &[]);
    vec![
        ("LoginRequest", closed(login)),
        ("RefreshRequest", closed(object(&[("refresh_token", text("The one that was given last."))], &[]))),
        ("Tokens", tokens),
        ("Me", me),
        ("JwkSet", keys),
    ]
}

fn accounts() -> Group {
    let user_request = object(
        &[
            ("username", json!({ "type": "string", "pattern": "^[A-Za-z0-9._@-]{1,64}$" })),
            ("password", json!({ "type": "string", "format": "password", "minLength": 8, "maxLength": 128 })),
            ("role", roles()),
        ],
        &[],
    );
    let user_edit = json!({
        "type": "object",
        "minProperties": 1,
        "properties": {
            "role": roles(),
            "password": { "type": "string", "format": "password", "minLength": 8, "maxLength": 128 },
            "disabled": { "type": "boolean" },
        },
    });
    let user = object(
        &[
            ("id", text("")),
            ("username", text("")),
            ("role", roles()),
            ("created_at", time()),
            ("disabled_at", time()),
        ],
        &["disabled_at"],
    );
    let key_request = object(
        &[
            ("name", json!({ "type": "string", "minLength": 1, "maxLength": 64 })),
            ("permissions", json!({ "type": ["array", "null"], "minItems": 1, "items": permissions() })),
            ("expires_in_days", json!({ "type": ["integer", "null"], "minimum": 1, "maximum": 3650 })),
        ],
        &["permissions", "expires_in_days"],
    );
    let listed = [
        ("id", text("The public part of the key.")),
        ("name", text("")),
        ("permissions", list(&permissions())),
        ("created_at", time()),
        ("expires_at", time()),
        ("revoked_at", time()),
        ("last_used_at", time()),
        ("old_secret_until", time()),
    ];
    let optional = ["expires_at", "revoked_at", "last_used_at", "old_secret_until"];
    let created = [&[("key", text("The whole key, this once."))][..], &listed[..]].concat();
    vec![
        ("UserRequest", closed(user_request)),
        ("UserEditRequest", closed(user_edit)),
        ("User", user),
        ("UserPage", page("User")),
        ("ApiKeyRequest", closed(key_request)),
        ("ApiKeyRotation", rotation()),
        ("ApiKey", object(&listed, &optional)),
        ("ApiKeyCreated", object(&created, &optional)),
        ("ApiKeyPage", page("ApiKey")),
        ("AuditEvent", event()),
        ("AuditEventPage", page("AuditEvent")),
    ]
}

fn rotation() -> Value {
    let hours = json!({
        "type": ["integer", "null"],
        "minimum": 0,
        "maximum": OLD_SECRET_HOURS_MAX,
        "description": "How long the secret before holds on; 24, if left out.",
    });
    closed(object(&[("old_secret_hours", hours)], &["old_secret_hours"]))
}

fn event() -> Value {
    object(
        &[
            ("id", text("")),
            ("at", time()),
            ("kind", choice(&event_kinds())),
            ("subject", text("A user's id, or the name that was tried.")),
            ("client", text("The client's address.")),
            ("request_id", text("")),
            ("detail", text("What it was about, such as a key's public id.")),
        ],
        &["subject", "client", "request_id", "detail"],
    )
}

fn queries() -> Group {
    let request = object(
        &[
            ("query", json!({ "type": "string", "minLength": 1, "maxLength": QUESTION_CHARS_MAX })),
            ("model", nullable("string", "The model to ask; the router chooses, if there is none.")),
            ("max_tokens", json!({ "type": ["integer", "null"], "minimum": 1 })),
            ("temperature", json!({ "type": ["number", "null"], "minimum": 0, "maximum": 2 })),
            ("stream", flag("Answer in server-sent events.")),
            ("execute", flag("Run the code of the answer, where a sandbox is configured.")),
            ("public", flag("The answer may be kept for every caller, where that is configured.")),
        ],
        &["model", "max_tokens", "temperature", "stream", "execute", "public"],
    );
    let routing = object(
        &[
            ("model", text("The model that answers.")),
            ("complexity", json!({ "type": "integer", "minimum": 0, "maximum": 100 })),
            ("reason", text("Why this one.")),
        ],
        &[],
    );
    let usage = object(&[("prompt_tokens", integer("")), ("completion_tokens", integer(""))], &[]);
    let ace = object(
        &[
            ("playbook", text("")),
            ("score", integer("")),
            ("added_chars", integer("How much longer the question became.")),
        ],
        &[],
    );
    let run = object(
        &[
            ("executed", json!({ "type": "boolean" })),
            ("stdout", text("")),
            ("stderr", text("")),
            ("exit_code", nullable("integer", "")),
            ("error", text("Why it did not run.")),
            ("took_ms", number("In milliseconds.")),
        ],
        &["error"],
    );
    let ended = [
        ("id", text("")),
        ("usage", reference("Usage")),
        ("cached", json!({ "type": "boolean" })),
        ("finish_reason", choice(&["stop", "length", "content_filter"])),
        ("ace", json!({ "anyOf": [reference("Ace"), { "type": "null" }] })),
        ("e2b", reference("Run")),
        ("duration_ms", number("In milliseconds.")),
    ];
    let begun = [("answer", text("")), ("model", text("")), ("routing", reference("Routing"))];
    vec![
        ("QueryRequest", closed(request)),
        ("QueryAnswer", object(&[&begun[..], &ended[..]].concat(), &["e2b"])),
        ("QueryDone", object(&ended, &["e2b"])),
        ("Routing", routing),
        ("Usage", usage),
        ("Ace", ace),
        ("Run", run),
        ("Models", object(&[("items", list(&reference("Model")))], &[])),
        ("Model", model()),
    ]
}

fn jobs() -> Group {
    let query = object(
        &[
            ("query", json!({ "type": "string", "minLength": 1, "maxLength": QUESTION_CHARS_MAX })),
            ("model", nullable("string", "The model to ask; the router chooses, if there is none.")),
            ("max_tokens", json!({ "type": ["integer", "null"], "minimum": 1 })),
            ("temperature", json!({ "type": ["number", "null"], "minimum": 0, "maximum": 2 })),
        ],
        &["model", "max_tokens", "temperature"],
    );
    let request = object(
        &[
            ("queries", json!({ "type": "array", "minItems": 1, "items": reference("BatchQuery") })),
            ("priority", json!({ "type": "string", "enum": PRIORITIES, "default": "normal" })),
        ],
        &["priority"],
    );
    let progress = object(
        &[("done", integer("")), ("failed", integer("")), ("cancelled", integer("")), ("total", integer(""))],
        &[],
    );
    let members = [
        ("id", text("")),
        ("owner", text("The id of whose job it is.")),
        ("status", choice(&JOB_STATUSES)),
        ("priority", choice(&PRIORITIES)),
        ("progress", progress),
        ("attempts", integer("How often its queries were taken, all together.")),
        ("created_at", time()),
        ("started_at", time()),
        ("cancelled_at", time()),
        ("finished_at", time()),
    ];
    let optional = ["started_at", "cancelled_at", "finished_at"];
    let details = [&members[..], &[("results", reference("JobItemPage"))][..]].concat();
    vec![
        ("BatchQuery", closed(query)),
        ("BatchRequest", closed(request)),
        ("Job", object(&members, &optional)),
        ("JobPage", page("Job")),
        ("JobDetails", object(&details, &optional)),
        ("JobItem", job_item()),
        ("JobItemPage", page("JobItem")),
    ]
}

fn job_item() -> Value {
    let result = object(
        &[
            ("answer", text("")),
            ("truncated", json!({ "type": "boolean" })),
            ("model", text("The model that answered.")),
            ("reason", text("Why this one.")),
            ("finish_reason", choice(&["stop", "length", "content_filter"])),
            ("cached", json!({ "type": "boolean" })),
            ("prompt_tokens", integer("")),
            ("completion_tokens", integer("")),
        ],
        &[],
    );
    object(
        &[
            ("index", integer("The query's place in the batch, from 0.")),
            ("status", choice(&JOB_STATUSES)),
            ("attempts", integer("How often it was taken.")),
            ("run_after", time()),
            ("started_at", time()),
            ("finished_at", time()),
            ("result", result),
            ("error", text("Of the last attempt that failed.")),
        ],
        &["run_after", "started_at", "finished_at", "result", "error"],
    )
}

fn model() -> Value {
    object(
        &[
            ("id", text("")),
            ("size", choice(&["small", "large"])),
            ("provider", text("")),
            ("max_tokens", integer("The most tokens of an answer.")),
            ("status", choice(&["unused", "answering", "failing"])),
            ("circuit", choice(&["closed", "open", "half_open"])),
            ("fallbacks", list(&json!({ "type": "string" }))),
        ],
        &[],
    )
}

fn openai() -> Group {
    let message = object(
        &[
            ("role", choice(&["system", "developer", "user", "assistant"])),
            (
                "content",
                json!({
                    "type": ["string", "array"], "minLength": 1, "minItems": 1,
                    "description": "Text, or parts of the type `text`.",
                }),
            ),
        ],
        &[],
    );
    let messages = json!({
        "type": "array", "minItems": 1, "maxItems": HISTORY_MESSAGES_MAX + 1, "items": reference("ChatMessage"),
        "description": "The last one is the user's.",
    });
    let request = object(
        &[
            ("model", text("A model's id, or `auto` for the router to choose.")),
            ("messages", messages),
            ("max_tokens", json!({ "type": ["integer", "null"], "minimum": 1 })),
            ("max_completion_tokens", json!({ "type": ["integer", "null"], "minimum": 1 })),
            ("temperature", json!({ "type": ["number", "null"], "minimum": 0, "maximum": 2 })),
            ("stream", json!({ "type": ["boolean", "null"] })),
            ("stream_options", json!({ "type": ["object", "null"] })),
            ("n", json!({ "enum": [1, null] })),
        ],
        &["max_tokens", "max_completion_tokens", "temperature", "stream", "stream_options", "n"],
    );
    let completion = object(
        &[
            ("id", text("")),
            ("object", json!({ "const": "chat.completion" })),
            ("created", time()),
            ("model", text("")),
            ("choices", json!({ "type": "array", "items": { "type": "object" }, "minItems": 1, "maxItems": 1 })),
            ("usage", json!({ "type": "object" })),
            ("capibara6", json!({ "type": "object", "description": "Why this model, and whence the answer." })),
        ],
        &[],
    );
    let model = object(
        &[
            ("id", text("")),
            ("object", json!({ "const": "model" })),
            ("created", integer("Not known here: 0.")),
            ("owned_by", text("")),
        ],
        &[],
    );
    let models = object(&[("object", json!({ "const": "list" })), ("data", list(&reference("OpenAiModel")))], &[]);
    vec![
        ("ChatRequest", request),
        ("ChatMessage", message),
        ("ChatCompletion", completion),
        ("OpenAiModel", model),
        ("OpenAiModels", models),
    ]
}

fn operation() -> Group {
    let of_model = object(
        &[("id", text("")), ("status", choice(&["unused", "answering", "failing"])), ("answered_at", time())],
        &["answered_at"],
    );
    let health = object(
        &[
            ("status", choice(&["ok", "degraded", "unavailable"])),
            ("version", text("")),
            ("parts", json!({ "type": "object", "additionalProperties": choice(&["ok", "unavailable"]) })),
            ("models", list(&of_model)),
        ],
        &[],
    );
    let stats = object(
        &[
            ("entries", integer("Answers that are kept.")),
            ("hits", integer("")),
            ("shared_hits", integer("Of these, the ones that another process had kept.")),
            ("misses", integer("")),
            ("hit_rate", number("From 0 to 1.")),
        ],
        &[],
    );
    vec![
        ("Alive", object(&[("status", json!({ "const": "ok" }))], &[])),
        ("Health", health),
        ("CacheStats", stats),
        ("CacheCleared", object(&[("dropped", integer("How many answers there were."))], &[])),
    ]
}

/// An object that has these members, all but the optional ones always.
pub(super) fn object(members: &[(&'static str, Value)], optional: &[&str]) -> Value {
    let properties: Map<String, Value> =
        members.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    let required: Vec<&str> = members.iter().map(|(name, _)| *name).filter(|name| !optional.contains(name)).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// The same object, which may have no other members.
fn closed(mut object: Value) -> Value {
    object["additionalProperties"] = Value::Bool(false);
    object
}

/// A page of a list of these.
fn page(item: &str) -> Value {
    let cursor = text("Where the next page begins; absent at the end.");
    object(&[("items", list(&reference(item))), ("next_cursor", cursor)], &["next_cursor"])
}

pub(super) fn list(item: &Value) -> Value {
    json!({ "type": "array", "items": item })
}

pub(super) fn choice(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

fn permissions() -> Value {
    choice(&Permission::ALL.map(Permission::as_str))
}

fn roles() -> Value {
    choice(&Role::ALL.map(Role::as_str))
}

pub(super) fn time() -> Value {
    integer("Seconds of the Unix epoch.")
}

fn secret() -> Value {
    json!({ "type": "string", "format": "password" })
}

fn flag(description: &str) -> Value {
    json!({ "type": "boolean", "default": false, "description": description })
}

pub(super) fn text(description: &str) -> Value {
    described(json!({ "type": "string" }), description)
}

pub(super) fn integer(description: &str) -> Value {
    described(json!({ "type": "integer" }), description)
}

pub(super) fn number(description: &str) -> Value {
    described(json!({ "type": "number" }), description)
}

fn nullable(kind: &str, description: &str) -> Value {
    described(json!({ "type": [kind, "null"] }), description)
}

/// Members whose name says it all have no description.
fn described(mut schema: Value, description: &str) -> Value {
    if !description.is_empty() {
        schema["description"] = Value::String(description.to_owned());
    }
    schema
}
