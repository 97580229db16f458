//! Numbers and layouts of KVM's paravirtual interface.
//!
//! The Linux Kernel documentation: "KVM CPUID bits", "KVM-specific MSRs", "Linux KVM Hypercall"; Linux's
//! `pvclock-abi.h` and `kvm_para.h` for x86.

use arch::Msr;
use bitflags::bitflags;

bitflags! {
    /// What is offered to a guest: EAX of CPUID leaf 0x4000_0001 ("KVM CPUID bits"). A bit stands here only if
    /// everything behind it exists.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u32 {
        /// KVM_FEATURE_CLOCKSOURCE: the clock's MSRs 0x11 and 0x12.
        const CLOCK_SOURCE = 1 << 0;
        /// KVM_FEATURE_NOP_IO_DELAY: port accesses need no delay.
        const NO_IO_DELAY = 1 << 1;
        /// KVM_FEATURE_CLOCKSOURCE2: the clock's MSRs 0x4b56_4d00 and 0x4b56_4d01.
        const CLOCK_SOURCE_2 = 1 << 3;
        /// KVM_FEATURE_STEAL_TIME: MSR 0x4b56_4d03.
        const STEAL_TIME = 1 << 5;
        /// KVM_FEATURE_PV_EOI: MSR 0x4b56_4d04.
        const END_OF_INTERRUPT = 1 << 6;
        /// KVM_FEATURE_PV_TLB_FLUSH: a flush for a preempted vCPU waits in its steal-time record.
        const TLB_FLUSH = 1 << 9;
        /// KVM_FEATURE_PV_SEND_IPI: hypercall 10.
        const SEND_IPI = 1 << 11;
        /// KVM_FEATURE_CLOCKSOURCE_STABLE_BIT: the clock's records may say that all vCPUs read one time.
        const CLOCK_STABLE_BIT = 1 << 24;
    }
}

impl Features {
    /// What a machine offers whose local APICs are software.
    pub const SOFTWARE_APIC: Self = Self::all();
    /// What a machine offers whose processor ends interrupts itself (virtual-interrupt delivery): an EOI is no exit
    /// there, and nothing is to be saved.
    pub const HARDWARE_APIC: Self = Self::all().difference(Self::END_OF_INTERRUPT);
}

/// A register of the interface. Two of them have an old and a new number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Register {
    /// MSR_KVM_WALL_CLOCK, MSR_KVM_WALL_CLOCK_NEW.
    WallClock,
    /// MSR_KVM_SYSTEM_TIME, MSR_KVM_SYSTEM_TIME_NEW.
    SystemTime,
    /// MSR_KVM_STEAL_TIME.
    StealTime,
    /// MSR_KVM_EOI_EN.
    EndOfInterrupt,
}

impl Register {
    /// The register with this number, if one of `offered` promises it.
    pub(super) const fn from_msr(msr: Msr, offered: Features) -> Option<Self> {
        let (register, feature) = match msr.0 {
            0x11 => (Self::WallClock, Features::CLOCK_SOURCE),
            0x12 => (Self::SystemTime, Features::CLOCK_SOURCE),
            0x4b56_4d00 => (Self::WallClock, Features::CLOCK_SOURCE_2),
            0x4b56_4d01 => (Self::SystemTime, Features::CLOCK_SOURCE_2),
            0x4b56_4d03 => (Self::StealTime, Features::STEAL_TIME),
            0x4b56_4d04 => (Self::EndOfInterrupt, Features::END_OF_INTERRUPT),
            _ => return None,
        };
        if offered.contains(feature) { Some(register) } else { None }
    }
}

/// Bit 0 of the registers that hold an address: the record there is to be kept.
pub(super) const ENABLED: u64 = 1;

/// `struct pvclock_vcpu_time_info`.
pub(super) mod time_record {
    use bitflags::bitflags;

    pub(in super::super) const SIZE: usize = 32;
    /// A version word of 32 bits stands first; 4 bytes of padding follow.
    pub(in super::super) const VERSION: u64 = 0;
    /// What the version guards: TSC (64 bits), system time in nanoseconds (64), multiplier (32), shift (signed 8),
    /// flags (8), padding (16).
    pub(in super::super) const BODY: u64 = 8;
    /// Where the flags are.
    pub(in super::super) const FLAGS: usize = 29;
    pub(in super::super) const ALIGNMENT: u64 = 4;

