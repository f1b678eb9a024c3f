//! Tests of the whole work with the embedded model, and of the router with several.

use common::clock::{Clock, SystemClock};
use futures::StreamExt as _;
use url::Url;

use super::*;
use crate::base::model_metrics::CircuitState;
use crate::config::{Cache, Circuit, Model, ModelSize, Routing, Streams};

fn model(id: &str, size: ModelSize) -> Model {
    Model {
        id: id.into(),
        size,
        completions_url: Url::parse("http://127.0.0.1:1/v1/chat/completions").expect("an address"),
        key: None,
        upstream_name: id.into(),
        timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(1),
        first_token_timeout: Duration::from_secs(1),
        token_timeout: Duration::from_secs(1),
        answer_bytes_max: 1024,
        tokens_max: 100,
        attempts_max: 2,
        retry_wait_max: Duration::from_secs(1),
        fallbacks: Vec::new(),
        circuit: Circuit { failures_max: 3, open_for: Duration::from_mins(1) },
    }
}

fn queries_with(models: &[Model], change: impl FnOnce(&mut Settings<'_>)) -> Queries {
    // The clients of model servers need a TLS provider, also for plain HTTP. Who was first does not matter.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut settings = Settings {
        models,
        routing: Routing { large_from: 50 },
        cache: Cache { answers_max: 10, bytes_max: 1 << 20, ttl: Duration::from_mins(1), public: false },
        streams: Streams { open_max: 2, heartbeat: Duration::from_secs(10) },
        playbooks: &config::Playbooks { path: None, score_min: 2 },
        sandbox: None,
    };
    change(&mut settings);
    Queries::new(settings, Metrics::new().expect("the metrics register"), &clock, None).expect("the models are built")
}

fn queries(models: &[Model]) -> Queries {
    queries_with(models, |_| {})
}

/// Everything a stream tells.
async fn told(stream: AnswerStream) -> (Routed, String, Done) {
    let events: Vec<StreamEvent> = stream.map(|event| event.expect("no error")).collect().await;
    let [StreamEvent::Routed(routed), texts @ .., StreamEvent::Done(done)] = &events[..] else {
        panic!("first the routing, last the end: {events:?}");
    };
    let mut text = String::new();
    for event in texts {
        let StreamEvent::Text(piece) = event else { panic!("text in between: {event:?}") };
        text.push_str(piece);
    }
    (routed.clone(), text, done.clone())
}

#[tokio::test]
async fn the_second_time_the_answer_is_kept_and_only_for_the_one_who_asked() {
    let queries = queries(&[]);
    let question = Question::new("Where do capybaras live?");
    let first = queries.ask("ann", &question).await.expect("answered");
    let second = queries.ask("ann", &question).await.expect("answered");
    let other = queries.ask("bob", &question).await.expect("answered");
    assert_eq!((first.cached, second.cached, other.cached), (false, true, false));
    assert_eq!(first.text, second.text);
    assert_ne!(first.id, second.id);
    assert!(first.text.starts_with(EMBEDDED_MODEL_ID));
    assert_eq!(queries.models()[0].status, ModelStatus::Answering);
    assert_eq!(queries.cache_stats().await, CacheStats { entries: 2, hits: 1, shared_hits: 0, misses: 2 });
    assert_eq!(queries.clear_cache().await, 2);
    assert!(!queries.ask("ann", &question).await.expect("answered").cached);
}

#[tokio::test]
async fn a_stream_tells_the_same_and_leaves_it_in_the_cache() {
    let queries = queries(&[]);
    let question = Question::new("Where do capybaras live?");
    let whole = queries.ask("bob", &question).await.expect("answered");
    let stream = queries.stream("ann", &question).await.expect("begun");
    let id = stream.id.clone();
    assert!(!stream.cached);
    let (routed, text, done) = told(stream).await;
    assert_eq!((&routed, &text, done.usage), (&whole.routed, &whole.text, whole.usage));
    assert_eq!((done.id, done.cached, done.finish), (id, false, FinishReason::Stop));
    assert!(queries.ask("ann", &question).await.expect("answered").cached, "it is kept");
    let again = queries.stream("ann", &question).await.expect("begun");
    assert!(again.cached);
    let (_, text, done) = told(again).await;
    assert_eq!((text, done.cached, done.usage), (whole.text, true, whole.usage));
}

#[tokio::test]
async fn streams_have_places_and_give_them_back() {
    let queries = queries(&[]);
    let question = Question::new("Where do capybaras live?");
    let one = queries.stream("ann", &question).await.expect("begun");
    let two = queries.stream("ann", &question).await.expect("begun");
    let refused = queries.stream("ann", &question).await.err().expect("two places");
    assert!(matches!(refused, QueryError::Overloaded { open_max: 2 }), "{refused}");
    drop(one);
    let three = queries.stream("ann", &question).await.expect("a place is free again");
    told(two).await;
    told(three).await;
    assert!(queries.stream("ann", &question).await.is_ok());
}

