//! Random sequences: nothing panics, what is cached is what follows from the registers, and state survives.

use super::*;
use crate::lapic::spec::Register;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Mmio { offset: u16, value: u32 },
    ReadMmio { offset: u16 },
    Msr { number: u32, value: u64 },
    Deadline { ahead: u64 },
    Base { flags: u64 },
    Message { mode: DeliveryMode, level: bool, vector: u8 },
    Acknowledge,
    Eoi,
    Advance { by: u64 },
    Jump { to: u64 },
    Signal { first: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![
        4 => Just(DeliveryMode::Fixed), 2 => Just(DeliveryMode::LowestPriority), 1 => Just(DeliveryMode::Nmi),
    ];
    let value = prop_oneof![any::<u32>(), 0u32..0x200, (0u32..0x100).prop_map(|low| low | 1 << 17)];
    let wide = prop_oneof![any::<u64>(), 0u64..0x200];
    prop_oneof![
        4 => ((0u16..0x41).prop_map(|number| number << 4), value).prop_map(|(offset, value)| Step::Mmio { offset, value }),
        2 => any::<u16>().prop_map(|offset| Step::ReadMmio { offset }),
        3 => (0x800u32..0x840, wide).prop_map(|(number, value)| Step::Msr { number, value }),
        1 => (0u64..100_000).prop_map(|ahead| Step::Deadline { ahead }),
        1 => prop_oneof![Just(ENABLED), Just(ENABLED | X2APIC), Just(0), Just(X2APIC)].prop_map(|flags| Step::Base { flags }),
        1 => Just(Step::Mmio { offset: SVR, value: 0x1ff }),
        6 => (mode, any::<bool>(), any::<u8>()).prop_map(|(mode, level, vector)| Step::Message { mode, level, vector }),
        6 => Just(Step::Acknowledge),
        5 => Just(Step::Eoi),
        3 => prop_oneof![0u64..1_000_000, any::<u64>()].prop_map(|by| Step::Advance { by }),
        1 => any::<u64>().prop_map(|to| Step::Jump { to }),
        1 => any::<bool>().prop_map(|first| Step::Signal { first }),
    ]
}

fn run(apic: &mut LocalApic, now: &mut u64, step: Step) {
    let time = Tsc(*now);
    match step {
        Step::Mmio { offset, value } => {
            apic.write_mmio(offset, Width::Four, value.into(), time);
        }
        Step::ReadMmio { offset } => {
            apic.read_mmio(offset, Width::Four, time);
        }
        Step::Msr { number, value } => {
            let before = apic.clone();
            if apic.write_msr(Msr(number), value, time).is_err() {
                assert_eq!(*apic, before, "a faulting write changes nothing");
            }
            apic.read_msr(Msr(number), time).ok();
        }
        Step::Deadline { ahead } => {
            apic.write_msr(Msr::TSC_DEADLINE, now.saturating_add(ahead), time).expect("always there");
        }
        Step::Base { flags } => {
            apic.set_base(DEFAULT_BASE | flags).ok();
        }
        Step::Message { mode, level, vector } => {
            let trigger = if level { TriggerMode::Level } else { TriggerMode::Edge };
            apic.accept(message(mode, trigger, vector));
        }
        Step::Acknowledge => {
            if let Some(vector) = apic.pending_vector() {
                apic.acknowledge(vector);
                assert!(
                    apic.pending_vector() < Some(vector),
                    "a handler is not interrupted by its own class"
                );
            }
        }
        Step::Eoi => {
            apic.end_of_interrupt();
        }
        Step::Advance { by } => {
            *now = now.saturating_add(by);
            apic.advance(Tsc(*now));
            assert!(apic.timer_deadline().is_none_or(|deadline| deadline.0 > *now || *now == u64::MAX));
        }
        Step::Jump { to } => {
            apic.tsc_jumped(time, Tsc(to));
            *now = to;
        }
        Step::Signal { first } => {
            let pin = if first { Pin::Lint0 } else { Pin::Lint1 };
            apic.set_pin(pin, Level::High);
            apic.set_pin(pin, Level::Low);
        }
    }
}

fn register(apic: &mut LocalApic, offset: u16) -> u32 {
    let number = u8::try_from(offset >> 4).expect("in the page");
    apic.read(Register::from_number(number).expect("it is there"), NOW)
}

/// The highest vector in eight registers from `first` on.
fn highest(apic: &mut LocalApic, first: u16) -> u32 {
    (0..8u16)
        .rev()
        .find_map(|index| {
            let bits = register(apic, first + index * 16);
            (bits != 0).then(|| u32::from(index) * 32 + 31 - bits.leading_zeros())
        })
        .unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_cached_follows_from_the_registers(steps in prop::collection::vec(step(), 1..120)) {
        let mut apic = apic();
        let mut now = 1000;
        for step in steps {
            run(&mut apic, &mut now, step);
            let (requested, in_service) = (highest(&mut apic, IRR), highest(&mut apic, ISR));
            let task = register(&mut apic, TPR);
            let priority = if task & 0xf0 >= in_service & 0xf0 { task } else { in_service & 0xf0 };
            prop_assert_eq!(register(&mut apic, PPR), priority);
            let expected = (requested & 0xf0 > priority & 0xf0).then_some(requested);
            prop_assert_eq!(apic.pending_vector().map(|vector| u32::from(vector.0)), expected);
            prop_assert!(requested == 0 || requested >= 16);
            let state = apic.save();
            let restored = LocalApic::restore(config(), &state).expect("a state that was");
            prop_assert_eq!(restored.save(), state);
            prop_assert_eq!(restored.pending_vector(), apic.pending_vector());
            prop_assert_eq!(restored.timer_deadline(), apic.timer_deadline());
        }
    }

    #[test]
    fn the_count_agrees_with_exact_arithmetic(
        timer in 1u64..200_000_000, per_tick in 1u64..1000, initial in 1u32.., after in any::<u32>(),
    ) {
        // An integral ratio, so that the fixed-point one is exact.
        let rate = rate(timer, timer * per_tick);
        let mut apic = LocalApic::new(Config { timer_rate: rate, ..config() });
        write(&mut apic, SVR, 0x1ff);
        write(&mut apic, DIVIDE, 11);
        write(&mut apic, INITIAL, initial);
        let elapsed = u64::from(after);
        let expected = u64::from(initial).saturating_sub(elapsed / per_tick);
        prop_assert_eq!(apic.read_mmio(CURRENT, Width::Four, NOW + Tsc(elapsed)), expected);
    }
}
