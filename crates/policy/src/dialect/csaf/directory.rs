//! Where a provider of advisories keeps them (CSAF 2.0, section 7): `provider-metadata.json`, a ROLIE
//! feed, or a directory with `index.txt` and `changes.csv`.
//!
//! What is read here decides what is fetched, so it is held to a short list of letters: a path cannot
//! leave its directory and a link begins with `https://`. Which hosts may be asked is the fetcher's to
//! check, on every link.

use serde_json::Value;

use super::super::field::{at, at_most, items, join, required, required_list};
use super::super::{Unreadable, json, text};
use crate::named::named;
use crate::time::Timestamp;

/// The most documents of one list. The largest provider known here lists about a quarter of a million.
pub const LISTED_MAX: usize = 300_000;
/// The most distributions and keys of one provider.
const PARTS_MAX: usize = 64;
/// The longest path or link, in bytes.
const LOCATION_MAX: usize = 2048;

named! {
    /// What a provider of advisories commits itself to.
    pub enum Role: "role of a provider" {
        /// It publishes, and no more.
        Publisher = "csaf_publisher",
        /// It can be found and listed.
        Provider = "csaf_provider",
        /// Beside that, it signs and hashes every document.
        TrustedProvider = "csaf_trusted_provider",
        /// A word that is not known here; nothing is expected of it.
        Unknown = "unknown",
    }
}

/// `provider-metadata.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Where this file really is.
    pub canonical_url: String,
    /// The name of the publisher.
    pub publisher: String,
    /// What it commits itself to.
    pub role: Role,
    /// When the file was changed.
    pub updated_at: Option<Timestamp>,
    /// Its ROLIE feeds.
    pub feeds: Vec<String>,
    /// Its directories.
    pub directories: Vec<String>,
    /// Its OpenPGP keys.
    pub keys: Vec<Key>,
}

/// An OpenPGP key of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The fingerprint, in lower case.
    pub fingerprint: Option<String>,
    /// Where the key is.
    pub url: String,
}

/// A document in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its link, or its path below the directory.
    pub location: String,
    /// When it was changed; `None`: not said, or not readable, so fetch it.
    pub updated_at: Option<Timestamp>,
    /// Links of files with its hashes.
    pub hashes: Vec<String>,
    /// The link of its OpenPGP signature.
    pub signature: Option<String>,
}

/// Reads `provider-metadata.json`.
///
/// # Errors
///
/// When it is no JSON, a required field is missing, or a link is none.
pub fn provider(body: &[u8]) -> Result<Provider, Unreadable> {
    let whole = json(body)?;
    let absent = Value::Null;
    let canonical_url = link(required(&whole, "canonical_url", "")?, "canonical_url")?;
    let publisher = whole.get("publisher").unwrap_or(&absent);
    let mut provider = Provider {
        canonical_url,
        publisher: super::clipped(required(publisher, "name", "publisher")?),
        role: Role::from_name(required(&whole, "role", "")?).unwrap_or(Role::Unknown),
        updated_at: at(&whole, "last_updated"),
        feeds: Vec::new(),
        directories: Vec::new(),
        keys: Vec::new(),
    };
    let distributions = items(&whole, "distributions");
    at_most(distributions.len(), PARTS_MAX)?;
    for (index, distribution) in distributions.iter().enumerate() {
        let path = format!("distributions[{index}]");
        if let Some(url) = text(distribution, "directory_url") {
            let name = join(&path, "directory_url");
            provider.directories.push(link(url, &name)?);
        }
        let feeds = distribution.get("rolie").map(|rolie| items(rolie, "feeds"));
        for feed in feeds.unwrap_or_default() {
            let path = join(&path, "rolie.feeds");
            let url = required(feed, "url", &path)?;
            provider.feeds.push(link(url, &join(&path, "url"))?);
            at_most(provider.feeds.len(), PARTS_MAX)?;
        }
    }
    let keys = items(&whole, "public_openpgp_keys");
    at_most(keys.len(), PARTS_MAX)?;
    for key in keys {
        let url = required(key, "url", "public_openpgp_keys")?;
        provider.keys.push(Key {
            fingerprint: super::super::field::folded_text(key, "fingerprint"),
            url: link(url, "public_openpgp_keys.url")?,
        });
    }
    Ok(provider)
}

/// Reads a ROLIE feed (RFC 8322, as JSON).
///
/// # Errors
///
/// When it is no JSON, an entry links to no document, a link is none, or there are too many entries.
pub fn feed(body: &[u8]) -> Result<Vec<Listed>, Unreadable> {
    let whole = json(body)?;
    let absent = Value::Null;
    let feed = whole.get("feed").unwrap_or(&absent);
    let entries = required_list(feed, "entry", "feed", LISTED_MAX)?;
    let read = |(index, entry)| feed_entry(entry, &format!("feed.entry[{index}]"));
    entries.iter().enumerate().map(read).collect()
}

