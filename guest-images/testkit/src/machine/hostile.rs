//! Instructions that only a hostile guest repeats, each harmless to the program itself.
//!
//! Source: SDM Vol. 2 on each instruction; Vol. 3A, "Control Registers", "Handling Multiple NMIs".

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::cpu::{Mmio, halves};
use super::provoke::Provoked;
use super::trap::{Trap, probe};

/// WBINVD.
pub(crate) fn write_back_caches() {
    // SAFETY: caches lose nothing that is not written back first.
    unsafe {
        asm!("wbinvd", options(nostack));
    }
}

/// RDMSR of any number.
pub(crate) fn read_any_msr(number: u32) -> Result<u64, Trap> {
    let (low, high): (u32, u32);
    probe!(["rdmsr"], in("ecx") number, inout("eax") 0 => low, inout("edx") 0 => high)?;
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// WRMSR of what was just read there.
pub(crate) fn write_back_msr(number: u32) -> Provoked {
    let [low, high] = halves(read_any_msr(number)?);
    probe!(["wrmsr"], in("ecx") number, in("eax") low, in("edx") high)
}

/// MSRs with reserved bits: a value of all ones is #GP.
pub(crate) const PICKY_MSRS: [u32; 6] = [0x1b, 0x1a0, 0x277, 0x2ff, 0xda0, 0xc000_0080];

/// WRMSR of all ones to one of [`PICKY_MSRS`].
pub(crate) fn write_all_ones(index: usize) -> Provoked {
    let number = PICKY_MSRS[index % PICKY_MSRS.len()];
    probe!(["wrmsr"], in("ecx") number, in("eax") u32::MAX, in("edx") u32::MAX)
}

/// Changes one bit of CR0 and changes it back: any but paging and protection.
pub(crate) fn toggle_cr0(bit: u32) -> Provoked {
    let mask = 1u64 << (bit % 64) & !(1 << 31 | 1);
    probe!(
        ["mov {old}, cr0", "mov {new}, {old}", "xor {new}, {mask}", "mov cr0, {new}", "mov cr0, {old}"],
        old = out(reg) _, new = out(reg) _, mask = in(reg) mask
    )
}

/// Changes one bit of CR4 and changes it back: any but those that page tables depend on.
pub(crate) fn toggle_cr4(bit: u32) -> Provoked {
    let mask = 1u64 << (bit % 64) & !(1 << 5 | 1 << 12);
    probe!(
        ["mov {old}, cr4", "mov {new}, {old}", "xor {new}, {mask}", "mov cr4, {new}", "mov cr4, {old}"],
        old = out(reg) _, new = out(reg) _, mask = in(reg) mask
    )
}

/// Loads CR3 with what it holds, CR8 with `priority`, and goes through CLTS, SMSW and LMSW.
pub(crate) fn reload_control_registers(priority: u64) {
    // SAFETY: ends with the same CR0, CR3 and a task priority of 0.
    unsafe {
        asm!(
            "mov {t}, cr3",
            "mov cr3, {t}",
            "mov cr8, {p}",
            "smsw {t:e}",
            "lmsw {t:x}",
            "clts",
            "xor {t:e}, {t:e}",
            "mov cr8, {t}",
            t = out(reg) _,
            p = in(reg) priority & 0xf,
            options(nostack)
        );
    }
}

/// What is done to a register page.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    /// A load.
    Load,
    /// A store of zeroes.
    Store,
}

/// Accesses `bytes` (1, 2, 4, 8 or 16) at `offset` of the local APIC's page, aligned or not, wholly inside.
pub(crate) fn touch_local_apic(offset: u16, bytes: u16, access: Access) -> Provoked {
    assert!(offset + bytes <= 0x1000, "inside the page");
    let at = Mmio::LocalApic.base() + usize::from(offset);
    match (access, bytes) {
        (Access::Load, 1) => probe!(["mov {v}, byte ptr [{a}]"], v = out(reg_byte) _, a = in(reg) at),
        (Access::Load, 2) => probe!(["mov {v:x}, word ptr [{a}]"], v = out(reg) _, a = in(reg) at),
        (Access::Load, 4) => probe!(["mov {v:e}, dword ptr [{a}]"], v = out(reg) _, a = in(reg) at),
        (Access::Load, 8) => probe!(["mov {v}, qword ptr [{a}]"], v = out(reg) _, a = in(reg) at),
        (Access::Load, _) => probe!(["movdqu xmm0, xmmword ptr [{a}]"], a = in(reg) at),
        (Access::Store, 1) => probe!(["mov byte ptr [{a}], 0"], a = in(reg) at),
        (Access::Store, 2) => probe!(["mov word ptr [{a}], 0"], a = in(reg) at),
        (Access::Store, 4) => probe!(["mov dword ptr [{a}], 0"], a = in(reg) at),
        (Access::Store, 8) => probe!(["mov qword ptr [{a}], 0"], a = in(reg) at),
        (Access::Store, _) => probe!(["movdqu xmmword ptr [{a}], xmm0"], a = in(reg) at),
    }
}

