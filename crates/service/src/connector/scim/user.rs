//! A person as a SCIM user, and back.

use serde_json::{Value, json};

use super::UserMapping;
use crate::connector::Person;

/// The schema of users (RFC 7643, 4.1).
pub(super) const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";

fn attribute(person: &Person, name: &str) -> Option<String> {
    person
        .attributes
        .get(name)
        .map(ToString::to_string)
        .filter(|text| !text.is_empty())
}

/// Returns the user name of a person: the mapped attribute, or else the directory id.
pub(super) fn name(person: &Person, mapping: &UserMapping) -> String {
    attribute(person, &mapping.user_name).unwrap_or_else(|| person.key.clone())
}

/// Returns the account to create.
pub(super) fn of(person: &Person, mapping: &UserMapping) -> Value {
    let user_name = name(person, mapping);
    let given = attribute(person, &mapping.given_name);
    let family = attribute(person, &mapping.family_name);
    let display = [given.as_deref(), family.as_deref()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ");
    let mut user =
        json!({"schemas": [USER], "userName": user_name, "externalId": person.key, "active": true});
    if let Some(fields) = user.as_object_mut() {
        if !display.is_empty() {
            fields.insert("displayName".to_owned(), display.into());
        }
        if given.is_some() || family.is_some() {
            let mut name = serde_json::Map::new();
            name.extend(given.map(|given| ("givenName".to_owned(), given.into())));
            name.extend(family.map(|family| ("familyName".to_owned(), family.into())));
            fields.insert("name".to_owned(), name.into());
        }
        if let Some(email) = attribute(person, &mapping.email) {
            fields.insert(
                "emails".to_owned(),
                json!([{"value": email, "type": "work", "primary": true}]),
            );
        }
    }
    user
}

/// An account as a server shows it. Servers differ: whatever is missing is missing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Found {
    pub(super) id: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) user_name: Option<String>,
    /// All of it.
    shown: Value,
}

impl Found {
    pub(super) fn of(shown: Value) -> Self {
        let text = |name: &str| {
            let text = field(&shown, name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        Self {
            id: text("id"),
            external_id: text("externalId"),
            user_name: text("userName"),
            shown,
        }
    }

    /// Says whether an attribute has a value: user names in any case, external ids exactly
    /// (RFC 7643, 3.1 and 4.1.1).
    pub(super) fn has(&self, attribute: &str, value: &str) -> bool {
        if attribute == "externalId" {
            self.external_id.as_deref() == Some(value)
        } else {
            let name = self.user_name.as_deref();
            name.is_some_and(|name| name.to_lowercase() == value.to_lowercase())
        }
    }

    /// Returns what an account is looked up by: its external id or its user name.
    pub(super) fn value(&self, attribute: &str) -> Option<&str> {
        if attribute == "externalId" {
            self.external_id.as_deref()
        } else {
            self.user_name.as_deref()
        }
    }

    /// Says whether the account is in use; `None`: the server does not show it.
    pub(super) fn is_active(&self) -> Option<bool> {
        match field(&self.shown, "active")? {
            Value::Bool(is_active) => Some(*is_active),
            // Some servers write it as a text.
            Value::String(text) => text.to_lowercase().parse().ok(),
            _ => None,
        }
    }

    /// Returns the whole account, out of use, as a server without PATCH wants to have it.
    pub(super) fn out_of_use(&self) -> Value {
        let mut account = self.shown.clone();
        if let Some(fields) = account.as_object_mut() {
            fields.retain(|name, _| {
                !name.eq_ignore_ascii_case("active") && !name.eq_ignore_ascii_case("meta")
            });
            fields.insert("active".to_owned(), false.into());
        }
        account
    }

    /// Says whether an attribute is shown with this value.
    pub(super) fn shows(&self, name: &str, value: &str) -> bool {
        field(&self.shown, name).and_then(Value::as_str) == Some(value)
    }

    /// Says what must change so that the account is as `wanted` says, and nothing else: what others
    /// put there stays there.
    pub(super) fn difference(&self, wanted: &Value) -> Vec<(&'static str, Value)> {
        let mut changes = Vec::new();
        for path in [
            "externalId",
            "userName",
            "active",
            "displayName",
            "name.givenName",
            "name.familyName",
        ] {
            let Some(value) = at(wanted, path) else {
                continue;
            };
            let is_same = match (path, at(&self.shown, path)) {
                ("userName", Some(_)) => self.has(path, value.as_str().unwrap_or_default()),
                // Not shown: the server does not keep it, or means the usual.
                ("active", None) => true,
                (_, shown) => shown == Some(value),
            };
            if !is_same {
                changes.push((path, value.clone()));
            }
        }
        // Addresses that are there may be anybody's: none is touched, and one is given to who has none.
        let has_mail = field(&self.shown, "emails")
            .and_then(Value::as_array)
            .is_some_and(|mails| !mails.is_empty());
        if let (false, Some(mails)) = (has_mail, at(wanted, "emails")) {
            changes.push(("emails", mails.clone()));
        }
        changes
    }
}

/// Reads an attribute. Names are case-insensitive (RFC 7643, 2.1), and some servers make use of it.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let fields = value.as_object()?;
    fields.get(name).or_else(|| {
        let mut fields = fields.iter();
        fields
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    })
}

fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(value, field)
        .filter(|value| !value.is_null())
}

