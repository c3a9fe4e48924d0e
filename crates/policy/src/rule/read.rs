//! How rules are written: read out of a document, with the place of everything that is wrong.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::check;
use super::{
    Counted, Effect, Reaches, ReleaseTerms, RequirementTerms, Rule, SignalTest, TextField, Then,
    When, Window,
};
use crate::document::reader::{Errors, Fields, list, text};
use crate::document::{Node, Place};
use crate::signal::{Reach, Severity, Trust, folded};

/// What can be asked of a signal, as it is written.
const SIGNAL_FIELDS: &str = "kind, severity, confidence, lifecycle, dialect, source, vendor, tenant, user, reach, products, labels, age";

/// Where the parts of a rule stand, so that what is found later can be pointed at.
pub(super) type Places = BTreeMap<String, Place>;

/// Reads one rule.
pub fn rule(node: Node, path: &str, errors: &mut Errors) -> Option<Rule> {
    let place = node.place;
    let mut places = Places::new();
    let mut fields = Fields::open(node, path, errors)?;
    let id = name(&mut fields, "id", errors);
    let says = fields.text("says", errors);
    let when_path = fields.at("when");
    let when = fields
        .must("when", errors)
        .and_then(|node| when(node, &when_path, errors, &mut places));
    let trust = must_parse::<Trust>(&mut fields, "trust_at_least", errors);
    let then_path = fields.at("then");
    let then = fields
        .must("then", errors)
        .and_then(|node| then(node, &then_path, errors, &mut places));
    let shadow = fields.parsed("shadow", errors).unwrap_or(false);
    fields.end(errors);
    let rule = Rule {
        id: id?,
        says: says?,
        when: when?,
        trust_at_least: trust?,
        then: then?,
        shadow,
    };
    for problem in check::problems(&rule) {
        let at = if problem.path.is_empty() {
            path.to_owned()
        } else {
            format!("{path}.{}", problem.path)
        };
        let place = places.get(&at).copied().unwrap_or(place);
        errors.add(place, &at, problem.code, problem.sentence);
    }
    Some(rule)
}

/// Reads a name that can stand in an address and in a table.
pub(crate) fn name(
    fields: &mut Fields,
    field: &'static str,
    errors: &mut Errors,
) -> Option<String> {
    let place = fields.place_of(field);
    let found = fields.text(field, errors)?;
    let is_plain =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if found.len() > 100 || !found.chars().all(is_plain) {
        let message = format!("`{found}` is no name: up to 100 letters, digits, `-`, `_` and `.`");
        errors.add(place, &fields.at(field), "value", message);
        return None;
    }
    Some(found)
}

fn must_parse<T>(fields: &mut Fields, field: &'static str, errors: &mut Errors) -> Option<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let place = fields.place_of(field);
    let before = fields.has(field);
    let found = fields.parsed(field, errors);
    if !before {
        let message = format!("`{field}` is missing");
        errors.add(place, &fields.at(field), "missing", message);
    }
    found
}

fn when(node: Node, path: &str, errors: &mut Errors, places: &mut Places) -> Option<When> {
    let place = node.place;
    places.insert(path.to_owned(), place);
    let mut fields = Fields::open(node, path, errors)?;
    let mut found = Vec::new();
    for word in ["all", "any", "not", "signal", "window", "source"] {
        if let Some(node) = fields.take(word) {
            found.push((word, node));
        }
    }
    if found.len() != 1 {
        let message = "a condition is one of `all`, `any`, `not`, or a test, such as {signal: kind, equals: vendor_breach}, {window: 1h, distinct: source, at_least: 3} or {source: state, equals: blind}";
        errors.add(place, path, "condition", message);
        return None;
    }
    let (word, node) = found.pop()?;
    let at = fields.at(word);
    let read = match word {
        "all" | "any" => {
            let mut parts = Vec::new();
            for (number, part) in list(node, &at, errors)?.into_iter().enumerate() {
                parts.push(when(part, &format!("{at}[{number}]"), errors, places));
            }
            // Without a part that cannot be read it would be another condition, and what is said of that another mistake.
            let parts: Option<Vec<When>> = parts.into_iter().collect();
            parts.map(match word {
                "all" => When::All,
                _ => When::Any,
            })
        }
        "not" => when(node, &at, errors, places).map(|part| When::Not(Box::new(part))),
        "signal" => {
            let field = text(&node, &at, errors)?;
            signal_test(&field, node.place, &mut fields, errors).map(When::Signal)
        }
        "window" => window(&node, &at, &mut fields, errors).map(When::Window),
        _ => source_test(&node, &at, &mut fields, errors),
    };
    // What belongs to a test that cannot be read is not known to be wrong.
    if read.is_some() {
        fields.end(errors);
    }
    read
}

