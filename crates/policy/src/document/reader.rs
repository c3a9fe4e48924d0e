//! Takes a tree apart field by field and gathers every error with its place.

use std::str::FromStr;

use super::{Body, DocumentError, DocumentErrors, Node, Place, error_at};
use crate::time::Seconds;

/// Every error found so far.
#[derive(Debug, Default)]
pub struct Errors(Vec<DocumentError>);

impl Errors {
    /// Adds one.
    pub fn add(&mut self, place: Place, field: &str, code: &str, message: impl Into<String>) {
        self.0.push(error_at(Some(place), field, code, message));
    }

    /// Returns the value when there were no errors.
    ///
    /// # Errors
    ///
    /// Every one that was added, in the order of the lines.
    pub fn or<T>(mut self, value: Option<T>) -> Result<T, DocumentErrors> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => {
                self.0.sort_by_key(|error| (error.line, error.column));
                Err(DocumentErrors(self.0))
            }
        }
    }
}

/// The fields of one map, taken out one by one; what is left at the end is not known.
#[derive(Debug)]
pub struct Fields {
    /// Where the map began.
    pub place: Place,
    /// Its path in the document, such as `waves[2].gate`.
    pub path: String,
    fields: Vec<(String, Place, Node)>,
    known: Vec<&'static str>,
}

impl Fields {
    /// Opens a map; anything else is an error.
    pub fn open(node: Node, path: &str, errors: &mut Errors) -> Option<Self> {
        match node.body {
            Body::Map(fields) => Some(Self {
                place: node.place,
                path: path.to_owned(),
                fields,
                known: Vec::new(),
            }),
            Body::Scalar { .. } | Body::List(_) => {
                errors.add(
                    node.place,
                    path,
                    "type",
                    "this must be a map of fields, such as {name: value}",
                );
                None
            }
        }
    }

    /// Returns the path of a field.
    pub fn at(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Returns where a field was written; where the map began when it is missing.
    pub fn place_of(&self, name: &str) -> Place {
        let found = self.fields.iter().find(|(found, ..)| found == name);
        found.map_or(self.place, |(_, _, node)| node.place)
    }

    /// Takes a field that may be missing. A null is a missing field.
    pub fn take(&mut self, name: &'static str) -> Option<Node> {
        self.known.push(name);
        let index = self.fields.iter().position(|(found, ..)| found == name)?;
        let (_, _, node) = self.fields.remove(index);
        (!is_null(&node)).then_some(node)
    }

    /// Says whether a field is there and was not taken.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let named = |(found, _, node): &(String, Place, Node)| found == name && !is_null(node);
        self.fields.iter().any(named)
    }

    /// Takes a text that may be missing.
    pub fn maybe_text(&mut self, name: &'static str, errors: &mut Errors) -> Option<String> {
        let path = self.at(name);
        let node = self.take(name)?;
        text(&node, &path, errors)
    }

    /// Takes a field that must be there.
    pub fn must(&mut self, name: &'static str, errors: &mut Errors) -> Option<Node> {
        let node = self.take(name);
        if node.is_none() {
            errors.add(
                self.place,
                &self.at(name),
                "missing",
                format!("`{name}` is missing"),
            );
        }
        node
    }

    /// Takes a text that must be there and not be empty.
    pub fn text(&mut self, name: &'static str, errors: &mut Errors) -> Option<String> {
        let path = self.at(name);
        self.must(name, errors)
            .and_then(|node| text(&node, &path, errors))
    }

