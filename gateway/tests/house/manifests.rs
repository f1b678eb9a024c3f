//! Manifests: what the files of Kubernetes and Compose must say of every program that they start.
//!
//! For: bounds, probes, images, what a container may do, what it refers to, how long it may take to leave. May touch: only the
//! text it is given. Promises: a report names the file, the workload and what is wrong. Read next: `deploy.rs`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// What is left of a pod's time after `preStop` and the drain, at least, in seconds.
const REST_SECONDS_MIN: u64 = 5;

/// The documents of a YAML file.
pub fn documents(place: &str, text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{place}: {error}"))
}

/// The text at a JSON pointer; empty where there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer; empty where there is none.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The pod that a Deployment, `StatefulSet` or Job makes.
pub fn pod(document: &Value) -> Option<&Value> {
    document.pointer("/spec/template/spec")
}

/// What a workload is called in a report.
pub fn label(place: &str, document: &Value) -> String {
    format!("{place}: {} {}", text(document, "/kind"), text(document, "/metadata/name"))
}

/// What a workload leaves open that it must not. `named` are images that kustomize gives their name and tag.
pub fn careless(place: &str, document: &Value, named: &[&str]) -> Vec<String> {
    let Some(pod) = pod(document) else { return Vec::new() };
    let mut wrong: Vec<String> = Vec::new();
    let is = |value: &Value, pointer: &str, wanted: &Value| value.pointer(pointer) == Some(wanted);
    for (pointer, wanted) in [
        ("/securityContext/runAsNonRoot", json!(true)),
        ("/securityContext/seccompProfile/type", json!("RuntimeDefault")),
        ("/enableServiceLinks", json!(false)),
        ("/automountServiceAccountToken", json!(!text(pod, "/serviceAccountName").is_empty())),
    ] {
        if !is(pod, pointer, &wanted) {
            wrong.push(format!("{pointer} is not {wanted}"));
        }
    }
    if pod.pointer("/securityContext/runAsUser").and_then(Value::as_u64).unwrap_or_default() == 0 {
        wrong.push("runs as root, or as nobody knows whom".to_owned());
    }
    for pointer in ["/hostNetwork", "/hostPID", "/hostIPC"] {
        if pod.pointer(pointer).is_some() {
            wrong.push(format!("{pointer} is there"));
        }
    }
    for container in list(pod, "/containers") {
        for (pointer, wanted) in [
            ("/securityContext/allowPrivilegeEscalation", json!(false)),
            ("/securityContext/readOnlyRootFilesystem", json!(true)),
            ("/securityContext/capabilities", json!({ "drop": ["ALL"] })),
        ] {
            if !is(container, pointer, &wanted) {
                wrong.push(format!("{pointer} is not {wanted}"));
            }
        }
        let bounds = ["/resources/requests/cpu", "/resources/requests/memory", "/resources/limits/cpu"];
        let probes: &[_] =
            if text(document, "/kind") == "Job" { &[] } else { &["/readinessProbe", "/livenessProbe"] };
        for pointer in bounds.iter().chain(&["/resources/limits/memory"]).chain(probes) {
            if container.pointer(pointer).is_none() {
                wrong.push(format!("{pointer} is missing"));
            }
        }
        if container.pointer("/securityContext/privileged").is_some() {
            wrong.push("privileged is spoken of".to_owned());
        }
        let image = text(container, "/image");
        if !named.contains(&image) && !has_version(image) {
            wrong.push(format!("the image {image:?} has no version"));
        }
        wrong.extend(undeclared_ports(container));
    }
    let label = label(place, document);
    wrong.into_iter().map(|wrong| format!("{label}: {wrong}")).collect()
}

