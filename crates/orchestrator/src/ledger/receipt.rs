//! What a target calls our people, packed: what a later move back, or a question, finds them by.
//!
//! Version 1: `1`, then for each person their place in the batch (2 bytes, little-endian), the length of
//! the name (1 byte) and the name. Several parts of one batch are kept side by side; the last one counts.

use super::{FormatError, SlotIndex};

const VERSION: u8 = 1;

/// Names longer than this are cut at a letter: ids of targets are short.
const NAME_BYTES_MAX: usize = 255;

/// Adds what the target calls one person.
pub fn push(receipt: &mut Vec<u8>, index: SlotIndex, name: &str) {
    if receipt.is_empty() {
        receipt.push(VERSION);
    }
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let name = name.get(..end).unwrap_or_default().as_bytes();
    receipt.extend(index.0.to_le_bytes());
    receipt.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    receipt.extend(name);
}

/// Reads a receipt back, in the order in which it was written.
///
/// # Errors
///
/// Refuses bytes that `push` of this or an earlier version did not write.
pub fn decode(bytes: &[u8]) -> Result<Vec<(SlotIndex, String)>, FormatError> {
    let (version, mut rest) = bytes.split_first().ok_or(FormatError::Truncated)?;
    if *version != VERSION {
        return Err(FormatError::Version(*version));
    }
    let mut names = Vec::new();
    while let Some((place, tail)) = rest.split_first_chunk::<2>() {
        let (length, tail) = tail.split_first().ok_or(FormatError::Truncated)?;
        let (name, tail) = tail
            .split_at_checked(usize::from(*length))
            .ok_or(FormatError::Truncated)?;
        let name = std::str::from_utf8(name).map_err(|_| FormatError::Truncated)?;
        names.push((SlotIndex(u16::from_le_bytes(*place)), name.to_owned()));
        rest = tail;
    }
    if rest.is_empty() {
        Ok(names)
    } else {
        Err(FormatError::Truncated)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes that version 1 wrote must decode for ever.
    #[test]
    fn a_receipt_of_version_1_decodes_for_ever() {
        let mut bytes = Vec::new();
        push(&mut bytes, SlotIndex(0), "u-1");
        push(&mut bytes, SlotIndex(1023), "zoë");
        assert_eq!(bytes, *b"\x01\x00\x00\x03u-1\xff\x03\x04zo\xc3\xab");
        let names = [
            (SlotIndex(0), "u-1".to_owned()),
            (SlotIndex(1023), "zoë".to_owned()),
        ];
        assert_eq!(decode(&bytes).unwrap(), names);
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_at_a_letter() {
        let mut bytes = Vec::new();
        push(&mut bytes, SlotIndex(7), &"ë".repeat(200));
        let names = decode(&bytes).unwrap();
        assert_eq!(names[0].1, "ë".repeat(127));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes);
        }
    }
}
