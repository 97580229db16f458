//! Which device is at a physical address that is not RAM. An access belongs to the device at its first byte; what it
//! finds past that device's end is the device's to say.

use arch::platform_layout as layout;
use arch::{Gpa, Nanos, Width};

use super::Pc;
use crate::vga;

const IOAPIC: u64 = layout::IOAPIC_BASE.get();
const IOAPIC_LAST: u64 = IOAPIC + layout::IOAPIC_BYTES - 1;
const HPET: u64 = layout::HPET_BASE.get();
const HPET_LAST: u64 = HPET + layout::HPET_BYTES - 1;
const SCRATCH: u64 = layout::SCRATCH_BASE.get();
const SCRATCH_LAST: u64 = SCRATCH + layout::SCRATCH_BYTES - 1;

impl Pc {
    #[inline]
    pub(super) fn read_mmio(&mut self, address: u64, width: Width, now: Nanos) -> u64 {
        match address {
            IOAPIC..=IOAPIC_LAST => self.ioapic.read(address - IOAPIC, width),
            HPET..=HPET_LAST => self.read_hpet(address - HPET, width, now),
            SCRATCH..=SCRATCH_LAST => match &self.scratch {
                Some(scratch) => scratch.read(address - SCRATCH, width),
                None => width.mask(),
            },
            vga::MEMORY_FIRST..=vga::MEMORY_LAST => self.read_legacy_video(address, width, now),
            _ => self.read_elsewhere(Gpa::new(address), width, now),
        }
    }

    #[inline]
    pub(super) fn write_mmio(&mut self, address: u64, width: Width, value: u64, now: Nanos) {
        match address {
            IOAPIC..=IOAPIC_LAST => {
                self.ioapic.write(address - IOAPIC, width, value);
                self.notice_ioapic();
            }
            HPET..=HPET_LAST => self.write_hpet(address - HPET, width, value, now),
            SCRATCH..=SCRATCH_LAST => {
                if let Some(scratch) = &mut self.scratch {
                    scratch.write(address - SCRATCH, width, value);
                }
            }
            vga::MEMORY_FIRST..=vga::MEMORY_LAST => self.write_legacy_video(address, width, value, now),
            _ => self.write_elsewhere(Gpa::new(address), width, value, now),
        }
    }
}
