//! The frozen byte format of 4,096 members, column by column, version 1.
//!
//! `1`, then zstd of: number of members (2 bytes), number of columns (2), and per column a form and its
//! values. Form 0: length (varint) and bytes of each value, one after the other. Form 1: a 4-byte
//! code per member into the dictionary of the attribute, 0 for no value. Form 2: nobody has a value.
//! The first column holds the directory ids. All numbers are little-endian.

use tidegate_orchestrator::ledger::FormatError;
use tidegate_orchestrator::population::TextColumn;

/// How many members a block holds.
pub const BLOCK_MEMBERS: u32 = 4096;

const VERSION: u8 = 1;

/// No block unpacks to more than this.
const BYTES_MAX: usize = 64 << 20;

/// One column of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockColumn {
    /// Texts as they are; an empty one is a missing value.
    Plain(TextColumn),
    /// Codes into a dictionary.
    Codes(Vec<u32>),
    /// Nobody has a value.
    Empty,
}

/// Up to 4,096 members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// How many.
    pub members: u16,
    /// The directory ids, then one column per attribute.
    pub columns: Vec<BlockColumn>,
}

fn varint(out: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (head, tail) = self
            .0
            .split_at_checked(count)
            .ok_or(FormatError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        self.take(N)?.try_into().map_err(|_| FormatError::Truncated)
    }

    fn varint(&mut self) -> Result<usize, FormatError> {
        let mut number: u64 = 0;
        for shift in [0, 7, 14, 21] {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(number).map_err(|_| FormatError::Range(number));
            }
        }
        Err(FormatError::Range(number))
    }
}

impl Block {
    /// Packs the block.
    ///
    /// # Errors
    ///
    /// When it cannot be compressed.
    pub fn encode(&self) -> std::io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(usize::from(self.members) * 64);
        plain.extend(self.members.to_le_bytes());
        plain.extend(
            u16::try_from(self.columns.len())
                .unwrap_or(u16::MAX)
                .to_le_bytes(),
        );
        for column in &self.columns {
            match column {
                BlockColumn::Plain(texts) => {
                    plain.push(0);
                    for text in texts.iter() {
                        varint(&mut plain, text.len());
                        plain.extend(text.as_bytes());
                    }
                }
                BlockColumn::Codes(codes) => {
                    plain.push(1);
                    for code in codes {
                        plain.extend(code.to_le_bytes());
                    }
                }
                BlockColumn::Empty => plain.push(2),
            }
        }
        let mut out = vec![VERSION];
        out.extend(zstd::bulk::compress(&plain, 1)?);
        Ok(out)
    }

    /// Unpacks a block.
    ///
    /// # Errors
    ///
    /// Refuses bytes that `encode` of this or an earlier version did not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::decode_part(bytes, |_| true, |_| true)
    }

    /// Unpacks some columns of a block; nobody has a value in the others.
    ///
    /// # Errors
    ///
    /// Refuses bytes that `encode` of this or an earlier version did not write.
    pub fn decode_columns(
        bytes: &[u8],
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Self, FormatError> {
        Self::decode_part(bytes, |_| true, wanted)
    }

    /// Unpacks one member of a block, which comes as a block of its own: nobody pays for the others.
    ///
    /// # Errors
    ///
    /// Refuses bytes that `encode` of this or an earlier version did not write.
    pub fn decode_one(bytes: &[u8], place: u16) -> Result<Self, FormatError> {
        Self::decode_part(bytes, |found| found == place, |_| true)
    }

    fn decode_part(
        bytes: &[u8],
        wanted: impl Fn(u16) -> bool,
        is_read: impl Fn(usize) -> bool,
    ) -> Result<Self, FormatError> {
        let (version, packed) = bytes.split_first().ok_or(FormatError::Truncated)?;
        if *version != VERSION {
            return Err(FormatError::Version(*version));
        }
        let plain =
            zstd::bulk::decompress(packed, BYTES_MAX).map_err(|_| FormatError::Truncated)?;
        let mut reader = Reader(&plain);
        let members = u16::from_le_bytes(reader.array()?);
        let places: Vec<bool> = (0..members).map(wanted).collect();
        let kept = places.iter().filter(|wanted| **wanted).count();
        let count = u16::from_le_bytes(reader.array()?);
        let mut columns = Vec::with_capacity(usize::from(count));
        for column in 0..usize::from(count) {
            let [form] = reader.array()?;
            columns.push(match form {
                0 | 1 if !is_read(column) => {
                    pass_over(&mut reader, form, members)?;
                    BlockColumn::Empty
                }
                0 => BlockColumn::Plain(texts(&mut reader, &places, kept)?),
                1 => BlockColumn::Codes(codes(&mut reader, &places, kept)?),
                2 => BlockColumn::Empty,
                other => return Err(FormatError::Form(other)),
            });
        }
        if reader.0.is_empty() {
            let members = u16::try_from(kept).unwrap_or(members);
            Ok(Self { members, columns })
        } else {
            Err(FormatError::Trailing(reader.0.len()))
        }
    }
}

