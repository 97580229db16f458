//! The wall clock: the machine's real-time clock read once, carried on by the TSC.

use arch::Tsc;
use spin::Once;

static START: Once<(u64, Tsc)> = Once::new();

/// Reads the real-time clock. Called once at boot, as it may wait a millisecond for an update to end.
pub(crate) fn init() {
    START.call_once(|| (hal::wall_clock::unix_seconds(), hal::time::now()));
}

/// Seconds since 1970, UTC; counted from 0 when the machine's clock gave no date.
pub(crate) fn unix_seconds() -> u64 {
    let Some((at_start, started)) = START.get() else { return 0 };
    at_start + hal::time::now().since(*started).0 / hal::time::tsc_hz().max(1)
}
