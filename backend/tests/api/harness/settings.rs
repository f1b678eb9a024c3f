//! Settings: the backend's file, written as an operator would write it.
//!
//! For: naming only what a test is about. May touch: the folder it is told to write to.
//! Promises: ports of the system's choice, and a database of the folder's own, where this run of the tests keeps things,
//! unless a test says where. Read next: `backend.rs`.

use std::path::{Path, PathBuf};

use super::database::Engine;

/// The `iss` of every token.
pub const ISSUER: &str = "https://auth.capibara6.test/";

/// The `aud` of every token.
pub const AUDIENCE: &str = "capibara6-test";

/// The settings of one backend. Each part is the inside of a YAML flow mapping or sequence.
#[derive(Clone)]
pub struct Settings {
    environment: &'static str,
    server: String,
    engine: Engine,
    database: String,
    auth: String,
    introspection: String,
    models: Vec<String>,
    routing: String,
    graphql: String,
    sections: String,
}

impl Settings {
    /// What development needs: nothing.
    pub fn development() -> Self {
        Self {
            environment: "development",
            server: "drain: 5s".into(),
            engine: Engine::OfTheRun,
            database: String::new(),
            auth: String::new(),
            introspection: String::new(),
            models: Vec::new(),
            routing: String::new(),
            graphql: String::new(),
            sections: String::new(),
        }
    }

    /// For real; the test has to say the rest.
    pub fn production() -> Self {
        Self { environment: "production", ..Self::development() }
    }

    /// Replaces what `server:` holds besides its addresses.
    pub fn server(mut self, members: impl Into<String>) -> Self {
        self.server = members.into();
        self
    }

    /// Where things are kept, whatever the run of the tests has.
    pub fn on(mut self, engine: &Engine) -> Self {
        self.engine = engine.clone();
        self
    }

    /// What `database:` holds besides its place.
    pub fn database(mut self, members: impl Into<String>) -> Self {
        self.database = members.into();
        self
    }

    /// What `auth:` holds besides issuer and audience.
    pub fn auth(mut self, members: impl Into<String>) -> Self {
        self.auth = members.into();
        self
    }

    /// What `introspection:` holds.
    pub fn introspection(mut self, members: impl Into<String>) -> Self {
        self.introspection = members.into();
        self
    }

    /// One more model.
    pub fn model(mut self, members: impl Into<String>) -> Self {
        self.models.push(members.into());
        self
    }

    /// What `routing:` holds.
    pub fn routing(mut self, members: impl Into<String>) -> Self {
        self.routing = members.into();
        self
    }

    /// What `graphql:` holds.
    pub fn graphql(mut self, members: impl Into<String>) -> Self {
        self.graphql = members.into();
        self
    }

    /// One more section, with its name, such as `cache: { public: true }`.
    pub fn section(mut self, line: &str) -> Self {
        self.sections.push_str(line);
        self.sections.push('\n');
        self
    }

    /// Writes them to `backend.yaml` in a folder.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let models: Vec<String> = self.models.iter().map(|model| format!("{{ {model} }}")).collect();
        let (place, redis) = self.engine.written(folder);
        // A test that has a Redis of its own says everything about it.
        let has_own = self.sections.lines().any(|line| line.starts_with("redis:"));
        let redis = if redis.is_empty() || has_own { String::new() } else { format!("redis: {{ {redis} }}\n") };
        let text = format!(
            "version: 1\n\
             environment: {}\n\
             log: {{ filter: info, format: json }}\n\
             server: {{ api: \"127.0.0.1:0\", graphql: \"127.0.0.1:0\", internal: \"127.0.0.1:0\", {} }}\n\
             database: {{ {place}, {} }}\n\
             auth: {{ issuer: \"{ISSUER}\", audience: {AUDIENCE}, {} }}\n\
             introspection: {{ {} }}\n\
             models: [{}]\n\
             routing: {{ {} }}\n\
             graphql: {{ {} }}\n{redis}{}",
            self.environment,
            self.server,
            self.database,
            self.auth,
            self.introspection,
            models.join(", "),
            self.routing,
            self.graphql,
            self.sections,
        );
        write_text(folder, &text)
    }
}

/// Writes any text to `backend.yaml` in a folder.
pub fn write_text(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("backend.yaml");
    std::fs::write(&file, text).expect("a temporary folder can be written");
    file
}

/// The database of the backends in a folder. Its own folder is not there at first: the backend makes it.
pub fn database_file(folder: &Path) -> PathBuf {
    folder.join("data").join("capibara6.db")
}

/// Writes a secret to a file of its own, and returns the reference to it.
pub fn secret_file(folder: &Path, name: &str, secret: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, secret).expect("a temporary folder can be written");
    format!("\"file:{}\"", file.display())
}
