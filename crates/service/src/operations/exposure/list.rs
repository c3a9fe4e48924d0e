//! The people of an exposure with their keys: counted by attribute, digested, page by page, as CSV.
//!
//! Everything goes through the directory once and in its order, a few blocks at a time. The version of
//! a population never changes, so nothing here needs the snapshot any more.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::SecondsFormat;
use futures_util::stream::{self, Stream};
use sha2::{Digest as _, Sha256};
use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::ids::{Timestamp, from_millis};
use tidegate_orchestrator::ledger::exposure::{ClassCounts, ExposureClass};

use super::view::{
    AttributeExposure, DataVersion, ExposedPerson, ExposureView, OtherExposure, ValueExposure,
    WaveExposure,
};
use super::{Asked, Found, Person, find};
use crate::app::App;
use crate::operations::view::Counts;
use crate::operations::{OperationError, Page};
use crate::source::block::{BLOCK_MEMBERS, Block, BlockColumn};
use crate::source::pack::ColumnInfo;
use crate::store::StoreError;
use crate::store::population as rows;

/// How many blocks one read brings: 16,384 members, a few milliseconds of one core.
const BLOCKS_PER_READ: u32 = 4;
/// How long to rest after each read: whoever wants to know can wait, and a halt beside it cannot.
const REST: Duration = Duration::from_millis(3);
/// How many values of an attribute are named; the others are counted together.
const VALUES_MAX: usize = 250;
/// What is counted by unless somebody says otherwise, where there are such attributes.
const BY_DEFAULT: [&str; 2] = ["country", "department"];
/// The head of the list as CSV.
const CSV_HEAD: &[u8] = b"key,wave,class,state,since\n";

/// Reports who was exposed, by wave and by attribute.
///
/// # Errors
///
/// As `find`, and when an attribute is not one that can be counted by.
pub async fn report(
    app: &App,
    name: &str,
    asked: &Asked,
    by: Option<&str>,
) -> Result<ExposureView, OperationError> {
    let found = find(app, name, asked).await?;
    let mut counting = Counting {
        attributes: attributes(app, &found, by).await?,
        sha: Sha256::new(),
    };
    counting.sha.update(CSV_HEAD);
    let mut walk = Walk::new(&found);
    while let Some(page) = walk.next(app).await? {
        let found = Arc::clone(&found);
        let counted = tokio::task::spawn_blocking(move || {
            for block in page {
                counting.take(&found, &block)?;
            }
            Ok::<_, StoreError>(counting)
        });
        counting = counted.await.map_err(StoreError::corrupt)??;
    }
    Ok(show(&found, counting))
}

/// Lists people of a class, or everybody, in the order of the directory.
///
/// # Errors
///
/// As `find`, and when the cursor is none.
pub async fn page(
    app: &App,
    name: &str,
    asked: &Asked,
    (class, cursor): (Option<ExposureClass>, Option<&str>),
    limit: usize,
) -> Result<Page<ExposedPerson>, OperationError> {
    let (asked, from) = match cursor {
        Some(cursor) => place_of(cursor)?,
        None => (asked.clone(), 0),
    };
    let found = find(app, name, &asked).await?;
    let wanted = |person: &Person| class.is_none_or(|class| class == person.class);
    let mut chosen = found.people.iter().zip(0..).skip(from);
    let mut places: Vec<usize> = Vec::new();
    let mut next = None;
    for (_, place) in chosen.by_ref().filter(|(person, _)| wanted(person)) {
        if places.len() == limit {
            next = Some(place);
            break;
        }
        places.push(place);
    }
    let items = named(app, &found, &places).await?;
    Ok(Page {
        items,
        next_cursor: next.map(|place| cursor_of(&found, place)),
    })
}

/// A list goes on as of the same entry and interval, whatever has happened since.
fn cursor_of(found: &Found, place: usize) -> String {
    let (from, to) = (found.interval.from(), found.interval.to());
    format!(
        "{}_{}_{}_{place}",
        found.seq,
        from.timestamp_millis(),
        to.timestamp_millis()
    )
}

fn place_of(cursor: &str) -> Result<(Asked, usize), OperationError> {
    let parts: Vec<&str> = cursor.split('_').collect();
    let parsed = (|| {
        let [seq, from, to, place] = parts.as_slice() else {
            return None;
        };
        let at = |text: &str| Some(from_millis(text.parse().ok()?)?.to_rfc3339());
        let asked = Asked {
            from: Some(at(from)?),
            to: Some(at(to)?),
            seq: Some(seq.parse().ok()?),
        };
        Some((asked, place.parse().ok()?))
    })();
    parsed.ok_or_else(|| OperationError::invalid("cursor_invalid", "the cursor is not one of ours"))
}

