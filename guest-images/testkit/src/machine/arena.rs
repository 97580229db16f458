//! One instruction in any mode and under any paging, up to the exception that ends it: what `trial` is for ring 0 and
//! ring 3 of flat 64-bit and 32-bit code, with segments, control registers and page tables of the caller's choice.
//!
//! Operands are found through `trial`'s window, or, in virtual-8086 mode, through one below 1 MiB. Without paging the
//! segments lead to the pages themselves.
//!
//! Source: SDM Vol. 3A, "Segment Descriptors", "Paging", "32-Bit Task-State Segment".

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use super::cpu::{Msr, halves, read_msr, write_msr};
use super::passage::{self, Kind, LOW_PAGE, Passage};
use super::trial::{self, Bits, CODE, Outcome, Page, Registers, Ring, STACK, WINDOW, flag};

/// Virtual-8086 mode's code and window: linear addresses below 1 MiB.
const LOW_CODE: u64 = 0x7_8000;
/// See above.
pub(crate) const LOW_WINDOW: u64 = 0x7_c000;
/// Real-address mode's code: a physical address.
const REAL_CODE: u64 = LOW_PAGE + 0x2000;

const LARGE: u64 = 1 << 7;
/// Where the window is in a 4-MiB page and in a 2-MiB page.
const IN_4_MIB: u64 = WINDOW & 0x3f_ffff;
const IN_2_MIB: u64 = WINDOW & 0x1f_ffff;

const CR0_WRITE_PROTECT: u64 = 1 << 16;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAGE_SIZE: u64 = 1 << 4;
const CR4_ADDRESS_EXTENSION: u64 = 1 << 5;
/// CR4.SMEP.
pub(crate) const CR4_SMEP: u64 = 1 << 20;
/// CR4.SMAP.
pub(crate) const CR4_SMAP: u64 = 1 << 21;
/// CR4.PKE.
pub(crate) const CR4_KEYS: u64 = 1 << 22;

/// How linear addresses are translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Paging {
    /// Not at all.
    Off,
    /// 32-bit paging, CR4.PSE clear.
    Legacy,
    /// 32-bit paging, CR4.PSE set, the window in small pages.
    LegacyExtended,
    /// 32-bit paging, the window in a 4-MiB page.
    LegacyLarge,
    /// PAE paging.
    Pae,
    /// PAE paging, the window in a 2-MiB page.
    PaeLarge,
    /// 4-level paging.
    FourLevel,
    /// 4-level paging, the window in a 2-MiB page.
    FourLevelLarge,
}

impl Paging {
    /// Whether the window is in a large page.
    pub(crate) const fn is_large(self) -> bool {
        matches!(self, Self::LegacyLarge | Self::PaeLarge | Self::FourLevelLarge)
    }

    /// Whether entries have 32 bits.
    pub(crate) const fn is_legacy(self) -> bool {
        matches!(self, Self::Legacy | Self::LegacyExtended | Self::LegacyLarge)
    }
}

/// The mode of the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum World {
    /// Real-address mode.
    Real,
    /// Protected mode outside of IA-32e mode.
    Protected(Ring),
    /// Virtual-8086 mode.
    Virtual8086,
    /// Compatibility mode.
    Compatible(Ring),
    /// 64-bit mode.
    Long(Ring),
}

/// Segment registers, in the order of the manual's encodings.
pub(crate) const ES: usize = 0;
pub(crate) const CS: usize = 1;
pub(crate) const SS: usize = 2;
pub(crate) const DS: usize = 3;
pub(crate) const FS: usize = 4;
pub(crate) const GS: usize = 5;

/// A segment register: descriptor, or, in virtual-8086 mode, selector alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    /// Linear address of its first byte.
    pub(crate) base: u64,
    /// The highest offset, or for one that expands down, the highest that is not in it.
    pub(crate) limit: u64,
    /// Type, S, DPL and P as in the descriptor's sixth byte; 0: the null selector.
    pub(crate) rights: u8,
    /// D or B.
    pub(crate) big: bool,
}

