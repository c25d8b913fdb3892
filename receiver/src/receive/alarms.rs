//! The standing alarms of `receive`. It has no alarm command: `release` reads them in the view, and reports them as its own.

use std::collections::BTreeMap;

use valise_common::units::UtcTime;

use crate::io::view::AlarmView;

/// The standing alarms.
///
/// # Bounds
/// One entry a code.
#[derive(Debug, Default)]
pub struct Alarms {
    standing: BTreeMap<&'static str, (UtcTime, String)>,
}

impl Alarms {
    /// Raises an alarm with its newest text, or ends it if there is none.
    pub fn set(&mut self, code: &'static str, now: UtcTime, text: Option<String>) {
        let Some(text) = text else {
            if self.standing.remove(code).is_some() {
                tracing::info!(alarm = code, "the cause of the alarm is gone");
            }
            return;
        };
        match self.standing.get_mut(code) {
            Some((_, standing)) => *standing = text,
            None => {
                tracing::warn!(alarm = code, "{text}");
                self.standing.insert(code, (now, text));
            }
        }
    }

    /// Returns the alarms for the view.
    pub fn views(&self) -> Vec<AlarmView> {
        let view = |(code, (since, text)): (&&str, &(UtcTime, String))| AlarmView {
            code: (*code).to_owned(),
            text: text.clone(),
            since: *since,
        };
        self.standing.iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_keeps_its_beginning_and_shows_its_newest_text() {
        let mut alarms = Alarms::default();
        for second in [5, 6] {
            alarms.set("egress", UtcTime::from_s(second), Some(second.to_string()));
        }
        let views = alarms.views();
        assert_eq!(views.len(), 1);
        assert_eq!(
            (views[0].since, views[0].text.as_str()),
            (UtcTime::from_s(5), "6")
        );
        alarms.set("egress", UtcTime::from_s(7), None);
        assert!(alarms.views().is_empty());
    }
}
