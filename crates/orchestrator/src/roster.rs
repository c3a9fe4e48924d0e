//! Rosters: the frozen membership of a wave, as ascending member ordinals, cut into batches.
//!
//! Byte format, version 1: `1`, the number of members (2 bytes little-endian), the first ordinal as a
//! LEB128 varint, then the distance to each next one, less one. Neighbours cost one byte each.

use crate::ids::Ordinal;
use crate::ledger::BATCH_SIZE_MAX;
use crate::ledger::codec::{FormatError, Reader};

const VERSION: u8 = 1;

/// Cuts the members of a wave, in ascending order, into batches.
pub fn cut(ordinals: &[Ordinal]) -> impl Iterator<Item = &[Ordinal]> {
    ordinals.chunks(usize::from(BATCH_SIZE_MAX))
}

/// Packs at most 1,024 ascending ordinals.
///
/// # Errors
///
/// Refuses ordinals that do not grow, and too many.
pub fn encode(ordinals: &[Ordinal]) -> Result<Vec<u8>, FormatError> {
    let size = u16::try_from(ordinals.len()).unwrap_or(u16::MAX);
    if size > BATCH_SIZE_MAX {
        return Err(FormatError::Size(size));
    }
    let mut out = Vec::with_capacity(ordinals.len() + 8);
    out.push(VERSION);
    out.extend(size.to_le_bytes());
    let mut next = 0;
    for ordinal in ordinals {
        let step = ordinal.get().checked_sub(next).ok_or(FormatError::Order)?;
        push_varint(&mut out, step);
        next = ordinal.get().checked_add(1).ok_or(FormatError::Order)?;
    }
    Ok(out)
}

/// Unpacks a roster.
///
/// # Errors
///
/// Refuses bytes that `encode` of this or an earlier version did not write.
pub fn decode(bytes: &[u8]) -> Result<Vec<Ordinal>, FormatError> {
    let mut reader = Reader(bytes);
    let version = reader.byte()?;
    if version != VERSION {
        return Err(FormatError::Version(version));
    }
    let size = u16::from_le_bytes(reader.array()?);
    if size > BATCH_SIZE_MAX {
        return Err(FormatError::Size(size));
    }
    let mut ordinals = Vec::with_capacity(usize::from(size));
    let mut next: u32 = 0;
    for _ in 0..size {
        let ordinal = next
            .checked_add(read_varint(&mut reader)?)
            .ok_or(FormatError::Order)?;
        ordinals.push(Ordinal(ordinal));
        next = ordinal.checked_add(1).ok_or(FormatError::Order)?;
    }
    reader.end()?;
    Ok(ordinals)
}

fn push_varint(out: &mut Vec<u8>, mut number: u32) {
    loop {
        let [low, ..] = (number & 0x7f).to_le_bytes();
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn read_varint(reader: &mut Reader<'_>) -> Result<u32, FormatError> {
    let mut number: u64 = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = reader.byte()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(number).map_err(|_| FormatError::Range(number));
        }
    }
    Err(FormatError::Range(number))
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_roster_reads_back(ordinals in btree_set(0u32..u32::MAX, 0..1024)) {
            let ordinals: Vec<Ordinal> = ordinals.into_iter().map(Ordinal).collect();
            let bytes = encode(&ordinals).unwrap();
            prop_assert_eq!(decode(&bytes).unwrap(), ordinals);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(ordinals) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&ordinals).unwrap()).unwrap(), ordinals);
            }
        }
    }

    /// The bytes that version 1 wrote must decode for ever.
    #[test]
    fn a_roster_of_version_1_decodes_for_ever() {
        let people: Vec<Ordinal> = [0, 1, 5, 1_499_999, 4_000_000_000].map(Ordinal).into();
        let bytes = encode(&people).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "010500000003d9c65ba089d1f20e");
        assert_eq!(decode(&bytes).unwrap(), people);
    }

    #[test]
    fn neighbours_cost_a_byte_each() {
        let ordinals: Vec<Ordinal> = (5000..6024).map(Ordinal).collect();
        assert_eq!(encode(&ordinals).unwrap().len(), 3 + 2 + 1023);
    }

    #[test]
    fn ordinals_that_do_not_grow_are_refused() {
        assert_eq!(encode(&[Ordinal(2), Ordinal(2)]), Err(FormatError::Order));
        assert_eq!(encode(&[Ordinal(u32::MAX)]), Err(FormatError::Order));
        assert!(matches!(
            encode(&vec![Ordinal(0); 1025]),
            Err(FormatError::Size(1025))
        ));
    }

    #[test]
    fn a_wave_is_cut_into_batches_of_1024() {
        let ordinals: Vec<Ordinal> = (0..2500).map(Ordinal).collect();
        let sizes: Vec<usize> = cut(&ordinals).map(<[Ordinal]>::len).collect();
        assert_eq!(sizes, [1024, 1024, 452]);
    }
}
