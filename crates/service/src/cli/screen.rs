//! The screen of one rollout: who is moved, what stands in the way, and what comes next.
//!
//! A pure function of the status the service answers with, so that the picture is tested as text.

use chrono::TimeDelta;
use tidegate_orchestrator::hold::review;
use tidegate_orchestrator::ids::Timestamp;

use super::palette::{Palette, Tone, mark};
use super::table::{Table, cut, grouped, wrap, wrap_in};
use crate::operations::view::{Counts, HoldView, RolloutView, WaveView};

/// How wide a bar of progress is, in columns.
const BAR: usize = 24;
/// What stands before everything that is said of a hold below its first line.
const BELOW: &str = "              ";

/// Draws the screen, line by line, none wider than `width`.
#[must_use]
pub fn render(view: &RolloutView, now: Timestamp, width: usize, palette: Palette) -> Vec<String> {
    let mut lines = vec![head(view, palette)];
    if let Some(back) = &view.takes_back {
        lines.extend(wrap_in(&back.sentence, 2, width));
    }
    lines.extend(progress(view));
    for hold in view.holds.iter().filter(|hold| hold.released_at.is_none()) {
        lines.extend(hold_lines(hold, now, (width, palette)));
    }
    if let Some(reason) = &view.why_not_now {
        let head = std::iter::once("  not now     ").chain(std::iter::repeat(BELOW));
        let sentence = wrap(&reason.sentence, width.saturating_sub(BELOW.len()));
        let said = head.zip(sentence);
        lines
            .extend(said.map(|(head, line)| format!("{head}{}", palette.paint(Tone::Warn, &line))));
    }
    lines.push(String::new());
    lines.extend(waves(view, now, palette).lines(width));
    let gates = gates(view, palette);
    if !gates.is_empty() {
        lines.push(String::new());
        lines.extend(gates);
    }
    lines.iter().map(|line| cut(line, width)).collect()
}

fn head(view: &RolloutView, palette: Palette) -> String {
    let (glyph, tone) = mark(&view.status);
    let status = palette.paint(tone, &format!("{glyph} {}", view.status.to_uppercase()));
    let plan: String = view
        .plan_digest
        .as_deref()
        .unwrap_or("none")
        .chars()
        .take(8)
        .collect();
    format!(
        "{}   {status}   {} → {}   rev {} · plan {plan} · epoch {}",
        palette.paint(Tone::Strong, &view.name),
        view.population.name,
        view.target.name,
        view.generation,
        view.epoch
    )
}

/// Returns the people a rollout or wave is through with, whatever became of them.
#[must_use]
pub fn settled(counts: &Counts) -> u64 {
    [
        "done", "failed", "skipped", "departed", "reverted", "review",
    ]
    .iter()
    .map(|state| count(counts, state))
    .sum()
}

/// Returns one of the counts; a state nobody is in counts nobody.
#[must_use]
pub fn count(counts: &Counts, state: &str) -> u64 {
    counts.get(state).copied().unwrap_or(0)
}

fn progress(view: &RolloutView) -> Vec<String> {
    let people = count(&view.totals, "people");
    let done = count(&view.totals, "done");
    let mut line = format!(
        "  {}  {} of {} people · {}",
        bar(done, people),
        grouped(done),
        grouped(people),
        percent(done, people)
    );
    if view.in_flight > 0 {
        line.push_str(&format!(" · in flight {}", grouped(view.in_flight)));
    }
    if view.rate_per_second >= 0.5 {
        line.push_str(&format!(" · {:.0} people/s", view.rate_per_second));
    }
    let mut lines = vec![line];
    if let Some(end) = view.expected_end {
        lines.push(format!(
            "  expected    done by {} at the rate of now",
            instant(end)
        ));
    }
    let trouble: Vec<String> = [
        "failed", "review", "unknown", "retry", "departed", "reverted", "parked",
    ]
    .iter()
    .filter_map(|state| {
        let count = count(&view.totals, state);
        let word = if *state == "parked" {
            "kept back"
        } else {
            state
        };
        (count > 0).then(|| format!("{} {word}", grouped(count)))
    })
    .collect();
    if !trouble.is_empty() {
        lines.push(format!("  not done    {}", trouble.join(" · ")));
    }
    lines
}

