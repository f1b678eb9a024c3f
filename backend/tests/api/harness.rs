//! Harness: starts the program, waits until it listens, ends it.
//!
//! For: every test. Promises: each program has its own folder and ports; its log is shown when a test fails.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long to wait between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A running program.
pub struct Backend {
    child: Child,
    log: Arc<Mutex<String>>,
    /// `http://127.0.0.1:PORT` of the API.
    pub api: String,
    /// `http://127.0.0.1:PORT` of the internal listener.
    pub internal: String,
    folder: Arc<TempDir>,
    client: Client,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub body: Value,
}

impl Backend {
    /// Starts on a new database, with `extra` added to the configuration.
    pub fn start(extra: &str) -> Self {
        Self::start_in(&Arc::new(folder()), "backend.yaml", extra)
    }

    /// Starts in a folder that may hold a database already.
    pub fn start_in(folder: &Arc<TempDir>, name: &str, extra: &str) -> Self {
        let config = write_config(folder.path(), name, extra);
        let mut child = command(folder.path())
            .arg("all")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the backend starts");
        let log = Arc::new(Mutex::new(String::new()));
        // Two listeners tell their addresses, one line each.
        let (sender, listening) = mpsc::sync_channel(2);
        let lines = BufReader::new(child.stderr.take().expect("its log is piped")).lines();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
                if event["message"] == "listening" {
                    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                    // Nobody listens any more when the test is over.
                    let _ = sender.send((text("listener"), text("address")));
                }
                let mut kept = kept.lock().expect("the log is sound");
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        // From here on the program is ended also when a step fails.
        let mut backend = Self {
            child,
            log,
            api: String::new(),
            internal: String::new(),
            folder: Arc::clone(folder),
            client: client(),
        };
        backend.wait_for_listeners(&listening);
        backend
    }

    fn wait_for_listeners(&mut self, listening: &mpsc::Receiver<(String, String)>) {
        let deadline = Instant::now() + PATIENCE;
        while self.api.is_empty() || self.internal.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((listener, address)) = listening.recv_timeout(left) else {
                panic!("the backend does not listen; its log:\n{}", self.log());
            };
            match listener.as_str() {
                "api" => self.api = format!("http://{address}"),
                "internal" => self.internal = format!("http://{address}"),
                other => panic!("an unknown listener: {other}"),
            }
        }
    }

    /// What the program has logged.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log is sound").clone()
    }

    /// The folder with the database.
    pub fn folder(&self) -> &Arc<TempDir> {
        &self.folder
    }

    /// A request to the API.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.api))
    }

    /// A request to the internal listener.
    pub fn internal_request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.internal))
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        read(self.request(Method::GET, path).bearer_auth(token)).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        read(self.request(Method::POST, path).bearer_auth(token).json(&body)).await
    }

    pub async fn delete(&self, path: &str, token: &str) -> Answer {
        read(self.request(Method::DELETE, path).bearer_auth(token)).await
    }

    /// Without any credential.
    pub async fn post_bare(&self, path: &str, body: Value) -> Answer {
        read(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn login(&self, username: &str, password: &str) -> Answer {
        self.post_bare("/auth/login", json!({ "username": username, "password": password })).await
    }

    /// The access token of a login that must succeed.
    pub async fn token_of(&self, username: &str, password: &str) -> String {
        let answer = self.login(username, password).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text("access_token")
    }

    /// The seeded administrator's access token.
    pub async fn admin(&self) -> String {
        self.token_of("admin", "admin123").await
    }

    /// Makes a user and logs in; the password is `password-of-NAME`.
    pub async fn user(&self, admin: &str, name: &str, role: &str) -> String {
        let password = format!("password-of-{name}");
        let body = json!({ "username": name, "password": password, "role": role });
        let answer = self.post("/api/v1/users", admin, body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        self.token_of(name, &password).await
    }

    /// Makes an API key; gives the whole key and its public id.
    pub async fn api_key(&self, token: &str, body: Value) -> (String, String) {
        let answer = self.post("/api/v1/api-keys", token, body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        (answer.text("key"), answer.text("id"))
    }

    /// What the gateway would learn about a key.
    pub async fn introspect(&self, key: &str) -> Answer {
        read(self.internal_request(Method::POST, "/internal/keys").form(&[("token", key)])).await
    }

    /// Sends SIGTERM to this very program.
    pub fn terminate(&self) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.child.id())).status();
        assert!(sent.expect("sh runs").success(), "the signal could not be sent");
    }

    /// Waits until the program has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("its state can be asked") {
                return status;
            }
            assert!(Instant::now() < deadline, "the backend does not end; its log:\n{}", self.log());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the backend ---\n{}", self.log());
        }
    }
}

impl Answer {
    /// A member of the body that must be text.
    pub fn text(&self, member: &str) -> String {
        self.body[member].as_str().unwrap_or_else(|| panic!("no {member:?} in {self:?}")).to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Checks that this is a whole problem with this status and code.
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], status, "{self:?}");
        assert_eq!(self.body["type"], format!("urn:capibara6:error:{code}"), "{self:?}");
        assert_eq!(self.body["request_id"], self.header("x-request-id"), "{self:?}");
        assert!(!self.text("title").is_empty() && self.text("instance").starts_with('/'), "{self:?}");
        if status == 401 {
            assert!(self.header("www-authenticate").starts_with("Bearer realm=\"capibara6\""), "{self:?}");
        }
        if matches!(status, 429 | 503) {
            assert!(self.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{self:?}");
        }
    }
}

/// Sends and reads the whole answer. A body that is no JSON becomes JSON text.
pub async fn read(request: RequestBuilder) -> Answer {
    let response: Response = request.send().await.expect("the backend answers");
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("the answer is whole");
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, headers, body }
}

/// Waits until it is true.
pub async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look().await {
        assert!(Instant::now() < deadline, "it never came true: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A client that follows no proxy and needs no certificates.
pub fn client() -> Client {
    client_builder().build().expect("a client")
}

pub fn client_builder() -> reqwest::ClientBuilder {
    // Whichever test comes first installs it; the others find it there.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().no_proxy().tls_certs_only(std::iter::empty()).timeout(PATIENCE)
}

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The program, about to be started in a folder.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backend"));
    command.current_dir(folder);
    command
}

/// Runs a command of the program to its end, with this on its standard input.
pub fn run(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = command(folder)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the backend starts");
    // A program that refuses its configuration does not read its input.
    let _ = child.stdin.take().expect("its input is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("the backend ends")
}

pub fn write_config(folder: &Path, name: &str, extra: &str) -> PathBuf {
    let path = folder.join(name);
    let text = format!(
        "version: 1\ndatabase: {{ url: \"sqlite:{}\" }}\n{}{extra}\n",
        folder.join("data/test.db").display(),
        if extra.contains("server:") { "" } else { "server: { api: \"127.0.0.1:0\", internal: \"127.0.0.1:0\" }\n" },
    );
    std::fs::write(&path, text).expect("the configuration is written");
    path
}
