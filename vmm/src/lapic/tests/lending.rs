//! Lending TPR, ISR and IRR to the processor.

use super::*;

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
    assert_eq!(apic.save_with(&lent), before.save());
    apic.take_back(&lent);
    assert_eq!(apic, before);
}

#[test]
fn what_arrives_while_the_registers_are_lent_is_in_the_saved_state() {
    let mut apic = x2apic();
    let mut lent = apic.lend();
    apic.write_msr(SELF_IPI_MSR, 0x61, NOW).expect("legal");
    lent.requested.insert(Vector(0x62));
    assert_eq!(apic.save_with(&lent).irr, [0, 1 << 0x21 | 1 << 0x22, 0, 0]);
    assert_eq!(apic.take_requested().highest(), Some(Vector(0x61)));
    assert_eq!(apic.take_requested(), VectorSet::EMPTY);
}

#[test]
fn only_an_enabled_x2apic_is_lent() {
    let mut apic = x2apic();
    assert!(apic.is_lendable());
    apic.write_msr(Msr(0x80f), 0xff, NOW).expect("legal");
    assert!(!apic.is_lendable(), "disabled by software");
    apic.reset();
    assert!(!apic.is_lendable(), "xAPIC mode");
}
