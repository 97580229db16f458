//! The devices together: dispatch, interrupt routing, deadlines, attention, reset, snapshot.

use super::*;
use crate::fw_cfg::Contents;
use alloc::sync::Arc;
use arch::platform_layout as layout;
use bus::{DeliveryMode, Destination, Pipe, TriggerMode};
use proptest::prelude::*;

const T0: Nanos = Nanos(0);

/// How a guest asks for something.
type Ask = fn(&mut Pc);
const MEMORY: MemorySizes = MemorySizes { below_4g: 256 << 20, above_4g: 0 };

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
        fw_cfg,
        debug_console: DebugConsole::OnConsole,
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
fn the_console_works_and_its_interrupt_reaches_both_controllers() {
    let (mut pc, terminal) = pc();
    pc.initialize_pics();
    pc.set_entry(4, 0x34);
    pc.out(0x3fc, 0x08);
    pc.out(0x3f9, 0x01);
    let _set_up = pc.take_attention();
    assert!(terminal.send(b'x'));
    pc.console_input(T0);
    assert!(pc.take_attention().contains(Attention::INTERRUPT));
    let message = pc.take_message().expect("the pin is unmasked");
    assert_eq!(message.vector, Vector(0x34));
    assert_eq!((message.mode, message.trigger), (DeliveryMode::Fixed, TriggerMode::Edge));
    assert_eq!(message.destination, Destination::Physical(0));
    assert!(pc.external_interrupt());
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x24));
    assert_eq!(pc.inb(0x3f8), b'x');
    pc.out(0x3f8, b'y');
    assert_eq!(terminal.receive(), Some(b'y'));
}

#[test]
fn the_timer_interrupt_is_input_0_of_the_8259_and_pin_2_of_the_ioapic() {
    let (mut pc, _terminal) = pc();
    pc.initialize_pics();
    pc.set_entry(0, 0x30);
    pc.set_entry(2, 0x32);
    pc.start_timer(1000);
    let deadline = pc.next_deadline();
    assert_ne!(deadline, Nanos::NEVER);
    pc.advance(Nanos(deadline.0 - 1));
    assert!(!pc.external_interrupt());
    pc.advance(deadline);
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x32)));
    assert_eq!(pc.take_message(), None);
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x20));
    assert_eq!(pc.next_deadline(), Nanos::NEVER);
}

