//! `OpenAI` types: requests and answers as `OpenAI`'s clients write and read them.
//!
//! For: `openai.rs`. May touch: nothing. Promises: unknown fields of requests are ignored; what answers have beyond that
//! API stands in one member, `capibara6`, which clients ignore in turn.
//! Read next: `openai.rs`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::openai::AUTO;
use super::queries::{AceAnswer, RoutingAnswer};
use crate::api::error::{ApiError, Refusal};
use crate::query::{Ace, Answer, FinishReason, Message, Question, Role, Routed, Usage};

/// Whom a model belongs to. The API asks for a word.
const OWNER: &str = "capibara6";

#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
pub(in crate::api) struct ChatRequest {
    model: String,
    messages: Vec<ChatMessage>,
    #[serde(default)]
    max_tokens: Option<u32>,
    /// The newer name of the same.
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    // What is not done here.
    #[serde(default)]
    n: Option<u64>,
    #[serde(default)]
    tools: Option<Value>,
    #[serde(default)]
    functions: Option<Value>,
    #[serde(default)]
    logprobs: Option<Value>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with role and content")]
struct ChatMessage {
    role: String,
    content: Content,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "content must be text, or a list of parts")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Serialize)]
pub(super) struct Completion {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: [CompletionChoice; 1],
    usage: UsageBody,
    capibara6: Extension,
}

#[derive(Serialize)]
struct CompletionChoice {
    index: u32,
    message: CompletionMessage,
    logprobs: Option<Value>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct CompletionMessage {
    role: &'static str,
    content: String,
    refusal: Option<String>,
}

#[derive(Serialize)]
pub(super) struct UsageBody {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

/// One event of a streamed answer.
#[derive(Serialize)]
pub(super) struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<ChunkChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capibara6: Option<Extension>,
}

#[derive(Serialize)]
struct ChunkChoice {
    index: u32,
    delta: Delta,
    logprobs: Option<Value>,
    finish_reason: Option<&'static str>,
}

/// What is new of the answer's message.
#[derive(Default, Serialize)]
pub(super) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// What our answers tell and that API has no place for.
#[derive(Serialize)]
pub(super) struct Extension {
    #[serde(skip_serializing_if = "Option::is_none")]
    routing: Option<RoutingAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ace: Option<AceAnswer>,
}

#[derive(Serialize)]
pub(in crate::api) struct ModelsBody {
    object: &'static str,
    data: Vec<ModelBody>,
}

#[derive(Serialize)]
pub(in crate::api) struct ModelBody {
    id: String,
    object: &'static str,
    /// When it was made, which is not known here; the API asks for a number.
    created: u64,
    owned_by: &'static str,
}

/// A refusal.
#[derive(Serialize)]
pub(super) struct ErrorBody<'a> {
    error: ErrorMember<'a>,
}

#[derive(Serialize)]
struct ErrorMember<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'static str>,
    code: &'static str,
}

impl ChatRequest {
    pub(super) fn is_streamed(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether the last event but one shall tell the tokens.
    pub(super) fn with_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// The question in our words.
    ///
    /// # Errors
    /// What is asked for and not done here, and messages that do not end with a question.
    pub(super) fn into_question(self) -> Result<Question, ApiError> {
        self.check_undone()?;
        let mut messages = self.messages.into_iter().map(Message::try_from).collect::<Result<Vec<_>, _>>()?;
        let Some(Message { role: Role::User, text }) = messages.pop() else {
            return Err(wrong("messages", "must end with a message of the user"));
        };
        Ok(Question {
            text,
            history: messages,
            model: (self.model != AUTO).then_some(self.model),
            tokens_max: self.max_completion_tokens.or(self.max_tokens),
            temperature: self.temperature,
            public: false,
            execute: false,
        })
    }

    /// Ignoring these would give another answer than the one that was asked for.
    fn check_undone(&self) -> Result<(), ApiError> {
        if self.n.is_some_and(|n| n != 1) {
            return Err(wrong("n", "must be 1: there is one answer to a question"));
        }
        let is_wanted = |value: &Option<Value>| match value {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(_) => true,
        };
        for (name, value) in [("tools", &self.tools), ("functions", &self.functions), ("logprobs", &self.logprobs)] {
            if is_wanted(value) {
                return Err(wrong(name, "is not supported"));
            }
        }
        Ok(())
    }
}

fn wrong(param: &'static str, why: &str) -> ApiError {
    ApiError::input(param, why).about(param)
}

impl TryFrom<ChatMessage> for Message {
    type Error = ApiError;

    fn try_from(message: ChatMessage) -> Result<Self, ApiError> {
        let role = match message.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => return Err(wrong("messages", "have the roles system, developer, user and assistant")),
        };
        let text = match message.content {
            Content::Text(text) => text,
            Content::Parts(parts) => parts.into_iter().map(part_text).collect::<Result<String, _>>()?,
        };
        Ok(Self { role, text })
    }
}

fn part_text(part: Part) -> Result<String, ApiError> {
    let text = part.text.filter(|_| part.kind == "text");
    text.ok_or_else(|| wrong("messages", "may have parts of the type text only"))
}

impl From<Usage> for UsageBody {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
        }
    }
}

