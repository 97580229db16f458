use super::*;
use crate::pci::Function;
use ::memory::VecBlock;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

mod pictures;

/// An adapter with its memory.
struct Adapter {
    vga: Vga,
    memory: VideoMemory,
}

impl Adapter {
    fn new() -> Self {
        let memory = VideoMemory::new(Arc::new(VecBlock::new(1 << 22)));
        Self { vga: Vga::new(memory.clone(), None), memory }
    }

    fn port(&mut self, port: u16, value: u8) {
        self.vga.write_port(port, value);
    }

    fn read(&mut self, port: u16) -> u8 {
        self.vga.read_port(port, Nanos(0))
    }

    /// Writes a register behind an index.
    fn set(&mut self, index_port: u16, index: u8, value: u8) {
        self.port(index_port, index);
        self.port(index_port + 1, value);
    }

    fn sequencer(&mut self, index: u8, value: u8) {
        self.set(0x3c4, index, value);
    }

    fn graphics(&mut self, index: u8, value: u8) {
        self.set(0x3ce, index, value);
    }

    fn dispi(&mut self, index: u16, value: u16) {
        self.vga.write_dispi_port(DISPI_INDEX, index);
        self.vga.write_dispi_port(DISPI_DATA, value);
    }

    fn read_dispi(&mut self, index: u16) -> u16 {
        self.vga.write_dispi_port(DISPI_INDEX, index);
        self.vga.read_dispi_port(DISPI_DATA)
    }

    /// A picture by Bochs' extension.
    fn extend(&mut self, width: u16, height: u16, depth: u16) {
        for (index, value) in [(4, 0), (1, width), (2, height), (3, depth), (4, 0x41)] {
            self.dispi(index, value);
        }
    }

    /// A mode of 16 colours in planes, 640 by 480.
    fn planes(&mut self) {
        self.crtc(&[
            0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00,
            0xea, 0x8c, 0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff,
        ]);
        self.sequencer(1, 1);
        self.sequencer(2, 0xf);
        self.sequencer(4, 6);
        self.graphics(5, 0);
        self.graphics(6, 5);
        self.graphics(8, 0xff);
    }

    /// A mode of 256 colours, 320 by 200.
    fn chained(&mut self) {
        self.crtc(&[
            0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff,
        ]);
        self.sequencer(1, 1);
        self.sequencer(2, 0xf);
        self.sequencer(4, 0xe);
        self.graphics(5, 0x40);
        self.graphics(6, 5);
        self.graphics(8, 0xff);
    }

    fn crtc(&mut self, values: &[u8]) {
        self.set(0x3d4, 0x11, 0);
        for (index, value) in (0..).zip(values) {
            self.set(0x3d4, index, *value);
        }
    }

    fn write(&mut self, address: u64, value: u8) {
        self.vga.write_legacy(address - MEMORY_FIRST, Width::One, value.into());
    }

    fn read_memory(&mut self, address: u64) -> u8 {
        self.vga.read_legacy(address - MEMORY_FIRST, Width::One).to_le_bytes()[0]
    }
}

#[test]
fn after_reset_the_screen_has_80_by_25_blanks() {
    let adapter = Adapter::new();
    let view = adapter.vga.view(Nanos(0));
    assert_eq!((view.size(), view.describe()), ((720, 400), "text"));
    let text = view.text().expect("text");
    assert_eq!((text.columns(), text.rows().count()), (80, 25));
    assert!(text.rows().all(|row| row.is_empty()));
    assert_eq!((text.cell(24, 79), text.cell(25, 0), text.cell(0, 80)), (Some((0x20, 7)), None, None));
    assert_eq!(text.cursor(), Some((0, 0)));
}

#[test]
fn text_is_written_by_twos() {
    let mut adapter = Adapter::new();
    for (offset, byte) in (0..).zip(*b"H\x1fi\x2f\xc4\x07") {
        adapter.write(0xb_8000 + 160 + offset, byte);
    }
    // As wide as an emulated instruction likes, at any alignment.
    adapter.vga.write_legacy(0x1_8000 + 2 * 160 + 1, Width::Four, 0x2142_1f41);
    let text = adapter.vga.view(Nanos(0)).text().expect("text");
    let rows: Vec<_> = text.rows().collect();
    assert_eq!((&*rows[1], &*rows[2]), ("Hi─", " \u{1f}!".replace('\u{1f}', "▼").as_str()));
    assert_eq!(text.cell(1, 1), Some((b'i', 0x2f)));
    assert_eq!(text.cell(2, 0), Some((b' ', 0x41)));
    assert_eq!(adapter.read_memory(0xb_8000 + 161), 0x1f);
    assert_eq!(adapter.vga.read_legacy(0x1_8000 + 160, Width::Eight), 0x0720_07c4_2f69_1f48);
    assert_eq!(adapter.read_memory(0xa_0000), 0xff, "the window is elsewhere");
    assert_eq!(adapter.vga.read_legacy(0x1_ffff, Width::Two) >> 8, 0xff, "behind the end is nothing");
}

