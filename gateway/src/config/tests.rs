//! Tests of the rules between keys: one sound file, and each rule broken in it once.

use super::parse;

const SOUND: &str = "\
version: 1
listeners:
  http: { bind: \"127.0.0.1:0\" }
upstreams:
  api: { targets: [\"127.0.0.1:1\"] }
auth:
  tokens: { jwt: { issuer: i, audience: a, jwks: { urls: [\"http://h/k\"] } } }
  others: { jwt: { issuer: j, audience: a, jwks: { urls: [\"http://h/k\"] } } }
  shared: { jwt: { issuer: i, audience: a, algorithms: [HS256], secret: \"env:S\" } }
  keys: { api_key: { introspection: { urls: [\"http://h/i\"] } } }
limits:
  ip: { by: client.ip, rate: 10/s }
  who: { by: identity.subject, rate: 10/s }
routes:
  - { id: a, path: /a, auth: [tokens, keys], require: [read], limits: [ip, who], to: api }
  - { id: b, path: /b/*, auth: none, limits: [ip], to: api }
";

/// Each line: what is replaced in a sound file, by what, and the mistake that makes.
const BROKEN: &[(&str, &str, &str)] = &[
    ("version: 1", "version: 2", "only version 1 is known"),
    ("version: 1", "version: 1\nserver: { keepalive: 0s }", "server.keepalive: must be more than nothing"),
    ("version: 1", "version: 1\nserver: { max_connections: 0 }", "server.max_connections: must be more than nothing"),
    ("version: 1", "version: 1\nlog: { filter: \"a=b=c\" }", "log.filter: log filter"),
    ("version: 1", "version: 1\nclient_ip: { ipv6_prefix: 129 }", "a prefix length is 0 to 128"),
    (
        "http: { bind: \"127.0.0.1:0\" }",
        "http: { bind: \"127.0.0.1:0\", redirect: https }",
        "there is no TLS listener",
    ),
    (
        "  http: { bind: \"127.0.0.1:0\" }",
        "  a: { bind: \"1.1.1.1:1\" }\n  b: { bind: \"1.1.1.1:1\" }",
        "is taken by",
    ),
    ("targets: [\"127.0.0.1:1\"]", "targets: []", "targets is empty"),
    ("targets: [\"127.0.0.1:1\"]", "targets: [\"127.0.0.1:0\"]", "port 0 cannot be connected to"),
    ("targets: [\"127.0.0.1:1\"]", "targets: [\"1.1.1.1:1\", \"1.1.1.1:1\"]", "is listed twice"),
    ("targets: [", "timeouts: { connect: 0s }, targets: [", "must be longer than nothing"),
    ("targets: [", "retry: { attempts: 0 }, targets: [", "at least 1"),
    ("targets: [", "health: { http: x }, targets: [", "a path begins with"),
    ("tokens: { jwt: {", "tokens: { jwt: { algorithms: [HS256, ES256],", "HS256 cannot be mixed"),
    ("secret: \"env:S\"", "secret: hunter2", "a secret is written as env:NAME or file:PATH"),
    ("secret: \"env:S\"", "jwks: { file: x }", "HS256 takes its key from jwt.secret"),
    ("keys: { api_key: {", "keys: { api_key: { header: X_Key,", "cannot be a name that is taken away"),
    ("keys: { api_key: { introspection: { urls: [\"http://h/i\"] } } }", "keys: {}", "exactly one kind"),
    ("rate: 10/s }\n  who", "rate: 10/s, burst: 0 }\n  who", "at least 1"),
    ("id: b", "id: a", "is declared twice"),
    ("id: b", "id: \"b b\"", "cannot be a name"),
    ("/b/*", "/a", "matches the same host, path and method"),
    ("auth: none", "require: [read]", "auth: is missing"),
    ("auth: none", "auth: none, require: [read]", "cannot require permissions"),
    ("auth: none, limits: [ip]", "auth: none, limits: [who]", "counts by identity"),
    ("auth: [tokens, keys]", "auth: [tokens, others]", "reads the same header as"),
    ("auth: [tokens, keys]", "auth: [token]", "did you mean \"tokens\"?"),
    ("auth: [tokens, keys]", "auth: []", "or the word none"),
    ("limits: [ip, who]", "limits: [ipp]", "no limit is called"),
    ("to: api }\n  -", "to: nobody }\n  -", "no upstream is called"),
];

#[test]
fn a_sound_file_is_accepted_and_each_broken_rule_is_told_once() {
    parse("sound", SOUND).expect("a sound file");
    for (sound, broken, mistake) in BROKEN {
        assert!(SOUND.contains(sound), "{sound:?} is not in the sound file");
        let report = parse("broken", &SOUND.replacen(sound, broken, 1)).expect_err(broken);
        // A value that cannot be read counts as not there, which may break a rule of its own: two mistakes then.
        assert!(report.mistakes().len() <= 2, "{broken}:\n{report}");
        assert_eq!(report.to_string().matches(mistake).count(), 1, "{broken}:\n{report}");
        assert!(!report.to_string().contains("hunter2"), "no secret in an error: {report}");
    }
}
