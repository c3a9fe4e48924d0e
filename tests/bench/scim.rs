//! People onto real SCIM servers, beside a bare load generator that posts the same accounts.

use std::time::Instant;

use serde_json::{Value, json};

use crate::report::{Report, Row};
use crate::support::database::Database;
use crate::support::targets::{Target, check_nobody_twice};
use crate::world::{Files, World};

/// How many people are moved.
const PEOPLE: u64 = 5000;
/// How many requests at once, on both sides.
const AT_ONCE: usize = 16;
/// The share of the bare rate that is asked for.
const SHARE: f64 = 0.9;
/// What a server adds to an account by itself.
const ADDED: [&str; 3] = ["id", "meta", "groups"];

/// Measures one kind of server: two fresh ones, one for each side.
pub(crate) async fn scim(report: &mut Report, files: &Files, kind: &str) {
    let what = format!("SCIM: {PEOPLE} people");
    let (Some(ours), Some(bare)) = (server(kind).await, server(kind).await) else {
        let why = "it is not installed: tests/setup/ensure-targets.sh";
        return report.add_unmeasured(&what, kind, why);
    };
    let (seconds, accounts) = moved(&ours, files).await;
    drop(ours);
    let bare_seconds = posted(&bare, accounts).await;
    let (rate, bare_rate) = (PEOPLE as f64 / seconds, PEOPLE as f64 / bare_seconds);
    report.add(Row {
        what,
        on: kind.to_owned(),
        ours: format!("{rate:.0}/s"),
        reference: format!("{bare_rate:.0}/s"),
        ratio: Some(rate / bare_rate),
        budget: format!("≥ {:.0} %", SHARE * 100.0),
        met: Some(rate >= SHARE * bare_rate),
        note: format!(
            "from the start to completed {seconds:.2} s; the reference posts the same accounts, {AT_ONCE} at a time, in {bare_seconds:.2} s"
        ),
        figures: json!({"people": PEOPLE, "seconds": seconds, "reference_seconds": bare_seconds, "at_once": AT_ONCE}),
        ..Row::default()
    });
}

async fn server(kind: &str) -> Option<Target> {
    match kind {
        "scimmy" => Target::scimmy(&[]).await,
        _ => Target::scim2(&[]).await,
    }
}

/// Moves the people, and returns how long it took and the accounts as they were sent.
async fn moved(target: &Target, files: &Files) -> (f64, Vec<Value>) {
    let mut world = World::new(&Database::sqlite(), &files.people(PEOPLE), PEOPLE).await;
    let more = json!({"concurrency": AT_ONCE});
    target.register(world.api(), "server", more).await;
    let spec = |name: &str| {
        format!(
            "rollout: {name}\npopulation: staff\ntarget: server\nwaves:\n  - {{name: everyone, rest: true}}\n"
        )
    };
    let (name, plan, _) = world.plan(spec).await;
    let drain = world.drain(&name, &plan).await;
    let mut accounts = target.accounts().await;
    assert_eq!(check_nobody_twice(&accounts) as u64, PEOPLE);
    for account in accounts.iter_mut().filter_map(Value::as_object_mut) {
        account.retain(|field, _| !ADDED.contains(&field.as_str()));
    }
    (drain.seconds, accounts)
}

/// Posts accounts as fast as the server takes them; returns the seconds.
async fn posted(target: &Target, accounts: Vec<Value>) -> f64 {
    let http = reqwest::Client::builder()
        .pool_max_idle_per_host(AT_ONCE)
        .build()
        .expect("a client");
    let url = format!("{}/Users", target.url);
    let bodies: Vec<String> = accounts.iter().map(Value::to_string).collect();
    let begun = Instant::now();
    let senders = (0..AT_ONCE).map(|sender| {
        let (http, url) = (http.clone(), url.clone());
        let mine: Vec<String> = bodies
            .iter()
            .skip(sender)
            .step_by(AT_ONCE)
            .cloned()
            .collect();
        tokio::spawn(async move {
            for body in mine {
                let request = http
                    .post(&url)
                    .header("content-type", "application/scim+json");
                let answer = request.body(body).send().await.expect("an answer");
                assert_eq!(answer.status().as_u16(), 201);
                answer.bytes().await.expect("a body");
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("a sender");
    }
    begun.elapsed().as_secs_f64()
}