impl Segment {
    fn descriptor(self) -> u64 {
        let (limit, granular) =
            if self.limit > 0xf_ffff { (self.limit >> 12, 1_u64 << 55) } else { (self.limit, 0) };
        let big = if self.big { 1 << 54 } else { 0 };
        (limit & 0xffff)
            | (limit >> 16 & 0xf) << 48
            | (self.base & 0xff_ffff) << 16
            | (self.base >> 24 & 0xff) << 56
            | u64::from(self.rights) << 40
            | granular
            | big
    }
}

/// Everything around an instruction.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) world: World,
    pub(crate) paging: Paging,
    pub(crate) write_protect: bool,
    /// Of CR4: SMEP, SMAP and PKE.
    pub(crate) cr4: u64,
    pub(crate) keys: u32,
    pub(crate) segments: [Segment; 6],
    /// Where the two pages of the window are.
    pub(crate) pages: [u64; 2],
    /// Flags of their entries; of a large page's, the first.
    pub(crate) flags: [u64; 2],
    /// Flags of the directory's entry, if that leads to a table.
    pub(crate) directory: u64,
}

#[repr(C, align(4096))]
struct NarrowPage([AtomicU32; 1024]);

impl NarrowPage {
    const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; 1024])
    }

    fn address(&self) -> u64 {
        (&raw const *self).expose_provenance() as u64
    }

    fn set(&self, index: u64, entry: u64) {
        self.0[usize::try_from(index & 1023).unwrap_or(0)].store(halves(entry)[0], SeqCst);
    }

    fn get(&self, index: u64) -> u64 {
        u64::from(self.0[usize::try_from(index & 1023).unwrap_or(0)].load(SeqCst))
    }
}

/// PAE paging's pointers, and the table of the first 2 MiB for that and for 4-level paging.
static POINTERS: Page = Page::new();
static LOW_TABLE: Page = Page::new();
/// 32-bit paging: one to one for 16 MiB, and tables of code and window.
static DIRECTORY: NarrowPage = NarrowPage::new();
static ONE_TO_ONE: [NarrowPage; 4] = [const { NarrowPage::new() }; 4];
static CODE_TABLE: NarrowPage = NarrowPage::new();
static WINDOW_TABLE: NarrowPage = NarrowPage::new();

/// The descriptors: the program's own first, those of an instruction behind.
#[unsafe(no_mangle)]
static testkit_arena_table: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
const TASK_64: usize = 7;
const FIRST_OWN: usize = 20;
const TASK_32: usize = 26;
const REAL: usize = 27;

#[repr(C, align(128))]
struct TaskState([AtomicU32; 26]);
static TASK_STATE: TaskState = TaskState([const { AtomicU32::new(0) }; 26]);

unsafe extern "C" {
    static boot_pd: [AtomicU64; 2048];
}

fn directory() -> &'static [AtomicU64; 2048] {
    // SAFETY: the tables exist for the whole run and are only touched by atomic operations.
    unsafe { &boot_pd }
}

/// Writes a byte of physical memory that is nobody's.
pub(super) fn poke(at: u64, value: u8) {
    let at: *mut u8 = core::ptr::with_exposed_provenance_mut(usize::try_from(at).expect("64 bits"));
    // SAFETY: below 1 MiB there is nothing of Rust's, and what loaders left there has been read.
    unsafe { at.write_volatile(value) };
}

