//! Tests of what is kept, on a real file and on a real server: what is promised holds on both.

use std::time::{Duration, Instant};

use common::access::{Permission, Role};
use common::api_key::ApiKey;
use common::secret::Secret;
use testkit::postgres::Postgres;
use tokio::net::TcpListener;

use super::*;
use crate::config::{PostgresDatabase, SqliteDatabase};

mod changed;
mod indexes;
mod withdrawn;

use changed::{
    a_change_is_dated_when_nobody_is_in_its_way, an_old_process_goes_on_with_a_wider_table,
    of_administrators_who_shut_each_other_out_one_stays, of_who_may_not_ask_no_query_is_begun, open_family,
    who_is_changed_while_logging_in_gets_nothing_that_outlives_it,
};
use withdrawn::{
    a_disabled_user_has_no_keys_and_no_sessions, a_request_is_done_once_under_its_key, event_count,
    finished_jobs_are_forgotten_after_their_time, keys_are_bounded_within_a_day_and_go_after_their_end,
    of_keys_that_sign_one_waits_at_a_time, of_many_who_withdraw_at_once_none_is_missed,
    old_events_go_and_new_ones_stay, points_of_several_processes_add_up_and_old_ones_go,
    what_is_withdrawn_is_read_in_its_order_and_forgotten_after_its_end,
};

const NOW: i64 = 1_800_000_000;

/// Who does the same thing at the same time.
const RACERS: u8 = 8;

/// A database that is not there yet, or empty.
struct Place {
    settings: Database,
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    fn in_a_file() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("deep/er/test.db");
        let busy_timeout = Duration::from_secs(5);
        let settings = Database::Sqlite(SqliteDatabase { path, readers_max: 2, busy_timeout });
        Self { settings, _folder: Some(folder) }
    }

    fn on_a_server(server: &Postgres, name: &str) -> Self {
        Self { settings: Database::Postgres(server_at(&server.database(name))), _folder: None }
    }

    /// Opens it, as one more process would.
    async fn open(&self) -> Store {
        Store::open(&self.settings).await.expect("the database opens")
    }

    /// Opens it with one user in it.
    async fn with_ann(&self) -> Store {
        let store = self.open().await;
        store.user_create(user("u-1", "ann")).await.expect("a user is kept");
        store
    }
}

fn server_at(url: &str) -> PostgresDatabase {
    PostgresDatabase {
        url: Secret::new(url.to_owned()),
        connections_max: 4,
        acquire_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(5),
    }
}

fn user<'a>(id: &'a str, name: &'a str) -> NewUser<'a> {
    NewUser { id, name, password_hash: "h", role: Role::Developer, created_at: NOW }
}

fn token(hash: &[u8]) -> NewRefreshToken<'_> {
    NewRefreshToken { token_hash: hash, issued_at: NOW, expires_at: NOW + 100 }
}

fn key<'a>(id: &'a str, secret: &ApiKey) -> NewApiKey<'a> {
    NewApiKey {
        id,
        user_id: "u-1",
        name: "ci",
        secret_hash: secret.secret_hash(),
        permissions: &[Permission::Read],
        created_at: NOW,
        expires_at: None,
    }
}

/// Makes of each function a test on a file, and of all of them one on a server, since that takes a second to start.
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod sqlite_keeps_it {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(&super::Place::in_a_file()).await;
                }
            )+
        }

        #[tokio::test]
        async fn the_same_on_postgres() {
            let server = Postgres::start().await;
            $(
                println!(stringify!($test));
                $test(&Place::on_a_server(&server, stringify!($test))).await;
            )+
        }
    };
}

