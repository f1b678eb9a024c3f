//! ACME: certificates that the gateway orders, shows at once, shares and renews, with a real authority.
//!
//! Read next: `listen.rs` for certificates from files.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::redis::Redis;
use testkit::wait::{PATIENCE, until};

use crate::harness::advisor::Advisor;
use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::pebble::Pebble;
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, upstream};
use crate::harness::tls;
use crate::harness::upstream::Echo;

/// How long an order may take, with an attempt before it that failed because something was not up yet.
const ORDERED: Duration = Duration::from_mins(1);

/// A plain listener that redirects, so that it is the hardest place for a proof.
const REDIRECT: &str = "  http: { bind: \"127.0.0.1:0\", redirect: https, redirect_port: 443 }\n";

/// A TLS listener that orders a certificate for these names.
fn ordering(pebble: &Pebble, storage: &Path, names: &str, more: &str) -> String {
    format!(
        "  https: {{ bind: \"127.0.0.1:0\", tls: {{ {more} acme: {{ names: [{names}], directory: \"{}\", ca: \"{}\", storage: \
         \"{}\", terms_agreed: true }} }} }}\n",
        pebble.directory(),
        pebble.trusted.display(),
        storage.display()
    )
}

fn settings(listeners: &str, stores: &str, echo: &Echo) -> String {
    format!("{HEAD}{stores}listeners:\n{listeners}{}{OPEN}", upstream(&Pool::of(&[echo.address()])))
}

/// A gateway that orders, after its plain port was made known to an authority.
async fn ordering_gateway(
    valid_seconds: u64,
    storage: &Path,
    names: &[&str],
    stores: &str,
    echo: &Echo,
) -> (Gateway, Pebble, SocketAddr) {
    let mut gateway = Gateway::start(&settings(REDIRECT, stores, echo), &["http"]).await;
    let pebble = Pebble::start(gateway.address("http").port(), valid_seconds, names).await;
    let listeners = format!("{REDIRECT}{}", ordering(&pebble, storage, &names.join(", "), ""));
    gateway.rewrite(&settings(&listeners, stores, echo));
    gateway.reload().await.expect_status(200);
    let address = gateway.opened("https").await;
    (gateway, pebble, address)
}