/// Prepares everything, behind [`trial::prepare`]. For the rest of the run.
pub(crate) fn prepare() {
    let path = flag::PRESENT | flag::WRITABLE | flag::USER;
    for (page, entry) in LOW_TABLE.0.iter().enumerate() {
        entry.store((page as u64) << 12 | flag::PRESENT | flag::WRITABLE, SeqCst);
    }
    directory()[0].store(LOW_TABLE.address() | path, SeqCst);
    for (index, pointer) in POINTERS.0[..4].iter().enumerate() {
        let table = (&raw const directory()[512 * index]).expose_provenance() as u64;
        pointer.store(table | flag::PRESENT, SeqCst);
    }
    for (table, low) in ONE_TO_ONE.iter().enumerate() {
        for page in 0..1024 {
            low.set(page, (table as u64) << 22 | page << 12 | flag::PRESENT | flag::WRITABLE);
        }
        DIRECTORY.set(table as u64, low.address() | path);
    }
    DIRECTORY.set(CODE >> 22, CODE_TABLE.address() | path);

    TASK_STATE.0[1].store(passage::exception_stack(), SeqCst);
    TASK_STATE.0[2].store(0x10, SeqCst);
    let mut pointer = [0_u8; 10];
    // SAFETY: writes ten bytes to the array.
    unsafe {
        asm!("sgdt [{}]", in(reg) &raw mut pointer, options(nostack));
    }
    let [_, _, base @ ..] = pointer;
    let old = u64::from_le_bytes(base);
    for (index, word) in testkit_arena_table[..FIRST_OWN].iter().enumerate() {
        word.store(super::physical::read_u64(old + 8 * index as u64), SeqCst);
    }
    let task = TASK_STATE.0.as_ptr().expose_provenance() as u64;
    let at = |base, limit, rights, big| Segment { base, limit, rights, big }.descriptor();
    testkit_arena_table[TASK_32].store(at(task, 103, 0x89, false), SeqCst);
    testkit_arena_table[REAL].store(at(LOW_PAGE, 0xffff, 0x9b, false), SeqCst);
    let limit = u16::try_from(size_of_val(&testkit_arena_table) - 1).unwrap_or(0);
    pointer[..2].copy_from_slice(&limit.to_le_bytes());
    pointer[2..].copy_from_slice(&(testkit_arena_table.as_ptr().addr() as u64).to_le_bytes());
    // SAFETY: the new table has the same descriptors where the old one had some.
    unsafe {
        asm!("lgdt [{}]", in(reg) &raw const pointer, options(nostack));
    }
    passage::prepare();
    reload_cr3();
}

fn reload_cr3() {
    // SAFETY: the same page tables as before.
    unsafe {
        asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags));
    }
}

/// Where an instruction at `offset` in the code pages stands: linear address, and that of the pages.
pub(crate) fn code_base(world: World, paging: Paging) -> u64 {
    match (world, paging) {
        (World::Real, _) => REAL_CODE,
        (World::Virtual8086, _) => LOW_CODE,
        (_, Paging::Off) => trial::code_page(0),
        (_, _) => CODE,
    }
}

/// Where the stack of ring 0 is.
pub(crate) fn stack_base(paging: Paging) -> u64 {
    if paging == Paging::Off { trial::stack_page() } else { STACK }
}

/// Where an instruction sees the window.
pub(crate) fn window(world: World) -> u64 {
    if world == World::Virtual8086 { LOW_WINDOW } else { WINDOW }
}

/// The entries of the window as they are now: of its pages, and of the directory.
pub(crate) fn entries(setup: &Setup) -> [u64; 3] {
    const FLAGS: u64 = 0xfff | 0xfff << 52;
    let linear = window(setup.world);
    let low = setup.world == World::Virtual8086;
    let page = linear >> 12;
    let found = match setup.paging {
        Paging::Off => [0; 3],
        Paging::Legacy | Paging::LegacyExtended | Paging::LegacyLarge if low => {
            [ONE_TO_ONE[0].get(page), ONE_TO_ONE[0].get(page + 1), 0]
        }
        Paging::Legacy | Paging::LegacyExtended | Paging::LegacyLarge => {
            [WINDOW_TABLE.get(page), WINDOW_TABLE.get(page + 1), DIRECTORY.get(linear >> 22)]
        }
        Paging::Pae | Paging::PaeLarge | Paging::FourLevel | Paging::FourLevelLarge if low => {
            let at = |page: u64| LOW_TABLE.0[usize::try_from(page & 511).unwrap_or(0)].load(SeqCst);
            [at(page), at(page + 1), 0]
        }
        Paging::Pae | Paging::PaeLarge | Paging::FourLevel | Paging::FourLevelLarge => {
            let [first, second] = trial::window_entries();
            [first, second, directory()[trial::WINDOW_ENTRY].load(SeqCst)]
        }
    };
    found.map(|entry| entry & FLAGS)
}

