//! Missions: text in, text out, through the whole engine on every database, under a virtual clock.
//!
//! `tests/missions/*.txt` says what people do and how time passes; `*.out` what came of it, the same on
//! every database. `MISSIONS=write` writes the outcome anew.

mod nobody;

use std::fmt::Write as _;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tidegate_orchestrator::hold::HoldKind;
use tidegate_orchestrator::hold::requirement::{Category, EvidenceKind, Severity, Status};
use tidegate_orchestrator::spec::SpecFormat;

use super::driver::Driver;
use super::{permit, reviews};
use crate::app::{App, Ids};
use crate::clock::Clock;
use crate::operations::emergency::{EmergencyView, NewEmergency};
use crate::operations::import::ImportOptions;
use crate::operations::requirement::{NewEvidence, NewRequirement, RequirementEdit};
use crate::operations::view::RolloutView;
use crate::operations::{
    Actor, OperationError, drift, emergency, fsck, hold, import, plan, population, release,
    requirement, rollout, target, token,
};
use crate::source::mapping::Mapping;
use crate::source::rows::{Compression, RowFormat};
use crate::store::testing::urls;
use crate::store::{DatabaseUrl, Store, audit};

const DAY_MS: u32 = 86_400_000;
const HOUR_MS: u32 = 3_600_000;

struct Mission {
    app: App,
    driver: Option<Driver>,
    url: DatabaseUrl,
    name: &'static str,
    folder: PathBuf,
    hold: String,
    requirements: Vec<String>,
    emergency: String,
    people: u32,
    told: String,
}

