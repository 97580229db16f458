//! Accesses to the page of a lent local APIC, by MOV of EAX.
//!
//! SDM Vol. 3C, "Virtualizing Reads from the APIC-Access Page", "Virtualizing Writes to the APIC-Access Page",
//! "APIC-Write Emulation".

use super::{Executed, ScriptedBackend};
use arch::{Gpr, Gva, PAGE_SIZE, Vector};
use vmm::lapic::DEFAULT_PAGE;
use vmm::{EptFault, Lending, MemoryAccess, VmExit};

const TPR: u16 = 0x80;
const EOI: u16 = 0xb0;
const COMMAND: u16 = 0x300;
const COMMAND_HIGH: u16 = 0x310;

/// What must be clear in the command register, and the shorthand there, for a self-IPI.
const NOT_SELF: u32 = 0xfff3_b700;
const SHORTHAND: u32 = 3 << 18;
const MYSELF: u32 = 1 << 18;

impl ScriptedBackend {
    /// Whether `fault` is an access to a lent page.
    pub(super) fn is_in_page(&self, fault: EptFault) -> bool {
        self.virtual_apic.lending == Lending::Page && fault.gpa.align_down(PAGE_SIZE) == DEFAULT_PAGE
    }

    pub(super) fn access_page(&mut self, fault: EptFault) -> Executed {
        let leaves = VmExit::ApicAccess(EptFault { gva: Gva::new(0), translated: false, ..fault });
        let offset = u16::try_from(fault.gpa - DEFAULT_PAGE).expect("an offset in a page");
        match fault.access {
            MemoryAccess::Read => match self.read_page(offset) {
                Some(value) => {
                    self.state.gprs.set(Gpr::Rax, value.into());
                    Executed::Done
                }
                None => Executed::ExitsAs(leaves),
            },
            MemoryAccess::Write => {
                let value = self.state.gprs.get32(Gpr::Rax);
                self.write_page(offset, value).unwrap_or(Executed::ExitsAs(leaves))
            }
            MemoryAccess::Fetch => Executed::Exits,
        }
    }

    fn read_page(&self, offset: u16) -> Option<u32> {
        let apic = &self.virtual_apic;
        let lent = apic.lent?;
        let index = (offset >> 4 & 7).to_le_bytes()[0];
        Some(match offset {
            _ if offset & 0xf != 0 => return None,
            TPR => lent.task_priority.into(),
            EOI => 0,
            0x100..=0x170 => lent.in_service.register(index),
            0x180..=0x1f0 => apic.level_triggered.register(index),
            0x200..=0x270 => lent.requested.register(index),
            0x20 | 0x30 | 0xd0 | 0xe0 | 0xf0 | 0x280 | 0x300 | 0x310 | 0x320..=0x370 | 0x380 | 0x3e0 => {
                apic.page[&offset]
            }
            _ => return None,
        })
    }

    /// `None` where the write is not virtualized.
    fn write_page(&mut self, offset: u16, value: u32) -> Option<Executed> {
        let apic = &mut self.virtual_apic;
        let lent = apic.lent.as_mut()?;
        let [low, ..] = value.to_le_bytes();
        match offset {
            _ if offset & 0xf != 0 => return None,
            TPR => lent.task_priority = low,
            EOI => {
                if let Some(vector) = lent.in_service.highest() {
                    lent.in_service.remove(vector);
                    if apic.level_triggered.contains(vector) {
                        return Some(Executed::Trapped(VmExit::EoiInduced(vector)));
                    }
                }
            }
            COMMAND => {
                apic.page.insert(offset, value);
                if value & NOT_SELF != 0 || value & SHORTHAND != MYSELF || low < 16 {
                    return Some(Executed::Trapped(VmExit::ApicWrite(offset)));
                }
                lent.requested.insert(Vector(low));
            }
            COMMAND_HIGH => {
                apic.page.insert(offset, value & 0xff00_0000);
            }
            0x20 | 0xd0 | 0xe0 | 0xf0 | 0x280 | 0x320..=0x370 | 0x380 | 0x3e0 => {
                apic.page.insert(offset, value);
                return Some(Executed::Trapped(VmExit::ApicWrite(offset)));
            }
            _ => return None,
        }
        Some(Executed::Done)
    }
}
