//! The way from 64-bit mode to one instruction in real-address, protected or virtual-8086 mode, and back by the exception
//! that ends it.
//!
//! The code runs one to one mapped, whatever paging the instruction has. What it begins with and ends with is in
//! [`Passage`]; descriptors and page tables are `arena`'s.
//!
//! Source: SDM Vol. 3A, "Switching Out of IA-32e Mode", "Mode Switching", "Entering Virtual-8086 Mode".

use core::arch::global_asm;
use core::cell::UnsafeCell;

use super::cpu::halves;
use super::trial::{Page, Registers};

/// Where the code of real-address mode is copied to: the page has to be below 1 MiB.
pub(super) const LOW_PAGE: u64 = 0x7_0000;
/// Selectors in `arena`'s table.
const TASK_SELECTOR: u32 = 0xd0;
const REAL_SELECTOR: u32 = 0xd8;

/// What the passage ends in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Kind {
    /// Protected mode, ring 0: exceptions use the instruction's stack.
    Kernel = 0,
    /// Protected mode, ring 3.
    User = 1,
    /// Virtual-8086 mode.
    Virtual8086 = 2,
    /// Real-address mode: exceptions use the instruction's stack.
    Real = 3,
}

/// What the assembly below works with; the offsets there are those of the fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Passage {
    pub(super) cr0: u32,
    pub(super) cr3: u32,
    pub(super) cr4: u32,
    pub(super) kind: u32,
    /// DS, ES, FS, GS, SS.
    pub(super) selectors: [u32; 5],
    pub(super) esp: u32,
    /// EAX, ECX, EDX, EBX, EBP, ESI, EDI.
    pub(super) registers: [u32; 7],
    pub(super) eip: u32,
    pub(super) cs: u32,
    pub(super) eflags: u32,
    _unused: [u32; 4],
    home: [u32; 3],
    pub(super) vector: u32,
    pub(super) error: u32,
    pub(super) end_eip: u32,
    pub(super) end_cs: u32,
    pub(super) end_eflags: u32,
    pub(super) end_esp: u32,
    pub(super) end_registers: [u32; 7],
    home_rsp: u64,
}

const _: () = assert!(core::mem::offset_of!(Passage, registers) == 40);
const _: () = assert!(core::mem::offset_of!(Passage, home) == 96);
const _: () = assert!(core::mem::offset_of!(Passage, vector) == 108);
const _: () = assert!(core::mem::offset_of!(Passage, end_registers) == 132);
const _: () = assert!(core::mem::offset_of!(Passage, home_rsp) == 160);

impl Passage {
    pub(super) const fn new() -> Self {
        Self {
            cr0: 0,
            cr3: 0,
            cr4: 0,
            kind: 0,
            selectors: [0; 5],
            esp: 0,
            registers: [0; 7],
            eip: 0,
            cs: 0,
            eflags: 0,
            _unused: [0; 4],
            home: [0; 3],
            vector: 0,
            error: 0,
            end_eip: 0,
            end_cs: 0,
            end_eflags: 0,
            end_esp: 0,
            end_registers: [0; 7],
            home_rsp: 0,
        }
    }
}

#[repr(transparent)]
pub(super) struct Slot(UnsafeCell<Passage>);
// SAFETY: only `pass` touches it, and trials run on one CPU, one at a time.
unsafe impl Sync for Slot {}

#[unsafe(no_mangle)]
static testkit_passage: Slot = Slot(UnsafeCell::new(Passage::new()));
/// The stack between the modes, and that of ring 0 for exceptions of other rings.
#[unsafe(no_mangle)]
static testkit_passage_stacks: [Page; 4] = [const { Page::new() }; 4];

