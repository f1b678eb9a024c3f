//! Arrows: which room may name which.
//!
//! For: the import rules of `docs/ARCHITECTURE.md`, as data and as one check. May touch: only the files it is given.
//! Promises: every path that goes against an arrow is reported with its file, its line and the arrow.
//! Read next: `../house.rs`.

use super::source::{NamedPath, SourceFile};

/// A crate and its floors.
pub struct House {
    /// The folder of the workspace, which is also the crate's name.
    pub name: &'static str,
    /// From the top. A file names only its own room and rooms of the floors below; rooms of one floor do not meet.
    pub floors: &'static [&'static [&'static str]],
    /// A room, a lower one that it must not name all the same, and why.
    pub closed: &'static [(&'static str, &'static str, &'static str)],
}

/// The gateway's floors.
pub const GATEWAY: House = House {
    name: "gateway",
    floors: &[
        &["fuzzing", "main", "lib"],
        &["app"],
        &["acme", "admin", "explain", "reload"],
        &["listen", "proxy"],
        &["snapshot"],
        &["stages"],
        &["route", "store", "upstream"],
        &["config"],
        &["base"],
    ],
    closed: &[],
};

/// The backend's floors.
pub const BACKEND: House = House {
    name: "backend",
    floors: &[
        &["main", "lib"],
        &["app"],
        &["api"],
        &["worker"],
        &["auth", "query"],
        &["shared", "storage"],
        &["config"],
        &["base"],
    ],
    closed: &[("api", "storage", "handlers ask auth and query, which know what may be read and written")],
};

/// The gateway's stages in the order of a request.
pub const STAGES: [&str; 7] = ["admission", "auth", "budget", "cache", "dispatch", "egress", "finish"];
/// What stages share: where they leave things for later ones, what they say, and how a refusal looks.
const SHARED: [&str; 4] = ["context", "limit", "plan", "verdict"];
/// The stages that meet the upstream: one takes the ticket, one gives it back.
const UPSTREAM_STAGES: [&str; 2] = ["dispatch", "finish"];

/// Every path in these files that goes against an arrow.
pub fn broken(house: &House, files: &[SourceFile]) -> Vec<String> {
    let mut reports = Vec::new();
    for file in files {
        for path in file.own_paths(house.name) {
            if let Some(why) = against(house, file, &path) {
                reports.push(format!(
                    "{}/src/{}:{}: `{}` {why}",
                    house.name,
                    file.path,
                    path.line,
                    path.segments.join("::")
                ));
            }
        }
    }
    reports
}

fn against(house: &House, file: &SourceFile, path: &NamedPath) -> Option<String> {
    let floor = |room: &str| house.floors.iter().position(|rooms| rooms.contains(&room));
    let from = file.room();
    let Some(from_floor) = floor(from) else {
        return Some(format!("stands in `{from}`, which has no floor; the arrow is {}", arrow(house)));
    };
    // The roots declare every room.
    if from_floor == 0 {
        return None;
    }
    let Some(to) = path.segments.first() else {
        return Some("is the whole crate; name the room".to_owned());
    };
    let Some(to_floor) = floor(to) else {
        return Some(format!("names no room; the arrow is {}", arrow(house)));
    };
    if from == to {
        return if from == "stages" { against_stages(file, path) } else { None };
    }
    if to_floor <= from_floor {
        return Some(format!("goes from `{from}` to `{to}`; the arrow is {}", arrow(house)));
    }
    if let Some((_, _, why)) = house.closed.iter().find(|(room, below, _)| *room == from && below == to) {
        return Some(format!("goes from `{from}` to `{to}`, which is closed: {why}"));
    }
    if from == "stages" && to == "upstream" {
        return against_upstream(file);
    }
    None
}

/// Stages look back, never ahead.
fn against_stages(file: &SourceFile, path: &NamedPath) -> Option<String> {
    let place = |stage: &str| STAGES.iter().position(|known| *known == stage);
    let module = file.module();
    // `stages/mod.rs` runs them all; what is shared is where they meet.
    let from = module.get(1)?;
    if SHARED.contains(&from.as_str()) {
        return None;
    }
    let Some(from_place) = place(from) else {
        return Some(format!(
            "stands in `stages/{from}`, which is neither a stage nor shared ({})",
            SHARED.join(", ")
        ));
    };
    // `stages` alone, or a type that `stages/mod.rs` itself declares.
    let to = path.segments.get(1).filter(|to| !to.starts_with(char::is_uppercase))?;
    if SHARED.contains(&to.as_str()) {
        return None;
    }
    match place(to) {
        Some(to_place) if to_place <= from_place => None,
        Some(_) => Some(format!("looks ahead from `{from}` to `{to}`; the order is {}", STAGES.join(" < "))),
        None => Some(format!("names neither a stage nor what they share ({})", SHARED.join(", "))),
    }
}