/// Returns people with their keys.
async fn named(
    app: &App,
    found: &Arc<Found>,
    places: &[usize],
) -> Result<Vec<ExposedPerson>, OperationError> {
    let mut walk = Walk::of(found, places.to_vec());
    let mut items = Vec::with_capacity(places.len());
    while let Some(page) = walk.next(app).await? {
        for block in page {
            let keys = block.read(|column| column == 0)?;
            for place in &block.places {
                let person = person_at(found, *place)?;
                items.push(ExposedPerson {
                    key: block.key(&keys, person)?.to_owned(),
                    wave: wave_of(found, person),
                    class: person.class.name().to_owned(),
                    state: person.state.name().to_owned(),
                    since: since(person),
                });
            }
        }
    }
    Ok(items)
}

/// Streams everybody, or a class, as CSV. The digest of an answer is that of the whole list.
///
/// # Errors
///
/// As `find`; what fails later breaks the stream.
pub async fn csv(
    app: &App,
    name: &str,
    asked: &Asked,
    class: Option<ExposureClass>,
) -> Result<impl Stream<Item = Result<Bytes, StoreError>> + use<>, OperationError> {
    let found = find(app, name, asked).await?;
    let wanted = |person: &Person| class.is_none_or(|class| class == person.class);
    let walk = match class {
        None => Walk::new(&found),
        Some(_) => {
            let people = found.people.iter().zip(0..);
            let places = people.filter(|(person, _)| wanted(person));
            Walk::of(&found, places.map(|(_, place)| place).collect())
        }
    };
    let head = stream::iter([Ok(Bytes::from_static(CSV_HEAD))]);
    let rest = stream::try_unfold((app.clone(), walk), async |(app, mut walk)| {
        let Some(page) = walk.next(&app).await? else {
            return Ok(None);
        };
        let found = Arc::clone(&walk.found);
        let lines = tokio::task::spawn_blocking(move || {
            let mut lines = Lines::default();
            for block in page {
                let keys = block.read(|column| column == 0)?;
                lines.take(&found, &block, &keys)?;
            }
            lines.finish()
        });
        let lines = lines.await.map_err(StoreError::corrupt)??;
        Ok(Some((Bytes::from(lines), (app, walk))))
    });
    Ok(futures_util::StreamExt::chain(head, rest))
}

/// The people of one block that are asked for.
struct Part {
    number: u32,
    bytes: Vec<u8>,
    /// Their places in the list.
    places: Vec<usize>,
}

impl Part {
    fn read(&self, wanted: impl Fn(usize) -> bool) -> Result<Block, StoreError> {
        Block::decode_columns(&self.bytes, wanted).map_err(StoreError::corrupt)
    }

    /// Returns the place of a person in the block.
    fn place(&self, person: Person) -> usize {
        let first = self.number.saturating_mul(BLOCK_MEMBERS);
        usize::try_from(person.ordinal.get().saturating_sub(first)).unwrap_or(usize::MAX)
    }

    fn key<'a>(&self, block: &'a Block, person: Person) -> Result<&'a str, StoreError> {
        let keys = match block.columns.first() {
            Some(BlockColumn::Plain(keys)) => keys.get(self.place(person)),
            _ => None,
        };
        keys.ok_or_else(|| StoreError::corrupt(format!("member {} is missing", person.ordinal)))
    }
}

/// Goes through people and the blocks that hold them.
struct Walk {
    found: Arc<Found>,
    /// Their places in the list; `None`: everybody.
    chosen: Option<Vec<usize>>,
    next: usize,
}

impl Walk {
    fn new(found: &Arc<Found>) -> Self {
        Self {
            found: Arc::clone(found),
            chosen: None,
            next: 0,
        }
    }

    fn of(found: &Arc<Found>, chosen: Vec<usize>) -> Self {
        Self {
            found: Arc::clone(found),
            chosen: Some(chosen),
            next: 0,
        }
    }

    /// Returns the place in the list of the person who comes `number`-th, and the block that holds them.
    fn at(&self, number: usize) -> Option<(usize, u32)> {
        let place = match &self.chosen {
            Some(chosen) => *chosen.get(number)?,
            None => number,
        };
        let person = self.found.people.get(place)?;
        Some((place, person.ordinal.get() / BLOCK_MEMBERS))
    }

