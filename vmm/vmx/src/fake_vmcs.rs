//! A VMCS in a map, for tests.

use crate::field::{Field, FieldWidth, Guest};
use crate::{ApicMode, ExtendedLayout, InterruptSupport, LiveRegisters, VmcsAccess, Window};
use arch::{Gprs, Msr, Tsc, Vector, VectorRegister, VectorValue};
use std::cell::Cell;
use std::collections::BTreeMap;

/// x87, SSE and AVX.
pub(crate) const LAYOUT: ExtendedLayout = ExtendedLayout { components: 7, bytes: 832 };

#[derive(Debug)]
pub(crate) struct FakeVmcs {
    pub(crate) fields: BTreeMap<u32, u64>,
    pub(crate) gprs: Gprs,
    pub(crate) windows: [bool; 2],
    pub(crate) now: Tsc,
    pub(crate) xcr0: u64,
    pub(crate) entries: u32,
    pub(crate) cr2: u64,
    pub(crate) dr6: u64,
    pub(crate) live: LiveRegisters,
    pub(crate) extended: Vec<u8>,
    pub(crate) vectors: [VectorValue; 32],
    /// The virtual-APIC page.
    pub(crate) page: BTreeMap<u16, u32>,
    pub(crate) apic_mode: ApicMode,
    pub(crate) support: InterruptSupport,
    /// The host interrupt that was handled last.
    pub(crate) handled: Cell<Option<Vector>>,
}

impl Default for FakeVmcs {
    fn default() -> Self {
        Self {
            fields: BTreeMap::new(),
            gprs: Gprs::default(),
            windows: [false; 2],
            now: Tsc(0),
            xcr0: 1,
            entries: 0,
            cr2: 0,
            dr6: 0xffff_0ff0,
            live: LiveRegisters::default(),
            extended: vec![0; LAYOUT.bytes],
            vectors: [[0; 64]; 32],
            page: BTreeMap::new(),
            apic_mode: ApicMode::Software,
            support: InterruptSupport::Posted,
            handled: Cell::new(None),
        }
    }
}

impl FakeVmcs {
    /// Sets any field, as the processor could.
    pub(crate) fn set<K, W: FieldWidth>(&mut self, field: Field<K, W>, value: W) {
        self.fields.insert(field.encoding(), value.to_raw());
    }
}

impl VmcsAccess for FakeVmcs {
    fn read<K, W: FieldWidth>(&self, field: Field<K, W>) -> W {
        W::from_raw(self.fields.get(&field.encoding()).copied().unwrap_or(0))
    }

    fn write<W: FieldWidth>(&mut self, field: Field<Guest, W>, value: W) {
        self.set(field, value);
    }

    fn flush_translations(&mut self) {}

    fn set_window(&mut self, window: Window, wanted: bool) {
        self.windows[window as usize] = wanted;
    }

    fn set_long_mode(&mut self, long: bool) {
        let entry = self.read(crate::field::VM_ENTRY_CONTROLS) & !(1 << 9);
        self.set(crate::field::VM_ENTRY_CONTROLS, entry | u32::from(long) << 9);
    }

    fn enter(&mut self) -> Result<(), u32> {
        self.entries += 1;
        Ok(())
    }

    fn tsc(&self) -> Tsc {
        self.now
    }

    fn gprs(&self) -> &Gprs {
        &self.gprs
    }

    fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.gprs
    }

    fn cr2(&self) -> u64 {
        self.cr2
    }

    fn set_cr2(&mut self, value: u64) {
        self.cr2 = value;
    }

    fn dr6(&self) -> u64 {
        self.dr6
    }

    fn set_dr6(&mut self, value: u64) {
        self.dr6 = value & 0xe00f | 0xffff_0ff0;
    }

    fn xcr0(&self) -> u64 {
        self.xcr0
    }

    fn set_xcr0(&mut self, value: u64) {
        self.xcr0 = value;
    }

    fn pkru(&self) -> u32 {
        0
    }

    fn read_msr(&self, _msr: Msr) -> Option<u64> {
        None
    }

    fn live_registers(&self) -> LiveRegisters {
        self.live
    }

    fn write_msr(&mut self, msr: Msr, value: u64) {
        match msr {
            Msr::STAR => self.live.star = value,
            Msr::LSTAR => self.live.lstar = value,
            Msr::CSTAR => self.live.cstar = value,
            Msr::FMASK => self.live.fmask = u32::try_from(value).expect("checked"),
            Msr::TSC_AUX => self.live.tsc_aux = u32::try_from(value).expect("checked"),
            _ => panic!("{msr} does not stay in the processor"),
        }
    }

    fn set_live_registers(&mut self, registers: &LiveRegisters) {
        self.live = *registers;
    }

    fn vector(&self, register: VectorRegister) -> VectorValue {
        self.vectors[register.index()]
    }

    fn set_vector(&mut self, register: VectorRegister, value: &VectorValue) {
        self.vectors[register.index()] = *value;
    }

    fn extended_layout(&self) -> ExtendedLayout {
        LAYOUT
    }

    fn read_extended(&self, area: &mut [u8]) {
        area.copy_from_slice(&self.extended);
    }

    fn write_extended(&mut self, area: &[u8]) {
        self.extended.copy_from_slice(area);
    }

    fn interrupt_support(&self) -> InterruptSupport {
        self.support
    }

    fn has_apic_page(&self) -> bool {
        true
    }

    fn set_apic_mode(&mut self, mode: ApicMode) {
        self.apic_mode = mode;
    }

    fn read_apic(&self, offset: u16) -> u32 {
        self.page.get(&offset).copied().unwrap_or(0)
    }

    fn write_apic(&mut self, offset: u16, value: u32) {
        self.page.insert(offset, value);
    }

    fn handle_interrupt(&self, vector: Vector) {
        self.handled.set(Some(vector));
    }
}
