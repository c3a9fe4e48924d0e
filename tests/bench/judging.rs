//! What judging costs: one rule of ten conditions, and many signals beside many rules and targets.
//!
//! No database and no network: it is the pure judge alone, beside the same ten conditions written by hand
//! and beside a bare pass over the same signals.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_policy::document::Format;
use tidegate_policy::rule::judge::{Judge, Outcome, TargetFacts};
use tidegate_policy::set::PolicySet;
use tidegate_policy::set::replay::line::history;
use tidegate_policy::signal::{Lifecycle, Reach, Severity, Signal, SignalKind};

use crate::report::{Report, Row, short};

/// How many signals are judged.
const SIGNALS: usize = 10_000;
/// Beside so many targets.
const TARGETS: usize = 200;
/// By so many rules.
const RULES: usize = 50;
/// How long one rule of ten conditions may take for one signal at one target.
const RULE_MICROS_MAX: f64 = 2.0;
/// How long all of them may take together: "within seconds".
const ALL_SECONDS_MAX: f64 = 5.0;
/// How often one rule is asked, so that the stop-watch is not what is measured.
const TIMES: u32 = 200;

/// Kinds that rules ask about in turn, so that a signal concerns a few rules and not each.
const KINDS: [&str; 5] = [
    "vendor_breach",
    "session_theft",
    "risk_change",
    "service_incident",
    "threat_activity",
];

/// Measures.
pub(crate) fn judging(report: &mut Report) {
    one_rule(report);
    // Targets of ten vendors, and, at worst, all of one.
    for vendors in [10, 1] {
        all_rules(report, vendors);
    }
}

/// Ten conditions of which each holds, so that each is asked to its end.
fn rules(count: usize) -> PolicySet {
    let mut text = String::from("policy_set: bench\nrules:\n");
    for number in 0..count {
        let kind = KINDS[number % KINDS.len()];
        text.push_str(&format!(
            "  - id: rule-{number}
    says: ten conditions
    when:
      all:
        - {{signal: kind, in: [{kind}, advisory]}}
        - {{signal: severity, at_least: high, unknown_is: high}}
        - {{signal: confidence, at_least: 50, unknown_is: 100}}
        - {{signal: lifecycle, in: [opened, updated]}}
        - {{signal: vendor, is: target.vendor}}
        - {{signal: tenant, is: target.tenant}}
        - {{signal: products, is: target.products}}
        - {{signal: reach, equals: everybody}}
        - {{signal: labels, overlaps: [confirmed, urgent]}}
        - {{signal: age, at_most: 30d, unknown_is: true}}
    trust_at_least: authenticated_channel
    then: {{verdict: halt, scope: target}}
"
        ));
    }
    PolicySet::parse(&text, Format::Yaml).expect("the rules are read")
}

fn signals(count: usize, vendors: usize) -> Vec<Signal> {
    let mut text = String::new();
    for number in 0..count {
        let line = json!({
            "id": format!("s{number}"), "source": "bench", "received_at": "2026-01-02T00:00:00Z",
            "issued_at": "2026-01-01T00:00:00Z", "kind": KINDS[number % KINDS.len()], "severity": "critical",
            "confidence": 90, "vendor": format!("vendor-{}", number % vendors), "products": ["email", "identity"],
            "labels": ["confirmed", "eu"], "title": "a report", "subject": {"tenant": "ours"},
        });
        text.push_str(&line.to_string());
        text.push('\n');
    }
    let read = history(&text).expect("the signals are read");
    read.into_iter().map(|one| one.signal).collect()
}

fn targets(count: usize, vendors: usize) -> Vec<TargetFacts> {
    (0..count)
        .map(|number| TargetFacts {
            name: format!("target-{number}"),
            vendor: Some(format!("vendor-{}", number % vendors)),
            products: ["email".to_owned()].into(),
            tenant: Some("ours".to_owned()),
            ..TargetFacts::default()
        })
        .collect()
}