on_both! {
    names_are_unique_and_lists_are_in_order,
    of_many_first_users_one_is_made,
    a_refresh_token_works_once_and_its_reuse_ends_the_family,
    an_expired_token_is_refused_and_cleaned_away,
    of_many_racing_refreshes_one_wins,
    a_key_lives_from_its_making_to_its_revocation,
    of_many_racing_keys_no_more_than_the_most_is_made,
    many_note_uses_of_the_same_keys_at_once,
    old_events_go_and_new_ones_stay,
    many_clean_at_once,
    several_may_open_an_empty_database_at_once,
    an_item_ends_once_whoever_else_was_at_it,
    of_many_takers_each_gets_an_item_of_its_own,
    finished_jobs_are_forgotten_after_their_time,
    what_is_withdrawn_is_read_in_its_order_and_forgotten_after_its_end,
    of_many_who_withdraw_at_once_none_is_missed,
    a_disabled_user_has_no_keys_and_no_sessions,
    points_of_several_processes_add_up_and_old_ones_go,
    of_keys_that_sign_one_waits_at_a_time,
    a_request_is_done_once_under_its_key,
    keys_are_bounded_within_a_day_and_go_after_their_end,
    a_change_is_dated_when_nobody_is_in_its_way,
    who_is_changed_while_logging_in_gets_nothing_that_outlives_it,
    of_administrators_who_shut_each_other_out_one_stays,
    of_who_may_not_ask_no_query_is_begun,
    an_old_process_goes_on_with_a_wider_table,
}

async fn names_are_unique_and_lists_are_in_order(place: &Place) {
    let store = place.with_ann().await;
    let taken = store.user_create(user("u-2", "ann")).await;
    assert!(matches!(taken, Err(StorageError::Taken { .. })), "{taken:?}");
    store.user_create(user("u-3", "bob")).await.expect("a user is kept");
    let names = |users: Vec<UserRow>| users.into_iter().map(|user| user.name).collect::<Vec<_>>();
    assert_eq!(names(store.user_list(None, 10).await.expect("listed")), ["ann", "bob"]);
    assert_eq!(names(store.user_list(Some("u-1"), 10).await.expect("listed")), ["bob"]);
    assert_eq!(names(store.user_list(None, 1).await.expect("listed")), ["ann"]);
    assert!(!store.user_create_first(user("u-4", "cid")).await.expect("asked"), "there are users already");
    // Ids sort byte by byte on both engines, whatever the language of the server.
    for id in ["u-B", "u-a", "u-_"] {
        store.user_create(user(id, id)).await.expect("a user is kept");
    }
    let ids: Vec<String> = store.user_list(None, 10).await.expect("listed").into_iter().map(|user| user.id).collect();
    assert_eq!(ids, ["u-1", "u-3", "u-B", "u-_", "u-a"]);
    let ann = store.user_by_name("ann").await.expect("asked").expect("she is there");
    assert_eq!(store.user_by_id("u-1").await.expect("asked"), Some(ann));
    assert_eq!(store.user_by_id("u-9").await.expect("asked"), None);
}

async fn of_many_first_users_one_is_made(place: &Place) {
    let stores = [place.open().await, place.open().await];
    assert!(!stores[0].user_exists_any().await.expect("asked"));
    let racers = (0..RACERS).map(|number| {
        let store = stores[usize::from(number) % stores.len()].clone();
        tokio::spawn(async move {
            let (id, name) = (format!("u-{number}"), format!("first-{number}"));
            store.user_create_first(user(&id, &name)).await
        })
    });
    let mut made = 0;
    for racer in racers.collect::<Vec<_>>() {
        made += usize::from(racer.await.expect("no panic").expect("the database answers"));
    }
    assert_eq!(made, 1);
    assert_eq!(stores[1].user_list(None, 10).await.expect("listed").len(), 1);
}

async fn a_refresh_token_works_once_and_its_reuse_ends_the_family(place: &Place) {
    let store = place.with_ann().await;
    assert!(open_family(&store, "f-1", token(b"one")).await.is_some(), "a family is kept");
    let rotated = store.refresh_token_rotate(b"one", token(b"two")).await.expect("asked");
    let standing = Standing { role: Role::Developer, issued_from: 0 };
    assert_eq!(rotated, Rotation::Rotated { user_id: "u-1".into(), standing });
    let reused = store.refresh_token_rotate(b"one", token(b"three")).await.expect("asked");
    assert_eq!(reused, Rotation::Reused { user_id: "u-1".into() });
    let after = store.refresh_token_rotate(b"two", token(b"four")).await.expect("asked");
    assert_eq!(after, Rotation::Refused, "the family is revoked");
    assert_eq!(store.refresh_token_rotate(b"none", token(b"five")).await.expect("asked"), Rotation::Refused);
}

