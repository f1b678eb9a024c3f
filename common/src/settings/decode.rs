//! Decode: from a node to a type, gathering mistakes instead of stopping at the first.

use super::node::{Entry, Node, Position, Value};
use super::report::{Mistake, Report};
use super::shape::Shape;

/// A type that can be read from a node.
///
/// Reading goes on after a mistake wherever a value can stand in for the wrong one (a default, a list without the bad
/// item), so that the checks between keys still see the rest. Whatever was reported, `Decoder::finish` refuses in the end.
pub trait Decode: Sized {
    /// Reads it. `None` means that at least one mistake was reported and nothing can stand in.
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self>;

    /// How it is written, for the manual and the schema.
    fn shape() -> Shape;
}

/// Gathers mistakes and knows which key is being read.
pub struct Decoder {
    file: String,
    path: String,
    mistakes: Vec<Mistake>,
}

/// A value that remembers its place, so that a later check can point at it.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub position: Position,
    /// Its key, such as `routes[2].to`.
    pub path: String,
}

/// Two are equal when their values are: where they stand does not matter.
impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// A mapping from names of the operator's choice to sections, in file order.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<T> {
    /// The sections that could be read.
    pub items: Vec<(At<String>, T)>,
    /// Every name, also of sections that could not: a reference to a broken section is not a second mistake.
    names: Vec<String>,
}

/// Reads one mapping whose keys are known, and reports the ones that are not.
pub struct SectionReader<'a> {
    entries: &'a [Entry],
    position: Position,
    used: Vec<bool>,
    known: &'static [&'static str],
}

impl Decoder {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), path: String::new(), mistakes: Vec::new() }
    }

    /// Reports a mistake at the key being read.
    pub fn mistake(&mut self, position: Position, message: impl Into<String>) {
        self.mistakes.push(Mistake { position, path: self.path.clone(), message: message.into() });
    }

    /// Reports a mistake at a value that carries its place.
    pub fn mistake_at<T>(&mut self, at: &At<T>, message: impl Into<String>) {
        self.mistakes.push(Mistake { position: at.position, path: at.path.clone(), message: message.into() });
    }

    /// Reports that the value is of the wrong kind.
    pub fn unexpected<T>(&mut self, node: &Node, expected: &str) -> Option<T> {
        self.mistake(node.position, format!("expected {expected}, found {}", node.value.kind()));
        None
    }

    /// Reads something one key or index further in.
    pub fn inside<T>(&mut self, segment: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if !self.path.is_empty() && !segment.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(segment);
        let result = read(self);
        self.path.truncate(length);
        result
    }

    /// The outcome: the value, if there is one and nothing was wrong.
    ///
    /// # Errors
    /// Every mistake, sorted by place.
    pub(super) fn finish<T>(self, decoded: Option<T>) -> Result<T, Report> {
        match decoded {
            Some(value) if self.mistakes.is_empty() => Ok(value),
            _ => Err(Report::new(&self.file, self.mistakes)),
        }
    }
}

impl<'a> SectionReader<'a> {
    /// Opens a mapping; anything else is a mistake.
    pub fn open(node: &'a Node, known: &'static [&'static str], decoder: &mut Decoder) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            return decoder.unexpected(node, "a mapping");
        };
        Some(Self { entries, position: node.position, used: vec![false; entries.len()], known })
    }

    /// A key that must be there. `advice` says what to write when it is not.
    pub fn required<T: Decode>(&mut self, key: &str, advice: &str, decoder: &mut Decoder) -> Option<T> {
        match self.take(key) {
            Some(entry) => decoder.inside(key, |decoder| T::decode(&entry.node, decoder)),
            None => {
                let position = self.position;
                let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
                decoder.inside(key, |decoder| decoder.mistake(position, format!("is missing{advice}")));
                None
            }
        }
    }

    /// A key with a default, written in YAML just as an operator would write it.
    pub fn defaulted<T: Decode>(&mut self, key: &str, default: &str, decoder: &mut Decoder) -> Option<T> {
        let taken = self.take(key);
        decoder.inside(key, |decoder| {
            let written = taken.and_then(|entry| T::decode(&entry.node, decoder));
            written.or_else(|| T::decode(&super::node::parse(default, None, decoder)?, decoder))
        })
    }

    /// Reports every key that nobody asked for.
    pub fn close(self, decoder: &mut Decoder) {
        for (entry, _) in self.entries.iter().zip(&self.used).filter(|(_, used)| !**used) {
            let message = match suggestion(&entry.key, self.known.iter().copied()) {
                Some(near) => format!("unknown key {:?}; did you mean {near:?}?", entry.key),
                None => format!("unknown key {:?}; known here: {}", entry.key, self.known.join(", ")),
            };
            decoder.mistake(entry.position, message);
        }
    }

    fn take(&mut self, key: &str) -> Option<&'a Entry> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        self.used[index] = true;
        Some(&self.entries[index])
    }
}

/// The known word that the given one was most likely meant to be.
pub(super) fn suggestion<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

