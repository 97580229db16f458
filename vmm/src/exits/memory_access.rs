//! Accesses to device memory, and string port instructions: carried out by emulation.

use crate::exits::{io, msr};
use crate::lapic::{Effect, LocalApic};
use crate::{EptFault, Lending, MemoryAccess, Outcome, StopReason, Vcpu, VcpuBackend, Vm};
use arch::{
    Cr0Flags, Cr4Flags, EferFlags, Exception, Gpa, Gpr, Nanos, PAGE_SIZE, Port, RFlags, Segment,
    SegmentRegister, Tsc, VectorRegister, VectorValue, Width, XCr0Flags,
};
use bus::{Attention, Platform};
use emulate::{Access, Cpu, Emulated, KnownTranslation, Mmio, PagingFeatures, Ports};
use memory::GuestMemory;
use spin::MutexGuard;

/// Emulates the instruction whose access second-level translation refused.
pub(super) fn emulate<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    fault: EptFault,
    now: Tsc,
) -> Outcome {
    vcpu.stats.note_detail(fault.gpa.get());
    vcpu.backend.recover_event();
    let access = match fault.access {
        MemoryAccess::Fetch => return fetch(vcpu, vm, fault.gpa),
        MemoryAccess::Read => Access::Read,
        MemoryAccess::Write => Access::Write,
    };
    if vcpu.backend.has_pending_event() {
        // The delivery of an event touched device memory: a stack or a table is there. No instruction does this.
        return Outcome::Stop(StopReason::NotEmulated { bytes: [0; 15], length: 0 });
    }
    let known = fault.translated.then_some(KnownTranslation { gva: fault.gva, gpa: fault.gpa, access });
    step(vcpu, vm, known, now)
}

/// Emulates the instruction whose access to a lent local APIC's page the processor does not carry out.
// Apart from the hot ones.
#[cold]
pub(super) fn emulate_on_page<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    fault: EptFault,
    now: Tsc,
) -> Outcome {
    emulate(vcpu, vm, fault, now)
}

/// The processor may not fetch at `gpa`: there is a device, or memory was being switched there at that moment.
#[cold]
fn fetch<B: VcpuBackend, M: GuestMemory, P>(vcpu: &Vcpu<B>, vm: &Vm<M, P>, gpa: Gpa) -> Outcome {
    match vm.memory.read(gpa, &mut [0]) {
        Ok(()) => Outcome::Retry,
        Err(_) => refused_code(vcpu, StopReason::FetchOutsideRam(gpa)),
    }
}

/// Emulates INS or OUTS at RIP.
#[cold]
pub(super) fn string_io<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    now: Tsc,
) -> Outcome {
    step(vcpu, vm, None, now)
}

fn step<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    known: Option<KnownTranslation>,
    now: Tsc,
) -> Outcome {
    // The access may be one to the local APIC.
    vcpu.take_eoi(vm);
    let lapic_use = if vcpu.apic_lent == Some(Lending::Page) {
        vcpu.look_at_apic();
        LapicUse::MadeWhole
    } else {
        LapicUse::None
    };
    let guest_now = vcpu.guest_tsc(now);
    let time = vm.clock.nanos(now);
    let mut devices =
        Devices { lapic: &mut vcpu.lapic, vm, platform: None, guest_now, time, effect: None, lapic_use };
    let features = vcpu.cpuid.paging_features();
    let mut registers = Registers { backend: &mut vcpu.backend, features };
    let result = vcpu.emulator.step(&mut registers, &vm.memory, &mut devices, known);
    let (effect, lapic_use, platform) = (devices.effect, devices.lapic_use, devices.platform);
    let attention = platform.map_or(Attention::empty(), |mut platform| platform.take_attention());
    if let Emulated::Done { next_rip } = result
        && attention.is_empty()
        && lapic_use == LapicUse::None
    {
        vcpu.backend.advance_to(next_rip);
        return Outcome::Retry;
    }
    let written = end_use(vcpu, lapic_use).then(|| effect.unwrap_or(Effect::None));
    finish(vcpu, vm, result, attention, written, now)
}

