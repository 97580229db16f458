//! LINT0 with the 8259 pair and LINT1 with NMI, in all delivery modes.

use super::*;

fn rise(apic: &mut LocalApic, pin: Pin) -> Delivery {
    apic.set_pin(pin, Level::Low);
    apic.set_pin(pin, Level::High)
}

fn end(apic: &mut LocalApic) -> Effect {
    let vector = apic.pending_vector().expect("an interrupt waits");
    apic.acknowledge(vector);
    apic.end_of_interrupt()
}

#[test]
fn the_8259_reaches_the_processor_through_lint0() {
    let mut apic = LocalApic::new(config());
    assert!(apic.accepts_external_interrupt(), "as firmware leaves the bootstrap processor");
    write(&mut apic, SVR, 0x1ff);
    write(&mut apic, LVT_LINT0, 0x1_0700);
    assert!(!apic.accepts_external_interrupt());
    write(&mut apic, LVT_LINT0, 0x700);
    assert!(apic.accepts_external_interrupt());
    write(&mut apic, LVT_LINT0, 0x040);
    assert!(!apic.accepts_external_interrupt(), "fixed is not ExtINT");
    assert_eq!(apic.set_pin(Pin::Lint0, Level::High), Delivery::Pending);
    assert_eq!(apic.pending_vector(), Some(Vector(0x40)));
    apic.set_base(DEFAULT_BASE).expect("legal");
    assert!(apic.accepts_external_interrupt(), "without an APIC the pin is INTR");
    let other = LocalApic::new(Config { role: Role::Application, ..config() });
    assert!(!other.accepts_external_interrupt());
}

#[test]
fn lint1_brings_nmis_when_it_is_open() {
    let mut apic = apic();
    assert_eq!(rise(&mut apic, Pin::Lint1), Delivery::Refused);
    write(&mut apic, LVT_LINT1, 0x400);
    assert_eq!(rise(&mut apic, Pin::Lint1), Delivery::Nmi);
    assert_eq!(apic.set_pin(Pin::Lint1, Level::High), Delivery::Refused, "no edge");
    apic.set_base(DEFAULT_BASE).expect("legal");
    assert_eq!(rise(&mut apic, Pin::Lint1), Delivery::Nmi);
}

#[test]
fn each_delivery_mode_of_a_pin_is_what_it_says() {
    for (mode, delivery) in [
        (0x000, Delivery::Pending),
        (0x100, Delivery::Refused),
        (0x200, Delivery::Smi),
        (0x300, Delivery::Refused),
        (0x400, Delivery::Nmi),
        (0x500, Delivery::Init),
        (0x600, Delivery::Refused),
        (0x700, Delivery::ExternalInterrupt),
    ] {
        let mut apic = apic();
        write(&mut apic, LVT_LINT0, mode | 0x45);
        assert_eq!(rise(&mut apic, Pin::Lint0), delivery, "{mode:#x}");
        assert_eq!(apic.accepts_external_interrupt(), mode == 0x700);
    }
}

#[test]
fn a_level_is_requested_again_until_the_pin_falls() {
    let mut apic = apic();
    write(&mut apic, LVT_LINT0, 0x8045);
    assert_eq!(rise(&mut apic, Pin::Lint0), Delivery::Pending);
    assert_eq!(read(&mut apic, LVT_LINT0), 0xc045, "remote IRR");
    assert_eq!(read(&mut apic, TMR + 0x20), 1 << 5);
    assert_eq!(rise(&mut apic, Pin::Lint0), Delivery::Refused, "it was not ended");
    assert_eq!(end(&mut apic), Effect::BroadcastEoi(Vector(0x45)));
    assert_eq!(apic.pending_vector(), Some(Vector(0x45)), "the pin is still high");
    apic.set_pin(Pin::Lint0, Level::Low);
    end(&mut apic);
    assert_eq!((apic.pending_vector(), read(&mut apic, LVT_LINT0)), (None, 0x8045));
}

#[test]
fn a_level_that_was_masked_comes_with_the_unmasking_and_an_edge_is_lost() {
    let mut apic = apic();
    write(&mut apic, LVT_LINT0, 0x1_8045);
    assert_eq!(rise(&mut apic, Pin::Lint0), Delivery::Refused);
    write(&mut apic, LVT_LINT0, 0x8045);
    assert_eq!(apic.pending_vector(), Some(Vector(0x45)));
    write(&mut apic, LVT_LINT0, 0x45);
    assert_eq!(read(&mut apic, LVT_LINT0), 0x45, "an edge has no remote IRR");
    end(&mut apic);
    assert_eq!(apic.pending_vector(), None);
}

#[test]
fn an_illegal_vector_at_a_level_does_not_go_on_for_ever() {
    let mut apic = apic();
    write(&mut apic, LVT_LINT0, 0x8005);
    assert_eq!(rise(&mut apic, Pin::Lint0), Delivery::Refused);
    assert_eq!(read(&mut apic, LVT_LINT0), 0x8005);
    write(&mut apic, ESR, 0);
    assert_eq!(read(&mut apic, ESR), 1 << 6);
}

#[test]
fn levels_and_remote_irr_survive_saving_and_a_reset_keeps_the_wires() {
    let mut apic = apic();
    write(&mut apic, LVT_LINT0, 0x8045);
    rise(&mut apic, Pin::Lint0);
    let state = apic.save();
    assert_eq!((state.pins, state.lvt[3]), (1, 0xc045));
    let mut restored = LocalApic::restore(config(), &state).expect("it was so");
    assert_eq!(restored, apic);
    end(&mut restored);
    assert_eq!(restored.pending_vector(), Some(Vector(0x45)), "still high");
    restored.reset();
    write(&mut restored, SVR, 0x1ff);
    write(&mut restored, LVT_LINT0, 0x8046);
    assert_eq!(restored.pending_vector(), Some(Vector(0x46)));
}

#[test]
fn the_end_of_a_level_reaches_the_pin_though_the_broadcast_is_suppressed() {
    let mut apic = apic();
    write(&mut apic, SVR, 0x11ff);
    write(&mut apic, LVT_LINT0, 0x8045);
    rise(&mut apic, Pin::Lint0);
    apic.set_pin(Pin::Lint0, Level::Low);
    assert_eq!(end(&mut apic), Effect::None);
    assert_eq!(read(&mut apic, LVT_LINT0), 0x8045);
}
