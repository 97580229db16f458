//! SDM Vol. 3C, "Checks on VMX Controls", "VM-Exit Control Fields".

use super::bits::SAVE_PREEMPTION_TIMER;
use super::checker::Checker;
use super::execution_controls::reserved_controls;
use crate::{PinBased, VmcsAccess, field};

/// Rules about an area of 16-byte MSR entries; none applies while the area is empty.
macro_rules! msr_area {
    ($checker:expr, $name:literal, $count:expr, $address:expr) => {{
        let count = u64::from($checker.read($count));
        if count != 0 {
            let address = $checker.read($address);
            $checker.no_bits(concat!($name, " address: bits 3:0 must be 0"), address & 0xf);
            $checker.no_bits(
                concat!($name, " address: no bit beyond the physical-address width may be 1"),
                $checker.beyond_pointer(address),
            );
            let fits =
                address.checked_add(count * 16 - 1).is_some_and(|last| $checker.beyond_pointer(last) == 0);
            $checker.rule(concat!($name, " area: its last byte must be a physical address"), count, fits);
        }
    }};
}
pub(super) use msr_area;

pub(super) fn check<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    checker.section("VM-Exit Control Fields");
    reserved_controls!(checker, "VM-exit controls", checker.exit.bits(), checker.capabilities.exit);
    if !checker.pin.contains(PinBased::PREEMPTION_TIMER) {
        checker.rule(
            "VM-exit controls: \"save VMX-preemption timer value\" needs \"activate VMX-preemption timer\"",
            checker.exit.bits(),
            !checker.exit.contains(SAVE_PREEMPTION_TIMER),
        );
    }
    msr_area!(checker, "VM-exit MSR-store", field::VM_EXIT_MSR_STORE_COUNT, field::VM_EXIT_MSR_STORE_ADDRESS);
    msr_area!(checker, "VM-exit MSR-load", field::VM_EXIT_MSR_LOAD_COUNT, field::VM_EXIT_MSR_LOAD_ADDRESS);
}