/// Acts on the `lapic_use` of an instruction. Returns whether registers were written.
fn end_use<B: VcpuBackend>(vcpu: &mut Vcpu<B>, lapic_use: LapicUse) -> bool {
    let written = lapic_use == LapicUse::Written;
    if vcpu.apic_lent == Some(Lending::Page) {
        if written {
            vcpu.keep_apic();
        } else {
            vcpu.part_from_apic();
        }
    }
    // A register that does not exist, or a count that has run out, raises an interrupt when it is read.
    vcpu.events_changed |= vcpu.lapic.pending_vector().is_some();
    written
}

/// What an instruction did to the local APIC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum LapicUse {
    /// Nothing.
    None,
    /// Nothing, but its page is lent, and it was made whole for the case.
    MadeWhole,
    /// Registers were read.
    Read,
    /// Registers were written.
    Written,
}

/// Acts on what became of an instruction, and on what its accesses set off: `attention` at the devices, `written` at the
/// local APIC if that was written.
#[inline(never)]
fn finish<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    result: Emulated,
    attention: Attention,
    written: Option<Effect>,
    now: Tsc,
) -> Outcome {
    let outcome = match result {
        Emulated::Done { .. } | Emulated::Again => Outcome::Retry,
        Emulated::Fault(exception) => Outcome::Fault(exception),
        Emulated::Unsupported { bytes, length } => {
            refused_code(vcpu, StopReason::NotEmulated { bytes, length })
        }
        Emulated::FetchOutsideRam(gpa) => refused_code(vcpu, StopReason::FetchOutsideRam(gpa)),
    };
    let outcome = if attention.is_empty() { outcome } else { io::settle(vcpu, vm, attention, outcome) };
    if let Some(effect) = written {
        // Behind the access to the devices, which an EOI takes to itself.
        vcpu.publish_addressing();
        msr::apply(vcpu, vm, effect, now);
        vcpu.update_timer(vm);
    }
    // A machine that ends here ends at the instruction.
    match (result, outcome) {
        (Emulated::Done { next_rip }, Outcome::Retry) => vcpu.backend.advance_to(next_rip),
        (Emulated::Again, Outcome::Retry) => end_iterations(vcpu),
        (
            Emulated::Done { .. }
            | Emulated::Again
            | Emulated::Fault(_)
            | Emulated::Unsupported { .. }
            | Emulated::FetchOutsideRam(_),
            _,
        ) => {}
    }
    outcome
}

/// Code that cannot be carried out ends the machine for `reason`. A user process must not be able to do that: it gets what
/// the ones of an open bus are on a PC, which is no instruction.
#[cold]
fn refused_code<B: VcpuBackend>(vcpu: &Vcpu<B>, reason: StopReason) -> Outcome {
    if vcpu.backend.segment(SegmentRegister::Ss).dpl() == 3 {
        Outcome::Fault(Exception::InvalidOpcode)
    } else {
        Outcome::Stop(reason)
    }
}

/// Ends some iterations of a repeated instruction, which goes on where it is. Under single-stepping that was one, and it
/// ends in a trap, as one does that met a breakpoint; the handler comes back with RF set, so that a breakpoint on the
/// instruction itself is not met again (SDM Vol. 3B, "Instruction-Breakpoint Exception Condition").
fn end_iterations<B: VcpuBackend>(vcpu: &mut Vcpu<B>) {
    let rip = vcpu.backend.rip();
    vcpu.backend.advance_to(rip);
    let flags = vcpu.backend.rflags();
    vcpu.backend.set_rflags(flags | RFlags::RESUME_FLAG);
}

/// The device side of an emulated instruction: the local APIC's page, then the platform.
struct Devices<'l, 'v, M, P> {
    lapic: &'l mut LocalApic,
    vm: &'v Vm<M, P>,
    /// Locked with the first access, until the instruction is done.
    platform: Option<MutexGuard<'v, P>>,
    guest_now: Tsc,
    time: Nanos,
    /// What the write to the local APIC asks for. One instruction writes one register; of a repeated one, the
    /// last effect counts, as the interrupt command register is busy for the others.
    effect: Option<Effect>,
    lapic_use: LapicUse,
}

impl<M, P: Platform> Devices<'_, '_, M, P> {
    fn platform(&mut self) -> &mut P {
        self.platform.get_or_insert_with(|| self.vm.platform())
    }