#[test]
fn the_power_button_is_a_level_triggered_sci() {
    let (mut pc, _terminal) = pc();
    pc.set_entry(SCI_IRQ, 0x39 | 1 << 15);
    pc.port_write(Port(0x602), Width::Two, 1 << 8, T0);
    pc.press_power_button();
    assert_eq!(pc.take_message().map(|message| message.trigger), Some(TriggerMode::Level));
    pc.end_of_interrupt(Vector(0x39), T0);
    assert!(pc.take_message().is_some());
    pc.port_write(layout::PM1A_EVENT, Width::Two, 1 << 8, T0);
    pc.end_of_interrupt(Vector(0x39), T0);
    assert_eq!(pc.take_message(), None);
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
fn holes_read_ones_in_every_width() {
    let (mut pc, _terminal) = pc();
    for port in [0, 0x62, 0x66, 0x81, 0x2f8, 0x610, 0xcf8, 0xfffe] {
        assert_eq!(pc.port_read(Port(port), Width::One, T0), 0xff, "{port:#x}");
        pc.port_write(Port(port), Width::One, 0, T0);
    }
    assert_eq!(pc.port_read(Port(0xfffe), Width::Four, T0), 0xffff_ffff);
    assert_eq!(pc.port_read(Port(0x500), Width::Two, T0), 0xffff);
    for width in [Width::One, Width::Two, Width::Four, Width::Eight] {
        for gpa in [0xfec0_1000, 0xfebf_ffff, 0xfee0_0000, 0xfed0_0400, 0xfecf_ffff] {
            assert_eq!(pc.mmio_read(Gpa::new(gpa), width, T0), width.mask());
            pc.mmio_write(Gpa::new(gpa), width, 0, T0);
        }
    }
}

#[test]
fn wide_accesses_to_byte_registers_are_split() {
    let (mut pc, _terminal) = pc();
    // Divisor and line control in one: ports 0x3f8 to 0x3fb, low byte first.
    pc.out(0x3fb, 0x83);
    pc.port_write(Port(0x3f8), Width::Two, 0x1234, T0);
    assert_eq!((pc.inb(0x3f8), pc.inb(0x3f9)), (0x34, 0x12));
    assert_eq!(pc.port_read(Port(0x3fa), Width::Two, T0), 0x8301);
    // Both masks of the primary 8259 and the hole after it.
    pc.out(0x21, 0x5a);
    assert_eq!(pc.port_read(Port(0x21), Width::Two, T0), 0xff5a);
}

#[test]
fn pci_configuration_shares_its_ports_with_the_reset_register() {
    let (mut pc, _terminal) = pc();
    pc.port_write(Port(0xcf8), Width::Four, 0x8000_0008, T0);
    assert_eq!(pc.port_read(Port(0xcf8), Width::Four, T0), 0x8000_0008);
    assert_eq!(pc.port_read(Port(0xcfe), Width::Two, T0), 0x0600);
    assert_eq!(pc.port_read(Port(0xcff), Width::One, T0), 0x06);
    // Across the end of the data port: its last byte, then nothing.
    assert_eq!(pc.port_read(Port(0xcff), Width::Two, T0), 0xff06);
    assert_eq!(pc.take_power_request(), None);
    pc.out(0xcf9, 0x06);
    assert_eq!(pc.take_power_request(), Some(PowerRequest::Reset));
    assert_eq!(pc.port_read(Port(0xcf8), Width::Four, T0), 0x8000_0008);
}

#[test]
fn the_pm_timer_is_read_whole_and_in_parts() {
    let (mut pc, _terminal) = pc();
    let now = Nanos(1_000_000_000);
    assert_eq!(pc.port_read(layout::PM_TIMER, Width::Four, now), 3_579_545);
    assert_eq!(pc.port_read(Port(layout::PM_TIMER.0 + 1), Width::Two, now), 3_579_545 >> 8 & 0xffff);
}

#[test]
fn an_early_advance_does_nothing_and_a_late_one_catches_up() {
    let (mut pc, _terminal) = pc();
    pc.start_timer(100);
    pc.out(0x70, 0x0b);
    pc.out(0x71, 0x12);
    let _set_up = pc.take_attention();
    pc.advance(Nanos(1));
    assert_eq!(pc.take_attention(), Attention::empty());
    pc.advance(Nanos(1 << 60));
    assert_eq!(pc.next_deadline(), Nanos::NEVER);
    pc.initialize_pics();
    assert_eq!(pc.lines.levels(), 1 << TIMER_IRQ | 1 << RTC_IRQ);
}

const HPET: u64 = 0xfed0_0000;

impl Pc {
    fn set_hpet(&mut self, offset: u64, value: u64) {
        self.mmio_write(Gpa::new(HPET + offset), Width::Eight, value, T0);
    }
}

#[test]
fn an_hpet_timer_reaches_its_pin_and_says_when_it_will() {
    let (mut pc, _terminal) = pc();
    pc.set_entry(17, 0x51);
    let _set_up = pc.take_attention();
    pc.set_hpet(0x128, 20_000);
    pc.set_hpet(0x120, 17 << 9 | 1 << 2);
    pc.set_hpet(0x10, 1);
    assert_eq!(pc.take_attention(), Attention::DEADLINE);
    assert_eq!(pc.next_deadline(), Nanos(200_000));
    pc.advance(Nanos(200_000));
    assert!(pc.take_attention().contains(Attention::INTERRUPT));
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x51)));
    assert!(!pc.external_interrupt());
}

#[test]
fn an_hpet_message_is_taken_like_an_interrupt_of_the_ioapic() {
    let (mut pc, _terminal) = pc();
    pc.set_hpet(0x110, 0xfee0_1000_0000_0061);
    pc.set_hpet(0x108, 20_000);
    pc.set_hpet(0x100, 1 << 14 | 1 << 2);
    pc.set_hpet(0x10, 1);
    let _set_up = pc.take_attention();
    pc.advance(Nanos(200_000));
    assert!(pc.take_attention().contains(Attention::INTERRUPT));
    let message = pc.take_message().expect("the timer matched");
    assert_eq!((message.vector, message.destination), (Vector(0x61), Destination::Physical(1)));
}

