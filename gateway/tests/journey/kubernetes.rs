//! Kubernetes: the endpoints of a service are followed as they come and go, and kept while nobody can tell of them.
//!
//! Read next: `discovery.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use testkit::install_crypto;
use testkit::wait::{PATIENCE, until, within};

use crate::harness::client;
use crate::harness::gateway::{self, Gateway};
use crate::harness::kubernetes::{Kubernetes, slice};
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, OPEN};
use crate::harness::upstream::Echo;

/// Requests that are sent to see who gets them.
const PROBES: usize = 12;

fn settings(upstream: &str) -> String {
    format!("{HEAD}{HTTP}upstreams:\n  api: {{ {upstream} }}\n{OPEN}")
}

fn ready() -> Value {
    json!({ "ready": true, "serving": true, "terminating": false })
}

fn leaving() -> Value {
    json!({ "ready": false, "serving": true, "terminating": true })
}

/// A slice of these, all ready.
fn of(echoes: &[&Echo]) -> Value {
    let endpoints: Vec<_> = echoes.iter().map(|echo| (echo.address(), ready())).collect();
    slice(echoes[0].address().port(), &endpoints)
}

/// Waits until each of `on` gets requests and none of `off` does, whoever else may be asking.
async fn serve(what: &str, gateway: &Gateway, on: &[&Echo], off: &[&Echo]) {
    until(what, PATIENCE, async || {
        let counts = |echoes: &[&Echo]| echoes.iter().map(|echo| echo.count()).collect::<Vec<_>>();
        let (on_before, off_before) = (counts(on), counts(off));
        for _ in 0..PROBES {
            client::send(client::plain().get(gateway.url("/x"))).await.expect_status(200);
        }
        let each = on.iter().zip(&on_before).all(|(echo, before)| echo.count() > *before);
        (each && counts(off) == off_before).then_some(())
    })
    .await;
}

/// Asks without a pause until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Load {
    fn start(gateway: &Gateway) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (until, count, url) = (Arc::clone(&stop), Arc::clone(&asked), gateway.url("/x"));
        let task = tokio::spawn(async move {
            let (client, mut failures) = (client::plain(), Vec::new());
            while !until.load(Ordering::SeqCst) {
                match client::try_send(client.get(&url)).await {
                    Ok(answer) if answer.status == 200 => {}
                    other => failures.push(format!("{other:?}")),
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
            failures
        });
        Self { stop, asked, task }
    }

    /// Ends it, and fails when a request did.
    async fn expect_no_failure(self) {
        self.stop.store(true, Ordering::SeqCst);
        let failures = within("the load ends", PATIENCE, self.task).await.expect("the load does not panic");
        assert!(failures.is_empty(), "{failures:?}");
        assert!(self.asked.load(Ordering::SeqCst) > PROBES, "there was load");
    }
}

