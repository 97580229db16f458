//! Lending TPR, ISR and IRR to the processor.

use super::*;
use crate::Lending;

const SELF_IPI_MSR: Msr = Msr(0x83f);

#[test]
fn lending_and_taking_back_changes_nothing() {
    let mut apic = x2apic();
    apic.set_cr8(2);
    for vector in [0x31, 0x52, 0x53] {
        apic.write_msr(SELF_IPI_MSR, vector, NOW).expect("legal");
    }
    apic.acknowledge(Vector(0x53));
    let before = apic.clone();
    let lent = apic.lend();
    assert_eq!(lent.task_priority, 0x20);
    assert_eq!(
        (lent.in_service.highest(), lent.requested.highest()),
        (Some(Vector(0x53)), Some(Vector(0x52)))
    );
    assert_eq!(apic.pending_vector(), None);
    assert_eq!(apic.save_with(&lent, None), before.save());
    apic.take_back(&lent);
    assert_eq!(apic, before);
}

#[test]
fn what_arrives_while_the_registers_are_lent_is_in_the_saved_state() {
    let mut apic = x2apic();
    let mut lent = apic.lend();
    apic.write_msr(SELF_IPI_MSR, 0x61, NOW).expect("legal");
    lent.requested.insert(Vector(0x62));
    assert_eq!(apic.save_with(&lent, None).irr, [0, 1 << 0x21 | 1 << 0x22, 0, 0]);
    assert_eq!(apic.take_requested().highest(), Some(Vector(0x61)));
    assert_eq!(apic.take_requested(), VectorSet::EMPTY);
}

#[test]
fn only_an_enabled_local_apic_in_its_place_is_lent() {
    let mut apic = x2apic();
    assert_eq!(apic.lendable(), Some(Lending::Msrs));
    apic.write_msr(Msr(0x80f), 0xff, NOW).expect("legal");
    assert_eq!(apic.lendable(), None, "disabled by software");
    apic.reset();
    assert_eq!(apic.lendable(), None, "as after reset");
    apic.write_mmio(0xf0, Width::Four, 0x1ff, NOW);
    assert_eq!(apic.lendable(), Some(Lending::Page), "xAPIC mode");
    apic.set_base(0xfed0_0900).expect("a page of its own");
    assert_eq!(apic.lendable(), None, "elsewhere");
    apic.set_base(0xfee0_0100).expect("disabled");
    assert_eq!(apic.lendable(), None, "no local APIC");
}

/// Arms the timer with `entry` for `NOW` and fires it; what goes to the processor at once.
fn fire(apic: &mut LocalApic, entry: u64) -> Option<Vector> {
    apic.write_msr(msr(LVT_TIMER), entry, NOW).expect("legal");
    apic.write_msr(Msr::TSC_DEADLINE, NOW.0 + 1, NOW).expect("legal");
    assert_eq!(apic.advance_lent(NOW), None, "not due");
    apic.advance_lent(Tsc(NOW.0 + 1))
}

#[test]
fn timer_of_a_lent_apic_goes_to_the_processor_and_leaves_nothing_behind() {
    let mut apic = x2apic();
    let _lent = apic.lend();
    assert_eq!(fire(&mut apic, 0x4_00ec), Some(Vector(0xec)));
    assert_eq!(apic.requested(), VectorSet::EMPTY);
    assert_eq!(apic.timer_deadline(), None);
    assert_eq!(apic.advance_lent(Tsc(NOW.0 + 2)), None, "once");
    assert_eq!(fire(&mut apic, 0x5_00ec), None, "masked");
    assert_eq!(apic.requested(), VectorSet::EMPTY);
}

#[test]
fn timer_of_a_lent_apic_takes_the_long_way_when_its_vector_is_level_triggered_or_illegal() {
    let mut apic = x2apic();
    let level = message(DeliveryMode::Fixed, TriggerMode::Level, 0xec);
    assert_eq!(apic.accept(level), Delivery::Pending);
    let _lent = apic.lend();
    assert_eq!(fire(&mut apic, 0x4_00ec), None);
    assert!(!apic.triggered().contains(Vector(0xec)), "an edge now");
    assert_eq!(apic.take_requested().highest(), Some(Vector(0xec)));
    assert_eq!(fire(&mut apic, 0x4_000f), None);
    assert_eq!(apic.requested(), VectorSet::EMPTY);
}