#[test]
fn legacy_replacement_takes_the_place_of_interval_timer_and_clock_and_gives_it_back() {
    let (mut pc, _terminal) = pc();
    pc.initialize_pics();
    pc.set_entry(2, 0x32);
    pc.set_entry(8, 0x38);
    pc.start_timer(100);
    for (offset, value) in [(0x108, 50_000), (0x100, 1 << 2), (0x128, 60_000), (0x120, 1 << 2), (0x10, 3)] {
        pc.set_hpet(offset, value);
    }
    // The interval timer has run down by then, and is not heard.
    pc.advance(Nanos(499_990));
    assert_eq!((pc.take_message(), pc.external_interrupt()), (None, false));
    pc.advance(Nanos(500_000));
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x32)));
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x20));
    pc.out(0x20, 0x20);
    pc.advance(Nanos(600_000));
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x38)));
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x28));
    // Its output is still up, and an edge for the controllers once it is connected again.
    pc.set_hpet(0x10, 1);
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x32)));
}

#[test]
fn a_key_interrupts_at_input_1() {
    let (mut pc, _terminal) = pc();
    pc.initialize_pics();
    pc.out(0x64, 0x60);
    pc.out(0x60, 0x45);
    let _set_up = pc.take_attention();
    assert!(pc.press_keys(&[0x1c]));
    assert!(pc.take_attention().contains(Attention::INTERRUPT));
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x21));
    assert_eq!((pc.inb(0x64), pc.inb(0x60), pc.inb(0x64)), (0x15, 0x1e, 0x14));
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

/// A wide read gives what byte reads of a machine in the same state give, but for the registers that are wide.
#[test]
fn every_port_is_defined_at_every_width() {
    let (mut pc, _terminal) = pc();
    let state = pc.save();
    for port in 0..=u16::MAX {
        let wide_register = (0xcf8..=0xcfb).contains(&port);
        for (width, bytes) in [(Width::Two, 2), (Width::Four, 4)] {
            if wide_register && width == Width::Four {
                continue;
            }
            let wide = pc.port_read(Port(port), width, T0);
            if wide != port_mask_of(width) {
                pc.restore(&state);
            }
            let mut single = 0;
            for byte in 0..bytes {
                let value = port.checked_add(byte).map_or(0xff, |port| pc.inb(port));
                single |= u32::from(value) << (8 * byte);
            }
            if single != port_mask_of(width) {
                pc.restore(&state);
            }
            assert_eq!(wide, single, "{port:#x} {width:?}");
        }
    }
}

/// A wide write leaves what byte writes, lowest first, leave, but at the registers that are wide.
#[test]
fn every_wide_write_is_its_bytes_where_registers_are_bytes() {
    const VALUE: u32 = 0x3a5c_9617;
    let (mut pc, _terminal) = pc();
    let state = pc.save();
    for port in (0..0x1000).chain(0xfff8..=u16::MAX) {
        let is_wide = [0xcf5..=0xcff, 0xf1..=0xf7, 0x510..=0x51b].iter().any(|ports| ports.contains(&port));
        for (width, bytes) in [(Width::Two, 2_u16), (Width::Four, 4)] {
            if is_wide {
                continue;
            }
            pc.port_write(Port(port), width, VALUE, T0);
            let wide = (pc.take_power_request(), pc.save());
            pc.restore(&state);
            for (byte, value) in (0..bytes).zip(VALUE.to_le_bytes()) {
                if let Some(port) = port.checked_add(byte) {
                    pc.out(port, value);
                }
            }
            assert_eq!((pc.take_power_request(), pc.save()), wide, "{port:#x} {width:?}");
            pc.restore(&state);
        }
    }
}

fn port_mask_of(width: Width) -> u32 {
    low_word(width.mask())
}

