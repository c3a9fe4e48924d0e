//! What must be true before a halt ends: `requirement`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::escape;
use super::context::{Context, text_of};
use super::error::CliError;
use super::instant;
use super::table::Table;

/// What somebody asks for.
#[derive(Debug, Args)]
pub struct Add {
    /// The hold's id
    hold: String,
    /// In a few words
    #[arg(long)]
    title: String,
    /// What exactly must be true, and how that is tested
    #[arg(long)]
    text: String,
    /// Such as `identities_and_secrets` or `monitor_and_detect`
    #[arg(long)]
    category: String,
    /// low, medium, high or critical
    #[arg(long, default_value = "high")]
    severity: String,
    /// Who sees to it
    #[arg(long)]
    owner: Option<String>,
    /// Until when: a day (2027-01-31, midnight UTC) or an instant
    #[arg(long)]
    due: Option<String>,
    /// Whom to ask at the vendor: a person or a desk
    #[arg(long)]
    vendor_contact: Option<String>,
    /// What the vendor calls it: a case number
    #[arg(long)]
    vendor_reference: Option<String>,
}

/// What is new about it.
#[derive(Debug, Args)]
pub struct Update {
    /// The hold's id
    hold: String,
    /// The requirement's number, or its id
    requirement: String,
    /// accepted, `in_progress`, delivered or rejected
    #[arg(long)]
    status: Option<String>,
    /// Who sees to it from now on
    #[arg(long)]
    owner: Option<String>,
    /// What the vendor said; the next look is due within 30 days
    #[arg(long)]
    checkin: Option<String>,
    /// A step on the way: WHAT=WHEN, such as "logs reach us=2027-03-01". All of them, each time
    #[arg(long = "milestone", value_name = "WHAT=WHEN")]
    milestones: Vec<String>,
    /// Until when it should be met: a day (2027-01-31, midnight UTC) or an instant
    #[arg(long)]
    due: Option<String>,
}

/// What to do with requirements.
#[derive(Debug, Subcommand)]
pub enum RequirementCommand {
    /// List the requirements of a halt
    List {
        /// The hold's id
        hold: String,
    },
    /// Ask for something: the release waits for it
    Add(Add),
    /// Show one requirement with all that is known of it
    Show {
        /// The hold's id
        hold: String,
        /// The requirement's number, or its id
        requirement: String,
    },
    /// Say how far it has come, or what the vendor said
    Update(Update),
    /// Attach evidence: a text, a link or a file by its hash
    Evidence {
        /// The hold's id
        hold: String,
        /// The requirement's number, or its id
        requirement: String,
        /// text, link or file
        #[arg(long, default_value = "text")]
        kind: String,
        /// The text, the address, or the name of the file
        #[arg(long)]
        text: String,
        /// The SHA-256 of the bytes at the link or of the file
        #[arg(long)]
        sha256: Option<String>,
    },
    /// Say that it is met: somebody else than its owner and than whoever attested
    Verify {
        /// The hold's id
        hold: String,
        /// The requirement's number, or its id
        requirement: String,
        /// How that was seen
        #[arg(long)]
        reason: String,
    },
    /// Go on without it for a time: takes two people
    Waive {
        /// The hold's id
        hold: String,
        /// The requirement's number, or its id
        requirement: String,
        /// Why
        #[arg(long)]
        reason: String,
        /// Until when: a day (2027-01-31, midnight UTC) or an instant
        #[arg(long)]
        expires: String,
    },
}

/// Runs a command about requirements.
///
/// # Errors
/// As the service answers.
pub async fn run(context: &Context, command: RequirementCommand) -> Result<(), CliError> {
    use RequirementCommand as C;
    let at = |hold: &str| format!("/v1/holds/{}/requirements", escape(hold));
    let of = |hold: &str, id: &str, verb: &str| format!("{}/{}/{verb}", at(hold), escape(id));
    let client = &context.client;
    let answer: Value = match command {
        C::List { hold } => return list(context, &at(&hold)).await,
        C::Add(add) => client.post(&at(&add.hold), &add.body()?).await?,
        C::Show { hold, requirement } => {
            let all: Value = client.get(&at(&hold)).await?;
            let found = all.as_array().into_iter().flatten().find(|one| {
                text_of(one, "/id") == requirement || text_of(one, "/number") == requirement
            });
            let missing = || {
                let sentence = format!(
                    "hold {hold} has no requirement {requirement}: `tidegate requirement list {hold}`"
                );
                CliError::Failed(sentence)
            };
            found.cloned().ok_or_else(missing)?
        }
        C::Update(update) => {
            let path = format!("{}/{}", at(&update.hold), escape(&update.requirement));
            client.patch(&path, &update.body()?).await?
        }
        C::Evidence {
            hold,
            requirement,
            kind,
            text,
            sha256,
        } => {
            let body = json!({"kind": kind, "text": text, "sha256": sha256});
            client
                .post(&of(&hold, &requirement, "evidence"), &body)
                .await?
        }
        C::Verify {
            hold,
            requirement,
            reason,
        } => {
            let body = json!({"reason": reason});
            client
                .post(&of(&hold, &requirement, "verify"), &body)
                .await?
        }
        C::Waive {
            hold,
            requirement,
            reason,
            expires,
        } => {
            let expires = instant::parsed("expires", &expires)?;
            let body = json!({"reason": reason, "expires": expires});
            client
                .post(&of(&hold, &requirement, "waive"), &body)
                .await?
        }
    };
    context.show(&answer, shown);
    Ok(())
}