/// Ports that probes call by a name which the container does not declare.
fn undeclared_ports(container: &Value) -> Vec<String> {
    let declared: Vec<_> = list(container, "/ports").iter().map(|port| text(port, "/name")).collect();
    let probes = ["/readinessProbe", "/livenessProbe", "/startupProbe"].map(|probe| container.pointer(probe));
    let asked =
        probes.into_iter().flatten().flat_map(|probe| ["/httpGet/port", "/tcpSocket/port"].map(|at| text(probe, at)));
    let missing = asked.filter(|port| !port.is_empty() && !declared.contains(port));
    missing.map(|port| format!("a probe asks port {port:?}, which is not declared")).collect()
}

/// Whether an image is named with a tag that stays what it is.
pub fn has_version(image: &str) -> bool {
    let tag = image.rsplit('/').next().and_then(|last| last.split_once(':')).map_or("", |(_, tag)| tag);
    !tag.is_empty() && tag != "latest"
}

/// Whether a pod is killed before it could finish: what it says, and what it needs.
pub fn killed_early(place: &str, document: &Value, drain_seconds: u64) -> Option<String> {
    let pod = pod(document)?;
    let seconds = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or_default();
    let pauses = list(pod, "/containers").iter();
    let pause = pauses.map(|container| seconds(container.pointer("/lifecycle/preStop/sleep/seconds"))).max();
    let needed = pause.unwrap_or_default() + drain_seconds + REST_SECONDS_MIN;
    let given = seconds(pod.pointer("/terminationGracePeriodSeconds"));
    (given < needed).then(|| format!("{}: {given} s to leave, {needed} s are needed", label(place, document)))
}

/// Names of the `ConfigMaps` and Secrets that a workload takes something from, each with the key, or with none for all of them.
pub fn references(document: &Value) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let Some(pod) = pod(document) else { return found };
    for volume in list(pod, "/volumes") {
        for (at, name) in [("/secret", "/secretName"), ("/configMap", "/name")] {
            let Some(source) = volume.pointer(at) else { continue };
            let name = text(source, name);
            found.insert((name.to_owned(), String::new()));
            found.extend(list(source, "/items").iter().map(|item| (name.to_owned(), text(item, "/key").to_owned())));
        }
    }
    for container in list(pod, "/containers") {
        for from in list(container, "/envFrom") {
            for at in ["/configMapRef/name", "/secretRef/name"] {
                found.insert((text(from, at).to_owned(), String::new()));
            }
        }
        for variable in list(container, "/env") {
            for at in ["/valueFrom/secretKeyRef", "/valueFrom/configMapKeyRef"] {
                let Some(source) = variable.pointer(at) else { continue };
                found.insert((text(source, "/name").to_owned(), text(source, "/key").to_owned()));
            }
        }
    }
    found.retain(|(name, _)| !name.is_empty());
    found
}

/// References that a page does not name in backticks.
pub fn undocumented(page: &str, references: &BTreeSet<(String, String)>) -> Vec<String> {
    let named = |word: &str| word.is_empty() || page.contains(&format!("`{word}`"));
    let missing = references.iter().filter(|(name, key)| !named(name) || !named(key));
    missing.map(|(name, key)| format!("{name} {key}").trim_end().to_owned()).collect()
}

/// Every text in a tree that begins like this.
pub fn texts_with<'a>(value: &'a Value, beginning: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if text.starts_with(beginning) => found.push(text),
        Value::Array(items) => {
            for item in items {
                texts_with(item, beginning, found);
            }
        }
        Value::Object(entries) => {
            for item in entries.values() {
                texts_with(item, beginning, found);
            }
        }
        _ => {}
    }
}

