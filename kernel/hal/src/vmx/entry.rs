//! The way into a guest and back. Nothing here but registers: 15 GPRs are exchanged, the rest is the VMCS's.

use arch::Gprs;
use core::arch::{asm, naked_asm};
use vmx::field;

/// Enters the guest of the current VMCS with `gprs`, and returns 0 after its exit, with `gprs` as the guest left
/// them, or 1 if VMLAUNCH or VMRESUME failed.
///
/// # Safety
/// In VMX root operation with a current VMCS whose host state is this CPU's, HOST_RIP is [`guest_exit`], and
/// whose launch state is clear if `launched` is 0. The guest must be confined by EPT and intercepts.
#[inline(always)]
pub(super) unsafe fn enter_guest(gprs: *mut Gprs, launched: u64) -> u64 {
    let failed: u64;
    // SAFETY: the caller vouches for the VMCS. The stub comes back with all registers changed but RSP, and with
    // RBX and RBP as it found them; vector state is not the hypervisor's.
    unsafe {
        asm!(
            "call {stub}",
            stub = sym enter_stub,
            inout("rdi") gprs => _,
            inout("rsi") launched => _,
            lateout("rax") failed,
            lateout("rcx") _,
            lateout("rdx") _,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
        );
    }
    failed
}

/// The way in. RBX and RBP, which inline assembly cannot give away, are kept here.
///
/// # Safety
/// Only [`enter_guest`] may call it: it does not keep to any calling convention.
#[unsafe(naked)]
unsafe extern "C" fn enter_stub() {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push rdi",
        "mov eax, {host_rsp}",
        "vmwrite rax, rsp",
        // MOV leaves the flags alone: the test decides between VMLAUNCH and VMRESUME below.
        "test esi, esi",
        "mov rax, [rdi]",
        "mov rcx, [rdi + 8]",
        "mov rdx, [rdi + 16]",
        "mov rbx, [rdi + 24]",
        "mov rbp, [rdi + 40]",
        "mov rsi, [rdi + 48]",
        "mov r8, [rdi + 64]",
        "mov r9, [rdi + 72]",
        "mov r10, [rdi + 80]",
        "mov r11, [rdi + 88]",
        "mov r12, [rdi + 96]",
        "mov r13, [rdi + 104]",
        "mov r14, [rdi + 112]",
        "mov r15, [rdi + 120]",
        "mov rdi, [rdi + 56]",
        "je 2f",
        "vmresume",
        "jmp 3f",
        "2:",
        "vmlaunch",
        "3:",
        // The instruction failed: the stack is as it was.
        "pop rdi",
        "pop rbx",
        "pop rbp",
        "mov eax, 1",
        "ret",
        host_rsp = const field::HOST_RSP.encoding(),
    )
}

/// Where the processor goes on after an exit: on the stack that [`enter_stub`] left, to return for it.
///
/// # Safety
/// Only the processor may come here.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn guest_exit() {
    naked_asm!(
        "xchg rdi, [rsp]",
        "mov [rdi], rax",
        "mov [rdi + 8], rcx",
        "mov [rdi + 16], rdx",
        "mov [rdi + 24], rbx",
        "mov [rdi + 40], rbp",
        "mov [rdi + 48], rsi",
        "mov [rdi + 64], r8",
        "mov [rdi + 72], r9",
        "mov [rdi + 80], r10",
        "mov [rdi + 88], r11",
        "mov [rdi + 96], r12",
        "mov [rdi + 104], r13",
        "mov [rdi + 112], r14",
        "mov [rdi + 120], r15",
        "pop rax",
        "mov [rdi + 56], rax",
        "pop rbx",
        "pop rbp",
        "xor eax, eax",
        "ret",
    )
}
