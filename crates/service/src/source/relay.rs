//! Rows handed from the thread that reads them to the thread that packs them, a thousand at a time.
//!
//! Reading a file and packing its rows cost about the same; two threads do both in the time of one. The
//! order of rows stays as it is in the file, and when the packer has had enough the reader stops.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::rows::{BadRow, RowSink, RowsError};

/// How many rows are handed over at once.
const ROWS_PER_BATCH: usize = 1024;
/// How many batches may wait: enough to keep both threads busy, and a bound on memory.
const BATCHES_WAITING: usize = 8;

/// Rows in one piece of memory.
#[derive(Debug, Default)]
struct Batch {
    text: String,
    /// Where each value ends in `text`.
    ends: Vec<usize>,
    /// The line of each row, and how many values it has.
    rows: Vec<(u64, usize)>,
}

impl Batch {
    fn push(&mut self, line: u64, values: &[&str]) {
        for value in values {
            self.text.push_str(value);
            self.ends.push(self.text.len());
        }
        self.rows.push((line, values.len()));
    }

    /// Hands every row to a sink; says whether to go on.
    fn replay(&self, sink: &mut impl RowSink) -> bool {
        let mut ends = self.ends.iter().copied();
        let mut begin = 0;
        let mut values: Vec<&str> = Vec::new();
        for (line, count) in &self.rows {
            values.clear();
            for end in ends.by_ref().take(*count) {
                values.push(self.text.get(begin..end).unwrap_or_default());
                begin = end;
            }
            if !sink.row(*line, &values) {
                return false;
            }
        }
        true
    }
}

enum Message {
    Columns(Vec<String>, SyncSender<Result<(), RowsError>>),
    Rows(Batch),
    Bad(BadRow),
}

/// The sink on the side of the reader.
struct Relay<'a> {
    send: SyncSender<Message>,
    has_enough: &'a AtomicBool,
    batch: Batch,
}

impl Relay<'_> {
    fn flush(&mut self) -> bool {
        let batch = std::mem::take(&mut self.batch);
        batch.rows.is_empty() || self.send(Message::Rows(batch))
    }

    fn send(&self, message: Message) -> bool {
        self.send.send(message).is_ok() && !self.has_enough.load(Ordering::Relaxed)
    }
}

impl RowSink for Relay<'_> {
    fn columns(&mut self, names: &[String]) -> Result<(), RowsError> {
        self.flush();
        let (answer, answered) = sync_channel(1);
        self.send(Message::Columns(names.to_vec(), answer));
        // A packer that has had enough answers no more: the next row stops the reader.
        answered.recv().unwrap_or(Ok(()))
    }

    fn row(&mut self, line: u64, values: &[&str]) -> bool {
        self.batch.push(line, values);
        self.batch.rows.len() < ROWS_PER_BATCH || self.flush()
    }

    fn bad(&mut self, row: BadRow) -> bool {
        self.flush() && self.send(Message::Bad(row))
    }
}

/// Reads with `read` on this thread, while `sink` takes the rows on another one.
///
/// # Errors
///
/// As `read`, and when the sink refuses the columns.
pub fn relay(
    sink: &mut (impl RowSink + Send),
    read: impl FnOnce(&mut dyn RowSink) -> Result<(), RowsError>,
) -> Result<(), RowsError> {
    let has_enough = AtomicBool::new(false);
    let enough = &has_enough;
    let (send, receive) = sync_channel(BATCHES_WAITING);
    std::thread::scope(|scope| {
        let taking = scope.spawn(move || take(&receive, sink, enough));
        let mut relay = Relay {
            send,
            has_enough: enough,
            batch: Batch::default(),
        };
        let outcome = read(&mut relay);
        relay.flush();
        drop(relay);
        match taking.join() {
            Ok(()) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn take(receive: &Receiver<Message>, sink: &mut impl RowSink, has_enough: &AtomicBool) {
    for message in receive {
        // What was sent before the reader heard of it is thrown away.
        if has_enough.load(Ordering::Relaxed) {
            continue;
        }
        let goes_on = match message {
            Message::Rows(batch) => batch.replay(sink),
            Message::Bad(row) => sink.bad(row),
            Message::Columns(names, answer) => {
                let outcome = sink.columns(&names);
                let goes_on = outcome.is_ok();
                let _ = answer.send(outcome);
                goes_on
            }
        };
        if !goes_on {
            has_enough.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen {
        columns: Vec<String>,
        rows: Vec<(u64, String)>,
        bad: Vec<u64>,
        enough: usize,
    }

    impl RowSink for Seen {
        fn columns(&mut self, names: &[String]) -> Result<(), RowsError> {
            if names.is_empty() {
                return Err(RowsError::Head("no columns".to_owned()));
            }
            self.columns = names.to_vec();
            Ok(())
        }
        fn row(&mut self, line: u64, values: &[&str]) -> bool {
            self.rows.push((line, values.join("|")));
            self.rows.len() < self.enough
        }
        fn bad(&mut self, row: BadRow) -> bool {
            self.bad.push(row.line);
            true
        }
    }

    fn seen(enough: usize) -> Seen {
        Seen {
            enough,
            ..Seen::default()
        }
    }

    #[test]
    fn rows_arrive_whole_and_in_order_with_what_was_wrong_between_them() {
        let mut sink = seen(usize::MAX);
        let done = relay(&mut sink, |relay| {
            relay.columns(&["id".to_owned(), "name".to_owned()])?;
            for line in 0..5000 {
                assert!(relay.row(line, &[&line.to_string(), "zoë"]));
                if line == 3000 {
                    relay.bad(BadRow::new(3000, "bad", "bad"));
                }
            }
            Ok(())
        });
        assert!(done.is_ok());
        assert_eq!(sink.columns, ["id", "name"]);
        assert_eq!(sink.bad, [3000]);
        assert!(
            sink.rows
                .iter()
                .zip(0..)
                .all(|((line, text), number)| *line == number && *text == format!("{number}|zoë"))
        );
        assert_eq!(sink.rows.len(), 5000);
    }

    #[test]
    fn a_sink_that_has_enough_stops_the_reader() {
        let mut sink = seen(2000);
        let mut read = 0;
        let done = relay(&mut sink, |relay| {
            while relay.row(read, &["x"]) {
                read += 1;
            }
            Ok(())
        });
        assert!(done.is_ok());
        assert_eq!(sink.rows.len(), 2000);
    }

    #[test]
    fn columns_that_are_refused_end_the_reading() {
        let refused = relay(&mut seen(9), |relay| relay.columns(&[]));
        assert!(refused.is_err());
    }
}
