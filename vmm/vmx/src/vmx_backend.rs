//! [`VcpuBackend`] on a VMCS.

use crate::event::{self, Combined};
use crate::field::{self, Field, FieldWidth, Guest};
use crate::{Controls, Secondary, decode};
use arch::{
    Cr0Flags, Cr4Flags, EferFlags, Exception, Gpr, Gprs, Msr, RFlags, Segment, SegmentRegister,
    TableRegister, Tsc,
};
use vmm::{CpuState, EntryFailure, Event, Interruptibility, VcpuBackend, VmExit};

/// A window that an entry can ask to exit at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Window {
    /// Interrupt window.
    Interrupt = 0,
    /// NMI window.
    Nmi = 1,
}

/// The hardware under [`VmxBackend`]: one VMCS and the guest state that no VMCS holds.
///
/// The VMCS is current on the calling core. What safe code may write through this trait cannot reach host state
/// or host memory.
pub trait VmcsAccess {
    /// Reads a field.
    fn read<K, W: FieldWidth>(&self, field: Field<K, W>) -> W;
    /// Writes a field that only changes the guest.
    fn write<W: FieldWidth>(&mut self, field: Field<Guest, W>, value: W);
    /// Sets or clears interrupt-window or NMI-window exiting. Cheap when nothing changes.
    fn set_window(&mut self, window: Window, wanted: bool);
    /// Sets or clears "IA-32e mode guest" in the entry controls.
    fn set_long_mode(&mut self, long: bool);
    /// Enters the guest and comes back at its exit.
    ///
    /// # Errors
    /// The VM-instruction error number when VMLAUNCH or VMRESUME failed.
    fn enter(&mut self) -> Result<(), u32>;
    /// The host's TSC.
    fn tsc(&self) -> Tsc;
    /// The saved general-purpose registers.
    fn gprs(&self) -> &Gprs;
    /// The saved general-purpose registers.
    fn gprs_mut(&mut self) -> &mut Gprs;
    /// The guest's CR2, which stays in the register.
    fn cr2(&self) -> u64;
    /// Sets the guest's CR2.
    fn set_cr2(&mut self, value: u64);
    /// The guest's DR6, which stays in the register.
    fn dr6(&self) -> u64;
    /// Sets the guest's DR6; reserved bits are forced.
    fn set_dr6(&mut self, value: u64);
    /// The guest's XCR0, which stays in the register.
    fn xcr0(&self) -> u64;
    /// Sets the guest's XCR0; the caller has checked it against what the processor supports.
    fn set_xcr0(&mut self, value: u64);
    /// The guest's PKRU, which stays in the register; asked for only while the guest's CR4.PKE is set.
    fn pkru(&self) -> u32;
    /// Reads a register that stays in the processor across exits (STAR and the like).
    fn read_msr(&self, msr: Msr) -> Option<u64>;
}

/// CR0 bits that the host owns: NE must be set under VMX; caching is the host's business.
const CR0_OWNED: Cr0Flags =
    Cr0Flags::NUMERIC_ERROR.union(Cr0Flags::CACHE_DISABLE).union(Cr0Flags::NOT_WRITE_THROUGH);
/// Exceptions that exit: #DB and #AC, which a guest can make the processor deliver for ever, and #MC, which is the
/// host's.
const INTERCEPTED: u32 = 1 << 1 | 1 << 17 | 1 << 18;
/// Pending debug exceptions: single step.
const PENDING_BS: u64 = 1 << 14;

/// A vCPU on VT-x.
#[derive(Debug)]
pub struct VmxBackend<V> {
    vmcs: V,
    timer_shift: u32,
    cr4_owned: Cr4Flags,
    /// CR0 and CR4 bits that must be 1 under VMX with an unrestricted guest.
    cr4_forced: Cr4Flags,
    event_pending: bool,
    controls: Controls,
}

