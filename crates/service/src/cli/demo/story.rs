//! The demo's story, step by step.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::Demo;
use super::service::Service;
use crate::cli::client::{Client, Document};
use crate::cli::context::{Context, count_of, text_of};
use crate::cli::error::CliError;
use crate::cli::palette::Tone;
use crate::cli::plan::plan_lines;
use crate::cli::screen::{self, count};
use crate::cli::table::grouped;
use crate::cli::watch::LiveScreen;
use crate::operations::view::RolloutView;
use crate::source;

const WORKFORCE: &str = include_str!("../../../../../deploy/demo/workforce.yaml");
const REAL_SERVER: &str = include_str!("../../../../../deploy/demo/real-server.yaml");

/// Where in the run the security lead stops it, in percent of the people.
const HALT_AT_PERCENT: u64 = 40;

/// The demo as it goes, and the figures it has gathered.
#[derive(Debug)]
pub(super) struct Story<'a> {
    context: Context,
    demo: &'a Demo,
    service: &'a Service,
    figures: Vec<(String, String)>,
    step: u32,
}

impl<'a> Story<'a> {
    /// Prepares the story; nothing is sent yet.
    ///
    /// # Errors
    /// When the system's TLS set-up is unusable.
    pub(super) fn new(
        context: &Context,
        demo: &'a Demo,
        service: &'a Service,
    ) -> Result<Self, CliError> {
        let ids = *context.client.ids();
        let client = Client::new(&service.url, Some(service.token.clone()), ids)?;
        let context = Context {
            client,
            ..context.clone()
        };
        Ok(Self {
            context,
            demo,
            service,
            figures: Vec::new(),
            step: 0,
        })
    }

    /// Tells it.
    ///
    /// # Errors
    /// When a step is refused or goes wrong.
    pub(super) async fn tell(&mut self) -> Result<(), CliError> {
        let sample = self.make_people().await?;
        self.import("workforce", &sample).await?;
        self.say("A target: the sandbox. It is in this process and answers as scripted; no vendor is involved");
        let _: Value = self.post("/v1/targets", &json!({"name": "sandbox", "connector": "sandbox", "config": {"seed": 1, "failure_ppm": 200}})).await?;
        self.plan_and_start("workforce", WORKFORCE).await?;
        self.follow_with_a_halt("workforce").await?;
        self.real_server().await?;
        self.check_the_books().await
    }

    fn say(&mut self, sentence: &str) {
        self.step += 1;
        let number = format!("{}.", self.step);
        println!(
            "\n{} {}",
            self.context.palette.paint(Tone::Strong, &number),
            self.context.palette.paint(Tone::Strong, sentence)
        );
    }

    fn note(&mut self, what: &str, figure: String) {
        println!("   {what}: {figure}");
        self.figures.push((what.to_owned(), figure));
    }

    fn millis(&self) -> u64 {
        self.context.clock.monotonic().0
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.context.client.post(path, body).await
    }

    async fn view(&self, rollout: &str) -> Result<RolloutView, CliError> {
        self.context
            .client
            .get(&format!("/v1/rollouts/{rollout}"))
            .await
    }

    async fn make_people(&mut self) -> Result<PathBuf, CliError> {
        self.say(&format!(
            "A workforce of {} made-up people",
            grouped(self.demo.people)
        ));
        self.sample("sample.csv", self.demo.people)
    }

    fn sample(&mut self, name: &str, people: u64) -> Result<PathBuf, CliError> {
        let path = self.demo.folder.join(name);
        let begun = self.millis();
        source::sample::write_file(&path, people, 1, |_| {}).map_err(|cause| CliError::File {
            path: path.clone(),
            cause,
        })?;
        let bytes = std::fs::metadata(&path).map_or(0, |found| found.len());
        self.note(
            &format!("{} people written", grouped(people)),
            format!(
                "{} MB in {}",
                bytes / 1_000_000,
                seconds(self.millis() - begun)
            ),
        );
        Ok(path)
    }

    async fn import(&mut self, population: &str, file: &Path) -> Result<(), CliError> {
        self.say(&format!("Import into population `{population}`: streamed, checked row by row, published at once or not at all"));
        let mapping = json!({"key": "employee_id", "manager": "manager_id", "keep_together": ["together_group"]});
        let _: Value = self
            .post(
                "/v1/populations",
                &json!({"name": population, "mapping": mapping}),
            )
            .await?;
        let begun = self.millis();
        let path = format!("/v1/populations/{population}/imports?format=csv&file_name=sample.csv");
        let answer: Value = self
            .context
            .client
            .upload(&path, file, None, |_| {})
            .await?;
        let took = self.millis() - begun;
        let members = count_of(&answer, "/version/member_count");
        self.note(
            "imported",
            format!(
                "{} people in {} ({}/s)",
                grouped(members),
                seconds(took),
                grouped(rate(members, took))
            ),
        );
        Ok(())
    }