    #[expect(clippy::cast_possible_truncation, reason = "an offset in a page")]
    fn lapic_offset(&self, gpa: Gpa) -> Option<u16> {
        let page = self.lapic.mmio_page()?;
        (gpa.align_down(PAGE_SIZE) == page).then(|| (gpa - page) as u16)
    }
}

impl<M, P: Platform> Mmio for Devices<'_, '_, M, P> {
    fn mmio_read(&mut self, gpa: Gpa, width: Width) -> u64 {
        match self.lapic_offset(gpa) {
            Some(offset) => {
                self.lapic_use = self.lapic_use.max(LapicUse::Read);
                self.lapic.read_mmio(offset, width, self.guest_now)
            }
            None => {
                let time = self.time;
                self.platform().mmio_read(gpa, width, time)
            }
        }
    }

    fn mmio_write(&mut self, gpa: Gpa, width: Width, value: u64) {
        match self.lapic_offset(gpa) {
            Some(offset) => {
                self.lapic_use = LapicUse::Written;
                let effect = self.lapic.write_mmio(offset, width, value, self.guest_now);
                if effect != Effect::None {
                    self.effect = Some(effect);
                }
            }
            None => {
                let time = self.time;
                self.platform().mmio_write(gpa, width, value, time);
            }
        }
    }
}

impl<M, P: Platform> Ports for Devices<'_, '_, M, P> {
    fn port_read(&mut self, port: Port, width: Width) -> u32 {
        let time = self.time;
        self.platform().port_read(port, width, time)
    }

    fn port_write(&mut self, port: Port, width: Width, value: u32) {
        let time = self.time;
        self.platform().port_write(port, width, value, time);
    }
}

/// The processor side of an emulated instruction.
struct Registers<'a, B> {
    backend: &'a mut B,
    features: PagingFeatures,
}

impl<B: VcpuBackend> Cpu for Registers<'_, B> {
    #[inline]
    fn gpr(&self, register: Gpr) -> u64 {
        if register == Gpr::Rsp { self.backend.rsp() } else { self.backend.gprs().get(register) }
    }

    #[inline]
    fn set_gpr(&mut self, register: Gpr, value: u64) {
        if register == Gpr::Rsp {
            self.backend.set_rsp(value);
        } else {
            self.backend.gprs_mut().set(register, value);
        }
    }

    fn rip(&self) -> u64 {
        self.backend.rip()
    }

    fn rflags(&self) -> RFlags {
        self.backend.rflags()
    }

    fn set_rflags(&mut self, flags: RFlags) {
        self.backend.set_rflags(flags);
    }

    fn segment(&self, register: SegmentRegister) -> Segment {
        self.backend.segment(register)
    }

    fn access_rights(&self, register: SegmentRegister) -> u32 {
        self.backend.access_rights(register)
    }

    fn cr0(&self) -> Cr0Flags {
        self.backend.cr0()
    }

    fn cr3(&self) -> u64 {
        self.backend.cr3()
    }

    fn cr4(&self) -> Cr4Flags {
        self.backend.cr4()
    }

    fn efer(&self) -> EferFlags {
        self.backend.efer()
    }

    fn paging_registers(&self) -> [u64; 3] {
        self.backend.paging_registers()
    }

    fn paging_features(&self) -> PagingFeatures {
        self.features
    }

    fn pdptes(&self) -> Option<[u64; 4]> {
        Some(self.backend.pdptes())
    }

    fn xcr0(&self) -> XCr0Flags {
        XCr0Flags::from_bits_retain(self.backend.xcr0())
    }

    fn vector(&self, register: VectorRegister) -> VectorValue {
        self.backend.vector(register)
    }

    fn set_vector(&mut self, register: VectorRegister, value: &VectorValue) {
        self.backend.set_vector(register, value);
    }

    fn pkru(&self) -> u32 {
        self.backend.pkru()
    }

    fn dr7(&self) -> u64 {
        self.backend.dr7()
    }

    fn breakpoints(&self) -> [u64; 4] {
        self.backend.breakpoints()
    }

    fn meet_breakpoints(&mut self, met: u64) {
        self.backend.meet_breakpoints(met);
    }
}
