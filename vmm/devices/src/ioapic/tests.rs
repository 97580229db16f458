//! Behaviour of the I/O APIC, through its registers.

use super::*;
use bus::{DeliveryMode, Destination, TriggerMode};
use proptest::prelude::*;

const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const REMOTE_IRR: u32 = 1 << 14;

impl IoApic {
    fn set_register(&mut self, index: u8, value: u32) {
        self.write(0, Width::Four, u64::from(index));
        self.write(0x10, Width::Four, u64::from(value));
    }

    fn register(&mut self, index: u8) -> u32 {
        self.write(0, Width::Four, u64::from(index));
        low_word(self.read(0x10, Width::Four))
    }

    fn messages(&mut self) -> Vec<InterruptMessage> {
        core::iter::from_fn(|| self.take_message()).collect()
    }

    fn vectors(&mut self) -> Vec<u8> {
        self.messages().iter().map(|message| message.vector.0).collect()
    }
}

/// Register index of the low half of a pin's entry.
fn low(pin: u8) -> u8 {
    0x10 + 2 * pin
}

#[test]
fn identification_registers_are_those_of_the_chip() {
    let mut apic = IoApic::new();
    assert_eq!(apic.register(1), 0x0017_0020);
    apic.set_register(0, 0xffff_ffff);
    assert_eq!((apic.register(0), apic.register(2)), (0x0f00_0000, 0x0f00_0000));
    apic.set_register(1, 0);
    assert_eq!(apic.register(1), 0x0017_0020);
    assert_eq!((apic.register(0x40), apic.register(3)), (0, 0));
}

#[test]
fn entries_are_masked_after_reset_and_keep_only_their_bits() {
    let mut apic = IoApic::new();
    for pin in 0..IOAPIC_PINS {
        assert_eq!((apic.register(low(pin)), apic.register(low(pin) + 1)), (0x0001_0000, 0));
    }
    apic.set_register(low(23), 0xffff_ffff);
    apic.set_register(low(23) + 1, 0xffff_ffff);
    assert_eq!((apic.register(low(23)), apic.register(low(23) + 1)), (0x0001_afff, 0xff00_0000));
}

#[test]
fn an_edge_sends_one_message_with_everything_in_the_entry() {
    let mut apic = IoApic::new();
    apic.set_register(low(4) + 1, 0x0300_0000);
    apic.set_register(low(4), 0x0931);
    apic.set_lines(1 << 4, 1 << 4);
    apic.set_lines(1 << 4, 0);
    let expected = InterruptMessage {
        destination: Destination::Logical(3),
        mode: DeliveryMode::LowestPriority,
        trigger: TriggerMode::Edge,
        vector: Vector(0x31),
    };
    assert_eq!(apic.messages(), [expected]);
}

#[test]
fn an_edge_on_a_masked_pin_is_lost_and_a_level_is_not() {
    let mut apic = IoApic::new();
    apic.set_register(low(3), 0x33 | MASKED);
    apic.set_register(low(5), 0x55 | MASKED | LEVEL);
    apic.set_lines(1 << 3 | 1 << 5, 1 << 3 | 1 << 5);
    assert!(!apic.has_message());
    apic.set_register(low(3), 0x33);
    apic.set_register(low(5), 0x55 | LEVEL);
    assert_eq!(apic.vectors(), [0x55]);
}

#[test]
fn a_level_waits_for_the_eoi_and_is_delivered_again_while_up() {
    let mut apic = IoApic::new();
    apic.set_register(low(9), 0x40 | LEVEL);
    apic.set_lines(1 << 9, 1 << 9);
    assert_eq!(apic.vectors(), [0x40]);
    assert_ne!(apic.register(low(9)) & REMOTE_IRR, 0);
    apic.set_lines(0, 0);
    apic.set_lines(1 << 9, 1 << 9);
    assert_eq!(apic.vectors(), []);
    apic.end_of_interrupt(Vector(0x41));
    assert_eq!(apic.vectors(), []);
    apic.end_of_interrupt(Vector(0x40));
    assert_eq!(apic.vectors(), [0x40]);
    apic.set_lines(0, 0);
    apic.end_of_interrupt(Vector(0x40));
    assert_eq!(apic.vectors(), []);
    assert_eq!(apic.register(low(9)) & REMOTE_IRR, 0);
}

#[test]
fn a_level_masked_between_delivery_and_eoi_comes_when_unmasked() {
    let mut apic = IoApic::new();
    apic.set_register(low(9), 0x40 | LEVEL);
    apic.set_lines(1 << 9, 1 << 9);
    let _first = apic.messages();
    apic.set_register(low(9), 0x40 | LEVEL | MASKED);
    apic.end_of_interrupt(Vector(0x40));
    assert!(!apic.has_message());
    apic.set_register(low(9), 0x40 | LEVEL);
    assert_eq!(apic.vectors(), [0x40]);
}

#[test]
fn becoming_edge_triggered_clears_remote_irr() {
    let mut apic = IoApic::new();
    apic.set_register(low(9), 0x40 | LEVEL);
    apic.set_lines(1 << 9, 1 << 9);
    apic.set_register(low(9), 0x40 | MASKED);
    assert_eq!(apic.register(low(9)) & REMOTE_IRR, 0);
}

#[test]
fn writing_cannot_set_or_clear_remote_irr_of_a_level_pin() {
    let mut apic = IoApic::new();
    apic.set_register(low(9), 0x40 | LEVEL | REMOTE_IRR);
    assert_eq!(apic.register(low(9)) & REMOTE_IRR, 0);
    apic.set_lines(1 << 9, 1 << 9);
    apic.set_register(low(9), 0x40 | LEVEL);
    assert_ne!(apic.register(low(9)) & REMOTE_IRR, 0);
}

