//! One row of the table: samples, and their bar and aim.

use serde::Serialize;

/// The requirement for a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Bar {
    /// More is better.
    AtLeast {
        /// The least value.
        bar: f64,
        /// The goal.
        aim: f64,
    },
    /// Less is better.
    AtMost {
        /// The greatest value.
        bar: f64,
        /// The goal.
        aim: f64,
    },
    /// Measured for information.
    None,
}

/// The samples of one row.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// The name of the figure.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// The conditions of the measurement.
    pub with: String,
    /// One number for each run, in the order of the runs.
    pub samples: Vec<f64>,
    /// Runs in which the transfer did not succeed.
    pub failures: u32,
    /// Its requirement.
    pub bar: Bar,
}

impl Figure {
    /// A row without samples yet.
    pub fn new(name: impl Into<String>, unit: &'static str, with: impl Into<String>) -> Self {
        let (name, with) = (name.into(), with.into());
        Self {
            name,
            unit,
            with,
            samples: Vec::new(),
            failures: 0,
            bar: Bar::None,
        }
    }

    /// Sets the requirement.
    #[must_use]
    pub fn at_least(mut self, bar: f64, aim: f64) -> Self {
        self.bar = Bar::AtLeast { bar, aim };
        self
    }

    /// Sets the requirement.
    #[must_use]
    pub fn at_most(mut self, bar: f64, aim: f64) -> Self {
        self.bar = Bar::AtMost { bar, aim };
        self
    }

    /// Returns the sample below which the share `share` of all samples is; `None` without samples.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        #[allow(
            clippy::as_conversions,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let index = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
        sorted.get(index).copied()
    }

    /// The median; of an even number of samples, the mean of the two in the middle.
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        if sorted.len().is_multiple_of(2) {
            return Some(f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, upper));
        }
        Some(upper)
    }

    /// Compares the median with the bar and the aim.
    pub fn verdict(&self) -> &'static str {
        let Some(median) = self.median() else {
            return "no run succeeded";
        };
        match self.bar {
            Bar::None => "",
            _ if self.failures > 0 => "FAILURES",
            Bar::AtLeast { aim, .. } if median >= aim => "aim reached",
            Bar::AtLeast { bar, .. } if median >= bar => "bar reached",
            Bar::AtMost { aim, .. } if median <= aim => "aim reached",
            Bar::AtMost { bar, .. } if median <= bar => "bar reached",
            _ => "falls short",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_range_are_those_of_the_samples() {
        let mut figure = Figure::new("x", "s", "").at_most(3.0, 1.0);
        assert_eq!(
            (figure.median(), figure.verdict()),
            (None, "no run succeeded")
        );
        figure.samples = vec![5.0, 1.0, 2.0];
        assert_eq!(figure.median(), Some(2.0));
        assert_eq!(
            (figure.quantile(0.0), figure.quantile(1.0)),
            (Some(1.0), Some(5.0))
        );
        assert_eq!(figure.verdict(), "bar reached");
        figure.samples.push(4.0);
        assert_eq!(figure.median(), Some(3.0), "between the two in the middle");
        figure.failures = 1;
        assert_eq!(figure.verdict(), "FAILURES");
    }

    #[test]
    fn more_may_be_better() {
        let mut figure = Figure::new("x", "MB/s", "").at_least(400.0, 680.0);
        for (sample, verdict) in [
            (399.0, "falls short"),
            (400.0, "bar reached"),
            (700.0, "aim reached"),
        ] {
            figure.samples = vec![sample];
            assert_eq!(figure.verdict(), verdict);
        }
    }
}
