//! Mutation: what can be changed, or costs something.
//!
//! For: the fields of `Mutation`. Doc comments here are the schema's descriptions. May touch: the services, as the
//! handlers of REST do. Promises: fields run one after the other, as GraphQL has it (§6.2.2); none runs by GET.
//! Read next: `subscription.rs`.

use std::sync::Arc;

use async_graphql::{Context, ID, Object};

use super::answers::{self, ASK_COST, ClearedCache, ProcessQueryInput, ProcessingResult};
use super::engine::Asker;
use super::guard::{ADMIN, EXECUTE, WRITE, of};
use super::jobs::{self, Job, ProcessBatchInput};
use super::types::{CreateApiKeyInput, CreatedApiKey};
use crate::api::Services;
use crate::api::error::ApiError;
use crate::auth::ApiKeyInput;

/// The root of what can be changed.
pub(super) struct Mutation;

/// What can be changed, or costs something.
#[Object]
impl Mutation {
    /// Answers a query with a model.
    #[graphql(guard = "EXECUTE", complexity = "ASK_COST + child_complexity")]
    async fn process_query(
        &self,
        ctx: &Context<'_>,
        input: ProcessQueryInput,
    ) -> Result<Option<ProcessingResult>, ApiError> {
        let (services, who): (&Arc<Services>, &Asker) = (of(ctx)?, of(ctx)?);
        answers::ask(services, &who.caller, input).await.map(Some)
    }

    /// Has a batch of queries answered by workers. Says at once which job it is.
    #[graphql(guard = "EXECUTE", complexity = "ASK_COST + child_complexity")]
    async fn process_batch(&self, ctx: &Context<'_>, input: ProcessBatchInput) -> Result<Option<Job>, ApiError> {
        let (services, who): (&Arc<Services>, &Asker) = (of(ctx)?, of(ctx)?);
        jobs::create(services, &who.caller, input).await.map(Some)
    }

    /// Forgets all answers that are kept, of everybody.
    #[graphql(guard = "ADMIN")]
    async fn clear_cache(&self, ctx: &Context<'_>) -> Result<Option<ClearedCache>, ApiError> {
        let services: &Arc<Services> = of(ctx)?;
        Ok(Some(answers::clear_cache(services).await))
    }

    /// Makes an API key for the caller.
    #[graphql(guard = "WRITE")]
    async fn create_api_key(
        &self,
        ctx: &Context<'_>,
        input: CreateApiKeyInput,
    ) -> Result<Option<CreatedApiKey>, ApiError> {
        let (services, who): (&Arc<Services>, &Asker) = (of(ctx)?, of(ctx)?);
        let input = ApiKeyInput {
            name: input.name,
            permissions: input.permissions.map(|words| words.into_iter().map(Into::into).collect()),
            expires_in_days: input.expires_in_days,
        };
        let created = services.api_keys.create(&who.caller, input, None, &who.origin.client()).await?;
        Ok(Some(CreatedApiKey::new(created, who.caller.subject.clone())))
    }

    /// Revokes an API key: one of the caller's own, or any for who administers. Says which.
    #[graphql(guard = "WRITE")]
    async fn revoke_api_key(&self, ctx: &Context<'_>, id: ID) -> Result<Option<ID>, ApiError> {
        let (services, who): (&Arc<Services>, &Asker) = (of(ctx)?, of(ctx)?);
        services.api_keys.revoke(&who.caller, &id, &who.origin.client()).await?;
        Ok(Some(id))
    }
}
