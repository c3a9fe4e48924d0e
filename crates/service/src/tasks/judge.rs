//! Has the rules in force look at every signal, soon after it was admitted, and lift what has been clear.
//!
//! Every process looks; the row of what has been judged lets one of them decide, and what it decided is
//! known by rule and target, so looking twice holds nothing twice.

use std::time::Duration;

use crate::app::App;
use crate::operations::policy::judging::{self, Judging};
use crate::store::StoreError;

/// Of so many looks in a row that failed, one says so: about every ten seconds.
const SAID_EVERY: u32 = 40;

/// The longest sleep between two looks: another process may have admitted something.
const SLEEP: Duration = Duration::from_millis(250);

/// Looks whenever there is something to judge, for ever.
pub async fn run(app: App) {
    let mut judging: Option<Judging> = None;
    let mut failed = 0_u32;
    loop {
        match judging::look(&app, &mut judging).await {
            Ok(()) => failed = 0,
            Err(error) => {
                // What was counted in memory may be ahead of what was written: it is read again.
                judging = None;
                if failed.is_multiple_of(SAID_EVERY) {
                    say(&app, &error).await;
                }
                failed = failed.wrapping_add(1);
            }
        }
        tokio::select! {
            () = app.wake.judging() => {}
            () = tokio::time::sleep(SLEEP) => {}
        }
    }
}

