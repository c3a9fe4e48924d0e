//! Puts everybody in exactly one wave, or in none, and says why.

use std::collections::{BTreeMap, HashMap};

use super::exact;
use super::order::hash;
use super::select::Bound;
use super::together::{Bridges, Components, bridges};
use super::{Overlap, PlanFault};
use crate::ids::{Ordinal, WaveNumber};
use crate::population::{Column, Population};
use crate::sentence::{grouped, people};
use crate::spec::{Selection, Size, Spec, WaveSpec};

/// Nobody's wave.
const NONE: u16 = 0;
/// The wave of those left out.
const OUT: u16 = u16::MAX;

/// Who is where.
#[derive(Debug)]
pub(super) struct Assignment {
    /// By ordinal: 0 for no wave, the number of the wave, or the highest number for left out.
    waves: Vec<u16>,
    /// How many are to be moved at all.
    eligible: u64,
    pub(super) overlaps: Vec<Overlap>,
    pub(super) warnings: Vec<String>,
}

/// A component, or one person, that wants to be in a wave.
struct Unit {
    hash: u32,
    root: Ordinal,
    size: u64,
}

/// The seats of a wave that is spread over the values of an attribute.
struct Spread<'a> {
    column: &'a Column,
    seats: BTreeMap<u32, u64>,
}

impl<'a> Spread<'a> {
    fn new(
        population: &'a Population,
        attribute: &str,
        units: &[Unit],
        wanted: u64,
    ) -> Option<Self> {
        let column = population.column(attribute)?;
        let mut groups: BTreeMap<u32, u64> = BTreeMap::new();
        for unit in units {
            *groups.entry(column.code(unit.root)).or_default() += unit.size;
        }
        // By value and not by code, which depends on the order of the rows.
        let mut groups: Vec<(u32, u64)> = groups.into_iter().collect();
        groups.sort_by_key(|(code, _)| column.value(*code).map(ToString::to_string));
        let sizes: Vec<u64> = groups.iter().map(|(_, people)| *people).collect();
        let seats = super::spread::seats(&sizes, wanted);
        let codes = groups.into_iter().map(|(code, _)| code);
        Some(Self {
            column,
            seats: codes.zip(seats).collect(),
        })
    }

    /// Takes the seats of a unit, if its group has them.
    fn take(&mut self, unit: &Unit) -> bool {
        match self.seats.get_mut(&self.column.code(unit.root)) {
            Some(seats) if *seats >= unit.size => {
                *seats -= unit.size;
                true
            }
            _ => false,
        }
    }
}

/// What is fixed while waves are filled one after the other.
pub(super) struct Assigner<'a> {
    population: &'a Population,
    spec: &'a Spec,
    components: Components,
    /// Directory ids that lists and pins name, each with its ordinal.
    named: HashMap<&'a str, Ordinal>,
    assignment: Assignment,
    faults: Vec<PlanFault>,
}

fn index(ordinal: Ordinal) -> usize {
    usize::try_from(ordinal.get()).unwrap_or(usize::MAX)
}

fn wave_number(index: usize) -> u16 {
    u16::try_from(index + 1).unwrap_or(OUT - 1)
}

impl Assignment {
    /// Returns the wave of a person, from 0; `None` for in none.
    pub(super) fn wave(&self, ordinal: Ordinal) -> Option<usize> {
        match self.at(ordinal) {
            NONE | OUT => None,
            wave => Some(usize::from(wave) - 1),
        }
    }

    pub(super) fn is_out(&self, ordinal: Ordinal) -> bool {
        self.at(ordinal) == OUT
    }

    fn at(&self, ordinal: Ordinal) -> u16 {
        self.waves.get(index(ordinal)).copied().unwrap_or(OUT)
    }

    fn put(&mut self, ordinal: Ordinal, wave: u16) {
        if let Some(slot) = self.waves.get_mut(index(ordinal)) {
            *slot = wave;
        }
    }
}

