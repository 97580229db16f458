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
    let one_byte = prop::sample::select(vec![
        0x01_u8, 0x13, 0x29, 0x38, 0x63, 0x69, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f, 0x80, 0x81, 0x83, 0x87, 0x88,
        0x89, 0x8a, 0x8b, 0x8c, 0x8f, 0xa1, 0xa3, 0xa4, 0xa5, 0xa7, 0xaa, 0xab, 0xad, 0xaf, 0xc1, 0xc7, 0xd3,
        0xf6, 0xf7, 0xfe, 0xff,
    ]);
    let two_bytes = prop::sample::select(vec![
        0x10_u8, 0x11, 0x12, 0x13, 0x16, 0x17, 0x28, 0x29, 0x2b, 0x44, 0x6e, 0x6f, 0x7e, 0x7f, 0x95, 0xa3,
        0xa4, 0xab, 0xac, 0xae, 0xaf, 0xb0, 0xb1, 0xb6, 0xb7, 0xb8, 0xba, 0xbb, 0xbc, 0xbd, 0xbe, 0xc1, 0xc3,
        0xc7, 0xd6, 0xe7, 0xf0,
    ]);
    let vex = prop::sample::select(vec![0x10_u8, 0x11, 0x16, 0x28, 0x29, 0x6f, 0x7f, 0xd6, 0xe7]);
    let opcode = prop_oneof![
        any::<u8>().prop_map(|opcode| vec![opcode]),
        one_byte.prop_map(|opcode| vec![opcode]),
        two_bytes.prop_map(|opcode| vec![0x0f, opcode]),
        prop::sample::select(vec![0xf0_u8, 0xf1, 0x2a]).prop_map(|opcode| vec![0x0f, 0x38, opcode]),
        (any::<u8>(), vex.clone()).prop_map(|(vex, opcode)| vec![0xc5, vex, opcode]),
        (any::<u8>(), any::<u8>(), vex).prop_map(|(evex, last, opcode)| vec![
            0x62,
            0xf1,
            evex | 4,
            last & 0x78,
            opcode
        ]),
    ];
    let prefix = prop::sample::select(vec![0xf3_u8, 0xf2, 0x66, 0x67, 0xf0, 0x48, 0x64, 0x36]);
    (prop::collection::vec(prefix, 0..3), opcode, prop::collection::vec(any::<u8>(), 14)).prop_map(
        |(mut bytes, opcode, rest)| {
            bytes.extend(opcode);
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

/// CALL, RET, and the group with JMP and CALL through memory.
fn may_branch(code: &[u8]) -> bool {
    code.iter().any(|byte| matches!(byte, 0xc2 | 0xc3 | 0xe8 | 0xff))
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
            Emulated::Done { next_rip } => prop_assert!(next_rip.wrapping_sub(CODE) <= 15 || may_branch(&code)),
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
