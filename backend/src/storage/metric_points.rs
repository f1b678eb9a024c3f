//! Metric points: what processes counted, interval by interval.
//!
//! For: the history of the program's numbers. May touch: the table `metric_points`.
//! Promises: each process writes rows of its own, so that none waits for another; a history is as long as its reader
//! asks and no longer; old points are deleted a bounded number at a time. Read next: `worker/history.rs`.

use sqlx::Row as _;

use super::cleaning::Batch;
use super::engine::{on, rows};
use super::{StorageError, Store};

/// Adds up what all processes counted. As many points as lie in the time that is asked for are read, and no others.
pub(super) const STEPS: &str = "\
    SELECT (at / $4) * $4 AS step_at, label, sum(value) AS total, max(value) AS most \
    FROM metric_points WHERE metric = $1 AND at >= $2 AND at < $3 \
    GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $5";

/// Deletes old points.
const CLEAN: Batch = Batch {
    what: "metric_points_clean",
    rows_max: 5_000,
    statement: "\
        DELETE FROM metric_points WHERE (metric, label, at, instance) IN \
        (SELECT metric, label, at, instance FROM metric_points WHERE at < $1 ORDER BY at LIMIT $2)",
};

/// One number of one interval of one process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NewMetricPoint<'a> {
    /// Its name.
    pub metric: &'a str,
    /// What of it.
    pub label: &'a str,
    /// What it was.
    pub value: f64,
}

/// What all processes counted in a step.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricStepRow {
    /// When the step begins, in seconds.
    pub at: i64,
    /// What of the metric.
    pub label: String,
    /// The sum of all points in it.
    pub total: f64,
    /// The largest of them.
    pub most: f64,
}

/// Which steps are asked for.
#[derive(Clone, Copy, Debug)]
pub struct MetricSteps<'a> {
    /// The metric's name.
    pub metric: &'a str,
    /// From this second on.
    pub from: i64,
    /// Until this second, which is not among them.
    pub to: i64,
    /// How long a step is, in seconds; at least one.
    pub step: i64,
    /// How many rows at most.
    pub limit: u32,
}

rows!(MetricStepRow, |row| {
    Ok(Self {
        at: row.try_get("step_at")?,
        label: row.try_get("label")?,
        total: row.try_get("total")?,
        most: row.try_get("most")?,
    })
});

impl Store {
    /// Keeps the points of one interval of one process, all or none. Those that are there already stay.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn metric_points_create(
        &self,
        instance: &str,
        at: i64,
        points: &[NewMetricPoint<'_>],
    ) -> Result<(), StorageError> {
        const WHAT: &str = "metric_points_create";
        let mut transaction = self.begin(WHAT).await?;
        for point in points {
            on!(transaction.on(), |db| {
                sqlx::query(
                    "INSERT INTO metric_points (metric, label, at, instance, value) VALUES ($1, $2, $3, $4, $5) \
                     ON CONFLICT DO NOTHING",
                )
                .bind(point.metric)
                .bind(point.label)
                .bind(at)
                .bind(instance)
                .bind(point.value)
                .execute(db)
                .await
                .map(|_| ())
            })
            .map_err(StorageError::during(WHAT))?;
        }
        transaction.commit(WHAT).await
    }

    /// What all processes counted, step by step, in the order of time and label.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn metric_steps(&self, asked: MetricSteps<'_>) -> Result<Vec<MetricStepRow>, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_as(STEPS)
                .bind(asked.metric)
                .bind(asked.from)
                .bind(asked.to)
                .bind(asked.step)
                .bind(i64::from(asked.limit))
                .fetch_all(db)
                .await
        })
        .map_err(StorageError::during("metric_steps"))
    }

    /// Deletes points from before this second, a bounded number at a time, unless another process is cleaning. Says
    /// whether there may be more for this one to do.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn metric_points_clean(&self, before: i64) -> Result<bool, StorageError> {
        self.clean(CLEAN, before).await
    }
}
