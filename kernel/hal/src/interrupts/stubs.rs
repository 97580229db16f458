//! The entry stubs: one for each vector, all leading to one handler in Rust.

use core::arch::naked_asm;

/// Bytes from one stub to the next.
pub(super) const STUB_STRIDE: u64 = 16;

/// The registers as the stub pushed them, lowest address first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct TrapFrame {
    /// R15.
    pub r15: u64,
    /// R14.
    pub r14: u64,
    /// R13.
    pub r13: u64,
    /// R12.
    pub r12: u64,
    /// R11.
    pub r11: u64,
    /// R10.
    pub r10: u64,
    /// R9.
    pub r9: u64,
    /// R8.
    pub r8: u64,
    /// RBP.
    pub rbp: u64,
    /// RDI.
    pub rdi: u64,
    /// RSI.
    pub rsi: u64,
    /// RDX.
    pub rdx: u64,
    /// RCX.
    pub rcx: u64,
    /// RBX.
    pub rbx: u64,
    /// RAX.
    pub rax: u64,
    /// The vector, pushed by the stub.
    pub vector: u64,
    /// The error code; zero where the CPU pushes none.
    pub error_code: u64,
    /// RIP to return to.
    pub rip: u64,
    /// CS to return to.
    pub cs: u64,
    /// RFLAGS to return to.
    pub rflags: u64,
    /// RSP to return to.
    pub rsp: u64,
    /// SS to return to.
    pub ss: u64,
}

const _: () = assert!(size_of::<TrapFrame>() == 22 * 8);

/// 256 stubs, 16 bytes apart: push an error code where the CPU pushes none, push the vector, go on in common.
/// Vectors with an error code: SDM Vol. 3A, "Error Code" (8, 10 to 14, 17, 21) and, of other makers, 29 and 30.
#[unsafe(naked)]
pub(super) extern "C" fn stubs() {
    naked_asm!(
        ".balign 16",
        ".set craton_vector, 0",
        ".rept 256",
        ".balign 16",
        ".if (craton_vector == 8) || (craton_vector >= 10 && craton_vector <= 14) || (craton_vector == 17) || (craton_vector == 21) || (craton_vector == 29) || (craton_vector == 30)",
        ".else",
        "push 0",
        ".endif",
        "push craton_vector",
        "jmp {common}",
        ".set craton_vector, craton_vector + 1",
        ".endr",
        common = sym common,
    )
}

/// Saves the registers that the stub did not, calls the handler with the stack aligned, and returns.
#[unsafe(naked)]
extern "C" fn common() {
    naked_asm!(
        "push rax",
        "push rbx",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push rbp",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "cld",
        "mov rdi, rsp",
        "mov rbp, rsp",
        // 22 words after a stack that the CPU aligned to 16 bytes: aligned again.
        "call {dispatch}",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rbp",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rbx",
        "pop rax",
        "add rsp, 16",
        "iretq",
        dispatch = sym super::exceptions::dispatch,
    )
}