fn lay_out(setup: &Setup, user: u64) {
    let touched = flag::PRESENT | flag::WRITABLE | flag::ACCESSED | flag::DIRTY | user;
    let code = [0, 1].map(|page| trial::code_page(page) | touched);
    let stack = trial::stack_page() | touched;
    let window = [0, 1].map(|page| setup.pages[page] | setup.flags[page]);
    let low = setup.world == World::Virtual8086;
    let narrow = |table: &NarrowPage, at: u64, entries: [u64; 2]| {
        table.set(at >> 12, entries[0]);
        table.set((at >> 12) + 1, entries[1]);
    };
    match setup.paging {
        Paging::Off => {}
        Paging::Legacy | Paging::LegacyExtended | Paging::LegacyLarge if low => {
            narrow(&ONE_TO_ONE[0], LOW_CODE, code);
            narrow(&ONE_TO_ONE[0], LOW_WINDOW, window);
        }
        Paging::Legacy | Paging::LegacyExtended | Paging::LegacyLarge => {
            narrow(&CODE_TABLE, CODE, code);
            CODE_TABLE.set(STACK >> 12, stack);
            narrow(&WINDOW_TABLE, WINDOW, window);
            let entry = if setup.paging == Paging::LegacyLarge {
                (setup.pages[0] - IN_4_MIB) | setup.flags[0] | LARGE
            } else {
                WINDOW_TABLE.address() | setup.directory
            };
            DIRECTORY.set(WINDOW >> 22, entry);
        }
        Paging::Pae | Paging::PaeLarge | Paging::FourLevel | Paging::FourLevelLarge => {
            if low {
                let first = usize::try_from(LOW_CODE >> 12).unwrap_or(0);
                for (index, entry) in code.into_iter().enumerate() {
                    LOW_TABLE.0[first + index].store(entry, SeqCst);
                }
                let first = usize::try_from(LOW_WINDOW >> 12).unwrap_or(0);
                for (index, entry) in window.into_iter().enumerate() {
                    LOW_TABLE.0[first + index].store(entry, SeqCst);
                }
                return;
            }
            trial::map_own_pages(user);
            let directory = if setup.paging.is_large() {
                (setup.pages[0] - IN_2_MIB) | setup.flags[0] | LARGE
            } else {
                trial::window_table() | setup.directory
            };
            trial::map_window(window, directory);
        }
    }
}

/// Runs the instruction at `offset` in the code pages.
pub(crate) fn run(setup: &Setup, offset: usize, eip: u64, rflags: u64, registers: &Registers) -> Outcome {
    let user = match setup.world {
        World::Protected(Ring::User) | World::Compatible(Ring::User) | World::Long(Ring::User) => flag::USER,
        World::Virtual8086 => flag::USER,
        World::Real | World::Protected(Ring::Kernel) => 0,
        World::Compatible(Ring::Kernel) | World::Long(Ring::Kernel) => 0,
    };
    lay_out(setup, user);
    match setup.world {
        World::Long(ring) => {
            set_control(setup);
            let wanted = [FS, GS].map(|register| setup.segments[register].base);
            if wanted == [0; 2] {
                return finish(trial::run_as_laid_out(offset, Bits::SixtyFour, ring, rflags, registers));
            }
            let before = [read_msr(Msr::FsBase), read_msr(Msr::GsBase)];
            set_bases(wanted);
            let outcome = trial::run_as_laid_out(offset, Bits::SixtyFour, ring, rflags, registers);
            set_bases(before);
            finish(outcome)
        }
        World::Compatible(ring) => {
            set_control(setup);
            let selectors = load_descriptors(setup, ring);
            let bases = [read_msr(Msr::FsBase), read_msr(Msr::GsBase)];
            let frame = [selectors[CS], selectors[SS]].map(u64::from);
            let data = [DS, ES, FS, GS].map(|register| u64::from(selectors[register]));
            let outcome = trial::run_in_segments(eip, frame, data, rflags, registers);
            put_back(bases);
            finish(outcome)
        }
        World::Real | World::Protected(_) | World::Virtual8086 => {
            for (at, page) in [(REAL_CODE, 0), (REAL_CODE + 0x1000, 1)] {
                if setup.world == World::Real {
                    copy_code(page, at, offset);
                }
            }
            pass(setup, eip, rflags, registers)
        }
    }
}

