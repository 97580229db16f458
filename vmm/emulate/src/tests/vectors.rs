//! Moves of vector registers.

use crate::Emulated;
use crate::fixture::{DATA, DEVICE, PAGE_TABLE, Rig, Seen};
use arch::{Cr0Flags, Cr4Flags, Exception, Gpr, VectorValue, Width, XCr0Flags};

/// The bytes that the fixture has in register `register`.
fn before(register: usize) -> VectorValue {
    Rig::long().cpu.vectors[register]
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"))
}

fn device() -> Rig {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE);
    rig
}

/// A machine whose memory at DATA counts up from 0x80.
fn counting() -> Rig {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DATA);
    for at in 0..16_u64 {
        rig.poke(DATA + at * 8, 0x8786_8584_8382_8180 + at * 0x0808_0808_0808_0808);
    }
    rig
}

fn counted(from: u8, length: u8) -> Vec<u8> {
    (0..length).map(|index| 0x80 + from + index).collect()
}

#[test]
fn sixteen_bytes_go_to_a_device_in_two_halves() {
    let wanted = [
        Seen::Write(DEVICE, Width::Eight, word(&before(1), 0)),
        Seen::Write(DEVICE + 8, Width::Eight, word(&before(1), 8)),
    ];
    for code in [
        &[0x0f, 0x11, 0x0f][..],       // movups [rdi], xmm1
        &[0x0f, 0x29, 0x0f][..],       // movaps [rdi], xmm1
        &[0x66, 0x0f, 0x11, 0x0f][..], // movupd
        &[0xf3, 0x0f, 0x7f, 0x0f][..], // movdqu
        &[0x66, 0x0f, 0x7f, 0x0f][..], // movdqa
        &[0x66, 0x0f, 0xe7, 0x0f][..], // movntdq
        &[0x0f, 0x2b, 0x0f][..],       // movntps
        &[0xc5, 0xfa, 0x7f, 0x0f][..], // vmovdqu
    ] {
        let mut rig = device();
        rig.done(code);
        assert_eq!(rig.seen(), wanted, "{code:x?}");
    }
}

#[test]
fn thirty_two_and_sixty_four_bytes_are_moved_whole() {
    let mut rig = counting();
    rig.done(&[0xc5, 0xfe, 0x6f, 0x17]); // vmovdqu ymm2, [rdi]
    assert_eq!(rig.cpu.vectors[2][..32], counted(0, 32));
    assert_eq!(rig.cpu.vectors[2][32..], [0; 32]);
    rig.done(&[0x62, 0xe1, 0xfe, 0x48, 0x6f, 0x47, 0x01]); // vmovdqu64 zmm16, [rdi + 64]
    assert_eq!(rig.cpu.vectors[16][..], counted(64, 64));
    rig.set(Gpr::Rdi, DEVICE).done(&[0xc5, 0xfd, 0xe7, 0x17]); // vmovntdq [rdi], ymm2
    let seen = rig.seen();
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[3], Seen::Write(DEVICE + 24, Width::Eight, 0x9f9e_9d9c_9b9a_9998));
}

#[test]
fn a_legacy_load_keeps_the_upper_part_and_a_vex_load_clears_it() {
    let mut rig = counting();
    rig.done(&[0x0f, 0x10, 0x0f]); // movups xmm1, [rdi]
    assert_eq!(rig.cpu.vectors[1][..16], counted(0, 16));
    assert_eq!(rig.cpu.vectors[1][16..], before(1)[16..]);
    rig.done(&[0xc5, 0xf8, 0x10, 0x0f]); // vmovups xmm1, [rdi]
    assert_eq!(rig.cpu.vectors[1][16..], [0; 48]);
}

#[test]
fn scalar_loads_clear_the_rest_of_the_xmm_register() {
    for (code, length) in [
        (&[0x66, 0x0f, 0x6e, 0x0f][..], 4),             // movd xmm1, [rdi]
        (&[0xf3, 0x0f, 0x10, 0x0f][..], 4),             // movss
        (&[0xf2, 0x0f, 0x10, 0x0f][..], 8),             // movsd
        (&[0xf3, 0x0f, 0x7e, 0x0f][..], 8),             // movq
        (&[0x66, 0x48, 0x0f, 0x6e, 0x0f][..], 8),       // movq, by REX.W
        (&[0xc5, 0xfa, 0x10, 0x0f][..], 4),             // vmovss
        (&[0x62, 0xf1, 0x7e, 0x08, 0x10, 0x0f][..], 4), // vmovss, by EVEX
    ] {
        let mut rig = counting();
        rig.done(code);
        let value = rig.cpu.vectors[1];
        assert_eq!(value[..length], counted(0, 8)[..length], "{code:x?}");
        assert!(value[length..16].iter().all(|byte| *byte == 0), "{code:x?}");
        let upper = if code[0] & 0xf0 == 0xc0 || code[0] == 0x62 {
            [0; 48]
        } else {
            before(1)[16..].try_into().expect("48")
        };
        assert_eq!(value[16..], upper, "{code:x?}");
    }
}

#[test]
fn scalar_stores_have_their_own_width() {
    for (code, width, at) in [
        (&[0x66, 0x0f, 0x7e, 0x0f][..], Width::Four, 0), // movd [rdi], xmm1
        (&[0xf3, 0x0f, 0x11, 0x0f][..], Width::Four, 0), // movss
        (&[0x66, 0x0f, 0xd6, 0x0f][..], Width::Eight, 0), // movq
        (&[0xf2, 0x0f, 0x11, 0x0f][..], Width::Eight, 0), // movsd
        (&[0x0f, 0x13, 0x0f][..], Width::Eight, 0),      // movlps
        (&[0x0f, 0x17, 0x0f][..], Width::Eight, 8),      // movhps
        (&[0xc5, 0xf9, 0x17, 0x0f][..], Width::Eight, 8), // vmovhpd
    ] {
        let mut rig = device();
        rig.done(code);
        assert_eq!(
            rig.seen(),
            [Seen::Write(DEVICE, width, word(&before(1), at) & width.mask())],
            "{code:x?}"
        );
    }
}

