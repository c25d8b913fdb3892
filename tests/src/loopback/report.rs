//! The report of `valise-loopback`.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;
use valise_common::units::{ByteSize, count_of};

use crate::harness::{Link, Settings};
use crate::wire::WireStatistics;

/// Above this number of cables, only failures are reported one by one.
const TOLD_ONE_BY_ONE: usize = 20;

/// A state that a cable reached.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// The state, in the words of the architecture.
    pub state: String,
    /// The time, in seconds since the harness began to submit.
    pub at_s: f64,
}

/// An approval in the folder of a released cable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// The officer.
    pub person: String,
    /// The kind of the key: of a token, or in software.
    pub key_kind: String,
}

/// One cable.
#[derive(Debug, Clone, Serialize)]
pub struct CableReport {
    /// The file's name, or the generated one's.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its precedence.
    pub precedence: String,
    /// Its message-id.
    pub message_id: String,
    /// Its serial, once that is known.
    pub serial: Option<u64>,
    /// The states that it reached.
    pub steps: Vec<Step>,
    /// Its approvals, as the receiver released them.
    pub approvals: Vec<Approval>,
    /// From its submission to its release.
    pub seconds: Option<f64>,
    /// From its last approval to its release.
    pub link_seconds: Option<f64>,
    /// The reason why it did not arrive correctly, if so.
    pub failure: Option<String>,
}

/// The speed of the link. Its kind determines the unit of the line's counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "link", rename_all = "lowercase")]
pub enum LinkReport {
    /// Over UDP: the counts are datagrams.
    Udp {
        /// The sender's rate.
        rate: String,
    },
    /// On a serial line: the counts are bytes.
    Serial {
        /// The line's speed.
        baud: u32,
    },
}

impl LinkReport {
    /// The link of a world.
    pub fn of(settings: &Settings) -> Self {
        match settings.link {
            Link::Udp => Self::Udp {
                rate: settings.rate.clone(),
            },
            Link::Serial { baud } => Self::Serial { baud },
        }
    }
}

impl fmt::Display for LinkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp { rate } => f.write_str(rate),
            Self::Serial { baud } => write!(f, "{baud} baud"),
        }
    }
}

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether every cable arrived once and unchanged.
    pub ok: bool,
    /// The cables, in the order of their submission.
    pub cables: Vec<CableReport>,
    /// Faults that do not concern single cables.
    pub failures: Vec<String>,
    /// The statistics of the line.
    pub wire: WireStatistics,
    /// Bytes of all cables.
    pub body_bytes: u64,
    /// From the first submission to the last release.
    pub elapsed_s: f64,
    /// The link.
    #[serde(flatten)]
    pub link: LinkReport,
    /// Passes.
    pub passes: u8,
    /// Repair of each pass.
    pub repair: String,
    /// The burst that interleaving covers.
    pub interleave: String,
    /// The counters of `receive`.
    pub receiver: serde_json::Value,
}

impl Report {
    /// The summary for a person.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        let all = self.cables.len() <= TOLD_ONE_BY_ONE;
        for cable in self
            .cables
            .iter()
            .filter(|cable| all || cable.failure.is_some())
        {
            cable.write(text)?;
        }
        let arrived = self
            .cables
            .iter()
            .filter(|cable| cable.failure.is_none())
            .count();
        if !all {
            let mut times: Vec<f64> = self
                .cables
                .iter()
                .filter_map(|cable| cable.link_seconds)
                .collect();
            times.sort_by(f64::total_cmp);
            if let (Some(least), Some(most)) = (times.first(), times.last()) {
                writeln!(
                    text,
                    "last approval to release: {} to {}, median {}",
                    seconds(*least),
                    seconds(*most),
                    seconds(times[times.len() / 2])
                )?;
            }
        }
        self.write_line(text)?;
        for failure in &self.failures {
            writeln!(text, "WRONG: {failure}")?;
        }
        writeln!(
            text,
            "{}: {arrived} of {} arrived once and unchanged, {} in {}",
            if self.ok { "green" } else { "RED" },
            count_of(self.cables.len(), "cable"),
            size(self.body_bytes),
            seconds(self.elapsed_s),
        )
    }

    fn write_line(&self, text: &mut String) -> fmt::Result {
        let wire = &self.wire;
        // One byte in 10,000 is a lot, and one datagram in 10,000 is little.
        let (unit, run, decimals) = match self.link {
            LinkReport::Udp { .. } => ("datagram", "burst", 2),
            LinkReport::Serial { .. } => ("byte", "stretch", 4),
        };
        let share = |count: u64| match wire.received {
            0 => "0 %".to_owned(),
            all => format!("{:.decimals$} %", 100.0 * ratio(count, all)),
        };
        writeln!(
            text,
            "the line: {} sent, {} lost ({}, {} of {:.1} on average, {} at most),",
            count_of(wire.received, unit),
            wire.lost,
            share(wire.lost),
            count_of(wire.bursts, run),
            ratio(wire.lost, wire.bursts.max(1)),
            wire.longest_burst,
        )?;
        let reordered = match self.link {
            LinkReport::Udp { .. } => {
                format!("{} reordered ({}), ", wire.reordered, share(wire.reordered))
            }
            LinkReport::Serial { .. } => String::new(),
        };
        writeln!(
            text,
            "          {reordered}{} duplicated ({}), {} corrupted ({})",
            wire.duplicated,
            share(wire.duplicated),
            wire.corrupted,
            share(wire.corrupted),
        )?;
        if wire.overrun > 0 {
            writeln!(
                text,
                "          {} overran the harness's own wire",
                count_of(wire.overrun, "batch")
            )?;
        }
        let overhead = ratio(wire.received_bytes, self.body_bytes.max(1));
        writeln!(
            text,
            "the link: {}, repair {} in each of {}, interleaved over {}; {} sent, {overhead:.2} \
             bytes for each of the cables'",
            self.link,
            self.repair,
            count_of(self.passes, "pass"),
            self.interleave,
            size(wire.received_bytes),
        )?;
        if let Some(counters) = self
            .receiver
            .get("counters")
            .and_then(|value| value.as_object())
        {
            let told: Vec<String> = counters
                .iter()
                .filter(|(_, value)| value.as_u64().is_some_and(|count| count > 0))
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            if !told.is_empty() {
                writeln!(text, "receive:  {}", told.join(", "))?;
            }
        }
        Ok(())
    }
}