/// Copies what is near `offset` of code page `page` to physical address `to`.
fn copy_code(page: usize, to: u64, offset: usize) {
    let from = trial::code_page(page);
    let first = offset.saturating_sub(0x1000 * page).min(0x1000) as u64;
    let last = (first + 20).min(0x1000);
    for byte in first..last {
        poke(to + byte, super::physical::read_u8(from + byte));
    }
}

/// Sets CR0.WP, CR4 and PKRU for the modes that share them with this program.
fn set_control(setup: &Setup) {
    let (cr0, cr4): (u64, u64);
    // SAFETY: reading control registers changes nothing.
    unsafe {
        asm!("mov {}, cr0", "mov {}, cr4", out(reg) cr0, out(reg) cr4, options(nomem, nostack));
    }
    let new = cr4 & !(CR4_SMEP | CR4_SMAP | CR4_KEYS) | setup.cr4;
    if new != cr4 {
        // SAFETY: this program's own pages are of ring 0 alone.
        unsafe {
            asm!("mov cr4, {}", in(reg) new, options(nostack));
        }
    }
    if new & CR4_KEYS != 0 {
        // SAFETY: as above; there are protection keys if the bit could be set.
        unsafe {
            asm!("wrpkru", in("eax") setup.keys, in("ecx") 0, in("edx") 0, options(nostack));
        }
    }
    let protect = if setup.write_protect { CR0_WRITE_PROTECT } else { 0 };
    let new = cr0 & !CR0_WRITE_PROTECT | protect;
    if new != cr0 {
        // SAFETY: as above.
        unsafe {
            asm!("mov cr0, {}", in(reg) new, options(nostack));
        }
    }
}

/// Writes the descriptors and says which selectors they have.
fn load_descriptors(setup: &Setup, ring: Ring) -> [u32; 6] {
    let level = match ring {
        Ring::Kernel => 0,
        Ring::User => 3,
    };
    let mut selectors = [0; 6];
    for (register, segment) in setup.segments.iter().enumerate() {
        testkit_arena_table[FIRST_OWN + register].store(segment.descriptor(), SeqCst);
        if segment.rights != 0 {
            selectors[register] = u32::try_from(8 * (FIRST_OWN + register)).unwrap_or(0) | level;
        }
    }
    selectors
}

/// Flat data segments again, with the bases that FS and GS had.
fn put_back(bases: [u64; 2]) {
    const USER_DATA: u32 = 0x33;
    // SAFETY: a flat data segment.
    unsafe {
        asm!("mov ds, {0:x}", "mov es, {0:x}", "mov fs, {0:x}", "mov gs, {0:x}", in(reg) USER_DATA, options(nostack));
    }
    set_bases(bases);
}

/// Sets the bases of FS and GS. That of GS has to be put back before anything looks for what belongs to the CPU.
fn set_bases([fs, gs]: [u64; 2]) {
    write_msr(Msr::FsBase, fs);
    write_msr(Msr::GsBase, gs);
}

