//! Backend: the real program on free ports.
//!
//! For: every test of the API. May touch: the backend's binary, a temporary folder that several backends may share.
//! Promises: `start` returns once its listeners listen, and once it has reached the Redis of the run, if there is one.
//! Read next: `settings.rs`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::process::{Ended, Program};
use testkit::wait::{PATIENCE, until};

use super::client::{self, Answer, send};
use super::database::Engine;
use super::servers;
use super::settings::Settings;

/// The account that development starts with.
pub const ADMIN: (&str, &str) = ("admin", "admin123");

/// Refreshes sent at the same moment with the same token.
const RACERS: usize = 8;

/// A folder that is removed when the last who uses it is gone, with what it has on the servers of the run.
pub type Folder = Arc<OwnFolder>;

/// A temporary folder.
pub struct OwnFolder(TempDir);

/// A running backend.
pub struct Backend {
    program: Program,
    client: Client,
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where GraphQL listens; `None` where it does not.
    pub graphql: Option<SocketAddr>,
    /// Where introspection and metrics listen.
    pub internal: SocketAddr,
    folder: Folder,
}

/// What a login or a refresh gave.
#[derive(Clone, Debug)]
pub struct Session {
    /// For every request.
    pub access: String,
    /// For the next access token, once.
    pub refresh: String,
}

/// A key that was just made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its public id.
    pub id: String,
    /// The whole key.
    pub key: String,
}

impl Backend {
    /// Starts a development backend with an empty database.
    pub async fn development() -> Self {
        Self::start(&Settings::development()).await
    }

    /// Starts a backend with these settings and an empty database.
    pub async fn start(settings: &Settings) -> Self {
        Self::start_in(&folder(), settings).await
    }

    /// Starts a backend with these settings, which keeps things there.
    pub async fn start_on(engine: &Engine, settings: &Settings) -> Self {
        Self::start(&settings.clone().on(engine)).await
    }

    /// Starts a backend with these settings on the database in this folder.
    pub async fn start_in(folder: &Folder, settings: &Settings) -> Self {
        Self::start_as("all", folder, &settings.write(folder.path())).await
    }

    /// Starts a backend by this sub-command with this file, which lies in this folder.
    pub async fn start_as(command_name: &str, folder: &Folder, file: &Path) -> Self {
        let mut program = Program::start("backend", command(&[command_name], file), "");
        let api = program.listening("api").await;
        let graphql = if command_name == "api" { None } else { Some(program.listening("graphql").await) };
        let internal = program.listening("internal").await;
        let backend = Self { program, client: client::plain(), api, graphql, internal, folder: Arc::clone(folder) };
        if servers::are_named_in(file, folder.path()) {
            // What is kept before is dropped when Redis comes, so that whoever asks twice would miss it by chance.
            until("the backend has reached Redis", PATIENCE, async || {
                backend.said().contains("Redis is up").then_some(())
            })
            .await;
        }
        backend
    }

