//! [`VcpuBackend`] on a VMCS.

mod completion;
mod state;
#[cfg(test)]
mod tests;
mod virtual_apic;

use self::completion::{PENDING_BREAKPOINT, PENDING_BS};
use crate::event::{self, Combined};
use crate::field;
use crate::vmcs_access::{VmcsAccess, Window};
use crate::{ApicMode, Controls, Secondary, decode};
use arch::{
    Cr0Flags, Cr4Flags, EferFlags, Exception, Gprs, Msr, RFlags, Segment, SegmentRegister, Tsc, Vector,
    VectorRegister, VectorValue,
};
use vmm::lapic::VectorSet;
use vmm::{
    ApicRegisters, CpuState, EntryFailure, Event, ExtendedLayout, ExtendedState, InterruptSupport,
    Interruptibility, Lending, PendingEvent, VcpuBackend, VmExit,
};

/// CR0 bits that the host owns: NE must be set under VMX; caching is the host's business.
const CR0_OWNED: Cr0Flags =
    Cr0Flags::NUMERIC_ERROR.union(Cr0Flags::CACHE_DISABLE).union(Cr0Flags::NOT_WRITE_THROUGH);
/// Exceptions that exit: #DB and #AC, which a guest can make the processor deliver for ever, and #MC, which is the
/// host's.
const INTERCEPTED: u32 = 1 << 1 | 1 << 17 | 1 << 18;

