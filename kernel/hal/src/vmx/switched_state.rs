//! Guest state that stays in the processor's registers across exits and is exchanged only when the core turns to
//! another vCPU: x87, vector and protection-key state, SYSCALL MSRs, KERNEL_GS_BASE, TSC_AUX, debug registers,
//! CR2.
//!
//! The hypervisor is built without floating point and never takes SYSCALL, so nothing of this is disturbed while
//! it runs.

use super::operation::VmxCpu;
use crate::memory::frames::Order;
use crate::memory::{FrameBlock, OutOfFrames};
use crate::msr;
use arch::{Msr, VectorRegister, VectorValue};
use core::arch::asm;
use memory::Block;
use vmx::{ExtendedLayout, LiveRegisters, VectorPlaces};

/// MSRs that the VMCS does not switch and that guests write with an exit: what they hold is known.
const MSRS: [Msr; 4] = [Msr::STAR, Msr::LSTAR, Msr::CSTAR, Msr::FMASK];

/// MXCSR after reset.
const MXCSR_RESET: u32 = 0x1f80;
/// x87 control word after reset.
const FCW_RESET: u16 = 0x0040;
/// Where XSTATE_BV is in an XSAVE area.
const XSTATE_BV: usize = 512;
/// x87 and SSE: what FXSAVE saves.
const LEGACY_COMPONENTS: u64 = 0b11;
/// The legacy region and the header of an XSAVE area, in bytes.
const FIXED_BYTES: usize = 576;

/// What the guest that was unloaded last left in a CPU's registers. Registers that the next guest has the same in are not
/// written: writing an MSR or a debug register takes the processor far longer than comparing.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeftBehind {
    msrs: [u64; MSRS.len()],
    tsc_aux: u64,
    kernel_gs_base: u64,
    dr: [u64; 4],
}

impl LeftBehind {
    /// What is in this CPU's registers now, with XCR0 as it is left between guests: all of `xsave_mask` on. Guests have
    /// TSC_AUX if `rdtscp`.
    pub(super) fn here(xsave_mask: u64, rdtscp: bool) -> Self {
        if xsave_mask != 0 {
            write_xcr0(xsave_mask);
        }
        Self {
            msrs: MSRS.map(msr::read),
            tsc_aux: if rdtscp { msr::read(Msr::TSC_AUX) } else { 0 },
            kernel_gs_base: msr::read(Msr::KERNEL_GS_BASE),
            dr: read_dr(),
        }
    }
}

/// The state of a vCPU that is not loaded.
#[derive(Debug)]
pub(super) struct SwitchedState {
    /// XSAVE area in standard format, or FXSAVE area.
    area: FrameBlock,
    xsave_mask: u64,
    xsave_bytes: usize,
    vector_places: VectorPlaces,
    rdtscp: bool,
    pub(super) xcr0: u64,
    /// By [`MSRS`], also while they are in the registers.
    msrs: [u64; MSRS.len()],
    /// The same.
    tsc_aux: u64,
    /// One of these two was written since they were installed.
    is_changed: bool,
    kernel_gs_base: u64,
    dr: [u64; 4],
    dr6: u64,
    cr2: u64,
}

impl SwitchedState {
    /// Reset state.
    pub(super) fn new(cpu: &VmxCpu, rdtscp: bool) -> Result<Self, OutOfFrames> {
        // The standard-format area of all switched components is under 4 KiB.
        let area = FrameBlock::zeroed(Order::SMALL)?;
        area.copy_in(24, &MXCSR_RESET.to_le_bytes());
        if cpu.xsave_mask() == 0 {
            area.copy_in(0, &FCW_RESET.to_le_bytes());
        }
        Ok(Self {
            area,
            xsave_mask: cpu.xsave_mask(),
            xsave_bytes: cpu.xsave_bytes(),
            vector_places: cpu.vector_places(),
            rdtscp,
            xcr0: 1,
            msrs: [0; MSRS.len()],
            tsc_aux: 0,
            is_changed: false,
            kernel_gs_base: 0,
            dr: [0; 4],
            dr6: 0xffff_0ff0,
            cr2: 0,
        })
    }

