//! Router: which model answers a question, and why.
//!
//! For: one decision with one sentence of reason. May touch: the models' ids and sizes.
//! Promises: a model that is asked for by name is taken or refused, never replaced; else the first of the right size
//! answers; where only one size exists, it does, and the reason says so. What becomes of a model that gives no answer is
//! the affair of `failover.rs`. Read next: `complexity.rs`.

use std::sync::Arc;

use super::complexity::{Complexity, score};
use super::models::ModelHandle;
use super::{QueryError, Question};
use crate::config::{ModelSize, Routing};

/// How the model was chosen, and which one answered in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The id of the model that answers.
    pub model: String,
    /// From 0 to 100.
    pub complexity: u8,
    /// One sentence, for people. Where another model than the chosen one answers, it says why.
    pub reason: String,
}

/// The model that answers this question.
pub(super) fn choose<'m>(
    models: &'m [Arc<ModelHandle>],
    routing: Routing,
    question: &Question,
) -> Result<(&'m Arc<ModelHandle>, Routed), QueryError> {
    let complexity = score(&question.text);
    let (model, reason) = match &question.model {
        Some(id) => (named(models, id)?, "the client asked for this model".to_owned()),
        None => by_complexity(models, routing, &complexity)?,
    };
    Ok((model, Routed { model: model.id().to_owned(), complexity: complexity.score, reason }))
}

fn named<'m>(models: &'m [Arc<ModelHandle>], id: &str) -> Result<&'m Arc<ModelHandle>, QueryError> {
    models.iter().find(|model| model.id() == id).ok_or_else(|| {
        let known: Vec<&str> = models.iter().map(|model| model.id()).collect();
        QueryError::Input { field: "model", why: format!("must be one of: {}", known.join(", ")) }
    })
}

fn by_complexity<'m>(
    models: &'m [Arc<ModelHandle>],
    routing: Routing,
    complexity: &Complexity,
) -> Result<(&'m Arc<ModelHandle>, String), QueryError> {
    let size = if complexity.score >= routing.large_from { ModelSize::Large } else { ModelSize::Small };
    let told = told(complexity, routing);
    if let Some(model) = models.iter().find(|model| model.size() == size) {
        return Ok((model, format!("{told}: the {} model answers", size.word())));
    }
    // Only the other size exists.
    let model =
        models.first().ok_or(QueryError::Input { field: "model", why: "cannot be chosen: there is none".into() })?;
    Ok((model, format!("{told}, but there is no {} model: the {} model answers", size.word(), model.size().word())))
}

fn told(complexity: &Complexity, routing: Routing) -> String {
    let signals = if complexity.signals.is_empty() { "no signals".to_owned() } else { complexity.signals.join(", ") };
    format!("complexity {} of 100 ({signals}); large from {}", complexity.score, routing.large_from)
}
