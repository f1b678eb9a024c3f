//! Metrics: every number this program publishes, in one list.
//!
//! For: `/metrics` on the internal listener, in Prometheus' text format. May touch: the process's own figures.
//! Promises: label values are bounded: routes come from the route table, models from the configuration, outcomes from
//! the enums of this file, GraphQL's fields from its schema; nothing a client sends becomes a label.
//! Read next: `api/middleware.rs` and `query/mod.rs`, which count.

use std::time::Duration;

use prometheus::proto::{Metric, MetricFamily};
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TEXT_FORMAT,
    TextEncoder,
};

use super::database_metrics;
use super::job_metrics::JobMetrics;
use super::model_metrics::ModelMetrics;
use super::raised::Raised;
use super::redis_metrics::RedisMetrics;

/// The media type of `/metrics`.
pub const MEDIA_TYPE: &str = TEXT_FORMAT;

/// What is counted for requests that match no route.
pub const ROUTE_UNMATCHED: &str = "unmatched";

/// Upper bounds of the latency histogram, in seconds: from a cached answer to a slow model.
const LATENCY_BUCKETS_SECONDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// Tokens were issued.
    Ok,
    /// User name or password was wrong.
    Failed,
    /// Refused before the password was looked at.
    Throttled,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerSource {
    /// The answer cache.
    Cache,
    /// The model.
    Model,
    /// Nowhere: the model failed.
    Failed,
}

/// A kind of GraphQL operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It looks.
    Query,
    /// It changes.
    Mutation,
    /// It goes on.
    Subscription,
}

/// What the process shows of itself, added up over all labels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Requests answered.
    pub requests: f64,
    /// Of those, the ones that failed for a reason of ours.
    pub errors: f64,
    /// Questions to models, from the cache or not, failed or not.
    pub queries: f64,
    /// Of those, the ones that the cache answered.
    pub cache_hits: f64,
    /// Tokens that models have read and written.
    pub tokens: f64,
    /// Attempts on queries of batches.
    pub job_attempts: f64,
    /// Queries of batches that wait, of all processes.
    pub jobs_queued: f64,
    /// Logins, whatever came of them.
    pub logins: f64,
    /// Client connections that are open.
    pub connections: f64,
    /// Processor time used, in seconds.
    pub cpu_seconds: f64,
    /// Memory in use, in bytes.
    pub resident_bytes: f64,
    /// When the process started, in seconds of the Unix epoch.
    pub started_at: f64,
}

/// All of them. Cheap to clone: the handles share their numbers.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    queries: IntCounterVec,
    logins: IntCounterVec,
    connections: IntGauge,
    graphql_fields: IntCounterVec,
    graphql_field_seconds: HistogramVec,
    graphql_refusals: IntCounterVec,
    graphql_sockets: IntGauge,
    spans_dropped: IntCounter,
    models: ModelMetrics,
    jobs: JobMetrics,
    redis: RedisMetrics,
}

/// The metrics could not be set up, or not be written.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Two metrics share a name, or a name breaks the grammar.
    #[error("a metric cannot be registered")]
    Register(#[source] prometheus::Error),
    /// The text could not be written.
    #[error("the metrics cannot be written")]
    Encode(#[source] prometheus::Error),
}

impl LoginOutcome {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Throttled => "throttled",
        }
    }
}

impl AnswerSource {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Model => "model",
            Self::Failed => "failed",
        }
    }
}

impl Operation {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
            Self::Subscription => "subscription",
        }
    }
}

