//! Rotation: a new signing key, made by command while programs run, without a restart and without ending a token.
//!
//! Read next: `tokens.rs` for keys of the configuration.

use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::wait::{PATIENCE, until};

use crate::harness::backend::{ADMIN, Backend, Folder, Session, folder, run};
use crate::harness::client::send;
use crate::harness::database;
use crate::harness::settings::{Settings, secret_file};
use crate::harness::token::kid;

/// Under which private keys are sealed.
const SECRET: &str = "a-secret-of-at-least-32-bytes-for-keys";

/// Settings under which a key comes and goes within seconds.
fn settings(folder: &Folder, more: &str) -> Settings {
    let secret = secret_file(folder.path(), "seal", SECRET);
    Settings::development().auth(format!("{more} rotation: {{ secret: {secret}, publish_before: 4s, overlap: 1s }}"))
}

fn file_of(folder: &Folder) -> PathBuf {
    folder.path().join("backend.yaml")
}

async fn rotate(file: &Path, more: &[&str]) -> String {
    let ended = run(&[&["key", "rotate"][..], more].concat(), file, "").await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    ended.stdout.trim().to_owned()
}

/// The lines of `key list`: a key's id, and its state.
async fn listed(file: &Path) -> Vec<(String, String)> {
    let ended = run(&["key", "list"], file, "").await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let words = ended.stdout.lines().map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    words.map(|words| (words[0].clone(), words[1].clone())).collect()
}

async fn published(backend: &Backend) -> Vec<String> {
    let keys = send(backend.get("/.well-known/jwks.json")).await.expect_status(200).json();
    let keys = keys["keys"].as_array().expect("a list of keys");
    keys.iter().map(|key| key["kid"].as_str().expect("a key has an id").to_owned()).collect()
}

/// Waits until this process publishes what is wanted, and no other key.
async fn publishes(backend: &Backend, wanted: &[&str]) {
    let mut wanted: Vec<String> = wanted.iter().map(|id| (*id).to_owned()).collect();
    wanted.sort();
    until(&format!("{wanted:?} are published"), PATIENCE, async || {
        let mut ids = published(backend).await;
        ids.sort();
        (ids == wanted).then_some(())
    })
    .await;
}