fn feed_entry(entry: &Value, path: &str) -> Result<Listed, Unreadable> {
    let mut listed = Listed {
        location: String::new(),
        updated_at: at(entry, "updated"),
        hashes: Vec::new(),
        signature: None,
    };
    let links = required_list(entry, "link", path, PARTS_MAX)?;
    for one in links {
        let name = join(path, "link.href");
        let href = link(required(one, "href", &join(path, "link"))?, &name)?;
        match text(one, "rel") {
            Some("self") => listed.location = href,
            Some("hash") => listed.hashes.push(href),
            Some("signature") => listed.signature = Some(href),
            Some(_) | None => {}
        }
    }
    let source = entry
        .get("content")
        .and_then(|content| text(content, "src"));
    if let Some(source) = source {
        listed.location = link(source, &join(path, "content.src"))?;
    }
    if listed.location.is_empty() {
        return Err(Unreadable::field(&join(path, "content.src"), "a link"));
    }
    Ok(listed)
}

/// Reads `index.txt`: one path in each line.
///
/// # Errors
///
/// When it is no text, a path could leave the directory, or there are too many.
pub fn index(body: &[u8]) -> Result<Vec<Listed>, Unreadable> {
    let mut listed = Vec::new();
    for (index, line) in utf8(body)?.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        listed.push(of_path(line, None, index)?);
        at_most(listed.len(), LISTED_MAX)?;
    }
    Ok(listed)
}

/// Reads `changes.csv` (RFC 4180 without a header): a path and an instant in each row.
///
/// # Errors
///
/// When it is no text, a row has no two columns, a quote stays open, a path could leave the directory, or
/// there are too many rows.
pub fn changes(body: &[u8]) -> Result<Vec<Listed>, Unreadable> {
    let mut listed = Vec::new();
    // Neither a path nor an instant has a line break in it, so a row is a line.
    for (index, line) in utf8(body)?.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let row = column(line).and_then(|(path, rest)| {
            let (instant, rest) = column(rest?)?;
            rest.is_none().then_some((path, instant))
        });
        let Some((path, instant)) = row else {
            let sentence = format!(
                "line {} must have two columns, a path and an instant",
                index + 1
            );
            return Err(Unreadable::new("row_invalid", sentence));
        };
        listed.push(of_path(path.trim(), Some(instant.trim()), index)?);
        at_most(listed.len(), LISTED_MAX)?;
    }
    Ok(listed)
}

/// Takes one column off a row: what it holds, and what follows the comma behind it.
fn column(row: &str) -> Option<(String, Option<&str>)> {
    let Some(mut rest) = row.trim_start().strip_prefix('"') else {
        let (held, rest) = row
            .split_once(',')
            .map_or((row, None), |(held, rest)| (held, Some(rest)));
        return (!held.contains('"')).then(|| (held.to_owned(), rest));
    };
    let mut held = String::new();
    loop {
        let (before, behind) = rest.split_once('"')?;
        held.push_str(before);
        rest = behind;
        // Two quotes are one that is meant.
        match rest.strip_prefix('"') {
            Some(behind) => {
                held.push('"');
                rest = behind;
            }
            None => break,
        }
    }
    match rest.trim() {
        "" => Some((held, None)),
        _ => rest
            .trim_start()
            .strip_prefix(',')
            .map(|rest| (held, Some(rest))),
    }
}

fn utf8(body: &[u8]) -> Result<&str, Unreadable> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Unreadable::new("not_text", format!("this is not UTF-8: {error}")))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn of_path(path: &str, instant: Option<&str>, index: usize) -> Result<Listed, Unreadable> {
    // No `%`, no `\`, no `:`: nothing that a URL or a file system reads as something else.
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte);
    let is_step =
        |step: &str| !step.is_empty() && step.bytes().all(is_letter) && !step.starts_with('.');
    if path.len() > LOCATION_MAX || !path.split('/').all(is_step) {
        let sentence = format!(
            "line {} must begin with a path below the directory",
            index + 1
        );
        return Err(Unreadable::new("path_invalid", sentence));
    }
    let updated = instant.map(|instant| serde_json::json!({ "at": instant }));
    Ok(Listed {
        location: path.to_owned(),
        updated_at: updated.and_then(|updated| at(&updated, "at")),
        hashes: Vec::new(),
        signature: None,
    })
}

fn link(url: &str, name: &str) -> Result<String, Unreadable> {
    let url = url.trim();
    let is_plain = |c: char| c.is_ascii_graphic() && !"\\\"<>`{}|^".contains(c);
    let host = url.strip_prefix("https://").unwrap_or_default();
    // A name before an `@` would look like the host and be none.
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let is_host = !host.is_empty() && !host.contains('@');
    if is_host && url.len() <= LOCATION_MAX && url.chars().all(is_plain) {
        return Ok(url.to_owned());
    }
    Err(Unreadable::field(
        name,
        "a link that begins with `https://`",
    ))
}
