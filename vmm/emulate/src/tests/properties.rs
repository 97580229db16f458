//! Whatever a guest does: no panic, bounded work, and faults that change nothing.

use crate::fixture::{CODE, DATA, DEVICE, Rig};
use crate::{Access, Emulated, KnownTranslation, REP_SLICE};
use arch::{Cr0Flags, Cr4Flags, EferFlags, Gpa, Gva, RFlags, Segment};
use memory::GuestMemory;
use proptest::prelude::*;

/// Values that are addresses of something more often than chance.
fn register() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0_u64..0x2000).prop_map(|offset| DATA + offset),
        (0_u64..0x2000).prop_map(|offset| DEVICE + offset),
        (0_u64..32).prop_map(|small| small),
        (0_u64..32).prop_map(|small| small.wrapping_neg()),
    ]
}

fn segment() -> impl Strategy<Value = Segment> {
    (any::<u16>(), any::<u64>(), any::<u32>(), any::<u32>())
        .prop_map(|(selector, base, limit, access_rights)| Segment { selector, base, limit, access_rights })
}

/// A byte string that begins with an emulated opcode more often than chance.
fn code() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        any::<u8>(),
        Just(0x89),
        Just(0x8b),
        Just(0xc7),
        Just(0xa4),
        Just(0xa5),
        Just(0xab),
        Just(0xff),
        Just(0x6c),
        Just(0x6f)
    ];
    let prefix = prop_oneof![Just(0xf3), Just(0x66), Just(0x67), Just(0xf0), Just(0x48), Just(0x0f)];
    (prop::collection::vec(prefix, 0..3), opcode, prop::collection::vec(any::<u8>(), 14)).prop_map(
        |(mut bytes, opcode, rest)| {
            bytes.push(opcode);
            bytes.extend(rest);
            bytes.truncate(15);
            bytes
        },
    )
}

fn rig(mode: u8) -> Rig {
    match mode {
        0 => Rig::real(),
        1 => Rig::protected(),
        2 => Rig::long(),
        _ => {
            let mut rig = Rig::long();
            rig.enter_user_mode();
            rig
        }
    }
}

fn is_repeated(code: &[u8]) -> bool {
    code.iter().take(4).any(|byte| matches!(byte, 0xf2 | 0xf3))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn instructions_in_a_sane_machine_keep_their_promises(
        mode in 0_u8..4, registers in prop::array::uniform16(register()), flags in any::<u64>(), code in code(),
    ) {
        let mut rig = rig(mode);
        rig.cpu.gprs = registers;
        rig.cpu.rflags = RFlags::from_bits_retain(flags);
        let before = rig.cpu.clone();
        let outcome = rig.run(&code);
        // A string instruction makes two accesses an iteration, and each has at most four pieces.
        prop_assert!(rig.devices.seen.len() as u64 <= u64::from(REP_SLICE) * 8);
        prop_assert_eq!(rig.cpu.rip, before.rip);
        match outcome {
            Emulated::Fault(_) if !is_repeated(&code) => prop_assert_eq!(&rig.cpu, &before),
            Emulated::Unsupported { .. } | Emulated::FetchOutsideRam(_) => {
                prop_assert_eq!(&rig.cpu, &before);
                prop_assert!(rig.devices.seen.is_empty());
            }
            Emulated::Done { next_rip } => prop_assert!(next_rip - CODE <= 15),
            Emulated::Again => prop_assert!(is_repeated(&code)),
            Emulated::Fault(_) => {}
        }
    }

    #[test]
    fn random_state_never_panics(
        registers in prop::array::uniform16(register()),
        segments in prop::array::uniform8(segment()),
        control in any::<(u64, u64, u64, u64)>(),
        rip in register(), flags in any::<u64>(), bits in any::<u8>(), page in any::<[u8; 32]>(), code in code(),
    ) {
        let mut rig = Rig::long();
        for (index, byte) in page.iter().enumerate() {
            rig.memory.write(Gpa::new(0x1000 + 257 * index as u64), &[*byte]).expect("RAM");
        }
        rig.memory.write(Gpa::new(CODE), &code).expect("RAM");
        rig.cpu.gprs = registers;
        rig.cpu.segments = segments;
        rig.cpu.cr0 = Cr0Flags::from_bits_retain(control.0);
        rig.cpu.cr3 = control.1 & 0x3fff;
        rig.cpu.cr4 = Cr4Flags::from_bits_retain(control.2);
        rig.cpu.efer = EferFlags::from_bits_retain(control.3);
        rig.cpu.rip = rip;
        rig.cpu.rflags = RFlags::from_bits_retain(flags);
        rig.cpu.features.physical_address_bits = bits;
        rig.step();
        rig.cpu.rip = CODE;
        rig.step();
    }

    #[test]
    fn a_true_known_translation_changes_nothing(
        registers in prop::array::uniform16(register()), code in code(), offset in 0_u64..0x1000, write: bool,
    ) {
        let (mut plain, mut informed) = (Rig::long(), Rig::long());
        plain.cpu.gprs = registers;
        informed.cpu.gprs = registers;
        let at = DEVICE + offset;
        let access = if write { Access::Write } else { Access::Read };
        informed.known = Some(KnownTranslation { gva: Gva::new(at), gpa: Gpa::new(at), access });
        prop_assert_eq!(plain.run(&code), informed.run(&code));
        prop_assert_eq!(plain.cpu, informed.cpu);
        prop_assert_eq!(plain.devices.seen, informed.devices.seen);
    }
}