fn pass(setup: &Setup, eip: u64, rflags: u64, registers: &Registers) -> Outcome {
    let (cr0, cr4): (u64, u64);
    let cr3 = if setup.paging.is_legacy() { DIRECTORY.address() } else { POINTERS.address() };
    // SAFETY: reading control registers changes nothing.
    unsafe {
        asm!("mov {}, cr0", "mov {}, cr4", out(reg) cr0, out(reg) cr4, options(nomem, nostack));
    }
    let protect = if setup.write_protect { CR0_WRITE_PROTECT } else { 0 };
    let paging = if setup.paging == Paging::Off { 0 } else { CR0_PAGING };
    let extension = match setup.paging {
        Paging::Legacy => 0,
        Paging::LegacyExtended | Paging::LegacyLarge => CR4_PAGE_SIZE,
        Paging::Off | Paging::Pae | Paging::PaeLarge => CR4_ADDRESS_EXTENSION,
        Paging::FourLevel | Paging::FourLevelLarge => CR4_ADDRESS_EXTENSION,
    };
    let ours = CR4_SMEP | CR4_SMAP | CR4_KEYS | CR4_PAGE_SIZE | CR4_ADDRESS_EXTENSION;
    let (kind, ring) = match setup.world {
        World::Real => (Kind::Real, Ring::Kernel),
        World::Virtual8086 => (Kind::Virtual8086, Ring::User),
        World::Protected(Ring::User) => (Kind::User, Ring::User),
        World::Protected(Ring::Kernel) | World::Compatible(_) | World::Long(_) => {
            (Kind::Kernel, Ring::Kernel)
        }
    };
    let mut passage = Passage::new();
    passage.cr0 = halves(cr0 & !CR0_WRITE_PROTECT & !CR0_PAGING | protect | paging)[0];
    passage.cr3 = halves(cr3)[0];
    passage.cr4 = halves(cr4 & !ours | setup.cr4 | extension)[0];
    passage.kind = kind as u32;
    let mut selectors = load_descriptors(setup, ring);
    if kind == Kind::Virtual8086 {
        selectors = setup.segments.map(|segment| halves(segment.base >> 4)[0]);
    }
    if kind == Kind::Real {
        selectors[CS] = halves(REAL_CODE >> 4)[0];
    }
    passage.selectors = [DS, ES, FS, GS, SS].map(|register| selectors[register]);
    passage.cs = selectors[CS];
    let [eax, ecx, edx, ebx, esp, ebp, esi, edi, ..] = registers.map(|value| halves(value)[0]);
    passage.registers = [eax, ecx, edx, ebx, ebp, esi, edi];
    passage.esp = esp;
    passage.eip = halves(eip)[0];
    passage.eflags = halves(rflags)[0];
    if kind == Kind::Virtual8086 {
        passage.eflags |= 1 << 17;
    }
    let bases = [read_msr(Msr::FsBase), read_msr(Msr::GsBase)];
    passage::pass(&mut passage);
    super::trap::load();
    put_back(bases);
    testkit_arena_table[TASK_64].fetch_and(!(1 << 41), SeqCst);
    // SAFETY: the task state that was loaded before, no longer busy.
    unsafe {
        asm!("ltr {0:x}", in(reg) 8 * TASK_64, options(nostack));
    }
    let vector = u64::from(passage.vector);
    finish(Outcome {
        vector,
        error: u64::from(passage.error),
        rip: u64::from(passage.end_eip).wrapping_sub(eip),
        rflags: u64::from(passage.end_eflags),
        cr2: if vector == 14 { trial::cr2() } else { 0 },
        dr6: 0,
        registers: passage::registers_of(&passage),
    })
}

/// Adds DR6 to what a single step left.
fn finish(outcome: Outcome) -> Outcome {
    const AT_REST: u64 = 0xffff_0ff0;
    if outcome.vector != 1 {
        return outcome;
    }
    let dr6: u64;
    // SAFETY: reads DR6, and puts it back to its state at rest.
    unsafe {
        asm!("mov {0}, dr6", "mov dr6, {1}", out(reg) dr6, in(reg) AT_REST, options(nostack));
    }
    Outcome { dr6, ..outcome }
}
