//! Deploy: what ships for containers, Compose and Kubernetes holds together, and both programs accept their files.
//!
//! For: `Dockerfile.*`, `docker-compose.yml`, `conf/compose/`, `k8s/`. May touch: those files, and the built programs with made-up
//! secrets in a temporary folder. Promises: no container is started and nothing is asked over a network.
//! Read next: `manifests.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::manifests::{self, documents, label, list, pod, text};
use super::{assert_none, files, read, root};

/// Where the base has the files of the two programs.
const GATEWAY_FILE: &str = "k8s/base/config/gateway.yaml";
const BACKEND_FILE: &str = "k8s/base/config/backend.yaml";

/// Images that the kustomization of the base gives their name and tag.
const NAMED_IMAGES: [&str; 2] = ["gateway", "backend"];

/// The only document of a file.
fn document(path: &str) -> Value {
    let mut found = documents(path, &read(&root().join(path)));
    assert_eq!(found.len(), 1, "{path} has one document");
    found.remove(0)
}

/// Every manifest below `k8s/`, with its file: neither what kustomize is told nor the programs' own files.
fn manifests() -> Vec<(String, Value)> {
    let is_manifest = |path: &str| !path.ends_with("kustomization.yaml") && !path.contains("config/");
    let found = files("k8s", "yaml").into_iter().filter(|file| is_manifest(&file.path));
    found
        .flat_map(|file| documents(&file.path, &file.text).into_iter().map(move |one| (file.path.clone(), one)))
        .collect()
}

/// The manifests of the base.
fn base() -> Vec<(String, Value)> {
    manifests().into_iter().filter(|(path, _)| path.starts_with("base/")).collect()
}

fn of_kind<'a>(manifests: &'a [(String, Value)], kind: &str) -> Vec<&'a Value> {
    manifests.iter().map(|(_, document)| document).filter(|document| text(document, "/kind") == kind).collect()
}

/// A manifest of the base by its kind and name.
fn named<'a>(manifests: &'a [(String, Value)], kind: &str, name: &str) -> &'a Value {
    let found = of_kind(manifests, kind).into_iter().find(|document| text(document, "/metadata/name") == name);
    found.unwrap_or_else(|| panic!("k8s/base has no {kind} {name}"))
}

/// `30s` as 30.
fn seconds(duration: &str) -> u64 {
    let number = duration.strip_suffix('s').and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{duration:?} is not in seconds"))
}

/// The port of `IP:port`.
fn port(address: &str) -> u64 {
    let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("{address:?} has no port"))
}

/// The port of a workload's container, or of a service, by its name.
fn port_named(ports: &[Value], name: &str, number: &str) -> Option<u64> {
    ports.iter().find(|port| text(port, "/name") == name)?.pointer(number)?.as_u64()
}

/// Host and port of every URL in a file of the gateway.
fn asked(file: &Value) -> BTreeSet<(String, u64)> {
    let mut urls = Vec::new();
    manifests::texts_with(file, "http://", &mut urls);
    let places = urls.iter().filter_map(|url| url.strip_prefix("http://")?.split('/').next());
    places.map(|place| (place.split(':').next().unwrap_or_default().to_owned(), port(place))).collect()
}

#[test]
fn workloads_are_bounded_probed_and_may_do_little() {
    let manifests = manifests();
    let reports = manifests.iter().flat_map(|(path, one)| manifests::careless(path, one, &NAMED_IMAGES));
    assert_none(&reports.collect::<Vec<_>>(), "These workloads of k8s/ leave something open:");
    assert!(manifests.iter().filter(|(_, one)| pod(one).is_some()).count() >= 7, "workloads were looked at");
}

#[test]
fn pods_have_the_time_to_finish_what_they_have_begun() {
    let drain = |path: &str| seconds(text(&document(path), "/server/drain"));
    let (gateway, backend) = (drain(GATEWAY_FILE), drain(BACKEND_FILE));
    let mut reports = Vec::new();
    for (path, one) in base().iter().filter(|(_, one)| text(one, "/kind") == "Deployment") {
        let drain = if text(one, "/metadata/name") == "gateway" { gateway } else { backend };
        reports.extend(manifests::killed_early(path, one, drain));
    }
    assert_none(&reports, "terminationGracePeriodSeconds is too short:");
}