#[test]
fn every_address_near_a_device_is_defined_at_every_width() {
    for base in [0xfec0_0000_u64, HPET] {
        for offset in 0..0x1010 {
            for width in [Width::One, Width::Two, Width::Four, Width::Eight] {
                let (mut pc, _terminal) = pc();
                let gpa = Gpa::new(base - 8 + offset);
                let before = pc.mmio_read(gpa, width, T0);
                assert_eq!(before & !width.mask(), 0);
                pc.mmio_write(gpa, width, before, T0);
                assert_eq!(pc.mmio_read(gpa, width, T0), before, "{gpa} {width:?}");
            }
        }
    }
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

/// Base addresses of the test function.
const PCI_PORTS: u32 = 0xc000;
const PCI_MEMORY: u64 = 0xc000_0000;

impl Pc {
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
fn a_pci_functions_pin_reaches_both_controllers() {
    let (mut pc, _terminal) = pc();
    pc.set_up_test_function();
    pc.initialize_pics();
    pc.out(0x4d1, 1 << 3);
    // Device 1, pin A: PIRQF, which is pin 21.
    pc.set_entry(21, 0x51 | 1 << 15);
    pc.set_pci_register(8, 1);
    assert!(pc.take_attention().contains(Attention::INTERRUPT));
    let message = pc.take_message().expect("the pin is unmasked");
    assert_eq!((message.vector, message.trigger), (Vector(0x51), TriggerMode::Level));
    assert!(!pc.external_interrupt(), "it is not routed yet");
    pc.set_config(0x1f, 0x68, 0x8080_0b80);
    assert!(pc.external_interrupt());
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x2b));
    pc.out(0xa0, 0x20);
    pc.out(0x20, 0x20);
    assert!(pc.external_interrupt(), "a level stays");
    pc.port_write(Port(0xc008), Width::One, 0, T0);
    assert!(!pc.external_interrupt());
    pc.end_of_interrupt(Vector(0x51), T0);
    assert_eq!(pc.take_message(), None);
}

#[test]
fn a_pci_functions_message_asks_for_attention() {
    let (mut pc, _terminal) = pc();
    pc.set_up_test_function();
    pc.set_config(1, 0x94, 1 << 31);
    for (offset, value) in [(0x1000, 0xfee0_0000), (0x1008, 0x61), (0x100c, 0)] {
        pc.set_pci_register(offset, value);
    }
    let _set_up = pc.take_attention();
    pc.port_write(Port(0xc00c), Width::Four, 0, T0);
    assert_eq!(pc.take_attention(), Attention::INTERRUPT);
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x61)));
    assert_eq!(pc.take_message(), None);
    pc.set_pci_register(0x14, 1000);
    assert_eq!((pc.take_attention(), pc.next_deadline()), (Attention::DEADLINE, Nanos(1000)));
    pc.advance(Nanos(1000));
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x61)));
}

#[test]
fn a_pci_functions_ports_take_wide_accesses_whole() {
    let (mut pc, _terminal) = pc();
    pc.set_up_test_function();
    pc.port_write(Port(0xc004), Width::Four, 0x1122_3344, T0);
    assert_eq!(pc.port_read(Port(0xc01c), Width::Four, T0), 4 << 28 | 1 << 23 | 4);
    assert_eq!(pc.port_read(Port(0xc005), Width::Two, T0), 0x2233);
    assert_eq!(pc.inb(0xc007), 0x11);
    assert_eq!(pc.port_read(Port(0xc03e), Width::Four, T0), 0xffff_0000, "across the end");
    assert_eq!(pc.port_read(Port(0xc040), Width::Four, T0), 0xffff_ffff);
}

#[derive(Clone, Debug)]
enum Step {
    In(u16, Width),
    Out(u16, Width, u32),
    Load(u64, Width),
    Store(u64, Width, u64),
    LoadPci(u64, Width),
    StorePci(u64, Width, u64),
    SetUpPci,
    Eoi(u8),
    Keys(u8),
    GeneralEvent(u8),
    Acknowledge,
    TakeMessage,
    Wait(u64),
    Sleep,
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(0x20_u16..0x22),
        Just(0x40..0x44),
        Just(0x60..0x65),
        Just(0x70..0x74),
        Just(0xb2..0xb4),
        Just(0xe9..0xf8),
        Just(0xa0..0xa2),
        Just(0x3f6..0x401),
        Just(0x4d0..0x4d2),
        Just(0x600..0x610),
        Just(0x50e..0x51e),
        Just(0xcf6..0xd01),
        Just(0xc000..0xc048),
        Just(0..0xffff),
    ]
    .prop_flat_map(|ports| ports)
}

fn width() -> impl Strategy<Value = Width> {
    prop::sample::select(vec![Width::One, Width::Two, Width::Four, Width::Eight])
}

