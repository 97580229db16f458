//! Behaviours of the local APIC. `tests/timer.rs` holds the timer's, `tests/property.rs` random sequences.

mod destinations;
mod lending;
mod modes;
mod pins;
mod property;
mod timer;

use super::*;
use arch::{Msr, Width};
use bus::{DeliveryMode, Destination};
use core::num::NonZeroU64;

const X2APIC: u64 = 1 << 10;
const ENABLED: u64 = 1 << 11;
const BOOTSTRAP: u64 = 1 << 8;
const NOW: Tsc = Tsc(1_000_000);

const ID: u16 = 0x20;
const VERSION: u16 = 0x30;
const TPR: u16 = 0x80;
const PPR: u16 = 0xa0;
const EOI: u16 = 0xb0;
const LDR: u16 = 0xd0;
const DFR: u16 = 0xe0;
const APR: u16 = 0x90;
const SVR: u16 = 0xf0;
const ISR: u16 = 0x100;
const TMR: u16 = 0x180;
const IRR: u16 = 0x200;
const ESR: u16 = 0x280;
const ICR_LOW: u16 = 0x300;
const ICR_HIGH: u16 = 0x310;
const LVT_TIMER: u16 = 0x320;
const LVT_LINT0: u16 = 0x350;
const LVT_LINT1: u16 = 0x360;
const LVT_ERROR: u16 = 0x370;
const INITIAL: u16 = 0x380;
const CURRENT: u16 = 0x390;
const DIVIDE: u16 = 0x3e0;
const SELF_IPI: u16 = 0x3f0;

fn rate(timer: u64, tsc: u64) -> TimerRate {
    TimerRate::new(NonZeroU64::new(timer).expect("a rate"), NonZeroU64::new(tsc).expect("a rate"))
}

fn config() -> Config {
    Config {
        id: 3,
        role: Role::Bootstrap,
        features: Features::all(),
        timer_rate: rate(25_000_000, 2_500_000_000),
        shortest_period: Tsc(50_000),
        physical_address_bits: 39,
    }
}

/// Enabled by software, in xAPIC mode.
fn apic() -> LocalApic {
    let mut apic = LocalApic::new(config());
    write(&mut apic, SVR, 0x1ff);
    apic
}

/// Enabled by software, in x2APIC mode.
fn x2apic() -> LocalApic {
    let mut apic = apic();
    apic.set_base(DEFAULT_BASE | BOOTSTRAP | ENABLED | X2APIC).expect("a legal step");
    apic
}

fn read(apic: &mut LocalApic, offset: u16) -> u32 {
    apic.read_mmio(offset, Width::Four, NOW).try_into().expect("32 bits")
}

fn write(apic: &mut LocalApic, offset: u16, value: u32) -> Effect {
    apic.write_mmio(offset, Width::Four, value.into(), NOW)
}

fn msr(offset: u16) -> Msr {
    Msr(0x800 + u32::from(offset >> 4))
}

fn message(mode: DeliveryMode, trigger: TriggerMode, vector: u8) -> InterruptMessage {
    InterruptMessage { destination: Destination::Physical(3), mode, trigger, vector: Vector(vector) }
}

fn accept(apic: &mut LocalApic, vector: u8) {
    assert_eq!(apic.accept(message(DeliveryMode::Fixed, TriggerMode::Edge, vector)), Delivery::Pending);
}

#[test]
fn registers_after_reset_are_those_of_the_manual() {
    let mut apic = LocalApic::new(Config { role: Role::Application, ..config() });
    let expected = [
        (ID, 0x0300_0000),
        (VERSION, 0x0105_0014),
        (TPR, 0),
        (PPR, 0),
        (LDR, 0),
        (DFR, 0xffff_ffff),
        (SVR, 0xff),
        (ESR, 0),
        (ICR_LOW, 0),
        (ICR_HIGH, 0),
        (LVT_TIMER, 0x1_0000),
        (LVT_LINT0, 0x1_0000),
        (LVT_LINT1, 0x1_0000),
        (LVT_ERROR, 0x1_0000),
        (INITIAL, 0),
        (CURRENT, 0),
        (DIVIDE, 0),
    ];
    for (offset, value) in expected {
        assert_eq!(read(&mut apic, offset), value, "{offset:#x}");
    }
    assert_eq!(apic.base(), 0xfee0_0800);
    assert_eq!(apic.mmio_page(), Some(Gpa::new(0xfee0_0000)));
    assert_eq!(LocalApic::new(config()).base(), 0xfee0_0900);
}

