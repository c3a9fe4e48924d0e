//! The audit trail as a witness: which holds were in force, and what was claimed meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::api::Api;

/// Reads the whole trail in its order.
pub(crate) async fn trail(api: &Api) -> Vec<Value> {
    let mut entries: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/v1/audit?limit=1000{cursor}")).await.ok();
        entries.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return entries,
        }
    }
}

/// Plays the trail from its beginning, and returns the holds in force at its end. Fails when people of
/// a rollout were claimed while a hold covered all of it. `targets` says which target a rollout has, by
/// their ids.
#[track_caller]
pub(crate) fn replay(entries: &[Value], targets: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut in_force = BTreeMap::<String, Value>::new();
    for entry in entries {
        let subject = entry["subject"].as_str().unwrap();
        match entry["action"].as_str().unwrap() {
            "hold.place" => {
                let id = subject.strip_prefix("hold:").unwrap().to_owned();
                let before = in_force.insert(id, entry["detail"]["scope"].clone());
                assert!(before.is_none(), "placed twice: {entry}");
            }
            "hold.release" | "hold.end" => {
                let id = subject.strip_prefix("hold:").unwrap();
                assert!(in_force.remove(id).is_some(), "released twice: {entry}");
            }
            "ledger.turn" if entry["detail"]["claimed"] != 0 => {
                let rollout = subject.strip_prefix("rollout:").unwrap();
                let target = targets.get(rollout).map(String::as_str);
                let covers = |scope: &&Value| match scope["type"].as_str() {
                    Some("everything") => true,
                    Some("target") => scope["id"].as_str() == target,
                    Some("rollout") => scope["id"] == rollout,
                    _ => false,
                };
                let covering: Vec<_> = in_force.values().filter(covers).collect();
                assert!(covering.is_empty(), "claimed under {covering:?}: {entry}");
            }
            _ => {}
        }
    }
    in_force.into_keys().collect()
}

/// Counts the entries with this action.
pub(crate) fn count(entries: &[Value], action: &str) -> usize {
    let is_it = |entry: &&Value| entry["action"] == action;
    entries.iter().filter(is_it).count()
}
