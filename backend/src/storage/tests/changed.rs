//! Tests of what changes under somebody's hands: a part of `tests.rs`, which has the places.

use std::sync::atomic::{AtomicI64, Ordering};

use futures::FutureExt as _;

use super::*;

/// Whoever it is, as read now.
async fn ann(store: &Store) -> UserRow {
    store.user_by_id("u-1").await.expect("asked").expect("she is there")
}

/// Opens a session of hers.
pub(super) async fn open_family(store: &Store, id: &str, first: NewRefreshToken<'_>) -> Option<Standing> {
    store.refresh_family_create(id, &ann(store).await, first).await.expect("asked")
}

/// Every token of hers that was issued until this second.
pub(super) fn all_until(second: i64) -> Withdrawal<'static> {
    Withdrawal { kind: WithdrawnKind::Subject, value: "u-1", issued_until: second, ends: second + 100 }
}

/// Makes who makes and changes the others.
pub(super) async fn make_root(store: &Store) {
    store.user_create(NewUser { role: Role::Admin, ..user("root", "root") }).await.expect("a user is kept");
}

/// Changes her, who was that until now.
pub(super) async fn change(store: &Store, was: Role, change: UserChange<'_>) -> UserRow {
    match store.user_change("u-1", was, "root", change, || all_until(NOW)).await.expect("asked") {
        UserChanged::Changed(user, _) => user,
        other => panic!("she is not changed: {other:?}"),
    }
}

/// One administrator changes another.
async fn shut_out(store: &Store, by: &str, id: &'static str, change: UserChange<'_>) -> UserChanged<'static> {
    let ended = Withdrawal { value: id, ..all_until(NOW) };
    store.user_change(id, Role::Admin, by, change, || ended).await.expect("the database answers")
}

fn to_role(role: Role) -> UserChange<'static> {
    UserChange { role: Some(role), ..UserChange::default() }
}

fn keep_out() -> UserChange<'static> {
    UserChange { disabled: Some(true), ..UserChange::default() }
}

pub(super) async fn a_change_is_dated_when_nobody_is_in_its_way(place: &Place) {
    let stores = [place.with_ann().await, place.open().await];
    make_root(&stores[0]).await;
    // Somebody opens a session meanwhile, and takes their time.
    let mut holder = stores[1].begin("hold").await.expect("a transaction");
    holder.lock_user("u-1").await.expect("nobody else has it");
    let clock = AtomicI64::new(NOW);
    let until = || all_until(clock.load(Ordering::SeqCst));
    let mut changing = Box::pin(stores[0].user_change("u-1", Role::Developer, "root", to_role(Role::User), until));
    assert!(changing.as_mut().now_or_never().is_none(), "it waits");
    clock.store(NOW + 5, Ordering::SeqCst);
    drop(holder);
    match changing.await.expect("asked") {
        UserChanged::Changed(_, ended) => assert_eq!(ended.issued_until, NOW + 5),
        other => panic!("she is not changed: {other:?}"),
    }
}

pub(super) async fn who_is_changed_while_logging_in_gets_nothing_that_outlives_it(place: &Place) {
    let stores = [place.with_ann().await, place.open().await];
    make_root(&stores[0]).await;
    let before = ann(&stores[0]).await;
    // Another role: the session begins with it, and with a token of which nothing is withdrawn.
    change(&stores[0], Role::Developer, to_role(Role::Readonly)).await;
    let standing = stores[1].refresh_family_create("f-1", &before, token(b"one")).await.expect("asked");
    assert_eq!(standing, Some(Standing { role: Role::Readonly, issued_from: NOW + 1 }));
    // Once more in the same second: that token is withdrawn as well.
    change(&stores[0], Role::Readonly, to_role(Role::User)).await;
    let rotated = stores[1].refresh_token_rotate(b"one", token(b"two")).await.expect("asked");
    let standing = Standing { role: Role::User, issued_from: NOW + 2 };
    assert_eq!(rotated, Rotation::Rotated { user_id: "u-1".into(), standing });
    // Who has looked at her before decides about somebody else.
    let late = stores[1].user_change("u-1", Role::Developer, "root", keep_out(), || all_until(NOW)).await;
    assert_eq!(late.expect("asked"), UserChanged::Otherwise);

    // Many log in with the old password while she gets another: no session of theirs goes on.
    let racers = (0..RACERS).map(|number| {
        let (store, before) = (stores[usize::from(number) % stores.len()].clone(), before.clone());
        tokio::spawn(async move {
            let family = format!("r-{number}");
            store.refresh_family_create(&family, &before, token(&[number])).await
        })
    });
    let racers: Vec<_> = racers.collect();
    let password = UserChange { password_hash: Some("h2"), ..UserChange::default() };
    change(&stores[0], Role::User, password).await;
    for racer in racers {
        racer.await.expect("no panic").expect("the database answers");
    }
    for number in 0..RACERS {
        let next = [number, 0];
        let rotated = stores[1].refresh_token_rotate(&[number], token(&next)).await.expect("asked");
        assert_eq!(rotated, Rotation::Refused, "{number}");
    }
    assert_eq!(stores[1].refresh_family_create("f-2", &before, token(b"three")).await.expect("asked"), None);
    // Who is kept out does not come in with the right one either.
    let before = ann(&stores[0]).await;
    change(&stores[0], Role::User, keep_out()).await;
    assert_eq!(stores[1].refresh_family_create("f-2", &before, token(b"three")).await.expect("asked"), None);
}