impl Completion {
    pub(super) fn new(id: String, answer: Answer) -> Self {
        let message = CompletionMessage { role: Role::Assistant.as_str(), content: answer.text, refusal: None };
        Self {
            id,
            object: "chat.completion",
            created: answer.asked_at,
            model: answer.routed.model.clone(),
            choices: [CompletionChoice { index: 0, message, logprobs: None, finish_reason: answer.finish.as_str() }],
            usage: answer.usage.into(),
            capibara6: Extension {
                routing: Some(answer.routed.into()),
                cached: Some(answer.cached),
                ace: answer.ace.map(AceAnswer::from),
            },
        }
    }
}

impl<'a> Chunk<'a> {
    pub(super) fn new(id: &'a str, created: u64, model: &'a str) -> Self {
        Self {
            id,
            object: "chat.completion.chunk",
            created,
            model,
            choices: Vec::new(),
            usage: None,
            capibara6: None,
        }
    }

    pub(super) fn saying(mut self, delta: Delta, finish: Option<FinishReason>) -> Self {
        let finish_reason = finish.map(FinishReason::as_str);
        self.choices.push(ChunkChoice { index: 0, delta, logprobs: None, finish_reason });
        self
    }

    pub(super) fn counting(mut self, usage: UsageBody) -> Self {
        self.usage = Some(usage);
        self
    }

    pub(super) fn explained(mut self, extension: Extension) -> Self {
        self.capibara6 = Some(extension);
        self
    }
}

impl Delta {
    /// Who speaks, before the first word.
    pub(super) fn first() -> Self {
        Self { role: Some(Role::Assistant.as_str()), content: Some(String::new()) }
    }

    pub(super) fn text(text: String) -> Self {
        Self { role: None, content: Some(text) }
    }
}

impl Extension {
    /// What is known when an answer begins.
    pub(super) fn begun(routed: Routed, cached: bool) -> Self {
        Self { routing: Some(routed.into()), cached: Some(cached), ace: None }
    }

    /// What is told when it ends.
    pub(super) fn ended(ace: Option<Ace>) -> Self {
        Self { routing: None, cached: None, ace: ace.map(AceAnswer::from) }
    }
}

impl ModelsBody {
    pub(super) fn new(data: Vec<ModelBody>) -> Self {
        Self { object: "list", data }
    }
}

impl ModelBody {
    pub(super) fn new(id: String) -> Self {
        Self { id, object: "model", created: 0, owned_by: OWNER }
    }
}

impl<'a> From<&'a Refusal> for ErrorBody<'a> {
    fn from(refusal: &'a Refusal) -> Self {
        let title = refusal.code.title();
        Self {
            error: ErrorMember {
                message: if refusal.detail.is_empty() { title } else { &refusal.detail },
                kind: match refusal.code.status() {
                    401 => "authentication_error",
                    403 => "permission_error",
                    429 => "rate_limit_error",
                    400..=499 => "invalid_request_error",
                    _ => "server_error",
                },
                param: refusal.param,
                code: refusal.code.name(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use serde_json::json;

    use super::*;

    fn question(body: Value) -> Result<Question, Refusal> {
        let request: ChatRequest = serde_json::from_value(body).expect("a request");
        request.into_question().map_err(ApiError::told)
    }

    #[test]
    fn a_conversation_becomes_a_question_with_its_history() {
        let asked = question(json!({
            "model": "auto",
            "messages": [
                { "role": "developer", "content": "Be brief." },
                { "role": "user", "content": "One?" },
                { "role": "assistant", "content": "One.", "tool_calls": null },
                { "role": "user", "content": [{ "type": "text", "text": "Two" }, { "type": "text", "text": "?" }] },
            ],
            "max_tokens": 5,
            "max_completion_tokens": 7,
            "temperature": 0.5,
            "n": 1, "tools": [], "functions": null, "logprobs": false,
            "user": "u", "seed": 7,
        }))
        .expect("it can be asked");
        assert_eq!((asked.text.as_str(), asked.model, asked.tokens_max), ("Two?", None, Some(7)));
        let roles: Vec<Role> = asked.history.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant]);
        let named = question(json!({ "model": "m", "messages": [{ "role": "user", "content": "?" }] }));
        assert_eq!(named.expect("it can be asked").model.as_deref(), Some("m"));
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        let user = json!([{ "role": "user", "content": "?" }]);
        let cases = [
            (json!({ "model": "m", "messages": [] }), "messages"),
            (json!({ "model": "m", "messages": [{ "role": "system", "content": "?" }] }), "messages"),
            (json!({ "model": "m", "messages": [{ "role": "tool", "content": "?" }] }), "messages"),
            (
                json!({ "model": "m", "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }),
                "messages",
            ),
            (json!({ "model": "m", "messages": user, "n": 2 }), "n"),
            (json!({ "model": "m", "messages": user, "n": 0 }), "n"),
            (json!({ "model": "m", "messages": user, "tools": [{ "type": "function" }] }), "tools"),
            (json!({ "model": "m", "messages": user, "functions": [{}] }), "functions"),
            (json!({ "model": "m", "messages": user, "logprobs": true }), "logprobs"),
        ];
        for (body, param) in cases {
            let refusal = question(body.clone()).expect_err("refused");
            assert_eq!((refusal.param, refusal.code.name()), (Some(param), "input_invalid"), "{body}");
        }
    }

    #[test]
    fn a_refusal_has_the_form_that_clients_know() {
        let response = wrong("n", "must be 1").into_response();
        let refusal = response.extensions().get::<Refusal>().expect("a refusal");
        let body = serde_json::to_value(ErrorBody::from(refusal)).expect("JSON");
        assert_eq!(
            body,
            json!({ "error": { "message": "n must be 1", "type": "invalid_request_error", "param": "n",
                               "code": "input_invalid" } })
        );
    }
}
