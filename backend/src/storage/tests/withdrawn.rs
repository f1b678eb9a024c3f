//! Tests of what comes and goes by itself, and of what is done once: a part of `tests.rs`, which has the places.

use super::*;

fn of_token(id: &str, ends: i64) -> Withdrawal<'_> {
    Withdrawal { kind: WithdrawnKind::Token, value: id, issued_until: 0, ends }
}

pub(super) async fn what_is_withdrawn_is_read_in_its_order_and_forgotten_after_its_end(place: &Place) {
    let store = place.open().await;
    assert_eq!(store.withdrawal_last().await.expect("asked"), 0);
    let subject =
        |until| Withdrawal { kind: WithdrawnKind::Subject, value: "u-1", issued_until: until, ends: NOW + 100 };
    store.withdraw(of_token("t-1", NOW + 10)).await.expect("withdrawn");
    store.withdraw(subject(NOW)).await.expect("withdrawn");
    let all = store.withdrawals_after(0, NOW, 10).await.expect("asked");
    let [token, user] = &all[..] else { panic!("two entries: {all:?}") };
    assert_eq!((token.kind.as_str(), token.value.as_str(), token.ends), ("token", "t-1", NOW + 10));
    assert_eq!((user.kind.as_str(), user.issued_until), ("subject", NOW));
    assert_eq!(store.withdrawals_after(0, NOW, 1).await.expect("asked").len(), 1);
    // What is withdrawn again comes again, with the later of both times.
    store.withdraw(subject(NOW - 5)).await.expect("withdrawn");
    let again = store.withdrawals_after(user.seq, NOW, 10).await.expect("asked");
    assert_eq!(again.len(), 1, "{again:?}");
    // A token may have been issued from the second after the last one on, so that one more is withdrawn.
    assert_eq!((again[0].issued_until, again[0].ends), (NOW + 1, NOW + 100));
    assert_eq!(store.withdrawal_last().await.expect("asked"), again[0].seq);
    // What has ended is not told, and goes.
    assert_eq!(store.withdrawals_after(0, NOW + 10, 10).await.expect("asked").len(), 1);
    assert!(!store.withdrawals_clean(NOW + 10).await.expect("cleaned"));
    assert_eq!(store.withdrawals_after(0, 0, 10).await.expect("asked").len(), 1);
}

pub(super) async fn of_many_who_withdraw_at_once_none_is_missed(place: &Place) {
    let (store, reader) = (place.open().await, place.open().await);
    let racers: Vec<_> = (0..RACERS)
        .map(|racer| {
            let store = store.clone();
            tokio::spawn(async move { store.withdraw(of_token(&format!("t-{racer}"), NOW + 10)).await })
        })
        .collect();
    // A reader that goes on from the last number it has seen sees each of them once.
    let (mut last, mut seen) = (0, Vec::new());
    let give_up = Instant::now() + Duration::from_secs(10);
    while seen.len() < usize::from(RACERS) {
        assert!(Instant::now() < give_up, "some were missed: {seen:?}");
        for row in reader.withdrawals_after(last, NOW, 10).await.expect("asked") {
            last = row.seq;
            seen.push(row.value);
        }
        tokio::task::yield_now().await;
    }
    for racer in racers {
        racer.await.expect("no panic").expect("withdrawn");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), usize::from(RACERS));
}

pub(super) async fn a_disabled_user_has_no_keys_and_no_sessions(place: &Place) {
    let store = place.with_ann().await;
    changed::make_root(&store).await;
    let secret = ApiKey::generate();
    assert!(store.api_key_create(key(secret.id(), &secret), 10).await.expect("kept"));
    assert!(open_family(&store, "f-1", token(b"first")).await.is_some());
    let disable = UserChange { disabled: Some(true), ..UserChange::default() };
    let changed = changed::change(&store, Role::Developer, disable).await;
    assert_eq!((changed.disabled_at, changed.role), (Some(NOW), Role::Developer));
    assert!(store.api_key_by_id(secret.id()).await.expect("asked").is_none());
    let next = NewRefreshToken { token_hash: b"next", issued_at: NOW + 1, expires_at: NOW + 100 };
    assert_eq!(store.refresh_token_rotate(b"first", next).await.expect("asked"), Rotation::Refused);
    assert_eq!(store.withdrawals_after(0, NOW, 10).await.expect("asked").len(), 1);
    // A role alone changes nothing else, and who is not there is not changed.
    let promote = UserChange { role: Some(Role::Admin), ..UserChange::default() };
    let changed = changed::change(&store, Role::Developer, promote).await;
    assert_eq!((changed.disabled_at, changed.role), (Some(NOW), Role::Admin));
    let enable = UserChange { disabled: Some(false), password_hash: Some("h2"), ..UserChange::default() };
    let changed = changed::change(&store, Role::Admin, enable).await;
    assert_eq!((changed.disabled_at, changed.password_hash.as_str()), (None, "h2"));
    assert!(store.api_key_by_id(secret.id()).await.expect("asked").is_some());
    let ended = || changed::all_until(NOW);
    let nobody = store.user_change("nobody", Role::Admin, "root", enable, ended).await.expect("asked");
    assert_eq!(nobody, UserChanged::NotThere);
}

