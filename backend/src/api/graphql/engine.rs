//! Engine: a request in, its outcome out, whatever it came by.
//!
//! For: HTTP and WebSocket, which differ in how they carry requests and in nothing else. May touch: the schema, the
//! documents that are kept, metrics. Promises: a document is admitted before the library sees it; what a caller may not
//! send by its way is refused; every refusal is counted by its code.
//! Read next: `document.rs`, then `query.rs`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{OperationType, TypeSystemDefinition};
use async_graphql::{Request, Schema, ServerError};
use common::code::Code;
use common::traces::SpanKind;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::document::{self, Admitted, LEVELS_MAX, Limits};
use super::errors::{self, refused};
use super::loaders::UserLoader;
use super::meter::{Executed, Meter};
use super::mutation::Mutation;
use super::outcome::Outcome;
use super::persisted::Persisted;
use super::query::Query;
use super::request::Asked;
use super::subscription::Subscription;
use crate::api::Services;
use crate::api::middleware::Origin;
use crate::auth::Caller;
use crate::base::trace::{self, Open};
use crate::config;

/// Types that every schema has without saying so (GraphQL §3.5).
const BUILT_IN_TYPES: [&str; 5] = ["Int", "Float", "String", "Boolean", "ID"];

/// The longest name of an operation that is told in a span.
const OPERATION_NAME_BYTES_MAX: usize = 64;

/// The schema cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("the GraphQL schema cannot be read back")]
pub struct SchemaError(#[from] async_graphql::parser::Error);

/// Who asks, and from where. Beside every request.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) caller: Caller,
    pub(super) origin: Origin,
}

/// By which way a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A link that anybody can make somebody follow: it may only look.
    Get,
    /// A request with one answer.
    Post,
    /// A WebSocket.
    Socket,
}

/// What a way other than a WebSocket brings.
pub(super) enum Answer {
    Outcome(Outcome),
    /// A mutation came by GET.
    WrongMethod,
}

/// Everything that answers GraphQL.
pub(in crate::api) struct Engine {
    schema: Schema<Query, Mutation, Subscription>,
    services: Arc<Services>,
    /// The names of all types.
    types: HashSet<String>,
    persisted: Persisted,
    /// The bounds.
    pub(super) settings: config::Graphql,
    /// How long one operation may take.
    pub(super) operation_timeout: Duration,
}

/// A request that may be executed.
struct Prepared {
    request: Request,
    executed: Executed,
    operation: OperationType,
}

impl Engine {
    /// Builds the schema.
    ///
    /// # Errors
    /// `SchemaError`, which is a programming error.
    pub(in crate::api) fn new(
        services: &Arc<Services>,
        settings: &config::Graphql,
        operation_timeout: Duration,
    ) -> Result<Self, SchemaError> {
        let meter = Meter { complexity_max: settings.complexity_max, metrics: services.metrics.clone() };
        let mut builder = Schema::build(Query, Mutation, Subscription)
            .data(Arc::clone(services))
            .extension(meter)
            .limit_recursive_depth(LEVELS_MAX);
        if !settings.introspection {
            // Suggestions tell the schema to whoever asks long enough.
            builder = builder.disable_introspection().disable_suggestions();
        }
        let schema = builder.finish();
        let types = type_names(&schema.sdl())?;
        Ok(Self {
            schema,
            services: Arc::clone(services),
            types,
            persisted: Persisted::new(settings.persisted_max),
            settings: settings.clone(),
            operation_timeout,
        })
    }

    /// The schema in its own language.
    pub(super) fn sdl(&self) -> String {
        self.schema.sdl()
    }

    /// Answers a request that has one answer.
    pub(super) async fn answer(&self, asked: Asked, who: Asker, way: Way) -> Answer {
        let request_id = who.origin.request_id.clone();
        let prepared = match self.prepare(asked, who, way) {
            Ok(prepared) => prepared,
            Err(Refused::WrongMethod) => return Answer::WrongMethod,
            Err(Refused::Error(error)) => return Answer::Outcome(self.refuse(error, &request_id)),
        };
        let mut open = open_span(prepared.operation, prepared.request.operation_name.as_deref());
        let work = self.schema.execute(prepared.request);
        let response = trace::around(open.as_ref().map(Open::below), work).await;
        let outcome = Outcome::of(response, prepared.executed.get(), &request_id);
        note_failure(open.as_mut(), &outcome);
        Answer::Outcome(self.note(outcome))
    }

