//! Members: one by directory id, many by ordinal, and all of them as columns for a plan.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::ids::{Ordinal, PopulationVersionId};
use tidegate_orchestrator::population::{Column, Population, TextColumn};
use tidegate_policy::{AttributeType, AttributeValue};

use super::{OperationError, population};
use crate::app::App;
use crate::source::block::{BLOCK_MEMBERS, Block, BlockColumn};
use crate::source::pack::{ColumnInfo, KeyDigest, key_digest};
use crate::store::StoreError;
use crate::store::population as rows;

/// How many unpacked blocks are remembered: a batch of a wave that takes one in ten spans three.
const BLOCKS_REMEMBERED: usize = 12;
/// How many blocks one read brings.
const BLOCKS_PER_READ: u32 = 16;

/// One member as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MemberView {
    /// The directory id.
    pub key: String,
    /// The row in the version.
    pub ordinal: u32,
    /// What is known of them.
    #[schema(value_type = Object)]
    pub attributes: BTreeMap<String, serde_json::Value>,
    /// The number of the version.
    pub version: i64,
}

/// One member as a connector needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The row in the version.
    pub ordinal: Ordinal,
    /// The directory id.
    pub key: String,
    /// What is known of them.
    pub attributes: BTreeMap<String, AttributeValue>,
}

/// What the columns of a version mean.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) columns: Vec<ColumnInfo>,
    dictionaries: Vec<Vec<String>>,
    number: i64,
    pub(super) members: u64,
}

/// Unpacked parts of versions, which never change.
#[derive(Debug, Clone, Default)]
pub struct MemberCache(Arc<Mutex<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    blocks: VecDeque<(PopulationVersionId, u32, Arc<Block>)>,
    schemas: VecDeque<(PopulationVersionId, Arc<Schema>)>,
}

impl MemberCache {
    fn block(&self, version: PopulationVersionId, number: u32) -> Option<Arc<Block>> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = remembered
            .blocks
            .iter()
            .find(|(of, at, _)| *of == version && *at == number);
        found.map(|(_, _, block)| block.clone())
    }

    fn remember(&self, version: PopulationVersionId, number: u32, block: Arc<Block>) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.blocks.push_back((version, number, block));
        if remembered.blocks.len() > BLOCKS_REMEMBERED {
            remembered.blocks.pop_front();
        }
    }

    fn schema(&self, version: PopulationVersionId) -> Option<Arc<Schema>> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered
            .schemas
            .iter()
            .find(|(of, _)| *of == version)
            .map(|(_, schema)| schema.clone())
    }

    fn remember_schema(&self, version: PopulationVersionId, schema: Arc<Schema>) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.schemas.push_back((version, schema));
        if remembered.schemas.len() > 2 {
            remembered.schemas.pop_front();
        }
    }
}

pub(super) async fn schema(
    app: &App,
    version: PopulationVersionId,
) -> Result<Arc<Schema>, StoreError> {
    if let Some(schema) = app.members.schema(version) {
        return Ok(schema);
    }
    let row = rows::version_load(app.store.read(), version).await?;
    let columns: Vec<ColumnInfo> =
        serde_json::from_str(&row.columns).map_err(StoreError::corrupt)?;
    let mut dictionaries = Vec::with_capacity(columns.len());
    for column in &columns {
        dictionaries.push(rows::dictionary_load(app.store.read(), version, &column.name).await?);
    }
    let schema = Arc::new(Schema {
        columns,
        dictionaries,
        number: row.number,
        members: row.members,
    });
    app.members.remember_schema(version, schema.clone());
    Ok(schema)
}

/// Returns the attributes of a version with their types.
///
/// # Errors
///
/// When the store cannot be reached.
pub(super) async fn types(
    app: &App,
    version: PopulationVersionId,
) -> Result<BTreeMap<String, AttributeType>, StoreError> {
    let row = rows::version_load(app.store.read(), version).await?;
    let columns: Vec<ColumnInfo> =
        serde_json::from_str(&row.columns).map_err(StoreError::corrupt)?;
    let typed = columns
        .into_iter()
        .map(|column| (column.name, column.attribute_type));
    Ok(typed.collect())
}

async fn block_bytes(
    app: &App,
    version: PopulationVersionId,
    number: u32,
) -> Result<Vec<u8>, StoreError> {
    let found =
        rows::blocks_load(app.store.read(), version, number, number.saturating_add(1)).await?;
    let (_, bytes) = found
        .into_iter()
        .next()
        .ok_or_else(|| StoreError::corrupt(format!("block {number} is missing")))?;
    Ok(bytes)
}