pub(super) async fn points_of_several_processes_add_up_and_old_ones_go(place: &Place) {
    let store = place.open().await;
    let point = |metric, label, value| NewMetricPoint { metric, label, value };
    let first = [point("requests", "auth", 2.0), point("requests", "queries", 3.0), point("errors", "auth", 1.0)];
    store.metric_points_create("i-1", NOW, &first).await.expect("kept");
    store.metric_points_create("i-2", NOW + 1, &[point("requests", "auth", 5.0)]).await.expect("kept");
    // What one process has kept of a second stays as it is.
    store.metric_points_create("i-1", NOW, &[point("requests", "auth", 9.0)]).await.expect("kept");
    let asked = MetricSteps { metric: "requests", from: NOW - 10, to: NOW + 10, step: 60, limit: 10 };
    let steps = store.metric_steps(asked).await.expect("asked");
    let step_at = NOW / 60 * 60;
    let row = |label: &str, total, most| MetricStepRow { at: step_at, label: label.into(), total, most };
    assert_eq!(steps, [row("auth", 7.0, 5.0), row("queries", 3.0, 3.0)]);
    let later = MetricSteps { from: NOW + 1, step: 1, ..asked };
    assert_eq!(store.metric_steps(later).await.expect("asked").len(), 1);
    assert_eq!(store.metric_steps(MetricSteps { limit: 1, ..asked }).await.expect("asked").len(), 1);
    assert!(!store.metric_points_clean(NOW + 1).await.expect("cleaned"));
    let steps = store.metric_steps(asked).await.expect("asked");
    assert_eq!(steps, [row("auth", 5.0, 5.0)]);
}

pub(super) async fn of_keys_that_sign_one_waits_at_a_time(place: &Place) {
    fn key(id: &str, created_at: i64, signs_from: i64) -> NewSigningKey<'_> {
        NewSigningKey { id, sealed: b"sealed", created_at, signs_from }
    }
    let store = place.open().await;
    assert!(store.signing_key_create(key("k1", NOW, NOW + 10)).await.expect("kept"));
    assert!(!store.signing_key_create(key("k2", NOW + 9, NOW + 20)).await.expect("asked"), "k1 waits");
    assert_eq!(store.signing_key_hurry(NOW + 5).await.expect("asked").as_deref(), Some("k1"));
    assert_eq!(store.signing_key_hurry(NOW + 5).await.expect("asked"), None);
    assert!(store.signing_key_create(key("k2", NOW + 9, NOW + 20)).await.expect("kept"));
    let ids = async || -> Vec<String> {
        store.signing_keys().await.expect("asked").into_iter().map(|key| key.id).collect()
    };
    assert_eq!(ids().await, ["k1", "k2"]);
    store.signing_keys_clean(NOW + 19).await.expect("cleaned");
    assert_eq!(ids().await, ["k1", "k2"], "its successor does not sign yet");
    store.signing_keys_clean(NOW + 20).await.expect("cleaned");
    assert_eq!(ids().await, ["k2"], "the last one stays");
    // There is an end to how many are kept.
    for index in 3..30_i64 {
        let id = format!("k{index:02}");
        let kept = store.signing_key_create(key(&id, NOW + 20 + index, NOW + 20 + index)).await.expect("asked");
        assert_eq!(kept, index < 18, "{index}");
    }
}