#[test]
fn fonts_are_loaded_through_plane_2() {
    let mut adapter = Adapter::new();
    for (index, value) in [(2, 4), (4, 7)] {
        adapter.sequencer(index, value);
    }
    for (index, value) in [(4, 2), (5, 0), (6, 4)] {
        adapter.graphics(index, value);
    }
    assert_ne!(adapter.read_memory(0xa_0000 + u64::from(b'A') * 32 + 4), 0, "there was a font");
    adapter.write(0xa_0000 + u64::from(b'A') * 32 + 4, 0x81);
    assert_eq!(adapter.memory.word(u64::from(b'A') * 32 + 4) >> 16 & 0xff, 0x81);
    assert_eq!(adapter.memory.word(0), 0x0720, "the text is as it was");
}

#[test]
fn the_write_modes_draw_as_they_are_documented() {
    let mut adapter = Adapter::new();
    adapter.planes();
    adapter.memory.set_word(5, 0x4433_2211);
    assert_eq!(adapter.read_memory(0xa_0005), 0x11, "and the latches hold the rest");
    adapter.write(0xa_0006, 0xa5);
    assert_eq!(adapter.memory.word(6), 0xa5a5_a5a5);
    // Set/reset in planes 0 and 1, the rotated byte in the others, in the bits of the mask.
    for (index, value) in [(0, 1), (1, 3), (3, 4), (8, 0xf0)] {
        adapter.graphics(index, value);
    }
    adapter.write(0xa_0007, 0x5a);
    assert_eq!(adapter.memory.word(7), 0xa4a3_02f1);
    // What was read last, as it is.
    adapter.graphics(5, 1);
    adapter.write(0xa_0008, 0);
    assert_eq!(adapter.memory.word(8), 0x4433_2211);
    // A colour, exclusive or.
    adapter.graphics(5, 2);
    adapter.graphics(3, 0x18);
    adapter.write(0xa_0009, 0x5);
    assert_eq!(adapter.memory.word(9), 0x44c3_22e1);
    // Set/reset where the byte has ones, in the mask; the map mask counts always.
    for (index, value) in [(5, 3), (3, 0), (0, 0xa), (8, 0x3c)] {
        adapter.graphics(index, value);
    }
    adapter.sequencer(2, 0x7);
    adapter.write(0xa_000a, 0xf0);
    assert_eq!(adapter.memory.word(10), 0x0003_3201);
}

#[test]
fn a_read_compares_colours_in_the_planes_that_count() {
    let mut adapter = Adapter::new();
    adapter.planes();
    adapter.memory.set_word(0, 0x00ff_0ff0);
    for (index, value) in [(5, 8), (2, 0b0101), (7, 0b1111)] {
        adapter.graphics(index, value);
    }
    assert_eq!(adapter.read_memory(0xa_0000), 0xf0);
    adapter.graphics(7, 0b0100);
    assert_eq!(adapter.read_memory(0xa_0000), 0xff);
}

#[test]
fn chained_planes_are_bytes_in_their_order() {
    let mut adapter = Adapter::new();
    adapter.chained();
    adapter.vga.write_legacy(3, Width::Four, 0x4433_2211);
    assert_eq!((adapter.memory.word(0) >> 24, adapter.memory.word(1) & 0xff_ffff), (0x11, 0x44_3322));
    assert_eq!(adapter.read_memory(0xa_0005), 0x33);
    adapter.sequencer(2, 1);
    adapter.write(0xa_0005, 0);
    assert_eq!(adapter.read_memory(0xa_0005), 0x33, "the map mask counts");
}

#[test]
fn without_its_enable_bit_the_memory_does_not_answer() {
    let mut adapter = Adapter::new();
    adapter.port(0x3c2, 0x65);
    assert_eq!(adapter.read_memory(0xb_8000), 0xff);
    adapter.write(0xb_8000, 0x41);
    adapter.port(0x3c2, 0x67);
    assert_eq!(adapter.read_memory(0xb_8000), 0x20);
}

#[test]
fn the_controller_moves_to_the_monochrome_ports() {
    let mut adapter = Adapter::new();
    assert_eq!((adapter.read(0x3d5), adapter.read(0x3b5), adapter.read(0x3cc)), (0x5f, 0xff, 0x67));
    adapter.port(0x3c2, 0x66);
    assert_eq!((adapter.read(0x3d5), adapter.read(0x3b5)), (0xff, 0x5f));
}