    /// Reads the next blocks; none when everybody was seen.
    async fn next(&mut self, app: &App) -> Result<Option<Vec<Part>>, StoreError> {
        let Some((_, first)) = self.at(self.next) else {
            return Ok(None);
        };
        if self.next > 0 {
            tokio::time::sleep(REST).await;
        }
        let mut places: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        while let Some((place, block)) = self.at(self.next) {
            if block >= first.saturating_add(BLOCKS_PER_READ) {
                break;
            }
            places.entry(block).or_default().push(place);
            self.next += 1;
        }
        let until = places.keys().last().map_or(first, |last| last + 1);
        let blocks: Range<u32> = first..until;
        let read = rows::blocks_load(
            app.store.read(),
            self.found.version,
            blocks.start,
            blocks.end,
        )
        .await?;
        let mut parts = Vec::with_capacity(places.len());
        for (number, bytes) in read {
            if let Some(places) = places.remove(&number) {
                parts.push(Part {
                    number,
                    bytes,
                    places,
                });
            }
        }
        match places.keys().next() {
            Some(missing) => Err(StoreError::corrupt(format!("block {missing} is missing"))),
            None => Ok(Some(parts)),
        }
    }
}

fn person_at(found: &Found, place: usize) -> Result<Person, StoreError> {
    let person = found.people.get(place).copied();
    person.ok_or_else(|| StoreError::corrupt("a place is not in the list"))
}

fn wave_of(found: &Found, person: Person) -> u32 {
    let wave = found.waves.get(usize::from(person.wave));
    wave.map_or(0, |wave| wave.number.get())
}

fn since(person: Person) -> Option<Timestamp> {
    Some(person.since)
        .filter(|at| *at != 0)
        .and_then(from_millis)
}

/// Lines of the list.
#[derive(Default)]
struct Lines {
    out: Vec<u8>,
    /// Neighbours mostly changed in the same turn: the last instant as it was written.
    last: (i64, String),
    wave: (u32, String),
}

impl Lines {
    fn take(&mut self, found: &Found, part: &Part, keys: &Block) -> Result<(), StoreError> {
        let out = std::mem::take(&mut self.out);
        let mut writer = csv::WriterBuilder::new()
            .has_headers(false)
            .from_writer(out);
        for place in &part.places {
            let person = person_at(found, *place)?;
            if self.last.0 != person.since {
                let text = since(person)
                    .map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
                    .unwrap_or_default();
                self.last = (person.since, text);
            }
            let wave = wave_of(found, person);
            if self.wave.0 != wave {
                self.wave = (wave, wave.to_string());
            }
            let key = part.key(keys, person)?;
            let (class, state) = (person.class.name(), person.state.name());
            writer
                .write_record([key, &self.wave.1, class, state, &self.last.1])
                .map_err(StoreError::corrupt)?;
        }
        self.out = writer.into_inner().map_err(StoreError::corrupt)?;
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>, StoreError> {
        Ok(self.out)
    }
}

/// One attribute that is counted by.
struct Attribute {
    name: String,
    /// The place of its column in a block; the first one holds the keys.
    column: usize,
    dictionary: Vec<String>,
    /// By code; 0 for no value.
    counts: Vec<ClassCounts>,
}

/// Returns the attributes that are asked for, or those that most will want.
async fn attributes(
    app: &App,
    found: &Found,
    by: Option<&str>,
) -> Result<Vec<Attribute>, OperationError> {
    let version = rows::version_load(app.store.read(), found.version).await?;
    let columns: Vec<ColumnInfo> =
        serde_json::from_str(&version.columns).map_err(StoreError::corrupt)?;
    let asked: Vec<&str> = match by {
        Some(by) => by
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .collect(),
        None => {
            let is_there = |name: &&str| {
                let mut named = columns.iter().filter(|column| column.name == *name);
                named.any(|column| !column.is_plain)
            };
            BY_DEFAULT.into_iter().filter(is_there).collect()
        }
    };
    let mut attributes: Vec<Attribute> = Vec::with_capacity(asked.len());
    for name in asked {
        let Some(place) = columns.iter().position(|column| column.name == name) else {
            let known: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let sentence = format!(
                "there is no attribute `{name}`; there are: {}",
                known.join(", ")
            );
            return Err(OperationError::invalid("attribute_unknown", sentence));
        };
        if columns.get(place).is_some_and(|column| column.is_plain) {
            let sentence = format!(
                "`{name}` has another value for nearly everybody: nothing can be counted by it"
            );
            return Err(OperationError::invalid(
                "attribute_too_many_values",
                sentence,
            ));
        }
        if attributes.iter().any(|known| known.name == name) {
            continue;
        }
        let dictionary = rows::dictionary_load(app.store.read(), found.version, name).await?;
        attributes.push(Attribute {
            name: name.to_owned(),
            column: place + 1,
            counts: vec![ClassCounts::default(); dictionary.len() + 1],
            dictionary,
        });
    }
    Ok(attributes)
}

impl Attribute {
    fn take(&mut self, found: &Found, part: &Part, block: &Block) -> Result<(), StoreError> {
        let codes = match block.columns.get(self.column) {
            Some(BlockColumn::Codes(codes)) => codes.as_slice(),
            Some(BlockColumn::Plain(_)) => {
                return Err(StoreError::corrupt(format!("`{}` has no codes", self.name)));
            }
            // A column that appeared later has no values in earlier blocks.
            Some(BlockColumn::Empty) | None => &[],
        };
        for place in &part.places {
            let person = person_at(found, *place)?;
            let code = codes.get(part.place(person)).copied().unwrap_or(0);
            let counts = usize::try_from(code)
                .ok()
                .and_then(|code| self.counts.get_mut(code));
            counts
                .ok_or_else(|| StoreError::corrupt(format!("`{}` has no value {code}", self.name)))?
                .add(person.class, 1);
        }
        Ok(())
    }