async fn an_expired_token_is_refused_and_cleaned_away(place: &Place) {
    let store = place.with_ann().await;
    assert!(open_family(&store, "f-1", token(b"one")).await.is_some(), "a family is kept");
    let late = NewRefreshToken { token_hash: b"two", issued_at: NOW + 100, expires_at: NOW + 200 };
    assert_eq!(store.refresh_token_rotate(b"one", late).await.expect("asked"), Rotation::Refused);
    assert!(!store.refresh_tokens_clean(NOW + 100).await.expect("cleaned"), "one token is not a full batch");
    assert_eq!(store.refresh_family_revoke(b"one", NOW).await.expect("asked"), None, "the token is gone");
}

async fn of_many_racing_refreshes_one_wins(place: &Place) {
    let stores = [place.with_ann().await, place.open().await];
    assert!(open_family(&stores[0], "f-1", token(b"one")).await.is_some(), "a family is kept");
    let racers = (0..RACERS).map(|number| {
        let store = stores[usize::from(number) % stores.len()].clone();
        tokio::spawn(async move { store.refresh_token_rotate(b"one", token(&[number])).await })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        let outcome = racer.await.expect("no panic").expect("the database answers");
        won += usize::from(matches!(outcome, Rotation::Rotated { .. }));
    }
    assert_eq!(won, 1);
    // The others were reuse, so nobody goes on with this family.
    assert_eq!(stores[1].refresh_family_revoke(b"one", NOW).await.expect("asked"), None, "it is revoked already");
}

async fn a_key_lives_from_its_making_to_its_revocation(place: &Place) {
    let store = place.with_ann().await;
    let (first, second) = (ApiKey::generate(), ApiKey::generate());
    let id = first.id();
    assert!(store.api_key_create(key(id, &first), 1).await.expect("asked"));
    assert!(!store.api_key_create(key(second.id(), &second), 1).await.expect("asked"), "one is the most");
    let kept = store.api_key_by_id(id).await.expect("asked").expect("it is there");
    assert!(kept.secret_hash.matches(&first.secret_hash()));
    assert_eq!((kept.owner_role, kept.permissions), (Role::Developer, vec![Permission::Read]));
    store.api_keys_note_use(&[(id.to_owned(), NOW + 5), (id.to_owned(), NOW + 2)]).await.expect("noted");
    store.api_keys_note_use(&[(id.to_owned(), NOW + 3)]).await.expect("noted");
    assert!(!store.api_key_revoke(id, Some("u-2"), NOW).await.expect("asked"), "not u-2's");
    assert!(store.api_key_revoke(id, Some("u-1"), NOW + 7).await.expect("asked"));
    assert!(store.api_key_revoke(id, None, NOW + 9).await.expect("asked"), "twice is no error");
    let page = ApiKeyPage { created_at: 0, id: "", limit: 10 };
    let listed = store.api_key_list("u-1", page).await.expect("listed");
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].revoked_at, listed[0].last_used_at), (Some(NOW + 7), Some(NOW + 5)));
    let after = ApiKeyPage { created_at: NOW, id, limit: 10 };
    assert!(store.api_key_list("u-1", after).await.expect("listed").is_empty(), "there is none behind it");
    // A revoked one counts no longer.
    assert!(store.api_key_create(key(second.id(), &second), 1).await.expect("asked"));
}

async fn of_many_racing_keys_no_more_than_the_most_is_made(place: &Place) {
    const MOST: u32 = 3;
    let stores = [place.with_ann().await, place.open().await];
    let racers = (0..RACERS).map(|number| {
        let store = stores[usize::from(number) % stores.len()].clone();
        tokio::spawn(async move {
            let new = ApiKey::generate();
            store.api_key_create(key(new.id(), &new), MOST).await
        })
    });
    let mut made = 0;
    for racer in racers.collect::<Vec<_>>() {
        made += u32::from(racer.await.expect("no panic").expect("the database answers"));
    }
    assert_eq!(made, MOST);
}

