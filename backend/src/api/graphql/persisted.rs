//! Persisted: documents that clients need not send again.
//!
//! For: automatic persisted queries, in which a client sends the SHA-256 of a document and, when the answer is that it is
//! not known, once the document with it. May touch: memory.
//! Promises: `graphql.persisted_max` documents at most, each within `graphql.document_max`; a hash brings back exactly
//! the document it was made of, whoever sent that; only documents that were admitted are kept.
//! Read next: `request.rs` for how a hash is sent.

use std::sync::Arc;

use async_graphql::ServerError;
use common::code::Code;
use moka::sync::Cache;

use super::errors::{input, refused};
use super::request::{Asked, Hash};
use crate::base::digest::sha256;

/// What clients of this protocol look for; the code says the same in our words.
const NOT_FOUND: &str = "PersistedQueryNotFound";

/// The documents.
pub(super) struct Persisted {
    documents: Cache<Hash, Arc<str>>,
}

/// The document of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// To be kept under this hash once it is admitted.
    New(Arc<str>, Hash),
    /// From the request, without a hash, or kept already.
    Plain(Arc<str>),
}

impl Document {
    /// Its text.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::New(text, _) | Self::Plain(text) => text,
        }
    }
}

impl Persisted {
    /// Keeps this many.
    pub(super) fn new(documents_max: u64) -> Self {
        Self { documents: Cache::new(documents_max) }
    }

    /// The document that is asked for.
    ///
    /// # Errors
    /// `persisted_query_not_found`; `input_invalid` when document and hash do not belong together.
    pub(super) fn find(&self, asked: &Asked) -> Result<Document, ServerError> {
        match (&asked.document, asked.hash) {
            (Some(text), None) => Ok(Document::Plain(text.as_str().into())),
            (Some(text), Some(hash)) if sha256(text.as_bytes()) == hash => {
                Ok(Document::New(text.as_str().into(), hash))
            }
            (Some(_), Some(_)) => Err(input("extensions.persistedQuery.sha256Hash", "is not that of the query")),
            (None, Some(hash)) => match self.documents.get(&hash) {
                Some(text) => Ok(Document::Plain(text)),
                None => Err(refused(Code::PersistedQueryNotFound, NOT_FOUND, None)),
            },
            (None, None) => Err(input("query", "is missing")),
        }
    }

    /// Keeps the document, if it came with a hash.
    pub(super) fn keep(&self, document: Document) {
        if let Document::New(text, hash) = document {
            self.documents.insert(hash, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(document: Option<&str>, hash: Option<Hash>) -> Asked {
        Asked {
            document: document.map(str::to_owned),
            operation_name: None,
            variables: async_graphql::Variables::default(),
            hash,
        }
    }

    #[test]
    fn a_document_is_known_by_its_hash_once_it_was_kept() {
        let persisted = Persisted::new(10);
        let hash = sha256(b"{ a }");
        let unknown = persisted.find(&asked(None, Some(hash))).expect_err("nobody sent it yet");
        assert_eq!(unknown.message, NOT_FOUND);
        let first = persisted.find(&asked(Some("{ a }"), Some(hash))).expect("both fit");
        assert!(persisted.find(&asked(None, Some(hash))).is_err(), "it is not admitted yet");
        persisted.keep(first);
        let again = persisted.find(&asked(None, Some(hash))).expect("it is kept");
        assert_eq!(again.text(), "{ a }");
    }

    #[test]
    fn a_hash_of_something_else_is_refused() {
        let persisted = Persisted::new(10);
        assert!(persisted.find(&asked(Some("{ b }"), Some(sha256(b"{ a }")))).is_err());
        persisted.keep(persisted.find(&asked(Some("{ a }"), None)).expect("a plain one"));
        assert!(persisted.find(&asked(None, Some(sha256(b"{ a }")))).is_err(), "it came without a hash");
    }
}
