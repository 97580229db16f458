//! A call that an exception or a panic ends, instead of ending the guest.
//!
//! What runs inside must own nothing that has to be dropped: it is left where it stands.

use core::arch::{asm, global_asm};
use core::sync::atomic::Ordering::Relaxed;

use super::percpu;
use super::trap::{self, Frame, Trap};

global_asm!(
    r#"
    .section .text.guard, "ax"
    // RDI: argument, RSI: function. RAX: 0 when the function came back, else how it was left.
testkit_guard_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    sub rsp, 8
    mov gs:[{stack}], rsp
    call rsi
    xor eax, eax
testkit_guard_leave:
    mov qword ptr gs:[{stack}], 0
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
    .global testkit_guard_trapped
testkit_guard_trapped:
    mov eax, 1
    jmp testkit_guard_leave
testkit_guard_panicked:
    mov eax, 2
    jmp testkit_guard_leave
"#,
    stack = const percpu::GUARD_STACK,
);

unsafe extern "C" {
    fn testkit_guard_enter(argument: *mut (), function: extern "C" fn(*mut ())) -> u64;
    static testkit_guard_trapped: u8;
}

/// How a guarded call was left before its end.
#[derive(Clone, Copy)]
pub(crate) enum Left {
    /// By an exception outside of probes.
    Trapped(Trap, u64),
    /// By a panic, which has said so.
    Panicked,
}

/// RFLAGS with everything at rest.
const RFLAGS_QUIET: u64 = 2;
const CODE: u64 = 0x08;
const DATA: u64 = 0x10;

extern "C" fn call(body: *mut ()) {
    let body: *mut &mut dyn FnMut() = body.cast();
    // SAFETY: `run` passes a pointer to a reference that lives until it returns, and nobody else has it.
    let body = unsafe { &mut *body };
    body();
}

/// Runs `body`. Interrupts are off behind it if it was left.
pub(crate) fn run(body: &mut dyn FnMut()) -> Result<(), Left> {
    let mut body = body;
    // SAFETY: the assembly calls `call` with the pointer and keeps every register that a function has to keep, whether
    // the call comes back or is left.
    let way = unsafe { testkit_guard_enter((&raw mut body).cast(), call) };
    match way {
        0 => Ok(()),
        1 => Err(Left::Trapped(trap::last(), percpu::this().trap_rip.load(Relaxed))),
        _ => Err(Left::Panicked),
    }
}

/// Has the exception's handler return to the end of the guarded call.
pub(super) fn land(frame: &mut Frame) {
    let cpu = percpu::this();
    frame.rip = (&raw const testkit_guard_trapped).addr() as u64;
    frame.rsp = cpu.guard_stack.load(Relaxed);
    frame.cs = CODE;
    frame.ss = DATA;
    frame.rflags = RFLAGS_QUIET;
    cpu.snippet_stack.store(0, Relaxed);
}

/// Whether a guarded call is under way on this CPU.
pub(crate) fn is_active() -> bool {
    percpu::this().guard_stack.load(Relaxed) != 0
}

/// Leaves the guarded call that is under way, from a panic.
pub(crate) fn leave_panicking() -> ! {
    assert!(is_active(), "no guarded call");
    percpu::this().snippet_stack.store(0, Relaxed);
    percpu::this().probe_resume.store(0, Relaxed);
    // SAFETY: the guarded call's stack frame is still there, below it nothing has to be dropped.
    unsafe {
        asm!(
            "cli", "cld", "mov rsp, gs:[{stack}]", "jmp testkit_guard_panicked",
            stack = const percpu::GUARD_STACK, options(noreturn)
        );
    }
}
