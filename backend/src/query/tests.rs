//! Tests of the whole work with the embedded model, and of the router with several.

use common::clock::{Clock, SystemClock};
use url::Url;

use super::*;
use crate::config::{Cache, Model, ModelSize, Routing};

fn question(text: &str) -> Question {
    Question { text: text.into(), model: None, tokens_max: None, temperature: None }
}

fn model(id: &str, size: ModelSize) -> Model {
    Model {
        id: id.into(),
        size,
        completions_url: Url::parse("http://127.0.0.1:1/v1/chat/completions").expect("an address"),
        key: None,
        upstream_name: id.into(),
        timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(1),
        answer_bytes_max: 1024,
        tokens_max: 100,
    }
}

fn queries(models: &[Model]) -> Queries {
    // The clients of model servers need a TLS provider, also for plain HTTP. Who was first does not matter.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cache = Cache { answers_max: 10, bytes_max: 1 << 20, ttl: Duration::from_mins(1) };
    Queries::new(models, Routing { large_from: 50 }, cache, Metrics::new().expect("the metrics register"), &clock)
        .expect("the models are built")
}

#[tokio::test]
async fn the_second_time_the_answer_is_kept_and_only_for_the_one_who_asked() {
    let queries = queries(&[]);
    let first = queries.ask("ann", &question("Where do capybaras live?")).await.expect("answered");
    let second = queries.ask("ann", &question("Where do capybaras live?")).await.expect("answered");
    let other = queries.ask("bob", &question("Where do capybaras live?")).await.expect("answered");
    assert_eq!((first.cached, second.cached, other.cached), (false, true, false));
    assert_eq!(first.text, second.text);
    assert_ne!(first.id, second.id);
    assert!(first.text.starts_with(EMBEDDED_MODEL_ID));
    assert_eq!(queries.models()[0].status, ModelStatus::Answering);
}

#[tokio::test]
async fn wrong_questions_name_their_field() {
    let queries = queries(&[]);
    let cases = [
        (question("  "), "query"),
        (question(&"ä".repeat(QUESTION_CHARS_MAX + 1)), "query"),
        (Question { model: Some("gpt".into()), ..question("a") }, "model"),
        (Question { tokens_max: Some(0), ..question("a") }, "max_tokens"),
        (Question { tokens_max: Some(100_000), ..question("a") }, "max_tokens"),
        (Question { temperature: Some(2.5), ..question("a") }, "temperature"),
        (Question { temperature: Some(f64::NAN), ..question("a") }, "temperature"),
    ];
    for (question, expected) in cases {
        let error = queries.ask("ann", &question).await.expect_err("it cannot be asked");
        assert!(matches!(error, QueryError::Input { field, .. } if field == expected), "{expected}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_as_a_connection_and_shows_as_failing() {
    let queries = queries(&[model("small", ModelSize::Small)]);
    let error = queries.ask("ann", &question("Hello?")).await.expect_err("nobody listens there");
    let QueryError::Model { model, cause } = error else { panic!("the model failed: {error}") };
    assert_eq!(model, "small");
    assert!(matches!(*cause, ProviderError::Connect(_)), "{cause:?}");
    assert_eq!(queries.models()[0].status, ModelStatus::Failing);
}

#[test]
fn hard_questions_go_to_the_large_model_and_the_reason_says_why() {
    let both = queries(&[model("small", ModelSize::Small), model("large", ModelSize::Large)]);
    let hard = "Compare, contrast and explain these, step by step.";
    let cases = [
        (
            question("Where is Uruguay?"),
            "small",
            "complexity 0 of 100 (no signals); large from 50: the small model answers",
        ),
        (
            question(hard),
            "large",
            "complexity 60 of 100 (reasoning (compare, contrast, explain), several steps); large from 50: the large model answers",
        ),
        (Question { model: Some("small".into()), ..question(hard) }, "small", "the client asked for this model"),
    ];
    for (question, expected, reason) in cases {
        let (_, routed) = router::choose(&both.models, both.routing, &question).expect("chosen");
        assert_eq!((routed.model.as_str(), routed.reason.as_str()), (expected, reason), "{}", question.text);
    }
    let alone = queries(&[model("small", ModelSize::Small)]);
    let (_, routed) = router::choose(&alone.models, alone.routing, &question(hard)).expect("chosen");
    assert!(routed.reason.ends_with("but there is no large model: the small model answers"), "{}", routed.reason);
}
