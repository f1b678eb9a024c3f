//! Report: what is wrong with a file of settings, all of it.

use std::fmt;

use super::node::Position;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where in the file.
    pub position: Position,
    /// Which key, such as `routes[2].to`; empty for the whole file.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Every mistake of one file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub(super) file: String,
    pub(super) mistakes: Vec<Mistake>,
}

impl Report {
    /// A report on a file that could not be read at all.
    #[must_use]
    pub fn unreadable(file: &str, why: &std::io::Error) -> Self {
        let mistake =
            Mistake { position: Position::START, path: String::new(), message: format!("cannot be read: {why}") };
        Self { file: file.to_owned(), mistakes: vec![mistake] }
    }

    /// A report on mistakes that were found outside of reading, such as files that the settings name.
    #[must_use]
    pub fn new(file: &str, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| mistake.position);
        Self { file: file.to_owned(), mistakes }
    }

    /// The mistakes, in the order of the file.
    #[must_use]
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{}:{}: ", self.file, mistake.position.line, mistake.position.column)?;
            if !mistake.path.is_empty() {
                write!(f, "{}: ", mistake.path)?;
            }
            write!(f, "{}", mistake.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}
