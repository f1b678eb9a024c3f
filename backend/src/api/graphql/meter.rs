//! Meter: the library's own steps, watched.
//!
//! For: the bound on what a document costs, whether anything was executed, and the metrics of root fields. May touch:
//! metrics. Promises: labels are names of the schema, because a field is resolved only when the schema has it; a document
//! over `graphql.complexity_max` is refused before a field is asked.
//! Read next: `engine.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_graphql::extensions::{
    Extension, ExtensionContext, ExtensionFactory, NextExecute, NextResolve, NextValidation, ResolveInfo,
};
use async_graphql::{Response, ServerError, ServerResult, ValidationResult, Value};

use super::errors::too_costly;
use crate::base::metrics::{Metrics, Operation};

/// Becomes true as soon as the library has found a request good and asks its fields. Among the request's data.
#[derive(Clone, Debug, Default)]
pub(super) struct Executed(Arc<AtomicBool>);

impl Executed {
    /// Whether it has come so far.
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Watches every request.
#[derive(Clone)]
pub(super) struct Meter {
    pub(super) complexity_max: usize,
    pub(super) metrics: Metrics,
}

impl ExtensionFactory for Meter {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Extension for Meter {
    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let found = next.run(ctx).await?;
        if found.complexity > self.complexity_max {
            let message = format!("the document costs {}; {} are allowed", found.complexity, self.complexity_max);
            return Err(vec![too_costly(message, None)]);
        }
        Ok(found)
    }

    async fn execute(
        &self,
        ctx: &ExtensionContext<'_>,
        operation_name: Option<&str>,
        next: NextExecute<'_>,
    ) -> Response {
        if let Some(executed) = ctx.data_opt::<Executed>() {
            executed.0.store(true, Ordering::Relaxed);
        }
        next.run(ctx, operation_name).await
    }

    async fn resolve(
        &self,
        ctx: &ExtensionContext<'_>,
        info: ResolveInfo<'_>,
        next: NextResolve<'_>,
    ) -> ServerResult<Option<Value>> {
        let root = if info.path_node.parent.is_none() { operation(info.parent_type) } else { None };
        let Some(operation) = root else { return next.run(ctx, info).await };
        let (field, started) = (info.name.to_owned(), Instant::now());
        let outcome = next.run(ctx, info).await;
        self.metrics.graphql_field(operation, &field, outcome.is_ok(), started.elapsed());
        outcome
    }
}

/// The operation of a root. A subscription's parts pass here one by one, so `subscription.rs` counts it itself.
fn operation(root: &str) -> Option<Operation> {
    match root {
        "Query" => Some(Operation::Query),
        "Mutation" => Some(Operation::Mutation),
        _ => None,
    }
}