impl Metrics {
    /// Registers them all.
    ///
    /// # Errors
    /// `MetricsError::Register`, which is a programming error.
    pub fn new() -> Result<Self, MetricsError> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).map_err(MetricsError::Register)
        };
        let latency =
            HistogramOpts::new("backend_request_seconds", "Time from the request's head to the answer's head.")
                .buckets(LATENCY_BUCKETS_SECONDS.to_vec());
        let field_latency = HistogramOpts::new(
            "backend_graphql_field_seconds",
            "Time of a root field, subscriptions until their end.",
        )
        .buckets(LATENCY_BUCKETS_SECONDS.to_vec());
        let registry = Registry::new();
        let models = ModelMetrics::register(&registry).map_err(MetricsError::Register)?;
        let jobs = JobMetrics::register(&registry).map_err(MetricsError::Register)?;
        let redis = RedisMetrics::register(&registry).map_err(MetricsError::Register)?;
        database_metrics::register(&registry).map_err(MetricsError::Register)?;
        let metrics = Self {
            registry,
            models,
            jobs,
            redis,
            requests: counter("backend_requests_total", "Requests by route and status class.", &["route", "class"])?,
            request_seconds: HistogramVec::new(latency, &["route"]).map_err(MetricsError::Register)?,
            queries: counter(
                "backend_queries_total",
                "Queries by model and where the answer came from: cache, model or failed.",
                &["model", "source"],
            )?,
            logins: counter("backend_logins_total", "Logins by outcome: ok, failed or throttled.", &["outcome"])?,
            connections: IntGauge::new("backend_connections", "Open client connections on all listeners.")
                .map_err(MetricsError::Register)?,
            graphql_fields: counter(
                "backend_graphql_fields_total",
                "Root fields of GraphQL that were answered, by operation, field and outcome: ok or error.",
                &["operation", "field", "outcome"],
            )?,
            graphql_field_seconds: HistogramVec::new(field_latency, &["operation", "field"])
                .map_err(MetricsError::Register)?,
            graphql_refusals: counter(
                "backend_graphql_refusals_total",
                "GraphQL requests that were refused before any field was asked, by code.",
                &["code"],
            )?,
            graphql_sockets: IntGauge::new("backend_graphql_sockets", "Open WebSockets of GraphQL.")
                .map_err(MetricsError::Register)?,
            spans_dropped: IntCounter::new(
                "backend_spans_dropped_total",
                "Spans that found the queue full or the collector away.",
            )
            .map_err(MetricsError::Register)?,
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> Result<(), MetricsError> {
        let register = |collector| self.registry.register(collector).map_err(MetricsError::Register);
        register(Box::new(self.requests.clone()))?;
        register(Box::new(self.request_seconds.clone()))?;
        register(Box::new(self.queries.clone()))?;
        register(Box::new(self.logins.clone()))?;
        register(Box::new(self.connections.clone()))?;
        register(Box::new(self.graphql_fields.clone()))?;
        register(Box::new(self.graphql_field_seconds.clone()))?;
        register(Box::new(self.graphql_refusals.clone()))?;
        register(Box::new(self.graphql_sockets.clone()))?;
        register(Box::new(self.spans_dropped.clone()))?;
        #[cfg(target_os = "linux")]
        register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(())
    }

    /// One request was answered. `route` is a path of the route table or `ROUTE_UNMATCHED`.
    pub fn request(&self, route: &str, status: u16, took: Duration) {
        let class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, class]).inc();
        self.request_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// One query ended. `model` is an id of the configuration.
    pub fn query(&self, model: &str, source: AnswerSource) {
        self.queries.with_label_values(&[model, source.as_str()]).inc();
    }

    /// What is counted about models and streams.
    #[must_use]
    pub fn models(&self) -> &ModelMetrics {
        &self.models
    }

    /// What is counted about jobs.
    #[must_use]
    pub fn jobs(&self) -> &JobMetrics {
        &self.jobs
    }

    /// What is counted about Redis and the answer cache.
    #[must_use]
    pub fn redis(&self) -> &RedisMetrics {
        &self.redis
    }

    /// One login ended.
    pub fn login(&self, outcome: LoginOutcome) {
        self.logins.with_label_values(&[outcome.as_str()]).inc();
    }

    /// One connection was opened.
    pub fn connection(&self) -> Raised {
        Raised::new(&self.connections)
    }

    /// A root field of GraphQL was answered. `field` is a name of the schema.
    pub fn graphql_field(&self, operation: Operation, field: &str, ok: bool, took: Duration) {
        let outcome = if ok { "ok" } else { "error" };
        self.graphql_fields.with_label_values(&[operation.as_str(), field, outcome]).inc();
        self.graphql_field_seconds.with_label_values(&[operation.as_str(), field]).observe(took.as_secs_f64());
    }

    /// A GraphQL request was refused as a whole. `code` is a name of the catalogue.
    pub fn graphql_refusal(&self, code: &str) {
        self.graphql_refusals.with_label_values(&[code]).inc();
    }

    /// A WebSocket was opened.
    pub fn graphql_socket(&self) -> Raised {
        Raised::new(&self.graphql_sockets)
    }

    /// So many spans were not told.
    pub fn spans_dropped(&self, count: u64) {
        self.spans_dropped.inc_by(count);
    }

    /// The most telling numbers of this process.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for family in self.registry.gather() {
            // Parts of two of them are told apart.
            match family.name() {
                "backend_requests_total" => totals.errors = counted(&family, "class", "5xx"),
                "backend_queries_total" => {
                    totals.cache_hits = counted(&family, "source", AnswerSource::Cache.as_str());
                }
                _ => {}
            }
            let total = match family.name() {
                "backend_requests_total" => &mut totals.requests,
                "backend_queries_total" => &mut totals.queries,
                "backend_model_tokens_total" => &mut totals.tokens,
                "backend_job_attempts_total" => &mut totals.job_attempts,
                "backend_job_items_queued" => &mut totals.jobs_queued,
                "backend_logins_total" => &mut totals.logins,
                "backend_connections" => &mut totals.connections,
                "process_cpu_seconds_total" => &mut totals.cpu_seconds,
                "process_resident_memory_bytes" => &mut totals.resident_bytes,
                "process_start_time_seconds" => &mut totals.started_at,
                _ => continue,
            };
            // A metric is one or the other; what it is not is zero.
            *total = family
                .get_metric()
                .iter()
                .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
                .sum();
        }
        totals
    }

    /// Every number with its labels, for `history.rs`.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// All numbers in Prometheus' text format.
    ///
    /// # Errors
    /// `MetricsError::Encode`, which is a programming error.
    pub fn render(&self) -> Result<Vec<u8>, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).map_err(MetricsError::Encode)?;
        Ok(text)
    }
}

