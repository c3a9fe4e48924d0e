//! What a mission may do with a hold that nobody looks at: watch it nag, review it, hand it over.

use std::collections::BTreeMap;

use super::{DAY_MS, Mission, who};
use crate::cli::screen::unseen;
use crate::operations::hold::review;
use crate::operations::{rollout, token};
use crate::store::audit;
use crate::tasks::{permit, reviews};

impl Mission {
    /// Lets days pass one by one, with two processes that look after reviews, and tells what was written.
    pub(super) async fn watch(&mut self, days: u32) {
        let app = self.app.clone();
        let (first, _) = audit::head(app.store.read()).await.unwrap();
        let before = rollout::get(&app, "move").await.unwrap();
        let from = app.clock.now();
        for _ in 0..days {
            app.clock.advance(DAY_MS);
            permit::renew(&app).await.unwrap();
            let (one, two) = tokio::join!(reviews::look(&app), reviews::look(&app));
            one.and(two).unwrap();
        }
        let after = self.rest().await;
        let written = audit::entries_after(app.store.read(), first, 1000)
            .await
            .unwrap();
        let day = |row: &audit::AuditRow| (row.at - from.timestamp_millis()) / i64::from(DAY_MS);
        let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for row in &written {
            let days = told.entry(row.action.as_str()).or_default();
            days.push(day(row).to_string());
        }
        self.say(&format!("{} entries in the trail", written.len()));
        for (action, on) in told {
            self.say(&format!("{action} × {}: on day {}", on.len(), on.join(" ")));
        }
        assert_eq!(
            (before.generation, before.epoch, before.waves, before.totals),
            (after.generation, after.epoch, after.waves, after.totals),
            "nothing moves and nothing changes"
        );
        let reason = after.why_not_now.unwrap();
        self.say(&format!("{}: {}", after.status, reason.sentence));
        let holds = after.holds.iter();
        for line in holds
            .flat_map(|hold| unseen(hold.overdue_since, hold.owner_gone.then_some(&hold.owner)))
        {
            self.say(&line);
        }
    }

    pub(super) async fn look(&mut self, rest: &str) {
        let (name, note) = rest.split_once(": ").unwrap();
        let id = self.hold.clone();
        let done = review::review(&self.app, &who(name), (&id, None), (note, None)).await;
        self.outcome(done, |hold| {
            let next = hold.review_at.unwrap().format("%Y-%m-%d");
            format!("the next review is on {next}")
        });
    }

    pub(super) async fn owner(&mut self, rest: &str) {
        let (name, to) = rest.split_once(" to ").unwrap();
        let id = self.hold.clone();
        let done = review::hand_over(&self.app, &who(name), (&id, None), (to, "she left")).await;
        self.outcome(done, |hold| format!("owned by {}", hold.owner));
    }

    pub(super) async fn revoke(&mut self, name: &str) {
        token::revoke(&self.app, &who("root"), name, "left")
            .await
            .unwrap();
    }
}
