//! Document: what a client may ask, before anything is asked.
//!
//! For: bounds on size, nesting, depth, aliases and directives. May touch: nothing.
//! Promises: the parser, which works recursively, never sees more than `BRACKETS_MAX` brackets within brackets; what a
//! document weighs is counted where its fragments are used, in a time that grows with the document and not with what
//! its fragments multiply to; a fragment that contains itself is refused.
//! Read next: `engine.rs`. What a document costs is counted by the library, and judged in `meter.rs`.

use std::collections::{HashMap, HashSet};

use async_graphql::parser::types::{
    BaseType, DocumentOperations, ExecutableDocument, OperationDefinition, OperationType, Selection, SelectionSet,
    Type,
};
use async_graphql::parser::{self, parse_query};
use async_graphql::{Name, Positioned, ServerError};

use super::errors::{invalid, too_costly};

/// Brackets within brackets, of any kind. The deepest document that `graphql.depth_max` can allow has fewer.
const BRACKETS_MAX: usize = 40;
/// Selections within selections, fragments included. The library walks them recursively.
pub(super) const LEVELS_MAX: usize = 48;
/// Selections of one operation, counted where fragments are used.
const SELECTIONS_MAX: usize = 5_000;

/// What a document may hold; the configuration says how much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes.
    pub(super) bytes_max: usize,
    /// Fields within fields.
    pub(super) depth_max: usize,
    /// Aliases.
    pub(super) aliases_max: usize,
    /// Directives.
    pub(super) directives_max: usize,
}

/// A document that is within its limits, and what its chosen operation is.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) document: ExecutableDocument,
    pub(super) operation: OperationType,
}

/// Reads a document and weighs it. `types` are the names of all types of the schema.
///
/// # Errors
/// `graphql_invalid` or `graphql_too_costly`.
pub(super) fn admit(
    text: &str,
    operation_name: Option<&str>,
    limits: Limits,
    types: &HashSet<String>,
) -> Result<Admitted, ServerError> {
    if text.len() > limits.bytes_max {
        return Err(too_costly(format!("the document is larger than {} bytes", limits.bytes_max), None));
    }
    check_brackets(text)?;
    let document = parse_query(text).map_err(|error| unreadable(&error))?;
    check_weight(&document, limits)?;
    check_types(&document, types)?;
    let operation = chosen(&document, operation_name)?.node.ty;
    Ok(Admitted { document, operation })
}

/// Where the document cannot be read. The parser's own text repeats the line, which a log or a screen need not have.
fn unreadable(error: &parser::Error) -> ServerError {
    match error {
        parser::Error::Syntax { start, .. } => {
            let message = format!("the document cannot be read at line {}, column {}", start.line, start.column);
            invalid(message, Some(*start))
        }
        error => invalid(error.to_string(), error.positions().next()),
    }
}

/// Counts brackets within brackets, outside of texts and comments.
fn check_brackets(text: &str) -> Result<(), ServerError> {
    let mut rest = text.as_bytes();
    let mut open = 0_usize;
    while let [first, after @ ..] = rest {
        rest = match first {
            b'#' => after_line(after),
            b'"' if after.starts_with(b"\"\"") => after_block(&after[2..])?,
            b'"' => after_string(after),
            b'{' | b'[' | b'(' => {
                open += 1;
                if open > BRACKETS_MAX {
                    return Err(too_costly(format!("the document has more than {BRACKETS_MAX} open brackets"), None));
                }
                after
            }
            b'}' | b']' | b')' => {
                open = open.saturating_sub(1);
                after
            }
            _ => after,
        };
    }
    Ok(())
}

fn after_line(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(text.len());
    &text[end..]
}

/// Behind a text's closing quote, or at the end of its line: a text that does not end there is no text.
fn after_string(text: &[u8]) -> &[u8] {
    let mut escaped = false;
    for (index, byte) in text.iter().enumerate() {
        match byte {
            b'\n' | b'\r' => return &text[index..],
            b'"' if !escaped => return &text[index + 1..],
            _ => escaped = *byte == b'\\' && !escaped,
        }
    }
    &[]
}

fn after_block(text: &[u8]) -> Result<&[u8], ServerError> {
    let mut rest = text;
    while !rest.is_empty() {
        rest = if let Some(after) = rest.strip_prefix(b"\\\"\"\"") {
            after
        } else if let Some(after) = rest.strip_prefix(b"\"\"\"") {
            return Ok(after);
        } else {
            &rest[1..]
        };
    }
    Err(invalid("a text in three quotes does not end", None))
}

/// What the selections of an operation add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight {
    selections: usize,
    aliases: usize,
    directives: usize,
    /// Fields within fields.
    depth: usize,
    /// Selections within selections.
    levels: usize,
}

impl Weight {
    /// Adds what stands within one of the selections.
    fn add(&mut self, inner: Self, field: bool) {
        self.selections = self.selections.saturating_add(inner.selections);
        self.aliases = self.aliases.saturating_add(inner.aliases);
        self.directives = self.directives.saturating_add(inner.directives);
        self.depth = self.depth.max(inner.depth.saturating_add(usize::from(field)));
        self.levels = self.levels.max(inner.levels.saturating_add(1));
    }
}