#[test]
fn reserved_delivery_modes_send_nothing_and_nmi_is_an_edge_always() {
    let mut apic = IoApic::new();
    apic.set_register(low(1), 0x0331);
    apic.set_register(low(2), 0x0432 | LEVEL);
    apic.set_lines(0b110, 0b110);
    let messages = apic.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].mode, messages[0].trigger), (DeliveryMode::Nmi, TriggerMode::Edge));
}

#[test]
fn messages_of_one_pin_become_one_while_nobody_takes_them() {
    let mut apic = IoApic::new();
    apic.set_register(low(4), 0x31);
    for _ in 0..1000 {
        apic.set_lines(1 << 4, 1 << 4);
        apic.set_lines(0, 0);
    }
    assert_eq!(apic.vectors(), [0x31]);
}

#[test]
fn accesses_of_other_sizes_and_places_do_what_is_documented() {
    let mut apic = IoApic::new();
    apic.write(0, Width::One, 0x01);
    assert_eq!(apic.read(0x10, Width::One), 0x20);
    assert_eq!(apic.read(0x10, Width::Two), 0x0020);
    assert_eq!(apic.read(0x10, Width::Eight), 0x0017_0020);
    assert_eq!(apic.read(0, Width::Four), 1);
    assert_eq!(apic.read(0x12, Width::Two), 0xffff);
    assert_eq!(apic.read(0x40, Width::Four), 0xffff_ffff);
    apic.write(0, Width::Four, u64::from(low(0)));
    apic.write(0x10, Width::Two, 0x31);
    apic.write(0x14, Width::Four, 0x31);
    assert_eq!(apic.register(low(0)), MASKED);
}

#[test]
fn restored_between_delivery_and_eoi_the_level_comes_again() {
    let mut apic = IoApic::new();
    apic.set_register(low(9), 0x40 | LEVEL);
    apic.set_lines(1 << 9, 1 << 9);
    let mut copy = IoApic::new();
    copy.restore(&apic.save());
    assert_eq!(copy.vectors(), [0x40]);
    copy.end_of_interrupt(Vector(0x40));
    assert_eq!(copy.vectors(), [0x40]);
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64, Width),
    Write(u64, Width, u64),
    Entry(u8, u32),
    Lines(u32, u32),
    Eoi(u8),
    Take,
}

fn width() -> impl Strategy<Value = Width> {
    prop::sample::select(vec![Width::One, Width::Two, Width::Four, Width::Eight])
}

fn step() -> impl Strategy<Value = Step> {
    let offset = || prop_oneof![Just(0_u64), Just(0x10), 0_u64..0x1000];
    prop_oneof![
        (offset(), width()).prop_map(|(offset, width)| Step::Read(offset, width)),
        (offset(), width(), any::<u64>())
            .prop_map(|(offset, width, value)| Step::Write(offset, width, value)),
        (0x10_u8..0x40, any::<u32>()).prop_map(|(index, value)| Step::Entry(index, value & !(0xe0 | MASKED))),
        (any::<u32>(), any::<u32>()).prop_map(|(level, rose)| Step::Lines(level, rose)),
        (0_u8..32).prop_map(Step::Eoi),
        Just(Step::Take),
    ]
}

fn take(apic: &mut IoApic, step: &Step) -> (u64, Option<InterruptMessage>, bool) {
    let (mut read, mut message) = (0, None);
    match *step {
        Step::Read(offset, width) => read = apic.read(offset, width),
        Step::Write(offset, width, value) => apic.write(offset, width, value),
        Step::Entry(index, value) => apic.set_register(index, value),
        Step::Lines(level, rose) => apic.set_lines(level, rose),
        Step::Eoi(vector) => apic.end_of_interrupt(Vector(vector)),
        Step::Take => message = apic.take_message(),
    }
    (read, message, apic.has_message())
}

proptest! {
    #[test]
    fn any_accesses_are_survived_and_a_restored_apic_goes_on_the_same(
        before in prop::collection::vec(step(), 0..100),
        after in prop::collection::vec(step(), 0..100),
    ) {
        let mut original = IoApic::new();
        for step in &before {
            let _seen = take(&mut original, step);
        }
        let mut copy = IoApic::new();
        copy.restore(&original.save());
        for step in &after {
            prop_assert_eq!(take(&mut original, step), take(&mut copy, step));
        }
        prop_assert_eq!(original.save(), copy.save());
        prop_assert!(original.messages().len() <= PINS);
    }
}

#[test]
fn the_eoi_register_ends_the_vector_as_a_broadcast_does() {
    let mut apic = IoApic::new();
    apic.set_register(low(5), LEVEL | 0x41);
    apic.set_lines(1 << 5, 0);
    assert_eq!((apic.vectors(), apic.register(low(5)) & REMOTE_IRR), (vec![0x41], REMOTE_IRR));
    apic.write(0x40, Width::Four, 0x42);
    assert_eq!(apic.register(low(5)) & REMOTE_IRR, REMOTE_IRR, "another vector");
    apic.write(0x40, Width::One, 0x41);
    assert_eq!(apic.vectors(), [0x41], "the line is still up");
    apic.set_lines(0, 0);
    apic.write(0x40, Width::Four, 0xffff_ff41);
    assert_eq!((apic.vectors(), apic.register(low(5)) & REMOTE_IRR), (vec![], 0));
    assert_eq!(apic.read(0x40, Width::Four), 0xffff_ffff);
}
