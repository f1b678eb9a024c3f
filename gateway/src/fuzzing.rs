//! Fuzzing: what holds for every input, as functions that fail where it does not.
//!
//! For: `make fuzz`, by which `gateway/fuzz` feeds each target without end, and the tests below, which feed it its seeds.
//! May touch: whatever reads bytes from outside. No other room names this one, and the programs are built without it.
//! Promises: a target takes any bytes, and fails only where the product breaks a promise.
//! Read next: `fuzzing/request.rs`, then "Fuzzing" in `docs/testing.md`, which says how to add a target.

mod credentials;
mod files;
mod request;
mod wire;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::base::head::Head;

/// Header fields that one input makes at most; what stands behind them is left out.
const FIELDS_MAX: usize = 200;

/// A reader of bytes from outside, and what must hold whatever it is given.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `gateway/fuzz/seeds/`.
    pub name: &'static str,
    /// Takes one input. Panics where a promise is broken.
    pub check: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 13] = [
    Target { name: "accept_encoding", check: request::accept_encoding },
    Target { name: "api_key", check: credentials::api_key },
    Target { name: "claims", check: credentials::claims },
    Target { name: "configuration", check: files::configuration },
    Target { name: "credentials", check: credentials::credentials },
    Target { name: "forwarded_for", check: request::forwarded_for },
    Target { name: "head", check: request::head },
    Target { name: "host", check: request::host },
    Target { name: "key_set", check: credentials::key_set },
    Target { name: "path", check: request::path },
    Target { name: "proxy_protocol", check: wire::proxy_protocol },
    Target { name: "servers", check: files::servers },
    Target { name: "token", check: credentials::token },
];

fn lines(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|byte| *byte == b'\n').take(FIELDS_MAX)
}

/// The first line, and what stands behind it.
fn first_line(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    (&input[..end], input.get(end + 1..).unwrap_or_default())
}

/// One field of this name a line.
fn fields(name: &HeaderName, input: &[u8]) -> HeaderMap {
    let values = lines(input).filter_map(|line| HeaderValue::from_bytes(line).ok());
    values.map(|value| (name.clone(), value)).collect()
}

/// One `name: value` a line; a line that cannot be a field is left out.
fn named_fields(input: &[u8]) -> HeaderMap {
    let field = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    };
    lines(input).filter_map(field).collect()
}

/// A request with these fields.
fn head_of<'a>(path: &'a [u8], query: Option<&'a [u8]>, headers: &'a HeaderMap) -> Head<'a> {
    Head { path, query, target_bytes: path.len() + query.map_or(0, <[u8]>::len), ..Head::plain(headers) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn seeds() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds"))
    }

    fn names_in(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        entries.map(|entry| entry.expect("a readable folder").file_name().into_string().expect("a name")).collect()
    }

    #[test]
    fn every_target_holds_for_its_seeds() {
        for target in TARGETS {
            let folder = seeds().join(target.name);
            let names = names_in(&folder);
            assert!(!names.is_empty(), "{} has no seeds", target.name);
            for name in names {
                let input = fs::read(folder.join(&name)).expect("a seed");
                // What a failing target says does not name the seed.
                println!("{}/{name}", target.name);
                (target.check)(&input);
                // An editor's line break is no part of what most targets read.
                (target.check)(input.trim_ascii_end());
            }
        }
    }

    #[test]
    fn every_folder_of_seeds_has_its_target() {
        let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        assert_eq!(names_in(&seeds()), targets);
        assert_eq!(targets.len(), TARGETS.len(), "no name is given twice");
    }

    #[test]
    fn a_target_takes_what_no_reader_expects() {
        for target in TARGETS {
            for input in [&b""[..], b"\0", b"\n\n\n", &[0xff; 600], &[b'['; 600], &[b','; 600]] {
                println!("{}: {}", target.name, input.escape_ascii());
                (target.check)(input);
            }
        }
    }
}