async fn metric(gateway: &Gateway, line: &str) -> bool {
    gateway.metrics().await.lines().any(|found| found.starts_with(line))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_ordered_and_shown_by_name_without_a_restart() {
    let (echo, storage) = (Echo::start().await, tempfile::tempdir().expect("a temporary folder"));
    let (gateway, pebble, address) =
        ordering_gateway(3600, storage.path(), &["one.test", "two.test"], "", &echo).await;
    let first = until("one.test is ordered", ORDERED, async || pebble.certificate(address, "one.test").await).await;
    assert_eq!(pebble.certificate(address, "two.test").await, Some(first.clone()), "one certificate for both names");
    assert!(
        metric(&gateway, "gateway_certificate_orders_total{certificate=\"acme:one.test\",outcome=\"ok\"} 1").await
    );
    assert!(metric(&gateway, "gateway_certificate_expiry_unix_seconds{certificate=\"acme:one.test\"} ").await);
    // A reload takes nothing away.
    gateway.reload().await.expect_status(200);
    assert_eq!(pebble.certificate(address, "one.test").await, Some(first.clone()));
    // A token that nobody posed is a request like any other, which is redirected here.
    let stranger = client::plain().get(gateway.url("/.well-known/acme-challenge/nobody"));
    client::send(stranger).await.expect_status(308);
    // Keys are for their owner alone.
    for entry in std::fs::read_dir(storage.path()).expect("the folder is there") {
        use std::os::unix::fs::PermissionsExt as _;
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("its metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
        assert!(!entry.file_name().to_string_lossy().starts_with("proof-"), "proofs are hidden afterwards");
    }
    // A gateway that starts anew finds it where it was kept.
    let listeners = format!("{REDIRECT}{}", ordering(&pebble, storage.path(), "one.test, two.test", ""));
    let again = Gateway::start(&settings(&listeners, "", &echo), &["https"]).await;
    let address = again.address("https");
    let found = until("it is taken in", PATIENCE, async || pebble.certificate(address, "one.test").await).await;
    assert_eq!(found, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_there_is_a_certificate_no_other_one_is_shown_for_its_name() {
    let (authority, echo) = (Authority::new(), Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pair = authority.issue(folder.path(), "file.test");
    let wildcard = authority.issue_as(folder.path(), "wildcard", "*.covered.test");
    let mut pebble = Pebble::start(9, 3600, &[]).await;
    pebble.stop();
    let certificates = format!("certificates: [{pair}, {wildcard}],");
    let secure = ordering(&pebble, &folder.path().join("acme"), "one.test, a.covered.test", &certificates);
    let gateway = Gateway::start(&settings(&format!("{REDIRECT}{secure}"), "", &echo), &["http", "https"]).await;
    let address = gateway.address("https");
    let failed = "gateway_certificate_orders_total{certificate=\"acme:one.test\",outcome=\"failed\"} ";
    until("an order has failed", ORDERED, async || metric(&gateway, failed).await.then_some(())).await;
    for (name, good) in [("file.test", true), ("a.covered.test", true), ("one.test", false)] {
        let shaken = tls::connect(address, name, &authority, &tls::H1).await;
        assert_eq!(shaken.is_ok(), good, "{name}: {:?}", shaken.err());
    }
    let refused = tls::connect(address, "one.test", &authority, &tls::H1).await.expect_err("nothing to show");
    assert!(refused.to_string().contains("alert"), "refused by the gateway, not by the client: {refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_share_certificates_by_a_folder() {
    let (echo, storage) = (Echo::start().await, tempfile::tempdir().expect("a temporary folder"));
    shared(storage.path(), storage.path(), "", &echo).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_share_certificates_by_redis() {
    let (echo, redis) = (Echo::start().await, Redis::start().await);
    let storage = tempfile::tempdir().expect("a temporary folder");
    let stores = format!("stores: {{ redis: {{ url: \"{}\", timeout: 1s }} }}\n", redis.url());
    shared(&storage.path().join("a"), &storage.path().join("b"), &stores, &echo).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_ordered_once_and_shown_by_both_gateways() {
    let (echo, storage) = (Echo::start().await, tempfile::tempdir().expect("a temporary folder"));
    let ([one, two], pebble, [at_one, at_two]) = pair(36, storage.path(), storage.path(), "", &echo).await;
    let both_show = async |earlier: Option<&Vec<u8>>| {
        let shown = pebble.certificate(at_one, "one.test").await?;
        let is_new = earlier.is_none_or(|earlier| *earlier != shown);
        (is_new && pebble.certificate(at_two, "one.test").await? == shown).then_some(shown)
    };
    let first = until("both show one", ORDERED, async || both_show(None).await).await;
    until("both show another one", ORDERED, async || both_show(Some(&first)).await).await;
    let mut orders = 0;
    for gateway in [&one, &two] {
        let name = "gateway_certificate_orders_total{certificate=\"acme:one.test\",outcome=\"ok\"}";
        orders += gateway.metric(name).await.map_or(0, |count| count.parse::<u32>().expect("a number"));
    }
    assert_eq!(orders, 2, "one for each certificate");
}

/// Two gateways that start with nothing, the first before the second.
async fn pair(
    valid_seconds: u64,
    one: &Path,
    other: &Path,
    stores: &str,
    echo: &Echo,
) -> ([Gateway; 2], Pebble, [SocketAddr; 2]) {
    let (first, pebble, at_first) = ordering_gateway(valid_seconds, one, &["one.test"], stores, echo).await;
    let listeners = format!("{HTTP}{}", ordering(&pebble, other, "one.test", ""));
    let listeners = listeners.strip_prefix("listeners:\n").expect("the settings begin with it").to_owned();
    let second = Gateway::start(&settings(&listeners, stores, echo), &["https"]).await;
    let at_second = second.address("https");
    ([first, second], pebble, [at_first, at_second])
}

/// Two gateways end up with the same certificate, ordered once.
async fn shared(one: &Path, other: &Path, stores: &str, echo: &Echo) {
    let ([first, second], pebble, [at_first, at_second]) = pair(3600, one, other, stores, echo).await;
    let ordered = until("the first has it", ORDERED, async || pebble.certificate(at_first, "one.test").await).await;
    let taken = until("the second has it", ORDERED, async || pebble.certificate(at_second, "one.test").await).await;
    assert_eq!(ordered, taken);
    let line = "gateway_certificate_orders_total{certificate=\"acme:one.test\",outcome=\"ok\"} 1";
    assert!(metric(&first, line).await != metric(&second, line).await, "one of them has ordered, once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_and_without_its_authority_the_old_one_goes_on() {
    let (echo, storage) = (Echo::start().await, tempfile::tempdir().expect("a temporary folder"));
    // A third of its time before its end it is due, whatever `renew_before` says: after 24 of 36 seconds.
    let (gateway, mut pebble, address) = ordering_gateway(36, storage.path(), &["one.test"], "", &echo).await;
    let first = until("it is ordered", ORDERED, async || pebble.certificate(address, "one.test").await).await;
    let second = until("it is renewed", ORDERED, async || {
        pebble.certificate(address, "one.test").await.filter(|shown| *shown != first)
    })
    .await;
    pebble.stop();
    let failed = "gateway_certificate_orders_total{certificate=\"acme:one.test\",outcome=\"failed\"} ";
    until("a renewal has failed", ORDERED, async || metric(&gateway, failed).await.then_some(())).await;
    assert_eq!(pebble.certificate(address, "one.test").await, Some(second), "the old one goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_may_want_a_certificate_renewed_before_its_time() {
    let (echo, storage) = (Echo::start().await, tempfile::tempdir().expect("a temporary folder"));
    let mut gateway = Gateway::start(&settings(REDIRECT, "", &echo), &["http"]).await;
    let pebble = Pebble::start(gateway.address("http").port(), 60, &["one.test"]).await;
    let advisor = Advisor::start(&pebble).await;
    let secure = ordering(&pebble, storage.path(), "one.test", "");
    let secure = secure.replace(&pebble.directory(), &advisor.directory());
    gateway.rewrite(&settings(&format!("{REDIRECT}{secure}"), "", &echo));
    gateway.reload().await.expect_status(200);
    let address = gateway.opened("https").await;
    let first = until("it is ordered", ORDERED, async || pebble.certificate(address, "one.test").await).await;
    let ordered = Instant::now();
    until("it is renewed", ORDERED, async || {
        pebble.certificate(address, "one.test").await.filter(|shown| *shown != first)
    })
    .await;
    assert!(ordered.elapsed() < Duration::from_secs(36), "by itself it is due after 40 of its 60 seconds");
    // It was asked about that certificate, and told that the new one takes its place.
    let (asked, replaced) = (advisor.asked(), advisor.replaced());
    assert!(!asked.is_empty() && replaced.first() == asked.first(), "{asked:?} {replaced:?}");
}
