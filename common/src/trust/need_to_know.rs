//! Need to know: which cables a person may draft, read and approve.

use std::fmt;

use super::{Person, TrustList};
use crate::ids::{CategoryId, ClassificationId, MailboxId};
use crate::label::Label;

/// A limit of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit<T> {
    /// The list sets none for the person.
    NoLimit,
    /// Up to this, or to these alone.
    Within(T),
}

/// The limits of a person. A cable must be within all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedToKnow {
    /// The highest classification.
    pub classification_max: Limit<ClassificationId>,
    /// The categories, in byte order: those of a label must be among them.
    pub categories: Limit<Vec<CategoryId>>,
    /// The mailboxes, in byte order: those of a cable must be among them.
    pub mailboxes: Limit<Vec<MailboxId>>,
}

/// The kind of a limit that does not cover a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// `classification-max`.
    Classification,
    /// `categories`.
    Categories,
    /// `mailboxes`.
    Mailboxes,
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            LimitKind::Classification => "classification",
            LimitKind::Categories => "categories",
            LimitKind::Mailboxes => "mailboxes",
        })
    }
}

impl TrustList {
    /// Checks that a person's limits cover a cable of this label to these mailboxes.
    ///
    /// # Errors
    /// The first kind of limit that does not.
    pub fn check_need_to_know<'m>(
        &self,
        person: &Person,
        label: &Label,
        to: impl IntoIterator<Item = &'m MailboxId>,
    ) -> Result<(), LimitKind> {
        let NeedToKnow {
            classification_max,
            categories,
            mailboxes,
        } = &person.limits;
        if let Limit::Within(max) = classification_max {
            let rank = |id| self.classification(id).map(|(rank, _)| rank);
            // An unknown rank would compare as lower than any known one.
            match (rank(label.classification()), rank(max)) {
                (Some(rank), Some(rank_max)) if rank <= rank_max => {}
                _ => return Err(LimitKind::Classification),
            }
        }
        if !covers_all(categories, label.categories()) {
            return Err(LimitKind::Categories);
        }
        if !covers_all(mailboxes, to) {
            return Err(LimitKind::Mailboxes);
        }
        Ok(())
    }
}

fn covers_all<'a, T: PartialEq + 'a>(
    limit: &Limit<Vec<T>>,
    ids: impl IntoIterator<Item = &'a T>,
) -> bool {
    match limit {
        Limit::NoLimit => true,
        Limit::Within(known) => ids.into_iter().all(|id| known.contains(id)),
    }
}

impl NeedToKnow {
    /// Returns the limits as a clause: each kind, also if there is none.
    pub(super) fn clause(&self) -> String {
        let classification = match &self.classification_max {
            Limit::NoLimit => NO_LIMIT.to_owned(),
            Limit::Within(max) => format!("up to {max}"),
        };
        let categories = ids_of(&self.categories, CategoryId::as_str);
        let mailboxes = ids_of(&self.mailboxes, MailboxId::as_str);
        format!("classification {classification}, categories {categories}, mailboxes {mailboxes}")
    }
}

const NO_LIMIT: &str = "no limit";

fn ids_of<T>(limit: &Limit<Vec<T>>, id: impl Fn(&T) -> &str) -> String {
    match limit {
        Limit::NoLimit => NO_LIMIT.to_owned(),
        Limit::Within(ids) if ids.is_empty() => "none".to_owned(),
        Limit::Within(ids) => ids.iter().map(id).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::sample;
    use super::*;

    /// Checks a person with these lines in the list against a cable.
    fn check(limits: &str, label: &str, to: &[&str]) -> Result<(), LimitKind> {
        let person = "id = \"c.officer\"\n";
        let list = sample::list_with(person, &format!("{person}{limits}"));
        let person = list.person(&"c.officer".parse().unwrap()).unwrap();
        let to: Vec<MailboxId> = to.iter().map(|id| id.parse().unwrap()).collect();
        list.check_need_to_know(person, &label.parse().unwrap(), &to)
    }

    #[test]
    fn a_person_without_limits_may_know_everything() {
        assert_eq!(check("", "SECRET CRISIS NUCLEAR", &["registry"]), Ok(()));
    }

    #[test]
    fn the_classification_is_at_most_the_limit() {
        let limits = "classification-max = \"RESTRICTED\"\n";
        let registry = &["registry"];
        assert_eq!(check(limits, "OPEN", registry), Ok(()));
        assert_eq!(check(limits, "RESTRICTED NUCLEAR", registry), Ok(()));
        for beyond in ["SECRET", "UNKNOWN"] {
            let refused = check(limits, beyond, registry);
            assert_eq!(refused, Err(LimitKind::Classification), "{beyond}");
        }
    }

    #[test]
    fn every_category_and_every_mailbox_is_within_the_limit() {
        let limits = "categories = [\"LIMITE\", \"CRISIS\"]\nmailboxes = [\"paris-desk\"]\n";
        let paris = &["paris-desk"];
        for label in ["OPEN", "OPEN LIMITE", "SECRET CRISIS LIMITE"] {
            assert_eq!(check(limits, label, paris), Ok(()), "{label}");
        }
        for label in ["OPEN NUCLEAR", "OPEN CRISIS LIMITE NUCLEAR"] {
            assert_eq!(check(limits, label, paris), Err(LimitKind::Categories));
        }
        for to in [&["registry"][..], &["paris-desk", "registry"]] {
            assert_eq!(check(limits, "OPEN", to), Err(LimitKind::Mailboxes));
        }
    }

    #[test]
    fn a_limit_has_the_name_of_what_it_limits() {
        use LimitKind::{Categories, Classification, Mailboxes};
        let names = [Classification, Categories, Mailboxes].map(|kind| kind.to_string());
        assert_eq!(names, ["classification", "categories", "mailboxes"]);
    }

    #[test]
    fn an_empty_limit_is_not_an_absent_one() {
        let limits = "categories = []\n";
        assert_eq!(check(limits, "SECRET", &["registry"]), Ok(()));
        let refused = check(limits, "OPEN LIMITE", &["registry"]);
        assert_eq!(refused, Err(LimitKind::Categories));
        let refused = check("mailboxes = []\n", "OPEN", &["registry"]);
        assert_eq!(refused, Err(LimitKind::Mailboxes));
    }
}
