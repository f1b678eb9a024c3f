//! Settings: each proxy's configuration, as text.
//!
//! For: `peers.rs`. May touch: nothing. Promises: no log in the jobs that do not ask for one; connections to the upstream
//! are kept; limits are checked, and so high that nobody meets them.

use std::net::SocketAddr;
use std::path::Path;

use super::Scene;

/// What nginx needs to run from a folder of its own.
fn nginx_head(folder: &Path, name: &str) -> String {
    let folder = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {folder}/{name}-{kind};\n"));
    format!(
        "worker_processes 1;\ndaemon off;\npid {folder}/{name}.pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n{}",
        temporary.concat()
    )
}

pub(super) fn upstream(scene: &Scene) -> String {
    // Together with the braces, quotes and name, 128 bytes.
    let body = format!("{{\"text\":\"{}\"}}", "x".repeat(117));
    format!(
        "{}  server {{\n    listen {address};\n    location / {{ default_type application/json; return 200 '{body}'; }}\n  }}\n}}\n",
        nginx_head(&scene.folder, "upstream"),
        address = scene.upstream
    )
}

pub(super) fn gateway(scene: &Scene) -> String {
    let [plain, https, whole] = scene.ports;
    let tls =
        format!("tls: {{ certificates: [{{ cert: {}, key: {} }}] }}", scene.file("tls.crt"), scene.file("tls.key"));
    format!(
        "version: 1\nenvironment: development\nlog: {{ filter: warn }}\n\
         server: {{ workers: 1, keepalive_requests: 1000000000, \
         flood_guard: {{ connections_per_second: 0, requests_per_second: 0 }} }}\n\
         admin: {{ bind: \"127.0.0.1:0\" }}\n\
         listeners:\n  plain: {{ bind: \"{plain}\" }}\n  https: {{ bind: \"{https}\", {tls} }}\n  \
         whole: {{ bind: \"{whole}\", {tls} }}\n\
         upstreams: {{ api: {{ targets: [\"{upstream}\"] }} }}\n\
         auth: {{ tokens: {{ jwt: {{ issuer: \"https://issuer.test/\", audience: api, algorithms: [RS256], \
         jwks: {{ file: {jwks} }} }} }} }}\n\
         limits: {{ ip: {{ by: client.ip, rate: 100000000/s }}, user: {{ by: identity.subject, rate: 1000000/s }} }}\n\
         routes:\n  - {{ id: open, path: \"/*\", auth: none, log: errors, to: api }}\n  \
         - {{ id: whole, path: /whole, auth: [tokens], require: [read], limits: [ip, user], to: api }}\n",
        upstream = scene.upstream,
        jwks = scene.file("jwks.json"),
    )
}

pub(super) fn nginx(scene: &Scene) -> String {
    let [plain, https, whole] = scene.ports;
    let tls = format!("ssl_certificate {}; ssl_certificate_key {};", scene.file("tls.crt"), scene.file("tls.key"));
    let pass = "location / { proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection \"\"; }";
    format!(
        "{head}  upstream api {{ server {upstream}; keepalive 128; }}\n  \
         limit_req_zone $binary_remote_addr zone=by_ip:10m rate=1000000r/s;\n  \
         limit_req_zone $http_authorization zone=by_user:50m rate=1000000r/s;\n  \
         ssl_protocols TLSv1.2 TLSv1.3;\n  \
         server {{ listen {plain}; {pass} }}\n  \
         server {{ listen {https} ssl http2; {tls} {pass} }}\n  \
         server {{ listen {whole} ssl; {tls} access_log /dev/null combined; \
         limit_req zone=by_ip burst=100000 nodelay; limit_req zone=by_user burst=100000 nodelay; {pass} }}\n}}\n",
        head = nginx_head(&scene.folder, "nginx"),
        upstream = scene.upstream,
    )
}

