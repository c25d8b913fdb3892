//! Large requests: one at a time is copied, so that nobody's many stand before another's one, and the room on the disk is
//! looked at when it is about to be used.

use valise_common::host::requests::Found;
use valise_common::precedence::Precedence;

use super::prepare::Preparer;
use super::request::RequestText;

/// Which of the large requests that wait is copied next.
#[derive(Debug, Default)]
pub(super) struct Turns {
    last_owner: Option<u32>,
}

impl Turns {
    /// Chooses: the most urgent first, then owners in turns, each owner's in the order of the scan.
    pub(super) fn choose(
        &self,
        waiting: Vec<Found>,
        precedence_of: impl Fn(&Found) -> Precedence,
    ) -> Option<(Precedence, Found)> {
        let had_turn = |uid: u32| self.last_owner.is_some_and(|last| uid <= last);
        waiting
            .into_iter()
            .map(|found| (precedence_of(&found), found))
            // The first of several least ones is taken.
            .min_by_key(|(precedence, found)| {
                (*precedence, had_turn(found.owner_uid), found.owner_uid)
            })
    }

    /// Notes whose request is being copied.
    pub(super) fn took(&mut self, found: &Found) {
        self.last_owner = Some(found.owner_uid);
    }
}

/// How urgent a request says that it is. Its author may still change that: it decides the order alone.
pub(super) fn precedence_now(preparer: &Preparer, found: &Found) -> Precedence {
    let text = preparer.requests.text_now(found).unwrap_or_default();
    match toml::from_str(&text) {
        Ok(RequestText::Submit(draft)) => draft.precedence,
        _ => Precedence::Routine,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    fn found(owner_uid: u32, name: &str) -> Found {
        Found {
            name: name.to_owned(),
            owner_uid,
            answered: false,
        }
    }

    #[test]
    fn the_most_urgent_comes_first_and_owners_take_turns() {
        // As a scan gives them.
        let mut waiting = vec![
            found(1, "a"),
            found(2, "x"),
            found(1, "b"),
            found(1, "c-flash"),
            found(2, "y"),
        ];
        let precedence_of = |found: &Found| {
            if found.name.ends_with("flash") {
                Precedence::Flash
            } else {
                Precedence::Routine
            }
        };
        let mut turns = Turns::default();
        let mut order = Vec::new();
        while let Some((_, next)) = turns.choose(waiting.clone(), precedence_of) {
            turns.took(&next);
            waiting.retain(|one| *one != next);
            order.push(next.name);
        }
        assert_eq!(order, ["c-flash", "x", "a", "y", "b"]);
    }
}
