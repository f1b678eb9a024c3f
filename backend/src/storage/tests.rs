//! Tests of what is kept, on a real file.

use std::path::PathBuf;
use std::time::Duration;

use common::access::{Permission, Role};
use common::api_key::ApiKey;

use super::*;

const NOW: i64 = 1_800_000_000;

struct Fixture {
    store: Store,
    settings: Database,
    _folder: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path: PathBuf = folder.path().join("deep/er/test.db");
    let settings = Database { path, readers_max: 2, busy_timeout: Duration::from_secs(5) };
    let store = Store::open(&settings).await.expect("the database opens");
    store.user_create(user("u-1", "ann")).await.expect("a user is kept");
    Fixture { store, settings, _folder: folder }
}

fn user<'a>(id: &'a str, name: &'a str) -> NewUser<'a> {
    NewUser { id, name, password_hash: "h", role: Role::Developer, created_at: NOW }
}

fn token(hash: &[u8]) -> NewRefreshToken<'_> {
    NewRefreshToken { token_hash: hash, issued_at: NOW, expires_at: NOW + 100 }
}

#[tokio::test]
async fn names_are_unique_and_lists_are_in_order() {
    let fixture = fixture().await;
    let store = &fixture.store;
    let taken = store.user_create(user("u-2", "ann")).await;
    assert!(matches!(taken, Err(StorageError::Taken { .. })), "{taken:?}");
    store.user_create(user("u-3", "bob")).await.expect("a user is kept");
    let names = |users: Vec<UserRow>| users.into_iter().map(|user| user.name).collect::<Vec<_>>();
    assert_eq!(names(store.user_list(None, 10).await.expect("listed")), ["ann", "bob"]);
    assert_eq!(names(store.user_list(Some("u-1"), 10).await.expect("listed")), ["bob"]);
    assert_eq!(names(store.user_list(None, 1).await.expect("listed")), ["ann"]);
    assert!(!store.user_create_first(user("u-4", "cid")).await.expect("asked"), "there are users already");
}

#[tokio::test]
async fn a_refresh_token_works_once_and_its_reuse_ends_the_family() {
    let fixture = fixture().await;
    let store = &fixture.store;
    store.refresh_family_create("f-1", "u-1", token(b"one")).await.expect("a family is kept");
    let rotated = store.refresh_token_rotate(b"one", token(b"two")).await.expect("asked");
    assert_eq!(rotated, Rotation::Rotated { user_id: "u-1".into() });
    let reused = store.refresh_token_rotate(b"one", token(b"three")).await.expect("asked");
    assert_eq!(reused, Rotation::Reused { user_id: "u-1".into() });
    let after = store.refresh_token_rotate(b"two", token(b"four")).await.expect("asked");
    assert_eq!(after, Rotation::Refused, "the family is revoked");
    assert_eq!(store.refresh_token_rotate(b"none", token(b"five")).await.expect("asked"), Rotation::Refused);
}

#[tokio::test]
async fn an_expired_token_is_refused_and_cleaned_away() {
    let fixture = fixture().await;
    let store = &fixture.store;
    store.refresh_family_create("f-1", "u-1", token(b"one")).await.expect("a family is kept");
    let late = NewRefreshToken { token_hash: b"two", issued_at: NOW + 100, expires_at: NOW + 200 };
    assert_eq!(store.refresh_token_rotate(b"one", late).await.expect("asked"), Rotation::Refused);
    assert!(!store.refresh_tokens_clean(NOW + 100).await.expect("cleaned"), "one token is not a full batch");
    assert_eq!(store.refresh_family_revoke(b"one", NOW).await.expect("asked"), None, "the token is gone");
}

#[tokio::test]
async fn of_many_racing_refreshes_one_wins() {
    let fixture = fixture().await;
    let other = Store::open(&fixture.settings).await.expect("a second process opens the file");
    fixture.store.refresh_family_create("f-1", "u-1", token(b"one")).await.expect("a family is kept");
    let racers = (0_u8..8).map(|number| {
        let store = if number % 2 == 0 { fixture.store.clone() } else { other.clone() };
        tokio::spawn(async move { store.refresh_token_rotate(b"one", token(&[number])).await })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        let outcome = racer.await.expect("no panic").expect("the database answers");
        won += usize::from(matches!(outcome, Rotation::Rotated { .. }));
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_key_lives_from_its_making_to_its_revocation() {
    let fixture = fixture().await;
    let store = &fixture.store;
    let key = ApiKey::generate();
    let permissions = [Permission::Read];
    let new = NewApiKey {
        id: key.id(),
        user_id: "u-1",
        name: "ci",
        secret_hash: key.secret_hash(),
        permissions: &permissions,
        created_at: NOW,
        expires_at: None,
    };
    assert!(store.api_key_create(new, 1).await.expect("asked"));
    let second = ApiKey::generate();
    assert!(!store.api_key_create(NewApiKey { id: second.id(), ..new }, 1).await.expect("asked"), "one is the most");
    let kept = store.api_key_by_id(key.id()).await.expect("asked").expect("it is there");
    assert!(kept.secret_hash.matches(&key.secret_hash()));
    assert_eq!((kept.owner_role, kept.permissions), (Role::Developer, vec![Permission::Read]));
    store.api_keys_note_use(&[(key.id().to_owned(), NOW + 5), (key.id().to_owned(), NOW + 2)]).await.expect("noted");
    assert!(!store.api_key_revoke(key.id(), Some("u-2"), NOW).await.expect("asked"), "not u-2's");
    assert!(store.api_key_revoke(key.id(), Some("u-1"), NOW + 7).await.expect("asked"));
    assert!(store.api_key_revoke(key.id(), None, NOW + 9).await.expect("asked"), "twice is no error");
    let page = ApiKeyPage { created_at: 0, id: "", limit: 10 };
    let listed = store.api_key_list("u-1", page).await.expect("listed");
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].revoked_at, listed[0].last_used_at), (Some(NOW + 7), Some(NOW + 5)));
}

#[tokio::test]
async fn old_events_go_and_new_ones_stay() {
    let fixture = fixture().await;
    let store = &fixture.store;
    let day = crate::base::time::DAY_SECONDS;
    for at in [NOW, NOW - 91 * day] {
        let event = AuditEvent {
            at,
            kind: AuditKind::LoginOk,
            subject: Some("u-1"),
            client: None,
            request_id: None,
            detail: None,
        };
        store.audit_event_create(event).await.expect("kept");
    }
    assert!(!store.audit_events_clean(NOW).await.expect("cleaned"));
    assert_eq!(store.audit_event_count(AuditKind::LoginOk).await.expect("counted"), 1);
}

#[tokio::test]
async fn several_may_open_one_new_file_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings =
        Database { path: folder.path().join("new.db"), readers_max: 2, busy_timeout: Duration::from_secs(5) };
    let openers: Vec<_> = (0..4)
        .map(|_| {
            let settings = settings.clone();
            tokio::spawn(async move { Store::open(&settings).await })
        })
        .collect();
    for opener in openers {
        let store = opener.await.expect("no panic").expect("it opens");
        store.check().await.expect("its tables are there");
    }
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let fixture = fixture().await;
    let refused = sqlx::query("DELETE FROM users").execute(&fixture.store.readers).await;
    assert!(refused.is_err(), "readers are for reading");
}
