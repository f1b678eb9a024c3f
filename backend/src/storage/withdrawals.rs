//! Withdrawals: what was taken back before its end.
//!
//! For: access tokens at logout, everything of a user who was changed, and API keys, until they would have ended by
//! themselves. May touch: the table `withdrawals`. Promises: each entry has a number, and who reads on after the last
//! number seen misses none, because who withdraws takes turns: numbers appear in their order, on Postgres too. An entry
//! that is withdrawn again gets a new number and the later of both times; of a subject, at least one second more, because
//! since the last time tokens may have been issued from the second after it on.
//! Read next: `auth/withdrawals.rs`.

use sqlx::Row as _;

use super::cleaning::Batch;
use super::engine::{Transaction, Turn, on, rows};
use super::{StorageError, Store};

/// Asked by every process several times a second, and by every gateway.
pub(super) const AFTER: &str = "\
    SELECT seq, kind, value, issued_until, ends FROM withdrawals \
    WHERE seq > $1 AND ends > $2 ORDER BY seq LIMIT $3";

/// Deletes entries that have ended.
const CLEAN: Batch = Batch {
    what: "withdrawals_clean",
    rows_max: 1_000,
    statement: "\
        DELETE FROM withdrawals \
        WHERE seq IN (SELECT seq FROM withdrawals WHERE ends <= $1 ORDER BY ends LIMIT $2)",
};

/// What kind of thing was withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithdrawnKind {
    /// One access token, by its own id.
    Token,
    /// Every access token of a user that was issued until a second.
    Subject,
    /// An API key, by its public id.
    Key,
}

/// Something to be withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawal<'a> {
    /// What kind of thing.
    pub kind: WithdrawnKind,
    /// Its id.
    pub value: &'a str,
    /// Of subjects: the last second of issue, in seconds. Zero for the others.
    pub issued_until: i64,
    /// When it would have ended by itself, in seconds.
    pub ends: i64,
}

/// Something that was withdrawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithdrawalRow {
    /// Later ones have larger numbers.
    pub seq: i64,
    /// The word of its kind.
    pub kind: String,
    /// Its id.
    pub value: String,
    /// Of subjects: the last second of issue, in seconds.
    pub issued_until: i64,
    /// In seconds.
    pub ends: i64,
}

rows!(WithdrawalRow, |row| {
    Ok(Self {
        seq: row.try_get("seq")?,
        kind: row.try_get("kind")?,
        value: row.try_get("value")?,
        issued_until: row.try_get("issued_until")?,
        ends: row.try_get("ends")?,
    })
});

impl WithdrawnKind {
    /// The word in the table, and in what the gateway reads.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Subject => "subject",
            Self::Key => "key",
        }
    }
}

impl Store {
    /// Withdraws something.
    ///
    /// # Errors
    /// When the database fails; then nothing was withdrawn.
    pub async fn withdraw(&self, what: Withdrawal<'_>) -> Result<(), StorageError> {
        const WHAT: &str = "withdraw";
        let mut transaction = self.begin(WHAT).await?;
        withdraw_in(&mut transaction, what, WHAT).await?;
        transaction.commit(WHAT).await
    }

    /// Up to `limit` entries after the one of this number that have not ended, in the order of their numbers.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn withdrawals_after(
        &self,
        seq: i64,
        now: i64,
        limit: u32,
    ) -> Result<Vec<WithdrawalRow>, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_as(AFTER).bind(seq).bind(now).bind(i64::from(limit)).fetch_all(db).await
        })
        .map_err(StorageError::during("withdrawals_after"))
    }

    /// The largest number that is there; zero, if there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn withdrawal_last(&self) -> Result<i64, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM withdrawals").fetch_one(db).await
        })
        .map_err(StorageError::during("withdrawal_last"))
    }

    /// Deletes entries that have ended, a bounded number at a time, unless another process is cleaning. Says whether
    /// there may be more for this one to do.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn withdrawals_clean(&self, now: i64) -> Result<bool, StorageError> {
        self.clean(CLEAN, now).await
    }
}

/// Withdraws something within a transaction, which holds the turn until its end. Gives the entry as it is kept.
pub(super) async fn withdraw_in<'e>(
    transaction: &mut Transaction,
    entry: Withdrawal<'e>,
    what: &'static str,
) -> Result<Withdrawal<'e>, StorageError> {
    // Until the commit nobody else gets a number, so that none appears before a smaller one.
    transaction.take_turn(Turn::Withdrawing).await.map_err(StorageError::during(what))?;
    let known: Option<(i64, i64)> = on!(transaction.on(), |db| {
        sqlx::query_as("DELETE FROM withdrawals WHERE kind = $1 AND value = $2 RETURNING issued_until, ends")
            .bind(entry.kind.as_str())
            .bind(entry.value)
            .fetch_optional(db)
            .await
    })
    .map_err(StorageError::during(what))?;
    let kept = match (known, entry.kind) {
        (None, _) => entry,
        (Some((issued_until, ends)), WithdrawnKind::Subject) => Withdrawal {
            issued_until: entry.issued_until.max(issued_until.saturating_add(1)),
            ends: entry.ends.max(ends),
            ..entry
        },
        (Some((_, ends)), WithdrawnKind::Token | WithdrawnKind::Key) => {
            Withdrawal { ends: entry.ends.max(ends), ..entry }
        }
    };
    on!(transaction.on(), |db| {
        sqlx::query("INSERT INTO withdrawals (kind, value, issued_until, ends) VALUES ($1, $2, $3, $4)")
            .bind(kept.kind.as_str())
            .bind(kept.value)
            .bind(kept.issued_until)
            .bind(kept.ends)
            .execute(db)
            .await
            .map(|_| ())
    })
    .map_err(StorageError::during(what))?;
    Ok(kept)
}
