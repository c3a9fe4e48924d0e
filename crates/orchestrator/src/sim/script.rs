//! The language of stories: one command per line, quoted where a word has spaces.

use std::str::FromStr;

use crate::hold::HoldKind;
use crate::ids::{Principal, Timestamp, WaveNumber};
use crate::wave::gate::{ApprovalTerms, Gate};
use crate::wave::ramp::Ramp;
use crate::wave::soak::Seconds;
use crate::wave::window::{Freeze, Schedule};

/// What may become of the next people of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The target says no.
    Fail,
    /// Nobody answers, however often they are asked.
    Silent,
    /// The target says not now, once.
    Retry,
    /// The target accepts, and never confirms.
    Accept,
}

/// A wave as a story states it.
#[derive(Debug, Clone)]
pub(super) struct StoryWave {
    pub(super) name: String,
    pub(super) people: u32,
    pub(super) schedule: Option<Schedule>,
    pub(super) soak: Seconds,
    pub(super) ramp: Option<Ramp>,
    pub(super) gate: Gate,
}

/// One line of a story.
#[derive(Debug, Clone)]
pub(super) enum Line {
    At(Timestamp),
    Speed(u32),
    Freeze(Freeze),
    Wave(Box<StoryWave>),
    Start,
    Next(WaveNumber, Fate, u32),
    Answer(WaveNumber),
    For(Seconds),
    Until(Timestamp),
    Down(Seconds),
    Hold(HoldKind, String),
    Release(HoldKind),
    Retry(WaveNumber),
    Approve(WaveNumber, Principal),
    Revise,
    Cancel,
    Report,
    Counts,
}

/// Reads one line; a blank line or a comment is none.
pub(super) fn parse(text: &str) -> Result<Option<Line>, String> {
    let words = words(text)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let line = match words.as_slice() {
        [] => return Ok(None),
        ["at", at] => Line::At(read(at)?),
        ["speed", people] => Line::Speed(read(people)?),
        ["freeze", name, from, to, zone] => Line::Freeze(Freeze {
            name: (*name).to_owned(),
            from: read(from)?,
            to: read(to)?,
            zone: (*zone).to_owned(),
        }),
        ["wave", name, people, rest @ ..] => Line::Wave(Box::new(wave(name, people, rest)?)),
        ["start"] => Line::Start,
        ["next", wave, fate, people] => Line::Next(read(wave)?, read_fate(fate)?, read(people)?),
        ["answer", wave] => Line::Answer(read(wave)?),
        ["for", length] => Line::For(length_of(length)?),
        ["until", at] => Line::Until(read(at)?),
        ["down", length] => Line::Down(length_of(length)?),
        ["halt", reason] => Line::Hold(HoldKind::Halt, (*reason).to_owned()),
        ["pause", reason] => Line::Hold(HoldKind::Pause, (*reason).to_owned()),
        ["release", kind] => {
            let kind = HoldKind::from_name(kind).ok_or_else(|| format!("no hold is a `{kind}`"))?;
            Line::Release(kind)
        }
        ["retry", wave] => Line::Retry(read(wave)?),
        ["approve", wave, by] => Line::Approve(read(wave)?, Principal::new(*by)),
        ["revise"] => Line::Revise,
        ["cancel"] => Line::Cancel,
        ["report"] => Line::Report,
        ["counts"] => Line::Counts,
        [verb, ..] => {
            return Err(format!(
                "`{verb}` is no command, or has the wrong number of words"
            ));
        }
    };
    Ok(Some(line))
}

/// Splits a line at its spaces, but not inside double quotes; `#` begins a comment.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut is_quoted = false;
    for letter in text.chars() {
        match letter {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '#' if !is_quoted && word.is_none() => break,
            letter if letter.is_whitespace() && !is_quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    if is_quoted {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

fn wave(name: &str, people: &str, rest: &[&str]) -> Result<StoryWave, String> {
    let mut wave = StoryWave {
        name: name.to_owned(),
        people: read(people)?,
        schedule: None,
        soak: Seconds(0),
        ramp: None,
        gate: Gate::default(),
    };
    let (mut cron, mut zone, mut window) = (None, "UTC".to_owned(), Seconds(3600));
    for word in rest {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| format!("`{word}` is not `key=value`"))?;
        match key {
            "cron" => cron = Some(value.to_owned()),
            "zone" => value.clone_into(&mut zone),
            "window" => window = length_of(value)?,
            "soak" => wave.soak = length_of(value)?,
            "ramp" => wave.ramp = Some(ramp(value)?),
            "failures" => wave.gate.failures_at_most = Some(read(value)?),
            "success" => wave.gate.success_at_least = Some(read(value)?),
            "sample" => wave.gate.sample_at_least = Some(read(value)?),
            "unknown" => wave.gate.unknown_at_most = read(value)?,
            "silence" => wave.gate.silence = length_of(value)?,
            "approvals" => {
                wave.gate.approvals = Some(ApprovalTerms {
                    count: read(value)?,
                    from: Vec::new(),
                });
            }
            other => return Err(format!("a wave has no `{other}`")),
        }
    }
    wave.schedule = cron.map(|cron| Schedule { cron, zone, window });
    if let Some(schedule) = &wave.schedule {
        schedule.check().map_err(|error| error.to_string())?;
    }
    Ok(wave)
}

fn ramp(text: &str) -> Result<Ramp, String> {
    let (first, every) = text
        .split_once('/')
        .ok_or_else(|| format!("`{text}` is not `first/double_every`"))?;
    Ok(Ramp {
        first: read(first)?,
        double_every: length_of(every)?,
    })
}

fn read_fate(text: &str) -> Result<Fate, String> {
    match text {
        "fail" => Ok(Fate::Fail),
        "silent" => Ok(Fate::Silent),
        "retry" => Ok(Fate::Retry),
        "accept" => Ok(Fate::Accept),
        other => Err(format!(
            "`{other}` becomes of nobody: fail, silent, retry or accept"
        )),
    }
}

fn length_of(text: &str) -> Result<Seconds, String> {
    let refused = || format!("`{text}` is not a length such as 90s, 5m, 2h, 3d or 1w");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text.strip_prefix(digits) {
        Some("s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        Some("d") => 86_400,
        Some("w") => 604_800,
        _ => return Err(refused()),
    };
    let number: u32 = digits.parse().map_err(|_| refused())?;
    number.checked_mul(unit).map(Seconds).ok_or_else(refused)
}

fn read<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("`{text}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_words_together_and_comments_end_a_line() {
        let found = words(r#"wave w 5 cron="0 30 2 * * *"  # at night"#).unwrap();
        assert_eq!(found, ["wave", "w", "5", "cron=0 30 2 * * *"]);
        assert!(words(r#"halt "open"#).is_err());
        assert!(words("  # nothing").unwrap().is_empty());
    }

    #[test]
    fn a_length_has_a_number_and_a_unit() {
        assert_eq!(length_of("2h"), Ok(Seconds(7200)));
        for text in ["", "h", "2", "2y", "-1s", "99999999w"] {
            assert!(length_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_that_is_no_command_is_refused_with_its_word() {
        assert!(parse("jump 3").unwrap_err().contains("`jump`"));
        assert!(parse("wave w five").unwrap_err().contains("`five`"));
        assert!(
            parse("wave w 5 colour=red")
                .unwrap_err()
                .contains("`colour`")
        );
    }
}
