//! History: the program's own numbers, kept interval by interval and shown step by step.
//!
//! For: `app.rs`, which has them kept on a timer, and the API, which shows them. May touch: `storage`, the metrics.
//! Promises: every process keeps points of its own under its instance's id; a question is answered with `STEPS_MAX`
//! steps at most; an interval that cannot be kept is a gap, which the log tells, and holds nothing up.
//! Read next: `base/history.rs`, `storage/metric_points.rs`.

use std::sync::{Arc, Mutex, PoisonError};

use common::clock::Clock;

use crate::base::history::{Kept, Recorder};
use crate::base::ids;
use crate::base::metrics::Metrics;
use crate::base::time::{now_seconds, to_signed};
use crate::config;
use crate::storage::{MetricSteps, NewMetricPoint, StorageError, Store};

/// Steps of one answer.
pub const STEPS_MAX: i64 = 1_000;

/// Rows of one answer: no metric has more labels than this allows a step.
const ROWS_MAX: u32 = 20_000;

/// How far back a question goes that does not say, in seconds.
const FROM_DEFAULT_SECONDS: i64 = 60 * 60;

/// Steps of an answer to a question that does not say how long they are.
const STEPS_DEFAULT: i64 = 60;

/// The last second that can be asked for: the end of the year 9999.
const SECONDS_MAX: i64 = 253_402_300_799;

/// Why no history is told.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A field does not hold what it must.
    #[error("{field} {why}")]
    Input {
        /// Which.
        field: &'static str,
        /// What it must hold.
        why: String,
    },
    /// The database failed.
    #[error("the database failed")]
    Storage(#[from] StorageError),
}

/// What of the history is asked for. Times are seconds of the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub struct HistoryAsked<'a> {
    /// The metric, in a word.
    pub metric: &'a str,
    /// From then on; an hour before the end, if `None`.
    pub from: Option<i64>,
    /// Until then; now, if `None`.
    pub to: Option<i64>,
    /// How long a step is, in seconds; as long as makes sixty of them, if `None`.
    pub step: Option<i64>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The metric.
    pub metric: &'static str,
    /// As it was understood.
    pub from: i64,
    /// As it was understood.
    pub to: i64,
    /// In seconds.
    pub step: i64,
    /// In the order of time and label; steps in which nothing was counted are left out.
    pub points: Vec<ToldPoint>,
}

/// One step of one label.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldPoint {
    /// When the step begins.
    pub at: i64,
    /// What of the metric, such as a group of routes; empty, if it is not divided.
    pub label: String,
    /// What all processes together had in it: the sum, or of what does not add up the largest.
    pub value: f64,
}

/// Keeps and tells.
pub struct History {
    store: Store,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    settings: config::History,
    /// This process, from its start to its end.
    instance: String,
    recorder: Mutex<Recorder>,
}

impl History {
    /// The history of this process, and of all that share its store.
    #[must_use]
    pub fn new(store: Store, metrics: Metrics, clock: Arc<dyn Clock>, settings: config::History) -> Self {
        Self { store, metrics, clock, settings, instance: ids::new_id(), recorder: Mutex::default() }
    }

    /// The id under which this process keeps its points.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Keeps what was counted since the last time.
    ///
    /// # Errors
    /// When the database fails; then this interval is a gap.
    pub async fn record(&self) -> Result<(), StorageError> {
        // The recorder is sound after every look, so a panic elsewhere does not spoil it.
        let points = self.recorder.lock().unwrap_or_else(PoisonError::into_inner).look(&self.metrics);
        if points.is_empty() {
            return Ok(());
        }
        let rows: Vec<NewMetricPoint<'_>> = points
            .iter()
            .map(|point| NewMetricPoint { metric: point.metric.word(), label: point.label, value: point.value })
            .collect();
        self.store.metric_points_create(&self.instance, now_seconds(&*self.clock), &rows).await
    }

