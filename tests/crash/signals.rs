//! Killed at each step between a message and what follows from it: nothing that was answered is lost, and what is sent
//! again counts once.
//!
//! A process is kept at a step by a lock on the table that it is about to write, and killed there. SQLite has
//! one lock for all, so there it is killed when a step has just been seen.

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::number;
use crate::support::api::{Api, send};
use crate::support::database::Database;
use crate::support::people::sandbox;
use crate::support::service::Service;
use crate::support::webhooks::{Sender, again_with_key, service_with_key, source};
use crate::support::{on_each_database, until};

on_each_database!(killed_when_a_step_is_just_seen_each_message_counts_once);

/// How many messages come together at each step.
const MESSAGES: usize = 3;
/// What admission writes, in this order.
const ADMISSION: [&str; 4] = ["signal_head", "signal", "signal_raw", "audit"];
/// What deciding writes, in this order, behind the lock of who decides.
const DECIDING: [&str; 5] = ["hold", "hold_report", "signal", "target_decided", "audit"];

/// Tables that nobody else may write.
struct Kept(PgConnection);

impl Kept {
    async fn table(database: &Database, table: &str) -> Self {
        let mut connection = PgConnection::connect(&database.url).await.unwrap();
        connection.execute("BEGIN").await.unwrap();
        let sql = format!("LOCK TABLE {table} IN EXCLUSIVE MODE");
        connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        Self(connection)
    }

    async fn let_go(self) {
        self.0.close().await.unwrap();
    }
}

/// Waits until somebody waits to write a table.
async fn until_kept(database: &Database, table: &str) {
    let sql = format!(
        "SELECT COUNT(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
         WHERE NOT l.granted AND c.relname = '{table}' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    until(table, 30, async || number(database, &sql).await > 0).await;
}

struct World {
    database: Database,
    service: Service,
    /// How many messages were sent by now, each until it was answered.
    sent: usize,
}

fn body() -> String {
    json!({"type": "security.vendor_breach", "data": {"severity": "critical"}}).to_string()
}

impl World {
    async fn new(database: &Database) -> Self {
        let service = service_with_key(database);
        sandbox(&service.api, json!({})).await;
        let facts = json!({"vendor": "acme"});
        let put = service
            .api
            .request(reqwest::Method::PUT, "/v1/targets/box/facts");
        send(put.json(&facts)).await.ok();
        source(&service.api, "siem", "acme").await;
        Self {
            database: database.clone(),
            service,
            sent: 0,
        }
    }

    /// Sends the next messages at once; says when all is over how many were answered.
    fn send(&self) -> tokio::task::JoinHandle<usize> {
        let sender = Sender::new(&self.service.api, "siem");
        let numbers = self.sent..self.sent + MESSAGES;
        tokio::spawn(async move {
            let sent = numbers.map(|number| {
                let sender = sender.clone();
                async move { sender.try_send(&format!("m{number}"), &body()).await }
            });
            let answers = futures_util::future::join_all(sent).await;
            answers
                .into_iter()
                .filter(|is_answered| *is_answered)
                .count()
        })
    }

    /// Starts the service anew, sends what was sent again, and checks that everything counts once.
    async fn again(&mut self, step: &str) {
        let token = self.service.api.token.clone();
        self.service = again_with_key(&self.database, &token);
        assert_eq!(self.send().await.unwrap(), MESSAGES, "{step}: it is taken");
        self.sent += MESSAGES;
        let api = &self.service.api;
        until(&format!("{step}: everything is judged"), 30, async || {
            let signals = signals(api).await;
            signals.len() == self.sent && signals.iter().all(|one| one["outcome"] == "halt")
        })
        .await;
        let holds = api.get("/v1/holds?in_force=true").await.ok();
        let holds = holds["items"].as_array().unwrap().iter();
        let halts: Vec<&Value> = holds.filter(|hold| hold["kind"] == "halt").collect();
        assert_eq!(halts.len(), 1, "{step}: {halts:#?}");
        assert_eq!(
            halts[0]["reported"]["signals"], self.sent,
            "{step}: each once"
        );
    }

    async fn kill(&mut self) {
        self.service.kill();
    }
}

async fn signals(api: &Api) -> Vec<Value> {
    let listed = api.get("/v1/signals?limit=1000").await.ok();
    listed["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_each_write_of_an_admission_nothing_is_answered_and_nothing_is_kept() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let mut world = World::new(&database).await;
    for table in ADMISSION {
        let kept = Kept::table(&database, table).await;
        let sending = world.send();
        until_kept(&database, table).await;
        world.kill().await;
        assert_eq!(
            sending.await.unwrap(),
            0,
            "{table}: nothing is answered that is not durable"
        );
        kept.let_go().await;
        let known = number(&database, "SELECT COUNT(*) FROM signal").await;
        assert_eq!(
            known,
            i64::try_from(world.sent).unwrap(),
            "{table}: nothing is half done"
        );
        world.again(table).await;
    }
    world.service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_each_write_of_a_decision_what_was_answered_is_judged_once() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    for table in DECIDING {
        // A hold is new only once.
        let database = Database::postgres().await.unwrap_or(database.clone());
        let mut world = World::new(&database).await;
        // Nobody decides until everything is answered.
        let deciding = Kept::table(&database, "policy_state").await;
        assert_eq!(
            world.send().await.unwrap(),
            MESSAGES,
            "admission waits for no decision"
        );
        until_kept(&database, "policy_state").await;
        let kept = Kept::table(&database, table).await;
        deciding.let_go().await;
        until_kept(&database, table).await;
        world.kill().await;
        kept.let_go().await;
        let held = number(&database, "SELECT COUNT(*) FROM hold").await;
        assert_eq!(held, 0, "{table}: nothing is half done");
        world.again(table).await;
        world.service.end_and_fsck();
    }
}

async fn killed_when_a_step_is_just_seen_each_message_counts_once(database: Database) {
    let mut world = World::new(&database).await;
    for (step, sql) in [
        ("admitted", "SELECT COUNT(*) FROM signal"),
        (
            "judged",
            "SELECT COUNT(*) FROM signal WHERE outcome IS NOT NULL",
        ),
    ] {
        for _ in 0..3 {
            let known = number(&database, sql).await;
            let sending = world.send();
            until(step, 30, async || number(&database, sql).await > known).await;
            world.kill().await;
            let answered = sending.await.unwrap();
            let kept = number(&database, "SELECT COUNT(*) FROM signal").await;
            assert!(
                kept >= i64::try_from(world.sent + answered).unwrap(),
                "{step}: what was answered is there"
            );
            world.again(step).await;
        }
    }
    world.service.end_and_fsck();
}
