//! The devices together: dispatch, attention, reset, snapshot; the rest by topic in the modules below.

mod firmware_memory;
mod interrupts;
mod pci_functions;
mod random_accesses;
mod screen;
mod widths;

use super::*;
use crate::fw_cfg::Contents;
use alloc::sync::Arc;
use arch::platform_layout as layout;
use bus::{DeliveryMode, Destination, Pipe, TriggerMode};
use proptest::prelude::*;

/// How a guest asks for something.
type Ask = fn(&mut Pc);

const T0: Nanos = Nanos(0);
const HPET: u64 = 0xfed0_0000;
const MEMORY: MemorySizes = MemorySizes { below_4g: 256 << 20, above_4g: 0 };

/// Base addresses of the test function.
const PCI_PORTS: u32 = 0xc000;
const PCI_MEMORY: u64 = 0xc000_0000;

fn pc() -> (Pc, PipeEnd) {
    pc_with(TestDevices::Present)
}

fn pc_with(test_devices: TestDevices) -> (Pc, PipeEnd) {
    let (terminal, console) = Pipe::ends();
    let mut map = memory::MemoryMap::new();
    map.add(Gpa::new(0), memory::VecBlock::new(0x1_0000)).expect("the first region");
    let fw_cfg = Some(FwCfg::new(Contents::new(MEMORY.below_4g, 1, 1), Arc::new(map)));
    let pc = Pc::new(PcConfig {
        console,
        wall_clock_unix_s: 1_795_210_162,
        memory: MEMORY,
        debug_exit: DebugExit::Present,
        test_devices,
        screen: Screen::Absent,
        fw_cfg,
        debug_console: DebugConsole::OnConsole,
        firmware: None,
    });
    (pc, terminal)
}

impl Pc {
    fn out(&mut self, port: u16, value: u8) {
        self.port_write(Port(port), Width::One, u32::from(value), T0);
    }

    fn inb(&mut self, port: u16) -> u8 {
        low_byte_of(self.port_read(Port(port), Width::One, T0))
    }

    fn set_entry(&mut self, pin: u8, low: u32) {
        self.mmio_write(layout::IOAPIC_BASE, Width::Four, u64::from(0x10 + 2 * pin), T0);
        self.mmio_write(layout::IOAPIC_BASE + 0x10, Width::Four, u64::from(low), T0);
    }

    fn initialize_pics(&mut self) {
        for (base, vector, cascade) in [(0x20, 0x20, 4), (0xa0, 0x28, 2)] {
            self.out(base, 0x11);
            self.out(base + 1, vector);
            self.out(base + 1, cascade);
            self.out(base + 1, 1);
            self.out(base + 1, 0);
        }
    }

    /// Programs timer 0 for a one-shot of `count` ticks.
    fn start_timer(&mut self, count: u16) {
        self.out(0x43, 0x30);
        for byte in count.to_le_bytes() {
            self.out(0x40, byte);
        }
    }

    fn set_hpet(&mut self, offset: u64, value: u64) {
        self.mmio_write(Gpa::new(HPET + offset), Width::Eight, value, T0);
    }

    fn set_config(&mut self, device: u32, offset: u32, value: u32) {
        self.port_write(Port(0xcf8), Width::Four, 1 << 31 | device << 11 | offset, T0);
        self.port_write(Port(0xcfc), Width::Four, value, T0);
    }

    fn set_up_test_function(&mut self) {
        self.set_config(1, 0x10, PCI_PORTS);
        self.set_config(1, 0x14, 0xc000_0000);
        self.set_config(1, 0x04, 7);
    }

    fn set_pci_register(&mut self, offset: u64, value: u32) {
        self.mmio_write(Gpa::new(PCI_MEMORY + offset), Width::Four, u64::from(value), T0);
    }
}

fn low_byte_of(value: u32) -> u8 {
    u8::try_from(value).expect("a byte read gives a byte")
}

#[test]
fn the_machine_can_move_between_cores() {
    fn moves<T: Send>(_: &T) {}
    moves(&pc().0);
}

#[test]
fn attention_says_when_the_deadline_moved_and_only_then() {
    let (mut pc, _terminal) = pc();
    let _nothing = pc.take_attention();
    pc.out(0x3f8, b'x');
    pc.out(0x80, 0);
    assert_eq!(pc.take_attention(), Attention::empty());
    pc.start_timer(100);
    assert!(pc.take_attention().contains(Attention::DEADLINE));
    let _clock = pc.inb(0x71);
    assert_eq!(pc.take_attention(), Attention::empty());
}

#[test]
fn power_off_and_every_way_to_reset_are_requests() {
    let off = |pc: &mut Pc| pc.port_write(layout::PM1A_CONTROL, Width::Two, 5 << 10 | 1 << 13, T0);
    let register = |pc: &mut Pc| pc.out(layout::RESET_REGISTER.0, layout::RESET_VALUE);
    let fast = |pc: &mut Pc| pc.out(0x92, 3);
    let keyboard = |pc: &mut Pc| pc.out(0x64, 0xfe);
    let cases: [(Ask, PowerRequest); 4] = [
        (off, PowerRequest::Off),
        (register, PowerRequest::Reset),
        (fast, PowerRequest::Reset),
        (keyboard, PowerRequest::Reset),
    ];
    for (ask, expected) in cases {
        let (mut pc, _terminal) = pc();
        let _nothing = pc.take_attention();
        ask(&mut pc);
        assert_eq!(pc.take_attention(), Attention::POWER);
        assert_eq!(pc.take_power_request(), Some(expected));
        assert_eq!(pc.take_power_request(), None);
    }
}

