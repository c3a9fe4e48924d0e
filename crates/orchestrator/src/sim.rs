//! A world in virtual time over the pure parts: a story in, what happened out.
//!
//! A story is a text of one command per line. The world looks when the planner asks to be woken, works
//! when people may be claimed, and does nothing in between, so that a year is as quick as its events.
//! Everything but the world's clock and its obedient target is the real thing: rollout, planner,
//! holds, windows, gates and the packed ledger.
//!
//! ```text
//! at 2026-03-27T00:00:00Z
//! speed 10                          people begun per second
//! freeze year-end 2026-12-24 2027-01-01 Europe/Berlin
//! wave canary 50 cron="0 30 2 * * *" zone=Europe/Berlin window=1h soak=1h failures=10%
//! start                             plan, start and prepare
//! next 1 fail 6                     the next six taken up fail (or silent, retry, accept)
//! for 3d    until 2026-04-01T00:00:00Z    down 3w
//! halt "token theft"    release halt    pause lunch    retry 1    approve 1 lind    cancel
//! answer 1                          whoever gave no answer does when asked again
//! report    counts
//! ```

mod script;
mod world;

use std::fmt::Write as _;

use thiserror::Error;

use self::script::parse;
use self::world::World;

/// A line of a story cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub struct StoryError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// Plays a story and returns what happened: every command, then what followed from it.
///
/// # Errors
/// When a line of the story cannot be understood.
pub fn play(story: &str) -> Result<String, StoryError> {
    let mut world = World::default();
    let mut told = String::new();
    for (index, text) in story.lines().enumerate() {
        let at_line = |message| StoryError {
            line: index + 1,
            message,
        };
        if text.trim_start().starts_with('#') {
            let _ = writeln!(told, "{text}");
        }
        let Some(command) = parse(text).map_err(at_line)? else {
            continue;
        };
        let _ = writeln!(told, "> {}", text.trim());
        world.carry_out(command).map_err(at_line)?;
        for line in world.take_told() {
            let _ = writeln!(told, "  {line}");
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_cannot_be_understood_is_named_by_its_number() {
        let error = play("at 2026-01-01T00:00:00Z\n\njump 3\n").unwrap_err();
        assert_eq!(error.line, 3);
        assert!(error.to_string().starts_with("line 3: `jump`"), "{error}");
        assert!(play("retry 1").unwrap().contains("not_started"));
        assert!(
            play("next 1 fail 3")
                .unwrap_err()
                .to_string()
                .contains("no wave 1")
        );
    }

    #[test]
    fn the_same_story_is_told_the_same_way_twice() {
        let story = "wave w 3000 failures=10% ramp=1%/1h\nnext 1 silent 2\nstart\nfor 3d\ncounts\n";
        assert_eq!(play(story), play(story));
    }
}