#[test]
fn base_transitions_follow_the_manual() {
    let with = |flags| DEFAULT_BASE | BOOTSTRAP | flags;
    let mut apic = LocalApic::new(config());
    assert_eq!(apic.set_base(with(X2APIC)), Err(GeneralProtection), "extended without enabled");
    apic.set_base(with(0)).expect("xAPIC to disabled");
    assert_eq!((apic.mode(), apic.mmio_page()), (Mode::Disabled, None));
    assert_eq!(apic.set_base(with(ENABLED | X2APIC)), Err(GeneralProtection), "disabled to x2APIC");
    apic.set_base(with(ENABLED)).expect("disabled to xAPIC");
    apic.set_base(with(ENABLED | X2APIC)).expect("xAPIC to x2APIC");
    assert_eq!(apic.set_base(with(ENABLED)), Err(GeneralProtection), "x2APIC to xAPIC");
    assert_eq!(apic.base(), with(ENABLED | X2APIC), "a refused write changes nothing");
    apic.set_base(with(0)).expect("x2APIC to disabled");
}

#[test]
fn reserved_bits_of_the_base_are_refused() {
    let mut apic = LocalApic::new(config());
    for bit in [0, 7, 9, 39, 63] {
        assert_eq!(apic.set_base(DEFAULT_BASE | ENABLED | 1 << bit), Err(GeneralProtection), "{bit}");
    }
    apic.set_base(0x12_3456_7000 | ENABLED).expect("the page may move");
    assert_eq!(apic.mmio_page(), Some(Gpa::new(0x12_3456_7000)));
    let features = Features::TSC_DEADLINE;
    let mut plain = LocalApic::new(Config { features, ..config() });
    assert_eq!(plain.set_base(DEFAULT_BASE | ENABLED | X2APIC), Err(GeneralProtection));
}

#[test]
fn disabling_forgets_what_was_pending() {
    let mut apic = apic();
    accept(&mut apic, 0x40);
    apic.set_base(DEFAULT_BASE).expect("legal");
    assert_eq!(apic.pending_vector(), None);
    assert_eq!(apic.read_mmio(VERSION, Width::Two, NOW), 0xffff, "nothing answers");
    assert_eq!(apic.accept(message(DeliveryMode::Fixed, TriggerMode::Edge, 0x40)), Delivery::Refused);
    assert!(!apic.matches(Destination::Physical(3)));
    apic.set_base(DEFAULT_BASE | ENABLED).expect("legal");
    assert_eq!(read(&mut apic, SVR), 0xff);
}

#[test]
fn init_keeps_the_base_and_the_mode() {
    let mut apic = x2apic();
    accept(&mut apic, 0x40);
    apic.init();
    assert_eq!((apic.mode(), apic.pending_vector()), (Mode::X2Apic, None));
    apic.reset();
    assert_eq!(apic.mode(), Mode::XApic);
}

#[test]
fn a_vector_goes_from_request_to_service_to_end() {
    let mut apic = apic();
    accept(&mut apic, 0x61);
    assert_eq!(read(&mut apic, IRR + 0x30), 1 << 1);
    assert_eq!(apic.pending_vector(), Some(Vector(0x61)));
    apic.acknowledge(Vector(0x61));
    assert_eq!((read(&mut apic, IRR + 0x30), read(&mut apic, ISR + 0x30)), (0, 1 << 1));
    assert_eq!(read(&mut apic, PPR), 0x60);
    assert_eq!(apic.pending_vector(), None);
    assert_eq!(write(&mut apic, EOI, 0), Effect::None);
    assert_eq!((read(&mut apic, ISR + 0x30), read(&mut apic, PPR)), (0, 0));
    assert_eq!(write(&mut apic, EOI, 0), Effect::None, "an EOI without service is nothing");
}

