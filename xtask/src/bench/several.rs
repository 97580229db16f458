//! Instructions on a machine with two processors.
//!
//! Bochs runs several processors in turns, a basic block at a time, and after each round lets its clock, which the time
//! stamp counters show, go on by the average of what they have executed. So a difference of D ticks means that both
//! together have executed 2 D instructions. Of these the loops of the one that waits for the other are no work, and the
//! test guest counts them (`OPERATION-waiting`). What is left is what the hypervisor and both virtual processors
//! execute for the operation, wherever: 2 D - waiting. A halted processor's turn counts as one instruction.

use super::figures::Figures;

/// The processors of the machine.
pub(crate) const PROCESSORS: u32 = 2;
/// What two processors do together. Of `icr-other`, the one that is sent to does nothing but to pass the time.
const OPERATIONS: [&str; 4] = ["xapic-icr-other", "x2apic-icr-other", "ipi-round-trip", "ipi-wake"];
const WAITING: &str = "-waiting";

/// Instructions of both processors, from ticks.
pub(crate) fn work(ticks: &Figures) -> Figures {
    let mut figures = Figures::default();
    for operation in OPERATIONS {
        if let (Some(duration), Some(waiting)) =
            (ticks.get(operation), ticks.get(&format!("{operation}{WAITING}")))
        {
            figures.push(operation, (duration * u64::from(PROCESSORS)).saturating_sub(waiting));
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_no_work_and_ticks_are_averages() {
        let ticks = Figures::lines(
            "bench: cpuid 7\nbench: ipi-round-trip 1000\nbench: ipi-round-trip-waiting 900\nbench: ipi-wake 5\n",
        );
        assert_eq!(work(&ticks).iter().collect::<Vec<_>>(), [("ipi-round-trip", 1_100)]);
    }
}