    /// Takes a value that is written as a word, if it is there.
    pub fn parsed<T>(&mut self, name: &'static str, errors: &mut Errors) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let path = self.at(name);
        let node = self.take(name)?;
        let word = text(&node, &path, errors)?;
        match word.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                errors.add(node.place, &path, "value", error.to_string());
                None
            }
        }
    }

    /// Takes a whole number, if it is there.
    pub fn number<T: FromStr>(&mut self, name: &'static str, errors: &mut Errors) -> Option<T> {
        let path = self.at(name);
        let node = self.take(name)?;
        if let Body::Scalar {
            text,
            is_text: false,
        } = &node.body
            && let Ok(number) = text.replace('_', "").parse()
        {
            return Some(number);
        }
        errors.add(
            node.place,
            &path,
            "type",
            format!("`{name}` must be a whole number"),
        );
        None
    }

    /// Takes a length of time, if it is there.
    pub fn seconds(&mut self, name: &'static str, errors: &mut Errors) -> Option<Seconds> {
        let path = self.at(name);
        let node = self.take(name)?;
        let word = text(&node, &path, errors)?;
        match seconds_of(&word) {
            Some(seconds) => Some(seconds),
            None => {
                let message =
                    format!("`{word}` is no length of time: write 90s, 30m, 6h, 3d or 1h30m");
                errors.add(node.place, &path, "value", message);
                None
            }
        }
    }

    /// Takes a list, if it is there; one item may stand for itself.
    pub fn list(&mut self, name: &'static str, errors: &mut Errors) -> Option<Vec<Node>> {
        let path = self.at(name);
        let node = self.take(name)?;
        list(node, &path, errors)
    }

    /// Takes a list of texts, if it is there.
    pub fn texts(&mut self, name: &'static str, errors: &mut Errors) -> Option<Vec<String>> {
        let path = self.at(name);
        let nodes = self.list(name, errors)?;
        Some(
            nodes
                .iter()
                .filter_map(|node| text(node, &path, errors))
                .collect(),
        )
    }

    /// Complains about everything that was not taken.
    pub fn end(self, errors: &mut Errors) {
        for (name, place, _) in &self.fields {
            let known = self.known.join(", ");
            errors.add(
                *place,
                &self.at(name),
                "unknown_field",
                format!("`{name}` is no field here; there are: {known}"),
            );
        }
    }
}

/// A null is a missing field.
fn is_null(node: &Node) -> bool {
    matches!(&node.body, Body::Scalar { text, is_text: false } if matches!(text.as_str(), "" | "~" | "null"))
}

/// Reads a text that is not empty.
pub fn text(node: &Node, path: &str, errors: &mut Errors) -> Option<String> {
    match &node.body {
        Body::Scalar { text, .. } if text.contains('\0') => {
            errors.add(
                node.place,
                path,
                "value",
                "this must not have a NUL character",
            );
            None
        }
        Body::Scalar { text, .. } if !text.trim().is_empty() => Some(text.clone()),
        Body::Scalar { .. } => {
            errors.add(node.place, path, "empty", "this must not be empty");
            None
        }
        Body::List(_) | Body::Map(_) => {
            errors.add(node.place, path, "type", "this must be a single value");
            None
        }
    }
}

/// Reads a list.
pub fn list(node: Node, path: &str, errors: &mut Errors) -> Option<Vec<Node>> {
    match node.body {
        Body::List(items) => Some(items),
        Body::Scalar { .. } | Body::Map(_) => {
            errors.add(node.place, path, "type", "this must be a list");
            None
        }
    }
}

/// Reads `90s`, `30m`, `6h`, `3d`, or several of these one after the other, largest first.
pub(crate) fn seconds_of(text: &str) -> Option<Seconds> {
    let mut total: u32 = 0;
    let mut digits = String::new();
    let mut last = u32::MAX;
    for letter in text.trim().chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let unit = match letter {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        if unit >= last {
            return None;
        }
        last = unit;
        total = total.checked_add(digits.parse::<u32>().ok()?.checked_mul(unit)?)?;
        digits.clear();
    }
    (digits.is_empty() && last != u32::MAX).then_some(Seconds(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_as_people_write_them() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1800),
            ("6h", 21_600),
            ("3d", 259_200),
            ("1h30m", 5400),
            ("0s", 0),
        ] {
            assert_eq!(seconds_of(text), Some(Seconds(seconds)), "{text}");
        }
        for text in [
            "",
            "5",
            "h",
            "1x",
            "30m1h",
            "1m1m",
            "99999999d",
            "-1h",
            "1.5h",
        ] {
            assert_eq!(seconds_of(text), None, "{text}");
        }
    }
}