/// Leaves a column out: texts, or codes.
fn pass_over(reader: &mut Reader<'_>, form: u8, members: u16) -> Result<(), FormatError> {
    if form == 1 {
        reader.take(usize::from(members) * 4)?;
        return Ok(());
    }
    for _ in 0..members {
        let length = reader.varint()?;
        reader.take(length)?;
    }
    Ok(())
}

fn texts(reader: &mut Reader<'_>, places: &[bool], kept: usize) -> Result<TextColumn, FormatError> {
    let mut column = TextColumn::with_capacity(kept, kept * 16);
    for wanted in places {
        let length = reader.varint()?;
        let bytes = reader.take(length)?;
        if *wanted {
            column.push(std::str::from_utf8(bytes).map_err(|_| FormatError::Truncated)?);
        }
    }
    Ok(column)
}

fn codes(reader: &mut Reader<'_>, places: &[bool], kept: usize) -> Result<Vec<u32>, FormatError> {
    let mut codes = Vec::with_capacity(kept);
    for wanted in places {
        let code = reader.array().map(u32::from_le_bytes)?;
        if *wanted {
            codes.push(code);
        }
    }
    Ok(codes)
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, FormatError> {
    let length = reader.varint()?;
    let bytes = reader.take(length)?;
    std::str::from_utf8(bytes).map_err(|_| FormatError::Truncated)
}

/// Packs a list of texts, such as a part of a dictionary: `1`, then length and bytes of each.
#[must_use]
pub fn encode_texts<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut out = vec![VERSION];
    for text in texts {
        varint(&mut out, text.len());
        out.extend(text.as_bytes());
    }
    out
}

/// Unpacks a list of texts.
///
/// # Errors
///
/// Refuses bytes that `encode_texts` did not write.
pub fn decode_texts(bytes: &[u8]) -> Result<Vec<String>, FormatError> {
    let (version, packed) = bytes.split_first().ok_or(FormatError::Truncated)?;
    if *version != VERSION {
        return Err(FormatError::Version(*version));
    }
    let mut reader = Reader(packed);
    let mut texts = Vec::new();
    while !reader.0.is_empty() {
        texts.push(text(&mut reader)?.to_owned());
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn one_member_of_a_block_reads_as_in_the_whole(texts in prop::collection::vec(".{0,12}", 1..50), place in any::<prop::sample::Index>()) {
            let members = texts.len();
            let block = Block {
                members: u16::try_from(members).unwrap(),
                columns: vec![
                    BlockColumn::Plain(texts.iter().map(String::as_str).collect()),
                    BlockColumn::Codes((0..).take(members).collect()),
                    BlockColumn::Empty,
                ],
            };
            let place = place.index(members);
            let one = Block::decode_one(&block.encode().unwrap(), u16::try_from(place).unwrap()).unwrap();
            let expected = vec![
                BlockColumn::Plain(std::iter::once(texts[place].as_str()).collect()),
                BlockColumn::Codes(vec![u32::try_from(place).unwrap()]),
                BlockColumn::Empty,
            ];
            prop_assert_eq!(one, Block { members: 1, columns: expected });
        }

        #[test]
        fn a_block_reads_back(texts in prop::collection::vec(".{0,12}", 0..50), codes in prop::collection::vec(any::<u32>(), 0..50)) {
            let members = texts.len().min(codes.len());
            let block = Block {
                members: u16::try_from(members).unwrap(),
                columns: vec![
                    BlockColumn::Plain(texts[..members].iter().map(String::as_str).collect()),
                    BlockColumn::Codes(codes[..members].to_vec()),
                    BlockColumn::Empty,
                ],
            };
            let bytes = block.encode().unwrap();
            for only in 0..2 {
                let some = Block::decode_columns(&bytes, |column| column == only).unwrap();
                let of = |(place, column): (usize, &BlockColumn)| {
                    if place == only { column.clone() } else { BlockColumn::Empty }
                };
                let expected: Vec<BlockColumn> = block.columns.iter().enumerate().map(of).collect();
                prop_assert_eq!(some.columns, expected);
            }
            prop_assert_eq!(Block::decode(&bytes).unwrap(), block);
            prop_assert_eq!(decode_texts(&encode_texts(texts.iter().map(String::as_str))).unwrap(), texts);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Block::decode(&bytes);
            let _ = decode_texts(&bytes);
        }
    }

    #[test]
    fn texts_of_version_1_decode_for_ever() {
        let bytes = encode_texts(["DE", "", "zoë"].into_iter());
        assert_eq!(bytes, *b"\x01\x02DE\x00\x04zo\xc3\xab");
        assert_eq!(decode_texts(&bytes).unwrap(), ["DE", "", "zoë"]);
    }

    /// The bytes that version 1 wrote must decode for ever.
    #[test]
    fn a_block_of_version_1_decodes_for_ever() {
        let block = Block {
            members: 2,
            columns: vec![
                BlockColumn::Plain(["e1", "zoë"].into_iter().collect()),
                BlockColumn::Codes(vec![0, 7]),
                BlockColumn::Empty,
            ],
        };
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/records/v1/population_block.bin"
        );
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(path, block.encode().unwrap()).unwrap();
        }
        assert_eq!(Block::decode(&std::fs::read(path).unwrap()).unwrap(), block);
    }
}
