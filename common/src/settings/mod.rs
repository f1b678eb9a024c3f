//! Settings: YAML made into checked types, with every mistake reported at once.
//!
//! For: both programs' configuration. A file is read into a tree that remembers lines and columns (`node.rs`), decoded
//! into plain structs (`decode.rs`, `section.rs`), and whatever is wrong is gathered (`report.rs`) rather than thrown.
//! serde's derive stops at the first error, which is why decoding is ours; the YAML parser is serde-saphyr's.
//! May touch: the environment, only for the variables it is given. Promises: unknown and duplicate keys are errors with
//! a suggestion; a value substituted from the environment never shows in an error; one definition of a key feeds
//! parser, manual and JSON Schema.
//! Read next: `section.rs` for how a section is declared.

use std::collections::HashMap;

mod decode;
mod manual;
mod node;
mod report;
mod section;
mod shape;
mod units;

pub use decode::{At, Decode, Decoder, Named, SectionReader, check_name, from_text};
pub use manual::{json_schema, markdown};
pub use node::{Entry, Node, Position, Value, environment};
pub use report::{Mistake, Report};
pub use section::{Section, key_name, unknown_word, word_of};
pub use shape::{Key, SectionShape, Shape};
pub use units::{ByteSize, Millis, Percent};

/// Reads a whole file of settings and checks what lies between its keys.
///
/// `file` is only the name to show in errors. `variables` is what `${NAME}` may refer to. `check` also runs when the form
/// has mistakes, on what could be read, so that one report holds everything.
///
/// # Errors
/// A `Report` with every mistake found, each with its line and column.
#[expect(clippy::implicit_hasher, reason = "it is made by `environment` and by tests, both with the default")]
pub fn load<T: Decode, C>(
    file: &str,
    text: &str,
    variables: HashMap<String, String>,
    check: impl FnOnce(T, &mut Decoder) -> Option<C>,
) -> Result<C, Report> {
    read(file, text, Some(variables), check)
}

/// Reads a whole file in the same way, in which `$` is a character like any other.
///
/// # Errors
/// As above.
pub fn load_literal<T: Decode, C>(
    file: &str,
    text: &str,
    check: impl FnOnce(T, &mut Decoder) -> Option<C>,
) -> Result<C, Report> {
    read(file, text, None, check)
}

fn read<T: Decode, C>(
    file: &str,
    text: &str,
    variables: Option<HashMap<String, String>>,
    check: impl FnOnce(T, &mut Decoder) -> Option<C>,
) -> Result<C, Report> {
    let mut decoder = Decoder::new(file);
    let read = node::parse(text, variables, &mut decoder).and_then(|root| T::decode(&root, &mut decoder));
    let checked = read.and_then(|read| check(read, &mut decoder));
    decoder.finish(checked)
}
