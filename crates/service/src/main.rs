//! The `tidegate` binary: the service, and the command line of the people who use it.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    tidegate_service::cli::run().await
}
