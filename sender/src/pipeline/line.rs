//! Warm-up and run-down of the link: real diodes lose the first and the last datagrams of a transfer, so cover goes first
//! and last.

/// What the link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Silent.
    Idle,
    /// So much cover has yet to leave before the first symbol.
    Leading(u32),
    /// Warm.
    Busy,
    /// So much cover has yet to leave after the last symbol.
    Trailing(u32),
}

/// What leaves next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// So many datagrams of cover.
    Cover(u32),
    /// A beacon or symbols.
    Traffic,
    /// Nothing.
    Silence,
}

/// What there is to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// A beacon or symbols.
    Traffic,
    /// Nothing.
    Nothing,
}

/// The link's warm-up and run-down.
#[derive(Debug)]
pub(super) struct Line {
    state: State,
    lead_count: u32,
}

impl Line {
    /// Creates a silent link.
    ///
    /// # Shape
    /// `lead_count`: datagrams of cover before the first symbol and after the last.
    pub(super) fn new(lead_count: u32) -> Self {
        Self {
            state: State::Idle,
            lead_count,
        }
    }

    /// The link was down: it warms up again.
    pub(super) fn restart(&mut self) {
        self.state = State::Idle;
    }

    /// Returns whether a batch must leave although there may be nothing to send.
    pub(super) fn is_running_down(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// What leaves next, at most `room` datagrams.
    pub(super) fn next(&mut self, demand: Demand, room: u32) -> Next {
        loop {
            match (self.state, demand) {
                (State::Idle, Demand::Nothing) => return Next::Silence,
                (State::Idle, Demand::Traffic) => self.state = State::Leading(self.lead_count),
                (State::Leading(0), _) | (State::Trailing(_), Demand::Traffic) => {
                    self.state = State::Busy;
                }
                (State::Leading(left), _) => {
                    let count = left.min(room);
                    self.state = State::Leading(left - count);
                    return Next::Cover(count);
                }
                (State::Busy, Demand::Traffic) => return Next::Traffic,
                (State::Busy, Demand::Nothing) => self.state = State::Trailing(self.lead_count),
                (State::Trailing(0), Demand::Nothing) => self.state = State::Idle,
                (State::Trailing(left), Demand::Nothing) => {
                    let count = left.min(room);
                    self.state = State::Trailing(left - count);
                    return Next::Cover(count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions)]
    use super::*;

    #[test]
    fn cover_goes_before_the_first_symbol_and_behind_the_last() {
        let mut line = Line::new(8);
        assert_eq!(line.next(Demand::Nothing, 5), Next::Silence);
        assert_eq!(line.next(Demand::Traffic, 5), Next::Cover(5));
        assert_eq!(line.next(Demand::Traffic, 5), Next::Cover(3));
        assert_eq!(line.next(Demand::Traffic, 5), Next::Traffic);
        assert_eq!(line.next(Demand::Traffic, 5), Next::Traffic);
        assert!(line.is_running_down());
        assert_eq!(line.next(Demand::Nothing, 5), Next::Cover(5));
        assert_eq!(line.next(Demand::Nothing, 5), Next::Cover(3));
        assert_eq!(line.next(Demand::Nothing, 5), Next::Silence);
        assert!(!line.is_running_down());
    }

    #[test]
    fn a_warm_link_takes_symbols_at_once() {
        let mut line = Line::new(8);
        line.next(Demand::Traffic, 44);
        assert_eq!(line.next(Demand::Traffic, 44), Next::Traffic);
        assert_eq!(line.next(Demand::Nothing, 2), Next::Cover(2));
        assert_eq!(line.next(Demand::Traffic, 2), Next::Traffic);
        assert_eq!(
            line.next(Demand::Nothing, 44),
            Next::Cover(8),
            "the last symbol is another"
        );
    }
}