impl<'a> Assigner<'a> {
    /// Leaves out who is excluded or pinned out, and finds who moves together.
    pub(super) fn new(spec: &'a Spec, population: &'a Population) -> Self {
        let mut assignment = Assignment {
            waves: vec![NONE; population.keys().len()],
            eligible: 0,
            overlaps: Vec::new(),
            warnings: Vec::new(),
        };
        if let Some(condition) = &spec.exclude {
            let bound = Bound::new(condition, population);
            for ordinal in population
                .ordinals()
                .filter(|ordinal| bound.holds(*ordinal))
            {
                assignment.put(ordinal, OUT);
            }
        }
        let named = named(spec, population);
        let mut assigner = Self {
            population,
            spec,
            components: Components::apart(),
            named,
            assignment,
            faults: Vec::new(),
        };
        assigner.pin_out();
        let left = population
            .ordinals()
            .filter(|ordinal| !assigner.assignment.is_out(*ordinal));
        assigner.assignment.eligible = u64::try_from(left.count()).unwrap_or(u64::MAX);
        if let Some(keep) = &spec.keep_together {
            let assignment = &assigner.assignment;
            assigner.components =
                Components::find(population, keep, &|ordinal| !assignment.is_out(ordinal));
            for (link, count) in &assigner.components.ignored {
                let sentence = format!(
                    "`{link}` would keep {} together: a hub, and ignored",
                    people(*count)
                );
                assigner.assignment.warnings.push(sentence);
            }
        }
        assigner
    }

    fn pin_out(&mut self) {
        let out = self
            .spec
            .pins
            .iter()
            .filter(|pin| pin.wave.is_none())
            .flat_map(|pin| &pin.keys);
        let ordinals: Vec<Ordinal> = out
            .filter_map(|key| self.named.get(key.as_str()).copied())
            .collect();
        for ordinal in ordinals {
            self.assignment.put(ordinal, OUT);
        }
    }

    /// Fills the waves in order.
    pub(super) fn run(mut self) -> Result<Assignment, Vec<PlanFault>> {
        self.name_the_missing();
        self.pin_in();
        for (place, wave) in self.spec.waves.iter().enumerate() {
            self.fill(place, wave);
        }
        if self.faults.is_empty() {
            Ok(self.assignment)
        } else {
            Err(self.faults)
        }
    }

    /// Warns of directory ids that nobody has.
    fn name_the_missing(&mut self) {
        let mut warn = |what: String, keys: &[String]| {
            let missing: Vec<&str> = keys
                .iter()
                .map(String::as_str)
                .filter(|key| !self.named.contains_key(key))
                .collect();
            if let Some(first) = missing.first() {
                let count = u64::try_from(missing.len()).unwrap_or(u64::MAX);
                let sentence = format!(
                    "{what} names {} not in the population, such as `{first}`",
                    people(count)
                );
                self.assignment.warnings.push(sentence);
            }
        };
        for pin in &self.spec.pins {
            warn("a pin".to_owned(), &pin.keys);
        }
        for wave in &self.spec.waves {
            if let Selection::Keys(keys) = &wave.select {
                warn(format!("the list of wave `{}`", wave.name), keys);
            }
        }
    }

    /// Puts pinned people, and whoever moves with them, in their wave.
    fn pin_in(&mut self) {
        let numbers = self.spec.wave_numbers();
        let mut roots: BTreeMap<Ordinal, u16> = BTreeMap::new();
        for (place, pin) in self.spec.pins.iter().enumerate() {
            let Some(number) = pin.wave.as_deref().and_then(|name| numbers.get(name)) else {
                continue;
            };
            let number = u16::try_from(*number).unwrap_or(OUT - 1);
            for key in &pin.keys {
                let Some(ordinal) = self.named.get(key.as_str()).copied() else {
                    continue;
                };
                if self.assignment.is_out(ordinal) {
                    let sentence =
                        format!("`{key}` is pinned to a wave and excluded: the exclusion stands");
                    self.assignment.warnings.push(sentence);
                    continue;
                }
                let root = self.components.of(ordinal);
                if roots
                    .insert(root, number)
                    .is_some_and(|earlier| earlier != number)
                {
                    let message = format!(
                        "`{key}` is pinned to one wave, and somebody who moves together with them to another"
                    );
                    self.faults.push(PlanFault::new(
                        format!("pins[{place}]"),
                        "pins_part_people",
                        message,
                    ));
                }
            }
        }
        self.put_units(roots);
    }

    /// Puts whoever is in no wave yet where the representative of their component goes.
    fn put_units(&mut self, roots: impl IntoIterator<Item = (Ordinal, u16)>) {
        let mut roots = roots.into_iter().peekable();
        if roots.peek().is_none() {
            return;
        }
        if self.components.is_apart() {
            for (ordinal, wave) in roots {
                self.assignment.put(ordinal, wave);
            }
            return;
        }
        // A place for everybody: looking each person up in a map would cost the more the more there are.
        let mut goes_to = vec![NONE; self.assignment.waves.len()];
        for (root, wave) in roots {
            if let Some(place) = goes_to.get_mut(index(root)) {
                *place = wave;
            }
        }
        for ordinal in self.population.ordinals() {
            let root = index(self.components.of(ordinal));
            match goes_to.get(root) {
                Some(&wave) if wave != NONE && self.assignment.at(ordinal) == NONE => {
                    self.assignment.put(ordinal, wave);
                }
                _ => {}
            }
        }
    }

