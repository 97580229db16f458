//! The machines that the image can be booted on from here, and how one of them is chosen.

pub(crate) mod bochs;
mod choice;
mod control;
pub(crate) mod emulator;
mod keys;
pub(crate) mod qemu;
mod serial;

pub(crate) use choice::{Host, Wish, choose, require_kvm};
pub(crate) use emulator::{Complaints, Emulator, Machine};
pub(crate) use serial::Serial;

/// A way to execute the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bochs, which emulates VT-x.
    Bochs,
    /// QEMU with KVM, with the host's VT-x passed on.
    Kvm,
    /// QEMU without KVM: no VT-x at all, for tests of the refusal.
    Tcg,
}

impl Kind {
    /// Its name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Bochs => "Bochs",
            Kind::Kvm => "QEMU with KVM",
            Kind::Tcg => "QEMU without KVM",
        }
    }
}

/// What the machine boots by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Firmware {
    /// The BIOS image.
    Bios,
    /// The UEFI image.
    Uefi,
}

/// Size of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Number of processors.
    pub(crate) cpus: u32,
    /// Memory in MiB.
    pub(crate) memory_mib: u32,
}

/// The processor that an emulator models. QEMU ignores it: there it is the host's, or one without VT-x.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Processor {
    /// The newest one that Linux is content with: EPT, unrestricted guests, APIC virtualization.
    #[default]
    Complete,
    /// The first VT-x: no EPT, no preemption timer.
    FirstGeneration,
    /// VT-x with EPT, without unrestricted guests.
    WithoutUnrestrictedGuest,
    /// Without virtual-interrupt delivery and posted interrupts.
    WithoutVirtualInterrupts,
    /// With virtual-interrupt delivery, without posted interrupts.
    WithoutPostedInterrupts,
    /// Its local APIC has its registers in memory and nowhere else.
    WithoutX2Apic,
}
