//! Which device is at a port.
//!
//! Nearly every device here is one byte wide, as on the ISA bus, whose bridge splits a wide access into bytes at
//! successive ports, lowest first; so does this. The exceptions, PCI configuration and the power-management block,
//! take wide accesses that lie within one of their 4-byte registers. PCI functions' ports are [`PCI_PORTS`] and up,
//! where nothing else is: what decodes the whole of an access there takes it whole.

use arch::platform_layout as layout;
use arch::{Nanos, Width};

use super::{Pc, Timer};
use crate::i8042::I8042Port;
use crate::lanes::{low_byte, low_half, port_mask};
use crate::pic::Chip;
use crate::reset_control::Trigger;
use crate::vga;

const COM1: u16 = layout::COM1.0;
const COM1_LAST: u16 = COM1 + 7;
const PIC_PRIMARY: u16 = layout::PIC_PRIMARY.0;
const PIC_PRIMARY_LAST: u16 = PIC_PRIMARY + 1;
const PIC_SECONDARY: u16 = layout::PIC_SECONDARY.0;
const PIC_SECONDARY_LAST: u16 = PIC_SECONDARY + 1;
const ELCR_PRIMARY: u16 = layout::ELCR.0;
const ELCR_SECONDARY: u16 = ELCR_PRIMARY + 1;
const PIT: u16 = layout::PIT.0;
const PIT_LAST: u16 = PIT + 3;
const CONTROL_B: u16 = layout::SYSTEM_CONTROL_B.0;
const CONTROL_A: u16 = layout::SYSTEM_CONTROL_A.0;
const KEYBOARD_DATA: u16 = layout::KEYBOARD_DATA.0;
const KEYBOARD_COMMAND: u16 = layout::KEYBOARD_COMMAND.0;
const CMOS: u16 = layout::CMOS.0;
const CMOS_LAST: u16 = CMOS + 1;
const CMOS_SECOND_BANK: u16 = layout::CMOS_SECOND_BANK.0;
const CMOS_SECOND_BANK_LAST: u16 = CMOS_SECOND_BANK + 1;
const DIAGNOSTIC: u16 = layout::DIAGNOSTIC.0;
const SMI_COMMAND: u16 = layout::SMI_COMMAND.0;
const SMI_STATUS: u16 = SMI_COMMAND + 1;
const DEBUG_CONSOLE: u16 = layout::DEBUG_CONSOLE.0;
const FIRMWARE_DEBUG_CONSOLE: u16 = layout::FIRMWARE_DEBUG_CONSOLE.0;
const DEBUG_EXIT: u16 = layout::DEBUG_EXIT.0;
const DEBUG_EXIT_LAST: u16 = DEBUG_EXIT + layout::DEBUG_EXIT_PORTS - 1;
const PM: u16 = layout::PM_BASE.0;
const PM_LAST: u16 = PM + 0xf;
const PM_TIMER: u16 = layout::PM_TIMER.0;
const PM_TIMER_LAST: u16 = PM_TIMER + layout::PM_TIMER_BYTES as u16 - 1;
const SMI_ENABLE: u16 = layout::SMI_ENABLE.0;
const SMI_ENABLE_LAST: u16 = SMI_ENABLE + 3;
const PCI_ADDRESS: u16 = layout::PCI_CONFIG.0;
const PCI_DATA: u16 = PCI_ADDRESS + 4;
const PCI_DATA_LAST: u16 = PCI_DATA + 3;
const FW_CFG: u16 = layout::FW_CFG.0;
const FW_CFG_LAST: u16 = FW_CFG + layout::FW_CFG_BYTES as u16 - 1;
/// The first port that a PCI function may decode, which is looked up.
const PCI_PORTS: u16 = layout::PCI_PORTS.0;
const RESET_CONTROL: u16 = layout::RESET_REGISTER.0;

// What a running guest does seldom is out of line: it would only make the way to the other devices longer.
impl Pc {
    #[inline]
    pub(super) fn read_port(&mut self, port: u16, width: Width, now: Nanos) -> u32 {
        match width {
            Width::One => u32::from(self.read_byte(port, now)),
            Width::Two | Width::Four => self.read_wide(port, width, now),
            // There is no such port access.
            Width::Eight => port_mask(width),
        }
    }

    #[inline]
    pub(super) fn write_port(&mut self, port: u16, width: Width, value: u32, now: Nanos) {
        match width {
            Width::One => self.write_byte(port, low_byte(value), now),
            Width::Two | Width::Four => self.write_wide(port, width, value, now),
            Width::Eight => {}
        }
    }

