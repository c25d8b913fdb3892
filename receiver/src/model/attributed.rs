//! Serials that only beacons reported, each with the bundle whose link key reported it: what a stolen key reported can be
//! taken back.

use std::collections::BTreeMap;

use valise_common::ids::{BundleId, Serial};

use valise_common::serial_set::SerialSet;

/// A set of serials with the bundles whose keys reported them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributed {
    by: BTreeMap<BundleId, SerialSet>,
    all: SerialSet,
}

impl Attributed {
    /// Adds `first..=last`, as the key of `bundle` reports.
    pub fn insert_range(&mut self, bundle: BundleId, first: Serial, last: Serial) {
        self.by.entry(bundle).or_default().insert_range(first, last);
        self.all.insert_range(first, last);
    }

    /// Takes `first..=last` out, whoever reported it.
    pub fn remove_range(&mut self, first: Serial, last: Serial) {
        self.all.remove_range(first, last);
        self.by
            .values_mut()
            .for_each(|set| set.remove_range(first, last));
        self.by.retain(|_, set| !set.is_empty());
    }

    /// Returns every member.
    pub fn all(&self) -> &SerialSet {
        &self.all
    }

    /// Returns the members that the key of `bundle` reported.
    pub fn reported_by(&self, bundle: BundleId) -> SerialSet {
        self.by.get(&bundle).cloned().unwrap_or_default()
    }

    /// Returns the members that only keys reported for which `wanted` holds.
    pub fn reported_only_by(&self, wanted: impl Fn(BundleId) -> bool) -> SerialSet {
        let others = self.by.iter().filter(|(bundle, _)| !wanted(**bundle));
        others.fold(self.all.clone(), |rest, (_, set)| rest.without(set))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]

    use super::*;

    #[test]
    fn what_one_key_told_is_known_from_what_others_told_too() {
        let serial = |value| Serial::new(value).unwrap();
        let mut told = Attributed::default();
        told.insert_range(BundleId(1), serial(1), serial(6));
        told.insert_range(BundleId(2), serial(5), serial(8));
        assert_eq!(told.all().to_string(), "1-8");
        assert_eq!(told.reported_by(BundleId(2)).to_string(), "5-8");
        assert!(told.reported_by(BundleId(3)).is_empty());
        let only_old = told.reported_only_by(|bundle| bundle < BundleId(2));
        assert_eq!(only_old.to_string(), "1-4");
        told.remove_range(serial(2), serial(5));
        assert_eq!(told.all().to_string(), "1,6-8");
        assert_eq!(told.reported_only_by(|_| true), *told.all());
        told.remove_range(serial(1), serial(9));
        assert_eq!(told, Attributed::default());
    }
}