#[test]
fn only_a_higher_class_interrupts_a_handler() {
    let mut apic = apic();
    accept(&mut apic, 0x61);
    apic.acknowledge(Vector(0x61));
    accept(&mut apic, 0x6f);
    assert_eq!(apic.pending_vector(), None, "same class");
    accept(&mut apic, 0x70);
    assert_eq!(apic.pending_vector(), Some(Vector(0x70)));
    apic.acknowledge(Vector(0x70));
    write(&mut apic, EOI, 0);
    assert_eq!(apic.pending_vector(), None, "0x61 is in service again");
    write(&mut apic, EOI, 0);
    assert_eq!(apic.pending_vector(), Some(Vector(0x6f)));
}

#[test]
fn the_task_priority_holds_back_its_class_and_those_below() {
    let mut apic = apic();
    accept(&mut apic, 0x55);
    write(&mut apic, TPR, 0x50);
    assert_eq!((apic.pending_vector(), apic.tpr_threshold()), (None, 5));
    apic.set_cr8(4);
    assert_eq!((apic.pending_vector(), apic.tpr_threshold()), (Some(Vector(0x55)), 0));
    assert_eq!((read(&mut apic, TPR), apic.cr8()), (0x40, 4));
    apic.set_cr8(15);
    assert_eq!((apic.pending_vector(), apic.tpr_threshold()), (None, 5));
}

#[test]
fn ending_a_level_interrupt_is_broadcast_and_an_edge_one_is_not() {
    let mut apic = apic();
    assert_eq!(
        apic.accept(message(DeliveryMode::LowestPriority, TriggerMode::Level, 0x31)),
        Delivery::Pending
    );
    assert_eq!(read(&mut apic, TMR + 0x10), 1 << 17);
    apic.acknowledge(Vector(0x31));
    assert_eq!(write(&mut apic, EOI, 0), Effect::BroadcastEoi(Vector(0x31)));
    accept(&mut apic, 0x31);
    assert_eq!(read(&mut apic, TMR + 0x10), 0);
    apic.acknowledge(Vector(0x31));
    assert_eq!(write(&mut apic, EOI, 0), Effect::None);
}

#[test]
fn suppressed_eois_stay_here() {
    let mut apic = apic();
    write(&mut apic, SVR, 0x11ff);
    apic.accept(message(DeliveryMode::Fixed, TriggerMode::Level, 0x31));
    apic.acknowledge(Vector(0x31));
    assert_eq!(write(&mut apic, EOI, 0), Effect::None);
    let mut plain = LocalApic::new(Config { features: Features::empty(), ..config() });
    write(&mut plain, SVR, 0x11ff);
    assert_eq!((read(&mut plain, SVR), read(&mut plain, VERSION)), (0x1ff, 0x5_0014));
}

#[test]
fn software_disable_masks_the_vector_table_and_refuses_fixed_messages_only() {
    let mut apic = apic();
    accept(&mut apic, 0x77);
    write(&mut apic, LVT_TIMER, 0x50);
    write(&mut apic, SVR, 0xff);
    assert_eq!(read(&mut apic, LVT_TIMER), 0x1_0050);
    write(&mut apic, LVT_TIMER, 0x51);
    assert_eq!(read(&mut apic, LVT_TIMER), 0x1_0051, "the mask cannot be cleared");
    assert_eq!(apic.accept(message(DeliveryMode::Fixed, TriggerMode::Edge, 0x40)), Delivery::Refused);
    assert_eq!(apic.accept(message(DeliveryMode::Nmi, TriggerMode::Edge, 0)), Delivery::Nmi);
    assert_eq!(apic.accept(message(DeliveryMode::Init, TriggerMode::Edge, 0)), Delivery::Init);
    assert_eq!(
        apic.accept(message(DeliveryMode::StartUp, TriggerMode::Edge, 9)),
        Delivery::StartUp(Vector(9))
    );
    assert_eq!(apic.pending_vector(), Some(Vector(0x77)), "what was pending still is");
}

