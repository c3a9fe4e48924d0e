//! The index of directory ids of a version: sorted digests with their ordinals, in buckets.

use tidegate_orchestrator::ids::PopulationVersionId;

use crate::app::App;
use crate::operations::member::bucket_of;
use crate::source::pack::{Found, KeyDigest};
use crate::store::population as rows;
use crate::store::{Lane, StoreError, transact};

/// How many buckets one transaction writes.
const BUCKETS_PER_TXN: usize = 32;

/// Writes where each directory id of a version is.
///
/// # Errors
///
/// When the store cannot be reached.
pub(in crate::operations) async fn write(
    app: &App,
    version: PopulationVersionId,
    found: &Found,
) -> Result<(), StoreError> {
    let members = u64::try_from(found.len()).unwrap_or(u64::MAX);
    let mut entries: Vec<(KeyDigest, u32)> = found
        .iter()
        .map(|(digest, ordinal)| (*digest, *ordinal))
        .collect();
    entries.sort_unstable();
    let mut buckets: Vec<(u32, Vec<u8>)> = Vec::new();
    for (digest, ordinal) in entries {
        let bucket = bucket_of(&digest, members);
        let is_same = buckets.last().is_some_and(|(last, _)| *last == bucket);
        if !is_same {
            if buckets.len() >= BUCKETS_PER_TXN {
                write_buckets(app, version, &buckets).await?;
                buckets.clear();
            }
            buckets.push((bucket, Vec::with_capacity(2048 * 20)));
        }
        if let Some((_, body)) = buckets.last_mut() {
            body.extend(digest);
            body.extend(ordinal.to_le_bytes());
        }
    }
    write_buckets(app, version, &buckets).await
}

async fn write_buckets(
    app: &App,
    version: PopulationVersionId,
    buckets: &[(u32, Vec<u8>)],
) -> Result<(), StoreError> {
    transact!(app.store, Lane::Ordinary, "import_index", |txn| {
        rows::keys_insert(txn, version, buckets).await
    })
}
