//! Every reader of other people's bytes behind one door: what fuzzing and the kept corpus go through.
//!
//! Nothing here is for the service, which knows what it reads. `Taken` says how much came out of it, so that
//! whoever gives it hostile bytes can see that the result stays small beside them.

use std::collections::BTreeSet;

use super::{Origin, cloudevents, csaf, graph, kev, ocsf, report, security_event, taxii, webhook};
use crate::digest::Digest;
use crate::document::Format;
use crate::named::named;
use crate::set::PolicySet;
use crate::set::replay::line;
use crate::signal::{Signal, Trust};
use crate::time::Timestamp;

named! {
    /// A reader of bytes that somebody else wrote.
    pub enum Parser: "parser" {
        /// A report as it is sent by hand.
        Report = "report",
        /// The body of a Standard Webhook.
        StandardWebhook = "standard_webhook",
        /// A GitHub webhook: the event on the first line, then the body.
        Github = "github",
        /// The body of a webhook in the way of Stripe.
        Stripe = "stripe",
        /// A CloudEvent in structured mode, and a batch of them.
        CloudEvent = "cloudevent",
        /// A CloudEvent in binary mode: header lines, an empty line, the body.
        CloudEventBinary = "cloudevent_binary",
        /// The claims of a security event token.
        SecurityEvent = "security_event",
        /// The catalogue of known exploited vulnerabilities.
        Kev = "kev",
        /// A CSAF advisory, and what lists advisories.
        Csaf = "csaf",
        /// What a TAXII server answers.
        Taxii = "taxii",
        /// A page of Microsoft Graph alerts, or of service health.
        Graph = "graph",
        /// An OCSF finding.
        Ocsf = "ocsf",
        /// A policy set, in each of its formats.
        Policy = "policy",
        /// A file of signals for a replay.
        History = "history",
    }
}

/// What came out of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// How many signals, or other things.
    pub things: usize,
    /// How many bytes they take, written down.
    pub bytes: usize,
}

impl Taken {
    fn signals(&mut self, signals: &[Signal]) {
        self.things += signals.len();
        let written = signals.iter().map(serde_json::to_string);
        self.bytes += written.flatten().map(|text| text.len()).sum::<usize>();
    }

    fn page(&mut self, page: &super::Page) {
        self.signals(&page.signals);
        self.things += page.refused.len();
        let sentences = page.refused.iter().map(|refused| refused.sentence.len());
        self.bytes += sentences.sum::<usize>();
    }

    /// Says whether that is in keeping with how much was read: a signal has a few hundred bytes of its own,
    /// and can be written in ten.
    #[must_use]
    pub const fn is_in_keeping_with(&self, read: usize) -> bool {
        self.bytes <= 4096 + read.saturating_mul(128)
    }
}

