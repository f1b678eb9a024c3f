//! History: what changed in the numbers from one look to the next.
//!
//! For: `worker/history.rs`, which keeps it. May touch: the metrics of this process.
//! Promises: what is only ever counted up is told as what came to it, so that the numbers of several processes and
//! intervals add up; labels are groups of routes, a list of this file. Read next: `worker/history.rs`.

use std::collections::BTreeMap;

use common::choice;
use prometheus::proto::{Metric, MetricFamily};

use super::metrics::Metrics;

/// The part of the answers that came at least so fast is told.
const QUANTILE: f64 = 0.95;

choice! {
    /// What is kept of the numbers.
    pub enum Kept {
        /// Requests answered, by group of routes.
        Requests = "requests",
        /// Of those, the ones that failed for a reason of ours, by group of routes.
        Errors = "errors",
        /// The time that 95 of 100 answers took at most, in seconds, by group of routes.
        LatencyP95 = "latency_p95_seconds",
        /// Queries to models, from the cache or not, failed or not.
        Queries = "queries",
        /// Of those, the ones that the cache answered.
        CacheHits = "cache_hits",
        /// Tokens that models have read and written.
        Tokens = "tokens",
        /// Attempts on queries of batches.
        JobAttempts = "job_attempts",
        /// Queries of batches that wait, of all processes.
        JobsQueued = "jobs_queued",
    }
}

/// One number of an interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Which.
    pub metric: Kept,
    /// A group of routes, or nothing.
    pub label: &'static str,
    /// What it was.
    pub value: f64,
}

/// Remembers the last look.
#[derive(Debug, Default)]
pub struct Recorder {
    counts: BTreeMap<(usize, &'static str), f64>,
    /// By group: how many answers took at most so long, from the shortest to the longest time.
    latencies: BTreeMap<&'static str, Vec<(f64, u64)>>,
}

impl Kept {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Requests,
        Self::Errors,
        Self::LatencyP95,
        Self::Queries,
        Self::CacheHits,
        Self::Tokens,
        Self::JobAttempts,
        Self::JobsQueued,
    ];

    /// Whether the numbers of several processes and intervals add up; of the others the largest counts.
    #[must_use]
    pub const fn adds_up(self) -> bool {
        !matches!(self, Self::LatencyP95 | Self::JobsQueued)
    }
}

impl Recorder {
    /// What has changed since the last look; what has not is left out.
    pub fn look(&mut self, metrics: &Metrics) -> Vec<Point> {
        let mut counts: BTreeMap<(usize, &'static str), (Kept, f64)> = BTreeMap::new();
        let mut latencies: BTreeMap<&'static str, Vec<(f64, u64)>> = BTreeMap::new();
        let mut points = Vec::new();
        let mut count = |metric: Kept, label: &'static str, value: f64| {
            counts.entry((metric as usize, label)).or_insert((metric, 0.0)).1 += value;
        };
        for family in metrics.gather() {
            match family.name() {
                "backend_requests_total" => each(&family, |metric| {
                    let group = group_of(label_of(metric, "route"));
                    count(Kept::Requests, group, metric.get_counter().get_value());
                    if label_of(metric, "class") == "5xx" {
                        count(Kept::Errors, group, metric.get_counter().get_value());
                    }
                }),
                "backend_request_seconds" => each(&family, |metric| {
                    add(latencies.entry(group_of(label_of(metric, "route"))).or_default(), metric);
                }),
                "backend_queries_total" => each(&family, |metric| {
                    count(Kept::Queries, "", metric.get_counter().get_value());
                    if label_of(metric, "source") == "cache" {
                        count(Kept::CacheHits, "", metric.get_counter().get_value());
                    }
                }),
                "backend_model_tokens_total" => {
                    each(&family, |metric| count(Kept::Tokens, "", metric.get_counter().get_value()));
                }
                "backend_job_attempts_total" => {
                    each(&family, |metric| count(Kept::JobAttempts, "", metric.get_counter().get_value()));
                }
                "backend_job_items_queued" => each(&family, |metric| {
                    let value = metric.get_gauge().get_value();
                    if value > 0.0 {
                        points.push(Point { metric: Kept::JobsQueued, label: "", value });
                    }
                }),
                _ => {}
            }
        }
        for (key, (metric, value)) in counts {
            let before = self.counts.insert(key, value).unwrap_or(0.0);
            if value > before {
                points.push(Point { metric, label: key.1, value: value - before });
            }
        }
        for (&label, now) in &latencies {
            let before = self.latencies.get(label).map_or(&[][..], Vec::as_slice);
            if let Some(value) = quantile(now, before) {
                points.push(Point { metric: Kept::LatencyP95, label, value });
            }
        }
        self.latencies = latencies;
        points
    }
}

fn each(family: &MetricFamily, with: impl FnMut(&Metric)) {
    family.get_metric().iter().for_each(with);
}

