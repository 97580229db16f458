//! Firmware's memory: what is shown where, as PAM and the flash chip have it, and what becomes of writes.

use super::*;
use memory::{GuestMap, GuestMemory, HasRom, RomOf, Shown, VecBlock};

const IMAGE: u64 = 256 << 10;
const VARIABLES: u64 = 8 << 10;
const BASE: u64 = (1 << 32) - IMAGE;
const STORE: Gpa = Gpa::new(BASE - VARIABLES);
/// Where the variables' window is among the others.
const STORE_WINDOW: usize = 13;

/// A machine with an image in which each byte is the number of its 4 KiB page, and an erased variable store.
fn machine() -> (Pc, Arc<GuestMap<VecBlock>>) {
    let mut map = GuestMap::new();
    map.ram.add(Gpa::new(0), VecBlock::new(0xa_0000)).expect("free");
    map.ram.add(Gpa::new(0x10_0000), VecBlock::new(0x1000)).expect("free");
    map.switched.add_ram(layout::SWITCHED_BASE, VecBlock::new(0x4_0000)).expect("free");
    map.switched.add_rom(STORE, VecBlock::new(0x2000)).expect("free");
    map.switched.add_rom(Gpa::new(BASE), VecBlock::new(0x4_0000)).expect("free");
    for window in firmware_windows(IMAGE, VARIABLES) {
        map.switched.add_window(window).expect("in order");
    }
    for page in 0..64_u8 {
        map.rom().write(Gpa::new(BASE + 0x1000 * u64::from(page)), &[page; 0x1000]).expect("there");
    }
    map.rom().write(STORE, &[0xff; 0x2000]).expect("there");
    let map = Arc::new(map);
    let (_, console) = Pipe::ends();
    let pc = Pc::new(PcConfig {
        console,
        wall_clock_unix_s: 0,
        memory: MEMORY,
        debug_exit: DebugExit::Absent,
        test_devices: TestDevices::Absent,
        screen: Screen::Absent,
        fw_cfg: None,
        debug_console: DebugConsole::Silent,
        firmware: Some(Firmware {
            memory: Arc::<GuestMap<VecBlock>>::clone(&map),
            rom: Arc::new(RomOf(Arc::clone(&map))),
            image_bytes: IMAGE,
            variable_bytes: VARIABLES,
        }),
    });
    (pc, map)
}

/// What a processor reads: memory if that is shown, else what the devices say.
fn load(pc: &mut Pc, map: &GuestMap<VecBlock>, gpa: u64) -> u8 {
    let mut byte = [0];
    match map.read(Gpa::new(gpa), &mut byte) {
        Ok(()) => byte[0],
        Err(_) => low_byte_of(u32::try_from(pc.mmio_read(Gpa::new(gpa), Width::One, T0)).expect("a byte")),
    }
}

/// What a processor writes, and what it sets off.
fn store(pc: &mut Pc, map: &GuestMap<VecBlock>, gpa: u64, value: u8) {
    pc.mmio_write(Gpa::new(gpa), Width::One, value.into(), T0);
    settle(pc, map);
}

fn settle(pc: &mut Pc, map: &GuestMap<VecBlock>) {
    if pc.take_attention().contains(Attention::MEMORY) {
        map.arrange(&pc.arrangement()).expect("a map has no tables");
    }
}

fn set_pam(pc: &mut Pc, map: &GuestMap<VecBlock>, register: u8, value: u8) {
    pc.port_write(Port(0xcf8), Width::Four, 0x8000_0000 | u32::from(register & 0xfc), T0);
    pc.port_write(Port(0xcfc + u16::from(register & 3)), Width::One, value.into(), T0);
    settle(pc, map);
}

#[test]
fn after_reset_the_images_end_is_below_1_mib_and_the_reset_vector_below_4_gib() {
    let (mut pc, map) = machine();
    assert_eq!(load(&mut pc, &map, 0xffff_fff0), 63);
    assert_eq!(load(&mut pc, &map, BASE), 0);
    assert_eq!((load(&mut pc, &map, 0xe_0000), load(&mut pc, &map, 0xf_ffff)), (32, 63));
    assert_eq!(load(&mut pc, &map, 0xd_ffff), 0xff, "more than 128 KiB are not seen there");
    assert_eq!(load(&mut pc, &map, STORE.get()), 0xff);
    assert_eq!(load(&mut pc, &map, STORE.get() - 1), 0xff, "open bus");
}

