//! Every metric: name, unit, labels and meaning.
//!
//! Rule: a label's values come from the configuration or from a closed list, never from a request.

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// Upper edges of the duration buckets, in seconds: from a cache-like answer to a slow model.
const DURATION_BUCKETS_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// All metrics of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    refusals: IntCounterVec,
    shadow_refusals: IntCounterVec,
    request_seconds: HistogramVec,
    upstreams: UpstreamMetrics,
    config_reloads: IntCounterVec,
    config_last_reload_success: IntGauge,
    certificate_expiry: IntGaugeVec,
    certificate_orders: IntCounterVec,
    /// Connections open to clients now.
    pub connections: IntGauge,
    /// Connections closed at the door, by reason.
    pub connections_refused: IntCounterVec,
    /// HTTP/2 connections ended for what their clients did, by the error that these were told.
    pub http2_ended: IntCounterVec,
    /// Handshakes that failed or took too long.
    pub handshakes_failed: IntCounter,
    /// Access log lines that found the queue full or could not be written.
    pub access_log_lost: IntCounter,
    /// Spans that found the queue full or the collector away.
    pub spans_dropped: IntCounter,
    /// What is seen of the store that gateways share.
    pub store: StoreMetrics,
    /// What is seen of credentials and their sources.
    pub auth: AuthMetrics,
}

/// The handles of the store that gateways share.
#[derive(Clone, Debug)]
pub(crate) struct StoreMetrics {
    /// Whether it answers.
    pub up: Presence,
    /// From question to answer, in seconds.
    pub seconds: Histogram,
    /// Questions without an answer.
    pub failures: IntCounter,
    /// Settlements that found the queue full.
    pub settlements_lost: IntCounter,
}

/// What is seen of credentials and their sources.
#[derive(Clone, Debug)]
pub(crate) struct AuthMetrics {
    outcomes: IntCounterVec,
    /// Withdrawals that are remembered.
    pub revocations: IntGauge,
    /// Whether the feed of withdrawals answers.
    pub revocation_feed_up: Presence,
    /// Fetches of key sets, by scheme and outcome.
    pub key_set_fetches: IntCounterVec,
    /// Questions to sources of credentials, by scheme and outcome.
    pub key_lookups: IntCounterVec,
}

impl AuthMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters =
            |name, help| registered(registry, IntCounterVec::new(Opts::new(name, help), &["scheme", "outcome"])?);
        let gauge = |name, help| registered(registry, IntGauge::new(name, help)?);
        Ok(Self {
            outcomes: counters("gateway_auth_total", "Credentials by what became of them.")?,
            revocations: gauge("gateway_revocations", "Withdrawn tokens, subjects and keys that are remembered.")?,
            revocation_feed_up: Presence::new(
                registry,
                "gateway_revocation_feed_up",
                "Whether the feed of withdrawals answers: 1 or 0.",
            )?,
            key_set_fetches: counters("gateway_key_set_fetches_total", "Fetches of key sets.")?,
            key_lookups: counters("gateway_key_lookups_total", "Questions to sources of credentials.")?,
        })
    }

    /// The counter of a scheme's credentials with this outcome.
    pub(crate) fn outcome(&self, scheme: &str, outcome: &str) -> IntCounter {
        self.outcomes.with_label_values(&[scheme, outcome])
    }
}

/// Whether something answers: 1 or 0, and nothing at all where it is not in use, so that an alert on 0 needs no exceptions.
#[derive(Clone, Debug)]
pub(crate) struct Presence(IntGaugeVec);

impl Presence {
    fn new(registry: &Registry, name: &str, help: &str) -> Result<Self, prometheus::Error> {
        registered(registry, IntGaugeVec::new(Opts::new(name, help), &[])?).map(Self)
    }

    /// Shows whether it answers.
    pub(crate) fn show(&self, up: bool) {
        self.0.with_label_values::<&str>(&[]).set(i64::from(up));
    }

    /// Shows it no longer, until somebody does again.
    pub(crate) fn hide(&self) {
        self.0.reset();
    }
}

/// Upper edges of the buckets of the store's answers, in seconds.
const STORE_BUCKETS_SECONDS: [f64; 8] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05];

impl StoreMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name, help| registered(registry, IntCounter::new(name, help)?);
        Ok(Self {
            up: Presence::new(registry, "gateway_limit_store_up", "Whether the store of limits answers: 1 or 0.")?,
            seconds: registered(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new("gateway_limit_store_seconds", "From question to answer.")
                        .buckets(STORE_BUCKETS_SECONDS.to_vec()),
                )?,
            )?,
            failures: counter(
                "gateway_limit_store_failures_total",
                "Questions to the store of limits without an answer.",
            )?,
            settlements_lost: counter(
                "gateway_limit_settlements_lost_total",
                "Settlements of what a request has cost that found the queue full.",
            )?,
        })
    }
}

/// What is seen of upstreams and their servers.
#[derive(Debug)]
struct UpstreamMetrics {
    healthy: IntGaugeVec,
    ejected: IntGaugeVec,
    retries: IntCounterVec,
    requests: IntCounterVec,
    mirrored: IntCounterVec,
}