    /// Deletes what is older than `metrics.history.retention`; says whether there may be more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn clean(&self) -> Result<bool, StorageError> {
        let kept = to_signed(self.settings.retention.as_secs());
        self.store.metric_points_clean(now_seconds(&*self.clock).saturating_sub(kept)).await
    }

    /// What all processes counted.
    ///
    /// # Errors
    /// `Input` with the field, or that the database failed.
    pub async fn tell(&self, asked: HistoryAsked<'_>) -> Result<Told, HistoryError> {
        let (metric, from, to, step) = understand(asked, now_seconds(&*self.clock))?;
        let steps = MetricSteps { metric: metric.word(), from, to, step, limit: ROWS_MAX };
        let rows = self.store.metric_steps(steps).await?;
        let points = rows.into_iter().map(|row| ToldPoint {
            at: row.at,
            label: row.label,
            value: if metric.adds_up() { row.total } else { row.most },
        });
        Ok(Told { metric: metric.word(), from, to, step, points: points.collect() })
    }
}

/// The words of every metric that is kept.
#[must_use]
pub fn kept_metrics() -> [&'static str; 8] {
    Kept::ALL.map(Kept::word)
}

fn understand(asked: HistoryAsked<'_>, now: i64) -> Result<(Kept, i64, i64, i64), HistoryError> {
    let wrong = |field, why: String| Err(HistoryError::Input { field, why });
    let Some(metric) = Kept::ALL.into_iter().find(|metric| metric.word() == asked.metric) else {
        return wrong("metric", format!("must be one of {}", kept_metrics().join(", ")));
    };
    // What was counted in this very second belongs to it.
    let to = asked.to.unwrap_or(now.saturating_add(1));
    let from = asked.from.unwrap_or(to.saturating_sub(FROM_DEFAULT_SECONDS).max(0));
    if !(0..=SECONDS_MAX).contains(&to) {
        return wrong("to", format!("must be a second from 0 to {SECONDS_MAX}"));
    }
    if !(0..to).contains(&from) {
        return wrong("from", "must be a second before `to`, and not before 1970".into());
    }
    let length = to - from;
    let step = asked.step.unwrap_or((length / STEPS_DEFAULT).max(1));
    if !(1..=SECONDS_MAX).contains(&step) {
        return wrong("step", "must be at least a second".into());
    }
    if length / step > STEPS_MAX {
        return wrong("step", format!("makes more than {STEPS_MAX} steps of that time"));
    }
    Ok((metric, from, to, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn asked(from: Option<i64>, to: Option<i64>, step: Option<i64>) -> HistoryAsked<'static> {
        HistoryAsked { metric: "requests", from, to, step }
    }

    #[test]
    fn what_is_not_said_is_the_last_hour_in_sixty_steps() {
        let (metric, from, to, step) = understand(asked(None, None, None), NOW).expect("sound");
        assert_eq!((metric, from, to, step), (Kept::Requests, NOW + 1 - 3_600, NOW + 1, 60));
        let (.., step) = understand(asked(Some(NOW - 5), Some(NOW), None), NOW).expect("sound");
        assert_eq!(step, 1);
    }

    #[test]
    fn what_is_asked_has_bounds() {
        for (wrong, field) in [
            (asked(Some(NOW), Some(NOW), None), "from"),
            (asked(Some(-1), None, None), "from"),
            (asked(None, Some(i64::MAX), None), "to"),
            (asked(None, Some(i64::MIN), None), "to"),
            (asked(None, None, Some(0)), "step"),
            (asked(None, None, Some(i64::MIN)), "step"),
            (asked(Some(NOW - 100_000), Some(NOW), Some(1)), "step"),
            (HistoryAsked { metric: "coffee", from: None, to: None, step: None }, "metric"),
        ] {
            match understand(wrong, NOW) {
                Err(HistoryError::Input { field: told, .. }) => assert_eq!(told, field, "{wrong:?}"),
                other => panic!("{wrong:?}: {other:?}"),
            }
        }
    }
}
