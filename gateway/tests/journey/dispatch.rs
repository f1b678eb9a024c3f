//! Dispatch: send it on, to whom it is worth it. Balancing, health, retries, and the upstream's faults.
//!
//! Upstreams that are stopped and started again listen on addresses of their own within 127.0.0.0/8, so that nobody
//! else takes their port meanwhile. Read next: `shutdown.rs`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use testkit::wait::{PATIENCE, until, within};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::harness::client::{self, Answer};
use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, OPEN, PROBE_EVERY_MS, Pool, upstream};
use crate::harness::upstream::{Echo, Fault, Faulty};

/// "At once", with room for a busy machine: far below any timeout in the settings.
const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_of_balancing_spread_the_load() {
    const WORKERS: usize = 8;
    const REQUESTS_EACH: usize = 5;
    for balance in ["round_robin", "least_requests"] {
        let echoes = [Echo::start().await, Echo::start().await];
        let gateway = gateway(&Pool::of(&[echoes[0].address(), echoes[1].address()]).balance(balance)).await;
        let client = client::plain();
        join_all((0..WORKERS).map(|_| async {
            for _ in 0..REQUESTS_EACH {
                client::send(client.get(gateway.url("/x?delay_ms=20"))).await.expect_status(200);
            }
        }))
        .await;
        let counts = [echoes[0].count(), echoes[1].count()];
        assert_eq!(counts.iter().sum::<usize>(), WORKERS * REQUESTS_EACH, "{balance}: {counts:?}");
        assert!(counts.iter().all(|count| *count >= WORKERS * REQUESTS_EACH / 4), "{balance}: {counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn least_requests_avoids_the_busy_one() {
    let echoes = [Echo::start().await, Echo::start().await];
    let targets = [echoes[0].address(), echoes[1].address()];
    let gateway = gateway(&Pool::of(&targets).balance("least_requests")).await;
    let client = client::plain();
    let busy = tokio::spawn(client.get(gateway.url("/busy?delay_ms=1500")).send());
    until("the slow request is at one of them", PATIENCE, async || {
        (echoes[0].count() + echoes[1].count() == 1).then_some(())
    })
    .await;
    let idle = usize::from(echoes[0].count() == 1);
    for _ in 0..10 {
        client::send(client.get(gateway.url("/x"))).await.expect_status(200);
    }
    assert_eq!(echoes[idle].count(), 10, "all others go to the one that is idle");
    let busy = within("the slow request is answered", PATIENCE, busy).await.expect("the task runs to its end");
    assert!(busy.is_ok_and(|answer| answer.status() == 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_upstreams_dies_under_load_and_nobody_notices() {
    let (first, second) = (Echo::start_at(own(71)).await, Echo::start_at(own(72)).await);
    let gateway = gateway(&Pool::of(&[first.address(), second.address()]).probed()).await;
    serving(&gateway).await;
    let load = Load::start(&gateway);
    load.answered(200).await;
    first.stop().await;
    let survivor_before = second.count();
    load.answered(400).await;
    let failures = load.stop().await;
    assert!(failures.is_empty(), "{} failed, such as {:?}", failures.len(), failures.first());
    // Each worker may have had one answer of the first still to count.
    assert!(second.count() - survivor_before >= 400 - Load::WORKERS, "the survivor has taken over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_upstreams_it_is_503_at_once_and_recovery_takes_two_probes() {
    let (first, second) = (Echo::start_at(own(73)).await, Echo::start_at(own(74)).await);
    let targets = [first.address(), second.address()];
    let gateway = gateway(&Pool::of(&targets).probed()).await;
    serving(&gateway).await;
    first.stop().await;
    second.stop().await;
    for attempt in 0..5 {
        let start = Instant::now();
        let answer = client::send(client::plain().get(gateway.url("/x"))).await;
        assert!(start.elapsed() < AT_ONCE, "attempt {attempt} took {:?}", start.elapsed());
        answer.expect_problem(503, "upstream_unavailable");
        assert!(answer.header("retry-after").parse::<u64>().is_ok(), "{answer:?}");
    }
    // Long enough for the probes to have noticed, so that recovery is theirs to find.
    let metric = "gateway_upstream_healthy{";
    until("the probes have given both up", PATIENCE, async || {
        let metrics = gateway.metrics().await;
        let mut gauges = metrics.lines().filter(|line| line.starts_with(metric)).peekable();
        (gauges.peek().is_some() && gauges.all(|line| line.ends_with(" 0"))).then_some(())
    })
    .await;

    let back = Instant::now();
    let _restarted = (Echo::start_at(targets[0]).await, Echo::start_at(targets[1]).await);
    // Two probes must succeed; the first is due within one interval. The rest is for the machine.
    let limit = Duration::from_millis(2 * PROBE_EVERY_MS) + Duration::from_millis(750);
    until("they are served again within two probe intervals", limit, async || {
        let answer = client::send(client::plain().get(gateway.url("/x"))).await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert!(back.elapsed() < limit, "recovery took {:?}", back.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_never_answers_is_504_in_its_time() {
    let silent = Faulty::start(Fault::Silence).await;
    let gateway = gateway(&Pool::of(&[silent.address]).first_byte("400ms")).await;
    let start = Instant::now();
    let answer = client::send(client::plain().post(gateway.url("/x")).body("once")).await;
    answer.expect_problem(504, "upstream_timeout");
    let took = start.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert_eq!(silent.count(), 1, "a POST that may have had its effect is not sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_is_never_sent_twice() {
    let hanging_up = Faulty::start(Fault::HangUp).await;
    let other = Echo::start().await;
    // The second target would answer: that it is not asked is the promise.
    let gateway = gateway(&Pool::of(&[hanging_up.address, other.address()])).await;
    let mut refused = 0;
    for _ in 0..4 {
        let answer = client::send(client::plain().post(gateway.url("/x")).body("once")).await;
        if answer.status != 200 {
            answer.expect_problem(502, "upstream_failed");
            refused += 1;
        }
    }
    assert!(refused >= 1, "round robin has come by the faulty target");
    assert_eq!(hanging_up.count(), refused, "one attempt for each refusal");
    assert_eq!(hanging_up.count() + other.count(), 4, "one attempt for each request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_is_sent_again_to_another_target() {
    let hanging_up = Faulty::start(Fault::HangUp).await;
    let other = Echo::start().await;
    let gateway = gateway(&Pool::of(&[hanging_up.address, other.address()])).await;
    for _ in 0..4 {
        client::send(client::plain().get(gateway.url("/x"))).await.expect_status(200);
    }
    assert!(hanging_up.count() >= 1, "round robin has come by the faulty target");
    assert_eq!(other.count(), 4);
    let line = gateway.access_log("a request of two attempts", |line| line["attempts"] == 2).await;
    assert_eq!(line["upstream"], other.address().to_string(), "the log names who answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_not_http_is_502() {
    let faulty = Faulty::start(Fault::Garbage).await;
    let gateway = gateway(&Pool::of(&[faulty.address])).await;
    let answer = client::send(client::plain().post(gateway.url("/x")).body("once")).await;
    assert!(matches!(code(&answer).as_str(), "upstream_protocol" | "upstream_failed"), "{answer:?}");
    answer.expect_problem(502, &code(&answer));
    assert_eq!(faulty.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_never_looks_complete() {
    let faulty = Faulty::start(Fault::CutShort).await;
    let gateway = gateway(&Pool::of(&[faulty.address])).await;
    let answer = client::try_send(client::plain().get(gateway.url("/x"))).await;
    assert!(answer.as_ref().map_or(true, |answer| answer.status == 502), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_over_tls_must_show_the_right_certificate() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let folders = [0; 2].map(|_| tempfile::tempdir().expect("a temporary folder"));
    let trusted = authority.write_certificate(folders[0].path());
    let untrusted = stranger.write_certificate(folders[1].path());
    let address = secure_upstream(authority.acceptor("api.test")).await;
    for (name, ca, sound) in
        [("api.test", &trusted, true), ("other.test", &trusted, false), ("api.test", &untrusted, false)]
    {
        let settings = |health: &str| {
            format!(
                "{HEAD}{HTTP}upstreams:\n  api: {{ targets: [\"{address}\"], tls: {{ name: {name}, ca: \"{ca}\" }}{health} \
                 }}\n{OPEN}"
            )
        };
        let checking = Gateway::plain(&settings(", health: { http: /health, every: 100ms, down_after: 1 }")).await;
        let gauge =
            format!("gateway_upstream_healthy{{endpoint=\"{address}\",upstream=\"api\"}} {}", u8::from(sound));
        checking.until_metrics_say(&gauge).await;
        // Requests judge for themselves: without checks, every target counts as fit.
        let gateway = Gateway::plain(&settings("")).await;
        let answer = client::send(client::plain().get(gateway.url("/x"))).await;
        if sound {
            assert_eq!(&answer.expect_status(200).body[..], b"over TLS");
        } else {
            answer.expect_problem(503, "upstream_unavailable");
        }
    }
}

/// An upstream that speaks TLS.
async fn secure_upstream(acceptor: TlsAcceptor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not believe the certificate hangs up: that is what two of the cases are about.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answer = service_fn(async |_| {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"over TLS"))))
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
    address
}

/// A gateway with one open route before this pool.
async fn gateway(pool: &Pool) -> Gateway {
    Gateway::plain(&format!("{HEAD}{HTTP}{}{OPEN}", upstream(pool))).await
}

/// An address that no other test uses, on a port of the system's choice.
fn own(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 0))
}

/// Waits until the first probes are through and requests are served.
async fn serving(gateway: &Gateway) {
    until("the upstreams are found fit", PATIENCE, async || {
        let answer = client::send(client::plain().get(gateway.url("/x"))).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// The code of a problem.
fn code(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}

/// GETs from several clients at once, until it is stopped.
struct Load {
    workers: Vec<JoinHandle<()>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    stopped: AtomicBool,
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load {
    const WORKERS: usize = 4;

    /// Requests of one worker: the bound of the load, should nobody stop it.
    const REQUESTS_MAX: usize = 3_000;

    fn start(gateway: &Gateway) -> Self {
        let state = Arc::new(State::default());
        let worker = |_| {
            let (url, state) = (gateway.url("/load"), Arc::clone(&state));
            tokio::spawn(async move {
                let client = client::plain();
                for _ in 0..Self::REQUESTS_MAX {
                    if state.stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    let failure = match client::try_send(client.get(&url)).await {
                        Ok(answer) if answer.status == 200 => None,
                        Ok(answer) => Some(format!("{answer:?}")),
                        Err(error) => Some(format!("{error:?}")),
                    };
                    state.failures.lock().expect("no worker panicked").extend(failure);
                    state.answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let workers = (0..Self::WORKERS).map(worker).collect();
        Self { workers, state }
    }

    /// Waits until so many more requests have been answered.
    async fn answered(&self, more: usize) {
        let goal = self.state.answered.load(Ordering::SeqCst) + more;
        until(&format!("{more} more requests are answered"), PATIENCE, async || {
            (self.state.answered.load(Ordering::SeqCst) >= goal).then_some(())
        })
        .await;
    }

    /// Ends the load, and tells what failed.
    async fn stop(self) -> Vec<String> {
        self.state.stopped.store(true, Ordering::SeqCst);
        for worker in self.workers {
            within("a worker ends", PATIENCE, worker).await.expect("no worker panics");
        }
        let mut failures = self.state.failures.lock().expect("no worker panicked");
        std::mem::take(&mut *failures)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_keeps_its_connection_is_told_of_every_failure() {
    let faulty = Faulty::start(Fault::HangUp).await;
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{}{OPEN}", upstream(&Pool::of(&[faulty.address])))).await;
    let client = client::plain();
    for _ in 0..200 {
        client::send(client.get(gateway.url("/x"))).await.expect_problem(502, "upstream_failed");
    }
}
