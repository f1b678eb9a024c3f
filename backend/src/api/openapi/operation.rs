//! Operation: one method of one path, told word by word.
//!
//! For: `paths.rs`. May touch: `common`. Promises: what every operation refuses is told for every operation, and
//! what every caller must show is refused in the same way everywhere. Read next: `paths.rs`.

use std::collections::BTreeMap;

use common::access::Permission;
use common::code::Code;
use common::problem;
use serde_json::{Map, Value, json};

use super::schemas::reference;
use crate::api::page::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::base::ids::IDEMPOTENCY_KEY_CHARS_MAX;

/// What can go wrong with any request.
const ALWAYS: [Code; 3] = [Code::MisdirectedRequest, Code::InternalError, Code::DependencyUnavailable];

/// What can go wrong with a credential.
const CREDENTIAL: [Code; 14] = [
    Code::TokenMissing,
    Code::TokenMalformed,
    Code::TokenExpired,
    Code::TokenNotYetValid,
    Code::TokenRevoked,
    Code::TokenIssuerInvalid,
    Code::TokenAudienceInvalid,
    Code::TokenAlgorithmInvalid,
    Code::TokenTypeInvalid,
    Code::TokenKeyUnknown,
    Code::TokenSignatureInvalid,
    Code::TokenClaimInvalid,
    Code::CredentialAmbiguous,
    Code::KeyInvalid,
];

/// What can go wrong with a body.
const BODY: [Code; 4] = [Code::InputInvalid, Code::RequestTimeout, Code::BodyTooLarge, Code::MediaTypeUnsupported];

/// How a refusal looks.
#[derive(Clone, Copy)]
enum Form {
    Problem,
    OpenAi,
}

/// One method of one path.
pub(super) struct Operation {
    members: Map<String, Value>,
    parameters: Vec<Value>,
    answers: Map<String, Value>,
    refusals: BTreeMap<u16, Vec<Code>>,
    form: Form,
}

impl Operation {
    /// One that needs no credential.
    pub(super) fn open(tag: &str, id: &str, summary: &str) -> Self {
        let mut operation = Self::new(tag, id, summary);
        operation.members.insert("security".into(), json!([]));
        operation
    }

    /// One for callers who are known, and have these permissions.
    pub(super) fn guarded(tag: &str, id: &str, summary: &str, permissions: &[Permission]) -> Self {
        let operation = Self::new(tag, id, summary).refuses(&CREDENTIAL);
        if permissions.is_empty() {
            return operation.describe("Needs a credential, and no permission.");
        }
        let words: Vec<&str> = permissions.iter().map(|permission| permission.as_str()).collect();
        let needs = format!("Needs the permissions: {}.", words.join(", "));
        operation.describe(&needs).refuses(&[Code::PermissionMissing])
    }

    fn new(tag: &str, id: &str, summary: &str) -> Self {
        let mut members = Map::new();
        members.insert("tags".into(), json!([tag]));
        members.insert("operationId".into(), json!(id));
        members.insert("summary".into(), json!(summary));
        let operation = Self {
            members,
            parameters: Vec::new(),
            answers: Map::new(),
            refusals: BTreeMap::new(),
            form: Form::Problem,
        };
        operation.refuses(&ALWAYS)
    }

    /// Says more of it.
    pub(super) fn describe(mut self, text: &str) -> Self {
        let known = self.members.get("description").and_then(Value::as_str).map(|known| format!("{known} {text}"));
        let whole = known.unwrap_or_else(|| text.to_owned());
        self.members.insert("description".into(), Value::String(whole));
        self
    }

    /// Its refusals have `OpenAI`'s form.
    pub(super) fn speaking_openai(mut self) -> Self {
        self.form = Form::OpenAi;
        self
    }

    /// It takes a JSON body of this schema.
    pub(super) fn takes(mut self, schema: &str) -> Self {
        let body = json!({ "required": true, "content": { "application/json": { "schema": reference(schema) } } });
        self.members.insert("requestBody".into(), body);
        self.refuses(&BODY)
    }

    /// It has this parameter in its path. Bytes that are no text are refused before anything is looked up.
    pub(super) fn at(mut self, name: &str, description: &str) -> Self {
        let schema = json!({ "type": "string" });
        self.parameters.push(json!({
            "name": name, "in": "path", "required": true, "description": description, "schema": schema,
        }));
        self.refuses(&[Code::InputInvalid])
    }

    /// It may have this parameter in its query string.
    pub(super) fn asks(mut self, name: &str, description: &str, schema: &Value) -> Self {
        self.parameters.push(json!({ "name": name, "in": "query", "description": description, "schema": schema }));
        self
    }

