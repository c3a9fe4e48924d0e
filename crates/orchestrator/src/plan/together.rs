//! People who must move together: components of the links between them, found by union-find.
//!
//! A *link* is one value of one keep-together attribute: everybody who has it is joined. A reference
//! (a manager's id) also joins the person it names. A link that joins more people than the spec's
//! `ignore_hubs_above` joins nobody; a link that a waiver lists is broken.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidegate_policy::{AttributeType, AttributeValue};

use crate::ids::Ordinal;
use crate::population::{Column, Population};
use crate::spec::KeepTogether;

/// How many bridging people and links a report names.
const NAMED_MAX: usize = 10;

/// Who moves with whom.
#[derive(Debug)]
pub(crate) struct Components {
    /// The representative of each person's component.
    roots: Vec<u32>,
    /// How many people a representative stands for; 0 for whoever is none.
    sizes: Vec<u32>,
    /// Links that were too large to join anybody, with their sizes.
    pub(crate) ignored: Vec<(String, u64)>,
}

/// A component that is too large, and what holds it together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bridges {
    /// The people in the most links at once, by directory id.
    pub(super) members: Vec<String>,
    /// The largest links, as `attribute:value`.
    pub(super) links: Vec<String>,
}

fn place(ordinal: u32) -> usize {
    usize::try_from(ordinal).unwrap_or(usize::MAX)
}

impl Components {
    /// Everybody for themselves.
    pub(crate) fn apart() -> Self {
        Self {
            roots: Vec::new(),
            sizes: Vec::new(),
            ignored: Vec::new(),
        }
    }

    /// Joins the people of `taking_part` by the links of the spec.
    pub(crate) fn find(
        population: &Population,
        spec: &KeepTogether,
        taking_part: &dyn Fn(Ordinal) -> bool,
    ) -> Self {
        let mut components = Self {
            roots: (0..population.len()).collect(),
            sizes: vec![1; place(population.len())],
            ignored: Vec::new(),
        };
        let broken: BTreeSet<&str> = spec
            .waivers
            .iter()
            .flat_map(|waiver| &waiver.broken_links)
            .map(String::as_str)
            .collect();
        for attribute in &spec.by {
            let Some(column) = population.column(attribute) else {
                continue;
            };
            let links = Links::count(population, attribute, column, spec, &broken, taking_part);
            components.join(population, column, &links, taking_part);
            components.ignored.extend(links.ignored);
        }
        for ordinal in 0..population.len() {
            let root = components.root(ordinal);
            if let Some(slot) = components.roots.get_mut(place(ordinal)) {
                *slot = root;
            }
        }
        components
    }

    /// Returns the representative of a person's component.
    pub(crate) fn of(&self, ordinal: Ordinal) -> Ordinal {
        Ordinal(
            self.roots
                .get(place(ordinal.get()))
                .copied()
                .unwrap_or(ordinal.get()),
        )
    }

    /// Returns how many people are in a person's component.
    pub(crate) fn size(&self, ordinal: Ordinal) -> u64 {
        self.sizes
            .get(place(self.of(ordinal).get()))
            .map_or(1, |size| u64::from(*size))
    }

    /// Says whether nobody is joined with anybody.
    pub(crate) const fn is_apart(&self) -> bool {
        self.roots.is_empty()
    }

    fn root(&mut self, ordinal: u32) -> u32 {
        let mut at = ordinal;
        loop {
            let above = self.roots.get(place(at)).copied().unwrap_or(at);
            if above == at {
                return at;
            }
            // Halve the path on the way up.
            let further = self.roots.get(place(above)).copied().unwrap_or(above);
            if let Some(slot) = self.roots.get_mut(place(at)) {
                *slot = further;
            }
            at = further;
        }
    }

    fn union(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        if one == other {
            return;
        }
        let size = |ordinal| self.sizes.get(place(ordinal)).copied().unwrap_or(1);
        let (large, small) = if size(one) >= size(other) {
            (one, other)
        } else {
            (other, one)
        };
        let total = size(large).saturating_add(size(small));
        for (ordinal, size) in [(large, total), (small, 0)] {
            if let Some(slot) = self.sizes.get_mut(place(ordinal)) {
                *slot = size;
            }
        }
        if let Some(slot) = self.roots.get_mut(place(small)) {
            *slot = large;
        }
    }

    fn join(
        &mut self,
        population: &Population,
        column: &Column,
        links: &Links,
        taking_part: &dyn Fn(Ordinal) -> bool,
    ) {
        let mut first: Vec<Option<u32>> = links.named.clone();
        for ordinal in population
            .ordinals()
            .filter(|ordinal| taking_part(*ordinal))
        {
            let code = place(column.code(ordinal));
            if !links.joins.get(code).copied().unwrap_or(false) {
                continue;
            }
            match first.get_mut(code) {
                Some(Some(first)) => self.union(*first, ordinal.get()),
                Some(none) => *none = Some(ordinal.get()),
                None => {}
            }
        }
    }
}

