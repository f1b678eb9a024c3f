//! Subscription: what goes on for a while.
//!
//! For: the fields of `Subscription`, over WebSocket. Doc comments here are the schema's descriptions. May touch: the
//! services, metrics. Promises: who leaves ends what was going on for them.
//! Read next: `answers.rs`, then `socket.rs` for the transport.

use std::sync::Arc;
use std::time::Instant;

use async_graphql::{Context, Error, Subscription as Root};
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::answers::{self, ASK_COST, AnswerPart, ProcessQueryInput};
use super::engine::Asker;
use super::guard::{EXECUTE, of};
use crate::api::Services;
use crate::api::error::ApiError;
use crate::base::metrics::{Metrics, Operation};

/// The name of the one field there is, for the metrics.
const ANSWER: &str = "answer";

/// The root of what goes on for a while.
pub(super) struct Subscription;

/// What goes on for a while.
#[Root]
impl Subscription {
    /// Answers a query with a model, bit by bit as the model writes.
    #[graphql(guard = "EXECUTE", complexity = "ASK_COST + child_complexity")]
    async fn answer(
        &self,
        ctx: &Context<'_>,
        input: ProcessQueryInput,
    ) -> Result<BoxStream<'static, Result<AnswerPart, Error>>, ApiError> {
        let (services, who): (&Arc<Services>, &Asker) = (of(ctx)?, of(ctx)?);
        let mut count = Count { metrics: services.metrics.clone(), started: Instant::now(), ok: false };
        let parts = answers::stream(services, &who.caller, input).await?;
        count.ok = true;
        Ok(parts
            .map(move |part| {
                // The whole of it moves in here, and is dropped with the stream.
                let count = &mut count;
                count.ok &= part.is_ok();
                part.map_err(Error::from)
            })
            .boxed())
    }
}

/// Counts a subscription when it is over, however it ends.
struct Count {
    metrics: Metrics,
    started: Instant,
    ok: bool,
}

impl Drop for Count {
    fn drop(&mut self) {
        self.metrics.graphql_field(Operation::Subscription, ANSWER, self.ok, self.started.elapsed());
    }
}
