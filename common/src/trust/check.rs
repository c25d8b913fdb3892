//! File → list: every check that needs more than one value.
