use super::*;
use crate::{ExpectedWord, VecBlock};

const LOW: Gpa = Gpa::new(0);
const LEGACY: Gpa = Gpa::new(0xc_0000);
const HIGH: Gpa = Gpa::new(0x10_0000);
const ROM: Gpa = Gpa::new(0xffff_0000);

/// RAM to 0xC0000 and from 1 MiB on; between them one window without and one with read-only memory, of which a third
/// shows the same at its own address.
fn map() -> GuestMap<VecBlock> {
    let mut map = GuestMap::new();
    map.ram.add(LOW, VecBlock::new(0xc_0000)).expect("free");
    map.ram.add(HIGH, VecBlock::new(0x1000)).expect("free");
    map.switched.add_ram(LEGACY, VecBlock::new(0x4_0000)).expect("free");
    map.switched.add_rom(ROM, VecBlock::new(0x1_0000)).expect("free");
    let windows = [
        Window { base: LEGACY, bytes: 0x3_0000, rom: None, shown: Shown::Ram },
        Window { base: Gpa::new(0xf_0000), bytes: 0x1_0000, rom: Some(ROM), shown: Shown::Rom },
        Window { base: ROM, bytes: 0x1_0000, rom: Some(ROM), shown: Shown::Rom },
    ];
    for window in windows {
        map.switched.add_window(window).expect("in order");
    }
    map.rom().write(ROM, &[0xee; 16]).expect("there");
    map
}

fn byte(map: &GuestMap<VecBlock>, gpa: u64) -> Option<u8> {
    let mut byte = [0];
    map.read(Gpa::new(gpa), &mut byte).ok().map(|()| byte[0])
}

#[test]
fn a_window_finds_what_it_shows_and_writes_only_ram() {
    let map = map();
    for (shown, read, writable) in [
        (Shown::Rom, Some(0xee), false),
        (Shown::RomOverRam, Some(0xee), true),
        (Shown::RamReadOnly, Some(0x11), false),
        (Shown::Ram, Some(0x11), true),
        (Shown::Devices, None, false),
    ] {
        map.switched.show(1, Shown::Ram);
        map.write(Gpa::new(0xf_0000), &[0x11]).expect("RAM");
        map.switched.show(1, shown);
        assert_eq!(byte(&map, 0xf_0000), read, "{shown:?}");
        assert_eq!(map.write(Gpa::new(0xf_0000), &[0x22]).is_ok(), writable, "{shown:?}");
        map.switched.show(1, Shown::Ram);
        assert_eq!(byte(&map, 0xf_0000), Some(if writable { 0x22 } else { 0x11 }), "{shown:?}");
        assert_eq!(byte(&map, ROM.get()), Some(0xee), "the other window is as it was");
    }
}

#[test]
fn without_read_only_memory_there_is_nothing_to_read() {
    let map = map();
    for shown in [Shown::Rom, Shown::RomOverRam] {
        map.switched.show(0, shown);
        assert_eq!(byte(&map, LEGACY.get()), None);
        assert_eq!(map.write(LEGACY, &[1]).is_ok(), shown == Shown::RomOverRam);
    }
    map.switched.show(0, Shown::RamReadOnly);
    assert_eq!(byte(&map, LEGACY.get()), Some(1));
}

#[test]
fn atomic_steps_are_for_plain_ram_alone() {
    let map = map();
    assert_eq!(map.swap_u8(LEGACY, 5), Ok(0));
    assert_eq!(map.compare_exchange_u32(LEGACY, 5, 6), Ok(true));
    assert_eq!(map.compare_exchange_u64(LEGACY, 6, 7), Ok(true));
    for shown in [Shown::Devices, Shown::Rom, Shown::RomOverRam, Shown::RamReadOnly] {
        map.switched.show(0, shown);
        assert!(map.swap_u8(LEGACY, 1).is_err());
        assert!(map.compare_exchange_u32(LEGACY, 7, 1).is_err());
        assert!(map.compare_exchange_u64(LEGACY, 7, 1).is_err());
    }
    assert!(map.swap_u8(Gpa::new(0x20_0000), 1).is_err());
}

