//! Every port and address at every width: holes, byte registers under wide accesses, registers that are wide.

use super::*;

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
