//! Throttle: how often a login may fail.
//!
//! For: refusing to look at yet another guess, by account and by client address. May touch: the clock.
//! Promises: an attempt is counted before its password is looked at, so that guesses sent at once count too; a success
//! gives its attempt back; the tables are bounded, and the entries looked at longest ago go first. Counts are kept in
//! this process: with N processes an attacker has N times the guesses.
//! Read next: `sessions.rs`.

use std::net::IpAddr;
use std::sync::Arc;

use common::clock::Clock;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::AuthError;
use crate::base::digest::{DIGEST_BYTES, sha256_of_parts};
use crate::base::network::client_site;
use crate::config::LoginLimits;

/// Accounts and addresses that are remembered, together.
const ENTRIES_MAX: u64 = 200_000;

/// Counts failed logins.
pub struct Throttle {
    windows: Cache<[u8; DIGEST_BYTES], Window>,
    failures_max: u32,
    window_seconds: u64,
    clock: Arc<dyn Clock>,
}

/// Failures counted since the first of them.
#[derive(Clone, Copy, Debug)]
struct Window {
    attempts: u32,
    /// In seconds of the Unix epoch.
    ends_at: u64,
}

/// An attempt that was counted. Keep it for a failure, give it back for anything else.
#[must_use]
pub struct Attempt {
    keys: [[u8; DIGEST_BYTES]; 2],
}

/// An attempt that may not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// When attempts count no longer.
    pub retry_after_seconds: u64,
    /// Whether this is the first refusal of its window: worth an entry in the audit log, unlike those that follow.
    pub first: bool,
}

impl Throttle {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(limits: LoginLimits, clock: Arc<dyn Clock>) -> Self {
        let windows = Cache::builder()
            .max_capacity(ENTRIES_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(limits.window)
            .build();
        Self { windows, failures_max: limits.failures_max, window_seconds: limits.window.as_secs(), clock }
    }

    /// Counts an attempt for this account and this address.
    ///
    /// # Errors
    /// `Throttled` when either has had too many.
    pub fn admit(&self, account: &str, address: IpAddr) -> Result<Attempt, Throttled> {
        let account = sha256_of_parts(&[b"account", account.as_bytes()]);
        let site = sha256_of_parts(&[b"address", client_site(address).to_string().as_bytes()]);
        self.count(account)?;
        self.count(site).inspect_err(|_| self.give_back_one(account))?;
        Ok(Attempt { keys: [account, site] })
    }

    /// Uncounts an attempt that did not fail.
    pub fn give_back(&self, attempt: &Attempt) {
        for key in attempt.keys {
            self.give_back_one(key);
        }
    }

    fn count(&self, key: [u8; DIGEST_BYTES]) -> Result<(), Throttled> {
        let now = self.clock.unix_seconds();
        let entry = self.windows.entry(key).and_upsert_with(|entry| match entry.map(moka::Entry::into_value) {
            Some(window) if window.ends_at > now => {
                Window { attempts: window.attempts.saturating_add(1), ends_at: window.ends_at }
            }
            _ => Window { attempts: 1, ends_at: now.saturating_add(self.window_seconds) },
        });
        let window = entry.into_value();
        if window.attempts <= self.failures_max {
            return Ok(());
        }
        Err(Throttled {
            retry_after_seconds: window.ends_at.saturating_sub(now).max(1),
            first: window.attempts == self.failures_max.saturating_add(1),
        })
    }

    fn give_back_one(&self, key: [u8; DIGEST_BYTES]) {
        self.windows.entry(key).and_compute_with(|entry| match entry.map(moka::Entry::into_value) {
            Some(window) if window.attempts > 1 => {
                moka::ops::compute::Op::Put(Window { attempts: window.attempts - 1, ends_at: window.ends_at })
            }
            Some(_) => moka::ops::compute::Op::Remove,
            None => moka::ops::compute::Op::Nop,
        });
    }
}

impl From<Throttled> for AuthError {
    fn from(throttled: Throttled) -> Self {
        Self::LoginThrottled { retry_after_seconds: throttled.retry_after_seconds }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::clock::ManualClock;

    use super::*;

    const WINDOW: Duration = Duration::from_mins(15);

    fn throttle() -> (Throttle, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(1_000));
        let limits = LoginLimits { failures_max: 3, window: WINDOW };
        (Throttle::new(limits, Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn an_account_is_refused_from_every_address_until_its_window_ends() {
        let (throttle, clock) = throttle();
        for last in 1..=3 {
            assert!(throttle.admit("ann", address(last)).is_ok(), "{last}");
        }
        assert_eq!(
            throttle.admit("ann", address(4)).err(),
            Some(Throttled { retry_after_seconds: 900, first: true })
        );
        clock.advance(Duration::from_secs(100));
        assert_eq!(
            throttle.admit("ann", address(5)).err(),
            Some(Throttled { retry_after_seconds: 800, first: false })
        );
        assert!(throttle.admit("bob", address(4)).is_ok());
        clock.advance(Duration::from_secs(800));
        assert!(throttle.admit("ann", address(4)).is_ok());
    }

    #[test]
    fn an_address_is_refused_for_every_account() {
        let (throttle, _) = throttle();
        for name in ["a", "b", "c"] {
            assert!(throttle.admit(name, address(1)).is_ok(), "{name}");
        }
        assert!(throttle.admit("d", address(1)).is_err());
        // The refusal did not count against the account.
        for last in 2..=4 {
            assert!(throttle.admit("d", address(last)).is_ok(), "{last}");
        }
    }

    #[test]
    fn a_success_gives_its_attempt_back() {
        let (throttle, _) = throttle();
        for round in 0..20 {
            let attempt = throttle.admit("ann", address(1)).unwrap_or_else(|_| panic!("refused in round {round}"));
            throttle.give_back(&attempt);
        }
    }
}