/// A tree without the entries of these names, wherever they stand.
pub fn without(value: &Value, names: &[&str]) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| without(item, names)).collect(),
        Value::Object(entries) => {
            let kept = entries.iter().filter(|(name, _)| !names.contains(&name.as_str()));
            Value::Object(kept.map(|(name, item)| (name.clone(), without(item, names))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workload that leaves nothing open.
    const CAREFUL: &str = "\
kind: Deployment
metadata: { name: a }
spec:
  template:
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 45
      securityContext: { runAsNonRoot: true, runAsUser: 10001, seccompProfile: { type: RuntimeDefault } }
      containers:
        - image: registry.test:5000/a:1.2
          ports: [{ name: http, containerPort: 80 }]
          envFrom: [{ configMapRef: { name: settings } }]
          env: [{ name: A, valueFrom: { secretKeyRef: { name: passwords, key: a } } }]
          readinessProbe: { httpGet: { path: /, port: http } }
          livenessProbe: { tcpSocket: { port: http } }
          lifecycle: { preStop: { sleep: { seconds: 10 } } }
          resources: { requests: { cpu: 1, memory: 1Mi }, limits: { cpu: 1, memory: 1Mi } }
          securityContext:
            { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: [ALL] } }
      volumes:
        - { name: b, secret: { secretName: keys, items: [{ key: b, path: b }] } }
        - { name: c, configMap: { name: files } }
";

    fn one(text: &str) -> Value {
        documents("x.yaml", text).remove(0)
    }

    #[test]
    fn what_is_left_open_is_found() {
        assert_eq!(careless("x.yaml", &one(CAREFUL), &[]), [""; 0]);
        let cases = [
            ("runAsNonRoot: true, ", "", "/securityContext/runAsNonRoot is not true"),
            ("runAsUser: 10001, ", "runAsUser: 0, ", "runs as root, or as nobody knows whom"),
            ("automountServiceAccountToken: false", "hostPID: true", "/automountServiceAccountToken is not false"),
            ("/a:1.2", "/a", "the image \"registry.test:5000/a\" has no version"),
            ("/a:1.2", "/a:latest", "the image \"registry.test:5000/a:latest\" has no version"),
            ("[ALL]", "[ALL], add: [SYS_ADMIN]", "/securityContext/capabilities is not {\"drop\":[\"ALL\"]}"),
            ("limits: { cpu: 1, memory: 1Mi }", "limits: { cpu: 1 }", "/resources/limits/memory is missing"),
            ("livenessProbe", "deadlyProbe", "/livenessProbe is missing"),
            (
                "tcpSocket: { port: http }",
                "tcpSocket: { port: https }",
                "a probe asks port \"https\", which is not declared",
            ),
            ("{ allowPriv", "{ privileged: true, allowPriv", "privileged is spoken of"),
        ];
        for (before, after, report) in cases {
            let reports = careless("x.yaml", &one(&CAREFUL.replacen(before, after, 1)), &[]);
            let expected = format!("x.yaml: Deployment a: {report}");
            assert!(reports.contains(&expected), "{before} → {after}: {reports:?}");
        }
        let placeholder = CAREFUL.replace("registry.test:5000/a:1.2", "a");
        assert_eq!(careless("x.yaml", &one(&placeholder), &["a"]), [""; 0]);
    }

    #[test]
    fn a_pod_that_is_killed_early_is_found() {
        assert_eq!(killed_early("x.yaml", &one(CAREFUL), 30), None);
        let expected = "x.yaml: Deployment a: 45 s to leave, 46 s are needed";
        assert_eq!(killed_early("x.yaml", &one(CAREFUL), 31).as_deref(), Some(expected));
    }

    #[test]
    fn references_are_found_and_looked_up() {
        let found = references(&one(CAREFUL));
        let pairs: Vec<_> = found.iter().map(|(name, key)| (name.as_str(), key.as_str())).collect();
        assert_eq!(pairs, [("files", ""), ("keys", ""), ("keys", "b"), ("passwords", "a"), ("settings", "")]);
        assert_eq!(undocumented("`files` `keys` `a` `settings` passwords", &found), ["keys b", "passwords a"]);
    }

    #[test]
    fn trees_are_searched_and_cut() {
        let tree = json!({ "a": ["http://x", { "b": "http://y" }], "c": 1 });
        let mut found = Vec::new();
        texts_with(&tree, "http://", &mut found);
        assert_eq!(found, ["http://x", "http://y"]);
        assert_eq!(without(&tree, &["b", "c"]), json!({ "a": ["http://x", {}] }));
    }
}