pub(super) async fn of_administrators_who_shut_each_other_out_one_stays(place: &Place) {
    let stores = [place.open().await, place.open().await];
    let ids = ["a-1", "a-2"];
    for id in ids {
        stores[0].user_create(NewUser { role: Role::Admin, ..user(id, id) }).await.expect("a user is kept");
    }
    let one = shut_out(&stores[0], ids[1], ids[0], keep_out());
    let other = shut_out(&stores[1], ids[0], ids[1], to_role(Role::User));
    let (out, left) = match tokio::join!(one, other) {
        (UserChanged::Changed(user, _), UserChanged::NotAllowed) => (user.id, ids[1]),
        (UserChanged::NotAllowed, UserChanged::Changed(user, _)) => (user.id, ids[0]),
        other => panic!("one of them stays: {other:?}"),
    };
    // Who is out makes nobody either, whatever their token says for a moment.
    assert_eq!(stores[0].user_create_for(user("u-1", "eve"), &out, None).await.expect("asked"), UserMade::NotAllowed);
    assert_eq!(
        stores[0].user_create_for(user("u-1", "eve"), "nobody", None).await.expect("asked"),
        UserMade::NotAllowed
    );
    assert_eq!(stores[1].user_create_for(user("u-1", "ann"), left, None).await.expect("asked"), UserMade::Made);
}

pub(super) async fn of_who_may_not_ask_no_query_is_begun(place: &Place) {
    let store = place.with_ann().await;
    make_root(&store).await;
    job_of(&store, "j-1", 2).await;
    let first = take(&store, "one", NOW).await;
    change(&store, Role::Developer, to_role(Role::User)).await;
    let job = store.job_by_id("j-1", None).await.expect("asked").expect("it is there");
    assert_eq!(job.cancelled_at, None, "a user may still ask");
    change(&store, Role::User, to_role(Role::Readonly)).await;
    assert_eq!(store.job_item_take("two", NOW, NOW + 10).await.expect("asked"), Take::Cancelled);
    let ended = store.job_item_end(held_by("one", &first), ItemEnd::Done("{}"), NOW + 1).await.expect("asked");
    assert_eq!(ended, Some(ItemFate::Done), "what was under way is finished");
    let job = store.job_by_id("j-1", None).await.expect("asked").expect("it is there");
    assert_eq!((job.cancelled_at, job.done, job.cancelled), (Some(NOW), 1, 1));
    assert!(job.finished_at.is_some());
    // The same of who is kept out.
    job_of(&store, "j-2", 1).await;
    change(&store, Role::Readonly, keep_out()).await;
    assert_eq!(store.job_item_take("two", NOW, NOW + 10).await.expect("asked"), Take::Cancelled);
}

pub(super) async fn an_old_process_goes_on_with_a_wider_table(place: &Place) {
    let (old, new) = (place.with_ann().await, place.open().await);
    job_of(&old, "j-1", 1).await;
    // Often enough for every connection to have it prepared.
    let looks = async || {
        for _ in 0..20 {
            let together = (0..4).map(|_| old.job_by_id("j-1", Some("u-1")));
            for found in futures::future::join_all(together).await {
                assert!(found.expect("asked").is_some());
            }
            assert_eq!(old.job_list(Some("u-1"), None, 10).await.expect("listed").len(), 1);
            assert_eq!(old.job_list(None, Some("j-2"), 10).await.expect("listed").len(), 1);
            assert!(old.job_list(None, Some("j-1"), 10).await.expect("listed").is_empty());
            assert!(old.job_list(Some("u-2"), None, 10).await.expect("listed").is_empty());
        }
    };
    looks().await;
    let wider = "ALTER TABLE jobs ADD COLUMN later TEXT";
    on!(new.write(), |db| sqlx::query(wider).execute(db).await.map(|_| ())).expect("a column is added");
    looks().await;
}
