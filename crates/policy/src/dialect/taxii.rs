//! Threat intelligence: TAXII 2.1 resources (OASIS, June 2021), and the STIX 2.1 objects in their envelopes.
//!
//! A collection is shared: TLS and a password say who keeps it, and `created_by_ref` is only a claim, kept
//! as a label. STIX knows neither a vendor nor a severity, so whoever runs a collection for us writes them as
//! labels (`vendor:…`, `product:…`, `severity:…`, `kind:…`), or as `x_vendor`; else it is the vendor of the
//! source. An empty page is `{}`, and a cursor moves only behind the last page: that is the poller's work.
//!
//! `modified` is the revision; what was revoked is withdrawn, which releases nothing.

mod stix;

use serde_json::Value;

use self::stix::Read;
use super::field::{items, required, required_list};
use super::{Origin, Page, Unreadable, clipped, json, text};
use crate::digest::Digest;

/// The most objects of one envelope. A page is asked for with `limit`; a server may send fewer.
pub const OBJECTS_MAX: usize = 10_000;
/// The most API roots or collections of one server.
const RESOURCES_MAX: usize = 1000;

/// What a server says of itself at `/taxii2/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Its title.
    pub title: String,
    /// The API root to take when none is named.
    pub default: Option<String>,
    /// Its API roots: links, or paths on the same host.
    pub api_roots: Vec<String>,
}

/// An API root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiRoot {
    /// Its title.
    pub title: String,
    /// The media types it speaks.
    pub versions: Vec<String>,
    /// Whether TAXII 2.1 is one of them.
    pub speaks_2_1: bool,
}

/// A collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Another name for it in paths.
    pub alias: Option<String>,
    /// Whether we may read it.
    pub can_read: bool,
}

/// Reads the discovery of a server.
///
/// # Errors
///
/// When it is no JSON, has no title, or names too many API roots.
pub fn discovery(body: &[u8]) -> Result<Discovery, Unreadable> {
    let whole = json(body)?;
    let title = clipped(required(&whole, "title", "")?);
    let api_roots = match whole.get("api_roots") {
        None => Vec::new(),
        Some(_) => texts(required_list(&whole, "api_roots", "", RESOURCES_MAX)?),
    };
    Ok(Discovery {
        title,
        default: text(&whole, "default").map(clipped),
        api_roots,
    })
}

/// Reads an API root.
///
/// # Errors
///
/// When it is no JSON, or has no title or versions.
pub fn api_root(body: &[u8]) -> Result<ApiRoot, Unreadable> {
    let whole = json(body)?;
    let title = clipped(required(&whole, "title", "")?);
    let versions = texts(required_list(&whole, "versions", "", RESOURCES_MAX)?);
    let is_2_1 = |media: &String| media.replace(' ', "").ends_with("version=2.1");
    Ok(ApiRoot {
        title,
        speaks_2_1: versions.iter().any(is_2_1),
        versions,
    })
}

/// Reads the collections of an API root. None is `{}`.
///
/// # Errors
///
/// When it is no JSON, a collection has no id, title or `can_read`, or there are too many.
pub fn collections(body: &[u8]) -> Result<Vec<Collection>, Unreadable> {
    let whole = object(json(body)?)?;
    if whole.get("collections").is_none() {
        return Ok(Vec::new());
    }
    let list = required_list(&whole, "collections", "", RESOURCES_MAX)?;
    let collection = |(index, one): (usize, &Value)| {
        let path = format!("collections[{index}]");
        let can_read = one.get("can_read").and_then(Value::as_bool);
        let can_read = can_read
            .ok_or_else(|| Unreadable::field(&format!("{path}.can_read"), "true or false"))?;
        Ok(Collection {
            id: clipped(required(one, "id", &path)?),
            title: clipped(required(one, "title", &path)?),
            alias: text(one, "alias").map(clipped),
            can_read,
        })
    };
    list.iter().enumerate().map(collection).collect()
}

/// Reads one envelope of objects. An empty one is `{}`.
///
/// # Errors
///
/// When it is no JSON object, `more` or `objects` is of another type, or there are too many objects. An
/// object that cannot be read is listed in the page instead, and hides none of the others.
pub fn envelope(body: &[u8], origin: &Origin) -> Result<Page, Unreadable> {
    let whole = object(json(body)?)?;
    let mut page = Page {
        more: match whole.get("more") {
            None => false,
            Some(more) => more
                .as_bool()
                .ok_or_else(|| Unreadable::field("more", "true or false"))?,
        },
        next: next_of(&whole)?,
        ..Page::default()
    };
    let objects = match whole.get("objects") {
        None => items(&Value::Null, "objects"),
        Some(_) => required_list(&whole, "objects", "", OBJECTS_MAX)?,
    };
    let raw = Digest::of(body);
    for (index, one) in objects.iter().enumerate() {
        match stix::read(one, &format!("objects[{index}]"), origin, raw) {
            Ok(Read::Signal(signal)) => page.signals.push(*signal),
            Ok(Read::Nothing) => page.ignored += 1,
            Err(refused) => page.refused.push(refused),
        }
    }
    Ok(page)
}

/// `next` is whatever the server likes, and is handed back as it was: it is never cut.
fn next_of(whole: &Value) -> Result<Option<String>, Unreadable> {
    const NEXT_MAX: usize = 4096;
    match whole.get("next") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(next)) if next.len() <= NEXT_MAX => Ok(Some(next.clone())),
        Some(_) => {
            let wanted = format!("a text of at most {NEXT_MAX} bytes");
            Err(Unreadable::field("next", &wanted))
        }
    }
}

fn object(whole: Value) -> Result<Value, Unreadable> {
    if whole.is_object() {
        return Ok(whole);
    }
    Err(Unreadable::new("field_invalid", "this must be an object"))
}

fn texts(list: &[Value]) -> Vec<String> {
    list.iter().filter_map(Value::as_str).map(clipped).collect()
}

#[cfg(test)]
mod tests;
