//! One instruction from a given state, in ring 0 or 3, in 64-bit or compatibility mode, up to the exception that ends it.
//!
//! The instruction stands in a page of code with an INT3 behind it. It finds its operands through a window of two pages,
//! each of which shows memory or a page of a device, with page-table flags of the caller's choice; what is around the
//! window is not mapped. Nothing but the exception that ends the trial leaves it.
//!
//! Source: SDM Vol. 3A, "IRET in IA-32e Mode", "64-Bit TSS Format", "Page Tables".

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use super::cpu::{Msr, read_msr, write_msr};
use super::trap::{self, Frame as TrapFrame};

/// Linear address of the code and of the stack: in a stretch of 2 MiB of their own.
pub(crate) const CODE: u64 = 0xbf80_0000;
pub(super) const STACK: u64 = CODE + 0x4000;
/// The window: in another stretch, for which a directory has an entry of its own, of whatever size.
pub(crate) const WINDOW: u64 = 0xbff0_0000;
/// Its size in bytes.
pub(crate) const WINDOW_BYTES: u64 = 0x2000;
/// The stack pointer of a trial: there is room on both sides.
pub(crate) const STACK_POINTER: u64 = STACK + 0x800;

const DIRECTORY_ENTRY: usize = (CODE >> 21) as usize;
/// The window's entry in the directories, counted through.
pub(super) const WINDOW_ENTRY: usize = (WINDOW >> 21) as usize;

/// Page-table flags.
pub(crate) mod flag {
    /// Present.
    pub(crate) const PRESENT: u64 = 1;
    /// Writable.
    pub(crate) const WRITABLE: u64 = 1 << 1;
    /// For ring 3, too.
    pub(crate) const USER: u64 = 1 << 2;
    /// Accessed.
    pub(crate) const ACCESSED: u64 = 1 << 5;
    /// Dirty.
    pub(crate) const DIRTY: u64 = 1 << 6;
}

/// A page of words.
#[repr(C, align(4096))]
pub(crate) struct Page(pub(crate) [AtomicU64; 512]);

impl Page {
    pub(super) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    /// Its physical address.
    pub(crate) fn address(&self) -> u64 {
        (&raw const *self).expose_provenance() as u64
    }
}

static TABLE: Page = Page::new();
static WINDOW_TABLE: Page = Page::new();
static CODE_PAGES: [Page; 2] = [const { Page::new() }; 2];
static STACK_PAGE: Page = Page::new();
/// Memory for the window: one copy for each way of running an instruction.
pub(crate) static MEMORY: [[Page; 2]; 2] = [const { [const { Page::new() }; 2] }; 2];

/// The kind of code that an instruction is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bits {
    /// 64-bit mode.
    SixtyFour,
    /// Compatibility mode, 32-bit.
    ThirtyTwo,
}

/// Who executes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ring {
    /// CPL 0.
    Kernel,
    /// CPL 3.
    User,
}

/// The general-purpose registers, in the order of the manual's encodings, RSP among them.
pub(crate) type Registers = [u64; 16];
/// Where RSP is among them.
pub(crate) const RSP: usize = 4;

/// What a trial begins with. The layout is that of the assembly below: registers without RSP, then an IRET frame.
#[repr(C)]
struct Entry {
    registers: [u64; 15],
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// How a trial ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    /// The exception.
    pub(crate) vector: u64,
    /// Its error code.
    pub(crate) error: u64,
    /// RIP of the frame, from the start of the instruction.
    pub(crate) rip: u64,
    /// RFLAGS of the frame.
    pub(crate) rflags: u64,
    /// CR2, for a page fault; else 0.
    pub(crate) cr2: u64,
    /// DR6, for a debug exception that was asked for it; else 0.
    pub(crate) dr6: u64,
    /// All registers.
    pub(crate) registers: Registers,
}

global_asm!(
    r#"
    .section .text.trial, "ax"
    .code64
    .global testkit_trial_enter
testkit_trial_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rip + testkit_trial_rsp], rsp
    mov rsp, rdi
    pop rax
    pop rcx
    pop rdx
    pop rbx
    pop rbp
    pop rsi
    pop rdi
    pop r8
    pop r9
    pop r10
    pop r11
    pop r12
    pop r13
    pop r14
    pop r15
    iretq
    // RSI: DS, ES, FS and GS.
    .global testkit_trial_enter_segments