/// A store that is away comes back, and signals wait. What cannot be read stays so: then everything waits.
async fn say(app: &App, error: &StoreError) {
    tracing::warn!(%error, "signals could not be judged; they wait");
    if let StoreError::Corrupt(what) = error
        && let Err(error) = judging::cannot_judge(app, what).await
    {
        tracing::error!(%error, "signals cannot be judged, and nothing could be paused for that");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_orchestrator::ids::TargetId;
    use tidegate_policy::Signal;
    use tidegate_policy::dialect::{Origin, report};
    use tidegate_policy::document::Format;
    use tidegate_policy::signal::Trust;

    use super::*;
    use crate::operations::hold;
    use crate::operations::policy;
    use crate::operations::policy::facts::{self, FactsView};
    use crate::operations::source::{self, silence};
    use crate::operations::view::HoldView;
    use crate::operations::{Actor, OperationError, signal, target, token};
    use crate::store::source::SourceRow;
    use crate::store::testing::{apps_standing, each_app, facts_lock, until_locked};
    use crate::store::{Lane, transact};

    fn ann() -> Actor {
        Actor::person("ann", None)
    }

    /// A target of a vendor.
    async fn boxed(app: &App, name: &str, vendor: &str) -> TargetId {
        let made = target::create(app, &ann(), name, "sandbox", &json!({}))
            .await
            .unwrap();
        facts::set(app, &ann(), name, &of(vendor)).await.unwrap();
        made.id
    }

    fn of(vendor: &str) -> FactsView {
        FactsView {
            vendor: Some(vendor.to_owned()),
            ..FactsView::default()
        }
    }

    /// Admits a report as if it had come signed and fresh.
    async fn reported(app: &App, id: &str, report: serde_json::Value) -> signal::Admitted {
        let origin = Origin {
            source: "siem".to_owned(),
            trust: Trust::SignedFresh,
            vendor: None,
            products: Default::default(),
            received_at: app.clock.now(),
        };
        let body = report.to_string().into_bytes();
        let found: Signal = report::manual(&body, id, &origin).unwrap();
        signal::admit(app, &Actor::task("siem"), vec![found], &body)
            .await
            .unwrap()
    }

    async fn in_force(app: &App) -> Vec<HoldView> {
        hold::list(app, (true, false), None, 100)
            .await
            .unwrap()
            .items
    }

    async fn judged(app: &App) -> Vec<HoldView> {
        judging::look(app, &mut None).await.unwrap();
        in_force(app).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_breach_at_the_vendor_halts_its_targets_once_and_no_others() {
        each_app!(app => {
            let ours = boxed(&app, "ours", "Microsoft").await;
            boxed(&app, "another", "other").await;
            let breach = json!({"kind": "vendor_breach", "severity": "critical", "vendor": "microsoft", "title": "a breach"});
            let sent = reported(&app, "1", breach.clone()).await;
            assert_eq!((sent.admitted, sent.repeated), (1, 0));
            assert_eq!(reported(&app, "1", breach.clone()).await.repeated, 1, "known already");
            let holds = judged(&app).await;
            assert_eq!(holds.len(), 2, "the halt, and the gate of what is milder: {holds:#?}");
            let halt = holds.iter().find(|hold| hold.kind == "halt").unwrap();
            assert_eq!(halt.scope.id.as_deref(), Some(ours.to_string().as_str()));
            assert!(halt.reason.contains("rule `vendor-breach-halts`") && halt.reason.contains("a breach"), "{}", halt.reason);
            let requirements = crate::operations::requirement::list(&app, &halt.id.to_string()).await.unwrap();
            assert_eq!(requirements.len(), 4);
            for id in ["2", "3", "4"] {
                reported(&app, id, breach.clone()).await;
            }
            assert_eq!(judged(&app).await.len(), 2, "one hold, and a counter");
            let report = crate::store::policy::report_load(app.store.read(), halt.id).await.unwrap().unwrap();
            assert_eq!(report.signals, 4);
            let listed = signal::list(&app, None, 10).await.unwrap().items;
            assert!(listed.iter().all(|signal| signal.outcome == "halt"), "{listed:#?}");
        });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_signal_that_no_rule_maps_is_shown_and_holds_nothing() {
        each_app!(app => {
            boxed(&app, "ours", "microsoft").await;
            reported(&app, "1", json!({"kind": "advisory", "severity": "high", "vendor": "microsoft"})).await;
            let waiting = signal::list(&app, None, 10).await.unwrap().items;
            assert_eq!(waiting.first().unwrap().outcome, "waiting");
            assert!(judged(&app).await.is_empty());
            let listed = signal::list(&app, None, 10).await.unwrap().items;
            assert_eq!(listed.first().unwrap().outcome, "unmapped");
        });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_waits_when_another_set_becomes_active_is_judged_by_that() {
        each_app!(app => {
            boxed(&app, "ours", "microsoft").await;
            token::create(&app, &ann(), ("sue", None), "security").await.unwrap();
            reported(&app, "1", json!({"kind": "advisory", "severity": "high", "vendor": "microsoft"})).await;
            let more = tidegate_policy::set::STARTER.replace("\ntests:", "
  - id: advisory-pauses
    says: An advisory pauses.
    when: {all: [{signal: kind, equals: advisory}, {signal: vendor, is: target.vendor}]}
    trust_at_least: signed_fresh
    then: {verdict: hold, kind: pause, scope: target}

tests:");
            let sue = Actor::person("sue", None);
            let draft = policy::propose(&app, &sue, &more, Format::Yaml).await.unwrap();
            assert!(!draft.loosens, "{draft:#?}");
            assert_eq!(policy::approve(&app, &sue, "starter", 2).await.unwrap().status, "active");
            let holds = judged(&app).await;
            assert_eq!(holds.len(), 1, "it was admitted before, and nobody had judged it: {holds:#?}");
        });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_stands_for_a_missing_fact_is_not_lifted_by_time() {
        for app in apps_standing().await {
            boxed(&app, "ours", "microsoft").await;
            for user in ["ana", "bo", "cy"] {
                let theft =
                    json!({"kind": "session_theft", "severity": "high", "subject": {"user": user}});
                reported(&app, user, theft).await;
            }
            let before = judged(&app).await;
            assert!(!before.is_empty());
            app.clock.advance(30 * 3_600_000);
            assert_eq!(judged(&app).await.len(), before.len());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn rules_that_cannot_be_read_pause_everything_once_and_say_why() {
        each_app!(app => {
            let damaged: Result<(), StoreError> = transact!(app.store, Lane::Ordinary, "test", |txn| {
                crate::store::policy::testing_damage(txn).await
            });
            damaged.unwrap();
            let mut judging = None;
            for _ in 0..2 {
                let error = judging::look(&app, &mut judging).await.unwrap_err();
                let StoreError::Corrupt(what) = error else { panic!("{error}") };
                judging::cannot_judge(&app, &what).await.unwrap();
            }
            let holds = in_force(&app).await;
            assert_eq!(holds.len(), 1, "{holds:#?}");
            let hold = holds.first().unwrap();
            assert_eq!((hold.kind.as_str(), hold.scope.scope_type.as_str()), ("pause", "everything"));
            assert!(hold.reason.contains("cannot be judged"), "{}", hold.reason);
        });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_pause_of_a_rule_is_lifted_by_it_once_clear_and_nothing_else_is() {
        for app in apps_standing().await {
            let id = boxed(&app, "ours", "microsoft").await;
            let theft = |user: &str| {
                json!({
                    "kind": "session_theft", "severity": "high", "vendor": "microsoft", "subject": {"user": user},
                })
            };
            for (id, user) in [("1", "ana"), ("2", "bo")] {
                reported(&app, id, theft(user)).await;
            }
            assert!(judged(&app).await.is_empty(), "two are no burst");
            reported(&app, "3", theft("cy")).await;
            let holds = judged(&app).await;
            assert_eq!(holds.len(), 1, "{holds:#?}");
            assert_eq!(holds.first().unwrap().kind, "pause");
            let by_hand = hold::NewHold {
                kind: "pause".to_owned(),
                scope: crate::operations::view::ScopeView::of(
                    &tidegate_orchestrator::hold::Scope::Target(id),
                ),
                reason: "I want to look".to_owned(),
                effect: None,
                review_at: None,
            };
            hold::place(&app, &ann(), &by_hand).await.unwrap();
            assert_eq!(
                in_force(&app).await.len(),
                2,
                "people do not join what a rule may lift"
            );
            app.clock.advance(12 * 3_600_000);
            assert_eq!(
                judged(&app).await.len(),
                2,
                "the window of an hour is not over by then"
            );
            app.clock.advance(3_600_000);
            let left = judged(&app).await;
            assert_eq!(left.len(), 1);
            assert_eq!(left.first().unwrap().reason, "I want to look");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_set_that_loosens_takes_two_others_and_never_frees_what_its_rule_holds() {
        each_app!(app => {
            boxed(&app, "ours", "microsoft").await;
            for name in ["sue", "sam", "sid", "sol"] {
                token::create(&app, &ann(), (name, None), "security").await.unwrap();
            }
            let as_sec = |name: &str| Actor::person(name, None);
            let looser = tidegate_policy::set::STARTER.replace("at_least: 3}", "at_least: 30}").replace("  - name: three users", "  - name: three users no more").replace("expect: pause\n    by: token-theft", "expect: proceed\n    by: token-theft");
            let refused = policy::propose(&app, &as_sec("sue"), &looser, Format::Yaml).await.unwrap_err();
            assert!(refused.to_string().contains("tests fail"), "{refused}");
            let looser = looser.replace("expect: proceed\n    by: token-theft-burst-pauses", "expect: proceed");
            let draft = policy::propose(&app, &as_sec("sue"), &looser, Format::Yaml).await.unwrap();
            assert!(draft.loosens && draft.needed == 2, "{draft:#?}");
            let approve = async |name: &str| policy::approve(&app, &as_sec(name), "starter", 2).await;
            assert!(approve("sue").await.is_err(), "she wrote it");
            assert_eq!(approve("sam").await.unwrap().status, "draft");
            assert_eq!(approve("sam").await.unwrap().needed, 1, "the same yes again");
            token::revoke(&app, &ann(), "sam", "left").await.unwrap();
            assert_eq!(approve("sid").await.unwrap().status, "draft", "sam has no seat any more");
            assert_eq!(approve("sol").await.unwrap().status, "active");
            reported(&app, "1", json!({"kind": "vendor_breach", "severity": "critical", "vendor": "microsoft"})).await;
            assert!(!judged(&app).await.is_empty());
            let without = looser.replace("kind, equals: vendor_breach}\n        - {signal: severity, at_least: high, unknown_is: high}", "kind, equals: vendor_breach}\n        - {signal: severity, at_least: critical, unknown_is: critical}")
                .replace("given: [{kind: vendor_breach, severity: high}]", "given: [{kind: vendor_breach, severity: critical}]")
                .replace("given: [{kind: vendor_breach, vendor: microsoft}]", "given: [{kind: vendor_breach, severity: critical, vendor: microsoft}]");
            policy::propose(&app, &as_sec("sue"), &without, Format::Yaml).await.unwrap();
            let refused = policy::approve(&app, &as_sec("sid"), "starter", 3).await.unwrap_err();
            assert!(refused.to_string().contains("while its hold"), "{refused}");
        });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_reported_before_a_target_was_the_vendors_holds_it_once_it_is() {
        each_app!(app => {
            boxed(&app, "old", "acme").await;
            let breach = json!({"kind": "vendor_breach", "severity": "critical", "vendor": "acme"});
            reported(&app, "1", breach).await;
            reported(&app, "2", json!({"kind": "vendor_breach", "severity": "critical", "vendor": "other"})).await;
            assert_eq!(judged(&app).await.len(), 2, "a halt and the gate of what is milder");
            let late = boxed(&app, "late", "acme").await.to_string();
            let holds = judged(&app).await;
            let of_late: Vec<_> = holds.iter().filter(|hold| hold.scope.id.as_ref() == Some(&late)).collect();
            assert_eq!(of_late.len(), 2, "{holds:#?}");
            assert!(of_late.iter().all(|hold| hold.reported.as_ref().is_some_and(|report| report.signals == 1)));
            assert_eq!(judged(&app).await.len(), 4, "once");
            let another = facts::set(&app, &ann(), "late", &of("other")).await;
            assert!(matches!(another, Err(OperationError::Refused { code, .. }) if code == "rule_in_use"));
        });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_target_that_becomes_anothers_is_held_by_no_decision_of_the_same_moment() {
        // SQLite has one writer: there nobody decides between the look and the change.
        let apps = apps_standing().await.into_iter();
        for app in apps.filter(|app| app.store.is_postgres()) {
            let ours = boxed(&app, "box", "acme").await;
            // The change has looked (nothing holds, nothing waits) and is kept from writing.
            let mut kept = app.store.begin(Lane::Ordinary).await.unwrap();
            facts_lock(kept.txn(), ours).await.unwrap();
            let set = {
                let app = app.clone();
                app.background
                    .clone()
                    .spawn(async move { facts::set(&app, &ann(), "box", &of("other")).await })
            };
            until_locked(&app, "INSERT INTO target_facts", || set.is_finished()).await;
            assert!(!set.is_finished(), "it waits to be written");
            let breach = json!({"kind": "vendor_breach", "severity": "critical", "vendor": "acme"});
            reported(&app, "1", breach).await;
            let look = {
                let app = app.clone();
                app.background
                    .clone()
                    .spawn(async move { judging::look(&app, &mut None).await })
            };
            // Whoever decides waits for the change, or has decided.
            until_locked(&app, "policy_state", || look.is_finished()).await;
            kept.finish(Ok::<_, StoreError>(())).await.unwrap();
            set.await.unwrap().unwrap();
            // What it had read is of before: thrown away, and judged by what is known now.
            let looked = look.await.unwrap();
            assert!(
                matches!(looked, Ok(()) | Err(StoreError::Conflict)),
                "{looked:?}"
            );
            let holds = judged(&app).await;
            assert!(holds.is_empty(), "it is another vendor's: {holds:#?}");
        }
    }

    /// A source that is blind after an hour, and a target of acme that needs it.
    async fn needed(app: &App, name: &str) {
        let config = source::SourceConfig {
            keys: vec![crate::connector::Credential::Env(
                "TIDEGATE_CREDENTIAL_JUDGE".into(),
            )],
            vendor: Some("acme".to_owned()),
            silent_after_seconds: Some(3600),
            ..source::SourceConfig::default()
        };
        let row = SourceRow {
            name: name.to_owned(),
            profile: "stripe".to_owned(),
            config: serde_json::to_string(&config).unwrap(),
            created_at: app.clock.now().timestamp_millis(),
            revoked_at: None,
        };
        let put: Result<(), StoreError> = transact!(app.store, Lane::Ordinary, "test", |txn| {
            crate::store::source::source_insert(txn, &row, txn.now()).await
        });
        put.unwrap();
        boxed(app, "box", "acme").await;
        let facts = FactsView {
            sources: vec![name.to_owned()],
            ..of("acme")
        };
        facts::set(app, &ann(), "box", &facts).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_needed_source_that_falls_silent_gates_and_lets_go_once_it_is_heard() {
        for app in apps_standing().await {
            needed(&app, "siem").await;
            silence::look(&app).await.unwrap();
            assert!(judged(&app).await.is_empty(), "it was just created");
            app.clock.advance(61 * 60 * 1000);
            assert_eq!(silence::look(&app).await.unwrap(), 1);
            let holds = judged(&app).await;
            assert_eq!(holds.len(), 1, "{holds:#?}");
            let gate = holds.first().unwrap();
            assert_eq!(gate.kind, "gate");
            assert!(
                gate.reason.contains("blind-sources-gate")
                    && gate.reason.contains("Not heard: siem"),
                "{}",
                gate.reason
            );
            assert_eq!(judged(&app).await.len(), 1, "once");
            let facts = facts::set(&app, &ann(), "box", &of("acme")).await;
            assert!(facts.is_ok(), "what nobody hears need not be needed");
            let facts = FactsView {
                sources: vec!["siem".to_owned()],
                ..of("acme")
            };
            facts::set(&app, &ann(), "box", &facts).await.unwrap();
            reported(&app, "1", json!({"kind": "other", "vendor": "acme"})).await;
            assert_eq!(
                silence::look(&app).await.unwrap(),
                1,
                "heard by whatever proves itself"
            );
            assert!(judged(&app).await.is_empty());
            let actions: Vec<String> = crate::store::audit::entries_after(app.store.read(), 0, 100)
                .await
                .unwrap()
                .into_iter()
                .map(|entry| entry.action)
                .filter(|action| action.starts_with("source.") && action != "source.create")
                .collect();
            assert_eq!(actions, ["source.blind", "source.heard"]);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_source_that_is_taken_out_of_use_or_that_nobody_watches_is_no_comfort() {
        for app in apps_standing().await {
            needed(&app, "siem").await;
            source::revoke(&app, &ann(), "siem").await.unwrap();
            assert_eq!(judged(&app).await.len(), 1, "it is needed and gone");
            boxed(&app, "another", "acme").await;
            for name in ["siem", "nobody"] {
                let facts = FactsView {
                    sources: vec![name.to_owned()],
                    ..of("acme")
                };
                let refused = facts::set(&app, &ann(), "another", &facts)
                    .await
                    .unwrap_err();
                assert!(
                    matches!(refused, OperationError::NotFound { .. }),
                    "{name}: {refused:?}"
                );
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn needing_a_silent_source_no_more_does_not_end_what_it_holds() {
        for app in apps_standing().await {
            needed(&app, "siem").await;
            app.clock.advance(61 * 60 * 1000);
            silence::look(&app).await.unwrap();
            assert_eq!(judged(&app).await.len(), 1);
            facts::set(&app, &ann(), "box", &of("acme")).await.unwrap();
            assert_eq!(judged(&app).await.len(), 1, "nobody was heard");
        }
    }
}