#[test]
fn nobody_serves_alone() {
    let base = base();
    let mut reports = Vec::new();
    for deployment in of_kind(&base, "Deployment") {
        let name = text(deployment, "/metadata/name");
        let scaled = of_kind(&base, "HorizontalPodAutoscaler");
        let scaled = scaled.iter().find(|one| text(one, "/spec/scaleTargetRef/name") == name);
        let least =
            scaled.map_or_else(|| deployment.pointer("/spec/replicas"), |one| one.pointer("/spec/minReplicas"));
        if least.and_then(Value::as_u64).unwrap_or_default() < 2 {
            reports.push(format!("{}: fewer than two", label("k8s/base", deployment)));
        }
        if scaled.is_some() && deployment.pointer("/spec/replicas").is_some() {
            reports.push(format!("{}: an apply would undo what the autoscaler did", label("k8s/base", deployment)));
        }
        let selector = deployment.pointer("/spec/selector");
        if !of_kind(&base, "PodDisruptionBudget").iter().any(|one| one.pointer("/spec/selector") == selector) {
            reports.push(format!("{}: no PodDisruptionBudget", label("k8s/base", deployment)));
        }
    }
    assert_none(&reports, "A node that is emptied would take these away:");
}

#[test]
fn nobody_is_spoken_to_unless_a_policy_says_so() {
    let base = base();
    let nobody = named(&base, "NetworkPolicy", "nobody");
    assert_eq!(nobody.pointer("/spec"), Some(&json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] })));
}

#[test]
fn whatever_a_pod_takes_is_described() {
    let page = read(&root().join("k8s/README.md"));
    let references: BTreeSet<_> = manifests().iter().flat_map(|(_, one)| manifests::references(one)).collect();
    assert_none(&manifests::undocumented(&page, &references), "k8s/README.md does not say what these hold:");
    let kustomization = document("k8s/base/kustomization.yaml");
    let settings = literals(&kustomization);
    let variables: BTreeSet<_> = settings.into_iter().map(|(name, _)| (name, String::new())).collect();
    assert_none(&manifests::undocumented(&page, &variables), "k8s/README.md does not say what these variables are:");
}

#[test]
fn the_base_has_every_file_and_this_version() {
    let kustomization = document("k8s/base/kustomization.yaml");
    let listed: BTreeSet<_> =
        list(&kustomization, "/resources").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let there: BTreeSet<_> =
        base().into_iter().filter_map(|(path, _)| path.strip_prefix("base/").map(str::to_owned)).collect();
    assert_eq!(listed, there, "resources of k8s/base/kustomization.yaml");
    let images = list(&kustomization, "/images");
    assert_eq!(images.iter().map(|image| text(image, "/name")).collect::<Vec<_>>(), NAMED_IMAGES);
    for image in images {
        assert_eq!(text(image, "/newTag"), env!("CARGO_PKG_VERSION"), "the tag of {}", text(image, "/name"));
    }
}

#[test]
fn ports_and_names_in_kubernetes_agree_with_the_files() {
    let (base, gateway, backend) = (base(), document(GATEWAY_FILE), document(BACKEND_FILE));
    let container = |name: &str, port: &str| {
        let ports = list(named(&base, "Deployment", name), "/spec/template/spec/containers/0/ports");
        port_named(ports, port, "/containerPort")
    };
    let service =
        |name: &str, port: &str| port_named(list(named(&base, "Service", name), "/spec/ports"), port, "/port");
    for (name, at) in [("https", "/listeners/https/bind"), ("http", "/listeners/http/bind"), ("admin", "/admin/bind")]
    {
        assert_eq!(container("gateway", name), Some(port(text(&gateway, at))), "the gateway's port {name}");
    }
    assert_eq!(service("gateway", "https"), gateway.pointer("/listeners/http/redirect_port").and_then(Value::as_u64));
    let internal = Some(port(text(&backend, "/server/internal")));
    for (name, at) in [("api", "/server/api"), ("graphql", "/server/graphql")] {
        let bound = Some(port(text(&backend, at)));
        assert_eq!((container(name, "http"), container(name, "internal")), (bound, internal), "ports of {name}");
        assert_eq!(
            (service(name, "http"), service(name, "internal")),
            (bound, internal),
            "ports of the service {name}"
        );
        // By the name of the service's port, endpoints are found.
        let followed = format!("/upstreams/{name}/discovery/kubernetes");
        assert_eq!(gateway.pointer(&followed), Some(&json!({ "service": name, "port": "http" })));
    }
    assert_eq!(container("worker", "internal"), internal);
    for (host, port) in asked(&gateway) {
        let mut known = list(named(&base, "Service", &host), "/spec/ports").iter();
        assert!(known.any(|one| one.pointer("/port") == Some(&json!(port))), "http://{host}:{port}");
    }
}

