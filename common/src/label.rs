//! A cable's label: one classification and the categories that restrict who may have it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::ids::{CategoryId, ClassificationId, IdError};
use crate::limits;

/// Why a text is no label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LabelError {
    /// One of its words is no id.
    #[error("a label is a classification and its categories, one space between them: {0}")]
    Id(#[from] IdError),
    /// Categories repeat or are not in byte order.
    #[error("the categories of a label are unique and in byte order")]
    Order,
    /// More categories than allowed.
    #[error("a label has at most {} categories", limits::CATEGORIES_MAX)]
    TooMany,
}

/// A classification, then 0 to 16 categories, unique and in byte order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Label {
    classification: ClassificationId,
    categories: Vec<CategoryId>,
}

impl Label {
    /// Puts a label together; categories may come in any order.
    ///
    /// # Errors
    /// [`LabelError`] when categories repeat or are too many.
    pub fn new(
        classification: ClassificationId,
        mut categories: Vec<CategoryId>,
    ) -> Result<Self, LabelError> {
        if categories.len() > limits::CATEGORIES_MAX {
            return Err(LabelError::TooMany);
        }
        categories.sort();
        if categories.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(LabelError::Order);
        }
        Ok(Self {
            classification,
            categories,
        })
    }

    /// As [`FromStr`], for what a person types: any white space, categories in any order.
    ///
    /// # Errors
    /// [`LabelError`] as for [`Label::new`].
    pub fn parse_relaxed(text: &str) -> Result<Self, LabelError> {
        let mut words = text.split_whitespace();
        let classification = words.next().unwrap_or_default().parse()?;
        let categories = words.map(str::parse).collect::<Result<Vec<_>, _>>()?;
        Self::new(classification, categories)
    }

    /// Returns the classification's id.
    pub fn classification(&self) -> &ClassificationId {
        &self.classification
    }

    /// Returns the categories' ids in byte order.
    pub fn categories(&self) -> &[CategoryId] {
        &self.categories
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.classification)?;
        self.categories
            .iter()
            .try_for_each(|category| write!(f, " {category}"))
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let mut words = text.split(' ');
        let classification = words.next().unwrap_or_default().parse()?;
        let categories = words
            .map(str::parse)
            .collect::<Result<Vec<CategoryId>, _>>()?;
        if categories.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(LabelError::Order);
        }
        Self::new(classification, categories)
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_strict_label_round_trips() {
        for text in ["EU-RESTRICTED", "EU-RESTRICTED CRISIS LIMITE"] {
            assert_eq!(text.parse::<Label>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn order_repetition_and_spacing_are_refused() {
        for text in ["", " EU", "EU ", "EU  A", "EU B A", "EU A A", "EU a"] {
            assert!(text.parse::<Label>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_a_person_types_is_put_in_order() {
        assert_eq!(
            Label::parse_relaxed("EU  B\tA").unwrap().to_string(),
            "EU A B"
        );
        assert!(Label::parse_relaxed("EU A A").is_err());
        assert!(Label::parse_relaxed("").is_err());
    }

    #[test]
    fn seventeen_categories_are_too_many() {
        let text = (0..17).fold("EU".to_owned(), |text, i| format!("{text} C{i:02}"));
        assert_eq!(text.parse::<Label>(), Err(LabelError::TooMany));
    }
}
