//! Good rows to packed blocks, with everything that is learned on the way: types, dictionaries, the
//! index of directory ids, digests, and what was wrong.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tidegate_orchestrator::digest::{Digest, DigestBuilder};
use tidegate_orchestrator::population::TextColumn;
use tidegate_policy::AttributeType;

use super::block::{BLOCK_MEMBERS, Block, BlockColumn};
use super::mapping::Mapping;
use super::rows::{BadRow, RowSink, RowsError};

/// A column with more distinct values than this is stored as it is.
const DICTIONARY_MAX: usize = 65_536;
/// A directory id longer than this is none.
const KEY_BYTES_MAX: usize = 256;
/// A value longer than this is refused.
const VALUE_BYTES_MAX: usize = 4096;
/// More columns than this are refused.
const COLUMNS_MAX: usize = 500;
/// How many bad rows are named one by one.
pub const BAD_ROWS_NAMED: usize = 100;

/// The first half of the SHA-256 of a directory id: what a member is found by.
pub type KeyDigest = [u8; 16];

/// Where each directory id is. Ids are looked up a million times an import; the hash need not be slow to
/// be safe, because its keys are digests.
pub type Found = HashMap<KeyDigest, u32, RandomState>;

/// Returns what a member is found by.
#[must_use]
pub fn key_digest(key: &str) -> KeyDigest {
    let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    digest.first_chunk().copied().unwrap_or_default()
}

/// A column as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ColumnInfo {
    /// The attribute.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub attribute_type: AttributeType,
    /// How many distinct values; at least this many when `is_plain`.
    pub distinct: u64,
    /// Whether it has so many that its values are stored as they are.
    #[serde(default)]
    pub is_plain: bool,
}

/// What was read, and what was wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Rows, good and bad.
    pub rows_read: u64,
    /// Rows that were left out.
    pub rows_bad: u64,
    /// The first of those.
    pub bad_rows: Vec<BadRow>,
}

#[derive(Debug)]
struct Column {
    header: String,
    attribute: String,
    said_type: Option<AttributeType>,
    /// Codes by value; `None` once there are too many values.
    codes: Option<HashMap<String, u32, RandomState>>,
    dictionary: Vec<String>,
    block: BlockColumn,
}

impl Column {
    fn new(
        header: &str,
        attribute: &str,
        said_type: Option<AttributeType>,
        members: usize,
    ) -> Self {
        Self {
            header: header.to_owned(),
            attribute: attribute.to_owned(),
            said_type,
            codes: Some(HashMap::default()),
            dictionary: Vec::new(),
            block: BlockColumn::Codes(vec![0; members]),
        }
    }

    fn push(&mut self, value: &str) {
        if value.is_empty() {
            match &mut self.block {
                BlockColumn::Codes(codes) => codes.push(0),
                BlockColumn::Plain(texts) => texts.push(""),
                BlockColumn::Empty => {}
            }
            return;
        }
        let code = self.code(value);
        match (&mut self.block, code) {
            (BlockColumn::Codes(codes), Some(code)) => codes.push(code),
            (BlockColumn::Plain(texts), _) => texts.push(value),
            (BlockColumn::Codes(_) | BlockColumn::Empty, _) => {
                self.unpack();
                if let BlockColumn::Plain(texts) = &mut self.block {
                    texts.push(value);
                }
            }
        }
    }

    /// Returns the code of a value; `None` when there are too many values.
    fn code(&mut self, value: &str) -> Option<u32> {
        let codes = self.codes.as_mut()?;
        if let Some(code) = codes.get(value) {
            return Some(*code);
        }
        if self.dictionary.len() >= DICTIONARY_MAX {
            self.codes = None;
            return None;
        }
        self.dictionary.push(value.to_owned());
        let code = u32::try_from(self.dictionary.len()).unwrap_or(u32::MAX);
        codes.insert(value.to_owned(), code);
        Some(code)
    }

    /// Turns the block's codes back into texts: the dictionary is full.
    fn unpack(&mut self) {
        if let BlockColumn::Codes(codes) = &self.block {
            let text = |code: &u32| {
                let place = usize::try_from(code.checked_sub(1)?).ok()?;
                self.dictionary.get(place).map(String::as_str)
            };
            let texts = codes.iter().map(|code| text(code).unwrap_or_default());
            self.block = BlockColumn::Plain(texts.collect());
        }
    }

