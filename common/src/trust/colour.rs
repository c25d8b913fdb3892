//! The colour of a classification's banner.

use std::fmt;

use serde::Deserialize;

/// A colour that a list may give a classification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// `white`
    White,
    /// `green`
    Green,
    /// `blue`
    Blue,
    /// `purple`
    Purple,
    /// `red`
    Red,
    /// `orange`
    Orange,
    /// `yellow`
    Yellow,
}

impl Colour {
    /// Returns the word of the list.
    pub fn as_str(self) -> &'static str {
        match self {
            Colour::White => "white",
            Colour::Green => "green",
            Colour::Blue => "blue",
            Colour::Purple => "purple",
            Colour::Red => "red",
            Colour::Orange => "orange",
            Colour::Yellow => "yellow",
        }
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