async fn block(
    app: &App,
    version: PopulationVersionId,
    number: u32,
) -> Result<Arc<Block>, StoreError> {
    if let Some(block) = app.members.block(version, number) {
        return Ok(block);
    }
    let bytes = block_bytes(app, version, number).await?;
    let block = Arc::new(Block::decode(&bytes).map_err(StoreError::corrupt)?);
    app.members.remember(version, number, block.clone());
    Ok(block)
}

/// Returns one member. Whole blocks are remembered for those who send, so this one is not.
///
/// # Errors
///
/// When the store cannot be reached or the block is damaged.
pub async fn by_ordinal(
    app: &App,
    version: PopulationVersionId,
    ordinal: Ordinal,
) -> Result<Member, StoreError> {
    let schema = schema(app, version).await?;
    let (number, place) = place_of(ordinal);
    if let Some(block) = app.members.block(version, number) {
        return schema.member(&block, usize::from(place), ordinal);
    }
    let bytes = block_bytes(app, version, number).await?;
    let block = Block::decode_one(&bytes, place).map_err(StoreError::corrupt)?;
    schema.member(&block, 0, ordinal)
}

/// Returns which block holds a member, and where in it.
fn place_of(ordinal: Ordinal) -> (u32, u16) {
    let place = ordinal.get() % BLOCK_MEMBERS;
    (
        ordinal.get() / BLOCK_MEMBERS,
        u16::try_from(place).unwrap_or(u16::MAX),
    )
}

impl Schema {
    /// Returns the value of a member in a column of a block; its first column holds the ids.
    pub(super) fn value<'a>(
        &'a self,
        block: &'a Block,
        column: usize,
        place: usize,
    ) -> Option<&'a str> {
        let text = match block.columns.get(column + 1)? {
            BlockColumn::Empty => return None,
            BlockColumn::Plain(texts) => texts.get(place)?,
            BlockColumn::Codes(codes) => {
                let code = usize::try_from(codes.get(place)?.checked_sub(1)?).ok()?;
                self.dictionaries.get(column)?.get(code)?.as_str()
            }
        };
        (!text.is_empty()).then_some(text)
    }

    fn member(&self, block: &Block, place: usize, ordinal: Ordinal) -> Result<Member, StoreError> {
        let key = match block.columns.first() {
            Some(BlockColumn::Plain(keys)) => keys.get(place),
            _ => None,
        };
        let key = key
            .ok_or_else(|| StoreError::corrupt(format!("member {ordinal} is missing")))?
            .to_owned();
        let mut attributes = BTreeMap::new();
        for (index, column) in self.columns.iter().enumerate() {
            let value = self
                .value(block, index, place)
                .and_then(|text| column.attribute_type.parse(text));
            if let Some(value) = value {
                attributes.insert(column.name.clone(), value);
            }
        }
        Ok(Member {
            ordinal,
            key,
            attributes,
        })
    }
}

/// Returns members by ascending ordinals. Reads each block once.
///
/// # Errors
///
/// When the store cannot be reached or a block is damaged.
pub async fn by_ordinals(
    app: &App,
    version: PopulationVersionId,
    ordinals: &[Ordinal],
) -> Result<Vec<Member>, StoreError> {
    let schema = schema(app, version).await?;
    let mut members = Vec::with_capacity(ordinals.len());
    let mut current: Option<(u32, Arc<Block>)> = None;
    for ordinal in ordinals {
        let (number, place) = place_of(*ordinal);
        let block = match &current {
            Some((at, block)) if *at == number => block.clone(),
            _ => {
                let block = block(app, version, number).await?;
                current = Some((number, block.clone()));
                block
            }
        };
        members.push(schema.member(&block, usize::from(place), *ordinal)?);
    }
    Ok(members)
}

/// Returns which bucket of the index holds a directory id.
#[must_use]
pub fn bucket_of(digest: &KeyDigest, members: u64) -> u32 {
    let buckets = bucket_count(members);
    let [a, b, c, d, ..] = *digest;
    let high = u64::from(u32::from_be_bytes([a, b, c, d]));
    u32::try_from((high * u64::from(buckets)) >> 32).unwrap_or(0)
}

/// Returns how many buckets the index of so many members has: about 2,048 members each.
#[must_use]
pub fn bucket_count(members: u64) -> u32 {
    u32::try_from((members / 2048).max(1).next_power_of_two()).unwrap_or(1 << 31)
}

/// Reads some blocks of a version as they are stored, in order.
async fn blocks_packed(
    app: &App,
    version: PopulationVersionId,
    (from, until): (u32, u32),
) -> Result<Vec<Vec<u8>>, StoreError> {
    let found = rows::blocks_load(app.store.read(), version, from, until).await?;
    if u32::try_from(found.len()).ok() != Some(until.saturating_sub(from)) {
        return Err(StoreError::corrupt(format!(
            "blocks {from} to {until} of version {version} are not all there"
        )));
    }
    Ok(found.into_iter().map(|(_, bytes)| bytes).collect())
}

