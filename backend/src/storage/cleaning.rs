//! Cleaning: how rows that count for nothing any more are deleted.
//!
//! For: every table that forgets; each says in a `Batch` what it deletes. May touch: what their statements name.
//! Promises: one process cleans at a time; a batch has a bound, so that cleaning never holds the write lock for long.
//! Read next: `audit.rs`.

use super::engine::{Transaction, Turn, on};
use super::{StorageError, Store};

/// What is deleted at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// Which method it is for.
    pub(super) what: &'static str,
    /// How many rows at most.
    pub(super) rows_max: i64,
    /// Deletes them: `$1` is the second until which rows are old, `$2` their largest number.
    pub(super) statement: &'static str,
}

impl Store {
    /// Deletes a batch, unless another process is cleaning. Says whether there may be more for this one to do.
    pub(super) async fn clean(&self, batch: Batch, until: i64) -> Result<bool, StorageError> {
        let Some(mut transaction) = self.begin_cleaning(batch.what).await? else { return Ok(false) };
        let is_full = batch.delete(&mut transaction, until).await?;
        transaction.commit(batch.what).await?;
        Ok(is_full)
    }

    /// A transaction to delete in; `None` while another process is cleaning.
    pub(super) async fn begin_cleaning(&self, what: &'static str) -> Result<Option<Transaction>, StorageError> {
        let mut transaction = self.begin(what).await?;
        // Two that delete the same rows in different orders could each wait for the other.
        let is_ours = transaction.try_turn(Turn::Cleaning).await.map_err(StorageError::during(what))?;
        Ok(is_ours.then_some(transaction))
    }
}

impl Batch {
    /// Deletes the rows in such a transaction; says whether they were as many as may be.
    pub(super) async fn delete(self, transaction: &mut Transaction, until: i64) -> Result<bool, StorageError> {
        let gone = on!(transaction.on(), |db| {
            sqlx::query(self.statement)
                .bind(until)
                .bind(self.rows_max)
                .execute(db)
                .await
                .map(|done| done.rows_affected())
        })
        .map_err(StorageError::during(self.what))?;
        Ok(i64::try_from(gone).is_ok_and(|gone| gone >= self.rows_max))
    }
}
