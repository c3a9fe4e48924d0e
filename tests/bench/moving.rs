//! Import, plan, drain and memory, each beside what the database does by itself.

use std::path::Path;

use serde_json::json;

use crate::reference::{self, Load, Raw};
use crate::report::{Report, Row, short};
use crate::support::database::Database;
use crate::world::{Drain, World, one_wave, ten_waves};

/// How much longer than the database's own bulk load an import may take.
const IMPORT_RATIO: f64 = 1.5;
/// How long a plan of 1.5 million people may take, in seconds.
const PLAN_SECONDS: f64 = 2.0;
/// How much memory it may take, in megabytes.
const PLAN_MB: f64 = 300.0;
/// How much memory the service may take while it runs 1.5 million people.
const RUN_MB: f64 = 150.0;
/// How many people a second at least, on SQLite.
const SQLITE_RATE: f64 = 1e6;
/// How many people a second at least, on PostgreSQL.
const POSTGRES_RATE: f64 = 5e5;

/// Reports an import beside the database's own bulk load of the same file.
pub(crate) async fn import(report: &mut Report, world: &World, other: &Database, file: &Path) {
    let what = format!("import {} lines of CSV", short(world.people as f64));
    let ours = world.import.seconds;
    let reference = match reference::bulk_load(other, file).await {
        Ok(seconds) => seconds,
        Err(why) => return report.add_unmeasured(&what, world.on, &why),
    };
    let how = if other.is_postgres() {
        "COPY"
    } else {
        ".import"
    };
    report.add(Row {
        what,
        on: world.on.to_owned(),
        ours: format!("{ours:.2} s"),
        reference: format!("{how} {reference:.2} s"),
        ratio: Some(ours / reference),
        budget: format!("≤ {IMPORT_RATIO} ×"),
        met: Some(ours <= IMPORT_RATIO * reference),
        note: format!(
            "over HTTP, published and indexed by key; the reference has no index; peak {:.0} MB",
            world.import.peak_mb
        ),
        figures: json!({"seconds": ours, "reference_seconds": reference, "peak_mb": world.import.peak_mb}),
        ..Row::default()
    });
}

/// Reports a plan into ten waves; returns the seconds it took.
pub(crate) async fn plan(report: &mut Report, world: &mut World) -> f64 {
    let (_, plan, cost) = world.plan(ten_waves).await;
    let (_, _, again) = world.plan(ten_waves).await;
    let best = cost.seconds.min(again.seconds);
    let waves = plan["waves"].as_array().map_or(0, Vec::len);
    report.add(Row {
        what: format!("plan {} people into {waves} waves", short(world.people as f64)),
        on: world.on.to_owned(),
        ours: format!("{best:.2} s, {:.0} MB", cost.peak_mb),
        budget: format!("≤ {PLAN_SECONDS} s, ≤ {PLAN_MB} MB"),
        met: Some(best <= PLAN_SECONDS && cost.peak_mb <= PLAN_MB),
        note: format!(
            "the whole call: reading the people, compiling, keeping the rosters; the first took {:.2} s; memory is all of the process",
            cost.seconds
        ),
        figures: json!({"seconds": best, "first_seconds": cost.seconds, "peak_mb": cost.peak_mb, "people": plan["people"], "waves": waves}),
        ..Row::default()
    });
    best
}

/// Drains one wave of everybody twice: in the process that imported and planned, and in a new one.
pub(crate) async fn drain(report: &mut Report, world: &mut World, other: &Database) -> Drain {
    let (name, plan, _) = world.plan(one_wave).await;
    let first = world.drain(&name, &plan).await;
    let (name, plan, _) = world.plan(one_wave).await;
    world.restart();
    let fresh = world.drain(&name, &plan).await;
    let best = if fresh.seconds < first.seconds {
        &fresh
    } else {
        &first
    };
    let load = load_of(&world.service.database, best).await;
    let seconds = reference::commits(other, load).await;
    let reference = best.people as f64 / seconds;
    let budget = if other.is_postgres() {
        POSTGRES_RATE
    } else {
        SQLITE_RATE
    };
    report.add(Row {
        what: format!("drain {} people, durably", short(best.people as f64)),
        on: world.on.to_owned(),
        ours: format!("{}/s", short(best.rate())),
        reference: format!("{}/s", short(reference)),
        ratio: Some(best.rate() / reference),
        budget: format!("≥ {}/s", short(budget)),
        met: Some(best.rate() >= budget),
        note: format!(
            "from the start to completed {:.2} s: preparing {:.2} s, ledger turns {:.2} s ({} commits, {} rows of {} B and \
             an entry of {} B each); the other of two runs {:.2} s; the reference: as many commits of the same bytes",
            best.seconds,
            best.preparing,
            best.sending,
            load.commits,
            load.writes,
            load.row,
            load.entry,
            first.seconds.max(fresh.seconds),
        ),
        figures: json!({"people": best.people, "seconds": best.seconds, "preparing_seconds": best.preparing,
            "sending_seconds": best.sending, "commits": load.commits, "rows_per_commit": load.writes,
            "row_bytes": load.row, "entry_bytes": load.entry, "reference_seconds": seconds,
            "runs_seconds": [first.seconds, fresh.seconds]}),
        ..Row::default()
    });
    memory(report, world, &first, &fresh);
    best.clone()
}

fn memory(report: &mut Report, world: &World, first: &Drain, fresh: &Drain) {
    report.add(Row {
        what: format!("memory while running {} people", short(first.people as f64)),
        on: world.on.to_owned(),
        ours: format!("{:.0} MB", fresh.peak_mb),
        budget: format!("≤ {RUN_MB} MB"),
        met: Some(fresh.peak_mb <= RUN_MB),
        note: format!(
            "peak of the resident memory from the start to completed; in the process that had just imported and planned, \
             and has not given everything back, {:.0} MB",
            first.peak_mb
        ),
        figures: json!({"fresh_mb": fresh.peak_mb, "after_import_and_plan_mb": first.peak_mb}),
        ..Row::default()
    });
}

/// Measures what a drain writes: the rows that its turns touch, and their entries in the trail.
async fn load_of(database: &Database, drain: &Drain) -> Load {
    let mut raw = Raw::open(database).await;
    let whole = |number: i64| usize::try_from(number).unwrap_or(0);
    let batches = whole(raw.number("SELECT COUNT(*) FROM batch").await);
    let bytes = whole(
        raw.number("SELECT CAST(SUM(LENGTH(roster) + LENGTH(slots) + 200) AS BIGINT) FROM batch")
            .await,
    );
    let drained = usize::try_from(drain.people.div_ceil(1024)).unwrap_or(1);
    let commits = drain.turns.max(1);
    Load {
        commits,
        batches: drained,
        // Each batch is written when it is claimed, and again when its outcomes are recorded.
        writes: (2 * drained).div_ceil(commits),
        row: bytes / batches.max(1),
        entry: usize::try_from(drain.trail_bytes).unwrap_or(0) / commits,
    }
}