    fn fill(&mut self, place: usize, wave: &WaveSpec) {
        let number = wave_number(place);
        let candidates = self.candidates(place, wave);
        let pinned = self
            .population
            .ordinals()
            .filter(|ordinal| self.assignment.at(*ordinal) == number);
        let pinned = u64::try_from(pinned.count()).unwrap_or(0);
        let wanted = match wave.size {
            Size::All => {
                self.take_all(number, wave, &candidates);
                return;
            }
            Size::Count(count) => count,
            Size::Share(share) => share.floor_of(self.assignment.eligible),
        };
        self.take_exactly(place, wave, &candidates, wanted.saturating_sub(pinned));
    }

    /// Returns those who match and are in no wave; counts those who match and are in an earlier one.
    fn candidates(&mut self, place: usize, wave: &WaveSpec) -> Vec<Ordinal> {
        let mut found = Vec::new();
        let mut elsewhere: BTreeMap<usize, u64> = BTreeMap::new();
        let mut look = |ordinal: Ordinal, is_named: bool| match self.assignment.wave(ordinal) {
            None if !self.assignment.is_out(ordinal) => found.push(ordinal),
            Some(earlier) if is_named && earlier < place => {
                *elsewhere.entry(earlier).or_default() += 1
            }
            _ => {}
        };
        match &wave.select {
            Selection::Everybody => self
                .population
                .ordinals()
                .for_each(|ordinal| look(ordinal, false)),
            Selection::Condition(condition) => {
                let bound = Bound::new(condition, self.population);
                let matching = self
                    .population
                    .ordinals()
                    .filter(|ordinal| bound.holds(*ordinal));
                matching.for_each(|ordinal| look(ordinal, true));
            }
            Selection::Keys(keys) => {
                let mut ordinals: Vec<Ordinal> = keys
                    .iter()
                    .filter_map(|key| self.named.get(key.as_str()).copied())
                    .collect();
                ordinals.sort_unstable();
                ordinals.dedup();
                ordinals.into_iter().for_each(|ordinal| look(ordinal, true));
            }
        }
        let number = |place: usize| WaveNumber(u32::from(wave_number(place)));
        for (earlier, count) in elsewhere {
            self.assignment.overlaps.push(Overlap {
                wave: number(earlier),
                also: number(place),
                people: count,
            });
        }
        found
    }

    fn take_all(&mut self, number: u16, wave: &WaveSpec, candidates: &[Ordinal]) {
        for ordinal in candidates {
            self.assignment.put(*ordinal, number);
        }
        if self.components.is_apart() {
            return;
        }
        let joined: Vec<(Ordinal, u16)> = candidates
            .iter()
            .filter(|ordinal| self.components.size(**ordinal) > 1)
            .map(|ordinal| (self.components.of(*ordinal), number))
            .collect();
        let before = self
            .assignment
            .waves
            .iter()
            .filter(|wave| **wave == number)
            .count();
        self.put_units(joined);
        let pulled = self
            .assignment
            .waves
            .iter()
            .filter(|wave| **wave == number)
            .count()
            - before;
        if pulled > 0 {
            let count = people(u64::try_from(pulled).unwrap_or(u64::MAX));
            let sentence = format!(
                "{count} who do not match wave `{}` move with it, together with somebody who does",
                wave.name
            );
            self.assignment.warnings.push(sentence);
        }
    }

