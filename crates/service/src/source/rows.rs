//! Rows of a file, one after the other, with the line each began on.
//!
//! A row that cannot be used is reported and left out; a stream that ends in the middle (a cut
//! connection, a truncated archive) is an error, because nobody knows what was missing.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A row longer than this is refused.
const LINE_MAX: u64 = 1024 * 1024;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// Comma-separated values with a head (RFC 4180).
    Csv,
    /// One JSON object per line.
    Ndjson,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, perhaps in several members.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// A row that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BadRow {
    /// The line it began on, from 1.
    pub line: u64,
    /// The stable code.
    pub code: String,
    /// What is wrong.
    pub message: String,
}

impl BadRow {
    pub(super) fn new(line: u64, code: &str, message: impl Into<String>) -> Self {
        Self {
            line,
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

/// The file as a whole cannot be used.
#[derive(Debug, Error)]
pub enum RowsError {
    /// It ends in the middle, or cannot be unpacked.
    #[error("the file ends in the middle or is damaged: {0}")]
    Stream(#[from] std::io::Error),
    /// It has no head, or no column of that name.
    #[error("{0}")]
    Head(String),
}

/// What a reader of rows tells: a good row by the places of its values, or a bad one.
pub trait RowSink {
    /// Takes the names of the columns; called before the first row, and again when a column appears
    /// that was not there before (NDJSON).
    ///
    /// # Errors
    ///
    /// When a column that must be there is not.
    fn columns(&mut self, names: &[String]) -> Result<(), RowsError>;

    /// Takes the values of a row in the order of the columns; an empty value is a missing one. Says
    /// whether to go on.
    fn row(&mut self, line: u64, values: &[&str]) -> bool;

    /// Takes a bad row. Says whether to go on.
    fn bad(&mut self, row: BadRow) -> bool;
}

/// Reads a whole stream.
///
/// # Errors
///
/// When the stream ends in the middle, cannot be unpacked, or has no usable head.
pub fn read(
    stream: impl Read,
    compression: Compression,
    format: RowFormat,
    sink: &mut (impl RowSink + ?Sized),
) -> Result<(), RowsError> {
    match compression {
        Compression::None => read_plain(stream, format, sink),
        Compression::Gzip => read_plain(
            flate2::read::MultiGzDecoder::new(BufReader::with_capacity(1 << 18, stream)),
            format,
            sink,
        ),
        Compression::Zstd => read_plain(zstd::stream::read::Decoder::new(stream)?, format, sink),
    }
}

fn read_plain(
    stream: impl Read,
    format: RowFormat,
    sink: &mut (impl RowSink + ?Sized),
) -> Result<(), RowsError> {
    match format {
        RowFormat::Csv => read_csv(stream, sink),
        RowFormat::Ndjson => read_ndjson(stream, sink),
    }
}

/// Passes a stream on, and remembers what the reader of rows cannot see: how it ended, and how much of
/// it the row at hand has taken so far.
struct Watched<'a, R> {
    inner: R,
    seen: &'a Watch,
}

/// A row goes on for longer than any row does.
#[derive(Debug, Error)]
#[error("the row is too long")]
struct RowTooLong;

/// What a [`Watched`] stream remembers.
#[derive(Default)]
struct Watch {
    last_byte: Cell<u8>,
    since_row: Cell<u64>,
    /// Whether a quote is open, as far as quotes come in pairs.
    is_quoted: Cell<bool>,
}

impl Watch {
    /// Says whether the file ends inside its last row: without a line break in a row that is bad or in
    /// a quote, or in a quote that has swallowed the lines to the end.
    fn cuts(&self, last: Last) -> bool {
        let has_end = matches!(self.last_byte.get(), b'\n' | b'\r');
        let is_quoted = self.is_quoted.get();
        (!has_end && (last.is_bad || is_quoted)) || (is_quoted && last.has_break)
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.seen.since_row.get() > LINE_MAX {
            return Err(std::io::Error::other(RowTooLong));
        }
        let count = self.inner.read(buffer)?;
        let read = u64::try_from(count).unwrap_or(u64::MAX);
        self.seen
            .since_row
            .set(self.seen.since_row.get().saturating_add(read));
        if let Some(last) = count.checked_sub(1).and_then(|last| buffer.get(last)) {
            self.seen.last_byte.set(*last);
        }
        let fresh = buffer.get(..count).unwrap_or_default();
        let quotes = fresh.iter().filter(|byte| **byte == b'"').count();
        if quotes % 2 == 1 {
            self.seen.is_quoted.set(!self.seen.is_quoted.get());
        }
        Ok(count)
    }
}

fn read_csv(stream: impl Read, sink: &mut (impl RowSink + ?Sized)) -> Result<(), RowsError> {
    let seen = Watch::default();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(1 << 18)
        .from_reader(Watched {
            inner: stream,
            seen: &seen,
        });
    let mut record = csv::ByteRecord::new();
    if !next_record(&mut reader, &mut record, &seen)? {
        return Err(RowsError::Head(
            "the file is empty: its first line must name the columns".to_owned(),
        ));
    }
    let head = head_of(&record)?;
    sink.columns(&head)?;
    let mut last = Last::default();
    let mut line = 1;
    while next_record(&mut reader, &mut record, &seen)? {
        line = record.position().map_or(0, csv::Position::line);
        let bad = check_record(&record, head.len(), line);
        last = Last::of(&record, bad.is_some());
        let goes_on = match bad {
            Some(bad) => sink.bad(bad),
            None => match std::str::from_utf8(record.as_slice()) {
                Ok(_) => {
                    // Every field of a record that is UTF-8 as a whole and was cut at commas is UTF-8.
                    let fields = record.iter();
                    let values: Vec<&str> = fields
                        .map(|field| std::str::from_utf8(field).unwrap_or_default())
                        .collect();
                    sink.row(line, &values)
                }
                Err(_) => sink.bad(BadRow::new(line, "not_utf8", "the row is not UTF-8")),
            },
        };
        if !goes_on {
            return Ok(());
        }
    }
    if seen.cuts(last) {
        return Err(cut_off(line));
    }
    Ok(())
}

/// The last row is not whole, so nobody knows how many are missing.
fn cut_off(line: u64) -> RowsError {
    let sentence = format!("the file ends in the middle of line {line}");
    let kind = std::io::ErrorKind::UnexpectedEof;
    RowsError::Stream(std::io::Error::new(kind, sentence))
}

/// What the last row looked like.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    is_bad: bool,
    has_break: bool,
}

impl Last {
    fn of(record: &csv::ByteRecord, is_bad: bool) -> Self {
        let has_break = is_bad && record.as_slice().contains(&b'\n');
        Self { is_bad, has_break }
    }
}

fn next_record<R: Read>(
    reader: &mut csv::Reader<R>,
    record: &mut csv::ByteRecord,
    seen: &Watch,
) -> Result<bool, RowsError> {
    let line = reader.position().line();
    let read = reader.read_byte_record(record);
    seen.since_row.set(0);
    read.map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(error)
            if error
                .get_ref()
                .is_some_and(|cause| cause.is::<RowTooLong>()) =>
        {
            RowsError::Head(format!(
                "the row that begins in line {line} is longer than 1 MiB: a quote is never closed"
            ))
        }
        csv::ErrorKind::Io(error) => RowsError::Stream(error),
        other => RowsError::Head(format!("the file cannot be read as CSV: {other:?}")),
    })
}

