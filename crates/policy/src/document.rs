//! What people write: text to a tree that remembers where everything stood, in YAML, JSON or TOML.
//!
//! `reader` takes a tree apart field by field and gathers every error. A field that is not known is an
//! error: a misspelt limit must not be a missing limit.

pub mod reader;

use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// How deep a document may nest. Beyond, somebody is playing.
const DEPTH_MAX: usize = 64;

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// JSON.
    Json,
    /// TOML.
    Toml,
}

impl Format {
    /// Returns the name of the format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
            Self::Toml => "toml",
        }
    }

    /// Returns the format of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Yaml, Self::Json, Self::Toml]
            .into_iter()
            .find(|format| format.name() == name)
    }
}

/// One thing wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentError {
    /// The line, from 1; `None` when the error is about the document as a whole.
    pub line: Option<u32>,
    /// The column in that line, from 1.
    pub column: Option<u32>,
    /// The field, such as `waves[2].gate.confidence`.
    pub field: String,
    /// The stable code.
    pub code: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line}, column {column}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything wrong with a document, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there {} {} {} in it", if .0.len() == 1 { "is" } else { "are" }, .0.len(), if .0.len() == 1 { "error" } else { "errors" })]
pub struct DocumentErrors(pub Vec<DocumentError>);

/// A place in the text, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A text, or anything a plain word can be.
    Scalar {
        /// As it was written, without quotes.
        text: String,
        /// Whether it was written as a text, so that `"5"` is no number.
        is_text: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// Fields with their names, and where these stood.
    Map(Vec<(String, Place, Node)>),
}

/// A value and where it began.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it began.
    pub place: Place,
    /// The value.
    pub body: Body,
}

pub(crate) fn error_at(
    place: Option<Place>,
    field: &str,
    code: &str,
    message: impl Into<String>,
) -> DocumentError {
    DocumentError {
        line: place.map(|place| place.line),
        column: place.map(|place| place.column),
        field: field.to_owned(),
        code: code.to_owned(),
        message: message.into(),
    }
}

/// Reads a text into a tree.
///
/// # Errors
///
/// The first thing that cannot be read.
pub fn read(text: &str, format: Format) -> Result<Node, DocumentErrors> {
    let node = match format {
        Format::Toml => read_toml(text),
        Format::Json => check_json(text).and_then(|()| read_yaml(text)),
        Format::Yaml => read_yaml(text),
    };
    node.map_err(|error| DocumentErrors(vec![error]))
}

/// JSON is read as the YAML it is, once it is known to be JSON.
fn check_json(text: &str) -> Result<(), DocumentError> {
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map(|_| ())
        .map_err(|error| {
            let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            let place = Place {
                line: narrow(error.line()),
                column: narrow(error.column()).max(1),
            };
            error_at(
                Some(place),
                "",
                "syntax",
                format!("this is not JSON: {error}"),
            )
        })
}

fn place_of(span: Span) -> Place {
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place {
        line: narrow(span.start.line()),
        column: narrow(span.start.col()).saturating_add(1),
    }
}

struct Yaml<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
}

fn read_yaml(text: &str) -> Result<Node, DocumentError> {
    let mut yaml = Yaml {
        parser: Parser::new_from_str(text),
    };
    loop {
        match yaml.next()? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (Event::StreamEnd | Event::DocumentEnd, _) => {
                return Err(error_at(None, "", "empty", "the document is empty"));
            }
            (event, span) => {
                let node = yaml.node(event, span, 0)?;
                yaml.end()?;
                return Ok(node);
            }
        }
    }
}