#[test]
fn the_debug_exit_device_ends_the_machine_with_a_status_whatever_the_width() {
    for (width, status) in [(Width::One, 0xf1), (Width::Two, 0xacf1), (Width::Four, 0x2468_acf1)] {
        let (mut pc, _terminal) = pc();
        pc.port_write(Port(0xf4), width, 0x1234_5678, T0);
        assert_eq!(pc.take_power_request(), Some(PowerRequest::Exit { status }));
        assert_eq!(pc.port_read(Port(0xf4), width, T0), 0);
    }
}

#[test]
fn debug_text_goes_out_of_the_console() {
    let (mut pc, terminal) = pc();
    assert_eq!(pc.inb(0xe9), 0xe9);
    pc.out(0xe9, b'x');
    assert_eq!(terminal.receive(), Some(b'x'));
}

#[test]
fn the_diagnostic_code_is_seen_from_outside() {
    let (mut pc, _terminal) = pc();
    pc.out(0x80, 0x5a);
    assert_eq!((pc.inb(0x80), pc.diagnostic_code()), (0x5a, 0x5a));
}

#[test]
fn the_second_bank_of_cmos_memory_is_apart_from_the_first() {
    let (mut pc, _terminal) = pc();
    pc.out(0x72, 0x14);
    pc.out(0x73, 0xa5);
    assert_eq!((pc.inb(0x72), pc.inb(0x73)), (0xff, 0xa5));
    pc.out(0x70, 0x14);
    assert_eq!(pc.inb(0x71), 0x02);
}

#[test]
fn the_smi_command_port_switches_acpi_mode() {
    let (mut pc, _terminal) = pc();
    pc.out(0xb2, layout::ACPI_DISABLE);
    assert_eq!(pc.port_read(layout::PM1A_CONTROL, Width::Two, T0), 0);
    pc.port_write(Port(0xb2), Width::Two, 0x77_f1, T0);
    assert_eq!(pc.port_read(layout::PM1A_CONTROL, Width::Two, T0), 1);
    assert_eq!(pc.inb(0xb3), 0x77);
}

#[test]
fn firmware_reads_its_configuration() {
    let (mut pc, _terminal) = pc();
    pc.port_write(Port(0x510), Width::Two, 0, T0);
    let bytes: Vec<u8> = (0..5).map(|_| pc.inb(0x511)).collect();
    assert_eq!(bytes, b"QEMU\0");
    pc.out(0x510, 1);
    assert_eq!(pc.inb(0x511), 0, "a byte selects nothing");
    assert_eq!(pc.port_read(Port(0x510), Width::Two, T0), 0x00ff, "the selector cannot be read");
    assert_eq!(pc.port_read(Port(0x514), Width::Four, T0), u32::from_le_bytes(*b"QEMU"));
    assert_eq!(pc.port_read(Port(0x51a), Width::Two, T0), u32::from(u16::from_le_bytes(*b"FG")));
    // Skip nothing: the control word, zero in RAM, stays what it is.
    pc.port_write(Port(0x518), Width::Four, 0x1000_u32.swap_bytes(), T0);
    assert_eq!(pc.next_deadline(), Nanos::NEVER);
}

#[test]
fn reset_returns_to_the_state_after_creation_but_for_clock_and_memory() {
    let (mut used, _terminal) = pc();
    used.initialize_pics();
    used.start_timer(7);
    used.set_entry(4, 0x34);
    used.out(0x3fc, 0x0b);
    used.out(0x3f9, 0x02);
    used.out(0x92, 1);
    used.port_write(Port(0xcf8), Width::Four, 0x8000_0004, T0);
    used.press_power_button();
    used.reset(T0);
    assert_eq!(used.take_attention(), Attention::all());
    assert_eq!(used.save(), pc().0.save());
    assert_eq!((used.take_message(), used.external_interrupt()), (None, false));
}

#[test]
fn a_restored_machine_has_its_interrupts_pending() {
    let (mut pc_before, _terminal) = pc();
    pc_before.initialize_pics();
    pc_before.set_entry(2, 0x32);
    pc_before.start_timer(1000);
    pc_before.advance(pc_before.next_deadline());
    let (mut copy, _other) = pc();
    copy.restore(&pc_before.save());
    assert!(copy.external_interrupt());
    assert_eq!(copy.take_message().map(|message| message.vector), Some(Vector(0x32)));
    assert_eq!(copy.acknowledge_external_interrupt(), Vector(0x20));
}

#[test]
fn the_scratch_device_is_there_if_asked_for_and_is_saved() {
    let (gpa, now) = (layout::SCRATCH_BASE + 0x10, T0);
    let (mut plain, _console) = pc_with(TestDevices::Absent);
    plain.mmio_write(gpa, Width::Four, 5, now);
    assert_eq!(plain.mmio_read(gpa, Width::Four, now), 0xffff_ffff);
    let (mut pc, _terminal) = pc();
    pc.mmio_write(gpa, Width::Four, 5, now);
    assert_eq!(pc.mmio_read(gpa, Width::Eight, now), 5);
    let state = pc.save();
    pc.reset(now);
    assert_eq!(pc.mmio_read(gpa, Width::Four, now), 0);
    pc.restore(&state);
    assert_eq!(pc.mmio_read(gpa, Width::Four, now), 5);
}
