//! Which wave somebody belongs to, by what is known of them now.

use std::collections::HashMap;

use crate::ids::{Ordinal, WaveNumber};
use crate::plan::select::Bound;
use crate::population::Population;
use crate::spec::{LateJoiners, Selection, Size, Spec};

/// What the spec says of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Left out.
    Out,
    /// In no wave.
    Nowhere,
    /// In this wave.
    Wave(WaveNumber),
}

enum Picks<'a> {
    Everybody,
    Condition(Bound<'a>),
    Named(u32),
}

/// The spec, bound to the people of now.
pub(super) struct Wishes<'a> {
    spec: &'a Spec,
    now: &'a Population,
    exclude: Option<Bound<'a>>,
    /// Whom each wave picks, and whether it takes all of them.
    waves: Vec<(Picks<'a>, bool)>,
    /// By directory id: the waves whose lists name it.
    listed: HashMap<&'a str, Vec<u32>>,
    /// By directory id: the wave it is pinned to; none when it is pinned out.
    pinned: HashMap<&'a str, Option<WaveNumber>>,
}

impl<'a> Wishes<'a> {
    pub(super) fn new(spec: &'a Spec, now: &'a Population) -> Self {
        let numbers = spec.wave_numbers();
        let mut listed: HashMap<&str, Vec<u32>> = HashMap::new();
        let mut waves = Vec::with_capacity(spec.waves.len());
        for (wave, number) in spec.waves.iter().zip(1..) {
            let picks = match &wave.select {
                Selection::Everybody => Picks::Everybody,
                Selection::Condition(condition) => Picks::Condition(Bound::new(condition, now)),
                Selection::Keys(keys) => {
                    for key in keys {
                        listed.entry(key.as_str()).or_default().push(number);
                    }
                    Picks::Named(number)
                }
            };
            waves.push((picks, wave.size == Size::All));
        }
        let mut pinned = HashMap::new();
        for pin in &spec.pins {
            let wave = pin.wave.as_deref().and_then(|name| numbers.get(name));
            for key in &pin.keys {
                pinned.insert(key.as_str(), wave.map(|number| WaveNumber(*number)));
            }
        }
        Self {
            spec,
            now,
            exclude: spec.exclude.as_ref().map(|out| Bound::new(out, now)),
            waves,
            listed,
            pinned,
        }
    }

    /// Returns where somebody who stands in `own` belongs now. An exact head-count or a share was cut
    /// out of the people of then: it keeps whom it has while they match, and takes nobody else.
    pub(super) fn of(&self, person: Ordinal, own: Option<WaveNumber>) -> Wish {
        let is_named = !(self.listed.is_empty() && self.pinned.is_empty());
        let key = self.now.key(person).filter(|_| is_named);
        let pinned = key.and_then(|key| self.pinned.get(key));
        let is_excluded = self.exclude.as_ref().is_some_and(|out| out.holds(person));
        match pinned {
            _ if is_excluded => return Wish::Out,
            Some(None) => return Wish::Out,
            Some(Some(wave)) => return Wish::Wave(*wave),
            None => {}
        }
        let is_beyond = |own: &WaveNumber| {
            usize::try_from(own.get()).is_ok_and(|number| number > self.waves.len())
        };
        if let Some(own) = own.filter(is_beyond) {
            // Whoever waits in a catch-up wave belonged to a wave that had finished: they stay.
            return Wish::Wave(own);
        }
        let lists = key.and_then(|key| self.listed.get(key));
        for ((picks, takes_all), number) in self.waves.iter().zip(1..) {
            let wave = WaveNumber(number);
            let is_picked = match picks {
                Picks::Everybody => true,
                Picks::Condition(bound) => bound.holds(person),
                Picks::Named(list) => lists.is_some_and(|lists| lists.contains(list)),
            };
            if is_picked && (*takes_all || own == Some(wave)) {
                return Wish::Wave(wave);
            }
        }
        Wish::Nowhere
    }

    /// Says what becomes of people who are new.
    pub(super) const fn late(&self) -> LateJoiners {
        self.spec.late_joiners
    }
}