#[tokio::test]
async fn a_public_answer_is_for_everybody_where_that_is_allowed() {
    let question = Question { public: true, ..Question::new("Where do capybaras live?") };
    let closed = queries(&[]);
    closed.ask("ann", &question).await.expect("answered");
    assert!(!closed.ask("bob", &question).await.expect("answered").cached, "it is not allowed here");
    let open = queries_with(&[], |settings| settings.cache.public = true);
    open.ask("ann", &question).await.expect("answered");
    assert!(open.ask("bob", &question).await.expect("answered").cached);
    let private = Question { public: false, ..question };
    assert!(!open.ask("bob", &private).await.expect("answered").cached, "who does not say so has an own answer");
}

#[tokio::test]
async fn wrong_questions_name_their_field() {
    let queries = queries(&[]);
    let said = |text: String| Message { role: Role::User, text };
    let cases = [
        (Question::new("  "), "query"),
        (Question::new("ä".repeat(QUESTION_CHARS_MAX + 1)), "query"),
        (Question { model: Some("gpt".into()), ..Question::new("a") }, "model"),
        (Question { tokens_max: Some(0), ..Question::new("a") }, "max_tokens"),
        (Question { tokens_max: Some(100_000), ..Question::new("a") }, "max_tokens"),
        (Question { temperature: Some(2.5), ..Question::new("a") }, "temperature"),
        (Question { temperature: Some(f64::NAN), ..Question::new("a") }, "temperature"),
        (Question { history: vec![said("a".into()); HISTORY_MESSAGES_MAX + 1], ..Question::new("a") }, "messages"),
        (
            Question { history: vec![said("a".repeat(HISTORY_CHARS_MAX / 2 + 1)); 2], ..Question::new("a") },
            "messages",
        ),
    ];
    for (question, expected) in cases {
        let error = queries.ask("ann", &question).await.expect_err("it cannot be asked");
        assert!(matches!(error, QueryError::Input { field, .. } if field == expected), "{expected}: {error}");
        assert!(queries.stream("ann", &question).await.is_err(), "nor streamed: {expected}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_as_a_connection_and_shows_as_failing() {
    let queries = queries(&[model("small", ModelSize::Small)]);
    let error = queries.ask("ann", &Question::new("Hello?")).await.expect_err("nobody listens there");
    let QueryError::Model { model, cause } = error else { panic!("the model failed: {error}") };
    assert_eq!(model, "small");
    assert!(matches!(*cause, ProviderError::Connect(_)), "{cause:?}");
    assert_eq!(queries.models()[0].status, ModelStatus::Failing);
    // Two attempts each time; the third failure opens the circuit, and then it is not asked at all.
    assert_eq!(queries.models()[0].circuit, CircuitState::Closed);
    let error = queries.ask("ann", &Question::new("Hello?")).await.expect_err("nobody listens there");
    assert!(matches!(error, QueryError::Model { cause, .. } if matches!(*cause, ProviderError::Connect(_))));
    assert_eq!(queries.models()[0].circuit, CircuitState::Open);
    let error = queries.ask("ann", &Question::new("Hello?")).await.expect_err("it is left alone");
    assert!(matches!(error, QueryError::Model { cause, .. } if matches!(*cause, ProviderError::LeftAlone { .. })));
    let mut stream = queries.stream("ann", &Question::new("Hello?")).await.expect("streams tell it themselves");
    let first = stream.next().await.expect("something is told");
    assert!(matches!(first, Err(QueryError::Model { .. })), "{first:?}");
    assert!(stream.next().await.is_none(), "after an error nothing more");
}

#[test]
fn hard_questions_go_to_the_large_model_and_the_reason_says_why() {
    let both = queries(&[model("small", ModelSize::Small), model("large", ModelSize::Large)]);
    let hard = "Compare, contrast and explain these, step by step.";
    let cases = [
        (
            Question::new("Where is Uruguay?"),
            "small",
            "complexity 0 of 100 (no signals); large from 50: the small model answers",
        ),
        (
            Question::new(hard),
            "large",
            "complexity 60 of 100 (reasoning (compare, contrast, explain), several steps); large from 50: the large model answers",
        ),
        (Question { model: Some("small".into()), ..Question::new(hard) }, "small", "the client asked for this model"),
    ];
    let choose = |queries: &Queries, question: &Question| {
        router::choose(&queries.inner.models, queries.inner.routing, question).expect("chosen").1
    };
    for (question, expected, reason) in cases {
        let routed = choose(&both, &question);
        assert_eq!((routed.model.as_str(), routed.reason.as_str()), (expected, reason), "{}", question.text);
    }
    let alone = queries(&[model("small", ModelSize::Small)]);
    let routed = choose(&alone, &Question::new(hard));
    assert!(routed.reason.ends_with("but there is no large model: the small model answers"), "{}", routed.reason);
}