    bitflags! {
        /// The record's flags.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(in super::super) struct Flags: u8 {
            /// PVCLOCK_TSC_STABLE_BIT.
            const STABLE = 1 << 0;
            /// PVCLOCK_GUEST_STOPPED; the guest clears it.
            const GUEST_STOPPED = 1 << 1;
        }
    }
}

/// `struct pvclock_wall_clock`: version, seconds, nanoseconds, 32 bits each.
pub(super) mod wall_record {
    pub(in super::super) const SIZE: usize = 12;
    pub(in super::super) const VERSION: u64 = 0;
    pub(in super::super) const SECONDS: u64 = 4;
    pub(in super::super) const NANOSECONDS: u64 = 8;
    pub(in super::super) const ALIGNMENT: u64 = 4;
}

/// `struct kvm_steal_time`.
pub(super) mod steal_record {
    pub(in super::super) const SIZE: usize = 64;
    /// Nanoseconds, 64 bits.
    pub(in super::super) const STEAL: u64 = 0;
    /// 32 bits.
    pub(in super::super) const VERSION: u64 = 8;
    /// One byte.
    pub(in super::super) const PREEMPTED: u64 = 16;
    /// Bits 5:1 of the register are reserved, which makes the record's alignment 64 bytes.
    pub(in super::super) const RESERVED: u64 = 0x3e;

    /// KVM_VCPU_PREEMPTED.
    pub(in super::super) const IS_PREEMPTED: u8 = 1 << 0;
    /// KVM_VCPU_FLUSH_TLB.
    pub(in super::super) const FLUSH_TLB: u8 = 1 << 1;
}

/// The word of PV EOI.
pub(super) mod eoi_word {
    pub(in super::super) const SIZE: usize = 4;
    pub(in super::super) const ALIGNMENT: u64 = 4;
    /// The guest may end its interrupt by clearing this bit.
    pub(in super::super) const OFFERED: u8 = 1 << 0;
}

/// Hypercall numbers.
pub(super) mod call {
    /// KVM_HC_VAPIC_POLL_IRQ: leaves the guest and comes back.
    pub(in super::super) const POLL_IRQ: u64 = 1;
    /// KVM_HC_SEND_IPI.
    pub(in super::super) const SEND_IPI: u64 = 10;
}

/// Why a hypercall failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i64)]
pub(super) enum CallError {
    /// -KVM_EPERM.
    NotPermitted = -1,
    /// -KVM_EINVAL.
    Invalid = -22,
    /// -KVM_ENOSYS.
    NoSuchCall = -1000,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_exists_is_offered() {
        // Clock sources, no delays, steal time, EOI, TLB flush, IPI, the stable bit. No asynchronous page faults
        // (bits 4, 10, 14), no unhalt (7), no poll control (12), no yield (13).
        assert_eq!(Features::SOFTWARE_APIC.bits(), 0x0100_0a6b);
        assert_eq!(Features::HARDWARE_APIC.bits(), 0x0100_0a2b);
    }

    #[test]
    fn a_register_exists_with_its_feature() {
        let numbers = [0x11, 0x12, 0x4b56_4d00, 0x4b56_4d01, 0x4b56_4d03, 0x4b56_4d04];
        for number in numbers {
            assert!(Register::from_msr(Msr(number), Features::SOFTWARE_APIC).is_some(), "{number:#x}");
            assert!(Register::from_msr(Msr(number), Features::NO_IO_DELAY).is_none(), "{number:#x}");
        }
        assert!(Register::from_msr(Msr(0x4b56_4d04), Features::HARDWARE_APIC).is_none());
        for number in [0x13, 0x4b56_4d02, 0x4b56_4d05, 0x4b56_4d06, 0x4b56_4d07, 0x4b56_4d08] {
            assert!(Register::from_msr(Msr(number), Features::all()).is_none(), "{number:#x}");
        }
    }
}
