//! What an approval is a yes to, part by part, so that a refusal can name the part that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestBuilder};

/// A part of what is approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What the halt covers, who asked for it, and why.
    Hold,
    /// Its release terms.
    Terms,
    /// One requirement with its evidence.
    Requirement,
    /// The plan of a rollout that goes on.
    Plan,
    /// The settings of a target that people go on to.
    Target,
    /// Who joined, left or moved since that plan was made.
    Drift,
    /// What its gates are measured from.
    Gates,
    /// What was reported about a target and asks for somebody's attention.
    Reported,
}

impl Part {
    /// Returns the stable name of the part.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Terms => "terms",
            Self::Requirement => "requirement",
            Self::Plan => "plan",
            Self::Target => "target",
            Self::Drift => "drift",
            Self::Gates => "gates",
            Self::Reported => "reported",
        }
    }
}

/// One part, what it is about, and what it is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    part: Part,
    about: String,
    digest: Digest,
}

/// Everything that an approval is a yes to, part by part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Known>", into = "Vec<Known>")]
pub struct Substance(BTreeMap<(Part, String), Digest>);

impl From<Vec<Known>> for Substance {
    fn from(parts: Vec<Known>) -> Self {
        let parts = parts.into_iter();
        Self(
            parts
                .map(|known| ((known.part, known.about), known.digest))
                .collect(),
        )
    }
}

impl From<Substance> for Vec<Known> {
    fn from(substance: Substance) -> Self {
        let parts = substance.0.into_iter();
        parts
            .map(|((part, about), digest)| Known {
                part,
                about,
                digest,
            })
            .collect()
    }
}

/// How a part differs from what was approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is another one.
    Changed,
    /// It was not there.
    Added,
    /// It is not there any more.
    Gone,
}

/// One part that is not what was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which part.
    pub part: Part,
    /// What it is about.
    pub about: String,
    /// How it differs.
    pub how: How,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = &self.about;
        match self.part {
            Part::Hold => write!(f, "the halt: what it covers, or who asked for it and why")?,
            Part::Terms => write!(f, "the release terms")?,
            Part::Requirement => write!(f, "requirement {about}, or its evidence")?,
            Part::Plan => write!(f, "the plan of rollout `{about}`")?,
            Part::Target => write!(f, "the settings of target `{about}`")?,
            Part::Drift => write!(f, "who is in the population of rollout `{about}`")?,
            Part::Gates => write!(f, "the counts or gates of rollout `{about}`")?,
            Part::Reported if about.is_empty() => write!(f, "what was reported of this halt")?,
            Part::Reported => write!(f, "what was reported about target `{about}`")?,
        }
        f.write_str(match self.how {
            How::Changed => " changed",
            How::Added => " came since",
            How::Gone => " is not there any more",
        })
    }
}

impl Substance {
    /// Takes in one part.
    pub fn add(&mut self, part: Part, about: &str, digest: Digest) {
        self.0.insert((part, about.to_owned()), digest);
    }

    /// Returns the digest of everything: what an approval names.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut builder = DigestBuilder::default();
        for ((part, about), digest) in &self.0 {
            builder.part(part.name().as_bytes());
            builder.part(about.as_bytes());
            builder.part(&digest.0);
        }
        builder.finish()
    }

    /// Returns each part that is now not what it was.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let keys: BTreeSet<_> = self.0.keys().chain(now.0.keys()).collect();
        let differs = |key: &&(Part, String)| self.0.get(*key) != now.0.get(*key);
        let difference = |key: &(Part, String)| Difference {
            part: key.0,
            about: key.1.clone(),
            how: match (self.0.contains_key(key), now.0.contains_key(key)) {
                (false, _) => How::Added,
                (true, false) => How::Gone,
                (true, true) => How::Changed,
            },
        };
        keys.into_iter().filter(differs).map(difference).collect()
    }
}
