//! Imports: a stream of rows becomes a new version of a population, or nothing at all.
//!
//! Rows are read and packed on a thread of their own; packed blocks are written as they come, into a
//! version that nobody sees. Only when the whole file is read, checked and indexed is it published, in
//! one transaction. Whatever goes wrong before, the staged rows are thrown away.

mod file;
pub(super) mod index;
mod sweep;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_orchestrator::ids::{
    ImportId, PopulationId, PopulationVersionId, Timestamp, WorkerId,
};
use tokio::io::AsyncRead;
use tokio::sync::{SemaphorePermit, mpsc};
use tokio_util::io::SyncIoBridge;

use super::member::bucket_count;
use super::population::{VersionView, find};
use super::{Actor, Detail, OperationError};
pub(super) use file::encode;
use file::{ReadFile, read_file, refused_file};
pub use sweep::sweep;

use crate::app::{App, IMPORTS_AT_ONCE};
use crate::source::block::Block;
use crate::source::mapping::Mapping;
use crate::source::pack::{Found, Tally};
use crate::source::rows::{BadRow, Compression, RowFormat};
use crate::store::population::{self as rows, ImportRow, PopulationRow, VersionRow};
use crate::store::{Lane, Open, StoreError, transact};

/// How many blocks may wait for the writer.
const BLOCKS_WAITING: usize = 8;
/// How many blocks one transaction writes.
const BLOCKS_PER_TXN: usize = 8;
/// How many bad rows are tolerated unless somebody says otherwise.
const BAD_ROWS_MAX: u64 = 100;
/// A file with fewer than this share of the people there are is suspicious, in percent.
const SHRINK_PERCENT: u64 = 95;

/// How a file is to be read.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// How its rows are written.
    pub format: RowFormat,
    /// How it is compressed.
    pub compression: Compression,
    /// What people call it.
    pub file_name: Option<String>,
    /// Refuse the file when more rows than this are bad.
    pub bad_rows_max: Option<u64>,
    /// Publish although many people are missing, for this reason.
    pub override_shrink_reason: Option<String>,
}

/// An import as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ImportId,
    /// The population.
    #[schema(value_type = String)]
    pub population_id: PopulationId,
    /// receiving, published, unchanged, refused or lost.
    pub status: String,
    /// Rows, good and bad.
    pub rows_read: u64,
    /// Rows that were left out.
    pub rows_bad: u64,
    /// The first of those, at most 100.
    pub bad_rows: Vec<BadRow>,
    /// The version it made, or found unchanged.
    pub version: Option<VersionView>,
    /// How many people are new.
    pub joined: u64,
    /// How many are no longer there.
    pub left: u64,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

/// What is remembered of an import beside its columns.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    file_name: Option<String>,
    /// The process that reads the file: when it is gone, nobody goes on.
    #[serde(default)]
    worker: Option<WorkerId>,
    #[serde(flatten)]
    tally: Tally,
    joined: u64,
    left: u64,
}

/// An import under way.
struct Import<'a> {
    app: &'a App,
    actor: &'a Actor,
    population: PopulationRow,
    row: ImportRow,
    version: PopulationVersionId,
    report: Report,
    options: ImportOptions,
    /// The version that the file was compared with: it must still be the current one at the end.
    compared: Option<PopulationVersionId>,
    /// Says to other processes that this one still writes.
    _guard: Option<Open<'a>>,
    _place: SemaphorePermit<'a>,
}

/// Reads a file into a population.
///
/// # Errors
///
/// When the population is unknown, the file is refused, or the store cannot be reached. Nothing of
/// the file is left behind then.
pub async fn import(
    app: &App,
    actor: &Actor,
    population: &str,
    options: ImportOptions,
    stream: impl AsyncRead + Send + Unpin + 'static,
) -> Result<ImportView, OperationError> {
    let mut import = Import::begin(app, actor, find(app, population).await?, options).await?;
    let done = import.run(stream).await;
    if let Err(error) = &done {
        import.discard(error).await;
    }
    done
}

