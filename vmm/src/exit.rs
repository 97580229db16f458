//! Why a guest stopped running, and what comes of it.

use arch::{Exception, Gpa, Gpr, Gva, Port, Vector, Width};

/// The direction of a port access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the device to the guest.
    In,
    /// From the guest to the device.
    Out,
}

/// A port access, in one word: it is handed on at every such exit.
///
/// Bits 2:0 bytes per access less one, 3 set for IN, 4 set for INS and OUTS, 31:16 the port: as VT-x reports it (SDM
/// Vol. 3C, "Exit Qualification for I/O Instructions").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoExit(u32);

impl IoExit {
    const IN: u32 = 1 << 3;
    const STRING: u32 = 1 << 4;

    /// An access of `width` at `port`; `string` for INS and OUTS. There is no port access of eight bytes: it is taken
    /// as one of four.
    pub const fn new(port: Port, width: Width, direction: Direction, string: bool) -> Self {
        let size = match width {
            Width::One => 0,
            Width::Two => 1,
            Width::Four | Width::Eight => 3,
        };
        let input = match direction {
            Direction::In => Self::IN,
            Direction::Out => 0,
        };
        Self((port.0 as u32) << 16 | size | input | if string { Self::STRING } else { 0 })
    }

    /// The access that `word` packs; unused bits are ignored.
    #[inline]
    pub const fn from_packed(word: u32) -> Self {
        Self(word & 0xffff_001f)
    }

    /// The port.
    #[inline]
    pub const fn port(self) -> Port {
        Port((self.0 >> 16) as u16)
    }

    /// Bytes per access: one, two or four.
    #[inline]
    pub const fn width(self) -> Width {
        // A load is shorter than the comparisons.
        const WIDTHS: [Width; 8] = {
            let mut widths = [Width::Four; 8];
            widths[0] = Width::One;
            widths[1] = Width::Two;
            widths
        };
        WIDTHS[(self.0 & 7) as usize]
    }

    /// All ones over the width.
    #[inline]
    pub const fn mask(self) -> u32 {
        const MASKS: [u32; 8] = {
            let mut masks = [u32::MAX; 8];
            masks[0] = 0xff;
            masks[1] = 0xffff;
            masks
        };
        MASKS[(self.0 & 7) as usize]
    }

    /// In or out.
    #[inline]
    pub const fn direction(self) -> Direction {
        if self.0 & Self::IN == 0 { Direction::Out } else { Direction::In }
    }

    /// Whether the instruction is INS or OUTS.
    #[inline]
    pub const fn is_string(self) -> bool {
        self.0 & Self::STRING != 0
    }
}

/// How memory was accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryAccess {
    /// Data read.
    Read,
    /// Data write (or read-modify-write).
    Write,
    /// Instruction fetch.
    Fetch,
}

/// An access to guest-physical memory that second-level translation does not allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EptFault {
    /// The guest-physical address.
    pub gpa: Gpa,
    /// The linear address of the access; only of use if `translated`.
    pub gva: Gva,
    /// Whether the access was to the translation of `gva`, and not to the guest's own page tables on the way.
    pub translated: bool,
    /// How it was accessed.
    pub access: MemoryAccess,
}

/// An access to a control register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrAccess {
    /// MOV to CR0, from the register.
    WriteCr0(Gpr),
    /// MOV to CR4, from the register.
    WriteCr4(Gpr),
    /// MOV to CR8, from the register.
    WriteCr8(Gpr),
    /// MOV from CR8, to the register.
    ReadCr8(Gpr),
    /// CLTS.
    Clts,
    /// LMSW, with the source operand.
    Lmsw(u16),
}

/// What the hardware says of an exit that nothing decodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawExit {
    /// The basic exit reason.
    pub reason: u16,
    /// The exit qualification.
    pub qualification: u64,
}

