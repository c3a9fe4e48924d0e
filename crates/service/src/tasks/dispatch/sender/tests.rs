//! What comes back late belongs to the batch it was sent for, and to no other.

use serde_json::json;

use super::*;
use crate::store::testing::each_app;
use crate::tasks::conduct;
use crate::tasks::tests::{TWO_WAVES, started, with_people};

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_of_a_lost_batch_is_not_booked_on_the_next_one() {
    each_app!(app => {
        with_people(&app, 3_000, json!({"latency_ms": 60_000, "concurrency": 1})).await;
        let rollout = started(&app, &TWO_WAVES.replace("count: 50", "count: 2048")).await;
        conduct::pass(&app, rollout).await.unwrap();
        permit::renew(&app).await.unwrap();
        let mut sender = Sender::new(app.clone(), rollout).await.unwrap();
        let asked = app.clock.moment();
        let turn = sender.turn(asked).await.unwrap();
        for claimed in turn.claimed {
            sender.begin(claimed, asked).unwrap();
        }
        assert_eq!(sender.flights.len(), 2);
        // The first batch was lost to another worker, and a third one was begun since.
        let lost = sender.flights[&1].claimed.address;
        let third = sender.flights[&2].claimed.clone();
        sender.settle_leases(&Turn { lost: vec![lost], ..Turn::nothing(NotClaimed::Enough) }, asked);
        sender.begin(third, asked).unwrap();
        assert_eq!(sender.flights.keys().copied().collect::<Vec<_>>(), [2, 3]);
        let result = SendResult::Done { adopted: false, remote_id: None };
        sender.take(Came { flight: 1, index: SlotIndex(0), result });
        assert!(sender.flights.values().all(|flight| !flight.has_news()));
    });
}