#[test]
fn timing_registers_are_protected() {
    let mut adapter = Adapter::new();
    adapter.set(0x3d4, 0, 1);
    adapter.set(0x3d4, 7, 0);
    assert_eq!(adapter.read(0x3d5), 0x0f, "but for bit 4");
    adapter.port(0x3d4, 0);
    assert_eq!(adapter.read(0x3d5), 0x5f);
    adapter.set(0x3d4, 0x11, 0x0e);
    adapter.set(0x3d4, 0, 1);
    assert_eq!(adapter.read(0x3d5), 1);
    adapter.set(0x3d4, 0x1f, 1);
    assert_eq!(adapter.read(0x3d5), 0, "there is no such register");
}

#[test]
fn the_attribute_controller_takes_index_and_data_in_turn() {
    let mut adapter = Adapter::new();
    let _status = adapter.read(0x3da);
    for value in [1, 0x3a, 0x31, 0x55, 2, 7, 0x20] {
        adapter.port(0x3c0, value);
    }
    let mut at = |index| {
        let _status = adapter.read(0x3da);
        adapter.port(0x3c0, index);
        let value = adapter.read(0x3c1);
        adapter.port(0x3c0, value);
        value
    };
    assert_eq!((at(1), at(2), at(0x11), at(0x1f)), (0x3a, 7, 0x55, 0));
    // While the palette is in use it cannot be changed.
    let _status = adapter.read(0x3da);
    adapter.port(0x3c0, 0x21);
    adapter.port(0x3c0, 0);
    assert_eq!(adapter.read(0x3c1), 0x3a);
}

#[test]
fn the_palette_counts_on_by_itself() {
    let mut adapter = Adapter::new();
    adapter.port(0x3c8, 255);
    for value in [1, 2, 0xff, 4, 5, 6] {
        adapter.port(0x3c9, value);
    }
    adapter.port(0x3c7, 255);
    let read: Vec<u8> = (0..6).map(|_| adapter.read(0x3c9)).collect();
    assert_eq!((read, adapter.read(0x3c7), adapter.read(0x3c8)), (vec![1, 2, 0x3f, 4, 5, 6], 3, 1));
    adapter.dispi(4, 0x20);
    adapter.port(0x3c8, 0);
    assert_eq!(adapter.read(0x3c7), 0);
    adapter.port(0x3c9, 0xff);
    adapter.port(0x3c7, 0);
    assert_eq!(adapter.read(0x3c9), 0xff, "8 bits a colour");
}

#[test]
fn the_retrace_comes_and_goes_with_time() {
    let mut adapter = Adapter::new();
    let mut seen = [0; 16];
    for micros in 0..14_286 {
        seen[usize::from(adapter.vga.read_port(0x3da, Nanos(micros * 1000)) & 0xf)] += 1;
    }
    assert!((1_400..1_700).contains(&seen[9]), "{seen:?}");
    assert!((2_400..2_700).contains(&seen[1]), "{seen:?}");
    assert_eq!(seen[0] + seen[1] + seen[9], 14_286);
}

#[test]
fn the_extension_tells_what_it_can_and_refuses_what_it_cannot() {
    let mut adapter = Adapter::new();
    assert_eq!((adapter.read_dispi(0), adapter.read_dispi(10)), (0xb0c5, 64));
    adapter.dispi(0, 0xb0c2);
    adapter.dispi(0, 0xb0c6);
    assert_eq!(adapter.read_dispi(0), 0xb0c2);
    adapter.dispi(4, 2);
    assert_eq!([1, 2, 3].map(|index| adapter.read_dispi(index)), [2560, 1600, 32]);
    adapter.extend(2560, 1600, 32);
    assert_eq!(adapter.read_dispi(4), 0x40, "the memory is too small");
    adapter.extend(0, 600, 32);
    assert_eq!(adapter.read_dispi(4), 0x40);
    adapter.extend(800, 600, 16);
    assert_eq!((adapter.read_dispi(4), adapter.read_dispi(6)), (0x41, 800));
    assert_eq!(adapter.read_dispi(7), (1_u32 << 22).div_euclid(1600).try_into().expect("small"));
    adapter.dispi(6, 799);
    adapter.dispi(6, 60_000);
    assert_eq!(adapter.read_dispi(6), 800);
    adapter.dispi(6, 1024);
    adapter.dispi(3, 7);
    adapter.dispi(5, 64);
    assert_eq!([6, 3, 5].map(|index| adapter.read_dispi(index)), [1024, 16, 0]);
    assert_eq!(adapter.read_dispi(11), 0);
}

