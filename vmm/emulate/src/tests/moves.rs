//! MOV and its kin, XCHG, and how memory operands reach RAM and devices.

use crate::fixture::{CODE, DATA, DEVICE, DEVICE_HIGH, Rig, Seen};
use crate::{Access, Emulated, KnownTranslation};
use arch::{Exception, Gpa, Gpr, Gva, SegmentRegister, Width};

fn device() -> Rig {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE);
    rig
}

#[test]
fn stores_reach_the_device_in_every_width() {
    let mut rig = device();
    rig.set(Gpr::Rax, 0x1122_3344_5566_7788).set(Gpr::R9, 0xabcd_ef01);
    rig.done(&[0x89, 0x07]); // mov [rdi], eax
    rig.done(&[0x48, 0x89, 0x07]); // mov [rdi], rax
    rig.done(&[0x66, 0x44, 0x89, 0x0f]); // mov [rdi], r9w
    rig.done(&[0x88, 0x27]); // mov [rdi], ah
    assert_eq!(
        rig.seen(),
        [
            Seen::Write(DEVICE, Width::Four, 0x5566_7788),
            Seen::Write(DEVICE, Width::Eight, 0x1122_3344_5566_7788),
            Seen::Write(DEVICE, Width::Two, 0xef01),
            Seen::Write(DEVICE, Width::One, 0x77),
        ]
    );
}

#[test]
fn a_32_bit_load_clears_the_upper_half_and_narrower_ones_keep_the_rest() {
    let mut rig = device();
    let old = 0xffff_ffff_ffff_ffff;
    rig.set(Gpr::Rax, old).set(Gpr::Rbx, old).set(Gpr::Rsi, old);
    rig.answer(&[0x8000_0001, 0x12, 0x34]);
    rig.done(&[0x8b, 0x47, 0x20]); // mov eax, [rdi+0x20]
    rig.done(&[0x8a, 0x3f]); // mov bh, [rdi]
    rig.done(&[0x40, 0x8a, 0x37]); // mov sil, [rdi]
    assert_eq!(rig.get(Gpr::Rax), 0x8000_0001);
    assert_eq!(rig.get(Gpr::Rbx), 0xffff_ffff_ffff_12ff);
    assert_eq!(rig.get(Gpr::Rsi), 0xffff_ffff_ffff_ff34);
    assert_eq!(rig.seen()[0], Seen::Read(DEVICE + 0x20, Width::Four));
}

#[test]
fn immediates_are_stored_with_their_extension() {
    let mut rig = device();
    rig.set(Gpr::Rcx, 2);
    rig.done(&[0xc7, 0x44, 0x8f, 0x08, 0x78, 0x56, 0x34, 0x12]); // mov dword [rdi+rcx*4+8], 0x12345678
    rig.done(&[0x48, 0xc7, 0x07, 0xfe, 0xff, 0xff, 0xff]); // mov qword [rdi], -2
    rig.done(&[0xc6, 0x07, 0x5a]); // mov byte [rdi], 0x5a
    assert_eq!(
        rig.seen(),
        [
            Seen::Write(DEVICE + 16, Width::Four, 0x1234_5678),
            Seen::Write(DEVICE, Width::Eight, u64::MAX - 1),
            Seen::Write(DEVICE, Width::One, 0x5a),
        ]
    );
}

#[test]
fn absolute_and_rip_relative_addresses_are_found() {
    let mut rig = device();
    rig.answer(&[1, 2]);
    rig.done(&[0xa1, 0x20, 0, 0xe0, 0xfe, 0, 0, 0, 0]); // movabs eax, [0xfee00020]
    rig.done(&[0xa2, 0x20, 0, 0xe0, 0xfe, 0, 0, 0, 0]); // movabs [0xfee00020], al
    rig.done(&[0x8b, 0x04, 0x25, 0x20, 0, 0xe0, 0xff]); // mov eax, [0xffffffffffe00020]
    rig.poke(CODE + 6 + 0xffa, 0x77);
    rig.done(&[0x8b, 0x1d, 0xfa, 0x0f, 0, 0]); // mov ebx, [rip+0xffa]
    assert_eq!(rig.get(Gpr::Rax), 2);
    assert_eq!(rig.get(Gpr::Rbx), 0x77);
    assert_eq!(
        rig.seen(),
        [
            Seen::Read(DEVICE + 0x20, Width::Four),
            Seen::Write(DEVICE + 0x20, Width::One, 1),
            Seen::Read(DEVICE + 0x20, Width::Four),
        ]
    );
}

