//! A processor that delivers interrupts itself while a local APIC is lent to it.
//!
//! SDM Vol. 3C, "Evaluation and Delivery of Virtual Interrupts", "Virtualizing CR8-Based TPR Accesses", "Virtualizing
//! MSR-Based APIC Accesses", "Virtualizing Memory-Mapped APIC Accesses", "Posted-Interrupt Processing".

mod page;

use super::ScriptedBackend;
use arch::{Exception, Gpr, Vector};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vmm::lapic::VectorSet;
use vmm::{ApicRegisters, CrAccess, Event, Inbox, InterruptSupport, Lending, VcpuBackend, VmExit};

const TPR: u32 = 0x808;
const PPR: u32 = 0x80a;
const EOI: u32 = 0x80b;
const SELF_IPI: u32 = 0x83f;
/// The offset of TPR in the page.
pub(super) const TPR_OFFSET: u16 = 0x80;
/// The offset of SELF IPI in the page.
const SELF_IPI_OFFSET: u16 = 0x3f0;

/// What the processor has for delivering interrupts.
#[derive(Clone, Debug)]
pub(super) struct VirtualApic {
    pub(super) support: InterruptSupport,
    /// Where others post.
    inbox: Option<Arc<Inbox>>,
    /// What is lent.
    pub(super) lent: Option<ApicRegisters>,
    pub(super) level_triggered: VectorSet,
    /// What was written to SELF IPI last.
    self_ipi: u32,
    /// How a local APIC can be lent at most.
    pub(super) most: Lending,
    /// How it is.
    pub(super) lending: Lending,
    /// The registers of a lent page that software keeps, and the command register.
    pub(super) page: BTreeMap<u16, u32>,
}

/// What became of an instruction.
pub(super) enum Executed {
    /// It exits as it does without a lent local APIC.
    Exits,
    /// The processor carried it out.
    Done,
    /// The processor carried it out and exits behind it.
    Trapped(VmExit),
    /// It exits as something else.
    ExitsAs(VmExit),
    /// It faults.
    Faults,
}

impl VirtualApic {
    /// A processor that delivers nothing.
    pub(super) const fn none() -> Self {
        Self {
            support: InterruptSupport::Software,
            inbox: None,
            lent: None,
            level_triggered: VectorSet::EMPTY,
            self_ipi: 0,
            most: Lending::Msrs,
            lending: Lending::Msrs,
            page: BTreeMap::new(),
        }
    }

    pub(super) fn register(&self, offset: u16) -> u32 {
        match self.lending {
            Lending::Msrs => {
                assert_eq!(offset, SELF_IPI_OFFSET, "no other write traps");
                self.self_ipi
            }
            Lending::Page if offset == TPR_OFFSET => {
                self.lent.expect("only what is lent is looked at").task_priority.into()
            }
            Lending::Page => self.page[&offset],
        }
    }
}

/// PPR.
fn processor_priority(lent: &ApicRegisters) -> u8 {
    let in_service = lent.in_service.highest().map_or(0, |vector| vector.0 & 0xf0);
    if lent.task_priority & 0xf0 >= in_service { lent.task_priority } else { in_service }
}

/// The interrupt that `lent`, with `further` requests, lets through.
pub(super) fn deliverable(lent: &ApicRegisters, further: VectorSet) -> Option<Vector> {
    let highest = lent.requested.union(further).highest()?;
    (highest.0 & 0xf0 > processor_priority(lent) & 0xf0).then_some(highest)
}

impl ScriptedBackend {
    /// Has the processor deliver interrupts itself, as far as `support` goes; others post into `inbox`.
    /// A local APIC can be lent as `most` says.
    pub fn support_interrupts(&mut self, support: InterruptSupport, most: Lending, inbox: Arc<Inbox>) {
        self.virtual_apic.support = support;
        self.virtual_apic.most = most;
        self.virtual_apic.inbox = Some(inbox);
    }

    /// Whether it does.
    pub const fn delivers_interrupts(&self) -> bool {
        self.virtual_apic.lent.is_some()
    }

    /// Delivers the interrupt that is due, if there is one and the guest can take it. Whether there was.
    pub(super) fn deliver_virtual_interrupt(&mut self) -> bool {
        if !self.is_open() || self.interrupt_window {
            return false;
        }
        let Some(lent) = &mut self.virtual_apic.lent else { return false };
        let Some(vector) = deliverable(lent, VectorSet::EMPTY) else { return false };
        lent.requested.remove(vector);
        lent.in_service.insert(vector);
        self.deliver(Event::Interrupt(vector));
        true
    }

