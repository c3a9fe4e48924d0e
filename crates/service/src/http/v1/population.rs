//! Populations, their imports and their members.

use std::time::Duration;

use axum::Json;
use axum::body::Body as RawBody;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::TryStreamExt as _;
use serde::Deserialize;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::io::StreamReader;

use super::{PageQuery, Tagged, tagged};
use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{At, Body, Caller, IfMatch, Query};
use crate::operations::import::{self as imports, ImportOptions, ImportView};
use crate::operations::member::{self, MemberView};
use crate::operations::population::{self, PopulationView};
use crate::operations::token::Permission;
use crate::operations::{OperationError, Page};
use crate::source::mapping::Mapping;
use crate::source::rows::{Compression, RowFormat};

/// A population to create.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewPopulation {
    /// Its name.
    name: String,
    /// Which column means what.
    #[serde(default)]
    mapping: Mapping,
}

/// Which column means what from now on.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewMapping {
    /// Which column means what.
    mapping: Mapping,
}

/// List populations.
#[utoipa::path(get, path = "/v1/populations", tag = "populations", params(PageQuery), responses((status = 200, body = Page<PopulationView>)))]
pub(in crate::http) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<PopulationView>>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(
        population::list(
            &app,
            page.cursor.as_deref().unwrap_or_default(),
            page.limit(),
        )
        .await?,
    ))
}

/// Create a population.
#[utoipa::path(post, path = "/v1/populations", tag = "populations", request_body = NewPopulation, responses((status = 201, body = PopulationView)))]
pub(in crate::http) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<NewPopulation>,
) -> Result<Tagged<PopulationView>, Problem> {
    let actor = caller.may(Permission::Manage)?;
    let view = population::create(&app, &actor, &body.name, &body.mapping).await?;
    Ok(tagged(StatusCode::CREATED, view.generation, view))
}

/// Show a population.
#[utoipa::path(get, path = "/v1/populations/{id}", tag = "populations", params(("id" = String, Path)), responses((status = 200, body = PopulationView)))]
pub(in crate::http) async fn show(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Tagged<PopulationView>, Problem> {
    caller.may(Permission::Read)?;
    let view = population::get(&app, &id).await?;
    Ok(tagged(StatusCode::OK, view.generation, view))
}

/// Change which column means what.
#[utoipa::path(put, path = "/v1/populations/{id}", tag = "populations", params(("id" = String, Path)), request_body = NewMapping, responses((status = 200, body = PopulationView)))]
pub(in crate::http) async fn remap(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    seen: IfMatch,
    Body(body): Body<NewMapping>,
) -> Result<Tagged<PopulationView>, Problem> {
    let actor = caller.may(Permission::Manage)?;
    let view = population::remap(&app, &actor, &id, seen.required()?, &body.mapping).await?;
    Ok(tagged(StatusCode::OK, view.generation, view))
}

/// Show a member of the current version.
#[utoipa::path(get, path = "/v1/populations/{id}/members/{key}", tag = "populations", params(("id" = String, Path), ("key" = String, Path)), responses((status = 200, body = MemberView)))]
pub(in crate::http) async fn member(
    State(app): State<App>,
    caller: Caller,
    At((id, key)): At<(String, String)>,
) -> Result<Json<MemberView>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(member::get(&app, &id, &key).await?))
}

/// How a file is to be read.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ImportQuery {
    /// csv or ndjson.
    format: Option<String>,
    /// What people call the file.
    file_name: Option<String>,
    /// Refuse the file when more rows than this are bad (100 unless said otherwise).
    bad_rows_max: Option<u64>,
    /// Publish although over 5 % of the people are missing, for this reason.
    override_shrink_reason: Option<String>,
}

