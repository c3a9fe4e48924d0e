//! Tidiness is a test: the arrows between the parts, the limits, and the words that must not appear.
//!
//! It reads source text only. A rule that a compiler or clippy already holds is not repeated here.
#![expect(
    clippy::expect_used,
    reason = "a tree that cannot be read is a failed test, and the message says which part"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 600;

/// A Rust source file of ours, with its path relative to the repository.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The lines before the file's own test module.
    fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        // A module of tests, or a part of one.
        let is_test = self.path.ends_with("/tests.rs")
            || (self.path.contains("/src/") && self.path.contains("/tests/"));
        let lines = self.text.lines().enumerate();
        lines.take_while(move |(_, line)| {
            // A test module at the end; a file of tests that is declared on one line is not the end.
            !is_test && line.trim_end() != "#[cfg(test)]"
        })
    }

    /// The lines that are code: neither comments nor documentation.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.product_lines()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the repository")
}

fn visit(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a readable entry").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            if !["target", "node_modules", ".git", "var"].contains(&name) {
                visit(&path, extension, found);
            }
        } else if extension.is_empty() || name.ends_with(extension) {
            found.push(path);
        }
    }
}

fn sources(under: &str) -> Vec<Source> {
    let root = repository();
    let mut paths = Vec::new();
    visit(&root.join(under), ".rs", &mut paths);
    paths.sort();
    let sources: Vec<Source> = paths
        .into_iter()
        .map(|path| Source {
            text: fs::read_to_string(&path).expect("source is UTF-8"),
            path: path
                .strip_prefix(&root)
                .expect("inside")
                .display()
                .to_string(),
        })
        .collect();
    assert!(
        !sources.is_empty(),
        "no sources under {under}: the test looks in the wrong place"
    );
    sources
}

#[track_caller]
fn check_none(rule: &str, found: &[String]) {
    let mut text = String::new();
    for line in found {
        let _ = writeln!(text, "  {line}");
    }
    assert!(found.is_empty(), "{rule}:\n{text}");
}