    /// Answers a request that may have many. Dropping the stream ends what was going on.
    pub(super) fn answers(self: &Arc<Self>, asked: Asked, who: Asker) -> BoxStream<'static, Outcome> {
        let request_id = who.origin.request_id.clone();
        match self.prepare(asked, who, Way::Socket) {
            Ok(Prepared { request, executed, operation }) => {
                let engine = Arc::clone(self);
                let mut open = open_span(operation, request.operation_name.as_deref());
                let below = open.as_ref().map(Open::below);
                // The span moves in here, and ends with the stream.
                let outcome_of = move |response| {
                    let outcome = Outcome::of(response, executed.get(), &request_id);
                    note_failure(open.as_mut(), &outcome);
                    engine.note(outcome)
                };
                trace::along(below, self.schema.execute_stream(request)).map(outcome_of).boxed()
            }
            Err(Refused::Error(error)) => stream::iter([self.refuse(error, &request_id)]).boxed(),
            // Only GET has a wrong method.
            Err(Refused::WrongMethod) => stream::empty().boxed(),
        }
    }

    /// A request that is malformed, as an outcome.
    pub(super) fn refuse(&self, error: ServerError, request_id: &str) -> Outcome {
        self.note(Outcome::refused(error, request_id))
    }

    /// Counts a refusal.
    fn note(&self, outcome: Outcome) -> Outcome {
        if outcome.is_refusal() {
            for code in outcome.errors().iter().filter_map(errors::code_of) {
                self.services.metrics.graphql_refusal(code);
            }
        }
        outcome
    }

    fn prepare(&self, asked: Asked, who: Asker, way: Way) -> Result<Prepared, Refused> {
        let found = self.persisted.find(&asked)?;
        let limits = self.limits();
        let name = asked.operation_name.as_deref();
        let Admitted { document, operation } = document::admit(found.text(), name, limits, &self.types)?;
        check_way(operation, way)?;
        let executed = Executed::default();
        let mut request = Request::new(found.text())
            .variables(asked.variables)
            .data(who)
            .data(UserLoader::for_request(&self.services))
            .data(executed.clone());
        request.operation_name = asked.operation_name;
        request.set_parsed_query(document);
        self.persisted.keep(found);
        Ok(Prepared { request, executed, operation })
    }

    fn limits(&self) -> Limits {
        Limits {
            bytes_max: self.settings.document_bytes_max,
            depth_max: self.settings.depth_max,
            aliases_max: self.settings.aliases_max,
            directives_max: self.settings.directives_max,
        }
    }
}

/// Begins the span of an operation, where the request is told of.
fn open_span(operation: OperationType, name: Option<&str>) -> Option<Open> {
    let word = match operation {
        OperationType::Query => "query",
        OperationType::Mutation => "mutation",
        OperationType::Subscription => "subscription",
    };
    let mut open = trace::current()?.open(SpanKind::Internal, word)?;
    if let Some(span) = open.span() {
        span.set("graphql.operation.type", word);
        // A client's own word, which may be as long as its document.
        let name = name.and_then(|name| name.get(..name.floor_char_boundary(OPERATION_NAME_BYTES_MAX)));
        span.set_some("graphql.operation.name", name.map(str::to_owned));
    }
    Some(open)
}

/// Says in its span that an operation has failed. The first error stands for all.
fn note_failure(open: Option<&mut Open>, outcome: &Outcome) {
    if let (Some(span), Some(error)) = (open.and_then(Open::span), outcome.errors().first()) {
        span.fail(errors::code_of(error).unwrap_or("error").to_owned());
    }
}

/// Why a request is not executed.
enum Refused {
    WrongMethod,
    Error(ServerError),
}

impl From<ServerError> for Refused {
    fn from(error: ServerError) -> Self {
        Self::Error(error)
    }
}

fn check_way(operation: OperationType, way: Way) -> Result<(), Refused> {
    match (operation, way) {
        (OperationType::Mutation, Way::Get) => Err(Refused::WrongMethod),
        (OperationType::Subscription, Way::Get | Way::Post) => {
            let message = "subscriptions are answered over WebSocket, with the sub-protocol graphql-transport-ws";
            Err(Refused::Error(refused(Code::GraphqlInvalid, message, None)))
        }
        _ => Ok(()),
    }
}

/// The names of all types, from the schema's own words.
fn type_names(sdl: &str) -> Result<HashSet<String>, SchemaError> {
    let definitions = parse_schema(sdl)?.definitions;
    let named = definitions.iter().filter_map(|definition| match definition {
        TypeSystemDefinition::Type(definition) => Some(definition.node.name.node.to_string()),
        TypeSystemDefinition::Schema(_) | TypeSystemDefinition::Directive(_) => None,
    });
    Ok(BUILT_IN_TYPES.into_iter().map(str::to_owned).chain(named).collect())
}