#[test]
fn destinations_match_by_id_and_by_logical_address() {
    let mut apic = apic();
    assert!(apic.matches(Destination::Physical(3)) && apic.matches(Destination::Physical(0xff)));
    assert!(!apic.matches(Destination::Physical(2)));
    assert!(!apic.matches(Destination::Logical(0x08)));
    write(&mut apic, LDR, 0x0800_0000);
    assert!(apic.matches(Destination::Logical(0x0c)) && apic.matches(Destination::Logical(0xff)));
    assert!(!apic.matches(Destination::Logical(0x17)));
    write(&mut apic, DFR, 0);
    write(&mut apic, LDR, 0x2400_0000);
    assert!(apic.matches(Destination::Logical(0x24)) && apic.matches(Destination::Logical(0xf4)));
    assert!(!apic.matches(Destination::Logical(0x34)) && !apic.matches(Destination::Logical(0x28)));
    let mut extended = LocalApic::new(Config { id: 0x25, ..config() });
    extended.set_base(DEFAULT_BASE | ENABLED | X2APIC).expect("legal");
    assert_eq!(extended.read_msr(msr(LDR), NOW), Ok(0x0002_0020));
    assert!(extended.matches(Destination::Logical(0x0002_0021)));
    assert!(!extended.matches(Destination::Logical(0x0001_0020)));
    assert!(
        extended.matches(Destination::Physical(u32::MAX)) && extended.matches(Destination::Physical(0x25))
    );
}

#[test]
fn an_ipi_carries_mode_vector_and_destination() {
    let mut apic = apic();
    write(&mut apic, ICR_HIGH, 0x0200_0000);
    let Effect::SendIpi(ipi) = write(&mut apic, ICR_LOW, 0x0000_4931) else { panic!("an IPI") };
    let expected = InterruptMessage {
        destination: Destination::Logical(2),
        mode: DeliveryMode::LowestPriority,
        trigger: TriggerMode::Edge,
        vector: Vector(0x31),
    };
    assert_eq!(ipi, Ipi { message: expected, recipients: Recipients::Destination });
    let Effect::SendIpi(ipi) = write(&mut apic, ICR_LOW, 0x000c_4500) else { panic!("an IPI") };
    assert_eq!((ipi.message.mode, ipi.recipients), (DeliveryMode::Init, Recipients::Others));
    assert_eq!(write(&mut apic, ICR_LOW, 0x0008_8500), Effect::None, "INIT level de-assert");
    assert_eq!(write(&mut apic, ICR_LOW, 0x0000_0331), Effect::None, "a reserved mode");
    let mut extended = x2apic();
    let Ok(Effect::SendIpi(ipi)) = extended.write_msr(msr(ICR_LOW), 0x1234_5678_0000_0608, NOW) else {
        panic!("an IPI")
    };
    assert_eq!(ipi.message.destination, Destination::Physical(0x1234_5678));
    assert_eq!((ipi.message.mode, ipi.message.vector), (DeliveryMode::StartUp, Vector(8)));
    assert_eq!(extended.read_msr(msr(ICR_LOW), NOW), Ok(0x1234_5678_0000_0608));
}

#[test]
fn an_ipi_to_oneself_stays_inside() {
    let mut apic = apic();
    assert_eq!(write(&mut apic, ICR_LOW, 0x0004_0041), Effect::None);
    assert_eq!(apic.pending_vector(), Some(Vector(0x41)));
    let mut extended = x2apic();
    assert_eq!(extended.write_msr(msr(SELF_IPI), 0x42, NOW), Ok(Effect::None));
    assert_eq!(extended.pending_vector(), Some(Vector(0x42)));
}

#[test]
fn errors_show_after_a_write_and_raise_the_error_interrupt() {
    let mut apic = apic();
    write(&mut apic, LVT_ERROR, 0xfe);
    assert_eq!(write(&mut apic, ICR_LOW, 0x0000_000f), Effect::None);
    assert_eq!(apic.pending_vector(), Some(Vector(0xfe)));
    assert_eq!(read(&mut apic, ESR), 0, "not before a write");
    apic.accept(message(DeliveryMode::Fixed, TriggerMode::Edge, 3));
    read(&mut apic, 0x2f0);
    write(&mut apic, ESR, 0);
    assert_eq!(read(&mut apic, ESR), 0b1110_0000);
    write(&mut apic, ESR, 0);
    assert_eq!(read(&mut apic, ESR), 0);
}

#[test]
fn an_error_entry_with_an_illegal_vector_ends() {
    let mut apic = apic();
    write(&mut apic, LVT_ERROR, 5);
    write(&mut apic, 0x000, 1);
    write(&mut apic, ESR, 0);
    assert_eq!(read(&mut apic, ESR), 0b1100_0000);
    assert_eq!(apic.pending_vector(), None);
}

