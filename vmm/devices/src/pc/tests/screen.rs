//! The video adapter among the devices: where it answers, and where its memory is mapped.

use super::*;
use crate::typist::Stroke;
use ::memory::{Block, VecBlock, VideoWindow};

const FRAMEBUFFER: u64 = 0xd000_0000;
const LEGACY: u64 = 0xa_0000;
/// Longer than a window stays unmapped.
const LATER: u64 = 20_000_000;

fn with_screen() -> (Pc, Arc<VecBlock>) {
    let (_terminal, console) = Pipe::ends();
    let memory = Arc::new(VecBlock::new(16 << 20));
    let pc = Pc::new(PcConfig {
        console,
        wall_clock_unix_s: 0,
        memory: MEMORY,
        debug_exit: DebugExit::Absent,
        test_devices: TestDevices::Absent,
        screen: Screen::Vga { memory: VideoMemory::new(Arc::<VecBlock>::clone(&memory)), rom: None },
        fw_cfg: None,
        firmware: None,
        debug_console: DebugConsole::Silent,
    });
    (pc, memory)
}

fn configure(pc: &mut Pc, register: u32, value: u32) {
    pc.port_write(Port(0xcf8), Width::Four, 0x8000_0800 | register, T0);
    pc.port_write(Port(0xcfc), Width::Four, value, T0);
}

fn place(pc: &mut Pc, base: u64) {
    configure(pc, 0x10, u32::try_from(base).expect("below 4 GiB"));
    configure(pc, 0x04, 2);
}

/// Whether memory is to be arranged anew, and how.
fn arranged(pc: &mut Pc) -> (bool, [Option<VideoWindow>; 2]) {
    (pc.take_attention().contains(Attention::MEMORY), pc.arrangement().video)
}

const fn window(base: u64, bytes: u64, offset: u64) -> Option<VideoWindow> {
    Some(VideoWindow { base: Gpa::new(base), bytes, offset })
}

#[test]
fn the_framebuffer_is_mapped_at_its_first_access_and_follows_its_register() {
    let (mut pc, memory) = with_screen();
    let _power_on = pc.take_attention();
    place(&mut pc, FRAMEBUFFER);
    assert_eq!(arranged(&mut pc), (false, [None, None]));
    pc.mmio_write(Gpa::new(FRAMEBUFFER + 0x1234), Width::Two, 0xabcd, T0);
    let mut bytes = [0; 2];
    memory.copy_out(0x1234, &mut bytes);
    assert_eq!(bytes, [0xcd, 0xab]);
    let there = window(FRAMEBUFFER, 16 << 20, 0);
    assert_eq!(arranged(&mut pc), (true, [there, None]));
    let before = pc.arrangement().generation;
    configure(&mut pc, 0x04, 0);
    assert_eq!(arranged(&mut pc), (true, [None, None]));
    assert!(pc.arrangement().generation > before);
    // At once, it is not mapped again; later it is, where it is then.
    place(&mut pc, FRAMEBUFFER + (16 << 20));
    let now = Gpa::new(FRAMEBUFFER + (16 << 20) + 0x1234);
    assert_eq!(pc.mmio_read(now, Width::Two, T0), 0xabcd);
    assert_eq!(arranged(&mut pc), (false, [None, None]));
    assert_eq!(pc.mmio_read(now, Width::Two, Nanos(LATER)), 0xabcd);
    assert_eq!(arranged(&mut pc), (true, [window(FRAMEBUFFER + (16 << 20), 16 << 20, 0), None]));
}

#[test]
fn a_framebuffer_where_other_things_are_is_not_mapped() {
    // On the I/O APIC, on memory-mapped configuration space, on RAM.
    for base in [0xfe00_0000, 0xb000_0000, 0x0100_0000] {
        let (mut pc, _memory) = with_screen();
        place(&mut pc, base);
        let _power_on = pc.take_attention();
        pc.mmio_read(Gpa::new(base + 0x80_0000), Width::Four, T0);
        assert_eq!(arranged(&mut pc), (false, [None, None]), "{base:#x}");
    }
    // Under the registers, which come behind it in the list but are moved onto it.
    let (mut pc, _memory) = with_screen();
    configure(&mut pc, 0x18, 0xd000_1000);
    place(&mut pc, FRAMEBUFFER);
    let _power_on = pc.take_attention();
    pc.mmio_read(Gpa::new(FRAMEBUFFER), Width::Four, T0);
    assert_eq!(arranged(&mut pc).1, [window(FRAMEBUFFER, 16 << 20, 0), None], "the first register wins");
}