global_asm!(
    r#"
    .section .text.passage, "ax"
    .code64
testkit_passage_enter:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, testkit_passage + 160(%rip)
    movq %cr0, %rax
    movl %eax, testkit_passage + 96(%rip)
    movq %cr3, %rax
    movl %eax, testkit_passage + 100(%rip)
    movq %cr4, %rax
    movl %eax, testkit_passage + 104(%rip)
    lidt passage_idt_pointer(%rip)
    pushq $0x20
    leaq 1f(%rip), %rax
    pushq %rax
    lretq

    .code32
1:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $(testkit_passage_stacks + 0x2000), %esp
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl $0xc0000080, %ecx          // IA32_EFER.LME
    rdmsr
    andl $0xfffffeff, %eax
    wrmsr
    movl testkit_passage + 8, %eax
    movl %eax, %cr4
    movl testkit_passage + 4, %eax
    movl %eax, %cr3
    movl testkit_passage, %eax
    movl %eax, %cr0
    jmp 2f
2:  movl testkit_passage + 12, %eax
    cmpl $3, %eax
    je 3f
    andl $0xfffffdff, testkit_arena_table + {task} + 4      // no longer busy
    movl ${task}, %ecx
    ltr %cx
3:  cmpl $2, %eax
    je 5f
    movl testkit_passage + 20, %ecx
    movl %ecx, %es
    movl testkit_passage + 24, %ecx
    movl %ecx, %fs
    movl testkit_passage + 28, %ecx
    movl %ecx, %gs
    cmpl $1, %eax
    je 4f
    movl testkit_passage + 32, %ecx
    movl %ecx, %ss
    movl testkit_passage + 36, %esp
    pushl testkit_passage + 76
    pushl testkit_passage + 72
    pushl testkit_passage + 68
    cmpl $3, %eax
    jne 6f
    lidtl passage_ivt_pointer
    call 7f
    ljmpl ${real}, $(testkit_low_enter - testkit_low)
4:  pushl testkit_passage + 32
    pushl testkit_passage + 36
    pushl testkit_passage + 76
    pushl testkit_passage + 72
    pushl testkit_passage + 68
    jmp 6f
5:  pushl testkit_passage + 28
    pushl testkit_passage + 24
    pushl testkit_passage + 16
    pushl testkit_passage + 20
    pushl testkit_passage + 32
    pushl testkit_passage + 36
    pushl testkit_passage + 76
    pushl testkit_passage + 72
    pushl testkit_passage + 68
    movl $0x10, testkit_passage + 16
6:  call 7f
    popl %eax
    iretl

    // All registers, but EAX: that is on the stack in place of the return address.
7:  popl %edi
    pushl testkit_passage + 40
    pushl %edi
    movl testkit_passage + 44, %ecx
    movl testkit_passage + 48, %edx
    movl testkit_passage + 52, %ebx
    movl testkit_passage + 56, %ebp
    movl testkit_passage + 60, %esi
    movl testkit_passage + 64, %edi
    movl testkit_passage + 16, %eax
    movl %eax, %ds
    ret

    .balign 16
testkit_passage_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    pushl $0
    .endif
    pushl $vector
    jmp 8f
    .set vector, vector + 1
    .endr
8:  pushl %eax
    movl $0x10, %eax
    movl %eax, %ds
    popl testkit_passage + 132
    movl %ecx, testkit_passage + 136
    movl %edx, testkit_passage + 140
    movl %ebx, testkit_passage + 144
    movl %ebp, testkit_passage + 148
    movl %esi, testkit_passage + 152
    movl %edi, testkit_passage + 156
    popl testkit_passage + 108
    popl testkit_passage + 112
    popl testkit_passage + 116
    popl testkit_passage + 120
    popl testkit_passage + 124
    testl $0x20000, testkit_passage + 124
    jnz 9f
    testl $3, testkit_passage + 120
    jnz 9f
    movl %esp, testkit_passage + 128
    jmp 11f
9:  popl testkit_passage + 128
    jmp 11f
testkit_passage_from_real:
    movl $0x10, %eax
    movl %eax, %ds
    popl testkit_passage + 156
    popl testkit_passage + 152
    popl testkit_passage + 148
    popl testkit_passage + 128
    popl testkit_passage + 144
    popl testkit_passage + 140
    popl testkit_passage + 136
    popl testkit_passage + 132
    popw testkit_passage + 108
    popw testkit_passage + 116
    popw testkit_passage + 120
    popw testkit_passage + 124
    movl %esp, testkit_passage + 128
11: movl $0x10, %eax
    movl %eax, %ss
    movl $(testkit_passage_stacks + 0x2000), %esp
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl testkit_passage + 104, %eax
    movl %eax, %cr4
    movl testkit_passage + 100, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl testkit_passage + 96, %eax
    movl %eax, %cr0
    ljmpl $0x08, $12f

    .code64
12: movq testkit_passage + 160(%rip), %rsp
    cld
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    // Copied to `LOW_PAGE`, so it names itself only by offsets.
    .code16
testkit_low:
testkit_low_enter:
    movl %cr0, %eax
    andb $0xfe, %al
    movl %eax, %cr0
    ljmpw ${low}, $(testkit_low_next - testkit_low)
testkit_low_next:
    popl %eax
    iretl
    .balign 8
testkit_low_stubs:
    .set vector, 0
    .rept 32
    .balign 8
    pushw $vector
    jmp 13f
    .set vector, vector + 1
    .endr
13: pushal
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x20, $testkit_passage_from_real
testkit_low_end:
    .code64

    .section .data.passage, "aw"
    .balign 8
passage_idt_pointer:
    .short 32 * 8 - 1
    .quad testkit_passage_idt
    .balign 8
passage_ivt_pointer:
    .short 32 * 4 - 1
    .quad testkit_passage_ivt

    .section .bss.passage, "aw", @nobits
    .balign 16
testkit_passage_idt: .skip 32 * 8
testkit_passage_ivt: .skip 32 * 4
"#,
    task = const TASK_SELECTOR,
    real = const REAL_SELECTOR,
    low = const LOW_PAGE >> 4,
    options(att_syntax)
);