    /// Takes exactly so many, in the order of the hash; people who move together go in as one.
    fn take_exactly(&mut self, place: usize, wave: &WaveSpec, candidates: &[Ordinal], wanted: u64) {
        let units = self.units(candidates);
        let mut missing = wanted;
        let mut is_taken = vec![false; units.len()];
        let mut too_large: Option<Ordinal> = None;
        let mut spread = wave
            .spread_by
            .as_deref()
            .and_then(|attribute| Spread::new(self.population, attribute, &units, wanted));
        // A second look without the shares: groups that move together need not fit into them.
        let looks = if spread.is_some() { 2 } else { 1 };
        for look in 1..=looks {
            for (unit, is_taken) in units.iter().zip(&mut is_taken) {
                if missing == 0 {
                    break;
                }
                if unit.size > wanted {
                    too_large.get_or_insert(unit.root);
                }
                if unit.size > missing || *is_taken {
                    continue;
                }
                let has_seat = spread.as_mut().is_none_or(|spread| spread.take(unit));
                if has_seat || look > 1 {
                    missing -= unit.size;
                    *is_taken = true;
                }
            }
        }
        if let Some(root) = too_large {
            self.refuse_component(place, wave, root, wanted);
        }
        if missing > 0 && too_large.is_none() {
            let sizes: Vec<u64> = units.iter().map(|unit| unit.size).collect();
            if exact::fit(&sizes, &mut is_taken, missing) {
                missing = 0;
            }
        }
        if missing > 0 && too_large.is_none() {
            let available: u64 = units.iter().map(|unit| unit.size).sum();
            let message = format!(
                "wave `{}` cannot have exactly {} people: {} match and are in no earlier wave{}",
                wave.name,
                grouped(wanted),
                grouped(available),
                if available >= wanted {
                    ", and those who move together do not add up to it"
                } else {
                    ""
                }
            );
            self.faults.push(PlanFault::new(
                format!("waves[{place}]"),
                "size_unreachable",
                message,
            ));
        }
        let taken = units.iter().zip(is_taken).filter(|(_, is_taken)| *is_taken);
        let number = wave_number(place);
        self.put_units(taken.map(|(unit, _)| (unit.root, number)));
    }

    fn units(&self, candidates: &[Ordinal]) -> Vec<Unit> {
        let mut units: HashMap<Ordinal, Unit> =
            HashMap::with_capacity(candidates.len().min(1 << 20));
        let mut singles: Vec<Unit> = Vec::new();
        for ordinal in candidates {
            let key = self.population.key(*ordinal).unwrap_or_default();
            let hash = hash(&self.spec.salt, key);
            let size = self.components.size(*ordinal);
            let root = self.components.of(*ordinal);
            if size == 1 {
                singles.push(Unit { hash, root, size });
            } else {
                let unit = units.entry(root).or_insert(Unit { hash, root, size });
                unit.hash = unit.hash.min(hash);
            }
        }
        singles.extend(units.into_values());
        // By hash first and alone, which is quick; few share one, and only those are told apart by their ids.
        singles.sort_unstable_by_key(|unit| unit.hash);
        let key = |unit: &Unit| self.population.key(unit.root).unwrap_or_default();
        for same in singles.chunk_by_mut(|one, other| one.hash == other.hash) {
            same.sort_unstable_by(|one, other| key(one).cmp(key(other)));
        }
        singles
    }

    fn refuse_component(&mut self, place: usize, wave: &WaveSpec, root: Ordinal, wanted: u64) {
        let Some(keep) = &self.spec.keep_together else {
            return;
        };
        let size = self.components.size(root);
        let Bridges { members, links } = bridges(self.population, keep, &self.components, root);
        let message = format!(
            "{} move together, and wave `{}` takes {}; they are bridged by {} over the links {}. To part them, add to \
             keep_together.waivers: {{member: {}, broken_links: [{}], reason: …}}",
            people(size),
            wave.name,
            grouped(wanted),
            if members.is_empty() {
                "one link alone".to_owned()
            } else {
                members.join(", ")
            },
            links.join(", "),
            self.population.key(root).unwrap_or_default(),
            links.join(", "),
        );
        self.faults.push(PlanFault::new(
            format!("waves[{place}]"),
            "component_too_large",
            message,
        ));
    }
}

/// Finds everybody whom a list or a pin names, in one pass over the directory ids.
fn named<'a>(spec: &'a Spec, population: &'a Population) -> HashMap<&'a str, Ordinal> {
    let lists = spec.waves.iter().filter_map(|wave| match &wave.select {
        Selection::Keys(keys) => Some(keys),
        Selection::Everybody | Selection::Condition(_) => None,
    });
    let wanted: std::collections::HashSet<&str> = spec
        .pins
        .iter()
        .map(|pin| &pin.keys)
        .chain(lists)
        .flatten()
        .map(String::as_str)
        .collect();
    if wanted.is_empty() {
        return HashMap::new();
    }
    let people = population.keys().iter().zip(population.ordinals());
    people.filter(|(key, _)| wanted.contains(key)).collect()
}
