//! Background work: conduct waves, dispatch batches.
