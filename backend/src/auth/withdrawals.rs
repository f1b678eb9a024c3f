//! Withdrawals: what was taken back before its end, known to every process within a second.
//!
//! For: logout, changes of users and revoked keys, which withdraw; `tokens.rs`, which asks on every request; the feed
//! that the gateway reads. May touch: `storage`. Promises: this process knows at once what it withdraws itself, and
//! what others do after `FOLLOW_PERIOD`; while the database is away, what is known is kept; `KNOWN_MAX` entries are
//! known at most: single tokens make room before users who were kept out, and of both the ones that end soonest.
//! Read next: `storage/withdrawals.rs`.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use common::claims::AccessClaims;
use common::clock::Clock;

use super::AuthError;
use crate::base::time::{now_seconds, to_signed};
use crate::storage::{StorageError, Store, Withdrawal, WithdrawalRow, WithdrawnKind};

/// How often a process looks for what others have withdrawn.
pub const FOLLOW_PERIOD: Duration = Duration::from_millis(250);

/// Entries that one process knows.
const KNOWN_MAX: usize = 200_000;

/// Entries read or told at once; the rest comes with the next question.
const ROWS_MAX: u32 = 50_000;

/// How long a revoked key is told to gateways, in seconds: longer than any of them remembers an answer about one.
const KEY_TOLD_SECONDS: i64 = 24 * 60 * 60;

/// How long a verifier may accept a token beyond its end, in seconds: so long it is told that the token was withdrawn.
const LEEWAY_SECONDS: i64 = 5 * 60;

/// What is known to be withdrawn. Asked on every request, so it lies in memory.
#[derive(Default)]
pub(super) struct Withdrawn(RwLock<Known>);

#[derive(Default)]
struct Known {
    /// By the token's own id: when it ends.
    tokens: HashMap<String, i64>,
    /// By user: the last second of issue, and when the last of those tokens ends.
    subjects: HashMap<String, (i64, i64)>,
    /// The number of the last entry that was read.
    last: i64,
}

/// Withdraws, and knows what was withdrawn.
pub struct Withdrawals {
    store: Store,
    clock: Arc<dyn Clock>,
    token_ttl: Duration,
    known: Arc<Withdrawn>,
}

/// What the gateway is told.
#[derive(Debug)]
pub struct Told {
    /// Where the next question goes on.
    pub cursor: String,
    /// In the order in which they were withdrawn.
    pub entries: Vec<WithdrawalRow>,
}

impl Withdrawn {
    /// Whether a token with these claims was withdrawn.
    pub(super) fn holds(&self, claims: &AccessClaims) -> bool {
        let known = self.read();
        known.tokens.contains_key(&claims.jti)
            || known.subjects.get(&claims.sub).is_some_and(|(until, _)| to_signed(claims.iat) <= *until)
    }

    pub(super) fn add(&self, kind: &str, value: &str, issued_until: i64, ends: i64) {
        let mut known = self.write();
        if kind == WithdrawnKind::Token.as_str() {
            let kept = known.tokens.entry(value.to_owned()).or_default();
            *kept = ends.max(*kept);
        } else if kind == WithdrawnKind::Subject.as_str() {
            let kept = known.subjects.entry(value.to_owned()).or_default();
            *kept = (issued_until.max(kept.0), ends.max(kept.1));
        }
        // Keys are looked up whenever they are shown; only gateways need to be told of them.
    }

    /// Forgets what has ended, and makes room when there is too much.
    fn clean(&self, now: i64) {
        let mut known = self.write();
        known.retain(now);
        let surplus = (known.tokens.len() + known.subjects.len()).saturating_sub(KNOWN_MAX);
        if surplus == 0 {
            return;
        }
        known.make_room(surplus);
        tracing::error!("more than {KNOWN_MAX} tokens were withdrawn; {surplus} that end soonest were forgotten");
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        // The maps are sound after every single step, so a panic elsewhere does not spoil them.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn retain(&mut self, ended: i64) {
        self.tokens.retain(|_, ends| *ends > ended);
        self.subjects.retain(|_, (_, ends)| *ends > ended);
    }

