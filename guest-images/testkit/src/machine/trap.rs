//! The interrupt descriptor table: exceptions that a program asked for, interrupts that it waits for.
//!
//! `probe!` runs instructions that may fault. A fault inside a probe is written down and execution goes on behind it; any
//! other exception ends the guest with a report. Interrupts are counted by vector and acknowledged.
//!
//! Source: SDM Vol. 3A, "Interrupt and Exception Handling".

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::call::Call;
use super::percpu::{self, PerCpu};
use super::{guard, trial};
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

/// Interrupts of this vector are handed to [`on_flush`]'s function, in the handler.
pub(crate) const FLUSH_VECTOR: u8 = 0xa0;
static ON_NMI: Call<()> = Call::none();
static ON_FLUSH: Call<()> = Call::none();
static DEBUG_IGNORED: AtomicBool = AtomicBool::new(false);

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
                "mov qword ptr gs:[{probe_resume}], {probe_scratch}",
                "lea {probe_scratch}, [rip + 2f]",
                "mov qword ptr gs:[{probe_start}], {probe_scratch}",
                "2:",
                $($instruction,)+
                "3:",
                probe_scratch = out(reg) _,
                probe_resume = const $crate::machine::percpu::PROBE_RESUME,
                probe_start = const $crate::machine::percpu::PROBE_START,
                $($($operands)*)?
            );
        }
        $crate::machine::trap::finish_probe()
    }};
}
pub(crate) use probe;

/// Ends a probe: `Err` when an exception was written down since it began.
pub(crate) fn finish_probe() -> Result<(), Trap> {
    let cpu = percpu::this();
    if cpu.probe_resume.swap(0, Relaxed) != 0 {
        return Ok(());
    }
    Err(last())
}

/// The last exception that this CPU wrote down. Its RIP offset is from the last probe's begin.
pub(crate) fn last() -> Trap {
    let cpu = percpu::this();
    Trap {
        vector: cpu.trap_vector.load(Relaxed),
        error: cpu.trap_error.load(Relaxed),
        rip_offset: cpu.trap_rip.load(Relaxed).wrapping_sub(cpu.probe_start.load(Relaxed)).cast_signed(),
        cr2: cpu.trap_cr2.load(Relaxed),
    }
}

/// How often this CPU handled the interrupt `vector`.
pub(crate) fn interrupts(vector: u8) -> u64 {
    percpu::this().interrupts(vector)
}

/// The address to which the last interrupt's handler on this CPU returned.
pub(crate) fn last_interrupt_return() -> u64 {
    percpu::this().interrupt_rip.load(Relaxed)
}

/// This CPU's counter of `vector`, for a spin loop in assembly.
pub(crate) fn counter_of(vector: u8) -> &'static AtomicU64 {
    &percpu::this().interrupts[usize::from(vector)]
}

/// Has `hook` called in every NMI's handler, on whichever CPU. It must not fault.
pub(crate) fn on_nmi(hook: fn()) {
    ON_NMI.set(hook);
}

/// Has `hook` called in the handler of every [`FLUSH_VECTOR`], on whichever CPU. It must not fault.
pub(crate) fn on_flush(hook: fn()) {
    ON_FLUSH.set(hook);
}