    /// Takes the state out of this CPU's registers.
    #[inline(always)]
    pub(super) fn capture(&mut self, left: &mut LeftBehind) {
        self.capture_vectors(self.xcr0);
        if core::mem::take(&mut self.is_changed) {
            (left.msrs, left.tsc_aux) = (self.msrs, self.tsc_aux);
        }
        self.kernel_gs_base = msr::read(Msr::KERNEL_GS_BASE);
        left.kernel_gs_base = self.kernel_gs_base;
        self.dr = read_dr();
        left.dr = self.dr;
        self.dr6 = read_dr6();
        self.cr2 = crate::cpu::cr2();
    }

    /// Puts the state into this CPU's registers, where it finds what was `left`.
    #[inline(always)]
    pub(super) fn install(&self, left: &mut LeftBehind) {
        self.install_vectors(self.xsave_mask);
        let ([a, b, c, d], [e, f, g, h]) = (self.msrs, left.msrs);
        if (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) | (self.tsc_aux ^ left.tsc_aux) != 0 {
            self.install_msrs(left);
        }
        if self.kernel_gs_base != left.kernel_gs_base {
            // SAFETY: the hypervisor does not use it; the value is what the guest left, which the processor accepted, or
            // zero.
            unsafe { msr::write(Msr::KERNEL_GS_BASE, self.kernel_gs_base) };
        }
        // Written out: an array is compared by a call, byte by byte.
        let ([a, b, c, d], [e, f, g, h]) = (self.dr, left.dr);
        if (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) != 0 {
            write_dr(self.dr);
        }
        write_dr6(self.dr6);
        write_cr2(self.cr2);
    }

    #[inline(never)]
    fn install_msrs(&self, left: &mut LeftBehind) {
        for ((value, before), number) in self.msrs.iter().zip(left.msrs).zip(MSRS) {
            if *value != before {
                // SAFETY: the hypervisor uses none of these; the values are such as the processor accepted, or zero.
                unsafe { msr::write(number, *value) };
            }
        }
        // Both are zero where guests have no TSC_AUX.
        if self.tsc_aux != left.tsc_aux {
            // SAFETY: as above.
            unsafe { msr::write(Msr::TSC_AUX, self.tsc_aux) };
        }
        (left.msrs, left.tsc_aux) = (self.msrs, self.tsc_aux);
    }

    /// Writes one of [`MSRS`], or TSC_AUX where guests have it, to its register. The value is one that the processor
    /// accepts.
    pub(super) fn write_msr(&mut self, number: Msr, value: u64) {
        let place = MSRS.iter().zip(&mut self.msrs).find(|(own, _)| **own == number);
        match place {
            Some((_, known)) => *known = value,
            None => {
                assert!(number == Msr::TSC_AUX && self.rdtscp, "{number} is not the host's to keep");
                self.tsc_aux = value;
            }
        }
        self.is_changed = true;
        // SAFETY: the hypervisor uses none of these; a value that the processor refuses ends in the exception handler's
        // panic.
        unsafe { msr::write(number, value) };
    }

    /// What [`Self::read_vectors`] and [`Self::write_vectors`] exchange.
    pub(super) fn layout(&self) -> ExtendedLayout {
        if self.xsave_mask == 0 {
            ExtendedLayout { components: LEGACY_COMPONENTS, bytes: FIXED_BYTES }
        } else {
            ExtendedLayout { components: self.xsave_mask, bytes: self.xsave_bytes }
        }
    }