pub(super) fn haproxy(scene: &Scene) -> String {
    let [plain, https, whole] = scene.ports;
    let (pem, key) = (scene.file("tls.pem"), scene.file("token.pub.pem"));
    format!(
        "global\n  nbthread 1\n  maxconn 8192\n  log stdout format raw local0 info\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  http-reuse always\n\
         frontend plain\n  bind {plain}\n  default_backend api\n\
         frontend https\n  bind {https} ssl crt {pem} alpn h2,http/1.1\n  default_backend api\n\
         frontend whole\n  bind {whole} ssl crt {pem}\n  log global\n  option httplog\n  \
         http-request set-var(txn.token) http_auth_bearer\n  \
         http-request set-var(txn.subject) var(txn.token),jwt_payload_query('$.sub')\n  \
         http-request deny deny_status 401 unless {{ var(txn.token),jwt_header_query('$.alg') -m str RS256 }}\n  \
         http-request deny deny_status 401 unless {{ var(txn.token),jwt_payload_query('$.iss') -m str https://issuer.test/ }}\n  \
         http-request deny deny_status 401 unless {{ var(txn.token),jwt_payload_query('$.aud') -m str api }}\n  \
         http-request set-var(txn.ends) var(txn.token),jwt_payload_query('$.exp','int')\n  \
         http-request deny deny_status 401 if {{ date,sub(txn.ends) gt 0 }}\n  \
         http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify(\"RS256\",\"{key}\") -m int 1 }}\n  \
         http-request track-sc0 src table by_ip\n  \
         http-request track-sc1 var(txn.subject) table by_user\n  \
         http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 100000000 }} || {{ sc_http_req_rate(1) gt 100000000 }}\n  \
         default_backend api\n\
         backend by_ip\n  stick-table type ip size 100k expire 60s store http_req_rate(10s)\n\
         backend by_user\n  stick-table type string len 64 size 100k expire 60s store http_req_rate(10s)\n\
         backend api\n  server one {upstream}\n",
        upstream = scene.upstream,
    )
}

pub(super) fn traefik(scene: &Scene) -> String {
    let [plain, https, _] = scene.ports;
    format!(
        "entryPoints:\n  plain: {{ address: \"{plain}\" }}\n  https: {{ address: \"{https}\" }}\n\
         providers: {{ file: {{ filename: {} }} }}\nlog: {{ level: ERROR }}\n\
         global: {{ checkNewVersion: false, sendAnonymousUsage: false }}\n",
        scene.file("traefik-routes.yaml")
    )
}

pub(super) fn traefik_routes(scene: &Scene) -> String {
    format!(
        "http:\n  routers:\n    plain: {{ entryPoints: [plain], rule: \"PathPrefix(`/`)\", service: api }}\n    \
         https: {{ entryPoints: [https], rule: \"PathPrefix(`/`)\", service: api, tls: {{}} }}\n  \
         services: {{ api: {{ loadBalancer: {{ servers: [{{ url: \"http://{upstream}\" }}] }} }} }}\n\
         tls: {{ stores: {{ default: {{ defaultCertificate: {{ certFile: {cert}, keyFile: {key} }} }} }} }}\n",
        upstream = scene.upstream,
        cert = scene.file("tls.crt"),
        key = scene.file("tls.key"),
    )
}

pub(super) fn caddy(scene: &Scene) -> String {
    let [plain, https, _] = scene.ports;
    let upstream = scene.upstream;
    format!(
        "{{\n  admin off\n  auto_https off\n  persist_config off\n  log {{\n    level ERROR\n  }}\n  \
         servers {{\n    protocols h1 h2\n  }}\n}}\n\
         http://:{plain} {{\n  bind 127.0.0.1\n  reverse_proxy {upstream}\n}}\n\
         https://:{https} {{\n  bind 127.0.0.1\n  tls {cert} {key}\n  reverse_proxy {upstream}\n}}\n",
        plain = plain.port(),
        https = https.port(),
        cert = scene.file("tls.crt"),
        key = scene.file("tls.key"),
    )
}