pub(super) async fn a_request_is_done_once_under_its_key(place: &Place) {
    let store = place.with_ann().await;
    let key = RequestKey { subject: "u-1", route: "user_create", key: "k" };
    let request = |at| NewRequest { key, body_hash: b"body", secret_hash: Some("h"), answer: "{}", at };
    // What fails is not noted.
    changed::make_root(&store).await;
    let taken = store.user_create_for(user("u-2", "ann"), "root", Some(request(NOW))).await;
    assert!(matches!(taken, Err(StorageError::Taken { .. })), "{taken:?}");
    assert!(store.request_by_key(key, NOW).await.expect("asked").is_none());
    let racers: Vec<_> = (0..RACERS)
        .map(|racer| {
            let store = store.clone();
            tokio::spawn(async move {
                let (id, name) = (format!("u-1{racer}"), format!("racer-{racer}"));
                let key = RequestKey { subject: "u-1", route: "user_create", key: "k" };
                let request = NewRequest { key, body_hash: b"body", secret_hash: None, answer: "{}", at: NOW };
                store.user_create_for(user(&id, &name), "root", Some(request)).await.expect("asked")
            })
        })
        .collect();
    let mut made = 0;
    for racer in racers {
        made += usize::from(racer.await.expect("no panic") == UserMade::Made);
    }
    assert_eq!(made, 1);
    assert_eq!(store.user_list(None, 20).await.expect("asked").len(), 3);
    let done = store.request_by_key(key, NOW).await.expect("asked").expect("it is there");
    assert_eq!((done.body_hash.as_slice(), done.answer.as_str()), (b"body".as_slice(), "{}"));
    // A day later it counts for nothing, whether it was deleted or not.
    let later = NOW + 24 * 60 * 60;
    assert!(store.request_by_key(key, later).await.expect("asked").is_none());
    let secret = ApiKey::generate();
    let new = NewApiKey { created_at: later, ..super::key(secret.id(), &secret) };
    assert_eq!(store.api_key_create_once(new, 10, request(later)).await.expect("asked"), Some(true));
    assert_eq!(store.api_key_create_once(new, 10, request(later)).await.expect("asked"), None);
    assert!(!store.requests_clean(later).await.expect("cleaned"));
    assert!(store.request_by_key(key, later).await.expect("asked").is_some());
    assert!(!store.requests_clean(later + 24 * 60 * 60).await.expect("cleaned"));
    assert!(store.request_by_key(key, later).await.expect("asked").is_none());
    // Where there is no room for a key, its request may be sent again.
    let full = request(later);
    assert_eq!(store.api_key_create_once(new, 0, full).await.expect("asked"), Some(false));
    assert!(store.request_by_key(key, later).await.expect("asked").is_none());
}

pub(super) async fn old_events_go_and_new_ones_stay(place: &Place) {
    let store = place.with_ann().await;
    for at in [NOW, NOW - 91 * crate::base::time::DAY_SECONDS] {
        event_at(&store, at).await;
    }
    assert!(!store.audit_events_clean(NOW).await.expect("cleaned"));
    assert_eq!(event_count(&store, AuditKind::LoginOk).await, 1);
    assert_eq!(event_count(&store, AuditKind::Logout).await, 0);
}

/// How many events of this kind are kept, up to 100.
pub(super) async fn event_count(store: &Store, kind: AuditKind) -> usize {
    let page = AuditPage { before: None, kind: Some(kind), subject: None, limit: 100 };
    store.audit_event_list(page).await.expect("listed").len()
}

pub(super) async fn keys_are_bounded_within_a_day_and_go_after_their_end(place: &Place) {
    let store = place.with_ann().await;
    let secret = ApiKey::generate();
    let made = "INSERT INTO api_keys (id, user_id, name, secret_hash, permissions, created_at, revoked_at) \
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
                SELECT 'k-' || i, 'u-1', 'ci', $1, 'read', $2, $2 FROM n";
    on!(store.write(), |db| {
        sqlx::query(made).bind(secret.secret_hash().to_hex()).bind(NOW).execute(db).await.map(|_| ())
    })
    .expect("keys are kept");
    // All of them are revoked, and yet they were made.
    assert!(!store.api_key_create(key("k-0", &secret), 10).await.expect("asked"), "as many as in a day");
    let day = 24 * 60 * 60;
    let tomorrow = NewApiKey { created_at: NOW + day, expires_at: Some(NOW + 2 * day), ..key("k-0", &secret) };
    assert!(store.api_key_create(tomorrow, 10).await.expect("asked"));
    let listed = async || {
        let page = ApiKeyPage { created_at: 0, id: "", limit: 1_000 };
        store.api_key_list("u-1", page).await.expect("listed").len()
    };
    assert!(!store.api_keys_clean(NOW + 90 * day).await.expect("cleaned"));
    assert_eq!(listed().await, 501, "not yet");
    assert!(!store.api_keys_clean(NOW + 90 * day + 1).await.expect("cleaned"));
    assert_eq!(listed().await, 1, "the revoked ones are gone");
    assert!(!store.api_keys_clean(NOW + 92 * day + 1).await.expect("cleaned"));
    assert_eq!(listed().await, 0, "and so is the one that has expired");
}

pub(super) async fn finished_jobs_are_forgotten_after_their_time(place: &Place) {
    let store = place.open().await;
    job_of(&store, "j-1", 1).await;
    job_of(&store, "j-2", 1).await;
    let item = take(&store, "one", NOW).await;
    store.job_item_end(held_by("one", &item), ItemEnd::Done("{}"), NOW + 5).await.expect("asked");
    assert!(!store.jobs_clean(NOW + 5).await.expect("cleaned"));
    assert_eq!(store.job_list(None, None, 10).await.expect("listed").len(), 2, "not yet");
    assert!(!store.jobs_clean(NOW + 6).await.expect("cleaned"));
    let left = store.job_list(None, None, 10).await.expect("listed");
    assert_eq!(left.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ["j-2"], "what waits stays");
    assert!(store.job_item_list("j-1", 0, 10).await.expect("listed").is_empty(), "its items are gone with it");
}
