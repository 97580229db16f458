//! The fixed ACPI description table: where the power-management registers are.
//!
//! ACPI Specification 6.5, "Fixed ACPI Description Table (FADT)".

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use arch::{Port, platform_layout as pc};

/// IAPC_BOOT_ARCH: there are devices on the ISA bus.
const LEGACY_DEVICES: u16 = 1 << 0;
/// IAPC_BOOT_ARCH: there is a keyboard controller.
const KEYBOARD_CONTROLLER: u16 = 1 << 1;
/// IAPC_BOOT_ARCH: no VGA. Bit 5 (no CMOS clock) is not set.
const VGA_NOT_PRESENT: u16 = 1 << 2;
/// Latencies that mean that processor states C2 and C3 are not there, in microseconds.
const NO_C2: u16 = 101;
const NO_C3: u16 = 1001;

/// The table, pointing to the tables at `facs` and `dsdt`.
pub(crate) fn table(facs: u32, dsdt: u32) -> FADT {
    let mut table = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        // The power button is a fixed one (its flag would deny that), and there is no sleep button.
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup);
    if pc::PM_TIMER_IS_32_BIT {
        table = table.flag(Flags::TmrValExt);
    }
    table.firmware_ctrl = facs.into();
    table.dsdt = dsdt.into();
    table.x_dsdt = u64::from(dsdt).into();
    table.sci_int = u16::from(pc::SCI_IRQ).into();
    // The machine is in ACPI mode from the start, and can be put into legacy mode and back.
    table.smi_cmd = u32::from(pc::SMI_COMMAND.0).into();
    table.acpi_enable = pc::ACPI_ENABLE;
    table.acpi_disable = pc::ACPI_DISABLE;
    table.pm1a_evt_blk = u32::from(pc::PM1A_EVENT.0).into();
    table.pm1a_cnt_blk = u32::from(pc::PM1A_CONTROL.0).into();
    table.pm_tmr_blk = u32::from(pc::PM_TIMER.0).into();
    table.pm1_evt_len = pc::PM1A_EVENT_BYTES;
    table.pm1_cnt_len = pc::PM1A_CONTROL_BYTES;
    table.pm_tmr_len = pc::PM_TIMER_BYTES;
    table.x_pm1a_evt_blk = ports(pc::PM1A_EVENT, pc::PM1A_EVENT_BYTES, AccessSize::WordAccess);
    table.x_pm1a_cnt_blk = ports(pc::PM1A_CONTROL, pc::PM1A_CONTROL_BYTES, AccessSize::WordAccess);
    table.x_pm_tmr_blk = ports(pc::PM_TIMER, pc::PM_TIMER_BYTES, AccessSize::DwordAccess);
    table.gpe0_blk = u32::from(pc::GPE0.0).into();
    table.gpe0_blk_len = pc::GPE0_BYTES;
    table.x_gpe0_blk = ports(pc::GPE0, pc::GPE0_BYTES, AccessSize::ByteAccess);
    table.p_lvl2_lat = NO_C2.into();
    table.p_lvl3_lat = NO_C3.into();
    table.century = pc::CMOS_CENTURY;
    table.iapc_boot_arch = (LEGACY_DEVICES | KEYBOARD_CONTROLLER | VGA_NOT_PRESENT).into();
    table.reset_reg = ports(pc::RESET_REGISTER, 1, AccessSize::ByteAccess);
    table.reset_value = pc::RESET_VALUE;
    table.hypervisor_vendor_identity = u64::from_le_bytes(*b"Craton\0\0").into();
    table.finalize()
}

/// A register block of `bytes` bytes at `port`.
fn ports(port: Port, bytes: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, bytes * 8, 0, access, u64::from(port.0))
}