impl CableReport {
    fn write(&self, text: &mut String) -> fmt::Result {
        let serial = self
            .serial
            .map_or("-".to_owned(), |serial| serial.to_string());
        writeln!(
            text,
            "serial {serial}: {} ({}, {}), message-id {}",
            self.file,
            size(self.bytes),
            self.precedence.to_uppercase(),
            self.message_id
        )?;
        let mut column = 0;
        for (index, step) in self.steps.iter().enumerate() {
            let told = format!("{} {}", step.state, seconds(step.at_s));
            if index == 0 {
                text.push_str("  ");
            } else if column > 70 {
                text.push_str("\n    → ");
                column = 0;
            } else {
                text.push_str(" → ");
            }
            column += told.len() + 3;
            text.push_str(&told);
        }
        text.push('\n');
        if !self.approvals.is_empty() {
            let told: Vec<String> = self
                .approvals
                .iter()
                .map(|approval| format!("{} ({})", approval.person, approval.key_kind))
                .collect();
            writeln!(text, "  approved by {}", told.join(", "))?;
        }
        match (&self.failure, self.seconds, self.link_seconds) {
            (Some(failure), _, _) => writeln!(text, "  FAILED: {failure}"),
            (None, Some(whole), Some(link)) => writeln!(
                text,
                "  every byte equal; {} from submission, {} from the last approval",
                seconds(whole),
                seconds(link)
            ),
            _ => Ok(()),
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    #[allow(clippy::as_conversions)]
    // It is shown with two decimals, so the rounding above 2^53 does no harm.
    let ratio = part as f64 / whole as f64;
    ratio
}

fn seconds(value: f64) -> String {
    let time = Duration::try_from_secs_f64(value).unwrap_or_default();
    match time {
        time if time < Duration::from_secs(1) => format!("{} ms", time.as_millis()),
        time => format!("{:.2} s", time.as_secs_f64()),
    }
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).rough()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(failure: Option<&str>) -> Report {
        let cable = CableReport {
            file: "telegram.txt".into(),
            bytes: 664,
            precedence: "flash".into(),
            message_id: "00".into(),
            serial: Some(7),
            steps: vec![
                Step {
                    state: "submitted".into(),
                    at_s: 0.012,
                },
                Step {
                    state: "released".into(),
                    at_s: 1.5,
                },
            ],
            approvals: vec![Approval {
                person: "o.one".into(),
                key_kind: "ssh-ed25519".into(),
            }],
            seconds: Some(1.488),
            link_seconds: Some(1.4),
            failure: failure.map(str::to_owned),
        };
        Report {
            ok: failure.is_none(),
            cables: vec![cable],
            failures: Vec::new(),
            wire: WireStatistics {
                received: 100,
                lost: 5,
                bursts: 2,
                ..Default::default()
            },
            body_bytes: 664,
            elapsed_s: 1.5,
            link: LinkReport::Udp {
                rate: "100 Mbit/s".into(),
            },
            passes: 2,
            repair: "25 %".into(),
            interleave: "20 ms".into(),
            receiver: serde_json::json!({"counters": {"forged": 3, "short": 0}}),
        }
    }

    #[test]
    fn a_summary_tells_the_way_the_time_and_the_line() {
        let text = report(None).summary();
        for part in [
            "serial 7: telegram.txt (664 bytes, FLASH)",
            "submitted 12 ms → released 1.50 s",
            "approved by o.one (ssh-ed25519)\n",
            "5 lost (5.00 %, 2 bursts of 2.5 on average",
            "receive:  forged 3\n",
            "green: 1 of 1 cable arrived",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_serial_line_is_told_in_bytes_and_baud() {
        let report = Report {
            link: LinkReport::Serial { baud: 9_600 },
            ..report(None)
        };
        let text = report.summary();
        for part in [
            "the line: 100 bytes sent, 5 lost (5.0000 %, 2 stretches of 2.5 on average",
            "\n          0 duplicated",
            "the link: 9600 baud, repair 25 %",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("reordered"), "{text}");
        let json = serde_json::to_value(&report).expect("numbers and texts");
        assert_eq!(
            (&json["link"], &json["baud"]),
            (&"serial".into(), &9_600.into())
        );
    }

    #[test]
    fn a_failure_is_told_in_red() {
        let text = report(Some("it did not arrive")).summary();
        assert!(text.contains("FAILED: it did not arrive"));
        assert!(text.contains("RED: 0 of 1"));
    }
}
