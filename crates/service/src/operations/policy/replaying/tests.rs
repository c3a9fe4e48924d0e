//! A replay tells what was done, and what another set would have.

use serde_json::json;
use tidegate_policy::Signal;
use tidegate_policy::dialect::{Origin, report};
use tidegate_policy::rule::judge::Outcome;
use tidegate_policy::set::STARTER;
use tidegate_policy::signal::Trust;

use super::*;
use crate::operations::policy::facts::{self as knowing, FactsView};
use crate::operations::policy::judging;
use crate::operations::{Actor, signal, target};
use crate::store::policy as rows;
use crate::store::testing::{apps_standing, each_app};

/// A target of a vendor.
async fn boxed(app: &App, name: &str, vendor: &str) {
    let ann = Actor::person("ann", None);
    target::create(app, &ann, name, "sandbox", &json!({}))
        .await
        .unwrap();
    let facts: FactsView = serde_json::from_value(json!({"vendor": vendor})).unwrap();
    knowing::set(app, &ann, name, &facts).await.unwrap();
}

/// Admits a report as if it had come signed and fresh, and has it judged; returns its id.
async fn reported(app: &App, id: &str, report: serde_json::Value) -> String {
    let origin = Origin {
        source: "siem".to_owned(),
        trust: Trust::SignedFresh,
        vendor: None,
        products: Default::default(),
        received_at: app.clock.now(),
    };
    let body = report.to_string().into_bytes();
    let found: Signal = report::manual(&body, id, &origin).unwrap();
    let admitted = signal::admit(app, &Actor::task("siem"), vec![found], &body)
        .await
        .unwrap();
    judging::look(app, &mut None).await.unwrap();
    admitted.ids.first().unwrap().to_string()
}

fn theft(user: &str) -> serde_json::Value {
    json!({"kind": "session_theft", "severity": "high", "vendor": "microsoft", "subject": {"user": user}})
}

fn breach() -> serde_json::Value {
    json!({"kind": "vendor_breach", "severity": "critical", "vendor": "microsoft"})
}