/// A gateway that follows a service with this endpoint, as soon as it watches.
async fn following(endpoint: &Echo) -> (Kubernetes, Gateway) {
    let kubernetes = Kubernetes::start(100).await;
    kubernetes.put("api-a", of(&[endpoint]));
    let gateway = Gateway::plain(&settings(&kubernetes.discovery("http"))).await;
    serve_first(&gateway).await;
    until("a watch", PATIENCE, async || (kubernetes.counts().watches == 1).then_some(())).await;
    (kubernetes, gateway)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_come_and_go_under_load_without_a_failed_request() {
    let echoes = Echo::start_row(41, 4).await;
    let [one, two, three, four] = &echoes[..] else { panic!("four") };
    // One slice on a page: the list has to be read to its end.
    let kubernetes = Kubernetes::start(1).await;
    kubernetes.put("api-a", of(&[one]));
    kubernetes.put("api-b", of(&[two]));
    let gateway = Gateway::plain(&settings(&kubernetes.discovery("http"))).await;
    serve_first(&gateway).await;
    serve("both slices", &gateway, &[one, two], &[three, four]).await;
    assert_eq!((kubernetes.counts().lists, kubernetes.counts().pages), (1, 2));
    let load = Load::start(&gateway);
    kubernetes.put("api-c", of(&[three, two]));
    serve("a slice that was added", &gateway, &[one, two, three], &[four]).await;
    kubernetes.bookmark();
    kubernetes.put("api-c", of(&[three, four]));
    serve("a slice that was changed", &gateway, &[one, two, three, four], &[]).await;
    kubernetes.remove("api-a");
    serve("a slice that was taken away", &gateway, &[two, three, four], &[one]).await;
    let port = two.address().port();
    kubernetes.put("api-b", slice(port, &[(two.address(), leaving())]));
    serve("without one that is about to end", &gateway, &[three, four], &[one, two]).await;
    kubernetes
        .put("api-c", slice(port, &[(three.address(), json!({ "ready": false })), (four.address(), leaving())]));
    serve("nobody is ready, so those about to end", &gateway, &[two, four], &[one, three]).await;
    let watches = kubernetes.counts().watches;
    kubernetes.end_watches();
    until("the next watch", PATIENCE, async || (kubernetes.counts().watches > watches).then_some(())).await;
    kubernetes.put("api-d", of(&[one]));
    serve("one that is ready again", &gateway, &[one], &[two, three, four]).await;
    load.expect_no_failure().await;
    let counts = kubernetes.counts();
    assert_eq!((counts.lists, counts.refused, counts.expired), (1, 0, 0), "watched from one list on");
}

/// Waits until anybody is known.
async fn serve_first(gateway: &Gateway) {
    until("a first server", PATIENCE, async || {
        (client::send(client::plain().get(gateway.url("/x"))).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_endpoints_is_our_503_and_not_the_pods_of_before() {
    let echoes = Echo::start_row(46, 1).await;
    let kubernetes = Kubernetes::start(100).await;
    let gateway = Gateway::plain(&settings(&kubernetes.discovery(&echoes[0].address().port().to_string()))).await;
    until("it is told that there is nobody", PATIENCE, async || gateway.said().contains("no endpoint").then_some(()))
        .await;
    client::send(client::plain().get(gateway.url("/x"))).await.expect_problem(503, "upstream_unavailable");
    kubernetes.put("api-a", of(&[&echoes[0]]));
    serve_first(&gateway).await;
    // Its address may be another pod's soon.
    kubernetes.remove("api-a");
    until("nobody is left", PATIENCE, async || {
        let answer = client::send(client::plain().get(gateway.url("/x"))).await;
        (answer.status == 503).then(|| answer.expect_problem(503, "upstream_unavailable"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_the_last_known_serve_and_then_it_is_listed_anew() {
    let echoes = Echo::start_row(51, 2).await;
    let [one, two] = &echoes[..] else { panic!("two") };
    let mut kubernetes = Kubernetes::start(100).await;
    kubernetes.put("api-a", of(&[one]));
    let gateway = Gateway::plain(&settings(&kubernetes.discovery("http"))).await;
    serve_first(&gateway).await;
    let load = Load::start(&gateway);
    kubernetes.stop().await;
    until("the loss is told", PATIENCE, async || gateway.said().contains("servers cannot be found").then_some(()))
        .await;
    serve("the last that was known", &gateway, &[one], &[two]).await;
    gateway.reload().await.expect_status(200);
    serve("the same after a reload", &gateway, &[one], &[two]).await;
    kubernetes.put("api-a", of(&[two]));
    kubernetes.resume().await;
    serve("what changed meanwhile", &gateway, &[two], &[one]).await;
    until("the end is told", PATIENCE, async || gateway.said().contains("can be found again").then_some(())).await;
    load.expect_no_failure().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_rotated_is_read_anew() {
    let echoes = Echo::start_row(56, 2).await;
    let [one, two] = &echoes[..] else { panic!("two") };
    let (kubernetes, gateway) = following(one).await;
    kubernetes.rotate("second");
    kubernetes.end_watches();
    until("a watch with the new token", PATIENCE, async || (kubernetes.counts().watches == 2).then_some(())).await;
    kubernetes.put("api-a", of(&[two]));
    serve("what the new watch told", &gateway, &[two], &[one]).await;
    assert_eq!((kubernetes.counts().refused, kubernetes.counts().lists), (0, 1));
    for token in ["first", "second"] {
        assert!(!gateway.said().contains(&format!("Bearer {token}")), "a token in the log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_is_gone_is_answered_by_a_new_list() {
    let echoes = Echo::start_row(61, 2).await;
    let [one, two] = &echoes[..] else { panic!("two") };
    let (kubernetes, gateway) = following(one).await;
    let load = Load::start(&gateway);
    kubernetes.put_and_forget("api-a", of(&[two]));
    serve("what no watch has told", &gateway, &[two], &[one]).await;
    let counts = kubernetes.counts();
    assert_eq!((counts.expired, counts.lists), (1, 2));
    kubernetes.put("api-b", of(&[one]));
    serve("what the watch after it tells", &gateway, &[one, two], &[]).await;
    load.expect_no_failure().await;
    assert!(!gateway.said().contains("servers cannot be found"), "{}", gateway.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_authority_is_not_believed_and_gets_no_token() {
    install_crypto();
    let echoes = Echo::start_row(66, 1).await;
    let kubernetes = Kubernetes::start(100).await;
    kubernetes.put("api-a", of(&[&echoes[0]]));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let other = Authority::new().write_certificate(folder.path());
    let discovery = kubernetes.discovery("http");
    let start = discovery.find("ca: \"").expect("it names the authorities") + 5;
    let end = start + discovery[start..].find('"').expect("the end of the path");
    let gateway = Gateway::plain(&settings(&format!("{}{other}{}", &discovery[..start], &discovery[end..]))).await;
    until("it is told", PATIENCE, async || gateway.said().contains("could not be asked").then_some(())).await;
    client::send(client::plain().get(gateway.url("/x"))).await.expect_problem(503, "upstream_unavailable");
    let counts = kubernetes.counts();
    assert_eq!((counts.lists, counts.watches, counts.refused), (0, 0, 0));
}

#[test]
fn files_that_are_not_there_are_mistakes_at_their_keys() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ca = authority.write_certificate(folder.path());
    let common = "service: api, namespace: shop, server: \"https://127.0.0.1:1\"";
    let cases = [
        ("ca: /nowhere/ca.crt".to_owned(), "discovery.kubernetes.ca"),
        (format!("ca: \"{ca}\", token: \"file:/nowhere/token\""), "discovery.kubernetes.token"),
    ];
    for (keys, place) in cases {
        let upstream = format!("discovery: {{ kubernetes: {{ {common}, {keys} }} }}");
        let file = gateway::write_settings(folder.path(), &settings(&upstream));
        let checked = gateway::command("check", &file).output().expect("the program starts");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(!checked.status.success() && said.contains(place) && said.contains("/nowhere/"), "{keys}: {said}");
    }
}
