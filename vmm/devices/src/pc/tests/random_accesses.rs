//! Any accesses at any time: survived, and answered the same by a machine restored in between.

use super::*;

#[derive(Clone, Debug)]
enum Step {
    In(u16, Width),
    Out(u16, Width, u32),
    Load(u64, Width),
    Store(u64, Width, u64),
    LoadPci(u64, Width),
    StorePci(u64, Width, u64),
    SetUpPci,
    Eoi(u8),
    Keys(u8),
    GeneralEvent(u8),
    Acknowledge,
    TakeMessage,
    Wait(u64),
    Sleep,
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(0x20_u16..0x22),
        Just(0x40..0x44),
        Just(0x60..0x65),
        Just(0x70..0x74),
        Just(0xb2..0xb4),
        Just(0xe9..0xf8),
        Just(0xa0..0xa2),
        Just(0x3f6..0x401),
        Just(0x4d0..0x4d2),
        Just(0x600..0x610),
        Just(0x50e..0x51e),
        Just(0xcf6..0xd01),
        Just(0xc000..0xc048),
        Just(0..0xffff),
    ]
    .prop_flat_map(|ports| ports)
}

fn width() -> impl Strategy<Value = Width> {
    prop::sample::select(vec![Width::One, Width::Two, Width::Four, Width::Eight])
}

fn step() -> impl Strategy<Value = Step> {
    let gpa = || {
        prop_oneof![
            prop_oneof![Just(0_u64), Just(0x10), Just(0x40), 0_u64..0x1010]
                .prop_map(|offset| 0xfec0_0000 + offset),
            prop_oneof![0_u64..0x160, Just(0x10), (0x20_u64..0x2c).prop_map(|register| 8 * register)]
                .prop_map(|offset| HPET + offset),
        ]
    };
    prop_oneof![
        6 => (port(), width()).prop_map(|(port, width)| Step::In(port, width)),
        8 => (port(), width(), any::<u32>()).prop_map(|(port, width, value)| Step::Out(port, width, value)),
        1 => (gpa(), width()).prop_map(|(gpa, width)| Step::Load(gpa, width)),
        4 => (gpa(), width(), prop_oneof![any::<u64>(), 0_u64..1 << 20])
            .prop_map(|(gpa, width, value)| Step::Store(gpa, width, value)),
        1 => any::<u8>().prop_map(Step::Keys),
        1 => any::<u8>().prop_map(Step::GeneralEvent),
        1 => (0_u64..0x20, width()).prop_map(|(offset, width)| Step::LoadPci(offset, width)),
        2 => (0_u64..0x20, width(), any::<u64>()).prop_map(|(offset, width, value)| Step::StorePci(offset, width, value)),
        1 => Just(Step::SetUpPci),
        1 => any::<u8>().prop_map(Step::Eoi),
        1 => Just(Step::Acknowledge),
        1 => Just(Step::TakeMessage),
        2 => prop_oneof![0_u64..1 << 20, 0_u64..1 << 55].prop_map(Step::Wait),
        2 => Just(Step::Sleep),
    ]
}

type Seen = (u64, Option<InterruptMessage>, Option<PowerRequest>, Attention, bool, Nanos);

fn take(pc: &mut Pc, step: &Step, now: &mut Nanos) -> Seen {
    let (mut read, mut message) = (0, None);
    match *step {
        Step::In(port, width) => read = u64::from(pc.port_read(Port(port), width, *now)),
        Step::Out(port, width, value) => pc.port_write(Port(port), width, value, *now),
        Step::Load(gpa, width) => read = pc.mmio_read(Gpa::new(gpa), width, *now),
        Step::Store(gpa, width, value) => pc.mmio_write(Gpa::new(gpa), width, value, *now),
        Step::Keys(code) => read = u64::from(pc.press_keys(&[0xf0, code])),
        Step::GeneralEvent(number) => pc.raise_general_event(number),
        Step::LoadPci(offset, width) => read = pc.mmio_read(Gpa::new(PCI_MEMORY + offset), width, *now),
        Step::StorePci(offset, width, value) => {
            pc.mmio_write(Gpa::new(PCI_MEMORY + offset), width, value, *now);
        }
        Step::SetUpPci => pc.set_up_test_function(),
        Step::Eoi(vector) => pc.end_of_interrupt(Vector(vector), *now),
        Step::Acknowledge => read = u64::from(pc.acknowledge_external_interrupt().0),
        Step::TakeMessage => message = pc.take_message(),
        Step::Wait(ns) => {
            *now = *now + Nanos(ns);
            pc.advance(*now);
            assert!(pc.next_deadline() > *now, "a timer that is not settled would spin the caller");
        }
        Step::Sleep => {
            if pc.next_deadline() != Nanos::NEVER {
                *now = (*now).max(pc.next_deadline());
                pc.advance(*now);
                assert!(pc.next_deadline() > *now, "a timer that is not settled would spin the caller");
            }
        }
    }
    (read, message, pc.take_power_request(), pc.take_attention(), pc.external_interrupt(), pc.next_deadline())
}

proptest! {
    #[test]
    fn any_accesses_are_survived_and_a_restored_machine_goes_on_the_same(
        before in prop::collection::vec(step(), 0..150),
        after in prop::collection::vec(step(), 0..150),
    ) {
        let (mut original, terminal) = pc();
        let mut now = T0;
        for step in &before {
            let _seen = take(&mut original, step, &mut now);
        }
        while terminal.receive().is_some() {}
        let (mut copy, _terminal) = pc();
        copy.restore(&original.save());
        prop_assert_eq!(copy.lines.levels(), original.lines.levels());
        let _restored = copy.take_attention();
        let mut copy_now = now;
        for step in &after {
            prop_assert_eq!(take(&mut original, step, &mut now), take(&mut copy, step, &mut copy_now));
        }
        prop_assert_eq!(original.save(), copy.save());
    }
}