fn source_test(node: &Node, at: &str, fields: &mut Fields, errors: &mut Errors) -> Option<When> {
    let asked = text(node, at, errors)?;
    let state = fields.text("equals", errors)?;
    if (asked.as_str(), state.as_str()) == ("state", "blind") {
        return Some(When::SourceBlind);
    }
    let message = "of a source only its silence can be asked: {source: state, equals: blind}";
    errors.add(node.place, at, "value", message);
    None
}

fn window(node: &Node, at: &str, fields: &mut Fields, errors: &mut Errors) -> Option<Window> {
    let written = text(node, at, errors)?;
    let within = crate::document::reader::seconds_of(&written);
    if within.is_none() {
        let message = format!("`{written}` is no length of time: write 90s, 30m, 6h, 3d or 1h30m");
        errors.add(node.place, at, "value", message);
    }
    let counted = match fields.has("distinct") {
        true => Counted::Distinct(fields.parsed::<TextField>("distinct", errors)?),
        false => Counted::Signals,
    };
    let at_least = match fields.number("at_least", errors) {
        Some(at_least) => at_least,
        None => {
            let message = "a window needs `at_least`: how many";
            errors.add(node.place, at, "missing", message);
            return None;
        }
    };
    Some(Window {
        within: within?,
        counted,
        at_least,
    })
}

fn signal_test(
    field: &str,
    place: Place,
    fields: &mut Fields,
    errors: &mut Errors,
) -> Option<SignalTest> {
    Some(match field {
        "kind" => SignalTest::Kind(words(fields, errors)?),
        "lifecycle" => SignalTest::Lifecycle(words(fields, errors)?),
        "dialect" => SignalTest::Dialect(words(fields, errors)?),
        "severity" => SignalTest::Severity {
            at_least: must_parse::<Severity>(fields, "at_least", errors)?,
            unknown_is: must_parse::<Severity>(fields, "unknown_is", errors)?,
        },
        "confidence" => SignalTest::Confidence {
            at_least: must_parse::<u8>(fields, "at_least", errors)?,
            unknown_is: must_parse::<u8>(fields, "unknown_is", errors)?,
        },
        "age" => {
            let at_most = fields.seconds("at_most", errors);
            if at_most.is_none() {
                errors.add(
                    place,
                    &fields.at("at_most"),
                    "missing",
                    "`at_most` is missing",
                );
            }
            SignalTest::Age {
                at_most: at_most?,
                unknown_is: must_parse::<bool>(fields, "unknown_is", errors)?,
            }
        }
        "reach" => SignalTest::Reach(must_parse::<Reach>(fields, "equals", errors)?),
        "labels" => SignalTest::Labels(overlaps(fields, errors)?),
        "products" if fields.has("is") => {
            of_target(fields, "products", errors)?;
            SignalTest::ProductsOfTarget
        }
        "products" => SignalTest::Products(overlaps(fields, errors)?),
        "vendor" | "tenant" if fields.has("is") => {
            of_target(fields, field, errors)?;
            match field {
                "vendor" => SignalTest::VendorOfTarget,
                _ => SignalTest::TenantOfTarget,
            }
        }
        "source" | "vendor" | "tenant" | "user" => SignalTest::Text {
            field: TextField::from_name(field)?,
            any_of: words::<String>(fields, errors)?,
        },
        _ => {
            let message = format!("`{field}` is no field of a signal; there are: {SIGNAL_FIELDS}");
            errors.add(place, &fields.at("signal"), "value", message);
            return None;
        }
    })
}

/// Reads `is: target.vendor`.
fn of_target(fields: &mut Fields, field: &str, errors: &mut Errors) -> Option<()> {
    let place = fields.place_of("is");
    let written = fields.text("is", errors)?;
    if written == format!("target.{field}") {
        return Some(());
    }
    let message = format!("`is` compares with the target: write `is: target.{field}`");
    errors.add(place, &fields.at("is"), "value", message);
    None
}

/// Reads `equals: one` or `in: [one, another]`.
fn words<T>(fields: &mut Fields, errors: &mut Errors) -> Option<Vec<T>>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let word = match (fields.has("equals"), fields.has("in")) {
        (true, false) => "equals",
        (false, true) => "in",
        _ => {
            let message = "this needs either `equals: one` or `in: [one, another]`";
            errors.add(fields.place, &fields.path, "condition", message);
            return None;
        }
    };
    each(fields, word, errors)
}