/// Lines of code under `under` that hold one of `words`, outside the paths that begin with `but`.
fn uses(under: &str, words: &[&str], but: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources(under) {
        if but.iter().any(|prefix| source.path.starts_with(prefix)) {
            continue;
        }
        for (number, line) in source.code_lines() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn pure_crates_name_nothing_of_the_outside_world() {
    let words = [
        "tokio",
        "sea_orm",
        "sqlx",
        "axum",
        "reqwest",
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
        "SystemTime",
        "Instant::now",
        "Utc::now",
        "rand::",
        "now_v7",
        "new_v4",
        "println!",
        "tracing::",
        "async fn",
        ".await",
        "upcoming(",
    ];
    let mut found = uses("crates/policy/src", &words, &[]);
    found.extend(uses("crates/orchestrator/src", &words, &[]));
    check_none(
        "the pure crates take time as a parameter and return decisions as data",
        &found,
    );
}

#[test]
fn policy_is_a_leaf_and_the_core_depends_on_policy_alone() {
    let root = repository();
    let manifest = |name: &str| {
        let path = root.join(format!("crates/{name}/Cargo.toml"));
        let text = fs::read_to_string(path).expect("a manifest");
        text.split("[dev-dependencies]")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let policy = manifest("policy");
    assert!(!policy.contains("tidegate-orchestrator") && !policy.contains("tidegate-service"));
    let core = manifest("orchestrator");
    assert!(!core.contains("tidegate-service"));
    for heavy in ["tokio", "sea-orm", "sqlx", "axum", "reqwest"] {
        assert!(
            !policy.contains(heavy) && !core.contains(heavy),
            "`{heavy}` in a pure crate"
        );
    }
}

#[test]
fn only_the_store_speaks_sql() {
    let but = ["crates/service/src/store"];
    check_none(
        "only `store` names sea_orm or sqlx",
        &uses("crates/service/src", &["sea_orm", "sqlx"], &but),
    );
}

#[test]
fn only_http_names_axum() {
    let but = ["crates/service/src/http"];
    check_none(
        "only `http` names axum",
        &uses("crates/service/src", &["axum::", "use axum"], &but),
    );
}

#[test]
fn only_the_clock_reads_the_time() {
    let words = ["Utc::now(", "SystemTime::now(", "Instant::now("];
    let but = ["crates/service/src/clock.rs"];
    check_none(
        "only `clock` reads the time",
        &uses("crates/service/src", &words, &but),
    );
}

#[test]
fn only_app_makes_random_ids() {
    let but = ["crates/service/src/app"];
    check_none(
        "only `app` makes ids",
        &uses("crates/service/src", &["now_v7(", "new_v4("], &but),
    );
}

#[test]
fn store_and_operations_do_not_look_up_the_arrows() {
    let up = [
        "crate::http",
        "crate::tasks",
        "crate::cli",
        "crate::operations",
    ];
    check_none(
        "`store` calls nothing above it",
        &uses("crates/service/src/store", &up, &[]),
    );
    let up = ["crate::http", "crate::tasks", "crate::cli"];
    check_none(
        "`operations` is called by http and tasks",
        &uses("crates/service/src/operations", &up, &[]),
    );
}

#[test]
fn files_stay_short_enough_to_read() {
    let mut found = Vec::new();
    for source in sources("crates").into_iter().chain(sources("tests")) {
        let lines = source.product_lines().count();
        if lines > LINES_MAX {
            found.push(format!("{}: {lines} lines before its tests", source.path));
        }
    }
    check_none("split by step, not by size (600 lines)", &found);
}

#[test]
fn every_file_says_what_it_is_for() {
    let found: Vec<String> = sources("crates")
        .into_iter()
        .chain(sources("tests"))
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| source.path)
        .collect();
    check_none("a file starts with `//!`", &found);
}

#[test]
fn nothing_is_unfinished_or_switched_off() {
    let marks = [
        "todo!(",
        "unimplemented!(",
        "FIXME",
        "#[ignore",
        "#[should_panic",
        "#[allow(",
    ];
    let mut found = Vec::new();
    for source in sources("crates").into_iter().chain(sources("tests")) {
        if source.path == "tests/tidy.rs" {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            let todo = line.contains("TODO") && !line.contains("TODO(#");
            if todo || marks.iter().any(|mark| line.contains(mark)) {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    check_none("finish it, or give it an issue number", &found);
}

#[test]
fn modules_are_named_after_their_file() {
    let found: Vec<String> = sources("crates")
        .into_iter()
        .filter(|source| source.path.ends_with("/mod.rs"))
        .map(|s| s.path)
        .collect();
    check_none("foo.rs beside foo/, no mod.rs", &found);
    let vague = [
        "utils.rs",
        "util.rs",
        "helpers.rs",
        "common.rs",
        "misc.rs",
        "prelude.rs",
    ];
    let found: Vec<String> = sources("crates")
        .into_iter()
        .filter(|source| {
            vague
                .iter()
                .any(|name| source.path.ends_with(&format!("/{name}")))
        })
        .map(|source| source.path)
        .collect();
    check_none("a file is named after what it holds", &found);
}

#[test]
fn migrations_come_in_pairs() {
    let names = |dialect: &str| {
        let mut found = Vec::new();
        visit(
            &repository().join("migrations").join(dialect),
            ".sql",
            &mut found,
        );
        let mut names: Vec<String> = found
            .iter()
            .map(|path| {
                path.file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("sqlite"), names("postgres"));
    assert!(!names("sqlite").is_empty());
}

#[test]
fn the_tree_holds_no_path_of_one_machine() {
    let mut files = Vec::new();
    visit(&repository(), "", &mut files);
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let is_ours = !["tests/tidy.rs", "Cargo.lock", ".git"]
            .iter()
            .any(|name| file.ends_with(name));
        if !is_ours {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if ["/work/", "/root/", "/home/"]
                .iter()
                .any(|path| line.contains(path))
            {
                found.push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    check_none("paths of one machine", &found);
}

/// The tests that docs/CLAIMS.md names, as `target::module::name` or `tests/stories/name.txt`.
fn claimed(page: &str) -> Vec<&str> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted
        .filter(|word| word.contains("::") || word.starts_with("tests/"))
        .filter(|word| {
            !word.contains(' ') && *word != "target::module::name" && !word.contains('*')
        })
        .filter(|word| *word != "tests/tidy.rs")
        .collect()
}

/// Says whether a test is where its name says: a function of that name in a file of its module.
fn is_shown(sources: &[Source], test: &str) -> bool {
    let Some((path, name)) = test.rsplit_once("::") else {
        return repository().join(test).is_file();
    };
    let mut parts = path.split("::").filter(|part| *part != "tests");
    let root = match parts.next() {
        Some("it") => "tests/".to_owned(),
        Some("model") => "crates/orchestrator/tests/model/".to_owned(),
        Some(package) => format!("crates/{package}/src/"),
        None => return false,
    };
    let module = parts.collect::<Vec<_>>().join("/");
    // A target whose root holds the tests: `main.rs`.
    let module = if module.is_empty() {
        "main".to_owned()
    } else {
        module
    };
    let module = module
        .strip_prefix("planner/")
        .map_or(module.clone(), |inner| format!("planner/tests/{inner}"));
    let function = format!("fn {name}(");
    let is_of = |source: &Source| {
        let path = source.path.strip_prefix(&root).unwrap_or_default();
        let path = path.strip_prefix("it/").unwrap_or(path);
        let path = path.strip_suffix(".rs").unwrap_or(path);
        path == module || path == format!("{module}/tests")
    };
    sources
        .iter()
        .any(|source| is_of(source) && source.text.contains(&function))
}

#[test]
fn every_claim_names_a_test_that_exists() {
    let page = fs::read_to_string(repository().join("docs/CLAIMS.md")).expect("docs/CLAIMS.md");
    let mut sources = sources("crates");
    sources.extend(self::sources("tests"));
    let named = claimed(&page);
    assert!(named.len() > 50, "the page is read: {}", named.len());
    let missing: Vec<String> = named
        .into_iter()
        .filter(|test| !is_shown(&sources, test))
        .map(str::to_owned)
        .collect();
    check_none("docs/CLAIMS.md names tests that are not there", &missing);
    let mut ids = std::collections::BTreeSet::new();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let twice: Vec<String> = rows
        .filter_map(|row| row.split('`').next())
        .filter(|id| !ids.insert(*id))
        .map(str::to_owned)
        .collect();
    check_none("each claim has a name of its own", &twice);
}
