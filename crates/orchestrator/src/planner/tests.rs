//! Claims about the planner.
