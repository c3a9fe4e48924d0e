//! One value per slot, kept as one value for all of them for as long as they agree.

/// A column of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Column<T> {
    /// Everybody has this value.
    Same(T),
    /// Each has their own.
    Each(Vec<T>),
}

impl<T: Copy + PartialEq> Column<T> {
    pub(super) fn get(&self, index: usize) -> Option<T> {
        match self {
            Self::Same(value) => Some(*value),
            Self::Each(values) => values.get(index).copied(),
        }
    }

    /// Gives one slot a value; `size` is how many slots there are.
    pub(super) fn set(&mut self, index: usize, value: T, size: usize) {
        if let Self::Same(same) = self {
            if *same == value {
                return;
            }
            *self = Self::Each(vec![*same; size]);
        }
        if let Self::Each(values) = self
            && let Some(slot) = values.get_mut(index)
        {
            *slot = value;
        }
    }

    /// Forgets that values were apart once they agree again.
    pub(super) fn settle(&mut self) {
        if let Self::Each(values) = self
            && let Some(first) = values.first().copied()
            && values.iter().all(|value| *value == first)
        {
            *self = Self::Same(first);
        }
    }

    pub(super) fn same(&self) -> Option<T> {
        match self {
            Self::Same(value) => Some(*value),
            Self::Each(_) => None,
        }
    }

    /// Returns the values slot by slot.
    pub(super) fn iter(&self, size: usize) -> impl Iterator<Item = T> + '_ {
        (0..size).filter_map(|index| self.get(index))
    }
}
