//! Check of the Redis server that processes share.
//!
//! For: `check.rs`, which has the tools. May touch: the file of authorities, the place of the password.
//! Promises: it is found in one way; no password is in any mistake. Read next: `../checked/redis.rs`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use common::redis::Access;
use common::settings::{At, Decoder, Millis};

use super::{secret, size, unique_name};
use crate::config::checked::{Redis, RedisPlace};
use crate::config::raw;

/// The shortest and the longest that anybody may wait for it.
const WAIT_MIN: Duration = Duration::from_millis(1);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// `None` where there is none, and after a mistake.
pub(super) fn redis(raw: raw::Redis, decoder: &mut Decoder) -> Option<Redis> {
    // Every key is checked, also where no server is named: they would be mistakes on the day it is.
    let timeout = brief(&raw.timeout, decoder);
    let connect_timeout = brief(&raw.connect_timeout, decoder);
    let prefix = unique_name(&raw.prefix, "prefix", &mut HashSet::new(), decoder);
    let answer_bytes_max = size(&raw.answer_max, decoder);
    if let (Some(username), None) = (&raw.username, &raw.password) {
        decoder.mistake_at(username, "is of no use without redis.password");
    }
    let password = raw.password.and_then(|reference| secret(&reference, decoder));
    let authorities = raw.ca.and_then(|file| read(&file, decoder));
    let place = match (raw.url, raw.sentinel) {
        (Some(url), Some(_)) => {
            decoder.mistake_at(&url, "stands beside redis.sentinel: the server is named, or sentinels are asked");
            return None;
        }
        (Some(url), None) => RedisPlace::Server(url.value),
        (None, Some(sentinel)) => {
            if sentinel.urls.is_empty() {
                decoder.mistake_at(&sentinel.service, "needs at least one address in redis.sentinel.urls");
            }
            RedisPlace::Sentinel { urls: sentinel.urls, service: sentinel.service.value }
        }
        (None, None) => return None,
    };
    Some(Redis {
        place,
        access: Access {
            username: raw.username.map(|username| username.value),
            password,
            authorities,
            database: raw.database,
        },
        timeout: timeout?,
        connect_timeout: connect_timeout?,
        prefix: prefix?,
        answer_bytes_max: answer_bytes_max?,
    })
}

fn read(file: &At<PathBuf>, decoder: &mut Decoder) -> Option<Vec<u8>> {
    std::fs::read(&file.value)
        .map_err(|error| decoder.mistake_at(file, format!("{}: {error}", file.value.display())))
        .ok()
}

fn brief(at: &At<Millis>, decoder: &mut Decoder) -> Option<Duration> {
    let duration = at.value.duration();
    if !(WAIT_MIN..=WAIT_MAX).contains(&duration) {
        decoder.mistake_at(at, format!("{} is out of range: 1ms to 10s", at.value));
        return None;
    }
    Some(duration)
}
