//! Who is who in two versions of a population: by directory id, and by nothing else.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use tidegate_orchestrator::ids::{Ordinal, PopulationVersionId};
use tidegate_orchestrator::population::Population;

use super::super::{OperationError, member};
use super::merge;
use crate::app::App;
use crate::source::block::{BLOCK_MEMBERS, Block};
use crate::store::StoreError;

/// How many blocks of people are unpacked at once.
const BLOCKS: u32 = 16;

/// Finds everybody of then among those of now, by directory id: where they are now, by ordinal of then.
///
/// Those of then are read in passing: to have the ids of two versions at once would be most of what a
/// measurement needs.
///
/// # Errors
///
/// When the store cannot be reached, or a block is missing or damaged.
pub(super) async fn matched(
    app: &App,
    then: PopulationVersionId,
    now: &Arc<Population>,
) -> Result<Vec<Option<Ordinal>>, OperationError> {
    let people = Arc::clone(now);
    let index = tokio::task::spawn_blocking(move || Index::of(people)).await;
    let index = Arc::new(index.map_err(StoreError::corrupt)?);
    let members = member::schema(app, then).await?.members;
    let count = u32::try_from(members.div_ceil(u64::from(BLOCK_MEMBERS))).unwrap_or(u32::MAX);
    let mut who = Vec::with_capacity(usize::try_from(members).unwrap_or(0));
    let mut from = 0;
    while from < count {
        let until = from.saturating_add(BLOCKS).min(count);
        let index = Arc::clone(&index);
        let find = move |block: &Block, who: &mut Vec<_>| index.find_all(block, who);
        who.extend(member::read_column(app, then, (from, until), 0, find).await?);
        from = until;
    }
    Ok(who)
}

/// Everybody of now by their directory id.
struct Index {
    people: Arc<Population>,
    hasher: foldhash::fast::FixedState,
    /// By hash of the id.
    known: Vec<(u64, u32)>,
}

impl Index {
    fn of(people: Arc<Population>) -> Self {
        let hasher = foldhash::fast::FixedState::default();
        let keys = people.keys().iter().zip(0..);
        let mut known: Vec<(u64, u32)> = keys
            .map(|(key, ordinal)| (hasher.hash_one(key), ordinal))
            .collect();
        known.sort_unstable();
        Self {
            people,
            hasher,
            known,
        }
    }

    fn find_all(&self, block: &Block, who: &mut Vec<Option<Ordinal>>) {
        let places = 0..usize::from(block.members);
        who.extend(places.map(|place| self.find(merge::key_of(block, place))));
    }

    fn find(&self, key: &str) -> Option<Ordinal> {
        let hash = self.hasher.hash_one(key);
        let from = self.known.partition_point(|(other, _)| *other < hash);
        let same = self.known.iter().skip(from);
        same.take_while(|(other, _)| *other == hash)
            .map(|(_, ordinal)| Ordinal(*ordinal))
            .find(|ordinal| self.people.key(*ordinal) == Some(key))
    }
}
