//! The processor state in which a guest's first instruction runs.
//!
//! "The Linux/x86 Boot Protocol", "64-bit Boot Protocol" and "32-bit Boot Protocol"; Xen, "x86/HVM direct boot ABI" for
//! PVH; "Multiboot Specification", "Machine state". SDM Vol. 3C, "Checks on Guest Segment Registers", for what is left
//! open there (a busy TR, accessed segments).

use crate::layout::STACK_TOP;
use arch::{
    Cr0Flags, Cr4Flags, EferFlags, Gpa, Gpr, Gprs, PAGE_SIZE, Segment, SegmentRegister, TableRegister,
};

/// The processor mode of an [`EntryState`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryMode {
    /// 64-bit mode, paging on.
    Long64,
    /// 32-bit protected mode, paging off.
    Protected32,
    /// Real mode.
    Real16,
}

/// All of a virtual processor's state that a boot protocol defines; the rest is as after reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryState {
    /// The mode that the registers below amount to.
    pub mode: EntryMode,
    /// The first instruction, a linear address.
    pub rip: u64,
    /// The stack pointer. No protocol promises a stack; this one is in RAM, and free but for flat images.
    pub rsp: u64,
    /// RFLAGS: interrupts off.
    pub rflags: u64,
    /// General-purpose registers other than RSP: RSI points to `boot_params`, or RBX to the PVH start info or
    /// Multiboot's boot information.
    pub gprs: Gprs,
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// ES.
    pub es: Segment,
    /// CS.
    pub cs: Segment,
    /// SS.
    pub ss: Segment,
    /// DS.
    pub ds: Segment,
    /// FS.
    pub fs: Segment,
    /// GS.
    pub gs: Segment,
    /// LDTR, unusable.
    pub ldtr: Segment,
    /// TR, a busy TSS.
    pub tr: Segment,
    /// GDTR.
    pub gdtr: TableRegister,
    /// IDTR: empty, as interrupts are off.
    pub idtr: TableRegister,
}

/// Selector of the code segment, `__BOOT_CS` of the Linux protocol.
const CODE_SELECTOR: u16 = 0x10;
/// Selector of the data segments, `__BOOT_DS`.
const DATA_SELECTOR: u16 = 0x18;
/// Selector of the task state segment.
const TASK_SELECTOR: u16 = 0x20;

/// RFLAGS with nothing set but the bit that always is.
const RFLAGS_CLEAR: u64 = 0x2;

/// Access rights of the segments, in the layout of [`Segment::access_rights`].
const PRESENT: u32 = 1 << 7;
const CODE_OR_DATA: u32 = 1 << 4;
const READ_WRITE_ACCESSED: u32 = 0x3;
const EXECUTE_READ_ACCESSED: u32 = 0xb;
const BUSY_TSS: u32 = 0xb;
const LONG: u32 = 1 << 13;
const DEFAULT_32: u32 = 1 << 14;
const GRANULAR: u32 = 1 << 15;

const DATA: Segment = flat(DATA_SELECTOR, READ_WRITE_ACCESSED | DEFAULT_32);
const CODE_64: Segment = flat(CODE_SELECTOR, EXECUTE_READ_ACCESSED | LONG);
const CODE_32: Segment = flat(CODE_SELECTOR, EXECUTE_READ_ACCESSED | DEFAULT_32);
const TASK: Segment =
    Segment { selector: TASK_SELECTOR, base: 0, limit: 0x67, access_rights: PRESENT | BUSY_TSS };

/// A segment from 0 to 4 GiB.
const fn flat(selector: u16, rights: u32) -> Segment {
    Segment { selector, base: 0, limit: u32::MAX, access_rights: PRESENT | CODE_OR_DATA | GRANULAR | rights }
}

/// The descriptor that loads `segment`. SDM Vol. 3A, "Segment Descriptors".
const fn descriptor(segment: Segment) -> u64 {
    let granular = segment.access_rights & GRANULAR != 0;
    let limit = if granular { segment.limit >> 12 } else { segment.limit } as u64;
    (limit & 0xffff)
        | ((segment.base & 0xff_ffff) << 16)
        | ((segment.access_rights as u64 & 0xf0ff) << 40)
        | ((limit >> 16) << 48)
        | ((segment.base >> 24) << 56)
}

/// The real-mode selector by which the 4 KiB from `address` on, below 1 MiB, are reached: 0 if that does.
fn segment_of(address: Gpa) -> u16 {
    const LAST: u64 = 0x1_0000 - PAGE_SIZE;
    match address.get() {
        0..LAST => 0,
        above => u16::try_from(above >> 4).unwrap_or(u16::MAX),
    }
}

/// Entries of the global descriptor table: null, unused, code, data, and two of a 64-bit TSS.
pub(crate) const GDT_ENTRIES: usize = 6;

impl EntryState {
    /// In 64-bit mode at `rip`, with page tables at `page_tables` and a descriptor table of
    /// [`Self::descriptors`] at `gdt`.
    pub(crate) fn long_mode(rip: u64, page_tables: Gpa, gdt: Gpa) -> Self {
        let cr0 = Cr0Flags::PROTECTED_MODE_ENABLE
            | Cr0Flags::EXTENSION_TYPE
            | Cr0Flags::NUMERIC_ERROR
            | Cr0Flags::PAGING;
        Self {
            mode: EntryMode::Long64,
            rip,
            cr0: cr0.bits(),
            cr3: page_tables.get(),
            cr4: Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.bits(),
            efer: (EferFlags::LONG_MODE_ENABLE | EferFlags::LONG_MODE_ACTIVE).bits(),
            cs: CODE_64,
            gdtr: TableRegister { base: gdt.get(), limit: 8 * 6 - 1 },
            ..Self::protected_mode(rip)
        }
    }

