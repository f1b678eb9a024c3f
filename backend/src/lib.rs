//! The API behind the gateway: it knows users and keys, issues tokens, and answers queries with language models.
//!
//! For: everything of the `backend` program but its command line. The folders are the rooms a request walks through:
//! `api` (the door), `worker` (what need not wait), `auth` (who), `query` (the work), `storage` (what is kept) and `shared`
//! (what processes share besides); `config` and `base` lie underneath.
//! May touch: a file imports only from its right in
//! `app → api → worker → {auth, query} → {shared, storage} → config → base`.
//! Promises: input never panics it; every queue, cache, body and wait has a bound with a name.
//! Read next: `api/mod.rs`, where every route stands on one page, then `app.rs`, where everything is built.

pub mod app;

pub mod api;

pub mod worker;

pub mod auth;
pub mod query;

pub mod shared;
pub mod storage;

pub mod config;

pub mod base;