impl<T> At<T> {
    /// The same place, another value.
    pub fn with<U>(&self, value: U) -> At<U> {
        At { value, position: self.position, path: self.path.clone() }
    }

    /// What to say when the value names nothing in `known`.
    pub fn unknown_name<'k>(&self, what: &str, name: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
        match suggestion(name, known.clone()) {
            Some(near) => format!("no {what} is called {name:?}; did you mean {near:?}?"),
            None => {
                let all = known.collect::<Vec<_>>().join(", ");
                let all = if all.is_empty() { "none is declared".to_owned() } else { format!("declared: {all}") };
                format!("no {what} is called {name:?}; {all}")
            }
        }
    }
}

impl<T: Decode> Decode for At<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let path = decoder.path.clone();
        T::decode(node, decoder).map(|value| At { value, position: node.position, path })
    }

    fn shape() -> Shape {
        T::shape()
    }
}

/// Nothing, and empty text (a variable that is unset), both mean "not there".
impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.value {
            Value::Null => Some(None),
            Value::Text(text) if text.is_empty() => Some(None),
            _ => T::decode(node, decoder).map(Some),
        }
    }

    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return decoder.unexpected(node, "a list");
        };
        let read = |(index, item)| decoder.inside(&format!("[{index}]"), |decoder| T::decode(item, decoder));
        Some(items.iter().enumerate().filter_map(read).collect())
    }

    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }
}

impl<T: Decode> Decode for Named<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            return decoder.unexpected(node, "a mapping from names to sections");
        };
        let mut named = Named { items: Vec::with_capacity(entries.len()), names: Vec::with_capacity(entries.len()) };
        for entry in entries {
            named.names.push(entry.key.clone());
            let item = decoder.inside(&entry.key, |decoder| {
                let name = decode_name(entry, decoder);
                name.zip(T::decode(&entry.node, decoder))
            });
            named.items.extend(item);
        }
        Some(named)
    }

    fn shape() -> Shape {
        Shape::Named(Box::new(T::shape()))
    }
}

impl<T> Named<T> {
    /// Every name in the file.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.names.iter().map(String::as_str)
    }
}

/// Names become metric labels, header values and file names: letters, digits, `_`, `-` and `.`, 64 at most.
fn decode_name(entry: &Entry, decoder: &mut Decoder) -> Option<At<String>> {
    match check_name(&entry.key) {
        Ok(()) => Some(At { value: entry.key.clone(), position: entry.position, path: decoder.path.clone() }),
        Err(message) => {
            decoder.mistake(entry.position, message);
            None
        }
    }
}

/// Whether the text may name something.
///
/// # Errors
/// What is wrong with it, for a report.
pub fn check_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        return Err(format!("{name:?} cannot be a name: 1 to 64 letters, digits, \"_\", \"-\" or \".\""));
    }
    Ok(())
}

/// Reads a text by `parse`, whose error is the mistake.
pub fn from_text<T>(node: &Node, decoder: &mut Decoder, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
    let text = String::decode(node, decoder)?;
    parse(&text).map_err(|message| decoder.mistake(node.position, message)).ok()
}

impl Decode for String {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => decoder.unexpected(node, "text"),
        }
    }

    fn shape() -> Shape {
        Shape::text("text")
    }
}

impl Decode for bool {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            // A substituted variable arrives as text.
            Value::Text(text) if text == "true" => Some(true),
            Value::Text(text) if text == "false" => Some(false),
            _ => decoder.unexpected(node, "true or false"),
        }
    }

    fn shape() -> Shape {
        Shape::Boolean
    }
}

macro_rules! whole_number {
    ($($ty:ty),+) => {$(
        impl Decode for $ty {
            fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
                let number = match &node.value {
                    Value::Integer(number) => *number,
                    Value::Text(text) if text.parse::<i64>().is_ok() => text.parse().ok()?,
                    _ => return decoder.unexpected(node, "a whole number"),
                };
                <$ty>::try_from(number).ok().or_else(|| {
                    decoder.mistake(
                        node.position,
                        format!("{number} is out of range: {} to {}", <$ty>::MIN, <$ty>::MAX),
                    );
                    None
                })
            }

            fn shape() -> Shape {
                Shape::Integer
            }
        }
    )+};
}
whole_number!(u8, u16, u32, u64, usize);

impl Decode for f64 {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.value {
            #[expect(clippy::cast_precision_loss, reason = "settings are small numbers")]
            Value::Integer(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => decoder.unexpected(node, "a number"),
        }
    }

    fn shape() -> Shape {
        Shape::Number
    }
}

impl Decode for crate::secret::SecretRef {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        // The text is not repeated: it may be the secret itself, written in the wrong place.
        from_text(node, decoder, |text| Self::parse(text).map_err(|error| error.to_string()))
    }

    fn shape() -> Shape {
        Shape::text("secret reference: env:NAME or file:PATH")
    }
}

impl Decode for std::path::PathBuf {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        String::decode(node, decoder).map(Into::into)
    }

    fn shape() -> Shape {
        Shape::text("path")
    }
}
