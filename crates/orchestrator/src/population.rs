//! A population in memory, column by column: what a plan is compiled from.
//!
//! A member is a row number, its *ordinal*, in an immutable version of the population. Values are
//! codes into the dictionary of their column, so that 1.5 million people cost a few bytes each and a
//! condition is evaluated once per distinct value.

use std::collections::BTreeMap;

use thiserror::Error;
use tidegate_policy::{AttributeType, AttributeValue};

use crate::digest::Digest;
use crate::ids::{Ordinal, PopulationVersionId};

/// One text for each member, such as the directory id, all in one piece of memory: 1.5 million texts
/// are two allocations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextColumn {
    text: String,
    ends: Vec<u32>,
}

impl TextColumn {
    /// Makes room for `members` texts of `bytes` bytes in all.
    #[must_use]
    pub fn with_capacity(members: usize, bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            ends: Vec::with_capacity(members),
        }
    }

    /// Adds the text of the next member. Texts of more than 4 GiB in all are cut off, and found out by
    /// [`Population::new`].
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(0));
    }

    /// Returns how many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Says whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the text of the member at a place.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = usize::try_from(*self.ends.get(index)?).ok()?;
        let begin = match index.checked_sub(1) {
            Some(before) => usize::try_from(*self.ends.get(before)?).ok()?,
            None => 0,
        };
        self.text.get(begin..end)
    }

    /// Returns every text in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<'a> FromIterator<&'a str> for TextColumn {
    fn from_iter<T: IntoIterator<Item = &'a str>>(texts: T) -> Self {
        let mut column = Self::default();
        texts.into_iter().for_each(|text| column.push(text));
        column
    }
}

/// One attribute of all members.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its type.
    pub attribute_type: AttributeType,
    /// The distinct values; a code is a place in it, counted from 1.
    pub dictionary: Vec<AttributeValue>,
    /// One code per member; 0 for no value.
    pub codes: Vec<u32>,
}

impl Column {
    /// Returns the value behind a code; 0 has none.
    #[must_use]
    pub fn value(&self, code: u32) -> Option<&AttributeValue> {
        let place = usize::try_from(code.checked_sub(1)?).ok()?;
        self.dictionary.get(place)
    }

    /// Returns the code of a member.
    #[must_use]
    pub fn code(&self, ordinal: Ordinal) -> u32 {
        usize::try_from(ordinal.get())
            .ok()
            .and_then(|place| self.codes.get(place))
            .copied()
            .unwrap_or(0)
    }
}

/// The columns do not make a population.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PopulationError {
    /// A column has more or fewer rows than there are members.
    #[error("column `{column}` has {rows} rows, and there are {members} members")]
    Ragged {
        /// Which.
        column: String,
        /// How many it has.
        rows: usize,
        /// How many it should have.
        members: usize,
    },
    /// More members than an ordinal can number.
    #[error("a population holds at most 4,294,967,295 members and 4 GiB of ids")]
    TooLarge,
}

/// An immutable version of a population.
#[derive(Debug, Clone)]
pub struct Population {
    version: PopulationVersionId,
    content_digest: Digest,
    keys: TextColumn,
    columns: BTreeMap<String, Column>,
}

impl Population {
    /// Puts the columns of a version together.
    ///
    /// # Errors
    ///
    /// Refuses columns that are not all of the same length, and more members than can be numbered.
    pub fn new(
        version: PopulationVersionId,
        content_digest: Digest,
        keys: TextColumn,
        columns: BTreeMap<String, Column>,
    ) -> Result<Self, PopulationError> {
        if u32::try_from(keys.len()).is_err() || u32::try_from(keys.text.len()).is_err() {
            return Err(PopulationError::TooLarge);
        }
        for (name, column) in &columns {
            if column.codes.len() != keys.len() {
                let (rows, members) = (column.codes.len(), keys.len());
                return Err(PopulationError::Ragged {
                    column: name.clone(),
                    rows,
                    members,
                });
            }
        }
        Ok(Self {
            version,
            content_digest,
            keys,
            columns,
        })
    }

    /// Returns which version this is.
    #[must_use]
    pub const fn version(&self) -> PopulationVersionId {
        self.version
    }

    /// Returns the digest of its content, which does not depend on the order of its rows.
    #[must_use]
    pub const fn content_digest(&self) -> Digest {
        self.content_digest
    }

    /// Returns how many members there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::try_from(self.keys.len()).unwrap_or(u32::MAX)
    }

    /// Says whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns every member's ordinal.
    pub fn ordinals(&self) -> impl Iterator<Item = Ordinal> + use<> {
        (0..self.len()).map(Ordinal)
    }

    /// Returns the directory id of a member.
    #[must_use]
    pub fn key(&self, ordinal: Ordinal) -> Option<&str> {
        self.keys.get(usize::try_from(ordinal.get()).ok()?)
    }

    /// Returns all directory ids.
    #[must_use]
    pub const fn keys(&self) -> &TextColumn {
        &self.keys
    }

    /// Returns one attribute of all members.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.get(name)
    }

    /// Returns the type of an attribute.
    #[must_use]
    pub fn attribute_type(&self, name: &str) -> Option<AttributeType> {
        self.columns.get(name).map(|column| column.attribute_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_in_order() {
        let mut keys = TextColumn::default();
        for key in ["e1", "", "zoë"] {
            keys.push(key);
        }
        assert_eq!(keys.iter().collect::<Vec<_>>(), ["e1", "", "zoë"]);
        assert_eq!(keys.get(3), None);
    }

    #[test]
    fn a_column_of_another_length_is_refused() {
        let mut keys = TextColumn::default();
        keys.push("e1");
        let column = Column {
            attribute_type: AttributeType::Text,
            dictionary: vec![],
            codes: vec![],
        };
        let columns = BTreeMap::from([("country".to_owned(), column)]);
        let refused = Population::new(
            PopulationVersionId::new(uuid::Uuid::nil()),
            Digest::of(b""),
            keys,
            columns,
        );
        assert_eq!(
            refused.unwrap_err().to_string(),
            "column `country` has 0 rows, and there are 1 members"
        );
    }
}