impl UpstreamMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters =
            |name, help, labels: &[&str]| registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?);
        let gauges =
            |name, help| registered(registry, IntGaugeVec::new(Opts::new(name, help), &["upstream", "endpoint"])?);
        Ok(Self {
            healthy: gauges("gateway_upstream_healthy", "Whether the checks find the endpoint fit: 1 or 0.")?,
            ejected: gauges(
                "gateway_upstream_ejected",
                "Whether the endpoint is left out for its failures: 1 or 0.",
            )?,
            retries: counters("gateway_upstream_retries_total", "Attempts after the first.", &["upstream"])?,
            requests: counters(
                "gateway_upstream_requests_total",
                "Requests by the upstream that was chosen for them, retries not counted.",
                &["route", "upstream"],
            )?,
            mirrored: counters(
                "gateway_mirrored_total",
                "Requests that were to be copied to another upstream, by what became of the copy.",
                &["route", "outcome"],
            )?,
        })
    }
}

/// What became of a route's copies.
#[derive(Clone, Debug)]
pub(crate) struct MirrorMetrics {
    /// Answered, whatever the answer was.
    pub answered: IntCounter,
    /// No server was fit, or the connection broke, or it took too long.
    pub failed: IntCounter,
    /// Not made: as many as are allowed were under way.
    pub crowded: IntCounter,
    /// Not sent: the body was too large.
    pub too_large: IntCounter,
    /// Not sent: the request itself did not arrive completely, or was over before it had.
    pub unfinished: IntCounter,
}

/// The handles of one route, looked up once at load.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    /// By status class, 1xx to 5xx.
    classes: [IntCounter; 5],
    seconds: Histogram,
}

fn request_seconds() -> Result<HistogramVec, prometheus::Error> {
    let about = HistogramOpts::new("gateway_request_seconds", "From the request's head to the answer's end.");
    HistogramVec::new(about.buckets(DURATION_BUCKETS_SECONDS.to_vec()), &["route"])
}

