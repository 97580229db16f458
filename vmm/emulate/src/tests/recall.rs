//! Instructions that were seen before: they do what they do when they are seen first, whatever has changed meanwhile.

use crate::fixture::{CODE, DATA, DEVICE, PAGE_TABLE, Rig, Seen};
use crate::{Access, Emulated, Emulator, KnownTranslation};
use arch::{Cr0Flags, Cr4Flags, EferFlags, Exception, Gpa, Gpr, Gva, SegmentRegister, Width};
use memory::GuestMemory;
use proptest::prelude::*;

/// mov [rdi], eax
const STORE: [u8; 2] = [0x89, 0x07];
/// The entry of the page with the code.
const CODE_ENTRY: u64 = PAGE_TABLE + (CODE >> 12) * 8;
/// Present, writable, accessed, dirty.
const KERNEL_PAGE: u64 = 0x63;
const ACCESSED: u64 = 1 << 5;
const NO_EXECUTE: u64 = 1 << 63;

fn known(access: Access) -> Option<KnownTranslation> {
    Some(KnownTranslation { gva: Gva::new(DEVICE), gpa: Gpa::new(DEVICE), access })
}

/// A machine that has run [`STORE`] twice.
fn warm() -> Rig {
    let mut rig = Rig::long();
    rig.known = known(Access::Write);
    rig.set(Gpr::Rdi, DEVICE).set(Gpr::Rax, 0x1_0000_0007);
    rig.done(&STORE).done(&STORE);
    assert_eq!(rig.seen(), [Seen::Write(DEVICE, Width::Four, 7); 2]);
    rig
}

fn fetch_fault(error_code: u32) -> Emulated {
    Emulated::Fault(Exception::PageFault { error_code, address: CODE })
}

#[test]
fn code_that_was_mapped_elsewhere_is_noticed() {
    let mut rig = warm();
    rig.poke(CODE_ENTRY, 0xd000 | KERNEL_PAGE);
    rig.memory.write(Gpa::new(0xd000), &[0x88, 0x07]).expect("RAM"); // mov [rdi], al
    assert_eq!(rig.step(), Emulated::Done { next_rip: CODE + 2 });
    assert_eq!(rig.seen(), [Seen::Write(DEVICE, Width::One, 7)]);
}

#[test]
fn a_table_that_was_replaced_is_noticed() {
    let mut rig = warm();
    rig.poke(0x3000, 0xe000 | KERNEL_PAGE);
    assert_eq!(rig.step(), fetch_fault(0x10));
    rig.poke(0xe000 + (CODE >> 12) * 8, CODE | KERNEL_PAGE);
    assert_eq!(rig.step(), Emulated::Done { next_rip: CODE + 2 });
}

#[test]
fn a_cleared_accessed_flag_is_set_again() {
    let mut rig = warm();
    for _ in 0..2 {
        rig.poke(CODE_ENTRY, rig.peek(CODE_ENTRY) & !ACCESSED);
        assert_eq!(rig.step(), Emulated::Done { next_rip: CODE + 2 });
        assert_eq!(rig.peek(CODE_ENTRY) & ACCESSED, ACCESSED);
    }
}

#[test]
fn a_page_that_lost_its_execute_right_faults() {
    let mut rig = warm();
    rig.poke(CODE_ENTRY, rig.peek(CODE_ENTRY) | NO_EXECUTE);
    assert_eq!(rig.step(), fetch_fault(0x11));
    assert!(rig.seen().is_empty());
}

#[test]
fn code_of_the_kernel_is_not_for_user_programs() {
    let mut rig = warm();
    rig.cpu.segments[SegmentRegister::Ss as usize].access_rights |= 0x60;
    assert_eq!(rig.step(), fetch_fault(0x15));
}

#[test]
fn code_of_user_programs_is_not_for_a_kernel_with_smep() {
    let mut rig = warm();
    rig.enter_user_mode();
    rig.cpu.segments[SegmentRegister::Ss as usize].access_rights &= !0x60;
    assert_eq!(rig.step(), Emulated::Done { next_rip: CODE + 2 });
    rig.cpu.cr4 |= Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION;
    assert_eq!(rig.step(), fetch_fault(0x11));
}

