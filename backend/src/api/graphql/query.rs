//! Query: what can be looked at.
//!
//! For: the fields of `Query`. Doc comments here are the schema's descriptions. May touch: the services, as the handlers
//! of REST do. Promises: a field that can fail may be null, so that the others still answer; lists are bounded and go
//! on with a cursor.
//! Read next: `mutation.rs`.

use std::sync::Arc;

use async_graphql::connection::{Connection, Edge};
use async_graphql::{Context, ID, Object, OutputType};

use super::answers::{self, CacheStats};
use super::engine::Asker;
use super::guard::{ADMIN, READ, of};
use super::jobs::Job;
use super::types::{Account, ApiKey, AuditEvent, Me, MetricsHistory, Model, SystemMetrics, Timestamp};
use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::page::{LIMIT_DEFAULT, LIMIT_MAX, cursor, limit, mark, parse_mark, write_mark};
use crate::auth::EventsWanted;
use crate::worker::HistoryAsked;

/// What a history costs: as much as a list of the usual length.
const HISTORY_COST: usize = 50;

/// The root of what can be looked at.
pub(super) struct Query;

/// A list in pieces, in an order that lasts.
pub(super) type Pages<T> = Connection<String, T>;

/// What can be looked at.
#[Object]
impl Query {
    /// Who asks, and what they may do.
    async fn me(&self, ctx: &Context<'_>) -> Result<Option<Me>, ApiError> {
        let (services, who): (&Arc<Services>, &Asker) = (of(ctx)?, of(ctx)?);
        let user = services.users.get(&who.caller.subject).await?;
        Ok(Some(Me::new(user, &who.caller)))
    }

    /// The models that answer queries.
    #[graphql(guard = "READ")]
    async fn models(&self, ctx: &Context<'_>) -> Result<Option<Vec<Model>>, ApiError> {
        let services: &Arc<Services> = of(ctx)?;
        Ok(Some(services.queries.models().into_iter().map(Model::from).collect()))
    }

    /// The model of this id; null, if there is none.
    #[graphql(guard = "READ")]
    async fn model(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Model>, ApiError> {
        let services: &Arc<Services> = of(ctx)?;
        Ok(services.queries.models().into_iter().find(|model| model.id == id.0).map(Model::from))
    }

    /// What the process shows of itself.
    #[graphql(guard = "ADMIN")]
    async fn system_metrics(&self, ctx: &Context<'_>) -> Result<Option<SystemMetrics>, ApiError> {
        let services: &Arc<Services> = of(ctx)?;
        Ok(Some(services.metrics.totals().into()))
    }

    /// What all processes have counted, step by step.
    #[graphql(guard = "ADMIN", complexity = "HISTORY_COST + child_complexity")]
    async fn metrics_history(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which number, in a word of REST's list.")] metric: String,
        #[graphql(desc = "From then on; an hour before the end, if left out.")] from: Option<Timestamp>,
        #[graphql(desc = "Until then; now, if left out.")] to: Option<Timestamp>,
        #[graphql(desc = "Seconds of a step, of which there are 1000 at most; a sixtieth, if left out.")]
        step: Option<i32>,
    ) -> Result<Option<MetricsHistory>, ApiError> {
        let services: &Arc<Services> = of(ctx)?;
        let asked = HistoryAsked {
            metric: &metric,
            from: from.map(|from| from.0),
            to: to.map(|to| to.0),
            step: step.map(i64::from),
        };
        Ok(Some(services.history.tell(asked).await?.into()))
    }

    /// What the cache of answers holds, and how often it helped.
    #[graphql(guard = "READ")]
    async fn cache_stats(&self, ctx: &Context<'_>) -> Result<Option<CacheStats>, ApiError> {
        let services: &Arc<Services> = of(ctx)?;
        Ok(Some(answers::cache_stats(services).await))
    }

    /// Accounts.
    #[graphql(guard = "ADMIN", complexity = "page_cost(first, child_complexity)")]
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 100 at most; 50, if left out.")] first: Option<u32>,
        #[graphql(desc = "The cursor after which to go on.")] after: Option<String>,
    ) -> Result<Option<Pages<Account>>, ApiError> {
        let services: &Arc<Services> = of(ctx)?;
        let limit = limit("first", first)?;
        let mark = after.as_deref().map(|after| mark("after", after)).transpose()?;
        let users = services.users.list(mark.as_deref(), limit + 1).await?;
        let marked = users.into_iter().map(|user| (user.id.clone(), Account::from(user))).collect();
        Ok(Some(pages(marked, limit, after.is_some())))
    }

