//! VMX root operation of one CPU.

use super::instructions;
use super::invalidation::Invalidations;
use super::switched_state::LeftBehind;
use crate::memory::frames::Order;
use crate::memory::{FrameBlock, OutOfFrames};
use crate::{msr, percpu, shootdown};
use arch::Msr;
use spin::Once;
use vmx::{Capabilities, ControlMissing, Controls, Secondary, VectorPlaces};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};

/// Why VMX could not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VmxError {
    /// No frames for a VMX region.
    OutOfFrames(OutOfFrames),
    /// A control that Craton needs is missing.
    ControlMissing(ControlMissing),
    /// VMXON failed although the CPU reports VMX as usable.
    VmxonFailed,
    /// All virtual-processor identifiers are taken.
    OutOfVpids,
    /// The firmware locked VMX off on this CPU.
    LockedOff,
    /// INVEPT for all contexts is missing.
    NoInvept,
    /// This CPU's VMX is not like that of the CPU that was started first: vCPUs could not move between them.
    UnlikeFirst,
}

impl core::fmt::Display for VmxError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::OutOfFrames(error) => error.fmt(f),
            Self::ControlMissing(error) => error.fmt(f),
            Self::VmxonFailed => f.write_str("VMXON failed although CPUID and IA32_FEATURE_CONTROL allow it"),
            Self::OutOfVpids => f.write_str("all virtual-processor identifiers are in use"),
            Self::LockedOff => f.write_str("the firmware locked VMX off on this CPU"),
            Self::NoInvept => f.write_str("the processor does not support INVEPT for all contexts"),
            Self::UnlikeFirst => {
                f.write_str("VMX on this CPU is not like on the first: vCPUs could not move between them")
            }
        }
    }
}

impl From<OutOfFrames> for VmxError {
    fn from(error: OutOfFrames) -> Self {
        Self::OutOfFrames(error)
    }
}

/// What the first CPU has and all must have, for vCPUs to move between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Common {
    capabilities: Capabilities,
    controls: Controls,
    xsave_mask: u64,
}

static COMMON: Once<Common> = Once::new();

/// This CPU in VMX root operation. Holding it proves that VMX instructions may be used here.
#[derive(Debug)]
pub struct VmxCpu {
    /// Kept for as long as VMX is on, which is for ever.
    _region: FrameBlock,
    capabilities: Capabilities,
    controls: Controls,
    /// State components that XSAVE handles here; 0 without XSAVE.
    xsave_mask: u64,
    /// The size of an XSAVE area with them in standard format, in bytes.
    xsave_bytes: usize,
    /// Where vector registers are in such an area.
    vector_places: VectorPlaces,
    /// HPA of the VMCS that is loaded, 0 for none.
    pub(super) current: u64,
    /// This CPU's number.
    pub(super) index: u32,
    pub(super) invalidations: Invalidations,
    /// What guests' registers hold while none is loaded.
    pub(super) left: LeftBehind,
    /// A CPU's own: neither `Send` nor `Sync`.
    _here: core::marker::PhantomData<*const ()>,
}

impl VmxCpu {
    /// Enters VMX root operation on this CPU, from when on [`shootdown`] waits for it. The requirements of
    /// `vmx::requirements` have been checked on the first CPU; the others must have the same as that one.
    ///
    /// # Errors
    /// [`VmxError`] when a control is missing, memory is short, VMXON fails, or this CPU is not like the first. It can
    /// run no guests then, and nothing waits for it.
    pub fn start() -> Result<Self, VmxError> {
        let capabilities = Capabilities::read(msr::read);
        let controls = Controls::negotiate(&capabilities).map_err(VmxError::ControlMissing)?;
        let invalidations = Invalidations::of(&capabilities).ok_or(VmxError::NoInvept)?;
        let has_xsave = crate::cpu::cpuid(1, 0).ecx & 1 << 26 != 0;
        msr::enable_vmx_outside_smx();
        if !msr::vmx_is_enabled_outside_smx() {
            return Err(VmxError::LockedOff);
        }
        let fixed_cr0 = Cr0::read_raw() | capabilities.cr0_fixed0;
        // SAFETY: the fixed bits are PE, NE and PG: the first and the last are on already.
        unsafe { Cr0::write(Cr0Flags::from_bits_retain(fixed_cr0)) };
        let mut cr4 = Cr4::read() | Cr4Flags::from_bits_retain(capabilities.cr4_fixed0);
        cr4 |= Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS | Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE;
        // Without it a machine check shuts the processor down without a word. Every processor with VMX has it.
        cr4 |= Cr4Flags::MACHINE_CHECK_EXCEPTION;
        cr4.set(Cr4Flags::OSXSAVE, has_xsave);
        // SAFETY: switches instructions on that nothing here used before.
        unsafe { Cr4::write(cr4) };
        // With CR4.OSXSAVE on, CPUID tells the size of the area.
        let xsave_mask = if has_xsave { supported_components() } else { 0 };
        if controls.has_secondary(Secondary::XSAVES) {
            // SAFETY: no supervisor state is in use here; guests share the register, and find it as CPUID tells them.
            unsafe { msr::write(Msr::XSS, 0) };
        }
        let own = Common { capabilities, controls, xsave_mask };
        if *COMMON.call_once(|| own) != own {
            return Err(VmxError::UnlikeFirst);
        }

        let region = new_region(&capabilities)?;
        // SAFETY: VMXE is set and the region fresh.
        unsafe { instructions::vmxon(region.hpa()) }.map_err(|_| VmxError::VmxonFailed)?;
        invalidations.keep();
        // SAFETY: in VMX root operation, with these capabilities.
        unsafe { shootdown::join(invalidations) };
        Ok(Self {
            _region: region,
            capabilities,
            controls,
            xsave_mask,
            xsave_bytes: area_bytes(xsave_mask),
            vector_places: VectorPlaces::new(xsave_mask, component_offset),
            current: 0,
            index: percpu::current().index,
            invalidations,
            left: LeftBehind::here(xsave_mask, controls.has_secondary(Secondary::RDTSCP)),
            _here: core::marker::PhantomData,
        })
    }

