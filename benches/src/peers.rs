//! Peers: the proxies that are compared, each set up for the same jobs.
//!
//! For: their configuration, as its authors would write it, on one core. May touch: a temporary folder, the programs.
//! Promises: every program forwards to the same upstream on kept connections; it ends with its value.
//! Read next: `bin/side-by-side.rs`.

mod running;
mod scene;
mod settings;

use std::fs;
use std::path::Path;
use std::process::Command;

pub use running::Running;
pub use scene::Scene;

/// What a proxy is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// HTTP/1.1 in the clear.
    Plain,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 over TLS.
    Http2,
    /// One TLS handshake for each request.
    Handshake,
    /// TLS, an RS256 token of one of a thousand users, limits by address and by user, a line in the access log.
    Whole,
}

impl Job {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Plain, Self::Https, Self::Http2, Self::Handshake, Self::Whole];

    /// A heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Plain => "HTTP/1.1",
            Self::Https => "HTTPS/1.1",
            Self::Http2 => "HTTP/2",
            Self::Handshake => "full handshake",
            Self::Whole => "the whole job",
        }
    }
}

/// A proxy that may be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The gateway of this repository.
    Gateway,
    /// `bin/bare-pingora.rs`.
    BarePingora,
    /// <https://nginx.org>
    Nginx,
    /// <https://www.haproxy.org>
    Haproxy,
    /// <https://www.envoyproxy.io>
    Envoy,
    /// <https://traefik.io>
    Traefik,
    /// <https://caddyserver.com>
    Caddy,
}

impl Peer {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 7] =
        [Self::Gateway, Self::BarePingora, Self::Nginx, Self::Haproxy, Self::Envoy, Self::Traefik, Self::Caddy];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "this gateway",
            Self::BarePingora => "bare Pingora",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
            Self::Traefik => "Traefik",
            Self::Caddy => "Caddy",
        }
    }

    /// Whether it can do the job with what it has built in.
    #[must_use]
    pub fn does(self, job: Job) -> bool {
        // nginx does it without the token, which it cannot check.
        job != Job::Whole || matches!(self, Self::Gateway | Self::Haproxy | Self::Envoy | Self::Nginx)
    }

    /// Its version, or `None` where it is not installed.
    #[must_use]
    pub fn version(self, scene: &Scene) -> Option<String> {
        let (program, arguments): (&Path, &[&str]) = match self {
            Self::Gateway => (&scene.gateway, &["--version"]),
            Self::BarePingora => return Some("0.9.1".to_owned()),
            Self::Nginx => (Path::new("nginx"), &["-v"]),
            Self::Haproxy => (Path::new("haproxy"), &["-v"]),
            Self::Envoy => (Path::new("envoy"), &["--version"]),
            Self::Traefik => (Path::new("traefik"), &["version"]),
            Self::Caddy => (Path::new("caddy"), &["version"]),
        };
        let output = Command::new(program).args(arguments).output().ok()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        // Every one of them names its version in the first line that holds a digit.
        let line = said.lines().find(|line| line.contains(|letter: char| letter.is_ascii_digit()))?;
        Some(version_in(line).to_owned())
    }

    /// Starts it on the first core, and waits until it listens.
    ///
    /// # Panics
    /// When it does not start; what it said stands in the message.
    pub async fn start(self, scene: &Scene) -> Running {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).args(self.settle(scene));
        // For the programs in Go.
        command.env("GOMAXPROCS", "1").env("HOME", &scene.folder);
        let ports = if self.does(Job::Whole) { &scene.ports[..] } else { &scene.ports[..2] };
        Running::start(command, &scene.folder.join(format!("{self:?}.log")), ports).await
    }

    /// Writes its configuration, and tells how it is called.
    fn settle(self, scene: &Scene) -> Vec<String> {
        let write = |name: &str, text: String| {
            let file = scene.file(name);
            fs::write(&file, text).expect("a temporary folder can be written");
            file
        };
        match self {
            Self::Gateway => {
                let file = write("gateway.yaml", settings::gateway(scene));
                vec![scene.gateway.display().to_string(), "run".into(), "-c".into(), file]
            }
            Self::BarePingora => {
                let mut call = vec![scene.bare.display().to_string()];
                call.extend([scene.ports[0], scene.ports[1], scene.upstream].map(|address| address.to_string()));
                call.extend([scene.file("tls.crt"), scene.file("tls.key")]);
                call
            }
            Self::Nginx => {
                let file = write("nginx.conf", settings::nginx(scene));
                vec!["nginx".into(), "-c".into(), file]
            }
            Self::Haproxy => {
                let file = write("haproxy.cfg", settings::haproxy(scene));
                vec!["haproxy".into(), "-db".into(), "-f".into(), file]
            }
            Self::Envoy => {
                let file = write("envoy.yaml", settings::envoy(scene));
                let rest = ["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"].map(String::from);
                [vec!["envoy".into()], rest.to_vec(), vec![file]].concat()
            }
            Self::Traefik => {
                write("traefik-routes.yaml", settings::traefik_routes(scene));
                let file = write("traefik.yaml", settings::traefik(scene));
                vec!["traefik".into(), format!("--configFile={file}")]
            }
            Self::Caddy => {
                let file = write("Caddyfile", settings::caddy(scene));
                ["caddy", "run", "--adapter", "caddyfile", "--config", &file].map(String::from).to_vec()
            }
        }
    }
}

/// The word that looks most like a version: the first that has a dot between digits.
fn version_in(line: &str) -> &str {
    let words = line.split(|letter: char| letter.is_whitespace() || letter == '/');
    let looks = |word: &&str| {
        let mut parts = word.trim_start_matches('v').split('.');
        let starts =
            |part: Option<&str>| part.is_some_and(|part| part.starts_with(|digit: char| digit.is_ascii_digit()));
        starts(parts.next()) && starts(parts.next())
    };
    words.into_iter().find(looks).unwrap_or(line)
}

/// The upstream of all: nginx that answers 128 bytes by itself.
///
/// # Panics
/// When nginx does not start.
pub async fn upstream(scene: &Scene) -> Running {
    let file = scene.folder.join("upstream.conf");
    fs::write(&file, settings::upstream(scene)).expect("a temporary folder can be written");
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file);
    Running::start(command, &scene.folder.join("upstream.log"), &[scene.upstream]).await
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn versions_are_found() {
        for (line, version) in [
            ("gateway 0.1.0", "0.1.0"),
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6.12-1+deb12u4"),
            ("envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL", "1.40.0"),
            ("v2.11.7 h1:yj0Y4", "v2.11.7"),
        ] {
            assert_eq!(version_in(line), version);
        }
    }
}
