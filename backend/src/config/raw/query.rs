//! Raw keys of models, streams, the answer cache, playbooks and the sandbox.
//!
//! For: what answers a question, as the operator writes it. May touch: `values.rs`.
//! Promises: nothing in here leaves `config/`. Read next: `check/query.rs`, which makes `checked/query.rs` of it.

use std::path::PathBuf;

use common::secret::SecretRef;
use common::section;
use common::settings::{At, ByteSize, Millis};

use crate::config::checked::{ModelSize, SandboxProtocol};
use crate::config::values::WebAddress;

section! {
    /// A model server that speaks the OpenAI-compatible HTTP API.
    pub(in crate::config) struct Model {
        /// The name clients use and see. `auto` is not one: it lets the router choose.
        pub(in crate::config) id: At<String> => "name the model, such as capibara6-20b",
        /// Whether it is meant for simple or for hard queries.
        pub(in crate::config) size: ModelSize => "write small or large",
        /// The server's base address; `/chat/completions` is appended.
        pub(in crate::config) url: WebAddress => "write the base address, such as http://127.0.0.1:9000/v1",
        /// The bearer key the server asks for.
        pub(in crate::config) key: Option<At<SecretRef>> = "null",
        /// The name sent to the server, where it differs from `id`.
        pub(in crate::config) model: Option<String> = "null",
        /// How long the whole answer may take, streamed or not.
        pub(in crate::config) timeout: At<Millis> = "60s",
        /// How long the connection may take.
        pub(in crate::config) connect_timeout: At<Millis> = "2s",
        /// How long the first piece of a streamed answer may take.
        pub(in crate::config) first_token_timeout: At<Millis> = "30s",
        /// How long each further piece of it may take.
        pub(in crate::config) token_timeout: At<Millis> = "15s",
        /// The largest answer of the server.
        pub(in crate::config) answer_max: At<ByteSize> = "1MiB",
        /// The most tokens a client may ask for, and the number sent when it names none.
        pub(in crate::config) tokens_max: At<u32> = "4096",
        /// How often the server is asked at most, where it cannot be reached, is busy (429) or fails (5xx). Once a piece
        /// of the answer is there, it is not asked again.
        pub(in crate::config) attempts_max: At<u32> = "2",
        /// The longest wait between two attempts. A server whose `Retry-After` asks for more is not asked again.
        pub(in crate::config) retry_wait_max: At<Millis> = "2s",
        /// Models that are asked instead, in this order, where this one gives no answer.
        pub(in crate::config) fallbacks: Vec<At<String>> = "[]",
        /// When the server is left alone for a while.
        pub(in crate::config) circuit: Circuit = "{}",
    }
}

section! {
    /// When a model server is left alone for a while. After that one request probes it.
    pub(in crate::config) struct Circuit {
        /// Failures in a row after which it is.
        pub(in crate::config) failures_max: At<u32> = "5",
        /// For how long.
        pub(in crate::config) open_for: At<Millis> = "10s",
    }
}

section! {
    /// Which model answers when the client names none.
    pub(in crate::config) struct Routing {
        /// Queries whose complexity, from 0 to 100, is at least this go to the large model.
        pub(in crate::config) large_from: At<u8> = "50",
    }
}

section! {
    /// Answers that are kept.
    pub(in crate::config) struct Cache {
        /// The most answers.
        pub(in crate::config) answers_max: At<u32> = "10000",
        /// The most bytes of all answers together.
        pub(in crate::config) bytes_max: At<ByteSize> = "64MiB",
        /// How long an answer is kept.
        pub(in crate::config) ttl: At<Millis> = "10m",
        /// Whether a request may say `public: true`, by which its answer is kept for everybody who asks the same and
        /// says so too. Without this, kept answers are only for who asked.
        pub(in crate::config) public: bool = "false",
    }
}

section! {
    /// Answers that are told piece by piece.
    pub(in crate::config) struct Streams {
        /// Streams open at a time, in each process; more are answered 503.
        pub(in crate::config) open_max: At<u32> = "256",
        /// How often a comment is sent while there is nothing to tell, so that nobody takes the connection for dead.
        pub(in crate::config) heartbeat: At<Millis> = "10s",
    }
}

section! {
    /// Playbooks: texts of the operator's own, one of which is put before a question that it fits.
    pub(in crate::config) struct Playbooks {
        /// The folder with the playbooks, Markdown files with front matter; from the folder of this file. Absent, there
        /// are none.
        pub(in crate::config) path: Option<PathBuf> = "null",
        /// What a playbook's keywords must score at least: each that the question holds counts as many points as it
        /// has words.
        pub(in crate::config) score_min: At<u32> = "2",
    }
}

section! {
    /// A service that runs code apart from everything.
    pub(in crate::config) struct Sandbox {
        /// What it understands: `plain`, a contract of one request that a small service of yours can keep, or `e2b`.
        pub(in crate::config) protocol: SandboxProtocol = "plain",
        /// Its base address, to which `/execute` is appended; for `e2b` that of its API, to which `/sandboxes` is.
        pub(in crate::config) url: WebAddress => "write the base address, such as http://127.0.0.1:9100",
        /// The key it asks for: a bearer key, or for `e2b` an API key.
        pub(in crate::config) key: Option<At<SecretRef>> = "null",
        /// For `e2b`: from which template sandboxes are made; it has to hold the code interpreter.
        pub(in crate::config) template: At<String> = "code-interpreter-v1",
        /// For `e2b`: the address of a sandbox's code interpreter, with `{id}` in place of the sandbox's id. Absent, it is
        /// `https://49999-{id}.DOMAIN` with the domain that the API names, or else its own without a leading `api.`.
        pub(in crate::config) run_at: Option<At<String>> = "null",
        /// For `e2b`: whether code may use the internet.
        pub(in crate::config) internet: bool = "false",
        /// How long one piece of code may take. The service is told, and has two seconds more to say how it went.
        pub(in crate::config) timeout: At<Millis> = "30s",
        /// The most that is told of what the code wrote, to standard output and to standard error each.
        pub(in crate::config) output_max: At<ByteSize> = "64KiB",
    }
}