impl Add {
    fn body(&self) -> Result<Value, CliError> {
        let due = instant::given("due", self.due.as_ref())?;
        let vendor = json!({
            "contact": self.vendor_contact.clone().unwrap_or_default(),
            "reference": self.vendor_reference.clone().unwrap_or_default(),
        });
        Ok(json!({
            "title": self.title, "text": self.text, "category": self.category, "severity": self.severity,
            "owner": self.owner, "due": due, "vendor": vendor,
        }))
    }
}

impl Update {
    fn body(&self) -> Result<Value, CliError> {
        let milestones = match self.milestones.as_slice() {
            [] => Value::Null,
            given => given
                .iter()
                .map(|text| milestone(text))
                .collect::<Result<_, _>>()?,
        };
        Ok(json!({
            "status": self.status, "owner": self.owner, "checkin": self.checkin, "milestones": milestones,
            "due": instant::given("due", self.due.as_ref())?,
        }))
    }
}

fn milestone(text: &str) -> Result<Value, CliError> {
    match text.rsplit_once('=') {
        Some((what, due)) if !what.trim().is_empty() => {
            let due = instant::parsed("milestone", due)?;
            Ok(json!({"text": what.trim(), "due": due}))
        }
        _ => Err(CliError::Usage(format!(
            "`{text}` is no milestone: write WHAT=WHEN, such as \"logs reach us=2027-03-01\""
        ))),
    }
}

fn list_of<'a>(one: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let found = one.pointer(pointer).and_then(Value::as_array);
    found.into_iter().flatten()
}

/// A requirement as people read it: what it is, how far it has come, who said what.
fn shown(one: &Value) -> Vec<String> {
    let text = |pointer: &str| text_of(one, pointer);
    let has = |pointer: &str| {
        one.pointer(pointer)
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty())
    };
    let owner = list_of(one, "/owners").last().and_then(Value::as_str);
    let blocking = match (one.get("blocking"), text_of(one, "/status").as_str()) {
        (Some(Value::Bool(false)), _) => "the release does not wait for it",
        (_, "verified") => "the release waits for it no longer",
        (_, "waived") => "the release does not wait for it while the waiver lasts",
        _ => "the release waits for it",
    };
    let (number, title, status) = (text("/number"), text("/title"), text("/status"));
    let (category, severity) = (text("/category"), text("/severity"));
    let mut lines = vec![
        format!("requirement {number}: {title} · {status} · {blocking}"),
        format!("  {}", text("/text")),
        format!(
            "  {category} · {severity} · owner {} · opened by {}",
            owner.unwrap_or_default(),
            text("/opened_by")
        ),
    ];
    if has("/due") {
        lines.push(format!("  due {}", text("/due")));
    }
    if has("/vendor/contact") || has("/vendor/reference") {
        lines.push(format!(
            "  vendor: {} {}",
            text("/vendor/contact"),
            text("/vendor/reference")
        ));
    }
    lines.push(format!(
        "  next look at the vendor due by {}",
        text("/next_checkin_due")
    ));
    lines.extend(course(one));
    if has("/verified/by") {
        lines.push(format!(
            "  verified by {}: {}",
            text("/verified/by"),
            text("/verified/note")
        ));
    }
    if has("/waiver/expires") {
        let words: Vec<String> = list_of(one, "/waiver/words")
            .map(|word| text_of(word, "/by"))
            .collect();
        lines.push(format!(
            "  waived until {} by {}",
            text("/waiver/expires"),
            words.join(", ")
        ));
    }
    lines.push(format!("  {}", text("/id")));
    lines
}

/// What has become of it so far: milestones, looks at the vendor, evidence.
fn course(one: &Value) -> Vec<String> {
    let milestones = list_of(one, "/milestones").map(|step| {
        let done = match step.get("done") {
            Some(Value::String(at)) => format!(", done {at}"),
            _ => String::new(),
        };
        format!(
            "  milestone: {}, due {}{done}",
            text_of(step, "/text"),
            text_of(step, "/due")
        )
    });
    let looks = list_of(one, "/checkins").map(|look| {
        let (at, by, note) = (
            text_of(look, "/at"),
            text_of(look, "/by"),
            text_of(look, "/note"),
        );
        format!("  {at} {by}: {note}")
    });
    let evidence = list_of(one, "/evidence").map(|shows| {
        let sha: String = text_of(shows, "/sha256").chars().take(12).collect();
        let (by, kind, text) = (
            text_of(shows, "/by"),
            text_of(shows, "/kind"),
            text_of(shows, "/text"),
        );
        format!("  evidence by {by}: {kind} {text} (sha256 {sha}…)")
    });
    milestones.chain(looks).chain(evidence).collect()
}

async fn list(context: &Context, path: &str) -> Result<(), CliError> {
    let all: Value = context.client.get(path).await?;
    context.show(&all, |all| listed(all, context.width()));
    Ok(())
}

fn listed(all: &Value, width: usize) -> Vec<String> {
    let mut table = Table::new(&[">no", "status", "title", "owner", "id"]);
    for one in all.as_array().into_iter().flatten() {
        let owner = one
            .pointer("/owners")
            .and_then(Value::as_array)
            .and_then(|all| all.last());
        table.row([
            text_of(one, "/number"),
            text_of(one, "/status"),
            text_of(one, "/title"),
            owner.and_then(Value::as_str).unwrap_or_default().to_owned(),
            text_of(one, "/id"),
        ]);
    }
    table.lines(width)
}