/// Why an entry did not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryFailure {
    /// The guest state or an MSR-load area was refused: the basic exit reason and its qualification.
    Refused(RawExit),
    /// VMLAUNCH or VMRESUME itself failed, with the VM-instruction error number (SDM Vol. 3C, "VM-Instruction
    /// Error Numbers").
    Instruction(u32),
}

/// An exit, decoded once.
// With a tag of its own, not one hidden in a payload: it is looked at at every exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum VmExit {
    /// A host interrupt is pending; nothing for the guest.
    ExternalInterrupt,
    /// A host NMI arrived.
    Nmi,
    /// A machine check: the host's.
    MachineCheck,
    /// The absolute deadline of the entry was reached.
    Deadline,
    /// The guest can take an interrupt now.
    InterruptWindow,
    /// The guest can take an NMI now.
    NmiWindow,
    /// An intercepted exception of the guest's own: #DB or #AC.
    Exception(Exception),
    /// CPUID.
    Cpuid,
    /// HLT.
    Hlt,
    /// VMCALL.
    Vmcall,
    /// A port access.
    Io(IoExit),
    /// RDMSR of the register in ECX.
    ReadMsr,
    /// WRMSR to the register in ECX.
    WriteMsr,
    /// A second-level translation fault.
    Ept(EptFault),
    /// A control-register access that the masks intercept.
    Cr(CrAccess),
    /// XSETBV.
    Xsetbv,
    /// WBINVD, WBNOINVD or INVD.
    CacheFlush,
    /// RDPMC.
    Rdpmc,
    /// PAUSE in a loop.
    Pause,
    /// An instruction that this virtual machine's CPUID does not offer: VMX, SMX, MONITOR, MWAIT, ENCLS.
    NotOffered,
    /// A hardware task switch.
    TaskSwitch,
    /// A triple fault: the processor shut down.
    TripleFault,
    /// INIT arrived at the physical processor.
    Init,
    /// The processor ended a level-triggered interrupt for the guest; RIP is past the instruction.
    EoiInduced(Vector),
    /// The guest wrote the local APIC's register at this offset, and the processor did not carry it out; RIP is past the
    /// instruction, and the value is in the lent register.
    ApicWrite(u16),
    /// The guest accessed the page of a lent local APIC in a way that the processor does not carry out.
    ApicAccess(EptFault),
    /// The entry did not happen.
    EntryFailure(EntryFailure),
    /// Nothing decodes this one.
    Unhandled(RawExit),
}

/// A row of the exit statistics: exits that cost alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ExitReason {
    /// Host interrupt.
    ExternalInterrupt,
    /// Host NMI.
    Nmi,
    /// Machine check.
    MachineCheck,
    /// Slice end or guest timer.
    Deadline,
    /// Interrupt window.
    InterruptWindow,
    /// NMI window.
    NmiWindow,
    /// Intercepted exception.
    Exception,
    /// CPUID.
    Cpuid,
    /// HLT.
    Hlt,
    /// VMCALL.
    Vmcall,
    /// IN and INS.
    IoIn,
    /// OUT and OUTS.
    IoOut,
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// EPT violation or misconfiguration: MMIO.
    Ept,
    /// Control registers.
    Cr,
    /// XSETBV.
    Xsetbv,
    /// WBINVD and INVD.
    CacheFlush,
    /// RDPMC.
    Rdpmc,
    /// PAUSE.
    Pause,
    /// Instructions not offered.
    NotOffered,
    /// Task switch.
    TaskSwitch,
    /// Triple fault.
    TripleFault,
    /// INIT.
    Init,
    /// End of a level-triggered interrupt.
    EoiInduced,
    /// A write to the local APIC that the processor leaves to Craton.
    ApicWrite,
    /// An access to a lent local APIC's page that the processor leaves to Craton.
    ApicAccess,
    /// Entry failure.
    EntryFailure,
    /// Not decoded.
    Unhandled,
}