impl<'a> Yaml<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), DocumentError> {
        match self.parser.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => {
                let place = place_of(Span::empty(*error.marker()));
                Err(error_at(
                    Some(place),
                    "",
                    "syntax",
                    format!("this cannot be read: {}", error.info()),
                ))
            }
            None => Err(error_at(None, "", "syntax", "the document ends too early")),
        }
    }

    /// Makes sure that nothing follows the first document.
    fn end(&mut self) -> Result<(), DocumentError> {
        loop {
            match self.next()? {
                (Event::DocumentEnd, _) => {}
                (Event::StreamEnd, _) => return Ok(()),
                (_, span) => {
                    return Err(error_at(
                        Some(place_of(span)),
                        "",
                        "several_documents",
                        "this must be one document",
                    ));
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, DocumentError> {
        let place = place_of(span);
        if depth > DEPTH_MAX {
            return Err(error_at(Some(place), "", "too_deep", "this nests too deep"));
        }
        let body = match event {
            Event::Scalar(text, style, _, _) => Body::Scalar {
                text: text.into_owned(),
                is_text: style != ScalarStyle::Plain,
            },
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            Event::Alias(_) => {
                return Err(error_at(
                    Some(place),
                    "",
                    "alias",
                    "anchors and aliases are not read: write it out",
                ));
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                return Err(error_at(
                    Some(place),
                    "",
                    "syntax",
                    "a value is missing here",
                ));
            }
        };
        Ok(Node { place, body })
    }

    fn list(&mut self, depth: usize) -> Result<Body, DocumentError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Body::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Body, DocumentError> {
        let mut fields: Vec<(String, Place, Node)> = Vec::new();
        loop {
            let (name, place) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Body::Map(fields)),
                (Event::Scalar(name, ..), span) => (name.into_owned(), place_of(span)),
                (_, span) => {
                    return Err(error_at(
                        Some(place_of(span)),
                        "",
                        "syntax",
                        "the name of a field must be a word",
                    ));
                }
            };
            if fields.iter().any(|(known, ..)| *known == name) {
                return Err(error_at(
                    Some(place),
                    &name,
                    "duplicate_field",
                    format!("`{name}` is given twice"),
                ));
            }
            let (event, span) = self.next()?;
            fields.push((name, place, self.node(event, span, depth + 1)?));
        }
    }
}

fn read_toml(text: &str) -> Result<Node, DocumentError> {
    let table = DeTable::parse(text).map_err(|error| {
        let place = error.span().map(|span| place_in(text, span.start));
        error_at(
            place,
            "",
            "syntax",
            format!("this is not TOML: {}", error.message()),
        )
    })?;
    let place = place_in(text, table.span().start);
    toml_table(text, table.get_ref(), place, 0)
}

fn place_in(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let line = before.rsplit('\n').next().unwrap_or_default();
    Place {
        line: narrow(before.matches('\n').count()).saturating_add(1),
        column: narrow(line.chars().count()).saturating_add(1),
    }
}

fn toml_table(
    text: &str,
    table: &DeTable<'_>,
    place: Place,
    depth: usize,
) -> Result<Node, DocumentError> {
    let mut fields = Vec::new();
    for (name, value) in table {
        let at = place_in(text, name.span().start);
        fields.push((
            name.get_ref().to_string(),
            at,
            toml_value(text, value, depth + 1)?,
        ));
    }
    // A table iterates by name; errors should come in the order of the file.
    fields.sort_by_key(|(_, at, _)| (at.line, at.column));
    Ok(Node {
        place,
        body: Body::Map(fields),
    })
}

fn toml_value(
    text: &str,
    value: &Spanned<DeValue<'_>>,
    depth: usize,
) -> Result<Node, DocumentError> {
    let place = place_in(text, value.span().start);
    if depth > DEPTH_MAX {
        return Err(error_at(Some(place), "", "too_deep", "this nests too deep"));
    }
    let scalar = |text: String, is_text| Body::Scalar { text, is_text };
    let body = match value.get_ref() {
        DeValue::String(found) => scalar(found.to_string(), true),
        DeValue::Integer(found) => scalar(found.to_string(), false),
        DeValue::Float(found) => scalar(found.to_string(), false),
        DeValue::Boolean(found) => scalar(found.to_string(), false),
        DeValue::Datetime(found) => scalar(found.to_string(), true),
        DeValue::Array(items) => Body::List(
            items
                .iter()
                .map(|item| toml_value(text, item, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => return toml_table(text, table, place, depth),
    };
    Ok(Node { place, body })
}
