//! Revocations: what was withdrawn before its end.
//!
//! Two lists: one that a feed tells, one that operators made at this gateway or another. Both are asked on every request, also
//! for what is remembered, so that a cache never outlives a withdrawal. An entry is forgotten when what it is about has ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use super::identity::Identity;
use crate::stages::context::Now;

/// Entries kept in a list; those that end soonest make room.
pub(crate) const ENTRIES_MAX: usize = 200_000;

/// What was withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Withdrawn {
    /// One token, by its `jti`.
    Token { value: String },
    /// Every token of a subject that was issued until then, in Unix seconds.
    Subject { value: String, issued_until: u64 },
    /// An API key, by its public id.
    Key { value: String },
}

/// What was withdrawn, and when it would have ended by itself, in Unix seconds: then it can be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub what: Withdrawn,
    pub ends: u64,
}

/// Both lists.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    list: RwLock<List>,
    /// Whether there is anything at all: most of the time there is not, and then no lock is taken.
    any: AtomicBool,
    /// Whether the feed was heard once, where there is one.
    heard: AtomicBool,
}

#[derive(Debug, Default)]
struct List {
    /// By `jti`: the end.
    tokens: HashMap<Box<str>, u64>,
    /// By subject: issued until, and the end.
    subjects: HashMap<Box<str>, (u64, u64)>,
    /// By key id: the end.
    keys: HashMap<Box<str>, u64>,
}

impl Revocations {
    /// Whether an identity was withdrawn. A token that does not say when it was issued counts as old.
    pub(crate) fn refuse(&self, identity: &Identity, now: Now) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let alive = |ends: &u64| *ends > now.unix_seconds;
        let token = identity.token_id.as_ref().is_some_and(|id| list.tokens.get(&**id).is_some_and(alive));
        let key = identity.key_id.as_ref().is_some_and(|id| list.keys.get(&**id).is_some_and(alive));
        // A key has no time of issue; it is withdrawn by itself.
        let subject = identity.key_id.is_none()
            && list
                .subjects
                .get(&*identity.subject)
                .is_some_and(|(until, ends)| alive(ends) && identity.issued_unix_seconds.unwrap_or(0) <= *until);
        token || key || subject
    }

    /// Adds entries. What is known already is known for the longer time.
    pub(crate) fn add(&self, entries: impl IntoIterator<Item = Entry>, now: Now) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        for Entry { what, ends } in entries.into_iter().filter(|entry| entry.ends > now.unix_seconds) {
            match what {
                Withdrawn::Token { value } => {
                    let known = list.tokens.entry(value.into()).or_default();
                    *known = ends.max(*known);
                }
                Withdrawn::Subject { value, issued_until } => {
                    let (until, known) = list.subjects.entry(value.into()).or_default();
                    (*until, *known) = (issued_until.max(*until), ends.max(*known));
                }
                Withdrawn::Key { value } => {
                    let known = list.keys.entry(value.into()).or_default();
                    *known = ends.max(*known);
                }
            }
        }
        list.clean(now);
        self.any.store(!list.is_empty(), Ordering::Release);
    }

    /// Everything that is known.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let tokens = list
            .tokens
            .iter()
            .map(|(value, ends)| Entry { what: Withdrawn::Token { value: value.to_string() }, ends: *ends });
        let keys = list
            .keys
            .iter()
            .map(|(value, ends)| Entry { what: Withdrawn::Key { value: value.to_string() }, ends: *ends });
        let subjects = list.subjects.iter().map(|(value, (until, ends))| Entry {
            what: Withdrawn::Subject { value: value.to_string(), issued_until: *until },
            ends: *ends,
        });
        tokens.chain(keys).chain(subjects).collect()
    }

    /// How many are known.
    pub(crate) fn count(&self) -> usize {
        self.list.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Notes that the feed was heard.
    pub(crate) fn note_heard(&self) {
        self.heard.store(true, Ordering::Release);
    }

    /// Whether the feed was ever heard.
    pub(crate) fn was_heard(&self) -> bool {
        self.heard.load(Ordering::Acquire)
    }
}

impl List {
    fn len(&self) -> usize {
        self.tokens.len() + self.subjects.len() + self.keys.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what has ended, and what ends soonest when there is too much.
    fn clean(&mut self, now: Now) {
        self.retain(now.unix_seconds);
        if self.len() > ENTRIES_MAX {
            let tokens = self.tokens.values().copied();
            let mut ends: Vec<u64> = tokens
                .chain(self.keys.values().copied())
                .chain(self.subjects.values().map(|(_, ends)| *ends))
                .collect();
            let surplus = ends.len() - ENTRIES_MAX;
            let (_, soonest, _) = ends.select_nth_unstable(surplus - 1);
            let soonest = *soonest;
            self.retain(soonest);
            tracing::error!(
                kept = self.len(),
                "more was withdrawn than can be kept; what ends soonest was forgotten"
            );
        }
    }

    fn retain(&mut self, ended: u64) {
        self.tokens.retain(|_, ends| *ends > ended);
        self.keys.retain(|_, ends| *ends > ended);
        self.subjects.retain(|_, (_, ends)| *ends > ended);
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::{Method, Proof};
    use super::*;

    fn at(unix_seconds: u64) -> Now {
        Now { steady_ns: 0, unix_seconds }
    }

    fn token(id: &str, subject: &str, issued: Option<u64>) -> Identity {
        let proof = Proof { subject, token_id: Some(id), issued_unix_seconds: issued, ..Proof::default() };
        Identity::new(Method::Jwt, proof).expect("an identity")
    }

    #[test]
    fn tokens_subjects_and_keys_are_withdrawn_until_they_end() {
        let revocations = Revocations::default();
        let now = at(1000);
        let key = Identity::new(Method::ApiKey, Proof { subject: "eve", key_id: Some("k"), ..Proof::default() });
        let key = key.expect("an identity");
        assert!(!revocations.refuse(&token("a", "eve", None), now));
        let entry = |what, ends| Entry { what, ends };
        revocations.add(
            [
                entry(Withdrawn::Token { value: "a".into() }, 1010),
                entry(Withdrawn::Subject { value: "bob".into(), issued_until: 990 }, 1020),
                entry(Withdrawn::Key { value: "k".into() }, 1030),
                entry(Withdrawn::Token { value: "over".into() }, 1000),
            ],
            now,
        );
        assert_eq!(revocations.count(), 3);
        assert!(revocations.refuse(&token("a", "eve", Some(999)), now) && revocations.refuse(&key, now));
        assert!(!revocations.refuse(&token("b", "eve", Some(999)), now));
        assert!(revocations.refuse(&token("b", "bob", Some(990)), now), "issued before");
        assert!(revocations.refuse(&token("b", "bob", None), now), "nobody knows when");
        assert!(!revocations.refuse(&token("b", "bob", Some(991)), now), "issued after");
        assert!(!revocations.refuse(&token("a", "eve", None), at(1010)), "it has ended by itself");
        revocations.add([], at(1025));
        assert_eq!(revocations.count(), 1, "and is forgotten");
    }

    #[test]
    fn an_entry_is_written_as_the_manual_says() {
        let text = r#"{"kind":"subject","value":"bob","issued_until":7,"ends":9}"#;
        let entry: Entry = serde_json::from_str(text).expect("an entry");
        assert_eq!(entry, Entry { what: Withdrawn::Subject { value: "bob".into(), issued_until: 7 }, ends: 9 });
        assert_eq!(serde_json::to_string(&entry).expect("JSON"), text);
    }
}