impl ExitReason {
    /// How many reasons there are.
    pub const COUNT: usize = 29;

    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::ExternalInterrupt,
        Self::Nmi,
        Self::MachineCheck,
        Self::Deadline,
        Self::InterruptWindow,
        Self::NmiWindow,
        Self::Exception,
        Self::Cpuid,
        Self::Hlt,
        Self::Vmcall,
        Self::IoIn,
        Self::IoOut,
        Self::ReadMsr,
        Self::WriteMsr,
        Self::Ept,
        Self::Cr,
        Self::Xsetbv,
        Self::CacheFlush,
        Self::Rdpmc,
        Self::Pause,
        Self::NotOffered,
        Self::TaskSwitch,
        Self::TripleFault,
        Self::Init,
        Self::EoiInduced,
        Self::ApicWrite,
        Self::ApicAccess,
        Self::EntryFailure,
        Self::Unhandled,
    ];

    /// The reason's name in statistics and dumps.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExternalInterrupt => "external-interrupt",
            Self::Nmi => "nmi",
            Self::MachineCheck => "machine-check",
            Self::Deadline => "deadline",
            Self::InterruptWindow => "interrupt-window",
            Self::NmiWindow => "nmi-window",
            Self::Exception => "exception",
            Self::Cpuid => "cpuid",
            Self::Hlt => "hlt",
            Self::Vmcall => "vmcall",
            Self::IoIn => "io-in",
            Self::IoOut => "io-out",
            Self::ReadMsr => "rdmsr",
            Self::WriteMsr => "wrmsr",
            Self::Ept => "ept",
            Self::Cr => "cr-access",
            Self::Xsetbv => "xsetbv",
            Self::CacheFlush => "cache-flush",
            Self::Rdpmc => "rdpmc",
            Self::Pause => "pause",
            Self::NotOffered => "not-offered",
            Self::TaskSwitch => "task-switch",
            Self::TripleFault => "triple-fault",
            Self::Init => "init",
            Self::EoiInduced => "eoi-induced",
            Self::ApicWrite => "apic-write",
            Self::ApicAccess => "apic-access",
            Self::EntryFailure => "entry-failure",
            Self::Unhandled => "unhandled",
        }
    }
}

impl VmExit {
    /// The statistics row of this exit.
    #[inline]
    pub const fn reason(&self) -> ExitReason {
        let reason = match self {
            Self::ExternalInterrupt => ExitReason::ExternalInterrupt,
            Self::Nmi => ExitReason::Nmi,
            Self::MachineCheck => ExitReason::MachineCheck,
            Self::Deadline => ExitReason::Deadline,
            Self::InterruptWindow => ExitReason::InterruptWindow,
            Self::NmiWindow => ExitReason::NmiWindow,
            Self::Exception(_) => ExitReason::Exception,
            Self::Cpuid => ExitReason::Cpuid,
            Self::Hlt => ExitReason::Hlt,
            Self::Vmcall => ExitReason::Vmcall,
            Self::Io(_) => ExitReason::IoIn,
            Self::ReadMsr => ExitReason::ReadMsr,
            Self::WriteMsr => ExitReason::WriteMsr,
            Self::Ept(_) => ExitReason::Ept,
            Self::Cr(_) => ExitReason::Cr,
            Self::Xsetbv => ExitReason::Xsetbv,
            Self::CacheFlush => ExitReason::CacheFlush,
            Self::Rdpmc => ExitReason::Rdpmc,
            Self::Pause => ExitReason::Pause,
            Self::NotOffered => ExitReason::NotOffered,
            Self::TaskSwitch => ExitReason::TaskSwitch,
            Self::TripleFault => ExitReason::TripleFault,
            Self::Init => ExitReason::Init,
            Self::EoiInduced(_) => ExitReason::EoiInduced,
            Self::ApicWrite(_) => ExitReason::ApicWrite,
            Self::ApicAccess(_) => ExitReason::ApicAccess,
            Self::EntryFailure(_) => ExitReason::EntryFailure,
            Self::Unhandled(_) => ExitReason::Unhandled,
        };
        // Apart from the match, which is a table look-up without it.
        if let Self::Io(access) = self
            && access.0 & IoExit::IN == 0
        {
            return ExitReason::IoOut;
        }
        reason
    }
}

