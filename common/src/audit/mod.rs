//! The audit log: a chain of lines that nobody can change afterwards without it showing.
