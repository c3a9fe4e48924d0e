//! Gives hostile bytes to whatever looks at a token before it is verified.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_service::signal::verify::jws;

fuzz_target!(|body: &[u8]| {
    let _ = jws::peek(body).map(|token| (token.kid().len(), token.audiences().len()));
});