testkit_trial_enter_segments:
    mov eax, [rsi]
    mov ecx, [rsi + 8]
    mov edx, [rsi + 16]
    mov esi, [rsi + 24]
    mov ds, eax
    mov es, ecx
    mov fs, edx
    mov gs, esi
    jmp testkit_trial_enter
    .global testkit_trial_back
testkit_trial_back:
    cld
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

    .section .bss.trial, "aw", @nobits
    .balign 8
    .global testkit_trial_rsp
testkit_trial_rsp: .skip 8
"#
);

unsafe extern "C" {
    /// Loads the registers of the entry and goes on there; comes back by `finish`.
    fn testkit_trial_enter(entry: *const Entry);
    /// The same with these selectors in DS, ES, FS and GS, which stay.
    fn testkit_trial_enter_segments(entry: *const Entry, selectors: *const [u64; 4]);
    static testkit_trial_back: u8;
    static testkit_trial_rsp: AtomicU64;
    static testkit_tss_descriptor: [AtomicU64; 2];
    static boot_pml4: [AtomicU64; 512];
    static boot_pdpt: [AtomicU64; 512];
    static boot_pd: [AtomicU64; 2048];
}

/// The vector of INT3.
const BREAKPOINT: usize = 3;
/// Selectors.
const KERNEL_DATA: u64 = 0x10;
const USER_DATA: u64 = 0x33;

static UNDER_WAY: AtomicBool = AtomicBool::new(false);
/// What the last trial ended with: vector, error code, RIP, RFLAGS, CR2, then the registers.
static END: [AtomicU64; 21] = [const { AtomicU64::new(0) }; 21];

/// Whether the exception of `frame` ends a trial; if so, it is written down, and the handler's return goes to the code
/// behind the trial.
pub(super) fn ends(frame: &mut TrapFrame) -> bool {
    if !UNDER_WAY.swap(false, Relaxed) {
        return false;
    }
    const PAGE_FAULT: u64 = 14;
    let cr2 = if frame.vector == PAGE_FAULT { cr2() } else { 0 };
    let [r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rdx, rcx, rbx, rax] = frame.registers;
    let registers: Registers =
        [rax, rcx, rdx, rbx, frame.rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];
    let facts = [frame.vector, frame.error, frame.rip, frame.rflags, cr2];
    for (slot, value) in END.iter().zip(facts.into_iter().chain(registers)) {
        slot.store(value, Relaxed);
    }
    frame.rip = (&raw const testkit_trial_back).addr() as u64;
    frame.cs = 0x08;
    frame.rflags = 2;
    // SAFETY: a word of the program's own, written by `testkit_trial_enter`.
    frame.rsp = unsafe { &testkit_trial_rsp }.load(Relaxed);
    frame.ss = KERNEL_DATA;
    true
}

/// CR2.
pub(super) fn cr2() -> u64 {
    let cr2: u64;
    // SAFETY: reading CR2 changes nothing.
    unsafe {
        asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack));
    }
    cr2
}

/// Prepares trials: the window's page table, a task state with a stack for ring 3's exceptions, data segments for every
/// ring, SSE and, where there is XSAVE, AVX. For the rest of the run.
pub(crate) fn prepare() {
    let path = flag::PRESENT | flag::WRITABLE | flag::USER;
    // SAFETY: the tables exist for the whole run and are only touched by atomic operations.
    let (pml4, pdpt, pd) = unsafe { (&boot_pml4, &boot_pdpt, &boot_pd) };
    pml4[0].fetch_or(flag::USER, SeqCst);
    pdpt[DIRECTORY_ENTRY / 512].fetch_or(flag::USER, SeqCst);
    pd[DIRECTORY_ENTRY].store(TABLE.address() | path, SeqCst);
    pdpt[WINDOW_ENTRY / 512].fetch_or(flag::USER, SeqCst);
    pd[WINDOW_ENTRY].store(WINDOW_TABLE.address() | path, SeqCst);
    install_task_state();
    trap::allow_from_ring_3(BREAKPOINT);
    let gs_base = read_msr(Msr::GsBase);
    // SAFETY: a flat data segment like the one before, but for ring 3 too; FS is used by nobody.
    unsafe {
        asm!("mov ds, {0:x}", "mov es, {0:x}", "mov fs, {0:x}", "mov gs, {0:x}", in(reg) USER_DATA, options(nostack));
    }
    // Loading GS has changed its base.
    write_msr(Msr::GsBase, gs_base);
    forget_all();
}