async fn many_note_uses_of_the_same_keys_at_once(place: &Place) {
    let stores = [place.with_ann().await, place.open().await];
    let ids: Vec<String> = (0..50).map(|number| format!("key-{number:02}")).collect();
    let secret = ApiKey::generate();
    for id in &ids {
        assert!(stores[0].api_key_create(key(id, &secret), 100).await.expect("asked"));
    }
    let racers = (0..RACERS).map(|number| {
        let store = stores[usize::from(number) % stores.len()].clone();
        let mut uses: Vec<(String, i64)> = ids.iter().map(|id| (id.clone(), NOW + i64::from(number))).collect();
        // Each process remembers them in another order.
        uses.rotate_left(usize::from(number) * 5);
        tokio::spawn(async move { store.api_keys_note_use(&uses).await })
    });
    for racer in racers.collect::<Vec<_>>() {
        racer.await.expect("no panic").expect("nobody is chosen as a victim");
    }
    let page = ApiKeyPage { created_at: 0, id: "", limit: 100 };
    let listed = stores[1].api_key_list("u-1", page).await.expect("listed");
    let latest = NOW + i64::from(RACERS) - 1;
    assert!(listed.iter().all(|key| key.last_used_at == Some(latest)), "{listed:?}");
}

async fn event_at(store: &Store, at: i64) {
    let kind = AuditKind::LoginOk;
    let event = AuditEvent { at, kind, subject: Some("u-1"), client: None, request_id: None, detail: None };
    store.audit_event_create(event).await.expect("kept");
}

async fn many_clean_at_once(place: &Place) {
    let stores = [place.with_ann().await, place.open().await];
    for number in 0..RACERS {
        event_at(&stores[0], 1).await;
        let family = format!("f-{number}");
        assert!(open_family(&stores[0], &family, token(&[number])).await.is_some(), "a family is kept");
    }
    let racers = (0..RACERS).map(|number| {
        let store = stores[usize::from(number) % stores.len()].clone();
        tokio::spawn(async move {
            store.audit_events_clean(NOW).await?;
            store.refresh_tokens_clean(NOW + 100).await
        })
    });
    for racer in racers.collect::<Vec<_>>() {
        racer.await.expect("no panic").expect("nobody is in another's way");
    }
    // Whoever had the turn has cleaned; who had not left it to them.
    assert_eq!(event_count(&stores[1], AuditKind::LoginOk).await, 0);
    assert_eq!(stores[1].refresh_family_revoke(&[0], NOW).await.expect("asked"), None, "the tokens are gone");
}

async fn several_may_open_an_empty_database_at_once(place: &Place) {
    let openers: Vec<_> = (0..4)
        .map(|_| {
            let settings = place.settings.clone();
            tokio::spawn(async move { Store::open(&settings).await })
        })
        .collect();
    for opener in openers {
        let store = opener.await.expect("no panic").expect("it opens");
        store.check().await.expect("its tables are there");
        store.close().await;
    }
}

async fn job_of(store: &Store, id: &str, items: usize) {
    let requests: Vec<String> = (0..items).map(|number| format!("{{\"query\":\"{number}\"}}")).collect();
    let new = NewJob {
        id,
        owner: "u-1",
        priority: 1,
        idempotency_key: None,
        body_hash: b"h",
        created_at: NOW,
        traceparent: Some("of its request"),
        requests: &requests,
    };
    let room = QueueRoom { queued_max: 100, owner_max: 100 };
    assert!(matches!(store.job_create(new, room).await.expect("asked"), JobMade::Made(_)));
}

async fn take(store: &Store, worker: &str, now: i64) -> TakenItem {
    match store.job_item_take(worker, now, now + 10).await.expect("asked") {
        Take::Taken(item) => item,
        other => panic!("{worker} gets {other:?}"),
    }
}

fn held_by<'a>(worker: &'a str, item: &'a TakenItem) -> Holder<'a> {
    Holder { item_id: &item.id, job_id: &item.job_id, worker, attempt: item.attempt }
}

