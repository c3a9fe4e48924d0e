//! How sure it is who sent a signal, and what may follow from it at most.

use super::Severity;
use crate::named::named;
use crate::rule::Effect;

named! {
    /// How sure it is who sent a signal, from the least to the most.
    pub enum Trust: "trust class" {
        /// Anybody could have written it: a public catalogue over TLS, say. It never holds anything.
        Unauthenticated = "unauthenticated",
        /// Signed, but it could be an old one sent again.
        Signed = "signed",
        /// Fetched by us from somebody we know, over a channel that is authenticated.
        AuthenticatedChannel = "authenticated_channel",
        /// Signed, fresh, and never seen before.
        SignedFresh = "signed_fresh",
    }
}

impl Trust {
    /// Returns the most that may follow from signals of this trust.
    ///
    /// `severity` is the least that a rule asks for: what is fetched over a channel pauses and halts only
    /// when it is high or worse.
    #[must_use]
    pub const fn most(self, severity: Severity) -> Effect {
        match (self, severity) {
            (Self::SignedFresh, _)
            | (Self::AuthenticatedChannel, Severity::High | Severity::Critical) => Effect::Halt,
            (
                Self::AuthenticatedChannel,
                Severity::Unknown | Severity::Info | Severity::Low | Severity::Medium,
            )
            | (Self::Signed, _) => Effect::Gate,
            (Self::Unauthenticated, _) => Effect::Review,
        }
    }

    /// Says whether a mistake in a rule may hold anything when it looks at such a signal.
    #[must_use]
    pub const fn is_authenticated(self) -> bool {
        match self {
            Self::Signed | Self::AuthenticatedChannel | Self::SignedFresh => true,
            Self::Unauthenticated => false,
        }
    }
}
