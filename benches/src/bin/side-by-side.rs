//! Side by side: what a request costs the gateway, and what it costs its peers, in one run.
//!
//! For: `make bench`. May touch: the programs it starts, a temporary folder.
//! Promises: the proxy has the first core for itself and one thread on it, everything else runs elsewhere (the caller sees
//! to that with `taskset`); the proxies take turns, so that a neighbour's noise meets all of them; the figure is processor
//! time by the kernel's accounts, not requests per second.
//! Read next: `../peers.rs`.

#![allow(clippy::expect_used, clippy::panic, reason = "a measurement that cannot be taken ends with what is missing")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use benches::load::{CONNECTIONS, Sent, send};
use benches::peers::{Job, Peer, Scene, upstream};
use benches::times::{Times, ms};
use benches::wire::{Connection, paced, trusting};
use benches::{machine, used};

/// How often each proxy has its turn.
const ROUNDS: usize = 3;
/// Seconds of load a job and turn.
const SECONDS: u64 = 4;
/// TLS connections that idle, for the memory of one.
const IDLE: usize = 1000;
/// Requests a second of the load by the clock: well below what any of them can do.
const PACE: u32 = 2000;
/// How long it lasts.
const PACED: Duration = Duration::from_secs(8);

/// What was measured of one proxy.
#[derive(Default)]
struct Measured {
    /// Microseconds of processor time a request, one number a round.
    cost: BTreeMap<Job, Vec<f64>>,
    /// KiB a connection.
    idle_kib: f64,
    /// Times of requests by the clock.
    times: Times,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let gateway = std::env::args_os().nth(1).map(PathBuf::from).expect("usage: side-by-side GATEWAY");
    testkit::install_crypto();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bare = std::env::current_exe().expect("this program's path").with_file_name("bare-pingora");
    let scene = Scene::make(folder.path(), gateway, bare);
    let _upstream = upstream(&scene).await;
    let found: Vec<(Peer, String)> =
        Peer::ALL.into_iter().filter_map(|peer| Some((peer, peer.version(&scene)?))).collect();
    let mut measured: Vec<Measured> = found.iter().map(|_| Measured::default()).collect();
    for round in 0..ROUNDS {
        for ((peer, _), measured) in found.iter().zip(&mut measured) {
            eprintln!("round {} of {ROUNDS}: {}", round + 1, peer.name());
            costs(*peer, &scene, measured).await;
        }
    }
    for ((peer, _), measured) in found.iter().zip(&mut measured) {
        eprintln!("idle connections and the clock: {}", peer.name());
        waits(*peer, &scene, measured).await;
    }
    println!("{}", report(&found, &measured));
}

/// One turn of a proxy: every job it can do.
async fn costs(peer: Peer, scene: &Scene, measured: &mut Measured) {
    let running = peer.start(scene).await;
    for job in Job::ALL.into_iter().filter(|job| peer.does(*job)) {
        let sent = match job {
            Job::Plain | Job::Https => Sent::Http1,
            Job::Http2 => Sent::Http2,
            Job::Handshake => Sent::Http1Once,
            Job::Whole => Sent::Http1By(&scene.script),
        };
        let url = scene.url(job);
        // Connections to the upstream, caches of tokens, a CPU that clocks up.
        let _ = send(sent, &url, 1);
        let before = used::processor(running.id());
        let requests = send(sent, &url, SECONDS);
        let cost = used::processor(running.id()).saturating_sub(before);
        #[expect(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
        measured.cost.entry(job).or_default().push(cost.as_secs_f64() * 1e6 / requests as f64);
    }
}

/// Memory of connections that idle, and times of requests by the clock.
async fn waits(peer: Peer, scene: &Scene, measured: &mut Measured) {
    let running = peer.start(scene).await;
    let config = trusting(scene.certificate.clone());
    let [_, https, _] = scene.ports;
    // What the first connections make once is not counted.
    drop(Connection::open(https, &config).await);
    let before = used::resident_kib(running.id());
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        idle.push(Connection::open(https, &config).await);
    }
    let held = used::resident_kib(running.id()).saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "kibibytes are far below 2^52")]
    let each = held as f64 / IDLE as f64;
    measured.idle_kib = each;
    drop(idle);
    let connections = u32::try_from(CONNECTIONS).expect("a small number");
    measured.times = paced(https, &config, connections, PACE, PACED).await;
}

fn report(found: &[(Peer, String)], measured: &[Measured]) -> String {
    let mut report = format!(
        "# Side by side\n\n`make bench`\n\n{}- the proxy has one core and one thread; load (wrk, h2load) and upstream (nginx) \
         have the rest\n- {CONNECTIONS} connections that stay (HTTP/2: {} with four streams each), answers of 128 bytes, \
         {ROUNDS} rounds of {SECONDS} s; the proxies take turns\n",
        machine::described(),
        CONNECTIONS / 4,
    );
    let versions: Vec<String> = found.iter().map(|(peer, version)| format!("{} {version}", peer.name())).collect();
    let missing: Vec<&str> =
        Peer::ALL.into_iter().filter(|peer| found.iter().all(|(one, _)| one != peer)).map(Peer::name).collect();
    let mut line = |text: std::fmt::Arguments<'_>| report.write_fmt(text).expect("a text can be written to");
    line(format_args!("- {}\n", versions.join(", ")));
    if !missing.is_empty() {
        line(format_args!("- not installed, so not measured: {}\n", missing.join(", ")));
    }
    line(format_args!(
        "\n## Processor time of a request\n\nMicroseconds, kernel's share included: the median of the rounds, lowest and highest \
         in parentheses.\n\n| |"
    ));
    for job in Job::ALL {
        line(format_args!(" {} |", job.title()));
    }
    line(format_args!("\n|---|{}\n", "---|".repeat(Job::ALL.len())));
    for ((peer, _), measured) in found.iter().zip(measured) {
        line(format_args!("| {} |", peer.name()));
        for job in Job::ALL {
            let cost = measured.cost.get(&job).map_or_else(|| "-".to_owned(), |rounds| spread(rounds));
            let note = if *peer == Peer::Nginx && job == Job::Whole { " without the token" } else { "" };
            line(format_args!(" {cost}{note} |"));
        }
        line(format_args!("\n"));
    }
    line(format_args!(
        "\nThe whole job: HTTPS, an RS256 token of one of 1,000 users, limits by address and by user, a line in the access log. \
         A full handshake: TLS 1.3 with an ECDSA certificate, and one request.\n\n\
         ## Waiting and memory\n\nHTTPS, {PACE} requests a second by the clock on {CONNECTIONS} connections; memory of {IDLE} TLS \
         connections that idle.\n\n| | p50 | p99 | p99.9 | KiB an idle connection |\n|---|---|---|---|---|\n"
    ));
    for ((peer, _), measured) in found.iter().zip(measured) {
        let [p50, p99, p999] = [500, 990, 999].map(|permille| ms(measured.times.permille(permille)));
        line(format_args!("| {} | {p50} | {p99} | {p999} | {:.1} |\n", peer.name(), measured.idle_kib));
    }
    report
}

/// The median, and how far the rounds lie apart.
fn spread(rounds: &[f64]) -> String {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return "-".to_owned() };
    let median = sorted.get(sorted.len() / 2).unwrap_or(first);
    format!("**{median:.1}** ({first:.1}–{last:.1})")
}
