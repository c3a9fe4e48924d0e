//! The budgets, each measured beside a reference in the same run: `make bench`.
//!
//! The real binary runs as a process and is asked over HTTP. Progress is printed as it goes, the whole
//! table at the end, and the same as JSON into `target/bench/budgets.json`. A missed budget is a line
//! that says NO; a broken promise (somebody lost, a claim under a halt) makes the run fail.
//!
//! `QUICK=1` leaves 15 million people out and asks less often; `PEOPLE` and `PEOPLE_MAX` are the design
//! point and the largest size; words after `--` choose parts, such as
//! `cargo bench --bench budgets -- drain sqlite`.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measurement that cannot go on has failed, and real processes live in real time"
)]

mod asking;
mod drifting;
mod exposing;
mod forging;
mod judging;
mod measure;
mod moving;
mod reference;
mod replicas;
mod report;
mod reporting;
mod restart;
mod scale;
mod scim;
#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "made for the black-box tests, which use more of it"
)]
#[path = "../support/main.rs"]
mod support;
mod world;

use serde_json::json;

use report::Report;
use scale::Costs;
use support::database::Database;
use world::{Files, World};

/// What can be chosen: parts and databases.
const PARTS: [&str; 14] = [
    "import", "plan", "drain", "looks", "halt", "exposure", "restart", "signals", "drift", "scale",
    "memory", "replicas", "scim", "judge",
];
/// How many of them need a database each.
const ON_EACH_DATABASE: usize = 11;
const DATABASES: [&str; 2] = ["sqlite", "postgres"];

/// How much is measured.
struct Options {
    people: u64,
    sizes: Vec<u64>,
    looks: usize,
    halts: usize,
    messages: usize,
    forgeries: usize,
    chosen: Vec<String>,
}

impl Options {
    fn read() -> Self {
        let is_quick = std::env::var_os("QUICK").is_some();
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(
                text.parse::<u64>()
                    .unwrap_or_else(|_| panic!("{name}={text} is no number")),
            )
        };
        let people = number("PEOPLE").unwrap_or(1_500_000);
        let largest = number("PEOPLE_MAX").unwrap_or(if is_quick { people } else { people * 10 });
        let sizes = [people / 10, people * 10];
        let chosen: Vec<String> = std::env::args()
            .skip(1)
            .filter(|word| !word.starts_with('-'))
            .collect();
        for word in &chosen {
            let is_known = PARTS.contains(&word.as_str()) || DATABASES.contains(&word.as_str());
            assert!(is_known, "`{word}` is none of {PARTS:?}, {DATABASES:?}");
        }
        Self {
            people,
            sizes: sizes.into_iter().filter(|size| *size <= largest).collect(),
            looks: if is_quick { 300 } else { 1000 },
            halts: if is_quick { 50 } else { 300 },
            messages: if is_quick { 20_000 } else { 100_000 },
            forgeries: if is_quick { 3_000 } else { 10_000 },
            chosen,
        }
    }

    /// Says whether one of these is wanted: all are, unless some of their kind are chosen.
    fn wants(&self, kind: &[&str], names: &[&str]) -> bool {
        let mut chosen = self
            .chosen
            .iter()
            .filter(|word| kind.contains(&word.as_str()))
            .peekable();
        chosen.peek().is_none() || chosen.any(|word| names.contains(&word.as_str()))
    }

    fn part(&self, names: &[&str]) -> bool {
        self.wants(&PARTS, names)
    }
}

fn main() {
    // Whoever lists tests asks every target; a measurement answers only to `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(run(&Options::read()));
}

async fn run(options: &Options) {
    let (files, mut report) = (Files::new(), Report::default());
    let machine = report::machine();
    for name in DATABASES {
        if options.wants(&DATABASES, &[name]) && options.part(&PARTS[..ON_EACH_DATABASE]) {
            println!("{name}");
            one_database(options, &files, &mut report, name).await;
        }
    }
    if options.part(&["replicas"]) && options.wants(&DATABASES, &["postgres"]) {
        println!("three processes");
        replicas::quiet(&mut report, &files, options.halts).await;
    }
    if options.part(&["scim"]) {
        for kind in ["scim2-server", "scimmy"] {
            println!("{kind}");
            scim::scim(&mut report, &files, kind).await;
        }
    }
    if options.part(&["judge"]) {
        println!("judge");
        judging::judging(&mut report);
    }
    println!("\n{}", report.table());
    let about = json!({"machine": machine, "people": options.people, "sizes": options.sizes, "chosen": options.chosen});
    let path = support::repository().join("target/bench/budgets.json");
    report.save(&path, &about);
    println!(
        "{} budgets missed; the same as JSON: target/bench/budgets.json",
        report.missed()
    );
    assert!(!report.is_broken(), "a promise is broken: see the table");
}

async fn database(name: &str) -> Option<Database> {
    match name {
        "postgres" => Database::postgres().await,
        _ => Some(Database::sqlite()),
    }
}

async fn one_database(options: &Options, files: &Files, report: &mut Report, name: &str) {
    let (Some(ours), Some(other)) = (database(name).await, database(name).await) else {
        report.add_unmeasured("everything", name, "there is no server");
        return;
    };
    let file = files.people(options.people);
    let mut world = World::new(&ours, &file, options.people).await;
    let on = world.on;
    if options.part(&["import"]) {
        moving::import(report, &world, &other, &file).await;
    }
    let mut plan_seconds = 0.0;
    if options.part(&["plan", "scale"]) {
        plan_seconds = moving::plan(report, &mut world).await;
    }
    let mut point = None;
    if options.part(&["drain", "memory", "scale"]) {
        let drain = moving::drain(report, &mut world, &other).await;
        point = Some(Costs::of(&world, plan_seconds, &drain));
    }
    if options.part(&["looks"]) {
        asking::looks(report, &mut world, options.looks).await;
    }
    if options.part(&["halt"]) {
        asking::halts(report, &mut world, options.halts).await;
    }
    if options.part(&["exposure"]) {
        exposing::exposure(report, &mut world).await;
    }
    if options.part(&["signals"]) {
        let stream = forging::Stream::start().await;
        reporting::prepare(&mut world, &stream).await;
        reporting::silence(report, &mut world, options.halts).await;
        forging::forgeries(report, &world, &stream, options.forgeries).await;
        reporting::storm(report, &mut world, options.messages).await;
    }
    if options.part(&["restart"]) {
        restart::restart(report, world).await;
    }
    if options.part(&["drift"])
        && let Some(database) = database(name).await
    {
        drifting::year(report, files, &database, options.people).await;
    }
    if let Some(point) = point.filter(|_| options.part(&["scale"])) {
        drop((ours, other));
        let mut costs = Vec::new();
        for size in &options.sizes {
            if let Some(database) = database(name).await {
                let is_larger = *size > options.people;
                costs.push(scale::costs(report, (&database, files), *size, is_larger).await);
            }
        }
        scale::report(report, on, point, &costs);
    }
}
