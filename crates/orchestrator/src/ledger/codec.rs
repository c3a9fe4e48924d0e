//! The frozen byte format of a batch's slots, version 1.
//!
//! ```text
//! version  1 byte   = 1
//! size     2 bytes  little-endian, 0..=1024
//! columns  states, attempts, changed, due, adopted; each:
//!   0, value                           everybody has the value
//!   1, count - 1, value × count, code × size   at most 256 values, one byte of code per slot
//!   2, value × size                    each has their own
//! ```
//! A value is 1 byte for states, attempts and adopted, and 8 bytes little-endian (milliseconds since
//! 1970) for changed and due. Decoding is total: any bytes decode or are refused by name.

use thiserror::Error;

use super::BATCH_SIZE_MAX;
use super::column::Column;
use super::slots::Slots;
use super::state::SlotState;

const VERSION: u8 = 1;

/// The bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FormatError {
    /// They end in the middle.
    #[error("the bytes end too early")]
    Truncated,
    /// There is more than belongs there.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// They were written by another version of the format.
    #[error("format version {0} is not known to this version of Tidegate")]
    Version(u8),
    /// A batch cannot be that large.
    #[error("a batch of {0} is larger than 1,024")]
    Size(u16),
    /// A column begins with an unknown mark.
    #[error("{0} is no form of a column")]
    Form(u8),
    /// A slot has a state that does not exist.
    #[error("{0} is no state")]
    State(u8),
    /// A slot refers to a value that is not there, or a flag is neither 0 nor 1.
    #[error("{0} is out of range")]
    Range(u64),
    /// Ordinals do not grow.
    #[error("ordinals must grow")]
    Order,
}

/// Reads bytes from the front.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (head, tail) = self
            .0
            .split_at_checked(count)
            .ok_or(FormatError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        self.take(N)?.try_into().map_err(|_| FormatError::Truncated)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, FormatError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) const fn end(&self) -> Result<(), FormatError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(FormatError::Trailing(self.0.len()))
        }
    }
}

/// A value that a column can hold.
trait Cell: Copy + PartialEq {
    fn write(self, out: &mut Vec<u8>);
    fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError>;
}

impl Cell for u8 {
    fn write(self, out: &mut Vec<u8>) {
        out.push(self);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        reader.byte()
    }
}

impl Cell for i64 {
    fn write(self, out: &mut Vec<u8>) {
        out.extend(self.to_le_bytes());
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        reader.array().map(Self::from_le_bytes)
    }
}

impl Cell for bool {
    fn write(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        match reader.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(FormatError::Range(u64::from(other))),
        }
    }
}

impl Cell for SlotState {
    fn write(self, out: &mut Vec<u8>) {
        out.push(self.number());
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let number = reader.byte()?;
        Self::from_number(number).ok_or(FormatError::State(number))
    }
}

fn write_column<T: Cell>(column: &Column<T>, out: &mut Vec<u8>) {
    let values = match column {
        Column::Same(value) => {
            out.push(0);
            value.write(out);
            return;
        }
        Column::Each(values) => values,
    };
    match palette(values) {
        Some((distinct, codes)) => {
            out.push(1);
            out.push(u8::try_from(distinct.len().saturating_sub(1)).unwrap_or(u8::MAX));
            for value in distinct {
                value.write(out);
            }
            out.extend(codes);
        }
        None => {
            out.push(2);
            for value in values {
                value.write(out);
            }
        }
    }
}

/// The distinct values in order of appearance and each slot's code; `None` above 256 values.
fn palette<T: Cell>(values: &[T]) -> Option<(Vec<T>, Vec<u8>)> {
    let mut distinct: Vec<T> = Vec::new();
    let mut codes = Vec::with_capacity(values.len());
    let mut last = 0;
    for value in values {
        // Neighbours mostly agree.
        if distinct.get(last) != Some(value) {
            last = match distinct.iter().position(|known| known == value) {
                Some(code) => code,
                None => {
                    distinct.push(*value);
                    distinct.len() - 1
                }
            };
        }
        codes.push(u8::try_from(last).ok()?);
    }
    Some((distinct, codes))
}

fn read_column<T: Cell>(reader: &mut Reader<'_>, size: usize) -> Result<Column<T>, FormatError> {
    match reader.byte()? {
        0 => T::read(reader).map(Column::Same),
        1 => {
            let count = usize::from(reader.byte()?) + 1;
            let distinct: Vec<T> = (0..count)
                .map(|_| T::read(reader))
                .collect::<Result<_, _>>()?;
            let codes = reader.take(size)?;
            let value = |code: &u8| {
                let found = distinct.get(usize::from(*code)).copied();
                found.ok_or(FormatError::Range(u64::from(*code)))
            };
            codes
                .iter()
                .map(value)
                .collect::<Result<_, _>>()
                .map(Column::Each)
        }
        2 => (0..size)
            .map(|_| T::read(reader))
            .collect::<Result<_, _>>()
            .map(Column::Each),
        other => Err(FormatError::Form(other)),
    }
}

impl Slots {
    /// Packs the slots.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        out.push(VERSION);
        out.extend(self.size.to_le_bytes());
        write_column(&self.states, &mut out);
        write_column(&self.attempts, &mut out);
        write_column(&self.changed, &mut out);
        write_column(&self.due, &mut out);
        write_column(&self.adopted, &mut out);
        out
    }

    /// Unpacks the slots.
    ///
    /// # Errors
    ///
    /// Refuses bytes that `encode` of this or an earlier version did not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader(bytes);
        let version = reader.byte()?;
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let size = u16::from_le_bytes(reader.array()?);
        if size > BATCH_SIZE_MAX {
            return Err(FormatError::Size(size));
        }
        let places = usize::from(size);
        let slots = Self {
            size,
            states: read_column(&mut reader, places)?,
            attempts: read_column(&mut reader, places)?,
            changed: read_column(&mut reader, places)?,
            due: read_column(&mut reader, places)?,
            adopted: read_column(&mut reader, places)?,
        };
        reader.end()?;
        Ok(slots)
    }
}