async fn an_item_ends_once_whoever_else_was_at_it(place: &Place) {
    let store = place.open().await;
    job_of(&store, "j-1", 1).await;
    let first = take(&store, "one", NOW).await;
    assert_eq!(store.job_item_take("two", NOW, NOW + 10).await.expect("asked"), Take::Nothing);
    // Neither by its name.
    let named = store.job_item_take_named(&first.id, "two", NOW, NOW + 10).await.expect("asked");
    assert_eq!(named, Take::Nothing);
    assert_eq!(store.job_item_reclaim(2, NOW + 9).await.expect("asked"), None, "the lease holds");
    assert!(store.job_item_renew(held_by("one", &first), NOW + 20).await.expect("asked"));
    assert_eq!(store.job_item_reclaim(2, NOW + 19).await.expect("asked"), None, "it was renewed");
    assert_eq!(store.job_item_reclaim(2, NOW + 20).await.expect("asked"), Some(ItemFate::Queued));
    assert_eq!(store.job_item_list_ready("j-1", NOW + 19, 10).await.expect("asked"), [""; 0]);
    assert_eq!(store.job_item_list_ready("j-1", NOW + 20, 10).await.expect("asked"), [first.id.as_str()]);
    let early = store.job_item_take_named(&first.id, "two", NOW + 19, NOW + 30).await.expect("asked");
    assert_eq!(early, Take::Nothing, "it waits for its time");
    let named = store.job_item_take_named(&first.id, "two", NOW + 20, NOW + 30).await.expect("asked");
    let Take::Taken(second) = named else { panic!("it waits: {named:?}") };
    assert_eq!((second.attempt, second.owner.as_str()), (2, "u-1"));
    assert_eq!(second.traceparent.as_deref(), Some("of its request"));
    // The first one comes too late, whatever it wants.
    assert!(!store.job_item_renew(held_by("one", &first), NOW + 90).await.expect("asked"));
    for end in [ItemEnd::Done("{}"), ItemEnd::Dead("late"), ItemEnd::Retry("late", NOW), ItemEnd::GivenBack] {
        assert_eq!(store.job_item_end(held_by("one", &first), end, NOW + 21).await.expect("asked"), None, "{end:?}");
    }
    let done = store.job_item_end(held_by("two", &second), ItemEnd::Done("{}"), NOW + 22).await.expect("asked");
    assert_eq!(done, Some(ItemFate::Done));
    let again = store.job_item_end(held_by("two", &second), ItemEnd::Done("{}"), NOW + 23).await.expect("asked");
    assert_eq!(again, None, "once");
    let job = store.job_by_id("j-1", Some("u-1")).await.expect("asked").expect("it is there");
    assert_eq!((job.done, job.attempts, job.finished_at), (1, 2, Some(NOW + 22)));
    assert_eq!(store.job_by_id("j-1", Some("u-2")).await.expect("asked"), None, "it is not u-2's");

    // What kills its workers is dead when its attempts are used up.
    job_of(&store, "j-2", 1).await;
    take(&store, "one", NOW).await;
    assert_eq!(store.job_item_reclaim(1, NOW + 10).await.expect("asked"), Some(ItemFate::Dead));
    assert!(store.job_requeue("j-2", NOW + 11).await.expect("asked"));
    assert!(!store.job_requeue("j-2", NOW + 11).await.expect("asked"), "nothing is dead any more");
    // A cancelled job's item that comes back is not begun again.
    let third = take(&store, "one", NOW + 11).await;
    store.job_cancel("j-2", NOW + 12).await.expect("asked");
    let back = store.job_item_end(held_by("one", &third), ItemEnd::Retry("x", NOW), NOW + 13).await.expect("asked");
    assert_eq!(back, Some(ItemFate::Cancelled));
    let job = store.job_by_id("j-2", None).await.expect("asked").expect("it is there");
    assert_eq!((job.dead, job.cancelled, job.finished_at), (0, 1, Some(NOW + 13)));
}

