//! The virtual-APIC page: the registers that the processor keeps while it delivers a guest's interrupts itself.
//!
//! SDM Vol. 3C, "Virtual APIC State", "Evaluation and Delivery of Virtual Interrupts". Requests are bits in the page;
//! RVI, the highest of them, and SVI, the highest in service, are in the guest interrupt status and must agree with
//! the page at every entry. The processor computes PPR itself at entry.

use super::VmxBackend;
use crate::field;
use crate::vmcs_access::VmcsAccess;
use arch::Vector;
use vmm::ApicRegisters;
use vmm::lapic::VectorSet;

/// Offsets in the page. ISR, TMR and IRR are eight registers each, at steps of 16 bytes.
const TPR: u16 = 0x80;
const ISR: u16 = 0x100;
const TMR: u16 = 0x180;
const IRR: u16 = 0x200;

/// The offset of the register of `array` with the vectors from 32 * `index` on.
const fn register(array: u16, index: u8) -> u16 {
    array + 16 * index as u16
}

/// The priority class of the highest vector, in the upper half of the byte.
fn class(highest: Option<Vector>) -> u8 {
    highest.map_or(0, |vector| vector.0 & 0xf0)
}

impl<V: VmcsAccess> VmxBackend<V> {
    pub(super) fn fill_page(&mut self, registers: &ApicRegisters, level_triggered: VectorSet) {
        self.vmcs.write_apic(TPR, registers.task_priority.into());
        self.write_array(ISR, registers.in_service);
        self.write_array(IRR, registers.requested);
        self.write_level_triggered(level_triggered);
        self.write_status(registers.requested.highest(), registers.in_service.highest());
    }

    pub(super) fn page_registers(&self) -> ApicRegisters {
        ApicRegisters {
            task_priority: self.task_priority(),
            in_service: self.read_array(ISR),
            requested: self.read_array(IRR),
        }
    }

    /// Adds requests to IRR and raises RVI to the highest.
    pub(super) fn request_in_page(&mut self, vectors: VectorSet) {
        let Some(highest) = vectors.highest() else { return };
        // Mostly it is one.
        for (index, word) in (0..).step_by(2).zip(vectors.words()) {
            if word != 0 {
                for index in [index, index + 1] {
                    let at = register(IRR, index);
                    let value = self.vmcs.read_apic(at) | vectors.register(index);
                    self.vmcs.write_apic(at, value);
                }
            }
        }
        self.raise_request(highest);
    }

    /// Adds one request to IRR.
    #[inline]
    pub(super) fn request_one_in_page(&mut self, vector: Vector) {
        let at = register(IRR, vector.0 >> 5);
        let value = self.vmcs.read_apic(at) | 1 << (vector.0 & 31);
        self.vmcs.write_apic(at, value);
        self.raise_request(vector);
    }

    /// Raises RVI to `highest`, unless it is higher.
    #[inline]
    fn raise_request(&mut self, highest: Vector) {
        let [requesting, servicing] = self.vmcs.read(field::GUEST_INTERRUPT_STATUS).to_le_bytes();
        if highest.0 > requesting {
            let status = u16::from_le_bytes([highest.0, servicing]);
            self.vmcs.write(field::GUEST_INTERRUPT_STATUS, status);
        }
    }

    /// Sets TMR and the EOI-exit bitmap: the end of a level-triggered interrupt must reach the I/O APICs.
    pub(super) fn write_level_triggered(&mut self, vectors: VectorSet) {
        self.level_triggered = vectors;
        self.write_array(TMR, vectors);
        let [first, second, third, fourth] = vectors.words();
        self.vmcs.write(field::EOI_EXIT_BITMAP0, first);
        self.vmcs.write(field::EOI_EXIT_BITMAP1, second);
        self.vmcs.write(field::EOI_EXIT_BITMAP2, third);
        self.vmcs.write(field::EOI_EXIT_BITMAP3, fourth);
    }

    /// Whether a request, or one of `further`, outranks the task priority and what is in service. From the page alone,
    /// as the VMCS need not be loaded.
    pub(super) fn waits_in_page(&self, further: VectorSet) -> bool {
        let requested = class(self.read_array(IRR).union(further).highest());
        // Mostly the guest halts and nothing waits.
        requested != 0
            && requested > self.task_priority() & 0xf0
            && requested > class(self.read_array(ISR).highest())
    }

    fn task_priority(&self) -> u8 {
        let [low, ..] = self.vmcs.read_apic(TPR).to_le_bytes();
        low
    }

    fn write_status(&mut self, requesting: Option<Vector>, servicing: Option<Vector>) {
        let vector = |highest: Option<Vector>| highest.map_or(0, |vector| vector.0);
        let status = u16::from_le_bytes([vector(requesting), vector(servicing)]);
        self.vmcs.write(field::GUEST_INTERRUPT_STATUS, status);
    }

    #[inline]
    fn read_array(&self, array: u16) -> VectorSet {
        let [a, b, c, d, e, f, g, h] = self.vmcs.read_apic_array(array).map(u64::from);
        VectorSet::from_words([a | b << 32, c | d << 32, e | f << 32, g | h << 32])
    }

    fn write_array(&mut self, array: u16, vectors: VectorSet) {
        for index in 0..8 {
            self.vmcs.write_apic(register(array, index), vectors.register(index));
        }
    }
}
