//! Runs single instructions of `snippets` with all general registers given and taken back.
//!
//! A snippet runs in ring 0, or, copied to a page of the `pages` window, in another ring or another width of code; there
//! it ends by UD2, and the handler brings the CPU home.

use core::arch::global_asm;
use core::sync::atomic::Ordering::Relaxed;

use super::percpu::{self, PerCpu};
use super::trap::{Frame, Trap, finish_probe};
use super::{pages, task};

/// General registers in the order of their encoding, RFLAGS, and for other rings CS, SS and the entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) rax: u64,
    pub(crate) rcx: u64,
    pub(crate) rdx: u64,
    pub(crate) rbx: u64,
    /// Kept for the stack of another ring; ring 0 uses its own.
    pub(crate) rsp: u64,
    pub(crate) rbp: u64,
    pub(crate) rsi: u64,
    pub(crate) rdi: u64,
    pub(crate) r8: u64,
    pub(crate) r9: u64,
    pub(crate) flags: u64,
}

impl Registers {
    /// All zero, flags at rest.
    pub(crate) const ZERO: Self =
        Self { rax: 0, rcx: 0, rdx: 0, rbx: 0, rsp: 0, rbp: 0, rsi: 0, rdi: 0, r8: 0, r9: 0, flags: 2 };
}

global_asm!(
    r#"
    .section .text.snippet, "ax"
    // RDI: registers, RSI: entry, RDX: 0, or CS in the low half and SS in the high one.
testkit_snippet_run:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    pushfq
    mov gs:[{stack}], rsp
    mov gs:[{registers}], rdi
    mov gs:[{start}], rsi
    lea rax, [rip + testkit_snippet_return]
    mov gs:[{resume}], rax
    test rdx, rdx
    jz 2f
    mov rax, rdx
    shr rax, 32
    push rax                        // SS
    push qword ptr [rdi + 32]               // RSP
    push qword ptr [rdi + 80]                 // RFLAGS
    mov eax, edx
    push rax                        // CS
    push rsi                        // RIP
    jmp 3f
2:  mov gs:[{scratch}], rsi
    push qword ptr [rdi + 80]
    popfq
3:  mov rax, [rdi]
    mov rcx, [rdi + 8]
    mov rbx, [rdi + 24]
    mov rbp, [rdi + 40]
    mov rsi, [rdi + 48]
    mov r8, [rdi + 64]
    mov r9, [rdi + 72]
    // The flags stay as they are from here.
    push rdx
    mov rdx, [rdi + 16]
    mov rdi, [rdi + 56]
    xchg rdx, [rsp]
    // RDX: where to. Flags have to survive, so no test but a jump on RCX.
    xchg rcx, rdx
    jrcxz 4f
    xchg rcx, rdx
    pop rdx
    iretq
4:  xchg rcx, rdx
    pop rdx
    jmp gs:[{scratch}]

    .global testkit_snippet_return
testkit_snippet_return:
    mov gs:[{scratch}], rdi
    mov rdi, gs:[{registers}]
    mov [rdi], rax
    mov [rdi + 8], rcx
    mov [rdi + 16], rdx
    mov [rdi + 24], rbx
    mov [rdi + 32], rsp
    mov [rdi + 40], rbp
    mov [rdi + 48], rsi
    mov [rdi + 64], r8
    mov [rdi + 72], r9
    mov rax, gs:[{scratch}]
    mov [rdi + 56], rax
    mov rsp, gs:[{stack}]
    pushfq
    pop qword ptr [rdi + 80]
    mov qword ptr gs:[{stack}], 0
    popfq
    cld
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
"#,
    stack = const percpu::SNIPPET_STACK,
    registers = const percpu::SNIPPET_REGISTERS,
    scratch = const percpu::SNIPPET_SCRATCH,
    start = const percpu::PROBE_START,
    resume = const percpu::PROBE_RESUME,
);

unsafe extern "C" {
    fn testkit_snippet_run(registers: *mut Registers, entry: u64, segments: u64);
}

