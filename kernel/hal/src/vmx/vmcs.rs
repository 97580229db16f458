//! One vCPU's VMCS with all that hangs on it.

use super::bitmaps::Bitmaps;
use super::entry::{enter_guest, guest_exit};
use super::guest_space::GuestSpace;
use super::instructions;
use super::operation::{VmxCpu, VmxError, new_region};
use super::switched_state::{self, SwitchedState};
use super::virtual_apic::VirtualApic;
use super::vpid::Vpid;
use crate::memory::FrameBlock;
use crate::{cpu, interrupts, msr, percpu};
use alloc::sync::Arc;
use arch::{Gprs, Hpa, Msr, Tsc, Vector, VectorRegister, VectorValue};
use vmx::field::{self, Field, FieldWidth, Guest, Sensitive};
use vmx::{
    ApicMode, Controls, Entry, ExtendedLayout, Inbox, InterruptSupport, LiveRegisters, ProcessorBased,
    Secondary, VmcsAccess, Window,
};
use x86_64::registers::control::{Cr0, Cr4};

/// Where a VMCS is. SDM Vol. 3C, "Overview" of virtual-machine control structures: launch state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Activity {
    /// On no core, launch state clear: it can be loaded on any.
    Away,
    /// Current, launch state clear.
    Clear,
    /// Current, launch state launched.
    Launched,
}

/// A VMCS region and what the processor does not keep in it.
///
/// Safe code can write fields that only change what the guest sees. Host state, controls and physical addresses
/// are written here alone.
#[derive(Debug)]
pub struct Vmcs {
    region: FrameBlock,
    bitmaps: &'static Bitmaps,
    /// Where the processor can deliver interrupts.
    virtual_apic: Option<VirtualApic>,
    controls: Controls,
    vpid: Option<Vpid>,
    space: Arc<GuestSpace>,
    state: SwitchedState,
    gprs: Gprs,
    processor_controls: u32,
    entry_controls: u32,
    activity: Activity,
    xcr0: u64,
    has_xsave: bool,
    /// The number of the CPU whose host state is in the VMCS, [`NO_CORE`] before the first.
    core: u32,
}

/// No CPU has this number.
const NO_CORE: u32 = u32::MAX;

impl Vmcs {
    /// A VMCS for a guest in `space`, loaded on this CPU, with host state, controls and addresses written. The guest has not
    /// the instructions that the controls `hidden` are for, as far as [`Controls::without`] can take them.
    ///
    /// # Errors
    /// [`VmxError`] when frames or identifiers run out.
    ///
    /// # Panics
    /// If another VMCS is loaded on `cpu`.
    pub fn new(cpu: &mut VmxCpu, space: Arc<GuestSpace>, hidden: Secondary) -> Result<Self, VmxError> {
        let controls = cpu.controls().without(hidden);
        let rdtscp = controls.has_secondary(Secondary::RDTSCP);
        let vpid = if controls.has_secondary(Secondary::VPID) {
            Some(Vpid::take().ok_or(VmxError::OutOfVpids)?)
        } else {
            None
        };
        let mut vmcs = Self {
            region: new_region(cpu.capabilities())?,
            bitmaps: Bitmaps::shared(rdtscp)?,
            virtual_apic: if controls.has_apicv() { Some(VirtualApic::new()?) } else { None },
            controls,
            vpid,
            space,
            state: SwitchedState::new(cpu, rdtscp)?,
            gprs: Gprs::default(),
            processor_controls: controls.processor,
            entry_controls: controls.entry,
            activity: Activity::Away,
            xcr0: 1,
            has_xsave: cpu.xsave_mask() != 0,
            core: NO_CORE,
        };
        // SAFETY: in VMX root operation (`cpu` proves it); the region is fresh.
        unsafe { instructions::vmclear(vmcs.region.hpa()) }.map_err(|_| VmxError::VmxonFailed)?;
        vmcs.load(cpu);
        vmcs.write_controls(&controls);
        vmcs.write_host_state();
        Ok(vmcs)
    }