    /// In 32-bit protected mode at `rip`, paging off. No descriptor table: the hidden parts are all there is.
    pub(crate) fn protected_mode(rip: u64) -> Self {
        Self {
            mode: EntryMode::Protected32,
            rip,
            rsp: STACK_TOP.get(),
            rflags: RFLAGS_CLEAR,
            gprs: Gprs::default(),
            cr0: (Cr0Flags::PROTECTED_MODE_ENABLE | Cr0Flags::EXTENSION_TYPE).bits(),
            cr3: 0,
            cr4: 0,
            efer: 0,
            es: DATA,
            cs: CODE_32,
            ss: DATA,
            ds: DATA,
            fs: DATA,
            gs: DATA,
            ldtr: Segment::unusable(),
            tr: TASK,
            gdtr: TableRegister::default(),
            idtr: TableRegister::default(),
        }
    }

    /// By the 32-bit Linux boot protocol at `rip`: protected mode with a descriptor table of
    /// [`Self::descriptors_32`] at `gdt`.
    pub(crate) fn protected_mode_with_table(rip: u64, gdt: Gpa) -> Self {
        Self { gdtr: TableRegister { base: gdt.get(), limit: 8 * 6 - 1 }, ..Self::protected_mode(rip) }
    }

    /// In real mode at `entry`, below 1 MiB, with a stack in the page `stack`, below 1 MiB too. CS is 0 where that
    /// reaches the entry point, the other segments are 0 where that reaches the stack.
    pub(crate) fn real_mode(entry: Gpa, stack: Gpa) -> Self {
        let code = segment_of(entry);
        let data = segment_of(stack);
        let segment = |selector, rights| Segment {
            selector,
            base: u64::from(selector) << 4,
            limit: 0xffff,
            access_rights: PRESENT | CODE_OR_DATA | rights,
        };
        let (data, zero) = (segment(data, READ_WRITE_ACCESSED), segment(0, READ_WRITE_ACCESSED));
        let cs = segment(code, EXECUTE_READ_ACCESSED);
        Self {
            mode: EntryMode::Real16,
            rsp: stack.get() - data.base + PAGE_SIZE,
            cr0: Cr0Flags::EXTENSION_TYPE.bits(),
            es: zero,
            cs,
            ss: data,
            ds: zero,
            fs: zero,
            gs: zero,
            idtr: TableRegister { base: 0, limit: 0x3ff },
            gdtr: TableRegister { base: 0, limit: 0xffff },
            ..Self::protected_mode(entry.get() - cs.base)
        }
    }

    /// The same state with `value` in `register`.
    pub(crate) fn with(mut self, register: Gpr, value: u64) -> Self {
        self.gprs.set(register, value);
        self
    }

    /// The segment register that `register` names.
    pub fn segment(&self, register: SegmentRegister) -> Segment {
        match register {
            SegmentRegister::Es => self.es,
            SegmentRegister::Cs => self.cs,
            SegmentRegister::Ss => self.ss,
            SegmentRegister::Ds => self.ds,
            SegmentRegister::Fs => self.fs,
            SegmentRegister::Gs => self.gs,
            SegmentRegister::Ldtr => self.ldtr,
            SegmentRegister::Tr => self.tr,
        }
    }

    /// The descriptor table of the 32-bit Linux entry, which asks for one.
    pub(crate) fn descriptors_32() -> [u64; GDT_ENTRIES] {
        [0, 0, descriptor(CODE_32), descriptor(DATA), descriptor(TASK), 0]
    }

    /// The descriptor table of the 64-bit state, so that a guest which reloads a selector gets the same segment.
    pub(crate) fn descriptors() -> [u64; GDT_ENTRIES] {
        [0, 0, descriptor(CODE_64), descriptor(DATA), descriptor(TASK), 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_the_flat_ones_of_the_manual() {
        let table = EntryState::descriptors();
        assert_eq!(table[2], 0x00af_9b00_0000_ffff);
        assert_eq!(table[3], 0x00cf_9300_0000_ffff);
        assert_eq!(table[4], 0x0000_8b00_0000_0067);
    }

    #[test]
    fn long_mode_has_what_64_bit_entry_needs() {
        let state = EntryState::long_mode(0x100_0200, Gpa::new(0x9000), Gpa::new(0x1000));
        assert_eq!(state.cr0 & 0x8000_0001, 0x8000_0001);
        assert_eq!(state.cr4, 0x20);
        assert_eq!(state.efer, 0x500);
        assert!(state.cs.is_long() && !state.cs.is_default_32());
        assert_eq!(state.gdtr.limit, 47);
    }

    #[test]
    fn protected_mode_has_paging_off_and_32_bit_code() {
        let state = EntryState::protected_mode(0x10_0000);
        assert_eq!(state.cr0, 0x11);
        assert_eq!((state.cr4, state.efer), (0, 0));
        assert!(!state.cs.is_long() && state.cs.is_default_32());
        assert_eq!(state.segment(SegmentRegister::Tr).access_rights, 0x8b);
    }
}