#[test]
fn the_extension_clears_unless_it_is_told_not_to() {
    let mut adapter = Adapter::new();
    adapter.memory.set_word(0, 0x0102_0304);
    for (index, value) in [(1, 64), (2, 64), (3, 32), (4, 0xc1)] {
        adapter.dispi(index, value);
    }
    assert_eq!(adapter.memory.word(0), 0x0102_0304);
    adapter.memory.set_word(64 * 64, 5);
    adapter.extend(64, 64, 32);
    assert_eq!((adapter.memory.word(0), adapter.memory.word(64 * 64)), (0, 5));
}

#[test]
fn the_legacy_memory_is_a_window_to_a_bank() {
    let mut adapter = Adapter::new();
    adapter.chained();
    adapter.extend(640, 480, 24);
    adapter.dispi(5, 3);
    adapter.vga.write_legacy(0x102, Width::Two, 0xabcd);
    assert_eq!(adapter.memory.byte(0x3_0102), 0xcd);
    assert_eq!(adapter.vga.read_legacy(0x102, Width::Two), 0xabcd);
    adapter.dispi(4, 0);
    assert_eq!(adapter.read_dispi(5), 0);
}

/// The function around an adapter.
fn function(rom: &[u8]) -> Function<Vga> {
    Function::new(Vga::new(VideoMemory::new(Arc::new(VecBlock::new(1 << 20))), Some(rom.into())))
}

#[test]
fn the_registers_are_in_memory_too() {
    use crate::pci::PciFunction as _;
    let mut function = function(&[]);
    let mut read = |offset, width| function.read(2, offset, width, Nanos(0));
    assert_eq!(read(0x40c, Width::One), 0x67);
    assert_eq!(read(0x500, Width::Two), 0xb0c5);
    assert_eq!(read(0x502, Width::Eight), 0x8_0000_0000);
    assert_eq!(read(0x503, Width::One), 0);
    assert_eq!((read(0, Width::Four), read(0xffc, Width::Four), read(0x516, Width::Two)), (0, 0, 0));
    function.write(2, 0x404, Width::Two, 0x0f02, Nanos(0));
    function.write(2, 0x502, Width::Four, 0x0258_0320, Nanos(0));
    function.write(2, 0x506, Width::One, 0xff, Nanos(0));
    assert_eq!(function.read(2, 0x500, Width::Eight, Nanos(0)), 0x0008_0258_0320_b0c5);
    assert_eq!(function.inner().state.sequencer.values[2], 0xf);
    function.write(0, 0xf_fffc, Width::Eight, 0x8877_6655_4433_2211, Nanos(0));
    assert_eq!(function.read(0, 0xf_fffe, Width::Two, Nanos(0)), 0x4433);
}

#[test]
fn the_rom_is_where_its_register_says() {
    use crate::pci::PciFunction as _;
    let mut function = function(&[0x55, 0xaa, 3]);
    function.write_config(0x30, u32::MAX, u32::MAX);
    assert_eq!(function.read_config(0x30), 0xffff_f801);
    assert_eq!(function.read(6, 0, Width::Four, Nanos(0)), 0xff03_aa55);
    function.write(6, 0, Width::Four, 0, Nanos(0));
    assert_eq!(function.read(6, 0x400, Width::Two, Nanos(0)), 0xffff);
}

proptest! {
    #[test]
    fn a_restored_adapter_goes_on_as_the_saved_one(
        before in prop::collection::vec((any::<u16>(), any::<u8>()), 0..60),
        after in prop::collection::vec((any::<u16>(), any::<u8>()), 0..60),
    ) {
        let act = |adapter: &mut Adapter, acts: &[(u16, u8)]| -> Vec<u64> {
            acts.iter().map(|(what, value)| match what % 5 {
                0 => { adapter.vga.write_port(0x3b0 + what % 0x30, *value); 0 }
                1 => adapter.vga.read_port(0x3b0 + what % 0x30, Nanos(u64::from(*what))).into(),
                2 => { adapter.dispi(what % 12, u16::from(*value) << (what % 7)); 0 }
                3 => { adapter.vga.write_legacy(u64::from(*what) * 2, Width::Four, u64::from(*value) * 0x1020_4081); 0 }
                _ => adapter.vga.read_legacy(u64::from(*what) * 2, Width::Eight),
            }).collect()
        };
        let mut first = Adapter::new();
        act(&mut first, &before);
        let mut second = Adapter::new();
        second.vga.restore(&first.vga.save());
        let mut words = vec![0; 1 << 22];
        first.memory.copy_out(0, &mut words);
        for (at, word) in (0..).zip(words.chunks_exact(4)) {
            second.memory.set_word(at, u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        }
        prop_assert_eq!(act(&mut first, &after), act(&mut second, &after));
        prop_assert_eq!(first.vga.save(), second.vga.save());
    }
}