fn against_upstream(file: &SourceFile) -> Option<String> {
    let module = file.module();
    let stage = module.get(1).filter(|stage| STAGES.contains(&stage.as_str()))?;
    if UPSTREAM_STAGES.contains(&stage.as_str()) {
        return None;
    }
    Some(format!("goes from `{stage}` to `upstream`; only {} do", UPSTREAM_STAGES.join(" and ")))
}

fn arrow(house: &House) -> String {
    let floors = house.floors.iter().map(|rooms| match rooms {
        [room] => (*room).to_owned(),
        rooms => format!("{{{}}}", rooms.join(", ")),
    });
    floors.collect::<Vec<_>>().join(" → ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(house: &House, path: &str, text: &str) -> Vec<String> {
        broken(house, &[SourceFile { path: path.to_owned(), text: text.to_owned() }])
    }

    #[test]
    fn what_follows_the_arrows_passes() {
        let cases = [
            (&GATEWAY, "main.rs", "use gateway::{app, config};"),
            (&GATEWAY, "lib.rs", "pub use crate::base::Error;"),
            (&GATEWAY, "proxy.rs", "use crate::stages; use crate::snapshot::Snapshot; mod tests { use super::*; }"),
            (&GATEWAY, "stages/mod.rs", "use crate::stages::{auth, finish}; use crate::upstream::Pool;"),
            (&GATEWAY, "stages/budget/mod.rs", "use super::auth::Permit; use crate::stages::context::Context;"),
            (&GATEWAY, "stages/context.rs", "use super::auth::Identity; use crate::upstream::Ticket;"),
            (&GATEWAY, "stages/dispatch/pick.rs", "use crate::upstream::pool::Pool; use super::retry;"),
            (&GATEWAY, "stages/auth/jwt.rs", "use crate::stages::Head; // not crate::proxy"),
            (&BACKEND, "api/rest/users.rs", "use crate::auth::users; use crate::api::page::Page;"),
            (&BACKEND, "auth/users.rs", "use crate::{base::ids, storage::Store};"),
        ];
        for (house, path, text) in cases {
            assert_eq!(judge(house, path, text), [""; 0], "{path}: {text}");
        }
    }

    #[test]
    fn what_goes_against_an_arrow_is_named_with_its_place() {
        let gateway = "main, lib} → app → {acme, admin, explain, reload} → {listen, proxy} → snapshot → stages";
        let cases = [
            (
                &GATEWAY,
                "config/mod.rs",
                "\nuse crate::route::Table;",
                "config/mod.rs:2: `route::Table` goes from `config`",
            ),
            (&GATEWAY, "base/limiter/local.rs", "fn f() { crate::config::x() }", gateway),
            (&GATEWAY, "route/table.rs", "use crate::upstream::Pool;", "goes from `route` to `upstream`"),
            (
                &GATEWAY,
                "stages/mod.rs",
                "use crate::{base::X, snapshot::Snapshot};",
                "`snapshot::Snapshot` goes from",
            ),
            (&GATEWAY, "stages/auth/jwt.rs", "use super::super::super::proxy::P;", "`proxy::P` goes from `stages`"),
            (&GATEWAY, "stages/auth/mod.rs", "use super::budget::Spent;", "looks ahead from `auth` to `budget`"),
            (&GATEWAY, "stages/auth/mod.rs", "mod tests { use crate::stages::egress; }", "looks ahead"),
            (&GATEWAY, "stages/egress/mod.rs", "use crate::stages::helper::f;", "names neither a stage nor"),
            (&GATEWAY, "stages/helper.rs", "use super::auth;", "stands in `stages/helper`, which is neither"),
            (&GATEWAY, "stages/egress/failure.rs", "use crate::upstream::Pool;", "only dispatch and finish do"),
            (&GATEWAY, "app.rs", "use crate::helper;", "`helper` names no room"),
            (&GATEWAY, "helper.rs", "use crate::base::X;", "stands in `helper`, which has no floor"),
            (&GATEWAY, "app.rs", "use crate::*;", "`` is the whole crate"),
            (&BACKEND, "api/rest/users.rs", "use crate::storage::Store;", "closed: handlers ask"),
            (&BACKEND, "query/mod.rs", "use crate::auth::Caller;", "goes from `query` to `auth`"),
            (&BACKEND, "shared/mod.rs", "use crate::storage::Store;", "goes from `shared` to `storage`"),
            (&BACKEND, "storage/mod.rs", "use crate::query::Answer;", "goes from `storage` to `query`"),
        ];
        for (house, path, text, expected) in cases {
            let reports = judge(house, path, text);
            assert!(reports.len() == 1 && reports[0].contains(expected), "{path}: {text}: {reports:?}");
        }
    }
}