/// A task state of which only the stack of ring 0 is used. SDM Vol. 3A, "64-Bit TSS Format".
#[repr(C, align(128))]
struct TaskState([AtomicU64; 13]);

static TASK_STATE: TaskState = TaskState([const { AtomicU64::new(0) }; 13]);
static TRAP_STACK: [Page; 4] = [const { Page::new() }; 4];

fn install_task_state() {
    /// Descriptor type: a 64-bit task state, not busy, present.
    const AVAILABLE_TASK: u64 = 0x89 << 40;
    const TASK_SELECTOR: u16 = 0x38;
    let top = TRAP_STACK[0].address() + size_of_val(&TRAP_STACK) as u64;
    let task = (&raw const TASK_STATE).addr() as u64;
    // RSP0 is at byte 4: the words are 4 bytes off.
    TASK_STATE.0[0].store(top << 32, Relaxed);
    TASK_STATE.0[1].store(top >> 32, Relaxed);
    // SAFETY: the descriptor is in the GDT's data and only touched by programs that are not run together.
    let descriptor = unsafe { &testkit_tss_descriptor };
    let limit = size_of::<TaskState>() as u64 - 1;
    descriptor[0]
        .store(limit | (task & 0xff_ffff) << 16 | AVAILABLE_TASK | (task >> 24 & 0xff) << 56, Relaxed);
    descriptor[1].store(task >> 32, Relaxed);
    // SAFETY: the descriptor is that of a task state that lives for ever.
    unsafe {
        asm!("ltr {0:x}", in(reg) TASK_SELECTOR, options(nostack));
    }
}

/// Drops all translations of this CPU that are not global: none is.
fn forget_all() {
    // SAFETY: the same page tables as before.
    unsafe {
        asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags));
    }
}

/// Has page `page`, 0 or 1, of the window show what is at physical address `at`, with page-table flags `flags`.
pub(crate) fn show(page: usize, at: u64, flags: u64) {
    set_entry(&WINDOW_TABLE, WINDOW + 0x1000 * page as u64, at | flags);
}

/// The page-table flags of page `page` of the window, as they are now.
pub(crate) fn flags_of(page: usize) -> u64 {
    window_entries()[page] & 0xfff
}

/// Both entries of the window.
pub(super) fn window_entries() -> [u64; 2] {
    [0, 0x1000].map(|offset| WINDOW_TABLE.0[entry_of(WINDOW + offset)].load(SeqCst))
}

/// Sets both entries of the window, and the one above them.
pub(super) fn map_window(entries: [u64; 2], directory: u64) {
    // SAFETY: the tables exist for the whole run and are only touched by atomic operations.
    let pd = unsafe { &boot_pd };
    pd[WINDOW_ENTRY].store(directory, SeqCst);
    set_entry(&WINDOW_TABLE, WINDOW, entries[0]);
    set_entry(&WINDOW_TABLE, WINDOW + 0x1000, entries[1]);
}

/// Physical addresses of the window's table, of the code pages and of the stack.
pub(super) fn window_table() -> u64 {
    WINDOW_TABLE.address()
}

pub(super) fn code_page(page: usize) -> u64 {
    CODE_PAGES[page].address()
}

pub(super) fn stack_page() -> u64 {
    STACK_PAGE.address()
}

fn entry_of(address: u64) -> usize {
    usize::try_from((address >> 12) & 0x1ff).expect("nine bits")
}

fn set_entry(table: &Page, address: u64, entry: u64) {
    table.0[entry_of(address)].store(entry, SeqCst);
    // SAFETY: INVLPG only drops a cached translation.
    unsafe {
        asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags));
    }
}

