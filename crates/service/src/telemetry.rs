//! Logs: one line per event on standard error, for people or as JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Begins to log. `filter` is as in `RUST_LOG`; a filter that cannot be read is replaced by `info`.
pub fn init(filter: &str, is_json: bool) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A file of colour codes is read by nobody.
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second call (in tests) changes nothing.
    let _ = if is_json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
}