/// Logs in until a key of this id signs.
async fn signed_by(backend: &Backend, id: &str) -> Session {
    until(&format!("{id} signs"), PATIENCE, async || {
        let session = backend.login(ADMIN).await;
        (kid(&session.access) == id).then_some(session)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_published_then_signs_and_the_old_one_leaves() {
    let folder = folder();
    let settings = settings(&folder, "access_token_ttl: 6s,");
    let backends = [Backend::start_in(&folder, &settings).await, Backend::start_in(&folder, &settings).await];
    let file = file_of(&folder);
    for backend in &backends {
        assert_eq!(published(backend).await, ["development"]);
    }
    let made = rotate(&file, &[]).await;
    assert_eq!(listed(&file).await.first().map(|(id, _)| id.as_str()), Some("development"));

    // Every process publishes it before any signs with it.
    for backend in &backends {
        publishes(backend, &["development", &made]).await;
    }
    let mut last_of_old = None;
    let first_of_new = until("the new key signs", PATIENCE, async || {
        let session = backends[0].login(ADMIN).await;
        if kid(&session.access) == made {
            return Some(session);
        }
        assert_eq!(kid(&session.access), "development");
        last_of_old = Some(session);
        None
    })
    .await;
    let last_of_old = last_of_old.expect("the old key has signed while the new one was published");

    // Before and after, tokens hold in both processes.
    for backend in &backends {
        assert_eq!(published(backend).await.len(), 2);
        backend.me(&last_of_old.access).await.expect_status(200);
    }
    signed_by(&backends[1], &made).await;
    backends[1].me(&first_of_new.access).await.expect_status(200);
    let states: Vec<String> = listed(&file).await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["leaving", "signs"]);

    // When no token of the old one holds any more, it goes.
    for backend in &backends {
        publishes(backend, &[made.as_str()]).await;
        backend.me(&signed_by(backend, &made).await.access).await.expect_status(200);
        assert_eq!(backend.me(&last_of_old.access).await.json()["code"], "token_key_unknown");
    }
    let states: Vec<String> = listed(&file).await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["gone", "signs"]);
    assert!(backends.iter().all(|backend| backend.said().contains("the signing keys have changed")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_may_be_hurried_and_one_waits_at_a_time() {
    let folder = folder();
    let secret = secret_file(folder.path(), "seal", SECRET);
    let settings = Settings::development().auth(format!("rotation: {{ secret: {secret}, publish_before: 1h }}"));
    let backend = Backend::start_in(&folder, &settings).await;
    let file = file_of(&folder);
    let old = backend.login(ADMIN).await;
    let first = rotate(&file, &[]).await;
    let refused = run(&["key", "rotate"], &file, "").await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("waits to sign already"), "{refused:?}");
    publishes(&backend, &["development", &first]).await;
    assert_eq!(kid(&backend.login(ADMIN).await.access), "development");

    // The one that waits is known to verifiers already, so that it is the one to hurry.
    assert_eq!(rotate(&file, &["--now"]).await, first);
    let session = signed_by(&backend, &first).await;
    let second = rotate(&file, &["--now"]).await;
    assert_ne!(second, first);
    let newest = signed_by(&backend, &second).await;
    publishes(&backend, &["development", &first, &second]).await;
    for session in [&old, &session, &newest] {
        backend.me(&session.access).await.expect_status(200);
    }
    // Who starts now finds them all.
    drop(backend);
    let backend = Backend::start_in(&folder, &settings).await;
    for session in [&old, &session, &newest] {
        backend.me(&session.access).await.expect_status(200);
    }
    assert_eq!(kid(&backend.login(ADMIN).await.access), second);
    let events = database::events(folder.path()).await;
    let noted: Vec<Option<&str>> = events
        .iter()
        .filter(|event| event.kind == "signing_key_rotated")
        .map(|event| event.detail.as_deref())
        .collect();
    assert_eq!(noted, [Some(first.as_str()), Some(first.as_str()), Some(second.as_str())], "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_lie_sealed_and_nobody_starts_without_the_secret() {
    let folder = folder();
    let bare = Settings::development().write(folder.path());
    let refused = run(&["key", "rotate"], &bare, "").await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("auth.rotation.secret"), "{refused:?}");

    let file = settings(&folder, "").write(folder.path());
    rotate(&file, &["--now"]).await;
    // The object identifier of P-256 (RFC 5480 §2.1.1.1) stands in every PKCS#8 of such a key.
    let mut open = database::open(folder.path()).await;
    let sealed = open.bytes("SELECT sealed FROM signing_keys").await;
    let p256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    assert!(sealed.len() > 100 && !sealed.windows(p256.len()).any(|window| window == p256), "it lies in the open");

    for (what, secret) in [("none", None), ("another", Some("another-secret-of-32-bytes-or-more"))] {
        println!("with {what}");
        let settings = match secret {
            None => Settings::development(),
            Some(text) => {
                let reference = secret_file(folder.path(), "other", text);
                Settings::development().auth(format!("rotation: {{ secret: {reference} }}"))
            }
        };
        let ended = run(&["all"], &settings.write(folder.path()), "").await;
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(ended.stderr.contains("auth.rotation.secret"), "{ended:?}");
        assert!(!ended.stderr.contains("of-32-bytes"), "a secret is told: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_cannot_be_read_changes_nothing_for_those_who_run() {
    let folder = folder();
    let settings = settings(&folder, "");
    let backend = Backend::start_in(&folder, &settings).await;
    let session = backend.login(ADMIN).await;
    let mut open = database::open(folder.path()).await;
    // A careless operator.
    let insert = "INSERT INTO signing_keys (id, sealed, created_at, signs_from) VALUES ('k', $1, 0, 0)";
    open.execute_with(insert, &[0]).await;
    until("the log says so", PATIENCE, async || {
        backend.said().contains("the signing keys cannot be known").then_some(())
    })
    .await;
    backend.me(&session.access).await.expect_status(200);
    backend.me(&backend.login(ADMIN).await.access).await.expect_status(200);
    let document: Value = send(backend.get("/.well-known/jwks.json")).await.json();
    assert_eq!(document["keys"].as_array().map(Vec::len), Some(1), "{document}");
}