    /// Makes this the CPU's current VMCS and puts the guest's register state in place. The CPU may be another one than
    /// last time.
    ///
    /// # Panics
    /// If it is loaded, or another one is loaded on `cpu`: its guest's registers would be lost.
    #[inline(always)]
    pub fn load(&mut self, cpu: &mut VmxCpu) {
        assert!(cpu.current == 0, "the VMCS at {:#x} is still loaded", cpu.current);
        assert!(self.activity == Activity::Away, "a VMCS is loaded once");
        // SAFETY: in VMX root operation; the region has the right revision and is on no CPU.
        let result = unsafe { instructions::vmptrld(self.region.hpa()) };
        result.expect("an owned VMCS region can be loaded");
        cpu.current = self.region.hpa().get();
        self.activity = Activity::Clear;
        if self.core != cpu.index {
            self.move_to(cpu);
        }
        self.state.install(&mut cpu.left);
        self.xcr0 = self.state.xcr0;
    }

    /// Takes the guest's register state and the VMCS off the CPU: it can then be loaded on any.
    ///
    /// # Panics
    /// If it is not loaded on `cpu`.
    #[inline(always)]
    pub fn unload(&mut self, cpu: &mut VmxCpu) {
        assert!(
            self.is_loaded() && cpu.current == self.region.hpa().get(),
            "only a loaded VMCS can be unloaded"
        );
        self.state.xcr0 = self.xcr0;
        self.state.capture(&mut cpu.left);
        // SAFETY: in VMX root operation; the region is active on this CPU.
        let result = unsafe { instructions::vmclear(self.region.hpa()) };
        result.expect("a loaded VMCS can be cleared");
        cpu.current = 0;
        self.activity = Activity::Away;
    }

    /// Makes the loaded VMCS fit for `cpu`, after it was on another one, or on none.
    #[cold]
    fn move_to(&mut self, cpu: &VmxCpu) {
        // What this CPU cached for the guest when it ran here before, the guest may have invalidated since, elsewhere.
        if let Some(vpid) = self.vpid.as_ref().map(Vpid::number)
            && self.core != NO_CORE
        {
            // SAFETY: in VMX root operation, with this CPU's capabilities; identifiers are never 0.
            unsafe { cpu.invalidations.vpid(vpid) };
        }
        self.core = cpu.index;
        self.write_core_state();
        if let Some(virtual_apic) = &self.virtual_apic {
            virtual_apic.moved();
        }
    }

    /// Lets the processor take what others post into `inbox`, if it can. The VMCS must be loaded.
    pub fn attach(&mut self, inbox: Arc<Inbox>) {
        assert!(self.is_loaded(), "the fields of a loaded VMCS can be written");
        if let Some(virtual_apic) = &mut self.virtual_apic
            && self.controls.has_posted()
        {
            let descriptor = virtual_apic.attach(inbox);
            virtual_apic.moved();
            self.write_sensitive(field::POSTED_INTERRUPT_DESCRIPTOR, descriptor.get());
            self.write_sensitive(field::POSTED_INTERRUPT_VECTOR, u16::from(interrupts::NOTIFY));
        }
    }

    /// The first entry since the VMCS was loaded.
    #[inline(always)]
    fn enter_first(&mut self) -> Result<(), u32> {
        assert!(self.is_loaded(), "a guest is entered on a loaded VMCS");
        // SAFETY: as in `enter`.
        let failed = unsafe { enter_guest(&raw mut self.gprs, 0) };
        if failed != 0 {
            return Err(self.read(field::VM_INSTRUCTION_ERROR));
        }
        self.activity = Activity::Launched;
        Ok(())
    }

    fn is_loaded(&self) -> bool {
        !matches!(self.activity, Activity::Away)
    }

    fn write_sensitive<W: FieldWidth>(&mut self, field: Field<Sensitive, W>, value: W) {
        assert!(percpu::current().index == self.core, "a VMCS is used on the CPU that it is loaded on");
        // SAFETY: in VMX root operation, as a `VmxCpu` was needed to load `self`, here; the callers in this file write
        // values of their own making.
        unsafe { instructions::vmwrite(field.encoding(), value.to_raw()) };
    }