    /// Copies the vector state in this CPU's registers, where XCR0 is `xcr0`, into `area`.
    pub(super) fn read_vectors(&self, xcr0: u64, area: &mut [u8]) {
        self.capture_vectors(xcr0);
        if self.xsave_mask != 0 && xcr0 != self.xsave_mask {
            write_xcr0(xcr0);
        }
        self.area.copy_out(0, area);
        // FXSAVE writes no header; both components are there.
        if self.xsave_mask == 0
            && let Some(in_use) = area.get_mut(XSTATE_BV)
        {
            *in_use = 0b11;
        }
    }

    /// Puts `area`, which XRSTOR accepts, into this CPU's registers, where XCR0 is `xcr0`.
    pub(super) fn write_vectors(&mut self, xcr0: u64, area: &[u8]) {
        self.area.copy_in(0, area);
        self.xcr0 = xcr0;
        self.install_vectors(xcr0);
    }

    /// A vector register of the loaded guest, whose XCR0 is `xcr0`.
    pub(super) fn vector(&self, xcr0: u64, register: VectorRegister) -> VectorValue {
        self.capture_vectors(xcr0);
        if self.xsave_mask != 0 && xcr0 != self.xsave_mask {
            write_xcr0(xcr0);
        }
        let mut value = [0; 64];
        for part in self.vector_places.parts(register) {
            if let Some(bytes) = value.get_mut(part.bytes) {
                self.area.copy_out(part.at as u64, bytes);
            }
        }
        value
    }

    /// Sets a vector register of the loaded guest, whose XCR0 is `xcr0`.
    pub(super) fn set_vector(&mut self, xcr0: u64, register: VectorRegister, value: &VectorValue) {
        self.capture_vectors(xcr0);
        for part in self.vector_places.parts(register) {
            if let Some(bytes) = value.get(part.bytes) {
                self.area.copy_in(part.at as u64, bytes);
            }
        }
        if self.xsave_mask != 0 {
            // A component that was in its initial state is not in it any more.
            let mut in_use = [0; 8];
            self.area.copy_out(XSTATE_BV as u64, &mut in_use);
            let in_use = u64::from_le_bytes(in_use) | self.vector_places.components();
            self.area.copy_in(XSTATE_BV as u64, &in_use.to_le_bytes());
        }
        self.xcr0 = xcr0;
        // XCR0 has all components on since the state was captured.
        self.install_vectors(self.xsave_mask);
    }

    /// The registers of the loaded guest that nothing else shows.
    pub(super) fn live_registers(&self) -> LiveRegisters {
        LiveRegisters {
            star: msr::read(Msr::STAR),
            lstar: msr::read(Msr::LSTAR),
            cstar: msr::read(Msr::CSTAR),
            fmask: halves(msr::read(Msr::FMASK)).0,
            kernel_gs_base: msr::read(Msr::KERNEL_GS_BASE),
            tsc_aux: if self.rdtscp { halves(msr::read(Msr::TSC_AUX)).0 } else { 0 },
            breakpoints: read_dr(),
        }
    }

    /// Sets the registers that [`Self::live_registers`] shows. Addresses are canonical.
    pub(super) fn set_live_registers(&mut self, registers: &LiveRegisters) {
        for (number, value) in [
            (Msr::STAR, registers.star),
            (Msr::LSTAR, registers.lstar),
            (Msr::CSTAR, registers.cstar),
            (Msr::FMASK, u64::from(registers.fmask)),
        ] {
            self.write_msr(number, value);
        }
        // SAFETY: the hypervisor does not use it; a value that the processor refuses ends in the exception handler's
        // panic.
        unsafe { msr::write(Msr::KERNEL_GS_BASE, registers.kernel_gs_base) };
        if self.rdtscp {
            self.write_msr(Msr::TSC_AUX, u64::from(registers.tsc_aux));
        }
        write_dr(registers.breakpoints);
    }

