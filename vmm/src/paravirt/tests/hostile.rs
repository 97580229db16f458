//! Addresses that no honest guest would give: the end of RAM, holes, device pages, unaligned, all of 64 bits.

use super::*;
use crate::lapic::GeneralProtection;
use crate::paravirt::{BadState, CallMode, Departure, Hypercall, Presence, State};
use arch::Gprs;
use proptest::prelude::*;

const REFUSED: Option<Result<Loaded, GeneralProtection>> = Some(Err(GeneralProtection));

/// All bytes of RAM.
fn contents(memory: &MemoryMap<VecBlock>) -> Vec<u8> {
    let mut bytes = vec![0; 0x1_1000];
    let (low, high) = bytes.split_at_mut(0x1_0000);
    memory.read(Gpa::new(0), low).expect("RAM");
    memory.read(Gpa::new(0x10_0000), high).expect("RAM");
    bytes
}

/// Everything that the host does unasked.
fn live(paravirt: &mut Paravirt, memory: &MemoryMap<VecBlock>) {
    let mut waited = Nanos(0);
    for departure in [Departure::AtRest, Departure::Preempted] {
        paravirt.descheduled(memory, departure);
        waited = waited + Nanos(10);
        let _ = paravirt.loaded(memory, waited);
    }
    paravirt.tsc_changed(memory, &times());
    paravirt.resumed(memory, &times());
    paravirt.offer_eoi(memory);
    let _ = paravirt.withdraw_eoi(memory);
}

#[test]
fn clock_records_that_do_not_fit_into_ram_are_not_begun() {
    // Past the end, across the end, a hole, the local APIC's page, the end of the address space, unaligned.
    for address in [0x1_0000, 0x1_0000 - 28, 0x8_0000, 0xfee0_0000, u64::MAX - 31, !0b11, 0x202] {
        let (memory, mut paravirt) = (memory(), paravirt());
        set(&mut paravirt, SYSTEM_TIME, address | 1, &memory);
        live(&mut paravirt, &memory);
        assert!(contents(&memory).iter().all(|byte| *byte == 0), "{address:#x}");
        assert_eq!(paravirt.read_msr(SYSTEM_TIME), Some(address | 1));
    }
    for address in [0, 0x1_0000, 0x1_0000 - 8, 0xfee0_0000, u64::MAX, u64::MAX - 3, 0x101] {
        let (memory, mut paravirt) = (memory(), paravirt());
        set(&mut paravirt, WALL_CLOCK, address, &memory);
        assert!(contents(&memory).iter().all(|byte| *byte == 0), "{address:#x}");
    }
}

#[test]
fn records_at_the_very_end_of_ram_are_kept() {
    let (memory, mut paravirt) = (memory(), paravirt());
    set(&mut paravirt, SYSTEM_TIME, (0x10_1000 - 32) | 1, &memory);
    set(&mut paravirt, STEAL_TIME, (0x1_0000 - 64) | 1, &memory);
    set(&mut paravirt, EOI, 0x10_0000 | 1, &memory);
    live(&mut paravirt, &memory);
    assert_ne!(memory.read_u32(Gpa::new(0x10_1000 - 32)), Ok(0));
    assert_eq!(memory.read_u64(Gpa::new(0x1_0000 - 64)), Ok(20));
}

#[test]
fn steal_time_refuses_reserved_bits_and_ignores_what_is_not_ram() {
    let (memory, mut paravirt) = (memory(), paravirt());
    for bit in 1..6 {
        assert_eq!(paravirt.write_msr(STEAL_TIME, 1 << bit, &memory, times), REFUSED, "bit {bit}");
        assert_eq!(paravirt.write_msr(STEAL_TIME, 1 << bit | 1, &memory, times), REFUSED, "bit {bit}");
    }
    assert_eq!(paravirt.read_msr(STEAL_TIME), Some(0));
    for address in [0x1_0000, 0xfee0_0000, u64::MAX << 6] {
        set(&mut paravirt, STEAL_TIME, address | 1, &memory);
        live(&mut paravirt, &memory);
        assert!(contents(&memory).iter().all(|byte| *byte == 0), "{address:#x}");
    }
}

#[test]
fn pv_eoi_refuses_what_is_unaligned_or_not_ram() {
    let (memory, mut paravirt) = (memory(), paravirt());
    for value in [0b10, 0b11, 0x403, 0x1_0001, 0xfee0_0001, u64::MAX - 2] {
        assert_eq!(paravirt.write_msr(EOI, value, &memory, times), REFUSED, "{value:#x}");
    }
    assert_eq!(paravirt.read_msr(EOI), Some(0));
    set(&mut paravirt, EOI, 0xfee0_0000, &memory);
}

#[test]
fn a_saved_state_is_refused_that_no_guest_could_have_made() {
    let good = State {
        wall_clock: u64::MAX,
        system_time: u64::MAX,
        steal_time: u64::MAX << 6 | 1,
        end_of_interrupt: u64::MAX << 2 | 1,
        presence: Presence::Preempted,
    };
    let (memory, mut paravirt) = (memory(), paravirt());
    let untouched = paravirt.clone();
    let steal_time = State { steal_time: 2, ..good };
    assert_eq!(paravirt.restore(&steal_time, Nanos(0)), Err(BadState::StealTime(2)));
    let end_of_interrupt = State { end_of_interrupt: 3, ..good };
    assert_eq!(paravirt.restore(&end_of_interrupt, Nanos(0)), Err(BadState::EndOfInterrupt(3)));
    assert_eq!(paravirt, untouched);
    // Addresses outside of RAM harm nobody.
    assert_eq!(paravirt.restore(&good, Nanos(0)), Ok(()));
    live(&mut paravirt, &memory);
    assert!(contents(&memory).iter().all(|byte| *byte == 0));
}

proptest! {
    #[test]
    fn no_value_of_any_register_harms_the_host(
        writes in prop::collection::vec((0..4_usize, prop_oneof![any::<u64>(), 0..0x2_0000_u64]), 1..8),
        waited: u64,
    ) {
        let (memory, mut paravirt) = (memory(), paravirt());
        for (register, value) in writes {
            let msr = [WALL_CLOCK, SYSTEM_TIME, STEAL_TIME, EOI][register];
            let _ = paravirt.write_msr(msr, value, &memory, times);
            live(&mut paravirt, &memory);
            let _ = paravirt.loaded(&memory, Nanos(waited));
        }
        let mut other = self::paravirt();
        prop_assert_eq!(other.restore(&paravirt.save(), Nanos(0)), Ok(()));
    }

    #[test]
    fn no_hypercall_harms_the_host(registers: [u64; 16], cpl in 0..4_u8, bits32: bool) {
        let mode = if bits32 { CallMode::Bits32 } else { CallMode::Bits64 };
        match paravirt().hypercall(&Gprs(registers), cpl, mode) {
            Hypercall::Done(_) => {}
            Hypercall::SendIpi(ipi) => prop_assert!(ipi.targets.count() <= 128),
        }
    }
}