    fn write_controls(&mut self, controls: &Controls) {
        self.write_sensitive(field::PIN_BASED_CONTROLS, controls.pin);
        self.write_sensitive(field::PROCESSOR_BASED_CONTROLS, controls.processor);
        self.write_sensitive(field::SECONDARY_CONTROLS, controls.secondary);
        self.write_sensitive(field::VM_EXIT_CONTROLS, controls.exit);
        self.write_sensitive(field::VM_ENTRY_CONTROLS, controls.entry);
        self.write_sensitive(field::VM_EXIT_MSR_STORE_COUNT, 0);
        self.write_sensitive(field::VM_EXIT_MSR_LOAD_COUNT, 0);
        self.write_sensitive(field::VM_ENTRY_MSR_LOAD_COUNT, 0);
        self.write_sensitive(field::VMCS_LINK_POINTER, u64::MAX);
        let io_bitmaps = self.bitmaps.ports().get();
        self.write_sensitive(field::MSR_BITMAP, self.bitmaps.msrs(ApicMode::Software).get());
        self.write_sensitive(field::IO_BITMAP_A, io_bitmaps);
        self.write_sensitive(field::IO_BITMAP_B, io_bitmaps + arch::PAGE_SIZE);
        if controls.has_secondary(Secondary::XSAVES) {
            // IA32_XSS is zero, so that none exits.
            self.write(field::XSS_EXITING_BITMAP, u64::MAX);
        }
        if let Some(page) = self.virtual_apic.as_ref().map(VirtualApic::page) {
            self.write_sensitive(field::VIRTUAL_APIC_ADDRESS, page.get());
        }
        // Both are new to all CPUs: tables and identifiers are reused only behind a flush everywhere.
        self.write_sensitive(field::EPT_POINTER, self.space.eptp(ApicMode::Software));
        if let Some(page) = self.apic_access_page() {
            self.write_sensitive(field::APIC_ACCESS_ADDRESS, page.get());
        }
        if let Some(vpid) = self.vpid.as_ref().map(Vpid::number) {
            self.write_sensitive(field::VPID, vpid);
        }
    }

    /// Where the APIC-access page is, if the processor can use it.
    fn apic_access_page(&self) -> Option<Hpa> {
        if self.controls.apic_page { self.space.apic_access_page() } else { None }
    }

    /// The host state that is the same on all CPUs.
    fn write_host_state(&mut self) {
        let segments = percpu::current().host_segments();
        self.write_sensitive(field::HOST_CR3, cpu::cr3().get());
        self.write_sensitive(field::HOST_CS_SELECTOR, segments.cs);
        self.write_sensitive(field::HOST_SS_SELECTOR, segments.ss);
        self.write_sensitive(field::HOST_DS_SELECTOR, 0);
        self.write_sensitive(field::HOST_ES_SELECTOR, 0);
        self.write_sensitive(field::HOST_FS_SELECTOR, 0);
        self.write_sensitive(field::HOST_GS_SELECTOR, 0);
        self.write_sensitive(field::HOST_TR_SELECTOR, segments.tr);
        self.write_sensitive(field::HOST_IDTR_BASE, segments.idtr_base);
        self.write_sensitive(field::HOST_FS_BASE, 0);
        self.write_sensitive(field::HOST_SYSENTER_CS, 0);
        self.write_sensitive(field::HOST_SYSENTER_ESP, 0);
        self.write_sensitive(field::HOST_SYSENTER_EIP, 0);
        self.write_sensitive(field::HOST_PAT, msr::read(Msr::PAT));
        self.write_sensitive(field::HOST_EFER, msr::read(Msr::EFER));
        let exit: unsafe extern "C" fn() = guest_exit;
        self.write_sensitive(field::HOST_RIP, exit as usize as u64);
    }

    /// The host state that each CPU has of its own.
    fn write_core_state(&mut self) {
        let segments = percpu::current().host_segments();
        self.write_sensitive(field::HOST_CR0, Cr0::read_raw());
        self.write_sensitive(field::HOST_CR4, Cr4::read_raw());
        self.write_sensitive(field::HOST_TR_BASE, segments.tr_base);
        self.write_sensitive(field::HOST_GDTR_BASE, segments.gdtr_base);
        self.write_sensitive(field::HOST_GS_BASE, segments.gs_base);
    }
}