    async fn plan_and_start(&mut self, rollout: &str, spec: &str) -> Result<(), CliError> {
        self.say(&format!(
            "Plan rollout `{rollout}`: nothing moves yet, and the digest is what gets started"
        ));
        let document = Document {
            content_type: "application/yaml",
            text: spec.to_owned(),
        };
        let _: Value = self
            .context
            .client
            .post_document("/v1/rollouts", &document)
            .await?;
        let begun = self.millis();
        let plan = self
            .post(&format!("/v1/rollouts/{rollout}/plan"), &json!({}))
            .await?;
        self.note("planned", seconds(self.millis() - begun));
        for line in plan_lines(&plan, self.context.width().saturating_sub(3)) {
            println!("   {line}");
        }
        let body = json!({"digest": text_of(&plan, "/digest"), "reason": "demo"});
        let _: Value = self
            .post(&format!("/v1/rollouts/{rollout}/start"), &body)
            .await?;
        Ok(())
    }

    async fn follow_with_a_halt(&mut self, rollout: &str) -> Result<(), CliError> {
        self.say("It runs: claims, intents and outcomes are durable before anything else happens");
        let begun = self.millis();
        let view = self
            .follow(rollout, |view| {
                count(&view.totals, "done") * 100 >= count(&view.totals, "people") * HALT_AT_PERCENT
            })
            .await?;
        if view.status == "completed" {
            return Err(CliError::Failed(
                "the rollout was over before it could be halted: give it more people".to_owned(),
            ));
        }
        let running = self.millis() - begun;
        let hold = self.halt(rollout).await?;
        self.say("A second look: halted means halted");
        // Who had been sent before the halt comes back after its answer, and is written then.
        let before = loop {
            let view = self.view(rollout).await?;
            if view.in_flight == 0 {
                break view;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = self.view(rollout).await?;
        for line in screen::render(
            &after,
            self.context.now(),
            self.context.width(),
            self.context.palette,
        ) {
            println!("{line}");
        }
        let moved = count(&after.totals, "done").saturating_sub(count(&before.totals, "done"));
        self.note("moved during two seconds of halt", grouped(moved));
        self.release(&hold).await?;
        let resumed = self.millis();
        let view = self.follow(rollout, |_| false).await?;
        let took = running + (self.millis() - resumed);
        let people = count(&view.totals, "people");
        self.note(
            "moved",
            format!(
                "{} of {} people in {} ({}/s under the rate limit of the spec)",
                grouped(count(&view.totals, "done")),
                grouped(people),
                seconds(took),
                grouped(rate(people, took))
            ),
        );
        Ok(())
    }

    /// A halt ends by a procedure: look at everything, ask, two others say yes, carry it out.
    async fn release(&mut self, hold: &str) -> Result<(), CliError> {
        self.say("The release takes four people: one who halted, one who asks, two who say yes");
        let at = |verb: &str| format!("/v1/holds/{hold}/{verb}");
        let mut people = Vec::new();
        for (name, role) in [
            ("demo-asker", "approver"),
            ("demo-ciso", "security"),
            ("demo-owner", "manager"),
        ] {
            let made: Value = self
                .post("/v1/tokens", &json!({"name": name, "role": role}))
                .await?;
            let token = text_of(&made, "/token");
            let client = &self.context.client;
            people.push(Client::new(client.base(), Some(token), *client.ids())?);
        }
        let looked: Value = self.post(&at("preflight"), &json!({})).await?;
        for item in looked
            .pointer("/items")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            println!("  {}", text_of(item, "/sentence"));
        }
        let reason = json!({"reason": "demo: the vendor delivered"});
        let Some((asker, others)) = people.split_first() else {
            return Ok(());
        };
        let asked: Value = asker.post(&at("release-request"), &reason).await?;
        let digest = text_of(&asked, "/digest");
        for person in others {
            let yes = json!({"reason": "demo: looked at it", "digest": digest});
            let _: Value = person.post(&at("approvals"), &yes).await?;
        }
        let body = json!({"reason": "demo: go on", "digest": digest});
        let _: Value = asker.post(&at("release"), &body).await?;
        self.say("It goes on, small at first: 1,000 people, then twice as many, and again");
        Ok(())
    }

    async fn halt(&mut self, rollout: &str) -> Result<String, CliError> {
        self.say("The security lead halts it: one call");
        let body = json!({"kind": "halt", "scope": {"type": "rollout", "id": rollout}, "reason": "demo: a state actor in the vendor's network"});
        let begun = self.millis();
        let answer = self.post("/v1/holds", &body).await?;
        self.note(
            "halt acknowledged after",
            format!("{} ms", self.millis() - begun),
        );
        Ok(text_of(&answer, "/id"))
    }

    /// Draws the screen until the rollout is over or `enough` says so; any hold nobody placed here is an error.
    async fn follow(
        &self,
        rollout: &str,
        enough: impl Fn(&RolloutView) -> bool,
    ) -> Result<RolloutView, CliError> {
        let mut live = LiveScreen::new();
        let mut drawn = 0;
        loop {
            let view = self.view(rollout).await?;
            let over = matches!(
                view.status.as_str(),
                "completed" | "cancelled" | "halted" | "paused"
            );
            let last = over || enough(&view);
            // Without a terminal a line every few seconds is enough.
            if last || live.is_terminal() || self.millis().saturating_sub(drawn) > 5000 {
                drawn = self.millis();
                live.draw(&screen::render(
                    &view,
                    self.context.now(),
                    self.context.width(),
                    self.context.palette,
                ));
            }
            match view.status.as_str() {
                "completed" => return Ok(view),
                "cancelled" | "halted" | "paused" => {
                    return Err(CliError::Failed(format!(
                        "`{rollout}` is {} although nobody here stopped it",
                        view.status
                    )));
                }
                _ if last => return Ok(view),
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn real_server(&mut self) -> Result<(), CliError> {
        let Some(url) = self.demo.scim_url.clone() else {
            self.say(
                "Left out: the part with a real SCIM server, because none was given (--scim-url)",
            );
            self.figures.push((
                "real SCIM server".to_owned(),
                "left out: none was given".to_owned(),
            ));
            return Ok(());
        };
        self.say(&format!(
            "{} people onto a SCIM server that somebody else wrote, at {url}",
            grouped(self.demo.scim_people)
        ));
        let file = self.sample("five-thousand.csv", self.demo.scim_people)?;
        self.import("five-thousand", &file).await?;
        let config = json!({"base_url": url, "concurrency": 8});
        let _: Value = self
            .post(
                "/v1/targets",
                &json!({"name": "scim", "connector": "scim", "config": config}),
            )
            .await?;
        let check = self.post("/v1/targets/scim/check", &json!({})).await?;
        for item in check
            .get("items")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            println!(
                "   {}: {}",
                text_of(item, "/name"),
                text_of(item, "/sentence")
            );
        }
        self.plan_and_start("real-server", REAL_SERVER).await?;
        let begun = self.millis();
        let view = self.follow("real-server", |_| false).await?;
        let took = self.millis() - begun;
        let done = count(&view.totals, "done");
        self.note(
            "created on the SCIM server",
            format!(
                "{} people in {} ({}/s)",
                grouped(done),
                seconds(took),
                grouped(rate(done, took))
            ),
        );
        Ok(())
    }

    async fn check_the_books(&mut self) -> Result<(), CliError> {
        self.say("fsck: everything added up again from the bytes, person by person");
        let begun = self.millis();
        let program = std::env::current_exe().map_err(|cause| CliError::File {
            path: "tidegate".into(),
            cause,
        })?;
        let output = tokio::process::Command::new(program)
            .args([
                "fsck",
                "--database",
                &format!("sqlite:{}", self.service.database.display()),
            ])
            .output()
            .await
            .map_err(|cause| CliError::File {
                path: "tidegate fsck".into(),
                cause,
            })?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            println!("   {line}");
        }
        if !output.status.success() {
            return Err(CliError::Failed(format!(
                "fsck found differences: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        self.note(
            "fsck",
            format!("no difference, in {}", seconds(self.millis() - begun)),
        );
        Ok(())
    }

    /// Returns the figures gathered.
    #[must_use]
    pub(super) fn figures(self) -> Vec<(String, String)> {
        self.figures
    }
}

/// Writes the figures, and what to try next.
pub(super) fn summary(
    context: &Context,
    figures: &[(String, String)],
    service: &Service,
    stays: bool,
) {
    println!("\n{}", context.palette.paint(Tone::Strong, "Summary"));
    for (what, figure) in figures {
        println!("  {what:<36} {figure}");
    }
    if let Some(bytes) = service.resident_bytes() {
        println!(
            "  {:<36} {} MB",
            "memory of the service at its peak",
            bytes / 1_000_000
        );
    }
    let bytes = std::fs::metadata(&service.database).map_or(0, |found| found.len());
    println!("  {:<36} {} MB", "database", bytes / 1_000_000);
    if !stays {
        println!(
            "\nThe service ends here. To keep it running: make demo in a terminal, or\n  \
             target/release/tidegate serve --database sqlite:{}",
            service.database.display()
        );
        return;
    }
    println!(
        "\nThe service is running at {}; control-C ends it. In another terminal:",
        service.url
    );
    println!(
        "  export TIDEGATE_URL={} TIDEGATE_TOKEN={}",
        service.url, service.token
    );
    println!("  target/release/tidegate status workforce");
    println!("  target/release/tidegate why E0000042");
    println!("  target/release/tidegate members workforce --state failed");
    println!("  target/release/tidegate audit list");
}

fn seconds(millis: u64) -> String {
    format!("{}.{:02} s", millis / 1000, (millis % 1000) / 10)
}

fn rate(people: u64, millis: u64) -> u64 {
    (people * 1000).checked_div(millis).unwrap_or(people)
}
