//! Whom a signal is about.

use serde::{Deserialize, Serialize};

use super::same;
use crate::named::named;

/// Whom a signal is about. A part that is missing stands for everybody, as in complex subjects of Shared
/// Signals: a signal about a tenant alone is about each of its users.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The tenant at the vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// A user: an address, or an id that the source knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// An organisational unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_unit: Option<String>,
    /// A device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

named! {
    /// How much of a tenant a signal is about.
    pub enum Reach: "reach" {
        /// One user, device, group or unit.
        Somebody = "somebody",
        /// Every user.
        Everybody = "everybody",
    }
}

impl Subject {
    /// Says whether nothing is said of whom it is about.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Says whether it is about somebody, or about everybody there is.
    #[must_use]
    pub const fn reach(&self) -> Reach {
        match self {
            Self {
                tenant: _,
                user: None,
                group: None,
                org_unit: None,
                device: None,
            } => Reach::Everybody,
            Self { .. } => Reach::Somebody,
        }
    }

    /// Says whether it is about users of a tenant: one that is not named is any.
    #[must_use]
    pub fn touches_tenant(&self, tenant: &str) -> bool {
        self.tenant
            .as_deref()
            .is_none_or(|named| same(named, tenant))
    }

    /// Says whether it is about a user of a tenant.
    #[must_use]
    pub fn touches_user(&self, tenant: &str, user: &str) -> bool {
        let named = self.user.as_deref();
        self.touches_tenant(tenant) && named.is_none_or(|named| same(named, user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_of_a_tenant_alone_is_each_of_its_users() {
        let tenant = Subject {
            tenant: Some("contoso".to_owned()),
            ..Subject::default()
        };
        assert!(tenant.touches_user("Contoso", "ana@contoso.example"));
        assert!(!tenant.touches_user("fabrikam", "ana@contoso.example"));
        assert_eq!(tenant.reach(), Reach::Everybody);
        let ana = Subject {
            user: Some("ana@contoso.example".to_owned()),
            ..tenant
        };
        assert!(!ana.touches_user("contoso", "bo@contoso.example"));
        assert_eq!(ana.reach(), Reach::Somebody);
    }
}