// A vCPU goes from one CPU to another as a value. What `self` holds is memory and numbers; which VMCS is current is the
// CPU's state, and every VMX instruction here works on that: `load` and `unload` check that it is this one, and a VMCS
// that is not loaded is in no CPU's cache. Should a loaded one be used on another CPU, reads and writes of the guest's
// fields, and entries, concern whatever guest that CPU has loaded, or fail; `write_sensitive` refuses.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Vmcs>();
};

impl Drop for Vmcs {
    fn drop(&mut self) {
        // Its region must be in no CPU's cache, and its guest's registers in no CPU's.
        assert!(!self.is_loaded(), "a VMCS is unloaded before it is dropped");
    }
}

impl VmcsAccess for Vmcs {
    #[inline(always)]
    fn read<K, W: FieldWidth>(&self, field: Field<K, W>) -> W {
        debug_assert!(self.is_loaded(), "the VMCS is loaded");
        // SAFETY: in VMX root operation, as a `VmxCpu` was needed to make `self`.
        W::from_raw(unsafe { instructions::vmread(field.encoding()) })
    }

    #[inline(always)]
    fn write<W: FieldWidth>(&mut self, field: Field<Guest, W>, value: W) {
        debug_assert!(self.is_loaded(), "the VMCS is loaded");
        // SAFETY: as above; fields of this kind cannot reach host state or host memory.
        unsafe { instructions::vmwrite(field.encoding(), value.to_raw()) };
    }

    fn flush_translations(&mut self) {
        debug_assert!(self.is_loaded(), "translations are a core's");
        // Without an identifier of its own the guest's translations end with every exit.
        if let (Some(vpid), Some(kinds)) = (self.vpid.as_ref().map(Vpid::number), super::invalidations()) {
            // SAFETY: in VMX root operation, as a `VmxCpu` was needed to load `self`; all CPUs have the same.
            unsafe { kinds.vpid(vpid) };
        }
    }

    fn set_window(&mut self, window: Window, wanted: bool) {
        let bit = match window {
            Window::Interrupt => ProcessorBased::INTERRUPT_WINDOW,
            Window::Nmi => ProcessorBased::NMI_WINDOW,
        };
        let controls =
            if wanted { self.processor_controls | bit.bits() } else { self.processor_controls & !bit.bits() };
        if controls != self.processor_controls {
            self.processor_controls = controls;
            self.write_sensitive(field::PROCESSOR_BASED_CONTROLS, controls);
        }
    }

    fn set_long_mode(&mut self, long: bool) {
        let bit = Entry::IA32E_MODE_GUEST.bits();
        // The processor updates this control itself at exits, so what is cached may be old.
        let controls = if long { self.entry_controls | bit } else { self.entry_controls & !bit };
        self.write_sensitive(field::VM_ENTRY_CONTROLS, controls);
    }

    #[inline(always)]
    fn enter(&mut self) -> Result<(), u32> {
        if self.activity != Activity::Launched {
            return self.enter_first();
        }
        // SAFETY: the VMCS is current on this CPU, its host state is this CPU's, and EPT confines the guest to
        // the blocks of `space`.
        let failed = unsafe { enter_guest(&raw mut self.gprs, 1) };
        if failed != 0 {
            return Err(self.read(field::VM_INSTRUCTION_ERROR));
        }
        Ok(())
    }

    #[inline(always)]
    fn tsc(&self) -> Tsc {
        cpu::rdtsc()
    }

    #[inline(always)]
    fn gprs(&self) -> &Gprs {
        &self.gprs
    }

