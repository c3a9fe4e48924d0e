//! The product tree of an advisory: which vendors, and which of their products are concerned.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::field::{at_most, items};
use super::super::{DEPTH_MAX, Unreadable, clipped, text};
use super::SIGNALS_MAX;
use crate::signal::folded;

/// The most products of one document, each version counted: distributions list thousands.
const PRODUCTS_MAX: usize = 50_000;

/// The statuses that a vulnerability gives to products, but for the one that clears them.
const CONCERNING: &[&str] = &[
    "first_affected",
    "first_fixed",
    "fixed",
    "known_affected",
    "last_affected",
    "recommended",
    "under_investigation",
    // CSAF 2.1.
    "unknown",
];
const CLEARING: &str = "known_not_affected";

/// What a document says of one vendor.
#[derive(Debug)]
pub(super) struct Concern {
    /// The vendor; `None`: the tree names none.
    pub(super) vendor: Option<String>,
    /// Its products that are concerned; all that are named, if none of them is.
    pub(super) products: BTreeSet<String>,
    /// Whether each of its products is said not to be affected.
    pub(super) is_cleared: bool,
}

/// The ids of the versions of each product of each vendor.
type Products<'a> = BTreeMap<(Option<String>, String), BTreeSet<&'a str>>;

/// The products of one vendor.
#[derive(Debug, Default)]
struct Lists {
    concerned: BTreeSet<String>,
    cleared: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Statuses<'a> {
    cleared: BTreeSet<&'a str>,
    concerned: BTreeSet<&'a str>,
    has_other: bool,
}

impl<'a> Statuses<'a> {
    /// A product is concerned when it is part of another one that is not cleared.
    fn take_relationships(&mut self, relationships: &'a [Value]) {
        for one in relationships {
            let whole = one
                .get("full_product_name")
                .and_then(|name| text(name, "product_id"));
            if whole.is_some_and(|id| self.clears(id)) {
                continue;
            }
            self.concerned.extend(text(one, "product_reference"));
            self.concerned
                .extend(text(one, "relates_to_product_reference"));
        }
    }

    fn clears(&self, id: &str) -> bool {
        self.cleared.contains(id) && !self.concerned.contains(id)
    }

    /// Says whether there is not one product, in any vulnerability, that could be affected.
    fn clears_all(&self) -> bool {
        !self.cleared.is_empty() && self.concerned.is_empty() && !self.has_other
    }
}

/// Returns what a document says of each vendor; of nobody in particular, if it names none.
pub(super) fn concerns(
    whole: &Value,
    vulnerabilities: &[Value],
) -> Result<Vec<Concern>, Unreadable> {
    let absent = Value::Null;
    let tree = whole.get("product_tree").unwrap_or(&absent);
    let mut products = Products::new();
    let mut left = PRODUCTS_MAX;
    branches(tree, (None, None), DEPTH_MAX, &mut left, &mut products)?;
    let mut statuses = statuses(vulnerabilities);
    let clears_all = statuses.clears_all();
    statuses.take_relationships(items(tree, "relationships"));

    let mut vendors: BTreeMap<Option<String>, Lists> = BTreeMap::new();
    for ((vendor, product), ids) in products {
        let lists = vendors.entry(vendor).or_default();
        if product.is_empty() && ids.is_empty() {
            continue;
        }
        let is_cleared = !ids.is_empty() && ids.iter().all(|id| statuses.clears(id));
        if clears_all || is_cleared {
            lists.cleared.insert(product);
        } else {
            lists.concerned.insert(product);
        }
    }
    // Products without a vendor say nothing that the vendors beside them do not.
    if vendors.len() > 1 {
        vendors.remove(&None);
    }
    at_most(vendors.len(), SIGNALS_MAX)?;
    if vendors.is_empty() {
        vendors.insert(None, Lists::default());
    }
    let concern = |(vendor, lists): (Option<String>, Lists)| {
        let is_cleared = clears_all || (lists.concerned.is_empty() && !lists.cleared.is_empty());
        let mut products = if is_cleared {
            lists.cleared
        } else {
            lists.concerned
        };
        // Versions right below a vendor: what is concerned has no name, so all of the vendor is.
        if products.contains("") {
            products.clear();
        }
        Concern {
            vendor,
            products,
            is_cleared,
        }
    };
    Ok(vendors.into_iter().map(concern).collect())
}

/// Walks the branches below `(vendor, product)`. A vendor without a product is kept with an empty name.
fn branches<'a>(
    node: &'a Value,
    (vendor, product): (Option<&'a str>, Option<&'a str>),
    depth: usize,
    left: &mut usize,
    products: &mut Products<'a>,
) -> Result<(), Unreadable> {
    for branch in items(node, "branches") {
        *left = left.checked_sub(1).ok_or_else(too_many)?;
        let name = text(branch, "name").filter(|name| !name.trim().is_empty());
        let (vendor, product) = match text(branch, "category") {
            Some("vendor") => (name.or(vendor), None),
            Some("product_name") => (vendor, name.or(product)),
            _ => (vendor, product),
        };
        if vendor.is_some() || product.is_some() {
            let key = |name: &str| folded(&clipped(name));
            let ids = products
                .entry((vendor.map(key), product.map(key).unwrap_or_default()))
                .or_default();
            ids.extend(
                branch
                    .get("product")
                    .and_then(|leaf| text(leaf, "product_id")),
            );
        }
        if let Some(depth) = depth.checked_sub(1) {
            branches(branch, (vendor, product), depth, left, products)?;
        }
    }
    Ok(())
}

fn too_many() -> Unreadable {
    let sentence = format!("the product tree has more than {PRODUCTS_MAX} branches");
    Unreadable::new("too_many", sentence)
}

fn statuses(vulnerabilities: &[Value]) -> Statuses<'_> {
    let mut statuses = Statuses::default();
    for vulnerability in vulnerabilities {
        let Some(status) = vulnerability
            .get("product_status")
            .and_then(Value::as_object)
        else {
            statuses.has_other = true;
            continue;
        };
        for (name, list) in status {
            let ids = list
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            if name == CLEARING {
                statuses.cleared.extend(ids);
            } else if CONCERNING.contains(&name.as_str()) {
                statuses.concerned.extend(ids);
            } else {
                // A status that is not known here clears nobody.
                statuses.has_other = true;
                statuses.concerned.extend(ids);
            }
        }
    }
    statuses
}