#[test]
fn each_root_leads_to_its_own_code() {
    let mut rig = warm();
    // As another process: a root of its own, with the same tables below.
    rig.poke(0xe000, rig.peek(0x1000));
    rig.cpu.cr3 = 0xe000;
    assert_eq!(rig.step(), Emulated::Done { next_rip: CODE + 2 });
    // And one with other tables.
    rig.poke(0xf000, 0x1_0000 | KERNEL_PAGE);
    rig.cpu.cr3 = 0xf000;
    assert_eq!(rig.step(), fetch_fault(0x10));
}

#[test]
fn every_byte_of_a_long_instruction_counts() {
    // mov dword [rdi+8], 0x12345678
    let long = [0xc7, 0x87, 0x08, 0, 0, 0, 0x78, 0x56, 0x34, 0x12];
    for start in 0..8 {
        for changed in 2..long.len() {
            let mut rig = warm();
            rig.cpu.rip = CODE + 0x100 + start;
            rig.done(&long).done(&long);
            assert_eq!(rig.seen(), [Seen::Write(DEVICE + 8, Width::Four, 0x1234_5678); 2]);
            let mut other = long;
            other[changed] ^= 1;
            rig.run(&other);
            let mut cold = warm();
            cold.cpu.rip = rig.cpu.rip;
            cold.run(&other);
            assert_eq!(rig.seen(), cold.seen(), "byte {changed}");
        }
    }
}

#[test]
fn an_instruction_up_to_the_end_of_the_page_needs_no_second_page() {
    let mut rig = warm();
    rig.poke(CODE_ENTRY + 8, 0);
    rig.cpu.rip = CODE + 0xffe;
    for _ in 0..3 {
        rig.done(&STORE);
    }
    assert_eq!(rig.seen(), [Seen::Write(DEVICE, Width::Four, 7); 3]);
}

#[test]
fn an_instruction_across_pages_follows_its_second_page() {
    let mut rig = warm();
    rig.cpu.rip = CODE + 0xfff;
    rig.done(&STORE).done(&STORE);
    rig.seen();
    rig.poke(CODE_ENTRY + 8, 0xd000 | KERNEL_PAGE);
    rig.memory.write(Gpa::new(0xd000), &[0x0f]).expect("RAM"); // mov [rdi], ecx
    rig.set(Gpr::Rcx, 9);
    assert_eq!(rig.step(), Emulated::Done { next_rip: CODE + 0x1001 });
    assert_eq!(rig.seen(), [Seen::Write(DEVICE, Width::Four, 9)]);
}

#[test]
fn the_bytes_at_rip_count_without_paging_too() {
    let mut rig = warm();
    rig.cpu.cr0 -= Cr0Flags::PAGING;
    // No processor is like this, but what would be the root looks like the code.
    rig.cpu.cr3 = 0xe000;
    rig.memory.write(Gpa::new(0xe000), &STORE).expect("RAM");
    rig.set(Gpr::Rdi, DATA).done(&STORE).done(&STORE);
    rig.poke(DATA, u64::MAX);
    rig.done(&[0x88, 0x07]); // mov [rdi], al
    assert_eq!(rig.peek(DATA), !0xf8);
}

#[test]
fn a_translation_for_reads_gives_no_right_to_write() {
    let mut rig = warm();
    let device_entry = 0x5000 + 0x1f7 * 8;
    rig.poke(device_entry, rig.peek(device_entry) & !2);
    rig.known = known(Access::Read);
    let fault = Exception::PageFault { error_code: 3, address: DEVICE };
    assert_eq!(rig.step(), Emulated::Fault(fault));
    rig.known = known(Access::Execute);
    assert_eq!(rig.step(), Emulated::Fault(fault));
}