#[test]
fn copies_cross_from_ram_into_windows_and_out() {
    let map = map();
    map.switched.show(1, Shown::Ram);
    let bytes: Vec<u8> = (0..0x4_0020_u32).map(|index| index.to_le_bytes()[0] ^ 0x5a).collect();
    map.write(Gpa::new(0xb_fff0), &bytes).expect("all RAM");
    let mut back = alloc::vec![0; bytes.len()];
    map.read(Gpa::new(0xb_fff0), &mut back).expect("all RAM");
    assert_eq!(back, bytes);
    assert_eq!(
        map.read_u64(Gpa::new(0xb_fffc)),
        Ok(u64::from_le_bytes(bytes[12..20].try_into().expect("8")))
    );
    assert_eq!(
        map.read_u32(Gpa::new(0xf_fffe)).ok(),
        bytes[0x4_000e..][..4].try_into().ok().map(u32::from_le_bytes)
    );
    map.switched.show(1, Shown::Devices);
    assert!(map.read(Gpa::new(0xb_fff0), &mut back).is_err());
    assert!(map.read_u64(Gpa::new(u64::MAX - 3)).is_err());
}

#[test]
fn words_are_compared_behind_windows_too() {
    let map = map();
    let word = |gpa, value| ExpectedWord { gpa: Gpa::new(gpa), value, mask: u64::MAX };
    let there = [word(0x1000, 0), word(0xf_0000, 0xeeee_eeee_eeee_eeee), word(LEGACY.get(), 0)];
    assert!(map.holds(&there));
    map.switched.show(1, Shown::RamReadOnly);
    assert!(!map.holds(&there));
    assert!(map.holds(&[]));
}

#[test]
fn windows_are_pages_in_order() {
    let mut map = map();
    let window = |base, bytes| Window { base: Gpa::new(base), bytes, rom: None, shown: Shown::Devices };
    let mut add = |base, bytes| map.switched.add_window(window(base, bytes));
    assert_eq!(add(0xffff_8000, 0x1000), Err(MapError::Overlaps(ROM)));
    assert_eq!(add(0x1_0000_0800, 0x1000), Err(MapError::BadExtent));
    assert_eq!(add(0x1_0000_0000, 0), Err(MapError::BadExtent));
    assert_eq!(add(0xffff_ffff_ffff_f000, 0x1000), Err(MapError::BadExtent));
    for index in 0..13 {
        assert_eq!(add(0x1_0000_0000 + index * 0x1000, 0x1000), Ok(()));
    }
    assert_eq!(add(0x2_0000_0000, 0x1000), Err(MapError::BadExtent), "there are sixteen");
}

#[test]
fn pieces_of_a_source_are_those_of_its_blocks() {
    let mut switched = Switched::new();
    switched.add_rom(Gpa::new(0x1000), VecBlock::new(0x1000)).expect("free");
    switched.add_rom(Gpa::new(0x2000), VecBlock::new(0x2000)).expect("free");
    let pieces = |at, bytes| {
        let mut pieces = Vec::new();
        let source = Source::Rom { at: Gpa::new(at) };
        switched
            .for_each_piece(source, bytes, |from, _, offset, length| pieces.push((from, offset, length)))?;
        Ok::<_, OutsideRam>(pieces)
    };
    assert_eq!(pieces(0x1000, 0x3000), Ok(Vec::from([(0, 0, 0x1000), (0x1000, 0, 0x2000)])));
    assert_eq!(pieces(0x2000, 0x1000), Ok(Vec::from([(0, 0, 0x1000)])));
    assert_eq!(pieces(0x3000, 0x1000), Ok(Vec::from([(0, 0x1000, 0x1000)])));
    assert!(pieces(0x3000, 0x2000).is_err());
}
