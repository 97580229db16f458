//! Exceptions that a CPU without a hypervisor, or under a careless one, delivers for ever without executing anything.
//!
//! Sources: CVE-2015-5307 (#AC) and CVE-2015-8104 (#DB); SDM Vol. 3A, "Alignment Check Exception (#AC)", "Debug Address
//! Registers (DR0-DR3)", "Interrupt Stack Table", "Switching Out of IA-32e Mode".

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::trap;

global_asm!(
    r#"
    .section .text.endless, "ax"
    .code32
    // Out of long mode, then to ring 3 with a stack that no exception can be pushed on without another one.
    .global endless_legacy
endless_legacy:
    movl %cr0, %eax
    andl $0x7fffffff, %eax          // PG off: long mode ends
    movl %eax, %cr0
    movl $0xc0000080, %ecx
    rdmsr
    andl $~0x100, %eax              // LME
    wrmsr
    movl %cr0, %eax
    orl $0x40000, %eax              // AM
    movl %eax, %cr0
    movl $0x33, %eax
    movl %eax, %ds
    movl %eax, %es
    lidtl endless_idt_pointer
    pushl $0x33                     // SS
    pushl $(endless_stack_top - 1)
    pushl $0x40002                  // EFLAGS.AC
    pushl $0x2b                     // CS
    pushl $endless_ring3
    iretl
    .global endless_ring3
endless_ring3:
    movl endless_stack_top - 3, %eax
    jmp endless_ring3
    .code64

    .section .data.endless, "aw"
    .balign 16
    .global endless_idt
endless_idt:
    .fill 17, 8, 0
    // Vector 17: a 32-bit interrupt gate to `endless_ring3` in ring 3, so that the stack stays the same.
    .short 0
    .short 0x2b
    .short 0xee00
    .short 0
endless_idt_end:
endless_idt_pointer:
    .short endless_idt_end - endless_idt - 1
    .long endless_idt
    .balign 16
    .skip 256
endless_stack_top:
    .skip 16
"#,
    options(att_syntax)
);

unsafe extern "C" {
    /// The legacy-mode descriptor table's last gate follows its 17 empty ones.
    static endless_idt: [AtomicU64; 18];
    /// What ring 3 runs.
    static endless_ring3: u8;
    /// The descriptor of the task state in the GDT: two words.
    static testkit_tss_descriptor: [AtomicU64; 2];
}

/// Has #AC delivered on a misaligned stack in ring 3, where its delivery raises #AC.
pub(crate) fn alignment_checks() -> ! {
    let handler = (&raw const endless_ring3).addr() as u64;
    let gate = handler & 0xffff | 0x2b << 16 | 0xee00 << 32 | (handler >> 16 & 0xffff) << 48;
    // SAFETY: the table is in the program's data and only touched here.
    let table = unsafe { &endless_idt };
    table[17].store(gate, Relaxed);
    // SAFETY: never comes back; selector 0x20 is 32-bit code, and all of the program is mapped one to one.
    unsafe {
        asm!("cli", "push 0x20", "lea rax, [rip + endless_legacy]", "push rax", "retfq", options(noreturn));
    }
}

/// Selector of the task state.
const TASK_SELECTOR: u16 = 0x38;
const DEBUG_VECTOR: usize = 1;

/// A task state of which only the first interrupt stack is used. SDM Vol. 3A, "64-Bit TSS Format".
#[repr(C, align(64))]
struct TaskState([AtomicU64; 13]);

/// The stack of the debug exception.
#[repr(C, align(64))]
struct Stack([AtomicU64; 512]);

static TASK_STATE: TaskState = TaskState([const { AtomicU64::new(0) }; 13]);
static STACK: Stack = Stack([const { AtomicU64::new(0) }; 512]);

/// Has #DB delivered on a stack whose every write raises #DB.
pub(crate) fn debug_exceptions() -> ! {
    /// DR7: breakpoint 0 on writes of eight bytes; bit 10 is always set.
    const ON_WRITES: u64 = 1 << 10 | 0b10 | 0b1001 << 16;
    /// Descriptor type: a 64-bit task state, not busy, present.
    const AVAILABLE_TASK: u64 = 0x89 << 40;
    let top = (&raw const STACK).addr() as u64 + size_of::<Stack>() as u64;
    let task = (&raw const TASK_STATE).addr() as u64;
    // IST1 is at byte 36: the words are 4 bytes off.
    TASK_STATE.0[4].store(top << 32, Relaxed);
    TASK_STATE.0[5].store(top >> 32, Relaxed);
    // SAFETY: the descriptor is in the GDT's data and only touched here.
    let descriptor = unsafe { &testkit_tss_descriptor };
    let limit = size_of::<TaskState>() as u64 - 1;
    descriptor[0]
        .store(limit | (task & 0xff_ffff) << 16 | AVAILABLE_TASK | (task >> 24 & 0xff) << 56, Relaxed);
    descriptor[1].store(task >> 32, Relaxed);
    // SAFETY: the descriptor is that of a task state that lives for ever.
    unsafe {
        asm!("ltr {0:x}", in(reg) TASK_SELECTOR, options(nostack));
    }
    trap::use_interrupt_stack(DEBUG_VECTOR);
    trap::ignore_debug_exceptions();
    let watched = top - 8;
    loop {
        // SAFETY: the word is the top of a stack that nobody else uses; debug exceptions are ignored.
        unsafe {
            asm!("mov dr0, {0}", "mov dr7, {1}", "mov [{0}], {0}", in(reg) watched, in(reg) ON_WRITES);
        }
    }
}
