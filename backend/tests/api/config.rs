//! The command line: what is checked, and what production refuses.

use std::path::Path;
use std::process::Output;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::{folder, run, write_config};

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_mistake_is_printed_and_the_exit_code_is_64() {
    let folder = folder();
    let text = "\
version: 1
server: { api: here, drane: 5s }
database: { url: \"sqlite::memory:\" }
models:
  - { id: m, size: tiny, url: \"http://127.0.0.1:9/v1\" }
auth: { access_token_ttl: 30 }
";
    std::fs::write(folder.path().join("bad.yaml"), text).expect("written");
    for command in ["check", "all", "api", "migrate"] {
        let output = run(folder.path(), &[command, "-c", "bad.yaml"], "");
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(64), "{command}: {errors}");
        for part in [
            "bad.yaml:2:16: server.api: ",
            "bad.yaml:2:22: server: unknown key \"drane\"; did you mean \"drain\"?",
            "bad.yaml:3:18: database.url: ",
            "bad.yaml:5:20: models[0].size: \"tiny\" is not known; one of: small, large",
            "bad.yaml:6:27: auth.access_token_ttl: expected a duration",
        ] {
            assert!(errors.contains(part), "{command}: {part} is not in\n{errors}");
        }
        assert_eq!(errors.lines().count(), 5, "{errors}");
    }
}

#[test]
fn a_missing_file_is_told_and_a_sound_one_passes() {
    let folder = folder();
    let missing = run(folder.path(), &["check", "-c", "none.yaml"], "");
    assert_eq!(missing.status.code(), Some(64));
    assert!(errors(&missing).contains("none.yaml:1:1: cannot be read"), "{}", errors(&missing));
    write_config(folder.path(), "good.yaml", "");
    let sound = run(folder.path(), &["check", "-c", "good.yaml"], "");
    assert!(sound.status.success(), "{}", errors(&sound));
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/backend.yaml");
    assert!(run(folder.path(), &["check", "-c", shipped], "").status.success());
}

#[test]
fn the_manual_is_printed() {
    let folder = folder();
    let output = run(folder.path(), &["manual"], "");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), backend::config::manual());
}

#[test]
fn migrating_twice_is_no_error() {
    let folder = folder();
    write_config(folder.path(), "backend.yaml", "");
    for _ in 0..2 {
        let output = run(folder.path(), &["migrate", "-c", "backend.yaml"], "");
        assert!(output.status.success(), "{}", errors(&output));
    }
    assert!(folder.path().join("data/test.db").is_file());
}

#[test]
fn production_refuses_the_password_that_everybody_knows() {
    let folder = folder();
    write_config(folder.path(), "backend.yaml", "");
    let added = run(
        folder.path(),
        &["user", "add", "-c", "backend.yaml", "--name", "admin", "--role", "admin"],
        "admin123\n",
    );
    assert!(added.status.success(), "{}", errors(&added));
    production_config(folder.path(), &new_key());
    let refused = run(folder.path(), &["all", "-c", "production.yaml"], "");
    assert_eq!(refused.status.code(), Some(1), "{}", errors(&refused));
    assert!(errors(&refused).contains("still has the development password"), "{}", errors(&refused));
}

#[test]
fn production_refuses_a_key_that_is_none() {
    let folder = folder();
    production_config(folder.path(), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let refused = run(folder.path(), &["check", "-c", "production.yaml"], "");
    assert_eq!(refused.status.code(), Some(64));
    assert!(errors(&refused).contains("signing key \"k1\" is not a P-256 key"), "{}", errors(&refused));
    production_config(folder.path(), &new_key());
    let sound = run(folder.path(), &["check", "-c", "production.yaml"], "");
    assert!(sound.status.success(), "{}", errors(&sound));
}

fn production_config(folder: &Path, key: &str) {
    std::fs::write(folder.join("k1.pem"), key).expect("written");
    std::fs::write(folder.join("secret"), "0123456789abcdef").expect("written");
    write_config(
        folder,
        "production.yaml",
        "environment: production\nauth: { signing_keys: [{ id: k1, key: \"file:k1.pem\" }] }\n\
         introspection: { secret: \"file:secret\" }\nmodels: [{ id: m, size: small, url: \"http://127.0.0.1:9/v1\" }]\n",
    );
}

/// A fresh P-256 key as PKCS#8 in PEM.
fn new_key() -> String {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
    let encoded = STANDARD.encode(document.as_ref());
    let lines: Vec<&str> = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}
