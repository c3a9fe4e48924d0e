//! A list of holds as people read it: what one rule holds for one signal is one entry, however many targets it is.
//!
//! A pure function of what the service answers. Programs (`-o json`) get every hold as it is.

use serde_json::Value;
use tidegate_policy::signal::Severity;

use super::entry_lines;
use crate::cli::context::{count_of, minute_of, text_of};
use crate::cli::screen::counted;
use crate::cli::table::{grouped, wrap, wrap_in};

/// How many places of a group are named.
const NAMED_MAX: usize = 3;

/// Returns the lines of a list, none wider than `width`; `each` takes nothing together.
#[must_use]
pub(super) fn lines(holds: &[Value], each: bool, width: usize) -> Vec<String> {
    let mut groups: Vec<(Option<[String; 4]>, Vec<&Value>)> = Vec::new();
    for hold in holds {
        let key = key_of(hold).filter(|_| !each);
        let same = groups
            .iter_mut()
            .find(|(other, _)| key.is_some() && *other == key);
        match same {
            Some((_, group)) => group.push(hold),
            None => groups.push((key, vec![hold])),
        }
    }
    groups
        .iter()
        .flat_map(|(_, group)| match group.as_slice() {
            [hold] => entry_lines(hold, width),
            group => together(group, width),
        })
        .collect()
}

/// Returns what holds have in common that are one entry: what they do, the rule, its set, and the signal that it
/// began with. What people placed, what is over and what nobody reported stands alone.
fn key_of(hold: &Value) -> Option<[String; 4]> {
    let is_over = hold.get("released_at").is_some_and(|at| !at.is_null());
    let signal = hold.pointer("/reported/signal").and_then(Value::as_str)?;
    let faults = hold.pointer("/reported/faults").map(Value::to_string);
    (!is_over).then(|| {
        [
            text_of(hold, "/kind"),
            text_of(hold, "/reported/rule"),
            format!(
                "{} {}",
                text_of(hold, "/reported/policy"),
                faults.unwrap_or_default()
            ),
            signal.to_owned(),
        ]
    })
}

fn together(holds: &[&Value], width: usize) -> Vec<String> {
    let Some(first) = holds.first() else {
        return Vec::new();
    };
    let all = holds.iter();
    let worst = all.clone().filter_map(|hold| worst(hold)).max();
    let worst = worst.map_or_else(|| "unknown".to_owned(), |worst| worst.to_string());
    // A signal counts at every target: the largest count is how many there were at least.
    let signals = all
        .clone()
        .map(|hold| count_of(hold, "/reported/signals"))
        .max();
    let since = all.clone().map(|hold| minute_of(hold, "/placed_at")).min();
    let count = |field: &str, is: fn(&Value) -> bool| {
        let found = holds.iter().filter(|hold| hold.get(field).is_some_and(is));
        found.count()
    };
    let head = format!(
        "{} of {} places by rule `{}`, since {}: {}",
        text_of(first, "/kind"),
        grouped(u64::try_from(holds.len()).unwrap_or(u64::MAX)),
        text_of(first, "/reported/rule"),
        since.unwrap_or_default(),
        counted(signals.unwrap_or(0), &worst)
    );
    let mut lines = wrap(&head, width);
    lines.extend(wrap_in(&text_of(first, "/reason"), 2, width));
    let named: Vec<String> = all
        .take(NAMED_MAX)
        .map(|hold| text_of(hold, "/covers"))
        .collect();
    let more = holds.len().saturating_sub(named.len());
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = format!(
        "{}{more}; `tidegate hold list --each` shows each with its id",
        named.join(", ")
    );
    lines.extend(wrap_in(&named, 2, width));
    let quiet = count("quiesced", |is| *is == Value::Bool(true));
    let mut standing = vec![format!("nobody can send under {quiet} of {}", holds.len())];
    for (field, word, is) in [
        (
            "overdue_since",
            "review overdue",
            (|at| !at.is_null()) as fn(&Value) -> bool,
        ),
        ("owner_gone", "owner gone", |is| *is == Value::Bool(true)),
    ] {
        let found = count(field, is);
        if found > 0 {
            standing.push(format!("{word} of {found}"));
        }
    }
    lines.extend(wrap_in(&standing.join(" · "), 2, width));
    lines
}

fn worst(hold: &Value) -> Option<Severity> {
    let worst = hold.pointer("/reported/worst").and_then(Value::as_str)?;
    worst.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hold(target: usize, signal: &str, worst: &str) -> Value {
        json!({
            "id": format!("0198c0de-0000-7000-8000-{target:012}"), "kind": "halt", "covers": format!("target `suite-{target}`"),
            "reason": format!("rule `breach`: {} Reported by siem: severity low", "a vendor was broken into ".repeat(8)),
            "placed_at": "2026-01-02T03:04:05.678Z", "placed_by": "task:policy", "quiesced": target != 7, "sentence": "quiesced",
            "reported": {"rule": "breach", "policy": "p", "signal": signal, "faults": [], "signals": 12, "worst": worst},
        })
    }

    #[test]
    fn what_one_rule_holds_for_one_signal_is_one_entry_with_the_worst_of_all() {
        let holds: Vec<Value> = (0..200)
            .map(|target| hold(target, "s1", if target == 150 { "critical" } else { "low" }))
            .collect();
        let found = lines(&holds, false, 100);
        assert_eq!(
            found.first().unwrap(),
            "halt of 200 places by rule `breach`, since 2026-01-02 03:04Z: 12 signals, the worst critical"
        );
        assert!(found.len() < 10, "{found:#?}");
        let text = found.join("\n");
        assert!(text.contains("`suite-2` and 197 more"), "{text}");
        assert!(text.contains("nobody can send under 199 of 200"), "{text}");
    }

    #[test]
    fn another_signal_and_what_people_placed_stand_alone() {
        let mut people = hold(3, "s1", "low");
        people.as_object_mut().unwrap().remove("reported");
        let holds = [hold(1, "s1", "high"), hold(2, "s2", "low"), people];
        let text = lines(&holds, false, 100).join("\n");
        assert_eq!(text.matches("halt of target").count(), 3, "{text}");
        assert!(text.contains("12 signals, the worst high"), "{text}");
    }

    #[test]
    fn each_is_shown_where_it_is_asked_for_and_none_is_wider_than_the_terminal() {
        let holds: Vec<Value> = (0..3).map(|target| hold(target, "s1", "low")).collect();
        let found = lines(&holds, true, 100);
        let ids = found.iter().filter(|line| line.contains("0198c0de-"));
        assert_eq!(ids.count(), 3, "{found:#?}");
        for line in found.iter().chain(&lines(&holds, false, 100)) {
            assert!(console::measure_text_width(line) <= 100, "{line}");
        }
    }
}