fn head_of(record: &csv::ByteRecord) -> Result<Vec<String>, RowsError> {
    let mut head: Vec<String> = Vec::with_capacity(record.len());
    for (place, field) in record.iter().enumerate() {
        let field = if place == 0 {
            field.strip_prefix(b"\xef\xbb\xbf").unwrap_or(field)
        } else {
            field
        };
        let name = std::str::from_utf8(field)
            .map_err(|_| RowsError::Head("the first line is not UTF-8".to_owned()))?
            .trim();
        if name.is_empty() {
            return Err(RowsError::Head(format!(
                "column {} has no name in the first line",
                place + 1
            )));
        }
        if head.iter().any(|known| known == name) {
            return Err(RowsError::Head(format!(
                "column `{name}` is named twice in the first line"
            )));
        }
        head.push(name.to_owned());
    }
    Ok(head)
}

fn check_record(record: &csv::ByteRecord, columns: usize, line: u64) -> Option<BadRow> {
    if record.len() > columns {
        let message = format!(
            "the row has {} values, and there are {columns} columns",
            record.len()
        );
        return Some(BadRow::new(line, "too_many_columns", message));
    }
    if record.len() < columns {
        let message = format!(
            "the row has {} values, and there are {columns} columns",
            record.len()
        );
        return Some(BadRow::new(line, "too_few_columns", message));
    }
    if record
        .as_slice()
        .iter()
        .any(|byte| matches!(byte, b'\n' | b'\r' | 0))
    {
        return Some(BadRow::new(
            line,
            "line_break",
            "a value holds a line break: a quote is missing, or a note was exported",
        ));
    }
    None
}

