//! Types: what GraphQL shows of the services' own things.
//!
//! For: every object, input and scalar of the schema. Doc comments here are the schema's descriptions.
//! May touch: the types of `auth` and `query`. Promises: nothing secret is among them but a new key, once; words are the
//! same as in REST; what has no source is not here.
//! Read next: `query.rs`.

use async_graphql::dataloader::DataLoader;
use async_graphql::{
    ComplexObject, Context, Enum, ID, InputObject, InputValueError, InputValueResult, Scalar, ScalarType,
    SimpleObject, Value,
};

use super::guard::of;
use super::loaders::UserLoader;
use crate::auth::{Caller, CreatedKey, ListedEvent, ListedKey, User};
use crate::base::metrics::Totals;
use crate::query::ModelInfo;
use crate::worker::Told;

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timestamp(pub(super) i64);

/// Seconds of the Unix epoch, as a whole number. It may be larger than Int can be.
#[Scalar]
impl ScalarType for Timestamp {
    fn parse(value: Value) -> InputValueResult<Self> {
        let seconds = match &value {
            Value::Number(number) => number.as_i64(),
            _ => None,
        };
        seconds.map(Self).ok_or_else(|| InputValueError::expected_type(value))
    }

    fn to_value(&self) -> Value {
        Value::from(self.0)
    }
}

/// Something that a caller may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "common::access::Permission")]
pub(super) enum Permission {
    /// Look at resources.
    Read,
    /// Create and change resources.
    Write,
    /// Ask models.
    Execute,
    /// Administer.
    Admin,
    /// Use the REST API at all.
    ApiAccess,
    /// Use the GraphQL API at all.
    GraphqlAccess,
}

/// What a user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "common::access::Role")]
pub(super) enum Role {
    /// Everything.
    Admin,
    /// Everything but administration.
    Developer,
    /// Ask, read and write, over both APIs.
    User,
    /// Look only, over REST.
    Readonly,
}

/// Who asks, and what they may do with the credential they showed.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct Me {
    id: ID,
    username: String,
    roles: Vec<String>,
    permissions: Vec<Permission>,
    /// How the caller showed who it is: jwt or `api_key`.
    method: String,
    /// The public id of the API key, if it was one.
    key_id: Option<ID>,
}

/// A model that answers queries.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct Model {
    id: ID,
    /// What it is meant for: small or large.
    size: String,
    /// Where it runs: embedded or openai.
    provider: String,
    /// The most tokens of an answer.
    max_tokens: u32,
    /// What its last answer showed.
    status: String,
    /// When it last answered.
    answered_at: Option<Timestamp>,
}

/// An account.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(name = "User")]
pub(super) struct Account {
    id: ID,
    username: String,
    role: Role,
    created_at: Timestamp,
}

/// An API key, as its owner sees it after it was made.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub(super) struct ApiKey {
    /// The public id.
    id: ID,
    name: String,
    permissions: Vec<Permission>,
    created_at: Timestamp,
    /// Never, if null.
    expires_at: Option<Timestamp>,
    /// Not revoked, if null.
    revoked_at: Option<Timestamp>,
    /// Not yet, if null; to within a minute.
    last_used_at: Option<Timestamp>,
    /// Until when the secret before this one holds on; there is none, if null.
    old_secret_until: Option<Timestamp>,
    #[graphql(skip)]
    owner_id: String,
}

#[ComplexObject]
impl ApiKey {
    /// Whose it is.
    async fn owner(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<Account>> {
        let users: &DataLoader<UserLoader> = of(ctx)?;
        match users.load_one(self.owner_id.clone()).await {
            Ok(user) => Ok(user.map(Account::from)),
            Err(refusal) => Err(refusal.into()),
        }
    }
}

/// A key that was just made, or has just got a new secret.
#[derive(SimpleObject)]
pub(super) struct CreatedApiKey {
    /// The whole key, this once.
    key: String,
    api_key: ApiKey,
}

/// What a new key should be.
#[derive(Clone, Debug, InputObject)]
pub(super) struct CreateApiKeyInput {
    /// What its owner calls it.
    pub(super) name: String,
    /// What it may do; all that its owner may, if left out.
    pub(super) permissions: Option<Vec<Permission>>,
    /// When it ends; never, if left out.
    pub(super) expires_in_days: Option<u32>,
}

/// Something that happened to an account or a key.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct AuditEvent {
    id: ID,
    at: Timestamp,
    /// What happened, in a word.
    kind: String,
    /// A user's id, or the name that was tried.
    subject: Option<String>,
    /// The client's address; null for what was done on the command line.
    client: Option<String>,
    /// The request it happened in.
    request_id: Option<String>,
    /// What it was about, such as a key's public id.
    detail: Option<String>,
}