    /// The notification arrives in the guest: `None` when the processor takes what was posted.
    pub(super) fn notified(&mut self) -> Option<VmExit> {
        let posted = self.virtual_apic.support == InterruptSupport::Posted;
        let (Some(lent), Some(inbox)) = (&mut self.virtual_apic.lent, &self.virtual_apic.inbox) else {
            return Some(VmExit::ExternalInterrupt);
        };
        if !posted {
            return Some(VmExit::ExternalInterrupt);
        }
        let descriptor = inbox.descriptor();
        descriptor.control.fetch_and(!1, Ordering::SeqCst);
        let posted = [0, 1, 2, 3].map(|word: usize| descriptor.requests[word].swap(0, Ordering::SeqCst));
        lent.requested = lent.requested.union(VectorSet::from_words(posted));
        None
    }

    /// What the processor does with an instruction that exits unless the local APIC is lent.
    pub(super) fn execute_on_lent(&mut self, exit: VmExit) -> Executed {
        let Some(lent) = self.virtual_apic.lent else { return Executed::Exits };
        match exit {
            // The MSR bitmap gives nothing away.
            VmExit::ReadMsr | VmExit::WriteMsr if self.virtual_apic.lending == Lending::Page => {
                Executed::Exits
            }
            VmExit::Ept(fault) if self.is_in_page(fault) => self.access_page(fault),
            VmExit::ReadMsr => match self.read_lent(&lent, self.state.gprs.get32(Gpr::Rcx)) {
                Some(value) => {
                    self.state.gprs.set_edx_eax(value.into());
                    Executed::Done
                }
                None => Executed::Exits,
            },
            VmExit::WriteMsr => {
                let msr = self.state.gprs.get32(Gpr::Rcx);
                self.write_lent(msr, self.state.gprs.edx_eax())
            }
            VmExit::Cr(CrAccess::ReadCr8(target)) => {
                let value = u64::from(lent.task_priority >> 4);
                if target == Gpr::Rsp {
                    self.set_rsp(value);
                } else {
                    self.state.gprs.set(target, value);
                }
                Executed::Done
            }
            VmExit::Cr(CrAccess::WriteCr8(source)) => {
                let value = self.state.gprs.get(source);
                if value > 0xf { Executed::Faults } else { self.write_lent(TPR, value << 4) }
            }
            _ => Executed::Exits,
        }
    }

    fn read_lent(&self, lent: &ApicRegisters, msr: u32) -> Option<u32> {
        let index = (msr & 7).to_le_bytes()[0];
        Some(match msr {
            TPR => lent.task_priority.into(),
            PPR => processor_priority(lent).into(),
            0x810..=0x817 => lent.in_service.register(index),
            0x818..=0x81f => self.virtual_apic.level_triggered.register(index),
            0x820..=0x827 => lent.requested.register(index),
            _ => return None,
        })
    }

    fn write_lent(&mut self, msr: u32, value: u64) -> Executed {
        let apic = &mut self.virtual_apic;
        let Some(lent) = &mut apic.lent else { return Executed::Exits };
        let byte = u8::try_from(value);
        match (msr, byte) {
            (TPR, Ok(priority)) => lent.task_priority = priority,
            (EOI, Ok(0)) => {
                if let Some(vector) = lent.in_service.highest() {
                    lent.in_service.remove(vector);
                    if apic.level_triggered.contains(vector) {
                        return Executed::Trapped(VmExit::EoiInduced(vector));
                    }
                }
            }
            (SELF_IPI, Ok(vector)) if vector < 16 => {
                apic.self_ipi = vector.into();
                return Executed::Trapped(VmExit::ApicWrite(SELF_IPI_OFFSET));
            }
            (SELF_IPI, Ok(vector)) => {
                lent.requested.insert(Vector(vector));
            }
            (TPR | EOI | SELF_IPI, _) => return Executed::Faults,
            (_, _) => return Executed::Exits,
        }
        Executed::Done
    }

    /// Moves RIP behind an instruction that did not exit.
    pub(super) fn complete(&mut self, length: u8) {
        self.instruction_length = length;
        self.advance();
    }

    /// Raises #GP in the guest.
    pub(super) fn fault(&mut self) {
        self.deliver(Event::Exception(Exception::GeneralProtection(0)));
    }
}
