//! Tests of who is picked, who is left out and who is tried again, without a network.

use std::collections::HashMap;

use super::*;
use crate::config;

fn pool(upstream: &str) -> Pool {
    let text =
        format!("version: 1\nlisteners: {{ http: {{ bind: 127.0.0.1:0 }} }}\nupstreams:\n  api: {{ {upstream} }}\n");
    let config = config::parse("test", &text).expect("a sound configuration");
    Pool::new(&config.upstreams[0], None, None, &Arc::new(Metrics::new().expect("names are unique")))
}

fn three(more: &str) -> Pool {
    pool(&format!(
        "targets: [127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3], health: {{ http: /, down_after: 1 }}, retry: {{ attempts: 3 }}, {more}"
    ))
}

fn port(ticket: &Ticket) -> u16 {
    ticket.endpoint.label.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

fn picked(pool: &Pool, count: usize, wish: Wish) -> HashMap<u16, usize> {
    let mut picked = HashMap::new();
    for _ in 0..count {
        let ticket = pool.pick(&mut Tried::default(), wish).expect("one is fit");
        *picked.entry(port(&ticket)).or_default() += 1;
    }
    picked
}

#[test]
fn round_robin_goes_round_by_weight_and_skips_the_unfit() {
    let pool = three("balance: round_robin");
    let ports: Vec<_> =
        (0..4).filter_map(|_| pool.pick(&mut Tried::default(), Wish::default())).map(|t| port(&t)).collect();
    assert_eq!(ports, [1, 2, 3, 1]);
    pool.endpoints()[1].health.report(false);
    assert!(!picked(&pool, 6, Wish::default()).contains_key(&2));
    let weighted = self::pool("targets: [{ at: 127.0.0.1:1, weight: 3 }, 127.0.0.1:2]");
    assert_eq!(picked(&weighted, 400, Wish::default()), [(1, 300), (2, 100)].into());
}

#[test]
fn least_requests_spreads_what_is_held_and_gives_places_back() {
    let pool = three("balance: least_requests");
    let held: Vec<_> = (0..300).filter_map(|_| pool.pick(&mut Tried::default(), Wish::default())).collect();
    for endpoint in pool.endpoints() {
        assert!((90..=110).contains(&endpoint.in_flight()), "{}", endpoint.in_flight());
    }
    drop(held);
    assert!(pool.endpoints().iter().all(|endpoint| endpoint.in_flight() == 0));
}

#[test]
fn peak_ewma_leaves_the_slow_one_alone() {
    let pool = three("balance: peak_ewma");
    for (endpoint, millis) in pool.endpoints().iter().zip([10, 10, 1000]) {
        endpoint.answered(Duration::from_millis(millis), SystemClock.steady_ns());
    }
    let picked = picked(&pool, 3000, Wish::default());
    assert_eq!(picked.get(&3), None, "of two it is never the better: {picked:?}");
}

#[test]
fn a_key_keeps_its_server_and_only_those_of_one_that_goes_move() {
    let pool =
        pool("targets: [127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3, 127.0.0.1:4], balance: hash, hash_by: client.ip");
    let of = |pool: &Pool, key: u64| {
        let key = Some(select::hash(&key.to_be_bytes()));
        port(&pool.pick(&mut Tried::default(), Wish { key, sticky: None }).expect("one is fit"))
    };
    let before: Vec<_> = (0..4000).map(|key| of(&pool, key)).collect();
    assert_eq!(before, (0..4000).map(|key| of(&pool, key)).collect::<Vec<_>>());
    for wanted in 1..=4 {
        let share = before.iter().filter(|port| **port == wanted).count();
        assert!((900..=1100).contains(&share), "{wanted}: {share}");
    }
    let three: Vec<Target> =
        pool.endpoints()[..3].iter().map(|e| Target { at: e.place.clone(), weight: 1 }).collect();
    pool.update(&three);
    for (key, before) in before.iter().enumerate() {
        let after = of(&pool, key as u64);
        assert!(*before == 4 || after == *before, "key {key} moved from {before} to {after}");
    }
}

#[test]
fn a_hash_passes_over_who_has_more_than_its_share() {
    let pool = three("balance: hash, hash_by: client.ip");
    let wish = Wish { key: Some(7), sticky: None };
    let held: Vec<_> = (0..30).filter_map(|_| pool.pick(&mut Tried::default(), wish)).collect();
    let most = pool.endpoints().iter().map(|endpoint| endpoint.in_flight()).max();
    assert!(most.is_some_and(|most| most <= 13), "a quarter above ten: {most:?}");
    assert_eq!(held.len(), 30);
}

#[test]
fn a_client_comes_back_to_its_server_while_that_is_fit() {
    let pool = three("balance: round_robin");
    let own = pool.endpoints()[2].hash;
    let wish = Wish { key: None, sticky: Some(own) };
    assert_eq!(picked(&pool, 5, wish), [(3, 5)].into());
    pool.endpoints()[2].health.report(false);
    assert!(!picked(&pool, 6, wish).contains_key(&3));
}

#[test]
fn a_retry_goes_elsewhere_and_ends() {
    let pool = three("balance: round_robin");
    let mut tried = Tried::default();
    let mut seen = Vec::new();
    let mut attempts = 0;
    while let Some(ticket) = pool.pick(&mut tried, Wish::default()) {
        attempts += 1;
        seen.push(port(&ticket));
        if !pool.may_retry(attempts, tried) {
            break;
        }
    }
    assert_eq!(seen, [1, 2, 3]);
    assert!(pool.pick(&mut tried, Wish::default()).is_none(), "nobody is left");
}

#[test]
fn who_fails_is_left_out_but_not_too_many() {
    let pool = three("eject: { after: 2, for: 60s, max_percent: 50% }");
    let endpoints = pool.endpoints();
    for endpoint in &endpoints {
        for _ in 0..4 {
            pool.note_outcome(endpoint, false);
        }
    }
    assert_eq!(picked(&pool, 6, Wish::default()).len(), 2, "a second one would be more than half");
}

#[test]
fn when_too_few_are_fit_all_are_asked() {
    let pool = three("panic_below: 50%");
    for endpoint in &pool.endpoints()[..2] {
        endpoint.health.report(false);
    }
    assert_eq!(picked(&pool, 6, Wish::default()).len(), 3);
}

#[test]
fn a_new_server_gets_its_share_gradually_and_nobody_does_at_the_start() {
    let pool = pool("targets: [127.0.0.1:1, 127.0.0.1:2], slow_start: 60s");
    assert_eq!(picked(&pool, 100, Wish::default()), [(1, 50), (2, 50)].into());
    let mut targets: Vec<Target> =
        pool.endpoints().iter().map(|e| Target { at: e.place.clone(), weight: 1 }).collect();
    targets.push(Target { at: config::checked::Place::Ip(([127, 0, 0, 1], 3).into()), weight: 1 });
    pool.update(&targets);
    let early = picked(&pool, 3000, Wish::default());
    let share = early.get(&3).copied().unwrap_or(0);
    assert!((40..=250).contains(&share), "a tenth of its third: {share}");
    pool.endpoints()[2].since_ns.store(0, Ordering::Relaxed);
    assert!(picked(&pool, 3000, Wish::default())[&3] > 800, "and in the end all of it");
}