#[test]
fn another_page_than_the_translated_one_is_walked_to() {
    let mut rig = warm();
    rig.set(Gpr::Rdi, DATA);
    assert_eq!(rig.step(), Emulated::Done { next_rip: CODE + 2 });
    assert!(rig.seen().is_empty());
    assert_eq!(rig.peek(DATA), 7);
    rig.set(Gpr::Rdi, 0x8000_0000_0000);
    assert_eq!(rig.step(), Emulated::Fault(Exception::GeneralProtection(0)));
}

#[test]
fn plain_moves_keep_or_clear_what_they_do_not_write() {
    let value = 0x8899_aabb_ccdd_eeff_u64;
    let cases: [(&[u8], Width, u64); 6] = [
        (&[0x8a, 0x07], Width::One, 0x1111_1111_1111_11ff), // mov al, [rdi]
        (&[0x66, 0x8b, 0x07], Width::Two, 0x1111_1111_1111_eeff), // mov ax, [rdi]
        (&[0x8b, 0x07], Width::Four, 0xccdd_eeff),          // mov eax, [rdi]
        (&[0x48, 0x8b, 0x07], Width::Eight, value),         // mov rax, [rdi]
        (&[0x66, 0x0f, 0xb6, 0x07], Width::One, 0x1111_1111_1111_00ff), // movzx ax, byte [rdi]
        (&[0x0f, 0xb7, 0x07], Width::Two, 0xeeff),          // movzx eax, word [rdi]
    ];
    for (code, width, expected) in cases {
        let mut rig = Rig::long();
        rig.known = known(Access::Read);
        rig.set(Gpr::Rdi, DEVICE).answer(&[value; 3]);
        for _ in 0..3 {
            rig.set(Gpr::Rax, 0x1111_1111_1111_1111).done(code);
            assert_eq!(rig.get(Gpr::Rax), expected, "{code:x?}");
        }
        assert_eq!(rig.seen(), [Seen::Read(DEVICE, width); 3]);
    }
}

/// What happens between two runs of an instruction.
#[derive(Clone, Copy, Debug)]
enum Change {
    Nothing,
    /// A bit of the code.
    Code(u8, u8),
    /// A bit of a page-table entry on the way to the code: its level, and which.
    Table(u8, u8),
    /// Another root, with this entry in place of the one for the code.
    Root(Option<u64>),
    /// One bit of a register.
    Cr0(u8),
    Cr4(u8),
    Efer(u8),
    CodeRights(u8),
    StackRights(u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Nothing),
        (0_u8..15, 0_u8..8).prop_map(|(byte, bit)| Change::Code(byte, bit)),
        (0_u8..4, 0_u8..64).prop_map(|(level, bit)| Change::Table(level, bit)),
        prop::option::of(any::<u64>()).prop_map(Change::Root),
        (0_u8..32).prop_map(Change::Cr0),
        (0_u8..32).prop_map(Change::Cr4),
        (0_u8..16).prop_map(Change::Efer),
        (0_u8..17).prop_map(Change::CodeRights),
        (0_u8..17).prop_map(Change::StackRights),
    ]
}

impl Change {
    fn apply(self, rig: &mut Rig) {
        match self {
            Self::Nothing => {}
            Self::Code(byte, bit) => {
                let at = Gpa::new(rig.cpu.rip % 0x20_0000 + u64::from(byte));
                let mut old = [0];
                rig.memory.read(at, &mut old).expect("RAM");
                rig.memory.write(at, &[old[0] ^ 1 << bit]).expect("RAM");
            }
            Self::Table(level, bit) => {
                let at = [0x1000, 0x2000, 0x3000, CODE_ENTRY][usize::from(level)];
                rig.poke(at, rig.peek(at) ^ 1 << bit);
            }
            Self::Root(entry) => {
                rig.poke(0x1_0000, entry.unwrap_or_else(|| rig.peek(0x1000)));
                rig.cpu.cr3 = 0x1_0000;
            }
            Self::Cr0(bit) => rig.cpu.cr0 ^= Cr0Flags::from_bits_retain(1 << bit),
            Self::Cr4(bit) => rig.cpu.cr4 ^= Cr4Flags::from_bits_retain(1 << bit),
            Self::Efer(bit) => rig.cpu.efer ^= EferFlags::from_bits_retain(1 << bit),
            Self::CodeRights(bit) => {
                rig.cpu.segments[SegmentRegister::Cs as usize].access_rights ^= 1 << bit;
            }
            Self::StackRights(bit) => {
                rig.cpu.segments[SegmentRegister::Ss as usize].access_rights ^= 1 << bit;
            }
        }
    }
}

