//! Reading the file of an import, on a thread of its own: hashed, packed into blocks, and told what is wrong.

use sha2::{Digest as _, Sha256};
use tidegate_orchestrator::digest::Digest;
use tokio::sync::mpsc;

use super::{BAD_ROWS_MAX, ImportOptions};
use crate::operations::OperationError;
use crate::source::block::Block;
use crate::source::mapping::Mapping;
use crate::source::pack::{Packed, Packer};
use crate::source::relay::relay;
use crate::source::rows::{RowsError, read};

/// Hashes what it passes on.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: std::io::Read> std::io::Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// What the reading thread comes back with.
pub(super) struct ReadFile {
    pub(super) packed: Packed,
    pub(super) source_digest: Digest,
    pub(super) gave_up: bool,
}

pub(super) fn read_file(
    stream: impl std::io::Read,
    mapping: Mapping,
    options: &ImportOptions,
    blocks: &mpsc::Sender<(u32, Block)>,
) -> Result<ReadFile, RowsError> {
    let mut hasher = Sha256::new();
    // The same bytes under another mapping are another import.
    hasher.update(serde_json::to_vec(&mapping).unwrap_or_default());
    let mut stream = Hashing {
        inner: stream,
        hasher,
    };
    let bad_rows_max = options.bad_rows_max.unwrap_or(BAD_ROWS_MAX);
    let mut packer = Packer::new(mapping, bad_rows_max, |number, block| {
        blocks.blocking_send((number, block)).is_ok()
    });
    let done = relay(&mut packer, |rows| {
        read(&mut stream, options.compression, options.format, rows)
    });
    if done.is_err() || packer.gave_up {
        // The rest is taken in and thrown away: a client that is cut off while it sends hears no reason.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }
    done?;
    let gave_up = packer.gave_up;
    let packed = packer.finish();
    // Whatever a compressor left after its end belongs to the file as well.
    std::io::copy(&mut stream, &mut std::io::sink())?;
    Ok(ReadFile {
        packed,
        source_digest: Digest(stream.hasher.finalize().into()),
        gave_up,
    })
}

/// Packs blocks for the store.
pub(in crate::operations) fn encode(
    blocks: &[(u32, Block)],
) -> std::io::Result<Vec<(u32, Vec<u8>)>> {
    blocks
        .iter()
        .map(|(number, block)| Ok((*number, block.encode()?)))
        .collect()
}

pub(super) fn refused_file(error: &RowsError) -> OperationError {
    match error {
        RowsError::Stream(_) => {
            OperationError::invalid("file_damaged", format!("{error}: nothing is published"))
        }
        RowsError::Head(_) => {
            OperationError::invalid("file_unusable", format!("{error}: nothing is published"))
        }
    }
}
