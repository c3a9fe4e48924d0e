//! Commands that work on a database of their own: `serve`, `migrate`, `fsck`, `rescue`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::context::OutputFormat;
use super::error::{CliError, Exit};
use super::table::grouped;
use crate::app::{App, Ids};
use crate::clock::Clock;
use crate::connector::Connectors;
use crate::connector::grants::Grants;
use crate::fetch::{Bounds, Fetcher};
use crate::operations::{fsck as checks, restored, token};
use crate::outgoing::Outgoing;
use crate::store::{DatabaseUrl, Sole, Store};
use crate::tasks::driver::Driver;
use crate::tasks::recover;
use crate::{http, telemetry};

/// Where the database is.
#[derive(Debug, Args)]
pub struct Database {
    /// sqlite:FILE or postgres://USER@HOST/NAME
    #[arg(
        long,
        env = "TIDEGATE_DATABASE",
        default_value = "sqlite:var/tidegate.db",
        hide_env_values = true
    )]
    database: DatabaseUrl,
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    database: Database,
    /// The address to answer on
    #[arg(long, env = "TIDEGATE_LISTEN", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// One more address, with connections of its own, that takes what sources send and nothing else: the one for
    /// the internet
    #[arg(long, env = "TIDEGATE_LISTEN_REPORTS", value_name = "ADDRESS")]
    listen_reports: Option<SocketAddr>,
    /// The most connections at each address; as many as the files this process may open allow, and at most 2,048,
    /// unless said
    #[arg(long, env = "TIDEGATE_CONNECTIONS", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    connections: Option<u16>,
    /// The folder of credentials that targets may name, one file each
    #[arg(long, env = "TIDEGATE_CREDENTIALS", value_name = "FOLDER")]
    credentials: Option<PathBuf>,
    /// The folder that sandboxes may keep journals in; none unless given
    #[arg(long, env = "TIDEGATE_SANDBOX_FILES", value_name = "FOLDER")]
    sandbox_files: Option<PathBuf>,
    /// The program that OpenPGP signatures of advisories are checked with; `gpgv` on the path unless given
    #[arg(long, env = "TIDEGATE_GPGV", value_name = "PROGRAM")]
    gpgv: Option<PathBuf>,
    /// A host that sources may be asked at and endpoints may be at: HOST[:PORT], 443 unless said, or
    /// NAME[:PORT]=ADDRESS for one inside; more than one, or with commas between them. No other is ever reached
    #[arg(
        long,
        env = "TIDEGATE_REACH",
        value_name = "HOST",
        value_delimiter = ','
    )]
    reach: Vec<String>,
    /// Where people reach this service; links in events begin with it
    #[arg(long, env = "TIDEGATE_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// What to log, as in RUST_LOG
    #[arg(long, env = "TIDEGATE_LOG", default_value = "info")]
    log: String,
    /// Log as JSON
    #[arg(long)]
    log_json: bool,
}

/// Options of `migrate`.
#[derive(Debug, Args)]
pub struct Migrate {
    #[command(flatten)]
    database: Database,
}

/// Options of `rescue`.
#[derive(Debug, Args)]
pub struct Rescue {
    #[command(flatten)]
    database: Database,
    /// Whose token it is; the audit trail will name it
    name: String,
}

/// Options of `fsck`.
#[derive(Debug, Args)]
pub struct Fsck {
    #[command(flatten)]
    database: Database,
}

/// A wrong path must not be made into a new database, and then found to be in order.
fn must_exist(database: &Database) -> Result<(), CliError> {
    match &database.database {
        DatabaseUrl::Sqlite(path) if !std::path::Path::new(path).exists() => Err(CliError::Failed(
            format!("there is no database at `{path}`"),
        )),
        DatabaseUrl::Sqlite(_) | DatabaseUrl::Postgres(_) => Ok(()),
    }
}

async fn open(database: &Database) -> Result<App, CliError> {
    let (clock, ids) = (Clock::system(), Ids::system());
    let store = Store::open(&database.database, clock.clone(), &ids)
        .await
        .map_err(|error| CliError::Failed(error.to_string()))?;
    Ok(App::new(store, clock, ids))
}