    /// Forgets so many. Whoever logs out again and again must not bring back a user who was kept out.
    fn make_room(&mut self, surplus: usize) {
        let of_tokens = surplus.min(self.tokens.len());
        let mut soonest = Soonest::of(self.tokens.values().copied().collect(), of_tokens);
        self.tokens.retain(|_, ends| !soonest.has(*ends));
        let mut soonest = Soonest::of(self.subjects.values().map(|(_, ends)| *ends).collect(), surplus - of_tokens);
        self.subjects.retain(|_, (_, ends)| !soonest.has(*ends));
    }
}

/// The soonest of many ends.
struct Soonest {
    /// All that are sooner than this one.
    last: i64,
    /// And so many that are equal to it.
    equal: usize,
}

impl Soonest {
    /// So many of them, or all.
    fn of(mut ends: Vec<i64>, count: usize) -> Self {
        let count = count.min(ends.len());
        let Some(index) = count.checked_sub(1) else { return Self { last: i64::MIN, equal: 0 } };
        let last = *ends.select_nth_unstable(index).1;
        let sooner = ends.iter().filter(|end| **end < last).count();
        Self { last, equal: count.saturating_sub(sooner) }
    }

    /// Whether this is one of them. Each is asked about once.
    fn has(&mut self, end: i64) -> bool {
        if end == self.last && self.equal > 0 {
            self.equal -= 1;
            return true;
        }
        end < self.last
    }
}