    /// Writes the vector state in this CPU's registers, where XCR0 is `xcr0`, to the area, and leaves XCR0 with all
    /// components on.
    fn capture_vectors(&self, xcr0: u64) {
        let area = self.area.pointer();
        if self.xsave_mask == 0 {
            // SAFETY: the area is 4 KiB, aligned, and ours.
            unsafe { asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags)) };
            return;
        }
        if xcr0 != self.xsave_mask {
            write_xcr0(self.xsave_mask);
        }
        let (low, high) = halves(self.xsave_mask);
        // SAFETY: the area is 4 KiB, 64-byte aligned, ours, and large enough for the switched components.
        unsafe {
            asm!("xsave64 [{}]", in(reg) area, in("eax") low, in("edx") high, options(nostack, preserves_flags));
        }
    }

    /// Loads the vector state from the area into this CPU's registers, where XCR0 is `xcr0` and then the guest's.
    fn install_vectors(&self, xcr0: u64) {
        let area = self.area.pointer();
        if self.xsave_mask == 0 {
            // SAFETY: the area was written by FXSAVE, holds reset state, or was checked by the caller of `write_vectors`.
            unsafe { asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags)) };
            return;
        }
        if xcr0 != self.xsave_mask {
            write_xcr0(self.xsave_mask);
        }
        let (low, high) = halves(self.xsave_mask);
        // SAFETY: the area was written by XSAVE with the same mask, holds reset state, or was checked by the caller of
        // `write_vectors`; one that is not as it should be is a #GP, which ends in the exception handler's panic.
        unsafe {
            asm!("xrstor64 [{}]", in(reg) area, in("eax") low, in("edx") high, options(nostack, preserves_flags));
        }
        if self.xcr0 != self.xsave_mask {
            write_xcr0(self.xcr0);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are what is asked for")]
const fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

/// XSETBV of XCR0. `value` is a subset of the supported components that the caller has checked.
pub(super) fn write_xcr0(value: u64) {
    let (low, high) = halves(value);
    // SAFETY: the hypervisor uses no extended state; an impossible value would #GP into the exception handler.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") low, in("edx") high, options(nomem, nostack, preserves_flags));
    }
}

fn read_dr() -> [u64; 4] {
    let [mut a, mut b, mut c, mut d] = [0_u64; 4];
    // SAFETY: copies registers.
    unsafe {
        asm!(
            "mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3",
            out(reg) a, out(reg) b, out(reg) c, out(reg) d,
            options(nomem, nostack, preserves_flags),
        );
    }
    [a, b, c, d]
}

fn write_dr([a, b, c, d]: [u64; 4]) {
    // SAFETY: DR7 holds 0x400 in the hypervisor (every exit sets it), so no breakpoint is armed.
    unsafe {
        asm!(
            "mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
            in(reg) a, in(reg) b, in(reg) c, in(reg) d,
            options(nomem, nostack, preserves_flags),
        );
    }
}

pub(super) fn read_dr6() -> u64 {
    let value: u64;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, dr6", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

pub(super) fn write_dr6(value: u64) {
    // Bits 63:32 set would be #GP; reserved bits below are forced by the processor.
    let value = value & 0xffff_ffff;
    // SAFETY: DR6 is status only.
    unsafe { asm!("mov dr6, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

pub(super) fn write_cr2(value: u64) {
    // SAFETY: CR2 is status only.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// PKRU; 0 unless CR4.PKE is set for it to be read. The guest's CR4 is not loaded here, so the host's PKE is switched
/// on around the read.
pub(super) fn read_pkru() -> u32 {
    use x86_64::registers::control::{Cr4, Cr4Flags};
    let before = Cr4::read();
    // SAFETY: the hypervisor maps no user page, so protection keys change nothing for it.
    unsafe { Cr4::write(before | Cr4Flags::PROTECTION_KEY_USER) };
    let value: u32;
    // SAFETY: RDPKRU copies a register; ECX must be 0, EDX is cleared.
    unsafe {
        asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: back to what it was.
    unsafe { Cr4::write(before) };
    value
}
