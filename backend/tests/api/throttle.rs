//! Throttle: a password cannot be guessed at will, neither for one account nor from one address.
//!
//! Read next: `tokens.rs`.

use crate::harness::backend::{ADMIN, Backend};
use crate::harness::client::{Answer, send};
use crate::harness::database;
use crate::harness::settings::Settings;

/// Failures that are allowed in these tests.
const FAILURES_MAX: usize = 3;

/// How long failures count, in seconds.
const WINDOW_SECONDS: u64 = 900;

fn settings() -> Settings {
    Settings::development().auth(format!("login: {{ failures_max: {FAILURES_MAX}, window: {WINDOW_SECONDS}s }}"))
}

/// A login through proxies, the last of which is ours.
async fn login_from(backend: &Backend, forwarded_for: &str, name: &str, password: &str) -> Answer {
    send(backend.try_login(name, password).header("X-Forwarded-For", forwarded_for)).await
}

fn expect_throttled(answer: &Answer) {
    answer.expect_problem(429, "login_throttled");
    let seconds: u64 = answer.header("retry-after").parse().expect("a number of seconds");
    assert!((1..=WINDOW_SECONDS).contains(&seconds), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_closed_to_guesses_from_anywhere() {
    let backend = Backend::start(&settings()).await;
    for last in 1..=FAILURES_MAX {
        let answer = login_from(&backend, &format!("198.51.100.{last}"), "admin", "a-wrong-guess").await;
        answer.expect_problem(401, "login_failed");
    }
    // Now the right password does not help either: whoever guesses it must not learn that.
    expect_throttled(&login_from(&backend, "198.51.100.77", "admin", ADMIN.1).await);
    expect_throttled(&login_from(&backend, "198.51.100.78", " ADMIN", ADMIN.1).await);
    // Others are not held up, and an account that does not exist is treated like one that does.
    login_from(&backend, "198.51.100.77", "nobody", "a-wrong-guess").await.expect_problem(401, "login_failed");

    // One entry for the closing, not one for every knock.
    let events = database::events(backend.folder().path()).await;
    let throttled: Vec<_> = events.iter().filter(|event| event.kind == "login_throttled").collect();
    assert_eq!(throttled.len(), 1, "{events:?}");
    assert_eq!(throttled[0].client.as_deref(), Some("198.51.100.77"));
    let metrics = backend.metrics().await;
    assert!(metrics.contains("backend_logins_total{outcome=\"throttled\"} 2"), "{metrics}");
    assert!(
        metrics.contains(&format!("backend_logins_total{{outcome=\"failed\"}} {}", FAILURES_MAX + 1)),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_closed_to_guesses_at_any_account() {
    let backend = Backend::start(&settings()).await;
    for (index, name) in ["ann", "ben", "cat"].into_iter().enumerate() {
        // What a client writes itself stands further left, and changes nothing.
        let forwarded = format!("203.0.113.{index}, 198.51.100.9, 127.0.0.7");
        login_from(&backend, &forwarded, name, "a-wrong-guess").await.expect_problem(401, "login_failed");
    }
    expect_throttled(&login_from(&backend, "198.51.100.9", "admin", ADMIN.1).await);
    login_from(&backend, "198.51.100.10", "admin", ADMIN.1).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_no_proxy_of_ours_cannot_choose_its_address() {
    let backend = Backend::start(&settings().server("trusted_proxies: [\"192.0.2.0/24\"]")).await;
    for (index, name) in ["ann", "ben", "cat"].into_iter().enumerate() {
        let forwarded = format!("198.51.100.{index}");
        login_from(&backend, &forwarded, name, "a-wrong-guess").await.expect_problem(401, "login_failed");
    }
    expect_throttled(&login_from(&backend, "198.51.100.99", "admin", ADMIN.1).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_that_work_are_never_throttled() {
    let backend = Backend::start(&settings()).await;
    for _ in 0..=FAILURES_MAX {
        backend.login(ADMIN).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_logins_than_the_queue_holds_are_told_to_come_back() {
    let hashing = "hashing: { concurrent_max: 1, waiting_max: 0 }, login: { failures_max: 1000 }";
    let backend = Backend::start(&Settings::development().auth(hashing)).await;
    let logins: Vec<_> = (0..16).map(|_| tokio::spawn(send(backend.try_login(ADMIN.0, ADMIN.1)))).collect();
    let (mut served, mut refused) = (0, 0);
    for login in logins {
        let answer = login.await.expect("a request is answered");
        if answer.status == 200 {
            served += 1;
        } else {
            answer.expect_problem(503, "overloaded");
            refused += 1;
        }
    }
    assert!(served >= 1 && refused >= 1, "{served} served, {refused} refused");
    // It was passing.
    backend.login(ADMIN).await;
}
