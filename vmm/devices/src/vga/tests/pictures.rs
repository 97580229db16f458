//! Pictures: small ones dot by dot, whole ones by their size.

use super::*;

/// The picture, with the colours in `key` as its characters; others are '?'.
fn draw(view: &View, rows: core::ops::Range<u32>, columns: usize, key: &[(u32, char)]) -> Vec<String> {
    let mut line = Vec::new();
    rows.map(|y| {
        view.line(y, &mut line);
        assert_eq!(line.len(), usize::try_from(view.size().0).expect("small") * 3);
        line.chunks_exact(3)
            .take(columns)
            .map(|pixel| {
                let colour = u32::from_be_bytes([0, pixel[0], pixel[1], pixel[2]]);
                key.iter().find(|(other, _)| *other == colour).map_or('?', |(_, character)| *character)
            })
            .collect()
    })
    .collect()
}

const GREY: u32 = 0xaa_aaaa;

#[test]
fn characters_have_nine_dots_and_the_cursor_blinks() {
    let mut adapter = Adapter::new();
    for (offset, byte) in (0..).zip(*b"\xc4\x1e") {
        adapter.write(0xb_8002 + offset, byte);
    }
    let key = [(0, '.'), (GREY, '#'), (0x00_00aa, 'b'), (0xff_ff55, 'y')];
    let shown = draw(&adapter.vga.view(Nanos(0)), 7..16, 18, &key);
    assert_eq!(shown[0], ".........bbbbbbbbb");
    assert_eq!(shown[1], ".........yyyyyyyyy", "line graphics go on in the ninth dot");
    assert_eq!(
        (&*shown[5], &*shown[6], &*shown[7]),
        (".........bbbbbbbbb", "#########bbbbbbbbb", "#########bbbbbbbbb")
    );
    let later = draw(&adapter.vga.view(Nanos(16 * ports::FRAME_NS)), 13..14, 9, &key);
    assert_eq!(later[0], ".........");
}

#[test]
fn eight_dots_are_narrower_and_backgrounds_can_be_bright() {
    let mut adapter = Adapter::new();
    adapter.sequencer(1, 1);
    adapter.write(0xb_8001, 0x9f);
    assert_eq!(adapter.vga.view(Nanos(0)).size(), (640, 400));
    let key = [(0x55_55ff, 'B'), (0xaa, 'b')];
    assert_eq!(draw(&adapter.vga.view(Nanos(0)), 0..1, 8, &key), ["bbbbbbbb"]);
    let _status = adapter.read(0x3da);
    adapter.port(0x3c0, 0x30);
    adapter.port(0x3c0, 4);
    assert_eq!(draw(&adapter.vga.view(Nanos(0)), 0..1, 8, &key), ["BBBBBBBB"]);
}

#[test]
fn a_pixel_has_a_bit_in_each_plane() {
    let mut adapter = Adapter::new();
    adapter.planes();
    adapter.memory.set_word(80, 0x0f33_55aa);
    let view = adapter.vga.view(Nanos(0));
    assert_eq!(view.size(), (640, 480));
    // 1, 2, 5, 6, 9, A, D, E
    let key = [
        (0x00_00aa, '1'),
        (0x00_aa00, '2'),
        (0xaa_00aa, '5'),
        (0xaa_5500, '6'),
        (0x55_55ff, '9'),
        (0x55_ff55, 'A'),
        (0xff_55ff, 'D'),
        (0xff_ff55, 'E'),
    ];
    assert_eq!(draw(&view, 1..2, 8, &key), ["1256 9ADE".replace(' ', "")]);
}

#[test]
fn bytes_are_colours_of_the_palette() {
    let mut adapter = Adapter::new();
    adapter.chained();
    adapter.port(0x3c8, 200);
    for value in [0x3f, 0, 0x20] {
        adapter.port(0x3c9, value);
    }
    adapter.write(0xa_0000 + 320 * 199 + 319, 200);
    let view = adapter.vga.view(Nanos(0));
    assert_eq!((view.size(), view.describe()), ((320, 200), "graphics with 256 colours"));
    let mut line = Vec::new();
    view.line(199, &mut line);
    assert_eq!(line[957..], [0xff, 0, 0x82]);
    // Unchained, at another start, in a split screen.
    adapter.sequencer(4, 6);
    adapter.set(0x3d4, 0x0c, 0x40);
    adapter.set(0x3d4, 0x11, 0);
    for (index, value) in [(0x07, 0x0f), (0x09, 0x01), (0x18, 9)] {
        adapter.set(0x3d4, index, value);
    }
    adapter.memory.set_word(0x4000, 0xc8);
    adapter.memory.set_word(0, 0xc800);
    let view = adapter.vga.view(Nanos(0));
    view.line(0, &mut line);
    assert_eq!(line[..6], [0xff, 0, 0x82, 0, 0, 0]);
    view.line(5, &mut line);
    assert_eq!(line[..6], [0, 0, 0, 0xff, 0, 0x82]);
}

