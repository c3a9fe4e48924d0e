//! What a rule may not say, found before it is used.
