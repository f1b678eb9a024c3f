//! Manual: the keys of a file as Markdown for people and as JSON Schema for editors.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::shape::{Key, SectionShape, Shape};

/// Forms of texts that need no quotes where they look like a number.
const NUMERIC_FORMS: [&str; 2] = ["size", "header value"];

/// A text in which a variable stands.
const VARIABLE: &str = r"\$\{.+\}";

/// Every key with its meaning, form and default, as Markdown. `intro` stands at the top.
#[must_use]
pub fn markdown(title: &str, intro: &str, root: &Shape) -> String {
    let mut text = format!("# {title}\n\n{intro}\n");
    let mut seen = BTreeSet::new();
    write_sections(&mut text, root, "", &mut seen);
    text
}

/// The same as a JSON Schema (2020-12).
#[must_use]
pub fn json_schema(title: &str, root: &Shape) -> Value {
    let mut schema = schema_of(root);
    if let Some(object) = schema.as_object_mut() {
        object.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("title".into(), json!(title));
    }
    schema
}

fn write_sections(text: &mut String, shape: &Shape, path: &str, seen: &mut BTreeSet<String>) {
    match shape {
        Shape::Section(section) => write_section(text, section, path, seen),
        Shape::List(item) => write_sections(text, item, &format!("{path}[]"), seen),
        Shape::Named(item) => write_sections(text, item, &join(path, "<name>"), seen),
        Shape::OneOf(shapes) => {
            for shape in shapes {
                write_sections(text, shape, path, seen);
            }
        }
        _ => {}
    }
}

fn write_section(text: &mut String, section: &SectionShape, path: &str, seen: &mut BTreeSet<String>) {
    if !seen.insert(path.to_owned()) {
        return;
    }
    let heading = if path.is_empty() { "The file".to_owned() } else { format!("`{path}`") };
    // Writing to a String cannot fail.
    let _ = write!(text, "\n## {heading}\n\n{}\n\n", one_line(section.docs));
    text.push_str("| Key | Form | Default | Meaning |\n|---|---|---|---|\n");
    for key in &section.keys {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            key.name,
            form(&key.shape),
            default_of(key),
            one_line(key.docs).replace('|', "\\|"),
        );
    }
    for key in &section.keys {
        write_sections(text, &key.shape, &join(path, key.name), seen);
    }
}

fn default_of(key: &Key) -> String {
    match key.default {
        None => "**required**".into(),
        Some("null") => "none".into(),
        Some(default) => format!("`{default}`"),
    }
}

fn form(shape: &Shape) -> String {
    match shape {
        Shape::Text(form) => (*form).to_owned(),
        Shape::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Shape::Boolean => "`true`, `false`".into(),
        Shape::Integer => "whole number".into(),
        Shape::Number => "number".into(),
        Shape::List(item) => format!("list of {}", form(item)),
        Shape::Named(item) => format!("name → {}", form(item)),
        Shape::Section(_) => "section".into(),
        Shape::OneOf(shapes) => shapes.iter().map(form).collect::<Vec<_>>().join(" or "),
    }
}

fn schema_of(shape: &Shape) -> Value {
    match shape {
        // To YAML, some of what is written without quotes is a number.
        Shape::Text(form) if NUMERIC_FORMS.contains(form) => {
            json!({ "type": ["string", "number"], "description": form })
        }
        Shape::Text(form) => json!({ "type": "string", "description": form }),
        // A variable may stand for any scalar.
        Shape::Word(words) => {
            let numbers = words.iter().filter_map(|word| word.parse::<serde_json::Number>().ok());
            let words: Vec<Value> = words.iter().map(|word| json!(word)).chain(numbers.map(Value::Number)).collect();
            json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": VARIABLE }] })
        }
        Shape::Boolean => json!({ "type": ["boolean", "string"] }),
        Shape::Integer => json!({ "type": ["integer", "string"] }),
        Shape::Number => json!({ "type": ["number", "string"] }),
        Shape::List(item) => json!({ "type": "array", "items": schema_of(item) }),
        Shape::Named(item) => json!({ "type": "object", "additionalProperties": schema_of(item) }),
        Shape::Section(section) => section_schema(section),
        Shape::OneOf(shapes) => json!({ "anyOf": shapes.iter().map(schema_of).collect::<Vec<_>>() }),
    }
}

fn section_schema(section: &SectionShape) -> Value {
    let mut properties = serde_json::Map::new();
    let mut required = Vec::new();
    for key in &section.keys {
        let mut schema = schema_of(&key.shape);
        // What may be left out may be said to be nothing.
        if key.default == Some("null") {
            schema = json!({ "anyOf": [schema, { "type": "null" }] });
        }
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".into(), json!(one_line(key.docs)));
        }
        properties.insert(key.name.into(), schema);
        if key.default.is_none() {
            required.push(key.name);
        }
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn one_line(docs: &str) -> String {
    docs.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