    /// It must have this parameter in its query string.
    pub(super) fn demands(mut self, name: &str, description: &str, schema: &Value) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "query", "required": true, "description": description, "schema": schema,
        }));
        self
    }

    /// It looks at this header.
    pub(super) fn heeds(mut self, name: &str, description: &str) -> Self {
        let schema = json!({ "type": "string" });
        self.parameters.push(json!({ "name": name, "in": "header", "description": description, "schema": schema }));
        self
    }

    /// The same request under the same key is done once.
    pub(super) fn keyed(mut self, description: &str) -> Self {
        let pattern = format!("^[!-~]{{1,{IDEMPOTENCY_KEY_CHARS_MAX}}}$");
        let schema = json!({ "type": "string", "pattern": pattern });
        let name = "Idempotency-Key";
        self.parameters.push(json!({ "name": name, "in": "header", "description": description, "schema": schema }));
        self.refuses(&[Code::InputInvalid, Code::Conflict])
    }

    /// It gives a list in pages.
    pub(super) fn paged(self) -> Self {
        let limit = json!({ "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT });
        let cursor = json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,256}$" });
        self.asks("limit", "How many items to give.", &limit)
            .asks("cursor", "`next_cursor` of the page before.", &cursor)
            .refuses(&[Code::InputInvalid])
    }

    /// Its answers carry a tag, and are not sent to who has them.
    pub(super) fn tagged(mut self) -> Self {
        self = self.heeds("If-None-Match", "The `ETag` of an answer that the client has.");
        self.answers.insert("304".into(), json!({ "description": "The client has the answer already." }));
        self
    }

    /// It answers with JSON of this schema.
    pub(super) fn gives(self, status: u16, description: &str, schema: &str) -> Self {
        self.gives_as(status, description, "application/json", &reference(schema))
    }

    /// It answers with a body of this media type; an answer of one status may have several.
    pub(super) fn gives_as(mut self, status: u16, description: &str, media_type: &str, schema: &Value) -> Self {
        let answer = self
            .answers
            .entry(status.to_string())
            .or_insert_with(|| json!({ "description": description, "content": {}, "headers": headers() }));
        answer["content"][media_type] = json!({ "schema": schema });
        self
    }

    /// It answers without a body.
    pub(super) fn gives_nothing(mut self, status: u16, description: &str) -> Self {
        self.answers.insert(status.to_string(), json!({ "description": description, "headers": headers() }));
        self
    }

    /// It may refuse with these codes.
    pub(super) fn refuses(mut self, codes: &[Code]) -> Self {
        for code in codes {
            let of_status = self.refusals.entry(code.status()).or_default();
            if !of_status.contains(code) {
                of_status.push(*code);
            }
        }
        self
    }

    /// The operation as the document has it.
    pub(super) fn finish(mut self) -> Value {
        for (status, codes) in &self.refusals {
            // A route that answers with this status itself has said so.
            self.answers.entry(status.to_string()).or_insert_with(|| refusal(*status, codes, self.form));
        }
        if !self.parameters.is_empty() {
            self.members.insert("parameters".into(), Value::Array(self.parameters));
        }
        self.members.insert("responses".into(), Value::Object(self.answers));
        Value::Object(self.members)
    }
}

/// What every answer has.
fn headers() -> Value {
    json!({
        "X-Request-Id": { "description": "The request's id, as it stands in the log.", "schema": { "type": "string" } },
    })
}

fn refusal(status: u16, codes: &[Code], form: Form) -> Value {
    let lines: Vec<String> = codes.iter().map(|code| format!("`{}`: {}.", code.name(), code.title())).collect();
    let names: Vec<&str> = codes.iter().map(|code| code.name()).collect();
    let of_code = json!({ "properties": { "code": { "enum": names } } });
    let (media_type, schema) = match form {
        Form::Problem => (problem::MEDIA_TYPE, json!({ "allOf": [reference("Problem"), of_code] })),
        Form::OpenAi => {
            let of_error = json!({ "properties": { "error": of_code } });
            ("application/json", json!({ "allOf": [reference("OpenAiError"), of_error] }))
        }
    };
    let mut headers = headers();
    match status {
        401 | 403 => headers["WWW-Authenticate"] = json!({ "schema": { "type": "string" } }),
        429 | 503 => {
            headers["Retry-After"] = json!({ "description": "In seconds.", "schema": { "type": "integer" } });
        }
        _ => {}
    }
    json!({
        "description": lines.join(" "),
        "headers": headers,
        "content": { media_type: { "schema": schema } },
    })
}
