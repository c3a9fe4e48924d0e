//! The fields of a spec, from the top down.

use std::collections::BTreeSet;

use super::{
    KeepTogether, LateJoiners, ORDER_ALGORITHM, Pin, RateLimit, Selection, Size, Spec, SpecErrors,
    SpecFormat, Waiver, WaveSpec,
};
use tidegate_policy::condition::written::condition;
use tidegate_policy::document::reader::{Errors, Fields};
use tidegate_policy::document::{Body, Node, Place, read};

use crate::wave::gate::{ApprovalTerms, Gate, Limit, Metric};
use crate::wave::ramp::Ramp;
use crate::wave::soak::Seconds;
use crate::wave::window::{Freeze, Schedule};

/// Reads a spec, or says everything that is wrong with it.
pub(super) fn parse(text: &str, format: SpecFormat) -> Result<Spec, SpecErrors> {
    let node = read(text, format)?;
    let mut errors = Errors::default();
    let spec = spec(node, &mut errors);
    errors.or(spec)
}

fn spec(node: Node, errors: &mut Errors) -> Option<Spec> {
    let mut fields = Fields::open(node, "", errors)?;
    let rollout = name(&mut fields, "rollout", errors);
    let population = fields.text("population", errors);
    let target = fields.text("target", errors);
    let identity = identity(&mut fields, errors);
    let salt = order(&mut fields, errors);
    let exclude = fields
        .take("exclude")
        .and_then(|node| condition(node, "exclude", errors));
    let pins = each_placed(&mut fields, "pins", errors, pin);
    let keep_together = fields
        .take("keep_together")
        .and_then(|node| keep_together(node, errors));
    let rate = fields
        .take("rate")
        .and_then(|node| rate(node, "rate", errors));
    let late_joiners = late_joiners(&mut fields, errors);
    let freezes = each(&mut fields, "freezes", errors, freeze);
    let place = fields.place;
    let waves = each_placed(&mut fields, "waves", errors, wave);
    fields.end(errors);
    check_waves(&waves, &pins, place, errors);
    let pins = pins.into_iter().map(|pin| pin.value).collect();
    let waves = waves.into_iter().map(|wave| wave.value).collect();
    let rollout = rollout?;
    Some(Spec {
        population: population?,
        target: target?,
        identity,
        salt: salt.unwrap_or_else(|| rollout.clone()),
        exclude,
        pins,
        keep_together,
        rate,
        late_joiners,
        freezes,
        waves,
        rollout,
    })
}

/// An item of a list, and where it was written.
struct Placed<T> {
    path: String,
    place: Place,
    value: T,
}

/// Reads every item of a list that may be missing.
fn each_placed<T>(
    fields: &mut Fields,
    name: &'static str,
    errors: &mut Errors,
    read: fn(Node, &str, &mut Errors) -> Option<T>,
) -> Vec<Placed<T>> {
    let list = fields.at(name);
    let nodes = fields.list(name, errors).unwrap_or_default();
    let items = nodes.into_iter().enumerate().filter_map(|(index, node)| {
        let (path, place) = (format!("{list}[{index}]"), node.place);
        let value = read(node, &path, errors)?;
        Some(Placed { path, place, value })
    });
    items.collect()
}

/// Reads every item of a list that may be missing, where nobody asks later where it was.
fn each<T>(
    fields: &mut Fields,
    name: &'static str,
    errors: &mut Errors,
    read: fn(Node, &str, &mut Errors) -> Option<T>,
) -> Vec<T> {
    let items = each_placed(fields, name, errors, read);
    items.into_iter().map(|item| item.value).collect()
}