    // Out of line, as bytes are the rule: what wide accesses need is not to burden those.
    #[inline(never)]
    fn read_wide(&mut self, port: u16, width: Width, now: Nanos) -> u32 {
        if port >= PCI_PORTS
            && let Some(value) = self.read_pci_port(port, width, now)
        {
            return value;
        }
        if width == Width::Two && matches!(port, vga::DISPI_INDEX | vga::DISPI_DATA) {
            return self.read_dispi(port);
        }
        if within_register(port, width) {
            match port {
                PCI_ADDRESS if width == Width::Four => return self.pci.read_address(),
                PCI_DATA..=PCI_DATA_LAST => return self.pci.read_data(port - PCI_DATA, width),
                PM..=PM_LAST => return self.read_pm(port, width, now),
                _ => {}
            }
        }
        let mut bytes = [0; 4];
        for (byte, offset) in bytes.iter_mut().zip(0..).take(byte_count(width)) {
            // Past the last port there is nothing, as nothing wraps around.
            *byte = port.checked_add(offset).map_or(0xff, |port| self.read_byte(port, now));
        }
        u32::from_le_bytes(bytes)
    }

    #[inline(never)]
    fn write_wide(&mut self, port: u16, width: Width, value: u32, now: Nanos) {
        if port >= PCI_PORTS && self.write_pci_port(port, width, value, now) {
            return;
        }
        if width == Width::Two && matches!(port, vga::DISPI_INDEX | vga::DISPI_DATA) {
            return self.write_dispi(port, low_half(value));
        }
        if within_register(port, width) {
            match port {
                PCI_ADDRESS if width == Width::Four => return self.pci.write_address(value),
                PCI_DATA..=PCI_DATA_LAST => return self.write_pci_data(port - PCI_DATA, width, value),
                PM..=PM_LAST => return self.write_pm(port, width, value, now),
                DEBUG_EXIT..=DEBUG_EXIT_LAST => return self.write_debug_exit(port, width, value),
                FW_CFG..=FW_CFG_LAST => return self.write_fw_cfg(port, width, value, now),
                _ => {}
            }
        }
        for (byte, offset) in value.to_le_bytes().into_iter().zip(0..).take(byte_count(width)) {
            if let Some(port) = port.checked_add(offset) {
                self.write_byte(port, byte, now);
            }
        }
    }

    #[inline(always)]
    fn read_byte(&mut self, port: u16, now: Nanos) -> u8 {
        match port {
            COM1..=COM1_LAST => {
                let value = self.uart.read(port - COM1, now);
                self.touched(Timer::Uart);
                value
            }
            PIC_PRIMARY..=PIC_PRIMARY_LAST => {
                self.change_pic(|pic| pic.read(Chip::Primary, port - PIC_PRIMARY))
            }
            PIC_SECONDARY..=PIC_SECONDARY_LAST => {
                self.change_pic(|pic| pic.read(Chip::Secondary, port - PIC_SECONDARY))
            }
            ELCR_PRIMARY => self.pic.read_elcr(Chip::Primary),
            ELCR_SECONDARY => self.pic.read_elcr(Chip::Secondary),
            PIT..=PIT_LAST => {
                let value = self.pit.read(port - PIT, now);
                self.touched(Timer::Pit);
                value
            }
            CONTROL_B => self.pit.read_control_b(now),
            CMOS..=CMOS_LAST => {
                let value = self.rtc.read(port - CMOS, now);
                self.touched(Timer::Rtc);
                value
            }
            PM..=PM_LAST => low_byte(self.read_pm(port, Width::One, now)),
            PCI_DATA..=PCI_DATA_LAST => low_byte(self.pci.read_data(port - PCI_DATA, Width::One)),
            RESET_CONTROL => self.reset_control.read(Trigger::ResetControl),
            CONTROL_A => self.reset_control.read(Trigger::ControlA),
            KEYBOARD_DATA => self.i8042.read(I8042Port::Data),
            KEYBOARD_COMMAND => self.i8042.read(I8042Port::Command),
            CMOS_SECOND_BANK..=CMOS_SECOND_BANK_LAST => self.rtc.read_second_bank(port - CMOS_SECOND_BANK),
            SMI_COMMAND..=SMI_STATUS => self.acpi_pm.read_command(port - SMI_COMMAND),
            DIAGNOSTIC => self.debug_ports.diagnostic(),
            DEBUG_CONSOLE => self.debug_ports.read_console(),
            FIRMWARE_DEBUG_CONSOLE => self.debug_ports.read_firmware_console(),
            SMI_ENABLE..=SMI_ENABLE_LAST => self.acpi_pm.read_smi_enable(port - SMI_ENABLE),
            DEBUG_EXIT..=DEBUG_EXIT_LAST => self.debug_ports.read_exit(),
            FW_CFG..=FW_CFG_LAST => self.read_fw_cfg(port),
            vga::PORTS_FIRST..=vga::PORTS_LAST => self.read_vga_port(port, now),
            PCI_PORTS..=u16::MAX => self.read_pci_port(port, Width::One, now).map_or(0xff, low_byte),
            _ => 0xff,
        }
    }

