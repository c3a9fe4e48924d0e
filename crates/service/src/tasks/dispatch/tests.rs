//! Who has a sender, and who waits.

use serde_json::json;
use tidegate_orchestrator::hold::HoldKind;

use super::*;
use crate::operations::{Actor, rollout};
use crate::store::testing::each_app;
use crate::tasks::tests::{TWO_WAVES, started, with_people};
use crate::tasks::{conduct, permit};

impl Senders {
    async fn until_all_ended(&mut self, app: &App) {
        while !self.active.is_empty() {
            self.rest(app).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_with_a_hold_in_its_way_is_not_tried_again_at_once() {
    each_app!(app => {
        let manager = Actor::person("manager", None);
        with_people(&app, 200, json!({})).await;
        let id = started(&app, TWO_WAVES).await;
        conduct::pass(&app, id).await.unwrap();
        // The planner has not been by since: its waves may be claimed as far as their rows say.
        rollout::stop(&app, &manager, "move", HoldKind::Halt, "state actor").await.unwrap();
        permit::renew(&app).await.unwrap();
        let mut senders = Senders::default();
        senders.start(&app).await;
        assert_eq!(senders.active.len(), 1, "it is tried once");
        senders.until_all_ended(&app).await;
        assert!(senders.held.contains_key(&id), "and not again at once: the planner has been told");
        senders.start(&app).await;
        assert_eq!(senders.active.is_empty(), senders.held.contains_key(&id));
        senders.until_all_ended(&app).await;
        // Whatever is said of holds from here on may have let it go on.
        rollout::stop(&app, &manager, "move", HoldKind::Pause, "and a pause").await.unwrap();
        permit::renew(&app).await.unwrap();
        senders.start(&app).await;
        assert_eq!(senders.active.len(), 1, "under another epoch it is tried again");
        senders.until_all_ended(&app).await;
        let view = rollout::get(&app, "move").await.unwrap();
        assert_eq!(view.totals["queued"], 200, "nobody was claimed");
    });
}