/// Returns how an import stands.
///
/// # Errors
///
/// When there is none of that id.
pub async fn get(app: &App, id: &str) -> Result<ImportView, OperationError> {
    let unknown = || OperationError::not_found("import", id);
    let parsed: ImportId = id.parse().map_err(|_| unknown())?;
    let row = rows::import_load(app.store.read(), parsed)
        .await?
        .ok_or_else(unknown)?;
    show(app, &row).await
}

async fn show(app: &App, row: &ImportRow) -> Result<ImportView, OperationError> {
    let report: Report = serde_json::from_str(&row.report).map_err(StoreError::corrupt)?;
    let version = match row.version {
        Some(version) if row.finished_at.is_some() => Some(VersionView::of(
            &rows::version_load(app.store.read(), version).await?,
        )?),
        _ => None,
    };
    Ok(ImportView {
        id: row.id,
        population_id: row.population,
        status: row.status.clone(),
        rows_read: report.tally.rows_read,
        rows_bad: report.tally.rows_bad,
        bad_rows: report.tally.bad_rows,
        version,
        joined: report.joined,
        left: report.left,
        started_at: row.started_at,
        finished_at: row.finished_at,
    })
}

async fn discard_version(app: &App, version: PopulationVersionId) -> Result<(), StoreError> {
    transact!(app.store, Lane::Ordinary, "version_discard", |txn| {
        rows::version_discard(txn, version).await
    })
}

/// Opens a transaction that marks the version as being written, for as long as it is open.
async fn guard(app: &App, version: PopulationVersionId) -> Result<Option<Open<'_>>, StoreError> {
    if !app.store.is_postgres() {
        return Ok(None);
    }
    let mut open = app.store.begin(Lane::Ordinary).await?;
    rows::version_guard(open.txn(), version).await?;
    Ok(Some(open))
}

impl<'a> Import<'a> {
    async fn begin(
        app: &'a App,
        actor: &'a Actor,
        population: PopulationRow,
        options: ImportOptions,
    ) -> Result<Self, OperationError> {
        let place = app.imports.try_acquire().map_err(|_| {
            let sentence = format!(
                "{IMPORTS_AT_ONCE} imports are under way already: try again when one of them has ended"
            );
            OperationError::refused("imports_busy", sentence)
        })?;
        let version: PopulationVersionId = app.ids.make();
        let report = Report {
            file_name: options.file_name.clone(),
            worker: Some(app.worker),
            ..Report::default()
        };
        let row = ImportRow {
            id: app.ids.make(),
            population: population.id,
            version: Some(version),
            status: "receiving".to_owned(),
            report: serde_json::to_string(&report).map_err(StoreError::corrupt)?,
            started_at: app.clock.now(),
            finished_at: None,
        };
        let guard = guard(app, version).await?;
        let begun: Result<(), StoreError> =
            transact!(app.store, Lane::Ordinary, "import_begin", |txn| {
                rows::version_stage(txn, version, population.id, row.started_at).await?;
                rows::import_put(txn, &row).await
            });
        begun?;
        Ok(Self {
            app,
            actor,
            population,
            row,
            version,
            report,
            options,
            compared: None,
            _guard: guard,
            _place: place,
        })
    }