#[test]
fn a_cga_picture_has_its_odd_lines_elsewhere() {
    let mut adapter = Adapter::new();
    adapter.crtc(&[
        0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9c,
        0x8e, 0x8f, 0x14, 0x00, 0x96, 0xb9, 0xa2, 0xff,
    ]);
    adapter.sequencer(1, 9);
    adapter.graphics(5, 0x30);
    adapter.graphics(6, 0x0f);
    // Planes 2 and 3 do not count.
    let _status = adapter.read(0x3da);
    adapter.port(0x3c0, 0x32);
    adapter.port(0x3c0, 3);
    adapter.write(0xb_8000 + 79, 0b0001_1011);
    adapter.write(0xb_8000 + 0x2000, 0b1110_0100);
    let view = adapter.vga.view(Nanos(0));
    assert_eq!(view.size(), (320, 200));
    let key = [(0, '0'), (0x00_00aa, '1'), (0x00_aa00, '2'), (0x00_aaaa, '3')];
    let shown = draw(&view, 0..2, 320, &key);
    assert_eq!((&shown[0][316..], &shown[1][..4]), ("0123", "3210"));
}

#[test]
fn the_extension_shows_every_depth() {
    let mut adapter = Adapter::new();
    let orange: [(u16, &[u8]); 5] = [
        (8, &[9]),
        (15, &[0x00, 0x7e]),
        (16, &[0x00, 0xfc]),
        (24, &[0, 0x80, 0xff]),
        (32, &[0, 0x80, 0xff, 0]),
    ];
    adapter.port(0x3c8, 9);
    for value in [0x3f, 0x20, 0] {
        adapter.port(0x3c9, value);
    }
    for (depth, bytes) in orange {
        adapter.extend(640, 400, depth);
        adapter.dispi(6, 700);
        adapter.dispi(8, 16);
        adapter.dispi(9, 2);
        let at = u64::from(depth.div_ceil(8)) * (700 * 3 + 17);
        for (at, byte) in (at..).zip(bytes) {
            adapter.memory.set_byte(at, *byte);
        }
        let view = adapter.vga.view(Nanos(0));
        let mut line = Vec::new();
        view.line(1, &mut line);
        assert_eq!(view.size(), (640, 400));
        assert_eq!((line[0..3].to_vec(), line[3]), (vec![0, 0, 0], 0xff), "{depth}");
        assert!((0x7c..=0x84).contains(&line[4]) && line[5..9] == [0; 4], "{depth} {line:?}");
    }
    adapter.extend(640, 480, 4);
    adapter.graphics(6, 5);
    adapter.sequencer(4, 6);
    adapter.sequencer(2, 0xf);
    adapter.write(0xa_0000 + 80, 0x80);
    let view = adapter.vga.view(Nanos(0));
    assert_eq!(draw(&view, 1..2, 2, &[(0xff_ffff, 'w'), (0, '.')]), ["w."]);
}

#[test]
fn a_screen_that_is_off_is_black() {
    let mut adapter = Adapter::new();
    adapter.write(0xb_8001, 0x70);
    let mut line = Vec::new();
    adapter.vga.view(Nanos(0)).line(0, &mut line);
    assert_eq!(line[0], 0xaa);
    adapter.sequencer(1, 0x20);
    adapter.vga.view(Nanos(0)).line(0, &mut line);
    assert!(line.len() == 720 * 3 && line.iter().all(|byte| *byte == 0));
}

proptest! {
    #[test]
    fn any_registers_make_a_picture(
        ports in prop::collection::vec((0x3b0_u16..0x3e0, any::<u8>()), 0..200),
        dispi in prop::collection::vec((0_u16..11, any::<u16>()), 0..8),
    ) {
        let mut adapter = Adapter::new();
        ports.iter().for_each(|(port, value)| adapter.vga.write_port(*port, *value));
        dispi.iter().for_each(|(index, value)| adapter.dispi(*index, *value));
        let view = adapter.vga.view(Nanos(7));
        let (width, height) = view.size();
        prop_assert!((1..=2560).contains(&width) && (1..=1600).contains(&height));
        let mut line = Vec::new();
        for y in [0, height / 2, height - 1, height] {
            view.line(y, &mut line);
            prop_assert_eq!(line.len(), usize::try_from(width).expect("small") * 3);
        }
        if let Some(text) = view.text() {
            prop_assert!(text.rows().count() >= 1);
        }
    }
}