fn hold_lines(hold: &HoldView, now: Timestamp, (width, palette): (usize, Palette)) -> Vec<String> {
    let tone = if hold.kind == "halt" {
        Tone::Bad
    } else {
        Tone::Warn
    };
    let scope = match (&hold.scope.id, hold.scope.wave) {
        (Some(id), Some(wave)) => format!("{} {id} wave {wave}", hold.scope.scope_type),
        (Some(id), None) => format!("{} {id}", hold.scope.scope_type),
        (None, _) => hold.scope.scope_type.clone(),
    };
    let part = hold.part.as_ref();
    let quiet = match part.filter(|part| part.sorted) {
        // The others go on, and whoever is kept back is in nobody's hands.
        Some(part) => format!("{} kept back", grouped(part.people.unwrap_or(0))),
        None if hold.quiesced => "quiesced: nobody can send".to_owned(),
        None => "not yet quiesced".to_owned(),
    };
    let first = format!(
        "since {} ({}) by {} · {quiet} · {scope}",
        instant(hold.placed_at),
        span(now - hold.placed_at),
        hold.actors.join(", "),
    );
    let kind = palette.paint(tone, &format!("{:<10}", hold.kind));
    let below = |text: &str| wrap_in(text, BELOW.len(), width);
    let mut lines = below(&first);
    if let Some(line) = lines.first_mut() {
        *line = format!("  {kind}  {}", line.trim_start());
    }
    lines.extend(below(&format!("{} · hold {}", hold.reason, hold.id)));
    if let Some(reported) = hold
        .reported
        .as_ref()
        .filter(|reported| reported.signals > 0)
    {
        lines.extend(below(&counted(reported.signals, &reported.worst)));
    }
    if !hold.quiesced {
        lines.extend(below(&hold.sentence));
    }
    lines.extend(part.iter().flat_map(|part| below(&part.sentence)));
    let unseen = unseen(hold.overdue_since, hold.owner_gone.then_some(&hold.owner));
    if !unseen.is_empty() {
        let lost = below(&unseen.join(" · "));
        lines.extend(lost.iter().map(|line| palette.paint(Tone::Warn, line)));
    }
    lines
}

/// Says how much was reported of what a rule holds, and how bad the worst of it is.
#[must_use]
pub fn counted(signals: u64, worst: &str) -> String {
    match signals {
        1 => format!("1 signal, severity {worst}"),
        _ => format!("{} signals, the worst {worst}", grouped(signals)),
    }
}

/// Says in a few words that nobody looks at a hold, if nobody does.
#[must_use]
pub fn unseen(overdue_since: Option<Timestamp>, owner_gone: Option<&String>) -> Vec<String> {
    let overdue = overdue_since.map(review::overdue);
    let gone = owner_gone.map(|owner| format!("owner gone: {owner}"));
    overdue.into_iter().chain(gone).collect()
}

fn waves(view: &RolloutView, now: Timestamp, palette: Palette) -> Table {
    let mut table = Table::new(&[
        ">", "wave", ">people", ">done", ">failed", ">unknown", ">review", "", "state",
    ]);
    for wave in &view.waves {
        let (glyph, tone) = mark(&wave.state);
        let state = palette.paint(tone, &format!("{glyph} {}", wave_state(wave, now)));
        table.row([
            wave.number.to_string(),
            wave.name.clone(),
            grouped(wave.people),
            grouped(count(&wave.counts, "done")),
            grouped(count(&wave.counts, "failed")),
            grouped(count(&wave.counts, "unknown")),
            grouped(count(&wave.counts, "review")),
            bar_of(settled(&wave.counts), wave.people, 10),
            state,
        ]);
    }
    table
}

fn wave_state(wave: &WaveView, now: Timestamp) -> String {
    match (wave.soak_until, wave.since) {
        (Some(until), _) if until > now => format!(
            "{} until {} ({})",
            wave.state,
            instant(until),
            span(until - now)
        ),
        (_, Some(since)) => format!("{} since {}", wave.state, instant(since)),
        _ => wave.state.clone(),
    }
}

fn gates(view: &RolloutView, palette: Palette) -> Vec<String> {
    let mut lines = Vec::new();
    for wave in view
        .waves
        .iter()
        .filter(|wave| !matches!(wave.state.as_str(), "passed" | "pending"))
    {
        for line in &wave.gate {
            let (glyph, tone) = match line.outcome.as_str() {
                "pass" => ('✔', Tone::Good),
                "fail" => ('✖', Tone::Bad),
                _ => ('?', Tone::Warn),
            };
            let mark = palette.paint(tone, &format!("{glyph} {}", line.outcome));
            lines.push(format!(
                "  gate {} · {}  {mark}  {}",
                wave.name, line.name, line.sentence
            ));
        }
    }
    lines
}

fn bar(done: u64, people: u64) -> String {
    bar_of(done, people, BAR)
}

fn bar_of(done: u64, people: u64, width: usize) -> String {
    let share = u128::from(done) * u128::try_from(width).unwrap_or(0);
    let full = usize::try_from(share.checked_div(u128::from(people)).unwrap_or(0))
        .unwrap_or(width)
        .min(width);
    format!("{}{}", "█".repeat(full), "░".repeat(width - full))
}

/// Writes a share in percent with one decimal, rounded down so that 100 % means everyone.
#[must_use]
pub fn percent(part: u64, whole: u64) -> String {
    let tenths = (u128::from(part) * 1000)
        .checked_div(u128::from(whole))
        .unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Writes an instant as people read it.
#[must_use]
pub fn instant(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%MZ").to_string()
}

/// Writes how long something lasts, in its two largest units at most.
#[must_use]
pub fn span(length: TimeDelta) -> String {
    let seconds = length.num_seconds().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