fn who(name: &str) -> Actor {
    Actor::person(name, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_after_a_breach_the_rollout_goes_on_and_ends() {
    check("vendor_breach").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_custodians_break_the_glass_and_anybody_stops_them() {
    check("broken_glass").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_430_days_fires_nothing_and_expires_into_nothing() {
    check("long_stop").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_that_nobody_looks_at_nags_for_400_days_and_stays() {
    check("nobody_looks").await;
}

/// Tells a mission on every database, and compares.
async fn check(name: &'static str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/missions");
    let script = std::fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
    for url in urls().await {
        let told = run(name, &script, &folder, &url).await;
        let path = folder.join(format!("{name}.out"));
        if std::env::var("MISSIONS").is_ok_and(|what| what == "write") {
            std::fs::write(&path, &told).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(told == expected, "{name} on {url:?}:\n{told}");
    }
}

/// A process of the service.
async fn process(url: &DatabaseUrl, clock: Clock) -> (App, Driver) {
    let ids = Ids::system();
    let store = Store::open(url, clock.clone(), &ids).await.unwrap();
    let app = App::new(store, clock, ids);
    let driver = Driver::start(&app).await.unwrap();
    (app, driver)
}

async fn run(name: &'static str, script: &str, folder: &Path, url: &DatabaseUrl) -> String {
    let start = script
        .lines()
        .find_map(|line| line.strip_prefix("at "))
        .unwrap();
    let (app, driver) = process(url, Clock::virtual_at(start.parse().unwrap())).await;
    for (name, role) in [
        ("ann", "security"),
        ("bo", "manager"),
        ("cy", "approver"),
        ("dee", "security"),
        ("aud", "auditor"),
    ] {
        token::create(&app, &Actor::task("test"), (name, None), role)
            .await
            .unwrap();
    }
    let mut mission = Mission {
        app,
        driver: Some(driver),
        url: url.clone(),
        name,
        folder: folder.to_owned(),
        hold: String::new(),
        requirements: Vec::new(),
        emergency: String::new(),
        people: 0,
        told: String::new(),
    };
    for line in script.lines().filter(|line| !line.starts_with("at ")) {
        if line.starts_with('#') || line.is_empty() {
            let _ = writeln!(mission.told, "{line}");
            continue;
        }
        let _ = writeln!(mission.told, "> {line}");
        mission.follow(line).await;
    }
    mission.driver.take().unwrap().stop().await;
    mission.told
}

fn told(view: &EmergencyView) -> String {
    format!("{}: {}", view.standing, view.sentence)
}

impl Mission {
    fn say(&mut self, text: &str) {
        let mut text = text.to_owned();
        for (id, name) in [(&self.hold, "HOLD"), (&self.emergency, "EMERGENCY")] {
            if !id.is_empty() {
                text = text.replace(id, name);
            }
        }
        let _ = writeln!(self.told, "  {text}");
    }

    fn outcome<T>(&mut self, done: Result<T, OperationError>, well: impl Fn(&T) -> String) {
        match done {
            Ok(value) => self.say(&well(&value)),
            Err(OperationError::Refused {
                code,
                sentence,
                details,
            }) => {
                self.say(&format!("refused, {code}: {sentence}"));
                for detail in details.iter().skip(1) {
                    self.say(&format!("  {}", detail.message));
                }
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn follow(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "people" => self.settle_in(rest.parse().unwrap()).await,
            "start" => self.start().await,
            "days" => self.days(rest.parse().unwrap()).await,
            "hours" => self.hours(rest.parse().unwrap()).await,
            "down" => self.down(rest.parse().unwrap()).await,
            "ask" => self.ask(rest).await,
            "confirm" | "end" | "review" => self.glass(verb, rest).await,
            "quiet" => self.quiet().await,
            "counts" => self.counts().await,
            "halt" => self.halt(rest).await,
            "stop" => self.stop(rest).await,
            "watch" => self.watch(rest.parse().unwrap()).await,
            "look" => self.look(rest).await,
            "owner" => self.owner(rest).await,
            "revoke" => self.revoke(rest).await,
            "require" => self.require(rest).await,
            "drift" => self.drift().await,
            "deliver" => self.deliver(rest).await,
            "verify" | "waive" => self.judge(verb, rest).await,
            "books" => {
                let found = fsck::check(&self.app).await.unwrap();
                self.say(if found.ok {
                    "everything adds up"
                } else {
                    "it does not add up"
                });
            }
            _ => self.release(verb, rest).await,
        }
    }

    fn csv(&self, people: u32, year: bool) -> Vec<u8> {
        let mut text = String::from("employee_id,user_name,department,active\n");
        let department = |n: u32| ["IT", "Sales", "Legal", "Support", "Field"][n as usize % 5];
        for n in 0..people {
            // A year: one in ten has left, one in twenty stays listed and is inactive, one in twelve is elsewhere.
            if year && n % 10 == 7 {
                continue;
            }
            let is_active = !(year && n % 20 == 3);
            let place = if year && n % 12 == 5 {
                department(n + 1)
            } else {
                department(n)
            };
            let _ = writeln!(text, "e{n:05},user{n},{place},{is_active}");
        }
        if year {
            for n in people..people + people / 20 {
                let _ = writeln!(text, "e{n:05},user{n},{},true", department(n));
            }
        }
        text.into_bytes()
    }

    async fn import(&self, bytes: Vec<u8>) {
        let options = ImportOptions {
            format: RowFormat::Csv,
            compression: Compression::None,
            file_name: None,
            bad_rows_max: None,
            override_shrink_reason: Some("a year".to_owned()),
        };
        import::import(&self.app, &who("bo"), "staff", options, Cursor::new(bytes))
            .await
            .unwrap();
    }

    async fn settle_in(&mut self, people: u32) {
        self.people = people;
        let app = &self.app;
        population::create(app, &who("bo"), "staff", &Mapping::default())
            .await
            .unwrap();
        self.import(self.csv(people, false)).await;
        target::create(app, &who("bo"), "box", "sandbox", &json!({}))
            .await
            .unwrap();
    }

    async fn start(&mut self) {
        let spec =
            std::fs::read_to_string(self.folder.join(format!("{}.yaml", self.name))).unwrap();
        rollout::create(&self.app, &who("bo"), &spec, SpecFormat::Yaml)
            .await
            .unwrap();
        let made = plan::make(&self.app, &who("bo"), "move").await.unwrap();
        rollout::start(&self.app, &who("bo"), "move", None, &made.digest)
            .await
            .unwrap();
        self.rest().await;
    }

    /// Waits until the rollout waits for something, and has nobody under way.
    async fn rest(&mut self) -> RolloutView {
        let mut quiet = 0;
        for _ in 0..3000 {
            permit::renew(&self.app).await.unwrap();
            self.app.wake.ring();
            tokio::time::sleep(Duration::from_millis(15)).await;
            let view = rollout::get(&self.app, "move").await.unwrap();
            let waits = view.why_not_now.is_some() || view.status == "completed";
            let is_quiet = waits && view.in_flight == 0 && view.lifecycle != "preparing";
            quiet = if is_quiet { quiet + 1 } else { 0 };
            if quiet == 4 {
                return view;
            }
        }
        panic!("it never comes to rest");
    }

    async fn days(&mut self, days: u32) {
        let is_halted = rollout::get(&self.app, "move").await.unwrap().status == "halted";
        // Under a halt a year is one step; else people move day by day.
        if is_halted {
            let (before, _) = audit::head(self.app.store.read()).await.unwrap();
            for _ in 0..days {
                self.app.clock.advance(DAY_MS);
            }
            reviews::look(&self.app).await.unwrap();
            self.rest().await;
            let (after, _) = audit::head(self.app.store.read()).await.unwrap();
            self.say(&format!("{} entries in the trail", after - before));
            return;
        }
        for _ in 0..days {
            self.app.clock.advance(DAY_MS);
            self.rest().await;
        }
    }

    async fn hours(&mut self, hours: u32) {
        for _ in 0..hours {
            self.app.clock.advance(HOUR_MS);
            self.rest().await;
        }
    }

    /// The service is not there for so many hours.
    async fn down(&mut self, hours: u32) {
        self.driver.take().unwrap().stop().await;
        self.app.clock.advance(hours * HOUR_MS);
        let (app, driver) = process(&self.url, self.app.clock.clone()).await;
        self.app = app;
        self.driver = Some(driver);
        self.rest().await;
    }

    async fn ask(&mut self, rest: &str) {
        let (what, reason) = rest.split_once(": ").unwrap();
        let mut words = what.split(' ');
        let name = words.next().unwrap();
        let mut number = || words.next().unwrap().parse().unwrap();
        let new = NewEmergency {
            waves: [number()].into(),
            minutes: number(),
            incident: "INC-4711".to_owned(),
            reason: reason.to_owned(),
        };
        let asked = emergency::ask(&self.app, &who(name), "move", &new).await;
        if let Ok(asked) = &asked {
            self.emergency = asked.id.to_string();
        }
        self.outcome(asked, told);
    }

    async fn glass(&mut self, verb: &str, rest: &str) {
        let (name, reason) = rest.split_once(": ").unwrap();
        let (app, actor, id) = (self.app.clone(), who(name), self.emergency.clone());
        let done = match verb {
            "confirm" => emergency::confirm(&app, &actor, &id, reason).await,
            "end" => emergency::end(&app, &actor, &id, reason).await,
            _ => emergency::review(&app, &actor, &id, reason).await,
        };
        self.outcome(done, told);
        self.rest().await;
    }

    /// Which halts are in force, and whether each of them is quiet.
    async fn quiet(&mut self) {
        self.rest().await;
        let page = hold::list(&self.app, (true, false), None, 10)
            .await
            .unwrap();
        for held in page.items {
            let quiet = if held.quiesced { "quiet" } else { "not quiet" };
            self.say(&format!("{} by {}: {quiet}", held.kind, held.placed_by));
        }
    }

    async fn counts(&mut self) {
        let view = self.rest().await;
        let now = self
            .app
            .clock
            .now()
            .format(if self.name != "vendor_breach" {
                "%Y-%m-%d %H:%M"
            } else {
                "%Y-%m-%d"
            });
        self.say(&format!("{now}  {}", view.status));
        for wave in &view.waves {
            let counts: Vec<String> = wave
                .counts
                .iter()
                .filter(|(state, people)| {
                    **people > 0 && !["people", "adopted"].contains(&state.as_str())
                })
                .map(|(state, people)| format!("{people} {state}"))
                .collect();
            self.say(&format!(
                "{} {}: {}",
                wave.name,
                wave.state,
                counts.join(", ")
            ));
        }
    }

    async fn halt(&mut self, rest: &str) {
        let (name, reason) = rest.split_once(": ").unwrap();
        let done = rollout::stop(&self.app, &who(name), "move", HoldKind::Halt, reason)
            .await
            .unwrap();
        self.hold = done.holds[0].id.to_string();
        let view = self.rest().await;
        self.say(&format!(
            "{}, quiesced {}",
            view.status, view.holds[0].quiesced
        ));
    }

    /// A second halt, while the mission goes on with the first.
    async fn stop(&mut self, rest: &str) {
        let (name, reason) = rest.split_once(": ").unwrap();
        rollout::stop(&self.app, &who(name), "move", HoldKind::Halt, reason)
            .await
            .unwrap();
        self.rest().await;
    }

    async fn require(&mut self, rest: &str) {
        let (name, title) = rest.split_once(": ").unwrap();
        let new = NewRequirement {
            title: title.to_owned(),
            text: format!("{title}, as seen by us"),
            category: Category::MonitorAndDetect,
            severity: Severity::Critical,
            blocking: true,
            owner: None,
            vendor: tidegate_orchestrator::hold::requirement::Vendor::default(),
            due: None,
        };
        let added = requirement::add(&self.app, &who(name), &self.hold, &new)
            .await
            .unwrap();
        self.requirements.push(added.id.to_string());
    }

    async fn drift(&mut self) {
        self.import(self.csv(self.people, true)).await;
        let view = drift::measure(&self.app, &who("bo"), "move", None)
            .await
            .unwrap();
        let report = view.report.unwrap();
        for class in &report.classes {
            self.say(&format!("{} {}", class.people, class.sentence));
        }
        let outcome: Vec<String> = report
            .outcome
            .iter()
            .map(|(state, n)| format!("{n} {state}"))
            .collect();
        self.say(&format!("afterwards: {}", outcome.join(", ")));
    }

    async fn deliver(&mut self, rest: &str) {
        for number in rest.split(' ') {
            let id = self.requirements[number.parse::<usize>().unwrap() - 1].clone();
            let evidence = NewEvidence {
                kind: EvidenceKind::Text,
                text: "report attached".to_owned(),
                sha256: None,
                bytes: None,
            };
            let names = (self.hold.as_str(), id.as_str());
            requirement::attest(&self.app, &who("ann"), names, &evidence)
                .await
                .unwrap();
            let edit = RequirementEdit {
                status: Some(Status::Delivered),
                ..RequirementEdit::default()
            };
            requirement::edit(&self.app, &who("ann"), names, None, &edit)
                .await
                .unwrap();
        }
    }

    async fn judge(&mut self, verb: &str, rest: &str) {
        let (name, numbers) = rest.split_once(' ').unwrap();
        let expires = self.app.clock.now() + chrono::TimeDelta::days(30);
        // The same end for both people: to the day.
        let expires = expires.date_naive().and_hms_opt(0, 0, 0).unwrap().and_utc();
        for number in numbers.split(' ') {
            let id = self.requirements[number.parse::<usize>().unwrap() - 1].clone();
            let names = (self.hold.as_str(), id.as_str());
            let done = if verb == "verify" {
                requirement::verify(&self.app, &who(name), names, "seen").await
            } else {
                requirement::waive(&self.app, &who(name), names, ("next quarter", expires)).await
            };
            self.outcome(done, |found| {
                format!("{} {}", found.label(), found.status.name())
            });
        }
    }

    async fn release(&mut self, verb: &str, name: &str) {
        let (app, hold) = (self.app.clone(), self.hold.clone());
        let digest = release::show(&app, &hold).await.unwrap().digest;
        let digest = digest.unwrap_or_else(|| "0".repeat(64));
        match verb {
            "request" => {
                let done = release::request(&app, &who(name), &hold, "a year is over").await;
                self.outcome(done, |view| format!("{}: {}", view.status, view.sentence));
            }
            "approve" => {
                let done = release::approve(&app, &who(name), &hold, (&digest, "looked")).await;
                self.outcome(done, |view| format!("{}: {}", view.status, view.sentence));
            }
            "preflight" => {
                let done = release::preflight(&app, &who(name), &hold).await.unwrap();
                for item in done.items.iter().filter(|item| !item.ok) {
                    self.say(&format!("✖ {}", item.sentence));
                }
                self.say(if done.ok { "passed" } else { "not passed" });
            }
            "release" => {
                let done = release::execute(&app, &who(name), &hold, (&digest, "go on")).await;
                self.outcome(done, |view| {
                    format!(
                        "released by {}",
                        view.released_by.clone().unwrap_or_default()
                    )
                });
            }
            other => panic!("`{other}` is no command of a mission"),
        }
    }
}