impl Metrics {
    /// Builds and registers everything.
    ///
    /// # Errors
    /// Only when two metrics share a name, which a test rules out.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let counters =
            |name, help, labels: &[&str]| registered(&registry, IntCounterVec::new(Opts::new(name, help), labels)?);
        let counter = |name, help| registered(&registry, IntCounter::new(name, help)?);
        let gauges =
            |name, help, labels: &[&str]| registered(&registry, IntGaugeVec::new(Opts::new(name, help), labels)?);
        let gauge = |name, help| registered(&registry, IntGauge::new(name, help)?);
        Ok(Self {
            requests: counters("gateway_requests_total", "Requests answered.", &["route", "class"])?,
            refusals: counters("gateway_refusals_total", "Requests that the gateway refused.", &["route", "code"])?,
            shadow_refusals: counters(
                "gateway_shadow_refusals_total",
                "Requests that would have been refused by what is only watched.",
                &["route", "code"],
            )?,
            request_seconds: registered(&registry, request_seconds()?)?,
            upstreams: UpstreamMetrics::new(&registry)?,
            config_reloads: counters(
                "gateway_config_reloads_total",
                "Attempts to load the configuration.",
                &["outcome"],
            )?,
            config_last_reload_success: gauge(
                "gateway_config_last_reload_success",
                "Whether the last attempt to load the configuration succeeded: 1 or 0.",
            )?,
            certificate_expiry: gauges(
                "gateway_certificate_expiry_unix_seconds",
                "When a certificate of a listener ends, in seconds since the Unix epoch.",
                &["certificate"],
            )?,
            certificate_orders: counters(
                "gateway_certificate_orders_total",
                "Attempts to get a certificate by ACME.",
                &["certificate", "outcome"],
            )?,
            connections: gauge("gateway_connections", "Connections open to clients now.")?,
            connections_refused: counters(
                "gateway_connections_refused_total",
                "Connections closed at the door.",
                &["reason"],
            )?,
            http2_ended: counters(
                "gateway_http2_connections_ended_total",
                "HTTP/2 connections ended for what their clients did.",
                &["error"],
            )?,
            handshakes_failed: counter(
                "gateway_tls_handshakes_failed_total",
                "Handshakes that failed or took too long.",
            )?,
            access_log_lost: counter(
                "gateway_access_log_lost_total",
                "Access log lines that found the queue full or could not be written.",
            )?,
            spans_dropped: counter(
                "gateway_spans_dropped_total",
                "Spans that found the queue full or the collector away.",
            )?,
            store: StoreMetrics::new(&registry)?,
            auth: AuthMetrics::new(&registry)?,
            registry,
        })
    }

    /// The handles of a route. `-` stands for requests that fit no route.
    pub(crate) fn route(&self, route: &str) -> RouteMetrics {
        let class = |class: &str| self.requests.with_label_values(&[route, class]);
        RouteMetrics {
            classes: [class("1xx"), class("2xx"), class("3xx"), class("4xx"), class("5xx")],
            seconds: self.request_seconds.with_label_values(&[route]),
        }
    }

    /// Counts a refusal. Looked up by label: refusals are not the path that must be fast.
    pub(crate) fn refused(&self, route: &str, code: common::code::Code) {
        self.refusals.with_label_values(&[route, code.name()]).inc();
    }

    /// Counts what would have been a refusal.
    pub(crate) fn shadowed(&self, route: &str, code: common::code::Code) {
        self.shadow_refusals.with_label_values(&[route, code.name()]).inc();
    }

    /// The health gauge of one endpoint.
    pub(crate) fn endpoint_healthy(&self, upstream: &str, endpoint: &str) -> IntGauge {
        self.upstreams.healthy.with_label_values(&[upstream, endpoint])
    }

    /// The gauge of an endpoint that is left out.
    pub(crate) fn endpoint_ejected(&self, upstream: &str, endpoint: &str) -> IntGauge {
        self.upstreams.ejected.with_label_values(&[upstream, endpoint])
    }

    /// Shows the health of an endpoint no longer, because it is in no configuration any more.
    pub(crate) fn forget_endpoint(&self, upstream: &str, endpoint: &str) {
        // An error means that it was not shown, which is what is wanted.
        let _ = self.upstreams.healthy.remove_label_values(&[upstream, endpoint]);
        let _ = self.upstreams.ejected.remove_label_values(&[upstream, endpoint]);
    }

    /// Tells of a reload.
    pub(crate) fn reloaded(&self, success: bool) {
        self.config_reloads.with_label_values(&[if success { "ok" } else { "failed" }]).inc();
        self.config_last_reload_success.set(i64::from(success));
    }

    /// Shows when the certificate in this file ends, in seconds since the Unix epoch.
    pub(crate) fn certificate_ends(&self, file: &str, unix_seconds: i64) {
        self.certificate_expiry.with_label_values(&[file]).set(unix_seconds);
    }

    /// Shows the end of a certificate no longer, because it is in no configuration any more.
    pub(crate) fn forget_certificate(&self, file: &str) {
        // An error means that it was not shown, which is what is wanted.
        let _ = self.certificate_expiry.remove_label_values(&[file]);
    }

    /// Counts an attempt to get a certificate.
    pub(crate) fn certificate_ordered(&self, certificate: &str, success: bool) {
        self.certificate_orders.with_label_values(&[certificate, if success { "ok" } else { "failed" }]).inc();
    }

    /// The counter of a route's requests to one upstream.
    pub(crate) fn requests_to(&self, route: &str, upstream: &str) -> IntCounter {
        self.upstreams.requests.with_label_values(&[route, upstream])
    }

    /// The counters of a route's copies.
    pub(crate) fn mirror(&self, route: &str) -> MirrorMetrics {
        let outcome = |outcome: &str| self.upstreams.mirrored.with_label_values(&[route, outcome]);
        MirrorMetrics {
            answered: outcome("answered"),
            failed: outcome("failed"),
            crowded: outcome("crowded"),
            too_large: outcome("too_large"),
            unfinished: outcome("unfinished"),
        }
    }

    /// The retry counter of one upstream.
    pub(crate) fn retries(&self, upstream: &str) -> IntCounter {
        self.upstreams.retries.with_label_values(&[upstream])
    }

    /// Everything in the text format that Prometheus scrapes.
    ///
    /// # Errors
    /// When a metric cannot be written, which would be a fault of ours.
    pub(crate) fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl RouteMetrics {
    /// Counts one answered request. A status outside 100 to 599 (the client left first) counts as 4xx, as 499 would.
    pub(crate) fn answered(&self, status: u16, seconds: f64) {
        let class = usize::from(status / 100).checked_sub(1).and_then(|class| self.classes.get(class));
        class.unwrap_or(&self.classes[3]).inc();
        self.seconds.observe(seconds);
    }
}

fn registered<C>(registry: &Registry, collector: C) -> Result<C, prometheus::Error>
where
    C: prometheus::core::Collector + Clone + 'static,
{
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_registers_and_shows() {
        let metrics = Metrics::new().expect("names are unique");
        metrics.route("query").answered(200, 0.02);
        metrics.route("query").answered(0, 0.02);
        metrics.refused("query", common::code::Code::RateLimited);
        metrics.store.up.show(true);
        metrics.auth.revocation_feed_up.show(true);
        metrics.auth.revocation_feed_up.hide();
        let text = String::from_utf8(metrics.render().expect("renders")).expect("UTF-8");
        assert!(!text.contains("gateway_revocation_feed_up"), "not in use, not shown:\n{text}");
        for line in [
            "gateway_requests_total{class=\"2xx\",route=\"query\"} 1",
            "gateway_requests_total{class=\"4xx\",route=\"query\"} 1",
            "gateway_refusals_total{code=\"rate_limited\",route=\"query\"} 1",
            "gateway_connections 0",
            "gateway_limit_store_up 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