/// Runs the service until it is told to end.
///
/// # Errors
///
/// When the database or the address cannot be used.
pub async fn serve(serve: Serve) -> Result<(), CliError> {
    telemetry::init(&serve.log, serve.log_json);
    let failed = |error: &dyn std::fmt::Display| CliError::Failed(error.to_string());
    let fetch =
        Fetcher::granting(&serve.reach, Bounds::default()).map_err(|error| failed(&error))?;
    let addresses = addresses(&serve)?;
    let most = http::places(addresses.len());
    let places = serve.connections.map_or(most, usize::from).min(most);
    // Before the file is opened: a later version must not migrate it under a process that serves it.
    let sole = Sole::take(&serve.database.database).map_err(|error| failed(&error))?;
    let mut app = open(&serve.database).await?;
    app.fetch = fetch;
    app.connectors = Connectors::granting(Grants {
        credentials: serve.credentials,
        sandbox: serve.sandbox_files,
        gpgv: serve.gpgv,
    });
    app.outgoing = Arc::new(Outgoing::at(serve.public_url.as_deref()));
    // Before anything is written: a backup must not grow until it looks as new as what was served.
    restored::check(&app)
        .await
        .map_err(|error| failed(&error))?;
    if let Some(sole) = &sole {
        let ended = recover::end_leases(&app, sole).await;
        ended.map_err(|error| failed(&error))?;
    }
    let driver = Driver::start(&app).await.map_err(|error| failed(&error))?;
    if let Some(token) = token::first(&app).await.map_err(|error| failed(&error))? {
        println!("first admin token, shown once: {token}");
    }
    for address in &addresses {
        let at = address
            .listener
            .local_addr()
            .map_err(|error| failed(&error))?;
        match address.is_for_reports {
            true => println!("tidegate takes reports, and nothing else, on http://{at}"),
            false => println!("tidegate is listening on http://{at}"),
        }
        tracing::info!(version = env!("CARGO_PKG_VERSION"), address = %at, worker = app.worker_name, places, "the service answers");
    }
    let ending = app.ending.clone();
    app.background.spawn(async move {
        interrupted().await;
        tracing::info!("ending: nothing new is begun");
        ending.cancel();
    });
    let store = app.store.clone();
    http::serve(app, addresses, places).await;
    driver.stop().await;
    store.close().await;
    // Held until nothing of this process sends any more.
    drop(sole);
    Ok(())
}

/// Takes the addresses: the one for people first.
fn addresses(serve: &Serve) -> Result<Vec<http::Address>, CliError> {
    let wanted = [
        Some((serve.listen, "--listen")),
        serve.listen_reports.map(|at| (at, "--listen-reports")),
    ];
    let mut addresses = Vec::new();
    for (number, (at, option)) in wanted.into_iter().flatten().enumerate() {
        let listener = http::listen(at).map_err(|error| {
            CliError::Failed(format!("{at}: {error}; another address is {option}"))
        })?;
        addresses.push(http::Address {
            listener,
            is_for_reports: number > 0,
        });
    }
    Ok(addresses)
}

/// Waits for control-C or a polite kill.
async fn interrupted() {
    let polite = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    match polite {
        Ok(mut polite) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = polite.recv() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

/// Brings a database to this version.
///
/// # Errors
///
/// When it cannot be reached, or was written by a later version.
pub async fn migrate(migrate: Migrate, output: OutputFormat) -> Result<(), CliError> {
    open(&migrate.database).await?.store.close().await;
    match output {
        OutputFormat::Json => println!("{:#}", serde_json::json!({"ok": true})),
        OutputFormat::Table | OutputFormat::Csv => println!("the database is at this version"),
    }
    Ok(())
}

/// Makes an admin token with nothing but the database: every other one was lost.
///
/// # Errors
///
/// When the database cannot be reached or the name is taken.
pub async fn rescue(rescue: Rescue) -> Result<(), CliError> {
    must_exist(&rescue.database)?;
    let app = open(&rescue.database).await?;
    let made = token::rescue(&app, &rescue.name)
        .await
        .map_err(|error| CliError::Failed(error.to_string()))?;
    app.store.close().await;
    println!("{}", made.token.unwrap_or_default());
    println!("shown once; admin token `{}`", made.name);
    Ok(())
}

/// Adds everything up again from the bytes.
///
/// # Errors
///
/// When the database cannot be reached; differences end with code 2.
pub async fn fsck(fsck: Fsck, output: OutputFormat) -> Result<(), CliError> {
    must_exist(&fsck.database)?;
    let app = open(&fsck.database).await?;
    let found = checks::check(&app)
        .await
        .map_err(|error| CliError::Failed(error.to_string()))?;
    app.store.close().await;
    if output == OutputFormat::Json {
        println!("{:#}", serde_json::json!(found));
    } else {
        println!(
            "{} rollouts · {} batches · {} people · {} audit entries",
            grouped(found.rollouts),
            grouped(found.batches),
            grouped(found.people),
            grouped(found.audit_entries)
        );
        for finding in &found.findings {
            println!("✖ {}: {}", finding.code, finding.sentence);
        }
        if found.ok {
            println!("✔ everything adds up");
        }
    }
    if found.ok {
        Ok(())
    } else {
        Err(CliError::Silent(Exit::Difference))
    }
}
