//! Tables that fit a terminal: columns as wide as their content, cut at the terminal's edge.

use console::measure_text_width;
use serde_json::Value;

/// How a column lines up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table under construction.
#[derive(Debug, Clone)]
pub struct Table {
    heads: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Starts a table with its column heads. A head that begins with `>` is a column of numbers.
    #[must_use]
    pub fn new(heads: &[&str]) -> Self {
        let heads = heads
            .iter()
            .map(|head| match head.strip_prefix('>') {
                Some(number) => (number.to_owned(), Align::Right),
                None => ((*head).to_owned(), Align::Left),
            })
            .collect();
        Self {
            heads,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Returns the lines, none wider than `width` columns.
    #[must_use]
    pub fn lines(&self, width: usize) -> Vec<String> {
        let mut widths: Vec<usize> = self
            .heads
            .iter()
            .map(|(head, _)| measure_text_width(head))
            .collect();
        for row in &self.rows {
            for (wide, cell) in widths.iter_mut().zip(row) {
                *wide = (*wide).max(measure_text_width(cell));
            }
        }
        let heads: Vec<String> = self.heads.iter().map(|(head, _)| head.clone()).collect();
        std::iter::once(&heads)
            .chain(&self.rows)
            .map(|row| cut(&self.line(row, &widths), width))
            .collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, wide), (_, align)) in row.iter().zip(widths).zip(&self.heads) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            line.push_str(&pad(cell, *wide, *align));
        }
        line.trim_end().to_owned()
    }
}

/// Writes what is known of one thing, a line each: the name of the field, and its value.
#[must_use]
pub fn facts(answer: &Value) -> Vec<String> {
    let fields = answer.as_object();
    let fields = fields
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null());
    let fields: Vec<(String, String)> = fields
        .map(|(name, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (name.replace('_', " "), value)
        })
        .collect();
    let names = fields.iter().map(|(name, _)| measure_text_width(name));
    let width = names.max().unwrap_or(0);
    fields
        .iter()
        .map(|(name, value)| format!("{}  {value}", pad(name, width, Align::Left)))
        .collect()
}

/// Fills a text up to a width.
#[must_use]
pub fn pad(text: &str, width: usize, align: Align) -> String {
    let missing = " ".repeat(width.saturating_sub(measure_text_width(text)));
    match align {
        Align::Left => format!("{text}{missing}"),
        Align::Right => format!("{missing}{text}"),
    }
}

/// Cuts a line at a width and marks the cut.
#[must_use]
pub fn cut(line: &str, width: usize) -> String {
    if measure_text_width(line) <= width {
        return line.to_owned();
    }
    console::truncate_str(line, width, "…").into_owned()
}

/// Writes a count with its thousands set apart.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_in_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_500_000), "1,500,000");
    }

    #[test]
    fn facts_have_a_line_each_and_what_is_unknown_has_none() {
        let answer = serde_json::json!({"id": "h1", "placed_at": 7, "scope": {"type": "everything"}, "released_at": null});
        assert_eq!(
            facts(&answer).join("\n"),
            "id         h1\nplaced at  7\nscope      {\"type\":\"everything\"}"
        );
    }

    #[test]
    fn numbers_line_up_on_the_right_and_text_on_the_left() {
        let mut table = Table::new(&["name", ">people"]);
        table.row(["canary".to_owned(), grouped(500)]);
        table.row(["everyone-else".to_owned(), grouped(1_499_500)]);
        assert_eq!(
            table.lines(80).join("\n"),
            "name              people\ncanary               500\neveryone-else  1,499,500"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut table = Table::new(&["name", "why"]);
        table.row(["x".to_owned(), "zoë ".repeat(50)]);
        for line in table.lines(40) {
            assert!(measure_text_width(&line) <= 40, "{line}");
        }
    }
}
