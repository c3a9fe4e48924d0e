//! The ways onto a target, behind one enum.