    /// The capability MSRs.
    pub const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The controls that guests run with.
    pub const fn controls(&self) -> &Controls {
        &self.controls
    }

    /// The size of an XSAVE area of all components that guests may use, in bytes.
    pub(super) const fn xsave_bytes(&self) -> usize {
        self.xsave_bytes
    }

    /// Where vector registers are in such an area.
    pub(super) const fn vector_places(&self) -> VectorPlaces {
        self.vector_places
    }

    /// The XSAVE state components that guests may use; 0 without XSAVE.
    pub const fn xsave_mask(&self) -> u64 {
        self.xsave_mask
    }
}

/// The size of an XSAVE area for `components` in standard format (SDM Vol. 1, "Extended Region of an XSAVE Area").
fn area_bytes(components: u64) -> usize {
    /// The legacy region and the header.
    const FIXED_BYTES: u32 = 576;
    let end = |component: u32| {
        let leaf = crate::cpu::cpuid(0xd, component);
        leaf.ebx.saturating_add(leaf.eax)
    };
    let extended = (2..63).filter(|component| components & 1 << component != 0).map(end);
    let bytes = extended.fold(FIXED_BYTES, u32::max);
    // The components that are switched end below 4 KiB, the size of the area.
    usize::try_from(u64::from(bytes).min(arch::PAGE_SIZE)).unwrap_or(FIXED_BYTES as usize)
}

/// Where `component` begins in such an area.
fn component_offset(component: u32) -> usize {
    usize::try_from(crate::cpu::cpuid(0xd, component).ebx).unwrap_or(0)
}

/// Components that are saved and restored for guests: x87, SSE, AVX, AVX-512, PKRU.
const SWITCHED_COMPONENTS: u64 = 0b10_1110_0111;

fn supported_components() -> u64 {
    let leaf = crate::cpu::cpuid(0xd, 0);
    (u64::from(leaf.edx) << 32 | u64::from(leaf.eax)) & SWITCHED_COMPONENTS
}

/// A zeroed region that starts with the VMCS revision.
pub(super) fn new_region(capabilities: &Capabilities) -> Result<FrameBlock, OutOfFrames> {
    let region = FrameBlock::zeroed(Order::SMALL)?;
    memory::Block::copy_in(&region, 0, &capabilities.revision().to_le_bytes());
    Ok(region)
}

/// Runs this CPU's NMI handler for an NMI that a VM exit took, so that its IRET opens the CPU for the next one
/// (SDM Vol. 3C, "NMI-Exiting"; the exit itself leaves NMIs blocked).
pub fn handle_nmi() {
    // SAFETY: vector 2 has a handler on a stack of its own, which returns.
    unsafe { core::arch::asm!("int 2", options(nostack)) };
}

/// Runs this CPU's machine-check handler for a machine check that a VM exit took (SDM Vol. 3C, "Machine-Check Events
/// in VMX Non-Root Operation"). The handler ends in a panic: what the event destroyed is not known.
pub fn handle_machine_check() {
    // SAFETY: vector 18 has a handler on a stack of its own.
    unsafe { core::arch::asm!("int 18", options(nostack)) };
}
