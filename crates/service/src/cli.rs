//! The command line: one binary for the service and for the people who use it.

pub mod audit;
pub mod client;
pub mod condition;
pub mod context;
pub mod demo;
pub mod drift;
pub mod emergency;
pub mod endpoint;
pub mod error;
pub mod exposure;
pub mod hold;
pub mod instant;
pub mod lists;
pub mod palette;
pub mod plan;
pub mod policy;
pub mod population;
pub mod release;
pub mod requirement;
pub mod resume;
pub mod revert;
pub mod screen;
pub mod serve;
pub mod signal;
pub mod source;
pub mod steer;
pub mod table;
pub mod tame;
pub mod target;
pub mod token;
pub mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use context::{Connection, Context, OutputFormat};
use error::{CliError, Exit};

/// Move very large populations onto a SaaS product in waves, and stop when told to.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, propagate_version = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 ok, 1 error, 2 difference present, 3 held, 4 halted, 5 stale plan.
Stop everything now:          tidegate halt --everything --reason \"…\"
Why does nothing move?        tidegate why-not-now ROLLOUT
What holds, and by which rule? tidegate hold list
Why did a rule hold?          tidegate policy explain SIGNAL --target TARGET
What would rules have done?   tidegate policy replay my-rules.yaml --stored
Is a feed answering?          tidegate source poll NAME";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service
    Serve(serve::Serve),
    /// Bring a database to this version
    Migrate(serve::Migrate),
    /// Move 1.5 million made-up people, stop in the middle, and go on
    Demo(demo::Demo),
    /// Who exists: create, list, show, sample
    #[command(subcommand)]
    Population(population::PopulationCommand),
    /// Import a directory or HR export into a population
    Import(population::Import),
    /// Where people are moved to: create, list, show, check
    #[command(subcommand)]
    Target(target::TargetCommand),
    /// Show what a rollout spec would do; nothing starts
    Plan(plan::Plan),
    /// Start a rollout with exactly the plan that was shown
    Apply(plan::Apply),
    /// Show how a rollout stands, or wait until it ends
    Status(watch::Status),
    /// Follow a rollout live
    Watch(watch::Watch),
    /// Explain where one person stands
    Why(watch::Why),
    /// Say in one sentence why nothing moves
    WhyNotNow {
        /// The rollout's name or id
        rollout: String,
    },
    /// Say who was moved, on the way or untouched between two instants
    Exposure(exposure::Exposure),
    /// List the people of a rollout by state
    Members(watch::Members),
    /// Show who left, joined and moved since the plan was made
    Drift(drift::Drift),
    /// Pause a rollout; `resume` lets it go on
    Pause(steer::Stop),
    /// Let go of the pauses of a rollout; a halt stays
    Resume(steer::Steer),
    /// Stop at once: one call, no questions
    Halt(steer::Stop),
    /// Give up what has not been moved yet
    Cancel(steer::Cancel),
    /// Try the failed people again
    Retry(steer::Retry),
    /// Take back that somebody was moved: later evidence shows that they were not
    Disprove(steer::Disprove),
    /// Approve a wave for exactly one plan
    Approve(steer::Approve),
    /// Take people of chosen waves back, after a preview and a quorum; nothing starts yet
    Revert(revert::Revert),
    /// Approve exactly one revert
    RevertApprove(revert::Yes),
    /// Show who a revert takes back, who said yes, and what is missing
    RevertStatus {
        /// The name or id of the revert
        revert: String,
    },
    /// Start a revert that enough people have approved
    RevertStart(revert::Yes),
    /// Holds: list, show, review, owner
    #[command(subcommand)]
    Hold(hold::HoldCommand),
    /// Look at everything the release of a halt would meet
    Preflight(release::Preflight),
    /// What must be true before a halt is released
    #[command(subcommand)]
    Requirement(requirement::RequirementCommand),
    /// Ask for the release of a halt, as everything stands now
    ReleaseRequest(release::Step),
    /// Approve exactly the release that was asked for
    ReleaseApprove(release::Yes),
    /// Say no to a release that was asked for
    ReleaseVeto(release::Step),
    /// Show where the release of a halt stands
    ReleaseStatus {
        /// The hold's id
        hold: String,
    },
    /// Let named waves go on for hours although a halt stands: two custodians, an incident, a review
    #[command(subcommand)]
    Emergency(emergency::EmergencyCommand),
    /// Release one hold; others stay. A halt takes the digest that was approved
    Release(hold::Release),
    /// Signals: send, list
    #[command(subcommand)]
    Signal(signal::SignalCommand),
    /// Sources that report, or are asked: create, list, poll, revoke
    #[command(subcommand)]
    Source(source::SourceCommand),
    /// Endpoints that are told what happens: create, list, test, skip, revive, revoke
    #[command(subcommand)]
    Endpoint(endpoint::EndpointCommand),
    /// Policy sets: test, diff, replay, explain, schema, propose, approve, list, show, target
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// The audit trail
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// API tokens: create, list, revoke
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Make an admin token with nothing but the database, when every other one was lost
    Rescue(serve::Rescue),
    /// Add everything up from the bytes and compare, person by person
    Fsck(serve::Fsck),
}

