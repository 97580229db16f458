//! The first instructions of a CPU that is started: from real mode to the kernel's page tables.
//!
//! SDM Vol. 3A, "MP Initialization Protocol Algorithm for MP Systems", "Initializing IA-32e Mode". The code is copied to a
//! page below 1 MiB, where a start-up IPI can name it. Behind it lie page tables of its own, which map that page at its
//! physical address besides all that the kernel maps: paging is switched on with them, the kernel's tables follow once
//! the CPU runs at the kernel's addresses.
//!
//! A CPU goes on to the kernel only with a ticket in its name, which it takes by one atomic exchange; a ticket can be
//! withdrawn. Without one it halts here. The pages are never used for anything else, so a CPU that comes late, however
//! late, finds them as they were.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use arch::{Hpa, PAGE_SIZE};
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use spin::Once;

use crate::memory::{direct_map, tables};

/// Where in the page the parameters are, behind the code.
const PARAMETERS: usize = 0xe00;
/// Pages: code and parameters, then three tables.
const PAGES: u64 = 4;
/// Memory below is better left alone: some firmware writes there behind the system's back.
const PREFERRED_FROM: u64 = 64 * 1024;
/// One past the last byte of conventional memory.
const CONVENTIONAL_END: u64 = 640 * 1024;

/// What is offered to a CPU, added to its APIC ID in the ticket's upper half.
const OFFERED: u64 = 1;
/// The CPU took it.
const TAKEN: u64 = 2;
/// No ticket.
const WITHDRAWN: u64 = 0;

/// What the code reads, at [`PARAMETERS`].
#[repr(C)]
struct Parameters {
    gdt: [u64; 4],
    /// Limit and base, as LGDT takes them with a 16-bit operand size.
    gdtr: [u16; 4],
    /// Far pointer to the 32-bit code: offset, selector.
    to_32: [u32; 2],
    /// Far pointer to the 64-bit code.
    to_64: [u32; 2],
    /// The code's own top-level page table.
    low_tables: u64,
    ticket: AtomicU64,
    /// Where the kernel goes on: `boot::switch`, with these arguments.
    resume: u64,
    root: u64,
    stack: u64,
    entry: u64,
    argument: u64,
}

const _: () = assert!(PARAMETERS + size_of::<Parameters>() <= 4096);

const CODE_32: u16 = 0x08;
const DATA_32: u16 = 0x10;
const CODE_64: u16 = 0x18;
/// Null, code of 32 bits, data, code of 64 bits; all accessed already, so that the CPU writes nothing.
const GDT: [u64; 4] = [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00af_9b00_0000_ffff];

// The base of the page is kept in EBP throughout. Only labels and numbers are used, no addresses: the code does not know
// where it will be.
global_asm!(
    ".pushsection .rodata.trampoline, \"a\"",
    ".balign 16",
    ".global craton_trampoline_start",
    ".global craton_trampoline_32",
    ".global craton_trampoline_64",
    ".global craton_trampoline_end",
    ".code16",
    "craton_trampoline_start:",
    "cli",
    "cld",
    "mov ax, cs",
    "mov ds, ax",
    "xor ebp, ebp",
    "mov bp, ax",
    "shl ebp, 4",
    "lgdt [{gdtr}]",
    "mov eax, cr0",
    // Caches on (INIT leaves them as they were, a cold start has them off); protected mode.
    "and eax, 0x9fffffff",
    "or eax, 1",
    "mov cr0, eax",
    "jmp fword ptr [{to_32}]",
    ".code32",
    "craton_trampoline_32:",
    "mov ax, {data_32}",
    "mov ds, ax",
    "mov es, ax",
    "mov ss, ax",
    "mov eax, cr4",
    // PAE.
    "or eax, 0x20",
    "mov cr4, eax",
    "mov eax, [ebp + {low_tables}]",
    "mov cr3, eax",
    // EFER: long mode, and the no-execute bit, which the kernel's tables use.
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x900",
    "wrmsr",
    "mov eax, cr0",
    "or eax, 0x80000000",
    "mov cr0, eax",
    "jmp fword ptr [ebp + {to_64}]",
    ".code64",
    "craton_trampoline_64:",
    "mov ebp, ebp",
    // This CPU's APIC ID, as `apic::own_id` finds it.
    "xor eax, eax",
    "cpuid",
    "cmp eax, 0xb",
    "jb 2f",
    "mov eax, 0xb",
    "xor ecx, ecx",
    "cpuid",
    "mov edi, edx",
    "test ebx, ebx",
    "jnz 3f",
    "2:",
    "mov eax, 1",
    "cpuid",
    "shr ebx, 24",
    "mov edi, ebx",
    "3:",
    "shl rdi, 32",
    "lea rax, [rdi + {offered}]",
    "lea rcx, [rdi + {taken}]",
    "lock cmpxchg [rbp + {ticket}], rcx",
    "jne 4f",
    "mov rax, [rbp + {resume}]",
    "mov rdi, [rbp + {root}]",
    "mov rsi, [rbp + {stack}]",
    "mov rdx, [rbp + {entry}]",
    "mov rcx, [rbp + {argument}]",
    "jmp rax",
    "4:",
    "cli",
    "hlt",
    "jmp 4b",
    "craton_trampoline_end:",
    ".popsection",
    gdtr = const PARAMETERS + offset_of!(Parameters, gdtr),
    to_32 = const PARAMETERS + offset_of!(Parameters, to_32),
    to_64 = const PARAMETERS + offset_of!(Parameters, to_64),
    low_tables = const PARAMETERS + offset_of!(Parameters, low_tables),
    ticket = const PARAMETERS + offset_of!(Parameters, ticket),
    resume = const PARAMETERS + offset_of!(Parameters, resume),
    root = const PARAMETERS + offset_of!(Parameters, root),
    stack = const PARAMETERS + offset_of!(Parameters, stack),
    entry = const PARAMETERS + offset_of!(Parameters, entry),
    argument = const PARAMETERS + offset_of!(Parameters, argument),
    data_32 = const DATA_32,
    offered = const OFFERED,
    taken = const TAKEN,
);

