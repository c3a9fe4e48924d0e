//! One version of the population out of two: the people of then in their old places, with what is known of
//! them now, and after them those who are new.
//!
//! So every ordinal that the ledger, its failures and its receipts know stays true, and whoever has left
//! is still found by their directory id.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_orchestrator::ids::{Ordinal, PopulationVersionId};
use tidegate_policy::AttributeType;
use tokio::sync::mpsc;

use super::super::OperationError;
use super::super::import::{self, index};
use super::super::member::{self, Schema};
use crate::app::App;
use crate::source::block::{BLOCK_MEMBERS, Block, BlockColumn};
use crate::source::mapping::Mapping;
use crate::source::pack::{Packed, Packer};
use crate::source::rows::RowSink as _;
use crate::store::population::{self as rows, VersionRow};
use crate::store::{Lane, StoreError, transact};

/// How many unpacked blocks of the new version are kept at first. A file in the order of the last one, as
/// most are, needs two; one in any other order makes room for all of them.
const BLOCKS_KEPT: usize = 16;
/// How many blocks one transaction writes.
const BLOCKS_PER_TXN: usize = 8;
/// How many full blocks wait to be written while the next are packed.
const BLOCKS_WAITING: usize = 8;
/// The header of the directory id, which is no attribute's name.
const KEY: &str = "\u{1}key";

/// Two versions, and who is who.
#[derive(Debug, Clone)]
pub(super) struct Both {
    pub(super) then: PopulationVersionId,
    pub(super) now: PopulationVersionId,
    /// By ordinal of then.
    pub(super) who: Arc<Vec<Option<Ordinal>>>,
}

/// The blocks of the new version, as they are asked for.
struct Kept {
    version: PopulationVersionId,
    blocks: HashMap<u32, Arc<Block>>,
    most: usize,
    missed: usize,
    count: usize,
}

impl Kept {
    async fn block(&mut self, app: &App, number: u32) -> Result<Arc<Block>, StoreError> {
        if let Some(block) = self.blocks.get(&number) {
            return Ok(Arc::clone(block));
        }
        self.missed += 1;
        if self.missed > self.count.saturating_mul(3) {
            self.most = usize::MAX;
        }
        if self.blocks.len() >= self.most {
            // What lies behind is not asked for again by a file in order.
            let oldest = self.blocks.keys().min().copied();
            oldest.map(|number| self.blocks.remove(&number));
        }
        let read = member::blocks(app, self.version, (number, number.saturating_add(1))).await?;
        let block = read.into_iter().next().ok_or(StoreError::NotFound)?;
        let block = Arc::new(block);
        self.blocks.insert(number, Arc::clone(&block));
        Ok(block)
    }
}

/// Writes the version of both, named `id`, and returns how many people it has.
///
/// # Errors
///
/// When the store cannot be reached or a block is damaged.
pub(super) async fn write(
    app: &App,
    id: PopulationVersionId,
    both: &Both,
) -> Result<u64, OperationError> {
    let then = member::schema(app, both.then).await?;
    let now = member::schema(app, both.now).await?;
    let row = rows::version_load(app.store.read(), both.now).await?;
    let staged: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "drift_stage", |txn| {
            let at = txn.now();
            rows::version_stage(txn, id, row.population, at).await
        });
    staged?;
    let (sender, receiver) = mpsc::channel(BLOCKS_WAITING);
    let (reader, both) = (app.clone(), both.clone());
    let here = tokio::runtime::Handle::current();
    // On a thread of its own: meanwhile what is full is written.
    let packing = tokio::task::spawn_blocking(move || {
        here.block_on(pack(&reader, &both, (&then, &now), &sender))
    });
    write_blocks(app, id, receiver).await?;
    let packed = packing.await.map_err(StoreError::corrupt)??;
    publish(app, id, &row, packed).await
}

/// Takes every column as it is called, and finds the types out again.
fn mapping() -> Mapping {
    Mapping {
        key: KEY.to_owned(),
        ..Mapping::default()
    }
}