/// Puts `code` and an INT3 at `offset` in the code pages.
pub(crate) fn write_code(offset: usize, code: &[u8]) {
    const INT3: u8 = 0xcc;
    for (at, byte) in (offset..).zip(code.iter().chain(&[INT3])) {
        let word = &CODE_PAGES[at / 4096].0[at % 4096 / 8];
        let mut bytes = word.load(Relaxed).to_le_bytes();
        bytes[at % 8] = *byte;
        word.store(u64::from_le_bytes(bytes), Relaxed);
    }
}

/// The word of the stack page that is `words` above the stack pointer of a trial.
pub(crate) fn stack_word(words: isize) -> &'static AtomicU64 {
    let middle = usize::try_from((STACK_POINTER - STACK) / 8).expect("small");
    &STACK_PAGE.0[middle.wrapping_add_signed(words)]
}

/// Maps code and stack, with `user` among their flags or 0.
pub(super) fn map_own_pages(user: u64) {
    let touched = flag::PRESENT | flag::WRITABLE | flag::ACCESSED | flag::DIRTY | user;
    for (page, at) in [CODE, CODE + 0x1000].into_iter().enumerate() {
        set_entry(&TABLE, at, CODE_PAGES[page].address() | touched);
    }
    set_entry(&TABLE, STACK, STACK_PAGE.address() | touched);
}

/// Runs the instruction at `offset` in the code pages.
pub(crate) fn run(offset: usize, bits: Bits, ring: Ring, rflags: u64, registers: &Registers) -> Outcome {
    map_own_pages(match ring {
        Ring::Kernel => 0,
        Ring::User => flag::USER,
    });
    run_as_laid_out(offset, bits, ring, rflags, registers)
}

/// The same with code and stack mapped already.
pub(super) fn run_as_laid_out(
    offset: usize,
    bits: Bits,
    ring: Ring,
    rflags: u64,
    registers: &Registers,
) -> Outcome {
    let segments = match (bits, ring) {
        (Bits::SixtyFour, Ring::Kernel) => [0x08, KERNEL_DATA],
        (Bits::ThirtyTwo, Ring::Kernel) => [0x20, KERNEL_DATA],
        (Bits::SixtyFour, Ring::User) => [0x4b, USER_DATA],
        (Bits::ThirtyTwo, Ring::User) => [0x2b, USER_DATA],
    };
    let entry = Entry::new(CODE + offset as u64, segments, rflags, registers);
    UNDER_WAY.store(true, Relaxed);
    // SAFETY: the code reaches nothing but its registers, its stack and the window, and ends in an exception, whose
    // handler has all registers that this function must keep put back.
    unsafe { testkit_trial_enter(&raw const entry) };
    outcome_of(entry.rip)
}

/// Runs the instruction at `eip` with these selectors in CS and SS, and in DS, ES, FS and GS, where they stay.
pub(super) fn run_in_segments(
    eip: u64,
    frame: [u64; 2],
    data: [u64; 4],
    rflags: u64,
    registers: &Registers,
) -> Outcome {
    let entry = Entry::new(eip, frame, rflags, registers);
    UNDER_WAY.store(true, Relaxed);
    // SAFETY: as above; the handler needs none of these segments.
    unsafe { testkit_trial_enter_segments(&raw const entry, &raw const data) };
    outcome_of(eip)
}

impl Entry {
    fn new(rip: u64, [cs, ss]: [u64; 2], rflags: u64, registers: &Registers) -> Self {
        let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = *registers;
        let registers = [rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];
        Self { registers, rip, cs, rflags, rsp, ss }
    }
}

/// What the trial that began at `rip` ended with.
fn outcome_of(rip: u64) -> Outcome {
    let value = |index: usize| END[index].load(Relaxed);
    Outcome {
        vector: value(0),
        error: value(1),
        rip: value(2).wrapping_sub(rip),
        rflags: value(3),
        cr2: value(4),
        dr6: 0,
        registers: core::array::from_fn(|index| value(5 + index)),
    }
}

/// The low 32 bytes of the first eight vector registers.
pub(crate) type Vectors = [[u64; 4]; 8];