/// What a handler decided. Only `vcpu` acts on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Outcome {
    /// The instruction is done: move RIP past it.
    Advance,
    /// Run the guest again where it is: at the same instruction, or at the next one if the handler has moved RIP.
    Retry,
    /// Deliver the exception; RIP stays.
    Fault(Exception),
    /// The instruction is done and the processor halts until an interrupt.
    Halt,
    /// Leave the guest: the host has something to do.
    Yield(Yield),
    /// The virtual machine ends here.
    Stop(StopReason),
}

/// Why a core stops running a vCPU that could go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Yield {
    /// A host interrupt waits.
    HostInterrupt,
    /// A host NMI arrived: its handler must run before NMIs are taken again.
    HostNmi,
    /// A machine check arrived: the host's handler decides what becomes of the machine.
    HostMachineCheck,
}

/// Why a virtual machine stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// The guest powered off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest ended its machine with a status, by the debug exit device.
    DebugExit {
        /// Twice the value that it wrote, and one.
        status: u32,
    },
    /// The guest's processor shut down.
    TripleFault,
    /// The guest halted with interrupts off and nothing that could wake it.
    HaltedForever,
    /// The guest fetched instructions where there is no RAM.
    FetchOutsideRam(Gpa),
    /// The guest used an instruction on device memory that is not emulated.
    NotEmulated {
        /// The instruction's bytes.
        bytes: [u8; 15],
        /// How many of them count.
        length: u8,
    },
    /// A hardware task switch, which is not modelled.
    TaskSwitch,
    /// The processor refused the guest's state.
    EntryFailure(EntryFailure),
    /// An exit that nothing handles.
    Unhandled(RawExit),
    /// The guest switched memory, and the host has no frames for the tables that it takes.
    NoTables,
    /// The operator stopped it.
    Operator,
}

impl StopReason {
    /// Whether the guest itself asked for this, or the operator did: no failure.
    pub const fn is_orderly(&self) -> bool {
        matches!(self, Self::PowerOff | Self::Reset | Self::DebugExit { .. } | Self::Operator)
    }
}

impl core::fmt::Display for StopReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::Reset => f.write_str("the guest asked for a reset"),
            Self::DebugExit { status } => write!(f, "the guest ended with status {status}"),
            Self::TripleFault => f.write_str("triple fault"),
            Self::HaltedForever => f.write_str("HLT with interrupts off and no NMI source"),
            Self::FetchOutsideRam(gpa) => write!(f, "instruction fetch at {gpa}, where there is no RAM"),
            Self::NotEmulated { bytes, length } => {
                f.write_str("device memory accessed by an instruction that is not emulated:")?;
                bytes.iter().take(usize::from(*length)).try_for_each(|byte| write!(f, " {byte:02x}"))
            }
            Self::TaskSwitch => f.write_str("hardware task switch, which is not modelled"),
            Self::EntryFailure(EntryFailure::Refused(raw)) => {
                write!(f, "VM entry refused: reason {}, qualification {:#x}", raw.reason, raw.qualification)
            }
            Self::EntryFailure(EntryFailure::Instruction(error)) => {
                write!(f, "VM entry failed: VM-instruction error {error}")
            }
            Self::Unhandled(raw) => {
                write!(f, "unhandled exit {}, qualification {:#x}", raw.reason, raw.qualification)
            }
            Self::NoTables => f.write_str("the host has no memory left for this guest's tables"),
            Self::Operator => f.write_str("stopped by the operator"),
        }
    }
}

/// An event to deliver on the next entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// An external interrupt.
    Interrupt(Vector),
    /// A non-maskable interrupt.
    Nmi,
    /// An exception.
    Exception(Exception),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_number() {
        for (number, reason) in ExitReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number, "{}", reason.name());
        }
    }
}