fn label_of<'m>(metric: &'m Metric, name: &str) -> &'m str {
    metric.get_label().iter().find(|label| label.name() == name).map_or("", |label| label.value())
}

/// The group of a route: what a person would call the part of the program that it leads to.
fn group_of(route: &str) -> &'static str {
    const GROUPS: [(&str, &str); 14] = [
        ("/auth/", "auth"),
        ("/.well-known/", "auth"),
        ("/api/v1/query", "queries"),
        ("/api/v1/batch", "jobs"),
        ("/api/v1/jobs", "jobs"),
        ("/v1/", "openai"),
        ("/graphql", "graphql"),
        ("/api/v1/models", "models"),
        ("/api/v1/cache", "cache"),
        ("/api/v1/users", "accounts"),
        ("/api/v1/api-keys", "accounts"),
        ("/internal/", "internal"),
        ("/metrics", "internal"),
        ("/health", "health"),
    ];
    GROUPS.iter().find(|(prefix, _)| route.starts_with(prefix)).map_or("other", |(_, group)| *group)
}

/// Adds a histogram to that of its group. All of them have the same bounds.
fn add(sum: &mut Vec<(f64, u64)>, metric: &Metric) {
    let buckets = metric.get_histogram().get_bucket();
    if sum.is_empty() {
        sum.extend(buckets.iter().map(|bucket| (bucket.upper_bound(), 0)));
    }
    for ((_, count), bucket) in sum.iter_mut().zip(buckets) {
        *count += bucket.cumulative_count();
    }
}

/// The bound below which 95 of 100 of the answers between two looks lie. Those beyond the last bound count as if they
/// had taken just as long; `None`, if there were none at all.
#[expect(clippy::cast_precision_loss, reason = "a share of a count need not be exact")]
fn quantile(now: &[(f64, u64)], before: &[(f64, u64)]) -> Option<f64> {
    let since: Vec<(f64, u64)> = now
        .iter()
        .enumerate()
        .map(|(index, (bound, count))| (*bound, count - before.get(index).map_or(0, |(_, count)| *count)))
        .collect();
    let all = since.last().map_or(0, |(_, count)| *count);
    if all == 0 {
        return None;
    }
    let needed = all as f64 * QUANTILE;
    since.iter().find(|(_, count)| *count as f64 >= needed).map(|(bound, _)| *bound)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::metrics::AnswerSource;

    fn of(points: &[Point], metric: Kept, label: &str) -> Option<f64> {
        points.iter().find(|point| point.metric == metric && point.label == label).map(|point| point.value)
    }

    #[test]
    fn each_look_tells_what_came_since_the_last() {
        let metrics = Metrics::new().expect("the metrics register");
        let mut recorder = Recorder::default();
        for _ in 0..99 {
            metrics.request("/api/v1/query", 200, Duration::from_millis(3));
        }
        metrics.request("/api/v1/query", 500, Duration::from_secs(20));
        metrics.request("/auth/login", 401, Duration::from_millis(40));
        metrics.query("m", AnswerSource::Cache);
        metrics.query("m", AnswerSource::Model);
        metrics.jobs().queued(7);
        let points = recorder.look(&metrics);
        assert_eq!(of(&points, Kept::Requests, "queries"), Some(100.0), "{points:?}");
        assert_eq!(of(&points, Kept::Errors, "queries"), Some(1.0), "{points:?}");
        assert_eq!(of(&points, Kept::Errors, "auth"), None, "{points:?}");
        assert_eq!(of(&points, Kept::LatencyP95, "queries"), Some(0.005), "{points:?}");
        assert_eq!(of(&points, Kept::LatencyP95, "auth"), Some(0.05), "{points:?}");
        assert_eq!(of(&points, Kept::Queries, ""), Some(2.0), "{points:?}");
        assert_eq!(of(&points, Kept::CacheHits, ""), Some(1.0), "{points:?}");
        assert_eq!(of(&points, Kept::JobsQueued, ""), Some(7.0), "{points:?}");

        metrics.request("/api/v1/query", 200, Duration::from_secs(3));
        metrics.jobs().queued(0);
        let points = recorder.look(&metrics);
        assert_eq!(of(&points, Kept::Requests, "queries"), Some(1.0), "{points:?}");
        assert_eq!(of(&points, Kept::LatencyP95, "queries"), Some(5.0), "{points:?}");
        assert_eq!(points.len(), 2, "what has not changed is left out: {points:?}");
        assert!(recorder.look(&metrics).is_empty());
    }

    #[test]
    fn every_route_belongs_to_a_group() {
        for (route, group) in [
            ("/api/v1/jobs/{id}", "jobs"),
            ("/v1/models/{*id}", "openai"),
            ("/graphql/ws", "graphql"),
            ("/internal/keys", "internal"),
            ("unmatched", "other"),
        ] {
            assert_eq!(group_of(route), group, "{route}");
        }
    }
}
