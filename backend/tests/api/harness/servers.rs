//! Servers: those that a run of the tests was given, and what a folder has on them.
//!
//! For: one suite that runs twice, in files and on servers. `common/testkit/src/bin/with-servers.rs` starts the servers
//! and names them in the environment; without the names everything is kept in files.
//! May touch: databases that it made itself. Promises: each folder has a database of its own and names of its own in
//! Redis, made when they are first asked for; the database goes with the folder.
//! Read next: `settings.rs`.

use std::path::Path;
use std::{env, fs, thread};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testkit::postgres::VARIABLE as POSTGRES;
use testkit::redis::VARIABLE as REDIS;
use testkit::wait::{PATIENCE, within};
use uuid::Uuid;

/// The file in a folder that says what its database is called.
const NAME_FILE: &str = "name-on-the-servers";

/// What a folder has on the servers.
#[derive(Clone, Debug)]
pub struct Own {
    /// The address of its database.
    pub url: String,
    /// The address of Redis.
    pub redis: String,
    /// What the database is called, and what names in Redis begin with.
    pub name: String,
}

/// What this folder has on the servers of the run; `None` where the run has none.
pub fn own(folder: &Path) -> Option<Own> {
    let (postgres, redis) = given()?;
    let file = folder.join(NAME_FILE);
    let name = if file.exists() {
        fs::read_to_string(&file).expect("it was written by this test")
    } else {
        let name = format!("t{}", Uuid::now_v7().simple());
        administer(&postgres, format!("CREATE DATABASE {name}")).expect("the server makes databases");
        fs::write(&file, &name).expect("a temporary folder can be written");
        name
    };
    let (server, _) = postgres.rsplit_once('/').expect("an address ends in a database");
    Some(Own { url: format!("{server}/{name}"), redis, name })
}

/// Whether this file of settings, which lies in the folder, names what the folder has on the servers.
pub fn are_named_in(file: &Path, folder: &Path) -> bool {
    let Ok(name) = fs::read_to_string(folder.join(NAME_FILE)) else { return false };
    fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("prefix: {name}")))
}

/// Removes what this folder has on the servers, whoever is still connected. What cannot be removed ends with the server.
pub fn forget(folder: &Path) {
    let Some((postgres, _)) = given() else { return };
    let Ok(name) = fs::read_to_string(folder.join(NAME_FILE)) else { return };
    if let Err(error) = administer(&postgres, format!("DROP DATABASE {name} WITH (FORCE)")) {
        eprintln!("the database {name} stays: {error}");
    }
}

/// The addresses of Postgres and Redis.
fn given() -> Option<(String, String)> {
    match (env::var(POSTGRES), env::var(REDIS)) {
        (Ok(postgres), Ok(redis)) => Some((postgres, redis)),
        (Err(_), Err(_)) => None,
        _ => panic!("{POSTGRES} and {REDIS} are set both, or none of them"),
    }
}

/// Has a server do what is no part of any test. On a thread of its own, since settings are written and folders removed
/// where nothing can be awaited.
fn administer(address: &str, statement: String) -> Result<(), String> {
    let address = address.to_owned();
    let work = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(within("the server makes or removes a database", PATIENCE, async {
            let mut server = PgConnection::connect(&address).await?;
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut server).await?;
            server.close().await
        }))
    });
    match work.join() {
        Ok(done) => done.map_err(|error: sqlx::Error| error.to_string()),
        Err(_) => Err("the server does not answer".to_owned()),
    }
}
