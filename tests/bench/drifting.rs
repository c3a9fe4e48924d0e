//! A year under a halt: who is who, where everybody ends, and everything that a release would meet.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use crate::measure::{forget_peak, megabytes};
use crate::report::{Report, Row, short};
use crate::support::database::Database;
use crate::support::until;
use crate::world::{Cost, Files, World, import, ten_waves};

/// How long the drift may take to measure, in seconds.
const DRIFT_SECONDS: f64 = 10.0;
/// How much memory the service may have meanwhile, in megabytes.
const DRIFT_MB: f64 = 300.0;
/// How long a preflight may take, the drift included, in seconds.
const PREFLIGHT_SECONDS: f64 = 15.0;

/// Halts a rollout on its way, imports the people of a year later, and reports what a preflight takes.
pub(crate) async fn year(report: &mut Report, files: &Files, database: &Database, people: u64) {
    let file = files.people(people);
    let later = later(&file);
    let mut world = World::new(database, &file, people).await;
    let (name, plan, _) = world.plan(ten_waves).await;
    world.start(&name, &plan).await;
    let total = plan["people"].as_u64().expect("a number of people");
    until("a third is moved", 120, async || {
        let view = world.status(&name).await;
        view["totals"]["done"].as_u64().unwrap_or(0) * 3 > total
    })
    .await;
    let halt =
        json!({"kind": "halt", "scope": {"type": "rollout", "id": name}, "reason": "measured"});
    let halt = world.api().post("/v1/holds?wait=quiesced", halt).await.ok();
    until("everybody has come back", 60, async || {
        world.status(&name).await["in_flight"] == 0
    })
    .await;
    // As after a year: a process that has served nothing else.
    world.restart();
    import(world.api(), &later).await;
    let path = format!(
        "/v1/holds/{}/preflight",
        halt["id"].as_str().expect("an id")
    );
    let (_, preflight) = taken(&world, &path).await;
    world.restart();
    let (drift, cost) = taken(&world, &format!("/v1/rollouts/{name}/drift")).await;
    let outcome = drift["report"]["outcome"].clone();
    let sum: u64 = outcome
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, people)| people.as_u64())
        .sum();
    let then = drift["report"]["people_then"].as_u64().unwrap_or(0);
    let class = |name: &str| {
        let classes = drift["report"]["classes"].as_array().into_iter().flatten();
        let mut of = classes.filter(|class| class["class"] == name);
        of.next()
            .and_then(|class| class["people"].as_u64())
            .unwrap_or(0)
    };
    let new = class("joined") + class("joined_outside");
    rows(
        report,
        &world,
        (cost, preflight),
        (&outcome, sum == then + new),
    );
}

/// Asks, and says what it took.
async fn taken(world: &World, path: &str) -> (Value, Cost) {
    forget_peak(world.service.pid());
    let begun = Instant::now();
    let answer = world.api().post(path, json!({})).await.ok();
    let cost = Cost {
        seconds: begun.elapsed().as_secs_f64(),
        peak_mb: megabytes(world.service.resident().1),
    };
    (answer, cost)
}

fn rows(report: &mut Report, world: &World, costs: (Cost, Cost), outcome: (&Value, bool)) {
    let (drift, preflight) = costs;
    let people = short(world.people as f64);
    report.add(Row {
        what: format!("drift of {people} over a year"),
        on: world.on.to_owned(),
        ours: format!("{:.1} s, {:.0} MB", drift.seconds, drift.peak_mb),
        budget: format!("≤ {DRIFT_SECONDS} s, ≤ {DRIFT_MB} MB"),
        met: Some(drift.seconds <= DRIFT_SECONDS && drift.peak_mb <= DRIFT_MB),
        note: "measured and stored, person by person; memory is all of the process".to_owned(),
        figures: json!({"seconds": drift.seconds, "peak_mb": drift.peak_mb, "outcome": outcome.0}),
        ..Row::default()
    });
    report.add(Row {
        what: "everybody ends in one place".to_owned(),
        on: world.on.to_owned(),
        ours: if outcome.1 { "yes" } else { "no" }.to_owned(),
        budget: "yes".to_owned(),
        met: Some(outcome.1),
        promised: true,
        note: "the outcomes add up to those of then and those who are new".to_owned(),
        figures: json!({"outcome": outcome.0}),
        ..Row::default()
    });
    report.add(Row {
        what: format!("preflight of {people}, the drift included"),
        on: world.on.to_owned(),
        ours: format!("{:.1} s, {:.0} MB", preflight.seconds, preflight.peak_mb),
        budget: format!("≤ {PREFLIGHT_SECONDS} s"),
        met: Some(preflight.seconds <= PREFLIGHT_SECONDS),
        figures: json!({"seconds": preflight.seconds, "peak_mb": preflight.peak_mb}),
        ..Row::default()
    });
}

/// Writes the file of a year later: one in ten has left, one in twelve is in the department of somebody else,
/// one in forty has another user name, and one in ten is new.
fn later(file: &Path) -> PathBuf {
    let text = std::fs::read_to_string(file).expect("the file");
    let mut lines = text.lines();
    let header = lines.next().expect("a header");
    let place = |name: &str| {
        let mut columns = header.split(',');
        columns.position(|column| column == name).expect("a column")
    };
    let (key, name, department) = (
        place("employee_id"),
        place("user_name"),
        place("department"),
    );
    let mut written = String::with_capacity(text.len() + text.len() / 8);
    written.push_str(header);
    written.push('\n');
    let mut before = String::new();
    let mut write = |fields: &[String]| {
        let _ = writeln!(written, "{}", fields.join(","));
    };
    for (number, line) in lines.enumerate() {
        let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
        let was = std::mem::replace(&mut before, fields[department].clone());
        if number % 10 == 7 {
            // Somebody new has the place, and nothing else of whoever left.
            fields[key] = format!("N{}", fields[key]);
            fields[name] = format!("n{}", fields[name]);
            write(&fields);
            continue;
        }
        if number % 12 == 5 && !was.is_empty() {
            fields[department] = was;
        }
        if number % 40 == 3 {
            fields[name] = format!("{}x", fields[name]);
        }
        write(&fields);
    }
    let path = file.with_extension("later.csv");
    std::fs::write(&path, written).expect("the file of later");
    path
}