#[test]
fn the_legacy_memory_is_mapped_while_bytes_go_through_as_they_are() {
    let (mut pc, _memory) = with_screen();
    let _power_on = pc.take_attention();
    pc.mmio_write(Gpa::new(0xb_8000), Width::Two, 0x0741, T0);
    assert_eq!(arranged(&mut pc), (false, [None, None]), "text");
    for (port, index, value) in
        [(0x3c4, 2, 0xf), (0x3c4, 4, 0xe), (0x3ce, 5, 0x40), (0x3ce, 6, 5), (0x3ce, 8, 0xff)]
    {
        pc.out(port, index);
        pc.out(port + 1, value);
    }
    pc.mmio_write(Gpa::new(LEGACY), Width::One, 1, T0);
    assert_eq!(arranged(&mut pc), (true, [None, window(LEGACY, 0x1_0000, 0)]));
    pc.out(0x3c4, 2);
    assert_eq!(arranged(&mut pc), (false, [None, window(LEGACY, 0x1_0000, 0)]), "an index changes nothing");
    pc.out(0x3c5, 1);
    assert_eq!(arranged(&mut pc), (true, [None, None]));
    // A bank of a packed picture.
    for (index, value) in [(1, 640), (2, 480), (3, 8), (4, 1), (5, 3)] {
        pc.port_write(Port(0x1ce), Width::Two, index, T0);
        pc.port_write(Port(0x1cf), Width::Two, value, T0);
    }
    pc.mmio_read(Gpa::new(LEGACY + 0xffff), Width::One, Nanos(LATER));
    assert_eq!(arranged(&mut pc), (true, [None, window(LEGACY, 0x1_0000, 0x3_0000)]));
    // What was restored maps by itself again.
    let state = pc.save();
    pc.restore(&state);
    assert_eq!(arranged(&mut pc), (true, [None, None]));
    pc.mmio_read(Gpa::new(LEGACY), Width::One, Nanos(LATER));
    assert_eq!(arranged(&mut pc).1, [None, window(LEGACY, 0x1_0000, 0x3_0000)]);
    pc.reset(Nanos(LATER));
    assert_eq!(arranged(&mut pc), (true, [None, None]));
}

#[test]
fn without_a_screen_its_places_are_empty() {
    let (mut pc, _console) = pc();
    assert_eq!((pc.inb(0x3cc), pc.port_read(Port(0x1cf), Width::Two, T0)), (0xff, 0xffff));
    assert_eq!(pc.mmio_read(Gpa::new(0xb_8000), Width::Eight, T0), u64::MAX);
    pc.mmio_write(Gpa::new(0xb_8000), Width::One, 0, T0);
    assert!(pc.screen(T0).is_none());
}

#[test]
fn ports_of_the_adapter_take_words_as_bytes() {
    let (mut pc, _memory) = with_screen();
    pc.port_write(Port(0x3c4), Width::Two, 0x0402, T0);
    assert_eq!(pc.port_read(Port(0x3c4), Width::Two, T0), 0x0402);
    assert_eq!(pc.port_read(Port(0x1ce), Width::One, T0), 0xff, "this one has 2 bytes, or is not there");
    pc.port_write(Port(0x1ce), Width::Two, 0, T0);
    assert_eq!(pc.port_read(Port(0x1cf), Width::Two, T0), 0xb0c5);
}

#[test]
fn typed_keys_interrupt_one_after_the_other() {
    let (mut pc, _memory) = with_screen();
    pc.out(0x64, 0x60);
    pc.out(0x60, 0x45);
    let stroke = Stroke::new(&[0x1c, 0xf0, 0x1c]).expect("short");
    assert!(pc.type_keys(&[stroke, stroke], Nanos(100)));
    assert!(pc.next_deadline() <= Nanos(100));
    pc.advance(Nanos(100));
    assert_eq!((pc.inb(0x60), pc.inb(0x60), pc.inb(0x64) & 1), (0x1e, 0x9e, 0));
    let state = pc.save();
    pc.restore(&state);
    pc.advance(Nanos(100 + LATER));
    assert_eq!((pc.inb(0x60), pc.inb(0x60), pc.inb(0x64) & 1), (0x1e, 0x9e, 0));
    assert!(!pc.type_keys(&[stroke; 257], Nanos(0)));
}
