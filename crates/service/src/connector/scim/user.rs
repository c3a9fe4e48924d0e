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
    fn a_value_cannot_leave_its_filter() {
        assert_eq!(
            filter("userName", r#"x" or userName pr or "y"#),
            r#"userName eq "x\" or userName pr or \"y""#
        );
    }
}
