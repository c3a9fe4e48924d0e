//! `tidegate demo`: the main job, told as a story with figures, through the same API as anybody's.
//!
//! It starts a service of its own on a fresh SQLite file and talks to it over HTTP. Nothing in it is
//! made up but the people and, in the first part, the target, which says so.

mod service;
mod story;

use std::path::PathBuf;

use clap::Args;

use super::context::Context;
use super::error::CliError;

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// How many people
    #[arg(long, default_value_t = 1_500_000)]
    people: u64,
    /// Where to put the database and the sample; what is there is thrown away
    #[arg(long, default_value = "var/demo", value_name = "FOLDER")]
    folder: PathBuf,
    /// The address to serve on
    #[arg(long, default_value = "127.0.0.1:8787")]
    listen: String,
    /// A real SCIM server for the second part; without it that part is left out
    #[arg(long, env = "TIDEGATE_DEMO_SCIM_URL", value_name = "URL")]
    scim_url: Option<String>,
    /// How many people go to the SCIM server
    #[arg(long, default_value_t = 5_000, value_name = "PEOPLE")]
    scim_people: u64,
    /// End after the summary in place of leaving the service running
    #[arg(long)]
    oneshot: bool,
}

/// Runs `demo`.
///
/// # Errors
/// When the service cannot be started, and when any step is refused or goes wrong.
pub async fn run(context: &Context, demo: &Demo) -> Result<(), CliError> {
    let mut service = service::start(demo).await?;
    let figures = {
        let mut story = story::Story::new(context, demo, &service)?;
        story.tell().await?;
        story.figures()
    };
    service.check_alive()?;
    let stays = !demo.oneshot && console::Term::stdout().is_term();
    story::summary(context, &figures, &service, stays);
    if stays {
        service.wait_for_interrupt().await?;
    }
    service.stop().await
}
