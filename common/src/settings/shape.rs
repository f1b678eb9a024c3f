//! Shape: how a value is written, told once for the manual and the schema.

/// How a value is written.
pub enum Shape {
    /// Text of some form; the word says which.
    Text(&'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A sequence.
    List(Box<Shape>),
    /// A mapping from names of the operator's choice.
    Named(Box<Shape>),
    /// A mapping with known keys.
    Section(SectionShape),
    /// Any of these.
    OneOf(Vec<Shape>),
}

/// A mapping with known keys.
pub struct SectionShape {
    /// The type's name: its heading in the manual.
    pub name: &'static str,
    /// What it is for.
    pub docs: &'static str,
    /// Its keys, in the order of the manual.
    pub keys: Vec<Key>,
}

/// One key of a section.
pub struct Key {
    /// As written in the file.
    pub name: &'static str,
    /// What it does.
    pub docs: &'static str,
    /// How its value is written.
    pub shape: Shape,
    /// The default as YAML; `None` for keys that must be there.
    pub default: Option<&'static str>,
}

impl Shape {
    /// Text of some form.
    #[must_use]
    pub fn text(form: &'static str) -> Self {
        Self::Text(form)
    }
}