fn step() -> impl Strategy<Value = Step> {
    let gpa = || {
        prop_oneof![
            prop_oneof![Just(0_u64), Just(0x10), Just(0x40), 0_u64..0x1010]
                .prop_map(|offset| 0xfec0_0000 + offset),
            prop_oneof![0_u64..0x160, Just(0x10), (0x20_u64..0x2c).prop_map(|register| 8 * register)]
                .prop_map(|offset| HPET + offset),
        ]
    };
    prop_oneof![
        6 => (port(), width()).prop_map(|(port, width)| Step::In(port, width)),
        8 => (port(), width(), any::<u32>()).prop_map(|(port, width, value)| Step::Out(port, width, value)),
        1 => (gpa(), width()).prop_map(|(gpa, width)| Step::Load(gpa, width)),
        4 => (gpa(), width(), prop_oneof![any::<u64>(), 0_u64..1 << 20])
            .prop_map(|(gpa, width, value)| Step::Store(gpa, width, value)),
        1 => any::<u8>().prop_map(Step::Keys),
        1 => any::<u8>().prop_map(Step::GeneralEvent),
        1 => (0_u64..0x20, width()).prop_map(|(offset, width)| Step::LoadPci(offset, width)),
        2 => (0_u64..0x20, width(), any::<u64>()).prop_map(|(offset, width, value)| Step::StorePci(offset, width, value)),
        1 => Just(Step::SetUpPci),
        1 => any::<u8>().prop_map(Step::Eoi),
        1 => Just(Step::Acknowledge),
        1 => Just(Step::TakeMessage),
        2 => prop_oneof![0_u64..1 << 20, 0_u64..1 << 55].prop_map(Step::Wait),
        2 => Just(Step::Sleep),
    ]
}

type Seen = (u64, Option<InterruptMessage>, Option<PowerRequest>, Attention, bool, Nanos);

fn take(pc: &mut Pc, step: &Step, now: &mut Nanos) -> Seen {
    let (mut read, mut message) = (0, None);
    match *step {
        Step::In(port, width) => read = u64::from(pc.port_read(Port(port), width, *now)),
        Step::Out(port, width, value) => pc.port_write(Port(port), width, value, *now),
        Step::Load(gpa, width) => read = pc.mmio_read(Gpa::new(gpa), width, *now),
        Step::Store(gpa, width, value) => pc.mmio_write(Gpa::new(gpa), width, value, *now),
        Step::Keys(code) => read = u64::from(pc.press_keys(&[0xf0, code])),
        Step::GeneralEvent(number) => pc.raise_general_event(number),
        Step::LoadPci(offset, width) => read = pc.mmio_read(Gpa::new(PCI_MEMORY + offset), width, *now),
        Step::StorePci(offset, width, value) => {
            pc.mmio_write(Gpa::new(PCI_MEMORY + offset), width, value, *now);
        }
        Step::SetUpPci => pc.set_up_test_function(),
        Step::Eoi(vector) => pc.end_of_interrupt(Vector(vector), *now),
        Step::Acknowledge => read = u64::from(pc.acknowledge_external_interrupt().0),
        Step::TakeMessage => message = pc.take_message(),
        Step::Wait(ns) => {
            *now = *now + Nanos(ns);
            pc.advance(*now);
            assert!(pc.next_deadline() > *now, "a timer that is not settled would spin the caller");
        }
        Step::Sleep => {
            if pc.next_deadline() != Nanos::NEVER {
                *now = (*now).max(pc.next_deadline());
                pc.advance(*now);
                assert!(pc.next_deadline() > *now, "a timer that is not settled would spin the caller");
            }
        }
    }
    (read, message, pc.take_power_request(), pc.take_attention(), pc.external_interrupt(), pc.next_deadline())
}

proptest! {
    #[test]
    fn any_accesses_are_survived_and_a_restored_machine_goes_on_the_same(
        before in prop::collection::vec(step(), 0..150),
        after in prop::collection::vec(step(), 0..150),
    ) {
        let (mut original, terminal) = pc();
        let mut now = T0;
        for step in &before {
            let _seen = take(&mut original, step, &mut now);
        }
        while terminal.receive().is_some() {}
        let (mut copy, _terminal) = pc();
        copy.restore(&original.save());
        prop_assert_eq!(copy.lines.levels(), original.lines.levels());
        let _restored = copy.take_attention();
        let mut copy_now = now;
        for step in &after {
            prop_assert_eq!(take(&mut original, step, &mut now), take(&mut copy, step, &mut copy_now));
        }
        prop_assert_eq!(original.save(), copy.save());
    }
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