unsafe extern "C" {
    fn testkit_passage_enter();
    static testkit_passage_stubs: [[u8; 16]; 32];
    static testkit_passage_idt: [core::sync::atomic::AtomicU64; 32];
    static testkit_passage_ivt: [core::sync::atomic::AtomicU32; 32];
    static testkit_low: u8;
    static testkit_low_stubs: [[u8; 8]; 32];
    static testkit_low_end: u8;
}

/// Fills the tables of both kinds of vectors and copies the code of real-address mode to its page.
pub(super) fn prepare() {
    use core::sync::atomic::Ordering::SeqCst;
    const BREAKPOINT: usize = 3;
    let stubs = (&raw const testkit_passage_stubs).addr() as u64;
    let low = (&raw const testkit_low).addr() as u64;
    let low_stubs = (&raw const testkit_low_stubs).addr() as u64 - low;
    let low_end = (&raw const testkit_low_end).addr() as u64;
    // SAFETY: the tables exist for ever and are only touched by atomic operations and by the processor.
    let (idt, ivt) = unsafe { (&testkit_passage_idt, &testkit_passage_ivt) };
    for vector in 0..32 {
        let handler = stubs + 16 * vector as u64;
        // A 32-bit interrupt gate, to the code segment 20H; INT3 from ring 3 too.
        let kind = if vector == BREAKPOINT { 0xee00 } else { 0x8e00 };
        let gate = (handler & 0xffff) | 0x20 << 16 | kind << 32 | (handler & 0xffff_0000) << 32;
        idt[vector].store(gate, SeqCst);
        let [far, _] = halves((LOW_PAGE >> 4) << 16 | (low_stubs + 8 * vector as u64));
        ivt[vector].store(far, SeqCst);
    }
    for (to, from) in (LOW_PAGE..).zip(low..low_end) {
        super::arena::poke(to, super::physical::read_u8(from));
    }
}

/// Where ring 0's stack for exceptions of other rings begins.
pub(super) fn exception_stack() -> u32 {
    halves(testkit_passage_stacks[0].address() + 0x4000)[0]
}

/// Goes there and comes back with what ended it. The caller has the tables that `passage` names in place, and puts the
/// interrupt table, the task register and the bases of FS and GS back.
pub(super) fn pass(passage: &mut Passage) {
    let slot = testkit_passage.0.get();
    // SAFETY: nobody else refers to it: see `Slot`.
    unsafe { slot.write_volatile(*passage) };
    // SAFETY: the instruction reaches nothing but its registers, its stack and its operands, and ends in an exception,
    // whose handler comes back here with all registers that this function must keep.
    unsafe { testkit_passage_enter() };
    // SAFETY: as for the write.
    *passage = unsafe { slot.read_volatile() };
}

/// The registers at the end, in the order of the manual's encodings.
pub(super) fn registers_of(passage: &Passage) -> Registers {
    let [eax, ecx, edx, ebx, ebp, esi, edi] = passage.end_registers.map(u64::from);
    let esp = u64::from(passage.end_esp);
    [eax, ecx, edx, ebx, esp, ebp, esi, edi, 0, 0, 0, 0, 0, 0, 0, 0]
}