/// Reads `overlaps: [one, another]`.
fn overlaps(fields: &mut Fields, errors: &mut Errors) -> Option<Vec<String>> {
    if !fields.has("overlaps") {
        let message = "this needs `overlaps: [one, another]`";
        errors.add(fields.place, &fields.path, "condition", message);
        return None;
    }
    let found = each::<String>(fields, "overlaps", errors)?;
    Some(found.iter().map(|one| folded(one)).collect())
}

fn each<T>(fields: &mut Fields, word: &'static str, errors: &mut Errors) -> Option<Vec<T>>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let at = fields.at(word);
    let node = fields.take(word)?;
    let nodes = match (word, node) {
        ("equals", node) => vec![node],
        (_, node) => list(node, &at, errors)?,
    };
    let mut found = Vec::new();
    for node in nodes {
        let written = text(&node, &at, errors)?;
        match written.parse() {
            Ok(value) => found.push(value),
            Err(error) => {
                errors.add(node.place, &at, "value", T::Err::to_string(&error));
                return None;
            }
        }
    }
    Some(found)
}

fn then(node: Node, path: &str, errors: &mut Errors, places: &mut Places) -> Option<Then> {
    places.insert(path.to_owned(), node.place);
    let mut fields = Fields::open(node, path, errors)?;
    for field in [
        "kind",
        "lift_after_clear_for",
        "release",
        "moved",
        "review_every",
    ] {
        places.insert(fields.at(field), fields.place_of(field));
    }
    let effect = effect(&mut fields, errors);
    let reaches = must_parse::<Reaches>(&mut fields, "scope", errors);
    let moved = fields.maybe_text("moved", errors);
    let review_every = fields.seconds("review_every", errors);
    let release_path = fields.at("release");
    let release = fields
        .take("release")
        .and_then(|node| release(node, &release_path, errors));
    let lift_after_clear_for = fields.seconds("lift_after_clear_for", errors);
    fields.end(errors);
    Some(Then {
        effect: effect?,
        reaches: reaches?,
        moved,
        review_every,
        release,
        lift_after_clear_for,
    })
}

/// Reads `verdict: halt`, `verdict: review`, or `verdict: hold` with a `kind`.
fn effect(fields: &mut Fields, errors: &mut Errors) -> Option<Effect> {
    let place = fields.place_of("verdict");
    let verdict = fields.text("verdict", errors)?;
    let kind_place = fields.place_of("kind");
    let kind = fields.maybe_text("kind", errors);
    match (verdict.as_str(), kind.as_deref()) {
        ("halt", None | Some("halt")) => Some(Effect::Halt),
        ("review", None) => Some(Effect::Review),
        ("hold", Some("pause")) => Some(Effect::Pause),
        ("hold", Some("gate")) => Some(Effect::Gate),
        ("hold", _) => {
            let message = "a verdict of hold says which: `kind: pause` or `kind: gate`";
            errors.add(kind_place, &fields.at("kind"), "value", message);
            None
        }
        ("halt" | "review", Some(_)) => {
            let message = format!("a verdict of {verdict} has no `kind`");
            errors.add(kind_place, &fields.at("kind"), "value", message);
            None
        }
        _ => {
            let message = format!("`{verdict}` is no verdict; there are: review, hold, halt");
            errors.add(place, &fields.at("verdict"), "value", message);
            None
        }
    }
}

fn release(node: Node, path: &str, errors: &mut Errors) -> Option<ReleaseTerms> {
    let mut fields = Fields::open(node, path, errors)?;
    let mut terms = ReleaseTerms::default();
    let at = fields.at("approvals");
    if let Some(node) = fields.take("approvals") {
        let mut approvals = Fields::open(node, &at, errors)?;
        terms.approvals = approvals.number("count", errors);
        terms.groups = approvals.texts("groups", errors).unwrap_or_default();
        terms.valid_for = approvals.seconds("valid_for", errors);
        terms.execute_within = approvals.seconds("execute_within", errors);
        approvals.end(errors);
    }
    let at = fields.at("requirements");
    for (number, node) in fields
        .list("requirements", errors)
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        let mut one = Fields::open(node, &format!("{at}[{number}]"), errors)?;
        let (title, category) = (one.text("title", errors), one.text("category", errors));
        one.end(errors);
        if let (Some(title), Some(category)) = (title, category) {
            // People write it with hyphens as easily.
            let category = category.replace('-', "_");
            terms
                .requirements
                .push(RequirementTerms { title, category });
        }
    }
    fields.end(errors);
    Some(terms)
}