/// A vCPU on VT-x.
#[derive(Debug)]
pub struct VmxBackend<V> {
    vmcs: V,
    timer_shift: u32,
    cr4_owned: Cr4Flags,
    /// CR4 bits that are 1 whatever the guest says.
    cr4_forced: Cr4Flags,
    event_pending: bool,
    controls: Controls,
    /// The vectors whose bits in TMR and in the EOI-exit bitmap are set.
    level_triggered: VectorSet,
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
        // A machine check is the host's, whether the guest wants to hear of its own or not: without CR4.MCE it would
        // shut the processor down.
        let machine_check = cr4_allowed & Cr4Flags::MACHINE_CHECK_EXCEPTION;
        let not_allowed = Cr4Flags::from_bits_retain(!cr4_allowed.bits() & u64::from(u32::MAX));
        let cr4_owned = not_allowed | machine_check;
        vmcs.write(field::CR4_MASK, cr4_owned.bits());
        Self {
            vmcs,
            timer_shift,
            cr4_owned,
            cr4_forced: Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS | machine_check,
            event_pending: false,
            controls,
            level_triggered: VectorSet::EMPTY,
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

    /// Writes a register that stays in the processor, if the value is one that it takes. Returns whether it is.
    fn write_live(&mut self, msr: Msr, value: u64, is_valid: bool) -> bool {
        if is_valid {
            self.vmcs.write_msr(msr, value);
        }
        is_valid
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

    /// SDM Vol. 3C, "Information for VM Exits Due to Vectored Events".
    fn deliver_int1(&mut self) -> bool {
        let info = self.vmcs.read(field::EXIT_INTERRUPTION_INFO);
        let raised = event::is_int1(info);
        if raised {
            self.redeliver(info);
            self.keep_step_pending();
        }
        raised
    }

    fn breakpoints(&self) -> [u64; 4] {
        self.vmcs.live_registers().breakpoints
    }

    fn meet_breakpoints(&mut self, met: u64) {
        let others = self.vmcs.read(field::GUEST_PENDING_DEBUG_EXCEPTIONS);
        self.vmcs.write(field::GUEST_PENDING_DEBUG_EXCEPTIONS, others | PENDING_BREAKPOINT | met & 0xf);
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

    fn vector(&self, register: VectorRegister) -> VectorValue {
        self.vmcs.vector(register)
    }

    fn set_vector(&mut self, register: VectorRegister, value: &VectorValue) {
        self.vmcs.set_vector(register, value);
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

    fn dr7(&self) -> u64 {
        self.vmcs.read(field::GUEST_DR7)
    }

    fn set_dr7(&mut self, value: u64) {
        self.vmcs.write(field::GUEST_DR7, value);
    }

    fn efer(&self) -> EferFlags {
        EferFlags::from_bits_truncate(self.vmcs.read(field::GUEST_EFER))
    }

    fn set_efer(&mut self, value: EferFlags) {
        self.vmcs.write(field::GUEST_EFER, value.bits());
        self.vmcs.set_long_mode(value.contains(EferFlags::LONG_MODE_ACTIVE));
    }

    /// The real registers: what the guest sees instead in the bits that the host owns has no say in this, as guests do
    /// not have those that would.
    fn paging_registers(&self) -> [u64; 3] {
        [field::GUEST_CR0, field::GUEST_CR4, field::GUEST_EFER].map(|field| self.vmcs.read(field))
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
            // SDM Vol. 2D, "WRMSR": addresses must be canonical, reserved halves zero.
            Msr::STAR => self.write_live(msr, value, true),
            Msr::LSTAR | Msr::CSTAR => self.write_live(msr, value, is_canonical(value)),
            Msr::FMASK => self.write_live(msr, value, u32::try_from(value).is_ok()),
            Msr::TSC_AUX if self.has_rdtscp() => self.write_live(msr, value, u32::try_from(value).is_ok()),
            _ => false,
        }
    }

    fn flush_translations(&mut self) {
        self.vmcs.flush_translations();
    }

    fn interruptibility(&self) -> Interruptibility {
        let raw = self.vmcs.read(field::GUEST_INTERRUPTIBILITY);
        Interruptibility::from_bits_truncate(u8::try_from(raw & 0xf).unwrap_or(0))
    }

    #[inline]
    fn has_pending_event(&self) -> bool {
        self.event_pending
    }

    fn has_pending_trap(&self) -> bool {
        self.vmcs.read(field::GUEST_PENDING_DEBUG_EXCEPTIONS) & (PENDING_BREAKPOINT | PENDING_BS) != 0
    }

    fn displace_event(&mut self) -> Option<Event> {
        if !self.event_pending {
            return None;
        }
        let event = event::not_raised_again(self.vmcs.read(field::VM_ENTRY_INTERRUPTION_INFO))?;
        self.clear_event();
        Some(event)
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
        self.save_registers()
    }

    fn restore(&mut self, state: &CpuState) {
        self.restore_registers(state);
    }

    fn pending_event(&self) -> Option<PendingEvent> {
        self.save_event()
    }

    fn set_pending_event(&mut self, event: Option<PendingEvent>) {
        match event {
            Some(event) => self.restore_event(event),
            None => self.clear_event(),
        }
    }

    fn extended_layout(&self) -> ExtendedLayout {
        self.vmcs.extended_layout()
    }

    fn save_extended(&self) -> ExtendedState {
        let mut state = ExtendedState::reset(self.vmcs.extended_layout());
        self.vmcs.read_extended(&mut state.area);
        state
    }

    fn restore_extended(&mut self, state: &ExtendedState) {
        self.vmcs.write_extended(&state.area);
    }

    fn interrupt_support(&self) -> InterruptSupport {
        self.vmcs.interrupt_support()
    }

    fn lends_page(&self) -> bool {
        self.vmcs.has_apic_page()
    }

    fn lend_apic(&mut self, lending: Lending, registers: &ApicRegisters, level_triggered: VectorSet) {
        self.fill_page(registers, level_triggered);
        self.vmcs.set_apic_mode(match lending {
            Lending::Msrs => ApicMode::Virtual,
            Lending::Page => ApicMode::Page,
        });
    }

    fn take_back_apic(&mut self) -> ApicRegisters {
        self.vmcs.set_apic_mode(ApicMode::Software);
        self.page_registers()
    }

    fn lent_apic(&self) -> ApicRegisters {
        self.page_registers()
    }

    fn lent_register(&self, offset: u16) -> u32 {
        self.vmcs.read_apic(offset)
    }

    #[inline]
    fn set_lent_register(&mut self, offset: u16, value: u32) {
        self.vmcs.write_apic(offset, value);
    }

    fn request(&mut self, vectors: VectorSet) {
        self.request_in_page(vectors);
    }

    #[inline]
    fn request_one(&mut self, vector: Vector) {
        self.request_one_in_page(vector);
    }

    fn set_level_triggered(&mut self, vectors: VectorSet) {
        if vectors != self.level_triggered {
            self.write_level_triggered(vectors);
        }
    }

    fn interrupt_waits(&self, further: VectorSet) -> bool {
        self.waits_in_page(further)
    }
}

/// Whether `address` is canonical with 48 bits, which is what guests have.
const fn is_canonical(address: u64) -> bool {
    let upper = address >> 47;
    upper == 0 || upper == u64::MAX >> 47
}

/// What fits the preemption timer. A deadline beyond its range makes the guest exit early, never late, and it is
/// then run again.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "an early exit is harmless")]
const fn low_half(ticks: u64) -> u32 {
    ticks as u32
}