#[test]
fn a_32_bit_address_size_drops_the_upper_half() {
    let mut rig = device();
    rig.set(Gpr::Rdi, 0x1234_5678_0000_0000 | DEVICE).answer(&[9]);
    rig.done(&[0x67, 0x8b, 0x07]); // mov eax, [edi]
    assert_eq!(rig.seen(), [Seen::Read(DEVICE, Width::Four)]);
}

#[test]
fn in_64_bit_mode_only_fs_and_gs_have_bases() {
    let mut rig = device();
    for register in SegmentRegister::ALL {
        rig.cpu.segments[register as usize].base = 0x10;
    }
    rig.done(&[0x65, 0x8b, 0x07]); // mov eax, gs:[rdi]
    rig.done(&[0x36, 0x8b, 0x07]); // mov eax, ss:[rdi]
    assert_eq!(rig.seen(), [Seen::Read(DEVICE + 0x10, Width::Four), Seen::Read(DEVICE, Width::Four)]);
}

#[test]
fn extending_moves_read_the_narrow_width() {
    let mut rig = device();
    rig.set(Gpr::Rax, u64::MAX);
    rig.answer(&[0x80]).done(&[0x0f, 0xb6, 0x07]); // movzx eax, byte [rdi]
    assert_eq!(rig.get(Gpr::Rax), 0x80);
    rig.answer(&[0x8001]).done(&[0x48, 0x0f, 0xb7, 0x07]); // movzx rax, word [rdi]
    assert_eq!(rig.get(Gpr::Rax), 0x8001);
    rig.answer(&[0x80]).done(&[0x66, 0x0f, 0xbe, 0x07]); // movsx ax, byte [rdi]
    assert_eq!(rig.get(Gpr::Rax), 0xff80);
    rig.answer(&[0x8000]).done(&[0x48, 0x0f, 0xbf, 0x07]); // movsx rax, word [rdi]
    assert_eq!(rig.get(Gpr::Rax), 0xffff_ffff_ffff_8000);
    rig.answer(&[0x8000_0000]).done(&[0x48, 0x63, 0x07]); // movsxd rax, dword [rdi]
    assert_eq!(rig.get(Gpr::Rax), 0xffff_ffff_8000_0000);
    assert_eq!(rig.seen()[4], Seen::Read(DEVICE, Width::Four));
}

#[test]
fn xchg_reads_then_writes() {
    let mut rig = device();
    rig.set(Gpr::Rax, 0xffff_ffff_0000_0001).answer(&[0x55]);
    rig.done(&[0x87, 0x07]); // xchg [rdi], eax
    assert_eq!(rig.get(Gpr::Rax), 0x55);
    assert_eq!(rig.seen(), [Seen::Read(DEVICE, Width::Four), Seen::Write(DEVICE, Width::Four, 1)]);
}

#[test]
fn movnti_stores() {
    let mut rig = device();
    rig.set(Gpr::Rax, 7).done(&[0x0f, 0xc3, 0x07]); // movnti [rdi], eax
    assert_eq!(rig.seen(), [Seen::Write(DEVICE, Width::Four, 7)]);
}

#[test]
fn an_access_across_two_pages_is_split_by_page_and_power_of_two() {
    let mut rig = device();
    rig.set(Gpr::Rdi, DEVICE + 0xffd).set(Gpr::Rax, 0x8877_6655_4433_2211);
    rig.done(&[0x48, 0x89, 0x07]); // mov [rdi], rax
    assert_eq!(
        rig.seen(),
        [
            Seen::Write(DEVICE + 0xffd, Width::Two, 0x2211),
            Seen::Write(DEVICE + 0xfff, Width::One, 0x33),
            Seen::Write(DEVICE + 0x1000, Width::Four, 0x7766_5544),
            Seen::Write(DEVICE + 0x1004, Width::One, 0x88),
        ]
    );
    rig.answer(&[0x2211, 0x33, 0x7766_5544, 0x88]);
    rig.done(&[0x48, 0x8b, 0x1f]); // mov rbx, [rdi]
    assert_eq!(rig.get(Gpr::Rbx), 0x8877_6655_4433_2211);
}

