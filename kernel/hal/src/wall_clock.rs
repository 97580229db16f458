//! The machine's real-time clock, read once at boot.
//!
//! Motorola MC146818A datasheet, "Time, Calendar, and Alarm Locations"; ACPI, FADT's CENTURY field (0x32 on PCs).

use crate::port;
use arch::Port;
use spin::Mutex;

const INDEX: Port = Port(0x70);
const DATA: Port = Port(0x71);
/// How often an update in progress, or a change between two readings, is waited out.
const TRIES: u32 = 100_000;

/// Who uses the two ports: a register is read through both.
static PORTS: Mutex<()> = Mutex::new(());

fn register(number: u8) -> u8 {
    // SAFETY: the callers hold the lock on the ports; bit 7 of the index keeps NMI enabled when clear.
    unsafe { port::write_u8(INDEX, number) };
    // SAFETY: as above; the registers read here have no side effects.
    unsafe { port::read_u8(DATA) }
}

fn update_in_progress() -> bool {
    register(0x0a) & 0x80 != 0
}

/// Second, minute, hour, day, month, year, century, as the registers hold them.
fn raw() -> [u8; 7] {
    [0x00, 0x02, 0x04, 0x07, 0x08, 0x09, 0x32].map(register)
}

/// The time now in seconds since 1970, UTC; 0 when the clock gives no plausible date.
pub fn unix_seconds() -> u64 {
    let _ports = PORTS.lock();
    let mut before = [0; 7];
    for _ in 0..TRIES {
        if update_in_progress() {
            continue;
        }
        let now = raw();
        if now == before {
            return decode(now, register(0x0b)).unwrap_or(0);
        }
        before = now;
    }
    0
}

/// Status register B, bit 2: binary; bit 1: 24 hours.
fn decode(raw: [u8; 7], status_b: u8) -> Option<u64> {
    let binary = status_b & 4 != 0;
    let number = |byte: u8| if binary { byte } else { (byte >> 4) * 10 + (byte & 0xf) };
    let afternoon = status_b & 2 == 0 && raw[2] & 0x80 != 0;
    let mut hour = u64::from(number(raw[2] & 0x7f));
    if status_b & 2 == 0 {
        hour = hour % 12 + if afternoon { 12 } else { 0 };
    }
    let [second, minute, _, day, month, year, century] = raw.map(|byte| u64::from(number(byte)));
    let century = if (19..=21).contains(&century) { century } else { 20 };
    let valid =
        second < 60 && minute < 60 && hour < 24 && (1..=31).contains(&day) && (1..=12).contains(&month);
    valid.then(|| {
        days_since_1970(century * 100 + year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second
    })
}

/// Days from 1970-01-01 to the date, in the Gregorian calendar.
const fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March put the leap day last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    days - 719_468
}