impl<V: VmcsAccess> VmxBackend<V> {
    /// A backend on `vmcs`, whose sensitive fields the hardware layer has written from `controls`.
    /// `cr4_allowed` are the CR4 bits that a guest may set; `timer_shift` is
    /// `Capabilities::preemption_timer_shift`.
    pub fn new(mut vmcs: V, controls: Controls, cr4_allowed: Cr4Flags, timer_shift: u32) -> Self {
        vmcs.write(field::EXCEPTION_BITMAP, INTERCEPTED);
        vmcs.write(field::PAGE_FAULT_ERROR_CODE_MASK, 0);
        vmcs.write(field::PAGE_FAULT_ERROR_CODE_MATCH, 0);
        vmcs.write(field::CR3_TARGET_COUNT, 0);
        vmcs.write(field::GUEST_DEBUGCTL, 0);
        vmcs.write(field::GUEST_ACTIVITY, 0);
        vmcs.write(field::GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
        vmcs.write(field::GUEST_SYSENTER_CS, 0);
        vmcs.write(field::GUEST_SYSENTER_ESP, 0);
        vmcs.write(field::GUEST_SYSENTER_EIP, 0);
        vmcs.write(field::VM_ENTRY_INTERRUPTION_INFO, 0);
        vmcs.write(field::CR0_MASK, CR0_OWNED.bits());
        let cr4_owned = Cr4Flags::from_bits_retain(!cr4_allowed.bits() & u64::from(u32::MAX));
        vmcs.write(field::CR4_MASK, cr4_owned.bits());
        Self {
            vmcs,
            timer_shift,
            cr4_owned,
            cr4_forced: Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS,
            event_pending: false,
            controls,
        }
    }

    /// The hardware below.
    pub const fn vmcs(&self) -> &V {
        &self.vmcs
    }

    /// The hardware below.
    pub const fn vmcs_mut(&mut self) -> &mut V {
        &mut self.vmcs
    }

    /// The negotiated controls.
    pub const fn controls(&self) -> &Controls {
        &self.controls
    }

    /// Whether the guest may use RDTSCP.
    pub const fn has_rdtscp(&self) -> bool {
        self.controls.has_secondary(Secondary::RDTSCP)
    }

    /// Ends blocking by STI and MOV SS, and makes a single-step trap pending if RFLAGS.TF is set.
    #[inline]
    fn complete_instruction(&mut self) {
        let interruptibility = self.vmcs.read(field::GUEST_INTERRUPTIBILITY);
        if interruptibility & 3 != 0 {
            self.vmcs.write(field::GUEST_INTERRUPTIBILITY, interruptibility & !3);
        }
        if self.vmcs.read(field::GUEST_RFLAGS) & RFlags::TRAP_FLAG.bits() != 0 {
            self.vmcs.write(field::GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_BS);
        }
    }

    #[cold]
    fn redeliver(&mut self, info: u32) {
        self.vmcs.write(field::VM_ENTRY_INTERRUPTION_INFO, event::redeliver(info));
        if info & event::HAS_ERROR_CODE != 0 {
            let code = self.vmcs.read(field::IDT_VECTORING_ERROR_CODE);
            self.vmcs.write(field::VM_ENTRY_EXCEPTION_ERROR_CODE, code);
        }
        if event::needs_length(info) {
            let length = self.vmcs.read(field::EXIT_INSTRUCTION_LENGTH);
            self.vmcs.write(field::VM_ENTRY_INSTRUCTION_LENGTH, length);
        }
        if event::is_nmi(info) {
            // The NMI was not delivered: it must not block the next one.
            let interruptibility = self.vmcs.read(field::GUEST_INTERRUPTIBILITY);
            self.vmcs.write(field::GUEST_INTERRUPTIBILITY, interruptibility & !8);
        }
        self.event_pending = true;
    }

    /// Under STI or MOV SS blocking with RFLAGS.TF set, the single step must be pending, or the entry is refused
    /// (SDM Vol. 3C, "Checks on Guest Non-Register State").
    fn keep_step_pending(&mut self) {
        let blocked = self.vmcs.read(field::GUEST_INTERRUPTIBILITY) & 3 != 0;
        if blocked && self.vmcs.read(field::GUEST_RFLAGS) & RFlags::TRAP_FLAG.bits() != 0 {
            self.vmcs.write(field::GUEST_PENDING_DEBUG_EXCEPTIONS, PENDING_BS);
        }
    }

    fn segment_fields(register: SegmentRegister) -> &'static field::SegmentFields {
        &field::SEGMENTS[register as usize]
    }

    fn set_segment(&mut self, register: SegmentRegister, segment: &Segment) {
        let fields = Self::segment_fields(register);
        self.vmcs.write(fields.selector, segment.selector);
        self.vmcs.write(fields.base, segment.base);
        self.vmcs.write(fields.limit, segment.limit);
        self.vmcs.write(fields.access_rights, segment.access_rights);
    }
}