#[test]
fn halves_and_lanes_are_merged() {
    let mut rig = counting();
    rig.done(&[0x0f, 0x12, 0x0f]); // movlps xmm1, [rdi]
    assert_eq!(rig.cpu.vectors[1][..8], counted(0, 8));
    assert_eq!(rig.cpu.vectors[1][8..], before(1)[8..]);
    let mut rig = counting();
    rig.done(&[0x66, 0x0f, 0x16, 0x0f]); // movhpd xmm1, [rdi]
    assert_eq!(rig.cpu.vectors[1][..8], before(1)[..8]);
    assert_eq!(rig.cpu.vectors[1][8..16], counted(0, 8));
    let mut rig = counting();
    rig.done(&[0xc5, 0xe8, 0x16, 0x0f]); // vmovhps xmm1, xmm2, [rdi]
    assert_eq!(rig.cpu.vectors[1][..8], before(2)[..8]);
    assert_eq!(rig.cpu.vectors[1][8..16], counted(0, 8));
    assert_eq!(rig.cpu.vectors[1][16..], [0; 48]);
    let mut rig = counting();
    rig.done(&[0xc4, 0xe3, 0x6d, 0x18, 0x0f, 1]); // vinsertf128 ymm1, ymm2, [rdi], 1
    assert_eq!(rig.cpu.vectors[1][..16], before(2)[..16]);
    assert_eq!(rig.cpu.vectors[1][16..32], counted(0, 16));
    rig.done(&[0xc4, 0xe3, 0x7d, 0x19, 0x17, 1]); // vextractf128 [rdi], ymm2, 1
    assert_eq!(rig.peek(DATA + 8), word(&before(2), 24));
}

#[test]
fn aligned_moves_fault_before_the_page_is_looked_at() {
    let gp = Emulated::Fault(Exception::GeneralProtection(0));
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, 0x4000_0008);
    assert_eq!(rig.run(&[0x0f, 0x28, 0x0f]), gp); // movaps xmm1, [rdi]
    rig.set(Gpr::Rdi, DATA + 16);
    rig.done(&[0x0f, 0x28, 0x0f]);
    assert_eq!(rig.run(&[0xc5, 0xfc, 0x28, 0x0f]), gp); // vmovaps ymm1, [rdi]
    rig.done(&[0xc5, 0xfc, 0x10, 0x0f]); // vmovups ymm1, [rdi]
}

#[test]
fn an_access_across_two_pages_is_translated_before_any_of_it_is_done() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE + 0x1ffd).done(&[0x0f, 0x11, 0x0f]); // movups [rdi], xmm1
    let (low, all) = (word(&before(1), 0), before(1));
    assert_eq!(
        rig.seen(),
        [
            Seen::Write(DEVICE + 0x1ffd, Width::Two, low & 0xffff),
            Seen::Write(DEVICE + 0x1fff, Width::One, low >> 16 & 0xff),
            Seen::Write(DEVICE + 0x2000, Width::Eight, word(&all, 3)),
            Seen::Write(DEVICE + 0x2008, Width::Four, word(&all, 11) & 0xffff_ffff),
            Seen::Write(DEVICE + 0x200c, Width::One, u64::from(all[15])),
        ]
    );
    rig.poke(PAGE_TABLE + 10 * 8, 0);
    rig.set(Gpr::Rdi, DATA + 0xff8);
    let fault = Exception::PageFault { error_code: 2, address: DATA + 0x1000 };
    assert_eq!(rig.run(&[0x0f, 0x11, 0x0f]), Emulated::Fault(fault));
    assert_eq!(rig.peek(DATA + 0xff8), 0);
}

#[test]
fn what_is_not_enabled_faults() {
    let (ud, nm) = (Exception::InvalidOpcode, Exception::DeviceNotAvailable);
    let (sse, avx) = (&[0x0f, 0x11, 0x0f][..], &[0xc5, 0xfc, 0x11, 0x0f][..]);
    let evex = &[0x62, 0xf1, 0xfe, 0x48, 0x7f, 0x0f][..];
    let check = |change: fn(&mut Rig), code: &[u8], exception| {
        let mut rig = device();
        change(&mut rig);
        assert_eq!(rig.run(code), Emulated::Fault(exception), "{code:x?}");
        assert!(rig.seen().is_empty());
    };
    check(|rig| rig.cpu.cr4 -= Cr4Flags::OSFXSR, sse, ud);
    check(|rig| rig.cpu.cr0 |= Cr0Flags::EMULATE_COPROCESSOR, sse, ud);
    check(|rig| rig.cpu.cr0 |= Cr0Flags::TASK_SWITCHED, sse, nm);
    check(|rig| rig.cpu.cr0 |= Cr0Flags::TASK_SWITCHED, avx, nm);
    check(|rig| rig.cpu.cr4 -= Cr4Flags::OSXSAVE, avx, ud);
    check(|rig| rig.cpu.xcr0 -= XCr0Flags::AVX, avx, ud);
    check(|rig| rig.cpu.xcr0 -= XCr0Flags::OPMASK, evex, ud);
    let mut rig = device();
    rig.cpu.cr4 -= Cr4Flags::OSXSAVE;
    rig.done(sse);
}
