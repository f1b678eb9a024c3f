//! Check of where things are kept.
//!
//! For: `check.rs`, which has the tools. May touch: the place that `database.url` names.
//! Promises: it is a file or a server, never both; neither the address of a server nor a part of it is in any mistake,
//! since a password may stand anywhere in it. Read next: `../checked.rs`.

use std::path::PathBuf;
use std::time::Duration;

use common::secret::Secret;
use common::settings::{At, Decoder, Millis};
use url::Url;

use super::{bounded, lasting, secret};
use crate::config::checked::{Database, PostgresDatabase, SqliteDatabase};
use crate::config::raw;

/// The file, where nothing else is said.
const PATH_DEFAULT: &str = ".run/capibara6.db";

/// The longest wait for a server that a client could still be there for.
const WAIT_MAX: Duration = Duration::from_mins(10);

/// What may stand after the `?` of a server's address. What else there is, the program sets itself or would not heed.
const URL_KEYS: [&str; 6] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "application_name"];

/// The values of `sslmode`.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

pub(super) fn database(raw: raw::Database, decoder: &mut Decoder) -> Option<Database> {
    // Every key is checked, also those of the other engine: they would be mistakes on the day of the switch.
    let readers_max = bounded(&raw.readers_max, 1, 256, decoder);
    let busy_timeout = lasting(&raw.busy_timeout, decoder);
    let connections_max = bounded(&raw.connections_max, 1, 1_000, decoder);
    let acquire_timeout = wait(&raw.acquire_timeout, decoder);
    let statement_timeout = wait(&raw.statement_timeout, decoder);
    if let (Some(path), Some(_)) = (&raw.path, &raw.url) {
        decoder.mistake_at(path, "stands beside database.url: things are kept in a file or on a server, not in both");
        return None;
    }
    match raw.url {
        Some(reference) => {
            let url = secret(&reference, decoder)?;
            if let Err(why) = check_url(&url) {
                decoder.mistake_at(&reference, why);
                return None;
            }
            Some(Database::Postgres(PostgresDatabase {
                url,
                connections_max: connections_max?,
                acquire_timeout: acquire_timeout?,
                statement_timeout: statement_timeout?,
            }))
        }
        None => Some(Database::Sqlite(SqliteDatabase {
            path: path(raw.path, decoder)?,
            readers_max: readers_max?,
            busy_timeout: busy_timeout?,
        })),
    }
}

/// An address in place of a path would be a file of that name, and memory is not shared between connections.
fn path(path: Option<At<PathBuf>>, decoder: &mut Decoder) -> Option<PathBuf> {
    let Some(path) = path else { return Some(PathBuf::from(PATH_DEFAULT)) };
    let is_file = {
        let text = path.value.to_string_lossy();
        !(text.contains('?') || text == ":memory:" || text.starts_with("sqlite:") || text.contains("://"))
    };
    if is_file {
        return Some(path.value);
    }
    decoder.mistake_at(&path, "is not the path of a file, such as .run/capibara6.db");
    None
}

fn check_url(secret: &Secret) -> Result<(), &'static str> {
    const FORM: &str = "holds no address of the form postgres://user:password@host/database";
    let url = Url::parse(secret.expose()).map_err(|_| FORM)?;
    let named =
        url.host_str().is_some_and(|host| !host.is_empty()) || url.query_pairs().any(|(key, _)| key == "host");
    let whole = matches!(url.scheme(), "postgres" | "postgresql")
        && named
        && !url.username().is_empty()
        && !url.path().trim_start_matches('/').is_empty();
    if !whole {
        return Err(FORM);
    }
    for (key, value) in url.query_pairs() {
        if !URL_KEYS.contains(&&*key) {
            return Err(
                "holds an address with a setting other than sslmode, sslrootcert, sslcert, sslkey, host, application_name",
            );
        }
        if key == "sslmode" && !SSL_MODES.contains(&&*value) {
            return Err(
                "holds an address whose sslmode is not disable, allow, prefer, require, verify-ca or verify-full",
            );
        }
    }
    Ok(())
}

fn wait(at: &At<Millis>, decoder: &mut Decoder) -> Option<Duration> {
    let duration = lasting(at, decoder)?;
    if duration > WAIT_MAX {
        decoder.mistake_at(at, format!("{} is longer than 10m", at.value));
        return None;
    }
    Some(duration)
}