    fn take_block(&mut self) -> BlockColumn {
        let next = if self.codes.is_some() {
            BlockColumn::Codes(Vec::new())
        } else {
            BlockColumn::Plain(TextColumn::default())
        };
        let block = std::mem::replace(&mut self.block, next);
        match &block {
            BlockColumn::Codes(codes) if codes.iter().all(|code| *code == 0) => BlockColumn::Empty,
            _ => block,
        }
    }

    fn attribute_type(&self) -> AttributeType {
        if let Some(said) = self.said_type {
            return said;
        }
        // A column with another value for nearly everybody is a name or a number of theirs, and stays text.
        let all = |is: fn(&str) -> bool| {
            self.codes.is_some()
                && !self.dictionary.is_empty()
                && self.dictionary.iter().all(|value| is(value))
        };
        let is_truth =
            |value: &str| matches!(value.to_ascii_lowercase().as_str(), "true" | "false");
        // `007` and `+1` are not: they would come out as other texts than they went in.
        let is_integer = |value: &str| {
            value
                .parse::<i64>()
                .is_ok_and(|number| number.to_string() == value)
        };
        if all(is_truth) {
            AttributeType::Boolean
        } else if all(|value| AttributeType::Date.parse(value).is_some()) {
            AttributeType::Date
        } else if all(is_integer) {
            AttributeType::Integer
        } else {
            AttributeType::Text
        }
    }
}

/// Packs rows and hands over each block as it is full.
pub struct Packer<F> {
    mapping: Mapping,
    bad_rows_max: u64,
    key_column: Option<usize>,
    /// By place in the row: the place among `columns`, or none for what is left out.
    places: Vec<Option<usize>>,
    columns: Vec<Column>,
    /// The places of `columns` in the order of their attributes' names, each with its place in the row.
    sorted: Vec<(usize, usize)>,
    keys: TextColumn,
    found: Found,
    content: u128,
    blocks: u32,
    emit: F,
    /// What was read.
    pub tally: Tally,
    /// Whether too many rows were bad, or whoever takes the blocks has gone.
    pub gave_up: bool,
}

impl<F> std::fmt::Debug for Packer<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer")
            .field("tally", &self.tally)
            .field("blocks", &self.blocks)
            .finish_non_exhaustive()
    }
}

/// Everything that is known when all rows are packed.
#[derive(Debug)]
pub struct Packed {
    /// What was read.
    pub tally: Tally,
    /// The columns, in the order in which blocks hold them.
    pub columns: Vec<ColumnInfo>,
    /// The dictionaries, in the same order.
    pub dictionaries: Vec<Vec<String>>,
    /// Where each directory id is.
    pub found: Found,
    /// What the content is known by, whatever the order of rows and columns.
    pub content_digest: Digest,
}

impl<F: FnMut(u32, Block) -> bool> Packer<F> {
    /// Begins to pack; `emit` takes each block by its number and says whether to go on.
    pub fn new(mapping: Mapping, bad_rows_max: u64, emit: F) -> Self {
        Self {
            mapping,
            bad_rows_max,
            key_column: None,
            places: Vec::new(),
            columns: Vec::new(),
            sorted: Vec::new(),
            keys: TextColumn::default(),
            found: Found::default(),
            content: 0,
            blocks: 0,
            emit,
            tally: Tally::default(),
            gave_up: false,
        }
    }

    /// Packs what is left and returns everything that was learned.
    pub fn finish(mut self) -> Packed {
        if !self.keys.is_empty() {
            self.flush();
        }
        let columns = self.columns.iter().map(|column| ColumnInfo {
            name: column.attribute.clone(),
            attribute_type: column.attribute_type(),
            distinct: u64::try_from(column.dictionary.len()).unwrap_or(u64::MAX),
            is_plain: column.codes.is_none(),
        });
        let columns: Vec<ColumnInfo> = columns.collect();
        let mut builder = DigestBuilder::default();
        builder.part(
            &u64::try_from(self.found.len())
                .unwrap_or(u64::MAX)
                .to_le_bytes(),
        );
        builder.part(&self.content.to_le_bytes());
        for (place, _) in &self.sorted {
            if let Some(column) = columns.get(*place) {
                builder.part(column.name.as_bytes());
                builder.part(column.attribute_type.name().as_bytes());
            }
        }
        Packed {
            tally: self.tally,
            content_digest: builder.finish(),
            dictionaries: self
                .columns
                .into_iter()
                .map(|column| column.dictionary)
                .collect(),
            columns,
            found: self.found,
        }
    }