/// Unpacks some blocks of a version, in order.
///
/// # Errors
///
/// When the store cannot be reached, or a block is missing or damaged.
pub(super) async fn blocks(
    app: &App,
    version: PopulationVersionId,
    range: (u32, u32),
) -> Result<Vec<Block>, StoreError> {
    let unpack = |bytes: Vec<u8>| Block::decode(&bytes).map_err(StoreError::corrupt);
    let found = blocks_packed(app, version, range).await?;
    found.into_iter().map(unpack).collect()
}

/// Reads one column of some blocks of a version as `read` has it, in order, on a thread of its own; the
/// first column holds the ids. What is not asked for is passed over and not unpacked.
///
/// # Errors
///
/// When the store cannot be reached, or a block is missing or damaged.
pub(super) async fn read_column<T: Send + 'static>(
    app: &App,
    version: PopulationVersionId,
    (from, until): (u32, u32),
    column: usize,
    read: impl Fn(&Block, &mut Vec<T>) + Send + 'static,
) -> Result<Vec<T>, StoreError> {
    let found = blocks_packed(app, version, (from, until)).await?;
    let reading = tokio::task::spawn_blocking(move || {
        let mut values = Vec::new();
        for bytes in found {
            let block = Block::decode_columns(&bytes, |place| place == column);
            read(&block.map_err(StoreError::corrupt)?, &mut values);
        }
        Ok(values)
    });
    reading.await.map_err(StoreError::corrupt)?
}

/// Returns a hash of one attribute of every member, whatever its case; 0 for no value.
///
/// # Errors
///
/// When the store cannot be reached, or a block is missing or damaged.
pub(super) async fn hashes(
    app: &App,
    version: PopulationVersionId,
    attribute: &str,
) -> Result<Vec<u64>, StoreError> {
    let schema = schema(app, version).await?;
    let mut columns = schema.columns.iter();
    let Some(column) = columns.position(|column| column.name == attribute) else {
        return Ok(Vec::new());
    };
    let count = u32::try_from(schema.members.div_ceil(u64::from(BLOCK_MEMBERS)));
    let count = count.unwrap_or(u32::MAX);
    let mut hashes = Vec::with_capacity(usize::try_from(schema.members).unwrap_or(0));
    for from in (0..count).step_by(usize::try_from(BLOCKS_PER_READ).unwrap_or(1)) {
        let until = from.saturating_add(BLOCKS_PER_READ).min(count);
        let schema = Arc::clone(&schema);
        let hasher = foldhash::fast::FixedState::default();
        let read = move |block: &Block, hashes: &mut Vec<u64>| {
            for place in 0..usize::from(block.members) {
                let value = schema.value(block, column, place);
                let value = value.map(str::to_lowercase);
                hashes.push(value.map_or(0, |value| hasher.hash_one(value).max(1)));
            }
        };
        hashes.extend(read_column(app, version, (from, until), column + 1, read).await?);
    }
    Ok(hashes)
}

/// Finds the ordinal of a directory id in a version.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn ordinal_of(
    app: &App,
    version: PopulationVersionId,
    key: &str,
) -> Result<Option<Ordinal>, StoreError> {
    // A published version never changes, so how many it has may be remembered.
    let members = schema(app, version).await?.members;
    let digest = key_digest(key);
    let bucket = bucket_of(&digest, members);
    let Some(body) = rows::key_bucket(app.store.read(), version, bucket).await? else {
        return Ok(None);
    };
    for entry in body.chunks_exact(20) {
        let (found, ordinal) = entry.split_at(16);
        if found == digest {
            let ordinal: [u8; 4] = ordinal.try_into().map_err(StoreError::corrupt)?;
            return Ok(Some(Ordinal(u32::from_le_bytes(ordinal))));
        }
    }
    Ok(None)
}

/// Shows one member of the current version.
///
/// # Errors
///
/// When there is no such population or member.
pub async fn get(app: &App, name: &str, key: &str) -> Result<MemberView, OperationError> {
    let row = population::find(app, name).await?;
    let Some(version) = row.current_version else {
        return Err(OperationError::refused(
            "population_empty",
            format!("nothing has been imported into `{}` yet", row.name),
        ));
    };
    let ordinal = ordinal_of(app, version, key)
        .await?
        .ok_or_else(|| OperationError::not_found("member", key))?;
    let member = by_ordinal(app, version, ordinal).await?;
    Ok(MemberView {
        key: member.key,
        ordinal: ordinal.get(),
        attributes: member
            .attributes
            .into_iter()
            .map(|(name, value)| (name, json(&value)))
            .collect(),
        version: schema(app, version).await?.number,
    })
}

