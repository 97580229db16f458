//! Pictures by every way to the screen, for somebody who looks at it: text, a mode of 16 colours in planes, one of 256
//! colours, and a linear framebuffer. Each is held until a key is pressed.
//!
//! IBM Personal System/2 Hardware Interface Technical Reference, "Video Subsystem"; Bochs, "VBE Display API".

use super::{Failure, Verdict, expect};
use crate::console::report;
use crate::machine::cpu::{in8, in32, out8, out16, out32, pause, rdtsc};
use crate::machine::video::{read_u8, read_u32, write_u8, write_u32};
use crate::programs::time::tsc_hz;

const TEXT: usize = 0xb_8000;
const GRAPHICS: usize = 0xa_0000;
/// Where the framebuffer is put, twice.
const PLACES: [u32; 2] = [0xd000_0000, 0xe000_0000];

/// Set-1 codes of the keys that are waited for.
const KEYS: [u8; 4] = [0x1e, 0x30, 0x2e, 0x20];

/// Shows all pictures.
pub(super) fn screen() -> Verdict {
    text()?;
    shown("text", KEYS[0])?;
    planes()?;
    shown("planes", KEYS[1])?;
    bytes()?;
    shown("bytes", KEYS[2])?;
    framebuffer()?;
    shown("framebuffer", KEYS[3])?;
    retrace()
}

/// Says what is on the screen, and waits for a key with this code.
fn shown(what: &'static str, key: u8) -> Verdict {
    report!("testkit: screen: {what}");
    loop {
        if in8(0x64) & 1 == 0 {
            pause();
            continue;
        }
        let code = in8(0x60);
        // Keys that go up do not count.
        if code & 0x80 == 0 {
            return expect("key", code, key);
        }
    }
}

fn text() -> Verdict {
    expect("blank", read_u8(TEXT), b' ')?;
    for (column, byte) in b"Hello from the test guest".iter().enumerate() {
        write_u8(TEXT + 160 + 2 * column, *byte);
        write_u8(TEXT + 161 + 2 * column, 0x1e);
    }
    for attribute in 0..=255_u8 {
        let at = TEXT + 160 * (4 + usize::from(attribute >> 4)) + 2 * usize::from(attribute & 0xf);
        write_u8(at, 0xdb_u8.wrapping_sub(attribute & 3));
        // Bit 7 would blink.
        write_u8(at + 1, attribute & 0x7f);
    }
    // No cursor, which would blink, too.
    index(0x3d4, 0x0a, 0x20);
    expect("text", u32::from(read_u8(TEXT + 161)) << 8 | u32::from(read_u8(TEXT + 160)), 0x1e48u32)
}

fn index(port: u16, register: u8, value: u8) {
    out8(port, register);
    out8(port + 1, value);
}

fn mode(misc: u8, crtc: &[u8; 25], sequencer: [u8; 5], graphics: [u8; 9]) {
    out8(0x3c2, misc);
    for (register, value) in (0..).zip(sequencer) {
        index(0x3c4, register, value);
    }
    index(0x3d4, 0x11, 0);
    for (register, value) in (0..).zip(crtc) {
        index(0x3d4, register, *value);
    }
    for (register, value) in (0..).zip(graphics) {
        index(0x3ce, register, value);
    }
}

/// 640 by 480 pixels of 16 colours: stripes by the planes' masks, and a frame by set/reset.
fn planes() -> Verdict {
    mode(
        0xe3,
        &[
            0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0xea, 0x8c, 0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff,
        ],
        [3, 1, 0xf, 0, 6],
        [0, 0, 0, 0, 0, 0, 5, 0xf, 0xff],
    );
    for y in 0..480 {
        for x in 0..80 {
            // The map mask chooses the planes that get ones; the others were cleared.
            if x == 0 {
                index(0x3c4, 2, 0xf);
                (0..80).for_each(|x| write_u8(GRAPHICS + y * 80 + x, 0));
                index(0x3c4, 2, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15][y / 30]);
            }
            if x % 16 < 8 {
                write_u8(GRAPHICS + y * 80 + x, 0xff);
            }
        }
    }
    index(0x3c4, 2, 0xf);
    // Colour 14 in the middle pixels of each byte, the rest from the latches.
    index(0x3ce, 0, 14);
    index(0x3ce, 1, 0xf);
    index(0x3ce, 8, 0x3c);
    for y in 100..110 {
        for x in 0..80 {
            let _latched = read_u8(GRAPHICS + y * 80 + x);
            write_u8(GRAPHICS + y * 80 + x, 0);
        }
    }
    index(0x3ce, 1, 0);
    index(0x3ce, 8, 0xff);
    index(0x3ce, 4, 3);
    expect("plane 3", read_u8(GRAPHICS + 100 * 80), 0x3cu8)
}

