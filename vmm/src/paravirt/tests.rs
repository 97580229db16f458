//! The interface as a guest uses it: records read by the guest's rules, requests made by its other processors, and
//! addresses that no honest guest would give.

mod clock;
mod eoi;
mod hostile;
mod steal_time;

use super::{Features, Loaded, Paravirt, Stability, Times, TscAgreement};
use crate::Clock;
use arch::{Gpa, Msr, Nanos, Tsc};
use memory::{GuestMemory, MemoryMap, VecBlock};

const WALL_CLOCK: Msr = Msr(0x4b56_4d00);
const SYSTEM_TIME: Msr = Msr(0x4b56_4d01);
const STEAL_TIME: Msr = Msr(0x4b56_4d03);
const EOI: Msr = Msr(0x4b56_4d04);

/// Two stretches of RAM: 0 to 64 KiB, and 4 KiB at 1 MiB.
fn memory() -> MemoryMap<VecBlock> {
    let mut map = MemoryMap::new();
    map.add(Gpa::new(0), VecBlock::new(0x1_0000)).expect("free");
    map.add(Gpa::new(0x10_0000), VecBlock::new(0x1000)).expect("free");
    map
}

/// 3 GHz, time zero at host TSC 1000, guest TSC 500 behind: 1 January 2026 and half a second.
fn times() -> Times {
    let clock = Clock::new(Tsc(1000), 3_000_000_000);
    Times::new(&clock, 500_u64.wrapping_neg(), &TscAgreement::new(2, 500_u64.wrapping_neg()), UNIX)
}

const UNIX: Nanos = Nanos(1_767_225_600_500_000_000);

fn paravirt() -> Paravirt {
    Paravirt::new(Features::SOFTWARE_APIC)
}

/// Writes a register that is offered, with nothing else to be done.
fn set(paravirt: &mut Paravirt, msr: Msr, value: u64, memory: &impl GuestMemory) {
    assert_eq!(paravirt.write_msr(msr, value, memory, times), Some(Ok(Loaded::Ready)));
}

#[test]
fn registers_read_as_written_and_are_off_after_reset() {
    let (memory, mut paravirt) = (memory(), paravirt());
    let values = [(WALL_CLOCK, 0x100), (SYSTEM_TIME, 0x201), (STEAL_TIME, 0x301), (EOI, 0x401)];
    for (msr, value) in values {
        assert_eq!(paravirt.read_msr(msr), Some(0));
        set(&mut paravirt, msr, value, &memory);
        assert_eq!(paravirt.read_msr(msr), Some(value));
    }
    assert_eq!(paravirt.read_msr(Msr(0x11)), Some(0x100), "the old numbers are the same registers");
    assert_eq!(paravirt.read_msr(Msr(0x12)), Some(0x201));
    paravirt.reset();
    assert_eq!(paravirt, Paravirt { ..self::paravirt() });
}

#[test]
fn a_register_without_its_feature_does_not_exist() {
    let (memory, mut paravirt) = (memory(), Paravirt::new(Features::HARDWARE_APIC));
    assert_eq!(paravirt.read_msr(EOI), None);
    assert_eq!(paravirt.write_msr(EOI, 0x401, &memory, times), None);
    for number in [0x10, 0x4b56_4d02, 0x4b56_4d05] {
        assert_eq!(paravirt.write_msr(Msr(number), 0, &memory, times), None, "{number:#x}");
    }
}