impl<V: VmcsAccess> VcpuBackend for VmxBackend<V> {
    #[inline]
    fn run(&mut self, now: Tsc, deadline: Tsc) -> VmExit {
        let ticks = deadline.since(now).0 >> self.timer_shift;
        self.vmcs.write(field::PREEMPTION_TIMER, low_half(ticks));
        self.event_pending = false;
        if let Err(error) = self.vmcs.enter() {
            return VmExit::EntryFailure(EntryFailure::Instruction(error));
        }
        decode(&self.vmcs)
    }

    /// SDM Vol. 3C, "Information for VM Exits That Occur During Event Delivery".
    fn recover_event(&mut self) {
        let info = self.vmcs.read(field::IDT_VECTORING_INFO);
        if info & event::VALID != 0 {
            self.redeliver(info);
        }
    }

    #[inline]
    fn tsc(&self) -> Tsc {
        self.vmcs.tsc()
    }

    #[inline]
    fn gprs(&self) -> &Gprs {
        self.vmcs.gprs()
    }

    #[inline]
    fn gprs_mut(&mut self) -> &mut Gprs {
        self.vmcs.gprs_mut()
    }

    #[inline]
    fn advance(&mut self) -> u64 {
        let rip = self.vmcs.read(field::GUEST_RIP);
        let length = self.vmcs.read(field::EXIT_INSTRUCTION_LENGTH);
        self.vmcs.write(field::GUEST_RIP, rip.wrapping_add(u64::from(length)));
        self.complete_instruction();
        rip
    }

    fn advance_to(&mut self, rip: u64) {
        self.vmcs.write(field::GUEST_RIP, rip);
        self.complete_instruction();
    }

    fn rip(&self) -> u64 {
        self.vmcs.read(field::GUEST_RIP)
    }

    fn rsp(&self) -> u64 {
        self.vmcs.read(field::GUEST_RSP)
    }

    fn set_rsp(&mut self, value: u64) {
        self.vmcs.write(field::GUEST_RSP, value);
    }

    fn rflags(&self) -> RFlags {
        RFlags::from_bits_retain(self.vmcs.read(field::GUEST_RFLAGS))
    }

    fn set_rflags(&mut self, value: RFlags) {
        self.vmcs.write(field::GUEST_RFLAGS, value.bits() | 2);
    }

    fn cr0(&self) -> Cr0Flags {
        let (real, shadow) = (self.vmcs.read(field::GUEST_CR0), self.vmcs.read(field::CR0_SHADOW));
        Cr0Flags::from_bits_truncate(real & !CR0_OWNED.bits() | shadow & CR0_OWNED.bits())
    }

    fn set_cr0(&mut self, value: Cr0Flags) {
        self.vmcs.write(field::CR0_SHADOW, value.bits());
        let real = (value - CR0_OWNED) | Cr0Flags::NUMERIC_ERROR | Cr0Flags::EXTENSION_TYPE;
        self.vmcs.write(field::GUEST_CR0, real.bits());
    }

    fn cr3(&self) -> u64 {
        self.vmcs.read(field::GUEST_CR3)
    }

    fn pdptes(&self) -> [u64; 4] {
        [
            self.vmcs.read(field::GUEST_PDPTE0),
            self.vmcs.read(field::GUEST_PDPTE1),
            self.vmcs.read(field::GUEST_PDPTE2),
            self.vmcs.read(field::GUEST_PDPTE3),
        ]
    }

    fn pkru(&self) -> u32 {
        self.vmcs.pkru()
    }

    fn set_pdptes(&mut self, entries: [u64; 4]) {
        self.vmcs.write(field::GUEST_PDPTE0, entries[0]);
        self.vmcs.write(field::GUEST_PDPTE1, entries[1]);
        self.vmcs.write(field::GUEST_PDPTE2, entries[2]);
        self.vmcs.write(field::GUEST_PDPTE3, entries[3]);
    }

    fn cr4(&self) -> Cr4Flags {
        let (real, shadow) = (self.vmcs.read(field::GUEST_CR4), self.vmcs.read(field::CR4_SHADOW));
        Cr4Flags::from_bits_truncate(real & !self.cr4_owned.bits() | shadow & self.cr4_owned.bits())
    }

    fn set_cr4(&mut self, value: Cr4Flags) {
        self.vmcs.write(field::CR4_SHADOW, value.bits());
        self.vmcs.write(field::GUEST_CR4, ((value - self.cr4_owned) | self.cr4_forced).bits());
    }

    fn set_cr2(&mut self, value: u64) {
        self.vmcs.set_cr2(value);
    }

