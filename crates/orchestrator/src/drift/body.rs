//! How the changes of one batch are kept until they are carried out.
//!
//! Version 1: `1`, how many (2 bytes), and per change the place (2) and the command (1): 0 again, 1 skip,
//! 2 depart, 3 transfer, 4 renew, 5 doubt; all little-endian.

use crate::ledger::codec::{FormatError, Reader};
use crate::ledger::{SlotCommand, SlotIndex};

const VERSION: u8 = 1;

/// The commands a measurement gives, in the order of their numbers.
const COMMANDS: [SlotCommand; 6] = [
    SlotCommand::Again,
    SlotCommand::Skip,
    SlotCommand::Depart,
    SlotCommand::Transfer,
    SlotCommand::Renew,
    SlotCommand::Doubt,
];

/// Packs the changes of one batch.
#[must_use]
pub fn encode(changes: &[(SlotIndex, SlotCommand)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 + changes.len() * 3);
    out.push(VERSION);
    out.extend(
        u16::try_from(changes.len())
            .unwrap_or(u16::MAX)
            .to_le_bytes(),
    );
    for (index, command) in changes {
        let number = COMMANDS.iter().position(|known| known == command);
        out.extend(index.0.to_le_bytes());
        out.push(
            number
                .and_then(|number| u8::try_from(number).ok())
                .unwrap_or(u8::MAX),
        );
    }
    out
}

/// Unpacks the changes of one batch.
///
/// # Errors
///
/// Refuses bytes that `encode` of this or an earlier version did not write.
pub fn decode(bytes: &[u8]) -> Result<Vec<(SlotIndex, SlotCommand)>, FormatError> {
    let mut reader = Reader(bytes);
    let version = reader.byte()?;
    if version != VERSION {
        return Err(FormatError::Version(version));
    }
    let count = u16::from_le_bytes(reader.array()?);
    let mut changes = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let index = SlotIndex(u16::from_le_bytes(reader.array()?));
        let number = reader.byte()?;
        let command = COMMANDS.get(usize::from(number));
        let command = command.ok_or(FormatError::Range(u64::from(number)))?;
        changes.push((index, *command));
    }
    reader.end()?;
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_version_1_decode_for_ever() {
        let changes: Vec<_> = (0..).map(SlotIndex).zip(COMMANDS).collect();
        let bytes = encode(&changes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "010600000000010001020002030003040004050005");
        assert_eq!(decode(&bytes).unwrap(), changes);
    }

    #[test]
    fn bytes_that_nobody_wrote_are_refused() {
        assert!(decode(&[]).is_err());
        assert!(decode(&[2, 0, 0]).is_err());
        assert!(decode(&[1, 1, 0, 0, 0, 6]).is_err());
        assert!(decode(&[1, 0, 0, 9]).is_err());
    }
}