#[test]
fn compose_is_bounded_and_publishes_the_gateway_alone() {
    let compose = document("docker-compose.yml");
    let services = compose.pointer("/services").and_then(Value::as_object).expect("services");
    let mut reports = Vec::new();
    for (name, service) in services {
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                reports.push(format!("docker-compose.yml: {name}: {what}"));
            }
        };
        let limits = ["cpus", "memory"].map(|limit| service.pointer(&format!("/deploy/resources/limits/{limit}")));
        expect(limits.iter().all(Option::is_some), "limits are missing");
        let version = text(service, "/image").replace("${CAPIBARA6_VERSION:-", "").replace('}', "");
        expect(manifests::has_version(&version), "the image has no version");
        let ours = version.starts_with("localhost/capibara6/");
        expect(
            !ours || version.ends_with(concat!(":", env!("CARGO_PKG_VERSION"))),
            "the image is of another version",
        );
        expect(!ours || service.pointer("/cap_drop") == Some(&json!(["ALL"])), "cap_drop is not ALL");
        expect(!ours || service.pointer("/read_only") == Some(&json!(true)), "read_only is not true");
        expect(service.pointer("/privileged").is_none(), "privileged is spoken of");
        expect(service.pointer("/security_opt") == Some(&json!(["no-new-privileges:true"])), "security_opt");
        expect(service.pointer("/healthcheck").is_some(), "the health check is missing");
        expect(name == "gateway" || service.pointer("/ports").is_none(), "only the gateway's ports are published");
    }
    assert_none(&reports, "These services leave something open:");
}

#[test]
fn compose_agrees_with_its_files() {
    let compose = document("docker-compose.yml");
    let (gateway, backend) = (document("conf/compose/gateway.yaml"), document("conf/compose/backend.yaml"));
    let published = ["/listeners/https/bind", "/listeners/http/bind"].map(|at| port(text(&gateway, at)));
    let published = published.map(|port| format!("{port}:{port}"));
    assert_eq!(compose.pointer("/services/gateway/ports"), Some(&json!(published)));
    let bound = |at: &str| port(text(&backend, at));
    for (name, at) in [("api", "/server/api"), ("graphql", "/server/graphql")] {
        let looked_up = text(&gateway, &format!("/upstreams/{name}/discovery/dns")).to_owned();
        assert_eq!(looked_up, format!("{name}:{}", bound(at)));
    }
    let internal = bound("/server/internal");
    for (host, port) in asked(&gateway) {
        assert!(compose.pointer(&format!("/services/{host}")).is_some(), "a service {host}");
        assert!([bound("/server/api"), internal].contains(&port), "http://{host}:{port}");
    }
    for (name, file) in [("gateway", &gateway), ("api", &backend), ("graphql", &backend), ("worker", &backend)] {
        let (grace, drain) = (format!("/services/{name}/stop_grace_period"), text(file, "/server/drain"));
        assert!(seconds(text(&compose, &grace)) > seconds(drain), "stop_grace_period of {name}");
    }
    let script = read(&root().join("conf/make-secrets.sh"));
    for (name, secret) in compose.pointer("/secrets").and_then(Value::as_object).expect("secrets") {
        assert_eq!(text(secret, "/file"), format!("./.secrets/{name}"));
        assert!(script.contains(&format!("\nmake {name} ")), "conf/make-secrets.sh makes {name}");
    }
}

#[test]
fn routes_limits_and_credentials_are_those_of_the_commented_file() {
    let commented = document("conf/gateway.yaml");
    // What depends on the place: whom to ask, by which secret, and who counts together.
    let same = |file: &Value, at: &str| {
        manifests::without(file.pointer(at).unwrap_or(&Value::Null), &["urls", "secret", "scope"])
    };
    for path in ["conf/compose/gateway.yaml", GATEWAY_FILE] {
        let file = document(path);
        for at in ["/routes", "/limits", "/auth", "/revocations"] {
            assert_eq!(same(&file, at), same(&commented, at), "{at} of {path}, beside conf/gateway.yaml");
        }
    }
}