#[test]
fn odd_accesses_to_memory_are_harmless() {
    let mut apic = apic();
    assert_eq!(apic.read_mmio(VERSION + 1, Width::One, NOW), 0x00);
    assert_eq!(apic.read_mmio(VERSION + 2, Width::Two, NOW), 0x0105);
    assert_eq!(apic.read_mmio(VERSION, Width::Eight, NOW), 0x0105_0014);
    assert_eq!(apic.read_mmio(VERSION + 4, Width::Four, NOW), 0);
    apic.write_mmio(TPR, Width::One, 0x50, NOW);
    apic.write_mmio(TPR + 4, Width::Four, 0x50, NOW);
    assert_eq!(read(&mut apic, TPR), 0);
    assert_eq!(apic.read_mmio(0xffff, Width::Four, NOW), 0);
}

#[test]
fn read_only_registers_stay() {
    let mut apic = apic();
    for offset in [ID, VERSION, PPR, ISR, TMR, IRR, CURRENT] {
        let before = read(&mut apic, offset);
        assert_eq!(write(&mut apic, offset, !before), Effect::None);
        assert_eq!(read(&mut apic, offset), before, "{offset:#x}");
    }
}

#[test]
fn x2apic_accesses_fault_as_the_manual_says() {
    let mut apic = x2apic();
    let fault = Err(GeneralProtection);
    for unreadable in [EOI, SELF_IPI, DFR, ICR_HIGH, 0x90, 0xc0, 0x2f0, 0x000] {
        assert_eq!(apic.read_msr(msr(unreadable), NOW), fault, "{unreadable:#x}");
    }
    for read_only in [ID, VERSION, PPR, LDR, ISR, TMR, IRR, CURRENT, DFR, ICR_HIGH] {
        assert_eq!(apic.write_msr(msr(read_only), 0, NOW), Err(GeneralProtection), "{read_only:#x}");
    }
    let reserved = [
        (TPR, 0x100),
        (EOI, 1),
        (SVR, 0x200),
        (ESR, 1),
        (ICR_LOW, 1 << 13),
        (ICR_LOW, 1 << 20),
        (LVT_TIMER, 1 << 8),
        (LVT_TIMER, 1 << 32),
        (LVT_LINT0, 1 << 11),
        (INITIAL, 1 << 32),
        (DIVIDE, 4),
        (SELF_IPI, 0x100),
    ];
    for (offset, value) in reserved {
        assert_eq!(apic.write_msr(msr(offset), value, NOW), Err(GeneralProtection), "{offset:#x}");
    }
    assert_eq!(apic.read_msr(Msr(0x8ff), NOW), fault);
    assert_eq!(apic.read_msr(Msr(0x900), NOW), fault);
    assert_eq!(apic.read_msr(msr(ID), NOW), Ok(3));
    assert_eq!(LocalApic::new(config()).read_msr(msr(ID), NOW), fault, "not in xAPIC mode");
}

#[test]
fn the_x2apic_eoi_ends_the_interrupt() {
    let mut apic = x2apic();
    apic.accept(message(DeliveryMode::Fixed, TriggerMode::Level, 0x31));
    apic.acknowledge(Vector(0x31));
    assert_eq!(apic.write_msr(msr(EOI), 0, NOW), Ok(Effect::BroadcastEoi(Vector(0x31))));
}

#[test]
fn impossible_states_are_not_restored() {
    let good = x2apic().save();
    assert!(LocalApic::restore(config(), &good).is_ok());
    let base = DEFAULT_BASE | X2APIC;
    assert_eq!(
        LocalApic::restore(config(), &State { apic_base: base, ..good }),
        Err(BadState::ApicBase(base))
    );
    assert_eq!(
        LocalApic::restore(config(), &State { irr: [1 << 15, 0, 0, 0], ..good }),
        Err(BadState::IllegalVector)
    );
    for bad in [
        State { svr: 1 << 10, ..good },
        State { lvt: [1 << 8; 6], ..good },
        State { lvt: [0x40; 6], svr: 0xff, ..good },
        State { new_errors: 1, ..good },
        State { icr: 1 << 13, ..good },
        State { timer_divide: 4, ..good },
        State { dfr: 0, ..good },
        State { ldr: 1, ..good },
    ] {
        assert_eq!(LocalApic::restore(config(), &bad), Err(BadState::ReservedBits), "{bad:?}");
    }
}
