//! Frames that leave by the interface of the link. `receive` sends none, but the kernel may: answers to ARP and neighbour
//! discovery, ICMP, IPv6's own announcements. An isolated host must send nothing, and an operator should know if it does.

use valise_common::alarm::Cause;
use valise_common::units::Mono;

use crate::spool::net_tables::Count;

/// The alarm ends when the interface has sent nothing for so long.
const QUIET_US: u64 = 3_600 * 1_000_000;

/// Frames that have left since the process started.
#[derive(Debug, Default)]
pub(super) struct Egress {
    last: Option<Count>,
    sent: u64,
    rose_at: Option<Mono>,
}

impl Egress {
    /// Takes the newest count, if the interface is known.
    pub(super) fn handle_count(&mut self, now: Mono, count: Option<Count>) {
        let Some(count) = count else { return };
        if let Some(last) = &self.last
            && last.interface == count.interface
            && last.packets < count.packets
        {
            self.sent = self.sent.saturating_add(count.packets - last.packets);
            self.rose_at = Some(now);
        }
        self.last = Some(count);
    }

    /// Returns the text of the alarm, if a frame has left lately.
    pub(super) fn alarm(&self, now: Mono) -> Option<Cause> {
        let interface = &self.last.as_ref()?.interface;
        let is_recent = |rose_at: Mono| now.since_us(rose_at) < QUIET_US;
        self.rose_at.is_some_and(is_recent).then(|| {
            let repair = format!("sudo systemctl enable --now valise-receiver-silence@{interface}");
            let text = format!(
                "{} frames have left this isolated host through {interface} since receive started, the last within the \
                 hour; receive sends none: the kernel does, or another program that uses {interface}",
                self.sent
            );
            Cause::repaired_by(text, repair)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn count(packets: u64) -> Option<Count> {
        let interface = "diode0".to_owned();
        Some(Count { interface, packets })
    }

    #[test]
    fn frames_are_an_alarm_until_none_has_left_for_an_hour() {
        let mut egress = Egress::default();
        // What left before the start is not its matter.
        egress.handle_count(Mono(0), count(40));
        egress.handle_count(Mono(1), count(40));
        assert_eq!(egress.alarm(Mono(1)), None);
        egress.handle_count(Mono(2), count(43));
        egress.handle_count(Mono(3), None);
        let Cause { text, repair } = egress.alarm(Mono(4)).unwrap();
        assert!(text.starts_with("3 frames"), "{text}");
        assert!(repair.unwrap().ends_with("valise-receiver-silence@diode0"));
        assert_eq!(egress.alarm(Mono(2 + QUIET_US)), None);
        // An interface that was made anew counts from 0 again.
        egress.handle_count(Mono(3 + QUIET_US), count(0));
        assert_eq!(egress.alarm(Mono(3 + QUIET_US)), None);
    }
}