/// The links of one attribute.
struct Links {
    /// By code: whether its people are joined.
    joins: Vec<bool>,
    /// By code: the person a reference names.
    named: Vec<Option<u32>>,
    ignored: Vec<(String, u64)>,
}

impl Links {
    fn count(
        population: &Population,
        attribute: &str,
        column: &Column,
        spec: &KeepTogether,
        broken: &BTreeSet<&str>,
        taking_part: &dyn Fn(Ordinal) -> bool,
    ) -> Self {
        let codes = column.dictionary.len() + 1;
        let mut named = vec![None; codes];
        if column.attribute_type == AttributeType::Reference {
            name_people(population, column, &mut named, taking_part);
        }
        let mut people = vec![0_u64; codes];
        for ordinal in population
            .ordinals()
            .filter(|ordinal| taking_part(*ordinal))
        {
            if let Some(count) = people.get_mut(place(column.code(ordinal))) {
                *count += 1;
            }
        }
        let hub = u64::from(spec.ignore_hubs_above.unwrap_or(u32::MAX));
        let mut joins = vec![false; codes];
        let mut ignored = Vec::new();
        for (code, value) in column.dictionary.iter().enumerate() {
            let code = code + 1;
            let count = people.get(code).copied().unwrap_or(0);
            let named = named.get(code).copied().flatten();
            let link = link_name(attribute, value);
            let is_link = count + u64::from(named.is_some()) > 1 && !broken.contains(link.as_str());
            if is_link && count > hub {
                ignored.push((link, count));
            } else if let Some(slot) = joins.get_mut(code) {
                *slot = is_link;
            }
        }
        Self {
            joins,
            named,
            ignored,
        }
    }
}

fn link_name(attribute: &str, value: &AttributeValue) -> String {
    format!("{attribute}:{value}")
}

/// Finds the people that references name.
fn name_people(
    population: &Population,
    column: &Column,
    named: &mut [Option<u32>],
    taking_part: &dyn Fn(Ordinal) -> bool,
) {
    let codes: HashMap<&str, usize> = column
        .dictionary
        .iter()
        .enumerate()
        .filter_map(|(code, value)| match value {
            AttributeValue::Text(text) => Some((text.as_str(), code + 1)),
            AttributeValue::Boolean(_) | AttributeValue::Integer(_) | AttributeValue::Date(_) => {
                None
            }
        })
        .collect();
    for (ordinal, key) in population.ordinals().zip(population.keys().iter()) {
        if let Some(slot) = codes.get(key).and_then(|code| named.get_mut(*code))
            && taking_part(ordinal)
        {
            *slot = Some(ordinal.get());
        }
    }
}

/// Says what holds the component of a person together: who is in several links, and the largest links.
pub(super) fn bridges(
    population: &Population,
    spec: &KeepTogether,
    components: &Components,
    member: Ordinal,
) -> Bridges {
    let root = components.of(member);
    let mut links: BTreeMap<String, u64> = BTreeMap::new();
    let mut degrees: BTreeMap<Ordinal, u32> = BTreeMap::new();
    let ignored: BTreeSet<&str> = components
        .ignored
        .iter()
        .map(|(link, _)| link.as_str())
        .collect();
    for ordinal in population
        .ordinals()
        .filter(|ordinal| components.of(*ordinal) == root)
    {
        for attribute in &spec.by {
            let Some(column) = population.column(attribute) else {
                continue;
            };
            let Some(value) = column.value(column.code(ordinal)) else {
                continue;
            };
            let link = link_name(attribute, value);
            if !ignored.contains(link.as_str()) {
                *links.entry(link).or_default() += 1;
                *degrees.entry(ordinal).or_default() += 1;
            }
        }
    }
    // Whoever is named by a reference holds that link as well.
    for ordinal in population
        .ordinals()
        .filter(|ordinal| components.of(*ordinal) == root)
    {
        let Some(key) = population.key(ordinal) else {
            continue;
        };
        for attribute in &spec.by {
            if links.contains_key(&format!("{attribute}:{key}")) {
                *degrees.entry(ordinal).or_default() += 1;
            }
        }
    }
    let mut degrees: Vec<(Ordinal, u32)> = degrees
        .into_iter()
        .filter(|(_, degree)| *degree > 1)
        .collect();
    degrees.sort_by_key(|(ordinal, degree)| (std::cmp::Reverse(*degree), *ordinal));
    let mut links: Vec<(String, u64)> = links
        .into_iter()
        .filter(|(_, people)| *people > 1)
        .collect();
    links.sort_by_key(|(link, people)| (std::cmp::Reverse(*people), link.clone()));
    let keys = degrees
        .iter()
        .filter_map(|(ordinal, _)| population.key(*ordinal));
    Bridges {
        members: keys.take(NAMED_MAX).map(str::to_owned).collect(),
        links: links
            .into_iter()
            .take(NAMED_MAX)
            .map(|(link, _)| link)
            .collect(),
    }
}
