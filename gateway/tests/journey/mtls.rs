//! Mutual TLS: whose certificates are accepted, what upstreams are told of them, and on what terms hands are shaken.
//!
//! Read next: `listen.rs`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use rustls::{CipherSuite, ClientConfig, HandshakeKind};
use serde_json::Value;
use tempfile::TempDir;
use testkit::wait::{PATIENCE, until, within};
use tokio::net::TcpStream;

use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::pki::{Authority, Identity};
use crate::harness::settings::{HEAD, OPEN, Pool, listeners, upstream};
use crate::harness::tls::{self, Connection, Hello, TLS12_ONLY, TLS13_ONLY};
use crate::harness::upstream::Echo;

const NAME: &str = "gateway.test";

const ALICE: &str = "spiffe://journey.test/alice";

const ROUTES: &str = "\
auth:
  certificates: { client_certificate: { subject: san_uri } }
routes:
  - { id: open, path: /open/*, auth: none, to: api }
  - { id: demanding, path: /demanding/*, auth: none, client_certificate: required, to: api }
  - { id: told, path: /told/*, auth: none, pass_client_certificate: true, to: api }
  - { id: known, path: /known/*, auth: [certificates], require: [], to: api }
";

/// What a client sends that would like to be somebody.
const SPOOFED: &[(&str, &str)] = &[("client-cert", ":cm9vdA==:"), ("client-cert-chain", ":cm9vdA==:")];

/// Every version and protocol that a client may come by.
static HELLOS: [Hello; 4] = [
    Hello { versions: TLS12_ONLY, alpn: &["http/1.1"] },
    Hello { versions: TLS12_ONLY, alpn: &["h2"] },
    Hello { versions: TLS13_ONLY, alpn: &["http/1.1"] },
    Hello { versions: TLS13_ONLY, alpn: &["h2"] },
];

/// A gateway that asks clients for certificates, before an echo.
struct Secured {
    gateway: Gateway,
    echo: Echo,
    /// Signs for the gateway.
    servers: Authority,
    /// Signs for its clients.
    clients: Authority,
    /// Holds what a reload reads again.
    folder: TempDir,
}

/// What a client was told.
#[derive(Debug)]
struct Told {
    kind: HandshakeKind,
    status: u16,
    body: Value,
}

impl Secured {
    async fn start(head: &str, mode: &str) -> Self {
        let (servers, clients, echo) = (Authority::new(), Authority::new(), Echo::start().await);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pair = servers.issue(folder.path(), NAME);
        let ca = clients.write_certificate(folder.path());
        let settings = format!(
            "{head}listeners:\n  http: {{ bind: \"127.0.0.1:0\" }}\n  https: {{ bind: \"127.0.0.1:0\", tls: {{ \
             certificates: [{pair}], client_auth: {{ ca: \"{ca}\", mode: {mode} }} }} }}\n{}{ROUTES}",
            upstream(&Pool::of(&[echo.address()])),
        );
        let gateway = Gateway::start(&settings, &["http", "https"]).await;
        Self { gateway, echo, servers, clients, folder }
    }

    /// Asks once, on a connection of its own.
    async fn ask(&self, hello: &Hello, shown: Option<&Identity>, target: &str) -> Result<Told, String> {
        Box::pin(self.ask_with(&tls::config(&self.servers, hello, shown), hello, target)).await
    }

    /// The same, with what a client remembers of earlier handshakes.
    async fn ask_with(&self, config: &Arc<ClientConfig>, hello: &Hello, target: &str) -> Result<Told, String> {
        let asked = async {
            let stream = TcpStream::connect(self.gateway.address("https")).await.expect("the gateway listens");
            let stream = tls::shake(stream, NAME, config).await.map_err(|error| error.to_string())?;
            let kind = stream.get_ref().1.handshake_kind().expect("the handshake is over");
            let connection = Connection::over(stream, NAME, hello).await;
            let mut connection = connection.map_err(|error| error.to_string())?;
            let (status, body) = connection.get_with(target, SPOOFED).await.map_err(|lost| lost.to_string())?;
            let body = serde_json::from_slice(&body).expect("every answer here is JSON");
            Ok(Told { kind, status: status.as_u16(), body })
        };
        within("an answer, or the end of the connection", PATIENCE, Box::pin(asked)).await
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("authority.crt")
    }
}

fn alice(authority: &Authority) -> Identity {
    authority.client("alice", |params| {
        params.subject_alt_names = vec![SanType::URI(ALICE.try_into().expect("ASCII"))];
    })
}

/// The certificate as RFC 9440 writes it.
fn field(shown: &Identity) -> String {
    format!(":{}:", STANDARD.encode(&shown.certificate))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_certificate_is_a_good_one_or_there_is_no_connection() {
    let secured = Secured::start(HEAD, "required").await;
    let (clients, stranger) = (&secured.clients, Authority::new());
    let edited = |edit: fn(&mut CertificateParams)| Some(clients.client("alice", edit));
    let refused = [
        ("none", None),
        ("one of another authority", Some(alice(&stranger))),
        ("one that has ended", edited(|params| params.not_after = date_time_ymd(2020, 1, 1))),
        ("one that has not begun", edited(|params| params.not_before = date_time_ymd(2999, 1, 1))),
        ("one for servers", edited(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
    ];
    let good = alice(clients);
    for hello in &HELLOS {
        let versions = hello.versions[0];
        for (what, shown) in &refused {
            let told = secured.ask(hello, shown.as_ref(), "/open/x").await;
            assert!(told.is_err(), "{what}, {versions:?}, {:?}: {told:?}", hello.alpn);
        }
        let told = secured.ask(hello, Some(&good), "/open/x").await.expect("a good certificate");
        assert_eq!(told.status, 200, "{told:?}");
    }
    assert_eq!(secured.echo.count(), HELLOS.len(), "nobody else came through");
    let failed = HELLOS.len() * refused.len();
    secured.gateway.until_metrics_say(&format!("gateway_tls_handshakes_failed_total {failed}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_optional_certificate_is_what_routes_make_of_it() {
    let secured = Secured::start(HEAD, "optional").await;
    let (alice, stranger) = (alice(&secured.clients), alice(&Authority::new()));
    for hello in &HELLOS {
        let asked = async |shown: Option<&Identity>, target: &str, status: u16, code: &str| {
            let told = secured.ask(hello, shown, target).await.expect("an answer");
            assert_eq!(told.status, status, "{target}: {told:?}");
            assert_eq!(told.body["code"].as_str().unwrap_or(""), code, "{target}: {told:?}");
        };
        let told_upstream = |name: &str| secured.echo.last().values(name).join(" | ");
        asked(None, "/open/x", 200, "").await;
        asked(None, "/demanding/x", 403, "certificate_required").await;
        asked(None, "/known/x", 401, "certificate_missing").await;
        asked(None, "/told/x", 200, "").await;
        assert_eq!(told_upstream("client-cert"), "", "there is none to tell, whatever was sent");
        asked(Some(&alice), "/demanding/x", 200, "").await;
        assert_eq!(told_upstream("client-cert"), "", "told only where the route says so");
        asked(Some(&alice), "/told/x", 200, "").await;
        assert_eq!(told_upstream("client-cert"), field(&alice));
        assert_eq!(told_upstream("client-cert-chain"), "");
        asked(Some(&alice), "/known/x", 200, "").await;
        assert_eq!(told_upstream("x-auth-subject"), ALICE);
        let refused = secured.ask(hello, Some(&stranger), "/open/x").await;
        assert!(refused.is_err(), "one that is shown must be good: {refused:?}");
    }
    let plain = client::send(client::plain().get(secured.gateway.url("/demanding/x"))).await;
    plain.expect_problem(403, "certificate_required");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_resumed_with_the_certificate_they_began_with() {
    let secured = Secured::start(HEAD, "optional").await;
    let alice = alice(&secured.clients);
    for hello in &HELLOS {
        for (shown, told) in [(None, String::new()), (Some(&alice), field(&alice))] {
            let config = tls::config(&secured.servers, hello, shown);
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
                let answer = secured.ask_with(&config, hello, "/told/x").await.expect("an answer");
                let (versions, alpn) = (hello.versions[0], hello.alpn);
                assert_eq!((answer.status, answer.kind), (200, kind), "{versions:?}, {alpn:?}");
                assert_eq!(secured.echo.last().values("client-cert").concat(), told, "{versions:?}, {alpn:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_certificate() {
    let secured = Secured::start(HEAD, "required").await;
    let end = SystemTime::now() + Duration::from_secs(5);
    let brief = secured.clients.client("brief", |params| params.not_after = end.into());
    let configs = HELLOS.each_ref().map(|hello| (hello, tls::config(&secured.servers, hello, Some(&brief))));
    for (hello, config) in &configs {
        let told = secured.ask_with(config, hello, "/open/x").await.expect("it is still good");
        assert_eq!(told.kind, HandshakeKind::Full);
    }
    until("the certificate has ended", PATIENCE, async || {
        (SystemTime::now() > end + Duration::from_secs(1)).then_some(())
    })
    .await;
    for (hello, config) in &configs {
        let told = secured.ask_with(config, hello, "/open/x").await;
        assert!(told.is_err(), "{:?}, {:?}: {told:?}", hello.versions[0], hello.alpn);
    }
    assert_eq!(secured.echo.count(), configs.len());
    secured.gateway.until_metrics_say(&format!("gateway_tls_handshakes_failed_total {}", configs.len())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorities_are_read_anew_and_a_bad_file_changes_nothing() {
    let secured = Secured::start(&HEAD.replace("drain: 10s", "drain: 10s, watch: 50ms"), "required").await;
    let others = Authority::new();
    let (old, new) = (alice(&secured.clients), alice(&others));
    let hello = &tls::H1;
    let remembering = tls::config(&secured.servers, hello, Some(&old));
    let told = secured.ask_with(&remembering, hello, "/open/x").await.expect("a good certificate");
    assert_eq!(told.kind, HandshakeKind::Full);
    assert!(secured.ask(hello, Some(&new), "/open/x").await.is_err(), "not yet trusted");
    secured.gateway.reload().await.expect_status(200);
    let told = secured.ask_with(&remembering, hello, "/open/x").await.expect("a good certificate");
    assert_eq!(told.kind, HandshakeKind::Resumed, "a reload that changes nothing takes no ticket back");

    std::fs::write(secured.ca(), others.certificate_pem()).expect("the folder can be written");
    until("the new authority is trusted", PATIENCE, async || secured.ask(hello, Some(&new), "/open/x").await.ok())
        .await;
    let told = secured.ask_with(&remembering, hello, "/open/x").await;
    assert!(told.is_err(), "who is no longer trusted cannot resume either: {told:?}");

    std::fs::write(secured.ca(), "no certificate").expect("the folder can be written");
    secured.gateway.until_metrics_say("gateway_config_last_reload_success 0").await;
    secured.ask(hello, Some(&new), "/open/x").await.expect("the last good authorities go on");
    assert!(secured.gateway.said().contains("authority.crt"), "the log names the file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_suites_that_are_named_are_spoken() {
    let (authority, echo) = (Authority::new(), Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let listeners = listeners(&[authority.issue(folder.path(), NAME)], "1.2");
    let suites = "min_version: \"1.2\", suites: [TLS13_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]";
    let listeners = listeners.replace("min_version: \"1.2\"", suites);
    let gateway = Gateway::start(&format!("{HEAD}{listeners}{upstream}{OPEN}"), &["https"]).await;
    // Left to themselves, both sides prefer AES-256.
    for (versions, suite) in [
        (TLS12_ONLY, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        (TLS13_ONLY, CipherSuite::TLS13_AES_128_GCM_SHA256),
    ] {
        let hello = Hello { versions, alpn: &["http/1.1"] };
        let shaken = tls::connect(gateway.address("https"), NAME, &authority, &hello).await;
        let stream = shaken.unwrap_or_else(|error| panic!("{suite:?}: {error}"));
        let spoken = stream.get_ref().1.negotiated_cipher_suite().expect("the handshake is over");
        assert_eq!(spoken.suite(), suite);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_when_certificates_end() {
    let (authority, echo) = (Authority::new(), Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (late, soon) = (date_time_ymd(2099, 1, 1), SystemTime::now() + Duration::from_hours(72));
    let pairs = [
        authority.issue_with(folder.path(), "late", NAME, |params| params.not_after = late),
        authority.issue_with(folder.path(), "soon", "soon.test", |params| params.not_after = soon.into()),
    ];
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let settings = |pairs: &[String]| format!("{HEAD}{}{upstream}{OPEN}", listeners(pairs, "1.2"));
    let gateway = Gateway::start(&settings(&pairs), &["https"]).await;
    let line = |stem: &str, unix_seconds: i64| {
        let file = folder.path().join(stem).with_extension("crt");
        format!("gateway_certificate_expiry_unix_seconds{{certificate=\"{}\"}} {unix_seconds}", file.display())
    };
    let soon = soon.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (late, soon) = (line("late", late.unix_timestamp()), line("soon", soon.cast_signed()));
    for line in [&late, &soon] {
        gateway.until_metrics_say(line).await;
    }
    let warnings = until("the log warns", PATIENCE, async || {
        let said = gateway.said();
        let warnings: Vec<String> =
            said.lines().filter(|line| line.contains("about to end")).map(str::to_owned).collect();
        (!warnings.is_empty()).then_some(warnings)
    })
    .await;
    assert!(warnings.len() == 1 && warnings[0].contains("soon.crt"), "{warnings:?}");

    gateway.rewrite(&settings(&pairs[..1]));
    gateway.reload().await.expect_status(200);
    let told = gateway.metrics().await;
    assert!(told.contains(&late) && !told.contains("soon.crt"), "{told}");
}
