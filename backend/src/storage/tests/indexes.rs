//! Tests of what serves the questions that are asked all the time: a part of `tests.rs`, which has the places.

use sqlx::{AssertSqlSafe, Row as _};

use super::*;

/// What is asked, and by what it must be found.
const ASKED: [(&str, &str); 21] = [
    (users::BY_NAME, "(name=?)"),
    (users::BY_ID, "(id=?)"),
    (api_keys::BY_ID, "(id=?)"),
    (api_keys::CLEAN.statement, "api_keys_revoked (revoked_at<?)"),
    (api_keys::CLEAN.statement, "api_keys_expired (expires_at<?)"),
    (refresh_tokens::KNOWN, "(token_hash=?)"),
    (refresh_tokens::SPEND, "(token_hash=?)"),
    (refresh_tokens::STANDING_AT_LOGIN, "(kind=? AND value=?)"),
    (refresh_tokens::STANDING_IN_FAMILY, "(kind=? AND value=?)"),
    (job_items::READY, "job_items_ready (status=? AND priority=? AND run_after<?)"),
    (job_items::TAKE_SQLITE, "job_items_ready (status=?)"),
    (job_items::TAKE_NAMED_SQLITE, "(id=?)"),
    (job_items::LOST_SQLITE, "job_items_lease (status=? AND lease_until<?)"),
    (jobs::OF_OWNER, "jobs_owner (owner=? AND id<?)"),
    (jobs::OF_ALL, "(id<?)"),
    (jobs::UNFINISHED, "jobs_unfinished (owner=?)"),
    (withdrawals::AFTER, "(rowid>?)"),
    (metric_points::STEPS, "metric_points_metric (metric=? AND at>? AND at<?)"),
    (audit::LIST_OF_KIND, "audit_events_kind (kind=? AND (at,id)<(?,?))"),
    (audit::LIST_OF_SUBJECT, "audit_events_subject (subject=? AND (at,id)<(?,?))"),
    (audit::LIST_OF_BOTH, "audit_events_subject (subject=? AND (at,id)<(?,?))"),
];

/// A look at a constant, which reads no table.
const CONSTANT: &str = "SCAN CONSTANT ROW";

#[tokio::test]
async fn what_is_asked_all_the_time_is_found_by_an_index() {
    let place = Place::in_a_file();
    let store = place.open().await;
    let Engine::Sqlite(pools) = &store.pools else { panic!("it is a file") };
    // The list of everything is as long as a page, and comes in the order of its index.
    for (sql, by) in ASKED.into_iter().chain([(audit::LIST, "audit_events_at ")]) {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let rows = sqlx::query(explain).fetch_all(&pools.writer).await.expect("it can be explained");
        let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        let told = format!("{sql}: {steps:#?}");
        assert!(steps.iter().any(|step| step.starts_with("SEARCH") && step.contains(by)), "{by}, {told}");
        for step in &steps {
            assert!(!step.starts_with("SCAN") || step == CONSTANT, "a whole table is read: {told}");
            assert!(!step.contains("AUTOMATIC"), "an index is made for the question: {told}");
            assert!(!step.contains("ORDER BY"), "what is read is sorted: {told}");
        }
    }
}
