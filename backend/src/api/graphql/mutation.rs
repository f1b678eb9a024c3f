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

    /// Answers nothing more of a batch: what waits ends at once, what is under way is finished.
    #[graphql(guard = "EXECUTE")]
    async fn cancel_job(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Job>, ApiError> {
        let (services, who): (&Arc<Services>, &Asker) = (of(ctx)?, of(ctx)?);
        Ok(Some(services.jobs.cancel(&who.caller, &id).await?.into()))
    }

    /// Tries again what was given up of a batch, with all its attempts before it.
    #[graphql(guard = "ADMIN")]
    async fn requeue_job(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Job>, ApiError> {
        let (services, who): (&Arc<Services>, &Asker) = (of(ctx)?, of(ctx)?);
        Ok(Some(services.jobs.requeue(&who.caller, &id).await?.into()))
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

    /// Gives one of the caller's API keys a new secret. The one before holds on for a while, so that nothing fails until
    /// everybody has the new one.
    #[graphql(guard = "WRITE")]
    async fn rotate_api_key(
        &self,
        ctx: &Context<'_>,
        id: ID,
        #[graphql(
            desc = "How long the secret before holds on, in hours, 168 at most; 24, if left out; with 0 it ends now."
        )]
        old_secret_hours: Option<u32>,
    ) -> Result<Option<CreatedApiKey>, ApiError> {
        let (services, who): (&Arc<Services>, &Asker) = (of(ctx)?, of(ctx)?);
        let rotated = services.api_keys.rotate(&who.caller, &id, old_secret_hours, &who.origin.client()).await?;
        Ok(Some(CreatedApiKey::new(rotated, who.caller.subject.clone())))
    }

    /// Revokes an API key: one of the caller's own, or any for who administers. Says which.
    #[graphql(guard = "WRITE")]
    async fn revoke_api_key(&self, ctx: &Context<'_>, id: ID) -> Result<Option<ID>, ApiError> {
        let (services, who): (&Arc<Services>, &Asker) = (of(ctx)?, of(ctx)?);
        services.api_keys.revoke(&who.caller, &id, &who.origin.client()).await?;
        Ok(Some(id))
    }
}
