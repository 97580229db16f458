//! When the alarm registers match next.

use super::calendar::{DAY_SECONDS, decode, decode_hour};
use super::spec::{ALARM_ANY, ControlB};

/// What one alarm register matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Match {
    Any,
    Only(i64),
}

impl Match {
    fn accepts(self, value: i64) -> bool {
        match self {
            Self::Any => true,
            Self::Only(wanted) => wanted == value,
        }
    }

    /// Whether some value below `limit` is accepted.
    fn is_possible(self, limit: i64) -> bool {
        match self {
            Self::Any => true,
            Self::Only(wanted) => (0..limit).contains(&wanted),
        }
    }
}

/// The times of day at which the alarm goes off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Alarm {
    hour: Match,
    minute: Match,
    second: Match,
}

impl Alarm {
    /// From the three alarm registers. The afternoon bit of a 12-hour alarm is part of its hour; with the next
    /// bit it means any hour.
    pub(super) fn new(hour: u8, minute: u8, second: u8, format: ControlB) -> Self {
        let parse = |register: u8, value: i64| {
            if register & ALARM_ANY == ALARM_ANY { Match::Any } else { Match::Only(value) }
        };
        Self {
            hour: parse(hour, decode_hour(hour, format)),
            minute: parse(minute, decode(minute, format)),
            second: parse(second, decode(second, format)),
        }
    }

    /// Seconds from `second_of_day` to the next match, 1 to a day, `None` if no time of day matches.
    pub(super) fn seconds_until(self, second_of_day: i64) -> Option<i64> {
        if !(self.hour.is_possible(24) && self.minute.is_possible(60) && self.second.is_possible(60)) {
            return None;
        }
        let start = (second_of_day + 1).rem_euclid(DAY_SECONDS);
        let mut hour_start = start / 3600 * 3600;
        // Every inner search that begins at zero succeeds, so each loop runs out at most once.
        for _ in 0..=24 {
            if self.hour.accepts(hour_start / 3600 % 24)
                && let Some(found) = self.within_hour(hour_start, start)
            {
                return Some(found - start + 1);
            }
            hour_start += 3600;
        }
        None
    }

    /// The first match in the hour from `hour_start` that is not before `earliest`.
    fn within_hour(self, hour_start: i64, earliest: i64) -> Option<i64> {
        (0..60)
            .filter(|&minute| self.minute.accepts(minute))
            .map(|minute| hour_start + minute * 60)
            .filter(|minute_start| minute_start + 60 > earliest)
            .find_map(|minute_start| {
                (0..60)
                    .filter(|&second| self.second.accepts(second))
                    .map(|second| minute_start + second)
                    .find(|&time| time >= earliest)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BCD_24: ControlB = ControlB::HOURS_24;

    #[test]
    fn an_exact_alarm_is_found_today_or_tomorrow() {
        let alarm = Alarm::new(0x07, 0x30, 0x00, BCD_24);
        assert_eq!(alarm.seconds_until(7 * 3600 + 30 * 60 - 1), Some(1));
        assert_eq!(alarm.seconds_until(7 * 3600 + 30 * 60), Some(DAY_SECONDS));
    }

    #[test]
    fn wildcards_match_every_second_and_impossible_times_never() {
        assert_eq!(Alarm::new(0xff, 0xc0, 0xff, BCD_24).seconds_until(5), Some(1));
        assert_eq!(Alarm::new(0xff, 0xff, 0x00, BCD_24).seconds_until(61), Some(59));
        assert_eq!(Alarm::new(0xff, 0x77, 0xff, BCD_24).seconds_until(0), None);
    }

    proptest! {
        #[test]
        fn the_answer_is_the_first_match(hour: u8, minute: u8, second: u8, now in 0_i64..DAY_SECONDS) {
            let alarm = Alarm::new(hour, minute, second, BCD_24);
            let matches = |time: i64| {
                let time = time.rem_euclid(DAY_SECONDS);
                alarm.hour.accepts(time / 3600)
                    && alarm.minute.accepts(time / 60 % 60)
                    && alarm.second.accepts(time % 60)
            };
            let first = (1..=DAY_SECONDS).find(|delay| matches(now + delay));
            prop_assert_eq!(alarm.seconds_until(now), first);
        }
    }
}
