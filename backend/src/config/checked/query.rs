//! Checked settings of models, streams, the answer cache, playbooks and the sandbox.
//!
//! For: `query`. May touch: nothing. Promises: bounds are at least one; fallbacks name models that are there.
//! Read next: `../check/query.rs` for how they come about.

use std::path::PathBuf;
use std::time::Duration;

use common::choice;
use common::secret::Secret;
use url::Url;

choice! {
    /// What a model is meant for.
    pub enum ModelSize {
        /// Simple queries.
        Small = "small",
        /// Hard queries.
        Large = "large",
    }
}

choice! {
    /// What a sandbox understands.
    pub enum SandboxProtocol {
        /// One request with the code, answered when it has run.
        Plain = "plain",
        /// E2B's: a sandbox is made, runs the code, and ends.
        E2b = "e2b",
    }
}

/// A model server.
#[derive(Clone, Debug)]
pub struct Model {
    /// The name clients use and see.
    pub id: String,
    /// What it is meant for.
    pub size: ModelSize,
    /// Where `chat/completions` is.
    pub completions_url: Url,
    /// The bearer key the server asks for.
    pub key: Option<Secret>,
    /// The name sent to the server.
    pub upstream_name: String,
    /// How long the whole answer may take.
    pub timeout: Duration,
    /// How long the connection may take.
    pub connect_timeout: Duration,
    /// How long the first piece of a streamed answer may take.
    pub first_token_timeout: Duration,
    /// How long each further piece may take.
    pub token_timeout: Duration,
    /// The largest answer, in bytes.
    pub answer_bytes_max: usize,
    /// The most tokens a client may ask for.
    pub tokens_max: u32,
    /// How often it is asked at most, while there is no piece of an answer.
    pub attempts_max: u32,
    /// The longest wait between two attempts.
    pub retry_wait_max: Duration,
    /// The ids of the models that are asked instead.
    pub fallbacks: Vec<String>,
    /// When it is left alone.
    pub circuit: Circuit,
}

/// When a model server is left alone for a while.
#[derive(Clone, Copy, Debug)]
pub struct Circuit {
    /// Failures in a row.
    pub failures_max: u32,
    /// For how long.
    pub open_for: Duration,
}

/// Which model answers.
#[derive(Clone, Copy, Debug)]
pub struct Routing {
    /// The complexity, from 0 to 100, from which on the large model answers.
    pub large_from: u8,
}

/// Answers that are kept.
#[derive(Clone, Copy, Debug)]
pub struct Cache {
    /// The most answers.
    pub answers_max: u32,
    /// The most bytes of all of them.
    pub bytes_max: u64,
    /// How long.
    pub ttl: Duration,
    /// Whether a request may let everybody have its answer.
    pub public: bool,
}

/// Answers that are told piece by piece.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    /// Open at a time.
    pub open_max: usize,
    /// How often a silent one shows that it lives.
    pub heartbeat: Duration,
}

/// Texts that are put before questions they fit.
#[derive(Clone, Debug)]
pub struct Playbooks {
    /// The folder; none, if `None`.
    pub path: Option<PathBuf>,
    /// The least score.
    pub score_min: u32,
}

/// What stands for a sandbox's id in `sandbox.run_at`.
pub const SANDBOX_ID: &str = "{id}";

/// A service that runs code.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// What it understands.
    pub protocol: SandboxProtocol,
    /// Its base address.
    pub url: Url,
    /// The key it asks for.
    pub key: Option<Secret>,
    /// From which template sandboxes of E2B are made.
    pub template: String,
    /// Where sandboxes of E2B are, with `{id}` in place of theirs; as its API says, if `None`.
    pub run_at: Option<String>,
    /// Whether code in sandboxes of E2B may use the internet.
    pub internet: bool,
    /// How long one piece of code may take.
    pub timeout: Duration,
    /// The most that is told of each output, in bytes.
    pub output_bytes_max: usize,
}