    fn dr6(&self) -> u64 {
        self.vmcs.dr6()
    }

    fn set_dr6(&mut self, value: u64) {
        self.vmcs.set_dr6(value);
    }

    fn efer(&self) -> EferFlags {
        EferFlags::from_bits_truncate(self.vmcs.read(field::GUEST_EFER))
    }

    fn set_efer(&mut self, value: EferFlags) {
        self.vmcs.write(field::GUEST_EFER, value.bits());
        self.vmcs.set_long_mode(value.contains(EferFlags::LONG_MODE_ACTIVE));
    }

    fn access_rights(&self, register: SegmentRegister) -> u32 {
        self.vmcs.read(Self::segment_fields(register).access_rights)
    }

    fn segment(&self, register: SegmentRegister) -> Segment {
        let fields = Self::segment_fields(register);
        Segment {
            selector: self.vmcs.read(fields.selector),
            base: self.vmcs.read(fields.base),
            limit: self.vmcs.read(fields.limit),
            access_rights: self.vmcs.read(fields.access_rights),
        }
    }

    #[inline]
    fn xcr0(&self) -> u64 {
        self.vmcs.xcr0()
    }

    fn set_xcr0(&mut self, value: u64) {
        self.vmcs.set_xcr0(value);
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.vmcs.write(field::TSC_OFFSET, offset);
    }

    fn read_msr(&self, msr: Msr) -> Option<u64> {
        match msr {
            Msr::PAT => Some(self.vmcs.read(field::GUEST_PAT)),
            Msr::DEBUGCTL => Some(self.vmcs.read(field::GUEST_DEBUGCTL)),
            _ => self.vmcs.read_msr(msr),
        }
    }

    fn write_msr(&mut self, msr: Msr, value: u64) -> bool {
        match msr {
            // LBR and BTF are the only bits that a guest without performance monitoring may set; neither is
            // offered, and zero is what kernels write.
            Msr::DEBUGCTL => value == 0,
            _ => false,
        }
    }

    fn interruptibility(&self) -> Interruptibility {
        let raw = self.vmcs.read(field::GUEST_INTERRUPTIBILITY);
        Interruptibility::from_bits_truncate(u8::try_from(raw & 0xf).unwrap_or(0))
    }

    #[inline]
    fn has_pending_event(&self) -> bool {
        self.event_pending
    }

    fn inject(&mut self, event: Event) {
        let mut event = event;
        if self.event_pending
            && let Event::Exception(second) = event
        {
            match event::combine(self.vmcs.read(field::VM_ENTRY_INTERRUPTION_INFO), second) {
                Combined::Second => {}
                // A shutdown is what a double fault that cannot be delivered ends in.
                Combined::DoubleFault | Combined::Shutdown => {
                    event = Event::Exception(Exception::DoubleFault);
                }
            }
        }
        let (mut info, code) = event::encode(event);
        if let Some(code) = code {
            if self.cr0().contains(Cr0Flags::PROTECTED_MODE_ENABLE) {
                self.vmcs.write(field::VM_ENTRY_EXCEPTION_ERROR_CODE, code);
            } else {
                // Real mode pushes no error code, and the entry checks refuse one there.
                info &= !event::HAS_ERROR_CODE;
            }
        }
        self.vmcs.write(field::VM_ENTRY_INTERRUPTION_INFO, info);
        self.event_pending = true;
        if let Event::Exception(Exception::Debug { .. }) = event {
            self.keep_step_pending();
        }
    }

    fn set_interrupt_window(&mut self, wanted: bool) {
        self.vmcs.set_window(Window::Interrupt, wanted);
    }

    fn set_nmi_window(&mut self, wanted: bool) {
        self.vmcs.set_window(Window::Nmi, wanted);
    }

    fn save(&self) -> CpuState {
        let mut gprs = *self.vmcs.gprs();
        gprs.set(Gpr::Rsp, self.rsp());
        CpuState {
            gprs,
            rip: self.rip(),
            rflags: self.rflags(),
            cr0: self.cr0(),
            cr2: self.vmcs.cr2(),
            cr3: self.cr3(),
            cr4: self.cr4(),
            efer: self.efer(),
            segments: SegmentRegister::ALL.map(|register| self.segment(register)),
            gdtr: TableRegister {
                base: self.vmcs.read(field::GUEST_GDTR_BASE),
                limit: limit(self.vmcs.read(field::GUEST_GDTR_LIMIT)),
            },
            idtr: TableRegister {
                base: self.vmcs.read(field::GUEST_IDTR_BASE),
                limit: limit(self.vmcs.read(field::GUEST_IDTR_LIMIT)),
            },
            dr7: self.vmcs.read(field::GUEST_DR7),
            pat: self.vmcs.read(field::GUEST_PAT),
            interruptibility: self.interruptibility(),
        }
    }