impl Withdrawals {
    /// `token_ttl` is how long an access token holds.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, token_ttl: Duration) -> Self {
        Self { store, clock, token_ttl, known: Arc::default() }
    }

    /// What verifiers ask.
    pub(super) fn known(&self) -> Arc<Withdrawn> {
        Arc::clone(&self.known)
    }

    /// Learns what others have withdrawn since the last time.
    ///
    /// # Errors
    /// When the database fails; then what is known is kept.
    pub async fn follow(&self) -> Result<(), StorageError> {
        let last = self.known.read().last;
        let (rows, reached) = self.after(last).await?;
        for row in &rows {
            self.known.add(&row.kind, &row.value, row.issued_until, row.ends);
        }
        self.known.write().last = reached;
        self.known.clean(now_seconds(&*self.clock));
        Ok(())
    }

    /// What was withdrawn after the entry of this cursor; everything that has not ended, without one. A cursor that is
    /// none of ours counts as none: to tell an entry twice does no harm.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tell(&self, cursor: Option<&str>) -> Result<Told, AuthError> {
        let last = cursor.and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
        let (entries, reached) = self.after(last).await?;
        Ok(Told { cursor: reached.to_string(), entries })
    }

    /// Withdraws one access token that ends then.
    pub(super) async fn withdraw_token(&self, id: &str, ends: i64) -> Result<(), AuthError> {
        // Whoever says it again and again makes nobody write, nor read, anything.
        if self.known.read().tokens.contains_key(id) {
            return Ok(());
        }
        let ends = ends.saturating_add(LEEWAY_SECONDS);
        self.withdraw(Withdrawal { kind: WithdrawnKind::Token, value: id, issued_until: 0, ends }).await
    }

    /// Tells gateways of a key that was revoked: they may remember that it held.
    pub(super) async fn withdraw_key(&self, id: &str) -> Result<(), AuthError> {
        let ends = now_seconds(&*self.clock).saturating_add(KEY_TOLD_SECONDS);
        self.withdraw(Withdrawal { kind: WithdrawnKind::Key, value: id, issued_until: 0, ends }).await
    }

    /// The withdrawal of every access token of a user that was issued until now.
    pub(super) fn of_subject<'a>(&self, id: &'a str) -> Withdrawal<'a> {
        let now = now_seconds(&*self.clock);
        let lifetime = to_signed(self.token_ttl.as_secs()).saturating_add(LEEWAY_SECONDS);
        let ends = now.saturating_add(lifetime);
        Withdrawal { kind: WithdrawnKind::Subject, value: id, issued_until: now, ends }
    }

    /// This was withdrawn, and is known here from now on.
    pub(super) fn note(&self, what: &Withdrawal<'_>) {
        self.known.add(what.kind.as_str(), what.value, what.issued_until, what.ends);
    }

    async fn withdraw(&self, what: Withdrawal<'_>) -> Result<(), AuthError> {
        self.store.withdraw(what).await?;
        self.note(&what);
        Ok(())
    }

    /// Entries after this number, and the number that was reached.
    async fn after(&self, last: i64) -> Result<(Vec<WithdrawalRow>, i64), StorageError> {
        let now = now_seconds(&*self.clock);
        let mut rows = self.store.withdrawals_after(last, now, ROWS_MAX).await?;
        if let Some(row) = rows.last() {
            let reached = row.seq;
            return Ok((rows, reached));
        }
        // A number beyond the last one is of another database, or of an entry that is gone: then from the beginning.
        let newest = self.store.withdrawal_last().await?;
        if last <= newest {
            return Ok((rows, last));
        }
        rows = self.store.withdrawals_after(0, now, ROWS_MAX).await?;
        let reached = rows.last().map_or(0, |row| row.seq);
        Ok((rows, reached))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000;

    fn claims(subject: &str, id: &str, issued: u64) -> AccessClaims {
        AccessClaims {
            iss: String::new(),
            aud: String::new(),
            sub: subject.into(),
            client_id: String::new(),
            iat: issued,
            exp: issued + 60,
            jti: id.into(),
            scope: String::new(),
            roles: Vec::new(),
        }
    }

    #[test]
    fn tokens_are_withdrawn_one_by_one_and_subjects_until_a_second() {
        let withdrawn = Withdrawn::default();
        withdrawn.add("token", "t-1", 0, NOW + 10);
        withdrawn.add("subject", "bob", 990, NOW + 20);
        withdrawn.add("key", "k", 0, NOW + 20);
        assert!(withdrawn.holds(&claims("ann", "t-1", 999)));
        assert!(!withdrawn.holds(&claims("ann", "t-2", 999)));
        assert!(withdrawn.holds(&claims("bob", "t-2", 990)), "issued in that very second");
        assert!(!withdrawn.holds(&claims("bob", "t-2", 991)), "issued after it");
        // What is told anew with less does not bring anything back.
        withdrawn.add("subject", "bob", 980, NOW + 5);
        withdrawn.clean(NOW + 15);
        assert!(withdrawn.holds(&claims("bob", "t-2", 990)));
        assert!(!withdrawn.holds(&claims("ann", "t-1", 999)), "it has ended by itself");
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let withdrawn = Withdrawn::default();
        for index in 0..=KNOWN_MAX {
            withdrawn.add("token", &index.to_string(), 0, NOW + 1 + i64::try_from(index).expect("small"));
        }
        withdrawn.clean(NOW);
        assert_eq!(withdrawn.read().tokens.len(), KNOWN_MAX);
        assert!(!withdrawn.holds(&claims("ann", "0", 999)), "the one that ends soonest made room");
    }

    #[test]
    fn who_was_kept_out_stays_so_however_many_tokens_come_after() {
        let withdrawn = Withdrawn::default();
        withdrawn.add("subject", "bob", 990, NOW + 1);
        for index in 0..KNOWN_MAX + 2 {
            // All of them end at once, as those of one second do.
            withdrawn.add("token", &index.to_string(), 0, NOW + 10);
        }
        withdrawn.clean(NOW);
        assert!(withdrawn.holds(&claims("bob", "t", 990)));
        assert_eq!(withdrawn.read().tokens.len(), KNOWN_MAX - 1, "no more than must");
        let mut three = Soonest::of(vec![5, 5, 1, 5, 9], 3);
        assert_eq!([5, 5, 1, 5, 9].map(|end| three.has(end)), [true, true, true, false, false]);
        let mut none = Soonest::of(vec![1], 0);
        assert!(!none.has(1) && !none.has(i64::MIN));
    }
}
