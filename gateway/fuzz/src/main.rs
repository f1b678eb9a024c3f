//! Gateway-fuzz: feeds one target of `gateway::fuzzing` inputs without end, or the files that it is given.
//!
//! For: `make fuzz`, which says in `FUZZ_TARGET` which target it is. May touch: nothing besides; what must hold stands in
//! `gateway/src/fuzzing/`. Promises: an input that breaks a promise ends the process and is kept as a file.
//! Read next: `docs/testing.md`, "Fuzzing". Everything about the command line is libFuzzer's: `-help=1` prints it.

#![no_main]

use std::process::exit;
use std::sync::OnceLock;

use gateway::fuzzing::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static CHOSEN: OnceLock<Target> = OnceLock::new();

/// The target that the environment names. Without one, every name is printed, and that is all.
fn choose() -> Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    match TARGETS.into_iter().find(|target| target.name == name) {
        Some(target) => target,
        None => {
            let wrong = !name.is_empty();
            if wrong {
                eprintln!("FUZZ_TARGET: there is no target {name:?}; there are these:");
            }
            for target in TARGETS {
                println!("{}", target.name);
            }
            exit(i32::from(wrong));
        }
    }
}

fuzz_target!(
    init: CHOSEN.get_or_init(choose),
    |input: &[u8]| {
        (CHOSEN.get_or_init(choose).check)(input);
    }
);
