//! Tests of the rules between keys: one sound file, and each rule broken in it once.

use super::parse;

const SOUND: &str = "\
version: 1
listeners:
  http: { bind: \"127.0.0.1:0\" }
upstreams:
  api: { targets: [\"127.0.0.1:1\"] }
  spare: { targets: [\"127.0.0.1:2\"] }
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
    ("version: 1", "version: 1\ntraces: {}", "write the collector's address"),
    ("version: 1", "version: 1\ntraces: { otlp: \"grpc://h:4317\" }", "traces.otlp: is not an http or https address"),
    ("version: 1", "version: 1\ntraces: { otlp: \"http://h\", sample: 10 }", "a share from 0% to 100%"),
    ("version: 1", "version: 1\ntraces: { otlp: \"http://h\", timeout: 0s }", "traces.timeout: must be longer"),
    ("version: 1", "version: 1\ntraces: { otlp: \"http://h\", queue_max: 0 }", "0 is out of range: 1 to 1000000"),
    ("version: 1", "version: 1\ntraces: { otlp: \"http://h\", headers: { A: hunter2 } }", "never in the open"),
    (
        "version: 1",
        "version: 1\nserver: { upgrade_socket: up.sock }",
        "server.upgrade_socket: must be an absolute path",
    ),
    (
        "version: 1",
        "version: 1\nserver: { upgrade_socket: /0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/012345678 }",
        "server.upgrade_socket: must be an absolute path of at most 96 bytes",
    ),
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
    (
        "http: { bind: \"127.0.0.1:0\" }",
        "http: { bind: \"127.0.0.1:0\", proxy_protocol: true }",
        "nobody could connect",
    ),
    (
        "http: { bind: \"127.0.0.1:0\" }",
        "http: { bind: \"127.0.0.1:0\", tls: { certificates: [{ cert: c, key: k }], \
         suites: [TLS_RSA_WITH_NULL_MD5] } }",
        "is not known",
    ),
    (
        "http: { bind: \"127.0.0.1:0\" }",
        "http: { bind: \"127.0.0.1:0\", tls: { certificates: [{ cert: c, key: k }], \
         suites: [TLS13_AES_128_GCM_SHA256, TLS13_AES_128_GCM_SHA256] } }",
        "is listed twice",
    ),
    (
        "http: { bind: \"127.0.0.1:0\" }",
        "http: { bind: \"127.0.0.1:0\", tls: { certificates: [{ cert: c, key: k }], min_version: \"1.3\", \
         suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256] } }",
        "is for TLS 1.2, and min_version is 1.3",
    ),
    (
        "http: { bind: \"127.0.0.1:0\" }",
        "http: { bind: \"127.0.0.1:0\", tls: { certificates: [{ cert: c, key: k }], client_auth: {} } }",
        "name the PEM file of the authorities",
    ),
    (
        "  http: { bind: \"127.0.0.1:0\" }",
        "  http: { bind: \"127.0.0.1:0\" }\n  s: { bind: \"127.0.0.1:0\", tls: { acme: { storage: s, terms_agreed: true, names: [] } } }",
        "names is empty",
    ),
    (
        "  http: { bind: \"127.0.0.1:0\" }",
        "  http: { bind: \"127.0.0.1:0\" }\n  s: { bind: \"127.0.0.1:0\", tls: { acme: { storage: s, terms_agreed: true, names: [\"*.a.test\"] } } }",
        "is no DNS name",
    ),
    (
        "  http: { bind: \"127.0.0.1:0\" }",
        "  http: { bind: \"127.0.0.1:0\" }\n  s: { bind: \"127.0.0.1:0\", tls: { acme: { storage: s, terms_agreed: true, names: [a.test, A.test] } } }",
        "is listed twice",
    ),
    (
        "  http: { bind: \"127.0.0.1:0\" }",
        "  http: { bind: \"127.0.0.1:0\" }\n  s: { bind: \"127.0.0.1:0\", tls: { acme: { storage: s, terms_agreed: false, names: [a.test] } } }",
        "terms of service",
    ),
    (
        "  http: { bind: \"127.0.0.1:0\" }",
        "  http: { bind: \"127.0.0.1:0\" }\n  s: { bind: \"127.0.0.1:0\", tls: { acme: { terms_agreed: true, names: [a.test] } } }",
        "name a folder that outlives",
    ),
    (
        "  http: { bind: \"127.0.0.1:0\" }",
        "  http: { bind: \"127.0.0.1:0\" }\n  s: { bind: \"127.0.0.1:0\", tls: { acme: { storage: s, terms_agreed: true, names: [a.test], directory: \"http://h/d\" } } }",
        "a directory is asked by https",
    ),
    (
        "  http: { bind: \"127.0.0.1:0\" }",
        "  http: { bind: \"127.0.0.1:0\" }\n  s: { bind: \"127.0.0.1:0\", tls: { acme: { storage: s, terms_agreed: true, names: [a.test], contact: [ops] } } }",
        "mailto:",
    ),
    (
        "  http: { bind: \"127.0.0.1:0\" }",
        "  http: { bind: \"127.0.0.1:0\" }\n  s: { bind: \"127.0.0.1:0\", tls: { acme: { storage: s, terms_agreed: true, names: [a.test], renew_before: 0s } } }",
        "renew_before is at least",
    ),
    (
        "http: { bind: \"127.0.0.1:0\" }",
        "s: { bind: \"127.0.0.1:0\", tls: { acme: { storage: s, terms_agreed: true, names: [a.test] } } }",
        "no listener without TLS",
    ),
    (
        "http: { bind: \"127.0.0.1:0\" }",
        "http: { bind: \"127.0.0.1:0\" }\n  s: { bind: \"127.0.0.1:0\", tls: { acme: { storage: s, terms_agreed: true, \
         names: [a.test] } } }\n  t: { bind: \"127.0.0.1:0\", tls: { acme: { storage: t, terms_agreed: true, names: [a.test] } } }",
        "is ordered otherwise by listener",
    ),
    (
        "http: { bind: \"127.0.0.1:0\" }",
        "http: { bind: \"127.0.0.1:0\", tls: {} }",
        "needs a pair in tls.certificates",
    ),
    ("version: 1", "version: 1\nclient_ip: { deny: [10.0.0.0/33] }", "is not a network"),
    ("version: 1", "version: 1\ncors: { web: { origins: [] } }", "origins is empty"),
    ("version: 1", "version: 1\ncors: { web: { origins: [\"https://a.test/\"] } }", "is not an origin"),
    ("version: 1", "version: 1\ncors: { web: { origins: [\"*\", \"https://a.test\"] } }", "stands alone"),
    ("version: 1", "version: 1\ncors: { web: { origins: [\"*\"], credentials: true } }", "name the origins"),
    (
        "version: 1",
        "version: 1\ncors: { web: { origins: [\"https://a.test\"], headers: [\"*\"], credentials: true } }",
        "name the headers",
    ),
    ("version: 1", "version: 1\nhide_headers: [Transfer-Encoding]", "is about a connection"),
    ("version: 1", "version: 1\nsecurity_headers: { hsts: includeSubDomains }", "needs an age"),
    ("auth: none", "auth: none, host: \"[a b]\"", "is not a host"),
    ("auth: none", "auth: none, cors: web", "no cors is called"),
    ("auth: none", "auth: none, allow_from: [nowhere]", "is not a network"),
    ("auth: none", "auth: none, redirect: { to: \"https://n.test\" }", "exactly one of to"),
    ("limits: [ip], to: api", "limits: [ip]", "exactly one of to"),
    ("limits: [ip], to: api", "limits: [ip], to: api, split: [{ to: api, weight: 1 }]", "exactly one of to"),
    ("limits: [ip], to: api", "limits: [ip], split: [{ to: api, weight: 0 }]", "every weight of the split is 0"),
    ("limits: [ip], to: api", "limits: [ip], split: [{ to: apis, weight: 1 }]", "no upstream is called"),
    ("limits: [ip], to: api", "limits: [ip], split: [{ to: api }]", "say its share"),
    (
        "limits: [ip], to: api",
        "limits: [ip], split: [{ to: api, weight: 1 }, { to: api, weight: 2 }]",
        "is in the split already",
    ),
    (
        "limits: [ip], to: api",
        "limits: [ip], split: [{ to: api, weight: 1 }], split_by: identity.subject",
        "goes by identity",
    ),
    (
        "limits: [ip], to: api",
        "limits: [ip], split: [{ to: api, weight: 1 }], split_by: client.port",
        "is nothing to hash",
    ),
    ("limits: [ip], to: api", "limits: [ip], to: api, split_by: client.ip", "is for routes with a split"),
    ("limits: [ip], to: api", "limits: [ip], to: api, mirror: { to: api }", "would get the same request twice"),
    ("limits: [ip], to: api", "limits: [ip], to: api, mirror: { to: shadow }", "no upstream is called"),
    ("limits: [ip], to: api", "limits: [ip], to: api, mirror: { to: spare, body_max: 2MiB }", "a copy has at most"),
    ("limits: [ip], to: api", "limits: [ip], to: api, mirror: { to: spare, in_flight_max: 0 }", "in_flight_max is 1"),
    ("limits: [ip], to: api", "limits: [ip], to: api, mirror: { to: spare, timeout: 0s }", "timeout of a mirror"),
    ("limits: [ip], to: api", "limits: [ip], respond: {}, mirror: { to: api }", "mirror is for routes"),
    ("limits: [ip], to: api", "limits: [ip], respond: {}, deadline: 1s", "deadline is for routes"),
    ("limits: [ip], to: api", "limits: [ip], to: api, deadline: 0s", "deadline must be longer than nothing"),
    ("auth: none", "auth: none, request_headers: { set: { X-Mirrored: x } }", "is set by the gateway itself"),
    ("limits: [ip], to: api", "limits: [ip], respond: { status: 100 }", "a status is 200 to 599"),
    ("limits: [ip], to: api", "limits: [ip], respond: { status: 204, body: x }", "has no body"),
    ("limits: [ip], to: api", "limits: [ip], respond: { headers: { Content-Type: x } }", "a key of its own"),
    ("limits: [ip], to: api", "limits: [ip], respond: {}, compress: true", "compress is for routes"),
    ("limits: [ip], to: api", "limits: [ip], redirect: { to: \"https://n.test/?q\" }", "ends before"),
    ("limits: [ip], to: api", "limits: [ip], redirect: { to: \"https://u@n.test\" }", "no user name"),
    ("auth: none", "auth: none, rewrite: { strip_prefix: /c }", "is not at the front"),
    ("auth: none", "auth: none, rewrite: { add_prefix: /c/ }", "a prefix has no slash"),
    ("auth: none", "auth: none, rewrite: { host: \"a b\" }", "is not a host"),
    ("auth: none", "auth: none, request_headers: { set: { X-Auth-Subject: root } }", "is set by the gateway itself"),
    ("auth: none", "auth: none, request_headers: { set: { Host: h } }", "is set by rewrite.host"),
    ("auth: none", "auth: none, request_headers: { set: { A: \"hunter2\\n\" } }", "plain ASCII on one line"),
    ("auth: none", "auth: none, request_headers: { remove: [\"a b\"] }", "is not a header name"),
    ("auth: none", "auth: none, response_headers: { remove: [Content-Length] }", "is about a connection"),
    ("auth: none", "auth: none, response_headers: { add: { Proxy-Status: x } }", "is set by the gateway itself"),
    ("auth: none", "auth: none, sse_heartbeat: 99ms", "every 100ms at most"),
    ("auth: none", "auth: none, sse_heartbeat: 30s", "may be silent, which is 30s here"),
    ("auth: none", "auth: none, sse_heartbeat: 10s, timeout: 5s", "may be silent, which is 5s here"),
    ("limits: [ip], to: api", "limits: [ip], sse_heartbeat: 15s, respond: {}", "sse_heartbeat is for routes"),
    ("auth: none", "auth: none, compress: { algorithms: [] }", "is empty; list at least one, or"),
    ("auth: none", "auth: none, compress: { types: [html] }", "is not a media type"),
    ("auth: none", "auth: none, client_certificate: required", "no listener asks clients for a certificate"),
    ("auth: none", "auth: none, pass_client_certificate: true", "no listener asks clients for a certificate"),
    ("limits:", "  c: { client_certificate: {} }\nlimits:", "no listener asks clients for a certificate"),
    ("targets: [\"127.0.0.1:1\"]", "targets: []", "targets is empty"),
    ("targets: [\"127.0.0.1:1\"]", "targets: [\"127.0.0.1:0\"]", "port 0 cannot be connected to"),
    ("targets: [\"127.0.0.1:1\"]", "targets: [\"1.1.1.1:1\", \"1.1.1.1:1\"]", "is listed twice"),
    ("targets: [", "timeouts: { connect: 0s }, targets: [", "must be longer than nothing"),
    ("targets: [", "retry: { attempts: 0 }, targets: [", "1 to 10"),
    ("targets: [", "health: { http: x }, targets: [", "a path begins with"),
    ("targets: [", "health: { http: /, tcp: true }, targets: [", "exactly one check"),
    ("targets: [", "discovery: { dns: \"h:1\" }, targets: [", "drop one"),
    ("targets: [\"127.0.0.1:1\"]", "discovery: {}", "exactly one source"),
    ("targets: [\"127.0.0.1:1\"]", "discovery: { dns: h }", "is not a name with a port"),
    (
        "targets: [\"127.0.0.1:1\"]",
        "discovery: { file: f, kubernetes: { service: a, server: \"https://h\" } }",
        "exactly one source",
    ),
    ("targets: [\"127.0.0.1:1\"]", "discovery: { kubernetes: { server: \"https://h\" } }", "name the service"),
    (
        "targets: [\"127.0.0.1:1\"]",
        "discovery: { kubernetes: { service: a.b, server: \"https://h\" } }",
        "\"a.b\" is not a name in Kubernetes",
    ),
    (
        "targets: [\"127.0.0.1:1\"]",
        "discovery: { kubernetes: { service: a, namespace: ../b, server: \"https://h\" } }",
        "\"../b\" is not a name in Kubernetes",
    ),
    (
        "targets: [\"127.0.0.1:1\"]",
        "discovery: { kubernetes: { service: a, server: \"http://h\" } }",
        "the API server is asked by https",
    ),
    (
        "targets: [\"127.0.0.1:1\"]",
        "discovery: { kubernetes: { service: a, server: \"https://h\", port: 0 } }",
        "is not a port",
    ),
    (
        "targets: [\"127.0.0.1:1\"]",
        "discovery: { kubernetes: { service: a, server: \"https://h\", port: HTTP } }",
        "is not a port",
    ),
    (
        "targets: [\"127.0.0.1:1\"]",
        "discovery: { kubernetes: { service: a, server: \"https://h\", token: hunter2 } }",
        "a secret is written as env:NAME or file:PATH",
    ),
    ("targets: [\"127.0.0.1:1\"]", "targets: [{ at: \"127.0.0.1:1\", weight: 0 }]", "a weight is 1 to 100"),
    ("targets: [\"127.0.0.1:1\"]", "targets: [\"unix:x\"]", "the full path of a socket"),
    ("targets: [", "balance: hash, targets: [", "needs hash_by"),
    ("targets: [", "hash_by: client.ip, targets: [", "is for balance: hash"),
    ("targets: [", "hash_by: client.port, balance: hash, targets: [", "is nothing to hash"),
    ("targets: [", "panic_below: 50%, targets: [", "of no use without"),
    ("targets: [", "eject: { after: 0 }, targets: [", "eject.after is at least 1"),
    ("targets: [", "breaker: { max_requests: 0 }, targets: [", "breaker.max_requests"),
    ("targets: [", "sticky: { cookie: \"a b\" }, targets: [", "of letters, digits"),
    ("tokens: { jwt: {", "tokens: { jwt: { algorithms: [HS256, ES256],", "HS256 cannot be mixed"),
    ("secret: \"env:S\"", "secret: hunter2", "a secret is written as env:NAME or file:PATH"),
    ("secret: \"env:S\"", "jwks: { file: x }", "HS256 takes its key from jwt.secret"),
    ("keys: { api_key: {", "keys: { api_key: { header: X_Key,", "cannot be a name that is taken away"),
    ("keys: { api_key: { introspection: { urls: [\"http://h/i\"] } } }", "keys: {}", "exactly one kind"),
    ("rate: 10/s }\n  who", "rate: 10/s, burst: 0 }\n  who", "burst is at least 1"),
    ("rate: 10/s }\n  who", "rate: 10/s, keys_max: 0 }\n  who", "keys_max, cost and batch are at least 1"),
    ("rate: 10/s }\n  who", "rate: 10/s, quota: 5/day }\n  who", "exactly one measure"),
    ("rate: 10/s }\n  who", "quota: 5/year }\n  who", "is not a quota"),
    ("rate: 10/s }\n  who", "concurrent: 5, burst: 2 }\n  who", "burst is for a rate"),
    ("rate: 10/s }\n  who", "concurrent: 5, cost: 2 }\n  who", "a request takes one place"),
    ("rate: 10/s }\n  who", "rate: 10/s, cost: 11 }\n  who", "cost is more than the burst"),
    ("rate: 10/s }\n  who", "rate: 10/s, batch: 2 }\n  who", "batch is for a rate of scope cluster"),
    ("rate: 10/s }\n  who", "rate: 10/s, cost_from: \"a b\" }\n  who", "is not a header name"),
    ("rate: 10/s }\n  who", "concurrent: 5, scope: cluster }\n  who", "counted in each process"),
    ("rate: 10/s }\n  who", "rate: 5000000/s, scope: cluster }\n  who", "a second at most"),
    ("by: client.ip,", "by: client.port,", "is nothing to count by"),
    ("by: client.ip,", "by: [],", "one to 4 things"),
    ("version: 1", "version: 1\nstores: { redis: { url: \"http://h\" } }", "expected a URL such as redis"),
    ("version: 1", "version: 1\nstores: { redis: { url: \"redis://:hunter2@h\" } }", "are keys of their own"),
    (
        "version: 1",
        "version: 1\nstores: { redis: { url: \"redis://h\", cluster: [\"redis://h\"] } }",
        "at most one of url, sentinel and cluster",
    ),
    ("version: 1", "version: 1\nstores: { redis: { url: \"redis://h\", prefix: \"{\" } }", "letters, digits"),
    ("version: 1", "version: 1\nstores: { redis: { url: \"redis://h\", timeout: 0s } }", "longer than nothing"),
    ("version: 1", "version: 1\nstores: { redis: { url: \"redis://h\", username: u } }", "no use without a password"),
    ("version: 1", "version: 1\nrevocations: { urls: [] }", "urls is empty"),
    ("version: 1", "version: 1\nrevocations: { urls: [\"http://h/\"], every: 1ms }", "every is at least 50ms"),
    ("id: b", "id: a", "is declared twice"),
    ("id: b", "id: \"b b\"", "cannot be a name"),
    ("/b/*", "/a", "matches the same host, path and method"),
    ("auth: none", "require: [read]", "auth: is missing"),
    ("require: [read], ", "", "require: is missing"),
    ("require: [read]", "require: { methods: { post: [write] } }", "is not a method"),
    ("require: [read]", "require: [read], owner: { segment: 0 }", "counts from 1"),
    ("tokens: { jwt: {", "tokens: { jwt: { cookie: \"a=b\",", "is not a name of letters"),
    ("keys: { api_key: { ", "keys: { api_key: { file: f, ", "exactly one source"),
    (
        "keys: { api_key: { introspection: { urls: [\"http://h/i\"] } } }",
        "keys: { api_key: { redis: {} } }",
        "needs stores.redis",
    ),
    ("urls: [\"http://h/i\"]", "urls: []", "urls is empty"),
    ("urls: [\"http://h/i\"]", "urls: [\"http://h/i\"], client_id: c", "client_id needs a secret"),
    (
        "limits:",
        "  f: { forward: { url: \"http://h\", copy_headers: [X-Auth-Subject] } }\nlimits:",
        "set by the gateway itself",
    ),
    (
        "limits:",
        "  f: { forward: { url: \"http://h\", send_headers: [Content-Length] } }\nlimits:",
        "about a connection",
    ),
    ("limits:", "  f: { basic: { file: f, hashing_max: 0 } }\nlimits:", "hashing_max is at least 1"),
    ("limits:", "  f: { basic: { file: f, realm: 'a\"b' } }\nlimits:", "plain ASCII without quotes"),
    ("auth: none", "auth: none, require: [read]", "cannot require anything"),
    ("auth: none, limits: [ip]", "auth: none, limits: [who]", "counts by identity"),
    ("auth: [tokens, keys]", "auth: [token]", "did you mean \"tokens\"?"),
    ("auth: [tokens, keys]", "auth: []", "or the word none"),
    ("limits: [ip, who]", "limits: [ipp]", "no limit is called"),
    ("to: api }\n  -", "to: nobody }\n  -", "no upstream is called"),
    ("version: 1", "version: 1\ntests: [{ send: GET /a, expect: {} }]", "tests[0].send: expects nothing"),
    (
        "version: 1",
        "version: 1\ntests: [{ send: GET a, expect: { status: 200 } }]",
        "not a method with a URL or path",
    ),
    ("version: 1", "version: 1\ntests: [{ send: GET /a, expect: { status: 99 } }]", "a status is 200 to 599"),
    ("version: 1", "version: 1\ntests: [{ send: GET /a, expect: { route: c } }]", "no route is called"),
    ("version: 1", "version: 1\ntests: [{ send: GET /a, expect: { upstream: c } }]", "no upstream is called"),
    (
        "version: 1",
        "version: 1\ntests: [{ send: GET /a, expect: { code: token_mising } }]",
        "did you mean \"token_missing\"?",
    ),
    ("version: 1", "version: 1\ntests: [{ send: GET /a, from: x, expect: { status: 200 } }]", "not an IP address"),
    (
        "version: 1",
        "version: 1\ntests: [{ send: GET /a, as: { subject: \"a\\n\" }, expect: { status: 200 } }]",
        "a subject is plain text on one line",
    ),
    (
        "version: 1",
        "version: 1\ntests: [{ send: GET /a, as: { permissions: [\"a b\"] }, expect: { status: 200 } }]",
        "a permission holds no space",
    ),
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

#[test]
fn tests_of_the_file_are_read() {
    let case = "tests:\n  - { send: POST https://a.test/b/c, headers: { X-A: 1 }, as: { roles: [r] }, \
                expect: { route: b, upstream: api, status: 404, code: route_not_found } }\n";
    let config = parse("sound", &format!("{SOUND}{case}")).expect("a sound file");
    let [case] = &config.cases[..] else { panic!("one case: {:?}", config.cases) };
    assert_eq!((case.send.value.encrypted, case.send.value.authority.as_deref()), (Some(true), Some("a.test")));
    assert_eq!((case.headers.len(), case.from.to_string().as_str()), (1, "127.0.0.1"));
    assert_eq!(case.sender.as_ref().map(|sender| sender.subject.as_str()), Some("test"));
    assert_eq!(case.expect.code, Some(common::code::Code::RouteNotFound));
    assert_eq!(case.send.position.line, u64::try_from(SOUND.lines().count()).expect("few") + 2);
}

#[test]
fn heartbeats_are_for_upstreams_with_nothing_between_socket_and_http1() {
    let with_beats = SOUND.replace("auth: none", "auth: none, sse_heartbeat: 10s");
    parse("sound", &with_beats).expect("plain HTTP/1.1");
    for speech in ["protocol: http2", "tls: { name: a.test }"] {
        let text = with_beats.replace("api: { targets", &format!("api: {{ {speech}, targets"));
        let report = parse("broken", &text).expect_err(speech);
        assert_eq!(report.mistakes().len(), 1, "{report}");
        assert!(report.to_string().contains("needs an upstream in HTTP/1.1 without tls"), "{report}");
    }
    let split = with_beats.replace(
        "10s, limits: [ip], to: api",
        "10s, limits: [ip], split: [{ to: api, weight: 1 }, { to: spare, weight: 1 }]",
    );
    let text = split.replace("spare: { targets", "spare: { protocol: http2, targets");
    let report = parse("broken", &text).expect_err("one side of two");
    assert!(report.to_string().contains("and \"spare\" is none"), "{report}");
}