    fn show(self) -> AttributeExposure {
        let names = std::iter::once(None).chain(self.dictionary.into_iter().map(Some));
        let mut values: Vec<ValueExposure> = names
            .zip(&self.counts)
            .filter(|(_, counts)| counts.total() > 0)
            .map(|(value, counts)| ValueExposure {
                value,
                people: counts.total(),
                counts: classes(counts),
            })
            .collect();
        values.sort_by(|a, b| b.people.cmp(&a.people).then_with(|| a.value.cmp(&b.value)));
        let rest = values.split_off(values.len().min(VALUES_MAX));
        let others = (!rest.is_empty()).then(|| {
            let mut counts = Counts::new();
            for (class, people) in rest.iter().flat_map(|value| &value.counts) {
                *counts.entry(class.clone()).or_default() += people;
            }
            OtherExposure {
                values: u64::try_from(rest.len()).unwrap_or(u64::MAX),
                people: rest.iter().map(|value| value.people).sum(),
                counts,
            }
        });
        AttributeExposure {
            attribute: self.name,
            values,
            others,
        }
    }
}

/// What is gathered on the way through everybody.
struct Counting {
    attributes: Vec<Attribute>,
    sha: Sha256,
}

impl Counting {
    fn take(&mut self, found: &Found, part: &Part) -> Result<(), StoreError> {
        let wanted = |column: usize| {
            column == 0 || self.attributes.iter().any(|known| known.column == column)
        };
        let block = part.read(wanted)?;
        let mut lines = Lines::default();
        lines.take(found, part, &block)?;
        self.sha.update(lines.finish()?);
        for attribute in &mut self.attributes {
            attribute.take(found, part, &block)?;
        }
        Ok(())
    }
}

fn classes(counts: &ClassCounts) -> Counts {
    counts
        .iter()
        .map(|(class, people)| (class.name().to_owned(), people))
        .collect()
}

fn show(found: &Found, counting: Counting) -> ExposureView {
    let mut all = ClassCounts::default();
    let mut states: BTreeMap<String, Counts> = BTreeMap::new();
    let mut waves = Vec::with_capacity(found.waves.len());
    for wave in &found.waves {
        for (class, people) in wave.tally.classes.iter() {
            all.add(class, people);
        }
        for (class, tally) in wave.tally.states() {
            for (state, people) in tally.iter().filter(|(_, people)| *people > 0) {
                let of_class = states.entry(class.name().to_owned()).or_default();
                *of_class.entry(state.name().to_owned()).or_default() += people;
            }
        }
        waves.push(WaveExposure {
            number: wave.number.get(),
            name: wave.name.clone(),
            people: wave.tally.classes.total(),
            counts: classes(&wave.tally.classes),
        });
    }
    let written = |at: Timestamp| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let (from, to) = (found.interval.from(), found.interval.to());
    ExposureView {
        rollout_id: found.rollout,
        rollout: found.name.clone(),
        from,
        to,
        generated_at: found.generated_at,
        data_version: DataVersion {
            seq: found.seq,
            hash: found
                .hash
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            epoch: found.epoch,
            plan_digest: found.plan_digest.clone(),
            population_version: found.version,
        },
        people: all.total(),
        counts: classes(&all),
        states,
        waves,
        by: counting
            .attributes
            .into_iter()
            .map(Attribute::show)
            .collect(),
        unexplained: found.unexplained,
        digest: Digest(counting.sha.finalize().into()).to_string(),
        again: format!(
            "/v1/rollouts/{}/exposure?from={}&to={}&seq={}",
            found.rollout,
            written(from),
            written(to),
            found.seq
        ),
    }
}
