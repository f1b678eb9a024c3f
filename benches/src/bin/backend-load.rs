//! Backend: how long its users wait, on this machine, with the embedded model.
//!
//! For: `make bench-backend`. May touch: the program it is given, a Postgres server of its own, temporary folders.
//! Promises: fifty clients, each asking again as soon as it was answered; everything that was started ends.
//! Read next: `../times.rs`.

#![allow(clippy::expect_used, clippy::panic, reason = "a measurement that cannot be taken ends with what is missing")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use benches::machine;
use benches::times::{Times, ms};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::postgres::Postgres;
use testkit::process::Program;
use testkit::wait::PATIENCE;

/// Clients at the same time.
const CLIENTS: usize = 50;
/// Requests of a load.
const REQUESTS: usize = 10_000;
/// Questions that a repeating load asks, over and over.
const REPEATED: usize = 100;
/// Jobs, one after another.
const JOBS: usize = 100;
/// How often to look whether a job was begun.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A backend under load.
struct Backend {
    client: Client,
    token: String,
    api: String,
    graphql: String,
    internal: String,
    _program: Program,
    _folder: TempDir,
}

/// What a load has shown.
struct Shown {
    times: Times,
    /// Answers that came from the cache.
    hits: usize,
}

#[tokio::main]
async fn main() {
    let program = std::env::args_os().nth(1).map(PathBuf::from).expect("usage: backend-load PROGRAM");
    testkit::install_crypto();
    let mut report = format!("# The backend under {CLIENTS} clients\n\n`make bench-backend`\n\n");
    report.push_str(&machine::described());
    report.push_str(
        "- one process (`backend all`) with the embedded model; the clients share its cores\n\n\
         | Database | What | Requests | p50 | p95 | p99 | Aim for p95 |\n|---|---|---|---|---|---|---|\n",
    );
    measure(&program, "SQLite", "", &mut report).await;
    let server = Postgres::start().await;
    measure(&program, "Postgres", &server.database("bench"), &mut report).await;
    println!("{report}");
}

async fn measure(program: &Path, engine: &str, database: &str, report: &mut String) {
    let backend = Backend::start(program, database).await;
    let mut row = |what: &str, shown: &Shown, aim: &str| {
        let [p50, p95, p99] = [50, 95, 99].map(|percent| ms(shown.times.percentile(percent)));
        let count = shown.times.count();
        let written = writeln!(report, "| {engine} | {what} | {count} | {p50} | {p95} | {p99} | {aim} |");
        written.expect("a text can be written to");
    };
    let rest = backend.load(|backend, index| backend.ask(&format!("What is number {index}?"))).await;
    row("REST: `POST /api/v1/query`, each question new", &rest, "200 ms");
    let graphql = backend.load(|backend, index| backend.process(&format!("Which one is number {index}?"))).await;
    row("GraphQL: `processQuery`, each question new", &graphql, "150 ms");
    let list = backend.load(|backend, _| backend.list()).await;
    row("REST: `GET /api/v1/api-keys`, from the database", &list, "200 ms");
    let again = backend.load(|backend, index| backend.ask(&format!("Again, what is {}?", index % REPEATED))).await;
    row(&format!("REST: {REPEATED} questions, over and over"), &again, "200 ms");
    row("jobs: from 202 until it is seen begun, one at a time", &backend.jobs().await, "500 ms");
    let statements = backend.statements().await;
    let share = again.hits * 100 / again.times.count().max(1);
    let notes = format!(
        "| {engine} | database: statements within 50 ms | {} | | {:.2} % | | 95 % |\n\
         | {engine} | cache: hits of the repeating load | {} | | {share} % | | 90 % |\n",
        statements.1,
        statements.0,
        again.times.count()
    );
    report.push_str(&notes);
}

