//! The `tidegate` binary: the service, and the command line of the people who use it.

use std::process::ExitCode;

/// How a command ends whose reader has gone (128 and the number of SIGPIPE), as a shell expects.
const READER_GONE: i32 = 141;

#[tokio::main]
async fn main() -> ExitCode {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // `println!` panics when nobody reads on, such as `tidegate audit list | head`.
        let said = panic.to_string();
        if said.contains("failed printing to stdout") && said.contains("Broken pipe") {
            std::process::exit(READER_GONE);
        }
        report(panic);
    }));
    tidegate_service::cli::run().await
}