/// A move to or from memory, mostly a plain one, and bytes behind it.
fn a_move() -> impl Strategy<Value = Vec<u8>> {
    let prefix =
        prop::sample::select(vec![&[][..], &[], &[0x48], &[0x66], &[0x67], &[0x44], &[0x64], &[0x41]]);
    let opcode = prop::sample::select(vec![
        &[0x88][..],
        &[0x89],
        &[0x8a],
        &[0x8b],
        &[0xc6],
        &[0xc7],
        &[0x0f, 0xb6],
        &[0x0f, 0xb7],
        &[0x0f, 0xbe],
        &[0x01],
        &[0x87],
        &[0xab],
    ]);
    let displacement = prop_oneof![Just(0_u8), 0_u8..0x20, any::<u8>()];
    (prefix, opcode, 0_u8..0xc0, displacement, prop::collection::vec(any::<u8>(), 10)).prop_map(
        |(prefix, opcode, modrm, displacement, rest)| {
            let mut bytes = [prefix, opcode, &[modrm]].concat();
            if opcode.starts_with(&[0xc6]) || opcode.starts_with(&[0xc7]) {
                *bytes.last_mut().expect("modrm") &= !0x38;
            }
            bytes.push(displacement);
            bytes.extend(if modrm & 0x80 == 0 { &rest[..3] } else { &[0; 3] });
            bytes.extend(rest);
            bytes.truncate(15);
            bytes
        },
    )
}

/// Mostly the beginning of the device, or near to where a page of it ends.
fn register() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0_u64..8).prop_map(|slot| DEVICE + slot * 8),
        (0_u64..0x20).prop_map(|offset| DEVICE + 0xff0 + offset),
        (0_u64..0x2000).prop_map(|offset| DATA + offset),
        (0_u64..4).prop_map(|small| small),
        any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    #[test]
    fn what_was_seen_before_ends_as_if_seen_first(
        user: bool, start in 0_u64..0x1000, code in a_move(), change in change(), repeat in 1_u8..3,
        registers in prop::array::uniform16(register()), later in prop::array::uniform16(register()),
        flags in prop::sample::select(vec![2_u64, 0x4_0002]), access in 0_u8..3,
    ) {
        let machine = || {
            let mut rig = Rig::long();
            if user {
                rig.enter_user_mode();
            }
            rig.cpu.gprs = registers;
            rig.cpu.rflags = arch::RFlags::from_bits_retain(flags);
            rig.cpu.cr0 |= Cr0Flags::ALIGNMENT_MASK;
            rig.cpu.segments[SegmentRegister::Fs as usize].base = 0x10;
            rig.cpu.rip = CODE + start;
            rig.known = match access {
                0 => None,
                1 => known(Access::Read),
                _ => known(Access::Write),
            };
            rig.answer(&[0x0102_0304_8586_8788, 0x1112_1314_9596_9798]);
            rig
        };
        let (mut warm, mut cold) = (machine(), machine());
        for rig in [&mut warm, &mut cold] {
            for _ in 0..repeat {
                rig.run(&code);
            }
        }
        cold.emulator = Emulator::new();
        for rig in [&mut warm, &mut cold] {
            rig.cpu.gprs = later;
            change.apply(rig);
        }
        for _ in 0..2 {
            prop_assert_eq!(warm.step(), cold.step());
            prop_assert_eq!(&warm.cpu, &cold.cpu);
            prop_assert_eq!(&warm.devices.seen, &cold.devices.seen);
            cold.emulator = Emulator::new();
        }
        for page in 0..0x12_u64 {
            for word in 0..512 {
                let at = page * 0x1000 + word * 8;
                prop_assert_eq!(warm.peek(at), cold.peek(at), "{:#x}", at);
            }
        }
    }
}
