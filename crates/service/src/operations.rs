//! Load, decide, save: what HTTP and tasks both call.
