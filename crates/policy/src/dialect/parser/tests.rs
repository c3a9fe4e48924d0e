//! The kept corpus goes through its parser, and through every other one.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

/// The most that the whole corpus may take.
const CORPUS_MAX: usize = 200 * 1024;

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(folder)
}

/// The files of a folder, each with its name, in order.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[track_caller]
fn check(parser: Parser, name: &str, body: &[u8]) -> Taken {
    let taken = parser.take(body);
    assert!(
        taken.is_in_keeping_with(body.len()),
        "{parser} makes {taken:?} of {} bytes: {name}",
        body.len()
    );
    taken
}

#[test]
fn every_input_of_the_corpus_is_read_or_refused_by_every_parser_and_the_result_is_small() {
    let mut all = files(&fixtures("signals"));
    let mut size = 0;
    let folders = Parser::ALL.iter().map(|parser| parser.name());
    for folder in folders.chain(["any", "jws"]) {
        let found = files(&fixtures("fuzz").join(folder));
        assert!(!found.is_empty(), "the corpus has something for {folder}");
        size += found.iter().map(|(_, body)| body.len()).sum::<usize>();
        all.extend(found);
    }
    assert!(size <= CORPUS_MAX, "the corpus stays small: {size}");
    for parser in Parser::ALL {
        for (name, body) in &all {
            check(*parser, name, body);
        }
    }
}

#[test]
fn each_parser_takes_something_of_its_own_corpus() {
    for parser in Parser::ALL {
        let own = files(&fixtures("fuzz").join(parser.name()));
        let taken = own.iter().map(|(name, body)| check(*parser, name, body));
        let things: usize = taken.map(|taken| taken.things).sum();
        assert!(
            things > 0,
            "no input of `{parser}` gets past its first field"
        );
    }
}

#[test]
fn every_parser_has_a_target_of_its_own() {
    let manifest = fixtures("../fuzz/Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    for parser in Parser::ALL {
        let line = format!("name = \"{parser}\"\npath = \"targets/parser.rs\"");
        assert!(manifest.contains(&line), "{parser}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_cut_or_turned_anywhere_is_read_or_refused(
        parser in prop::sample::select(Parser::ALL),
        which in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let own = files(&fixtures("fuzz").join(parser.name()));
        let (name, body) = which.get(&own);
        let mut body = body.clone();
        let place = cut.index(body.len().max(1));
        check(parser, name, body.get(..place).unwrap_or_default());
        if let Some(found) = body.get_mut(place) {
            *found = byte;
        }
        check(parser, name, &body);
    }
}