/// Weighs selections, each fragment once.
struct Scales<'d> {
    document: &'d ExecutableDocument,
    /// `None` while it is being weighed.
    fragments: HashMap<&'d Name, Option<Weight>>,
}

impl<'d> Scales<'d> {
    /// `level` is how deep in the walk this set stands, which bounds the recursion itself.
    fn set(&mut self, set: &'d SelectionSet, level: usize) -> Result<Weight, ServerError> {
        if level > LEVELS_MAX {
            return Err(too_costly(format!("selections are nested more than {LEVELS_MAX} deep"), None));
        }
        let mut weight = Weight::default();
        for item in &set.items {
            weight.selections = weight.selections.saturating_add(1);
            weight.directives = weight.directives.saturating_add(item.node.directives().len());
            match &item.node {
                Selection::Field(field) => {
                    weight.aliases = weight.aliases.saturating_add(usize::from(field.node.alias.is_some()));
                    weight.add(self.set(&field.node.selection_set.node, level + 1)?, true);
                }
                Selection::InlineFragment(fragment) => {
                    weight.add(self.set(&fragment.node.selection_set.node, level + 1)?, false);
                }
                Selection::FragmentSpread(spread) => {
                    weight.add(self.fragment(&spread.node.fragment_name, level + 1)?, false);
                }
            }
        }
        Ok(weight)
    }

    fn fragment(&mut self, name: &'d Positioned<Name>, level: usize) -> Result<Weight, ServerError> {
        match self.fragments.get(&name.node) {
            Some(Some(weight)) => return Ok(*weight),
            Some(None) => {
                return Err(invalid(format!("fragment {:?} contains itself", name.node.as_str()), Some(name.pos)));
            }
            None => {}
        }
        // One that is not there is found by the library, which says where.
        let Some((key, fragment)) = self.document.fragments.get_key_value(&name.node) else {
            return Ok(Weight::default());
        };
        self.fragments.insert(key, None);
        let mut weight = self.set(&fragment.node.selection_set.node, level)?;
        weight.directives = weight.directives.saturating_add(fragment.node.directives.len());
        self.fragments.insert(key, Some(weight));
        Ok(weight)
    }
}

fn check_weight(document: &ExecutableDocument, limits: Limits) -> Result<(), ServerError> {
    let mut scales = Scales { document, fragments: HashMap::new() };
    // Also those that are not used: the library looks at them as well.
    for fragment in document.fragments.values() {
        let weight = scales.set(&fragment.node.selection_set.node, 0)?;
        check_limits(weight, limits)?;
    }
    for (_, operation) in document.operations.iter() {
        let mut weight = scales.set(&operation.node.selection_set.node, 0)?;
        weight.directives = weight.directives.saturating_add(operation.node.directives.len());
        check_limits(weight, limits)?;
    }
    Ok(())
}

fn check_limits(weight: Weight, limits: Limits) -> Result<(), ServerError> {
    let cases = [
        (weight.depth, limits.depth_max, "fields are nested"),
        (weight.levels, LEVELS_MAX, "selections are nested"),
        (weight.aliases, limits.aliases_max, "aliases are used"),
        (weight.directives, limits.directives_max, "directives are used"),
        (weight.selections, SELECTIONS_MAX, "selections are made"),
    ];
    match cases.iter().find(|(found, max, _)| found > max) {
        Some((found, max, what)) => Err(too_costly(format!("{what} {found} times; {max} are allowed"), None)),
        None => Ok(()),
    }
}

/// The library takes the types of variables for known when it looks at their default values.
fn check_types(document: &ExecutableDocument, types: &HashSet<String>) -> Result<(), ServerError> {
    for (_, operation) in document.operations.iter() {
        for variable in &operation.node.variable_definitions {
            let name = base_name(&variable.node.var_type.node);
            if !types.contains(name) {
                return Err(invalid(format!("unknown type {name:?}"), Some(variable.node.var_type.pos)));
            }
        }
    }
    Ok(())
}

fn base_name(mut of: &Type) -> &str {
    loop {
        match &of.base {
            BaseType::Named(name) => return name.as_str(),
            BaseType::List(item) => of = item,
        }
    }
}

/// The operation that the client chose, or the only one.
fn chosen<'d>(
    document: &'d ExecutableDocument,
    name: Option<&str>,
) -> Result<&'d Positioned<OperationDefinition>, ServerError> {
    let found = match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Some(operation),
        (DocumentOperations::Multiple(operations), Some(name)) => operations.get(name),
        (DocumentOperations::Multiple(operations), None) if operations.len() == 1 => operations.values().next(),
        (DocumentOperations::Single(_), Some(_)) | (DocumentOperations::Multiple(_), None) => None,
    };
    found.ok_or_else(|| invalid("operationName names none of the document's operations", None))
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
