//! The interrupt descriptor table: exceptions that a program asked for, interrupts that it waits for.
//!
//! `probe!` runs instructions that may fault. A fault inside a probe is written down and execution goes on behind it; any
//! other exception ends the guest with a report. Interrupts are counted by vector and acknowledged.
//!
//! Source: SDM Vol. 3A, "Interrupt and Exception Handling".

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::apic;

/// An exception as the handler saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Trap {
    /// Exception number.
    pub(crate) vector: u64,
    /// The error code; 0 where the exception has none.
    pub(crate) error: u64,
    /// RIP on the handler's stack, relative to the first byte of the probed instructions.
    pub(crate) rip_offset: i64,
    /// CR2 at that time; only a page fault (#PF) gives it a meaning.
    pub(crate) cr2: u64,
}

/// Where a fault inside the running probe continues; 0 outside of probes.
pub(crate) static PROBE_RESUME: AtomicU64 = AtomicU64::new(0);
/// Address of the probed instructions.
pub(crate) static PROBE_START: AtomicU64 = AtomicU64::new(0);
static TRAP_VECTOR: AtomicU64 = AtomicU64::new(0);
static TRAP_ERROR: AtomicU64 = AtomicU64::new(0);
static TRAP_RIP: AtomicU64 = AtomicU64::new(0);
static TRAP_CR2: AtomicU64 = AtomicU64::new(0);

static INTERRUPTS: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];
static INTERRUPT_RIP: AtomicU64 = AtomicU64::new(0);

/// Runs instructions that may fault, with the operands of `asm!`; `Err` is the exception.
///
/// RFLAGS.TF is cleared when the probe's exception is handled.
macro_rules! probe {
    ([$($instruction:expr),+ $(,)?] $(, $($operands:tt)*)?) => {{
        // SAFETY: the caller names every register that the instructions change. The trap handler resumes behind them
        // with all registers as they were at the fault, so the operands hold either way.
        unsafe {
            core::arch::asm!(
                "lea {probe_scratch}, [rip + 3f]",
                "mov qword ptr [rip + {probe_resume}], {probe_scratch}",
                "lea {probe_scratch}, [rip + 2f]",
                "mov qword ptr [rip + {probe_start}], {probe_scratch}",
                "2:",
                $($instruction,)+
                "3:",
                probe_scratch = out(reg) _,
                probe_resume = sym $crate::machine::trap::PROBE_RESUME,
                probe_start = sym $crate::machine::trap::PROBE_START,
                $($($operands)*)?
            );
        }
        $crate::machine::trap::finish_probe()
    }};
}
pub(crate) use probe;

/// Ends a probe: `Err` when an exception was written down since it began.
pub(crate) fn finish_probe() -> Result<(), Trap> {
    if PROBE_RESUME.swap(0, Relaxed) != 0 {
        return Ok(());
    }
    Err(Trap {
        vector: TRAP_VECTOR.load(Relaxed),
        error: TRAP_ERROR.load(Relaxed),
        rip_offset: TRAP_RIP.load(Relaxed).wrapping_sub(PROBE_START.load(Relaxed)).cast_signed(),
        cr2: TRAP_CR2.load(Relaxed),
    })
}

/// How often the interrupt `vector` was handled.
pub(crate) fn interrupts(vector: u8) -> u64 {
    INTERRUPTS[usize::from(vector)].load(Relaxed)
}

/// The address to which the last interrupt's handler returned.
pub(crate) fn last_interrupt_return() -> u64 {
    INTERRUPT_RIP.load(Relaxed)
}

/// The counter of `vector`, for a spin loop in assembly.
pub(crate) fn counter_of(vector: u8) -> &'static AtomicU64 {
    &INTERRUPTS[usize::from(vector)]
}

/// What the stubs leave on the stack.
#[repr(C)]
struct Frame {
    registers: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

global_asm!(
    r#"
    .section .text.trap, "ax"
    .balign 16
    .global testkit_trap_stubs
testkit_trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    push 0
    .endif
    .byte 0x68
    .long vector
    jmp testkit_trap_common
    .set vector, vector + 1
    .endr

testkit_trap_common:
    push rax
    push rbx
    push rcx
    push rdx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp
    call {handler}
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 16
    iretq
"#,
    handler = sym handle_trap,
);

unsafe extern "C" {
    /// The first of 256 stubs, 16 bytes each.
    static testkit_trap_stubs: [[u8; 16]; 256];
}

/// Non-maskable interrupt.
const NMI: u64 = 2;
const RFLAGS_TF: u64 = 1 << 8;

extern "C" fn handle_trap(frame: &mut Frame) {
    if frame.vector >= 32 || frame.vector == NMI {
        INTERRUPT_RIP.store(frame.rip, Relaxed);
        if let Ok(vector) = u8::try_from(frame.vector) {
            let counter = counter_of(vector);
            counter.store(counter.load(Relaxed) + 1, Relaxed);
            apic::acknowledge(vector);
        }
        return;
    }
    let resume = PROBE_RESUME.swap(0, Relaxed);
    let cr2: u64;
    // SAFETY: reading CR2 changes nothing.
    unsafe {
        asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack));
    }
    assert!(
        resume != 0,
        "unexpected exception {} error {:#x} rip {:#x} cr2 {cr2:#x}",
        frame.vector,
        frame.error,
        frame.rip,
    );
    TRAP_VECTOR.store(frame.vector, Relaxed);
    TRAP_ERROR.store(frame.error, Relaxed);
    TRAP_RIP.store(frame.rip, Relaxed);
    TRAP_CR2.store(cr2, Relaxed);
    frame.rip = resume;
    frame.rflags &= !RFLAGS_TF;
}

/// A 64-bit gate. SDM Vol. 3A, "64-Bit Mode IDT".
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Gate {
    low: u64,
    high: u64,
}

const _: () = assert!(size_of::<Gate>() == 16);

impl Gate {
    /// An interrupt gate to `handler` in the boot code segment.
    const fn to(handler: u64) -> Self {
        const CODE_SELECTOR: u64 = 0x08 << 16;
        const PRESENT_INTERRUPT_GATE: u64 = 0x8e00 << 32;
        Self {
            low: (handler & 0xffff)
                | CODE_SELECTOR
                | PRESENT_INTERRUPT_GATE
                | ((handler & 0xffff_0000) << 32),
            high: handler >> 32,
        }
    }
}

/// The table, written once by `install` before interrupts are enabled.
struct Table(core::cell::UnsafeCell<[Gate; 256]>);

// SAFETY: the guest runs on one CPU, and `install` is the only writer, before anything can interrupt it.
unsafe impl Sync for Table {}

static IDT: Table = Table(core::cell::UnsafeCell::new([Gate { low: 0, high: 0 }; 256]));

/// Fills the interrupt descriptor table and loads it. Called once, first thing.
pub(crate) fn install() {
    let stubs = (&raw const testkit_trap_stubs).addr() as u64;
    let gates: [Gate; 256] = core::array::from_fn(|vector| Gate::to(stubs + 16 * vector as u64));
    // SAFETY: nobody else refers to the table yet: see `Table`.
    unsafe {
        IDT.0.get().write(gates);
    }
    let mut pointer = [0u8; 10];
    pointer[..2].copy_from_slice(&0xfffu16.to_le_bytes());
    pointer[2..].copy_from_slice(&(IDT.0.get().addr() as u64).to_le_bytes());
    // SAFETY: the table is a static, and each gate leads to a stub that saves all registers.
    unsafe {
        asm!("lidt [{}]", in(reg) &raw const pointer, options(nostack));
    }
}