#[test]
fn an_access_may_be_half_ram_and_half_device() {
    let mut rig = device();
    // The page after DATA's becomes device memory.
    rig.poke(crate::fixture::PAGE_TABLE + 10 * 8, DEVICE | 0x63);
    rig.set(Gpr::Rdi, DATA + 0xffe).set(Gpr::Rax, 0x4433_2211);
    rig.done(&[0x89, 0x07]); // mov [rdi], eax
    assert_eq!(rig.peek(DATA + 0xff8) >> 48, 0x2211);
    assert_eq!(rig.seen(), [Seen::Write(DEVICE, Width::Two, 0x4433)]);
}

#[test]
fn a_fault_on_the_second_page_leaves_the_first_untouched() {
    let mut rig = device();
    rig.poke(crate::fixture::PAGE_TABLE + 10 * 8, 0);
    rig.set(Gpr::Rdi, DATA + 0xffe).set(Gpr::Rax, 0x4433_2211);
    let fault = Exception::PageFault { error_code: 2, address: DATA + 0x1000 };
    assert_eq!(rig.run(&[0x89, 0x07]), Emulated::Fault(fault)); // mov [rdi], eax
    assert_eq!(rig.peek(DATA + 0xff8), 0);
}

#[test]
fn a_known_translation_saves_the_walk_of_its_page_only() {
    let mut rig = device();
    // Neither address is mapped: only the known translation can answer.
    let gva = 0x4000_0000;
    rig.known = Some(KnownTranslation {
        gva: Gva::new(gva + 0x20),
        gpa: Gpa::new(DEVICE + 0x5020),
        access: Access::Write,
    });
    rig.set(Gpr::Rdi, gva + 0x20).set(Gpr::Rax, 3);
    rig.done(&[0x89, 0x07]); // mov [rdi], eax
    rig.done(&[0x8b, 0x07]); // mov eax, [rdi]
    assert_eq!(
        rig.seen(),
        [Seen::Write(DEVICE + 0x5020, Width::Four, 3), Seen::Read(DEVICE + 0x5020, Width::Four)]
    );
    rig.set(Gpr::Rdi, gva + 0x1020);
    let fault = Exception::PageFault { error_code: 0, address: gva + 0x1020 };
    assert_eq!(rig.run(&[0x8b, 0x07]), Emulated::Fault(fault)); // mov eax, [rdi]
}

#[test]
fn a_known_read_does_not_serve_a_write() {
    let mut rig = device();
    let gva = Gva::new(0x4000_0000);
    rig.known = Some(KnownTranslation { gva, gpa: Gpa::new(DEVICE), access: Access::Read });
    rig.set(Gpr::Rdi, gva.get());
    let fault = Exception::PageFault { error_code: 2, address: gva.get() };
    assert_eq!(rig.run(&[0x89, 0x07]), Emulated::Fault(fault)); // mov [rdi], eax
}

#[test]
fn a_non_canonical_address_faults_by_its_segment() {
    let mut rig = device();
    rig.set(Gpr::Rdi, 1 << 47).set(Gpr::Rbp, 1 << 47);
    assert_eq!(rig.run(&[0x8b, 0x07]), Emulated::Fault(Exception::GeneralProtection(0))); // mov eax, [rdi]
    assert_eq!(rig.run(&[0x8b, 0x45, 0]), Emulated::Fault(Exception::StackFault(0))); // mov eax, [rbp]
    rig.set(Gpr::Rdi, 0x7fff_ffff_fffe);
    assert_eq!(rig.run(&[0x8b, 0x07]), Emulated::Fault(Exception::GeneralProtection(0)));
}

#[test]
fn the_upper_half_is_reached() {
    let mut rig = device();
    rig.set(Gpr::Rdi, DEVICE_HIGH + 0xb0).set(Gpr::Rax, 0);
    rig.done(&[0x89, 0x07]); // mov [rdi], eax
    assert_eq!(rig.seen(), [Seen::Write(DEVICE + 0xb0, Width::Four, 0)]);
}

#[test]
fn unemulated_instructions_are_handed_back_whole() {
    for code in [
        &[0x0f, 0x58, 0x07][..], // addps xmm0, [rdi]
        &[0x0f, 0x6f, 0x07][..], // movq mm0, [rdi]
        &[0x0f, 0x20, 0xc0][..], // mov rax, cr0
        &[0x0f, 0xa2][..],       // cpuid
    ] {
        let mut rig = device();
        let before = rig.cpu.clone();
        let mut bytes = [0; 15];
        bytes[..code.len()].copy_from_slice(code);
        let length = u8::try_from(code.len()).expect("short");
        assert_eq!(rig.run(code), Emulated::Unsupported { bytes, length });
        assert_eq!(rig.cpu, before);
    }
}
