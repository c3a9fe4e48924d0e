//! Events on their way out: which entries of the trail are told, as what, how they are sent, and how often.
//!
//! `kind` is the closed table of what is told; `event` writes a CloudEvent out of an entry; `post` signs and
//! sends one; `pace` says when to try again. Nothing here knows the database: `operations::endpoint` reads
//! and writes, `tasks::deliver` goes on for ever.

pub mod event;
pub mod kind;
pub mod pace;
pub mod post;

/// What every event of this service has in common.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Where people reach this service, such as `https://tidegate.example.org`; links begin with it.
    pub public_url: Option<String>,
}

impl Outgoing {
    /// Returns one that knows where people reach this service.
    #[must_use]
    pub fn at(public_url: Option<&str>) -> Self {
        Self {
            public_url: public_url.map(|url| url.trim_end_matches('/').to_owned()),
        }
    }
}
