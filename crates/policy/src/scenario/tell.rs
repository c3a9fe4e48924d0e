//! A story as lines of text that fit a terminal.

use super::{Exposed, Moment, Story, kev};
use crate::set::replay::line::Written;

/// How far the text of a day is from the edge.
const INDENT: usize = 10;

/// Says what was reported, in one line.
pub(super) fn reported(one: &Written) -> String {
    let signal = &one.signal;
    let revision = match &signal.revision {
        Some(revision) if revision != "1" => format!(", revision {revision}"),
        Some(_) | None => String::new(),
    };
    let standing = match signal.lifecycle.can_tighten() {
        true => String::new(),
        false => format!(", {}", signal.lifecycle),
    };
    format!(
        "{} {}{revision}{standing}, of {} ({})",
        signal.severity, signal.kind, signal.source, signal.trust
    )
}

/// Tells a story; no line is wider than `width`.
#[must_use]
pub fn tell(story: &Story, width: usize) -> Vec<String> {
    let mut lines = wrapped(
        &format!(
            "Midnight Blizzard, as it became known, and what the rules of `{}` make of it. The days and \
             facts are public; where a day is not, it says so. The plan of 14 waves, the hours, and when people \
             asked for a release are assumed.",
            story.timeline.policy
        ),
        width,
        0,
    );
    for moment in &story.moments {
        lines.push(String::new());
        lines.extend(day(moment, width));
    }
    lines.push(String::new());
    lines.extend(sums(story, width));
    lines
}

fn day(moment: &Moment, width: usize) -> Vec<String> {
    let mut lines = wrapped(&format!("{}  {}", moment.when, moment.fact), width, 2);
    let mut add = |name: &str, text: &str| {
        lines.extend(wrapped(&format!("  {name:<8}{text}"), width, INDENT));
    };
    if let Some(reported) = &moment.reported {
        add("report", reported);
    }
    for rule in &moment.rules {
        add("rules", rule);
    }
    for people in &moment.people {
        add("people", people);
    }
    let planned = moment.moved_unstopped;
    match moment.moved {
        None | Some(0) => {}
        Some(moved) if moved == planned => add("moved", &grouped(moved)),
        Some(moved) => {
            let (moved, planned) = (grouped(moved), grouped(planned));
            add(
                "moved",
                &format!("{moved}; {planned} had nobody stopped it"),
            );
        }
    }
    lines
}

fn sums(story: &Story, width: usize) -> Vec<String> {
    let Exposed {
        by,
        with_rules,
        people_only,
        unstopped,
    } = &story.exposed;
    let mut lines = vec![format!(
        "Moved by {by}, when the vendor said that it was not over, of {}:",
        grouped(story.people)
    )];
    let rows = [
        ("with the rules alone".to_owned(), with_rules),
        (
            format!(
                "with people alone, who stop on {} (assumed)",
                story.stopped_on
            ),
            people_only,
        ),
        ("with nobody who stops it".to_owned(), unstopped),
    ];
    for (what, people) in rows {
        lines.push(format!("  {:>9}  {what}", grouped(*people)));
    }
    lines.push(String::new());
    let kev::Counted {
        entries,
        holds,
        on_the_day,
        as_it_is,
    } = &story.kev;
    let sentence = format!(
        "The counter-test: a rule that holds whenever the catalogue of known exploited vulnerabilities names \
         the vendor would have found {entries} reasons to hold from November 2023 to December 2024, and \
         {on_the_day} on 2024-01-19. What is the same counts to one hold, so it is {holds} hold that {entries} \
         entries keep up. As it is, the catalogue is not signed, so it may hold nothing: {as_it_is}."
    );
    lines.extend(wrapped(&sentence, width, 0));
    lines
}

/// Breaks a text between words; lines after the first are indented.
fn wrapped(text: &str, width: usize, indent: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    // Blanks at the beginning are meant.
    let lead = text.len() - text.trim_start().len();
    let mut line = " ".repeat(lead);
    let mut is_empty = true;
    for word in text.trim_start().split(' ') {
        let longer = line.chars().count() + 1 + word.chars().count();
        if !is_empty && longer > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
    lines
        .into_iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