/// Switches SSE on, and AVX if `avx`, which the CPU must have.
pub(crate) fn enable_vectors(avx: bool) {
    // SAFETY: this soft-float program uses none of the state that is switched on.
    unsafe {
        asm!("mov {0}, cr4", "or {0}, 0x600", "mov cr4, {0}", out(reg) _, options(nostack));
    }
    if avx {
        super::cpu::set_osxsave(super::cpu::Switch::On);
        super::cpu::xsetbv(0, 7).expect("x87, SSE and AVX can be enabled");
    }
}

/// Loads the vector registers; their upper halves only if `avx`.
pub(crate) fn load_vectors(values: &Vectors, avx: bool) {
    if avx {
        // SAFETY: the compiler uses no vector register in this soft-float program.
        unsafe {
            asm!("vmovdqu ymm0, [{0}]", "vmovdqu ymm1, [{0} + 32]", "vmovdqu ymm2, [{0} + 64]", "vmovdqu ymm3, [{0} + 96]", "vmovdqu ymm4, [{0} + 128]", "vmovdqu ymm5, [{0} + 160]", "vmovdqu ymm6, [{0} + 192]", "vmovdqu ymm7, [{0} + 224]", in(reg) values, options(nostack, preserves_flags));
        }
    } else {
        // SAFETY: as above.
        unsafe {
            asm!("movdqu xmm0, [{0}]", "movdqu xmm1, [{0} + 32]", "movdqu xmm2, [{0} + 64]", "movdqu xmm3, [{0} + 96]", "movdqu xmm4, [{0} + 128]", "movdqu xmm5, [{0} + 160]", "movdqu xmm6, [{0} + 192]", "movdqu xmm7, [{0} + 224]", in(reg) values, options(nostack, preserves_flags));
        }
    }
}

/// The vector registers; their upper halves only if `avx`.
pub(crate) fn store_vectors(avx: bool) -> Vectors {
    let mut values: Vectors = [[0; 4]; 8];
    let into = &raw mut values;
    if avx {
        // SAFETY: writes the array alone.
        unsafe {
            asm!("vmovdqu [{0}], ymm0", "vmovdqu [{0} + 32], ymm1", "vmovdqu [{0} + 64], ymm2", "vmovdqu [{0} + 96], ymm3", "vmovdqu [{0} + 128], ymm4", "vmovdqu [{0} + 160], ymm5", "vmovdqu [{0} + 192], ymm6", "vmovdqu [{0} + 224], ymm7", in(reg) into, options(nostack, preserves_flags));
        }
    } else {
        // SAFETY: as above.
        unsafe {
            asm!("movdqu [{0}], xmm0", "movdqu [{0} + 32], xmm1", "movdqu [{0} + 64], xmm2", "movdqu [{0} + 96], xmm3", "movdqu [{0} + 128], xmm4", "movdqu [{0} + 160], xmm5", "movdqu [{0} + 192], xmm6", "movdqu [{0} + 224], xmm7", in(reg) into, options(nostack, preserves_flags));
        }
    }
    values
}

/// Has CR0.AM on, so that EFLAGS.AC checks alignment in ring 3.
pub(crate) fn enable_alignment_checks() {
    // SAFETY: this program runs in ring 0, where nothing is checked.
    unsafe {
        asm!("mov {0}, cr0", "or {0}, 0x40000", "mov cr0, {0}", out(reg) _, options(nostack));
    }
}

/// Has CR4.SMAP on; the CPU must have it.
pub(crate) fn enable_smap() {
    // SAFETY: ring 0 touches user pages in trials alone.
    unsafe {
        asm!("mov {0}, cr4", "or {0}, 0x200000", "mov cr4, {0}", out(reg) _, options(nostack));
    }
}

/// A word of a device, at physical address `at`.
pub(crate) fn device_word(at: u64) -> u64 {
    let at: *const u64 = core::ptr::with_exposed_provenance(usize::try_from(at).expect("64 bits"));
    // SAFETY: the first 4 GiB are mapped; what is there is a device or nothing.
    unsafe { at.read_volatile() }
}

/// Writes a word of a device, at physical address `at`.
pub(crate) fn set_device_word(at: u64, value: u64) {
    let at: *mut u64 = core::ptr::with_exposed_provenance_mut(usize::try_from(at).expect("64 bits"));
    // SAFETY: as above.
    unsafe { at.write_volatile(value) };
}