/// The sum of the counters with this value under this label.
fn counted(family: &MetricFamily, name: &str, value: &str) -> f64 {
    let has = |metric: &Metric| metric.get_label().iter().any(|label| label.name() == name && label.value() == value);
    let counters = family.get_metric().iter().filter(|metric| has(metric));
    counters.map(|metric| metric.get_counter().get_value()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_published() {
        let metrics = Metrics::new().expect("the metrics register");
        metrics.request("/health", 200, Duration::from_millis(3));
        metrics.query("capibara6-dev", AnswerSource::Cache);
        metrics.login(LoginOutcome::Throttled);
        metrics.graphql_field(Operation::Query, "me", true, Duration::from_millis(3));
        metrics.graphql_refusal("graphql_invalid");
        let open = metrics.connection();
        let socket = metrics.graphql_socket();
        let text = String::from_utf8(metrics.render().expect("the metrics render")).expect("text");
        for line in [
            "backend_requests_total{class=\"2xx\",route=\"/health\"} 1",
            "backend_queries_total{model=\"capibara6-dev\",source=\"cache\"} 1",
            "backend_logins_total{outcome=\"throttled\"} 1",
            "backend_connections 1",
            "backend_graphql_fields_total{field=\"me\",operation=\"query\",outcome=\"ok\"} 1",
            "backend_graphql_refusals_total{code=\"graphql_invalid\"} 1",
            "backend_graphql_sockets 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        metrics.request("/health", 404, Duration::from_millis(3));
        let totals = metrics.totals();
        assert_eq!((totals.requests.round(), totals.connections.round()), (2.0, 1.0), "{totals:?}");
        metrics.request("/health", 503, Duration::from_millis(3));
        let totals = metrics.totals();
        assert_eq!((totals.errors.round(), totals.cache_hits.round()), (1.0, 1.0), "{totals:?}");
        drop((open, socket));
        let text = String::from_utf8(metrics.render().expect("the metrics render")).expect("text");
        assert!(text.contains("backend_connections 0"), "{text}");
        assert!(text.contains("backend_graphql_sockets 0"), "{text}");
    }
}