/// Has SSE instructions work.
pub(crate) fn enable_sse() {
    // SAFETY: this soft-float program keeps nothing in the registers that come with it.
    unsafe {
        asm!(
            "mov {t}, cr0", "and {t}, -5", "or {t}, 2", "mov cr0, {t}",
            "mov {t}, cr4", "or {t}, 0x600", "mov cr4, {t}", "xorps xmm0, xmm0",
            t = out(reg) _, options(nostack)
        );
    }
}

/// REP MOVS of the local APIC's whole page to memory and back, `unit` (1, 4 or 8) bytes a move.
pub(crate) fn copy_local_apic(unit: u16) -> Provoked {
    #[repr(align(64))]
    struct Buffer([u8; 4096]);
    let mut buffer = Buffer([0; 4096]);
    let (page, memory) = (Mmio::LocalApic.base(), buffer.0.as_mut_ptr());
    for back in [false, true] {
        let (from, to) = if back { (memory.addr(), page) } else { (page, memory.addr()) };
        let moves = 4096 / u64::from(unit);
        match unit {
            1 => probe!(["rep movsb"], inout("rsi") from => _, inout("rdi") to => _, inout("rcx") moves => _),
            4 => probe!(["rep movsd"], inout("rsi") from => _, inout("rdi") to => _, inout("rcx") moves => _),
            _ => probe!(["rep movsq"], inout("rsi") from => _, inout("rdi") to => _, inout("rcx") moves => _),
        }?;
    }
    Ok(())
}

/// INT 2: the NMI's handler without an NMI.
pub(crate) fn software_nmi() {
    // SAFETY: the handler saves all registers and returns.
    unsafe {
        asm!("int 2");
    }
}

/// IRET to the next instruction: NMIs are let in again, from wherever this is.
pub(crate) fn unblock_nmis() {
    // SAFETY: comes back with the same stack, segments and flags.
    unsafe {
        asm!(
            "mov {s}, rsp", "mov {t:e}, ss", "push {t}", "push {s}", "pushfq", "mov {t:e}, cs", "push {t}",
            "lea {t}, [rip + 2f]", "push {t}", "iretq", "2:",
            s = out(reg) _, t = out(reg) _
        );
    }
}

/// The same with the trap flag in the flags that it loads. Debug exceptions must be ignored.
pub(crate) fn unblock_nmis_stepping() {
    // SAFETY: as for `unblock_nmis`; the debug exception's handler clears the trap flag.
    unsafe {
        asm!(
            "mov {s}, rsp", "mov {t:e}, ss", "push {t}", "push {s}", "pushfq", "or qword ptr [rsp], 0x100",
            "mov {t:e}, cs", "push {t}", "lea {t}, [rip + 2f]", "push {t}", "iretq", "2:", "nop",
            s = out(reg) _, t = out(reg) _
        );
    }
}

/// IRET to an address that is none.
pub(crate) fn return_nowhere() -> Provoked {
    // The probe resumes at the nearest label `3`: here, so that RSP is put back.
    probe!(
        ["mov {s}, rsp", "mov {t:e}, ss", "push {t}", "push {s}", "pushfq", "mov {t:e}, cs", "push {t}",
         "mov {t}, 0x7fffffff", "shl {t}, 32", "push {t}", "iretq", "3:", "mov rsp, {s}"],
        s = out(reg) _, t = out(reg) _
    )
}

/// MOV SS around an instruction that a hypervisor handles.
pub(crate) fn shadowed_cpuid() {
    // SAFETY: loads SS with what it holds; RBX, which the compiler keeps, is put back.
    unsafe {
        asm!(
            "mov r8, rbx", "mov {t:e}, ss", "xor eax, eax", "mov ss, {t:x}", "cpuid", "mov rbx, r8",
            t = out(reg) _, out("rax") _, out("rcx") _, out("rdx") _, out("r8") _
        );
    }
}

unsafe extern "C" {
    /// The page directory entries of the first 4 GiB, built at boot.
    static boot_pd: [AtomicU64; 2048];
}

/// The 2 MiB of the address space through which [`touch_physical`] looks, and their entry.
const LENS: u64 = 0xbf80_0000;
const LENS_ENTRY: usize = 0xbf80_0000 >> 21;
/// Page-directory entry: present, writable, not cached, 2 MiB.
const LENS_FLAGS: u64 = 0x93;

/// Loads from the physical `address`, a multiple of 8, and stores zero there if it is 4 GiB or above.
pub(crate) fn touch_physical(address: u64) -> Provoked {
    let (page, offset) = (address & !0x1f_ffff, address & 0x1f_fff8);
    // SAFETY: the table exists for the whole run and is only touched by atomic operations.
    let directory = unsafe { &boot_pd };
    directory[LENS_ENTRY].store(page | LENS_FLAGS, SeqCst);
    // SAFETY: INVLPG only drops a cached translation.
    unsafe {
        asm!("invlpg [{}]", in(reg) LENS, options(nostack));
    }
    probe!(["mov {v}, qword ptr [{a}]"], v = out(reg) _, a = in(reg) LENS + offset)?;
    if address >> 32 != 0 {
        probe!(["mov qword ptr [{a}], 0"], a = in(reg) LENS + offset)?;
    }
    Ok(())
}