impl Parser {
    /// Reads bytes. Whatever they are, it ends, and panics at nothing.
    #[must_use]
    pub fn take(self, body: &[u8]) -> Taken {
        let mut taken = Taken::default();
        let origin = &origin();
        match self {
            Self::Report => one(&mut taken, report::manual(body, "id", origin).ok()),
            Self::StandardWebhook => one(&mut taken, webhook::standard(body, "id", origin).ok()),
            Self::Stripe => one(&mut taken, webhook::stripe(body, origin).ok()),
            Self::Github => {
                let (event, body) = divided(body, b"\n");
                let event = String::from_utf8_lossy(event);
                one(&mut taken, webhook::github(body, &event, origin).ok());
            }
            Self::CloudEvent => {
                let events = cloudevents::structured(body).into_iter();
                let batch = cloudevents::batch(body).unwrap_or_default();
                events.chain(batch).for_each(|event| {
                    one(&mut taken, event.report(origin).ok());
                });
            }
            Self::CloudEventBinary => binary(&mut taken, body, origin),
            Self::SecurityEvent => claims(&mut taken, body, origin),
            Self::Kev => taken
                .signals(&kev::read(body, origin).map_or_else(|_| Vec::new(), |read| read.signals)),
            Self::Csaf => {
                taken.signals(&csaf::read(body, origin).unwrap_or_default());
                let listed = [
                    csaf::directory::feed(body),
                    csaf::directory::index(body),
                    csaf::directory::changes(body),
                ];
                taken.things += listed
                    .into_iter()
                    .flatten()
                    .map(|list| list.len())
                    .sum::<usize>();
                taken.things += usize::from(csaf::directory::provider(body).is_ok());
            }
            Self::Taxii => {
                if let Ok(page) = taxii::envelope(body, origin) {
                    taken.page(&page);
                }
                taken.things += usize::from(taxii::discovery(body).is_ok());
                taken.things += usize::from(taxii::api_root(body).is_ok());
                taken.things += taxii::collections(body).map_or(0, |list| list.len());
            }
            Self::Graph => {
                let pages = [graph::alerts(body, origin), graph::issues(body, origin)];
                pages.iter().flatten().for_each(|page| taken.page(page));
            }
            Self::Ocsf => taken.signals(&ocsf::read(body, origin).unwrap_or_default()),
            Self::Policy => policy(&mut taken, body),
            Self::History => {
                let read = line::history(&String::from_utf8_lossy(body)).unwrap_or_default();
                let signals: Vec<Signal> = read.into_iter().map(|one| one.signal).collect();
                taken.signals(&signals);
            }
        }
        taken
    }
}

fn origin() -> Origin {
    Origin {
        source: "fuzz".to_owned(),
        trust: Trust::Signed,
        vendor: Some("acme".to_owned()),
        products: BTreeSet::new(),
        received_at: Timestamp::UNIX_EPOCH,
    }
}

fn one(taken: &mut Taken, signal: Option<Signal>) {
    taken.signals(signal.as_slice());
}

/// Divides bytes at a mark; all of them are behind it when it is not there.
fn divided<'a>(body: &'a [u8], mark: &[u8]) -> (&'a [u8], &'a [u8]) {
    let place = body.windows(mark.len()).position(|found| found == mark);
    let parts = place.and_then(|place| body.split_at_checked(place));
    parts.map_or((&[], body), |(before, rest)| {
        (before, rest.get(mark.len()..).unwrap_or_default())
    })
}

fn binary(taken: &mut Taken, body: &[u8], origin: &Origin) {
    let (head, body) = divided(body, b"\n\n");
    let headers: Vec<(String, &[u8])> = head
        .split(|byte| *byte == b'\n')
        .map(|line| {
            let (name, value) = divided(line, b":");
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect();
    let headers = headers.iter().map(|(name, value)| (name.as_str(), *value));
    if let Ok(event) = cloudevents::binary(headers, body) {
        one(taken, event.report(origin).ok());
    }
}

fn claims(taken: &mut Taken, body: &[u8], origin: &Origin) {
    let Ok(claims) = super::json(body) else {
        return;
    };
    let (audiences, critical) = (["us".to_owned()], BTreeSet::from(["tenant".to_owned()]));
    let expected = security_event::Expected {
        issuer: "https://issuer.example",
        audiences: &audiences,
        critical_members: &critical,
        now: Timestamp::UNIX_EPOCH,
    };
    match security_event::read(&claims, Digest::of(body), &expected, origin) {
        Ok(security_event::Received::Signal(signal)) => one(taken, Some(*signal)),
        Ok(security_event::Received::Stream { .. }) => taken.things += 1,
        Err(_) => {}
    }
}

fn policy(taken: &mut Taken, body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    for format in [Format::Yaml, Format::Json, Format::Toml] {
        match PolicySet::parse(&text, format) {
            Ok(set) => {
                // Its tests are whatever was written as well: they run, and end.
                taken.things += set.rules.len() + set.failures().len();
            }
            Err(errors) => {
                taken.things += errors.0.len();
            }
        }
    }
}

#[cfg(test)]
mod tests;
