//! What the backend needs of the hardware: one VMCS, and the guest's registers that no VMCS holds.

use crate::ApicMode;
use crate::field::{Field, FieldWidth, Guest};
use arch::{Gprs, Msr, Tsc, Vector, VectorRegister, VectorValue};
use vmm::{ExtendedLayout, InterruptSupport};

/// A window that an entry can ask to exit at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Window {
    /// Interrupt window.
    Interrupt = 0,
    /// NMI window.
    Nmi = 1,
}

/// Registers that stay in the processor across exits and that the hypervisor never needs while a guest is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LiveRegisters {
    /// IA32_STAR.
    pub star: u64,
    /// IA32_LSTAR.
    pub lstar: u64,
    /// IA32_CSTAR.
    pub cstar: u64,
    /// IA32_FMASK, of which the upper half is reserved.
    pub fmask: u32,
    /// IA32_KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// IA32_TSC_AUX, of which the upper half is reserved; 0 where guests have none.
    pub tsc_aux: u32,
    /// DR0 to DR3.
    pub breakpoints: [u64; 4],
}

/// The hardware under [`VmxBackend`](crate::VmxBackend): one VMCS and the guest state that no VMCS holds.
///
/// The VMCS is current on the calling core. What safe code may write through this trait cannot reach host state
/// or host memory.
pub trait VmcsAccess {
    /// Reads a field.
    fn read<K, W: FieldWidth>(&self, field: Field<K, W>) -> W;
    /// Writes a field that only changes the guest.
    fn write<W: FieldWidth>(&mut self, field: Field<Guest, W>, value: W);
    /// Forgets every translation of the guest's own tables on this core (SDM Vol. 2C, "INVVPID", single-context).
    fn flush_translations(&mut self);
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
    /// A vector register of the guest, which stays in the processor.
    fn vector(&self, register: VectorRegister) -> VectorValue;
    /// Sets a vector register of the guest; parts that the processor does not have are ignored.
    fn set_vector(&mut self, register: VectorRegister, value: &VectorValue);
    /// Reads a register that stays in the processor across exits (STAR and the like).
    fn read_msr(&self, msr: Msr) -> Option<u64>;
    /// Writes one of STAR, LSTAR, CSTAR, FMASK and TSC_AUX, which stay in the processor across exits. The caller has checked
    /// the value, and that guests have the register.
    fn write_msr(&mut self, msr: Msr, value: u64);
    /// The guest's registers that stay in the processor.
    fn live_registers(&self) -> LiveRegisters;
    /// Sets the guest's registers that stay in the processor; the caller has checked that addresses are canonical.
    fn set_live_registers(&mut self, registers: &LiveRegisters);
    /// How the XSAVE area of guests is laid out.
    fn extended_layout(&self) -> ExtendedLayout;
    /// Copies the guest's x87, vector and protection-key registers into `area`, in the standard format of XSAVE.
    fn read_extended(&self, area: &mut [u8]);
    /// Loads the guest's x87, vector and protection-key registers from `area`, which the caller has checked.
    fn write_extended(&mut self, area: &[u8]);
    /// How much of the guest's interrupts this VMCS can have the processor deliver. Never changes.
    fn interrupt_support(&self) -> InterruptSupport;
    /// Whether this VMCS can have the processor carry out accesses to the local APIC's page too. Never changes.
    fn has_apic_page(&self) -> bool;
    /// Sets the controls, the MSR bitmap and the EPT pointer for `mode`. Never asked for one without support.
    fn set_apic_mode(&mut self, mode: ApicMode);
    /// Reads the register at `offset` in the virtual-APIC page; 0 without one. The VMCS need not be loaded.
    fn read_apic(&self, offset: u16) -> u32;
    /// Reads the eight registers of the array that begins at `offset` in the virtual-APIC page, as [`Self::read_apic`]
    /// does one.
    fn read_apic_array(&self, offset: u16) -> [u32; 8] {
        [0, 16, 32, 48, 64, 80, 96, 112].map(|step| self.read_apic(offset.wrapping_add(step)))
    }

    /// Writes the register at `offset` in the virtual-APIC page, if there is one. The VMCS need not be loaded, and its
    /// guest must not be running.
    fn write_apic(&mut self, offset: u16, value: u32);
    /// Has the host handle an interrupt that the last exit acknowledged.
    fn handle_interrupt(&self, vector: Vector);
}