/// What the process that answers shows of itself. Each process counts for itself, from its start.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct SystemMetrics {
    version: String,
    started_at: Timestamp,
    /// Requests answered, on all listeners.
    requests: f64,
    /// Of those, the ones that failed for a reason of ours.
    errors: f64,
    /// Queries to models, from the cache or not, failed or not.
    queries: f64,
    /// Of those, the ones that the cache answered.
    cache_hits: f64,
    /// Tokens that models have read and written.
    tokens: f64,
    logins: f64,
    /// Attempts on queries of batches.
    job_attempts: f64,
    /// Queries of batches that wait, of all processes.
    jobs_queued: f64,
    /// Client connections that are open.
    open_connections: f64,
    /// Processor time used.
    cpu_seconds: f64,
    /// Memory in use.
    resident_bytes: f64,
}

/// What all processes have counted, step by step.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct MetricsHistory {
    metric: String,
    from: Timestamp,
    to: Timestamp,
    /// In seconds.
    step: i64,
    /// In the order of time and label; steps in which nothing was counted are left out.
    points: Vec<MetricPoint>,
}

/// One step of one label.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct MetricPoint {
    /// When the step begins.
    at: Timestamp,
    /// A group of routes, or nothing.
    label: String,
    /// The sum over all processes; of times and of what waits, the largest.
    value: f64,
}

impl From<Told> for MetricsHistory {
    fn from(told: Told) -> Self {
        let points = told.points.into_iter().map(|point| MetricPoint {
            at: Timestamp(point.at),
            label: point.label,
            value: point.value,
        });
        Self {
            metric: told.metric.to_owned(),
            from: Timestamp(told.from),
            to: Timestamp(told.to),
            step: told.step,
            points: points.collect(),
        }
    }
}

impl Me {
    /// The user behind a caller.
    pub(super) fn new(user: User, caller: &Caller) -> Self {
        Self {
            id: ID(user.id),
            username: user.name,
            roles: caller.roles.clone(),
            permissions: caller.permissions.iter().copied().map(Permission::from).collect(),
            method: caller.method.as_str().to_owned(),
            key_id: caller.key_id.clone().map(ID),
        }
    }
}

impl From<ModelInfo> for Model {
    fn from(model: ModelInfo) -> Self {
        Self {
            id: ID(model.id),
            size: model.size.word().to_owned(),
            provider: model.provider.to_owned(),
            max_tokens: model.tokens_max,
            status: model.status.as_str().to_owned(),
            answered_at: model.answered_at.and_then(|at| i64::try_from(at).ok()).map(Timestamp),
        }
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { id: ID(user.id), username: user.name, role: user.role.into(), created_at: Timestamp(user.created_at) }
    }
}

impl From<ListedEvent> for AuditEvent {
    fn from(event: ListedEvent) -> Self {
        Self {
            id: ID(event.id),
            at: Timestamp(event.at),
            kind: event.kind,
            subject: event.subject,
            client: event.client,
            request_id: event.request_id,
            detail: event.detail,
        }
    }
}

impl ApiKey {
    /// A key of this owner.
    pub(super) fn new(key: ListedKey, owner_id: String) -> Self {
        Self {
            id: ID(key.id),
            name: key.name,
            permissions: key.permissions.into_iter().map(Permission::from).collect(),
            created_at: Timestamp(key.created_at),
            expires_at: key.expires_at.map(Timestamp),
            revoked_at: key.revoked_at.map(Timestamp),
            last_used_at: key.last_used_at.map(Timestamp),
            old_secret_until: key.old_secret_until.map(Timestamp),
            owner_id,
        }
    }
}

impl CreatedApiKey {
    /// A key that was made for this owner.
    pub(super) fn new(created: CreatedKey, owner_id: String) -> Self {
        Self { key: created.key.reveal(), api_key: ApiKey::new(created.listed, owner_id) }
    }
}

impl From<Totals> for SystemMetrics {
    fn from(totals: Totals) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Timestamp(whole(totals.started_at)),
            requests: totals.requests,
            errors: totals.errors,
            queries: totals.queries,
            cache_hits: totals.cache_hits,
            tokens: totals.tokens,
            job_attempts: totals.job_attempts,
            jobs_queued: totals.jobs_queued,
            logins: totals.logins,
            open_connections: totals.connections,
            cpu_seconds: totals.cpu_seconds,
            resident_bytes: totals.resident_bytes,
        }
    }
}

/// Whole seconds of a time that the metrics keep as a floating number.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and the fraction is meant to go")]
fn whole(seconds: f64) -> i64 {
    seconds as i64
}