    fn restore(&mut self, state: &CpuState) {
        *self.vmcs.gprs_mut() = state.gprs;
        self.vmcs.write(field::GUEST_RSP, state.gprs.get(Gpr::Rsp));
        self.vmcs.write(field::GUEST_RIP, state.rip);
        self.set_rflags(state.rflags);
        self.set_cr0(state.cr0);
        self.vmcs.set_cr2(state.cr2);
        self.vmcs.write(field::GUEST_CR3, state.cr3);
        self.set_cr4(state.cr4);
        self.set_efer(state.efer);
        for (register, segment) in SegmentRegister::ALL.iter().zip(&state.segments) {
            self.set_segment(*register, segment);
        }
        self.vmcs.write(field::GUEST_GDTR_BASE, state.gdtr.base);
        self.vmcs.write(field::GUEST_GDTR_LIMIT, u32::from(state.gdtr.limit));
        self.vmcs.write(field::GUEST_IDTR_BASE, state.idtr.base);
        self.vmcs.write(field::GUEST_IDTR_LIMIT, u32::from(state.idtr.limit));
        self.vmcs.write(field::GUEST_DR7, state.dr7);
        self.vmcs.write(field::GUEST_PAT, state.pat);
        self.vmcs.write(field::GUEST_INTERRUPTIBILITY, u32::from(state.interruptibility.bits()));
        self.vmcs.write(field::GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
        self.keep_step_pending();
        self.vmcs.write(field::VM_ENTRY_INTERRUPTION_INFO, 0);
        self.event_pending = false;
        self.set_interrupt_window(false);
        self.set_nmi_window(false);
    }
}

/// What fits the preemption timer. A deadline beyond its range makes the guest exit early, never late, and it is
/// then run again.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "an early exit is harmless")]
const fn low_half(ticks: u64) -> u32 {
    ticks as u32
}

/// Descriptor-table limits are 16 bits wide; a VMCS holds them in 32.
fn limit(raw: u32) -> u16 {
    u16::try_from(raw).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::tests::generous;
    use crate::fake_vmcs::FakeVmcs;
    use arch::Vector;

    fn backend() -> VmxBackend<FakeVmcs> {
        let controls = Controls::negotiate(&generous()).expect("all is allowed");
        let allowed = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION | Cr4Flags::PAGE_SIZE_EXTENSION;
        VmxBackend::new(FakeVmcs::default(), controls, allowed, 5)
    }

    #[test]
    fn the_guest_sees_its_own_cr0_and_the_processor_sees_ne() {
        let mut backend = backend();
        let wanted = Cr0Flags::PROTECTED_MODE_ENABLE | Cr0Flags::CACHE_DISABLE | Cr0Flags::EXTENSION_TYPE;
        backend.set_cr0(wanted);
        assert_eq!(backend.cr0(), wanted);
        let real = Cr0Flags::from_bits_truncate(backend.vmcs().read(field::GUEST_CR0));
        assert!(real.contains(Cr0Flags::NUMERIC_ERROR) && !real.contains(Cr0Flags::CACHE_DISABLE));
    }

    #[test]
    fn the_guest_does_not_see_vmxe() {
        let mut backend = backend();
        backend.set_cr4(Cr4Flags::PAGE_SIZE_EXTENSION);
        assert_eq!(backend.cr4(), Cr4Flags::PAGE_SIZE_EXTENSION);
        assert_ne!(backend.vmcs().read(field::GUEST_CR4) & Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS.bits(), 0);
    }

    #[test]
    fn long_mode_follows_efer_into_the_entry_controls() {
        let mut backend = backend();
        backend.set_efer(EferFlags::LONG_MODE_ENABLE | EferFlags::LONG_MODE_ACTIVE);
        assert_ne!(backend.vmcs().read(field::VM_ENTRY_CONTROLS) & 1 << 9, 0);
        backend.set_efer(EferFlags::empty());
        assert_eq!(backend.vmcs().read(field::VM_ENTRY_CONTROLS) & 1 << 9, 0);
    }

    #[test]
    fn the_deadline_becomes_a_bounded_timer_value() {
        let mut backend = backend();
        backend.run(Tsc(1000), Tsc(1000 + 64));
        assert_eq!(backend.vmcs().read(field::PREEMPTION_TIMER), 2);
        backend.run(Tsc(1000), Tsc(1));
        assert_eq!(backend.vmcs().read(field::PREEMPTION_TIMER), 0);
        backend.run(Tsc(1000), Tsc::NEVER);
        assert_ne!(backend.vmcs().read(field::PREEMPTION_TIMER), 0);
    }

    #[test]
    fn advancing_ends_the_shadow_of_sti_and_steps_under_tf() {
        let mut backend = backend();
        backend.vmcs.set(field::GUEST_RIP, 0x1000);
        backend.vmcs.set(field::EXIT_INSTRUCTION_LENGTH, 3);
        backend.vmcs.set(field::GUEST_INTERRUPTIBILITY, 1 | 8);
        backend.vmcs.set(field::GUEST_RFLAGS, 0x102);
        backend.advance();
        assert_eq!(backend.rip(), 0x1003);
        assert_eq!(backend.interruptibility(), Interruptibility::NMI);
        assert_eq!(backend.vmcs().read(field::GUEST_PENDING_DEBUG_EXCEPTIONS), PENDING_BS);
    }

    #[test]
    fn an_event_that_an_ept_violation_cut_off_is_delivered_again() {
        let mut backend = backend();
        backend.vmcs.set(field::EXIT_REASON, 48);
        backend.vmcs.set(field::IDT_VECTORING_INFO, 0x8000_0b0e);
        backend.vmcs.set(field::IDT_VECTORING_ERROR_CODE, 6);
        backend.run(Tsc(0), Tsc(1));
        backend.recover_event();
        assert!(backend.has_pending_event());
        assert_eq!(backend.vmcs().read(field::VM_ENTRY_INTERRUPTION_INFO), 0x8000_0b0e);
        assert_eq!(backend.vmcs().read(field::VM_ENTRY_EXCEPTION_ERROR_CODE), 6);
    }

    #[test]
    fn a_cut_off_nmi_does_not_block_itself() {
        let mut backend = backend();
        backend.vmcs.set(field::EXIT_REASON, 48);
        backend.vmcs.set(field::IDT_VECTORING_INFO, 0x8000_0202);
        backend.vmcs.set(field::GUEST_INTERRUPTIBILITY, 8);
        backend.run(Tsc(0), Tsc(1));
        backend.recover_event();
        assert_eq!(backend.interruptibility(), Interruptibility::empty());
    }

    #[test]
    fn a_fault_while_a_fault_is_delivered_becomes_a_double_fault() {
        let mut backend = backend();
        backend.inject(Event::Exception(Exception::GeneralProtection(0)));
        backend.inject(Event::Exception(Exception::SegmentNotPresent(8)));
        assert_eq!(backend.vmcs().read(field::VM_ENTRY_INTERRUPTION_INFO) & 0xff, 8);
    }

    #[test]
    fn real_mode_gets_no_error_code() {
        let mut backend = backend();
        backend.restore(&CpuState::reset());
        backend.inject(Event::Exception(Exception::GeneralProtection(0)));
        assert_eq!(backend.vmcs().read(field::VM_ENTRY_INTERRUPTION_INFO), 0x8000_030d);
    }

    #[test]
    fn a_debug_exception_in_the_shadow_of_mov_ss_keeps_the_step_pending() {
        let mut backend = backend();
        backend.vmcs.set(field::GUEST_RFLAGS, 0x102);
        backend.vmcs.set(field::GUEST_INTERRUPTIBILITY, 2);
        backend.inject(Event::Exception(Exception::Debug { dr6: 1 }));
        assert_eq!(backend.vmcs().read(field::GUEST_PENDING_DEBUG_EXCEPTIONS), PENDING_BS);
    }

    #[test]
    fn saved_state_restores_to_the_same_state() {
        let mut backend = backend();
        let mut state = CpuState::reset();
        state.gprs.set(Gpr::R9, 77);
        state.gprs.set(Gpr::Rsp, 0x7000);
        state.interruptibility = Interruptibility::STI;
        backend.restore(&state);
        let saved = backend.save();
        assert_eq!(saved, state);
        backend.inject(Event::Interrupt(Vector(9)));
        backend.restore(&saved);
        assert!(!backend.has_pending_event());
        assert_eq!(backend.save(), state);
    }
}