/// The ten conditions as somebody would write them by hand, for one kind.
fn by_hand(signal: &Signal, target: &TargetFacts) -> bool {
    let age = signal
        .issued_at
        .is_none_or(|issued| (signal.received_at - issued).num_days() <= 30);
    matches!(signal.kind, SignalKind::VendorBreach | SignalKind::Advisory)
        && signal.severity.or(Severity::High) >= Severity::High
        && signal.confidence.unwrap_or(100) >= 50
        && matches!(signal.lifecycle, Lifecycle::Opened | Lifecycle::Updated)
        && signal.vendor == target.vendor
        && signal
            .subject
            .touches_tenant(target.tenant.as_deref().unwrap_or_default())
        && !signal.products.is_disjoint(&target.products)
        && signal.subject.reach() == Reach::Everybody
        && (signal.labels.contains("confirmed") || signal.labels.contains("urgent"))
        && age
}

/// Returns the best of several runs: whatever else the machine does only ever adds.
fn best(mut run: impl FnMut()) -> Duration {
    let times = (0..5).map(|_| {
        let begun = Instant::now();
        run();
        begun.elapsed()
    });
    times.min().unwrap_or_default()
}

fn one_rule(report: &mut Report) {
    let set = rules(1);
    let rule = &set.rules[0];
    let target = &targets(1, 1)[0];
    let signals: Vec<Signal> = signals(1000, 1)
        .into_iter()
        .filter(|signal| signal.kind == SignalKind::VendorBreach)
        .collect();
    let mut memory = rule.memory();
    let asked = f64::from(TIMES) * signals.len() as f64;
    let ours = best(|| {
        for _ in 0..TIMES {
            for signal in &signals {
                let verdict = rule.take(&mut memory, black_box(signal), black_box(target));
                assert_eq!(black_box(verdict).outcome, Outcome::Applies);
            }
        }
    });
    let hand = best(|| {
        for _ in 0..TIMES {
            for signal in &signals {
                assert!(by_hand(black_box(signal), black_box(target)));
            }
        }
    });
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / asked;
    let (ours, hand) = (micros(ours), micros(hand));
    report.add(Row {
        what: "a rule of ten conditions".to_owned(),
        on: "memory".to_owned(),
        ours: format!("{ours:.3} µs"),
        reference: format!("{hand:.3} µs by hand"),
        ratio: Some(ours / hand),
        budget: format!("≤ {RULE_MICROS_MAX} µs"),
        met: Some(ours <= RULE_MICROS_MAX),
        note: "every condition holds, so each is asked; one signal at one target".to_owned(),
        figures: json!({"rule_us": ours, "by_hand_us": hand}),
        ..Row::default()
    });
}

fn all_rules(report: &mut Report, vendors: usize) {
    let set = rules(RULES);
    let signals = signals(SIGNALS, vendors);
    let mut judge = Judge::new(set.rules, targets(TARGETS, vendors));
    let begun = Instant::now();
    let mut decided = 0_usize;
    for signal in &signals {
        decided += judge.take(signal).len();
    }
    let ours = begun.elapsed().as_secs_f64();
    let pass = best(|| {
        let seen: usize = signals
            .iter()
            .map(|signal| black_box(signal).title.len())
            .sum();
        black_box(seen);
    })
    .as_secs_f64();
    let expected = SIGNALS * (TARGETS / vendors) * (RULES / KINDS.len());
    assert_eq!(decided, expected, "every decision is there");
    let rate = SIGNALS as f64 / ours;
    report.add(Row {
        what: format!("{} signals × {RULES} rules × {TARGETS} targets", short(SIGNALS as f64)),
        on: format!("{vendors} vendors"),
        ours: format!("{ours:.2} s"),
        reference: format!("{:.4} s to look at each", pass),
        ratio: None,
        budget: format!("≤ {ALL_SECONDS_MAX:.0} s"),
        met: Some(ours <= ALL_SECONDS_MAX),
        note: format!(
            "{} decisions, {} signals/s, one core; a signal concerns one rule in {}",
            short(decided as f64),
            short(rate),
            KINDS.len()
        ),
        figures: json!({"seconds": ours, "decisions": decided, "signals_per_s": rate, "pass_s": pass}),
        ..Row::default()
    });
}