/// Variables of the `ConfigMap` `settings`.
fn literals(kustomization: &Value) -> Vec<(String, String)> {
    let mut generated = list(kustomization, "/configMapGenerator").iter();
    let settings = generated.find(|one| text(one, "/name") == "settings").expect("settings");
    let literals = list(settings, "/literals").iter().filter_map(|literal| literal.as_str()?.split_once('='));
    literals.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A folder with everything that the files of both programs name.
fn secrets() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let (secret, database) =
        ("0123456789abcdef".repeat(4), "postgres://capibara6:secret@postgres/capibara6".to_owned());
    for (name, text) in [
        ("tls.crt", &certificate),
        ("tls.key", &key),
        ("ca.crt", &certificate),
        ("token", &secret),
        ("introspection", &secret),
        ("keys_secret", &secret),
        ("redis_password", &secret),
        ("signing_key.pem", &key),
        ("database_url", &database),
    ] {
        fs::write(folder.path().join(name), text).expect("a file in it");
    }
    folder
}

/// What a program says of a file for containers, when the secrets lie in this folder; `None` when the file is sound.
fn complaint(program: &str, path: &str, folder: &Path, environment: &[(String, String)]) -> Option<String> {
    let binary = Path::new(env!("CARGO_BIN_EXE_gateway")).with_file_name(program);
    assert!(
        binary.exists(),
        "{} is not built: run `cargo build --workspace` (make test does) first",
        binary.display()
    );
    let mut text = read(&root().join(path));
    let place = format!("{}/", folder.display());
    for mounted in ["/run/secrets/", "/etc/gateway/tls/", "/etc/gateway/secrets/", "/etc/backend/secrets/"] {
        text = text.replace(mounted, &place);
    }
    // What a pod is given by its service account.
    let account = format!("kubernetes: {{ namespace: x, ca: {place}ca.crt, token: \"file:{place}token\",");
    text = text.replace("kubernetes: {", &account);
    let playbooks = root().join("conf/playbooks").display().to_string();
    text = text.replace("/usr/share/capibara6/playbooks", &playbooks);
    let file = folder.join(format!("{program}.yaml"));
    fs::write(&file, text).expect("a file in it");
    let mut command = Command::new(binary);
    command.arg("check").arg("-c").arg(&file).env_clear();
    command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
    for (name, value) in environment {
        command.env(name, value);
    }
    let output = command.output().expect("a program that starts");
    (!output.status.success()).then(|| format!("{path}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn files_for_containers_are_sound_in_production() {
    let folder = secrets();
    let kubernetes = literals(&document("k8s/base/kustomization.yaml"));
    assert!(kubernetes.contains(&("CAPIBARA6_ENV".to_owned(), "production".to_owned())));
    let compose = [("CAPIBARA6_MODEL_URL".to_owned(), "http://models.test/v1".to_owned())];
    let demo = [("CAPIBARA6_REDIS_URL".to_owned(), "redis://redis:6379".to_owned())];
    let cases: [(&str, &str, &[(String, String)]); 6] = [
        ("gateway", "conf/compose/gateway.yaml", &[]),
        ("backend", "conf/compose/backend.yaml", &compose),
        ("gateway", GATEWAY_FILE, &kubernetes),
        ("backend", BACKEND_FILE, &kubernetes),
        ("backend", "conf/compose/backend.development.yaml", &[]),
        ("backend", "k8s/overlays/demo/config/backend.yaml", &demo),
    ];
    let reports = cases.iter().filter_map(|(program, path, set)| complaint(program, path, folder.path(), set));
    assert_none(&reports.collect::<Vec<_>>(), "The programs do not accept these:");
    // Without a model server it is no production.
    let refused = complaint("backend", "conf/compose/backend.yaml", folder.path(), &[]).expect("a refusal");
    assert!(refused.contains("models[0].url"), "{refused}");
}

#[test]
fn images_run_as_a_number_and_by_a_version() {
    for (program, ports) in [("gateway", "EXPOSE 8080 8443 9901"), ("backend", "EXPOSE 8000 8001 8002")] {
        let path = format!("Dockerfile.{program}");
        let page = read(&root().join(&path));
        assert!(page.lines().any(|line| line == "USER 10001:10001"), "{path}: USER");
        assert!(page.lines().any(|line| line == ports), "{path}: {ports}");
        let bases = page.lines().filter_map(|line| line.strip_prefix("ARG ")?.split_once('='));
        let bases: Vec<_> = bases.map(|(_, image)| image).collect();
        assert_eq!(bases.len(), 2, "{path}: {bases:?}");
        assert!(bases.iter().all(|image| manifests::has_version(image)), "{path}: {bases:?}");
    }
}
