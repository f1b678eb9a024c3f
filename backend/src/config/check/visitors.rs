//! Visitors: by which names the program is asked, and from which pages.
//!
//! For: `server.trusted_hosts` and `server.cors`. May touch: nothing.
//! Promises: what passes can be compared with what clients send, letter by letter. Read next: `api/hosts.rs`.

use std::net::Ipv6Addr;

use common::settings::{At, Decoder};
use url::Url;

use crate::config::checked::Cors;
use crate::config::raw;

/// Every origin.
const ANY: &str = "*";

/// The names that `Host` may have, in lower case.
pub(super) fn hosts(names: Vec<At<String>>, decoder: &mut Decoder) -> Option<Vec<String>> {
    let mut sound = Some(Vec::with_capacity(names.len()));
    for name in names {
        if !is_name(&name.value) {
            let text = format!("{:?} is not a name without a port, such as api.example.org", name.value);
            decoder.mistake_at(&name, text);
            sound = None;
        } else if let Some(hosts) = &mut sound {
            hosts.push(name.value.to_ascii_lowercase());
        }
    }
    sound
}

fn is_name(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// Pages of other origins.
pub(super) fn cors(raw: raw::Cors, decoder: &mut Decoder) -> Option<Cors> {
    let mut sound = true;
    let is_alone = raw.origins.len() == 1;
    for origin in &raw.origins {
        let mistake = match origin.value.as_str() {
            ANY if !is_alone => "* means every origin, so it stands alone".to_owned(),
            ANY if raw.credentials.value => {
                "every page anywhere could act as its visitor: with credentials, name the origins".to_owned()
            }
            text if text != ANY && !is_origin(text) => {
                format!("{text:?} is not an origin as browsers write it, such as https://app.example.org")
            }
            _ => continue,
        };
        decoder.mistake_at(origin, mistake);
        sound = false;
    }
    sound.then(|| Cors {
        origins: raw.origins.into_iter().map(|origin| origin.value).collect(),
        credentials: raw.credentials.value,
    })
}

/// Scheme, host, and the port where it is not the scheme's own; in lower case, and nothing after it.
fn is_origin(text: &str) -> bool {
    let is_written_so = |url: &Url| url.origin().ascii_serialization() == text;
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && is_written_so(&url))
}