    #[inline(always)]
    fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.gprs
    }

    fn cr2(&self) -> u64 {
        cpu::cr2()
    }

    fn set_cr2(&mut self, value: u64) {
        switched_state::write_cr2(value);
    }

    fn dr6(&self) -> u64 {
        switched_state::read_dr6()
    }

    fn set_dr6(&mut self, value: u64) {
        switched_state::write_dr6(value);
    }

    #[inline]
    fn xcr0(&self) -> u64 {
        self.xcr0
    }

    fn set_xcr0(&mut self, value: u64) {
        let value = value | 1;
        self.xcr0 = value;
        if self.has_xsave && self.is_loaded() {
            switched_state::write_xcr0(value);
        }
    }

    fn vector(&self, register: VectorRegister) -> VectorValue {
        debug_assert!(self.is_loaded(), "the guest's registers are in the processor");
        self.state.vector(self.xcr0, register)
    }

    fn set_vector(&mut self, register: VectorRegister, value: &VectorValue) {
        debug_assert!(self.is_loaded(), "the guest's registers are in the processor");
        self.state.set_vector(self.xcr0, register, value);
    }

    fn pkru(&self) -> u32 {
        switched_state::read_pkru()
    }

    fn read_msr(&self, number: Msr) -> Option<u64> {
        match number {
            Msr::STAR | Msr::LSTAR | Msr::CSTAR | Msr::FMASK | Msr::KERNEL_GS_BASE => Some(msr::read(number)),
            _ => None,
        }
    }

    fn write_msr(&mut self, number: Msr, value: u64) {
        debug_assert!(self.is_loaded(), "the guest's registers are in the processor");
        self.state.write_msr(number, value);
    }

    fn live_registers(&self) -> LiveRegisters {
        debug_assert!(self.is_loaded(), "the guest's registers are in the processor");
        self.state.live_registers()
    }

    fn set_live_registers(&mut self, registers: &LiveRegisters) {
        debug_assert!(self.is_loaded(), "the guest's registers are in the processor");
        self.state.set_live_registers(registers);
    }

    fn extended_layout(&self) -> ExtendedLayout {
        self.state.layout()
    }

    fn read_extended(&self, area: &mut [u8]) {
        debug_assert!(self.is_loaded(), "the guest's registers are in the processor");
        self.state.read_vectors(self.xcr0, area);
    }

    fn write_extended(&mut self, area: &[u8]) {
        debug_assert!(self.is_loaded(), "the guest's registers are in the processor");
        self.state.write_vectors(self.xcr0, area);
    }

    fn interrupt_support(&self) -> InterruptSupport {
        match &self.virtual_apic {
            None => InterruptSupport::Software,
            Some(virtual_apic) if virtual_apic.has_descriptor() => self.controls.interrupts,
            Some(_) => InterruptSupport::Virtual,
        }
    }

    fn has_apic_page(&self) -> bool {
        self.apic_access_page().is_some()
    }

    fn set_apic_mode(&mut self, mode: ApicMode) {
        let windows = (ProcessorBased::INTERRUPT_WINDOW | ProcessorBased::NMI_WINDOW).bits();
        let execution = self.controls.execution(mode, self.interrupt_support());
        self.processor_controls = execution.processor | self.processor_controls & windows;
        self.write_sensitive(field::PIN_BASED_CONTROLS, execution.pin);
        self.write_sensitive(field::PROCESSOR_BASED_CONTROLS, self.processor_controls);
        self.write_sensitive(field::SECONDARY_CONTROLS, execution.secondary);
        self.write_sensitive(field::MSR_BITMAP, self.bitmaps.msrs(mode).get());
        // Each of the two pointers is used with one setting of "virtualize APIC accesses" alone, so that no CPU holds a
        // translation that was made with the other.
        self.write_sensitive(field::EPT_POINTER, self.space.eptp(mode));
    }

    fn read_apic(&self, offset: u16) -> u32 {
        self.virtual_apic.as_ref().map_or(0, |apic| apic.read(offset))
    }

    #[inline]
    fn read_apic_array(&self, offset: u16) -> [u32; 8] {
        self.virtual_apic.as_ref().map_or([0; 8], |apic| apic.read_array(offset))
    }

    fn write_apic(&mut self, offset: u16, value: u32) {
        if let Some(apic) = &self.virtual_apic {
            apic.write(offset, value);
        }
    }

    fn handle_interrupt(&self, vector: Vector) {
        interrupts::handle_device(vector);
    }
}