fn options(query: ImportQuery, headers: &HeaderMap) -> Result<ImportOptions, Problem> {
    let bad = |code: &str, detail: String| Problem::new(StatusCode::BAD_REQUEST, code, detail);
    let format = match query.format.as_deref() {
        Some("csv") | None => RowFormat::Csv,
        Some("ndjson") => RowFormat::Ndjson,
        Some(other) => {
            return Err(bad(
                "format_unknown",
                format!("`{other}` is no format: it is csv or ndjson"),
            ));
        }
    };
    let encoding = headers
        .get(header::CONTENT_ENCODING)
        .map(|value| value.to_str().unwrap_or("?"));
    let compression = match encoding {
        None | Some("identity") => Compression::None,
        Some("gzip") => Compression::Gzip,
        Some("zstd") => Compression::Zstd,
        Some(other) => {
            let detail =
                format!("`{other}` is not unpacked here: send it plain, or with gzip or zstd");
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "encoding_unknown",
                detail,
            ));
        }
    };
    if query
        .override_shrink_reason
        .as_deref()
        .is_some_and(|reason| reason.trim().is_empty())
    {
        return Err(bad(
            "reason_missing",
            "override_shrink_reason must say why".to_owned(),
        ));
    }
    Ok(ImportOptions {
        format,
        compression,
        file_name: query.file_name,
        bad_rows_max: query.bad_rows_max,
        override_shrink_reason: query.override_shrink_reason,
    })
}

/// How long an upload may stand still before it is given up: it keeps a place that others wait for.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Passes chunks on; a stream that stands still for too long fails.
fn patient<T>(
    chunks: impl Stream<Item = std::io::Result<T>>,
    silence_max: Duration,
) -> impl Stream<Item = std::io::Result<T>> {
    let mut ticks = tokio::time::interval(silence_max);
    // Its first tick would come at once, before a client that asks for leave to send has begun.
    ticks.reset();
    let chunks = chunks.timeout_repeating(ticks);
    chunks.map(move |chunk| {
        chunk.unwrap_or_else(|_| {
            let sentence = format!("nothing came for {silence_max:?}");
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, sentence))
        })
    })
}

/// Import a file: the body is the file itself.
#[utoipa::path(post, path = "/v1/populations/{id}/imports", tag = "populations", params(("id" = String, Path), ImportQuery), responses((status = 201, body = ImportView), (status = 200, body = ImportView, description = "the same bytes are already published")))]
pub(in crate::http) async fn import(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Query(query): Query<ImportQuery>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<(StatusCode, Json<ImportView>), Problem> {
    let actor = caller.may(Permission::Manage)?;
    let options = options(query, &headers)?;
    let chunks = body.into_data_stream().map_err(std::io::Error::other);
    let stream = StreamReader::new(Box::pin(patient(chunks, SILENCE_MAX)));
    // On a task of its own: a client that goes away must not leave half an import behind.
    let running = app.background.spawn({
        let app = app.clone();
        async move { imports::import(&app, &actor, &id, options, stream).await }
    });
    let done: Result<ImportView, OperationError> =
        running.await.map_err(crate::store::StoreError::corrupt)?;
    let view = done?;
    let status = if view.status == "unchanged" {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok((status, Json(view)))
}

/// Show how an import stands.
#[utoipa::path(get, path = "/v1/imports/{id}", tag = "populations", params(("id" = String, Path)), responses((status = 200, body = ImportView)))]
pub(in crate::http) async fn import_status(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<ImportView>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(imports::get(&app, &id).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_upload_that_has_not_begun_is_waited_for() {
        // Such as that of a client that waits for leave to send.
        let chunks = tokio_stream::pending::<std::io::Result<&str>>();
        let mut chunks = Box::pin(patient(chunks, Duration::from_secs(3600)));
        let early = tokio::time::timeout(Duration::from_millis(50), chunks.next()).await;
        assert!(early.is_err(), "given up at once: {early:?}");
    }

    #[tokio::test]
    async fn an_upload_that_stands_still_is_given_up() {
        let chunks = tokio_stream::iter([Ok("some"), Ok("more")]).chain(tokio_stream::pending());
        let mut chunks = Box::pin(patient(chunks, Duration::from_millis(20)));
        assert_eq!(chunks.next().await.unwrap().unwrap(), "some");
        assert_eq!(chunks.next().await.unwrap().unwrap(), "more");
        // As often as somebody asks: whoever throws the rest away must not wait for ever either.
        for _ in 0..2 {
            let error = chunks.next().await.unwrap().unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
            assert_eq!(error.to_string(), "nothing came for 20ms");
        }
    }
}