/// Returns a value as JSON.
#[must_use]
pub fn json(value: &AttributeValue) -> serde_json::Value {
    match value {
        AttributeValue::Text(text) => text.as_str().into(),
        AttributeValue::Boolean(truth) => (*truth).into(),
        AttributeValue::Integer(number) => (*number).into(),
        AttributeValue::Date(_) => value.to_string().into(),
    }
}

/// A column of the population under construction.
struct Building {
    index: usize,
    name: String,
    attribute_type: AttributeType,
    dictionary: Vec<String>,
    /// Codes of values that blocks hold as texts.
    codes_of: HashMap<String, u32>,
    codes: Vec<u32>,
}

impl Building {
    fn take(&mut self, block: &Block) {
        let members = usize::from(block.members);
        match block.columns.get(self.index + 1) {
            Some(BlockColumn::Codes(codes)) => self.codes.extend(codes),
            Some(BlockColumn::Plain(texts)) => {
                for text in texts.iter() {
                    let code = self.code(text);
                    self.codes.push(code);
                }
            }
            Some(BlockColumn::Empty) | None => self.codes.resize(self.codes.len() + members, 0),
        }
        // A column that appeared later has no values in earlier blocks.
    }

    fn code(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if self.codes_of.is_empty() {
            let known = self
                .dictionary
                .iter()
                .zip(1..)
                .map(|(text, code)| (text.clone(), code));
            self.codes_of = known.collect();
        }
        if let Some(code) = self.codes_of.get(text) {
            return *code;
        }
        self.dictionary.push(text.to_owned());
        let code = u32::try_from(self.dictionary.len()).unwrap_or(u32::MAX);
        self.codes_of.insert(text.to_owned(), code);
        code
    }

    fn finish(self) -> Column {
        let attribute_type = self.attribute_type;
        // A value that is not of its type counts as a text nobody asks for; imports refuse such rows.
        let value = |text: &String| {
            attribute_type
                .parse(text)
                .unwrap_or_else(|| AttributeValue::Text(text.clone()))
        };
        Column {
            attribute_type,
            dictionary: self.dictionary.iter().map(value).collect(),
            codes: self.codes,
        }
    }
}

/// Loads a version for a plan: every directory id, and the attributes that are named.
///
/// # Errors
///
/// When the store cannot be reached or a block is damaged.
pub async fn load(
    app: &App,
    version: PopulationVersionId,
    wanted: &[String],
) -> Result<Population, StoreError> {
    let row = rows::version_load(app.store.read(), version).await?;
    let columns: Vec<ColumnInfo> =
        serde_json::from_str(&row.columns).map_err(StoreError::corrupt)?;
    let mut building = Vec::new();
    for (index, column) in columns
        .iter()
        .enumerate()
        .filter(|(_, column)| wanted.contains(&column.name))
    {
        building.push(Building {
            index,
            name: column.name.clone(),
            attribute_type: column.attribute_type,
            dictionary: rows::dictionary_load(app.store.read(), version, &column.name).await?,
            codes_of: HashMap::new(),
            codes: Vec::with_capacity(usize::try_from(row.members).unwrap_or(0)),
        });
    }
    let mut keys = TextColumn::with_capacity(usize::try_from(row.members).unwrap_or(0), 0);
    let blocks = u32::try_from(row.members.div_ceil(u64::from(BLOCK_MEMBERS))).unwrap_or(u32::MAX);
    let mut from = 0;
    while from < blocks {
        let until = from.saturating_add(BLOCKS_PER_READ).min(blocks);
        let found = rows::blocks_load(app.store.read(), version, from, until).await?;
        if u32::try_from(found.len()).ok() != Some(until - from) {
            return Err(StoreError::corrupt(format!(
                "blocks {from} to {until} of version {version} are not all there"
            )));
        }
        let is_read = |place| place == 0 || building.iter().any(|column| column.index + 1 == place);
        let mut unpacked = Vec::with_capacity(found.len());
        for (_, bytes) in found {
            unpacked.push(Block::decode_columns(&bytes, is_read).map_err(StoreError::corrupt)?);
        }
        for block in unpacked {
            if let Some(BlockColumn::Plain(texts)) = block.columns.first() {
                texts.iter().for_each(|key| keys.push(key));
            }
            building.iter_mut().for_each(|column| column.take(&block));
        }
        from = until;
        tokio::task::yield_now().await;
    }
    let digest: Digest = row
        .content_digest
        .as_deref()
        .unwrap_or_default()
        .parse()
        .map_err(StoreError::corrupt)?;
    let columns = building
        .into_iter()
        .map(|column| (column.name.clone(), column.finish()))
        .collect();
    Population::new(version, digest, keys, columns).map_err(StoreError::corrupt)
}