    async fn run(
        &mut self,
        stream: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<ImportView, OperationError> {
        let mapping: Mapping =
            serde_json::from_str(&self.population.mapping).map_err(StoreError::corrupt)?;
        let (sender, receiver) = mpsc::channel(BLOCKS_WAITING);
        let options = self.options.clone();
        let bridge = SyncIoBridge::new(stream);
        let reading =
            tokio::task::spawn_blocking(move || read_file(bridge, mapping, &options, &sender));
        self.write_blocks(receiver).await?;
        let file = reading
            .await
            .map_err(StoreError::corrupt)?
            .map_err(|error| refused_file(&error))?;
        self.report.tally = file.packed.tally.clone();
        if file.gave_up {
            return Err(self.too_many_bad_rows());
        }
        if file.packed.found.is_empty() {
            return Err(OperationError::invalid(
                "file_without_people",
                "the file has no usable row: nothing is published",
            ));
        }
        if let Some(unchanged) = self.compare_current(&file).await? {
            return Ok(unchanged);
        }
        self.publish(file).await
    }

    /// Compares the file with what is published now, and remembers what that was.
    async fn compare_current(
        &mut self,
        file: &ReadFile,
    ) -> Result<Option<ImportView>, OperationError> {
        let current = self.current().await?;
        self.compared = current.as_ref().map(|current| current.id);
        match current {
            Some(current) if current.source_digest == Some(file.source_digest.to_string()) => {
                self.unchanged(current.id).await.map(Some)
            }
            Some(current) => self
                .compare(&current, &file.packed.found)
                .await
                .map(|()| None),
            None => {
                self.report.joined = count(file.packed.found.len());
                Ok(None)
            }
        }
    }

    async fn write_blocks(
        &mut self,
        mut receiver: mpsc::Receiver<(u32, Block)>,
    ) -> Result<(), OperationError> {
        let mut blocks = Vec::with_capacity(BLOCKS_PER_TXN);
        while receiver.recv_many(&mut blocks, BLOCKS_PER_TXN).await > 0 {
            let full = std::mem::replace(&mut blocks, Vec::with_capacity(BLOCKS_PER_TXN));
            let last = full
                .last()
                .map_or(0, |(number, _): &(u32, Block)| u64::from(*number) + 1);
            // On a thread of its own: meanwhile the next rows are read.
            let packed = tokio::task::spawn_blocking(move || encode(&full));
            let packed = packed.await.map_err(StoreError::corrupt)?;
            let packed = packed.map_err(StoreError::corrupt)?;
            self.report.tally.rows_read = last * u64::from(crate::source::block::BLOCK_MEMBERS);
            self.row.report = serde_json::to_string(&self.report).map_err(StoreError::corrupt)?;
            let written: Result<(), StoreError> =
                transact!(self.app.store, Lane::Ordinary, "import_blocks", |txn| {
                    rows::blocks_insert(txn, self.version, &packed).await?;
                    rows::import_put(txn, &self.row).await
                });
            written?;
        }
        Ok(())
    }

    async fn current(&self) -> Result<Option<VersionRow>, StoreError> {
        // Another import may have been published since this one began.
        let population =
            rows::population_find(self.app.store.read(), &self.population.id.to_string()).await?;
        match population.and_then(|population| population.current_version) {
            Some(version) => rows::version_load(self.app.store.read(), version)
                .await
                .map(Some),
            None => Ok(None),
        }
    }

    /// Counts who joined and who left, and refuses a file in which too many are missing.
    async fn compare(&mut self, current: &VersionRow, found: &Found) -> Result<(), OperationError> {
        let mut stayed = 0;
        for bucket in 0..bucket_count(current.members) {
            let body = rows::key_bucket(self.app.store.read(), current.id, bucket)
                .await?
                .unwrap_or_default();
            let known = body
                .chunks_exact(20)
                .filter_map(|entry| entry.first_chunk::<16>());
            stayed += count(known.filter(|digest| found.contains_key(*digest)).count());
        }
        let members = count(found.len());
        self.report.joined = members.saturating_sub(stayed);
        self.report.left = current.members.saturating_sub(stayed);
        let is_suspicious = members * 100 < current.members * SHRINK_PERCENT;
        if is_suspicious && self.options.override_shrink_reason.is_none() {
            let sentence = format!(
                "the file has {members} people, and the population has {}: over 5 % fewer is suspicious. If it is true, \
                 say so: override_shrink_reason, or --override-shrink on the command line",
                current.members
            );
            return Err(OperationError::invalid("suspicious_shrinkage", sentence));
        }
        Ok(())
    }

    fn too_many_bad_rows(&self) -> OperationError {
        let limit = self.options.bad_rows_max.unwrap_or(BAD_ROWS_MAX);
        OperationError::Invalid {
            code: "too_many_bad_rows".to_owned(),
            sentence: format!("more than {limit} rows are bad: nothing is published"),
            details: self.report.tally.bad_rows.iter().map(detail).collect(),
        }
    }

    async fn unchanged(
        &mut self,
        current: PopulationVersionId,
    ) -> Result<ImportView, OperationError> {
        discard_version(self.app, self.version).await?;
        self.row.version = Some(current);
        self.finish("unchanged").await?;
        show(self.app, &self.row).await
    }

    async fn publish(&mut self, file: ReadFile) -> Result<ImportView, OperationError> {
        let version = VersionRow {
            id: self.version,
            population: self.population.id,
            number: 0,
            status: "published".to_owned(),
            members: count(file.packed.found.len()),
            source_digest: Some(file.source_digest.to_string()),
            content_digest: Some(file.packed.content_digest.to_string()),
            columns: serde_json::to_string(&file.packed.columns).map_err(StoreError::corrupt)?,
            published_at: None,
        };
        index::write(self.app, self.version, &file.packed.found).await?;
        for (column, values) in file.packed.columns.iter().zip(&file.packed.dictionaries) {
            let written: Result<(), StoreError> =
                transact!(self.app.store, Lane::Ordinary, "import_dictionary", |txn| {
                    rows::dictionary_insert(txn, self.version, &column.name, values).await
                });
            written?;
        }
        while !self.publish_version(&version).await? {
            // Another import was published since the comparison: what is missing now is another question.
            if let Some(unchanged) = self.compare_current(&file).await? {
                return Ok(unchanged);
            }
        }
        show(self.app, &self.row).await
    }

    /// Publishes the staged version in one transaction, unless another one was published meanwhile.
    async fn publish_version(&mut self, version: &VersionRow) -> Result<bool, OperationError> {
        let mut row = self.row.clone();
        row.status = "published".to_owned();
        row.finished_at = Some(self.app.clock.now());
        row.report = serde_json::to_string(&self.report).map_err(StoreError::corrupt)?;
        let detail = json!({
            "import": row.id, "version": self.version, "members": version.members, "joined": self.report.joined,
            "left": self.report.left, "rows_bad": self.report.tally.rows_bad, "source_digest": version.source_digest,
            "content_digest": version.content_digest, "override_shrink_reason": self.options.override_shrink_reason,
        });
        let published: Result<(), StoreError> =
            transact!(self.app.store, Lane::Ordinary, "import_publish", |txn| {
                let now = txn.now();
                rows::version_publish(txn, version, self.compared, now).await?;
                rows::import_put(txn, &row).await?;
                txn.audit(self.actor.entry(
                    "population.publish",
                    format!("population:{}", self.population.id),
                    detail.clone(),
                ));
                Ok(())
            });
        match published {
            Ok(()) => {
                self.row = row;
                Ok(true)
            }
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn finish(&mut self, status: &str) -> Result<(), StoreError> {
        self.row.status = status.to_owned();
        self.row.finished_at = Some(self.app.clock.now());
        self.row.report = serde_json::to_string(&self.report).map_err(StoreError::corrupt)?;
        transact!(self.app.store, Lane::Ordinary, "import_finish", |txn| {
            rows::import_put(txn, &self.row).await
        })
    }

    /// Throws the staged rows away and remembers why. What cannot be thrown away now goes at the next start.
    async fn discard(&mut self, error: &OperationError) {
        let cleared = discard_version(self.app, self.version).await;
        // What cannot be cleared away now stays marked as under way, and is swept later.
        let finished = if cleared.is_ok() {
            self.row.version = None;
            self.finish("refused").await
        } else {
            Ok(())
        };
        let detail = json!({"import": self.row.id, "why": error.to_string(), "rows_bad": self.report.tally.rows_bad});
        let entry = self.actor.entry(
            "population.import_refused",
            format!("population:{}", self.population.id),
            detail,
        );
        let told: Result<(), StoreError> =
            transact!(self.app.store, Lane::Ordinary, "import_refused", |txn| {
                txn.audit(entry.clone());
                Ok(())
            });
        if let Some(failed) = [cleared.err(), finished.err(), told.err()]
            .into_iter()
            .flatten()
            .next()
        {
            tracing::warn!(import = %self.row.id, error = %failed, "a refused import could not be cleared away");
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn detail(row: &BadRow) -> Detail {
    Detail {
        line: usize::try_from(row.line).ok(),
        ..Detail::new(&row.code, row.message.clone())
    }
}

#[cfg(test)]
mod tests;