pub(super) fn envoy(scene: &Scene) -> String {
    let [plain, https, whole] = scene.ports;
    let tls = envoy_tls(scene, "[h2, http/1.1]");
    format!(
        "static_resources:\n  listeners:\n{}{}{}  clusters:\n  - name: api\n    type: STATIC\n    connect_timeout: 5s\n    \
         load_assignment:\n      cluster_name: api\n      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ \
         socket_address: {{ address: {}, port_value: {} }} }} }} }}] }}]\n",
        envoy_listener("plain", plain, "", "", ""),
        envoy_listener("https", https, &tls, "", ""),
        envoy_listener(
            "whole",
            whole,
            &envoy_tls(scene, "[http/1.1]"),
            &envoy_checks(scene),
            "\n          access_log: [{ name: file, typed_config: { \"@type\": \
             type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/null } }]"
        ),
        scene.upstream.ip(),
        scene.upstream.port(),
    )
}

fn envoy_listener(name: &str, address: SocketAddr, tls: &str, checks: &str, log: &str) -> String {
    format!(
        "  - name: {name}\n    address: {{ socket_address: {{ address: {}, port_value: {} }} }}\n    \
         filter_chains:\n    - filters:\n      - name: envoy.filters.network.http_connection_manager\n        \
         typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          \
         stat_prefix: {name}{log}\n          \
         route_config: {{ virtual_hosts: [{{ name: all, domains: [\"*\"], routes: [{{ match: {{ prefix: / }}, \
         route: {{ cluster: api }} }}] }}] }}\n          \
         http_filters:\n{checks}          \
         - {{ name: envoy.filters.http.router, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }}\n{tls}",
        address.ip(),
        address.port(),
    )
}

fn envoy_tls(scene: &Scene, protocols: &str) -> String {
    format!(
        "      transport_socket:\n        name: envoy.transport_sockets.tls\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n          \
         common_tls_context:\n            alpn_protocols: {protocols}\n            \
         tls_params: {{ tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3 }}\n            \
         tls_certificates: [{{ certificate_chain: {{ filename: {} }}, private_key: {{ filename: {} }} }}]\n",
        scene.file("tls.crt"),
        scene.file("tls.key"),
    )
}

/// The token, with Envoy's cache of checked ones, and limits with a bucket for each address and user.
fn envoy_checks(scene: &Scene) -> String {
    let bucket = "token_bucket: { max_tokens: 100000000, tokens_per_fill: 100000000, fill_interval: 1s }";
    let all = "{ default_value: { numerator: 100, denominator: HUNDRED } }";
    format!(
        "          - name: envoy.filters.http.jwt_authn\n            typed_config:\n              \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication\n              \
         providers:\n                issuer:\n                  issuer: https://issuer.test/\n                  \
         audiences: [api]\n                  local_jwks: {{ filename: {jwks} }}\n                  \
         jwt_cache_config: {{ jwt_cache_size: 2000 }}\n                  \
         claim_to_headers: [{{ header_name: x-subject, claim_name: sub }}]\n              \
         rules: [{{ match: {{ prefix: / }}, requires: {{ provider_name: issuer }} }}]\n          \
         - name: envoy.filters.http.local_ratelimit\n            typed_config:\n              \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit\n              \
         stat_prefix: limits\n              {bucket}\n              filter_enabled: {all}\n              \
         filter_enforced: {all}\n              max_dynamic_descriptors: 4000\n              \
         descriptors:\n              - {{ entries: [{{ key: remote_address }}], {bucket} }}\n              \
         - {{ entries: [{{ key: subject }}], {bucket} }}\n              \
         rate_limits:\n              - {{ actions: [{{ remote_address: {{}} }}] }}\n              \
         - {{ actions: [{{ request_headers: {{ header_name: x-subject, descriptor_key: subject }} }}] }}\n",
        jwks = scene.file("jwks.json"),
    )
}