/// Packs everybody, as long as somebody takes the blocks.
async fn pack(
    app: &App,
    both: &Both,
    (then, now): (&Schema, &Schema),
    writer: &mpsc::Sender<(u32, Block)>,
) -> Result<Packed, OperationError> {
    // The blocks that are full, until they are handed over.
    let full = std::sync::Mutex::new(Vec::new());
    let mut packer = Packer::new(mapping(), 0, |number, block: Block| {
        let mut full = full
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        full.push((number, block));
        true
    });
    let mut names = vec![KEY.to_owned()];
    names.extend(now.columns.iter().map(|column| column.name.clone()));
    packer.columns(&names).map_err(StoreError::corrupt)?;
    let mut line = 0;
    let blocks = |members: u64| {
        u32::try_from(members.div_ceil(u64::from(BLOCK_MEMBERS))).unwrap_or(u32::MAX)
    };
    let mut kept = Kept {
        version: both.now,
        blocks: HashMap::new(),
        most: BLOCKS_KEPT,
        missed: 0,
        count: usize::try_from(blocks(now.members)).unwrap_or(usize::MAX),
    };
    let places = same_columns(then, now);
    for number in 0..blocks(then.members) {
        let old = member::blocks(app, both.then, (number, number.saturating_add(1))).await?;
        let old = old.first().ok_or(StoreError::NotFound)?;
        for place in 0..usize::from(old.members) {
            let ordinal = usize::try_from(number * BLOCK_MEMBERS).unwrap_or(usize::MAX) + place;
            line += 1;
            match both.who.get(ordinal).copied().flatten() {
                Some(person) => {
                    let block = kept.block(app, person.get() / BLOCK_MEMBERS).await?;
                    let at = usize::try_from(person.get() % BLOCK_MEMBERS).unwrap_or(0);
                    packer.row(line, &of_now(now, &block, at));
                }
                None => {
                    packer.row(line, &of_then((then, now), old, place, &places));
                }
            }
        }
        hand_over(writer, &full).await?;
    }
    let is_known = known(&both.who, now.members);
    for number in 0..blocks(now.members) {
        let new = kept.block(app, number).await?;
        for place in 0..usize::from(new.members) {
            let ordinal = usize::try_from(number * BLOCK_MEMBERS).unwrap_or(usize::MAX) + place;
            if !is_known.get(ordinal).copied().unwrap_or(true) {
                line += 1;
                packer.row(line, &of_now(now, &new, place));
            }
        }
        hand_over(writer, &full).await?;
    }
    let packed = packer.finish();
    hand_over(writer, &full).await?;
    if packed.tally.rows_bad > 0 || u64::try_from(packed.found.len()).ok() != Some(line) {
        let why = format!(
            "{} of {line} people could not be taken over",
            packed.tally.rows_bad
        );
        return Err(StoreError::corrupt(why).into());
    }
    Ok(packed)
}

/// By ordinal of now: whether they were there then.
fn known(who: &[Option<Ordinal>], members: u64) -> Vec<bool> {
    let mut is_known = vec![false; usize::try_from(members).unwrap_or(0)];
    for person in who.iter().flatten() {
        let place = usize::try_from(person.get()).ok();
        if let Some(known) = place.and_then(|at| is_known.get_mut(at)) {
            *known = true;
        }
    }
    is_known
}

/// By column of now: the place of the same column of then.
fn same_columns(then: &Schema, now: &Schema) -> Vec<Option<usize>> {
    let place = |name: &str| then.columns.iter().position(|column| column.name == name);
    now.columns
        .iter()
        .map(|column| place(&column.name))
        .collect()
}

/// Returns the directory id of the person at a place of a block.
pub(super) fn key_of(block: &Block, place: usize) -> &str {
    match block.columns.first() {
        Some(BlockColumn::Plain(keys)) => keys.get(place).unwrap_or_default(),
        _ => "",
    }
}