mod labels {
    // SAFETY: defined by the assembly above; only their addresses are taken, and the bytes between them read.
    unsafe extern "C" {
        pub(super) static craton_trampoline_start: u8;
        pub(super) static craton_trampoline_32: u8;
        pub(super) static craton_trampoline_64: u8;
        pub(super) static craton_trampoline_end: u8;
    }
}

/// Where the pages are, once they have been chosen.
static HOME: Once<Hpa> = Once::new();

/// The first of [`PAGES`] pages of conventional memory, if there are as many in a row.
fn choose(regions: &[MemoryRegion]) -> Option<u64> {
    let fit = |from: u64| {
        regions
            .iter()
            .filter(|region| region.kind == MemoryRegionKind::Usable)
            .filter_map(|region| {
                let start = region.start.max(from).next_multiple_of(PAGE_SIZE);
                let end = region.end.min(CONVENTIONAL_END);
                (start.checked_add(PAGES * PAGE_SIZE)? <= end).then_some(start)
            })
            .min()
    };
    // Page 0 holds the firmware's data.
    fit(PREFERRED_FROM).or_else(|| fit(PAGE_SIZE))
}

/// Chooses the pages from the boot loader's memory map. They lie below what the frame allocator takes.
pub(crate) fn reserve(regions: &[MemoryRegion]) {
    if let Some(home) = choose(regions) {
        HOME.call_once(|| Hpa::new(home));
    }
}

/// What a CPU is to do that takes its ticket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination {
    /// The code that loads the tables and the stack: `boot::switch`.
    pub(super) resume: u64,
    /// Physical address of the kernel's top-level page table.
    pub(super) root: Hpa,
    /// Where its stack starts.
    pub(super) stack_top: u64,
    /// The function to call on it.
    pub(super) entry: u64,
    /// Its argument.
    pub(super) argument: u64,
}

/// The pages below 1 MiB, set up for CPUs to start at.
#[derive(Debug)]
pub(super) struct Trampoline {
    home: Hpa,
}

impl Trampoline {
    /// Writes code and tables. `None` when there was no memory for them below 1 MiB.
    ///
    /// # Safety
    /// No CPU may be on its way through the pages.
    pub(super) unsafe fn write() -> Option<Self> {
        let home = *HOME.get()?;
        let start = &raw const labels::craton_trampoline_start;
        let length = (&raw const labels::craton_trampoline_end).addr() - start.addr();
        assert!(length <= PARAMETERS, "the code ends before its parameters");
        let page: *mut u8 = direct_map::pointer(home);
        // SAFETY: the labels enclose the code, and the page is ours.
        unsafe { page.copy_from_nonoverlapping(start, length) };
        let trampoline = Self { home };
        trampoline.write_tables();
        let base = u32::try_from(home.get()).ok()?;
        let offset = |label: *const u8| u32::try_from(label.addr() - start.addr()).ok();
        let gdt_base = base + u32::try_from(PARAMETERS + offset_of!(Parameters, gdt)).ok()?;
        let [low, high] = [gdt_base & 0xffff, gdt_base >> 16].map(|half| u16::try_from(half).unwrap_or(0));
        let parameters = Parameters {
            gdt: GDT,
            gdtr: [u16::try_from(size_of_val(&GDT) - 1).ok()?, low, high, 0],
            to_32: [base + offset(&raw const labels::craton_trampoline_32)?, u32::from(CODE_32)],
            to_64: [base + offset(&raw const labels::craton_trampoline_64)?, u32::from(CODE_64)],
            low_tables: trampoline.table(0).get(),
            ticket: AtomicU64::new(WITHDRAWN),
            resume: 0,
            root: 0,
            stack: 0,
            entry: 0,
            argument: 0,
        };
        // SAFETY: the page is ours, and aligned.
        unsafe { trampoline.parameters().write(parameters) };
        Some(trampoline)
    }