/// Reads a name that can stand in an address and in a table.
fn name(fields: &mut Fields, field: &'static str, errors: &mut Errors) -> Option<String> {
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

fn identity(fields: &mut Fields, errors: &mut Errors) -> Option<String> {
    let mut identity = Fields::open(fields.take("identity")?, "identity", errors)?;
    let key = identity.text("key", errors);
    identity.end(errors);
    key
}

fn order(fields: &mut Fields, errors: &mut Errors) -> Option<String> {
    let mut order = Fields::open(fields.take("order")?, "order", errors)?;
    if let Some(algorithm) = order
        .parsed::<String>("algorithm", errors)
        .filter(|found| found != ORDER_ALGORITHM)
    {
        let message = format!("`{algorithm}` is not known: the order is {ORDER_ALGORITHM}");
        errors.add(order.place, "order.algorithm", "value", message);
    }
    let salt = order.parsed("salt", errors);
    order.end(errors);
    salt
}

fn late_joiners(fields: &mut Fields, errors: &mut Errors) -> LateJoiners {
    let place = fields.place_of("late_joiners");
    match fields.parsed::<String>("late_joiners", errors).as_deref() {
        None | Some("none") => LateJoiners::None,
        Some("last_open_wave") => LateJoiners::LastOpenWave,
        Some("matching_unfinished_wave") => LateJoiners::MatchingUnfinishedWave,
        Some(other) => {
            let message =
                format!("`{other}` is not known: none, last_open_wave or matching_unfinished_wave");
            errors.add(place, "late_joiners", "value", message);
            LateJoiners::None
        }
    }
}

fn pin(node: Node, path: &str, errors: &mut Errors) -> Option<Pin> {
    let mut fields = Fields::open(node, path, errors)?;
    let keys = fields.texts("keys", errors);
    let wave = fields.parsed("wave", errors);
    let out = fields.parsed::<bool>("out", errors).unwrap_or(false);
    let place = fields.place;
    fields.end(errors);
    if wave.is_some() == out {
        errors.add(
            place,
            path,
            "pin",
            "a pin has either `wave: NAME` or `out: true`",
        );
        return None;
    }
    let keys = keys.filter(|keys| !keys.is_empty());
    if keys.is_none() {
        errors.add(place, path, "missing", "a pin names people: keys: [id, …]");
    }
    Some(Pin { keys: keys?, wave })
}

fn keep_together(node: Node, errors: &mut Errors) -> Option<KeepTogether> {
    let mut fields = Fields::open(node, "keep_together", errors)?;
    let by = fields.texts("by", errors).unwrap_or_default();
    let ignore_hubs_above = fields.number("ignore_hubs_above", errors);
    let waivers = each(&mut fields, "waivers", errors, waiver);
    if by.is_empty() {
        errors.add(
            fields.place,
            "keep_together.by",
            "missing",
            "name the attributes whose values keep people together",
        );
    }
    fields.end(errors);
    Some(KeepTogether {
        by,
        ignore_hubs_above,
        waivers,
    })
}

fn waiver(node: Node, path: &str, errors: &mut Errors) -> Option<Waiver> {
    let mut fields = Fields::open(node, path, errors)?;
    let member = fields.text("member", errors);
    let broken_links = fields.texts("broken_links", errors).unwrap_or_default();
    let reason = fields.text("reason", errors);
    fields.end(errors);
    Some(Waiver {
        member: member?,
        broken_links,
        reason: reason?,
    })
}

fn rate(node: Node, path: &str, errors: &mut Errors) -> Option<RateLimit> {
    let mut fields = Fields::open(node, path, errors)?;
    let place = fields.place;
    let per_second: Option<u32> = fields.number("per_second", errors);
    let per_minute: Option<u32> = fields.number("per_minute", errors);
    let burst = fields.number("burst", errors);
    fields.end(errors);
    let (people, per) = match (per_second, per_minute) {
        (Some(people), None) => (people, Seconds(1)),
        (None, Some(people)) => (people, Seconds(60)),
        _ => {
            errors.add(
                place,
                path,
                "rate",
                "a rate is either `per_second` or `per_minute`",
            );
            return None;
        }
    };
    if people == 0 {
        errors.add(
            place,
            path,
            "rate",
            "a rate of 0 moves nobody: to stop, place a hold",
        );
        return None;
    }
    Some(RateLimit {
        people,
        per,
        burst: burst.unwrap_or(1).max(1),
    })
}

fn freeze(node: Node, path: &str, errors: &mut Errors) -> Option<Freeze> {
    let mut fields = Fields::open(node, path, errors)?;
    let place = fields.place;
    let name = fields.text("name", errors);
    let from = fields.parsed("from", errors);
    let to = fields.parsed("to", errors);
    let zone = fields
        .parsed("zone", errors)
        .unwrap_or_else(|| "UTC".to_owned());
    fields.end(errors);
    if from.is_none() || to.is_none() {
        errors.add(
            place,
            path,
            "missing",
            "a freeze has a first day `from` and a last day `to`, such as 2026-12-15",
        );
    }
    let freeze = Freeze {
        name: name?,
        from: from?,
        to: to?,
        zone,
    };
    if let Err(error) = freeze.check() {
        errors.add(place, path, "freeze", error.to_string());
    }
    Some(freeze)
}

fn wave(node: Node, path: &str, errors: &mut Errors) -> Option<WaveSpec> {
    let mut fields = Fields::open(node, path, errors)?;
    let name = name(&mut fields, "name", errors);
    let place = fields.place;
    let rest = fields.parsed::<bool>("rest", errors).unwrap_or(false);
    let select = fields
        .take("select")
        .and_then(|node| selection(node, &format!("{path}.select"), errors));
    let size = size(&mut fields, errors);
    if rest && (select.is_some() || size != Size::All) {
        errors.add(
            place,
            path,
            "rest",
            "`rest` takes everybody who is left: it goes with neither `select` nor a size",
        );
    }
    if !rest && select.is_none() && size == Size::All {
        errors.add(
            place,
            path,
            "selection",
            "say who is in the wave: `select`, `count`, `size` or `rest: true`",
        );
    }
    let spread_by = fields.parsed::<String>("spread_by", errors);
    if spread_by.is_some() && size == Size::All {
        errors.add(
            place,
            path,
            "spread",
            "`spread_by` spreads an exact size: it goes with `count` or `size`",
        );
    }
    let schedule = fields
        .take("schedule")
        .and_then(|node| schedule(node, &format!("{path}.schedule"), errors));
    let ramp = fields
        .take("ramp")
        .and_then(|node| ramp(node, &format!("{path}.ramp"), errors));
    let soak = fields.seconds("soak", errors).unwrap_or_default();
    let gate = fields
        .take("gate")
        .and_then(|node| gate(node, &format!("{path}.gate"), errors));
    fields.end(errors);
    Some(WaveSpec {
        name: name?,
        select: select.unwrap_or(Selection::Everybody),
        size,
        spread_by,
        schedule,
        ramp,
        soak,
        gate,
    })
}

fn selection(node: Node, path: &str, errors: &mut Errors) -> Option<Selection> {
    if let Body::Map(fields) = &node.body {
        let has = |name: &str| fields.iter().any(|(found, ..)| found == name);
        if has("keys") {
            let mut fields = Fields::open(node, path, errors)?;
            let keys = fields.texts("keys", errors);
            fields.end(errors);
            return keys.map(Selection::Keys);
        }
        if has("list") {
            let message =
                "a file is read by the command line: use `tidegate plan`, or write keys: [id, …]";
            errors.add(node.place, path, "list_not_read", message);
            return None;
        }
    }
    condition(node, path, errors).map(Selection::Condition)
}

fn size(fields: &mut Fields, errors: &mut Errors) -> Size {
    let place = fields.place_of("count");
    let count: Option<u64> = fields.number("count", errors);
    let share = fields.parsed("size", errors);
    match (count, share) {
        (Some(0), _) => {
            errors.add(
                place,
                &fields.at("count"),
                "value",
                "a wave of nobody shows nothing",
            );
            Size::All
        }
        (Some(count), None) => Size::Count(count),
        (None, Some(share)) => Size::Share(share),
        (None, None) => Size::All,
        (Some(_), Some(_)) => {
            errors.add(
                place,
                &fields.path,
                "size",
                "a wave has either `count` or `size`",
            );
            Size::All
        }
    }
}

fn schedule(node: Node, path: &str, errors: &mut Errors) -> Option<Schedule> {
    let mut fields = Fields::open(node, path, errors)?;
    let place = fields.place;
    let cron = fields.text("cron", errors);
    let zone: String = fields
        .parsed("zone", errors)
        .unwrap_or_else(|| "UTC".to_owned());
    let window = fields.seconds("window", errors);
    if window.is_none() {
        errors.add(
            place,
            &fields.at("window"),
            "missing",
            "say how long the window stays open: window: 6h",
        );
    }
    fields.end(errors);
    if zone.starts_with("member.") {
        let message = format!(
            "`{zone}`: a wave has one zone; make one wave for each zone, selected by that attribute"
        );
        errors.add(place, &format!("{path}.zone"), "zone_per_member", message);
        return None;
    }
    let schedule = Schedule {
        cron: cron?,
        zone,
        window: window?,
    };
    if let Err(error) = schedule.check() {
        errors.add(place, path, "schedule", error.to_string());
    }
    Some(schedule)
}

fn ramp(node: Node, path: &str, errors: &mut Errors) -> Option<Ramp> {
    let mut fields = Fields::open(node, path, errors)?;
    let place = fields.place;
    let first: Option<Limit> = fields.parsed("first", errors);
    let double_every = fields.seconds("double_every", errors);
    fields.end(errors);
    if first.is_none() || double_every.is_none() {
        errors.add(
            place,
            path,
            "missing",
            "a ramp has `first: 1%` and `double_every: 1d`",
        );
    }
    Some(Ramp {
        first: first?,
        double_every: double_every?,
    })
}

fn gate(node: Node, path: &str, errors: &mut Errors) -> Option<Gate> {
    let mut fields = Fields::open(node, path, errors)?;
    let base = Gate::default();
    let gate = Gate {
        success_at_least: fields.parsed("success_at_least", errors),
        confidence: fields
            .parsed("confidence", errors)
            .unwrap_or(base.confidence),
        sample_at_least: fields.number("sample_at_least", errors),
        failures_at_most: fields.parsed("failures_at_most", errors),
        unknown_at_most: fields
            .parsed("unknown_at_most", errors)
            .unwrap_or(base.unknown_at_most),
        silence: fields.seconds("silence", errors).unwrap_or(base.silence),
        approvals: fields
            .take("approvals")
            .and_then(|node| approvals(node, &format!("{path}.approvals"), errors)),
        metrics: each(&mut fields, "metrics", errors, metric),
    };
    fields.end(errors);
    Some(gate)
}

fn approvals(node: Node, path: &str, errors: &mut Errors) -> Option<ApprovalTerms> {
    let mut fields = Fields::open(node, path, errors)?;
    let count = fields.number("count", errors).unwrap_or(1);
    let from = fields.texts("from", errors).unwrap_or_default();
    fields.end(errors);
    Some(ApprovalTerms { count, from })
}

fn metric(node: Node, path: &str, errors: &mut Errors) -> Option<Metric> {
    let mut fields = Fields::open(node, path, errors)?;
    let name = fields.text("name", errors);
    let query = fields.text("query", errors);
    let at_most_millionths = millionths(&mut fields, "at_most", errors);
    let at_least_millionths = millionths(&mut fields, "at_least", errors);
    let age_max = fields.seconds("age_max", errors).unwrap_or(Seconds(600));
    fields.end(errors);
    Some(Metric {
        name: name?,
        query: query?,
        at_most_millionths,
        at_least_millionths,
        age_max,
    })
}

/// Reads a decimal number as millionths, exactly.
fn millionths(fields: &mut Fields, name: &'static str, errors: &mut Errors) -> Option<i64> {
    let place = fields.place;
    let word: String = fields.parsed(name, errors)?;
    let (sign, digits) = word
        .strip_prefix('-')
        .map_or((1, word.as_str()), |digits| (-1, digits));
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    let exact = || {
        if rest.len() > 6 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let whole: i64 = whole.parse().ok().filter(|whole| *whole >= 0)?;
        let rest: i64 = format!("{rest:0<6}").parse().ok()?;
        whole
            .checked_mul(1_000_000)?
            .checked_add(rest)?
            .checked_mul(sign)
    };
    let found = exact();
    if found.is_none() {
        let message = format!("`{word}` is no number with at most six decimals");
        errors.add(place, &fields.at(name), "value", message);
    }
    found
}

/// What no wave can say for itself: names, gates, and that `rest` comes last.
fn check_waves(
    waves: &[Placed<WaveSpec>],
    pins: &[Placed<Pin>],
    place: Place,
    errors: &mut Errors,
) {
    if waves.is_empty() {
        errors.add(place, "waves", "missing", "a rollout has at least one wave");
    }
    let mut names = BTreeSet::new();
    for (index, Placed { path, place, value }) in waves.iter().enumerate() {
        let name = value.name.as_str();
        if !names.insert(name) {
            let message = format!("there is another wave `{name}`");
            errors.add(*place, &format!("{path}.name"), "duplicate_wave", message);
        }
        let is_last = index + 1 == waves.len();
        if value.gate.is_none() && !is_last {
            let message = format!(
                "wave `{name}` needs a gate: without one the next wave would open whatever happened"
            );
            errors.add(*place, &format!("{path}.gate"), "gate_missing", message);
        }
        let takes_the_rest = value.select == Selection::Everybody && value.size == Size::All;
        if takes_the_rest && !is_last {
            let message = format!("wave `{name}` takes the rest, so it must be the last");
            errors.add(*place, path, "rest_not_last", message);
        }
    }
    for Placed { path, place, value } in pins {
        if let Some(wave) = value.wave.as_deref().filter(|wave| !names.contains(wave)) {
            let message = format!("there is no wave `{wave}`");
            errors.add(*place, &format!("{path}.wave"), "wave_unknown", message);
        }
    }
}