/// Writes a filter `attribute eq "value"` (RFC 7644, 3.4.2.2): the value is a JSON string.
pub(super) fn filter(attribute: &str, value: &str) -> String {
    format!("{attribute} eq {}", Value::from(value))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tidegate_orchestrator::ledger::SlotIndex;
    use tidegate_policy::AttributeValue;

    use super::*;

    #[test]
    fn a_person_becomes_an_account_under_the_directory_id() {
        let attributes = [
            ("user_name", "ann"),
            ("given_name", "Ann"),
            ("email", "ann@example.test"),
        ];
        let attributes: BTreeMap<_, _> = attributes
            .map(|(name, value)| (name.to_owned(), AttributeValue::Text(value.to_owned())))
            .into();
        let person = Person {
            index: SlotIndex(0),
            turn: 0,
            attempt: 1,
            doubtful: false,
            key: "E1".to_owned(),
            attributes,
            remote_id: None,
        };
        let user = of(&person, &UserMapping::default());
        assert_eq!(user["externalId"], "E1");
        assert_eq!(user["userName"], "ann");
        assert_eq!(user["emails"][0]["value"], "ann@example.test");
        assert!(user["name"].get("familyName").is_none());
        let bare = Person {
            attributes: BTreeMap::new(),
            ..person
        };
        assert_eq!(name(&bare, &UserMapping::default()), "E1");
    }

    #[test]
    fn only_what_differs_is_changed() {
        let wanted = json!({"externalId": "E1", "userName": "ann", "active": true,
            "displayName": "Ann Lee", "name": {"givenName": "Ann", "familyName": "Lee"},
            "emails": [{"value": "ann@example.test"}]});
        let same = Found::of(
            json!({"ID": "7", "ExternalId": "E1", "userName": "Ann", "displayName": "Ann Lee",
            "name": {"givenName": "Ann", "familyName": "Lee", "formatted": "A. Lee"}, "title": "Dr",
            "emails": [{"value": "other@example.test"}]}),
        );
        assert_eq!(same.id.as_deref(), Some("7"));
        assert_eq!(same.difference(&wanted), []);
        let other = Found::of(
            json!({"externalId": "E1", "userName": "ann.old", "active": false,
            "displayName": "Ann Lee", "name": {"givenName": "Ann"}, "emails": []}),
        );
        let changed = other.difference(&wanted);
        let paths: Vec<&str> = changed.iter().map(|(path, _)| *path).collect();
        assert_eq!(paths, ["userName", "active", "name.familyName", "emails"]);
    }

    #[test]
    fn external_ids_are_exact_and_user_names_are_not() {
        let found = Found::of(json!({"externalId": "E1", "userName": "Ann"}));
        assert!(found.has("userName", "ANN"));
        assert!(!found.has("externalId", "e1"));
    }

    #[test]
    fn a_value_cannot_leave_its_filter() {
        assert_eq!(
            filter("userName", r#"x" or userName pr or "y"#),
            r#"userName eq "x\" or userName pr or \"y""#
        );
    }
}