fn of_now<'a>(schema: &'a Schema, block: &'a Block, place: usize) -> Vec<&'a str> {
    let values = (0..schema.columns.len()).map(|column| schema.value(block, column, place));
    let key = std::iter::once(key_of(block, place));
    key.chain(values.map(Option::unwrap_or_default)).collect()
}

/// What was known of somebody who has left. A value that its column could not hold now is left out: it must
/// not change the type that the column has for everybody else.
fn of_then<'a>(
    (then, now): (&'a Schema, &Schema),
    block: &'a Block,
    place: usize,
    places: &[Option<usize>],
) -> Vec<&'a str> {
    let value = |(column, at): (&crate::source::pack::ColumnInfo, &Option<usize>)| {
        let value = at
            .and_then(|at| then.value(block, at, place))
            .unwrap_or_default();
        let fits = column.attribute_type == AttributeType::Text
            || column.attribute_type == AttributeType::Reference
            || column.attribute_type.parse(value).is_some();
        if fits { value } else { "" }
    };
    let key = std::iter::once(key_of(block, place));
    key.chain(now.columns.iter().zip(places).map(value))
        .collect()
}

/// Hands over what is full to whoever writes it.
async fn hand_over(
    writer: &mpsc::Sender<(u32, Block)>,
    full: &std::sync::Mutex<Vec<(u32, Block)>>,
) -> Result<(), OperationError> {
    let taken = {
        let mut full = full
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::take(&mut *full)
    };
    for block in taken {
        // Nobody writes any more: they say why, or nobody asks for it.
        writer.send(block).await.map_err(StoreError::corrupt)?;
    }
    Ok(())
}

/// Writes blocks as they come.
async fn write_blocks(
    app: &App,
    id: PopulationVersionId,
    mut full: mpsc::Receiver<(u32, Block)>,
) -> Result<(), OperationError> {
    let mut blocks = Vec::with_capacity(BLOCKS_PER_TXN);
    while full.recv_many(&mut blocks, BLOCKS_PER_TXN).await > 0 {
        let taken = std::mem::take(&mut blocks);
        let encoding = tokio::task::spawn_blocking(move || import::encode(&taken));
        let packed = encoding.await.map_err(StoreError::corrupt)?;
        let packed = packed.map_err(StoreError::corrupt)?;
        let written: Result<(), StoreError> =
            transact!(app.store, Lane::Ordinary, "drift_blocks", |txn| {
                rows::blocks_insert(txn, id, &packed).await
            });
        written?;
    }
    Ok(())
}

async fn publish(
    app: &App,
    id: PopulationVersionId,
    now: &VersionRow,
    mut packed: Packed,
) -> Result<u64, OperationError> {
    index::write(app, id, &packed.found).await?;
    let known: Vec<crate::source::pack::ColumnInfo> =
        serde_json::from_str(&now.columns).map_err(StoreError::corrupt)?;
    for column in &mut packed.columns {
        // Types are those of the version that was imported, as its mapping says or its values did.
        if let Some(known) = known.iter().find(|known| known.name == column.name) {
            column.attribute_type = known.attribute_type;
        }
    }
    for (column, values) in packed.columns.iter().zip(&packed.dictionaries) {
        let written: Result<(), StoreError> =
            transact!(app.store, Lane::Ordinary, "drift_dictionary", |txn| {
                rows::dictionary_insert(txn, id, &column.name, values).await
            });
        written?;
    }
    let version = VersionRow {
        id,
        members: u64::try_from(packed.found.len()).unwrap_or(u64::MAX),
        source_digest: None,
        content_digest: Some(packed.content_digest.to_string()),
        columns: serde_json::to_string(&packed.columns).map_err(StoreError::corrupt)?,
        ..now.clone()
    };
    let written: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "drift_derive", |txn| {
            let at = txn.now();
            rows::version_derive(txn, &version, at).await
        });
    written?;
    Ok(version.members)
}