/// 320 by 200 pixels of 256 colours, written and read in several widths.
fn bytes() -> Verdict {
    mode(
        0x63,
        &[
            0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff,
        ],
        [3, 1, 0xf, 0, 0xe],
        [0, 0, 0, 0, 0, 0x40, 5, 0xf, 0xff],
    );
    out8(0x3c8, 0);
    for entry in 0..=255_u8 {
        for component in [entry >> 2, entry & 0x3f, !entry & 0x3f] {
            out8(0x3c9, component);
        }
    }
    for y in 0..200_usize {
        for x in (0..320).step_by(4) {
            let pixel = |offset: usize| (((x + offset) >> 3) ^ (y >> 3)).to_le_bytes()[0] * 4;
            let word = u32::from_le_bytes([pixel(0), pixel(1), pixel(2), pixel(3)]);
            write_u32(GRAPHICS + y * 320 + x, word);
        }
    }
    write_u8(GRAPHICS + 320 * 100 + 161, 0xff);
    expect("pixels", read_u32(GRAPHICS + 320 * 100 + 160), 0x6060_ff60u32)?;
    // A mask away from plain bytes, and back.
    index(0x3c4, 2, 1);
    write_u32(GRAPHICS + 320 * 199, 0x1111_1111);
    index(0x3c4, 2, 0xf);
    expect("masked pixels", read_u32(GRAPHICS + 320 * 199), 0x6060_6011u32)
}

fn config(register: u8) -> u32 {
    (1..31)
        .map(|device| 1 << 31 | device << 11 | u32::from(register))
        .find(|address| {
            out32(0xcf8, address & !0xff);
            in32(0xcfc) == 0x1111_1234
        })
        .unwrap_or(0)
}

fn place(base: u32) -> Verdict {
    let register = config(0x10);
    expect("adapter", u64::from(register != 0), 1u64)?;
    let command = register & !0xff | 4;
    for (address, value) in [(command, 0), (register, base), (command, 2)] {
        out32(0xcf8, address);
        out32(0xcfc, value);
    }
    out32(0xcf8, register);
    expect("base", in32(0xcfc), base | 8)
}

fn dispi(register: u16, value: u16) {
    out16(0x1ce, register);
    out16(0x1cf, value);
}

/// 800 by 600 pixels of 32 bits, drawn at one address and looked at from another.
fn framebuffer() -> Verdict {
    for (register, value) in [(4, 0), (1, 800), (2, 600), (3, 32), (4, 0x41)] {
        dispi(register, value);
    }
    place(PLACES[0])?;
    let [first, second] = PLACES.map(|place| usize::try_from(place).unwrap_or(0));
    for y in 0..600_usize {
        for x in 0..800_usize {
            let [red, green, blue] =
                [x / 64 * 20, y / 64 * 26, (x ^ y) & 0xc0].map(|value| u32::from(value.to_le_bytes()[0]));
            write_u32(first + 4 * (y * 800 + x), red << 16 | green << 8 | blue);
        }
    }
    place(PLACES[1])?;
    expect("there no more", read_u32(first), u32::MAX)?;
    expect("moved", read_u32(second + 4 * (299 * 800 + 400)), 0x0078_6880u32)?;
    // Drawing costs no exits: it is fast enough to be done often.
    let begin = rdtsc();
    for _ in 0..4 {
        (0..800).for_each(|x| write_u32(second + 4 * x, 0x00ff_ffff));
    }
    let cycles = (rdtsc() - begin) / 3200;
    report!("testkit: screen: {cycles} cycles for a pixel");
    if cycles < 100 { Ok(()) } else { Err(Failure { what: "cycles", got: cycles, want: 100 }) }
}

/// The retrace comes and goes at 70 Hz.
fn retrace() -> Verdict {
    let wait = |wanted: u8| {
        let begin = rdtsc();
        while in8(0x3da) & 8 != wanted && rdtsc() - begin < tsc_hz() {}
    };
    wait(8);
    wait(0);
    let begin = rdtsc();
    for _ in 0..7 {
        wait(8);
        wait(0);
    }
    let milliseconds = (rdtsc() - begin) / (tsc_hz() / 1000);
    super::expect_within("milliseconds for 7 pictures", milliseconds, 90, 115)
}
