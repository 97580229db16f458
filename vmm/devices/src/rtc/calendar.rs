//! Seconds since 1970 to date and time of day, and the registers' formats of both.

use super::spec::{AFTERNOON, ControlB};

/// Seconds in a day.
pub(super) const DAY_SECONDS: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;
/// Days in 400 years.
const ERA_DAYS: i64 = 146_097;

/// A moment, broken down. All fields count as people do: months and days from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct DateTime {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
}

impl DateTime {
    /// The moment `seconds` after 1970-01-01 00:00:00 UTC.
    pub(super) fn from_unix(seconds: i64) -> Self {
        let (days, in_day) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
        // Years that begin on 1 March have the leap day last, so that months have a closed form.
        let days = days + EPOCH_DAYS;
        let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / (ERA_DAYS - 1)) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: in_day / 3600,
            minute: in_day / 60 % 60,
            second: in_day % 60,
        }
    }

    /// Seconds from 1970-01-01 00:00:00 UTC. Fields out of range are clamped into it.
    pub(super) fn to_unix(self) -> i64 {
        let (month, day) = (self.month.clamp(1, 12), self.day.clamp(1, 31));
        let year = self.year - i64::from(month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let month_from_march = (month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
        let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * ERA_DAYS + day_of_era - EPOCH_DAYS;
        let (hour, minute) = (self.hour.clamp(0, 23), self.minute.clamp(0, 59));
        days * DAY_SECONDS + hour * 3600 + minute * 60 + self.second.clamp(0, 59)
    }
}

/// The weekday of a moment, 0 for Sunday.
pub(super) fn weekday(unix_seconds: i64) -> i64 {
    // 1970-01-01 was a Thursday.
    (unix_seconds.div_euclid(DAY_SECONDS) + 4).rem_euclid(7)
}

/// `value`, 0 to 99, in the registers' number format.
pub(super) fn encode(value: i64, format: ControlB) -> u8 {
    let value = u8::try_from(value.rem_euclid(100)).unwrap_or(0);
    if format.contains(ControlB::BINARY) { value } else { ((value / 10) << 4) | (value % 10) }
}

/// The number in a register; digits above 9 count as what they are.
pub(super) fn decode(register: u8, format: ControlB) -> i64 {
    if format.contains(ControlB::BINARY) {
        i64::from(register)
    } else {
        i64::from(register >> 4) * 10 + i64::from(register & 15)
    }
}

/// `hour`, 0 to 23, in the hours register's format.
pub(super) fn encode_hour(hour: i64, format: ControlB) -> u8 {
    if format.contains(ControlB::HOURS_24) {
        return encode(hour, format);
    }
    let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
    encode(twelve, format) | if hour >= 12 { AFTERNOON } else { 0 }
}

/// The hour in an hours register.
pub(super) fn decode_hour(register: u8, format: ControlB) -> i64 {
    if format.contains(ControlB::HOURS_24) {
        return decode(register, format);
    }
    let twelve = decode(register & !AFTERNOON, format);
    let hour = if twelve == 12 { 0 } else { twelve };
    if register & AFTERNOON != 0 { hour + 12 } else { hour }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments_break_down_as_calendars_say() {
        let moment =
            |year, month, day, hour, minute, second| DateTime { year, month, day, hour, minute, second };
        assert_eq!(DateTime::from_unix(0), moment(1970, 1, 1, 0, 0, 0));
        assert_eq!(DateTime::from_unix(951_782_400), moment(2000, 2, 29, 0, 0, 0));
        assert_eq!(DateTime::from_unix(1_795_210_162), moment(2026, 11, 20, 21, 29, 22));
        assert_eq!(DateTime::from_unix(-1), moment(1969, 12, 31, 23, 59, 59));
        // 2026-11-20 was a Friday.
        assert_eq!(weekday(1_795_210_162), 5);
    }

    #[test]
    fn twelve_hour_registers_have_no_hour_zero() {
        let twelve = ControlB::empty();
        assert_eq!(encode_hour(0, twelve), 0x12);
        assert_eq!(encode_hour(12, twelve), 0x12 | AFTERNOON);
        assert_eq!(encode_hour(23, twelve), 0x11 | AFTERNOON);
        for hour in 0..24 {
            for format in
                [twelve, ControlB::BINARY, ControlB::HOURS_24, ControlB::HOURS_24 | ControlB::BINARY]
            {
                assert_eq!(decode_hour(encode_hour(hour, format), format), hour);
            }
        }
    }

    proptest! {
        #[test]
        fn breaking_down_and_putting_together_are_inverse(seconds in -62_167_219_200_i64..253_402_300_800) {
            prop_assert_eq!(DateTime::from_unix(seconds).to_unix(), seconds);
        }

        #[test]
        fn the_next_second_is_one_later(seconds in 0_i64..4_102_444_800) {
            let (before, after) = (DateTime::from_unix(seconds), DateTime::from_unix(seconds + 1));
            prop_assert_eq!((before.second + 1) % 60, after.second);
            prop_assert!((1..=31).contains(&after.day) && (1..=12).contains(&after.month));
        }
    }
}
