//! A VMCS in a map, for tests.

use crate::field::{Field, FieldWidth, Guest};
use crate::{VmcsAccess, Window};
use arch::{Gprs, Msr, Tsc};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct FakeVmcs {
    pub(crate) fields: BTreeMap<u32, u64>,
    pub(crate) gprs: Gprs,
    pub(crate) windows: [bool; 2],
    pub(crate) now: Tsc,
    pub(crate) xcr0: u64,
    pub(crate) entries: u32,
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
        0
    }

    fn set_cr2(&mut self, _value: u64) {}

    fn dr6(&self) -> u64 {
        0xffff_0ff0
    }

    fn set_dr6(&mut self, _value: u64) {}

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
}
