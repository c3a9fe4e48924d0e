//! Whom a security event is about: identifiers of RFC 9493 and complex subjects of Shared Signals.
//!
//! A part that is absent stands for everybody, so nothing that narrows an event may be lost: what is there and
//! cannot be read is refused. What narrows it in a way that is not known here (a session, an application, a
//! member of the future) becomes a label, and the event is about the wider circle; unless the transmitter
//! declared that member critical, when the event must be discarded.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{SetError, SetRefusal};
use crate::dialect::report::{check_id, line, word};
use crate::dialect::text;
use crate::signal::{Subject, folded};

/// What a simple subject identifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Principal {
    /// A user.
    User,
    /// A device.
    Device,
    /// A session of a user who is not named.
    Session,
    /// A tenant.
    Tenant,
    /// An organisational unit.
    OrgUnit,
    /// A group.
    Group,
}

/// Whom an event is about, and what of that has no place in a subject.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct About {
    pub(super) subject: Subject,
    pub(super) labels: BTreeSet<String>,
}

/// Identifiers of one thing are tried in this order: an address is what most people are known by here.
const PREFERRED: [&str; 7] = [
    "email",
    "account",
    "iss_sub",
    "opaque",
    "uri",
    "did",
    "phone_number",
];
/// The member that says how a subject is written.
const FORMAT: &str = "format";
/// What that member was called before RFC 9493; transmitters of RISC still write it.
const FORMAT_BEFORE: &str = "subject_type";

/// Reads a subject; `principal` is what it identifies when it is a simple one.
pub(super) fn read(
    said: &Value,
    principal: Principal,
    critical: &BTreeSet<String>,
) -> Result<About, SetRefusal> {
    match format_of(said) {
        Some("complex") => complex(said, critical),
        Some(_) => {
            let mut about = About::default();
            set(&mut about.subject, principal, simple("sub_id", said)?);
            Ok(about)
        }
        None if is_complex(said) => complex(said, critical),
        None => Err(unreadable("sub_id", "has no format")),
    }
}

fn format_of(said: &Value) -> Option<&str> {
    match text(said, FORMAT).or_else(|| text(said, FORMAT_BEFORE))? {
        "iss-sub" => Some("iss_sub"),
        "phone" => Some("phone_number"),
        format => Some(format),
    }
}

/// Drafts of Shared Signals wrote complex subjects without a format.
fn is_complex(said: &Value) -> bool {
    let mut members = said
        .as_object()
        .into_iter()
        .flat_map(|members| members.values());
    members.any(|member| format_of(member).is_some())
}

fn complex(said: &Value, critical: &BTreeSet<String>) -> Result<About, SetRefusal> {
    let mut about = About::default();
    let (mut session, mut is_somebody) = (None, false);
    let members = said.as_object().into_iter().flatten();
    for (name, member) in
        members.filter(|(name, _)| ![FORMAT, FORMAT_BEFORE].contains(&name.as_str()))
    {
        let principal = match name.as_str() {
            "user" => Principal::User,
            "device" => Principal::Device,
            "tenant" => Principal::Tenant,
            "org_unit" => Principal::OrgUnit,
            "group" => Principal::Group,
            other if critical.contains(other) => return Err(discarded(other)),
            "session" => {
                session = Some(simple(name, member)?);
                continue;
            }
            "application" => {
                let id = simple(name, member)?;
                about.labels.insert(folded(&format!("application:{id}")));
                is_somebody = true;
                continue;
            }
            other => {
                about
                    .labels
                    .insert(folded(&line(&format!("subject:{other}"))));
                continue;
            }
        };
        set(&mut about.subject, principal, simple(name, member)?);
        is_somebody = true;
    }
    match session {
        // A session of somebody who is not named is still not everybody.
        Some(session) if about.subject.user.is_none() => {
            set(&mut about.subject, Principal::Session, session);
        }
        Some(session) => {
            about
                .labels
                .insert(folded(&line(&format!("session:{session}"))));
        }
        None if !is_somebody => return Err(unreadable("sub_id", "names nobody that is known")),
        None => {}
    }
    Ok(about)
}

fn set(subject: &mut Subject, principal: Principal, id: String) {
    let part = match principal {
        Principal::User => &mut subject.user,
        Principal::Device => &mut subject.device,
        Principal::Session => {
            subject.user = Some(format!("session:{id}"));
            return;
        }
        Principal::Tenant => &mut subject.tenant,
        Principal::OrgUnit => &mut subject.org_unit,
        Principal::Group => &mut subject.group,
    };
    *part = Some(id);
}

/// Reads a simple subject into the one text that it is known by.
fn simple(name: &str, said: &Value) -> Result<String, SetRefusal> {
    let format = format_of(said).ok_or_else(|| unreadable(name, "has no format"))?;
    let of = |member: &str| {
        word(said.get(member))
            .filter(|id| check_id(id).is_ok())
            .ok_or_else(|| unreadable(name, &format!("has no `{member}`")))
    };
    match format {
        "email" => of("email"),
        "iss_sub" => of("sub"),
        "opaque" => of("id"),
        "phone_number" => of("phone_number"),
        "account" => of("uri").map(|uri| uri.strip_prefix("acct:").unwrap_or(&uri).to_owned()),
        "uri" => of("uri"),
        "did" => of("url"),
        "jwt_id" => of("jti"),
        "saml_assertion_id" => of("assertion_id"),
        "ip-addresses" => {
            let listed = said.get("ip-addresses").or(said.get("ip_addresses"));
            let first = listed.and_then(Value::as_array).and_then(|all| all.first());
            word(first).ok_or_else(|| unreadable(name, "has no address"))
        }
        "aliases" => alias(name, said),
        other => Err(unreadable(
            name,
            &format!("has the format `{}`", line(other)),
        )),
    }
}

/// Takes the best known of several identifiers of the same thing.
fn alias(name: &str, said: &Value) -> Result<String, SetRefusal> {
    let listed = said.get("identifiers").and_then(Value::as_array);
    let of = |format: &str| {
        let mut all = listed.into_iter().flatten();
        all.find(|one| format_of(one) == Some(format))
    };
    let best = PREFERRED.into_iter().find_map(of);
    // No format of that list is `aliases`, so this goes no deeper.
    best.map_or_else(
        || Err(unreadable(name, "has no alias that is known")),
        |best| simple(name, best),
    )
}

fn unreadable(name: &str, what: &str) -> SetRefusal {
    let description = format!("the subject `{}` {what}", line(name));
    SetRefusal::new(SetError::InvalidRequest, "subject", description)
}

fn discarded(name: &str) -> SetRefusal {
    let description = format!(
        "the critical subject member `{}` cannot be processed",
        line(name)
    );
    SetRefusal::new(SetError::InvalidRequest, "discarded", description)
}
