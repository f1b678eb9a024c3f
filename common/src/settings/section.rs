//! Section: one definition of a group of keys, from which parser, manual and schema are made.
//!
//! ```
//! common::section! {
//!     /// How long to wait for an upstream.
//!     pub struct Timeouts {
//!         /// For the connection.
//!         pub connect: common::settings::Millis = "2s",
//!         /// Whom to ask.
//!         pub target: String => "name it as host:port",
//!     }
//! }
//! ```
//! A key with `= "…"` has that default, written in YAML. A key without one must be there; the text after `=>` is
//! what the error advises when it is not. `choice!` declares a closed set of words in the same way.

use super::decode::{Decode as _, Decoder};
use super::node::{Node, Value};
use super::shape::SectionShape;

/// A type declared by `section!`.
pub trait Section {
    /// Its keys, for the manual and the schema.
    fn section_shape() -> SectionShape;
}

/// Declares a section of settings. See the module's own text.
#[macro_export]
macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $key_doc:literal])+
                $key_vis:vis $key:ident : $ty:ty $(= $default:literal)? $(=> $advice:literal)?
            ),+ $(,)?
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $key_doc])+ $key_vis $key: $ty, )+
        }

        impl $crate::settings::Section for $name {
            fn section_shape() -> $crate::settings::SectionShape {
                $crate::settings::SectionShape {
                    name: stringify!($name),
                    docs: concat!($($doc, "\n"),+),
                    keys: vec![$(
                        $crate::settings::Key {
                            name: $crate::section!(@name $key),
                            docs: concat!($($key_doc, "\n"),+),
                            shape: <$ty as $crate::settings::Decode>::shape(),
                            default: $crate::section!(@default $($default)?),
                        }
                    ),+],
                }
            }
        }

        impl $crate::settings::Decode for $name {
            fn decode(
                node: &$crate::settings::Node,
                decoder: &mut $crate::settings::Decoder,
            ) -> Option<Self> {
                const KNOWN: &[&str] = &[$($crate::section!(@name $key)),+];
                let mut reader = $crate::settings::SectionReader::open(node, KNOWN, decoder)?;
                // Every key is read before any is judged, so that all mistakes are found.
                $( let $key: Option<$ty> =
                    $crate::section!(@read reader, decoder, $key, [$($default)?], [$($advice)?]); )+
                reader.close(decoder);
                Some(Self { $( $key: $key?, )+ })
            }

            fn shape() -> $crate::settings::Shape {
                $crate::settings::Shape::Section(<Self as $crate::settings::Section>::section_shape())
            }
        }
    };
    (@name $key:ident) => { $crate::settings::key_name(stringify!($key)) };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
    (@read $reader:ident, $decoder:ident, $key:ident, [], [$($advice:literal)?]) => {
        $reader.required($crate::section!(@name $key), concat!("" $(, $advice)?), $decoder)
    };
    (@read $reader:ident, $decoder:ident, $key:ident, [$default:literal], [$($advice:literal)?]) => {
        $reader.defaulted($crate::section!(@name $key), $default, $decoder)
    };
}

/// Declares a closed set of words.
#[macro_export]
macro_rules! choice {
    (
        $(#[doc = $doc:literal])+
        $vis:vis enum $name:ident {
            $( $(#[doc = $word_doc:literal])+ $variant:ident = $word:literal ),+ $(,)?
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $( $(#[doc = $word_doc])+ $variant, )+
        }

        impl $name {
            /// The word as written in the file.
            #[must_use]
            $vis const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl $crate::settings::Decode for $name {
            fn decode(
                node: &$crate::settings::Node,
                decoder: &mut $crate::settings::Decoder,
            ) -> Option<Self> {
                let text = $crate::settings::word_of(node, decoder)?;
                match text.as_str() {
                    $($word => Some(Self::$variant),)+
                    other => {
                        decoder.mistake(node.position, $crate::settings::unknown_word(other, &[$($word),+]));
                        None
                    }
                }
            }

            fn shape() -> $crate::settings::Shape {
                $crate::settings::Shape::Word(&[$($word),+])
            }
        }
    };
}

/// A Rust keyword used as a key is written `r#for` in the struct and `for` in the file.
#[doc(hidden)]
#[must_use]
pub const fn key_name(ident: &'static str) -> &'static str {
    match ident.as_bytes() {
        [b'r', b'#', ..] => ident.split_at(2).1,
        _ => ident,
    }
}

/// The word as it stands in the file: `1.2` without quotes is a word here, and a number only to YAML.
#[doc(hidden)]
pub fn word_of(node: &Node, decoder: &mut Decoder) -> Option<String> {
    match &node.value {
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => String::decode(node, decoder),
    }
}

/// What to say of a word that is not in the set.
#[doc(hidden)]
#[must_use]
pub fn unknown_word(word: &str, known: &[&str]) -> String {
    match super::decode::suggestion(word, known.iter().copied()) {
        Some(near) => format!("{word:?} is not known; did you mean {near:?}?"),
        None => format!("{word:?} is not known; one of: {}", known.join(", ")),
    }
}