    /// API keys: the caller's own, or those of another user for who administers.
    #[graphql(guard = "READ", complexity = "page_cost(first, child_complexity)")]
    async fn api_keys(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 100 at most; 50, if left out.")] first: Option<u32>,
        #[graphql(desc = "The cursor after which to go on.")] after: Option<String>,
        #[graphql(desc = "Whose, by the user's id; the caller's own, if left out.")] owner_id: Option<ID>,
    ) -> Result<Option<Pages<ApiKey>>, ApiError> {
        let (services, who): (&Arc<Services>, &Asker) = (of(ctx)?, of(ctx)?);
        let limit = limit("first", first)?;
        let mark = after.as_deref().map(|after| mark("after", after)).transpose()?;
        let place = mark.as_deref().map(|mark| parse_mark("after", mark)).transpose()?;
        let owner = owner_id.as_ref().map_or(who.caller.subject.as_str(), |id| id.as_str());
        let keys = services.api_keys.list(&who.caller, Some(owner), place, limit + 1).await?;
        let marked = keys
            .into_iter()
            .map(|key| (write_mark(key.created_at, &key.id), ApiKey::new(key, owner.to_owned())))
            .collect();
        Ok(Some(pages(marked, limit, after.is_some())))
    }

    /// Security events, the newest first.
    #[graphql(guard = "ADMIN", complexity = "page_cost(first, child_complexity)")]
    async fn audit_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 100 at most; 50, if left out.")] first: Option<u32>,
        #[graphql(desc = "The cursor after which to go on.")] after: Option<String>,
        #[graphql(desc = "Only events of this kind, in a word of REST's list.")] kind: Option<String>,
        #[graphql(desc = "Only events about this user's id, or name that was tried.")] subject: Option<String>,
    ) -> Result<Option<Pages<AuditEvent>>, ApiError> {
        let services: &Arc<Services> = of(ctx)?;
        let limit = limit("first", first)?;
        let mark = after.as_deref().map(|after| mark("after", after)).transpose()?;
        let before = mark.as_deref().map(|mark| parse_mark("after", mark)).transpose()?;
        let wanted = EventsWanted { before, kind: kind.as_deref(), subject: subject.as_deref(), limit: limit + 1 };
        let events = services.audit.list(&wanted).await?;
        let marked =
            events.into_iter().map(|event| (write_mark(event.at, &event.id), AuditEvent::from(event))).collect();
        Ok(Some(pages(marked, limit, after.is_some())))
    }

    /// Batches, the latest first: the caller's own, or everybody's for who administers.
    #[graphql(guard = "READ", complexity = "page_cost(first, child_complexity)")]
    async fn jobs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 100 at most; 50, if left out.")] first: Option<u32>,
        #[graphql(desc = "The cursor after which to go on.")] after: Option<String>,
    ) -> Result<Option<Pages<Job>>, ApiError> {
        let (services, who): (&Arc<Services>, &Asker) = (of(ctx)?, of(ctx)?);
        let limit = limit("first", first)?;
        let mark = after.as_deref().map(|after| mark("after", after)).transpose()?;
        let jobs = services.jobs.list(&who.caller, mark.as_deref(), limit + 1).await?;
        let marked = jobs.into_iter().map(|job| (job.id.clone(), Job::from(job))).collect();
        Ok(Some(pages(marked, limit, after.is_some())))
    }

    /// The batch of this id.
    #[graphql(guard = "READ")]
    async fn job(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Job>, ApiError> {
        let (services, who): (&Arc<Services>, &Asker) = (of(ctx)?, of(ctx)?);
        Ok(Some(services.jobs.get(&who.caller, &id).await?.into()))
    }
}

/// Makes a piece of a list of one item more than the limit, if there is one: that is how the end is known.
pub(super) fn pages<T: OutputType>(mut marked: Vec<(String, T)>, limit: u32, goes_on: bool) -> Pages<T> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut pages = Connection::new(goes_on, marked.len() > limit);
    marked.truncate(limit);
    pages.edges = marked.into_iter().map(|(mark, item)| Edge::new(cursor(&mark), item)).collect();
    pages
}

/// What a list costs: as much as its longest piece.
pub(super) fn page_cost(first: Option<u32>, item: usize) -> usize {
    let items = first.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    usize::try_from(items).unwrap_or(usize::MAX).saturating_mul(item).saturating_add(1)
}
