//! Gives hostile bytes to the parser that the target is named after.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_policy::dialect::parser::Parser;

fuzz_target!(|body: &[u8]| {
    let parser = Parser::from_name(env!("CARGO_BIN_NAME")).expect("a target is named after a parser");
    let taken = parser.take(body);
    assert!(taken.is_in_keeping_with(body.len()), "{taken:?}");
});
