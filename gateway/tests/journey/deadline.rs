//! Deadline: a bound on the whole request, told to whoever is asked next.
//!
//! Read next: `dispatch.rs` for the bounds of a single wait.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use testkit::wait::{PATIENCE, until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::egress::{SWITCH, UPGRADE, by_hand, read_until};
use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, listeners, targets as at};
use crate::harness::tls::{Connection, H2};
use crate::harness::upstream::{Echo, Fault, Faulty};
use crate::harness::wire;

/// What a proxy in front tells of its patience, and what upstreams are told.
const TOLD: &str = "x-envoy-expected-rq-timeout-ms";

/// In time: not before, and with room for a busy machine far below every other wait in the settings.
const IN_TIME: Range<Duration> = Duration::from_millis(390)..Duration::from_secs(3);

async fn gateway(upstream: &str, routes: &[&str]) -> Gateway {
    let routes: Vec<_> = routes.iter().map(|route| format!("  - {{ auth: none, to: api, {route} }}\n")).collect();
    Gateway::plain(&format!("{HEAD}{HTTP}upstreams:\n  api: {{ {upstream} }}\nroutes:\n{}", routes.concat())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_begin_in_time_is_504() {
    let silent = Faulty::start(Fault::Silence).await;
    let gateway = gateway(&at(&[silent.address]), &["id: open, path: /*, deadline: 400ms"]).await;
    for request in [client::plain().get(gateway.url("/x")), client::plain().post(gateway.url("/x")).body("once")] {
        let start = Instant::now();
        let problem = client::send(request).await.expect_problem(504, "upstream_timeout");
        assert!(IN_TIME.contains(&start.elapsed()), "{:?}: {problem}", start.elapsed());
    }
    let line = gateway.access_log("whose time it was", |line| line["code"] == "upstream_timeout").await;
    assert_eq!((&line["policy"], &line["outcome"]), (&"deadline".into(), &"refused".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_and_the_pauses_between_them_have_one_deadline() {
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(Faulty::start(Fault::Silence).await);
    }
    let targets = at(&silent.iter().map(|silent| silent.address).collect::<Vec<_>>());
    let pool = format!("{targets}, retry: {{ attempts: 4, per_try: 200ms, backoff: 1ms }}");
    let patient = gateway(&pool, &["id: open, path: /*, deadline: 500ms"]).await;
    let start = Instant::now();
    client::send(client::plain().get(patient.url("/x"))).await.expect_problem(504, "upstream_timeout");
    assert!(IN_TIME.contains(&start.elapsed()), "{:?}", start.elapsed());
    let line = patient.access_log("a further attempt", |line| line["policy"] == "deadline").await;
    assert!(line["attempts"].as_u64() >= Some(2), "{line}");

    // A pause that is longer than what is left: the next attempt could not be answered, and is not made.
    let pool = format!("{targets}, retry: {{ attempts: 4, per_try: 100ms, backoff: 5s }}");
    let hasty = gateway(&pool, &["id: open, path: /*, deadline: 1s"]).await;
    let start = Instant::now();
    client::send(client::plain().get(hasty.url("/x"))).await.expect_problem(504, "upstream_timeout");
    assert!(start.elapsed() < Duration::from_secs(1), "nothing is waited for in vain: {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_place_past_the_deadline() {
    let echo = Echo::start().await;
    let pool = format!("{}, breaker: {{ max_requests: 1, pending_timeout: 10s }}", at(&[echo.address()]));
    let gateway = gateway(&pool, &["id: slow, path: /slow", "id: open, path: /*, deadline: 400ms"]).await;
    let slow = tokio::spawn(client::plain().get(gateway.url("/slow?delay_ms=4000")).send());
    until("the place is taken", PATIENCE, async || (echo.count() == 1).then_some(())).await;
    let start = Instant::now();
    client::send(client::plain().get(gateway.url("/x"))).await.expect_problem(504, "upstream_timeout");
    assert!(IN_TIME.contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(echo.count(), 1, "it was never sent");
    slow.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_goes_on_is_cut_unless_the_route_lets_it() {
    let trickle = trickle(Duration::from_millis(1500)).await;
    let routes = [
        "id: whole, path: /whole, deadline: 400ms",
        "id: head, path: /head, deadline: 400ms, deadline_until: head",
        "id: pause, path: /pause, deadline: 400ms, deadline_until: head",
        "id: free, path: /free",
    ];
    let gateway = gateway(&at(&[trickle]), &routes).await;
    let start = Instant::now();
    let cut = client::try_send(client::plain().get(gateway.url("/whole"))).await;
    assert!(cut.is_err(), "what was cut never looks complete: {cut:?}");
    assert!(
        IN_TIME.contains(&start.elapsed()) && start.elapsed() < Duration::from_millis(1400),
        "{:?}",
        start.elapsed()
    );
    let line = gateway.access_log("why it was cut", |line| line["route"] == "whole").await;
    assert_eq!((&line["outcome"], &line["status"]), (&"deadline".into(), &200.into()));
    for path in ["/head", "/pause", "/free"] {
        let whole = client::send(client::plain().get(gateway.url(path))).await;
        assert!(whole.expect_status(200).body.ends_with(b"end"), "{path}: {whole:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_falls_silent_half_way_is_cut_too() {
    // A piece, and then nothing for longer than anybody waits.
    let silent = trickle(Duration::from_millis(1)).await;
    let gateway = gateway(&at(&[silent]), &["id: open, path: /*, deadline: 400ms"]).await;
    let start = Instant::now();
    let cut = client::try_send(client::plain().get(gateway.url("/silent"))).await;
    assert!(cut.is_err() && IN_TIME.contains(&start.elapsed()), "{:?}: {cut:?}", start.elapsed());
    let line = gateway.access_log("why it was cut", |line| line["route"] == "open").await;
    assert_eq!(line["outcome"], "deadline");
    // A body of which a part never comes.
    let start = Instant::now();
    let half = b"POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf";
    let answer = wire::ask(gateway.address("http"), half).await.expect("an answer");
    answer.expect_problem(504, "upstream_timeout");
    assert!(IN_TIME.contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_with_its_request() {
    let echo = Echo::start().await;
    let gateway =
        gateway(&at(&[echo.address()]), &["id: bound, path: /bound, deadline: 400ms", "id: free, path: /free"]).await;
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let last = "GET /bound HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    // On one connection: what follows takes longer than the deadline of the first.
    let said = wire::converse(gateway.address("http"), &[&get("/bound"), &get("/free?delay_ms=900"), last]).await;
    assert_eq!(said.matches("HTTP/1.1 200").count(), 3, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_are_told_what_is_left_and_clients_have_little_say() {
    let echo = Echo::start().await;
    let routes = ["id: bound, path: /bound, deadline: 20s", "id: free, path: /free"];
    let gateway = gateway(&at(&[echo.address()]), &routes).await;
    // Who asks, with what, and the most and the least that the upstream is told; nothing where there is neither.
    for (from, path, told, expected) in [
        (1, "/bound", None, Some(10_000..=20_000)),
        (1, "/bound", Some("5"), Some(10_000..=20_000)),
        (9, "/bound", Some("5000"), Some(1..=5000)),
        (9, "/bound", Some("500000"), Some(10_000..=20_000)),
        (9, "/bound", Some("soon"), Some(10_000..=20_000)),
        (1, "/free", Some("5"), None),
        (9, "/free", Some("5"), Some(5..=5)),
    ] {
        let mut request = client::plain_from(from).get(gateway.url(path));
        if let Some(told) = told {
            request = request.header(TOLD, told).header("X-Forwarded-For", "192.0.2.1");
        }
        client::send(request).await.expect_status(200);
        let seen = echo.last();
        let values: Vec<u64> = seen.values(TOLD).iter().map(|value| value.parse().expect("a number")).collect();
        match expected {
            None => assert!(values.is_empty(), "{from} {path} {told:?}: {values:?}"),
            Some(expected) => {
                assert!(values.len() == 1 && expected.contains(&values[0]), "{from} {path} {told:?}: {values:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_client_brings_its_own_deadline() {
    let (echo, silent) = (Echo::start().await, Faulty::start(Fault::Silence).await);
    let call = |gateway: &Gateway, timeout: &str| {
        let call = client::plain().post(gateway.url("/echo.Echo/Say")).header("content-type", "application/grpc");
        call.header("grpc-timeout", timeout.to_owned()).body("message")
    };
    let bound = gateway(&at(&[echo.address()]), &["id: open, path: /*, deadline: 20s"]).await;
    for (sent, most) in [("4S", 4000), ("1H", 20_000), ("nonsense", 20_000)] {
        client::send(call(&bound, sent)).await.expect_status(200);
        let seen = echo.last();
        let told = seen.values("grpc-timeout").concat();
        let left: u64 = told.strip_suffix('m').and_then(|left| left.parse().ok()).expect("milliseconds");
        assert!(left <= most && left > most / 2, "{sent}: {told}");
        assert_eq!(seen.values(TOLD), [left.to_string()], "{sent}");
    }
    let impatient = gateway(&at(&[silent.address]), &["id: open, path: /*, deadline: 20s"]).await;
    let start = Instant::now();
    let answer = client::send(call(&impatient, "400m")).await;
    assert!(IN_TIME.contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!((answer.status, answer.header("grpc-status")), (200, "4"), "DEADLINE_EXCEEDED: {answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_server_is_left_out_for_the_patience_of_a_client() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let trickle = trickle(Duration::from_millis(1500)).await;
    let gateway = Gateway::start(
        &format!(
            "{HEAD}{listeners}upstreams:\n  api: {{ {}, eject: {{ after: 1, for: 1m }} }}\nroutes:\n  - {{ id: open, path: /*, \
             auth: none, to: api, deadline: 20s, deadline_until: head }}\n",
            at(&[trickle])
        ),
        &["http", "https"],
    )
    .await;
    let opened = Connection::open(gateway.address("https"), "gateway.test", &authority, &H2).await;
    let mut connection = opened.expect("a TLS connection");
    // Its head comes at once; the pause behind it is longer than the client's patience.
    let call = [("content-type", "application/grpc"), ("grpc-timeout", "400m")];
    let cut = connection.get_with("/pause", &call).await;
    assert!(cut.is_err(), "what was cut never looks complete: {cut:?}");
    let line = gateway.access_log("why it was cut", |line| line["path"] == "/pause").await;
    assert_eq!(line["outcome"], "deadline");
    client::send(client::plain().get(gateway.url("/head"))).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_a_deadline_ends_its_stream_and_no_other() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let nobody = Faulty::start(Fault::Silence).await;
    let (slow, stuck) = (trickle(Duration::from_millis(1500)).await, trickle(Duration::from_millis(1)).await);
    let gateway = Gateway::start(
        &format!(
            "{HEAD}{listeners}upstreams:\n  nobody: {{ {} }}\n  slow: {{ {} }}\n  stuck: {{ {} }}\nroutes:\n  \
             - {{ id: nothing, path: /nothing, auth: none, to: nobody, deadline: 400ms }}\n  \
             - {{ id: whole, path: /whole, auth: none, to: slow, deadline: 400ms }}\n  \
             - {{ id: silent, path: /silent, auth: none, to: stuck, deadline: 400ms }}\n  \
             - {{ id: head, path: /head, auth: none, to: slow, deadline: 400ms, deadline_until: head }}\n",
            at(&[nobody.address]),
            at(&[slow]),
            at(&[stuck])
        ),
        &["https"],
    )
    .await;
    let opened = Connection::open(gateway.address("https"), "gateway.test", &authority, &H2).await;
    let mut connection = opened.expect("a TLS connection");
    let start = Instant::now();
    let (status, body) = connection.get("/nothing", None).await.expect("an answer");
    assert_eq!(status, 504, "{body:?}");
    assert!(String::from_utf8_lossy(&body).contains("upstream_timeout"), "{body:?}");
    assert!(IN_TIME.contains(&start.elapsed()), "{:?}", start.elapsed());
    for path in ["/whole", "/silent"] {
        let start = Instant::now();
        let cut = connection.get(path, None).await;
        assert!(cut.is_err() && IN_TIME.contains(&start.elapsed()), "{path} {:?}: {cut:?}", start.elapsed());
        let line = gateway.access_log("why it was cut", |line| line["path"] == path).await;
        assert_eq!((&line["outcome"], &line["protocol"]), (&"deadline".into(), &"h2".into()), "{line}");
    }
    // The same connection goes on, and what is bound by its head alone is as long as it likes.
    let (status, body) = connection.get("/head", None).await.expect("an answer");
    assert!(status == 200 && body.ends_with(b"end"), "{status} {body:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_ends_with_its_deadline_unless_that_is_for_its_head() {
    let (address, mut upstream_side) = by_hand().await;
    let bound = "path: /chat, websocket: true, deadline: 400ms";
    let upgraded = async |gateway: &Gateway, upstream_side: &mut tokio::sync::mpsc::Receiver<TcpStream>| {
        let mut client = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
        client.write_all(UPGRADE).await.expect("sent");
        let mut server = within("the upgrade arrives", PATIENCE, upstream_side.recv()).await.expect("a connection");
        read_until(&mut server, "\r\n\r\n").await;
        server.write_all(SWITCH).await.expect("sent");
        read_until(&mut client, "\r\n\r\n").await;
        (client, server)
    };

    let whole = gateway(&at(&[address]), &[&format!("id: chat, {bound}")]).await;
    let start = Instant::now();
    let (mut client, mut server) = upgraded(&whole, &mut upstream_side).await;
    client.write_all(b"<ping>").await.expect("sent");
    read_until(&mut server, "<ping>").await;
    let end = within("the gateway cuts it", PATIENCE, client.read(&mut [0])).await;
    assert!(matches!(end, Ok(0) | Err(_)) && IN_TIME.contains(&start.elapsed()), "{:?}: {end:?}", start.elapsed());
    let line = whole.access_log("why it was cut", |line| line["route"] == "chat").await;
    assert_eq!((&line["outcome"], &line["status"]), (&"deadline".into(), &101.into()), "{line}");

    let head = gateway(&at(&[address]), &[&format!("id: chat, {bound}, deadline_until: head")]).await;
    let (mut client, mut server) = upgraded(&head, &mut upstream_side).await;
    // Silence, longer than the deadline, is what is tested: nothing may end it.
    let silence = tokio::time::timeout(Duration::from_millis(900), client.read(&mut [0])).await;
    assert!(silence.is_err(), "it was cut: {silence:?}");
    server.write_all(b"<pong>").await.expect("sent");
    read_until(&mut client, "<pong>").await;
}

/// A server whose answers come piece by piece for so long, but that to `/pause` with nothing in between; that to `/silent` stops
/// there, and one to a POST never comes.
async fn trickle(time: Duration) -> SocketAddr {
    const PIECE_EVERY: Duration = Duration::from_millis(50);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                let Ok(bytes @ 1..) = stream.read(&mut asked).await else { return };
                let asked = String::from_utf8_lossy(&asked[..bytes]).into_owned();
                if asked.starts_with("POST") {
                    // Until the gateway hangs up.
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    return;
                }
                let start = Instant::now();
                let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
                // Once it is cut, nobody reads on.
                let mut open = stream.write_all(head).await.is_ok();
                if asked.starts_with("GET /pause ") {
                    tokio::time::sleep(time).await;
                }
                while open && start.elapsed() < time {
                    open = stream.write_all(b"1\r\nx\r\n").await.is_ok();
                    tokio::time::sleep(PIECE_EVERY).await;
                }
                if asked.starts_with("GET /silent ") {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                } else if open {
                    let _ = stream.write_all(b"3\r\nend\r\n0\r\n\r\n").await;
                }
            });
        }
    });
    address
}