fn read_ndjson(stream: impl Read, sink: &mut (impl RowSink + ?Sized)) -> Result<(), RowsError> {
    let mut reader = BufReader::with_capacity(1 << 18, stream);
    let mut names: Vec<String> = Vec::new();
    let mut line_bytes = Vec::new();
    let mut line = 0;
    loop {
        line_bytes.clear();
        line += 1;
        let read = (&mut reader)
            .take(LINE_MAX)
            .read_until(b'\n', &mut line_bytes)?;
        if read == 0 {
            break;
        }
        if u64::try_from(read).is_ok_and(|read| read >= LINE_MAX) && !line_bytes.ends_with(b"\n") {
            return Err(RowsError::Head(format!("line {line} is longer than 1 MiB")));
        }
        if line_bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let goes_on = match object(&line_bytes, line) {
            Ok(values) => json_row(values, line, &mut names, sink)?,
            Err(_) if !line_bytes.ends_with(b"\n") => return Err(cut_off(line)),
            Err(bad) => sink.bad(bad),
        };
        if !goes_on {
            return Ok(());
        }
    }
    if names.is_empty() {
        sink.columns(&[])?;
    }
    Ok(())
}

type Object = serde_json::Map<String, serde_json::Value>;

fn object(bytes: &[u8], line: u64) -> Result<Object, BadRow> {
    if std::str::from_utf8(bytes).is_err() {
        return Err(BadRow::new(line, "not_utf8", "the row is not UTF-8"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        BadRow::new(
            line,
            "not_json",
            format!("the row is no JSON object: {error}"),
        )
    })
}

fn json_row(
    values: Object,
    line: u64,
    names: &mut Vec<String>,
    sink: &mut (impl RowSink + ?Sized),
) -> Result<bool, RowsError> {
    let mut texts: Vec<String> = vec![String::new(); names.len()];
    let known = names.len();
    for (name, value) in values {
        let text = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) => text,
            serde_json::Value::Bool(truth) => truth.to_string(),
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
                return Ok(sink.bad(BadRow::new(
                    line,
                    "nested_value",
                    format!("`{name}` is neither a text, a number nor true or false"),
                )));
            }
        };
        if text.contains(['\n', '\r', '\0']) {
            return Ok(sink.bad(BadRow::new(
                line,
                "line_break",
                format!("`{name}` holds a line break"),
            )));
        }
        match names.iter().position(|known| *known == name) {
            Some(place) => {
                if let Some(slot) = texts.get_mut(place) {
                    *slot = text;
                }
            }
            None => {
                names.push(name);
                texts.push(text);
            }
        }
    }
    if names.len() > known {
        sink.columns(names)?;
    }
    let values: Vec<&str> = texts.iter().map(String::as_str).collect();
    Ok(sink.row(line, &values))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[derive(Default)]
    struct Seen {
        columns: Vec<String>,
        rows: Vec<(u64, Vec<String>)>,
        bad: Vec<String>,
    }

    impl RowSink for Seen {
        fn columns(&mut self, names: &[String]) -> Result<(), RowsError> {
            self.columns = names.to_vec();
            Ok(())
        }
        fn row(&mut self, line: u64, values: &[&str]) -> bool {
            self.rows.push((
                line,
                values.iter().map(|value| (*value).to_owned()).collect(),
            ));
            true
        }
        fn bad(&mut self, row: BadRow) -> bool {
            self.bad.push(format!("{}:{}", row.line, row.code));
            true
        }
    }

    fn seen(bytes: &[u8], compression: Compression, format: RowFormat) -> Seen {
        let mut seen = Seen::default();
        read(bytes, compression, format, &mut seen).unwrap();
        seen
    }

    #[test]
    fn csv_rows_keep_their_line_and_bad_ones_are_named() {
        let text = b"\xef\xbb\xbfid,name\n1,Ann\n2,\"Bob, jr\"\n3\n4,a,b\n5,\"two\nlines\"\n6,\xff\n7,Zo\xc3\xab\n";
        let seen = seen(text, Compression::None, RowFormat::Csv);
        assert_eq!(seen.columns, ["id", "name"]);
        assert_eq!(
            seen.rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
            [2, 3, 9]
        );
        assert_eq!(seen.rows[1].1, ["2", "Bob, jr"]);
        assert_eq!(
            seen.bad,
            [
                "4:too_few_columns",
                "5:too_many_columns",
                "6:line_break",
                "8:not_utf8"
            ]
        );
    }

    #[test]
    fn ndjson_rows_may_bring_new_columns() {
        let text = b"{\"id\": \"1\", \"n\": 7}\n\n{\"id\": \"2\", \"ok\": true, \"x\": null}\n[1]\n{\"id\": {}}\n";
        let seen = seen(text, Compression::None, RowFormat::Ndjson);
        assert_eq!(seen.columns, ["id", "n", "ok"]);
        assert_eq!(
            seen.rows[1],
            (3, vec!["2".to_owned(), String::new(), "true".to_owned()])
        );
        assert_eq!(seen.bad, ["4:not_json", "5:nested_value"]);
    }

    #[test]
    fn compressed_files_read_the_same_and_cut_ones_are_refused() {
        let text = b"id\n1\n2\n";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        for (bytes, compression) in [(gzip, Compression::Gzip), (zstd, Compression::Zstd)] {
            assert_eq!(seen(&bytes, compression, RowFormat::Csv).rows.len(), 2);
            let cut = &bytes[..bytes.len() - 3];
            let refused = read(cut, compression, RowFormat::Csv, &mut Seen::default());
            assert!(matches!(refused, Err(RowsError::Stream(_))), "{refused:?}");
        }
    }

    #[test]
    fn a_file_that_was_cut_off_is_refused_and_one_without_a_last_line_break_is_not() {
        let refusal = |text: &str, format| {
            let refused = read(
                text.as_bytes(),
                Compression::None,
                format,
                &mut Seen::default(),
            );
            refused.map_err(|error| error.to_string()).err()
        };
        assert_eq!(refusal("id,name\n1,Ann\n2,Bob", RowFormat::Csv), None);
        assert_eq!(
            refusal("id,name\n1,Ann\n2\n", RowFormat::Csv),
            None,
            "short, not cut"
        );
        let cut = refusal("id,name\n1,Ann\n2", RowFormat::Csv).unwrap();
        assert!(cut.contains("in the middle of line 3"), "{cut}");
        assert_eq!(refusal("{\"id\":\"1\"}", RowFormat::Ndjson), None);
        let cut = refusal("{\"id\":\"1\"}\n{\"id\":\"2", RowFormat::Ndjson).unwrap();
        assert!(cut.contains("in the middle of line 2"), "{cut}");
    }

    #[test]
    fn a_quote_that_is_never_closed_does_not_swallow_the_file() {
        let mut text = String::from("id,name\n1,\"Ann\n");
        text.push_str(&"2,Bob\n".repeat(500_000));
        let refused = read(
            text.as_bytes(),
            Compression::None,
            RowFormat::Csv,
            &mut Seen::default(),
        );
        let sentence = refused.unwrap_err().to_string();
        assert!(
            sentence.contains("line 2") && sentence.contains("quote"),
            "{sentence}"
        );
    }

    #[test]
    fn a_last_row_that_is_cut_is_refused_and_a_stray_quote_is_not() {
        let csv = |text: &str| {
            let mut seen = Seen::default();
            read(
                text.as_bytes(),
                Compression::None,
                RowFormat::Csv,
                &mut seen,
            )
        };
        for text in ["id,n\n1,a\n2", "id,n\n1,\"a", "id,n\n1,\"a\n2,b\n3,c\n"] {
            assert!(matches!(csv(text), Err(RowsError::Stream(_))), "{text}");
        }
        for text in [
            "id,n\n1,a\n2,b",
            "id,n\n1,a\n2\n",
            "id,n\n1,5\" pipe\n",
            "id,n\n1,\"a\nb\"\n",
        ] {
            assert!(csv(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_head_that_says_too_little_is_refused() {
        for (text, part) in [
            ("", "empty"),
            ("id,,x\n", "column 2 has no name"),
            ("id,id\n", "named twice"),
        ] {
            let refused = read(
                text.as_bytes(),
                Compression::None,
                RowFormat::Csv,
                &mut Seen::default(),
            );
            assert!(refused.unwrap_err().to_string().contains(part), "{text}");
        }
    }
}