    fn flush(&mut self) {
        let members = u16::try_from(self.keys.len()).unwrap_or(u16::MAX);
        let mut columns = vec![BlockColumn::Plain(std::mem::take(&mut self.keys))];
        columns.extend(self.columns.iter_mut().map(Column::take_block));
        if !(self.emit)(self.blocks, Block { members, columns }) {
            self.gave_up = true;
        }
        self.blocks += 1;
    }

    /// Returns what is wrong with a row, if anything is.
    fn check(&mut self, line: u64, key: &str, values: &[&str]) -> Option<BadRow> {
        if key.is_empty() {
            return Some(BadRow::new(
                line,
                "key_missing",
                format!("`{}` is empty: who is this?", self.mapping.key),
            ));
        }
        if key.len() > KEY_BYTES_MAX || key.trim() != key {
            return Some(BadRow::new(
                line,
                "key_unusable",
                format!("`{key}` is no directory id: too long, or blanks around it"),
            ));
        }
        for (value, place) in values.iter().zip(&self.places) {
            let Some(column) = place.and_then(|place| self.columns.get(place)) else {
                continue;
            };
            if value.len() > VALUE_BYTES_MAX {
                let message = format!("`{}` is longer than 4,096 bytes", column.header);
                return Some(BadRow::new(line, "value_too_long", message));
            }
            let fits = column
                .said_type
                .is_none_or(|said| value.is_empty() || said.parse(value).is_some());
            if !fits {
                let kind = column.said_type.map_or("", AttributeType::name);
                let message = format!("`{value}` in column `{}` is no {kind}", column.header);
                return Some(BadRow::new(line, "value_type", message));
            }
        }
        let next = u32::try_from(self.found.len()).unwrap_or(u32::MAX);
        match self.found.entry(key_digest(key)) {
            std::collections::hash_map::Entry::Occupied(_) => Some(BadRow::new(
                line,
                "key_duplicate",
                format!("`{key}` is there already, in an earlier row"),
            )),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(next);
                None
            }
        }
    }

    fn digest_row(&mut self, key: &str, values: &[&str]) {
        let mut hasher = Sha256::new();
        hasher.update(key.as_bytes());
        for (place, at) in &self.sorted {
            let value = values.get(*at).copied().unwrap_or_default();
            if let (false, Some(column)) = (value.is_empty(), self.columns.get(*place)) {
                hasher.update([0]);
                hasher.update(column.attribute.as_bytes());
                hasher.update([1]);
                hasher.update(value.as_bytes());
            }
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let half: [u8; 16] = digest.first_chunk().copied().unwrap_or_default();
        self.content = self.content.wrapping_add(u128::from_le_bytes(half));
    }
}

impl<F: FnMut(u32, Block) -> bool> RowSink for Packer<F> {
    fn columns(&mut self, names: &[String]) -> Result<(), RowsError> {
        if names.len() > COLUMNS_MAX {
            return Err(RowsError::Head(format!(
                "the file has {} columns; at most {COLUMNS_MAX} are read",
                names.len()
            )));
        }
        self.key_column = names.iter().position(|name| *name == self.mapping.key);
        if self.key_column.is_none() {
            let message = format!(
                "there is no column `{}` for the directory id; there are: {}. Say which one it is in the population's mapping",
                self.mapping.key,
                names.join(", ")
            );
            return Err(RowsError::Head(message));
        }
        for name in self
            .mapping
            .manager
            .iter()
            .chain(&self.mapping.keep_together)
        {
            if !names.contains(name) {
                return Err(RowsError::Head(format!(
                    "the mapping names column `{name}`, which the file does not have"
                )));
            }
        }
        for name in names.iter().skip(self.places.len()) {
            let attribute = self
                .mapping
                .attribute(name)
                .filter(|_| *name != self.mapping.key);
            let place = attribute.map(|attribute| {
                let said = self.mapping.attribute_type(name);
                self.columns
                    .push(Column::new(name, attribute, said, self.keys.len()));
                self.columns.len() - 1
            });
            self.places.push(place);
        }
        let places = self.places.iter().enumerate();
        self.sorted = places
            .filter_map(|(at, place)| place.map(|place| (place, at)))
            .collect();
        self.sorted.sort_by_cached_key(|(place, _)| {
            self.columns
                .get(*place)
                .map(|column| column.attribute.clone())
        });
        Ok(())
    }