#[test]
fn firmware_copies_itself_to_the_ram_beneath_and_locks_it() {
    let (mut pc, map) = machine();
    let write = |map: &GuestMap<VecBlock>, pc: &mut Pc, gpa: u64, value: u8| {
        if map.write(Gpa::new(gpa), &[value]).is_err() {
            store(pc, map, gpa, value);
        }
    };
    // Reads from the image, writes to RAM; also through the devices, where the hardware refuses the write.
    set_pam(&mut pc, &map, 0x90, 0x20);
    write(&map, &mut pc, 0xf_0000, 1);
    store(&mut pc, &map, 0xf_0001, 2);
    assert_eq!((load(&mut pc, &map, 0xf_0000), load(&mut pc, &map, 0xf_0001)), (48, 48));
    // Both from RAM.
    set_pam(&mut pc, &map, 0x90, 0x30);
    assert_eq!((load(&mut pc, &map, 0xf_0000), load(&mut pc, &map, 0xf_0001)), (1, 2));
    // Read only.
    set_pam(&mut pc, &map, 0x90, 0x10);
    write(&map, &mut pc, 0xf_0000, 9);
    assert_eq!(load(&mut pc, &map, 0xf_0000), 1);
    assert_eq!(load(&mut pc, &map, 0xffff_0000), 48, "the image is what it was");
    pc.reset(T0);
    settle(&mut pc, &map);
    assert_eq!(load(&mut pc, &map, 0xf_0000), 48);
}

#[test]
fn segments_without_an_image_read_ones_until_they_are_ram() {
    let (mut pc, map) = machine();
    store(&mut pc, &map, 0xc_0000, 5);
    assert_eq!(load(&mut pc, &map, 0xc_0000), 0xff);
    set_pam(&mut pc, &map, 0x91, 0x02);
    store(&mut pc, &map, 0xc_0000, 6);
    assert_eq!(load(&mut pc, &map, 0xc_0000), 0xff);
    set_pam(&mut pc, &map, 0x91, 0x01);
    assert_eq!((load(&mut pc, &map, 0xc_0000), load(&mut pc, &map, 0xc_4000)), (6, 0xff));
}

#[test]
fn only_what_changes_what_is_shown_asks_for_it() {
    let (mut pc, map) = machine();
    let _made = pc.take_attention();
    let before = pc.arrangement();
    set_pam(&mut pc, &map, 0x90, 0x00);
    store(&mut pc, &map, 0xffff_0000, 1);
    store(&mut pc, &map, 0xe_0000, 1);
    assert_eq!(pc.arrangement(), before);
    set_pam(&mut pc, &map, 0x90, 0x30);
    assert_eq!(pc.arrangement().generation, before.generation + 1);
    set_pam(&mut pc, &map, 0x90, 0xff);
    assert_eq!(pc.arrangement().generation, before.generation + 1, "reserved bits are nothing");
}

#[test]
fn the_store_is_hidden_while_its_chip_answers() {
    let (mut pc, map) = machine();
    let at = STORE.get() + 0x1234;
    assert_eq!(pc.changed_variables(), None);
    store(&mut pc, &map, at, 0x40);
    assert_eq!(pc.arrangement().shown[STORE_WINDOW], Shown::Devices);
    store(&mut pc, &map, at, 0x5a);
    assert_eq!(load(&mut pc, &map, at), 0x80, "the status");
    let generation = pc.arrangement().generation;
    store(&mut pc, &map, at + 1, 0x40);
    store(&mut pc, &map, at + 1, 0xa5);
    assert_eq!(pc.arrangement().generation, generation, "not for each byte");
    store(&mut pc, &map, at, 0xff);
    assert_eq!((load(&mut pc, &map, at), load(&mut pc, &map, at + 1)), (0x5a, 0xa5));
    assert_eq!(pc.changed_variables(), Some((STORE, VARIABLES)));
    assert_eq!(load(&mut pc, &map, BASE + 0x1234), 1, "the image is none of the chip");
}

#[test]
fn a_restored_machine_shows_what_the_saved_one_did() {
    let (mut pc, map) = machine();
    set_pam(&mut pc, &map, 0x90, 0x30);
    set_pam(&mut pc, &map, 0x95, 0x13);
    store(&mut pc, &map, STORE.get(), 0x40);
    store(&mut pc, &map, STORE.get(), 0x77);
    let state = pc.save();
    let (mut copy, copied) = machine();
    copy.restore(&state);
    settle(&mut copy, &copied);
    assert_eq!(copy.arrangement().shown, pc.arrangement().shown);
    assert_eq!(copy.save(), state);
    store(&mut copy, &copied, STORE.get(), 0xff);
    assert_eq!(load(&mut copy, &copied, STORE.get()), 0x77);
}

#[test]
fn small_images_are_seen_as_far_as_they_reach() {
    let seen = |bytes| {
        let windows = firmware_windows(bytes, 0);
        let shadows = windows.iter().filter(|window| window.base.get() < 1 << 20 && window.rom.is_some());
        (windows.len(), shadows.map(|window| window.base.get()).min())
    };
    assert_eq!(seen(64 << 10), (14, Some(0xf_0000)));
    assert_eq!(seen(96 << 10), (14, Some(0xe_8000)));
    assert_eq!(seen(4 << 20), (14, Some(0xe_0000)));
}