impl Backend {
    async fn start(program: &Path, database: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("backend.yaml");
        let database = if database.is_empty() {
            format!("path: \"{}\"", folder.path().join("bench.db").display())
        } else {
            let secret = folder.path().join("database.url");
            std::fs::write(&secret, database).expect("a temporary folder can be written");
            format!("url: \"file:{}\"", secret.display())
        };
        let settings = format!(
            "version: 1\nenvironment: development\nlog: {{ filter: info, format: json }}\n\
             server: {{ api: \"127.0.0.1:0\", graphql: \"127.0.0.1:0\", internal: \"127.0.0.1:0\" }}\n\
             database: {{ {database} }}\n\
             auth: {{ issuer: \"https://auth.capibara6.local/\", audience: capibara6 }}\n"
        );
        std::fs::write(&file, settings).expect("a temporary folder can be written");
        let mut command = Command::new(program);
        command.args(["all", "-c"]).arg(&file);
        let mut running = Program::start("backend", command, "");
        let [api, graphql, internal] =
            [running.listening("api").await, running.listening("graphql").await, running.listening("internal").await]
                .map(|address| format!("http://{address}"));
        let client = Client::builder().pool_max_idle_per_host(CLIENTS).build().expect("a client");
        let login = json!({ "username": "admin", "password": "admin123" });
        let answer = client.post(format!("{api}/auth/login")).json(&login).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        let token = answer["access_token"].as_str().expect("a token").to_owned();
        Self { client, token, api, graphql, internal, _program: running, _folder: folder }
    }

    fn post(&self, url: String, body: &Value) -> RequestBuilder {
        self.client.post(url).bearer_auth(&self.token).json(body)
    }

    fn ask(&self, question: &str) -> RequestBuilder {
        self.post(format!("{}/api/v1/query", self.api), &json!({ "query": question }))
    }

    fn process(&self, question: &str) -> RequestBuilder {
        let document = "mutation Ask($query: String!) { processQuery(input: { query: $query }) { result { text } } }";
        let body = json!({ "query": document, "variables": { "query": question } });
        self.post(format!("{}/graphql", self.graphql), &body)
    }

    fn list(&self) -> RequestBuilder {
        self.client.get(format!("{}/api/v1/api-keys", self.api)).bearer_auth(&self.token)
    }

    /// Sends requests from all clients, and holds every answer to be a good one.
    async fn load(&self, request: fn(&Self, usize) -> RequestBuilder) -> Shown {
        let next = Arc::new(AtomicUsize::new(0));
        let clients = (0..CLIENTS).map(|_| self.one_client(&next, request));
        let mut times = Vec::with_capacity(REQUESTS);
        let mut hits = 0;
        for (of_one, hits_of_one) in futures::future::join_all(clients).await {
            times.extend(of_one);
            hits += hits_of_one;
        }
        Shown { times: Times::of(times), hits }
    }

    async fn one_client(
        &self,
        next: &AtomicUsize,
        request: fn(&Self, usize) -> RequestBuilder,
    ) -> (Vec<Duration>, usize) {
        let (mut times, mut hits) = (Vec::new(), 0);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= REQUESTS {
                return (times, hits);
            }
            let start = Instant::now();
            let answer = request(self, index).send().await.expect("an answer");
            assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
            hits += usize::from(answer.headers().get("x-cache").is_some_and(|cache| cache == "hit"));
            let body = answer.text().await.expect("a body");
            times.push(start.elapsed());
            assert!(!body.contains("\"errors\""), "{body}");
        }
    }

    /// Makes jobs of one question, and looks until each was begun.
    async fn jobs(&self) -> Shown {
        let mut times = Vec::with_capacity(JOBS);
        for index in 0..JOBS {
            let body = json!({ "queries": [{ "query": format!("Job {index}?") }] });
            let made = self.post(format!("{}/api/v1/batch", self.api), &body).send().await.expect("an answer");
            let start = Instant::now();
            let job: Value = made.json().await.expect("JSON");
            let url = format!("{}/api/v1/jobs/{}", self.api, job["id"].as_str().expect("an id"));
            loop {
                let seen = self.client.get(&url).bearer_auth(&self.token).send().await.expect("an answer");
                let seen: Value = seen.json().await.expect("JSON");
                if seen["status"] != "queued" {
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "the job is begun: {seen}");
                tokio::time::sleep(LOOK_EVERY).await;
            }
            times.push(start.elapsed());
        }
        Shown { times: Times::of(times), hits: 0 }
    }

    /// The share of statements that took 50 ms at most, in percent, and how many there were.
    async fn statements(&self) -> (f64, f64) {
        let answer = self.client.get(format!("{}/metrics", self.internal)).send().await.expect("an answer");
        let metrics = answer.text().await.expect("a text");
        let value = |name: &str| -> f64 {
            let found = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            found.unwrap_or_else(|| panic!("{name} is not in the metrics"))
        };
        let all = value("backend_database_seconds_count");
        (value("backend_database_seconds_bucket{le=\"0.05\"}") * 100.0 / all, all)
    }
}