    fn row(&mut self, line: u64, values: &[&str]) -> bool {
        let key = self
            .key_column
            .and_then(|place| values.get(place))
            .copied()
            .unwrap_or_default();
        if let Some(bad) = self.check(line, key, values) {
            return self.bad(bad);
        }
        self.tally.rows_read += 1;
        self.digest_row(key, values);
        self.keys.push(key);
        for (value, place) in values.iter().zip(&self.places) {
            if let Some(column) = place.and_then(|place| self.columns.get_mut(place)) {
                column.push(value);
            }
        }
        let is_full = u32::try_from(self.keys.len()).is_ok_and(|members| members >= BLOCK_MEMBERS);
        if is_full {
            self.flush();
        }
        !self.gave_up
    }

    fn bad(&mut self, row: BadRow) -> bool {
        self.tally.rows_read += 1;
        self.tally.rows_bad += 1;
        if self.tally.bad_rows.len() < BAD_ROWS_NAMED {
            self.tally.bad_rows.push(row);
        }
        if self.tally.rows_bad > self.bad_rows_max {
            self.gave_up = true;
        }
        !self.gave_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::rows::{Compression, RowFormat, read};

    fn packed(text: &str, mapping: Mapping) -> (Packed, Vec<Block>) {
        let mut blocks = Vec::new();
        let mut packer = Packer::new(mapping, 1000, |_, block: Block| {
            let bytes = block.encode().unwrap();
            blocks.push(Block::decode(&bytes).unwrap());
            true
        });
        read(
            text.as_bytes(),
            Compression::None,
            RowFormat::Csv,
            &mut packer,
        )
        .unwrap();
        (packer.finish(), blocks)
    }

    #[test]
    fn types_are_found_out_and_bad_rows_are_named() {
        let text = "employee_id,active,start,level,grade,zip\ne1,true,2020-01-01,7,-7,10115\n,true,2020-01-01,1,1,1\ne1,false,2020-01-01,1,1,1\ne2,false,2021-05-05,x,12,01067\n";
        let (packed, blocks) = packed(text, Mapping::default());
        let types: Vec<_> = packed
            .columns
            .iter()
            .map(|column| column.attribute_type)
            .collect();
        assert_eq!(
            types,
            [
                AttributeType::Boolean,
                AttributeType::Date,
                AttributeType::Text,
                AttributeType::Integer,
                AttributeType::Text
            ]
        );
        let bad: Vec<_> = packed
            .tally
            .bad_rows
            .iter()
            .map(|row| (row.line, row.code.as_str()))
            .collect();
        assert_eq!(bad, [(3, "key_missing"), (4, "key_duplicate")]);
        assert_eq!(blocks[0].members, 2);
    }

    #[test]
    fn the_content_is_known_whatever_the_order_of_rows_and_columns() {
        let (one, _) = packed("employee_id,a,b\ne1,x,y\ne2,,z\n", Mapping::default());
        let (other, _) = packed("b,employee_id,a\nz,e2,\ny,e1,x\n", Mapping::default());
        let (changed, _) = packed("b,employee_id,a\nz,e2,\ny,e1,X\n", Mapping::default());
        assert_eq!(one.content_digest, other.content_digest);
        assert_ne!(one.content_digest, changed.content_digest);
    }

    #[test]
    fn a_column_with_too_many_values_is_stored_as_it_is() {
        let mut text = String::from("employee_id,mail,country\n");
        for number in 0..70_000 {
            text.push_str(&format!("e{number},m{number},DE\n"));
        }
        let (packed, blocks) = packed(&text, Mapping::default());
        assert!(packed.columns[0].is_plain && !packed.columns[1].is_plain);
        assert!(matches!(blocks[0].columns[1], BlockColumn::Codes(_)));
        let BlockColumn::Plain(texts) = &blocks[17].columns[1] else {
            panic!("codes")
        };
        assert_eq!(texts.get(0), Some(format!("m{}", 17 * 4096).as_str()));
        // The block in which the dictionary ran full holds texts from its first row on.
        let BlockColumn::Plain(texts) = &blocks[16].columns[1] else {
            panic!("codes")
        };
        assert_eq!(texts.get(0), Some(format!("m{}", 16 * 4096).as_str()));
        assert!(matches!(blocks[17].columns[2], BlockColumn::Codes(_)));
    }

    #[test]
    fn a_file_without_the_column_of_the_id_is_refused_with_those_there_are() {
        let mut packer = Packer::new(Mapping::default(), 10, |_, _: Block| true);
        let refused = read(
            &b"id,name\n1,x\n"[..],
            Compression::None,
            RowFormat::Csv,
            &mut packer,
        );
        let message = refused.unwrap_err().to_string();
        assert!(
            message.contains("no column `employee_id`") && message.contains("there are: id, name"),
            "{message}"
        );
    }
}
