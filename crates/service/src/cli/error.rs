//! What a command fails with: a sentence, and an exit code a script can rely on.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The exit codes of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It worked.
    Ok = 0,
    /// It failed; the sentence on standard error says why.
    Error = 1,
    /// It worked, and found a difference.
    Difference = 2,
    /// The rollout is held: paused, frozen, or stopped by a gate.
    Held = 3,
    /// The rollout is halted.
    Halted = 4,
    /// The plan is not the one that would run now.
    StalePlan = 5,
}

/// One of several things wrong with one request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProblemItem {
    /// The line in the file that was sent, from 1.
    pub line: Option<u64>,
    /// The column in that line, from 1.
    pub column: Option<u64>,
    /// The field, as a path.
    pub field: Option<String>,
    /// The stable code.
    #[serde(default)]
    pub code: String,
    /// The sentence.
    #[serde(default)]
    pub message: String,
}

/// What the service answers when it refuses or fails (RFC 9457).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// The stable code.
    #[serde(default)]
    pub code: String,
    /// A few words.
    #[serde(default)]
    pub title: String,
    /// The sentence: what, where, what to do.
    #[serde(default)]
    pub detail: String,
    /// Each thing that is wrong, where there are several.
    #[serde(default)]
    pub errors: Vec<ProblemItem>,
}

/// Why a command did not do what it was asked to.
#[derive(Debug, Error)]
pub enum CliError {
    /// The service said no.
    #[error("{}", problem_text(.0))]
    Problem(Problem),
    /// Nobody answers.
    #[error(
        "no answer from {url}: {cause}\n  is the service running? start it with `tidegate serve`, or name another with --url"
    )]
    Unreachable {
        /// Where we asked.
        url: String,
        /// What the network said.
        cause: String,
    },
    /// Something answered, but not Tidegate.
    #[error("{url} answered {status} with something that is not Tidegate's: {body}")]
    Foreign {
        /// Where we asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// A file could not be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// Something underneath failed.
    #[error("{0}")]
    Failed(String),
    /// The command ends with this code, and its output says everything.
    #[error("")]
    Silent(Exit),
}

impl CliError {
    /// Returns the failure as a program reads it: the problem as it came, or one like it.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::Problem(problem) => serde_json::json!(problem),
            other => serde_json::json!({"code": "command_failed", "detail": other.to_string()}),
        }
    }

    /// Returns the exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Problem(problem) => exit_of(&problem.code),
            Self::Silent(exit) => *exit,
            _ => Exit::Error,
        }
    }
}

fn exit_of(code: &str) -> Exit {
    match code {
        "plan_stale" => Exit::StalePlan,
        "rollout_halted" | "halted" => Exit::Halted,
        "rollout_held" | "rollout_paused" | "held" => Exit::Held,
        _ => Exit::Error,
    }
}

fn problem_text(problem: &Problem) -> String {
    let mut text = if problem.detail.is_empty() {
        problem.title.clone()
    } else {
        problem.detail.clone()
    };
    if !problem.code.is_empty() {
        text.push_str(&format!(" ({})", problem.code));
    }
    for item in &problem.errors {
        text.push_str("\n  ");
        if let Some(line) = item.line {
            text.push_str(&format!("line {line}"));
            if let Some(column) = item.column {
                text.push_str(&format!(", column {column}"));
            }
            text.push_str(": ");
        }
        if let Some(field) = item.field.as_deref().filter(|field| !field.is_empty()) {
            text.push_str(&format!("{field}: "));
        }
        text.push_str(&item.message);
    }
    if problem.status == 401 {
        text.push_str("\n  the token is read from TIDEGATE_TOKEN, or given with --token");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_a_sentence_with_its_places() {
        let problem: Problem = serde_json::from_value(serde_json::json!({
            "status": 422, "code": "spec_invalid", "title": "Invalid", "detail": "the spec has 1 error",
            "errors": [{"line": 7, "column": 3, "field": "waves[0].count", "code": "type", "message": "must be a number"}]
        }))
        .unwrap();
        let error = CliError::Problem(problem);
        assert_eq!(
            error.to_string(),
            "the spec has 1 error (spec_invalid)\n  line 7, column 3: waves[0].count: must be a number"
        );
        assert_eq!(error.exit(), Exit::Error);
    }

    #[test]
    fn a_stale_plan_a_hold_and_a_halt_have_exit_codes_of_their_own() {
        assert_eq!(exit_of("plan_stale") as u8, 5);
        assert_eq!(exit_of("rollout_halted") as u8, 4);
        assert_eq!(exit_of("rollout_held") as u8, 3);
        assert_eq!(exit_of("anything else") as u8, 1);
    }
}