/// A short sequence of instructions from the list in `snippets`.
#[derive(Clone, Copy)]
pub(crate) struct Snippet {
    pub(super) code: extern "C" fn(),
}

impl Snippet {
    /// Address of its first byte.
    pub(crate) fn address(self) -> u64 {
        self.range().0
    }

    /// How many bytes its instructions have.
    pub(crate) fn length(self) -> u64 {
        let (begin, end) = self.range();
        end - begin
    }

    /// Address of its first byte and of the first one behind it.
    fn range(self) -> (u64, u64) {
        // The byte before the first one holds the length.
        let length = (self.code as *const ()).addr() as u64;
        (length + 1, length + 1 + u64::from(super::physical::read_u8(length)))
    }
}

/// Runs the snippet in ring 0 with `registers`, which then hold what it left there; `Err` is its exception.
///
/// Its addresses come from [`pages::Place`] and `Mmio`, so it reaches devices and the window only.
pub(crate) fn run(snippet: Snippet, registers: &mut Registers) -> Result<(), Trap> {
    let (begin, _) = snippet.range();
    // SAFETY: a snippet ends with a jump to the return code, and an exception resumes there as well; all registers are
    // kept. See above for what it may touch.
    unsafe { testkit_snippet_run(registers, begin, 0) };
    finish_probe()
}

/// Where a snippet of another ring or another code width runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    /// Ring 0, 64-bit code.
    Kernel64,
    /// Ring 3, 64-bit code.
    User64,
    /// Ring 3, 32-bit code.
    User32,
    /// Ring 0, 32-bit code: compatibility mode.
    Compatible32,
    /// Ring 0, 16-bit code.
    Compatible16,
}

impl World {
    /// SS in the high half, CS in the low one: see the table in `boot`.
    const fn segments(self) -> u64 {
        match self {
            Self::Kernel64 => 0x10 << 32 | 0x70,
            Self::User64 => 0x33 << 32 | 0x4b,
            Self::User32 => 0x33 << 32 | 0x2b,
            Self::Compatible32 => 0x10 << 32 | 0x20,
            Self::Compatible16 => 0x58 << 32 | 0x50,
        }
    }
}

/// Runs the snippet at `page` of the window in `world`; the stack is the end of the page behind it, if nothing else is
/// given. `Ok` when it ran to its end.
pub(crate) fn run_in(
    world: World,
    snippet: Snippet,
    page: pages::Place,
    registers: &mut Registers,
) -> Result<(), Trap> {
    let (begin, end) = snippet.range();
    pages::write_code(page, begin, end);
    run_written(world, page, end - begin, registers)
}

/// The same with code that is at `place` of the window already, `length` bytes and UD2 behind them.
pub(crate) fn run_written(
    world: World,
    place: pages::Place,
    length: u64,
    registers: &mut Registers,
) -> Result<(), Trap> {
    let entry = match world {
        World::Kernel64 | World::User64 | World::User32 | World::Compatible32 => place.address(),
        World::Compatible16 => place.offset(),
    };
    task::install();
    if registers.rsp == 0 {
        registers.rsp = entry + 0x2000 - 64;
    }
    // SAFETY: the copy ends with UD2, which comes home as every other exception does: see `come_home`.
    unsafe { testkit_snippet_run(registers, entry, world.segments()) };
    match finish_probe() {
        Err(trap) if trap.vector == 6 && trap.rip_offset.cast_unsigned() == length => Ok(()),
        other => other,
    }
}

/// Has an exception's handler return to the snippet's caller, wherever the snippet ran.
pub(super) fn come_home(cpu: &PerCpu, frame: &mut Frame) {
    const CODE: u64 = 0x08;
    const DATA: u64 = 0x10;
    /// Everything but the arithmetic flags and DF.
    const NOT_KEPT: u64 = !0xcd5;
    let stack = cpu.snippet_stack.load(Relaxed);
    if stack == 0 || frame.cs == CODE {
        return;
    }
    frame.cs = CODE;
    frame.ss = DATA;
    frame.rsp = stack;
    frame.rflags = frame.rflags & !NOT_KEPT | 2;
}