/// Runs the command that the arguments name, and returns how the process ends.
pub async fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap would end with 2, which is a difference here.
            let exit = if error.use_stderr() {
                Exit::Error
            } else {
                Exit::Ok
            };
            let _ = error.print();
            return ExitCode::from(exit as u8);
        }
    };
    let output = cli.connection.output;
    match dispatch(cli).await {
        Ok(()) => ExitCode::from(Exit::Ok as u8),
        Err(error) => {
            match (&error, output) {
                (CliError::Silent(_), _) => {}
                (error, OutputFormat::Json) => eprintln!("{:#}", error.json()),
                (error, OutputFormat::Table | OutputFormat::Csv) => eprintln!("tidegate: {error}"),
            }
            ExitCode::from(error.exit() as u8)
        }
    }
}

async fn dispatch(cli: Cli) -> Result<(), CliError> {
    let context = Context::new(&cli.connection)?;
    let lists_people = matches!(cli.command, Command::Exposure(_) | Command::Members(_));
    if context.output == OutputFormat::Csv && !lists_people {
        let sentence =
            "`-o csv` is there for `tidegate exposure` and `tidegate members` alone: use `-o json`";
        return Err(CliError::Usage(sentence.to_owned()));
    }
    match cli.command {
        Command::Serve(command) => serve::serve(command).await,
        Command::Migrate(command) => serve::migrate(command, context.output).await,
        Command::Rescue(command) => serve::rescue(command).await,
        Command::Fsck(command) => serve::fsck(command, context.output).await,
        Command::Demo(command) => demo::run(&context, &command).await,
        Command::Population(command) => population::run(&context, command).await,
        Command::Import(command) => population::import(&context, &command).await,
        Command::Target(command) => target::run(&context, command).await,
        Command::Plan(command) => plan::plan(&context, &command).await,
        Command::Apply(command) => plan::apply(&context, &command).await,
        Command::Status(command) => watch::status(&context, &command).await,
        Command::Watch(command) => watch::watch(&context, &command).await,
        Command::Why(command) => watch::why(&context, &command).await,
        Command::WhyNotNow { rollout } => watch::why_not_now(&context, &rollout).await,
        Command::Exposure(command) => exposure::exposure(&context, &command).await,
        Command::Members(command) => watch::members(&context, &command).await,
        Command::Drift(command) => drift::run(&context, &command).await,
        Command::Pause(command) => steer::stop(&context, "pause", &command).await,
        Command::Halt(command) => steer::stop(&context, "halt", &command).await,
        Command::Resume(command) => steer::steer(&context, "resume", &command).await,
        Command::Cancel(command) => steer::cancel(&context, &command).await,
        Command::Retry(command) => steer::retry(&context, &command).await,
        Command::Disprove(command) => steer::disprove(&context, &command).await,
        Command::Approve(command) => steer::approve(&context, &command).await,
        Command::Revert(command) => revert::revert(&context, &command).await,
        Command::RevertApprove(command) => revert::approve(&context, &command).await,
        Command::RevertStatus { revert } => revert::status(&context, &revert).await,
        Command::RevertStart(command) => revert::start(&context, &command).await,
        Command::Hold(command) => hold::run(&context, command).await,
        Command::Preflight(command) => release::preflight(&context, &command).await,
        Command::Requirement(command) => requirement::run(&context, command).await,
        Command::ReleaseRequest(command) => {
            release::step(&context, "release-request", &command).await
        }
        Command::ReleaseApprove(command) => release::approve(&context, &command).await,
        Command::ReleaseVeto(command) => release::step(&context, "veto", &command).await,
        Command::ReleaseStatus { hold } => release::status(&context, &hold).await,
        Command::Emergency(command) => emergency::run(&context, command).await,
        Command::Release(command) => hold::release(&context, &command).await,
        Command::Signal(command) => signal::run(&context, command).await,
        Command::Source(command) => source::run(&context, command).await,
        Command::Endpoint(command) => endpoint::run(&context, command).await,
        Command::Policy(command) => policy::run(&context, command).await,
        Command::Audit(command) => audit::run(&context, command).await,
        Command::Token(command) => token::run(&context, command).await,
    }
}
