//! Reload: a new configuration in place of the old one, whole or not at all, and nobody on the way notices.
//!
//! Read next: `shutdown.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use testkit::wait::{PATIENCE, until, within};
use tokio::net::TcpStream;

use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, OPEN, PROBE_EVERY_MS, Pool, listeners, upstream};
use crate::harness::tls::{self, H1};
use crate::harness::upstream::Echo;

/// Reloads under load; every other one is of a broken file.
const RELOADS: usize = 40;

/// What is broken about a broken file: an upstream that is not there.
const BROKEN: &str = "routes:\n  - { id: open, path: /*, auth: none, to: nobody }\n";

/// Whether the last reload went well.
const SUCCESS: &str = "gateway_config_last_reload_success";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_or_the_admin_listener_brings_the_new_routes() {
    let echo = Echo::start().await;
    let base = format!("{HEAD}{HTTP}{}", upstream(&Pool::of(&[echo.address()])));
    let gateway = Gateway::plain(&format!("{base}routes:\n  - {{ id: a, path: /a, auth: none, to: api }}\n")).await;
    let ask = async |path: &str| client::send(client::plain().get(gateway.url(path))).await.status;
    assert_eq!((ask("/a").await, ask("/b").await), (200, 404));

    gateway.rewrite(&format!("{base}routes:\n  - {{ id: b, path: /b, auth: none, to: api }}\n"));
    gateway.reload().await.expect_status(200);
    assert_eq!((ask("/a").await, ask("/b").await), (404, 200), "the answer comes after the change");

    gateway.rewrite(&format!("{base}routes:\n  - {{ id: c, path: /c, auth: none, to: api }}\n"));
    gateway.signal("HUP");
    until("SIGHUP brings the third route", PATIENCE, async || (ask("/c").await == 200).then_some(())).await;
    let reloads = gateway.metric("gateway_config_reloads_total{outcome=\"ok\"}").await;
    assert_eq!(reloads.as_deref(), Some("3"), "the start counts as one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_changes_nothing_and_is_told() {
    let echo = Echo::start().await;
    let base = format!("{HEAD}{HTTP}{}", upstream(&Pool::of(&[echo.address()])));
    let gateway = Gateway::plain(&format!("{base}{OPEN}")).await;
    gateway.rewrite(&format!("{base}{BROKEN}"));
    let answer = gateway.reload().await;
    answer.expect_status(422);
    let mistakes = answer.json()["mistakes"].to_string();
    assert!(mistakes.contains("gateway.yaml:12:") && mistakes.contains("no upstream is called"), "{mistakes}");
    client::send(client::plain().get(gateway.url("/x"))).await.expect_status(200);
    assert_eq!(gateway.metric(SUCCESS).await.as_deref(), Some("0"));
    gateway.rewrite(&format!("{base}{OPEN}"));
    gateway.reload().await.expect_status(200);
    assert_eq!(gateway.metric(SUCCESS).await.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_is_no_way_round_a_limit_nor_back_to_a_dead_server() {
    let (living, dead) = (Echo::start().await, Echo::start_at(SocketAddr::from(([127, 0, 0, 81], 0))).await);
    let pool = Pool::of(&[living.address(), dead.address()]).probed();
    let settings = |second: &str| {
        format!(
            "{HEAD}{HTTP}{}limits:\n  per_ip: {{ by: client.ip, rate: 2/h }}\nroutes:\n  \
             - {{ id: limited, path: /limited, auth: none, limits: [per_ip], to: api }}\n{second}",
            upstream(&pool)
        )
    };
    let gateway = Gateway::plain(&settings("")).await;
    for status in [200, 200, 429] {
        client::send(client::plain().get(gateway.url("/limited"))).await.expect_status(status);
    }
    let gauge = format!("gateway_upstream_healthy{{endpoint=\"{}\",upstream=\"api\"}}", dead.address());
    dead.stop().await;
    gateway.until_metrics_say(&format!("{gauge} 0")).await;

    gateway.rewrite(&settings("  - { id: open, path: /open, auth: none, to: api }\n"));
    gateway.reload().await.expect_status(200);
    client::send(client::plain().get(gateway.url("/limited"))).await.expect_problem(429, "rate_limited");
    let known = gateway.metric(&gauge).await;
    assert_eq!(known.as_deref(), Some("0"), "what was known of it is still known ({PROBE_EVERY_MS} ms apart)");
    client::send(client::plain().get(gateway.url("/open"))).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_listeners_change_by_difference() {
    let (authority, echo) = (Authority::new(), Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (old, new) = (authority.issue(folder.path(), "old.test"), authority.issue(folder.path(), "new.test"));
    let rest = format!("{}{OPEN}", upstream(&Pool::of(&[echo.address()])));
    let settings = |pair: &str, more: &str| format!("{HEAD}{}{more}{rest}", listeners(&[pair.to_owned()], "1.2"));
    let mut gateway = Gateway::start(&settings(&old, ""), &["http", "https"]).await;
    let shown = async |gateway: &Gateway, name: &str| {
        tls::connect(gateway.address("https"), name, &authority, &H1).await.is_ok()
    };
    assert!(shown(&gateway, "old.test").await && !shown(&gateway, "new.test").await);
    let kept = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");

    gateway.rewrite(&settings(&new, "  more: { bind: \"127.0.0.1:0\" }\n"));
    gateway.reload().await.expect_status(200);
    assert!(shown(&gateway, "new.test").await && !shown(&gateway, "old.test").await, "on the same socket");
    let more = gateway.opened("more").await;
    client::send(client::plain().get(format!("http://{more}/x"))).await.expect_status(200);

    // A certificate that cannot be read: the last good one goes on.
    gateway.rewrite(&settings("{ cert: /no/such.pem, key: /no/such.pem }", ""));
    gateway.reload().await.expect_status(422);
    assert!(shown(&gateway, "new.test").await);
    client::send(client::plain().get(format!("http://{more}/x"))).await.expect_status(200);

    gateway.rewrite(&settings(&new, ""));
    gateway.reload().await.expect_status(200);
    until("the listener that went is closed", PATIENCE, async || TcpStream::connect(more).await.err()).await;
    drop(kept);
    client::send(client::plain().get(gateway.url("/x"))).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_file_is_taken_in_when_it_changes_also_behind_a_link() {
    let (authority, echo) = (Authority::new(), Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    // As Kubernetes mounts a Secret: files behind a link to a folder, which is swapped as a whole.
    let folders = ["first", "second"].map(|name| folder.path().join(name));
    for (folder, name) in folders.iter().zip(["old.test", "new.test"]) {
        std::fs::create_dir(folder).expect("a folder");
        authority.issue_as(folder, "tls", name);
    }
    let link = folder.path().join("current");
    std::os::unix::fs::symlink(&folders[0], &link).expect("a link");
    let pair = format!("{{ cert: {0}/tls.crt, key: {0}/tls.key }}", link.display());
    let head = HEAD.replace("drain: 10s", "drain: 10s, watch: 50ms");
    let base = format!("{head}{}{}", listeners(&[pair], "1.2"), upstream(&Pool::of(&[echo.address()])));
    let gateway = Gateway::start(&format!("{base}{OPEN}"), &["http", "https"]).await;

    gateway.rewrite(&format!("{base}{BROKEN}"));
    gateway.until_metrics_say("gateway_config_reloads_total{outcome=\"failed\"} 1").await;
    let next = folder.path().join("next");
    std::os::unix::fs::symlink(&folders[1], &next).expect("a link");
    std::fs::rename(&next, &link).expect("the link is swapped");
    gateway.rewrite(&format!("{base}{OPEN}"));
    until("the new certificate is shown", PATIENCE, async || {
        tls::connect(gateway.address("https"), "new.test", &authority, &H1).await.ok().map(drop)
    })
    .await;
    assert_eq!(gateway.metric(SUCCESS).await.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_fails_while_configurations_come_and_go() {
    let echoes = [Echo::start().await, Echo::start().await];
    let both = Pool::of(&[echoes[0].address(), echoes[1].address()]);
    let one = Pool::of(&[echoes[1].address()]);
    let good = [&both, &one].map(|pool| format!("{HEAD}{HTTP}{}{OPEN}", upstream(pool)));
    let broken = format!("{HEAD}{HTTP}{}{BROKEN}", upstream(&both));
    let gateway = Gateway::plain(&good[0]).await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (url, stop, answered) = (gateway.url("/load"), Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                let client = client::plain();
                while !stop.load(Ordering::SeqCst) {
                    client::send(client.get(&url)).await.expect_status(200);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let slow = tokio::spawn(client::plain().get(gateway.url("/slow?delay_ms=1000")).send());
    for index in 0..RELOADS {
        let before = answered.load(Ordering::SeqCst);
        let (settings, status) = if index % 2 == 0 { (&broken, 422) } else { (&good[index / 2 % 2], 200) };
        gateway.rewrite(settings);
        gateway.reload().await.expect_status(status);
        until("requests go on between two reloads", PATIENCE, async || {
            (answered.load(Ordering::SeqCst) > before).then_some(())
        })
        .await;
    }
    stop.store(true, Ordering::SeqCst);
    for worker in workers {
        within("a client is done", PATIENCE, worker).await.expect("no client has seen a request fail");
    }
    let slow = within("the slow request is answered", PATIENCE, slow).await.expect("the task runs to its end");
    assert!(slow.is_ok_and(|answer| answer.status() == 200), "it kept the snapshot that it began with");
}