/// What the stubs leave on the stack.
#[repr(C)]
pub(super) struct Frame {
    pub(super) registers: [u64; 15],
    pub(super) vector: u64,
    pub(super) error: u64,
    pub(super) rip: u64,
    pub(super) cs: u64,
    pub(super) rflags: u64,
    pub(super) rsp: u64,
    pub(super) ss: u64,
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
/// Debug exception.
const DEBUG: u64 = 1;
const RFLAGS_TF: u64 = 1 << 8;

/// What happens besides counting when `vector` comes; called before it is acknowledged.
pub(crate) fn call_hook(vector: u8) {
    let hook = if vector == FLUSH_VECTOR { &ON_FLUSH } else { &ON_NMI };
    if let Some(hook) = hook.get() {
        hook();
    }
}

extern "C" fn handle_trap(frame: &mut Frame) {
    if frame.vector >= 32 || frame.vector == NMI {
        if let Ok(vector) = u8::try_from(frame.vector) {
            percpu::count_interrupt(vector, frame.rip);
            apic::acknowledge(vector);
        }
        return;
    }
    if trial::ends(frame) {
        return;
    }
    let cpu = percpu::this();
    if frame.vector == DEBUG && DEBUG_IGNORED.load(Relaxed) {
        frame.rflags &= !RFLAGS_TF;
        return;
    }
    let resume = cpu.probe_resume.swap(0, Relaxed);
    let cr2: u64;
    // SAFETY: reading CR2 changes nothing.
    unsafe {
        asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack));
    }
    if resume == 0 && cpu.guard_stack.load(Relaxed) != 0 {
        write_down(cpu, frame, cr2);
        return guard::land(frame);
    }
    assert!(
        resume != 0,
        "unexpected exception {} error {:#x} rip {:#x} cr2 {cr2:#x} on CPU {}",
        frame.vector,
        frame.error,
        frame.rip,
        cpu.index(),
    );
    write_down(cpu, frame, cr2);
    frame.rip = resume;
    frame.rflags &= !RFLAGS_TF;
    super::snippet::come_home(cpu, frame);
}

fn write_down(cpu: &PerCpu, frame: &Frame, cr2: u64) {
    cpu.trap_vector.store(frame.vector, Relaxed);
    cpu.trap_error.store(frame.error, Relaxed);
    cpu.trap_rip.store(frame.rip, Relaxed);
    cpu.trap_cr2.store(cr2, Relaxed);
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

// SAFETY: `install` is the only writer, before any other CPU runs and before anything can interrupt this one.
unsafe impl Sync for Table {}

static IDT: Table = Table(core::cell::UnsafeCell::new([Gate { low: 0, high: 0 }; 256]));

/// Fills the interrupt descriptor table, which all CPUs share, and loads it. Called once, first thing.
pub(crate) fn install() {
    let stubs = (&raw const testkit_trap_stubs).addr() as u64;
    let gates: [Gate; 256] = core::array::from_fn(|vector| Gate::to(stubs + 16 * vector as u64));
    // SAFETY: nobody else refers to the table yet: see `Table`.
    unsafe {
        IDT.0.get().write(gates);
    }
    load();
}

/// Has the exception `vector` use the first stack of the task state, on every CPU.
pub(crate) fn use_interrupt_stack(vector: usize) {
    const FIRST_STACK: u64 = 1 << 32;
    change_gate(vector, FIRST_STACK);
}

/// Lets ring 3 raise `vector` by an instruction.
pub(super) fn allow_from_ring_3(vector: usize) {
    const RING_3: u64 = 3 << 45;
    change_gate(vector, RING_3);
}

/// Sets `bits` in the low half of the gate of `vector`.
fn change_gate(vector: usize, bits: u64) {
    let table: *mut Gate = IDT.0.get().cast();
    assert!(vector < 256, "no vector");
    // SAFETY: in bounds.
    let gate = unsafe { table.add(vector) };
    // SAFETY: the gate was written by `install`; the CPU only reads it.
    let Gate { low, high } = unsafe { gate.read_volatile() };
    // SAFETY: no exception of `vector` is under way.
    unsafe { gate.write_volatile(Gate { low: low | bits, high }) };
}

/// Has debug exceptions outside of probes do nothing but clear the trap flag.
pub(crate) fn ignore_debug_exceptions() {
    DEBUG_IGNORED.store(true, Relaxed);
}

/// Has this CPU use the table.
pub(crate) fn load() {
    let mut pointer = [0u8; 10];
    pointer[..2].copy_from_slice(&0xfffu16.to_le_bytes());
    pointer[2..].copy_from_slice(&(IDT.0.get().addr() as u64).to_le_bytes());
    // SAFETY: the table is a static, and each gate leads to a stub that saves all registers.
    unsafe {
        asm!("lidt [{}]", in(reg) &raw const pointer, options(nostack));
    }
}