async fn of_many_takers_each_gets_an_item_of_its_own(place: &Place) {
    let stores = [place.open().await, place.open().await];
    job_of(&stores[0], "j-1", usize::from(RACERS)).await;
    let racers = (0..RACERS).map(|number| {
        let store = stores[usize::from(number) % stores.len()].clone();
        tokio::spawn(async move {
            let item = take(&store, &format!("w-{number}"), NOW).await;
            let holder = Holder { worker: &format!("w-{number}"), ..held_by("", &item) };
            let fate = store.job_item_end(holder, ItemEnd::Done("{}"), NOW + 1).await.expect("asked");
            assert_eq!(fate, Some(ItemFate::Done));
            item.id
        })
    });
    let mut taken = std::collections::HashSet::new();
    for racer in racers.collect::<Vec<_>>() {
        taken.insert(racer.await.expect("no panic"));
    }
    assert_eq!(taken.len(), usize::from(RACERS));
    let job = stores[1].job_by_id("j-1", None).await.expect("asked").expect("it is there");
    assert_eq!((job.done, job.total, job.finished_at), (i64::from(RACERS), i64::from(RACERS), Some(NOW + 1)));
}

#[tokio::test]
async fn a_reader_of_a_file_cannot_write() {
    let store = Place::in_a_file().with_ann().await;
    let Engine::Sqlite(pools) = &store.pools else { panic!("it is a file") };
    let refused = sqlx::query("DELETE FROM users").execute(&pools.readers).await;
    assert!(refused.is_err(), "readers are for reading");
}

/// What a server can do to its clients, in one test, since it takes a second to start.
#[tokio::test]
async fn a_server_that_fails_is_a_passing_fault_with_a_bound() {
    let mut server = Postgres::start().await;
    let mut settings = server_at(&server.database("test"));
    (settings.acquire_timeout, settings.statement_timeout) = (Duration::from_secs(1), Duration::from_secs(1));
    let store = Store::open(&Database::Postgres(settings.clone())).await.expect("the database opens");
    store.user_create(user("u-1", "ann")).await.expect("a user is kept");

    // Somebody else holds a lock, as a careless operator does: the server ends the wait.
    let Engine::Postgres(pool) = &store.pools else { panic!("it is a server") };
    let patient = PostgresDatabase { statement_timeout: Duration::from_secs(30), ..settings.clone() };
    let other = Store::open(&Database::Postgres(patient)).await.expect("it opens twice");
    let mut holder = other.begin("hold").await.expect("a transaction");
    holder.lock_user("u-1").await.expect("nobody else has it");
    let secret = ApiKey::generate();
    let start = Instant::now();
    let waited = store.api_key_create(key(secret.id(), &secret), 1).await.expect_err("the row is locked");
    assert!(waited.is_passing() && start.elapsed() < Duration::from_secs(4), "{waited:?}, {:?}", start.elapsed());
    drop(holder);
    let slow = sqlx::query("SELECT pg_sleep(60)").execute(&pool.on).await.map_err(StorageError::during("sleep"));
    assert!(slow.as_ref().is_err_and(StorageError::is_passing), "{slow:?}");

    // A wait of our own that is given up leaves the connection as good as new.
    for _ in 0..8 {
        let nap = sqlx::query("SELECT pg_sleep(0.2)").execute(&pool.on);
        assert!(tokio::time::timeout(Duration::from_millis(20), nap).await.is_err(), "it sleeps for longer");
    }
    assert!(store.user_by_name("ann").await.expect("there are connections left").is_some());

    // It goes away and comes back.
    server.stop().await;
    let start = Instant::now();
    let away = store.user_by_name("ann").await.expect_err("nobody is there");
    assert!(away.is_passing() && start.elapsed() < Duration::from_secs(4), "{away:?}, {:?}", start.elapsed());
    assert!(store.check().await.is_err(), "and the probe says so");
    let closed = Store::open(&Database::Postgres(settings)).await.expect_err("nobody is there");
    assert!(closed.is_passing(), "{closed:?}");
    server.restart().await;
    assert!(store.user_by_name("ann").await.expect("it is there again").is_some());
    store.check().await.expect("and the probe says so");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_on() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("a bound socket has an address");
    let mut settings = server_at(&format!("postgres://ann:hunter2@{address}/test"));
    settings.acquire_timeout = Duration::from_secs(1);
    let start = Instant::now();
    let error = Store::open(&Database::Postgres(settings)).await.expect_err("nobody answers");
    assert!(error.is_passing() && start.elapsed() < Duration::from_secs(4), "{error:?}, {:?}", start.elapsed());
    assert!(!format!("{error:?} {error}").contains("hunter2"), "the password is told");
}