    /// The number of the page, for the start-up IPI.
    pub(super) fn page(&self) -> u8 {
        u8::try_from(self.home.get() / PAGE_SIZE).expect("the page is below 1 MiB")
    }

    /// Offers a ticket to the CPU with the APIC ID `apic_id`.
    ///
    /// # Safety
    /// The destination must be fit for a CPU of its own, and no other ticket be on offer or just taken by a CPU that
    /// has not reached its destination.
    pub(super) unsafe fn offer(&self, apic_id: u32, destination: Destination) {
        let parameters = self.parameters();
        for (field, value) in [
            (offset_of!(Parameters, resume), destination.resume),
            (offset_of!(Parameters, root), destination.root.get()),
            (offset_of!(Parameters, stack), destination.stack_top),
            (offset_of!(Parameters, entry), destination.entry),
            (offset_of!(Parameters, argument), destination.argument),
        ] {
            // SAFETY: inside the parameters.
            let place = unsafe { parameters.byte_add(field) };
            // SAFETY: the page is ours, and no CPU reads these without a ticket.
            unsafe { place.cast::<u64>().write_volatile(value) };
        }
        self.ticket().store(u64::from(apic_id) << 32 | OFFERED, Ordering::SeqCst);
    }

    /// Whether the CPU with the APIC ID `apic_id` took its ticket.
    pub(super) fn is_taken(&self, apic_id: u32) -> bool {
        self.ticket().load(Ordering::SeqCst) == u64::from(apic_id) << 32 | TAKEN
    }

    /// Takes the ticket back from the CPU with the APIC ID `apic_id`; `false` when it has just been taken.
    pub(super) fn withdraw(&self, apic_id: u32) -> bool {
        let offered = u64::from(apic_id) << 32 | OFFERED;
        self.ticket().compare_exchange(offered, WITHDRAWN, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn parameters(&self) -> *mut Parameters {
        direct_map::pointer(self.home + PARAMETERS as u64)
    }

    fn ticket(&self) -> &AtomicU64 {
        let place: *mut u64 =
            direct_map::pointer(self.home + (PARAMETERS + offset_of!(Parameters, ticket)) as u64);
        // SAFETY: the page is ours for ever; the word is accessed atomically by whoever does.
        unsafe { AtomicU64::from_ptr(place) }
    }

    /// The table numbered `index`, from the top.
    fn table(&self, index: u64) -> Hpa {
        self.home + (1 + index) * PAGE_SIZE
    }

    /// Tables that map the first 2 MiB where they are, and the kernel.
    fn write_tables(&self) {
        /// Present, writable.
        const TABLE: u64 = 0b11;
        /// Present, writable, a large page, accessed and dirty.
        const LARGE: u64 = 0b1110_0011;
        let mut top = [0; 512];
        top[0] = self.table(1).get() | TABLE;
        top[256..].copy_from_slice(&tables::upper_half());
        let mut directories = [0; 512];
        directories[0] = self.table(2).get() | TABLE;
        let mut directory = [0; 512];
        directory[0] = LARGE;
        for (index, entries) in (0..).zip([top, directories, directory]) {
            let place: *mut [u64; 512] = direct_map::pointer(self.table(index));
            // SAFETY: the page is ours.
            unsafe { place.write(entries) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, end: u64, kind: MemoryRegionKind) -> MemoryRegion {
        MemoryRegion { start, end, kind }
    }

    #[test]
    fn the_pages_are_the_lowest_fit_above_64_kib() {
        use MemoryRegionKind::{Bootloader, UnknownBios, Usable};
        let regions = [
            region(0, 0x9_fc00, Usable),
            region(0x9_fc00, 0xa_0000, UnknownBios(2)),
            region(0x10_0000, 0x800_0000, Usable),
        ];
        assert_eq!(choose(&regions), Some(0x1_0000));
        let holed = [
            region(0x1000, 0x1_3000, Usable),
            region(0x1_3000, 0x2_0000, Bootloader),
            region(0x2_0800, 0xa_0000, Usable),
        ];
        assert_eq!(choose(&holed), Some(0x2_1000));
    }

    #[test]
    fn lower_memory_is_taken_when_there_is_no_other_but_never_page_0() {
        use MemoryRegionKind::Usable;
        assert_eq!(choose(&[region(0, 0x1_2000, Usable)]), Some(0x1000));
        assert_eq!(choose(&[region(0, 0x4fff, Usable)]), None);
        assert_eq!(choose(&[region(0x9_d000, 0x10_0000, Usable)]), None);
    }
}