    /// Where this backend keeps everything.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The address of a path of the API.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.api)
    }

    /// A GET request.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    /// A POST request with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(self.url(path)).json(body)
    }

    /// A POST request with this body and media type.
    pub fn post_raw(&self, path: &str, media_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.client.post(self.url(path)).header("Content-Type", media_type).body(body)
    }

    /// A request of any method, without a body.
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().expect("a method"), self.url(path))
    }

    /// A DELETE request.
    pub fn delete(&self, path: &str) -> RequestBuilder {
        self.client.delete(self.url(path))
    }

    /// The address of a path of the listener of GraphQL.
    pub fn graphql_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.graphql.expect("this backend serves GraphQL"))
    }

    /// A request to the listener of GraphQL.
    pub fn graphql_request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().expect("a method"), self.graphql_url(path))
    }

    /// A GET request to the internal listener.
    pub fn internal_get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("http://{}{path}", self.internal))
    }

    /// Its metrics, in Prometheus' text format.
    pub async fn metrics(&self) -> String {
        send(self.internal_get("/metrics")).await.expect_status(200).body.clone()
    }

    /// Waits until the metrics have this line.
    pub async fn until_metrics_say(&self, line: &str) {
        until(&format!("the metrics say {line}"), PATIENCE, async || {
            self.metrics().await.lines().any(|told| told == line).then_some(())
        })
        .await;
    }

    /// Who an access token speaks of.
    pub async fn me(&self, access_token: &str) -> Answer {
        send(self.get("/auth/me").bearer_auth(access_token)).await
    }

    /// A question about an API key (RFC 7662 §2.1), as the gateway asks it.
    pub fn introspect(&self, key: &str) -> RequestBuilder {
        self.client.post(format!("http://{}/internal/keys", self.internal)).form(&[("token", key)])
    }

    /// What `introspect` answers.
    pub async fn introspected(&self, key: &str) -> Value {
        let answer = send(self.introspect(key)).await;
        answer.expect_status(200);
        answer.json()
    }

    /// An attempt to log in.
    pub fn try_login(&self, name: &str, password: &str) -> RequestBuilder {
        self.post("/auth/login", &json!({ "username": name, "password": password }))
    }

    /// A login that must work.
    pub async fn login(&self, (name, password): (&str, &str)) -> Session {
        Session::of(send(self.try_login(name, password)).await.expect_status(200))
    }

    /// An attempt to refresh.
    pub fn try_refresh(&self, refresh_token: &str) -> RequestBuilder {
        self.post("/auth/refresh", &json!({ "refresh_token": refresh_token }))
    }

    /// Refreshes with one token many times at once, by turns at these backends: one gets the new session, the others are
    /// refused.
    pub async fn race_to_refresh(backends: &[&Self], refresh_token: &str) -> Session {
        let racers: Vec<_> = (0..RACERS)
            .map(|index| tokio::spawn(send(backends[index % backends.len()].try_refresh(refresh_token))))
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            let answer = racer.await.expect("a request is answered");
            if answer.status == 200 {
                winners.push(Session::of(&answer));
            } else {
                answer.expect_problem(401, "refresh_invalid");
            }
        }
        assert_eq!(winners.len(), 1, "the token was worth one pair");
        winners.remove(0)
    }

    /// Makes a user in the name of an administrator, and logs them in.
    pub async fn user(&self, admin: &Session, (name, password): (&str, &str), role: &str) -> Session {
        let body = json!({ "username": name, "password": password, "role": role });
        send(self.post("/api/v1/users", &body).bearer_auth(&admin.access)).await.expect_status(201);
        self.login((name, password)).await
    }

    /// Makes an API key that must be granted.
    pub async fn key(&self, owner: &Session, body: &Value) -> NewKey {
        let answer = send(self.post("/api/v1/api-keys", body).bearer_auth(&owner.access)).await;
        answer.expect_status(201);
        NewKey { id: answer.text("id"), key: answer.text("key") }
    }

    /// A query.
    pub fn query(&self, body: &Value) -> RequestBuilder {
        self.post("/api/v1/query", body)
    }

    /// What it has said so far in its log.
    pub fn said(&self) -> String {
        self.program.said()
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        self.program.signal(signal);
    }

    /// Waits for it to end by itself.
    pub async fn ended(self, limit: Duration) -> Ended {
        self.program.ended(limit).await
    }

    /// Ends it as an orchestrator does, and waits until it is gone.
    pub async fn stop(self) -> Ended {
        self.signal("TERM");
        let ended = self.ended(PATIENCE).await;
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        ended
    }
}

impl OwnFolder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        servers::forget(self.path());
    }
}

impl Session {
    /// Reads the answer to a login or a refresh.
    pub fn of(answer: &Answer) -> Self {
        assert_eq!(answer.json()["token_type"], "Bearer", "{answer:?}");
        Self { access: answer.text("access_token"), refresh: answer.text("refresh_token") }
    }
}

/// A folder of a test's own.
pub fn folder() -> Folder {
    Arc::new(OwnFolder(tempfile::tempdir().expect("a temporary folder")))
}

/// A command of the backend on a file of settings.
pub fn command(words: &[&str], file: &Path) -> Command {
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_backend")));
    command.args(words).arg("-c").arg(file);
    command
}

/// Runs a command of the backend that is expected to end by itself.
pub async fn run(words: &[&str], file: &Path, input: &str) -> Ended {
    Program::start("backend", command(words, file), input).ended(PATIENCE).await
}