    #[inline(always)]
    fn write_byte(&mut self, port: u16, value: u8, now: Nanos) {
        match port {
            COM1..=COM1_LAST => {
                self.uart.write(port - COM1, value, now);
                self.touched(Timer::Uart);
            }
            PIC_PRIMARY..=PIC_PRIMARY_LAST => {
                self.change_pic(|pic| pic.write(Chip::Primary, port - PIC_PRIMARY, value));
            }
            PIC_SECONDARY..=PIC_SECONDARY_LAST => {
                self.change_pic(|pic| pic.write(Chip::Secondary, port - PIC_SECONDARY, value));
            }
            ELCR_PRIMARY => self.change_pic(|pic| pic.write_elcr(Chip::Primary, value)),
            ELCR_SECONDARY => self.change_pic(|pic| pic.write_elcr(Chip::Secondary, value)),
            PIT..=PIT_LAST => {
                self.pit.write(port - PIT, value, now);
                self.touched(Timer::Pit);
            }
            CONTROL_B => self.pit.write_control_b(value, now),
            CMOS..=CMOS_LAST => {
                self.rtc.write(port - CMOS, value, now);
                self.touched(Timer::Rtc);
            }
            PM..=PM_LAST => self.write_pm(port, Width::One, u32::from(value), now),
            PCI_DATA..=PCI_DATA_LAST => self.write_pci_data(port - PCI_DATA, Width::One, u32::from(value)),
            RESET_CONTROL => self.write_reset_control(Trigger::ResetControl, value),
            CONTROL_A => self.write_reset_control(Trigger::ControlA, value),
            KEYBOARD_DATA => self.write_keyboard(I8042Port::Data, value),
            KEYBOARD_COMMAND => self.write_keyboard(I8042Port::Command, value),
            CMOS_SECOND_BANK..=CMOS_SECOND_BANK_LAST => {
                self.rtc.write_second_bank(port - CMOS_SECOND_BANK, value);
            }
            SMI_COMMAND..=SMI_STATUS => {
                self.acpi_pm.write_command(port - SMI_COMMAND, value);
                self.touched(Timer::AcpiPm);
            }
            DIAGNOSTIC => self.debug_ports.write_diagnostic(value),
            DEBUG_CONSOLE | FIRMWARE_DEBUG_CONSOLE => self.write_debug_console(value),
            DEBUG_EXIT..=DEBUG_EXIT_LAST => self.write_debug_exit(port, Width::One, u32::from(value)),
            vga::PORTS_FIRST..=vga::PORTS_LAST => self.write_vga_port(port, value),
            PCI_PORTS..=u16::MAX => {
                self.write_pci_port(port, Width::One, u32::from(value), now);
            }
            _ => {}
        }
    }

    #[inline(never)]
    fn read_pm(&mut self, port: u16, width: Width, now: Nanos) -> u32 {
        let value = self.acpi_pm.read(port - PM, width, now);
        // Kernels that have no better clock read the timer all the time: that changes nothing.
        if !(PM_TIMER..=PM_TIMER_LAST).contains(&port) {
            self.touched(Timer::AcpiPm);
        }
        value
    }

    #[inline(never)]
    fn write_pm(&mut self, port: u16, width: Width, value: u32, now: Nanos) {
        let request = self.acpi_pm.write(port - PM, width, value, now);
        self.touched(Timer::AcpiPm);
        self.request_power(request);
    }

    #[inline(never)]
    fn write_keyboard(&mut self, port: I8042Port, value: u8) {
        let request = self.i8042.write(port, value);
        self.request_power(request);
    }

    #[inline(never)]
    fn write_debug_console(&mut self, value: u8) {
        if let Some(byte) = self.debug_ports.write_console(value) {
            self.uart.print(byte);
        }
    }

    #[inline(never)]
    fn write_debug_exit(&mut self, port: u16, width: Width, value: u32) {
        let request =
            self.debug_ports.write_exit(port - DEBUG_EXIT, byte_count(width), value & port_mask(width));
        self.request_power(request);
    }

    #[inline(never)]
    fn write_reset_control(&mut self, port: Trigger, value: u8) {
        let request = self.reset_control.write(port, value);
        self.request_power(request);
    }
}

/// Whether an access lies within 4 bytes from a multiple of 4.
fn within_register(port: u16, width: Width) -> bool {
    usize::from(port & 3) + byte_count(width) <= 4
}

const fn byte_count(width: Width) -> usize {
    match width {
        Width::One => 1,
        Width::Two => 2,
        Width::Four => 4,
        Width::Eight => 8,
    }
}