fn starter() -> ReplayRequest {
    ReplayRequest {
        name: Some("starter".to_owned()),
        ..ReplayRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_the_active_set_tells_what_it_has_done() {
    for app in apps_standing().await {
        boxed(&app, "ours", "microsoft").await;
        boxed(&app, "another", "other").await;
        for (id, report) in [
            ("1", theft("ana")),
            ("2", theft("bo")),
            ("3", theft("cy")),
            ("4", theft("di")),
        ] {
            reported(&app, id, report).await;
            app.clock.advance(60_000);
        }
        reported(
            &app,
            "5",
            json!({"kind": "session_theft", "severity": "high"}),
        )
        .await;
        reported(&app, "6", json!({"kind": "other", "vendor": "microsoft"})).await;
        reported(&app, "7", breach()).await;
        reported(&app, "8", breach()).await;
        let view = replay(&app, &starter()).await.unwrap();
        assert_eq!(view.candidate, view.active);
        assert!(view.differences.is_empty());
        assert_eq!((view.active.signals, view.active.unmapped), (8, 1 + 2));
        // Rule by rule what is in force, and what is counted beside it, is what the replay tells.
        let known = rows::facts_load(app.store.read()).await.unwrap();
        let mut live = Vec::new();
        for report in rows::reports_in_force(app.store.read()).await.unwrap() {
            let target = known.iter().find(|(id, _)| *id == report.target).unwrap();
            live.push((
                report.rule,
                target.1.name.clone(),
                report.signals,
                report.worst,
            ));
        }
        let holds = view.active.stops.iter().filter(|stop| stop.holds());
        let mut told: Vec<_> = holds
            .map(|stop| {
                (
                    stop.rule.clone(),
                    stop.target.clone(),
                    stop.signals,
                    stop.worst,
                )
            })
            .collect();
        live.sort();
        told.sort();
        assert_eq!(told, live);
        app.clock.advance(14 * 3_600_000);
        judging::look(&app, &mut None).await.unwrap();
        let left = rows::reports_in_force(app.store.read())
            .await
            .unwrap()
            .len();
        let view = replay(&app, &starter()).await.unwrap();
        let stands =
            |stop: &&tidegate_policy::set::replay::Stop| stop.holds() && stop.lifted_at.is_none();
        assert_eq!(view.active.stops.iter().filter(stands).count(), left);
        assert!(left < live.len(), "the burst is over for both");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_set_is_told_beside_the_active_one_and_windows_count_from_before() {
    for app in apps_standing().await {
        boxed(&app, "ours", "microsoft").await;
        reported(&app, "1", theft("ana")).await;
        app.clock.advance(60_000);
        let since = app.clock.now();
        reported(&app, "2", theft("bo")).await;
        let request = ReplayRequest {
            text: Some(STARTER.replace("at_least: 3}", "at_least: 2}")),
            since: Some(since),
            ..ReplayRequest::default()
        };
        let view = replay(&app, &request).await.unwrap();
        assert_eq!(view.candidate.signals, 1, "the other one is only counted");
        let steps: Vec<_> = view
            .differences
            .iter()
            .map(|step| (step.difference.name(), step.kind.name()))
            .collect();
        assert_eq!(steps, [("added", "pause")]);
        assert!(view.active.stops.is_empty());
        assert!(
            rows::reports_in_force(app.store.read())
                .await
                .unwrap()
                .is_empty(),
            "nothing is held by looking back"
        );
        let early = ReplayRequest {
            until: Some(since),
            since: None,
            ..request
        };
        assert_eq!(replay(&app, &early).await.unwrap().candidate.signals, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_replayed_is_refused_and_says_what_to_do() {
    each_app!(app => {
        let code = async |request: ReplayRequest| match replay(&app, &request).await.unwrap_err() {
            OperationError::Invalid { code, .. } => code,
            error => error.to_string(),
        };
        let text = Some(STARTER.to_owned());
        assert_eq!(code(ReplayRequest::default()).await, "replay_unclear");
        assert_eq!(code(ReplayRequest { text: text.clone(), ..starter() }).await, "replay_unclear");
        assert_eq!(code(ReplayRequest { text: Some("rules: [".to_owned()), ..ReplayRequest::default() }).await, "policy_invalid");
        let format = Some("xml".to_owned());
        assert_eq!(code(ReplayRequest { text, format, ..ReplayRequest::default() }).await, "format_unknown");
        let unknown = replay(&app, &ReplayRequest { version: Some(9), ..starter() }).await.unwrap_err();
        assert!(unknown.to_string().contains("starter"), "{unknown}");
    });
    let set = PolicySet::parse(STARTER, Format::Yaml).unwrap();
    assert!(check_size(SIGNALS_MAX, (&set, &set), 10, 0).is_ok());
    for (signals, targets) in [(SIGNALS_MAX + 1, 1), (SIGNALS_MAX, 10_000)] {
        let error = check_size(signals, (&set, &set), targets, 7).unwrap_err();
        assert!(error.to_string().contains("later `since`"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_explained_as_it_was_judged() {
    for app in apps_standing().await {
        boxed(&app, "ours", "microsoft").await;
        let mut last = String::new();
        for (id, user) in [("1", "ana"), ("2", "bo"), ("3", "cy")] {
            last = reported(&app, id, theft(user)).await;
            app.clock.advance(1000);
        }
        // What comes after does not count for it.
        reported(&app, "4", breach()).await;
        let view = explain(&app, &last, None).await.unwrap();
        assert_eq!(view.signal.outcome, "pause");
        assert!(view.is_counted_whole && view.left_out == 0);
        let first = view.explanations.first().unwrap();
        assert_eq!(
            (first.rule.as_str(), first.outcome),
            ("token-theft-burst-pauses", Outcome::Applies)
        );
        let applies = view
            .explanations
            .iter()
            .filter(|one| one.outcome == Outcome::Applies);
        assert_eq!(applies.count(), 1);
        assert!(explain(&app, "none", None).await.is_err());
        assert!(explain(&app, &last, Some("none")).await.is_err());
        assert!(explain(&app, &last, Some("ours")).await.is_ok());
    }
}
