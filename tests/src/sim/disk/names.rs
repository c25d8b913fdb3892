//! Names that are not durable yet, and which of them depend on which.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::sync::Arc;

use super::inode::Ino;
use crate::wire::Prng;

/// The names in a directory.
pub(super) type Entries = Arc<BTreeMap<OsString, Ino>>;

/// A directory and a name in it.
type Place = (Ino, OsString);

/// An operation that changes names, all of them or none.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    /// Its place in the order of everything that was changed.
    pub order: u64,
    /// What each name stands for afterwards.
    pub names: Vec<(Place, Option<Ino>)>,
    /// Everything in this directory happened before: it was empty when it went.
    pub emptied: Option<Ino>,
    /// A directory moved: such operations keep their order, or a cut could tie a knot.
    pub moves_directory: bool,
}

impl NameChange {
    /// Does it in a tree.
    pub fn apply(&self, directories: &mut BTreeMap<Ino, Entries>) {
        for ((directory, name), ino) in &self.names {
            let entries = Arc::make_mut(directories.entry(*directory).or_default());
            match ino {
                Some(ino) => entries.insert(name.clone(), *ino),
                None => entries.remove(name),
            };
        }
    }

    fn touches(&self, directory: Ino) -> bool {
        self.names.iter().any(|((other, _), _)| *other == directory)
    }
}

/// What earlier operations must not have in common with a later one that goes without them.
#[derive(Default)]
struct Ties {
    places: BTreeSet<Place>,
    directories: BTreeSet<Ino>,
    moves: bool,
}

impl Ties {
    /// Returns whether an earlier operation is one that those in here depend on.
    fn need(&self, earlier: &NameChange) -> bool {
        let is_needed =
            |place: &Place| self.places.contains(place) || self.directories.contains(&place.0);
        earlier.names.iter().any(|(place, _)| is_needed(place))
            || self.moves && earlier.moves_directory
    }

    /// Adds what an operation depends on.
    fn add_needs(&mut self, later: &NameChange) {
        self.places
            .extend(later.names.iter().map(|(place, _)| place.clone()));
        self.directories.extend(later.emptied);
        self.moves |= later.moves_directory;
    }

    /// Returns whether a later operation depends on one in here.
    fn block(&self, later: &NameChange) -> bool {
        later
            .names
            .iter()
            .any(|(place, _)| self.places.contains(place))
            || later
                .emptied
                .is_some_and(|directory| self.directories.contains(&directory))
            || self.moves && later.moves_directory
    }

    /// Adds an operation that is lost.
    fn add_lost(&mut self, lost: &NameChange) {
        let places = lost.names.iter().map(|(place, _)| place.clone());
        self.directories
            .extend(places.clone().map(|(directory, _)| directory));
        self.places.extend(places);
        self.moves |= lost.moves_directory;
    }
}

/// Takes the operations of a directory out of those not yet durable, with what they depend on, in order.
pub(super) fn take_of(pending: &mut Vec<NameChange>, directory: Ino) -> Vec<NameChange> {
    let mut ties = Ties::default();
    let mut is_taken = vec![false; pending.len()];
    for (at, change) in pending.iter().enumerate().rev() {
        if change.touches(directory) || ties.need(change) {
            ties.add_needs(change);
            is_taken[at] = true;
        }
    }
    let mut flags = is_taken.into_iter();
    pending
        .extract_if(.., |_| flags.next().unwrap_or(false))
        .collect()
}

/// Draws operations that survive: each with a chance of `kept` in 4, none without what it depends on.
pub(super) fn draw<'a>(
    pending: &'a [NameChange],
    prng: &mut Prng,
    kept: u64,
) -> Vec<&'a NameChange> {
    let mut lost = Ties::default();
    let mut survivors = Vec::new();
    for change in pending {
        if prng.below(4) < kept && !lost.block(change) {
            survivors.push(change);
        } else {
            lost.add_lost(change);
        }
    }
    survivors
}
