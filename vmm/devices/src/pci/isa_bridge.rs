//! The bridge to the legacy devices: 00:1f.0, the LPC interface of Intel's ICH9. Intel I/O Controller Hub 9 Family
//! datasheet, "LPC Interface Bridge Registers (D31:F0)".
//!
//! It routes the eight PCI interrupt lines (PIRQ) to the 8259 pair. All else is what operating systems and firmware
//! look at: the power-management block, which is at its place and enabled, and cannot be moved; and the base of the
//! chip configuration registers, which is kept although there are none: addresses there read all ones.

use super::config_space::{ConfigSpace, ConfigSpaceState};
use super::spec::Identity;
use arch::platform_layout::PM_BASE;

const IDENTITY: Identity =
    Identity { vendor: 0x8086, device: 0x2918, class: 0x06_01_00, revision: 2, subsystem: (0, 0) };

/// Base of the power-management block; bit 0 says that it is one of ports.
const PMBASE: u16 = 0x40;
/// ACPI control: the block is decoded, the SCI is interrupt 9.
const ACPI_CONTROL: u16 = 0x44;
const ACPI_ENABLE: u32 = 1 << 7;
/// Routes of PIRQA to PIRQD, a byte each.
const PIRQ_A_TO_D: u16 = 0x60;
/// Serial interrupts.
const SERIAL_IRQ: u16 = 0x64;
/// Routes of PIRQE to PIRQH.
const PIRQ_E_TO_H: u16 = 0x68;
/// Decoding of legacy ranges, and the enables.
const LPC_DECODE: u16 = 0x80;
/// General power-management configuration.
const POWER_CONFIG: u16 = 0xa0;
/// Base of the chip configuration registers.
const RCBA: u16 = 0xf0;

/// Route: to none.
const ROUTE_DISABLED: u8 = 1 << 7;
const ROUTES_DISABLED: u32 = 0x8080_8080;
const ROUTES_KEPT: u32 = 0x8f8f_8f8f;

/// ISA interrupts that a route can name: the timer, the keyboard, the cascade, the clock and the coprocessor are not
/// shared.
const ROUTABLE: u16 = 0b1101_1110_1111_1000;

/// The bridge.
#[derive(Debug)]
pub(crate) struct IsaBridge {
    space: ConfigSpace,
}

impl IsaBridge {
    pub(crate) fn new() -> Self {
        let mut space = ConfigSpace::new(IDENTITY);
        space.define(PMBASE, u32::from(PM_BASE.0) | 1, 0);
        space.define(ACPI_CONTROL, ACPI_ENABLE, 0);
        space.define(PIRQ_A_TO_D, ROUTES_DISABLED, ROUTES_KEPT);
        space.define(SERIAL_IRQ, 0x10, 0xff);
        space.define(PIRQ_E_TO_H, ROUTES_DISABLED, ROUTES_KEPT);
        space.define(LPC_DECODE, 0, 0x3f0f_1377);
        space.define(POWER_CONFIG, 0, 0x0000_0237);
        space.define(RCBA, 0, 0xffff_c001);
        Self { space }
    }

    pub(crate) fn read_config(&self, offset: u16) -> u32 {
        self.space.get(offset)
    }

    pub(crate) fn write_config(&mut self, offset: u16, value: u32, enables: u32) {
        self.space.write(offset, value, enables);
    }

    /// The ISA interrupts that the PCI interrupt lines in `pirqs` (a bit each, PIRQA lowest) are routed to.
    pub(crate) fn isa_interrupts(&self, pirqs: u8) -> u16 {
        let routes = [PIRQ_A_TO_D, PIRQ_E_TO_H].map(|offset| self.space.get(offset).to_le_bytes());
        let mut interrupts = 0;
        for (pirq, route) in routes.into_iter().flatten().enumerate() {
            if pirqs & (1 << pirq) != 0 && route & ROUTE_DISABLED == 0 {
                interrupts |= 1 << (route & 0xf);
            }
        }
        interrupts & ROUTABLE
    }

    pub(crate) fn reset(&mut self) {
        self.space.reset();
    }

    pub(crate) fn save(&self) -> ConfigSpaceState {
        self.space.save()
    }

    pub(crate) fn restore(&mut self, state: &ConfigSpaceState) {
        self.space.restore(state);
    }
}
