//! Tables that fit a terminal: columns as wide as their content, the widest of them cut where they do not fit.

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

/// What a column of text is never cut below, in columns of the terminal.
const NARROWEST: usize = 8;
/// The same of a last column whose text is wrapped.
const NARROWEST_WRAPPED: usize = 24;

/// A table under construction.
#[derive(Debug, Clone)]
pub struct Table {
    heads: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
    last: Last,
}

/// What becomes of the last column where the table is too wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// It is cut like any other.
    Cut,
    /// It goes on below.
    Wrapped,
    /// It stays whole as long as others can be cut: somebody copies it.
    Whole,
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
            last: Last::Cut,
        }
    }

    /// Has the text of the last column go on below where it does not fit.
    #[must_use]
    pub const fn wrapping(mut self) -> Self {
        self.last = Last::Wrapped;
        self
    }

    /// Has the last column stay whole as long as others can be cut.
    #[must_use]
    pub const fn keeping(mut self) -> Self {
        self.last = Last::Whole;
        self
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
        self.narrow(&mut widths, width);
        let heads: Vec<String> = self.heads.iter().map(|(head, _)| head.clone()).collect();
        std::iter::once(&heads)
            .chain(&self.rows)
            .flat_map(|row| self.row_lines(row, &widths))
            .map(|line| cut(&line, width))
            .collect()
    }

    /// Takes from the widest column of text, one column of the terminal at a time, until everything fits.
    fn narrow(&self, widths: &mut [usize], width: usize) {
        let gaps = 2 * widths.len().saturating_sub(1);
        let last = widths.len().saturating_sub(1);
        let room = width.saturating_sub(gaps);
        while widths.iter().sum::<usize>() > room {
            let least = |place: usize| match self.last {
                Last::Wrapped if place == last => NARROWEST_WRAPPED,
                Last::Whole if place == last => usize::MAX,
                Last::Cut | Last::Wrapped | Last::Whole => NARROWEST,
            };
            let columns = widths.iter_mut().zip(&self.heads).enumerate();
            let widest = columns
                .filter(|(place, (wide, (_, align)))| {
                    *align == Align::Left && **wide > least(*place)
                })
                .max_by_key(|(_, (wide, _))| **wide);
            let Some((_, (wide, _))) = widest else { return };
            *wide -= 1;
        }
    }

    fn row_lines(&self, row: &[String], widths: &[usize]) -> Vec<String> {
        let mut row: Vec<String> = row.to_vec();
        let mut below = Vec::new();
        if let (Last::Wrapped, Some(cell), Some(wide)) = (self.last, row.last_mut(), widths.last())
        {
            let mut lines = wrap(cell, *wide).into_iter();
            *cell = lines.next().unwrap_or_default();
            below = lines.collect();
        }
        let before: usize = widths.iter().rev().skip(1).map(|wide| wide + 2).sum();
        let below = below
            .into_iter()
            .map(|text| format!("{}{text}", " ".repeat(before)));
        std::iter::once(self.line(&row, widths))
            .chain(below)
            .collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, wide), (_, align)) in row.iter().zip(widths).zip(&self.heads) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            line.push_str(&pad(&cut(cell, *wide), *wide, *align));
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

/// Breaks a text into lines, none wider than `width`; a word that is wider is broken itself.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut begun = false;
    for word in text.split(' ') {
        let wide = measure_text_width(word);
        if begun && measure_text_width(&line) + 1 + wide <= width {
            line.push(' ');
            line.push_str(word);
            continue;
        }
        if begun {
            lines.push(std::mem::take(&mut line));
        }
        begun = true;
        line = word.to_owned();
        while measure_text_width(&line) > width {
            let head = console::truncate_str(&line, width, "").into_owned();
            let Some(rest) = line.strip_prefix(&head).filter(|_| !head.is_empty()) else {
                break;
            };
            let rest = rest.to_owned();
            lines.push(head);
            line = rest;
        }
    }
    lines.push(line);
    lines
}

/// The same with what goes on below set in by `indent` columns.
#[must_use]
pub fn wrap_in(text: &str, indent: usize, width: usize) -> Vec<String> {
    let lines = wrap(text, width.saturating_sub(indent).max(20));
    lines
        .into_iter()
        .map(|line| format!("{}{line}", " ".repeat(indent)))
        .collect()
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

/// Writes how many of something there are: `1 rule`, `2 rules`.
#[must_use]
pub fn several(count: u64, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{} {one}s", grouped(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_in_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_500_000), "1,500,000");
        let rules = [0, 1, 1_000].map(|count| several(count, "rule"));
        assert_eq!(rules, ["0 rules", "1 rule", "1,000 rules"]);
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
    fn a_last_column_goes_on_below_and_says_everything() {
        let mut table = Table::new(&["name", "why"]).wrapping();
        table.row([
            "a-very-long-name-of-a-rollout".to_owned(),
            "three of five waves wait for somebody".to_owned(),
        ]);
        assert_eq!(
            table.lines(40).join("\n"),
            "name            why\na-very-long-n…  three of five waves wait\n                for somebody"
        );
    }

    #[test]
    fn a_last_column_that_somebody_copies_stays_whole() {
        let mut table = Table::new(&["who", "to what"]).keeping();
        table.row([
            "somebody-with-a-long-name".to_owned(),
            "hold:0198c0de-0000-7000".to_owned(),
        ]);
        let lines = table.lines(40).join("\n");
        assert!(lines.ends_with("  hold:0198c0de-0000-7000"), "{lines}");
    }

    #[test]
    fn a_text_is_broken_between_words_and_a_long_word_inside() {
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a abcdefghij", 4), ["a", "abcd", "efgh", "ij"]);
        assert_eq!(wrap_in("one two", 2, 100), ["  one two"]);
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
