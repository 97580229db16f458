//! Numbers as an operator wants to read them.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = format!("{number}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in the largest unit in which it is whole, or with one decimal.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        let whole = number >> shift;
        if whole > 0 {
            let tenths = ((number - (whole << shift)) * 10) >> shift;
            return if tenths == 0 { format!("{whole} {unit}") } else { format!("{whole}.{tenths} {unit}") };
        }
    }
    format!("{number} B")
}

/// `part` of `total` in percent with one decimal, rounded; "-" when there is no total.
pub(crate) fn share(part: u64, total: u64) -> String {
    if total == 0 {
        return String::from("-");
    }
    let permille = (u128::from(part) * 1000 + u128::from(total) / 2) / u128::from(total);
    format!("{}.{} %", permille / 10, permille % 10)
}

/// The average of `sum` over `count`, rounded; "-" when there is nothing to average.
pub(crate) fn average(sum: u64, count: u64) -> String {
    if count == 0 {
        return String::from("-");
    }
    grouped(sum.saturating_add(count / 2) / count)
}

/// A duration in its two largest units: "4.2 s", "3 min 07 s", "2 h 05 min", "3 d 04 h".
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    if minutes == 0 {
        format!("{seconds}.{} s", time.subsec_millis() / 100)
    } else if hours == 0 {
        format!("{minutes} min {:02} s", seconds % 60)
    } else if days == 0 {
        format!("{hours} h {:02} min", minutes % 60)
    } else {
        format!("{days} d {:02} h", hours % 24)
    }
}

/// A duration in nanoseconds; more than 584 years are as many.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration in milliseconds with one decimal, cut: "1,234.5".
pub(crate) fn milliseconds(time: Duration) -> String {
    let tenths = u64::try_from(time.as_micros() / 100).unwrap_or(u64::MAX);
    format!("{}.{}", grouped(tenths / 10), tenths % 10)
}

/// A duration that may be short: in microseconds, in milliseconds, or as [`duration`] from ten seconds on.
pub(crate) fn fine_duration(time: Duration) -> String {
    if time < Duration::from_millis(1) {
        format!("{} us", time.as_micros())
    } else if time < Duration::from_secs(10) {
        format!("{} ms", milliseconds(time))
    } else {
        duration(time)
    }
}

/// A frequency in MHz with three decimals.
pub(crate) fn megahertz(hz: u64) -> String {
    format!("{}.{:03} MHz", hz / 1_000_000, hz % 1_000_000 / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn bytes_take_the_largest_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(512 << 20), "512 MiB");
        assert_eq!(bytes((1 << 30) + (1 << 29)), "1.5 GiB");
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
    }

    #[test]
    fn shares_and_averages_are_rounded_and_survive_extremes() {
        assert_eq!(share(1, 3), "33.3 %");
        assert_eq!(share(2, 3), "66.7 %");
        assert_eq!(share(u64::MAX, u64::MAX), "100.0 %");
        assert_eq!(share(0, 0), "-");
        assert_eq!(average(10, 4), "3");
        assert_eq!(average(u64::MAX, 1), grouped(u64::MAX));
        assert_eq!(average(1, 0), "-");
    }

    #[test]
    fn durations_show_two_units() {
        assert_eq!(duration(Duration::from_millis(4250)), "4.2 s");
        assert_eq!(duration(Duration::from_secs(187)), "3 min 07 s");
        assert_eq!(duration(Duration::from_secs(7500)), "2 h 05 min");
        assert_eq!(duration(Duration::from_secs(90 * 3600)), "3 d 18 h");
    }

    #[test]
    fn short_durations_keep_their_digits() {
        for (micros, text) in [
            (0, "0 us"),
            (999, "999 us"),
            (1_000, "1.0 ms"),
            (1_234_567, "1,234.5 ms"),
            (9_999_999, "9,999.9 ms"),
            (10_000_000, "10.0 s"),
        ] {
            assert_eq!(fine_duration(Duration::from_micros(micros)), text);
        }
        assert_eq!(nanos(Duration::MAX), u64::MAX);
        assert_eq!(milliseconds(Duration::from_micros(1_234_567)), "1,234.5");
        assert!(milliseconds(Duration::MAX).starts_with("1,844,"), "no overflow");
    }

    #[test]
    fn frequencies_are_in_megahertz() {
        assert_eq!(megahertz(2_095_078_000), "2095.078 MHz");
    }
}
